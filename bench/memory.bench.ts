// Measures what a remembered event holds in memory: on V8's heap, and on it and outside it together. Beside it
// the bytes that the event has on the wire, which is the least that can be held.
//   node --expose-gc --import tsx bench/memory.bench.ts
//
// Uses nothing of `harness.ts` that older commits lack, because `micro` runs it against their `lib/` too.

import { Hub } from '../lib/hub.ts';
import { type Effort, type Measurement, runAlone } from './harness.ts';

const EPOCH = 1795408776829004;
/** What a case may hold, about; an event of 10,000 bytes in each of 10,000 topics holds 100 MB. */
const BUDGET = 50e6;
const MOST_EVENTS = 200_000;

type Keys = 'no keys' | '100 keys a topic' | 'a key for each event';

interface Case {
  readonly bytes: number;
  readonly topics: number;
  readonly keys: Keys;
}

const TOPICS = [1, 100, 10_000];

/** Each size alone, the keys at one size, and the smallest event with the largest share of keys. */
const cases: readonly Case[] = [
  ...[20, 100, 1000, 10_000].flatMap((bytes) =>
    TOPICS.map((topics) => ({ bytes, topics, keys: 'no keys' as const })),
  ),
  ...TOPICS.flatMap((topics) => [
    { bytes: 100, topics, keys: '100 keys a topic' as const },
    { bytes: 100, topics, keys: 'a key for each event' as const },
  ]),
  { bytes: 20, topics: 100, keys: 'a key for each event' },
];

function eventsOf({ bytes, topics }: Case, budget: number): number {
  const most = Math.min(MOST_EVENTS, budget / (bytes + 200));
  return topics * Math.max(1, Math.floor(most / topics));
}

/** A text of its own in one piece, as a socket or a parser gives it, and not a rope over shared pieces. */
function flat(text: string): string {
  return Buffer.from(text, 'latin1').toString('latin1');
}

function keyOf(keys: Keys, i: number, topics: number): string | undefined {
  if (keys === 'no keys') return undefined;
  return flat(`key-${keys === '100 keys a topic' ? Math.floor(i / topics) % 100 : i}`);
}

function dataOf({ bytes }: Case, i: number): string {
  return flat(`${i} `.padEnd(bytes, 'x'));
}

/** A hub that remembers events of topics in turn. */
function fill(of: Case, events: number): Hub {
  const planned: (() => void)[] = [];
  const hub = new Hub({
    epoch: EPOCH,
    schedule: (turn) => planned.push(turn),
    history: { maxEvents: Infinity, maxBytes: Infinity },
    maxHistoryBytes: Infinity,
  });
  for (let i = 0; i < events; i++) {
    hub.publish(`topic-${i % of.topics}`, { data: dataOf(of, i), key: keyOf(of.keys, i, of.topics) });
    if (i % 100 === 99) planned.shift()?.();
  }
  planned.shift()?.();
  return hub;
}

/** The bytes of the same events on the wire, without chunk heads. */
function wireBytes(of: Case, events: number): number {
  let bytes = 0;
  for (let i = 0; i < events; i++) bytes += `id: ${EPOCH}-${i + 1}\ndata: ${dataOf(of, i)}\n\n`.length;
  return bytes;
}

interface Memory {
  readonly heap: number;
  readonly all: number;
}

/** `external` holds the bytes of all ArrayBuffers too. Imprecise without `--expose-gc`. */
function memory(): Memory {
  // Sweeps what the first collection has left to be swept later.
  for (let i = 0; i < 3; i++) globalThis.gc?.();
  const { heapUsed, external } = process.memoryUsage();
  return { heap: heapUsed, all: heapUsed + external };
}

/** Keeps the hub alive that is measured, and no other. */
let kept: Hub | undefined;

function measureCase(of: Case, budget: number): Measurement[] {
  const events = eventsOf(of, budget);
  kept = undefined;
  const before = memory();
  kept = fill(of, events);
  const after = memory();
  if (kept.topics().length !== of.topics) throw new Error('the hub has forgotten topics');
  const add = (figure: 'heldBytes' | 'heapBytes', value: number, peer = 'sluice'): Measurement => {
    const { bytes, topics, keys } = of;
    const where = figure === 'heapBytes' ? ', of it on the heap' : '';
    return {
      case: `a remembered event, ${keys}${where}`,
      peer,
      figure,
      value: value / events,
      with: { bytes, topics },
    };
  };
  return [
    add('heldBytes', after.all - before.all),
    add('heapBytes', after.heap - before.heap),
    add('heldBytes', wireBytes(of, events), 'wire'),
  ];
}

export function bench({ round }: Effort): Measurement[] {
  const isQuick = round < 10;
  const chosen = isQuick ? cases.filter(({ topics }) => topics < 10_000) : cases;
  measureCase(cases[0]!, 1e6); // V8 compiles the code, and keeps what it compiled
  return chosen.flatMap((of) => measureCase(of, isQuick ? 1e6 : BUDGET));
}

await runAlone(import.meta.url, bench);
