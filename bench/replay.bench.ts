// What it costs to remember an event, and to find where a reader has to go on, beside a plain array.
//   npx tsx bench/replay.bench.ts

import { ReplayBuffer } from '../lib/replay.ts';
import { heldBytes, measure, print } from './harness.ts';

interface Entry {
  readonly seq: number;
  readonly at: number;
  readonly bytes: number;
  readonly frame: string;
}

const BATCH = 1000;
const entry = (seq: number): Entry => ({ seq, at: seq, bytes: 100, frame: 'x' });

/** Emptied now and then, as an array has to be that is not to grow for ever. */
function arrayPush(capacity: number): () => number {
  let kept: Entry[] = [];
  let seq = 0;
  return () => {
    for (let i = 0; i < BATCH; i++) kept.push(entry(++seq));
    if (kept.length > capacity * 2) kept = kept.slice(-capacity);
    return BATCH;
  };
}

function ringPush(options: ConstructorParameters<typeof ReplayBuffer>[0]): () => number {
  const ring = new ReplayBuffer<Entry>(options);
  let seq = 0;
  return () => {
    for (let i = 0; i < BATCH; i++) ring.push(entry(++seq));
    return BATCH;
  };
}

for (const capacity of [100, 10_000, 1_000_000]) {
  const floor = measure(arrayPush(capacity));
  print(`push, ${capacity} kept: array (floor)`, floor, 'ns/event');
  print(`push, ${capacity} kept: by count`, measure(ringPush({ capacity })), 'ns/event', floor);
  const limits = { capacity, maxBytes: capacity * 90, maxAge: capacity };
  print(`push, ${capacity} kept: by count, bytes and age`, measure(ringPush(limits)), 'ns/event', floor);
}

for (const size of [100, 10_000, 1_000_000]) {
  const ring = new ReplayBuffer<Entry>({ capacity: size });
  for (let seq = 1; seq <= size * 2; seq++) ring.push(entry(seq));
  let found = 0;
  let seed = 1;
  const lookUp = measure(() => {
    for (let i = 0; i < BATCH; i++) {
      seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 1;
      found += ring.indexAfter(size + (seed % size));
    }
    return BATCH;
  });
  print(`look up any of ${size}`, lookUp, 'ns');
  const atHead = measure(() => {
    for (let i = 0; i < BATCH; i++) found += ring.indexAfter(size * 2);
    return BATCH;
  });
  print(`look up the newest of ${size}`, atHead, 'ns');
  if (found === 0) throw new Error('nothing was found');
}

print(
  'memory of an empty buffer',
  heldBytes(10_000, () => Array.from({ length: 10_000 }, () => new ReplayBuffer())),
  'bytes',
);
