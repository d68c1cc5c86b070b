import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { freePort, untilListening } from './servers'

const root = path.join(__dirname, '../..')

/** The code of a recipe of docs/recipes.md, a text for each block. */
export function codeOf(recipe: string): string[] {
  const page = readFileSync(path.join(root, 'docs/recipes.md'), 'utf8')
  const section = page.split(/^## /m).find((text) => text.startsWith(`${recipe}\n`)) ?? ''
  return [...section.matchAll(/^```\w+\n([^]*?)^```$/gm)].map(({ 1: code = '' }) => code)
}

/**
 * A folder of its own with files in it, in which the packages of this repository and `sessile` can be required: they are
 * looked for in the folders above, too, so one link leads to all.
 */
export class RecipeFolder {
  readonly #above = mkdtempSync(path.join(tmpdir(), 'sessile-recipe-'))
  readonly path = path.join(this.#above, 'app')
  /** What the program has printed. */
  told = ''
  #child: ChildProcess | undefined

  /** @param packages whether there are packages to require */
  constructor(files: Record<string, string>, packages = true) {
    mkdirSync(this.path)
    for (const [name, text] of Object.entries(files)) this.write(name, text)
    if (!packages) return
    symlinkSync(path.join(root, 'node_modules'), path.join(this.#above, 'node_modules'))
    mkdirSync(path.join(this.path, 'node_modules'))
    symlinkSync(root, path.join(this.path, 'node_modules', 'sessile'))
  }

  write(name: string, text: string): void {
    mkdirSync(path.dirname(path.join(this.path, name)), { recursive: true })
    writeFileSync(path.join(this.path, name), text)
  }

  /** Starts a server in this folder, and answers its address. */
  async start(command: string, args: string[], env: NodeJS.ProcessEnv = {}): Promise<string> {
    const port = await freePort()
    const child = spawn(command, args, {
      cwd: this.path,
      env: { ...process.env, ...env, PORT: String(port), SESSION_SECRET: 'a secret for the recipes, long enough' },
    })
    this.#child = child
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => (this.told += text))
    }
    const died = once(child, 'exit').then(() => Promise.reject(new Error(`it has ended: ${this.told}`)))
    died.catch(() => undefined)
    await Promise.race([untilListening(port), died])
    return `http://127.0.0.1:${port}`
  }

  /** Has the stores of the program fail in another way, or work again. */
  switchStores(): void {
    this.#child?.kill('SIGUSR2')
  }

  async close(): Promise<void> {
    const child = this.#child
    if (child && child.exitCode === null && child.kill()) await once(child, 'exit')
    rmSync(this.#above, { recursive: true, force: true })
  }
}

/** Required before a program whose stores are to fail. */
export const BREAKABLE = path.join(__dirname, 'breakable-stores.cjs')
