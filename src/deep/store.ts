import { Store } from '../store/store'

export = Store
