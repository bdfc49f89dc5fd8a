import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Heard } from '../lib/log-intake.ts';
import { RedisLog, type RedisLogOptions } from '../lib/redis.ts';
import { appendScript, changeScript, redisKeys } from '../lib/redis-script.ts';
import { ModelRedis } from './helpers/model-redis/model-redis.ts';

const event = (text: string) => ({ at: Date.now(), frame: Buffer.from(`data: ${text}\n\n`), key: undefined });

const numbers = (count: number): string[] => Array.from({ length: count }, (_, i) => String(i + 1));

/** A log on a model of Redis, and the scripts that it has run. */
async function opened(t: TestContext, options: RedisLogOptions = {}) {
  const redis = new ModelRedis();
  const ran: string[] = [];
  redis.network = {
    fate: (_node, [, script = '']) => {
      for (const [name, { sha, text }] of Object.entries({ append: appendScript, change: changeScript })) {
        if (script === sha || script === text) ran.push(name);
      }
      return 'done';
    },
  };
  const log = new RedisLog(redis.client('a'), options);
  t.after(() => log.close());
  const heard = new Heard();
  log.follow(heard);
  await log.append('first', [event('0')]);
  ran.length = 0;
  return { redis, log, heard, ran };
}

/** Of each append: `kept`, or the code with which it was refused. */
async function outcomesOf(appends: readonly Promise<unknown>[]): Promise<string[]> {
  const settled = await Promise.allSettled(appends);
  return settled.map((one) => (one.status === 'fulfilled' ? 'kept' : one.reason.code));
}

const textsIn = (heard: Heard): string[] =>
  heard.entries.map((entry) => {
    if ('change' in entry) return `${entry.topic} ${entry.change}`;
    return `${entry.topic} ${entry.frame.toString().slice('data: '.length).trim()}`;
  });

describe('what is appended in one turn', () => {
  it('costs one command, and each is answered its own ids in the order of a topic', async (t) => {
    const { log, heard, ran } = await opened(t);
    const answers = await Promise.all([
      log.append('a', [event('1')]),
      log.append('b', [event('2'), event('3')]),
      log.append('a', [event('4'), event('5')]),
      log.append('c', [event('6')]),
      log.append('a', [event('7')]),
    ]);
    assert.deepEqual(ran, ['append']);
    const told = textsIn(heard).slice(1);
    assert.deepEqual(
      told.filter((text) => text.startsWith('a')),
      ['a 1', 'a 4', 'a 5', 'a 7'],
    );
    const at = (seq: number): string => textsIn(heard)[heard.entries.findIndex((one) => one.seq === seq)]!;
    assert.deepEqual(
      answers.map(({ first, count }) => [at(first), at(first + count - 1)]),
      [
        ['a 1', 'a 1'],
        ['b 2', 'b 3'],
        ['a 4', 'a 5'],
        ['c 6', 'c 6'],
        ['a 7', 'a 7'],
      ],
    );
  });

  it('is appended by as many commands as it takes for none to replace half of a history', async (t) => {
    const { log, heard, ran } = await opened(t, { history: { maxEvents: 8 } });
    await Promise.all(numbers(10).map((n) => log.append('a', [event(n)])));
    assert.deepEqual(ran, ['append', 'append', 'append']);
    assert.deepEqual(
      textsIn(heard).slice(1),
      numbers(10).map((n) => `a ${n}`),
    );
  });

  it('is appended by commands of 128 events and 256 KiB at most', async (t) => {
    const { log, heard, ran } = await opened(t);
    await Promise.all(numbers(300).map((n) => log.append(`t${n}`, [event(n)])));
    assert.equal(ran.length, 3);
    await Promise.all(numbers(4).map((n) => log.append(`t${n}`, [event('x'.repeat(100_000))])));
    assert.equal(ran.length, 5);
    assert.equal(heard.entries.length, 305);
  });

  it('is refused for the topics that have ended, and for no others', async (t) => {
    const { log, heard } = await opened(t);
    await log.append('over', [event('1')]);
    await log.change('over', 'end');
    const outcomes = await outcomesOf([
      log.append('a', [event('2')]),
      log.append('over', [event('3')]),
      log.append('b', [event('4')]),
    ]);
    assert.deepEqual(outcomes, ['kept', 'ERR_SSE_TOPIC_ENDED', 'kept']);
    assert.deepEqual(textsIn(heard).slice(-3), ['over end', 'a 2', 'b 4']);
  });

  it('is refused for a topic whose key somebody else has written, and for no others', async (t) => {
    const { redis, log, heard } = await opened(t);
    redis.do('SET', redisKeys('sluice').history('foreign'), 'x');
    const outcomes = await outcomesOf([
      log.append('a', [event('1')]),
      log.append('foreign', [event('2')]),
      log.append('b', [event('3')]),
    ]);
    assert.deepEqual(outcomes, ['kept', 'ERR_SSE_LOG_UNAVAILABLE', 'kept']);
    assert.deepEqual(textsIn(heard).slice(-2), ['a 1', 'b 3']);
  });

  it('is certainly refused for a topic that has ended, also where nobody knows what became of the others', async (t) => {
    const { redis, log } = await opened(t);
    await log.change('first', 'end');
    const waiting = new RedisLog(redis.client('b'), { wait: { replicas: 1, timeout: 20 } });
    t.after(() => waiting.close());
    const heard = new Heard();
    waiting.follow(heard);
    while (heard.epoch === 0) await sleep(5);
    const outcomes = await outcomesOf(['a', 'first'].map((topic) => waiting.append(topic, [event('1')])));
    assert.deepEqual(outcomes, ['ERR_SSE_OUTCOME_UNKNOWN', 'ERR_SSE_TOPIC_ENDED']);
  });

  it('comes before the end of its topic, where that was asked for later', async (t) => {
    const { log, heard } = await opened(t);
    await Promise.all([log.append('a', [event('1')]), log.change('a', 'end')]);
    assert.deepEqual(textsIn(heard).slice(1), ['a 1', 'a end']);
  });

  it('comes before what has an idempotency key, where that was appended later', async (t) => {
    const { log, heard } = await opened(t);
    const idempotency = { key: 'k', digest: 'd' };
    await Promise.all([log.append('a', [event('1')]), log.append('a', [event('2')], { idempotency })]);
    assert.deepEqual(textsIn(heard).slice(1), ['a 1', 'a 2']);
  });

  it('has an unknown outcome as a whole, where the answer is lost', async (t) => {
    const { redis, log, heard } = await opened(t, { appendTimeout: 200 });
    redis.network = {
      fate: (_node, [, script]) => (script === appendScript.sha ? 'unanswered' : 'done'),
    };
    const outcomes = await outcomesOf(['a', 'b'].map((topic) => log.append(topic, [event('1')])));
    assert.deepEqual(outcomes, ['ERR_SSE_OUTCOME_UNKNOWN', 'ERR_SSE_OUTCOME_UNKNOWN']);
    assert.deepEqual(textsIn(heard).slice(1), ['a 1', 'b 1']);
  });
});
