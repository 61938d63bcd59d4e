-- Finds the commands that the Redis user may not run on the keys and the channel of the service, in a script or
-- outside.
--
-- KEYS[1] a key that never exists     ARGV[1] the bus channel
--                                     ARGV[2...] the commands with arguments; 'K' stands for the key
-- Returns the commands; none on a server that cannot tell.

local missing = {}
if not redis.acl_check_cmd then
  return missing
end
for i = 2, #ARGV do
  local words = {}
  for word in ARGV[i]:gmatch('%S+') do
    words[#words + 1] = word == 'K' and KEYS[1] or word
  end
  if not redis.acl_check_cmd(unpack(words)) then
    missing[#missing + 1] = ARGV[i]
  end
end
local sharded = ARGV[1]:find('{', 1, true) and 'S' or ''
if not redis.acl_check_cmd(sharded .. 'PUBLISH', ARGV[1], '') then
  missing[#missing + 1] = sharded .. 'PUBLISH'
end
if not redis.acl_check_cmd(sharded .. 'SUBSCRIBE', ARGV[1]) then
  missing[#missing + 1] = sharded .. 'SUBSCRIBE'
end
return missing
