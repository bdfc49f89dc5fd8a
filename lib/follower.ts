// Follows a log that several hubs share: takes its entries into the history of this hub, in order.
// Needs `cursors.ts`, `delivery.ts`, `history.ts`, `log.ts` and `order.ts` beside it.

import type { Group, Topic } from './cursors.ts';
import type { Delivery, DeliveryLog } from './delivery.ts';
import type { EncodedEvent, History } from './history.ts';
import {
  type LogChange,
  type LogEntry,
  type LogIntake,
  type LogPage,
  logUnavailable,
  type SharedLog,
  type TopicChange,
  type TopicRecord,
} from './log.ts';
import type { Order } from './order.ts';

export interface FollowerOptions {
  readonly log: SharedLog;
  readonly order: Order;
  readonly history: History<Group>;
  readonly delivery: () => Delivery;
  /** Called for each event that was taken. */
  readonly accepted: (bytes: number) => void;
  /** Called where clients that wait for the log may find their place now. */
  readonly moved: () => void;
  readonly onError: (error: unknown, task: 'read' | 'follow') => void;
}

/** The intake of a hub. Seqs of the log count from the beginning of the present epoch, those of a hub do not. */
export class Follower implements LogIntake, DeliveryLog {
  readonly readsParents = false;
  readonly #options: FollowerOptions;
  #away: unknown;
  #isAway = false;
  #isClosed = false;
  /** Topics may have ended or gone on while nothing was received. */
  #isOutdated = false;
  #isLearning = false;
  /** For each question that is open: the topics that the log has told of since it was asked. */
  readonly #told = new Set<Set<string>>();
  #skips = 0;

  constructor(options: FollowerOptions) {
    this.#options = options;
  }

  /** Whether the log has said where its order is. */
  get hasBegun(): boolean {
    return this.#options.order.epoch !== 0;
  }

  get failure(): Error | undefined {
    if (this.#isClosed) return logUnavailable('the hub is closed');
    if (this.#isAway) {
      const why = this.#away instanceof Error ? this.#away.message : String(this.#away);
      return logUnavailable(`the log cannot be reached at present: ${why}`, this.#away);
    }
    return this.hasBegun ? undefined : logUnavailable('the log was not reached yet');
  }

  /** Why nothing can be published. */
  get writeFailure(): Error | undefined {
    return this.failure ?? this.#options.log.failure;
  }

  close(): void {
    this.#isClosed = true;
  }

  // ── the intake ───────────────────────────────────────────────────────────────────────────────────────────

  accept(entries: readonly (LogEntry | LogChange)[]): void {
    if (this.#isClosed || !this.hasBegun) return;
    const { order, moved } = this.#options;
    for (const entry of entries) {
      const seq = order.base + entry.seq;
      if (seq <= order.head) continue;
      // What lies between was not received, whatever the reason.
      if (seq > order.head + 1) this.#skipTo(seq - 1);
      order.head = seq;
      try {
        if ('change' in entry) this.#change(entry.topic, entry.change);
        else this.#take(entry, seq);
      } catch (error) {
        // This hub cannot keep it, because of its own limits or its `history` function: it reads it from the log.
        this.#pass(entry.topic, seq);
        this.#options.onError(error, 'follow');
      }
    }
    moved();
  }

  skip(seq: number): void {
    const { order, moved } = this.#options;
    if (this.#isClosed || !this.hasBegun || order.base + seq <= order.head) return;
    this.#skipTo(order.base + seq);
    moved();
  }

  renew(epoch: number, oldEnd: number): void {
    const { order, history, moved } = this.#options;
    if (this.#isClosed || epoch === order.epoch) return;
    const isFirst = !this.hasBegun;
    order.renew(epoch, order.base + oldEnd);
    this.#options.delivery().forgetLogPages();
    // The store may have lost that a topic has ended, or that one goes on. Until it has said so, none has.
    const endedBefore = [...history].filter(({ ended }) => ended);
    for (const { name } of endedBefore) history.reopen(name);
    this.#isOutdated = !isFirst;
    for (const topic of history) this.#announce(topic);
    this.#learnAll();
    moved();
  }

  away(error: unknown): void {
    if (this.#isClosed) return;
    if (!this.#isAway) this.#options.onError(error, 'follow');
    this.#isAway = true;
    this.#away = error;
  }

  back(): void {
    if (!this.#isAway || this.#isClosed) return;
    this.#isAway = false;
    this.#away = undefined;
    this.#options.delivery().resume();
    this.#learnAll();
    this.#options.moved();
  }

  #skipTo(seq: number): void {
    const { order, history } = this.#options;
    this.#skips++;
    history.skip(seq);
    order.head = seq;
    for (const topic of history) this.#announce(topic);
    this.#isOutdated = true;
    this.#learnAll();
  }

  #pass(name: string, seq: number): void {
    const { history } = this.#options;
    const topic = history.get(name);
    this.#tell(name);
    history.pass(topic, seq);
    if (topic !== undefined) this.#announce(topic);
  }

  #take({ topic: name, at, frame, key }: LogEntry, seq: number): void {
    const { history, order, accepted } = this.#options;
    // An event of a topic that has ended: it goes on, and the log has not said so.
    if (history.endOf(name) !== undefined) history.reopen(name);
    const prepared = history.prepare(name);
    const id = Buffer.from(`id: ${order.id(seq)}\n`, 'latin1');
    const event: EncodedEvent = {
      seq,
      at,
      frame: Buffer.concat([id, frame]),
      bytes: id.length + frame.length,
      key,
    };
    history.check(prepared, event);
    this.#tell(name);
    this.#announce(history.append(prepared, event));
    accepted(event.bytes);
  }

  /** Takes over a change of a topic that has happened in the log. */
  #change(name: string, change: TopicChange): void {
    const { history } = this.#options;
    this.#tell(name);
    if (change === 'reopen') return void history.reopen(name);
    if (change === 'delete') {
      this.#options.delivery().forgetLogPages();
      return void history.delete(name);
    }
    const topic = history.get(name);
    if (topic === undefined || topic.ended) return;
    history.hold(topic);
    topic.ended = true;
    topic.deleted = false;
    this.#announce(topic);
  }

  #announce(topic: Topic): void {
    if (topic.followers.size > 0) this.#options.delivery().announce(topic);
  }

  // ── what the log knows ───────────────────────────────────────────────────────────────────────────────────

  read(
    topics: readonly string[],
    after: number,
    maxBytes: number,
    options: { readonly newestOnly: boolean },
  ): Promise<LogPage> {
    const { log, order } = this.#options;
    const { base } = order;
    return Promise.resolve(log.read(topics, after - base, maxBytes, options)).then((page) => ({
      entries: page.entries.map((entry) => ({ ...entry, seq: base + entry.seq })),
      until: base + page.until,
      dropped: page.dropped.map(({ topic, seq }) => ({ topic, seq: base + seq })),
      truncated: page.truncated === undefined ? undefined : base + page.truncated,
    }));
  }

  failed(error: unknown): void {
    this.#options.onError(error, 'read');
  }

  #tell(name: string): void {
    for (const told of this.#told) told.add(name);
  }

  /** Asks the log for what it knows of topics, and takes that over. Seqs of the records are those of the hub. */
  async learn(names: readonly string[]): Promise<Map<string, TopicRecord>> {
    const known = new Map<string, TopicRecord>();
    for (let i = 0; i < names.length; i += MAX_ASKED) await this.#ask(names.slice(i, i + MAX_ASKED), known);
    return known;
  }

  async #ask(names: readonly string[], known: Map<string, TopicRecord>): Promise<void> {
    const { log, order } = this.#options;
    const { epoch, base } = order;
    const skips = this.#skips;
    const told = new Set<string>();
    this.#told.add(told);
    try {
      const records = await log.find(names);
      if (order.epoch !== epoch) return;
      for (const record of records) known.set(record.topic, shift(record, base));
      // What was not received since the log was asked may be newer than its answer: memory then knows less, and
      // `#skipTo` has it asked again.
      if (this.#skips !== skips) return;
      // What the log has said since it was asked is newer than its answer.
      for (const name of names) if (!told.has(name)) this.#apply(name, known.get(name));
    } finally {
      this.#told.delete(told);
    }
  }

  #apply(name: string, record: TopicRecord | undefined): void {
    const { history, order } = this.#options;
    const topic = history.get(name);
    // What it says of events that have not arrived comes with these.
    if (topic === undefined || (record?.last ?? 0) > order.head) return;
    if (record !== undefined) history.know(topic, record.last);
    const ended = record?.ended === true;
    if (ended === topic.ended) return;
    topic.ended = ended;
    if (ended) this.#announce(topic);
  }

  /** Finds out which of the topics that are followed have ended, or go on, where the log may not have said so. */
  #learnAll(): void {
    if (!this.#isOutdated || this.#isLearning || this.#isAway || this.#isClosed) return;
    this.#isOutdated = false;
    this.#isLearning = true;
    const names: string[] = [];
    for (const { name, ended, followers } of this.#options.history) {
      if (ended || followers.size > 0) names.push(name);
    }
    this.learn(names).then(
      () => this.#learned(),
      (error: unknown) => {
        this.#isOutdated = true;
        this.#options.onError(error, 'follow');
        const timer = setTimeout(() => this.#learned(), LEARN_AGAIN_DELAY);
        timer.unref?.();
      },
    );
  }

  #learned(): void {
    this.#isLearning = false;
    this.#learnAll();
  }
}

/** In the seqs of a hub. */
function shift(record: TopicRecord, base: number): TopicRecord {
  const { last, dropped } = record;
  return { ...record, last: last && base + last, dropped: dropped && base + dropped };
}

/** Most topics of one question to the log. */
const MAX_ASKED = 1000;

/** Milliseconds. */
const LEARN_AGAIN_DELAY = 1000;
