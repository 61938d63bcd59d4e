-- Follows upon re-arming users to deadlines that were read before: puts right whose came nearer since.
--
-- KEYS[1] the deadline index            ARGV[1] when the first of them was read, or before, in ms
-- KEYS[2] deadlines that came nearer

for _, entry in ipairs(redis.call('XRANGE', KEYS[2], ARGV[1], '+')) do
  local user, deadline = unpack(entry[2])
  redis.call('ZADD', KEYS[1], 'XX', 'LT', deadline, user)
end
