// Everything by name, in the order of the floors.
// Needs `auth.ts`, `body.ts`, `compose.ts`, `encode.ts`, `follow.ts`, `hub.ts`, `lines.ts`, `replay.ts`, `router.ts`, `server.ts`, `stream.ts` and `writer.ts` beside it.

export { hasBearer, Tickets, type TicketsOptions } from './auth.ts';
export { type BodyError, type BodyRequest, readText } from './body.ts';
export {
  type ComposeOptions,
  compose,
  type Middleware,
  type Next,
  type RequestValue,
  requestValue,
} from './compose.ts';
export { encode, type ServerSentEvent } from './encode.ts';
export { type FollowOptions, follow } from './follow.ts';
export {
  type GapReason,
  type HistoryLimits,
  Hub,
  type HubEvent,
  type HubOptions,
  type HubStats,
  isTopic,
  type Log,
  type LogEntry,
  type LogPage,
  type Sink,
  type SubscribeOptions,
  type Subscription,
  type TopicInfo,
} from './hub.ts';
export { type LinesOptions, lines } from './lines.ts';
export { type Remembered, ReplayBuffer, type ReplayOptions } from './replay.ts';
export { type Found, type Missed, type Params, Router } from './router.ts';
export { createSseServer, type LogLine, type SseServer, type SseServerOptions } from './server.ts';
export {
  EventStream,
  isStreaming,
  openStream,
  type PipeOptions,
  type StreamOptions,
  type StreamRequest,
  type StreamResponse,
  type StreamSocket,
} from './stream.ts';
export {
  type ClosedError,
  type CloseReason,
  Writer,
  type WriterOptions,
  type WriterTarget,
} from './writer.ts';
