// Sends every event to more and more connections: does each delivery cost more?

import { measureInTurns, warm } from './measure.ts';
import { repeatAll, type Scenario } from './scenario.ts';
import { emptyStage, fill, type Stage, sideBySide } from './stage.ts';

export const scale: Scenario = {
  name: 'scale',
  constant:
    '100 bytes of data, one topic, one event a turn; the same server for all numbers of connections. All servers are up ' +
    'and publish in turns, a quarter of a second each',
  shows:
    'CPU time of the server per delivered event from 100 to 15,000 connections, beside the floors at the same number',
  takesSeveral: true,
  isTogether: true,
  headlines: [{ where: { connections: 15_000 } }],
  peers: ['sluice', 'floor', 'socket'],
  async run(settings, note) {
    const { peers, connections: sizes = [100, 1000, 5000, 15_000], isQuick } = settings;
    const duration = isQuick ? 200 : 1000;
    await repeatAll(settings, async (repetition) => {
      await sideBySide(
        peers,
        (peer) => emptyStage(peer),
        async (stages) => {
          let open = 0;
          for (const connections of sizes.toSorted((a, b) => a - b)) {
            const more = connections - open;
            open = connections;
            const prepare = async (of: Stage) => {
              await fill(of, { connections: more, sample: 0, isCalm: true });
              // At the first number V8 has compiled nothing yet.
              await warm(of, {
                order: { duration: more === connections ? duration : duration / 4 },
                connections,
              });
            };
            const order = { duration };
            const acts = stages.map((of) => ({ stage: of, order, connections, prepare }));
            const outcomes = await measureInTurns(acts);
            for (const [i, peer] of peers.entries())
              note({ scenario: 'scale', peer, parameters: { connections }, repetition, ...outcomes[i]! });
          }
        },
      );
    });
  },
};
