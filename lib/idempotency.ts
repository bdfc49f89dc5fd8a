// Does a thing once per key and remembers its outcome for a while, so that a retry gets it again.
// Stands alone: copy this file by itself.

export interface OnceOptions {
  /** Milliseconds for which an outcome is remembered; default 600,000. */
  maxAge?: number | undefined;
  /** Most outcomes remembered; default 10,000. The oldest make room. */
  capacity?: number | undefined;
  /** Milliseconds; default `Date.now`. */
  now?: (() => number) | undefined;
}

/**
 * For requests that are sent again because the answer was lost: whoever comes with the same key while the thing is
 * being done, or after, shares the one outcome. A failure is not remembered: there the retry is a new attempt.
 */
export class Once<T> {
  readonly #maxAge: number;
  readonly #capacity: number;
  readonly #now: () => number;
  // In the order of their beginning, which is the order of their expiry.
  readonly #outcomes: Map<string, { readonly outcome: Promise<T>; readonly startedAt: number }> = new Map();

  /** @throws {RangeError} naming the option that is not a number ≥ 1. */
  constructor(options: OnceOptions = {}) {
    const { maxAge = 600_000, capacity = 10_000, now = Date.now } = options;
    this.#maxAge = atLeast(1, 'maxAge', maxAge);
    this.#capacity = atLeast(1, 'capacity', capacity);
    this.#now = now;
  }

  /** How many outcomes are remembered. */
  get size(): number {
    return this.#outcomes.size;
  }

  /** The outcome under this key, made now if there is none. */
  run(key: string, act: () => Promise<T>): Promise<T> {
    this.#prune();
    const known = this.#outcomes.get(key);
    if (known !== undefined) return known.outcome;
    const outcome = act();
    const entry = { outcome, startedAt: this.#now() };
    this.#outcomes.set(key, entry);
    outcome.catch(() => {
      if (this.#outcomes.get(key) === entry) this.#outcomes.delete(key);
    });
    return outcome;
  }

  #prune(): void {
    const oldestAllowed = this.#now() - this.#maxAge;
    for (const [key, { startedAt }] of this.#outcomes) {
      if (startedAt > oldestAllowed && this.#outcomes.size < this.#capacity) return;
      this.#outcomes.delete(key);
    }
  }
}

function atLeast(least: number, name: string, value: number): number {
  if (typeof value === 'number' && value >= least) return value;
  throw new RangeError(`\`${name}\` must be a number ≥ ${least}, got ${value}`);
}
