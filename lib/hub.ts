// Publishes events to topics, remembers them, and gives each subscriber whatever comes after its cursor.
// Needs `encode.ts` and `replay.ts` beside it.

import { channel } from 'node:diagnostics_channel';
import { encode, type ServerSentEvent } from './encode.ts';
import { ReplayBuffer, type ReplayEntry } from './replay.ts';

/**
 * What takes the bytes: the members of Node's `Writable` that are used. A stream of `openStream`, a bare
 * `ServerResponse`, a socket and a `PassThrough` fit as they are.
 */
export interface Sink {
  readonly closed?: boolean | undefined;
  readonly destroyed?: boolean | undefined;
  readonly writableEnded?: boolean | undefined;
  write(chunk: Uint8Array): boolean;
  /** Preferred over `write` for bytes that many sinks get. */
  writeShared?(chunk: SharedChunk): boolean;
  end(): unknown;
  destroy?(): unknown;
  /** Preferred over `destroy` where it is there, for it takes the reason. */
  abort?(reason: 'slow-consumer' | 'error'): unknown;
  on(event: 'drain' | 'close' | 'error', listener: () => void): unknown;
  off(event: 'drain' | 'close' | 'error', listener: () => void): unknown;
}

/** Bytes that many sinks get and nobody changes. */
export interface SharedChunk {
  readonly bytes: Uint8Array;
  /** What sinks have made of the bytes, so that it is made once for all. */
  made: object | undefined;
}

/** An event to publish. Its id is the hub's to give; names that begin with `sluice:` are the hub's own. */
export interface HubEvent extends Omit<ServerSentEvent, 'id'> {
  readonly data: string;
  /**
   * What the event is the newest value of, in at most 1,000 characters. A conflating subscriber that lags gets
   * only the newest of each key.
   */
  readonly key?: string | undefined;
}

/** How much of a topic is remembered for those who come back. */
export interface HistoryLimits {
  /** Most events; default 10,000. */
  maxEvents?: number | undefined;
  /** Most bytes on the wire, and so the size of the largest event that can be published; default 4 MiB. */
  maxBytes?: number | undefined;
  /** Milliseconds; default no limit. */
  maxAge?: number | undefined;
}

export interface HubOptions {
  /** One for all topics, or asked once for each new topic. */
  history?: HistoryLimits | ((topic: string) => HistoryLimits) | undefined;
  /** Most bytes remembered in all topics together; default 256 MiB. The topics silent for longest lose theirs first. */
  maxHistoryBytes?: number | undefined;
  /** Most topics; default 10,000. Idle ones, those without subscribers, are forgotten to make room. */
  maxTopics?: number | undefined;
  /** Bytes written to one subscriber in one turn of the event loop; default 64 KiB. One event may be larger. */
  pageBytes?: number | undefined;
  /** Milliseconds that clients are told to wait before they reconnect; default 2,000, each ± a quarter. */
  retry?: number | undefined;
  /** What happens to a subscriber whose next event is no longer remembered: told of the gap (default), or closed. */
  overtaken?: 'gap' | 'close' | undefined;
  /** Where events are kept beyond this process's memory. */
  log?: Log | undefined;
  /** Names this life of the hub's order; default the log's, else the start time, to which chance adds three digits. */
  epoch?: number | undefined;
  /** Milliseconds; default `Date.now`. */
  now?: (() => number) | undefined;
  /** From 0 up to 1; default `Math.random`. */
  random?: (() => number) | undefined;
  /** Told of each turn the milliseconds from its first event's publishing until all who were at the head had it. */
  onDelivered?: ((latency: number) => void) | undefined;
  /** Runs a function at the end of this turn; default `setImmediate`. */
  schedule?: ((turn: () => void) => void) | undefined;
}

/** An event as it is kept: its frame on the wire, and its place in the order. */
export interface LogEntry extends ReplayEntry {
  readonly topic: string;
  readonly frame: string;
  readonly key: string | undefined;
}

/** What a log has of some topics, from one moment. */
export interface LogPage {
  /** Oldest first, all topics merged by seq. */
  readonly entries: readonly LogEntry[];
  /** Up to here nothing of the topics is missing from `entries`, but for what `dropped` tells. */
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
  /** Called in order, before anyone is sent the entry. What it throws reaches the publisher, and nothing happened. */
  append(entry: LogEntry): void;
  /** About `maxBytes` of frames after a cursor, at least one entry where there is one. Answer at once if you can. */
  read(topics: readonly string[], after: number, maxBytes: number): LogPage | Promise<LogPage>;
}

export interface SubscribeOptions {
  /** The id of the last event that the client has processed, as its header has it; absent or empty: from now on. */
  lastEventId?: string | readonly string[] | null | undefined;
  /** Only the newest event of each key, of whatever was missed. Events without a key are all kept. */
  conflate?: boolean | undefined;
  /** Asked for each topic before anything is written to the sink, old events or new; once it denies, that ends. */
  may?: ((topic: string) => boolean) | undefined;
  /** Told to the client in the data of `sluice:ready`, beside its `topics`. */
  announce?: Readonly<Record<string, unknown>> | undefined;
}

export interface Subscription {
  readonly topics: readonly string[];
  /** The id up to which everything has been written. */
  readonly position: string;
  /** How far that is behind the hub's own position, in events of all topics. */
  readonly lag: number;
  readonly closed: boolean;
  /** Ends the subscription and leaves the sink as it is. */
  close(): void;
}

export type GapReason = 'evicted' | 'unknown-epoch' | 'ahead' | 'truncated' | 'store-changed' | 'malformed';

export interface TopicInfo {
  readonly topic: string;
  readonly events: number;
  readonly bytes: number;
  readonly subscribers: number;
  /** The id of the newest event, remembered or not. */
  readonly last: string;
  readonly ended: boolean;
}

/** Counts since the hub was made. */
export interface HubStats {
  published: number;
  publishedBytes: number;
  /** Events and bytes handed to sinks, control events not counted. */
  delivered: number;
  deliveredBytes: number;
  /** Subscribers that came with an id, and those that came without. */
  resumed: number;
  started: number;
  gaps: Record<GapReason, number>;
}

/** Whether a string can be a topic's name: 1 to 200 of `A–Z a–z 0–9 . _ ~ : -`. */
export function isTopic(name: string): boolean {
  return TOPIC.test(name);
}

/** Characters: a key is remembered with its event, and counted nowhere. */
const MAX_KEY = 1000;

const TOPIC = /^[A-Za-z0-9._~:-]{1,200}$/;

/**
 * One order of events, many topics, and for each subscriber one cursor.
 *
 *     publish ─▶ 1  2  3  4  5  6  7  8        the hub's order; ids are <epoch>-<seq>
 *       prices ─▶ 1     3  4        7          each topic keeps its own part of it
 *       alerts ─▶    2        5  6     8
 *                             ▲        ▲
 *                      behind ┘        └ at the head: woken by the next event
 *
 * There is no queue per subscriber. Whoever is at the head, slow, or just back from a lost connection gets
 * "a page of what comes after my cursor" by the same few lines, one page a turn while its sink accepts it.
 * Those at the same place get the same Buffer. One that does not drain costs its cursor and nothing else.
 *
 * The first thing written is `retry:` and `sluice:ready`; whatever cannot be delivered any more is told by
 * `sluice:gap` before anything newer; `sluice:end` says that no more will come.
 */
export class Hub {
  readonly #topics = new Map<string, Topic>();
  readonly #groups = new Map<string, Group>();
  readonly #cursors = new Map<Sink, Cursor>();
  readonly #history: (topic: string) => HistoryLimits;
  readonly #maxHistoryBytes: number;
  readonly #maxTopics: number;
  readonly #pageBytes: number;
  readonly #retry: number;
  readonly #closeOvertaken: boolean;
  readonly #log: Log | undefined;
  readonly #now: () => number;
  readonly #random: () => number;
  readonly #onDelivered: ((latency: number) => void) | undefined;
  readonly #schedule: (turn: () => void) => void;
  readonly #order: Order;
  readonly #pages = new KeptPages();

  /** The newest seq that a topic which is not in memory may have had. */
  #beyond: number;
  #historyBytes = 0;
  #round: Iterator<Topic> = this.#topics.values();
  #scheduled = false;
  #turns = 0;
  /** What catching up has cost this turn so far, in bytes. */
  #spent = 0;
  /** Topics with news since the last turn. */
  #news: Topic[] = [];
  #newsSince = 0;
  /** Cursors behind the head whose sinks accept more, first come first served. */
  readonly #due = new Queue<Cursor>();

  readonly stats: HubStats = {
    published: 0,
    publishedBytes: 0,
    delivered: 0,
    deliveredBytes: 0,
    resumed: 0,
    started: 0,
    gaps: { evicted: 0, 'unknown-epoch': 0, ahead: 0, truncated: 0, 'store-changed': 0, malformed: 0 },
  };

  /** @throws {RangeError | TypeError} naming the option that cannot be used. */
  constructor(options: HubOptions = {}) {
    const { history = {}, overtaken = 'gap', log, now = Date.now, random = Math.random } = options;
    if (overtaken !== 'gap' && overtaken !== 'close') {
      throw new TypeError(`\`overtaken\` must be "gap" or "close", got ${overtaken}`);
    }
    this.#history = typeof history === 'function' ? history : () => history;
    if (typeof history !== 'function') openHistory(history); // limits out of range are found now, not at the first event
    this.#maxHistoryBytes = atLeast(1, 'maxHistoryBytes', options.maxHistoryBytes ?? 256 * 1024 * 1024);
    this.#maxTopics = atLeast(1, 'maxTopics', options.maxTopics ?? 10_000);
    this.#pageBytes = atLeast(1, 'pageBytes', options.pageBytes ?? 64 * 1024);
    this.#retry = duration('retry', options.retry ?? 2000);
    this.#closeOvertaken = overtaken === 'close';
    this.#log = log;
    this.#now = now;
    this.#random = random;
    this.#onDelivered = options.onDelivered;
    this.#schedule = options.schedule ?? setImmediate;
    this.#order = new Order(options.epoch ?? log?.epoch ?? newEpoch(now, random), log?.head ?? 0);
    this.#beyond = this.#order.head;
  }

  /** The id of the newest event: put it into a snapshot, and whoever loads that can go on from there. */
  get position(): string {
    return this.#order.id(this.#order.head);
  }

  /** How many subscriptions there are. */
  get size(): number {
    return this.#cursors.size;
  }

  /** What all topics together remember, in bytes on the wire. */
  get historyBytes(): number {
    return this.#historyBytes;
  }

  /**
   * Gives the event its place and its id, remembers it, and wakes the topic's subscribers at the end of this
   * turn. Never throws for a subscriber's sake.
   *
   * @returns the id.
   * @throws {TypeError} for a bad topic, a field that cannot be sent, or a reserved name; see `encode`.
   * @throws {RangeError} for an event larger than the topic's history may be.
   * @throws {Error} code `ERR_SSE_TOPIC_ENDED` after `end(topic)`, `ERR_SSE_TOO_MANY_TOPICS` when all are in use.
   */
  publish(topic: string, event: HubEvent): string {
    checkEvent(event);
    const seq = this.#order.head + 1;
    const id = this.#order.id(seq);
    const frame = encode({
      comment: event.comment,
      retry: event.retry,
      id,
      event: event.event,
      data: event.data,
    });
    const entry = { topic, seq, at: this.#now(), bytes: Buffer.byteLength(frame), frame, key: event.key };
    this.#remember(this.#topic(topic), entry);
    this.stats.published++;
    this.stats.publishedBytes += entry.bytes;
    return id;
  }

  /**
   * Writes to a sink whatever comes after a position in the given topics, merged in order, from now on. The
   * first bytes are written in the next turn, so that until then the caller can still refuse.
   *
   * The topics need not exist yet. The sink may have one subscription: name all topics in one.
   *
   * @returns `null` when the topics have ended and nothing is left to deliver: answer 204, which stops a
   *   browser's EventSource from coming back.
   * @throws {TypeError} for a bad topic, no topic, or a sink that is subscribed already.
   * @throws {Error} code `ERR_SSE_TOO_MANY_TOPICS` when a new topic is needed and all are in use.
   */
  subscribe(
    topics: string | readonly string[],
    sink: Sink,
    options: SubscribeOptions = {},
  ): Subscription | null {
    const names = [...new Set(typeof topics === 'string' ? [topics] : topics)].sort();
    if (names.length === 0) throw new TypeError('`topics` must name at least one topic, got none');
    if (this.#cursors.has(sink))
      throw new TypeError('the sink is subscribed already: name all topics in one');
    for (const name of names) this.#freshen(name);
    const { lastEventId, conflate = false, announce, may } = options;
    // A header that came more than once is malformed, whatever its values.
    const start = this.#locate(typeof lastEventId === 'string' ? lastEventId : lastEventId?.join(', '));
    if (start.gap === undefined && this.#hasEnded(names, start.seq)) return null;
    const preamble = { text: this.#preamble(names, start, announce), id: start.ready }; // may throw: before the group
    const cursor = new Cursor(this.#group(names, conflate), sink, start.seq, preamble, may);
    this.stats[start.from === undefined ? 'started' : 'resumed']++;
    if (start.gap !== undefined) this.#count(start.gap, names);
    this.#enter(cursor);
    return cursor;
  }

  /**
   * Nothing more will be published to the topic: its subscribers get what they still lack, then `sluice:end`,
   * then the end of the response, as soon as that holds for all the topics they follow.
   *
   * @returns whether there was such a topic, and it had not ended.
   */
  end(topic: string): boolean {
    const found = this.#topics.get(checkTopic(topic));
    if (found === undefined || found.ended) return false;
    found.ended = true;
    this.#announce(found);
    return true;
  }

  /** Every subscription, of which each `lag` tells how far it is behind. */
  subscriptions(): Iterable<Subscription> {
    return this.#cursors.values();
  }

  /**
   * Ends the subscriptions, and the responses, that a permission no longer covers, or any others.
   * @returns how many.
   */
  kick(predicate: (sink: Sink, subscription: Subscription) => boolean): number {
    const kicked = [...this.#cursors].filter(([sink, cursor]) => predicate(sink, cursor));
    for (const [, cursor] of kicked) this.#end(cursor);
    return kicked.length;
  }

  /** Every topic that is remembered or followed. */
  topics(): TopicInfo[] {
    return Array.from(this.#topics.values(), ({ name, ring, ended, groups }) => {
      let subscribers = 0;
      for (const group of groups) subscribers += group.size;
      const { size: events, bytes } = ring;
      return { topic: name, events, bytes, subscribers, last: this.#order.id(ring.last), ended };
    });
  }

  // ── publishing ────────────────────────────────────────────────────────────────────────────────────────

  #topic(name: string): Topic {
    const topic = this.#topics.get(name);
    if (topic === undefined) return this.#createTopic(checkTopic(name));
    if (topic.ended) throw failure('ERR_SSE_TOPIC_ENDED', `the topic "${name}" has ended`);
    return topic;
  }

  #createTopic(name: string): Topic {
    if (this.#topics.size >= this.#maxTopics) this.#forgetIdle();
    const topic = new Topic(name, openHistory(this.#history(name), this.#beyond));
    this.#topics.set(name, topic);
    return topic;
  }

  #remember(topic: Topic, entry: LogEntry): void {
    const before = topic.ring.bytes;
    topic.ring.check(entry);
    this.#log?.append(entry);
    topic.ring.push(entry);
    this.#order.head = entry.seq;
    this.#historyBytes += topic.ring.bytes - before;
    if (this.#historyBytes > this.#maxHistoryBytes) this.#shedHistory(entry);
    this.#announce(topic);
  }

  #announce(topic: Topic): void {
    if (topic.hasNews) return;
    topic.hasNews = true;
    if (this.#news.length === 0 && this.#onDelivered !== undefined) this.#newsSince = this.#now();
    this.#news.push(topic);
    this.#plan();
  }

  /** Drops what has grown too old, of one topic a turn, round and round: a silent topic drops nothing by itself. */
  #expireNext(): void {
    const { value: topic, done } = this.#round.next();
    if (done) this.#round = this.#topics.values();
    else this.#expire(topic);
  }

  #expire(topic: Topic): void {
    const before = topic.ring.bytes;
    topic.ring.expire(this.#now());
    this.#historyBytes += topic.ring.bytes - before;
  }

  /** The topics that were silent for longest lose theirs, down to nine tenths, so that this is rarely needed. */
  #shedHistory(newest: LogEntry): void {
    // The newest event stays, whatever its size: its subscribers have yet to get it.
    const enough = Math.max(this.#maxHistoryBytes * 0.9, newest.bytes);
    for (const { ring } of this.#bySilence(() => true)) {
      const before = ring.bytes;
      ring.shrink(before - (this.#historyBytes - enough));
      this.#historyBytes -= before - ring.bytes;
      if (this.#historyBytes <= enough) return;
    }
  }

  /** Forgets the idle topics that were silent for longest, one in a hundred, so that this is rarely needed. */
  #forgetIdle(): void {
    const idle = this.#bySilence((topic) => topic.groups.size === 0).slice(
      0,
      Math.ceil(this.#maxTopics / 100),
    );
    if (idle.length === 0) {
      throw failure(
        'ERR_SSE_TOO_MANY_TOPICS',
        `all ${this.#maxTopics} topics (\`maxTopics\`) have subscribers`,
      );
    }
    for (const topic of idle) this.#forget(topic);
  }

  #forget(topic: Topic): void {
    this.#topics.delete(topic.name);
    this.#historyBytes -= topic.ring.bytes;
    // Whoever asks for the topic again is told of a gap: which of its events are gone is not known any more.
    this.#beyond = Math.max(this.#beyond, topic.ring.last);
  }

  #bySilence(wanted: (topic: Topic) => boolean): Topic[] {
    return [...this.#topics.values()].filter(wanted).sort((a, b) => a.ring.last - b.ring.last);
  }

  // ── subscribing ───────────────────────────────────────────────────────────────────────────────────────

  /** Where delivery to a client begins, and which gap that leaves. An id is looked up by arithmetic alone. */
  #locate(lastEventId = ''): Start {
    const { epoch, head } = this.#order;
    if (lastEventId === '') return { seq: head, ready: this.position };
    const id = parseId(lastEventId);
    // The client keeps its own id until the gap has arrived: were it told the new position before, a
    // connection cut in between would hide the gap for good. An unreadable id becomes one that nobody has.
    if (id === undefined) return { seq: head, ready: NOBODYS_ID, gap: 'malformed', from: null };
    const own = { ready: lastEventId, from: lastEventId };
    if (id.epoch !== epoch) return { seq: head, gap: 'unknown-epoch', ...own };
    if (id.seq > head) return { seq: head, gap: 'ahead', ...own };
    return { seq: id.seq, ...own };
  }

  #freshen(name: string): void {
    const topic = this.#topics.get(checkTopic(name));
    if (topic !== undefined) this.#expire(topic);
  }

  #hasEnded(names: readonly string[], seq: number): boolean {
    return names.every((name) => {
      const topic = this.#topics.get(name);
      return topic?.ended === true && topic.ring.last <= seq;
    });
  }

  #group(names: readonly string[], conflate: boolean): Group {
    const key = JSON.stringify([conflate, names]);
    const known = this.#groups.get(key);
    if (known !== undefined) return known;
    const group = new Group(key, names, conflate, this.#order, this.#pages, this.#leave);
    this.#groups.set(key, group);
    // To make one an idle one may be forgotten: let that not be one of these.
    const knownFirst = names.toSorted((a, b) => Number(this.#topics.has(b)) - Number(this.#topics.has(a)));
    try {
      for (const name of knownFirst) group.add(this.#topics.get(name) ?? this.#createTopic(name));
    } catch (error) {
      this.#disband(group);
      throw error;
    }
    return group;
  }

  #preamble(names: readonly string[], start: Start, announce?: Readonly<Record<string, unknown>>): string {
    const retry = Math.round(this.#retry * (0.75 + this.#random() / 2));
    const data = JSON.stringify({ ...announce, topics: names });
    const opening = encode({ retry }) + encode({ id: start.ready, event: 'sluice:ready', data });
    if (start.gap === undefined) return opening;
    return opening + this.#gap(start.gap, start.from ?? null, start.seq, start.seq, names);
  }

  #gap(
    reason: GapReason,
    from: string | null,
    to: number,
    goesOnAt: number,
    topics: readonly string[],
  ): string {
    const data = JSON.stringify({ reason, from, to: this.#order.id(to), topics });
    return encode({ id: this.#order.id(goesOnAt), event: 'sluice:gap', data });
  }

  #enter(cursor: Cursor): void {
    const { sink, group } = cursor;
    group.size++;
    this.#cursors.set(sink, cursor);
    cursor.onDrain = () => {
      if (cursor.isBlocked) this.#makeDue(cursor);
    };
    cursor.onClose = () => this.#leave(cursor);
    sink.on('drain', cursor.onDrain);
    sink.on('close', cursor.onClose);
    sink.on('error', ignore); // its 'close' follows; without a listener it would be an uncaught exception
    if (isClosed(sink)) this.#leave(cursor);
    else this.#makeDue(cursor);
  }

  readonly #leave = (cursor: Cursor): void => {
    if (cursor.closed) return;
    cursor.closed = true;
    const { sink, group } = cursor;
    sink.off('drain', cursor.onDrain);
    sink.off('close', cursor.onClose);
    this.#cursors.delete(sink);
    cursor.isReady = false;
    if (--group.size === 0) this.#disband(group);
  };

  #disband(group: Group): void {
    this.#groups.delete(group.key);
    this.#pages.drop(group);
    for (const topic of group.topics) {
      topic.groups.delete(group);
      // One that was only ever waited for leaves nothing behind.
      if (topic.groups.size === 0 && topic.isUnused) this.#topics.delete(topic.name);
    }
  }

  // ── a turn: everyone at the head, then a few of those behind it ───────────────────────────────────────

  #plan(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    this.#schedule(this.#turn);
  }

  readonly #turn = (): void => {
    this.#scheduled = false;
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
    const behind = new Set<Group>();
    this.#spent = 0;
    for (let cursor = this.#due.first; cursor !== undefined; cursor = this.#due.first) {
      // Those that this turn made due come after all that waited for it.
      if (cursor.turn === this.#turns || this.#spent > CATCH_UP_BYTES) break;
      this.#due.remove();
      cursor.isDue = false;
      behind.add(cursor.group);
      this.#advance(cursor);
    }
    for (const group of behind) group.forgetPage();
    if (this.#due.first !== undefined) this.#plan();
    this.#expireNext();
    if (withNews.size > 0) this.#onDelivered?.(latency); // last: what it throws is its own
  };

  #groupsWithNews(): Set<Group> {
    const groups = new Set<Group>();
    for (const topic of this.#news) {
      topic.hasNews = false;
      for (const group of topic.groups) groups.add(group);
    }
    this.#news = [];
    return groups;
  }

  #makeDue(cursor: Cursor): void {
    cursor.isBlocked = false;
    cursor.isReady = false;
    if (!cursor.isDue) this.#due.add(cursor);
    cursor.isDue = true;
    this.#plan();
  }

  /** One step of one cursor, or the rest of one for which a page had to be read. */
  #advance(cursor: Cursor, read?: LogPage): void {
    if (cursor.closed) return;
    if (isClosed(cursor.sink)) return this.#leave(cursor);
    if (!cursor.isAllowed) return void this.#end(cursor);
    cursor.turn = this.#turns;
    const outcome = read ? this.#take(cursor, read) : this.#step(cursor);
    if (cursor.closed) return; // by this step, or by what the sink did in it
    cursor.isBlocked = outcome === 'blocked';
    if (outcome === 'behind') this.#makeDue(cursor);
    else cursor.isReady = outcome === 'head'; // 'blocked' or 'reading': a drain or a page makes it due
  }

  #step(cursor: Cursor): Outcome {
    const { group, preamble } = cursor;
    if (preamble !== undefined) {
      cursor.preamble = undefined;
      return this.#write(cursor, Buffer.from(preamble.text));
    }
    const lost = group.lost(cursor);
    if (lost !== undefined)
      return this.#log === undefined ? this.#tellLost(cursor, lost) : this.#read(cursor, this.#log);
    const page = group.page(cursor.seq, this.#pageBytes);
    if (page === undefined) return group.hasEnded ? this.#finish(cursor) : 'head';
    return this.#deliver(cursor, page);
  }

  #deliver(cursor: Cursor, page: Page): Outcome {
    cursor.moveTo(page.until);
    cursor.isLive = true;
    if (page.count === 0) return 'behind';
    this.#spent += page.cost;
    page.cost = page.bytes.length;
    this.stats.delivered += page.count;
    this.stats.deliveredBytes += page.bytes.length;
    const outcome = this.#write(cursor, page.bytes, page);
    const hasAll = outcome === 'behind' && page.until === this.#order.head && !cursor.group.hasEnded;
    return hasAll ? 'head' : outcome;
  }

  /** What goes wrong with a sink is the end of its cursor and of nothing else. */
  #write(cursor: Cursor, bytes: Buffer, shared?: SharedChunk): Outcome {
    const { sink } = cursor;
    try {
      const takesMore =
        shared !== undefined && sink.writeShared !== undefined ? sink.writeShared(shared) : sink.write(bytes);
      return takesMore ? 'behind' : 'blocked';
    } catch {
      return this.#cut(cursor, 'error');
    }
  }

  #finish(cursor: Cursor): Outcome {
    const data = JSON.stringify({ topics: cursor.group.names });
    this.#write(cursor, Buffer.from(encode({ id: this.position, event: 'sluice:end', data })));
    return this.#end(cursor);
  }

  #end(cursor: Cursor): Outcome {
    if (cursor.closed) return 'over';
    this.#leave(cursor);
    ignoreErrors(() => cursor.sink.end());
    return 'over';
  }

  #cut(cursor: Cursor, reason: 'slow-consumer' | 'error'): Outcome {
    const { sink } = cursor;
    this.#leave(cursor);
    ignoreErrors(() => (sink.abort === undefined ? sink.destroy?.() : sink.abort(reason)));
    return 'over';
  }

  // ── what memory does not hold ─────────────────────────────────────────────────────────────────────────

  /**
   * Says what the cursor will never see. One topic: delivery goes on behind the gap. Several: it goes on
   * where it was, because the other topics still have events from before the gap's end.
   */
  #tellLost(cursor: Cursor, lost: readonly Lost[], reason: GapReason = 'evicted'): Outcome {
    if (cursor.isLive && this.#closeOvertaken) return this.#cut(cursor, 'slow-consumer');
    const from = this.#order.id(cursor.seq);
    const to = Math.max(...lost.map(({ seq }) => seq));
    cursor.tell(lost);
    const topics = lost.map(({ topic }) => topic.name);
    this.#count(reason, topics);
    return this.#write(cursor, Buffer.from(this.#gap(reason, from, to, cursor.seq, topics)));
  }

  #count(reason: GapReason, topics: readonly string[]): void {
    this.stats.gaps[reason]++;
    if (gapChannel.hasSubscribers) gapChannel.publish({ hub: this, reason, topics });
  }

  #read(cursor: Cursor, log: Log): Outcome {
    try {
      const answer = log.read(cursor.group.names, cursor.seq, this.#pageBytes);
      if (!('then' in answer)) return this.#take(cursor, answer);
      // The log cannot be read now: the client keeps its place, and asks again after its `retry`.
      answer.then((page) => this.#advance(cursor, page)).catch(() => this.#end(cursor));
      return 'reading';
    } catch {
      return this.#end(cursor);
    }
  }

  /** A page that was read, maybe a while ago: is it whole, and is there one at all? */
  #take(cursor: Cursor, page: LogPage): Outcome {
    const { group, seq: after } = cursor;
    const lost = group.lost(cursor, page.dropped);
    if (lost !== undefined) return this.#tellLost(cursor, lost);
    // Memory has dropped what the log does not hold either: it was shortened from outside.
    const gone = page.until <= after ? group.lost(cursor) : undefined;
    if (gone !== undefined) return this.#tellLost(cursor, gone, 'truncated');
    // Whether a log counts an entry's bytes as we do is not for us to rely on.
    return this.#deliver(
      cursor,
      pageOf(group.select(page.entries), { after, first: after, until: page.until }, 'utf8'),
    );
  }
}

/** On `node:diagnostics_channel`: `{ hub, reason, topics }` for every gap that is told. */
const gapChannel = channel('sluice:gap');

/** Bytes a turn for those behind the head, so that a storm of returning clients does not hold up the rest. */
const CATCH_UP_BYTES = 1024 * 1024;

/** Of pages that are kept beyond their turn. */
const KEPT_BYTES = 1024 * 1024;
const KEPT_PAGES = 16;

/** An event that conflation passes over takes no less time than so many bytes that are written (bench/hub). */
const PASSED_OVER_BYTES = 40;

/** Told to a client whose own id cannot be read: well-formed, and no epoch is 0. */
const NOBODYS_ID = '0-0';

/** What a step of a cursor led to. */
type Outcome = 'head' | 'behind' | 'blocked' | 'reading' | 'over';

interface Start {
  readonly seq: number;
  /** The id in `sluice:ready`. */
  readonly ready: string;
  readonly gap?: GapReason;
  /** The id that the client came with; `null` for one that cannot be read. */
  readonly from?: string | null;
}

interface Preamble {
  readonly text: string;
  readonly id: string;
}

interface Lost {
  readonly topic: Topic;
  /** The newest seq of it that is gone. */
  readonly seq: number;
}

/** Frames in one piece, for whichever cursors are from `after` up to, not including, `first`. */
interface Page {
  readonly after: number;
  readonly first: number;
  /** Where the cursor is afterwards. */
  readonly until: number;
  readonly count: number;
  readonly bytes: Buffer;
  made: object | undefined;
  /** What its next use costs a turn, in bytes: the first one pays for the making. */
  cost: number;
}

/** The hub's one sequence. */
class Order {
  readonly epoch: number;
  head: number;
  /** Up to here, whoever is not behind has everything: the head of the last turn, without what came since. */
  settled: number;
  #named = 0;
  #id = '';

  constructor(epoch: number, head: number) {
    this.epoch = atLeast(1, 'epoch', wholeNumber('epoch', epoch));
    this.head = this.settled = wholeNumber('head', head);
  }

  /** Nearly always asked for the same one many times over. */
  id(seq: number): string {
    if (seq !== this.#named || this.#id === '') this.#id = `${this.epoch}-${seq}`;
    this.#named = seq;
    return this.#id;
  }
}

class Topic {
  readonly name: string;
  readonly ring: ReplayBuffer<LogEntry>;
  readonly groups: Set<Group> = new Set();
  readonly #firstSeen: number;
  hasNews = false;
  ended = false;

  constructor(name: string, ring: ReplayBuffer<LogEntry>) {
    this.name = name;
    this.ring = ring;
    this.#firstSeen = ring.last;
  }

  /** Nothing was ever published to it since it was made. */
  get isUnused(): boolean {
    return this.ring.last === this.#firstSeen && !this.ended;
  }
}

/** First come, first served. An array's own `shift` moves all that wait, once they are very many. */
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

/** The subscribers of the same topics in the same way: whatever one of them lacks, the others may lack too. */
class Group {
  readonly key: string;
  readonly names: readonly string[];
  readonly topics: Topic[] = [];
  /** The cursors that are ready. The others count in `size` alone. */
  readonly ready: Set<Cursor> = new Set();
  readonly order: Order;
  readonly leave: (cursor: Cursor) => void;
  readonly #conflate: boolean;
  readonly #pages: KeptPages;
  size = 0;
  #page: Page | undefined;

  constructor(
    key: string,
    names: readonly string[],
    conflate: boolean,
    order: Order,
    pages: KeptPages,
    leave: (cursor: Cursor) => void,
  ) {
    this.key = key;
    this.names = names;
    this.#conflate = conflate;
    this.order = order;
    this.#pages = pages;
    this.leave = leave;
  }

  add(topic: Topic): void {
    this.topics.push(topic);
    topic.groups.add(this);
  }

  get hasEnded(): boolean {
    return this.topics.every((topic) => topic.ended);
  }

  /** The topics of which the cursor has missed what is not held any more, by memory or by a log, untold so far. */
  lost(cursor: Cursor, dropped?: LogPage['dropped']): Lost[] | undefined {
    let lost: Lost[] | undefined;
    for (const topic of this.topics) {
      const seq = dropped === undefined ? topic.ring.dropped : droppedOf(topic, dropped);
      if (seq <= cursor.seq || seq <= cursor.told(topic)) continue;
      lost ??= [];
      lost.push({ topic, seq });
    }
    return lost;
  }

  /** What comes next for a cursor; `undefined` when it has everything. Made once for all at the same place. */
  page(after: number, pageBytes: number): Page | undefined {
    if (this.#page !== undefined && isFor(after, this.#page)) return this.#page;
    // One that was made before something was dropped may hold what was told to be lost since.
    const kept = this.#hasAll(after) ? this.#pages.find(this, after) : undefined;
    if (kept !== undefined) return kept;
    const missed = this.#missed(after, this.#conflate ? Infinity : pageBytes);
    const chosen = withinBytes(this.select(missed), pageBytes);
    const last = chosen.at(-1)?.seq;
    if (last === undefined) return undefined;
    const isWhole = this.topics.every(({ ring }) => ring.last <= last);
    const place = { after, first: missed[0]!.seq, until: isWhole ? this.order.head : last };
    this.#page = pageOf(chosen, place, isAscii(chosen) ? 'latin1' : 'utf8');
    this.#page.cost += (missed.length - chosen.length) * PASSED_OVER_BYTES;
    // What a whole one lacks, and what a conflated one has too much of, is published later.
    if (!isWhole && !this.#conflate) this.#pages.keep(this, this.#page);
    return this.#page;
  }

  /** Whether nothing of the topics that comes after a position was dropped. */
  #hasAll(after: number): boolean {
    return this.topics.every(({ ring }) => ring.dropped <= after);
  }

  /** It serves one turn at most: kept for longer, one page per group would be memory that nothing bounds. */
  forgetPage(): void {
    this.#page = undefined;
  }

  /** Of entries in order, those that are to be written: all, or the newest of each key and all without a key. */
  select(entries: readonly LogEntry[]): readonly LogEntry[] {
    if (!this.#conflate) return entries;
    const seen = new Map(this.names.map((name) => [name, new Set<string>()]));
    return entries
      .toReversed()
      .filter(({ topic, key }) => key === undefined || isNew(seen.get(topic)!, key))
      .reverse();
  }

  /** What memory holds after a position, merged by seq, up to a size but at least one. */
  #missed(after: number, maxBytes: number): LogEntry[] {
    const sources = this.#sources(after);
    const missed: LogEntry[] = [];
    let bytes = 0;
    for (let source = oldest(sources); source !== undefined; source = oldest(sources)) {
      const entry = source.ring.at(source.index)!;
      bytes += entry.bytes;
      if (bytes > maxBytes && missed.length > 0) break;
      missed.push(entry);
      source.index++;
    }
    return missed;
  }

  #sources(after: number): Source[] {
    const sources: Source[] = [];
    for (const { ring } of this.topics) {
      const index = ring.indexAfter(Math.max(after, ring.dropped));
      if (index < ring.size) sources.push({ ring, index });
    }
    return sources;
  }
}

/**
 * The last full pages, whosever. Those who stand at the same place have their turns one after the other, and each of
 * their sockets may hold on to its page for long: let it be the same one. Otherwise ten thousand readers that stop
 * reading hold a hundred megabytes more (bench stalled10k).
 */
class KeptPages {
  #kept: { readonly group: Group; readonly page: Page }[] = [];
  #bytes = 0;

  find(group: Group, after: number): Page | undefined {
    return this.#kept.find((kept) => kept.group === group && isFor(after, kept.page))?.page;
  }

  keep(group: Group, page: Page): void {
    this.#kept.push({ group, page });
    this.#bytes += page.bytes.length;
    while (this.#bytes > KEPT_BYTES || this.#kept.length > KEPT_PAGES) {
      this.#bytes -= this.#kept.shift()!.page.bytes.length;
    }
  }

  drop(group: Group): void {
    this.#kept = this.#kept.filter((kept) => kept.group !== group);
    this.#bytes = this.#kept.reduce((sum, { page }) => sum + page.bytes.length, 0);
  }
}

function isFor(after: number, page: Page): boolean {
  return page.after <= after && after < page.first;
}

interface Source {
  readonly ring: ReplayBuffer<LogEntry>;
  index: number;
}

/** The source whose next entry is the oldest. */
function oldest(sources: readonly Source[]): Source | undefined {
  if (sources.length === 1) return sources[0]!.index < sources[0]!.ring.size ? sources[0] : undefined;
  let found: Source | undefined;
  let least = Infinity;
  for (const source of sources) {
    const seq = source.ring.at(source.index)?.seq ?? Infinity;
    if (seq < least) [found, least] = [source, seq];
  }
  return found;
}

function withinBytes(entries: readonly LogEntry[], maxBytes: number): readonly LogEntry[] {
  let left = maxBytes;
  let end = 0;
  for (const entry of entries) {
    left -= entry.bytes;
    if (left < 0 && end > 0) break;
    end++;
  }
  return end === entries.length ? entries : entries.slice(0, end);
}

function droppedOf(topic: Topic, dropped: LogPage['dropped']): number {
  return dropped.find((one) => one.topic === topic.name)?.seq ?? 0;
}

function pageOf(
  entries: readonly LogEntry[],
  { after, first, until }: Pick<Page, 'after' | 'first' | 'until'>,
  encoding: 'latin1' | 'utf8',
): Page {
  let text = '';
  for (const entry of entries) text += entry.frame;
  const bytes = Buffer.from(text, encoding);
  return { after, first, until, count: entries.length, bytes, made: undefined, cost: bytes.length };
}

/** As many bytes as characters: then the text is copied, which takes half the time of encoding it (bench/hub). */
function isAscii(entries: readonly LogEntry[]): boolean {
  return entries.every(({ bytes, frame }) => bytes === frame.length);
}

function isNew(seen: Set<string>, key: string): boolean {
  return !seen.has(key) && seen.add(key).has(key);
}

/** One subscriber: a sink, and how far it has been told. */
class Cursor implements Subscription {
  readonly group: Group;
  readonly sink: Sink;
  /** Everything of the group's topics up to here was written, or told to be lost. */
  seq: number;
  /** The first bytes, and the id that the client has, until they are written. */
  preamble: Preamble | undefined;
  closed = false;
  isBlocked = false;
  /** It stands in the queue of those that are behind. */
  isDue = false;
  /** The last turn in which it was written to: there is one write in each. */
  turn = 0;
  /** Something was delivered on this connection. */
  isLive = false;
  onDrain!: () => void;
  onClose!: () => void;
  #isReady = false;
  /** Gaps that reach beyond `seq`, because the other topics still have events in between. */
  #told: Map<Topic, number> | undefined;

  readonly #may: ((topic: string) => boolean) | undefined;

  constructor(
    group: Group,
    sink: Sink,
    seq: number,
    preamble: Preamble,
    may: ((topic: string) => boolean) | undefined,
  ) {
    this.group = group;
    this.sink = sink;
    this.seq = seq;
    this.preamble = preamble;
    this.#may = may;
  }

  /** What cannot be decided is denied. */
  get isAllowed(): boolean {
    if (this.#may === undefined) return true;
    try {
      return this.group.names.every((name) => this.#may?.(name));
    } catch {
      return false;
    }
  }

  get topics(): readonly string[] {
    return this.group.names;
  }

  get position(): string {
    return this.preamble?.id ?? this.group.order.id(this.reached);
  }

  get lag(): number {
    return this.group.order.head - this.reached;
  }

  /** It has everything, and waits for what comes: it is not behind, blocked or reading. */
  get isReady(): boolean {
    return this.#isReady;
  }

  set isReady(is: boolean) {
    // Known here as well, because a group's set is large and cold.
    if (is === this.#isReady) return;
    this.#isReady = is;
    if (is) this.group.ready.add(this);
    else this.group.ready.delete(this);
  }

  /** One that waits at the head is moved along by what is not for it, without being touched. */
  get reached(): number {
    return this.#isReady ? Math.max(this.group.order.settled, this.seq) : this.seq;
  }

  close(): void {
    // A sink that is over keeps it: its error may be yet to come.
    if (!this.closed && !isClosed(this.sink)) this.sink.off('error', ignore);
    this.group.leave(this);
  }

  told(topic: Topic): number {
    return this.#told?.get(topic) ?? 0;
  }

  moveTo(seq: number): void {
    this.seq = seq;
    if (this.#told === undefined) return;
    for (const [topic, told] of this.#told) if (told <= seq) this.#told.delete(topic);
    if (this.#told.size === 0) this.#told = undefined;
  }

  /** Takes note of what is lost, and moves on to where there may be something to deliver. */
  tell(lost: readonly Lost[]): void {
    const told = new Map(this.#told);
    for (const { topic, seq } of lost) told.set(topic, seq);
    this.#told = told;
    this.moveTo(Math.min(...this.group.topics.map((topic) => Math.max(this.seq, told.get(topic) ?? 0))));
  }
}

function ignore(): void {}

/** For what a sink throws: it is the end of that sink, and of nothing else. */
function ignoreErrors(act: () => unknown): void {
  try {
    act();
  } catch {}
}

function isClosed(sink: Sink): boolean {
  return sink.closed === true || sink.destroyed === true || sink.writableEnded === true;
}

/** Milliseconds, and three random digits, so that two hubs that start at once do not take each other's ids. */
function newEpoch(now: () => number, random: () => number): number {
  return Math.floor(now()) * 1000 + Math.floor(random() * 1000);
}

// Without leading zeros, so that a position has one spelling.
const ID = /^(0|[1-9]\d{0,15})-(0|[1-9]\d{0,15})$/;

function parseId(id: string): { epoch: number; seq: number } | undefined {
  const [, epoch, seq] = ID.exec(id) ?? [];
  return epoch === undefined ? undefined : { epoch: Number(epoch), seq: Number(seq) };
}

function checkTopic(name: string): string {
  if (typeof name === 'string' && isTopic(name)) return name;
  throw new TypeError(
    `\`topic\` must be 1 to 200 of A–Z a–z 0–9 . _ ~ : -, got ${JSON.stringify(name)?.slice(0, 80)}`,
  );
}

/** What `encode` does not know of. */
function checkEvent({ event, data, key }: HubEvent): void {
  if (typeof event === 'string' && event.startsWith('sluice:'))
    throw new TypeError(`\`event\` must not begin with "sluice:", got ${JSON.stringify(event).slice(0, 80)}`);
  if (typeof data !== 'string') throw new TypeError(`\`data\` must be a string, got ${typeof data}`);
  if (key !== undefined && !(typeof key === 'string' && key.length <= MAX_KEY))
    throw new TypeError(
      `\`key\` must be a string of at most ${MAX_KEY} characters, got ${JSON.stringify(key)?.slice(0, 80)}`,
    );
}

function openHistory(limits: HistoryLimits, dropped = 0): ReplayBuffer<LogEntry> {
  const { maxEvents = 10_000, maxBytes = 4 * 1024 * 1024, maxAge = Infinity } = limits;
  if (maxEvents !== Infinity) wholeNumber('maxEvents', atLeast(1, 'maxEvents', maxEvents));
  return new ReplayBuffer({ maxEntries: maxEvents, maxBytes, maxAge, dropped });
}

function failure(code: string, message: string): Error {
  return Object.assign(new Error(message), { code });
}

function wholeNumber(name: string, value: number): number {
  if (Number.isSafeInteger(value)) return value;
  throw new RangeError(`\`${name}\` must be a whole number, got ${value}`);
}

/** A quarter more is still what a client can be told. */
function duration(name: string, value: number): number {
  if (atLeast(0, name, value) * 1.25 < 2 ** 31) return value;
  throw new RangeError(`\`${name}\` must be at most ${Math.floor((2 ** 31 - 1) / 1.25)}, got ${value}`);
}

function atLeast(least: number, name: string, value: number): number {
  if (typeof value === 'number' && value >= least) return value;
  throw new RangeError(`\`${name}\` must be a number ≥ ${least}, got ${value}`);
}
