-- Whether users are members of a group.
--
-- After announce.lua, outages.lua and groups.lua, which explain KEYS[1] to KEYS[17] and ARGV[1] to ARGV[6].
-- ARGV[7] 'stored', 'announced' or 'now': which members count
-- ARGV[8...] the userIds
-- Returns 1 or 0 for each user.

local now = clock()

local function is_member(user)
  if is_stored(user) then
    return true
  end
  if ARGV[7] == 'stored' then
    return false
  end
  for id, seat in pairs(seats_of(user)) do
    if ARGV[7] == 'announced' or (tonumber(redis.call('ZSCORE', SEATS, seat_name(user, id, seat)) or 0) >= now) then
      return true
    end
  end
  return false
end

local answer = {}
for i = 8, #ARGV do
  answer[#answer + 1] = is_member(ARGV[i]) and 1 or 0
end
return answer
