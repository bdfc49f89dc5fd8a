// The sorted set of the model of Redis: members by score, and by their bytes where scores are equal.

export interface Scored {
  readonly member: string;
  readonly score: number;
}

export class SortedSet {
  readonly #scores: Map<string, number> = new Map();
  /** In order. */
  readonly #all: Scored[] = [];

  get size(): number {
    return this.#all.length;
  }

  get all(): readonly Scored[] {
    return this.#all;
  }

  scoreOf(member: string): number | undefined {
    return this.#scores.get(member);
  }

  set(member: string, score: number): void {
    this.delete(member);
    const item = { member, score };
    this.#scores.set(member, score);
    this.#all.splice(this.#placeOf(item), 0, item);
  }

  delete(member: string): boolean {
    const score = this.#scores.get(member);
    if (score === undefined) return false;
    this.#all.splice(this.#placeOf({ member, score }), 1);
    return this.#scores.delete(member);
  }

  /** How many are before it. */
  #placeOf(item: Scored): number {
    let [low, high] = [0, this.#all.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (isBefore(this.#all[middle]!, item)) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function isBefore(one: Scored, other: Scored): boolean {
  return one.score < other.score || (one.score === other.score && one.member < other.member);
}
