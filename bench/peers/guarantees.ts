// What each server takes upon itself, beside what it costs: speed alone compares unlike things. Features as their own
// documentation and source have them, in the versions of package-lock.json and Debian 12.

/**
 * `by the application`: there is a part made for it, as a hook, a value or a method, and the application does the rest.
 * `no`: there is none, which says nothing about what an application can build itself.
 */
export type Guarantee = 'yes' | 'no' | 'by the application';

export interface Guarantees {
  /** A client that returns with `Last-Event-ID` gets what it missed. */
  readonly resume: Guarantee;
  /** It is told when some of that is no longer there. */
  readonly gap: Guarantee;
  /** What produces for one client waits while its socket is full. */
  readonly drain: Guarantee;
  /** What waits in the process for one slow client is bounded. */
  readonly bound: Guarantee;
  readonly heartbeat: Guarantee;
  /** One stream follows several topics. */
  readonly topics: Guarantee;
  /** A stream ends when its client takes nothing for too long, or at a certain age. */
  readonly deadlines: Guarantee;
  /** How many connections there may be, in all or of one client. */
  readonly limits: Guarantee;
  /** Streams are ended at shutdown, and told when to return. */
  readonly shutdown: Guarantee;
  /** An event is compressed once for all clients. */
  readonly compression: Guarantee;
  /** Where this is from. */
  readonly source: string;
}

/** How each is called in tables. */
export const guaranteeTitles: Readonly<Record<Exclude<keyof Guarantees, 'source'>, string>> = {
  resume: 'resume by Last-Event-ID',
  gap: 'gap told',
  drain: 'waits for drain',
  bound: 'bound per slow client',
  heartbeat: 'heartbeat',
  topics: 'several topics per stream',
  deadlines: 'deadlines',
  limits: 'connection limits',
  shutdown: 'shutdown with retry',
  compression: 'compressed once for all',
};

const none = {
  resume: 'no',
  gap: 'no',
  drain: 'no',
  bound: 'no',
  heartbeat: 'no',
  topics: 'no',
  deadlines: 'no',
  limits: 'no',
  shutdown: 'no',
  compression: 'no',
} as const;

const sluice: Guarantees = {
  resume: 'yes',
  gap: 'yes',
  drain: 'yes',
  bound: 'yes',
  heartbeat: 'yes',
  topics: 'yes',
  deadlines: 'yes',
  limits: 'yes',
  shutdown: 'yes',
  compression: 'yes',
  source: 'lib/hub.ts, writer.ts, stream.ts, heartbeat.ts, limiter.ts, shutdown.ts, gzip.ts',
};

export const guarantees: Readonly<Record<string, Guarantees>> = {
  sluice,
  // The same, behind the reference server.
  server: sluice,
  socket: { ...none, source: 'bench/peers/socket.ts' },
  zlib: { ...none, drain: 'no', source: 'bench/peers/zlib.ts' },
  // It waits for a client that is full, and all others with it.
  floor: { ...none, drain: 'yes', bound: 'yes', source: 'bench/floors/floor.c' },
  // `res.write` tells when the socket is full; the loop does not ask.
  raw: { ...none, source: 'bench/peers/raw.ts' },
  'better-sse': {
    ...none,
    // `session.lastId`.
    resume: 'by the application',
    // `keepAlive`, 10 s by default.
    heartbeat: 'yes',
    // A session may be registered with several channels.
    topics: 'yes',
    source: 'https://matthewwid.github.io/better-sse/reference/api/',
  },
  'sse-channel': {
    ...none,
    // `historySize`, for messages that the application gives an id.
    resume: 'yes',
    // `pingInterval`, 20 s by default.
    heartbeat: 'yes',
    // `getConnectionCount()`.
    limits: 'by the application',
    // `retry(duration)` and `close()`.
    shutdown: 'by the application',
    source: 'https://github.com/rexxars/sse-channel#readme',
  },
  hono: {
    ...none,
    // `id` of a message.
    resume: 'by the application',
    // `await stream.writeSSE(…)`.
    drain: 'yes',
    // `retry` of a message and `stream.close()`.
    shutdown: 'by the application',
    source: 'https://hono.dev/docs/helpers/streaming',
  },
  fastify: {
    ...none,
    // `reply.sse.replay(callback)`.
    resume: 'by the application',
    // `await reply.sse.send(…)`.
    drain: 'yes',
    // `heartbeatInterval`, 30 s by default.
    heartbeat: 'yes',
    // `retry` of a message and `reply.sse.close()`.
    shutdown: 'by the application',
    source: 'https://github.com/fastify/sse#readme',
  },
  h3: {
    ...none,
    // `id` of a message.
    resume: 'by the application',
    // `await stream.push(…)`.
    drain: 'yes',
    // `stream.pushComment(…)`.
    heartbeat: 'by the application',
    // `retry` of a message and `stream.close()`.
    shutdown: 'by the application',
    source: 'https://h3.dev/utils/response#server-sent-events',
  },
  uwebsockets: {
    ...none,
    // `write` answers, `onWritable` calls.
    drain: 'by the application',
    // `getWriteOffset()` and `close()`.
    bound: 'by the application',
    source: 'https://unetworking.github.io/uWebSockets.js/generated/interfaces/HttpResponse.html',
  },
  gin: {
    ...none,
    // `Id` of an `sse.Event`.
    resume: 'by the application',
    // `Flush` returns when the socket has taken all.
    drain: 'yes',
    // The capacity of its channel, and what is done when that is full.
    bound: 'by the application',
    // `http.Server` has `WriteTimeout`.
    deadlines: 'by the application',
    // `http.Server` has `Shutdown`, an `sse.Event` has `Retry`.
    shutdown: 'by the application',
    source: 'https://pkg.go.dev/github.com/gin-gonic/gin#Context.Stream',
  },
  nchan: {
    ...none,
    // `nchan_message_buffer_length`, 10 by default, and `nchan_message_timeout`.
    resume: 'yes',
    // `nchan_eventsource_ping_interval`, off by default.
    heartbeat: 'yes',
    // `nchan_channel_id` with several ids.
    topics: 'yes',
    // `send_timeout` of nginx, `nchan_subscriber_timeout`.
    deadlines: 'yes',
    // `nchan_max_channel_subscribers`, `worker_connections` and `limit_conn` of nginx.
    limits: 'yes',
    source: 'https://nchan.io/#directives',
  },
};
