// Runs scenarios of test/simulation/hub-fuzz.ts, each from a seed of its own.
//
//     FUZZ_SEED=123 npx tsx --test test/hub.fuzz.test.ts      replays one, and tells its story
//     FUZZ_RUNS=100000 npx tsx --test test/hub.fuzz.test.ts   runs more of them
//     FUZZ_FIRST=5000000 …                                    from another seed on
//
// By default the seeds are the same each time, so that a run judges the change and not its luck.

import { it } from 'node:test';
import { type Finding, fuzzHub } from './simulation/hub-fuzz.ts';

const LONG = process.env.SLUICE_LONG === '1';
const { FUZZ_SEED, FUZZ_FIRST = 1, FUZZ_RUNS = LONG ? 100_000 : 1500 } = process.env;

it('keeps its promises to every client, whatever sinks, logs and handlers do', async () => {
  const first = Number(FUZZ_SEED ?? FUZZ_FIRST);
  const runs = FUZZ_SEED === undefined ? Number(FUZZ_RUNS) : 1;
  for (let seed = first; seed < first + runs; seed++) await run(seed);
});

async function run(seed: number): Promise<void> {
  try {
    await fuzzHub(seed);
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
