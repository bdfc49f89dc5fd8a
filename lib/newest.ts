// Knows which entries of a ring are the newest of their key, and finds the next one from any place.
// Stands alone: copy this file by itself.

/**
 * The keys of a ring. An entry without a key counts as the newest of its own. Call `add` for each entry that
 * the ring takes and `drop` for each that it drops, oldest first.
 *
 *     keys    a  b  a  –  b  b  c      from(0) = 2: what comes before is replaced
 *     newest        ■  ■     ■  ■      from(4) = 5
 *     place   0  1  2  3  4  5  6
 *
 * A place whose entry was replaced points on, and `from` shortens the way for the next caller. So the time of
 * all calls together is nearly proportional to their number, however many entries were replaced.
 */
export class NewestOfKeys {
  // A circle like that of the ring: for each place, itself, or a later place at which to look on.
  #next: number[] = [];
  #first = 0;
  #end = 0;
  readonly #places = new Map<string, number>();

  /** How many keys have an entry in the ring. */
  get keys(): number {
    return this.#places.size;
  }

  /** The newest entry of the ring, and its key. */
  add(key: string | undefined): void {
    if (this.#end - this.#first === this.#next.length) this.#grow();
    const place = this.#end++;
    const mask = this.#next.length - 1;
    this.#next[place & mask] = place;
    if (key === undefined) return;
    const replaced = this.#places.get(key);
    if (replaced !== undefined) this.#next[replaced & mask] = replaced + 1;
    this.#places.set(key, place);
  }

  /** The oldest entry of the ring is dropped; `key` is that with which it was added. */
  drop(key: string | undefined): void {
    const place = this.#first++;
    if (key !== undefined && this.#places.get(key) === place) this.#places.delete(key);
    if (this.#first === this.#end) this.#next = [];
  }

  /**
   * The index in the ring of the first entry, at `index` or after it, that is the newest of its key. At the end
   * of the ring, its size.
   */
  from(index: number): number {
    const next = this.#next;
    const mask = next.length - 1;
    let place = this.#first + index;
    while (place < this.#end) {
      const following = next[place & mask]!;
      if (following === place) break;
      // Points over one more place, so that long ways halve each time that they are walked.
      place = next[place & mask] = next[following & mask]!;
    }
    return place - this.#first;
  }

  #grow(): void {
    const grown = new Array<number>(Math.max(8, this.#next.length * 2));
    for (let place = this.#first; place < this.#end; place++) {
      grown[place & (grown.length - 1)] = this.#next[place & (this.#next.length - 1)]!;
    }
    this.#next = grown;
  }
}
