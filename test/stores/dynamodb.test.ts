// @module-tag slow
import { randomBytes } from 'node:crypto'
import { createRequire } from 'node:module'
import { DeleteItemCommand, PutItemCommand, type DynamoDBClient } from '@aws-sdk/client-dynamodb'
import { DynamoDBDocumentClient } from '@aws-sdk/lib-dynamodb'
import expressSession from 'express-session'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type session from '../../src'
import { DynamoDBStore, type DynamoDBStoreOptions } from '../../src/stores/dynamodb'
import { appWithSessions } from '../faults/fault'
import { visitAndSettle, type Jar } from '../support/browser'
import { startDynamoDB, type DynamoDB } from '../support/dynamodb'

type Original = new (options: object) => session.Store
const ConnectDynamoDB = (createRequire(__filename)('connect-dynamodb') as (of: unknown) => Original)(expressSession)

const HOUR = 3_600_000
const in1h = (): number => Date.now() + HOUR
const textOf = (data: object = {}): string => JSON.stringify({ cookie: { originalMaxAge: null, path: '/' }, ...data })

let dynamodb: DynamoDB
beforeAll(async () => {
  dynamodb = await startDynamoDB()
})
afterAll(() => dynamodb.close())

function open(options: DynamoDBStoreOptions = {}): DynamoDBStore {
  return new DynamoDBStore({
    client: dynamodb.connect(),
    table: 'd' + randomBytes(6).toString('hex'),
    createTableIfMissing: true,
    errorLog: () => undefined,
    ...options,
  })
}

/** What a client is asked for, in its order. */
function commandsOf(client: DynamoDBClient): string[] {
  const commands: string[] = []
  client.middlewareStack.add(
    (next, context) => (args) => {
      commands.push((context as { commandName: string }).commandName)
      return next(args)
    },
    { step: 'initialize' },
  )
  return commands
}

/** Changes what a client gets from the server as the answer to a command. */
function answering(command: string, answer: (output: any, input: any) => unknown): DynamoDBClient {
  const client = dynamodb.connect()
  client.middlewareStack.add(
    (next, context) => async (args) => {
      const result = await next(args)
      if ((context as { commandName: string }).commandName === command) answer(result.output, args.input)
      return result
    },
    { step: 'deserialize', priority: 'high' },
  )
  return client
}

function failure(name: string): Error {
  return Object.assign(new Error(name), { name, $metadata: {} })
}

describe('beside connect-dynamodb, on one table', () => {
  const table = 'beside'
  let ours: DynamoDBStore
  let theirs: session.Store & { initialize(): Promise<void> }
  const cookie = (): object => ({ originalMaxAge: HOUR, maxAge: HOUR, expires: new Date(in1h()), path: '/' })
  const called = (method: 'set' | 'touch' | 'destroy' | 'get', ...args: unknown[]): Promise<any> =>
    new Promise((resolve, reject) => {
      const call = theirs[method] as (...args: unknown[]) => void
      call.call(theirs, ...args, (error: unknown, data: unknown) => (error ? reject(error as Error) : resolve(data)))
    })

  beforeAll(async () => {
    theirs = new ConnectDynamoDB({ client: dynamodb.connect(), table }) as typeof theirs
    await theirs.initialize()
    ours = open({ table, createTableIfMissing: false })
  })

  test('each reads what the other has written', async () => {
    await called('set', 'theirs', { cookie: cookie(), user: 'ada' })
    expect(await ours.get('theirs')).toMatchObject({ user: 'ada', cookie: { path: '/' } })
    await ours.set('ours', { cookie: cookie(), user: 'eve' } as never)
    expect(await called('get', 'ours')).toMatchObject({ user: 'eve' })
    expect([...Object.keys((await ours.all()) ?? {})].sort()).toEqual(['ours', 'theirs'])
  })

  test('each sees that the other has renewed, ended and destroyed', async () => {
    await called('set', 'shared', { cookie: cookie() })
    const { expires } = (await ours.read('shared'))!
    expect(await ours.renew('shared', expires + HOUR, expires)).toBe(true)
    await called('touch', 'shared', { cookie: { maxAge: 3 * HOUR } })
    expect((await ours.read('shared'))?.expires).toBeGreaterThan(expires + HOUR)
    await ours.remove('shared')
    expect(await called('get', 'shared')).toBeNull()
    await ours.set('ended', { cookie: { ...cookie(), expires: new Date(Date.now() - 2000) } } as never)
    expect(await called('get', 'ended')).toBeNull()
    await ours.set('shared', { cookie: cookie() } as never)
    await called('destroy', 'shared')
    expect(await ours.read('shared')).toBeNull()
  })

  test('a write of the other one is noticed, and so is one between two of the other', async () => {
    await called('set', 'raced', { cookie: cookie(), n: 1 })
    const first = (await ours.read('raced'))!.version
    await called('set', 'raced', { cookie: cookie(), n: 2 })
    expect(await ours.write('raced', textOf({ n: 3 }), in1h(), { version: first })).toBeNull()
    const second = (await ours.read('raced'))!.version
    const third = await ours.write('raced', textOf({ n: 4 }), in1h(), { version: second })
    expect(third).not.toBeNull()
    await called('set', 'raced', { cookie: cookie(), n: 5 })
    expect(await ours.write('raced', textOf({ n: 6 }), in1h(), { version: third as string })).toBeNull()
    expect(await ours.get('raced')).toMatchObject({ n: 5 })
  })

  test('what it leaves when it touches a destroyed session is no session', async () => {
    await called('touch', 'gone', { cookie: { maxAge: HOUR } })
    expect(await ours.read('gone')).toBeNull()
    expect(await ours.renew('gone', in1h())).toBe(false)
    expect(await ours.write('gone', textOf(), in1h(), 'present')).toBeNull()
    expect(await ours.remove('gone')).toBe(false)
    expect(await ours.write('gone', textOf(), in1h(), 'absent')).not.toBeNull()
  })

  test('attributes of its specialKeys stay', async () => {
    const client = dynamodb.connect()
    const item = { id: { S: 'sess:special' }, sess: { S: textOf() }, expires: { N: '9999999999' }, owner: { S: 'ada' } }
    await client.send(new PutItemCommand({ TableName: table, Item: item }))
    await ours.write('special', textOf({ n: 1 }), in1h(), 'present')
    const removal = new DeleteItemCommand({ TableName: table, Key: { id: item.id }, ReturnValues: 'ALL_OLD' })
    expect((await client.send(removal)).Attributes).toMatchObject({
      owner: { S: 'ada' },
      type: { S: 'connect-session' },
    })
  })

  test('a session without an end lives for ttl from each look', async () => {
    const client = dynamodb.connect()
    const item = { id: { S: 'sess:endless' }, sess: { S: textOf() } }
    await client.send(new PutItemCommand({ TableName: table, Item: item }))
    expect((await ours.read('endless'))?.expires).toBeGreaterThan(Date.now() + 23 * HOUR)
    expect(await ours.renew('endless', in1h())).toBe(true)
  })
})

describe('reads', () => {
  test('of one turn go together, a single one alone, and two of one session are one', async () => {
    const client = dynamodb.connect()
    const store = open({ client })
    const ids = Array.from({ length: 120 }, (_, n) => `id${n}`)
    await Promise.all(ids.slice(0, 60).map((id, n) => store.write(id, textOf({ n }), in1h(), 'absent')))
    const commands = commandsOf(client)
    const records = await Promise.all([...ids, 'id3'].map((id) => store.read(id)))
    expect(commands).toEqual(['BatchGetItemCommand', 'BatchGetItemCommand'])
    expect(records.map((record) => record !== null)).toEqual([...ids.map((_, n) => n < 60), true])
    expect(records.slice(0, 60).map((record) => (JSON.parse(record!.text) as { n: number }).n)).toEqual([
      ...Array(60).keys(),
    ])
    await store.read('id1')
    expect(commands.at(-1)).toBe('GetItemCommand')
  })

  test('that a batch leaves out are asked for alone, and fail alone', async () => {
    const client = answering('BatchGetItemCommand', (output, input) => {
      const [[table, { Keys }]] = Object.entries<{ Keys: { id: { S: string } }[] }>(input.RequestItems) as any
      const left = Keys.filter(({ id }: { id: { S: string } }) => /left|bad/.test(id.S))
      output.Responses[table] = output.Responses[table].filter(
        ({ id }: { id: { S: string } }) => !/left|bad/.test(id.S),
      )
      output.UnprocessedKeys = { [table]: { Keys: left } }
    })
    client.middlewareStack.add(
      (next) => (args) => {
        const { Key } = args.input as { Key?: { id: { S: string } } }
        if (Key?.id.S === 'sess:bad') throw failure('ProvisionedThroughputExceededException')
        return next(args)
      },
      { step: 'initialize' },
    )
    const store = open({ client })
    for (const id of ['one', 'left']) await store.write(id, textOf({ id }), in1h(), 'absent')
    const read = await Promise.allSettled(['one', 'left', 'left-too', 'bad'].map((id) => store.read(id)))
    expect(read.map((result) => (result.status === 'fulfilled' ? result.value !== null : result.reason.name))).toEqual([
      true,
      true,
      false,
      'ProvisionedThroughputExceededException',
    ])
  })

  test('go one by one where there is no right to BatchGetItem, and check says so', async () => {
    const client = answering('BatchGetItemCommand', () => {
      throw failure('AccessDeniedException')
    })
    const store = open({ client })
    await store.write('a', textOf(), in1h(), 'absent')
    expect((await Promise.all(['a', 'b'].map((id) => store.read(id)))).map(Boolean)).toEqual([true, false])
    const commands = commandsOf(client)
    await Promise.all(['a', 'b'].map((id) => store.read(id)))
    expect(commands).toEqual(['GetItemCommand', 'GetItemCommand'])
    expect((await store.check()).join()).toContain('grant dynamodb:BatchGetItem')
  })
})

test('a request asks for what the documentation says', async () => {
  const client = dynamodb.connect()
  const store = open({ client })
  const over = (touchAfter: number) =>
    appWithSessions({ store, touchAfter, cookie: { maxAge: HOUR } }, (req, res) => {
      if (req.url !== '/') req.session['n'] = req.url
      res.send(String(req.session['n']))
    }).app
  const [renewing, sparing] = [over(0), over(60_000)]
  const jar: Jar = {}
  await visitAndSettle(renewing, '/begins', jar)
  const commands = commandsOf(client)
  const asked = async (app: typeof renewing, urls: string[]): Promise<string[]> => {
    await Promise.all(urls.map((url) => visitAndSettle(app, url, { ...jar })))
    return commands.splice(0).map((name) => name.replace('Command', ''))
  }
  expect(await asked(sparing, ['/'])).toEqual(['GetItem'])
  expect(await asked(renewing, ['/'])).toEqual(['GetItem', 'UpdateItem'])
  expect(await asked(sparing, ['/changes'])).toEqual(['GetItem', 'UpdateItem'])
})

describe('a write whose answer was lost', () => {
  /** The first answer to each update is lost on its way, so the client asks again. */
  function losing(): DynamoDBClient {
    let lost = false
    return answering('UpdateItemCommand', () => {
      lost = !lost
      if (lost) throw failure('TimeoutError')
    })
  }

  test('is known to have been made when the client repeats it', async () => {
    const store = open({ client: losing() })
    const first = await store.write('a', textOf({ n: 1 }), in1h(), 'absent')
    expect(first).not.toBeNull()
    expect(await store.write('a', textOf({ n: 2 }), in1h(), { version: first as string })).not.toBeNull()
    expect(await store.get('a')).toMatchObject({ n: 2 })
  })

  test('is refused when it was refused', async () => {
    const table = 'lost'
    const first = await open({ table }).write('a', textOf({ n: 1 }), in1h(), 'absent')
    await open({ table }).write('a', textOf({ n: 2 }), in1h(), 'always')
    const store = open({ table, client: losing() })
    expect(await store.write('a', textOf({ n: 3 }), in1h(), 'absent')).toBeNull()
    expect(await store.write('a', textOf({ n: 3 }), in1h(), { version: first as string })).toBeNull()
    expect(await store.get('a')).toMatchObject({ n: 2 })
  })
})

test('a throttled request is repeated by the client, and fails as it says when that is in vain', async () => {
  let throttled = 0
  const client = dynamodb.connect({ maxAttempts: 3 })
  client.middlewareStack.add(
    () => () => {
      throttled++
      throw failure('ProvisionedThroughputExceededException')
    },
    { step: 'deserialize', priority: 'low' },
  )
  await expect(open({ client }).read('a')).rejects.toMatchObject({ name: 'ProvisionedThroughputExceededException' })
  expect(throttled).toBe(3)
})

test('a missing table is an error that says how to make it, or is made by all who need it at once', async () => {
  await expect(open({ table: 'missing', createTableIfMissing: false }).read('a')).rejects.toMatchObject({
    code: 'ERR_SESSION_OPTION',
    message: expect.stringContaining('aws dynamodb create-table --table-name missing') as string,
  })
  const stores = Array.from({ length: 4 }, () => open({ table: 'made' }))
  expect(await Promise.all(stores.map((store, n) => store.write(`${n}`, textOf(), in1h(), 'absent')))).not.toContain(
    null,
  )
  expect(await stores[0]?.count()).toBe(4)
})

test('two stores of different prefixes share a table and its users, and see nothing of each other', async () => {
  const [one, two] = [open({ table: 'shared', prefix: 'one:' }), open({ table: 'shared', prefix: 'two:' })]
  for (const store of [one, two]) {
    await store.write('a', textOf(), in1h(), 'absent')
    await store.link('ada', 'a', in1h())
  }
  await one.removeAll()
  expect([await one.count(), await one.linked('ada'), await two.count(), await two.linked('ada')]).toEqual([
    0,
    [],
    1,
    ['a'],
  ])
})

test('a session of more than DynamoDB takes is an error that says so, and the former one stays', async () => {
  const store = open()
  const version = await store.write('large', textOf({ n: 1 }), in1h(), 'absent')
  const large = textOf({ value: 'x'.repeat(500_000) })
  await expect(store.write('large', large, in1h(), { version: version as string })).rejects.toThrow(
    'DynamoDBStore: session large… has 489 KB; DynamoDB takes 400 KB at most',
  )
  await expect(store.write('larger', large, in1h(), 'absent')).rejects.toThrow('400 KB at most')
  expect(await store.get('large')).toMatchObject({ n: 1 })
})

test('a DynamoDBDocumentClient serves as well', async () => {
  const store = open({ client: DynamoDBDocumentClient.from(dynamodb.connect()) })
  const version = await store.write('a', textOf({ n: 1 }), in1h(), 'absent')
  expect(await store.write('a', textOf({ n: 2 }), in1h(), { version: version as string })).not.toBeNull()
  expect(await store.get('a')).toMatchObject({ n: 2 })
})

test('check says what a table lacks, and what to do', async () => {
  expect(await open({ table: 'none', createTableIfMissing: false }).check()).toEqual([
    expect.stringMatching(/table none is missing: make it\.\naws dynamodb create-table/),
  ])
  const store = open({ table: 'checked' })
  await store.read('a')
  expect(await store.check()).toEqual([
    expect.stringMatching(/switch on its time to live\.\naws dynamodb update-time-to-live --table-name checked/),
  ])
  expect(await open({ table: 'checked', hashKey: 'sid' }).check()).toEqual([
    expect.stringContaining('The key of the table checked is id, not sid'),
  ])
})

test("what connect-dynamodb's options did is done otherwise, and an error says how", () => {
  expect(() => open({ specialKeys: [{ name: 'user', type: 'S' }] } as never)).toThrow("middleware's option user")
  expect(() => open({ reapInterval: 600_000 } as never)).toThrow('time to live')
  expect(() => open({ client: 'eu-west-1' as never })).toThrow(
    'DynamoDBStore: option client must be a DynamoDBClient of @aws-sdk/client-dynamodb, version 3; it is "eu-west-1"',
  )
})
