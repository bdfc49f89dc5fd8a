// Limits the connections of a server: in all, per client and per topic, and how fast a client opens them.
// Needs `address.ts`, `encode.ts`, `problem.ts` and `protocol.ts` beside it.

import { hash } from 'node:crypto';
import { addressGroup, clientAddress } from './address.ts';
import { encode } from './encode.ts';
import { type Problem, sendProblem } from './problem.ts';
import { type Controls, refusedEvent, sentControl } from './protocol.ts';

/** The members of a request that are used: those of HTTP/1 and HTTP/2 alike. */
export interface LimitRequest {
  readonly method?: string | undefined;
  readonly httpVersionMajor: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly socket: LimitSocket;
}

export interface LimitSocket {
  readonly remoteAddress?: string | undefined;
  readonly destroyed: boolean;
  on(event: 'end' | 'close', listener: () => void): unknown;
}

export interface LimitResponse {
  readonly headersSent: boolean;
  readonly writableEnded: boolean;
  /** After a disconnect this is true on HTTP/1; on HTTP/2 that of `stream` is. */
  readonly destroyed?: boolean | undefined;
  readonly stream?: { readonly destroyed: boolean } | undefined;
  on(event: 'close', listener: () => void): unknown;
  writeHead(status: number, headers: Record<string, string>): unknown;
  end(body: string): unknown;
  destroy(): unknown;
}

/**
 * Why a connection was refused.
 *
 * - `client-full` (429): `maxPerKey` connections of this client are open.
 * - `topic-full` (503): `maxPerTopic` connections on one of its topics are open.
 * - `too-fast` (429): this client opens more than `rate` connections per second.
 * - `server-full` (503): `maxConnections` are open.
 */
export type LimitReason = 'server-full' | 'client-full' | 'topic-full' | 'too-fast';

/**
 * How a refusal is sent: as its status, or as an event stream after which a browser's EventSource reconnects.
 */
export type Refusal = 'status' | 'event-stream';

export interface LimitRefusal<Req extends LimitRequest = LimitRequest> {
  readonly reason: LimitReason;
  /** The status that belongs to the reason, also where an event stream was sent with 200. */
  readonly status: 429 | 503;
  readonly refusal: Refusal;
  readonly req: Req;
}

export interface LimitOptions<Req extends LimitRequest = LimitRequest> {
  /**
   * Connections open at once; default `Infinity`. Or a `Semaphore`, which routes and servers can share.
   */
  maxConnections?: number | LimitSemaphore | undefined;
  /** Connections that one client may have open; default `Infinity`. */
  maxPerKey?: number | undefined;
  /** Connections that one topic may have open; default `Infinity`. Needs `topics`. */
  maxPerTopic?: number | undefined;
  /** Connections that one client may open per second, on average; default `Infinity`. */
  rate?: number | undefined;
  /** Connections that one client may open at once before `rate` applies; default `rate`, and at least 1. */
  burst?: number | undefined;
  /**
   * Returns a key that names the client; by default the group of its address. `undefined`: the limits per
   * client do not apply.
   *
   * Join several parts with `JSON.stringify([tenant, user])`. With a separator two clients can get the same
   * key: `a_b` and `c` are joined to `a_b_c`, and so are `a` and `b_c`.
   */
  key?: ((req: Req) => string | undefined) | undefined;
  /** Proxies in front that append to `X-Forwarded-For`; default 0, which ignores the header. */
  trustProxy?: number | undefined;
  /** Returns the topics that a request asks for. */
  topics?: ((req: Req) => Iterable<string>) | undefined;
  /** How to send a refusal; by default `event-stream` to a browser that accepts one, else `status`. */
  refusal?: Refusal | ((req: Req) => Refusal) | undefined;
  /**
   * Milliseconds after which a refused client may try again; default 5,000. Each refusal names a random delay
   * from this to twice as long, so that refused clients do not all return at once.
   */
  retryDelay?: number | undefined;
  /** How `sluice:refused` is sent: as it is (default), as a comment, or as another event. */
  controls?: Controls | undefined;
  /** Called after each refusal. */
  onRefuse?: ((refusal: LimitRefusal<Req>) => void) | undefined;
  clock?: LimitClock | undefined;
}

/** The members of a semaphore that are used. */
export interface LimitSemaphore {
  tryAcquire(): { release(): void } | undefined;
  readonly waiting?: number | undefined;
}

/** A clock that tests can replace. */
export interface LimitClock {
  /** Milliseconds; only differences count. */
  now(): number;
  setInterval(callback: () => void, interval: number): NodeJS.Timeout;
  clearInterval(timer: NodeJS.Timeout): void;
}

/** The numbers of one limiter. Each getter gives the current one. */
export interface LimitStats {
  readonly open: number;
  /** The most connections ever open at once. */
  readonly peak: number;
  /** Callers that wait for a permit of a shared semaphore. Connections never wait. */
  readonly waiting: number;
  readonly admitted: number;
  readonly refused: Readonly<Record<LimitReason, number>>;
  /** Clients that have a connection. */
  readonly keys: number;
  /** Topics that have a connection. */
  readonly topics: number;
  /** Clients whose rate is remembered. */
  readonly rates: number;
}

export interface ConnectionLimit<Req extends LimitRequest = LimitRequest> {
  (req: Req, res: LimitResponse, next: () => unknown): unknown;
  readonly stats: LimitStats;
}

/** The error of the middleware where `key` returns something other than a string or `undefined`. */
export interface LimitKeyError extends TypeError {
  readonly code: 'ERR_SSE_BAD_KEY';
}

/**
 * Makes a middleware that counts a connection until its response is over, and refuses connections above the
 * limits. It never ends an open connection to admit another: the client of the ended one would reconnect.
 *
 * HEAD requests pass uncounted. When a client closes its half of the connection, its unfinished response is
 * destroyed.
 *
 * Two traps. A native EventSource gives up for good on any status but 200, so it gets 200, a `retry` delay
 * and the end of the stream. And behind a proxy, without `trustProxy` all clients count as one.
 *
 * @throws {TypeError | RangeError} naming the option and its value.
 */
export function limitConnections<Req extends LimitRequest = LimitRequest>(
  options: LimitOptions<Req> = {},
): ConnectionLimit<Req> {
  const { topics, trustProxy = 0 } = options;
  if (!(Number.isInteger(trustProxy) && trustProxy >= 0)) {
    throw new RangeError(`\`trustProxy\` must be the number of proxies in front, got ${trustProxy}`);
  }
  const key = options.key ?? ((req: Req) => addressGroup(clientAddress(req, trustProxy) ?? ''));
  const slots = new Slots(options);
  const watch = watchResponses((admission) => slots.release(admission));
  const refused = { 'server-full': 0, 'client-full': 0, 'topic-full': 0, 'too-fast': 0 };
  const refuse = createRefuse(options, refused);

  const middleware = (req: Req, res: LimitResponse, next: () => unknown): unknown => {
    if (req.method === 'HEAD') return next();
    // A response that is closed already emits no further 'close', so its slots would never be released.
    if (isGone(req, res)) return undefined;
    const client = checkKey(key(req));
    const admission = slots.admit(res, client, topics === undefined ? NO_TOPICS : [...new Set(topics(req))]);
    if (typeof admission === 'string') return refuse(req, res, admission, slots.wait(client));
    watch(req, admission);
    return follow(next, (error) => {
      // If the middleware behind this one fails before the head is sent, the response may never end.
      if (!res.headersSent) slots.release(admission);
      throw error;
    });
  };
  return Object.assign(middleware, { stats: statsOf(slots, refused) });
}

function statsOf(slots: Slots, refused: LimitStats['refused']): LimitStats {
  return {
    refused,
    get open() {
      return slots.open;
    },
    get peak() {
      return slots.peak;
    },
    get waiting() {
      return slots.permits.waiting ?? 0;
    },
    get admitted() {
      return slots.admitted;
    },
    get keys() {
      return slots.byKey.size;
    },
    get topics() {
      return slots.byTopic.size;
    },
    get rates() {
      return slots.rates?.size ?? 0;
    },
  };
}

const NO_TOPICS: readonly string[] = [];

/** The slots that one open connection holds. There are many connections, so this is one small object. */
interface Admission {
  readonly res: LimitResponse;
  readonly client: string | undefined;
  readonly topics: readonly string[];
  /** `undefined` once the connection is over. */
  permit: { release(): void } | undefined;
  /** The latest admission on the same socket that was open when this one was made. */
  before: Admission | undefined;
}

/** All limits of one limiter. A connection takes a slot of each, or none. */
class Slots {
  readonly permits: LimitSemaphore;
  readonly byKey: Counts = new Counts();
  readonly byTopic: Counts = new Counts();
  readonly rates: Rates | undefined;
  readonly #maxPerKey: number;
  readonly #maxPerTopic: number;
  open = 0;
  peak = 0;
  admitted = 0;

  constructor(options: LimitOptions<never>) {
    const { maxConnections = Infinity, maxPerKey = Infinity, maxPerTopic = Infinity } = options;
    const { rate = Infinity, burst, clock = SYSTEM_CLOCK } = options;
    this.permits = this.#permitsOf(maxConnections);
    this.#maxPerKey = checkCount('maxPerKey', maxPerKey);
    this.#maxPerTopic = checkCount('maxPerTopic', maxPerTopic);
    if (maxPerTopic !== Infinity && options.topics === undefined) {
      throw new TypeError('`maxPerTopic` needs `topics`');
    }
    if (burst !== undefined && options.rate === undefined) throw new TypeError('`burst` needs `rate`');
    this.rates = rate === Infinity ? undefined : new Rates(rate, burst, clock);
  }

  admit(res: LimitResponse, client: string | undefined, topics: readonly string[]): Admission | LimitReason {
    if (client !== undefined && this.byKey.get(client) >= this.#maxPerKey) return 'client-full';
    for (const topic of topics) if (this.byTopic.get(topic) >= this.#maxPerTopic) return 'topic-full';
    if (this.wait(client) > 0) return 'too-fast';
    const permit = this.permits.tryAcquire();
    if (permit === undefined) return 'server-full';
    if (client !== undefined) {
      this.rates?.spend(client);
      this.byKey.add(client, 1);
    }
    for (const topic of topics) this.byTopic.add(topic, 1);
    this.admitted++;
    this.open++;
    if (this.open > this.peak) this.peak = this.open;
    return { res, client, topics, permit, before: undefined };
  }

  release(admission: Admission): void {
    const { client, topics, permit } = admission;
    if (permit === undefined) return;
    admission.permit = undefined;
    this.open--;
    if (client !== undefined) this.byKey.add(client, -1);
    for (const topic of topics) this.byTopic.add(topic, -1);
    permit.release();
  }

  #permitsOf(maxConnections: number | LimitSemaphore): LimitSemaphore {
    if (typeof maxConnections === 'number') {
      checkCount('maxConnections', maxConnections);
      // `open` counts these permits, so one object does for all.
      return { tryAcquire: () => (this.open < maxConnections ? OWN_PERMIT : undefined) };
    }
    if (typeof maxConnections?.tryAcquire === 'function') return maxConnections;
    throw new TypeError(`\`maxConnections\` must be a number or a Semaphore, got ${maxConnections}`);
  }

  /** Milliseconds until `rate` lets the client open another connection. */
  wait(client: string | undefined): number {
    return client === undefined ? 0 : (this.rates?.wait(client) ?? 0);
  }
}

const OWN_PERMIT = { release(): void {} };

/**
 * Detects the end of responses. Each response emits `'close'`, except those that wait behind another one on
 * their socket (pipelining). So each socket is watched too, by one pair of listeners for all of its
 * responses.
 */
function watchResponses(
  release: (admission: Admission) => void,
): (req: LimitRequest, admission: Admission) => void {
  /** The latest admission of each HTTP/1 socket. */
  const latest = new WeakMap<LimitSocket, Admission>();

  function onResponseClose(this: Admission): void {
    release(this);
    // Skips admissions that are over: otherwise a socket that always has a request in progress would keep
    // every old response.
    this.before = newestOpen(this.before);
  }
  function onSocketEnd(this: LimitSocket): void {
    for (const { res } of allOpen(latest.get(this))) if (!res.writableEnded) res.destroy();
  }
  function onSocketClose(this: LimitSocket): void {
    for (const admission of allOpen(latest.get(this))) release(admission);
  }

  return ({ httpVersionMajor, socket }, admission) => {
    // A bound function takes 48 bytes, a closure and its context twice that.
    admission.res.on('close', onResponseClose.bind(admission));
    // HTTP/2 closes each response when its session ends.
    if (httpVersionMajor !== 1) return;
    const before = latest.get(socket);
    if (before === undefined) {
      socket.on('end', onSocketEnd);
      socket.on('close', onSocketClose);
    }
    admission.before = newestOpen(before);
    latest.set(socket, admission);
  };
}

function newestOpen(latest: Admission | undefined): Admission | undefined {
  let one = latest;
  while (one !== undefined && one.permit === undefined) one = one.before;
  return one;
}

function* allOpen(latest: Admission | undefined): Generator<Admission> {
  for (let one = newestOpen(latest); one !== undefined; one = newestOpen(one.before)) yield one;
}

/** How many connections each key has. */
class Counts {
  readonly #counts: Map<string, number> = new Map();

  get size(): number {
    return this.#counts.size;
  }

  get(key: string): number {
    return this.#counts.get(key) ?? 0;
  }

  add(key: string, change: 1 | -1): void {
    const count = this.get(key) + change;
    if (count === 0) this.#counts.delete(key);
    else this.#counts.set(key, count);
  }
}

const MAX_RATES = 100_000;

/**
 * A token bucket for each client, stored as one number: the time at which it will be full again.
 *
 * A full bucket need not be stored. So buckets are kept in two generations, each of which lasts as long as a
 * bucket takes to fill. Buckets that were not used for a whole period are full, and are dropped together
 * without a look at each. A generation ends early when it has `MAX_RATES` buckets.
 */
class Rates {
  readonly #burst: number;
  /** Milliseconds for one token. */
  readonly #cost: number;
  readonly #clock: LimitClock;
  #young: Map<string, number> = new Map();
  #old: Map<string, number> = new Map();
  #timer: NodeJS.Timeout | undefined;

  constructor(rate: number, burst: number | undefined, clock: LimitClock) {
    if (!(rate > 0)) throw new RangeError(`\`rate\` must be more than 0 per second, got ${rate}`);
    this.#burst = checkCount('burst', burst ?? Math.max(1, Math.ceil(rate)));
    this.#cost = 1000 / rate;
    this.#clock = clock;
  }

  get size(): number {
    return this.#young.size + this.#old.size;
  }

  /** Milliseconds until there is a token. */
  wait(key: string): number {
    const wait = this.#fullAt(key) - this.#clock.now() - (this.#burst - 1) * this.#cost;
    // Ignores rounding errors below 1 µs.
    return wait < 0.001 ? 0 : wait;
  }

  /** Takes a token. There must be one: see {@link wait}. */
  spend(key: string): void {
    const fullAt = this.#fullAt(key) + this.#cost;
    if (this.#young.size >= MAX_RATES) this.#startGeneration();
    this.#old.delete(key);
    this.#young.set(key, fullAt);
    this.#timer ??= this.#clock.setInterval(() => this.#startGeneration(), this.#period()).unref();
  }

  #fullAt(key: string): number {
    return Math.max(this.#clock.now(), this.#young.get(key) ?? this.#old.get(key) ?? -Infinity);
  }

  /** Milliseconds that an empty bucket takes to fill. */
  #period(): number {
    return Math.min(MAX_TIMEOUT, Math.max(1000, Math.ceil(this.#burst * this.#cost)));
  }

  #startGeneration(): void {
    this.#old = this.#young;
    this.#young = new Map();
    if (this.#old.size > 0 || this.#timer === undefined) return;
    this.#clock.clearInterval(this.#timer);
    this.#timer = undefined;
  }
}

const SYSTEM_CLOCK: LimitClock = {
  now: () => performance.now(),
  setInterval: (callback, interval) => setInterval(callback, interval),
  clearInterval: (timer) => clearInterval(timer),
};

// ── refusals ────────────────────────────────────────────────────────────────────────────────────────────

const ANSWERS: Readonly<Record<LimitReason, { status: 429 | 503; message: string }>> = {
  'server-full': { status: 503, message: 'The server has no room for another connection.' },
  'client-full': { status: 429, message: 'This client has the maximum number of connections open.' },
  'topic-full': { status: 503, message: 'A topic has the maximum number of connections open.' },
  'too-fast': { status: 429, message: 'This client opens connections too fast.' },
};

/**
 * Makes the function that counts and sends a refusal. `wait`: milliseconds until the client's rate allows it
 * again.
 */
function createRefuse<Req extends LimitRequest>(
  options: LimitOptions<Req>,
  refused: Record<LimitReason, number>,
): (req: Req, res: LimitResponse, reason: LimitReason, wait: number) => void {
  const { retryDelay = 5000, onRefuse } = options;
  if (!(retryDelay >= 0 && retryDelay <= MAX_TIMEOUT)) {
    throw new RangeError(`\`retryDelay\` must be from 0 to ${MAX_TIMEOUT} milliseconds, got ${retryDelay}`);
  }
  return (req, res, reason, wait) => {
    refused[reason]++;
    const { status, message } = ANSWERS[reason];
    const refusal = sendRefusal(req, res, { status, error: reason, message }, options, wait);
    onRefuse?.({ reason, status, refusal, req });
  };
}

/**
 * Tells a client to come back later, in the way that the options of a limiter state: for refusals that are
 * not the limiter's own.
 *
 * @param wait - Milliseconds before which it is of no use to come back.
 */
export function sendRefusal<Req extends LimitRequest>(
  req: Req,
  res: LimitResponse,
  problem: Problem,
  {
    refusal = defaultRefusal,
    retryDelay = 5000,
    controls,
  }: Pick<LimitOptions<Req>, 'refusal' | 'retryDelay' | 'controls'> = {},
  wait = 0,
): Refusal {
  const how = typeof refusal === 'function' ? refusal(req) : refusal;
  const delay = Math.max(retryDelay, wait) * (1 + Math.random());
  const retry = Math.min(MAX_TIMEOUT, Math.ceil(delay));
  if (how === 'event-stream') {
    const text = encode(sentControl(refusedEvent(retry, problem), controls));
    res.writeHead(200, {
      'content-type': 'text/event-stream',
      'cache-control': 'no-store, no-transform',
      'x-accel-buffering': 'no',
    });
    res.end(text);
  } else {
    const headers = { 'retry-after': String(Math.ceil(retry / 1000)), ...problem.headers };
    sendProblem(res, { ...problem, headers });
  }
  return how;
}

/** A program that accepts an event stream can handle a status; a browser's EventSource cannot. */
function defaultRefusal(req: LimitRequest): Refusal {
  const { accept, 'sec-fetch-mode': mode, 'sec-fetch-dest': dest, 'user-agent': agent } = req.headers;
  // Browsers send no Fetch-Metadata to a plain http: address other than localhost.
  const isBrowser = mode !== undefined || dest !== undefined || String(agent).startsWith('Mozilla/');
  return isBrowser && String(accept).includes('text/event-stream') ? 'event-stream' : 'status';
}

// ── helpers ─────────────────────────────────────────────────────────────────────────────────────────────

function isGone(req: LimitRequest, res: LimitResponse): boolean {
  return req.socket.destroyed || res.destroyed === true || res.stream?.destroyed === true;
}

/** Calls `failed` when `next` throws or rejects. Makes no promise where `next` makes none. */
function follow(next: () => unknown, failed: (error: unknown) => never): unknown {
  try {
    const result = next() as Partial<PromiseLike<unknown>> | undefined;
    return typeof result?.then === 'function' ? result.then(undefined, failed) : result;
  } catch (error) {
    return failed(error);
  }
}

const MAX_TIMEOUT = 2 ** 31 - 1;

/** A client may choose its key, in a header for example: a long one is kept as its digest. */
function checkKey(key: unknown): string | undefined {
  if (key === undefined) return undefined;
  if (typeof key === 'string') {
    return key.length <= MAX_KEY_LENGTH ? key : hash('sha256', Buffer.from(key, 'utf16le'), 'base64url');
  }
  const got = key === null ? 'null' : Array.isArray(key) ? 'an array' : `a value of type ${typeof key}`;
  const error = new TypeError(`\`key\` must return a string or undefined, got ${got}`);
  throw Object.assign(error, { code: 'ERR_SSE_BAD_KEY' as const }) satisfies LimitKeyError;
}

const MAX_KEY_LENGTH = 100;

function checkCount(name: string, value: number): number {
  if ((Number.isInteger(value) && value >= 1) || value === Infinity) return value;
  throw new RangeError(`\`${name}\` must be a whole number ≥ 1 or Infinity, got ${value}`);
}
