// Yields the lines appended to a file, through truncation and rotation.
// Needs `backoff.ts` and `lines.ts` beside it.

import { type BigIntStats, constants, type FSWatcher, watch } from 'node:fs';
import { type FileHandle, open, stat } from 'node:fs/promises';
import { Backoff } from './backoff.ts';
import { createLineSplitter, stoppable } from './lines.ts';

export interface TailFileOptions {
  /** Where to begin in a file that exists: after its last complete line (default), or at its start. */
  from?: 'end' | 'start' | undefined;
  /** Wait for a file that does not exist yet, then read it from its start; default `false`, an `ENOENT`. */
  wait?: boolean | undefined;
  /** Milliseconds between two checks of the file, 1 to 2³¹ − 1; default 250. */
  pollInterval?: number | undefined;
  /**
   * Check at once when `fs.watch` reports a change; default `true`. It only saves time: where it reports
   * nothing (network filesystems) or is refused (no inotify watches left), the interval decides.
   */
  watch?: boolean | undefined;
  /** How many bytes of one line are kept; default 1 MiB. A longer line states how many are missing. */
  maxLineBytes?: number | undefined;
  /** As in `fs.watch`: with `false`, following the file does not keep the process running; default `true`. */
  persistent?: boolean | undefined;
  /** Called once, when the place to begin at is known: every line that is appended later is yielded. */
  onReady?: (() => void) | undefined;
  /** Called where the next line is the first of its file: after each rotation and truncation. */
  onStartAgain?: (() => void) | undefined;
  /**
   * Called for each failure after the first pull has opened the file. `delay` is the time in milliseconds
   * after which the file is tried again.
   */
  onError?: ((error: Error, context: { readonly delay: number }) => void) | undefined;
  /** Called when the file can be read again after failures. */
  onRecover?: (() => void) | undefined;
  /** Ends the iteration: the pending pull resolves with `done`. */
  signal?: AbortSignal | undefined;
}

/**
 * Yields the lines appended to `file`, without their line ends, one per pull. Nothing is read while the
 * consumer is busy, and memory stays at one piece of 64 KiB and one line. The first pull opens the file;
 * `signal`, `return()` and leaving the loop close it.
 *
 * Each check notices:
 * - **Rotation**: another file has the name, and is not empty. The old file is read to its end first, so that
 *   no line is lost that its writer added before it opened the new one. In between, the name may be missing
 *   for any length of time.
 * - **Truncation**: the file is shorter, or the last 64 bytes that were read are no longer in their place, as
 *   in a file that was emptied and has grown again. The file is read from its start. A writer that does not
 *   append leaves a hole of NULs at the start; the hole is skipped.
 *
 * In both cases the unfinished line is delivered as a line: its beginning is never joined to an end that may
 * belong to another line. Cannot be noticed: lines that are written and truncated between two checks, and a
 * file that comes and goes between two checks (two rotations within one interval).
 *
 * The first pull throws the system's error, with its `code`, where the file is missing or cannot be read, and
 * `ERR_SSE_NOT_A_FILE` for a directory, a pipe or a device. Later failures pass: whatever keeps the name, the
 * old file or the new one from being read is reported to `onError` and tried again, at waits that grow to 10
 * seconds. Meanwhile the old file stays open, and what can be read of it is read.
 *
 * @throws {TypeError|RangeError} at once, for a bad option.
 * @see createLineSplitter for what counts as a line
 */
export function tailFile(
  file: string | URL,
  options: TailFileOptions = {},
): AsyncGenerator<string, void, undefined> {
  const { from = 'end', wait = false, pollInterval = 250, persistent = true } = options;
  const { maxLineBytes, onReady, onStartAgain, onError, onRecover, signal } = options;
  checkOptions(from, pollInterval);
  const splitter = createLineSplitter({ maxLineBytes });
  const alarm = new Alarm(pollInterval, persistent);
  const openFile = (): Promise<TailedFile> =>
    TailedFile.open(file, options.watch === false ? undefined : alarm);
  const leave = (): void => void generator.return().catch(() => {});

  async function* read(): AsyncGenerator<string, void, undefined> {
    if (signal?.aborted) return;
    signal?.addEventListener('abort', leave);
    try {
      for await (const piece of pieces(openFile, { from, wait, onReady, onError, onRecover }, alarm)) {
        for (const line of piece === undefined ? splitter.flush() : splitter.push(piece)) {
          if (alarm.stopped) return;
          yield line;
        }
        if (piece === undefined) onStartAgain?.();
      }
    } finally {
      signal?.removeEventListener('abort', leave);
    }
  }

  const generator = stoppable(read(), () => alarm.stop());
  return generator;
}

// Yields appended bytes; `undefined` where the next piece does not continue the last one.
async function* pieces(
  openFile: () => Promise<TailedFile>,
  { from, wait, onReady, ...callbacks }: TailFileOptions,
  alarm: Alarm,
): AsyncGenerator<Buffer | undefined, void, undefined> {
  let file = wait ? await unlessMissing(openFile()) : await openFile();
  const failures = new Failures(callbacks);
  try {
    if (from === 'end') await file?.skipLines(alarm);
    onReady?.();
    while (!alarm.stopped) {
      // Checks the name before it reads, so that the read gets all that was written to the old file before.
      const replaced = file === undefined || (await failures.note(file.isReplaced(), false));
      while (file !== undefined && !alarm.stopped) {
        const piece = await failures.note(file.read(), FAILED);
        if (piece === FAILED) break;
        yield piece;
        if (file.atEnd) break;
      }
      const next: TailedFile | undefined = replaced
        ? await failures.note(unlessMissing(openFile()), undefined)
        : undefined;
      if (next !== undefined) {
        await file?.close();
        file = next;
        yield undefined;
      }
      const delay = failures.report();
      if (delay !== undefined) await alarm.pause(delay);
      else if (next === undefined) await alarm.wait();
    }
  } finally {
    await file?.close();
  }
}

/** The failures of one round of checks, and the time to wait after those rounds that had one. */
class Failures {
  #first: Error | undefined; // of this round
  readonly #callbacks: Pick<TailFileOptions, 'onError' | 'onRecover'>;
  #backoff: Backoff | undefined; // since the first round that failed

  constructor(callbacks: Pick<TailFileOptions, 'onError' | 'onRecover'>) {
    this.#callbacks = callbacks;
  }

  async note<T, Instead>(answer: Promise<T>, instead: Instead): Promise<T | Instead> {
    try {
      return await answer;
    } catch (error) {
      this.#first ??= error as Error;
      return instead;
    }
  }

  /** Ends the round. Returns how long to wait before the next one; `undefined` where nothing failed. */
  report(): number | undefined {
    const { onError, onRecover } = this.#callbacks;
    const error = this.#first;
    this.#first = undefined;
    if (error !== undefined) {
      this.#backoff ??= new Backoff(RETRY);
      const delay = this.#backoff.nextDelay();
      onError?.(error, { delay });
      return delay;
    }
    if (this.#backoff !== undefined) onRecover?.();
    this.#backoff = undefined;
    return undefined;
  }
}

const RETRY = { minRetryDelay: 100, backoffDelay: 200, maxBackoffDelay: 10_000 };

const PIECE_BYTES = 64 * 1024;
const MARK_BYTES = 64;
const NOTHING: Buffer = Buffer.alloc(0);
const FAILED = Symbol('failed');

class TailedFile {
  /** Whether the last read reached the end of the file. */
  atEnd: boolean = false;
  readonly #path: string | URL;
  readonly #handle: FileHandle;
  readonly #identity: BigIntStats;
  readonly #watcher: FSWatcher | undefined;
  readonly #buffer: Buffer = Buffer.allocUnsafe(MARK_BYTES + PIECE_BYTES);
  #offset = 0;
  #mark: Buffer = NOTHING; // the last bytes before the offset, to recognise the file by
  #inHole = false;

  static async open(path: string | URL, alarm: Alarm | undefined): Promise<TailedFile> {
    // Without O_NONBLOCK, opening a pipe blocks a thread until the pipe has a writer. Windows has neither.
    const handle = await open(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
    try {
      const stats = await handle.stat({ bigint: true });
      if (!stats.isFile()) throw notAFile(path);
      return new TailedFile(path, handle, stats, alarm);
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  constructor(path: string | URL, handle: FileHandle, identity: BigIntStats, alarm: Alarm | undefined) {
    this.#path = path;
    this.#handle = handle;
    this.#identity = identity;
    this.#watcher = alarm && watchIfPossible(path, alarm);
  }

  /** The next piece, valid until the next call. Empty at the end; `undefined` where it starts again at 0. */
  async read(): Promise<Buffer | undefined> {
    const { bytesRead } = await this.#handle.read({
      buffer: this.#buffer,
      position: this.#offset - this.#mark.length,
    });
    const bytes = this.#buffer.subarray(0, bytesRead);
    const isContinued = bytes.subarray(0, this.#mark.length).equals(this.#mark);
    this.atEnd = isContinued && bytesRead < this.#buffer.length;
    if (!isContinued) return this.#startAgain();
    const piece = bytes.subarray(this.#mark.length);
    this.#offset += piece.length;
    this.#mark = Buffer.from(bytes.subarray(-MARK_BYTES));
    return this.#inHole ? this.#pastHole(piece) : piece;
  }

  #startAgain(): undefined {
    this.#offset = 0;
    this.#mark = NOTHING;
    this.#inHole = true;
  }

  #pastHole(piece: Buffer): Buffer {
    let start = 0;
    while (start < piece.length && piece[start] === 0) start += 1;
    this.#inHole = start === piece.length;
    return piece.subarray(start);
  }

  /** Moves to the beginning of the unfinished line at the end, piece by piece. */
  async skipLines(alarm: Alarm): Promise<void> {
    let end = (await this.#handle.stat()).size;
    while (end > 0 && !alarm.stopped) {
      const position = Math.max(0, end - PIECE_BYTES);
      const { bytesRead } = await this.#handle.read({
        buffer: this.#buffer,
        length: end - position,
        position,
      });
      const lines = this.#buffer.subarray(0, this.#buffer.subarray(0, bytesRead).lastIndexOf(0x0a) + 1);
      if (lines.length > 0) {
        this.#offset = position + lines.length;
        this.#mark = Buffer.from(lines.subarray(-MARK_BYTES));
        return;
      }
      end = position;
    }
  }

  /** Whether another file has the name, and is not empty. An empty one has nothing to read yet. */
  async isReplaced(): Promise<boolean> {
    const stats = await unlessMissing(stat(this.#path, { bigint: true }));
    if (stats === undefined || stats.size === 0n) return false;
    return stats.ino !== this.#identity.ino || stats.dev !== this.#identity.dev;
  }

  async close(): Promise<void> {
    this.#watcher?.close();
    await this.#handle.close();
  }
}

function watchIfPossible(path: string | URL, alarm: Alarm): FSWatcher | undefined {
  try {
    const watcher = watch(path, { persistent: alarm.persistent });
    watcher.on('change', () => alarm.ring());
    return watcher.on('error', () => watcher.close());
  } catch {
    return undefined;
  }
}

/** Waits for `ring()`, at most for the interval. A `ring()` outside a wait ends the next wait at once. */
class Alarm {
  stopped: boolean = false;
  readonly persistent: boolean;
  readonly #interval: number;
  #rung = false;
  #wake: (() => void) | undefined;

  constructor(interval: number, persistent: boolean) {
    this.#interval = interval;
    this.persistent = persistent;
  }

  ring(): void {
    this.#rung = true;
    this.#wake?.();
  }

  stop(): void {
    this.stopped = true;
    this.ring();
  }

  async wait(): Promise<void> {
    if (!this.#rung) await this.#nextRing(this.#interval);
    this.#rung = false;
  }

  /** Waits for this long, or until `stop()`: a change of the file does not shorten it. */
  async pause(delay: number): Promise<void> {
    const until = performance.now() + delay;
    for (let left = delay; left > 0 && !this.stopped; left = until - performance.now()) {
      await this.#nextRing(Math.ceil(left));
    }
    this.#rung = false;
  }

  #nextRing(delay: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, delay);
      if (!this.persistent) timer.unref();
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

async function unlessMissing<T>(answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

function notAFile(path: string | URL): Error {
  const error = new Error(`\`${path}\` is not a regular file, so it cannot be followed`);
  return Object.assign(error, { code: 'ERR_SSE_NOT_A_FILE' });
}

const MAX_DELAY = 2 ** 31 - 1;

function checkOptions(from: unknown, pollInterval: unknown): void {
  if (from !== 'end' && from !== 'start') {
    throw new TypeError(`\`from\` must be 'end' or 'start', got ${String(from)}`);
  }
  if (
    !Number.isInteger(pollInterval) ||
    (pollInterval as number) < 1 ||
    (pollInterval as number) > MAX_DELAY
  ) {
    throw new RangeError(
      `\`pollInterval\` must be a whole number of milliseconds from 1 to ${MAX_DELAY}, got ${String(pollInterval)}`,
    );
  }
}
