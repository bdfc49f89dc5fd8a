// Shuts a server down: lets responses finish, ends streams spread over time, and cuts what remains.
// Stands alone: copy this file by itself.

import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Http2Session } from 'node:http2';
import { Server, type Socket } from 'node:net';

/** The members of a stream that are used. `EventStream` has them. */
export interface DrainableStream {
  /** True once nothing more can be written. */
  readonly closed: boolean;
  /** Needed unless the option `end` is given. */
  send?(event: { readonly retry: number }): unknown;
  /** Needed unless the option `end` is given. */
  end?(reason: 'shutdown'): unknown;
  /** Why it closed; `undefined` while its last bytes are on the way. Read where there is no server. */
  readonly reason?: string | undefined;
  /** Cuts it at the deadline where there is no server. */
  abort?(reason: 'shutdown'): unknown;
}

export interface ShutdownOptions<S extends DrainableStream = DrainableStream> {
  /** Called first: make the readiness probe fail here. */
  onDraining?: (() => void) | undefined;
  /** The open streams: a live collection such as a `Set`, not an iterator, because it is read repeatedly. */
  streams?: Iterable<S> | undefined;
  /**
   * Ends one stream; default `stream.send({ retry })`, then `stream.end('shutdown')`. `retry`: milliseconds.
   */
  end?: ((stream: S, context: { readonly retry: number }) => void) | undefined;
  /**
   * `now`, the default: ends streams from the start, evenly over `window`. `finish`: lets streams end by
   * themselves during `window`, then ends the rest at once.
   */
  mode?: 'now' | 'finish' | undefined;
  /** Milliseconds; default 0, which ends all streams at once. Keep it well below `deadline`. */
  window?: number | undefined;
  /** Milliseconds: the shortest wait of a client before it reconnects; default 1,000. */
  retry?: number | undefined;
  /** Milliseconds over which the reconnects of clients are spread, beyond `retry`; default 5,000. */
  retrySpread?: number | undefined;
  /**
   * Milliseconds from the start until the remaining connections are cut; default 10,000. `Infinity`: never.
   */
  deadline?: number | undefined;
  /** Cuts the remaining connections at once when it fires, as a second Ctrl-C should. */
  signal?: AbortSignal | undefined;
}

export interface ShutdownOutcome {
  /** Streams that `end` ended. */
  readonly ended: number;
  /** Streams that ended by themselves, or whose client left. */
  readonly finished: number;
  /**
   * Connections that were still open at the deadline, or when `signal` fired, and were cut; streams where there
   * is no server.
   */
  readonly cut: number;
  /** Milliseconds from the call until the last connection closed. */
  readonly duration: number;
  /** The errors that `onDraining` and `end` threw. They do not stop the shutdown. */
  readonly errors: readonly unknown[];
}

/**
 * Tracks a server's connections, so that `shutdown` can distinguish idle from busy ones. Call it where the
 * server is created, before it listens. Takes HTTP/1, HTTPS and HTTP/2 servers. A second call does nothing;
 * call it again after a shutdown if the server listens again.
 */
export function trackConnections(server: Server): void {
  if (tracked.has(server)) return;
  tracked.set(server, new Connections(server));
  shutdowns.delete(server);
}

/**
 * Shuts a server down: calls `onDraining`, accepts no new connections, closes idle ones, ends streams, waits
 * until the last response is complete or the deadline has passed, and resolves with the outcome. Never
 * rejects. Another call returns the same promise.
 *
 * `null` in place of the server is for programs that have none, because their host takes `Request` and
 * `Response`, as Next.js, Bun and Deno do, or closes its server itself: streams are ended and waited for, and the host
 * closes connections. Streams that open afterwards are ended too, until `deadline`.
 *
 * Do not call `server.close()` before it: on Node 20 to 26 that destroys connections whose response has ended
 * but is not sent yet (a response of 12 MiB arrived as 3.7 MiB).
 *
 * @throws {TypeError} when the server was not given to `trackConnections`, or an option is of the wrong type.
 * @throws {RangeError} naming the option that is out of its range.
 */
export function shutdown<S extends DrainableStream>(
  server: Server | null,
  options: ShutdownOptions<S> = {},
): Promise<ShutdownOutcome> {
  const onDraining = checkFunction('onDraining', options.onDraining ?? (() => {}));
  if (server === null) {
    const departures = new Departures(options);
    const limits = new Limits(options, departures.window);
    const outcome = drain(departures, departures, limits, onDraining);
    void outcome.then(({ duration }) => departures.endLate(Math.max(0, limits.deadline - duration)));
    return outcome;
  }
  const running = shutdowns.get(server);
  if (running !== undefined) return running;
  const connections = tracked.get(server);
  if (connections === undefined) throw new TypeError('`server` must be given to `trackConnections` first');
  const departures = new Departures(options);
  const outcome = drain(connections, departures, new Limits(options, departures.window), onDraining);
  shutdowns.set(server, outcome);
  return outcome;
}

const tracked = new WeakMap<Server, Connections>();
const shutdowns = new WeakMap<Server, Promise<ShutdownOutcome>>();

// Short enough to spread the ends evenly, and cheap.
const WAVE_INTERVAL = 50;
// The first request of a new connection may be on its way, and its client would not send it again.
const UNUSED_TIMEOUT = 1000;
const MAX_TIMEOUT = 2 ** 31 - 1;

async function drain<S extends DrainableStream>(
  connections: Drainable,
  departures: Departures<S>,
  limits: Limits,
  onDraining: () => void,
): Promise<ShutdownOutcome> {
  const startedAt = performance.now();
  const elapsed = () => performance.now() - startedAt;
  departures.attempt(onDraining);
  connections.drain();
  const cut = await new Promise<number>((resolve) => {
    const look = () => {
      departures.wave(elapsed());
      if (elapsed() >= UNUSED_TIMEOUT) connections.closeUnused();
      if (departures.allEnded && connections.closed) finish(0);
    };
    const finish = (count: number) => {
      clearInterval(ticker);
      limits.stop();
      resolve(count);
    };
    const ticker = setInterval(look, WAVE_INTERVAL);
    connections.onClosed = look;
    limits.start(() => {
      // The `retry:` of the remaining streams may still arrive before the cut.
      departures.wave(Infinity);
      finish(connections.cut());
    });
    look();
  });
  await connections.gone();
  return { ...departures.count(), cut, duration: elapsed() };
}

/** What a shutdown waits for: connections of a server, or streams where there is none. */
interface Drainable {
  /** Whether nothing is open and nothing more is accepted. */
  readonly closed: boolean;
  /** Called when `closed` may have become true. */
  onClosed: () => void;
  drain(): void;
  closeUnused(): void;
  /** Cuts all that is open; returns its number. */
  cut(): number;
  /** Waits for the last, then lets go. */
  gone(): Promise<void>;
}

/** Decides which streams are ended, and when. Where there is no server, its streams are what is waited for. */
class Departures<S extends DrainableStream> implements Drainable {
  readonly window: number;
  onClosed: () => void = () => {};
  readonly #mode: 'now' | 'finish';
  readonly #streams: Iterable<S>;
  readonly #end: (stream: S, context: { readonly retry: number }) => void;
  readonly #retry: number;
  readonly #retrySpread: number;
  readonly #errors: unknown[] = [];
  /** Streams that were given to `end`. */
  readonly #left = new WeakSet<S>();
  /** Open streams that were not given to `end` yet. */
  #waiting = new Set<S>();
  #ended = 0;
  #finished = 0;
  // A random offset of the waves and the retries: several processes that stop together must not act in step.
  readonly #phase = Math.random();

  constructor(options: ShutdownOptions<S>) {
    const {
      streams = [],
      end = sendAway,
      mode = 'now',
      window = 0,
      retry = 1000,
      retrySpread = 5000,
    } = options;
    if (mode !== 'now' && mode !== 'finish')
      throw new TypeError(`\`mode\` must be 'now' or 'finish', got ${mode}`);
    this.window = within('window', window, mode === 'now' ? 0 : 1, MAX_TIMEOUT);
    this.#retry = within('retry', retry, 0, MAX_TIMEOUT);
    this.#retrySpread = within('retrySpread', retrySpread, 0, MAX_TIMEOUT - retry);
    this.#mode = mode;
    this.#streams = collection(streams);
    this.#end = checkFunction('end', end);
  }

  /** Whether no stream remains to be ended. */
  get allEnded(): boolean {
    return this.#waiting.size === 0;
  }

  get closed(): boolean {
    return [...this.#streams].every(isOver);
  }

  drain(): void {}

  closeUnused(): void {}

  cut(): number {
    const open = [...this.#streams].filter((stream) => !isOver(stream));
    for (const stream of open) this.attempt(() => stream.abort?.('shutdown'));
    return open.length;
  }

  async gone(): Promise<void> {}

  /** A request that still waits for its permission opens a stream later, and the host waits for that one as well. */
  endLate(duration: number): void {
    const ticker = setInterval(() => this.wave(Infinity), WAVE_INTERVAL).unref();
    if (duration < Infinity) setTimeout(() => clearInterval(ticker), duration).unref();
  }

  wave(elapsed: number): void {
    this.#update();
    let due = this.#due(elapsed);
    for (const stream of this.#waiting) {
      if (due-- < 1) break;
      this.#waiting.delete(stream);
      this.#endOne(stream);
    }
  }

  attempt(action: () => void): void {
    try {
      action();
    } catch (error) {
      this.#errors.push(error);
    }
  }

  count(): { ended: number; finished: number; errors: readonly unknown[] } {
    this.#update();
    return { ended: this.#ended, finished: this.#finished, errors: this.#errors };
  }

  /** Reads the collection anew: streams may still open on busy connections, and others close. */
  #update(): void {
    const open = new Set<S>();
    for (const stream of this.#streams) if (!stream.closed && !this.#left.has(stream)) open.add(stream);
    for (const stream of this.#waiting) if (!open.has(stream)) this.#finished++;
    this.#waiting = open;
  }

  #due(elapsed: number): number {
    if (elapsed >= this.window) return this.#waiting.size;
    if (this.#mode === 'finish') return 0;
    const all = this.#ended + this.#waiting.size;
    return Math.floor((all * elapsed) / this.window + this.#phase) - this.#ended;
  }

  #endOne(stream: S): void {
    // Steps of the golden ratio fill the spread evenly for any number of streams and any part of them.
    const place = (this.#phase + this.#ended * GOLDEN) % 1;
    this.#left.add(stream);
    this.#ended++;
    const retry = this.#retry + Math.floor(this.#retrySpread * place);
    this.attempt(() => this.#end(stream, { retry }));
  }
}

const GOLDEN = (Math.sqrt(5) - 1) / 2;

/** The deadline and the caller's signal. The first of them calls `cut`. */
class Limits {
  readonly deadline: number;
  readonly #signal: AbortSignal | undefined;
  #timer: NodeJS.Timeout | undefined;
  #cut = (): void => {};

  constructor({ deadline = 10_000, signal }: Pick<ShutdownOptions, 'deadline' | 'signal'>, window: number) {
    this.deadline = deadline === Infinity ? deadline : within('deadline', deadline, window, MAX_TIMEOUT);
    if (signal !== undefined && typeof signal?.aborted !== 'boolean')
      throw new TypeError(`\`signal\` must be an AbortSignal, got ${typeof signal}`);
    this.#signal = signal;
  }

  start(cut: () => void): void {
    this.#cut = cut;
    if (this.deadline !== Infinity) this.#timer = setTimeout(cut, this.deadline);
    if (this.#signal?.aborted) cut();
    else this.#signal?.addEventListener('abort', cut);
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#signal?.removeEventListener('abort', this.#cut);
  }
}

/** Its last bytes may still be on the way when it is closed; a stream without `reason` does not tell. */
function isOver(stream: DrainableStream): boolean {
  return stream.closed && (!('reason' in stream) || stream.reason !== undefined);
}

/** The open connections of one server. */
class Connections implements Drainable {
  readonly #server: Server;
  /**
   * The HTTP/1 responses of each socket that are not closed: the only one, or how many where a client pipelines;
   * `undefined` before the first request. Weak, so that an idle connection keeps none. Counted by a listener on each
   * response, idle streams would cost 110 bytes more: it would be the third for 'close', and Node's list then grows.
   */
  readonly #open = new Map<Socket, WeakRef<ServerResponse> | number | undefined>();
  readonly #sessions = new Set<Http2Session>();
  #draining = false;
  #stopped = false;
  readonly #onGone: (this: Socket) => void;
  readonly #onResponded: (this: ServerResponse) => void;
  onClosed: () => void = () => {};

  constructor(server: Server) {
    this.#server = server;
    const connections = this;
    // One function for all connections: one for each would cost 170 bytes per idle stream.
    this.#onGone = function (this: Socket) {
      connections.#left(this);
    };
    this.#onResponded = function (this: ServerResponse) {
      connections.#responded(this);
    };
    server.on('connection', this.#onConnection);
    server.on('secureConnection', this.#onConnection);
    server.on('session', this.#onSession);
    // An HTTP/2 server without such a listener emits only 'stream'; adding one would change that.
    if (server.listenerCount('request') > 0) server.prependListener('request', this.#onRequest);
    else server.on('newListener', this.#onListener);
  }

  /** Whether no connection is open and none is accepted. */
  get closed(): boolean {
    return this.#stopped && this.#open.size === 0;
  }

  drain(): void {
    this.#draining = true;
    // Not the close() of node:http, which destroys connections whose last response is not sent completely. The
    // servers of Bun's node:http are none of node:net, so theirs is the only one.
    const { close } = this.#server instanceof Server ? Server.prototype : this.#server;
    close.call(this.#server, () => {
      this.#stopped = true;
      this.onClosed();
    });
    for (const session of this.#sessions) session.close();
    for (const [socket, open] of this.#open) {
      if (open === undefined) continue;
      const responses = openOf(open);
      if (responses === 0) endIdle(socket);
      else if (typeof responses === 'object') this.#listen(responses);
    }
  }

  /**
   * Closes connections that browsers opened in advance. A connection that has sent bytes has begun a request.
   */
  closeUnused(): void {
    for (const [socket, open] of this.#open)
      if (open === undefined && socket.bytesRead === 0) socket.destroySoon();
  }

  /** Destroys all connections; returns their number. */
  cut(): number {
    let count = 0;
    for (const socket of this.#open.keys()) {
      // A TLS connection is in the map twice: as itself, and as the TCP connection below it.
      if (!('encrypted' in socket)) count++;
      socket.destroy();
    }
    (this.#server as { closeAllConnections?(): void }).closeAllConnections?.();
    return count;
  }

  /** Waits for the last connection, then removes all listeners from the server. */
  async gone(): Promise<void> {
    if (this.#open.size > 0)
      await new Promise<void>((resolve) => {
        this.onClosed = () => this.#open.size === 0 && resolve();
      });
    this.onClosed = () => {};
    const listeners = {
      connection: this.#onConnection,
      secureConnection: this.#onConnection,
      session: this.#onSession,
      request: this.#onRequest,
      newListener: this.#onListener,
    };
    for (const [name, listener] of Object.entries(listeners)) this.#server.off(name, listener);
    tracked.delete(this.#server);
    // Closes nothing more, but stops the timer with which node:http checks its connections.
    this.#server.close();
  }

  readonly #onConnection = (socket: Socket): void => {
    this.#open.set(socket, undefined);
    socket.on('close', this.#onGone);
  };

  readonly #onSession = (session: Http2Session): void => {
    this.#sessions.add(session);
    session.on('close', () => this.#sessions.delete(session));
    if (this.#draining) session.close();
  };

  readonly #onListener = (name: string | symbol): void => {
    if (name !== 'request') return;
    this.#server.off('newListener', this.#onListener);
    this.#server.prependListener('request', this.#onRequest);
  };

  readonly #onRequest = (req: IncomingMessage, res: ServerResponse): void => {
    const { socket } = req;
    // The socket of an HTTP/2 request is a proxy, which is not in the map: `#sessions` covers it.
    if (!this.#open.has(socket)) return;
    const before = openOf(this.#open.get(socket));
    if (before === 0) this.#open.set(socket, new WeakRef(res));
    else {
      // Any of them may close first: one that waits behind another can be destroyed.
      this.#open.set(socket, typeof before === 'number' ? before + 1 : 2);
      if (typeof before === 'object') this.#listen(before);
    }
    if (before !== 0 || this.#draining) this.#listen(res);
    if (this.#draining) res.shouldKeepAlive = false;
  };

  #listen(res: ServerResponse): void {
    res.off('close', this.#onResponded).on('close', this.#onResponded);
  }

  #left(socket: Socket): void {
    this.#open.delete(socket);
    if (this.#open.size === 0) this.onClosed();
  }

  #responded(res: ServerResponse): void {
    const { socket } = res.req;
    const open = this.#open.get(socket);
    if (open === undefined) return;
    if (typeof open === 'number') this.#open.set(socket, open - 1);
    if (this.#draining && (open === 1 || typeof open === 'object')) endIdle(socket);
  }
}

/** How many responses are open, or the only one. One that was collected was complete. */
function openOf(open: WeakRef<ServerResponse> | number | undefined): ServerResponse | number {
  if (typeof open !== 'object') return open ?? 0;
  const res = open.deref();
  return res === undefined || res.closed ? 0 : res;
}

/** Leaves a connection alone that another protocol has taken over: Node's HTTP parser has let it go. */
function endIdle(socket: Socket): void {
  if ((socket as { parser?: unknown }).parser !== null) socket.destroySoon();
}

function collection<S>(streams: Iterable<S>): Iterable<S> {
  if (typeof streams?.[Symbol.iterator] !== 'function')
    throw new TypeError(`\`streams\` must be iterable, got ${typeof streams}`);
  if ((streams[Symbol.iterator]() as unknown) === streams)
    throw new TypeError('`streams` must be a collection that can be read again, got an iterator');
  return streams;
}

function checkFunction<F>(name: string, given: F): F {
  if (typeof given === 'function') return given;
  throw new TypeError(`\`${name}\` must be a function, got ${typeof given}`);
}

function sendAway(stream: DrainableStream, { retry }: { readonly retry: number }): void {
  stream.send?.({ retry });
  stream.end?.('shutdown');
}

function within(name: string, value: number, least: number, most: number): number {
  if (typeof value === 'number' && value >= least && value <= most) return value;
  throw new RangeError(`\`${name}\` must be a number from ${least} to ${most}, got ${value}`);
}
