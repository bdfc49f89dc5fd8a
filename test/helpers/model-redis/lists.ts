// Commands of the model of Redis on lists.

import { type Command, type Commands, read, remove, slice, write, wrongArity } from './command.ts';
import type { Keyspace } from './keyspace.ts';
import { Failure, integerOf, MAX_INTEGER, OK, type Reply } from './reply.ts';

type Side = 'left' | 'right';

function push(side: Side, onlyWhereOne = false): Command['run'] {
  return (keys, [key, ...values]) => {
    const found = keys.list(key!);
    if (found === undefined && onlyWhereOne) return 0;
    const list = keys.grow(key!, found, () => []);
    for (const value of values) {
      if (side === 'left') list.unshift(value);
      else list.push(value);
    }
    keys.changes++;
    return list.length;
  };
}

function pop(side: Side): Command['run'] {
  return (keys, [key, text, ...rest]) => {
    if (rest.length > 0) throw wrongArity(side === 'left' ? 'lpop' : 'rpop');
    const count = text === undefined ? undefined : countOf(text);
    const list = keys.list(key!);
    if (list === undefined) return null;
    const values: string[] = [];
    for (let i = Math.min(count ?? 1, list.length); i > 0; i--)
      values.push((side === 'left' ? list.shift() : list.pop())!);
    if (values.length > 0) keys.changes++;
    keys.dropEmpty(key!, list.length);
    return count === undefined ? values[0]! : values;
  };
}

function countOf(text: string): number {
  const count = /^(?:0|[1-9]\d{0,18})$/.test(text) ? BigInt(text) : -1n;
  if (count < 0n || count > MAX_INTEGER) throw new Failure('ERR value is out of range, must be positive');
  return Number(count);
}

function trim(keys: Keyspace, [key, first, last]: readonly string[]): Reply {
  const [from, to] = [integerOf(first!), integerOf(last!)];
  const list = keys.list(key!);
  if (list === undefined) return OK;
  const kept = slice(list, from, to);
  list.splice(0, list.length, ...kept);
  keys.changes++;
  keys.dropEmpty(key!, list.length);
  return OK;
}

export const listCommands: Commands = {
  RPUSH: write([2], push('right')),
  LPUSH: write([2], push('left')),
  RPUSHX: write([2], push('right', true)),
  LPUSHX: write([2], push('left', true)),
  LPOP: remove([1], pop('left')),
  RPOP: remove([1], pop('right')),
  LTRIM: remove(3, trim),
  LINDEX: read(2, (keys, [key, index]) => {
    const list = keys.list(key!);
    return list === undefined ? null : (list.at(integerOf(index!)) ?? null);
  }),
  LRANGE: read(3, (keys, [key, first, last]) => {
    const [from, to] = [integerOf(first!), integerOf(last!)];
    return slice(keys.list(key!) ?? [], from, to);
  }),
  LLEN: read(1, (keys, [key]) => keys.list(key!)?.length ?? 0),
};
