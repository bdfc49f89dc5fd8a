// Listens on a Unix socket for this user alone: replaces the file of a dead process, not that of a living one.
// Stands alone: copy this file by itself.

import { randomBytes } from 'node:crypto';
import { chmodSync, lstatSync, renameSync, rmSync } from 'node:fs';
import { connect, type Server } from 'node:net';
import { dirname, join } from 'node:path';
import { isMainThread } from 'node:worker_threads';

/** The path cannot be listened on: a process listens there, or something else has that name. */
export interface SocketError extends Error {
  readonly code: 'ERR_SSE_SOCKET_IN_USE';
}

/** What the address of a socket has room for, without the zero at its end. */
const MAX_PATH_BYTES = process.platform === 'linux' ? 107 : 103;

/** @throws {TypeError | RangeError} for what cannot be the path of a Unix socket here. */
export function checkSocketPath(path: string): string {
  if (process.platform === 'win32') throw new TypeError('`path`: there are no Unix sockets on Windows');
  if (typeof path !== 'string' || path === '' || path.includes('\0'))
    throw new TypeError(`\`path\` must be the path of a Unix socket, got ${JSON.stringify(path)}`);
  const bytes = Buffer.byteLength(path);
  if (bytes <= MAX_PATH_BYTES) return path;
  throw new RangeError(`\`path\` must have at most ${MAX_PATH_BYTES} bytes, got ${bytes}: ${path}`);
}

/**
 * Resolves once the server accepts connections. Only processes of the same user may connect.
 * @throws {TypeError | RangeError} for a path that cannot be one.
 * @throws {SocketError} where another process listens, or the path is that of something else.
 */
export async function listenOnSocket(server: Server, path: string): Promise<void> {
  checkSocketPath(path);
  try {
    await listen(server, path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error;
    await removeStale(path);
    await listen(server, path);
  }
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    const listening = (): void => {
      server.off('error', reject);
      chmodSync(path, 0o600);
      resolve();
    };
    privately(() => server.listen(path, listening));
  });
}

/** Between the making of the file and `chmod`, the mask keeps others out. Threads cannot set it. */
function privately(act: () => void): void {
  const mask = isMainThread ? process.umask(0o177) : undefined;
  try {
    act();
  } finally {
    if (mask !== undefined) process.umask(mask);
  }
}

/**
 * Moves the file away first, and then looks whether somebody listens: another process that replaces the same
 * file meanwhile would otherwise lose its new one.
 */
async function removeStale(path: string): Promise<void> {
  if (!lstatSync(path, { throwIfNoEntry: false })?.isSocket()) throw inUse(path, 'is not a socket');
  if (await isAlive(path)) throw inUse(path, 'is in use by another process');
  // In the same folder, and short: the address of a socket has no room for more.
  const aside = join(dirname(path), `.${randomBytes(4).toString('base64url')}`);
  renameSync(path, aside);
  if (await isAlive(aside)) {
    renameSync(aside, path);
    throw inUse(path, 'is in use by another process');
  }
  rmSync(aside);
}

/** Whether a process listens. One whose queue is full does. */
function isAlive(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', ({ code }: NodeJS.ErrnoException) => {
      resolve(code !== 'ECONNREFUSED' && code !== 'ENOENT');
    });
  });
}

function inUse(path: string, why: string): SocketError {
  return Object.assign(new Error(`the path ${path} ${why}`), { code: 'ERR_SSE_SOCKET_IN_USE' as const });
}
