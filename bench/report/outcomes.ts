// Says what came out of each scenario: a sentence, and the servers that it speaks of.

import { type Figure, figures, type Headline, isOurs, OURS, type Run } from '../scenarios/scenario.ts';
import { groupBy } from './aggregate.ts';
import { headlineOf, number, parametersOf, withUnit } from './format.ts';
import type { Described, Group, PeerOfGroup, Report, Summary } from './report.ts';

export interface Outcome {
  readonly scenario: string;
  /** The parameters, in words. */
  readonly situation: string;
  readonly figure: Figure;
  readonly sentence: string;
  /** Ours, the floors, and of the others the best and the worst; the best first. */
  readonly shown: readonly PeerOfGroup[];
  readonly group: Group;
}

type Titles = Report['titles'];

/** How many others are all shown. */
const FEW = 3;

/** Floors of which another one may be the group's. */
export function isFloor(peer: string, { floor }: Group): boolean {
  return peer === floor || peer === 'socket';
}

/**
 * One or more for each scenario in which ours was measured; of `micro`, for each bench that has another peer.
 */
export function outcomesOf({ scenarios, titles }: Report, groups: readonly Group[]): Outcome[] {
  return scenarios.flatMap((scenario) => {
    const own = groups.filter((group) => group.scenario === scenario.name);
    const lots = groupBy(own, ({ parameters: { bench, node } }) => `${bench} ${node}`);
    return lots.flatMap(([, lot]) =>
      headlinesIn(scenario, lot).flatMap(([group, figure]) => outcomeOf(group, figure, titles) ?? []),
    );
  });
}

/** The groups that stand for a scenario, and the figure of each. */
function headlinesIn({ headlines = [] }: Described, groups: readonly Group[]): [Group, Figure][] {
  const found = headlines.flatMap(({ where, figure }): [Group, Figure][] => {
    const figureIn = (group: Group) => figure ?? figureOf(group);
    // Other servers may have runs with the same parameters but without this figure.
    const group = groups.find((one) => {
      const known = isLike(one.parameters, where) ? figureIn(one) : undefined;
      return known !== undefined && oursIn(one, known) !== undefined;
    });
    return group === undefined ? [] : [[group, figureIn(group)!]];
  });
  if (found.length > 0) return found;
  const most = Math.max(...groups.map(({ peers }) => peers.length));
  const group = groups.find(({ peers }) => peers.length === most);
  const figure = group && figureOf(group);
  if (group === undefined || figure === undefined) return [];
  return group.parameters.bench !== undefined && most === 1 ? [] : [[group, figure]];
}

function isLike(parameters: Run['parameters'], where: Headline['where']): boolean {
  return Object.entries(where).every(([name, value]) => parameters[name] === value);
}

function figureOf(group: Group): Figure | undefined {
  return headlineOf((name) => oursIn(group, name) !== undefined);
}

function oursIn({ peers }: Group, figure: Figure): PeerOfGroup | undefined {
  const able = peers.filter((peer) => isOurs(peer.peer) && peer.figures[figure] !== undefined);
  return able.find(({ peer }) => peer === OURS) ?? able[0];
}

function outcomeOf(group: Group, figure: Figure, titles: Titles): Outcome | undefined {
  const ours = oursIn(group, figure);
  if (ours === undefined) return undefined;
  const { label, better } = figures[figure];
  const measured = group.peers
    .filter((peer) => peer.figures[figure] !== undefined && !peer.peer.includes('@'))
    .toSorted(
      (a, b) => (a.figures[figure]!.median - b.figures[figure]!.median) * (better === 'lower' ? 1 : -1),
    );
  const others = measured.filter(({ peer }) => !isOurs(peer) && !isFloor(peer, group));
  const extremes = others.length <= FEW ? others : [others[0], others.at(-1)];
  const title = (peer: string) => titles[peer] ?? peer;
  const floor = ours.byFloor[figure];
  const beside =
    floor === undefined
      ? ''
      : `, ${number(floor.median)} × the floor (${title(group.floor!).replace(' (floor)', '')})`;
  const first = `${title(ours.peer)}: ${withUnit(ours.figures[figure]!, figure)} (${label})${beside}.`;
  const compared = others.flatMap(({ peer, byOurs }) =>
    byOurs[figure] === undefined ? [] : { name: title(peer), ratio: byOurs[figure] },
  );
  return {
    scenario: group.scenario,
    situation: parametersOf(group.parameters),
    figure,
    sentence: [first, ...sentencesOf(compared, better === 'lower')].join(' '),
    shown: measured.filter((peer) => !others.includes(peer) || extremes.includes(peer)),
    group,
  };
}

interface Compared {
  readonly name: string;
  /** Theirs divided by ours. */
  readonly ratio: Summary;
}

/** @param others the best first. */
function sentencesOf(others: readonly Compared[], isLower: boolean): string[] {
  const [best, worst] = [others[0], others.at(-1)];
  if (best === undefined || worst === undefined) return [];
  if (best === worst) return [`${best.name} has ${number(best.ratio.median)} × its figure.`];
  const count = (wanted: Standing) =>
    others.filter(({ ratio }) => standingOf(ratio, isLower) === wanted).length;
  const range = `${number(best.ratio.median)} × (${best.name}) to ${number(worst.ratio.median)} × (${worst.name})`;
  const level = count('level') === 0 ? '' : `, level with ${count('level')}`;
  const place =
    count('behind') === others.length
      ? `It is ahead of all ${others.length} others`
      : `Of ${others.length} others it is ahead of ${count('behind')}${level}, behind ${count('ahead')}`;
  return [`${place}: they have ${range} of its figure.`];
}

type Standing = 'ahead' | 'level' | 'behind';

/** Where another server stands; level while the interval holds 1. */
function standingOf({ count, median, low, high }: Summary, isLower: boolean): Standing {
  if (median === 1 || (count >= 3 && low <= 1 && high >= 1)) return 'level';
  return median < 1 === isLower ? 'ahead' : 'behind';
}
