// Keeps the history of a hub: a ring of events for each topic, with limits for each and for all together.
// Needs `frame-ring.ts`, `history-limits.ts`, `log.ts`, `names.ts`, `newest.ts`, `protocol.ts` and `silence.ts`
// beside it.

import { FrameLimits, FrameRing, SEGMENT_OBJECT_BYTES, SLOT_BYTES } from './frame-ring.ts';
import {
  atLeastOne,
  checkLimits,
  type HistoryLimits,
  type HistoryOptions,
  PAGE_BYTES,
} from './history-limits.ts';
import { topicEnded } from './log.ts';
import { NameOrder } from './names.ts';
import { keyBytes, NewestOfKeys, PLACE_BYTES } from './newest.ts';
import { isTopic, topicRule } from './protocol.ts';
import { type Heard, SilenceOrder } from './silence.ts';

export type { HistoryLimits, HistoryOptions } from './history-limits.ts';

/** An event that is published: its place in the order, and its text. */
export interface EncodedEvent {
  readonly seq: number;
  /** When it was published, in milliseconds. */
  readonly at: number;
  /** The event as it goes over the wire, its id included, and the bytes of that in UTF-8. */
  readonly frame: string | Uint8Array;
  readonly bytes: number;
  /** Names the value that the event updates; `undefined` where no later event replaces it. */
  readonly key: string | undefined;
}

/** The part of a batch that was made so far. */
export class BatchSize {
  events = 0;
  /** Their bytes on the wire. */
  wire = 0;
  /** What their keys hold, where the index has no more room than usual. */
  keys = 0;

  add({ bytes, key }: EncodedEvent): void {
    this.events++;
    this.wire += bytes;
    this.keys += 2 * PLACE_BYTES + (key === undefined ? 0 : keyBytes(key));
  }
}

/** What is known of a topic that is not in memory. */
export interface KnownTopic {
  /** The seq of its newest event. */
  readonly last: number;
  readonly ended: boolean;
}

export interface TopicsOptions {
  /** Begin after this name, which need not exist. */
  after?: string | undefined;
  /** Most topics; default `Infinity`. */
  limit?: number | undefined;
}

export interface TopicInfo {
  readonly topic: string;
  /** How many events are remembered, and their bytes on the wire. */
  readonly events: number;
  readonly bytes: number;
  readonly subscribers: number;
  /** The id of the newest event, remembered or not. */
  readonly last: string;
  readonly ended: boolean;
}

/** The followers of all topics that have none: an empty set takes 150 bytes. */
const NOBODY: ReadonlySet<never> = new Set<never>();

/** The limits of topics that were not published to. */
const NO_LIMITS = new FrameLimits();

/** One topic: its events and its followers. */
export class Topic<Follower = unknown> implements Heard<Topic<Follower>> {
  readonly name: string;
  older: Topic<Follower> | undefined;
  newer: Topic<Follower> | undefined;
  /** `undefined` until the first event. */
  limits: FrameLimits | undefined;
  /** The topic counts for `maxTopics`. Otherwise it exists because it has followers. */
  isHeld = false;
  /** An event or the topic's end was published since the last turn. */
  hasNews = false;
  ended = false;
  /**
   * Deleted, and neither published to nor ended since. The record stays, because it states the newest seq
   * that was lost.
   */
  deleted = false;
  /** What `heldBytes` was when the history counted it last. */
  countedBytes = 0;
  #ring: FrameRing;
  #firstSeen: number;
  #followers: Set<Follower> | undefined;
  /** Exists from the first event with a key on. */
  #newest: NewestOfKeys | undefined;

  constructor(name: string, dropped: number) {
    this.name = name;
    this.#ring = new FrameRing({ limits: NO_LIMITS, dropped });
    this.#firstSeen = dropped;
  }

  get followers(): ReadonlySet<Follower> {
    return this.#followers ?? NOBODY;
  }

  addFollower(follower: Follower): void {
    this.#followers ??= new Set();
    this.#followers.add(follower);
  }

  removeFollower(follower: Follower): void {
    this.#followers?.delete(follower);
    if (this.#followers?.size === 0) this.#followers = undefined;
  }

  get ring(): FrameRing {
    return this.#ring;
  }

  /** What its events hold in this process, in bytes. */
  get heldBytes(): number {
    return this.#ring.heldBytes + (this.#newest?.heldBytes ?? 0);
  }

  /** Nothing was published since the topic was created. */
  get isUnused(): boolean {
    return this.#ring.last === this.#firstSeen;
  }

  /** Whether there is more to it than the record of a deleted topic. */
  get isListed(): boolean {
    return !this.deleted || this.followers.size > 0;
  }

  /** For a topic that has had no event: begins after a seq. */
  restart(dropped: number): void {
    this.#firstSeen = dropped;
    this.#ring = new FrameRing({ limits: this.limits ?? NO_LIMITS, dropped });
  }

  /** Sets the limits of a topic that has had no event. */
  open(limits: FrameLimits): void {
    this.limits = limits;
    this.#ring = new FrameRing({ limits, dropped: this.#ring.dropped });
  }

  push({ seq, at, frame, bytes, key }: EncodedEvent): void {
    const ring = this.#ring;
    if (key !== undefined) this.#newest ??= new NewestOfKeys(ring.end);
    ring.push(seq, at, frame, bytes);
    this.#newest?.add(key);
    this.#forgetKeys();
  }

  expire(now: number): void {
    this.#ring.expire(now);
    if (this.#ring.size === 0) this.#newest = undefined;
    else this.#forgetKeys();
  }

  /**
   * Drops a part of the oldest events, in which all seqs are below `before`.
   * @returns false where there is no such part, or only one left.
   */
  dropPart(before: number): boolean {
    if (!this.#ring.dropSegment(before)) return false;
    this.#forgetKeys();
    return true;
  }

  /** Drops the oldest event. @returns false where there is only one left. */
  dropOldest(): boolean {
    if (!this.#ring.dropOldest()) return false;
    this.#forgetKeys();
    return true;
  }

  /** Drops all events. With a seq: what lies up to there counts as dropped, although it never came. */
  clear(seq?: number): void {
    if (seq !== undefined && this.isUnused) return this.restart(Math.max(seq, this.#ring.last));
    this.#ring.clear(seq);
    this.#newest = undefined;
  }

  keepNewest(): void {
    this.#ring.dropAllButNewest();
    this.#forgetKeys();
  }

  /** The ring may have dropped frames. */
  #forgetKeys(): void {
    this.#newest?.dropBefore(this.#ring.first);
  }

  /** The first place, from `place` on, whose event no newer one with the same key replaces. */
  newestFrom(place: number): number {
    return this.#newest === undefined ? place : this.#newest.from(place);
  }
}

/** The topics of a hub. Every operation on one event takes constant time on average. */
export class History<Follower = unknown> {
  readonly #topics = new Map<string, Topic<Follower>>();
  readonly #names = new NameOrder(this.#topics);
  /** Ended topics that are no longer in memory, oldest first, and the newest seq of each. */
  readonly #tombstones = new Map<string, number>();
  readonly #limits: (topic: string) => FrameLimits;
  readonly #maxBytes: number;
  readonly #maxEventBytes: number;
  readonly #maxTopics: number;
  readonly #maxFollowed: number;
  readonly #segmentBytes: number;
  /** Asks whoever knows more topics than memory. */
  readonly #find: (name: string) => KnownTopic | undefined;
  /** No topic that is not in memory has had an event after this seq, but those that `#find` knows. */
  #newestForgotten: number;
  #newestDropped: number;
  #bytes = 0;
  #held = 0;
  /** The topics that count for `maxTopics`. */
  readonly #bySilence = new SilenceOrder<Topic<Follower>>();
  #round: Iterator<Topic<Follower>> = this.#topics.values();

  /**
   * @param maxPageBytes - Most bytes of a page that a reader gets, where that is limited.
   * @param find - Finds a topic that memory does not know.
   * @throws {RangeError | TypeError} naming the option that cannot be used.
   */
  constructor(
    options: HistoryOptions,
    head: number,
    maxPageBytes: number = PAGE_BYTES,
    find: (name: string) => KnownTopic | undefined = () => undefined,
  ) {
    const { history = {}, maxHistoryBytes = 256 * 1024 * 1024, maxTopics = 10_000 } = options;
    const { maxEventBytes = MAX_EVENT_BYTES, maxFollowedTopics = 10_000 } = options;
    this.#maxBytes = atLeastOne('maxHistoryBytes', maxHistoryBytes);
    this.#maxEventBytes = atLeastOne('maxEventBytes', maxEventBytes);
    this.#maxTopics = atLeastOne('maxTopics', maxTopics);
    this.#maxFollowed = atLeastOne('maxFollowedTopics', maxFollowedTopics);
    this.#newestForgotten = this.#newestDropped = head;
    this.#segmentBytes = segmentBytesFor(maxPageBytes, this.#maxBytes);
    // Limits that are the same for all topics are checked now, not at the first event.
    const shared = typeof history === 'function' ? undefined : frameLimits(history, this.#segmentBytes);
    this.#limits = (name) =>
      shared ?? frameLimits((history as (topic: string) => HistoryLimits)(name), this.#segmentBytes);
    this.#find = find;
  }

  /** What the events of all topics hold in this process: see `maxHistoryBytes`. */
  get bytes(): number {
    return this.#bytes;
  }

  /** A cursor at this seq or above has lost nothing, whatever topics it follows. */
  get newestDropped(): number {
    return this.#newestDropped;
  }

  /** Every topic, also the deleted ones that have a record. */
  [Symbol.iterator](): Iterator<Topic<Follower>> {
    return this.#topics.values();
  }

  /** How many topics are listed. */
  get count(): number {
    let count = 0;
    for (const { isListed } of this.#topics.values()) if (isListed) count++;
    return count;
  }

  /** All listed topics, oldest first; or those whose names come after a name, by name. */
  *listed(after?: string): Generator<Topic<Follower>> {
    for (const name of after === undefined ? this.#topics.keys() : this.#names.after(after)) {
      const topic = this.#topics.get(name)!;
      if (topic.isListed) yield topic;
    }
  }

  get(name: string): Topic<Follower> | undefined {
    return this.#topics.get(name);
  }

  /** The newest seq of a topic that has ended, in memory or not; `undefined` for any other. */
  endOf(name: string): number | undefined {
    const topic = this.#topics.get(name);
    if (topic !== undefined) return topic.ended ? topic.ring.last : undefined;
    const known = this.#find(name);
    return known?.ended ? known.last : this.#tombstones.get(name);
  }

  /**
   * The topic, created for a follower if it does not exist. Forgets no other topic.
   * @throws {TypeError} code `ERR_SSE_MALFORMED_TOPIC` for a name that is not valid.
   * @throws {Error} code `ERR_SSE_TOO_MANY_FOLLOWED` when it is new and there are `maxFollowedTopics`.
   */
  follow(name: string): Topic<Follower> {
    const known = this.#topics.get(name);
    if (known !== undefined) return known;
    checkTopic(name);
    if (this.#topics.size - this.#held >= this.#maxFollowed) {
      const message = `all ${this.#maxFollowed} topics that may have followers before anything is published to them (\`maxFollowedTopics\`) are in use: raise \`maxFollowedTopics\`, or follow fewer`;
      throw fail(new Error(message), 'ERR_SSE_TOO_MANY_FOLLOWED', 503);
    }
    const topic = this.#create(name);
    this.#topics.set(name, topic);
    this.#names.add(name);
    return topic;
  }

  /**
   * The topic for an event, with its limits. A new one is not in the history before
   * `append`, so that an event that is refused changes nothing.
   * @throws {TypeError} code `ERR_SSE_MALFORMED_TOPIC` for a name that is not valid.
   * @throws {RangeError | TypeError} naming the limit of the `history` function that cannot be used.
   * @throws what the `history` function throws.
   */
  prepare(name: string): Topic<Follower> {
    const topic = this.#topics.get(name) ?? this.#create(checkTopic(name));
    if (topic.limits === undefined) topic.open(this.#limits(name));
    return topic;
  }

  /**
   * Throws if the entry cannot be appended, and changes nothing.
   * @throws {RangeError} code `ERR_SSE_EVENT_TOO_LARGE` for an event larger than `maxEventBytes` or the topic's
   *   `maxBytes`.
   */
  check({ name, limits }: Topic<Follower>, entry: EncodedEvent): void {
    const own = limits!.maxBytes;
    const most = Math.min(own, this.#maxEventBytes);
    if (entry.bytes <= most) return;
    const option = own < this.#maxEventBytes ? "the `maxBytes` of the topic's history" : '`maxEventBytes`';
    const message = `an event of topic "${name}" must have at most ${most} bytes, got ${entry.bytes}: raise ${option} of the hub, or send less`;
    throw fail(new RangeError(message), 'ERR_SSE_EVENT_TOO_LARGE', 413);
  }

  /**
   * Throws where a batch is larger than half of what the topic, or the whole history, may hold: one that is
   * larger could push itself out before it is delivered. Call it for each entry, before the next one is made.
   * @throws {RangeError} code `ERR_SSE_BATCH_TOO_LARGE`, with `maxEvents` and `maxBytes`, the most of a batch.
   */
  checkBatch(topic: Topic<Follower>, count: number, { events, wire, keys }: BatchSize): void {
    if (count <= 1) return;
    const { name } = topic;
    const { maxBytes, ...limits } = this.batchLimits(topic);
    // Where the whole history has no room for all, so many of this batch fit.
    const isLarge = this.#heldAtMost(events, wire) + keys > this.#maxBytes / 2;
    const maxEvents = isLarge ? Math.max(1, Math.min(limits.maxEvents, events - 1)) : limits.maxEvents;
    if (count <= maxEvents && wire <= maxBytes) return;
    const message = `a batch for topic "${name}" must have at most ${maxEvents} events and ${maxBytes} bytes, half of the history, got ${count} events and at least ${wire} bytes: split it`;
    const error = Object.assign(new RangeError(message), { maxEvents, maxBytes });
    throw fail(error, 'ERR_SSE_BATCH_TOO_LARGE', 413);
  }

  /** The most memory that a batch can take: segments are half full at least. */
  #heldAtMost(events: number, bytes: number): number {
    const used = 2 * (bytes + events * SLOT_BYTES);
    return used + (2 + used / this.#segmentBytes) * SEGMENT_OBJECT_BYTES;
  }

  /** The most of a batch for a topic of `prepare`. */
  batchLimits({ limits }: Topic<Follower>): { readonly maxEvents: number; readonly maxBytes: number } {
    return {
      maxEvents: Math.max(1, Math.floor(limits!.maxFrames / 2)),
      maxBytes: Math.floor(Math.min(limits!.maxBytes, this.#maxBytes) / 2),
    };
  }

  /**
   * Remembers the newest event of a topic of `prepare`; older ones make room for it.
   * @param first - The seq of the first event of its batch.
   */
  append(prepared: Topic<Follower>, event: EncodedEvent, first: number = event.seq): Topic<Follower> {
    const topic = this.#adopt(prepared);
    this.#bySilence.heard(topic);
    topic.push(event);
    topic.deleted = false;
    this.#count(topic);
    if (this.#bytes > this.#maxBytes) this.#shed(topic, first);
    return topic;
  }

  /** Counts what a topic holds. Call it whenever that has changed. */
  #count(topic: Topic<Follower>): void {
    const { heldBytes, countedBytes, ring } = topic;
    this.#bytes += heldBytes - countedBytes;
    topic.countedBytes = heldBytes;
    if (ring.dropped > this.#newestDropped) this.#newestDropped = ring.dropped;
  }

  /** Somebody may have followed the topic since it was prepared, such as the log that took its event. */
  #adopt(prepared: Topic<Follower>): Topic<Follower> {
    if (prepared.isHeld) return prepared;
    const topic = this.#topics.get(prepared.name) ?? prepared;
    if (topic.limits === undefined) topic.open(prepared.limits!);
    this.hold(topic);
    return topic;
  }

  /** Counts a topic for `maxTopics`. Where there are too many, forgets those that were silent for longest. */
  hold(topic: Topic<Follower>): void {
    if (topic.isHeld) return;
    if (this.#held >= this.#maxTopics) this.#makeRoom();
    topic.isHeld = true;
    this.#held++;
    this.#bySilence.heard(topic);
    if (!this.#topics.has(topic.name)) this.#names.add(topic.name);
    this.#topics.set(topic.name, topic);
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
    topic.expire(now);
    this.#count(topic);
  }

  /**
   * Drops all events of a topic, and reopens it where it has ended. The record stays, so that a client with
   * an older id gets a gap.
   * @returns whether there was something to delete.
   */
  delete(name: string): boolean {
    const topic = this.#topics.get(name);
    if (topic === undefined) return this.#tombstones.delete(name);
    if (topic.deleted || (topic.isUnused && !topic.ended)) return false;
    topic.clear();
    this.#count(topic);
    topic.ended = false;
    topic.deleted = true;
    return true;
  }

  /** What lies up to a seq was not received: all topics take it for dropped, also those that come later. */
  skip(seq: number): void {
    for (const topic of this.#topics.values()) this.pass(topic, seq);
    this.#newestForgotten = this.#newestDropped = seq;
  }

  /** The same for one topic, or without one for all that come later. */
  pass(topic: Topic<Follower> | undefined, seq: number): void {
    topic?.clear(seq);
    if (topic !== undefined) this.#count(topic);
    else this.#newestForgotten = this.#newestDropped = seq;
  }

  /** Nothing of an unused topic was dropped above a seq: memory knew less than who says so. */
  know(topic: Topic<Follower>, last: number): void {
    if (topic.isUnused) topic.restart(last);
    this.#count(topic);
  }

  /** Reopens a topic that has ended. It need not be in memory. @returns whether it had ended. */
  reopen(name: string): boolean {
    const topic = this.#topics.get(name);
    if (topic === undefined) return this.#tombstones.delete(name);
    if (!topic.ended) return false;
    topic.ended = false;
    if (topic.isHeld && topic.isUnused) this.#letGo(topic);
    this.release(topic);
    return true;
  }

  /**
   * Whether a quarter or more of what the topic may hold came after a seq: a reader there may soon be
   * overtaken.
   */
  isFarBehind({ limits, ring }: Topic<Follower>, seq: number): boolean {
    if (limits === undefined || seq >= ring.last) return false;
    const place = ring.placeAfter(Math.max(seq, ring.dropped));
    const [events, wire] = [ring.end - place, ring.bytesFrom(place)];
    const held = wire + events * SLOT_BYTES;
    return events * 4 >= limits.maxFrames || wire * 4 >= limits.maxBytes || held * 4 >= this.#maxBytes;
  }

  /** Removes a topic that has neither events nor followers. */
  release(topic: Topic<Follower>): void {
    if (topic.followers.size === 0 && !topic.isHeld) this.#forget(topic);
  }

  #create(name: string): Topic<Follower> {
    const known = this.#find(name);
    const end = this.#tombstones.get(name);
    const topic = new Topic<Follower>(name, known?.last ?? end ?? this.#newestForgotten);
    topic.ended = known?.ended ?? end !== undefined;
    return topic;
  }

  /**
   * Drops the history of the topics that were silent for longest, down to nine tenths of the limit, so that
   * this is rare.
   */
  #shed(newest: Topic<Follower>, first: number): void {
    const enough = this.#maxBytes * 0.9;
    for (const topic of this.#bySilence) {
      if (topic.ring.size === 0) continue;
      while (this.#bytes > enough && topic.dropPart(first)) this.#count(topic);
      if (this.#bytes <= enough) return;
      if (topic === newest) break;
      topic.clear();
      this.#count(topic);
    }
    // Each part that is left has events of this batch, or is the last one. Older events beside them may have
    // large keys.
    while (this.#bytes > enough && newest.dropOldest()) this.#count(newest);
    if (this.#bytes <= enough) return;
    // The newest event stays, whatever its size: it is not delivered yet.
    newest.keepNewest();
    this.#count(newest);
  }

  /**
   * Forgets one in a hundred of the topics, so that this is rare: first those without followers, then others, and
   * of each those that were silent for longest. Followers alone keep no topic in memory, so that they cannot take
   * the room of publishers.
   */
  #makeRoom(): void {
    const count = Math.ceil(this.#maxTopics / 100);
    const [idle, followed]: [Topic<Follower>[], Topic<Follower>[]] = [[], []];
    for (const topic of this.#bySilence) {
      const like = topic.followers.size === 0 ? idle : followed;
      if (like.length < count) like.push(topic);
      if (idle.length === count) break;
    }
    for (const topic of [...idle, ...followed].slice(0, count)) this.#letGo(topic);
  }

  /** Forgets the events of a topic. A record stays while it has followers. */
  #letGo(topic: Topic<Follower>): void {
    topic.isHeld = false;
    topic.deleted = false;
    this.#held--;
    this.#bySilence.delete(topic);
    topic.clear();
    this.#count(topic);
    this.release(topic);
  }

  #forget(topic: Topic<Follower>): void {
    this.#topics.delete(topic.name);
    // No record is left of its lost events, so an older id gets a gap in any topic that is not in memory.
    this.#newestForgotten = Math.max(this.#newestForgotten, topic.ring.last);
    if (topic.ended) this.#tombstones.set(topic.name, topic.ring.last);
    else this.#tombstones.delete(topic.name);
    const [oldest] = this.#tombstones.keys();
    if (this.#tombstones.size > this.#maxTopics) this.#tombstones.delete(oldest!);
  }
}

/** The limits of a topic's ring: topics with the same object share its memory. */
export function frameLimits(limits: HistoryLimits, segmentBytes: number): FrameLimits {
  const { maxEvents: maxFrames, maxBytes, maxAge } = checkLimits(limits);
  return new FrameLimits({ maxFrames, maxBytes, maxAge, segmentBytes });
}

/**
 * No more than a page, so that a reader who keeps a part of one keeps no more than that; and small beside the
 * whole history, which loses one at a time.
 */
function segmentBytesFor(maxPageBytes: number, maxBytes: number): number {
  const page = maxPageBytes > 4096 ? maxPageBytes : 4096; // NaN is left to `Delivery` to refuse
  return Math.floor(Math.min(64 * 1024, page, Math.max(maxBytes / 16, 256)));
}

/** Fits, with its id and its field names, into the lines of readers that take 1 MiB of data. */
const MAX_EVENT_BYTES = 1024 * 1024 + 64 * 1024;

/** @throws {TypeError} code `ERR_SSE_MALFORMED_TOPIC`. */
export function checkTopic(name: unknown): string {
  if (isTopic(name)) return name;
  const message = `\`topic\` must be ${topicRule}, got ${JSON.stringify(name)?.slice(0, 80)}`;
  throw fail(new TypeError(message), 'ERR_SSE_MALFORMED_TOPIC', 400);
}

/** @throws {Error} code `ERR_SSE_TOPIC_ENDED`. */
export function checkOpen({ name, ended }: Topic): void {
  if (ended) throw topicEnded(name);
}

function fail<E extends Error>(error: E, code: string, status: number): E {
  return Object.assign(error, { code, status });
}
