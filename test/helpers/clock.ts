// Time that stands still until a test moves it: for the `clock` option of every module that has one, or for
// globals.

import type { TestContext } from 'node:test';

/**
 * Puts a clock in the place of `performance.now`, of the timeouts and of the intervals, until the test ends.
 */
export function fakeTime(t: TestContext): FakeClock {
  const clock = new FakeClock(Math.ceil(performance.now()));
  const { clearTimeout } = globalThis;
  t.mock.method(performance, 'now', () => clock.now());
  t.mock.method(globalThis, 'setTimeout', (callback: () => void, delay: number) =>
    clock.setTimeout(callback, delay),
  );
  t.mock.method(globalThis, 'setInterval', (callback: () => void, interval: number) =>
    clock.setInterval(callback, interval),
  );
  // Timers from before the clock was put in place are real ones.
  const clear = (timer: NodeJS.Timeout) => (clock.owns(timer) ? clock.clear(timer) : clearTimeout(timer));
  t.mock.method(globalThis, 'clearTimeout', clear);
  t.mock.method(globalThis, 'clearInterval', clear);
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

  setTimeout(callback: () => void, delay: number): NodeJS.Timeout {
    return this.#add(new FakeTimer(callback, this.#time + delay, Infinity));
  }

  setInterval(callback: () => void, interval: number): NodeJS.Timeout {
    return this.#add(new FakeTimer(callback, this.#time + interval, interval));
  }

  clearInterval(timer: NodeJS.Timeout): void {
    this.clear(timer);
  }

  /** Stops a timer of either kind. */
  clear(timer: NodeJS.Timeout): void {
    this.#timers.delete(timer as unknown as FakeTimer);
  }

  owns(timer: unknown): boolean {
    return timer instanceof FakeTimer;
  }

  /** Moves on, and calls what falls due on the way, in order. */
  advance(duration: number): void {
    const end = this.#time + duration;
    for (let timer = this.#first(); timer !== undefined && timer.due <= end; timer = this.#first()) {
      this.#time = timer.due;
      timer.due += timer.interval;
      if (timer.due === Infinity) this.#timers.delete(timer);
      timer.callback();
    }
    this.#time = end;
  }

  /** Moves on in steps. After each, the event loop makes one turn, in which promises and sockets go on. */
  async pass(duration: number, step = 10): Promise<void> {
    for (const end = this.#time + duration; this.#time < end; ) {
      this.advance(Math.min(step, end - this.#time));
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  /** Moves on and calls nothing, as if the event loop were blocked for so long. */
  hang(duration: number): void {
    this.#time += duration;
    for (const timer of this.#timers) timer.due = Math.max(timer.due, this.#time);
  }

  #add(timer: FakeTimer): NodeJS.Timeout {
    this.#timers.add(timer);
    return timer as unknown as NodeJS.Timeout;
  }

  #first(): FakeTimer | undefined {
    let first: FakeTimer | undefined;
    for (const timer of this.#timers) if (first === undefined || timer.due < first.due) first = timer;
    return first;
  }
}

class FakeTimer {
  readonly callback: () => void;
  due: number;
  /** Infinity for a timeout. */
  readonly interval: number;
  holds = true;

  constructor(callback: () => void, due: number, interval: number) {
    this.callback = callback;
    this.due = due;
    this.interval = interval;
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
