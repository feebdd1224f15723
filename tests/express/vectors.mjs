// Makes the test vectors by running express-session and connect-redis, and tries each of them on Express:
//
// node vectors.mjs --redis URL > vectors.json

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { parseArgs } from 'node:util'
import { RedisStore } from 'connect-redis'
import express from 'express'
import session from 'express-session'
import { createClient } from 'redis'

const { values: { redis: url } } = parseArgs({ options: { redis: { type: 'string' } } })
if (!url) throw new Error('--redis URL is missing')

// So that each run prints the same.
const now = Date.parse('2026-11-22T21:10:05.629Z')
Date.now = () => now

const client = await createClient({ url }).connect()

// Sends one request to an app with these options, which adds `data` to the session and answers with it.
async function ask(options, cookie, data) {
  const app = express().set('trust proxy', true)
  const store = new RedisStore({ client })
  app.use(session({ store, resave: false, saveUninitialized: false, ...options }))
  app.get('/', (req, res) => res.json(Object.assign(req.session, data)))
  const server = app.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const headers = { 'x-forwarded-proto': 'https', connection: 'close', ...(cookie && { cookie }) }
  const response = await fetch(`http://127.0.0.1:${server.address().port}/`, { headers })
  assert.equal(response.status, 200)
  const answer = { body: await response.text(), setCookie: response.headers.getSetCookie()[0] }
  server.close()
  return answer
}

// Makes a session with this id.
async function make(secret, sid, data = { a: 1 }, cookie) {
  const { setCookie } = await ask({ secret, cookie, genid: () => sid }, undefined, data)
  const value = setCookie.match(/^connect\.sid=([^;]*)/)[1]
  const key = `sess:${sid}`
  return {
    secret,
    sid,
    signed: decodeURIComponent(value),
    cookie_value: value,
    set_cookie: setCookie,
    redis_key: key,
    record: await client.get(key),
    ttl_s: Math.ceil((await client.pTTL(key)) / 1000),
  }
}

const CAT = 'keyboard cat'
const SID = 'Zr2kQ0pV7yXb3mNc8dLwTg5sHj1fAe9u'
const flags = {
  maxAge: 3600000,
  partitioned: true,
  priority: 'high',
  secure: true,
  domain: 'example.test',
  sameSite: 'lax',
}
const accepted = []
for (const [note, ...session] of [
  ['the defaults', CAT, SID, { views: 1 }],
  ['id with - and _', CAT, '-_-9aZ0_bY1-cX2_dW3-eV4_fU5-gT6_', { user: 'zoë', nested: { a: [1, { b: null }], 'k k': true } }],
  ['signature with + and /', CAT, 'plusSlash00000000000000000000004', { when: new Date(1700000000123) }],
  ['secret in Cyrillic (UTF-8 bytes are the key)', 'пароль-котик', 'abcdefghijklmnopqrstuvwxyz012345', { ключ: 'значение', emoji: '🙂' }],
  ['secret of 100 bytes (longer than the HMAC block)', 's'.repeat(100), 'ABCDEFGHIJKLMNOPQRSTUVWXYZ678901', { n: 0.1, big: 1e21, neg: -7, tiny: 5e-324, max: 2 ** 53 - 1 }],
  ['secret of one character', 'x', '0123456789abcdef0123456789abcdef', { e: '', l: [], m: {}, z: null, t: true, f: false }],
  ['secret with spaces, quotes and a dot', ' a "b" .c ', '6f1d1f0e-9f0b-4c9e-8d4b-0a1b2c3d4e5f', { ctl: '\0\b\t\n\f\r\x1f\x7f', sep: '\u2028\u2029', esc: '"\\/' }],
  ['id with dots (the last dot ends it)', CAT, 'node1.a.b.Zr2kQ0pV7yXb3mNc'],
  ['id that must be percent-encoded', CAT, 'a b/c+d=e%f'],
  ['maxAge 60000: Expires, originalMaxAge, TTL 60', CAT, 'maxAge0000000000000000000000sixty', undefined, { maxAge: 60000 }],
  ['all flags', CAT, 'flags000000000000000000000000000', undefined, flags],
  ['rotation: the first of two secrets signs', ['rotated key 2026', CAT], SID, { lone: 'cut \ud83d' }],
]) {
  const vector = await make(...session)
  const { body } = await ask({ secret: vector.secret }, `connect.sid=${vector.cookie_value}`)
  assert.equal(body, vector.record, note)
  accepted.push({ n: accepted.length + 1, note, ...vector })
}

// Each of these names a session that exists.
const good = accepted[0].signed
const other = await make('keyboard dog', SID)
const inside = await make(CAT, `s:${SID}`)
const empty = await make(CAT, '')
const refused = []
for (const [note, signed] of [
  ['padded', `${good}=`],
  ['same bytes, non-canonical last character', good.replace(/Q$/, 'R')],
  ['base64url', accepted[2].signed.replaceAll('+', '-').replaceAll('/', '_')],
  ['first character changed', good.replace('.U', '.A')],
  ['truncated', good.slice(0, -1)],
  ['no signature', `s:${SID}`],
  ['empty signature', `s:${SID}.`],
  ['no prefix', good.slice(2)],
  ['another secret', other.signed],
  ['signed with the prefix inside', inside.signed.slice(2)],
  ['text after', `${good}.`],
  ['empty id, rightly signed (unsign gives "", which express-session takes for no id)', empty.signed],
]) {
  const vector = { note, secret: CAT, signed, cookie_value: encodeURIComponent(signed) }
  const { body } = await ask({ secret: CAT }, `connect.sid=${vector.cookie_value}`)
  assert.deepEqual(Object.keys(JSON.parse(body)), ['cookie'], note)
  refused.push(vector)
}

await client.del([...accepted, other, inside, empty].map((vector) => vector.redis_key))
await client.close()
console.log(JSON.stringify({ accepted, refused }, null, 2))
