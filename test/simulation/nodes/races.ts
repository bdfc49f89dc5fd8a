// The races that a simulation has to meet, each counted where it happens.

export const raceNames = [
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
  'restart of the store without loss',
  'promotion with a lost tail, client ahead',
  'promotion, then the head passes the client',
  'split brain, both accept',
  'loss of the feed',
  'loss of a history',
  'loss of the metadata or the index',
  'loss of everything',
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
  'file that lost its tail, client ahead',
  'append that fails',
] as const;

export type RaceName = (typeof raceNames)[number];

/** How often each race was met. */
export class Races {
  readonly counts: Map<RaceName, number> = new Map();

  met(name: RaceName, times = 1): void {
    if (times > 0) this.counts.set(name, (this.counts.get(name) ?? 0) + times);
  }

  add(other: Iterable<readonly [RaceName, number]>): void {
    for (const [name, times] of other) this.met(name, times);
  }

  /** One line for each race. */
  get table(): string {
    return raceNames.map((name) => `${String(this.counts.get(name) ?? 0).padStart(8)}  ${name}`).join('\n');
  }
}
