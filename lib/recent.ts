// Keeps what happened in the last ten minutes: a few figures for each five seconds, in bounded memory.
// Stands alone: copy this file by itself.

export interface RecentOptions {
  /** Counts that only grow, by name. Kept as how many were added in a second. */
  readonly counts?: Readonly<Record<string, () => number>> | undefined;
  /** Values that rise and fall, by name. Kept as they are at the end of each interval. */
  readonly levels?: Readonly<Record<string, () => number>> | undefined;
  /** Milliseconds from one figure to the next; default 5,000. */
  readonly interval?: number | undefined;
  /** How many figures of each name are kept; default 120. */
  readonly length?: number | undefined;
}

/** Ready for JSON. */
export interface RecentReport {
  /** Milliseconds from one figure to the next. */
  readonly interval: number;
  /** The time of the last figures: ISO 8601, UTC. */
  readonly until: string;
  /** By name, oldest first: as many as there have been since `start`, at most `length`. */
  readonly figures: Readonly<Record<string, readonly number[]>>;
}

/**
 * Takes its figures with a timer, from `start()` to `stop()`; the timer does not keep the process running. A figure that
 * cannot be read counts as 0.
 */
export class Recent {
  readonly #counts: readonly [string, () => number][];
  readonly #levels: readonly [string, () => number][];
  readonly #interval: number;
  readonly #length: number;
  readonly #figures: Map<string, number[]>;
  #before: readonly number[] = [];
  #takenAt = 0;
  #until = Date.now();
  #timer: ReturnType<typeof setInterval> | undefined;

  /** @throws {RangeError} for an interval or a length that cannot be. */
  constructor({ counts = {}, levels = {}, interval = 5000, length = 120 }: RecentOptions) {
    if (!(Number.isSafeInteger(interval) && interval >= 1 && interval < 2 ** 31))
      throw new RangeError(`\`interval\` must be a whole number from 1 to ${2 ** 31 - 1}, got ${interval}`);
    if (!(Number.isSafeInteger(length) && length >= 1))
      throw new RangeError(`\`length\` must be a whole number ≥ 1, got ${length}`);
    this.#counts = Object.entries(counts);
    this.#levels = Object.entries(levels);
    this.#interval = interval;
    this.#length = length;
    this.#figures = new Map([...this.#counts, ...this.#levels].map(([name]) => [name, []]));
  }

  /** Begins anew, without figures. */
  start(): void {
    this.stop();
    for (const figures of this.#figures.values()) figures.length = 0;
    this.#before = this.#counts.map(([, read]) => numberOf(read));
    this.#takenAt = performance.now();
    this.#until = Date.now();
    this.#timer = setInterval(() => this.#take(), this.#interval);
    this.#timer.unref();
  }

  /** Takes no more figures, and keeps those that there are. */
  stop(): void {
    clearInterval(this.#timer);
  }

  report(): RecentReport {
    const figures = Object.fromEntries([...this.#figures].map(([name, values]) => [name, [...values]]));
    return { interval: this.#interval, until: new Date(this.#until).toISOString(), figures };
  }

  #take(): void {
    // A timer may be late.
    const now = performance.now();
    const seconds = Math.max(1, now - this.#takenAt) / 1000;
    this.#takenAt = now;
    this.#until = Date.now();
    const counts = this.#counts.map(([, read]) => numberOf(read));
    for (const [i, [name]] of this.#counts.entries())
      this.#keep(name, Math.max(0, counts[i]! - (this.#before[i] ?? 0)) / seconds);
    for (const [name, read] of this.#levels) this.#keep(name, numberOf(read));
    this.#before = counts;
  }

  #keep(name: string, value: number): void {
    const figures = this.#figures.get(name)!;
    figures.push(Math.round(value * 10) / 10);
    if (figures.length > this.#length) figures.shift();
  }
}

function numberOf(read: () => number): number {
  try {
    const value = read();
    return Number.isFinite(value) ? value : 0;
  } catch {
    return 0;
  }
}
