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
  /** What its events hold in memory. */
  held = 0;
  followers = 0;
  /** It was published to or has ended, and was not forgotten since. */
  isHeld = false;
  ended = false;
  deleted = false;
  readonly #firstSeen: number;

  constructor(name: string, limits: HistoryLimits, dropped: number) {
    const { maxEvents = 10_000, maxBytes = 4 * 1024 * 1024, maxAge = Infinity } = limits;
    this.name = name;
    this.limits = { maxEvents, maxBytes, maxAge };
    this.dropped = this.last = this.#firstSeen = dropped;
  }

  /** Nothing was published since it came into memory. */
  get isUnused(): boolean {
    return this.last === this.#firstSeen;
  }

  dropOldest(): void {
    const oldest = this.events.shift()!;
    this.bytes -= oldest.bytes;
    this.held -= heldBytes(oldest);
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

/** A remembered event costs its text, its key, and the objects around them. */
function heldBytes({ text, bytes, key }: Published): number {
  const frame = text.length === bytes ? bytes : 2 * text.length;
  return 130 + frame + (key === undefined ? 0 : 90 + 2 * key.length);
}

export interface RetentionOptions {
  readonly maxHistoryBytes: number;
  readonly maxTopics: number;
  readonly maxFollowedTopics: number;
  /** The hub no longer knows that a topic has ended. */
  readonly onEndForgotten: (name: string) => void;
}

/** What memory holds of all topics. */
export class Retention {
  readonly topics: Map<string, Held> = new Map();
  /** No topic that is not in memory has had an event after this seq. */
  newestForgotten: number;
  /** Ended topics that are not in memory, and their newest seqs. */
  readonly #tombstones: Map<string, number> = new Map();
  readonly #limits: HistoryLimits;
  readonly #options: RetentionOptions;

  constructor(limits: HistoryLimits, options: RetentionOptions, head: number) {
    this.#limits = limits;
    this.#options = options;
    this.newestForgotten = head;
  }

  /** What all events hold in memory. */
  get bytes(): number {
    let bytes = 0;
    for (const topic of this.topics.values()) bytes += topic.held;
    return bytes;
  }

  get maxEventBytes(): number {
    return this.#limits.maxBytes ?? 4 * 1024 * 1024;
  }

  #list(wanted: (topic: Held) => boolean): Held[] {
    return [...this.topics.values()].filter(wanted);
  }

  /** Whether these topics can be followed. */
  canFollow(names: readonly string[]): boolean {
    const fresh = names.filter((name) => !this.topics.has(name)).length;
    return (
      fresh === 0 || this.#list(({ isHeld }) => !isHeld).length + fresh <= this.#options.maxFollowedTopics
    );
  }

  /** A topic as it is before its next event; one that is not in memory comes there with `hold`. */
  prepare(name: string): Held {
    return this.topics.get(name) ?? this.#create(name);
  }

  #create(name: string): Held {
    const end = this.#tombstones.get(name);
    const topic = new Held(name, this.#limits, end ?? this.newestForgotten);
    topic.ended = end !== undefined;
    return topic;
  }

  follow(name: string): Held {
    const topic = this.prepare(name);
    this.topics.set(name, topic);
    topic.followers++;
    return topic;
  }

  append(prepared: Held, event: Published): void {
    const topic = this.topics.get(prepared.name) ?? prepared;
    this.hold(topic);
    const { maxEvents, maxBytes, maxAge } = topic.limits;
    if (topic.events.length === maxEvents) topic.dropOldest();
    while (topic.bytes + event.bytes > maxBytes) topic.dropOldest();
    if (maxAge !== Infinity) topic.expire(event.at);
    topic.events.push(event);
    topic.bytes += event.bytes;
    topic.held += heldBytes(event);
    topic.last = event.seq;
    topic.deleted = false;
    if (this.bytes > this.#options.maxHistoryBytes) this.#shed(event);
  }

  hold(topic: Held): void {
    if (topic.isHeld) return;
    if (this.#list(({ isHeld }) => isHeld).length >= this.#options.maxTopics) this.#makeRoom();
    topic.isHeld = true;
    this.topics.set(topic.name, topic);
  }

  clear(topic: Held): void {
    this.#empty(topic);
    topic.ended = false;
    topic.deleted = true;
  }

  #empty(topic: Held): void {
    topic.events = [];
    topic.bytes = topic.held = 0;
    topic.dropped = topic.last;
  }

  /** It takes events again. */
  reopen(name: string): void {
    const topic = this.topics.get(name);
    if (topic === undefined) {
      this.#tombstones.delete(name);
      return;
    }
    const { ended } = topic;
    topic.ended = false;
    if (ended && topic.isUnused) topic.isHeld = false;
    this.release(topic);
  }

  /** Removes a topic that nobody follows and that has no history. */
  release(topic: Held): void {
    if (topic.followers > 0 || topic.isHeld || this.topics.get(topic.name) !== topic) return;
    this.topics.delete(topic.name);
    this.newestForgotten = Math.max(this.newestForgotten, topic.last);
    if (topic.ended) this.#tombstones.set(topic.name, topic.last);
    else this.#tombstones.delete(topic.name);
    if (this.#tombstones.size <= this.#options.maxTopics) return;
    const [oldest] = this.#tombstones.keys();
    this.#tombstones.delete(oldest!);
    if (!this.topics.has(oldest!)) this.#options.onEndForgotten(oldest!);
  }

  holds(event: Published, now: number): boolean {
    return this.topics.get(event.topic)?.holds(event, now) === true;
  }

  #bySilence(wanted: (topic: Held) => boolean): Held[] {
    return this.#list(wanted).sort((a, b) => a.last - b.last);
  }

  /** The topics that were silent for longest lose first, until a tenth of the limit is free. */
  #shed(newest: Published): void {
    const enough = Math.max(this.#options.maxHistoryBytes * 0.9, heldBytes(newest));
    for (const topic of this.#bySilence(() => true))
      while (this.bytes > enough && topic.events.length > 0) topic.dropOldest();
  }

  /** Forgets the one that was silent for longest, of those without followers where there are any. */
  #makeRoom(): void {
    const held = this.#bySilence(({ isHeld }) => isHeld);
    const topic = held.find(({ followers }) => followers === 0) ?? held[0]!;
    topic.isHeld = topic.deleted = false;
    this.#empty(topic);
    this.release(topic);
  }
}
