// The test kit: requests in memory, bad clients, a bad network, a clock, and the judge of what readers received.
// Needs `chaos-proxy.ts`, `checker.ts`, `collect.ts`, `fake-clock.ts`, `memory-server.ts`, `raw-reader.ts` and
// `socket-pair.ts` beside it.

export { ChaosProxy, type ChaosProxyOptions, type ChaosTarget } from './chaos-proxy.ts';
export {
  Checker,
  type CheckerOptions,
  type Finding,
  type FindingName,
  findingNames,
  type ReaderOptions,
  type ReaderRecord,
  type ReceivedEvent,
  type Verdict,
} from './checker.ts';
export {
  type CollectBytes,
  type CollectError,
  type CollectedEvent,
  type CollectOptions,
  type CollectResponse,
  collect,
  type DecodedEvent,
} from './collect.ts';
export { FakeClock } from './fake-clock.ts';
export { type Exchange, exchange, type MemoryRequest, MemoryServer } from './memory-server.ts';
export {
  RawReader,
  type RawReaderOptions,
  type RawSocket,
  Reading,
  type ReadingOptions,
} from './raw-reader.ts';
export { MemorySocket, type SocketPairOptions, socketPair } from './socket-pair.ts';
