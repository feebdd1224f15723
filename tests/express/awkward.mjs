// Prints awkward session data, one JSON text a line, the same for the same arguments:
//
// node awkward.mjs SEED COUNT

import { RESERVED } from './reserved.mjs'

const [seed, count] = process.argv.slice(2).map(Number)
if (!Number.isInteger(seed) || !Number.isInteger(count)) throw new Error('usage: node awkward.mjs SEED COUNT')

// mulberry32
let state = seed
function bits() {
  state = (state + 0x6d2b79f5) | 0
  let t = Math.imul(state ^ (state >>> 15), state | 1)
  t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
  return (t ^ (t >>> 14)) >>> 0
}
const below = (n) => bits() % n
const pick = (list) => list[below(list.length)]
const times = (n, f) => Array.from({ length: n }, f)

const PIECES = [
  '', ' ', 'a', 'k k', 'a.b', '"', "'", '\\', '/', '\\u0041', '\\ud83d', '%00', '<&>', '{"a":1}', 'null',
  '\0', '\b', '\t', '\n', '\f', '\r', '\r\n', '\x1b', '\x1f', '\x7f', '\x80', '\xa0', 'é', 'e\u0301', 'ключ', '漢',
  '🙂', '👩‍👧', '\u200b', '\u2028', '\u2029', '\ufeff', '\ufffd', '\uffff', '\u{10ffff}',
  '\ud83d', '\ude42', '\ude42\ud83d', '\ud83dx',
]
const NUMERALS = [
  '0', '1', '2', '10', '007', '-0', '-1', '1.5', '1e3', '4294967294', '4294967295', '4294967296', '9007199254740993',
]
// Reserved at the top, but not below it.
const NAMES = ['__proto__', 'constructor', 'cookie', 'id', 'toJSON', 'length', 'expires', 'originalMaxAge']
const NUMBERS = [
  0, -0, 1, -1, 0.1, -0.1, 0.30000000000000004, 1e20, 1e21, -1e21, 1e-6, 1e-7, 5e-324, 2.2250738585072014e-308,
  Number.MAX_VALUE, 2 ** 31, 2 ** 32, 2 ** 53 - 1, 2 ** 53, -(2 ** 53), 2 ** 63, 2 ** 64, 1.7e18,
]

const text = () => times(below(5), () => pick(PIECES)).join('')

function number() {
  const [any] = new Float64Array(Uint32Array.of(bits(), bits()).buffer)
  // JSON has null for the others.
  return below(2) && Number.isFinite(any) ? any : pick(NUMBERS)
}

const key = () => pick([text, text, () => pick(NUMERALS), () => pick(NAMES), () => `k${below(10000)}`])()

// An own property under every key, `__proto__` too.
const object = (size, depth) => Object.fromEntries(times(size, () => [key(), value(depth)]))

function value(depth) {
  const plain = [text, number, () => null, () => true, () => false, () => ({}), () => []]
  const deeper = [() => object(below(5), depth - 1), () => times(below(5), () => value(depth - 1))]
  return pick(depth && below(2) ? deeper : plain)()
}

// So many objects and arrays, one in the other.
function deep(levels) {
  let inner = value(0)
  for (let level = 0; level < levels; level++) inner = below(2) ? [inner] : { [pick(NUMERALS)]: inner }
  return inner
}

// What the long strings of one run may take together, in bytes of JSON.
let left = 1024 * 1024
function long() {
  const piece = `${text()}x`
  const size = Buffer.byteLength(JSON.stringify(piece))
  const repeats = Math.floor(below((left >> 1) + 1) / size)
  left -= repeats * size
  return piece.repeat(repeats)
}

// One line in ten of each kind that is large, so that few lines have them all. The session and the innermost value are
// two of at most 1,000 levels; the other keys of a line bring it to at most 2,000.
const KINDS = {
  0: () => ({ deep: deep(998 - below(800)) }),
  1: () => Object.fromEntries(times(1990 - below(1000), (_, i) => [`${text()}${i}`, value(1)])),
  2: () => ({ long: long() }),
}

for (let line = 0; line < count; line++) {
  const data = { [`line ${line}`]: value(4), ...object(below(8), 4), ...KINDS[line % 10]?.() }
  for (const name of RESERVED) delete data[name]
  console.log(JSON.stringify(data))
}
