// Makes tables of figures, independent of how they are drawn.

import { type Figure, figures, isOurs, OURS } from '../scenarios/scenario.ts';
import { headlineOf, number, parameter, times, withInterval } from './format.ts';
import type { Group, Guarantees, PeerOfGroup, Report } from './report.ts';

export interface Table {
  readonly head: readonly string[];
  readonly rows: readonly Row[];
  /** How many columns are names; the others are figures. */
  readonly names: number;
}

export interface Row {
  readonly cells: readonly string[];
  readonly isOurs: boolean;
}

export function tableOf(groups: readonly Group[], titles: Report['titles']): Table {
  const names = [...new Set(groups.flatMap(({ parameters }) => Object.keys(parameters)))];
  const shown = (Object.keys(figures) as Figure[]).filter((figure) =>
    groups.some((group) => group.peers.some((peer) => peer.figures[figure] !== undefined)),
  );
  const hasFloor = groups.some(({ floor }) => floor !== undefined);
  const head = [
    ...names,
    'server',
    'runs',
    ...shown.map((figure) => `${figures[figure].label} (${figures[figure].unit})`),
    `of ${OURS}’s`,
    ...(hasFloor ? ['of the floor’s'] : []),
  ];
  const rows = groups.flatMap((group) =>
    group.peers.map((peer): Row => {
      const parameters = names.map((name) => parameter(group.parameters[name]));
      const values = shown.map((figure) => peer.figures[figure]).map((it) => (it ? withInterval(it) : '–'));
      const ratios = ratiosOf(peer).slice(0, hasFloor ? 2 : 1);
      const title = titles[peer.peer] ?? peer.peer;
      const runs =
        peer.invalid.length === 0 ? `${peer.runs}` : `${peer.runs - peer.invalid.length} of ${peer.runs}`;
      return { cells: [...parameters, title, runs, ...values, ...ratios], isOurs: isOurs(peer.peer) };
    }),
  );
  return { head, rows, names: names.length + 1 };
}

/** As lines of text, with columns of equal width. */
export function textOf({ head, rows, names }: Table): string[] {
  const lines = [head, ...rows.map(({ cells }) => cells)];
  const widths = head.map((_, i) => Math.max(...lines.map((cells) => cells[i]!.length)));
  return lines.map((cells) =>
    cells
      .map((text, i) => (i < names ? text.padEnd(widths[i]!) : text.padStart(widths[i]!)))
      .join('  ')
      .trimEnd(),
  );
}

function ratiosOf({ figures: own, byOurs, byFloor }: PeerOfGroup): string[] {
  const headline = headlineOf((figure) => own[figure] !== undefined);
  if (headline === undefined) return ['–', '–'];
  return [byOurs[headline], byFloor[headline]].map((ratio) => (ratio === undefined ? '–' : times(ratio)));
}

/** What each server guarantees, with the cost of a delivery. */
export function guaranteesOf(
  guarantees: Guarantees,
  groups: readonly Group[],
  titles: Report['titles'],
): Table {
  const features = [...new Set(Object.values(guarantees).flatMap((of) => Object.keys(of)))];
  const fanOuts = groups.filter(({ scenario }) => scenario === 'fanout');
  const rows = Object.entries(guarantees).map(([peer, of]): Row => {
    const costs = fanOuts.map((group) => {
      const cost = group.peers.find((it) => it.peer === peer)?.figures.cpuPerDelivery;
      return cost === undefined ? '–' : number(cost.median);
    });
    const cells = [titles[peer] ?? peer, ...costs, ...features.map((feature) => of[feature] ?? '–')];
    return { cells, isOurs: isOurs(peer) };
  });
  const costs = fanOuts.map(({ parameters }) => `µs a delivery, ${parameters.batch} a turn`);
  return { head: ['server', ...costs, ...features], rows, names: 1 };
}

/** Why some peers have no figures. */
export function remarksOf(name: string, groups: readonly Group[], { skipped, titles }: Report): string[] {
  const invalid = groups.flatMap((group) =>
    group.peers.flatMap((peer) =>
      [...new Set(peer.invalid)].map(
        (reason) => `${titles[peer.peer] ?? peer.peer} has runs that do not count: ${reason}.`,
      ),
    ),
  );
  const missing = skipped
    .filter(({ scenario }) => scenario === name)
    .map(({ peer, reason }) => `${titles[peer] ?? peer} was skipped: ${reason}.`);
  return [...new Set([...invalid, ...missing])];
}
