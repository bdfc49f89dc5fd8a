// Runs the benches of single modules, `bench/*.bench.ts`: what each costs without a socket.

import { execFile } from 'node:child_process';
import { cpSync, existsSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { installed, type Measurement } from '../harness.ts';
import type { Commit } from '../loads/commit.ts';
import { pinned, reasonIn } from '../loads/lead.ts';
import { chosenNode } from '../loads/nodes.ts';
import { root } from '../loads/plain.ts';
import { OURS, peerAt, type Run, type Scenario } from './scenario.ts';

const benches = [
  'encode',
  'decode',
  'replay',
  'hub',
  'catchup',
  'memory',
  'sqlite',
  'heartbeat',
  'router',
  'limiter',
  'metrics',
];
/** Milliseconds after which a bench at another commit is given up, where it may take many times as long. */
const PATIENCE = 10 * 60_000;
const libraries = ['eventsource-encoder', 'eventsource-parser'];

export const micro: Scenario = {
  name: 'micro',
  isTogether: true,
  benches,
  constant: 'the inputs; one process for each bench; CPU time of whole rounds, after one round to warm up',
  shows: 'what a module costs, beside another library or the least code that could do the same',
  peers: [
    OURS,
    ...libraries,
    'template',
    'array',
    'loop',
    'map',
    'counter',
    'cut',
    'join',
    'unused',
    'wire',
    'memory',
    'insert',
  ],
  missing: (peer) => (libraries.includes(peer) ? missingPackage(peer) : undefined),
  async run({ peers, runs, first = 0, benches: chosen = benches, isQuick, against }, note) {
    const effort = isQuick ? ['1', '2'] : ['3', '40'];
    const theirs = against !== undefined && peers.includes(peerAt(OURS, against.name)) ? against : undefined;
    if (theirs !== undefined) lend(theirs);
    // Where figures mean nothing, both cores may be busy.
    const cores = isQuick ? [0, 1] : [0];
    for (let repetition = first; repetition < runs; repetition++) {
      const left = [...chosen];
      const onCore = async (core: number) => {
        for (let bench = left.shift(); bench !== undefined; bench = left.shift()) {
          const ours = async () => {
            const found = asRuns(bench, await measured(root, bench, effort, core), repetition);
            for (const run of found) if (peers.includes(run.peer)) note(run);
          };
          const before = async () => {
            if (theirs === undefined) return;
            for (const run of await runsAt(theirs, bench, effort, core, repetition)) note(run);
          };
          // A process for each: in one process, the same code at both commits differed by up to 12 %. Which
          // commit runs first alternates.
          for (const side of repetition % 2 === 0 ? [ours, before] : [before, ours]) await side();
        }
      };
      await Promise.all(cores.map(onCore));
    }
  },
};

function missingPackage(name: string): string | undefined {
  return installed(name) === undefined ? `npm package ${name} is not installed` : undefined;
}

/**
 * Copies the other libraries to where the benches of that commit look for them, and those benches that the
 * commit lacks, which then run against its `lib/`.
 */
function lend(to: Commit): void {
  for (const name of libraries) {
    const path = join('bench/node_modules', name);
    if (existsSync(join(root, path))) cpSync(join(root, path), join(to.root, path), { recursive: true });
  }
  for (const path of benches.map((name) => `bench/${name}.bench.ts`)) {
    if (!existsSync(join(to.root, path))) cpSync(join(root, path), join(to.root, path));
  }
}

/**
 * Runs the bench of another commit, which uses the names of that commit, or ours where it has none, and keeps
 * our figures in it.
 */
async function runsAt(
  commit: Commit,
  bench: string,
  effort: readonly string[],
  core: number,
  repetition: number,
): Promise<Run[]> {
  const peer = peerAt(OURS, commit.name);
  try {
    const found = await measured(commit.root, bench, effort, core, PATIENCE);
    return asRuns(
      bench,
      found.filter((one) => one.peer === OURS).map((one) => ({ ...one, peer })),
      repetition,
    );
  } catch (error) {
    const { stderr, message, killed } = error as Error & { stderr?: string; killed?: boolean };
    const reason = reasonIn(stderr || message).split('\n')[0];
    const invalid = killed ? `it did not end within ${PATIENCE / 60_000} minutes` : reason;
    return [{ scenario: 'micro', peer, parameters: { bench }, repetition, figures: {}, invalid }];
  }
}

/** Runs one bench in a process of its own. */
async function measured(
  from: string,
  bench: string,
  effort: readonly string[],
  core: number,
  timeout = 0,
): Promise<Measurement[]> {
  const program = join(from, 'bench/loads/bench.ts');
  const node = [chosenNode().path, '--expose-gc', '--import', import.meta.resolve('tsx')];
  const [file, ...argv] = pinned(core, [...node, program, bench, ...effort]) as [string, ...string[]];
  const { stdout } = await promisify(execFile)(file, argv, { timeout, maxBuffer: Infinity });
  return JSON.parse(stdout) as Measurement[];
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
