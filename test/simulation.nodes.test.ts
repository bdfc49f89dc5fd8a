// Runs scenarios of test/simulation/nodes/: several nodes with real hubs, logs, streams and clients under one
// clock, each scenario from a seed of its own.
//
//     SIM_SEED=123 npx tsx --test test/simulation.nodes.test.ts       replays one, and tells its story
//     SIM_RUNS=50000 npx tsx --test test/simulation.nodes.test.ts     runs more of them, on all cores
//     SIM_FIRST=5000000 …                                             from another seed on
//     SIM_KIND=shared …                                               memory, own, shared, processes, redis or sqlite alone
//     SIM_TRACE=FILE npx tsx --test test/simulation.nodes.test.ts     replays a trace that a failure has left
//
// By default the seeds are the same each time, so that a run judges the change and not its luck.

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { it } from 'node:test';
import { raceNames } from './simulation/nodes/races.ts';
import { type Kind, scenarioOf, type Trace } from './simulation/nodes/scenario.ts';
import { retell, runSeeds, runSeedsApart } from './simulation/nodes/seeds.ts';
import { hasSqlite } from './simulation/nodes/sqlite-disk.ts';
import { runScenario } from './simulation/nodes/world.ts';

const { SIM_SEED, SIM_FIRST = '1', SIM_RUNS, SIM_KIND, SIM_TRACE } = process.env;
const LONG = process.env.SLUICE_LONG === '1';
const kind = SIM_KIND as Kind | undefined;
const traces = new URL('fixtures/traces/', import.meta.url);

it('loses nothing in silence, whatever nodes, stores, clients and the network do', async (t) => {
  if (SIM_TRACE !== undefined) return replay(SIM_TRACE);
  const first = Number(SIM_SEED ?? SIM_FIRST);
  const count = SIM_SEED === undefined ? Number(SIM_RUNS ?? (LONG ? 50_000 : 120)) : 1;
  const run = count > 1000 ? runSeedsApart : runSeeds;
  const { races, failures, delivered } = await run(first, count, kind);
  if (count > 1000) {
    const counts = new Map(races);
    for (const name of raceNames) t.diagnostic(`${String(counts.get(name) ?? 0).padStart(8)}  ${name}`);
    t.diagnostic(`${count} scenarios, ${delivered} events received`);
  }
  const [failure] = failures;
  if (failure !== undefined) {
    const others = failures.map(({ seed, names }) => `${seed} (${names.join(', ')})`).join(' · ');
    assert.fail(
      `SIM_SEED=${failure.seed}: ${await retell(scenarioOf(failure.seed, kind))}\nfailed: ${others}`,
    );
  }
  // Scenarios that never meet what can go wrong would promise nothing.
  if (count < 5000 || kind !== undefined) return;
  const counts = new Map(races);
  for (const name of raceNames) {
    const times = counts.get(name) ?? 0;
    assert.ok(times >= count / 100, `${times} times "${name}" in ${count} scenarios`);
  }
});

if (SIM_TRACE === undefined && SIM_SEED === undefined && SIM_KIND === undefined) {
  it('loses nothing in silence where the log in Redis runs its scripts on a model of it', () =>
    runKind('redis', Math.ceil(Number(SIM_RUNS ?? (LONG ? 50_000 : 750)) / 25)));

  it('loses nothing in silence where several processes follow the owner of a log', () =>
    runKind('processes', Math.ceil(Number(SIM_RUNS ?? (LONG ? 20_000 : 500)) / 10)));
}

// Each opens real files, which takes longer. Node has SQLite from 22.13 on.
if (hasSqlite && SIM_TRACE === undefined && SIM_SEED === undefined) {
  it('loses nothing in silence where a real SQLite file is behind the hub', () =>
    runKind('sqlite', Math.ceil(Number(SIM_RUNS ?? (LONG ? 20_000 : 200)) / 20)));
}

async function runKind(only: Kind, count: number): Promise<void> {
  const { failures } = await (count > 200 ? runSeedsApart : runSeeds)(Number(SIM_FIRST), count, only);
  const [failure] = failures;
  if (failure === undefined) return;
  assert.fail(`SIM_KIND=${only} SIM_SEED=${failure.seed}: ${await retell(scenarioOf(failure.seed, only))}`);
}

for (const file of readdirSync(traces)) {
  it(`does not do again what was found once: ${file.replace('.json', '').replaceAll('-', ' ')}`, () =>
    replay(new URL(file, traces)));
}

async function replay(file: string | URL): Promise<void> {
  const { scenario, draws } = JSON.parse(readFileSync(file, 'utf8')) as Trace;
  const { findings } = await runScenario(scenario, { draws });
  if (findings.length > 0) assert.fail(await retell(scenario, draws));
}
