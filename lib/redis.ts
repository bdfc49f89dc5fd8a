// Keeps the events of several hubs in one Redis, by the application's own client: `redis` or `ioredis`.
// Needs `history-limits.ts`, `log.ts`, `redis-client.ts`, `redis-follower.ts`, `redis-script.ts`, `redis-store.ts`,
// `semaphore.ts`, and what these need, beside it.

import { atLeastOne, checkLimits, type HistoryLimits, type Limits } from './history-limits.ts';
import {
  type Appended,
  type AppendOptions,
  type ListOptions,
  type LogEntry,
  type LogIntake,
  type LogPage,
  logUnavailable,
  type NewEntry,
  outcomeUnknown,
  type SharedLog,
  type TopicChange,
  type TopicRecord,
} from './log.ts';
import { openRedis, type RedisConnection, type RedisFailure } from './redis-client.ts';
import { RedisFollower } from './redis-follower.ts';
import { isAfter, type Lineage, type OrderStatus, type Place, RedisStore } from './redis-store.ts';
import { Semaphore } from './semaphore.ts';

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
  lineage?: Lineage | undefined;
  /** Waits until so many replicas have what was appended; where they do not in time, the outcome is unknown. */
  wait?: { replicas: number; timeout: number } | undefined;
  /** Milliseconds after which an append rejects; default 900. */
  appendTimeout?: number | undefined;
  /** Milliseconds between two checks that nothing was lost without a sign; default 5,000. */
  checkInterval?: number | undefined;
  /** Most reads at once; default 4. The others wait. */
  maxReads?: number | undefined;
  /** How long idempotency keys are kept, default 24 hours, and how many, default 10,000. */
  idempotency?: { maxAge?: number | undefined; maxKeys?: number | undefined } | undefined;
}

const KEPT_LIMITS = 10_000;

/** Topics of one script: the server does nothing else meanwhile. */
const TOPICS_AT_ONCE = 64;
const NAMES_AT_ONCE = 200;
const SEQS_AT_ONCE = 512;
const MAX_PAGE_BYTES = 16 * 1024 * 1024;

/** Milliseconds. */
const READ_TIMEOUT = 5000;
const RETRY_DELAY = 30;

/**
 * The log of the hubs that share a Redis: `new Hub({ log: new RedisLog(client) })`.
 *
 * The client itself is not used, and need not be connected: the log opens three more connections with its settings.
 * All keys of a hub are in one slot, so a cluster carries more hubs and not a bigger one.
 */
export class RedisLog implements SharedLog {
  readonly order = 'shared';
  readonly #options: ReturnType<typeof checkOptions>;
  readonly #store: RedisStore;
  readonly #follower: RedisFollower;
  readonly #connections: Connections;
  readonly #reads: Semaphore;
  #acknowledged: Place = { epoch: 0, seq: 0 };
  #isClosed = false;
  #isPruning = false;
  #isCleaning = false;

  /** @throws {RangeError | TypeError} naming the option that cannot be used. */
  constructor(client: unknown, options: RedisLogOptions = {}) {
    this.#options = checkOptions(options);
    this.#store = new RedisStore(this.#options);
    this.#connections = new Connections(client);
    this.#reads = new Semaphore(this.#options.maxReads, { waitTimeout: READ_TIMEOUT });
    this.#follower = new RedisFollower({
      store: this.#store,
      connection: () => this.#connections.get('follow'),
      reached: () => this.#connections.reached(),
      checkInterval: this.#options.checkInterval,
      known: () => this.#known,
      checked: (status) => this.#tidy(status),
    });
  }

  follow(intake: LogIntake): void {
    if (this.#isClosed) return;
    this.#connections.open((error) => this.#follower.lost(intake, error));
    void this.#follower.run(intake);
  }

  async append(topic: string, events: readonly NewEntry[], options: AppendOptions = {}): Promise<Appended> {
    this.#checkBatch(topic, events);
    const limit = performance.now() + this.#options.appendTimeout;
    const { topics, ...appended } = await this.#write(limit, (connection, timeout) =>
      this.#store.append(connection, this.#known, topic, events, options, timeout),
    );
    const { epoch, first, count } = appended;
    if (topics > this.#options.maxTopics) void this.#prune(topics);
    await this.#settle({ epoch, seq: first + count - 1 }, limit);
    return appended;
  }

  async change(topic: string, change: TopicChange): Promise<boolean> {
    const limit = performance.now() + this.#options.appendTimeout;
    const place = await this.#write(limit, (connection, timeout) =>
      this.#store.change(connection, this.#known, topic, change, timeout),
    );
    if (place !== undefined) await this.#settle(place, limit);
    return place !== undefined;
  }

  async read(
    topics: readonly string[],
    after: number,
    maxBytes: number,
    { newestOnly }: { readonly newestOnly: boolean },
  ): Promise<LogPage> {
    const options = { maxBytes: Math.min(maxBytes, MAX_PAGE_BYTES), newestOnly };
    const parts = chunks([...new Set(topics)]);
    const pages: LogPage[] = [];
    for (const part of parts) pages.push(await this.#pageOf(part, Math.max(0, after), options));
    return pages.length === 1 ? pages[0]! : mergePages(pages, options.maxBytes);
  }

  async find(topics: readonly string[]): Promise<readonly TopicRecord[]> {
    const records: TopicRecord[] = [];
    for (const part of chunks([...new Set(topics)])) {
      records.push(
        ...(await this.#look((connection, epoch, timeout) =>
          this.#store.find(connection, epoch, part, timeout),
        )),
      );
    }
    return records;
  }

  /** A topic that was deleted is not listed before something is published to it. */
  async list({ after = '', limit = Infinity }: ListOptions = {}): Promise<readonly TopicRecord[]> {
    const records: TopicRecord[] = [];
    for (let from = after; records.length < limit; ) {
      const count = Math.min(NAMES_AT_ONCE, limit - records.length);
      const names = await this.#look((connection, epoch, timeout) =>
        this.#store.names(connection, epoch, { after: from, count, timeout }),
      );
      const found = new Map((await this.find(names)).map((record) => [record.topic, record]));
      for (const name of names) {
        const record = found.get(name);
        if (record !== undefined && !record.deleted) records.push(record);
      }
      if (names.length < count) break;
      from = names.at(-1)!;
    }
    return records;
  }

  async beforeNewest(topics: readonly string[], count: number): Promise<number> {
    const runs = chunks([...new Set(topics)]).map(
      (part) => new NewestSeqs((below, most) => this.#newest(part, below, most)),
    );
    for (const run of runs) await run.load(count);
    const head = Math.min(...runs.map((run) => run.head));
    let seq = head + 1;
    for (let left = count; left >= 1; left--) {
      const run = highestOf(runs);
      if (run === undefined) break;
      seq = run.seq!;
      await run.next(left);
    }
    return seq - 1;
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

  #checkBatch(topic: string, events: readonly NewEntry[]): void {
    if (events.length <= 1) return;
    const { feed } = this.#options;
    const limits = this.#options.limitsOf(topic);
    const maxEvents = Math.max(1, Math.floor(Math.min(limits.maxEvents, feed.maxEvents) / 2));
    const maxBytes = Math.max(1, Math.floor(Math.min(limits.maxBytes, feed.maxBytes) / 2));
    const bytes = events.reduce((sum, { frame }) => sum + frame.length, 0);
    if (events.length <= maxEvents && bytes <= maxBytes) return;
    const message = `a batch for topic "${topic}" must have at most ${maxEvents} events and ${maxBytes} bytes, got ${events.length} events and ${bytes} bytes: split it`;
    throw Object.assign(new RangeError(message), {
      code: 'ERR_SSE_BATCH_TOO_LARGE',
      status: 413,
      maxEvents,
      maxBytes,
    });
  }

  /** Runs a command that writes, again where the server certainly has not run it and soon may. */
  async #write<T>(
    limit: number,
    run: (connection: RedisConnection, timeout: number) => Promise<T>,
  ): Promise<T> {
    for (;;) {
      this.#checkReached();
      try {
        return await run(this.#connections.get('append'), Math.max(1, limit - performance.now()));
      } catch (error) {
        if (!isPassing(error) || performance.now() + RETRY_DELAY >= limit) throw outcomeOf(error);
        await delay(RETRY_DELAY);
      }
    }
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
    await this.#replicated();
    if (await this.#follower.reaches(place, limit - performance.now())) return;
    throw outcomeUnknown('what was appended has not come back from Redis in time');
  }

  async #replicated(): Promise<void> {
    const { wait } = this.#options;
    if (wait === undefined) return;
    const command = ['WAIT', String(wait.replicas), String(wait.timeout)];
    const options = { key: this.#store.keys.meta, timeout: wait.timeout + 1000 };
    try {
      const replicas = Number(await this.#connections.get('append').send(command, options));
      if (replicas >= wait.replicas) return;
      throw new Error(`${replicas} of ${wait.replicas} replicas have it after ${wait.timeout} ms`);
    } catch (error) {
      throw outcomeUnknown(
        `what was appended may not be on enough replicas: ${(error as Error).message}`,
        error,
      );
    }
  }

  // ── reading ──────────────────────────────────────────────────────────────────────────────────────────────

  async #pageOf(
    topics: readonly string[],
    after: number,
    options: { readonly maxBytes: number; readonly newestOnly: boolean },
  ): Promise<LogPage> {
    let dropped: LogPage['dropped'] | undefined;
    for (let from = after; ; ) {
      const page = await this.#look((connection, epoch, timeout) =>
        this.#store.read(connection, epoch, topics, from, { ...options, timeout }),
      );
      dropped ??= page.dropped;
      const { entries, until, isAll } = page;
      if (entries.length > 0 || isAll) return { entries, until, dropped };
      // So many events are left out that the script has given up for now.
      from = until;
    }
  }

  #newest(topics: readonly string[], below: number, count: number) {
    return this.#look((connection, epoch, timeout) =>
      this.#store.newest(connection, epoch, topics, { below, count, timeout }),
    );
  }

  /** Looks something up in the epoch that the intake knows. Few do so at once, on a connection of their own. */
  async #look<T>(
    run: (connection: RedisConnection, epoch: number, timeout: number) => Promise<T | undefined>,
  ): Promise<T> {
    const permit = await this.#reads.acquire();
    const limit = performance.now() + READ_TIMEOUT;
    try {
      for (;;) {
        this.#checkReached();
        const { epoch } = this.#follower.told;
        try {
          const found = await run(
            this.#connections.get('read'),
            epoch,
            Math.max(1, limit - performance.now()),
          );
          if (found !== undefined) return found;
        } catch (error) {
          if (!isPassing(error) || performance.now() + RETRY_DELAY >= limit) throw asUnavailable(error);
          await delay(RETRY_DELAY);
          continue;
        }
        if (epoch === this.#follower.told.epoch) void this.#checkOrder();
        throw logUnavailable('the order in Redis has changed');
      }
    } finally {
      permit.release();
    }
  }

  /** A new epoch that begins by this reaches the follower as the next entry of the feed. */
  async #checkOrder(): Promise<void> {
    try {
      await this.#store.check(this.#connections.get('read'), this.#known, READ_TIMEOUT);
    } catch {
      // The follower checks as well, and reports what fails.
    }
  }

  // ── between appends ──────────────────────────────────────────────────────────────────────────────────────

  #tidy({ topics, stale }: OrderStatus): void {
    if (topics > this.#options.maxTopics) void this.#prune(topics);
    if (stale > 0) void this.#clean();
  }

  async #prune(topics: number): Promise<void> {
    if (this.#isPruning) return;
    this.#isPruning = true;
    const { maxTopics } = this.#options;
    try {
      for (let left = topics; left > maxTopics && !this.#isClosed; ) {
        const connection = this.#connections.get('read');
        left = await this.#store.prune(connection, maxTopics, left - maxTopics, READ_TIMEOUT);
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
      while (!this.#isClosed && (await this.#store.clean(this.#connections.get('read'), READ_TIMEOUT)) > 0);
    } catch {
      // The next check finds as many.
    } finally {
      this.#isCleaning = false;
    }
  }
}

// ── connections ─────────────────────────────────────────────────────────────────────────────────────────────

type Use = 'append' | 'read' | 'follow';

/** One connection for each use: one that waits for news, or has a large answer on its way, does not hold up others. */
class Connections {
  readonly #client: unknown;
  readonly #open = new Map<Use, RedisConnection>();
  #onDown: (error: unknown) => void = () => {};
  #waiting: (() => void)[] = [];
  #isClosed = false;

  constructor(client: unknown) {
    this.#client = client;
  }

  open(onDown: (error: unknown) => void): void {
    this.#onDown = onDown;
    for (const use of ['append', 'read', 'follow'] as const) {
      if (this.#open.has(use)) continue;
      this.#open.set(
        use,
        openRedis(this.#client, { onUp: () => this.#up(), onDown: (error) => this.#onDown(error) }),
      );
    }
  }

  get(use: Use): RedisConnection {
    const connection = this.#open.get(use);
    if (connection === undefined) throw logUnavailable('Redis was not reached yet');
    return connection;
  }

  /** Resolves once all are up, or closed. */
  reached(): Promise<void> {
    if (this.#isClosed || this.#isUp) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  get #isUp(): boolean {
    return this.#open.size > 0 && [...this.#open.values()].every(({ isUp }) => isUp);
  }

  #up(): void {
    if (!this.#isUp) return;
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  close(): void {
    this.#isClosed = true;
    for (const connection of this.#open.values()) connection.close();
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}

/** What the server answers while it is not ready, or not the one that has the keys. */
const PASSING = [
  'TRYAGAIN',
  'MOVED',
  'ASK',
  'LOADING',
  'CLUSTERDOWN',
  'MASTERDOWN',
  'READONLY',
  'BUSY',
  'NOSCRIPT',
];

/** What it answers where it has written nothing. */
const REFUSED = ['OOM', 'NOPERM', 'NOAUTH', 'WRONGTYPE', 'MISCONF', 'NOREPLICAS', 'CROSSSLOT'];

function isPassing(error: unknown): boolean {
  const { kind, reply = '' } = error as Partial<RedisFailure>;
  return kind === 'unsent' || (kind === 'reply' && PASSING.includes(reply));
}

/** What a failure of a command that writes means for what it was to write. */
function outcomeOf(error: unknown): unknown {
  const { kind, reply = '', message } = error as RedisFailure;
  if (kind === undefined) return error;
  const isRefused = kind === 'unsent' || PASSING.includes(reply) || REFUSED.includes(reply);
  if (isRefused) return logUnavailable(`Redis does not take events at present: ${message}`, error);
  return outcomeUnknown(`Redis has not answered: ${message}`, error);
}

function asUnavailable(error: unknown): unknown {
  const { kind, message } = error as RedisFailure;
  return kind === undefined ? error : logUnavailable(`Redis cannot be read at present: ${message}`, error);
}

function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

// ── many topics ─────────────────────────────────────────────────────────────────────────────────────────────

function chunks(topics: readonly string[]): readonly (readonly string[])[] {
  const all: (readonly string[])[] = [];
  for (let from = 0; from === 0 || from < topics.length; from += TOPICS_AT_ONCE)
    all.push(topics.slice(from, from + TOPICS_AT_ONCE));
  return all;
}

/** One page of several: up to where all reach, and about as many bytes as were asked for. */
function mergePages(pages: readonly LogPage[], maxBytes: number): LogPage {
  const reach = Math.min(...pages.map(({ until }) => until));
  const all = pages.flatMap(({ entries }) => entries).filter(({ seq }) => seq <= reach);
  all.sort((a, b) => a.seq - b.seq);
  const entries: LogEntry[] = [];
  let left = maxBytes;
  for (const entry of all) {
    left -= entry.frame.length;
    if (left < 0 && entries.length > 0) break;
    entries.push(entry);
  }
  const until = entries.length === all.length ? reach : entries.at(-1)!.seq;
  return { entries, until, dropped: pages.flatMap(({ dropped }) => dropped) };
}

type LoadSeqs = (
  below: number,
  count: number,
) => Promise<{ readonly head: number; readonly isAll: boolean; readonly seqs: readonly number[] }>;

/** The seqs of some topics, newest first, while they are merged with those of others. */
class NewestSeqs {
  head = 0;
  readonly #load: LoadSeqs;
  #seqs: readonly number[] = [];
  #at = 0;
  #isAll = false;

  constructor(load: LoadSeqs) {
    this.#load = load;
  }

  /** The newest one that is left; `undefined` where there is none. */
  get seq(): number | undefined {
    return this.#seqs[this.#at];
  }

  async load(count: number, below: number = Number.MAX_SAFE_INTEGER): Promise<void> {
    const { head, isAll, seqs } = await this.#load(below, Math.max(1, Math.min(count, SEQS_AT_ONCE)));
    if (this.head === 0) this.head = head;
    [this.#seqs, this.#at, this.#isAll] = [seqs, 0, isAll];
  }

  async next(count: number): Promise<void> {
    const last = this.#seqs[this.#at++];
    if (this.#at === this.#seqs.length && !this.#isAll) await this.load(count, last);
  }
}

function highestOf(runs: readonly NewestSeqs[]): NewestSeqs | undefined {
  let highest: NewestSeqs | undefined;
  for (const run of runs) {
    if (run.seq !== undefined && run.seq > (highest?.seq ?? -1)) highest = run;
  }
  return highest;
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
      replicas: wholeNumber('wait.replicas', wait.replicas),
      timeout: duration('wait.timeout', wait.timeout),
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

function wholeNumber(name: string, value: number): number {
  if (value === Infinity || (Number.isSafeInteger(value) && value >= 1)) return value;
  throw new RangeError(`\`${name}\` must be a whole number ≥ 1, got ${value}`);
}

function duration(name: string, value: number): number {
  if (typeof value === 'number' && value >= 1 && value <= MAX_DELAY) return value;
  throw new RangeError(`\`${name}\` must be from 1 to ${MAX_DELAY} milliseconds, got ${value}`);
}
