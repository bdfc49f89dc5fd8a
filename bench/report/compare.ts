// Finds what changed between two reports, or between two commits in one run, and whether our figures became
// worse. Where both reports have a floor, figures are compared relative to it, because a slower machine slows
// the floor as well.

import { median } from 'simple-statistics';
import { type Figure, figures, isOurs, peerAt, type Run } from '../scenarios/scenario.ts';
import { floorAmong, keyOf, pairsOf, ratiosOf, summarize, summarizeChange, valuesOf } from './aggregate.ts';
import { number, parametersOf } from './format.ts';
import { readReport } from './json.ts';
import type { Environment, Report, Summary } from './report.ts';
import { type Row, type Table, textOf } from './tables.ts';

export interface Change {
  readonly scenario: string;
  readonly peer: string;
  readonly parameters: Run['parameters'];
  readonly figure: Figure;
  readonly before: number;
  readonly after: number;
  /** After divided by before; where both reports have a floor, each is first divided by its floor. */
  readonly ratio: Summary;
  readonly isByFloor: boolean;
  /** `unclear` where the interval holds 1, the change is small, or there are not five runs on each side. */
  readonly verdict: 'worse' | 'better' | 'unclear';
}

const TOLERANCE = 0.05;
/** Of three pairs all lie on one side each fourth time by chance, of five each sixteenth. */
const LEAST_RUNS = 5;

/** For each figure that depends on the machine's speed: the figure of the floor that shows this speed. */
const SPEED: Readonly<Partial<Record<Figure, Figure>>> = {
  cpuPerDelivery: 'cpuPerDelivery',
  userPerDelivery: 'cpuPerDelivery',
  systemPerDelivery: 'cpuPerDelivery',
  cpuPerMissed: 'cpuPerMissed',
  deliveriesPerSecond: 'deliveriesPerSecond',
  p50: 'p50',
  p90: 'p90',
  p99: 'p99',
  p999: 'p999',
  max: 'max',
  cpuPercent: 'cpuPercent',
  nanoseconds: 'nanoseconds',
  megabytesPerSecond: 'megabytesPerSecond',
};

export function changesBetween(before: Report, after: Report): Change[] {
  const older = new Lots(before.runs);
  const newer = new Lots(after.runs);
  return newer.all.flatMap((runs) =>
    (Object.keys(figures) as Figure[]).flatMap((figure) => changeOf(figure, older, newer, runs) ?? []),
  );
}

/**
 * What changed since another commit whose servers ran beside ours. The ratios are of pairs, so the floor is
 * not needed: a slower machine slows both.
 */
export function changesSince(commit: string, runs: readonly Run[]): Change[] {
  const lots = new Lots(runs);
  return lots.all.flatMap((after) => {
    const [like] = after as [Run];
    const before = lots.of(peerAt(like.peer, commit), like);
    return (Object.keys(figures) as Figure[]).flatMap((figure) => {
      const ratio = summarize(ratiosOf(after, before, figure));
      return ratio === undefined ? [] : changed(figure, like, ratio, before, after);
    });
  });
}

/** The runs of a report, grouped by peer and parameters. */
class Lots {
  readonly #byKey = new Map<string, Run[]>();
  readonly #peers = new Map<string, string[]>();

  constructor(runs: readonly Run[]) {
    for (const run of runs) {
      const key = `${run.peer} ${keyOf(run)}`;
      this.#byKey.set(key, [...(this.#byKey.get(key) ?? []), run]);
      this.#peers.set(keyOf(run), [...(this.#peers.get(keyOf(run)) ?? []), run.peer]);
    }
  }

  get all(): Run[][] {
    return [...this.#byKey.values()];
  }

  of(peer: string, like: Run): readonly Run[] {
    return this.#byKey.get(`${peer} ${keyOf(like)}`) ?? [];
  }

  /** A figure divided by the floor's, pair by pair; none for the floor itself, or where there is none. */
  byFloor(peer: string, like: Run, figure: Figure): number[] {
    const floor = floorAmong(this.#peers.get(keyOf(like)) ?? []);
    const speed = SPEED[figure];
    if (floor === undefined || floor === peer || speed === undefined) return [];
    const pairs = pairsOf(this.of(peer, like), this.of(floor, like), figure, speed);
    return pairs.flatMap(([own, other]) => (other > 0 ? own / other : []));
  }
}

function changeOf(figure: Figure, older: Lots, newer: Lots, runs: readonly Run[]): Change | undefined {
  const [like] = runs as [Run];
  const { peer } = like;
  const lots = [older, newer] as const;
  const [before, after] = lots.map((lot) => lot.of(peer, like)) as [Run[], Run[]];
  const byFloor = lots.map((lot) => lot.byFloor(peer, like, figure)) as [number[], number[]];
  const isByFloor = byFloor.every((values) => values.length > 0);
  const values = [valuesOf(before, figure), valuesOf(after, figure)] as const;
  const ratio = summarizeChange(...(isByFloor ? byFloor : values));
  return ratio && changed(figure, like, ratio, before, after, isByFloor);
}

function changed(
  figure: Figure,
  { scenario, peer, parameters }: Run,
  ratio: Summary,
  before: readonly Run[],
  after: readonly Run[],
  isByFloor = false,
): Change {
  const medians = { before: median(valuesOf(before, figure)), after: median(valuesOf(after, figure)) };
  const verdict = verdictOf(figure, ratio);
  return { scenario, peer, parameters, figure, ...medians, ratio, isByFloor, verdict };
}

function verdictOf(figure: Figure, { count, median: change, low, high }: Summary): Change['verdict'] {
  if (count < LEAST_RUNS) return 'unclear';
  const isLower = figures[figure].better === 'lower';
  if (change > 1 + TOLERANCE && low > 1) return isLower ? 'worse' : 'better';
  if (change < 1 / (1 + TOLERANCE) && high < 1) return isLower ? 'better' : 'worse';
  return 'unclear';
}

/** Prints what changed. @returns the exit code. */
export function compare(paths: readonly [string, string], print: (line: string) => void): 0 | 1 {
  const [before, after] = paths.map(readReport) as [Report, Report];
  for (const warning of differences(before, after)) print(`note: ${warning}`);
  const changes = changesBetween(before, after);
  if (changes.length === 0) print('the reports have no figure in common');
  for (const change of changes) print(lineOf(change));
  const few = changes.filter(({ ratio }) => ratio.count < LEAST_RUNS).length;
  if (few > 0) print(`\n${few} figures are of fewer than ${LEAST_RUNS} runs: no verdict`);
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
  const compared = ['cpu', 'cores', 'kernel', 'node', 'nodes', 'isPinned'] as const;
  const [older, newer] = [before, after].map(({ environment }) => ({
    ...environment,
    nodes: (environment.nodes ?? [`Node ${environment.node.slice(1)}`]).join(', '),
  })) as [Told, Told];
  const changed = compared.filter((name) => older[name] !== newer[name]);
  const incomplete = [before, after].flatMap((report) => report.incomplete ?? []);
  return [
    ...changed.map((name) => `${name} was ${older[name]}, and is ${newer[name]}`),
    ...incomplete.map((why) => `a report is incomplete: ${why}`),
  ];
}

type Told = Omit<Environment, 'nodes'> & { readonly nodes: string };

/** The rule for verdicts, in words. */
export const RULE: string =
  `A figure is worse, or better, if its median changed by more than ${TOLERANCE * 100} % and the whole 95 % confidence ` +
  `interval lies on that side; up to one figure in forty is by chance. With fewer than ${LEAST_RUNS} runs there is no ` +
  'interval, and no verdict.';

/** The changes as a table: a row for each figure. */
export function changesTable(commit: string, changes: readonly Change[]): Table {
  const rows = changes.map(({ scenario, peer, parameters, figure, before, after, ratio, verdict }): Row => {
    const { label, unit } = figures[figure];
    const situation = [scenario, parametersOf(parameters)].filter((part) => part !== '').join(', ');
    const values = [number(before), number(after), `${ratio.median.toFixed(3)} ×${intervalOf(ratio)}`];
    const cells = [situation, peer, `${label} (${unit})`, ...values, verdict === 'unclear' ? '' : verdict];
    return { cells, isOurs: verdict === 'worse' };
  });
  return {
    head: ['scenario', 'server', 'figure', commit, 'ours', 'ours / before', 'verdict'],
    rows,
    names: 3,
  };
}

/** The changes since a commit as lines for a terminal; the last one sums them up. */
export function changeLines(commit: string, changes: readonly Change[]): string[] {
  if (changes.length === 0) return [`\nno figure was measured both here and at ${commit}`];
  const worse = changes.filter(({ verdict }) => verdict === 'worse').length;
  const few = changes.filter(({ ratio }) => ratio.count < LEAST_RUNS).length;
  const sum = worse === 0 ? 'no figure of ours is worse' : `${worse} figures of ours are worse`;
  const last = [
    ...(few > 0
      ? [`${few} of ${changes.length} figures have fewer than ${LEAST_RUNS} pairs: no verdict`]
      : []),
    ...(few < changes.length ? [`${sum} than at ${commit}`] : []),
  ];
  return ['', ...textOf(changesTable(commit, changes)), '', RULE, ...last];
}

function intervalOf({ count, low, high }: Summary): string {
  return count < LEAST_RUNS ? '' : ` [${low.toFixed(3)} – ${high.toFixed(3)}]`;
}

function lineOf(change: Change): string {
  const { scenario, peer, parameters, figure, before, after, ratio, isByFloor, verdict } = change;
  const { label, unit } = figures[figure];
  const interval = intervalOf(ratio);
  const name = [scenario, parametersOf(parameters), peer].filter((part) => part !== '').join(', ');
  const values = `${number(before)} → ${number(after)} ${unit}`;
  const beside = isByFloor ? ' beside the floor' : '';
  const word = verdict === 'unclear' ? '' : ` ${verdict}`;
  return `${name}: ${label} ${values}, ${ratio.median.toFixed(3)} ×${interval}${beside}${word}`;
}
