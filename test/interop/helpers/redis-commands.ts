// Random commands for Redis, with hostile arguments.

import type { Stream } from '../../simulation/nodes/chance.ts';

type Draw = (chance: Stream) => string | readonly string[];

export const keys: readonly string[] = ['k1', 'k2', 'k3', 'k4', 'k5', 'k6', 'k7'];

const texts = [
  '',
  'a',
  'b',
  'c',
  'data: x\n\n',
  '\u0000\u00ff\r\n',
  ' ',
  '5',
  '-3',
  '1e3',
  'é\u00c3\u00a9',
  'x'.repeat(300),
];
const whole = ['0', '1', '2', '3', '-1', '-2', '7', '100', '-100', '1000000007'];
const hostile = [
  '',
  'a',
  '01',
  '1.5',
  ' 1',
  '9223372036854775807',
  '9223372036854775808',
  '-9223372036854775808',
];
const doubles = [
  '0',
  '1',
  '-1',
  '2',
  '2.5',
  '1e3',
  '1795408776000001',
  '0.1',
  'inf',
  '-inf',
  '1e-5',
  '7180000000000004',
];
const ids = [
  '1-1',
  '1-2',
  '2-0',
  '2-5',
  '3',
  '1795408776000000-1',
  '18446744073709551615-18446744073709551615',
];
const hostileIds = ['0-0', '0', '', 'a', '-1', '1-', '1-a', '18446744073709551616', '1-1-1', '$', '5-*'];

const key: Draw = (chance) => chance.pick(keys);
const text: Draw = (chance) => chance.pick(texts);
const integer: Draw = (chance) => chance.pick(chance.of(0.1) ? hostile : whole);
// No sum may be more than a number of JavaScript can be.
const amount: Draw = (chance) => chance.pick([...whole, '', 'a', '01', '1.5']);
const double: Draw = (chance) => chance.pick(chance.of(0.08) ? ['', 'a', 'nan', '1,5', '--1'] : doubles);
const field: Draw = (chance) => chance.pick(['f', 'g', 'h', '', '\u00ff']);
const member: Draw = (chance) => chance.pick(['a', 'b', 'ba', 'c', '', 'zz', '\u00ff', 'A']);
const id: Draw = (chance) => chance.pick(chance.of(0.15) ? hostileIds : ids);
const seconds: Draw = (chance) => chance.pick(chance.of(0.2) ? hostile : ['0', '-5', '5000', '100000']);

const some =
  (draw: Draw, most: number): Draw =>
  (chance) => {
    const count = 1 + chance.below(most);
    return Array.from({ length: count }, () => draw(chance)).flat();
  };
const maybe =
  (probability: number, ...draws: Draw[]): Draw =>
  (chance) =>
    chance.of(probability) ? draws.flatMap((draw) => draw(chance)) : [];
const one =
  (...words: string[]): Draw =>
  (chance) =>
    chance.pick(words);
const scoreBound: Draw = (chance) =>
  chance.pick(['-inf', '+inf', '0', '1', '(1', '2', '(2', '(inf', '1e3', 'x', '(']);
const lexBound: Draw = (chance) => chance.pick(['-', '+', '[a', '(a', '[b', '(c', '[', '(', 'a', '']);
const idBound: Draw = (chance) => chance.pick(['-', '+', ...ids, '(1-1', '(2', '(-', '(0-0', 'x']);
const trim: Draw = (chance) =>
  [
    chance.pick(['MAXLEN', 'MINID', 'maxlen']),
    ...maybe(0.4, one('='))(chance),
    chance.pick(['0', '1', '2', '3', '2-0', 'x', '-1']),
  ].flat();
const limit: Draw = maybe(0.3, one('LIMIT'), integer, integer);

/** The arguments of each command. */
const shapes: Readonly<Record<string, readonly Draw[]>> = {
  TYPE: [key],
  EXISTS: [some(key, 3)],
  DEL: [some(key, 2)],
  UNLINK: [some(key, 2)],
  RENAME: [key, key],
  EXPIRE: [key, seconds, maybe(0.3, some(one('NX', 'XX', 'zz'), 2))],
  PEXPIRE: [key, (chance) => chance.pick(['100000', '5000000', '0', 'x', '9223372036854775807'])],
  PEXPIREAT: [
    key,
    one('1', '99999999999999', '99999999999998', '-1', 'x'),
    maybe(0.3, some(one('NX', 'XX', 'GT', 'LT'), 2)),
  ],
  PERSIST: [key],
  PTTL: [key],
  TTL: [key],
  GET: [key],
  SET: [key, text, maybe(0.3, some(one('NX', 'XX', 'KEEPTTL', 'GET', 'PX', '100000', 'EX', 'zz', '0'), 3))],
  INCR: [key],
  INCRBY: [key, amount],
  PING: [maybe(0.3, text)],
  HGET: [key, field],
  HMGET: [key, some(field, 3)],
  HGETALL: [key],
  HKEYS: [key],
  HVALS: [key],
  HLEN: [key],
  HEXISTS: [key, field],
  HSTRLEN: [key, field],
  HSET: [key, some(field, 2), text, maybe(0.3, field, text)],
  HSETNX: [key, field, text],
  HDEL: [key, some(field, 2)],
  HINCRBY: [key, field, amount],
  RPUSH: [key, some(text, 3)],
  LPUSH: [key, some(text, 3)],
  RPUSHX: [key, text],
  LPOP: [key, maybe(0.3, integer)],
  RPOP: [key, maybe(0.3, integer)],
  LTRIM: [key, integer, integer],
  LINDEX: [key, integer],
  LRANGE: [key, integer, integer],
  LLEN: [key],
  ZADD: [
    key,
    maybe(0.3, some(one('NX', 'XX', 'GT', 'LT', 'CH', 'INCR'), 2)),
    double,
    member,
    maybe(0.4, double, member),
  ],
  ZSCORE: [key, member],
  ZMSCORE: [key, some(member, 3)],
  ZCARD: [key],
  ZCOUNT: [key, scoreBound, scoreBound],
  ZRANK: [key, member],
  ZREM: [key, some(member, 2)],
  ZRANGE: [
    key,
    (chance) => chance.pick([integer, scoreBound, lexBound])(chance),
    (chance) => chance.pick([integer, scoreBound, lexBound])(chance),
    maybe(0.5, one('BYSCORE', 'BYLEX', 'REV')),
    maybe(0.2, one('REV')),
    limit,
    maybe(0.3, one('WITHSCORES')),
  ],
  ZREVRANGE: [key, integer, integer, maybe(0.3, one('WITHSCORES', 'zz'))],
  ZRANGEBYSCORE: [key, scoreBound, scoreBound, maybe(0.3, one('WITHSCORES')), limit],
  ZRANGEBYLEX: [key, lexBound, lexBound, limit],
  ZREMRANGEBYSCORE: [key, scoreBound, scoreBound],
  ZREMRANGEBYRANK: [key, integer, integer],
  ZUNIONSTORE: [
    key,
    one('1', '1', '2', '0', 'x'),
    some(key, 2),
    maybe(0.4, one('WEIGHTS'), some(double, 2)),
    maybe(0.3, one('AGGREGATE'), one('SUM', 'MIN', 'MAX', 'x')),
  ],
  XADD: [
    key,
    maybe(0.2, one('NOMKSTREAM')),
    maybe(0.2, trim),
    id,
    some(field, 1),
    text,
    maybe(0.2, field, text),
  ],
  XTRIM: [key, trim],
  XDEL: [key, some(id, 2)],
  XRANGE: [key, idBound, idBound, maybe(0.3, one('COUNT'), integer)],
  XREVRANGE: [key, idBound, idBound, maybe(0.3, one('COUNT'), integer)],
  XLEN: [key],
  XREAD: [maybe(0.4, one('COUNT'), integer), one('STREAMS'), key, id],
  EVALSHA: [one('x', 'a'.repeat(40)), integer, key],
};

// Those that make what others act on.
const makers = ['SET', 'HSET', 'RPUSH', 'ZADD', 'XADD', 'ZADD', 'RPUSH', 'XADD'];
const names = Object.keys(shapes);

export function randomCommand(chance: Stream): string[] {
  const command = chance.of(0.15) ? script(chance) : bare(chance);
  // One argument too many or too few.
  if (command.length > 1 && chance.of(0.02)) return command.slice(0, -1);
  return chance.of(0.02) ? [...command, 'one more'] : command;
}

function bare(chance: Stream): string[] {
  const name = chance.pick(chance.of(0.3) ? makers : names);
  return [
    chance.of(0.1) ? name[0] + name.slice(1).toLowerCase() : name,
    ...shapes[name]!.flatMap((draw) => draw(chance)),
  ];
}

const bodies = [
  'return redis.call(unpack(ARGV))',
  'return redis.pcall(unpack(ARGV))',
  'local reply = redis.call(unpack(ARGV)) return type(reply) == "table" and (reply.ok or reply[1]) or reply',
  'local reply = redis.pcall(unpack(ARGV)) return {type(reply), reply, redis.call("EXISTS", KEYS[1])}',
  'redis.call("RPUSH", KEYS[1], 5, 1.5, 1795408776000001, "x") return redis.call("LRANGE", KEYS[1], 0, -1)',
  'return {1, 2.9, -2.9, "x", false, true, {ok = "fine"}, nil, 5}',
  'return {#KEYS, #ARGV, KEYS[1], ARGV[1] or false, KEYS[9] or false}',
  'return tostring(1795408776000001) .. string.format("%.0f", 1795408776000001) .. tostring(0.1) .. tonumber(ARGV[1] or "x")',
  'return redis.error_reply(ARGV[1] or "MY own")',
  'return redis.status_reply("fine")',
  'return {err = "MINE is this"}',
  'error("with words")',
  'error({err = "MINE too"})',
  'return undefined_name',
  'undefined_name = 1',
  'return redis.call("EVAL", "return 1", 0)',
  'return redis.call("NOSUCH", KEYS[1])',
  'return redis.call("GET")',
  'return redis.call({})',
  'return redis.call()',
  'return {redis.call("HMGET", KEYS[1], "f", "g"), redis.sha1hex("x"), type(table.unpack)}',
  'local r = {} for i = 1, 3 do r[i] = redis.call("XADD", KEYS[1], "7-" .. i, "f", ARGV[1] or "") end return r',
  'local all = {string.match("a:12\\r\\nb:x", "b:(%a+)"), ("x"):rep(3), #"\\0\\255", ("%d"):format(3.7)} return all',
  'syntax error here',
  'return pcall(redis.call, "GET", KEYS[1])',
  'local ok, err = pcall(redis.call, unpack(ARGV)) return ok and "fine" or (type(err) == "table" and err.err or err)',
];

function script(chance: Stream): string[] {
  const command = bare(chance);
  // What these answer has no order, or is another each time, and a script hides which they are.
  const inner = /^(?:HGETALL|HKEYS|HVALS|P?TTL)$/i.test(command[0]!) ? ['GET', command[1]!] : command;
  return ['EVAL', chance.pick(bodies), '1', chance.pick(keys), ...inner];
}
