// Adds a few connections that never read to many that do: are the others slower, and how much memory do the
// few hold?

import { setTimeout as sleep } from 'node:timers/promises';
import { usageOf } from '../loads/lead.ts';
import { complaint, latencyOf, warm } from './measure.ts';
import { kindOf, type Run, repeat, type Scenario } from './scenario.ts';
import { onStage, type Stage, settled } from './stage.ts';

const BYTES = 1000;
const STEADY = { topics: 2, bytes: BYTES, interval: 20 };
/**
 * Published first to those that never read: more than the kernel buffers, and more than the topic's history
 * keeps.
 */
const FLOOD = { batch: 64, bytes: 10_000, interval: 5, duration: 50 };

export const stalled: Scenario = {
  name: 'stalled',
  constant:
    '1,000 connections that read; 50 events/s of 1,000 bytes, due at even times. Before, 6.4 MB are published ' +
    'to one connection more for every hundred, which never reads, or to none',
  shows:
    'latency of those that read; memory (RSS) grown since before the others connected; both for each second',
  headlines: [
    { where: { stalled: 1 }, figure: 'p99' },
    { where: { stalled: 1 }, figure: 'rssGrowth' },
  ],
  peers: ['sluice', 'raw', 'better-sse'],
  async run(settings, note) {
    const { connections: [connections = 1000] = [], isQuick } = settings;
    // Those that read follow a topic that the flood does not reach.
    const audience = { connections, topics: 2, bytes: BYTES, sample: 1, path: '/events?topic=t1' };
    await repeat(settings, async (peer, repetition) => {
      if (kindOf(peer) !== 'sluice' && repetition > 1) return; // the target is ours
      await onStage(peer, audience, async (stage) => {
        // Fills the history, and lets the heap grow, before anything is measured.
        for (let i = 0; i < 8; i++) await stage.server.run(FLOOD);
        await warm(stage, { order: { ...STEADY, duration: 500 }, connections });
        // Which of the two comes first alternates.
        for (const stalled of repetition % 2 === 0 ? [0, 1] : [1, 0]) {
          const never = stalled * Math.ceil(connections / 100);
          const outcome = await watch(stage, connections, never, isQuick ? 2 : 4);
          note({ scenario: 'stalled', peer, parameters: { stalled }, repetition, ...outcome });
        }
      });
    });
  },
};

async function watch(
  stage: Stage,
  connections: number,
  never: number,
  seconds: number,
): Promise<Pick<Run, 'figures' | 'invalid' | 'series'>> {
  const { server, reader } = stage;
  const before = await settled(server, 100);
  const path = '/events?topic=t0&topic=t1';
  const { port } = server;
  await reader.ask({ do: 'open', port, count: never, bytes: BYTES, path, reads: 'never', group: 'never' });
  await sleep(100);
  await server.run(FLOOD);
  // Waits until the flood's garbage is collected and the kernel's buffers are full.
  await warm(stage, { order: { ...STEADY, duration: 250 * seconds }, connections });
  await reader.ask({ do: 'reset' });
  const grown = () => (usageOf(server.pids()).rss - before) / 1e6;
  const [memory, latencies]: [number, number][][] = [[[0, grown()]], []];
  const running = server.run({ ...STEADY, duration: seconds * 1000 });
  for (let second = 1; second <= seconds; second++) {
    await sleep(1000);
    const { latency } = await reader.ask({ do: 'lap' });
    memory!.push([second, grown()]);
    latencies!.push([second, latency.p99]);
  }
  const { turns } = await running;
  const answer = await reader.ask({ do: 'await', events: turns * connections });
  // Those that never read do not count among `events`, but must not be lost.
  const invalid = complaint(answer, turns * connections);
  if (invalid !== undefined) return { figures: {}, invalid };
  const rssGrowth = ((await settled(server, 100)) - before) / 1e6;
  await reader.ask({ do: 'close', group: 'never' });
  return {
    figures: { ...latencyOf(answer.latency), rssGrowth },
    series: [
      { name: 'memory grown', unit: 'MB', points: memory! },
      { name: 'latency, 99 of 100', unit: 'ms', points: latencies! },
    ],
  };
}
