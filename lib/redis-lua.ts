// The parts of which the scripts of a log in Redis are made: how the order goes on, and what a topic holds.
// Stands alone: copy this file by itself.

import { createHash } from 'node:crypto';

/** A script, and the name by which the server knows it once it has run. */
export interface Script {
  readonly text: string;
  readonly sha: string;
}

/** What `meta` says of the format. A script refuses what a later version has written. */
export const REDIS_FORMAT = 1;

/** How many answers to a node are kept. A command that is sent again within as many others is run once. */
export const KEPT_ANSWERS = 64;

/** Numbers go out by `%.0f`: Lua 5.1 prints one of 16 digits as `1.79e+15`, and Lua 5.4 some with `.0`. */
export const NUMBERS: string = `
local call = redis.call
local META = KEYS[1]
local function num(n) return string.format('%.0f', n) end
`;

/** What a topic holds. A list has the oldest event first. */
export const HISTORY: string = `
local function parse(packed)
  local seq, prev, at, before, key, frame = string.match(packed, '^(%d+) (%d+) (%S+) (%d+) ([^\\n]*)\\n()')
  return { seq = tonumber(seq), prev = tonumber(prev), at = tonumber(at), before = tonumber(before), key = key,
    bytes = #packed - frame + 1, packed = packed }
end

local function entry(list, i)
  local packed = call('LINDEX', list, num(i))
  return packed and parse(packed)
end

-- The first index from low on, but below high, for whose entry something holds; high where there is none.
local function search(list, low, high, holds)
  while low < high do
    local middle = math.floor((low + high) / 2)
    if holds(entry(list, middle)) then high = middle else low = middle + 1 end
  end
  return low
end

local function now()
  local time = call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- Which part of a list is held: from index first on, below len. dropped is the newest seq before that.
local function held(list, last, max_age)
  local len = call('LLEN', list)
  local first = 0
  if len > 0 and max_age ~= '' then
    local oldest = now() - tonumber(max_age)
    local function is_young(e) return e.at >= oldest end
    if not is_young(entry(list, 0)) then first = search(list, 1, len, is_young) end
  end
  if first >= len then return { first = len, len = len, dropped = last } end
  local e = entry(list, first)
  return { first = first, len = len, dropped = e.prev, entry = e }
end
`;

/**
 * Decides whether the order goes on. A change of its identity is kept with the next write; a new epoch is
 * written at once, beginning with the feed.
 */
export const ORDER: string = `
local FEED, INDEX, NAMES, STALE = KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local NOBODY = string.rep('0', 40)

local function field(info, name)
  return string.match(info, '[\\r\\n]' .. name .. ':([^\\r\\n]*)')
end

-- A slot that moves to another node of a cluster takes everything along, unlike a replica that takes over.
local function has_moved(meta, node, replid2)
  if node == '' or not meta.node or meta.node == '' or node == meta.node or replid2 == meta.replid then return false end
  for id, flags in string.gmatch(call('CLUSTER', 'NODES'), '(%w+) %S+ (%S+)[^\\n]*') do
    if id == meta.node then
      flags = ',' .. flags .. ','
      return string.find(flags, ',master,', 1, true) ~= nil and not string.find(flags, ',fail', 1, true)
        and not string.find(flags, ',noaddr,', 1, true)
    end
  end
  return false
end

-- Whether this server has the order of the metadata; and its own identity where that differs. Or nil, and why not.
local function compare(meta, lineage)
  if lineage == 'position' then return true end
  local replication = call('INFO', 'replication')
  if field(replication, 'role') ~= 'master' then return nil, { err = 'READONLY the server is a replica at present' } end
  local replid, replid2 = field(replication, 'master_replid'), field(replication, 'master_replid2')
  if not replid or replid == '' then return nil, { 'LINEAGE' } end
  if replid == meta.replid then return true end
  local server = call('INFO', 'server')
  local runid = field(server, 'run_id')
  if not runid or runid == '' then return nil, { 'LINEAGE' } end
  local node = ''
  if field(server, 'redis_mode') == 'cluster' then node = call('CLUSTER', 'MYID') end
  local is_same = lineage == 'trust' or (runid == meta.runid and (not replid2 or replid2 == NOBODY))
    or has_moved(meta, node, replid2)
  return is_same, { 'replid', replid, 'runid', runid, 'node', node }
end

local function load_meta()
  local m = call('HMGET', META, 'format', 'epoch', 'head', 'replid', 'runid', 'node', 'ends', 'floor', 'fed', 'kept')
  return { format = tonumber(m[1] or '') or 0, epoch = tonumber(m[2] or ''), head = tonumber(m[3] or '') or 0,
    replid = m[4], runid = m[5], node = m[6], ends = m[7] or '', floor = tonumber(m[8] or '') or 0,
    fed = tonumber(m[9] or '') or 0, kept = tonumber(m[10] or '') or 0, identity = {} }
end

-- How many bytes were fed before an entry; 0 for one that somebody else has written.
local function fed_before(item)
  return tonumber(string.match(item[2][4] or '', '^%d+') or '0')
end

-- The feed's newest epoch, and the bytes that were fed before its end.
local function top_of_feed()
  local top = call('XREVRANGE', FEED, '+', '-', 'COUNT', '1')[1]
  if not top then return 0, 0 end
  return tonumber(string.match(top[1], '^%d+')), fed_before(top) + #(top[2][4] or '')
end

local function keep(ends, epoch, head)
  local all = {}
  for pair in string.gmatch(ends .. ' ' .. num(epoch) .. ':' .. num(head), '%S+') do all[#all + 1] = pair end
  return table.concat(all, ' ', math.max(1, #all - 7))
end

-- Returns an error where nothing can be written.
local function renew(meta, known_epoch, identity)
  local time = call('TIME')
  local stale, indexed, named = call('ZCARD', STALE), call('ZCARD', INDEX), call('ZCARD', NAMES)
  local top, fed = top_of_feed()
  local old = meta.epoch
  meta.fed = math.max(meta.fed, fed)
  meta.epoch = math.max(tonumber(time[1]) * 1000000 + tonumber(time[2]), (old or 0) + 1, known_epoch + 1, top + 1)
  local added = redis.pcall('XADD', FEED, num(meta.epoch) .. '-0', 't', '', 'e', num(meta.fed) .. ' renew')
  if type(added) == 'table' and added.err then return added end
  if old then meta.ends = keep(meta.ends, old, meta.head) end
  local topics = indexed > 0 and INDEX or NAMES
  if stale > 0 then call('ZUNIONSTORE', STALE, '2', STALE, topics)
  elseif indexed + named > 0 then call('RENAME', topics, STALE) end
  call('UNLINK', INDEX, NAMES)
  meta.head, meta.floor, meta.is_new, meta.identity = 0, 0, true, {}
  call('HSET', META, 'format', '${REDIS_FORMAT}', 'epoch', num(meta.epoch), 'head', '0', 'ends', meta.ends, 'floor', '0',
    'fed', num(meta.fed))
  if #identity > 0 then call('HSET', META, unpack(identity)) end
end

-- The metadata, once the order goes on or has begun anew; or nil, and a refusal. spoiled is an epoch that cannot go on.
local function open_order(lineage, known_epoch, known_seq, spoiled)
  local meta = load_meta()
  if meta.format > ${REDIS_FORMAT} then return nil, { 'NEWER', num(meta.format) } end
  local is_same, identity = compare(meta, lineage)
  if is_same == nil then return nil, identity end
  identity = identity or {}
  local is_ahead = known_epoch > (meta.epoch or 0) or (known_epoch == meta.epoch and known_seq > meta.head)
  local is_indexed = call('EXISTS', INDEX) == 1 or meta.head == 0
  if meta.epoch and is_same and is_indexed and not is_ahead and meta.epoch ~= spoiled then
    meta.identity = identity
    return meta
  end
  local refusal = renew(meta, known_epoch, identity)
  if refusal then return nil, refusal end
  return meta
end

-- Where the memory is full, the identity is compared again next time.
local function save_identity(meta)
  if #meta.identity > 0 then redis.pcall('HSET', META, unpack(meta.identity)) end
end

-- Keeps the head, and an identity that has changed.
local function save(meta)
  call('HSET', META, 'head', num(meta.head), 'fed', num(meta.fed), 'kept', num(meta.kept), unpack(meta.identity))
end
`;

/** Lua 5.4, in which tests run the scripts, has `unpack` elsewhere. */
export const UNPACK: string = `
local unpack = unpack or table.unpack
`;

/** Adds to the feed that all nodes follow, and shortens it. Each entry says how many bytes were fed before it. */
export const FEEDING: string = `
-- Returns a refusal where nothing can be written, or somebody else has written to the feed.
local function feed(meta, topic, text)
  local place, fed = num(meta.epoch) .. '-' .. num(meta.head), num(meta.fed)
  local added = redis.pcall('XADD', FEED, place, 't', topic, 'e', fed .. ' ' .. text)
  meta.fed = meta.fed + #topic + #text + 64
  if type(added) ~= 'table' or not added.err then return nil end
  return string.find(added.err, 'equal or smaller', 1, true) and { 'SPOILED', num(meta.epoch) } or added
end

-- Looks at the oldest entry only where there may be too many bytes: at least meta.kept were fed before it.
local function trim_feed(meta, max_events, max_bytes, steps)
  call('XTRIM', FEED, 'MAXLEN', max_events)
  max_bytes = tonumber(max_bytes)
  if meta.fed - meta.kept <= max_bytes then return end
  for len = call('XLEN', FEED), 1, -1 do
    meta.kept = fed_before(call('XRANGE', FEED, '-', '+', 'COUNT', '1')[1])
    if meta.fed - meta.kept <= max_bytes or len == 1 or steps == 0 then return end
    steps = steps - 1
    call('XTRIM', FEED, 'MAXLEN', num(len - 1))
  end
end
`;

/** A client may send a command again whose answer it did not get. */
export const ANSWERS: string = `
local function answered(answers, counter)
  local kept = call('HGET', answers, num(tonumber(counter) % ${KEPT_ANSWERS}))
  if not kept then return nil end
  local of, epoch, result = string.match(kept, '^(%d+) (%d+)\\n(.*)$')
  if tonumber(of) > tonumber(counter) then return { 'STALE' } end
  if of ~= counter then return nil end
  local answer = { 'OK', epoch, '0' }
  for word in string.gmatch(result, '[^\\n]+') do answer[#answer + 1] = word end
  return answer
end

local function answer(answers, counter, epoch, result, max_age)
  local text = counter .. ' ' .. num(epoch) .. '\\n' .. table.concat(result, '\\n')
  call('HSET', answers, num(tonumber(counter) % ${KEPT_ANSWERS}), text)
  call('PEXPIRE', answers, max_age)
end
`;

/** One script of some parts. The first ones have what the later ones use. */
export function script(...parts: readonly string[]): Script {
  const text = parts.map((part) => part.trim()).join('\n');
  return { text, sha: createHash('sha1').update(text).digest('hex') };
}

/** Without its index, in another epoch, or before the place that is known, a log cannot tell what was dropped. */
export const LOOKING: string = `
local INDEX = KEYS[2]
local meta = call('HMGET', META, 'epoch', 'head', 'floor')
local head, floor = tonumber(meta[2] or '') or 0, tonumber(meta[3] or '') or 0
local epoch, least = string.match(ARGV[1], '^(%d+)-(%d+)$')
local is_known = meta[1] == epoch and head >= tonumber(least) and (head == 0 or call('EXISTS', INDEX) == 1)
`;
