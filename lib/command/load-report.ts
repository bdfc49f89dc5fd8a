// Says in lines of text, and with a chart, what a load has measured.
// Needs `load-clock.ts`, `load-histogram.ts` and `load-ids.ts` beside it.

import type { Pace } from './load-clock.ts';
import type { Histogram, Percentiles } from './load-histogram.ts';
import type { Comparison } from './load-ids.ts';

/** What `sluice load --json` prints. Durations are in milliseconds. */
export interface LoadReport {
  readonly url: string;
  /** `over`: every stream was over, or refused for good, before the time had passed. */
  readonly ended: 'duration' | 'interrupted' | 'over';
  readonly duration: number;
  /** Why the exit code is 1. */
  readonly problems: readonly string[];
  readonly streams: {
    readonly asked: number;
    /** Those whose first request was sent before the end. */
    readonly started: number;
    readonly opened: number;
    readonly openedPerSecond: number;
    /** At the end. */
    readonly open: number;
    /** Those that the server ended for good. */
    readonly over: number;
    /** Those that were neither open at the end nor over. */
    readonly failed: number;
    readonly disconnects: number;
    readonly reconnects: number;
    /** Answers other than a stream, by status, and refusals within a stream by their reason. */
    readonly refused: Readonly<Record<string, number>>;
    /** Connections that could not be made or broke, by code. */
    readonly failures: Readonly<Record<string, number>>;
  };
  readonly head: Percentiles;
  readonly firstEvent: Percentiles;
  readonly interArrival: Percentiles;
  /** `null` without `--time`. */
  readonly latency: (Percentiles & { readonly withoutTime: number; readonly early: number }) | null;
  readonly events: {
    readonly count: number;
    readonly perSecond: number;
    readonly bytes: number;
    readonly bytesPerSecond: number;
    readonly gaps: number;
    readonly tooLarge: number;
  };
  readonly ids: Comparison & {
    /** Why ids cannot tell what is lost; `null` where they can. */
    readonly cannotTell: string | null;
    readonly withoutId: number;
  };
  /** Whether the figures are those of the server, or of this process. */
  readonly generator: {
    /** From the first request until the last stream was answered. */
    readonly opening: Pace & { readonly isBottleneck: boolean };
    /** From then on; `null` where some streams were never answered. */
    readonly holding: (Pace & { readonly isBottleneck: boolean }) | null;
  };
}

const BAR = 40;

/** The whole report; the chart is that of one histogram. */
export function printed(
  report: LoadReport,
  chart: { readonly name: string; readonly of: Histogram },
): string {
  const { ended, duration, problems, streams, events, generator } = report;
  const time = `${(duration / 1000).toFixed(1)} s${ended === 'duration' ? '' : `, ${ended}`}`;
  const lines = [
    `${streams.opened} of ${streams.asked} streams opened, ${rounded(streams.openedPerSecond)}/s; ` +
      `${streams.open} open after ${time}`,
    ...connectionLines(streams),
    row('', ['p50', 'p90', 'p99', 'max']),
    durations('head', report.head),
    durations('first event', report.firstEvent),
    durations('inter-arrival', report.interArrival),
    ...latencyLines(report.latency),
    `${events.count} events, ${rounded(events.perSecond)}/s; ${events.bytes} bytes, ${rounded(events.bytesPerSecond)}/s`,
    ...eventLines(report),
    ...paceLines('own delay, 1', generator.opening),
    ...paceLines('own delay, 2', generator.holding),
    ...chartLines(chart.name, chart.of),
  ];
  if (problems.length === 0) lines.push('no problem');
  return `${[...lines, ...problems.map((problem) => `problem: ${problem}`)].join('\n')}\n`;
}

function connectionLines({ started, asked, over, ...streams }: LoadReport['streams']): string[] {
  const lines: string[] = [];
  if (started < asked) lines.push(`${asked - started} streams were not started before the end`);
  if (over > 0) lines.push(`${over} streams were ended by the server for good`);
  if (streams.disconnects > 0)
    lines.push(`${streams.disconnects} connections were cut, ${streams.reconnects} came back`);
  for (const [name, count] of Object.entries(streams.refused)) lines.push(`refused with ${name}: ${count}`);
  for (const [code, count] of Object.entries(streams.failures)) lines.push(`failed with ${code}: ${count}`);
  return lines;
}

function latencyLines(latency: LoadReport['latency']): string[] {
  if (latency === null) return [];
  const lines = [durations('latency', latency)];
  if (latency.withoutTime > 0) lines.push(`${latency.withoutTime} events have no such time`);
  if (latency.early > 0) lines.push(`${latency.early} events are from the future: the clocks differ`);
  return lines;
}

function eventLines({ events, ids }: LoadReport): string[] {
  const lines: string[] = [];
  if (events.gaps > 0) lines.push(`${events.gaps} gaps`);
  if (events.tooLarge > 0) lines.push(`${events.tooLarge} events were too large to read`);
  if (ids.cannotTell !== null) return [...lines, `ids cannot tell what is lost: ${ids.cannotTell}`];
  const rest = ids.isComplete ? '' : ', and no more than the first ones';
  lines.push(`${ids.compared} different events compared${rest}: ${ids.lost} lost, ${ids.duplicates} twice`);
  if (ids.withoutId > 0) lines.push(`${ids.withoutId} events without such an id were not compared`);
  if (ids.behind > 0) lines.push(`${ids.behind} streams were more than a second behind at the end`);
  return [...lines, ...ids.examples];
}

function paceLines(name: string, pace: Pace | null): string[] {
  if (pace === null) return [];
  return [`${durations(name, pace.delay)}   busy ${Math.round(pace.utilization * 100)} %`];
}

function durations(name: string, { p50, p90, p99, max }: Percentiles): string {
  return row(name, [p50, p90, p99, max].map(inUnits));
}

function row(name: string, cells: readonly string[]): string {
  return name.padEnd(15) + cells.map((cell) => cell.padStart(11)).join('');
}

function chartLines(name: string, histogram: Histogram): string[] {
  const { rows, count } = histogram;
  const most = Math.max(...rows.map((one) => one.count));
  const bars = rows.map((one) => {
    const bar = '#'.repeat(Math.ceil((one.count / most) * BAR));
    return `${`≤ ${inUnits(one.upTo)}`.padStart(13)} ${String(one.count).padStart(9)}${bar && ` ${bar}`}`;
  });
  return count === 0 ? [] : [`${name}:`, ...bars];
}

function inUnits(duration: number | null): string {
  if (duration === null) return '-';
  if (duration >= 10_000) return `${(duration / 1000).toFixed(1)} s`;
  return `${duration >= 100 ? Math.round(duration) : Number(duration.toPrecision(3))} ms`;
}

function rounded(value: number): string {
  return value >= 10 ? String(Math.round(value)) : value.toFixed(1);
}
