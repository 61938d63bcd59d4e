-- Counts the announced users, and names those of them who may be gone.
--
-- ARGV[3] how many of those to skip    ARGV[4] how many to name at most
-- Returns {announced users, the due users...}.

local answer = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. clock(), 'LIMIT', ARGV[3], ARGV[4])
table.insert(answer, 1, redis.call('ZCARD', KEYS[1]))
return answer
