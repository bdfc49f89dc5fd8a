// Keeps the events of several hubs in one Redis, by the application's own client: `redis` or `ioredis`.
// Needs `history-limits.ts`, `log.ts`, `redis-appends.ts`, `redis-client.ts`, `redis-connections.ts`,
// `redis-follower.ts`, `redis-reader.ts`, `redis-replicas.ts`, `redis-store.ts`, `redis-verify.ts`, `redis-wire.ts`, and
// what these need, beside it.

import { atLeastOne, checkLimits, type HistoryLimits, type Limits } from './history-limits.ts';
import {
  type Appended,
  type AppendOptions,
  type ListOptions,
  type LogIntake,
  type LogPage,
  logUnavailable,
  type NewEntry,
  outcomeUnknown,
  type SharedLog,
  type TopicChange,
  type TopicRecord,
} from './log.ts';
import { RedisAppends } from './redis-appends.ts';
import type { RedisConnection } from './redis-client.ts';
import {
  isPassing,
  outcomeOf,
  pause,
  RedisConnections,
  retryUntil,
  takesNone,
  type Use,
} from './redis-connections.ts';
import { RedisFollower } from './redis-follower.ts';
import { RedisReader } from './redis-reader.ts';
import { RedisReplicas } from './redis-replicas.ts';
import { type Batch, isAfter, type OrderStatus, type Place, RedisStore } from './redis-store.ts';
import { faultOf, verifyRedis } from './redis-verify.ts';
import { redisSourceOf } from './redis-wire.ts';

export interface RedisLogOptions {
  /** Names the hub: its keys are `{name}:meta` and so on. Default `sluice`. */
  name?: string | undefined;
  /**
   * The limits of each topic, or a function that may be called again for a topic and must not throw. The newest
   * event stays, whatever its size. The limits of the node that appends hold for what it appends.
   */
  history?: HistoryLimits | ((topic: string) => HistoryLimits) | undefined;
  /**
   * Most topics that are remembered, with or without events; default 100,000. Those that were silent for longest
   * are forgotten. Afterwards, a client with an older id gets a gap in any topic that is not remembered.
   */
  maxTopics?: number | undefined;
  /**
   * The limits of the feed that all nodes follow; default 10,000 entries and 16 MiB. A node that was away for
   * longer reads what it missed from the histories of the topics.
   */
  feed?: { maxEvents?: number | undefined; maxBytes?: number | undefined } | undefined;
  /**
   * When a change of the Redis server counts as a loss. `'gap'` (default): a restart, and a replica that takes over.
   * Each client is then told of one gap. `'trust'`: only where a node knows of newer events. Choose it where
   * nothing that was answered can be lost, as with `appendfsync always`. `'position'`: the same, for services
   * whose `INFO` does not say which server it is. All nodes must have the same.
   */
  lineage?: 'gap' | 'trust' | 'position' | undefined;
  /**
   * Waits until so many replicas have what was appended; where they do not in time, the outcome is unknown. The
   * log waits for one after another, and an append for the next one: it may take up to `appendTimeout` + 2 ×
   * (`timeout` + 1 s).
   */
  wait?: { replicas: number; timeout: number } | undefined;
  /** Milliseconds after which an append rejects, without the time for `wait`; default 900. */
  appendTimeout?: number | undefined;
  /**
   * Milliseconds between two checks that nothing was lost without a sign, and that the Sentinels, where the client
   * knows some, still name the same primary; default 5,000.
   */
  checkInterval?: number | undefined;
  /** Most reads at once; default 4. The others wait. */
  maxReads?: number | undefined;
  /** How long idempotency keys are kept, default 24 hours, and how many, default 10,000. */
  idempotency?: { maxAge?: number | undefined; maxKeys?: number | undefined } | undefined;
}

const KEPT_LIMITS = 10_000;

/** What may wait for Redis at once, as it is held: see {@link heldBytes}. */
const MAX_PENDING_BYTES = 64 * 1024 * 1024;

/** Milliseconds. */
const STEP_TIMEOUT = 5000;

/**
 * The log of the hubs that share a Redis: `new Hub({ log: new RedisLog(client) })`.
 *
 * The client itself is not used, and need not be connected: the log opens three more connections with its
 * settings, and a fourth where it waits for replicas.
 * All keys of a hub are in one slot, so a cluster carries more hubs and not a bigger one.
 */
export class RedisLog implements SharedLog {
  readonly order = 'shared';
  readonly #options: ReturnType<typeof checkOptions>;
  readonly #store: RedisStore;
  readonly #follower: RedisFollower;
  readonly #connections: RedisConnections;
  readonly #reader: RedisReader;
  readonly #replicas: RedisReplicas | undefined;
  readonly #appends = new RedisAppends({
    send: (batches) => this.#appendAll(batches),
    fits: (topic, count, bytes) => {
      const { maxEvents, maxBytes } = this.#batchLimits(topic);
      return count <= maxEvents && bytes <= maxBytes;
    },
  });
  #acknowledged: Place = { epoch: 0, seq: 0 };
  #pendingBytes = 0;
  #failure: Error | undefined;
  #intake: LogIntake | undefined;
  #isClosed = false;
  #isPruning = false;
  #isCleaning = false;

  /** @throws {RangeError | TypeError} naming the option that cannot be used. */
  constructor(client: unknown, options: RedisLogOptions = {}) {
    redisSourceOf(client);
    this.#options = checkOptions(options);
    this.#store = new RedisStore(this.#options);
    const { wait } = this.#options;
    const uses: readonly Use[] = [
      'append',
      'read',
      'follow',
      ...(wait === undefined ? [] : ['wait' as const]),
    ];
    this.#connections = new RedisConnections(client, uses, (reason) => {
      if (this.#intake !== undefined) this.#follower.lost(this.#intake, reason);
    });
    this.#replicas =
      wait &&
      new RedisReplicas({
        ...wait,
        connection: () => this.#connections.get('wait'),
        key: this.#store.answers,
      });
    this.#follower = new RedisFollower({
      store: this.#store,
      connection: () => this.#connections.get('follow'),
      reached: () => this.#connections.reached(),
      checkInterval: this.#options.checkInterval,
      known: () => this.#known,
      checked: (status) => {
        this.#connections.leaveReplaced();
        this.#tidy(status);
      },
    });
    this.#reader = new RedisReader({
      store: this.#store,
      maxReads: this.#options.maxReads,
      connection: () => this.#connections.get('read'),
      known: () => this.#follower.told,
      checkReached: () => this.#checkReached(),
      hasChanged: (epoch, timeout) => this.#leavesEpoch(epoch, timeout),
    });
  }

  /**
   * Tells whether the log can work, before a server starts on it.
   *
   * @returns `false` where Redis cannot be reached now: the log works as soon as it can.
   * Rejects with a code of its own, such as `ERR_SSE_REDIS_DENIED`, where it never will, until somebody changes something.
   */
  async verify(): Promise<boolean> {
    this.#connections.open();
    const reason = await this.#connections.settled(STEP_TIMEOUT);
    if (reason === undefined) {
      const options = { known: this.#known, waits: this.#replicas !== undefined };
      return verifyRedis(this.#connections.get('read'), this.#store, options);
    }
    const fault = faultOf(reason);
    if (fault !== undefined) throw fault;
    return false;
  }

  follow(intake: LogIntake): void {
    if (this.#isClosed) return;
    this.#intake = intake;
    this.#connections.open();
    void this.#follower.run(intake);
  }

  async append(topic: string, events: readonly NewEntry[], options: AppendOptions = {}): Promise<Appended> {
    if (events.length === 0) throw new RangeError('`events` must have at least one event');
    const bytes = events.reduce((sum, { frame }) => sum + frame.length, 0);
    this.#checkBatch(topic, events.length, bytes);
    return this.#within(heldBytes(events), () => {
      if (options.idempotency === undefined) return this.#appends.add(topic, events, bytes, options.behind);
      this.#appends.flush();
      return this.#appendOnce(topic, events, options);
    });
  }

  get lag(): number {
    return this.#follower.lag;
  }

  /** Why Redis, which can be read, takes no events at present: its memory is full, for example. */
  get failure(): Error | undefined {
    return this.#failure;
  }

  async change(topic: string, change: TopicChange): Promise<boolean> {
    this.#appends.flush();
    const limit = performance.now() + this.#options.appendTimeout;
    const place = await this.#within(heldBytes([]), () =>
      this.#write(limit, (connection, timeout) =>
        this.#store.change(connection, this.#known, topic, change, timeout),
      ),
    );
    if (place !== undefined) await this.#settle(place, limit);
    return place !== undefined;
  }

  read(
    topics: readonly string[],
    after: number,
    maxBytes: number,
    { newestOnly }: { readonly newestOnly: boolean },
  ): Promise<LogPage> {
    return this.#reader.read(topics, after, maxBytes, newestOnly);
  }

  find(topics: readonly string[]): Promise<readonly TopicRecord[]> {
    return this.#reader.find(topics);
  }

  /** A topic that was deleted is not listed before something is published to it. */
  list(options: ListOptions = {}): Promise<readonly TopicRecord[]> {
    return this.#reader.list(options);
  }

  beforeNewest(topics: readonly string[], count: number): Promise<number> {
    return this.#reader.beforeNewest(topics, count);
  }

  /** Closes its connections. Further calls have no effect. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#follower.close();
    this.#connections.close();
  }

  // ── writing ──────────────────────────────────────────────────────────────────────────────────────────────

  /** The newest place that this node knows of: a server that has less has lost something. */
  get #known(): Place {
    const { told } = this.#follower;
    return isAfter(this.#acknowledged, told) ? this.#acknowledged : told;
  }

  async #appendOnce(topic: string, events: readonly NewEntry[], options: AppendOptions): Promise<Appended> {
    const limit = performance.now() + this.#options.appendTimeout;
    const { topics, ...appended } = await this.#write(limit, (connection, timeout) =>
      this.#store.append(connection, this.#known, topic, events, options, timeout),
    );
    await this.#appended([appended], topics, limit);
    return appended;
  }

  async #appendAll(batches: readonly Batch[]): Promise<readonly (Appended | Error)[]> {
    const limit = performance.now() + this.#options.appendTimeout;
    const { epoch, topics, parts } = await this.#write(limit, (connection, timeout) =>
      this.#store.appendAll(connection, this.#known, batches, timeout),
    );
    const results = parts.map((part) => (part instanceof Error ? this.#outcomeOf(part) : { epoch, ...part }));
    const appended = results.filter((one) => !(one instanceof Error)) as Appended[];
    try {
      await this.#appended(appended, topics, limit);
    } catch (error) {
      // What was refused is not in the log, whatever became of the others.
      return results.map((one) => (one instanceof Error ? one : (error as Error)));
    }
    return results;
  }

  async #appended(appended: readonly Appended[], topics: number, limit: number): Promise<void> {
    if (topics > this.#options.maxTopics) void this.#prune(topics);
    const last = appended.at(-1);
    if (last !== undefined)
      await this.#settle({ epoch: last.epoch, seq: last.first + last.count - 1 }, limit);
  }

  /** The most that one command appends to a topic: half of what is kept, so that it is there as a whole. */
  #batchLimits(topic: string): { readonly maxEvents: number; readonly maxBytes: number } {
    const { feed } = this.#options;
    const limits = this.#options.limitsOf(topic);
    const halfOf = (a: number, b: number): number => Math.max(1, Math.floor(Math.min(a, b) / 2));
    return {
      maxEvents: halfOf(limits.maxEvents, feed.maxEvents),
      maxBytes: halfOf(limits.maxBytes, feed.maxBytes),
    };
  }

  #checkBatch(topic: string, count: number, bytes: number): void {
    const { maxEvents, maxBytes } = this.#batchLimits(topic);
    if (count <= 1 || (count <= maxEvents && bytes <= maxBytes)) return;
    const message = `a batch for topic "${topic}" must have at most ${maxEvents} events and ${maxBytes} bytes, got ${count} events and ${bytes} bytes: split it`;
    throw Object.assign(new RangeError(message), {
      code: 'ERR_SSE_BATCH_TOO_LARGE',
      status: 413,
      maxEvents,
      maxBytes,
    });
  }

  /** Where Redis is slow, what publishers hand over must not pile up. */
  async #within<T>(bytes: number, run: () => Promise<T>): Promise<T> {
    if (this.#pendingBytes > 0 && this.#pendingBytes + bytes > MAX_PENDING_BYTES)
      throw logUnavailable(`${this.#pendingBytes} bytes wait for Redis already`);
    this.#pendingBytes += bytes;
    try {
      return await run();
    } finally {
      this.#pendingBytes -= bytes;
    }
  }

  /** Runs a command that writes, again where the server certainly has not run it and soon may. */
  async #write<T>(
    limit: number,
    run: (connection: RedisConnection, timeout: number) => Promise<T>,
  ): Promise<T> {
    const attempt = (timeout: number): Promise<T> => {
      this.#checkReached();
      return run(this.#connections.get('append'), timeout);
    };
    this.#pendingBytes += COMMAND_BYTES;
    try {
      return await retryUntil(limit, attempt, async (error) => {
        const { epoch: spoiled } = error as { epoch?: number };
        if (spoiled !== undefined) await this.#checkOrder(spoiled);
        await pause();
      });
    } catch (error) {
      throw this.#outcomeOf(error);
    } finally {
      this.#pendingBytes -= COMMAND_BYTES;
    }
  }

  /** What the failure of a command, or of a part of it, means. Learns from it whether Redis takes events. */
  #outcomeOf(error: unknown): Error {
    const outcome = outcomeOf(error) as Error;
    if (takesNone(error)) this.#failure = outcome;
    return outcome;
  }

  #checkReached(): void {
    if (this.#isClosed) throw logUnavailable('the log is closed');
    const { failure } = this.#follower;
    if (failure === undefined) return;
    const why = failure instanceof Error ? failure.message : String(failure);
    throw logUnavailable(`Redis cannot be reached at present: ${why}`, failure);
  }

  /** What was appended is read by who subscribes now, and on as many replicas as were asked for. */
  async #settle(place: Place, limit: number): Promise<void> {
    if (isAfter(place, this.#acknowledged)) this.#acknowledged = place;
    const reaching = this.#follower.reaches(place, limit - performance.now());
    await this.#replicas?.reached();
    if (await reaching) return;
    throw outcomeUnknown('what was appended has not come back from Redis in time');
  }

  /** A new epoch that begins by this reaches the follower as the next entry of the feed. */
  #check(spoiled?: number): Promise<OrderStatus> {
    return this.#store.check(this.#connections.get('read'), this.#known, STEP_TIMEOUT, spoiled);
  }

  async #checkOrder(spoiled?: number): Promise<void> {
    try {
      await this.#check(spoiled);
    } catch {
      // The follower checks as well, and reports what fails.
    }
  }

  /**
   * Where a server says that an epoch is over, waits until the follower has heard of another.
   * @returns whether it has. Not where the order is still the same: a replica may have answered that has less.
   */
  async #leavesEpoch(epoch: number, timeout: number): Promise<boolean> {
    try {
      const isStill = this.#follower.told.epoch === epoch && (await this.#check()).head.epoch === epoch;
      if (isStill) return false;
    } catch (error) {
      if (isPassing(error)) return false;
    }
    return this.#follower.reaches({ epoch: epoch + 1, seq: 0 }, timeout);
  }

  // ── between appends ──────────────────────────────────────────────────────────────────────────────────────

  #tidy({ topics, stale }: OrderStatus): void {
    if (topics > this.#options.maxTopics) void this.#prune(topics);
    if (stale > 0) void this.#clean();
    if (this.#failure !== undefined) void this.#tryAgain();
  }

  /** Finds out whether Redis takes events again, also where nobody appends any meanwhile. */
  async #tryAgain(): Promise<void> {
    try {
      const refused = await this.#store.tryCommands(this.#connections.get('read'), STEP_TIMEOUT);
      if (refused === undefined) this.#failure = undefined;
    } catch {
      // The next check tries again.
    }
  }

  async #prune(topics: number): Promise<void> {
    if (this.#isPruning) return;
    this.#isPruning = true;
    const { maxTopics } = this.#options;
    try {
      for (let left = topics, before = Infinity; left > maxTopics && left < before && !this.#isClosed; ) {
        const connection = this.#connections.get('read');
        before = left;
        left = await this.#store.prune(connection, maxTopics, left - maxTopics, STEP_TIMEOUT);
      }
    } catch {
      // The next check finds as many.
    } finally {
      this.#isPruning = false;
    }
  }

  async #clean(): Promise<void> {
    if (this.#isCleaning) return;
    this.#isCleaning = true;
    try {
      while (!this.#isClosed && (await this.#store.clean(this.#connections.get('read'), STEP_TIMEOUT)) > 0);
    } catch {
      // The next check finds as many.
    } finally {
      this.#isCleaning = false;
    }
  }
}

// Measured with each of the clients: what a command holds while it waits, an append, and each event beside its frame.
const COMMAND_BYTES = 9500;
const APPEND_BYTES = 1500;
const EVENT_BYTES = 300;

/** What an append holds without its command. A key is there as text, which may take two bytes a character. */
function heldBytes(events: readonly NewEntry[]): number {
  const bytesOf = ({ frame, key = '' }: NewEntry): number => frame.length + 2 * key.length + EVENT_BYTES;
  return events.reduce((sum, event) => sum + bytesOf(event), APPEND_BYTES);
}

// ── options ─────────────────────────────────────────────────────────────────────────────────────────────────

const MAX_DELAY = 2 ** 31 - 1;

function checkOptions(options: RedisLogOptions) {
  const { name = 'sluice', history = {}, maxTopics = 100_000, lineage = 'gap', wait } = options;
  const { appendTimeout = 900, checkInterval = 5000, maxReads = 4, feed = {}, idempotency = {} } = options;
  if (typeof name !== 'string' || !NAME.test(name))
    throw new TypeError(
      `\`name\` must have 1 to 100 characters of A–Z, a–z, 0–9 and ._~:-, got ${JSON.stringify(name)}`,
    );
  if (!['gap', 'trust', 'position'].includes(lineage))
    throw new TypeError(`\`lineage\` must be 'gap', 'trust' or 'position', got ${JSON.stringify(lineage)}`);
  const limitsOf = keptLimits(typeof history === 'function' ? history : () => history);
  if (typeof history !== 'function') limitsOf('');
  const { maxEvents = 10_000, maxBytes = 16 * 1024 * 1024 } = feed;
  const { maxAge = 24 * 60 * 60 * 1000, maxKeys = 10_000 } = idempotency;
  return {
    name,
    lineage,
    limitsOf,
    maxTopics: wholeNumber('maxTopics', maxTopics),
    maxReads: wholeNumber('maxReads', maxReads),
    appendTimeout: duration('appendTimeout', appendTimeout),
    checkInterval: duration('checkInterval', checkInterval),
    feed: {
      maxEvents: wholeNumber('feed.maxEvents', maxEvents),
      maxBytes: atLeastOne('feed.maxBytes', maxBytes),
    },
    idempotency: {
      maxAge: atLeastOne('idempotency.maxAge', maxAge),
      maxKeys: wholeNumber('idempotency.maxKeys', maxKeys),
    },
    wait: wait && {
      replicas: wholeNumber('wait.replicas', wait.replicas, Number.MAX_SAFE_INTEGER),
      timeout: Math.ceil(duration('wait.timeout', wait.timeout)),
    },
  };
}

const NAME = /^[A-Za-z0-9._~:-]{1,100}$/;

function keptLimits(limits: (topic: string) => HistoryLimits): (topic: string) => Limits {
  const known = new Map<string, Limits>();
  return (topic) => {
    const kept = known.get(topic);
    if (kept !== undefined) return kept;
    const checked = checkLimits(limits(topic));
    if (known.size >= KEPT_LIMITS) known.clear();
    known.set(topic, checked);
    return checked;
  };
}

function wholeNumber(name: string, value: number, most = Infinity): number {
  if ((value === Infinity || Number.isSafeInteger(value)) && value >= 1 && value <= most) return value;
  throw new RangeError(`\`${name}\` must be a whole number ≥ 1, got ${value}`);
}

function duration(name: string, value: number): number {
  if (typeof value === 'number' && value >= 1 && value <= MAX_DELAY) return value;
  throw new RangeError(`\`${name}\` must be from 1 to ${MAX_DELAY} milliseconds, got ${value}`);
}
