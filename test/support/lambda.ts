import { configure } from '@codegenie/serverless-express'
import { ServerlessAdapter } from '@h4ad/serverless-adapter'
import { ApiGatewayV2Adapter } from '@h4ad/serverless-adapter/adapters/aws'
import { ExpressFramework } from '@h4ad/serverless-adapter/frameworks/express'
import { DefaultHandler } from '@h4ad/serverless-adapter/handlers/default'
import { PromiseResolver } from '@h4ad/serverless-adapter/resolvers/promise'
import type { Express } from 'express'
import serverless from 'serverless-http'

/** What AWS Lambda is called with for a request to a function URL or an HTTP API. */
function eventOf(method: string, path: string, cookie?: string): object {
  return {
    version: '2.0',
    routeKey: '$default',
    rawPath: path,
    rawQueryString: '',
    ...(cookie && { cookies: [cookie] }),
    headers: { host: 'shop.test', 'content-length': '0' },
    requestContext: {
      domainName: 'shop.test',
      stage: '$default',
      http: { method, path, protocol: 'HTTP/1.1', sourceIp: '127.0.0.1', userAgent: 'test' },
    },
    isBase64Encoded: false,
  }
}

interface LambdaResponse {
  statusCode: number
  headers?: Record<string, string | string[]>
  multiValueHeaders?: Record<string, string[]>
  cookies?: string[]
  body: string
}

export type LambdaHandler = (event: never, context: never) => Promise<LambdaResponse>
export type SendToLambda = (
  method: string,
  path: string,
  cookie?: string,
) => Promise<{ status: number; cookies: string[]; body: string }>

/** Calls the handler of a function as AWS Lambda does. */
export function sendTo(handler: LambdaHandler): SendToLambda {
  return async (method, path, cookie) => {
    const answer = await handler(eventOf(method, path, cookie) as never, {} as never)
    const { body, cookies, headers, multiValueHeaders, statusCode } = answer
    const set = cookies ?? multiValueHeaders?.['set-cookie'] ?? headers?.['set-cookie'] ?? []
    return { status: statusCode, cookies: ([] as string[]).concat(set), body }
  }
}

const adapters: [name: string, toHandler: (app: Express) => unknown][] = [
  ['serverless-http', (app) => serverless(app)],
  ['@codegenie/serverless-express', (app) => configure({ app, resolutionMode: 'PROMISE' })],
  [
    '@h4ad/serverless-adapter',
    (app) =>
      ServerlessAdapter.new(app)
        .setFramework(new ExpressFramework())
        .setHandler(new DefaultHandler())
        .setResolver(new PromiseResolver())
        .addAdapter(new ApiGatewayV2Adapter())
        .build(),
  ],
]

/** Each adapter's name, and what sends requests through it to an app. */
export const toRequests = adapters.map(
  ([name, toHandler]) => [name, (app: Express) => sendTo(toHandler(app) as LambdaHandler)] as const,
)
