// Clients come, lag, are cut and come back, at random, against the real hub. What each has processed must be
// contiguous, in order and without duplicates, but for what it was told to be lost, before anything newer.
//
//     SIM_SEED=123 npx tsx --test test/hub.simulation.test.ts     one run again
//     SIM_RUNS=10000 npx tsx --test test/hub.simulation.test.ts   more of them

import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { describe, it } from 'node:test';
import { createParser } from 'eventsource-parser';
import { Hub, type HubOptions, type LogPage, type Sink, type Subscription } from '../lib/hub.ts';
import { drain, handRun, parse, Reader, slowReader, TestLog, Turns, times } from './helpers/hub.ts';

const RUNS = Number(process.env.SIM_RUNS ?? 400);
const STEPS = 400;

class Chance {
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
interface Place {
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

/** The network between the hub and one client: some bytes on their way, and an end that may be noticed late. */
class Connection extends EventEmitter implements Sink {
  closed = false;
  writableEnded = false;
  needsDrain = false;
  subscription: Subscription | null = null;
  inFlight: Buffer = Buffer.alloc(0);
  readonly #world: World;
  readonly #capacity: number;

  constructor(world: World) {
    super();
    this.#world = world;
    this.#capacity = world.chance.pick([1, 50, 300, 5000]);
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

  /** Nothing is to be heard of it, and not even its end. */
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
  /** For each topic, which of its events is the next that must come; unknown until the hub has told a position. */
  next: Map<string, number> | undefined;
  /** A gap of several topics ends at the last of their losses; one of a log may be wider than what memory has. */
  gaps: { topic: string; from: Place; to: Place; isExact: boolean }[];
}

/** A client as the specification has it: what it processed is what its parser dispatched. */
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
  #expected: readonly string[] = [];
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
    const options = { lastEventId: this.#sentId, conflate: this.conflate };
    const subscription = hub.subscribe(
      chance.of(0.5) ? this.topics : this.topics.toReversed(),
      connection,
      options,
    );
    if (subscription.closed) return this.#finish();
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
      ['1795408776829004-1, 1795408776829004-1', 'malformed'],
      ['x'.repeat(5000), 'malformed'],
      ['3-7', 'unknown-epoch'],
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
    else if (event === 'sluice:end') this.#finish();
    else if (event === undefined) this.#take(data, id);
    this.memory.lastId = id;
    if (this.#world.chance.of(0.1)) this.#past.push(structuredClone(this.memory));
  }

  /** A heartbeat that comes before the hub has written anything, with an id as well. */
  #beEarly(id: string): void {
    if (this.#sentId === undefined) this.memory.next ??= this.#world.counts(this.topics, placeOf(id));
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
    if (this.#sentId === undefined) this.memory.next ??= this.#world.counts(this.topics, placeOf(id));
    else assert.equal(id, this.#expected[0] === 'malformed' ? '0-0' : this.#sentId, 'ready has another id');
  }

  #note({
    reason,
    from,
    to,
    topics,
  }: {
    reason: string;
    from: string | null;
    to: string;
    topics: string[];
  }): void {
    const allowed = this.#seen === 2 && this.#expected.length > 0 ? this.#expected : this.#world.losses;
    assert.ok(allowed.includes(reason), `gap ${reason} from ${from} to ${to}, allowed: ${allowed}`);
    const end = placeOf(to);
    // What a forged id stands for is anybody's guess.
    const start = placeOf(reason === 'evicted' || reason === 'truncated' ? from : null);
    const isExact = reason === 'evicted' && topics.length === 1 && !this.#world.hasLog;
    for (const topic of topics) this.memory.gaps.push({ topic, from: start, to: end, isExact });
    this.memory.next ??= this.#world.counts(this.topics, end);
  }

  #take(data: string, id: string): void {
    const [topic, number] = data.split(' ') as [string, string];
    const n = Number(number);
    const next = this.memory.next?.get(topic);
    const isLost = this.#gapsOver(topic, placeOf(id)).some(({ isExact }) => isExact);
    assert.ok(!isLost, `${data} was told to be lost`);
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
    assert.ok(isTold || isOutdated, `${topic} ${n} is lost and untold`);
  }

  #gapsOver(topic: string, place: Place): Memory['gaps'] {
    return this.memory.gaps.filter(
      (gap) => gap.topic === topic && !isUpTo(place, gap.from) && isUpTo(place, gap.to),
    );
  }

  #finish(): void {
    this.isFinished = true;
    for (const topic of this.topics) assert.ok(this.#world.ended.has(topic), `${topic} has not ended`);
    this.checkComplete();
    this.cut();
  }

  checkComplete(): void {
    for (const [topic, next] of this.memory.next ?? []) {
      for (let n = next; n < this.#world.truth.get(topic)!.length; n++) this.#checkLoss(topic, n);
    }
  }
}

class World {
  readonly chance: Chance;
  readonly truth: Map<string, Published[]> = new Map();
  readonly ended: Set<string> = new Set();
  later: (() => void)[] = [];
  /** What a sink has seen wrong: thrown, it would only be the end of the sink. */
  readonly faults: string[] = [];
  clients: Client[] = [];
  epoch = 100;
  hub: Hub;
  /** No more faults: everything must arrive now. */
  isCalm = false;
  #turns = new Turns();
  #time = 0;
  #log: TestLog | undefined;
  readonly #options: HubOptions;
  readonly #isRoomy: boolean;
  readonly #logLosses: Set<string> = new Set();

  constructor(seed: number) {
    this.chance = new Chance(seed);
    const { chance } = this;
    for (let i = 0; i <= chance.below(4); i++) this.truth.set(`t${i}`, []);
    this.#isRoomy = chance.of(0.25);
    this.#log = chance.of(0.5) ? new TestLog(this.epoch) : undefined;
    this.#options = { ...this.#limits(), maxPageBytes: chance.pick([1, 60, 200, 65536]) };
    this.hub = this.#open();
    for (let i = 0; i <= chance.below(6); i++) this.clients.push(this.#newClient());
  }

  #limits(): HubOptions {
    const { chance } = this;
    if (this.#isRoomy) return {};
    const maxEvents = 1 + chance.below(12);
    const maxBytes = chance.pick([100, 300, Infinity]);
    return {
      history: () => ({ maxEvents, maxBytes, maxAge: chance.pick([50, Infinity]) }),
      maxHistoryBytes: chance.pick([100, 1000, 1e6]),
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
      epoch: log?.epoch ?? this.epoch,
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
    if (this.#log === undefined) return this.#isRoomy ? [] : ['evicted'];
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

  /** How many events there are of each topic up to a place. */
  counts(topics: readonly string[], place: Place): Map<string, number> {
    const upTo = (topic: string) =>
      this.truth.get(topic)!.filter((event) => isUpTo(event.place, place)).length;
    return new Map(topics.map((topic) => [topic, upTo(topic)]));
  }

  async run(): Promise<void> {
    for (let i = 0; i < STEPS; i++) {
      this.#step();
      await null; // whatever a promise has brought about happens now
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
    if (!this.#isRoomy && chance.of(0.1)) {
      this.#attempt(() => this.hub.publish(`other${chance.below(100)}`, { data: 'x' }));
    }
  }

  /** Where there is no room for one more topic, there is none: that is an answer. */
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
    else if (chance.of(client.haste)) client.receive(chance.pick([1, 30, 200, Infinity]));
  }

  /** A control frame of somebody else, with the position of the subscription as its id. */
  #beat({ connection }: Client): void {
    if (connection === undefined || connection.isOver || connection.needsDrain) return;
    if (connection.subscription!.closed) return;
    const frame = `id: ${connection.subscription!.position}\nevent: beat\ndata: x\n\n`;
    connection.inFlight = Buffer.concat([connection.inFlight, Buffer.from(frame)]);
  }

  #disturb(): void {
    const { chance } = this;
    const dice = chance.below(12);
    const { seq } = placeOf(this.hub.position);
    if (dice === 0) this.#restart();
    else if (dice === 1) this.#end();
    else if (dice === 2 && this.clients.length < 12) this.clients.push(chance.pick(this.clients).copy());
    else if (dice === 3)
      chance.pick(this.clients).connection?.end(); // the server shuts down, this one first
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
    if (this.chance.of(0.5) && this.hub.end(topic)) this.ended.add(topic);
  }

  /** The process dies. What it had in memory is gone, and which topics had ended. */
  #restart(): void {
    for (const client of this.clients) {
      client.connection?.removeAllListeners();
      client.cut();
    }
    this.later = [];
    this.ended.clear();
    if (this.#log === undefined) this.epoch++;
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

async function simulate(seed: number): Promise<void> {
  try {
    await new World(seed).run();
  } catch (error) {
    throw new Error(`SIM_SEED=${seed}: ${(error as Error).message}`, { cause: error });
  }
}

const { SIM_SEED } = process.env;

it('whoever comes back gets all that came after, in order, once, or is told what is lost', async () => {
  const first = SIM_SEED === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(SIM_SEED);
  const runs = SIM_SEED === undefined ? RUNS : 1;
  for (let i = 0; i < runs; i++) await simulate(first + i);
});

// The same again, one by one, so that none of them is left to chance.
describe('a race', () => {
  /** Ten events of `a` in the log, of which memory holds two; the log answers when it is told to. */
  function withLateLog(options: HubOptions = {}) {
    const log = new TestLog();
    const { hub, turns } = handRun({ log, history: { maxEvents: 2 }, maxPageBytes: 40, ...options });
    for (let i = 1; i <= 10; i++) hub.publish('a', { data: String(i) });
    let answer = (): void => {};
    log.answer = (look) => {
      const early = look();
      return new Promise((resolve) => (answer = () => resolve(early)));
    };
    const settle = async () => {
      turns.all();
      answer();
      await new Promise((resolve) => setImmediate(resolve));
      turns.all();
    };
    return { log, hub, turns, settle };
  }

  const seqs = (from: number, to: number): string[] => times(to - from + 1, (i) => String(from + i));

  it('publish between replay and join', () => {
    const { hub, turns } = handRun({ maxPageBytes: 40 });
    for (let i = 1; i <= 6; i++) hub.publish('a', { data: String(i) });
    const reader = new Reader();
    hub.subscribe('a', reader, { lastEventId: '1795408776829004-0' });
    const write = reader.write.bind(reader);
    let next = 7;
    reader.write = (chunk: Buffer) => {
      if (next < 20) hub.publish('a', { data: String(next++) }); // inside each of its writes
      return write(chunk);
    };
    turns.all();
    assert.deepEqual(reader.texts, seqs(1, 19));
  });

  it('publish during an asynchronous read', async () => {
    const { hub, turns, settle } = withLateLog();
    const reader = new Reader();
    hub.subscribe('a', reader, { lastEventId: '1795408776829004-0' });
    for (let i = 11; i <= 30; i++) {
      turns.all();
      hub.publish('a', { data: String(i) });
      await settle();
    }
    for (let i = 0; i < 20; i++) await settle();
    assert.deepEqual([reader.texts, reader.gaps], [seqs(1, 30), []]);
  });

  it('eviction between check and read: memory held it when the turn began', () => {
    const { hub, turns } = handRun({ history: { maxEvents: 2 } });
    hub.publish('a', { data: '1' });
    const [first, second] = [new Reader(), new Reader()];
    const write = first.write.bind(first);
    first.write = (chunk: Buffer) => {
      for (let i = 0; i < 3; i++) hub.publish('a', { data: 'x' });
      first.write = write;
      return write(chunk);
    };
    for (const reader of [first, second]) hub.subscribe('a', reader, { lastEventId: '1795408776829004-0' });
    turns.all();
    for (const { gaps } of [first, second]) {
      assert.deepEqual(
        gaps.map(({ from, to }) => [from, to]),
        [['1795408776829004-0', '1795408776829004-2']],
      );
    }
    assert.deepEqual(
      second.of().map(({ id }) => id),
      ['1795408776829004-3', '1795408776829004-4'],
    );
  });

  it('eviction between read and arrival: the log has dropped what it had', async () => {
    const { log, hub, turns, settle } = withLateLog();
    const reader = new Reader();
    hub.subscribe('a', reader, { lastEventId: '1795408776829004-0' });
    turns.all();
    log.trim(8);
    for (let i = 0; i < 10; i++) await settle();
    // The page of the read that had begun is delivered still; what came after it is gone.
    assert.deepEqual(reader.texts, ['1', '2', '9', '10']);
    assert.deepEqual(
      reader.gaps.map(({ reason, from, to }) => [reason, from, to]),
      [['evicted', '1795408776829004-2', '1795408776829004-8']],
    );
  });

  it('slow client overtaken, again and again', async () => {
    const { hub, turns } = handRun({ history: { maxEvents: 2 } });
    const reader = slowReader();
    hub.subscribe('a', reader);
    for (let i = 1; i <= 40; i++) {
      hub.publish('a', { data: String(i) });
      turns.all();
      if (i % 10 === 0) await drain(reader);
      turns.all();
    }
    const told = reader.gaps.map(({ from, to }) => [Number(from?.slice(2)), Number(to.slice(2))] as const);
    let reached = 0;
    for (const { event, id } of reader.events.slice(1)) {
      const seq = Number(id?.slice(2));
      if (event === 'sluice:gap') assert.ok(told.some(([from, to]) => from === reached && to === seq));
      else assert.equal(seq, reached + 1);
      reached = seq;
    }
    assert.ok(told.length >= 2);
  });

  it('cut after the gap is written but before it arrives, and at every other byte', () => {
    const { hub, turns } = handRun({ history: { maxEvents: 3 } });
    for (let i = 1; i <= 9; i++) hub.publish(i % 3 ? 'a' : 'b', { data: String(i) });
    const whole = new Reader();
    hub.subscribe(['a', 'b'], whole, { lastEventId: '1795408776829004-1' });
    turns.all();
    const bytes = Buffer.concat(whole.chunks);
    for (let cut = 0; cut <= bytes.length; cut++) {
      const arrived = parse(bytes.subarray(0, cut));
      const again = new Reader();
      hub.subscribe(['a', 'b'], again, { lastEventId: arrived.at(-1)?.id ?? '1795408776829004-1' });
      turns.all();
      const all = [...arrived, ...again.events];
      assert.deepEqual(
        all.filter(({ event }) => event === undefined),
        whole.of(),
      );
      const gap = all.findIndex(({ event }) => event === 'sluice:gap');
      assert.ok(gap !== -1 && gap < all.findIndex(({ data }) => data === '5'), `untold when cut at ${cut}`);
    }
  });

  it('cut before the first event: the position of ready is enough', () => {
    const { hub, turns } = handRun();
    const cut = new Reader();
    hub.subscribe('a', cut);
    turns.all();
    for (let i = 1; i <= 3; i++) hub.publish('a', { data: String(i) });
    const again = new Reader();
    hub.subscribe('a', again, { lastEventId: cut.events.at(-1)!.id });
    turns.all();
    assert.deepEqual(again.texts, seqs(1, 3));
  });

  it('two connections with one id, of which the old one still takes bytes', () => {
    const { hub, turns } = handRun();
    const [old, fresh] = [new Reader(), new Reader()];
    hub.subscribe('a', old);
    turns.all();
    hub.publish('a', { data: '1' });
    hub.subscribe('a', fresh, { lastEventId: '1795408776829004-0' });
    turns.all();
    hub.publish('a', { data: '2' });
    turns.all();
    assert.deepEqual([old.texts, fresh.texts], [seqs(1, 2), seqs(1, 2)]);
  });

  it('reconnect to a process that lags, and restart of a memory log: never a false match', () => {
    const { hub, turns } = handRun();
    for (let i = 1; i <= 5; i++) hub.publish('a', { data: String(i) });
    for (const [lastEventId, reason] of [
      ['1795408776829004-9', 'ahead'],
      ['1795408776829003-3', 'unknown-epoch'],
    ] as const) {
      const reader = new Reader();
      hub.subscribe('a', reader, { lastEventId });
      turns.all();
      assert.deepEqual(
        reader.gaps.map((gap) => gap.reason),
        [reason],
      );
      assert.deepEqual(reader.texts, []);
    }
  });

  it('DEL of the log from outside: what neither it nor memory holds is truncated', async () => {
    const { log, hub, settle } = withLateLog();
    log.truncate(10);
    const reader = new Reader();
    hub.subscribe('a', reader, { lastEventId: '1795408776829004-3' });
    for (let i = 0; i < 6; i++) await settle();
    assert.deepEqual(
      reader.gaps.map(({ reason, from, to }) => [reason, from, to]),
      [['truncated', '1795408776829004-3', '1795408776829004-8']],
    );
    assert.deepEqual(reader.texts, ['9', '10']);
  });

  it('trimming while paging a long replay', async () => {
    const { log, hub, settle } = withLateLog();
    const reader = new Reader();
    hub.subscribe(['a', 'b'], reader, { lastEventId: '1795408776829004-0' });
    await settle();
    await settle();
    const reached = reader.texts.length;
    assert.ok(reached > 0 && reached < 6);
    log.trim(8);
    for (let i = 0; i < 12; i++) await settle();
    const [gap, ...others] = reader.gaps;
    assert.deepEqual(
      [gap?.reason, gap?.to, gap?.topics, others],
      ['evicted', '1795408776829004-8', ['a'], []],
    );
    const from = Number(gap?.from?.slice(2));
    assert.deepEqual(reader.texts, [...seqs(1, from), ...seqs(9, 10)]);
  });

  it('reader disconnected mid-page', async () => {
    const { hub, turns, settle } = withLateLog();
    const reader = new Reader();
    hub.subscribe('a', reader, { lastEventId: '1795408776829004-0' });
    turns.all();
    const written = reader.chunks.length;
    reader.destroy();
    await settle();
    assert.deepEqual([reader.chunks.length, hub.size], [written, 0]);
  });

  it('end of topic during replay', async () => {
    const { hub, turns, settle } = withLateLog();
    const reader = new Reader();
    hub.subscribe('a', reader, { lastEventId: '1795408776829004-0' });
    turns.all();
    hub.end('a');
    for (let i = 0; i < 12; i++) await settle();
    assert.deepEqual(reader.texts, seqs(1, 10));
    assert.equal(reader.events.at(-1)!.event, 'sluice:end');
    assert.ok(reader.writableEnded);
  });

  it('shutdown during replay: the rest comes from the next process', async () => {
    const { log, hub, settle } = withLateLog();
    const reader = new Reader();
    hub.subscribe('a', reader, { lastEventId: '1795408776829004-0' });
    await settle();
    reader.end();
    await settle();
    assert.equal(hub.size, 0);
    log.answer = (look) => look();
    const { hub: next, turns } = handRun({ log });
    const again = new Reader();
    next.subscribe('a', again, { lastEventId: reader.events.at(-1)!.id });
    turns.all();
    assert.deepEqual([...reader.texts, ...again.texts], seqs(1, 10));
  });

  it('permission withdrawn during replay, between a page and the next, and during an asynchronous read', async () => {
    let isAllowed = true;
    const { hub, turns } = handRun({ maxPageBytes: 40 });
    for (let i = 1; i <= 9; i++) hub.publish('a', { data: String(i) });
    const reader = new Reader();
    hub.subscribe('a', reader, { lastEventId: '1795408776829004-0', may: () => isAllowed });
    turns.next();
    turns.next();
    isAllowed = false;
    turns.all();
    assert.deepEqual([reader.texts, reader.writableEnded, hub.size], [['1', '2'], true, 0]);

    isAllowed = true;
    const late = withLateLog();
    const waiting = new Reader();
    late.hub.subscribe(['a', 'b'], waiting, {
      lastEventId: '1795408776829004-0',
      may: (topic) => topic === 'b' || isAllowed,
    });
    late.turns.all();
    isAllowed = false;
    await late.settle();
    assert.deepEqual([waiting.texts, waiting.writableEnded, late.hub.size], [[], true, 0]);
  });

  it('two events in one millisecond with the cut between them', () => {
    const { hub, turns } = handRun({ now: () => 1 });
    const reader = new Reader();
    hub.subscribe('a', reader);
    for (const data of ['1', '2']) hub.publish('a', { data });
    turns.all();
    const again = new Reader();
    hub.subscribe('a', again, { lastEventId: reader.of()[0]!.id });
    turns.all();
    assert.deepEqual(again.texts, ['2']);
  });

  it('id on a control frame: from each of them the rest is whole', () => {
    const { hub, turns } = handRun({ history: { maxEvents: 3 } });
    for (let i = 1; i <= 5; i++) hub.publish('a', { data: String(i) });
    const reader = new Reader();
    hub.subscribe('a', reader, { lastEventId: '1795408776829004-1' });
    hub.end('a');
    turns.all();
    const control = reader.events.filter(({ event }) => event?.startsWith('sluice:'));
    assert.deepEqual(
      control.map(({ event, id }) => `${event} ${id}`),
      ['sluice:ready 1795408776829004-1', 'sluice:gap 1795408776829004-2', 'sluice:end 1795408776829004-5'],
    );
    const rests = control.map(({ id }) => {
      const again = new Reader();
      hub.subscribe('a', again, { lastEventId: id });
      turns.all();
      return again.texts;
    });
    assert.deepEqual(rests, [['3', '4', '5'], ['3', '4', '5'], []]);
  });

  it('client that persists its id too early: the id of ready is never ahead of what was written', async () => {
    const { hub, turns } = handRun({ maxPageBytes: 40 });
    for (let i = 1; i <= 9; i++) hub.publish('a', { data: String(i) });
    const reader = slowReader();
    hub.subscribe('a', reader, { lastEventId: '1795408776829004-2' });
    for (let i = 0; i < 3; i++) {
      turns.all();
      const last = reader.events.at(-1)!.id; // kept as soon as it is there, the connection being cut after it
      const again = new Reader();
      hub.subscribe('a', again, { lastEventId: last });
      turns.all();
      assert.deepEqual([...reader.texts, ...again.texts], seqs(3, 9));
      await drain(reader);
    }
  });
});
