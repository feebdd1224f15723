// Records what express-session's own setters store, and what Express then makes of that record:
//
// node setters.mjs --redis URL > setters.json

import { once } from 'node:events'
import { get } from 'node:http'
import { parseArgs } from 'node:util'
import { RedisStore } from 'connect-redis'
import express from 'express'
import session from 'express-session'
import { createClient } from 'redis'

const { values: { redis: url } } = parseArgs({ options: { redis: { type: 'string' } } })
if (!url) throw new Error('--redis URL is missing')

// So that each run prints the same; later than any clock that reads it.
const now = Date.parse('2030-01-01T00:00:00.629Z')
Date.now = () => now
const hour = 3600000

const client = await createClient({ url }).connect()
const SECRET = 'keyboard cat'

// Sends one request, whose handler does this to its session.
async function ask(sid, cookie, act, options = {}) {
  const app = express()
  app.set('env', 'test')
  app.use(session({
    store: new RedisStore({ client }), secret: SECRET, resave: false, saveUninitialized: false, genid: () => sid, ...options,
  }))
  app.get('/', (req, res) => {
    try {
      act(req.session)
    } catch {
      // Some setters throw; what they did before stays.
    }
    res.json(req.session)
  })
  app.use((error, req, res, next) => res.status(500).json(error.message))
  const server = app.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const headers = { connection: 'close', ...(cookie && { cookie }) }
  // Not by `fetch`, whose time limits go by the clock that stands still.
  const request = get({ host: '127.0.0.1', port: server.address().port, headers })
  const [response] = await once(request, 'response')
  response.resume()
  await once(response, 'end')
  server.close()
  return { status: response.statusCode, setCookie: response.headers['set-cookie']?.[0] }
}

const later = new Date(now + hour)
// Without those that break off Express's answer, so that nothing is stored: expires = true or a text, originalMaxAge = a
// text or an object.
const setters = [
  ['maxAge = an hour', (c) => { c.maxAge = hour }],
  ['maxAge = 0', (c) => { c.maxAge = 0 }],
  ['maxAge = -1', (c) => { c.maxAge = -1 }],
  ['maxAge = a fraction', (c) => { c.maxAge = hour + 0.5 }],
  ['maxAge = null', (c) => { c.maxAge = null }],
  ['maxAge = false', (c) => { c.maxAge = false }],
  ['maxAge = undefined', (c) => { c.maxAge = undefined }],
  ['maxAge = NaN', (c) => { c.maxAge = NaN }],
  ['maxAge = Infinity', (c) => { c.maxAge = Infinity }],
  ['maxAge = a date', (c) => { c.maxAge = later }],
  ['maxAge = a text', (c) => { c.maxAge = '3600000' }],
  ['maxAge = beyond all dates', (c) => { c.maxAge = 9e15 }],
  ['expires = a date', (c) => { c.expires = later }],
  ['expires = a date that has passed', (c) => { c.expires = new Date(now - hour) }],
  ['expires = false', (c) => { c.expires = false }],
  ['expires = null', (c) => { c.expires = null }],
  ['expires = undefined', (c) => { c.expires = undefined }],
  ['expires = 0', (c) => { c.expires = 0 }],
  ['expires = a number', (c) => { c.expires = hour }],
  ['expires = no date', (c) => { c.expires = new Date('soon') }],
  ['originalMaxAge = an hour', (c) => { c.originalMaxAge = hour }],
  ['originalMaxAge = false', (c) => { c.originalMaxAge = false }],
  ['originalMaxAge = a fraction', (c) => { c.originalMaxAge = hour + 0.5 }],
  ['originalMaxAge = 0', (c) => { c.originalMaxAge = 0 }],
  ['originalMaxAge = -1', (c) => { c.originalMaxAge = -1 }],
  ['cookie = {}', (c, s) => { s.cookie = {} }],
  ['cookie = { maxAge: an hour }', (c, s) => { s.cookie = { maxAge: hour } }],
  ['cookie = { originalMaxAge: an hour, path: "/" }', (c, s) => { s.cookie = { originalMaxAge: hour, path: '/' } }],
  ['cookie = { ...cookie, maxAge: an hour }', (c, s) => { s.cookie = { ...c, maxAge: hour } }],
  ['cookie = another Cookie', (c, s) => { s.cookie = new session.Cookie({ maxAge: hour }) }],
  ['delete cookie.originalMaxAge', (c) => { delete c.originalMaxAge }],
]

const vectors = []
for (const [number, [note, set]] of setters.entries()) {
  const sid = `setter${String(number).padStart(26, '0')}`
  const key = `sess:${sid}`
  const made = await ask(sid, undefined, (s) => { s.user = 'ada' })
  const cookie = made.setCookie.split(';')[0]
  const state = async () => ({ record: await client.get(key), ttl_s: Math.ceil((await client.pTTL(key)) / 1000) })
  const { status } = await ask(sid, cookie, (s) => { s.changed = 1; set(s.cookie, s) })
  const stored = await state()
  const vector = { note, sid, cookie_value: cookie.split('=')[1], status, ...stored }
  for (const [name, act, options] of stored.record === null ? [] : [
    ['read', (s) => s.user, {}],
    ['write', (s) => { s.n = 1 }, {}],
    ['rolling', (s) => s.user, { rolling: true }],
  ]) {
    await client.set(key, stored.record, { expiration: { type: 'PX', value: hour } })
    let user = null
    const { status, setCookie } = await ask(sid, cookie, (s) => { user = s.user; act(s) }, options)
    const expires = setCookie?.match(/Expires=([^;]*)/)?.[1] ?? null
    vector[name] = { user, status, sent: !!setCookie, expires, ...(await state()) }
  }
  vectors.push(vector)
  await client.del(key)
}
await client.close()
console.log(JSON.stringify(vectors, null, 1))
