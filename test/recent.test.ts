import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Recent } from '../lib/recent.ts';
import { fakeTime } from './helpers/clock.ts';

describe('Recent', () => {
  it('keeps how many were counted in a second, and levels as they are, every five seconds', (t) => {
    const clock = fakeTime(t);
    let [count, level] = [1000, 5];
    const recent = new Recent({ counts: { published: () => count }, levels: { streams: () => level } });
    recent.start();
    assert.deepEqual(recent.report().figures, { published: [], streams: [] });
    count += 35;
    level = 3;
    clock.advance(5000);
    count += 1;
    clock.advance(9999);
    const { interval, until, figures } = recent.report();
    assert.deepEqual(figures, { published: [7, 0.2], streams: [3, 3] });
    assert.deepEqual([interval, Date.now() - Date.parse(until)], [5000, 4999]);
    recent.stop();
    assert.equal(clock.timers, 0);
  });

  it('keeps ten minutes by default, and else as many as it is told', (t) => {
    const clock = fakeTime(t);
    let level = 0;
    for (const [options, kept] of [
      [{}, 120],
      [{ length: 3, interval: 1 }, 3],
    ] as const) {
      level = 0;
      const recent = new Recent({ ...options, levels: { level: () => ++level } });
      recent.start();
      clock.advance(200 * recent.report().interval);
      const wanted = Array.from({ length: kept }, (_, i) => 201 - kept + i);
      assert.deepEqual(recent.report().figures, { level: wanted });
      recent.stop();
    }
  });

  it('takes nothing once it is stopped, and begins anew when it is started again', (t) => {
    const clock = fakeTime(t);
    const recent = new Recent({ levels: { level: () => 1 } });
    recent.start();
    clock.advance(10_000);
    recent.stop();
    const kept = recent.report();
    clock.advance(10_000);
    assert.deepEqual([recent.report(), kept.figures], [kept, { level: [1, 1] }]);
    recent.start();
    assert.deepEqual(recent.report().figures, { level: [] });
    recent.stop();
  });

  it('counts what cannot be read as 0, and a count that begins anew as none', (t) => {
    const clock = fakeTime(t);
    let count = 100;
    const thrown = (): number => {
      throw new Error('not now');
    };
    const recent = new Recent({ counts: { count: () => count }, levels: { thrown, none: () => Number.NaN } });
    recent.start();
    count = 0;
    clock.advance(5000);
    assert.deepEqual(recent.report().figures, { count: [0], thrown: [0], none: [0] });
    recent.stop();
  });

  it('measures a rate by the time that has passed when its timer is late', (t) => {
    const clock = fakeTime(t);
    let count = 0;
    const recent = new Recent({ counts: { count: () => count } });
    recent.start();
    count = 100;
    clock.hang(10_000);
    clock.advance(0);
    assert.deepEqual(recent.report().figures, { count: [10] });
    recent.stop();
  });

  it('refuses intervals and lengths that cannot be', () => {
    for (const interval of [0, 1.5, 2 ** 31, Number.NaN])
      assert.throws(() => new Recent({ interval }), /^RangeError: `interval` must be a whole number/);
    for (const length of [0, -1, 2.5])
      assert.throws(() => new Recent({ length }), /^RangeError: `length` must be a whole number ≥ 1, got/);
  });
});
