// Keeps the outcome of an action under a key for a while, so that a repeated request gets the same outcome.
// Stands alone: copy this file by itself.

export interface IdempotencyCacheOptions {
  /** Milliseconds for which an outcome is kept; default 600,000. */
  maxAge?: number | undefined;
  /** Most keys kept; default 10,000. A new one then replaces the oldest. */
  maxKeys?: number | undefined;
  /** Returns the time in milliseconds; default `Date.now`. */
  now?: (() => number) | undefined;
}

/**
 * For clients that send a request again because they did not get the answer: all calls with one key, during
 * the action and after it, share its one outcome. Failures are not kept: the next call with the key acts
 * again.
 */
export class IdempotencyCache<T> {
  readonly #maxAge: number;
  readonly #maxKeys: number;
  readonly #now: () => number;
  // In the order in which the actions began, which is the order of expiry.
  readonly #outcomes: Map<string, { readonly outcome: Promise<T>; readonly startedAt: number }> = new Map();

  /** @throws {RangeError} naming the option that is not a number ≥ 1. */
  constructor(options: IdempotencyCacheOptions = {}) {
    const { maxAge = 600_000, maxKeys = 10_000, now = Date.now } = options;
    this.#maxAge = atLeast(1, 'maxAge', maxAge);
    this.#maxKeys = atLeast(1, 'maxKeys', maxKeys);
    this.#now = now;
  }

  /** How many keys are kept. */
  get size(): number {
    return this.#outcomes.size;
  }

  /** Returns the outcome kept under the key; where there is none, calls `act` and keeps its outcome. */
  run(key: string, act: () => Promise<T>): Promise<T> {
    this.#dropExpired();
    const known = this.#outcomes.get(key);
    if (known !== undefined) return known.outcome;
    this.#makeRoom();
    const outcome = act();
    const entry = { outcome, startedAt: this.#now() };
    this.#outcomes.set(key, entry);
    outcome.catch(() => {
      if (this.#outcomes.get(key) === entry) this.#outcomes.delete(key);
    });
    return outcome;
  }

  #dropExpired(): void {
    const oldestAllowed = this.#now() - this.#maxAge;
    for (const [key, { startedAt }] of this.#outcomes) {
      if (startedAt > oldestAllowed) return;
      this.#outcomes.delete(key);
    }
  }

  #makeRoom(): void {
    for (const oldest of this.#outcomes.keys()) {
      if (this.#outcomes.size < this.#maxKeys) return;
      this.#outcomes.delete(oldest);
    }
  }
}

function atLeast(least: number, name: string, value: number): number {
  if (typeof value === 'number' && value >= least) return value;
  throw new RangeError(`\`${name}\` must be a number ≥ ${least}, got ${value}`);
}
