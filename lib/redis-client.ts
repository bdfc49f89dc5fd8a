// Opens connections to Redis with the settings of a program's own client, and keeps them open.
// Needs `redis-line.ts`, `redis-wire.ts` and `backoff.ts` beside it.
//
// The client itself is only duplicated. A connection has one life after another, each with a fresh duplicate: so
// nothing is sent twice, and each life asks Sentinels or the cluster anew where the primary is.

import { Backoff } from './backoff.ts';
import {
  asUnsent,
  failureOf,
  OPEN_TIMEOUT,
  type RedisFailure,
  RedisLine,
  type RedisReply,
  redisFailure,
  silent,
  unreachable,
} from './redis-line.ts';
import {
  type OpenRedisWire,
  type RedisAddress,
  type RedisSource,
  type RedisWord,
  redisSourceOf,
} from './redis-wire.ts';

export { type RedisFailure, type RedisReply, redisFailure } from './redis-line.ts';

export interface RedisSendOptions {
  /** A key of the command, or of the slot that it is for. In a cluster it decides where the command goes. */
  readonly key: string;
  /** Milliseconds to wait for the reply. */
  readonly timeout: number;
}

export interface RedisConnection {
  /**
   * Sends a command. Rejects with a {@link RedisFailure}. Those of one connection are sent in the order of the
   * calls, without waiting for replies; in a cluster, those that are redirected come later.
   *
   * Where nothing at all was answered for as long as a command could wait, the connection is taken for dead.
   */
  send(command: readonly RedisWord[], options: RedisSendOptions): Promise<RedisReply>;
  readonly isUp: boolean;
  /** At once: what waits is rejected. */
  close(): void;
}

export interface OpenedRedis extends RedisConnection {
  /** Gives the present life up for another, at once: what waits is rejected. */
  reset(reason: string): void;
}

/** Never called within `openRedis`, nor after `close`. */
export interface RedisEvents {
  /** It is connected, for the first time or again. */
  onUp(): void;
  /** It broke, or another attempt to connect failed. A failure of kind `reply`: the server does not let us in. */
  onDown(reason: RedisFailure): void;
}

/**
 * Opens a connection of its own, which connects again by itself until it is closed.
 *
 * Error replies `READONLY` end a life of it: the server was a primary, and is none any more. A script that finds
 * itself on a replica can answer with this word.
 *
 * @throws {TypeError} for what is no client of `redis` or `ioredis`, or one with a `keyPrefix`.
 */
export function openRedis(client: unknown, events: RedisEvents): OpenedRedis {
  return new Connection(redisSourceOf(client), events, undefined);
}

/** @throws {TypeError} for what `openRedis` does not take. */
export function checkRedisClient(client: unknown): void {
  redisSourceOf(client);
}

/** Whether Sentinels say which server is the primary, so that a new connection may lead to another one. */
export function hasSentinels(client: unknown): boolean {
  return redisSourceOf(client).hasSentinels;
}

/** What a {@link subscribeRedis} listens to. */
export interface RedisSubscription extends RedisEvents {
  readonly channel: string;
  onMessage(message: string): void;
}

/**
 * Opens a connection that listens to a channel, and is up once the server has taken note of it. In a cluster it goes
 * to the node to which commands with the channel as their key go.
 */
export function subscribeRedis(
  client: unknown,
  subscription: RedisSubscription,
): { readonly isUp: boolean; reset(reason: string): void; close(): void } {
  return new Connection(redisSourceOf(client), subscription, subscription);
}

// Half of the largest of these is how long a server that is back is not noticed, on average.
const DELAYS = { backoffDelay: 100, maxBackoffDelay: 2000, minRetryDelay: 10 };
// A command is sent on to another node at most so often. Two are enough unless slots are being moved.
const MAX_REDIRECTS = 8;

class Connection implements OpenedRedis {
  readonly #source: RedisSource;
  readonly #events: RedisEvents;
  readonly #subscription: RedisSubscription | undefined;
  readonly #backoff = new Backoff(DELAYS);
  #key: string | undefined;
  #life: Life | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(source: RedisSource, events: RedisEvents, subscription: RedisSubscription | undefined) {
    this.#source = source;
    this.#events = events;
    this.#subscription = subscription;
    this.#key = subscription?.channel;
    this.#begin();
  }

  get isUp(): boolean {
    return this.#life?.isUp === true;
  }

  send(command: readonly RedisWord[], options: RedisSendOptions): Promise<RedisReply> {
    this.#key ??= options.key;
    return this.#life?.send(command, options) ?? Promise.reject(unreachable());
  }

  reset(reason: string): void {
    this.#life?.end(redisFailure('unsent', reason));
  }

  close(): void {
    clearTimeout(this.#timer);
    const life = this.#life;
    this.#life = undefined;
    life?.end(redisFailure('unsent', 'the connection to Redis was closed'));
  }

  #begin(): void {
    const life: Life = new Life(this.#source, {
      key: this.#key,
      subscription: this.#subscription,
      onUp: () => {
        if (this.#life === life) this.#events.onUp();
      },
      onEnd: (reason) => {
        if (this.#life === life) this.#lost(life, reason);
      },
    });
    this.#life = life;
  }

  #lost(life: Life, reason: RedisFailure): void {
    this.#backoff.connectionEnded({ age: life.age, hasDelivered: life.hasAnswered, isOrderly: false });
    this.#life = undefined;
    this.#timer = setTimeout(() => this.#begin(), this.#backoff.nextDelay());
    this.#events.onDown(reason);
  }
}

// ── a life ────────────────────────────────────────────────────────────────────────────────────────────────

interface LifeSetting {
  /** Of a cluster, the node that has it must be there. */
  readonly key: string | undefined;
  readonly subscription: RedisSubscription | undefined;
  onUp(): void;
  /** Called once. */
  onEnd(reason: RedisFailure): void;
}

/** From a search for the server to the end of the connection to it. */
class Life {
  readonly #source: RedisSource;
  readonly #setting: LifeSetting;
  readonly #search = new AbortController();
  /** The server, or the node of the cluster that has our keys. */
  #main: RedisLine | undefined;
  readonly #lines: Set<RedisLine> = new Set();
  /** Those to which we were redirected, by the addresses of their nodes. */
  readonly #redirected: Map<string, RedisLine> = new Map();
  #locating: Promise<unknown> | undefined;
  #upSince: number | undefined;
  #isOver = false;

  constructor(source: RedisSource, setting: LifeSetting) {
    this.#source = source;
    this.#setting = setting;
    this.#open().catch((error) => this.end(failureOf(error, 'unsent')));
  }

  get isUp(): boolean {
    return this.#upSince !== undefined && this.#main?.isUp === true;
  }

  /** Milliseconds since it was up. */
  get age(): number {
    return this.#upSince === undefined ? 0 : performance.now() - this.#upSince;
  }

  get hasAnswered(): boolean {
    return this.#main?.hasAnswered === true;
  }

  async #open(): Promise<void> {
    const { key, subscription, onUp } = this.#setting;
    const open = await this.#find();
    if (this.#isOver) return;
    this.#main = this.#connect(open);
    await this.#main.opened;
    if (this.#source.isCluster && key !== undefined) await this.#locate(key, OPEN_TIMEOUT);
    if (subscription !== undefined) await this.#subscribe(this.#main, subscription);
    if (this.#isOver) return;
    this.#upSince = performance.now();
    onUp();
  }

  async #find(): Promise<OpenRedisWire> {
    const stop = () => this.#search.abort(silent());
    const timer = setTimeout(stop, OPEN_TIMEOUT);
    try {
      return await this.#source.find(this.#search.signal);
    } finally {
      clearTimeout(timer);
    }
  }

  #subscribe(line: RedisLine, { channel, onMessage }: RedisSubscription): Promise<void> {
    return withinTime(line.subscribe(channel, onMessage), performance.now() + OPEN_TIMEOUT);
  }

  #connect(open: OpenRedisWire): RedisLine {
    const line: RedisLine = new RedisLine(open, (reason) => {
      this.#lines.delete(line);
      if (line === this.#main) this.end(reason);
    });
    this.#lines.add(line);
    return line;
  }

  async send(command: readonly RedisWord[], { key, timeout }: RedisSendOptions): Promise<RedisReply> {
    if (!this.isUp) throw unreachable();
    if (!this.#source.isCluster) return (this.#main as RedisLine).send(command, timeout);
    const deadline = performance.now() + timeout;
    if (this.#setting.key === undefined) await this.#locateOnce(key, timeout);
    return this.#follow(command, deadline);
  }

  /** The first command says which key it is about. Its node has to be known also to those without a key. */
  #locateOnce(key: string, timeout: number): Promise<unknown> {
    this.#locating ??= this.#locate(key, timeout).catch((error) => {
      this.#locating = undefined;
      throw error;
    });
    return this.#locating;
  }

  /** Makes the node that has a key the main one. */
  async #locate(key: string, timeout: number): Promise<void> {
    try {
      await this.#follow(['EXISTS', key], performance.now() + timeout);
    } catch (error) {
      // A user who may not ask this is redirected by the commands themselves.
      if ((error as RedisFailure).reply !== 'NOPERM') throw asUnsent(error as RedisFailure);
    }
  }

  /** Sends a command to the main node, and on to where that says. */
  async #follow(command: readonly RedisWord[], deadline: number): Promise<RedisReply> {
    let line = this.#main as RedisLine;
    for (let hops = 0, isAsked = false; ; hops++) {
      try {
        return await line.send(command, deadline - performance.now(), isAsked);
      } catch (error) {
        const redirect = hops < MAX_REDIRECTS ? redirectOf(error as RedisFailure) : undefined;
        if (redirect === undefined || this.#isOver) throw error;
        isAsked = redirect.isAsk;
        line = await this.#reach(line, redirect, deadline);
      }
    }
  }

  async #reach(from: RedisLine, { isAsk, address }: Redirect, deadline: number): Promise<RedisLine> {
    const line = this.#lineTo(address, from);
    try {
      await withinTime(line.opened, deadline);
    } catch (error) {
      const failure = asUnsent(error as RedisFailure);
      // Without the node that has our keys nothing works; perhaps the cluster names another by and by.
      if (!isAsk && !line.isOpening) this.end(failure);
      throw failure;
    }
    if (!isAsk) this.#main = line;
    return line;
  }

  #lineTo(address: RedisAddress, from: RedisLine): RedisLine {
    const name = `${address.host ?? ''}:${address.port}`;
    const known = this.#redirected.get(name);
    if (known !== undefined && this.#lines.has(known)) return known;
    const line = this.#connect((events) => from.reach(address, events));
    this.#redirected.set(name, line);
    return line;
  }

  end(reason: RedisFailure): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#search.abort(reason);
    for (const line of [...this.#lines]) line.close(reason);
    this.#setting.onEnd(reason);
  }
}

interface Redirect {
  /** Only this command, not what comes next. */
  readonly isAsk: boolean;
  readonly address: RedisAddress;
}

/** Of `MOVED 3999 127.0.0.1:6381`. A node that does not know its own name leaves it out, or writes `?`. */
function redirectOf({ reply, message }: RedisFailure): Redirect | undefined {
  if (reply !== 'MOVED' && reply !== 'ASK') return undefined;
  const [, host = '', port] = /^\w+ \w+ (.*):(\d+)$/.exec(message) ?? [];
  if (port === undefined) return undefined;
  return {
    isAsk: reply === 'ASK',
    address: { host: host === '' || host === '?' ? undefined : host, port: Number(port) },
  };
}

function withinTime(done: Promise<void>, deadline: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(silent()), Math.max(0, deadline - performance.now()));
    done.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}
