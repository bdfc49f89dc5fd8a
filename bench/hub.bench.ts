// Measures the hub alone: fan-out, catching up, publishing, memory. The sinks accept everything and do
// nothing.
//   node --expose-gc --import tsx bench/hub.bench.ts

import { Hub, type HubOptions, type Sink } from '../lib/hub.ts';
import {
  type Effort,
  heldBytes,
  type Measurement,
  measure,
  measureInTurns,
  median,
  runAlone,
} from './harness.ts';

const DATA = 'x'.repeat(100);
/** Keeps hubs alive whose memory is measured. */
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

/** A hub whose turns `run` runs, one after the other. */
function open(options: HubOptions = {}): { hub: Hub; run: () => void } {
  const planned: (() => void)[] = [];
  const hub = new Hub({ epoch: 1, schedule: (turn) => planned.push(turn), ...options });
  const run = () => {
    for (let turn = planned.pop(); turn !== undefined; turn = planned.pop()) turn();
  };
  return { hub, run };
}

// ── fan-out ─────────────────────────────────────────────────────────────────────────────────────────────

function fanOut(readers: number, batch: number): () => number {
  const { hub, run } = open();
  for (let i = 0; i < readers; i++) hub.subscribe('a', nullSink());
  run();
  return () => {
    for (let i = 0; i < batch; i++) hub.publish('a', { data: DATA });
    run();
    return readers * batch;
  };
}

/** The floor of a turn: a loop that writes one buffer to each sink. */
function bareLoop(readers: number, batch: number): () => number {
  const sinks = Array.from({ length: readers }, nullSink);
  const frame = `id: 1-100\ndata: ${DATA}\n\n`;
  return () => {
    const page = Buffer.from(frame.repeat(batch));
    for (const sink of sinks) sink.write(page);
    return readers * batch;
  };
}

function fanningOut(batch: number, effort: Effort): Measurement[] {
  const [loop, hub] = measureInTurns([bareLoop(1000, batch), fanOut(1000, batch)], effort);
  const name = `fan-out to 1,000, ${batch} a turn`;
  return [nanoseconds(name, loop!, 'loop'), nanoseconds(name, hub!)];
}

// ── catching up ─────────────────────────────────────────────────────────────────────────────────────────

const MISSED = 10_000;

/** Readers that missed up to 10,000 events, each with another position, so that no two share a page. */
function catchUp(topics: number, effort: Effort, options: { conflate?: boolean } = {}): number {
  const { hub, run } = open({ history: { maxEvents: Infinity } });
  const names = Array.from({ length: topics }, (_, i) => `t${i}`);
  for (let i = 0; i < MISSED + 100; i++) {
    hub.publish(names[i % topics]!, { data: DATA, key: `k${i % (100 * topics)}` });
  }
  run();
  return measure(() => {
    const readers = Array.from({ length: 20 }, (_, i) =>
      hub.subscribe(names, nullSink(), { lastEventId: `1-${i}`, ...options }),
    );
    run();
    for (const reader of readers) reader?.close();
    return readers.length * MISSED;
  }, effort);
}

/**
 * What the events of other topics cost a reader of one topic. A thousand readers stay connected, as on a
 * server in use: with only a few that come and go, V8 rebuilds its tables of them all the time, and the old
 * tables keep memory alive.
 */
function catchUpAmong(topics: number): () => number {
  const { hub, run } = open();
  for (let i = 0; i < 1000; i++) hub.subscribe(`t${i % topics}`, nullSink());
  for (let i = 0; i < 200; i++) {
    for (let topic = 0; topic < topics; topic++) hub.publish(`t${topic}`, { data: DATA });
  }
  run();
  return () => {
    // Each has another position.
    const readers = Array.from({ length: 100 }, (_, i) =>
      hub.subscribe('t0', nullSink(), { lastEventId: `1-${i * topics + 1}` }),
    );
    run();
    let missed = 0;
    for (const [i, reader] of readers.entries()) {
      missed += 199 - i;
      reader?.close();
    }
    return missed;
  };
}

/**
 * The floor: an array of frames per topic, joined from a position on, without a common order, ids or shared
 * pages.
 */
function joinAmong(topics: number): () => number {
  const frame = `id: 1-100000\ndata: ${DATA}\n\n`;
  const logs = Array.from({ length: topics }, () => [] as string[]);
  for (let i = 0; i < 200; i++) for (const [t, log] of logs.entries()) log.push(`:${t}-${i}\n${frame}`);
  return () => {
    let missed = 0;
    for (let i = 0; i < 100; i++) {
      const frames = logs[0]!.slice(i + 1);
      nullSink().write(Buffer.from(frames.join(''), 'latin1'));
      missed += frames.length;
    }
    return missed;
  };
}

/** The turns of a storm in milliseconds of CPU time; all other clients wait as long as the longest. */
function storm(name: string, keys: number, options: { conflate?: boolean } = {}): Measurement[] {
  const planned: (() => void)[] = [];
  const hub = new Hub({ epoch: 1, schedule: (turn) => planned.push(turn) });
  for (let i = 0; i < MISSED; i++) hub.publish('a', { data: DATA, key: `k${i % keys}` });
  for (let i = 0; i < 1000; i++) hub.subscribe('a', nullSink(), { lastEventId: `1-${i}`, ...options });
  const times: number[] = [];
  for (let turn = planned.pop(); turn !== undefined; turn = planned.pop()) {
    const start = process.cpuUsage();
    turn();
    const { user, system } = process.cpuUsage(start);
    times.push((user + system) / 1e3);
  }
  times.sort((a, b) => a - b);
  const turn = { case: `a turn while 1,000 come back, ${name}`, peer: 'sluice' };
  return [
    { ...turn, figure: 'p50', value: median(times) },
    { ...turn, figure: 'p99', value: times[Math.floor(times.length * 0.99)]! },
  ];
}

// ── publishing ──────────────────────────────────────────────────────────────────────────────────────────

function publish(topics: number, readers: number, effort: Effort): number {
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
  }, effort);
}

// ── memory ──────────────────────────────────────────────────────────────────────────────────────────────

const COUNT = 10_000;

function publishEach(to: Hub): Hub {
  for (let i = 0; i < COUNT; i++) to.publish(`t${i}`, { data: DATA });
  return to;
}

function subscribeEach(sinks: readonly Sink[], topicOf: (i: number) => string): Hub {
  const { hub, run } = open();
  for (let i = 0; i < COUNT; i++) hub.subscribe(topicOf(i), sinks[i]!);
  run();
  kept.push(hub);
  return hub;
}

function memory(): Measurement[] {
  const { hub } = open();
  const sinks = Array.from({ length: COUNT }, nullSink);
  const of = (name: string, make: () => unknown): Measurement => ({
    case: name,
    peer: 'sluice',
    figure: 'heapBytes',
    value: heldBytes(COUNT, make),
  });
  return [
    of('a topic with one event', () => publishEach(hub)),
    of('a subscription to one topic of all', () => subscribeEach(sinks, () => 't0')),
    of('a subscription to a topic of its own', () => subscribeEach(sinks, (i) => `s${i}`)),
  ];
}

function nanoseconds(name: string, value: number, peer = 'sluice'): Measurement {
  return { case: name, peer, figure: 'nanoseconds', value };
}

export function bench(effort: Effort): Measurement[] {
  const catching = 'catching up with 10,000 events, an event';
  const among = 'catching up with 100 to 199 events of one topic, an event';
  const withTopics = (name: string, topics: number, value: number) => ({
    ...nanoseconds(name, value),
    with: { topics },
  });
  const [alone, oneOfMany, joined, joinedOfMany] = measureInTurns(
    [catchUpAmong(1), catchUpAmong(1000), joinAmong(1), joinAmong(1000)],
    effort,
  );
  return [
    ...[1, 16].flatMap((batch) => fanningOut(batch, effort)),
    ...[1, 10].map((topics) => withTopics(catching, topics, catchUp(topics, effort))),
    ...[1, 10].map((topics) =>
      withTopics(`${catching}, conflated`, topics, catchUp(topics, effort, { conflate: true })),
    ),
    withTopics(among, 1, alone!),
    withTopics(among, 1000, oneOfMany!),
    { ...withTopics(among, 1, joined!), peer: 'array' },
    { ...withTopics(among, 1000, joinedOfMany!), peer: 'array' },
    ...storm('every event', 100),
    ...storm('100 keys, conflated', 100, { conflate: true }),
    ...storm('1 key, conflated', 1, { conflate: true }),
    ...[1, 10_000].flatMap((topics) => [
      withTopics('publish and turn, nobody reads', topics, publish(topics, 0, effort)),
      withTopics('publish and turn, one reader each', topics, publish(topics, 1, effort)),
    ]),
    ...memory(),
  ];
}

await runAlone(import.meta.url, bench);
