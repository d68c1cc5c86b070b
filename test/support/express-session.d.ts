/** In the tests the original has sessile's types: its own declare the same global names. */
import session = require('../../src/index')
export = session
