// Serves a hub over HTTP: one `(req, res)` handler that reads the request, checks it, and opens a stream.
// Needs `address.ts`, `auth.ts`, `hub.ts`, `keepalive.ts`, `limiter.ts`, `origin.ts`, `problem.ts`,
// `protocol.ts`, `stream.ts` and `writer.ts` beside it.

import type { IncomingMessage, ServerResponse } from 'node:http';
import { PassThrough } from 'node:stream';
import { clientAddress } from './address.ts';
import { expiryOf, type Nobody } from './auth.ts';
import type { SubscribeOptions, Subscription } from './hub.ts';
import { Keepalive, type KeepaliveOptions } from './keepalive.ts';
import { type ConnectionLimit, type LimitOptions, limitConnections } from './limiter.ts';
import { onlyTrue } from './origin.ts';
import { httpError, type Problem, problemOf, sendProblem } from './problem.ts';
import { isTopic, topicRule } from './protocol.ts';
import { type EventStream, openStream, type StreamOptions } from './stream.ts';
import { Writer } from './writer.ts';

/** The member of a hub that is used. */
export interface EventsHub {
  subscribe(topics: readonly string[], stream: EventStream, options: SubscribeOptions): Subscription;
}

export interface ServeEventsOptions<Principal = unknown> extends StreamOptions {
  /**
   * The topics of a stream: fixed, or read from the request, at once or by a promise. Default: every `topic`
   * of the query, `?topic=a&topic=b`, and the path's segment below `path`.
   */
  topics?: TopicsOption | undefined;
  /**
   * The path to answer. One more segment names a topic: `/events` also answers `/events/prices`. Other paths
   * go to `next`, or get a 404. Default: every path is answered, and none of its segments names a topic.
   */
  path?: string | undefined;
  /** Most topics of one stream; default 64. */
  maxTopics?: number | undefined;
  /**
   * Returns the principal that sends a request. `undefined`, `null` and `false` are answered with 401, an
   * error with its `status`. The streams of a principal with `expiresAt` (milliseconds since 1970) end at
   * that time. Default: anybody may read.
   */
  authorize?:
    | ((req: IncomingMessage, asked: { readonly topics: readonly string[] }) => Awaitable<Principal | Nobody>)
    | undefined;
  /**
   * Whether this principal may read this topic; only `true` allows. Any other result is answered with 403
   * before the stream opens. It is called again before each write, and then ends the stream. Must not return
   * a promise.
   */
  may?: ((principal: Principal, topic: string) => boolean) | undefined;
  /** When quiet streams get a heartbeat with their position; default every 15 s. `false`: never. */
  heartbeat?: KeepaliveOptions<EventStream> | false | undefined;
  /** Most streams, in all and of one client, and how fast they may be opened; default no limits. */
  limits?: Omit<LimitOptions<IncomingMessage>, 'topics' | 'onRefuse'> | undefined;
  /** Called for each stream that has opened. */
  onOpen?: ((opened: EventsStream<Principal>) => void) | undefined;
  /** Called for each stream that has closed; `stream.reason` is the reason. */
  onClose?: ((closed: EventsStream<Principal>) => void) | undefined;
  /** Called for each request that is refused: by a limit, or for lack of permission. */
  onRefuse?: ((refusal: EventsRefusal) => void) | undefined;
  /** Called for unexpected errors; the client gets a 500. Default: `next(error)`, if there is a `next`. */
  onError?: ((error: unknown, context: { req: IncomingMessage; res: ServerResponse }) => void) | undefined;
}

type TopicsOption =
  | string
  | readonly string[]
  | ((req: IncomingMessage) => Awaitable<string | readonly string[]>);
type Awaitable<T> = T | Promise<T>;

export interface EventsStream<Principal = unknown> {
  readonly stream: EventStream;
  readonly topics: readonly string[];
  readonly principal: Principal;
  readonly req: IncomingMessage;
}

export interface EventsRefusal {
  /** The `error` of the JSON answer: `unauthorized`, `forbidden`, `server-full`, and so on. */
  readonly reason: string;
  readonly status: number;
  readonly req: IncomingMessage;
}

export interface EventsHandler {
  /**
   * Answers a request. Resolves as soon as its stream is open, with the stream, or with `undefined` where
   * there is none. A framework that ends a response when its handler is done needs
   * `await (await handler(req, res))?.done`.
   */
  (
    req: IncomingMessage,
    res: ServerResponse,
    next?: (error?: unknown) => unknown,
  ): Promise<EventStream | undefined>;
  /** The streams that are open: pass them to `shutdown`. */
  readonly streams: ReadonlySet<EventStream>;
  readonly stats: EventsStats;
  /** The limiter and its numbers. */
  readonly limit: ConnectionLimit<IncomingMessage>;
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
 * begins with what is published next; `?from=earliest` and `?last=N` begin with what is remembered, and
 * `?conflate=1` skips all but the newest event of each key. Topics that have ended are answered with 204,
 * which stops EventSource; after a refusal by a limit EventSource reconnects. A mistake of the client is
 * answered with a 4xx and one JSON object, `{ "error", "message" }`; the handler's promise does not reject.
 *
 * The trap: `headers` set on the response before are kept, except `Cache-Control`, which gets
 * `no-store, no-transform`.
 *
 * @throws {TypeError | RangeError} naming the option that cannot be used.
 */
export function serveEvents<Principal = unknown>(
  hub: EventsHub,
  options: ServeEventsOptions<Principal> = {},
): EventsHandler {
  const { topics, path, maxTopics = 64, authorize, may, heartbeat, limits = {}, ...others } = options;
  const { onOpen, onClose, onRefuse, onError, ...streamOptions } = others;
  if (path !== undefined && !/^\/[^?#]*[^/?#]$/.test(path)) {
    throw new TypeError(`\`path\` must begin with "/" and not end in one, got ${JSON.stringify(path)}`);
  }
  if (!(Number.isSafeInteger(maxTopics) && maxTopics >= 1)) {
    throw new RangeError(`\`maxTopics\` must be a whole number ≥ 1, got ${maxTopics}`);
  }
  const mayRead = may === undefined ? () => true : onlyTrue('may', may);
  // Throws now, not at the first request, for stream options that are out of range.
  new Writer(new PassThrough(), streamOptions).abort();
  const keepalive = heartbeat === false ? undefined : new Keepalive<EventStream>(heartbeat);
  const streams = new Set<EventStream>();
  const askedTopics = new WeakMap<IncomingMessage, readonly string[]>();
  const denied: Record<string, number> = { unauthorized: 0, forbidden: 0 };
  const closed: Record<string, number> = {};
  let opened = 0;
  const limit = limitConnections<IncomingMessage>({
    ...limits,
    topics: (req) => askedTopics.get(req) ?? [],
    onRefuse: ({ reason, status, req }) => onRefuse?.({ reason, status, req }),
  });

  async function handle(
    req: IncomingMessage,
    res: ServerResponse,
    next?: (error?: unknown) => unknown,
  ): Promise<EventStream | undefined> {
    try {
      const target = readTarget(req, path);
      if (target === undefined) return void (next === undefined ? sendProblem(res, NOT_FOUND) : next());
      checkRequest(req);
      const names = checkTopics(await topicsOf(req, target), maxTopics);
      const position = readPosition(req, target.query);
      const principal = await admit(req, names);
      askedTopics.set(req, names);
      return (await limit(req, res, () => open(req, res, names, principal, position))) as EventStream;
    } catch (error) {
      fail(error, req, res, next);
      return undefined;
    }
  }

  async function topicsOf(req: IncomingMessage, { query, segment }: Target): Promise<readonly string[]> {
    const chosen = typeof topics === 'function' ? await topics(req) : topics;
    if (chosen !== undefined) return typeof chosen === 'string' ? [chosen] : chosen;
    return segment === undefined ? query.getAll('topic') : [segment, ...query.getAll('topic')];
  }

  async function admit(req: IncomingMessage, names: readonly string[]): Promise<Principal> {
    const principal = authorize === undefined ? undefined : await authorize(req, { topics: names });
    const isNobody = principal === undefined || principal === null || principal === false;
    if (authorize !== undefined && isNobody) throw httpError(UNAUTHORIZED);
    if (!(expiryOf(principal) > Date.now())) throw httpError(UNAUTHORIZED);
    for (const name of names) if (!mayRead(principal as Principal, name)) throw httpError(FORBIDDEN);
    return principal as Principal;
  }

  function open(
    req: IncomingMessage,
    res: ServerResponse,
    names: readonly string[],
    principal: Principal,
    position: SubscribeOptions,
  ): EventStream {
    const stream = openStream(req, res, { ...streamOptions, ...untilExpiry(principal, streamOptions) });
    if (stream.closed) return stream;
    const subscription = hub.subscribe(names, stream, {
      ...position,
      announce: { heartbeat: keepalive?.terms ?? null },
      may: may && ((topic) => mayRead(principal, topic)),
    });
    if (subscription.closed) return stream;
    const context = { stream, topics: names, principal, req };
    streams.add(stream);
    opened++;
    keepalive?.add(stream, subscription, clientAddress(req, limits.trustProxy));
    stream.on('close', () => close(context));
    onOpen?.(context);
    return stream;
  }

  function close(context: EventsStream<Principal>): void {
    const { stream } = context;
    const { reason = 'ended' } = stream;
    closed[reason] = (closed[reason] ?? 0) + 1;
    keepalive?.delete(stream);
    streams.delete(stream);
    onClose?.(context);
  }

  function fail(
    error: unknown,
    req: IncomingMessage,
    res: ServerResponse,
    next: ((error?: unknown) => unknown) | undefined,
  ): void {
    const problem = problemOf(error);
    if (Object.hasOwn(denied, problem.error)) {
      denied[problem.error]!++;
      onRefuse?.({ reason: problem.error, status: problem.status, req });
    }
    if (problem.status === 500) {
      if (onError === undefined && next !== undefined) return void next(error);
      onError?.(error, { req, res });
    }
    if (!res.headersSent)
      sendProblem(res, { ...problem, headers: { ...options.headers, ...problem.headers } });
    else if (!res.writableEnded) res.destroy();
  }

  const stats: EventsStats = {
    get opened() {
      return opened;
    },
    closed,
    get refused() {
      return { ...denied, ...limit.stats.refused };
    },
  };
  return Object.assign(handle, { streams, stats, limit, keepalive });
}

// ── reading a request ─────────────────────────────────────────────────────────────────────────────────────

interface Target {
  readonly query: URLSearchParams;
  /** The segment of the path below `path`, decoded. */
  readonly segment: string | undefined;
}

/** Returns `undefined` for a path that is not answered here. */
function readTarget({ url = '' }: IncomingMessage, path: string | undefined): Target | undefined {
  const [pathname = ''] = url.split(/[?#]/, 1);
  const query = new URLSearchParams(url.slice(pathname.length));
  if (path === undefined || pathname === path) return { query, segment: undefined };
  if (!pathname.startsWith(`${path}/`)) return undefined;
  const segment = pathname.slice(path.length + 1);
  return segment === '' || segment.includes('/') ? undefined : { query, segment: decodeSegment(segment) };
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

function checkRequest({ method, headers: { accept } }: IncomingMessage): void {
  if (method !== 'GET' && method !== 'HEAD') throw httpError(METHOD_NOT_ALLOWED);
  if (accept === undefined || /text\/event-stream|text\/\*|\*\/\*/i.test(accept)) return;
  throw httpError(NOT_ACCEPTABLE);
}

function checkTopics(names: readonly string[], maxTopics: number): readonly string[] {
  if (names.length === 0) throw httpError(TOPIC_MISSING);
  if (names.length > maxTopics) {
    const message = `A stream follows at most ${maxTopics} topics, not ${names.length}.`;
    throw httpError({ status: 400, error: 'too-many-topics', message });
  }
  if (names.every((name) => isTopic(name))) return names;
  throw httpError({ status: 400, error: 'malformed-topic', message: `A topic is ${topicRule}.` });
}

/** Reads where delivery begins. */
function readPosition({ headers }: IncomingMessage, query: URLSearchParams): SubscribeOptions {
  const from = query.get('from') ?? undefined;
  if (from !== undefined && from !== 'earliest' && from !== 'now') {
    throw httpError({ status: 400, error: 'malformed-query', message: '`from` is "earliest" or "now".' });
  }
  const last = query.get('last') ?? undefined;
  if (last !== undefined && !/^\d{1,9}$/.test(last)) {
    throw httpError({
      status: 400,
      error: 'malformed-query',
      message: '`last` is a whole number, such as 10.',
    });
  }
  return {
    lastEventId: headers['last-event-id'] ?? query.get('lastEventId') ?? undefined,
    from,
    last: last === undefined ? undefined : Number(last),
    conflate: ['1', 'true'].includes(query.get('conflate') ?? ''),
  };
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
  const age = maxAge * (1 + maxAgeJitter * (2 * Math.random() - 1));
  return { maxAge: Math.min(Math.max(0, left), age, MAX_TIMEOUT), maxAgeJitter: 0 };
}

const MAX_TIMEOUT = 2 ** 31 - 1;

// ── answers ───────────────────────────────────────────────────────────────────────────────────────────────

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
const TOPIC_MISSING: Problem = {
  status: 400,
  error: 'topic-missing',
  message: 'Name a topic: ?topic=NAME, once for each topic.',
};
const UNAUTHORIZED: Problem = {
  status: 401,
  error: 'unauthorized',
  message: 'Send credentials that are valid here.',
};
const FORBIDDEN: Problem = { status: 403, error: 'forbidden', message: 'You may not read this topic.' };
