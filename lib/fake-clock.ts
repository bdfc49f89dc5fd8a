// Time that stands still until a test moves it: for all timers of a process, or for the `clock` of one object.
// Stands alone: copy this file by itself.

import { setImmediate } from 'node:timers';

const MAX_DELAY = 2 ** 31 - 1;

let installed: FakeClock | undefined;

/**
 * A clock with timers. Made with `new`, it is an object for options such as `clock` of `Heartbeat`. Made with
 * `install`, it stands in for the time of the process.
 */
export class FakeClock {
  readonly #timers: Set<FakeTimer> = new Set();
  readonly #replaced: Replaced[] = [];
  #time: number;

  /** `time`: what `now()` returns at first. */
  constructor(time = 0) {
    if (!Number.isFinite(time)) throw new RangeError(`\`time\` must be a number, got ${time}`);
    this.#time = time;
  }

  /**
   * Replaces the globals `setTimeout`, `setInterval`, `clearTimeout`, `clearInterval`, `Date.now` and
   * `performance.now` until `uninstall`. They go on from the present time. All modules of sluice read them when
   * they need them, so their heartbeats, deadlines, ages and delays follow this clock.
   *
   * `setImmediate`, sockets, `new Date()` and what is imported from `node:timers` stay real. Timers that were
   * set before stay real as well. One that is set on this clock never fires after `uninstall`: close first
   * what has set it.
   *
   * Other fake timers may be installed before or meanwhile, and taken away in any order: `uninstall` puts back
   * what is still this clock's, and what is left of it elsewhere calls the real functions from then on.
   *
   * @throws {Error} when one is installed already.
   */
  static install(): FakeClock {
    if (installed !== undefined)
      throw new Error('a FakeClock is installed already: call its `uninstall()` first');
    const clock = new FakeClock(Math.ceil(performance.now()));
    const dateOfZero = Date.now() - clock.#time;
    const { setTimeout, setInterval, clearTimeout } = globalThis;
    const [dateNow, performanceNow] = [Date.now, performance.now];
    const isOn = (): boolean => installed === clock;
    const clear = (timer: NodeJS.Timeout | undefined): void =>
      timer instanceof FakeTimer ? clock.clear(timer) : clearTimeout(timer);
    const set = (callback: Callback, delay?: number, ...args: unknown[]): NodeJS.Timeout =>
      isOn() ? clock.setTimeout(callback, delay, ...args) : setTimeout(callback, delay, ...args);
    const wait = (delay?: number, value?: unknown): Promise<unknown> =>
      new Promise((resolve) => set(resolve, delay, value));
    clock.#replace(globalThis, {
      // What `promisify(setTimeout)` returns.
      setTimeout: Object.assign(set, { [Symbol.for('nodejs.util.promisify.custom')]: wait }),
      setInterval: (callback: Callback, delay?: number, ...args: unknown[]) =>
        isOn() ? clock.setInterval(callback, delay, ...args) : setInterval(callback, delay, ...args),
      clearTimeout: clear,
      clearInterval: clear,
    });
    clock.#replace(Date, { now: () => (isOn() ? Math.floor(dateOfZero + clock.#time) : dateNow()) });
    clock.#replace(performance, { now: () => (isOn() ? clock.#time : performanceNow.call(performance)) });
    installed = clock;
    return clock;
  }

  /** Puts the real globals back. Does nothing where the clock is not installed. */
  uninstall(): void {
    if (installed !== this) return;
    installed = undefined;
    for (const { object, name, value, before } of this.#replaced.splice(0)) {
      // Others have replaced it since, and may put it back.
      const present = Object.getOwnPropertyDescriptor(object, name);
      if (present !== undefined && present.value !== value) continue;
      if (before === undefined) Reflect.deleteProperty(object, name);
      else Object.defineProperty(object, name, before);
    }
  }

  [Symbol.dispose](): void {
    this.uninstall();
  }

  /** Milliseconds, as `performance.now`. */
  now(): number {
    return this.#time;
  }

  /** How many timers run. */
  get timers(): number {
    return this.#timers.size;
  }

  /** The intervals of the timers that run; `Infinity` for a timeout. */
  get intervals(): number[] {
    return [...this.#timers].map(({ interval }) => interval);
  }

  /** Whether any of them would keep the process alive. */
  get holds(): boolean {
    return [...this.#timers].some((timer) => timer.hasRef());
  }

  setTimeout(callback: Callback, delay?: number, ...args: unknown[]): NodeJS.Timeout {
    return this.#add(callback, args, delayOf(delay), Infinity);
  }

  setInterval(callback: Callback, delay?: number, ...args: unknown[]): NodeJS.Timeout {
    return this.#add(callback, args, delayOf(delay), delayOf(delay));
  }

  clearInterval(timer: NodeJS.Timeout | undefined): void {
    this.clear(timer);
  }

  /** Stops a timer of either kind. */
  clear(timer: NodeJS.Timeout | undefined): void {
    timer?.close();
  }

  /**
   * Moves on, and calls what falls due on the way, in order. Promises and sockets go on after the call.
   *
   * @throws {RangeError} when `duration` is no number ≥ 0, as `pass` and `hang` do.
   */
  advance(duration: number): void {
    const end = this.#time + checkDuration(duration);
    for (let timer = this.#first(); timer !== undefined && timer.due <= end; timer = this.#first()) {
      this.#time = timer.due;
      timer.due += timer.interval;
      if (timer.due === Infinity) this.#timers.delete(timer);
      timer.callback(...timer.args);
    }
    // A callback may have moved the clock further by itself.
    this.#time = Math.max(this.#time, end);
  }

  /** Moves on in steps. After each, the event loop makes one turn, in which promises and sockets go on. */
  async pass(duration: number, step = 10): Promise<void> {
    if (!(step > 0)) throw new RangeError(`\`step\` must be a number of milliseconds above 0, got ${step}`);
    for (const end = this.#time + checkDuration(duration); this.#time < end; ) {
      this.advance(Math.min(step, end - this.#time));
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  /** Moves on and calls nothing, as if the event loop were blocked for so long. */
  hang(duration: number): void {
    this.#time += checkDuration(duration);
    for (const timer of this.#timers) timer.due = Math.max(timer.due, this.#time);
  }

  #add(callback: Callback, args: readonly unknown[], delay: number, interval: number): NodeJS.Timeout {
    if (typeof callback !== 'function')
      throw new TypeError(`\`callback\` must be a function, got ${String(callback)}`);
    const start = (timer: FakeTimer): void => {
      timer.due = this.#time + delay;
      this.#timers.add(timer);
    };
    const stop = (timer: FakeTimer): boolean => this.#timers.delete(timer);
    const timer = new FakeTimer({ callback, args, interval, start, stop });
    start(timer);
    return timer as unknown as NodeJS.Timeout;
  }

  #first(): FakeTimer | undefined {
    let first: FakeTimer | undefined;
    for (const timer of this.#timers) if (first === undefined || timer.due < first.due) first = timer;
    return first;
  }

  #replace(object: object, members: Readonly<Record<string, object>>): void {
    for (const [name, value] of Object.entries(members)) {
      const before = Object.getOwnPropertyDescriptor(object, name);
      // The fake timers of Sinon, Jest and Vitest look for their marks, and delete a global that has none.
      Object.assign(value, { ...before?.value, ...value });
      Object.defineProperty(object, name, { value, configurable: true, writable: true, enumerable: true });
      this.#replaced.push({ object, name, value, before });
    }
  }
}

interface Replaced {
  readonly object: object;
  readonly name: string;
  readonly value: unknown;
  /** `undefined`: the object has inherited it. */
  readonly before: PropertyDescriptor | undefined;
}

function checkDuration(duration: number): number {
  if (Number.isFinite(duration) && duration >= 0) return duration;
  throw new RangeError(`\`duration\` must be a number of milliseconds ≥ 0, got ${duration}`);
}

// biome-ignore lint/suspicious/noExplicitAny: what timers are given.
type Callback = (...args: any[]) => void;

/** As Node reads a delay, which may be the text of a number: what is none from 1 to 2³¹ − 1 is 1. */
function delayOf(delay: number | undefined): number {
  const ms = Math.trunc(Number(delay));
  return ms >= 1 && ms <= MAX_DELAY ? ms : 1;
}

interface TimerParts {
  readonly callback: Callback;
  readonly args: readonly unknown[];
  /** Infinity for a timeout. */
  readonly interval: number;
  readonly start: (timer: FakeTimer) => void;
  readonly stop: (timer: FakeTimer) => void;
}

/** Has the members of Node's `Timeout`. */
class FakeTimer {
  readonly callback: Callback;
  readonly args: readonly unknown[];
  readonly interval: number;
  due = 0;
  readonly #start: (timer: FakeTimer) => void;
  readonly #stop: (timer: FakeTimer) => void;
  #hasRef = true;
  #isClosed = false;

  constructor({ callback, args, interval, start, stop }: TimerParts) {
    this.callback = callback;
    this.args = args;
    this.interval = interval;
    this.#start = start;
    this.#stop = stop;
  }

  ref(): this {
    this.#hasRef = true;
    return this;
  }

  unref(): this {
    this.#hasRef = false;
    return this;
  }

  hasRef(): boolean {
    return this.#hasRef;
  }

  refresh(): this {
    if (!this.#isClosed) this.#start(this);
    return this;
  }

  close(): this {
    this.#isClosed = true;
    this.#stop(this);
    return this;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
