// What a command of the model of Redis is.

import type { Keyspace } from './keyspace.ts';
import { Failure, type Reply } from './reply.ts';

/** What a command may ask of the server that runs it. */
export interface Host {
  /** Microseconds since 1970. */
  time(): number;
  /** What replicas are to do instead of the command itself. */
  replicateAs(command: readonly string[]): void;
}

export interface Command {
  /** How many arguments, without its name. */
  readonly least: number;
  readonly most: number;
  readonly isWrite: boolean;
  /** Whether it is refused where there is no memory left. */
  readonly needsMemory: boolean;
  readonly run: (keys: Keyspace, args: readonly string[], host: Host) => Reply;
}

export type Commands = Readonly<Record<string, Command>>;

type Arguments = number | readonly [least: number, most?: number];

export function read(count: Arguments, run: Command['run']): Command {
  return { ...bounds(count), isWrite: false, needsMemory: false, run };
}

export function write(count: Arguments, run: Command['run']): Command {
  return { ...bounds(count), isWrite: true, needsMemory: true, run };
}

/** A command that writes, and that is also run where there is no memory left. */
export function remove(count: Arguments, run: Command['run']): Command {
  return { ...bounds(count), isWrite: true, needsMemory: false, run };
}

function bounds(count: Arguments): { readonly least: number; readonly most: number } {
  if (typeof count === 'number') return { least: count, most: count };
  const [least, most = Infinity] = count;
  return { least, most };
}

export function wrongArity(name: string): Failure {
  return new Failure(`ERR wrong number of arguments for '${name.toLowerCase()}' command`);
}

/** The arguments two by two. */
export function pairsOf(args: readonly string[]): [string, string][] {
  const pairs: [string, string][] = [];
  for (let i = 0; i + 1 < args.length; i += 2) pairs.push([args[i]!, args[i + 1]!]);
  return pairs;
}

/** The items from one index to another, both included; negative ones count from the end. */
export function slice<T>(items: readonly T[], first: number, last: number): T[] {
  const from = first < 0 ? Math.max(0, items.length + first) : first;
  const to = last < 0 ? items.length + last : last;
  return from > to ? [] : items.slice(from, to + 1);
}
