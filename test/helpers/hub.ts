// What the hub's tests hold in their hands: turns that are run one by one, and readers that keep what they got.

import { PassThrough } from 'node:stream';
import { createParser } from 'eventsource-parser';
import { Hub, type HubOptions, type Log, type LogEntry, type LogPage } from '../../lib/hub.ts';

export interface Received {
  readonly id: string | undefined;
  readonly event: string | undefined;
  readonly data: string;
}

/** The events that an independent parser finds. */
export function parse(bytes: string | Uint8Array): Received[] {
  const events: Received[] = [];
  const parser = createParser({ onEvent: ({ id, event, data }) => events.push({ id, event, data }) });
  parser.feed(typeof bytes === 'string' ? bytes : Buffer.from(bytes).toString());
  return events;
}

/** Turns of the event loop, run by hand. */
export class Turns {
  readonly #planned: (() => void)[] = [];

  readonly schedule = (turn: () => void): void => {
    this.#planned.push(turn);
  };

  get planned(): number {
    return this.#planned.length;
  }

  /** Runs one; whether there was one. */
  next(): boolean {
    const turn = this.#planned.shift();
    turn?.();
    return turn !== undefined;
  }

  /** Runs them until there is none; how many there were. */
  all(): number {
    let count = 0;
    while (this.next()) count++;
    return count;
  }
}

/** Epoch 7, no chance, and turns run by hand. */
export function handRun(options: HubOptions = {}): { hub: Hub; turns: Turns } {
  const turns = new Turns();
  const hub = new Hub({
    epoch: 1_795_408_776_829_004,
    random: () => 0.5,
    schedule: turns.schedule,
    ...options,
  });
  return { hub, turns };
}

/** A client that takes everything; with `highWaterMark: 1` it takes one write until somebody calls `read()`. */
export class Reader extends PassThrough {
  readonly chunks: Buffer[] = [];
  cutFor: string | undefined;

  constructor(options: { highWaterMark: number } = { highWaterMark: 2 ** 30 }) {
    super(options);
    if (options.highWaterMark > 1) this.resume();
  }

  override write(chunk: Buffer): boolean {
    this.chunks.push(chunk);
    return super.write(chunk);
  }

  abort(reason: string): void {
    this.cutFor = reason;
    this.destroy();
  }

  get events(): Received[] {
    return parse(Buffer.concat(this.chunks));
  }

  /** Events of that type; without one, the application's own. */
  of(type?: string): Received[] {
    return this.events.filter(({ event }) => (type ? event === type : !event?.startsWith('sluice:')));
  }

  /** The data of the application's events. */
  get texts(): string[] {
    return this.of().map(({ data }) => data);
  }

  get gaps(): Gap[] {
    return this.of('sluice:gap').map(({ id, data }) => ({ id, ...JSON.parse(data) }));
  }
}

export interface Gap {
  readonly id: string | undefined;
  readonly reason: string;
  readonly from: string | null;
  readonly to: string;
  readonly topics: readonly string[];
}

/** A client that takes one write at a time. */
export function slowReader(): Reader {
  return new Reader({ highWaterMark: 1 });
}

/** Takes what waits, and waits until the hub may have heard of it. */
export async function drain(reader: Reader): Promise<void> {
  reader.read();
  await new Promise((resolve) => setImmediate(resolve));
}

export function times<T>(count: number, make: (i: number) => T): T[] {
  return Array.from({ length: count }, (_, i) => make(i));
}

/** A log that keeps everything, until it is trimmed, and answers as its test wants it to. */
export class TestLog implements Log {
  readonly epoch: number;
  head = 0;
  /** May hold the page back, fail, or look again later. */
  answer: (look: () => LogPage) => LogPage | Promise<LogPage> = (look) => look();
  #entries: LogEntry[] = [];
  #lostUpTo = 0;
  readonly #dropped = new Map<string, number>();

  constructor(epoch = 1_795_408_776_829_004) {
    this.epoch = epoch;
  }

  get size(): number {
    return this.#entries.length;
  }

  append(entry: LogEntry): void {
    this.#entries.push(entry);
    this.head = entry.seq;
  }

  read(topics: readonly string[], after: number, maxBytes: number): LogPage | Promise<LogPage> {
    return this.answer(() => this.#page(topics, after, maxBytes));
  }

  /** Drops all up to a seq, and knows what it has dropped. */
  trim(seq: number): void {
    for (const entry of this.#entries) if (entry.seq <= seq) this.#dropped.set(entry.topic, entry.seq);
    this.#entries = this.#entries.filter((entry) => entry.seq > seq);
  }

  /** Shortened from outside: cannot tell any more what there was up to a seq. */
  truncate(seq: number): void {
    this.#entries = this.#entries.filter((entry) => entry.seq > seq);
    this.#lostUpTo = Math.max(this.#lostUpTo, seq);
  }

  #page(topics: readonly string[], after: number, maxBytes: number): LogPage {
    if (after < this.#lostUpTo) return { entries: [], until: after, dropped: [] };
    const dropped = topics
      .map((topic) => ({ topic, seq: this.#dropped.get(topic) ?? 0 }))
      .filter(({ seq }) => seq > after);
    const rest = this.#entries.filter(({ topic, seq }) => seq > after && topics.includes(topic));
    let bytes = 0;
    const entries = rest.filter((entry, i) => {
      bytes += entry.bytes;
      return i === 0 || bytes <= maxBytes;
    });
    const until = entries.length === rest.length ? this.head : entries.at(-1)!.seq;
    return { entries, until, dropped };
  }
}
