// Opens the log under test for one clause of the contract, writes to it, reads it, and records what it says.
// Needs `decode.ts`, `hub.ts`, `log.ts`, `log-intake.ts` and `protocol.ts` beside it.

import assert from 'node:assert/strict';
import { createDecoder, type DecodedEvent } from './decode.ts';
import { Hub, type HubOptions, type Sink, type SubscribeOptions } from './hub.ts';
import type {
  Appended,
  AppendOptions,
  AppendRecord,
  ListOptions,
  Log,
  LogEntry,
  LogPage,
  OwnLog,
  SharedLog,
  TopicChange,
  TopicRecord,
} from './log.ts';
import { Gate, Heard } from './log-intake.ts';
import { controlEvents, type EventId, parseId, readGap } from './protocol.ts';

/**
 * How the contract opens logs of yours. `Store` is what they are opened on and what outlives them: the path of
 * a file, a prefix of keys.
 */
export interface LogHarness<Store = unknown> {
  /** Who gives out the seqs. `'none'` for a hub without a log: then only clauses of the hub are run. */
  readonly order: 'own' | 'shared' | 'none';
  /** Makes an empty store. Called once for each clause. */
  create(): Store | Promise<Store>;
  /**
   * Opens a log on a store, as a process does when it starts. Of an own order, one is open at a time. Of a
   * shared order, each is another node.
   */
  open(store: Store): Log | undefined | Promise<Log | undefined>;
  /** Removes a store, after the logs that are open there were closed. */
  dispose?(store: Store): void | Promise<void>;
  /** Own order: whether the logs have the member `recall`. */
  readonly recall?: boolean | undefined;
  /** What can go wrong with it. A clause that needs a fault which is not here is not covered. */
  readonly faults?: LogFaults<Store> | undefined;
}

/** Ways to make things go wrong, for both orders and for one of them. Each may answer with a promise. */
export interface LogFaults<Store = unknown> {
  /** Drops the events of a topic up to a seq, as retention does. */
  drop?(store: Store, topic: string, seq: number): void | Promise<void>;
  /** Forgets a topic with its record, as where there are too many topics. */
  forget?(store: Store, topic: string): void | Promise<void>;
  /** Shortens the store from outside, up to a seq, so that it cannot know what it held. */
  truncate?(store: Store, seq: number): void | Promise<void>;
  /**
   * Loses the newest events, of all topics: at a loss of power, or where a replica takes over that did not have
   * them. Each was appended by itself. An own log is closed before, and opened again afterwards. A shared one is
   * open.
   */
  loseTail?(store: Store, count: number): void | Promise<void>;

  /** Own order: appends fail, or no longer. */
  failAppends?(store: Store, on: boolean): void | Promise<void>;
  /** Own order: the process dies. The log is not closed, and can be opened again afterwards. */
  crash?(store: Store, log: Log): void | Promise<void>;

  /** Shared order: a node loses its connection to the store, or gets it back. */
  disconnect?(store: Store, log: Log): void | Promise<void>;
  reconnect?(store: Store, log: Log): void | Promise<void>;
  /** Shared order: the next append of this node is written, and its answer does not arrive. */
  loseAnswer?(store: Store, log: Log): void | Promise<void>;
  /** Shared order: empties the feed that nodes follow. The histories of topics still have what was in it. */
  trimFeed?(store: Store): void | Promise<void>;
}

/** What a clause needs of a harness: faults, or that logs have the member `recall`. */
export type LogNeed = keyof LogFaults | 'recall';

/** One sentence that holds for every log of an order. */
export interface Rule {
  readonly property: string;
  readonly title: string;
  readonly orders: readonly LogHarness['order'][];
  readonly needs: readonly LogNeed[];
  readonly hold: (trial: Trial) => Promise<void>;
}

/** What a rule says, and how it is tried. */
export type Sentence = Pick<Rule, 'title' | 'needs' | 'hold'>;

/** Rules of one property and the same orders. */
export function rulesOf(
  property: string,
  orders: Rule['orders'],
  sentences: readonly Sentence[],
): readonly Rule[] {
  return sentences.map((sentence) => ({ property, orders, ...sentence }));
}

export const own: readonly LogHarness['order'][] = ['own'];
export const shared: readonly LogHarness['order'][] = ['shared'];
export const everyLog: readonly LogHarness['order'][] = ['own', 'shared'];
export const everyHub: readonly LogHarness['order'][] = ['own', 'shared', 'none'];

/** What a clause does with one store. */
export class Trial {
  readonly order: LogHarness['order'];
  readonly #harness: LogHarness;
  readonly #store: unknown;
  readonly #patience: number;
  readonly #open = new Set<LogNode | HubNode>();

  private constructor(harness: LogHarness, store: unknown, patience: number) {
    this.order = harness.order;
    this.#harness = harness;
    this.#store = store;
    this.#patience = patience;
  }

  /** Gives a rule a store of its own, and removes it afterwards. */
  static async of(rule: Rule, harness: LogHarness, patience: number): Promise<void> {
    const trial = new Trial(harness, await harness.create(), patience);
    try {
      await rule.hold(trial);
    } finally {
      for (const node of trial.#open) await node.close().catch(() => {});
      await harness.dispose?.(trial.#store);
    }
  }

  async openLog(): Promise<Log> {
    const log = await this.#harness.open(this.#store);
    assert.ok(log !== undefined, '`open` of the harness must return a log');
    return log;
  }

  /** Opens a log without a hub. A shared one has told its order. */
  async log(): Promise<LogNode> {
    const node = new LogNode(this, await this.openLog());
    this.#open.add(node);
    if (node.log.order === 'shared') {
      await this.until(() => node.heard.epoch > 0, '`follow` tells the order by `renew`');
    }
    return node;
  }

  /** Opens a hub on a log. */
  async hub(options: HubOptions = {}): Promise<HubNode> {
    const log = this.order === 'none' ? undefined : await this.openLog();
    const node = new HubNode(this, log, options);
    this.#open.add(node);
    await this.until(() => node.hub.failure === undefined, 'a hub reaches its log');
    return node;
  }

  /** Shared order: opens a hub on a log that cannot be reached. */
  async hubAway(): Promise<HubNode> {
    const log = await this.openLog();
    const cut = this.fault('disconnect', log);
    const node = new HubNode(this, log, {});
    this.#open.add(node);
    await cut;
    return node;
  }

  /** A hub of a process that has started since: the next one, another node, or the same without a log. */
  async restarted(node: HubNode, options: HubOptions = {}): Promise<HubNode> {
    if (this.order === 'none') return node;
    await this.close(node);
    return this.hub(options);
  }

  /** Closes a node. */
  async close(node: LogNode | HubNode): Promise<void> {
    this.#open.delete(node);
    await node.close();
  }

  /** The process of a node dies. */
  async crash(node: LogNode | HubNode): Promise<void> {
    this.#open.delete(node);
    await this.fault('crash', node.log);
  }

  /** Makes something go wrong. */
  async fault<Name extends keyof LogFaults>(name: Name, ...args: FaultArguments<Name>): Promise<void> {
    const fault = this.#harness.faults?.[name] as ((...args: unknown[]) => void | Promise<void>) | undefined;
    assert.ok(fault !== undefined, `the harness has no fault \`${name}\``);
    await fault.call(this.#harness.faults, this.#store, ...args);
  }

  /** Waits until something holds. Fails where it does not within the patience of the suite. */
  async until(holds: () => boolean, what: string): Promise<void> {
    const limit = performance.now() + this.#patience;
    for (let round = 0; !holds(); round++) {
      if (performance.now() > limit) assert.fail(`did not happen in ${this.#patience} ms: ${what}`);
      await turn(round);
    }
  }
}

type FaultArguments<Name extends keyof LogFaults> =
  NonNullable<LogFaults[Name]> extends (store: unknown, ...args: infer Args) => void | Promise<void>
    ? Args
    : never;

/** The first rounds of a wait go by quickly, later ones leave time to others. */
async function turn(round: number): Promise<void> {
  await new Promise<void>((resolve) => {
    if (round < 100) setImmediate(resolve);
    else setTimeout(resolve, 5);
  });
}

/** Lets what has been begun in this process go on for some turns. Never enough to conclude that nothing comes. */
export async function someTurns(): Promise<void> {
  for (let round = 0; round < 20; round++) await turn(round);
}

// ── a log without a hub ───────────────────────────────────────────────────────────────────────────────────

/** What to append: its text, and the value that it updates. */
export type Text = string | { readonly text: string; readonly key: string };

/** A log, used as a hub would. */
export class LogNode {
  readonly log: Log;
  /** What a shared log has told. */
  readonly heard: Heard = new Heard();
  readonly #trial: Trial;
  #head: number;

  constructor(trial: Trial, log: Log) {
    this.#trial = trial;
    this.log = log;
    this.#head = log.order === 'shared' ? 0 : log.head;
    if (log.order === 'shared') log.follow(this.heard);
  }

  get own(): OwnLog {
    assert.ok(this.log.order !== 'shared', 'the harness says that the order is an own one');
    return this.log;
  }

  get shared(): SharedLog {
    assert.ok(this.log.order === 'shared', 'the harness says that the order is shared');
    return this.log;
  }

  /** Appends some events of one topic, and returns their seqs. */
  async put(topic: string, ...texts: readonly Text[]): Promise<readonly number[]> {
    if (this.log.order === 'shared') {
      const { first } = await this.share(topic, texts);
      return texts.map((_, i) => first + i);
    }
    const entries = this.entries(...texts.map((text) => [topic, text] as const));
    this.log.append(entries, []);
    return entries.map(({ seq }) => seq);
  }

  /** Own order: the next entries. They take their seqs, kept or not. */
  entries(...events: readonly (readonly [topic: string, text: Text])[]): readonly LogEntry[] {
    return events.map(([topic, text]) => ({ seq: ++this.#head, topic, ...eventOf(text) }));
  }

  /** Own order: appends entries, and records of requests. */
  append(entries: readonly LogEntry[], records: readonly AppendRecord[] = []): void {
    return this.own.append(entries, records);
  }

  /** Own order: leaves out some seqs, as a hub does whose append has failed. */
  burn(count: number): void {
    this.#head += count;
  }

  /** Shared order: appends a batch. */
  share(topic: string, texts: readonly Text[], options?: AppendOptions): Promise<Appended> {
    return this.shared.append(topic, texts.map(eventOf), options);
  }

  async change(topic: string, change: TopicChange): Promise<boolean> {
    return this.log.change(topic, change);
  }

  async page(
    topics: readonly string[],
    after: number,
    { maxBytes = Infinity, newestOnly = false }: ReadOptions = {},
  ): Promise<LogPage> {
    return this.log.read(topics, after, maxBytes, { newestOnly });
  }

  /** Reads page after page until one reaches a seq. */
  async pages(
    topics: readonly string[],
    after: number,
    upTo: number,
    options?: ReadOptions,
  ): Promise<readonly LogPage[]> {
    const pages: LogPage[] = [];
    for (let at = after; at < upTo; ) {
      const page = await this.page(topics, at, options);
      assert.ok(page.until > at, `\`until\` of a page after ${at} must be above that, got ${page.until}`);
      at = page.until;
      pages.push(page);
    }
    return pages;
  }

  /** The texts after a seq, read in one page. */
  async texts(topics: readonly string[], after: number = 0): Promise<readonly string[]> {
    return (await this.page(topics, after)).entries.map(textOf);
  }

  async record(topic: string): Promise<TopicRecord | undefined> {
    return (await this.log.find([topic])).find((record) => record.topic === topic);
  }

  async list(options: ListOptions = {}): Promise<readonly string[]> {
    return (await this.log.list(options)).map(({ topic }) => topic);
  }

  async beforeNewest(topics: readonly string[], count: number): Promise<number> {
    return this.log.beforeNewest(topics, count);
  }

  /** Shared order: the texts that it was told. */
  get told(): readonly string[] {
    return this.heard.entries.flatMap((entry) => ('frame' in entry ? textOf(entry) : []));
  }

  /** Shared order: waits until the entries up to a seq of an epoch have arrived. */
  async hears(seq: number, epoch: number = this.heard.epoch): Promise<void> {
    const { heard } = this;
    const has = (): boolean => heard.epoch > epoch || (heard.epoch === epoch && heard.position >= seq);
    await this.#trial.until(has, `the intake of a node gets the entries up to ${seq}`);
  }

  async close(): Promise<void> {
    await this.log.close?.();
  }
}

interface ReadOptions {
  readonly maxBytes?: number;
  readonly newestOnly?: boolean;
}

/** When the events of clauses are published. */
const PUBLISHED_AT: number = Date.now();

/** An event without a place. */
export function eventOf(text: Text): { at: number; frame: Uint8Array; key: string | undefined } {
  const { text: data, key } = typeof text === 'string' ? { text, key: undefined } : text;
  return { at: PUBLISHED_AT, frame: Buffer.from(`data: ${data}\n\n`), key };
}

/** The text of an entry. */
export function textOf({ frame }: { readonly frame: Uint8Array }): string {
  return Buffer.from(frame).toString().slice('data: '.length, -2);
}

// ── a hub on a log ────────────────────────────────────────────────────────────────────────────────────────

/** A hub on the log, and those who read from it. */
export class HubNode {
  readonly hub: Hub;
  /** `undefined` for a hub without a log. */
  readonly #log: Log | undefined;
  readonly #trial: Trial;
  readonly #gate: Gate = new Gate();

  constructor(trial: Trial, log: Log | undefined, options: HubOptions) {
    this.#trial = trial;
    this.#log = log;
    const followed = log?.order === 'shared' ? this.#gate.before(log) : log;
    this.hub = new Hub({ log: followed, onError: () => {}, ...options });
  }

  /** Shared order: what the log tells reaches the hub late; with `false`, all of it arrives. */
  lag(on: boolean): void {
    this.#gate.isShut = on;
    if (!on) this.#gate.open();
  }

  /** Own order: the seq that an id stands for. Shared order: that of its epoch. */
  seqIn(id: string): number {
    const { log } = this;
    return (log.order === 'shared' ? 0 : log.epochs.at(-1)!.base) + seqOf(id);
  }

  get log(): Log {
    assert.ok(this.#log !== undefined, 'the harness has no log');
    return this.#log;
  }

  /** Appends events one by one, and returns their ids. */
  async put(topic: string, ...texts: readonly Text[]): Promise<readonly string[]> {
    const ids: string[] = [];
    for (const text of texts) ids.push(await this.hub.append(topic, hubEventOf(text)));
    return ids;
  }

  /** Opens a stream. */
  read(topics: string | readonly string[], options?: SubscribeOptions): StreamReader {
    const reader = new StreamReader(this.#trial);
    this.hub.subscribe(topics, reader, options);
    return reader;
  }

  /** Opens a stream, and waits until the client knows where it begins. */
  async reader(topics: string | readonly string[], options?: SubscribeOptions): Promise<StreamReader> {
    const reader = this.read(topics, options);
    await reader.until(() => reader.isReady, controlEvents.ready);
    return reader;
  }

  close(): Promise<void> {
    return this.hub.close();
  }
}

export function hubEventOf(text: Text): { data: string; key?: string } {
  return typeof text === 'string' ? { data: text } : { data: text.text, key: text.key };
}

/** A client in memory: it takes everything, and keeps what it got. */
export class StreamReader implements Sink {
  readonly events: DecodedEvent[] = [];
  closed = false;
  /** The status with which it was refused. */
  status = 200;
  readonly #trial: Trial;
  readonly #decoder = createDecoder({ onEvent: (event) => this.events.push(event) });
  readonly #onClose = new Set<() => void>();

  constructor(trial: Trial) {
    this.#trial = trial;
  }

  write(chunk: Uint8Array): boolean {
    this.#decoder.feed(chunk);
    return true;
  }

  refuse(status: 204): void {
    this.status = status;
    this.end();
  }

  end(): void {
    if (this.closed) return;
    this.closed = true;
    for (const listener of [...this.#onClose]) listener();
  }

  /** The client leaves. */
  leave(): void {
    this.end();
  }

  on(event: string, listener: () => void): void {
    if (event === 'close') this.#onClose.add(listener);
  }

  off(_event: string, listener: () => void): void {
    this.#onClose.delete(listener);
  }

  get lastEventId(): string {
    return this.#decoder.lastEventId;
  }

  /** What it got, in order: the data of events, and the types of control events, but that it is ready. */
  get story(): readonly string[] {
    return this.events.flatMap(({ event, data }) => {
      if (event === controlEvents.gap) return `gap ${readGap(data, '').reason}`;
      if (event === controlEvents.end) return 'end';
      return Object.values<string>(controlEvents).includes(event) ? [] : data;
    });
  }

  /** The application's events, without those of the hub. */
  get texts(): readonly string[] {
    return this.#own.map(({ data }) => data);
  }

  get ids(): readonly string[] {
    return this.#own.map(({ lastEventId }) => lastEventId);
  }

  get #own(): readonly DecodedEvent[] {
    return this.events.filter(({ event }) => !Object.values<string>(controlEvents).includes(event));
  }

  get gaps(): readonly {
    readonly reason: string;
    readonly to: string;
    readonly topics: readonly string[];
  }[] {
    return this.events
      .filter(({ event }) => event === controlEvents.gap)
      .map(({ data, lastEventId }) => readGap(data, lastEventId));
  }

  get isReady(): boolean {
    return this.events.some(({ event }) => event === controlEvents.ready);
  }

  /** Waits until its newest event has this text. */
  async reaches(text: string): Promise<void> {
    await this.until(() => this.texts.at(-1) === text, text);
  }

  /** Waits until it got something. */
  async until(holds: () => boolean, what: string): Promise<void> {
    await this.#trial.until(holds, `a reader gets ${what}`).catch((error: Error) => {
      assert.fail(`${error.message}; it got ${JSON.stringify(this.story)}`);
    });
  }
}

/** The seq in an id. */
export function seqOf(id: string): number {
  return partsOf(id).seq;
}

/** The epoch in an id. */
export function epochOf(id: string): number {
  return partsOf(id).epoch;
}

function partsOf(id: string): EventId {
  const parsed = parseId(id);
  assert.ok(parsed !== undefined, `not an id: ${id}`);
  return parsed;
}
