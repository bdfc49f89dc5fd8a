import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { IdempotencyCache } from '../lib/idempotency.ts';

/** An action that counts its calls and resolves with the count. */
function counting(): () => Promise<number> {
  let calls = 0;
  return async () => ++calls;
}

function withReject<T>(): { promise: Promise<T>; reject: (reason: Error) => void } {
  let reject: (reason: Error) => void = assert.fail;
  const promise = new Promise<T>((_, fail) => {
    reject = fail;
  });
  return { promise, reject };
}

describe('IdempotencyCache', () => {
  it('acts once per key, for calls during the action and after it', async () => {
    const cache = new IdempotencyCache<number>();
    const act = counting();
    assert.deepEqual(await Promise.all([cache.run('a', act), cache.run('a', act)]), [1, 1]);
    assert.equal(await cache.run('a', act), 1);
    assert.equal(await cache.run('b', act), 2);
  });

  it('acts again after a failure, which all calls during the action share', async () => {
    const cache = new IdempotencyCache<string>();
    let calls = 0;
    const fail = async () => {
      calls++;
      throw new Error('no');
    };
    const outcomes = await Promise.allSettled([cache.run('a', fail), cache.run('a', fail)]);
    assert.deepEqual([outcomes.map(({ status }) => status), calls], [['rejected', 'rejected'], 1]);
    assert.equal(cache.size, 0);
    assert.equal(await cache.run('a', async () => 'yes'), 'yes');
  });

  it('drops the oldest outcome when there are `maxKeys`', async () => {
    const cache = new IdempotencyCache<number>({ maxKeys: 2 });
    const act = counting();
    for (const key of ['a', 'b', 'c']) await cache.run(key, act);
    assert.equal(cache.size, 2);
    assert.equal(await cache.run('a', act), 4);
  });

  it('drops nothing for a key that it holds, even when it is full', async () => {
    const cache = new IdempotencyCache<number>({ maxKeys: 2 });
    const act = counting();
    for (const key of ['a', 'b', 'b', 'a']) await cache.run(key, act);
    assert.deepEqual([await cache.run('a', act), await cache.run('b', act)], [1, 2]);
  });

  it('keeps a newer outcome when a dropped action fails', async () => {
    const cache = new IdempotencyCache<number>({ maxKeys: 1 });
    const act = counting();
    const { promise, reject } = withReject<number>();
    const dropped = cache.run('a', () => promise);
    for (const key of ['b', 'a']) await cache.run(key, act);
    reject(new Error('late'));
    await assert.rejects(dropped, { message: 'late' });
    assert.equal(await cache.run('a', act), 2);
  });

  it('drops outcomes that are older than `maxAge`', async () => {
    let now = 0;
    const cache = new IdempotencyCache<number>({ maxAge: 100, now: () => now });
    const act = counting();
    for (const key of ['a', 'b']) await cache.run(key, act);
    now = 99;
    assert.equal(await cache.run('a', act), 1);
    now = 100;
    assert.equal(await cache.run('a', act), 3);
    assert.equal(cache.size, 1);
  });

  it('rejects an option that is out of range, naming it and its value', () => {
    assert.throws(() => new IdempotencyCache({ maxKeys: 0 }), /`maxKeys` must be a number ≥ 1, got 0/);
    assert.throws(() => new IdempotencyCache({ maxAge: 0 }), /`maxAge` must be a number ≥ 1, got 0/);
  });
});
