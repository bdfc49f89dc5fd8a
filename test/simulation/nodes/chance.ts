// What is left to chance in a simulation: drawn from a seed, recorded, and drawn again from the record.

/** What was drawn, by the name of the stream. */
export type Draws = Record<string, number[]>;

/**
 * Streams of draws with names. What one stream draws does not depend on how much others have drawn, so that a
 * scenario without one of its steps goes on as before.
 */
export class Chance {
  readonly seed: number;
  readonly #streams: Map<string, Stream> = new Map();
  readonly #recorded: Draws;

  constructor(seed: number, recorded: Draws = {}) {
    this.seed = seed;
    this.#recorded = recorded;
  }

  stream(name: string): Stream {
    let stream = this.#streams.get(name);
    if (stream === undefined) {
      stream = new Stream(numbersOf(this.seed, name), this.#recorded[name] ?? []);
      this.#streams.set(name, stream);
    }
    return stream;
  }

  /** Random numbers that are not recorded: those of the product. */
  numbers(name: string): () => number {
    return numbersOf(this.seed, name);
  }

  get draws(): Draws {
    return Object.fromEntries([...this.#streams].map(([name, { drawn }]) => [name, drawn]));
  }
}

export class Stream {
  readonly drawn: number[] = [];
  readonly #next: () => number;
  readonly #recorded: readonly number[];

  constructor(next: () => number, recorded: readonly number[]) {
    this.#next = next;
    this.#recorded = recorded;
  }

  /** A whole number from 0 up to, but not including, `n`. */
  below(n: number): number {
    const fresh = Math.floor(this.#next() * n);
    const value = Math.min(this.#recorded[this.drawn.length] ?? fresh, n - 1);
    this.drawn.push(value);
    return value;
  }

  of(probability: number): boolean {
    const fresh = this.#next() < probability ? 1 : 0;
    const value = this.#recorded[this.drawn.length] ?? fresh;
    this.drawn.push(value);
    return value !== 0;
  }

  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)]!;
  }
}

/** Numbers from 0 up to 1 (mulberry32) for a name. */
function numbersOf(seed: number, name: string): () => number {
  let state = seed | 0;
  for (let i = 0; i < name.length; i++) state = Math.imul(state ^ name.charCodeAt(i), 0x9e3779b1);
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t ^= t + Math.imul(t ^ (t >>> 7), 61 | t);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
