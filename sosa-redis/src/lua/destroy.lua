-- KEYS: the value's key[, the index]. ARGV: the revision that was read, the id. Returns nil where the
-- revision is another.
local stored = redis.pcall('GET', KEYS[1])
if type(stored) ~= 'string' or redis.sha1hex(stored) ~= ARGV[1] then
  return false
end
if KEYS[2] then
  redis.call('ZREM', KEYS[2], ARGV[2])
end
return redis.call('DEL', KEYS[1])
