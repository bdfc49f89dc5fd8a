// Keeps the newest events in memory as a log, for the process that owns the order of several.
// Needs `history.ts`, `history-limits.ts`, `log.ts`, `names.ts`, `order.ts` and `pages.ts` beside it.

import { frameLimits, Topic } from './history.ts';
import { atLeastOne, checkLimits, type HistoryLimits, type Limits } from './history-limits.ts';
import type {
  AppendRecord,
  ListOptions,
  LogEntry,
  LogEpoch,
  LogPage,
  OwnLog,
  TopicChange,
  TopicRecord,
} from './log.ts';
import { NameOrder } from './names.ts';
import { newEpoch } from './order.ts';
import { beforeNewest } from './pages.ts';

export interface MemoryLogOptions {
  /**
   * The limits of each topic, or a function that is called at each append and each read of a topic, and must
   * not throw. `maxBytes` are bytes of frames. The newest event stays, whatever its size, until it is too
   * old.
   */
  history?: HistoryLimits | ((topic: string) => HistoryLimits) | undefined;
  /** Most bytes of memory that the events of all topics hold; default 256 MiB. */
  maxHistoryBytes?: number | undefined;
  /** Most topics that are remembered; default 10,000. Those that were silent for longest are forgotten. */
  maxTopics?: number | undefined;
  /** Most idempotency keys that are kept; default 10,000. A new one then replaces the oldest. */
  maxKeys?: number | undefined;
  /** Returns the time in milliseconds; default `Date.now`. */
  now?: (() => number) | undefined;
}

/**
 * A log that lives as long as this object. Give it to `serveLog`, so that several processes share one order
 * without a file. (A hub of one process has a memory of its own, and needs no log for it.)
 *
 * A new one has a new epoch: a client that returns with an id of an earlier one gets a gap.
 */
export class MemoryLog implements OwnLog {
  readonly epochs: readonly LogEpoch[];
  readonly #limits: (topic: string) => HistoryLimits;
  readonly #maxHistoryBytes: number;
  readonly #maxTopics: number;
  readonly #now: () => number;
  /** Those that were silent for longest come first. */
  readonly #topics = new Map<string, KeptTopic>();
  readonly #names = new NameOrder(this.#topics);
  readonly #records: Records;
  #head = 0;
  /** No topic that is not remembered has had an event after this seq. */
  #floor = 0;
  #bytes = 0;

  /** @throws {RangeError | TypeError} naming the option that cannot be used. */
  constructor(options: MemoryLogOptions = {}) {
    const { history = {}, maxHistoryBytes = 256 * 1024 * 1024, maxTopics = 10_000 } = options;
    const { maxKeys = 10_000, now = () => Date.now() } = options;
    this.#limits = typeof history === 'function' ? history : () => history;
    // Finds limits that are out of range now, not at the first event.
    if (typeof history !== 'function') checkLimits(history);
    this.#maxHistoryBytes = atLeastOne('maxHistoryBytes', maxHistoryBytes);
    this.#maxTopics = atLeastOne('maxTopics', maxTopics);
    this.#records = new Records(atLeastOne('maxKeys', maxKeys));
    this.#now = now;
    this.epochs = [{ epoch: newEpoch(now, Math.random), base: 0 }];
  }

  get head(): number {
    return this.#head;
  }

  /** What the events of all topics hold in memory: see `maxHistoryBytes`. */
  get bytes(): number {
    return this.#bytes;
  }

  /** @throws {RangeError} for entries that are not in order or cannot be kept. Then none of them is. */
  append(entries: readonly LogEntry[], records: readonly AppendRecord[] = []): void {
    this.#check(entries);
    for (const entry of entries) this.#add(entry);
    for (const record of records) this.#records.keep(record);
  }

  recall(key: string): AppendRecord | undefined {
    return this.#records.get(key);
  }

  change(name: string, change: TopicChange): boolean {
    const topic = change === 'end' ? this.#rememberedTopic(name) : this.#topics.get(name);
    if (topic === undefined || !isChange(topic, change)) return false;
    topic.ended = change === 'end';
    if (change === 'end') topic.deleted = false;
    if (change === 'delete') {
      topic.deleted = true;
      topic.clear();
      this.#count(topic);
    }
    return true;
  }

  read(
    names: readonly string[],
    after: number,
    maxBytes: number,
    { newestOnly }: { readonly newestOnly: boolean },
  ): LogPage {
    const dropped: { topic: string; seq: number }[] = [];
    const runs: Run[] = [];
    for (const name of new Set(names)) {
      const topic = this.#trimmed(name);
      const lost = topic?.ring.dropped ?? this.#floor;
      if (lost > after) dropped.push({ topic: name, seq: lost });
      if (topic !== undefined) runs.push(new Run(topic, Math.max(after, lost), newestOnly));
    }
    const { entries, isAll } = merge(runs, maxBytes);
    return { entries, until: isAll ? Math.max(after, this.#head) : entries.at(-1)!.seq, dropped };
  }

  find(names: readonly string[]): readonly TopicRecord[] {
    return [...new Set(names)].flatMap((name) => this.#trimmed(name)?.record ?? []);
  }

  list({ after = '', limit = Infinity }: ListOptions = {}): readonly TopicRecord[] {
    const found: TopicRecord[] = [];
    for (const name of this.#names.after(after)) {
      if (found.length >= limit) break;
      const topic = this.#trimmed(name)!;
      if (!topic.deleted) found.push(topic.record);
    }
    return found;
  }

  beforeNewest(names: readonly string[], count: number): number {
    const topics = [...new Set(names)].flatMap((name) => this.#trimmed(name) ?? []);
    return beforeNewest(topics, count, this.#head);
  }

  // ── writing ──────────────────────────────────────────────────────────────────────────────────────────────

  #check(entries: readonly LogEntry[]): void {
    let last = this.#head;
    for (const { seq, at, key } of entries) {
      if (!(seq > last && Number.isSafeInteger(seq)))
        throw new RangeError(`\`seq\` must be a whole number above ${last}, got ${seq}`);
      if (!Number.isFinite(at)) throw new RangeError(`\`at\` must be a number of milliseconds, got ${at}`);
      if (key !== undefined && key.length > MAX_KEY_LENGTH)
        throw new RangeError(`\`key\` must have at most ${MAX_KEY_LENGTH} characters, got ${key.length}`);
      last = seq;
    }
  }

  #add(entry: LogEntry): void {
    const topic = this.#rememberedTopic(entry.topic);
    topic.keep(entry);
    topic.deleted = false;
    this.#head = entry.seq;
    // Moves it behind those that were silent for longer.
    this.#topics.delete(entry.topic);
    this.#topics.set(entry.topic, topic);
    this.#trim(topic);
    if (this.#bytes > this.#maxHistoryBytes) this.#shed(topic);
  }

  #rememberedTopic(name: string): KeptTopic {
    const known = this.#topics.get(name);
    if (known !== undefined) return known;
    if (this.#topics.size >= this.#maxTopics) this.#forgetOne();
    const topic = new KeptTopic(name, this.#floor);
    this.#topics.set(name, topic);
    this.#names.add(name);
    return topic;
  }

  /** Forgets the topic that was silent for longest, with its record. */
  #forgetOne(): void {
    const [topic] = this.#topics.values();
    if (topic === undefined) return;
    this.#topics.delete(topic.name);
    this.#bytes -= topic.countedBytes;
    this.#floor = Math.max(this.#floor, topic.ring.last);
  }

  // ── limits ───────────────────────────────────────────────────────────────────────────────────────────────

  #trimmed(name: string): KeptTopic | undefined {
    const topic = this.#topics.get(name);
    if (topic !== undefined) this.#trim(topic);
    return topic;
  }

  #trim(topic: KeptTopic): void {
    topic.trim(checkLimits(this.#limits(topic.name)), this.#now());
    this.#count(topic);
  }

  /**
   * Drops the history of the topics that were silent for longest, down to nine tenths, so that this is rare.
   */
  #shed(newest: KeptTopic): void {
    const enough = this.#maxHistoryBytes * 0.9;
    for (const topic of this.#topics.values()) {
      while (this.#bytes > enough && topic.dropPart(Infinity)) this.#count(topic);
      if (this.#bytes <= enough) return;
      if (topic === newest) topic.keepNewest();
      else topic.clear();
      this.#count(topic);
    }
  }

  /** Counts what a topic holds. Called whenever that has changed. */
  #count(topic: KeptTopic): void {
    this.#bytes += topic.heldBytes - topic.countedBytes;
    topic.countedBytes = topic.heldBytes;
  }
}

/** A key with more cannot be kept. A hub takes 1,000. */
const MAX_KEY_LENGTH = 65_534;

/** Whether a topic has something to change. */
function isChange({ ended, deleted }: KeptTopic, change: TopicChange): boolean {
  if (change === 'reopen') return ended;
  return change === 'end' ? !ended : !deleted;
}

// ── topics ────────────────────────────────────────────────────────────────────────────────────────────────

/**
 * A record is a frame, with its key before it:
 *
 *     │ units of the key, or NO_KEY │ bytes before frames, so far │ key, UTF-16 │ frame │
 *       2 bytes                       6 bytes
 *
 * The second number counts what all records of the topic up to this one have before their frames, so that the
 * bytes of all frames that are kept can be told without looking at each.
 */
const HEAD_BYTES = 8;
const NO_KEY = 65_535;

/** Larger segments would be released later: see `FrameRing`. */
const SEGMENT_BYTES = 64 * 1024;

const NO_LIMITS = frameLimits({ maxEvents: Infinity, maxBytes: Infinity, maxAge: Infinity }, SEGMENT_BYTES);

/** A topic that keeps its own records. */
class KeptTopic extends Topic {
  /** What the records that it ever kept had before their frames. */
  #heads = 0;

  constructor(name: string, dropped: number) {
    super(name, dropped);
    this.open(NO_LIMITS);
  }

  keep({ seq, at, frame, key }: LogEntry): void {
    const head = HEAD_BYTES + 2 * (key?.length ?? 0);
    const record = Buffer.allocUnsafe(head + frame.length);
    this.#heads += head;
    record.writeUInt16LE(key?.length ?? NO_KEY, 0);
    record.writeUIntLE(this.#heads, 2, 6);
    if (key !== undefined) record.write(key, HEAD_BYTES, 'utf16le');
    record.set(frame, head);
    this.push({ seq, at, frame: record, bytes: record.length, key });
  }

  trim({ maxEvents, maxBytes, maxAge }: Limits, now: number): void {
    while (this.ring.size > maxEvents && this.dropOldest()) {}
    while (this.#frameBytes > maxBytes && this.dropOldest()) {}
    if (maxAge === Infinity) return;
    while (this.#isOlder(now - maxAge) && this.dropOldest()) {}
    if (this.#isOlder(now - maxAge)) this.clear();
  }

  #isOlder(time: number): boolean {
    const { first, end } = this.ring;
    return first < end && this.ring.segmentAt(first).timeOf(first) < time;
  }

  /** The entry at a place of the ring, with bytes of its own. */
  entryAt(place: number): LogEntry {
    const record = this.#recordAt(place);
    const key = keyOf(record);
    const segment = this.ring.segmentAt(place);
    const frame = Buffer.from(record.subarray(headOf(record)));
    return { seq: segment.seqOf(place), topic: this.name, at: segment.timeOf(place), frame, key };
  }

  frameBytesAt(place: number): number {
    const record = this.#recordAt(place);
    return record.length - headOf(record);
  }

  get record(): TopicRecord {
    const { ring, name: topic, ended, deleted } = this;
    const record = { topic, last: ring.last, dropped: ring.dropped, ended };
    return { ...record, ...(deleted && { deleted }), events: ring.size, bytes: this.#frameBytes };
  }

  get #frameBytes(): number {
    const { first, end, bytes } = this.ring;
    if (first === end) return 0;
    const oldest = this.#recordAt(first);
    return bytes - (this.#heads - oldest.readUIntLE(2, 6) + headOf(oldest));
  }

  #recordAt(place: number): Buffer {
    const segment = this.ring.segmentAt(place);
    return segment.bytes.subarray(segment.startOf(place), segment.endOf(place));
  }
}

function keyOf(record: Buffer): string | undefined {
  const units = record.readUInt16LE(0);
  return units === NO_KEY ? undefined : record.toString('utf16le', HEAD_BYTES, HEAD_BYTES + 2 * units);
}

/** The bytes before the frame. */
function headOf(record: Buffer): number {
  const units = record.readUInt16LE(0);
  return units === NO_KEY ? HEAD_BYTES : HEAD_BYTES + 2 * units;
}

// ── pages ─────────────────────────────────────────────────────────────────────────────────────────────────

/** The events of a topic, while they are merged with those of others. */
class Run {
  readonly topic: KeptTopic;
  readonly #newestOnly: boolean;
  place: number;

  constructor(topic: KeptTopic, after: number, newestOnly: boolean) {
    this.topic = topic;
    this.#newestOnly = newestOnly;
    this.place = this.#from(topic.ring.placeAfter(after));
  }

  /** The seq of the next event; `Infinity` where there is none. */
  get seq(): number {
    const { ring } = this.topic;
    return this.place < ring.end ? ring.segmentAt(this.place).seqOf(this.place) : Infinity;
  }

  next(): void {
    this.place = this.#from(this.place + 1);
  }

  #from(place: number): number {
    return this.#newestOnly ? this.topic.newestFrom(place) : place;
  }
}

function merge(
  runs: readonly Run[],
  maxBytes: number,
): { readonly entries: LogEntry[]; readonly isAll: boolean } {
  const entries: LogEntry[] = [];
  let left = maxBytes;
  for (let run = firstOf(runs); run !== undefined; run = firstOf(runs)) {
    left -= run.topic.frameBytesAt(run.place);
    if (left < 0 && entries.length > 0) return { entries, isAll: false };
    entries.push(run.topic.entryAt(run.place));
    run.next();
  }
  return { entries, isAll: true };
}

/** The run whose next event comes first; `undefined` where all have ended. */
function firstOf(runs: readonly Run[]): Run | undefined {
  let [first, least]: [Run | undefined, number] = [undefined, Infinity];
  for (const run of runs) {
    const { seq } = run;
    if (seq < least) [first, least] = [run, seq];
  }
  return first;
}

// ── idempotency keys ──────────────────────────────────────────────────────────────────────────────────────

/** Large keys make room for fewer of them. */
const MAX_RECORD_BYTES = 8 * 1024 * 1024;

/** The record, and its place in the map. */
const RECORD_BYTES = 200;

/** The newest records of appends, oldest first. */
class Records {
  readonly #maxKeys: number;
  readonly #kept = new Map<string, AppendRecord>();
  #bytes = 0;

  constructor(maxKeys: number) {
    this.#maxKeys = maxKeys;
  }

  get(key: string): AppendRecord | undefined {
    return this.#kept.get(key);
  }

  keep(record: AppendRecord): void {
    this.#drop(record.key);
    this.#kept.set(record.key, record);
    this.#bytes += bytesOf(record);
    for (const oldest of this.#kept.keys()) {
      const fits = this.#kept.size <= this.#maxKeys && this.#bytes <= MAX_RECORD_BYTES;
      if (fits || this.#kept.size === 1) return;
      this.#drop(oldest);
    }
  }

  #drop(key: string): void {
    const record = this.#kept.get(key);
    if (record === undefined) return;
    this.#kept.delete(key);
    this.#bytes -= bytesOf(record);
  }
}

function bytesOf({ key, digest }: AppendRecord): number {
  return RECORD_BYTES + 2 * (key.length + digest.length);
}
