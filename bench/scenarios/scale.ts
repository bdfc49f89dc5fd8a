// Every event to every connection, for more and more connections: does each delivery cost more?

import { emptyStage, fill, measure, repeat, type Scenario, warm } from './scenario.ts';

export const scale: Scenario = {
  name: 'scale',
  constant: '100 bytes of data, one topic, one event a turn; the same server for all numbers of connections',
  shows:
    'CPU time of the server per delivered event from 100 to 15,000 connections, beside the floors at the same number',
  takesSeveral: true,
  peers: ['sluice', 'floor', 'socket'],
  async run(settings, note) {
    const { connections: sizes = [100, 1000, 5000, 15_000], isQuick } = settings;
    const duration = isQuick ? 200 : 1000;
    await repeat(settings, async (peer, repetition) => {
      const stage = await emptyStage(peer);
      try {
        let open = 0;
        for (const connections of sizes.toSorted((a, b) => a - b)) {
          await fill(stage, { connections: connections - open, sample: 0, isCalm: true });
          open = connections;
          await warm(stage, { duration: duration / 4 }, connections);
          const measured = await measure(stage, { duration }, connections);
          note({ scenario: 'scale', peer, parameters: { connections }, repetition, ...measured });
        }
      } finally {
        await stage.stop();
      }
    });
  },
};
