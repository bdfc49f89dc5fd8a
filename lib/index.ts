// Exports the names that most programs start with. Import all others from their modules: `sluice/<module>`.
// Needs `auth.ts`, `client.ts`, `compose.ts`, `cors.ts`, `decode.ts`, `encode.ts`, `events.ts`,
// `eventsource.ts`, `guard.ts`, `heartbeat.ts`, `hub.ts`, `limiter.ts`, `metrics.ts`, `positions.ts`,
// `problem.ts`, `replay.ts`, `router.ts`, `semaphore.ts`, `server.ts`, `shutdown.ts`, `stream.ts`, `tabs.ts`,
// `tickets.ts`, `web.ts` and `writer.ts` beside it.

export { type Access, tokenAccess } from './auth.ts';
export { type ConnectError, type Connection, type ConnectOptions, connect } from './client.ts';
export { compose, type Middleware } from './compose.ts';
export { type CorsOptions, cors } from './cors.ts';
export { createDecoder, type DecodedEvent, decode } from './decode.ts';
export { encode, type ServerSentEvent } from './encode.ts';
export { type EventsHandler, type ServeEventsOptions, serveEvents } from './events.ts';
export { EventSource, type EventSourceInit } from './eventsource.ts';
export { type GuardOptions, guard } from './guard.ts';
export { Heartbeat, type HeartbeatOptions } from './heartbeat.ts';
export {
  Hub,
  type HubEvent,
  type HubOptions,
  type Log,
  type Sink,
  type SubscribeOptions,
  type Subscription,
} from './hub.ts';
export { type LimitOptions, limitConnections } from './limiter.ts';
export { metricsContentType, Registry } from './metrics.ts';
export { fileStorage, type PositionStorage } from './positions.ts';
export { answerError } from './problem.ts';
export { ReplayBuffer, type ReplayOptions } from './replay.ts';
export { Router } from './router.ts';
export { Semaphore } from './semaphore.ts';
export { createSseServer, type SseServer, type SseServerOptions } from './server.ts';
export { type ShutdownOptions, shutdown, trackConnections } from './shutdown.ts';
export { type EventStream, openStream, type StreamOptions } from './stream.ts';
export { shareAcrossTabs } from './tabs.ts';
export { Tickets } from './tickets.ts';
export { toFetchHandler, toResponse } from './web.ts';
export { type CloseReason, Writer } from './writer.ts';
