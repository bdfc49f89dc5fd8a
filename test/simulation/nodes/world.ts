// Runs one scenario: nodes, clients, publishers and the network between them, under one clock.

import type { HubOptions } from '../../../lib/hub.ts';
import { parseId } from '../../../lib/protocol.ts';
import type { Transport } from '../../../lib/transport.ts';
import { SharedStore } from '../../helpers/shared-store.ts';
import { Chance, type Draws } from './chance.ts';
import {
  compare,
  type Disturbance,
  type Finding,
  type Item,
  judge,
  type Life,
  type Publication,
} from './checker.ts';
import { Clock, drained } from './clock.ts';
import { Connection, type Surroundings, transportOver } from './net.ts';
import { SimNode } from './node.ts';
import { OwnFile } from './own-file.ts';
import { Races } from './races.ts';
import { Reader } from './reader.ts';
import { type NodeStore, RedisStore } from './redis-store.ts';
import { isShared, type Scenario, type Step, type Trigger } from './scenario.ts';
import { SqliteDisk } from './sqlite-disk.ts';

export interface Outcome {
  readonly findings: readonly Finding[];
  readonly races: Races;
  readonly draws: Draws;
  readonly story: readonly string[];
  readonly steps: number;
  readonly delivered: number;
}

/** What a test may spoil, to see whether it is noticed. */
export interface Spoilers {
  readonly lineage?: 'gap' | 'trust';
  /** Whether a client reads what it may not. */
  readonly mayAll?: boolean;
  /** Wraps the log of a node. */
  log?(log: object, node: string): object;
  /** Changes the items that a client received. */
  item?(item: Item, life: Life): Item | undefined;
}

const CALM = 5000;
const ANSWER_TIMEOUT = 1500;

export async function runScenario(
  scenario: Scenario,
  {
    draws = {},
    isTold = false,
    spoilers = {},
  }: { draws?: Draws; isTold?: boolean; spoilers?: Spoilers } = {},
): Promise<Outcome> {
  const world = new World(scenario, new Chance(scenario.seed, draws), isTold, spoilers);
  return world.run();
}

class World implements Surroundings {
  readonly clock: Clock;
  readonly chance: Chance;
  readonly races: Races = new Races();
  readonly lives: Life[] = [];
  readonly story: string[] = [];
  readonly #scenario: Scenario;
  readonly #isTold: boolean;
  readonly #spoilers: Spoilers;
  readonly #nodes: SimNode[];
  readonly #readers: Reader[];
  readonly #connections: Connection[] = [];
  readonly #publications: Map<number, Publication> = new Map();
  readonly #disturbances: Disturbance[] = [];
  readonly #withdrawn: Map<string, number> = new Map();
  readonly #armed: Map<string, Trigger> = new Map();
  readonly #store: NodeStore;
  readonly #redis: RedisStore | undefined;
  readonly #file: OwnFile;
  readonly #disk: SqliteDisk | undefined;
  /** Epochs that nobody can know of any more. */
  readonly #strays: Set<number> = new Set();
  /** Topics that were shortened on purpose, or deleted. */
  readonly #shortened: { readonly topic: string; readonly time: number }[] = [];
  readonly #downNodes: Set<SimNode> = new Set();
  #isCalm = false;
  #numbers = 0;
  #requests = 0;
  /** How many reads are under way, by node. */
  readonly #reads: Map<string, number> = new Map();
  #losesWakesUntil = -1;
  #losesAnswersUntil = -1;
  #splitWrites: { readonly minority: number; readonly majority: number } | undefined;
  #failure: Error | undefined;

  constructor(scenario: Scenario, chance: Chance, isTold: boolean, spoilers: Spoilers) {
    this.#scenario = scenario;
    this.chance = chance;
    this.#isTold = isTold;
    this.#spoilers = spoilers;
    this.clock = new Clock(chance.numbers('world'));
    const { nodes, readers, kept, maxFeed } = scenario;
    this.#nodes = Array.from({ length: nodes }, (_, i) => new SimNode(`node ${i + 1}`, this));
    this.#readers = readers.map((plan) => new Reader(plan, this));
    const heal = this.chance.stream('heal');
    const fateOfOld = () => ({ isKept: heal.of(0.5), lags: heal.of(0.3) });
    const store = {
      maxEvents: Math.max(2, kept),
      maxFeed,
      checkInterval: 700,
      lineage: spoilers.lineage ?? scenario.lineage,
      outside: this.clock.outside,
      network: this.#storeNetwork(),
    };
    this.#redis = scenario.kind === 'redis' ? new RedisStore({ ...store, fateOfOld }) : undefined;
    this.#store = this.#redis ?? new SharedStore(store);
    this.#file = new OwnFile(1_795_408_776_000_000, kept);
    this.#disk = scenario.kind === 'sqlite' ? new SqliteDisk(kept) : undefined;
  }

  isCalm(): boolean {
    return this.#isCalm;
  }

  /** Called when the process of a node is gone. */
  onGone(): void {
    this.#disk?.close();
  }

  tell(who: string, line: () => string): void {
    if (this.#isTold) this.story.push(`${String(this.clock.time).padStart(6)} ms  ${who} ${line()}`);
  }

  async run(): Promise<Outcome> {
    const { clock } = this;
    const onRejection = (error: unknown): void => {
      this.#failure ??= error as Error;
    };
    process.on('unhandledRejection', onRejection);
    let ended: ReadonlySet<string> = new Set();
    clock.install();
    // Traces of stacks, which nobody reads, would take a tenth of the time.
    const { stackTraceLimit } = Error;
    Error.stackTraceLimit = this.#isTold ? stackTraceLimit : 0;
    try {
      for (const node of this.#nodes) node.start();
      for (const reader of this.#readers) {
        const delay = this.chance.stream('arrivals').below(600);
        clock.later(delay, () => reader.start());
      }
      for (const step of this.#scenario.steps) clock.later(step.at, () => this.#do(step));
      await clock.run(this.#scenario.length);
      this.#calm();
      await clock.run(CALM, () => this.#failure !== undefined);
      for (const reader of this.#readers) this.#note(reader);
      ended = this.#endedTopics();
      const isRunning = this.lives.filter(({ fate }) => fate === 'running');
      for (const reader of this.#readers) reader.crash();
      for (const life of isRunning) life.fate = 'running';
      for (const node of this.#nodes) node.crash();
      await drained();
      await clock.run(10);
    } finally {
      clock.uninstall();
      this.#disk?.dispose();
      Error.stackTraceLimit = stackTraceLimit;
      process.off('unhandledRejection', onRejection);
    }
    if (this.#failure !== undefined) throw this.#failure;
    const findings = judge({
      publications: this.#publications,
      lives: this.lives,
      disturbances: this.#disturbances,
      ended,
      strays: this.#strays,
      keptOf: (topic, time) => this.#keptOf(topic, time),
      withdrawnAt: (client, topic) => this.#withdrawn.get(`${client} ${topic}`) ?? Infinity,
    });
    return {
      findings,
      races: this.races,
      draws: this.chance.draws,
      story: this.story,
      steps: clock.steps,
      delivered: this.lives.reduce((sum, { items }) => sum + items.length, 0),
    };
  }

  get #isReading(): boolean {
    return [...this.#reads.values()].some((count) => count > 0);
  }

  #endedTopics(): ReadonlySet<string> {
    const { kind, topics } = this.#scenario;
    if (isShared(kind)) return new Set(topics.filter((topic) => this.#store.isEnded(topic)));
    const known = this.#nodes[0]!.hub!.topics();
    return new Set(known.filter(({ ended }) => ended).map(({ topic }) => topic));
  }

  /** How many events of a topic nobody can have dropped by then. */
  #keptOf(topic: string, time: number): number {
    if (this.#shortened.some((one) => one.topic === topic && one.time <= time)) return 0;
    const { kind, memory, kept } = this.#scenario;
    return kind === 'memory' ? memory : Math.max(2, kept);
  }

  // ── nodes ───────────────────────────────────────────────────────────────────────────────────────────────

  hubOptions(node: SimNode): HubOptions {
    const { kind, memory, pageBytes } = this.#scenario;
    const options = { history: () => ({ maxEvents: memory }), maxPageBytes: pageBytes };
    if (kind === 'memory') return options as HubOptions;
    const opened: object =
      kind === 'own' ? this.#openFile() : (this.#disk?.open() ?? this.#store.open(node.name));
    const log = this.#spoilers.log?.(opened, node.name) ?? opened;
    const onError = (error: unknown, context: unknown): void =>
      this.tell(node.name, () => `reports ${JSON.stringify(context)}: ${(error as Error).message}`);
    return { ...options, log, onError } as unknown as HubOptions;
  }

  #openFile(): object {
    const file = this.#file;
    const chance = this.chance.stream('file');
    file.onFailure = () => this.races.met('append that fails');
    file.answer = (look) => {
      if (chance.of(0.5)) return look();
      const read = (change: number): void => {
        this.#reads.set('file', (this.#reads.get('file') ?? 0) + change);
      };
      read(1);
      const page = chance.of(0.5) ? look() : undefined;
      return new Promise((resolve) => {
        setTimeout(() => {
          read(-1);
          resolve(page ?? look());
        }, 1 + chance.below(20));
      });
    };
    return file.open();
  }

  #storeNetwork() {
    const chances = new Map<string, ReturnType<Chance['stream']>>();
    const of = (node: string) => {
      const known = chances.get(node) ?? this.chance.stream(`store of ${node}`);
      chances.set(node, known);
      return known;
    };
    return {
      timeout: 400,
      delay: (node: string): number => (of(node).of(0.1) ? of(node).below(80) : of(node).below(5)),
      fate: (node: string, command: string): 'done' | 'lost' | 'unanswered' => {
        if (command !== 'write' || this.clock.time > this.#losesAnswersUntil) return 'done';
        return of(node).pick(['done', 'lost', 'unanswered'] as const);
      },
      wakes: (): boolean => {
        if (this.clock.time > this.#losesWakesUntil) return true;
        this.races.met('last wake-up lost before silence');
        return false;
      },
      onRead: (node: string, isBegin: boolean): void => {
        this.#reads.set(node, (this.#reads.get(node) ?? 0) + (isBegin ? 1 : -1));
      },
    };
  }

  may(client: string, topic: string): boolean {
    return this.#spoilers.mayAll === true || !this.#withdrawn.has(`${client} ${topic}`);
  }

  onConnection(node: SimNode, connection: Connection): void {
    const { client, lastEventId } = connection;
    this.tell(client, () => `reaches ${node.name} with ${lastEventId || 'no place'}`);
    const place = parseId(lastEventId);
    const head = parseId(node.hub!.position);
    if (place === undefined || head === undefined) return;
    if (compare(place, head) > 0 && isShared(this.#scenario.kind))
      this.races.met('reconnect to a process that lags');
    if (isShared(this.#scenario.kind) && place.epoch < head.epoch && head.seq > place.seq)
      this.races.met('promotion, then the head passes the client');
    const isTwin = this.#connections.some(
      (other) =>
        other !== connection &&
        other.client === client &&
        !other.wire.destroyed &&
        other.lastEventId === lastEventId,
    );
    if (isTwin) this.races.met('two connections with one id');
  }

  // ── clients ─────────────────────────────────────────────────────────────────────────────────────────────

  transportFor(reader: Reader): Transport {
    return transportOver(() => {
      const chance = this.chance.stream(`way of ${reader.name}`);
      const up = this.#nodes.filter((node) => node.isUp);
      const node = chance.pick(up.length > 0 && chance.of(0.9) ? up : this.#nodes);
      const name = `${reader.name} #${++this.#requests}`;
      const connection = new Connection(name, reader.name, peerOf(node), chance, this);
      this.#connections.push(connection);
      reader.life!.asks.push(this.clock.time);
      if (reader.isAtControl) this.races.met('id on a control frame');
      return connection;
    });
  }

  onItem(reader: Reader, item: Item): void {
    const life = reader.life!;
    if (this.#spoilers.item !== undefined) {
      life.items.pop();
      const spoiled = this.#spoilers.item(item, life);
      if (spoiled !== undefined) life.items.push(spoiled);
    }
    this.tell(reader.name, () => `receives ${described(item)}`);
    if (item.kind === 'gap' && item.reason === 'evicted' && life.items.length > 2)
      this.races.met('slow client overtaken');
    const from = item.kind === 'gap' && item.reason === 'store-changed' ? parseId(item.from) : undefined;
    if (from === undefined || !(from.seq > (this.#endOf(from.epoch) ?? 0))) return;
    const isFile = !isShared(this.#scenario.kind);
    this.races.met(
      isFile ? 'file that lost its tail, client ahead' : 'promotion with a lost tail, client ahead',
    );
  }

  /** What was kept of an epoch that is over. */
  #endOf(epoch: number): number | undefined {
    if (isShared(this.#scenario.kind)) return this.#store.endOf(epoch);
    if (this.#scenario.kind === 'sqlite') return undefined;
    const past = this.#file.epochs.find((one) => one.epoch === epoch);
    return past?.end === undefined ? undefined : past.end - past.base;
  }

  #note(reader: Reader): void {
    this.tell(reader.name, () => `is ${reader.life?.fate} at the end, at ${reader.life?.items.at(-1)?.id}`);
  }

  #connectionOf(reader: Reader): Connection | undefined {
    return this.#connections.findLast((connection) => connection.client === reader.name && connection.isOpen);
  }

  // ── cuts ────────────────────────────────────────────────────────────────────────────────────────────────

  onSend(connection: Connection): void {
    const when = this.#armed.get(connection.client);
    if (when === undefined || this.#isCalm) return;
    const { underWay } = connection;
    const isNow =
      when === 'gap under way'
        ? underWay.includes('sluice:gap')
        : when === 'before the first event'
          ? !connection.arrived.includes('data: ') && underWay.includes('data: ')
          : when === 'reading' && this.#isReading;
    if (isNow) this.#cutArmed(connection);
  }

  onArrive(connection: Connection): void {
    const when = this.#armed.get(connection.client);
    if (when === undefined || this.#isCalm) return;
    const isNow =
      when === 'inside a frame'
        ? isInsideFrame(connection)
        : when === 'between two' && isBetweenTwo(connection);
    if (isNow) this.#cutArmed(connection);
  }

  #cutArmed(connection: Connection): void {
    this.#armed.delete(connection.client);
    this.clock.outside(() => this.clock.later(0, () => connection.cut()));
  }

  onCut(connection: Connection): void {
    const { arrived, underWay } = connection;
    this.tell(connection.client, () => `loses its connection, ${underWay.length} bytes under way`);
    if (underWay.includes('sluice:gap')) this.races.met('cut after the gap is written but before it arrives');
    if (isInsideFrame(connection)) this.races.met('cut inside a frame');
    if (isBetweenTwo(connection)) this.races.met('two events in one millisecond with the cut between them');
    if (!/^data: [a-z] \d/m.test(arrived)) this.races.met('cut before the first event');
    if (this.#isReading) this.races.met('reader disconnected mid-page');
  }

  // ── publishers ──────────────────────────────────────────────────────────────────────────────────────────

  #publish(step: Step & { readonly do: 'publish' }): void {
    const { topic, key, count, retries } = step;
    const isHasty = step.isHasty === true && !isShared(this.#scenario.kind);
    const first = this.#numbers + 1;
    this.#numbers += count;
    const batch = Array.from({ length: count }, (_, i) => first + i);
    const isIdempotent = this.#scenario.kind !== 'memory' && !isHasty;
    const sentAt = this.clock.time;
    const publications = batch.map((n): Publication => {
      const one = {
        n,
        topic,
        key,
        batch,
        sentAt,
        attempts: 0,
        isIdempotent,
        id: undefined,
        answeredAt: Infinity,
        isRefused: false,
      };
      this.#publications.set(n, one);
      return one;
    });
    void this.clock.outside(() => this.#publishAll(publications, retries, isHasty));
  }

  async #publishAll(publications: readonly Publication[], retries: boolean, isHasty: boolean): Promise<void> {
    const [{ n, topic }] = publications as [Publication];
    const who = `publisher of ${n}`;
    let isDoubtful = false;
    for (let attempt = 1; attempt <= (retries ? 4 : 1); attempt++) {
      for (const publication of publications) publication.attempts++;
      const answer = await this.#sendTo(publications, isHasty);
      this.tell(
        who,
        () =>
          `(${publications.length} for ${topic}) is answered ${'ids' in answer ? answer.ids : answer.code}`,
      );
      if ('ids' in answer) {
        publications.forEach((publication, i) => {
          // A hasty one was answered before anybody knows that the event is kept.
          if (isHasty && this.#scenario.kind !== 'memory') return;
          publication.id = answer.ids[i];
          publication.answeredAt = this.clock.time;
        });
        return;
      }
      if (answer.code === 'timeout' || answer.code === 'ERR_SSE_OUTCOME_UNKNOWN') {
        isDoubtful = true;
        if (attempt < 4 && retries) this.races.met('publisher retry after a time-out');
      } else if (answer.code !== 'ERR_SSE_LOG_UNAVAILABLE' && answer.code !== 'ECONNREFUSED') break;
      await new Promise((resolve) => this.clock.later(100, () => resolve(undefined)));
    }
    if (!isDoubtful) for (const publication of publications) publication.isRefused = true;
  }

  #sendTo(
    publications: readonly Publication[],
    isHasty: boolean,
  ): Promise<{ ids: readonly string[] } | { code: string }> {
    const { clock } = this;
    const chance = this.chance.stream(`publisher of ${publications[0]!.n}`);
    const up = this.#nodes.filter((node) => node.isUp);
    const node = chance.pick(up.length > 0 ? up : this.#nodes);
    const delay = (): number => (chance.of(0.1) ? chance.below(100) : chance.below(4));
    const { process } = node;
    return new Promise((resolve) => {
      clock.later(ANSWER_TIMEOUT, () => resolve({ code: 'timeout' }));
      clock.later(delay(), () => {
        if (process === undefined || process.isDead) return resolve({ code: 'ECONNREFUSED' });
        const answer = (value: { ids: readonly string[] } | { code: string }): void => {
          if (process.isDead) return;
          clock.outside(() => clock.later(delay(), () => resolve(value)));
        };
        clock.as(process, () =>
          this.#append(node, publications, isHasty).then(
            (ids) => answer({ ids }),
            (error) => answer({ code: codeOf(error) }),
          ),
        );
      });
    });
  }

  async #append(
    node: SimNode,
    publications: readonly Publication[],
    isHasty: boolean,
  ): Promise<readonly string[]> {
    const [{ n, topic }] = publications as [Publication];
    const events = publications.map(({ n, key }) => ({ data: `${topic} ${n} ${'.'.repeat(n % 90)}`, key }));
    if (this.#isReading) this.races.met('publish during an asynchronous read');
    if (this.#connections.some((connection) => connection.isOpen && connection.arrived === ''))
      this.races.met('publish between replay and join');
    const hub = node.hub!;
    if (isHasty) return hub.publishAll(topic, events);
    const options = this.#scenario.kind !== 'memory' ? { idempotency: { key: `k${n}`, digest: 'd' } } : {};
    if (events.length === 1) return [await hub.append(topic, events[0]!, options)];
    return hub.appendAll(topic, events, options);
  }

  #change(topic: string, change: 'end' | 'reopen' | 'delete'): void {
    const node = this.#nodes.find((one) => one.isUp);
    if (node === undefined) return;
    if (change === 'end' && this.#nodes.some((one) => one.hasLaggards))
      this.races.met('end of topic during replay');
    this.tell(node.name, () => `${change}s ${topic}`);
    this.clock.as(node.process!, () => {
      node.hub!.change(topic, change).catch((error) => {
        this.tell(node.name, () => `did not ${change} ${topic}: ${codeOf(error)}`);
      });
    });
  }

  // ── steps ───────────────────────────────────────────────────────────────────────────────────────────────

  #do(step: Step): void {
    this.clock.outside(() => this.#doOutside(step));
  }

  #doOutside(step: Step): void {
    const { races, clock } = this;
    const kind = this.#scenario.kind;
    // A trim of an SQLite file is a backup of it.
    const isShortening =
      (step.do === 'trim' && kind !== 'sqlite') ||
      step.do === 'evict' ||
      (step.do === 'change' && step.change === 'delete');
    if (isShortening) this.#shortened.push({ topic: step.topic, time: clock.time });
    switch (step.do) {
      case 'publish':
        return this.#publish(step);
      case 'change':
        return this.#change(step.topic, step.change);
      case 'kick':
        return this.#nodes[step.node]?.kick();
      case 'stop':
      case 'crash':
        return this.#takeDown(this.#nodes[step.node]!, step.do, step.down);
      case 'cut':
      case 'half-dead':
      case 'arm':
      case 'restart client':
      case 'forge':
      case 'withdraw':
        return this.#disturbClient(step, this.#readers[step.client]!);
      case 'fail appends':
        this.#file.failures = step.times;
        return;
      case 'restart store':
        if (kind === 'own' || kind === 'sqlite') return this.#loseFileTail(step.lost);
    }
    if (kind === 'sqlite' && step.do === 'trim' && this.#nodes[0]!.isUp) return this.#disk!.backUp();
    if (kind === 'own' && step.do === 'trim') {
      if (this.#isReading) races.met('eviction between check and read');
      if (this.#nodes[0]!.hasLaggards) races.met('trimming while paging a long replay');
      return this.#file.trim(step.topic, step.keep);
    }
    if (!isShared(kind)) return;
    this.tell('store', () => `suffers: ${JSON.stringify(step)}`);
    const disturb = (what: Disturbance['kind'], lasts = 0): void => {
      this.#disturbances.push({ time: clock.time, kind: what, end: clock.time + lasts });
    };
    const store = this.#store;
    switch (step.do) {
      case 'fail over':
      case 'restart store':
        if (this.#scenario.lineage !== 'trust') disturb('order');
        this.#endSplit();
        if (step.do === 'fail over') store.failOver(step);
        else store.restart(step);
        if (step.lost === 0) races.met('restart of the store without loss');
        return;
      case 'split':
        disturb('order');
        disturb('order');
        disturb('away', step.lasts);
        this.#endSplit();
        store.split({ lost: step.lost, minority: [this.#nodes[step.node]!.name] });
        this.#splitWrites = store.sizes;
        clock.later(step.lasts, () => this.#endSplit());
        return;
      case 'rename order':
        return store.renameOrder();
      case 'trim feed':
        races.met('loss of the feed');
        return store.trimFeed();
      case 'flush':
        races.met('loss of everything');
        disturb('order');
        return store.flush();
      case 'evict meta':
      case 'evict index':
        races.met('loss of the metadata or the index');
        disturb('order');
        return step.do === 'evict meta' ? store.evictMeta() : store.evictIndex();
      case 'disconnect': {
        const { name } = this.#nodes[step.node]!;
        disturb('away', step.lasts);
        store.disconnect(name);
        clock.later(step.lasts, () => store.reconnect(name));
        return;
      }
      case 'trim':
        if (this.#isReading) races.met('eviction between check and read');
        if (this.#nodes.some((node) => node.hasLaggards)) races.met('trimming while paging a long replay');
        return store.trim(step.topic, step.keep);
      case 'evict':
        races.met('loss of a history');
        return store.evict(step.topic);
      case 'lose wakes':
        this.#losesWakesUntil = clock.time + step.lasts;
        return;
      case 'lose answers':
        this.#losesAnswersUntil = clock.time + step.lasts;
        return;
      case 'evict helper':
        return this.#redis?.evictHelper(step.topic);
      case 'no memory':
        return this.#fillMemory(step.lasts);
    }
  }

  #fillMemory(lasts: number): void {
    const server = this.#redis!.primary;
    server.isFull = true;
    this.clock.later(lasts, () => {
      server.isFull = false;
    });
  }

  #endSplit(): void {
    const before = this.#splitWrites;
    if (before === undefined) return;
    this.#splitWrites = undefined;
    const { minority, majority } = this.#store.sizes;
    if (minority > before.minority && majority > before.majority) this.races.met('split brain, both accept');
    for (const epoch of this.#store.strayEpochs) this.#strays.add(epoch);
    this.#store.heal();
  }

  #loseFileTail(lost: number): void {
    const [node] = this.#nodes as [SimNode];
    if (!node.isUp) return;
    this.#disturbances.push({ time: this.clock.time, kind: 'order' });
    this.tell('file', () => `loses its last ${lost} writes`);
    node.crash();
    this.#reads.delete('file');
    this.#file.loseTail(lost, Date.now() * 1000);
    this.#disk?.losePower();
    if (lost > 0) this.#disk?.restore();
    this.#bringUp(node, 100);
  }

  #takeDown(node: SimNode, how: 'stop' | 'crash', down: number): void {
    if (!node.isUp) return;
    if (how === 'stop' && node.hasLaggards) this.races.met('shutdown during replay');
    if (this.#scenario.kind === 'memory') {
      this.races.met('restart of a memory log');
      this.#disturbances.push({ time: this.clock.time, kind: 'order' });
    }
    if (how === 'stop') node.stop();
    else {
      node.crash();
      this.#store.crash(node.name);
      this.#reads.delete(node.name);
    }
    this.#bringUp(node, how === 'stop' ? 310 + down : down);
  }

  #bringUp(node: SimNode, after: number): void {
    this.#downNodes.add(node);
    this.clock.later(after, () => {
      if (!this.#downNodes.delete(node)) return;
      node.crash();
      node.start();
    });
  }

  #disturbClient(step: Step & { readonly client: number }, reader: Reader): void {
    const { races, clock } = this;
    const connection = this.#connectionOf(reader);
    switch (step.do) {
      case 'cut':
        return connection?.cut();
      case 'half-dead':
        this.tell(reader.name, () => 'gets nothing any more, and is not told');
        if (connection !== undefined) connection.isHalfDead = true;
        return;
      case 'arm':
        this.#armed.set(reader.name, step.when);
        return;
      case 'restart client':
        if (reader.life === undefined || reader.isOver) return;
        if (reader.isEarly) races.met('client that persists its id too early');
        reader.crash();
        clock.later(step.down, () => reader.life?.fate === 'crashed' && reader.start());
        return;
      case 'forge':
        if (reader.life === undefined || reader.isOver || reader.plan.persists === 'never') return;
        races.met('unknown, malformed, future, foreign id');
        reader.crash();
        reader.forge(this.#forged(step.as));
        clock.later(20, () => reader.life?.fate === 'crashed' && reader.start());
        return;
      case 'withdraw':
        if (this.#withdrawn.has(`${reader.name} ${step.topic}`)) return;
        this.tell(reader.name, () => `may not read ${step.topic} any more`);
        if (this.#nodes.some((node) => node.hasLaggards)) races.met('permission withdrawn during replay');
        this.#withdrawn.set(`${reader.name} ${step.topic}`, clock.time);
        return;
    }
  }

  #forged(as: string): string {
    const position = this.#nodes.find((node) => node.isUp)?.hub?.position ?? '1-1';
    const { epoch, seq } = parseId(position) ?? { epoch: 1, seq: 1 };
    return {
      malformed: `${epoch}-${seq}-x`,
      future: `${epoch}-${seq + 1000}`,
      foreign: `${epoch + 999_999_999}-${seq}`,
      old: `1000-${seq}`,
    }[as]!;
  }

  // ── the end ─────────────────────────────────────────────────────────────────────────────────────────────

  /** From here on nothing fails: everything must arrive. */
  #calm(): void {
    this.clock.outside(() => {
      this.tell('world', () => 'calms down');
      this.#isCalm = true;
      this.#armed.clear();
      this.#file.failures = 0;
      this.#losesAnswersUntil = this.#losesWakesUntil = -1;
      this.#endSplit();
      this.#store.reconnect();
      for (const node of this.#nodes) {
        this.#downNodes.delete(node);
        if (node.isUp) continue;
        node.crash();
        node.start();
      }
      for (const connection of this.#connections) if (connection.isHalfDead) connection.cut();
      for (const reader of this.#readers)
        if (reader.life === undefined || reader.life.fate === 'crashed') reader.start();
      if (this.chance.stream('calm').of(0.5)) {
        this.clock.later(CALM / 3, () => {
          for (const topic of this.#scenario.topics)
            this.#publish({ at: 0, do: 'publish', topic, count: 1, retries: true });
        });
      }
    });
  }
}

/** The process that a connection reaches is the one that runs when it is made. */
function peerOf(node: SimNode) {
  const { process } = node;
  return {
    process,
    accept: (...args: Parameters<SimNode['accept']>): void => node.accept(...args),
  };
}

function isInsideFrame({ arrived }: Connection): boolean {
  return arrived.includes('\r\n\r\n') && !/\n\n\r\n$/.test(arrived) && !arrived.endsWith('\r\n\r\n');
}

/** Whether the last event that has arrived and the next one are of one batch. */
function isBetweenTwo({ arrived, underWay }: Connection): boolean {
  if (!arrived.endsWith('\n\n') && !arrived.endsWith('\n\n\r\n')) return false;
  const last = /data: ([a-z]) (\d+) /.exec(arrived.slice(arrived.lastIndexOf('data: ')));
  const next = /data: ([a-z]) (\d+) /.exec(underWay);
  return last !== null && next !== null && Number(last[2]) + 1 === Number(next[2]);
}

function described(item: Item): string {
  if (item.kind === 'event') return `${item.topic} ${item.n} (${item.id})`;
  if (item.kind !== 'gap') return `${item.kind} ${item.id}`;
  return `a gap: ${item.reason} from ${item.from} to ${item.to} of ${item.topics}, going on at ${item.id}`;
}

function codeOf(error: unknown): string {
  return (error as { code?: string }).code ?? String(error);
}
