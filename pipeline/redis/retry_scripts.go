package redis

import "github.com/redis/go-redis/v9"

// What is parked, of the stream s:
//
//	s:retries:delivery:<id>  HASH of one delivery; its id is event, observer and action
//	s:retries:due:<topic>    ZSET of what may be handed out for a topic, by due time in microseconds
//	s:retries:claimed        ZSET of what is handed out, by the time when its worker counts as dead
//	s:retries:lane:<lane>    ZSET of the deliveries of a lane, in order; only its first is due or claimed
//	s:retries:topics, :lanes SETs of those that are not empty
//	s:retries:since          ZSET of all deliveries, by the time when they were parked first
//	s:retries:alive          exists while a worker runs
//
// Of dead letters:
//
//	s:dead_letters               ZSET of their numbers by the time of the last failure, s:dead_letters:first by the first
//	s:dead_letters:letter:<n>    HASH of one dead letter
//	s:dead_letters:ids           HASH of the number of each delivery that has one
const prelude = `
local R, D = KEYS[1] .. ':retries', KEYS[1] .. ':dead_letters'
local function now()
  local t = redis.call('TIME')
  return t[1] * 1000000 + t[2]
end
local function key(id) return R .. ':delivery:' .. id end
local function letter(n) return D .. ':letter:' .. n end
local function show(id, topic, due)
  redis.call('ZADD', R .. ':due:' .. topic, due, id)
  redis.call('SADD', R .. ':topics', topic)
end
local function hide(id, topic)
  redis.call('ZREM', R .. ':claimed', id)
  redis.call('ZREM', R .. ':due:' .. topic, id)
  if redis.call('EXISTS', R .. ':due:' .. topic) == 0 then redis.call('SREM', R .. ':topics', topic) end
end
local function head(lane) return redis.call('ZRANGE', R .. ':lane:' .. lane, 0, 0)[1] end
local function leave(id, lane)
  if lane == '' then return end
  local first = head(lane) == id
  redis.call('ZREM', R .. ':lane:' .. lane, id)
  local following = head(lane)
  if not following then
    redis.call('SREM', R .. ':lanes', lane)
  elseif first then
    local e = redis.call('HMGET', key(following), 'topic', 'due')
    show(following, e[1], e[2])
  end
end
local function remove(id)
  local e = redis.call('HMGET', key(id), 'topic', 'lane')
  if not e[1] then return end
  hide(id, e[1])
  redis.call('DEL', key(id))
  redis.call('ZREM', R .. ':since', id)
  leave(id, e[2])
end
local function put(id, topic, lane, generation, entity, event, attempts, due)
  local old = redis.call('HMGET', key(id), 'lane', 'generation')
  if old[1] then
    hide(id, topic)
    if old[1] ~= lane then leave(id, old[1]) end
    generation = math.max(tonumber(generation), tonumber(old[2]))
  else
    redis.call('ZADD', R .. ':since', now(), id)
  end
  redis.call('HSET', key(id), 'topic', topic, 'lane', lane, 'generation', generation, 'entity', entity, 'event', event, 'attempts', attempts, 'due', due, 'starts', 0)
  if lane ~= '' and old[1] ~= lane then
    redis.call('ZADD', R .. ':lane:' .. lane, redis.call('INCR', R .. ':places'), id)
    redis.call('SADD', R .. ':lanes', lane)
  end
  if lane == '' or head(lane) == id then show(id, topic, due) end
end
local function bury(n, id)
  redis.call('DEL', letter(n))
  redis.call('ZREM', D, n)
  redis.call('ZREM', D .. ':first', n)
  redis.call('HDEL', D .. ':ids', id)
end
`

// parkDeliveries: what to do with those that are there; then eight values of each. Those of one call that are due together
// keep their order: each is due a microsecond after the one before.
var parkDeliveries = redis.NewScript(prelude + `
local t = now()
for i = 2, #ARGV, 8 do
  if ARGV[1] == 'replace' or redis.call('EXISTS', key(ARGV[i])) == 0 then
    put(ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4], ARGV[i + 5], ARGV[i + 6], t + ARGV[i + 7] + (i - 2) / 8)
  end
end
return 0`)

// claimRetries: lease, limit, whether a suspect may be taken, and the topics to leave alone. It returns what it took and for
// how long nothing else will be due, a second at most.
var claimRetries = redis.NewScript(prelude + `
local t, lease, room = now(), ARGV[1], tonumber(ARGV[2])
local busy, out, wait = {}, {}, 1000000
for i = 4, #ARGV do busy[ARGV[i]] = true end
redis.call('SET', R .. ':alive', 1, 'PX', math.ceil(lease / 1000))
local function take(id, starts)
  local e = redis.call('HMGET', key(id), 'topic', 'generation', 'entity', 'event', 'attempts', 'lane')
  local n = redis.call('INCR', R .. ':claims')
  redis.call('HSET', key(id), 'claim', n, 'starts', starts)
  hide(id, e[1])
  redis.call('ZADD', R .. ':claimed', t + lease, id)
  out[#out + 1] = {id, n, starts, tonumber(e[2]), e[3], e[4], e[5], e[6]}
  room = room - 1
end
if ARGV[3] == '1' then
  local suspect, starts = nil, -1
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', R .. ':claimed', '-inf', t)) do
    local e = redis.call('HMGET', key(id), 'topic', 'starts')
    if not busy[e[1]] and tonumber(e[2]) > starts then suspect, starts = id, tonumber(e[2]) end
  end
  if suspect then
    take(suspect, starts + 1)
    if starts > 0 then return {out, 0} end
  end
end
local found = {}
for _, topic in ipairs(redis.call('SMEMBERS', R .. ':topics')) do
  if not busy[topic] then
    local list = redis.call('ZRANGEBYSCORE', R .. ':due:' .. topic, '-inf', t, 'WITHSCORES', 'LIMIT', 0, room)
    for i = 1, #list, 2 do found[#found + 1] = {tonumber(list[i + 1]), list[i]} end
    local later = redis.call('ZRANGEBYSCORE', R .. ':due:' .. topic, string.format('(%.0f', t), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
    if later[2] then wait = math.min(wait, later[2] - t) end
  end
end
table.sort(found, function(a, b) return a[1] < b[1] or a[1] == b[1] and a[2] < b[2] end)
for i = 1, math.min(room, #found) do take(found[i][2], 0) end
return {out, wait}`)

// settleRetries: of each claim the id, the number, and "done" or the time until it is due again. With the delivery of a
// replay that is done goes its dead letter. What was parked or claimed anew meanwhile is left alone.
var settleRetries = redis.NewScript(prelude + `
local t = now()
for i = 1, #ARGV, 3 do
  local id = ARGV[i]
  local e = redis.call('HMGET', key(id), 'claim', 'topic', 'generation')
  if e[1] == ARGV[i + 1] and redis.call('ZSCORE', R .. ':claimed', id) then
    if ARGV[i + 2] == 'done' then
      remove(id)
      local n = redis.call('HGET', D .. ':ids', id)
      local l = n and redis.call('HMGET', letter(n), 'retrying', 'generation')
      if l and l[1] == '1' and tonumber(l[2]) <= tonumber(e[3]) then bury(n, id) end
    else
      hide(id, e[2])
      redis.call('HSET', key(id), 'due', t + ARGV[i + 2], 'starts', 0)
      show(id, e[2], t + ARGV[i + 2])
    end
  end
end
return 0`)

// renewRetries: lease, then id and number of each claim.
var renewRetries = redis.NewScript(prelude + `
local till = now() + ARGV[1]
redis.call('SET', R .. ':alive', 1, 'PX', math.ceil(ARGV[1] / 1000))
for i = 2, #ARGV, 2 do
  if redis.call('HGET', key(ARGV[i]), 'claim') == ARGV[i + 1] then redis.call('ZADD', R .. ':claimed', 'XX', till, ARGV[i]) end
end
return 0`)

var parkedLanes = redis.NewScript(prelude + `
local out = {}
for _, lane in ipairs(redis.call('SMEMBERS', R .. ':lanes')) do
  out[#out + 1] = lane
  out[#out + 1] = redis.call('ZCARD', R .. ':lane:' .. lane)
end
return out`)

// waitingSince counts the members of a ZSET by time, and tells the age of the first in microseconds.
var waitingSince = redis.NewScript(`
local t, first = redis.call('TIME'), redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
return {redis.call('ZCARD', KEYS[1]), first[2] and math.max(0, t[1] * 1000000 + t[2] - first[2]) or 0}`)
