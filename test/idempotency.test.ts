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

  it('acts once while an action takes longer than `maxAge`', async () => {
    let now = 0;
    const cache = new IdempotencyCache<number>({ maxAge: 10, now: () => now });
    let finish = (_: number): void => assert.fail();
    const slow = new Promise<number>((resolve) => {
      finish = resolve;
    });
    const first = cache.run('a', () => slow);
    now = 20;
    const second = cache.run('a', assert.fail);
    finish(1);
    assert.deepEqual(await Promise.all([first, second]), [1, 1]);
    assert.equal(await cache.run('a', async () => 2), 2);
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

  it('rejects a key that is kept for something else, during the action and after it, and acts once', async () => {
    const cache = new IdempotencyCache<number>();
    const act = counting();
    const conflict = { code: 'ERR_SSE_IDEMPOTENCY_CONFLICT', status: 422, message: /Idempotency-Key/ };
    const first = cache.run('a', act, 'one');
    await assert.rejects(cache.run('a', act, 'two'), conflict);
    assert.equal(await first, 1);
    await assert.rejects(cache.run('a', act, 'two'), conflict);
    assert.equal(await cache.run('a', act, 'one'), 1);
  });

  it('keeps at most `maxBytes`, keys and entries included, and always the newest', async () => {
    const cache = new IdempotencyCache<string>({ maxBytes: 10_000, bytesOf: (text) => 2 * text.length });
    for (let i = 0; i < 100; i++) {
      await cache.run(`${i}`.padStart(100, '0'), async () => 'x'.repeat(200));
      assert.ok(cache.bytes <= 10_000);
    }
    assert.equal(cache.size, 10);
    assert.equal(cache.bytes, 10 * (400 + 200 + 400));
    await cache.run('large', async () => 'x'.repeat(10_000));
    assert.equal(cache.size, 1);
    assert.equal(await cache.run('large', assert.fail), 'x'.repeat(10_000));
  });

  it('counts nothing for what it has dropped', async () => {
    let now = 0;
    const cache = new IdempotencyCache<number>({ maxAge: 100, now: () => now });
    await assert.rejects(cache.run('a', () => Promise.reject(new Error('no'))));
    assert.deepEqual([cache.size, cache.bytes], [0, 0]);
    for (const key of ['a', 'b']) await cache.run(key, async () => 1);
    now = 100;
    await cache.run('c', async () => 1);
    assert.deepEqual([cache.size, cache.bytes], [1, 402]);
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
    assert.throws(() => new IdempotencyCache({ maxBytes: 0 }), /`maxBytes` must be a number ≥ 1, got 0/);
    assert.throws(() => new IdempotencyCache({ maxAge: 0 }), /`maxAge` must be a number ≥ 1, got 0/);
  });
});
