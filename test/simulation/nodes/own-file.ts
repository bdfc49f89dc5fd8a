// A modelled file of one node: what was appended survives a crash, and a power cut loses its tail.

import type {
  AppendRecord,
  ListOptions,
  LogEntry,
  LogEpoch,
  LogPage,
  OwnLog,
  TopicChange,
  TopicRecord,
} from '../../../lib/log.ts';

type Write =
  | { readonly entries: readonly LogEntry[]; readonly records: readonly AppendRecord[] }
  | { readonly topic: string; readonly change: TopicChange };

interface Topic {
  held: LogEntry[];
  last: number;
  dropped: number;
  ended: boolean;
}

export class OwnFile {
  readonly maxEvents: number;
  writes: Write[] = [];
  epochs: LogEpoch[];
  /** Up to here a topic was shortened, for good. */
  readonly #floors: Map<string, number> = new Map();
  /** How many writes came before the present epoch: what begins one is on the disk for good. */
  #durable = 0;
  /** The next calls of `append` that fail. */
  failures = 0;
  /** Decides how a page is answered: at once, or later. */
  answer: (look: () => LogPage) => LogPage | Promise<LogPage> = (look) => look();
  #open: OpenFile | undefined;
  onFailure: () => void = () => {};

  constructor(epoch: number, maxEvents: number) {
    this.epochs = [{ epoch, base: 0 }];
    this.maxEvents = maxEvents;
  }

  /** The newest seq that it holds. */
  get head(): number {
    let head = this.epochs.at(-1)!.base;
    for (const write of this.writes) if ('entries' in write) head = write.entries.at(-1)?.seq ?? head;
    return Math.max(head, this.epochs.at(-1)!.base);
  }

  /** Loses its last writes, and begins another epoch, because it cannot know that it has lost none. */
  loseTail(lost: number, epoch: number): void {
    this.writes = this.writes.slice(0, Math.max(this.#durable, this.writes.length - lost));
    this.#durable = this.writes.length;
    const last = this.epochs.at(-1)!;
    let end = last.base;
    for (const write of this.writes)
      if ('entries' in write) end = Math.max(end, write.entries.at(-1)?.seq ?? 0);
    for (const [topic, floor] of this.#floors) this.#floors.set(topic, Math.min(floor, end));
    const next = { epoch: Math.max(epoch, last.epoch + 1), base: end + 1 };
    this.epochs = [...this.epochs.slice(0, -1), { ...last, end }, next];
  }

  open(): OwnLog {
    this.#open = new OpenFile(this, this.#floors);
    return this.#open;
  }

  isEnded(topic: string): boolean {
    return this.#open?.find([topic])[0]?.ended === true;
  }

  /** Shortens a topic from outside. */
  trim(topic: string, keep: number): void {
    this.#open?.trim(topic, keep);
  }
}

class OpenFile implements OwnLog {
  readonly order = 'own';
  readonly epochs: readonly LogEpoch[];
  readonly head: number;
  readonly #file: OwnFile;
  readonly #floors: Map<string, number>;
  readonly #topics: Map<string, Topic> = new Map();
  readonly #records: Map<string, AppendRecord> = new Map();
  #head: number;

  constructor(file: OwnFile, floors: Map<string, number>) {
    this.#file = file;
    this.#floors = floors;
    this.epochs = file.epochs;
    this.head = this.#head = file.head;
    for (const write of file.writes) this.#apply(write);
  }

  append(entries: readonly LogEntry[], records: readonly AppendRecord[] = []): void {
    const file = this.#file;
    if (file.failures > 0) {
      file.failures--;
      file.onFailure();
      throw new Error('the disk is full');
    }
    if (entries.length === 0) return;
    this.#write({ entries, records });
    this.#head = entries.at(-1)!.seq;
  }

  change(topic: string, change: TopicChange): boolean {
    const known = this.#topics.get(topic);
    if (known === undefined ? change !== 'end' : change !== 'delete' && known.ended === (change === 'end'))
      return false;
    this.#write({ topic, change });
    return true;
  }

  #write(write: Write): void {
    this.#file.writes.push(write);
    this.#apply(write);
  }

  #apply(write: Write): void {
    if ('entries' in write) {
      for (const entry of write.entries) this.#add(entry);
      for (const record of write.records) this.#records.set(record.key, record);
    } else {
      const topic = this.#topicOf(write.topic);
      topic.ended = write.change === 'end';
      if (write.change === 'delete') this.#drop(write.topic, topic, topic.last);
    }
  }

  #add(entry: LogEntry): void {
    const topic = this.#topicOf(entry.topic);
    topic.held.push(entry);
    topic.last = entry.seq;
    const floor = this.#floors.get(entry.topic) ?? 0;
    const excess = topic.held.length - this.#file.maxEvents;
    this.#drop(entry.topic, topic, Math.max(floor, excess > 0 ? topic.held[excess - 1]!.seq : 0));
  }

  #topicOf(name: string): Topic {
    const topic = this.#topics.get(name) ?? { held: [], last: 0, dropped: 0, ended: false };
    this.#topics.set(name, topic);
    return topic;
  }

  recall(key: string): AppendRecord | undefined {
    return this.#records.get(key);
  }

  #drop(name: string, topic: Topic, upTo: number): void {
    for (let first = topic.held[0]; first !== undefined && first.seq <= upTo; first = topic.held[0]) {
      topic.held.shift();
      topic.dropped = first.seq;
    }
    this.#floors.set(name, Math.max(this.#floors.get(name) ?? 0, topic.dropped));
  }

  /** Shortens a topic from outside. */
  trim(name: string, keep: number): void {
    const topic = this.#topics.get(name);
    const excess = (topic?.held.length ?? 0) - keep;
    if (topic !== undefined && excess > 0) this.#drop(name, topic, topic.held[excess - 1]!.seq);
  }

  read(
    topics: readonly string[],
    after: number,
    maxBytes: number,
    { newestOnly }: { readonly newestOnly: boolean },
  ): LogPage | Promise<LogPage> {
    return this.#file.answer(() => this.#page(topics, after, maxBytes, newestOnly));
  }

  #page(topics: readonly string[], after: number, maxBytes: number, newestOnly: boolean): LogPage {
    const all = this.#held(topics).filter(({ seq }) => seq > after);
    const isReplaced = ({ topic, key, seq }: LogEntry): boolean =>
      key !== undefined && all.some((later) => later.seq > seq && later.topic === topic && later.key === key);
    const wanted = newestOnly ? all.filter((entry) => !isReplaced(entry)) : all;
    let bytes = 0;
    const entries = wanted.filter(({ frame }, i) => {
      bytes += frame.length;
      return i === 0 || bytes <= maxBytes;
    });
    const dropped = topics
      .map((topic) => ({ topic, seq: this.#topics.get(topic)?.dropped ?? 0 }))
      .filter(({ seq }) => seq > after);
    const until = entries.length === wanted.length ? this.#head : entries.at(-1)!.seq;
    return { entries, until, dropped };
  }

  #held(topics: readonly string[]): LogEntry[] {
    return topics.flatMap((topic) => this.#topics.get(topic)?.held ?? []).sort((a, b) => a.seq - b.seq);
  }

  find(topics: readonly string[]): readonly TopicRecord[] {
    return topics.flatMap((topic) => {
      const known = this.#topics.get(topic);
      if (known === undefined) return [];
      const { held, last, dropped, ended } = known;
      const bytes = held.reduce((sum, { frame }) => sum + frame.length, 0);
      return [{ topic, last, dropped, ended, events: held.length, bytes }];
    });
  }

  list({ after = '', limit = Infinity }: ListOptions): readonly TopicRecord[] {
    const names = [...this.#topics.keys()].filter((name) => name > after).sort();
    return this.find(names.slice(0, limit));
  }

  beforeNewest(topics: readonly string[], count: number): number {
    const held = this.#held(topics);
    if (count === 0 || held.length === 0) return this.#head;
    return held[Math.max(0, held.length - count)]!.seq - 1;
  }
}
