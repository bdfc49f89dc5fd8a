// Says of two reports what changed between them, and whether ours became worse.

import { median } from 'simple-statistics';
import { type Figure, figures, type Run } from '../scenarios/scenario.ts';
import { isOurs, keyOf, summarizeChange, valuesOf } from './aggregate.ts';
import { number, parametersOf } from './format.ts';
import { readReport } from './json.ts';
import type { Report, Summary } from './report.ts';

export interface Change {
  readonly scenario: string;
  readonly peer: string;
  readonly parameters: Run['parameters'];
  readonly figure: Figure;
  readonly before: number;
  readonly after: number;
  /** After by before. */
  readonly ratio: Summary;
  /** `unclear` where the interval holds 1, the change is small, or there are not three runs on each side. */
  readonly verdict: 'worse' | 'better' | 'unclear';
}

const TOLERANCE = 0.05;
/** With fewer runs there is no interval to speak of. */
const LEAST_RUNS = 3;

export function changesBetween(before: Report, after: Report): Change[] {
  const older = runsByPeer(before.runs);
  return [...runsByPeer(after.runs)].flatMap(([key, runs]) => {
    const counterparts = older.get(key) ?? [];
    return (Object.keys(figures) as Figure[]).flatMap((figure) => changeOf(figure, counterparts, runs) ?? []);
  });
}

function runsByPeer(runs: readonly Run[]): Map<string, Run[]> {
  const all = new Map<string, Run[]>();
  for (const run of runs) {
    const key = `${run.peer} ${keyOf(run)}`;
    all.set(key, [...(all.get(key) ?? []), run]);
  }
  return all;
}

function changeOf(figure: Figure, older: readonly Run[], newer: readonly Run[]): Change | undefined {
  const [before, after] = [valuesOf(older, figure), valuesOf(newer, figure)];
  const ratio = summarizeChange(before, after);
  if (ratio === undefined) return undefined;
  const { scenario, peer, parameters } = newer[0]!;
  const verdict = verdictOf(figure, ratio);
  return { scenario, peer, parameters, figure, before: median(before), after: median(after), ratio, verdict };
}

function verdictOf(figure: Figure, { count, median: change, low, high }: Summary): Change['verdict'] {
  if (count < LEAST_RUNS) return 'unclear';
  const isLower = figures[figure].better === 'lower';
  if (change > 1 + TOLERANCE && low > 1) return isLower ? 'worse' : 'better';
  if (change < 1 / (1 + TOLERANCE) && high < 1) return isLower ? 'better' : 'worse';
  return 'unclear';
}

/** Prints what changed. Its answer is the command's exit code. */
export function compare(paths: readonly [string, string], print: (line: string) => void): 0 | 1 {
  const [before, after] = paths.map(readReport) as [Report, Report];
  for (const warning of differences(before, after)) print(`note: ${warning}`);
  const changes = changesBetween(before, after);
  if (changes.length === 0) print('the reports have no figure in common');
  for (const change of changes) print(lineOf(change));
  const few = changes.filter(({ ratio }) => ratio.count < LEAST_RUNS).length;
  if (few > 0)
    print(`\n${few} figures are of fewer than ${LEAST_RUNS} runs, which tell nothing of what is chance`);
  const worse = changes.filter(({ peer, verdict }) => isOurs(peer) && verdict === 'worse');
  print(
    worse.length === 0
      ? '\nno figure of ours became worse'
      : `\n${worse.length} figures of ours became worse:`,
  );
  for (const change of worse) print(lineOf(change));
  return worse.length === 0 ? 0 : 1;
}

function differences(before: Report, after: Report): string[] {
  const compared = ['cpu', 'cores', 'kernel', 'node', 'isPinned'] as const;
  return compared
    .filter((name) => before.environment[name] !== after.environment[name])
    .map((name) => `${name} was ${before.environment[name]}, and is ${after.environment[name]}`);
}

function lineOf({ scenario, peer, parameters, figure, before, after, ratio, verdict }: Change): string {
  const { label, unit } = figures[figure];
  const interval = ratio.count < LEAST_RUNS ? '' : ` [${ratio.low.toFixed(3)} – ${ratio.high.toFixed(3)}]`;
  const name = [scenario, parametersOf(parameters), peer].filter((part) => part !== '').join(', ');
  const values = `${number(before)} → ${number(after)} ${unit}`;
  return `${name}: ${label} ${values}, ${ratio.median.toFixed(3)} ×${interval} ${verdict === 'unclear' ? '' : verdict}`;
}
