-- Counts the announced users whose departure is not held, and names those of them who may be gone.
--
-- ARGV[5] how many due users to skip   ARGV[6] how many to look at
-- Returns {how many users, how many due users there are, the due users looked at...}.

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
