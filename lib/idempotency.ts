// Keeps the outcome of an action under a key for a while, so that a repeated request gets the same outcome.
// Stands alone: copy this file by itself.

export interface IdempotencyCacheOptions<T = unknown> {
  /** Milliseconds for which an outcome is kept; default 600,000. */
  maxAge?: number | undefined;
  /** Most keys kept; default 10,000. A new one then replaces the oldest. */
  maxKeys?: number | undefined;
  /**
   * Most bytes kept, the keys and 400 bytes for each entry included; default 8 MiB. The oldest make room, but
   * the newest stays.
   */
  maxBytes?: number | undefined;
  /** Returns the bytes that an outcome takes; default 0 for each. Keep outcomes small. */
  bytesOf?: ((outcome: T) => number) | undefined;
  /** Returns milliseconds, of which only differences count; default `performance.now`. */
  now?: (() => number) | undefined;
}

/** The error for a key that is used again for something else. */
export interface IdempotencyError extends Error {
  readonly code: 'ERR_SSE_IDEMPOTENCY_CONFLICT';
  readonly status: 422;
}

interface Entry<T> {
  readonly outcome: Promise<T>;
  readonly digest: string;
  readonly startedAt: number;
  isRunning: boolean;
  bytes: number;
}

/** The entry, its promise and its place in the map, as measured on Node 20. */
const ENTRY_BYTES = 400;

/**
 * For clients that send a request again because they did not get the answer: all calls with one key, during
 * the action and after it, share its one outcome. Failures are not kept: the next call with the key acts
 * again.
 *
 * The trap: a key is the client's own choice. Make the sender's identity part of it, or one client gets the
 * outcome of another.
 */
export class IdempotencyCache<T> {
  readonly #maxAge: number;
  readonly #maxKeys: number;
  readonly #maxBytes: number;
  readonly #bytesOf: (outcome: T) => number;
  readonly #now: () => number;
  // In the order in which the actions began, which is the order of expiry.
  readonly #entries: Map<string, Entry<T>> = new Map();
  #bytes = 0;

  /** @throws {RangeError} naming the option that is not a number ≥ 1. */
  constructor(options: IdempotencyCacheOptions<T> = {}) {
    const {
      maxAge = 600_000,
      maxKeys = 10_000,
      maxBytes = 8 * 1024 * 1024,
      now = () => performance.now(),
    } = options;
    this.#maxAge = atLeast(1, 'maxAge', maxAge);
    this.#maxKeys = atLeast(1, 'maxKeys', maxKeys);
    this.#maxBytes = atLeast(1, 'maxBytes', maxBytes);
    this.#bytesOf = options.bytesOf ?? (() => 0);
    this.#now = now;
  }

  /** How many keys are kept. */
  get size(): number {
    return this.#entries.size;
  }

  /** The bytes that they take, as `maxBytes` counts them. */
  get bytes(): number {
    return this.#bytes;
  }

  /**
   * Returns the outcome kept under the key; where there is none, calls `act` and keeps its outcome.
   *
   * @param digest - Stands for what is asked, such as a hash of the request. Rejects with an
   *   {@link IdempotencyError} where the key is kept with another one.
   */
  async run(key: string, act: () => Promise<T>, digest = ''): Promise<T> {
    this.#dropExpired();
    const known = this.#entries.get(key);
    if (known !== undefined) {
      if (known.digest !== digest) throw idempotencyConflict();
      return known.outcome;
    }
    const entry = {
      outcome: act(),
      digest,
      startedAt: this.#now(),
      isRunning: true,
      bytes: ENTRY_BYTES + 2 * (key.length + digest.length),
    };
    // An action may itself have used the key.
    this.#drop(key);
    this.#entries.set(key, entry);
    this.#bytes += entry.bytes;
    this.#makeRoom();
    try {
      const outcome = await entry.outcome;
      if (this.#entries.get(key) === entry) this.#charge(entry, this.#bytesOf(outcome));
      return outcome;
    } catch (error) {
      if (this.#entries.get(key) === entry) this.#drop(key);
      throw error;
    } finally {
      entry.isRunning = false;
    }
  }

  #charge(entry: Entry<T>, bytes: number): void {
    entry.bytes += bytes;
    this.#bytes += bytes;
    this.#makeRoom();
  }

  #drop(key: string): void {
    this.#bytes -= this.#entries.get(key)?.bytes ?? 0;
    this.#entries.delete(key);
  }

  #dropExpired(): void {
    const oldestAllowed = this.#now() - this.#maxAge;
    for (const [key, { startedAt, isRunning }] of this.#entries) {
      if (startedAt > oldestAllowed) return;
      if (!isRunning) this.#drop(key);
    }
  }

  #makeRoom(): void {
    for (const oldest of this.#entries.keys()) {
      const fits = this.#entries.size <= this.#maxKeys && this.#bytes <= this.#maxBytes;
      if (fits || this.#entries.size === 1) return;
      this.#drop(oldest);
    }
  }
}

/** The error for a key that was used for something else before. */
export function idempotencyConflict(): IdempotencyError {
  const error = new Error(
    'This Idempotency-Key was used for another request: use a key of its own for each.',
  );
  return Object.assign(error, { code: 'ERR_SSE_IDEMPOTENCY_CONFLICT', status: 422 } as const);
}

function atLeast(least: number, name: string, value: number): number {
  if (typeof value === 'number' && value >= least) return value;
  throw new RangeError(`\`${name}\` must be a number ≥ ${least}, got ${value}`);
}
