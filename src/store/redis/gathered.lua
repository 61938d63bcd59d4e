-- Prelude of the scripts that open and close connections, after outbox.lua: the calls of a script call, and what it reads
-- and writes for all of them together. A command costs more than its work, so one command for all calls costs a fraction
-- of one for each.
--
-- KEYS[10] the shortened deadlines          ARGV[7...] for each call
-- KEYS[13...] for each call                   userId
--   the user's key                            two arguments
--   the user's connections
--   the user's closed connections

local HELD, SHORTENED = KEYS[5], KEYS[10]
local FIRST_KEY, KEYS_OF_A_CALL = 13, 3
local FIRST_ARGUMENT, ARGUMENTS_OF_A_CALL = 7, 3

-- What is written at the end: the users that enter the index, each after the score; the users that leave the index; and the
-- keys that are deleted.
local entering, leaving, deleted = {}, {}, {}

local function write_gathered(now)
  if entering[1] then
    redis.call('ZADD', INDEX, unpack(entering))
  end
  if leaving[1] then
    redis.call('ZREM', INDEX, unpack(leaving))
  end
  if deleted[1] then
    redis.call('DEL', unpack(deleted))
  end
  write_notes(now, SHORTENED)
  entering, leaving, deleted = {}, {}, {}
end

-- Reads what an earlier call of the same user may have changed.
local function read_again(now, call)
  write_gathered(now)
  call.value, call.score = redis.call('GET', call.key), redis.call('ZSCORE', INDEX, call.user)
end

-- The calls, in their order. `value` is the value of the user's key, `score` the score of the user in the index; false
-- without one. Also reads the epoch, which nearly every script call needs.
local function read_calls()
  local calls, keys, users, is_known = {}, { KEYS[3] }, { '' }, {}
  local key = FIRST_KEY
  for i = FIRST_ARGUMENT, #ARGV, ARGUMENTS_OF_A_CALL do
    local place, user = #calls + 1, ARGV[i]
    -- A table with all fields from the start never grows.
    calls[place] = {
      user = user,
      key = KEYS[key],
      hash = KEYS[key + 1],
      closed = KEYS[key + 2],
      first = ARGV[i + 1],
      second = ARGV[i + 2],
      is_repeated = is_known[user] or false,
      value = false,
      score = false,
      may_have_hash = true,
      may_have_marks = true,
      id = false,
      mine = false,
      is_ping = false,
    }
    keys[place + 1], users[place + 1], is_known[user] = KEYS[key], user, true
    key = key + KEYS_OF_A_CALL
  end
  local values = redis.call('MGET', unpack(keys))
  local scores = redis.call('ZMSCORE', INDEX, unpack(users))
  known_epoch = scores[1] and values[1]
  for i, call in ipairs(calls) do
    call.value, call.score = values[i + 1], scores[i + 1]
  end
  if calls[2] then
    read_states_of(users)
  end
  return calls
end

-- Whether a key exists that some call has by one of these names.
local function some_exist(calls, ...)
  local keys = {}
  for _, name in ipairs({ ... }) do
    for _, call in ipairs(calls) do
      keys[#keys + 1] = call[name]
    end
  end
  return redis.call('EXISTS', unpack(keys)) > 0
end
