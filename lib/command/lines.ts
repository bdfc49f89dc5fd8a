// Cuts bytes into lines of bounded length: a splitter to feed by hand, and an iterator over any readable.
// Stands alone: copy this file by itself.

export interface LineOptions {
  /** Most bytes of one line that are kept; default 1 MiB. `Infinity`: no limit. */
  maxLineBytes?: number | undefined;
}

export interface LineSplitter {
  /**
   * The lines that `bytes` completes. What is left is kept for the next call, as a copy: the buffer may be
   * used again once the lines have been read to the last (they are cut as they are asked for).
   */
  push(bytes: Uint8Array): Iterable<string>;
  /** The line that still lacks its line feed, or nothing, and a fresh start. */
  flush(): readonly string[];
}

/**
 * Splits at LF and drops a CR before it; a CR elsewhere is the line's own. Bytes that are not UTF-8 become
 * U+FFFD; a character in two pieces does not, since nothing is decoded before its line is whole.
 *
 * A line over `maxLineBytes` is still one line: its beginning, cut between two characters, and a mark with
 * the number of bytes that are missing: `the begi… [+1234 bytes]`. It is not delivered in pieces, because a
 * piece of one line would pass for a line that nobody wrote.
 *
 * @throws {RangeError} on a `maxLineBytes` that is not a whole number ≥ 1 or `Infinity`.
 */
export function createLineSplitter({ maxLineBytes = 2 ** 20 }: LineOptions = {}): LineSplitter {
  checkLimit(maxLineBytes);
  let held: Buffer = EMPTY;
  let length = 0; // of the unfinished line, including what is not held of it
  let last = 0; // its last byte

  // One byte more than the limit is held: a CR that may yet be dropped, or the one that shows where to cut.
  function hold(bytes: Buffer): void {
    if (bytes.length === 0) return;
    const room = maxLineBytes + 1 - length;
    if (room > 0) {
      const needed = length + Math.min(room, bytes.length);
      if (needed > held.length) held = grown(held, length, needed);
      bytes.copy(held, length, 0, room);
    }
    length += bytes.length;
    last = bytes[bytes.length - 1]!;
  }

  function take(): string {
    const size = last === CR ? length - 1 : length;
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

export interface LinesOptions extends LineOptions {
  /** Ends the iteration, as if the source had ended, and destroys a source that has `destroy`. */
  signal?: AbortSignal | undefined;
}

/** A Node `Readable` such as `process.stdin`, or any other iterable of bytes. */
export interface LineSource extends AsyncIterable<Uint8Array | string> {
  destroy?(): unknown;
}

/**
 * The source's lines, one per pull: a consumer that waits makes the source wait. At the source's end the
 * last line comes even without its line feed; the source's error is thrown once the lines before it are read.
 *
 * Leaving the loop or aborting `signal` ends the iteration and destroys the source: `process.stdin` then no
 * longer holds the process. A source without `destroy` is only let go when its next chunk arrives.
 *
 * @throws {RangeError} at once, on a bad `maxLineBytes`.
 * @see createLineSplitter for what counts as a line
 */
export function lines(
  source: LineSource,
  options: LinesOptions = {},
): AsyncGenerator<string, void, undefined> {
  const { maxLineBytes, signal } = options;
  const splitter = createLineSplitter({ maxLineBytes });
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
      if (!stopped) throw error; // A destroyed Readable says so as an error.
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

// A generator that is waiting hears of `return()` only when its wait is over: so end the wait first.
function stoppable<T extends AsyncGenerator<string, void, undefined>>(generator: T, stop: () => void): T {
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

// Doubling: a line that drips in byte by byte is copied twice in all, not once per byte.
function grown(held: Buffer, used: number, needed: number): Buffer {
  const larger = Buffer.allocUnsafe(Math.max(needed, held.length * 2, 256));
  held.copy(larger, 0, 0, used);
  return larger;
}

function shortened(bytes: Buffer, limit: number, size: number): string {
  let end = limit;
  // 10xxxxxx goes on with a character; none has more than three of them.
  while (end > 0 && limit - end < 3 && (bytes[end]! & 0xc0) === 0x80) end -= 1;
  return `${bytes.toString('utf8', 0, end)}… [+${size - end} bytes]`;
}

function checkLimit(value: number): void {
  if (value === Number.POSITIVE_INFINITY || (Number.isSafeInteger(value) && value >= 1)) return;
  throw new RangeError(`\`maxLineBytes\` must be a whole number ≥ 1 or Infinity, got ${String(value)}`);
}
