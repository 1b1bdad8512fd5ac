-- Take what one request needs of all its subjects, or nothing. The clock is Redis's own.
-- ARGV: id, is batch, tokens, nano-AIU, window us, lease us, queue limit, unseen us, subjects;
--   for each subject: name, requests, tokens, concurrency, budgets; for each budget: counter, limit, known.
-- Gives: outcome, kind, subject, budget, wait us, value, then the counter of each budget.
local BATCH = 4000000000000000
local id, batch = ARGV[1], ARGV[2] == '1'
local tokens, nano = tonumber(ARGV[3]), tonumber(ARGV[4])
local window, lease = tonumber(ARGV[5]), tonumber(ARGV[6])
local queue_limit, unseen = tonumber(ARGV[7]), tonumber(ARGV[8])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local function exact(number) return string.format('%.0f', number) end
local old, present = exact(now - window), exact(now)

local rooms, spent, refusal, blocked = {}, {}, nil, nil
local function refuse(...) if refusal == nil then refusal = {...} end end

-- What was written by a clock that has gone back since counts as now: nobody is locked out for longer.
local function no_future(key, latest)
  local newest = redis.call('ZREVRANGE', key, 0, 0, 'WITHSCORES')
  if newest[2] and tonumber(newest[2]) > latest then
    for _, member in ipairs(redis.call('ZRANGEBYSCORE', key, '(' .. exact(latest), '+inf')) do
      redis.call('ZADD', key, exact(latest), member)
    end
  end
end

local at = 10
for index = 0, tonumber(ARGV[9]) - 1 do
  local room = {
    name = 'gateway:limits:' .. ARGV[at], rpm = tonumber(ARGV[at + 1]),
    tpm = tonumber(ARGV[at + 2]), concurrency = tonumber(ARGV[at + 3])
  }
  rooms[#rooms + 1] = room
  local budgets = tonumber(ARGV[at + 4])
  at = at + 5
  for which = 0, budgets - 1 do
    local counter = 'gateway:spend:' .. ARGV[at]
    local limit, known = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
    local sum = tonumber(redis.call('GET', counter) or '0')
    if known > sum then
      sum = known
      redis.call('SET', counter, ARGV[at + 2], 'EX', 3456000)
    end
    spent[#spent + 1] = sum
    if limit > 0 then
      if sum >= limit then refuse('budget', index, which, 0, sum)
      elseif sum + nano > limit then refuse('estimate', index, which, 0, sum) end
    end
    at = at + 3
  end
  if room.rpm > 0 then
    local minute = room.name .. ':m'
    redis.call('ZREMRANGEBYSCORE', minute, '-inf', old)
    no_future(minute, now)
    local count = redis.call('ZCARD', minute)
    if count >= room.rpm then
      local first = redis.call('ZRANGE', minute, count - room.rpm, count - room.rpm, 'WITHSCORES')
      refuse('rpm', index, 0, tonumber(first[2]) + window - now, count)
    end
  end
  if room.tpm > 0 then
    local times, amounts = room.name .. ':t', room.name .. ':a'
    for _, gone in ipairs(redis.call('ZRANGEBYSCORE', times, '-inf', old)) do
      local amount = tonumber(redis.call('HGET', amounts, gone) or '0')
      redis.call('HDEL', amounts, gone)
      redis.call('HINCRBY', amounts, '', exact(-amount))
    end
    redis.call('ZREMRANGEBYSCORE', times, '-inf', old)
    no_future(times, now)
    local total = tonumber(redis.call('HGET', amounts, '') or '0')
    if tokens > room.tpm then
      refuse('tokens', index, 0, 0, tokens)
    elseif total >= room.tpm or total + tokens > room.tpm then
      local over, freed, wait = math.max(total + tokens - room.tpm, 1), 0, 0
      local entries = redis.call('ZRANGE', times, 0, -1, 'WITHSCORES')
      for entry = 1, #entries, 2 do
        local amount = tonumber(redis.call('HGET', amounts, entries[entry]) or '0')
        if amount > 0 then
          freed = freed + amount
          wait = tonumber(entries[entry + 1]) + window - now
          if freed >= over then break end
        end
      end
      refuse('tpm', index, 0, wait, total)
    end
  end
  if room.concurrency > 0 then
    local held, queue, seen = room.name .. ':c', room.name .. ':q', room.name .. ':s'
    redis.call('ZREMRANGEBYSCORE', held, '-inf', present)
    no_future(held, now + lease)
    for _, span in ipairs({{'-inf', exact(now - unseen)}, {exact(now + unseen), '+inf'}}) do
      for _, gone in ipairs(redis.call('ZRANGEBYSCORE', seen, span[1], span[2])) do
        redis.call('ZREM', seen, gone)
        redis.call('ZREM', queue, gone)
      end
    end
    local score = redis.call('ZSCORE', queue, id)
    room.score = score
    local ahead
    if score then ahead = redis.call('ZRANK', queue, id)
    elseif batch then ahead = redis.call('ZCARD', queue)
    else ahead = redis.call('ZCOUNT', queue, '-inf', '(' .. exact(BATCH)) end
    if blocked == nil and ahead >= room.concurrency - redis.call('ZCARD', held) then
      blocked = {index = index, room = room}
    end
  end
end

local function leave_queues(but)
  for _, room in ipairs(rooms) do
    if room.score and room ~= but then
      redis.call('ZREM', room.name .. ':q', id)
      redis.call('ZREM', room.name .. ':s', id)
    end
  end
end

local function answer(outcome, kind, index, which, wait, value)
  local reply = {outcome, kind, index, which, math.ceil(wait), value}
  for _, sum in ipairs(spent) do reply[#reply + 1] = exact(sum) end
  return reply
end

if refusal then
  leave_queues(nil)
  return answer('refused', refusal[1], refusal[2], refusal[3], refusal[4], refusal[5])
end

if blocked then
  local room = blocked.room
  local queue, seen = room.name .. ':q', room.name .. ':s'
  local score = room.score
  for _, other in ipairs(rooms) do score = score or other.score end
  if not score then
    local waiting = redis.call('ZCARD', queue)
    if waiting >= queue_limit then
      return answer('refused', 'concurrency', blocked.index, 0, 0, waiting)
    end
    score = exact(batch and now + BATCH or now)
  end
  leave_queues(room)
  redis.call('ZADD', queue, score, id)
  redis.call('ZADD', seen, present, id)
  redis.call('PEXPIRE', queue, 60000)
  redis.call('PEXPIRE', seen, 60000)
  return answer('queued', 'concurrency', blocked.index, 0, 0, redis.call('ZRANK', queue, id))
end

leave_queues(nil)
for _, room in ipairs(rooms) do
  if room.rpm > 0 then
    redis.call('ZADD', room.name .. ':m', present, id)
    redis.call('PEXPIRE', room.name .. ':m', 61000)
  end
  if room.tpm > 0 then
    redis.call('ZADD', room.name .. ':t', present, id)
    redis.call('HSET', room.name .. ':a', id, ARGV[3])
    redis.call('HINCRBY', room.name .. ':a', '', ARGV[3])
    redis.call('PEXPIRE', room.name .. ':t', 61000)
    redis.call('PEXPIRE', room.name .. ':a', 61000)
  end
  if room.concurrency > 0 then
    redis.call('ZADD', room.name .. ':c', exact(now + lease), id)
    redis.call('PEXPIRE', room.name .. ':c', math.ceil(lease / 500))
  end
end
return answer('granted', 'rpm', 0, 0, 0, 0)
