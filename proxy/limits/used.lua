-- What stands in a subject's counters. ARGV: name, window us, budgets; for each: counter, known.
local name = 'gateway:limits:' .. ARGV[1]
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local since = string.format('(%.0f', now - tonumber(ARGV[2]))
local tokens = 0
for _, id in ipairs(redis.call('ZRANGEBYSCORE', name .. ':t', since, '+inf')) do
  tokens = tokens + tonumber(redis.call('HGET', name .. ':a', id) or '0')
end
local found = {
  redis.call('ZCOUNT', name .. ':m', since, '+inf'), tokens,
  redis.call('ZCOUNT', name .. ':c', string.format('(%.0f', now), '+inf'),
  redis.call('ZCARD', name .. ':q')
}
for budget = 1, tonumber(ARGV[3]) do
  local sum = tonumber(redis.call('GET', 'gateway:spend:' .. ARGV[2 + 2 * budget]) or '0')
  found[#found + 1] = string.format('%.0f', math.max(sum, tonumber(ARGV[3 + 2 * budget])))
end
return found
