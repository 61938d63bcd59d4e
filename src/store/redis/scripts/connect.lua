-- Opens or refreshes connections. A user that enters the deadline index goes online.
--
-- After announce.lua, outages.lua and states.lua, which explain KEYS[1] to KEYS[9] and ARGV[1] to ARGV[5].
-- KEYS[10] the shortened deadlines                     ARGV[6] the maximum number of live connections of one user
-- KEYS[11] the outbox                                  then of each call the userId
-- KEYS[12] the last stamp                              then of each call what the connection states:
-- then of each call the user's key                       'connectionId TTL away groups'; see connections.lua
-- then of each call the user's connections             then of each call 'connect' or 'ping'
-- then of each call the user's closed connections
-- Returns for each call {'entered' if the user went online, else 'stayed', the deadline of the connection, the stamp of
-- its groups or '', messages to groups...; see outbox.lua};
-- {'closed'} for a ping of a connection that leaves or was closed a moment ago; {'full'} at the maximum number of
-- connections; or the error of the call.
--
-- A *usual* call states nothing but an id, and one of two cases applies. Either the user is offline, and no other
-- connection of the user was closed a moment ago. Or the connection is the only one, and only its deadline changes.
--
-- This file has only the usual calls. connect_any.lua can run every call, and runs all others. It is the body of the
-- function any_call (scripts.rs), because Redis takes as long to create its functions as for a few usual calls. So they
-- are created only when a script call needs them.

local now = clock()
local deadline = now + ARGV[3]
local entered, stayed = { 'entered', deadline, '' }, { 'stayed', deadline, '' }

-- What the usual calls of a script call share. `prepare` sets it when the first of them needs it.
local number, number_text -- the number of the grant
local deadline_text, entry -- the deadline, and the score with this deadline and the grant
local online -- the beginning of an event
local states -- the states of the users, after that of the empty userId
local some_hash, some_marks -- whether any of the users has several connections, and whether any has closed ones
local function prepare()
  number = number_of(ARGV[3] .. ' ' .. ARGV[4])
  number_text, deadline_text = as_text(number), as_text(deadline)
  entry = string.format('%.17g', deadline + number / 4096)
  online = 'o ' .. as_text(now) .. ' 0 '
  states = redis.call('HMGET', KEYS[8], '', unpack(ARGV, USERS + 1, FIRST_ARGUMENTS))
  if some_exist(HASHES + 1, CLOSED + CALLS) then
    some_hash, some_marks = some_exist(HASHES + 1, CLOSED), some_exist(CLOSED + 1, CLOSED + CALLS)
  end
end

-- Writes the only connection of a user.
local function write(i, user, id)
  local key = KEYS[USER_KEYS + i]
  if id == '1' then
    redis.call('SET', key, number_text, 'PXAT', deadline_text)
    return
  end
  local value, field, spread = number_text .. ' ' .. id, place_of(user)
  redis.call('SET', key, value, 'PXAT', deadline_text)
  redis.call('HSET', record_bucket(spread), field, value)
end

-- Brings a user without a key online. Returns false, and does nothing, if the call is not usual.
local function enter(i, user, id)
  local mark, other
  if some_marks then
    local ids = redis.call('ZRANGE', KEYS[CLOSED + i], 0, 1)
    mark, other = ids[1], ids[2]
  end
  if other or mark and (mark ~= id or ARGV[LAST_ARGUMENTS + i] == 'ping') then
    return false
  end
  write(i, user, id)
  if mark then
    deleted[#deleted + 1] = KEYS[CLOSED + i]
    -- A sweep may have read the deadline from before the user went offline.
    note(user, entry)
  end
  entering[#entering + 1], entering[#entering + 2] = entry, user
  events[#events + 1] = online .. user
  return true
end

-- Extends the only connection of an online user, which stated the same before. Returns false, and does nothing, if the
-- call is not usual.
local function extend(i, user, id, score)
  local time, former_number = parts(score)
  if former_number ~= number or time > deadline or some_marks and some_exist(CLOSED + i, CLOSED + i)
    or redis.call('PEXPIRETIME', KEYS[USER_KEYS + i]) > deadline then
    return false
  end
  write(i, user, id)
  return true
end

-- The function that connect_any.lua returns, once a call has needed it.
local any

-- Runs a call and returns its answer.
local function connect(i)
  local user, stated = ARGV[USERS + i], ARGV[FIRST_ARGUMENTS + i]
  local value, score = known_of(i, now)
  local may_be_usual = is_whole and not repeated[i] and not value == not score and not stated:find('[ \31]')
  if may_be_usual and value then
    -- The key has the same id.
    may_be_usual = stated == '1' and not value:find('[ *]') or value:find(' ' .. stated, 1, true)
  end
  if may_be_usual then
    if not number then
      prepare()
    end
    if states[i + 1] or some_hash and some_exist(HASHES + i, HASHES + i) then
      -- The call is not usual: the user has a state, or may have several connections.
    elseif not value and enter(i, user, stated) then
      return entered
    elseif value and value == (stated == '1' and number_text or number_text .. ' ' .. stated)
      and extend(i, user, stated, score) then
      return stayed
    end
  end
  any = any or any_call(now)
  local call = call_of(i, value, score)
  call.stated, call.is_ping = stated, ARGV[LAST_ARGUMENTS + i] == 'ping'
  return any(call)
end

local answers = answers_of(connect)
write_gathered(now)
if number then
  note_delicate(tonumber(ARGV[3]), tonumber(ARGV[4]))
end
if events[1] then
  announce(now, events)
end
return answers
