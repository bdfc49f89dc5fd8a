// Exports what a browser can use of the root. Bundlers take it in its place, by the condition `browser`.
// Needs `client.ts`, `decode.ts`, `encode.ts`, `eventsource.ts`, `positions.ts` and `tabs.ts` beside it.

export { type ConnectError, type Connection, type ConnectOptions, connect } from './client.ts';
export { createDecoder, type DecodedEvent, decode } from './decode.ts';
export { encode, type ServerSentEvent } from './encode.ts';
export { EventSource, type EventSourceInit } from './eventsource.ts';
export type { PositionStorage } from './positions.ts';
export { shareAcrossTabs } from './tabs.ts';
