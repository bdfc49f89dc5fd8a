// What was published, and what the limits of a hub promise that its memory still holds. A model that is read
// off the documentation: of the hub's code it uses only what was measured, the costs of a slot, a segment and a
// key.
//
// The limits of a topic say exactly which of its events are held. `maxHistoryBytes` does not: it counts memory,
// which the hub allocates in segments. So the model learns from the hub how many events each topic has left, and
// checks that this is what the limit promises (`learn`). For that it works out the least and the most memory
// that what is held can take.

import { SEGMENT_OBJECT_BYTES, SLOT_BYTES } from '../../lib/frame-ring.ts';
import type { HistoryLimits } from '../../lib/hub.ts';
import { INDEX_BYTES, keyBytes, PLACE_BYTES, ROOM_BYTES } from '../../lib/newest.ts';

/** One event, as the fuzzer knows it. */
export interface Published {
  readonly seq: number;
  readonly topic: string;
  /** The bit of its topic in the sets of topics that clients follow. */
  readonly bit: number;
  readonly key: string | undefined;
  /** All of its bytes on the wire. */
  readonly text: string;
  readonly bytes: number;
  readonly at: number;
  /** The number of the turn before which it was published. */
  readonly turn: number;
  /** The seq of the next event of the same topic and key; 0 as long as there is none. */
  next: number;
  /** The number of the turn before which its topic was deleted. */
  deleted: number | undefined;
}

/** What memory holds of one topic. */
export class Held {
  readonly name: string;
  readonly limits: Required<Record<keyof HistoryLimits, number>>;
  /** Oldest first. Those that are older than the age limit may be gone, unless `expire` was called. */
  events: Published[] = [];
  /** On the wire. */
  bytes = 0;
  /** The newest seq that is no longer held. */
  dropped: number;
  last: number;
  followers = 0;
  /** It counts for `maxTopics`. Otherwise it exists because it has followers. */
  isHeld = false;
  /** Grows with each event of any topic, and with each topic that begins to count. */
  heardAt = 0;
  ended: boolean;
  deleted = false;
  /** The keys of the events, how many events have each, and what the keys cost. */
  readonly #keys = new Map<string, number>();
  #keyBytes = 0;
  /** There was an event with a key since it held nothing. */
  #isIndexed = false;
  /** The most events at once, and the most of their bytes and slots, since it held nothing. */
  #mostEvents = 0;
  #mostUsed = 0;
  /** The fewest bytes of an event and its slot since it held nothing. */
  #leastNeeded = Infinity;
  readonly #firstSeen: number;

  constructor(name: string, limits: HistoryLimits, dropped: number, ended: boolean) {
    const { maxEvents = 10_000, maxBytes = 4 * 1024 * 1024, maxAge = Infinity } = limits;
    this.name = name;
    this.limits = { maxEvents, maxBytes, maxAge };
    this.dropped = this.last = this.#firstSeen = dropped;
    this.ended = ended;
  }

  /** Nothing was published since it is known. */
  get isUnused(): boolean {
    return this.last === this.#firstSeen;
  }

  /** It is left out of lists, and cannot be ended. */
  get isHidden(): boolean {
    return this.deleted && this.followers === 0;
  }

  /** The bytes of its events and of their slots. */
  get used(): number {
    return this.bytes + this.events.length * SLOT_BYTES;
  }

  /** Takes an event, and drops the oldest ones to stay within its own limits. */
  push(event: Published): void {
    const { maxEvents, maxBytes, maxAge } = this.limits;
    // The hub's index of keys takes an event before the ring drops another one.
    this.#mostEvents = Math.max(this.#mostEvents, this.events.length + 1);
    if (this.events.length === maxEvents) this.dropOldest();
    while (this.bytes + event.bytes > maxBytes) this.dropOldest();
    if (maxAge !== Infinity) this.#dropOld(event.at);
    this.events.push(event);
    this.bytes += event.bytes;
    this.last = event.seq;
    this.deleted = false;
    if (event.key !== undefined) this.#countKey(event.key, 1);
    this.#mostUsed = Math.max(this.#mostUsed, this.used);
    this.#leastNeeded = Math.min(this.#leastNeeded, event.bytes + SLOT_BYTES);
  }

  #countKey(key: string, change: number): void {
    this.#isIndexed = true;
    const before = this.#keys.get(key) ?? 0;
    if (before === 0) this.#keyBytes += keyBytes(key);
    this.#keys.set(key, before + change);
    if (before + change > 0) return;
    this.#keys.delete(key);
    this.#keyBytes -= keyBytes(key);
  }

  dropOldest(): void {
    const oldest = this.events.shift()!;
    this.bytes -= oldest.bytes;
    this.dropped = oldest.seq;
    if (oldest.key !== undefined) this.#countKey(oldest.key, -1);
  }

  clear(): void {
    this.events = [];
    this.bytes = this.#keyBytes = this.#mostEvents = this.#mostUsed = 0;
    this.#leastNeeded = Infinity;
    this.#isIndexed = false;
    this.#keys.clear();
    this.dropped = this.last;
  }

  expire(now: number): void {
    this.#dropOld(now);
    if (this.events.length === 0) this.clear();
  }

  #dropOld(now: number): void {
    while (this.events.length > 0 && this.events[0]!.at < now - this.limits.maxAge) this.dropOldest();
  }

  /** The least memory of the events that it must hold: their bytes and slots, one segment, and their keys. */
  leastBytes(now: number): number {
    const held = this.events.filter((event) => this.holds(event, now));
    if (held.length === 0) return 0;
    const keys = new Set(held.flatMap(({ key }) => key ?? []));
    return SEGMENT_OBJECT_BYTES + sum(held, needed) + sum([...keys], keyBytes);
  }

  /**
   * The most memory of what it holds, in segments of at most `size` bytes and those of one larger event each.
   * `used` is what its events and their slots take. Read off lib/frame-ring.ts, lib/newest.ts:
   *
   * As long as no more than three quarters of `size` were ever used, and the clock was steady, there is one segment.
   * When it is full, it becomes twice as large where more than three quarters of it are used, and no larger
   * otherwise. So it has at most four times what was used at some time. It may stay as large when less is used.
   *
   * Otherwise a segment is left when the next event does not fit: what is free in it is less than that event
   * needs, and the first events of all segments need no more than `used`. To this come the events of the oldest
   * segment that were dropped, and what is free in the newest one: less than `size` each.
   */
  mostBytes(size: number, isSteady: boolean): number {
    if (this.events.length === 0) return 0;
    const { used } = this;
    const isOne = isSteady && this.#mostUsed * 4 <= size * 3;
    const memory = isOne ? Math.min(size, 4 * this.#mostUsed) : 2 * used + 2 * size;
    const segments = isOne ? 1 : this.#mostSegments(size);
    return memory + segments * SEGMENT_OBJECT_BYTES + this.mostKeyBytes;
  }

  /**
   * Each segment has an event. A new one is as large as what is held then, up to `size`; and what it and the next
   * one have in use is more than its size. So every two segments double what all have in use, or add `size` to it.
   */
  #mostSegments(size: number): number {
    const doublings = Math.max(0, Math.ceil(Math.log2(size / this.#leastNeeded)));
    return Math.min(this.events.length, 1 + 2 * doublings + 2 * Math.floor(this.used / size));
  }

  /**
   * The index of keys has eight places or more: a power of two, for the most events that there were, and less
   * than four times as many as there are. Its table has room for four times as many keys, or for four.
   */
  get mostKeyBytes(): number {
    if (!this.#isIndexed) return 0;
    const places = Math.max(8, Math.min(2 ** Math.ceil(Math.log2(this.#mostEvents)), 4 * this.events.length));
    const room = 4 * this.#keys.size * ROOM_BYTES;
    return INDEX_BYTES + places * PLACE_BYTES + this.#keyBytes + room;
  }

  /** The most memory of its newest event, where that is all that there is. */
  get newestBytes(): number {
    const { key, bytes } = this.events.at(-1)!;
    const index = this.#isIndexed ? INDEX_BYTES + 8 * PLACE_BYTES : 0;
    return bytes + SLOT_BYTES + SEGMENT_OBJECT_BYTES + index + (key === undefined ? 0 : keyBytes(key));
  }

  /** Whether it must hold this event of its own. */
  holds({ seq, at }: Published, now: number): boolean {
    return seq > this.dropped && at >= now - this.limits.maxAge;
  }
}

/** The limits of a hub's memory. */
export interface MemoryLimits {
  readonly history: HistoryLimits;
  readonly maxHistoryBytes: number;
  readonly maxPageBytes: number;
  readonly maxTopics: number;
  readonly maxFollowedTopics: number;
}

/** What memory holds of all topics. */
export class Retention {
  readonly topics: Map<string, Held> = new Map();
  /** No topic that is not in memory has had an event after this seq. */
  newestForgotten: number;
  #heard = 0;
  readonly #limits: MemoryLimits;
  /** Memory that jumps of the clock may have taken. */
  #slack = 0;
  /** Ended topics that are not in memory, and the newest seq of each. */
  readonly #tombstones: Map<string, number> = new Map();

  constructor(limits: MemoryLimits, head: number) {
    this.#limits = limits;
    this.newestForgotten = head;
  }

  /** The least memory of the events that must be held. */
  leastBytes(now: number): number {
    return sum([...this.topics.values()], (topic) => topic.leastBytes(now));
  }

  /** The most memory of what is held. */
  get mostBytes(): number {
    if ([...this.topics.values()].every(({ events }) => events.length === 0)) return 0;
    const size = segmentBytes(this.#limits);
    return sum([...this.topics.values()], (topic) => topic.mostBytes(size, this.#slack === 0)) + this.#slack;
  }

  /**
   * The clock jumps to another year and back. A segment has only times that are near to each other, so both jumps
   * may begin one, which leaves the one before as empty as it is.
   */
  jump(): void {
    this.#slack += 2 * (segmentBytes(this.#limits) + SEGMENT_OBJECT_BYTES);
  }

  /** The newest seq of a topic that has ended; `undefined` for any other. */
  endOf(name: string): number | undefined {
    const topic = this.topics.get(name);
    if (topic === undefined) return this.#tombstones.get(name);
    return topic.ended ? topic.last : undefined;
  }

  /** There is no room for followers of these topics. */
  isFull(names: readonly string[]): boolean {
    let followed = 0;
    for (const { isHeld } of this.topics.values()) if (!isHeld) followed++;
    const fresh = names.filter((name) => !this.topics.has(name)).length;
    return fresh > 0 && followed + fresh > this.#limits.maxFollowedTopics;
  }

  follow(name: string): void {
    this.#known(name).followers++;
  }

  unfollow(name: string): void {
    const topic = this.topics.get(name);
    if (topic === undefined) return;
    topic.followers--;
    this.#release(topic);
  }

  /** Takes an event. Call `learn` afterwards. */
  append(event: Published): void {
    const topic = this.#known(event.topic);
    this.#hold(topic);
    topic.heardAt = ++this.#heard;
    topic.push(event);
  }

  /** Whether it had not ended. */
  end(name: string): boolean {
    const topic = this.topics.get(name);
    if (topic === undefined || topic.ended || topic.isHidden) return false;
    this.#hold(topic);
    topic.ended = true;
    topic.deleted = false;
    return true;
  }

  /** Whether it had ended. */
  reopen(name: string): boolean {
    const topic = this.topics.get(name);
    if (topic === undefined) return this.#tombstones.delete(name);
    if (!topic.ended) return false;
    topic.ended = false;
    if (topic.isHeld && topic.isUnused) this.#letGo(topic);
    else this.#release(topic);
    return true;
  }

  /** Whether there was anything to delete. */
  delete(name: string): boolean {
    const topic = this.topics.get(name);
    if (topic === undefined) return this.#tombstones.delete(name);
    if (topic.deleted || (topic.isUnused && !topic.ended)) return false;
    topic.clear();
    topic.ended = false;
    topic.deleted = true;
    return true;
  }

  holds(event: Published, now: number): boolean {
    return this.topics.get(event.topic)?.holds(event, now) === true;
  }

  #known(name: string): Held {
    const known = this.topics.get(name);
    if (known !== undefined) return known;
    const end = this.#tombstones.get(name);
    const topic = new Held(name, this.#limits.history, end ?? this.newestForgotten, end !== undefined);
    this.topics.set(name, topic);
    return topic;
  }

  #hold(topic: Held): void {
    if (topic.isHeld) return;
    const held = this.#bySilence().filter(({ isHeld }) => isHeld);
    // One that nobody follows, where there is one; otherwise followers alone keep nothing in memory.
    if (held.length >= this.#limits.maxTopics)
      this.#letGo(held.find(({ followers }) => followers === 0) ?? held[0]!);
    topic.isHeld = true;
    topic.heardAt = ++this.#heard;
  }

  #letGo(topic: Held): void {
    topic.isHeld = topic.deleted = false;
    topic.clear();
    this.#release(topic);
  }

  #release(topic: Held): void {
    if (topic.followers > 0 || topic.isHeld) return;
    this.topics.delete(topic.name);
    this.newestForgotten = Math.max(this.newestForgotten, topic.last);
    if (topic.ended) this.#tombstones.set(topic.name, topic.last);
    else this.#tombstones.delete(topic.name);
    for (const name of this.#tombstones.keys()) {
      if (this.#tombstones.size <= this.#limits.maxTopics) break;
      this.#tombstones.delete(name);
    }
  }

  #bySilence(): Held[] {
    return [...this.topics.values()].sort((a, b) => a.heardAt - b.heardAt);
  }

  // ── maxHistoryBytes ──────────────────────────────────────────────────────────────────────────────────────

  /**
   * Learns what the hub still holds after it took one or more events for one topic, and says what is wrong with
   * that. `most` is the most memory of all topics at any time while it took them, had nothing been shed.
   */
  learn({ counts, historyBytes, most, now, isBatch }: Lesson, newest: Published): Shedding {
    const { maxHistoryBytes } = this.#limits;
    const shed: Shedding = { parts: 0, topics: 0, wrong: undefined };
    let held = 0;
    let [left, part] = ['', 0];
    const size = segmentBytes(this.#limits);
    for (const topic of this.#bySilence()) {
      const count = counts.get(topic.name) ?? 0;
      const keys = topic.mostKeyBytes;
      const largest = this.#drop(topic, count, now);
      if (largest > 0) {
        shed[count === 0 ? 'topics' : 'parts']++;
        // A segment; and the index of keys, where it was the last one.
        part = Math.max(part, Math.max(size, largest + SLOT_BYTES) + SEGMENT_OBJECT_BYTES + keys);
        if (left !== '') shed.wrong = `${topic.name} lost events, and ${left}, silent for longer, has some`;
      }
      if (count === 0) topic.clear();
      else left = topic.name;
      held += count;
    }
    const isShed = shed.parts + shed.topics > 0;
    const topic = this.topics.get(newest.topic)!;
    if (topic.events.at(-1) !== newest) shed.wrong = `${newest.topic} ${newest.seq} was shed at once`;
    else if (isShed && most <= maxHistoryBytes) shed.wrong = `events were shed, and ${most} bytes are enough`;
    // It stops at nine tenths of the limit: the last part was dropped while there was more.
    else if (isShed && !isBatch && historyBytes + part <= maxHistoryBytes * 0.9)
      shed.wrong = `too much was shed: ${historyBytes} bytes are left, and a part has at most ${part}`;
    else if (historyBytes > maxHistoryBytes && (held > 1 || historyBytes > topic.newestBytes))
      shed.wrong = `historyBytes is ${historyBytes}, for ${held} events`;
    return shed;
  }

  /** Drops all but the newest `count` events. @returns the bytes of the largest one that was not too old. */
  #drop(topic: Held, count: number, now: number): number {
    let largest = 0;
    while (topic.events.length > count) {
      const { at, bytes } = topic.events[0]!;
      if (at >= now - topic.limits.maxAge) largest = Math.max(largest, bytes);
      topic.dropOldest();
    }
    return largest;
  }
}

/** What a hub says after it took events. */
export interface Lesson {
  /** How many events each topic has. */
  readonly counts: ReadonlyMap<string, number>;
  readonly historyBytes: number;
  readonly most: number;
  readonly now: number;
  readonly isBatch: boolean;
}

/** How many topics lost a part, and how many all of their events; and what is wrong with it. */
export interface Shedding {
  parts: number;
  topics: number;
  wrong: string | undefined;
}

/** The least and the most memory of a batch, where it is all that there is. */
export function batchBytes(events: readonly Published[], limits: MemoryLimits): [number, number] {
  const used = sum(events, needed);
  const keys = events.flatMap(({ key }) => key ?? []);
  const least = events.length === 0 ? 0 : used + SEGMENT_OBJECT_BYTES + sum([...new Set(keys)], keyBytes);
  // Segments are half full at least; each event may have a key of its own, and two places.
  const segments = 2 + (2 * used) / segmentBytes(limits);
  const index = events.length * 2 * PLACE_BYTES + sum(keys, keyBytes);
  return [least, 2 * used + segments * SEGMENT_OBJECT_BYTES + index];
}

/**
 * A segment is at most 64 KiB, and at most a page and a sixteenth of the limit, where these are more than 4 KiB
 * and 256 bytes.
 */
function segmentBytes({ maxPageBytes, maxHistoryBytes }: MemoryLimits): number {
  return Math.floor(Math.min(64 * 1024, Math.max(maxPageBytes, 4096), Math.max(maxHistoryBytes / 16, 256)));
}

function needed({ bytes }: Published): number {
  return bytes + SLOT_BYTES;
}

function sum<T>(items: readonly T[], of: (item: T) => number): number {
  return items.reduce((total, item) => total + of(item), 0);
}
