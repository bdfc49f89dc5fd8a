// What a hub remembers: a ring of events for each topic, within limits for each and for all together.
// Needs `protocol.ts` and `replay.ts` beside it.

import { isTopic, topicRule } from './protocol.ts';
import { ReplayBuffer, type ReplayEntry } from './replay.ts';

/** An event as it is remembered: its place, and its bytes on the wire. */
export interface LogEntry extends ReplayEntry {
  readonly topic: string;
  /** The event as it goes over the wire, its id included. */
  readonly frame: string;
  /** What the event is the newest value of. */
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
  /** Deleted, and neither published to nor ended since. The record stays: it knows which ids have lost events. */
  deleted = false;

  constructor(name: string, limits: HistoryLimits, dropped: number) {
    this.name = name;
    this.ring = openRing(limits, dropped);
    this.maxBytes = limits.maxBytes ?? MAX_TOPIC_BYTES;
    this.#firstSeen = this.ring.last;
  }

  /** Nothing was published since the topic was created: it exists for its followers alone. */
  get isUnused(): boolean {
    return this.ring.last === this.#firstSeen && !this.ended && !this.deleted;
  }
}

/** The topics of a hub. Every operation on one event takes constant time, but for those that make room. */
export class History<Follower = unknown> {
  readonly #topics = new Map<string, Topic<Follower>>();
  readonly #limits: (topic: string) => HistoryLimits;
  readonly #maxBytes: number;
  readonly #maxTopics: number;
  /** The newest seq that a topic which is not in memory may have had. */
  #beyond: number;
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
    this.#beyond = head;
  }

  /** What all topics remember, in bytes on the wire. */
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
   * @throws {TypeError} code `ERR_SSE_MALFORMED_TOPIC` for a name that is none.
   * @throws {Error} code `ERR_SSE_TOO_MANY_TOPICS` when it is new and every other topic has followers.
   */
  open(name: string): Topic<Follower> {
    const known = this.#topics.get(name);
    if (known !== undefined) return known;
    checkTopic(name);
    if (this.#topics.size >= this.#maxTopics) this.#forgetIdle();
    const topic = new Topic<Follower>(name, this.#limits(name), this.#beyond);
    this.#topics.set(name, topic);
    return topic;
  }

  /**
   * Throws what `append` would throw, and changes nothing.
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

  /** Drops what has grown too old, of the next topic in turn: a silent topic drops nothing by itself. */
  expireNext(now: number): void {
    const { value: topic, done } = this.#round.next();
    if (done) this.#round = this.#topics.values();
    else this.expire(topic, now);
  }

  /** Drops what of one topic has grown too old. */
  expire(topic: Topic<Follower>, now: number): void {
    this.#change(topic, () => topic.ring.expire(now));
  }

  /** Drops everything that the topic remembers, and lifts its end. The record stays: older ids have lost events. */
  clear(topic: Topic<Follower>): void {
    this.#change(topic, () => topic.ring.clear());
    topic.ended = false;
    topic.deleted = true;
  }

  /** Removes a topic that only its followers needed, once it has none. */
  release(topic: Topic<Follower>): void {
    if (topic.followers.size === 0 && topic.isUnused) this.#topics.delete(topic.name);
  }

  #change(topic: Topic<Follower>, act: () => void): void {
    const before = topic.ring.bytes;
    act();
    this.#bytes += topic.ring.bytes - before;
  }

  /** Drops the history of the topics that were silent for longest, down to nine tenths, so that this is rare. */
  #shed(newest: LogEntry): void {
    // The newest event stays, whatever its size: its subscribers have yet to get it.
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
    // Which of its events are gone is no longer known: an older id of any topic not in memory gets a gap.
    this.#beyond = Math.max(this.#beyond, topic.ring.last);
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
