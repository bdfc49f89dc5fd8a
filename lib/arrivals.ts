// Finds where delivery to a new subscriber begins, at once or once a shared log has answered.
// Needs `controls.ts`, `cursors.ts`, `delivery.ts`, `follower.ts`, `history.ts`, `log.ts`, `order.ts`, `pages.ts`
// and `protocol.ts` beside it.

import { encodeControls } from './controls.ts';
import type { Cursor, Group, Lost } from './cursors.ts';
import type { Delivery } from './delivery.ts';
import type { Follower } from './follower.ts';
import { checkTopic, type History } from './history.ts';
import type { OwnLog, SharedLog, TopicRecord } from './log.ts';
import type { Order, Start } from './order.ts';
import { beforeNewest, earliest } from './pages.ts';
import { type Controls, type Gap, type GapReason, gapEvent, readyEvent, unreadableId } from './protocol.ts';

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
   * Whether a comment in the block of each event names its topic, `: topic prices`; default false. Nothing else says
   * which event of a stream is of which topic.
   */
  nameTopics?: boolean | undefined;
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

/** What a client asks for. */
export interface Request {
  readonly names: readonly string[];
  /** Its last event ID; `''` where it has none. */
  readonly given: string;
  readonly from: 'earliest' | 'now';
  readonly last: number | undefined;
  /** Milliseconds that it waits before it reconnects. */
  readonly retry: number;
  readonly announce: Readonly<Record<string, unknown>> | undefined;
  readonly controls: Controls | undefined;
}

export interface ArrivalsOptions {
  readonly order: Order;
  readonly history: History<Group>;
  readonly delivery: () => Delivery;
  readonly log: OwnLog | SharedLog | undefined;
  readonly follower: Follower | undefined;
  /** Ends a subscription for which nothing is left to deliver. @returns false where it is too late to refuse it. */
  readonly refuse: (cursor: Cursor) => boolean;
  /** Called once for each subscription of a shared log, with its gap where it has one. */
  readonly began: (start: Start) => void;
}

interface Arrival {
  readonly cursor: Cursor;
  readonly request: Request;
  /**
   * Since when the log answers, in milliseconds of `performance.now`; `Infinity` while it does not. A log that does not
   * answer may be ahead without this process hearing of it.
   */
  since: number;
  /** Where the order was when it came. */
  readonly head: number;
  /** Whether the log had said by then where its order is. */
  readonly cameAfterStart: boolean;
}

/**
 * Where a log is shared, its order may be ahead of this process, and only the log knows which topics have ended
 * and where the oldest event is. Then a subscriber is _held_ until that is known: it is in the hub, and gets
 * nothing but `sluice:ready`.
 */
export class Arrivals {
  readonly #options: ArrivalsOptions;
  readonly #isLossy: boolean;
  /** Those for whom the log has to be asked in the next turn. */
  #unasked: Arrival[] = [];
  /** Those whose id is ahead of this process, or came before it knew the order. */
  #ahead: Arrival[] = [];
  #hasMoved = false;
  #isAskingAgain = false;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(options: ArrivalsOptions) {
    this.#options = options;
    const { log } = options;
    this.#isLossy = log?.order === 'shared' && log.lossy === true;
  }

  // ── at once ──────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Drops events that are too old, which a topic without new events may still hold: no client may begin with
   * them.
   */
  expire(names: readonly string[], now: number): void {
    const { history } = this.#options;
    for (const name of names) {
      const topic = history.get(name);
      if (topic !== undefined) history.expire(topic, now);
    }
  }

  /** Where delivery begins, as far as this process and a log of its own know. */
  startOf({ names, given, from, last }: Request): Start {
    const { order, log } = this.#options;
    if (given !== '') return order.locate(given);
    let seq = order.head;
    if (last !== undefined || from === 'earliest') {
      if (log === undefined || this.#isLossy) {
        const topics = names.flatMap((name) => this.#options.history.get(name) ?? []);
        seq = last === undefined ? earliest(topics, seq) : beforeNewest(topics, last, seq);
      } else if (log.order !== 'shared') seq = Math.min(seq, log.beforeNewest(names, last ?? Infinity));
    }
    return { seq, readyId: order.id(seq) };
  }

  /** What was dropped after the beginning of a client without an id: it has not missed that. */
  forgotten(cursor: Cursor): Lost[] | undefined {
    const { log } = this.#options;
    if (log === undefined || this.#isLossy) return cursor.group.lost(cursor);
    return log.order === 'shared' ? undefined : droppedOf(cursor, log.find(cursor.group.names));
  }

  /** Whether nothing is left to deliver. In an epoch that is over, the boundary is. */
  isFinished(names: readonly string[], seq: number): boolean {
    if (seq < this.#options.order.base) return false;
    return names.every((name) => {
      const end = this.#options.history.endOf(name);
      return end !== undefined && end <= seq;
    });
  }

  /** The first bytes of a subscriber. */
  preamble(start: Start, { names, retry, announce, controls }: Request): string {
    const extra = this.#isLossy ? { lossy: true, ...announce } : announce;
    const ready = { retry, ...readyEvent(start.readyId, names, extra) };
    if (start.gap === undefined) return encodeControls([ready], controls);
    return encodeControls([ready, this.#gapEvent(start, names)], controls);
  }

  /** The gap between an id from which this hub cannot continue and the place where delivery begins. */
  gapOf({ gap, from = null, seq }: Start, topics: readonly string[]): Gap & { readonly reason: GapReason } {
    return { reason: gap!, from, to: this.#options.order.id(seq), topics };
  }

  #gapEvent(start: Start, names: readonly string[]): ReturnType<typeof gapEvent> {
    return gapEvent(this.#options.order.id(start.seq), this.gapOf(start, names));
  }

  // ── with a shared log ────────────────────────────────────────────────────────────────────────────────────

  /** Holds a subscriber until the log has answered. */
  hold(cursor: Cursor, request: Request): void {
    cursor.heldAt = this.startOf(request).readyId;
    const { order, follower } = this.#options;
    const [head, cameAfterStart] = [order.head, follower!.hasBegun];
    this.#unasked.push({ cursor, request, since: Infinity, head, cameAfterStart });
    this.#options.delivery().plan();
  }

  /** Call it at the beginning of each turn. */
  turn(): void {
    if (this.#hasMoved) this.#decide(new Set());
    this.#hasMoved = false;
    this.#ask();
  }

  #ask(): void {
    const arrivals = this.#unasked;
    if (arrivals.length === 0) return;
    this.#unasked = [];
    const { follower } = this.#options;
    if (follower!.failure !== undefined) return this.#enterAll(arrivals, new Map());
    this.#learn(arrivals).then((known = new Map()) => this.#enterAll(arrivals, known));
  }

  /** Asks the log for the topics of arrivals. @returns `undefined` where it does not answer. */
  async #learn(arrivals: readonly Arrival[]): Promise<ReadonlyMap<string, TopicRecord> | undefined> {
    const { follower } = this.#options;
    const names = new Set(arrivals.flatMap(({ request }) => request.names));
    let known: ReadonlyMap<string, TopicRecord> | undefined;
    try {
      known = await withinLimit(follower!.learn([...names]));
    } catch (error) {
      follower!.failed(error);
    }
    for (const arrival of arrivals) {
      if (known === undefined) arrival.since = Infinity;
      else if (arrival.since === Infinity) arrival.since = performance.now();
    }
    return known;
  }

  #enterAll(arrivals: readonly Arrival[], known: ReadonlyMap<string, TopicRecord>): void {
    for (const arrival of arrivals) {
      if (arrival.cursor.closed) continue;
      if (beginsEarlier(arrival.request) && !this.#isLossy) this.#beginEarlier(arrival, known);
      else this.#enter(arrival);
    }
  }

  /** Only the log knows where its oldest events are. A client that asks for them comes again where it is away. */
  #beginEarlier({ cursor, request }: Arrival, known: ReadonlyMap<string, TopicRecord>): void {
    const { log, follower, order, delivery } = this.#options;
    const { names, last = Infinity } = request;
    const { epoch, base } = order;
    if (follower!.failure !== undefined) return void delivery().end(cursor);
    const ask = async (): Promise<number> => (log as SharedLog).beforeNewest(names, last);
    withinLimit(ask()).then(
      (place) => {
        if (cursor.closed) return;
        if (order.epoch !== epoch) return void delivery().end(cursor);
        const seq = Math.min(order.head, base + place);
        if (this.isFinished(names, seq) && this.#options.refuse(cursor)) return;
        this.#release(cursor, request, { seq, readyId: order.id(seq) });
        const lost = droppedOf(cursor, [...known.values()]);
        if (lost !== undefined) cursor.accept(lost);
      },
      (error: unknown) => {
        follower!.failed(error);
        delivery().end(cursor);
      },
    );
  }

  #enter(arrival: Arrival): void {
    const { follower, order } = this.#options;
    const { cursor, request } = arrival;
    // Nobody knows what was published since it came.
    const given = !follower!.hasBegun && request.given === '' ? unreadableId : request.given;
    // It gets what was published since it came, or since the order went on in another epoch.
    const seq = Math.max(arrival.head, order.base);
    const isHere = given === '' && arrival.cameAfterStart && !beginsEarlier(request);
    const start = isHere ? { seq, readyId: order.id(seq) } : this.startOf({ ...request, given });
    if ((start.isAhead === true && !this.#isLossy) || !follower!.hasBegun) {
      this.#ahead.push({ ...arrival, request: { ...request, given } });
      cursor.heldAt = start.readyId;
      this.#write(cursor, start, () => this.preamble({ seq: start.seq, readyId: start.readyId }, request));
      this.#decideLater();
      return;
    }
    const isFinished = start.gap === undefined && this.isFinished(request.names, start.seq);
    if (isFinished && this.#options.refuse(cursor)) return;
    this.#release(cursor, request, start);
    const forgotten = given === '' ? this.forgotten(cursor) : undefined;
    if (forgotten !== undefined) cursor.accept(forgotten);
  }

  #release(cursor: Cursor, request: Request, start: Start): void {
    cursor.heldAt = undefined;
    cursor.seq = start.seq;
    this.#options.began(start);
    if (start.gap !== undefined) this.#options.delivery().countGap(this.gapOf(start, request.names));
    this.#write(cursor, start, () => this.preamble(start, request));
  }

  /** A `controls` that throws, or makes what cannot be sent, ends its own subscriber. */
  #write(cursor: Cursor, { readyId: id }: Start, text: () => string): void {
    const { delivery } = this.#options;
    try {
      cursor.preamble = { text: text(), id };
    } catch {
      return delivery().fail(cursor);
    }
    if (!cursor.isBlocked) delivery().makeDue(cursor);
  }

  /** Call it when the order has moved: those that were ahead of it may not be any more, which the next turn finds. */
  moved(): void {
    if (this.#ahead.length === 0 || !this.#options.follower!.hasBegun) return;
    this.#hasMoved = true;
    this.#options.delivery().plan();
  }

  /** One timer for all. */
  #decideLater(): void {
    if (this.#timer !== undefined || this.#ahead.length === 0) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#ahead = this.#ahead.filter(({ cursor }) => !cursor.closed);
      // While the log is away, nobody can tell whether an id is of its future.
      if (this.#options.follower!.failure === undefined) this.#askAgain();
      this.#decideLater();
    }, MAX_HOLD / 4);
    this.#timer.unref?.();
  }

  /**
   * Before anybody is told of a gap, the log has to answer, and this process to have all that the log had when the
   * client came: a process that is busy may be behind for longer.
   */
  #askAgain(): void {
    const last = performance.now() - Math.max(MAX_HOLD, this.#lag);
    const due = new Set(this.#ahead.filter(({ since }) => since <= last));
    const asked = this.#ahead.filter((arrival) => due.has(arrival) || arrival.since === Infinity);
    if (asked.length === 0 || this.#isAskingAgain) return;
    this.#isAskingAgain = true;
    this.#learn(asked).then((known) => {
      this.#isAskingAgain = false;
      if (known !== undefined) this.#decide(due);
    });
  }

  /** Milliseconds since this process had all of the log, where that can tell. */
  get #lag(): number {
    const { log } = this.#options;
    return log?.order === 'shared' ? (log.lag ?? 0) : 0;
  }

  /** Those that are `due` are told of a gap where their id is ahead still. */
  #decide(due: ReadonlySet<Arrival>): void {
    const arrivals = this.#ahead;
    this.#ahead = [];
    for (const arrival of arrivals) {
      const { cursor, request } = arrival;
      if (cursor.closed) continue;
      const start = this.startOf(request);
      if (start.isAhead === true && !due.has(arrival)) this.#ahead.push(arrival);
      else this.#decided(cursor, request, start);
    }
  }

  /** `sluice:ready` was written or is about to be. */
  #decided(cursor: Cursor, request: Request, start: Start): void {
    const { delivery } = this.#options;
    const unwritten = cursor.preamble?.text ?? '';
    cursor.heldAt = undefined;
    cursor.seq = start.seq;
    this.#options.began(start);
    if (start.gap !== undefined) {
      delivery().countGap(this.gapOf(start, request.names));
      const gap = this.#gapEvent(start, request.names);
      this.#write(cursor, start, () => unwritten + encodeControls([gap], request.controls));
    } else if (!cursor.isBlocked) delivery().makeDue(cursor);
  }
}

/**
 * Returns the topics of a subscription, each once, by name.
 * @throws {TypeError | RangeError} naming what cannot be used.
 */
export function checkRequest(
  topics: string | readonly string[],
  { from, last }: { readonly from?: unknown; readonly last?: unknown },
): readonly string[] {
  const names = [...new Set(typeof topics === 'string' ? [topics] : topics)].sort();
  if (names.length === 0) throw new TypeError('`topics` must name at least one topic, got none');
  names.forEach(checkTopic);
  if (from !== undefined && from !== 'earliest' && from !== 'now') {
    throw new TypeError(`\`from\` must be "earliest" or "now", got ${String(from)}`);
  }
  if (last !== undefined && !(Number.isSafeInteger(last) && (last as number) >= 0)) {
    throw new RangeError(`\`last\` must be a whole number ≥ 0, got ${String(last)}`);
  }
  return names;
}

/** Whether a client without an id asks for more than what is published next. */
function beginsEarlier({ given, from, last }: Request): boolean {
  return given === '' && (from === 'earliest' || last !== undefined);
}

/** Nobody waits for a log for longer than {@link MAX_HOLD}. */
function withinLimit<T>(answer: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => reject(new Error(`the log gave no answer within ${MAX_HOLD} ms`)),
      MAX_HOLD,
    );
    timer.unref?.();
    answer.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}

function droppedOf(cursor: Cursor, records: readonly TopicRecord[]): Lost[] | undefined {
  const dropped = new Map(records.map((record) => [record.topic, record.dropped]));
  const lost = cursor.group.topics.flatMap((topic) => {
    const seq = dropped.get(topic.name) ?? 0;
    return seq > cursor.seq ? [{ topic, seq }] : [];
  });
  return lost.length > 0 ? lost : undefined;
}

/** Milliseconds for which a client whose id is ahead of this process is held, once the log answers. */
const MAX_HOLD = 1000;
