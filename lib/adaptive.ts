// Learns the silence after which connections of a group are cut, and keeps their heartbeats below it.
// Stands alone: copy this file by itself. Fits the `group` option of `heartbeat.ts`.

export interface AdaptiveOptions {
  /** Milliseconds between heartbeats of a new group; default 15,000. */
  interval?: number | undefined;
  /** The shortest interval of any group, in milliseconds; default 5,000. */
  minInterval?: number | undefined;
  /** The longest interval of any group, in milliseconds; default 60,000. */
  maxInterval?: number | undefined;
  /** Losses in a row after about the same silence that shorten the interval; default 5. */
  lossesToShorten?: number | undefined;
  /**
   * Survived silences that lengthen the interval; default 32. The number doubles each time the interval is
   * shortened, up to 4,096 times. `Infinity`: never lengthen.
   */
  survivalsToLengthen?: number | undefined;
  /** Most groups that are remembered; the least recently used is forgotten first. Default 1,000. */
  maxGroups?: number | undefined;
}

/** One group: the `group` of `heartbeat.add(stream, { group })`. */
export interface AdaptiveGroup {
  /** Milliseconds: the present interval. */
  readonly interval: number;
  /** Called when a connection has survived a silence of this many milliseconds. */
  survived(silence: number): void;
  /** Called when a connection was lost after a silence of this many milliseconds. */
  lost(silence: number): void;
}

const MAX_INTERVAL = 2 ** 31 - 1;
// Silences that differ by no more than this fraction count as the same.
const SAME_WITHIN = 0.1;
// A shortened interval is this fraction of the silence after which connections were lost.
const SHORTEN = 0.8;
// A small step, because an interval that is too long costs every connection that is silent for it.
const LENGTHEN = 1.02;
// A survived silence counts if it lasted at least this fraction of the interval.
const COUNTS_FROM = 0.7;
const MAX_DOUBLING = 4096;

/**
 * Intervals by group key, such as an address prefix, a carrier or an app version.
 *
 * Readers leave after silences of any length, which other connections survive. A middlebox that cuts silent
 * connections does so after one length, which none survives. Therefore several losses in a row after about
 * the same silence, with no survivor between, shorten the interval to 0.8 of that silence. After that, each
 * run of survived silences lengthens the interval by 2 %. Each shortening doubles the length of the runs, so
 * that the limit is probed ever more rarely.
 */
export class AdaptiveInterval<Key = string> {
  readonly #settings: Settings;
  readonly #maxGroups: number;
  // Ordered by last use.
  readonly #groups: Map<Key, Group> = new Map();

  /** @throws {RangeError} naming the option and its value. */
  constructor(options: AdaptiveOptions = {}) {
    const { interval = 15_000, minInterval = 5000, maxInterval = 60_000 } = options;
    const { lossesToShorten = 5, survivalsToLengthen = 32, maxGroups = 1000 } = options;
    checkRange('minInterval', minInterval, 1, MAX_INTERVAL);
    checkRange('maxInterval', maxInterval, minInterval, MAX_INTERVAL);
    checkRange('interval', interval, minInterval, maxInterval);
    checkCount('lossesToShorten', lossesToShorten);
    if (survivalsToLengthen !== Infinity) checkCount('survivalsToLengthen', survivalsToLengthen);
    checkCount('maxGroups', maxGroups);
    this.#settings = { interval, minInterval, maxInterval, lossesToShorten, survivalsToLengthen };
    this.#maxGroups = maxGroups;
  }

  /** Returns the key's group; makes it if necessary. Streams keep a group that is forgotten here. */
  group(key: Key): AdaptiveGroup {
    const group = this.#groups.get(key) ?? new Group(this.#settings);
    this.#groups.delete(key);
    this.#groups.set(key, group);
    if (this.#groups.size > this.#maxGroups) this.#groups.delete(this.#groups.keys().next().value as Key);
    return group;
  }

  /** How many groups are remembered. */
  get size(): number {
    return this.#groups.size;
  }

  /**
   * Yields every key with its present interval in milliseconds. Do not use keys from clients as metric
   * labels.
   */
  *intervals(): Generator<[key: Key, interval: number]> {
    for (const [key, group] of this.#groups) yield [key, group.interval];
  }
}

interface Settings {
  readonly interval: number;
  readonly minInterval: number;
  readonly maxInterval: number;
  readonly lossesToShorten: number;
  readonly survivalsToLengthen: number;
}

class Group implements AdaptiveGroup {
  readonly #settings: Settings;
  #interval: number;
  /** Survived silences that the next lengthening needs, and those counted so far. */
  #needed: number;
  #survivals = 0;
  /** Losses in a row after about the same silence, and the shortest and the longest of those silences. */
  #losses = 0;
  #shortest = 0;
  #longest = 0;

  constructor(settings: Settings) {
    this.#settings = settings;
    this.#interval = settings.interval;
    this.#needed = settings.survivalsToLengthen;
  }

  get interval(): number {
    return this.#interval;
  }

  survived(silence: number): void {
    if (silence > this.#shortest) this.#losses = 0;
    if (silence < COUNTS_FROM * this.#interval) return;
    if (++this.#survivals >= this.#needed) this.#lengthen();
  }

  lost(silence: number): void {
    // Not even the shortest interval could have prevented this loss.
    if (silence < this.#settings.minInterval) return;
    this.#count(silence);
    if (this.#losses >= this.#settings.lossesToShorten) this.#shorten();
  }

  #count(silence: number): void {
    const shortest = Math.min(silence, this.#shortest);
    const longest = Math.max(silence, this.#longest);
    if (this.#losses > 0 && shortest >= longest * (1 - SAME_WITHIN)) {
      this.#losses++;
      this.#shortest = shortest;
      this.#longest = longest;
    } else {
      this.#losses = 1;
      this.#shortest = silence;
      this.#longest = silence;
    }
  }

  #shorten(): void {
    const { minInterval, survivalsToLengthen } = this.#settings;
    this.#interval = Math.max(minInterval, Math.min(this.#interval, SHORTEN * this.#shortest));
    this.#needed = Math.min(2 * this.#needed, MAX_DOUBLING * survivalsToLengthen);
    this.#survivals = 0;
    this.#losses = 0;
  }

  #lengthen(): void {
    this.#interval = Math.min(this.#settings.maxInterval, LENGTHEN * this.#interval);
    this.#survivals = 0;
  }
}

function checkRange(name: string, value: number, min: number, max: number): void {
  if (typeof value === 'number' && value >= min && value <= max) return;
  throw new RangeError(`\`${name}\` must be from ${min} to ${max} milliseconds, got ${value}`);
}

function checkCount(name: string, value: number): void {
  if (Number.isInteger(value) && value >= 1) return;
  throw new RangeError(`\`${name}\` must be a whole number ≥ 1, got ${value}`);
}
