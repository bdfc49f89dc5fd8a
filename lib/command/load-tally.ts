// Counts what all streams of a load do together.
// Needs `load-histogram.ts` beside it.

import { Histogram } from './load-histogram.ts';

/** The counts and durations of one load. Their size does not depend on the number of streams or events. */
export class Tally {
  /** Streams that got a head at their first attempt or later. */
  opened = 0;
  open = 0;
  disconnects = 0;
  reconnects = 0;
  events = 0;
  bytes = 0;
  gaps = 0;
  tooLarge = 0;
  withoutId = 0;
  withoutTime = 0;
  /** Events with a time in the future: the two clocks differ. */
  early = 0;
  /** By `performance.now()`: when the newest of the first heads arrived. */
  lastOpened = 0;
  /** Why a request or a connection failed most recently. */
  lastFailure = '';
  /** Answers other than a stream: how often each status, or reason of a refusal in the stream, came. */
  readonly refused: Map<string, number> = new Map();
  /** Failures without an answer, and broken connections, by code. */
  readonly failures: Map<string, number> = new Map();
  readonly head: Histogram = new Histogram();
  readonly firstEvent: Histogram = new Histogram();
  readonly interArrival: Histogram = new Histogram();
  readonly latency: Histogram = new Histogram();
  readonly #timeField: string | undefined;
  #lastData = '';
  #lastTime: number | undefined;

  constructor(timeField: string | undefined) {
    this.#timeField = timeField;
  }

  /** Records how long ago the event's data says it was made. */
  takeTime(data: string): void {
    if (this.#timeField === undefined) return;
    // All streams get the same events at about the same time: each is parsed once.
    if (data !== this.#lastData) {
      this.#lastData = data;
      this.#lastTime = timeIn(data, this.#timeField);
    }
    if (this.#lastTime === undefined) {
      this.withoutTime++;
      return;
    }
    const age = Date.now() - this.#lastTime;
    if (age < 0) this.early++;
    this.latency.record(age);
  }
}

/** The key of a refusal is a status or a word from the server: no more of them are told apart. */
const MAX_REASONS = 50;

export function countIn(counts: Map<string, number>, key: string): void {
  const name = counts.has(key) || counts.size < MAX_REASONS ? key : 'other';
  counts.set(name, (counts.get(name) ?? 0) + 1);
}

function timeIn(data: string, field: string): number | undefined {
  try {
    const value: unknown = Object(JSON.parse(data))[field];
    return typeof value === 'number' ? value : undefined;
  } catch {
    return undefined;
  }
}
