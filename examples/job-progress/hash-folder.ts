// Computes the SHA-256 of each file of a folder, and says how far it is.
// Stands alone: copy this file by itself.

import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';

/** How much of the folder is done. */
export interface Progress {
  readonly files: number;
  readonly bytes: number;
  readonly ofFiles: number;
  readonly ofBytes: number;
}

/** What was made of one file: its digest, or the system's code where it, or a folder, cannot be read. */
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
  const found = await filesOf(folder, signal);
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
  for (const { path, error } of found) {
    const outcome = error === undefined ? await hashFile(join(folder, path), signal, read) : { error };
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
    return { error: codeOf(error) };
  }
  return { digest: hash.digest('hex') };
}

interface Found {
  readonly path: string;
  readonly size: number;
  /** Of a folder that cannot be read: its files are missing. */
  readonly error?: string | undefined;
}

async function filesOf(folder: string, signal: AbortSignal): Promise<Found[]> {
  const found: Found[] = [];
  // Grows while it is walked through.
  const folders = [''];
  for (const below of folders) {
    const entries = await readdir(join(folder, below), { withFileTypes: true }).catch((error: unknown) => {
      if (below === '') throw error;
      found.push({ path: below, size: 0, error: codeOf(error) });
      return [];
    });
    for (const entry of entries) {
      signal.throwIfAborted();
      const path = join(below, entry.name);
      if (entry.isDirectory()) folders.push(path);
      else if (entry.isFile()) found.push({ path, size: await sizeOf(join(folder, path)) });
    }
    signal.throwIfAborted();
  }
  return found.sort((a, b) => (a.path < b.path ? -1 : 1));
}

/** One that has gone meanwhile is reported when it is read. */
async function sizeOf(file: string): Promise<number> {
  return stat(file).then(
    ({ size }) => size,
    () => 0,
  );
}

function codeOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? 'unknown';
}
