// Keeps the newest entries, limited by count, bytes and age, and finds those after a given one.
// Stands alone: copy this file by itself.

/** The members of an entry that are used. Entries may have any others. */
export interface ReplayEntry {
  /** Its place in the order: a whole number above that of the entry before it. Gaps are allowed. */
  readonly seq: number;
  /** Its size, counted against `maxBytes`. */
  readonly bytes: number;
  /** When it was made, in milliseconds, compared with `maxAge`. */
  readonly at: number;
}

export interface ReplayOptions<T extends ReplayEntry = ReplayEntry> {
  /** Most entries kept; default 1,000. `Infinity`: no limit. */
  maxEntries?: number | undefined;
  /** Most bytes kept, as the sum of `bytes`; default no limit. */
  maxBytes?: number | undefined;
  /** Milliseconds after which `push` and `expire` drop an entry; default no limit. */
  maxAge?: number | undefined;
  /**
   * The seq up to which entries count as dropped, for a buffer that begins in the middle of an order; default
   * 0.
   */
  dropped?: number | undefined;
  /**
   * Called for each entry that is dropped, oldest first, for what is counted or looked up beside the buffer.
   * Must not change the buffer.
   */
  onDrop?: ((entry: T) => void) | undefined;
}

/** The slots of an empty buffer. */
const MIN_SLOTS = 8;

/**
 * A ring over one ordered sequence. Push takes O(1), look-up O(log n), and O(1) where nothing came after.
 *
 *       dropped │ oldest ········ newest │
 *     ──────────┼────────────────────────┼───▶ seq
 *               │ kept                   │ not pushed yet
 *
 * `after` keeps two cases apart: an empty list where nothing came after, `undefined` where entries are
 * missing.
 */
export class ReplayBuffer<T extends ReplayEntry> {
  readonly #maxEntries: number;
  readonly #maxBytes: number;
  readonly #maxAge: number;
  readonly #onDrop: ((entry: T) => void) | undefined;
  // A circle that grows with its content. Its length is a power of two, so that a mask finds a slot.
  #slots: (T | undefined)[] = new Array(MIN_SLOTS);
  #start = 0;
  #size = 0;
  #bytes = 0;
  #dropped: number;
  #last: number;

  /**
   * @throws {RangeError} naming the option that is not a number ≥ 1 (`maxEntries`: whole; `dropped`: whole, ≥
   * 0).
   */
  constructor(options: ReplayOptions<T> = {}) {
    const { maxEntries = 1000, maxBytes = Infinity, maxAge = Infinity, dropped = 0 } = options;
    // Must be whole, because `push` compares for equality: no size would ever equal a fraction.
    this.#maxEntries = maxEntries === Infinity ? maxEntries : whole(1, 'maxEntries', maxEntries);
    this.#maxBytes = atLeast(1, 'maxBytes', maxBytes);
    this.#maxAge = atLeast(1, 'maxAge', maxAge);
    this.#dropped = whole(0, 'dropped', dropped);
    this.#last = dropped;
    this.#onDrop = options.onDrop;
  }

  /** How many entries are kept. */
  get size(): number {
    return this.#size;
  }

  /** The sum of their `bytes`. */
  get bytes(): number {
    return this.#bytes;
  }

  /** The newest seq that was dropped: a reader at a lower seq has missed entries. */
  get dropped(): number {
    return this.#dropped;
  }

  /** The newest seq ever pushed, kept or not. */
  get last(): number {
    return this.#last;
  }

  /**
   * Adds an entry and drops the oldest ones to stay within the limits.
   * @throws {RangeError} when its `seq` is not above `last`, or its `bytes` are not from 0 to `maxBytes`.
   */
  push(entry: T): void {
    this.check(entry);
    if (this.#size === this.#maxEntries) this.#dropOldest();
    while (this.#bytes + entry.bytes > this.#maxBytes) this.#dropOldest();
    if (this.#maxAge !== Infinity) this.expire(entry.at);
    if (this.#size === this.#slots.length) this.#grow();
    this.#slots[(this.#start + this.#size) & (this.#slots.length - 1)] = entry;
    this.#size++;
    this.#bytes += entry.bytes;
    this.#last = entry.seq;
  }

  /** Throws the errors that `push` would throw, and changes nothing. */
  check(entry: T): void {
    if (!(entry.seq > this.#last)) {
      throw new RangeError(`\`seq\` must be above ${this.#last}, got ${entry.seq}`);
    }
    // The condition is negated so that NaN fails: a sum with NaN would stay NaN.
    if (!(entry.bytes >= 0 && entry.bytes <= this.#maxBytes)) {
      throw new RangeError(`\`bytes\` must be from 0 to \`maxBytes\` ${this.#maxBytes}, got ${entry.bytes}`);
    }
  }

  /**
   * Drops entries that are older than `maxAge` at the time `now`. Call it before a look-up where age matters.
   */
  expire(now: number): void {
    const oldestAllowed = now - this.#maxAge;
    for (let oldest = this.at(0); oldest !== undefined && oldest.at < oldestAllowed; oldest = this.at(0)) {
      this.#dropOldest();
    }
  }

  /**
   * Drops the oldest entry.
   * @returns whether there was one.
   */
  shift(): boolean {
    if (this.#size === 0) return false;
    this.#dropOldest();
    return true;
  }

  /** Drops all entries. */
  clear(): void {
    while (this.#size > 0) this.#dropOldest();
  }

  /**
   * All entries after `seq`, oldest first. `undefined`: entries after `seq` were dropped, or `seq` lies in
   * the future.
   */
  after(seq: number): T[] | undefined {
    if (!(seq <= this.#last)) return undefined;
    const first = this.indexAfter(seq);
    if (first === -1) return undefined;
    return Array.from({ length: this.#size - first }, (_, i) => this.at(first + i) as T);
  }

  /**
   * The index, for `at`, of the first entry above `seq`; `size` where there is none; −1 where an entry above
   * `seq` was dropped.
   */
  indexAfter(seq: number): number {
    if (seq < this.#dropped) return -1;
    if (seq >= this.#last) return this.#size;
    let low = 0;
    let high = this.#size;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.at(middle) as T).seq > seq) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  /** The entry at an index from 0, the oldest, to `size` − 1; `undefined` for any other. */
  at(index: number): T | undefined {
    if (index < 0 || index >= this.#size) return undefined;
    return this.#slots[(this.#start + index) & (this.#slots.length - 1)];
  }

  #dropOldest(): void {
    const oldest = this.#slots[this.#start] as T;
    this.#slots[this.#start] = undefined;
    this.#start = (this.#start + 1) & (this.#slots.length - 1);
    this.#size--;
    this.#bytes -= oldest.bytes;
    this.#dropped = oldest.seq;
    // A buffer that was full once releases its slots when it is empty.
    if (this.#size === 0 && this.#slots.length > MIN_SLOTS)
      [this.#slots, this.#start] = [new Array(MIN_SLOTS), 0];
    this.#onDrop?.(oldest);
  }

  #grow(): void {
    const slots = new Array<T | undefined>(this.#slots.length * 2);
    for (let i = 0; i < this.#size; i++) slots[i] = this.at(i);
    this.#slots = slots;
    this.#start = 0;
  }
}

function whole(least: number, name: string, value: number): number {
  if (Number.isInteger(value) && value >= least) return value;
  throw new RangeError(`\`${name}\` must be a whole number ≥ ${least}, got ${value}`);
}

function atLeast(least: number, name: string, value: number): number {
  if (typeof value === 'number' && value >= least) return value;
  throw new RangeError(`\`${name}\` must be a number ≥ ${least}, got ${value}`);
}
