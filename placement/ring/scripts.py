"""What the ring's nodes do in one atomic step. The commands are Redis 7.0's.

Keys of one cached value: the value, `lease` (who is loading it: a token), `floor` (the lowest
version that may still be stored).
"""

from typing import Final

# The version in a stored value's head; nil for one that has none (placement.ring.values).
_VERSION: Final = """
local function version(stored)
  return type(stored) == 'string' and tonumber(string.match(stored, '^r1 (%d+) ') or '')
end
"""

# The value and its remaining life, else the lease, else neither.
# KEYS: value, lease. ARGV: token, lease ms
LOOK: Final = """
local stored = redis.pcall('GET', KEYS[1])
if type(stored) == 'string' then return {stored, redis.call('PTTL', KEYS[1])} end
if redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then return {'', -3} end
return {'', -4}
"""

# Store what was loaded, unless the lease was lost or something newer is known: 1 stored,
# 0 the lease is somebody else's or gone, -1 too old, 2 somebody stored another value by hand.
# KEYS: value, lease, floor. ARGV: token, version or '', value, life ms ('' for ever),
#       what the lease was for: 'miss' or 'refresh'
FILL: Final = (
    _VERSION
    + """
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[2])
local stored = redis.pcall('GET', KEYS[1])
local new, held = tonumber(ARGV[2]), version(stored)
if new then
  local floor = tonumber(redis.call('GET', KEYS[3]) or '')
  if (floor and new < floor) or (held and new < held) then return -1 end
end
if ARGV[5] == 'miss' and not held and type(stored) == 'string' then return 2 end
if ARGV[4] == '' then redis.call('SET', KEYS[1], ARGV[3])
else redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4]) end
return 1
"""
)

# Store a pair (version, value) that nobody leased, unless it is below the floor.
# KEYS: value, lease, floor. ARGV: version, value, life ms ('' for ever), 'NX' or ''
PUT: Final = """
local floor = tonumber(redis.call('GET', KEYS[3]) or '')
if floor and tonumber(ARGV[1]) < floor then return 0 end
local words = {'SET', KEYS[1], ARGV[2]}
if ARGV[3] ~= '' then
  words[#words + 1] = 'PX'
  words[#words + 1] = ARGV[3]
end
if ARGV[4] ~= '' then words[#words + 1] = ARGV[4] end
return redis.call(unpack(words)) and 1 or 0
"""

# Nothing below its floor is served or stored from here on. A repetition changes nothing: it must
# not take the lease from whoever loads the newer value. Taking away comes first: it succeeds
# also on a node that has no memory left.
# KEYS: value, lease, floor of each. ARGV: the floors' life ms, then each one's floor
INVALIDATE: Final = (
    _VERSION
    + """
for i = 2, #ARGV do
  local value, lease, lowest = KEYS[3 * i - 5], KEYS[3 * i - 4], KEYS[3 * i - 3]
  local wanted, held = tonumber(ARGV[i]), version(redis.pcall('GET', value))
  if not held or held < wanted then redis.call('DEL', value) end
  local floor = tonumber(redis.call('GET', lowest) or '')
  if not floor or floor < wanted then
    redis.call('DEL', lease)
    redis.call('SET', lowest, ARGV[i], 'PX', ARGV[1])
  end
end
"""
)

# KEYS: lease. ARGV: token
RELEASE: Final = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""

# KEYS: value. ARGV: delta
COUNT: Final = """
if redis.call('EXISTS', KEYS[1]) == 0 then return false end
return redis.call('INCRBY', KEYS[1], ARGV[1])
"""

# KEYS: view. ARGV: expected ('' for none), next
SWAP: Final = """
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""
