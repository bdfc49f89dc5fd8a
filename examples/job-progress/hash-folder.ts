// Computes the SHA-256 of each file of a folder, and says how far it is.
// Stands alone: copy this file by itself.

import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { join, relative } from 'node:path';

/** How much of the folder is done. */
export interface Progress {
  readonly files: number;
  readonly bytes: number;
  readonly ofFiles: number;
  readonly ofBytes: number;
}

/** What was made of one file: its digest, or the system's code where it cannot be read. */
export interface Hashed {
  /** Below the folder. */
  readonly path: string;
  readonly digest?: string | undefined;
  readonly error?: string | undefined;
}

export interface HashOptions {
  /** Stops it: it then throws the signal's reason. */
  readonly signal: AbortSignal;
  /** Called for each file, and may be waited for. */
  readonly onFile: (hashed: Hashed) => unknown;
  /** Called at the start, every 100 ms while something was read, and at the end. */
  readonly onProgress: (progress: Progress) => unknown;
}

const PROGRESS_INTERVAL = 100;
const PIECE_BYTES = 256 * 1024;

/** Links are not followed. Resolves with the last progress. */
export async function hashFolder(folder: string, options: HashOptions): Promise<Progress> {
  const { signal, onFile, onProgress } = options;
  const found = await filesOf(folder);
  const ofBytes = found.reduce((sum, { size }) => sum + size, 0);
  let progress: Progress = { files: 0, bytes: 0, ofFiles: found.length, ofBytes };
  let reported = performance.now();
  onProgress(progress);
  const read = (bytes: number): void => {
    progress = { ...progress, bytes: progress.bytes + bytes };
    if (performance.now() - reported < PROGRESS_INTERVAL) return;
    reported = performance.now();
    onProgress(progress);
  };
  for (const { path } of found) {
    const outcome = await hashFile(join(folder, path), signal, read);
    signal.throwIfAborted();
    await onFile({ path, ...outcome });
    progress = { ...progress, files: progress.files + 1 };
  }
  onProgress(progress);
  return progress;
}

async function hashFile(
  file: string,
  signal: AbortSignal,
  onRead: (bytes: number) => void,
): Promise<Omit<Hashed, 'path'>> {
  const hash = createHash('sha256');
  try {
    for await (const piece of createReadStream(file, { signal, highWaterMark: PIECE_BYTES })) {
      hash.update(piece);
      onRead(piece.length);
    }
  } catch (error) {
    return { error: (error as NodeJS.ErrnoException).code ?? 'unknown' };
  }
  return { digest: hash.digest('hex') };
}

async function filesOf(folder: string): Promise<{ path: string; size: number }[]> {
  const files: { path: string; size: number }[] = [];
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const file = join(entry.parentPath, entry.name);
    // One that has gone meanwhile is reported when it is read.
    const size = await stat(file).then(
      (stats) => stats.size,
      () => 0,
    );
    files.push({ path: relative(folder, file), size });
  }
  return files.sort((a, b) => (a.path < b.path ? -1 : 1));
}
