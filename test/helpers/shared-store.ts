// A model of a store that several hubs share, such as Redis, and of the log by which a hub follows it. In memory,
// and with the faults of the real ones, at the test's command.
//
//     const store = new SharedStore({ maxEvents: 100 });
//     const log = store.open('node 1');              a SharedLog, for `new Hub({ log })`
//     store.failOver({ lost: 2 });                   a replica takes over, which lacks the last two writes

import {
  type Appended,
  type AppendOptions,
  type ListOptions,
  type LogChange,
  type LogEntry,
  type LogIntake,
  type LogPage,
  logUnavailable,
  type NewEntry,
  outcomeUnknown,
  type SharedLog,
  type TopicChange,
  type TopicRecord,
} from '../../lib/log.ts';

export interface SharedStoreOptions {
  /** Most events that a topic keeps; default Infinity. Half of them is the most of one append. */
  readonly maxEvents?: number;
  /** Most entries of the feed that all nodes follow; default Infinity. */
  readonly maxFeed?: number;
  /** Milliseconds after which a follower that hears nothing checks its position; default 5,000. */
  readonly checkInterval?: number;
  /**
   * When a change of the primary is another order. `gap`: whenever something can have been lost. `trust`: only
   * where a node knows more than the store. Default `gap`.
   */
  readonly lineage?: 'gap' | 'trust';
  /** Default: no time passes between a request, its effect and its answer, but a turn for promises. */
  readonly network?: StoreNetwork;
  /** Runs what happens in the store itself, apart from the node that caused it. */
  readonly outside?: (act: () => void) => void;
}

/** What happens on the way between a node and the store. */
export interface StoreNetwork {
  /** Milliseconds on the way. Requests and answers of one connection stay in order. */
  delay(node: string, way: 'request' | 'answer' | 'wake'): number;
  /** Whether a command arrives, and its answer. The node learns of neither loss. Default `done`. */
  fate?(node: string, command: string): 'done' | 'lost' | 'unanswered';
  /** Whether a follower is woken. One that is not finds what it missed when it checks its position. */
  wakes?(node: string): boolean;
  /** Called when a command begins that reads, and when it has ended. */
  onRead?(node: string, isBegin: boolean): void;
  /** Milliseconds that a node waits for an answer. */
  readonly timeout: number;
}

export interface Place {
  readonly epoch: number;
  readonly seq: number;
}

interface Held extends LogEntry {
  readonly epoch: number;
  /** The seq of its topic's event before it, held or not. */
  readonly prev: number;
}

type FeedItem =
  | { readonly epoch: number; readonly seq: number; readonly entry: LogEntry | LogChange }
  | { readonly epoch: number; readonly seq: 0; readonly entry: undefined };

interface Meta {
  readonly epoch: number;
  head: number;
  replid: string;
  runId: string;
  /** The epochs before, oldest first, and what the store held of them when they ended. */
  readonly ends: readonly { readonly epoch: number; readonly end: number }[];
}

interface IndexRecord {
  last: number;
  /** Up to this seq, the topic was deleted. */
  deleted: number;
  ended: boolean;
}

/** What the store holds. Each part can be lost alone. */
class Data {
  meta: Meta | undefined;
  feed: FeedItem[] = [];
  readonly histories: Map<string, Held[]> = new Map();
  readonly index: Map<string, IndexRecord> = new Map();
  readonly answers: Map<string, { readonly digest: string; readonly answer: Appended }> = new Map();
}

/** One process that accepts writes, and how it names itself. */
class Server {
  data: Data = new Data();
  /** The writes, in order: a replica that lacks the last ones is what the others make. */
  writes: ((data: Data) => unknown)[] = [];
  replid: string;
  replid2: string = NO_ID;
  runId: string;
  isDown = false;
  readonly polls: Set<() => void> = new Set();

  constructor(replid: string, runId: string) {
    this.replid = replid;
    this.runId = runId;
  }

  write<T>(act: (data: Data) => T): T {
    this.writes.push(act);
    const result = act(this.data);
    for (const wake of [...this.polls]) wake();
    return result;
  }
}

const NO_ID = '0';

/** What one node has with the store: three connections that stand and fall together. */
interface Link {
  readonly node: string;
  server: Server;
  isUp: boolean;
  /** What waits for an answer. */
  readonly waiting: Set<(error: Error) => void>;
  /** When what is on its way arrives, by connection and direction. */
  readonly due: Map<string, number>;
  onUp: () => void;
}

interface Status {
  readonly epoch: number;
  readonly head: number;
  readonly ends: Meta['ends'];
}

interface News extends Status {
  readonly items: readonly FeedItem[];
}

type Refusal = { readonly code: string; readonly status: number; readonly message: string };

export class SharedStore {
  readonly options: Required<Omit<SharedStoreOptions, 'network' | 'outside'>>;
  network: StoreNetwork | undefined;
  readonly #outside: (act: () => void) => void;
  readonly #links: Map<string, Link> = new Map();
  #primary: Server;
  #minority: Server | undefined;
  #ids = 0;
  #lastTime = 0;

  constructor(options: SharedStoreOptions = {}) {
    const { maxEvents = Infinity, maxFeed = Infinity, checkInterval = 5000, lineage = 'gap' } = options;
    this.options = { maxEvents, maxFeed, checkInterval, lineage };
    this.network = options.network;
    this.#outside = options.outside ?? ((act) => act());
    this.#primary = this.#newServer();
  }

  /** The log of a node. A node that was opened before has crashed, or was closed. */
  open(node: string): SharedLog {
    this.crash(node);
    const link: Link = {
      node,
      server: this.#primary,
      isUp: true,
      waiting: new Set(),
      due: new Map(),
      onUp: () => {},
    };
    this.#links.set(node, link);
    return new ModelLog(this, link);
  }

  /** The newest place of the primary. */
  get head(): Place | undefined {
    const { meta } = this.#primary.data;
    return meta && { epoch: meta.epoch, seq: meta.head };
  }

  /** What the store held of an epoch when the next one began; `undefined` for an epoch that it does not know. */
  endOf(epoch: number): number | undefined {
    return this.#primary.data.meta?.ends.find((past) => past.epoch === epoch)?.end;
  }

  isEnded(topic: string): boolean {
    return this.#primary.data.index.get(topic)?.ended === true;
  }

  /** The seqs that a topic holds in the epoch of now. */
  held(topic: string): readonly number[] {
    const { meta, histories } = this.#primary.data;
    return (histories.get(topic) ?? []).filter(({ epoch }) => epoch === meta?.epoch).map(({ seq }) => seq);
  }

  /** How many writes the primary has. */
  get writes(): number {
    return this.#primary.writes.length;
  }

  /** How many writes the two servers of a split have. */
  get sizes(): { readonly minority: number; readonly majority: number } {
    return { minority: this.#minority?.writes.length ?? 0, majority: this.#primary.writes.length };
  }

  /** The epochs that began with the minority of a split: once that ends, nobody knows of them. */
  get strayEpochs(): readonly number[] {
    const known = epochsOf(this.#primary.data.meta);
    return epochsOf(this.#minority?.data.meta).filter((epoch) => !known.includes(epoch));
  }

  isConnected(node: string): boolean {
    return this.#links.get(node)?.isUp === true;
  }

  // ── faults ──────────────────────────────────────────────────────────────────────────────────────────────

  /** Cuts a node off, or all. What was sent and not answered may have happened. */
  disconnect(node?: string): void {
    for (const link of this.#linksOf(node)) this.#break(link);
  }

  reconnect(node?: string): void {
    for (const link of this.#linksOf(node)) {
      if (link.isUp) continue;
      link.isUp = true;
      link.onUp();
    }
  }

  /** The process of a node is gone: nothing reaches it any more. */
  crash(node: string): void {
    const link = this.#links.get(node);
    if (link === undefined) return;
    link.waiting.clear();
    link.isUp = false;
    link.onUp = () => {};
    this.#links.delete(node);
  }

  /** A replica takes over that lacks the last writes. All nodes come back to it. */
  failOver({ lost = 0 }: { readonly lost?: number } = {}): void {
    const old = this.#primary;
    const promoted = this.#copy(old, lost);
    promoted.replid2 = old.replid;
    old.isDown = true;
    this.#primary = promoted;
    this.#moveAll();
  }

  /** The primary starts again, without its last writes. */
  restart({ lost = 0 }: { readonly lost?: number } = {}): void {
    const old = this.#primary;
    old.isDown = true;
    this.#primary = this.#copy(old, lost);
    this.#moveAll();
  }

  /** The same: the primary starts again, without its last writes. */
  loseTail(lost: number): void {
    this.restart({ lost });
  }

  /** The primary gets another replid, although nothing is lost, as when its first replica attaches. */
  renameOrder(): void {
    this.#primary.replid = this.#newId('replid');
    this.#primary.replid2 = NO_ID;
  }

  /** A replica takes over that lacks the last writes, while some nodes go on with the old primary. */
  split({ lost = 0, minority }: { readonly lost?: number; readonly minority: readonly string[] }): void {
    this.heal();
    const old = this.#primary;
    this.#primary = this.#copy(old, lost);
    this.#primary.replid2 = old.replid;
    this.#minority = old;
    for (const link of this.#links.values()) if (!minority.includes(link.node)) this.#move(link);
  }

  /** The old primary takes all from the new one, and the nodes that were with it follow. */
  heal(): void {
    const old = this.#minority;
    if (old === undefined) return;
    old.isDown = true;
    this.#minority = undefined;
    for (const link of this.#links.values()) if (link.server === old) this.#move(link);
  }

  /** Shortens the feed to its newest entries. */
  trimFeed(keep = 0): void {
    this.#primary.write((data) => {
      data.feed = keep === 0 ? [] : data.feed.slice(-keep);
    });
  }

  /** Shortens a topic to its newest events. */
  trim(topic: string, keep: number): void {
    this.#primary.write((data) => {
      const held = data.histories.get(topic);
      if (held !== undefined) data.histories.set(topic, held.slice(Math.max(0, held.length - keep)));
    });
  }

  /** Loses the events of a topic. */
  evict(topic: string): void {
    this.#primary.write((data) => void data.histories.delete(topic));
  }

  /** Loses what is known of all topics. */
  evictIndex(): void {
    this.#primary.write((data) => void data.index.clear());
  }

  evictMeta(): void {
    this.#primary.write((data) => {
      data.meta = undefined;
    });
  }

  /** Loses everything. */
  flush(): void {
    this.#primary.write((data) => Object.assign(data, new Data()));
  }

  #linksOf(node: string | undefined): Link[] {
    if (node === undefined) return [...this.#links.values()];
    const link = this.#links.get(node);
    return link === undefined ? [] : [link];
  }

  #newServer(): Server {
    return new Server(this.#newId('replid'), this.#newId('run'));
  }

  #newId(kind: string): string {
    return `${kind}-${++this.#ids}`;
  }

  #copy(old: Server, lost: number): Server {
    const copy = this.#newServer();
    for (const write of old.writes.slice(0, Math.max(0, old.writes.length - lost))) copy.write(write);
    return copy;
  }

  #moveAll(): void {
    this.#minority = undefined;
    for (const link of this.#links.values()) this.#move(link);
  }

  /** A node that was cut off stays so. */
  #move(link: Link): void {
    const wasUp = link.isUp;
    this.#break(link);
    link.server = this.#primary;
    if (wasUp) this.reconnect(link.node);
  }

  #break(link: Link): void {
    link.isUp = false;
    const waiting = [...link.waiting];
    link.waiting.clear();
    for (const fail of waiting) fail(outcomeUnknown('the connection to the store was lost'));
  }

  // ── commands ────────────────────────────────────────────────────────────────────────────────────────────

  /** Sends a command. What `run` does with the server happens at once, and whole. */
  ask<T>(link: Link, connection: string, run: (server: Server) => T): Promise<T> {
    if (!link.isUp) return Promise.reject(logUnavailable('the store cannot be reached'));
    const fate = this.network?.fate?.(link.node, connection) ?? 'done';
    const { server } = link;
    return new Promise((resolve, fail) => {
      const isRead = connection === 'read';
      if (isRead) this.network?.onRead?.(link.node, true);
      const reject = (error: Error): void => {
        if (isRead) this.network?.onRead?.(link.node, false);
        fail(error);
      };
      const settle = (act: () => void): void => {
        if (link.waiting.delete(reject)) act();
      };
      link.waiting.add(reject);
      this.#travel(link, connection, 'request', () => {
        if (fate === 'lost' || server.isDown) return this.#timeOut(() => settle(() => reject(silent())));
        const result = run(server);
        if (fate === 'unanswered') return this.#timeOut(() => settle(() => reject(silent())));
        this.#travel(link, connection, 'answer', () =>
          settle(() => {
            if (isRead) this.network?.onRead?.(link.node, false);
            resolve(result);
          }),
        );
      });
    });
  }

  /** Resolves once there is something after a place in the feed, or after `checkInterval`. */
  poll(link: Link, after: Place): Promise<News | undefined> {
    if (!link.isUp) return Promise.reject(logUnavailable('the store cannot be reached'));
    const { server } = link;
    return new Promise((resolve, reject) => {
      const stop = (): void => {
        server.polls.delete(wake);
        clearTimeout(timer);
      };
      const fail = (error: Error): void => {
        stop();
        reject(error);
      };
      const answer = (news: News | undefined): void => {
        stop();
        this.#travel(link, 'follow', 'answer', () => {
          if (link.waiting.delete(fail)) resolve(news);
        });
      };
      const wake = (): void => {
        if (this.network?.wakes?.(link.node) === false) return;
        const news = newsAfter(server.data, after);
        if (news !== undefined) answer(news);
      };
      link.waiting.add(fail);
      let timer: NodeJS.Timeout | undefined;
      this.#travel(link, 'follow', 'request', () => {
        if (!link.waiting.has(fail)) return;
        const news = newsAfter(server.data, after);
        if (news !== undefined) return answer(news);
        server.polls.add(wake);
        timer = setTimeout(() => answer(undefined), this.options.checkInterval);
        timer.unref?.();
      });
    });
  }

  #travel(link: Link, connection: string, way: 'request' | 'answer', arrive: () => void): void {
    if (this.network === undefined) return this.#outside(() => queueMicrotask(arrive));
    const now = Date.now();
    const name = `${connection} ${way}`;
    const due = Math.max(link.due.get(name) ?? 0, now + this.network.delay(link.node, way));
    link.due.set(name, due);
    this.#outside(() => void setTimeout(arrive, due - now));
  }

  #timeOut(act: () => void): void {
    this.#outside(() => void setTimeout(act, this.network?.timeout ?? 0));
  }

  // ── scripts ─────────────────────────────────────────────────────────────────────────────────────────────

  /** Microseconds, never the same twice. */
  #time(): number {
    this.#lastTime = Math.max(Math.floor(Date.now() * 1000), this.#lastTime + 1);
    return this.#lastTime;
  }

  /** Whether the order is still the one that the metadata names; begins another where it may not be. */
  check(server: Server, known: Place): Status {
    const decide = this.#lineage(server, known);
    return server.write((data) => {
      decide(data);
      return statusOf(data);
    });
  }

  #lineage({ replid, replid2, runId }: Server, known: Place): (data: Data) => void {
    const time = this.#time();
    const isTrusting = this.options.lineage === 'trust';
    return (data) => {
      const { meta } = data;
      const isSame = replid === meta?.replid || (runId === meta?.runId && replid2 === NO_ID);
      const isKnown = meta !== undefined && (isSame || isTrusting);
      if (isKnown && isIndexed(data) && !isAhead(known, meta)) {
        meta.replid = replid;
        meta.runId = runId;
        return;
      }
      const epoch = Math.max(time, (meta?.epoch ?? 0) + 1, known.epoch + 1);
      const ends = meta === undefined ? [] : [...meta.ends, { epoch: meta.epoch, end: meta.head }];
      data.meta = { epoch, head: 0, replid, runId, ends };
      data.index.clear();
      data.feed.push({ epoch, seq: 0, entry: undefined });
    };
  }

  append(
    server: Server,
    known: Place,
    topic: string,
    events: readonly NewEntry[],
    { idempotency, behind }: AppendOptions,
  ): Appended | Refusal {
    const decide = this.#lineage(server, known);
    const { maxEvents, maxFeed } = this.options;
    return server.write((data) => {
      const record = idempotency && data.answers.get(idempotency.key);
      if (record !== undefined) return record.digest === idempotency?.digest ? record.answer : CONFLICT;
      decide(data);
      if (data.index.get(topic)?.ended) return endedTopic(topic);
      if (events.length > 1 && events.length > maxEvents / 2) return TOO_LARGE;
      const meta = data.meta!;
      const last = data.index.get(topic)?.last ?? 0;
      const isBehind = last === 0 ? behind?.endsWith('-0') : behind === `${meta.epoch}-${last}`;
      if (behind !== undefined && !isBehind) return MOVED;
      const answer = { epoch: meta.epoch, first: meta.head + 1, count: events.length };
      for (const event of events) addEvent(data, meta, topic, event);
      if (idempotency) data.answers.set(idempotency.key, { digest: idempotency.digest, answer });
      const held = data.histories.get(topic) ?? [];
      if (held.length > maxEvents) data.histories.set(topic, held.slice(-maxEvents));
      if (data.feed.length > maxFeed) data.feed = data.feed.slice(-maxFeed);
      return answer;
    });
  }

  /** @returns the place of the change, or `undefined` where there was nothing to change. */
  change(server: Server, known: Place, topic: string, change: TopicChange): Place | undefined {
    const decide = this.#lineage(server, known);
    return server.write((data) => {
      decide(data);
      const record = data.index.get(topic);
      const isChanged = change === 'delete' ? !isDeleted(record) : record?.ended !== (change === 'end');
      if (record === undefined || !isChanged) return undefined;
      record.ended = change === 'end';
      if (change === 'delete') {
        data.histories.delete(topic);
        record.deleted = record.last;
      }
      const meta = data.meta!;
      const seq = ++meta.head;
      data.feed.push({ epoch: meta.epoch, seq, entry: { seq, topic, change } });
      return { epoch: meta.epoch, seq };
    });
  }
}

const MOVED: Refusal = {
  code: 'ERR_SSE_TOPIC_MOVED',
  status: 409,
  message: 'the newest event of the topic is another one',
};

const CONFLICT: Refusal = {
  code: 'ERR_SSE_IDEMPOTENCY_CONFLICT',
  status: 422,
  message: 'this key was used for another request',
};
const TOO_LARGE: Refusal = {
  code: 'ERR_SSE_BATCH_TOO_LARGE',
  status: 413,
  message: 'the batch is larger than half of what a topic keeps',
};

function endedTopic(topic: string): Refusal {
  return { code: 'ERR_SSE_TOPIC_ENDED', status: 409, message: `the topic "${topic}" has ended` };
}

function silent(): Error {
  return outcomeUnknown('the store did not answer');
}

function epochsOf(meta: Meta | undefined): number[] {
  return meta === undefined ? [] : [...meta.ends.map(({ epoch }) => epoch), meta.epoch];
}

function isAhead(known: Place, { epoch, head }: Meta): boolean {
  return known.epoch > epoch || (known.epoch === epoch && known.seq > head);
}

function isIndexed({ index, meta }: Data): boolean {
  return index.size > 0 || meta?.head === 0;
}

function statusOf({ meta }: Data): Status {
  return { epoch: meta?.epoch ?? 0, head: meta?.head ?? 0, ends: meta?.ends ?? [] };
}

function isAfter(one: Place, other: Place): boolean {
  return one.epoch > other.epoch || (one.epoch === other.epoch && one.seq > other.seq);
}

function newsAfter(data: Data, after: Place): News | undefined {
  const status = statusOf(data);
  const items = data.feed.filter((item) => isAfter(item, after));
  const isBehind = isAfter({ epoch: status.epoch, seq: status.head }, after);
  return items.length > 0 || isBehind ? { ...status, items } : undefined;
}

/** Deleted, and neither published to nor ended since: it is not listed. */
function isDeleted(record: IndexRecord | undefined): boolean {
  return record !== undefined && record.deleted === record.last && !record.ended;
}

function addEvent(data: Data, meta: Meta, topic: string, event: NewEntry): void {
  const seq = ++meta.head;
  const record = data.index.get(topic) ?? { last: 0, deleted: 0, ended: false };
  const { at, frame, key } = event;
  const entry: Held = { seq, topic, at, frame, key, epoch: meta.epoch, prev: record.last };
  data.feed.push({ epoch: meta.epoch, seq, entry: { seq, topic, at, frame, key } });
  data.histories.set(topic, [...(data.histories.get(topic) ?? []), entry]);
  record.last = seq;
  data.index.set(topic, record);
}

function heldIn(data: Data, topic: string): Held[] {
  const epoch = data.meta?.epoch;
  return (data.histories.get(topic) ?? []).filter((held) => held.epoch === epoch);
}

/** The newest seq of a topic that was dropped or deleted. */
function droppedOf(data: Data, topic: string): number {
  return heldIn(data, topic)[0]?.prev ?? data.index.get(topic)?.last ?? 0;
}

function pageOf(
  data: Data,
  topics: readonly string[],
  after: number,
  maxBytes: number,
  newestOnly: boolean,
): LogPage {
  const all = topics
    .flatMap((topic) => heldIn(data, topic))
    .filter(({ seq }) => seq > after)
    .sort((a, b) => a.seq - b.seq);
  const wanted = all.filter((entry, i) => !(newestOnly && isReplaced(entry, all.slice(i + 1))));
  let bytes = 0;
  const entries = wanted.filter(({ frame }, i) => {
    bytes += frame.length;
    return i === 0 || bytes <= maxBytes;
  });
  const dropped = topics
    .map((topic) => ({ topic, seq: droppedOf(data, topic) }))
    .filter(({ seq }) => seq > after);
  const until = entries.length === wanted.length ? (data.meta?.head ?? 0) : entries.at(-1)!.seq;
  return { entries: entries.map(({ epoch: _, prev: __, ...entry }) => entry), until, dropped };
}

function isReplaced({ topic, key }: Held, later: readonly Held[]): boolean {
  return key !== undefined && later.some((other) => other.topic === topic && other.key === key);
}

function recordOf(data: Data, topic: string): TopicRecord[] {
  const record = data.index.get(topic);
  if (record === undefined) return [];
  const held = heldIn(data, topic);
  const bytes = held.reduce((sum, { frame }) => sum + frame.length, 0);
  const { last, ended } = record;
  return [{ topic, last, dropped: droppedOf(data, topic), ended, events: held.length, bytes }];
}

// ── the log of a node ───────────────────────────────────────────────────────────────────────────────────────

/** Follows the store, and writes to it. */
export class ModelLog implements SharedLog {
  readonly order = 'shared';
  readonly #store: SharedStore;
  readonly #link: Link;
  /** What the intake was told. */
  #told: Place = { epoch: 0, seq: 0 };
  #isClosed = false;
  #isAway = false;
  readonly #readers: Set<{ readonly place: Place; readonly done: () => void }> = new Set();

  constructor(store: SharedStore, link: Link) {
    this.#store = store;
    this.#link = link;
  }

  follow(intake: LogIntake): void {
    void this.#run(intake);
  }

  async append(topic: string, events: readonly NewEntry[], options: AppendOptions = {}): Promise<Appended> {
    const known = this.#told;
    const answer = await this.#ask('write', (server) =>
      this.#store.append(server, known, topic, events, options),
    );
    if ('code' in answer) throw refused(answer);
    await this.#accepted({ epoch: answer.epoch, seq: answer.first + answer.count - 1 });
    return answer;
  }

  async change(topic: string, change: TopicChange): Promise<boolean> {
    const known = this.#told;
    const place = await this.#ask('write', (server) => this.#store.change(server, known, topic, change));
    if (place !== undefined) await this.#accepted(place);
    return place !== undefined;
  }

  async read(
    topics: readonly string[],
    after: number,
    maxBytes: number,
    { newestOnly }: { readonly newestOnly: boolean },
  ): Promise<LogPage> {
    return this.#look((data) => pageOf(data, topics, after, maxBytes, newestOnly));
  }

  find(topics: readonly string[]): Promise<readonly TopicRecord[]> {
    return this.#look((data) => topics.flatMap((topic) => recordOf(data, topic)));
  }

  list({ after = '', limit = Infinity }: ListOptions): Promise<readonly TopicRecord[]> {
    return this.#look((data) => {
      const names = [...data.index.keys()].filter((name) => name > after && !isDeleted(data.index.get(name)));
      names.sort();
      return names.slice(0, limit).flatMap((name) => recordOf(data, name));
    });
  }

  beforeNewest(topics: readonly string[], count: number): Promise<number> {
    return this.#look((data) => {
      const seqs = topics.flatMap((topic) => heldIn(data, topic).map(({ seq }) => seq)).sort((a, b) => a - b);
      if (count === 0) return data.meta?.head ?? 0;
      return seqs.length === 0 ? (data.meta?.head ?? 0) : seqs[Math.max(0, seqs.length - count)]! - 1;
    });
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#store.disconnect(this.#link.node);
    this.#store.crash(this.#link.node);
  }

  #ask<T>(connection: string, run: (server: Server) => T): Promise<T> {
    if (this.#isAway || this.#told.epoch === 0)
      return Promise.reject(logUnavailable('the store cannot be reached'));
    return this.#store.ask(this.#link, connection, run);
  }

  /**
   * Looks at the store, in the epoch that the intake knows. Without its index, it cannot tell what was dropped.
   */
  async #look<T>(look: (data: Data) => T): Promise<T> {
    const { epoch } = this.#told;
    const found = await this.#ask('read', ({ data }) =>
      data.meta?.epoch === epoch && isIndexed(data) ? { value: look(data) } : undefined,
    );
    if (found === undefined) throw logUnavailable('the order has changed');
    return found.value;
  }

  #accepted(place: Place): Promise<void> {
    if (!isAfter(place, this.#told)) return Promise.resolve();
    return new Promise((done) => this.#readers.add({ place, done }));
  }

  async #run(intake: LogIntake): Promise<void> {
    while (!this.#isClosed) {
      try {
        await this.#up(intake);
        await this.#check(intake);
        for (;;) {
          const news = await this.#store.poll(this.#link, this.#told);
          if (this.#isClosed) return;
          if (news === undefined) await this.#check(intake);
          else this.#take(intake, news);
        }
      } catch (error) {
        if (this.#isClosed) return;
        this.#isAway = true;
        intake.away(error);
      }
    }
  }

  async #up(intake: LogIntake): Promise<void> {
    if (this.#link.isUp) return;
    if (!this.#isAway) intake.away(logUnavailable('the store cannot be reached'));
    this.#isAway = true;
    await new Promise<void>((resolve) => {
      this.#link.onUp = resolve;
    });
  }

  async #check(intake: LogIntake): Promise<void> {
    const known = this.#told;
    const status = await this.#store.ask(this.#link, 'follow', (server) => this.#store.check(server, known));
    if (this.#isClosed) return;
    if (this.#isAway) {
      this.#isAway = false;
      intake.back();
    }
    if (this.#told.epoch === 0) this.#begin(intake, status);
  }

  /** A node that starts knows the ends of the epochs before, and nothing of what was in them. */
  #begin(intake: LogIntake, { epoch, head, ends }: Status): void {
    let oldEnd = 0;
    for (const past of ends) {
      intake.renew(past.epoch, oldEnd);
      if (past.end > 0) intake.skip(past.end);
      oldEnd = past.end;
    }
    intake.renew(epoch, oldEnd);
    if (head > 0) intake.skip(head);
    this.#move({ epoch, seq: head });
  }

  #take(intake: LogIntake, { items, epoch, head, ends }: News): void {
    const entries: (LogEntry | LogChange)[] = [];
    let { epoch: own, seq } = this.#told;
    const flush = (): void => {
      if (entries.length > 0) intake.accept(entries.splice(0));
    };
    const skip = (to: number): void => {
      if (to <= seq) return;
      flush();
      intake.skip(to);
      seq = to;
    };
    const renew = (to: number): void => {
      flush();
      for (const next of [
        ...ends.filter((past) => past.epoch > own && past.epoch < to),
        { epoch: to, end: 0 },
      ]) {
        const oldEnd = ends.find((past) => past.epoch === own)?.end ?? 0;
        skip(oldEnd);
        intake.renew(next.epoch, oldEnd);
        [own, seq] = [next.epoch, 0];
      }
    };
    for (const item of items) {
      if (item.epoch > own) renew(item.epoch);
      if (item.entry === undefined || item.seq <= seq) continue;
      skip(item.seq - 1);
      entries.push(item.entry);
      seq = item.seq;
    }
    flush();
    if (epoch > own) renew(epoch);
    if (epoch === own) skip(head);
    this.#move({ epoch: own, seq });
  }

  #move(place: Place): void {
    this.#told = place;
    for (const reader of this.#readers) {
      if (isAfter(reader.place, place)) continue;
      this.#readers.delete(reader);
      reader.done();
    }
  }
}

function refused({ code, status, message }: Refusal): Error {
  return Object.assign(new Error(message), { code, status });
}
