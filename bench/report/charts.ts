// Draws a scenario's figures as SVG. Colours are variables of the page, so that charts follow its light or
// dark theme.

import * as echarts from 'echarts';
import { type Figure, figures, OURS, type Run } from '../scenarios/scenario.ts';
import { headlineOf, number, parametersOf } from './format.ts';
import type { Group, PeerOfGroup, Report, Summary } from './report.ts';

export interface Chart {
  readonly caption: string;
  readonly svg: string;
}

type Titles = Report['titles'];

// Without a canvas echarts guesses the width of a text, too low for capitals and system fonts.
echarts.setPlatformAPI({ measureText: (text: string) => ({ width: text.length * 7 }) });

const WIDTH = 920;
const INK = 'var(--ink)';
const FAINT = 'var(--faint)';
const RULE = 'var(--rule)';
/** Ours is the first. */
const COLOURS = Array.from({ length: 11 }, (_, i) => `var(--c${i})`);

/** Makes the charts that fit the figures: lines where one number varies, else bars. */
export function chartsOf(groups: readonly Group[], runs: readonly Run[], titles: Titles): Chart[] {
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

function groupBy<T, K>(items: readonly T[], keyOf: (item: T) => K): [K, T[]][] {
  const groups = new Map<K, T[]>();
  for (const item of items) groups.set(keyOf(item), [...(groups.get(keyOf(item)) ?? []), item]);
  return [...groups];
}

// ── bars: what each server needs, beside the floor ──────────────────────────────────────────────────────────

const BAR_HEIGHT = 26;

function bars(group: Group, titles: Titles): Chart[] {
  const figure = headlineOf((name) => group.peers.some((peer) => peer.figures[name] !== undefined));
  if (figure === undefined) return [];
  const isLower = figures[figure].better === 'lower';
  const peers = group.peers
    .filter((peer) => peer.figures[figure] !== undefined)
    .toSorted((a, b) => (a.figures[figure]!.median - b.figures[figure]!.median) * (isLower ? 1 : -1));
  const totals = peers.map((peer) => peer.figures[figure]!);
  const floor = peers.find(({ peer }) => peer === group.floor)?.figures[figure];
  const isSplit =
    figure === 'cpuPerDelivery' && peers.every((peer) => peer.figures.systemPerDelivery !== undefined);
  const label = (i: number) => labelOf(totals[i]!, peers[i]!, figure, group.floor);
  const option = {
    ...(isSplit ? { legend: legend() } : {}),
    grid: { left: 8, right: 150, top: isSplit ? 34 : 12, bottom: 42, containLabel: true },
    xAxis: valueAxis(`${figures[figure].label}, ${figures[figure].unit}`),
    yAxis: categoryAxis(
      peers.map(({ peer }) => titles[peer] ?? peer),
      titles[OURS] ?? OURS,
    ),
    series: [
      ...(isSplit ? splitBars(peers) : [{ type: 'bar', data: peers.map((peer) => wholeBar(peer, figure)) }]),
      whiskers(totals, label),
    ].map((series, i) => (i === 0 ? { ...series, ...floorLine(floor) } : series)),
  };
  const what = parametersOf(group.parameters);
  const caption = `${group.scenario}${what === '' ? '' : `, ${what}`}: ${figures[figure].label}`;
  return [draw(caption, 70 + peers.length * BAR_HEIGHT, option)];
}

function splitBars(peers: readonly PeerOfGroup[]): object[] {
  const part = (name: string, figure: Figure, color: string) => ({
    name,
    type: 'bar',
    stack: 'cpu',
    color,
    data: peers.map((peer) => ({
      value: peer.figures[figure]!.median,
      itemStyle: { opacity: peer.peer === OURS ? 1 : 0.62 },
    })),
  });
  return [
    part('in user mode', 'userPerDelivery', 'var(--user)'),
    part('in the kernel', 'systemPerDelivery', 'var(--kernel)'),
  ];
}

function wholeBar({ peer, figures: own }: PeerOfGroup, figure: Figure): object {
  const itemStyle = { color: peer === OURS ? COLOURS[0] : 'var(--others)' };
  return { value: own[figure]!.median, itemStyle };
}

function labelOf(
  { median }: Summary,
  { peer, byFloor }: PeerOfGroup,
  figure: Figure,
  floor?: string,
): string {
  const ratio = byFloor[figure];
  const beside = ratio === undefined || peer === floor ? '' : `  (${number(ratio.median)} × floor)`;
  return `${number(median)}${beside}`;
}

function floorLine(floor: Summary | undefined): object {
  if (floor === undefined) return {};
  const lineStyle = { color: INK, type: 'dashed', width: 1 };
  const data = [{ xAxis: floor.median }];
  return { markLine: { silent: true, symbol: 'none', lineStyle, label: { show: false }, data } };
}

interface RenderApi {
  value(dimension: number): number;
  coord(point: readonly [number, number]): [number, number];
}

/** The interval of each bar's median, and the bar's label. */
function whiskers(summaries: readonly Summary[], label: (i: number) => string): object {
  const renderItem = (_: unknown, api: RenderApi) => {
    const at = api.value(0);
    const [left, y] = api.coord([api.value(1), at]);
    const [right] = api.coord([api.value(2), at]);
    const stroke = { stroke: INK, fill: 'none', lineWidth: 1 };
    const line = (x1: number, y1: number, x2: number, y2: number) => ({
      type: 'line',
      shape: { x1, y1, x2, y2 },
      style: stroke,
    });
    const text = { text: label(at), x: right + 8, y, fill: INK, font: '12px system-ui, sans-serif' };
    const children: object[] = [{ type: 'text', style: { ...text, verticalAlign: 'middle' } }];
    if (right - left > 1)
      children.push(
        line(left, y, right, y),
        line(left, y - 4, left, y + 4),
        line(right, y - 4, right, y + 4),
      );
    return { type: 'group', children };
  };
  const data = summaries.map(({ low, high, median, count }, i) =>
    count < 3 ? [i, median, median] : [i, low, Math.max(high, median)],
  );
  return { type: 'custom', renderItem, encode: { x: [1, 2], y: 0 }, data, z: 5, clip: false };
}

/** The cases of one bench in which more than one peer was measured. */
function cases(bench: string, groups: readonly Group[], titles: Titles): Chart[] {
  const compared = groups.filter((group) => group.peers.length > 1);
  return (['nanoseconds', 'megabytesPerSecond'] as const).flatMap((figure) => {
    const shown = compared.filter((group) => group.peers.some((peer) => peer.figures[figure] !== undefined));
    if (shown.length === 0) return [];
    const peers = [...new Set(shown.flatMap((group) => group.peers.map(({ peer }) => peer)))];
    const values = shown.flatMap((group) =>
      group.peers.flatMap((peer) => peer.figures[figure]?.median ?? []),
    );
    const isWide = Math.max(...values) > 100 * Math.min(...values);
    const name = ({ parameters }: Group) => {
      const { bench: _, ...others } = parameters;
      return parametersOf(others);
    };
    const option = {
      legend: legend(),
      grid: { left: 8, right: 80, top: 34, bottom: 42, containLabel: true },
      xAxis: valueAxis(`${figures[figure].label}, ${figures[figure].unit}`, isWide),
      yAxis: categoryAxis(shown.map(name)),
      series: ordered(peers).map((peer, i) => ({
        name: titles[peer] ?? peer,
        type: 'bar',
        color: COLOURS[i],
        barGap: '15%',
        barCategoryGap: '32%',
        label: {
          show: true,
          position: 'right',
          color: INK,
          formatter: (it: { value: number }) => number(it.value),
        },
        data: shown.map(
          (group) => group.peers.find((it) => it.peer === peer)?.figures[figure]?.median ?? '-',
        ),
      })),
    };
    return draw(`${bench}: ${figures[figure].label}`, 90 + shown.length * (peers.length * 15 + 10), option);
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
  const { scenario } = groups[0]!;
  const figure = headlineOf((it) => groups.some((group) => group.peers.some((peer) => peer.figures[it])));
  if (figure === undefined) return [];
  const peers = ordered([...new Set(groups.flatMap((group) => group.peers.map(({ peer }) => peer)))]);
  const pointsOf = (peer: string) =>
    groups.flatMap(({ parameters, peers: all }): [number, number][] => {
      const value = all.find((it) => it.peer === peer)?.figures[figure];
      return value === undefined ? [] : [[Number(parameters[name]), value.median]];
    });
  const all = peers.map((peer) => lineOf(titles[peer] ?? peer, pointsOf(peer), peers.indexOf(peer)));
  const values = groups.map(({ parameters }) => Number(parameters[name]));
  const isWide = Math.min(...values) > 0 && Math.max(...values) >= 20 * Math.min(...values);
  const option = {
    legend: legend(),
    grid: { left: 56, right: 24, top: legendHeight(peers.length), bottom: 42 },
    xAxis: { ...valueAxis(name, isWide), ...(isWide ? {} : { scale: true }) },
    yAxis: valueAxis(''),
    series: all,
  };
  return [
    draw(
      `${scenario}: ${figures[figure].label}, ${figures[figure].unit}, over ${name}`,
      300 + legendHeight(peers.length),
      option,
    ),
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
  const x = valueAxis('of all deliveries are faster', true);
  const option = {
    legend: legend(),
    grid: { left: 56, right: 24, top: legendHeight(peers.length), bottom: 42 },
    xAxis: {
      ...x,
      min: 1,
      max: 1000,
      axisLabel: { ...x.axisLabel, formatter: (it: number) => (it <= 1 ? '0 %' : `${100 - 100 / it} %`) },
    },
    yAxis: { ...valueAxis('ms', true), nameGap: 40 },
    series: peers.map((peer, i) => lineOf(titles[peer] ?? peer, pointsOf(peer), i)),
  };
  const caption = `${group.scenario}, ${parametersOf(group.parameters)}: latency from the scheduled time`;
  return [draw(caption, 300 + legendHeight(peers.length), option)];
}

/** The series of the first repetition: one chart for each kind. */
function timelines(runs: readonly Run[], titles: Titles): Chart[] {
  const first = runs.filter(({ repetition, invalid }) => repetition === 0 && invalid === undefined);
  const all = first.flatMap((run) => (run.series ?? []).map((series) => ({ run, series })));
  return groupBy(all, ({ series }) => `${series.name}, ${series.unit}`).map(([what, of]) => {
    const over = of[0]!.series.over ?? 'seconds';
    const peers = ordered([...new Set(of.map(({ run }) => run.peer))]);
    const situationOf = situations(of.map(({ run }) => run));
    const known = [...new Set(of.map(({ run }) => situationOf(run)))];
    const lines = of.map(({ run, series }) => {
      const name = [titles[run.peer] ?? run.peer, situationOf(run)].filter(Boolean).join(', ');
      const line = lineOf(name, series.points, peers.indexOf(run.peer));
      const type = ['solid', 'dashed', 'dotted'][known.indexOf(situationOf(run)) % 3];
      return { ...line, symbol: 'none', lineStyle: { width: 2, type } };
    });
    const option = {
      legend: { ...legend(), icon: undefined, itemWidth: 26 },
      grid: { left: 56, right: 24, top: legendHeight(lines.length * 2), bottom: 42 },
      xAxis: valueAxis(over),
      yAxis: valueAxis(''),
      series: lines,
    };
    return draw(
      `${of[0]!.run.scenario}: ${what}, over ${over}`,
      230 + legendHeight(lines.length * 2),
      option,
    );
  });
}

/** Names a run by the parameters that differ among these runs. */
function situations(runs: readonly Run[]): (run: Run) => string {
  const differs = (name: string) => new Set(runs.map(({ parameters }) => parameters[name])).size > 1;
  return ({ parameters }) =>
    parametersOf(Object.fromEntries(Object.entries(parameters).filter(([name]) => differs(name))));
}

/** Our line is thick and lies below the others, so that an equal one remains visible. */
function lineOf(name: string, points: readonly (readonly [number, number])[], order: number): object {
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

// ── shared parts ───────────────────────────────────────────────────────────────────────────────────────

function valueAxis(name: string, isLog = false): Record<string, unknown> & { axisLabel: object } {
  return {
    type: isLog ? 'log' : 'value',
    name,
    nameLocation: 'middle',
    nameGap: 26,
    nameTextStyle: { color: FAINT },
    axisLabel: { color: FAINT, formatter: (value: number) => short(value), hideOverlap: true },
    axisLine: { show: false },
    axisTick: { show: false },
    splitLine: { lineStyle: { color: RULE } },
    minorSplitLine: { show: false },
  };
}

/** As few digits as distinguish neighbouring marks. */
function short(value: number): string {
  if (value >= 1e6) return `${value / 1e6} M`;
  return value >= 1000 ? value.toLocaleString('en') : String(Number(value.toPrecision(3)));
}

function categoryAxis(data: readonly string[], ours?: string): object {
  const rich = { ours: { color: COLOURS[0], fontWeight: 'bold' } };
  const emphasize = (name: string) => (name === ours ? `{ours|${name}}` : name);
  const axisLabel = { color: INK, width: 330, overflow: 'truncate', formatter: emphasize, rich };
  const hidden = { show: false };
  return {
    type: 'category',
    inverse: true,
    data,
    axisLabel,
    axisLine: { lineStyle: { color: RULE } },
    axisTick: hidden,
  };
}

function legend(): object {
  return { top: 0, left: 0, icon: 'roundRect', itemWidth: 14, itemHeight: 8, textStyle: { color: INK } };
}

/** About five names fit on a line. */
function legendHeight(names: number): number {
  return 16 + 22 * Math.ceil(names / 5);
}

function draw(caption: string, height: number, option: object): Chart {
  const chart = echarts.init(null, null, { renderer: 'svg', ssr: true, width: WIDTH, height });
  const textStyle = { fontFamily: 'system-ui, sans-serif', fontSize: 12 };
  const silent = { silent: true, animation: false };
  const series = (option as { series: object[] }).series.map((one) => ({ ...silent, ...one }));
  chart.setOption({ animation: false, textStyle, ...option, series });
  const svg = chart.renderToSVGString();
  chart.dispose();
  return { caption, svg: bare(svg) };
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
      .replace(/<svg width="(\d+)" height="(\d+)"/, '<svg role="img"')
      .trim()
  );
}
