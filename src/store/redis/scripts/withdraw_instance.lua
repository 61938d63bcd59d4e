-- Removes the report of an instance that ends.
--
-- KEYS[1] the instances by the time of their reports   ARGV[1] the id of the instance
-- KEYS[2] the reports
-- KEYS[3] a key that never exists

redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
