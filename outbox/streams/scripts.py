"""The Lua scripts that run on the stream server. Each script runs atomically."""

from typing import Final

# Refuse if the cursor isn't at the expected value, check every key before the first write, add the
# entries, and move the cursor. See docs/outbox.md, "The script".
#
# KEYS: cursor, stream of partition 0, 1, …
# ARGV: expected at, next at, partitions, snapshot ('' unless a tick is complete), origin, tick,
#       the database's floor, then all entries in MessagePack (partition, row id, event, …): the
#       server handles one long argument in a fraction of the time of many short ones
PUBLISH: Final = """
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'none' and kind ~= 'hash' then return {'WRONGTYPE', KEYS[1]} end
local held = redis.call('HMGET', KEYS[1], 'at', 'partitions')
if (held[1] or '') ~= ARGV[1] then return {'CURSOR', held[1] or ''} end
if held[2] and held[2] ~= ARGV[3] then return {'PARTITIONS', held[2]} end
for i = 2, #KEYS do
  local kind = redis.call('TYPE', KEYS[i]).ok
  if kind == 'none' then
    if redis.call('HEXISTS', KEYS[1], 'p' .. (i - 2)) == 1 then return {'LOST', KEYS[i]} end
  elseif kind ~= 'stream' then
    return {'WRONGTYPE', KEYS[i]}
  end
end
if ARGV[1] == ARGV[2] and #ARGV == 7 then return {'OK'} end
local tops, entries = {}, #ARGV == 7 and {} or cmsgpack.unpack(ARGV[8])
for i = 1, #entries, 3 do
  local key, id = KEYS[entries[i] + 2], ARGV[6] .. '-' .. entries[i + 1]
  local field, follows = 'p' .. entries[i], true
  if not key then return {'PARTITION', entries[i + 1], tostring(entries[i])} end
  local added = redis.pcall('XADD', key, id, 'event', entries[i + 2])
  if type(added) == 'table' and added.err then
    if not string.find(added.err, 'equal or smaller', 1, true) then return added end
    if #redis.call('XRANGE', key, id, id) == 0 then return {'FOREIGN', key} end
    -- It is sent again. A higher top stays: its row may never be sent again.
    local top = redis.call('HGET', KEYS[1], field)
    follows = not top or #redis.call('XRANGE', key, '(' .. id, top, 'COUNT', 1) == 0
  end
  if follows then tops[field] = id end
end
local fields = {'at', ARGV[2], 'partitions', ARGV[3]}
if ARGV[4] ~= '' then
  fields = {'at', ARGV[2], 'partitions', ARGV[3],
            'snapshot', ARGV[4], 'origin', ARGV[5], 'complete', ARGV[6]}
end
-- On a server that lost all data, the floor is written with the first entries. Without the floor, a
-- consumer below it would assume that the first entries sent again directly follow its position.
if ARGV[1] == '' and tonumber(redis.call('HGET', KEYS[1], 'floor') or '0') < tonumber(ARGV[7]) then
  fields[#fields + 1] = 'floor'
  fields[#fields + 1] = ARGV[7]
end
for field, id in pairs(tops) do
  fields[#fields + 1] = field
  fields[#fields + 1] = id
end
redis.call('HSET', KEYS[1], unpack(fields))
return {'OK'}
"""

# Reset the cursor, so that the relay sends all rows above the floor again; entries that still exist
# are skipped. The streams that exist keep their tops: their rows may be deleted, and without a top
# consumers would move past entries that they haven't read.
# KEYS: cursor, a stream to delete (or the cursor again, for none), stream of partition 0, 1, …
# ARGV: expected at
REWIND: Final = """
if (redis.call('HGET', KEYS[1], 'at') or '') ~= ARGV[1] then return 0 end
if KEYS[2] ~= KEYS[1] then redis.call('DEL', KEYS[2]) end
redis.call('HDEL', KEYS[1], 'at', 'snapshot', 'origin', 'complete')
for i = 3, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 0 then redis.call('HDEL', KEYS[1], 'p' .. (i - 3)) end
end
return 1
"""

# Add a nudge unless one is waiting. KEYS: list
NUDGE: Final = "if redis.call('LLEN', KEYS[1]) == 0 then redis.call('RPUSH', KEYS[1], '') end"

# Raise the floor; a lower value changes nothing. KEYS: cursor; ARGV: floor
RAISE_FLOOR: Final = """
if tonumber(redis.call('HGET', KEYS[1], 'floor') or '0') < tonumber(ARGV[1]) then
  redis.call('HSET', KEYS[1], 'floor', ARGV[1])
end
"""

# Renew a member's lease by the server's clock; return the live members.
# KEYS: members; ARGV: member, lease ms
HEARTBEAT: Final = """
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
return redis.call('ZRANGE', KEYS[1], 0, -1)
"""

# Return the indexes of the calls that the server would refuse to this user. Runs none of them.
# ARGV: the calls in MessagePack, each with its arguments
DENIED: Final = """
local denied = {}
for index, call in ipairs(cmsgpack.unpack(ARGV[1])) do
  if not redis.acl_check_cmd(unpack(call)) then denied[#denied + 1] = index end
end
return denied
"""

# Return the number of entries after an id, up to a limit, and their first and last ids.
# KEYS: stream; ARGV: id, limit
COUNT_AFTER: Final = """
local found = redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', ARGV[2])
if #found == 0 then return {0, '', ''} end
return {#found, found[1][1], found[#found][1]}
"""
