-- Prelude of connect_any.lua and disconnect_any.lua, after gathered.lua: the scores of users that stay announced.

-- Sets the score of an announced user to `time` and the grant with this number. Before, the key of the user expired
-- at `before`, and the score had the grant `former_number`.
local function set_score(user, before, former_number, time, number)
  local score = time + number / 4096
  local former = tonumber(redis.call('ZSCORE', KEYS[1], user) or nil)
  redis.call('ZADD', KEYS[1], 'XX', score, user)
  if former and score < former and redis.call('ZRANK', KEYS[1], user) == 0 then
    tell_nearer()
  end
  if before >= time or number ~= former_number then
    note(user, string.format('%.17g', score))
  end
end
