// A fuzzer of the hub, from one seed: short scenarios with misbehaving sinks, logs and application code, and an
// oracle of its own. The oracle knows what was published, what the limits promise, and what was written to each
// connection. It looks into the hub through its public members only.

import { subscribe as listen } from 'node:diagnostics_channel';
import {
  type HistoryLimits,
  Hub,
  type HubEvent,
  type HubOptions,
  type SubscribeOptions,
} from '../../lib/hub.ts';
import type { LogEntry, LogPage } from '../../lib/log.ts';
import { EPOCH, TestLog } from '../helpers/hub.ts';
import {
  type Beginning,
  type Client,
  Connection,
  Injected,
  type Manners,
  NOT_OWED,
  readId,
  UNSEEN,
} from './fuzz-connection.ts';
import { batchBytes, type Held, type MemoryLimits, type Published, Retention } from './retention.ts';
import { Chance } from './world.ts';

/** The most events of one scenario, and of a large one. */
const CAPACITY = 512;
const LARGE_CAPACITY = 2600;

/** The most bytes that a large scenario publishes. */
const LARGE_BYTES = 6 * 1024 * 1024;

/** Smaller pages are always copied. */
const MIN_SLICE_BYTES = 16 * 1024;

/** So much that the turns of a hub have to be rationed. */
const HUGE = 'x'.repeat(120_000);

/** What the fuzzer has seen wrong. */
export class Finding extends Error {
  readonly kind: string;
  readonly steps: number;
  readonly story: readonly string[];

  constructor(kind: string, message: string, steps: number, story: readonly string[]) {
    super(`${kind}: ${message}`);
    this.kind = kind;
    this.steps = steps;
    this.story = story;
  }
}

/** How often scenarios have met what a history in segments can do. */
export interface Tally {
  /** Pages that are a part of a segment, and pages of as many bytes that were copied. */
  slices: number;
  copies: number;
  /** Topics that lost a part of their events for `maxHistoryBytes`, and topics that lost all of them. */
  partsShed: number;
  topicsShed: number;
  /** Batches that were taken and refused, in scenarios with a finite `maxHistoryBytes`. */
  batches: number;
  batchesRefused: number;
}

/**
 * Runs the scenario of one seed. Throws a `Finding`; with `tells`, it has the story of the scenario.
 * @returns what it met.
 */
export async function fuzzHub(seed: number, tells = false): Promise<Tally> {
  const fuzz = new HubFuzz(seed, tells);
  await fuzz.run();
  return fuzz.tally;
}

/** An event as the hub gets it, and as the oracle knows it. */
interface Draft {
  readonly given: HubEvent;
  readonly event: Published;
}

type BatchError = Error & { readonly code: string; readonly maxEvents: number; readonly maxBytes: number };

let current: HubFuzz | undefined;
let isListening = false;

/**
 * A log that holds less than memory, as much, or more, and keeps nothing but events. What a log knows of topics, and
 * one that fails to append, are in the simulation of nodes.
 */
class FuzzLog extends TestLog {
  readonly #fuzz: HubFuzz;
  readonly #keeps: number;
  readonly #forgetsTopic: string | undefined;
  /** It leaves out what newer events replace, on whatever page they are. */
  readonly conflates: boolean;

  constructor(fuzz: HubFuzz) {
    super(EPOCH);
    this.#fuzz = fuzz;
    this.#keeps = fuzz.chance.pick([1, 2, 4, Infinity, Infinity, Infinity]);
    this.#forgetsTopic = fuzz.chance.of(0.2) ? 't0' : undefined;
    this.conflates = fuzz.chance.of(0.7);
  }

  override read(
    topics: readonly string[],
    after: number,
    maxBytes: number,
    options: { readonly newestOnly: boolean },
  ): LogPage | Promise<LogPage> {
    return super.read(topics, after, maxBytes, this.conflates ? options : { newestOnly: false });
  }

  override append(entries: readonly LogEntry[]): void {
    if (this.#fuzz.odd(0.05)) this.#fuzz.reactToAppend();
    for (const entry of entries) this.#keep(entry);
  }

  override find(): [] {
    return [];
  }

  override change(): boolean {
    return this.#fuzz.expectedChange;
  }

  #keep(entry: LogEntry): void {
    super.append([entry]);
    if (this.#forgetsTopic === entry.topic && this.#fuzz.chance.of(0.5)) this.drop(entry.topic, entry.seq);
    while (this.size > this.#keeps) this.trim(this.oldest);
  }
}

export class HubFuzz {
  readonly chance: Chance;
  readonly tells: boolean;
  readonly story: string[] = [];
  epoch: number = EPOCH;
  /** By seq. */
  readonly events: (Published | undefined)[] = [];
  head = 0;
  /** How many turns have begun. */
  turn = 0;
  time = 0;
  /** What happens after a while: the close of a sink is noticed, a log answers. */
  later: (() => void)[] = [];
  /** From here on nothing fails any more. */
  isCalm = false;
  delivered = 0;
  deliveredBytes = 0;
  readonly maxPageBytes: number;
  readonly maxAge: number;
  readonly closesOvertaken: boolean;
  hub: Hub;
  readonly #isOdd: boolean;
  /** How often a sink calls other code inside its writes, where it does. */
  readonly reactivity: number;
  readonly #isHuge: boolean;
  /** Up to thousands of events and 40 KB each, so that topics have many segments. */
  readonly #isLarge: boolean;
  /** How often an event of a large scenario is large itself. */
  readonly #largeness: number;
  readonly capacity: number;
  readonly tally: Tally = {
    slices: 0,
    copies: 0,
    partsShed: 0,
    topicsShed: 0,
    batches: 0,
    batchesRefused: 0,
  };
  readonly #topics: readonly string[];
  readonly #bits: Map<string, number> = new Map();
  readonly #keys: number;
  readonly #keyLength: number;
  readonly #clients: Client[] = [];
  readonly #connections: Connection[] = [];
  readonly #options: HubOptions;
  readonly #log: FuzzLog | undefined;
  readonly #limits: MemoryLimits;
  readonly #hasOddClock: boolean;
  /** Topics end, and come back. */
  readonly #endsOften: boolean;
  /** Sources wait for readers. */
  readonly #waits: boolean;
  #waiting = 0;
  /** The log answers at once. */
  readonly #isLogPrompt: boolean;
  readonly #channelActs: boolean;
  /** The hub has no epoch given, at the beginning of time. */
  readonly #namesItself: boolean;
  #memory: Retention;
  #planned: (() => void)[] = [];
  #isTruncated = false;
  #steps = 0;
  #depth = 0;
  /** What the next change of a topic must answer. */
  expectedChange = false;
  #failedReads = 0;
  #isInTurn = false;
  #isPublishing = false;
  /** `schedule` has failed, so that the next turn comes without it. */
  #owesImmediate = false;
  #found: { kind: string; message: string } | undefined;
  readonly #counts = { published: 0, publishedBytes: 0, resumed: 0, started: 0 };
  #gaps = new Map<string, number>();
  #toldGaps = new Map<string, number>();
  /** A count that a fault of ours has made unknowable. */
  #isVague = false;

  constructor(seed: number, tells: boolean) {
    this.chance = new Chance(seed);
    this.tells = tells;
    const { chance } = this;
    this.#isOdd = chance.of(0.4);
    this.reactivity = chance.pick([0.02, 0.1, 0.4]);
    this.#isHuge = chance.of(0.0007);
    this.#isLarge = chance.of(0.12);
    this.#largeness = chance.pick([0.01, 0.1, 0.1, 0.4]);
    this.capacity = this.#isLarge ? LARGE_CAPACITY : CAPACITY;
    this.#topics = Array.from({ length: chance.pick([1, 1, 2, 2, 3, 4, 8]) }, (_, i) => `t${i}`);
    this.#topics.forEach((topic, i) => void this.#bits.set(topic, 1 << i));
    this.#keys = chance.pick(this.#isLarge ? [0, 3, 300, 3000] : [0, 1, 2, 3]);
    this.#keyLength = chance.pick([0, 0, 0, 200]);
    this.maxPageBytes = chance.pick(
      this.#isLarge ? [300, 4096, 20_000, 65_536, 65_536, 131_072] : [1, 60, 130, 300, 65536],
    );
    this.closesOvertaken = chance.of(0.15);
    this.#channelActs = this.#isOdd && chance.of(0.3);
    const history = this.#anyLimits();
    this.maxAge = history.maxAge ?? Infinity;
    this.#limits = {
      history,
      maxHistoryBytes: this.#anyMaxHistoryBytes(),
      maxPageBytes: this.maxPageBytes,
      maxTopics: chance.of(0.25) ? this.#fewerTopics() : Infinity,
      maxFollowedTopics: chance.of(0.2) ? this.#fewerTopics() : Infinity,
    };
    this.#log = chance.of(this.#isLarge ? 0.05 : 0.3) ? new FuzzLog(this) : undefined;
    this.#isLogPrompt = chance.of(0.5);
    this.#options = {
      ...this.#limits,
      history: chance.of(0.5) ? history : () => this.#limitsOf(history),
      overtaken: this.closesOvertaken ? 'close' : 'gap',
      retry: 1000,
    };
    this.#memory = new Retention(this.#limits, 0);
    this.#hasOddClock = this.maxAge === Infinity && chance.of(0.2);
    this.#waits = chance.of(0.05);
    this.#endsOften = chance.of(0.2);
    this.#namesItself = this.#log === undefined && chance.of(0.03);
    this.hub = this.#open();
    if (this.#namesItself) this.epoch = readId(this.hub.position)!.epoch;
    if (tells) this.#tellOptions(seed);
    for (let i = chance.below(4); i >= 0; i--) this.#addClient();
  }

  /** Fewer than there are, so that the limit is met. */
  #fewerTopics(): number {
    const { length } = this.#topics;
    return length > 1 ? 1 + this.chance.below(length - 1) : Infinity;
  }

  #anyLimits(): { maxEvents?: number; maxBytes?: number; maxAge?: number } {
    const { chance } = this;
    const limits: { maxEvents?: number; maxBytes?: number; maxAge?: number } = {};
    if (chance.of(this.#isLarge ? 0.4 : 0.6))
      limits.maxEvents = chance.pick(this.#isLarge ? [1, 3, 8, 50, 300, 2000] : [1, 2, 3, 5, 8]);
    if (chance.of(0.25))
      limits.maxBytes = chance.pick(this.#isLarge ? [2000, 50_000, 500_000] : [70, 150, 400]);
    if (chance.of(0.15)) limits.maxAge = chance.pick([5, 20]);
    return limits;
  }

  /** From less than one event up to 4 MiB. */
  #anyMaxHistoryBytes(): number {
    const { chance } = this;
    if (!chance.of(this.#isLarge ? 0.7 : 0.3)) return Infinity;
    const [least, most] = this.#isLarge ? [2048, 4 * 1024 * 1024] : [100, 20_000];
    return Math.round(least * (most / least) ** chance.next());
  }

  #open(): Hub {
    const log = this.#log;
    if (log !== undefined) log.answer = (look) => this.#answer(look);
    this.#planned = [];
    return new Hub({
      ...this.#options,
      log,
      ...(!this.#namesItself && log === undefined && { epoch: this.epoch }),
      now: () => this.#tellTime(),
      random: () => this.#random(),
      schedule: (turn) => {
        if (this.odd(0.01)) {
          if (this.tells) this.tell('  schedule throws');
          this.#owesImmediate = true;
          throw new Injected('schedule failed');
        }
        this.#planned.push(turn);
      },
      onDelivered: ({ latency }) => {
        if (latency < 0 || (latency > this.time && !this.#hasOddClock))
          this.find('latency', `a latency of ${latency}`);
        if (this.#isInTurn && this.odd(0.03)) throw new Injected('onDelivered failed');
      },
    });
  }

  #limitsOf(limits: HistoryLimits): HistoryLimits {
    if (this.odd(0.05)) throw new Injected('history failed');
    return limits;
  }

  #tellTime(): number {
    if (!this.#hasOddClock || !this.odd(0.02)) return this.time;
    this.#memory.jump();
    if (this.chance.of(0.5)) throw new Injected('now failed');
    return NaN;
  }

  #random(): number {
    if (this.odd(0.05)) throw new Injected('random failed');
    return this.#namesItself ? 0 : this.odd(0.1) ? 2 : 0.5;
  }

  #tellOptions(seed: number): void {
    const log = this.#log === undefined ? 'no log' : 'a log';
    const odd = this.#isOdd ? ', odd code' : '';
    this.tell(
      `seed ${seed}: ${JSON.stringify({ ...this.#limits.history, ...this.#options, history: undefined })}, ${log}${odd}`,
    );
  }

  #addClient(): void {
    const { chance } = this;
    // Many follow what others follow: they share pages.
    const other = chance.of(0.4) ? this.#clients.at(-1) : undefined;
    const some = this.#topics.filter(() => chance.of(0.6));
    const topics = other?.topics ?? (some.length > 0 ? some : [this.#topics[0]!]);
    const client: Client = {
      name: `client ${this.#clients.length + 1}`,
      topics,
      bits: topics.reduce((bits, topic) => bits | this.bitOf(topic), 0),
      conflate: other?.conflate ?? chance.of(0.3),
      lastId: undefined,
      status: new Uint8Array(this.capacity),
      past: [],
      isFinished: false,
      connection: undefined,
    };
    this.#clients.push(client);
    if (this.tells) this.tell(`${client.name} follows ${topics}${client.conflate ? ', conflated' : ''}`);
  }

  // ── what connections ask ─────────────────────────────────────────────────────────────────────────────────

  tell(line: string): void {
    this.story.push(line);
  }

  /** Keeps the first finding. Sinks cannot throw it: the hub would take that for an error of the sink. */
  find(kind: string, message: string): void {
    if (this.tells && this.#found === undefined) this.tell(`  !! ${kind}: ${message}`);
    this.#found ??= { kind, message };
  }

  bitOf(topic: string): number {
    return this.#bits.get(topic) ?? 0;
  }

  get hasLog(): boolean {
    return this.#log !== undefined;
  }

  /** Whether a fault that only odd scenarios have happens now. */
  odd(probability: number): boolean {
    return this.#isOdd && !this.isCalm && this.chance.of(probability);
  }

  /** A getter of an odd sink, while the hub works for many. */
  mayThrow(connection: Connection, what: string): void {
    if (!this.#isInTurn || this.#depth > 0 || !this.odd(0.01)) return;
    if (this.tells) this.tell(`  ${what} of ${connection.name} throws`);
    connection.cause = `${what} threw`;
    this.#isVague = true;
    throw new Injected(`${what} threw`);
  }

  seqs(after: number, upTo: number, wanted: (event: Published) => boolean): number[] {
    const seqs: number[] = [];
    for (let seq = after + 1; seq <= upTo; seq++) {
      const event = this.events[seq];
      if (event !== undefined && wanted(event)) seqs.push(seq);
    }
    return seqs;
  }

  /** Whether memory or the log must still hold an event. */
  holds(event: Published): boolean {
    return this.#memory.holds(event, this.time) || this.#log?.has(event.seq) === true;
  }

  /** The log, or a record of topics that memory has forgotten, may say too much from here. */
  mayHaveForgotten(seq: number): boolean {
    return this.#log !== undefined || this.#memory.newestForgotten > seq;
  }

  allowsGap(reason: string): boolean {
    return reason === 'evicted' || (reason === 'truncated' && this.#isTruncated);
  }

  countGap(reason: string, topics: readonly string[]): void {
    this.#gaps.set(reason, (this.#gaps.get(reason) ?? 0) + 1);
    if (topics.length === 0) this.find('wrong-gap', 'a gap without topics');
  }

  /** A part of a larger memory, unless it is of the pool that Node has for small Buffers, is one of a segment. */
  countPage({ byteLength, buffer }: Uint8Array, events: number): void {
    if (byteLength < MIN_SLICE_BYTES) return;
    if (buffer.byteLength > byteLength) this.tally.slices++;
    else if (events > 1) this.tally.copies++;
  }

  excusesEnd(): boolean {
    return this.#failedReads-- > 0;
  }

  /** A newer event of its key was there before this turn began. */
  isOutdated(event: Published): boolean {
    if (this.#log !== undefined && !(this.#isLogPrompt && this.#log.conflates)) return false;
    return this.events[event.next]!.turn < this.turn;
  }

  /** The hub no longer counts a connection. */
  left(connection: Connection): void {
    const index = this.#connections.indexOf(connection);
    if (index < 0) return;
    this.#connections.splice(index, 1);
    for (const name of connection.client.topics) this.#memory.unfollow(name);
  }

  /** Code that a sink, a handler or a `may` calls while the hub is at work. */
  react(connection: Connection | undefined, where: string): void {
    if (this.#depth > 1) return;
    this.#depth++;
    if (this.tells) this.tell(`  ${where}${connection ? ` of ${connection.name}` : ''}:`);
    const dice = this.chance.below(11);
    if (dice < 2) this.#publish();
    // A drain inside a write that is refused after it means that the sink takes more.
    else if (dice === 7 && connection !== undefined && where !== 'inside its write') connection.drain();
    else if (dice === 2) this.#connectAny();
    else if (dice === 3 && connection !== undefined) this.#release(connection);
    else if (dice === 4 && connection !== undefined) this.#cut(connection);
    else if (dice === 5) this.#kick();
    else if (dice === 6) this.#end();
    else if (dice === 8) this.#delete();
    else if (dice === 9) this.#reopen();
    else this.#cutAny();
    this.#depth--;
  }

  /** Code that a log calls before the event has its place. */
  reactToAppend(): void {
    if (this.#depth > 1) return;
    this.#depth++;
    if (this.tells) this.tell('  inside log.append:');
    this.chance.pick([
      () => this.#connectAny(),
      () => this.#cutAny(),
      () => this.#kick(),
      () => this.#publishInside(),
    ])();
    this.#depth--;
  }

  #publishInside(): void {
    try {
      this.hub.publish('t0', { data: 'x' });
    } catch (error) {
      if ((error as { code?: string }).code === 'ERR_SSE_PUBLISH_INSIDE') return;
    }
    this.find('wrong-publish', 'log.append can publish');
  }

  // ── the scenario ─────────────────────────────────────────────────────────────────────────────────────────

  async run(): Promise<void> {
    current = this;
    if (!isListening)
      listen('sluice.hub.gap', (message) => current?.onChannel(message as { reason: string }));
    isListening = true;
    const steps = 20 + this.chance.below(80);
    for (; this.#steps < steps; this.#steps++) {
      this.#step();
      if (this.hasLog || this.#owesImmediate || this.#waits) await this.#breathe();
      this.#throwFound();
    }
    await this.#finish();
    this.#throwFound();
    current = undefined;
  }

  onChannel({ reason }: { reason: string }): void {
    this.#toldGaps.set(reason, (this.#toldGaps.get(reason) ?? 0) + 1);
    if (this.#channelActs && this.odd(0.5))
      this.react(this.#anyConnection(), 'a subscriber of the gap channel');
  }

  #anyConnection(): Connection | undefined {
    return this.#connections.length > 0 ? this.chance.pick(this.#connections) : undefined;
  }

  /** Lets the answers of the log arrive. */
  async #breathe(): Promise<void> {
    for (let i = 0; i < 3; i++) await null;
    while (this.#owesImmediate) {
      this.#owesImmediate = false;
      this.turn++;
      if (this.tells) this.tell(`turn ${this.turn}, without schedule`);
      await new Promise((resolve) => setImmediate(resolve));
    }
    // The next source is let through once no promise of the one before is left.
    if (this.#waits) await new Promise((resolve) => setImmediate(resolve));
  }

  #throwFound(): void {
    if (this.#found === undefined) return;
    current = undefined;
    throw new Finding(this.#found.kind, this.#found.message, this.#steps, this.story);
  }

  #step(): void {
    const { chance } = this;
    const dice = chance.next();
    if (dice < 0.3) this.#publish();
    else if (dice < 0.55) this.#runTurn();
    else if (dice < 0.7) this.#connectAny();
    else if (dice < 0.78) this.#cutAny();
    else if (dice < 0.85) this.#drainAny();
    else if (dice < 0.88) this.#doLater();
    else if (dice < 0.91) this.#beat();
    else if (dice < 0.94) this.#pass(chance.below(8));
    else if (dice < 0.95) this.#inspect();
    else if (dice < 0.96 && this.#waits) this.#wait();
    else this.#disturb(chance.below(this.#endsOften ? 4 : 10));
  }

  #disturb(dice: number): void {
    const { chance } = this;
    if (dice < 2) this.#end();
    else if (dice === 2) this.#reopen();
    else if (dice === 3) this.#delete();
    else if (dice === 4 && this.#connections.length > 0) this.#release(chance.pick(this.#connections));
    else if (dice === 5) this.#withdraw();
    else if (dice === 6) this.#restart();
    else if (dice === 7) this.#shortenLog();
    else if (dice === 8) this.#kick();
    else this.#rest();
  }

  #pass(duration: number): void {
    this.time += duration;
    if (this.tells) this.tell(`${duration} ms pass`);
  }

  #runTurn(): boolean {
    const turn = this.#planned.shift();
    if (turn === undefined) return false;
    this.turn++;
    this.#failedReads = 0;
    if (this.tells) this.tell(`turn ${this.turn}`);
    this.#isInTurn = true;
    try {
      turn();
    } catch (error) {
      const isOwn = error instanceof Injected && /onDelivered/.test(error.message);
      if (!isOwn) this.find('turn-threw', `a turn throws ${(error as Error).message}`);
    }
    this.#isInTurn = false;
    return true;
  }

  // ── publishing ───────────────────────────────────────────────────────────────────────────────────────────

  #publish(): void {
    const { chance } = this;
    const topic = chance.pick(this.#topics);
    const most = this.#isLarge ? [1, 3, 20, 100, 300] : [1, 1, 2, 3, 5, 20];
    const count = this.hasEnded(topic) ? 1 : chance.pick(most);
    if (this.head + Math.max(count, 70) > this.capacity - 95) return;
    const { maxHistoryBytes } = this.#limits;
    if (maxHistoryBytes !== Infinity && chance.of(0.3)) this.#crowd(topic);
    else if (chance.of(0.3)) this.#publishAll(topic, count);
    else for (let i = 0; i < count; i++) this.#publishAll(topic, 1, false);
  }

  /** A batch comes while memory is nearly full. */
  #crowd(topic: string): void {
    const { maxHistoryBytes } = this.#limits;
    const enough = maxHistoryBytes * this.chance.pick([0.5, 0.7, 0.9]);
    for (let i = 0; i < 50 && this.hub.historyBytes < enough; i++) this.#publishAll(topic, 1, false);
    this.#publishAll(topic, this.chance.pick([2, 5, 20]));
  }

  #publishAll(topic: string, count: number, isBatch = true): void {
    this.#publishDrafts(
      topic,
      Array.from({ length: count }, (_, i) => this.#draft(topic, this.head + 1 + i)),
      isBatch,
    );
  }

  #publishDrafts(topic: string, drafts: readonly Draft[], isBatch: boolean): void {
    const events = drafts.map(({ event }) => event);
    const expected = this.#expected(topic, events);
    const given = drafts.map((draft) => draft.given);
    const wasPublishing = this.#isPublishing;
    this.#isPublishing = true;
    let ids: readonly string[] = [];
    let error: unknown;
    try {
      ids = isBatch ? this.hub.publishAll(topic, given) : [this.hub.publish(topic, given[0]!)];
    } catch (thrown) {
      error = thrown;
    }
    // A change of a topic hands over to the log what was published.
    if (error === undefined && this.hasLog) this.hub.reopen('none');
    this.#isPublishing = wasPublishing;
    if (error !== undefined) {
      if (this.tells) this.tell(`publish ${drafts.length} to ${topic} fails: ${(error as Error).message}`);
      this.#checkError('publish', error, expected);
      return this.#publishLess(topic, drafts, error as BatchError);
    }
    if (!expected.includes(undefined))
      this.find('wrong-publish', `${topic} takes events, expected ${expected}`);
    if (ids.join() !== events.map(({ seq }) => `${this.epoch}-${seq}`).join())
      this.find('wrong-id', `published as ${ids}, expected ${events[0]!.seq} and so on`);
    let most = 0;
    for (const event of events) {
      const { seq, key, bytes } = event;
      if (this.tells)
        this.tell(`publish ${topic} ${seq}${key ? ` key ${key.slice(0, 5)}` : ''} (${bytes} bytes)`);
      this.#record(event);
      if (this.#limits.maxHistoryBytes !== Infinity) most = Math.max(most, this.#memory.mostBytes);
    }
    if (this.#limits.maxHistoryBytes !== Infinity) this.#learn(events, most);
    const lost = events.find((event) => !this.#memory.holds(event, this.time));
    if (lost !== undefined)
      this.find('batch-lost', `a batch of ${events.length} pushes its own ${lost.seq} out`);
  }

  /** What memory has lost for `maxHistoryBytes`. */
  #learn(events: readonly Published[], most: number): void {
    const isBatch = events.length > 1;
    const { parts, topics, wrong } = this.#memory.learn(
      {
        counts: new Map(this.hub.topics().map((info) => [info.topic, info.events])),
        historyBytes: this.hub.historyBytes,
        most,
        now: this.time,
        isBatch,
      },
      events.at(-1)!,
    );
    if (wrong !== undefined) this.find('wrong-shed', wrong);
    if (this.tells && parts + topics > 0)
      this.tell(`  ${topics} topics lose all events, and ${parts} a part, for maxHistoryBytes`);
    this.tally.partsShed += parts;
    this.tally.topicsShed += topics;
    if (isBatch) this.tally.batches++;
  }

  /** A batch that was too large is split, as its error says. */
  #publishLess(topic: string, drafts: readonly Draft[], { code, maxEvents, maxBytes }: BatchError): void {
    if (code !== 'ERR_SSE_BATCH_TOO_LARGE') return;
    if (this.#limits.maxHistoryBytes !== Infinity) this.tally.batchesRefused++;
    const bytes = drafts.reduce((sum, { event }) => sum + event.bytes, 0);
    const isLess = maxEvents < drafts.length || maxBytes < bytes;
    if (!(maxEvents >= 1 && maxBytes >= 1 && isLess))
      this.find(
        'wrong-publish',
        `a batch of ${drafts.length} with ${bytes} bytes is too large, and ${maxEvents} with ${maxBytes} would not be`,
      );
    const fewer = maxEvents < drafts.length ? maxEvents : Math.ceil(drafts.length / 2);
    this.#publishDrafts(topic, drafts.slice(0, fewer), true);
  }

  #draft(topic: string, seq: number): Draft {
    const { chance } = this;
    const isKeyed = this.#keys > 0 && chance.of(0.7);
    const key = isKeyed ? `k${chance.below(this.#keys)}`.padEnd(this.#keyLength, '.') : undefined;
    const [fields, body] = this.#anyEvent();
    const text = `id: ${this.epoch}-${seq}\n${body}\n`;
    const event: Published = {
      seq,
      topic,
      key,
      text,
      bytes: Buffer.byteLength(text),
      bit: this.bitOf(topic),
      at: this.time,
      turn: this.turn,
      next: 0,
      deleted: undefined,
    };
    return { given: { ...fields, key } as HubEvent, event };
  }

  #anyEvent(): [object, string] {
    const { chance } = this;
    if (this.#isLarge && chance.of(0.9)) return this.#anyLargeEvent();
    const n = chance.below(1000);
    const dice = chance.below(12);
    if (dice === 0) return [{ json: { n } }, `data: {"n":${n}}\n`];
    if (dice === 1) return [{ event: 'tick', data: `${n}` }, `event: tick\ndata: ${n}\n`];
    if (dice === 2) return [{ data: `${n}\nzwei` }, `data: ${n}\ndata: zwei\n`];
    if (dice === 3 && !this.#isHuge) return [{ data: `☃${n}é` }, `data: ☃${n}é\n`];
    if (dice === 3 && this.#isHuge) return [{ data: HUGE }, `data: ${HUGE}\n`];
    if (dice === 4) return [{ data: 'x'.repeat(100) }, `data: ${'x'.repeat(100)}\n`];
    if (dice === 5) return [{ data: '' }, 'data: \n'];
    return [{ data: `${n}` }, `data: ${n}\n`];
  }

  #anyLargeEvent(): [object, string] {
    const { chance } = this;
    const isLarge = chance.of(this.#largeness) && this.#counts.publishedBytes < LARGE_BYTES;
    const length = 1 + chance.below(isLarge ? 40_000 : 200);
    const data = chance.of(0.1) ? '☃'.repeat(Math.ceil(length / 3)) : 'x'.repeat(length);
    return [{ data }, `data: ${data}\n`];
  }

  #record(event: Published): void {
    this.#memory.append(event);
    this.#link(event);
    this.head = event.seq;
    this.events[event.seq] = event;
    this.#counts.published++;
    this.#counts.publishedBytes += event.bytes;
  }

  #link({ topic, key, seq }: Published): void {
    if (key === undefined) return;
    for (let i = seq - 1; i > 0; i--) {
      const earlier = this.events[i];
      if (earlier?.key !== key || earlier.topic !== topic) continue;
      earlier.next = seq;
      return;
    }
  }

  /** What may come of it: codes of errors, and `undefined` where the events may be taken. */
  #expected(topic: string, events: readonly Published[]): readonly (string | undefined)[] {
    if (this.#isPublishing) return ['ERR_SSE_PUBLISH_INSIDE'];
    if (this.hasEnded(topic)) return ['ERR_SSE_TOPIC_ENDED'];
    const { history, maxHistoryBytes } = this.#limits;
    const { maxEvents = 10_000, maxBytes = 4 * 1024 * 1024 } = history;
    if (events.length > Math.max(1, Math.floor(maxEvents / 2))) return ['ERR_SSE_BATCH_TOO_LARGE'];
    const tooLarge = events.findIndex(({ bytes }) => bytes > Math.min(maxBytes, 1024 * 1024 + 64 * 1024));
    const after = tooLarge < 0 ? undefined : 'ERR_SSE_EVENT_TOO_LARGE';
    if (events.length === 1) return [after];
    // Events are looked at one by one.
    const some = tooLarge < 0 ? events : events.slice(0, tooLarge);
    const wire = some.reduce((sum, { bytes }) => sum + bytes, 0);
    const [least, most] = batchBytes(some, this.#limits);
    const isTooMuch =
      wire > Math.floor(Math.min(maxBytes, maxHistoryBytes) / 2) || least > maxHistoryBytes / 2;
    if (isTooMuch) return ['ERR_SSE_BATCH_TOO_LARGE'];
    return most > maxHistoryBytes / 2 ? [after, 'ERR_SSE_BATCH_TOO_LARGE'] : [after];
  }

  hasEnded(topic: string): boolean {
    return this.#memory.endOf(topic) !== undefined;
  }

  #checkError(what: string, error: unknown, expected: readonly (string | undefined)[]): void {
    if (error instanceof Injected) return;
    const { code = (error as Error).message } = error as { code?: string };
    if (!expected.includes(code))
      this.find(
        `wrong-${what}`,
        `${what} throws ${code}, expected ${expected.map((one) => one ?? 'nothing')}`,
      );
  }

  /** A source waits until readers have caught up. */
  #wait(): void {
    const topic = this.chance.pick(this.#topics);
    if (this.tells) this.tell(`a source waits for readers of ${topic}`);
    const { hub } = this;
    this.#waiting++;
    hub.ready(topic).then(
      () => {
        if (hub === this.hub) this.#checkReady(topic);
        this.#waiting--;
      },
      (error: Error) => this.find('wrong-ready', `ready rejects with ${error.message}`),
    );
  }

  #checkReady(topic: string): void {
    if (this.tells) this.tell(`  readers of ${topic} are ready`);
    if (this.#isOdd || this.hasLog) return;
    const { maxEvents = 10_000 } = this.#limits.history;
    for (const connection of this.#connections) {
      if (connection.isGone || (connection.isBlocked && this.time - connection.blockedAt >= 100)) continue;
      if (connection.lagIn(topic) * 4 >= maxEvents)
        this.find('ready-too-early', `${connection.name} is behind in ${topic}`);
    }
  }

  /** Whoever has not read for a while holds no source back. */
  async #checkWaiting(): Promise<void> {
    this.time += 200;
    const topic = this.#topics.find((name) => !this.hasEnded(name));
    if (topic === undefined) return;
    // Those that wait for one topic are let through one after another.
    for (let turns = this.#waiting; turns > 0 && this.#waiting > 0; turns--) {
      this.#publishAll(topic, 1, false);
      await this.#settle();
    }
    if (this.#waiting > 0) this.find('stuck', `${this.#waiting} sources still wait for readers`);
  }

  // ── connections ──────────────────────────────────────────────────────────────────────────────────────────

  #connectAny(): void {
    const { chance } = this;
    if (this.#clients.length < 5 && chance.of(0.05)) this.#addClient();
    const idle = this.#clients.filter((client) => client.connection === undefined && !client.isFinished);
    if (idle.length > 0) this.#connect(chance.pick(idle));
  }

  #connect(client: Client): void {
    const { chance } = this;
    const lastId = this.#anyId(client);
    const drawn: SubscribeOptions = chance.pick([
      {},
      {},
      { from: 'earliest' },
      { from: 'now' },
      { last: chance.below(6) },
      { last: chance.below(3), from: 'earliest' },
    ]);
    // With a log, that decides where the past begins.
    const begin = this.hasLog ? {} : drawn;
    for (const name of client.topics) this.#memory.topics.get(name)?.expire(this.time);
    const beginning = this.#beginning(client, lastId, begin);
    const isOver = this.#isFinished(client, beginning, begin);
    const isFull = !isOver && this.#memory.isFull(client.topics);
    const connection = new Connection(
      this,
      client,
      beginning,
      this.#anyManners(),
      `${client.name}${lastId === undefined ? '' : '°'}`,
    );
    if (this.tells) {
      const start =
        lastId === undefined
          ? JSON.stringify(begin)
          : `id ${readId(lastId)?.epoch === this.epoch ? readId(lastId)!.seq : lastId}`;
      this.tell(`${client.name} connects with ${start}`);
    }
    client.connection = connection;
    if (!isOver && !isFull) this.#enter(connection);
    if (isOver) connection.cause = 'its topics have ended';
    try {
      const may =
        this.#isOdd && chance.of(0.5) ? () => this.#may(connection) : () => this.#isAllowed(connection);
      connection.subscription = this.hub.subscribe(this.#spelled(client.topics), connection, {
        ...(lastId !== undefined && { lastEventId: chance.of(0.1) ? [lastId] : lastId }),
        ...begin,
        conflate: client.conflate,
        ...(connection.manners.asksMay && { may }),
      });
    } catch (error) {
      this.#onFailedSubscribe(connection, error, isFull);
      return;
    }
    this.#checkSubscribed(connection, isOver, isFull);
  }

  #enter(connection: Connection): void {
    const { client, begins } = connection;
    for (const name of client.topics) this.#memory.follow(name);
    this.#connections.push(connection);
    this.#counts[begins.lastId === undefined ? 'started' : 'resumed']++;
    if (begins.reason !== undefined) this.countGap(begins.reason, client.topics);
  }

  #onFailedSubscribe(connection: Connection, error: unknown, isFull: boolean): void {
    connection.client.connection = undefined;
    const isInjected = error instanceof Injected;
    if (!isInjected) this.#checkError('subscribe', error, [isFull ? 'ERR_SSE_TOO_MANY_FOLLOWED' : undefined]);
    const isEntered = this.#connections.includes(connection);
    this.left(connection);
    if (isEntered) this.#uncount(connection);
    if (connection.listeners > 0)
      this.find('not-released', `${connection.name} could not subscribe, and has listeners of the hub`);
  }

  #uncount({ begins }: Connection): void {
    this.#counts[begins.lastId === undefined ? 'started' : 'resumed']--;
    if (begins.reason !== undefined) this.#gaps.set(begins.reason, this.#gaps.get(begins.reason)! - 1);
  }

  #checkSubscribed(connection: Connection, isOver: boolean, isFull: boolean): void {
    const { client, subscription } = connection;
    if (isFull)
      this.find('wrong-subscribe', `${connection.name} subscribes, though there are too many topics`);
    if (isOver !== connection.isRefused)
      this.find('wrong-204', `${connection.name} ${isOver ? 'must get' : 'must not get'} 204`);
    if (!isOver && this.chance.of(0.03)) this.#subscribeAgain(connection);
    if (!isOver) return;
    if (!subscription?.closed) this.find('wrong-204', `${connection.name} got 204, and is not closed`);
    client.connection = undefined;
    client.isFinished = true;
  }

  /** A sink takes one subscription. A second call changes nothing. */
  #subscribeAgain(connection: Connection): void {
    if (!connection.isOpen) return;
    try {
      this.hub.subscribe('t0', connection);
    } catch (error) {
      if (error instanceof TypeError) return;
    }
    this.find('wrong-subscribe', `${connection.name} can subscribe twice`);
  }

  #spelled(topics: readonly string[]): string | readonly string[] {
    if (topics.length === 1 && this.chance.of(0.5)) return topics[0]!;
    return this.chance.of(0.3) ? topics.toReversed().concat(topics[0]!) : topics;
  }

  #anyId(client: Client): string | undefined {
    const { chance } = this;
    const dice = this.isCalm ? 1 : chance.next();
    if (dice < 0.02) return 'x'.repeat(chance.pick([3, 3000]));
    if (dice < 0.04) return `${this.epoch}-1, ${this.epoch}-1`;
    if (dice < 0.06) return `${this.epoch - 1}-${chance.below(9)}`;
    if (dice < 0.08) return `${this.epoch}-${this.head + 1 + chance.below(3)}`;
    if (dice < 0.14) return `${this.epoch}-${chance.below(this.head + 1)}`;
    if (dice < 0.2 && client.past.length > 0) return chance.pick(client.past);
    return client.lastId;
  }

  #beginning(client: Client, lastId: string | undefined, { from, last }: SubscribeOptions): Beginning {
    const { head } = this;
    const id = readId(lastId);
    const status = new Uint8Array(this.capacity);
    if (lastId !== undefined && id?.epoch === this.epoch && id.seq <= head) {
      // What was called lost stays lost. The rest is owed, also what it had before it went back to an old id.
      for (let seq = id.seq + 1; seq <= head; seq++) status[seq] = client.status[seq] === 2 ? 2 : UNSEEN;
      return { lastId, status, reason: undefined, resumesAfter: id.seq, head, least: 0 };
    }
    status.fill(NOT_OWED, 0, head + 1);
    if (lastId !== undefined) {
      const reason = id === undefined ? 'malformed' : id.epoch === this.epoch ? 'ahead' : 'unknown-epoch';
      return { lastId, status, reason, resumesAfter: undefined, head, least: 0 };
    }
    const held = this.seqs(
      0,
      head,
      (event) => (event.bit & client.bits) !== 0 && this.#memory.holds(event, this.time),
    );
    const count = last ?? (from === 'earliest' ? held.length : 0);
    const owed = count === 0 ? [] : held.slice(-count);
    for (const seq of owed) status[seq] = UNSEEN;
    const least = owed.length < held.length ? (owed[0] ?? head + 1) - 1 : this.#earliest(client);
    return { lastId, status, reason: undefined, resumesAfter: undefined, head, least };
  }

  /** From here on a client of these topics gets all that is held, and as few gaps as possible. */
  #earliest({ topics }: Client): number {
    let least = this.head;
    for (const name of topics) {
      const topic = this.#memory.topics.get(name);
      const [oldest] = topic?.events ?? [];
      if (oldest !== undefined) least = Math.min(least, oldest.seq - 1);
    }
    return least;
  }

  /** All its topics have ended, and nothing is left to deliver. */
  #isFinished(
    { topics, bits }: Client,
    { reason, resumesAfter, status }: Beginning,
    _: SubscribeOptions,
  ): boolean {
    if (reason !== undefined || !topics.every((topic) => this.hasEnded(topic))) return false;
    if (resumesAfter === undefined) return !this.#owes(bits, status);
    return topics.every((topic) => this.#memory.endOf(topic)! <= resumesAfter);
  }

  #owes(bits: number, status: Uint8Array): boolean {
    return this.seqs(0, this.head, ({ seq, bit }) => (bit & bits) !== 0 && status[seq] === UNSEEN).length > 0;
  }

  #anyManners(): Manners {
    const { chance } = this;
    const isOdd = this.#isOdd && chance.of(0.6);
    return {
      refuses: chance.pick([0, 0, 0.3, 0.8]),
      isHalfDead: chance.of(0.05),
      hidesState: chance.of(0.1),
      shares: chance.of(0.5),
      aborts: chance.of(0.7),
      asksMay: chance.of(0.6),
      isOdd,
    };
  }

  #isAllowed(connection: Connection): boolean {
    if (!connection.mayRead) connection.cause ??= 'permission was withdrawn';
    return connection.mayRead;
  }

  /** A `may` of an odd application. */
  #may(connection: Connection): boolean {
    if (this.odd(0.04)) this.react(connection, 'inside may');
    if (this.odd(0.01)) {
      connection.cause = 'may threw';
      throw new Injected('may failed');
    }
    if (this.odd(0.01)) {
      connection.cause = 'may gave no true';
      connection.mayRead = false;
      return this.chance.pick([1, 'yes', undefined, Promise.resolve(true)]) as never;
    }
    return this.#isAllowed(connection);
  }

  #withdraw(): void {
    const { connection } = this.chance.pick(this.#clients);
    if (!connection?.manners.asksMay) return;
    if (this.tells) this.tell(`${connection.name} may no longer read`);
    connection.mayRead = false;
  }

  #cutAny(): void {
    const busy = this.#clients.filter(({ connection }) => connection !== undefined);
    if (busy.length > 0) this.#cut(this.chance.pick(busy).connection!);
  }

  /** The connection breaks. The client has received some of what was written, down to half a frame. */
  #cut(connection: Connection): void {
    const { client } = connection;
    if (client.connection !== connection) return;
    const { chance } = this;
    const bytes = chance.of(0.5) ? connection.bytes : chance.below(connection.bytes + 1);
    connection.settleClient(bytes);
    if (this.tells)
      this.tell(
        `${client.name} is cut off after ${bytes} of ${connection.bytes} bytes, id ${readId(client.lastId)?.seq ?? client.lastId}`,
      );
    if (connection.isEnded && connection.cause === 'its topics have ended' && bytes === connection.bytes)
      client.isFinished = true;
    if (connection.isReleased) return;
    // Where there are few topics, it matters when the hub hears that one has lost its last follower.
    const { maxTopics, maxFollowedTopics } = this.#limits;
    const isRoomy = maxTopics === Infinity && maxFollowedTopics === Infinity;
    connection.vanish(isRoomy && !this.isCalm && chance.of(0.3));
  }

  #drainAny(): void {
    const blocked = this.#connections.filter(
      ({ isBlocked, isGone, manners }) => isBlocked && !isGone && !manners.isHalfDead,
    );
    if (blocked.length === 0) return;
    const connection = this.chance.pick(blocked);
    if (this.tells) this.tell(`${connection.name} drains`);
    connection.drain();
    if (this.odd(0.1)) this.react(connection, 'after its drain');
    if (this.odd(0.1)) connection.drain();
  }

  #doLater(): void {
    const [act] = this.later.splice(this.chance.below(this.later.length), 1);
    act?.();
  }

  #beat(): void {
    const open = this.#connections.filter(
      ({ isOver, subscription }) => !isOver && subscription?.closed === false,
    );
    if (open.length === 0) return;
    const connection = this.chance.pick(open);
    const { position } = connection.subscription!;
    if (this.tells)
      this.tell(`${connection.name} gets a heartbeat with ${readId(position)?.seq ?? position}`);
    connection.beat(position);
  }

  #release(connection: Connection): void {
    const { client, subscription } = connection;
    if (subscription === undefined || client.connection !== connection) return;
    if (this.tells) this.tell(`${connection.name}: close()`);
    subscription.close();
    connection.isReleased = true;
    this.left(connection);
    if (!subscription.closed) this.find('not-released', `${connection.name} is not closed after close()`);
    this.#cut(connection);
  }

  // ── topics and the log ───────────────────────────────────────────────────────────────────────────────────

  #end(): void {
    if (this.hasLog && this.#isPublishing) return; // refused inside log.append
    // Whether a topic exists that was only followed depends on what the hub has heard.
    for (const connection of this.#connections.slice()) connection.sayGone();
    const name = this.chance.pick(this.#topics);
    this.expectedChange = this.#memory.end(name);
    const has = this.hub.end(name);
    if (this.tells) this.tell(`end(${name}): ${has}`);
    if (has !== this.expectedChange) this.find('wrong-end', `end(${name}) answers ${has}`);
  }

  #reopen(): void {
    if (this.hasLog && this.#isPublishing) return; // refused inside log.append
    const name = this.chance.pick(this.#topics);
    this.expectedChange = this.#memory.reopen(name);
    const has = this.hub.reopen(name);
    if (this.tells) this.tell(`reopen(${name}): ${has}`);
    if (has !== this.expectedChange) this.find('wrong-end', `reopen(${name}) answers ${has}`);
  }

  #delete(): void {
    if (this.hasLog && this.#isPublishing) return; // refused inside log.append
    const name = this.chance.pick(this.#topics);
    for (const { seq } of this.#memory.topics.get(name)?.events ?? [])
      this.events[seq]!.deleted ??= this.turn;
    this.expectedChange = this.#memory.delete(name);
    const has = this.hub.delete(name);
    if (this.tells) this.tell(`delete(${name}): ${has}`);
    if (has !== this.expectedChange) this.find('wrong-end', `delete(${name}) answers ${has}`);
  }

  #kick(): void {
    const share = this.chance.pick([0.3, 1]);
    if (this.tells) this.tell('kick');
    const kicked: Connection[] = [];
    const count = this.hub.kick((sink) => {
      const connection = sink as unknown as Connection;
      if (!this.chance.of(share)) return false;
      connection.cause ??= 'it was kicked';
      kicked.push(connection);
      return true;
    });
    if (count !== kicked.length) this.find('wrong-kick', `kick ends ${count}, expected ${kicked.length}`);
    for (const connection of kicked)
      if (!connection.isEnded && !connection.isGone)
        this.find('wrong-kick', `${connection.name} was kicked, and goes on`);
  }

  /** Another process opens the log: it knows what the log holds, and nothing else. */
  #restart(): void {
    if (this.#log === undefined || this.#depth > 0) return;
    if (this.tells) this.tell('restart');
    // Nobody comes to the hub that dies.
    this.#depth = 2;
    for (const { connection } of this.#clients) if (connection !== undefined) this.#cut(connection);
    this.#depth = 0;
    this.later = [];
    this.#connections.length = 0;
    this.#memory = new Retention(this.#limits, this.head);
    this.hub = this.#open();
    this.#waiting = 0;
    this.#counts.published = this.#counts.publishedBytes = this.#counts.resumed = this.#counts.started = 0;
    this.delivered = this.deliveredBytes = 0;
    this.#gaps = new Map();
    this.#toldGaps = new Map();
    this.#failedReads = 0;
  }

  #shortenLog(): void {
    if (this.#log === undefined) return;
    const { chance } = this;
    const seq = this.head - chance.below(6);
    const dice = chance.below(4);
    if (dice === 0) {
      this.#log.truncate(seq);
      this.#isTruncated = true;
    } else if (dice === 1) this.#log.drop(chance.pick(this.#topics), seq);
    else this.#log.trim(seq);
    if (this.tells)
      this.tell(
        `the log loses what it has up to ${seq}, ${['from outside', 'of one topic', 'all', 'all'][dice]}`,
      );
  }

  /** A page that the log looks up now or later, gives now or later, or not at all. */
  #answer(look: () => LogPage): LogPage | Promise<LogPage> {
    const { chance } = this;
    if (!this.isCalm && chance.of(0.02)) {
      this.#failedReads++;
      throw new Injected('the log cannot be read');
    }
    if (this.odd(0.05)) this.react(undefined, 'inside log.read');
    if (this.#isLogPrompt || chance.of(0.4)) return look();
    const early = chance.of(0.5) ? look() : undefined;
    return new Promise((resolve, reject) => {
      const fails = !this.isCalm && chance.of(0.1);
      this.later.push(() => {
        // All that wait for it end with it.
        if (fails) this.#failedReads += this.#connections.length;
        if (fails) reject(new Injected('the log cannot be read'));
        else resolve(early ?? look());
      });
    });
  }

  // ── rest ─────────────────────────────────────────────────────────────────────────────────────────────────

  /** Runs turns until there are none. Then each sink that takes bytes must have everything. */
  #rest(): void {
    if (this.#depth > 0) return;
    if (this.tells) this.tell('the hub runs to rest');
    for (let turns = 0; this.#runTurn(); turns++) {
      if (this.#found !== undefined) return;
      if (turns > 10_000) return this.find('no-rest', 'the hub never comes to rest');
    }
    if (this.later.length === 0 && !this.#owesImmediate && !this.hasLog) this.#checkRest();
  }

  async #finish(): Promise<void> {
    this.isCalm = true;
    if (this.tells) this.tell('from here on nothing fails');
    await this.#settle();
    this.#checkRest();
    this.#throwFound();
    for (const client of this.#clients) {
      if (client.connection?.isEnded) this.#cut(client.connection);
      if (client.connection === undefined && !client.isFinished && !this.#memory.isFull(client.topics))
        this.#connect(client);
    }
    await this.#settle();
    this.#checkRest();
    this.#checkCounts();
    this.#throwFound();
    await this.#checkWaiting();
    await this.#leaveAll();
  }

  async #settle(): Promise<void> {
    for (let round = 0; this.#found === undefined; round++) {
      if (round > 10_000) return this.find('no-rest', 'the hub never comes to rest');
      for (const connection of this.#connections.slice()) {
        if (connection.isBlocked && !connection.isGone && !connection.manners.isHalfDead) connection.drain();
      }
      const isIdle = this.later.length === 0 && !this.#runTurn();
      if (this.later.length > 0) this.#doLater();
      if (this.hasLog || this.#owesImmediate || this.#waits) await this.#breathe();
      const isDrained = this.#connections.every(({ isBlocked, manners }) => !isBlocked || manners.isHalfDead);
      if (isIdle && isDrained && this.later.length === 0 && this.#planned.length === 0) return;
    }
  }

  #checkRest(): void {
    for (const { connection } of this.#clients) connection?.checkRest();
    const known = new Set(this.#connections.map(({ subscription }) => subscription));
    for (const subscription of this.hub.subscriptions())
      if (!known.has(subscription)) this.find('not-released', 'a subscription is listed, and nobody has it');
    if (this.hub.size !== this.#connections.length)
      this.find(
        'wrong-size',
        `the hub has ${this.hub.size} subscriptions, expected ${this.#connections.length}`,
      );
  }

  /** At any time the hub lists what it holds. */
  #inspect(): void {
    if (this.later.length === 0) this.#checkTopics();
  }

  #checkCounts(): void {
    const { stats } = this.hub;
    const counts = { ...this.#counts, delivered: this.delivered, deliveredBytes: this.deliveredBytes };
    for (const [name, expected] of Object.entries(counts)) {
      if (this.#isVague && name.startsWith('delivered')) continue;
      const actual = stats[name as keyof typeof counts];
      if (actual !== expected) this.find('wrong-count', `stats.${name} is ${actual}, expected ${expected}`);
    }
    for (const [reason, actual] of Object.entries(stats.gaps)) {
      const expected = this.#gaps.get(reason) ?? 0;
      const told = this.#toldGaps.get(reason) ?? 0;
      if (actual !== expected || told !== expected)
        this.find('wrong-count', `${actual} gaps ${reason}, ${told} on the channel, expected ${expected}`);
    }
    this.#checkTopics();
  }

  #checkTopics(): void {
    const listed = new Map(this.hub.topics().map((info) => [info.topic, info]));
    for (const topic of this.#memory.topics.values()) {
      const info = listed.get(topic.name);
      listed.delete(topic.name);
      if (topic.isHidden) continue;
      if (info === undefined) return this.find('wrong-topics', `${topic.name} is not listed`);
      this.#checkTopic(topic, info);
    }
    for (const name of listed.keys()) this.find('wrong-topics', `${name} is listed, and does not exist`);
    this.#checkBytes('wrong-count', 'historyBytes');
  }

  /** 0 where nothing is held. */
  #checkBytes(kind: string, what: string): void {
    const { historyBytes } = this.hub;
    const [least, most] = [this.#memory.leastBytes(this.time), this.#memory.mostBytes];
    if (!(historyBytes >= least && historyBytes <= most))
      this.find(kind, `${what} is ${historyBytes}, expected ${least} to ${most}`);
  }

  #checkTopic(topic: Held, info: ReturnType<Hub['topics']>[number]): void {
    const least = topic.events.filter((event) => topic.holds(event, this.time)).length;
    if (info.events < least || info.events > topic.events.length)
      this.find('wrong-topics', `${topic.name} has ${info.events} events, expected ${topic.events.length}`);
    if (info.events === topic.events.length && info.bytes !== topic.bytes)
      this.find('wrong-topics', `${topic.name} has ${info.bytes} bytes, expected ${topic.bytes}`);
    if (info.last !== `${this.epoch}-${topic.last}`)
      this.find('wrong-topics', `the last of ${topic.name} is ${info.last}, expected ${topic.last}`);
    if (info.ended !== topic.ended) this.find('wrong-topics', `${topic.name} ended: ${info.ended}`);
    const followers = this.#connections.filter(({ client }) => client.topics.includes(topic.name)).length;
    if (info.subscribers !== followers)
      this.find('wrong-topics', `${topic.name} has ${info.subscribers} subscribers, expected ${followers}`);
  }

  /** Everybody leaves. Nothing of a subscriber is left, and events that are too old go after some turns. */
  async #leaveAll(): Promise<void> {
    if (this.tells) this.tell('everybody leaves');
    const connections = this.#connections.slice();
    for (const { connection } of this.#clients) if (connection !== undefined) this.#cut(connection);
    await this.#settle();
    if (this.hub.size !== 0) this.find('not-released', `${this.hub.size} subscriptions are left`);
    for (const connection of connections)
      if (connection.listeners > 0)
        this.find('not-released', `${connection.name} still has listeners of the hub`);
    if (this.hub.topics().some(({ subscribers }) => subscribers > 0))
      this.find('not-released', 'subscribers are left');
    if (this.maxAge !== Infinity) this.#expireAll();
  }

  #expireAll(): void {
    this.time += 1000;
    const topic = this.#topics.find((name) => !this.hasEnded(name));
    if (topic === undefined) return;
    const enough = this.turn + 2 * this.#topics.length + 2;
    // Each event that is taken makes a turn, and each turn looks at one topic.
    for (let i = 0; this.turn < enough; i++) {
      if (i > 1000) return;
      this.#publishAll(topic, 1, false);
      while (this.#runTurn());
    }
    for (const held of this.#memory.topics.values()) held.expire(this.time);
    this.#checkBytes('not-released', 'historyBytes after all had expired');
  }
}
