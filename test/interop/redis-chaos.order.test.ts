// Three nodes on a real Redis, and what costs each of their streams exactly one gap.

import { readdirSync, statSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { startChaosProxy } from '../helpers/chaos-proxy.ts';
import {
  follow,
  inRounds,
  keeping,
  keys,
  LONG,
  ONCE,
  promote,
  READERS,
  ROUNDS,
  restart,
  startChaos,
  startServer,
  untilCaughtUp,
} from './helpers/redis-chaos.ts';
import type { RedisProcess } from './helpers/redis-servers.ts';

describe(`${ROUNDS} × with ${READERS} readers, each stream gets exactly one gap, store-changed`, () => {
  for (const [name, args] of Object.entries(keeping)) {
    it(`when Redis is killed and starts again, keeping ${name}`, async (t) => {
      const { rig, redis } = await startChaos(t, { args });
      await inRounds(rig, ONCE, async () => {
        rig.disturb('order');
        await restart(redis);
      });
    });
  }

  for (const lineage of ['gap', 'trust'] as const) {
    it(`when Redis starts again with an older snapshot, and lineage is '${lineage}'`, async (t) => {
      const { rig, redis } = await startChaos(t, { log: { lineage } });
      await inRounds(rig, ONCE, async () => {
        await redis.command('save');
        await rig.published(3);
        rig.disturb('order');
        await restart(redis);
      });
    });

    it(`when Redis starts again without the end of its file, and lineage is '${lineage}'`, async (t) => {
      const { rig, redis } = await startChaos(t, { args: keeping.everysec, log: { lineage } });
      await inRounds(rig, ONCE, async () => {
        await rig.published(3);
        rig.disturb('order');
        await redis.kill();
        shortenFile(redis, 3000);
        await redis.start();
      });
    });
  }

  const losses = {
    'when all is lost by FLUSHALL': ['flushall'],
    'when the metadata are deleted': ['del', keys.meta],
    'when the index is deleted': ['del', keys.index],
    'when metadata, index and feed are deleted': ['del', keys.meta, keys.index, keys.feed],
  };
  for (const [name, words] of Object.entries(losses)) {
    it(name, async (t) => {
      const { rig, redis } = await startChaos(t);
      await inRounds(rig, ONCE, async () => {
        rig.disturb('order');
        await redis.command(...words);
      });
    });
  }

  it('when a replica that has everything is promoted', async (t) => {
    const { rig, redis, retarget } = await startChaos(t);
    let primary = redis;
    await inRounds(rig, ONCE, async () => {
      const replica = await startServer(t);
      await follow(replica, primary);
      await primary.command('client', 'pause', '100000', 'write');
      await untilCaughtUp(replica, primary);
      rig.disturb('order');
      await promote(replica);
      retarget(replica);
      await primary.kill();
      primary = replica;
    });
  });

  it('when a replica that lacks the last events is promoted', async (t) => {
    const { rig, redis, retarget } = await startChaos(t);
    let primary = redis;
    await inRounds(rig, ONCE, async () => {
      const link = await startChaosProxy(t, primary.port);
      const replica = await startServer(t);
      await follow(replica, link);
      link.stall();
      await rig.published(3);
      await primary.kill();
      rig.disturb('order');
      await promote(replica);
      retarget(replica);
      primary = replica;
    });
  });

  it('when Redis fails over from A to B, and again when it goes back to A', async (t) => {
    const { rig, redis: a, retarget } = await startChaos(t, { args: keeping.always });
    const b = await startServer(t, keeping.always);
    await follow(b, a);
    let [from, to] = [a, b];
    const failOver = async (): Promise<void> => {
      rig.disturb('order');
      await from.kill();
      await promote(to);
      retarget(to);
      await from.start();
      await follow(from, to);
      [from, to] = [to, from];
    };
    await inRounds(rig, ONCE, async () => {
      await failOver();
      await rig.settled();
      rig.check(ONCE);
      await failOver();
    });
  });

  it('when two primaries accept events for a while, and one of them gives way', async (t) => {
    const { rig, redis, proxies } = await startChaos(t);
    let [a, b] = [redis, await startServer(t)];
    // A reader that goes from one side to the other meets two orders, which the next test is about.
    rig.cuts = 'off';
    await inRounds(rig, ONCE, async () => {
      await follow(b, a);
      await untilCaughtUp(b, a);
      rig.disturb('order');
      await promote(b);
      for (const proxy of proxies.slice(1)) proxy.retarget(b.port);
      await rig.published(3);
      await sleep(LONG ? 10_000 : 3000);
      await follow(a, b);
      proxies[0]!.retarget(b.port);
      [a, b] = [b, a];
    });
  });
});

/** Takes the last bytes of what was appended last, as the loss of power does. */
function shortenFile({ folder }: RedisProcess, bytes: number): void {
  const files = readdirSync(join(folder, 'appendonlydir')).filter((name) => name.endsWith('.incr.aof'));
  const file = join(folder, 'appendonlydir', files.sort().at(-1)!);
  truncateSync(file, Math.max(0, statSync(file).size - bytes));
}
