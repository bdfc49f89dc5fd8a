import type { TestContext } from 'node:test';

/** The process's monotonic clock and its intervals, standing still until the test moves them. */
export interface FakeTime {
  /** The intervals that run now, in milliseconds. */
  readonly intervals: readonly number[];
  /** Moves on, calling on the way what falls due. */
  advance(duration: number): void;
}

interface Interval {
  readonly callback: () => void;
  readonly every: number;
  due: number;
  unref(): Interval;
}

/** Takes the place of `performance.now` and `setInterval` until the test ends. */
export function fakeTime(t: TestContext): FakeTime {
  let now = performance.now();
  const running = new Set<Interval>();
  t.mock.method(performance, 'now', () => now);
  t.mock.method(globalThis, 'setInterval', (callback: () => void, every: number) => {
    const interval: Interval = { callback, every, due: now + every, unref: () => interval };
    running.add(interval);
    return interval;
  });
  t.mock.method(globalThis, 'clearInterval', (interval: Interval) => running.delete(interval));
  const next = () => [...running].sort((a, b) => a.due - b.due)[0];
  return {
    get intervals() {
      return [...running].map(({ every }) => every);
    },
    advance(duration) {
      const end = now + duration;
      for (let interval = next(); interval !== undefined && interval.due <= end; interval = next()) {
        now = interval.due;
        interval.due += interval.every;
        interval.callback();
      }
      now = end;
    },
  };
}
