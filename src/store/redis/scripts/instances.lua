-- Reads the reports of the instances.
--
-- KEYS[1] the instances by the time of their reports   ARGV[1] how long a report counts, in ms
-- KEYS[2] the reports                                  ARGV[2] the most instances
-- KEYS[3] a key that never exists
-- Returns {id, report, …}, the newest report first.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ids = redis.call('ZREVRANGEBYSCORE', KEYS[1], '+inf', '(' .. now - ARGV[1], 'LIMIT', 0, ARGV[2])
if #ids == 0 then
  return {}
end
local found = {}
for place, report in ipairs(redis.call('HMGET', KEYS[2], unpack(ids))) do
  if report then
    found[#found + 1] = ids[place]
    found[#found + 1] = report
  end
end
return found
