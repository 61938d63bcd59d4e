-- Finds the commands that the Redis user may not run, within a script or without, on the keys and the channel of the service.
--
-- KEYS[1] a key that never exists     ARGV[1] the bus channel
--                                     ARGV[2...] the commands, some with a subcommand
-- Returns the commands; none on a server that cannot tell.

local missing = {}
if not redis.acl_check_cmd then
  return missing
end
for i = 2, #ARGV do
  local command, subcommand = ARGV[i]:match('^(%S+) ?(%S*)$')
  local allowed
  if subcommand ~= '' then
    allowed = redis.acl_check_cmd(command, subcommand, KEYS[1])
  else
    allowed = redis.acl_check_cmd(command, KEYS[1])
  end
  if not allowed then
    missing[#missing + 1] = ARGV[i]
  end
end
local publish = ARGV[1]:find('{', 1, true) and 'SPUBLISH' or 'PUBLISH'
if not redis.acl_check_cmd(publish, ARGV[1], '') then
  missing[#missing + 1] = publish
end
return missing
