// A small shop on Express: its users log in and fill a cart.
//
// node guide.mjs --redis URL [--port N] [--until-stdin-ends]; the secrets are in SESSION_SECRET, divided by commas.

import { parseArgs } from 'node:util'
import { RedisStore } from 'connect-redis'
import express from 'express'
import session from 'express-session'
import { createClient } from 'redis'

const { values: options } = parseArgs({
  options: {
    redis: { type: 'string', default: 'redis://127.0.0.1:6379' },
    port: { type: 'string', default: '3000' },
    'until-stdin-ends': { type: 'boolean', default: false },
  },
})

const client = createClient({ url: options.redis })
client.on('error', (error) => console.error('redis:', error.code ?? error.name))
await client.connect()

const app = express()
app.set('trust proxy', 'loopback')
app.use(session({
  store: new RedisStore({ client }),
  secret: (process.env.SESSION_SECRET ?? 'keyboard cat').split(','),
  resave: false,
  saveUninitialized: false,
  cookie: { maxAge: 24 * 60 * 60 * 1000, secure: 'auto' },
}))
app.use(express.json())

const loggedIn = (req, res, next) => req.session.user ? next() : res.sendStatus(401)

app.post('/login', (req, res, next) => {
  const user = req.body?.user // A real shop asks for a password too.
  if (typeof user !== 'string' || user === '') return res.sendStatus(400)
  req.session.regenerate((error) => {
    if (error) return next(error)
    req.session.user = user
    res.json({ user })
  })
})

app.get('/me', loggedIn, (req, res) => res.json({ user: req.session.user, cart: req.session.cart ?? [] }))

app.get('/cart', loggedIn, (req, res) => res.json(req.session.cart ?? []))

app.post('/cart', loggedIn, (req, res) => {
  if (typeof req.body?.item !== 'string') return res.sendStatus(400)
  req.session.cart = [...req.session.cart ?? [], req.body.item]
  res.json(req.session.cart)
})

app.post('/logout', (req, res, next) => {
  req.session.destroy((error) => error ? next(error) : res.sendStatus(204))
})

const server = app.listen(Number(options.port), '127.0.0.1', (error) => {
  if (error) throw error
  console.log(`listening on http://127.0.0.1:${server.address().port}`)
})
const end = () => server.close(() => process.exit())
process.once('SIGTERM', end)
if (options['until-stdin-ends']) process.stdin.once('end', end).resume()
