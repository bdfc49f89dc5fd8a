// Keeps the names of a changing map in order, so that they can be listed page by page.
// Stands alone: copy this file by itself.

/** The members of a `Map` that are used. */
export interface NamedEntries {
  has(name: string): boolean;
  keys(): Iterable<string>;
}

/** Names that were added since the last page are sorted in one by one, up to this many. */
const MAX_ADDED = 1000;

/**
 * Lists the names of a map in ascending order. A page costs in proportion to its length and to what was added
 * since the last one. A name that stays in the map is in exactly one page, whatever comes and goes meanwhile.
 *
 * It takes no memory before the first page. Report each new name to `add`; names that leave need no report.
 */
export class NameOrder {
  readonly #entries: NamedEntries;
  /** Ascending, without the added ones. May have names that have left the map. */
  #sorted: string[] | undefined;
  #added: string[] = [];

  constructor(entries: NamedEntries) {
    this.#entries = entries;
  }

  add(name: string): void {
    if (this.#sorted === undefined) return;
    this.#added.push(name);
    if (this.#added.length > MAX_ADDED) this.#reset();
  }

  /** The names of the map that come after a name, which need not be in it, ascending. */
  *after(name: string): Generator<string> {
    const sorted = this.#order();
    let left = 0;
    for (let at = place(sorted, name); at < sorted.length; at++) {
      const next = sorted[at]!;
      if (next === name) continue;
      if (this.#entries.has(next)) yield next;
      else if (++left > MAX_ADDED && this.#sorted === sorted) this.#reset();
    }
  }

  #order(): string[] {
    this.#sorted ??= [...this.#entries.keys()].sort();
    for (const name of this.#added.splice(0)) {
      const at = place(this.#sorted, name);
      if (this.#sorted[at] !== name) this.#sorted.splice(at, 0, name);
    }
    return this.#sorted;
  }

  /** The next page sorts anew. That is paid for by the many names that have come or left. */
  #reset(): void {
    this.#sorted = undefined;
    this.#added = [];
  }
}

/** The index of the first name that does not come before this one. */
function place(sorted: readonly string[], name: string): number {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (sorted[middle]! < name) low = middle + 1;
    else high = middle;
  }
  return low;
}
