// Reads as a bad client does: not at all, a few bytes at a time, or until it leaves in the middle.
// Stands alone: copy this file by itself.

import { once } from 'node:events';
import { connect } from 'node:net';
import type { Duplex, Readable } from 'node:stream';
import { StringDecoder } from 'node:string_decoder';
import { clearTimeout, setTimeout } from 'node:timers';
import { connect as connectTls } from 'node:tls';

export interface ReadingOptions {
  /** Milliseconds, by the real clock, that `until` waits; default 5,000. `Infinity`: no limit. */
  readonly timeout?: number | undefined;
}

/** Keeps the text that arrives from anything readable, and waits for more. */
export class Reading {
  text = '';
  /** Nothing more can come, however that came about. */
  ended = false;
  /** Resolves with all of the text once nothing more can come. */
  readonly over: Promise<string>;
  readonly #timeout: number;
  readonly #wakers: (() => void)[] = [];
  readonly #decoder = new StringDecoder('utf8');

  /** @throws {RangeError} naming the option that is out of range. */
  constructor(source: Readable, { timeout = 5000 }: ReadingOptions = {}) {
    if (!(timeout > 0)) throw new RangeError(`\`timeout\` must be a number above 0, got ${timeout}`);
    this.#timeout = timeout;
    source.on('data', (piece: Uint8Array | string) => this.take(piece));
    source.on('error', () => {});
    this.over = new Promise((resolve) => {
      const end = (): void => {
        this.ended = true;
        this.#wake();
        resolve(this.text);
      };
      source.on('end', end).on('close', end);
      if (source.readableEnded || source.closed) end();
    });
  }

  /**
   * Waits until a part has arrived, and resolves with all of the text so far. Rejects, saying what came, when
   * the source ends before, or after the timeout.
   */
  async until(part: string): Promise<string>;
  /** Waits until something holds. */
  async until(holds: (reading: this) => boolean): Promise<this>;
  async until(what: string | ((reading: this) => boolean)): Promise<string | this> {
    const holds = typeof what === 'string' ? () => this.text.includes(what) : () => what(this);
    let isLate = false;
    const timer =
      this.#timeout > MAX_TIMEOUT
        ? undefined
        : setTimeout(() => {
            isLate = true;
            this.#wake();
          }, this.#timeout);
    try {
      while (!holds()) {
        if (this.ended) throw this.#missing(what, 'before the end');
        if (isLate) throw this.#missing(what, `within ${this.#timeout} ms`);
        await new Promise<void>((resolve) => this.#wakers.push(resolve));
      }
    } finally {
      clearTimeout(timer);
    }
    return typeof what === 'string' ? this.text : this;
  }

  protected take(piece: Uint8Array | string): void {
    this.text += typeof piece === 'string' ? piece : this.#decoder.write(Buffer.from(piece));
    this.#wake();
  }

  #missing(what: unknown, when: string): Error {
    const wanted = typeof what === 'string' ? JSON.stringify(what) : String(what);
    return new Error(`${wanted} did not come ${when}, after ${JSON.stringify(this.text.slice(-500))}`);
  }

  #wake(): void {
    for (const resolve of this.#wakers.splice(0)) resolve();
  }
}

const MAX_TIMEOUT = 2 ** 31 - 1;

/** The members of a socket that are used: those of `net.Socket`, of TLS, and of a `MemorySocket`. */
export type RawSocket = Duplex & { resetAndDestroy?(): unknown };

export interface RawReaderOptions extends ReadingOptions {
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** A connection to send the request on, such as `server.connect()` of a `MemoryServer`. Default: a new one. */
  readonly socket?: RawSocket | undefined;
  /** Whether to begin without reading, as after `stall()`. Default false. */
  readonly stalled?: boolean | undefined;
}

/**
 * A client on a connection of its own. Its `text` is all that it has read, the head of the response and the
 * sizes of HTTP's chunks included.
 */
export class RawReader extends Reading {
  readonly socket: RawSocket;
  /** How many bytes it has read. */
  bytes = 0;
  #limit = Infinity;
  #dripping: ReturnType<typeof setInterval> | undefined;

  /** Sends a request for a stream, by HTTP/1.1, and reads at once unless it is `stalled`. */
  static async open(url: string | URL, options: RawReaderOptions = {}): Promise<RawReader> {
    const { headers = {}, socket = await dial(new URL(url)), stalled = false } = options;
    const reader = new RawReader(socket, options);
    if (stalled) reader.stall();
    const { host, pathname, search } = new URL(url);
    const all = { host, accept: 'text/event-stream', ...headers };
    const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
    socket.write(`GET ${pathname}${search} HTTP/1.1\r\n${lines.join('')}\r\n`);
    return reader;
  }

  /** Takes a connection on which the request has been sent, or will be. */
  constructor(socket: RawSocket, options: ReadingOptions = {}) {
    super(socket, options);
    this.socket = socket;
    socket.once('close', () => clearInterval(this.#dripping));
    // A connection that has ended on both sides closes.
    socket.once('end', () => socket.end());
  }

  /** Reads everything, as fast as it comes. */
  read(): void {
    clearInterval(this.#dripping);
    this.socket.resume();
  }

  /** Reads nothing more. What comes waits in the kernel until the server's writes wait as well. */
  stall(): void {
    clearInterval(this.#dripping);
    this.socket.pause();
  }

  /** Reads a few bytes now and then. The interval is one of the global timers, so a `FakeClock` drives it. */
  drip({ bytes, interval }: { readonly bytes: number; readonly interval: number }): void {
    if (!Number.isInteger(bytes) || bytes < 1)
      throw new RangeError(`\`bytes\` must be a whole number ≥ 1, got ${bytes}`);
    // A timer takes a longer one for 1 ms.
    if (!(interval > 0 && interval <= MAX_TIMEOUT))
      throw new RangeError(`\`interval\` must be a number above 0, up to ${MAX_TIMEOUT}, got ${interval}`);
    this.stall();
    this.#dripping = setInterval(() => {
      // The stream gives nothing where it has less than it is asked for.
      this.socket.read(Math.min(bytes, this.socket.readableLength));
    }, interval);
  }

  /** Cuts the connection after so many more bytes. What came with them and is beyond the limit is not read. */
  cutAfter(bytes: number): void {
    if (!Number.isInteger(bytes) || bytes < 0)
      throw new RangeError(`\`bytes\` must be a whole number ≥ 0, got ${bytes}`);
    this.#limit = this.bytes + bytes;
    if (bytes === 0) this.cut();
  }

  /** Ends its own half of the connection, and goes on as it did: also without reading. */
  halfClose(): void {
    this.socket.end();
  }

  /** Closes the connection. The kernel resets it where something was not read. */
  cut(): void {
    this.socket.destroy();
  }

  /** Resets the connection, as a crash does. */
  reset(): void {
    // libuv cannot reset a socket whose end is on its way, and Node then waits for that socket when it exits.
    const isEnding = this.socket.writableEnded && !this.socket.writableFinished;
    if (isEnding || this.socket.resetAndDestroy === undefined) this.socket.destroy();
    else this.socket.resetAndDestroy();
  }

  protected override take(piece: Uint8Array | string): void {
    const bytes = typeof piece === 'string' ? Buffer.from(piece) : piece;
    const read = bytes.subarray(0, this.#limit - this.bytes);
    this.bytes += read.length;
    if (read.length > 0) super.take(read);
    if (this.bytes >= this.#limit) this.cut();
  }
}

async function dial({ protocol, hostname, port }: URL): Promise<RawSocket> {
  const host = hostname.replace(/^\[|\]$/g, '');
  if (protocol === 'https:') {
    const socket = connectTls({ host, port: Number(port || 443), servername: host });
    await once(socket, 'secureConnect');
    return socket;
  }
  const socket = connect({ host, port: Number(port || 80) });
  await once(socket, 'connect');
  return socket;
}
