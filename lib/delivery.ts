// Delivers events in turns: each gives every cursor at the head the new events, and some others a page.
// Needs `backpressure.ts`, `controls.ts`, `cursors.ts`, `history.ts`, `history-limits.ts`, `log.ts`, `order.ts`,
// `pages.ts`, `protocol.ts` and `queue.ts` beside it.

import { channel } from 'node:diagnostics_channel';
import { Backpressure } from './backpressure.ts';
import { encodeControls } from './controls.ts';
import {
  type Cursor,
  checkPage,
  compareWithLog,
  type Group,
  gapsOf,
  ignoreErrors,
  isClosed,
  joinWithLog,
  type Lost,
  type Topic,
} from './cursors.ts';
import type { History } from './history.ts';
import { PAGE_BYTES } from './history-limits.ts';
import type { LogPage, OwnLog } from './log.ts';
import { clockOf, type Order } from './order.ts';
import { isNext, LogPageCache, type Page, ReadsUnderWay } from './pages.ts';
import { type ControlEvent, endEvent, type Gap, type GapReason, gapEvent } from './protocol.ts';
import { Queue } from './queue.ts';

export interface DeliveryOptions {
  /** Most bytes written to one subscriber in one turn; default 60 KiB. One event may be larger. */
  maxPageBytes?: number | undefined;
  /**
   * The treatment of a subscriber whose next event is no longer remembered: `gap` (default) sends a gap
   * event, `close` closes its stream.
   */
  overtaken?: 'gap' | 'close' | undefined;
  /** Milliseconds; default `Date.now`, also where it returns no number. */
  now?: (() => number) | undefined;
  /**
   * Called after each turn that delivered events. `latency`: milliseconds since the first of them was
   * published.
   */
  onDelivered?: ((delivery: { readonly latency: number }) => void) | undefined;
  /**
   * Calls a function once, at the end of the current turn; default `setImmediate`, also where it throws. It
   * must not call the function before it returns.
   */
  schedule?: ((turn: () => void) => void) | undefined;
}

/** What a delivery asks for what memory no longer has, in the seqs of its order. */
export interface DeliveryLog {
  /** Whether it can read what came before the present epoch. */
  readonly readsParents: boolean;
  /** Why it cannot be reached: readers wait until it can. */
  readonly failure: Error | undefined;
  readonly read: OwnLog['read'];
  /** Called where a page cannot be read. */
  failed(error: unknown): void;
}

/** The counts that a delivery keeps for its hub. */
export interface DeliveryStats {
  /** Events and bytes handed to sinks, without control events. */
  delivered: number;
  deliveredBytes: number;
  gaps: Record<GapReason, number>;
}

/** Delivers events to cursors. A cursor that ends is removed by the `leave` of its group. */
export class Delivery {
  readonly #order: Order;
  readonly #history: History<Group>;
  readonly #maxPageBytes: number;
  readonly #closesOvertaken: boolean;
  readonly #log: DeliveryLog | undefined;
  /** Called at the beginning of each turn. */
  readonly #begin: () => void;
  readonly #now: () => number;
  /** For times that are only subtracted, which must not jump with the clock of the system. */
  readonly #elapsed: () => number;
  readonly #onDelivered: DeliveryOptions['onDelivered'];
  readonly #schedule: (turn: () => void) => void;

  #isScheduled = false;
  #isInTurn = false;
  /** A turn was asked for within this one. */
  #needsAnother = false;
  #rescue: NodeJS.Immediate | undefined;
  #turns = 0;
  /** When the last turn began. */
  #time = 0;
  /** Bytes that catching up has cost in this turn. */
  #spent = 0;
  /** Topics with events since the last turn, and when the first of these was published. */
  #news: Topic[] = [];
  #newsSince = 0;
  /** Cursors that may be behind the head and whose sinks accept more. */
  readonly #due = new Queue<Cursor>();
  readonly #backpressure: Backpressure<Topic, Cursor>;
  readonly #logPages = new LogPageCache<Group>();
  readonly #reads = new ReadsUnderWay<Group, Cursor>();
  /** Cursors that wait until the log can be reached. */
  readonly #waiting = new Set<Cursor>();
  /** Gaps that the channel has not got yet. */
  #gaps: CountedGap[] = [];

  readonly #stats: DeliveryStats;

  /** @throws {RangeError | TypeError} naming the option that cannot be used. */
  constructor(
    order: Order,
    history: History<Group>,
    stats: DeliveryStats,
    options: DeliveryOptions,
    { log, begin = () => {} }: { readonly log?: DeliveryLog | undefined; readonly begin?: () => void } = {},
  ) {
    const { maxPageBytes = PAGE_BYTES, overtaken = 'gap' } = options;
    if (overtaken !== 'gap' && overtaken !== 'close') {
      throw new TypeError(`\`overtaken\` must be "gap" or "close", got ${overtaken}`);
    }
    if (!(typeof maxPageBytes === 'number' && maxPageBytes >= 1)) {
      throw new RangeError(`\`maxPageBytes\` must be a number ≥ 1, got ${maxPageBytes}`);
    }
    this.#order = order;
    this.#stats = stats;
    this.#history = history;
    this.#maxPageBytes = maxPageBytes;
    this.#closesOvertaken = overtaken === 'close';
    this.#log = log;
    this.#begin = begin;
    this.#now = clockOf(options.now);
    this.#elapsed = options.now === undefined ? () => performance.now() : this.#now;
    this.#onDelivered = options.onDelivered;
    this.#schedule = options.schedule ?? setImmediate;
    const isFarBehind = (topic: Topic, seq: number): boolean =>
      history.isFarBehind(topic, Math.min(seq, order.settled));
    const find = (name: string): Topic | undefined => history.get(name);
    this.#backpressure = new Backpressure(find, isFarBehind, this.#elapsed, () => this.plan());
  }

  /**
   * Call it when a topic has a new event or has ended: its followers get that at the end of this turn.
   * @param since - When the event was published, where that is known.
   */
  announce(topic: Topic, since?: number): void {
    if (topic.hasNews) return;
    topic.hasNews = true;
    if (this.#news.length === 0 && this.#onDelivered !== undefined) this.#newsSince = since ?? this.#now();
    this.#news.push(topic);
    this.plan();
  }

  /** Calls for a turn. */
  plan(): void {
    if (this.#isInTurn) this.#needsAnother = true; // the end of a turn plans the next one
    if (this.#isScheduled || this.#isInTurn) return;
    this.#isScheduled = true;
    try {
      this.#schedule(this.#turn);
    } catch {
      // The next plan asks `schedule` again. Until then, one turn is certain.
      this.#isScheduled = false;
      this.#rescue ??= setImmediate(this.#turn);
    }
  }

  readonly #turn = (): void => {
    if (this.#isInTurn) return;
    this.#isScheduled = false;
    clearImmediate(this.#rescue);
    this.#rescue = undefined;
    this.#isInTurn = true;
    this.#turns++;
    this.#begin();
    this.#needsAnother = false;
    this.#time = this.#elapsed();
    const since = this.#newsSince;
    const withNews = this.#groupsWithNews();
    this.#deliverNews(withNews);
    const latency = Math.max(0, this.#now() - since);
    this.#catchUp();
    this.#history.expireNext(this.#now());
    this.#isInTurn = false;
    if (this.#needsAnother || this.#due.first !== undefined || this.#news.length > 0) this.plan();
    this.#backpressure.settle(this.#due);
    // Last, because they call functions of the application, and one may throw.
    this.#tellGaps();
    if (withNews.length > 0) this.#onDelivered?.({ latency });
  };

  #deliverNews(groups: readonly Group[]): void {
    const { head } = this.#order;
    for (const group of groups) {
      for (const cursor of group.ready) {
        const after = cursor.reached;
        const page = this.#pageOfTurn(cursor, after);
        if (page === undefined) {
          cursor.moveTo(after);
          this.#advance(cursor);
        } else {
          cursor.beginStep(this.#turns);
          this.#wrote(cursor, this.#deliver(cursor, page));
        }
      }
      group.forgetPage();
    }
    this.#order.settled = head;
  }

  /**
   * The page that another cursor of the group has got in this turn, where a ready one needs just this and nothing has
   * to be asked for it alone. Nearly all cursors of a fan-out need no more, and cost a third less that way.
   */
  #pageOfTurn(cursor: Cursor, after: number): Page | undefined {
    const page = cursor.group.turnPage;
    if (page === undefined || !isNext(page, after) || page.until !== this.#order.head) return undefined;
    // The boundary of an epoch, or a loss, lies behind the cursor.
    if (this.#order.endOf(after) !== Infinity || this.#history.newestDropped > after) return undefined;
    return cursor.isAsked || this.#hasLeft(cursor) ? undefined : page;
  }

  /** Resolves when no reader of the topic that keeps up is a quarter of the topic's history behind. */
  ready(topic: string, cursors: Iterable<Cursor>, signal?: AbortSignal): Promise<void> {
    // Nobody has noted until now which cursors are blocked.
    if (!this.#backpressure.isWatched) {
      for (const cursor of cursors) if (cursor.isBlocked) this.#backpressure.block(cursor);
    }
    return this.#backpressure.ready(topic, this.#due, signal);
  }

  /** Each once, also one that follows several topics. A Set for each turn would take twice the time. */
  #groupsWithNews(): Group[] {
    const groups: Group[] = [];
    for (const topic of this.#news) {
      topic.hasNews = false;
      for (const group of topic.followers) {
        if (group.newsTurn === this.#turns) continue;
        group.newsTurn = this.#turns;
        groups.push(group);
      }
    }
    this.#news = [];
    return groups;
  }

  /**
   * Advances cursors that are behind, first come, first served. Those that became due in this turn wait for
   * the next one.
   */
  #catchUp(): void {
    const groups = new Set<Group>();
    this.#spent = 0;
    for (let cursor = this.#due.first; cursor !== undefined; cursor = this.#due.first) {
      if (cursor.turn === this.#turns || this.#spent > CATCH_UP_BYTES) break;
      this.#due.remove();
      cursor.isDue = false;
      this.#spent += STEP_COST;
      groups.add(cursor.group);
      this.#advance(cursor);
    }
    for (const group of groups) group.forgetPage();
  }

  /** Call it when a sink accepts bytes and there may be something for its cursor. */
  makeDue(cursor: Cursor): void {
    if (cursor.isBlocked) this.#unblock(cursor);
    cursor.isReady = false;
    if (!cursor.isDue) this.#due.add(cursor);
    cursor.isDue = true;
    if (this.#backpressure.isWatched) this.#backpressure.behind(cursor);
    this.plan();
  }

  /** Call it when a sink emits 'drain'. */
  drain(cursor: Cursor): void {
    if (cursor.isBlocked) this.makeDue(cursor);
    else cursor.drainTurn = this.#turns;
  }

  /** Call it when a cursor has left. */
  forget(cursor: Cursor): void {
    cursor.isReady = false;
    this.#waiting.delete(cursor);
    this.#reads.leave(cursor.group, cursor);
    if (cursor.isBlocked) this.#unblock(cursor);
  }

  #block(cursor: Cursor): void {
    cursor.isBlocked = true;
    cursor.blockedAt = this.#time;
    if (this.#backpressure.isWatched) this.#backpressure.block(cursor);
  }

  #unblock(cursor: Cursor): void {
    cursor.isBlocked = false;
    this.#backpressure.unblock(cursor);
  }

  /** Takes one step of one cursor, or the rest of a step for which a page of the log had to be read. */
  #advance(cursor: Cursor, read?: LogPage, clears?: number): void {
    if (cursor.closed) return;
    if (!cursor.isAllowed) return void this.end(cursor);
    // Checked after `may`, a function of the application, which can end the sink or the subscription.
    if (this.#hasLeft(cursor)) return;
    cursor.beginStep(this.#turns);
    this.#wrote(cursor, read ? this.#take(cursor, read, clears) : this.#step(cursor));
  }

  /** Files a cursor by the outcome of its step. */
  #wrote(cursor: Cursor, outcome: Outcome): void {
    if (cursor.closed) return; // by this step, or by code that the write has called
    if (outcome === 'head') cursor.isReady = true;
    // A sink may emit 'drain' inside the write that it refuses.
    else if (outcome === 'behind' || (outcome === 'blocked' && cursor.drainTurn === this.#turns))
      this.makeDue(cursor);
    else {
      cursor.isReady = false;
      if (outcome === 'blocked') this.#block(cursor); // a drain or a page of the log makes it due
    }
  }

  /** Whether nothing more can be written for a cursor. Its sink may have closed without a 'close' so far. */
  #hasLeft(cursor: Cursor): boolean {
    try {
      if (!cursor.closed && isClosed(cursor.sink)) cursor.group.leave(cursor);
    } catch {
      this.#cut(cursor, 'error');
    }
    return cursor.closed;
  }

  #step(cursor: Cursor): Outcome {
    const { group, preamble } = cursor;
    if (preamble !== undefined) {
      cursor.preamble = undefined;
      const outcome = this.#write(cursor, preamble.text);
      return cursor.heldAt === undefined ? this.#orHead(cursor, outcome) : outcome;
    }
    if (cursor.heldAt !== undefined) return 'held';
    const end = this.#order.endOf(cursor.seq);
    if (cursor.seq >= end) return this.#cross(cursor);
    const lost = group.lost(cursor);
    if (lost !== undefined) return this.#pastMemory(cursor, lost, end);
    const page = group.page(cursor.seq, this.#maxPageBytes, end);
    if (page !== undefined) return this.#deliver(cursor, page);
    if (end !== Infinity) return this.#cross(cursor);
    return group.hasEnded ? this.#finish(cursor) : 'head';
  }

  /** Memory has lost events after the cursor, which a log may have. `end`: of the epoch that the cursor is in. */
  #pastMemory(cursor: Cursor, lost: readonly Lost[], end: number): Outcome {
    const log = this.#log;
    if (log !== undefined && (log.readsParents || end === Infinity)) return this.#read(cursor, log);
    return end === Infinity ? this.#reportLost(cursor, lost) : this.#cross(cursor);
  }

  /**
   * Tells a reader that the order went on in another epoch, and that what it has not received of the one before may
   * be lost.
   */
  #cross(cursor: Cursor): Outcome {
    const order = this.#order;
    const [from, seq] = [order.id(cursor.seq), order.baseAfter(cursor.seq)];
    cursor.moveTo(seq);
    const gap = { reason: 'store-changed', from, to: order.id(seq), topics: cursor.group.names } as const;
    return this.#writeControls(cursor, [gapEvent(gap.to, gap)], [gap]);
  }

  #deliver(cursor: Cursor, page: Page): Outcome {
    cursor.moveTo(page.until);
    if (page.count === 0) return this.#orHead(cursor, 'behind');
    cursor.isLive = true;
    this.#spent += page.cost;
    page.cost = page.bytes.length;
    this.#stats.delivered += page.count;
    this.#stats.deliveredBytes += page.bytes.length;
    return this.#orHead(cursor, this.#writePage(cursor, page));
  }

  /** A cursor that has all, and whose sink accepts more, needs no further step to be at the head. */
  #orHead({ seq, group }: Cursor, outcome: Outcome): Outcome {
    return outcome === 'behind' && seq === this.#order.head && !group.hasEnded ? 'head' : outcome;
  }

  /** An error of a sink ends its cursor and nothing else. */
  #writePage(cursor: Cursor, page: Page): Outcome {
    const { sink } = cursor;
    try {
      const accepted = sink.writeShared === undefined ? sink.write(page.bytes) : sink.writeShared(page);
      return accepted ? 'behind' : 'blocked';
    } catch {
      return this.#cut(cursor, 'error');
    }
  }

  #write(cursor: Cursor, text: string): Outcome {
    this.#spent += text.length;
    try {
      return cursor.sink.write(Buffer.from(text)) ? 'behind' : 'blocked';
    } catch {
      return this.#cut(cursor, 'error');
    }
  }

  #finish(cursor: Cursor): Outcome {
    this.#writeControls(cursor, [endEvent(this.#order.position, cursor.group.names)]);
    return this.end(cursor);
  }

  /** A `controls` that throws, or returns what cannot be sent, ends its own subscriber. Counts the gaps that are sent. */
  #writeControls(cursor: Cursor, events: readonly ControlEvent[], gaps: readonly CountedGap[] = []): Outcome {
    let text: string;
    try {
      text = encodeControls(events, cursor.controls);
    } catch {
      return this.#cut(cursor, 'error');
    }
    // The function may have ended the sink.
    if (this.#hasLeft(cursor)) return 'over';
    for (const gap of gaps) this.countGap(gap);
    return this.#write(cursor, text);
  }

  /** Ends a subscription and its sink. */
  end(cursor: Cursor): Outcome {
    if (cursor.closed) return 'over';
    cursor.group.leave(cursor);
    ignoreErrors(() => cursor.sink.end());
    return 'over';
  }

  /** Ends a subscription whose application fails. */
  fail(cursor: Cursor): void {
    this.#cut(cursor, 'error');
  }

  #cut(cursor: Cursor, reason: 'slow-consumer' | 'error'): Outcome {
    const { sink } = cursor;
    cursor.group.leave(cursor);
    ignoreErrors(() => (sink.abort === undefined ? sink.destroy?.() : sink.abort(reason)));
    return 'over';
  }

  // ── gaps and logs ───────────────────────────────────────────────────────────────────────────────────────

  /**
   * Writes a gap for each place at which a loss ends, so that no event is reported that is then delivered. Only
   * the last has the id at which delivery continues: a client that is cut off before it gets all of them again.
   */
  #reportLost(cursor: Cursor, lost: readonly Lost[]): Outcome {
    if (cursor.isLive && this.#closesOvertaken) return this.#cut(cursor, 'slow-consumer');
    const from = this.#order.id(cursor.seq);
    cursor.accept(lost);
    if (cursor.group.tellLost(lost)) this.forgetLogPages(cursor.group);
    const gaps = gapsOf(this.#order, from, lost);
    const id = this.#order.id(cursor.seq);
    const events = gaps.map((gap, i) => gapEvent(i === gaps.length - 1 ? id : from, gap));
    return this.#writeControls(cursor, events, gaps);
  }

  /** Counts a gap. The channel gets it at the end of a turn, because its listeners may end any cursor. */
  countGap(gap: CountedGap): void {
    this.#stats.gaps[gap.reason]++;
    if (!gapChannel.hasSubscribers) return;
    this.#gaps.push(gap);
    this.plan();
  }

  #tellGaps(): void {
    const gaps = this.#gaps;
    if (gaps.length === 0) return;
    this.#gaps = [];
    for (const { reason, topics } of gaps) gapChannel.publish({ reason, topics });
  }

  #read(cursor: Cursor, log: DeliveryLog): Outcome {
    const { group, seq } = cursor;
    const isShareable = this.#isShareable(cursor);
    const kept = isShareable ? this.#logPages.find(group, seq, this.#time) : undefined;
    if (kept !== undefined) return this.#deliver(cursor, kept);
    if (log.failure !== undefined) return this.#await(cursor);
    if (isShareable && this.#reads.join(group, seq, cursor)) return 'reading';
    this.#spent += LOG_READ_COST;
    try {
      const answer = log.read(group.names, seq, this.#maxPageBytes, { newestOnly: group.conflates });
      if (!('then' in answer)) return this.#take(cursor, checkPage(answer));
      const [{ epoch }, { clears }] = [this.#order, this.#logPages];
      const end = isShareable ? this.#reads.begin(group, seq) : (): Cursor[] => [];
      answer
        .then((page) => {
          this.#takeLate(cursor, page, epoch, clears);
          for (const other of end()) if (!other.closed) this.#takeShared(other, page, epoch, clears);
        })
        .catch((error: unknown) => {
          this.#readFailed(cursor, log, error);
          for (const other of end()) this.#giveUp(other, log);
        });
      return 'reading';
    } catch (error) {
      return this.#readFailed(cursor, log, error);
    }
  }

  #takeLate(cursor: Cursor, page: LogPage, epoch: number, clears: number): void {
    this.#time = this.#elapsed();
    // A page of an epoch that is over may have what is lost.
    if (this.#order.epoch === epoch) this.#advance(cursor, checkPage(page), clears);
    else this.#advance(cursor);
  }

  /** A page that another reader has asked for: from the cache, in its turn, where that has it. */
  #takeShared(cursor: Cursor, page: LogPage, epoch: number, clears: number): void {
    const { group, seq } = cursor;
    if (page.until > seq && this.#logPages.find(group, seq, this.#time) === undefined)
      this.#takeLate(cursor, page, epoch, clears);
    else this.makeDue(cursor);
  }

  /** If the log cannot be read now, the client keeps its id and returns after its `retry`. */
  #readFailed(cursor: Cursor, log: DeliveryLog, error: unknown): Outcome {
    if (!cursor.closed) log.failed(error);
    return this.#giveUp(cursor, log);
  }

  #giveUp(cursor: Cursor, log: DeliveryLog): Outcome {
    if (cursor.closed) return 'over';
    return log.failure === undefined ? this.end(cursor) : this.#await(cursor);
  }

  #await(cursor: Cursor): Outcome {
    this.#waiting.add(cursor);
    return 'reading';
  }

  /** Call it when the log can be reached again. */
  resume(): void {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const cursor of waiting) if (!cursor.closed) this.makeDue(cursor);
  }

  /**
   * Delivers a page of the log, which may have been requested turns ago, or writes a gap for events that
   * neither the log nor memory still holds. What only the log has dropped comes from memory.
   */
  #take(cursor: Cursor, page: LogPage, clears: number = this.#logPages.clears): Outcome {
    // `read`, a function of the application, can end the sink or the subscription.
    if (this.#hasLeft(cursor)) return 'over';
    const { group, seq: after } = cursor;
    const { lost, inMemory } = compareWithLog(cursor, page);
    if (lost.length > 0) return this.#reportLost(cursor, lost);
    // Memory has dropped what the log does not hold either, and the log does not say how much that is.
    const gone = page.until <= after ? group.lost(cursor) : undefined;
    if (gone !== undefined)
      return this.#reportLost(
        cursor,
        gone.map((one) => ({ ...one, reason: 'truncated' })),
      );
    const { page: joined, entries } = joinWithLog(cursor, page, inMemory, this.#maxPageBytes);
    const isFresh = clears === this.#logPages.clears && inMemory.length === 0;
    if (entries.length > 0 && isFresh && this.#isShareable(cursor))
      this.#logPages.keep(group, joined, entries, this.#time);
    return this.#deliver(cursor, joined);
  }

  /** Whether a cursor gets the same pages of the log as others of its group. */
  #isShareable(cursor: Cursor): boolean {
    return !cursor.group.conflates && !cursor.hasReportedLost;
  }

  /** Call it when events were deleted, or the order goes on in another epoch. Of one group where it lost some. */
  forgetLogPages(group?: Group): void {
    this.#logPages.clear(group);
    this.#reads.clear(group);
  }
}

/** On `node:diagnostics_channel`: `{ reason, topics }` for every gap. */
const gapChannel = channel('sluice.hub.gap');

/**
 * Most bytes per turn for cursors behind the head, so that many returning clients do not delay the others.
 */
const CATCH_UP_BYTES = 1024 * 1024;

/** To ask a file takes as much time as a write of this many bytes, also where it has nothing. */
const LOG_READ_COST = 1000;

/** A step that writes nothing takes as much time as a write of this many bytes. */
const STEP_COST = 64;

type CountedGap = Gap & { readonly reason: GapReason };

/** The state of a cursor after a step. */
type Outcome = 'head' | 'behind' | 'blocked' | 'reading' | 'held' | 'over';
