import assert from 'node:assert/strict';
import { describe, it, mock, type TestContext } from 'node:test';
import { Backoff, type BackoffOptions } from '../lib/backoff.ts';

function fixRandom(t: TestContext, value: number): void {
  const random = mock.method(Math, 'random', () => value);
  t.after(() => random.mock.restore());
}

const delaysOf = (backoff: Backoff, requested: readonly (number | undefined)[]): number[] =>
  requested.map((ms) => backoff.nextDelay(ms));

describe('Backoff', () => {
  it('adds a random part to what the server asks for, and doubles its bound up to maxBackoffDelay', (t) => {
    fixRandom(t, 0.5);
    const backoff = new Backoff({ backoffDelay: 100, maxBackoffDelay: 300, minRetryDelay: 0 });
    assert.deepEqual(delaysOf(backoff, [undefined, 1000, 0, undefined]), [50, 1100, 150, 150]);
  });

  it('keeps what the server asks for between minRetryDelay and maxRetryDelay', () => {
    const backoff = new Backoff({ backoffDelay: 0, minRetryDelay: 10, maxRetryDelay: 20 });
    assert.deepEqual(delaysOf(backoff, [0, 15, 1000, Infinity]), [10, 15, 20, 20]);
  });

  it('is a time that a timer can wait, however often it has failed and whatever the server asks for', (t) => {
    fixRandom(t, 1);
    const steady = new Backoff({ backoffDelay: 0, minRetryDelay: 10 });
    assert.deepEqual(new Set(delaysOf(steady, Array(1100).fill(0))), new Set([10]));
    const longest = new Backoff({ maxRetryDelay: 2 ** 31 - 1 });
    assert.deepEqual(delaysOf(longest, [Infinity, Infinity]), [2 ** 31 - 1, 2 ** 31 - 1]);
  });

  it('doubles its bound only after failures in a row, and resets it after a healthy connection', (t) => {
    fixRandom(t, 1);
    const ended = { age: 0, hasDelivered: false, isOrderly: false };
    for (const [connection, isHealthy] of [
      [ended, false],
      [{ ...ended, isOrderly: true }, false],
      [{ ...ended, isOrderly: true, age: 999 }, false],
      [{ ...ended, isOrderly: true, age: 1000 }, true],
      [{ ...ended, age: 4999 }, false],
      [{ ...ended, age: 5000 }, true],
      [{ ...ended, hasDelivered: true }, true],
    ] as const) {
      const backoff = new Backoff({ backoffDelay: 1, minRetryDelay: 0, healthyAge: 5000 });
      assert.deepEqual(delaysOf(backoff, [undefined, undefined]), [1, 2]);
      backoff.connectionEnded(connection);
      assert.deepEqual(delaysOf(backoff, [undefined]), [isHealthy ? 1 : 4], JSON.stringify(connection));
    }
  });

  it('adds at most a quarter to what the server asks for, after a healthy connection', (t) => {
    fixRandom(t, 1);
    const backoff = new Backoff();
    for (const [requested, delay] of [
      [1000, 1250],
      [100, 313],
      [0, 313],
      [60_000, 61_000],
    ] as const) {
      backoff.connectionEnded({ age: 5000, hasDelivered: true, isOrderly: true });
      assert.equal(backoff.nextDelay(requested), delay);
    }
  });

  it('keeps to the longest of what the server asks for, in each of its ways', () => {
    const backoff = new Backoff({ backoffDelay: 0, minRetryDelay: 10 });
    assert.equal(backoff.nextDelay(1000, undefined), 1000);
    assert.equal(backoff.nextDelay(1000, 2000), 2000);
    assert.equal(backoff.nextDelay(undefined, 0), 10);
  });

  it('takes a connection for healthy after ten seconds, by default, however it ends', (t) => {
    fixRandom(t, 1);
    const backoff = new Backoff();
    const ended = { hasDelivered: false, isOrderly: false };
    assert.deepEqual(delaysOf(backoff, [undefined, undefined]), [1250, 2250]);
    backoff.connectionEnded({ ...ended, age: 9999 });
    assert.deepEqual(delaysOf(backoff, [undefined]), [4250]);
    backoff.connectionEnded({ ...ended, age: 10_000 });
    assert.deepEqual(delaysOf(backoff, [undefined]), [1250]);
  });

  it('waits from 250 ms to 1.25 s at first, by default', (t) => {
    fixRandom(t, 0);
    assert.equal(new Backoff().nextDelay(), 250);
    fixRandom(t, 1);
    assert.equal(new Backoff().nextDelay(), 1250);
  });

  for (const [options, message] of [
    [{ backoffDelay: Infinity }, /^RangeError: `backoffDelay` must be a number .* got Infinity$/],
    [{ maxBackoffDelay: 2 ** 31 }, /^RangeError: `maxBackoffDelay`/],
    [{ minRetryDelay: '1' as unknown as number }, /^RangeError: `minRetryDelay`/],
    [{ maxRetryDelay: -0.5 }, /^RangeError: `maxRetryDelay`/],
    [{ healthyAge: Number.NaN }, /^RangeError: `healthyAge`/],
  ] as [BackoffOptions, RegExp][]) {
    it(`names the option of ${JSON.stringify(options)}`, () => {
      assert.throws(() => new Backoff(options), message);
    });
  }
});
