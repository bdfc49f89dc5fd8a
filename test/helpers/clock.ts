// Time that stands still until a test moves it. Fits the `clock` option of every module that has one.

export class FakeClock {
  #time = 0;
  readonly #timers: Set<FakeTimer> = new Set();

  now(): number {
    return this.#time;
  }

  /** How many timers run. */
  get timers(): number {
    return this.#timers.size;
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

  /** Moves on, calling what falls due on the way, in order. */
  advance(duration: number): void {
    const end = this.#time + duration;
    for (let timer = this.#first(); timer !== undefined && timer.due <= end; timer = this.#first()) {
      this.#time = timer.due;
      timer.due += timer.interval;
      timer.callback();
    }
    this.#time = end;
  }

  /** Moves on without calling anything: the event loop was held up. */
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
