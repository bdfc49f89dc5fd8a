// Runs worlds of test/simulation/world.ts, each from a seed of its own.
//
//     SIM_SEED=123 npx tsx --test test/simulation.test.ts     replays one
//     SIM_RUNS=10000 npx tsx --test test/simulation.test.ts   runs more of them

import { it } from 'node:test';
import { World } from './simulation/world.ts';

const { SIM_SEED, SIM_RUNS = 400 } = process.env;

it('delivers everything to returning clients in order and once, or says what is lost', async () => {
  const first = SIM_SEED === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(SIM_SEED);
  const runs = SIM_SEED === undefined ? Number(SIM_RUNS) : 1;
  for (let seed = first; seed < first + runs; seed++) await run(seed);
});

async function run(seed: number): Promise<void> {
  try {
    await new World(seed).run();
  } catch (cause) {
    throw new Error(`replay this with SIM_SEED=${seed}: ${(cause as Error).message}`, { cause });
  }
}
