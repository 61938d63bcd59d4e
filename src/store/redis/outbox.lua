-- Prelude of the scripts that open and close connections, after last_seen.lua: the messages to the groups that a
-- connection leaves.
--
-- KEYS[11] the outbox    KEYS[12] the last stamp
--
-- A group may be in another partition, so what a connection did is a message to the group. The outbox keeps each message
-- until the group has it: a sorted set of messages by time. The instance of the call delivers the message at once; if it
-- dies before, the sweep of another instance does.
--
-- A message is 'stamp ends kind', userId, connectionId and groupId, with the separator of ids between them. `ends` is
-- when the connection ends in the group, on the clock of this partition, or 0 for at once. `kind` is 'd' if the
-- connection was closed or omitted the group, and 's' if only its deadline was shortened.
--
-- Messages may arrive late or twice. Each has a stamp, a number that grows with each step of a connection, and the group
-- ignores what is older than the stamp that it knows.

local OUTBOX, LAST_STAMP = KEYS[11], KEYS[12]

-- A number that is greater than all before: a time in microseconds, unless the clock was set back. A lost last stamp does
-- no harm then.
local function new_stamp()
  local time = redis.call('TIME')
  local last = tonumber(redis.call('GET', LAST_STAMP) or 0)
  local stamp = string.format('%.0f', math.max(time[1] * 1000000 + time[2], last + 1))
  redis.call('SET', LAST_STAMP, stamp)
  return stamp
end

local function send(messages, now, user, id, group, ends, kind)
  local message = new_stamp() .. string.format(' %.0f ', ends) .. kind .. '\31' .. table.concat({ user, id, group }, '\31')
  redis.call('ZADD', OUTBOX, now, message)
  messages[#messages + 1] = message
end

-- Tells the groups in the text `groups` that are not in the text `kept` that a connection left them. Appends the messages
-- to `messages`.
local function leave_groups(messages, now, user, id, groups, kept)
  local keeps = {}
  for group in kept:gmatch('[^\31]+') do
    keeps[group] = true
  end
  for group in groups:gmatch('[^\31]+') do
    if not keeps[group] then
      send(messages, now, user, id, group, 0, 'd')
    end
  end
end

-- Tells these groups that a connection ends at `ends`.
local function shorten_in_groups(messages, now, user, id, groups, ends, kind)
  for group in groups:gmatch('[^\31]+') do
    send(messages, now, user, id, group, ends, kind)
  end
end
