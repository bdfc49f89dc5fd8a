// Commands of the model of Redis on hashes.

import { type Commands, pairsOf, read, remove, write, wrongArity } from './command.ts';
import type { Keyspace } from './keyspace.ts';
import { bigOf, Failure, MAX_INTEGER, OK } from './reply.ts';

function set(keys: Keyspace, [key, ...args]: readonly string[], name: string): number {
  if (args.length % 2 === 1) throw wrongArity(name);
  const hash = keys.grow(key!, keys.hash(key!), () => new Map());
  const before = hash.size;
  for (const [field, value] of pairsOf(args)) hash.set(field, value);
  keys.changes++;
  return hash.size - before;
}

function remover(keys: Keyspace, [key, ...fields]: readonly string[]): number {
  const hash = keys.hash(key!);
  const removed = fields.filter((field) => hash?.delete(field)).length;
  if (removed === 0) return 0;
  keys.changes++;
  keys.dropEmpty(key!, hash!.size);
  return removed;
}

function increment(keys: Keyspace, [key, field, by]: readonly string[]): number {
  const amount = bigOf(by!);
  const found = keys.hash(key!);
  const sum = numberOf(found?.get(field!) ?? '0') + amount;
  if (sum > MAX_INTEGER || sum < -MAX_INTEGER - 1n)
    throw new Failure('ERR increment or decrement would overflow');
  keys.grow(key!, found, () => new Map()).set(field!, String(sum));
  keys.changes++;
  return Number(sum);
}

function numberOf(text: string): bigint {
  try {
    return bigOf(text);
  } catch {
    throw new Failure('ERR hash value is not an integer');
  }
}

export const hashCommands: Commands = {
  HGET: read(2, (keys, [key, field]) => keys.hash(key!)?.get(field!) ?? null),
  HMGET: read([2], (keys, [key, ...fields]) => {
    const hash = keys.hash(key!);
    return fields.map((field) => hash?.get(field) ?? null);
  }),
  HGETALL: read(1, (keys, [key]) => [...(keys.hash(key!) ?? [])].flat()),
  HKEYS: read(1, (keys, [key]) => [...(keys.hash(key!)?.keys() ?? [])]),
  HVALS: read(1, (keys, [key]) => [...(keys.hash(key!)?.values() ?? [])]),
  HLEN: read(1, (keys, [key]) => keys.hash(key!)?.size ?? 0),
  HEXISTS: read(2, (keys, [key, field]) => (keys.hash(key!)?.has(field!) ? 1 : 0)),
  HSTRLEN: read(2, (keys, [key, field]) => keys.hash(key!)?.get(field!)?.length ?? 0),
  HSET: write([3], (keys, args) => set(keys, args, 'hset')),
  HMSET: write([3], (keys, args) => {
    set(keys, args, 'hmset');
    return OK;
  }),
  HSETNX: write(3, (keys, [key, field, value]) => {
    const found = keys.hash(key!);
    if (found?.has(field!)) return 0;
    keys.grow(key!, found, () => new Map()).set(field!, value!);
    keys.changes++;
    return 1;
  }),
  HDEL: remove([2], remover),
  HINCRBY: write(3, increment),
};
