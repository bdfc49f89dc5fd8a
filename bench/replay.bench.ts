// Measures pushing an entry and finding the next entry of a reader, beside a plain array.
//   node --expose-gc --import tsx bench/replay.bench.ts

import { ReplayBuffer } from '../lib/replay.ts';
import { type Effort, heldBytes, type Measurement, measure, measureInTurns, runAlone } from './harness.ts';

interface Entry {
  readonly seq: number;
  readonly at: number;
  readonly bytes: number;
  readonly frame: string;
}

const BATCH = 1000;
const entry = (seq: number): Entry => ({ seq, at: seq, bytes: 100, frame: 'x' });

/** Cut back at times, so that the array does not grow without limit. */
function arrayPush(maxEntries: number): () => number {
  let kept: Entry[] = [];
  let seq = 0;
  return () => {
    for (let i = 0; i < BATCH; i++) kept.push(entry(++seq));
    if (kept.length > maxEntries * 2) kept = kept.slice(-maxEntries);
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

function pushing(maxEntries: number, effort: Effort): Measurement[] {
  const limits = { maxEntries, maxBytes: maxEntries * 90, maxAge: maxEntries };
  const works = [arrayPush(maxEntries), ringPush({ maxEntries }), ringPush(limits)];
  const [array, byCount, byAll] = measureInTurns(works, effort);
  const name = `push, ${maxEntries} kept`;
  return [
    { case: name, peer: 'array', figure: 'nanoseconds', value: array! },
    { case: name, peer: 'sluice', figure: 'nanoseconds', value: byCount! },
    { case: `${name} by count, bytes and age`, peer: 'array', figure: 'nanoseconds', value: array! },
    { case: `${name} by count, bytes and age`, peer: 'sluice', figure: 'nanoseconds', value: byAll! },
  ];
}

function lookingUp(size: number, effort: Effort): Measurement[] {
  const ring = new ReplayBuffer<Entry>({ maxEntries: size });
  for (let seq = 1; seq <= size * 2; seq++) ring.push(entry(seq));
  let found = 0;
  let seed = 1;
  const any = measure(() => {
    for (let i = 0; i < BATCH; i++) {
      seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 1;
      found += ring.indexAfter(size + (seed % size));
    }
    return BATCH;
  }, effort);
  const newest = measure(() => {
    for (let i = 0; i < BATCH; i++) found += ring.indexAfter(size * 2);
    return BATCH;
  }, effort);
  if (found === 0) throw new Error('nothing was found');
  return [
    { case: `look up any of ${size}`, peer: 'sluice', figure: 'nanoseconds', value: any },
    { case: `look up the newest of ${size}`, peer: 'sluice', figure: 'nanoseconds', value: newest },
  ];
}

export function bench(effort: Effort): Measurement[] {
  const sizes = [100, 10_000, 1_000_000];
  const memory = heldBytes(10_000, () => Array.from({ length: 10_000 }, () => new ReplayBuffer()));
  return [
    ...sizes.flatMap((size) => pushing(size, effort)),
    ...sizes.flatMap((size) => lookingUp(size, effort)),
    { case: 'an empty buffer', peer: 'sluice', figure: 'heapBytes', value: memory },
  ];
}

await runAlone(import.meta.url, bench);
