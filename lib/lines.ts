// Cuts bytes into lines of bounded length: a splitter that is fed by hand, and an iterator over any readable.
// Stands alone: copy this file by itself.

interface LineOptions {
  /** How many bytes of one line are kept; default 1 MiB. `Infinity`: no limit. */
  maxLineBytes?: number | undefined;
  /**
   * The treatment of a longer line. `'shorten'` (default) keeps its beginning, cut between two characters,
   * and adds the number of bytes that are missing: `the begi… [+1234 bytes]`. `'throw'` throws a
   * {@link LineError} as soon as the limit is exceeded; the splitter must not be used afterwards.
   */
  overlong?: 'shorten' | 'throw' | undefined;
}

interface LineError extends Error {
  readonly code: 'ERR_SSE_LINE_TOO_LONG';
}

interface LineSplitter {
  /**
   * Yields the lines that `bytes` completes, and keeps a copy of the rest for the next call. Lines are cut
   * while they are iterated over: iterate to the end before the next call, and before the buffer is used
   * again.
   */
  push(bytes: Uint8Array): Iterable<string>;
  /** Returns the unfinished line, if there is one, and forgets it. */
  flush(): readonly string[];
}

/**
 * Splits at LF and drops a CR before it; a CR anywhere else belongs to the line. Bytes that are not UTF-8
 * become U+FFFD. A character that is split between two chunks does not: a line is decoded when it is
 * complete.
 *
 * A line that is too long is never delivered in pieces, because each piece would look like a line.
 *
 * @throws {RangeError} for a `maxLineBytes` that is not a whole number ≥ 1 or `Infinity`.
 */
export function createLineSplitter({
  maxLineBytes = 2 ** 20,
  overlong = 'shorten',
}: LineOptions = {}): LineSplitter {
  checkLimit(maxLineBytes);
  let held: Buffer = EMPTY;
  let length = 0; // of the unfinished line, including the bytes of it that are not held
  let last = 0; // its last byte

  // Holds one byte more than the limit: a CR that is dropped later, or the byte that shows where to cut.
  function hold(bytes: Buffer): void {
    if (bytes.length === 0) return;
    const kept = Math.min(maxLineBytes + 1 - length, bytes.length);
    if (kept > 0) {
      if (length + kept > held.length) held = grown(held, length, length + kept);
      bytes.copy(held, length, 0, kept);
    }
    length += bytes.length;
    last = bytes[bytes.length - 1]!;
    if (overlong === 'throw' && sizeOfLine() > maxLineBytes) throw tooLong(maxLineBytes);
  }

  function sizeOfLine(): number {
    return last === CR ? length - 1 : length;
  }

  function take(): string {
    const size = sizeOfLine();
    const line = size <= maxLineBytes ? held.toString('utf8', 0, size) : shortened(held, maxLineBytes, size);
    if (held.length > KEPT_BYTES) held = EMPTY;
    length = last = 0;
    return line;
  }

  return {
    *push(chunk: Uint8Array): Generator<string, void, undefined> {
      const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
      let start = 0;
      for (let end = bytes.indexOf(LF); end !== -1; end = bytes.indexOf(LF, start)) {
        let line: string;
        if (length === 0 && end - start <= maxLineBytes) {
          line = bytes.toString('utf8', start, end > start && bytes[end - 1] === CR ? end - 1 : end);
        } else {
          hold(bytes.subarray(start, end));
          line = take();
        }
        start = end + 1;
        yield line;
      }
      hold(bytes.subarray(start));
    },
    flush: () => (length === 0 ? [] : [take()]),
  };
}

interface LinesOptions extends LineOptions {
  /** Ends the iteration as if the source had ended, and destroys the source where it has `destroy`. */
  signal?: AbortSignal | undefined;
}

/** A Node `Readable` such as `process.stdin`, or any other iterable of bytes. */
export interface LineSource extends AsyncIterable<Uint8Array | string> {
  destroy?(): unknown;
}

/**
 * Yields the lines of a source, one per pull: the source is not read while the consumer is busy. At the
 * source's end the last line is yielded even without its line feed. An error of the source is thrown after
 * the lines before it.
 *
 * Leaving the loop or aborting `signal` ends the iteration and destroys the source, so that `process.stdin`
 * no longer keeps the process running. A source without `destroy` is released when its next chunk arrives.
 *
 * @throws {RangeError} at once, for a bad `maxLineBytes`.
 * @see createLineSplitter for what counts as a line
 */
export function lines(
  source: LineSource,
  options: LinesOptions = {},
): AsyncGenerator<string, void, undefined> {
  const { signal } = options;
  const splitter = createLineSplitter(options);
  let stopped = false;
  const leave = (): void => void generator.return().catch(() => {});

  async function* read(): AsyncGenerator<string, void, undefined> {
    if (signal?.aborted) return stop();
    signal?.addEventListener('abort', leave);
    try {
      for await (const chunk of source) {
        for (const line of splitter.push(typeof chunk === 'string' ? Buffer.from(chunk) : chunk)) {
          if (stopped) return;
          yield line;
        }
      }
      if (!stopped) yield* splitter.flush();
    } catch (error) {
      if (!stopped) throw error; // A Readable that was destroyed reports it as an error.
    } finally {
      signal?.removeEventListener('abort', leave);
    }
  }

  function stop(): void {
    stopped = true;
    source.destroy?.();
  }

  const generator = stoppable(read(), stop);
  return generator;
}

/**
 * Makes `return()` end a generator that is waiting. By itself, `return()` takes effect only after the wait,
 * so this calls `stop` first, which must end the wait.
 */
export function stoppable<Generator extends AsyncGenerator<string, void, undefined>>(
  generator: Generator,
  stop: () => void,
): Generator {
  const leave = generator.return;
  generator.return = (value) => {
    stop();
    return leave.call(generator, value);
  };
  return generator;
}

const LF = 0x0a;
const CR = 0x0d;
const EMPTY: Buffer = Buffer.alloc(0);
const KEPT_BYTES = 64 * 1024;

// Doubles, so that a line that arrives byte by byte is copied twice in all, not once per byte.
function grown(held: Buffer, used: number, needed: number): Buffer {
  const larger = Buffer.allocUnsafe(Math.max(needed, held.length * 2, 256));
  held.copy(larger, 0, 0, used);
  return larger;
}

function shortened(bytes: Buffer, limit: number, size: number): string {
  let end = limit;
  // 10xxxxxx continues a character; no character has more than three such bytes.
  while (end > 0 && limit - end < 3 && (bytes[end]! & 0xc0) === 0x80) end -= 1;
  return `${bytes.toString('utf8', 0, end)}… [+${size - end} bytes]`;
}

function tooLong(maxLineBytes: number): LineError {
  const error = new Error(`a line is longer than ${maxLineBytes} bytes`);
  return Object.assign(error, { code: 'ERR_SSE_LINE_TOO_LONG' as const });
}

function checkLimit(value: number): void {
  if (value === Infinity || (Number.isSafeInteger(value) && value >= 1)) return;
  throw new RangeError(`\`maxLineBytes\` must be a whole number ≥ 1 or Infinity, got ${String(value)}`);
}
