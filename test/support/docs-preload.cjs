// Lets a snippet of the documentation run and end: servers take any port and keep no process alive, and what is still
// connected after a while is let go.
const net = require('node:net')
const { listen } = net.Server.prototype
net.Server.prototype.listen = function (port, ...rest) {
  const callback = rest.find((arg) => typeof arg === 'function')
  this.unref()
  return listen.call(this, 0, '127.0.0.1', callback)
}
setTimeout(() => process.exit(), 3000).unref()
