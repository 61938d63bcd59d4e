-- Prelude of the scripts about a group, after connections.lua.
--
-- KEYS[8] the stored members                                                                 ARGV[6] groupId
-- KEYS[9] the stored members from before the PUT under way that the PUT has not reached yet
-- KEYS[10] the rest of the list of the PUT under way
-- KEYS[11] the numbers of the PUTs of the group
-- KEYS[12] the groups with a PUT under way
-- KEYS[13] the seats of the group by deadline
-- KEYS[14] the users with seats
-- KEYS[15] the stamps of the connections that left a moment ago
-- KEYS[16] the groups with seats, each with a time not after the first end of a seat
-- KEYS[17] the key that never exists
--
-- A user is stored if it is in KEYS[8] or KEYS[9]; no user is in both. A connection that states the group has a seat. A
-- user is a member if it is stored or has a seat; see seats.lua. A list of ids is one text with the separator between
-- the ids. The separator is a control character, which ids do not have.

local MEMBERS, FORMER, COMING, NUMBERS, UNDER_WAY = KEYS[8], KEYS[9], KEYS[10], KEYS[11], KEYS[12]
local SEATS, SEATED, GONE, DUE_GROUPS = KEYS[13], KEYS[14], KEYS[15], KEYS[16]
local SEPARATOR = '\31'

-- unpack accepts some thousand values at most.
local PART = 1000

-- How many users one event names at most.
local USERS_PER_EVENT = 100

local group_id = ARGV[6]

local function ids_of(text)
  local ids = {}
  for id in text:gmatch('[^\31]+') do
    ids[#ids + 1] = id
  end
  return ids
end

-- Calls a command for all ids, in parts. Returns the replies of commands that reply with a list.
local function call_for(ids, command, ...)
  local replies = {}
  for first = 1, #ids, PART do
    local last = math.min(first + PART - 1, #ids)
    local arguments = { command, ... }
    for i = first, last do
      arguments[#arguments + 1] = ids[i]
    end
    local part = redis.call(unpack(arguments))
    if type(part) == 'table' then
      for _, reply in ipairs(part) do
        replies[#replies + 1] = reply
      end
    end
  end
  return replies
end

local function size()
  return redis.call('SCARD', MEMBERS) + redis.call('SCARD', FORMER)
end

-- The largest number of stored members that the group can have until the PUT under way ends.
local function size_at_most()
  return redis.call('SCARD', MEMBERS) + math.max(redis.call('SCARD', FORMER), redis.call('SCARD', COMING))
end

-- Divides ids into those of stored members and those of other users.
local function divided(ids)
  local stored, others = {}, {}
  local is_member = call_for(ids, 'SMISMEMBER', MEMBERS)
  local is_former = redis.call('EXISTS', FORMER) == 1 and call_for(ids, 'SMISMEMBER', FORMER)
  for i, id in ipairs(ids) do
    local is_stored = is_member[i] == 1 or is_former and is_former[i] == 1
    table.insert(is_stored and stored or others, id)
  end
  return stored, others
end

-- The events of users that joined, and of users that left: 'l at reason group', or 'j at group', and the ids. The id of
-- a user that joined follows a '+' if the user is announced, else a '-'. The reason is 'r', 'd' or 'e'
-- if users left.
local function member_events(now, joined, left, reason)
  local events = {}
  local function add(head, texts)
    for first = 1, #texts, USERS_PER_EVENT do
      local last = math.min(first + USERS_PER_EVENT - 1, #texts)
      events[#events + 1] = head .. group_id .. SEPARATOR .. table.concat(texts, SEPARATOR, first, last)
    end
  end
  add('l ' .. now .. ' ' .. (reason or '') .. ' ', left)
  local flagged = {}
  local scores = call_for(joined, 'ZMSCORE', KEYS[1])
  for i, user in ipairs(joined) do
    flagged[i] = (scores[i] and '+' or '-') .. user
  end
  add('j ' .. now .. ' ', flagged)
  return events
end

-- The users that have no seat.
local function without_seat(users)
  if redis.call('EXISTS', SEATED) == 0 then
    return users
  end
  local found, is_seated = {}, call_for(users, 'HMGET', SEATED)
  for i, user in ipairs(users) do
    if not is_seated[i] then
      found[#found + 1] = user
    end
  end
  return found
end

-- Announces users that are stored now, and users that are not stored any more. A user that has a seat is a member both
-- before and after, so nothing is announced of it.
local function announce_stored(now, joined, left)
  joined, left = without_seat(joined), without_seat(left)
  if joined[1] or left[1] then
    announce(now, member_events(now, joined, left, 'r'))
  end
end
