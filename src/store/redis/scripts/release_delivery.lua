-- Gives the lease of a receiver up.
--
-- KEYS[1] the delivery of the receiver   ARGV[1] the holder

if redis.call('HGET', KEYS[1], 'holder') == ARGV[1] then
  redis.call('HDEL', KEYS[1], 'holder', 'until')
end
