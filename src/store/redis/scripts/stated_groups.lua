-- Reads the groups of which a user may be an announced member.
--
-- After announce.lua, outages.lua and states.lua, which explain KEYS[1] to KEYS[9] and ARGV[1] to ARGV[5].
-- KEYS[10] the user's key           KEYS[12] the groups in which the user may be stored
-- KEYS[11] the user's connections   ARGV[6] userId
-- Returns the groups in which the user may be stored, and those that its connections state, also after their deadlines:
-- a membership is announced until a sweep ends it. Some groups may be repeated.

local groups = redis.call('ZRANGE', KEYS[12], 0, -1)

local function add_groups_of(connection)
  for group in (connection.groups or ''):gmatch('[^\31]+') do
    groups[#groups + 1] = group
  end
end

local value, score = redis.call('GET', KEYS[10]), redis.call('ZSCORE', KEYS[1], ARGV[6])
if value and value ~= '*' then
  add_groups_of(select(2, only_connection(value)))
elseif not value and score then
  add_groups_of(select(2, recorded(ARGV[6], select(2, parts(score)))))
end
for _, each in pairs(written(KEYS[11])) do
  add_groups_of(each)
end
return groups
