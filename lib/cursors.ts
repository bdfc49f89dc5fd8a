// The subscribers of a hub: a cursor for each, and groups of cursors with the same topics and options.
// Needs `history.ts`, `log.ts`, `order.ts`, `pages.ts` and `protocol.ts` beside it.

import type { History, Topic as HistoryTopic } from './history.ts';
import type { LogPage } from './log.ts';
import type { Order } from './order.ts';
import {
  conflate,
  cut,
  isNext,
  joinEntries,
  nameTopic,
  type Page,
  type PageCache,
  type PageEntry,
  readEntries,
  readPage,
} from './pages.ts';
import type { Controls, Gap, GapReason } from './protocol.ts';

/** Bytes that many sinks get. */
export interface SharedChunk {
  readonly bytes: Uint8Array;
  /** Forms of the bytes that sinks have made, such as an HTTP chunk, so that each is made only once. */
  made: object | undefined;
}

/**
 * A receiver of bytes: the members of Node's `Writable` that are used. A stream of `openStream`, a bare
 * `ServerResponse`, a socket and a `PassThrough` fit as they are.
 */
export interface Sink {
  readonly closed?: boolean | undefined;
  readonly destroyed?: boolean | undefined;
  readonly writableEnded?: boolean | undefined;
  write(chunk: Uint8Array): boolean;
  /** Preferred over `write` for bytes that other sinks get as well. */
  writeShared?(chunk: SharedChunk): boolean;
  /** Preferred over `end` where nothing was written and nothing is left to deliver. */
  refuse?(status: 204): unknown;
  end(): unknown;
  destroy?(): unknown;
  /** Preferred over `destroy`: it takes the reason. */
  abort?(reason: 'slow-consumer' | 'error'): unknown;
  on(event: 'drain' | 'close' | 'error', listener: () => void): unknown;
  off(event: 'drain' | 'close' | 'error', listener: () => void): unknown;
}

export interface Subscription {
  readonly topics: readonly string[];
  /** The id up to which everything has been written. */
  readonly position: string;
  /** How many events of the hub, of all topics, came after that. */
  readonly lag: number;
  readonly closed: boolean;
  /** Ends the subscription and leaves the sink as it is. */
  close(): void;
}

/** A topic, and the groups that follow it. */
export type Topic = HistoryTopic<Group>;

/** Events of a topic that are gone. */
export interface Lost {
  readonly topic: Topic;
  /** The newest seq that is gone. */
  readonly seq: number;
  /** Default `evicted`. */
  readonly reason?: 'evicted' | 'truncated' | undefined;
}

/** The options of a subscription that its cursor keeps. */
interface CursorOptions {
  readonly may?: ((topic: string) => boolean) | undefined;
  readonly controls?: Controls | undefined;
}

/** The first bytes of a subscription. They are written in its first turn. */
export interface Preamble {
  readonly text: string;
  /** The position of the subscription until then. */
  readonly id: string;
}

/**
 * Making a page takes as much time for each event that it looks at, and for each topic of its group, as a write
 * of this many bytes (bench/hub); and for each run of events that it copies, twice as much.
 */
const LOOK_COST = 40;

/** What the subscribers of a group have in common beside their topics. */
export interface GroupOptions {
  readonly conflates: boolean;
  readonly namesTopics: boolean;
}

/** What all groups of a hub have in common. */
export interface Shared {
  readonly order: Order;
  readonly history: History<Group>;
  readonly pages: PageCache<Group>;
  /** Called when the sink of a cursor has drained. */
  readonly drain: (cursor: Cursor) => void;
  /** Removes a cursor from the hub. */
  readonly leave: (cursor: Cursor) => void;
}

/** The subscribers with the same topics and options: at the same seq they need the same page. */
export class Group {
  readonly key: string;
  readonly names: readonly string[];
  readonly topics: Topic[] = [];
  /** The cursors that wait at the head; `size` counts the others as well. */
  readonly ready: Set<Cursor> = new Set();
  readonly order: Order;
  readonly drain: (cursor: Cursor) => void;
  readonly leave: (cursor: Cursor) => void;
  readonly conflates: boolean;
  /** Whether a comment names the topic of each event. */
  readonly namesTopics: boolean;
  readonly #history: History<Group>;
  readonly #pages: PageCache<Group>;
  size = 0;
  /** The last turn in which one of its topics had news. */
  newsTurn = 0;
  /** By topic, the newest seq that a reader was told is lost. */
  #toldLost: Map<string, number> | undefined;
  #page: Page | undefined;
  /** When the head was there, the topics had nothing after this seq. */
  #emptyAt = -1;
  #emptyAfter = 0;

  constructor(
    key: string,
    names: readonly string[],
    { conflates, namesTopics }: GroupOptions,
    { order, history, pages, drain, leave }: Shared,
  ) {
    this.key = key;
    this.names = names;
    this.conflates = conflates;
    this.namesTopics = namesTopics;
    this.order = order;
    this.drain = drain;
    this.leave = leave;
    this.#history = history;
    this.#pages = pages;
  }

  add(topic: Topic): void {
    this.topics.push(topic);
    topic.addFollower(this);
  }

  /**
   * Takes note of what a reader is told is lost.
   * @returns whether a page that was read before may now contradict it, should the reader come back. Not for one topic:
   * there the reader continues behind the loss.
   */
  tellLost(lost: readonly Lost[]): boolean {
    if (this.topics.length === 1) return false;
    this.#toldLost ??= new Map();
    const told = this.#toldLost;
    const news = lost.filter(({ topic, seq }) => seq > (told.get(topic.name) ?? 0));
    for (const { topic, seq } of news) told.set(topic.name, seq);
    return news.length > 0;
  }

  get hasEnded(): boolean {
    // Asked for each cursor: a loop takes half the time of `every`.
    for (const topic of this.topics) if (!topic.ended) return false;
    return true;
  }

  /** The page that the last cursor got in this turn. */
  get turnPage(): Page | undefined {
    return this.#page;
  }

  /** The topics of which memory has lost events after the cursor, except what its client was told before. */
  lost(cursor: Cursor): Lost[] | undefined {
    // Nearly always: nothing that the cursor has not passed was dropped of any topic.
    if (this.#history.newestDropped <= cursor.seq) return undefined;
    const lost: Lost[] = [];
    for (const topic of this.topics) {
      const seq = topic.ring.dropped;
      if (seq > cursor.seq && seq > cursor.reportedLost(topic)) lost.push({ topic, seq });
    }
    return lost.length > 0 ? lost : undefined;
  }

  /** The page that comes next for a cursor, of seqs up to `end`; `undefined` when it has everything. */
  page(after: number, maxBytes: number, end: number): Page | undefined {
    if (this.#page !== undefined && isNext(this.#page, after) && this.#page.until <= end) return this.#page;
    // A page that was made before a drop may hold events that were reported to clients as lost.
    const kept = this.#holdsAllAfter(after) ? this.#pages.find(this, after) : undefined;
    // And one that was made before its epoch ended, what was not kept of that.
    if (kept !== undefined && kept.until <= end) return kept;
    // Many that are new ask in one turn, and nearly all have everything.
    const { head } = this.order;
    if (head === this.#emptyAt && after >= this.#emptyAfter) return undefined;
    const joined = readPage(this.topics, after, maxBytes, this.conflates, end, this.namesTopics);
    if (joined === undefined) {
      if (end === Infinity) [this.#emptyAt, this.#emptyAfter] = [head, after];
      return undefined;
    }
    const { first, last, count, bytes, runs, looks } = joined;
    const isLast = this.topics.every(({ ring }) => ring.last <= last);
    const until = isLast ? Math.min(head, end) : last;
    const cost = bytes.length + (looks + 2 * runs + this.topics.length) * LOOK_COST;
    this.#page = { after, first, until, count, bytes, made: undefined, cost };
    // The last page and a conflated one are not kept: the next publish would make them stale.
    if (!isLast && !this.conflates) this.#pages.keep(this, this.#page);
    return this.#page;
  }

  #holdsAllAfter(after: number): boolean {
    return this.#history.newestDropped <= after || this.topics.every(({ ring }) => ring.dropped <= after);
  }

  /**
   * Forgets the page of this turn: kept for longer, one page of each group would be memory without a bound.
   */
  forgetPage(): void {
    this.#page = undefined;
  }
}

/** The groups of a hub that have subscribers. */
export class Groups {
  readonly #groups = new Map<string, Group>();
  readonly #shared: Shared;

  constructor(shared: Shared) {
    this.#shared = shared;
  }

  /** The group for some topics, made where there is none. Throws what `history.follow` throws. */
  of(names: readonly string[], options: GroupOptions): Group {
    const key = JSON.stringify([options.conflates, options.namesTopics, names]);
    const known = this.#groups.get(key);
    if (known !== undefined) return known;
    const group = new Group(key, names, options, this.#shared);
    this.#groups.set(key, group);
    try {
      for (const name of names) group.add(this.#shared.history.follow(name));
    } catch (error) {
      this.disband(group);
      throw error;
    }
    return group;
  }

  /** Call it when the last subscriber of a group has left. */
  disband(group: Group): void {
    this.#groups.delete(group.key);
    this.#shared.pages.delete(group);
    for (const topic of group.topics) {
      topic.removeFollower(group);
      this.#shared.history.release(topic);
    }
  }
}

/** One subscriber: a sink, and the seq up to which it has all events. */
export class Cursor implements Subscription {
  readonly group: Group;
  readonly sink: Sink;
  /** All events of the group's topics up to here were written, or reported to the client as lost. */
  seq: number;
  /** The first bytes; `undefined` once they are written. */
  preamble: Preamble | undefined;
  closed = false;
  /** The sink refused the last write; its 'drain' has not come. */
  isBlocked = false;
  /** When the sink refused the last write, in the hub's time. */
  blockedAt = 0;
  /** The turn in which the sink last emitted 'drain' while it was not blocked. */
  drainTurn = -1;
  /** It is in the queue of cursors that are behind. */
  isDue = false;
  /** The number of the last turn in which it was written to. Each turn writes to it at most once. */
  turn = 0;
  /** An event was delivered on this connection. */
  isLive = false;
  /**
   * Where delivery begins is not known yet: the position of its client until then. It gets nothing but the
   * preamble.
   */
  heldAt: string | undefined;
  /** How control events are sent to it. */
  readonly controls: Controls | undefined;
  // Bound: a closure and its context would take twice the memory.
  readonly onDrain: () => void = this.#drain.bind(this);
  readonly onClose: () => void = this.#leave.bind(this);
  #isReady = false;
  /** Losses after `seq` that were reported already, while other topics still have events before them. */
  #reportedLost: Map<Topic, number> | undefined;
  readonly #may: ((topic: string) => boolean) | undefined;

  constructor(
    group: Group,
    sink: Sink,
    seq: number,
    preamble: Preamble | undefined,
    { may, controls }: CursorOptions,
  ) {
    this.controls = controls;
    this.group = group;
    this.sink = sink;
    this.seq = seq;
    this.preamble = preamble;
    this.#may = may;
  }

  #drain(): void {
    this.group.drain(this);
  }

  #leave(): void {
    this.group.leave(this);
  }

  /** Whether the application is asked before each page. */
  get isAsked(): boolean {
    return this.#may !== undefined;
  }

  /** Only `true` allows. A `may` that throws denies. */
  get isAllowed(): boolean {
    if (this.#may === undefined) return true;
    try {
      return this.group.names.every((name) => isTrue(this.#may?.(name)));
    } catch {
      return false;
    }
  }

  get topics(): readonly string[] {
    return this.group.names;
  }

  get position(): string {
    return this.preamble?.id ?? this.heldAt ?? this.group.order.id(this.reached);
  }

  get lag(): number {
    return this.group.order.head - this.reached;
  }

  /** It has all events and waits for the next one: it is not behind, blocked or reading a log. */
  get isReady(): boolean {
    return this.#isReady;
  }

  set isReady(is: boolean) {
    // Compares the field first, which saves a look-up in the group's set: that is large and rarely in a CPU
    // cache.
    if (is === this.#isReady) return;
    this.#isReady = is;
    if (is) this.group.ready.add(this);
    else this.group.ready.delete(this);
  }

  /** A ready cursor follows `order.settled`, so events of other topics cost it nothing. */
  get reached(): number {
    return this.#isReady ? Math.max(this.group.order.settled, this.seq) : this.seq;
  }

  close(): void {
    // A sink that has ended keeps the listener: its 'error' may follow.
    ignoreErrors(() => {
      if (!this.closed && !isClosed(this.sink)) this.sink.off('error', ignore);
    });
    this.#leave();
  }

  /** The newest seq of a topic that was reported to the client as lost. */
  reportedLost(topic: Topic): number {
    return this.#reportedLost?.get(topic) ?? 0;
  }

  /** Whether losses were reported of some topics, while others still have events before them. */
  get hasReportedLost(): boolean {
    return this.#reportedLost !== undefined;
  }

  beginStep(turn: number): void {
    this.turn = turn;
    this.drainTurn = -1;
  }

  moveTo(seq: number): void {
    this.seq = seq;
    if (this.#reportedLost === undefined) return;
    for (const [topic, lost] of this.#reportedLost) if (lost <= seq) this.#reportedLost.delete(topic);
    if (this.#reportedLost.size === 0) this.#reportedLost = undefined;
  }

  /** Marks losses as reported, and moves to the first seq after which there may be something to deliver. */
  accept(lost: readonly Lost[]): void {
    const known = new Map(this.#reportedLost);
    for (const { topic, seq } of lost) known.set(topic, seq);
    this.#reportedLost = known;
    this.moveTo(Math.min(...this.group.topics.map((topic) => Math.max(this.seq, known.get(topic) ?? 0))));
  }
}

/** Which topics have lost events after the cursor, and of which only the log has lost some. */
export function compareWithLog(
  cursor: Cursor,
  page: LogPage,
): { readonly lost: readonly Lost[]; readonly inMemory: readonly Topic[] } {
  const { truncated = 0 } = page;
  const dropped = new Map(page.dropped.map(({ topic, seq }) => [topic, seq]));
  const lost: Lost[] = [];
  const inMemory: Topic[] = [];
  for (const topic of cursor.group.topics) {
    const known = Math.max(cursor.seq, cursor.reportedLost(topic));
    const evicted = dropped.get(topic.name) ?? 0;
    const inLog = Math.max(evicted, truncated);
    const seq = Math.min(topic.ring.dropped, inLog);
    if (seq > known) lost.push({ topic, seq, reason: truncated > evicted ? 'truncated' : 'evicted' });
    else if (inLog > known) inMemory.push(topic);
  }
  return { lost, inMemory };
}

/**
 * The next page of a cursor: the events of a page of the log, and of memory for topics of which only the log has lost
 * some.
 */
export function joinWithLog(
  cursor: Cursor,
  read: LogPage,
  inMemory: readonly Topic[],
  maxBytes: number,
): { readonly page: Page; readonly entries: readonly PageEntry[] } {
  const { group, seq: after } = cursor;
  const { order } = group;
  const remembered = readEntries(inMemory, after, maxBytes, group.conflates);
  // Up to here each topic was delivered or reported as lost; what is in memory is not taken from the log.
  const known = new Map(
    group.topics.map((topic) => [topic.name, Math.max(after, cursor.reportedLost(topic))]),
  );
  for (const { name } of inMemory) known.set(name, Infinity);
  // Beyond the head, a reader would miss what is published next; beyond an epoch, its boundary.
  let until = Math.max(after, Math.min(read.until, order.head, order.endOf(after)));
  const last = remembered.at(-1)?.seq ?? after;
  if (inMemory.some(({ ring }) => ring.size > 0 && ring.last > last)) until = Math.min(until, last);
  let entries: PageEntry[] = [];
  for (const { topic, seq, frame, key } of read.entries) {
    if (seq > until || !(seq > (known.get(topic) ?? Infinity))) continue;
    entries.push({ topic, seq, frame, key, id: order.id(seq) });
  }
  // Those of memory are the newest of their keys, and of other topics.
  if (group.conflates) entries = conflate(entries);
  if (remembered.length > 0) {
    const held = remembered.filter(({ seq }) => seq <= until);
    entries = entries.concat(held).sort((a, b) => a.seq - b.seq);
  }
  if (group.namesTopics) entries = entries.map(nameTopic);
  const chosen = cut(entries, maxBytes);
  if (chosen.length < entries.length) until = chosen.at(-1)!.seq;
  const [count, bytes] = [chosen.length, joinEntries(chosen)];
  const cost = bytes.length + count * LOG_LOOK_COST;
  const page = { after, first: chosen[0]?.seq ?? until, until, count, bytes, made: undefined, cost };
  return { page, entries: chosen };
}

/** To read an event from a file takes as much time as a write of this many bytes (bench/sqlite). */
const LOG_LOOK_COST = 400;

/** A gap for each place at which a loss ends, in order. */
export function gapsOf(
  order: Order,
  from: string,
  lost: readonly Lost[],
): (Gap & { readonly reason: GapReason })[] {
  const ends = new Map<string, { reason: GapReason; seq: number; topics: string[] }>();
  for (const { topic, seq, reason = 'evicted' } of lost) {
    const end = ends.get(`${seq} ${reason}`);
    if (end === undefined) ends.set(`${seq} ${reason}`, { reason, seq, topics: [topic.name] });
    else end.topics.push(topic.name);
  }
  return [...ends.values()]
    .sort((a, b) => a.seq - b.seq)
    .map(({ reason, seq, topics }) => ({ reason, from, to: order.id(seq), topics }));
}

/** Without a place up to which a page reaches, its reader would ask for it again and again. */
export function checkPage(page: LogPage): LogPage {
  if (page?.until >= 0) return page;
  throw new TypeError(`\`read\` of a log must return a page with \`until\`, got ${String(page?.until)}`);
}

/** A promise is no permission. Nobody else handles its rejection, which would end the process. */
function isTrue(answer: unknown): boolean {
  if (answer === true) return true;
  const promise = answer as Partial<PromiseLike<unknown>> | undefined;
  if (typeof promise?.then === 'function') promise.then(undefined, ignore);
  return false;
}

/** Whether nothing more can be written to a sink. Throws what a getter of the sink throws. */
export function isClosed(sink: Sink): boolean {
  return sink.closed === true || sink.destroyed === true || sink.writableEnded === true;
}

/**
 * The 'error' listener of every sink: its 'close' follows, and without a listener the error would be
 * uncaught.
 */
export function ignore(): void {}

/** Ignores errors of a sink that is given up: they must not reach other subscribers. */
export function ignoreErrors(act: () => unknown): void {
  try {
    act();
  } catch {}
}

/** Ends a sink for which nothing is left to deliver. @returns false where it cannot be refused any more. */
export function refuseSink(sink: Sink): boolean {
  try {
    sink.refuse === undefined ? sink.end() : sink.refuse(204);
    return true;
  } catch {
    return false;
  }
}
