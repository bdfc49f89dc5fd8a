// Keeps the history of a hub: a ring of events for each topic, with limits for each and for all together.
// Needs `protocol.ts` and `replay.ts` beside it.

import { isTopic, topicRule } from './protocol.ts';
import { ReplayBuffer, type ReplayEntry } from './replay.ts';

/** An event as it is remembered: its place, and its bytes on the wire. */
export interface LogEntry extends ReplayEntry {
  readonly topic: string;
  /** The event as it goes over the wire, its id included. */
  readonly frame: string;
  /** Names the value that the event updates; `undefined` where no later event replaces it. */
  readonly key: string | undefined;
}

/** How much of a topic is remembered for clients that return. */
export interface HistoryLimits {
  /** Most events; default 10,000. */
  maxEvents?: number | undefined;
  /** Most bytes on the wire, and so the size of the largest event that can be published; default 4 MiB. */
  maxBytes?: number | undefined;
  /** Milliseconds; default no limit. */
  maxAge?: number | undefined;
}

export interface HistoryOptions {
  /** The limits of each topic, or a function that is called once for each new topic. */
  history?: HistoryLimits | ((topic: string) => HistoryLimits) | undefined;
  /** Most bytes remembered in all topics together; default 256 MiB. */
  maxHistoryBytes?: number | undefined;
  /** Most topics; default 10,000. */
  maxTopics?: number | undefined;
}

/** One topic: its ring and its followers. */
export class Topic<Follower = unknown> {
  readonly name: string;
  readonly ring: ReplayBuffer<LogEntry>;
  /** The largest event that can be published, in bytes. */
  readonly maxBytes: number;
  readonly followers: Set<Follower> = new Set();
  readonly #firstSeen: number;
  /** An event or the topic's end was published since the last turn. */
  hasNews = false;
  ended = false;
  /**
   * Deleted, and neither published to nor ended since. The record stays, because it states the newest seq
   * that was lost.
   */
  deleted = false;

  constructor(name: string, limits: HistoryLimits, dropped: number) {
    this.name = name;
    this.ring = openRing(limits, dropped);
    this.maxBytes = limits.maxBytes ?? MAX_TOPIC_BYTES;
    this.#firstSeen = this.ring.last;
  }

  /** Nothing was published since the topic was created: it exists only because it has followers. */
  get isUnused(): boolean {
    return this.ring.last === this.#firstSeen && !this.ended && !this.deleted;
  }
}

/** The topics of a hub. Every operation on one event takes constant time, except those that make room. */
export class History<Follower = unknown> {
  readonly #topics = new Map<string, Topic<Follower>>();
  readonly #limits: (topic: string) => HistoryLimits;
  readonly #maxBytes: number;
  readonly #maxTopics: number;
  /** No topic that is not in memory has had an event after this seq. */
  #newestForgotten: number;
  #bytes = 0;
  #round: Iterator<Topic<Follower>> = this.#topics.values();

  /** @throws {RangeError | TypeError} naming the option that cannot be used. */
  constructor(options: HistoryOptions, head: number) {
    const { history = {}, maxHistoryBytes = 256 * 1024 * 1024, maxTopics = 10_000 } = options;
    this.#limits = typeof history === 'function' ? history : () => history;
    // Finds limits that are out of range now, not at the first event.
    if (typeof history !== 'function') openRing(history, 0);
    this.#maxBytes = atLeastOne('maxHistoryBytes', maxHistoryBytes);
    this.#maxTopics = atLeastOne('maxTopics', maxTopics);
    this.#newestForgotten = head;
  }

  /** The size of the history of all topics, in bytes on the wire. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Every topic, also the deleted ones that have a record. */
  [Symbol.iterator](): Iterator<Topic<Follower>> {
    return this.#topics.values();
  }

  get(name: string): Topic<Follower> | undefined {
    return this.#topics.get(name);
  }

  /**
   * The topic, created if it does not exist.
   * @throws {TypeError} code `ERR_SSE_MALFORMED_TOPIC` for a name that is not valid.
   * @throws {Error} code `ERR_SSE_TOO_MANY_TOPICS` when it is new and every other topic has followers.
   */
  open(name: string): Topic<Follower> {
    const known = this.#topics.get(name);
    if (known !== undefined) return known;
    checkTopic(name);
    if (this.#topics.size >= this.#maxTopics) this.#forgetIdle();
    const topic = new Topic<Follower>(name, this.#limits(name), this.#newestForgotten);
    this.#topics.set(name, topic);
    return topic;
  }

  /**
   * Throws if the entry cannot be appended, and changes nothing.
   * @throws {RangeError} code `ERR_SSE_EVENT_TOO_LARGE` for an event larger than the topic's `maxBytes`.
   */
  check({ name, maxBytes, ring }: Topic<Follower>, entry: LogEntry): void {
    if (entry.bytes > maxBytes) {
      const message = `an event of topic "${name}" must have at most ${maxBytes} bytes (\`maxBytes\`), got ${entry.bytes}`;
      throw fail(new RangeError(message), 'ERR_SSE_EVENT_TOO_LARGE', 413);
    }
    ring.check(entry);
  }

  /** Remembers the newest event; older ones make room for it. */
  append(topic: Topic<Follower>, entry: LogEntry): void {
    const before = topic.ring.bytes;
    topic.ring.push(entry);
    topic.deleted = false;
    this.#bytes += topic.ring.bytes - before;
    if (this.#bytes > this.#maxBytes) this.#shed(entry);
  }

  /**
   * Drops the events of the next topic that are too old, topic by topic over many calls: a topic without new
   * events drops nothing by itself.
   */
  expireNext(now: number): void {
    const { value: topic, done } = this.#round.next();
    if (done) this.#round = this.#topics.values();
    else this.expire(topic, now);
  }

  /** Drops the events of one topic that are too old. */
  expire(topic: Topic<Follower>, now: number): void {
    this.#change(topic, () => topic.ring.expire(now));
  }

  /**
   * Drops all events of a topic, and reopens it where it has ended. The record stays, so that a client with
   * an older id gets a gap.
   */
  clear(topic: Topic<Follower>): void {
    this.#change(topic, () => topic.ring.clear());
    topic.ended = false;
    topic.deleted = true;
  }

  /** Removes a topic to which nothing was ever published, once it has no followers. */
  release(topic: Topic<Follower>): void {
    if (topic.followers.size === 0 && topic.isUnused) this.#topics.delete(topic.name);
  }

  #change(topic: Topic<Follower>, act: () => void): void {
    const before = topic.ring.bytes;
    act();
    this.#bytes += topic.ring.bytes - before;
  }

  /**
   * Drops the history of the topics that were silent for longest, down to nine tenths of the limit, so that
   * this is rare.
   */
  #shed(newest: LogEntry): void {
    // The newest event stays, whatever its size: it is not delivered yet.
    const enough = Math.max(this.#maxBytes * 0.9, newest.bytes);
    for (const topic of this.#bySilence(() => true)) {
      this.#change(topic, () => topic.ring.shrink(topic.ring.bytes - (this.#bytes - enough)));
      if (this.#bytes <= enough) return;
    }
  }

  /** Forgets one in a hundred of the topics, those without followers that were silent for longest. */
  #forgetIdle(): void {
    const idle = this.#bySilence(({ followers }) => followers.size === 0);
    if (idle.length === 0) {
      const message = `all ${this.#maxTopics} topics (\`maxTopics\`) have subscribers: raise \`maxTopics\`, or follow fewer`;
      throw fail(new Error(message), 'ERR_SSE_TOO_MANY_TOPICS', 503);
    }
    for (const topic of idle.slice(0, Math.ceil(this.#maxTopics / 100))) this.#forget(topic);
  }

  #forget(topic: Topic<Follower>): void {
    this.#topics.delete(topic.name);
    this.#bytes -= topic.ring.bytes;
    // No record is left of its lost events, so an older id gets a gap in any topic that is not in memory.
    this.#newestForgotten = Math.max(this.#newestForgotten, topic.ring.last);
  }

  #bySilence(wanted: (topic: Topic<Follower>) => boolean): Topic<Follower>[] {
    return [...this.#topics.values()].filter(wanted).sort((a, b) => a.ring.last - b.ring.last);
  }
}

const MAX_TOPIC_BYTES = 4 * 1024 * 1024;

/** @throws {TypeError} code `ERR_SSE_MALFORMED_TOPIC`. */
export function checkTopic(name: unknown): string {
  if (isTopic(name)) return name;
  const message = `\`topic\` must be ${topicRule}, got ${JSON.stringify(name)?.slice(0, 80)}`;
  throw fail(new TypeError(message), 'ERR_SSE_MALFORMED_TOPIC', 400);
}

function openRing(limits: HistoryLimits, dropped: number): ReplayBuffer<LogEntry> {
  const { maxEvents = 10_000, maxBytes = MAX_TOPIC_BYTES, maxAge = Infinity } = limits;
  if (maxEvents !== Infinity && !(Number.isSafeInteger(maxEvents) && maxEvents >= 1)) {
    throw new RangeError(`\`maxEvents\` must be a whole number ≥ 1, got ${maxEvents}`);
  }
  return new ReplayBuffer({ maxEntries: maxEvents, maxBytes, maxAge, dropped });
}

function fail<E extends Error>(error: E, code: string, status: number): E {
  return Object.assign(error, { code, status });
}

function atLeastOne(name: string, value: number): number {
  if (typeof value === 'number' && value >= 1) return value;
  throw new RangeError(`\`${name}\` must be a number ≥ 1, got ${value}`);
}
