-- Prelude of the scripts that open and close connections, after last_seen.lua: the messages to the groups that a
-- connection leaves.
--
-- KEYS[11] the outbox    KEYS[12] the last stamp
--
-- A group may be in another partition, so the group learns by a message what a connection did. The outbox is a sorted
-- set of messages by time. It keeps each message until the group has received it. The instance that ran the call
-- delivers the message at once; if that instance dies first, the sweep of another instance delivers it.
--
-- A message is 'stamp ends kind', userId, connectionId and groupId, with the separator of ids between them. `ends` is
-- when the connection ends in the group, on the clock of this partition, or 0 for at once. `kind` is 'd' if the
-- connection was closed or omitted the group, and 's' if only its deadline was shortened.
--
-- Messages may arrive late or twice. Each has a stamp, a number that grows with each step of a connection. The group
-- ignores a message with an older stamp than the one that it knows.

local OUTBOX, LAST_STAMP = KEYS[11], KEYS[12]

-- A number that is greater than all stamps before. It is a time in microseconds, unless the clock was set back, so the
-- loss of the last stamp usually does no harm.
local function new_stamp()
  local time = redis.call('TIME')
  local last = tonumber(redis.call('GET', LAST_STAMP) or 0)
  local stamp = string.format('%.0f', math.max(time[1] * 1000000 + time[2], last + 1))
  redis.call('SET', LAST_STAMP, stamp)
  return stamp
end

local function send(messages, now, user, id, group, ends, kind)
  local head = new_stamp() .. string.format(' %.0f ', ends) .. kind
  local message = table.concat({ head, user, id, group }, '\31')
  redis.call('ZADD', OUTBOX, now, message)
  -- If this instance dies now, the others have to deliver the message.
  tell_nearer()
  messages[#messages + 1] = message
end

-- Tells the groups in the text `groups`, except those in the text `kept`, that a connection left them. Appends the
-- messages to `messages`.
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
