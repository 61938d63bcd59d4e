-- Finds the announced users among some users, as of one event.
--
-- ARGV[5...] the userIds
-- Returns {epoch, newest event, the indices, from 0, of the announced users...}.

local known = epoch()
local answer = { known, newest() }
-- unpack accepts some thousand values at most.
for first = 5, #ARGV, 1000 do
  local last = math.min(first + 999, #ARGV)
  local scores = redis.call('ZMSCORE', KEYS[1], unpack(ARGV, first, last))
  for i = 1, last - first + 1 do
    if scores[i] then
      answer[#answer + 1] = first + i - 6
    end
  end
end
return answer
