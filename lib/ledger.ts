// Keeps which events there were: their numbers, the places of their ids, and their contents in comparisons.
// Needs `ranges.ts` beside it.

import { Ranges } from './ranges.ts';

/** Where an event stands in the order. Where ids are opaque, `seq` is its number at the uncut reader. */
export interface Place {
  readonly epoch: number;
  readonly seq: number;
}

/**
 * The events that are known, by numbers from 1. Takes 16 bytes for each event, and in a comparison its id.
 */
export class Ledger {
  /** The highest number in use. */
  last = 0;
  /** The numbers that a publisher was told the ids of. */
  readonly answered: Ranges = new Ranges();
  /** Those of them that were sent more than once, and those whose outcome is unknown. */
  readonly doubtful: Ranges = new Ranges();
  /** In a comparison: the number of each id. */
  readonly numbers: Map<string, number> = new Map();
  #epochs = new Float64Array(1024).fill(NONE);
  #seqs = new Float64Array(1024);
  #digests: string[] = [];
  #ids: string[] = [];

  placeOf(number: number): Place | undefined {
    const epoch = this.#epochs[number] ?? NONE;
    return epoch === NONE ? undefined : { epoch, seq: this.#seqs[number]! };
  }

  put(number: number, { epoch, seq }: Place): void {
    if (number >= this.#epochs.length) this.#grow(number);
    this.#epochs[number] = epoch;
    this.#seqs[number] = seq;
    if (number > this.last) this.last = number;
  }

  remove(number: number): void {
    this.#epochs[number] = NONE;
  }

  /** Gives an id of a comparison its number. */
  enter(id: string, digest: string, place: (number: number) => Place): number {
    const number = this.last + 1;
    this.numbers.set(id, number);
    this.#ids[number] = id;
    this.#digests[number] = digest;
    this.put(number, place(number));
    return number;
  }

  digestOf(number: number): string | undefined {
    return this.#digests[number];
  }

  /** In a comparison: the id of a number. */
  textOf(number: number): string {
    return this.#ids[number] ?? '';
  }

  /** Whether there are events that were sent, and whose outcome and place are unknown. */
  hasUnplaced(): boolean {
    for (const [first, last] of this.doubtful)
      for (let number = first; number <= last; number++) if (this.placeOf(number) === undefined) return true;
    return false;
  }

  /** The numbers that have a place, in the order of their places. */
  ordered(): Ordered {
    const numbers = new Uint32Array(this.last);
    let length = 0;
    for (let number = 1; number <= this.last; number++)
      if (this.#epochs[number] !== NONE) numbers[length++] = number;
    const compare = (a: number, b: number): number =>
      this.#epochs[a]! - this.#epochs[b]! || this.#seqs[a]! - this.#seqs[b]!;
    return new Ordered(numbers.subarray(0, length).sort(compare), this);
  }

  #grow(number: number): void {
    const length = Math.max(number + 1, this.#epochs.length * 2);
    const [epochs, seqs] = [this.#epochs, this.#seqs];
    this.#epochs = new Float64Array(length).fill(NONE);
    this.#seqs = new Float64Array(length);
    this.#epochs.set(epochs);
    this.#seqs.set(seqs);
  }
}

const NONE = -1;

/** The numbers of a ledger by place. */
export class Ordered {
  readonly #numbers: Uint32Array;
  readonly #ledger: Ledger;

  constructor(numbers: Uint32Array, ledger: Ledger) {
    this.#numbers = numbers;
    this.#ledger = ledger;
  }

  get all(): Uint32Array {
    return this.#numbers;
  }

  /** The numbers whose places are in `epoch`, above `after` and not above `until`. */
  within(epoch: number, after: number, until: number): Uint32Array {
    return this.#numbers.subarray(
      this.#above({ epoch, seq: after }),
      Math.max(this.#above({ epoch, seq: after }), this.#above({ epoch, seq: until })),
    );
  }

  /** The numbers whose epochs lie between two others. */
  between(one: number, other: number): Uint32Array {
    const [low, high] = one < other ? [one, other] : [other, one];
    return this.#numbers.subarray(
      this.#above({ epoch: low, seq: Infinity }),
      this.#above({ epoch: high, seq: -1 }),
    );
  }

  /** The number that has exactly this place. */
  at({ epoch, seq }: Place): number | undefined {
    return this.within(epoch, seq - 1, seq)[0];
  }

  /** How many numbers lie at or before a place. */
  #above(place: Place): number {
    let [low, high] = [0, this.#numbers.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (comparePlaces(this.#ledger.placeOf(this.#numbers[middle]!)!, place) <= 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** Compares by epoch first: a later life of an order has a higher epoch. */
export function comparePlaces(a: Place, b: Place): number {
  return a.epoch === b.epoch ? a.seq - b.seq : a.epoch - b.epoch;
}

/** Whether a place is of the same epoch as another one, and at it or before it. */
export function isNotAfter({ epoch, seq }: Place, other: Place | undefined): boolean {
  return other !== undefined && other.epoch === epoch && seq <= other.seq;
}

/** What a gap says to be lost: what is after `from`, up to `to`, which may be in another epoch. */
export interface Span {
  readonly from: Place;
  readonly to: Place;
}

export function covers({ from, to }: Span, place: Place): boolean {
  if (from.epoch === to.epoch) return comparePlaces(place, from) > 0 && comparePlaces(place, to) <= 0;
  if (place.epoch === from.epoch) return place.seq > from.seq;
  return place.epoch === to.epoch ? place.seq <= to.seq : true;
}
