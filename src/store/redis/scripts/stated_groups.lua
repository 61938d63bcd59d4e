-- Reads the groups that a user may belong to.
--
-- KEYS[10] the user's key           KEYS[12] the groups in which the user may be stored
-- KEYS[11] the user's connections   ARGV[6] userId
-- Returns the groups in which the user may be stored, and those that its connections state. Some may be repeated.

local groups = redis.call('ZRANGE', KEYS[12], 0, -1)
local value = redis.call('GET', KEYS[10])
local score = redis.call('ZSCORE', KEYS[1], ARGV[6])
local connections = connections_of(clock(), ARGV[6], KEYS[11], value, redis.call('PEXPIRETIME', KEYS[10]), score)
for _, each in pairs(connections) do
  for group in (each.groups or ''):gmatch('[^\31]+') do
    groups[#groups + 1] = group
  end
end
return groups
