// Fills a log in Redis, and measures the memory of Redis that a topic, an event and a key take.

import { setTimeout as sleep } from 'node:timers/promises';
import { redisKeys } from '../../lib/redis-script.ts';
import type { Served } from '../loads/lead.ts';
import { type RedisServer, startOn } from '../loads/redis.ts';
import { adapterOf, onNodes, onRedis, withoutRedis } from './on-redis.ts';
import { atMost, isOurs, kindOf, repeat, type Scenario } from './scenario.ts';

/** A batch has half of a topic's history at most. */
const BATCH = 4000;

/** The keys in which a peer has the feed, and the history of the topic `t0`. */
const KEYS: Readonly<Record<string, { readonly feed: string; readonly topic: string }>> = {
  sluice: { feed: redisKeys('sluice').feed, topic: redisKeys('sluice').history('t0') },
  script: { feed: 'feed', topic: 't:t0' },
};

export const redisMemory: Scenario = {
  name: 'redis-memory',
  constant:
    '100 bytes of data. 100,000 topics with one event each; then a topic with 10,000 events. `script`: a stream for ' +
    'each topic, a feed of 10,000 entries and an index; `set`: one string for each topic, and nothing else',
  shows:
    'bytes of Redis: for each idle topic, with all keys of the log; for each event of a topic, entry of the feed and ' +
    'idempotency key, as MEMORY USAGE has them',
  headlines: [{ where: { of: 'idle topic' } }],
  peers: ['sluice', 'script', 'set'],
  missing: withoutRedis,
  async run(settings, note) {
    const [topics, requests] = settings.isQuick ? [2000, 50] : [100_000, 1000];
    await repeat(atMost(3, settings), async (peer, repetition) => {
      const tell = (parameters: Record<string, string | number>, redisBytes: number) =>
        note({ scenario: 'redis-memory', peer, parameters, repetition, figures: { redisBytes } });
      await onRedis(async (redis) => {
        const open = () => startOn(redis, adapterOf(peer, settings));
        const inAll = await grown(redis, () => onNodes(1, open, ([node]) => node!.run({ topics })));
        tell({ of: 'idle topic', topics }, inAll / topics);
        const keys = KEYS[kindOf(peer)];
        if (keys === undefined) return;
        await onNodes(1, open, async ([node]) => {
          for (let i = 0; i < 3; i++) await node!.run({ batch: BATCH });
          tell({ of: 'event of a topic' }, await bytesOfEach(redis, keys.topic));
          tell({ of: 'entry of the feed' }, await bytesOfEach(redis, keys.feed));
          if (isOurs(kindOf(peer)))
            tell({ of: 'idempotency key' }, await requestBytes(redis, node!, requests));
        });
      });
    });
  },
};

/** How much the memory of Redis grows by what somebody does who is gone afterwards, with the buffers of that. */
async function grown(redis: RedisServer, act: () => Promise<unknown>): Promise<number> {
  const before = await redis.usedMemory();
  await act();
  // Redis moves its keys to a larger table in the background.
  await sleep(1000);
  return (await redis.usedMemory()) - before;
}

async function bytesOf(redis: RedisServer, key: string): Promise<number> {
  return Number(await redis.command('MEMORY', 'USAGE', key, 'SAMPLES', '0'));
}

/** Of a stream or a list: its bytes by the number of its entries. */
async function bytesOfEach(redis: RedisServer, key: string): Promise<number> {
  const count = (await redis.command('TYPE', key)) === 'stream' ? 'XLEN' : 'LLEN';
  return (await bytesOf(redis, key)) / Number(await redis.command(count, key));
}

/** Publishes with keys, as clients do. */
async function requestBytes(redis: RedisServer, { port }: Served, count: number): Promise<number> {
  for (let i = 0; i < count; i++) {
    const headers = { 'Idempotency-Key': `key-${i}` };
    const response = await fetch(`http://127.0.0.1:${port}/topics/t0`, {
      method: 'POST',
      headers,
      body: 'x',
    });
    if (!response.ok) throw new Error(`publishing was answered with ${response.status}`);
  }
  const { requests, ages } = redisKeys('sluice');
  return ((await bytesOf(redis, requests)) + (await bytesOf(redis, ages))) / count;
}
