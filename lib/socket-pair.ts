// Two ends of a connection in memory, which behave towards each other as those of a TCP connection do.
// Stands alone: copy this file by itself.

import { Duplex, type DuplexOptions } from 'node:stream';
import { setImmediate } from 'node:timers';

export interface SocketPairOptions {
  /**
   * Bytes that each end takes before its writes wait for the other to read, about as many as the kernel would
   * buffer; default 64 KiB. The reader's own buffer takes as many again.
   */
  readonly capacity?: number | undefined;
}

/** A stream with the members of `net.Socket` that servers and clients of HTTP call, where there is no network. */
export class MemorySocket extends Duplex {
  readonly remoteAddress: string = '127.0.0.1';
  readonly remoteFamily: string = 'IPv4';
  remotePort = 0;
  readonly localAddress: string = '127.0.0.1';
  readonly localFamily: string = 'IPv4';
  localPort = 0;
  readonly connecting: boolean = false;
  readonly pending: boolean = false;
  bytesRead = 0;
  /** How many bytes have been handed over; what waits in this end is not among them. */
  bytesWritten = 0;
  /** Milliseconds of silence, as `setTimeout` was given them. */
  timeout: number | undefined;

  constructor(options: DuplexOptions = {}) {
    super(options);
  }

  get readyState(): 'open' | 'readOnly' | 'writeOnly' | 'closed' {
    if (this.readable) return this.writable ? 'open' : 'readOnly';
    return this.writable ? 'writeOnly' : 'closed';
  }

  address(): { readonly address: string; readonly family: string; readonly port: number } {
    return { address: this.localAddress, family: this.localFamily, port: this.localPort };
  }

  /** Notes the duration. An end of `socketPair` emits `'timeout'` after so many milliseconds of silence. */
  setTimeout(duration: number, callback?: () => void): this {
    this.timeout = duration;
    if (callback === undefined) return this;
    return duration > 0 ? this.once('timeout', callback) : this.off('timeout', callback);
  }

  setNoDelay(): this {
    return this;
  }

  setKeepAlive(): this {
    return this;
  }

  ref(): this {
    return this;
  }

  unref(): this {
    return this;
  }

  /** Ends, and closes when all was written. */
  destroySoon(): void {
    if (this.writable) this.end();
    if (this.writableFinished) this.destroy();
    else this.once('finish', () => this.destroy());
  }

  /** Closes as a crash does: what is under way is lost, and the other end gets `ECONNRESET`. */
  resetAndDestroy(): this {
    return this.destroy();
  }
}

/**
 * Makes a connection. What one end writes arrives at the other in a later turn of the event loop. An end that
 * does not read makes the writes of the other wait; one that is destroyed ends or resets the other, as the
 * kernel does. Either end may be half-closed. The first is that of a client.
 *
 * A server of `node:http` takes an end: `server.emit('connection', end)`.
 *
 * @throws {RangeError} when `capacity` is no whole number ≥ 1.
 */
export function socketPair(options: SocketPairOptions = {}): [MemorySocket, MemorySocket] {
  const { capacity = 64 * 1024 } = options;
  if (!Number.isInteger(capacity) || capacity < 1)
    throw new RangeError(`\`capacity\` must be a whole number of bytes ≥ 1, got ${capacity}`);
  const [one, other] = [new End(capacity), new End(capacity)];
  one.other = other;
  other.other = one;
  one.localPort = other.remotePort = FIRST_PORT + (made++ % (65_536 - FIRST_PORT));
  one.remotePort = other.localPort = 80;
  return [one, other];
}

// Where the ports begin that a client gets.
const FIRST_PORT = 49_152;
let made = 0;

class End extends MemorySocket {
  other!: End;
  readonly #capacity: number;
  /** What has arrived and the stream has not taken. `null`: the other end has ended. */
  readonly #inbox: (Buffer | null)[] = [];
  /** Bytes in the inbox and on their way to it. */
  #heldBytes = 0;
  #isWanting = false;
  /** Ends the write of the other end that waits for room. */
  #onRoom: ((error?: Error) => void) | undefined;
  #isReset = false;
  #silence: NodeJS.Timeout | undefined;

  constructor(capacity: number) {
    const highWaterMark = Math.min(capacity, 64 * 1024);
    super({
      allowHalfOpen: true,
      readableHighWaterMark: highWaterMark,
      writableHighWaterMark: highWaterMark,
    });
    this.#capacity = capacity;
  }

  /** The timer is one of the global ones, so a `FakeClock` drives it. `0`: none. */
  override setTimeout(duration: number, callback?: () => void): this {
    if (this.destroyed) return this;
    clearTimeout(this.#silence);
    this.#silence = duration > 0 ? setTimeout(() => this.emit('timeout'), duration).unref() : undefined;
    return super.setTimeout(duration, callback);
  }

  override resetAndDestroy(): this {
    this.#isReset = true;
    return this.destroy();
  }

  override _read(): void {
    this.#isWanting = true;
    this.#pull();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error) => void): void {
    const { other } = this;
    this.#silence?.refresh();
    if (other.destroyed) return done(lost('EPIPE'));
    this.bytesWritten += chunk.length;
    other.#heldBytes += chunk.length;
    setImmediate(() => {
      if (!this.#isReset) other.#arrive(chunk);
    });
    if (other.#heldBytes < other.#capacity) done();
    else other.#onRoom = done;
  }

  override _final(done: () => void): void {
    setImmediate(() => this.other.#arrive(null));
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    const { other } = this;
    // The kernel resets a connection that is closed while something was not read.
    const isReset = this.#isReset || this.#heldBytes > 0 || this.readableLength > 0;
    this.#inbox.length = 0;
    clearTimeout(this.#silence);
    setImmediate(() => {
      const onRoom = this.#onRoom;
      this.#onRoom = undefined;
      onRoom?.(lost('ECONNRESET'));
      if (other.destroyed) return;
      if (isReset) other.destroy(lost('ECONNRESET'));
      else if (!this.writableFinished) other.#arrive(null);
    });
    done(error);
  }

  #arrive(chunk: Buffer | null): void {
    if (this.destroyed) return;
    this.#inbox.push(chunk);
    this.#pull();
  }

  #pull(): void {
    while (this.#isWanting && this.#inbox.length > 0) {
      const chunk = this.#inbox.shift()!;
      this.#heldBytes -= chunk?.length ?? 0;
      this.bytesRead += chunk?.length ?? 0;
      this.#silence?.refresh();
      this.#isWanting = this.push(chunk) && chunk !== null;
    }
    if (this.#onRoom === undefined || this.#heldBytes >= this.#capacity) return;
    const onRoom = this.#onRoom;
    this.#onRoom = undefined;
    onRoom();
  }
}

function lost(code: string): Error {
  return Object.assign(new Error(`the other end of the connection is gone (${code})`), { code });
}
