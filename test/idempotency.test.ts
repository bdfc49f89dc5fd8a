import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Once } from '../lib/idempotency.ts';

describe('Once', () => {
  it('does a thing once, for those who come meanwhile and those who come later', async () => {
    const once = new Once<number>();
    let done = 0;
    const act = async () => ++done;
    assert.deepEqual(await Promise.all([once.run('a', act), once.run('a', act)]), [1, 1]);
    assert.equal(await once.run('a', act), 1);
    assert.equal(await once.run('b', act), 2);
  });

  it('tries again after a failure', async () => {
    const once = new Once<string>();
    await assert.rejects(
      once.run('a', async () => {
        throw new Error('no');
      }),
      { message: 'no' },
    );
    assert.equal(await once.run('a', async () => 'yes'), 'yes');
  });

  it('forgets what is old, and the oldest when there is too much', async () => {
    let now = 0;
    const once = new Once<number>({ maxAge: 100, capacity: 2, now: () => now });
    let done = 0;
    const act = async () => ++done;
    for (const key of ['a', 'b', 'c']) await once.run(key, act);
    assert.equal(once.size, 2);
    assert.equal(await once.run('c', act), 3);
    now = 200;
    assert.equal(await once.run('c', act), 4);
    assert.equal(once.size, 1);
  });

  it('names the option that is out of range', () => {
    assert.throws(() => new Once({ capacity: 0 }), /`capacity` must be a number ≥ 1, got 0/);
  });
});
