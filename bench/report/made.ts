// Makes a report from invented figures, for tests.

import type { Figure, Run } from '../scenarios/scenario.ts';
import type { Report } from './report.ts';

/** Noise of a few percent, the same in every run of a test. */
function noise(index: number): number {
  return 1 + (((index * 7919) % 13) - 6) / 150;
}

interface Made {
  readonly scenario: string;
  readonly peer: string;
  readonly parameters?: Run['parameters'];
  readonly figures: Readonly<Partial<Record<Figure, number>>>;
  readonly series?: Run['series'];
}

/** Five repetitions of each. */
export function madeRuns(all: readonly Made[], repetitions = 5): Run[] {
  return Array.from({ length: repetitions }, (_, repetition) =>
    all.map(({ parameters = {}, figures, ...made }, i): Run => {
      const noisy = Object.entries(figures).map(([name, value]) => [name, value * noise(i + repetition * 5)]);
      return { ...made, parameters, repetition, figures: Object.fromEntries(noisy) };
    }),
  ).flat();
}

const COSTS: Readonly<Record<string, readonly [user: number, system: number]>> = {
  sluice: [1.4, 5.4],
  floor: [0.04, 6],
  raw: [4.4, 7.9],
  'better-sse': [6.6, 6.3],
  'sse-channel': [3.4, 6.9],
  hono: [33.2, 9.2],
  gin: [1.4, 5.7],
  nchan: [2.2, 6.5],
};

export function cost(user: number, system: number): Made['figures'] {
  return {
    cpuPerDelivery: user + system,
    userPerDelivery: user,
    systemPerDelivery: system,
    deliveriesPerSecond: 1e6 / (user + system),
  };
}

function latencies(p50: number): Made['figures'] {
  return { p50, p90: p50 * 2.1, p99: p50 * 4.5, p999: p50 * 15, max: p50 * 40 };
}

function returned(missed: number): Made['figures'] {
  const figures = { cpuPercent: 91, seconds: 3.3 };
  if (missed === 0) return { ...figures, cpuPerConnect: 130 };
  return { ...figures, ...cost(0.1, 0.2), cpuPerMissed: 80 };
}

const wave = (height: number, from: number): [number, number][] =>
  Array.from({ length: 60 }, (_, i) => [
    i / 2,
    i / 2 < from ? 1.2 : 1.2 + height * Math.min(1, (i / 2 - from) / 8),
  ]);

export function made(): readonly Made[] {
  const fanOut = Object.entries(COSTS).flatMap(([peer, [user, system]]) => [
    { scenario: 'fanout', peer, parameters: { connections: 1000, batch: 1 }, figures: cost(user, system) },
    {
      scenario: 'fanout',
      peer,
      parameters: { connections: 1000, batch: 16 },
      figures: cost(user / 9, system / 12),
    },
  ]);
  const latency = Object.entries(COSTS).map(([peer, [user, system]]) => ({
    scenario: 'latency',
    peer,
    parameters: { rate: 50 },
    figures: { ...cost(user, system), ...latencies((user + system) / 10) },
  }));
  const idle = [1000, 5000, 10_000].flatMap((connections) =>
    Object.entries({ sluice: 10_200, server: 10_400, raw: 10_300, 'better-sse': 20_000, hono: 28_400 }).map(
      ([peer, bytes]) => ({
        scenario: 'idle',
        peer,
        parameters: { connections },
        figures: { rssPerConnection: bytes * (1 + 800 / connections) },
      }),
    ),
  );
  const stalled = [0, 1].flatMap((percent) =>
    ['sluice', 'raw'].map((peer) => ({
      scenario: 'stalled',
      peer,
      parameters: { connections: 1000, stalled: percent },
      figures: { ...latencies(0.8), rssGrowth: percent === 0 ? 6 : peer === 'raw' ? 300 : 7 },
      series: [{ name: 'memory', unit: 'MB', points: wave(peer === 'raw' ? 300 * percent : percent * 4, 8) }],
    })),
  );
  const scale = [100, 1000, 5000, 15_000].flatMap((connections) =>
    Object.entries({ sluice: 5.6, floor: 3.9, socket: 5 }).map(([peer, least]) => ({
      scenario: 'scale',
      peer,
      parameters: { connections },
      figures: cost(1.4, least - 1.4 + Math.log10(connections / 100)),
    })),
  );
  const storm = ['alone', 'storm', 'spread'].flatMap((load) =>
    (load === 'alone' ? [1000] : [1000, 0]).flatMap((missed) =>
      ['sluice', 'prepared'].map((peer) => ({
        scenario: 'storm',
        peer,
        parameters: { clients: 10_000, missed, load },
        figures: { ...latencies(1.2), ...(load === 'alone' ? {} : returned(missed)) },
      })),
    ),
  );
  const micro = [
    ['sluice', 72],
    ['template', 22],
    ['eventsource-encoder', 250],
  ].map(([peer, nanoseconds]) => ({
    scenario: 'micro',
    peer: String(peer),
    parameters: { bench: 'encode', case: 'id + event + 100 bytes of data' },
    figures: { nanoseconds: Number(nanoseconds) },
  }));
  return [...micro, ...fanOut, ...latency, ...scale, ...stalled, ...storm, ...idle];
}

/** The same runs under each Node. */
export function madeUnder(nodes: readonly string[], runs: readonly Run[]): Run[] {
  return nodes.flatMap((node) => runs.map((run) => ({ ...run, parameters: { ...run.parameters, node } })));
}

export function madeReport(runs: readonly Run[] = madeRuns(made())): Report {
  const names = [...new Set(runs.map(({ scenario }) => scenario))];
  return {
    isQuick: false,
    environment: {
      date: '2026-11-26T12:00:00.000Z',
      commit: '0123456789ab',
      isChanged: false,
      cpu: 'Some CPU <& "more">',
      cores: 2,
      memoryBytes: 24 * 2 ** 30,
      kernel: 'linux 6.1.0',
      node: 'v20.20.2',
      isPinned: true,
      versions: { 'better-sse': '0.16.1', cc: '12.2.0' },
    },
    scenarios: names.map((name) => ({ name, constant: 'all but one thing', shows: `what ${name} costs` })),
    titles: {
      floor: 'C, one write(2) (floor)',
      raw: 'a loop of res.write',
      gin: 'Go Gin',
      hono: 'hono streamSSE',
    },
    skipped: [{ scenario: 'fanout', peer: 'h3', reason: 'npm package h3 is not installed' }],
    runs,
    guarantees: {
      sluice: { replay: 'yes', 'bounded memory': 'yes', heartbeats: 'yes' },
      raw: { replay: 'no', 'bounded memory': 'no', heartbeats: 'by the application' },
    },
  };
}
