-- Reads the state of one user.
--
-- After announce.lua, outages.lua and states.lua, which explain KEYS[1] to KEYS[9] and ARGV[1] to ARGV[5].
-- KEYS[10] the user's key           ARGV[6] userId
-- KEYS[11] the user's connections
-- the generations of last-seen times
-- Returns {1 if online, the last-seen time or -1, the status or '', its data or '', when it ends or 0, then of each
-- connection: the id, the deadline, the last ping, the TTL, 1 if the user is away, 1 if the connection leaves}.

local value = redis.call('GET', KEYS[10])
local deadline = redis.call('PEXPIRETIME', KEYS[10])
-- The clock may be a little later than the time by which Redis decided whether the key has expired.
local now = value and math.min(clock(), deadline) or clock()
local seen = -1

local connections = {}
if value and value ~= '*' then
  local id, each = only_connection(value, deadline)
  connections[id] = each
else
  connections = written(KEYS[11])
  local score = not next(connections) and redis.call('ZSCORE', KEYS[1], ARGV[6])
  if score then
    local time, number = parts(score)
    time = held_deadline(ARGV[6]) or time
    local _, each = recorded(ARGV[6], number)
    seen = math.max(seen, time - each.ttl)
  end
end

local state = state_of(ARGV[6])
end_status(now, state)
local answer = { value and 1 or 0, 0, state.status, state.data, state.ends }
for id, each in pairs(connections) do
  seen = math.max(seen, seen_at(each))
  if value and each.deadline >= now then
    local pinged = each.pinged or each.deadline - each.ttl
    local flags = { each.away and 1 or 0, each.left and 1 or 0 }
    for _, part in ipairs({ id, each.deadline, pinged, each.ttl, flags[1], flags[2] }) do
      answer[#answer + 1] = part
    end
  end
end
-- Of the stored last-seen times, only one that was written after `seen` can be later than `seen`.
local field, spread = place_of(ARGV[6])
answer[2] = math.min(math.max(seen, last_seen_of(field, spread, seen)), now)
return answer
