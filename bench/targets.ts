// What has to be true of one run of the suite, each with what it takes to find out.

import { number, unbroken } from './report/format.ts';
import type { Choice, Measurements, Summary, Verdict } from './report/report.ts';
import { type Figure, figures } from './scenarios/scenario.ts';

export interface Target {
  readonly what: string;
  readonly text: string;
  /** The scenarios that it needs, and whom in each. */
  readonly needs: Readonly<Record<string, readonly string[]>>;
  /** `undefined` when something that it needs was not measured. */
  judge(measured: Measurements): Judgement | undefined;
}

export interface Judgement {
  readonly figure: string;
  readonly holds: boolean;
  readonly floor?: string | undefined;
}

const KIB = 1024;
const MIB = KIB * KIB;
/** Bytes that a topic remembers, unless told otherwise. */
const RING = 4 * MIB;

const of = (peer: string, scenario: string, where?: Choice['where']): Choice => ({ peer, scenario, where });

// ── what targets are made of ────────────────────────────────────────────────────────────────────────────

/** A ratio of pairs, as people say it: so many times. */
function isRatio(
  ratio: Summary | undefined,
  bound: 'at most' | 'at least',
  limit: number,
): Judgement | undefined {
  if (ratio === undefined) return undefined;
  const { median, low, high, count } = ratio;
  const interval = count < 3 ? '' : ` [${low.toFixed(2)} – ${high.toFixed(2)}]`;
  return {
    figure: unbroken(`${median.toFixed(2)} ×${interval}`),
    holds: bound === 'at most' ? median <= limit : median >= limit,
  };
}

function isAtMost(value: Summary | undefined, limit: number, figure: Figure): Judgement | undefined {
  return value && { figure: said(value, figure), holds: value.median <= limit };
}

function isAtLeast(value: Summary | undefined, limit: number, figure: Figure): Judgement | undefined {
  return value && { figure: said(value, figure), holds: value.median >= limit };
}

function said({ median }: Summary, figure: Figure): string {
  return unbroken(`${number(median)} ${figures[figure].unit}`);
}

/** What is measured in several situations is as good as in the worst. */
function worst(judgements: readonly (readonly [situation: string, Summary | undefined])[], limit: Limit) {
  const ratios = judgements.filter((pair): pair is readonly [string, Summary] => pair[1] !== undefined);
  if (ratios.length === 0 || ratios.length < judgements.length) return undefined;
  const [bound] = limit;
  const sign = bound === 'at most' ? 1 : -1;
  const [situation, ratio] = ratios.toSorted(([, a], [, b]) => (b.median - a.median) * sign)[0]!;
  const judgement = isRatio(ratio, ...limit)!;
  return { ...judgement, figure: `${judgement.figure} at worst (${situation})` };
}

type Limit = readonly [bound: 'at most' | 'at least', limit: number];

function withFloor(judgement: Judgement | undefined, floor: Summary | undefined, figure: Figure) {
  return judgement && { ...judgement, floor: floor && said(floor, figure) };
}

// ── fan-out ─────────────────────────────────────────────────────────────────────────────────────────────

const fanOut = (peer: string, batch: number) => of(peer, 'fanout', { connections: 1000, batch });

function beside(peer: string, title: string, batch: number, limit: Limit): Target {
  const isFloor = peer === 'floor';
  const [bound, factor] = limit;
  const text = isFloor
    ? `${bound} ${factor} × the C floor’s CPU time`
    : `${factor === 1 ? 'less' : `${factor} × less`} CPU time than ${title}`;
  return {
    what: `fan-out to 1,000, ${batch} a turn`,
    text,
    needs: { fanout: ['sluice', 'floor', 'socket', peer] },
    judge: (measured) => {
      const [ours, theirs] = [fanOut('sluice', batch), fanOut(peer, batch)];
      const [top, bottom] = isFloor ? [ours, theirs] : [theirs, ours];
      const ratio = isRatio(measured.ratio(top, bottom, 'cpuPerDelivery'), ...limit);
      const [inC, inNode] = ['floor', 'socket'].map((name) =>
        measured.value(fanOut(name, batch), 'cpuPerDelivery'),
      );
      const judgement = withFloor(ratio, inC, 'cpuPerDelivery');
      if (judgement === undefined || inNode === undefined) return judgement;
      return { ...judgement, floor: `${judgement.floor}, Node ${said(inNode, 'cpuPerDelivery')}` };
    },
  };
}

const fanOuts: readonly Target[] = [
  beside('floor', '', 1, ['at most', 1.25]),
  beside('better-sse', 'better-sse', 1, ['at least', 1.8]),
  beside('gin', 'Go Gin', 1, ['at least', 1]),
  beside('nchan', 'nchan', 1, ['at least', 1]),
  beside('floor', '', 16, ['at most', 1.6]),
  beside('better-sse', 'better-sse', 16, ['at least', 8]),
  beside('sse-channel', 'sse-channel', 16, ['at least', 3]),
  beside('gin', 'Go Gin', 16, ['at least', 7]),
  beside('nchan', 'nchan', 16, ['at least', 7]),
];

// ── slow clients ────────────────────────────────────────────────────────────────────────────────────────

const stalled = (percent: number) => of('sluice', 'stalled', { stalled: percent });

const allStalled = of('sluice', 'stalled10k', { stalled: 10_000, published: '1 GB' });

const stalls: readonly Target[] = [
  {
    what: '1 % of clients stalled',
    text: 'the others’ p99, from the scheduled time, at most 1.1 × that without them: publishers do not wait',
    needs: { stalled: ['sluice'] },
    judge: ({ ratio }) => isRatio(ratio(stalled(1), stalled(0), 'p99'), 'at most', 1.1),
  },
  {
    what: '1 % of clients stalled',
    text: 'memory grows by the ring (4 MiB) and 64 KiB a stalled client at most, beyond what it does without them',
    needs: { stalled: ['sluice'] },
    judge: ({ difference, valuesOf }) => {
      const connections = Number(valuesOf('stalled', 'connections')[0] ?? 1000);
      const limit = (RING + connections * 0.01 * 64 * KIB) / 1e6;
      return isAtMost(difference(stalled(1), stalled(0), 'rssGrowth'), limit, 'rssGrowth');
    },
  },
  {
    what: '10,000 clients stalled, 1 GB published',
    text: 'memory held grows by 64 MB at most: the ring (4 MiB), and a little for each',
    needs: { stalled10k: ['sluice'] },
    judge: ({ value }) => isAtMost(value(allStalled, 'rssGrowth'), 64, 'rssGrowth'),
  },
  {
    what: '10,000 clients stalled, 1 GB published',
    text: 'memory does not grow with what is published: 16 MB from the first quarter to the last, at most',
    needs: { stalled10k: ['sluice'] },
    judge: ({ growth }) =>
      isAtMost(growth(allStalled, 'memory grown, over percent of what is published'), 16, 'rssGrowth'),
  },
];

// ── connections that idle, come back, grow in number ────────────────────────────────────────────────────

const idle = (peer: string) => of(peer, 'idle', { connections: 10_000 });
const beating = (peer: string) => of(peer, 'heartbeat', { connections: 15_000 });
const storm = (load: string) => of('sluice', 'storm', { clients: 10_000, missed: 1000, load });

const connections: readonly Target[] = [
  {
    what: '10,000 idle connections',
    text: 'at most 11 KiB of memory (RSS) each, heartbeats on',
    needs: { idle: ['server', 'raw'] },
    judge: ({ value }) =>
      withFloor(
        isAtMost(value(idle('server'), 'rssPerConnection'), 11 * KIB, 'rssPerConnection'),
        value(idle('raw'), 'rssPerConnection'),
        'rssPerConnection',
      ),
  },
  {
    what: 'heartbeats of 15,000 idle connections, 15 s',
    text: 'less than 2 % of one core',
    needs: { heartbeat: ['server', 'floor', 'socket'] },
    judge: ({ value }) =>
      withFloor(
        isAtMost(value(beating('server'), 'cpuPercent'), 2, 'cpuPercent'),
        value(beating('floor'), 'cpuPercent'),
        'cpuPercent',
      ),
  },
  {
    what: '10,000 come back, 1,000 events missed by each',
    text: 'at least 1 million events a second',
    needs: { storm: ['sluice'] },
    judge: ({ value }) => isAtLeast(value(storm('storm'), 'deliveriesPerSecond'), 1e6, 'deliveriesPerSecond'),
  },
  {
    what: '10,000 come back, 1,000 events missed by each',
    text: 'the live readers’ p99 at most 1.2 × that without them',
    needs: { storm: ['sluice', 'raw'] },
    judge: ({ ratio, value }) =>
      withFloor(
        isRatio(ratio(storm('storm'), storm('alone'), 'p99'), 'at most', 1.2),
        value(of('raw', 'storm', { missed: 0, load: 'storm' }), 'p99'),
        'p99',
      ),
  },
  {
    what: 'from 100 to 15,000 connections',
    text: 'at most 1.4 × the C floor’s CPU time at the same number',
    needs: { scale: ['sluice', 'floor', 'socket'] },
    judge: (measured) => {
      const counts = measured.valuesOf('scale', 'connections').map(Number);
      if (!counts.includes(100) || !counts.includes(15_000)) return undefined;
      const at = (peer: string, count: number) => of(peer, 'scale', { connections: count });
      const ofPeer = (peer: string) => {
        const ratios = counts.map((count) => {
          const ratio = measured.ratio(at(peer, count), at('floor', count), 'cpuPerDelivery');
          return [`${count.toLocaleString('en')} connections`, ratio] as const;
        });
        return worst(ratios, ['at most', 1.4]);
      };
      const judgement = ofPeer('sluice');
      return judgement && { ...judgement, floor: ofPeer('socket')?.figure };
    },
  },
  {
    what: 'from 1 to 10,000 topics',
    text: 'CPU time of a delivery at most 1.15 × that with one topic',
    needs: { topics: ['sluice', 'socket'] },
    judge: (measured) => {
      const counts = measured.valuesOf('topics', 'topics').map(Number);
      if (!counts.includes(10_000)) return undefined;
      const growth = (peer: string, topics: number) =>
        measured.ratio(of(peer, 'topics', { topics }), of(peer, 'topics', { topics: 1 }), 'cpuPerDelivery');
      const others = counts.filter((count) => count !== 1);
      const ratios = others.map(
        (count) => [`${count.toLocaleString('en')} topics`, growth('sluice', count)] as const,
      );
      const limit: Limit = ['at most', 1.15];
      const judgement = worst(ratios, limit);
      return judgement && { ...judgement, floor: isRatio(growth('socket', 10_000), ...limit)?.figure };
    },
  },
  {
    what: 'from 1 to 1,000 topics',
    text: 'catching up costs a topic’s own missed events: at most 1.15 × that with one topic',
    needs: { micro: ['sluice'] },
    judge: ({ ratio }) => {
      const name = 'catching up with 100 to 199 events of one topic, an event';
      const at = (topics: number) => of('sluice', 'micro', { case: name, topics });
      return isRatio(ratio(at(1000), at(1), 'nanoseconds'), 'at most', 1.15);
    },
  },
  {
    what: 'drain',
    text: 'no second in which more than 2 × an even share are sent away',
    needs: { drain: ['sluice'] },
    judge: ({ value }) => isAtMost(value(of('sluice', 'drain'), 'evenness'), 2, 'evenness'),
  },
];

// ── encoder and decoder ─────────────────────────────────────────────────────────────────────────────────

const encoding = (peer: string) =>
  of(peer, 'micro', { bench: 'encode', case: 'id + event + 100 bytes of data' });
const DECODED = ['tokens, 20 B', 'data 100 B', 'data 1 KB', 'data 64 KB'];

const parts: readonly Target[] = [
  {
    what: 'encode, id + event + one line of data',
    text: 'at most 80 ns',
    needs: { micro: ['sluice', 'template'] },
    judge: ({ value }) =>
      withFloor(
        isAtMost(value(encoding('sluice'), 'nanoseconds'), 80, 'nanoseconds'),
        value(encoding('template'), 'nanoseconds'),
        'nanoseconds',
      ),
  },
  {
    what: 'encode, id + event + one line of data',
    text: 'at least 3 × as fast as eventsource-encoder',
    needs: { micro: ['sluice', 'eventsource-encoder', 'template'] },
    judge: ({ ratio, value }) =>
      withFloor(
        isRatio(ratio(encoding('eventsource-encoder'), encoding('sluice'), 'nanoseconds'), 'at least', 3),
        value(encoding('template'), 'nanoseconds'),
        'nanoseconds',
      ),
  },
  {
    what: 'decode, 20 B to 64 KB, chunks of 1,400 B and 64 KB, bytes',
    text: 'at least 1.2 × as fast as eventsource-parser 4 in every case',
    needs: { micro: ['sluice', 'eventsource-parser'] },
    judge: ({ ratio }) => {
      const cases = DECODED.flatMap((name) => [1400, 65_536].map((chunk) => ({ case: name, chunk })));
      const ratios = cases.map((where) => {
        const at = (peer: string) => of(peer, 'micro', { ...where, input: 'bytes' });
        const found = ratio(at('sluice'), at('eventsource-parser'), 'megabytesPerSecond');
        return [`${where.case}, chunks of ${where.chunk} B`, found] as const;
      });
      return worst(ratios, ['at least', 1.2]);
    },
  },
  {
    what: 'decode',
    text: 'linear in its input: a byte of a line of 4 MiB that drips in costs at most 1.5 × one of 512 KiB',
    needs: { micro: ['sluice'] },
    judge: ({ ratio }) => {
      const at = (kibibytes: number) =>
        of('sluice', 'micro', { case: 'a line that drips in, a KiB of it', kibibytes });
      return isRatio(ratio(at(4096), at(512), 'nanoseconds'), 'at most', 1.5);
    },
  },
  {
    what: 'decode',
    text: 'bounded memory: after a line past the limit it holds at most the limit, 1 MiB',
    needs: { micro: ['sluice'] },
    judge: ({ value }) => {
      const name = 'a decoder after a line of 2 MiB, where 1 MiB is allowed';
      return isAtMost(value(of('sluice', 'micro', { case: name }), 'heapBytes'), MIB, 'heapBytes');
    },
  },
];

// ── compressed once ─────────────────────────────────────────────────────────────────────────────────────

const gzip = (peer: string, encoding: string) => of(peer, 'gzip', { encoding });

const compressed: readonly Target[] = [
  {
    what: 'gzip to 1,000 clients, 1 KB of JSON',
    text: 'CPU time at most 1.2 × that of the same events uncompressed',
    needs: { gzip: ['sluice'] },
    judge: ({ ratio }) =>
      isRatio(ratio(gzip('sluice', 'gzip'), gzip('sluice', 'identity'), 'cpuPerDelivery'), 'at most', 1.2),
  },
  {
    what: 'gzip to 1,000 clients, 1 KB of JSON',
    text: 'less than 1 KiB more memory a client than uncompressed',
    needs: { gzip: ['sluice'] },
    judge: ({ difference }) => {
      const more = difference(gzip('sluice', 'gzip'), gzip('sluice', 'identity'), 'rssPerConnection');
      return isAtMost(more, KIB, 'rssPerConnection');
    },
  },
  {
    what: 'gzip to 1,000 clients, 1 KB of JSON',
    text: 'at least 10 × less CPU time than a gzip for each connection',
    needs: { gzip: ['sluice', 'zlib'] },
    judge: ({ ratio, value }) =>
      withFloor(
        isRatio(ratio(gzip('zlib', 'gzip'), gzip('sluice', 'gzip'), 'cpuPerDelivery'), 'at least', 10),
        value(gzip('sluice', 'identity'), 'cpuPerDelivery'),
        'cpuPerDelivery',
      ),
  },
];

export const targets: readonly Target[] = [...fanOuts, ...stalls, ...connections, ...parts, ...compressed];

// ── verdicts ────────────────────────────────────────────────────────────────────────────────────────────

/** The scenarios that they need together, and whom in each. */
export function needsOf(all: readonly Target[]): Map<string, string[]> {
  const needs = new Map<string, string[]>();
  for (const [scenario, peers] of all.flatMap((target) => Object.entries(target.needs))) {
    needs.set(scenario, [...new Set([...(needs.get(scenario) ?? []), ...peers])]);
  }
  return needs;
}

export function verdictsOf(all: readonly Target[], measured: Measurements): Verdict[] {
  return all.map(({ what, text, needs, judge }): Verdict => {
    const judgement = judge(measured);
    if (judgement !== undefined) return { floor: undefined, ...judgement, what, text };
    // A run of ours that was not correct is no run that was not made.
    const reasons = Object.keys(needs).flatMap((scenario) => measured.invalid(scenario));
    if (reasons.length > 0)
      return { what, text, figure: `invalid: ${reasons[0]}`, holds: false, floor: undefined };
    return { what, text, figure: '–', holds: undefined, floor: undefined };
  });
}
