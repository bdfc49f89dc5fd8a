// Opens a Server-Sent Events response on a Node request, and knows when and why it is over.
// Needs `encode.ts`, `gzip.ts` and `writer.ts` beside it.

import { channel } from 'node:diagnostics_channel';
import { ServerResponse, validateHeaderName, validateHeaderValue } from 'node:http';
import { Socket } from 'node:net';
import { encode, type ServerSentEvent } from './encode.ts';
import { acceptsGzip, compress, type GzipPiece, GzipStream } from './gzip.ts';
import { type CloseReason, Writer, type WriterOptions, type WriterTarget } from './writer.ts';

/** The members of a request that are used: Node's `IncomingMessage` and HTTP/2's compatible request have them. */
export interface StreamRequest {
  readonly method?: string | undefined;
  readonly httpVersionMajor?: number | undefined;
  readonly complete?: boolean | undefined;
  readonly readableFlowing?: boolean | null | undefined;
  readonly socket?: StreamSocket | null | undefined;
  readonly headers?: Readonly<Record<string, string | readonly string[] | undefined>> | undefined;
  resume?(): unknown;
}

export interface StreamSocket {
  readonly destroyed?: boolean | undefined;
  readonly writable?: boolean | undefined;
  readonly writableLength?: number | undefined;
  write?(chunk: Uint8Array): boolean;
  setKeepAlive?(enable: boolean, initialDelay: number): unknown;
  setNoDelay?(noDelay: boolean): unknown;
  setTimeout?(timeout: number): unknown;
  destroy(): unknown;
  on(event: string, listener: () => void): unknown;
  off(event: string, listener: () => void): unknown;
}

/** The members of a response that are used: Node's `ServerResponse` and HTTP/2's compatible response have them. */
export interface StreamResponse extends WriterTarget {
  readonly headersSent: boolean;
  statusCode: number;
  /** These four tell, where they are there, whether a chunk may go straight to the socket. */
  readonly socket?: unknown;
  readonly chunkedEncoding?: boolean | undefined;
  readonly writableCorked?: number | undefined;
  readonly writableEnded?: boolean | undefined;
  /** Node's, where the head is kept as it was sent. */
  readonly _header?: unknown;
  hasHeader(name: string): boolean;
  getHeader(name: string): unknown;
  setHeader(name: string, value: string): unknown;
  removeHeader(name: string): unknown;
  flushHeaders?(): unknown;
}

export interface StreamOptions extends WriterOptions {
  /** More response headers. They win over those that are set on the response already. */
  headers?: Readonly<Record<string, string>> | undefined;
  /**
   * Milliseconds before the kernel probes a silent connection, at least 1,000; default 10,000. Keep it below the
   * heartbeat.
   */
  keepAliveDelay?: number | undefined;
  /**
   * Compress for a client that accepts gzip; default false. What a hub sends to many is compressed once for all.
   * Leave it off where a page's secrets and what a stranger may publish would share an event (BREACH).
   */
  gzip?: boolean | undefined;
}

/** What `pipe` takes: generators, arrays, a `Readable` of strings or events, a `ReadableStream` of them. */
export type PipeSource = AsyncIterable<ServerSentEvent | string> | Iterable<ServerSentEvent | string>;

export interface PipeOptions {
  /**
   * The last event after the source's end; default `sluice:end` with data `{}`. Without one a reader cannot
   * tell a finished stream from a broken one. `null`: none, for a source that brings its own.
   */
  end?: ServerSentEvent | null | undefined;
  /** The last event when the source fails; by default `sluice:error`, whose data does not tell why. */
  error?: ((error: unknown) => ServerSentEvent | null) | undefined;
}

/**
 * Answers a request with an event stream. Nothing is sent before the first write or `open()`: until then
 * a refusal can still be an ordinary response.
 *
 * Everything that was set on the response itself is kept (Fastify and Hono keep theirs elsewhere until they send). `HEAD` gets the headers and an end; a client that
 * is gone already gets a stream that was over from the start. One HTTP/1 connection carries one stream: a
 * second request for one, pipelined behind the first, destroys the connection.
 *
 * In a framework `await stream.done`, so that it takes the request for unfinished until it is.
 *
 * @throws {Error} code `ERR_SSE_HEAD_SENT` when the response has begun already.
 * @throws {RangeError} naming the option that is out of its range.
 * @throws {TypeError} naming the header that cannot be sent.
 */
export function openStream(
  req: StreamRequest,
  res: StreamResponse,
  options: StreamOptions = {},
): EventStream {
  if (res.headersSent) throw headSent();
  check(options);
  const stream = new EventStream(req, res, options);
  if (req.method === 'HEAD') stream.end();
  return stream;
}

const MAX_DELAY = 2 ** 31 - 1;

// At once, and not in the middle of a deadline that ends a stream and so sends its head.
function check({ headers, keepAliveDelay = 10_000 }: StreamOptions): void {
  for (const name in headers) {
    validateHeaderName(name);
    validateHeaderValue(name, headers[name]!);
  }
  if (typeof keepAliveDelay === 'number' && keepAliveDelay >= 1000 && keepAliveDelay <= MAX_DELAY) return;
  throw new RangeError(
    `\`keepAliveDelay\` must be a number from 1000 to ${MAX_DELAY}, got ${keepAliveDelay}`,
  );
}

// The sockets that carry a stream now.
const streaming = new WeakMap<StreamSocket, EventStream>();

// One function for all sockets: one for each would cost a connection 300 bytes.
function gone(this: StreamSocket): void {
  streaming.get(this)?.abort('client-gone');
}

/** Whether a connection carries a stream: then nothing else that is asked on it can be answered. */
export function isStreaming(socket: StreamSocket): boolean {
  return streaming.has(socket);
}

let flush: (stream: EventStream) => void;

/** One client's stream of events. Made by `openStream`. */
export class EventStream extends Writer {
  readonly #req: StreamRequest;
  readonly #res: StreamResponse;
  readonly #socket: StreamSocket | undefined;
  readonly #options: StreamOptions;
  #opened = false;
  #via: 'response' | 'socket' | undefined;
  #gzip: GzipStream | undefined;
  /** What a source has yielded in this turn. */
  #gathered = '';

  constructor(req: StreamRequest, res: StreamResponse, options: StreamOptions) {
    super(res, options);
    this.#req = req;
    this.#res = res;
    this.#options = options;
    // From the start: `res.socket` becomes null. HTTP/2 shares its socket, and tells through the response alone.
    this.#socket = (req.httpVersionMajor ?? 1) < 2 ? (req.socket ?? undefined) : undefined;
    if (this.#socket !== undefined) this.#claim(this.#socket);
  }

  /**
   * How the last bytes went: through `res.write`, or, for what a hub sends to many and where that is the same but for
   * its cost, as a finished chunk straight to the socket. `undefined` before the first, which takes the head along.
   */
  get via(): 'response' | 'socket' | undefined {
    return this.#via;
  }

  /** Whether what is sent is compressed. Decided with the head. */
  get isCompressed(): boolean {
    return this.#gzip !== undefined;
  }

  /** Sends the head now; otherwise the first write does. Does nothing the second time. */
  open(): void {
    if (this.closed || this.#opened) return;
    this.#prepare();
    this.#res.flushHeaders?.();
  }

  /**
   * Answers with a bare status in the stream's place, while nothing was sent: 204 tells a browser's EventSource
   * to stay away.
   * @throws {Error} code `ERR_SSE_HEAD_SENT` when the stream has begun.
   * @throws {RangeError} when `status` is none.
   */
  refuse(status: number): void {
    if (this.closed) return;
    if (!(Number.isInteger(status) && status >= 200 && status <= 599)) {
      throw new RangeError(`\`status\` must be a whole number from 200 to 599, got ${status}`);
    }
    if (this.#opened) throw headSent();
    this.#opened = true;
    this.#res.statusCode = status;
    super.end();
  }

  override write(chunk: Uint8Array): boolean {
    if (this.#gathered !== '') this.#flush();
    if (!this.#opened && !this.closed) this.#prepare();
    return super.write(chunk);
  }

  override end(reason?: CloseReason, cause?: unknown): void {
    if (this.#gathered !== '') this.#flush();
    if (!this.#opened && !this.closed) this.#prepare();
    if (this.#gzip !== undefined && !this.closed) this.#pass(this.#gzip.end());
    super.end(reason, cause);
  }

  protected override handOver(chunk: Uint8Array): boolean {
    return this.#pass(this.#gzip === undefined ? chunk : compressed(chunk, this.#gzip));
  }

  protected override get drains(): Pick<WriterTarget, 'on' | 'off'> {
    return this.#via === 'socket' ? this.#socket! : super.drains;
  }

  #pass(bytes: Uint8Array): boolean {
    const shared = sharedOf(bytes);
    if (shared !== undefined && bytes.length > 0 && this.#isDirect) {
      this.#via = 'socket';
      shared.framed ??= frame(bytes);
      return this.#socket!.write!(shared.framed);
    }
    const isFirst = this.#via === undefined;
    // What is one client's own: `res.write` gathers all of it that is written in one turn, such as tokens.
    this.#via = 'response';
    const taken = super.handOver(bytes);
    if (isFirst) putTogether(this.#res);
    return taken;
  }

  /**
   * Whether `res.write` would do no more than put the bytes into a chunk and that to the socket: nobody has replaced
   * it, and nothing waits in the response. Two thirds of what a write costs in user mode are saved (bench fanout).
   */
  get #isDirect(): boolean {
    const res = this.#res;
    const socket = this.#socket;
    return (
      socket !== undefined &&
      this.#via !== undefined &&
      res.socket === socket &&
      res.chunkedEncoding === true &&
      res.writableCorked === 0 &&
      res.writableEnded === false &&
      // Not so while an earlier response on the connection has yet to end.
      res.writableLength === socket.writableLength &&
      socket.writable === true &&
      res.write === write &&
      res.end === end &&
      socket.write === writeToSocket
    );
  }

  /**
   * Sends one event to this client alone. Answers as `write` does.
   * @throws {TypeError} naming the field that cannot be sent; nothing is sent then.
   */
  send(event: ServerSentEvent): boolean {
    return this.write(Buffer.from(encode(event)));
  }

  /**
   * Sends what a source yields, no faster than the client takes it, then one last event, then ends.
   * A string is an event's data. What is yielded without waiting goes out in one write.
   *
   * When the client goes, the source is told: through `iterator.return()`, a `Readable` through `destroy()`, a
   * `ReadableStream` through `cancel()`. A generator that waits hears nothing of these, so it should be
   * listening to `stream.signal`. Should the source fail, the one last event says so and the reason is `error`
   * with the failure as `stream.cause`.
   *
   * Never rejects; resolves with the reason.
   */
  async pipe(source: PipeSource, options: PipeOptions = {}): Promise<CloseReason> {
    const { end = FINISHED, error: describe = () => FAILED } = options;
    // Not awaited: when the client goes, the source may never answer.
    this.#pump(source)
      .then((isOver) => isOver && this.#conclude(end, 'ended'))
      .catch((error) => this.closed || this.#fail(error, describe));
    return this.done;
  }

  /** Whether the source came to its end before the client did. */
  async #pump(source: PipeSource): Promise<boolean> {
    const iterator = iteratorOf(source);
    let sourceIsOver = false;
    let hasLeft = false;
    const leave = () => {
      if (!hasLeft) abandon(source, iterator);
      hasLeft = true;
    };
    let turnEnds = TURN_BYTES;
    this.once('close', leave);
    try {
      while (!this.closed && (!this.writableNeedDrain || (await this.ready()))) {
        if (this.bytesWritten >= turnEnds) {
          turnEnds = this.bytesWritten + TURN_BYTES;
          await endOfTurn();
          continue;
        }
        sourceIsOver = true;
        const { done, value } = await iterator.next();
        sourceIsOver = done === true;
        if (sourceIsOver) return true;
        if (!this.closed) this.#gather(eventOf(value));
      }
      return false;
    } finally {
      this.off('close', leave);
      if (!sourceIsOver) leave();
    }
  }

  /** What a source yields without waiting goes out at once: a write costs more than many tokens. */
  #gather(event: ServerSentEvent): void {
    const text = encode(event);
    if (text === '') return;
    if (this.#gathered === '') process.nextTick(flush, this);
    this.#gathered += text;
    if (this.#gathered.length >= GATHERED_LENGTH) this.#flush();
  }

  #flush(): void {
    const text = this.#gathered;
    this.#gathered = '';
    if (text !== '' && !this.closed) this.write(Buffer.from(text));
  }

  static {
    flush = (stream) => stream.#flush();
  }

  #fail(error: unknown, describe: (error: unknown) => ServerSentEvent | null): void {
    try {
      this.#conclude(describe(error), 'error', error);
    } catch {
      // It threw, or told what cannot be sent.
      this.#conclude(FAILED, 'error', error);
    }
  }

  #conclude(event: ServerSentEvent | null, reason: CloseReason, cause?: unknown): void {
    if (event !== null) this.send(event);
    this.end(reason, cause);
  }

  #claim(socket: StreamSocket): void {
    if (this.closed) return;
    if (socket.destroyed) return this.abort('client-gone');
    if (streaming.has(socket)) {
      socket.destroy();
      return this.abort('client-gone');
    }
    streaming.set(socket, this);
    // A reader that half-closes and does not read never causes a 'close': its 'end' is a good-bye as well.
    socket.on('end', gone);
    socket.on('close', gone);
  }

  protected override settled(): void {
    // Of a response that had gone before: this is not made yet.
    if (!(#socket in this)) return;
    const socket = this.#socket;
    if (socket === undefined || streaming.get(socket) !== this) return;
    streaming.delete(socket);
    socket.off('end', gone);
    socket.off('close', gone);
  }

  #prepare(): void {
    this.#opened = true;
    const { headers, keepAliveDelay = 10_000 } = this.#options;
    const res = this.#res;
    // Somebody answered in the stream's place, and must not be failed by a deadline that finds it open.
    if (res.headersSent) return;
    // Koa, for one, has 404 there from the start, and EventSource gives up for good on anything but 200.
    res.statusCode = 200;
    // nginx buffers a whole response otherwise.
    if (!res.hasHeader('X-Accel-Buffering')) res.setHeader('X-Accel-Buffering', 'no');
    res.setHeader('Cache-Control', uncached(res.getHeader('Cache-Control')));
    for (const name in headers) res.setHeader(name, headers[name]!);
    res.setHeader('Content-Type', 'text/event-stream');
    res.removeHeader('Content-Length');
    if (this.#options.gzip === true && !res.hasHeader('Content-Encoding')) this.#negotiate();
    // An unread body would run into the server's requestTimeout, which kills the connection.
    if (this.#req.complete === false && this.#req.readableFlowing === null) this.#req.resume?.();
    this.#socket?.setTimeout?.(0);
    this.#socket?.setNoDelay?.(true);
    this.#socket?.setKeepAlive?.(true, keepAliveDelay);
    if (openChannel.hasSubscribers) openChannel.publish({ stream: this, req: this.#req });
    if (this.#gzip !== undefined) this.#pass(GzipStream.head);
  }

  #negotiate(): void {
    const res = this.#res;
    res.setHeader('Vary', listed(res.getHeader('Vary'), ['Accept-Encoding']));
    const accepted = this.#req.headers?.['accept-encoding'];
    if (this.#req.method === 'HEAD' || !acceptsGzip(String(accepted ?? ''))) return;
    res.setHeader('Content-Encoding', 'gzip');
    this.#gzip = new GzipStream();
  }
}

// As they are before anybody replaces them.
const { write, end } = ServerResponse.prototype;
const { write: writeToSocket } = Socket.prototype;

/** Under this name a hub lets those it gives the same bytes keep what they made of them; see `hub.ts`. */
const SHARED: unique symbol = Symbol.for('sluice.shared') as never;

interface Shared {
  framed?: Buffer | undefined;
  piece?: GzipPiece | undefined;
}

function sharedOf(bytes: Uint8Array): Shared | undefined {
  return (bytes as { [SHARED]?: Shared })[SHARED];
}

/**
 * Node keeps the head for as long as the response lives, in the two dozen pieces that it was made of: half a kilobyte
 * that reading it once as a whole gives back.
 */
function putTogether({ _header: head }: StreamResponse): void {
  if (typeof head === 'string') Buffer.byteLength(head);
}

/** The bytes as one chunk of HTTP/1.1. */
function frame(bytes: Uint8Array): Buffer {
  const size = `${bytes.length.toString(16)}\r\n`;
  const chunk = Buffer.allocUnsafe(size.length + bytes.length + 2);
  chunk.write(size, 'latin1');
  chunk.set(bytes, size.length);
  chunk[chunk.length - 2] = 0x0d;
  chunk[chunk.length - 1] = 0x0a;
  return chunk;
}

/** What one client alone is sent is compressed only where it is long enough to be worth a stream of zlib's own. */
const WORTH_COMPRESSING = 1024;

function compressed(bytes: Uint8Array, gzip: GzipStream): Buffer {
  const shared = sharedOf(bytes);
  if (shared === undefined) {
    return bytes.length < WORTH_COMPRESSING ? gzip.store(bytes) : gzip.append(compress(bytes));
  }
  shared.piece ??= sharedPiece(bytes);
  return gzip.append(shared.piece);
}

function sharedPiece(bytes: Uint8Array): GzipPiece {
  const piece = compress(bytes);
  Object.assign(piece.blocks, { [SHARED]: {} });
  return piece;
}

/** On `node:diagnostics_channel`: `{ stream, req }` for every stream whose head is about to be sent. */
const openChannel = channel('sluice:open');

const FINISHED: ServerSentEvent = { event: 'sluice:end', data: '{}' };
const FAILED: ServerSentEvent = {
  event: 'sluice:error',
  data: '{"message":"the source of this stream failed"}',
};

// A source that never waits, piped to a client that takes all, would leave nobody else a turn of the event loop.
const TURN_BYTES = 64 * 1024;

/** UTF-16 units of events that are gathered for one write. */
const GATHERED_LENGTH = 16 * 1024;

const endOfTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

type PipeIterator = AsyncIterator<ServerSentEvent | string> | Iterator<ServerSentEvent | string>;

function iteratorOf(source: PipeSource): PipeIterator {
  if ('getReader' in source && typeof source.getReader === 'function') {
    // Its own iterator cannot be stopped while it waits for the next chunk.
    const reader = source.getReader();
    return { next: () => reader.read(), return: () => reader.cancel() };
  }
  return Symbol.asyncIterator in source ? source[Symbol.asyncIterator]() : source[Symbol.iterator]();
}

/** Tells a source that nobody wants the rest. */
function abandon(source: PipeSource, iterator: PipeIterator): void {
  // Not awaited: a generator that is blocked in an `await` answers `return()` only after that.
  Promise.resolve(iterator.return?.()).catch(() => {});
  // A Readable's iterator is such a generator, and one that never ran leaves the Readable open.
  if ('destroy' in source && typeof source.destroy === 'function') source.destroy();
}

function eventOf(value: ServerSentEvent | string): ServerSentEvent {
  if (typeof value === 'string') return { data: value };
  if (typeof value === 'object' && value !== null && !(value instanceof Uint8Array)) return value;
  // It has none of an event's fields, and would vanish.
  throw new TypeError(
    `a source must give events or strings, got ${value instanceof Uint8Array ? 'bytes' : value}`,
  );
}

/**
 * `no-store` keeps caches from giving one client's stream to another, `no-transform` keeps compressors from
 * holding it back. What the application or its framework set besides is kept.
 */
function uncached(given: unknown): string {
  return listed(given, ['no-store', 'no-transform']);
}

/** A header's list with what it must have. */
function listed(given: unknown, needed: readonly string[]): string {
  const names =
    given === undefined
      ? []
      : String(given)
          .split(/\s*,\s*/)
          .filter(Boolean);
  const known = new Set(names.map((name) => name.toLowerCase()));
  return [...names, ...needed.filter((name) => !known.has(name.toLowerCase()))].join(', ');
}

function headSent(): Error {
  const message = 'the response has begun already: open the stream before anything is sent';
  return Object.assign(new Error(message), { code: 'ERR_SSE_HEAD_SENT' });
}
