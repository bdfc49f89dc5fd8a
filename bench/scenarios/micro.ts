// What the parts cost by themselves, without a socket: the benches of `bench/*.bench.ts`.

import { execFile } from 'node:child_process';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Measurement } from '../harness.ts';
import { pinned } from '../loads/lead.ts';
import type { Run, Scenario } from './scenario.ts';

const benches = ['encode', 'decode', 'replay', 'hub', 'heartbeat', 'router', 'limiter', 'metrics'];
const packages = createRequire(new URL('../package.json', import.meta.url));

export const micro: Scenario = {
  name: 'micro',
  isTogether: true,
  constant: 'one process for each bench, its inputs, CPU time of whole rounds after one to warm up',
  shows: 'what a part costs beside another library, or beside the least that could do the same',
  peers: [
    'sluice',
    'eventsource-encoder',
    'eventsource-parser',
    'template',
    'array',
    'loop',
    'map',
    'counter',
    'cut',
    'join',
    'unused',
  ],
  missing: (peer) => (peer.startsWith('eventsource-') ? missingPackage(peer) : undefined),
  async run({ peers, runs, first = 0, isQuick }, note) {
    const effort = isQuick ? ['1', '2'] : ['3', '40'];
    for (let repetition = first; repetition < runs; repetition++) {
      for (const bench of benches) {
        const { stdout } = await promisify(execFile)(...command(bench, effort));
        const found = JSON.parse(stdout) as Measurement[];
        for (const run of asRuns(bench, found, repetition)) if (peers.includes(run.peer)) note(run);
      }
    }
  },
};

function missingPackage(name: string): string | undefined {
  const here = fileURLToPath(new URL('..', import.meta.url));
  try {
    if (packages.resolve(name).startsWith(here)) return undefined;
  } catch {}
  return `npm package ${name} is not installed`;
}

function command(bench: string, effort: readonly string[]): [string, string[]] {
  const program = fileURLToPath(new URL('../loads/bench.ts', import.meta.url));
  const node = [process.execPath, '--expose-gc', '--import', import.meta.resolve('tsx')];
  const [file, ...argv] = pinned(0, [...node, program, bench, ...effort]) as [string, ...string[]];
  return [file, argv];
}

/** One run for each case and peer, with all figures of it. */
function asRuns(bench: string, found: readonly Measurement[], repetition: number): Run[] {
  const runs = new Map<string, Run>();
  for (const { case: name, peer, figure, value, with: more } of found) {
    const parameters = { bench, case: name, ...more };
    const key = JSON.stringify([peer, parameters]);
    const known = runs.get(key)?.figures;
    runs.set(key, {
      scenario: 'micro',
      peer,
      parameters,
      repetition,
      figures: { ...known, [figure]: value },
    });
  }
  return [...runs.values()];
}
