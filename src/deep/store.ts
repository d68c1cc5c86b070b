import { Store } from '../store'

export = Store
