-- KEYS: the value's key, the index if there is one. ARGV: the revision that was read, or * for any, the
-- value, the id, and what else SET takes. Returns nil where nothing is there or the revision is another,
-- else whether the id is new in the index.
local stored = redis.pcall('GET', KEYS[1])
if not stored then
  return false
end
-- A key of another type has no revision.
if ARGV[1] ~= '*' and (type(stored) ~= 'string' or redis.sha1hex(stored) ~= ARGV[1]) then
  return false
end
-- The index first: if a key of another type is in its place, nothing has changed yet.
local added = KEYS[2] and redis.call('ZADD', KEYS[2], 0, ARGV[3]) or 0
redis.call('SET', KEYS[1], ARGV[2], unpack(ARGV, 4))
return added
