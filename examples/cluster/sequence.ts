// Checks what one reader receives: every number once and in order, unless a gap says that some were lost.
// Stands alone: copy this file by itself.

/** What is wrong with what a reader has received, as counts. */
export interface Faults {
  /** Numbers that are missing without a gap. */
  holes: number;
  /** Numbers that came twice, or after a larger one. */
  duplicates: number;
}

/** The numbers of one reader, who may begin with any. */
export class Sequence {
  /** The newest number; `undefined` before the first one. */
  last: number | undefined;
  readonly #faults: Faults;
  #mayMiss = true;

  /** `faults` counts for many readers together. */
  constructor(faults: Faults) {
    this.#faults = faults;
  }

  /** The next number may be any that is larger. */
  gap(): void {
    this.#mayMiss = true;
  }

  add(number: number): void {
    const { last = -Infinity } = this;
    if (number <= last) {
      this.#faults.duplicates++;
      return;
    }
    if (!this.#mayMiss) this.#faults.holes += number - last - 1;
    this.#mayMiss = false;
    this.last = number;
  }
}
