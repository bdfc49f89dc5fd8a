// Writes bytes to one client for as long as it takes them, and says once, with the reason, when that is over.
// Stands alone: copy this file by itself.

import { channel } from 'node:diagnostics_channel';
import { EventEmitter } from 'node:events';

/**
 * Why writing ended.
 *
 * - `ended`: the application called `end()`.
 * - `client-gone`: the connection closed before that.
 * - `stalled`: a write was refused and nothing drained for `stallTimeout`.
 * - `slow-consumer`: more was written than `maxBufferedBytes` could hold, or a reader was overtaken.
 * - `lifetime`: `maxAge` was reached.
 * - `idle`: nothing was written for `idleTimeout`.
 * - `aborted`: the caller's `signal` fired.
 * - `shutdown`: the server is going away.
 * - `error`: what was to be written failed.
 */
export type CloseReason =
  | 'ended'
  | 'client-gone'
  | 'stalled'
  | 'slow-consumer'
  | 'lifetime'
  | 'idle'
  | 'aborted'
  | 'shutdown'
  | 'error';

/** What `signal.reason` is. Tell it apart by `code`, then by `reason`; `cause` is what lay behind it, if known. */
export interface ClosedError extends Error {
  readonly code: 'ERR_SSE_CLOSED';
  readonly reason: CloseReason;
}

/** The members of Node's `Writable` that are used. A `ServerResponse`, a socket and a `PassThrough` have them. */
export interface WriterTarget {
  readonly closed?: boolean | undefined;
  readonly destroyed?: boolean | undefined;
  /** An HTTP/2 response has it, and tells only through it that it is destroyed, or was cancelled. */
  readonly stream?: { readonly destroyed: boolean; readonly rstCode?: number | undefined } | undefined;
  readonly writableLength: number;
  write(chunk: Uint8Array): boolean;
  end(): unknown;
  destroy(): unknown;
  on(event: string, listener: () => void): unknown;
  off(event: string, listener: () => void): unknown;
}

export interface WriterOptions {
  /**
   * Most bytes that may wait for the client in this process; default 1 MiB. Writing on beyond it ends in
   * `slow-consumer`. While nothing waits, one chunk of any size is taken.
   */
  maxBufferedBytes?: number | undefined;
  /**
   * Milliseconds that a refused write may wait for a drain; default 60,000. `Infinity`: for ever. A slow
   * reader is no stalled one, but the kernel reports room in large steps: a reader at 10 KB/s may need tens
   * of seconds for one.
   */
  stallTimeout?: number | undefined;
  /** Milliseconds without a write, comments (chunks that begin with `:`) not counted; default `Infinity`. */
  idleTimeout?: number | undefined;
  /** Milliseconds after which the stream is ended, so that it is reopened elsewhere or afresh; default `Infinity`. */
  maxAge?: number | undefined;
  /** Part of `maxAge` by which it varies, either way, so that streams opened at once do not end at once; default 0.1. */
  maxAgeJitter?: number | undefined;
  /** Ends the stream when it fires. May be shared by any number of streams. */
  signal?: AbortSignal | undefined;
}

// What the shared timer below may do with a writer, and nobody else.
let sweep: (writer: Writer, now: number) => void;
let resolutionOf: (writer: Writer) => number;

/**
 * Backpressure, deadlines and the one true "gone" for anything that looks like a `Writable`.
 *
 * `write` answers as Node's does: `false` means taken, but wait for `'drain'` (or `await ready()`). Write
 * Buffers, never strings: `writableLength` counts a string's UTF-16 units, up to three times too few.
 *
 * Emits `'drain'`, and `'close'` with the reason, once.
 */
export class Writer extends EventEmitter {
  readonly #target: WriterTarget;
  readonly #maxBufferedBytes: number;
  readonly #signal: AbortSignal | undefined;
  readonly #deadlines: Deadlines;
  #ending: CloseReason | undefined;
  #reason: CloseReason | undefined;
  #cause: unknown;
  #bytesWritten = 0;
  #onFinish: (() => void) | undefined;
  #drained: { readonly source: Pick<WriterTarget, 'on' | 'off'>; readonly listener: () => void } | undefined;
  #controller: AbortController | undefined;
  #done: { promise: Promise<CloseReason>; resolve(reason: CloseReason): void } | undefined;

  /**
   * @throws {RangeError} naming the option that is out of its range.
   * @throws {TypeError} when `signal` is none.
   */
  constructor(target: WriterTarget, options: WriterOptions = {}) {
    super();
    // As many as like may wait in `ready`.
    this.setMaxListeners(0);
    this.#target = target;
    this.#maxBufferedBytes = inRange(
      'maxBufferedBytes',
      options.maxBufferedBytes ?? 1024 * 1024,
      1,
      Infinity,
    );
    this.#deadlines = new Deadlines(options);
    this.#signal = checkSignal(options.signal);
    target.on('error', ignore);
    target.on('close', this.#gone);
    if (target.closed || target.destroyed || target.stream?.destroyed) this.#settle('client-gone');
    else if (this.#deadlines.fromTheStart) watch(this);
    if (this.#signal !== undefined && !this.closed) follow(this.#signal, this);
  }

  /** True from the moment on which nothing more can be written. */
  get closed(): boolean {
    return this.#ending !== undefined || this.#reason !== undefined;
  }

  /** Why it is over; `undefined` until the last byte is handed over or dropped. */
  get reason(): CloseReason | undefined {
    return this.#reason;
  }

  /** What lay behind the reason, where there is such a thing: the error of a source, the reason of a signal. */
  get cause(): unknown {
    return this.#cause;
  }

  /** Every byte taken so far. */
  get bytesWritten(): number {
    return this.#bytesWritten;
  }

  /** Bytes that wait in this process for the client to take them. */
  get writableLength(): number {
    return this.#target.writableLength;
  }

  /** True between a write that answered `false` and the drain after it. */
  get writableNeedDrain(): boolean {
    return this.#drained !== undefined;
  }

  /** Aborts when it is over, with a `ClosedError`. Made on first use: it costs more than all the rest. */
  get signal(): AbortSignal {
    this.#controller ??= new AbortController();
    if (this.#reason !== undefined) this.#abortSignal(this.#reason);
    return this.#controller.signal;
  }

  /** Resolves with the reason when it is over, whatever the reason. Never rejects. */
  get done(): Promise<CloseReason> {
    this.#done ??= withResolver();
    if (this.#reason !== undefined) this.#done.resolve(this.#reason);
    return this.#done.promise;
  }

  /**
   * Hands bytes to the client. `false`: wait for `'drain'`; nothing is lost by writing on, until
   * `maxBufferedBytes`. After the end it does nothing and answers `false`.
   *
   * @throws {TypeError} for anything but bytes.
   */
  write(chunk: Uint8Array): boolean {
    if (this.closed) return false;
    if (!(chunk instanceof Uint8Array)) throw new TypeError(`\`chunk\` must be bytes, got ${typeof chunk}`);
    // Before the first refusal less than a high-water mark is waiting: only after it is there something to count.
    if (this.writableNeedDrain && this.writableLength + chunk.length > this.#maxBufferedBytes) {
      this.abort('slow-consumer');
      return false;
    }
    this.#bytesWritten += chunk.length;
    if (chunk[0] !== COLON) this.#deadlines.active = true;
    if (this.handOver(chunk)) return true;
    // It may have closed inside of that write: then nobody would take this wait away again.
    if (!this.writableNeedDrain && !this.closed) this.#awaitDrain();
    return false;
  }

  /**
   * Gives bytes to the target. A class that knows a shorter way to the same client overrides it, and `drains`.
   */
  protected handOver(chunk: Uint8Array): boolean {
    return this.#target.write(chunk);
  }

  /** Whose 'drain' follows the write that was refused last. */
  protected get drains(): Pick<WriterTarget, 'on' | 'off'> {
    return this.#target;
  }

  /**
   * Waits until writing makes sense. `true`: the client takes more; `false`: it is over.
   * @throws the reason of `signal`, when that fires first.
   */
  ready(options: { signal?: AbortSignal | undefined } = {}): Promise<boolean> {
    const { signal } = options;
    if (signal?.aborted) return Promise.reject(signal.reason);
    if (this.closed || !this.writableNeedDrain) return Promise.resolve(!this.closed);
    return new Promise((resolve, reject) => {
      // Drain never follows close, so this is a race, and whoever wins takes all the listeners away.
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
   * Ends once all that was written has been handed over. A client that will not take the rest is cut off
   * after `stallTimeout`, and the reason is then `stalled`.
   */
  end(reason: CloseReason = 'ended', cause?: unknown): void {
    if (this.closed) return;
    this.#ending = reason;
    this.#cause = cause;
    if (this.#deadlines.stallTimeout !== Infinity) watch(this);
    this.#onFinish = () => this.#finished();
    this.#target.on('finish', this.#onFinish);
    this.#target.end();
  }

  /** Cuts the connection now; what still waits for the client is dropped. */
  abort(reason: CloseReason = 'ended', cause?: unknown): void {
    if (this.#reason !== undefined) return;
    this.#cause ??= cause;
    this.#settle(reason);
    this.#target.destroy();
  }

  #sweep(now: number): void {
    const waiting = this.closed || this.writableNeedDrain;
    const due = this.#deadlines.due(now, this.closed, waiting, this.writableLength);
    if (due === 'stalled') this.abort(due);
    else if (due !== undefined) this.end(due);
  }

  static {
    sweep = (writer, now) => writer.#sweep(now);
    resolutionOf = (writer) => writer.#deadlines.resolution;
  }

  readonly #gone = (): void => this.#settle('client-gone');

  #finished(): void {
    // A cancelled HTTP/2 stream says that it has finished, too.
    const cancelled = Boolean(this.#target.stream?.rstCode);
    this.#settle(cancelled ? 'client-gone' : (this.#ending ?? 'ended'));
  }

  #awaitDrain(): void {
    const source = this.drains;
    const listener = () => {
      this.#forgetDrain();
      if (!this.closed) this.emit('drain');
    };
    source.on('drain', listener);
    this.#drained = { source, listener };
    if (this.#deadlines.stallTimeout !== Infinity) watch(this);
  }

  #forgetDrain(): void {
    this.#drained?.source.off('drain', this.#drained.listener);
    this.#drained = undefined;
    if (!this.#deadlines.fromTheStart && !this.closed) unwatch(this);
    this.#deadlines.drained();
  }

  #settle(reason: CloseReason): void {
    if (this.#reason !== undefined) return;
    this.#reason = reason;
    this.#forgetDrain();
    unwatch(this);
    if (this.#signal !== undefined) unfollow(this.#signal, this);
    // The 'error' listener stays: a late write of somebody else must not become an uncaught exception.
    this.#target.off('close', this.#gone);
    if (this.#onFinish !== undefined) this.#target.off('finish', this.#onFinish);
    this.#done?.resolve(reason);
    if (this.#controller !== undefined) this.#abortSignal(reason);
    if (closeChannel.hasSubscribers) closeChannel.publish({ stream: this, reason, cause: this.#cause });
    this.settled();
    this.emit('close', reason);
  }

  /** It is over, and `'close'` is about to be emitted: for a class that has something of its own to put away. */
  protected settled(): void {}

  #abortSignal(reason: CloseReason): void {
    if (!this.#controller?.signal.aborted) this.#controller?.abort(closedError(reason, this.#cause));
  }
}

/** On `node:diagnostics_channel`: `{ stream, reason, cause }` for every writer that is over. */
const closeChannel = channel('sluice:close');

const COLON = 0x3a;
const MAX_TIMEOUT = 2 ** 31 - 1;

const ignore = (): void => {};

/** One writer's deadlines, judged from what the sweep sees: no clock is read for a write. */
class Deadlines {
  readonly stallTimeout: number;
  readonly #idleTimeout: number;
  readonly #endsAt: number;
  /** Milliseconds between two sweeps that are of use to it; many writers share one timer. */
  readonly resolution: number;
  /** Set by each write that counts, cleared by each sweep. */
  active = false;
  #idleSince = clock();
  #stalledSince = 0;
  #waitingBytes = 0;

  constructor(options: WriterOptions) {
    const { stallTimeout = 60_000, idleTimeout = Infinity, maxAge = Infinity, maxAgeJitter = 0.1 } = options;
    this.stallTimeout = duration('stallTimeout', stallTimeout);
    this.#idleTimeout = duration('idleTimeout', idleTimeout);
    const spread = inRange('maxAgeJitter', maxAgeJitter, 0, 1) * (2 * Math.random() - 1);
    const age = duration('maxAge', maxAge) * (1 + spread);
    this.#endsAt = clock() + age;
    this.resolution = Math.min(1000, Math.max(10, Math.min(this.stallTimeout, this.#idleTimeout, age) / 8));
  }

  /** Whether there is something to look for even while the client takes all that it is given. */
  get fromTheStart(): boolean {
    return this.#idleTimeout !== Infinity || this.#endsAt !== Infinity;
  }

  drained(): void {
    this.#stalledSince = 0;
  }

  due(now: number, closed: boolean, waiting: boolean, waitingBytes: number): CloseReason | undefined {
    if (waiting && this.#isStalled(now, waitingBytes)) return 'stalled';
    if (closed) return undefined;
    if (now >= this.#endsAt) return 'lifetime';
    if (this.active) this.#idleSince = now;
    this.active = false;
    return now - this.#idleSince >= this.#idleTimeout ? 'idle' : undefined;
  }

  #isStalled(now: number, waitingBytes: number): boolean {
    const moved = waitingBytes < this.#waitingBytes;
    this.#waitingBytes = waitingBytes;
    if (moved || this.#stalledSince === 0) this.#stalledSince = now;
    return now - this.#stalledSince >= this.stallTimeout;
  }
}

/** Whole milliseconds since this module was loaded, from 1: small enough to be stored without allocation. */
function clock(): number {
  return Math.floor(performance.now() - loadedAt) + 1;
}

const loadedAt = performance.now();

// One timer for all writers, there only while one of them has a deadline, and never what keeps a process alive.

const watched = new Set<Writer>();
let timer: NodeJS.Timeout | undefined;
let interval = Infinity;

function watch(writer: Writer): void {
  watched.add(writer);
  const wanted = resolutionOf(writer);
  if (wanted < interval) startTimer(wanted);
}

function unwatch(writer: Writer): void {
  if (watched.delete(writer) && watched.size === 0) stopTimer();
}

function startTimer(every: number): void {
  stopTimer();
  interval = every;
  timer = setInterval(sweepAll, every).unref();
}

function stopTimer(): void {
  clearInterval(timer);
  interval = Infinity;
}

function sweepAll(): void {
  const now = clock();
  let finest = Infinity;
  for (const writer of watched) {
    sweep(writer, now);
    finest = Math.min(finest, resolutionOf(writer));
  }
  // The one with the shortest deadline may have gone: the rest need not be looked at so often.
  if (watched.size > 0 && finest > interval) startTimer(finest);
}

// One listener per signal, however many writers it ends.

interface Following {
  readonly writers: Set<Writer>;
  readonly onAbort: () => void;
}

const followers = new WeakMap<AbortSignal, Following>();

function follow(signal: AbortSignal, writer: Writer): void {
  // A microtask later, because a class that extends this one is not ready to end inside its constructor.
  if (signal.aborted) return queueMicrotask(() => writer.end('aborted', signal.reason));
  const following = followers.get(signal) ?? startFollowing(signal);
  following.writers.add(writer);
}

function startFollowing(signal: AbortSignal): Following {
  const writers = new Set<Writer>();
  const onAbort = () => {
    for (const writer of writers) writer.end('aborted', signal.reason);
  };
  const following = { writers, onAbort };
  followers.set(signal, following);
  signal.addEventListener('abort', onAbort);
  return following;
}

function unfollow(signal: AbortSignal, writer: Writer): void {
  const following = followers.get(signal);
  if (!following?.writers.delete(writer) || following.writers.size > 0) return;
  signal.removeEventListener('abort', following.onAbort);
  followers.delete(signal);
}

function closedError(reason: CloseReason, cause: unknown): ClosedError {
  const error = new Error(`the stream is closed: ${reason}`, { cause });
  error.name = 'AbortError';
  return Object.assign(error, { code: 'ERR_SSE_CLOSED' as const, reason });
}

function withResolver(): { promise: Promise<CloseReason>; resolve(reason: CloseReason): void } {
  let resolve!: (reason: CloseReason) => void;
  const promise = new Promise<CloseReason>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
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
