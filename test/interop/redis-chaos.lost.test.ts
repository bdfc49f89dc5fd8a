// Three nodes on a real Redis that loses events: gaps say which.

import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  follow,
  info,
  inRounds,
  keys,
  LONG,
  promote,
  READERS,
  ROUNDS,
  startChaos,
  startServer,
  untilCaughtUp,
} from './helpers/redis-chaos.ts';
import { until } from './helpers/redis-servers.ts';

describe(`${ROUNDS} × with ${READERS} readers, what is gone is covered by a gap`, () => {
  it('when the history of a topic is deleted, and a node starts that holds nothing in memory', async (t) => {
    const { rig, redis } = await startChaos(t);
    await inRounds(rig, { gaps: 'evicted' }, async (round) => {
      rig.shorten('a');
      const node = rig.nodes[round % 3]!;
      await node.stop();
      await redis.command('del', keys.history('a'));
      const { reads } = rig;
      const starting = node.start();
      // Some of them come to it, with places from before its memory begins, so it reads from the log.
      for (const reader of rig.readers) reader.cut();
      await starting;
      await rig.until('the log is read', () => rig.reads > reads);
    });
  });

  it('when memory runs out and any key may be evicted', async (t) => {
    const { rig, redis } = await startChaos(t);
    await inRounds(rig, { gaps: 'any' }, async () => {
      rig.shorten('a', 'b', 'c');
      // Each key that goes may begin another order.
      for (let i = 0; i < 20; i++) rig.disturb('order');
      const used = Number(await info(redis, 'used_memory'));
      const policy = ['maxmemory-policy', 'allkeys-lru', 'maxmemory'];
      await redis.command('config', 'set', ...policy, String(used - 20_000));
      await until(async () => Number(await info(redis, 'evicted_keys')) > 0);
      // Where all keys were evicted, what is left may be what the connections and the scripts take.
      await redis.command('config', 'set', 'maxmemory', String(used + 1_000_000));
      await rig.published(1);
      await redis.command('config', 'set', 'maxmemory', '1');
      await until(async () => (await redis.command('exists', keys.meta)) === '0');
      await redis.command('config', 'set', 'maxmemory', '0');
    });
  });

  it('when two primaries accept events, and readers go from one to the other', async (t) => {
    const { rig, redis, proxies } = await startChaos(t);
    let [a, b] = [redis, await startServer(t)];
    await inRounds(rig, { gaps: 'any' }, async () => {
      await follow(b, a);
      await untilCaughtUp(b, a);
      const lasts = LONG ? 10_000 : 3000;
      rig.disturb('order');
      rig.disturb('order');
      rig.disturb('away', lasts + 1000);
      await promote(b);
      for (const proxy of proxies.slice(1)) proxy.retarget(b.port);
      await sleep(lasts);
      await follow(a, b);
      proxies[0]!.retarget(b.port);
      [a, b] = [b, a];
    });
  });
});
