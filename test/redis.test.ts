import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Heard } from '../lib/log-intake.ts';
import { RedisLog } from '../lib/redis.ts';
import { redisKeys } from '../lib/redis-script.ts';
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

  it('resolves an append once its own node has the event, also where nothing wakes that', async () => {
    const redis = new ModelRedis({ network: { wakes: () => false } });
    const { log, heard } = await followed(redis, 'a');
    const { first } = await log.append('t', [event('1')]);
    assert.ok(heard.position >= first);
    await log.close();
  });

  it('tells the end of the epoch before, up to which nothing is lost, also to a node that comes later', async () => {
    const redis = new ModelRedis();
    const { log, heard } = await followed(redis, 'a');
    await log.append('t', [event('1'), event('2')]);
    redis.failOver();
    await until(() => heard.renewals.length === 2);
    const late = await followed(redis, 'b');
    for (const { renewals } of [heard, late.heard]) {
      assert.deepEqual(
        renewals.map(({ oldEnd }) => oldEnd),
        [0, 2],
      );
    }
    await Promise.all([log.close(), late.log.close()]);
  });

  it('reads nothing of what an older epoch has left, also before it is removed', async () => {
    const redis = new ModelRedis();
    const { log } = await followed(redis, 'a');
    await log.append('t', [event('1'), event('2')]);
    redis.do('DEL', redisKeys('sluice').meta);
    const { first } = await log.append('t', [event('3')]);
    const { entries } = await log.read(['t'], 0, 1000, { newestOnly: false });
    assert.deepEqual(
      entries.map(({ seq }) => seq),
      [first],
    );
    await log.close();
  });
});
