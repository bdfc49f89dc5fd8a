// Measures the CPU time that heartbeats of idle connections take.

import { setTimeout as sleep } from 'node:timers/promises';
import { usageOf } from '../loads/lead.ts';
import { complaint, type Measured, percentOf, together } from './measure.ts';
import { atMost, kindOf, repeatAll, type Scenario } from './scenario.ts';
import { type Stage, sideBySide, stage } from './stage.ts';

/** The default of `server`; the first heartbeat of a silence comes up to a fifth earlier. */
const INTERVAL = 15_000;

// Waits until the first heartbeats of all silences have been sent.
const SETTLING = 2 * INTERVAL;

// V8 marks its heap up to three times in the two minutes after it was filled, and each takes half a second of
// CPU time. This is a cost of opening the connections, not of keeping them.
const flags = ['--no-memory-reducer'];

export const heartbeat: Scenario = {
  name: 'heartbeat',
  isTogether: true,
  constant:
    '15,000 idle connections. `server` sends a heartbeat to each that was silent for 12 to 15 s, the floors send a ' +
    'comment to each every 15 s. V8 does not collect what opening the connections left. All servers are up at the ' +
    'same time',
  shows: 'CPU time of the server, in percent of one core, over two intervals',
  peers: ['server', 'floor', 'socket'],
  async run(settings, note) {
    const { peers, connections: [connections = 15_000] = [], isQuick } = settings;
    const parameters = { connections, interval: INTERVAL };
    await repeatAll(atMost(3, settings), async (repetition) => {
      const open = (peer: string) => stage(peer, { connections, sample: 0, isCalm: true, flags });
      await sideBySide(peers, open, async (stages) => {
        const outcomes = await together(stages, (of, i) => listen(of, peers[i]!, connections, isQuick));
        for (const [i, peer] of peers.entries())
          note({ scenario: 'heartbeat', peer, parameters, repetition, ...outcomes[i]! });
      });
    });
  },
};

async function listen(
  { server, reader }: Stage,
  peer: string,
  connections: number,
  isQuick: boolean,
): Promise<Measured> {
  await server.gc();
  if (kindOf(peer) !== 'server') await server.beat(INTERVAL);
  await sleep(isQuick ? 100 : SETTLING);
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
  return { figures: invalid === undefined ? { cpuPercent: percentOf(before, after, elapsed) } : {}, invalid };
}
