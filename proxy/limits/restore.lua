-- What a process holds: leases are renewed, and after Redis has lost its memory the last minute with them.
-- ARGV: lease us, entries; for each: c | m | t, name of the subject, id, age us, tokens.
local lease = tonumber(ARGV[1])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local function exact(number) return string.format('%.0f', number) end
local at = 3
for _ = 1, tonumber(ARGV[2]) do
  local kind, name, id = ARGV[at], 'gateway:limits:' .. ARGV[at + 1], ARGV[at + 2]
  local since = exact(now - tonumber(ARGV[at + 3]))
  if kind == 'c' then
    redis.call('ZADD', name .. ':c', exact(now + lease), id)
    redis.call('PEXPIRE', name .. ':c', math.ceil(lease / 500))
  elseif kind == 'm' then
    redis.call('ZADD', name .. ':m', 'NX', since, id)
    redis.call('PEXPIRE', name .. ':m', 61000)
  elseif redis.call('ZADD', name .. ':t', 'NX', since, id) == 1 then
    redis.call('HSET', name .. ':a', id, ARGV[at + 4])
    redis.call('HINCRBY', name .. ':a', '', ARGV[at + 4])
    redis.call('PEXPIRE', name .. ':t', 61000)
    redis.call('PEXPIRE', name .. ':a', 61000)
  end
  at = at + 5
end
return 'OK'
