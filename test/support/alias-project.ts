import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { get, type Answer } from './app'

/**
 * A project of its own in which `express-session` is sessile, as `npm i express-session@npm:sessile` leaves it: the
 * folder `node_modules/express-session` holds the built package, and every other package is a link to the one installed
 * here. Programs run in it with `--preserve-symlinks`, so that a package that asks for `express-session` looks for it
 * in the project, from where it is linked, and gets sessile.
 */
export class AliasProject {
  readonly folder = mkdtempSync(path.join(tmpdir(), 'sessile-alias-'))
  readonly #running: RunningProgram[] = []

  constructor() {
    const modules = path.join(this.folder, 'node_modules')
    mkdirSync(path.join(modules, 'express-session'), { recursive: true })
    for (const published of ['package.json', 'dist']) {
      cpSync(published, path.join(modules, 'express-session', published), { recursive: true })
    }
    for (const name of readdirSync('node_modules')) {
      if (name.startsWith('.') || name === 'express-session') continue
      symlinkSync(path.resolve('node_modules', name), path.join(modules, name))
    }
  }

  /** Starts a program of `test/compat/programs`, which tells its port. */
  async start(program: string, env: Record<string, string> = {}): Promise<RunningProgram> {
    const file = path.join(this.folder, program)
    cpSync(path.join('test/compat/programs', program), file)
    const child = fork(file, {
      cwd: this.folder,
      execArgv: ['--preserve-symlinks', '--preserve-symlinks-main'],
      env: { ...process.env, NODE_ENV: 'test', NO_DEPRECATION: 'express-session', ...env },
    })
    const running = new RunningProgram(child)
    this.#running.push(running)
    await running.ready
    return running
  }

  async close(): Promise<void> {
    await Promise.all(this.#running.map((program) => program.stop()))
    rmSync(this.folder, { recursive: true, force: true })
  }
}

/** What a program tells when it is ready. */
interface Ready {
  port: number
  /** The name in `package.json` of what `require('express-session')` gives. */
  sessions: string
  /** Whether the store is an instance of that module's `Store`. */
  ownStore?: boolean
}

export class RunningProgram {
  readonly ready: Promise<Ready>
  port = 0

  constructor(readonly child: ChildProcess) {
    this.ready = new Promise((resolve, reject) => {
      child.once('message', (ready: Ready) => {
        this.port = ready.port
        resolve(ready)
      })
      child.once('exit', (code) => reject(new Error(`the program ended with code ${code}`)))
    })
  }

  get alive(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null
  }

  browser(): Browser {
    return new Browser(this.port)
  }

  async stop(): Promise<void> {
    if (!this.alive) return
    this.child.kill()
    await once(this.child, 'exit')
  }
}

/** Keeps cookies. */
export class Browser {
  readonly cookies = new Map<string, string>()

  constructor(readonly port: number) {}

  get cookie(): string {
    return [...this.cookies].map(([name, value]) => `${name}=${value}`).join('; ')
  }

  async get(path: string): Promise<Answer> {
    const answer = await get(this.port, path, this.cookie ? { cookie: this.cookie } : {})
    for (const line of answer.headers['set-cookie'] ?? []) {
      const [pair = ''] = line.split(';', 1)
      this.cookies.set(pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1))
    }
    return answer
  }

  async body(path: string): Promise<string> {
    return (await this.get(path)).body
  }
}
