// Three nodes on a real Redis, and what costs none of their streams a gap.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  follow,
  info,
  inRounds,
  keeping,
  keys,
  LONG,
  NONE,
  READERS,
  REFUSED,
  ROUNDS,
  restart,
  startChaos,
  startServer,
  UNKNOWN,
  untilInfo,
} from './helpers/redis-chaos.ts';

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
        proxy.reset();
        await rig.published(1);
      }
      all((proxy) => proxy.loseAnswers());
      await rig.until('answers are lost', () => proxies.every(({ lost }) => lost >= 3 * round));
      all((proxy) => proxy.pass());
      await rig.published(2);
      // What was sent again was published once: the checker knows of each event.
      assert.ok(
        rig.publishers.some(({ answers }) => answers.some(({ error }) => error === UNKNOWN)),
        'nobody was in doubt',
      );
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
      const begun = performance.now();
      await redis.command('config', 'set', 'maxmemory-policy', 'noeviction', 'maxmemory', '1');
      await rig.until('every publisher is refused', () =>
        rig.publishers.every(({ answers }) =>
          answers.some(({ at, error }) => at > begun && error === REFUSED),
        ),
      );
      await rig.until('every node says so', () => rig.nodes.every(({ hub }) => hub!.failure !== undefined));
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

describe(`${ROUNDS} × with ${READERS} readers that change nodes, no stream gets a gap`, () => {
  for (const how of ['stall', 'loseAnswers', 'refuse'] as const) {
    it(`when one node is cut off from Redis: ${how}`, async (t) => {
      const { rig, proxies } = await startChaos(t, { cutInterval: 30 });
      await inRounds(rig, NONE, async (round) => {
        const proxy = proxies[round % 3]!;
        proxy[how]();
        await sleep(LONG ? 10_000 : 4000);
        proxy.pass();
      });
    });
  }
});
