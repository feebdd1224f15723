-- ARGV: the limit[, the id behind which to start]. Without an id it starts behind the last sweep, which
-- left its place under the second key: that of an empty id, and so of no value. Returns how many ids
-- left the index, and the last that was read where there may be more.
local after = ARGV[2] or redis.call('GET', KEYS[2]) or ''
local ids = redis.call('ZRANGE', KEYS[1], '(' .. after, '+', 'BYLEX', 'LIMIT', 0, ARGV[1])
local last = #ids == tonumber(ARGV[1]) and ids[#ids]
local removed = #ids - #alive(ids, redis.call)
if not ARGV[2] then
  if last then
    -- For 30 days, so that a collection that is used no more leaves nothing behind.
    redis.pcall('SET', KEYS[2], last, 'EX', 2592000)
  else
    redis.call('DEL', KEYS[2])
  end
end
return {removed, last}
