// Reconnects all clients of one topic at once, each with up to a thousand events to catch up with: how fast
// are they served, and how much slower is another topic meanwhile?

import { setTimeout as sleep } from 'node:timers/promises';
import { startReader, usageOf } from '../loads/lead.ts';
import type { Opening } from '../loads/reader.ts';
import { complaint, costOf, latencyOf, measure, percentOf, usedBetween, warm } from './measure.ts';
import { atMost, type Run, repeat, type Scenario } from './scenario.ts';
import { onStage, type Stage, untilAnswered } from './stage.ts';

const LIVE = 100;
const STEADY = { interval: 20 };
/** Milliseconds: a client that the kernel's queue refused tries again after 1, 3, 7 seconds. */
const PATIENCE = 8000;
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
    'which the kernel does queue. 100 bytes of data',
  shows:
    'missed events delivered per second, from the first connect until every client has all; latency of the other ' +
    'topic, alone and meanwhile',
  // `raw` has no history: its clients only connect, which shows what Node's accepting costs.
  headlines: [
    { where: { load: 'storm' }, figure: 'deliveriesPerSecond' },
    { where: { load: 'spread' }, figure: 'deliveriesPerSecond' },
  ],
  peers: ['sluice', 'prepared', 'raw'],
  async run(settings, note) {
    const { connections: [clients = 10_000] = [], isQuick } = settings;
    const missable = isQuick ? 100 : 1000;
    const calm = { order: { ...STEADY, duration: isQuick ? 500 : 3000 }, connections: LIVE };
    await repeat(atMost(3, settings), async (peer, repetition) => {
      const tell = (load: string, missed: number, outcome: Outcome) =>
        note({ scenario: 'storm', peer, parameters: { clients, missed, load }, repetition, ...outcome });
      const events = peer === 'raw' ? 0 : missable;
      await onStorm(peer, events, async (stage, ids) => {
        tell('alone', events, shown(await measure(stage, calm)));
        tell('storm', events, await comeBack(stage, crowdOf(clients, ids, 1), { atOnce: clients }));
      });
      if (events === 0) return;
      await onStorm(peer, events, async (stage, ids) => {
        const crowd = crowdOf(clients, ids, Infinity);
        tell(
          'spread',
          crowd.missed / clients,
          await comeBack(stage, crowd, { atOnce: QUEUED, unanswered: QUEUED }),
        );
      });
    });
  },
};

type Outcome = Pick<Run, 'figures' | 'invalid'>;

function shown({ figures, invalid }: Outcome): Outcome {
  const { p50, p90, p99, p999, max } = figures as ReturnType<typeof latencyOf>;
  return invalid === undefined ? { figures: { p50, p90, p99, p999, max } } : { figures: {}, invalid };
}

/**
 * Stages a server with live readers and publishes what can be missed, before anything is measured.
 * @param play gets the id of each place to return from: from the first all events were missed, from each
 *   further one an event less.
 */
async function onStorm(
  peer: string,
  events: number,
  play: (stage: Stage, ids: readonly string[]) => Promise<void>,
): Promise<void> {
  await onStage(peer, { connections: LIVE, sample: 1, isFirst: true }, async (stage) => {
    await warm(stage, { order: { ...STEADY, duration: 500 }, connections: LIVE });
    await play(stage, events === 0 ? [] : await publishMissed(stage, events));
  });
}

async function publishMissed(stage: Stage, events: number): Promise<string[]> {
  const { port } = stage.server;
  const reader = await startReader('node');
  try {
    const before = await nextId(stage, reader.ask({ do: 'ids', port, path: OTHER, count: 1 }));
    await warm(stage, { order: { topics: 2, batch: events }, connections: LIVE });
    const { ids = [] } = await reader.ask({ do: 'ids', port, path: OTHER, count: events, after: before });
    return [before, ...ids.slice(0, -1)];
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

async function comeBack(
  { server, reader }: Stage,
  { clients, places, missed }: Crowd,
  pace: Pick<Opening, 'atOnce' | 'unanswered'>,
): Promise<Outcome> {
  await reader.ask({ do: 'reset' });
  const before = usageOf(server.pids());
  const begin = performance.now();
  let isOver = false;
  const publishing = (async () => {
    let turns = 0;
    while (!isOver) turns += (await server.run({ ...STEADY, duration: 500 })).turns;
    return turns;
  })();
  const opening = { port: server.port, count: clients, path: OTHER, bytes: 100, places, ...pace };
  const headers = missed > 0 ? { 'Last-Event-ID': '{place}' } : {};
  await reader.ask({ do: 'open', ...opening, headers, group: 'storm', sample: 0 });
  if (missed > 0) await reader.ask({ do: 'await', events: missed, group: 'storm', patience: PATIENCE });
  else await untilAnswered(reader, LIVE + clients, 1000);
  const elapsed = performance.now() - begin;
  const after = usageOf(server.pids());
  isOver = true;
  const turns = await publishing;
  const expected = missed + turns * LIVE;
  const answer = await reader.ask({ do: 'await', events: expected });
  const used = usedBetween(before, after);
  const invalid = complaint(answer, expected);
  if (invalid !== undefined) return { figures: {}, invalid };
  return {
    figures: {
      ...(missed > 0 && { ...costOf(used, missed), deliveriesPerSecond: missed / (elapsed / 1000) }),
      cpuPercent: percentOf(before, after, elapsed),
      seconds: elapsed / 1000,
      ...latencyOf(answer.latency),
    },
  };
}
