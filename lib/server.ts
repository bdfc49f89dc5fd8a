// The reference server: a hub behind HTTP, both journeys on one screen.
// Needs `auth.ts`, `body.ts`, `compose.ts`, `hub.ts`, `page.ts`, `router.ts`, `shutdown.ts` and `stream.ts` beside it.

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { hasBearer } from './auth.ts';
import { readText } from './body.ts';
import { compose, type Middleware } from './compose.ts';
import { Hub, type HubEvent, type HubOptions, isTopic } from './hub.ts';
import { contentSecurityPolicy, page } from './page.ts';
import { type Params, Router } from './router.ts';
import { type ShutdownOptions, type ShutdownOutcome, shutdown, trackConnections } from './shutdown.ts';
import { type EventStream, isStreaming, openStream, type StreamOptions } from './stream.ts';

export interface SseServerOptions {
  /** A hub of one's own, or how to make one. */
  hub?: Hub | HubOptions | undefined;
  /** For every stream: deadlines and bounds; see `openStream`. */
  stream?: StreamOptions | undefined;
  /** Whoever publishes or ends topics must show one of these. Without any, only a server bound to loopback lets them. */
  publishTokens?: readonly string[] | undefined;
  /** Most bytes of a published body; default 1 MiB. */
  maxBodyBytes?: number | undefined;
  /** Most topics that one stream may follow; default 64. */
  maxTopicsPerStream?: number | undefined;
  /** Gets what happens, as objects ready for JSON; by default nothing is logged. */
  log?: ((line: LogLine) => void) | undefined;
}

export interface LogLine {
  readonly level: 'info' | 'warn' | 'error';
  readonly event: string;
  readonly [detail: string]: unknown;
}

export interface SseServer {
  readonly hub: Hub;
  readonly server: Server;
  /** The streams that are open. */
  readonly streams: ReadonlySet<EventStream>;
  /**
   * Starts to accept connections, by default on port 8080 of 127.0.0.1; resolves with the URL once it does.
   * @throws what the system says: `EADDRINUSE`, `EACCES`, …
   */
  listen(port?: number, host?: string): Promise<string>;
  /**
   * Stops gracefully: `/readyz` answers 503, no connection is accepted, every stream is told when to come back and
   * ends, and what is left at the deadline is cut. Resolves with what happened; called again, with the same.
   */
  close(options?: CloseOptions): Promise<ShutdownOutcome>;
}

/** See `shutdown` for what each does; its defaults hold. */
export type CloseOptions = Pick<
  ShutdownOptions,
  'mode' | 'window' | 'retry' | 'retrySpread' | 'deadline' | 'signal'
>;

/**
 * Makes the server; `listen` starts it.
 *
 * @throws {TypeError | RangeError} naming the option that cannot be used.
 */
export function createSseServer(options: SseServerOptions = {}): SseServer {
  const { publishTokens = [], maxBodyBytes = 1024 * 1024, maxTopicsPerStream = 64, log = () => {} } = options;
  const hub = options.hub instanceof Hub ? options.hub : new Hub(options.hub);
  const streams = new Set<EventStream>();
  let isDraining = false;

  // ── the journey of an event: request → text → hub ─────────────────────────────────────────────────────

  async function publish({ req, res, topic, query }: Call): Promise<void> {
    mayPublish(req);
    const name = topic();
    const fields = { event: query.get('event') ?? undefined, key: query.get('key') ?? undefined };
    const text = await readText(req, maxBodyBytes);
    if (!isNdjson(req)) return answer(res, 200, { id: publishTo(hub, name, { ...fields, data: text }) });
    const ids: string[] = [];
    for (const data of text.split(/\r?\n/)) {
      if (data !== '') ids.push(publishTo(hub, name, { ...fields, data }));
      // A long batch reaches its readers while it is published, and lets others have their turns.
      if (ids.length % 500 === 0) await nextTurn();
    }
    answer(res, 200, { ids });
  }

  function end({ req, res, topic }: Call): void {
    mayPublish(req);
    const name = topic();
    if (!hub.end(name)) throw refusal(404, 'no_such_topic', `there is no topic "${name}" that could end`);
    res.writeHead(204).end();
  }

  function mayPublish(req: IncomingMessage): void {
    if (publishTokens.length === 0) {
      if (isLoopback(server)) return;
      throw refusal(
        403,
        'publishing_is_off',
        'publishing needs a token unless the server is bound to loopback',
      );
    }
    if (hasBearer(req.headers.authorization, publishTokens)) return;
    throw refusal(401, 'token_needed', 'publishing needs `Authorization: Bearer <token>`', {
      'WWW-Authenticate': 'Bearer',
    });
  }

  // ── the journey of a request: topics → stream → cursor ────────────────────────────────────────────────

  async function events({ req, res, params, query }: Call): Promise<void> {
    const topics = followed(params, query, maxTopicsPerStream);
    if (!acceptsEvents(req)) throw refusal(406, 'not_acceptable', 'this is served as text/event-stream only');
    const stream = openStream(req, res, options.stream);
    if (stream.closed) return;
    const lastEventId = req.headers['last-event-id'] ?? query.get('lastEventId') ?? undefined;
    const conflate = ['1', 'true'].includes(query.get('conflate') ?? '');
    if (hub.subscribe(topics, stream, { lastEventId, conflate }) === null) return stream.refuse(204);
    streams.add(stream);
    const reason = await stream.done;
    streams.delete(stream);
    log({ level: 'info', event: 'stream-closed', reason, topics, bytes: stream.bytesWritten });
  }

  const router = new Router<Handler>()
    .add('GET', '/events', events)
    .add('GET', '/events/:topic', events)
    .add('POST', '/topics/:topic', publish)
    .add('DELETE', '/topics/:topic', end)
    .add('GET', '/topics', ({ res }) => answer(res, 200, { topics: hub.topics(), position: hub.position }))
    .add('GET', '/position', ({ res }) => answer(res, 200, { position: hub.position }))
    .add('GET', '/healthz', ({ res }) => answer(res, 200, { status: 'ok' }))
    .add('GET', '/readyz', ({ res }) =>
      isDraining ? answer(res, 503, { status: 'draining' }) : answer(res, 200, { status: 'ready' }),
    )
    .add('GET', '/', ({ res }) => answerPage(res));

  const handler = compose<IncomingMessage, ServerResponse>([onePerConnection, dispatch(router)], {
    onError: (error, _req, res) => fail(error, res, log),
  });
  // 64 KiB on every Node: 20 has 16 KiB by default, and would report a slow reader four times as often.
  const server = createServer({ highWaterMark: 64 * 1024 }, handler);
  trackConnections(server);

  function listen(port = 8080, host = '127.0.0.1'): Promise<string> {
    return new Promise((resolve, reject) => {
      server.once('error', reject);
      server.listen(port, host, () => {
        server.off('error', reject);
        resolve(urlOf(server));
      });
    });
  }

  function close(how: CloseOptions = {}): Promise<ShutdownOutcome> {
    const onDraining = () => {
      isDraining = true;
    };
    return shutdown<EventStream>(server, { ...how, onDraining, streams, end: sendAway });
  }

  return { hub, server, streams, listen, close };
}

// ── requests ────────────────────────────────────────────────────────────────────────────────────────────

interface Call {
  readonly req: IncomingMessage;
  readonly res: ServerResponse;
  readonly params: Params;
  readonly query: URLSearchParams;
  /** The topic in the path. @throws a refusal when it cannot be one. */
  topic(): string;
}

type Handler = (call: Call) => unknown;

type Step = Middleware<IncomingMessage, ServerResponse>;

/** What comes on a connection behind a stream can never be answered. */
const onePerConnection: Step = (req, _res, next) => {
  if (isStreaming(req.socket)) return req.socket.destroy();
  return next();
};

function dispatch(router: Router<Handler>): Step {
  return (req, res) => {
    const target = req.url ?? '';
    const found = router.find(req.method ?? '', target);
    if (found.status !== 200) throw missed(found.status, found.allow);
    const { value: handler, params } = found;
    const query = new URLSearchParams(target.split('?', 2)[1]);
    return handler({ req, res, params, query, topic: () => checkTopic(params.topic ?? '') });
  };
}

function missed(status: 400 | 404 | 405, allow: readonly string[]): Refusal {
  if (status === 405)
    return refusal(405, 'method_not_allowed', `allowed: ${allow.join(', ')}`, { Allow: allow.join(', ') });
  if (status === 404) return refusal(404, 'not_found', 'there is nothing at this path');
  return refusal(400, 'malformed_path', 'the path cannot be read');
}

function sendAway(stream: EventStream, { retry }: { retry: number }): void {
  stream.send({ retry });
  stream.end('shutdown');
}

function followed(params: Params, query: URLSearchParams, most: number): string[] {
  const topics =
    params.topic === undefined ? query.getAll('topic') : [params.topic, ...query.getAll('topic')];
  if (topics.length === 0) throw refusal(400, 'topic_missing', 'name a topic: /events?topic=… or /events/…');
  if (topics.length > most)
    throw refusal(400, 'too_many_topics', `a stream may follow ${most} topics, not ${topics.length}`);
  return topics.map(checkTopic);
}

function checkTopic(name: string): string {
  if (isTopic(name)) return name;
  throw refusal(400, 'malformed_topic', 'a topic is 1 to 200 characters of A–Z a–z 0–9 . _ ~ : -');
}

function publishTo(hub: Hub, topic: string, event: HubEvent): string {
  try {
    return hub.publish(topic, event);
  } catch (error) {
    // Only here are these the client's: anywhere else they would be ours.
    if (error instanceof TypeError) throw refusal(400, 'bad_event', error.message);
    if (error instanceof RangeError) throw refusal(413, 'event_too_large', error.message);
    throw error;
  }
}

function acceptsEvents(req: IncomingMessage): boolean {
  const { accept } = req.headers;
  return accept === undefined || /text\/event-stream|text\/\*|\*\/\*/i.test(accept);
}

function isNdjson(req: IncomingMessage): boolean {
  return /^application\/x-ndjson\b/i.test(req.headers['content-type'] ?? '');
}

// ── answers ─────────────────────────────────────────────────────────────────────────────────────────────

interface Refusal extends Error {
  readonly status: number;
  readonly error: string;
  readonly headers: Readonly<Record<string, string>>;
}

function refusal(
  status: number,
  error: string,
  message: string,
  headers: Readonly<Record<string, string>> = {},
): Refusal {
  return Object.assign(new Error(message), { status, error, headers });
}

function answer(
  res: ServerResponse,
  status: number,
  body: unknown,
  headers: Readonly<Record<string, string>> = {},
): void {
  const text = `${JSON.stringify(body)}\n`;
  const type = {
    'Content-Type': 'application/json',
    'Cache-Control': 'no-store',
    'X-Content-Type-Options': 'nosniff',
  };
  res.writeHead(status, { ...type, ...headers, 'Content-Length': Buffer.byteLength(text) }).end(text);
}

function answerPage(res: ServerResponse): void {
  res.writeHead(200, {
    'Content-Type': 'text/html; charset=utf-8',
    'Content-Security-Policy': contentSecurityPolicy,
    'X-Content-Type-Options': 'nosniff',
    'Referrer-Policy': 'no-referrer',
    'Cache-Control': 'no-cache',
  });
  res.end(page);
}

/** One JSON error while nothing was sent; afterwards only the connection can tell. */
function fail(error: unknown, res: ServerResponse, log: (line: LogLine) => void): void {
  const known = asRefusal(error);
  if (!isRefusal(known))
    log({ level: 'error', event: 'failed', message: String((error as Error)?.stack ?? error) });
  if (res.headersSent) return void res.destroy();
  const { status, error: name, message, headers } = isRefusal(known) ? known : INTERNAL;
  answer(res, status, { error: name, message }, headers);
}

const INTERNAL = refusal(500, 'internal', 'this went wrong here, and is in the log');

/** What a client is to be told of an error that is of its making, or of the hub's state. Any other is as it was. */
function asRefusal(error: unknown): unknown {
  if (!(error instanceof Error) || isRefusal(error)) return error;
  const { message, code, status } = error as Error & { code?: string; status?: number };
  if (code === 'ERR_SSE_BODY') return refusal(status ?? 400, BODY_ERRORS[status ?? 400] ?? '', message);
  if (code === 'ERR_SSE_TOPIC_ENDED') return refusal(409, 'topic_ended', message);
  if (code === 'ERR_SSE_TOO_MANY_TOPICS')
    return refusal(503, 'too_many_topics', message, { 'Retry-After': '10' });
  return error;
}

const BODY_ERRORS: Readonly<Record<number, string>> = {
  400: 'malformed_body',
  411: 'length_required',
  413: 'body_too_large',
  415: 'unsupported_body',
};

function isRefusal(error: unknown): error is Refusal {
  return error instanceof Error && 'error' in error && 'headers' in error;
}

// ── addresses ───────────────────────────────────────────────────────────────────────────────────────────

function isLoopback(server: Server): boolean {
  const { address } = (server.address() ?? { address: '' }) as AddressInfo;
  return address === '::1' || address.startsWith('127.') || address.startsWith('::ffff:127.');
}

function urlOf(server: Server): string {
  const { address, family, port } = server.address() as AddressInfo;
  return `http://${family === 'IPv6' ? `[${address}]` : address}:${port}`;
}
