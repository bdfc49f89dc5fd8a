// Stands between clients and a server on TCP, and does to their connections what networks do.
// Stands alone: copy this file by itself.

import { once } from 'node:events';
import { createServer, connect as dial, type Server, type Socket } from 'node:net';

export interface ChaosProxyOptions {
  /** Where it listens; default a free port. */
  readonly port?: number | undefined;
  /** Default `127.0.0.1`. */
  readonly host?: string | undefined;
}

/** A port of this machine, or a URL whose host and port are used. Only HTTP has a port without naming one. */
export type ChaosTarget = number | string | URL;

/**
 * Hands connections on to a server until a method makes something go wrong. Faults may be combined; each lasts
 * until `pass()`. Bytes that a peer does not read make the other one wait, as without a proxy.
 *
 * Its delays are global timers and `performance.now`, so a `FakeClock` drives them.
 */
export class ChaosProxy {
  /** How many connections it has taken so far. */
  accepted = 0;
  /** How many pieces, as they came from a socket, were lost. */
  lost = 0;
  /** Where it listens, also after `close()`. */
  port = 0;
  readonly #server: Server;
  readonly #host: string;
  readonly #links: Set<Link> = new Set();
  #target: Address;
  readonly #shape: Shape = { latency: 0, sliceBytes: Infinity, bytesPerSecond: Infinity };
  #isRefusing = false;
  #isStalled = false;
  #loses: Loss = 'nothing';
  #trap: string | undefined;
  #drawLimit: (() => number) | undefined;

  /**
   * Starts one in front of a server.
   * @throws {TypeError | RangeError} when `target` has no port.
   */
  static async listen(target: ChaosTarget, options: ChaosProxyOptions = {}): Promise<ChaosProxy> {
    const { port = 0, host = '127.0.0.1' } = options;
    const proxy = new ChaosProxy(target, host);
    proxy.#server.listen(port, host);
    await once(proxy.#server, 'listening');
    proxy.port = (proxy.#server.address() as { port: number }).port;
    return proxy;
  }

  private constructor(target: ChaosTarget, host: string) {
    this.#target = addressOf(target);
    this.#host = host;
    this.#server = createServer({ allowHalfOpen: true, noDelay: true }, (client) => this.#accept(client));
  }

  /** By HTTP, without a path: `http://127.0.0.1:40123`. */
  get url(): string {
    const host = { '0.0.0.0': '127.0.0.1', '::': '::1' }[this.#host] ?? this.#host;
    return `http://${host.includes(':') ? `[${host}]` : host}:${this.port}`;
  }

  /** How many connections are open. */
  get connections(): number {
    return this.#links.size;
  }

  // ── slow ────────────────────────────────────────────────────────────────────────────────────────────────

  /** Milliseconds by which everything arrives later, in each direction. */
  delay(latency: number): void {
    this.#shape.latency = atLeast(0, 'latency', latency);
  }

  /** Hands everything on in pieces of at most so many bytes, each in a turn of its own: `1` splits all there is. */
  slice(bytes: number): void {
    this.#shape.sliceBytes = atLeast(1, 'bytes', bytes);
  }

  /** The most that each connection carries in each direction. */
  throttle(bytesPerSecond: number): void {
    this.#shape.bytesPerSecond = atLeast(1, 'bytesPerSecond', bytesPerSecond);
  }

  /** Everything waits, ends of connections included, until `pass()`. */
  stall(): void {
    this.#isStalled = true;
    for (const link of this.#links) link.resume();
  }

  // ── cut ─────────────────────────────────────────────────────────────────────────────────────────────────

  /** Closes all open connections. New ones are accepted. */
  cut(): void {
    for (const link of this.#links) link.cut();
  }

  /** Resets all open connections, as a crash does. New ones are accepted. */
  reset(): void {
    for (const link of this.#links) link.reset();
  }

  /** Resets all open connections, and each new one. */
  refuse(): void {
    this.#isRefusing = true;
    this.reset();
  }

  /**
   * Cuts each connection when it has carried so many more bytes to the client. A function is called for each
   * connection: `() => Math.random() * 4096`.
   */
  cutAfter(bytes: number | (() => number)): void {
    if (typeof bytes === 'number') atLeast(0, 'bytes', bytes);
    const draw = typeof bytes === 'function' ? bytes : () => bytes;
    const drawLimit = (): number => Math.floor(atLeast(0, 'bytes', draw()));
    this.#drawLimit = drawLimit;
    for (const link of this.#links) link.limit(drawLimit());
  }

  // ── lost ────────────────────────────────────────────────────────────────────────────────────────────────

  /** Everything is lost in both directions, ends of connections included, and nobody hears of that. */
  blackHole(): void {
    this.#loses = 'everything';
  }

  /** Requests are handed on. What the server says is lost, also that it closes. */
  loseAnswers(): void {
    this.#loses = 'answers';
  }

  /** Hands on the next piece of a request that contains this text, and cuts its connection in place of the answer. */
  loseAnswerTo(text: string): void {
    this.#trap = text;
  }

  // ── and back ────────────────────────────────────────────────────────────────────────────────────────────

  /** Ends all faults. Connections that have lost something are reset: the rest would be read as something else. */
  pass(): void {
    Object.assign(this.#shape, { latency: 0, sliceBytes: Infinity, bytesPerSecond: Infinity });
    this.#isRefusing = false;
    this.#isStalled = false;
    this.#loses = 'nothing';
    this.#trap = undefined;
    this.#drawLimit = undefined;
    for (const link of this.#links) {
      link.limit(Infinity);
      if (link.hasLost) link.reset();
      else link.resume();
    }
  }

  /** Leads to another server from now on. Resets the connections that are open. */
  retarget(target: ChaosTarget): void {
    this.#target = addressOf(target);
    this.reset();
  }

  /** Resets all connections and listens no longer. */
  async close(): Promise<void> {
    this.refuse();
    if (!this.#server.listening) return;
    this.#server.close();
    await once(this.#server, 'close');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #accept(client: Socket): void {
    this.accepted++;
    client.on('error', () => {});
    if (this.#isRefusing) return resetSocket(client);
    const server = dial({ ...this.#target, noDelay: true, allowHalfOpen: true });
    const link = new Link(client, server, {
      shape: this.#shape,
      isStalled: () => this.#isStalled,
      loses: (isAnswer) => this.#loses === 'everything' || (isAnswer && this.#loses === 'answers'),
      onLost: () => this.lost++,
      isTrapped: (piece) => {
        if (this.#trap === undefined || !piece.includes(this.#trap)) return false;
        this.#trap = undefined;
        return true;
      },
      onClose: () => this.#links.delete(link),
    });
    this.#links.add(link);
    link.limit(this.#drawLimit?.() ?? Infinity);
  }
}

interface Address {
  readonly host: string;
  readonly port: number;
}

type Loss = 'nothing' | 'answers' | 'everything';

interface Shape {
  latency: number;
  sliceBytes: number;
  bytesPerSecond: number;
}

/** What a connection asks of its proxy. */
interface Faults {
  readonly shape: Readonly<Shape>;
  readonly isStalled: () => boolean;
  readonly loses: (isAnswer: boolean) => boolean;
  readonly onLost: () => void;
  readonly isTrapped: (request: Buffer) => boolean;
  readonly onClose: () => void;
}

/** A connection through the proxy: two sockets, and what is on its way between them. */
class Link {
  /** Whether an end or a piece was lost, so that no more may be handed on. */
  hasLost = false;
  readonly #client: Socket;
  readonly #server: Socket;
  readonly #requests: Pump;
  readonly #answers: Pump;
  readonly #faults: Faults;
  #isTrapped = false;

  constructor(client: Socket, server: Socket, faults: Faults) {
    this.#client = client;
    this.#server = server;
    this.#faults = faults;
    this.#requests = new Pump(client, server, {
      ...faults,
      take: (piece) => {
        if (piece !== undefined && faults.isTrapped(piece)) this.#isTrapped = true;
        return this.#keeps(piece, false);
      },
      onLimit: () => {},
    });
    this.#answers = new Pump(server, client, {
      ...faults,
      take: (piece) => {
        if (this.#isTrapped) this.cut();
        return !this.#isTrapped && this.#keeps(piece, true);
      },
      onLimit: () => this.cut(),
    });
    for (const [socket, isAnswer] of [
      [client, false],
      [server, true],
    ] as const) {
      let isReset = false;
      socket.on('error', () => {
        isReset = true;
      });
      socket.once('close', () => this.#closed(isReset, isAnswer));
    }
  }

  limit(bytes: number): void {
    this.#answers.limit(bytes);
  }

  /** Goes on after a change of the faults. */
  resume(): void {
    this.#requests.resume();
    this.#answers.resume();
  }

  cut(): void {
    this.#client.destroy();
    this.#server.destroy();
  }

  reset(): void {
    resetSocket(this.#client);
    resetSocket(this.#server);
  }

  /** Whether a piece, or the end of its side (`undefined`), goes on. */
  #keeps(piece: Buffer | undefined, isAnswer: boolean): boolean {
    if (!this.#faults.loses(isAnswer)) return true;
    this.hasLost = true;
    if (piece !== undefined) this.#faults.onLost();
    return false;
  }

  #closed(isReset: boolean, isAnswer: boolean): void {
    if (this.#client.destroyed && this.#server.destroyed) return this.#faults.onClose();
    // Where nothing gets through, this does not either.
    if (this.#faults.isStalled() || this.#faults.loses(isAnswer)) this.hasLost = true;
    else if (isReset) this.reset();
    // Otherwise the end comes after what is on its way.
    else if (!(isAnswer ? this.#server : this.#client).readableEnded) this.cut();
  }
}

interface Flow extends Pick<Faults, 'shape' | 'isStalled'> {
  /** Returns whether to hand a piece on, or the end (`undefined`). */
  readonly take: (piece: Buffer | undefined) => boolean;
  readonly onLimit: () => void;
}

/** A piece on its way; without bytes it is the end. */
interface Piece {
  bytes: Buffer | undefined;
  readonly due: number;
}

// More than that waits in the kernel, and then at the sender.
const MOST_QUEUED = 256 * 1024;
const THROTTLE_INTERVAL = 20;
// What a timer can wait. A longer one would fire at once, again and again.
const MAX_DELAY = 2 ** 31 - 1;

/** One direction of a connection. */
class Pump {
  readonly #from: Socket;
  readonly #to: Socket;
  readonly #flow: Flow;
  readonly #queue: Piece[] = [];
  #queuedBytes = 0;
  #left = Infinity;
  #timer: NodeJS.Timeout | undefined;
  #immediate: NodeJS.Immediate | undefined;
  #isFull = false;

  constructor(from: Socket, to: Socket, flow: Flow) {
    this.#from = from;
    this.#to = to;
    this.#flow = flow;
    from.on('data', (piece) => this.#arrive(piece));
    from.on('end', () => this.#arrive(undefined));
    to.on('drain', () => {
      this.#isFull = false;
      this.#run();
    });
    to.once('close', () => {
      this.#stopWaiting();
      this.#queue.length = 0;
      // So that the end of the other side is noticed.
      from.resume();
    });
    if (flow.isStalled()) from.pause();
  }

  limit(bytes: number): void {
    this.#left = bytes;
    if (bytes === 0) this.#flow.onLimit();
  }

  /** Goes on at once, however long it was to wait. */
  resume(): void {
    this.#stopWaiting();
    this.#run();
  }

  #run(): void {
    const isOpen = !this.#to.destroyed;
    if (isOpen && (this.#flow.isStalled() || this.#queuedBytes > MOST_QUEUED)) this.#from.pause();
    else if (this.#from.isPaused()) this.#from.resume();
    while (isOpen && this.#isReady() && this.#handOn()) {}
    if (this.#queuedBytes <= MOST_QUEUED && this.#from.isPaused() && !this.#flow.isStalled())
      this.#from.resume();
  }

  #arrive(bytes: Buffer | undefined): void {
    if (this.#to.destroyed || !this.#flow.take(bytes)) return;
    // One after another: none overtakes another where the delay changes.
    this.#queue.push({ bytes, due: performance.now() + this.#flow.shape.latency });
    this.#queuedBytes += bytes?.length ?? 0;
    this.#run();
  }

  #isReady(): boolean {
    const [first] = this.#queue;
    const isWaiting = this.#timer !== undefined || this.#immediate !== undefined;
    if (first === undefined || this.#isFull || isWaiting || this.#flow.isStalled()) return false;
    const wait = this.#flow.shape.latency === 0 ? 0 : first.due - performance.now();
    if (wait > 0) this.#after(wait);
    return wait <= 0;
  }

  /** Hands one piece on. @returns whether the next may follow at once. */
  #handOn(): boolean {
    const { sliceBytes, bytesPerSecond } = this.#flow.shape;
    const first = this.#queue[0]!;
    if (first.bytes === undefined) {
      this.#queue.shift();
      this.#to.end();
      return false;
    }
    const inTime = Math.max(1, Math.floor((bytesPerSecond * THROTTLE_INTERVAL) / 1000));
    const size = Math.min(first.bytes.length, sliceBytes, inTime, this.#left);
    const piece = first.bytes.subarray(0, size);
    if (size === first.bytes.length) this.#queue.shift();
    else first.bytes = first.bytes.subarray(size);
    this.#queuedBytes -= size;
    this.#left -= size;
    const { onLimit } = this.#flow;
    if (this.#left === 0) this.#to.write(piece, () => onLimit());
    else this.#isFull = !this.#to.write(piece);
    if (bytesPerSecond !== Infinity) this.#after((size / bytesPerSecond) * 1000);
    else if (sliceBytes !== Infinity) this.#nextTurn();
    return this.#left > 0;
  }

  #stopWaiting(): void {
    clearTimeout(this.#timer);
    clearImmediate(this.#immediate);
    this.#timer = undefined;
    this.#immediate = undefined;
  }

  #after(wait: number): void {
    const later = (): void => {
      this.#timer = undefined;
      this.#run();
    };
    this.#timer = setTimeout(later, Math.min(wait, MAX_DELAY));
  }

  #nextTurn(): void {
    this.#immediate = setImmediate(() => {
      this.#immediate = undefined;
      this.#run();
    });
  }
}

/** libuv cannot reset a socket whose end is on its way, and Node then waits for that socket when it exits. */
function resetSocket(socket: Socket): void {
  if (socket.writableEnded && !socket.writableFinished) socket.destroy();
  else socket.resetAndDestroy();
}

function addressOf(target: ChaosTarget): Address {
  if (typeof target === 'number') {
    if (Number.isInteger(target) && target >= 1 && target <= 65_535)
      return { host: '127.0.0.1', port: target };
    throw new RangeError(`\`target\` must be a port from 1 to 65535, or a URL, got ${target}`);
  }
  const { protocol, hostname, port } = new URL(target);
  const usual = { 'http:': 80, 'ws:': 80, 'https:': 443, 'wss:': 443 }[protocol];
  if (hostname === '' || (port === '' && usual === undefined))
    throw new TypeError(`\`target\` must be a URL with a host and a port, got ${target}`);
  return { host: hostname.replace(/^\[|\]$/g, ''), port: Number(port || usual) };
}

function atLeast(least: number, name: string, value: number): number {
  if (value >= least) return value;
  throw new RangeError(`\`${name}\` must be a number ≥ ${least}, got ${value}`);
}
