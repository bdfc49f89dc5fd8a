// Time and chance of a simulation: stands in for the global timers, clocks and random numbers while a run lasts.
//
// Each timer belongs to the process that was running when it was set, also after any `await`: an
// `AsyncLocalStorage` carries the process along. A process that has crashed loses its timers.

import { AsyncLocalStorage } from 'node:async_hooks';

/** A simulated process. */
export interface Process {
  readonly name: string;
  /** It has crashed: its timers never fire. */
  isDead: boolean;
  /** Random numbers for its `Math.random`. */
  readonly random: () => number;
}

const real = {
  setTimeout: globalThis.setTimeout,
  clearTimeout: globalThis.clearTimeout,
  setInterval: globalThis.setInterval,
  clearInterval: globalThis.clearInterval,
  setImmediate: globalThis.setImmediate,
  clearImmediate: globalThis.clearImmediate,
  dateNow: Date.now,
  performanceNow: performance.now,
  random: Math.random,
};

/** Whole milliseconds. The clock of `performance` begins later than any that a module has read when loaded. */
const START = 1_795_408_776_000;
const PERFORMANCE_START = 1_000_000_000;

class Timer {
  readonly callback: (...args: unknown[]) => void;
  readonly args: unknown[];
  readonly owner: Process | undefined;
  /** Undefined where it fires once. */
  readonly interval: number | undefined;
  due: number;
  order: number;
  isActive = true;

  constructor(
    callback: (...args: unknown[]) => void,
    args: unknown[],
    owner: Process | undefined,
    due: number,
    order: number,
    interval: number | undefined,
  ) {
    this.callback = callback;
    this.args = args;
    this.owner = owner;
    this.due = due;
    this.order = order;
    this.interval = interval;
  }

  ref(): this {
    return this;
  }

  unref(): this {
    return this;
  }

  hasRef(): boolean {
    return true;
  }
}

// One for all clocks: each costs every promise a little.
const processes = new AsyncLocalStorage<Process | undefined>();

/** A clock that stands still until the next thing falls due. One is installed at a time. */
export class Clock {
  readonly #heap: Timer[] = [];
  readonly #random: () => number;
  #time = 0;
  #order = 0;
  /** How many timers have fired. */
  steps = 0;

  constructor(random: () => number) {
    this.#random = random;
  }

  /** Milliseconds since the beginning. */
  get time(): number {
    return this.#time;
  }

  /** Runs a function as a part of a process, and all that follows from it. */
  as<T>(process: Process, act: () => T): T {
    return processes.run(process, act);
  }

  /** Runs a function as a part of the world outside of all processes. */
  readonly outside = <T>(act: () => T): T => processes.run(undefined, act);

  get running(): Process | undefined {
    return processes.getStore();
  }

  /** Calls a function later, whichever process asks for it. */
  later(delay: number, act: () => void): Timer {
    return this.#add(act, [], undefined, delay, undefined);
  }

  install(): void {
    const global = globalThis as unknown as Record<string, unknown>;
    type Callback = (...args: unknown[]) => void;
    global.setTimeout = (callback: Callback, delay: unknown, ...args: unknown[]) =>
      this.#add(callback, args, this.#ownerOf(callback), atLeastOne(delay), undefined);
    global.setInterval = (callback: Callback, delay: unknown, ...args: unknown[]) =>
      this.#add(callback, args, this.#ownerOf(callback), atLeastOne(delay), atLeastOne(delay));
    global.setImmediate = (callback: Callback, ...args: unknown[]) =>
      this.#add(callback, args, this.running, 0, undefined);
    global.clearTimeout = global.clearInterval = (timer: unknown) => {
      if (timer instanceof Timer) timer.isActive = false;
      else real.clearTimeout(timer as NodeJS.Timeout);
    };
    global.clearImmediate = (timer: unknown) => {
      if (timer instanceof Timer) timer.isActive = false;
      else real.clearImmediate(timer as NodeJS.Immediate);
    };
    Date.now = () => START + Math.floor(this.#time);
    performance.now = () => PERFORMANCE_START + this.#time;
    Math.random = () => (this.running?.random ?? this.#random)();
  }

  uninstall(): void {
    const { dateNow, performanceNow, random, ...timers } = real;
    Object.assign(globalThis, timers);
    Date.now = dateNow;
    performance.now = performanceNow;
    Math.random = random;
  }

  /** Lets time pass: calls what falls due, one after the other, and lets promises go on after each. */
  async run(duration: number, isOver: () => boolean = () => false): Promise<void> {
    const end = this.#time + duration;
    await drained();
    for (
      let timer = this.#heap[0];
      timer !== undefined && timer.due <= end && !isOver();
      timer = this.#heap[0]
    ) {
      this.#pop();
      if (!timer.isActive || timer.owner?.isDead) continue;
      this.#time = Math.max(this.#time, timer.due);
      this.steps++;
      if (timer.interval === undefined) timer.isActive = false;
      else this.#push(timer, timer.interval);
      processes.run(timer.owner, timer.callback, ...timer.args);
      await drained();
    }
    this.#time = end;
  }

  // The writers of all nodes share one timer, because they share a module: it survives each of them.
  #ownerOf(callback: (...args: unknown[]) => void): Process | undefined {
    return callback.name === 'sweepAll' ? undefined : this.running;
  }

  #add(
    callback: (...args: unknown[]) => void,
    args: unknown[],
    owner: Process | undefined,
    delay: number,
    interval: number | undefined,
  ): Timer {
    const timer = new Timer(callback, args, owner, 0, 0, interval);
    this.#push(timer, delay);
    return timer;
  }

  // A binary heap by time, and by order within a moment.
  #push(timer: Timer, delay: number): void {
    timer.due = this.#time + delay;
    timer.order = ++this.#order;
    const heap = this.#heap;
    let at = heap.push(timer) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isBefore(timer, heap[parent]!)) break;
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = timer;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop()!;
    if (heap.length === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child++;
      if (!isBefore(heap[child]!, last)) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = last;
  }
}

/** Promises, ticks and what follows from them have run. */
export function drained(): Promise<void> {
  return new Promise((resolve) => real.setImmediate(resolve));
}

function isBefore(one: Timer, other: Timer): boolean {
  return one.due < other.due || (one.due === other.due && one.order < other.order);
}

function atLeastOne(delay: unknown): number {
  return typeof delay === 'number' && delay >= 1 ? delay : 1;
}
