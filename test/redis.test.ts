import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Hub } from '../lib/hub.ts';
import { Heard } from '../lib/log-intake.ts';
import { RedisLog } from '../lib/redis.ts';
import { retryUntil } from '../lib/redis-connections.ts';
import { RedisFollower } from '../lib/redis-follower.ts';
import { redisFailure } from '../lib/redis-line.ts';
import { RedisReader } from '../lib/redis-reader.ts';
import { redisKeys } from '../lib/redis-script.ts';
import type { FeedItem, Place, RedisStore } from '../lib/redis-store.ts';
import { fakeTime } from './helpers/clock.ts';
import { MemoryReader } from './helpers/hub.ts';
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

  it('asks for less of a feed that does not come in time, until it does', async (t) => {
    const clock = fakeTime(t);
    const head = { epoch: 1, seq: 0 };
    const asked: number[] = [];
    const feedAfter = async (
      _: unknown,
      { seq }: Place,
      { count }: { count: number },
    ): Promise<FeedItem[]> => {
      asked.push(count);
      await new Promise((resolve) => setTimeout(resolve, 20 * count));
      if (count > 100) throw redisFailure('unanswered', 'Redis has not answered');
      const size = Math.min(count, 100 - seq);
      const places = Array.from({ length: size }, (_, i) => ({ epoch: 1, seq: seq + 1 + i }));
      return places.map((place) => ({ place, entry: { ...event('x'), seq: place.seq, topic: 't' } }));
    };
    const check = async () => ({ head: { ...head }, ends: [], topics: 0, stale: 0 });
    const follower = new RedisFollower({
      store: { check, feedAfter } as unknown as RedisStore,
      connection: () => ({ isUp: true }) as never,
      reached: async () => {},
      checkInterval: 5000,
      known: () => follower.told,
      checked: () => {},
    });
    const heard = new Heard();
    void follower.run(heard);
    await clock.pass(0, 1);
    head.seq = 100;
    await clock.pass(60_000, 20);
    follower.close();
    assert.deepEqual(asked.slice(0, 6), [500, 125, 31, 62, 62, 62]);
    assert.deepEqual([heard.entries.length, heard.skipped], [100, 0]);
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

describe('a hub on Redis', () => {
  it('asks in the new epoch what is known of its topics, and hears no failure', async (t) => {
    const redis = new ModelRedis();
    const errors: unknown[] = [];
    const log = new RedisLog(redis.client('a'), { checkInterval: 5 });
    const hub = new Hub({ log, onError: (error) => errors.push(error) });
    t.after(() => hub.close());
    await until(() => hub.failure === undefined);
    const reader = new MemoryReader();
    hub.subscribe('t', reader);
    await hub.append('t', { data: '1' });
    await until(() => reader.story.length > 1);
    errors.length = 0;
    const { find } = log;
    const answers: Promise<unknown>[] = [];
    t.mock.method(log, 'find', (topics: readonly string[]) => {
      const answer = find.call(log, topics);
      answers.push(answer.catch(() => {}));
      return answer;
    });
    redis.do('DEL', redisKeys('sluice').meta);
    await until(() => answers.length > 0);
    await Promise.all(answers);
    assert.deepEqual(errors, []);
  });
});

describe('a command to Redis', () => {
  it('is not sent again with no time left for its answer', async (t) => {
    const clock = fakeTime(t);
    const refused = redisFailure('reply', 'TRYAGAIN Multiple keys request', 'TRYAGAIN');
    const timeouts: number[] = [];
    const run = (timeout: number) => {
      timeouts.push(timeout);
      return Promise.reject(refused);
    };
    const slow = async () => clock.advance(60);
    await assert.rejects(retryUntil(clock.now() + 100, run, slow), refused);
    assert.deepEqual(timeouts, [100, 40]);
    await assert.rejects(retryUntil(clock.now() + 50, run, slow), refused);
    assert.deepEqual(timeouts, [100, 40, 50]);
  });

  it('has all its time for its answer also where it waited behind others', async (t) => {
    const clock = fakeTime(t);
    const timeouts: number[] = [];
    const store = {
      async read(_: unknown, __: unknown, ___: unknown, until: number, { timeout }: { timeout: number }) {
        timeouts.push(timeout);
        clock.advance(2000);
        return { entries: [], dropped: [], until, isAll: true };
      },
    };
    const reader = new RedisReader({
      store: store as never as RedisStore,
      maxReads: 1,
      connection: () => undefined as never,
      known: () => ({ epoch: 1, seq: 0 }),
      checkReached: () => {},
      hasChanged: async () => false,
    });
    await Promise.all([1, 2, 3].map(() => reader.read(['a'], 0, 1000, false)));
    assert.deepEqual(timeouts, [5000, 5000, 5000]);
  });
});
