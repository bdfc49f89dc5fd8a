// Joins what is appended to the topics of a log in one turn of the event loop, so that it costs Redis one command.
// Needs `log.ts` beside it.

import type { Appended, NewEntry } from './log.ts';

/** Events that are appended to a topic together or not at all. */
export interface JoinedBatch {
  readonly topic: string;
  readonly events: readonly NewEntry[];
  /** The id of the event behind which they are to come; then they are one call. */
  readonly behind?: string | undefined;
}

export interface RedisAppendsOptions {
  /** Appends with one command. Resolves with what became of each batch. */
  readonly send: (batches: readonly JoinedBatch[]) => Promise<readonly (Appended | Error)[]>;
  /** Whether so much may be appended to a topic together. */
  readonly fits: (topic: string, count: number, bytes: number) => boolean;
}

/**
 * The appends of this turn. Those of one call stay together, and those to one topic in the order of the calls. Topics
 * come in the order of their first calls.
 */
export class RedisAppends {
  readonly #options: RedisAppendsOptions;
  readonly #batches = new Map<string, Waiting>();
  #count = 0;
  #bytes = 0;
  #isPlanned = false;

  constructor(options: RedisAppendsOptions) {
    this.#options = options;
  }

  /** Sends the events at the end of this turn, or with the next `flush`. */
  add(topic: string, events: readonly NewEntry[], bytes: number, behind?: string): Promise<Appended> {
    const batch = this.#batchFor(topic, events.length, bytes, behind);
    const offset = batch.events.length;
    for (const event of events) batch.events.push(event);
    batch.bytes += bytes;
    this.#count += events.length;
    this.#bytes += bytes;
    this.#plan();
    return new Promise((resolve, reject) => {
      batch.settle.push((appended) => {
        if (appended instanceof Error) reject(appended);
        else resolve({ epoch: appended.epoch, first: appended.first + offset, count: events.length });
      });
    });
  }

  /** Sends what was added. Call it before another command that writes, so that it does not come first. */
  flush(): void {
    if (this.#count === 0) return;
    const batches = [...this.#batches.values()];
    this.#batches.clear();
    this.#count = this.#bytes = 0;
    this.#options.send(batches).then(
      (results) => settleAll(batches, (i) => results[i]!),
      (error: Error) => settleAll(batches, () => error),
    );
  }

  #batchFor(topic: string, count: number, bytes: number, behind: string | undefined): Waiting {
    const known = this.#batches.get(topic);
    if (known !== undefined && known.behind === undefined && behind === undefined) {
      const [events, size] = [known.events.length + count, known.bytes + bytes];
      if (this.#hasRoom(count, bytes) && this.#options.fits(topic, events, size)) return known;
    }
    if (known !== undefined || !this.#hasRoom(count, bytes)) this.flush();
    const begun: Waiting = { topic, events: [], behind, bytes: 0, settle: [] };
    this.#batches.set(topic, begun);
    return begun;
  }

  #hasRoom(count: number, bytes: number): boolean {
    return this.#count + count <= MAX_EVENTS && this.#bytes + bytes <= MAX_BYTES;
  }

  #plan(): void {
    if (this.#isPlanned) return;
    this.#isPlanned = true;
    setImmediate(() => {
      this.#isPlanned = false;
      this.flush();
    });
  }
}

interface Waiting extends JoinedBatch {
  readonly events: NewEntry[];
  bytes: number;
  readonly settle: ((appended: Appended | Error) => void)[];
}

function settleAll(batches: readonly Waiting[], resultOf: (index: number) => Appended | Error): void {
  for (const [i, { settle }] of batches.entries()) {
    const result = resultOf(i);
    for (const done of settle) done(result);
  }
}

/** Of one command, unless a single call has more: Redis does nothing else meanwhile, for a few milliseconds. */
const MAX_EVENTS = 128;
const MAX_BYTES = 256 * 1024;
