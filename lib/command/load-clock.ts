// Measures whether this process itself was too slow: how late its timers are, and how busy it is.
// Needs `load-histogram.ts` beside it.

import { performance } from 'node:perf_hooks';
import { Histogram, type Percentiles } from './load-histogram.ts';

/** How this process did in one phase of a load; times in milliseconds. */
export interface Pace {
  readonly duration: number;
  /** How late its timers were. */
  readonly delay: Percentiles;
  /** The part of the time in which it was busy. */
  readonly utilization: number;
}

const TICK = 20;

export class Clock {
  readonly #delay = new Histogram();
  readonly #before = performance.eventLoopUtilization();
  readonly #timer: NodeJS.Timeout;
  readonly #began = performance.now();
  #due = performance.now() + TICK;

  constructor(onTick: () => void) {
    this.#timer = setInterval(() => {
      this.#measure();
      onTick();
    }, TICK);
  }

  stop(): Pace {
    clearInterval(this.#timer);
    // A timer that is overdue was not measured yet.
    if (performance.now() > this.#due) this.#measure();
    const { utilization } = performance.eventLoopUtilization(this.#before);
    return { duration: performance.now() - this.#began, delay: this.#delay.percentiles, utilization };
  }

  /** While one timer is late, those that would have come are late as well. */
  #measure(): void {
    const now = performance.now();
    for (let late = Math.max(0, now - this.#due); late >= 0; late -= TICK) this.#delay.record(late);
    this.#due = now + TICK;
  }
}
