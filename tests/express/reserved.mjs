// Names that no session can hold: `cookie` is the record's own, and the rest are what Express' Session object has by
// itself. Express forgets data under such a name when it next reads the record.
export const RESERVED = new Set([
  'cookie', 'id', 'req', 'save', 'touch', 'reload', 'destroy', 'regenerate', 'resetMaxAge',
  ...Object.getOwnPropertyNames(Object.prototype),
])
