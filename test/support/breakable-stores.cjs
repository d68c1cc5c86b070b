// Required before a program: with each signal, memory stores go from working to rejecting what is written, to throwing, and back.
const { MemoryStore } = require('sessile')
const { write } = MemoryStore.prototype
const modes = [
  write,
  () => Promise.reject(new Error('the store is broken')),
  () => {
    throw new Error('it cannot be stored')
  },
]
process.on('SIGUSR2', () => {
  modes.push(modes.shift())
  MemoryStore.prototype.write = modes[0]
})
