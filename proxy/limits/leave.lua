-- A request has ended, was not sent after all, or no longer waits.
-- ARGV: leave | withdraw | unqueue, id, by how many tokens the estimate was off, subjects, budgets;
--   for each subject: name, counts tokens; for each budget: counter, spent, known with it.
-- Gives the counter of each budget.
local what, id, off = ARGV[1], ARGV[2], tonumber(ARGV[3])
local time = redis.call('TIME')
local present = string.format('%.0f', tonumber(time[1]) * 1000000 + tonumber(time[2]))
local at = 6
for _ = 1, tonumber(ARGV[4]) do
  local name = 'gateway:limits:' .. ARGV[at]
  if what ~= 'leave' then
    redis.call('ZREM', name .. ':q', id)
    redis.call('ZREM', name .. ':s', id)
  end
  if what ~= 'unqueue' then redis.call('ZREM', name .. ':c', id) end
  if what == 'withdraw' then redis.call('ZREM', name .. ':m', id) end
  if ARGV[at + 1] == '1' and off ~= 0 and what ~= 'unqueue' then
    local times, amounts = name .. ':t', name .. ':a'
    local by = 0
    if off > 0 then
      by = off
      redis.call('ZADD', times, present, id .. '+')
      redis.call('HSET', amounts, id .. '+', off)
    else
      local amount = tonumber(redis.call('HGET', amounts, id) or '0')
      by = math.max(off, -amount)
      if amount > 0 then redis.call('HINCRBY', amounts, id, by) end
    end
    if by ~= 0 then redis.call('HINCRBY', amounts, '', by) end
    redis.call('PEXPIRE', times, 61000)
    redis.call('PEXPIRE', amounts, 61000)
  end
  at = at + 2
end
local spent = {}
for _ = 1, tonumber(ARGV[5]) do
  local counter = 'gateway:spend:' .. ARGV[at]
  local sum
  -- A counter that Redis has lost begins at what the database knows.
  if redis.call('EXISTS', counter) == 1 then sum = redis.call('INCRBY', counter, ARGV[at + 1]) end
  if sum == nil or sum < tonumber(ARGV[at + 2]) then
    redis.call('SET', counter, ARGV[at + 2])
    sum = ARGV[at + 2]
  end
  redis.call('EXPIRE', counter, 3456000)
  spent[#spent + 1] = string.format('%.0f', tonumber(sum))
  at = at + 3
end
return spent
