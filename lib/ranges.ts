// Keeps a set of whole numbers as the ranges of which it consists.
// Stands alone: copy this file by itself.

/**
 * A set of whole numbers. Numbers that are added in order cost one range for each run, however long it is; one
 * out of order moves the ranges after it.
 */
export class Ranges {
  readonly #first: number[] = [];
  readonly #last: number[] = [];

  /** How many ranges there are: what the set takes in memory. */
  get length(): number {
    return this.#first.length;
  }

  has(number: number): boolean {
    const at = this.#before(number);
    return at >= 0 && number <= this.#last[at]!;
  }

  /** Adds a number that may be in the set already. */
  add(number: number): void {
    const at = this.#before(number);
    if (at >= 0 && number <= this.#last[at]!) return;
    const joinsLower = at >= 0 && this.#last[at] === number - 1;
    const joinsUpper = this.#first[at + 1] === number + 1;
    if (joinsLower && joinsUpper) {
      this.#last[at] = this.#last[at + 1]!;
      this.#first.splice(at + 1, 1);
      this.#last.splice(at + 1, 1);
    } else if (joinsLower) this.#last[at] = number;
    else if (joinsUpper) this.#first[at + 1] = number;
    else if (at === this.#first.length - 1) {
      this.#first.push(number);
      this.#last.push(number);
    } else {
      this.#first.splice(at + 1, 0, number);
      this.#last.splice(at + 1, 0, number);
    }
  }

  /** The ranges in order, both ends included. */
  *[Symbol.iterator](): Generator<readonly [first: number, last: number], void, undefined> {
    for (let i = 0; i < this.#first.length; i++) yield [this.#first[i]!, this.#last[i]!];
  }

  /** The index of the last range that begins at or before a number; -1 where there is none. */
  #before(number: number): number {
    let [low, high] = [0, this.#first.length];
    // Nearly always the last range.
    if (high > 0 && this.#first[high - 1]! <= number) return high - 1;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#first[middle]! <= number) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }
}
