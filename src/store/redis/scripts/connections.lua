-- Prelude of the scripts about connections, after outages.lua: the format of connections.
--
-- The key of a user that has one connection holds what the connection last stated: 'number id TTL away groups'. These
-- are the number of the grant; the id; the TTL in ms, if the connection asked for one; 'away', if the user is away; and
-- the groups, each after the separator of ids. Only the number is there if the connection is the unnamed one and stated
-- nothing. The key of a user that has several connections, or one that leaves, holds '*'. The key expires with the last
-- connection.
--
-- If the key holds '*', the hash of connections has 'deadline TTL interval number' of each connection: three times in
-- ms, and the number of the grant; then ' away', if the user is away; then ' ~left pinged', if the connection leaves:
-- the time of its disconnect and of its last ping; then the groups. The hash outlives the key, because a sweep reads
-- there the grants of a user that is gone.
--
-- What an only connection stated is needed after its deadline, too. The score in the index has the number of the
-- grant. If the connection stated more, the record of the user is a copy of the key. The records of all users share
-- RECORD_BUCKETS hashes, which Redis stores as listpacks. A record is removed with the user's entry in the index.

local UNNAMED = '1'

-- How long the hash of connections outlives the last connection, in ms. A ping may leave the hash for half an hour
-- as it is; see extend.lua.
local AFTERLIFE = 5400000

-- How long the pings of a closed connection are refused, in ms.
local CLOSED_FOR = 10000

-- The longest grace period of a disconnect, in ms.
local LONGEST_GRACE = 60000

-- The connections in the hash, expired or not, by id.
local function written(key)
  local found, fields = {}, redis.call('HGETALL', key)
  for i = 1, #fields, 2 do
    local deadline, ttl, interval, number, away, left, pinged, groups =
      fields[i + 1]:match('^(%d+) (%d+) (%d+) (%d+) ?(%a*) ?~?(%d*) ?(%d*)(.*)$')
    found[fields[i]] = {
      deadline = tonumber(deadline),
      ttl = tonumber(ttl),
      interval = tonumber(interval),
      number = tonumber(number),
      away = away == 'away',
      left = tonumber(left),
      pinged = tonumber(pinged),
      groups = groups,
    }
  end
  return found
end

-- The text of a connection in the hash.
local function text_of(connection)
  local text = string.format('%.0f %.0f %.0f %.0f', connection.deadline, connection.ttl, connection.interval,
    connection.number)
  if connection.away then
    text = text .. ' away'
  end
  if connection.left then
    text = text .. string.format(' ~%.0f %.0f', connection.left, connection.pinged)
  end
  return text .. (connection.groups or '')
end

-- Reads 'id TTL away groups': the id, the TTL or nil, whether the user is away, and the text of the groups.
local function read_stated(text)
  local id, own_ttl, away, groups = text:match('^([^ \31]+) ?(%d*) ?(%a*)(.*)$')
  return id or UNNAMED, tonumber(own_ttl), away == 'away', groups or ''
end

-- Writes what `read_stated` reads.
local function stated_by(id, each)
  local own_ttl = each.own_ttl and string.format(' %.0f', each.own_ttl) or ''
  return id .. own_ttl .. (each.away and ' away' or '') .. (each.groups or '')
end

-- The interval of a connection with a TTL of its own: the ratio of interval and TTL is that of the grant.
local function scaled_interval(own_ttl, ttl, interval)
  return own_ttl == ttl and interval or math.max(math.floor(own_ttl * interval / ttl), 1)
end

-- The id and the connection in the key of a user that has one connection.
local function only_connection(value, deadline)
  local number, stated = value:match('^(%d+) ?(.*)$')
  local id, own_ttl, away, groups = read_stated(stated or '')
  local each = { number = tonumber(number) or 0, own_ttl = own_ttl, away = away, groups = groups, deadline = deadline }
  each.ttl, each.interval = grant(each.number)
  if own_ttl then
    each.ttl, each.interval = own_ttl, scaled_interval(own_ttl, each.ttl, each.interval)
  end
  return id, each
end

-- Writes the only connection of a user into the user's key and record. Returns whether there is a record.
local function write_only(user, key, id, each, deadline)
  local stated = stated_by(id, each)
  if stated == UNNAMED then
    redis.call('SET', key, as_text(each.number), 'PXAT', as_text(deadline))
    return false
  end
  local value = string.format('%.0f %s', each.number, stated)
  redis.call('SET', key, value, 'PXAT', as_text(deadline))
  local field, spread = place_of(user)
  redis.call('HSET', record_bucket(spread), field, value)
  return true
end

-- The id of the only connection of a user after its deadline, and the connection without a deadline. `number` is the
-- number of its grant.
local function recorded(user, number)
  local field, spread = place_of(user)
  local value = redis.call('HGET', record_bucket(spread), field)
  if value and tonumber(value:match('^%d+')) == number then
    return only_connection(value)
  end
  return only_connection(string.format('%.0f', number))
end

-- Removes the record of a user, if there is one. `value` is the value of the user's key, false after the deadline.
local function forget_record(user, value)
  if not value or value:find(' ', 1, true) then
    local field, spread = place_of(user)
    redis.call('HDEL', record_bucket(spread), field)
  end
end

-- Removes connections from the hash.
local function forget(key, ids)
  for _, id in ipairs(ids) do
    redis.call('HDEL', key, id)
  end
end

-- The id of the only connection of a user whose key has expired, and the connection with the deadline that leads to its
-- hold; nil if that hold is over. `score` is the score of the user in the index.
local function expired_only(now, user, score)
  local time, number = parts(score)
  local id, each = recorded(user, number)
  local held, is_prolonged = held_deadline(user)
  local hold
  if held then
    hold = held_again(now, time, each, held, is_prolonged)
    if hold < now then
      return nil
    end
    each.waits, each.deadline = held, math.min(time - wait_for_ping(each.interval), now) - 1
  else
    each.deadline = assumed_deadline(now, time)
    hold = math.max(hold_of(now, each), now + 1)
  end
  -- The connection may not have pinged since the deadline that is known for sure. The longer hold counts.
  local sure = held or time
  if held_until(now, sure, each.ttl, each.interval) >= hold then
    each.deadline = sure
  end
  return id, each
end

-- Returns three tables:
-- - the connections that are alive or held, by id;
-- - the connections that expired or whose hold ended since the last sweep, by id: an outage may have begun with that
--   sweep, and hold them or prolong their hold;
-- - the ids of all other connections in the hash, which have ended.
--
-- `value` and `deadline` are the value and the expiry of the key of the user, `score` is the score of the user in the
-- index; false if there is none.
local function connections_of(now, user, hash_key, value, deadline, score)
  if value and value ~= '*' then
    local id, each = only_connection(value, deadline)
    return { [id] = each }, {}, {}
  end
  local found, recent, ended = written(hash_key), {}, {}
  if not value and score and not next(found) then
    local id, each = expired_only(now, user, score)
    if id then
      found[id] = each
    end
  end
  for id, each in pairs(found) do
    local hold = each.deadline < now and not each.waits and hold_of(now, each)
    if hold and hold <= now then
      found[id] = nil
      if math.max(each.deadline, hold) >= select(2, outages(now)) then
        recent[id] = each
      else
        ended[#ended + 1] = id
      end
    end
  end
  return found, recent, ended
end

-- How many of these connections are alive, how many have expired, and the latest deadline of the alive ones.
local function tally(now, connections)
  local alive, waiting, last = 0, 0, 0
  for _, each in pairs(connections) do
    if each.deadline >= now then
      alive, last = alive + 1, math.max(last, each.deadline)
    else
      waiting = waiting + 1
    end
  end
  return alive, waiting, last
end
