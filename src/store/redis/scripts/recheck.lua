-- Corrects some announced users after the clock was set back or the states were lost: no deadline may be later than now
-- plus the granted TTL, the index must have the deadline of each user, and a user that is away must be announced as
-- away.
--
-- After announce.lua, outages.lua and states.lua, which explain KEYS[1] to KEYS[9] and ARGV[1] to ARGV[5].
-- KEYS[10] the place of the recheck   ARGV[6] the place at which these users were read
-- then for each user                ARGV[7] the next place; 0 at the end
--   the user's key                  then for each user
--   the user's connections            userId

local now = clock()

-- Shortens deadlines to now plus the TTL. Returns the latest deadline, and whether a connection is away.
local function capped(key)
  local last, is_away = 0, false
  for id, each in pairs(written(key)) do
    if each.deadline > now + each.ttl then
      each.deadline = now + each.ttl
      redis.call('HSET', key, id, text_of(each))
    end
    last, is_away = math.max(last, each.deadline), is_away or each.away
  end
  return last, is_away
end

-- The longest hold of a departure that begins now.
local function longest_wait(user, key, number)
  local longest = 0
  for _, each in pairs(written(key)) do
    longest = math.max(longest, wait_for_ping(each.interval))
  end
  return longest > 0 and longest or wait_for_ping(select(2, recorded(user, number)).interval)
end

for i = 8, #ARGV do
  local user, key, connections_key = ARGV[i], KEYS[2 * i - 5], KEYS[2 * i - 4]
  local score = redis.call('ZSCORE', KEYS[1], user)
  if score then
    local time, number = parts(score)
    local value = redis.call('GET', key)
    local held, is_prolonged = held_deadline(user)
    local last, is_away = capped(connections_key)
    if value then
      local deadline = redis.call('PEXPIRETIME', key)
      local _, only = only_connection(value)
      local most = value == '*' and last > 0 and last or now + only.ttl
      is_away = is_away or only.away
      if deadline > most then
        deadline = most
        redis.call('PEXPIREAT', key, deadline)
      end
      time = deadline
    elseif held then
      set_held(user, math.min(held, now), is_prolonged)
      time = math.min(time, now + longest_wait(user, connections_key, number))
    else
      time = math.min(time, now)
    end
    redis.call('ZADD', KEYS[1], 'XX', time + number / 4096, user)
    -- An early look at the state does no harm.
    if is_away then
      redis.call('ZADD', CHANGES, 'LT', now, user)
    else
      redis.call('ZADD', CHANGES, 'XX', 'LT', now, user)
    end
  end
end
tell_nearer()

-- Another instance may have continued, or the clock may have been set back again.
if redis.call('GET', KEYS[10]) == ARGV[6] then
  if ARGV[7] == '0' then
    redis.call('DEL', KEYS[10])
  else
    redis.call('SET', KEYS[10], ARGV[7])
  end
end
