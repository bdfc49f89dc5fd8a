// The disk of a node with an SQLite log: backups of its file, losses of power, and files put back.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SqliteLog } from '../../../lib/sqlite.ts';

/** Whether this Node has SQLite. */
export const hasSqlite: boolean = process.getBuiltinModule('node:sqlite') !== undefined;

export class SqliteDisk {
  readonly #folder: string = mkdtempSync(join(tmpdir(), 'sluice-simulation-'));
  readonly #maxEvents: number;
  #path: string;
  #log: SqliteLog | undefined;
  #backup: string | undefined;
  #files = 0;
  #starts = 0;

  constructor(maxEvents: number) {
    this.#maxEvents = maxEvents;
    this.#path = this.#newPath();
  }

  #newPath(): string {
    return join(this.#folder, `${++this.#files}.db`);
  }

  open(): SqliteLog {
    const start = `start ${this.#starts}`;
    this.#log = new SqliteLog(this.#path, {
      bootId: () => start,
      history: { maxEvents: this.#maxEvents },
    });
    return this.#log;
  }

  /** The process is gone. What was committed is in the file. */
  close(): void {
    this.#log?.close();
    this.#log = undefined;
  }

  /** Makes a backup while the log is open. */
  backUp(): void {
    const { DatabaseSync } = process.getBuiltinModule('node:sqlite');
    const path = this.#newPath();
    const reader = new DatabaseSync(this.#path, { readOnly: true });
    reader.exec(`VACUUM INTO '${path}'`);
    reader.close();
    this.#backup = path;
  }

  /** Puts the newest backup in the place of the file. */
  restore(): void {
    if (this.#backup !== undefined) this.#path = this.#backup;
    this.#backup = undefined;
  }

  /** The machine loses its power and starts again. */
  losePower(): void {
    this.#starts++;
  }

  dispose(): void {
    this.close();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
