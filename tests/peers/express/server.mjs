// express-session with the routes of the other contenders: node server.mjs CONTENTS [REDIS-URL]
//
// CONTENTS is the JSON that /fill puts into a session. It prints where it listens, and ends when its input does.

import cluster from 'node:cluster'
import { RedisStore } from 'connect-redis'
import express from 'express'
import session from 'express-session'
import { createClient } from 'redis'

const [contents, url] = process.argv.slice(2)

async function serve() {
  const filling = JSON.parse(contents)
  let store
  if (url) {
    const client = createClient({ url })
    client.on('error', (error) => console.error(error))
    await client.connect()
    store = new RedisStore({ client })
  }

  const app = express()
  app.use(session({
    store: store ?? new session.MemoryStore(),
    secret: 'keyboard cat',
    resave: false,
    saveUninitialized: false,
    rolling: false,
    cookie: { maxAge: 24 * 60 * 60 * 1000, secure: false },
  }))

  const views = () => Math.floor(1e8 + Math.random() * (2 ** 32 - 1e8))
  const answer = (res, text) => res.type('text/plain').send(String(text))

  app.get('/untouched', (req, res) => answer(res, views()))
  app.get('/read', (req, res) => answer(res, req.session.views ?? 0))
  app.get('/write', (req, res) => {
    req.session.views = views()
    answer(res, req.session.views)
  })
  app.get('/fill', (req, res) => {
    Object.assign(req.session, filling)
    answer(res, '')
  })

  const server = app.listen(0, '127.0.0.1', (error) => {
    if (error) throw error
    if (cluster.isPrimary) announce(server.address())
  })
}

function announce({ address, port }) {
  console.log(`${address}:${port}`)
}

if (!cluster.isPrimary) {
  await serve()
} else {
  process.stdin.once('end', () => process.exit()).resume()
  if (url) {
    // As many processes as the others have threads, which is how Express is to be run in production.
    // The sessions that it keeps in memory they could not share.
    let listening = 0
    cluster.on('listening', (_worker, address) => {
      listening += 1
      if (listening === 2) announce(address)
    })
    for (let n = 0; n < 2; n += 1) cluster.fork()
  } else {
    await serve()
  }
}
