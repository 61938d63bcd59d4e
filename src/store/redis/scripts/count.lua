-- Counts the announced users whose departure is not held, and returns those of them that may be offline.
--
-- After announce.lua, which explains KEYS[1] to KEYS[5] and ARGV[1] to ARGV[4].
-- ARGV[5] how many due users to skip   ARGV[6] how many due users to return
-- Returns {the number of users, the number of due users, the due users whose departure is not held...}.

local now = clock()
local due = redis.call('ZCOUNT', KEYS[1], '-inf', '(' .. now)
local announced = redis.call('ZCARD', KEYS[1]) - 1 - redis.call('ZCARD', KEYS[5])
local answer = { math.max(announced, 0), due }
local last = math.min(due, ARGV[5] + ARGV[6]) - 1
if ARGV[5] + 0 <= last then
  local users = redis.call('ZRANGE', KEYS[1], ARGV[5], last)
  local held = redis.call('ZMSCORE', KEYS[5], unpack(users))
  for i, user in ipairs(users) do
    if not held[i] then
      answer[#answer + 1] = user
    end
  end
end
return answer
