// What the tests of the hub share: ids, turns that are run one by one, readers that keep what they got, and a
// log.

import { PassThrough } from 'node:stream';
import { FrameRing, type FrameSegment } from '../../lib/frame-ring.ts';
import { Hub, type HubOptions } from '../../lib/hub.ts';
import type { LogEntry, LogEpoch, LogPage, OwnLog, TopicChange, TopicRecord } from '../../lib/log.ts';
import { formatId, parseId } from '../../lib/protocol.ts';
import { type Frame, parse } from './reader.ts';

/** The epoch of the hubs in tests, as long as those that hubs give themselves. */
export const EPOCH = 1_795_408_776_829_004;

/** The id of a place in that epoch. */
export function at(seq: number): string {
  return formatId(EPOCH, seq);
}

/** The place that an id names; NaN for none. */
export function seqOf(id: string | null | undefined): number {
  return parseId(id)?.seq ?? NaN;
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

/** A hub whose epoch is known, that leaves nothing to chance, and whose turns are run by hand. */
export function handRun(options: HubOptions = {}): { hub: Hub; turns: Turns } {
  const turns = new Turns();
  const epoch = options.log === undefined ? EPOCH : undefined;
  const hub = new Hub({ epoch, random: () => 0.5, schedule: turns.schedule, ...options });
  return { hub, turns };
}

/**
 * A client in memory, which takes everything. With `highWaterMark: 1` it takes one write at a time, until
 * `read()` is called.
 */
export class MemoryReader extends PassThrough {
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

  get events(): Frame[] {
    return parse(Buffer.concat(this.chunks).toString()).frames;
  }

  /** The types of control events and the data of the application's, in order. */
  get story(): string[] {
    return this.events.map(({ event, data }) => (event?.startsWith('sluice:') ? event : data));
  }

  /** Events of that type; without one, the application's own. */
  of(type?: string): Frame[] {
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
export function slowReader(): MemoryReader {
  return new MemoryReader({ highWaterMark: 1 });
}

/** Reads what waits in a slow reader, and waits until its 'drain' has been emitted. */
export async function drain(reader: MemoryReader): Promise<void> {
  reader.read();
  await new Promise((resolve) => setImmediate(resolve));
}

/** What all segments of rings inherit, to count how often they are asked. */
export function segmentPrototype(): FrameSegment {
  const ring = new FrameRing();
  ring.push(1, 0, 'x');
  return Object.getPrototypeOf(ring.segmentAt(0));
}

export function times<T>(count: number, make: (i: number) => T): T[] {
  return Array.from({ length: count }, (_, i) => make(i));
}

/** A log that keeps everything until it is trimmed, and answers as its test wants. */
export class TestLog implements OwnLog {
  epochs: LogEpoch[];
  head = 0;
  /** May hold the page back, fail, or look again later. */
  answer: (look: () => LogPage) => LogPage | Promise<LogPage> = (look) => look();
  #entries: LogEntry[] = [];
  #lostUpTo = 0;
  readonly #dropped = new Map<string, number>();
  readonly #last = new Map<string, number>();
  readonly #ended = new Set<string>();

  constructor(epoch: number = EPOCH) {
    this.epochs = [{ epoch, base: 0 }];
  }

  get size(): number {
    return this.#entries.length;
  }

  append(entries: readonly LogEntry[]): void {
    for (const entry of entries) {
      this.#entries.push(entry);
      this.#last.set(entry.topic, entry.seq);
      this.head = entry.seq;
    }
  }

  read(
    topics: readonly string[],
    after: number,
    maxBytes: number,
    { newestOnly }: { readonly newestOnly: boolean },
  ): LogPage | Promise<LogPage> {
    return this.answer(() => this.#page(topics, after, maxBytes, newestOnly));
  }

  change(topic: string, change: TopicChange): boolean {
    const known = this.#last.has(topic) || this.#ended.has(topic);
    if (change === 'reopen') return this.#ended.delete(topic);
    if (change === 'end') return !this.#ended.has(topic) && this.#ended.add(topic) !== undefined;
    if (!known) return false;
    else {
      this.#ended.delete(topic);
      this.drop(topic, this.head);
    }
    return true;
  }

  find(topics: readonly string[]): TopicRecord[] {
    return topics.flatMap((topic) => {
      if (!this.#last.has(topic) && !this.#ended.has(topic)) return [];
      const held = this.#entries.filter((entry) => entry.topic === topic);
      return {
        topic,
        last: this.#last.get(topic) ?? 0,
        dropped: Math.max(this.#dropped.get(topic) ?? 0, this.#lostUpTo),
        ended: this.#ended.has(topic),
        events: held.length,
        bytes: held.reduce((sum, { frame }) => sum + frame.length, 0),
      };
    });
  }

  list({
    after = '',
    limit = Infinity,
  }: {
    after?: string | undefined;
    limit?: number | undefined;
  } = {}): TopicRecord[] {
    const names = [...new Set([...this.#last.keys(), ...this.#ended])].filter((name) => name > after).sort();
    return this.find(names).slice(0, limit);
  }

  beforeNewest(topics: readonly string[], count: number): number {
    const held = this.#entries.filter(({ topic }) => topics.includes(topic));
    if (count === 0 || held.length === 0) return this.head;
    return (held.at(-count) ?? held[0]!).seq - 1;
  }

  /** Drops all up to a seq, and remembers what it has dropped. */
  trim(seq: number): void {
    for (const entry of this.#entries) if (entry.seq <= seq) this.#dropped.set(entry.topic, entry.seq);
    this.#entries = this.#entries.filter((entry) => entry.seq > seq);
  }

  /** Drops all of one topic up to a seq, and remembers it. */
  drop(topic: string, seq: number): void {
    const last = this.#entries.findLast((entry) => entry.topic === topic && entry.seq <= seq);
    if (last === undefined) return;
    this.#dropped.set(topic, last.seq);
    this.#entries = this.#entries.filter((entry) => entry.topic !== topic || entry.seq > seq);
  }

  has(seq: number): boolean {
    return seq > this.#lostUpTo && this.#entries.some((entry) => entry.seq === seq);
  }

  /** The seq of the oldest entry. */
  get oldest(): number {
    return this.#entries[0]?.seq ?? 0;
  }

  /** Is shortened from outside: no longer knows of which topics there were events up to a seq. */
  truncate(seq: number): void {
    this.#entries = this.#entries.filter((entry) => entry.seq > seq);
    this.#lostUpTo = Math.max(this.#lostUpTo, seq);
  }

  #page(topics: readonly string[], after: number, maxBytes: number, newestOnly: boolean): LogPage {
    const dropped = topics
      .map((topic) => ({ topic, seq: this.#dropped.get(topic) ?? 0 }))
      .filter(({ seq }) => seq > after);
    const rest = this.#entries.filter(
      ({ topic, seq }, i) =>
        seq > after && topics.includes(topic) && !(newestOnly && this.#isReplaced(topic, i)),
    );
    let bytes = 0;
    const entries = rest.filter((entry, i) => {
      bytes += entry.frame.length;
      return i === 0 || bytes <= maxBytes;
    });
    const until = entries.length === rest.length ? this.head : entries.at(-1)!.seq;
    return { entries, until, dropped, truncated: this.#lostUpTo };
  }

  #isReplaced(topic: string, index: number): boolean {
    const { key } = this.#entries[index]!;
    if (key === undefined) return false;
    return this.#entries.slice(index + 1).some((later) => later.topic === topic && later.key === key);
  }
}
