// Measures the memory that each idle connection holds.

import { complaint } from './measure.ts';
import { atMost, kindOf, repeat, type Scenario } from './scenario.ts';
import { emptyStage, fill, memoryOf } from './stage.ts';

export const idle: Scenario = {
  name: 'idle',
  constant:
    'connections that have each received one event; garbage is collected before each measurement. `server` sends ' +
    'heartbeats, and at the greatest number has sent one to each connection',
  shows:
    'memory (RSS) of the server with all connections, less that before the first, divided by their number; of it what ' +
    'the heap and external memory hold after a collection: the rest is the allocator’s, and what V8 keeps free',
  takesSeveral: true,
  headlines: [{ where: { connections: 10_000 } }],
  peers: ['sluice', 'server', 'raw', 'better-sse', 'sse-channel', 'hono', 'gin'],
  async run(settings, note) {
    const { connections: sizes = [1000, 5000, 10_000], isQuick } = settings;
    const greatest = Math.max(...sizes);
    const pause = isQuick ? 100 : 1000;
    await repeat(atMost(3, settings), async (peer, repetition) => {
      const stage = await emptyStage(peer);
      try {
        const before = await memoryOf(stage.server, pause);
        let open = 0;
        for (const connections of sizes.toSorted((a, b) => a - b)) {
          await fill(stage, { connections: connections - open, sample: 0 });
          open = connections;
          // A heartbeat is due after 15 s of silence, or at most a fifth later.
          const isBeating = kindOf(peer) === 'server' && connections === greatest && !isQuick;
          const after = await memoryOf(stage.server, isBeating ? 18_500 : pause);
          await stage.reader.ask({ do: 'reset' });
          const { turns } = await stage.server.run({});
          const answer = await stage.reader.ask({ do: 'await', events: turns * connections });
          const invalid = complaint(answer, turns * connections);
          const each = (all: number, atFirst: number) => (all - atFirst) / connections;
          const rssPerConnection = each(after.rss, before.rss);
          const measured =
            after.held === undefined || before.held === undefined
              ? { rssPerConnection }
              : { rssPerConnection, heldPerConnection: each(after.held, before.held) };
          const figures = invalid === undefined ? measured : {};
          note({ scenario: 'idle', peer, parameters: { connections }, repetition, figures, invalid });
        }
      } finally {
        await stage.stop();
      }
    });
  },
};
