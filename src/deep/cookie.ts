import { Cookie } from '../session/cookie'

export = Cookie
