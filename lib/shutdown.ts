// Takes a server out of service: lets responses finish, sends streams away without a stampede, then cuts the rest.
// Stands alone: copy this file by itself.

import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Http2Session } from 'node:http2';
import { Server, type Socket } from 'node:net';

/** The one member of a stream that is read. */
export interface DrainableStream {
  /** True once nothing more can be written. */
  readonly closed: boolean;
}

export interface ShutdownOptions<S extends DrainableStream = DrainableStream> {
  /** Called before anything else: turn the readiness probe off here. */
  onDraining?: (() => void) | undefined;
  /** The open streams: the live collection (a `Set`), not an iterator, because it is read again and again. */
  streams?: Iterable<S> | undefined;
  /** Ends one stream after telling it `retry:`. Needed with `streams`. */
  end?: ((stream: S, told: { readonly retry: number }) => void) | undefined;
  /**
   * `now`, the default: streams are ended from the start, evenly over `window`. `finish`: they may come to their
   * own end until `window` has passed; what is open then is ended at once.
   */
  mode?: 'now' | 'finish' | undefined;
  /** Milliseconds; default 0, which ends all streams at once. Leave room between it and `deadline`. */
  window?: number | undefined;
  /** Milliseconds, the least that a stream is told to wait before it comes back; default 1,000. */
  retry?: number | undefined;
  /** Milliseconds over which streams that are ended together come back, each told its own; default 5,000. */
  retrySpread?: number | undefined;
  /** Milliseconds from the start until all that is left is cut; default 10,000. `Infinity`: never. */
  deadline?: number | undefined;
  /** Cuts at once when it fires: the second Ctrl-C. */
  signal?: AbortSignal | undefined;
}

export interface ShutdownOutcome {
  /** Streams that were told to come back. */
  readonly ended: number;
  /** Streams that were over before they were told: by themselves, or their client left. */
  readonly finished: number;
  /** Connections that were cut, streams or not: they were still open at the deadline or when `signal` fired. */
  readonly cut: number;
  /** Milliseconds from the call to the last connection's end. */
  readonly duration: number;
  /** What `onDraining` and `end` threw. It stopped nothing. */
  readonly errors: readonly unknown[];
}

/**
 * Keeps track of a server's connections so that `shutdown` can tell the idle ones from the busy ones. Call it
 * where the server is created, before it listens. HTTP/1, HTTPS and HTTP/2 servers alike; a second call is free,
 * and one after a shutdown makes the server, should it listen again, ready for the next.
 */
export function trackConnections(server: Server): void {
  if (tracked.has(server)) return;
  tracked.set(server, new Connections(server));
  shutdowns.delete(server);
}

/**
 * Takes a server out of service: readiness off, no new connections, idle ones closed, streams ended, and, when the
 * last response is complete or the deadline has passed, resolves with what happened. Never rejects. Called again it
 * gives the same promise.
 *
 * Do not call `server.close()` before it: on Node 20 to 26 that destroys connections whose response has ended but
 * is not yet sent (a 12 MiB one arrived as 3.7 MiB).
 *
 * @throws {TypeError} when the server was not given to `trackConnections`, or an option is of the wrong kind.
 * @throws {RangeError} naming the option that is out of its range.
 */
export function shutdown<S extends DrainableStream>(
  server: Server,
  options: ShutdownOptions<S> = {},
): Promise<ShutdownOutcome> {
  const running = shutdowns.get(server);
  if (running !== undefined) return running;
  const connections = tracked.get(server);
  if (connections === undefined) throw new TypeError('`server` must be given to `trackConnections` first');
  const departures = new Departures(options);
  const outcome = drain(connections, departures, new Limits(options, departures.window), options.onDraining);
  shutdowns.set(server, outcome);
  return outcome;
}

const tracked = new WeakMap<Server, Connections>();
const shutdowns = new WeakMap<Server, Promise<ShutdownOutcome>>();

// Often enough for even waves, rare enough to cost nothing.
const WAVE_INTERVAL = 50;
// A connection that was accepted just before may have its first request on the way, and nobody would repeat it.
const UNUSED_GRACE = 1000;
const MAX_TIMEOUT = 2 ** 31 - 1;

async function drain<S extends DrainableStream>(
  connections: Connections,
  departures: Departures<S>,
  limits: Limits,
  onDraining: () => void = () => {},
): Promise<ShutdownOutcome> {
  const startedAt = performance.now();
  const elapsed = () => performance.now() - startedAt;
  departures.attempt(onDraining);
  connections.drain();
  const cut = await new Promise<number>((resolve) => {
    const look = () => {
      departures.wave(elapsed());
      if (elapsed() >= UNUSED_GRACE) connections.closeUnused();
      if (departures.allTold && connections.closed) leave(0);
    };
    const leave = (count: number) => {
      clearInterval(ticker);
      limits.stop();
      resolve(count);
    };
    const ticker = setInterval(look, WAVE_INTERVAL);
    connections.onClosed = look;
    limits.start(() => {
      // Told even now: the words may still arrive, and then the client knows when to return.
      departures.wave(Infinity);
      leave(connections.cut());
    });
    look();
  });
  await connections.gone();
  return { ...departures.count(), cut, duration: elapsed() };
}

/** Decides who is told to leave, and when. */
class Departures<S extends DrainableStream> {
  readonly window: number;
  readonly #mode: 'now' | 'finish';
  readonly #streams: Iterable<S>;
  readonly #end: (stream: S, told: { readonly retry: number }) => void;
  readonly #retry: number;
  readonly #retrySpread: number;
  readonly #errors: unknown[] = [];
  readonly #told = new WeakSet<S>();
  #waiting = new Set<S>();
  #ended = 0;
  #finished = 0;
  // Where this process begins, in the waves and in the retries: a fleet that stops together must not be in step.
  readonly #phase = Math.random();

  constructor(options: ShutdownOptions<S>) {
    const { streams = [], end, mode = 'now', window = 0, retry = 1000, retrySpread = 5000 } = options;
    if (mode !== 'now' && mode !== 'finish')
      throw new TypeError(`\`mode\` must be 'now' or 'finish', got ${mode}`);
    this.window = within('window', window, mode === 'now' ? 0 : 1, MAX_TIMEOUT);
    this.#retry = within('retry', retry, 0, MAX_TIMEOUT);
    this.#retrySpread = within('retrySpread', retrySpread, 0, MAX_TIMEOUT - retry);
    this.#mode = mode;
    this.#streams = collection(streams);
    this.#end = callback(end, options.streams === undefined);
  }

  /** Whether nobody is left who should still be told. */
  get allTold(): boolean {
    return this.#waiting.size === 0;
  }

  wave(elapsed: number): void {
    this.#look();
    let due = this.#due(elapsed);
    for (const stream of this.#waiting) {
      if (due-- < 1) break;
      this.#waiting.delete(stream);
      this.#tell(stream);
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
    this.#look();
    return { ended: this.#ended, finished: this.#finished, errors: this.#errors };
  }

  /** Streams may still open, on connections that were busy, and others end: each wave sees them as they are. */
  #look(): void {
    const open = new Set<S>();
    for (const stream of this.#streams) if (!stream.closed && !this.#told.has(stream)) open.add(stream);
    for (const stream of this.#waiting) if (!open.has(stream)) this.#finished++;
    this.#waiting = open;
  }

  #due(elapsed: number): number {
    if (elapsed >= this.window) return this.#waiting.size;
    if (this.#mode === 'finish') return 0;
    const all = this.#ended + this.#waiting.size;
    return Math.floor((all * elapsed) / this.window + this.#phase) - this.#ended;
  }

  #tell(stream: S): void {
    // Steps of the golden ratio fill the spread evenly, however many there are and wherever one begins to look.
    const place = (this.#phase + this.#ended * GOLDEN) % 1;
    this.#told.add(stream);
    this.#ended++;
    const retry = this.#retry + Math.floor(this.#retrySpread * place);
    this.attempt(() => this.#end(stream, { retry }));
  }
}

const GOLDEN = (Math.sqrt(5) - 1) / 2;

/** The deadline and the caller's signal: whichever is first calls once. */
class Limits {
  readonly #deadline: number;
  readonly #signal: AbortSignal | undefined;
  #timer: NodeJS.Timeout | undefined;
  #cut = (): void => {};

  constructor({ deadline = 10_000, signal }: Pick<ShutdownOptions, 'deadline' | 'signal'>, window: number) {
    this.#deadline = deadline === Infinity ? deadline : within('deadline', deadline, window, MAX_TIMEOUT);
    this.#signal = signal;
  }

  start(cut: () => void): void {
    this.#cut = cut;
    if (this.#deadline !== Infinity) this.#timer = setTimeout(cut, this.#deadline);
    if (this.#signal?.aborted) cut();
    else this.#signal?.addEventListener('abort', cut);
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#signal?.removeEventListener('abort', this.#cut);
  }
}

/** All that is open on one server. */
class Connections {
  readonly #server: Server;
  /** Responses that are not complete, by the socket that HTTP/1 speaks on; `UNUSED` before the first request. */
  readonly #responses = new Map<Socket, number>();
  readonly #sessions = new Set<Http2Session>();
  #draining = false;
  #stopped = false;
  readonly #onGone: (this: Socket) => void;
  readonly #onResponded: (this: ServerResponse) => void;
  onClosed: () => void = () => {};

  constructor(server: Server) {
    this.#server = server;
    const connections = this;
    // One function for all connections: one each would cost 170 bytes of every idle stream.
    this.#onGone = function (this: Socket) {
      connections.#left(this);
    };
    this.#onResponded = function (this: ServerResponse) {
      connections.#responded(this.req.socket);
    };
    server.on('connection', this.#onConnection);
    server.on('secureConnection', this.#onConnection);
    server.on('session', this.#onSession);
    // An HTTP/2 server that has no such listener speaks in streams only, and one from us would change that.
    if (server.listenerCount('request') > 0) server.prependListener('request', this.#onRequest);
    else server.on('newListener', this.#onListener);
  }

  /** Whether no connection is open and none can come. */
  get closed(): boolean {
    return this.#stopped && this.#responses.size === 0;
  }

  drain(): void {
    this.#draining = true;
    // Not the close() of http: it destroys connections whose last response is not wholly sent.
    Server.prototype.close.call(this.#server, () => {
      this.#stopped = true;
      this.onClosed();
    });
    for (const session of this.#sessions) session.close();
    for (const [socket, responses] of this.#responses) if (responses === 0) socket.destroySoon();
  }

  /** A browser opens connections ahead of need. They bring nothing; one that does has half a request. */
  closeUnused(): void {
    for (const [socket, responses] of this.#responses)
      if (responses === UNUSED && socket.bytesRead === 0) socket.destroySoon();
  }

  /** How many it were. */
  cut(): number {
    let count = 0;
    for (const socket of this.#responses.keys()) {
      // A TLS connection is here twice, once as the plain one below.
      if (!('encrypted' in socket)) count++;
      socket.destroy();
    }
    (this.#server as { closeAllConnections?(): void }).closeAllConnections?.();
    return count;
  }

  /** Waits for the last connection, then lets go of the server. */
  async gone(): Promise<void> {
    if (this.#responses.size > 0)
      await new Promise<void>((resolve) => {
        this.onClosed = () => this.#responses.size === 0 && resolve();
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
    // Has nothing to accept or cut any more, but stops the timer with which http checks its connections.
    this.#server.close();
  }

  readonly #onConnection = (socket: Socket): void => {
    this.#responses.set(socket, UNUSED);
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
    const responses = this.#responses.get(req.socket);
    // A request of HTTP/2 shows a stand-in for its socket: its session looks after it.
    if (responses === undefined) return;
    this.#responses.set(req.socket, Math.max(responses, 0) + 1);
    if (this.#draining) res.shouldKeepAlive = false;
    res.on('close', this.#onResponded);
  };

  #left(socket: Socket): void {
    this.#responses.delete(socket);
    if (this.#responses.size === 0) this.onClosed();
  }

  #responded(socket: Socket): void {
    const responses = this.#responses.get(socket);
    if (responses === undefined) return;
    this.#responses.set(socket, responses - 1);
    if (this.#draining && responses === 1) socket.destroySoon();
  }
}

const UNUSED = -1;

function collection<S>(streams: Iterable<S>): Iterable<S> {
  if (typeof streams?.[Symbol.iterator] !== 'function')
    throw new TypeError(`\`streams\` must be iterable, got ${typeof streams}`);
  if ((streams[Symbol.iterator]() as unknown) === streams)
    throw new TypeError('`streams` must be a collection that can be read again, got an iterator');
  return streams;
}

function callback<F extends (...args: never[]) => void>(end: F | undefined, unneeded: boolean): F {
  if (typeof end === 'function') return end;
  if (end === undefined && unneeded) return (() => {}) as unknown as F;
  throw new TypeError(`\`end\` must be a function where there are \`streams\`, got ${typeof end}`);
}

function within(name: string, value: number, least: number, most: number): number {
  if (typeof value === 'number' && value >= least && value <= most) return value;
  throw new RangeError(`\`${name}\` must be a number from ${least} to ${most}, got ${value}`);
}
