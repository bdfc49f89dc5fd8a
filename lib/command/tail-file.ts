// Yields the lines appended to a file, through truncation and rotation.
// Needs `lines.ts` beside it.

import { type BigIntStats, constants, type FSWatcher, watch } from 'node:fs';
import { type FileHandle, open, stat } from 'node:fs/promises';
import { createLineSplitter } from './lines.ts';

export interface FollowOptions {
  /** Where to begin in a file that is there at the start: after its last whole line (default), or before its first. */
  from?: 'end' | 'start' | undefined;
  /** Wait for a file that is not there yet, then read it from its start; default `false`, an `ENOENT`. */
  wait?: boolean | undefined;
  /** Milliseconds between two looks at the file, 1 to 2³¹ − 1; default 250. */
  pollInterval?: number | undefined;
  /**
   * Look at once when `fs.watch` tells of a change; default `true`. Nothing depends on it: where it is
   * silent (network filesystems) or refused (no inotify watches left), the interval decides.
   */
  watch?: boolean | undefined;
  /** Most bytes kept of one line; default 1 MiB. A longer one says what is missing of it. */
  maxLineBytes?: number | undefined;
  /** As in `fs.watch`: `false` lets the process end though the file is still followed; default `true`. */
  persistent?: boolean | undefined;
  /** Called once, when the place to begin at is taken: what is appended from then on is not missed. */
  onReady?: (() => void) | undefined;
  /** Ends the iteration: the pending pull answers `done`. */
  signal?: AbortSignal | undefined;
}

/**
 * The lines appended to `file`, without their line ends, one per pull: a consumer that waits makes the
 * reading wait, and memory stays at one piece of 64 KiB and one line. Nothing is opened before the first
 * pull; `signal`, `return()` and leaving the loop close what was.
 *
 * What is noticed, at the next look:
 * - **Rotation**: another file has the name and is not empty. The old one is read to its end first, so what
 *   a writer wrote there until it turned to the new one is not lost. The name may be gone in between for as
 *   long as it likes.
 * - **Truncation**: the file is shorter, or the last 64 bytes that were read are not in their place any
 *   more, which tells of a file that was emptied and is already longer, or just as long. It is read from
 *   its start; the hole of NULs left by a writer that does not append is skipped.
 *
 * In both cases what had no line feed yet is delivered as a line: a beginning is never joined to an end
 * that may not be its own. What no follower can see: lines written and truncated between two looks, and a
 * file that came and went between two looks (two rotations within one interval).
 *
 * The first pull throws the system's error, with its `code`, for a file that is missing or cannot be read,
 * and `ERR_SSE_NOT_A_FILE` for a directory, a pipe or a device. So does a later one, for a later file.
 *
 * @throws {TypeError|RangeError} at once, on a bad option.
 * @see createLineSplitter for what counts as a line
 */
export function follow(
  file: string | URL,
  options: FollowOptions = {},
): AsyncGenerator<string, void, undefined> {
  const { from = 'end', wait = false, pollInterval = 250, persistent = true } = options;
  const { maxLineBytes, onReady, signal } = options;
  checkOptions(from, pollInterval);
  const splitter = createLineSplitter({ maxLineBytes });
  const alarm = new Alarm(pollInterval, persistent);
  const openFile = (): Promise<FollowedFile> =>
    FollowedFile.open(file, options.watch === false ? undefined : alarm);
  const leave = (): void => void generator.return().catch(() => {});

  async function* read(): AsyncGenerator<string, void, undefined> {
    if (signal?.aborted) return;
    signal?.addEventListener('abort', leave);
    try {
      for await (const piece of pieces(openFile, from, wait, alarm, onReady)) {
        for (const line of piece === undefined ? splitter.flush() : splitter.push(piece)) {
          if (alarm.stopped) return;
          yield line;
        }
      }
    } finally {
      signal?.removeEventListener('abort', leave);
    }
  }

  const generator = stoppable(read(), () => alarm.stop());
  return generator;
}

// What is appended; `undefined` where the next piece does not go on from the last one.
async function* pieces(
  openFile: () => Promise<FollowedFile>,
  from: 'end' | 'start',
  wait: boolean,
  alarm: Alarm,
  onReady: (() => void) | undefined,
): AsyncGenerator<Buffer | undefined, void, undefined> {
  let file = wait ? await unlessMissing(openFile()) : await openFile();
  try {
    const begun = from === 'end' ? await file?.skipLines() : undefined;
    onReady?.();
    if (begun !== undefined) yield begun;
    while (!alarm.stopped) {
      // First look at the name, then read: all that its writer gave the old file before the new one is there.
      const replaced = file === undefined || (await file.isReplaced());
      while (file !== undefined && !alarm.stopped) {
        yield await file.read();
        if (file.atEnd) break;
      }
      const next: FollowedFile | undefined = replaced ? await unlessMissing(openFile()) : undefined;
      if (next === undefined) await alarm.wait();
      else {
        await file?.close();
        file = next;
        yield undefined;
      }
    }
  } finally {
    await file?.close();
  }
}

const PIECE_BYTES = 64 * 1024;
const MARK_BYTES = 64;
const NOTHING: Buffer = Buffer.alloc(0);

class FollowedFile {
  /** Whether the last read came to the end of what was there. */
  atEnd: boolean = false;
  readonly #path: string | URL;
  readonly #handle: FileHandle;
  readonly #identity: BigIntStats;
  readonly #watcher: FSWatcher | undefined;
  readonly #buffer: Buffer = Buffer.allocUnsafe(MARK_BYTES + PIECE_BYTES);
  #offset = 0;
  #mark: Buffer = NOTHING; // the last bytes before the offset
  #inHole = false;

  static async open(path: string | URL, alarm: Alarm | undefined): Promise<FollowedFile> {
    // Without O_NONBLOCK a pipe would keep a thread waiting for its writer; Windows has neither.
    const handle = await open(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
    try {
      const stats = await handle.stat({ bigint: true });
      if (!stats.isFile()) throw notAFile(path);
      return new FollowedFile(path, handle, stats, alarm);
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

  /** The next piece, valid until the next call; empty at the end; `undefined` if it begins at the start again. */
  async read(): Promise<Buffer | undefined> {
    const { bytesRead } = await this.#handle.read({
      buffer: this.#buffer,
      position: this.#offset - this.#mark.length,
    });
    const bytes = this.#buffer.subarray(0, bytesRead);
    const isContinued = bytes.subarray(0, this.#mark.length).equals(this.#mark);
    this.atEnd = isContinued && bytesRead < this.#buffer.length;
    if (!isContinued) return this.#rewind();
    const piece = bytes.subarray(this.#mark.length);
    this.#offset += piece.length;
    this.#mark = Buffer.from(bytes.subarray(-MARK_BYTES));
    return this.#inHole ? this.#pastHole(piece) : piece;
  }

  #rewind(): undefined {
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

  /** Moves to the end; answers the beginning of a line that is still being written there. */
  async skipLines(): Promise<Buffer | undefined> {
    const { size } = await this.#handle.stat();
    this.#offset = Math.max(0, size - PIECE_BYTES);
    const piece = await this.read();
    return piece?.subarray(piece.lastIndexOf(0x0a) + 1);
  }

  /** Whether another file has the name, and something in it: an empty one has nothing that could be missed. */
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

/** Rings when told, or when nothing was told for an interval. A ring that nobody waits for is kept. */
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
    if (!this.#rung) await this.#nextRing();
    this.#rung = false;
  }

  #nextRing(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, this.#interval);
      if (!this.persistent) timer.unref();
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
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

async function unlessMissing<T>(answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

function notAFile(path: string | URL): Error {
  const error = new Error(`\`${path}\` is not a regular file: it cannot be followed`);
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
