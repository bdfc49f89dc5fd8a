// Draws a scenario's figures: bars in HTML, and lines as SVG, once for wide and once for narrow windows.
// Colours are variables of the page, so that charts follow its light or dark theme.

import * as echarts from 'echarts';
import { type Figure, figures, OURS, type Run } from '../scenarios/scenario.ts';
import { groupBy } from './aggregate.ts';
import { barsOf, betterOf } from './bars.ts';
import { escaped, headlineOf, parametersOf } from './format.ts';
import type { Group, Report } from './report.ts';

export interface Chart {
  readonly caption: string;
  /** Which way is better, and what one has to know of the axes. */
  readonly notes: readonly string[];
  readonly html: string;
}

type Titles = Report['titles'];

// Without a canvas echarts guesses the width of a text, too low for capitals and system fonts.
echarts.setPlatformAPI({ measureText: (text: string) => ({ width: text.length * LETTER }) });

/** Pixels. */
const LETTER = 7;
const WIDTHS = { wide: 920, narrow: 350 } as const;
const INK = 'var(--ink)';
const FAINT = 'var(--faint)';
const RULE = 'var(--rule)';
/** Ours is the first. */
const COLOURS = Array.from({ length: 11 }, (_, i) => `var(--c${i})`);

/** Makes the charts that fit the figures, for each Node by itself: lines where one number varies, else bars. */
export function chartsOf(groups: readonly Group[], runs: readonly Run[], titles: Titles): Chart[] {
  return groupBy(groups, ({ parameters: { node } }) => node).flatMap(([node, own]) => {
    const its = runs.filter(({ parameters }) => parameters.node === node);
    return chartsOn(own, its, titles);
  });
}

function chartsOn(groups: readonly Group[], runs: readonly Run[], titles: Titles): Chart[] {
  const varied = variedParameter(groups);
  const main =
    varied !== undefined
      ? overParameter(groups, varied, titles)
      : groupBy(groups, ({ parameters }) => parameters.bench).flatMap(([bench, of]) =>
          bench === undefined ? of.flatMap((group) => bars(group, titles)) : cases(String(bench), of, titles),
        );
  const curves = groups.filter(isLatency).flatMap((group) => latencyCurve(group, titles));
  return [...main, ...curves, ...timelines(runs, titles)];
}

// ── bars: what each server needs, beside the floor ──────────────────────────────────────────────────────────

const INTERVAL = 'The thin line is the 95 % confidence interval of the median';
const FLOOR = 'The dashed line is the floor';

function bars(group: Group, titles: Titles): Chart[] {
  const figure = headlineOf((name) => group.peers.some((peer) => peer.figures[name] !== undefined));
  if (figure === undefined) return [];
  const sign = figures[figure].better === 'lower' ? 1 : -1;
  const peers = group.peers
    .filter((peer) => peer.figures[figure] !== undefined)
    .toSorted((a, b) => (a.figures[figure]!.median - b.figures[figure]!.median) * sign);
  const isSplit =
    figure === 'cpuPerDelivery' && peers.every((peer) => peer.figures.systemPerDelivery !== undefined);
  const key = '<p class="key"><i class="user"></i> in user mode <i class="kernel"></i> in the kernel</p>';
  const notes = [
    betterOf(figure),
    ...(peers.some(({ peer }) => peer === group.floor) ? [FLOOR] : []),
    ...(peers.some((peer) => peer.figures[figure]!.count >= 3) ? [INTERVAL] : []),
  ];
  const caption = `${situationOf(group)}: ${figures[figure].label}, ${figures[figure].unit}`;
  const html = `${isSplit ? key : ''}${barsOf(peers, { figure, titles, isSplit, floor: group.floor })}`;
  return [{ caption, notes, html }];
}

function situationOf({ scenario, parameters }: Group): string {
  return [scenario, parametersOf(parameters)].filter((part) => part !== '').join(', ');
}

/** The cases of one bench in which more than one peer was measured, each on a scale of its own. */
function cases(bench: string, groups: readonly Group[], titles: Titles): Chart[] {
  const compared = groups.filter((group) => group.peers.length > 1);
  return (['nanoseconds', 'megabytesPerSecond'] as const).flatMap((figure) => {
    const shown = compared.filter((group) => group.peers.some((peer) => peer.figures[figure] !== undefined));
    if (shown.length === 0) return [];
    const name = ({ parameters: { bench: _, node: __, ...others } }: Group) => parametersOf(others);
    const html = shown.map(
      (group) =>
        `<h3>${escaped(name(group))}</h3>${barsOf(group.peers, { figure, titles, floor: group.floor })}`,
    );
    const { node } = shown[0]!.parameters;
    const caption = `${bench}${node === undefined ? '' : `, ${node}`}: ${figures[figure].label}, ${figures[figure].unit}`;
    const notes = [betterOf(figure), 'Each case has a scale of its own'];
    return [{ caption, notes, html: html.join('\n') }];
  });
}

function ordered(peers: readonly string[]): string[] {
  return [...peers.filter((peer) => peer === OURS), ...peers.filter((peer) => peer !== OURS)];
}

// ── lines ───────────────────────────────────────────────────────────────────────────────────────────────

/** The parameter with three or more numbers, if exactly one has. */
function variedParameter(groups: readonly Group[]): string | undefined {
  const names = [...new Set(groups.flatMap(({ parameters }) => Object.keys(parameters)))];
  const valuesOf = (name: string) => new Set(groups.map(({ parameters }) => parameters[name]));
  const varied = names.filter((name) => valuesOf(name).size > 1);
  const [name] = varied;
  if (varied.length !== 1 || name === undefined || valuesOf(name).size < 3) return undefined;
  return groups.every(({ parameters }) => typeof parameters[name] === 'number') ? name : undefined;
}

function overParameter(groups: readonly Group[], name: string, titles: Titles): Chart[] {
  const { scenario, parameters: fixed } = groups[0]!;
  const figure = headlineOf((it) => groups.some((group) => group.peers.some((peer) => peer.figures[it])));
  if (figure === undefined) return [];
  const peers = ordered([...new Set(groups.flatMap((group) => group.peers.map(({ peer }) => peer)))]);
  const pointsOf = (peer: string) =>
    groups.flatMap(({ parameters, peers: all }): [number, number][] => {
      const value = all.find((it) => it.peer === peer)?.figures[figure];
      return value === undefined ? [] : [[Number(parameters[name]), value.median]];
    });
  const values = groups.map(({ parameters }) => Number(parameters[name]));
  const isWide = Math.min(...values) > 0 && Math.max(...values) >= 20 * Math.min(...values);
  const { label, unit } = figures[figure];
  const where = fixed.node === undefined ? scenario : `${scenario}, ${fixed.node}`;
  return [
    lines(`${where}: ${label}, ${unit}, over ${name}`, betterOf(figure), {
      x: { name, isLog: isWide, more: isWide ? {} : { scale: true } },
      y: { name: unit },
      height: 300,
      series: peers.map((peer, i) => lineOf(titles[peer] ?? peer, pointsOf(peer), i)),
    }),
  ];
}

function isLatency(group: Group): boolean {
  if (group.scenario === 'fanout' || group.parameters.bench !== undefined) return false;
  return group.peers.some(({ figures: { p50, p999 } }) => p50 !== undefined && p999 !== undefined);
}

const PERCENTILES: readonly (readonly [Figure, number])[] = [
  ['p50', 0.5],
  ['p90', 0.9],
  ['p99', 0.99],
  ['p999', 0.999],
];

/**
 * A logarithmic axis of percentiles, on which 90, 99 and 99.9 are equally far apart, so that rare long waits
 * show.
 */
function latencyCurve(group: Group, titles: Titles): Chart[] {
  const measured = group.peers.filter(({ figures: { p50 } }) => p50 !== undefined);
  const peers = ordered(measured.map(({ peer }) => peer));
  const pointsOf = (peer: string) =>
    PERCENTILES.flatMap(([figure, part]): [number, number][] => {
      const value = measured.find((it) => it.peer === peer)?.figures[figure]?.median;
      return value === undefined || value <= 0 ? [] : [[1 / (1 - part), value]];
    });
  const percent = (it: number) => (it <= 1 ? '0 %' : `${100 - 100 / it} %`);
  return [
    lines(`${situationOf(group)}: latency from the scheduled time`, betterOf('p99'), {
      x: { name: 'of all deliveries are faster', isLog: true, more: { min: 1, max: 1000 }, format: percent },
      y: { name: 'ms', isLog: true },
      height: 300,
      series: peers.map((peer, i) => lineOf(titles[peer] ?? peer, pointsOf(peer), i)),
    }),
  ];
}

/** The series of the first repetition: one chart for each kind. */
function timelines(runs: readonly Run[], titles: Titles): Chart[] {
  const first = runs.filter(({ repetition, invalid }) => repetition === 0 && invalid === undefined);
  const all = first.flatMap((run) => (run.series ?? []).map((series) => ({ run, series })));
  return groupBy(all, ({ series }) => `${series.name}, ${series.unit}`).map(([what, of]) => {
    const over = of[0]!.series.over ?? 'seconds';
    const peers = ordered([...new Set(of.map(({ run }) => run.peer))]);
    const situated = situations(of.map(({ run }) => run));
    const known = [...new Set(of.map(({ run }) => situated(run)))];
    const all = of.map(({ run, series }) => {
      const name = [titles[run.peer] ?? run.peer, situated(run)].filter(Boolean).join(', ');
      const line = lineOf(name, series.points, peers.indexOf(run.peer));
      const type = ['solid', 'dashed', 'dotted'][known.indexOf(situated(run)) % 3];
      return { ...line, symbol: 'none', lineStyle: { width: 2, type } };
    });
    const { node } = of[0]!.run.parameters;
    const where = node === undefined ? of[0]!.run.scenario : `${of[0]!.run.scenario}, ${node}`;
    return lines(`${where}: ${what}, over ${over}`, `${of[0]!.series.better ?? 'lower'} is better`, {
      x: { name: over },
      y: { name: of[0]!.series.unit },
      height: 260,
      legend: { icon: undefined, itemWidth: 26 },
      series: all,
    });
  });
}

/** Names a run by the parameters that differ among these runs. */
function situations(runs: readonly Run[]): (run: Run) => string {
  const differs = (name: string) => new Set(runs.map(({ parameters }) => parameters[name])).size > 1;
  return ({ parameters }) =>
    parametersOf(Object.fromEntries(Object.entries(parameters).filter(([name]) => differs(name))));
}

/** Our line is thick and lies below the others, so that an equal one remains visible. */
function lineOf(name: string, points: readonly (readonly [number, number])[], order: number): Line {
  return {
    name,
    type: 'line',
    symbol: 'circle',
    symbolSize: 6,
    color: COLOURS[order % COLOURS.length],
    lineStyle: { width: order === 0 ? 4 : 1.5 },
    z: order === 0 ? 2 : 3,
    data: points.map((point) => [...point]),
  };
}

// ── drawing ─────────────────────────────────────────────────────────────────────────────────────────────────

type Line = { readonly name: string } & Readonly<Record<string, unknown>>;

interface Axis {
  readonly name: string;
  readonly isLog?: boolean | undefined;
  readonly format?: ((value: number) => string) | undefined;
  readonly more?: object | undefined;
}

interface Lines {
  readonly x: Axis;
  readonly y: Axis;
  /** Without the legend. */
  readonly height: number;
  readonly legend?: object | undefined;
  readonly series: readonly Line[];
}

/** The same lines for wide and for narrow windows. */
function lines(caption: string, better: string, of: Lines): Chart {
  const logs = [of.x.isLog && 'horizontal', of.y.isLog && 'vertical'].filter(
    (name) => typeof name === 'string',
  );
  const scale =
    logs.length === 0
      ? []
      : [`The ${logs.join(' and the ')} axis ${logs.length > 1 ? 'are' : 'is'} logarithmic`];
  const svgs = Object.entries(WIDTHS).map(
    ([kind, width]) => `<div class="${kind}">${draw(caption, width, of)}</div>`,
  );
  return { caption, notes: [better, ...scale], html: svgs.join('\n') };
}

function draw(caption: string, width: number, { x, y, height, legend, series }: Lines): string {
  const top = legendHeight(
    series.map(({ name }) => name),
    width,
  );
  const chart = echarts.init(null, null, { renderer: 'svg', ssr: true, width, height: height + top });
  chart.setOption({
    animation: false,
    textStyle: { fontFamily: 'system-ui, sans-serif', fontSize: 12 },
    legend: { ...LEGEND, ...legend },
    grid: { left: 56, right: 16, top, bottom: 42 },
    xAxis: axisOf(x, 26),
    yAxis: axisOf(y, 40),
    series: series.map((one) => ({ silent: true, animation: false, ...one })),
  });
  const svg = bare(chart.renderToSVGString());
  chart.dispose();
  return svg.replace('<svg ', `<svg role="img" aria-label="${escaped(caption)}" `);
}

function axisOf({ name, isLog = false, format = short, more }: Axis, nameGap: number): object {
  return {
    type: isLog ? 'log' : 'value',
    name: isLog ? `${name} (logarithmic)` : name,
    nameLocation: 'middle',
    nameGap,
    nameTextStyle: { color: FAINT },
    axisLabel: { color: FAINT, formatter: (value: number) => format(value), hideOverlap: true },
    axisLine: { show: false },
    axisTick: { show: false },
    splitLine: { lineStyle: { color: RULE } },
    minorSplitLine: { show: false },
    ...more,
  };
}

/** As few digits as distinguish neighbouring marks. */
function short(value: number): string {
  if (value >= 1e6) return `${value / 1e6} M`;
  return value >= 1000 ? value.toLocaleString('en') : String(Number(value.toPrecision(3)));
}

const LEGEND = {
  top: 0,
  left: 0,
  icon: 'roundRect',
  itemWidth: 14,
  itemHeight: 8,
  itemGap: 10,
  textStyle: { color: INK },
};

/** Of as many lines as the names need. */
function legendHeight(names: readonly string[], width: number): number {
  let [count, used] = [1, 0];
  for (const name of names) {
    // The widest mark, and the gaps on both sides of it.
    const own = name.length * LETTER + 45;
    if (used > 0 && used + own > width) [count, used] = [count + 1, 0];
    used += own;
  }
  return 16 + 22 * count;
}

/**
 * Removes what a static drawing inside HTML does not need: namespaces, hover styles, attributes for scripts.
 */
function bare(svg: string): string {
  return (
    svg
      .replace(/ xmlns(:xlink)?="[^"]*"/g, '')
      .replace(/<style[\s\S]*?<\/style>/g, '')
      .replace(/ (?:ecmeta_\w+|class|pointer-events)="[^"]*"/g, '')
      // Lines have no area.
      .replace(/fill="#000" stroke=/g, 'fill="none" stroke=')
      // Invisible backgrounds of legends.
      .replace(/<path [^>]*fill-opacity="0"[^>]*><\/path>\n?/g, '')
      .replace(/<svg width="(\d+)" height="(\d+)"/, '<svg')
      .trim()
  );
}
