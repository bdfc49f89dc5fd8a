// Writes bytes to one client, with backpressure and deadlines, and reports once why writing has ended.
// Stands alone: copy this file by itself.

import { channel } from 'node:diagnostics_channel';
import { EventEmitter } from 'node:events';

/**
 * Why writing ended.
 *
 * - `ended`: the application called `end()`.
 * - `client-gone`: the connection closed before the end.
 * - `answered`: other code ended the response, as a framework does that does not wait for `stream.done`.
 * - `stalled`: a write was refused and no byte drained for `stallTimeout`.
 * - `slow-consumer`: more than `maxBufferedBytes` had to wait, or a reader fell too far behind.
 * - `lifetime`: `maxAge` was reached.
 * - `idle`: nothing but comments was written for `idleTimeout`.
 * - `aborted`: the caller's `signal` fired.
 * - `shutdown`: the server is stopping.
 * - `error`: the source of the bytes failed.
 */
export type CloseReason =
  | 'ended'
  | 'client-gone'
  | 'answered'
  | 'stalled'
  | 'slow-consumer'
  | 'lifetime'
  | 'idle'
  | 'aborted'
  | 'shutdown'
  | 'error';

/**
 * The reason of `writer.signal`. Recognise it by `code`; `cause` is the underlying error or signal reason, if
 * any.
 */
export interface ClosedError extends Error {
  readonly code: 'ERR_SSE_CLOSED';
  readonly reason: CloseReason;
}

/** The events of a writer: typed arguments for its listeners. */
export interface WriterEvents {
  drain: [];
  close: [reason: CloseReason];
}

/**
 * The members of Node's `Writable` that are used. A `ServerResponse`, a socket and a `PassThrough` have them.
 */
export interface WriterTarget {
  readonly closed?: boolean | undefined;
  readonly destroyed?: boolean | undefined;
  /**
   * Present on an HTTP/2 response only, where it alone shows that the response was destroyed or cancelled,
   * and can be cut in a way that the client notices.
   */
  readonly stream?:
    | {
        readonly destroyed: boolean;
        readonly rstCode?: number | undefined;
        close?(code: number): unknown;
      }
    | undefined;
  readonly writableLength: number;
  write(chunk: Uint8Array): boolean;
  end(): unknown;
  destroy(): unknown;
  on(event: string, listener: () => void): unknown;
  off(event: string, listener: () => void): unknown;
}

export interface WriterOptions {
  /**
   * Most bytes that may wait for the client in this process; default 1 MiB. Each write that waits counts 320
   * bytes more, which Node holds beside its own. A write beyond the limit cuts the connection as
   * `slow-consumer`. While nothing waits, one chunk of any size is accepted.
   */
  maxBufferedBytes?: number | undefined;
  /**
   * Milliseconds that a refused write may wait for a drain; default 60,000. `Infinity`: no limit. Progress
   * resets the wait, but the kernel reports progress in large steps: a reader at 10 KB/s may need tens of
   * seconds for one.
   */
  stallTimeout?: number | undefined;
  /** Milliseconds without a write after which the stream ends; default `Infinity`. Comments do not count. */
  idleTimeout?: number | undefined;
  /** Milliseconds after which the stream ends, so that clients reconnect now and then; default `Infinity`. */
  maxAge?: number | undefined;
  /**
   * Fraction by which `maxAge` varies, up or down, so that streams opened together do not end together;
   * default 0.1.
   */
  maxAgeJitter?: number | undefined;
  /** Ends the stream when it fires. Any number of streams may share one signal. */
  signal?: AbortSignal | undefined;
}

// Assigned in the class, so that the shared timer below can call a private method.
let sweep: (writer: Writer, now: number) => number;

/**
 * Adds backpressure, deadlines and one reliable `'close'` to anything that looks like a `Writable`.
 *
 * `write` returns what Node's returns: `false` means accepted, but wait for `'drain'` (or `await ready()`).
 * It takes bytes and no strings, because `writableLength` counts a string's UTF-16 units: up to three times
 * too few.
 *
 * Emits `'drain'`, and once `'close'` with the reason.
 */
export class Writer extends EventEmitter<WriterEvents> {
  readonly #target: WriterTarget;
  readonly #maxBufferedBytes: number;
  readonly #signal: AbortSignal | undefined;
  readonly #deadlines: Deadlines;
  #ending: CloseReason | undefined;
  #reason: CloseReason | undefined;
  #cause: unknown;
  #bytesWritten = 0;
  /** How many of these were comments, which do not count against `idleTimeout`. */
  #commentBytes = 0;
  /**
   * Whether a write needs no preparation: nothing has ended, and the target has not refused the last write. One field,
   * because a fan-out asks for each client, and what changes it is rare.
   */
  #isSteady = false;
  #onFinish: (() => void) | undefined;
  #drained: Waits | undefined;
  #controller: AbortController | undefined;
  #done: { promise: Promise<CloseReason>; resolve(reason: CloseReason): void } | undefined;

  /**
   * @throws {RangeError} naming the option that is out of its range.
   * @throws {TypeError} when `signal` is not an AbortSignal.
   */
  constructor(target: WriterTarget, options: WriterOptions = {}) {
    super();
    // No listener limit: each pending `ready()` adds two.
    this.setMaxListeners(0);
    this.#target = target;
    this.#maxBufferedBytes = bufferBound(options);
    this.#deadlines = new Deadlines(options);
    this.#signal = checkSignal(options.signal);
    // Never removed: if other code writes after the end, its error must not become an uncaught exception.
    target.on('error', ignore);
    target.on('close', this.#gone);
    if (target.closed || target.destroyed || target.stream?.destroyed) this.#settle('client-gone');
    else if (this.#deadlines.needsSweepsAlways) watch(this, this.#deadlines.resolution);
    if (this.#signal !== undefined && !this.closed) follow(this.#signal, this);
  }

  /** True once nothing more can be written: after `end` or `abort`, or once the client has left. */
  get closed(): boolean {
    return this.#ending !== undefined || this.#reason !== undefined;
  }

  /** Why writing ended; `undefined` until the last byte has been handed over or dropped. */
  get reason(): CloseReason | undefined {
    return this.#reason;
  }

  /**
   * The error of the source, or the reason of the signal, that ended writing; `undefined` where neither did.
   */
  get cause(): unknown {
    return this.#cause;
  }

  /** How many bytes have been accepted so far. */
  get bytesWritten(): number {
    return this.#bytesWritten;
  }

  /** How many bytes wait for the client in this process. */
  get writableLength(): number {
    return this.#target.writableLength;
  }

  /** True between a write that returned `false` and the next `'drain'`. */
  get writableNeedDrain(): boolean {
    return this.#drained !== undefined;
  }

  /**
   * Aborts at `'close'`, with a {@link ClosedError}. Made on first use, because it costs more than the rest
   * of a writer.
   */
  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#reason !== undefined) this.#abortSignal(this.#reason);
    }
    return this.#controller.signal;
  }

  /** Resolves at `'close'` with the reason. Never rejects, not even for the reason `error`. */
  get done(): Promise<CloseReason> {
    this.#done ??= withResolver();
    if (this.#reason !== undefined) this.#done.resolve(this.#reason);
    return this.#done.promise;
  }

  /**
   * Writes bytes. `false`: accepted, but wait for `'drain'`; writing on loses nothing until
   * `maxBufferedBytes` is reached. After the end it does nothing and returns `false`.
   *
   * @throws {TypeError} for anything but bytes.
   */
  write(chunk: Uint8Array): boolean {
    return this.accept(chunk);
  }

  /**
   * Counts bytes against all limits and transmits them. A subclass that has another form of the same bytes
   * passes it as `form`; `transmit` gets it.
   */
  protected accept(bytes: Uint8Array, form?: object): boolean {
    if (!this.#isSteady && !this.#makeReady(bytes)) return false;
    if (!(bytes instanceof Uint8Array)) throw notBytes(bytes);
    this.#bytesWritten += bytes.length;
    if (isComment(bytes)) this.#commentBytes += bytes.length;
    if (this.transmit(bytes, form)) return true;
    // After a close inside that write no drain would follow, and nothing would remove the listener.
    if (!this.writableNeedDrain && !this.closed) this.#awaitDrain();
    return false;
  }

  /** @returns whether the bytes may be transmitted: not after the end, nor beyond what may wait. */
  #makeReady(bytes: Uint8Array): boolean {
    if (this.closed) return false;
    if (!(bytes instanceof Uint8Array)) throw notBytes(bytes);
    this.prepare();
    if (this.closed) return false;
    // Until the first refusal less than a high-water mark waits, so there is nothing to compare.
    if (this.#drained === undefined) this.#isSteady = true;
    else if (this.#heldWith(bytes.length, this.#drained) > this.#maxBufferedBytes) {
      this.abort('slow-consumer');
      return false;
    }
    return true;
  }

  /** Called before bytes are transmitted, so that a subclass can send what has to come first. */
  protected prepare(): void {}

  /** Makes the next write call `prepare` again. */
  protected needsPreparation(): void {
    this.#isSteady = false;
  }

  /** How many bytes the process would hold with one more write. */
  #heldWith(added: number, waits: Waits): number {
    waits.writes++;
    waits.bytes += added;
    // Only bytes can be asked for: what waits of them was written in writes of average size.
    const bytes = this.writableLength + added;
    return bytes + WRITE_OVERHEAD * bytes * (waits.writes / waits.bytes);
  }

  /**
   * Gives bytes to the target. A subclass that has a shorter way to the same client overrides it and
   * `drainSource`.
   */
  protected transmit(bytes: Uint8Array, _form?: object): boolean {
    return this.#target.write(bytes);
  }

  /** The emitter of the `'drain'` that follows the last refused write. */
  protected get drainSource(): Pick<WriterTarget, 'on' | 'off'> {
    return this.#target;
  }

  /**
   * Waits until the client takes more (`true`) or writing has ended (`false`).
   * @throws the reason of `signal`, when that fires first.
   */
  ready(options: { signal?: AbortSignal | undefined } = {}): Promise<boolean> {
    const { signal } = options;
    if (signal?.aborted) return Promise.reject(signal.reason);
    if (this.closed || !this.writableNeedDrain) return Promise.resolve(!this.closed);
    return new Promise((resolve, reject) => {
      // No drain follows a close, so this waits for either. The first event removes all three listeners.
      const settle = () => {
        this.off('drain', settle).off('close', settle);
        signal?.removeEventListener('abort', settle);
        if (signal?.aborted) reject(signal.reason);
        else resolve(!this.closed);
      };
      this.on('drain', settle).on('close', settle);
      signal?.addEventListener('abort', settle);
    });
  }

  /**
   * Ends the target once everything written has been handed over. A client that does not take the rest is cut
   * off after `stallTimeout`; the reason is then `stalled`.
   */
  end(reason: CloseReason = 'ended', cause?: unknown): void {
    if (this.closed) return;
    this.#isSteady = false;
    this.#ending = reason;
    this.#cause = cause;
    if (this.#deadlines.stallTimeout !== Infinity) watch(this, this.#deadlines.resolution);
    this.#onFinish = () => this.#finished();
    this.#target.on('finish', this.#onFinish);
    this.#target.end();
  }

  /** Cuts the connection now and drops what still waits for the client. */
  abort(reason: CloseReason = 'ended', cause?: unknown): void {
    if (this.#reason !== undefined) return;
    this.#cause ??= cause;
    this.#settle(reason);
    // Without a code Node sends NO_ERROR, which a client takes for the proper end of the response.
    this.#target.stream?.close?.(HTTP2_CANCEL);
    this.#target.destroy();
  }

  /** @returns how often this writer needs a sweep, in milliseconds. */
  #sweep(now: number): number {
    const waiting = this.closed || this.writableNeedDrain;
    const active = this.#bytesWritten - this.#commentBytes;
    const due = this.#deadlines.due(now, waiting, this.writableLength, active);
    if (due === 'stalled') this.abort(due);
    else if (due !== undefined) this.end(due); // does nothing where it has ended
    return this.#deadlines.resolution;
  }

  static {
    sweep = (writer, now) => writer.#sweep(now);
  }

  // A bound function takes 48 bytes, a closure and its context twice that.
  readonly #gone = this.#left.bind(this);

  #left(): void {
    this.#settle(this.goneReason);
  }

  /** Why the target has closed although nothing here has ended it. */
  protected get goneReason(): CloseReason {
    return 'client-gone';
  }

  #finished(): void {
    // A cancelled HTTP/2 stream also emits 'finish'.
    const cancelled = Boolean(this.#target.stream?.rstCode);
    this.#settle(cancelled ? 'client-gone' : (this.#ending ?? 'ended'));
  }

  #awaitDrain(): void {
    this.#isSteady = false;
    const source = this.drainSource;
    const listener = () => {
      this.#forgetDrain();
      if (!this.closed) this.emit('drain');
    };
    source.on('drain', listener);
    this.#drained = { source, listener, writes: 1, bytes: Math.max(1, this.writableLength) };
    if (this.#deadlines.stallTimeout !== Infinity) watch(this, this.#deadlines.resolution);
  }

  #forgetDrain(): void {
    this.#drained?.source.off('drain', this.#drained.listener);
    this.#drained = undefined;
    if (!this.#deadlines.needsSweepsAlways && !this.closed) unwatch(this);
    this.#deadlines.stalledSince = 0;
  }

  #settle(reason: CloseReason): void {
    if (this.#reason !== undefined) return;
    this.#isSteady = false;
    this.#reason = reason;
    this.#forgetDrain();
    unwatch(this);
    if (this.#signal !== undefined) unfollow(this.#signal, this);
    this.#target.off('close', this.#gone);
    if (this.#onFinish !== undefined) this.#target.off('finish', this.#onFinish);
    this.#done?.resolve(reason);
    this.#abortSignal(reason);
    if (closeChannel.hasSubscribers) closeChannel.publish({ stream: this, reason, cause: this.#cause });
    this.onClose();
    this.emit('close', reason);
  }

  /** Called just before `'close'`, so that a subclass can release what it holds. */
  protected onClose(): void {}

  #abortSignal(reason: CloseReason): void {
    this.#controller?.abort(closedError(reason, this.#cause));
  }
}

/** On `node:diagnostics_channel`: `{ stream, reason, cause }` for every writer at its `'close'`. */
const closeChannel = channel('sluice.stream.close');

/** What is known between a refused write and its drain. */
interface Waits {
  readonly source: Pick<WriterTarget, 'on' | 'off'>;
  readonly listener: () => void;
  /** The bytes that waited after the refusal, as one write, and all that were written since. */
  writes: number;
  bytes: number;
}

/**
 * Bytes that Node holds beside those of a write that waits: the Buffer and its entries in the queues. For
 * small events of HTTP/1, 330 were measured, of HTTP/2, 160.
 */
const WRITE_OVERHEAD = 320;

const COLON = 0x3a;
const LF = 0x0a;
/** `NGHTTP2_CANCEL`. With `NGHTTP2_INTERNAL_ERROR` Node also emits an error here that nobody expects. */
const HTTP2_CANCEL = 8;
const MAX_TIMEOUT = 2 ** 31 - 1;

const ignore = (): void => {};

/** One writer's deadlines. Only the sweep checks them, so that a write reads no clock. */
class Deadlines {
  readonly stallTimeout: number;
  readonly #idleTimeout: number;
  readonly #endsAt: number;
  /** Milliseconds between two sweeps: short enough to meet these deadlines within an eighth. */
  readonly resolution: number;
  /** The bytes that are no comments, at the last sweep. */
  #activeBytes = 0;
  #idleSince = clock();
  /** 0 while no write waits. */
  stalledSince = 0;
  #waitingBytes = 0;

  constructor(options: WriterOptions) {
    const { stallTimeout = 60_000, idleTimeout = Infinity, maxAge = Infinity, maxAgeJitter = 0.1 } = options;
    this.stallTimeout = duration('stallTimeout', stallTimeout);
    this.#idleTimeout = duration('idleTimeout', idleTimeout);
    const spread = inRange('maxAgeJitter', maxAgeJitter, 0, 1) * (2 * Math.random() - 1);
    const age = duration('maxAge', maxAge) === Infinity ? Infinity : maxAge * (1 + spread);
    this.#endsAt = clock() + age;
    this.resolution = Math.min(1000, Math.max(10, Math.min(this.stallTimeout, this.#idleTimeout, age) / 8));
  }

  /** Whether sweeps are needed even while no write waits. */
  get needsSweepsAlways(): boolean {
    return this.#idleTimeout !== Infinity || this.#endsAt !== Infinity;
  }

  due(now: number, waiting: boolean, waitingBytes: number, activeBytes: number): CloseReason | undefined {
    if (waiting && this.#isStalled(now, waitingBytes)) return 'stalled';
    if (now >= this.#endsAt) return 'lifetime';
    if (activeBytes !== this.#activeBytes) this.#idleSince = now;
    this.#activeBytes = activeBytes;
    return now - this.#idleSince >= this.#idleTimeout ? 'idle' : undefined;
  }

  #isStalled(now: number, waitingBytes: number): boolean {
    const moved = waitingBytes < this.#waitingBytes;
    this.#waitingBytes = waitingBytes;
    if (moved || this.stalledSince === 0) this.stalledSince = now;
    return now - this.stalledSince >= this.stallTimeout;
  }
}

/** Whole milliseconds since this module was loaded, from 1: V8 stores small integers without allocation. */
function clock(): number {
  return Math.floor(performance.now() - loadedAt) + 1;
}

const loadedAt = performance.now();

// One timer for all writers. It runs only while a writer has a deadline, and does not keep the process alive.

const watched = new Set<Writer>();
let timer: NodeJS.Timeout | undefined;
let interval = Infinity;
/** What has set it. A test may have replaced the function since, and the timer then follows another clock. */
let setter: typeof setInterval | undefined;

function watch(writer: Writer, resolution: number): void {
  watched.add(writer);
  if (resolution < interval || setter !== setInterval) startTimer(Math.min(resolution, interval));
}

function unwatch(writer: Writer): void {
  if (watched.delete(writer) && watched.size === 0) stopTimer();
}

function startTimer(every: number): void {
  stopTimer();
  interval = every;
  setter = setInterval;
  timer = setInterval(sweepAll, every).unref();
}

function stopTimer(): void {
  clearInterval(timer);
  interval = Infinity;
}

function sweepAll(): void {
  const now = clock();
  let finest = Infinity;
  for (const writer of watched) finest = Math.min(finest, sweep(writer, now));
  // The writer with the shortest deadline may have gone, and the rest need fewer sweeps.
  if (watched.size > 0 && finest > interval) startTimer(finest);
}

// One listener per signal, however many writers follow it: Node warns at the eleventh.

const followers = new WeakMap<AbortSignal, Set<Writer>>();

function follow(signal: AbortSignal, writer: Writer): void {
  // A microtask later, because this runs in the constructor, before the fields of a subclass exist.
  if (signal.aborted) return queueMicrotask(() => writer.end('aborted', signal.reason));
  let writers = followers.get(signal);
  if (writers === undefined) {
    writers = new Set();
    followers.set(signal, writers);
    signal.addEventListener('abort', endFollowers);
  }
  writers.add(writer);
}

function endFollowers(this: AbortSignal): void {
  for (const writer of followers.get(this) ?? []) writer.end('aborted', this.reason);
}

function unfollow(signal: AbortSignal, writer: Writer): void {
  const writers = followers.get(signal);
  if (!writers?.delete(writer) || writers.size > 0) return;
  signal.removeEventListener('abort', endFollowers);
  followers.delete(signal);
}

/** Whether all lines are comments; or the first is an empty one, as before the position that a heartbeat sends. */
function isComment(bytes: Uint8Array): boolean {
  let at = 0;
  do {
    if (bytes[at] !== COLON && bytes[at] !== LF) return at === bytes.length;
    at = bytes.indexOf(LF, at) + 1;
  } while (at > 0 && bytes[1] !== LF);
  return true;
}

function notBytes(value: unknown): TypeError {
  return new TypeError(`\`chunk\` must be bytes, got ${typeof value}`);
}

function closedError(reason: CloseReason, cause: unknown): ClosedError {
  const error = new Error(`the stream is closed: ${reason}`, { cause });
  return Object.assign(error, { name: 'AbortError', code: 'ERR_SSE_CLOSED' as const, reason });
}

function withResolver(): { promise: Promise<CloseReason>; resolve(reason: CloseReason): void } {
  let resolve!: (reason: CloseReason) => void;
  const promise = new Promise<CloseReason>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}

/** Throws what a `Writer` would throw for these options. */
export function checkWriterOptions(options: WriterOptions): void {
  bufferBound(options);
  new Deadlines(options);
  checkSignal(options.signal);
}

function bufferBound({ maxBufferedBytes = 1024 * 1024 }: WriterOptions): number {
  return inRange('maxBufferedBytes', maxBufferedBytes, 1, Infinity);
}

function duration(name: string, value: number): number {
  return value === Infinity ? value : inRange(name, value, 0, MAX_TIMEOUT);
}

function inRange(name: string, value: number, least: number, most: number): number {
  if (typeof value === 'number' && value >= least && value <= most) return value;
  throw new RangeError(`\`${name}\` must be a number from ${least} to ${most}, got ${value}`);
}

function checkSignal(signal: AbortSignal | undefined): AbortSignal | undefined {
  if (signal === undefined || typeof signal?.aborted === 'boolean') return signal;
  throw new TypeError(`\`signal\` must be an AbortSignal, got ${typeof signal}`);
}
