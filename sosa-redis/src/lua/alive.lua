-- KEYS: the index, what the keys of its values start with. Returns those of the ids whose value is
-- there; in the same step the others leave the index, by `call` or `pcall`.
local function alive(ids, call)
  local found, gone = {}, {}
  for _, id in ipairs(ids) do
    if redis.call('EXISTS', KEYS[2] .. id) == 1 then
      found[#found + 1] = id
    else
      gone[#gone + 1] = id
    end
  end
  if #gone > 0 then
    call('ZREM', KEYS[1], unpack(gone))
  end
  return found
end
