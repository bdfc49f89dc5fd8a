// Connections on which nothing happens but a heartbeat: the time that looking after them takes.

import { setTimeout as sleep } from 'node:timers/promises';
import { usageOf } from '../loads/lead.ts';
import { atMost, complaint, onStage, percentOf, repeat, type Scenario } from './scenario.ts';

/** What `server` is by default; each ± a fifth. */
const INTERVAL = 15_000;

export const heartbeat: Scenario = {
  name: 'heartbeat',
  constant:
    '15,000 idle connections. `server` sends each a comment after 15 s of silence, ± a fifth; `raw` sends none',
  shows: 'CPU time of the server, in percent of one core, over two intervals',
  peers: ['server', 'raw'],
  async run(settings, note) {
    const { connections: [connections = 15_000] = [], isQuick } = settings;
    await repeat(atMost(1, settings), async (peer, repetition) => {
      const beats = peer === 'server' && !isQuick;
      await onStage(peer, { connections, sample: 0 }, async ({ server, reader }) => {
        // Compiling, the garbage of the opening and the first round are not what is measured.
        await server.gc();
        await sleep(isQuick ? 100 : beats ? INTERVAL * 1.2 : 2000);
        await reader.ask({ do: 'reset' });
        const before = usageOf(server.pids());
        const begin = performance.now();
        await sleep(isQuick ? 1000 : beats ? INTERVAL * 2 : INTERVAL);
        const elapsed = performance.now() - begin;
        const after = usageOf(server.pids());
        const { heard } = await reader.ask({ do: 'lap' });
        const { turns } = await server.run({});
        const answer = await reader.ask({ do: 'await', events: turns * connections });
        const silent = beats ? connections - heard : 0;
        const invalid =
          silent > 0 ? `${silent} connections had no heartbeat` : complaint(answer, turns * connections);
        const figures = invalid === undefined ? { cpuPercent: percentOf(before, after, elapsed) } : {};
        const parameters = { connections, interval: INTERVAL };
        note({ scenario: 'heartbeat', peer, parameters, repetition, figures, invalid });
      });
    });
  },
};
