-- Closes one connection or all. An exit from the deadline index is the transition.
--
-- KEYS[4] the user's key            ARGV[3] userId
-- KEYS[5] the user's connections    ARGV[4] connectionId, empty for all
-- KEYS[6] when the user was seen    ARGV[5] how long that is kept, in ms; 0 for not at all
-- KEYS[7] deadlines that came nearer    ARGV[6] how long a connection lives, in ms
-- Returns {1 if another connection keeps the user online, 1 if the user became offline}.

local now = clock()
local value = redis.call('GET', KEYS[4])
local all = ARGV[4] == ''

if value == '1' and ARGV[4] ~= '1' and not all then
  return { 1, 0 }
end

if value == '*' and not all then
  redis.call('ZREMRANGEBYSCORE', KEYS[5], '-inf', '(' .. now)
  local closed = redis.call('ZREM', KEYS[5], ARGV[4])
  local last = redis.call('ZREVRANGE', KEYS[5], 0, 0, 'WITHSCORES')
  if last[1] then
    local deadline, before = last[2], redis.call('PEXPIRETIME', KEYS[4])
    if last[1] == '1' and redis.call('ZCARD', KEYS[5]) == 1 then
      redis.call('DEL', KEYS[5])
      redis.call('SET', KEYS[4], '1', 'PXAT', deadline)
    else
      redis.call('PEXPIREAT', KEYS[5], deadline)
      redis.call('PEXPIREAT', KEYS[4], deadline)
    end
    if closed == 1 and ARGV[5] ~= '0' then
      redis.call('SET', KEYS[6], now, 'PX', ARGV[5])
    end
    if tonumber(deadline) < before then
      -- The index must not look later than that, whatever a sweep has just read and not yet written
      -- down. What it read lies within the life of a connection, and does no harm any more after that.
      redis.call('ZADD', KEYS[1], 'XX', 'LT', deadline, ARGV[3])
      local last = redis.call('XREVRANGE', KEYS[7], '+', '-', 'COUNT', 1)[1]
      if last and tonumber(last[1]:match('%d+')) > now + ARGV[6] then
        -- The clock was set back by more than the life of a note: it would be amended by until that caught up.
        redis.call('DEL', KEYS[7])
      end
      redis.call('XADD', KEYS[7], 'MINID', now - ARGV[6], '*', ARGV[3], deadline)
      redis.call('PEXPIRE', KEYS[7], ARGV[6])
    end
    return { 1, 0 }
  end
end

redis.call('DEL', KEYS[4], KEYS[5])
local left = redis.call('ZREM', KEYS[1], ARGV[3])
if left == 1 then
  if ARGV[5] ~= '0' then
    redis.call('SET', KEYS[6], now, 'PX', ARGV[5])
  end
  announce(now, { 'd ' .. now .. ' ' .. now .. ' ' .. ARGV[3] })
end
return { 0, left }
