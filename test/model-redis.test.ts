import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { ModelClient } from './helpers/model-redis/client.ts';
import { ModelRedis } from './helpers/model-redis/model-redis.ts';
import type { Failure } from './helpers/model-redis/reply.ts';

// What it answers is compared with a real server in test/interop/redis-model.test.ts. Here is what can go wrong.

async function connected(redis: ModelRedis, node = 'a'): Promise<ModelClient> {
  const client = redis.client(node);
  await client.connect();
  return client;
}

const both = "redis.call('SET', KEYS[1], '1') return redis.call('SET', KEYS[2], '2')";

function field(redis: ModelRedis, section: string, name: string): string | undefined {
  return new RegExp(`${name}:(.*)\r`).exec(String(redis.do('INFO', section)))?.[1];
}

describe('a model of Redis', () => {
  it('loses the last writes where a replica takes over, and of a script all or nothing', () => {
    const redis = new ModelRedis();
    redis.do('SET', 'before', '0');
    redis.do('EVAL', both, '2', 'one', 'other');
    redis.failOver({ lost: 1 });
    assert.deepEqual(
      ['before', 'one', 'other'].map((key) => redis.do('GET', key)),
      ['0', null, null],
    );
  });

  it('has another identity after a promotion, a restart, and when its first replica comes', () => {
    const redis = new ModelRedis();
    const identity = () =>
      ['master_replid', 'master_replid2']
        .map((name) => field(redis, 'replication', name))
        .concat(field(redis, 'server', 'run_id'));
    const [replid, , runId] = identity();
    redis.renameOrder();
    const renamed = identity();
    assert.deepEqual([renamed[0] === replid, renamed[1], renamed[2]], [false, '0'.repeat(40), runId]);
    redis.failOver();
    const promoted = identity();
    assert.deepEqual([promoted[1], promoted[2] === runId], [renamed[0], false]);
    redis.restart();
    assert.deepEqual([identity()[1], identity().includes(promoted[0])], ['0'.repeat(40), false]);
  });

  it('has forgotten its scripts after a restart', () => {
    const redis = new ModelRedis();
    const digest = String(redis.do('SCRIPT', 'LOAD', 'return 1'));
    assert.equal(redis.do('EVALSHA', digest, '0'), 1);
    redis.restart();
    assert.match((redis.do('EVALSHA', digest, '0') as Failure).message, /^NOSCRIPT /);
  });

  it('stops a script that is the first to need memory, and none that has written', () => {
    const redis = new ModelRedis();
    redis.primary.isFull = true;
    const refused = redis.do('EVAL', both, '2', 'one', 'other') as Failure;
    assert.match(refused.message, /^OOM /);
    redis.primary.isFull = false;
    const script = "redis.call('SET', KEYS[1], '1') return redis.call('GET', KEYS[1])";
    assert.equal(redis.do('EVAL', script, '1', 'one'), '1');
  });

  it('ends keys by the clock, on replicas as well', (t) => {
    t.mock.timers.enable({ apis: ['Date'], now: 1000 });
    const redis = new ModelRedis();
    redis.do('SET', 'key', 'old', 'PX', '10');
    t.mock.timers.tick(10);
    redis.do('RPUSH', 'key', 'new');
    redis.failOver();
    assert.deepEqual([redis.do('LRANGE', 'key', '0', '-1'), redis.do('PTTL', 'key')], [['new'], -1]);
  });

  it('wakes one that waits for a stream, after the script that wrote to it', async () => {
    const redis = new ModelRedis();
    const client = await connected(redis);
    const answer = client.call('XREAD', 'BLOCK', '0', 'STREAMS', 's', '0');
    const next = client.call('PING');
    await Promise.resolve();
    redis.do(
      'EVAL',
      "redis.call('XADD', KEYS[1], '1-1', 'f', 'x') redis.call('XADD', KEYS[1], '1-2', 'f', 'y')",
      '1',
      's',
    );
    assert.deepEqual(await answer, [
      [
        's',
        [
          ['1-1', ['f', 'x']],
          ['1-2', ['f', 'y']],
        ],
      ],
    ]);
    assert.equal(await next, 'PONG');
  });

  it('runs a command whose answer is lost, answers none after it, and then breaks the connection', async () => {
    const redis = new ModelRedis();
    const client = await connected(redis);
    redis.network = { fate: (_, [name]) => (name === 'INCR' ? 'unanswered' : 'done'), stuckTime: 1 };
    const lost = client.call('INCR', 'n');
    const later = client.call('PING');
    await assert.rejects(lost, { message: 'Connection is closed.' });
    await assert.rejects(later);
    assert.equal(redis.do('GET', 'n'), '1');
  });

  it('does not run a command that is lost, nor any after it', async () => {
    const redis = new ModelRedis();
    const client = await connected(redis);
    redis.network = { fate: (_, [name]) => (name === 'INCR' ? 'lost' : 'done'), stuckTime: 1 };
    await assert.rejects(Promise.all([client.call('INCR', 'n'), client.call('SET', 'm', '1')]));
    assert.deepEqual([redis.do('GET', 'n'), redis.do('GET', 'm')], [null, null]);
  });

  it('takes text of any kind, and gives it back', async () => {
    const redis = new ModelRedis();
    const client = await connected(redis);
    await client.call('SET', 'é', Buffer.from('ü 😀\u0000'));
    assert.equal(await client.call('GET', 'é'), 'ü 😀\u0000');
    await assert.rejects(client.call('HGET', 'é', 'f'), { name: 'ReplyError', message: /^WRONGTYPE / });
  });

  it('refuses connections to a node that is cut off, and takes them again', async () => {
    const redis = new ModelRedis();
    const client = await connected(redis);
    redis.disconnect('a');
    assert.equal(client.status, 'end');
    await assert.rejects(client.duplicate({ lazyConnect: true }).connect(), { code: 'ECONNREFUSED' });
    redis.reconnect('a');
    await client.duplicate({ lazyConnect: true }).connect();
  });

  it('goes on apart in a split; the old primary then is a replica that takes no writes', async () => {
    const redis = new ModelRedis();
    const client = await connected(redis);
    redis.split({ minority: ['a'] });
    await client.call('SET', 'of minority', '1');
    redis.do('SET', 'of majority', '1');
    const waiting = client.call('XREAD', 'BLOCK', '0', 'STREAMS', 's', '0');
    await Promise.resolve();
    redis.heal({ isKept: true });
    await assert.rejects(waiting, { message: /^UNBLOCKED / });
    const found = await Promise.all(['of minority', 'of majority'].map((key) => client.call('GET', key)));
    assert.deepEqual(found, [null, '1']);
    await assert.rejects(client.call('SET', 'key', '1'), { message: /^READONLY / });
    await assert.rejects(client.call('EVAL', both, '2', 'one', 'other'), { message: /^READONLY / });
    redis.do('SET', 'later', '1');
    assert.equal(await client.call('GET', 'later'), '1');
  });
});
