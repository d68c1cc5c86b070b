// @module-tag server
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import type { AddressInfo, Server } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import express from 'express'
import request from 'supertest'
import { afterEach, beforeAll, expect, test, vi } from 'vitest'
import session from '../src'
import { makeCertificate } from './support/certificate'
import { describeWithProgram, freePort, untilListening } from './support/servers'

const NGINX = '/usr/sbin/nginx'

const page = readFileSync(path.join(__dirname, '../docs/production.md'), 'utf8')
const [, configuration = ''] = /^```nginx\n([\s\S]*?)^```$/m.exec(page) ?? []

describeWithProgram(NGINX, 'nginx-light', 'behind nginx, with the configuration of the documentation', () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'sessile-nginx-'))
  const servers: Server[] = []
  let certificate: ReturnType<typeof makeCertificate>
  let nginx: ChildProcess

  beforeAll(() => {
    certificate = makeCertificate(folder, 'shop.test')
    return () => rmSync(folder, { recursive: true })
  })

  afterEach(async () => {
    if (nginx.kill()) await once(nginx, 'exit')
    for (const server of servers.splice(0)) server.close()
    vi.restoreAllMocks()
  })

  /** Two servers behind nginx; answers its address. */
  async function start(trust: boolean): Promise<string> {
    const store = new session.MemoryStore()
    const ports = await Promise.all([listen(shop('one', store, trust)), listen(shop('two', store, trust))])
    const own = await freePort()
    const text = configuration
      .replace('127.0.0.1:3001', `127.0.0.1:${ports[0]}`)
      .replace('127.0.0.1:3002', `127.0.0.1:${ports[1]}`)
      .replace('listen 443', `listen 127.0.0.1:${own}`)
      .replace('/etc/ssl/shop.pem', certificate.cert)
      .replace('/etc/ssl/shop.key', certificate.key)
    writeFileSync(
      path.join(folder, 'nginx.conf'),
      `daemon off; pid ${folder}/nginx.pid; error_log ${folder}/error.log; events {} http { access_log off; ${text} }`,
    )
    nginx = spawn(NGINX, ['-p', folder, '-c', 'nginx.conf', '-e', path.join(folder, 'error.log')])
    await once(nginx, 'spawn')
    await untilListening(own)
    return `https://127.0.0.1:${own}`
  }

  function shop(name: string, store: session.Store, trust: boolean): express.Express {
    const app = express()
    if (trust) app.set('trust proxy', 1)
    app.use(
      session({
        secret: 'a secret that is long enough for nginx',
        store,
        resave: false,
        saveUninitialized: false,
        cookie: { secure: true },
      }),
    )
    app.get('/', (req, res) => {
      const data = req.session as unknown as { views?: number }
      data.views = (data.views ?? 0) + 1
      res.json({ name, views: data.views, address: req.ip })
    })
    return app
  }

  async function listen(app: express.Express): Promise<number> {
    const server = app.listen(0, '127.0.0.1')
    servers.push(server)
    await once(server, 'listening')
    return (server.address() as AddressInfo).port
  }

  test('two processes share the sessions, and the cookie is for secure connections', async () => {
    const address = await start(true)
    const first = await request(address).get('/').disableTLSCerts().expect(200)
    const [cookie = ''] = first.headers['set-cookie'] as unknown as string[]
    expect(cookie).toMatch(/^connect\.sid=.*; Secure/)

    const names = new Set<string>()
    for (let views = 2; views <= 5; views++) {
      const next = await request(address)
        .get('/')
        .set('Cookie', cookie.split(';')[0] ?? '')
        .disableTLSCerts()
      const body = next.body as { name: string; views: number; address: string }
      expect(body).toMatchObject({ views, address: '127.0.0.1' })
      names.add(body.name)
    }
    expect([...names].sort()).toEqual(['one', 'two'])
  })

  test('an app that does not trust it sets no cookie, and it is said why', async () => {
    const warned = vi.spyOn(process, 'emitWarning').mockImplementation(() => undefined)
    const address = await start(false)
    const { headers } = await request(address).get('/').disableTLSCerts().expect(200)
    expect(headers).not.toHaveProperty('set-cookie')
    expect(String(warned.mock.calls[0]?.[0])).toContain("Set app.set('trust proxy', 1)")
  })
})
