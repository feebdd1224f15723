-- KEYS: the value's key, the index if there is one. ARGV: the id[, the revision that was read]. Returns
-- how many values were destroyed, or nil where the revision is another.
if ARGV[2] then
  local stored = redis.pcall('GET', KEYS[1])
  if type(stored) ~= 'string' or redis.sha1hex(stored) ~= ARGV[2] then
    return false
  end
end
-- The index first: if a key of another type is in its place, nothing has changed yet.
if KEYS[2] then
  redis.call('ZREM', KEYS[2], ARGV[1])
end
return redis.call('DEL', KEYS[1])
