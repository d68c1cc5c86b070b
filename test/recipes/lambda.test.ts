import { createRequire } from 'node:module'
import path from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { sendTo, type LambdaHandler } from '../support/lambda'
import { codeOf, RecipeFolder } from '../support/recipes'

const [app = '', ...handlers] = codeOf('AWS Lambda')

let folder: RecipeFolder
afterEach(() => folder.close())

describe('recipes of AWS Lambda', () => {
  test.each(handlers.map((handler) => [/require\('([^.][^']+)'\)/.exec(handler)?.[1], handler]))(
    '%s',
    async (_, handler = '') => {
      process.env['SESSION_SECRET'] = 'a secret for the recipes, long enough'
      folder = new RecipeFolder({ 'app.js': app, 'handler.js': handler })
      const load = createRequire(path.join(folder.path, 'handler.js'))
      const send = sendTo((load('./handler.js') as { handler: LambdaHandler }).handler)
      const first = await send('GET', '/')
      expect(first).toMatchObject({ status: 200, body: 'views: 1' })
      const [cookie] = first.cookies[0]?.split(';') ?? []
      expect(await send('GET', '/', cookie)).toMatchObject({ status: 200, body: 'views: 2' })
    },
  )

  test('there are three', () => {
    folder = new RecipeFolder({})
    expect(handlers).toHaveLength(3)
  })
})
