// Learns at what silence the connections of a group die, and keeps their heartbeat interval below it.
// Stands alone: copy this file by itself. Made for the `group` of `heartbeat.ts`.

export interface AdaptiveOptions {
  /** Milliseconds between beats of a group of which nothing is known; default 15,000. */
  interval?: number | undefined;
  /** Bounds of every group's interval, milliseconds; default 5,000 and 60,000. */
  minInterval?: number | undefined;
  maxInterval?: number | undefined;
  /** Losses in a row at about one silence before it is believed; default 5. */
  losses?: number | undefined;
  /**
   * Survived silences before a longer one is tried, doubled at each fall up to 4,096 times; default 32.
   * `Infinity`: never lengthen.
   */
  patience?: number | undefined;
  /** Groups remembered at most, the least recently asked for forgotten first; default 1,000. */
  maxGroups?: number | undefined;
}

/** One group: hand it to `heartbeat.add(stream, { group })`. */
export interface AdaptiveGroup {
  /** Milliseconds: the present interval. */
  readonly interval: number;
  lived(silence: number): void;
  died(silence: number): void;
}

const MAX_INTERVAL = 2 ** 31 - 1;
// Losses whose silences differ by no more than this part have one cause.
const ALIKE = 0.1;
// A learned interval is this part of the silence that killed.
const BELOW = 0.8;
// Small, for what a step too far costs is every connection that is silent for so long before it is taken back.
const CREEP = 1.02;
// A survived silence counts if it was at least this part of the interval.
const NEARLY = 0.7;
const MAX_PATIENCE = 4096;

/**
 * Intervals by group key, such as an address prefix, a carrier or an app version.
 *
 * A reader who leaves does so at any silence, and others outlive it; where something on the way cuts silent
 * connections, they die at one silence that nobody outlives. So: several losses in a row at about the same
 * silence, without one survivor of it, move the interval to 0.8 of it. Then each run of survived silences lengthens the
 * interval by 2 %, and each fall makes the next runs twice as long, so that a cut is probed ever more rarely.
 */
export class AdaptiveInterval<Key = string> {
  readonly #settings: Settings;
  readonly #maxGroups: number;
  // In the order in which they were last asked for.
  readonly #groups: Map<Key, Group> = new Map();

  /** @throws {RangeError} naming the option and its value. */
  constructor(options: AdaptiveOptions = {}) {
    const { interval = 15_000, minInterval = 5000, maxInterval = 60_000 } = options;
    const { losses = 5, patience = 32, maxGroups = 1000 } = options;
    checkRange('minInterval', minInterval, 1, MAX_INTERVAL);
    checkRange('maxInterval', maxInterval, minInterval, MAX_INTERVAL);
    checkRange('interval', interval, minInterval, maxInterval);
    checkCount('losses', losses);
    if (patience !== Infinity) checkCount('patience', patience);
    checkCount('maxGroups', maxGroups);
    this.#settings = { interval, minInterval, maxInterval, losses, patience };
    this.#maxGroups = maxGroups;
  }

  /** The key's group, new or known. Streams keep theirs when it is forgotten here. */
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

  /** Every key with its present interval in milliseconds, for metrics. Never make labels of client input. */
  *intervals(): Generator<[key: Key, interval: number]> {
    for (const [key, group] of this.#groups) yield [key, group.interval];
  }
}

interface Settings {
  readonly interval: number;
  readonly minInterval: number;
  readonly maxInterval: number;
  readonly losses: number;
  readonly patience: number;
}

class Group implements AdaptiveGroup {
  readonly #settings: Settings;
  #interval: number;
  #patience: number;
  #survived = 0;
  #losses = 0;
  #lowest = 0;
  #highest = 0;

  constructor(settings: Settings) {
    this.#settings = settings;
    this.#interval = settings.interval;
    this.#patience = settings.patience;
  }

  get interval(): number {
    return this.#interval;
  }

  lived(silence: number): void {
    if (silence > this.#lowest) this.#losses = 0;
    if (silence < NEARLY * this.#interval) return;
    if (++this.#survived >= this.#patience) this.#rise();
  }

  died(silence: number): void {
    // What the shortest interval could not have saved teaches nothing.
    if (silence < this.#settings.minInterval) return;
    this.#suspect(silence);
    if (this.#losses >= this.#settings.losses) this.#fall();
  }

  #suspect(silence: number): void {
    const lowest = Math.min(silence, this.#lowest);
    const highest = Math.max(silence, this.#highest);
    if (this.#losses > 0 && lowest >= highest * (1 - ALIKE)) {
      this.#losses++;
      this.#lowest = lowest;
      this.#highest = highest;
    } else {
      this.#losses = 1;
      this.#lowest = silence;
      this.#highest = silence;
    }
  }

  #fall(): void {
    const { minInterval, patience } = this.#settings;
    this.#interval = Math.max(minInterval, Math.min(this.#interval, BELOW * this.#lowest));
    this.#patience = Math.min(2 * this.#patience, MAX_PATIENCE * patience);
    this.#survived = 0;
    this.#losses = 0;
  }

  #rise(): void {
    this.#interval = Math.min(this.#settings.maxInterval, CREEP * this.#interval);
    this.#survived = 0;
  }
}

function checkRange(name: string, value: number, min: number, max: number): void {
  if (value >= min && value <= max) return;
  throw new RangeError(`\`${name}\` must be from ${min} to ${max} milliseconds, got ${value}`);
}

function checkCount(name: string, value: number): void {
  if (Number.isInteger(value) && value >= 1) return;
  throw new RangeError(`\`${name}\` must be a whole number ≥ 1, got ${value}`);
}
