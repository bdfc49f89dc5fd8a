// Publishes events to topics, remembers them, and writes to each subscriber what comes after its cursor.
// Needs `cursors.ts`, `delivery.ts`, `encode.ts`, `history.ts`, `hub-event.ts`, `order.ts`, `pages.ts` and
// `protocol.ts` beside it.

import {
  Cursor,
  Group,
  ignore,
  ignoreErrors,
  isClosed,
  type Shared,
  type Sink,
  type Subscription,
  type Topic,
} from './cursors.ts';
import { Delivery, type DeliveryOptions, encodeControls, type LogEntry } from './delivery.ts';
import { encode, type ServerSentEvent } from './encode.ts';
import {
  BatchSize,
  checkOpen,
  checkTopic,
  type EncodedEvent,
  History,
  type HistoryOptions,
  type TopicInfo,
  type TopicsOptions,
} from './history.ts';
import { checkEvent, checkEvents, type EventBatch, type EventMap, type HubEvent } from './hub-event.ts';
import { chanceOf, clockOf, newEpoch, Order, type Start } from './order.ts';
import { beforeNewest, earliest, PageCache } from './pages.ts';
import { type Controls, type Gap, type GapReason, gapEvent, gapReasons, readyEvent } from './protocol.ts';

export type { SharedChunk, Sink, Subscription } from './cursors.ts';
export type { DeliveryOptions, Log, LogEntry, LogPage } from './delivery.ts';
export type { HistoryLimits, HistoryOptions, TopicInfo, TopicsOptions } from './history.ts';
export type {
  EventBatch,
  EventMap,
  HubEvent,
  HubEventFields,
  TypedEvent,
  UntypedEvent,
} from './hub-event.ts';
export type { Controls, GapReason } from './protocol.ts';

/**
 * Options of a hub, of its history and of its delivery. When memory is short, the topics that were silent for
 * longest lose their history first; when topics are too many, those without subscribers are forgotten first.
 * An ended topic that is forgotten still refuses events and answers 204; of these, the last `maxTopics` are
 * known.
 */
export interface HubOptions extends HistoryOptions, DeliveryOptions {
  /** Milliseconds that clients wait before they reconnect; default 2,000. Each gets this ± a quarter. */
  retry?: number | undefined;
  /**
   * Names this life of the hub: a whole number ≥ 1. Default the log's epoch, else the start time and three
   * random digits.
   */
  epoch?: number | undefined;
  /** Returns a number from 0 up to 1; default `Math.random`. Where it returns another, it counts as 0.5. */
  random?: (() => number) | undefined;
}

export interface SubscribeOptions {
  /**
   * The id of the last event that the client has processed, as its header states it. Takes precedence over
   * `from` and `last`.
   */
  lastEventId?: string | readonly string[] | null | undefined;
  /**
   * Where to begin without an id: with the oldest event in memory, or with what is published next (default).
   */
  from?: 'earliest' | 'now' | undefined;
  /**
   * Where to begin without an id: with this many of the newest events in memory, of all topics together.
   * Takes precedence over `from`.
   */
  last?: number | undefined;
  /**
   * Whether to reduce missed events to the newest of each key; default false. Events without a key are all
   * delivered.
   */
  conflate?: boolean | undefined;
  /**
   * Called for each topic before each write to the sink. Once the answer is not `true`, the subscription
   * ends.
   */
  may?: ((topic: string) => boolean) | undefined;
  /** Sent to the client in the data of `sluice:ready`, beside its `topics`. */
  announce?: Readonly<Record<string, unknown>> | undefined;
  /** How control events are sent: as they are (default), as comments, or as other events. */
  controls?: Controls | undefined;
}

/** Counts since the hub was created. */
export interface HubStats {
  readonly published: number;
  readonly publishedBytes: number;
  /** Events and bytes handed to sinks, without control events. */
  readonly delivered: number;
  readonly deliveredBytes: number;
  /** Subscribers that came with an id, and those that came without. */
  readonly resumed: number;
  readonly started: number;
  readonly gaps: Readonly<Record<GapReason, number>>;
}

/**
 * One order of events, many topics, and one cursor for each subscriber.
 *
 *     publish ─▶ 1  2  3  4  5  6  7  8        the hub's order; ids are <epoch>-<seq>
 *       prices ─▶ 1     3  4        7          each topic keeps its own part of it
 *       alerts ─▶    2        5  6     8
 *                             ▲        ▲
 *                      behind ┘        └ at the head: woken by the next event
 *
 * There is no queue per subscriber. A subscriber at the head, a slow one, and one that has just returned all
 * get the page that comes after their cursor by the same code, one page per turn while the sink accepts it.
 * Subscribers at the same place get the same Buffer. A sink that does not drain costs one cursor and nothing
 * else.
 *
 * The first event is `sluice:ready`, in one block with `retry:`. `sluice:gap` reports events that can no longer be
 * delivered, before any newer event; `sluice:end` is the last event.
 */
export class Hub<Events extends object = EventMap> {
  readonly #history: History<Group>;
  readonly #groups = new Map<string, Group>();
  readonly #cursors = new Map<Sink, Cursor>();
  readonly #shared: Shared;
  readonly #order: Order;
  readonly #delivery: Delivery;
  readonly #log: DeliveryOptions['log'];
  readonly #retry: number;
  readonly #now: () => number;
  readonly #random: () => number;
  #isPublishing = false;
  readonly #stats = {
    published: 0,
    publishedBytes: 0,
    resumed: 0,
    started: 0,
    delivered: 0,
    deliveredBytes: 0,
    gaps: Object.fromEntries(gapReasons.map((reason) => [reason, 0])) as Record<GapReason, number>,
  };

  /** @throws {RangeError | TypeError} naming the option that cannot be used. */
  constructor(options: HubOptions = {}) {
    const { log } = options;
    const now = clockOf(options.now ?? Date.now);
    const random = chanceOf(options.random ?? Math.random);
    this.#order = new Order(options.epoch ?? log?.epoch ?? newEpoch(now, random), log?.head ?? 0);
    this.#history = new History(options, this.#order.head, options.maxPageBytes);
    this.#delivery = new Delivery(this.#order, this.#history, this.#stats, options);
    this.#shared = {
      order: this.#order,
      history: this.#history,
      pages: new PageCache<Group>(),
      leave: this.#leave,
    };
    this.#retry = duration('retry', options.retry ?? 2000);
    this.#log = log;
    this.#now = now;
    this.#random = random;
  }

  /**
   * The id of the newest event. Put it into a snapshot: a client that loads the snapshot continues from
   * there.
   */
  get position(): string {
    return this.#order.position;
  }

  /** How many subscriptions there are. */
  get size(): number {
    return this.#cursors.size;
  }

  /** What the events of all topics hold in this process, in bytes: what `maxHistoryBytes` limits. */
  get historyBytes(): number {
    return this.#history.bytes;
  }

  /** A live view: read it again for new counts. */
  get stats(): HubStats {
    return this.#stats;
  }

  /**
   * Gives the event its id, remembers it, and delivers it to the topic's subscribers at the end of this turn.
   * Never throws because of a subscriber.
   *
   * @returns the id.
   * @throws {TypeError} code `ERR_SSE_BAD_EVENT` for a field that cannot be sent or a reserved type,
   *   `ERR_SSE_MALFORMED_TOPIC` for a name that is not valid.
   * @throws {RangeError} code `ERR_SSE_EVENT_TOO_LARGE` for an event larger than `maxEventBytes` or the
   *   topic's `maxBytes`.
   * @throws {Error} code `ERR_SSE_TOPIC_ENDED` after `end(topic)`, `ERR_SSE_PUBLISH_INSIDE` when called by a
   *   function that `publish` calls: `toJSON`, `history`, `now` or the log.
   * @throws what the `history` function or the log throws. Nothing is then published.
   */
  publish(topic: string, event: HubEvent<Events>): string {
    this.#beginPublishing();
    try {
      const prepared = this.#prepare(topic);
      const encoded = this.#encode(prepared, event as HubEvent, this.#order.head + 1, this.#now());
      checkOpen(prepared); // `toJSON` may have ended it
      if (this.#log !== undefined) checkDone(this.#log.append(toLogEntry(topic, encoded)));
      this.#accept(prepared, encoded);
      return this.#order.position;
    } finally {
      this.#isPublishing = false;
    }
  }

  /**
   * Publishes a batch: all events, or none where one cannot be published. They get consecutive ids, and are
   * delivered together at the end of this turn.
   *
   * @returns the ids.
   * @throws what `publish` throws, and {RangeError} code `ERR_SSE_BATCH_TOO_LARGE` for more than half of the
   *   events or bytes that the topic may hold. Its `maxEvents` and `maxBytes` are the most of a batch.
   */
  publishAll(topic: string, events: EventBatch<HubEvent<Events>>): readonly string[] {
    this.#beginPublishing();
    try {
      checkEvents(events);
      const prepared = this.#prepare(topic);
      const [first, now] = [this.#order.head + 1, this.#now()];
      const encoded: EncodedEvent[] = [];
      const size = new BatchSize();
      this.#history.checkBatch(prepared, events.length, size);
      for (const event of events as EventBatch<HubEvent>) {
        const one = this.#encode(prepared, event, first + encoded.length, now);
        encoded.push(one);
        size.add(one);
        this.#history.checkBatch(prepared, Math.max(events.length, size.events), size);
      }
      checkOpen(prepared); // the batch itself may have ended the topic
      this.#appendToLog(topic, encoded);
      for (const one of encoded) this.#accept(prepared, one, first);
      return encoded.map(({ seq }) => this.#order.id(seq));
    } finally {
      this.#isPublishing = false;
    }
  }

  /** The most of a batch for `publishAll`: half of the topic's history. Throws what `publish` throws. */
  batchLimits(topic: string): { readonly maxEvents: number; readonly maxBytes: number } {
    return this.#history.batchLimits(this.#prepare(topic));
  }

  /**
   * Waits for the readers of a topic, so that a source that produces faster than they read does not push out
   * what they have not read yet. Resolves, at once or at the end of a turn, when each reader that keeps up is
   * less than a quarter of the topic's history behind. A reader keeps up while its sink accepts bytes, or
   * refused them less than 100 ms ago. Others hold nobody back, and nobody holds a source back for more than
   * ten seconds at a time.
   *
   * @throws the reason of the signal, and nothing else.
   */
  ready(topic: string, { signal }: { signal?: AbortSignal | undefined } = {}): Promise<void> {
    return this.#delivery.ready(topic, this.#cursors.values(), signal);
  }

  /**
   * Writes the events of topics to a sink, merged in order: those after the client's position, then new ones.
   * The first bytes are written in the next turn, so until then the caller can still refuse.
   *
   * The topics need not exist yet. A sink may have one subscription: name all topics in one.
   *
   * Where the topics have ended and nothing is left to deliver, calls `sink.refuse(204)`, which stops a
   * browser's EventSource, or `sink.end()` where there is no `refuse`. The subscription is then closed from
   * the start.
   *
   * @throws {TypeError} code `ERR_SSE_MALFORMED_TOPIC` for a name that is not valid; without a code for no
   *   topic, and for a sink that is subscribed already.
   * @throws {TypeError | RangeError} naming the option that cannot be used.
   * @throws {Error} code `ERR_SSE_TOO_MANY_FOLLOWED` for a topic to which nothing was published, when there
   *   are `maxFollowedTopics` of that kind.
   */
  subscribe(topics: string | readonly string[], sink: Sink, options: SubscribeOptions = {}): Subscription {
    const names = this.#checkSubscription(topics, sink, options);
    this.#expire(names);
    const { lastEventId, conflate = false } = options;
    // A repeated header is malformed: its values, joined by commas, are no id.
    const given = (typeof lastEventId === 'string' ? lastEventId : lastEventId?.join(', ')) ?? '';
    const start = given === '' ? this.#begin(names, options) : this.#order.locate(given);
    if (start.gap === undefined && this.#isFinished(names, start.seq)) return refuse(sink, names, start);
    // May throw, so it comes before the group.
    const preamble = { text: this.#preamble(names, start, options), id: start.readyId };
    const cursor = new Cursor(this.#group(names, conflate), sink, start.seq, preamble, options);
    // Without an id, what is no longer remembered was not missed.
    const forgotten = start.from === undefined ? cursor.group.lost(cursor) : undefined;
    if (forgotten !== undefined) cursor.accept(forgotten);
    this.#enter(cursor); // may throw: such a subscriber is not counted
    this.#stats[start.from === undefined ? 'started' : 'resumed']++;
    if (start.gap !== undefined) this.#delivery.countGap(this.#gap(start.gap, start, names));
    return cursor;
  }

  /**
   * Ends a topic: its subscribers get the events that they still lack, then `sluice:end`, then the end of the
   * response, as soon as all topics that they follow have ended. Publishing to it fails until `reopen`.
   *
   * @returns whether the topic existed and had not ended.
   */
  end(topic: string): boolean {
    const found = this.#listed(topic);
    if (found === undefined || found.ended) return false;
    this.#history.hold(found);
    found.ended = true;
    found.deleted = false;
    this.#delivery.announce(found);
    return true;
  }

  /**
   * Lets an ended topic take events again. It keeps its history. A client whose stream has ended does not
   * reconnect by itself: its application has to connect again.
   *
   * @returns whether the topic existed and had ended.
   */
  reopen(topic: string): boolean {
    return this.#history.reopen(checkTopic(topic));
  }

  /**
   * Deletes the history of a topic, and lets it take events again where it has ended. Its subscribers stay;
   * those that have not received all of the history get a gap, and so does a client that returns with an
   * older id. To end their streams, call `end` first, and `delete` once they have left. The events that a log
   * holds stay there.
   *
   * @returns whether the topic existed. A topic that was followed and never published to does not count.
   */
  delete(topic: string): boolean {
    // Schedules no turn: cursors at the head have received all events, and the others get the gap in their
    // next step.
    return this.#history.delete(checkTopic(topic));
  }

  /** Every subscription; the `lag` of each says how far it is behind. */
  subscriptions(): Iterable<Subscription> {
    return this.#cursors.values();
  }

  /**
   * Ends the subscriptions for which the predicate returns true, and their responses. Use it for permissions
   * that were withdrawn.
   * @returns how many subscriptions it has ended.
   */
  kick(predicate: (sink: Sink, subscription: Subscription) => boolean): number {
    const kicked = [...this.#cursors].filter(([sink, cursor]) => predicate(sink, cursor));
    for (const [, cursor] of kicked) this.#delivery.end(cursor);
    return kicked.length;
  }

  /** How many topics have a history or a subscriber. */
  get topicCount(): number {
    return this.#history.count;
  }

  /**
   * Every topic that has a history or a subscriber, oldest first. With `limit` or `after`: a page of them, by
   * name. It costs in proportion to its length.
   */
  topics({ after, limit = Infinity }: TopicsOptions = {}): TopicInfo[] {
    const infos: TopicInfo[] = [];
    for (const topic of this.#history.listed(limit === Infinity ? after : (after ?? ''))) {
      if (infos.length >= limit) break;
      infos.push(this.#info(topic));
    }
    return infos;
  }

  #info({ name, ring, ended, followers }: Topic): TopicInfo {
    const subscribers = [...followers].reduce((sum, { size }) => sum + size, 0);
    const last = this.#order.id(ring.last);
    return { topic: name, events: ring.size, bytes: ring.bytes, subscribers, last, ended };
  }

  /** Finds a topic that `topics` lists. */
  #listed(name: string): Topic | undefined {
    const topic = this.#history.get(checkTopic(name));
    return topic?.isListed ? topic : undefined;
  }

  // ── publishing ───────────────────────────────────────────────────────────────────────────────────────────

  /** An event that is published while another one gets its seq would get the same. */
  #beginPublishing(): void {
    if (this.#isPublishing) {
      const message =
        'an event cannot be published by a function that `publish` calls, such as `toJSON`, `history` or `log.append`';
      throw fail(new Error(message), 'ERR_SSE_PUBLISH_INSIDE', 500);
    }
    this.#isPublishing = true;
  }

  #prepare(topic: string): Topic {
    const prepared = this.#history.prepare(topic);
    checkOpen(prepared);
    return prepared;
  }

  /** The event as it goes over the wire. Throws where it cannot be published, and changes nothing. */
  #encode(topic: Topic, event: HubEvent, seq: number, at: number): EncodedEvent {
    const { event: type, data, json: value, key, comment, retry } = Object(event) as HubEvent;
    const json = data === undefined ? value : undefined;
    checkEvent(type, data, json, key);
    const frame = encode({
      comment,
      retry,
      id: this.#order.id(seq),
      event: type,
      data,
      json,
    } as ServerSentEvent);
    const encoded = { seq, at, frame, bytes: Buffer.byteLength(frame), key: ownText(key) };
    this.#history.check(topic, encoded);
    return encoded;
  }

  #appendToLog(topic: string, events: readonly EncodedEvent[]): void {
    const log = this.#log;
    if (log === undefined || events.length === 0) return;
    const entries = events.map((event) => toLogEntry(topic, event));
    if (entries.length === 1) checkDone(log.append(entries[0]!));
    else if (log.appendAll !== undefined) checkDone(log.appendAll(entries));
    else throw new TypeError('`log` must have `appendAll`, to publish several events at once');
  }

  #accept(prepared: Topic, event: EncodedEvent, first = event.seq): void {
    const topic = this.#history.append(prepared, event, first);
    this.#order.head = event.seq;
    this.#stats.published++;
    this.#stats.publishedBytes += event.bytes;
    this.#delivery.announce(topic);
  }

  // ── subscribing ──────────────────────────────────────────────────────────────────────────────────────────

  #checkSubscription(
    topics: string | readonly string[],
    sink: Sink,
    { from, last }: SubscribeOptions,
  ): readonly string[] {
    const names = [...new Set(typeof topics === 'string' ? [topics] : topics)].sort();
    if (names.length === 0) throw new TypeError('`topics` must name at least one topic, got none');
    names.forEach(checkTopic);
    if (this.#cursors.has(sink))
      throw new TypeError('`sink` is subscribed already: name all topics in one call');
    if (from !== undefined && from !== 'earliest' && from !== 'now') {
      throw new TypeError(`\`from\` must be "earliest" or "now", got ${String(from)}`);
    }
    if (last !== undefined && !(Number.isSafeInteger(last) && last >= 0)) {
      throw new RangeError(`\`last\` must be a whole number ≥ 0, got ${String(last)}`);
    }
    return names;
  }

  /**
   * Drops events that are too old, which a topic without new events may still hold: no client may begin with
   * them.
   */
  #expire(names: readonly string[]): void {
    for (const name of names) {
      const topic = this.#history.get(name);
      if (topic !== undefined) this.#history.expire(topic, this.#now());
    }
  }

  /** Where a client without an id begins. */
  #begin(names: readonly string[], { from = 'now', last }: SubscribeOptions): Start {
    const { head } = this.#order;
    const topics = names.flatMap((name) => this.#history.get(name) ?? []);
    let seq = head;
    if (last !== undefined) seq = beforeNewest(topics, last, head);
    else if (from === 'earliest') seq = earliest(topics, head);
    return { seq, readyId: this.#order.id(seq) };
  }

  #isFinished(names: readonly string[], seq: number): boolean {
    return names.every((name) => {
      const end = this.#history.endOf(name);
      return end !== undefined && end <= seq;
    });
  }

  #preamble(names: readonly string[], start: Start, { announce, controls }: SubscribeOptions): string {
    const retry = Math.round(this.#retry * (0.75 + this.#random() / 2));
    const ready = { retry, ...readyEvent(start.readyId, names, announce) };
    if (start.gap === undefined) return encodeControls([ready], controls);
    const gap = gapEvent(this.#order.id(start.seq), this.#gap(start.gap, start, names));
    return encodeControls([ready, gap], controls);
  }

  /** The gap between an id from which this hub cannot continue and the place where delivery begins. */
  #gap(
    reason: GapReason,
    { from = null, seq }: Start,
    topics: readonly string[],
  ): Gap & { readonly reason: GapReason } {
    return { reason, from, to: this.#order.id(seq), topics };
  }

  #group(names: readonly string[], conflate: boolean): Group {
    const key = JSON.stringify([conflate, names]);
    const known = this.#groups.get(key);
    if (known !== undefined) return known;
    const group = new Group(key, names, conflate, this.#shared);
    this.#groups.set(key, group);
    try {
      for (const name of names) group.add(this.#history.follow(name));
    } catch (error) {
      this.#disband(group);
      throw error;
    }
    return group;
  }

  /** A sink that throws is not subscribed. */
  #enter(cursor: Cursor): void {
    const { sink, group } = cursor;
    group.size++;
    this.#cursors.set(sink, cursor);
    cursor.onDrain = () => this.#delivery.drain(cursor);
    cursor.onClose = () => this.#leave(cursor);
    try {
      sink.on('drain', cursor.onDrain);
      sink.on('close', cursor.onClose);
      sink.on('error', ignore);
      if (isClosed(sink)) this.#leave(cursor);
    } catch (error) {
      this.#leave(cursor);
      throw error;
    }
    if (!cursor.closed) this.#delivery.makeDue(cursor);
  }

  readonly #leave = (cursor: Cursor): void => {
    if (cursor.closed) return;
    cursor.closed = true;
    const { sink, group } = cursor;
    this.#cursors.delete(sink);
    this.#delivery.forget(cursor);
    if (--group.size === 0) this.#disband(group);
    ignoreErrors(() => sink.off('drain', cursor.onDrain));
    ignoreErrors(() => sink.off('close', cursor.onClose));
  };

  #disband(group: Group): void {
    this.#groups.delete(group.key);
    this.#shared.pages.delete(group);
    for (const topic of group.topics) {
      topic.followers.delete(group);
      this.#history.release(topic);
    }
  }
}

/** Whether an event is in the log must be known before it is delivered. */
function checkDone(answer: unknown): void {
  const promise = answer as Partial<PromiseLike<unknown>> | undefined;
  if (typeof promise?.then !== 'function') return;
  promise.then(undefined, ignore); // or its rejection would end the process
  throw new TypeError('`append` and `appendAll` of a log must not return a promise');
}

function toLogEntry(topic: string, { seq, at, frame, key }: EncodedEvent): LogEntry {
  return { seq, topic, at, frame: Buffer.from(frame), key };
}

/** Ends a sink for which nothing is left to deliver. */
function refuse(sink: Sink, topics: readonly string[], { readyId: position }: Start): Subscription {
  ignoreErrors(() => (sink.refuse === undefined ? sink.end() : sink.refuse(204)));
  return { topics, position, lag: 0, closed: true, close: ignore };
}

/** Copies a text that V8 may keep as a slice of another one, which then stays in memory as a whole. */
function ownText(text: string | undefined): string | undefined {
  return text === undefined || text.length < MIN_SLICE
    ? text
    : Buffer.from(text, 'utf16le').toString('utf16le');
}

const MIN_SLICE = 13;

function fail<E extends Error>(error: E, code: string, status: number): E {
  return Object.assign(error, { code, status });
}

/** A quarter more must still be a `retry` that clients accept. */
function duration(name: string, value: number): number {
  if (typeof value === 'number' && value >= 0 && value * 1.25 < 2 ** 31) return value;
  throw new RangeError(
    `\`${name}\` must be a number from 0 to ${Math.floor((2 ** 31 - 1) / 1.25)}, got ${value}`,
  );
}
