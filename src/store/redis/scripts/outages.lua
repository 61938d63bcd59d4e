-- Prelude of the scripts about connections, after announce.lua: the outages, and the hold of a departure after one.
--
-- KEYS[6] the time of the last sweep   ARGV[5] three times in ms: the shortest time without a sweep that is recorded;
-- KEYS[7] the outages                          until when the caller was ready to serve since its last sweep; and, only
--                                              if its process looks throttled, how long it stood still just now

-- A longer time without a sweep is an outage for every grant, in ms.
local LONG = 1500

local SHORTEST, COVERED_UNTIL, STOOD_STILL = ARGV[5]:match('^(%d+) (%d+) ?(%d*)$')
SHORTEST, COVERED_UNTIL, STOOD_STILL = tonumber(SHORTEST), tonumber(COVERED_UNTIL), tonumber(STOOD_STILL)

-- How long a process may take from the moment when it runs again until it sweeps, in ms.
local WAKES_UP = 1000

local MOST_OUTAGES = 1000
local OUTAGES_KEPT = 172800000

-- The first use of the data set, or nil before it.
local function first_use()
  local epoch = tonumber(redis.call('GET', KEYS[3]))
  return epoch and math.floor(epoch / 1000)
end

-- The end of the last time in which an instance was ready to serve: the last sweep or beat, or later if the caller was
-- ready since. Before the first sweep, it is the first use of the data set.
local function last_served(now)
  local swept = tonumber(redis.call('GET', KEYS[6])) or first_use()
  if swept and COVERED_UNTIL > swept and COVERED_UNTIL <= now then
    return COVERED_UNTIL
  end
  return swept
end

-- The mark of a time without a sweep in the record: ' throttled' if the process looks throttled and stood still all the
-- time, else ''.
local function mark(length)
  return STOOD_STILL and length <= STOOD_STILL + WAKES_UP and ' throttled' or ''
end

-- Records a time without a sweep. `throttled` is what `mark` returns.
local function record(from, to, throttled)
  redis.call('ZADD', KEYS[7], as_text(to), as_text(from) .. ' ' .. as_text(to) .. throttled)
  redis.call('PEXPIRE', KEYS[7], OUTAGES_KEPT)
end

-- Records the time without a sweep that ends now, if it is long enough. Whether it is an outage depends on each grant.
-- Returns when an instance was last ready to serve before now, or nil.
local function note_outage(now)
  local swept = last_served(now)
  if swept and now - swept > SHORTEST then
    record(swept, now, mark(now - swept))
    redis.call('ZREMRANGEBYRANK', KEYS[7], 0, -1 - MOST_OUTAGES)
    redis.call('SET', KEYS[6], now)
  end
  return swept
end

-- After the clock was set back: moves the outages that end in the future, so that the last of them ends now. Their
-- holds go on, and are no longer than one that begins now.
local function move_outages_back(now)
  local later = redis.call('ZRANGE', KEYS[7], '(' .. now, '+inf', 'BYSCORE', 'WITHSCORES')
  local step = (tonumber(later[#later]) or now) - now
  for i = 1, #later, 2 do
    local from, to, throttled = later[i]:match('^(%d+) (%d+)(.*)$')
    redis.call('ZREM', KEYS[7], later[i])
    record(from - step, to - step, throttled)
  end
end

-- All recorded outages in order of time, and one that is not recorded yet: the beginning, the end, and
-- ' throttled' or ''. The second value is the time of the last sweep.
local known_outages, last_sweep
local function outages(now)
  if not known_outages then
    known_outages = {}
    for i, outage in ipairs(redis.call('ZRANGE', KEYS[7], 0, -1)) do
      local from, to, throttled = outage:match('^(%d+) (%d+)(.*)$')
      known_outages[i] = { tonumber(from), tonumber(to), throttled }
    end
    last_sweep = last_served(now) or now
    if now - last_sweep > SHORTEST then
      known_outages[#known_outages + 1] = { last_sweep, now, mark(now - last_sweep) }
    end
  end
  return known_outages, last_sweep
end

-- The longest time that a client with this ping interval needs for a ping after an outage.
local function wait_for_ping(interval)
  return interval + math.min(math.max(math.floor(interval / 5), 500), 5000)
end

-- The longest time without a sweep that holds no departure with this grant. Such a time is one of two: a busy machine
-- explains it, and it leaves a part of the time between a missed ping and the deadline; or a client that pings at its
-- interval still pings before its deadline.
local function absorbed_by(ttl, interval)
  local short = math.max(SHORTEST, math.min(LONG, math.floor((ttl - interval) * 3 / 4)))
  return math.max(short, ttl - interval - wait_for_ping(interval))
end

-- Whether an outage and the one before it may be those of a process that runs only while it serves a request: both are
-- longer than `absorbed`, and the process ran only for a moment in between.
local function is_throttled(all, place, absorbed)
  local outage, before = all[place], all[place - 1]
  return outage[3] ~= '' and before and outage[2] - outage[1] > absorbed and before[2] - before[1] > absorbed
end

-- The end of a hold that began at `ended`, the end of an outage, of a connection with this deadline. Other outages
-- during the hold prolong it, except outages of a throttled process. The hold ends one wait after the deadline at most
-- or, if the deadline passed within the outage, two waits after the outage at most.
local function prolonged(now, ended, ttl, interval, deadline)
  local absorbed, wait, all = absorbed_by(ttl, interval), wait_for_ping(interval), outages(now)
  local over = ended + wait
  for i, outage in ipairs(all) do
    local from, to = outage[1], outage[2]
    if from >= over then
      break
    end
    if from >= ended and not is_throttled(all, i, absorbed) then
      over = over + to - from
    end
  end
  local latest = deadline < ended and ended + 2 * wait or deadline + wait
  return math.max(ended + wait, math.min(over, latest))
end

-- The assumed deadline of an only connection that has expired. Its deadline in the index was `time`, but pings extend
-- only the key. If the connection may have expired in an outage, it counts as expired just before the end of the
-- outage, else as expired just now.
local function assumed_deadline(now, time)
  local all = outages(now)
  local last = all[#all]
  return (last and last[2] >= time and math.min(last[2], now) or now) - 1
end

-- The end of the hold of a connection with this deadline; 0 if no outage holds it. The second value says whether the
-- end is final.
--
-- The last outage before the deadline counts that the grant does not absorb, and that left less than one wait before
-- the deadline. A wait is the interval and a margin. The hold ends one wait after the outage. If that time has passed,
-- other outages may prolong the hold. If the deadline passed within an outage of a throttled process, the hold ends one
-- wait after the deadline, and nothing prolongs it.
--
-- If `deadline` is only assumed, `reached` is a deadline that the connection had for sure. An outage that matters began
-- after the last ping, so the true deadline is then at most a TTL after that.
local function held_until(now, deadline, ttl, interval, reached)
  local absorbed, wait = absorbed_by(ttl, interval), wait_for_ping(interval)
  local sure = reached or deadline
  local all = outages(now)
  for i = #all, 1, -1 do
    local from, to = all[i][1], all[i][2]
    if to <= deadline - ttl then
      break
    end
    local expiry = reached and math.max(reached, math.min(deadline, from + ttl)) or deadline
    if from < deadline and to - from > absorbed and to + wait > expiry then
      if sure < to and is_throttled(all, i, absorbed) then
        return sure + wait, true
      end
      if to + wait > now then
        return to + wait, false
      end
      return prolonged(now, to, ttl, interval, sure), true
    end
  end
  return 0, false
end

-- The end of the hold of `each`, and whether it is final. A connection that leaves is not held.
local function hold_of(now, each)
  if each.left then
    return 0, false
  end
  return held_until(now, each.deadline, each.ttl, each.interval)
end

-- The last moment at which the user of a connection was known to be alive.
local function seen_at(each)
  return each.left or each.deadline - each.ttl
end

-- The latest end of the holds of some connections, or 0, and whether that hold is prolonged.
local function longest_hold(now, connections)
  local longest, is_prolonged = 0, false
  for _, each in pairs(connections) do
    local hold, over = hold_of(now, each)
    if hold > longest then
      longest, is_prolonged = hold, over
    end
  end
  return longest, is_prolonged
end

-- The deadline of a user whose departure is held, or nil, and whether the hold was prolonged. A hold is prolonged once;
-- the score then has a fraction.
local function held_deadline(user)
  local score = tonumber(redis.call('ZSCORE', KEYS[5], user) or nil)
  if score then
    return math.floor(score), score % 1 ~= 0
  end
end

-- Writes what `held_deadline` reads.
local function set_held(user, deadline, is_prolonged)
  redis.call('ZADD', KEYS[5], deadline + (is_prolonged and 0.5 or 0), user)
end

-- The end of the hold of a user that had one connection, `each`. The hold ended at `time`; if that has passed and other
-- outages were part of the hold, they prolong it. The second value says whether the hold is prolonged. `deadline` and
-- `is_prolonged` are what `held_deadline` returned.
local function held_again(now, time, each, deadline, is_prolonged)
  if is_prolonged or time > now then
    return time, is_prolonged
  end
  return prolonged(now, time - wait_for_ping(each.interval), each.ttl, each.interval, deadline), true
end
