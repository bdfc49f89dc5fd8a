// Everything by name, in the order of the floors.
// Needs `adaptive.ts`, `auth.ts`, `body.ts`, `client.ts`, `compose.ts`, `cors.ts`, `decode.ts`,
// `encode.ts`, `eventsource.ts`, `follow.ts`, `guard.ts`, `gzip.ts`, `heartbeat.ts`, `hub.ts`, `instruments.ts`,
// `leader.ts`, `limiter.ts`, `lines.ts`, `metrics.ts`, `once.ts`, `replay.ts`, `router.ts`, `server.ts`,
// `shutdown.ts`, `stream.ts`, `system.ts`, `transport.ts` and `writer.ts` beside it.

export { type AdaptiveGroup, AdaptiveInterval, type AdaptiveOptions } from './adaptive.ts';
export {
  type Access,
  type Action,
  type AuthRequest,
  hasBearer,
  Tickets,
  type TicketsOptions,
  type TokenAccessOptions,
  type TokenPrincipal,
  tokenAccess,
} from './auth.ts';
export { type BodyError, type BodyRequest, readText } from './body.ts';
export {
  type ConnectError,
  type ConnectErrorCode,
  Connection,
  type ConnectionState,
  type ConnectOptions,
  connect,
  fileStorage,
  type Gap,
  type PositionStorage,
  type RequestHeaders,
  type StateChange,
} from './client.ts';
export {
  answerError,
  type ComposeOptions,
  compose,
  type ErrorResponse,
  type Middleware,
  type Next,
  type RequestValue,
  requestValue,
} from './compose.ts';
export { type Cors, type CorsOptions, type CorsRequest, type CorsResponse, cors } from './cors.ts';
export {
  createDecoder,
  type DecodedEvent,
  type DecodeError,
  type DecodeLimits,
  type Decoder,
  type DecoderOptions,
  type DecodeSource,
  decode,
  decoderStream,
} from './decode.ts';
export { encode, jsonEvents, type ServerSentEvent } from './encode.ts';
export {
  type EventMap,
  EventSource,
  type EventSourceErrorEvent,
  type EventSourceInit,
  type TypedEvent,
} from './eventsource.ts';
export { type TailFileOptions, tailFile } from './command/tail-file.ts';
export {
  type Guard,
  type GuardOptions,
  type GuardReason,
  type GuardRefusal,
  type GuardRequest,
  type GuardResponse,
  guard,
} from './guard.ts';
export { acceptsGzip, compress, type GzipPiece, GzipStream } from './gzip.ts';
export {
  type BeatGroup,
  type BeatOptions,
  type BeatSink,
  Heartbeat,
  type HeartbeatClock,
  type HeartbeatOptions,
  heartbeatProfiles,
} from './heartbeat.ts';
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
export { type Instrumented, instrument } from './instruments.ts';
export {
  type Lead,
  type LeaderOptions,
  type Locks,
  type SharedEvent,
  type SharedStream,
  shareStream,
  type TabRole,
} from './tabs.ts';
export {
  addressGroup,
  type ConnectionLimit,
  clientAddress,
  type LimitClock,
  type LimitKey,
  type LimitOptions,
  type LimitReason,
  type LimitRefusal,
  type LimitRequest,
  type LimitResponse,
  type LimitSemaphore,
  type LimitSocket,
  type LimitStats,
  limitConnections,
  type Refusal,
  type Release,
  Semaphore,
  type SemaphoreError,
  type SemaphoreOptions,
} from './limiter.ts';
export {
  createLineSplitter,
  type LineOptions,
  type LineSource,
  type LineSplitter,
  type LinesOptions,
  lines,
} from './command/lines.ts';
export {
  type Histogram,
  type Labels,
  metricsContentType,
  type Reading,
  Registry,
  type RegistryOptions,
  registerProcess,
  type Sample,
} from './metrics.ts';
export { Once, type OnceOptions } from './idempotency.ts';
export { type Remembered, ReplayBuffer, type ReplayOptions } from './replay.ts';
export { type Found, type Missed, type Params, Router } from './router.ts';
export {
  type CloseOptions,
  createSseServer,
  type LogLine,
  type SseServer,
  type SseServerOptions,
} from './server.ts';
export {
  type DrainableStream,
  type ShutdownOptions,
  type ShutdownOutcome,
  shutdown,
  trackConnections,
} from './shutdown.ts';
export {
  EventStream,
  isStreaming,
  openStream,
  type PipeOptions,
  type PipeSource,
  type StreamOptions,
  type StreamRequest,
  type StreamResponse,
  type StreamSocket,
} from './stream.ts';
export { type SystemSample, SystemSampler } from './command/system.ts';
export {
  defaultTransport,
  type FetchTransportOptions,
  fetchTransport,
  http2Transport,
  nodeTransport,
  type Transport,
  type TransportRequest,
  type TransportResponse,
} from './transport.ts';
export {
  type ClosedError,
  type CloseReason,
  Writer,
  type WriterOptions,
  type WriterTarget,
} from './writer.ts';
