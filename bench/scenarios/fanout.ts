// Every event to every connection: what a delivery costs.

import { measure, onStage, repeat, type Scenario, warm } from './scenario.ts';

export const fanout: Scenario = {
  name: 'fanout',
  constant: 'connections, bytes of data, one topic; the next turn begins when the last is written',
  takesSeveral: true,
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
    const { connections: sizes = [1000], batches = [1, 16], payloads = [100], isQuick } = settings;
    const stages = sizes.flatMap((connections) => payloads.map((bytes) => ({ connections, bytes })));
    const duration = isQuick ? 200 : 1000;
    await repeat(settings, async (peer, repetition) => {
      for (const { connections, bytes } of stages) {
        await onStage(peer, { connections, bytes, sample: 0, isCalm: true }, async (stage) => {
          for (const batch of batches) {
            await warm(stage, { batch, bytes, duration: duration / 2 }, connections);
            const measured = await measure(stage, { batch, bytes, duration }, connections);
            const parameters = { connections, bytes, batch };
            note({ scenario: 'fanout', peer, parameters, repetition, ...measured });
          }
        });
      }
    });
  },
};
