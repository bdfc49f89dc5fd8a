// The scripts by which a log in Redis writes and reads, the keys that they use, and what they store there.
// Needs `redis-lua.ts` beside it.
//
// They use: CLUSTER MYID and NODES (in a cluster), EXISTS, HDEL, HGET, HLEN, HMGET, HSET, INFO, LINDEX, LLEN, LPOP,
// PERSIST, PEXPIRE, RENAME, RPUSH, TIME, UNLINK, XADD, XLEN, XRANGE, XREVRANGE, XTRIM, ZADD, ZCARD, ZRANGE,
// ZRANGEBYLEX, ZREM, ZSCORE and ZUNIONSTORE. The log itself sends EVALSHA, EVAL, XREAD, ZRANGE and WAIT, and to verify
// a server INFO and TYPE.
//
// What a script has written stays, also where it fails. So a command by which it learns of a wrong type, and the
// one by which it learns that nothing can be written, comes before all that it changes.

import {
  ANSWERS,
  FEEDING,
  HISTORY,
  LOOKING,
  NUMBERS,
  ORDER,
  type Script,
  script,
  UNPACK,
} from './redis-lua.ts';

export type { Script } from './redis-lua.ts';

/**
 * The keys of one hub. They share a hash tag, and so the slot of a cluster.
 *
 * - `meta`: a hash with the epoch, its head, and whose order it is.
 * - `feed`: a stream with what happened last, for all nodes. The id of an entry is its place.
 * - `index`: a sorted set of topics by `4 × last seq + state`.
 * - `names`: the same topics by name, all with the score 0.
 * - `stale`: topics of older epochs, whose keys are still to be removed.
 * - `requests` and `ages`: what was appended with an idempotency key, and when.
 * - `trial`: what is there only while a server is verified.
 */
export interface RedisKeys {
  readonly meta: string;
  readonly feed: string;
  readonly index: string;
  readonly names: string;
  readonly stale: string;
  readonly requests: string;
  readonly ages: string;
  readonly trial: string;
  /** A list of the events of a topic: `<seq> <prev> <at> <bytes before> <key as JSON, or nothing>\n<frame>`. */
  history(topic: string): string;
  /** A hash of the newest seq of each key of a topic. */
  newest(topic: string): string;
  /** A hash of the newest answers to a node. */
  answers(node: string): string;
}

export function redisKeys(name: string): RedisKeys {
  const key = (suffix: string): string => `{${name}}:${suffix}`;
  return {
    meta: key('meta'),
    feed: key('feed'),
    index: key('index'),
    names: key('names'),
    stale: key('stale'),
    requests: key('requests'),
    ages: key('ages'),
    trial: key('trial'),
    history: (topic) => key(`t:${topic}`),
    newest: (topic) => key(`k:${topic}`),
    answers: (node) => key(`n:${node}`),
  };
}

/**
 * Begins a new epoch where the order may be another one.
 *
 * KEYS: meta, feed, index, names, stale. ARGV: lineage, known epoch, known seq, and an epoch that cannot go
 * on (or 0). Answers `OK`, epoch, head, ends, number of topics, number of stale ones.
 */
export const checkScript: Script = script(
  NUMBERS,
  UNPACK,
  ORDER,
  `
call('ZCARD', INDEX)
call('ZCARD', NAMES)
top_of_feed()
local meta, refusal = open_order(ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]))
if not meta then return refusal end
save_identity(meta)
return { 'OK', num(meta.epoch), num(meta.head), meta.ends, num(call('ZCARD', INDEX)), num(call('ZCARD', STALE)) }
`,
);

/**
 * Appends events of topics. Those of one topic are appended together or not at all.
 *
 * KEYS: meta, feed, index, names, stale, the node's answers, requests, ages; then for each topic its history
 * and newest. ARGV: lineage, known epoch, known seq, counter, most events and bytes of the feed, age of answers,
 * digest of the idempotency key (or nothing), digest of the request, most age and number of requests, number of
 * topics; then for each topic its name, most events, bytes and age (or nothing), the id of the event behind which to append
 * (or nothing), and number of events; then for
 * each event its time, key and frame. With an idempotency key there is one topic. Answers `OK`, epoch, how many
 * topics there are (0 where none is new), and for each topic the first seq and the count. Where the count is 0, the
 * topic was refused, and instead of the seq comes `ENDED`, `MOVED` or an error. Or `CONFLICT`, `STALE`, `SPOILED`.
 */
export const appendScript: Script = script(
  NUMBERS,
  UNPACK,
  HISTORY,
  ORDER,
  FEEDING,
  ANSWERS,
  `
local ANSWERS, REQUESTS, AGES = KEYS[6], KEYS[7], KEYS[8]
local lineage, known_epoch, known_seq, counter = unpack(ARGV, 1, 4)
local max_fed, max_fed_bytes, answers_age = unpack(ARGV, 5, 7)
local request, digest, max_request_age, max_requests = unpack(ARGV, 8, 11)

local function first_answer()
  if request == '' then return nil end
  call('ZCARD', AGES)
  local kept = call('HGET', REQUESTS, request)
  if not kept then return nil end
  local at, epoch, first, of, asked = string.match(kept, '(%d+) (%d+) (%d+) (%d+) (.*)')
  if tonumber(at) + tonumber(max_request_age) < now() then return nil end
  if asked ~= digest then return { 'CONFLICT' } end
  -- A node that waits for replicas does so with its key, also where another node has run the request.
  redis.pcall('HSET', ANSWERS, 'known', '1')
  redis.pcall('PEXPIRE', ANSWERS, answers_age)
  return { 'OK', epoch, '0', first, of }
end

-- Some of those that are too old or too many, and never more than a few at a time.
local function forget_requests()
  for _ = 1, 8 do
    local oldest, at = unpack(call('ZRANGE', AGES, '0', '0', 'WITHSCORES'))
    if not oldest then return end
    local is_old = tonumber(at) + tonumber(max_request_age) < now()
    if not is_old and call('ZCARD', AGES) <= tonumber(max_requests) then return end
    call('ZREM', AGES, oldest)
    call('HDEL', REQUESTS, oldest)
  end
end

local function keep_request(epoch, first, count)
  local at = num(now())
  call('HSET', REQUESTS, request, table.concat({ at, num(epoch), first, count, digest }, ' '))
  call('ZADD', AGES, at, request)
  call('PEXPIRE', REQUESTS, max_request_age)
  call('PEXPIRE', AGES, max_request_age)
  forget_requests()
end

-- Removes the oldest events beyond the limits. Never the newest one, and not without end.
local function trim(topic, len, total, steps)
  local most, bytes, oldest = tonumber(topic.max_events), tonumber(topic.max_bytes), nil
  if topic.max_age ~= '' then oldest = now() - tonumber(topic.max_age) end
  while len > 1 and steps > 0 and (len > most or total > bytes or oldest) do
    local e = entry(topic.list, 0)
    if len <= most and total - e.before <= bytes and not (oldest and e.at < oldest) then return end
    call('LPOP', topic.list)
    if topic.is_keyed and e.key ~= '' and call('HGET', topic.newest, e.key) == num(e.seq) then
      call('HDEL', topic.newest, e.key)
    end
    len, steps = len - 1, steps - 1
  end
end

local function expire(key, max_age)
  if max_age == '' then call('PERSIST', key) else call('PEXPIRE', key, max_age) end
end

-- A key that is of another type refuses its own topic.
local function look_up(topic)
  topic.score = tonumber(call('ZSCORE', INDEX, topic.name) or '')
  local last, keyed = redis.pcall('LINDEX', topic.list, '-1'), redis.pcall('HLEN', topic.newest)
  if type(last) == 'table' and last.err then topic.refusal = last.err
  elseif type(keyed) == 'table' then topic.refusal = keyed.err
  else topic.last, topic.is_keyed = last and parse(last), keyed > 0 end
end

local function read_topics()
  local topics, at = {}, 13
  for i = 1, tonumber(ARGV[12]) do
    local name, max_events, max_bytes, max_age, behind, count = unpack(ARGV, at, at + 5)
    local topic = { name = name, list = KEYS[7 + 2 * i], newest = KEYS[8 + 2 * i], from = at + 6, count = tonumber(count),
      max_events = max_events, max_bytes = max_bytes, max_age = max_age, behind = behind }
    at = topic.from + 3 * topic.count
    topic.to = at - 1
    look_up(topic)
    topics[i] = topic
  end
  return topics
end

local function has_moved(meta, topic)
  if topic.behind == '' then return false end
  local last = topic.score and math.floor(topic.score / 4) or 0
  if last == 0 then return not string.find(topic.behind, '-0', 1, true) end
  return topic.behind ~= num(meta.epoch) .. '-' .. num(last)
end

-- Returns a refusal where nothing can be written.
local function feed_all(meta, topic)
  topic.first, topic.bytes = meta.head + 1, 0
  for i = topic.from, topic.to, 3 do
    meta.head = meta.head + 1
    local refusal = feed(meta, topic.name, ARGV[i] .. ' ' .. ARGV[i + 1] .. '\\n' .. ARGV[i + 2])
    if refusal then return refusal end
    topic.bytes = topic.bytes + #ARGV[i + 2]
  end
end

local function append(meta, topic, steps)
  -- What a topic that the index does not know has left in its keys is of an older epoch.
  if not topic.score then
    call('UNLINK', topic.list, topic.newest)
    topic.last, topic.is_keyed = nil, false
  end
  local prev, total, len, seq = meta.floor, 0, 0, topic.first
  if topic.score then prev = math.floor(topic.score / 4) end
  if topic.last then total = topic.last.before + topic.last.bytes end
  for i = topic.from, topic.to, 3 do
    local at, key, frame = unpack(ARGV, i, i + 2)
    local packed = table.concat({ num(seq), num(prev), at, num(total), key }, ' ') .. '\\n' .. frame
    len = call('RPUSH', topic.list, packed)
    if key ~= '' then
      call('HSET', topic.newest, key, num(seq))
      topic.is_keyed = true
    end
    prev, seq, total = seq, seq + 1, total + #frame
  end
  trim(topic, len, total, steps)
  expire(topic.list, topic.max_age)
  if topic.is_keyed then expire(topic.newest, topic.max_age) end
  call('ZADD', INDEX, num(prev * 4), topic.name)
  if not topic.score then call('ZADD', NAMES, '0', topic.name) end
end

local known = answered(ANSWERS, counter) or first_answer()
if known then return known end
local topics = read_topics()
call('ZCARD', NAMES)
local meta, refusal = open_order(lineage, tonumber(known_epoch), tonumber(known_seq))
if not meta then return refusal end
local appended, result, steps, is_any_new = {}, {}, 0, false
for _, topic in ipairs(topics) do
  if meta.is_new then topic.score = nil end
  if topic.score and topic.score % 4 == 1 then topic.refusal = 'ENDED' end
  if not topic.refusal and has_moved(meta, topic) then topic.refusal = 'MOVED' end
  if topic.refusal then
    result[#result + 1], result[#result + 2] = topic.refusal, '0'
  else
    refusal = feed_all(meta, topic)
    if refusal then return refusal end
    appended[#appended + 1] = topic
    result[#result + 1], result[#result + 2] = num(topic.first), num(topic.count)
  end
end
for _, topic in ipairs(appended) do
  local most = 2 * topic.count + 32 + math.min(4096, math.floor(topic.bytes / 64))
  append(meta, topic, most)
  steps, is_any_new = steps + most, is_any_new or not topic.score
end
if #appended == 0 then
  save_identity(meta)
  return { 'OK', num(meta.epoch), '0', unpack(result) }
end
trim_feed(meta, max_fed, max_fed_bytes, steps)
save(meta)
answer(ANSWERS, counter, meta.epoch, result, answers_age)
if request ~= '' then keep_request(meta.epoch, result[1], result[2]) end
return { 'OK', num(meta.epoch), is_any_new and num(call('ZCARD', INDEX)) or '0', unpack(result) }
`,
);

/**
 * Changes a topic that the index knows.
 *
 * KEYS: meta, feed, index, names, stale, the topic's history and newest, the node's answers. ARGV: lineage,
 * known epoch, known seq, counter, topic, change, most events and bytes of the feed, age of answers. Answers
 * `OK`, epoch, 0, seq and count. The count is 0 where there was nothing to change.
 */
export const changeScript: Script = script(
  NUMBERS,
  UNPACK,
  ORDER,
  FEEDING,
  ANSWERS,
  `
local LIST, NEWEST, ANSWERS = KEYS[6], KEYS[7], KEYS[8]
local lineage, known_epoch, known_seq, counter, topic, change = unpack(ARGV, 1, 6)
local max_fed, max_fed_bytes, answers_age = unpack(ARGV, 7, 9)
local ENDED, DELETED = 1, 2
local was = { ['end'] = { [0] = true, [DELETED] = true }, reopen = { [ENDED] = true }, delete = { [0] = true, [ENDED] = true } }
local becomes = { ['end'] = ENDED, reopen = 0, delete = DELETED }

local known = answered(ANSWERS, counter)
if known then return known end
call('ZSCORE', INDEX, topic)
local meta, refusal = open_order(lineage, tonumber(known_epoch), tonumber(known_seq))
if not meta then return refusal end
local score = tonumber(call('ZSCORE', INDEX, topic) or '')
if not score or not was[change][score % 4] then
  save_identity(meta)
  return { 'OK', num(meta.epoch), '0', num(meta.head), '0' }
end
-- Where the memory is full, a script may add something once it has removed something.
call('XLEN', FEED)
if change == 'delete' then call('UNLINK', LIST, NEWEST) end
meta.head = meta.head + 1
refusal = feed(meta, topic, change)
if refusal then return refusal end
call('ZADD', INDEX, num(score - score % 4 + becomes[change]), topic)
trim_feed(meta, max_fed, max_fed_bytes, 32)
save(meta)
answer(ANSWERS, counter, meta.epoch, { num(meta.head), '1' }, answers_age)
return { 'OK', num(meta.epoch), '0', num(meta.head), '1' }
`,
);

/**
 * Reads the events of topics after a seq, merged.
 *
 * KEYS: meta, index; then for each topic its history and newest. ARGV: place that is known, after, bytes, 1
 * for the newest of each key only; then for each topic its name and its age (or nothing). Answers `OK`,
 * until, 1 where that is all; a list of topics (by index) and dropped seqs, and one of topics and packed
 * entries. Or `CHANGED`.
 */
export const readScript: Script = script(
  NUMBERS,
  HISTORY,
  LOOKING,
  `
if not is_known then return { 'CHANGED' } end
local after, max_bytes, is_newest_only = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4] == '1'
local dropped, entries, sources = {}, {}, {}

local function add_dropped(i, seq)
  if seq <= after then return end
  dropped[#dropped + 1] = num(i)
  dropped[#dropped + 1] = num(seq)
end

local function add_source(i, topic, list, newest, max_age)
  local score = call('ZSCORE', INDEX, topic)
  if not score then return add_dropped(i, floor) end
  local last = math.floor(tonumber(score) / 4)
  if last <= after then return end
  local part = held(list, last, max_age)
  add_dropped(i, part.dropped)
  local at = part.first
  if part.entry and part.entry.seq <= after then
    at = search(list, part.first + 1, part.len, function(e) return e.seq > after end)
  end
  if at < part.len then
    sources[#sources + 1] = { topic = num(i), list = list, newest = newest, at = at, entry = entry(list, at) }
  end
end

local function lowest()
  local found
  for i = 1, #sources do
    local e = sources[i].entry
    if e and (not found or e.seq < found.entry.seq) then found = sources[i] end
  end
  return found
end

local function is_replaced(source)
  if not is_newest_only or source.entry.key == '' then return false end
  local newest = call('HGET', source.newest, source.entry.key)
  return newest and tonumber(newest) > source.entry.seq
end

for i = 1, (#ARGV - 4) / 2 do
  add_source(i - 1, ARGV[3 + 2 * i], KEYS[1 + 2 * i], KEYS[2 + 2 * i], ARGV[4 + 2 * i])
end
local left, seen, steps, till = max_bytes, 0, 0, after
local source = lowest()
while source do
  local e = source.entry
  if left < e.bytes and #entries > 0 then break end
  if steps >= 1000 or seen > max_bytes + 1048576 then break end
  if not is_replaced(source) then
    entries[#entries + 1] = source.topic
    entries[#entries + 1] = e.packed
    left = left - e.bytes
  end
  steps, seen, till = steps + 1, seen + e.bytes, e.seq
  source.at = source.at + 1
  source.entry = entry(source.list, source.at)
  source = lowest()
end
if not source then till = math.max(after, head) end
return { 'OK', num(till), source and '0' or '1', dropped, entries }
`,
);

/**
 * Finds the records of topics.
 *
 * KEYS: meta, index; then the history of each topic. ARGV: place that is known; then for each topic its name
 * and its age (or nothing). Answers `OK` and a list: topic (by index), last, state, dropped, events, bytes.
 * Or `CHANGED`.
 */
export const findScript: Script = script(
  NUMBERS,
  HISTORY,
  LOOKING,
  `
if not is_known then return { 'CHANGED' } end
local found = {}
for i = 1, (#ARGV - 1) / 2 do
  local score, list = tonumber(call('ZSCORE', INDEX, ARGV[2 * i]) or ''), KEYS[2 + i]
  if score then
    local last = math.floor(score / 4)
    local part, bytes = held(list, last, ARGV[2 * i + 1]), 0
    if part.entry then
      local newest = entry(list, -1)
      bytes = newest.before + newest.bytes - part.entry.before
    end
    for _, n in ipairs({ i - 1, last, score % 4, part.dropped, part.len - part.first, bytes }) do
      found[#found + 1] = num(n)
    end
  end
end
return { 'OK', found }
`,
);

/**
 * Lists the newest seqs of topics together, newest first.
 *
 * KEYS: meta, index; then the history of each topic. ARGV: place that is known, the seq below which to
 * begin, how many; then for each topic its name and its age (or nothing). Answers `OK`, head, 1 where these
 * are all, and the seqs. Or `CHANGED`.
 */
export const newestScript: Script = script(
  NUMBERS,
  HISTORY,
  LOOKING,
  `
if not is_known then return { 'CHANGED' } end
local below, count = tonumber(ARGV[2]), tonumber(ARGV[3])
local seqs, sources, seen = {}, {}, 0

local function move(source, at)
  source.at = at
  source.entry = at >= source.first and entry(source.list, at) or nil
end

for i = 1, (#ARGV - 3) / 2 do
  local score, list = call('ZSCORE', INDEX, ARGV[2 + 2 * i]), KEYS[2 + i]
  if score then
    local part = held(list, math.floor(tonumber(score) / 4), ARGV[3 + 2 * i])
    local source = { list = list, first = part.first }
    move(source, part.len - 1)
    if source.entry and source.entry.seq >= below then
      move(source, search(list, part.first, part.len, function(e) return e.seq >= below end) - 1)
    end
    sources[#sources + 1] = source
  end
end

local function highest()
  local found
  for i = 1, #sources do
    local e = sources[i].entry
    if e and (not found or e.seq > found.entry.seq) then found = sources[i] end
  end
  return found
end

local source = highest()
while source and #seqs < count and (seen < 1048576 or #seqs == 0) do
  seqs[#seqs + 1] = num(source.entry.seq)
  seen = seen + source.entry.bytes
  move(source, source.at - 1)
  source = highest()
end
return { 'OK', num(head), source and '0' or '1', seqs }
`,
);

/**
 * Lists topics by name, deleted ones included.
 *
 * KEYS: meta, index, names. ARGV: place that is known, the name after which to begin (or nothing), how many.
 * Answers `OK` and the names. Or `CHANGED`.
 */
export const namesScript: Script = script(
  NUMBERS,
  LOOKING,
  `
local NAMES = KEYS[3]
if not is_known then return { 'CHANGED' } end
if call('ZCARD', NAMES) ~= call('ZCARD', INDEX) then call('ZUNIONSTORE', NAMES, '1', INDEX, 'WEIGHTS', '0') end
local from = ARGV[2] == '' and '-' or '(' .. ARGV[2]
return { 'OK', call('ZRANGEBYLEX', NAMES, from, '+', 'LIMIT', '0', ARGV[3]) }
`,
);

/**
 * Forgets topics where there are too many: those that are still as they were seen, oldest first.
 *
 * KEYS: meta, index, names; then for each topic its history and newest. ARGV: most topics; then for each
 * topic its name and its score. Answers how many topics are left.
 */
export const pruneScript: Script = script(
  NUMBERS,
  `
local INDEX, NAMES = KEYS[2], KEYS[3]
local left = call('ZCARD', INDEX)
call('ZCARD', NAMES)
local floor = tonumber(call('HGET', META, 'floor') or '') or 0
for i = 1, (#ARGV - 1) / 2 do
  if left <= tonumber(ARGV[1]) then break end
  local topic = ARGV[2 * i]
  local score = tonumber(call('ZSCORE', INDEX, topic) or '')
  if score and score == tonumber(ARGV[2 * i + 1]) then
    floor, left = math.max(floor, math.floor(score / 4)), left - 1
    -- First what also a server does whose memory is full.
    call('UNLINK', KEYS[2 + 2 * i], KEYS[3 + 2 * i])
    call('HSET', META, 'floor', num(floor))
    call('ZREM', INDEX, topic)
    call('ZREM', NAMES, topic)
  end
end
return num(left)
`,
);

/**
 * Removes what topics of older epochs have left, except where the present epoch has the same topic.
 *
 * KEYS: stale, index; then for each topic its history and newest. ARGV: the names. Answers how many are left.
 */
export const cleanScript: Script = script(
  NUMBERS,
  `
local STALE, INDEX = KEYS[1], KEYS[2]
for i = 1, #ARGV do
  if call('ZREM', STALE, ARGV[i]) == 1 and not call('ZSCORE', INDEX, ARGV[i]) then
    call('UNLINK', KEYS[1 + 2 * i], KEYS[2 + 2 * i])
  end
end
return num(call('ZCARD', STALE))
`,
);

/**
 * Tries each command that the others use, and leaves nothing: with one of them missing, an append would fail halfway.
 *
 * KEYS: trial. Answers `OK`, or `REFUSED`, the command, and why.
 */
export const trialScript: Script = script(
  UNPACK,
  `
local TRIAL = KEYS[1]
local commands = {
  { 'TIME' }, { 'RPUSH', TRIAL, 'a' }, { 'UNLINK', TRIAL },
  { 'RPUSH', TRIAL, 'a' }, { 'LLEN', TRIAL }, { 'LINDEX', TRIAL, '0' },
  { 'PEXPIRE', TRIAL, '60000' }, { 'PERSIST', TRIAL }, { 'EXISTS', TRIAL }, { 'RENAME', TRIAL, TRIAL }, { 'LPOP', TRIAL },
  { 'HSET', TRIAL, 'a', '1' }, { 'HGET', TRIAL, 'a' }, { 'HMGET', TRIAL, 'a' }, { 'HLEN', TRIAL }, { 'HDEL', TRIAL, 'a' },
  { 'ZADD', TRIAL, '0', 'a' }, { 'ZSCORE', TRIAL, 'a' }, { 'ZCARD', TRIAL }, { 'ZRANGE', TRIAL, '0', '0' },
  { 'ZRANGEBYLEX', TRIAL, '-', '+' }, { 'ZUNIONSTORE', TRIAL, '1', TRIAL }, { 'ZREM', TRIAL, 'a' },
  { 'XADD', TRIAL, '1-1', 'a', '' }, { 'XLEN', TRIAL }, { 'XRANGE', TRIAL, '-', '+' }, { 'XREVRANGE', TRIAL, '+', '-' },
  { 'XTRIM', TRIAL, 'MAXLEN', '0' }, { 'UNLINK', TRIAL },
}
for _, command in ipairs(commands) do
  local answer = redis.pcall(unpack(command))
  if type(answer) == 'table' and answer.err then
    redis.pcall('UNLINK', TRIAL)
    return { 'REFUSED', command[1], answer.err }
  end
end
return { 'OK' }
`,
);
