// Sends every event to every connection, and measures what a delivery costs.

import { measureInTurns } from './measure.ts';
import { repeatAll, type Scenario } from './scenario.ts';
import { sideBySide, stage } from './stage.ts';

export const fanout: Scenario = {
  name: 'fanout',
  constant:
    'connections, bytes of data, one topic; the next turn begins when the last is written. All servers are up and ' +
    'publish in turns, a quarter of a second each',
  isTogether: true,
  takesSeveral: true,
  shows: 'CPU time of the server per delivered event, by the number of events published in one turn',
  headlines: [{ where: { batch: 1 } }, { where: { batch: 16 } }],
  peers: [
    'sluice',
    'floor',
    'socket',
    'raw',
    'better-sse',
    'sse-channel',
    'hono',
    'fastify',
    'h3',
    'uwebsockets',
    'gin',
    'nchan',
  ],
  async run(settings, note) {
    const { peers, connections: sizes = [1000], batches = [1, 16], payloads = [100], isQuick } = settings;
    const sizesOfBoth = sizes.flatMap((connections) => payloads.map((bytes) => ({ connections, bytes })));
    const duration = isQuick ? 60 : 1000;
    await repeatAll(settings, async (repetition) => {
      for (const { connections, bytes } of sizesOfBoth) {
        const open = (peer: string) => stage(peer, { connections, bytes, sample: 0, isCalm: true });
        await sideBySide(peers, open, async (stages) => {
          for (const batch of batches) {
            const order = { batch, bytes, duration };
            const outcomes = await measureInTurns(stages.map((of) => ({ stage: of, order, connections })));
            const parameters = { connections, bytes, batch };
            for (const [i, peer] of peers.entries())
              note({ scenario: 'fanout', peer, parameters, repetition, ...outcomes[i]! });
          }
        });
      }
    });
  },
};
