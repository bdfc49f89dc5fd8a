// A queue whose items cost constant time each.
// Stands alone: copy this file by itself.

/** First come, first served. `Array.shift` would move all items that wait, which is slow for many. */
export class Queue<T> {
  #items: (T | undefined)[] = [];
  #at = 0;

  get first(): T | undefined {
    return this.#items[this.#at];
  }

  *[Symbol.iterator](): Generator<T> {
    for (let i = this.#at; i < this.#items.length; i++) yield this.#items[i] as T;
  }

  add(item: T): void {
    this.#items.push(item);
  }

  remove(): void {
    this.#items[this.#at++] = undefined;
    if (this.#at * 2 < this.#items.length) return;
    this.#items = this.#items.slice(this.#at);
    this.#at = 0;
  }
}
