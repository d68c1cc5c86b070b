import { MemoryStore } from '../stores/memory'

export = MemoryStore
