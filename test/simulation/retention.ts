// What was published, and what the limits of a hub promise that its memory still holds. A model that is read
// off the documentation: it shares no code with the hub.

import type { HistoryLimits } from '../../lib/hub.ts';

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
  bytes = 0;
  /** The newest seq that is no longer held. */
  dropped: number;
  last: number;
  followers = 0;
  ended = false;
  deleted = false;
  readonly #firstSeen: number;

  constructor(name: string, limits: HistoryLimits, dropped: number) {
    const { maxEvents = 10_000, maxBytes = 4 * 1024 * 1024, maxAge = Infinity } = limits;
    this.name = name;
    this.limits = { maxEvents, maxBytes, maxAge };
    this.dropped = this.last = this.#firstSeen = dropped;
  }

  /** It exists only because it has followers. */
  get isUnused(): boolean {
    return this.last === this.#firstSeen && !this.ended && !this.deleted;
  }

  dropOldest(): void {
    const oldest = this.events.shift()!;
    this.bytes -= oldest.bytes;
    this.dropped = oldest.seq;
  }

  expire(now: number): void {
    while (this.events.length > 0 && this.events[0]!.at < now - this.limits.maxAge) this.dropOldest();
  }

  /** Whether it must hold this event of its own. */
  holds({ seq, at }: Published, now: number): boolean {
    return seq > this.dropped && at >= now - this.limits.maxAge;
  }
}

/** What memory holds of all topics. */
export class Retention {
  readonly topics: Map<string, Held> = new Map();
  /** No topic that is not in memory has had an event after this seq. */
  newestForgotten: number;
  readonly #limits: HistoryLimits;
  readonly #maxBytes: number;
  readonly #maxTopics: number;

  constructor(limits: HistoryLimits, maxBytes: number, maxTopics: number, head: number) {
    this.#limits = limits;
    this.#maxBytes = maxBytes;
    this.#maxTopics = maxTopics;
    this.newestForgotten = head;
  }

  get bytes(): number {
    let bytes = 0;
    for (const topic of this.topics.values()) bytes += topic.bytes;
    return bytes;
  }

  get maxEventBytes(): number {
    return this.#limits.maxBytes ?? 4 * 1024 * 1024;
  }

  /** The topic, created if need be; `undefined` when there are too many and all have followers. */
  open(name: string): Held | undefined {
    const known = this.topics.get(name);
    if (known !== undefined) return known;
    if (this.topics.size >= this.#maxTopics && !this.#forgetIdle()) return undefined;
    const topic = new Held(name, this.#limits, this.newestForgotten);
    this.topics.set(name, topic);
    return topic;
  }

  append(topic: Held, event: Published): void {
    const { maxEvents, maxBytes, maxAge } = topic.limits;
    if (topic.events.length === maxEvents) topic.dropOldest();
    while (topic.bytes + event.bytes > maxBytes) topic.dropOldest();
    if (maxAge !== Infinity) topic.expire(event.at);
    topic.events.push(event);
    topic.bytes += event.bytes;
    topic.last = event.seq;
    topic.deleted = false;
    if (this.#maxBytes !== Infinity && this.bytes > this.#maxBytes) this.#shed(event);
  }

  clear(topic: Held): void {
    topic.events = [];
    topic.bytes = 0;
    topic.dropped = topic.last;
    topic.ended = false;
    topic.deleted = true;
  }

  /** Removes a topic that nobody follows and to which nothing was published. */
  release(topic: Held): void {
    if (topic.followers === 0 && topic.isUnused) this.topics.delete(topic.name);
  }

  holds(event: Published, now: number): boolean {
    return this.topics.get(event.topic)?.holds(event, now) === true;
  }

  #bySilence(): Held[] {
    return [...this.topics.values()].sort((a, b) => a.last - b.last);
  }

  /** The topics that were silent for longest lose first, until a tenth of the limit is free. */
  #shed(newest: Published): void {
    const enough = Math.max(this.#maxBytes * 0.9, newest.bytes);
    let bytes = this.bytes;
    for (const topic of this.#bySilence()) {
      while (bytes > enough && topic.events.length > 0) {
        bytes -= topic.events[0]!.bytes;
        topic.dropOldest();
      }
    }
  }

  /** Forgets the one that was silent for longest, of those without followers. */
  #forgetIdle(): boolean {
    const idle = this.#bySilence().find(({ followers }) => followers === 0);
    if (idle === undefined) return false;
    this.topics.delete(idle.name);
    this.newestForgotten = Math.max(this.newestForgotten, idle.last);
    return true;
  }
}
