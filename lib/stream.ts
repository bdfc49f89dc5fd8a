// Answers a Node request with an event stream, and reports when and why that stream closes.
// Needs `chunked.ts`, `encode.ts`, `gzip.ts`, `pipe.ts` and `writer.ts` beside it.

import { channel } from 'node:diagnostics_channel';
import { validateHeaderName, validateHeaderValue } from 'node:http';
import { canWriteDirectly, toChunk } from './chunked.ts';
import { encode, type ServerSentEvent } from './encode.ts';
import { acceptsGzip, compress, type GzipPiece, GzipStream } from './gzip.ts';
import { type PipeDialect, type PipeOptions, type PipeSource, pipe } from './pipe.ts';
import {
  type CloseReason,
  checkWriterOptions,
  Writer,
  type WriterOptions,
  type WriterTarget,
} from './writer.ts';

/** The members of a request that are used: `IncomingMessage` and HTTP/2's compatible request have them. */
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

/** The members of a response that are used: `ServerResponse` and HTTP/2's compatible response have them. */
export interface StreamResponse extends WriterTarget {
  readonly headersSent: boolean;
  statusCode: number;
  /** True once the response was ended, by this stream or by other code. */
  readonly writableEnded?: boolean | undefined;
  /** Only a `ServerResponse` has these three; `chunked.ts` reads them. */
  readonly socket?: unknown;
  readonly chunkedEncoding?: boolean | undefined;
  readonly writableCorked?: number | undefined;
  /** The head as Node has sent it. */
  readonly _header?: unknown;
  hasHeader(name: string): boolean;
  getHeader(name: string): unknown;
  setHeader(name: string, value: string | readonly string[]): unknown;
  removeHeader(name: string): unknown;
  getHeaderNames?(): readonly string[];
  writeHead?(status: number, headers: Readonly<Record<string, string | string[]>>): unknown;
  flushHeaders?(): unknown;
}

type HeaderTarget = Pick<StreamResponse, 'hasHeader' | 'getHeader' | 'setHeader' | 'removeHeader'>;

export interface StreamOptions extends WriterOptions {
  /**
   * More response headers, also of refusals. They replace headers of the same name that are set on the
   * response. `Cache-Control` gets `no-store, no-transform` in any case.
   */
  headers?: StreamHeaders | undefined;
  /**
   * The status of the response: 2xx but 204 and 205, which have no body. Default: such a status that is set
   * on the response (`res.statusCode = 201`), else 200. A browser's EventSource takes nothing but 200.
   */
  status?: number | undefined;
  /**
   * Milliseconds of silence before the kernel probes the connection, at least 1,000; default 10,000. Keep it
   * below the heartbeat's interval.
   */
  keepAliveDelay?: number | undefined;
  /**
   * Whether to compress for a client that accepts gzip; default false. Bytes shared by many streams are
   * compressed once for all. Leave it off where an event holds both a secret and text that an attacker can
   * choose (BREACH).
   */
  gzip?: boolean | undefined;
}

/**
 * Headers as an object, as Node and frameworks give them, or as names and values, such as `Headers` and `Map`.
 * Those without a value are left out. The case of names does not matter: in an object the last value of a name
 * counts, as with `setHeader`, and in names and values all of them are sent, as `Headers` does.
 */
export type StreamHeaders =
  | Readonly<Record<string, HeaderValue>>
  | Iterable<readonly [name: string, value: HeaderValue]>;
export type HeaderValue = string | number | readonly string[] | undefined;

/** Bytes that are written to many streams and never changed. */
export interface SharedChunk {
  readonly bytes: Uint8Array;
  /** Forms of the bytes that streams have made, such as an HTTP chunk, so that each is made only once. */
  made: object | undefined;
}

/** The error of a stream that was opened, or refused, after the head of the response was sent. */
export interface HeadSentError extends Error {
  readonly code: 'ERR_SSE_HEAD_SENT';
}

/**
 * Answers a request with an event stream. Nothing is sent before the first write or `open()`: until then the
 * request can still be refused with an ordinary response.
 *
 * Headers that are set on the response are kept; those that a framework keeps elsewhere, as Fastify and Hono
 * do, go into `options.headers`. A `HEAD` request gets the headers and no body. For a client that has already
 * gone, the stream is closed from the start. One HTTP/1 connection carries one stream: a second, pipelined
 * request for one destroys the connection.
 *
 * In a framework `await stream.done`, so that it does not end the response itself.
 *
 * @throws {HeadSentError} when the head of the response was sent already.
 * @throws {RangeError} naming the option that is out of its range.
 * @throws {TypeError} naming the header that cannot be sent, and for a response that has a stream.
 */
export function openStream(
  req: StreamRequest,
  res: StreamResponse,
  options: StreamOptions = {},
): EventStream {
  if (res.headersSent) throw headSent();
  // On HTTP/1 a second stream would look like one of a pipelined request, and end the connection.
  const other = req.socket ? streaming.get(req.socket) : undefined;
  if (other && isOn(other, res))
    throw new TypeError('`res` has a stream already: use the one that was opened first');
  checkOptions(options);
  const stream = new EventStream(req, res, options);
  if (req.method === 'HEAD') stream.end();
  return stream;
}

const MAX_DELAY = 2 ** 31 - 1;

/**
 * Throws what `openStream` would throw for these options.
 * @throws {RangeError} naming the option that is out of its range.
 * @throws {TypeError} naming the header that cannot be sent.
 */
export function checkStreamOptions(options: StreamOptions): void {
  checkOptions(options);
  checkWriterOptions(options);
}

// Checked here because the head may be sent much later, by a deadline that has no caller to throw to.
function checkOptions({ headers, status = 200, keepAliveDelay = 10_000 }: StreamOptions): void {
  if (!isStreamStatus(status)) {
    throw new RangeError(`\`status\` must be a whole number from 200 to 299, not 204 or 205, got ${status}`);
  }
  for (const [name, value] of Object.entries(headersOf(headers))) {
    validateHeaderName(name);
    if (CONNECTION_HEADERS.has(name.toLowerCase())) {
      const why = 'HTTP/2 forbids it, and for HTTP/1 Node sends what is needed';
      throw new TypeError(`\`headers\` must not have \`${name}\`: ${why}. Leave it out`);
    }
    for (const one of [value].flat()) validateHeaderValue(name, one);
  }
  if (typeof keepAliveDelay === 'number' && keepAliveDelay >= 1000 && keepAliveDelay <= MAX_DELAY) return;
  throw new RangeError(
    `\`keepAliveDelay\` must be a number from 1000 to ${MAX_DELAY}, got ${keepAliveDelay}`,
  );
}

// "An endpoint MUST NOT generate an HTTP/2 message containing connection-specific header fields" (RFC 9113).
const CONNECTION_HEADERS: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'transfer-encoding',
  'upgrade',
]);

/**
 * The headers as an object with a text or a list for each name; no two names differ only in case.
 * @throws {TypeError} naming the header whose value is of another type.
 */
export function headersOf(given: StreamHeaders = {}): Record<string, string | string[]> {
  if (typeof given !== 'object' || given === null)
    throw new TypeError(`\`headers\` must be an object, a \`Map\` or \`Headers\`, got ${given}`);
  // It can be read once, and headers are read for each stream.
  if ('next' in given && Symbol.iterator in given)
    throw new TypeError('`headers` must not be an iterator: pass what it iterates, such as the `Map`');
  const isList = Symbol.iterator in given;
  const headers = new Map<string, [name: string, value: string | string[]]>();
  for (const entry of isList ? (given as Iterable<readonly [string, HeaderValue]>) : Object.entries(given)) {
    if (!Array.isArray(entry))
      throw new TypeError(`\`headers\` must have pairs of name and value, got ${entry}`);
    const [name, value] = entry as [string, HeaderValue];
    if (value === undefined) continue;
    const key = String(name).toLowerCase();
    const known = isList ? headers.get(key) : undefined;
    const texts = textsOf(name, value);
    // `Headers` has an entry for each `Set-Cookie`.
    headers.set(key, known === undefined ? [name, texts] : [known[0], [known[1], texts].flat()]);
  }
  return Object.fromEntries(headers.values());
}

function textsOf(name: string, value: NonNullable<HeaderValue>): string | string[] {
  if (Array.isArray(value)) return [...value];
  if (typeof value !== 'object' && typeof value !== 'function') return String(value);
  throw new TypeError(`\`headers\` must have a text, a number or a list for "${name}", got ${value}`);
}

function isStreamStatus(status: number): boolean {
  return Number.isInteger(status) && status >= 200 && status <= 299 && status !== 204 && status !== 205;
}

// The sockets that carry an open stream.
const streaming = new WeakMap<StreamSocket, EventStream>();

// Assigned in the class, so that they can read its members.
// One function for all sockets: one for each would cost 300 bytes per connection.
let gone: (this: StreamSocket) => void;
let isOn: (stream: EventStream, res: StreamResponse) => boolean;

/** Whether a connection carries an open stream. No later request on that connection can be answered. */
export function isStreaming(socket: StreamSocket): boolean {
  return streaming.has(socket);
}

/** One client's stream of events. Made by `openStream`. */
export class EventStream extends Writer {
  readonly #req: StreamRequest;
  readonly #res: StreamResponse;
  readonly #socket: StreamSocket | undefined;
  readonly #options: StreamOptions;
  #opened = false;
  #via: 'response' | 'socket' | undefined;
  #gzip: GzipStream | undefined;
  /** Whether the head had a `Content-Encoding` when it was given to the response. */
  #hadEncoding = false;
  /** Text to be written at the end of this tick. */
  #queued = '';

  constructor(req: StreamRequest, res: StreamResponse, options: StreamOptions) {
    super(res, options);
    this.#req = req;
    this.#res = res;
    this.#options = options;
    // Stored now, because `res.socket` becomes null. A socket of HTTP/2 has many streams: it is not claimed.
    this.#socket = (req.httpVersionMajor ?? 1) < 2 ? (req.socket ?? undefined) : undefined;
    if (this.#socket !== undefined) this.#claim(this.#socket);
  }

  /** How the last bytes went: `'socket'`, the fast path, or `'response'`, by `res.write`. For diagnosis only. */
  get via(): 'response' | 'socket' | undefined {
    return this.#via;
  }

  /** Whether the stream is compressed. Decided when the head is sent. */
  get isCompressed(): boolean {
    return this.#gzip !== undefined;
  }

  /** Sends the head now rather than with the first write. Does nothing the second time. */
  open(): void {
    if (this.closed || this.#opened) return;
    this.#prepareHead();
    this.#res.flushHeaders?.();
  }

  /**
   * Answers with a status, the headers of the options and no body, instead of a stream. 204 tells a browser's
   * EventSource not to reconnect.
   * @throws {HeadSentError} when the stream has begun.
   * @throws {RangeError} when `status` is not a whole number from 200 to 599.
   */
  refuse(status: number): void {
    if (this.closed) return;
    if (!(Number.isInteger(status) && status >= 200 && status <= 599)) {
      throw new RangeError(`\`status\` must be a whole number from 200 to 599, got ${status}`);
    }
    if (this.#opened || this.#queued !== '') throw headSent();
    this.#opened = true;
    if (!this.#res.headersSent) this.#setHeaders(status);
    super.end();
  }

  /**
   * Sends one event to this client. Returns what `write` returns.
   * @throws {TypeError} code `ERR_SSE_BAD_EVENT`, naming the field that cannot be sent; then nothing is sent.
   */
  send(event: ServerSentEvent): boolean {
    return this.write(Buffer.from(encode(event)));
  }

  /** Writes bytes as `write` does. Their HTTP chunk and compressed block are made once for all streams. */
  writeShared(chunk: SharedChunk): boolean {
    return this.accept(chunk.bytes, chunk);
  }

  /**
   * Writes text at the end of this tick, or before the next `write`, `send` or `end`, together with all other
   * text that is queued by then: one write costs more than many short texts. Text must be whole events, as
   * `encode` makes them.
   */
  queueText(text: string): void {
    if (text === '' || this.closed) return;
    this.needsPreparation();
    if (this.#queued === '') process.nextTick(() => this.#attempt(() => this.#flush()));
    this.#queued += text;
    if (this.#queued.length >= MAX_QUEUED_LENGTH) this.#flush();
  }

  /** Sends what a source yields, then one last event, then ends. See `pipe` of `pipe.ts`. Never rejects. */
  pipe<Value>(source: PipeSource<Value>, dialect: PipeDialect<Value>): Promise<CloseReason>;
  pipe(source: PipeSource, options?: PipeOptions): Promise<CloseReason>;
  pipe(source: PipeSource, options?: PipeOptions): Promise<CloseReason> {
    return pipe(this, source, options);
  }

  /** Ends as a `Writer` does. Where the head cannot be sent, cuts the connection, with the reason `error`. */
  override end(reason?: CloseReason, cause?: unknown): void {
    this.#attempt(() => this.prepare());
    if (this.#gzip !== undefined && !this.closed) this.#transmit(this.#gzip.end());
    super.end(reason, cause);
  }

  protected override prepare(): void {
    if (this.#queued !== '') this.#flush();
    if (!this.#opened && !this.closed) this.#prepareHead();
  }

  /** For what has no caller who could answer the request: a head that cannot be sent throws. */
  #attempt(action: () => void): void {
    try {
      action();
    } catch (error) {
      this.abort('error', error);
    }
  }

  #flush(): void {
    const text = this.#queued;
    this.#queued = '';
    if (text !== '' && !this.closed) this.write(Buffer.from(text));
  }

  protected override transmit(bytes: Uint8Array, shared?: SharedChunk): boolean {
    const gzip = this.#gzip;
    if (gzip === undefined) return this.#transmit(bytes, shared);
    if (shared === undefined) {
      const isShort = bytes.length < MIN_COMPRESSED_BYTES;
      return this.#transmit(isShort ? gzip.store(bytes) : gzip.append(compress(bytes)));
    }
    const made = madeOf(shared);
    made.compressed ??= compressShared(bytes);
    return this.#transmit(gzip.append(made.compressed.piece), made.compressed.chunk);
  }

  #transmit(bytes: Uint8Array, shared?: SharedChunk): boolean {
    const res = this.#res;
    const socket = this.#socket;
    const isFirst = this.#via === undefined;
    // Only shared bytes take the fast path: `res.write` gathers the small writes of one turn, such as tokens.
    if (shared !== undefined && bytes.length > 0 && !isFirst && socket && canWriteDirectly(res, socket)) {
      if (shared.made || bytes.length < MIN_UNCOPIED_BYTES) {
        this.#via = 'socket';
        const made = madeOf(shared);
        made.chunk ??= toChunk(bytes);
        return socket.write(made.chunk);
      }
      // Of many bytes there may be one client only: `res.write` does not copy them.
      shared.made = new Made();
    }
    this.#via = 'response';
    const accepted = res.write(bytes);
    if (isFirst) {
      flattenHead(res);
      if (this.#isCompressedElsewhere()) warnOfCompression();
    }
    return accepted;
  }

  protected override get drainSource(): Pick<WriterTarget, 'on' | 'off'> {
    return this.#via === 'socket' ? this.#socket! : super.drainSource;
  }

  #claim(socket: StreamSocket): void {
    if (this.closed) return;
    if (socket.destroyed || streaming.has(socket)) {
      socket.destroy();
      return this.abort('client-gone');
    }
    streaming.set(socket, this);
    // Its 'end' counts as leaving too: a client that closes its half and does not read never causes a 'close'.
    socket.on('end', gone);
    // A response that has its connection closes with it; one that waits behind another (pipelining) does not.
    if (this.#res.socket !== socket) socket.on('close', gone);
  }

  static {
    gone = function () {
      const stream = streaming.get(this);
      stream?.abort(stream.goneReason);
    };
    isOn = (stream, res) => stream.#res === res;
  }

  protected override get goneReason(): CloseReason {
    return this.#res.writableEnded === true && !this.closed ? 'answered' : 'client-gone';
  }

  protected override onClose(): void {
    // The constructor of Writer calls this for a client that has already gone, before the fields here exist.
    if (!(#socket in this)) return;
    const socket = this.#socket;
    if (socket === undefined || streaming.get(socket) !== this) return;
    streaming.delete(socket);
    socket.off('end', gone);
    socket.off('close', gone);
  }

  #prepareHead(): void {
    this.#opened = true;
    try {
      this.#giveHead();
    } catch (error) {
      this.#opened = false; // or the next write would send a head that lacks the rest
      throw error;
    }
  }

  #giveHead(): void {
    const { keepAliveDelay = 10_000 } = this.#options;
    const res = this.#res;
    // Other code has answered the request; a deadline that ends this stream must not break that response.
    if (res.headersSent) return;
    // Koa sets 404 before any handler runs, and EventSource gives up for good on anything but 200.
    const { status = isStreamStatus(res.statusCode) ? res.statusCode : 200 } = this.#options;
    const fresh = this.#hasNoHead() ? new FreshHead() : undefined;
    const head = fresh ?? res;
    this.#setHeaders(status, head);
    // Without it nginx holds events back until a buffer is full.
    if (!head.hasHeader('X-Accel-Buffering')) head.setHeader('X-Accel-Buffering', 'no');
    head.setHeader('Content-Type', 'text/event-stream');
    if (this.#options.gzip === true && !head.hasHeader('Content-Encoding')) this.#negotiate(head);
    this.#hadEncoding = head.hasHeader('Content-Encoding');
    // The server's requestTimeout destroys connections whose request body is not read.
    if (this.#req.complete === false && this.#req.readableFlowing === null) this.#req.resume?.();
    this.#socket?.setTimeout?.(0);
    this.#socket?.setNoDelay?.(true);
    this.#socket?.setKeepAlive?.(true, keepAliveDelay);
    if (openChannel.hasSubscribers) openChannel.publish({ stream: this, req: this.#req });
    if (fresh !== undefined) res.writeHead?.(status, fresh.headers);
    if (this.#gzip !== undefined) this.#transmit(GzipStream.head);
  }

  /** Whether nobody has set a header, nor replaced a method in order to set one later. */
  #hasNoHead(): boolean {
    const res = this.#res;
    if (this.#req.httpVersionMajor !== 1 || res.writeHead === undefined) return false;
    return res.getHeaderNames?.().length === 0 && !PATCHED.some((method) => Object.hasOwn(res, method));
  }

  #setHeaders(status: number, head: HeaderTarget = this.#res): void {
    const { headers } = this.#options;
    this.#res.statusCode = status;
    if (headers !== undefined) {
      for (const [name, value] of Object.entries(headersOf(headers))) head.setHeader(name, value);
    }
    // That of another answer: a stream has none, and a refusal no body.
    if (head.hasHeader('Content-Length')) head.removeHeader('Content-Length');
    // Last, because the headers above may allow caching. A cache may keep a 204 as well.
    head.setHeader('Cache-Control', withNames(head.getHeader('Cache-Control'), NO_CACHING));
  }

  /** Whether a method of the response was replaced by one that has added a coding of its own. */
  #isCompressedElsewhere(): boolean {
    const res = this.#res;
    return Object.hasOwn(res, 'write') && res.hasHeader('Content-Encoding') && !this.#hadEncoding;
  }

  #negotiate(head: HeaderTarget): void {
    head.setHeader('Vary', withNames(head.getHeader('Vary'), ['Accept-Encoding']));
    const accepted = this.#req.headers?.['accept-encoding'];
    if (this.#req.method === 'HEAD' || !acceptsGzip(String(accepted ?? ''))) return;
    head.setHeader('Content-Encoding', 'gzip');
    this.#gzip = new GzipStream();
  }
}

/**
 * The headers of a response that has none so far. `setHeader` would keep a copy of them for as long as the stream is
 * open, which is 400 bytes; `writeHead` keeps none.
 */
class FreshHead implements HeaderTarget {
  readonly #headers = new Map<string, readonly [name: string, value: string | string[]]>();

  get headers(): Record<string, string | string[]> {
    return Object.fromEntries(this.#headers.values());
  }

  hasHeader(name: string): boolean {
    return this.#headers.has(name.toLowerCase());
  }

  getHeader(name: string): string | string[] | undefined {
    return this.#headers.get(name.toLowerCase())?.[1];
  }

  setHeader(name: string, value: string | string[]): void {
    this.#headers.set(name.toLowerCase(), [name, value]);
  }

  removeHeader(name: string): void {
    this.#headers.delete(name.toLowerCase());
  }
}

/** The value of `SharedChunk.made`. */
class Made {
  /** The bytes as a chunk of HTTP/1.1. */
  chunk: Uint8Array | undefined;
  /** The bytes compressed; `chunk` shares the blocks of `piece`. */
  compressed: { readonly piece: GzipPiece; readonly chunk: SharedChunk } | undefined;
}

function madeOf(shared: SharedChunk): Made {
  // Not `??=`: another copy of this module may have left an object of another shape.
  if (!(shared.made instanceof Made)) shared.made = new Made();
  return shared.made as Made;
}

function compressShared(bytes: Uint8Array): NonNullable<Made['compressed']> {
  const piece = compress(bytes);
  return { piece, chunk: { bytes: piece.blocks, made: undefined } };
}

/** Fewer are copied for the first client too: one piece in place of the three of `res.write`. */
const MIN_UNCOPIED_BYTES = 16 * 1024;

/** Compressing bytes for one client alone needs a run of zlib, which pays off from this length on. */
const MIN_COMPRESSED_BYTES = 1024;

/** `Buffer.byteLength` flattens the head, which V8 keeps as a rope: saves about 500 bytes per stream. */
function flattenHead({ _header: head }: StreamResponse): void {
  if (typeof head === 'string') Buffer.byteLength(head);
}

/** On `node:diagnostics_channel`: `{ stream, req }` for every stream just before its head is sent. */
const openChannel = channel('sluice.stream.open');

/** From this many UTF-16 units on, queued text is written without waiting for the end of the tick. */
const MAX_QUEUED_LENGTH = 16 * 1024;

/**
 * `no-store` keeps caches from serving one client's stream to another, `no-transform` keeps compressors from
 * holding events back. Directives that the application has set are kept.
 */
const NO_CACHING = ['no-store', 'no-transform'];

/** Adds the needed names to a header's comma-separated list. */
function withNames(given: unknown, needed: readonly string[]): string {
  const names = String(given ?? '').split(/\s*,\s*/);
  const known = new Set(names.map((name) => name.toLowerCase()));
  return [...names, ...needed.filter((name) => !known.has(name.toLowerCase()))].filter(Boolean).join(', ');
}

/** The methods that middleware replaces. */
const PATCHED = ['writeHead', 'setHeader', 'write', 'end', 'flushHeaders'] as const;

let hasWarned = false;

/** Once: the mistake is one of the program, and some of these middleware hold nothing back. */
function warnOfCompression(): void {
  if (hasWarned) return;
  hasWarned = true;
  const message =
    'the response is patched by a compression middleware: it may hold events back, so exclude ' +
    '`text/event-stream` or this route, and use the option `gzip`';
  process.emitWarning(message, { code: 'ERR_SSE_COMPRESSED' });
}

function headSent(): HeadSentError {
  const cure = '`await stream.done` where the framework answers when its handler returns';
  const message = `headers are already sent: open or refuse the stream before anything answers, and ${cure}`;
  return Object.assign(new Error(message), { code: 'ERR_SSE_HEAD_SENT' as const });
}
