-- Tells the former store of a move about one instance, and decides when the next store begins to answer.
--
-- KEYS[1] the move                               ARGV[1] the name of the instance
-- KEYS[2] the number of partitions, as text      ARGV[2] the data set of its next store; '?' if it is not known yet, ''
-- KEYS[3] a key that never exists                        if the instance has no next store
--                                                ARGV[3] 1 if a write did not reach the next store
--                                                ARGV[4] the longest life of a connection without a call, in ms
--                                                ARGV[5] the time of the last missing write before everything that
--                                                        no ping repeats was copied, or ''
--                                                ARGV[6] the text of KEYS[2] after the move
--                                                ARGV[7] where the next store is
--                                                ARGV[8] the channel on which the other instances are asked to report
-- Returns {{now, when the next store begins to answer or 0, the time of the last missing write,
--           how long all writes must have reached the next store, the number of instances,
--           how many of them do not write to the same next store, 1 if this instance must copy what no ping repeats},
--          the address of the next store once the move is decided, or ''}.

-- How long an instance counts after its last report, in ms.
local COUNTED = 5000

-- The least time between the last missing write and the copy, in ms. Calls that began before have ended.
local SETTLED = 5000

-- The least time between two reports of an instance that has no next store and is not asked, in ms.
local SELDOM = 60000

-- The time between the decision and the move, in ms. Every instance learns of the decision.
local NOTICE = 3000

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local id, next = ARGV[1], ARGV[2]
local is_known = next ~= '' and next ~= '?'

local move, read = {}, redis.call('HGETALL', KEYS[1])
for i = 1, #read, 2 do
  move[read[i]] = read[i + 1]
end

local function write(field, value)
  if move[field] ~= value then
    move[field] = value
    redis.call('HSET', KEYS[1], field, value)
  end
end

local function text(number)
  return string.format('%.0f', number)
end

local instances, others = 1, is_known and 0 or 1
for field, value in pairs(move) do
  local other = field:match('^i:(.*)$')
  if other and other ~= id then
    local ends, its_next = value:match('^(%d+) (.*)$')
    if tonumber(ends) < now then
      redis.call('HDEL', KEYS[1], field)
    else
      instances = instances + 1
      others = others + (its_next ~= next and 1 or 0)
    end
  end
end
write('i:' .. id, text(now + COUNTED) .. ' ' .. next)

-- A longer life counts for as long as connections may have it.
local life = tonumber(ARGV[4])
local longest, ends = (move.longest or '0 0'):match('^(%d+) (%d+)$')
if life >= tonumber(longest) or tonumber(ends) < now then
  longest = life
  -- An instance without a next store that is not asked reports seldom.
  write('longest', text(life) .. ' ' .. text(now + (next == '' and 2 * life + SELDOM or life)))
end

if next == '' or ARGV[3] == '1' or not move.incomplete or is_known and move.next ~= next then
  write('incomplete', text(now))
end
if is_known then
  write('next', next)
end
if next ~= '' then
  redis.call(ARGV[8]:find('{', 1, true) and 'SPUBLISH' or 'PUBLISH', ARGV[8], 'moving')
end
if ARGV[5] ~= '' then
  write('copied', ARGV[5])
end

local complete_for = now - tonumber(move.incomplete)
local is_copied = move.copied == move.incomplete
local copies = false
if is_known and others == 0 and not move.at then
  local is_filled = complete_for >= math.max(tonumber(longest), SETTLED)
  if is_filled and is_copied then
    write('at', text(now + NOTICE))
    write('to', ARGV[7])
    redis.call('SET', KEYS[2], ARGV[6])
  elseif is_filled then
    local ends, copier = (move.copier or '0 '):match('^(%d+) (.*)$')
    copies = copier == id or tonumber(ends) < now
    if copies then
      write('copier', text(now + COUNTED) .. ' ' .. id)
    end
  end
end
return {
  { now, tonumber(move.at or 0), tonumber(move.incomplete), tonumber(longest), instances, others, copies and 1 or 0 },
  move.to or '',
}
