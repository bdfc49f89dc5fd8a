// Computes how long a client waits before it reconnects: the server's delay, and a random part that grows.
// Stands alone: copy this file by itself. Runs in Node, browsers, workers, Deno and Bun.

export interface BackoffOptions {
  /** Milliseconds: the upper bound of the first random wait; each failure doubles it. Default 1 s. */
  readonly backoffDelay?: number | undefined;
  /** Milliseconds: the bound is doubled no further than this. Default 30 s. */
  readonly maxBackoffDelay?: number | undefined;
  /** Milliseconds: a connection that lived this long resets the bound. Default 60 s; `Infinity`: never. */
  readonly healthyAge?: number | undefined;
  /**
   * Milliseconds: the shortest wait, where the server asks (`retry:`, `Retry-After`) for less. Default 250.
   */
  readonly minRetryDelay?: number | undefined;
  /** Milliseconds: the longest wait that the server can ask for. Default 10 minutes. */
  readonly maxRetryDelay?: number | undefined;
}

const DEFAULTS = {
  backoffDelay: 1000,
  maxBackoffDelay: 30_000,
  healthyAge: 60_000,
  minRetryDelay: 250,
  maxRetryDelay: 600_000,
};
// The longest time that a timer can wait.
const MAX_DELAY = 2 ** 31 - 1;

/** The delays of one client. */
export class Backoff {
  readonly #limits: typeof DEFAULTS;
  #failures = 0;

  /** @throws {RangeError} naming the option that is out of its range. */
  constructor(options: BackoffOptions = {}) {
    this.#limits = { ...DEFAULTS };
    for (const name of Object.keys(DEFAULTS) as (keyof typeof DEFAULTS)[]) {
      this.#limits[name] = checkDelay(name, options[name] ?? DEFAULTS[name]);
    }
  }

  /** Milliseconds to wait after one more failure; `requested` is the delay that the server has asked for. */
  nextDelay(requested: number): number {
    const { backoffDelay, maxBackoffDelay, minRetryDelay, maxRetryDelay } = this.#limits;
    const floor = Math.min(Math.max(requested, minRetryDelay), maxRetryDelay);
    const bound = Math.min(backoffDelay * 2 ** this.#failures++, maxBackoffDelay);
    // Full jitter: anywhere between nothing and the bound, so that clients do not all return at once.
    return Math.round(floor + Math.random() * bound);
  }

  /**
   * Records that a connection has ended at this age, in milliseconds. From `healthyAge` on it resets the
   * bound.
   */
  connectionEnded(age: number): void {
    if (age >= this.#limits.healthyAge) this.#failures = 0;
  }
}

function checkDelay(name: string, value: number): number {
  if (value === Number.POSITIVE_INFINITY && name === 'healthyAge') return value;
  if (typeof value === 'number' && value >= 0 && value <= MAX_DELAY) return value;
  throw new RangeError(
    `\`${name}\` must be a number of milliseconds from 0 to ${MAX_DELAY}, got ${String(value)}`,
  );
}
