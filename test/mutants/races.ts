// What a fault must be known for: the races and the properties of history, and those that have no code yet.

/** What happens at the same time, and must cost no client an event without a gap. */
export const races = [
  'publish between replay and join',
  'publish during an asynchronous read',
  'eviction between check and read',
  'slow client overtaken',
  'cut after the gap is written but before it arrives',
  'cut inside a frame',
  'cut before the first event',
  'two connections with one id',
  'reconnect to a process that lags',
  'restart of a memory log',
  'restart of Redis without loss',
  'promotion with a lost tail, client ahead',
  'promotion, then the head passes the client',
  'split brain, both accept',
  'loss of the stream, of the metadata, of both',
  'trimming while paging a long replay',
  'last wake-up lost before silence',
  'reader disconnected mid-page',
  'publisher retry after a time-out',
  'unknown, malformed, future, foreign id',
  'end of topic during replay',
  'shutdown during replay',
  'permission withdrawn during replay',
  'two events in one millisecond with the cut between them',
  'id on a control frame',
  'client that persists its id too early',
] as const;

/** What holds for a hub with any log. */
export const properties = [
  'append before deliver',
  'no hole unsaid',
  'what was lost of a topic is decidable',
  'a client ahead of this node waits',
  'read your writes',
  'three outcomes of an append',
  'a retried append publishes once',
  'batches are atomic up to a stated size',
  'away is not gone',
  'deep replays do not stall live',
] as const;

export type Race = (typeof races)[number];
export type Property = (typeof properties)[number];

/** Those that need a log which lib/ does not have so far. One that a mutant covers must not be here. */
export const pending: readonly (Race | Property)[] = [];
