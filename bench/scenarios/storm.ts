// Reconnects all clients of one topic at once, each with up to a thousand events to catch up with: how fast
// are they served, what does it cost beyond connecting, and how much slower is another topic meanwhile?

import { setTimeout as sleep } from 'node:timers/promises';
import { startReader, type Usage, usageOf } from '../loads/lead.ts';
import type { Opening } from '../loads/reader.ts';
import {
  complaint,
  costOf,
  latencyOf,
  measure,
  type Play,
  percentOf,
  type Used,
  usedBetween,
  warm,
} from './measure.ts';
import { atMost, type Run, repeat, type Scenario } from './scenario.ts';
import { onStage, type Stage, untilAnswered } from './stage.ts';

const LIVE = 100;
const STEADY = { interval: 20 };
/** Milliseconds: a client that the kernel's queue refused tries again after 1, 3, 7 seconds. */
const PATIENCE = 8000;
/** Milliseconds in which a server may finish what it does after its last event. */
const GRACE = 100;
/**
 * The part of its CPU time by which a server may differ from another one that did the same. Less than that is no
 * cost of catching up.
 */
const NOISE = 0.1;
/** Fewer than the kernel queues, so that the rate is that of catching up and not of connecting again. */
const QUEUED = 1000;
/** The live topic is `t0`, the other one `t1`. */
const OTHER = '/events?topic=t1';

export const storm: Scenario = {
  name: 'storm',
  constant:
    '100 connections on a topic of 50 events/s, due at even times, which the reader reads first; 10,000 clients of ' +
    'another topic that return. `storm`: they connect at once, and each missed its 1,000 events. The kernel queues ' +
    'fewer connections, so that some connect after one second, some after three. `spread`, on a new server: each ' +
    'returns from one of 1,000 places, and missed 1 to 1,000; 1,000 clients at most wait for their first byte, ' +
    'which the kernel does queue. Both twice more, each on a new server with the same history while nothing is ' +
    'published: the clients missed the same, or nothing. 100 bytes of data',
  shows:
    'CPU time for each missed event while nothing is published: what the server uses beyond what it uses for ' +
    'clients that missed nothing; missed events delivered per second, from the first connect until every client has ' +
    'all; latency of the other topic, alone and meanwhile',
  headlines: [
    { where: { load: 'storm' }, figure: 'cpuPerMissed' },
    { where: { load: 'storm' }, figure: 'deliveriesPerSecond' },
    { where: { load: 'spread' }, figure: 'cpuPerMissed' },
    { where: { load: 'spread' }, figure: 'deliveriesPerSecond' },
  ],
  // `raw` has no history: its clients only connect, which shows what Node's accepting costs.
  peers: ['sluice', 'prepared', 'raw'],
  async run(settings, note) {
    const { connections: [clients = 10_000] = [], isQuick } = settings;
    const missable = isQuick ? 100 : 1000;
    const calm = { order: { ...STEADY, duration: isQuick ? 500 : 3000 }, connections: LIVE };
    const loads: readonly Load[] = [
      { load: 'storm', most: 1, pace: { atOnce: clients }, calm },
      { load: 'spread', most: Infinity, pace: { atOnce: QUEUED, unanswered: QUEUED } },
    ];
    await repeat(atMost(3, settings), async (peer, repetition) => {
      const tell: Tell = (load, missed, { figures, invalid }) =>
        note({
          scenario: 'storm',
          peer,
          parameters: { clients, missed, load },
          repetition,
          figures,
          invalid,
        });
      if (peer === 'raw') return catchUp(peer, 0, clients, loads[0]!, tell);
      for (const load of loads) await catchUp(peer, missable, clients, load, tell);
    });
  },
};

type Outcome = Pick<Run, 'figures' | 'invalid'>;
type Pace = Pick<Opening, 'atOnce' | 'unanswered'>;

function shown({ figures, invalid }: Outcome): Outcome {
  const { p50, p90, p99, p999, max } = figures as ReturnType<typeof latencyOf>;
  return invalid === undefined ? { figures: { p50, p90, p99, p999, max } } : { figures: {}, invalid };
}

interface Load {
  readonly load: string;
  /** From how many places the clients return. */
  readonly most: number;
  readonly pace: Pace;
  /** What is measured before they do. */
  readonly calm?: Play | undefined;
}

type Tell = (load: string, missed: number, outcome: Outcome) => void;

/**
 * Lets clients return while live readers get events; then again to two new servers while nothing is published: clients
 * that missed events, and as many that missed nothing. What the former need more is the cost of catching up.
 */
async function catchUp(
  peer: string,
  events: number,
  clients: number,
  { load, most, pace, calm }: Load,
  tell: Tell,
): Promise<void> {
  const [crowd, live] = await onStorm(peer, events, async (stage, { ids }) => {
    if (calm !== undefined) tell('alone', events, shown(await measure(stage, calm)));
    const all = crowdOf(clients, ids, most);
    return [all, await comeBack(stage, all, pace)] as const;
  });
  let cost: Outcome['figures'] = {};
  let connecting: Silent | undefined;
  try {
    const missing =
      events > 0 &&
      (await onStorm(peer, events, (stage, { ids }) =>
        comeBackInSilence(stage, crowdOf(clients, ids, most), pace),
      ));
    connecting = await onStorm(peer, events, (stage, { newest }) =>
      comeBackInSilence(stage, { clients, places: newest === undefined ? [] : [newest], missed: 0 }, pace),
    );
    const { cpuPerConnect } = connecting.figures;
    if (missing) cost = costBeyond(missing, connecting, crowd.missed);
    else if (cpuPerConnect !== undefined) cost = { cpuPerConnect };
  } finally {
    tell(load, crowd.missed / clients, withFigures(live, cost));
  }
  if (events > 0) tell(load, 0, connecting);
}

function withFigures(outcome: Outcome, more: Outcome['figures']): Outcome {
  return outcome.invalid === undefined ? { figures: { ...outcome.figures, ...more } } : outcome;
}

/** None where a run does not count, or where the cost cannot be told from noise. */
function costBeyond(missing: Silent, connecting: Silent, missed: number): Outcome['figures'] {
  if (missing.invalid !== undefined || connecting.invalid !== undefined) return {};
  const cpuPerMissed = beyondConnecting(missing.used, connecting.used, missed);
  return cpuPerMissed === undefined ? {} : { cpuPerMissed };
}

/**
 * Nanoseconds of CPU time for each missed event, beyond what a server uses for as many clients that missed none;
 * `undefined` where that is no more than the same work may differ from one server to the next.
 */
export function beyondConnecting(storm: Used, connecting: Used, missed: number): number | undefined {
  const base = connecting.user + connecting.system;
  const more = storm.user + storm.system - base;
  return more > base * NOISE ? (more / missed) * 1000 : undefined;
}

/** What can be missed. */
interface Past {
  /** The id of each place to return from: from the first all events were missed, from each further one an event less. */
  readonly ids: readonly string[];
  /** The id after which nothing was missed. */
  readonly newest: string | undefined;
}

/** Stages a server with live readers and publishes what can be missed, before anything is measured. */
async function onStorm<T>(
  peer: string,
  events: number,
  play: (stage: Stage, past: Past) => Promise<T>,
): Promise<T> {
  let result: T | undefined;
  await onStage(peer, { connections: LIVE, sample: 1, isFirst: true }, async (stage) => {
    await warm(stage, { order: { ...STEADY, duration: 500 }, connections: LIVE });
    const past = events === 0 ? { ids: [], newest: undefined } : await publishMissed(stage, events);
    result = await play(stage, past);
  });
  return result as T;
}

async function publishMissed(stage: Stage, events: number): Promise<Past> {
  const { port } = stage.server;
  const reader = await startReader('node');
  try {
    const before = await nextId(stage, reader.ask({ do: 'ids', port, path: OTHER, count: 1 }));
    await warm(stage, { order: { topics: 2, batch: events }, connections: LIVE });
    const { ids = [] } = await reader.ask({ do: 'ids', port, path: OTHER, count: events, after: before });
    return { ids: [before, ...ids.slice(0, -1)], newest: ids.at(-1) };
  } finally {
    await reader.stop();
  }
}

/** The id of an event of the other topic, after which none was published. */
async function nextId({ server }: Stage, answer: Promise<{ ids?: readonly string[] | undefined }>) {
  for (;;) {
    await server.run({ topics: 2 });
    // Waits, so that no event follows the one whose id is read.
    const { ids } = (await Promise.race([answer, sleep(300)])) ?? {};
    if (ids?.[0] !== undefined) return ids[0];
  }
}

/** The clients that return. */
export interface Crowd {
  readonly clients: number;
  /** The ids from which they return, one after the other, and then from the first again. */
  readonly places: readonly string[];
  /** The events that all of them together have missed. */
  readonly missed: number;
}

/** Spreads clients over at most so many places; with one place, each has missed everything. */
export function crowdOf(clients: number, ids: readonly string[], most: number): Crowd {
  const count = Math.min(most, clients, ids.length);
  const skipped = Array.from({ length: count }, (_, i) => Math.floor((i * ids.length) / count));
  let missed = 0;
  for (let i = 0; i < clients && count > 0; i++) missed += ids.length - skipped[i % count]!;
  return { clients, places: skipped.map((i) => ids[i]!), missed };
}

/** While events are published to the live readers. */
async function comeBack(stage: Stage, crowd: Crowd, pace: Pace): Promise<Outcome> {
  const { server, reader } = stage;
  const { missed } = crowd;
  await reader.ask({ do: 'reset' });
  let isOver = false;
  const publishing = (async () => {
    let turns = 0;
    while (!isOver) turns += (await server.run({ ...STEADY, duration: 500 })).turns;
    return turns;
  })();
  const { before, after, elapsed, unanswered } = await untilAllHaveAll(stage, crowd, pace);
  isOver = true;
  const turns = await publishing;
  const expected = missed + turns * LIVE;
  const answer = await reader.ask({ do: 'await', events: expected });
  const invalid = complaint(answer, expected) ?? unanswered;
  if (invalid !== undefined) return { figures: {}, invalid };
  const rate = { deliveriesPerSecond: missed / (elapsed / 1000) };
  return {
    figures: {
      ...(missed > 0 && { ...costOf(usedBetween(before, after), missed), ...rate }),
      cpuPercent: percentOf(before, after, elapsed),
      seconds: elapsed / 1000,
      ...latencyOf(answer.latency),
    },
  };
}

interface Silent extends Outcome {
  /** From the first connect until every client had all, and the server had done what it does then. */
  readonly used: Used;
}

/**
 * While nothing is published. A server on Node waits for the time at which an event is due in turns of the event loop,
 * which use CPU time the more it is idle; that would be a part of the difference.
 */
async function comeBackInSilence(stage: Stage, crowd: Crowd, pace: Pace): Promise<Silent> {
  const { server, reader } = stage;
  const { clients, missed } = crowd;
  await reader.ask({ do: 'reset' });
  const { before, after, elapsed, unanswered } = await untilAllHaveAll(stage, crowd, pace);
  await sleep(GRACE);
  const used = usedBetween(before, usageOf(server.pids()));
  const answer = await reader.ask({ do: 'await', events: missed });
  const tooMany = answer.events > missed ? `${answer.events - missed} events too many` : undefined;
  const invalid = unanswered ?? (missed > 0 ? complaint(answer, missed) : tooMany);
  if (invalid !== undefined) return { figures: {}, invalid, used };
  const figures = {
    ...(missed === 0 && { cpuPerConnect: (used.user + used.system) / clients }),
    cpuPercent: percentOf(before, after, elapsed),
    seconds: elapsed / 1000,
  };
  return { figures, used };
}

/** Connects the crowd. `elapsed`: milliseconds from the first connect until every client has all. */
async function untilAllHaveAll(
  { server, reader }: Stage,
  { clients, places, missed }: Crowd,
  pace: Pace,
): Promise<{ before: Usage; after: Usage; elapsed: number; unanswered: string | undefined }> {
  const before = usageOf(server.pids());
  const begin = performance.now();
  const opening = { port: server.port, count: clients, path: OTHER, bytes: 100, places, ...pace };
  const headers = places.length > 0 ? { 'Last-Event-ID': '{place}' } : {};
  await reader.ask({ do: 'open', ...opening, headers, group: 'storm', sample: 0 });
  if (missed > 0) await reader.ask({ do: 'await', events: missed, group: 'storm', patience: PATIENCE });
  const { answered } = await untilAnswered(reader, LIVE + clients, PATIENCE);
  const elapsed = performance.now() - begin;
  const after = usageOf(server.pids());
  const silent = LIVE + clients - answered;
  return {
    before,
    after,
    elapsed,
    unanswered: silent > 0 ? `${silent} clients were not answered` : undefined,
  };
}
