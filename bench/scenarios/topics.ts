// Spreads the same connections over more and more topics: does each delivery cost more?

import { measureInTurns, warm } from './measure.ts';
import { atMost, repeat, type Scenario } from './scenario.ts';
import { type Stage, sideBySide, stage } from './stage.ts';

const TOPICS = [1, 100, 10_000];

/** Turns before the first one that is measured: V8 has then compiled the code. */
const WARM = 20;
/** So many topics that to enlarge the memory of each takes longer than to deliver its event. */
const MANY = 1000;
/**
 * For many topics. Each of 10,000 topics enlarges the memory of its history at its event 49, 61, 76, 95 and 118, and
 * from 147 on they all together have the 256 MiB that a hub may remember. Between 118 and 147 none does.
 */
export const WARM_MANY = 120;
/**
 * Events of each of many topics in a turn before the first one that is measured: the other servers are idle meanwhile,
 * and after 30 s of that the kernel asks all of their clients at once whether they are there, and loses answers.
 */
const BATCH = 10;
/** Milliseconds: 25 turns with 10,000 topics at most, where a delivery takes 5 µs or more. */
const WINDOW = 1200;

export const topics: Scenario = {
  name: 'topics',
  constant:
    '10,000 connections, each on one topic; in each turn every topic gets one event of 100 bytes of data, and so ' +
    'does every connection. One server for each number of topics is up, and they publish in turns, after so many ' +
    'events that none of 10,000 topics enlarges its history meanwhile',
  shows:
    'CPU time of the server per delivered event, by the number of topics. Every event has to be encoded once',
  headlines: [{ where: { topics: 10_000 } }],
  peers: ['sluice', 'socket', 'raw'],
  async run(settings, note) {
    const { connections: [connections = 10_000] = [], isQuick } = settings;
    const duration = isQuick ? 200 : WINDOW;
    await repeat(atMost(3, settings), async (peer, repetition) => {
      // Every topic has a connection; else there would be more to publish than to deliver.
      const counts = TOPICS.filter((count) => count <= connections);
      const open = (topics: number) => stage(peer, { connections, topics, sample: 0, isCalm: true });
      await sideBySide(counts, open, async (stages) => {
        const acts = counts.map((topics, i) => ({
          stage: stages[i]!,
          order: { topics, duration },
          connections,
          prepare: async (of: Stage) => {
            const [turns, batch] = isQuick ? [2, 1] : topics >= MANY ? [WARM_MANY / BATCH, BATCH] : [WARM, 1];
            for (let turn = 0; turn < turns; turn++)
              await warm(of, { order: { topics, batch }, connections });
          },
        }));
        const outcomes = await measureInTurns(acts);
        for (const [i, topics] of counts.entries())
          note({ scenario: 'topics', peer, parameters: { topics }, repetition, ...outcomes[i]! });
      });
    });
  },
};
