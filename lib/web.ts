// Answers a `Request` with a `Response` of events, for Hono, h3, Next.js, Bun, Deno and others like them.
// Needs `encode.ts`, `events.ts`, `heartbeat.ts`, `pipe.ts`, `source.ts` and `stream.ts` beside it.

import { EventEmitter } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { ServerSentEvent } from './encode.ts';
import { type EventsHub, serveEvents } from './events.ts';
import { Heartbeat } from './heartbeat.ts';
import type { PipeDialect, PipeOptions, PipeSource } from './pipe.ts';
import { checkSource } from './source.ts';
import { type EventStream, openStream, type StreamOptions } from './stream.ts';

/** What both forms of `toResponse` take. */
interface CommonOptions {
  request: Request;
  /**
   * Ends the stream when it fires, as a server that stops does. Any number of streams may share one signal.
   * The client's leaving is that of `request.signal`, which need not be given.
   */
  signal?: AbortSignal | undefined;
  /** The stream is a member of this set while it is open: hand the set to `shutdown`. */
  streams?: Set<EventStream> | undefined;
}

/** What `toResponse` takes for a source. */
interface StreamedOptions extends CommonOptions, StreamOptions {
  /** The longest silence, in milliseconds; default 15,000. `false`: no heartbeats. */
  heartbeat?: { readonly interval?: number | undefined } | false | undefined;
}

export interface SourceResponseOptions extends StreamedOptions, PipeOptions {}

/** Options for a source that yields values of its own, with a dialect: `{ request, ...openaiChat() }`. */
export interface DialectResponseOptions<Value> extends StreamedOptions, PipeDialect<Value> {}

export interface HubResponseOptions extends CommonOptions {
  /** The topics of the stream. They are final: those of the query are not read. */
  topics: string | readonly string[];
}

/**
 * Returns what `pipe` sends. Listens to `stream.signal`, which aborts when the client has left.
 */
export type SourceMaker<Value = ServerSentEvent | string> = (
  stream: EventStream,
) => PipeSource<Value> | Promise<PipeSource<Value>>;

/**
 * Answers a request with what a source yields, or with topics of a hub.
 *
 * Of a source, the first bytes are a comment, so that the client gets the head of the response at once. A
 * function that makes the source is called first, and what it throws rejects: so a failure before the first
 * byte can still become a status. Afterwards a failure is sent as `pipe` describes. The function may wait for as
 * long as it likes, but the promise does not wait for it once the stream has closed.
 *
 * With a hub, a client resumes, and is refused, as `serveEvents` describes. For limits, permissions and all
 * other options use `toFetchHandler(serveEvents(hub, options))`.
 *
 * The stream ends when the request's signal or `signal` fires, or the body is cancelled. At most one write
 * waits for the reader of the body, and a source waits with it. A body that nobody reads is given up after
 * `stallTimeout`.
 *
 * @throws {TypeError | RangeError} naming the option or the source that cannot be used, as a rejection.
 * @throws what the function that makes the source throws, unless the client has left meanwhile.
 */
export function toResponse(hub: EventsHub, options: HubResponseOptions): Promise<Response>;
export function toResponse<Value>(
  source: PipeSource<Value> | SourceMaker<Value>,
  options: DialectResponseOptions<Value>,
): Promise<Response>;
export function toResponse(
  source: PipeSource | SourceMaker,
  options: SourceResponseOptions,
): Promise<Response>;
export async function toResponse(
  from: EventsHub | PipeSource | SourceMaker,
  options: HubResponseOptions | SourceResponseOptions,
): Promise<Response> {
  const { request, streams } = options;
  checkRequest(request);
  checkStreams(streams);
  if (Object(from) !== from) {
    throw new TypeError(`\`source\` must be an iterable of events or strings, or a hub, got ${typeof from}`);
  }
  if (isHub(from)) return hubResponse(from, options as HubResponseOptions);
  if (typeof from !== 'function') checkSource(from);
  const res = new NodeResponse(request);
  const stream = openStream(new NodeRequest(request, res), res, options);
  track(stream, streams);
  // Not awaited: the function that makes the source may wait for longer than the client, or the program, does.
  void send(stream, from, options as SourceResponseOptions).catch((error) => {
    if (res.headersSent) return stream.pipe(failed(error), options as SourceResponseOptions);
    res.fail(error);
    stream.abort('error', error);
    return undefined;
  });
  return res.response;
}

/** A request handler of `node:http`. */
type Handler = (req: IncomingMessage, res: ServerResponse) => unknown;

/** A web server's handler. Further arguments of the host are ignored. */
export type FetchHandler<Context extends readonly unknown[] = readonly unknown[]> = (
  request: Request,
  ...context: Context
) => Promise<Response>;

export interface FetchHandlerOptions<Context extends readonly unknown[]> {
  /**
   * Returns the client's address, which a `Request` does not tell: limits per client need it, or `trustProxy`,
   * or a `key`. Without any of them all clients count as one.
   */
  remoteAddress?: ((request: Request, ...context: Context) => string | undefined) | undefined;
}

/**
 * Makes a handler of `Request` from one of `node:http`: that of `serveEvents`, or what `compose` makes of it
 * and middleware of this library. Others may use members of Node's objects that are missing here.
 *
 * Functions of the options get the request as Node has it, `method`, `url`, `headers` and
 * `socket.remoteAddress`; `requestOf` returns the original.
 *
 * The handler's promise resolves once there is a head, and rejects with what the handler of Node rejects with
 * before.
 */
export function toFetchHandler<Context extends readonly unknown[] = readonly unknown[]>(
  handler: Handler,
  { remoteAddress }: FetchHandlerOptions<Context> = {},
): FetchHandler<Context> {
  if (typeof handler !== 'function') {
    throw new TypeError(`\`handler\` must be a function (req, res), got ${typeof handler}`);
  }
  return async (request, ...context) => {
    checkRequest(request);
    return await answer(handler, request, remoteAddress?.(request, ...context)).response;
  };
}

/** The `Request` behind a request that a handler of `toFetchHandler` got. */
export function requestOf(req: object): Request | undefined {
  return requests.get(req);
}

const requests = new WeakMap<object, Request>();

// ── sources ───────────────────────────────────────────────────────────────────────────────────────────────

async function send(
  stream: EventStream,
  from: PipeSource | SourceMaker,
  options: SourceResponseOptions,
): Promise<void> {
  const interval = intervalOf(options.heartbeat);
  const source = typeof from !== 'function' ? from : stream.closed ? [] : await from(stream);
  checkSource(source);
  stream.write(FIRST);
  // Not before: a heartbeat would send the head, and a failure could no longer become a status.
  if (interval !== undefined) beats.add(stream, { interval });
  // Never rejects.
  void stream.pipe(source, options);
}

/** Checked before the source is made; `undefined`: no heartbeats. */
function intervalOf(heartbeat: StreamedOptions['heartbeat'] = {}): number | undefined {
  if (heartbeat === false) return undefined;
  if (Object(heartbeat) === heartbeat) return new Heartbeat({ interval: heartbeat.interval }).interval;
  throw new TypeError(`\`heartbeat\` must be { interval } or false, got ${heartbeat}`);
}

/** A source that fails at once. */
function failed(error: unknown): AsyncIterable<never> {
  return { [Symbol.asyncIterator]: () => ({ next: () => Promise.reject(error) }) };
}

/** Hosts send no head before the first byte of the body. */
const FIRST = Buffer.from(':\n');

/** One timer for the streams of all sources. It runs only while there are some. */
const beats = new Heartbeat<EventStream>();

// ── hubs ──────────────────────────────────────────────────────────────────────────────────────────────────

/** Some sources, such as those of events of other libraries, can be subscribed to as well. */
function isHub(from: EventsHub | PipeSource | SourceMaker): from is EventsHub {
  return 'subscribe' in from && !(Symbol.asyncIterator in from);
}

const NO_SIGNAL = {};
const handlers = new WeakMap<EventsHub, WeakMap<object, Handler>>();
const topicsOf = new WeakMap<object, string | readonly string[]>();

async function hubResponse(
  hub: EventsHub,
  { request, topics, signal, streams }: HubResponseOptions,
): Promise<Response> {
  if (typeof topics !== 'string' && !Array.isArray(topics))
    throw new TypeError(`\`topics\` must be a topic or a list of topics, got ${typeof topics}`);
  // The request's own signal means that the client has left, which is seen in any case.
  const handler = handlerFor(hub, signal === request.signal ? undefined : signal);
  const { opened, response } = answer(handler, request, undefined, topics);
  if (streams !== undefined) opened.then((stream) => track(stream as EventStream | undefined, streams));
  return response;
}

/** One handler, and so one timer for heartbeats, serves all streams of a hub that share a signal. */
function handlerFor(hub: EventsHub, signal: AbortSignal | undefined): Handler {
  const known = handlers.get(hub) ?? new WeakMap<object, Handler>();
  handlers.set(hub, known);
  const handler =
    known.get(signal ?? NO_SIGNAL) ?? serveEvents(hub, { topics: (req) => topicsOf.get(req), signal });
  known.set(signal ?? NO_SIGNAL, handler);
  return handler;
}

function checkStreams(streams: Set<EventStream> | undefined): void {
  if (streams === undefined || (typeof streams?.add === 'function' && typeof streams.delete === 'function'))
    return;
  throw new TypeError(`\`streams\` must be a Set, got ${typeof streams}`);
}

function track(stream: EventStream | undefined, streams: Set<EventStream> | undefined): void {
  if (streams === undefined || stream === undefined || stream.closed) return;
  streams.add(stream);
  stream.on('close', () => streams.delete(stream));
}

// ── the objects of node:http ──────────────────────────────────────────────────────────────────────────────

interface Answer {
  readonly response: Promise<Response>;
  /** What the handler returns; `undefined` where it fails. */
  readonly opened: Promise<unknown>;
}

function answer(
  handler: Handler,
  request: Request,
  remoteAddress: string | undefined,
  topics?: string | readonly string[],
): Answer {
  const res = new NodeResponse(request);
  const req = new NodeRequest(request, res, remoteAddress);
  requests.set(req, request);
  if (topics !== undefined) topicsOf.set(req, topics);
  const opened = new Promise((resolve) =>
    resolve(handler(req as unknown as IncomingMessage, res as unknown as ServerResponse)),
  );
  return { response: res.response, opened: opened.catch((error) => res.fail(error)) };
}

/** What this library reads of an `IncomingMessage`. */
class NodeRequest {
  /** As on HTTP/2, the connection may carry other requests: it must not be claimed for one stream. */
  readonly httpVersionMajor = 2;
  readonly httpVersionMinor = 0;
  readonly complete = true;
  readonly method: string;
  /** Path and query, as in a request of HTTP/1. */
  readonly url: string;
  readonly headers: Record<string, string> = {};
  readonly rawHeaders: string[] = [];
  readonly socket: NodeSocket;

  constructor({ method, url, headers }: Request, res: NodeResponse, remoteAddress?: string) {
    const { pathname, search, host } = new URL(url);
    this.method = method;
    this.url = pathname + search;
    headers.forEach((value, name) => {
      this.#addHeader(name, value);
    });
    const { host: given } = this.headers;
    if (given === undefined) this.#addHeader('host', host);
    this.socket = new NodeSocket(res, remoteAddress);
  }

  #addHeader(name: string, value: string): void {
    this.headers[name] = value;
    this.rawHeaders.push(name, value);
  }
}

/** The connection, of which a `Request` says nothing: it lasts as long as the response. */
class NodeSocket {
  readonly remoteAddress: string | undefined;
  readonly #res: NodeResponse;

  constructor(res: NodeResponse, remoteAddress: string | undefined) {
    this.#res = res;
    this.remoteAddress = remoteAddress;
  }

  get destroyed(): boolean {
    return this.#res.destroyed;
  }

  destroy(): void {
    this.#res.destroy();
  }

  on(): this {
    return this;
  }

  once(): this {
    return this;
  }

  off(): this {
    return this;
  }
}

/**
 * What this library uses of a `ServerResponse`. It becomes a `Response` with the first bytes, and its body
 * hands out bytes only when they are asked for, so what waits is counted here.
 */
class NodeResponse extends EventEmitter {
  readonly response: Promise<Response>;
  statusCode = 200;
  headersSent = false;
  writableEnded = false;
  destroyed = false;
  closed = false;
  /** Bytes that wait for the reader of the body. */
  writableLength = 0;
  readonly #isHead: boolean;
  readonly #headers = new Headers();
  readonly #signal: AbortSignal | undefined;
  #settle!: { resolve(response: Response): void; reject(error: unknown): void };
  #controller: ReadableStreamDefaultController<Uint8Array> | undefined;
  #hasResponded = false;
  /** The reader waits for bytes. */
  #isPulling = false;
  #needsDrain = false;
  #waiting: Uint8Array[] = [];

  constructor({ method, signal }: Request) {
    super();
    this.#isHead = method === 'HEAD';
    this.response = new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
    });
    this.#signal = signal ?? undefined;
    if (this.#signal?.aborted) this.#left();
    else this.#signal?.addEventListener('abort', this.#left);
  }

  hasHeader(name: string): boolean {
    return this.#headers.has(name);
  }

  getHeader(name: string): string | readonly string[] | undefined {
    if (name.toLowerCase() === 'set-cookie' && this.hasHeader(name)) return this.#headers.getSetCookie();
    return this.#headers.get(name) ?? undefined;
  }

  setHeader(name: string, value: string | readonly string[]): this {
    this.removeHeader(name);
    for (const one of [value].flat()) this.#headers.append(name, one as string);
    return this;
  }

  removeHeader(name: string): void {
    this.#headers.delete(name);
  }

  /** As with Node, nothing is sent before the first byte, the end, or `flushHeaders`. */
  writeHead(status: number, headers: Readonly<Record<string, string | readonly string[]>> = {}): this {
    this.statusCode = status;
    for (const name in headers) this.setHeader(name, headers[name]!);
    this.headersSent = true;
    return this;
  }

  flushHeaders(): void {
    this.headersSent = true;
    this.#respond(this.#hasNoBody ? null : this.#body());
  }

  /** `false` as soon as anything waits, so that a body which nobody reads counts as stalled. */
  write(chunk: Uint8Array | string): boolean {
    if (this.writableEnded || this.destroyed) return false;
    const bytes = bytesOf(chunk);
    this.flushHeaders();
    if (this.#hasNoBody || bytes.length === 0) return true;
    if (this.#isPulling) {
      this.#isPulling = false;
      this.#controller?.enqueue(copyOf([bytes], bytes.length));
      return true;
    }
    this.#waiting.push(bytes);
    this.writableLength += bytes.length;
    this.#needsDrain = true;
    return false;
  }

  end(chunk?: Uint8Array | string): this {
    if (this.writableEnded || this.destroyed) return this;
    if (this.#hasResponded && chunk !== undefined) this.write(chunk);
    else this.#respond(this.#hasNoBody || chunk === undefined ? null : bytesOf(chunk));
    this.writableEnded = true;
    this.headersSent = true;
    if (this.writableLength === 0) this.#finish();
    return this;
  }

  /** As with Node, what is written to a response without a body is dropped. */
  get #hasNoBody(): boolean {
    return this.#isHead || BODILESS.has(this.statusCode);
  }

  /** Cuts the body, so that its reader does not take what it has for the whole. */
  destroy(): this {
    if (this.destroyed) return this;
    this.#respond(null, 500);
    const error = new Error('the event stream was cut');
    this.#controller?.error(Object.assign(error, { code: 'ERR_SSE_CLOSED' }));
    this.#close();
    return this;
  }

  /** The handler has failed: the host answers where it still can. */
  fail(error: unknown): undefined {
    if (!this.#hasResponded) this.#settle.reject(error);
    this.#hasResponded = true;
    this.destroy();
  }

  /** Not an error of the body, which hosts would log. */
  readonly #left = (): void => {
    if (this.destroyed) return;
    this.#respond(null, CLIENT_GONE);
    closeQuietly(this.#controller);
    this.#close();
  };

  /** Throws where the status cannot be sent. */
  #respond(body: ReadableStream<Uint8Array> | Uint8Array | null, status = this.statusCode): void {
    if (this.#hasResponded) return;
    // Versions of TypeScript differ in which bytes they take for a body.
    const response = new Response(body as ReadableStream | null, { status, headers: this.#headers });
    this.#hasResponded = true;
    this.#settle.resolve(response);
  }

  /** Its own queue stays empty: `pull` is called only while a reader waits. */
  #body(): ReadableStream<Uint8Array> | null {
    if (this.#hasResponded) return null;
    return new ReadableStream<Uint8Array>(
      {
        start: (controller) => {
          this.#controller = controller;
        },
        pull: () => this.#pull(),
        cancel: () => this.#close(),
      },
      { highWaterMark: 0 },
    );
  }

  #pull(): void {
    if (this.writableLength === 0) {
      this.#isPulling = true;
      return;
    }
    const chunk = copyOf(this.#waiting, this.writableLength);
    this.#waiting = [];
    this.writableLength = 0;
    this.#controller?.enqueue(chunk);
    if (this.writableEnded) this.#finish();
    else process.nextTick(this.#drained);
  }

  readonly #drained = (): void => {
    if (!this.#needsDrain || this.writableLength > 0 || this.destroyed) return;
    this.#needsDrain = false;
    this.emit('drain');
  };

  #finish(): void {
    this.#controller?.close();
    process.nextTick(() => {
      if (this.destroyed) return;
      this.emit('finish');
      this.#close();
    });
  }

  #close(): void {
    if (this.destroyed) return;
    this.destroyed = true;
    this.#waiting = [];
    this.writableLength = 0;
    this.#signal?.removeEventListener('abort', this.#left);
    process.nextTick(() => {
      this.closed = true;
      this.emit('close');
    });
  }
}

/** Statuses whose responses have no body. */
const BODILESS: ReadonlySet<number> = new Set([204, 205, 304]);

function bytesOf(chunk: Uint8Array | string): Uint8Array {
  if (typeof chunk === 'string') return new TextEncoder().encode(chunk);
  if (chunk instanceof Uint8Array) return chunk;
  throw new TypeError(`\`chunk\` must be text or bytes, got ${typeof chunk}`);
}

/**
 * The reader of a body owns what it gets, and may transfer its memory: a `ReadableStream` of type `bytes` does. Ours
 * is that of a hub's history, or Node's pool.
 */
function copyOf(chunks: readonly Uint8Array[], length: number): Uint8Array {
  const copy = new Uint8Array(length);
  let at = 0;
  for (const chunk of chunks) {
    copy.set(chunk, at);
    at += chunk.length;
  }
  return copy;
}

/** What nginx logs for a client that has left. Nobody receives it. */
const CLIENT_GONE = 499;

/** Throws nothing where the last bytes were handed out already. */
function closeQuietly(controller: ReadableStreamDefaultController<Uint8Array> | undefined): void {
  try {
    controller?.close();
  } catch {}
}

function checkRequest(request: Request): void {
  if (typeof request?.url === 'string' && typeof request.headers?.forEach === 'function') return;
  throw new TypeError(`\`request\` must be a Request, got ${typeof request}`);
}
