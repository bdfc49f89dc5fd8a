// Publishes to 10,000 connections that never read more than memory could hold for each: does the server grow?

import type { Reader } from '../loads/lead.ts';
import { complaint } from './measure.ts';
import { atMost, type Run, repeat, type Scenario } from './scenario.ts';
import { onStage, type Stage, settled } from './stage.ts';

const BYTES = 1000;
/**
 * Events in a turn. Two turns are less than a topic's history of 4 MiB, so the one that reads is not
 * overtaken.
 */
const BATCH = 1000;

export const stalled10k: Scenario = {
  name: 'stalled10k',
  constant:
    '10,000 connections that never read, or none, and one that reads and is waited for, on one topic; 1 GB of events ' +
    'of 1,000 bytes. Only for servers that bound what they keep: a loop of res.write would keep 10 TB',
  shows: 'memory (RSS) grown since they connected, after each quarter of the events and a garbage collection',
  headlines: [{ where: { stalled: 10_000 } }],
  peers: ['sluice'],
  async run(settings, note) {
    const { connections: [most = 10_000] = [], isQuick } = settings;
    const megabytes = isQuick ? 20 : 1000;
    await repeat(atMost(3, settings), async (peer, repetition) => {
      for (const never of [0, most]) {
        await onStage(peer, { connections: 1, bytes: BYTES, sample: 0 }, async (stage) => {
          const outcome = await flood(stage, never, megabytes, isQuick ? 200 : 2000);
          const parameters = { stalled: never, published: isQuick ? '20 MB' : '1 GB' };
          note({ scenario: 'stalled10k', peer, parameters, repetition, ...outcome });
        });
      }
    });
  },
};

async function flood(
  { server, reader }: Stage,
  never: number,
  megabytes: number,
  settling: number,
): Promise<Pick<Run, 'figures' | 'invalid' | 'series'>> {
  const { port } = server;
  await reader.ask({ do: 'open', port, count: never, bytes: BYTES, reads: 'never', group: 'never' });
  const before = await settled(server, settling);
  await reader.ask({ do: 'reset' });
  const points: [number, number][] = [];
  for (let published = 1; published <= megabytes; published++) {
    await server.run({ batch: BATCH, bytes: BYTES });
    if (published % 2 === 0 && !(await isReached(reader, published * BATCH))) break;
    if (published % (megabytes / 4) !== 0) continue;
    points.push([(published / megabytes) * 100, ((await settled(server, 100)) - before) / 1e6]);
  }
  const answer = await reader.ask({ do: 'lap' });
  const gone = never + 1 - answer.open;
  const invalid = gone > 0 ? `${gone} connections were lost` : complaint(answer, megabytes * BATCH);
  if (invalid !== undefined) return { figures: {}, invalid };
  return {
    figures: { rssGrowth: Math.max(...points.map(([, grown]) => grown)) },
    series: [{ name: 'memory grown', unit: 'MB', over: '% of what is published', points }],
  };
}

/** A turn that fills ten thousand sockets may take longer than the reader waits. */
async function isReached(reader: Reader, events: number): Promise<boolean> {
  for (let tries = 0; tries < 10; tries++) {
    if ((await reader.ask({ do: 'await', events })).events >= events) return true;
  }
  return false;
}
