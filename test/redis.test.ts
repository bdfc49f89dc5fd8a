import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Heard } from '../lib/log-intake.ts';
import { RedisLog } from '../lib/redis.ts';
import { ModelRedis } from './helpers/model-redis/model-redis.ts';

// What the contract of logs does not ask for, on a model of Redis. On real servers: test/interop/.

const event = (text: string) => ({ at: Date.now(), frame: Buffer.from(`data: ${text}\n\n`), key: undefined });

async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await new Promise((resolve) => setTimeout(resolve, 1));
}

async function followed(redis: ModelRedis, node: string): Promise<{ log: RedisLog; heard: Heard }> {
  const log = new RedisLog(redis.client(node), { checkInterval: 5 });
  const heard = new Heard();
  log.follow(heard);
  await until(() => heard.epoch > 0);
  return { log, heard };
}

describe('a log in Redis', () => {
  it('reads from the primary, where a connection was left with a replica that lags', async () => {
    const redis = new ModelRedis();
    const a = await followed(redis, 'a');
    const b = await followed(redis, 'b');
    // This opens its connection for reading.
    await a.log.find(['t']);
    redis.split({ minority: ['a'] });
    await until(() => !b.heard.isAway && b.heard.renewals.length === 2);
    redis.heal({ isKept: true, lags: true });
    await b.log.append('t', [event('1')]);
    await until(() => a.heard.epoch === b.heard.epoch && a.heard.position === 1);
    const { entries } = await a.log.read(['t'], 0, 1000, { newestOnly: false });
    assert.deepEqual(
      entries.map(({ seq }) => seq),
      [1],
    );
    await Promise.all([a.log.close(), b.log.close()]);
  });
});
