// The same connections, spread over more and more topics: does each delivery cost more?

import { atMost, measure, onStage, repeat, type Scenario, warm } from './scenario.ts';

const TOPICS = [1, 100, 10_000];

// With 10,000 topics a turn takes a fifth of a second, and code is compiled only after several.
const WARMING = 2000;

export const topics: Scenario = {
  name: 'topics',
  constant:
    '10,000 connections, each on one topic, in turn; each turn has one event for every topic, 100 bytes of data, ' +
    'so that every connection gets one',
  shows:
    'CPU time of the server per delivered event, for so many topics. An event of its own costs being encoded',
  peers: ['sluice', 'socket', 'raw'],
  async run(settings, note) {
    const { connections: [connections = 10_000] = [], isQuick } = settings;
    const duration = isQuick ? 200 : 1500;
    await repeat(atMost(3, settings), async (peer, repetition) => {
      // No topic without anyone on it: there would be more to publish than to deliver.
      for (const topics of TOPICS.filter((count) => count <= connections)) {
        await onStage(peer, { connections, topics, sample: 0, isCalm: true }, async (stage) => {
          await warm(stage, { topics, duration: isQuick ? duration / 4 : WARMING }, connections);
          const measured = await measure(stage, { topics, duration }, connections);
          note({ scenario: 'topics', peer, parameters: { topics }, repetition, ...measured });
        });
      }
    });
  },
};
