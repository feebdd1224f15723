-- ARGV: the limit, and what else ZRANGE takes. Returns the last id that was read where there may be
-- more, and the ids that live. A replica that only reads lists as well, and repairs nothing.
local ids = redis.call('ZRANGE', KEYS[1], unpack(ARGV, 2))
local last = #ids == tonumber(ARGV[1]) and ids[#ids]
local keys = {}
for i, id in ipairs(ids) do
  keys[i] = KEYS[2] .. id
end
-- Asking for all at once is half the work, and mostly all are there.
if #ids > 0 and redis.call('EXISTS', unpack(keys)) < #ids then
  ids = alive(ids, redis.pcall)
end
return {last, ids}
