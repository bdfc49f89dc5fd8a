// Time that stands still until a test moves it: for the `clock` option of every module that has one, or for
// globals.

import type { TestContext } from 'node:test';

/** Puts a clock in the place of `performance.now` and of the intervals, until the test ends. */
export function fakeTime(t: TestContext): FakeClock {
  const clock = new FakeClock(performance.now());
  t.mock.method(performance, 'now', () => clock.now());
  t.mock.method(globalThis, 'setInterval', (callback: () => void, interval: number) =>
    clock.setInterval(callback, interval),
  );
  t.mock.method(globalThis, 'clearInterval', (timer: NodeJS.Timeout) => clock.clearInterval(timer));
  return clock;
}

export class FakeClock {
  #time: number;
  readonly #timers: Set<FakeTimer> = new Set();

  constructor(time = 0) {
    this.#time = time;
  }

  now(): number {
    return this.#time;
  }

  /** How many timers run. */
  get timers(): number {
    return this.#timers.size;
  }

  /** The intervals of the timers that run, in milliseconds. */
  get intervals(): number[] {
    return [...this.#timers].map(({ interval }) => interval);
  }

  /** Whether any of them would keep the process alive. */
  get holds(): boolean {
    return [...this.#timers].some((timer) => timer.holds);
  }

  setInterval(callback: () => void, interval: number): NodeJS.Timeout {
    const timer = new FakeTimer(callback, interval, this.#time);
    this.#timers.add(timer);
    return timer as unknown as NodeJS.Timeout;
  }

  clearInterval(timer: NodeJS.Timeout): void {
    this.#timers.delete(timer as unknown as FakeTimer);
  }

  /** Moves on, and calls what falls due on the way, in order. */
  advance(duration: number): void {
    const end = this.#time + duration;
    for (let timer = this.#first(); timer !== undefined && timer.due <= end; timer = this.#first()) {
      this.#time = timer.due;
      timer.due += timer.interval;
      timer.callback();
    }
    this.#time = end;
  }

  /** Moves on and calls nothing, as if the event loop were blocked for so long. */
  hang(duration: number): void {
    this.#time += duration;
    for (const timer of this.#timers) timer.due = Math.max(timer.due, this.#time);
  }

  #first(): FakeTimer | undefined {
    let first: FakeTimer | undefined;
    for (const timer of this.#timers) if (first === undefined || timer.due < first.due) first = timer;
    return first;
  }
}

class FakeTimer {
  readonly callback: () => void;
  readonly interval: number;
  due: number;
  holds = true;

  constructor(callback: () => void, interval: number, now: number) {
    this.callback = callback;
    this.interval = interval;
    this.due = now + interval;
  }

  unref(): this {
    this.holds = false;
    return this;
  }

  ref(): this {
    this.holds = true;
    return this;
  }
}
