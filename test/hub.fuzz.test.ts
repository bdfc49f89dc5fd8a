// Runs scenarios of test/simulation/hub-fuzz.ts and of test/simulation/batches.ts, each from a seed of its own.
//
//     FUZZ_SEED=123 npx tsx --test test/hub.fuzz.test.ts      replays one, and tells its story
//     FUZZ_RUNS=100000 npx tsx --test test/hub.fuzz.test.ts   runs more of them
//     FUZZ_FIRST=5000000 …                                    from another seed on
//
// By default the seeds are the same each time, so that a run judges the change and not its luck.

import assert from 'node:assert/strict';
import { it } from 'node:test';
import { often } from './helpers/long.ts';
import { fuzzBatch } from './simulation/batches.ts';
import { type Finding, fuzzHub, type Tally } from './simulation/hub-fuzz.ts';

const { FUZZ_SEED, FUZZ_FIRST = 1, FUZZ_RUNS } = process.env;

it('keeps its promises to every client, whatever sinks, logs and handlers do', async () => {
  const met = new Map<string, number>();
  const seeds = seedsFor(often(1500, 100_000));
  for (const seed of seeds) {
    for (const [what, times] of Object.entries(await run(seed))) met.set(what, (met.get(what) ?? 0) + times);
  }
  // Scenarios that never meet what can go wrong would promise nothing.
  if (seeds.length < 1000) return;
  for (const [what, times] of met)
    assert.ok(times >= seeds.length / 10, `${times} ${what} in ${seeds.length} scenarios`);
});

it('holds each batch that it takes as a whole, however full its memory was before', () => {
  const seeds = seedsFor(often(4000, 100_000));
  const taken = seeds.filter((seed) => {
    try {
      return fuzzBatch(seed) > 0;
    } catch (cause) {
      throw new Error(`replay this with FUZZ_SEED=${seed}: ${(cause as Error).message}`, { cause });
    }
  });
  if (seeds.length >= 1000) assert.ok(taken.length >= seeds.length / 2, `${taken.length} batches were taken`);
});

function seedsFor(runs: number): readonly number[] {
  if (FUZZ_SEED !== undefined) return [Number(FUZZ_SEED)];
  return Array.from({ length: Number(FUZZ_RUNS ?? runs) }, (_, i) => Number(FUZZ_FIRST) + i);
}

async function run(seed: number): Promise<Tally> {
  try {
    return await fuzzHub(seed);
  } catch (cause) {
    throw new Error(`replay this with FUZZ_SEED=${seed}: ${await retell(seed, cause as Error)}`, { cause });
  }
}

/** Runs the scenario once more, for its story. */
async function retell(seed: number, error: Error): Promise<string> {
  try {
    await fuzzHub(seed, true);
    return error.message;
  } catch (finding) {
    return [(finding as Error).message, ...((finding as Finding).story ?? [])].join('\n');
  }
}
