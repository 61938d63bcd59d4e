-- Opens or refreshes a connection. An entry into the deadline index is the transition.
--
-- KEYS[4] the user's key            ARGV[3] userId
-- KEYS[5] the user's connections    ARGV[4] connectionId
--                                   ARGV[5] how long a connection lives, in ms
-- Returns {1 if the user became online, the connection's deadline}.

local now = clock()
local deadline = now + ARGV[5]
local value = redis.call('GET', KEYS[4])

if ARGV[4] == '1' and (value == '1' or not value) then
  redis.call('SET', KEYS[4], '1', 'PXAT', deadline)
else
  if value == '*' then
    redis.call('ZREMRANGEBYSCORE', KEYS[5], '-inf', '(' .. now)
  else
    redis.call('DEL', KEYS[5])
    if value then
      redis.call('ZADD', KEYS[5], redis.call('PEXPIRETIME', KEYS[4]), '1')
    end
  end
  redis.call('ZADD', KEYS[5], deadline, ARGV[4])
  redis.call('PEXPIREAT', KEYS[5], deadline)
  redis.call('SET', KEYS[4], '*', 'PXAT', deadline)
end

local entered = redis.call('ZADD', KEYS[1], 'NX', deadline, ARGV[3])
if entered == 1 then
  announce(now, { 'o ' .. now .. ' 0 ' .. ARGV[3] })
end
return { entered, deadline }
