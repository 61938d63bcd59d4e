-- Begins a sweep: says whether anybody is due, notices what happened to the clock and to other sweeps, and bounds
-- the history.
--
-- KEYS[8] where the recheck is         ARGV[6] the most bytes of the history
-- KEYS[9] deadlines that came nearer
-- Returns {now, epoch, newest event, announced users whose departure is not held, the number of the caller's grant,
--          the next time to look or -1, how many are past theirs, where the recheck is or -1}.

-- How far the clock may go back without notice, in ms.
local STEP = 100

-- The most bytes of an event in the history, with its part of what holds it.
local MOST_EVENT = 256

local now = clock()
local swept = note_outage(now)
if swept and swept > now + STEP then
  -- The clock was set back. Every time that was written down may lie too far ahead: a recheck looks at all.
  redis.call('ZREMRANGEBYSCORE', KEYS[7], '(' .. now, '+inf')
  redis.call('DEL', KEYS[9])
  redis.call('SET', KEYS[8], '0')
end

local most = tonumber(ARGV[6])
local length = redis.call('XLEN', KEYS[2])
if length * MOST_EVENT > most then
  local bytes = redis.pcall('MEMORY', 'USAGE', KEYS[2], 'SAMPLES', '20')
  if type(bytes) == 'number' and bytes > most then
    redis.call('XTRIM', KEYS[2], 'MAXLEN', '~', math.floor(length * most / bytes))
  end
end

local known = epoch()
local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
local is_time = first and first ~= 'inf'
redis.call('SET', KEYS[6], now)
return {
  now,
  known,
  newest(),
  redis.call('ZCARD', KEYS[1]) - 1 - redis.call('ZCARD', KEYS[5]),
  number_of(ARGV[3] .. ' ' .. ARGV[4]),
  is_time and (parts(first)) or -1,
  redis.call('ZCOUNT', KEYS[1], '-inf', '(' .. now),
  redis.call('GET', KEYS[8]) or '-1',
}
