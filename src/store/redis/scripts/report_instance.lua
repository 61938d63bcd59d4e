-- Records what an instance reports about itself, and forgets instances that are silent.
--
-- KEYS[1] the instances by the time of their reports   ARGV[1] the id of the instance
-- KEYS[2] the reports                                  ARGV[2] the report
-- KEYS[3] a key that never exists                      ARGV[3] how long a report counts, in ms
--                                                      ARGV[4] the most instances
--                                                      ARGV[5] how long the keys are kept, in ms

-- How many silent instances one call forgets.
local STEP = 100

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])

local function forget(ids)
  if #ids > 0 then
    redis.call('ZREM', KEYS[1], unpack(ids))
    redis.call('HDEL', KEYS[2], unpack(ids))
  end
end
forget(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[3], 'LIMIT', 0, STEP))
-- If the clock was set back, the reports from before are in the future. Instances that are alive report again.
forget(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf', 'LIMIT', 0, STEP))
local surplus = redis.call('ZCARD', KEYS[1]) - ARGV[4]
if surplus > 0 then
  forget(redis.call('ZRANGE', KEYS[1], 0, math.min(surplus, STEP) - 1))
end
redis.call('PEXPIRE', KEYS[1], ARGV[5])
redis.call('PEXPIRE', KEYS[2], ARGV[5])
