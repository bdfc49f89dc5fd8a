// Every event to every connection: what a delivery costs.

import { measure, onStage, repeat, type Scenario, warm } from './scenario.ts';

export const fanout: Scenario = {
  name: 'fanout',
  constant: 'connections, 100 bytes of data, one topic; the next turn begins when the last is written',
  shows: 'CPU time of the server per delivered event, for so many events published in one turn',
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
    const { connections: [connections = 1000] = [], batches = [1, 16], isQuick } = settings;
    const duration = isQuick ? 200 : 1000;
    await repeat(settings, async (peer, repetition) => {
      await onStage(peer, { connections, sample: 0, isCalm: true }, async (stage) => {
        for (const batch of batches) {
          await warm(stage, { batch, duration: duration / 2 }, connections);
          const measured = await measure(stage, { batch, duration }, connections);
          note({ scenario: 'fanout', peer, parameters: { connections, batch }, repetition, ...measured });
        }
      });
    });
  },
};
