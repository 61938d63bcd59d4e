-- Prelude of the scripts about connections, after announce.lua: how they are written down, and how long a
-- departure waits after an outage.
--
-- KEYS[6] when the last sweep ran   ARGV[5] how long no sweep runs before that is recorded, in ms
-- KEYS[7] the outages
--
-- A user's key holds the number of a grant if the unnamed connection is the only one, else '*', and expires with
-- the last connection. The hash of connections then has 'deadline TTL interval' of each, in ms. It outlives
-- the user's key, because a sweep reads there what a user who is gone was granted.

local UNNAMED = '1'

-- How long the hash of connections outlives them.
local AFTERLIFE = 3600000

-- How long after its end a ping of a closed connection is refused.
local CLOSED_FOR = 10000

-- How long a deadline that came nearer is noted; see apply_shortened.lua.
local NOTED_FOR = 5000

-- So long without a sweep is no accident, for whatever grant.
local LONG = 1500

local MOST_OUTAGES = 1000
local OUTAGES_KEPT = 172800000

-- Records that no sweep ran until now, if that is so, and returns when the last one ran. Whether that is an outage
-- is decided for each grant.
local function note_outage(now)
  local swept = tonumber(redis.call('GET', KEYS[6]))
  if swept and now - swept > tonumber(ARGV[5]) then
    redis.call('ZADD', KEYS[7], now, swept .. ' ' .. now)
    redis.call('ZREMRANGEBYRANK', KEYS[7], 0, -1 - MOST_OUTAGES)
    redis.call('PEXPIRE', KEYS[7], OUTAGES_KEPT)
    redis.call('SET', KEYS[6], now)
  end
  return swept
end

-- All outages in the order of time, with the one that nobody has recorded yet, and when the last sweep ran.
local known_outages
local last_sweep = 0
local function outages(now)
  if not known_outages then
    known_outages = {}
    for i, outage in ipairs(redis.call('ZRANGE', KEYS[7], 0, -1)) do
      local from, to = outage:match('^(%d+) (%d+)$')
      known_outages[i] = { tonumber(from), tonumber(to) }
    end
    last_sweep = tonumber(redis.call('GET', KEYS[6])) or now
    if now - last_sweep > tonumber(ARGV[5]) then
      known_outages[#known_outages + 1] = { last_sweep, now }
    end
  end
  return known_outages
end

-- How long after an outage a client with this interval may need to ping.
local function patience(interval)
  return interval + math.min(math.max(math.floor(interval / 5), 500), 5000)
end

-- The longest time without a sweep that holds nobody: what the scheduling of a busy machine explains and leaves most
-- of the time between a missed ping and the deadline, and what a client that pings at its interval gets through in time.
local function absorbed_by(ttl, interval)
  local short = math.max(tonumber(ARGV[5]), math.min(LONG, math.floor((ttl - interval) * 3 / 4)))
  return math.max(short, ttl - interval - patience(interval))
end

-- Until when a departure waits in the end that was to wait for a time after an outage which ended at `ended`. What other
-- outages took of that time is given back, until one such time after the deadline or, if the outage outlasted that,
-- until two after the outage.
local function prolonged(now, ended, wait, deadline)
  local over = ended + wait
  for _, outage in ipairs(outages(now)) do
    local from, to = outage[1], outage[2]
    if from >= over then
      break
    end
    if from >= ended then
      over = over + to - from
    end
  end
  local latest = deadline < ended and ended + 2 * wait or deadline + wait
  return math.max(ended + wait, math.min(over, latest))
end

-- Until when the departure of a connection with this deadline waits: for its interval and a margin after the
-- first outage that it did not absorb; 0 if there is none. If that is over, it is prolonged, which is the second value.
-- `reached` is a deadline that the connection surely had, where the other is only assumed.
local function held_until(now, deadline, ttl, interval, reached)
  local absorbed = absorbed_by(ttl, interval)
  local first
  local all = outages(now)
  for i = #all, 1, -1 do
    local from, to = all[i][1], all[i][2]
    if to <= deadline - ttl then
      break
    end
    if from < deadline and to - from > absorbed then
      first = to
    end
  end
  if not first then
    return 0, false
  end
  local wait = patience(interval)
  if first + wait > now then
    return first + wait, false
  end
  return prolonged(now, first, wait, reached or deadline), true
end

-- Until when the departure of all of some connections waits, or 0, and whether that is prolonged.
local function longest_hold(now, connections)
  local longest, is_prolonged = 0, false
  for _, each in pairs(connections) do
    local hold, over = held_until(now, each.deadline, each.ttl, each.interval)
    if hold > longest then
      longest, is_prolonged = hold, over
    end
  end
  return longest, is_prolonged
end

-- The deadline of a user whose departure is held, or nil, and whether that is prolonged, which happens once: the score
-- has a fraction then.
local function held_deadline(user)
  local score = tonumber(redis.call('ZSCORE', KEYS[5], user) or nil)
  if score then
    return math.floor(score), score % 1 ~= 0
  end
end

-- Until when the departure of a user waits that is held until `time`, if the unnamed connection was the only one: longer
-- if other outages were part of that, which is the second value.
local function held_again(now, user, time, interval)
  local deadline, is_prolonged = held_deadline(user)
  if is_prolonged or time > now then
    return time, is_prolonged
  end
  local wait = patience(interval)
  return prolonged(now, time - wait, wait, deadline), true
end

-- What the hash of connections holds, expired or not: of each id its deadline, TTL and interval.
local function written(key)
  local found, fields = {}, redis.call('HGETALL', key)
  for i = 1, #fields, 2 do
    local deadline, ttl, interval = fields[i + 1]:match('^(%d+) (%d+) (%d+)$')
    found[fields[i]] = { deadline = tonumber(deadline), ttl = tonumber(ttl), interval = tonumber(interval) }
  end
  return found
end

-- The form in which the hash holds a connection.
local function text_of(connection)
  return string.format('%.0f %.0f %.0f', connection.deadline, connection.ttl, connection.interval)
end

-- Takes connections out of the hash.
local function forget(key, ids)
  for _, id in ipairs(ids) do
    redis.call('HDEL', key, id)
  end
end

-- The connections of a user that live, and those that expired and may still ping after an outage.
--
-- `value` is what the user's key holds, `score` the user's score in the index, or false. Also returns those that
-- expired since the last sweep, because an outage may have begun with that; and the ids of all others in the hash,
-- which count no more.
local function connections_of(now, user, user_key, hash_key, value, score)
  if value and value ~= '*' then
    local ttl, interval = grant(value)
    local deadline = redis.call('PEXPIRETIME', user_key)
    return { [UNNAMED] = { deadline = deadline, ttl = ttl, interval = interval } }, {}, {}
  end
  local found, recent, ended = written(hash_key), {}, {}
  if not value and score and not next(found) then
    -- Only the unnamed connection was there. When it last pinged is not known exactly, so it counts as one that
    -- expired only now or, if its departure is held, at the end of the outage.
    local time, number = parts(score)
    local ttl, interval = grant(number)
    local held = held_deadline(user)
    local ended = time - patience(interval)
    if not held or held_again(now, user, time, interval) >= now then
      local deadline = held and math.min(ended, now - 1) or now - 1
      found[UNNAMED] = { deadline = deadline, ttl = ttl, interval = interval, waits = held }
    end
  end
  for id, each in pairs(found) do
    local is_over = each.deadline < now and not each.waits
    if is_over and held_until(now, each.deadline, each.ttl, each.interval) <= now then
      found[id] = nil
      if each.deadline >= last_sweep then
        recent[id] = each
      else
        ended[#ended + 1] = id
      end
    end
  end
  return found, recent, ended
end

-- How many of some connections live, how many may still ping, and the last deadline of the living.
local function tally(now, connections)
  local living, waiting, last = 0, 0, 0
  for _, each in pairs(connections) do
    if each.deadline >= now then
      living, last = living + 1, math.max(last, each.deadline)
    else
      waiting = waiting + 1
    end
  end
  return living, waiting, last
end

-- Notes the score of an announced user in the stream `notes`, for a sweep that read another one or a later deadline
-- and has not yet written it down: it would undo what was changed since.
local function note(now, notes, user, score)
  local last = redis.call('XREVRANGE', notes, '+', '-', 'COUNT', 1)[1]
  if last and tonumber(last[1]:match('%d+')) > now + NOTED_FOR then
    -- The clock was set back: the note would count until the clock has caught up.
    redis.call('DEL', notes)
  end
  redis.call('XADD', notes, 'MINID', now - NOTED_FOR, '*', user, score)
  redis.call('PEXPIRE', notes, NOTED_FOR)
end

-- Makes the index look at an announced user at `time`, and gives the score the fraction of the grant with this
-- number. The user's key lived until `before`, and the score had the fraction of `former_number`.
local function look_at(now, notes, user, before, former_number, time, number)
  local score = time + number / 4096
  redis.call('ZADD', KEYS[1], 'XX', score, user)
  if before >= time or number ~= former_number then
    note(now, notes, user, score)
  end
end
