// Generations on a log that several nodes share, under a clock that stands still until a test moves it.

import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { type Generation, Generations, type GenerationsOptions } from '../lib/generations.ts';
import { Hub, type HubOptions } from '../lib/hub.ts';
import { type FakeClock, fakeDate, fakeTime } from './helpers/clock.ts';
import { randomFrom } from './helpers/generations.ts';
import { MemoryReader } from './helpers/hub.ts';
import { SharedStore, type StoreNetwork } from './helpers/shared-store.ts';

const { FUZZ_SEED, FUZZ_RUNS } = process.env;
const FIRST_SEED = Number(FUZZ_SEED ?? 1);
const RUNS = Number(FUZZ_RUNS ?? (FUZZ_SEED === undefined ? 20 : 1));

const LEASE = 3000;
const PART = LEASE / 3;

class Node {
  readonly name: string;
  readonly hub: Hub;
  readonly generations: Generations;

  constructor(store: SharedStore, name: string, options: GenerationsOptions, hubOptions: HubOptions = {}) {
    this.name = name;
    this.hub = new Hub({ log: store.open(name), onError: () => {}, ...hubOptions });
    this.generations = new Generations(this.hub, { lease: LEASE, ...options });
  }

  read(topic: string): MemoryReader {
    const reader = new MemoryReader();
    this.hub.subscribe(topic, reader, { from: 'earliest' });
    return reader;
  }

  async storyOf(topic: string): Promise<string[]> {
    const reader = this.read(topic);
    await until(() => reader.writableEnded);
    return storyOf(reader);
  }
}

/** The data of events, the types of last events, and `sluice:end`. */
function storyOf(reader: MemoryReader): string[] {
  const told = reader.events.filter(({ event }) => event !== 'sluice:ready');
  return told.map(({ event, data }) => event ?? data);
}

interface Cluster {
  readonly store: SharedStore;
  readonly clock: FakeClock;
  readonly nodes: readonly Node[];
  open(name: string): Promise<Node>;
}

async function cluster(
  t: TestContext,
  names: readonly string[],
  options: GenerationsOptions = {},
  hubOptions: HubOptions = {},
): Promise<Cluster> {
  const clock = fakeTime(t);
  const store = new SharedStore();
  const open = async (name: string): Promise<Node> => {
    const node = new Node(store, name, options, hubOptions);
    // Of a node that has crashed, nothing settles.
    t.after(() => void node.generations.close());
    await until(() => node.hub.failure === undefined);
    return node;
  };
  const nodes: Node[] = [];
  for (const name of names) nodes.push(await open(name));
  // The first part of a lease: each node has heard what was said before.
  await clock.pass(PART, 100);
  return { store, clock, nodes, open };
}

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await turn();
}

async function* words(...all: string[]) {
  for (const word of all) {
    yield word;
    await turn();
  }
}

/** Yields some words, and then nothing, until it is stopped. */
function silent(...all: string[]) {
  const state = { isStopped: false };
  async function* source({ signal }: { signal: AbortSignal }) {
    yield* all;
    await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
    state.isStopped = true;
  }
  return { source, state };
}

describe('a generation on a log that nodes share', () => {
  it('is read at any node, and stopped from any node, even while its source is silent', async (t) => {
    const { nodes } = await cluster(t, ['a', 'b']);
    const [a, b] = nodes as [Node, Node];
    const { source, state } = silent('one', 'two');
    const generation = await a.generations.run('answer', source);
    const reader = b.read('answer');
    await until(() => reader.texts.length === 2);
    assert.equal(await b.generations.stop('answer'), true);
    assert.equal(await generation.done, 'stopped');
    await until(() => state.isStopped && reader.writableEnded);
    assert.deepEqual(storyOf(reader), ['one', 'two', 'stopped', 'sluice:end']);
    assert.equal(await b.generations.stop('answer'), false);
    assert.equal(await a.generations.stop('answer'), false);
    assert.equal(await b.generations.stop('none'), false);
  });

  it('is stopped from a node that has not heard of it yet', async (t) => {
    const { nodes, clock, store } = await cluster(t, ['a', 'b']);
    const [a, b] = nodes as [Node, Node];
    // What b follows comes only every five seconds.
    store.network = { delay: () => 1, timeout: 500, wakes: (node) => node !== 'b' };
    const running = a.generations.run('answer', silent('one').source);
    await clock.pass(20, 1);
    const { done } = await running;
    const stopping = b.generations.stop('answer');
    await clock.pass(15_000, 50);
    assert.equal(await stopping, true);
    assert.equal(await done, 'stopped');
  });

  it('gets its topic on one node alone, however many ask at once', async (t) => {
    const { nodes } = await cluster(t, ['a', 'b', 'c']);
    const asked = nodes.map(({ generations, name }) => generations.run('answer', words(name)));
    const settled = await Promise.allSettled(asked);
    const run = settled.filter(
      (one): one is PromiseFulfilledResult<Generation> => one.status === 'fulfilled',
    );
    assert.equal(run.length, 1);
    for (const one of settled)
      if (one.status === 'rejected') assert.equal(one.reason.code, 'ERR_SSE_GENERATION_RUNS');
    assert.equal(await run[0]!.value.done, 'done');
    const winner = nodes[settled.indexOf(run[0]!)]!.name;
    for (const node of nodes) {
      assert.deepEqual(await node.storyOf('answer'), [winner, 'done', 'sluice:end']);
      await assert.rejects(node.generations.run('answer', []), { code: 'ERR_SSE_TOPIC_ENDED' });
    }
  });

  it('gets its topic on one node alone, also where another hears late that it has begun', async (t) => {
    const { nodes, clock, store } = await cluster(t, ['a', 'b']);
    const [a, b] = nodes as [Node, Node];
    // What b follows comes only every five seconds.
    store.network = { delay: () => 1, timeout: 500, wakes: (node) => node !== 'b' };
    const running = a.generations.run('answer', async function* () {
      yield 'one';
      await new Promise((resolve) => setTimeout(resolve, 20_000));
      yield 'two';
    });
    await clock.pass(100, 1);
    const { done } = await running;
    const second = assert.rejects(b.generations.run('answer', ['other']), {
      code: 'ERR_SSE_GENERATION_RUNS',
      status: 409,
    });
    await clock.pass(30_000, 50);
    await second;
    assert.equal(await done, 'done');
    store.network = undefined;
    assert.deepEqual(await b.storyOf('answer'), ['one', 'two', 'done', 'sluice:end']);
  });

  it('is refused where the topic has its last event, and only its end is missing', async (t) => {
    const { nodes } = await cluster(t, ['a']);
    const { hub, generations } = nodes[0]!;
    await hub.append('answer', { event: 'done', json: {} });
    await assert.rejects(generations.run('answer', ['one']), { code: 'ERR_SSE_TOPIC_ENDED' });
    assert.equal(generations.size, 0);
  });

  it('that waits to hear whether its topic is free is refused when the process stops', async (t) => {
    const { nodes, clock, store } = await cluster(t, ['a']);
    const { hub, generations } = nodes[0]!;
    store.network = { delay: () => 1, timeout: 500, wakes: () => false };
    const running = generations.run('answer', ['one']);
    const refused = assert.rejects(running, { code: 'ERR_SSE_GENERATIONS_CLOSED' });
    await clock.pass(100, 1);
    await hub.close();
    await Promise.all([generations.close(), refused, clock.pass(100, 1)]);
  });

  it('goes on behind what the application publishes to its topic', async (t) => {
    const { nodes } = await cluster(t, ['a', 'b']);
    const [a, b] = nodes as [Node, Node];
    const { done } = await a.generations.run('answer', async function* () {
      for (let i = 0; i < 20; i++) {
        yield `${i}`;
        await b.hub.append('answer', { event: 'aside', data: '' });
      }
    });
    assert.equal(await done, 'done');
    const story = await b.storyOf('answer');
    assert.deepEqual(
      story.filter((word) => word !== 'aside'),
      [...Array.from({ length: 20 }, (_, i) => `${i}`), 'done', 'sluice:end'],
    );
    assert.equal(story.length, 42);
  });

  it('that yields nothing for many leases goes on', async (t) => {
    const { nodes, clock } = await cluster(t, ['a', 'b']);
    const [a, b] = nodes as [Node, Node];
    const { source, state } = silent('one');
    await a.generations.run('answer', source);
    const reader = b.read('answer');
    await clock.pass(10 * LEASE, 100);
    assert.equal(state.isStopped, false);
    assert.deepEqual(storyOf(reader), ['one']);
    // Its node says so in time, without being asked.
    const notices = b.read('generations');
    await until(() => notices.texts.length > 10);
    assert.doesNotMatch(notices.texts.join(), /missed/);
  });

  it('has failed once its node has said nothing for a lease, with one last event, however many nodes watch', async (t) => {
    const { nodes, clock, store } = await cluster(t, ['a', 'b', 'c', 'd']);
    const [a, ...others] = nodes as [Node, Node, Node, Node];
    await a.generations.run('answer', silent('one').source);
    await a.generations.run('empty', silent().source);
    const readers = others.map((node) => node.read('answer'));
    await until(() => readers.every(({ texts }) => texts.length === 1));
    store.crash('a');
    await clock.pass(LEASE - PART, 100);
    assert.deepEqual(readers.map(storyOf), [['one'], ['one'], ['one']]);
    await clock.pass(3 * PART, 100);
    await until(() => readers.every(({ writableEnded }) => writableEnded));
    for (const reader of readers) assert.deepEqual(storyOf(reader), ['one', 'failed', 'sluice:end']);
    assert.deepEqual(await others[0].storyOf('empty'), ['failed', 'sluice:end']);
    await assert.rejects(others[0].generations.run('answer', []), { code: 'ERR_SSE_TOPIC_ENDED' });
  });

  it('of many of a node has failed as soon as one alone, although a notice names 50 at most', async (t) => {
    const { nodes, clock, store } = await cluster(t, ['a', 'b']);
    const [a] = nodes as [Node, Node];
    const topics = Array.from({ length: 120 }, (_, i) => `answer-${i}`);
    for (const topic of topics) await a.generations.run(topic, silent().source);
    store.crash('a');
    await clock.pass(LEASE + 2 * PART, 50);
    assert.deepEqual(
      topics.filter((topic) => !store.isEnded(topic)),
      [],
    );
  });

  it('of a node that died has failed, also where what `describe` says of it is too large to be sent', async (t) => {
    const { nodes, clock, store } = await cluster(t, ['a', 'b'], { describe: () => 'x'.repeat(2 ** 21) });
    const [a, b] = nodes as [Node, Node];
    await a.generations.run('answer', silent('one').source);
    const reader = b.read('answer');
    await until(() => reader.texts.length === 1);
    store.crash('a');
    await clock.pass(LEASE + 3 * PART, 100);
    assert.deepEqual(await b.storyOf('answer'), ['one', 'failed', 'sluice:end']);
  });

  it('of a node that died before another began is ended by that one', async (t) => {
    const { nodes, clock, store, open } = await cluster(t, ['a']);
    await nodes[0]!.generations.run('answer', silent('one').source);
    await clock.pass(PART, 100);
    store.crash('a');
    const b = await open('b');
    await clock.pass(LEASE + 3 * PART, 100);
    assert.deepEqual(await b.storyOf('answer'), ['one', 'failed', 'sluice:end']);
  });

  it('is stopped within a part of the lease where its node has died', async (t) => {
    const { nodes, clock, store } = await cluster(t, ['a', 'b']);
    const [a, b] = nodes as [Node, Node];
    await a.generations.run('answer', silent('one').source);
    const reader = b.read('answer');
    await until(() => reader.texts.length === 1);
    store.crash('a');
    const stopping = b.generations.stop('answer');
    await clock.pass(PART + 100, 100);
    assert.equal(await stopping, true);
    assert.deepEqual(await b.storyOf('answer'), ['one', 'stopped', 'sluice:end']);
  });

  it('is stopped also where this node follows as many topics as it may', async (t) => {
    const { nodes, clock, store } = await cluster(t, ['a', 'b'], {}, { maxFollowedTopics: 2 });
    const [a, b] = nodes as [Node, Node];
    await a.generations.run('answer', silent().source);
    for (const topic of ['one', 'two']) b.read(topic);
    store.crash('a');
    const stopping = b.generations.stop('answer');
    await clock.pass(PART + 100, 100);
    assert.equal(await stopping, true);
    assert.equal(store.isEnded('answer'), true);
  });

  it('that wakes up after its last event appends nothing, although the topic was not ended', async (t) => {
    const { nodes, clock, store } = await cluster(t, ['a', 'b']);
    const [a, b] = nodes as [Node, Node];
    const generation = await a.generations.run('answer', async function* () {
      for (let i = 1; ; i++) {
        yield `${i}`;
        await new Promise((resolve) => setTimeout(resolve, 200));
      }
    });
    await clock.pass(1000, 100);
    store.disconnect('a');
    await clock.pass(100, 10);
    const before = b.read('answer');
    await until(() => before.texts.length > 0);
    // As of a node that died between the last event and the end.
    await b.hub.append('answer', { event: 'failed', json: {} });
    const story = [...storyOf(before), 'failed'];
    store.crash('b');
    store.reconnect('a');
    await clock.pass(2000, 100);
    assert.equal(await generation.done, 'failed');
    assert.deepEqual(await a.storyOf('answer'), [...story, 'sluice:end']);
  });

  it('of a node that was cut off ends as the others decided: nothing comes after its last event', async (t) => {
    const { nodes, clock, store } = await cluster(t, ['a', 'b']);
    const [a, b] = nodes as [Node, Node];
    let yielded = 0;
    const generation = await a.generations.run('answer', async function* () {
      for (;;) {
        yield `${++yielded}`;
        await new Promise((resolve) => setTimeout(resolve, 200));
      }
    });
    await clock.pass(1000, 100);
    store.disconnect('a');
    await clock.pass(2 * LEASE, 100);
    const story = await b.storyOf('answer');
    assert.deepEqual(story.slice(-2), ['failed', 'sluice:end']);
    store.reconnect('a');
    await clock.pass(2 * LEASE, 100);
    assert.equal(await generation.done, 'failed');
    assert.deepEqual(await a.storyOf('answer'), story);
    const before = yielded;
    await clock.pass(LEASE, 100);
    assert.equal(yielded, before);
  });

  it('is not ended by a node that itself was cut off', async (t) => {
    const { nodes, clock, store } = await cluster(t, ['a', 'b']);
    const [a, b] = nodes as [Node, Node];
    const { source, state } = silent('one');
    await a.generations.run('answer', source);
    store.disconnect('b');
    await clock.pass(5 * LEASE, 100);
    store.reconnect('b');
    await clock.pass(5 * LEASE, 100);
    assert.equal(state.isStopped, false);
    assert.deepEqual(storyOf(b.read('answer')), []);
    assert.equal(a.generations.size, 1);
  });

  it('is not ended where a node is not woken and hears of the others late', async (t) => {
    const { nodes, clock, store } = await cluster(t, ['a', 'b']);
    const [a, b] = nodes as [Node, Node];
    const { source, state } = silent('one');
    await a.generations.run('answer', source);
    // What b says reaches the store; what it follows comes only every five seconds.
    const late: StoreNetwork = { delay: () => 1, timeout: 500, wakes: (node) => node !== 'b' };
    store.network = late;
    await clock.pass(6 * LEASE, 50);
    assert.equal(state.isStopped, false);
    assert.equal(a.generations.size, 1);
    store.network = undefined;
    await a.generations.stop('answer');
    assert.deepEqual(await b.storyOf('answer'), ['one', 'stopped', 'sluice:end']);
  });

  it('pauses its source while the log is away, and then goes on', async (t) => {
    const { nodes, clock, store } = await cluster(t, ['a', 'b']);
    const [a, b] = nodes as [Node, Node];
    let yielded = 0;
    const generation = await a.generations.run('answer', async function* () {
      while (yielded < 3000) {
        yield `${++yielded} ${'x'.repeat(100)}`;
        if (yielded % 100 === 0) await turn();
      }
    });
    await until(() => yielded > 200);
    store.disconnect();
    await clock.pass(LEASE / 2, 50);
    assert.ok(yielded < 2500, `${yielded}`);
    store.reconnect();
    await clock.pass(LEASE, 50);
    assert.equal(await generation.done, 'done');
    const story = await b.storyOf('answer');
    assert.deepEqual(
      story.slice(0, -2).map((text) => Number(text.split(' ')[0])),
      Array.from({ length: 3000 }, (_, i) => i + 1),
    );
    assert.deepEqual(story.slice(-2), ['done', 'sluice:end']);
  });

  it('has each token once where answers of the log are lost', async (t) => {
    const { nodes, clock, store } = await cluster(t, ['a', 'b']);
    const [a, b] = nodes as [Node, Node];
    const random = randomFrom(3);
    const generation = await a.generations.run('answer', async function* () {
      for (let i = 0; i < 60; i++) {
        yield `${i}`;
        await turn();
      }
    });
    let lost = 0;
    store.network = {
      delay: () => 1,
      timeout: 50,
      fate: (node, command) => {
        if (node !== 'a' || command !== 'write' || random() < 0.6) return 'done';
        lost++;
        return random() < 0.5 ? 'lost' : 'unanswered';
      },
    };
    let isOver = false;
    generation.done.then(() => {
      isOver = true;
    });
    while (!isOver) await clock.pass(100, 5);
    store.network = undefined;
    assert.ok(lost > 5, `${lost}`);
    assert.equal(await generation.done, 'done');
    const story = await b.storyOf('answer');
    assert.deepEqual(story, [...Array.from({ length: 60 }, (_, i) => `${i}`), 'done', 'sluice:end']);
  });

  it('is refused while the log is away, before its source has begun', async (t) => {
    const { nodes, store } = await cluster(t, ['a']);
    store.disconnect('a');
    let hasBegun = false;
    const run = nodes[0]!.generations.run('answer', () => {
      hasBegun = true;
      return [];
    });
    await assert.rejects(run, { code: 'ERR_SSE_LOG_UNAVAILABLE', status: 503 });
    assert.deepEqual([hasBegun, nodes[0]!.generations.size], [false, 0]);
  });

  it('goes on in a new epoch: readers are told of what the store has lost, and get the rest', async (t) => {
    const { nodes, clock, store } = await cluster(t, ['a', 'b']);
    const [a, b] = nodes as [Node, Node];
    let go = (): void => {};
    const gate = new Promise<void>((resolve) => {
      go = resolve;
    });
    const generation = await a.generations.run('answer', async function* () {
      yield* ['1', '2', '3'];
      await gate;
      yield* ['4', '5'];
    });
    const reader = b.read('answer');
    await until(() => reader.texts.length === 3);
    store.failOver({ lost: 1 });
    await clock.pass(PART, 50);
    go();
    await clock.pass(PART, 50);
    assert.equal(await generation.done, 'done');
    await until(() => reader.writableEnded);
    assert.deepEqual(storyOf(reader), ['1', '2', '3', 'sluice:gap', '4', '5', 'done', 'sluice:end']);
  });

  it('begins also where the store has lost what its node said of that', async (t) => {
    const { nodes, clock, store } = await cluster(t, ['a', 'b']);
    const [a, b] = nodes as [Node, Node];
    // What a follows comes only every five seconds, and until then the store has lost it.
    store.network = { delay: () => 1, timeout: 500, wakes: (node) => node !== 'a' };
    const before = store.writes;
    const running = a.generations.run('answer', words('one'));
    while (store.writes === before) await clock.pass(1, 1);
    store.flush();
    store.network = undefined;
    await clock.pass(15_000, 50);
    const { done } = await Promise.race([running, turn().then(() => ({ done: 'never' }))]);
    assert.equal(await done, 'done');
    assert.deepEqual(await b.storyOf('answer'), ['one', 'done', 'sluice:end']);
  });

  it('is known to a node that begins after the store has lost what was said of it', async (t) => {
    const { nodes, clock, store, open } = await cluster(t, ['a', 'b']);
    const [a] = nodes as [Node, Node];
    const { done } = await a.generations.run('answer', silent('one').source);
    await clock.pass(PART / 2, 50);
    store.flush();
    const c = await open('c');
    await clock.pass(20, 1);
    await assert.rejects(c.generations.run('answer', words('two')), { code: 'ERR_SSE_GENERATION_RUNS' });
    assert.equal(await c.generations.stop('answer'), true);
    assert.equal(await done, 'stopped');
  });

  it('has failed where the store has lost its last event, so that nobody waits for it', async (t) => {
    const { nodes, clock, store } = await cluster(t, ['a', 'b']);
    const [a, b] = nodes as [Node, Node];
    const { done } = await a.generations.run('answer', words('one', 'two'));
    assert.equal(await done, 'done');
    const reader = b.read('answer');
    await until(() => reader.writableEnded);
    const before = reader.of()[0]!.id;
    store.failOver({ lost: 4 });
    await clock.pass(LEASE, 100);
    assert.equal(store.isEnded('answer'), true);
    const returning = new MemoryReader();
    b.hub.subscribe('answer', returning, { lastEventId: before });
    await until(() => returning.writableEnded);
    assert.deepEqual(storyOf(returning), ['sluice:gap', 'failed', 'sluice:end']);
  });

  it('is deleted by another node where its own has gone before its time', async (t) => {
    const { nodes, clock, store } = await cluster(t, ['a', 'b'], { ttl: 60_000 });
    let now = 0;
    fakeDate(t, () => now);
    const [a, b] = nodes as [Node, Node];
    await (await a.generations.run('answer', words('one'))).done;
    await clock.pass(PART, 100);
    store.crash('a');
    assert.deepEqual(await b.storyOf('answer'), ['one', 'done', 'sluice:end']);
    now = 60_000 + LEASE;
    await clock.pass(PART, 100);
    await until(() => store.held('answer').length === 0);
    assert.equal(store.isEnded('answer'), true);
    assert.deepEqual(await b.storyOf('answer'), []);
  });

  it('is not deleted before its time by a node whose clock is ahead', async (t) => {
    const { nodes, clock, store } = await cluster(t, ['a', 'b'], { ttl: 60_000 });
    let now = 0;
    fakeDate(t, () => now);
    const [a, b] = nodes as [Node, Node];
    store.network = { delay: (_, way) => (way === 'wake' ? 500 : 0), timeout: 5000 };
    const running = a.generations.run('answer', words('one'));
    while (!store.isEnded('answer')) await clock.pass(10, 10);
    await (await running).done;
    store.crash('a');
    // b hears of that later, by its own clock.
    now = 3_600_000;
    store.network = undefined;
    await clock.pass(LEASE, 100);
    assert.deepEqual(await b.storyOf('answer'), ['one', 'done', 'sluice:end']);
    now += 60_000 + LEASE;
    await clock.pass(PART, 100);
    await until(() => store.held('answer').length === 0);
  });

  it('ends with one last event, and nothing after it, whatever happens', async (t) => {
    const clock = fakeTime(t);
    for (let seed = FIRST_SEED; seed < FIRST_SEED + RUNS; seed++) {
      const random = randomFrom(seed);
      const chance = (p: number): boolean => random() < p;
      const store = new SharedStore();
      const names = ['a', 'b', 'c'];
      const nodes = names.map((name) => new Node(store, name, {}));
      const alive = new Set(nodes);
      await until(() => nodes.every(({ hub }) => hub.failure === undefined));
      store.network = {
        delay: () => Math.floor(random() * 40),
        timeout: 200,
        wakes: () => chance(0.9),
        fate: (_, command) =>
          command !== 'write' || chance(0.95) ? 'done' : chance(0.5) ? 'lost' : 'unanswered',
      };
      const topics: string[] = [];
      for (let step = 0; step < 60; step++) {
        const node = nodes[Math.floor(random() * nodes.length)]!;
        const topic = `t${Math.floor(random() * 8)}`;
        if (chance(0.3) && alive.has(node)) {
          const length = Math.floor(random() * 30);
          const source = async function* () {
            for (let i = 0; i < length; i++) {
              yield `${i}`;
              await new Promise((resolve) => setTimeout(resolve, random() * 300));
            }
          };
          node.generations.run(topic, source).then(
            () => topics.push(topic),
            () => {},
          );
        } else if (chance(0.1) && alive.has(node)) node.generations.stop(topic).catch(() => {});
        else if (chance(0.1)) store.disconnect(node.name);
        else if (chance(0.3)) for (const { name } of alive) store.reconnect(name);
        else if (chance(0.02) && alive.size > 2) {
          store.crash(node.name);
          alive.delete(node);
        }
        await clock.pass(random() * 400, 20);
      }
      store.network = undefined;
      for (const { name } of alive) store.reconnect(name);
      await clock.pass(4 * LEASE + 12_000, 100);
      const [reader] = alive;
      for (const topic of new Set(topics)) {
        assert.ok(store.isEnded(topic), `seed ${seed}: ${topic} has not ended`);
        const story = await reader!.storyOf(topic);
        const last = story.findIndex((word) => ['done', 'failed', 'stopped'].includes(word));
        assert.equal(last, story.length - 2, `seed ${seed}: ${story}`);
        assert.deepEqual(
          story.slice(0, last),
          story.slice(0, last).map((_, i) => `${i}`),
          `seed ${seed}`,
        );
      }
      for (const { generations } of alive) assert.equal(generations.size, 0, `seed ${seed}`);
      for (const { generations } of nodes) void generations.close();
    }
  });
});
