// What a running cluster writes down, so that rolling-restart.ts finds its servers, and what HAProxy says of them.
// Stands alone: copy this file by itself.

import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';

/** The servers, by their names in haproxy.cfg. */
export const NAMES = ['one', 'two', 'three'] as const;

export type Name = (typeof NAMES)[number];

/** The process of each server that runs at present. */
export type State = Readonly<Record<Name, number | undefined>>;

/** The folder of one cluster: the state, the logs of its servers, the files of Redis, the socket of HAProxy. */
export const DEFAULT_FOLDER: string = join(import.meta.dirname, 'running');

export function writeState(folder: string, state: State): void {
  // A reader sees the old file or the new one, and never half of it.
  writeFileSync(join(folder, 'state.json.new'), JSON.stringify(state));
  renameSync(join(folder, 'state.json.new'), join(folder, 'state.json'));
}

/** @throws the system's error where no cluster runs in this folder. */
export function readState(folder: string): State {
  return JSON.parse(readFileSync(join(folder, 'state.json'), 'utf8'));
}

/** What HAProxy knows of one server. */
export interface Seen {
  readonly isUp: boolean;
  readonly streams: number;
}

/** Of the servers by name, what one backend of haproxy.cfg sees; each backend has checks of its own. */
export async function askHaproxy(
  folder: string,
  backend: 'ready' | 'alive' = 'ready',
): Promise<ReadonlyMap<string, Seen>> {
  const socket = connect(join(folder, 'haproxy.sock'));
  socket.end('show stat\n');
  const [head = '', ...lines] = (await text(socket)).replace(/^# /, '').trim().split('\n');
  const columns = head.split(',');
  const rows = lines.map((line) => new Map(line.split(',').map((cell, i) => [columns[i], cell])));
  return new Map(
    rows
      .filter((row) => row.get('pxname') === backend)
      .map((row) => [
        row.get('svname') ?? '',
        { isUp: row.get('status') === 'UP', streams: Number(row.get('scur')) },
      ]),
  );
}

/** Asks again and again until something is true. @throws {Error} where it is not after `timeout` milliseconds. */
export async function until(
  what: string,
  holds: () => boolean | Promise<boolean>,
  timeout = 120_000,
): Promise<void> {
  const deadline = performance.now() + timeout;
  while (!(await holds())) {
    if (performance.now() > deadline)
      throw new Error(`after ${timeout / 1000} s it is not true that ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
