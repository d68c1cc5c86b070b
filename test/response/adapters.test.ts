import { configure } from '@codegenie/serverless-express'
import { ServerlessAdapter } from '@h4ad/serverless-adapter'
import { ApiGatewayV2Adapter } from '@h4ad/serverless-adapter/adapters/aws'
import { ExpressFramework } from '@h4ad/serverless-adapter/frameworks/express'
import { AwsStreamHandler } from '@h4ad/serverless-adapter/handlers/aws'
import { DefaultHandler } from '@h4ad/serverless-adapter/handlers/default'
import { DummyResolver } from '@h4ad/serverless-adapter/resolvers/dummy'
import { PromiseResolver } from '@h4ad/serverless-adapter/resolvers/promise'
import vendia from '@vendia/serverless-express'
import type express from 'express'
import { inject } from 'light-my-request'
import { EventEmitter } from 'node:events'
import { PassThrough } from 'node:stream'
import { createMocks } from 'node-mocks-http'
import serverlessHttp from 'serverless-http'
import { afterEach, describe, test, vi } from 'vitest'
import session from '../../src'
import { appOf, OPTIONS, type Handler } from '../faults/fault'
import { BODY, expectSession, stores, type Client } from './any-response'

/** How a handler answers. */
const answers: Record<string, (res: express.Response) => unknown> = {
  send: (res) => res.send(BODY),
  end: (res) => res.end(BODY),
  'writeHead and end': (res) => res.writeHead(200, { 'X-One': '1' }).end(BODY),
  'write and end': (res) => {
    res.write(BODY.slice(0, 10))
    res.end(BODY.slice(10))
  },
  'a write of the announced length': (res) => {
    res.setHeader('Content-Length', Buffer.byteLength(BODY))
    res.write(BODY)
    res.end()
  },
}

const turns: Record<string, (answer: () => void) => void> = {
  'in the same turn': (answer) => answer(),
  'in a later one': (answer) => void setTimeout(answer, 2),
}

type App = express.Express

const list = (value: unknown): string[] =>
  Array.isArray(value) ? (value as string[]) : typeof value === 'string' ? [value] : []

const event = (cookie: string | undefined) => ({
  version: '2.0',
  routeKey: '$default',
  rawPath: '/',
  rawQueryString: '',
  headers: { host: 'localhost' },
  cookies: cookie ? [cookie] : [],
  isBase64Encoded: false,
  requestContext: {
    http: { method: 'GET', path: '/', protocol: 'HTTP/1.1', sourceIp: '192.0.2.1', userAgent: 'a' },
    stage: '$default',
    requestId: '1',
  },
})

interface LambdaAnswer {
  statusCode: number
  body: string
  cookies?: string[]
  isBase64Encoded?: boolean
  headers?: Record<string, unknown>
  multiValueHeaders?: Record<string, string[]>
}

const received = ({ statusCode, body, cookies, headers, multiValueHeaders, isBase64Encoded }: LambdaAnswer) => ({
  status: statusCode,
  body: isBase64Encoded ? Buffer.from(body, 'base64').toString() : body,
  cookies: cookies ?? list(multiValueHeaders?.['set-cookie'] ?? headers?.['set-cookie']),
})

const lambda = (handle: (event: never, context: never) => unknown): Client => {
  return async (cookie) => received((await handle(event(cookie) as never, {} as never)) as LambdaAnswer)
}

/** Others' ways to call an app, with responses of their own. */
const programs: Record<string, (app: App) => Client> = {
  '@codegenie/serverless-express': (app) => lambda(configure({ app }) as never),
  '@vendia/serverless-express': (app) => lambda(vendia({ app }) as never),
  '@h4ad/serverless-adapter': (app) =>
    lambda(
      ServerlessAdapter.new(app)
        .setFramework(new ExpressFramework())
        .setHandler(new DefaultHandler())
        .setResolver(new PromiseResolver())
        .addAdapter(new ApiGatewayV2Adapter())
        .build(),
    ),
  'serverless-http': (app) => lambda(serverlessHttp(app as never)),
  "@h4ad/serverless-adapter's AwsStreamHandler": (app) => async (cookie) => {
    const stream = new PassThrough()
    let head: { statusCode: number; headers: Record<string, unknown>; cookies?: string[] } | undefined
    vi.stubGlobal('awslambda', {
      streamifyResponse: (handle: unknown) => handle,
      HttpResponseStream: { from: (to: unknown, metadata: typeof head) => ((head = metadata), to) },
    })
    const handle = ServerlessAdapter.new(app)
      .setFramework(new ExpressFramework())
      .setHandler(new AwsStreamHandler())
      .setResolver(new DummyResolver())
      .addAdapter(new ApiGatewayV2Adapter())
      .build()
    const answered = handle(event(cookie), stream, { awsRequestId: '1' })
    let body = ''
    for await (const chunk of stream.setEncoding('utf8')) body += String(chunk)
    await answered
    return { status: head?.statusCode ?? 0, body, cookies: head?.cookies ?? list(head?.headers['set-cookie']) }
  },
  'light-my-request': (app) => async (cookie) => {
    const { statusCode, payload, headers } = await inject(app as never, {
      url: '/',
      headers: cookie ? { cookie } : {},
    })
    return { status: statusCode, body: payload, cookies: list(headers['set-cookie']) }
  },
  'node-mocks-http': (app) => async (cookie) => {
    const { req, res } = createMocks(
      { method: 'GET', url: '/', headers: cookie ? { cookie } : {} },
      { eventEmitter: EventEmitter },
    )
    const ended = new Promise((resolve) => res.once('end', resolve))
    app(req as never, res as never)
    await ended
    const body = Buffer.concat([res._getBuffer(), Buffer.from(String(res._getData()))]).toString()
    return { status: res.statusCode, body, cookies: list(res.getHeader('Set-Cookie')) }
  },
}

function counting(answer: (res: express.Response) => unknown, turn: (answer: () => void) => void): Handler {
  return (req, res) => {
    req.session['views'] = ((req.session['views'] as number | undefined) ?? 0) + 1
    res.setHeader('X-Views', req.session['views'] as number)
    turn(() => answer(res))
  }
}

afterEach(() => void vi.unstubAllGlobals())

describe.each(Object.keys(programs))('%s', (program) => {
  describe.each(Object.keys(stores))('with %s', (store) => {
    describe.each(Object.keys(turns))('an answer %s', (turn) => {
      test.each(Object.keys(answers))('by %s arrives with its cookie, and the session is stored', async (answer) => {
        const made = stores[store]!()
        const app = appOf([session({ ...OPTIONS, store: made })], counting(answers[answer]!, turns[turn]!))
        await expectSession(programs[program]!(app), made)
      })
    })
  })
})
