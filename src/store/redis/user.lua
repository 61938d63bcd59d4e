-- Reads one user.
--
-- KEYS[4] the user's key            ARGV[3] userId
-- KEYS[5] the user's connections    ARGV[4] how long a connection lives, in ms
-- KEYS[6] when the user was seen
-- Returns {1 if online, last seen or -1, then connectionId, deadline of each connection}.

local value = redis.call('GET', KEYS[4])
local seen = tonumber(redis.call('GET', KEYS[6])) or -1
if not value then
  local score = redis.call('ZSCORE', KEYS[1], ARGV[3])
  return { 0, math.max(seen, score and score - ARGV[4] or -1) }
end

local deadline = redis.call('PEXPIRETIME', KEYS[4])
local answer = { 1, math.max(seen, deadline - ARGV[4]) }
if value == '1' then
  answer[3], answer[4] = '1', deadline
else
  -- The clock may be a little ahead of the moment by which Redis judged the key.
  local now = math.min(clock(), deadline)
  local alive = redis.call('ZRANGEBYSCORE', KEYS[5], now, '+inf', 'WITHSCORES')
  for i = 1, #alive, 2 do
    answer[i + 2], answer[i + 3] = alive[i], tonumber(alive[i + 1])
  end
end
return answer
