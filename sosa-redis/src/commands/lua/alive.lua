-- KEYS: the index, what the keys of its values start with. Returns those of the ids whose value is
-- there; in the same step the others leave the index, by `call` or `pcall`.
local function alive(ids, call)
  local found, gone, keys = {}, {}, {}
  for _, id in ipairs(ids) do
    local key = KEYS[2] .. id
    if redis.call('EXISTS', key) == 1 then
      found[#found + 1] = id
    else
      gone[#gone + 1] = id
      keys[#keys + 1] = key
    end
  end
  if #gone > 0 then
    -- In a shard, a value that is not here may still be on the node that its slot comes from. Then only
    -- a command on several keys, of which one is here, is refused.
    if string.sub(KEYS[1], -1) == '}' then
      redis.call('EXISTS', KEYS[1], unpack(keys))
    end
    call('ZREM', KEYS[1], unpack(gone))
  end
  return found
end
