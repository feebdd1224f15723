// The example service on real Express: its only resource is the caller's session, kept in Redis.
//
// node server.mjs --redis URL [--port N] [--secret S]... [--max-age MS] [--rolling] [--secure true|false|auto]
//   [--same-site lax|strict|none|true|false] [--domain D] [--partitioned] [--priority low|medium|high]
//   [--trust-proxy] [--until-stdin-ends]

import { setTimeout as wait } from 'node:timers/promises'
import { parseArgs, promisify } from 'node:util'
import { RedisStore } from 'connect-redis'
import express from 'express'
import session from 'express-session'
import { createClient } from 'redis'
import { RESERVED } from './reserved.mjs'

const { values: options } = parseArgs({
  options: {
    redis: { type: 'string' },
    port: { type: 'string', default: '0' },
    secret: { type: 'string', multiple: true, default: ['keyboard cat'] },
    'max-age': { type: 'string' },
    rolling: { type: 'boolean', default: false },
    secure: { type: 'string' },
    'same-site': { type: 'string' },
    domain: { type: 'string' },
    partitioned: { type: 'boolean' },
    priority: { type: 'string' },
    'trust-proxy': { type: 'boolean', default: false },
    'until-stdin-ends': { type: 'boolean', default: false },
  },
})
if (!options.redis) throw new Error('--redis URL is missing')

// Messages may quote what is stored, and so are kept out of the log.
const log = (what, error) => console.error(`${what}: ${error.code ?? error.name}`)

// A request fails at once while Redis is away, where the client would keep it until Redis is back.
const client = createClient({ url: options.redis, disableOfflineQueue: true })
client.on('error', (error) => log('redis', error))
await client.connect()

const word = (text) => ({ true: true, false: false })[text] ?? text

const app = express()
app.set('trust proxy', options['trust-proxy'])
app.use(session({
  store: new RedisStore({ client }),
  secret: options.secret,
  resave: false,
  saveUninitialized: false,
  rolling: options.rolling,
  cookie: {
    // Not undefined, which would leave originalMaxAge and expires out of the record.
    maxAge: options['max-age'] === undefined ? null : Number(options['max-age']),
    secure: word(options.secure),
    sameSite: word(options['same-site']),
    domain: options.domain,
    partitioned: options.partitioned,
    priority: options.priority,
  },
}))
// Not express.json, which refuses some JSON and needs a content type.
app.use(express.text({ type: () => true, limit: '4mb' }))

// Calls a method of the session that takes a callback.
const call = (req, method) => promisify((done) => req.session[method](done))()

const show = (req, res) => res.json(req.session)

// Returns what of the body a session may hold, or nothing if the body is no JSON object.
function entries(body) {
  try {
    const value = JSON.parse(body)
    if (value === null || typeof value !== 'object' || Array.isArray(value)) return
    return Object.entries(value).filter(([key]) => !RESERVED.has(key))
  } catch {}
}

function merge(req, entries) {
  for (const [key, value] of entries) req.session[key] = value
}

app.get('/session', show)

app.post('/session', (req, res) => {
  const found = entries(req.body)
  if (!found) return res.status(400).send('no JSON object')
  merge(req, found)
  show(req, res)
})

app.delete('/session', async (req, res) => {
  await call(req, 'destroy')
  res.status(204).end()
})

app.get('/views', async (req, res) => {
  const views = (req.session.views ?? 0) + 1
  req.session.views = views
  await call(req, 'save')
  res.json({ views })
})

app.post('/regenerate', async (req, res) => {
  const found = entries(req.body || '{}')
  if (!found) return res.status(400).send('no JSON object')
  await call(req, 'regenerate')
  merge(req, found)
  req.session.regenerated = true
  show(req, res)
})

app.get('/whoami', (req, res) => res.json({ id: req.sessionID, user: req.session.user ?? null }))

app.get('/slow', async (req, res) => {
  // The session is loaded by now. What others do to it in the meantime is what the tests are about.
  await wait(Number(req.query.ms))
  req.session.slow = true
  show(req, res)
})

app.use((error, req, res, _next) => {
  log('request', error)
  // As Express does by itself where the answer is under way.
  if (res.headersSent) return req.socket.destroy()
  res.status(error.status ?? 500).send('failed')
})

const server = app.listen(Number(options.port), '127.0.0.1', (error) => {
  if (error) throw error
  console.log(`listening on http://127.0.0.1:${server.address().port}`)
})

function end() {
  server.close(() => process.exit())
  // Requests under way have this long.
  setTimeout(() => process.exit(), 1000)
}
process.once('SIGTERM', end)
if (options['until-stdin-ends']) process.stdin.once('end', end).resume()
