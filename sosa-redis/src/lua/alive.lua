-- KEYS: the index, what the keys of its values start with. Returns those of the ids whose value is
-- there; in the same step the others leave the index, by `call` or `pcall`.
local function alive(ids, call)
  local keys = {}
  for i, id in ipairs(ids) do
    keys[i] = KEYS[2] .. id
  end
  if #ids == 0 or redis.call('EXISTS', unpack(keys)) == #ids then
    return ids
  end
  local found = {}
  for i, id in ipairs(ids) do
    if redis.call('EXISTS', keys[i]) == 1 then
      found[#found + 1] = id
    else
      call('ZREM', KEYS[1], id)
    end
  end
  return found
end
