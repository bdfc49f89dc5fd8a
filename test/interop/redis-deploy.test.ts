// A deploy, node by node: what holds while nodes have different options.

import assert from 'node:assert/strict';
import { it } from 'node:test';
import type { RedisLogOptions } from '../../lib/redis.ts';
import { inRounds, LONG, startChaos } from './helpers/redis-chaos.ts';
import { RedisNode } from './helpers/redis-node.ts';
import { startRedis } from './helpers/redis-servers.ts';

const texts = (from: number, count: number): string[] =>
  Array.from({ length: count }, (_, i) => `${from + i}`);

it('an append keeps what the options of its own node say, whatever those of others', async (t) => {
  const redis = await startRedis(t);
  const before = await RedisNode.open(t, redis.port, { history: { maxEvents: 100 } });
  const after = await RedisNode.open(t, redis.port, { history: { maxEvents: 10 } });
  await before.put('a', ...texts(1, 40));
  assert.deepEqual(await before.texts('a'), texts(1, 40));
  await after.put('a', ...texts(41, 1));
  assert.deepEqual(await before.texts('a'), texts(32, 10));
  // What is gone does not come back, and nobody is told otherwise.
  await before.put('a', ...texts(42, 20));
  for (const node of [before, after]) {
    assert.deepEqual(await node.texts('a'), texts(32, 30));
    const page = await node.log.read(['a'], 5, 10_000, { newestOnly: false });
    assert.deepEqual(page.dropped, [{ topic: 'a', seq: 31 }]);
  }
});

it('an event is as old as the node that reads it lets it be', async (t) => {
  const redis = await startRedis(t);
  const before = await RedisNode.open(t, redis.port);
  const after = await RedisNode.open(t, redis.port, { history: { maxAge: 60_000 } });
  const at = Date.now() - 120_000;
  await before.append('a', [{ text: 'old', at }, 'new']);
  assert.deepEqual(await before.texts('a'), ['old', 'new']);
  assert.deepEqual(await after.texts('a'), ['new']);
  // An append by the other one removes it for all.
  await after.put('a', 'newer');
  assert.deepEqual(await before.texts('a'), ['new', 'newer']);
});

it('nodes that start again with other options, one by one, lose nothing that no gap covers', async (t) => {
  const old: RedisLogOptions = { history: { maxEvents: 1000 }, feed: { maxEvents: 1000 } };
  const young: RedisLogOptions = { history: { maxEvents: 40 }, feed: { maxEvents: 50, maxBytes: 10_000 } };
  const isNew = [false, false, false];
  const { rig } = await startChaos(t, { log: (node) => (isNew[node] ? young : old) });
  await inRounds(rig, { gaps: 'evicted' }, async () => {
    rig.shorten('a', 'b', 'c');
    for (const [i, node] of rig.nodes.entries()) {
      await node.stop();
      isNew[i] = !isNew[i];
      await rig.published(2);
      await node.start();
      await rig.published(LONG ? 50 : 5);
    }
  });
});

it('a node that finds a later format changes nothing, and says so', async (t) => {
  const redis = await startRedis(t);
  const node = await RedisNode.open(t, redis.port);
  await node.put('a', 'one');
  await redis.command('hset', node.keys.meta, 'format', '2');
  const all = await redis.command('dbsize');
  await assert.rejects(node.put('a', 'two'), /later version: format 2/);
  await assert.rejects(node.log.verify(), { code: 'ERR_SSE_REDIS_NEWER' });
  assert.equal(await redis.command('dbsize'), all);
  assert.equal(await redis.command('xlen', node.keys.feed), '2');
});
