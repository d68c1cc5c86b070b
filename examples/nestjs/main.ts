// Sessions in NestJS: the middleware goes before the routes, and handlers get the session by Nest's own decorator.
import 'reflect-metadata'
import { randomBytes } from 'node:crypto'
import type { AddressInfo } from 'node:net'
import { Body, Controller, Get, HttpCode, Module, Post, Req, Session, UnauthorizedException } from '@nestjs/common'
import { NestFactory } from '@nestjs/core'
import type { NestExpressApplication } from '@nestjs/platform-express'
import type { Request } from 'express'
import session from 'sessile'

declare module 'sessile' {
  interface SessionData {
    views: number
    user: string
  }
}

type Visitor = session.Session & Partial<session.SessionData>

@Controller()
class AccountController {
  @Get()
  visit(@Session() visitor: Visitor): string {
    visitor.views = (visitor.views ?? 0) + 1
    return `Hello ${visitor.user ?? 'stranger'}, views: ${visitor.views}`
  }

  /** A new ID at login, against session fixation; what the visitor had goes along. */
  @Post('login')
  @HttpCode(204)
  async login(@Req() req: Request, @Body() { name, password }: { name?: string; password?: string }): Promise<void> {
    if (name !== 'ada' || password !== 'lovelace') throw new UnauthorizedException()
    req.session.user = name
    await sessions.renew(req)
  }

  @Post('logout')
  @HttpCode(204)
  async logout(@Req() req: Request): Promise<void> {
    await sessions.logout(req)
  }
}

@Module({ controllers: [AccountController] })
class AppModule {}

const sessions = session(process.env['SESSION_SECRET'] ?? randomBytes(32))

async function main(): Promise<void> {
  const app = await NestFactory.create<NestExpressApplication>(AppModule, { logger: ['warn', 'error'] })
  app.use(sessions)
  await app.listen(process.env['PORT'] ?? 3000)
  console.log(`http://localhost:${(app.getHttpServer().address() as AddressInfo).port}/`)
}

void main()
