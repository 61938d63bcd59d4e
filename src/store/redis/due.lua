-- Begins a sweep: says whether anybody is due, and notices when no instance has swept for too long.
--
-- KEYS[4] when the last sweep ran   ARGV[3] how long without a sweep is an outage, in ms
-- KEYS[5] exists during a grace     ARGV[4] how long expiries wait after an outage, in ms
-- Returns {now, epoch, newest event, announced users, ms left of the grace,
--          the next deadline or -1, how many are past theirs}.

local now = clock()
local swept = tonumber(redis.call('GET', KEYS[4]))
if swept and now - swept > tonumber(ARGV[3]) then
  redis.call('SET', KEYS[5], '1', 'PX', ARGV[4])
end
redis.call('SET', KEYS[4], now)

local grace = math.max(redis.call('PTTL', KEYS[5]), 0)
local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
local past = redis.call('ZCOUNT', KEYS[1], '-inf', '(' .. now)
return { now, epoch(), newest(), redis.call('ZCARD', KEYS[1]), grace, tonumber(first[2]) or -1, past }
