// Opens and closes connections, and measures what each costs.

import { setTimeout as sleep } from 'node:timers/promises';
import { type Reader, type Served, startReader, usageOf } from '../loads/lead.ts';
import { start } from '../loads/servers.ts';
import { now } from '../loads/texts.ts';
import { complaint, limitOf, usedBetween } from './measure.ts';
import { type Run, repeat, type Scenario } from './scenario.ts';
import { untilAnswered } from './stage.ts';

export const connect: Scenario = {
  name: 'connect',
  constant:
    '2,000 connections, 100 at a time, each on the same topic; closed before the next round. The same server for all rounds',
  shows: 'connections opened and answered per second, and CPU time of the server for each',
  headlines: [{ where: {}, figure: 'connectsPerSecond' }],
  peers: ['sluice', 'server', 'raw', 'better-sse', 'gin'],
  async run(settings, note) {
    const { connections: [connections = 2000] = [] } = settings;
    const reader = await startReader();
    const servers = new Map<string, Served>();
    try {
      for (const peer of settings.peers) {
        const server = await start(peer);
        servers.set(peer, server);
        // V8 compiles the code before it is measured.
        for (let i = 0; i < 2; i++) await comeAndGo(server, reader, connections);
      }
      await repeat(settings, async (peer, repetition) => {
        const outcome = await comeAndGo(servers.get(peer)!, reader, connections);
        note({ scenario: 'connect', peer, parameters: { connections }, repetition, ...outcome });
      });
    } finally {
      await Promise.all([reader.stop(), ...[...servers.values()].map((server) => server.stop())]);
    }
  },
};

async function comeAndGo(
  server: Served,
  reader: Reader,
  count: number,
): Promise<Pick<Run, 'figures' | 'invalid'>> {
  await reader.ask({ do: 'reset' });
  const before = usageOf(server.pids());
  const begin = now();
  await reader.ask({ do: 'open', port: server.port, count, bytes: 100, sample: 0 });
  const { answered, last } = await untilAnswered(reader, count, 1000);
  const after = usageOf(server.pids());
  // Every connection must receive an event.
  const { turns } = await server.run({});
  const answer = await reader.ask({ do: 'await', events: turns * count });
  await reader.ask({ do: 'close' });
  await sleep(200);
  const unanswered = count - answered;
  const used = usedBetween(before, after);
  const invalid =
    unanswered > 0
      ? `${unanswered} connections were not answered`
      : (complaint(answer, turns * count) ?? limitOf(used, last - begin));
  if (invalid !== undefined) return { figures: {}, invalid };
  const cpuPerConnect = (used.user + used.system) / count;
  return { figures: { connectsPerSecond: count / ((last - begin) / 1e6), cpuPerConnect } };
}
