// Three nodes on a real Redis to which things happen: what readers receive that change from node to node, and what
// publishers are answered.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Cluster, Redis } from 'ioredis';
import { startChaosProxy } from './helpers/chaos-proxy.ts';
import {
  follow,
  info,
  inRounds,
  keeping,
  keys,
  LONG,
  lastFirst,
  promote,
  READERS,
  ROUNDS,
  restart,
  startChaos,
  startNodes,
  startServer,
  untilCaughtUp,
  untilInfo,
} from './helpers/redis-chaos.ts';
import { startCluster, startSentinels, until } from './helpers/redis-servers.ts';

const ONCE = { gaps: 'store-changed', each: 1 } as const;
const NONE = { gaps: 'none' } as const;

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

describe(`${ROUNDS} × with ${READERS} readers, no stream gets a gap`, () => {
  it('when Redis with appendfsync always starts again, and its operator vouches for it', async (t) => {
    const { rig, redis } = await startChaos(t, { args: keeping.always, log: { lineage: 'trust' } });
    await inRounds(rig, NONE, () => restart(redis));
  });

  it('when the feed is deleted or trimmed', async (t) => {
    const { rig, redis } = await startChaos(t);
    await inRounds(rig, NONE, async () => {
      await redis.command('del', keys.feed);
      await rig.settled();
      await redis.command('xtrim', keys.feed, 'maxlen', '0');
    });
  });

  it('when the feed is trimmed while a node is cut off, which then reads what it missed', async (t) => {
    const { rig, redis, proxies } = await startChaos(t);
    await inRounds(rig, NONE, async (round) => {
      const proxy = proxies[round % 3]!;
      rig.cuts = 'off';
      proxy.refuse();
      await rig.published(5);
      await redis.command('xtrim', keys.feed, 'maxlen', '0');
      proxy.pass();
      rig.cuts = 'on';
    });
  });

  it('when Redis closes all connections', async (t) => {
    const { rig, redis } = await startChaos(t);
    await inRounds(rig, NONE, async () => {
      for (let i = 0; i < 5; i++) {
        await redis.command('client', 'kill', 'type', 'normal');
        await rig.published(2);
      }
    });
  });

  it('when Redis pauses its clients', async (t) => {
    const { rig, redis } = await startChaos(t);
    await inRounds(rig, NONE, async () => {
      await redis.command('client', 'pause', '2500', 'all');
      await redis.command('client', 'pause', '2500', 'write');
    });
  });

  it(`when Redis stands still for ${LONG ? 30 : 3} s`, async (t) => {
    const { rig, redis } = await startChaos(t);
    await inRounds(rig, NONE, async () => {
      redis.stop();
      await sleep(LONG ? 30_000 : 3000);
      redis.resume();
    });
  });

  it('when connections are cut, refused, slow, or stand still, and when answers are lost', async (t) => {
    const { rig, proxies } = await startChaos(t);
    const all = (act: (proxy: (typeof proxies)[number]) => void): void => proxies.forEach(act);
    await inRounds(rig, NONE, async (round) => {
      for (const proxy of proxies) {
        proxy.cut();
        await rig.published(1);
      }
      all((proxy) => proxy.swallow());
      await rig.until('answers are lost', () => proxies.every(({ swallowed }) => swallowed >= 3 * round));
      all((proxy) => proxy.pass());
      await rig.published(2);
      all((proxy) => proxy.stall());
      await sleep(2000);
      all((proxy) => proxy.pass());
      await rig.published(2);
      all((proxy) => proxy.refuse());
      await sleep(1000);
      all((proxy) => proxy.pass());
      all((proxy) => proxy.delay(20));
      await rig.published(5);
      all((proxy) => proxy.delay(0));
    });
  });

  it('when memory runs out and nothing may be evicted: events are refused, and later accepted', async (t) => {
    const { rig, redis } = await startChaos(t);
    await inRounds(rig, NONE, async () => {
      const before = rig.publishers.map(({ answers }) => answers.length);
      await redis.command('config', 'set', 'maxmemory-policy', 'noeviction', 'maxmemory', '1');
      await rig.until('every publisher is refused', () =>
        rig.publishers.every(({ answers }, i) =>
          answers.slice(before[i]).some(({ status, error }) => status === 503 && error === 'log-unavailable'),
        ),
      );
      await redis.command('config', 'set', 'maxmemory', '0');
    });
  });

  it('when the first replica comes and goes, and its backlog is freed', async (t) => {
    const { rig, redis } = await startChaos(t, { args: ['--repl-backlog-ttl', '1'] });
    const ids = new Set<string>();
    await inRounds(rig, NONE, async () => {
      ids.add(await info(redis, 'master_replid'));
      const replica = await startServer(t);
      await follow(replica, redis);
      ids.add(await info(redis, 'master_replid'));
      await rig.settled();
      await replica.kill();
      await untilInfo(redis, 'repl_backlog_active', '0');
      ids.add(await info(redis, 'master_replid'));
    });
    // A rule that looks at the replication id alone would have cried wolf.
    assert.ok(ids.size > ROUNDS, `ids: ${[...ids]}`);
  });
});

describe(`${ROUNDS} × with ${READERS} readers, in a cluster and with Sentinels`, () => {
  it('no stream gets a gap when the slot of the hub moves from node to node', async (t) => {
    const last = lastFirst(t);
    const cluster = await startCluster(last);
    const ports = cluster.primaries.map(({ port }) => ({ port, host: '127.0.0.1' }));
    const rig = await startNodes(last, () => new Cluster(ports, { lazyConnect: true }));
    const slot = await cluster.slotOf(keys.meta);
    await inRounds(rig, NONE, async () => {
      const owner = await cluster.ownerOf(slot);
      const next = cluster.primaries[(cluster.primaries.indexOf(owner) + 1) % 3]!;
      const move = await cluster.beginMove(slot, next);
      await rig.published(2);
      // One key has moved and the others have not: nothing can be written until they have.
      await move.migrate(keys.feed);
      await sleep(LONG ? 2000 : 500);
      await move.finish();
    });
  });

  it('each stream gets one gap, store-changed, when a primary of the cluster dies', async (t) => {
    const last = lastFirst(t);
    const cluster = await startCluster(last, { replicas: 1 });
    const nodes = [...cluster.primaries, ...cluster.replicas];
    const ports = nodes.map(({ port }) => ({ port, host: '127.0.0.1' }));
    const rig = await startNodes(last, () => new Cluster(ports, { lazyConnect: true }));
    const slot = await cluster.slotOf(keys.meta);
    await inRounds(rig, ONCE, async () => {
      const owner = await cluster.ownerOf(slot);
      rig.disturb('order');
      await owner.kill();
      await until(async () => (await cluster.ownerOf(slot).catch(() => owner)) !== owner);
      await owner.start();
      await untilInfo(owner, 'master_link_status', 'up');
    });
  });

  it('each stream gets one gap, store-changed, when Sentinels have a replica take over', async (t) => {
    const last = lastFirst(t);
    const { name, servers, sentinels, primary, failover } = await startSentinels(last);
    const addresses = sentinels.map(({ port }) => ({ port, host: '127.0.0.1' }));
    const rig = await startNodes(last, () => new Redis({ sentinels: addresses, name, lazyConnect: true }));
    await inRounds(rig, ONCE, async (round) => {
      rig.disturb('order');
      if (round % 2 === 0) return void (await failover());
      const dead = await primary();
      await dead.kill();
      await until(async () => (await primary()) !== dead);
      await dead.start();
      await untilInfo(dead, 'master_link_status', 'up');
      assert.equal(servers.length, 2);
    });
  });
});

describe(`${ROUNDS} × with ${READERS} readers, what is gone is covered by a gap`, () => {
  it('when the history of a topic is deleted, and a node starts that holds nothing in memory', async (t) => {
    const { rig, redis } = await startChaos(t);
    await inRounds(rig, { gaps: 'evicted' }, async (round) => {
      rig.shorten('a');
      const node = rig.nodes[round % 3]!;
      await node.stop();
      await redis.command('del', keys.history('a'));
      await node.start();
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
