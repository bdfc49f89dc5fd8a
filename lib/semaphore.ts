// Limits how many callers do something at once: gives out permits, and queues the callers that wait for one.
// Stands alone: copy this file by itself.

/** One of the permits that a {@link Semaphore} gives out. */
export interface Permit {
  /** Gives the permit back. Further calls do nothing. */
  release(): void;
}

export interface SemaphoreOptions {
  /** Callers that may wait at once; default `Infinity`. With 0, `acquire` rejects where it would wait. */
  maxWaiting?: number | undefined;
  /** Milliseconds that a caller may wait; default `Infinity`. */
  waitTimeout?: number | undefined;
}

/**
 * The error of `acquire` where it gives no permit. Where its signal aborts, it throws the signal's reason
 * instead.
 */
export interface SemaphoreError extends Error {
  readonly code: 'ERR_SSE_QUEUE_FULL' | 'ERR_SSE_WAIT_TIMEOUT';
}

const MAX_TIMEOUT = 2 ** 31 - 1;

interface Waiter {
  readonly deadline: number;
  readonly grant: () => void;
  readonly fail: (reason: unknown) => void;
}

/**
 * Gives out up to `capacity` permits. Callers that find none wait in a queue, first come, first served.
 *
 * A released permit goes straight to the caller that has waited longest, so `tryAcquire` cannot overtake the
 * queue.
 */
export class Semaphore {
  /** How many permits there are. */
  readonly capacity: number;
  readonly #maxWaiting: number;
  readonly #waitTimeout: number;
  // In the order of arrival, which is also the order of the deadlines: one timer serves all.
  readonly #queue: Set<Waiter> = new Set();
  #timer: NodeJS.Timeout | undefined;
  #taken = 0;
  #peak = 0;
  #granted = 0;
  #refused = 0;
  #expired = 0;
  #aborted = 0;

  /** @throws {RangeError} naming the option and its value. `capacity` may be `Infinity`. */
  constructor(capacity: number, options: SemaphoreOptions = {}) {
    const { maxWaiting = Infinity, waitTimeout = Infinity } = options;
    this.capacity = checkCount('capacity', capacity, 1);
    this.#maxWaiting = checkCount('maxWaiting', maxWaiting, 0);
    this.#waitTimeout = checkTimeout('waitTimeout', waitTimeout);
  }

  /** Permits that are not held now. */
  get available(): number {
    return this.capacity - this.#taken;
  }

  /** Permits held now. */
  get taken(): number {
    return this.#taken;
  }

  /** The most permits ever held at once. */
  get peak(): number {
    return this.#peak;
  }

  /** Callers that wait now. */
  get waiting(): number {
    return this.#queue.size;
  }

  /** Permits given so far. */
  get granted(): number {
    return this.#granted;
  }

  /** Calls of `acquire` rejected because `maxWaiting` others were waiting. */
  get refused(): number {
    return this.#refused;
  }

  /** Waits that ended with `waitTimeout`. */
  get expired(): number {
    return this.#expired;
  }

  /** Waits that ended because their signal aborted. */
  get aborted(): number {
    return this.#aborted;
  }

  /** Returns a permit if one is available now, else `undefined`. */
  tryAcquire(): Permit | undefined {
    return this.#taken < this.capacity ? this.#take() : undefined;
  }

  /**
   * Waits for a permit. Release it in a `finally` block: a permit that is never released is lost to all.
   *
   * Rejects with the signal's own reason, or with a {@link SemaphoreError}.
   */
  async acquire(options: { signal?: AbortSignal | undefined } = {}): Promise<Permit> {
    const { signal } = options;
    signal?.throwIfAborted();
    const permit = this.tryAcquire();
    if (permit !== undefined) return permit;
    if (this.#queue.size < this.#maxWaiting) return this.#wait(signal);
    this.#refused++;
    throw failure('ERR_SSE_QUEUE_FULL', `${this.#maxWaiting} callers already wait for a permit`);
  }

  #take(): Permit {
    this.#taken++;
    this.#granted++;
    if (this.#taken > this.#peak) this.#peak = this.#taken;
    return new HeldPermit(this.#giveBack);
  }

  readonly #giveBack = (): void => {
    this.#taken--;
    for (const first of this.#queue) return first.grant();
  };

  #wait(signal: AbortSignal | undefined): Promise<Permit> {
    return new Promise((resolve, reject) => {
      const leave = () => {
        this.#queue.delete(waiter);
        signal?.removeEventListener('abort', onAbort);
        if (this.#queue.size === 0) this.#arm();
      };
      const waiter: Waiter = {
        deadline: performance.now() + this.#waitTimeout,
        grant: () => {
          leave();
          resolve(this.#take());
        },
        fail: (reason) => {
          leave();
          reject(reason);
        },
      };
      const onAbort = () => {
        this.#aborted++;
        waiter.fail(signal?.reason);
      };
      signal?.addEventListener('abort', onAbort);
      this.#queue.add(waiter);
      if (this.#queue.size === 1) this.#arm();
    });
  }

  /** Sets the timer for the first deadline, or clears it when nobody waits. */
  #arm(): void {
    clearTimeout(this.#timer);
    if (this.#waitTimeout === Infinity) return;
    for (const { deadline } of this.#queue) {
      const wait = Math.max(1, Math.ceil(deadline - performance.now()));
      this.#timer = setTimeout(() => this.#expire(), wait);
      return;
    }
  }

  #expire(): void {
    const now = performance.now();
    for (const waiter of this.#queue) {
      if (waiter.deadline > now) break;
      this.#expired++;
      waiter.fail(failure('ERR_SSE_WAIT_TIMEOUT', `no permit became free within ${this.#waitTimeout} ms`));
    }
    this.#arm();
  }
}

/** One small object for each permit, and no closure: a server has as many as it has connections. */
class HeldPermit implements Permit {
  #giveBack: (() => void) | undefined;

  constructor(giveBack: () => void) {
    this.#giveBack = giveBack;
  }

  release(): void {
    const giveBack = this.#giveBack;
    this.#giveBack = undefined;
    giveBack?.();
  }
}

function failure(code: SemaphoreError['code'], message: string): SemaphoreError {
  return Object.assign(new Error(message), { code });
}

function checkCount(name: string, value: number, min: number): number {
  if ((Number.isInteger(value) && value >= min) || value === Infinity) return value;
  throw new RangeError(`\`${name}\` must be a whole number ≥ ${min} or Infinity, got ${value}`);
}

function checkTimeout(name: string, value: number): number {
  if ((value >= 0 && value <= MAX_TIMEOUT) || value === Infinity) return value;
  throw new RangeError(`\`${name}\` must be from 0 to ${MAX_TIMEOUT} milliseconds or Infinity, got ${value}`);
}
