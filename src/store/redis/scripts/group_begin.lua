-- Begins a PUT of many members, or with many members before it.
--
-- After announce.lua, outages.lua and groups.lua, which explain KEYS[1] to KEYS[17] and ARGV[1] to ARGV[6].
-- There are no others.
-- Returns the number of the PUT. Of two PUTs, the one with the greater number decides.

local number = redis.call('HINCRBY', NUMBERS, 'begun', 1)
-- The numbers are needed while a list may arrive.
redis.call('PEXPIRE', NUMBERS, 60000)
return number
