// Connections on which nothing happens but a heartbeat: the time that looking after them takes.

import { setTimeout as sleep } from 'node:timers/promises';
import { usageOf } from '../loads/lead.ts';
import { complaint, percentOf } from './measure.ts';
import { atMost, repeat, type Scenario } from './scenario.ts';
import { onStage } from './stage.ts';

/** What `server` is by default; the first of a silence comes up to a fifth earlier. */
const INTERVAL = 15_000;

// The first beats of a silence are past.
const SETTLING = 2 * INTERVAL;

// V8 marks its heap up to three times in the minute or two after it was filled, half a second of CPU time each: what
// the crowd's coming costs, once, and not what its staying does.
const flags = ['--no-memory-reducer'];

export const heartbeat: Scenario = {
  name: 'heartbeat',
  constant:
    '15,000 idle connections, of which each is sent a comment about every 15 s: by `server` when it was silent ' +
    'for 12 to 15 s, by the floors every 15 s whatever happened; V8 does not tidy up after the crowd came',
  shows: 'CPU time of the server, in percent of one core, over two intervals',
  peers: ['server', 'floor', 'socket'],
  async run(settings, note) {
    const { connections: [connections = 15_000] = [], isQuick } = settings;
    await repeat(atMost(3, settings), async (peer, repetition) => {
      await onStage(peer, { connections, sample: 0, isCalm: true, flags }, async ({ server, reader }) => {
        await server.gc();
        if (peer !== 'server') await server.beat(INTERVAL);
        await sleep(isQuick ? 100 : peer === 'floor' ? 1000 : SETTLING);
        await reader.ask({ do: 'reset' });
        const before = usageOf(server.pids());
        const begin = performance.now();
        await sleep(isQuick ? 1000 : 2 * INTERVAL);
        const elapsed = performance.now() - begin;
        const after = usageOf(server.pids());
        const { heard } = await reader.ask({ do: 'lap' });
        const { turns } = await server.run({});
        const answer = await reader.ask({ do: 'await', events: turns * connections });
        const silent = isQuick ? 0 : connections - heard;
        const invalid =
          silent > 0 ? `${silent} connections had no heartbeat` : complaint(answer, turns * connections);
        const figures = invalid === undefined ? { cpuPercent: percentOf(before, after, elapsed) } : {};
        const parameters = { connections, interval: INTERVAL };
        note({ scenario: 'heartbeat', peer, parameters, repetition, figures, invalid });
      });
    });
  },
};
