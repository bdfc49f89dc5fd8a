// Remembers the newest events, within a count, a size and an age, and finds what came after any of them.
// Stands alone: copy this file by itself.

/** What the buffer reads of the entries that it is given; they carry whatever else their owner likes. */
export interface Remembered {
  /** The entry's place in the order: a whole number, greater than that of the entry before it. Holes are fine. */
  readonly seq: number;
  /** What it counts against `maxBytes`. */
  readonly bytes: number;
  /** When it was made, in milliseconds. Counts against `maxAge`. */
  readonly at: number;
}

export interface ReplayOptions {
  /** Most entries kept; default 1,000. */
  capacity?: number | undefined;
  /** Most bytes kept, by the entries' own `bytes`; default no limit. */
  maxBytes?: number | undefined;
  /** Milliseconds after which an entry is dropped, judged at each push and at `expire`; default no limit. */
  maxAge?: number | undefined;
  /** The newest seq that is already beyond recall, for a buffer that begins in mid-order; default 0. */
  dropped?: number | undefined;
}

/** To begin with. */
const SLOTS = 8;

/**
 * A ring over one ordered sequence. Push is O(1), look-up O(log n), and O(1) for one who missed nothing.
 *
 *       dropped │ oldest ········ newest │
 *     ──────────┼────────────────────────┼───▶ seq
 *      'gone'   │  remembered            │  nothing newer
 *
 * Two answers that must never be taken for each other: "nothing came after 7" is an empty list, "what came
 * after 7 is partly gone" is `undefined`.
 */
export class ReplayBuffer<T extends Remembered> {
  readonly #capacity: number;
  readonly #maxBytes: number;
  readonly #maxAge: number;
  // A circle whose length is a power of two, so that a position is a mask away; it grows with its content.
  #slots: (T | undefined)[] = new Array(SLOTS);
  #start = 0;
  #size = 0;
  #bytes = 0;
  #dropped: number;
  #last: number;

  /** @throws {RangeError} naming the option that is not a number ≥ 1 (`capacity`: whole; `dropped`: whole, ≥ 0). */
  constructor(options: ReplayOptions = {}) {
    const { capacity = 1000, maxBytes = Infinity, maxAge = Infinity, dropped = 0 } = options;
    // Half an entry more would never be reached, and so never be a limit.
    this.#capacity = capacity === Infinity ? capacity : whole(1, 'capacity', capacity);
    this.#maxBytes = atLeast(1, 'maxBytes', maxBytes);
    this.#maxAge = atLeast(1, 'maxAge', maxAge);
    this.#dropped = whole(0, 'dropped', dropped);
    this.#last = dropped;
  }

  /** How many entries are remembered. */
  get size(): number {
    return this.#size;
  }

  /** What they weigh together. */
  get bytes(): number {
    return this.#bytes;
  }

  /** The newest seq that was dropped: whoever has seen less than this has missed something. */
  get dropped(): number {
    return this.#dropped;
  }

  /** The newest seq ever pushed, remembered or not. */
  get last(): number {
    return this.#last;
  }

  /**
   * Adds the newest entry; the oldest ones make room for it.
   * @throws {RangeError} when its seq is not above `last`, or when it alone weighs more than `maxBytes`, or less
   *   than nothing.
   */
  push(entry: T): void {
    this.check(entry);
    if (this.#size === this.#capacity) this.#dropOldest();
    while (this.#bytes + entry.bytes > this.#maxBytes) this.#dropOldest();
    if (this.#maxAge !== Infinity) this.expire(entry.at);
    if (this.#size === this.#slots.length) this.#grow();
    this.#slots[(this.#start + this.#size) & (this.#slots.length - 1)] = entry;
    this.#size++;
    this.#bytes += entry.bytes;
    this.#last = entry.seq;
  }

  /** Throws what `push` would throw, and changes nothing. */
  check(entry: T): void {
    if (!(entry.seq > this.#last)) {
      throw new RangeError(`\`seq\` must be above ${this.#last}, got ${entry.seq}`);
    }
    // Said so that NaN fails too: a sum would never recover from it.
    if (!(entry.bytes >= 0 && entry.bytes <= this.#maxBytes)) {
      throw new RangeError(`\`bytes\` must be from 0 to \`maxBytes\` ${this.#maxBytes}, got ${entry.bytes}`);
    }
  }

  /** Drops what is older than `maxAge` at the time `now`. Call it before a look-up where age matters. */
  expire(now: number): void {
    const oldestAllowed = now - this.#maxAge;
    for (let oldest = this.at(0); oldest !== undefined && oldest.at < oldestAllowed; oldest = this.at(0)) {
      this.#dropOldest();
    }
  }

  /** Drops the oldest until the rest weighs no more than `maxBytes`, this once. */
  shrink(maxBytes: number): void {
    while (this.#size > 0 && this.#bytes > maxBytes) this.#dropOldest();
  }

  /** Drops everything. Nothing is claimed to be remembered afterwards. */
  clear(): void {
    this.#slots = new Array(SLOTS);
    this.#start = this.#size = this.#bytes = 0;
    this.#dropped = this.#last;
  }

  /** Everything after `seq`, oldest first; `undefined` when part of it is gone, or `seq` was never reached. */
  after(seq: number): T[] | undefined {
    if (!(seq <= this.#last)) return undefined;
    const first = this.indexAfter(seq);
    if (first === -1) return undefined;
    return Array.from({ length: this.#size - first }, (_, i) => this.at(first + i) as T);
  }

  /**
   * Where to begin reading with `at`: the index of the first entry above `seq`, `size` when there is none,
   * and −1 when an entry above `seq` was dropped.
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

  /** The entry at an index, 0 being the oldest; `undefined` outside of 0 … size − 1. */
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
    // One that was full once and is silent now holds nothing.
    if (this.#size === 0 && this.#slots.length > SLOTS) [this.#slots, this.#start] = [new Array(SLOTS), 0];
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
