// Cuts the lines of a source into batches: all lines that have arrived, within the limits of a request.
// Needs `lines.ts` beside it.

import { createLineSplitter, type LineSource } from '../lines.ts';

/** Read for each line, so that they may be lowered while batches are cut. */
export interface BatchLimits {
  /** The most lines of one batch. */
  maxLines: number;
  /** The most bytes of one batch. A line that is longer is a batch of its own. */
  maxBytes: number;
}

interface BatchOptions {
  readonly limits: BatchLimits;
  /** A line of more bytes is an error. */
  readonly maxLineBytes: number;
  /** Turns a line into an entry of the batch, or leaves it out. An error that it throws ends the iteration. */
  readonly convert: (line: string) => string | undefined;
  /** Ends the iteration with the signal's reason. */
  readonly signal: AbortSignal;
}

/**
 * Yields a batch as soon as a line is complete, with every other line that has arrived. While a batch is
 * being sent, at most one more chunk is read. Lines before a failure are yielded before it is thrown. The end
 * of the iteration destroys the source, so that `process.stdin` no longer keeps the process running.
 */
export async function* batches(
  source: LineSource,
  options: BatchOptions,
): AsyncGenerator<string[], void, undefined> {
  const { maxLineBytes, signal } = options;
  const splitter = createLineSplitter({ maxLineBytes, overlong: 'throw' });
  try {
    for await (const bytes of arrivals(source, options.limits.maxBytes, signal)) {
      yield* cut(splitter.push(bytes), options);
    }
    yield* cut(splitter.flush(), options);
  } finally {
    source.destroy?.();
  }
}

function* cut(
  lines: Iterable<string>,
  { limits, convert }: BatchOptions,
): Generator<string[], void, undefined> {
  let batch: string[] = [];
  let bytes = 0;
  try {
    for (const line of lines) {
      const entry = convert(line);
      if (entry === undefined) continue;
      const size = Buffer.byteLength(entry);
      if (batch.length >= limits.maxLines || (batch.length > 0 && bytes + size > limits.maxBytes)) {
        yield batch;
        batch = [];
        bytes = 0;
      }
      batch.push(entry);
      bytes += size;
    }
  } catch (error) {
    if (batch.length > 0) yield batch;
    throw error;
  }
  if (batch.length > 0) yield batch;
}

/** Yields all bytes that have arrived as one piece, however small their chunks are. */
async function* arrivals(
  source: LineSource,
  maxBytes: number,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array, void, undefined> {
  const chunks = source[Symbol.asyncIterator]();
  const pull = () => {
    const next = chunks.next();
    // The read may fail while a batch is being sent and nothing awaits it: that is no unhandled rejection.
    next.catch(() => {});
    return next;
  };
  let next = pull();
  for (;;) {
    let result: IteratorResult<Uint8Array | string> | undefined = await unlessAborted(next, signal);
    const together: Uint8Array[] = [];
    for (let bytes = 0; result !== undefined && !result.done && bytes < maxBytes; ) {
      const chunk = typeof result.value === 'string' ? Buffer.from(result.value) : result.value;
      together.push(chunk);
      bytes += chunk.length;
      next = pull();
      result = await Promise.race([next, nothingYet()]);
    }
    yield Buffer.concat(together);
    if (result?.done) return;
  }
}

function nothingYet(): Promise<undefined> {
  return new Promise((resolve) => setImmediate(resolve, undefined));
}

/** Settles as the promise does, or rejects with the signal's reason where that comes first. */
export async function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  let stop = (): void => {};
  const aborted = new Promise<never>((_, reject) => {
    stop = () => reject(signal.reason);
    signal.addEventListener('abort', stop, { once: true });
  });
  return Promise.race([promise, aborted]).finally(() => signal.removeEventListener('abort', stop));
}
