// A log that only passes events on: hubs that share a channel of Redis get what each of them appends, or miss it.
// Needs `idempotency.ts`, `log.ts`, `names.ts`, `order.ts`, `redis-client.ts` and `redis-message.ts` beside it.
//
// Redis keeps nothing. Each hub has an order, and ids, of its own. What it knows that it may have missed, it tells
// by going on in another epoch: each of its streams gets one gap. It cannot know everything: see docs/operating.md.

import { IdempotencyCache } from './idempotency.ts';
import {
  type Appended,
  type AppendOptions,
  type ListOptions,
  type LogIntake,
  type LogPage,
  logUnavailable,
  type NewEntry,
  outcomeUnknown,
  type SharedLog,
  type TopicChange,
  type TopicRecord,
  topicEnded,
} from './log.ts';
import { NameOrder } from './names.ts';
import { newEpoch } from './order.ts';
import {
  checkRedisClient,
  openRedis,
  type RedisConnection,
  type RedisFailure,
  subscribeRedis,
} from './redis-client.ts';
import { formatMessage, parseMessage, type RedisMessage } from './redis-message.ts';

export interface LossyRedisOptions {
  /** Hubs of the same name share their events. 1 to 100 characters of `A–Z a–z 0–9 . _ -`; default `sluice`. */
  readonly name?: string | undefined;
  /** Milliseconds that an append may take; default 900. */
  readonly appendTimeout?: number | undefined;
  /**
   * Milliseconds between two messages by which hubs find out what they have missed, and whether they hear
   * themselves; default 5 s.
   */
  readonly checkInterval?: number | undefined;
  /** Most topics of which it is known whether they have ended; default 100,000. */
  readonly maxTopics?: number | undefined;
}

/** What is known of a topic in this epoch. */
interface Topic {
  readonly last: number;
  readonly ended: boolean;
  readonly deleted: boolean;
}

/** What a hub has sent and not heard yet. */
interface Waiting {
  readonly bytes: number;
  readonly timer: ReturnType<typeof setTimeout>;
  resolve(answer: Appended | undefined): void;
  reject(error: Error): void;
}

// Of appends that have not come back yet: their number and the bytes of their messages.
const MAX_WAITING = 10_000;
const MAX_WAITING_BYTES = 32 * 1024 * 1024;
// Of how many hubs it is known how much they have sent.
const MAX_SENDERS = 1000;

/** A log for `new Hub({ log })`. */
export class LossyRedis implements SharedLog {
  readonly order = 'shared';
  readonly lossy = true;
  readonly #client: unknown;
  readonly #channel: string;
  readonly #appendTimeout: number;
  readonly #checkInterval: number;
  readonly #maxTopics: number;
  readonly #keys: IdempotencyCache<Appended> = new IdempotencyCache();
  // The one that changed last comes last.
  readonly #topics: Map<string, Topic> = new Map();
  readonly #names: NameOrder = new NameOrder(this.#topics);
  /** How many messages each hub has sent. */
  readonly #senders: Map<string, number> = new Map();
  readonly #node: string = newName();
  /** How many messages this hub has sent. */
  #count = 0;
  /** Numbers of messages that Redis has certainly refused, while later ones are on their way. */
  readonly #refused: Set<number> = new Set();
  readonly #waiting: Map<number, Waiting> = new Map();
  #waitingBytes = 0;
  #intake: LogIntake | undefined;
  #publisher: RedisConnection | undefined;
  #listener: ReturnType<typeof subscribeRedis> | undefined;
  #timer: ReturnType<typeof setInterval> | undefined;
  #isAway = false;
  #isClosed = false;
  #epoch = 0;
  #head = 0;
  /** How many checks in a row this hub has sent and not heard. */
  #unheard = 0;

  /**
   * @param client - A client of `redis` or `ioredis`, which is only duplicated.
   * @throws {TypeError | RangeError} naming what cannot be used.
   */
  constructor(client: unknown, options: LossyRedisOptions = {}) {
    const { name = 'sluice', appendTimeout = 900, checkInterval = 5000, maxTopics = 100_000 } = options;
    if (typeof name !== 'string' || !NAME.test(name))
      throw new TypeError(`\`name\` must be 1 to 100 of A–Z a–z 0–9 . _ -, got ${JSON.stringify(name)}`);
    checkRedisClient(client);
    this.#client = client;
    this.#channel = `{${name}}:lossy`;
    this.#appendTimeout = wholeNumber('appendTimeout', appendTimeout, MAX_DELAY);
    this.#checkInterval = wholeNumber('checkInterval', checkInterval, MAX_DELAY);
    this.#maxTopics = wholeNumber('maxTopics', maxTopics, Number.MAX_SAFE_INTEGER);
  }

  follow(intake: LogIntake): void {
    this.#intake = intake;
    const onDown = (reason: RedisFailure) => this.#down(reason);
    this.#publisher = openRedis(this.#client, { onUp: () => this.#up(), onDown });
    this.#listener = subscribeRedis(this.#client, {
      channel: this.#channel,
      onMessage: (text) => this.#heard(text),
      onUp: () => {
        this.#renew();
        this.#up();
      },
      onDown,
    });
    this.#timer = setInterval(() => this.#check(), this.#checkInterval);
    this.#timer.unref?.();
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    clearInterval(this.#timer);
    this.#publisher?.close();
    this.#listener?.close();
    this.#rejectAll('the hub was closed');
  }

  // ── connections ──────────────────────────────────────────────────────────────────────────────────────────

  get #isUp(): boolean {
    return this.#publisher?.isUp === true && this.#listener?.isUp === true && this.#epoch !== 0;
  }

  #up(): void {
    if (!this.#isUp) return;
    if (this.#isAway) this.#intake?.back();
    this.#isAway = false;
    this.#check();
  }

  #down(reason: RedisFailure): void {
    this.#isAway = true;
    this.#unheard = 0;
    this.#intake?.away(reason);
    this.#rejectAll(reason.message);
  }

  /** What was published until now may be lost. */
  #renew(): void {
    const oldEnd = this.#head;
    this.#epoch = Math.max(newEpoch(Date.now, Math.random), this.#epoch + 1);
    this.#head = 0;
    this.#senders.clear();
    for (const [name, topic] of this.#topics) this.#topics.set(name, { ...topic, last: 0 });
    this.#intake?.renew(this.#epoch, oldEnd);
  }

  /** Says how much this hub has sent, and finds out whether it still hears itself. */
  #check(): void {
    if (!this.#isUp) return;
    // The first may wait behind what a busy process has not read yet.
    if (this.#unheard > 1) return this.#listener?.reset('the channel has fallen silent');
    this.#unheard++;
    this.#publish(formatMessage({ node: this.#node, count: this.#count })).catch(() => {});
  }

  #publish(text: string): Promise<unknown> {
    const options = { key: this.#channel, timeout: this.#appendTimeout };
    return (this.#publisher as RedisConnection).send(['PUBLISH', this.#channel, text], options);
  }

  // ── what arrives ─────────────────────────────────────────────────────────────────────────────────────────

  #heard(text: string): void {
    const message = this.#isClosed ? undefined : parseMessage(text);
    if (message === undefined) return;
    if (message.node === this.#node) this.#heardOwn(message.count);
    this.#countMessage(message);
    if (message.topic === undefined) return;
    const waiting = message.node === this.#node ? this.#settled(message.count) : undefined;
    try {
      const answer = this.#take(message, message.topic);
      waiting?.resolve(answer);
    } catch (error) {
      waiting?.reject(error as Error);
    }
  }

  #heardOwn(count: number): void {
    this.#unheard = 0;
    for (const refused of this.#refused) if (refused < count) this.#refused.delete(refused);
  }

  /** Where a hub has sent more than has arrived, the rest is lost. */
  #countMessage({ node, count, topic }: RedisMessage): void {
    const before = this.#senders.get(node);
    const expected = topic === undefined ? before : (before ?? count - 1) + 1;
    if (expected !== undefined && count > expected) this.#renew();
    this.#senders.delete(node);
    this.#senders.set(node, Math.max(count, before ?? 0));
    const [oldest] = this.#senders.keys();
    if (this.#senders.size > MAX_SENDERS && oldest !== undefined) this.#senders.delete(oldest);
  }

  /** @throws {Error} where the topic has ended before, as all hubs know that heard of it. */
  #take({ events = [], change }: RedisMessage, topic: string): Appended | undefined {
    const known = this.#topics.get(topic);
    if (change !== undefined) return this.#change(topic, known, change);
    if (known?.ended === true) throw topicEnded(topic);
    const first = this.#head + 1;
    const entries = events.map(({ at, key, frame }, i) => {
      return { seq: first + i, topic, at, key, frame: Buffer.from(frame) };
    });
    this.#head += events.length;
    this.#know(topic, { last: this.#head, ended: false, deleted: false });
    this.#intake?.accept(entries);
    return { epoch: this.#epoch, first, count: events.length };
  }

  #change(topic: string, known: Topic | undefined, change: TopicChange): Appended | undefined {
    if (!hasEffect(known, change)) return undefined;
    const seq = ++this.#head;
    const deleted = change === 'delete';
    this.#know(topic, { last: known?.last ?? 0, ended: change === 'end', deleted });
    this.#intake?.accept([{ seq, topic, change }]);
    return { epoch: this.#epoch, first: seq, count: 1 };
  }

  #know(name: string, topic: Topic): void {
    if (!this.#topics.delete(name)) this.#names.add(name);
    this.#topics.set(name, topic);
    const [oldest] = this.#topics.keys();
    if (this.#topics.size > this.#maxTopics && oldest !== undefined) this.#topics.delete(oldest);
  }

  // ── what is sent ─────────────────────────────────────────────────────────────────────────────────────────

  /** A request that is sent again has one effect if it comes to the same hub, and not much later. */
  append(topic: string, events: readonly NewEntry[], options: AppendOptions = {}): Promise<Appended> {
    const { idempotency, behind } = options;
    if (behind !== undefined)
      return Promise.reject(new TypeError('`behind` needs a log that keeps events: this one keeps none'));
    if (events.length === 0) return Promise.reject(new RangeError('`events` must have at least one event'));
    const act = async () => {
      if (this.#topics.get(topic)?.ended === true) throw topicEnded(topic);
      const texts = events.map(({ at, key, frame }) => ({ at, key, frame: Buffer.from(frame).toString() }));
      return (await this.#send({ topic, events: texts })) as Appended;
    };
    return idempotency === undefined ? act() : this.#keys.run(idempotency.key, act, idempotency.digest);
  }

  async change(topic: string, change: TopicChange): Promise<boolean> {
    if (!hasEffect(this.#topics.get(topic), change)) return false;
    return (await this.#send({ topic, change })) !== undefined;
  }

  /** Resolves when the message has come back. */
  #send(content: Pick<RedisMessage, 'topic' | 'events' | 'change'>): Promise<Appended | undefined> {
    if (!this.#isUp) return Promise.reject(logUnavailable('Redis cannot be reached'));
    const count = this.#count + 1;
    const text = formatMessage({ node: this.#node, count, ...content });
    const bytes = Buffer.byteLength(text);
    if (this.#waiting.size >= MAX_WAITING || this.#waitingBytes + bytes > MAX_WAITING_BYTES)
      return Promise.reject(logUnavailable('too much waits for Redis'));
    this.#count = count;
    return new Promise((resolve, reject) => {
      const fail = (error: Error) => this.#settled(count)?.reject(error);
      const timer = setTimeout(
        () => fail(outcomeUnknown('the event has not come back')),
        this.#appendTimeout,
      );
      this.#waiting.set(count, { bytes, timer, resolve, reject });
      this.#waitingBytes += bytes;
      this.#publish(text).catch(({ kind, message }: RedisFailure) => {
        if (kind === 'unanswered') return fail(outcomeUnknown(message));
        this.#giveBack(count);
        fail(logUnavailable(message));
      });
    });
  }

  /** Nobody gets the message: with its number left out, others would take it for one that they have lost. */
  #giveBack(count: number): void {
    this.#refused.add(count);
    while (this.#refused.delete(this.#count)) this.#count--;
  }

  #settled(count: number): Waiting | undefined {
    const waiting = this.#waiting.get(count);
    if (waiting === undefined) return undefined;
    this.#waiting.delete(count);
    this.#waitingBytes -= waiting.bytes;
    clearTimeout(waiting.timer);
    return waiting;
  }

  #rejectAll(message: string): void {
    for (const count of [...this.#waiting.keys()]) this.#settled(count)?.reject(outcomeUnknown(message));
  }

  // ── what is known ────────────────────────────────────────────────────────────────────────────────────────

  /** It has nothing. */
  async read(topics: readonly string[], after: number): Promise<LogPage> {
    const dropped = topics.flatMap((topic) => {
      const seq = this.#topics.get(topic)?.last ?? 0;
      return seq > after ? [{ topic, seq }] : [];
    });
    return { entries: [], until: this.#head, dropped };
  }

  async find(topics: readonly string[]): Promise<readonly TopicRecord[]> {
    return topics.flatMap((topic) => this.#recordOf(topic));
  }

  async list({ after = '', limit = Infinity }: ListOptions): Promise<readonly TopicRecord[]> {
    const records: TopicRecord[] = [];
    if (limit < 1) return records;
    for (const name of this.#names.after(after)) {
      const [record] = this.#recordOf(name);
      if (record === undefined || record.deleted === true) continue;
      if (records.push(record) >= limit) break;
    }
    return records;
  }

  async beforeNewest(): Promise<number> {
    return this.#head;
  }

  #recordOf(topic: string): TopicRecord[] {
    const known = this.#topics.get(topic);
    if (known === undefined) return [];
    return [{ topic, ...known, dropped: known.last, events: 0, bytes: 0 }];
  }
}

function hasEffect(known: Topic | undefined, change: TopicChange): boolean {
  if (known === undefined) return false;
  return change === 'delete' ? !known.deleted : known.ended !== (change === 'end');
}

const NAME = /^[A-Za-z0-9._-]{1,100}$/;
// The longest time that a timer can wait.
const MAX_DELAY = 2 ** 31 - 1;

function wholeNumber(name: string, value: number, most: number): number {
  if (Number.isSafeInteger(value) && value >= 1 && value <= most) return value;
  throw new RangeError(`\`${name}\` must be a whole number from 1 to ${most}, got ${String(value)}`);
}

/** Of this life of this process. */
function newName(): string {
  return `${newEpoch(Date.now, Math.random).toString(36)}${Math.random().toString(36).slice(2, 10)}`;
}
