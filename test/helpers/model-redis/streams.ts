// Commands of the model of Redis on streams. What blocks is the server's.

import { type Commands, type Host, read, remove, write, wrongArity } from './command.ts';
import type { Keyspace } from './keyspace.ts';
import { bigOf, Failure, integerOf, type Reply, syntaxError } from './reply.ts';
import { formatId, idOf, MAX_ID, parseId, Stream, type StreamEntry } from './stream.ts';

const LAST = 2n ** 64n - 1n;

/** How to shorten a stream. */
interface Trim {
  readonly by: 'MAXLEN' | 'MINID';
  readonly isAbout: boolean;
  readonly threshold: string;
}

/** The options before the id of XADD, or all of XTRIM; `next` is the index after them. */
function trimOf(args: readonly string[], isAdd: boolean) {
  let trim: Trim | undefined;
  let isNew = true;
  let next = 0;
  for (; next < args.length; next++) {
    const option = args[next]!.toUpperCase();
    if (isAdd && option === 'NOMKSTREAM') isNew = false;
    else if ((option === 'MAXLEN' || option === 'MINID') && next + 1 < args.length) {
      if (trim !== undefined)
        throw new Failure('ERR syntax error, MAXLEN and MINID options at the same time are not compatible');
      const sign = args[next + 1]!;
      const hasSign = (sign === '~' || sign === '=') && next + 2 < args.length;
      next += hasSign ? 2 : 1;
      trim = { by: option, isAbout: hasSign && sign === '~', threshold: args[next]! };
      checkThreshold(trim);
    } else if (option === 'LIMIT' && next + 1 < args.length) {
      if (integerOf(args[++next]!) < 0) throw new Failure('ERR The LIMIT argument must be >= 0.');
      if (!trim?.isAbout)
        throw new Failure('ERR syntax error, LIMIT cannot be used without the special ~ option');
    } else if (isAdd) break;
    else throw syntaxError();
  }
  return { trim, isNew, next };
}

function checkThreshold({ by, threshold }: Trim): void {
  if (by === 'MINID') parseId(threshold, 0n);
  else if (integerOf(threshold) < 0) throw new Failure('ERR The MAXLEN argument must be >= 0.');
}

// A real one removes whole nodes where about is enough: it keeps at least what is asked, and the model all.
function shorten(stream: Stream, { by, isAbout, threshold }: Trim): number {
  if (isAbout) return 0;
  return by === 'MINID' ? stream.keepFrom(parseId(threshold, 0n)) : stream.keepNewest(integerOf(threshold));
}

function add(keys: Keyspace, [key, ...args]: readonly string[], host: Host): Reply {
  const { trim, isNew, next } = trimOf(args, true);
  const fields = args.slice(next + 1);
  const wanted = next < args.length ? wantedId(args[next]!) : undefined;
  if (fields.length === 0 || fields.length % 2 === 1) throw wrongArity('xadd');
  if (wanted !== undefined && 'id' in wanted && wanted.id === 0n)
    throw new Failure('ERR The ID specified in XADD must be greater than 0-0');
  const found = keys.stream(key!);
  if (found === undefined && !isNew) return null;
  const stream = found ?? new Stream();
  const id = nextId(stream, wanted, host);
  keys.grow(key!, found, () => stream);
  stream.add({ id, fields });
  if (trim !== undefined) shorten(stream, trim);
  keys.changes++;
  keys.grown.add(key!);
  host.replicateAs(['XADD', key!, ...args.slice(0, next), formatId(id), ...fields]);
  return formatId(id);
}

type Wanted = { readonly id: bigint } | { readonly time: bigint } | undefined;

/** @returns the id, or its first part alone, or `undefined` for any. */
function wantedId(text: string): Wanted {
  if (text === '*') return undefined;
  if (text.endsWith('-*')) return { time: parseId(text.slice(0, -2), 0n) >> 64n };
  return { id: parseId(text, 0n) };
}

function nextId(stream: Stream, wanted: Wanted, host: Host): bigint {
  const tooSmall = 'ERR The ID specified in XADD is equal or smaller than the target stream top item';
  if (stream.lastId === MAX_ID)
    throw new Failure('ERR The stream has exhausted the last possible ID, unable to add more items');
  if (wanted === undefined) {
    const id = idOf(BigInt(Math.floor(host.time() / 1000)), 0n);
    return id > stream.lastId ? id : stream.lastId + 1n;
  }
  if ('id' in wanted) {
    if (wanted.id <= stream.lastId) throw new Failure(tooSmall);
    return wanted.id;
  }
  const time = stream.lastId >> 64n;
  if (wanted.time < time || (wanted.time === time && (stream.lastId & LAST) === LAST))
    throw new Failure(tooSmall);
  return wanted.time === time ? stream.lastId + 1n : idOf(wanted.time, 0n);
}

// ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────

function range(isReverse: boolean) {
  return (keys: Keyspace, [key, first, last, ...rest]: readonly string[]): Reply => {
    const [low, high] = isReverse ? [last!, first!] : [first!, last!];
    const from = boundOf(low, 0n);
    const to = boundOf(high, LAST);
    const begin = low.startsWith('(') ? after(from, 'start') : from;
    const end = high.startsWith('(') ? before(to, 'end') : to;
    const count = countOf(rest);
    const stream = keys.stream(key!);
    if (stream !== undefined && count === 0) return null;
    const found = stream?.range(begin, end) ?? [];
    if (isReverse) found.reverse();
    return (count < 0 ? found : found.slice(0, count)).map(listed);
  };
}

function boundOf(text: string, missing: bigint): bigint {
  if (text === '-') return 0n;
  if (text === '+') return MAX_ID;
  return parseId(text.startsWith('(') ? text.slice(1) : text, missing);
}

function after(id: bigint, what: string): bigint {
  if (id === MAX_ID) throw new Failure(`ERR invalid ${what} ID for the interval`);
  return id + 1n;
}

function before(id: bigint, what: string): bigint {
  if (id === 0n) throw new Failure(`ERR invalid ${what} ID for the interval`);
  return id - 1n;
}

function countOf(rest: readonly string[]): number {
  let count = -1;
  for (let i = 0; i < rest.length; i += 2) {
    if (rest[i]!.toUpperCase() !== 'COUNT' || i + 1 === rest.length) throw syntaxError();
    count = Math.max(0, integerOf(rest[i + 1]!));
  }
  return count;
}

function listed({ id, fields }: StreamEntry): Reply {
  return [formatId(id), [...fields]];
}

/** What XREAD asks for. */
export interface Reading {
  readonly count: number;
  /** Milliseconds to wait; `undefined` for no waiting, 0 for ever. */
  readonly block: number | undefined;
  readonly places: readonly { readonly key: string; readonly after: bigint }[];
}

export function readingOf(keys: Keyspace, args: readonly string[]): Reading {
  let count = 0;
  let block: number | undefined;
  for (let i = 0; i < args.length; i++) {
    const option = args[i]!.toUpperCase();
    if (option === 'COUNT' && i + 1 < args.length) count = Math.max(0, integerOf(args[++i]!));
    else if (option === 'BLOCK' && i + 1 < args.length) block = timeoutOf(args[++i]!);
    else if (option === 'STREAMS' && i + 1 < args.length)
      return { count, block, places: placesOf(keys, args.slice(i + 1)) };
    else throw syntaxError();
  }
  throw syntaxError();
}

function timeoutOf(text: string): number {
  let timeout: bigint;
  try {
    timeout = bigOf(text);
  } catch {
    throw new Failure('ERR timeout is not an integer or out of range');
  }
  if (timeout < 0n) throw new Failure('ERR timeout is negative');
  return Number(timeout);
}

function placesOf(keys: Keyspace, args: readonly string[]): Reading['places'] {
  if (args.length % 2 === 1)
    throw new Failure(
      "ERR Unbalanced XREAD list of streams: for each stream key an ID or '$' must be specified.",
    );
  const half = args.length / 2;
  return args.slice(0, half).map((key, i) => {
    const text = args[half + i]!;
    const last = keys.stream(key)?.lastId ?? 0n;
    return { key, after: text === '$' ? last : parseId(text, 0n) };
  });
}

/** What there is for a reading, or null. */
export function readNow(keys: Keyspace, { count, places }: Reading): Reply {
  const found: Reply[] = [];
  for (const { key, after: place } of places) {
    const entries = place === MAX_ID ? [] : (keys.stream(key)?.range(place + 1n, MAX_ID) ?? []);
    const wanted = count > 0 ? entries.slice(0, count) : entries;
    if (wanted.length > 0) found.push([key, wanted.map(listed)]);
  }
  return found.length === 0 ? null : found;
}

export const streamCommands: Commands = {
  XADD: write([4], add),
  XTRIM: remove([3], (keys, [key, ...args]) => {
    const { trim } = trimOf(args, false);
    if (trim === undefined) throw new Failure('ERR syntax error, XTRIM must be called with MAXLEN or MINID');
    const stream = keys.stream(key!);
    const removed = stream === undefined ? 0 : shorten(stream, trim);
    keys.changes += removed;
    return removed;
  }),
  XDEL: remove([2], (keys, [key, ...ids]) => {
    const stream = keys.stream(key!);
    const wanted = stream === undefined ? [] : ids.map((id) => parseId(id, 0n));
    const removed = wanted.filter((id) => stream!.delete(id)).length;
    keys.changes += removed;
    return removed;
  }),
  XRANGE: read([3], range(false)),
  XREVRANGE: read([3], range(true)),
  XLEN: read(1, (keys, [key]) => keys.stream(key!)?.size ?? 0),
  XREAD: read([3], (keys, args) => readNow(keys, readingOf(keys, args))),
};
