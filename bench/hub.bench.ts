// What the hub itself costs: fan-out, catching up, publishing, memory. The sinks take everything and do nothing.
//   node --expose-gc --import tsx bench/hub.bench.ts

import { Hub, type HubOptions, type Sink } from '../lib/hub.ts';
import { heldBytes, measure, print } from './harness.ts';

const DATA = 'x'.repeat(100);
/** Hubs whose memory was measured. */
const kept: Hub[] = [];

function nullSink(): Sink & { bytes: number } {
  return {
    bytes: 0,
    write(chunk: Uint8Array) {
      this.bytes += chunk.length;
      return true;
    },
    end() {},
    on() {},
    off() {},
  };
}

/** A hub whose turns are run here, one after the other, with nothing in between. */
function open(options: HubOptions = {}): { hub: Hub; run: () => void } {
  const planned: (() => void)[] = [];
  const hub = new Hub({ epoch: 1, schedule: (turn) => planned.push(turn), ...options });
  const run = () => {
    for (let turn = planned.pop(); turn !== undefined; turn = planned.pop()) turn();
  };
  return { hub, run };
}

// ── fan-out ─────────────────────────────────────────────────────────────────────────────────────────────

function fanOut(readers: number, batch: number): number {
  const { hub, run } = open();
  for (let i = 0; i < readers; i++) hub.subscribe('a', nullSink());
  run();
  return measure(() => {
    for (let i = 0; i < batch; i++) hub.publish('a', { data: DATA });
    run();
    return readers * batch;
  });
}

/** One loop of writes of one buffer: the least that a turn can be. */
function bareLoop(readers: number, batch: number): number {
  const sinks = Array.from({ length: readers }, nullSink);
  const frame = `id: 1-100\ndata: ${DATA}\n\n`;
  return measure(() => {
    const page = Buffer.from(frame.repeat(batch));
    for (const sink of sinks) sink.write(page);
    return readers * batch;
  });
}

// ── catching up ─────────────────────────────────────────────────────────────────────────────────────────

const MISSED = 10_000;

/** Readers that have missed 10,000 events, each at a place of its own, so that no page serves two of them. */
function catchUp(name: string, topics: number, options: { conflate?: boolean } = {}): void {
  const { hub, run } = open({ history: { maxEvents: Infinity } });
  const names = Array.from({ length: topics }, (_, i) => `t${i}`);
  for (let i = 0; i < MISSED + 100; i++) {
    hub.publish(names[i % topics]!, { data: DATA, key: `k${i % (100 * topics)}` });
  }
  run();
  const perEvent = measure(() => {
    const readers = Array.from({ length: 20 }, (_, i) =>
      hub.subscribe(names, nullSink(), { lastEventId: `1-${i}`, ...options }),
    );
    run();
    for (const reader of readers) reader?.close();
    return readers.length * MISSED;
  }, 5);
  const perReader = perEvent * MISSED;
  print(`catching up with 10,000 events, ${name}`, 1000 / perEvent, 'M events/s');
  print(`catching up with 10,000 events, ${name}`, perReader / 1e3, 'µs/reader');
}

/** The longest turn of a storm: this is how long everybody else may have to wait. */
function storm(name: string, keys: number, options: { conflate?: boolean } = {}): void {
  const planned: (() => void)[] = [];
  const hub = new Hub({ epoch: 1, schedule: (turn) => planned.push(turn) });
  for (let i = 0; i < MISSED; i++) hub.publish('a', { data: DATA, key: `k${i % keys}` });
  for (let i = 0; i < 1000; i++) hub.subscribe('a', nullSink(), { lastEventId: `1-${i}`, ...options });
  const times: number[] = [];
  for (let turn = planned.pop(); turn !== undefined; turn = planned.pop()) {
    const start = process.cpuUsage();
    turn();
    const { user, system } = process.cpuUsage(start);
    times.push(user + system);
  }
  times.sort((a, b) => a - b);
  print(`a turn while 1,000 come back, ${name}: median`, times[times.length >> 1]! / 1e3, 'ms');
  print(
    `a turn while 1,000 come back, ${name}: 99 of 100`,
    times[Math.floor(times.length * 0.99)]! / 1e3,
    'ms',
  );
}

// ── publishing ──────────────────────────────────────────────────────────────────────────────────────────

function publish(topics: number, readers: number): number {
  const { hub, run } = open();
  const names = Array.from({ length: topics }, (_, i) => `t${i}`);
  for (const name of names) for (let i = 0; i < readers; i++) hub.subscribe(name, nullSink());
  run();
  let next = 0;
  return measure(() => {
    for (let i = 0; i < 1000; i++) {
      hub.publish(names[next++ % topics]!, { data: DATA });
      run();
    }
    return 1000;
  });
}

const floor = new Map<number, number>();
for (const batch of [1, 16]) {
  floor.set(batch, bareLoop(1000, batch));
  print(`fan-out to 1,000, ${batch} a turn: bare loop (floor)`, floor.get(batch)!, 'ns/event');
  print(`fan-out to 1,000, ${batch} a turn: hub`, fanOut(1000, batch), 'ns/event', floor.get(batch));
}

catchUp('1 topic', 1);
catchUp('10 topics', 10);
catchUp('1 topic, conflated', 1, { conflate: true });
catchUp('10 topics, conflated', 10, { conflate: true });
storm('every event', 100);
storm('100 keys, conflated', 100, { conflate: true });
storm('1 key, conflated', 1, { conflate: true });

const one = publish(1, 0);
print('publish and turn, 1 topic, nobody reads', one, 'ns');
print('publish and turn, 10,000 topics, nobody reads', publish(10_000, 0), 'ns', one);
const read = publish(1, 1);
print('publish and turn, 1 topic of one reader', read, 'ns');
print('publish and turn, 10,000 topics of one reader each', publish(10_000, 1), 'ns', read);

const COUNT = 10_000;
const { hub } = open();
const sinks = Array.from({ length: COUNT }, nullSink);
print(
  'memory of a topic with one event',
  heldBytes(COUNT, () => publishEach(hub)),
  'bytes',
);
print(
  'memory of a subscription to one topic of all',
  heldBytes(COUNT, () => subscribeEach(() => 't0')),
  'bytes',
);
print(
  'memory of a subscription to a topic of its own',
  heldBytes(COUNT, () => subscribeEach((i) => `s${i}`)),
  'bytes',
);

function publishEach(to: Hub): Hub {
  for (let i = 0; i < COUNT; i++) to.publish(`t${i}`, { data: DATA });
  return to;
}

function subscribeEach(topicOf: (i: number) => string): Hub {
  const { hub: other, run } = open();
  for (let i = 0; i < COUNT; i++) other.subscribe(topicOf(i), sinks[i]!);
  run();
  kept.push(other);
  return other;
}
