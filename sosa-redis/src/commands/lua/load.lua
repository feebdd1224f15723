-- KEYS: those of values. ARGV: what GETEX takes, for one key that is touched. Returns the values, nil for
-- what is no string, and for each when it expires as PEXPIRETIME says it.
local values
if ARGV[1] then
  local is_string = redis.call('TYPE', KEYS[1]).ok == 'string'
  values = {is_string and redis.call('GETEX', KEYS[1], unpack(ARGV))}
else
  values = redis.call('MGET', unpack(KEYS))
end
local expires = {}
for i, key in ipairs(KEYS) do
  expires[i] = redis.call('PEXPIRETIME', key)
end
return {values, expires}
