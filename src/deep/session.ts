import { Session } from '../session'

export = Session
