// Runs scenarios from many seeds, in one process or several, and makes of each that fails a trace and a story.
//
// As a program: `seeds.ts FIRST COUNT [KIND]` prints its report as JSON.

import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Finding } from './checker.ts';
import { type RaceName, Races } from './races.ts';
import { type Kind, type Scenario, scenarioOf, type Trace } from './scenario.ts';
import { type Outcome, runScenario } from './world.ts';

export interface Report {
  readonly races: readonly (readonly [RaceName, number])[];
  readonly failures: readonly { readonly seed: number; readonly names: readonly string[] }[];
  readonly delivered: number;
}

// More tell nothing new.
const MAX_FAILURES = 50;

/** Runs one after the other. */
export async function runSeeds(first: number, count: number, kind?: Kind): Promise<Report> {
  const races = new Races();
  const failures: { seed: number; names: readonly string[] }[] = [];
  let delivered = 0;
  for (let seed = first; seed < first + count && failures.length < MAX_FAILURES; seed++) {
    const names = await namesOf(scenarioOf(seed, kind), (outcome) => {
      races.add(outcome.races.counts);
      delivered += outcome.delivered;
    });
    if (names.length > 0) failures.push({ seed, names });
  }
  return { races: [...races.counts], failures, delivered };
}

/** Runs them in one process for each core. */
export async function runSeedsApart(first: number, count: number, kind?: Kind): Promise<Report> {
  const parts = availableParallelism();
  const size = Math.ceil(count / parts);
  const reports = await Promise.all(
    Array.from({ length: parts }, (_, i) =>
      reportOf(first + i * size, Math.min(size, count - i * size), kind),
    ),
  );
  const races = new Races();
  for (const report of reports) races.add(report.races);
  return {
    races: [...races.counts],
    failures: reports.flatMap((report) => report.failures),
    delivered: reports.reduce((sum, report) => sum + report.delivered, 0),
  };
}

function reportOf(first: number, count: number, kind: Kind | undefined): Promise<Report> {
  const args = [
    ...process.execArgv,
    fileURLToPath(import.meta.url),
    String(first),
    String(count),
    kind ?? '',
  ];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  let text = '';
  child.stdout.on('data', (chunk: Buffer) => {
    text += chunk.toString();
  });
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => {
      if (code === 0) resolve(JSON.parse(text) as Report);
      else reject(new Error(`the seeds from ${first} on ended with code ${code}`));
    });
  });
}

/** The names of what is wrong; `threw` for an exception. */
async function namesOf(
  scenario: Scenario,
  done: (outcome: Outcome) => void = () => {},
  draws: Trace['draws'] = {},
): Promise<readonly string[]> {
  try {
    const outcome = await runScenario(scenario, { draws });
    done(outcome);
    return [...new Set(outcome.findings.map(({ name }) => name))];
  } catch (error) {
    return [`threw ${(error as Error).message}`];
  }
}

/** What happened in a scenario that fails, in words, and where its trace is. */
export async function retell(scenario: Scenario, draws: Trace['draws'] = {}): Promise<string> {
  const [wanted = ''] = await namesOf(scenario, undefined, draws);
  const shrunk = await shrink(scenario, wanted, draws);
  const path = join(tmpdir(), `sluice-simulation-${scenario.seed}.json`);
  try {
    const outcome = await runScenario(shrunk, { isTold: true, draws });
    const trace: Trace = { scenario: shrunk, draws: outcome.draws };
    writeFileSync(path, `${JSON.stringify(trace)}\n`);
    const findings = outcome.findings.map(({ name, who, message }) => `${name}: ${who}: ${message}`);
    return [
      ...findings.slice(0, 5),
      `replay this with SIM_TRACE=${path}`,
      ...victimStory(outcome.story, outcome.findings[0]),
    ].join('\n');
  } catch (error) {
    writeFileSync(path, `${JSON.stringify({ scenario: shrunk, draws } satisfies Trace)}\n`);
    return `${(error as Error).stack}\nreplay this with SIM_TRACE=${path}`;
  }
}

/** The last lines that concern the client to which it happened. */
function victimStory(story: readonly string[], finding: Finding | undefined): readonly string[] {
  const who = finding?.who ?? '';
  const others = /^ *\S+ ms {2}client /;
  const own = story.filter((line) => !others.test(line) || line.includes(`  ${who} `));
  return own.slice(-MAX_LINES);
}

const MAX_LINES = 120;

/** Leaves out as many steps as it can while the same is wrong. */
async function shrink(scenario: Scenario, wanted: string, draws: Trace['draws']): Promise<Scenario> {
  let shrunk = scenario;
  for (
    let size = Math.ceil(scenario.steps.length / 2);
    size >= 1;
    size = size === 1 ? 0 : Math.ceil(size / 2)
  ) {
    for (let at = 0; at < shrunk.steps.length; ) {
      const steps = shrunk.steps.filter((_, i) => i < at || i >= at + size);
      const names = await namesOf({ ...shrunk, steps }, undefined, draws);
      if (names.includes(wanted)) shrunk = { ...shrunk, steps };
      else at += size;
    }
  }
  return shrunk;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [first, count, kind] = process.argv.slice(2);
  const report = await runSeeds(Number(first), Number(count), (kind || undefined) as Kind | undefined);
  process.stdout.write(JSON.stringify(report));
}
