// What was published, and what the limits of a hub promise that its memory still holds. A model that is read
// off the documentation: it shares no code with the hub.

import { type HistoryLimits, Hub } from '../../lib/hub.ts';

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
  ended: boolean;
  deleted = false;
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

  dropOldest(): void {
    const oldest = this.events.shift()!;
    this.bytes -= oldest.bytes;
    this.dropped = oldest.seq;
  }

  clear(): void {
    this.events = [];
    this.bytes = 0;
    this.dropped = this.last;
  }

  expire(now: number): void {
    while (this.events.length > 0 && this.events[0]!.at < now - this.limits.maxAge) this.dropOldest();
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
  readonly maxTopics: number;
  readonly maxFollowedTopics: number;
}

/** What memory holds of all topics. */
export class Retention {
  readonly topics: Map<string, Held> = new Map();
  /** No topic that is not in memory has had an event after this seq. */
  newestForgotten: number;
  readonly #limits: MemoryLimits;
  /** Ended topics that are not in memory, and the newest seq of each. */
  readonly #tombstones: Map<string, number> = new Map();

  constructor(limits: MemoryLimits, head: number) {
    this.#limits = limits;
    this.newestForgotten = head;
  }

  /** What the events of all topics hold in the process. */
  get heldBytes(): number {
    let bytes = 0;
    for (const { events } of this.topics.values()) for (const event of events) bytes += heldBytes(event);
    return bytes;
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

  append(event: Published): void {
    const topic = this.#known(event.topic);
    this.#hold(topic);
    const { maxEvents, maxBytes, maxAge } = topic.limits;
    if (topic.events.length === maxEvents) topic.dropOldest();
    while (topic.bytes + event.bytes > maxBytes) topic.dropOldest();
    if (maxAge !== Infinity) topic.expire(event.at);
    topic.events.push(event);
    topic.bytes += event.bytes;
    topic.last = event.seq;
    topic.deleted = false;
    if (this.#limits.maxHistoryBytes !== Infinity) this.#shed(event);
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
    return [...this.topics.values()].sort((a, b) => a.last - b.last);
  }

  /** The topics that were silent for longest lose first, until a tenth of the limit is free. */
  #shed(newest: Published): void {
    const { maxHistoryBytes } = this.#limits;
    let bytes = this.heldBytes;
    if (bytes <= maxHistoryBytes) return;
    const enough = Math.max(maxHistoryBytes * 0.9, heldBytes(newest));
    for (const topic of this.#bySilence()) {
      while (bytes > enough && topic.events.length > 0) {
        bytes -= heldBytes(topic.events[0]!);
        topic.dropOldest();
      }
    }
  }
}

/**
 * What an event holds in the process: an amount that is learned from a hub, its text, in which each character
 * takes two bytes unless all are ASCII, and its key.
 */
export function heldBytes({ text, bytes, key }: Published): number {
  const textBytes = text.length === bytes ? bytes : text.length * 2;
  return cost.event + textBytes + (key === undefined ? 0 : cost.key + key.length * 2);
}

const cost = learnCost();

function learnCost(): { event: number; key: number } {
  const hub = new Hub({ epoch: 1, schedule: () => {} });
  const frameBytes = Buffer.byteLength('id: 1-1\ndata: x\n\n');
  hub.publish('t', { data: 'x' });
  const event = hub.historyBytes - frameBytes;
  hub.publish('t', { data: 'x', key: 'k' });
  return { event, key: hub.historyBytes - 2 * (event + frameBytes) - 2 };
}
