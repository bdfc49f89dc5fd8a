// A world of clients, connections and faults around a real hub, and the checks of what arrives. All from one
// seed.

import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { createParser } from 'eventsource-parser';
import { Hub, type HubOptions, type Sink, type SubscribeOptions, type Subscription } from '../../lib/hub.ts';
import type { LogPage } from '../../lib/log.ts';
import { EPOCH, type Gap, TestLog, Turns } from '../helpers/hub.ts';

const STEPS = 400;

/** Everything that is left to chance, the same again for the same seed. */
export class Chance {
  #state: number;

  constructor(seed: number) {
    this.#state = seed;
  }

  /** From 0 up to 1 (mulberry32). */
  readonly next = (): number => {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    t ^= t + Math.imul(t ^ (t >>> 7), 61 | t);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };

  below(n: number): number {
    return Math.floor(this.next() * n);
  }

  of(probability: number): boolean {
    return this.next() < probability;
  }

  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)]!;
  }
}

/** What an id stands for; those of a later life of the hub are greater. */
export interface Place {
  readonly epoch: number;
  readonly seq: number;
}

function placeOf(id: string | null): Place {
  const [epoch, seq] = (id ?? '0-0').split('-').map(Number);
  return { epoch: epoch!, seq: seq! };
}

function isUpTo(a: Place, b: Place): boolean {
  return a.epoch < b.epoch || (a.epoch === b.epoch && a.seq <= b.seq);
}

interface Published {
  readonly place: Place;
  readonly key: string | undefined;
}

/**
 * The network between the hub and one client: some bytes on their way, and an end that may be noticed late.
 */
class Connection extends EventEmitter implements Sink {
  closed = false;
  writableEnded = false;
  needsDrain = false;
  subscription: Subscription | undefined;
  inFlight: Buffer = Buffer.alloc(0);
  readonly #world: World;
  readonly #capacity: number;

  constructor(world: World) {
    super();
    this.#world = world;
    this.#capacity = world.chance.pick([1, 80, 500, 5000]);
  }

  write(chunk: Uint8Array): boolean {
    const { chance, isCalm, faults } = this.#world;
    if (this.isOver) faults.push('written to after its end');
    if (this.needsDrain) faults.push('written to before its drain');
    if (!isCalm && chance.of(0.003)) throw new Error('broken');
    if (!isCalm && chance.of(0.003)) this.destroy();
    this.inFlight = Buffer.concat([this.inFlight, chunk]);
    this.needsDrain = this.inFlight.length >= this.#capacity;
    return !this.needsDrain;
  }

  end(): void {
    this.writableEnded = true;
  }

  destroy(): void {
    if (this.closed) return;
    this.closed = true;
    if (this.#world.chance.of(0.5)) this.emit('close');
    else this.#world.later.push(() => this.emit('close'));
  }

  get isOver(): boolean {
    return this.closed || this.writableEnded;
  }

  /** Neither bytes nor an end are on their way. */
  get isQuiet(): boolean {
    return !this.isOver && this.inFlight.length === 0;
  }

  /** The next bytes that arrive, perhaps half a frame. */
  take(count: number): Buffer {
    const taken = this.inFlight.subarray(0, count);
    this.inFlight = this.inFlight.subarray(count);
    if (this.inFlight.length === 0 && this.needsDrain && !this.closed) {
      this.needsDrain = false;
      this.emit('drain');
    }
    return taken;
  }
}

interface Memory {
  lastId: string | undefined;
  /** For each topic, which of its events must come next; unknown until the hub has named a position. */
  next: Map<string, number> | undefined;
  /** An inexact gap may say too much: one of several topics ends at the last of their losses. */
  gaps: { topic: string; from: Place; to: Place; isExact: boolean }[];
}

/** A client as the specification describes it: it has processed what its parser has dispatched. */
class Client {
  readonly topics: readonly string[];
  readonly conflate: boolean;
  readonly haste: number;
  connection: Connection | undefined;
  isFinished = false;
  memory: Memory = { lastId: undefined, next: undefined, gaps: [] };
  readonly #world: World;
  readonly #past: Memory[] = [];
  #parser = createParser({});
  #decoder = new TextDecoder();
  #sentId: string | undefined;
  /** The reasons of which the first gap must have one, if there are any. */
  #expected: readonly string[] = [];
  /** Where this connection begins if it came without an id, as `next` of its memory. */
  #beginning: Map<string, number> = new Map();
  #seen = 0;
  #place: Place | undefined;

  constructor(world: World, topics: readonly string[], conflate: boolean) {
    this.#world = world;
    this.topics = topics;
    this.conflate = conflate;
    this.haste = world.chance.pick([0.02, 0.3, 1]);
  }

  /** Another tab that was duplicated: it has the same past and the same id. */
  copy(): Client {
    const copy = new Client(this.#world, this.topics, this.conflate);
    copy.memory = structuredClone(this.memory);
    return copy;
  }

  connect(): void {
    const { chance, hub, isCalm } = this.#world;
    if (!isCalm && this.#past.length > 0 && chance.of(0.05)) {
      this.memory = structuredClone(chance.pick(this.#past)); // it crashed, and had saved no more
    }
    this.#sentId = this.memory.lastId;
    this.#expected = this.#world.reasonsFor(this.#sentId);
    if (!isCalm && chance.of(0.05)) this.#forge();
    const connection = new Connection(this.#world);
    const begin = this.#world.anyBeginning();
    const options = { lastEventId: this.#sentId, conflate: this.conflate, ...begin };
    const subscription = hub.subscribe(
      chance.of(0.5) ? this.topics : this.topics.toReversed(),
      connection,
      options,
    );
    this.#beginning = this.#world.beginningOf(this.topics, begin);
    if (subscription.closed) return this.#leaveAtOnce();
    connection.subscription = subscription;
    this.connection = connection;
    this.#seen = 0;
    this.#place = undefined;
    this.#decoder = new TextDecoder();
    this.#parser = createParser({ onEvent: ({ id, event, data }) => this.#process(id, event, data) });
  }

  #forge(): void {
    const { epoch, seq } = placeOf(this.#world.hub.position);
    const [id, reason] = this.#world.chance.pick([
      [`${epoch}-1, ${epoch}-1`, 'malformed'],
      ['x'.repeat(5000), 'malformed'],
      ['1795408776829003-7', 'unknown-epoch'],
      [`${epoch}-${seq + 1e6}`, 'ahead'],
    ] as const);
    this.#sentId = this.memory.lastId = id;
    this.#expected = [reason];
  }

  /** Some of what is on its way arrives; the end, too, once all has. */
  receive(count: number): void {
    const { connection } = this;
    if (connection === undefined) return;
    this.#parser.feed(this.#decoder.decode(connection.take(count), { stream: true }));
    if (connection.isOver && connection.inFlight.length === 0) this.cut();
  }

  /** What was on its way is lost. The hub hears of it now, or later. */
  cut(): void {
    const { connection } = this;
    if (connection === undefined) return;
    this.connection = undefined;
    if (this.#world.chance.of(0.5)) connection.destroy();
    else this.#world.later.push(() => connection.destroy());
  }

  #process(id: string | undefined, event: string | undefined, data: string): void {
    assert.ok(id !== undefined, `no id: ${event}`);
    if (this.#seen === 0 && event === 'beat') return this.#beEarly(id);
    if (this.#seen++ === 0) assert.equal(event, 'sluice:ready', 'the first is not ready');
    else this.#checkPlace(id, event);
    if (event === 'sluice:ready') this.#begin(id);
    else if (event === 'sluice:gap') this.#note(JSON.parse(data));
    else if (event === 'sluice:end') this.#finish(placeOf(id));
    else if (event === undefined) this.#take(data, id);
    this.memory.lastId = id;
    if (this.#world.chance.of(0.1)) this.#past.push(structuredClone(this.memory));
  }

  /** A heartbeat that comes before the hub has written anything, with an id as well. */
  #beEarly(id: string): void {
    if (this.#sentId === undefined) this.memory.next ??= this.#beginning;
    this.memory.lastId = id;
  }

  #checkPlace(id: string, event: string | undefined): void {
    const place = placeOf(id);
    assert.equal(place.epoch, this.#world.epoch, `${event ?? 'event'} of another life: ${id}`);
    assert.ok(
      this.#place === undefined || isUpTo(this.#place, place),
      `${event ?? 'event'} goes back: ${id}`,
    );
    this.#place = place;
  }

  #begin(id: string): void {
    if (this.#sentId === undefined) this.memory.next ??= this.#beginning;
    else assert.equal(id, this.#expected[0] === 'malformed' ? '0-0' : this.#sentId, 'ready has another id');
  }

  #note({ reason, from, to, topics }: Gap): void {
    const allowed = this.#seen === 2 && this.#expected.length > 0 ? this.#expected : this.#world.losses;
    assert.ok(allowed.includes(reason), `gap ${reason} from ${from} to ${to}, allowed: ${allowed}`);
    const end = placeOf(to);
    // A forged id says nothing about what its client has processed.
    const start = placeOf(reason === 'evicted' || reason === 'truncated' ? from : null);
    const isExact = reason === 'evicted' || reason === 'truncated';
    for (const topic of topics) this.memory.gaps.push({ topic, from: start, to: end, isExact });
    this.memory.next ??= this.#world.counts(this.topics, end);
  }

  #take(data: string, id: string): void {
    const [topic, number] = data.split(' ') as [string, string];
    const n = Number(number);
    const next = this.memory.next?.get(topic);
    const isLost = this.#gapsOver(topic, placeOf(id)).some(({ isExact }) => isExact);
    assert.ok(!isLost, `${data} was called lost by a gap`);
    assert.ok(next !== undefined, `${data} of a topic that was not asked for, or before any position`);
    assert.deepEqual(placeOf(id), this.#world.truth.get(topic)![n]!.place, `${data} has the id of another`);
    assert.ok(n >= next, `${data} comes again, or late: ${next} is the next`);
    for (let i = next; i < n; i++) this.#checkLoss(topic, i);
    this.memory.next!.set(topic, n + 1);
  }

  #checkLoss(topic: string, n: number): void {
    const all = this.#world.truth.get(topic)!;
    const { place, key } = all[n]!;
    const isTold = this.#gapsOver(topic, place).length > 0;
    const isOutdated =
      this.conflate && key !== undefined && all.slice(n + 1).some((later) => later.key === key);
    assert.ok(isTold || isOutdated, `${topic} ${n} is lost, and no gap says so`);
  }

  #gapsOver(topic: string, place: Place): Memory['gaps'] {
    return this.memory.gaps.filter(
      (gap) => gap.topic === topic && !isUpTo(place, gap.from) && isUpTo(place, gap.to),
    );
  }

  /** The hub has refused the connection, because nothing is left to deliver. */
  #leaveAtOnce(): void {
    this.isFinished = true;
    for (const topic of this.topics) assert.ok(this.#world.ended.has(topic), `${topic} has not ended`);
    this.checkComplete();
  }

  /** The topics had ended at that place; they may have been reopened since. */
  #finish(place: Place): void {
    this.isFinished = true;
    for (const topic of this.topics) assert.ok(this.#world.everEnded.has(topic), `${topic} has not ended`);
    this.checkComplete(place);
    this.cut();
  }

  /** Everything up to a place has come, or is known to be lost. */
  checkComplete(place: Place = placeOf(this.#world.hub.position)): void {
    for (const [topic, next] of this.memory.next ?? []) {
      const end = this.#world.counts([topic], place).get(topic)!;
      for (let n = next; n < end; n++) this.#checkLoss(topic, n);
    }
  }
}

/**
 * One hub, its clients, the network between them, and a record of what was really published.
 *
 * Clients come, lag, are cut off and return, at random. What each has processed must be contiguous, in order
 * and without duplicates. What is missing must have been called lost by a gap, before anything newer.
 */
export class World {
  readonly chance: Chance;
  readonly truth: Map<string, Published[]> = new Map();
  readonly ended: Set<string> = new Set();
  /** Topics that have ended at some time, even if they were reopened. */
  readonly everEnded: Set<string> = new Set();
  later: (() => void)[] = [];
  /** What sinks have seen wrong. They cannot throw it: the hub would take that for the end of the sink. */
  readonly faults: string[] = [];
  clients: Client[] = [];
  epoch: number = EPOCH;
  hub: Hub;
  /** From here on nothing fails any more: everything must arrive. */
  isCalm = false;
  #turns = new Turns();
  #time = 0;
  #log: TestLog | undefined;
  readonly #options: HubOptions;
  readonly #isRoomy: boolean;
  readonly #logLosses: Set<string> = new Set();
  #hasDeleted = false;

  constructor(seed: number) {
    this.chance = new Chance(seed);
    const { chance } = this;
    for (let i = 0; i <= chance.below(4); i++) this.truth.set(`t${i}`, []);
    this.#isRoomy = chance.of(0.25);
    this.#log = chance.of(0.5) ? new TestLog(this.epoch) : undefined;
    this.#options = { ...this.#limits(), maxPageBytes: chance.pick([1, 100, 330, 65536]) };
    this.hub = this.#open();
    for (let i = 0; i <= chance.below(6); i++) this.clients.push(this.#newClient());
  }

  #limits(): HubOptions {
    const { chance } = this;
    if (this.#isRoomy) return {};
    const maxEvents = 1 + chance.below(12);
    const maxBytes = chance.pick([160, 490, Infinity]);
    return {
      history: () => ({ maxEvents, maxBytes, maxAge: chance.pick([50, Infinity]) }),
      maxHistoryBytes: chance.pick([160, 1600, 1e6]),
      maxTopics: chance.pick([this.truth.size, this.truth.size + 2, 100]),
      overtaken: chance.pick(['gap', 'close'] as const),
    };
  }

  #open(): Hub {
    this.#turns = new Turns();
    const { schedule } = this.#turns;
    const log = this.#log;
    if (log !== undefined) log.answer = (look) => this.#answer(look);
    const { next: random } = this.chance;
    return new Hub({
      ...this.#options,
      log,
      epoch: log === undefined ? this.epoch : undefined,
      now: () => this.#time,
      random,
      schedule,
    });
  }

  #newClient(): Client {
    const topics = [...this.truth.keys()].filter(() => this.chance.of(0.6));
    return new Client(this, topics.length > 0 ? topics : ['t0'], this.chance.of(0.25));
  }

  /** A page that the log looks up now or later, gives now or later, or not at all. */
  #answer(look: () => LogPage): LogPage | Promise<LogPage> {
    const { chance, isCalm } = this;
    if (!isCalm && chance.of(0.02)) throw new Error('the log cannot be read');
    if (chance.of(0.3)) return look();
    const early = chance.of(0.5) ? look() : undefined;
    return new Promise((resolve, reject) => {
      const fails = !isCalm && chance.of(0.05);
      this.later.push(() => (fails ? reject(new Error('the log cannot be read')) : resolve(early ?? look())));
    });
  }

  get hasLog(): boolean {
    return this.#log !== undefined;
  }

  /** Which gaps a client may meet on its way. */
  get losses(): string[] {
    if (this.#log === undefined) return this.#isRoomy && !this.#hasDeleted ? [] : ['evicted'];
    return [...this.#logLosses];
  }

  /** Which gap a client must meet first that comes with an id. */
  reasonsFor(id: string | undefined): readonly string[] {
    if (id === undefined) return [];
    if (!/^\d{1,16}-\d{1,16}$/.test(id)) return ['malformed'];
    const { epoch, seq } = placeOf(id);
    if (epoch !== this.epoch) return ['unknown-epoch'];
    return seq > placeOf(this.hub.position).seq ? ['ahead'] : [];
  }

  /**
   * How a client may begin without an id. With a log it begins at the head, since `from` and `last` see
   * memory only.
   */
  anyBeginning(): Pick<SubscribeOptions, 'from' | 'last'> {
    const { chance } = this;
    if (this.hasLog) return {};
    return chance.pick([{}, {}, { from: 'earliest' }, { last: chance.below(20) }] as const);
  }

  /** Which event of each topic comes first for such a client, by what the hub says that it remembers. */
  beginningOf(
    topics: readonly string[],
    { from, last }: Pick<SubscribeOptions, 'from' | 'last'>,
  ): Map<string, number> {
    const sizes = new Map(this.hub.topics().map(({ topic, events }) => [topic, events]));
    const remembered = topics.flatMap((topic) => {
      const all = this.truth.get(topic)!;
      return all.map(({ place }, n) => ({ topic, n, place })).slice(all.length - (sizes.get(topic) ?? 0));
    });
    remembered.sort((a, b) => a.place.seq - b.place.seq);
    const count = last ?? (from === 'earliest' ? remembered.length : 0);
    const owed = remembered.slice(remembered.length - Math.min(count, remembered.length));
    const first = (topic: string) => owed.find((one) => one.topic === topic)?.n;
    return new Map(topics.map((topic) => [topic, first(topic) ?? this.truth.get(topic)!.length]));
  }

  /** How many events there are of each topic up to a place. */
  counts(topics: readonly string[], place: Place): Map<string, number> {
    const upTo = (topic: string) =>
      this.truth.get(topic)!.filter((event) => isUpTo(event.place, place)).length;
    return new Map(topics.map((topic) => [topic, upTo(topic)]));
  }

  async run(): Promise<void> {
    for (let i = 0; i < STEPS; i++) {
      this.#step();
      await null; // lets promises settle
      await null;
    }
    await this.#settle();
  }

  #step(): void {
    const { chance } = this;
    const dice = chance.next();
    if (dice < 0.25) this.#publish();
    else if (dice < 0.5) this.#turns.next();
    else if (dice < 0.6) this.#doLater();
    else if (dice < 0.9) this.#moveClient(chance.pick(this.clients));
    else if (dice < 0.93) this.#beat(chance.pick(this.clients));
    else if (dice < 0.96) this.#time += chance.below(60);
    else this.#disturb();
  }

  #publish(): void {
    const { chance } = this;
    const [topic, events] = chance.pick([...this.truth]);
    for (let i = chance.below(6); i >= 0 && !this.ended.has(topic); i--) {
      const key = chance.of(0.5) ? `k${chance.below(3)}` : undefined;
      const place = this.#attempt(() => this.hub.publish(topic, { data: `${topic} ${events.length}`, key }));
      if (place !== undefined) events.push({ place: placeOf(place), key });
    }
    // A change of a topic hands over to the log what was published.
    if (this.hasLog) this.hub.reopen('none');
    if (!this.#isRoomy && chance.of(0.1)) {
      this.#attempt(() => this.hub.publish(`other${chance.below(100)}`, { data: 'x' }));
    }
  }

  /** A refusal because there are too many topics is a right answer. */
  #attempt<T>(act: () => T): T | undefined {
    try {
      return act();
    } catch (error) {
      if ((error as { code?: string }).code === 'ERR_SSE_TOO_MANY_TOPICS') return undefined;
      throw error;
    }
  }

  #doLater(): void {
    const [act] = this.later.splice(this.chance.below(this.later.length), 1);
    act?.();
  }

  #moveClient(client: Client): void {
    const { chance } = this;
    if (client.isFinished) return;
    if (client.connection === undefined) this.#attempt(() => client.connect());
    else if (chance.of(0.06)) client.cut();
    else if (chance.of(client.haste)) client.receive(chance.pick([1, 50, 330, Infinity]));
  }

  /** A heartbeat with the position of the subscription as its id, as somebody else may write it. */
  #beat({ connection }: Client): void {
    if (connection === undefined || connection.isOver || connection.needsDrain) return;
    if (connection.subscription!.closed) return;
    const frame = `id: ${connection.subscription!.position}\nevent: beat\ndata: x\n\n`;
    connection.inFlight = Buffer.concat([connection.inFlight, Buffer.from(frame)]);
  }

  #disturb(): void {
    const { chance } = this;
    const dice = chance.below(15);
    const { seq } = placeOf(this.hub.position);
    if (dice === 0) this.#restart();
    else if (dice === 1) this.#end();
    else if (dice === 8) this.#reopen();
    else if (dice === 9) this.#delete();
    else if (dice === 2 && this.clients.length < 12) this.clients.push(chance.pick(this.clients).copy());
    else if (dice === 3)
      chance.pick(this.clients).connection?.end(); // the server ends the response
    else if (dice === 4) {
      const { connection } = chance.pick(this.clients);
      connection?.subscription?.close();
      connection?.end();
    } else if (this.#log !== undefined && !this.#isRoomy && dice < 7) {
      this.#log.trim(seq - chance.below(10));
      this.#logLosses.add('evicted');
    } else if (this.#log !== undefined && !this.#isRoomy && dice === 7) {
      this.#log.truncate(seq - chance.below(10));
      this.#logLosses.add('truncated');
    }
  }

  #end(): void {
    const topic = this.chance.pick([...this.truth.keys()]);
    if (!this.chance.of(0.5) || !this.hub.end(topic)) return;
    this.ended.add(topic);
    this.everEnded.add(topic);
  }

  #reopen(): void {
    const topic = this.chance.pick([...this.truth.keys()]);
    assert.ok(!this.hub.reopen(topic) || this.ended.has(topic), `${topic} had not ended`);
    this.ended.delete(topic);
  }

  #delete(): void {
    const topic = this.chance.pick([...this.truth.keys()]);
    if (!this.chance.of(0.3) || !this.hub.delete(topic)) return;
    this.ended.delete(topic);
    this.#hasDeleted = true;
    this.#logLosses.add('evicted');
  }

  /** The process dies. It loses what it had in memory; and which topics had ended, where there is no log. */
  #restart(): void {
    for (const client of this.clients) {
      client.connection?.removeAllListeners();
      client.cut();
    }
    this.later = [];
    if (this.#log === undefined) {
      this.ended.clear();
      this.epoch++;
    }
    this.hub = this.#open();
  }

  async #settle(): Promise<void> {
    this.isCalm = true;
    for (let round = 0; ; round++) {
      assert.ok(round < 5000, 'it never comes to rest');
      const waiting = this.clients.filter(
        ({ isFinished, connection }) => !isFinished && connection === undefined,
      );
      const isIdle = !this.#turns.next() && this.later.length === 0 && waiting.length === 0;
      if (isIdle && this.clients.every(({ connection }) => connection?.isQuiet ?? true)) break;
      if (this.later.length > 0) this.#doLater();
      for (const client of waiting) this.#attempt(() => client.connect());
      for (const client of this.clients) client.receive(Infinity);
      await null;
      await null;
    }
    assert.deepEqual(this.faults, []);
    this.#checkRest();
  }

  #checkRest(): void {
    const open = this.clients.filter(({ isFinished }) => !isFinished);
    for (const client of open) {
      const { position, lag } = client.connection!.subscription!;
      assert.deepEqual(
        [position, lag],
        [this.hub.position, 0],
        `client ${this.clients.indexOf(client)} lags`,
      );
      assert.ok(client.memory.next !== undefined);
      client.checkComplete();
    }
    assert.equal(this.hub.size, open.length);
    for (const client of open) client.cut();
    while (this.later.length > 0) this.#doLater();
    assert.equal(this.hub.size, 0);
    assert.ok(this.hub.topics().every(({ subscribers }) => subscribers === 0));
  }
}
