// The reference server: a hub behind HTTP, both journeys on one screen.
// Needs `adaptive.ts`, `auth.ts`, `body.ts`, `compose.ts`, `cors.ts`, `guard.ts`, `heartbeat.ts`, `hub.ts`,
// `instruments.ts`, `limiter.ts`, `metrics.ts`, `once.ts`, `page.ts`, `router.ts`, `shutdown.ts`,
// `stream.ts` and `writer.ts` beside it.

import { channel } from 'node:diagnostics_channel';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { PassThrough } from 'node:stream';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { AdaptiveInterval, type AdaptiveOptions } from './adaptive.ts';
import { type Access, type Action, hasBearer, Tickets, type TokenPrincipal, tokenAccess } from './auth.ts';
import { readText } from './body.ts';
import { compose, type Middleware, requestValue } from './compose.ts';
import { cors } from './cors.ts';
import { guard } from './guard.ts';
import { Heartbeat, type HeartbeatGroup, type HeartbeatOptions, heartbeatProfiles } from './heartbeat.ts';
import { Hub, type HubEvent, type HubOptions, isTopic, type Subscription } from './hub.ts';
import { instrument } from './instruments.ts';
import { addressGroup, clientAddress, type LimitOptions, limitConnections } from './limiter.ts';
import { metricsContentType, Registry, registerProcess } from './metrics.ts';
import { Once } from './idempotency.ts';
import { contentSecurityPolicy, page } from './dashboard/dashboard.ts';
import { type Params, Router } from './router.ts';
import { type ShutdownOptions, type ShutdownOutcome, shutdown, trackConnections } from './shutdown.ts';
import { type EventStream, isStreaming, openStream, type SharedChunk, type StreamOptions } from './stream.ts';
import { Writer } from './writer.ts';

export interface SseServerOptions<Principal = unknown> {
  /** A hub of one's own, or how to make one. */
  hub?: Hub | HubOptions | undefined;
  /** For every stream: deadlines and bounds; see `openStream`. */
  stream?: StreamOptions | undefined;
  /** When quiet streams are sent a comment; see `Heartbeat`. `false`: never. Told to clients in `sluice:ready`. */
  heartbeat?: ServerHeartbeat | false | undefined;
  /** The names this server answers to; default: those of loopback for connections over it, else any. See `guard`. */
  hosts?: readonly string[] | undefined;
  /** The origins of other sites whose pages may read and publish; default none. See `cors`. */
  origins?: readonly string[] | undefined;
  /** Whether those pages may send cookies; default no. */
  credentials?: boolean | undefined;
  /** Who may publish and end topics: the bearers of these; without any, everybody while bound to loopback, else nobody. */
  publishTokens?: readonly string[] | undefined;
  /** Who may subscribe: the bearers of these, or of those; without any, everybody. */
  subscribeTokens?: readonly string[] | undefined;
  /** Who may read `/metrics`: the bearers of these; without any, everybody while bound to loopback, else nobody. */
  metricsTokens?: readonly string[] | undefined;
  /** Decides instead of the tokens. A principal with `expiresAt` (milliseconds since 1970) has its streams end then. */
  access?: Access<Principal, IncomingMessage> | undefined;
  /** How many streams there may be, in all and of one client, and how fast they may be opened; see `limitConnections`. */
  limits?: Omit<LimitOptions<IncomingMessage>, 'topics' | 'onRefuse'> | undefined;
  /** Most bytes of a published body; default 1 MiB. */
  maxBodyBytes?: number | undefined;
  /** Most topics that one stream may follow; default 64. */
  maxTopicsPerStream?: number | undefined;
  /** Gets what happens, as objects ready for JSON, without secrets; by default nothing is logged. */
  log?: ((line: LogLine) => void) | undefined;
}

export interface ServerHeartbeat extends HeartbeatOptions<EventStream> {
  /** Interval and missed beats for one kind of network; see `heartbeatProfiles`. */
  profile?: keyof typeof heartbeatProfiles | undefined;
  /** How many beats may fail to come before a client gives the connection up; default 2. */
  missed?: number | undefined;
  /** Learns for each group of addresses at what silence connections die; see `AdaptiveInterval`. */
  adaptive?: AdaptiveOptions | true | undefined;
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
  /** What `/metrics` shows; add families of your own. */
  readonly registry: Registry;
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
export function createSseServer<Principal = unknown>(options: SseServerOptions<Principal> = {}): SseServer {
  const { maxBodyBytes = 1024 * 1024, maxTopicsPerStream = 64, origins = [], log = () => {} } = options;
  const { publishTokens, subscribeTokens } = options;
  // Found now, not by the first client.
  new Writer(new PassThrough(), options.stream).abort();
  const registry = new Registry({
    onError: (error, { family }) =>
      log({ level: 'error', event: 'metric-failed', family, message: String(error) }),
  });
  const latency = registry.histogram(
    'sluice_publish_latency_seconds',
    'From publishing to the sockets.',
    LATENCIES,
  );
  const onDelivered = (milliseconds: number) => latency.observe(milliseconds / 1000);
  const hub = isHub(options.hub) ? options.hub : new Hub({ onDelivered, ...options.hub });
  const publishIsOpen = () => isLoopback(server);
  const access: Access<unknown, IncomingMessage> =
    (options.access as Access<unknown, IncomingMessage>) ??
    tokenAccess({ publishTokens, subscribeTokens, publishIsOpen });
  const tickets = new Tickets<unknown>();
  const published = new Once<{ id: string } | { ids: string[] }>();
  const pulse = options.heartbeat === false ? undefined : createPulse(options.heartbeat);
  const streams = new Set<EventStream>();
  const asked = requestValue<readonly string[]>();
  const refused = ({ reason, status, req }: { reason: string; status: number; req: unknown }) => {
    if (refuseChannel.hasSubscribers) refuseChannel.publish({ reason, status, req });
    log({ level: 'warn', event: 'refused', reason, status });
  };
  const limit = limitConnections<IncomingMessage>({
    ...options.limits,
    topics: (req) => asked.get(req) ?? [],
    onRefuse: refused,
  });
  const denied = { unauthorized: 0, forbidden: 0 };
  const closed: Record<string, number> = {};
  let opened = 0;
  let isDraining = false;
  let stopMeasuring: (() => void) | undefined;

  // ── the journey of an event: request → text → hub ─────────────────────────────────────────────────────

  async function publish({ req, res, topic, query }: Call): Promise<void> {
    const name = topic();
    await admit(req, 'publish', [name]);
    const fields = { event: query.get('event') ?? undefined, key: query.get('key') ?? undefined };
    const batch = eventsOf(req.headers['content-type'], await readText(req, maxBodyBytes), fields);
    const key = retryKey(req, name);
    const send = () => publishAll(name, batch);
    answer(res, 200, await (key === undefined ? send() : published.run(key, send)));
  }

  async function publishAll(
    topic: string,
    batch: HubEvent | readonly HubEvent[],
  ): Promise<{ id: string } | { ids: string[] }> {
    if (!isList(batch)) return { id: publishTo(hub, topic, batch) };
    const ids: string[] = [];
    for (const event of batch) {
      ids.push(publishTo(hub, topic, event));
      // A long batch reaches its readers while it is published, and lets others have their turns.
      if (ids.length % 1000 === 0) await nextTurn();
    }
    return { ids };
  }

  async function end({ req, res, topic }: Call): Promise<void> {
    const name = topic();
    await admit(req, 'publish', [name]);
    if (!hub.end(name)) throw refusal(404, 'no_such_topic', `there is no topic "${name}" that could end`);
    res.writeHead(204).end();
  }

  // ── the journey of a request: topics → principal → stream → cursor ────────────────────────────────────

  async function events({ req, res, params, query }: Call): Promise<void> {
    const topics = followed(params, query, maxTopicsPerStream);
    if (!acceptsEvents(req)) throw refusal(406, 'not_acceptable', 'this is served as text/event-stream only');
    const principal = await admit(req, 'subscribe', topics, query.get('ticket'));
    if (isPipelined(req)) return void req.socket.destroy();
    asked.set(req, topics);
    await limit(req, res, () => follow({ req, res, params, query }, topics, principal));
  }

  function follow(
    { req, res, query }: Omit<Call, 'topic'>,
    topics: readonly string[],
    principal: unknown,
  ): void {
    const stream = openStream(req, res, { ...options.stream, ...untilExpiry(principal, options.stream) });
    if (stream.closed) return;
    const subscription = hub.subscribe(topics, stream, {
      lastEventId: req.headers['last-event-id'] ?? query.get('lastEventId') ?? undefined,
      conflate: ['1', 'true'].includes(query.get('conflate') ?? ''),
      announce: { heartbeat: pulse?.announced ?? null },
      may: options.access && ((topic) => access.may(principal, 'subscribe', topic)),
    });
    if (subscription === null) return stream.refuse(204);
    streams.add(stream);
    opened++;
    pulse?.heartbeat.add(stream, {
      beat: pulse.beatOf(subscription),
      group: pulse.groupOf(clientAddress(req, options.limits?.trustProxy ?? 0)),
    });
    // Not awaited: every frame on the way here would wait with it, and cost more than the stream itself.
    stream.on('close', () => forget(stream, topics));
  }

  function forget(stream: EventStream, topics: readonly string[]): void {
    const { reason = 'ended', bytesWritten: bytes } = stream;
    closed[reason] = (closed[reason] ?? 0) + 1;
    pulse?.heartbeat.delete(stream);
    streams.delete(stream);
    log({ level: 'info', event: 'stream-closed', reason, topics, bytes });
  }

  /** Who asks, if they may. A ticket stands for whoever fetched it. */
  async function admit(
    req: IncomingMessage,
    action: Action,
    topics: readonly string[],
    ticket: string | null = null,
  ): Promise<unknown> {
    const principal = await identify(req, ticket);
    const mayAll = principal !== undefined && topics.every((topic) => access.may(principal, action, topic));
    if (mayAll) return principal;
    const isKnown = principal !== undefined && req.headers.authorization !== undefined;
    if (isKnown || (action === 'publish' && !publishTokens?.length && !options.access)) {
      throw refusal(403, 'forbidden', `you may not ${action} here`);
    }
    throw unauthorized(action);
  }

  /** Whoever shows something that is good still. */
  async function identify(req: IncomingMessage, ticket: string | null = null): Promise<unknown> {
    const principal = ticket === null ? await access.authorize(req) : tickets.redeem(ticket);
    return expiryOf(principal) > Date.now() ? principal : undefined;
  }

  async function issueTicket({ req, res }: Call): Promise<void> {
    answer(res, 200, tickets.issue(await reader(req)));
  }

  /** What the asker may subscribe to, and no more than its names. */
  async function topics({ req, res }: Call): Promise<void> {
    const principal = await reader(req);
    const visible = hub.topics().filter(({ topic }) => access.may(principal, 'subscribe', topic));
    answer(res, 200, { topics: visible, position: hub.position });
  }

  async function position({ req, res }: Call): Promise<void> {
    await reader(req);
    answer(res, 200, { position: hub.position });
  }

  /** Who asks, if there is anything that they may read. */
  async function reader(req: IncomingMessage): Promise<unknown> {
    const principal = await identify(req);
    const isNobody = options.access === undefined && !(principal as TokenPrincipal | undefined)?.subscribe;
    if (principal === undefined || isNobody) throw unauthorized('read');
    return principal;
  }

  function metrics({ req, res }: Call): void {
    const { metricsTokens = [] } = options;
    const isOpen = metricsTokens.length === 0 && isLoopback(server);
    if (!isOpen && !hasBearer(req.headers.authorization, metricsTokens))
      throw unauthorized('read the metrics');
    // Measuring the event loop's delay takes a timer: only where somebody looks.
    stopMeasuring ??= registerProcess(registry);
    res
      .writeHead(200, { 'Content-Type': metricsContentType, 'Cache-Control': 'no-store' })
      .end(registry.render());
  }

  const router = new Router<Handler>()
    .add('GET', '/events', events)
    .add('GET', '/events/:topic', events)
    .add('POST', '/topics/:topic', publish)
    .add('DELETE', '/topics/:topic', end)
    .add('POST', '/tickets', issueTicket)
    .add('GET', '/topics', topics)
    .add('GET', '/position', position)
    .add('GET', '/healthz', ({ res }) => answer(res, 200, { status: 'ok' }))
    .add('GET', '/readyz', ({ res }) =>
      isDraining ? answer(res, 503, { status: 'draining' }) : answer(res, 200, { status: 'ready' }),
    )
    .add('GET', '/metrics', metrics)
    .add('GET', '/', ({ res }) => answerPage(res));

  const guarded = guard<IncomingMessage>({
    hosts: options.hosts,
    origins,
    // To the page and what it links to; a window that is sent to a stream would hold a permit.
    navigation: ({ url = '' }) => !url.startsWith('/events'),
    onRefuse: refused,
  });
  instrument(registry, {
    hub,
    streams,
    opened: () => opened,
    closed,
    refused: () => ({ ...guarded.refused, ...denied, ...limit.stats.refused }),
    limit,
    heartbeat: pulse && {
      sent: () => pulse.heartbeat.sent,
      skipped: () => pulse.heartbeat.skipped,
      intervals: pulse.intervals,
    },
    isDraining: () => isDraining,
  });
  const door: Step[] = [onePerConnection, guarded];
  if (origins.length > 0)
    door.push(
      cors({ origins, credentials: options.credentials, methods: ['GET', 'HEAD', 'POST', 'DELETE'] }),
    );
  const handler = compose<IncomingMessage, ServerResponse>([...door, dispatch(router)], {
    onError: (error, req, res) => {
      if (isRefusal(error) && isOneOf(denied, error.error)) {
        denied[error.error]++;
        refused({ reason: error.error, status: error.status, req });
      }
      fail(error, res, log);
    },
  });
  // 64 KiB on every Node: 20 has 16 KiB by default, and would report a slow reader four times as often.
  const server = createServer({ highWaterMark: 64 * 1024 }, handler);
  // Longer than proxies keep idle connections, lest one of them sends a request just as it is closed here.
  server.keepAliveTimeout = 65_000;
  trackConnections(server);

  function listen(port = 8080, host = '127.0.0.1'): Promise<string> {
    return new Promise((resolve, reject) => {
      server.once('error', reject);
      // So many may wait to be accepted, where the kernel allows it: a storm of returning clients is no attack.
      server.listen({ port, host, backlog: 4096 }, () => {
        server.off('error', reject);
        resolve(urlOf(server));
      });
    });
  }

  function close(how: CloseOptions = {}): Promise<ShutdownOutcome> {
    const onDraining = () => {
      isDraining = true;
      stopMeasuring?.();
    };
    return shutdown<EventStream>(server, { ...how, onDraining, streams, end: sendAway });
  }

  return { hub, server, streams, registry, listen, close };
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

/** By what it can do: another copy of the module may have made it. */
function isHub(hub: Hub | HubOptions | undefined): hub is Hub {
  return hub !== undefined && 'publish' in hub;
}

/** On `node:diagnostics_channel`: `{ reason, status, req }` for every request that is turned away at the door. */
const refuseChannel = channel('sluice:refuse');

/** Seconds. The clock counts whole milliseconds. */
const LATENCIES = [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5];

type Handler = (call: Call) => unknown;

type Step = Middleware<IncomingMessage, ServerResponse>;

// Requests on each connection that are not answered yet: more than one where a client pipelines.
const unanswered = new WeakMap<Socket, number>();

/** What comes on a connection behind a stream can never be answered, so there the connection ends. */
const onePerConnection: Step = (req, res, next) => {
  const { socket } = req;
  if (isStreaming(socket)) return socket.destroy();
  unanswered.set(socket, (unanswered.get(socket) ?? 0) + 1);
  res.on('close', answered);
  return next();
};

// One function for all, as `once` would make two for each.
function answered(this: ServerResponse): void {
  const { socket } = this.req;
  unanswered.set(socket, (unanswered.get(socket) ?? 1) - 1);
}

/** The same for what came while it was still being decided whether there is to be a stream. */
function isPipelined({ socket }: IncomingMessage): boolean {
  return (unanswered.get(socket) ?? 0) > 1;
}

function dispatch(router: Router<Handler>): Step {
  return (req, res) => {
    const target = req.url ?? '';
    const found = router.find(req.method ?? '', target);
    if (found.status !== 200) throw missed(found.status, found.allow);
    const { value: handler, params } = found;
    const query = new URLSearchParams(target.replace(/^[^?]*/, ''));
    return handler({ req, res, params, query, topic: () => checkTopic(params.topic ?? '') });
  };
}

function missed(status: 400 | 404 | 405, allow: readonly string[]): Refusal {
  if (status === 405)
    return refusal(405, 'method_not_allowed', `allowed: ${allow.join(', ')}`, { Allow: allow.join(', ') });
  if (status === 404) return refusal(404, 'not_found', 'there is nothing at this path');
  return refusal(400, 'malformed_path', 'the path cannot be read');
}

interface Pulse {
  readonly heartbeat: Heartbeat<EventStream>;
  /** What a client's watchdog needs to know: how often something comes at the least, and how often it may fail to. */
  readonly announced: { readonly interval: number; readonly missed: number };
  /** What a stream is sent; `undefined` where it is the same for all. */
  beatOf(subscription: Subscription): ((stream: EventStream) => unknown) | undefined;
  /** Whose experience decides the interval, where it adapts. */
  groupOf(address: string | undefined): HeartbeatGroup | undefined;
  /** Every interval in use, in milliseconds. */
  intervals(): number[];
}

function createPulse(options: ServerHeartbeat = {}): Pulse {
  const { profile, adaptive: learning, interval, missed, ...rest } = options;
  if (profile !== undefined && !Object.hasOwn(heartbeatProfiles, profile)) {
    throw new TypeError(
      `\`profile\` must be one of ${Object.keys(heartbeatProfiles).join(', ')}, got ${profile}`,
    );
  }
  const chosen = profile === undefined ? undefined : heartbeatProfiles[profile];
  // One that a client has brought about, not we: only that tells of the network.
  const isLost = (stream: EventStream) => stream.reason === 'client-gone';
  const positionBeat = createPositionBeat();
  const ownBeat = rest.event !== undefined || rest.beat !== undefined;
  const heartbeat = new Heartbeat<EventStream>({ interval: interval ?? chosen?.interval, isLost, ...rest });
  // Bounds that are wide enough for where it is to begin.
  const {
    minInterval = Math.min(5000, heartbeat.interval),
    maxInterval = Math.max(60_000, heartbeat.interval),
  } = learning === true ? {} : (learning ?? {});
  const learner =
    learning === undefined
      ? undefined
      : new AdaptiveInterval<string>({
          interval: heartbeat.interval,
          ...(learning === true ? {} : learning),
          minInterval,
          maxInterval,
        });
  const longest = learner === undefined ? heartbeat.interval : maxInterval;
  return {
    heartbeat,
    announced: { interval: longest, missed: missed ?? chosen?.missed ?? 2 },
    beatOf: (subscription) =>
      ownBeat ? undefined : (stream) => stream.writeShared(positionBeat(subscription)),
    groupOf: (address) => learner?.group(addressGroup(address ?? '')),
    intervals: () =>
      learner === undefined
        ? [heartbeat.interval]
        : Array.from(learner.intervals(), ([, learned]) => learned),
  };
}

/**
 * A comment, and the place up to which this stream has everything: on quiet topics it moves along with the hub,
 * so that a client which returns later is not told of a gap in what was never for it.
 */
function createPositionBeat(): (subscription: Subscription) => SharedChunk {
  let known = '';
  let beat = shared(':\n\n');
  // Most streams are at one place: they share the Buffer.
  return ({ position }) => {
    if (position !== known) beat = shared(`:\nid: ${position}\n\n`);
    known = position;
    return beat;
  };
}

function shared(text: string): SharedChunk {
  return { bytes: Buffer.from(text), made: undefined };
}

/** A permission that ends takes its stream with it, if nothing does before. */
function untilExpiry(
  principal: unknown,
  { maxAge = Infinity, maxAgeJitter = 0.1 }: StreamOptions = {},
): StreamOptions | undefined {
  const left = expiryOf(principal) - Date.now();
  if (left >= maxAge * (1 + maxAgeJitter)) return undefined;
  // The jitter is added here: a stream's own might take it beyond its permission.
  const age = maxAge * (1 + maxAgeJitter * (2 * Math.random() - 1));
  return { maxAge: Math.min(Math.max(0, left), age, MAX_TIMEOUT), maxAgeJitter: 0 };
}

/** Milliseconds since 1970; what cannot be compared with a time is over. */
function expiryOf(principal: unknown): number {
  return (principal as { readonly expiresAt?: number | null } | undefined)?.expiresAt ?? Infinity;
}

const MAX_TIMEOUT = 2 ** 31 - 1;

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

/** What tells a retry from a new request. The same key of somebody else, or for another topic, is another one. */
function retryKey({ headers }: IncomingMessage, topic: string): string | undefined {
  const key = headers['idempotency-key'];
  if (key === undefined) return undefined;
  if (key.length <= 200) return JSON.stringify([key, topic, headers.authorization]);
  throw refusal(400, 'malformed_key', 'an Idempotency-Key has at most 200 characters');
}

/** A body is one event; or one per line, as it is; or one per line, with a name and a key of its own. */
function eventsOf(type = '', text: string, fields: Omit<HubEvent, 'data'>): HubEvent | readonly HubEvent[] {
  const [mediaType = ''] = type.toLowerCase().split(/[;\s]/);
  if (mediaType === 'application/x-ndjson') return linesOf(text).map((data) => ({ ...fields, data }));
  if (mediaType === 'application/vnd.sluice+ndjson')
    return linesOf(text).map((line) => ({ ...fields, ...readEvent(line) }));
  return { ...fields, data: text };
}

function linesOf(text: string): string[] {
  return text.split(/\r?\n/).filter((line) => line !== '');
}

function readEvent(line: string): HubEvent {
  const value = parseJson(line);
  if (typeof value === 'string') return { data: value };
  const { data, event, key } = Object(value) as Record<string, unknown>;
  if (data === undefined)
    throw refusal(
      400,
      'bad_event',
      `a line must be a JSON string or an object with data, got ${line.slice(0, 80)}`,
    );
  for (const [name, field] of Object.entries({ event, key })) {
    if (field !== undefined && typeof field !== 'string')
      throw refusal(400, 'bad_event', `\`${name}\` must be a string in ${line.slice(0, 80)}`);
  }
  const named = {
    ...(event !== undefined && { event: event as string }),
    ...(key !== undefined && { key: key as string }),
  };
  return { ...named, data: typeof data === 'string' ? data : JSON.stringify(data) };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function isList<T>(value: T | readonly T[]): value is readonly T[] {
  return Array.isArray(value);
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

function unauthorized(wish: string): Refusal {
  const message = `to ${wish} here, send \`Authorization: Bearer <token>\``;
  return refusal(401, 'unauthorized', message, { 'WWW-Authenticate': 'Bearer' });
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

function isOneOf<Name extends string>(counts: Readonly<Record<Name, number>>, name: string): name is Name {
  return Object.hasOwn(counts, name);
}

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
