// Publishes events to topics, remembers them, and writes to each subscriber what comes after its cursor.
// Needs `arrivals.ts`, `cursors.ts`, `delivery.ts`, `follower.ts`, `history.ts`, `hub-event.ts`, `log.ts`,
// `order.ts`, `pages.ts`, `protocol.ts`, `publisher.ts` and `staging.ts` beside it.

import { Arrivals, checkRequest, type Request, type SubscribeOptions } from './arrivals.ts';
import {
  Cursor,
  type Group,
  type GroupOptions,
  Groups,
  ignore,
  ignoreErrors,
  isClosed,
  refuseSink,
  type Sink,
  type Subscription,
  type Topic,
} from './cursors.ts';
import { Delivery, type DeliveryOptions } from './delivery.ts';
import { Follower } from './follower.ts';
import { checkTopic, History, type HistoryOptions, type TopicInfo, type TopicsOptions } from './history.ts';
import { checkChecks, type EventBatch, type EventChecks, type EventMap, type HubEvent } from './hub-event.ts';
import {
  type AppendOptions,
  type Log,
  type LogTask,
  type OwnLog,
  type SharedLog,
  type TopicChange,
  warnOfLog,
} from './log.ts';
import { chanceOf, clockOf, newEpoch, Order, type Start } from './order.ts';
import { PageCache } from './pages.ts';
import { type GapReason, gapReasons } from './protocol.ts';
import { Publisher } from './publisher.ts';
import { findIn, readerOf } from './staging.ts';

export type { SubscribeOptions } from './arrivals.ts';
export type { SharedChunk, Sink, Subscription } from './cursors.ts';
export type { DeliveryOptions } from './delivery.ts';
export type { HistoryLimits, HistoryOptions, TopicInfo, TopicsOptions } from './history.ts';
export type {
  EventBatch,
  EventChecks,
  EventMap,
  HubEvent,
  HubEventFields,
  TypedEvent,
  UntypedEvent,
} from './hub-event.ts';
export type { AppendOptions, Log, LogTask, OwnLog, SharedLog, TopicChange } from './log.ts';
export type { Controls, GapReason } from './protocol.ts';

/**
 * Options of a hub, of its history and of its delivery. When memory is short, the topics that were silent for
 * longest lose their history first; when topics are too many, those without subscribers are forgotten first.
 * An ended topic that is forgotten still refuses events and answers 204; of these, the last `maxTopics` are
 * known.
 */
export interface HubOptions<Events extends object = EventMap> extends HistoryOptions, DeliveryOptions {
  /**
   * Made by `defineEvents` of `sluice/schema`: what does not fit its schemas is not published. The hub then has its
   * types. What other hubs publish to a shared log is not checked here.
   */
  events?: EventChecks<Events> | undefined;
  /** Milliseconds that clients wait before they reconnect; default 2,000. Each gets this ± a quarter. */
  retry?: number | undefined;
  /**
   * Names this life of the hub: a whole number ≥ 1; default the start time and three random digits. Not with a
   * log, which has an epoch of its own.
   */
  epoch?: number | undefined;
  /** Where events are kept beyond the memory of this process; default nowhere. */
  log?: Log | undefined;
  /**
   * Called where the log fails: with what `append` or `read` has thrown, or why a shared one cannot be followed.
   * Default: a warning of the process, one a minute for each task.
   */
  onError?: ((error: unknown, context: { readonly task: LogTask }) => void) | undefined;
  /** Returns a number from 0 up to 1; default `Math.random`. Where it returns another, it counts as 0.5. */
  random?: (() => number) | undefined;
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
  readonly #groups: Groups;
  readonly #cursors = new Map<Sink, Cursor>();
  readonly #order: Order;
  readonly #delivery: Delivery;
  readonly #arrivals: Arrivals;
  readonly #log: Log | undefined;
  readonly #events: EventChecks<Events> | undefined;
  readonly #publisher: Publisher;
  readonly #follower: Follower | undefined;
  readonly #onError: NonNullable<HubOptions['onError']>;
  readonly #retry: number;
  readonly #now: () => number;
  readonly #random: () => number;
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
  constructor(options: HubOptions<Events> = {}) {
    const { log, events } = options;
    checkChecks(events);
    const now = clockOf(options.now);
    const random = chanceOf(options.random ?? Math.random);
    if (log !== undefined && options.epoch !== undefined)
      throw new TypeError('`epoch` cannot be given beside `log`, which has an epoch of its own');
    const own = log !== undefined && log.order !== 'shared' ? log : undefined;
    const shared = log?.order === 'shared' ? log : undefined;
    const life = { epoch: options.epoch ?? newEpoch(now, random), base: 0 };
    const order = new Order(own?.epochs ?? (shared ? [] : [life]), own?.head ?? 0);
    this.#order = order;
    this.#log = log;
    this.#events = events;
    this.#now = now;
    this.#random = random;
    this.#onError = options.onError ?? warnOfLog();
    this.#retry = duration('retry', options.retry ?? 2000);
    const find = own && ((name: string) => findIn(own, name, order.head));
    const history = new History<Group>(options, order.head, options.maxPageBytes, find);
    this.#history = history;
    this.#follower = shared && this.#follow(shared);
    const reader = own && readerOf(own, (error) => this.#report(error, 'read'));
    this.#delivery = new Delivery(order, history, this.#stats, options, {
      log: shared?.lossy === true ? undefined : (this.#follower ?? reader),
      begin: () => this.#beginTurn(),
    });
    this.#publisher = new Publisher({
      order,
      history,
      delivery: this.#delivery,
      stats: this.#stats,
      events,
      log,
      follower: this.#follower,
      now,
      failed: (error) => this.#report(error, 'append'),
    });
    const refuse = (cursor: Cursor): boolean => {
      const isRefused = refuseSink(cursor.sink);
      if (isRefused) this.#leave(cursor);
      return isRefused;
    };
    const delivery = (): Delivery => this.#delivery;
    const [follower, began] = [this.#follower, this.#began];
    this.#arrivals = new Arrivals({ order, history, delivery, log, follower, refuse, began });
    const drain = (cursor: Cursor): void => this.#delivery.drain(cursor);
    this.#groups = new Groups({ order, history, pages: new PageCache<Group>(), drain, leave: this.#leave });
    shared?.follow(this.#follower!);
  }

  #follow(log: SharedLog): Follower {
    return new Follower({
      log,
      order: this.#order,
      history: this.#history,
      delivery: () => this.#delivery,
      accepted: (bytes) => {
        this.#stats.published++;
        this.#stats.publishedBytes += bytes;
      },
      moved: () => this.#arrivals.moved(),
      onError: (error, task) => this.#report(error, task),
    });
  }

  #beginTurn(): void {
    this.#publisher.commit();
    if (this.#follower !== undefined) this.#arrivals.turn();
  }

  #report(error: unknown, task: LogTask): void {
    ignoreErrors(() => this.#onError(error, { task }));
  }

  /**
   * The id of the newest event that is delivered, or will be in this turn. Put it into a snapshot: a client that
   * loads the snapshot continues from there. With a log: of the newest event that the log has. A shared log that
   * was not reached yet has no position, `0-0`.
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

  /** The log that the hub was given. Where its `order` is `shared`, use `append` and `change`. */
  get log(): Log | undefined {
    return this.#log;
  }

  /** What the hub was given to check events by. */
  get events(): EventChecks<Events> | undefined {
    return this.#events;
  }

  /** Whether `append` takes an idempotency key: with a shared log, and with one that keeps keys. */
  get keepsKeys(): boolean {
    return this.#publisher.keepsKeys;
  }

  /** Why the log cannot be written to, or not be reached; `undefined` while it can, and without a log. */
  get failure(): Error | undefined {
    return this.#publisher.failure ?? this.#follower?.writeFailure;
  }

  /**
   * Gives the event its id, remembers it, and delivers it to the topic's subscribers at the end of this turn.
   * Never throws because of a subscriber.
   *
   * With a log, the event is delivered once the log has it: at the end of this turn, all events of the turn are
   * handed over. If that fails, nobody gets the event and `onError` is called, because `publish` has returned.
   * Use `append` to know.
   *
   * @returns the id.
   * @throws {TypeError} code `ERR_SSE_BAD_EVENT` for a field that cannot be sent, a reserved type, or what `events`
   *   refuses; `ERR_SSE_MALFORMED_TOPIC` for a name that is not valid.
   * @throws {RangeError} code `ERR_SSE_EVENT_TOO_LARGE` for an event larger than `maxEventBytes` or the
   *   topic's `maxBytes`.
   * @throws {Error} code `ERR_SSE_TOPIC_ENDED` after `end(topic)`, `ERR_SSE_PUBLISH_INSIDE` when called by a
   *   function that `publish` calls: `toJSON`, `history`, `now` or the log; `ERR_SSE_LOG_UNAVAILABLE` where the
   *   log has failed and cannot write yet; `ERR_SSE_SHARED_ORDER` with a log that others write to as well.
   * @throws what the `history` function throws. Nothing is then published.
   */
  publish(topic: string, event: HubEvent<Events>): string {
    return this.#publisher.publish(topic, event as HubEvent);
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
    return this.#publisher.publishAll(topic, events as EventBatch<HubEvent>);
  }

  /**
   * Publishes an event, and resolves with its id once the log has it, or at once where there is no log. What that
   * is worth, depends on the log: see docs/operating.md. A subscriber in this process that then resumes just
   * before the id gets the event.
   *
   * @throws what `publish` throws, as a rejection. {LogError} code `ERR_SSE_LOG_UNAVAILABLE` where the event is
   *   certainly not in the log and never will be; `ERR_SSE_OUTCOME_UNKNOWN` where it may be: sent again with the
   *   same idempotency key, it is published once.
   */
  async append(topic: string, event: HubEvent<Events>, options: AppendOptions = {}): Promise<string> {
    const [id] = await this.#publisher.append(topic, [event as HubEvent], options);
    return id!;
  }

  /** The same for a batch: see `publishAll`. */
  async appendAll(
    topic: string,
    events: EventBatch<HubEvent<Events>>,
    options: AppendOptions = {},
  ): Promise<readonly string[]> {
    return await this.#publisher.append(topic, events as EventBatch<HubEvent>, options);
  }

  /** The most of a batch for `publishAll`: half of the topic's history. Throws what `publish` throws. */
  batchLimits(topic: string): { readonly maxEvents: number; readonly maxBytes: number } {
    return this.#publisher.batchLimits(topic);
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
    const names = checkRequest(topics, options);
    if (this.#cursors.has(sink))
      throw new TypeError('`sink` is subscribed already: name all topics in one call');
    this.#arrivals.expire(names, this.#now());
    const { lastEventId, from = 'now', last, announce, controls } = options;
    // A repeated header is malformed: its values, joined by commas, are no id.
    const given = (typeof lastEventId === 'string' ? lastEventId : lastEventId?.join(', ')) ?? '';
    const retry = Math.round(this.#retry * (0.75 + this.#random() / 2));
    const request: Request = { names, given, from, last, retry, announce, controls };
    if (this.#follower !== undefined) return this.#subscribeLater(request, sink, options);
    let start = this.#arrivals.startOf(request);
    if (start.isAhead === true) {
      // The id of an event that the log is to get in this turn.
      this.#publisher.commit();
      start = this.#arrivals.startOf(request);
    }
    if (start.gap === undefined && this.#arrivals.isFinished(names, start.seq)) {
      refuseSink(sink);
      return { topics: names, position: start.readyId, lag: 0, closed: true, close: ignore };
    }
    // May throw, so it comes before the group.
    const preamble = { text: this.#arrivals.preamble(start, request), id: start.readyId };
    const group = this.#groups.of(names, groupOptions(options));
    const cursor = new Cursor(group, sink, start.seq, preamble, options);
    // Without an id, what is no longer remembered was not missed.
    const forgotten = start.from === undefined ? this.#arrivals.forgotten(cursor) : undefined;
    if (forgotten !== undefined) cursor.accept(forgotten);
    this.#enter(cursor); // may throw: such a subscriber is not counted
    this.#began(start);
    if (start.gap !== undefined) this.#delivery.countGap(this.#arrivals.gapOf(start, names));
    if (!cursor.closed) this.#delivery.makeDue(cursor);
    return cursor;
  }

  readonly #began = ({ from }: Pick<Start, 'from'>): void => {
    this.#stats[from === undefined ? 'started' : 'resumed']++;
  };

  /** A shared log has to be asked before anything is written. */
  #subscribeLater(request: Request, sink: Sink, options: SubscribeOptions): Subscription {
    const group = this.#groups.of(request.names, groupOptions(options));
    const cursor = new Cursor(group, sink, this.#order.head, undefined, options);
    this.#enter(cursor);
    if (!cursor.closed) this.#arrivals.hold(cursor, request);
    return cursor;
  }

  /**
   * Ends a topic: its subscribers get the events that they still lack, then `sluice:end`, then the end of the
   * response, as soon as all topics that they follow have ended. Publishing to it fails until `reopen`.
   *
   * With a log, what was published before is handed over at once, and the end is kept there too: so are `reopen`
   * and `delete`. With a log that others write to as well, use `change`.
   *
   * @returns whether the topic existed and had not ended. A shared log knows only topics that were published to.
   * @throws {Error} as `publish` does, where the log cannot write or is shared; what the log throws.
   */
  end(topic: string): boolean {
    return this.#change(topic, 'end');
  }

  /**
   * Lets an ended topic take events again. It keeps its history. A client whose stream has ended does not
   * reconnect by itself: its application has to connect again.
   *
   * @returns whether the topic existed and had ended. @throws as `end`.
   */
  reopen(topic: string): boolean {
    return this.#change(topic, 'reopen');
  }

  /**
   * Deletes the history of a topic, in a log as well, and lets it take events again where it has ended. Its
   * subscribers stay; those that have not received all of the history get a gap, and so does a client that returns
   * with an older id. To end their streams, call `end` first, and `delete` once they have left.
   *
   * @returns whether the topic existed; one that was followed and never published to does not. @throws as `end`.
   */
  delete(topic: string): boolean {
    return this.#change(topic, 'delete');
  }

  /**
   * Does what `end`, `reopen` and `delete` do, with every log, and resolves once the log has it.
   * @throws what these throw and, with a shared log, what `append` throws, as a rejection.
   */
  async change(topic: string, change: TopicChange): Promise<boolean> {
    checkTopic(topic);
    if (!['end', 'reopen', 'delete'].includes(change))
      throw new TypeError(`\`change\` must be "end", "reopen" or "delete", got ${String(change)}`);
    if (this.#follower === undefined) return this.#change(topic, change);
    if (this.#follower.failure !== undefined) throw this.#follower.failure;
    return await (this.#log as SharedLog).change(topic, change);
  }

  #change(name: string, change: TopicChange): boolean {
    this.#publisher.checkOwn(change, 'change');
    checkTopic(name);
    if (this.#log === undefined) return this.#changeMemory(name, change);
    this.#publisher.commitBefore();
    const log = this.#log as OwnLog;
    const isKnown = (): boolean => log.find([name]).some(({ deleted }) => deleted !== true);
    if (change === 'end' && !this.#listed(name) && !isKnown()) return false;
    const isChanged = log.change(name, change);
    this.#changeMemory(name, change);
    return isChanged;
  }

  #changeMemory(name: string, change: TopicChange): boolean {
    if (change === 'reopen') return this.#history.reopen(name);
    // Schedules no turn: cursors at the head have received all events, and the others get the gap in their
    // next step.
    if (change === 'delete') {
      this.#delivery.forgetLogPages();
      return this.#history.delete(name);
    }
    const topic = this.#listed(name);
    if (topic === undefined || topic.ended) return false;
    this.#history.hold(topic);
    topic.ended = true;
    topic.deleted = false;
    this.#delivery.announce(topic);
    return true;
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
   * Every topic that has a history or a subscriber in this process, oldest first. With `limit` or `after`: a page
   * of them, by name. It costs in proportion to its length. What a log has besides, `list` tells.
   */
  topics({ after, limit = Infinity }: TopicsOptions = {}): TopicInfo[] {
    const infos: TopicInfo[] = [];
    for (const topic of this.#history.listed(limit === Infinity ? after : (after ?? ''))) {
      if (infos.length >= limit) break;
      infos.push(this.#info(topic));
    }
    return infos;
  }

  /**
   * Every topic that has a history, in memory or in the log, or a subscriber in this process: a page of them by
   * name, at most `limit`, and what the log holds of each. Numbers of events and bytes are those of the log, where
   * there is one.
   */
  async list({ after = '', limit = Infinity }: TopicsOptions = {}): Promise<TopicInfo[]> {
    const here = this.topics({ after, limit });
    if (this.#log === undefined) return here;
    this.#publisher.checkReadable();
    const { base } = this.#order;
    const shift = this.#follower === undefined ? 0 : base;
    const infos = new Map(here.map((info) => [info.topic, info]));
    for (const { topic, events, bytes, last, ended } of await this.#log.list({ after, limit })) {
      const subscribers = infos.get(topic)?.subscribers ?? 0;
      const id = this.#order.id(last + shift);
      infos.set(topic, { topic, events, bytes, subscribers, last: id, ended });
    }
    const byName = [...infos.values()].sort((a, b) => (a.topic < b.topic ? -1 : 1));
    return byName.slice(0, limit);
  }

  /**
   * Hands over to the log what was published, and closes it. Publishing fails afterwards. Streams are not ended:
   * do that before, with `shutdown` or `kick`.
   */
  async close(): Promise<void> {
    if (!this.#publisher.close()) return;
    this.#follower?.close();
    await this.#log?.close?.();
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

  /** A sink that throws is not subscribed. */
  #enter(cursor: Cursor): void {
    const { sink, group } = cursor;
    group.size++;
    this.#cursors.set(sink, cursor);
    try {
      sink.on('drain', cursor.onDrain);
      sink.on('close', cursor.onClose);
      sink.on('error', ignore);
      if (isClosed(sink)) this.#leave(cursor);
    } catch (error) {
      this.#leave(cursor);
      throw error;
    }
  }

  readonly #leave = (cursor: Cursor): void => {
    if (cursor.closed) return;
    cursor.closed = true;
    const { sink, group } = cursor;
    this.#cursors.delete(sink);
    this.#delivery.forget(cursor);
    if (--group.size === 0) this.#groups.disband(group);
    ignoreErrors(() => sink.off('drain', cursor.onDrain));
    ignoreErrors(() => sink.off('close', cursor.onClose));
  };
}

function groupOptions({ conflate = false, nameTopics = false }: SubscribeOptions): GroupOptions {
  return { conflates: conflate, namesTopics: nameTopics };
}

/** A quarter more must still be a `retry` that clients accept. */
function duration(name: string, value: number): number {
  if (typeof value === 'number' && value >= 0 && value * 1.25 < 2 ** 31) return value;
  throw new RangeError(
    `\`${name}\` must be a number from 0 to ${Math.floor((2 ** 31 - 1) / 1.25)}, got ${value}`,
  );
}
