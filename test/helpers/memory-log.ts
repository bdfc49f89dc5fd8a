// An honest log of an own order, in memory: a store that outlives the logs that are opened on it, with faults.

import {
  type AppendRecord,
  type ListOptions,
  type LogEntry,
  type LogEpoch,
  type LogPage,
  logUnavailable,
  type OwnLog,
  type TopicChange,
  type TopicRecord,
} from '../../lib/log.ts';

interface Known {
  last: number;
  dropped: number;
  ended: boolean;
  /** Deleted, and not published to since: it is not listed. */
  deleted: boolean;
}

let newestEpoch = Date.now() * 1000;

/** What a file is for a log on disk. */
export class MemoryStore {
  entries: LogEntry[] = [];
  readonly topics: Map<string, Known> = new Map();
  epochs: LogEpoch[] = [{ epoch: ++newestEpoch, base: 0 }];
  readonly records: Map<string, AppendRecord> = new Map();
  /** Whether appends fail, as on a full disk. */
  fails = false;
  /** No topic without a record has had an event after this seq. */
  forgotten = 0;
  truncated = 0;

  get head(): number {
    return Math.max(this.epochs.at(-1)!.base, this.entries.at(-1)?.seq ?? 0, ...this.#lasts());
  }

  /** Loses the newest events, as at a loss of power: what is opened next is another order. */
  loseTail(count: number): void {
    this.entries.splice(-count, count);
    for (const [name, known] of this.topics) {
      const kept = this.entries.findLast(({ topic }) => topic === name)?.seq ?? 0;
      known.last = Math.max(kept, known.dropped);
      if (known.last === 0) this.topics.delete(name);
    }
    const end = this.head;
    for (const [key, { first }] of this.records) if (first > end) this.records.delete(key);
    this.epochs = this.epochs.map((one) => (one.end === undefined ? { ...one, end } : one));
    this.epochs.push({ epoch: ++newestEpoch, base: end + 1 });
  }

  /** Drops a topic's events up to a seq, and notes it. */
  drop(topic: string, seq: number): void {
    const known = this.topics.get(topic)!;
    const last = this.entries.findLast((entry) => entry.topic === topic && entry.seq <= seq);
    known.dropped = Math.max(known.dropped, last?.seq ?? 0);
    this.entries = this.entries.filter((entry) => entry.topic !== topic || entry.seq > seq);
  }

  /** Forgets a topic's events and its record. */
  forget(topic: string): void {
    this.forgotten = Math.max(this.forgotten, this.topics.get(topic)?.last ?? 0);
    this.topics.delete(topic);
    this.entries = this.entries.filter((entry) => entry.topic !== topic);
  }

  /** Is shortened from outside: does not know of which topics there were events up to a seq. */
  truncate(seq: number): void {
    this.entries = this.entries.filter((entry) => entry.seq > seq);
    this.truncated = Math.max(this.truncated, seq);
  }

  #lasts(): number[] {
    return Array.from(this.topics.values(), ({ last }) => last);
  }
}

export class MemoryLog implements OwnLog {
  readonly epochs: readonly LogEpoch[];
  readonly head: number;
  readonly #store: MemoryStore;

  constructor(store: MemoryStore) {
    this.#store = store;
    this.epochs = store.epochs;
    this.head = store.head;
  }

  append(entries: readonly LogEntry[], records: readonly AppendRecord[]): void {
    const store = this.#store;
    if (store.fails) throw logUnavailable('the store is full');
    for (const record of records) store.records.set(record.key, record);
    for (const entry of entries) {
      const { topic, seq } = entry;
      const known = store.topics.get(topic) ?? this.#know(topic, seq);
      known.last = seq;
      known.deleted = false;
      store.entries.push(entry);
    }
  }

  recall(key: string): AppendRecord | undefined {
    return this.#store.records.get(key);
  }

  #know(topic: string, last: number): Known {
    const known = { last, dropped: this.#store.forgotten, ended: false, deleted: false };
    this.#store.topics.set(topic, known);
    return known;
  }

  read(
    topics: readonly string[],
    after: number,
    maxBytes: number,
    { newestOnly }: { readonly newestOnly: boolean },
  ): LogPage {
    const store = this.#store;
    const dropped = topics
      .map((topic) => ({ topic, seq: store.topics.get(topic)?.dropped ?? store.forgotten }))
      .filter(({ seq }) => seq > after);
    const rest = store.entries.filter(
      ({ topic, seq }, i) =>
        seq > after && topics.includes(topic) && !(newestOnly && this.#isReplaced(topic, i)),
    );
    let bytes = 0;
    const fits = rest.findIndex(({ frame }, i) => {
      bytes += frame.length;
      return i > 0 && bytes > maxBytes;
    });
    const entries = fits === -1 ? rest : rest.slice(0, fits);
    const until = fits === -1 ? Math.max(store.head, after) : entries.at(-1)!.seq;
    return { entries, until, dropped, truncated: store.truncated || undefined };
  }

  #isReplaced(topic: string, index: number): boolean {
    const { entries } = this.#store;
    const { key } = entries[index]!;
    return (
      key !== undefined && entries.slice(index + 1).some((one) => one.topic === topic && one.key === key)
    );
  }

  find(topics: readonly string[]): readonly TopicRecord[] {
    return topics.filter((topic) => this.#store.topics.has(topic)).map((topic) => this.#record(topic));
  }

  list({ after = '', limit = Infinity }: ListOptions): readonly TopicRecord[] {
    const names = [...this.#store.topics].flatMap(([name, { deleted }]) => (deleted ? [] : [name]));
    return names
      .filter((name) => name > after)
      .sort()
      .slice(0, limit)
      .map((name) => this.#record(name));
  }

  #record(topic: string): TopicRecord {
    const { last, dropped, ended, deleted } = this.#store.topics.get(topic)!;
    const held = this.#store.entries.filter((entry) => entry.topic === topic);
    const bytes = held.reduce((sum, { frame }) => sum + frame.length, 0);
    const record = { topic, last, dropped, ended, events: held.length, bytes };
    return deleted ? { ...record, deleted } : record;
  }

  beforeNewest(topics: readonly string[], count: number): number {
    if (count <= 0) return this.#store.head;
    const held = this.#store.entries.filter(({ topic }) => topics.includes(topic));
    return held.length === 0 ? this.#store.head : held.at(-Math.min(count, held.length))!.seq - 1;
  }

  change(topic: string, change: TopicChange): boolean {
    const { topics, forgotten } = this.#store;
    const known = topics.get(topic);
    if (known === undefined && change === 'end') {
      topics.set(topic, { last: forgotten, dropped: forgotten, ended: true, deleted: false });
      return true;
    }
    if (known === undefined) return false;
    if (change === 'delete') {
      if (known.deleted) return false;
      this.#store.entries = this.#store.entries.filter((entry) => entry.topic !== topic);
      Object.assign(known, { dropped: known.last, ended: false, deleted: true });
      return true;
    }
    const ended = change === 'end';
    if (known.ended === ended) return false;
    known.ended = ended;
    if (ended) known.deleted = false;
    return true;
  }

  close(): void {}
}
