-- Reads one user.
--
-- KEYS[4] the user's key            ARGV[3] userId
-- KEYS[5] the user's connections    ARGV[4] how long a connection lives, in ms
-- KEYS[6] when the user was seen
-- Returns {1 if online, last seen or -1, then connectionId, deadline of each connection}.

local value = redis.call('GET', KEYS[4])
if not value then
  local score = redis.call('ZSCORE', KEYS[1], ARGV[3])
  local seen = score and score - ARGV[4] or redis.call('GET', KEYS[6])
  return { 0, tonumber(seen) or -1 }
end

local deadline = redis.call('PEXPIRETIME', KEYS[4])
local answer = { 1, deadline - ARGV[4] }
if value == '1' then
  answer[3], answer[4] = '1', deadline
else
  local alive = redis.call('ZRANGEBYSCORE', KEYS[5], clock(), '+inf', 'WITHSCORES')
  for i = 1, #alive, 2 do
    answer[i + 2], answer[i + 3] = alive[i], tonumber(alive[i + 1])
  end
end
return answer
