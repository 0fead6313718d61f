"""The atomic commands of the ring's nodes, as Lua scripts. They need Redis 7.0.

Each cached value has three keys: the value, its `lease` (the token of the reader that loads it) and
its `floor` (the lowest version that may still be stored).
"""

from typing import Final

# The version in the head of a stored value; nil if the head has none (placement.ring.values).
_VERSION: Final = """
local function version(stored)
  return type(stored) == 'string' and tonumber(string.match(stored, '^r2 (%d+) ') or '')
end
"""

# Return the value and its remaining life; on a miss, try to acquire the lease.
# KEYS: value, lease. ARGV: token, lease ms
GET_OR_LEASE: Final = """
local stored = redis.pcall('GET', KEYS[1])
if type(stored) == 'string' then return {stored, redis.call('PTTL', KEYS[1])} end
if redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then return {'', -3} end
return {'', -4}
"""

# Store a loaded value, unless the lease was lost or a newer version is known. Returns 1: stored,
# 0: the lease is lost, -1: too old, 2: an unversioned value was set in the meantime.
# KEYS: value, lease, floor. ARGV: token, version or '', value, life ms ('' for no limit),
#       the lease's purpose: 'miss' or 'refresh'
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

# Store a pair (version, value) without a lease, unless it is below the floor.
# KEYS: value, lease, floor. ARGV: version, value, life ms ('' for no limit), 'NX' or ''
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

# Ensure that no version below a floor is served or stored. A repeated call changes nothing: it must
# not revoke the lease of a reader that loads the newer version. DEL comes before SET: DEL
# succeeds even on a node without free memory.
# KEYS: each key's value, lease, floor. ARGV: the floors' life in ms, then each key's floor
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

# Return the sum as text: as a number of Lua it would be exact only up to 2^53.
# KEYS: value. ARGV: delta
INCREMENT: Final = """
local stored = redis.call('GET', KEYS[1])
if not stored then return false end
if not string.find(stored, '^%-?%d+$') then return redis.error_reply('NOCOUNTER') end
redis.call('INCRBY', KEYS[1], ARGV[1])
return redis.call('GET', KEYS[1])
"""

# KEYS: view. ARGV: expected ('' for none), next
SWAP: Final = """
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""
