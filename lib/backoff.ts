// Computes how long a client waits before it reconnects: the server's delay, and a random part that grows.
// Stands alone: copy this file by itself. Runs in Node, browsers, workers, Deno and Bun.

export interface BackoffOptions {
  /** Milliseconds: the upper bound of the first random wait; each failure doubles it. Default 1 s. */
  readonly backoffDelay?: number | undefined;
  /** Milliseconds: the bound is doubled no further than this. Default 30 s. */
  readonly maxBackoffDelay?: number | undefined;
  /**
   * Milliseconds: a connection that lived this long resets the bound, also where it brought no event and
   * broke. Default 10 s; `Infinity`: never.
   */
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
  healthyAge: 10_000,
  minRetryDelay: 250,
  maxRetryDelay: 600_000,
};
// The longest time that a timer can wait.
const MAX_DELAY = 2 ** 31 - 1;
// A stream that is ended sooner, and brought no event, comes from a server that accepts and does not serve.
const MIN_ORDERLY_AGE = 1000;
// The random part of the first wait is at most this part of what the server asks for. So a server that ends
// each stream after 5 s with `retry: 1000` is read for at least 80 % of the time.
const FIRST_SPREAD = 0.25;

/** How a connection went that had an event stream. */
export interface EndedConnection {
  /** Milliseconds from the request to the end. */
  readonly age: number;
  /** Whether it brought an event of the application. */
  readonly hasDelivered: boolean;
  /** Whether the server ended the response, rather than that the connection broke or was silent. */
  readonly isOrderly: boolean;
}

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

  /**
   * Milliseconds to wait before the next attempt; `requested` are the delays that the server has asked for, where
   * it has: the longest counts. It may ask for 0.
   *
   * The first wait after a healthy connection is what the server asks for and a small random part. Each
   * further one without a healthy connection in between doubles the bound of the random part.
   */
  nextDelay(...requested: readonly (number | undefined)[]): number {
    const { backoffDelay, maxBackoffDelay, minRetryDelay, maxRetryDelay } = this.#limits;
    const asked = requested.filter((delay) => delay !== undefined);
    const floor = Math.min(Math.max(minRetryDelay, ...asked), maxRetryDelay);
    const isFirst = this.#failures === 0 && asked.length > 0;
    // Without the limit, 0 times Infinity would be no number after 1,024 failures.
    const doublings = Math.min(this.#failures++, 64);
    const grown = Math.min(backoffDelay * 2 ** doublings, maxBackoffDelay);
    const bound = isFirst ? Math.min(grown, floor * FIRST_SPREAD) : grown;
    // Full jitter: anywhere between nothing and the bound, so that clients do not all return at once.
    return Math.min(Math.round(floor + Math.random() * bound), MAX_DELAY);
  }

  /** Begins anew with short waits, as after a healthy connection. */
  reset(): void {
    this.#failures = 0;
  }

  /**
   * Records how a connection went. It was healthy, and resets the bound, when it brought an event, when the
   * server ended it after at least a second, and when it lived for `healthyAge`.
   */
  connectionEnded({ age, hasDelivered, isOrderly }: EndedConnection): void {
    const isHealthy = hasDelivered || (isOrderly && age >= MIN_ORDERLY_AGE) || age >= this.#limits.healthyAge;
    if (isHealthy) this.reset();
  }
}

function checkDelay(name: string, value: number): number {
  if (value === Number.POSITIVE_INFINITY && name === 'healthyAge') return value;
  if (typeof value === 'number' && value >= 0 && value <= MAX_DELAY) return value;
  throw new RangeError(
    `\`${name}\` must be a number of milliseconds from 0 to ${MAX_DELAY}, got ${String(value)}`,
  );
}
