// Connections on which nothing happens: the memory that each holds.

import { atMost, complaint, emptyStage, fill, repeat, type Scenario, settled } from './scenario.ts';

export const idle: Scenario = {
  name: 'idle',
  constant:
    '10,000 connections, each of which has received one event; garbage is collected before both measurements. ' +
    '`server` sends heartbeats, and has had a round of them',
  shows:
    'memory (RSS) of the whole server with everybody there, less what it was before anybody came, for each',
  peers: ['sluice', 'server', 'raw', 'better-sse', 'sse-channel', 'hono', 'gin'],
  async run(settings, note) {
    const { connections: [connections = 10_000] = [], isQuick } = settings;
    const pause = isQuick ? 100 : 1000;
    await repeat(atMost(2, settings), async (peer, repetition) => {
      const stage = await emptyStage(peer);
      try {
        const before = await settled(stage.server, pause);
        await fill(stage, { connections, sample: 0 });
        // A heartbeat is due after 15 s of silence, a fifth more at the most.
        const after = await settled(stage.server, peer === 'server' && !isQuick ? 18_500 : pause);
        await stage.reader.ask({ do: 'reset' });
        const { turns } = await stage.server.run({});
        const answer = await stage.reader.ask({ do: 'await', events: turns * connections });
        const invalid = complaint(answer, turns * connections);
        const figures = invalid === undefined ? { rssPerConnection: (after - before) / connections } : {};
        note({ scenario: 'idle', peer, parameters: { connections }, repetition, figures, invalid });
      } finally {
        await stage.stop();
      }
    });
  },
};
