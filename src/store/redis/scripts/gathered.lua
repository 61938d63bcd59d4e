-- Prelude of connect.lua and disconnect.lua, after announce.lua: what a script call reads and writes for all its calls
-- together. Each command has a fixed cost, so one command for all calls is much cheaper than one for each call.
--
-- KEYS[10] the shortened deadlines                     ARGV[7...] of each call the userId
-- KEYS[13...] of each call the user's key              then of each call the next argument
-- then of each call the user's connections             then of each call the last argument
-- then of each call the user's closed connections
-- then two other keys

local CALLS = (#ARGV - 6) / 3

-- The place before the first key and the first argument of each kind.
local USER_KEYS, HASHES, CLOSED = 12, 12 + CALLS, 12 + 2 * CALLS
local USERS, FIRST_ARGUMENTS, LAST_ARGUMENTS = 6, 6 + CALLS, 6 + 2 * CALLS

-- How long a shortened deadline is noted, in ms; see apply_shortened.lua.
local NOTED_FOR = 5000

-- What is written at the end: the scores of the users that enter the index, each followed by the user; the users that
-- leave the index; the keys that are deleted; the users whose scores are noted, each followed by the score; the events.
local entering, leaving, deleted, noted, events = {}, {}, {}, {}, {}

-- The epoch and the value of each user's key; the score of each user in the index, after the one of the member ''.
local values = redis.call('MGET', KEYS[3], unpack(KEYS, USER_KEYS + 1, HASHES))
local scores = redis.call('ZMSCORE', KEYS[1], '', unpack(ARGV, USERS + 1, FIRST_ARGUMENTS))

-- Neither the epoch nor the index was lost.
local is_whole = values[1] and scores[1]
known_epoch = is_whole and values[1]

-- Whether an earlier call is about the same user.
local repeated = {}
if CALLS > 1 then
  local is_known = {}
  for i = 1, CALLS do
    local user = ARGV[USERS + i]
    repeated[i], is_known[user] = is_known[user], true
  end
end

-- Whether any of the keys from one place to another exists.
local function some_exist(first, last)
  return redis.call('EXISTS', unpack(KEYS, first, last)) > 0
end

-- Notes the score of an announced user. A sweep that read another grant or a later deadline and has not written it yet
-- corrects its write by the note.
local function note(user, score)
  noted[#noted + 1], noted[#noted + 2] = user, score
end

-- Writes all but the events.
local function write_gathered(now)
  if entering[1] then
    redis.call('ZADD', KEYS[1], unpack(entering))
  end
  if leaving[1] then
    redis.call('ZREM', KEYS[1], unpack(leaving))
  end
  if deleted[1] then
    redis.call('DEL', unpack(deleted))
  end
  if noted[1] then
    local notes = KEYS[10]
    local last = redis.call('XREVRANGE', notes, '+', '-', 'COUNT', 1)[1]
    if last and tonumber(last[1]:match('%d+')) > now + NOTED_FOR then
      -- The clock was set back: these notes would stay until the clock has caught up.
      redis.call('DEL', notes)
    end
    redis.call('XADD', notes, 'MINID', as_text(now - NOTED_FOR), '*', unpack(noted))
    redis.call('PEXPIRE', notes, NOTED_FOR)
  end
  entering, leaving, deleted, noted = {}, {}, {}, {}
end

-- The value of the user's key and the score of the user, for one of the calls. An earlier call about the same user may
-- have changed them; then they are read again.
local function known_of(i, now)
  if not repeated[i] then
    return values[i + 1], scores[i + 1]
  end
  write_gathered(now)
  return redis.call('GET', KEYS[USER_KEYS + i]), redis.call('ZSCORE', KEYS[1], ARGV[USERS + i])
end

-- A call that is not usual, as connect_any.lua and disconnect_any.lua take it.
local function call_of(i, value, score)
  return {
    user = ARGV[USERS + i],
    key = KEYS[USER_KEYS + i],
    hash = KEYS[HASHES + i],
    closed = KEYS[CLOSED + i],
    value = value,
    score = score,
  }
end

-- The answer of one of several calls in a script call. The error of a call is its answer, so that the other calls run.
local function answer_of(run, call)
  local succeeded, answer = pcall(run, call)
  if succeeded then
    return answer
  end
  -- The error of a command is a table or a text that begins with the code of the error. An error of Lua has no code.
  local text = type(answer) == 'table' and answer.err or tostring(answer)
  text = text:gsub('^-', '')
  return { err = text:find('^%u+ ') and text or 'ERR ' .. text }
end

-- Runs all calls, which are given by their places, and returns their answers.
local function answers_of(run)
  local answers = {}
  for i = 1, CALLS do
    answers[i] = answer_of(run, i)
  end
  return answers
end
