// Commands of the model of Redis on keys of any type, and on strings.

import { type Command, type Commands, type Host, read, remove, write, wrongArity } from './command.ts';
import { type Keyspace, typeOf } from './keyspace.ts';
import { bigOf, Failure, integerOf, MAX_INTEGER, OK, type Reply, Status, syntaxError } from './reply.ts';

/** An end of a key, as one that sets it says it. */
interface Unit {
  /** Milliseconds of one. */
  readonly scale: bigint;
  readonly isRelative: boolean;
}

const units: Readonly<Record<string, Unit>> = {
  EX: { scale: 1000n, isRelative: true },
  PX: { scale: 1n, isRelative: true },
  EXAT: { scale: 1000n, isRelative: false },
  PXAT: { scale: 1n, isRelative: false },
};

/** @returns the end in milliseconds since 1970. */
function endOf(value: bigint, { scale, isRelative }: Unit, command: string): number {
  const invalid = new Failure(`ERR invalid expire time in '${command}' command`);
  const time = value * scale;
  if (time > MAX_INTEGER || time < -MAX_INTEGER) throw invalid;
  const end = isRelative ? time + BigInt(Date.now()) : time;
  if (end > MAX_INTEGER) throw invalid;
  return Number(end);
}

function expire(name: string, unit: Unit): Command {
  return remove([2], (keys, [key, text, ...options], host) => {
    for (const option of options)
      if (!/^(?:NX|XX|GT|LT)$/i.test(option)) throw new Failure(`ERR Unsupported option ${option}`);
    const wanted = new Set(options.map((option) => option.toUpperCase()));
    if (wanted.has('NX') && wanted.size > 1)
      throw new Failure('ERR NX and XX, GT or LT options at the same time are not compatible');
    if (wanted.has('GT') && wanted.has('LT'))
      throw new Failure('ERR GT and LT options at the same time are not compatible');
    const end = endOf(bigOf(text!), unit, name);
    if (keys.find(key!) === undefined) return 0;
    const before = keys.expiryOf(key!);
    if (wanted.has('NX') && before !== undefined) return 0;
    if (wanted.has('XX') && before === undefined) return 0;
    if (wanted.has('GT') && end <= (before ?? Infinity)) return 0;
    if (wanted.has('LT') && end >= (before ?? Infinity)) return 0;
    return expireAt(keys, key!, end, host);
  });
}

function expireAt(keys: Keyspace, key: string, end: number, host: Host): number {
  if (end <= Date.now() && keys.expires) {
    host.replicateAs(['DEL', key]);
    keys.delete(key);
    return 1;
  }
  host.replicateAs(['PEXPIREAT', key, String(end)]);
  keys.setExpiry(key, end);
  return 1;
}

function timeLeft(unit: number): Command['run'] {
  return (keys, [key]) => {
    if (keys.find(key!) === undefined) return -2;
    const end = keys.expiryOf(key!);
    return end === undefined ? -1 : Math.floor((Math.max(0, end - Date.now()) + unit / 2) / unit);
  };
}

interface SetOptions {
  readonly unit: string | undefined;
  readonly value: string;
  readonly flags: ReadonlySet<string>;
}

function setOptionsOf(args: readonly string[]): SetOptions {
  const flags = new Set<string>();
  let unit: string | undefined;
  let value = '';
  for (let i = 0; i < args.length; i++) {
    const option = args[i]!.toUpperCase();
    const isUnit = Object.hasOwn(units, option) && i + 1 < args.length;
    if (isUnit && (unit ?? option) === option && !flags.has('KEEPTTL')) [unit, value] = [option, args[++i]!];
    else if (option === 'NX' && !flags.has('XX')) flags.add(option);
    else if (option === 'XX' && !flags.has('NX')) flags.add(option);
    else if (option === 'KEEPTTL' && unit === undefined) flags.add(option);
    else if (option === 'GET') flags.add(option);
    else throw syntaxError();
  }
  return { unit, value, flags };
}

function set(keys: Keyspace, [key, text, ...rest]: readonly string[], host: Host): Reply {
  const { unit, value, flags } = setOptionsOf(rest);
  let end: number | undefined;
  if (unit !== undefined) {
    const number = bigOf(value);
    if (number <= 0n) throw new Failure("ERR invalid expire time in 'set' command");
    end = endOf(number, units[unit]!, 'set');
  }
  const before = flags.has('GET') ? (keys.string(key!) ?? null) : null;
  const isThere = keys.find(key!) !== undefined;
  const answer = flags.has('GET') ? before : OK;
  if ((flags.has('NX') && isThere) || (flags.has('XX') && !isThere)) return flags.has('GET') ? before : null;
  const kept = flags.has('KEEPTTL') ? keys.expiryOf(key!) : end;
  host.replicateAs(['SET', key!, text!, ...(kept === undefined ? [] : ['PXAT', String(kept)])]);
  keys.set(key!, text!, kept);
  return answer;
}

function rename(keys: Keyspace, [from, to]: readonly string[]): Reply {
  const value = keys.find(from!);
  if (value === undefined) throw new Failure('ERR no such key');
  if (from === to) return OK;
  const end = keys.expiryOf(from!);
  keys.delete(from!);
  keys.set(to!, value, end);
  return OK;
}

function increment(keys: Keyspace, key: string, by: bigint): number {
  const sum = bigOf(keys.string(key) ?? '0') + by;
  if (sum > MAX_INTEGER || sum < -MAX_INTEGER - 1n)
    throw new Failure('ERR increment or decrement would overflow');
  keys.set(key, String(sum), keys.expiryOf(key));
  return Number(sum);
}

const del: Command['run'] = (keys, names) => names.filter((name) => keys.delete(name)).length;

export const keyCommands: Commands = {
  TYPE: read(1, (keys, [key]) => new Status(typeOf(keys.find(key!)))),
  EXISTS: read([1], (keys, names) => names.filter((name) => keys.find(name) !== undefined).length),
  DEL: remove([1], del),
  UNLINK: remove([1], del),
  RENAME: write(2, rename),
  EXPIRE: expire('expire', units.EX!),
  PEXPIRE: expire('pexpire', units.PX!),
  EXPIREAT: expire('expireat', units.EXAT!),
  PEXPIREAT: expire('pexpireat', units.PXAT!),
  PERSIST: remove(1, (keys, [key]) => {
    if (keys.expiryOf(key!) === undefined) return 0;
    keys.setExpiry(key!, undefined);
    return 1;
  }),
  PTTL: read(1, timeLeft(1)),
  TTL: read(1, timeLeft(1000)),
  GET: read(1, (keys, [key]) => keys.string(key!) ?? null),
  SET: write([2], set),
  INCR: write(1, (keys, [key]) => increment(keys, key!, 1n)),
  INCRBY: write(2, (keys, [key, by]) => increment(keys, key!, bigOf(by!))),
  FLUSHALL: remove([0, 1], (keys) => {
    keys.clear();
    return OK;
  }),
  FLUSHDB: remove([0, 1], (keys) => {
    keys.clear();
    return OK;
  }),
  DBSIZE: read(0, (keys) => keys.keys().length),
  PING: read([0], (_, [text, ...rest]) => {
    if (rest.length > 0) throw wrongArity('ping');
    return text ?? new Status('PONG');
  }),
  ECHO: read(1, (_, [text]) => text!),
  TIME: read(0, (_, __, host) => {
    const time = host.time();
    return [String(Math.floor(time / 1e6)), String(time % 1e6)];
  }),
  SELECT: read(1, (_, [index]) => {
    if (integerOf(index!) !== 0) throw new Failure('ERR DB index is out of range');
    return OK;
  }),
};
