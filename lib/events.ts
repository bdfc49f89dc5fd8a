// Serves a hub over HTTP: one `(req, res)` handler that reads the request, checks it, and opens a stream.
// Needs `address.ts`, `auth.ts`, `hub.ts`, `keepalive.ts`, `limiter.ts`, `origin.ts`, `pipelining.ts`,
// `problem.ts`, `protocol.ts`, `stream.ts` and `target.ts` beside it.

import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Http2ServerRequest, Http2ServerResponse } from 'node:http2';
import { clientAddress } from './address.ts';
import { expiryOf, isNobody, type Nobody } from './auth.ts';
import type { SubscribeOptions, Subscription } from './hub.ts';
import { Keepalive, type KeepaliveOptions } from './keepalive.ts';
import { type ConnectionLimit, type LimitOptions, limitConnections, sendRefusal } from './limiter.ts';
import { onlyTrue } from './origin.ts';
import { limitPipelining, requestsWaiting } from './pipelining.ts';
import { answerError, httpError, type Problem, problemOf } from './problem.ts';
import { type Controls, checkControls, isTopic, topicRule } from './protocol.ts';
import {
  checkStreamOptions,
  type EventStream,
  headersOf,
  isStreaming,
  openStream,
  type StreamOptions,
} from './stream.ts';
import { splitTarget } from './target.ts';

/** The member of a hub that is used. */
export interface EventsHub {
  subscribe(topics: readonly string[], stream: EventStream, options: SubscribeOptions): Subscription;
}

/**
 * `Req` is the type of request that the functions of the options take, such as Express's `Request`. The
 * handler then takes no other.
 */
export interface ServeEventsOptions<Principal = unknown, Req extends IncomingMessage = IncomingMessage>
  extends StreamOptions {
  /**
   * The topics of a stream: fixed, or a function that reads them from the request and may return a promise.
   * Its result is final: `undefined` means that the request names none. Default: every `topic` of the query,
   * `?topic=a&topic=b`, and the path's segment below `path`.
   */
  topics?: TopicsOption<Req> | undefined;
  /**
   * The path to answer. One more segment names a topic: `/events` also answers `/events/prices`. Use `/`
   * where a framework has removed the path that the handler is mounted at. Other paths go to `next`, or get a
   * 404. Default: every path is answered, and none of its segments names a topic.
   */
  path?: string | undefined;
  /** Most topics of one stream; default 64. */
  maxTopics?: number | undefined;
  /**
   * Returns the principal that sends a request. `undefined`, `null` and `false` are answered with 401, an
   * error with its `status`, and any other failure with 503, because the store that you ask may be back soon.
   * The streams of a principal with `expiresAt` (milliseconds since 1970) end at
   * that time. Default: anybody may read.
   */
  authorize?:
    | ((req: Req, asked: { readonly topics: readonly string[] }) => Awaitable<Principal | Nobody>)
    | undefined;
  /**
   * Whether this principal may read this topic; only `true` allows. Any other result is answered with 403
   * before the stream opens. It is called again before each write, and then ends the stream. Must not return
   * a promise.
   */
  may?: ((principal: Principal, topic: string) => boolean) | undefined;
  /**
   * How control events are sent, for readers that know only the events of their own protocol; default as they
   * are. `'comments'`: no application hears of gaps and of the end. A function: as the event that it returns.
   */
  controls?: Controls | undefined;
  /** When quiet streams get a heartbeat with their position; default every 15 s. `false`: never. */
  heartbeat?: Omit<KeepaliveOptions<EventStream>, 'controls'> | false | undefined;
  /** Most streams, in all and of one client, and how fast they may be opened; default no limits. */
  limits?: Omit<LimitOptions<Req>, 'topics' | 'onRefuse' | 'controls'> | undefined;
  /**
   * Called for each stream that has opened. If it throws, the request fails and the stream counts as none.
   */
  onOpen?: ((opened: EventsStream<Principal, Req>) => void) | undefined;
  /** Called for each stream that has closed; `stream.reason` is the reason. */
  onClose?: ((closed: EventsStream<Principal, Req>) => void) | undefined;
  /**
   * Called for each request that is refused: by a limit, with 429 or 503, or because its sender may not read.
   */
  onRefuse?: ((refusal: EventsRefusal<Req>) => void) | undefined;
  /**
   * Called for what fails unexpectedly. The client gets a 500 or 503, unless it was answered before; a
   * browser's EventSource gets a stream that ends, after which it reconnects. Default:
   * `next(error)` for a request that is not answered yet, if there is a `next`; else a warning of the
   * process.
   */
  onError?: ((error: unknown, context: { req: Req; res: ServerResponse }) => void) | undefined;
}

export type TopicsOption<Req> =
  | string
  | readonly string[]
  | ((req: Req) => Awaitable<string | readonly string[] | undefined>);
export type Awaitable<T> = T | Promise<T>;

export interface EventsStream<Principal = unknown, Req extends IncomingMessage = IncomingMessage> {
  readonly stream: EventStream;
  readonly topics: readonly string[];
  readonly principal: Principal;
  readonly req: Req;
}

export interface EventsRefusal<Req extends IncomingMessage = IncomingMessage> {
  /** The `error` of the JSON answer: `unauthorized`, `forbidden`, `server-full`, and so on. */
  readonly reason: string;
  readonly status: number;
  readonly req: Req;
}

export interface EventsHandler<Req extends IncomingMessage = IncomingMessage> {
  /** As below, for `node:http2`. The functions of the options get its request in place of the other. */
  (
    req: IncomingMessage extends Req ? Http2ServerRequest : never,
    res: Http2ServerResponse,
    next?: (error?: unknown) => unknown,
  ): Promise<EventStream | undefined>;
  /**
   * Answers a request. Resolves as soon as its stream is open, with the stream, or with `undefined` where
   * there is none. A framework that ends a response when its handler is done needs
   * `await (await handler(req, res))?.done`.
   *
   * `next` is that of Connect and Express, which takes an error. Koa's takes none: it fits where `onError` is
   * given. The handler waits for what `next` returns, and rejects only with what that rejects with.
   */
  (req: Req, res: ServerResponse, next?: (error?: unknown) => unknown): Promise<EventStream | undefined>;
  /** The streams that are open: hand them to `shutdown`. */
  readonly streams: ReadonlySet<EventStream>;
  readonly stats: EventsStats;
  /** The limiter and its numbers. */
  readonly limit: ConnectionLimit<Req>;
  /** `undefined` where `heartbeat` is false. */
  readonly keepalive: Keepalive<EventStream> | undefined;
}

/** Counts since the handler was created. */
export interface EventsStats {
  readonly opened: number;
  /** By `stream.reason`. */
  readonly closed: Readonly<Record<string, number>>;
  /** By reason. */
  readonly refused: Readonly<Record<string, number>>;
}

/**
 * Makes a handler that streams a hub's events: `createServer(serveEvents(hub))`,
 * `app.get('/events', serveEvents(hub))`.
 *
 * A client resumes after the id in its `Last-Event-ID` header, else in `?lastEventId=`. Without an id it
 * begins with what is published next; `?from=earliest` and `?last=N` begin with what is remembered,
 * `?conflate=1` skips all but the newest event of each key, and `?nameTopics=1` names the topic of each event.
 *
 * Topics that have ended are answered 204, which stops EventSource; a limit, a hub without room, an error with
 * status 429 and an unexpected failure in a form after which it reconnects; a mistake of the client with a 4xx
 * and one JSON object, `{ "error", "message" }`. The promise rejects only where that of `next` does.
 *
 * The trap: `headers` set on the response before are kept, except `Cache-Control`, which gets
 * `no-store, no-transform`.
 *
 * @throws {TypeError | RangeError} naming the option that cannot be used.
 */
export function serveEvents<Principal = unknown, Req extends IncomingMessage = IncomingMessage>(
  hub: EventsHub,
  options: ServeEventsOptions<Principal, Req> = {},
): EventsHandler<Req> {
  const { topics, path, maxTopics = 64, authorize, may, heartbeat, controls, ...others } = options;
  const { onOpen, onClose, onRefuse, onError, limits: givenLimits, ...streamOptions } = others;
  const limits = { ...givenLimits, controls };
  const headers = Object.entries(headersOf(streamOptions.headers));
  if (typeof hub?.subscribe !== 'function') throw new TypeError(`\`hub\` must be a Hub, got ${typeof hub}`);
  if (path !== undefined && !/^\/([^?#]*[^/?#])?$/.test(path)) {
    throw new TypeError(
      `\`path\` must begin with "/" and, but for "/" itself, not end in one, got ${JSON.stringify(path)}`,
    );
  }
  if (!(Number.isSafeInteger(maxTopics) && maxTopics >= 1)) {
    throw new RangeError(`\`maxTopics\` must be a whole number ≥ 1, got ${maxTopics}`);
  }
  if (topics !== undefined && typeof topics !== 'function') checkFixedTopics(listOf(topics), maxTopics);
  const mayRead = may === undefined ? () => true : onlyTrue('may', may);
  // Throws now, not at the first request, for options that are out of range or headers that cannot be sent.
  checkStreamOptions(streamOptions);
  checkControls(controls);
  // A proxy may send the streams of all its clients over one HTTP/2 session: `limits` counts those.
  const pipelining = limitPipelining({ maxConcurrent: Infinity });
  const keepalive = heartbeat === false ? undefined : new Keepalive<EventStream>({ ...heartbeat, controls });
  const streams = new Set<EventStream>();
  const asked = new WeakMap<Req, { readonly topics: readonly string[]; readonly res: ServerResponse }>();
  const denied: Record<string, number> = { unauthorized: 0, forbidden: 0 };
  const closed: Record<string, number> = {};
  let opened = 0;
  const limit = limitConnections<Req>({
    ...limits,
    topics: (req) => asked.get(req)!.topics,
    onRefuse: ({ reason, status, req }) => refused({ reason, status, req }, asked.get(req)!.res),
  });

  async function handle(
    req: Req,
    res: ServerResponse,
    next?: (error?: unknown) => unknown,
  ): Promise<EventStream | undefined> {
    const target = readTarget(req, path);
    if (target === undefined && next !== undefined) return void (await next());
    // A request behind a stream can never be answered.
    if (req.httpVersionMajor === 1 && isStreaming(req.socket)) return void req.socket.destroy();
    const begin = (): unknown => attempt(req, res, target, next);
    return pipelining(req, res, begin) as Promise<EventStream | undefined> | undefined;
  }

  async function attempt(
    req: Req,
    res: ServerResponse,
    target: Target | undefined,
    next: ((error?: unknown) => unknown) | undefined,
  ): Promise<EventStream | undefined> {
    try {
      return await answer(req, res, target);
    } catch (error) {
      const isUnexpected = error instanceof Unavailable || problemOf(error).status === 500;
      if (next === undefined || onError !== undefined || !isUnexpected) fail(error, req, res);
      // Without an error, `next` would go on to the handlers behind.
      else await next(failureOf(error) ?? new Error('the request failed with no error'));
      return undefined;
    }
  }

  async function answer(
    req: Req,
    res: ServerResponse,
    target: Target | undefined,
  ): Promise<EventStream | undefined> {
    // Set now, so that refusals have them too: without its CORS headers, no page could read one.
    if (!res.headersSent) for (const [name, value] of headers) res.setHeader(name, value);
    if (target === undefined) throw httpError(NOT_FOUND);
    checkRequest(req);
    const names = checkTopics(await topicsOf(req, target), maxTopics);
    const position = readPosition(req, target.query);
    const principal = await admit(req, names);
    // Throws: the limiter would take a response that has ended for one whose client has gone.
    if (res.headersSent) openStream(req, res);
    asked.set(req, { topics: names, res });
    const stream = limit(req, res, () => open(req, res, names, principal, position));
    asked.delete(req);
    return stream as EventStream | undefined;
  }

  async function topicsOf(req: Req, { query, segment }: Target): Promise<readonly string[]> {
    // What a function answers is final: one that knows no topics must not leave the choice to the client.
    if (typeof topics === 'function') return listOf(await available(() => topics(req)));
    if (topics !== undefined) return listOf(topics);
    return segment === undefined ? query.getAll('topic') : [decodeSegment(segment), ...query.getAll('topic')];
  }

  async function admit(req: Req, names: readonly string[]): Promise<Principal> {
    const principal = authorize && (await available(() => authorize(req, { topics: names })));
    if (authorize !== undefined && isNobody(principal)) throw httpError(UNAUTHORIZED);
    if (!(expiryOf(principal) > Date.now())) throw httpError(UNAUTHORIZED);
    for (const name of names) if (!mayRead(principal as Principal, name)) throw httpError(FORBIDDEN);
    return principal as Principal;
  }

  function open(
    req: Req,
    res: ServerResponse,
    names: readonly string[],
    principal: Principal,
    position: SubscribeOptions,
  ): EventStream {
    const expiry = untilExpiry(principal, streamOptions);
    // Requests that have arrived meanwhile would wait behind the stream for ever. A HEAD opens none.
    if (req.method !== 'HEAD' && requestsWaiting(req.socket) > 0) req.socket.destroy();
    // One object serves all streams, but those of which the permission ends.
    const stream = openStream(req, res, expiry ? { ...streamOptions, ...expiry } : streamOptions);
    if (stream.closed) return stream;
    const context = { stream, topics: names, principal, req };
    const subscription = hub.subscribe(names, stream, {
      ...position,
      announce: { heartbeat: keepalive?.terms ?? null },
      controls,
      // Bound, here and below: closures would keep all that this function has at hand (bench/kept.ts).
      may: may && mayStillRead.bind(undefined, context, res),
    });
    if (subscription.closed) return stream;
    streams.add(stream);
    keepalive?.add(stream, subscription, clientAddress(req, limits.trustProxy));
    stream.on('close', close.bind(undefined, context, res));
    callOnOpen(context, subscription, res);
    opened++;
    return stream;
  }

  // A function of its own, because `try` and its closures in `open` would cost each stream 300 bytes.
  function callOnOpen(
    context: EventsStream<Principal, Req>,
    subscription: Subscription,
    res: ServerResponse,
  ): void {
    try {
      catchRejection(onOpen?.(context), (error) => report(error, context.req, res));
    } catch (error) {
      // The answer is now that of a failure: the hub must not write into it.
      subscription.close();
      forget(context.stream);
      throw error;
    }
  }

  /** A `may` that throws denies: the hub ends the subscription. */
  function mayStillRead(context: EventsStream<Principal, Req>, res: ServerResponse, topic: string): boolean {
    try {
      return mayRead(context.principal, topic);
    } catch (error) {
      report(error, context.req, res);
      return false;
    }
  }

  function close(context: EventsStream<Principal, Req>, res: ServerResponse): void {
    const { stream } = context;
    if (!forget(stream)) return;
    const { reason = 'ended' } = stream;
    closed[reason] = (closed[reason] ?? 0) + 1;
    // Once: the mistake is one of the program, and each client of it comes back soon.
    if (reason === 'answered' && closed[reason] === 1) report(answered(), context.req, res);
    call(onClose, context, (error) => report(error, context.req, res));
  }

  function forget(stream: EventStream): boolean {
    keepalive?.delete(stream);
    return streams.delete(stream);
  }

  function refused(refusal: EventsRefusal<Req>, res: ServerResponse): void {
    call(onRefuse, refusal, (error) => report(error, refusal.req, res));
  }

  function report(error: unknown, req: Req, res: ServerResponse): void {
    if (onError === undefined) warn(error);
    else call((failure: unknown) => onError(failure, { req, res }), error, warn);
  }

  function fail(error: unknown, req: Req, res: ServerResponse): void {
    const problem = problemOf(error);
    if (REFUSALS.has(problem.status)) {
      const word =
        problem.error in denied || Object.keys(denied).length < MAX_WORDS ? problem.error : 'other';
      denied[word] = (denied[word] ?? 0) + 1;
      refused({ reason: problem.error, status: problem.status, req }, res);
    }
    if (error instanceof Unavailable || problem.status === 500) report(failureOf(error), req, res);
    try {
      // What passes must not end a browser's EventSource for good.
      if (PASSING.has(problem.status) && !res.headersSent) sendRefusal(req, res, problem, limits);
      else answerError(error, { res });
    } catch (failure) {
      // The error has headers that cannot be sent.
      report(failure, req, res);
      res.destroy();
    }
  }

  const stats: EventsStats = {
    get opened() {
      return opened;
    },
    closed,
    get refused() {
      return { ...denied, ...limit.stats.refused, ...pipelining.refused };
    },
  };
  return Object.assign(handle as EventsHandler<Req>, { streams, stats, limit, keepalive });
}

// ── reading a request ─────────────────────────────────────────────────────────────────────────────────────

interface Target {
  readonly query: URLSearchParams;
  /** The segment of the path below `path`, as it was sent. */
  readonly segment: string | undefined;
}

/** Returns `undefined` for a path that is not answered here. */
function readTarget({ url }: IncomingMessage, path: string | undefined): Target | undefined {
  const target = splitTarget(url);
  const query = new URLSearchParams(target?.query);
  if (path === undefined) return { query, segment: undefined };
  if (target === undefined) return undefined;
  if (target.path === path) return { query, segment: undefined };
  const folder = path === '/' ? path : `${path}/`;
  if (!target.path.startsWith(folder)) return undefined;
  const segment = target.path.slice(folder.length);
  return segment === '' || segment.includes('/') ? undefined : { query, segment };
}

function decodeSegment(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    throw httpError({
      status: 400,
      error: 'malformed-path',
      message: 'The path has a malformed % sequence.',
    });
  }
}

function checkRequest({ method, headers }: IncomingMessage): void {
  if (method !== 'GET' && method !== 'HEAD') throw httpError(METHOD_NOT_ALLOWED);
  const { accept, 'sec-fetch-dest': destination = 'empty', 'sec-fetch-site': site } = headers;
  // An image or a frame of a page sends no Origin, cannot read the stream, and would hold a permit. `none` is
  // an address that somebody has typed.
  if (destination !== 'empty' && site !== 'none') throw httpError(WRONG_DESTINATION);
  if (!acceptsEventStream(accept)) throw httpError(NOT_ACCEPTABLE);
}

/** The range of an `Accept` header that names the type most precisely decides; an empty header allows all. */
function acceptsEventStream(accept: string | undefined): boolean {
  if (accept === undefined || accept.trim() === '') return true;
  let precision = 0;
  let isAccepted = false;
  for (const range of accept.toLowerCase().split(',')) {
    const [type = '', ...parameters] = range.split(';').map((part) => part.trim());
    const found = EVENT_STREAM_RANGES.indexOf(type) + 1;
    if (found <= precision) continue;
    precision = found;
    isAccepted = !parameters.some((parameter) => /^q *= *(0(\.0*)?|\.0+)$/.test(parameter));
  }
  return isAccepted;
}

const EVENT_STREAM_RANGES: readonly string[] = ['*', '*/*', 'text/*', 'text/event-stream'];

/**
 * Frameworks give a query's topics as one string, as a list, as `undefined` where there is none, or as an
 * object.
 */
function listOf(topics: unknown): readonly string[] {
  if (topics === undefined || topics === null) return [];
  if (Array.isArray(topics)) return topics;
  if (typeof topics === 'string') return [topics];
  throw httpError(MALFORMED_TOPIC);
}

function checkTopics(names: readonly string[], maxTopics: number): readonly string[] {
  if (names.length === 0) throw httpError(TOPIC_MISSING);
  if (names.length > maxTopics) {
    const message = `A stream follows at most ${maxTopics} topics, not ${names.length}.`;
    throw Object.assign(httpError({ status: 400, error: 'too-many-topics', message }), { maxTopics });
  }
  if (!names.every((name) => isTopic(name))) throw httpError(MALFORMED_TOPIC);
  // A copy: the list of a query has room for 16 more names, for as long as the stream is open.
  return [...new Set(names)];
}

function checkFixedTopics(names: readonly string[], maxTopics: number): void {
  if (names.length >= 1 && names.length <= maxTopics && names.every((name) => isTopic(name))) return;
  const got = JSON.stringify(names).slice(0, 80);
  throw new TypeError(`\`topics\` must be 1 to ${maxTopics} topics, each of ${topicRule}, got ${got}`);
}

/** Reads where delivery begins. */
function readPosition({ headers }: IncomingMessage, query: URLSearchParams): SubscribeOptions {
  const from = query.get('from') ?? undefined;
  if (from !== undefined && from !== 'earliest' && from !== 'now') {
    throw httpError({ status: 400, error: 'malformed-query', message: '`from` is "earliest" or "now".' });
  }
  const last = query.get('last') ?? undefined;
  if (last !== undefined && !/^\d{1,9}$/.test(last)) {
    const message = '`last` is a whole number, such as 10.';
    throw httpError({ status: 400, error: 'malformed-query', message });
  }
  const isOn = (name: string): boolean => ['1', 'true'].includes(query.get(name) ?? '');
  return {
    lastEventId: headers['last-event-id'] || query.getAll('lastEventId'),
    from,
    last: last === undefined ? undefined : Number(last),
    conflate: isOn('conflate'),
    nameTopics: isOn('nameTopics'),
  };
}

// ── failures ──────────────────────────────────────────────────────────────────────────────────────────────

/** The failure of a function of the options, such as of the store that it asks: it will pass. */
class Unavailable extends Error {
  readonly code = 'ERR_SSE_UNAVAILABLE';
  readonly status = 503;
}

/** Tells an unexpected failure from a refusal, which has a status of its own. */
async function available<T>(ask: () => Awaitable<T>): Promise<T> {
  try {
    return await ask();
  } catch (cause) {
    if (problemOf(cause).status !== 500) throw cause;
    throw new Unavailable('The server cannot decide about this request at present: try again.', { cause });
  }
}

function failureOf(error: unknown): unknown {
  return error instanceof Unavailable ? error.cause : error;
}

function answered(): Error {
  const message =
    'other code has ended the response of a stream: where the framework answers when its handler returns, ' +
    '`await (await handler(req, res))?.done`, or tell the framework that you answer yourself';
  return Object.assign(new Error(message), { code: 'ERR_SSE_ANSWERED' });
}

// ── callbacks ─────────────────────────────────────────────────────────────────────────────────────────────

/** Calls a callback of the application, whose failure must not change what the client gets. */
function call<T>(
  callback: ((argument: T) => void) | undefined,
  argument: T,
  failed: (error: unknown) => void,
): void {
  try {
    catchRejection(callback?.(argument), failed);
  } catch (error) {
    failed(error);
  }
}

/** A callback may be an async function, although nobody waits for it. */
function catchRejection(result: unknown, failed: (error: unknown) => void): void {
  const promise = result as Partial<PromiseLike<unknown>> | undefined;
  if (typeof promise?.then === 'function') promise.then(undefined, failed);
}

/** For a failure that nobody else can be told of. */
function warn(error: unknown): void {
  const detail = String((error as Error | undefined)?.stack ?? error);
  process.emitWarning('a request to `serveEvents` failed', { code: 'ERR_SSE_REQUEST_FAILED', detail });
}

// ── permissions that end ──────────────────────────────────────────────────────────────────────────────────

/** Ends a stream when its permission ends, if `maxAge` does not end it before. */
function untilExpiry(
  principal: unknown,
  { maxAge = Infinity, maxAgeJitter = 0.1 }: StreamOptions,
): StreamOptions | undefined {
  const left = expiryOf(principal) - Date.now();
  if (left >= maxAge * (1 + maxAgeJitter)) return undefined;
  // The jitter is applied here: the stream's own might extend it beyond the permission.
  const age = maxAge === Infinity ? maxAge : maxAge * (1 + maxAgeJitter * (2 * Math.random() - 1));
  return { maxAge: Math.min(Math.max(0, left), age, MAX_TIMEOUT), maxAgeJitter: 0 };
}

const MAX_TIMEOUT = 2 ** 31 - 1;

// ── answers ───────────────────────────────────────────────────────────────────────────────────────────────

/** Statuses of refusals that are reported and counted. */
const REFUSALS: ReadonlySet<number> = new Set([401, 403, 429, 503]);
/** Statuses after which a client should come back. */
const PASSING: ReadonlySet<number> = new Set([429, 500, 503]);
/** Most reasons of refusals that are counted apart: an application's errors may have any. */
const MAX_WORDS = 100;

const NOT_FOUND: Problem = { status: 404, error: 'not-found', message: 'There is nothing at this path.' };
const METHOD_NOT_ALLOWED: Problem = {
  status: 405,
  error: 'method-not-allowed',
  message: 'Allowed: GET, HEAD.',
  headers: { Allow: 'GET, HEAD' },
};
const NOT_ACCEPTABLE: Problem = {
  status: 406,
  error: 'not-acceptable',
  message: 'This is served as text/event-stream only: send an Accept header that allows it, or none.',
};
const WRONG_DESTINATION: Problem = {
  status: 403,
  error: 'wrong-destination',
  message: 'A stream is for EventSource and fetch, not for an image, a script, a frame or a window.',
};
const TOPIC_MISSING: Problem = {
  status: 400,
  error: 'topic-missing',
  message: 'Name a topic: ?topic=NAME, once for each topic.',
};
const MALFORMED_TOPIC: Problem = {
  status: 400,
  error: 'malformed-topic',
  message: `A topic is ${topicRule}.`,
};
const UNAUTHORIZED: Problem = {
  status: 401,
  error: 'unauthorized',
  message: 'Send credentials that are valid here.',
};
const FORBIDDEN: Problem = { status: 403, error: 'forbidden', message: 'You may not read this topic.' };
