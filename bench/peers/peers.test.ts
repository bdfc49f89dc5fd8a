// Checks that every server that can run here delivers each event once and in order.
//   npm ci --prefix bench/peers && npx tsx --test bench/peers/peers.test.ts

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { startReader } from '../loads/lead.ts';
import { servers, start } from '../loads/servers.ts';
import { complaint } from '../scenarios/measure.ts';
import { stage } from '../scenarios/stage.ts';
import { guarantees } from './guarantees.ts';

for (const [name, { title, answers, version, missing }] of Object.entries(servers)) {
  const why = missing();
  describe(why === undefined ? title : `${title}: ${why}`, () => {
    if (why !== undefined) return;

    it('has a version, unless Node is all there is to it', () => {
      const isOfNode = ['socket', 'raw', 'zlib'].includes(name);
      assert.match(version(), isOfNode ? /^$/ : /\d+\.\d+\.\d+/);
    });

    it('has a row of guarantees', () => {
      assert.ok(guarantees[name]);
    });

    // It sends only compressed data, which the scenario gzip checks.
    if (name === 'zlib') return;

    for (const kind of ['fastest', 'node'] as const) {
      it(`delivers every event once and in order, as the ${kind} reader sees it`, async () => {
        const { server, reader, stop } = await stage(name, { connections: 20, sample: 1, reader: kind });
        try {
          for (const batch of [1, 4, 1, 4, 1, 4]) {
            await reader.ask({ do: 'reset' });
            const { turns } = await server.run({ batch, interval: 5, duration: 50 });
            const expected = turns * batch * 20;
            assert.equal(complaint(await reader.ask({ do: 'await', events: expected }), expected), undefined);
          }
        } finally {
          await stop();
        }
      });
    }

    if (!answers) return;

    it('streams an answer to the client that asked, to its end', async () => {
      const [server, reader] = await Promise.all([start(name), startReader('node')]);
      try {
        const order = { port: server.port, path: '/answer', count: 1, rounds: 1, bytes: 0 };
        const { events, disorder, negative } = await reader.ask({ do: 'post', ...order });
        assert.deepEqual({ events, disorder, negative }, { events: 500, disorder: 0, negative: 0 });
      } finally {
        await Promise.all([server.stop(), reader.stop()]);
      }
    });
  });
}
