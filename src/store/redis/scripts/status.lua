-- Sets or clears the status of a user.
--
-- After announce.lua, outages.lua and states.lua, which explain KEYS[1] to KEYS[9] and ARGV[1] to ARGV[5].
-- ARGV[6] userId                    ARGV[9] how long the status lasts, in ms; 0 for ever
-- ARGV[7] the status, or empty      ARGV[10] how long the last-seen time is kept, in ms
-- ARGV[8] its data as JSON, or empty
-- Returns when the status ends, in ms, or 0.

local user, lasts = ARGV[6], tonumber(ARGV[9])
local now = clock()
local state = state_of(user)
local before = shown(state)
state.status, state.data = ARGV[7], ARGV[8]
state.ends = lasts > 0 and state.status ~= '' and now + lasts or 0
write_state(user, state)
if redis.call('ZSCORE', INDEX, user) then
  await_change(user, state.ends > 0 and state.ends or nil)
  if shown(state) ~= before then
    announce(now, { 'u ' .. now .. ' 0 ' .. user .. shown(state) })
  end
elseif state.status ~= '' then
  await_end(now, user, state, tonumber(ARGV[10]))
else
  redis.call('ZREM', CHANGES, user)
end
return state.ends
