// Commands of the model of Redis on sorted sets.

import { type Commands, pairsOf, read, remove, slice, write } from './command.ts';
import type { Keyspace } from './keyspace.ts';
import { doubleOf, Failure, formatDouble, integerOf, notAFloat, type Reply, syntaxError } from './reply.ts';
import { type Scored, SortedSet } from './sorted-set.ts';

const FLAGS = ['NX', 'XX', 'GT', 'LT', 'CH', 'INCR'];

function add(keys: Keyspace, [key, ...args]: readonly string[]): Reply {
  let begin = 0;
  const flags = new Set<string>();
  for (; FLAGS.includes(args[begin]?.toUpperCase() ?? ''); begin++) flags.add(args[begin]!.toUpperCase());
  const rest = args.slice(begin);
  if (rest.length % 2 === 1 || rest.length === 0) throw syntaxError();
  refuseTogether(flags, rest.length);
  const items = pairsOf(rest).map(([score, member]) => ({ score: doubleOrThrow(score), member }));
  const found = keys.sortedSet(key!);
  if (found === undefined && flags.has('XX')) return flags.has('INCR') ? null : 0;
  const set = keys.grow(key!, found, () => new SortedSet());
  return flags.has('INCR') ? incremented(keys, set, items[0]!, flags) : put(keys, set, items, flags);
}

function refuseTogether(flags: ReadonlySet<string>, length: number): void {
  if (flags.has('NX') && flags.has('XX'))
    throw new Failure('ERR XX and NX options at the same time are not compatible');
  if ([flags.has('NX'), flags.has('GT'), flags.has('LT')].filter(Boolean).length > 1)
    throw new Failure('ERR GT, LT, and/or NX options at the same time are not compatible');
  if (flags.has('INCR') && length > 2)
    throw new Failure('ERR INCR option supports a single increment-element pair');
}

/** Whether an item may get a score. */
function mayGet(score: number, before: number | undefined, flags: ReadonlySet<string>): boolean {
  if (before === undefined) return !flags.has('XX');
  return !flags.has('NX') && !(flags.has('GT') && score <= before) && !(flags.has('LT') && score >= before);
}

function put(keys: Keyspace, set: SortedSet, items: readonly Scored[], flags: ReadonlySet<string>): number {
  let [added, changed] = [0, 0];
  for (const { member, score } of items) {
    const before = set.scoreOf(member);
    if (!mayGet(score, before, flags) || before === score) continue;
    set.set(member, score);
    if (before === undefined) added++;
    else changed++;
  }
  keys.changes += added + changed;
  return flags.has('CH') ? added + changed : added;
}

function incremented(keys: Keyspace, set: SortedSet, item: Scored, flags: ReadonlySet<string>): Reply {
  const before = set.scoreOf(item.member);
  const score = (before ?? 0) + item.score;
  if (before !== undefined && flags.has('NX')) return null;
  if (Number.isNaN(score)) throw new Failure('ERR resulting score is not a number (NaN)');
  if (!mayGet(score, before, flags)) return null;
  set.set(item.member, score);
  keys.changes++;
  return formatDouble(score);
}

function doubleOrThrow(text: string): number {
  const value = doubleOf(text);
  if (value === undefined) throw notAFloat();
  return value;
}

// ── ranges ──────────────────────────────────────────────────────────────────────────────────────────────────

type Test = (item: Scored) => boolean;

function scoresBetween(low: string, high: string): Test {
  const [from, to] = [boundOf(low), boundOf(high)];
  return ({ score }) =>
    (from.isOpen ? score > from.value : score >= from.value) &&
    (to.isOpen ? score < to.value : score <= to.value);
}

function boundOf(text: string): { readonly value: number; readonly isOpen: boolean } {
  const isOpen = text.startsWith('(');
  const number = isOpen ? text.slice(1) : text;
  const value = number === '' ? 0 : doubleOf(number.trimStart());
  if (value === undefined) throw new Failure('ERR min or max is not a float');
  return { value, isOpen };
}

/** Of items with one score, which are in the order of their names. */
function namesBetween(
  all: readonly Scored[],
  low: string,
  high: string,
  isReverse: boolean,
): readonly Scored[] {
  const isLow: Test = ({ member }) => isAbove(member, low);
  const isHigh: Test = ({ member }) => isBelow(member, high);
  const [lowest, highest] = isReverse ? [all.at(-1), all[0]] : [all[0], all.at(-1)];
  if (lowest === undefined || !isHigh(lowest) || !isLow(highest!)) return [];
  const [begins, goesOn] = isReverse ? [isHigh, isLow] : [isLow, isHigh];
  const first = all.findIndex(begins);
  if (first === -1) return [];
  const end = all.findIndex((item, i) => i >= first && !goesOn(item));
  return all.slice(first, end === -1 ? undefined : end);
}

function checkNames(...bounds: readonly string[]): void {
  for (const bound of bounds)
    if (!/^[[(]/.test(bound) && bound !== '-' && bound !== '+')
      throw new Failure('ERR min or max not valid string range item');
}

function isAbove(member: string, bound: string): boolean {
  if (bound === '-' || bound === '+') return bound === '-';
  return bound.startsWith('[') ? member >= bound.slice(1) : member > bound.slice(1);
}

function isBelow(member: string, bound: string): boolean {
  if (bound === '-' || bound === '+') return bound === '+';
  return bound.startsWith('[') ? member <= bound.slice(1) : member < bound.slice(1);
}

interface RangeOptions {
  readonly by: 'rank' | 'score' | 'name';
  readonly isReverse: boolean;
  readonly withScores: boolean;
  readonly offset: number;
  readonly limit: number;
  readonly isLimited: boolean;
}

function optionsOf(
  args: readonly string[],
  known: readonly string[],
  begin: Partial<RangeOptions>,
): RangeOptions {
  let options: RangeOptions = {
    by: 'rank',
    isReverse: false,
    withScores: false,
    offset: 0,
    limit: -1,
    isLimited: false,
    ...begin,
  };
  for (let i = 0; i < args.length; i++) {
    const option = args[i]!.toUpperCase();
    const isRepeated =
      option === 'REV' ? options.isReverse : option.startsWith('BY') && options.by !== 'rank';
    if (!known.includes(option) || isRepeated) throw syntaxError();
    if (option === 'WITHSCORES') options = { ...options, withScores: true };
    else if (option === 'REV') options = { ...options, isReverse: true };
    else if (option === 'BYSCORE') options = { ...options, by: 'score' };
    else if (option === 'BYLEX') options = { ...options, by: 'name' };
    else if (i + 2 < args.length) {
      options = {
        ...options,
        offset: integerOf(args[i + 1]!),
        limit: integerOf(args[i + 2]!),
        isLimited: true,
      };
      i += 2;
    } else throw syntaxError();
  }
  return options;
}

function range(keys: Keyspace, key: string, first: string, last: string, options: RangeOptions): Reply {
  const { by, isReverse, withScores } = options;
  const [low, high] = isReverse && by !== 'rank' ? [last, first] : [first, last];
  if (by === 'rank') {
    const [from, to] = [integerOf(first), integerOf(last)];
    return listed(slice(ordered(keys.sortedSet(key), isReverse), from, to), withScores);
  }
  const isIn = by === 'score' ? scoresBetween(low, high) : checkNames(low, high);
  const all = ordered(keys.sortedSet(key), isReverse);
  const wanted = isIn === undefined ? namesBetween(all, low, high, isReverse) : all.filter(isIn);
  return listed(limited(wanted, options), withScores);
}

function limited(all: readonly Scored[], { offset, limit }: RangeOptions): readonly Scored[] {
  if (offset < 0) return [];
  return limit < 0 ? all.slice(offset) : all.slice(offset, offset + limit);
}

function ordered(set: SortedSet | undefined, isReverse: boolean): readonly Scored[] {
  const all = set?.all ?? [];
  return isReverse ? [...all].reverse() : all;
}

function listed(items: readonly Scored[], withScores: boolean): Reply {
  return items.flatMap(({ member, score }) => (withScores ? [member, formatDouble(score)] : [member]));
}

function rangeOf(keys: Keyspace, [key, first, last, ...rest]: readonly string[]): Reply {
  const options = optionsOf(rest, ['WITHSCORES', 'REV', 'BYSCORE', 'BYLEX', 'LIMIT'], {});
  if (options.isLimited && options.by === 'rank' && options.limit !== -1)
    throw new Failure(
      'ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX',
    );
  if (options.withScores && options.by === 'name')
    throw new Failure('ERR syntax error, WITHSCORES not supported in combination with BYLEX');
  return range(keys, key!, first!, last!, options);
}

function remover(keys: Keyspace, key: string, isIn: (item: Scored) => boolean): number {
  const set = keys.sortedSet(key);
  const removed = (set?.all ?? []).filter(isIn);
  for (const { member } of removed) set!.delete(member);
  keys.changes += removed.length;
  if (set !== undefined) keys.dropEmpty(key, set.size);
  return removed.length;
}

// ── unions ──────────────────────────────────────────────────────────────────────────────────────────────────

interface Union {
  readonly names: readonly string[];
  readonly weights: readonly number[];
  readonly aggregate: (one: number, other: number) => number;
}

const aggregates: Readonly<Record<string, Union['aggregate']>> = {
  SUM: (one, other) => (Number.isNaN(one + other) ? 0 : one + other),
  MIN: (one, other) => Math.min(one, other),
  MAX: (one, other) => Math.max(one, other),
};

function unionOf(keys: Keyspace, args: readonly string[]): Union {
  const count = integerOf(args[0]!);
  if (count < 1) throw new Failure("ERR at least 1 input key is needed for 'zunionstore' command");
  if (count > args.length - 1) throw syntaxError();
  const names = args.slice(1, 1 + count);
  for (const name of names) keys.sortedSet(name);
  let weights: readonly number[] = names.map(() => 1);
  let aggregate = aggregates.SUM!;
  for (let i = 1 + count; i < args.length; ) {
    const option = args[i]!.toUpperCase();
    if (option === 'WEIGHTS' && args.length - i > count) {
      weights = args.slice(i + 1, i + 1 + count).map(weightOf);
      i += 1 + count;
    } else if (option === 'AGGREGATE' && Object.hasOwn(aggregates, args[i + 1]?.toUpperCase() ?? '')) {
      aggregate = aggregates[args[i + 1]!.toUpperCase()]!;
      i += 2;
    } else throw syntaxError();
  }
  return { names, weights, aggregate };
}

function weightOf(text: string): number {
  const weight = doubleOf(text);
  if (weight === undefined) throw new Failure('ERR weight value is not a float');
  return weight;
}

function unionStore(keys: Keyspace, [target, ...args]: readonly string[]): Reply {
  const { names, weights, aggregate } = unionOf(keys, args);
  const result = new SortedSet();
  names.forEach((name, i) => {
    for (const { member, score } of keys.sortedSet(name)?.all ?? []) {
      const weighted = score * weights[i]! || 0;
      const before = result.scoreOf(member);
      result.set(member, before === undefined ? weighted : aggregate(before, weighted));
    }
  });
  if (result.size > 0) keys.set(target!, result);
  else keys.delete(target!);
  return result.size;
}

export const sortedSetCommands: Commands = {
  ZADD: write([3], add),
  ZSCORE: read(2, (keys, [key, member]) => textOf(keys.sortedSet(key!)?.scoreOf(member!))),
  ZMSCORE: read([2], (keys, [key, ...members]) => {
    const set = keys.sortedSet(key!);
    return members.map((member) => textOf(set?.scoreOf(member)));
  }),
  ZCARD: read(1, (keys, [key]) => keys.sortedSet(key!)?.size ?? 0),
  ZCOUNT: read(3, (keys, [key, low, high]) => {
    const isIn = scoresBetween(low!, high!);
    return (keys.sortedSet(key!)?.all ?? []).filter(isIn).length;
  }),
  ZRANK: read(2, (keys, [key, member]) => {
    const rank = keys.sortedSet(key!)?.all.findIndex((item) => item.member === member) ?? -1;
    return rank === -1 ? null : rank;
  }),
  ZRANGE: read([3], rangeOf),
  ZREVRANGE: read([3], (keys, [key, first, last, ...rest]) =>
    range(keys, key!, first!, last!, optionsOf(rest, ['WITHSCORES'], { isReverse: true })),
  ),
  ZRANGEBYSCORE: read([3], (keys, [key, low, high, ...rest]) =>
    range(keys, key!, low!, high!, optionsOf(rest, ['WITHSCORES', 'LIMIT'], { by: 'score' })),
  ),
  ZRANGEBYLEX: read([3], (keys, [key, low, high, ...rest]) =>
    range(keys, key!, low!, high!, optionsOf(rest, ['LIMIT'], { by: 'name' })),
  ),
  ZREM: remove([2], (keys, [key, ...members]) => {
    const wanted = new Set(members);
    return remover(keys, key!, ({ member }) => wanted.has(member));
  }),
  ZREMRANGEBYSCORE: remove(3, (keys, [key, low, high]) => remover(keys, key!, scoresBetween(low!, high!))),
  ZREMRANGEBYRANK: remove(3, (keys, [key, first, last]) => {
    const [from, to] = [integerOf(first!), integerOf(last!)];
    const wanted = new Set(slice(keys.sortedSet(key!)?.all ?? [], from, to));
    return remover(keys, key!, (item) => wanted.has(item));
  }),
  ZUNIONSTORE: write([3], unionStore),
};

function textOf(score: number | undefined): string | null {
  return score === undefined ? null : formatDouble(score);
}
