// Lists the targets: what must hold in a run of the suite, and which scenarios and servers each needs.

import { number, unbroken } from './report/format.ts';
import type { Choice, Measurements, Summary, Verdict } from './report/report.ts';
import { type Figure, figures, OURS, peerAt } from './scenarios/scenario.ts';

export interface Target {
  readonly what: string;
  readonly text: string;
  /** The scenarios that it needs, and the peers in each. */
  readonly needs: Readonly<Record<string, readonly string[]>>;
  /** `undefined` when something that it needs was not measured. */
  judge(measured: Measurements): Judgement | undefined;
}

export interface Judgement {
  readonly figure: string;
  /** `undefined` when its figures do not decide it. */
  readonly holds: boolean | undefined;
  /** The floor's figure in the same run. */
  readonly floor: string | undefined;
}

const KIB = 1024;
const MIB = KIB * KIB;
/** The commit that targets name. It is measured with `--against 35312b5`. */
const BASELINE = '35312b5';
/** The default size of a topic's history in bytes. */
const RING = 4 * MIB;

const of = (peer: string, scenario: string, where?: Choice['where']): Choice => ({ peer, scenario, where });

// ── parts of targets ────────────────────────────────────────────────────────────────────────────

/** Judges a ratio of pairs. */
function isRatio(
  ratio: Summary | undefined,
  [bound, limit]: Limit,
  floor: string | undefined,
): Judgement | undefined {
  return ratio && { figure: times(ratio)!, holds: isWithin(ratio, [bound, limit]), floor };
}

function isValue(
  value: Summary | undefined,
  figure: Figure,
  limit: Limit,
  floor: string | undefined,
): Judgement | undefined {
  return value && { figure: said(value, figure)!, holds: isWithin(value, limit), floor };
}

type Limit = readonly [bound: 'at most' | 'at least', limit: number];

function isWithin({ median }: Summary, [bound, limit]: Limit): boolean {
  return bound === 'at most' ? median <= limit : median >= limit;
}

function times(ratio: Summary | undefined): string | undefined {
  if (ratio === undefined) return undefined;
  const { median, low, high, count } = ratio;
  const interval = count < 3 ? '' : ` [${low.toFixed(2)} – ${high.toFixed(2)}]`;
  return unbroken(`${median.toFixed(2)} ×${interval}`);
}

function said(value: Summary | undefined, figure: Figure): string | undefined {
  return value && unbroken(`${number(value.median)} ${figures[figure].unit}`);
}

/** The floor's figure, with its name in front. */
function by(whose: string, floor: string | undefined): string | undefined {
  return floor && `${whose} ${floor}`;
}

/** All of them; `undefined` where one was not measured. */
function both(...floors: readonly (string | undefined)[]): string | undefined {
  return floors.includes(undefined) ? undefined : floors.join(', ');
}

/** Whether one of several conditions holds; `undefined` where none does and one is not known. */
function anyOf(...conditions: readonly (boolean | undefined)[]): boolean | undefined {
  return conditions.includes(true) || (conditions.includes(undefined) ? undefined : false);
}

type Situations = readonly (readonly [situation: string, ratio: Summary | undefined])[];

/** The worst of several situations; `undefined` where one was not measured. */
function worstOf(all: Situations, [bound]: Limit): { situation: string; ratio: Summary } | undefined {
  const found = all.flatMap(([situation, ratio]) => (ratio === undefined ? [] : { situation, ratio }));
  if (found.length === 0 || found.length < all.length) return undefined;
  const sign = bound === 'at most' ? 1 : -1;
  return found.toSorted((a, b) => (b.ratio.median - a.ratio.median) * sign)[0];
}

function isWorst(all: Situations, limit: Limit, floors: Situations): Judgement | undefined {
  const [worst, floor] = [worstOf(all, limit), worstOf(floors, limit)];
  const where = (one: typeof worst) => one && `${times(one.ratio)} at worst (${one.situation})`;
  return worst && { figure: where(worst)!, holds: isWithin(worst.ratio, limit), floor: where(floor) };
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
    judge: ({ ratio, value }) => {
      const theirs = fanOut(peer, batch);
      const against = (server: string) => {
        const own = fanOut(server, batch);
        return isFloor ? ratio(own, theirs, 'cpuPerDelivery') : ratio(theirs, own, 'cpuPerDelivery');
      };
      const cost = (server: string) => said(value(fanOut(server, batch), 'cpuPerDelivery'), 'cpuPerDelivery');
      const ofNode = by('which is', times(against('socket')));
      const floor = both(by('C', cost('floor')), by('Node', cost('socket')), ofNode);
      return isRatio(against('sluice'), limit, floor);
    },
  };
}

/** Our own part of a delivery: what is not the kernel's, nor Node's. */
function ours(batch: number): Target {
  return {
    what: `fan-out to 1,000, ${batch} a turn`,
    text: 'user-mode CPU time at most 1.15 × that of a bare `socket.write` of a finished chunk',
    needs: { fanout: [OURS, 'socket'] },
    judge: ({ ratio, value }) => {
      const cost = (peer: string, figure: Figure) => said(value(fanOut(peer, batch), figure), figure);
      const share = ratio(fanOut(OURS, batch), fanOut('socket', batch), 'userPerDelivery');
      const whole = times(ratio(fanOut(OURS, batch), fanOut('socket', batch), 'cpuPerDelivery'));
      const floor = both(
        by('Node', cost('socket', 'userPerDelivery')),
        by('ours', cost(OURS, 'userPerDelivery')),
        by('user and system together', whole),
      );
      return isRatio(share, ['at most', 1.15], floor);
    },
  };
}

const fanOuts: readonly Target[] = [
  ours(1),
  ours(16),
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

const stalled = (percent: number, peer = 'sluice') => of(peer, 'stalled', { stalled: percent });

const flooded = (never: number) => of('sluice', 'stalled10k', { stalled: never, published: '1 GB' });
const GROWTH = 'memory grown';

const stalls: readonly Target[] = [
  {
    what: '1 % of clients stalled',
    text: 'the others’ p99, from the scheduled time, at most 1.1 × that without them: publishers do not wait',
    needs: { stalled: ['sluice', 'raw'] },
    judge: ({ ratio }) => {
      const growth = (peer: string) => ratio(stalled(1, peer), stalled(0, peer), 'p99');
      return isRatio(growth('sluice'), ['at most', 1.1], by('res.write', times(growth('raw'))));
    },
  },
  {
    what: '1 % of clients stalled',
    text: 'memory grows by the ring (4 MiB) and 64 KiB a stalled client at most, beyond what it does without them',
    needs: { stalled: ['sluice'] },
    judge: ({ difference, value, valuesOf }) => {
      const connections = Number(valuesOf('stalled', 'connections')[0] ?? 1000);
      const limit = (RING + connections * 0.01 * 64 * KIB) / 1e6;
      const more = difference(stalled(1), stalled(0), 'rssGrowth');
      const floor = by('without them', said(value(stalled(0), 'rssGrowth'), 'rssGrowth'));
      return isValue(more, 'rssGrowth', ['at most', limit], floor);
    },
  },
  {
    what: '10,000 clients stalled, 1 GB published',
    text: 'memory held grows by 64 MB at most: the ring (4 MiB), and a little for each',
    needs: { stalled10k: ['sluice'] },
    judge: ({ value }) => {
      const floor = by('with none stalled', said(value(flooded(0), 'rssGrowth'), 'rssGrowth'));
      return isValue(value(flooded(10_000), 'rssGrowth'), 'rssGrowth', ['at most', 64], floor);
    },
  },
  {
    what: '10,000 clients stalled, 1 GB published',
    text: 'memory does not grow with what is published: 16 MB from the first quarter to the last, at most',
    needs: { stalled10k: ['sluice'] },
    judge: ({ growth }) => {
      const floor = by('with none stalled', said(growth(flooded(0), GROWTH), 'rssGrowth'));
      return isValue(growth(flooded(10_000), GROWTH), 'rssGrowth', ['at most', 16], floor);
    },
  },
];

// ── connections that idle, come back, grow in number ────────────────────────────────────────────────────

const idle = (peer: string) => of(peer, 'idle', { connections: 10_000 });
const beating = (peer: string) => of(peer, 'heartbeat', { connections: 15_000 });
const storm = (load: string) => of('sluice', 'storm', { clients: 10_000, missed: 1000, load });
/** Clients without missed events, which only connect. */
const connecting = (load: string) => of('raw', 'storm', { clients: 10_000, missed: 0, load });

/** What catching up costs, beside the baseline and the floor in C; and how fast it goes, with connecting. */
function catchingUp(what: string, load: string, missed: number): Target {
  const at = (peer: string) => of(peer, 'storm', { clients: 10_000, missed, load });
  const [ours, floor, before] = [at(OURS), at('prepared'), at(peerAt(OURS, BASELINE))];
  return {
    what,
    text: `CPU time beyond connecting at most half of that at ${BASELINE}, or 1.3 × that of the C floor: the more`,
    needs: { storm: ['sluice', 'prepared'] },
    judge: ({ ratio, value }) => {
      const rate = (choice: Choice) => said(value(choice, 'deliveriesPerSecond'), 'deliveriesPerSecond');
      const faster = ratio(ours, before, 'deliveriesPerSecond');
      const slower = ratio(floor, ours, 'deliveriesPerSecond');
      if (slower === undefined) return undefined;
      // Repetitions in which a cost lay in the noise have none; the others alone would make it too high.
      const isKnown = (choice: Choice) =>
        value(choice, 'cpuPerMissed')?.count === value(choice, 'deliveriesPerSecond')?.count;
      const cost = (choice: Choice) =>
        isKnown(choice) ? said(value(choice, 'cpuPerMissed'), 'cpuPerMissed') : 'in the noise of connecting';
      const costs = (top: Choice, bottom: Choice) =>
        isKnown(top) && isKnown(bottom) ? ratio(top, bottom, 'cpuPerMissed') : undefined;
      const [saved, more] = [costs(before, ours), costs(ours, floor)];
      const holds = anyOf(
        saved && isWithin(saved, ['at least', 2]),
        more && isWithin(more, ['at most', 1.3]),
      );
      const asMuch = saved && `, ${times(saved)} as much at ${BASELINE} (${cost(before)})`;
      const asMany = faster && `, ${times(faster)} as many as ${BASELINE} (${rate(before)})`;
      return {
        figure: `${cost(ours)}${asMuch ?? ''}; with connecting ${rate(ours)}${asMany ?? ''}`,
        holds,
        floor:
          `C ${cost(floor)}${more === undefined ? '' : `, which is ${times(more)}`}` +
          `; with connecting ${rate(floor)}, which is ${times(slower)}`,
      };
    },
  };
}

/** What a stream keeps beyond a connection of bare `http`. */
function holding(peer: string, title: string, kibibytes: number): Target {
  return {
    what: '10,000 idle connections',
    text: `${title} keeps at most ${kibibytes} KiB more in its heap and external memory than bare http, each`,
    needs: { idle: [OURS, 'server', 'raw'] },
    judge: ({ difference, value }) => {
      const each = (one: string, figure: Figure) => said(value(idle(one), figure), figure);
      const floor = both(
        by('bare http', each('raw', 'heldPerConnection')),
        by('RSS', each('raw', 'rssPerConnection')),
        by('ours', each(peer, 'rssPerConnection')),
      );
      const more = difference(idle(peer), idle('raw'), 'heldPerConnection');
      return isValue(more, 'heldPerConnection', ['at most', kibibytes * KIB], floor);
    },
  };
}

/** How a cost grows, beside how that of a bare socket loop grows, from the first number to each other one. */
function growing(scenario: string, parameter: string, unit: string, largest: number): Target {
  return {
    what: `from the least to ${largest.toLocaleString('en')} ${unit}`,
    text: 'CPU time of a delivery grows at most 1.15 × as much as that of a bare `socket.write`',
    needs: { [scenario]: [OURS, 'socket'] },
    judge: ({ ratio, valuesOf }) => {
      const counts = valuesOf(scenario, parameter).map(Number);
      const least = Math.min(...counts);
      if (!counts.includes(largest) || least === largest) return undefined;
      const at = (peer: string, count: number) => of(peer, scenario, { [parameter]: count });
      const share = (count: number) => ratio(at(OURS, count), at('socket', count), 'cpuPerDelivery')?.median;
      const shares = counts.map((count) => [count, share(count)] as const);
      const first = share(least);
      if (first === undefined || shares.some(([, one]) => one === undefined)) return undefined;
      const [count, worst] = shares.reduce((a, b) => (b[1]! > a[1]! ? b : a));
      const own = (size: number) =>
        times(ratio(at('socket', size), at('socket', least), 'cpuPerDelivery')) ?? '–';
      return {
        figure: unbroken(`${(worst! / first).toFixed(2)} × at worst (${count.toLocaleString('en')} ${unit})`),
        holds: worst! / first <= 1.15,
        floor: by('its own growth', own(largest)),
      };
    },
  };
}

const connections: readonly Target[] = [
  holding(OURS, 'an embedded stream', 1.5),
  holding('server', 'one of `createSseServer`', 2.5),
  growing('scale', 'connections', 'connections', 15_000),
  growing('topics', 'topics', 'topics', 10_000),
  {
    what: '10,000 idle connections',
    text: 'at most 11 KiB of memory (RSS) each, heartbeats on',
    needs: { idle: ['server', 'raw'] },
    judge: ({ value }) => {
      const each = (peer: string) => value(idle(peer), 'rssPerConnection');
      const floor = by('bare http', said(each('raw'), 'rssPerConnection'));
      return isValue(each('server'), 'rssPerConnection', ['at most', 11 * KIB], floor);
    },
  },
  {
    what: 'heartbeats of 15,000 idle connections, 15 s',
    text: 'less than 2 % of one core',
    needs: { heartbeat: ['server', 'floor', 'socket'] },
    judge: ({ value }) => {
      const cost = (peer: string) => value(beating(peer), 'cpuPercent');
      const [inC, inNode] = ['floor', 'socket'].map((peer) => said(cost(peer), 'cpuPercent'));
      return isValue(cost('server'), 'cpuPercent', ['at most', 2], both(by('C', inC), by('Node', inNode)));
    },
  },
  {
    what: '10,000 come back, 1,000 events missed by each',
    text: 'at least 1 million events a second',
    needs: { storm: ['sluice', 'raw'] },
    judge: ({ value }) => {
      const floor = by(
        'bare http takes for connecting them',
        said(value(connecting('storm'), 'seconds'), 'seconds'),
      );
      return isValue(
        value(storm('storm'), 'deliveriesPerSecond'),
        'deliveriesPerSecond',
        ['at least', 1e6],
        floor,
      );
    },
  },
  {
    what: '10,000 come back, 1,000 events missed by each',
    text: 'the live readers’ p99 at most 1.2 × that without them',
    needs: { storm: ['sluice', 'raw'] },
    judge: ({ ratio }) => {
      const floor = by(
        'bare http, that only connects them,',
        times(ratio(connecting('storm'), connecting('alone'), 'p99')),
      );
      return isRatio(ratio(storm('storm'), storm('alone'), 'p99'), ['at most', 1.2], floor);
    },
  },
  catchingUp('10,000 come back, 1,000 events missed by each', 'storm', 1000),
  catchingUp('10,000 come back from 1,000 places, 1 to 1,000 events missed by each', 'spread', 500.5),
  {
    what: 'from 100 to 15,000 connections',
    text: 'at most 1.4 × the C floor’s CPU time at the same number',
    needs: { scale: ['sluice', 'floor', 'socket'] },
    judge: ({ ratio, valuesOf }) => {
      const counts = valuesOf('scale', 'connections').map(Number);
      if (!counts.includes(100) || !counts.includes(15_000)) return undefined;
      const at = (peer: string, count: number) => of(peer, 'scale', { connections: count });
      const ofPeer = (peer: string): Situations =>
        counts.map((count) => [
          `${count.toLocaleString('en')} connections`,
          ratio(at(peer, count), at('floor', count), 'cpuPerDelivery'),
        ]);
      return isWorst(ofPeer('sluice'), ['at most', 1.4], ofPeer('socket'));
    },
  },
  {
    what: 'from 1 to 10,000 topics',
    text: 'CPU time of a delivery at most 1.15 × that with one topic',
    needs: { topics: ['sluice', 'socket', 'raw'] },
    judge: ({ ratio, value, valuesOf }) => {
      const counts = valuesOf('topics', 'topics').map(Number);
      if (!counts.includes(10_000)) return undefined;
      const at = (peer: string, count: number) => of(peer, 'topics', { topics: count });
      const ofPeer = (peer: string): Situations =>
        counts
          .filter((count) => count !== 1)
          .map((count) => [
            `${count.toLocaleString('en')} topics`,
            ratio(at(peer, count), at(peer, 1), 'cpuPerDelivery'),
          ]);
      const judgement = isWorst(ofPeer('sluice'), ['at most', 1.15], ofPeer('socket'));
      const costs = ['sluice', 'socket', 'raw'].map((peer) =>
        said(value(at(peer, 10_000), 'cpuPerDelivery'), 'cpuPerDelivery'),
      );
      const [ours, inNode, written] = costs;
      const all = both(by('Node', judgement?.floor), by('at 10,000', inNode), by('res.write', written));
      return judgement && { ...judgement, figure: `${judgement.figure}, ${ours}`, floor: all };
    },
  },
  {
    what: 'from 1 to 1,000 topics',
    text: 'catching up costs a topic’s own missed events: at most 1.15 × that with one topic',
    needs: { micro: ['sluice', 'array'] },
    judge: ({ ratio }) => {
      const name = 'catching up with 100 to 199 events of one topic, an event';
      const growth = (peer: string) => {
        const at = (topics: number) => of(peer, 'micro', { case: name, topics });
        return ratio(at(1000), at(1), 'nanoseconds');
      };
      return isRatio(growth('sluice'), ['at most', 1.15], by('arrays', times(growth('array'))));
    },
  },
  {
    what: 'drain',
    text: 'no second in which more than 2 × an even share are sent away',
    needs: { drain: ['sluice'] },
    judge: ({ value }) =>
      isValue(value(of('sluice', 'drain'), 'evenness'), 'evenness', ['at most', 2], 'an even share is 1'),
  },
];

// ── encoder and decoder ─────────────────────────────────────────────────────────────────────────────────

const encoding = (peer: string) =>
  of(peer, 'micro', { bench: 'encode', case: 'id + event + 100 bytes of data' });
const DECODED = ['tokens, 20 B', 'data 100 B', 'data 1 KB', 'data 64 KB', 'data 100 B, not ASCII'];

const decodedFrom = (input: 'bytes' | 'text'): Target => ({
  what: `decode, 20 B to 64 KB, chunks of 1,400 B and 64 KB, ASCII and not, ${input}`,
  text: 'at least 1.2 × as fast as eventsource-parser 4 in every case',
  needs: { micro: ['sluice', 'eventsource-parser', 'cut'] },
  judge: ({ ratio }) => {
    const cases = DECODED.flatMap((name) => [1400, 65_536].map((chunk) => ({ case: name, chunk })));
    const ofPeer = (peer: string): Situations =>
      cases.map((where) => {
        const at = (one: string) => of(one, 'micro', { ...where, input });
        const found = ratio(at(peer), at('eventsource-parser'), 'megabytesPerSecond');
        return [`${where.case}, chunks of ${where.chunk} B`, found];
      });
    const judgement = isWorst(ofPeer('sluice'), ['at least', 1.2], ofPeer('cut'));
    return judgement && { ...judgement, floor: by('cut at blank lines', judgement.floor) };
  },
});

const parts: readonly Target[] = [
  {
    what: 'encode, id + event + one line of data',
    text: 'at most 80 ns',
    needs: { micro: ['sluice', 'template'] },
    judge: ({ value }) => {
      const floor = by('a template literal', said(value(encoding('template'), 'nanoseconds'), 'nanoseconds'));
      return isValue(value(encoding('sluice'), 'nanoseconds'), 'nanoseconds', ['at most', 80], floor);
    },
  },
  {
    what: 'encode, id + event + one line of data',
    text: 'at most 2 × a template literal, which checks nothing',
    needs: { micro: ['sluice', 'template'] },
    judge: ({ ratio, value }) => {
      const floor = by('a template literal', said(value(encoding('template'), 'nanoseconds'), 'nanoseconds'));
      return isRatio(ratio(encoding('sluice'), encoding('template'), 'nanoseconds'), ['at most', 2], floor);
    },
  },
  {
    what: 'encode, id + event + one line of data',
    text: 'at least 3 × as fast as eventsource-encoder',
    needs: { micro: ['sluice', 'eventsource-encoder', 'template'] },
    judge: ({ ratio }) => {
      const faster = (peer: string) => ratio(encoding('eventsource-encoder'), encoding(peer), 'nanoseconds');
      return isRatio(faster('sluice'), ['at least', 3], by('a template literal', times(faster('template'))));
    },
  },
  decodedFrom('bytes'),
  decodedFrom('text'),
  {
    what: 'decode',
    text: 'linear in its input: a byte of a line of 4 MiB that drips in costs at most 1.5 × one of 512 KiB',
    needs: { micro: ['sluice', 'join'] },
    judge: ({ ratio }) => {
      const growth = (peer: string) => {
        const at = (kibibytes: number) =>
          of(peer, 'micro', { case: 'a line that drips in, a KiB of it', kibibytes });
        return ratio(at(4096), at(512), 'nanoseconds');
      };
      return isRatio(growth('sluice'), ['at most', 1.5], by('joined', times(growth('join'))));
    },
  },
  {
    what: 'decode',
    text: 'bounded memory: after a line past the limit it holds at most the limit, 1 MiB',
    needs: { micro: ['sluice', 'unused'] },
    judge: ({ value }) => {
      const name = 'a decoder after a line of 2 MiB, where 1 MiB is allowed';
      const held = (peer: string) => value(of(peer, 'micro', { case: name }), 'heapBytes');
      const floor = by('an unused one', said(held('unused'), 'heapBytes'));
      return isValue(held('sluice'), 'heapBytes', ['at most', MIB], floor);
    },
  },
];

// ── a language model's answers ──────────────────────────────────────────────────────────────────────────

const answered = (form: string, peer = 'sluice') => of(peer, 'llm', { form });

const answers: readonly Target[] = [
  {
    what: 'tokens of a language model, in the dialect of an API',
    text: 'CPU time at most 1.2 × that of `pipe` with the same JSON',
    needs: { llm: ['sluice', 'raw'] },
    judge: ({ ratio, value }) => {
      const cost = (dialect: string, bare: string) =>
        ratio(answered(dialect), answered(bare), 'cpuPerDelivery');
      const all: Situations = [
        ['of chunks', cost('openaiChat, of chunks', 'JSON, of events')],
        ['of text', cost('openaiChat, of text', 'JSON, made before')],
      ];
      const loop = value(answered('JSON, of events', 'raw'), 'cpuPerDelivery');
      const judgement = isWorst(all, ['at most', 1.2], []);
      return judgement && { ...judgement, floor: by('res.write', said(loop, 'cpuPerDelivery')) };
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
    judge: ({ ratio, value }) => {
      const [ours, bare] = [gzip('sluice', 'gzip'), gzip('sluice', 'identity')];
      const floor = by('uncompressed', said(value(bare, 'cpuPerDelivery'), 'cpuPerDelivery'));
      return isRatio(ratio(ours, bare, 'cpuPerDelivery'), ['at most', 1.2], floor);
    },
  },
  {
    what: 'gzip to 1,000 clients, 1 KB of JSON',
    text: 'less than 1 KiB more memory a client than uncompressed',
    needs: { gzip: ['sluice'] },
    judge: ({ difference, value }) => {
      const [ours, bare] = [gzip('sluice', 'gzip'), gzip('sluice', 'identity')];
      const floor = by('uncompressed', said(value(bare, 'rssPerConnection'), 'rssPerConnection'));
      return isValue(difference(ours, bare, 'rssPerConnection'), 'rssPerConnection', ['at most', KIB], floor);
    },
  },
  {
    what: 'gzip to 1,000 clients, 1 KB of JSON',
    text: 'at least 10 × less CPU time than a gzip for each connection',
    needs: { gzip: ['sluice', 'zlib'] },
    judge: ({ ratio }) => {
      const saved = (encoding: string) =>
        ratio(gzip('zlib', 'gzip'), gzip('sluice', encoding), 'cpuPerDelivery');
      return isRatio(saved('gzip'), ['at least', 10], by('uncompressed', times(saved('identity'))));
    },
  },
];

// ── a log in Redis ──────────────────────────────────────────────────────────────────────────────────────

const inRedis = (peer: string) => of(peer, 'redis', { batch: 1 });
const idleInRedis = (peer: string) => of(peer, 'redis-memory', { of: 'idle topic', topics: 100_000 });

const shared: readonly Target[] = [
  {
    what: 'publishing through Redis, from one process',
    text: 'at least 20,000 events a second, each appended by itself',
    needs: { redis: ['sluice', 'script', 'xadd'] },
    judge: ({ value }) => {
      const rate = (peer: string) => value(inRedis(peer), 'eventsPerSecond');
      const [script, xadd] = ['script', 'xadd'].map((peer) => said(rate(peer), 'eventsPerSecond'));
      const floor = both(by('a bare XADD', xadd), by('two and an index', script));
      return isValue(rate('sluice'), 'eventsPerSecond', ['at least', 20_000], floor);
    },
  },
  {
    what: '100,000 idle topics in Redis, with one event each',
    text: 'at most 1 KiB of its memory each, all keys together',
    needs: { 'redis-memory': ['sluice', 'script', 'set'] },
    judge: ({ value }) => {
      const each = (peer: string) => value(idleInRedis(peer), 'redisBytes');
      const [streams, strings] = ['script', 'set'].map((peer) => said(each(peer), 'redisBytes'));
      const floor = both(by('a string', strings), by('a stream', streams));
      return isValue(each('sluice'), 'redisBytes', ['at most', KIB], floor);
    },
  },
];

export const targets: readonly Target[] = [
  ...fanOuts,
  ...stalls,
  ...connections,
  ...parts,
  ...answers,
  ...compressed,
  ...shared,
];

// ── verdicts ────────────────────────────────────────────────────────────────────────────────────────────

/** The scenarios that all targets together need, and the peers in each. */
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
    if (judgement !== undefined) return { ...judgement, what, text };
    // A target whose runs of ours are invalid fails; it does not count as not measured.
    const reasons = Object.keys(needs).flatMap((scenario) => measured.invalid(scenario));
    if (reasons.length > 0)
      return { what, text, figure: `invalid: ${reasons[0]}`, holds: false, floor: undefined };
    return { what, text, figure: '–', holds: undefined, floor: undefined };
  });
}
