// Lets in as many as there is room for: permits to wait for, and caps on open connections for an HTTP server.
// Stands alone: copy this file by itself.

import { isIP, isIPv6 } from 'node:net';

/** Gives a permit back. Calling it again does nothing. */
export type Release = () => void;

export interface SemaphoreOptions {
  /** Callers that may wait at once; default `Infinity`. `0`: nobody waits. */
  maxWaiting?: number | undefined;
  /** Milliseconds that one may wait; default `Infinity`. */
  waitTimeout?: number | undefined;
}

/** What a wait that came to nothing rejects with, unless its signal fired. Tell it apart by `code`. */
export interface SemaphoreError extends Error {
  readonly code: 'ERR_SSE_QUEUE_FULL' | 'ERR_SSE_WAIT_TIMEOUT';
}

const MAX_TIMEOUT = 2 ** 31 - 1;

interface Waiter {
  readonly deadline: number;
  readonly grant: () => void;
  readonly fail: (reason: unknown) => void;
}

/**
 * So many permits, and a queue for those who come when there are none: first come, first served.
 *
 * A permit that is given back goes straight to the one who waited longest, so nobody overtakes by asking at
 * the right moment.
 */
export class Semaphore {
  readonly capacity: number;
  readonly #maxWaiting: number;
  readonly #waitTimeout: number;
  // In the order of arrival, which is the order of the deadlines too: one timer serves all.
  readonly #queue: Set<Waiter> = new Set();
  #timer: NodeJS.Timeout | undefined;
  #taken = 0;
  #peak = 0;
  #granted = 0;
  #refused = 0;
  #expired = 0;
  #aborted = 0;

  /** @throws {RangeError} naming the option and its value. `capacity` may be `Infinity`. */
  constructor(capacity: number, options: SemaphoreOptions = {}) {
    const { maxWaiting = Infinity, waitTimeout = Infinity } = options;
    this.capacity = checkCount('capacity', capacity, 1);
    this.#maxWaiting = checkCount('maxWaiting', maxWaiting, 0);
    this.#waitTimeout = checkTimeout('waitTimeout', waitTimeout);
  }

  /** Permits that nobody holds. */
  get available(): number {
    return this.capacity - this.#taken;
  }

  /** Permits held now. */
  get taken(): number {
    return this.#taken;
  }

  /** The most permits ever held at once. */
  get peak(): number {
    return this.#peak;
  }

  /** Callers waiting now. */
  get waiting(): number {
    return this.#queue.size;
  }

  /** Permits given so far. */
  get granted(): number {
    return this.#granted;
  }

  /** Waits refused because the queue was full. */
  get refused(): number {
    return this.#refused;
  }

  /** Waits that took too long. */
  get expired(): number {
    return this.#expired;
  }

  /** Waits that their signal ended. */
  get aborted(): number {
    return this.#aborted;
  }

  /** A permit, if one is free. */
  tryAcquire(): Release | undefined {
    return this.#taken < this.capacity ? this.#take() : undefined;
  }

  /**
   * A permit, when it is this caller's turn. Release it in a `finally`: one that is lost is lost for good.
   *
   * Rejects with the signal's own reason, or with a {@link SemaphoreError}.
   */
  async acquire(options: { signal?: AbortSignal | undefined } = {}): Promise<Release> {
    const { signal } = options;
    signal?.throwIfAborted();
    const release = this.tryAcquire();
    if (release !== undefined) return release;
    if (this.#queue.size < this.#maxWaiting) return this.#wait(signal);
    this.#refused++;
    throw failure('ERR_SSE_QUEUE_FULL', `${this.#maxWaiting} are waiting already`);
  }

  #take(): Release {
    this.#taken++;
    this.#granted++;
    if (this.#taken > this.#peak) this.#peak = this.#taken;
    return once(() => {
      this.#taken--;
      for (const first of this.#queue) return first.grant();
    });
  }

  #wait(signal: AbortSignal | undefined): Promise<Release> {
    return new Promise((resolve, reject) => {
      const leave = () => {
        this.#queue.delete(waiter);
        signal?.removeEventListener('abort', onAbort);
        if (this.#queue.size === 0) this.#arm();
      };
      const waiter: Waiter = {
        deadline: performance.now() + this.#waitTimeout,
        grant: () => {
          leave();
          resolve(this.#take());
        },
        fail: (reason) => {
          leave();
          reject(reason);
        },
      };
      const onAbort = () => {
        this.#aborted++;
        waiter.fail(signal?.reason);
      };
      signal?.addEventListener('abort', onAbort);
      this.#queue.add(waiter);
      if (this.#queue.size === 1) this.#arm();
    });
  }

  /** Sets the timer for the one who came first, or clears it. */
  #arm(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#waitTimeout === Infinity) return;
    for (const { deadline } of this.#queue) {
      const wait = Math.max(1, Math.ceil(deadline - performance.now()));
      this.#timer = setTimeout(() => this.#expire(), wait);
      return;
    }
  }

  #expire(): void {
    const now = performance.now();
    for (const waiter of this.#queue) {
      if (waiter.deadline > now) break;
      this.#expired++;
      waiter.fail(failure('ERR_SSE_WAIT_TIMEOUT', `no permit within ${this.#waitTimeout} ms`));
    }
    this.#arm();
  }
}

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
  /** HTTP/1 says by `destroyed` that the client is gone, HTTP/2 by that of its stream. */
  readonly destroyed?: boolean | undefined;
  readonly stream?: { readonly destroyed: boolean } | undefined;
  on(event: 'close', listener: () => void): unknown;
  writeHead(status: number, headers: Record<string, string>): unknown;
  end(body: string): unknown;
  destroy(): unknown;
}

/**
 * Why a connection was not let in.
 *
 * - `server-full` (503): `max` are open.
 * - `client-full` (429): `maxPerKey` of this client are.
 * - `topic-full` (503): `maxPerTopic` of one of its topics are.
 * - `too-fast` (429): this client opens more than `rate` a second.
 */
export type LimitReason = 'server-full' | 'client-full' | 'topic-full' | 'too-fast';

/** How a refusal is said: by its status, or so that a browser's EventSource comes back. */
export type Refusal = 'status' | 'event-stream';

/**
 * Who a client is: any value that a Map tells apart, or a path of such, as `[tenant, user]`. Never join
 * them to one string: `a_b` + `c` is `a` + `b_c`.
 */
export type LimitKey = string | number | bigint | symbol | object | undefined;

export interface LimitRefusal<Req extends LimitRequest = LimitRequest> {
  readonly reason: LimitReason;
  /** What the refusal means, even where an EventSource was told 200. */
  readonly status: 429 | 503;
  readonly refusal: Refusal;
  readonly req: Req;
}

export interface LimitOptions<Req extends LimitRequest = LimitRequest> {
  /** Connections open at once; default `Infinity`. Or a semaphore that several routes or servers share. */
  max?: number | LimitSemaphore | undefined;
  /** Of one client; default `Infinity`. */
  maxPerKey?: number | undefined;
  /** On one topic; default `Infinity`. Needs `topics`. */
  maxPerTopic?: number | undefined;
  /** Connections that one client may open per second, over time; default `Infinity`. */
  rate?: number | undefined;
  /** Connections that one client may open at once, before `rate` counts; default `rate`, and at least 1. */
  burst?: number | undefined;
  /** Who the client is; default the group of its address. `undefined`: nobody in particular, no limit of its own. */
  key?: ((req: Req) => LimitKey) | undefined;
  /** Proxies in front that append to `X-Forwarded-For`; default 0, which ignores the header. */
  trustProxy?: number | undefined;
  /** The topics that a request asks for. */
  topics?: ((req: Req) => Iterable<string>) | undefined;
  /** By default `event-stream` for a browser that accepts one, else `status`. */
  refusal?: Refusal | ((req: Req) => Refusal) | undefined;
  /** Milliseconds after which a refused client is asked to come back, at the earliest; up to twice as long. Default 5,000. */
  retryInterval?: number | undefined;
  /** Told of every refusal: for the log. */
  onRefuse?: ((refusal: LimitRefusal<Req>) => void) | undefined;
  clock?: LimitClock | undefined;
}

/** The members of a semaphore that are used. */
export interface LimitSemaphore extends Pick<Semaphore, 'tryAcquire'> {
  readonly waiting?: number | undefined;
}

/** Time, where a test wants its own. */
export interface LimitClock {
  now(): number;
  setInterval(callback: () => void, interval: number): NodeJS.Timeout;
  clearInterval(timer: NodeJS.Timeout): void;
}

/** The numbers of one limiter, as they are now. */
export interface LimitStats {
  readonly open: number;
  readonly peak: number;
  /** Those who wait for a permit of a shared semaphore; a connection never does. */
  readonly waiting: number;
  readonly admitted: number;
  readonly refused: Readonly<Record<LimitReason, number>>;
  /** Clients and topics with a connection, and clients whose rate is remembered. */
  readonly keys: number;
  readonly topics: number;
  readonly rates: number;
}

export interface ConnectionLimit<Req extends LimitRequest = LimitRequest> {
  (req: Req, res: LimitResponse, next: () => unknown): unknown;
  readonly stats: LimitStats;
}

/**
 * A middleware that counts a connection from here until its response is over, in whatever way, and refuses the
 * ones that are too many. It never ends one to let in another: both would come back.
 *
 * HEAD opens nothing and counts nothing. A client that closed its half of the connection is gone: its
 * unfinished response is destroyed.
 *
 * The trap: a native EventSource gives up for good on any status but 200, so it is told 200, when to come
 * back, and the end. And behind a proxy without `trustProxy` all clients are one.
 *
 * @throws {TypeError | RangeError} naming the option and its value.
 */
export function limitConnections<Req extends LimitRequest = LimitRequest>(
  options: LimitOptions<Req> = {},
): ConnectionLimit<Req> {
  const { max = Infinity, trustProxy = 0, topics, refusal = defaultRefusal, onRefuse } = options;
  const { retryInterval = 5000, clock = SYSTEM_CLOCK } = options;
  const maxPerKey = checkCount('maxPerKey', options.maxPerKey ?? Infinity, 1);
  const maxPerTopic = checkCount('maxPerTopic', options.maxPerTopic ?? Infinity, 1);
  if (maxPerTopic !== Infinity && topics === undefined) throw new TypeError('`maxPerTopic` needs `topics`');
  if (options.burst !== undefined && options.rate === undefined) throw new TypeError('`burst` needs `rate`');
  checkTimeout('retryInterval', retryInterval);
  checkHops(trustProxy);
  const key = options.key ?? ((req: Req) => addressGroup(clientAddress(req, trustProxy) ?? ''));
  const shared = checkMax(max);
  const rates =
    options.rate === undefined || options.rate === Infinity
      ? undefined
      : new Rates(options.rate, options.burst, clock);
  const byKey = new Counts();
  const byTopic = new Counts();
  const numbers = { open: 0, peak: 0, admitted: 0 };
  const refused = { 'server-full': 0, 'client-full': 0, 'topic-full': 0, 'too-fast': 0 };
  const openResponses = new OpenResponses((admission) => release(admission));

  /** All of the limits, or none of them, take the connection. */
  const admit = (
    res: LimitResponse,
    client: LimitKey,
    wanted: readonly string[],
  ): Admission | LimitReason => {
    if (client !== undefined && byKey.get(client) >= maxPerKey) return 'client-full';
    if (wanted.some((topic) => byTopic.get(topic) >= maxPerTopic)) return 'topic-full';
    const permit = shared?.tryAcquire();
    if (shared === undefined ? numbers.open >= (max as number) : permit === undefined) return 'server-full';
    if (client !== undefined && rates !== undefined && !rates.take(client)) {
      permit?.();
      return 'too-fast';
    }
    if (client !== undefined) byKey.add(client, 1);
    for (const topic of wanted) byTopic.add(topic, 1);
    numbers.admitted++;
    numbers.peak = Math.max(numbers.peak, ++numbers.open);
    return { res, client, topics: wanted, permit, released: false, before: undefined };
  };

  const release = (admission: Admission) => {
    if (admission.released) return;
    admission.released = true;
    const { client, topics, permit } = admission;
    numbers.open--;
    if (client !== undefined) byKey.add(client, -1);
    for (const topic of topics) byTopic.add(topic, -1);
    permit?.();
  };

  const refuse = (req: Req, res: LimitResponse, reason: LimitReason, client: LimitKey) => {
    refused[reason]++;
    const { status, message } = ANSWERS[reason];
    const wait = reason === 'too-fast' ? Math.max(retryInterval, rates!.wait(client)) : retryInterval;
    // Everyone at another time, or the crowd that was refused comes back as one.
    const retry = Math.min(MAX_TIMEOUT, Math.ceil(wait * (1 + Math.random())));
    const how = typeof refusal === 'function' ? refusal(req) : refusal;
    if (how === 'event-stream') answerEventStream(res, message, retry);
    else answerStatus(res, status, { error: reason, message }, retry);
    onRefuse?.({ reason, status, refusal: how, req });
  };

  const middleware = (req: Req, res: LimitResponse, next: () => unknown): unknown => {
    if (req.method === 'HEAD') return next();
    // What is closed already will not say so again: a permit would never come back.
    if (isGone(req, res)) return undefined;
    const client = key(req);
    const wanted = topics === undefined ? NO_TOPICS : [...new Set(topics(req))];
    const admission = admit(res, client, wanted);
    if (typeof admission === 'string') return refuse(req, res, admission, client);
    openResponses.watch(req, admission);
    return follow(next, (error) => {
      // Where the chain fails before there is a head, no response may ever come that could be over.
      if (!res.headersSent) release(admission);
      throw error;
    });
  };
  const stats: LimitStats = {
    get open() {
      return numbers.open;
    },
    get peak() {
      return numbers.peak;
    },
    get waiting() {
      return shared?.waiting ?? 0;
    },
    get admitted() {
      return numbers.admitted;
    },
    refused,
    get keys() {
      return byKey.size;
    },
    get topics() {
      return byTopic.size;
    },
    get rates() {
      return rates?.size ?? 0;
    },
  };
  return Object.assign(middleware, { stats });
}

const NO_TOPICS: readonly string[] = [];

const ANSWERS: Readonly<Record<LimitReason, { status: 429 | 503; message: string }>> = {
  'server-full': { status: 503, message: 'The server has as many connections open as it may.' },
  'client-full': { status: 429, message: 'This client has as many connections open as it may.' },
  'topic-full': { status: 503, message: 'A topic has as many connections open as it may.' },
  'too-fast': { status: 429, message: 'This client opens connections too fast.' },
};

function answerStatus(
  res: LimitResponse,
  status: number,
  body: { error: string; message: string },
  retry: number,
) {
  const text = JSON.stringify(body);
  res.writeHead(status, {
    'content-type': 'application/json',
    'content-length': String(Buffer.byteLength(text)),
    'cache-control': 'no-store',
    'retry-after': String(Math.ceil(retry / 1000)),
  });
  res.end(text);
}

function answerEventStream(res: LimitResponse, message: string, retry: number): void {
  res.writeHead(200, {
    'content-type': 'text/event-stream',
    'cache-control': 'no-store, no-transform',
    'x-accel-buffering': 'no',
  });
  res.end(`: ${message}\nretry: ${retry}\n\n`);
}

/** A program that accepts an event stream can read a status; a browser's EventSource cannot. */
function defaultRefusal(req: LimitRequest): Refusal {
  const { accept, 'sec-fetch-mode': mode, 'sec-fetch-dest': dest, 'user-agent': agent } = req.headers;
  // To a plain http: address other than localhost browsers send no Fetch-Metadata.
  const isBrowser = mode !== undefined || dest !== undefined || String(agent).startsWith('Mozilla/');
  return isBrowser && String(accept).includes('text/event-stream') ? 'event-stream' : 'status';
}

function isGone(req: LimitRequest, res: LimitResponse): boolean {
  return req.socket.destroyed || res.destroyed === true || res.stream?.destroyed === true;
}

/** Hears of a failure now or later; makes no promise where there is none. */
function follow(next: () => unknown, failed: (error: unknown) => never): unknown {
  try {
    const result = next() as Partial<PromiseLike<unknown>> | undefined;
    return typeof result?.then === 'function' ? result.then(undefined, failed) : result;
  } catch (error) {
    return failed(error);
  }
}

function once(release: Release): Release {
  let released = false;
  return () => {
    if (released) return;
    released = true;
    release();
  };
}

/** What one open connection holds. There are many, so it is one small object and no closures. */
interface Admission {
  readonly res: LimitResponse;
  readonly client: LimitKey;
  readonly topics: readonly string[];
  readonly permit: Release | undefined;
  released: boolean;
  /** The newest that was still open on the same socket when it came. */
  before: Admission | undefined;
}

/**
 * Notices the end of responses, however they end. `'close'` says it of every one but those queued behind
 * another on their socket (pipelining), which never say so: therefore the socket is watched too, with one
 * pair of listeners for all of its responses.
 */
class OpenResponses {
  readonly #release: (admission: Admission) => void;
  /** The latest of each HTTP/1 socket. */
  readonly #latest: WeakMap<LimitSocket, Admission> = new WeakMap();
  readonly #onEnd: (this: LimitSocket) => void;
  readonly #onClose: (this: LimitSocket) => void;

  constructor(release: (admission: Admission) => void) {
    const latest = this.#latest;
    this.#release = release;
    this.#onEnd = function () {
      for (const { res } of allOpen(latest.get(this))) if (!res.writableEnded) res.destroy();
    };
    this.#onClose = function () {
      for (const admission of allOpen(latest.get(this))) release(admission);
    };
  }

  watch(req: LimitRequest, admission: Admission): void {
    admission.res.on('close', () => {
      this.#release(admission);
      // What is over must not hold on to what was over before it.
      admission.before = newestOpen(admission.before);
    });
    // An HTTP/2 response is closed with its socket.
    if (req.httpVersionMajor !== 1) return;
    const { socket } = req;
    const latest = this.#latest.get(socket);
    if (latest === undefined) {
      socket.on('end', this.#onEnd);
      socket.on('close', this.#onClose);
    }
    admission.before = newestOpen(latest);
    this.#latest.set(socket, admission);
  }
}

function newestOpen(latest: Admission | undefined): Admission | undefined {
  let one = latest;
  while (one?.released === true) one = one.before;
  return one;
}

function* allOpen(latest: Admission | undefined): Generator<Admission> {
  for (let one = newestOpen(latest); one !== undefined; one = newestOpen(one.before)) yield one;
}

/** A Map with paths for keys; a key that is no array is a path of one step. What is deleted leaves no branch. */
class PathMap<Value> {
  readonly #leaves: Map<unknown, Value> = new Map();
  #branches: Map<unknown, PathMap<Value>> | undefined;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  get(key: LimitKey): Value | undefined {
    if (!Array.isArray(key)) return this.#leaves.get(key);
    const [step, rest] = splitPath(key);
    return rest === undefined ? this.#leaves.get(step) : this.#branches?.get(step)?.get(rest);
  }

  /** Whether the key is new. */
  set(key: LimitKey, value: Value): boolean {
    const [step, rest] = splitPath(key);
    const isNew = rest === undefined ? !this.#leaves.has(step) : this.#branch(step).set(rest, value);
    if (rest === undefined) this.#leaves.set(step, value);
    if (isNew) this.#size++;
    return isNew;
  }

  /** Whether there was such a key. */
  delete(key: LimitKey): boolean {
    const [step, rest] = splitPath(key);
    const branch = this.#branches?.get(step);
    const was = rest === undefined ? this.#leaves.delete(step) : branch?.delete(rest) === true;
    if (rest !== undefined && branch?.size === 0) this.#branches?.delete(step);
    if (was) this.#size--;
    return was;
  }

  #branch(step: unknown): PathMap<Value> {
    this.#branches ??= new Map();
    const branch = this.#branches.get(step) ?? new PathMap<Value>();
    this.#branches.set(step, branch);
    return branch;
  }
}

/** A path's first step, and what is left of it if it goes further. */
function splitPath(key: LimitKey): [step: unknown, rest: unknown[] | undefined] {
  if (!Array.isArray(key)) return [key, undefined];
  return [key[0], key.length > 1 ? key.slice(1) : undefined];
}

class Counts {
  readonly #counts: PathMap<number> = new PathMap();

  get size(): number {
    return this.#counts.size;
  }

  get(key: LimitKey): number {
    return this.#counts.get(key) ?? 0;
  }

  add(key: LimitKey, change: 1 | -1): void {
    const count = this.get(key) + change;
    if (count === 0) this.#counts.delete(key);
    else this.#counts.set(key, count);
  }
}

const MAX_RATES = 100_000;

/**
 * A token bucket for each client, kept as one number: when it will be full again.
 *
 * A full one is as good as none, so they live in two generations: what was not used during one whole period
 * is dropped with its generation, without looking at any of them. A generation that grows too large ends early.
 */
class Rates {
  readonly #burst: number;
  /** Milliseconds for one token. */
  readonly #cost: number;
  readonly #clock: LimitClock;
  #young: PathMap<number> = new PathMap();
  #old: PathMap<number> = new PathMap();
  #timer: NodeJS.Timeout | undefined;

  constructor(rate: number, burst: number | undefined, clock: LimitClock) {
    if (!(rate > 0)) throw new RangeError(`\`rate\` must be more than 0 a second, got ${rate}`);
    this.#burst = checkCount('burst', burst ?? Math.max(1, Math.ceil(rate)), 1);
    this.#cost = 1000 / rate;
    this.#clock = clock;
  }

  get size(): number {
    return this.#young.size + this.#old.size;
  }

  take(key: LimitKey): boolean {
    if (this.wait(key) > 0) return false;
    this.#keep(key, this.#fullAt(key) + this.#cost);
    return true;
  }

  /** Milliseconds until there is a token. */
  wait(key: LimitKey): number {
    const wait = this.#fullAt(key) - this.#clock.now() - (this.#burst - 1) * this.#cost;
    // What is left of a sum of fractions is no wait.
    return wait < 0.001 ? 0 : wait;
  }

  #fullAt(key: LimitKey): number {
    return Math.max(this.#clock.now(), this.#young.get(key) ?? this.#old.get(key) ?? 0);
  }

  #keep(key: LimitKey, fullAt: number): void {
    if (this.#young.size >= MAX_RATES) this.#turn();
    this.#old.delete(key);
    this.#young.set(key, fullAt);
    this.#timer ??= this.#clock.setInterval(() => this.#turn(), this.#period()).unref();
  }

  /** How long it takes to fill a bucket. */
  #period(): number {
    return Math.min(MAX_TIMEOUT, Math.max(1000, Math.ceil(this.#burst * this.#cost)));
  }

  #turn(): void {
    this.#old = this.#young;
    this.#young = new PathMap();
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

/**
 * The client's address: the socket's, or, behind `trustProxy` proxies, the one that the outermost of them
 * wrote into `X-Forwarded-For`. Counted from the right, since what is further left anybody may have written.
 *
 * `undefined` on a Unix socket, and once the client is gone.
 */
export function clientAddress(
  req: Pick<LimitRequest, 'headers'> & { readonly socket: Pick<LimitSocket, 'remoteAddress'> },
  trustProxy = 0,
): string | undefined {
  const direct = req.socket.remoteAddress;
  const forwarded = req.headers['x-forwarded-for'];
  if (trustProxy === 0 || forwarded === undefined) return direct;
  const hops = String(forwarded).split(',');
  const hop = hops[Math.max(0, hops.length - trustProxy)]!.trim();
  // Some proxies write the port too.
  const address = /^\[(.+)\](?::\d+)?$/.exec(hop)?.[1] ?? /^([\d.]+):\d+$/.exec(hop)?.[1] ?? hop;
  return isIP(address) === 0 ? direct : address;
}

/**
 * What stands for one client: an IPv4 address itself, however it is written (also as `::ffff:192.0.2.1`, or
 * translated to `64:ff9b::192.0.2.1`); of an IPv6 address its /64, which is what one customer has at least.
 */
export function addressGroup(address: string): string {
  const plain = address.replace(/%.*$/, '');
  if (!isIPv6(plain)) return plain;
  const groups = expand(plain);
  const prefix = groups.slice(0, 6).join(':');
  if (prefix === '0:0:0:0:0:ffff' || prefix === '64:ff9b:0:0:0:0') return dotted(groups[6]!, groups[7]!);
  return `${groups.slice(0, 4).join(':')}::/64`;
}

/** The eight groups of an IPv6 address, lower-case, without leading zeros. */
function expand(address: string): string[] {
  const hex = address.toLowerCase().replace(/(\d+)\.(\d+)\.(\d+)\.(\d+)$/, (_, a, b, c, d) => {
    return `${(a * 256 + Number(b)).toString(16)}:${(c * 256 + Number(d)).toString(16)}`;
  });
  const [left = '', right] = hex.split('::');
  const head = left === '' ? [] : left.split(':');
  const tail = right === undefined || right === '' ? [] : right.split(':');
  const zeros = new Array<string>(8 - head.length - tail.length).fill('0');
  return [...head, ...zeros, ...tail].map((group) => group.replace(/^0+(?=.)/, ''));
}

function dotted(high: string, low: string): string {
  const bytes = [high, low]
    .map((group) => Number.parseInt(group, 16))
    .flatMap((two) => [two >> 8, two & 255]);
  return bytes.join('.');
}

/** The semaphore, where it is one. */
function checkMax(max: number | LimitSemaphore): LimitSemaphore | undefined {
  if (typeof max === 'number') checkCount('max', max, 1);
  else if (typeof max?.tryAcquire === 'function') return max;
  else throw new TypeError(`\`max\` must be a number or a Semaphore, got ${max}`);
  return undefined;
}

function failure(code: SemaphoreError['code'], message: string): SemaphoreError {
  return Object.assign(new Error(message), { code });
}

function checkCount(name: string, value: number, min: number): number {
  if ((Number.isInteger(value) && value >= min) || value === Infinity) return value;
  throw new RangeError(`\`${name}\` must be a whole number ≥ ${min}, got ${value}`);
}

function checkHops(trustProxy: number): void {
  if (Number.isInteger(trustProxy) && trustProxy >= 0) return;
  throw new RangeError(`\`trustProxy\` must be the number of proxies in front, got ${trustProxy}`);
}

function checkTimeout(name: string, value: number): number {
  if ((value >= 0 && value <= MAX_TIMEOUT) || (name === 'waitTimeout' && value === Infinity)) return value;
  throw new RangeError(`\`${name}\` must be from 0 to ${MAX_TIMEOUT} milliseconds, got ${value}`);
}
