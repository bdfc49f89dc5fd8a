// Reads a source of events or text: a generator, an array, a Readable or a ReadableStream, and stops it.
// Stands alone: copy this file by itself.

/** What can be read step by step. */
export type Source<T> = AsyncIterable<T> | Iterable<T>;

/**
 * @throws {TypeError} for what cannot be iterated, for a string, whose characters nobody means, and for a
 * `ReadableStream` that has a reader already.
 */
export function checkSource(source: unknown): void {
  if (Object(source) !== source || !isIterable(source as object)) {
    const given = source instanceof Promise ? 'a promise: await it' : typeof source;
    throw new TypeError(`\`source\` must be an iterable of events or strings, got ${given}`);
  }
  if ((source as { locked?: unknown }).locked === true)
    throw new TypeError('`source` must be a ReadableStream that nobody reads, got one that is locked');
}

/** @throws {TypeError} as `checkSource` does. */
export function iteratorOf<T>(source: Source<T>): AsyncIterator<T> | Iterator<T> {
  checkSource(source);
  const from = source as Partial<AsyncIterable<T> & Iterable<T> & ReadableStream<T>>;
  if (typeof from.getReader === 'function') {
    // The iterator of a ReadableStream cannot be stopped while it waits for a chunk; its reader can.
    const reader = from.getReader();
    return {
      next: () => reader.read() as Promise<IteratorResult<T>>,
      return: () => reader.cancel() as Promise<never>,
    };
  }
  return from[Symbol.asyncIterator]?.() ?? from[Symbol.iterator]!();
}

function isIterable(source: object): boolean {
  return 'getReader' in source || Symbol.asyncIterator in source || Symbol.iterator in source;
}

/**
 * Stops a source through `return()`, a `Readable` through `destroy()`. Neither throws nor waits: a generator that
 * is blocked in an `await` returns only after that.
 */
export function stopSource<T>(source: Source<T>, iterator: AsyncIterator<T> | Iterator<T>): void {
  attempt(() => iterator.return?.());
  // The iterator of a Readable is a generator: one that never ran would leave the Readable open.
  attempt(() => 'destroy' in source && typeof source.destroy === 'function' && source.destroy());
}

/** @throws {TypeError} for what is neither an event nor, elsewhere, a string: it has none of an event's fields. */
export function checkYielded(value: unknown): void {
  if (typeof value === 'object' && value !== null && !(value instanceof Uint8Array)) return;
  const given = value instanceof Uint8Array ? 'bytes: decode them, or read them as text' : value;
  throw new TypeError(`a source must yield events or strings, got ${given}`);
}

/** Whether an event came without a type: `decode` and `connect` give such a one the type `message`. */
export function isUntyped(value: { readonly event?: unknown }): boolean {
  return value.event === 'message' && 'lastEventId' in value;
}

function attempt(action: () => unknown): void {
  new Promise((resolve) => resolve(action())).catch(() => {});
}

/** Joins characters that were cut into two strings, as the tokens of some language models are. */
export class WholeText {
  /** The first half of a character (a surrogate), in which the last string has ended. */
  #half = '';

  /** The next string, well-formed. `undefined` for one that is only the first half of a character. */
  next(value: string): string | undefined {
    const text = this.#half + value;
    this.#half = FIRST_HALF.test(text) ? text.slice(-1) : '';
    const whole = this.#half === '' ? text : text.slice(0, -1);
    return whole === '' && value !== '' ? undefined : wellFormed(whole);
  }

  /** What is left when no other string follows. */
  end(): string | undefined {
    const rest = this.#half === '' ? undefined : '\ufffd';
    this.#half = '';
    return rest;
  }
}

const FIRST_HALF = /[\ud800-\udbff]$/;

/** The type of `String.prototype.toWellFormed` is in no `lib` before es2024; Node has it since 20. */
function wellFormed(text: string): string {
  return (text as unknown as { toWellFormed(): string }).toWellFormed();
}
