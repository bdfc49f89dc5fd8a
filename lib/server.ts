// The reference server: a hub behind HTTP.
// Needs `address.ts`, `auth.ts`, `compose.ts`, `cors.ts`, `dashboard/dashboard.ts`, `events.ts`, `guard.ts`,
// `hub.ts`, `instruments.ts`, `keepalive.ts`, `limiter.ts`, `metrics.ts`, `openapi.ts`, `permissions.ts`,
// `pipelining.ts`, `problem.ts`, `recent.ts`, `router.ts`, `server-description.ts`, `shutdown.ts`, `stream.ts`,
// `target.ts` and `topics.ts` beside it.

import { channel } from 'node:diagnostics_channel';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { isLoopback } from './address.ts';
import { type Access, checkTokens, hasBearer, tokenAccess } from './auth.ts';
import { compose, type Middleware } from './compose.ts';
import { cors } from './cors.ts';
import { serveDashboard } from './dashboard/dashboard.ts';
import { type EventsRefusal, type EventsStream, serveEvents } from './events.ts';
import { guard } from './guard.ts';
import { Hub, type HubOptions } from './hub.ts';
import { instrument } from './instruments.ts';
import type { KeepaliveOptions } from './keepalive.ts';
import type { LimitOptions } from './limiter.ts';
import { metricsContentType, Registry, registerProcess } from './metrics.ts';
import type { DescribedEvents } from './openapi.ts';
import { Permissions, type TicketStore, unauthorized } from './permissions.ts';
import { limitPipelining } from './pipelining.ts';
import { answerError, httpError, type Problem, problemOf, sendJson } from './problem.ts';
import { Recent } from './recent.ts';
import { type Missed, type Params, Router } from './router.ts';
import { type RouteName, serveDescription } from './server-description.ts';
import { type ShutdownOptions, type ShutdownOutcome, shutdown, trackConnections } from './shutdown.ts';
import { type EventStream, isStreaming, type StreamOptions } from './stream.ts';
import { splitTarget } from './target.ts';
import { createTopicHandlers } from './topics.ts';

export interface SseServerOptions<Principal = unknown> {
  /** Your own hub, or the options of one that is created. */
  hub?: Hub | HubOptions | undefined;
  /** For every stream: deadlines, bounds, headers, compression; see `openStream`. */
  stream?: StreamOptions | undefined;
  /** When quiet streams get a heartbeat; `false`: never. See `serveEvents`. */
  heartbeat?: KeepaliveOptions<EventStream> | false | undefined;
  /**
   * The names that this server answers to; default: loopback names for connections over loopback, else any
   * name. See `guard`.
   */
  hosts?: readonly string[] | undefined;
  /** The origins of other sites whose pages may read and publish; default none. See `cors`. */
  origins?: readonly string[] | undefined;
  /** Whether those pages may send cookies; default false. */
  credentials?: boolean | undefined;
  /**
   * Tokens that allow publishing and ending topics. Without any, everybody may while bound to loopback, else
   * nobody.
   */
  publishTokens?: readonly string[] | undefined;
  /** Tokens that allow subscribing, as the publish tokens do. Without any, everybody may. */
  subscribeTokens?: readonly string[] | undefined;
  /**
   * Tokens that allow reading `/metrics` and `/metrics/recent`. Without any, everybody may while bound to loopback,
   * else nobody.
   */
  metricsTokens?: readonly string[] | undefined;
  /**
   * Decides in place of the tokens. The streams of a principal with `expiresAt` (milliseconds since 1970) end
   * at that time.
   */
  access?: Access<Principal, IncomingMessage> | undefined;
  /** Most streams, in all and of one client, and how fast they may be opened; see `limitConnections`. */
  limits?: Omit<LimitOptions<IncomingMessage>, 'topics' | 'onRefuse'> | undefined;
  /** Most bytes of a published body; default 1 MiB. */
  maxBodyBytes?: number | undefined;
  /** Most topics that one stream may follow; default 64. */
  maxTopicsPerStream?: number | undefined;
  /** Returns members to add to the body of `/readyz`, which everybody may read. */
  readiness?: (() => object) | undefined;
  /** Where tickets are kept; default in this process. For several processes behind one port. */
  tickets?: TicketStore | undefined;
  /** Makes the page of `/metrics`, by default that of this process, which `render` returns. */
  metricsPage?: ((render: () => string) => string | Promise<string>) | undefined;
  /** Called with each line of the log, ready for JSON and without secrets; by default nothing is logged. */
  logger?: ((line: LogLine) => void) | undefined;
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
  /** The metrics of `/metrics`; add your own families. */
  readonly registry: Registry;
  /**
   * Starts to accept connections, by default on port 8080 of 127.0.0.1. Resolves with the URL once it does.
   * @throws the system's error: `EADDRINUSE`, `EACCES`, and so on; `ERR_SSE_CLOSED` where `close` is called
   *   before.
   */
  listen(port?: number, host?: string): Promise<string>;
  /**
   * Stops gracefully: `/readyz` answers 503, no connection is accepted, every stream gets a `retry` and ends,
   * and connections that remain at the deadline are cut. Resolves with the outcome once the hub is closed
   * too, unless it is your own; a second call waits for the same outcome.
   */
  close(options?: CloseOptions): Promise<ShutdownOutcome>;
}

/** See `shutdown`; its defaults hold. */
export type CloseOptions = Pick<
  ShutdownOptions,
  'mode' | 'window' | 'retry' | 'retrySpread' | 'deadline' | 'signal'
>;

/** The argument of a route. */
interface Context {
  readonly req: IncomingMessage;
  readonly res: ServerResponse;
  readonly params: Params;
  readonly query: URLSearchParams;
}

type Route = (context: Context) => unknown;
type Step = Middleware<IncomingMessage, ServerResponse>;

/**
 * Creates the server; `listen` starts it.
 *
 * @throws {TypeError | RangeError} naming the option that cannot be used.
 */
export function createSseServer<Principal = unknown>(options: SseServerOptions<Principal> = {}): SseServer {
  const { maxBodyBytes = 1024 * 1024, origins = [], metricsTokens = [] } = options;
  if (!(typeof maxBodyBytes === 'number' && maxBodyBytes >= 0))
    throw new RangeError(`\`maxBodyBytes\` must be a number ≥ 0, got ${String(maxBodyBytes)}`);
  checkTokens('metricsTokens', metricsTokens);
  const logger = harmless(options.logger ?? (() => {}));
  const { metricsPage = (render) => render() } = options;
  const registry = new Registry({
    onError: (error, { family }) =>
      logger({ level: 'error', event: 'metric-failed', family, message: String(error) }),
  });
  const latency = registry.histogram(
    'sluice_publish_latency_seconds',
    'From publishing to the sockets.',
    LATENCIES,
  );
  const own = isHub(options.hub) ? undefined : options.hub;
  const hub = isHub(options.hub)
    ? options.hub
    : new Hub({
        onDelivered: (delivery) => latency.observe(delivery.latency / 1000),
        onError: (error, { task }) =>
          logger({ level: 'error', event: 'log-failed', task, message: String(error) }),
        ...own,
      });
  const permissions = permissionsOf(options, isLocal);
  let isDraining = false;
  // Kept, because each stream asks, and the answer takes a system call.
  let isBoundToLoopback = false;
  // A page that is made elsewhere has this registry in it, whether or not anybody asks here.
  let stopMeasuring = options.metricsPage && registerProcess(registry);

  const onRefuse = ({ reason, status, req }: EventsRefusal): void => {
    if (refuseChannel.hasSubscribers) refuseChannel.publish({ reason, status, req });
    logger({ level: 'warn', event: 'refused', reason, status });
  };
  const denied: Record<string, number> = { unauthorized: 0, forbidden: 0 };
  const events = serveEvents<unknown>(hub, {
    ...options.stream,
    path: '/events',
    maxTopics: options.maxTopicsPerStream,
    authorize: (req, { topics }) => permissions.admit(req, 'subscribe', topics, ticketOf(req)),
    may: options.access && ((principal, topic) => permissions.may(principal, 'subscribe', topic)),
    heartbeat: options.heartbeat,
    limits: options.limits,
    onRefuse,
    onClose: ({ stream, topics }) => logger(closedLine(stream, topics)),
    onError: (error) => logger(failedLine(error)),
  });
  const topics = createTopicHandlers(hub, permissions, maxBodyBytes);

  const description = serveDescription(() => ({
    events: describable(hub.events),
    maxTopics: options.maxTopicsPerStream,
    maxBodyBytes,
    tokens: {
      subscribe: options.access ? 'application' : isGiven(options.subscribeTokens),
      publish: options.access ? 'application' : isGiven(options.publishTokens) || !isLocal(),
      metrics: metricsTokens.length > 0 || !isLocal(),
    },
  }));
  const routes: Readonly<Record<RouteName, Route>> = {
    'GET /events': ({ req, res }) => events(req, res),
    'GET /events/:topic': ({ req, res }) => events(req, res),
    'POST /topics/:topic': topics.publish,
    'DELETE /topics/:topic': topics.end,
    'GET /topics': topics.list,
    'GET /position': topics.position,
    'POST /tickets': async ({ req, res }) => sendJson(res, 200, await permissions.issueTicket(req)),
    'GET /healthz': ({ res }) => sendJson(res, 200, { status: 'ok' }),
    'GET /readyz': ({ res }) =>
      sendJson(res, isDraining || hub.failure !== undefined ? 503 : 200, {
        status: isDraining ? 'draining' : hub.failure === undefined ? 'ready' : 'log-unavailable',
        ...(!isDraining && options.readiness?.()),
      }),
    'GET /metrics': metrics,
    'GET /metrics/recent': ({ req, res }) => {
      checkMetrics(req);
      sendJson(res, 200, recent.report());
    },
    'GET /openapi.json': description,
    'GET /': dashboard,
    'GET /dashboard/:file': dashboard,
  };
  const router = new Router<Route>();
  for (const [name, route] of Object.entries(routes)) {
    const [method = '', pattern = ''] = name.split(' ');
    router.add(method, pattern, route);
  }

  /** `false` before it listens. */
  function isLocal(): boolean {
    return server.listening && isBoundToLoopback;
  }

  function checkMetrics(req: IncomingMessage): void {
    const isOpen = metricsTokens.length === 0 && isLocal();
    if (!isOpen && !hasBearer(req.headers.authorization, metricsTokens))
      throw unauthorized('read the metrics');
  }

  async function metrics({ req, res }: Context): Promise<void> {
    checkMetrics(req);
    // Measuring the event loop's delay takes a timer: it starts with the first reader.
    stopMeasuring ??= registerProcess(registry);
    const text = await renderOnce();
    res.writeHead(200, { 'Content-Type': metricsContentType, 'Cache-Control': 'no-store' }).end(text);
  }

  let page: Promise<string> | undefined;
  /** Renders the metrics once a turn, or while others are asked, however many connections request them. */
  function renderOnce(): Promise<string> {
    if (page === undefined) {
      const forget = (): void => {
        page = undefined;
      };
      page = Promise.resolve(metricsPage(() => registry.render()));
      page.then(() => setImmediate(forget), forget);
    }
    return page;
  }

  const guarded = guard<IncomingMessage>({
    hosts: options.hosts,
    origins,
    // A link may lead to the dashboard; a window that navigates to a stream would hold a permit.
    navigation: ({ url }) => !isStreamPath(splitTarget(url)?.path),
    onRefuse,
  });
  const pipelining = limitPipelining({
    onRefuse: ({ reason, status, req }) => onRefuse({ reason, status, req: req as IncomingMessage }),
  });
  const checks: Step[] = [guarded];
  // Before all that can refuse: without its headers, a page cannot read a refusal.
  if (origins.length > 0)
    checks.unshift(cors({ origins, credentials: options.credentials, methods: METHODS }));
  const answer = compose<IncomingMessage, ServerResponse>([...checks, dispatch(router)], {
    onError: (error, { req, res }) => {
      const { status, error: reason } = problemOf(error);
      if (reason in denied) {
        denied[reason]!++;
        onRefuse({ reason, status, req });
      }
      if (status === 500) logger(failedLine(error));
      try {
        answerError(error, { res });
      } catch (failure) {
        // The error has headers that cannot be sent.
        logger(failedLine(failure));
        res.destroy();
      }
    },
  });
  const handler = (req: IncomingMessage, res: ServerResponse): void => {
    // A request behind a stream can never be answered.
    if (isStreaming(req.socket)) req.socket.destroy();
    else pipelining(req, res, () => answer(req, res));
  };
  // 64 KiB on every Node: the 16 KiB of Node 20 would report a slow reader four times as often.
  const server: Server = createServer({ highWaterMark: 64 * 1024 }, handler);
  // Longer than proxies keep idle connections, so that none sends a request on a connection that is just
  // being closed here.
  server.keepAliveTimeout = 65_000;
  // Node gives a request 300 s, in which its sender holds a body.
  server.requestTimeout = 60_000;
  const recent = recentOf(hub);
  server.on('listening', () => {
    isBoundToLoopback = isOnLoopback(server);
    recent.start();
  });
  server.on('close', () => recent.stop());
  trackConnections(server);
  const refused = (): Record<string, number> => ({
    ...guarded.refused,
    ...pipelining.refused,
    ...denied,
  });
  instrument(registry, { hub, events, refused, isDraining: () => isDraining });

  let closing: Promise<ShutdownOutcome> | undefined;
  async function close(how: CloseOptions = {}): Promise<ShutdownOutcome> {
    const onDraining = (): void => {
      isDraining = true;
      stopMeasuring?.();
    };
    const stopped = shutdown<EventStream>(server, { ...how, onDraining, streams: events.streams });
    // Kept, because the log of the hub may take its time to close.
    closing ??= stopped.then(async (outcome) => {
      // A hub of the application may live on.
      if (!isHub(options.hub)) await hub.close();
      return outcome;
    });
    return closing;
  }

  return {
    hub,
    server,
    streams: events.streams,
    registry,
    listen: async (port = 8080, host = '127.0.0.1') => {
      if (closing !== undefined) throw closedBefore();
      return listen(server, port, host);
    },
    close,
  };
}

/** The figures of `/metrics/recent`. */
function recentOf(hub: Hub): Recent {
  const { stats } = hub;
  const counts = { published: () => stats.published, delivered: () => stats.delivered };
  return new Recent({
    counts,
    levels: { streams: () => hub.size, memoryBytes: () => process.memoryUsage.rss() },
  });
}

/** Checks for a method, not for the class: another copy of the module may have created the hub. */
function isHub(hub: Hub | HubOptions | undefined): hub is Hub {
  return hub !== undefined && 'publish' in hub;
}

/** What checks events may be of another make than `defineEvents`, and then has no schemas to describe. */
function describable(events: object | undefined): DescribedEvents | undefined {
  return events !== undefined && 'jsonSchemaOf' in events ? (events as DescribedEvents) : undefined;
}

function isGiven(tokens: readonly string[] | undefined): boolean {
  return tokens !== undefined && tokens.length > 0;
}

function permissionsOf<Principal>(
  { access, publishTokens, subscribeTokens, tickets }: SseServerOptions<Principal>,
  publishIsOpen: () => boolean,
): Permissions {
  const chosen = access ?? tokenAccess({ publishTokens, subscribeTokens, publishIsOpen });
  const publishIsClosed = (): boolean => access === undefined && !publishTokens?.length;
  return new Permissions(chosen as Access<unknown, IncomingMessage>, publishIsClosed, tickets);
}

function ticketOf({ url }: IncomingMessage): string | null {
  return new URLSearchParams(splitTarget(url)?.query).get('ticket');
}

function isStreamPath(path = ''): boolean {
  return path === '/events' || path.startsWith('/events/');
}

/** On `node:diagnostics_channel`: `{ reason, status, req }` for every request that is refused. */
const refuseChannel = channel('sluice.server.refuse');

/** Seconds. The clock counts whole milliseconds. */
const LATENCIES = [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5];

function closedLine({ reason, bytesWritten }: EventStream, topics: EventsStream['topics']): LogLine {
  return { level: 'info', event: 'stream-closed', reason, topics, bytes: bytesWritten };
}

/** A logger that fails must not change what a client gets, nor end the process. Warns of its first failure. */
function harmless(logger: (line: LogLine) => unknown): (line: LogLine) => void {
  if (typeof logger !== 'function')
    throw new TypeError(
      `\`logger\` must be a function of a line, got ${logger === null ? 'null' : typeof logger}`,
    );
  let hasWarned = false;
  const failed = (error: unknown): void => {
    if (hasWarned) return;
    hasWarned = true;
    const detail = String((error as Error | undefined)?.stack ?? error);
    process.emitWarning('the `logger` has failed', { code: 'ERR_SSE_LOGGER_FAILED', detail });
  };
  return (line) => {
    try {
      const result = logger(line) as Partial<PromiseLike<unknown>> | undefined;
      if (typeof result?.then === 'function') result.then(undefined, failed);
    } catch (error) {
      failed(error);
    }
  };
}

function failedLine(error: unknown): LogLine {
  return { level: 'error', event: 'failed', message: String((error as Error)?.stack ?? error) };
}

// ── requests ──────────────────────────────────────────────────────────────────────────────────────────────

const METHODS = ['GET', 'HEAD', 'POST', 'DELETE'];

function dispatch(router: Router<Route>): Step {
  return (req, res) => {
    const target = req.url ?? '';
    if (req.method === 'OPTIONS' && target === '*')
      return res.writeHead(204, { Allow: METHODS.join(', ') }).end();
    const found = router.find(req.method ?? '', target);
    if (found.status !== 200) throw httpError(problemFor(found));
    const query = new URLSearchParams(splitTarget(target)?.query);
    return found.value({ req, res, params: found.params, query });
  };
}

function dashboard(context: Context): void {
  if (!serveDashboard(context, context.params.file)) throw httpError(problemFor({ status: 404, allow: [] }));
}

function problemFor({ status, allow }: Missed): Problem {
  const Allow = allow.join(', ');
  if (status === 405)
    return { status, error: 'method-not-allowed', message: `Allowed: ${Allow}.`, headers: { Allow } };
  if (status === 404) return { status, error: 'not-found', message: 'There is nothing at this path.' };
  return { status, error: 'malformed-path', message: 'The path cannot be read.' };
}

// ── addresses ─────────────────────────────────────────────────────────────────────────────────────────────

function closedBefore(): Error {
  return Object.assign(new Error('the server was closed before it could listen'), { code: 'ERR_SSE_CLOSED' });
}

function listen(server: Server, port: number, host: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const listening = (): void => settle(() => resolve(urlOf(server)));
    const failed = (error: Error): void => settle(() => reject(error));
    const closed = (): void => failed(closedBefore());
    const settle = (act: () => void): void => {
      server.off('listening', listening).off('error', failed).off('close', closed);
      act();
    };
    server.on('listening', listening).on('error', failed).on('close', closed);
    // Lets many returning clients wait to be accepted, as far as the kernel allows it.
    try {
      server.listen({ port, host, backlog: 4096 });
    } catch (error) {
      failed(error as Error);
    }
  });
}

/** Whether the server accepts connections from this machine alone; not so on a Unix socket. */
function isOnLoopback(server: Server): boolean {
  return isLoopback((server.address() as Partial<AddressInfo> | null)?.address);
}

function urlOf(server: Server): string {
  const { address, family, port } = server.address() as AddressInfo;
  return `http://${family === 'IPv6' ? `[${address}]` : address}:${port}`;
}
