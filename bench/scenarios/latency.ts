// Measures how long an event takes to arrive everywhere, in an open loop: each event is due at a fixed time,
// and latency counts from then, whatever delayed the event.

import { type latencyOf, measure, warm } from './measure.ts';
import { atMost, repeat, type Scenario } from './scenario.ts';
import { onStage } from './stage.ts';

const RATES = [10, 50];

export const latency: Scenario = {
  name: 'latency',
  constant: '1,000 connections, all of them measured; 100 bytes of data; events due at even times',
  shows: 'milliseconds from the time an event was due to its arrival',
  headlines: [{ where: { rate: 50 }, figure: 'p99' }],
  peers: ['sluice', 'floor', 'raw', 'better-sse', 'gin', 'nchan'],
  async run(settings, note) {
    const { connections: [connections = 1000] = [], isQuick } = settings;
    const duration = isQuick ? 500 : 3000;
    await repeat(atMost(3, settings), async (peer, repetition) => {
      await onStage(peer, { connections, sample: 1 }, async (stage) => {
        await warm(stage, { order: { duration: duration / 4 }, connections });
        for (const rate of RATES) {
          const order = { interval: 1000 / rate, duration };
          const { figures, invalid } = await measure(stage, { order, connections });
          const { p50, p90, p99, p999, max } = figures as ReturnType<typeof latencyOf>;
          const shown = invalid === undefined ? { p50, p90, p99, p999, max } : {};
          note({ scenario: 'latency', peer, parameters: { rate }, repetition, figures: shown, invalid });
        }
      });
    });
  },
};
