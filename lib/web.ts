// Answers a `Request` with a `Response` of events, for Hono, h3, Next.js, Bun, Deno and others like them.
// Needs `encode.ts`, `events.ts`, `heartbeat.ts`, `pipe.ts` and `stream.ts` beside it.

import { EventEmitter } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { ServerSentEvent } from './encode.ts';
import { type EventsHub, serveEvents } from './events.ts';
import { Heartbeat } from './heartbeat.ts';
import type { PipeDialect, PipeOptions, PipeSource } from './pipe.ts';
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
 * byte can still become a status. Afterwards a failure is sent as `pipe` describes.
 *
 * With a hub, a client resumes, and is refused, as `serveEvents` describes. For limits, permissions and all
 * other options use `toFetchHandler(serveEvents(hub, options))`.
 *
 * The stream ends when the request's signal or `signal` fires, or the body is cancelled. At most one write
 * waits for the reader of the body, and a source waits with it. A body that nobody reads is given up after
 * `stallTimeout`.
 *
 * @throws {TypeError | RangeError} naming the option that cannot be used, as a rejection.
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
  const { request } = options;
  checkRequest(request);
  if (Object(from) !== from) {
    throw new TypeError(`\`source\` must be an iterable of events or strings, or a hub, got ${typeof from}`);
  }
  if ('subscribe' in from) return hubResponse(from, options as HubResponseOptions);
  const res = new NodeResponse(request);
  let stream: EventStream | undefined;
  try {
    stream = openStream(new NodeRequest(request, res), res, options);
    track(stream, options.streams);
    await send(stream, from, options);
  } catch (error) {
    // A client that leaves makes the function's own calls fail too: nothing went wrong.
    const hasLeft = stream?.closed === true;
    stream?.abort('error', error);
    res.destroy();
    if (!hasLeft) throw error;
  }
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
  const { heartbeat = {} } = options;
  // Checks the interval before the function is called.
  if (heartbeat !== false) beats.add(stream, { interval: heartbeat.interval });
  const source = typeof from !== 'function' ? from : stream.closed ? [] : await from(stream);
  stream.write(FIRST);
  // Never rejects.
  void stream.pipe(source, options);
}

/** Hosts send no head before the first byte of the body. */
const FIRST = Buffer.from(':\n');

/** One timer for the streams of all sources. It runs only while there are some. */
const beats = new Heartbeat<EventStream>();

// ── hubs ──────────────────────────────────────────────────────────────────────────────────────────────────

const NO_SIGNAL = {};
const handlers = new WeakMap<EventsHub, WeakMap<object, Handler>>();
const topicsOf = new WeakMap<object, string | readonly string[]>();

async function hubResponse(
  hub: EventsHub,
  { request, topics, signal, streams }: HubResponseOptions,
): Promise<Response> {
  if (topics === undefined)
    throw new TypeError('`topics` must be a topic or a list of topics, got undefined');
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
    if (this.headers.host === undefined) this.#addHeader('host', host);
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
  readonly #headers = new Map<string, string | readonly string[]>();
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
    return this.#headers.has(name.toLowerCase());
  }

  getHeader(name: string): string | readonly string[] | undefined {
    return this.#headers.get(name.toLowerCase());
  }

  setHeader(name: string, value: string | readonly string[]): this {
    this.#headers.set(name.toLowerCase(), value);
    return this;
  }

  removeHeader(name: string): void {
    this.#headers.delete(name.toLowerCase());
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
    this.#respond(this.#isHead ? null : this.#body());
  }

  /** `false` as soon as anything waits, so that a body which nobody reads counts as stalled. */
  write(chunk: Uint8Array): boolean {
    if (this.writableEnded || this.destroyed) return false;
    this.flushHeaders();
    if (this.#isHead || chunk.length === 0) return true;
    if (this.#isPulling) {
      this.#isPulling = false;
      this.#controller?.enqueue(chunk);
      return true;
    }
    this.#waiting.push(chunk);
    this.writableLength += chunk.length;
    this.#needsDrain = true;
    return false;
  }

  end(text?: string): this {
    if (this.writableEnded || this.destroyed) return this;
    this.writableEnded = true;
    this.headersSent = true;
    this.#respond(this.#isHead || text === undefined ? null : text);
    if (this.writableLength === 0) this.#finish();
    return this;
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

  #respond(body: ReadableStream<Uint8Array> | string | null, status: number = this.statusCode): void {
    if (this.#hasResponded) return;
    this.#hasResponded = true;
    const headers = new Headers();
    for (const [name, values] of this.#headers) {
      for (const value of [values].flat()) headers.append(name, value as string);
    }
    this.#settle.resolve(new Response(body, { status, headers }));
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
    const [first] = this.#waiting;
    if (first === undefined) {
      this.#isPulling = true;
      return;
    }
    const chunk = this.#waiting.length === 1 ? first : Buffer.concat(this.#waiting);
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
