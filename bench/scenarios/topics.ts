// Spreads the same connections over more and more topics: does each delivery cost more?

import { measureInTurns, warm } from './measure.ts';
import { atMost, repeat, type Scenario } from './scenario.ts';
import { type Stage, sideBySide, stage } from './stage.ts';

const TOPICS = [1, 100, 10_000];

// With 10,000 topics a turn takes a fifth of a second, and V8 compiles the code only after several.
const WARMING = 2000;

export const topics: Scenario = {
  name: 'topics',
  constant:
    '10,000 connections, each on one topic; in each turn every topic gets one event of 100 bytes of data, and so ' +
    'does every connection. One server for each number of topics is up, and they publish in turns',
  shows:
    'CPU time of the server per delivered event, by the number of topics. Every event has to be encoded once',
  headlines: [{ where: { topics: 10_000 } }],
  peers: ['sluice', 'socket', 'raw'],
  async run(settings, note) {
    const { connections: [connections = 10_000] = [], isQuick } = settings;
    const duration = isQuick ? 200 : 1500;
    await repeat(atMost(3, settings), async (peer, repetition) => {
      // Every topic has a connection; else there would be more to publish than to deliver.
      const counts = TOPICS.filter((count) => count <= connections);
      const open = (topics: number) => stage(peer, { connections, topics, sample: 0, isCalm: true });
      await sideBySide(counts, open, async (stages) => {
        const acts = counts.map((topics, i) => ({
          stage: stages[i]!,
          order: { topics, duration },
          connections,
          prepare: (of: Stage) =>
            warm(of, { order: { topics, duration: isQuick ? duration / 4 : WARMING }, connections }),
        }));
        const outcomes = await measureInTurns(acts);
        for (const [i, topics] of counts.entries())
          note({ scenario: 'topics', peer, parameters: { topics }, repetition, ...outcomes[i]! });
      });
    });
  },
};
