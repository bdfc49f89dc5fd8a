// Three nodes on a real Redis to which two things happen at once, drawn from a seed: the checker alone knows what is
// right. `CHAOS_SEED` runs one again; times differ, so that it is not the same to the millisecond.

import { it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { startChaosProxy } from '../helpers/chaos-proxy.ts';
import { Chance, type Stream } from '../simulation/nodes/chance.ts';
import {
  type Chaos,
  follow,
  keeping,
  keys,
  LONG,
  lastFirst,
  promote,
  READERS,
  restart,
  startChaos,
  startServer,
} from './helpers/redis-chaos.ts';
import type { RedisProcess } from './helpers/redis-servers.ts';

const STEPS = LONG ? 60 : 6;
const TOPICS = ['a', 'b', 'c'];

it(`loses nothing that no gap covers: ${STEPS} × two of many faults, with ${READERS} readers`, async (t) => {
  const seed = Number(process.env.CHAOS_SEED ?? Math.floor(Math.random() * 1e9));
  t.diagnostic(`CHAOS_SEED=${seed}`);
  const last = lastFirst(t);
  const chaos = await startChaos(last, { args: keeping.always, seed, cutInterval: 50 });
  const faults = new Faults(chaos, new Chance(seed).stream('faults'), () =>
    startServer(last, keeping.always),
  );
  for (let step = 1; step <= STEPS; step++) {
    const [one, other] = [faults.draw(), faults.draw()];
    t.diagnostic(`${one} and ${other}`);
    await Promise.all([faults.run(one), faults.run(other)]);
    await chaos.rig.settled();
  }
  await chaos.rig.finish();
});

class Faults {
  readonly #chaos: Chaos;
  readonly #chance: Stream;
  readonly #startServer: () => Promise<RedisProcess>;
  #redis: RedisProcess;
  /** The same node may be drawn twice: it is started again before it is stopped again. */
  readonly #restarts = new Map<number, Promise<void>>();
  /** What is done to the server waits for each other: a server that is down takes no commands. */
  #before: Promise<void> = Promise.resolve();

  constructor(chaos: Chaos, chance: Stream, startServer: () => Promise<RedisProcess>) {
    this.#chaos = chaos;
    this.#redis = chaos.redis;
    this.#chance = chance;
    this.#startServer = startServer;
  }

  draw(): string {
    const names = [...Object.keys(this.#ofNodes), ...Object.keys(this.#ofServer)];
    return names[this.#chance.below(names.length)]!;
  }

  async run(name: string): Promise<void> {
    const ofNodes = this.#ofNodes[name];
    if (ofNodes !== undefined) return ofNodes(this.#chance.below(3), 200 + this.#chance.below(2500));
    await sleep(this.#chance.below(500));
    const act = this.#ofServer[name]!;
    this.#before = this.#before.then(act);
    await this.#before;
  }

  // ── of one node, for some milliseconds ──────────────────────────────────────────────────────────────────

  readonly #ofNodes: Record<string, (node: number, ms: number) => Promise<void>> = {
    refuse: (node, ms) => this.#misroute(node, ms, 'refuse'),
    stall: (node, ms) => this.#misroute(node, ms, 'stall'),
    'lose answers': (node, ms) => this.#misroute(node, ms, 'loseAnswers'),
    slow: async (node, ms) => {
      const proxy = this.#chaos.proxies[node]!;
      proxy.delay(50);
      await sleep(ms);
      proxy.delay(0);
    },
    'stop node': (node, ms) => {
      const before = this.#restarts.get(node) ?? Promise.resolve();
      const restarted = before.then(() => this.#stopNode(node, ms));
      this.#restarts.set(node, restarted);
      return restarted;
    },
  };

  async #stopNode(node: number, ms: number): Promise<void> {
    const stopped = this.#chaos.rig.nodes[node]!;
    await stopped.stop();
    await sleep(ms);
    await stopped.start();
  }

  async #misroute(node: number, ms: number, how: 'refuse' | 'stall' | 'loseAnswers'): Promise<void> {
    const proxy = this.#chaos.proxies[node]!;
    this.#chaos.rig.disturb('away', ms);
    proxy[how]();
    await sleep(ms);
    proxy.pass();
  }

  // ── of the server ───────────────────────────────────────────────────────────────────────────────────────

  readonly #ofServer: Record<string, () => Promise<void>> = {
    restart: () => this.#losing(() => restart(this.#redis)),
    flushall: () => this.#losing(() => this.#ask('flushall')),
    'delete metadata': () => this.#losing(() => this.#ask('del', keys.meta)),
    'delete index': () => this.#losing(() => this.#ask('del', keys.index)),
    'delete feed': () => this.#ask('del', keys.feed),
    'trim feed': () => this.#ask('xtrim', keys.feed, 'maxlen', '2'),
    'delete history': () => {
      this.#chaos.rig.shorten(...TOPICS);
      return this.#ask('del', ...TOPICS.map(keys.history));
    },
    'kill clients': () => this.#ask('client', 'kill', 'type', 'normal'),
    pause: () => this.#ask('client', 'pause', '1000', 'all'),
    stop: async () => {
      this.#redis.stop();
      await sleep(2000);
      this.#redis.resume();
    },
    'no memory': async () => {
      await this.#ask('config', 'set', 'maxmemory', '1');
      await sleep(1000);
      await this.#ask('config', 'set', 'maxmemory', '0');
    },
    promote: () => this.#losing(() => this.#promote()),
  };

  async #ask(...words: readonly string[]): Promise<void> {
    await this.#redis.command(...words);
  }

  #losing(act: () => Promise<void>): Promise<void> {
    const { rig } = this.#chaos;
    rig.disturb('order');
    rig.shorten(...TOPICS);
    return act();
  }

  /** A replica takes over that lacks what was published last. */
  async #promote(): Promise<void> {
    const before = this.#redis;
    const replica = await this.#startServer();
    const link = await startChaosProxy({ after: () => {} }, before.port);
    await follow(replica, link);
    link.stall();
    await sleep(300);
    await before.kill();
    await promote(replica);
    this.#redis = replica;
    this.#chaos.retarget(replica);
    await link.close();
  }
}
