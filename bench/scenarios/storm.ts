// Reconnects all clients of one topic at once, each with a thousand events to catch up with: how fast are
// they served, and how much slower is another topic meanwhile?

import { setTimeout as sleep } from 'node:timers/promises';
import { startReader, usageOf } from '../loads/lead.ts';
import { complaint, costOf, latencyOf, measure, percentOf, usedBetween, warm } from './measure.ts';
import { atMost, type Run, repeat, type Scenario } from './scenario.ts';
import { onStage, type Stage, untilAnswered } from './stage.ts';

const LIVE = 100;
const STEADY = { interval: 20 };

export const storm: Scenario = {
  name: 'storm',
  constant:
    '100 connections on a topic of 50 events/s, due at even times, which the reader reads first; 10,000 clients that ' +
    'missed 1,000 events of another topic and connect at once. The kernel queues fewer, so that some connect after one ' +
    'second, some after three. 100 bytes of data',
  shows:
    'missed events delivered per second, from the first connect until every client has all; latency of the other ' +
    'topic, alone and meanwhile',
  // `raw` has no history: its clients only connect, which shows what Node's accepting costs.
  peers: ['sluice', 'raw'],
  async run(settings, note) {
    const { connections: [clients = 10_000] = [], isQuick } = settings;
    await repeat(atMost(3, settings), async (peer, repetition) => {
      const missed = peer === 'raw' ? 0 : isQuick ? 100 : 1000;
      await onStage(peer, { connections: LIVE, sample: 1, isFirst: true }, async (stage) => {
        await warm(stage, { order: { ...STEADY, duration: 500 }, connections: LIVE });
        const id = missed > 0 ? await idOnOtherTopic(stage) : '';
        if (missed > 0) await warm(stage, { order: { topics: 2, batch: missed }, connections: LIVE });
        const calm = await measure(stage, {
          order: { ...STEADY, duration: isQuick ? 500 : 3000 },
          connections: LIVE,
        });
        const outcomes = { alone: shown(calm), storm: await comeBack(stage, clients, missed, id) };
        for (const [load, outcome] of Object.entries(outcomes)) {
          note({ scenario: 'storm', peer, parameters: { clients, missed, load }, repetition, ...outcome });
        }
      });
    });
  },
};

type Outcome = Pick<Run, 'figures' | 'invalid'>;

function shown({ figures, invalid }: Outcome): Outcome {
  const { p50, p90, p99, p999, max } = figures as ReturnType<typeof latencyOf>;
  return invalid === undefined ? { figures: { p50, p90, p99, p999, max } } : { figures: {}, invalid };
}

/** The live topic is `t0`, the other one `t1`. Events for both are published before anything is measured. */
async function idOnOtherTopic({ server }: Stage): Promise<string> {
  const reader = await startReader('node');
  try {
    const answer = reader.ask({ do: 'id', port: server.port, path: '/events?topic=t1' });
    for (;;) {
      await server.run({ topics: 2 });
      // Waits, so that no event follows the one whose id is read.
      const { id } = (await Promise.race([answer, sleep(300)])) ?? {};
      if (id !== undefined) return id;
    }
  } finally {
    await reader.stop();
  }
}

async function comeBack(
  { server, reader }: Stage,
  clients: number,
  missed: number,
  id: string,
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
  const opening = {
    port: server.port,
    count: clients,
    atOnce: clients,
    path: '/events?topic=t1',
    bytes: 100,
  };
  await reader.ask({ do: 'open', ...opening, headers: { 'Last-Event-ID': id }, group: 'storm', sample: 0 });
  if (missed > 0) await reader.ask({ do: 'await', events: clients * missed, group: 'storm' });
  else await untilAnswered(reader, LIVE + clients, 1000);
  const elapsed = performance.now() - begin;
  const after = usageOf(server.pids());
  isOver = true;
  const turns = await publishing;
  const expected = clients * missed + turns * LIVE;
  const answer = await reader.ask({ do: 'await', events: expected });
  const used = usedBetween(before, after);
  const invalid = complaint(answer, expected);
  if (invalid !== undefined) return { figures: {}, invalid };
  return {
    figures: {
      ...(missed > 0 && {
        ...costOf(used, clients * missed),
        deliveriesPerSecond: (clients * missed) / (elapsed / 1000),
      }),
      cpuPercent: percentOf(before, after, elapsed),
      seconds: elapsed / 1000,
      ...latencyOf(answer.latency),
    },
  };
}
