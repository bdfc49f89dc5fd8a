// Draws figures as bars in HTML, which fit any width. Each row has a name, a bar with the interval of its
// median, and the figure.

import { type Figure, figures, OURS } from '../scenarios/scenario.ts';
import { escaped, number, withUnit } from './format.ts';
import type { PeerOfGroup, Report, Summary } from './report.ts';

export interface BarOptions {
  readonly figure: Figure;
  readonly titles: Report['titles'];
  /** Shows user and system time as parts. */
  readonly isSplit?: boolean | undefined;
  /** The floor's peer: a line through all bars, and the ratio to it. */
  readonly floor?: string | undefined;
}

/** Rows of bars on one linear scale from zero. */
export function barsOf(peers: readonly PeerOfGroup[], options: BarOptions): string {
  const { figure, floor } = options;
  const totals = peers.flatMap(({ figures: own }) => own[figure] ?? []);
  const most = Math.max(
    ...totals.map(({ median, high, count }) => (count < 3 ? median : Math.max(median, high))),
  );
  const scale = (value: number) => `${(most > 0 ? Math.max(0, (value / most) * 100) : 0).toFixed(2)}%`;
  const line = peers.find(({ peer }) => peer === floor)?.figures[figure];
  const atFloor = line === undefined ? '' : `<i class="floor" style="left:${scale(line.median)}"></i>`;
  const rows = peers.flatMap((peer) => {
    const total = peer.figures[figure];
    if (total === undefined) return [];
    const name = `<b>${escaped(options.titles[peer.peer] ?? peer.peer)}</b>`;
    const track = `<i class="track">${partsOf(peer, total, options, scale)}${whisker(total, scale)}${atFloor}</i>`;
    const value = `<span>${escaped(labelOf(peer, total, options))}</span>`;
    const kind = peer.peer === OURS ? ' class="ours"' : peer.peer === floor ? ' class="least"' : '';
    return `<li${kind}>${name}${track}${value}</li>`;
  });
  return `<ul class="bars">${rows.join('\n')}</ul>`;
}

function partsOf(
  { figures: { userPerDelivery, systemPerDelivery } }: PeerOfGroup,
  { median }: Summary,
  { isSplit }: BarOptions,
  scale: (value: number) => string,
): string {
  const part = (kind: string, value: number) => `<i class="${kind}" style="width:${scale(value)}"></i>`;
  if (!isSplit || userPerDelivery === undefined || systemPerDelivery === undefined)
    return part('whole', median);
  return part('user', userPerDelivery.median) + part('kernel', systemPerDelivery.median);
}

function whisker({ count, low, high }: Summary, scale: (value: number) => string): string {
  return count < 3 ? '' : `<i class="interval" style="left:${scale(low)};width:${scale(high - low)}"></i>`;
}

function labelOf({ peer, byFloor }: PeerOfGroup, total: Summary, { figure, floor }: BarOptions): string {
  const ratio = byFloor[figure];
  const beside = ratio === undefined || peer === floor ? '' : `, ${number(ratio.median)} × floor`;
  return `${withUnit(total, figure)}${beside}`;
}

/** Which way is better, in words. */
export function betterOf(figure: Figure): string {
  return `${figures[figure].better} is better`;
}
