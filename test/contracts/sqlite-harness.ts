// The log in an SQLite file, for the contract of logs: its faults are those of a file, a disk and a machine.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { DatabaseSync } from 'node:sqlite';
import type { Log } from '../../lib/log.ts';
import type { LogHarness } from '../../lib/log-contract.ts';
import { SqliteLog, type SqliteLogOptions } from '../../lib/sqlite.ts';
import { sqlite } from '../helpers/sqlite.ts';

/** Whether this Node has `node:sqlite`. */
export const hasSqlite: boolean = sqlite !== undefined;

/** A file, and what is needed to make things go wrong with it. */
class File {
  readonly folder: string = mkdtempSync(join(tmpdir(), 'sluice-contract-'));
  readonly path: string = join(this.folder, 'events.db');
  /** Which start of the machine it is. */
  boot = 1;
  /** What the file was after each append of one event. */
  readonly states: FileState[] = [];
  lock: DatabaseSync | undefined;
  log: SqliteLog | undefined;

  /** Opens the log, or closes it and opens it again. */
  reopen(options: SqliteLogOptions = {}): SqliteLog {
    this.log?.close();
    this.log = new SqliteLog(this.path, { bootId: () => `boot ${this.boot}`, ...options });
    return this.log;
  }

  get state(): FileState {
    return { file: readFileSync(this.path), wal: readFileSync(`${this.path}-wal`) };
  }

  /** Puts a state back, in the same files. */
  restore({ file, wal }: FileState): void {
    writeFileSync(this.path, file);
    writeFileSync(`${this.path}-wal`, wal);
  }
}

interface FileState {
  readonly file: Buffer;
  readonly wal: Buffer;
}

/** A log that keeps the state of its file after each append, and may be opened again behind its hub. */
function open(store: File): Log {
  const { epochs, head } = store.reopen();
  const log = (): SqliteLog => store.log!;
  return {
    epochs,
    head,
    append: (entries, records) => {
      log().append(entries, records);
      if (entries.length > 0) store.states.push(store.state);
    },
    recall: (key) => log().recall(key),
    read: (...args) => log().read(...args),
    find: (topics) => log().find(topics),
    list: (options) => log().list(options),
    beforeNewest: (topics, count) => log().beforeNewest(topics, count),
    change: (topic, change) => log().change(topic, change),
    close: () => log().close(),
  };
}

/** Publishes to one topic more than there may be: the one that was silent for longest is forgotten. */
function forget(store: File, topic: string): void {
  const log = store.reopen({ maxTopics: store.log!.list().length });
  const frame = Buffer.from('data: other\n\n');
  log.append([{ seq: log.head + 1, topic: 'other', at: Date.now(), frame, key: undefined }], []);
  if (log.find([topic]).length > 0) throw new Error(`"${topic}" was not silent for longest`);
}

/** Deletes the events of a topic up to a seq, as another program with the same file does. */
function drop({ path }: File, topic: string, seq: number): void {
  const database = new sqlite!.DatabaseSync(path);
  const id = `(SELECT id FROM topics WHERE name = '${topic}')`;
  database.exec(`
    BEGIN;
    DELETE FROM events WHERE topic = ${id} AND seq <= ${seq};
    UPDATE topics SET dropped = ${seq},
      events = (SELECT COUNT(*) FROM events WHERE topic = topics.id),
      bytes = (SELECT COALESCE(SUM(LENGTH(frame)), 0) FROM events WHERE topic = topics.id)
    WHERE name = '${topic}';
    COMMIT;
  `);
  database.close();
}

export const sqliteLog: LogHarness<File> = {
  order: 'own',
  create: () => new File(),
  open,
  recall: true,
  dispose: ({ folder, lock }) => {
    lock?.close();
    rmSync(folder, { recursive: true });
  },
  faults: {
    drop,
    forget,
    failAppends: (store, on) => {
      // Another connection that writes lets no other one write.
      if (on) {
        store.lock = new sqlite!.DatabaseSync(store.path);
        store.lock.exec('BEGIN IMMEDIATE');
      } else {
        store.lock?.close();
        store.lock = undefined;
      }
    },
    crash: async (store, log) => {
      const { state } = store;
      await log.close?.();
      store.restore(state);
    },
    loseTail: (store, count) => {
      store.restore(store.states.at(-1 - count)!);
      store.boot++;
    },
  },
};
