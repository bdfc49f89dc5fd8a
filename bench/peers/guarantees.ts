// Lists what each server guarantees, because figures alone compare unlike things. Taken from each server's
// documentation and source, in the versions of package-lock.json and Debian 12.

/**
 * `by the application`: the server has a hook, a value or a method for it, and the application does the rest.
 * `no`: the server has nothing for it; an application may still build it.
 */
export type Guarantee = 'yes' | 'no' | 'by the application';

export interface Guarantees {
  /** A client that reconnects with `Last-Event-ID` gets the events that it missed. */
  readonly resume: Guarantee;
  /** The stream says when some of these are no longer available. */
  readonly gap: Guarantee;
  /** The producer for one client can wait while the client's socket is full. */
  readonly drain: Guarantee;
  /** The memory for one slow client is bounded. */
  readonly bound: Guarantee;
  readonly heartbeat: Guarantee;
  /** One stream follows several topics. */
  readonly topics: Guarantee;
  /** A stream ends when its client reads nothing for too long, or at a maximum age. */
  readonly deadlines: Guarantee;
  /** The number of connections is limited, in all or per client. */
  readonly limits: Guarantee;
  /** At shutdown streams end, and clients get a time to reconnect at. */
  readonly shutdown: Guarantee;
  /** An event is compressed once for all clients. */
  readonly compression: Guarantee;
  /** The source of this row. */
  readonly source: string;
}

/** The names in tables. */
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
  // The same hub, in the reference server.
  server: sluice,
  socket: { ...none, source: 'bench/peers/socket.ts' },
  zlib: { ...none, drain: 'no', source: 'bench/peers/zlib.ts' },
  // It waits for a client whose socket is full, and so do all other clients.
  floor: { ...none, drain: 'yes', bound: 'yes', source: 'bench/floors/floor.c' },
  // A client that catches up has an offset of its own; one that is full when a new event comes is cut off.
  prepared: { ...none, resume: 'yes', drain: 'yes', bound: 'yes', source: 'bench/floors/prepared.c' },
  // `res.write` returns `false` when the socket is full; the loop ignores it.
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
