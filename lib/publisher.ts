// Publishes events: checks and encodes them, gives them their places, and hands them to the history or the log.
// Needs `cursors.ts`, `delivery.ts`, `encode.ts`, `history.ts`, `hub-event.ts`, `idempotency.ts`, `log.ts`,
// `order.ts`, `protocol.ts` and `staging.ts` beside it.

import type { Group, Topic } from './cursors.ts';
import type { Delivery } from './delivery.ts';
import { encode, type ServerSentEvent } from './encode.ts';
import { BatchSize, checkOpen, type EncodedEvent, type History } from './history.ts';
import {
  checkEvent,
  checkEvents,
  checkedData,
  type EventBatch,
  type EventChecks,
  type HubEvent,
} from './hub-event.ts';
import { idempotencyConflict } from './idempotency.ts';
import type { AppendOptions, Log, LogEntry, NewEntry, SharedLog } from './log.ts';
import type { Order } from './order.ts';
import { formatId, parseId } from './protocol.ts';
import { type StagedEvent, Staging } from './staging.ts';

export interface PublisherOptions {
  readonly order: Order;
  readonly history: History<Group>;
  readonly delivery: Delivery;
  readonly stats: { published: number; publishedBytes: number };
  /** What events must fit. */
  readonly events: Pick<EventChecks, 'parse'> | undefined;
  readonly log: Log | undefined;
  /** Follows a shared log. */
  readonly follower: { readonly failure: Error | undefined } | undefined;
  readonly now: () => number;
  /** Called with what the log has thrown. */
  readonly failed: (error: unknown) => void;
}

/** An event, and its frame without its id, as a log keeps it. */
interface LoggedEvent extends EncodedEvent {
  readonly body: string;
}

/**
 * One of three ways: without a log, an event is in the history at once. A log of this hub gets the events of a turn
 * together, and then the history does. A shared log gets a request, and the history what the log then tells.
 */
export class Publisher {
  readonly #options: PublisherOptions;
  readonly #order: Order;
  readonly #history: History<Group>;
  readonly #now: () => number;
  readonly #staging: Staging<StagedEvent<Group>> | undefined;
  readonly #events: PublisherOptions['events'];
  readonly #isShared: boolean;
  #isPublishing = false;
  #isClosed = false;

  constructor(options: PublisherOptions) {
    const { log, order, delivery, failed } = options;
    this.#options = options;
    this.#order = order;
    this.#history = options.history;
    this.#now = options.now;
    this.#events = options.events;
    this.#isShared = log?.order === 'shared';
    if (log === undefined || log.order === 'shared') return;
    this.#staging = new Staging<StagedEvent<Group>>(log, {
      head: order.head,
      accept: ({ topic, event, first }) => this.#accept(topic, event, first),
      plan: () => delivery.plan(),
      failed,
    });
  }

  /** Why a log of this hub takes no events. */
  get failure(): Error | undefined {
    return this.#staging?.failure;
  }

  publish(topic: string, event: HubEvent): string {
    this.checkOwn('publish', 'append');
    this.#begin();
    try {
      const prepared = this.#prepare(topic);
      const encoded = this.#encode(prepared, event, this.#next, this.#now());
      checkOpen(prepared); // `toJSON` may have ended it
      if (this.#staging === undefined) this.#accept(prepared, encoded);
      else this.#stage([toStaged(prepared, encoded, encoded.seq)]);
      return this.#order.id(encoded.seq);
    } finally {
      this.#isPublishing = false;
    }
  }

  publishAll(topic: string, events: EventBatch<HubEvent>): readonly string[] {
    this.checkOwn('publishAll', 'appendAll');
    this.#begin();
    try {
      const [prepared, encoded] = this.#encodeAll(topic, events);
      const first = encoded[0]?.seq ?? 0;
      if (this.#staging === undefined) for (const one of encoded) this.#accept(prepared, one, first);
      else this.#stage(encoded.map((one) => toStaged(prepared, one, first)));
      return this.#idsOf(encoded);
    } finally {
      this.#isPublishing = false;
    }
  }

  async append(
    topic: string,
    events: EventBatch<HubEvent>,
    options: AppendOptions,
  ): Promise<readonly string[]> {
    const { idempotency, behind } = options;
    if (behind !== undefined) this.#checkBehind(behind);
    if (this.#isShared) return this.#appendShared(topic, events, options);
    if (idempotency !== undefined && !this.keepsKeys)
      throw new TypeError('`idempotency` needs a log that keeps keys: elsewhere use `IdempotencyCache`');
    if (this.#staging === undefined) return this.publishAll(topic, events);
    this.checkReadable();
    const known = idempotency && this.#staging.recall(idempotency.key);
    if (known !== undefined) {
      if (known.record.digest !== idempotency?.digest) throw idempotencyConflict();
      await known.kept;
      const { first, count } = known.record;
      return Array.from({ length: count }, (_, i) => this.#order.id(first + i));
    }
    let ids: readonly string[];
    let kept: Promise<void> | undefined;
    this.#begin();
    try {
      const [prepared, encoded] = this.#encodeAll(topic, events);
      const { length: count, 0: one } = encoded;
      ids = this.#idsOf(encoded);
      if (one !== undefined)
        kept = this.#staging.addAndWait(
          encoded.map((event) => toStaged(prepared, event, one.seq)),
          idempotency && { ...idempotency, first: one.seq, count },
        );
    } finally {
      this.#isPublishing = false;
    }
    await kept;
    return ids;
  }

  #checkBehind(behind: string): void {
    if (!this.#isShared)
      throw new TypeError('`behind` needs a log that hubs share: elsewhere this hub alone appends');
    if (parseId(behind) === undefined)
      throw new TypeError(`\`behind\` must be the id of an event, got ${JSON.stringify(behind)}`);
  }

  /** Whether an append with an idempotency key is published once, also after a restart. */
  get keepsKeys(): boolean {
    return this.#isShared || this.#staging?.keepsKeys === true;
  }

  async #appendShared(
    topic: string,
    events: EventBatch<HubEvent>,
    options: AppendOptions,
  ): Promise<readonly string[]> {
    const { log, follower } = this.#options;
    let entries: readonly NewEntry[];
    this.#begin();
    try {
      const [, encoded] = this.#encodeAll(topic, events);
      entries = encoded.map((one) => toEntry(topic, one));
    } finally {
      this.#isPublishing = false;
    }
    if (entries.length === 0) return [];
    if (follower?.failure !== undefined) throw follower.failure;
    const { epoch, first, count } = await (log as SharedLog).append(topic, entries, options);
    return Array.from({ length: count }, (_, i) => formatId(epoch, first + i));
  }

  batchLimits(topic: string): { readonly maxEvents: number; readonly maxBytes: number } {
    return this.#history.batchLimits(this.#prepare(topic));
  }

  /** @throws {Error} code `ERR_SSE_SHARED_ORDER`, where only a promise can answer. */
  checkOwn(method: string, other: string): void {
    if (!this.#isShared) return;
    const message = `\`${method}\` cannot answer at once where the log is shared: use \`${other}\`, which returns a promise`;
    throw fail(new Error(message), 'ERR_SSE_SHARED_ORDER', 500);
  }

  /** Hands over what was published in this turn. Code that the log calls must not publish. */
  commit(): void {
    if (this.#staging === undefined) return;
    const was = this.#isPublishing;
    this.#isPublishing = true;
    this.#staging.commit();
    this.#isPublishing = was;
  }

  /**
   * The same before a change of a topic, which must not overtake events: throws where the log does not take these.
   * Where it was full before, to delete a topic may be what makes room.
   */
  commitBefore(): void {
    if (this.#isPublishing) throw insideError();
    this.checkReadable();
    if (this.#staging?.isEmpty !== false) return;
    this.commit();
    if (this.failure !== undefined) throw this.failure;
  }

  /** @throws {LogError} where the log cannot be asked. */
  checkReadable(): void {
    const failure = this.#options.follower?.failure ?? this.#staging?.closed;
    if (failure !== undefined) throw failure;
  }

  /** @returns false where it was closed before. */
  close(): boolean {
    const wasOpen = !this.#isClosed;
    this.#isClosed = true;
    this.commit();
    this.#staging?.close();
    return wasOpen;
  }

  /** An event that is published while another one gets its seq would get the same. */
  #begin(): void {
    if (this.#isPublishing) throw insideError();
    const failure = this.#staging?.failure;
    if (failure !== undefined) throw failure;
    this.#isPublishing = true;
  }

  /** A turn with very much is handed over in parts: that may fail at once. */
  #stage(staged: readonly StagedEvent<Group>[]): void {
    this.#staging!.add(staged);
    if (this.failure !== undefined) throw this.failure;
  }

  get #next(): number {
    return this.#staging?.next ?? this.#order.head + 1;
  }

  #idsOf(events: readonly LoggedEvent[]): readonly string[] {
    return events.map(({ seq }) => this.#order.id(seq));
  }

  #prepare(topic: string): Topic {
    const prepared = this.#history.prepare(topic);
    // Only a shared log knows whether the topic was reopened.
    if (!this.#isShared) checkOpen(prepared);
    return prepared;
  }

  #encodeAll(topic: string, events: EventBatch<HubEvent>): [Topic, LoggedEvent[]] {
    checkEvents(events);
    const prepared = this.#prepare(topic);
    const [first, now] = [this.#next, this.#now()];
    const encoded: LoggedEvent[] = [];
    const size = new BatchSize();
    this.#history.checkBatch(prepared, events.length, size);
    for (const event of events) {
      const one = this.#encode(prepared, event, first + encoded.length, now);
      encoded.push(one);
      size.add(one);
      this.#history.checkBatch(prepared, Math.max(events.length, size.events), size);
    }
    if (!this.#isShared) checkOpen(prepared); // the batch itself may have ended the topic
    return [prepared, encoded];
  }

  /** The event as it goes over the wire. Throws where it cannot be published, and changes nothing. */
  #encode(topic: Topic, event: HubEvent, seq: number, at: number): LoggedEvent {
    const { event: type, data: given, json: value, key, comment, retry } = Object(event) as HubEvent;
    const json = given === undefined ? value : undefined;
    checkEvent(type, given, json, key);
    const data = this.#events === undefined ? given : checkedData(this.#events, type, given, json);
    const body = encode({ comment, retry, event: type, data, json } as ServerSentEvent);
    const frame = `id: ${this.#order.id(seq)}\n${body}`;
    const encoded = { seq, at, frame, bytes: Buffer.byteLength(frame), key: ownText(key), body };
    this.#history.check(topic, encoded);
    return encoded;
  }

  #accept(prepared: Topic, event: EncodedEvent, first = event.seq): void {
    const { stats, delivery } = this.#options;
    const topic = this.#history.append(prepared, event, first);
    this.#order.head = event.seq;
    stats.published++;
    stats.publishedBytes += event.bytes;
    delivery.announce(topic, event.at);
  }
}

function insideError(): Error {
  const message =
    'an event cannot be published by a function that `publish` calls, such as `toJSON`, `history` or `log.append`';
  return fail(new Error(message), 'ERR_SSE_PUBLISH_INSIDE', 500);
}

function toEntry(topic: string, { seq, at, body, key }: LoggedEvent): LogEntry {
  return { seq, topic, at, frame: Buffer.from(body), key };
}

function toStaged(topic: Topic, event: LoggedEvent, first: number): StagedEvent<Group> {
  return { topic, event, entry: toEntry(topic.name, event), bytes: event.bytes, first };
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
