// Counts durations in buckets of about 3 %, and answers their percentiles from a fixed amount of memory.
// Stands alone: copy this file by itself.

/** Durations in milliseconds, rounded to microseconds; `null` where nothing was recorded. */
export interface Percentiles {
  readonly count: number;
  readonly p50: number | null;
  readonly p90: number | null;
  readonly p99: number | null;
  readonly max: number | null;
}

/** A row of a chart: how many durations lie at or below `upTo`, and above the row before. */
interface Row {
  readonly upTo: number;
  readonly count: number;
}

// Buckets of 1 µs below 64 µs, then 32 for each doubling:
//
//   µs       0 … 63   64 … 127   128 … 255  …  2³¹ … 2³² − 1
//   buckets    64        32         32               32
//   width       1         2          4              2²⁶
const LINEAR = 64;
const STEPS = 32;
const BUCKETS = LINEAR + 26 * STEPS;
/** The longest duration that is told apart: 71 minutes. */
const MAX_MICROS = 2 ** 32 - 1;

/** Takes 7 KiB, whatever is recorded. */
export class Histogram {
  count = 0;
  readonly #counts = new Float64Array(BUCKETS);
  #max = 0;

  /** Records a duration in milliseconds; one below 0 counts as 0. */
  record(duration: number): void {
    const micros = Math.min(Math.max(0, Math.round(duration * 1000)), MAX_MICROS);
    this.#counts[bucketOf(micros)]!++;
    this.count++;
    if (micros > this.#max) this.#max = micros;
  }

  /** The smallest duration that this part of all does not exceed: at most 1/32 too high, never too low. */
  percentile(part: number): number | null {
    if (this.count === 0) return null;
    let left = Math.max(1, Math.ceil(this.count * part));
    let bucket = 0;
    for (; left > this.#counts[bucket]!; bucket++) left -= this.#counts[bucket]!;
    return Math.min(endOf(bucket), this.#max) / 1000;
  }

  get percentiles(): Percentiles {
    const { count } = this;
    const max = count === 0 ? null : this.#max / 1000;
    return { count, p50: this.percentile(0.5), p90: this.percentile(0.9), p99: this.percentile(0.99), max };
  }

  /** One row for each doubling, from the first one that has a duration to the last one. */
  get rows(): readonly Row[] {
    const rows: { upTo: number; count: number }[] = [];
    for (let bucket = 0, first = LINEAR - 1; first < BUCKETS; first += STEPS) {
      let count = 0;
      for (; bucket <= first; bucket++) count += this.#counts[bucket]!;
      if (rows.length > 0 || count > 0) rows.push({ upTo: (endOf(first) + 1) / 1000, count });
    }
    return rows.slice(0, rows.findLastIndex(({ count }) => count > 0) + 1);
  }
}

function bucketOf(micros: number): number {
  if (micros < LINEAR) return micros;
  const shift = 26 - Math.clz32(micros);
  return shift * STEPS + (micros >>> shift);
}

/** The longest duration of a bucket, in microseconds. */
function endOf(bucket: number): number {
  if (bucket < LINEAR) return bucket;
  const shift = Math.floor(bucket / STEPS) - 1;
  return ((bucket % STEPS) + STEPS + 1) * 2 ** shift - 1;
}
