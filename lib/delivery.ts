// Delivers events in turns: each gives every cursor at the head the new events, and some others a page.
// Needs `cursors.ts`, `encode.ts`, `history.ts`, `order.ts`, `pages.ts` and `protocol.ts` beside it.

import { channel } from 'node:diagnostics_channel';
import { type Cursor, type Group, isClosed, type Lost, type Topic } from './cursors.ts';
import { encode } from './encode.ts';
import type { History, LogEntry } from './history.ts';
import type { Order } from './order.ts';
import { joinPage, type Page } from './pages.ts';
import { type ControlEvent, endEvent, type Gap, type GapReason, gapEvent, sentControl } from './protocol.ts';

/** The events of some topics that a log holds at one moment. */
export interface LogPage {
  /** Oldest first, all topics merged by seq. */
  readonly entries: readonly LogEntry[];
  /**
   * Up to this seq, `entries` has all events of the topics after the cursor, except those that `dropped`
   * states.
   */
  readonly until: number;
  /** For each topic that has dropped events after the cursor: the newest seq that was dropped. */
  readonly dropped: readonly { readonly topic: string; readonly seq: number }[];
}

/** Keeps events that no longer fit into the hub's memory, or that must outlive it. */
export interface Log {
  /**
   * Names one life of the log. It must change when the log no longer holds everything that it held before.
   */
  readonly epoch: number;
  /** The newest seq held when the hub opens it. */
  readonly head: number;
  /**
   * Called for each entry in order, before it is delivered. If it throws, `publish` throws the error and the
   * event is not published.
   */
  append(entry: LogEntry): void;
  /**
   * Returns about `maxBytes` of frames after a cursor, but at least one entry where there is one. A page that
   * is returned without a promise is delivered in the same turn.
   */
  read(topics: readonly string[], after: number, maxBytes: number): LogPage | Promise<LogPage>;
}

export interface DeliveryOptions {
  /**
   * Most bytes written to one subscriber in one turn of the event loop; default 64 KiB. One event may be
   * larger.
   */
  maxPageBytes?: number | undefined;
  /**
   * The treatment of a subscriber whose next event is no longer remembered: `gap` (default) sends a gap
   * event, `close` closes its stream.
   */
  overtaken?: 'gap' | 'close' | undefined;
  /** Where events are kept beyond this process's memory. */
  log?: Log | undefined;
  /** Milliseconds; default `Date.now`. */
  now?: (() => number) | undefined;
  /**
   * Called after each turn that delivered events. `latency`: milliseconds since the first of them was
   * published.
   */
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

/** Delivers events to cursors. A cursor that ends is removed by the `leave` of its group. */
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
  /** Cursors that may be behind the head and whose sinks accept more. */
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

  /** Call it when a topic has a new event or has ended: its followers get that at the end of this turn. */
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
      groups.add(cursor.group);
      this.#advance(cursor);
    }
    for (const group of groups) group.forgetPage();
  }

  /** Call it when a sink accepts bytes and there may be something for its cursor. */
  makeDue(cursor: Cursor): void {
    cursor.isBlocked = false;
    cursor.isReady = false;
    if (!cursor.isDue) this.#due.add(cursor);
    cursor.isDue = true;
    this.#plan();
  }

  /** Takes one step of one cursor, or the rest of a step for which a page of the log had to be read. */
  #advance(cursor: Cursor, read?: LogPage): void {
    if (cursor.closed) return;
    if (!cursor.isAllowed) return void this.end(cursor);
    // Checked after `may`, a function of the application, which can end the sink or the subscription.
    if (cursor.closed || isClosed(cursor.sink)) return cursor.group.leave(cursor);
    cursor.turn = this.#turns;
    const outcome = read ? this.#take(cursor, read) : this.#step(cursor);
    if (cursor.closed) return; // by this step, or by code that the write has called
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
    if (lost !== undefined) return this.#log ? this.#read(cursor, this.#log) : this.#reportLost(cursor, lost);
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
    try {
      return cursor.sink.write(Buffer.from(text)) ? 'behind' : 'blocked';
    } catch {
      return this.#cut(cursor, 'error');
    }
  }

  #finish(cursor: Cursor): Outcome {
    this.#writeControl(cursor, endEvent(this.#order.position, cursor.group.names));
    return this.end(cursor);
  }

  /** A `controls` that throws, or returns what cannot be sent, ends its own subscriber. */
  #writeControl(cursor: Cursor, event: ControlEvent): Outcome {
    let text: string;
    try {
      text = encode(sentControl(event, cursor.controls));
    } catch {
      return this.#cut(cursor, 'error');
    }
    return this.#write(cursor, text);
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

  // ── gaps and logs ───────────────────────────────────────────────────────────────────────────────────────

  /**
   * Writes a gap. Delivery continues after it, or earlier where other topics of the group still have events
   * from before its end.
   */
  #reportLost(cursor: Cursor, lost: readonly Lost[], reason: GapReason = 'evicted'): Outcome {
    if (cursor.isLive && this.#closesOvertaken) return this.#cut(cursor, 'slow-consumer');
    const from = this.#order.id(cursor.seq);
    const to = Math.max(...lost.map(({ seq }) => seq));
    cursor.accept(lost);
    const topics = lost.map(({ topic }) => topic.name);
    const gap = { reason, from, to: this.#order.id(to), topics };
    const outcome = this.#writeControl(cursor, gapEvent(this.#order.id(cursor.seq), gap));
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

  /**
   * Delivers a page of the log, which may have been requested turns ago, or writes a gap for events that
   * neither the log nor memory still holds.
   */
  #take(cursor: Cursor, page: LogPage): Outcome {
    const { group, seq: after } = cursor;
    const lost = group.lost(cursor, page.dropped);
    if (lost !== undefined) return this.#reportLost(cursor, lost);
    // Memory has dropped what the log does not hold either: the log was shortened from outside.
    const gone = page.until <= after ? group.lost(cursor) : undefined;
    if (gone !== undefined) return this.#reportLost(cursor, gone, 'truncated');
    return this.#deliver(
      cursor,
      joinPage(group.select(page.entries), { after, first: after, until: page.until }, false),
    );
  }
}

/** On `node:diagnostics_channel`: `{ reason, topics }` for every gap. */
const gapChannel = channel('sluice.hub.gap');

/**
 * Most bytes per turn for cursors behind the head, so that many returning clients do not delay the others.
 */
const CATCH_UP_BYTES = 1024 * 1024;

/** The state of a cursor after a step. */
type Outcome = 'head' | 'behind' | 'blocked' | 'reading' | 'over';

/** Ignores errors of a sink that is given up: they must not reach other subscribers. */
export function ignoreErrors(act: () => unknown): void {
  try {
    act();
  } catch {}
}

/** First come, first served. `Array.shift` would move all items that wait, which is slow for many. */
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
