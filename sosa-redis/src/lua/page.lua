-- ARGV: the limit, and what else ZRANGE takes. Returns the last id that was read where there may be
-- more, and the ids that live. A replica that only reads lists as well, and repairs nothing.
local ids = redis.call('ZRANGE', KEYS[1], unpack(ARGV, 2))
return {#ids == tonumber(ARGV[1]) and ids[#ids], alive(ids, redis.pcall)}
