-- Begins a sweep: says who is due, and notices when no instance has swept for too long.
--
-- KEYS[4] when the last sweep ran   ARGV[3] how long without a sweep is an outage, in ms
-- KEYS[5] exists during a grace     ARGV[4] how long expiries wait after an outage, in ms
--                                   ARGV[5] how many users to return at most
--                                   ARGV[6] how far ahead to look, in ms
-- Returns {now, epoch, newest event, announced users, ms left of the grace,
--          the next deadline or -1, 1 if more are due, the users to look at...}.
--
-- Pings do not touch the index, so a score may be older than the deadline. By looking a little
-- ahead every score is corrected before it comes due; then the score of a user who is found gone
-- is its deadline, and tells when it was last seen.

local now = clock()
local swept = tonumber(redis.call('GET', KEYS[4]))
if swept and now - swept > tonumber(ARGV[3]) then
  redis.call('SET', KEYS[5], '1', 'PX', ARGV[4])
end
redis.call('SET', KEYS[4], now)

local grace = math.max(redis.call('PTTL', KEYS[5]), 0)
local answer = { now, epoch(), newest(), redis.call('ZCARD', KEYS[1]), grace, -1, 0 }
local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
if first[1] then
  answer[6] = tonumber(first[2])
end
if grace == 0 and first[1] then
  local ahead = '(' .. now + ARGV[6]
  local users = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ahead, 'LIMIT', 0, ARGV[5])
  if #users == tonumber(ARGV[5]) and tonumber(redis.call('ZSCORE', KEYS[1], users[#users])) < now then
    answer[7] = 1
  end
  for i, user in ipairs(users) do
    answer[7 + i] = user
  end
end
return answer
