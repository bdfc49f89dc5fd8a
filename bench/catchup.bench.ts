// Measures catching up: readers at different places of 1 to 64 topics with 10,000 events each, every event or
// conflated. The time of the longest turn is what every other client waits at most.
//   npx tsx bench/catchup.bench.ts

import { Hub, type Sink } from '../lib/hub.ts';
import { type Effort, type Measurement, median, runAlone } from './harness.ts';

const EVENTS = 10_000;
/** Small, so that the work for an event and not the copying of its bytes is measured. */
const DATA = 'x'.repeat(20);
const EPOCH = 1795408776829004;

/** Which keys the events of a topic have, and whether the readers conflate. */
const modes = {
  'every event': { keys: 100, conflate: false },
  'conflated, 100 keys a topic': { keys: 100, conflate: true },
  'conflated, a key for each event': { keys: EVENTS, conflate: true },
  'conflated, no keys': { keys: 0, conflate: true },
};

interface Filled {
  readonly hub: Hub;
  readonly names: readonly string[];
  /** Runs one turn; false when the hub has nothing left to do. */
  readonly turn: () => boolean;
}

function fill(topics: number, keys: number): Filled {
  const planned: (() => void)[] = [];
  const hub = new Hub({
    epoch: EPOCH,
    schedule: (turn) => planned.push(turn),
    history: { maxEvents: EVENTS, maxBytes: Infinity },
    maxHistoryBytes: Infinity,
  });
  const names = Array.from({ length: topics }, (_, i) => `topic-${i}`);
  for (let i = 0; i < topics * EVENTS; i++) {
    const key = keys === 0 ? undefined : `key-${Math.floor(i / topics) % keys}`;
    hub.publish(names[i % topics]!, { data: DATA, key });
  }
  const turn = () => {
    planned.shift()?.();
    return planned.length > 0;
  };
  while (turn());
  return { hub, names, turn };
}

const nullSink = (): Sink => ({ write: () => true, end() {}, on() {}, off() {} });

interface Caught {
  /** CPU nanoseconds for each event that a reader got, or that conflation skipped for it. */
  readonly nanoseconds: number;
  /** The longest turn in milliseconds, as a clock on the wall measures it. */
  readonly longest: number;
}

/**
 * Milliseconds after which no further turn begins, and after a warm-up that took as long no further round: at
 * older commits one turn may take seconds.
 */
const PATIENCE = 5000;

/** Lets readers catch up from places spread over the whole history, for at most as many turns. */
function catchUp({ hub, names, turn }: Filled, readers: number, conflate: boolean, maxTurns: number): Caught {
  const all = Array.from({ length: readers }, (_, i) => {
    const seq = Math.floor((i * names.length * EVENTS) / readers);
    return hub.subscribe(names, nullSink(), { lastEventId: `${EPOCH}-${seq}`, conflate });
  });
  turn(); // the first bytes
  const lag = () => all.reduce((sum, subscription) => sum + subscription.lag, 0);
  const before = lag();
  const start = process.cpuUsage();
  let longest = 0;
  const begin = performance.now();
  for (let turns = 0, goesOn = true; goesOn && turns < maxTurns; turns++) {
    const since = performance.now();
    if (since - begin > PATIENCE) break;
    goesOn = turn();
    longest = Math.max(longest, performance.now() - since);
  }
  const { user, system } = process.cpuUsage(start);
  const passed = before - lag();
  for (const subscription of all) subscription.close();
  while (turn());
  return { nanoseconds: ((user + system) * 1000) / passed, longest };
}

/** The floor: an array of frames for each topic, joined in pages of 64 KiB, one topic after the other. */
function joinAll(topics: number): number {
  const frame = `id: ${EPOCH}-100000\ndata: ${DATA}\n\n`;
  const logs = Array.from({ length: topics }, (_, t) =>
    Array.from({ length: EVENTS }, (_, i) => `:${t}-${i}\n${frame}`),
  );
  const start = process.cpuUsage();
  let bytes = 0;
  for (const log of logs) {
    for (let at = 0; at < log.length; at += 800) {
      bytes += Buffer.from(log.slice(at, at + 800).join(''), 'latin1').length;
    }
  }
  const { user, system } = process.cpuUsage(start);
  if (bytes === 0) throw new Error('nothing was joined');
  return ((user + system) * 1000) / (topics * EVENTS);
}

export function bench({ rounds, round }: Effort): Measurement[] {
  const isQuick = round < 10;
  const found: Measurement[] = [];
  for (const topics of isQuick ? [1, 4] : [1, 4, 16, 64]) {
    const add = (
      name: string,
      figure: 'nanoseconds' | 'max',
      value: number,
      readers: number,
      peer = 'sluice',
    ) => found.push({ case: name, peer, figure, value, with: { topics, readers } });
    const floor = median(Array.from({ length: rounds }, () => joinAll(topics)));
    for (const [name, { keys, conflate }] of Object.entries(modes)) {
      const filled = fill(topics, keys);
      for (const readers of isQuick ? [1, 10] : [1, 10, 100, 1000]) {
        const run = () => catchUp(filled, readers, conflate, isQuick ? 20 : 500);
        const begin = performance.now();
        const first = [run()]; // warms up
        const isSlow = performance.now() - begin > PATIENCE;
        const results = isSlow ? first : Array.from({ length: rounds }, run);
        add(`catching up, ${name}`, 'nanoseconds', median(results.map((one) => one.nanoseconds)), readers);
        add(`the longest turn, ${name}`, 'max', Math.max(...results.map((one) => one.longest)), readers);
        if (!conflate) add(`catching up, ${name}`, 'nanoseconds', floor, readers, 'array');
      }
    }
  }
  return found;
}

await runAlone(import.meta.url, bench);
