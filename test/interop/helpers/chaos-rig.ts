// Several nodes on one log, readers that change from one to another, publishers that retry, and one checker over all
// that they have seen.
//
//     const rig = await startChaosRig(t, { log: (node) => new RedisLog(…) });
//     rig.disturb('order');               what was done to the store, which explains gaps
//     await rig.settled();                publishers go on, and every reader has all that they were answered
//     rig.check({ gaps: 'store-changed', each: 1 });

import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { Hub, type HubOptions } from '../../../lib/hub.ts';
import type { SharedLog } from '../../../lib/log.ts';
import { formatId, parseId } from '../../../lib/protocol.ts';
import { createSseServer, type LogLine, type SseServer } from '../../../lib/server.ts';
import { freePort } from '../../helpers/free-port.ts';
import type { Cleanup } from '../../helpers/server.ts';
import { Chance } from '../../simulation/nodes/chance.ts';
import { compare, type Disturbance, judge, type Publication } from '../../simulation/nodes/checker.ts';
import { ChaosPublisher } from './chaos-publisher.ts';
import { ChaosReader } from './chaos-reader.ts';

export interface ChaosRigOptions {
  /** The log of a node, from 0, whenever it starts. */
  readonly log: (node: number) => SharedLog;
  readonly nodes?: number;
  readonly readers?: number;
  /** Events are published to these. Besides, there is one to which nothing is published. */
  readonly topics?: readonly string[];
  /** Milliseconds between two cuts of a reader; `Infinity`: none is cut. */
  readonly cutInterval?: number;
  readonly hub?: HubOptions;
  readonly seed?: number;
  /** Milliseconds after which what is waited for must hold: a failed test says more than one that hangs. */
  readonly patience?: number;
}

/** How many gaps of which reasons there may be since the last check. */
export interface Expected {
  /** `none`: no gap of any reason. A reason: gaps of this one, and no other. `any`: as the checker says. */
  readonly gaps: 'none' | 'any' | 'store-changed' | 'evicted';
  /** Exactly so many for each reader; without it, any number. */
  readonly each?: number;
}

const QUIET = 'quiet';

class ChaosNode {
  readonly url: string;
  readonly lines: LogLine[] = [];
  readonly #port: number;
  readonly #options: () => HubOptions;
  server: SseServer | undefined;
  hub: Hub | undefined;

  constructor(port: number, options: () => HubOptions) {
    this.#port = port;
    this.url = `http://127.0.0.1:${port}`;
    this.#options = options;
  }

  async start(): Promise<void> {
    const logger = (line: LogLine): void => void this.lines.push(line);
    const onError: HubOptions['onError'] = (error, { task }) =>
      logger({ level: 'error', event: 'log-failed', task, message: String(error) });
    this.hub = new Hub({ onError, retry: 100, ...this.#options() });
    this.server = createSseServer({ hub: this.hub, logger, heartbeat: { interval: 500 } });
    await this.server.listen(this.#port);
  }

  async stop(): Promise<void> {
    await this.server?.close({ deadline: 100 });
    await this.hub?.close();
    this.server = undefined;
  }

  async status(path: string): Promise<{ readonly status: number; readonly text: string }> {
    const answer = await fetch(`${this.url}${path}`);
    return { status: answer.status, text: await answer.text() };
  }
}

export class ChaosRig {
  readonly nodes: ChaosNode[] = [];
  readonly readers: ChaosReader[] = [];
  readonly publishers: ChaosPublisher[] = [];
  readonly publications: Map<number, Publication> = new Map();
  readonly seed: number;
  /** How many pages nodes have read from their logs. */
  reads = 0;
  readonly #disturbances: Disturbance[] = [];
  readonly #shortened: { readonly topic: string; readonly time: number }[] = [];
  readonly #errors: string[] = [];
  readonly #random: () => number;
  readonly #cutInterval: number;
  readonly #patience: number;
  /** For each reader: the items that were checked. */
  #checked: number[] = [];
  #numbers = 0;
  #areCutsOff = false;
  #isOver = false;
  #cutting: Promise<void> | undefined;

  constructor(options: ChaosRigOptions) {
    const { seed = Math.floor(Math.random() * 2 ** 31), cutInterval = 100, patience = 30_000 } = options;
    this.seed = seed;
    this.#random = new Chance(seed).numbers('rig');
    this.#cutInterval = cutInterval;
    this.#patience = patience;
  }

  async start(options: ChaosRigOptions): Promise<void> {
    const { log, nodes = 3, readers = 60, topics = ['a', 'b', 'c'], hub = {} } = options;
    for (let i = 0; i < nodes; i++) {
      // So few that a reader who was away for a moment needs the log.
      const history = { maxEvents: 8 };
      const hubOptions = (): HubOptions => ({ history, ...hub, log: this.#counted(log(i)) });
      const node = new ChaosNode(await freePort(), hubOptions);
      this.nodes.push(node);
      await node.start();
    }
    await this.until('the nodes know the order', () =>
      this.nodes.every(({ hub }) => hub!.failure === undefined),
    );
    for (let i = 0; i < readers; i++) this.#addReader(i, topics);
    await this.until('the readers are connected', () =>
      this.readers.every(({ place }) => place !== undefined),
    );
    for (const topic of topics) this.#addPublisher(topic);
    if (this.#cutInterval < Infinity) this.#cutting = this.#cutReaders();
    await this.settled();
    this.check({ gaps: 'none' });
  }

  #counted(log: SharedLog): SharedLog {
    const read = log.read.bind(log);
    log.read = (...asked) => {
      this.reads++;
      return read(...asked);
    };
    return log;
  }

  /** Most follow one topic, some two, and some one to which nothing is published. */
  #addReader(i: number, topics: readonly string[]): void {
    const [one, next] = [topics[i % topics.length]!, topics[(i + 1) % topics.length]!];
    const followed = i % 10 === 9 ? [QUIET] : i % 10 === 8 ? [one, next] : [one];
    const reader = new ChaosReader({
      name: `reader ${i + 1} of ${followed.join(' and ')}`,
      topics: followed,
      node: () => this.#anyNode(),
      delay: () => 10 + 90 * this.#random(),
      onError: (message) => void this.#errors.push(message),
    });
    this.readers.push(reader);
    reader.start();
  }

  #addPublisher(topic: string): void {
    const publisher = new ChaosPublisher({
      topic,
      node: () => this.#anyNode(),
      number: () => ++this.#numbers,
      publications: this.publications,
      pause: 30,
      onError: (message) => void this.#errors.push(message),
    });
    this.publishers.push(publisher);
    publisher.start();
  }

  #anyNode(): string {
    const up = this.nodes.filter(({ server }) => server !== undefined);
    const among = up.length > 0 ? up : this.nodes;
    return among[Math.floor(this.#random() * among.length)]!.url;
  }

  async #cutReaders(): Promise<void> {
    while (!this.#isOver) {
      await sleep(this.#cutInterval * 2 * this.#random());
      if (!this.#areCutsOff) this.readers[Math.floor(this.#random() * this.readers.length)]!.cut();
    }
  }

  // ── what is done ────────────────────────────────────────────────────────────────────────────────────────

  /** States what is done to the store from now on, for the checker. `lasts`: in milliseconds. */
  disturb(kind: Disturbance['kind'], lasts = 0): void {
    const time = performance.now();
    this.#disturbances.push({ time, kind, end: time + lasts });
  }

  /** The log may have dropped events of these topics from now on. */
  shorten(...topics: readonly string[]): void {
    for (const topic of topics) this.#shortened.push({ topic, time: performance.now() });
  }

  /** While they are off, no reader is cut: for faults in which two nodes disagree on purpose. */
  set cuts(are: 'on' | 'off') {
    this.#areCutsOff = are === 'off';
  }

  // ── waiting ─────────────────────────────────────────────────────────────────────────────────────────────

  async until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
    const end = performance.now() + this.#patience;
    while (!(await holds())) {
      if (performance.now() > end) assert.fail(`${what}: not within ${this.#patience} ms. ${this.#state()}`);
      await sleep(10);
    }
  }

  /** Every publisher is acknowledged `count` times more. */
  async published(count = 5): Promise<void> {
    const before = this.publishers.map(({ acknowledged }) => acknowledged);
    await this.until('the publishers are answered', () =>
      this.publishers.every(({ acknowledged }, i) => acknowledged >= before[i]! + count),
    );
  }

  /** The publishers are acknowledged again, and every reader is where they are. */
  async settled(): Promise<void> {
    await this.published();
    for (const publisher of this.publishers) publisher.pause();
    await this.until('the publishers pause', () => this.publishers.every(({ isIdle }) => isIdle));
    const ends = new Map(this.publishers.map(({ topic, lastId }) => [topic, lastId]));
    await this.until('every reader has the newest event', () =>
      this.readers.every((reader) =>
        reader.life.topics.every((topic) => topic === QUIET || reader.hasReached(ends.get(topic)!)),
      ),
    );
    // One to which nothing is published learns of another epoch by a gap alone.
    const newest = Math.max(...[...ends.values()].map((id) => parseId(id)!.epoch));
    await this.until('every reader knows the epoch', () =>
      this.readers.every(({ place }) => place !== undefined && place.epoch >= newest),
    );
    for (const publisher of this.publishers) publisher.resume();
  }

  /** Ends everything but the nodes, and says what is wrong with what was received. */
  async finish(): Promise<void> {
    await this.settled();
    this.#isOver = true;
    await Promise.all(this.publishers.map((publisher) => publisher.stop()));
    await this.#cutting;
    const ends = new Map(this.publishers.map(({ topic, lastId }) => [topic, lastId]));
    await this.until('every reader has the end', () =>
      this.readers.every(({ life, place }) =>
        life.topics.every(
          (topic) => topic === QUIET || (place && compare(place, parseId(ends.get(topic)!)!) >= 0),
        ),
      ),
    );
    await Promise.all(this.readers.map((reader) => reader.stop()));
    this.#judge();
  }

  async close(): Promise<void> {
    this.#isOver = true;
    await Promise.all([...this.publishers, ...this.readers].map((one) => one.stop()));
    await Promise.all(this.nodes.map((node) => node.stop()));
  }

  // ── judging ─────────────────────────────────────────────────────────────────────────────────────────────

  /** Compares the gaps since the last check with those that the fault may cause. */
  check({ gaps: expected, each }: Expected): void {
    const from = this.#checked;
    this.#checked = this.readers.map(({ life }) => life.items.length);
    if (expected === 'any') return;
    for (const [i, reader] of this.readers.entries()) {
      const gaps = reader.gaps(from[i]);
      const reasons = gaps.map(({ reason }) => reason);
      const told = gaps.map((gap) => `${gap.reason} ${gap.from} → ${gap.to}`).join(', ');
      if (expected === 'none') assert.deepEqual(gaps, [], `${reader.name}: ${told} (seed ${this.seed})`);
      else if (each !== undefined)
        assert.deepEqual(reasons, Array(each).fill(expected), `${reader.name}: ${told} (seed ${this.seed})`);
      else
        assert.ok(
          reasons.every((reason) => reason === expected),
          `${reader.name}: ${told} (seed ${this.seed})`,
        );
    }
  }

  #judge(): void {
    const findings = judge({
      publications: this.publications,
      lives: this.readers.map(({ life }) => life),
      disturbances: this.#disturbances,
      ended: new Set(),
      strays: new Set(),
      keptOf: (topic, time) => {
        const isShort = this.#shortened.some((one) => one.topic === topic && one.time <= time);
        return isShort ? 0 : Infinity;
      },
      withdrawnAt: () => Infinity,
    });
    const lines = findings.map(({ name, who, message }) => `${name}: ${who}: ${message}`);
    assert.deepEqual(lines.slice(0, 20), [], `seed ${this.seed}`);
    assert.deepEqual(this.#errors, [], `seed ${this.seed}`);
  }

  /** Where everybody is, for the message of a test that fails. */
  #state(): string {
    const answers = this.publishers.map(({ topic, lastId, answers }) => {
      const { status, error } = answers.at(-1) ?? {};
      return `publisher of ${topic}: ${lastId}, then ${status} ${error ?? ''}`;
    });
    const nodes = this.nodes.map(({ hub }, i) => `node ${i + 1}: ${hub?.position} ${hub?.failure ?? ''}`);
    const places = new Map<string, number>();
    for (const { place, isOpen } of this.readers) {
      const at = `${place && formatId(place.epoch, place.seq)}${isOpen ? '' : ' (away)'}`;
      places.set(at, (places.get(at) ?? 0) + 1);
    }
    const readers = [...places].map(([at, count]) => `${count} readers at ${at}`);
    return [`seed ${this.seed}`, ...answers, ...nodes, ...readers, ...this.#errors.slice(0, 5)].join('\n  ');
  }
}

/** Runs until the test is over. */
export async function startChaosRig(t: Cleanup, options: ChaosRigOptions): Promise<ChaosRig> {
  const rig = new ChaosRig(options);
  t.after(() => rig.close());
  await rig.start(options);
  return rig;
}
