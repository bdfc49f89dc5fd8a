// The turns of a hub: at the end of each, every cursor at the head gets what is new, and some of the others a page.
// Needs `cursors.ts`, `encode.ts`, `history.ts`, `order.ts`, `pages.ts` and `protocol.ts` beside it.

import { channel } from 'node:diagnostics_channel';
import { type Cursor, type Group, isClosed, type Lost, type Topic } from './cursors.ts';
import { encode } from './encode.ts';
import type { History, LogEntry } from './history.ts';
import type { Order } from './order.ts';
import { joinPage, type Page } from './pages.ts';
import { endEvent, type Gap, type GapReason, gapEvent } from './protocol.ts';

/** What a log holds of some topics, from one moment. */
export interface LogPage {
  /** Oldest first, all topics merged by seq. */
  readonly entries: readonly LogEntry[];
  /** Up to here nothing of the topics is missing from `entries`, except what `dropped` states. */
  readonly until: number;
  /** For each topic of which something was dropped after the cursor: the newest seq that was. */
  readonly dropped: readonly { readonly topic: string; readonly seq: number }[];
}

/** Keeps what no longer fits into the hub's memory, or must outlive it. */
export interface Log {
  /** Never the same for two lives of which the second does not hold all of the first. */
  readonly epoch: number;
  /** The newest seq held when the hub opens it. */
  readonly head: number;
  /** Called in order, before anyone is sent the entry. If it throws, the publisher gets the error and nothing happened. */
  append(entry: LogEntry): void;
  /** About `maxBytes` of frames after a cursor, at least one entry where there is one. Answer at once if you can. */
  read(topics: readonly string[], after: number, maxBytes: number): LogPage | Promise<LogPage>;
}

export interface DeliveryOptions {
  /** Most bytes written to one subscriber in one turn of the event loop; default 64 KiB. One event may be larger. */
  maxPageBytes?: number | undefined;
  /** What a subscriber gets whose next event is no longer remembered: a gap event (default), or the end. */
  overtaken?: 'gap' | 'close' | undefined;
  /** Where events are kept beyond this process's memory. */
  log?: Log | undefined;
  /** Milliseconds; default `Date.now`. */
  now?: (() => number) | undefined;
  /** Called after each turn that delivered events. `latency`: milliseconds since the first of them was published. */
  onDelivered?: ((delivery: { readonly latency: number }) => void) | undefined;
  /** Calls a function at the end of the current turn; default `setImmediate`. */
  schedule?: ((turn: () => void) => void) | undefined;
}

/** The counts that a delivery keeps for its hub. */
export interface DeliveryStats {
  /** Events and bytes handed to sinks, without control events. */
  delivered: number;
  deliveredBytes: number;
  gaps: Record<GapReason, number>;
}

/** Brings events to cursors. It knows no subscriptions: a cursor that ends leaves through its group. */
export class Delivery {
  readonly #order: Order;
  readonly #history: History<Group>;
  readonly #maxPageBytes: number;
  readonly #closesOvertaken: boolean;
  readonly #log: Log | undefined;
  readonly #now: () => number;
  readonly #onDelivered: DeliveryOptions['onDelivered'];
  readonly #schedule: (turn: () => void) => void;

  #isScheduled = false;
  #turns = 0;
  /** Bytes that catching up has cost in this turn. */
  #spent = 0;
  /** Topics with events since the last turn, and when the first of these was published. */
  #news: Topic[] = [];
  #newsSince = 0;
  /** Cursors behind the head whose sinks accept more. */
  readonly #due = new Queue<Cursor>();

  readonly #stats: DeliveryStats;

  /** @throws {RangeError | TypeError} naming the option that cannot be used. */
  constructor(order: Order, history: History<Group>, stats: DeliveryStats, options: DeliveryOptions) {
    const { maxPageBytes = 64 * 1024, overtaken = 'gap' } = options;
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
    this.#log = options.log;
    this.#now = options.now ?? Date.now;
    this.#onDelivered = options.onDelivered;
    this.#schedule = options.schedule ?? setImmediate;
  }

  /** A topic has an event, or has ended: its followers get it at the end of this turn. */
  announce(topic: Topic): void {
    if (topic.hasNews) return;
    topic.hasNews = true;
    if (this.#news.length === 0 && this.#onDelivered !== undefined) this.#newsSince = this.#now();
    this.#news.push(topic);
    this.#plan();
  }

  #plan(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    this.#schedule(this.#turn);
  }

  readonly #turn = (): void => {
    this.#isScheduled = false;
    this.#turns++;
    const { head } = this.#order;
    const withNews = this.#groupsWithNews();
    for (const group of withNews) {
      for (const cursor of group.ready) {
        cursor.moveTo(cursor.reached);
        this.#advance(cursor);
      }
      group.forgetPage();
    }
    this.#order.settled = head;
    const latency = this.#now() - this.#newsSince;
    this.#catchUp();
    if (this.#due.first !== undefined) this.#plan();
    this.#history.expireNext(this.#now());
    // Last, because it may throw.
    if (withNews.size > 0) this.#onDelivered?.({ latency });
  };

  #groupsWithNews(): Set<Group> {
    const groups = new Set<Group>();
    for (const topic of this.#news) {
      topic.hasNews = false;
      for (const group of topic.followers) groups.add(group);
    }
    this.#news = [];
    return groups;
  }

  /** Cursors that this turn made due wait for the next one, behind all that waited for this one. */
  #catchUp(): void {
    const groups = new Set<Group>();
    this.#spent = 0;
    for (let cursor = this.#due.first; cursor !== undefined; cursor = this.#due.first) {
      if (cursor.turn === this.#turns || this.#spent > CATCH_UP_BYTES) break;
      this.#due.remove();
      cursor.isDue = false;
      groups.add(cursor.group);
      this.#advance(cursor);
    }
    for (const group of groups) group.forgetPage();
  }

  /** A cursor may have something to get, and its sink accepts it. */
  makeDue(cursor: Cursor): void {
    cursor.isBlocked = false;
    cursor.isReady = false;
    if (!cursor.isDue) this.#due.add(cursor);
    cursor.isDue = true;
    this.#plan();
  }

  /** One step of one cursor, or the rest of a step for which a page had to be read. */
  #advance(cursor: Cursor, read?: LogPage): void {
    if (cursor.closed) return;
    if (!cursor.isAllowed) return void this.end(cursor);
    // Asked after `may`, which is the application's and can end the sink or the subscription.
    if (cursor.closed || isClosed(cursor.sink)) return cursor.group.leave(cursor);
    cursor.turn = this.#turns;
    const outcome = read ? this.#take(cursor, read) : this.#step(cursor);
    if (cursor.closed) return; // by this step, or by what the sink did in it
    cursor.isBlocked = outcome === 'blocked';
    if (outcome === 'behind') this.makeDue(cursor);
    else cursor.isReady = outcome === 'head'; // a drain or a page makes the others due
  }

  #step(cursor: Cursor): Outcome {
    const { group, preamble } = cursor;
    if (preamble !== undefined) {
      cursor.preamble = undefined;
      return this.#write(cursor, preamble.text);
    }
    const lost = group.lost(cursor);
    if (lost !== undefined) return this.#log ? this.#read(cursor, this.#log) : this.#sayLost(cursor, lost);
    const page = group.page(cursor.seq, this.#maxPageBytes);
    if (page === undefined) return group.hasEnded ? this.#finish(cursor) : 'head';
    return this.#deliver(cursor, page);
  }

  #deliver(cursor: Cursor, page: Page): Outcome {
    cursor.moveTo(page.until);
    if (page.count === 0) return 'behind';
    cursor.isLive = true;
    this.#spent += page.cost;
    page.cost = page.bytes.length;
    this.#stats.delivered += page.count;
    this.#stats.deliveredBytes += page.bytes.length;
    const outcome = this.#writePage(cursor, page);
    const hasAll = outcome === 'behind' && page.until === this.#order.head && !cursor.group.hasEnded;
    return hasAll ? 'head' : outcome;
  }

  /** What fails in a sink ends its cursor and nothing else. */
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
    try {
      return cursor.sink.write(Buffer.from(text)) ? 'behind' : 'blocked';
    } catch {
      return this.#cut(cursor, 'error');
    }
  }

  #finish(cursor: Cursor): Outcome {
    this.#write(cursor, encode(endEvent(this.#order.position, cursor.group.names)));
    return this.end(cursor);
  }

  /** Ends a subscription and its sink. */
  end(cursor: Cursor): Outcome {
    if (cursor.closed) return 'over';
    cursor.group.leave(cursor);
    ignoreErrors(() => cursor.sink.end());
    return 'over';
  }

  #cut(cursor: Cursor, reason: 'slow-consumer' | 'error'): Outcome {
    const { sink } = cursor;
    cursor.group.leave(cursor);
    ignoreErrors(() => (sink.abort === undefined ? sink.destroy?.() : sink.abort(reason)));
    return 'over';
  }

  // ── what memory does not hold ─────────────────────────────────────────────────────────────────────────────

  /**
   * Writes a gap. Of one topic: delivery continues behind it. Of several: delivery continues where it was, because the
   * other topics still have events from before the end of the gap.
   */
  #sayLost(cursor: Cursor, lost: readonly Lost[], reason: GapReason = 'evicted'): Outcome {
    if (cursor.isLive && this.#closesOvertaken) return this.#cut(cursor, 'slow-consumer');
    const from = this.#order.id(cursor.seq);
    const to = Math.max(...lost.map(({ seq }) => seq));
    cursor.accept(lost);
    const topics = lost.map(({ topic }) => topic.name);
    const gap = { reason, from, to: this.#order.id(to), topics };
    const outcome = this.#write(cursor, encode(gapEvent(this.#order.id(cursor.seq), gap)));
    this.countGap(gap);
    return outcome;
  }

  /** Counts a gap. Call it last: a listener of the channel may end the cursor. */
  countGap({ reason, topics }: Gap & { readonly reason: GapReason }): void {
    this.#stats.gaps[reason]++;
    if (gapChannel.hasSubscribers) gapChannel.publish({ reason, topics });
  }

  #read(cursor: Cursor, log: Log): Outcome {
    try {
      const answer = log.read(cursor.group.names, cursor.seq, this.#maxPageBytes);
      if (!('then' in answer)) return this.#take(cursor, answer);
      // If the log cannot be read now, the client keeps its id and returns after its `retry`.
      answer.then((page) => this.#advance(cursor, page)).catch(() => this.end(cursor));
      return 'reading';
    } catch {
      return this.end(cursor);
    }
  }

  /** Delivers a page that was read, perhaps turns ago, or writes a gap for what neither log nor memory still holds. */
  #take(cursor: Cursor, page: LogPage): Outcome {
    const { group, seq: after } = cursor;
    const lost = group.lost(cursor, page.dropped);
    if (lost !== undefined) return this.#sayLost(cursor, lost);
    // Memory has dropped what the log does not hold either: the log was shortened from outside.
    const gone = page.until <= after ? group.lost(cursor) : undefined;
    if (gone !== undefined) return this.#sayLost(cursor, gone, 'truncated');
    return this.#deliver(
      cursor,
      joinPage(group.select(page.entries), { after, first: after, until: page.until }, false),
    );
  }
}

/** On `node:diagnostics_channel`: `{ reason, topics }` for every gap. */
const gapChannel = channel('sluice.hub.gap');

/** Most bytes a turn for cursors behind the head, so that a crowd of returning clients does not delay the rest. */
const CATCH_UP_BYTES = 1024 * 1024;

/** What a step of a cursor led to. */
type Outcome = 'head' | 'behind' | 'blocked' | 'reading' | 'over';

/** For what a sink throws: it ends that sink and nothing else. */
export function ignoreErrors(act: () => unknown): void {
  try {
    act();
  } catch {}
}

/** First come, first served. An array's own `shift` moves all that wait, which is slow once they are many. */
class Queue<T> {
  #items: (T | undefined)[] = [];
  #at = 0;

  get first(): T | undefined {
    return this.#items[this.#at];
  }

  add(item: T): void {
    this.#items.push(item);
  }

  remove(): void {
    this.#items[this.#at++] = undefined;
    if (this.#at * 2 < this.#items.length) return;
    this.#items = this.#items.slice(this.#at);
    this.#at = 0;
  }
}
