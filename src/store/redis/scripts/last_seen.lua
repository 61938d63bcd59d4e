-- Prelude of the scripts that write or read last-seen times, after connections.lua.
--
-- The last of KEYS: the generations of last-seen times
--
-- All users share a few hashes, which Redis stores as listpacks: a time takes about 20 bytes, whatever the length of
-- the userId. A field is 96 bits of the SHA-1 of the userId; its value is the time, in ms since the generation began.
-- A generation accepts times for a quarter of the retention. Then its hashes stay for the retention and expire, so no
-- script removes old times. When the hashes of a generation are full, a generation with more hashes begins at once.
--
-- The list of generations has 'began closes retention buckets' of each generation, the newest first. The hashes of a
-- generation are named <list>:<began>:<bucket>.

local GENERATIONS = KEYS[#KEYS]

-- The maximum number of times in a hash. Redis stores up to 128 as a listpack by default.
local MOST_IN_BUCKET = 100

-- The number of hashes of a generation; each step multiplies it by 4.
local FEWEST_BUCKETS = 16
local MOST_BUCKETS = 1048576

-- Only instances with many different retentions need so many generations.
local MOST_GENERATIONS = 64

-- The texts of all generations.
local known_texts
local function texts()
  known_texts = known_texts or redis.call('LRANGE', GENERATIONS, 0, -1)
  return known_texts
end

-- The generation that a text describes.
local known_generations = {}
local function generation_of(text)
  local found = known_generations[text]
  if not found then
    local began, closes, retention, buckets = text:match('^(%d+) (%d+) (%d+) (%d+)$')
    closes, retention = tonumber(closes), tonumber(retention)
    found = { name = GENERATIONS .. ':' .. began .. ':', began = tonumber(began), buckets = tonumber(buckets) }
    found.closes, found.retention, found.ends = closes, retention, closes + retention
    known_generations[text] = found
  end
  return found
end

local function bucket_of(generation, spread)
  return generation.name .. spread % generation.buckets
end

-- The average number of times in a hash of a generation, estimated from eight hashes.
local function fill_of(generation)
  local times = 0
  for number = 1, 8 do
    times = times + redis.call('HLEN', bucket_of(generation, number))
  end
  return times / 8
end

-- How long a generation accepts times, in ms.
local function period_of(retention)
  return math.ceil(retention / 4)
end

-- Begins a generation, and removes ended ones from the list.
local function begin_generation(now, retention, buckets)
  local all = texts()
  while all[1] and (generation_of(all[#all]).ends < now or #all >= MOST_GENERATIONS) do
    redis.call('RPOP', GENERATIONS)
    all[#all] = nil
  end
  -- Two generations never have the same name, even if the clock was set back.
  local began = math.max(now, all[1] and generation_of(all[1]).began + 1 or 0)
  local text = string.format('%.0f %.0f %.0f %.0f', began, now + period_of(retention), retention, buckets)
  redis.call('LPUSH', GENERATIONS, text)
  table.insert(all, 1, text)
  local last = 0
  for _, each in ipairs(all) do
    last = math.max(last, generation_of(each).ends)
  end
  redis.call('PEXPIREAT', GENERATIONS, last)
  return generation_of(text)
end

-- The generation that accepts times now.
local function open_generation(now, retention)
  for _, text in ipairs(texts()) do
    local each = generation_of(text)
    -- A generation that closes too late began before the clock was set back.
    if each.retention == retention and each.closes >= now and each.closes <= now + period_of(retention) then
      return each
    end
  end
  local newest = texts()[1] and generation_of(texts()[1])
  local buckets = newest and newest.buckets or FEWEST_BUCKETS
  if buckets > FEWEST_BUCKETS and fill_of(newest) < MOST_IN_BUCKET / 5 then
    buckets = buckets / 4
  end
  return begin_generation(now, retention, buckets)
end

-- The latest time of a user, or -1. Times that were written before `since` may be left out.
--
-- Of the generations with one retention, the newest one that has the user counts. An older one may have a later time
-- if the clock was set back.
local function last_seen_of(field, spread, since)
  local latest, ends_of_writing = -1, {}
  for _, text in ipairs(texts()) do
    local each = generation_of(text)
    local written_until = math.min(each.closes, ends_of_writing[each.retention] or each.closes)
    ends_of_writing[each.retention] = math.min(each.began, written_until)
    local age = written_until >= since and redis.call('HGET', bucket_of(each, spread), field)
    if age then
      latest = math.max(latest, each.began + age)
      ends_of_writing[each.retention] = -math.huge
    end
  end
  return latest
end

-- Begins another generation if the hashes of this one are full on average. Called when one of its hashes is full.
local function replace_full(now, generation, retention)
  if generation.buckets < MOST_BUCKETS and fill_of(generation) >= MOST_IN_BUCKET / 2 then
    begin_generation(now, retention, generation.buckets * 4)
  end
end

-- Writes the last-seen time of a user, unless the retention is 0.
local function keep_last_seen(now, field, spread, at, retention)
  if retention == 0 then
    return
  end
  local generation = open_generation(now, retention)
  local bucket = bucket_of(generation, spread)
  if redis.call('HSET', bucket, field, at - generation.began) == 0 then
    return
  end
  local times = redis.call('HLEN', bucket)
  if times == 1 then
    redis.call('PEXPIREAT', bucket, generation.ends)
  elseif times >= MOST_IN_BUCKET then
    replace_full(now, generation, retention)
  end
end
