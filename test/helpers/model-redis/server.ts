// One server of the model of Redis: runs commands and scripts, says who it is, and notes what its replicas are to do.

import type { Command, Commands, Host } from './command.ts';
import { wrongArity } from './command.ts';
import { hashCommands } from './hashes.ts';
import { keyCommands } from './keys.ts';
import { Keyspace } from './keyspace.ts';
import { listCommands } from './lists.ts';
import { lua, sha1 } from './lua.ts';
import { Failure, integerOf, OK, type Reply, syntaxError } from './reply.ts';
import { sortedSetCommands } from './sorted-sets.ts';
import { type Reading, readingOf, readNow, streamCommands } from './streams.ts';

const commands: Commands = {
  ...keyCommands,
  ...hashCommands,
  ...listCommands,
  ...sortedSetCommands,
  ...streamCommands,
};

/** What one command or script has done, for replicas: all of it or nothing. */
export type Write = readonly (readonly string[])[];

/** A client that waits for a stream to grow. */
export interface Waiter {
  readonly reading: Reading;
  wake(): void;
  fail(failure: Failure): void;
}

interface ScriptRun {
  readonly isFull: boolean;
  hasWritten: boolean;
}

export interface Identity {
  readonly runId: string;
  readonly replid: string;
}

export const NO_REPLID: string = '0'.repeat(40);

export class Server implements Host {
  readonly keys: Keyspace = new Keyspace();
  readonly runId: string;
  replid: string;
  replid2: string = NO_REPLID;
  isReplica = false;
  /** It answers nothing. */
  isDown = false;
  /** It has no memory left. */
  isFull = false;
  /** It still reads its data. */
  isLoading = false;
  /** Those that do what it does, at once. */
  readonly replicas: Set<Server> = new Set();
  readonly waiters: Set<Waiter> = new Set();
  /** All that was written, in order. */
  readonly writes: Write[] = [];
  readonly #clock: () => number;
  readonly #scripts: Map<string, string> = new Map();
  readonly #own: Readonly<Record<string, (args: readonly string[]) => Reply | Failure>>;
  #write: (readonly string[])[] = [];
  #replacement: readonly string[] | undefined;

  constructor({ runId, replid }: Identity, clock: () => number) {
    this.runId = runId;
    this.replid = replid;
    this.#clock = clock;
    this.keys.onExpired = (key) => this.#write.push(['DEL', key]);
    this.#own = {
      EVAL: ([text, ...rest]) => this.#evaluate(text!, rest),
      EVALSHA: ([digest, ...rest]) => this.#evaluateKnown(digest!.toLowerCase(), rest),
      SCRIPT: ([what, ...rest]) => this.#script(what!.toUpperCase(), rest),
      INFO: (sections) => this.#info(sections),
      CLUSTER: () => new Failure('ERR This instance has cluster support disabled'),
      WAIT: () => this.replicas.size,
    };
  }

  time(): number {
    return this.#clock();
  }

  replicateAs(command: readonly string[]): void {
    this.#replacement = command;
  }

  /** Runs a command of a client. One that would block answers as after its time-out. */
  execute(command: readonly string[]): Reply | Failure {
    const [given = '', ...args] = command;
    const name = given.toUpperCase();
    if (this.isLoading && name !== 'INFO') return loading();
    const own = Object.hasOwn(this.#own, name) ? this.#own[name] : undefined;
    const answer = own === undefined ? this.#run(name, given, args) : this.#runOwn(own, name, args);
    this.#commit();
    return answer;
  }

  /** What an XREAD asks for, where it has to wait for that; `undefined` where it has not. */
  blockedBy([name = '', ...args]: readonly string[]): Reading | undefined {
    if (name.toUpperCase() !== 'XREAD' || this.isLoading) return undefined;
    try {
      const reading = readingOf(this.keys, args);
      return reading.block !== undefined && readNow(this.keys, reading) === null ? reading : undefined;
    } catch {
      return undefined;
    }
  }

  read(reading: Reading): Reply {
    return readNow(this.keys, reading);
  }

  /** Does what its primary has done. */
  apply(write: Write): void {
    this.keys.expires = false;
    for (const [name, ...args] of write) commands[name!]!.run(this.keys, args, this);
    this.keys.expires = true;
    this.#wrote(write);
    this.#wakeWaiters();
  }

  /** It answers nothing any more, and nor do its replicas. */
  stop(): void {
    this.isDown = true;
    for (const replica of this.replicas) replica.stop();
  }

  /** Becomes a replica: takes over all that another server has and, unless it lags, what that writes from now on. */
  follow(primary: Server, { lags = false }: { readonly lags?: boolean } = {}): void {
    this.isReplica = true;
    this.replid = primary.replid;
    this.replid2 = primary.replid2;
    const changed =
      'UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)';
    for (const waiter of [...this.waiters]) waiter.fail(new Failure(changed));
    this.keys.clear();
    this.writes.length = 0;
    const own = [...this.replicas];
    this.replicas.clear();
    for (const write of primary.writes) this.apply(write);
    for (const replica of own) replica.follow(this);
    if (!lags) primary.replicas.add(this);
  }

  #commit(): void {
    if (this.#write.length > 0) this.#wrote(this.#write.splice(0));
    this.#wakeWaiters();
  }

  #wrote(write: Write): void {
    this.writes.push(write);
    for (const replica of this.replicas) replica.apply(write);
  }

  #wakeWaiters(): void {
    if (this.keys.grown.size === 0) return;
    const grown = new Set(this.keys.grown);
    this.keys.grown.clear();
    for (const waiter of [...this.waiters])
      if (waiter.reading.places.some(({ key }) => grown.has(key))) waiter.wake();
  }

  // ── commands ────────────────────────────────────────────────────────────────────────────────────────────

  #run(name: string, given: string, args: readonly string[]): Reply | Failure {
    const command = Object.hasOwn(commands, name) ? commands[name] : undefined;
    if (command === undefined) return unknownCommand(given, args);
    if (args.length < command.least || args.length > command.most) return wrongArity(name);
    if (command.isWrite && this.isReplica) return readOnly();
    if (command.needsMemory && this.isFull) return outOfMemory();
    return this.#perform(command, name, args);
  }

  #perform(command: Command, name: string, args: readonly string[]): Reply | Failure {
    const before = this.keys.changes;
    this.#replacement = undefined;
    try {
      return command.run(this.keys, args, this);
    } catch (error) {
      if (error instanceof Failure) return error;
      throw error;
    } finally {
      if (this.keys.changes > before) this.#write.push(this.#replacement ?? [name, ...args]);
    }
  }

  #runOwn(
    own: (args: readonly string[]) => Reply | Failure,
    name: string,
    args: readonly string[],
  ): Reply | Failure {
    const least = { EVAL: 2, EVALSHA: 2, SCRIPT: 1, WAIT: 2 }[name] ?? 0;
    if (args.length < least) return wrongArity(name);
    try {
      return own(args);
    } catch (error) {
      if (error instanceof Failure) return error;
      throw error;
    }
  }

  // ── scripts ─────────────────────────────────────────────────────────────────────────────────────────────

  #script(what: string, args: readonly string[]): Reply | Failure {
    if (what === 'LOAD' && args.length === 1) {
      const chunk = lua.compile(args[0]!);
      return typeof chunk === 'number' ? this.#learn(args[0]!) : chunk;
    }
    if (what === 'EXISTS') return args.map((digest) => (this.#scripts.has(digest.toLowerCase()) ? 1 : 0));
    if (what !== 'FLUSH') return syntaxError();
    this.#scripts.clear();
    return OK;
  }

  #learn(text: string): string {
    const digest = digestOf(text);
    this.#scripts.set(digest, text);
    return digest;
  }

  #evaluateKnown(digest: string, rest: readonly string[]): Reply | Failure {
    const noScript = new Failure('NOSCRIPT No matching script. Please use EVAL.');
    if (digest.length !== 40) return noScript;
    const { keys, args } = parametersOf(rest);
    const text = this.#scripts.get(digest);
    return text === undefined ? noScript : this.#runScript(text, keys, args);
  }

  #evaluate(text: string, rest: readonly string[]): Reply | Failure {
    const { keys, args } = parametersOf(rest);
    return this.#runScript(text, keys, args);
  }

  #runScript(text: string, keys: readonly string[], args: readonly string[]): Reply | Failure {
    const chunk = lua.compile(text);
    if (typeof chunk !== 'number') return chunk;
    this.#learn(text);
    const run = { isFull: this.isFull, hasWritten: false };
    return lua.run(chunk, keys, args, (command) => this.#callFromScript(command, run));
  }

  #callFromScript(command: readonly string[], run: ScriptRun): Reply | Failure {
    const [given, ...args] = command;
    const name = given!.toUpperCase();
    if (name === 'INFO') return this.#info(args);
    if (name === 'CLUSTER') return new Failure('ERR This instance has cluster support disabled');
    if (Object.hasOwn(this.#own, name))
      return new Failure('ERR This Redis command is not allowed from script');
    const found = Object.hasOwn(commands, name) ? commands[name] : undefined;
    if (found === undefined) return new Failure('ERR Unknown Redis command called from script');
    if (args.length < found.least || args.length > found.most)
      return new Failure('ERR Wrong number of args calling Redis command from script');
    if (found.isWrite && this.isReplica) return readOnly();
    // A script that has written is not stopped in the middle, even where it has not changed anything.
    if (found.needsMemory && run.isFull && !run.hasWritten) return outOfMemory();
    if (found.isWrite) run.hasWritten = true;
    return this.#perform(found, name, args);
  }

  // ── who it is ───────────────────────────────────────────────────────────────────────────────────────────

  #info(sections: readonly string[]): string {
    const all: Readonly<Record<string, () => string>> = {
      server: () => this.#serverInfo(),
      replication: () => this.#replicationInfo(),
      cluster: () => lines('Cluster', ['cluster_enabled:0']),
    };
    const wanted = sections.length === 0 ? Object.keys(all) : sections.map((name) => name.toLowerCase());
    return wanted.flatMap((name) => (Object.hasOwn(all, name) ? [all[name]!()] : [])).join('\r\n');
  }

  #serverInfo(): string {
    return lines('Server', [
      'redis_version:7.0.15',
      'redis_mode:standalone',
      `run_id:${this.runId}`,
      'tcp_port:6379',
    ]);
  }

  #replicationInfo(): string {
    const { replid, replid2, isReplica, replicas } = this;
    return lines('Replication', [
      `role:${isReplica ? 'slave' : 'master'}`,
      `connected_slaves:${replicas.size}`,
      'master_failover_state:no-failover',
      `master_replid:${replid}`,
      `master_replid2:${replid2}`,
      `master_repl_offset:${this.writes.length}`,
      `second_repl_offset:${replid2 === NO_REPLID ? -1 : 0}`,
    ]);
  }
}

function lines(title: string, facts: readonly string[]): string {
  return [`# ${title}`, ...facts, ''].join('\r\n');
}

const digests = new Map<string, string>();

function digestOf(text: string): string {
  const known = digests.get(text) ?? sha1(text);
  digests.set(text, known);
  return known;
}

function parametersOf([count, ...rest]: readonly string[]) {
  const number = integerOf(count!);
  if (number > rest.length) throw new Failure("ERR Number of keys can't be greater than number of args");
  if (number < 0) throw new Failure("ERR Number of keys can't be negative");
  return { keys: rest.slice(0, number), args: rest.slice(number) };
}

function unknownCommand(name: string, args: readonly string[]): Failure {
  const begin = args.map((arg) => `'${arg}' `).join('');
  return new Failure(`ERR unknown command '${name}', with args beginning with: ${begin}`);
}

function readOnly(): Failure {
  return new Failure("READONLY You can't write against a read only replica.");
}

function outOfMemory(): Failure {
  return new Failure("OOM command not allowed when used memory > 'maxmemory'.");
}

function loading(): Failure {
  return new Failure('LOADING Redis is loading the dataset in memory');
}
