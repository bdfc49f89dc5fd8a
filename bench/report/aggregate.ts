// Computes medians, intervals and ratios of runs. The same runs always give the same results.

import { median, quantile, sampleWithReplacement } from 'simple-statistics';
import { type Figure, isOurs, OURS, type Run } from '../scenarios/scenario.ts';
import type { Choice, Group, Measurements, PeerOfGroup, Summaries, Summary } from './report.ts';

/** The names of floors; a scenario or bench has at most one. */
const FLOORS = [
  'floor',
  'prepared',
  'template',
  'array',
  'loop',
  'map',
  'counter',
  'cut',
  'join',
  'unused',
  'wire',
  'xadd',
  'xread',
  'set',
];

const RESAMPLES = 2000;
const SEED = 20_261_123;

export function summarize(values: readonly number[]): Summary | undefined {
  if (values.length === 0) return undefined;
  const all = [...values];
  const random = randomFrom(SEED);
  const medians = Array.from({ length: RESAMPLES }, () =>
    median(sampleWithReplacement(all, all.length, random)),
  );
  return {
    count: all.length,
    median: median(all),
    q1: quantile(all, 0.25),
    q3: quantile(all, 0.75),
    low: quantile(medians, 0.025),
    high: quantile(medians, 0.975),
  };
}

/** The change of a median between two sets of runs that are not pairs. */
export function summarizeChange(before: readonly number[], after: readonly number[]): Summary | undefined {
  if (before.length === 0 || after.length === 0 || Math.min(...before) <= 0) return undefined;
  const random = randomFrom(SEED);
  const again = (values: readonly number[]) =>
    median(sampleWithReplacement([...values], values.length, random));
  const ratios = Array.from({ length: RESAMPLES }, () => again(after) / again(before));
  return {
    count: Math.min(before.length, after.length),
    median: median([...after]) / median([...before]),
    q1: quantile(ratios, 0.25),
    q3: quantile(ratios, 0.75),
    low: quantile(ratios, 0.025),
    high: quantile(ratios, 0.975),
  };
}

/** Mulberry32, a seeded random generator. */
function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Groups runs with the same parameters, in the order of the runs. */
export function aggregate(runs: readonly Run[]): Group[] {
  return groupBy(runs, keyOf).map(([, same]) => groupOf(same));
}

/** `Map.groupBy`, which Node 20 does not have. */
export function groupBy<T, K>(items: readonly T[], keyOfItem: (item: T) => K): [K, T[]][] {
  const groups = new Map<K, T[]>();
  for (const item of items) {
    const key = keyOfItem(item);
    const known = groups.get(key);
    if (known === undefined) groups.set(key, [item]);
    else known.push(item);
  }
  return [...groups];
}

export function keyOf({ scenario, parameters }: Pick<Run, 'scenario' | 'parameters'>): string {
  return JSON.stringify([scenario, Object.entries(parameters).sort(([a], [b]) => (a < b ? -1 : 1))]);
}

/** The floor among the peers of a group. */
export function floorAmong(peers: readonly string[]): string | undefined {
  return FLOORS.find((name) => peers.includes(name));
}

function groupOf(runs: readonly Run[]): Group {
  const { scenario, parameters } = runs[0]!;
  const names = [...new Set(runs.map(({ peer }) => peer))];
  const of = (peer: string | undefined) => runs.filter((run) => run.peer === peer);
  const floor = floorAmong(names);
  const ours = names.find((name) => name === OURS) ?? names.find(isOurs);
  const peers = names.map((peer) => peerOf(peer, of(peer), of(ours), of(floor)));
  return { scenario, parameters, floor, peers };
}

function peerOf(
  peer: string,
  runs: readonly Run[],
  ours: readonly Run[],
  floors: readonly Run[],
): PeerOfGroup {
  const names = [...new Set(runs.flatMap(({ figures }) => Object.keys(figures) as Figure[]))];
  const each = (make: (figure: Figure) => Summary | undefined): Summaries =>
    Object.fromEntries(
      names.map((name) => [name, make(name)]).filter(([, summary]) => summary !== undefined),
    );
  return {
    peer,
    runs: runs.length,
    invalid: runs.flatMap(({ invalid }) => invalid ?? []),
    figures: each((figure) => summarize(valuesOf(runs, figure))),
    byOurs: each((figure) => summarize(ratiosOf(runs, ours, figure))),
    byFloor: each((figure) => summarize(ratiosOf(runs, floors, figure))),
  };
}

export function valuesOf(runs: readonly Run[], figure: Figure): number[] {
  return runs.flatMap((run) => run.figures[figure] ?? []);
}

/** One ratio for each repetition that both have and whose divisor is above zero. */
export function ratiosOf(tops: readonly Run[], bottoms: readonly Run[], figure: Figure): number[] {
  return pairsOf(tops, bottoms, figure).flatMap(([top, bottom]) => (bottom <= 0 ? [] : top / bottom));
}

export function pairsOf(
  some: readonly Run[],
  others: readonly Run[],
  figure: Figure,
  otherFigure: Figure = figure,
): [number, number][] {
  return some.flatMap((run): [number, number][] => {
    const one = run.figures[figure];
    const other = others.find(({ repetition }) => repetition === run.repetition)?.figures[otherFigure];
    return one === undefined || other === undefined ? [] : [[one, other]];
  });
}

/** Answers the questions of targets from some runs. */
export function measurementsOf(runs: readonly Run[]): Measurements {
  const chosen = ({ scenario, peer, where = {} }: Choice) =>
    runs.filter(
      (run) =>
        run.scenario === scenario &&
        run.peer === peer &&
        Object.entries(where).every(([name, value]) => run.parameters[name] === value),
    );
  return {
    value: (choice, figure) => summarize(valuesOf(chosen(choice), figure)),
    ratio: (top, bottom, figure) => summarize(ratiosOf(chosen(top), chosen(bottom), figure)),
    growth: (choice, name) =>
      summarize(
        chosen(choice).flatMap(({ series = [] }) => {
          const points = series.find((one) => one.name === name)?.points ?? [];
          return points.length < 2 ? [] : points.at(-1)![1] - points[0]![1];
        }),
      ),
    difference: (left, right, figure) =>
      summarize(pairsOf(chosen(left), chosen(right), figure).map(([one, other]) => one - other)),
    valuesOf: (scenario, parameter) => {
      const of = runs.filter((run) => run.scenario === scenario && isOurs(run.peer));
      return [...new Set(of.flatMap(({ parameters }) => parameters[parameter] ?? []))];
    },
    invalid: (scenario) => [
      ...new Set(
        runs
          .filter((run) => run.scenario === scenario && isOurs(run.peer))
          .flatMap(({ invalid }) => invalid ?? []),
      ),
    ],
  };
}
