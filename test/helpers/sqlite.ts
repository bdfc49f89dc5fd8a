// What the tests of a log in SQLite share: folders that are removed, entries, and files compared byte for byte.

import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { TestContext } from 'node:test';
import type { LogEntry, LogPage } from '../../lib/log.ts';
import { SqliteLog, type SqliteLogOptions } from '../../lib/sqlite.ts';

/** `undefined` on a Node that is too old for a log in SQLite. */
export const sqlite: typeof import('node:sqlite') | undefined =
  process.getBuiltinModule?.('node:sqlite') ?? undefined;

/** A folder that is removed after the test. */
export function folderFor(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'sluice-sqlite-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** A log that is closed after the test. */
export function openLog(t: TestContext, path: string, options?: SqliteLogOptions): SqliteLog {
  const log = new SqliteLog(path, options);
  t.after(() => log.close());
  return log;
}

/** An entry whose frame has `size` bytes. */
export function entry(
  seq: number,
  topic: string,
  more: { at?: number; key?: string; size?: number } = {},
): LogEntry {
  const { at = 1000 + seq, key, size = 8 } = more;
  const frame = new Uint8Array(Buffer.alloc(size, `${seq} `));
  return { seq, topic, at, key, frame };
}

/** All that a log has of some topics, read page by page. */
export function readAll(log: SqliteLog, topics: readonly string[], after = 0, maxBytes = 1000): LogEntry[] {
  const entries: LogEntry[] = [];
  for (let from = after; ; ) {
    const page: LogPage = log.read(topics, from, maxBytes, { newestOnly: false });
    entries.push(...page.entries);
    if (page.entries.length === 0) return entries;
    from = page.until;
  }
}

export function seqsOf({ entries }: Pick<LogPage, 'entries'>): number[] {
  return entries.map(({ seq }) => seq);
}

/** The files of a folder, each with a digest of its bytes. */
export function digestOf(folder: string): Record<string, string> {
  const files = readdirSync(folder, { withFileTypes: true, recursive: true }).filter((file) => file.isFile());
  return Object.fromEntries(
    files.map(({ parentPath, name }) => {
      const bytes = readFileSync(join(parentPath, name));
      return [name, `${bytes.length} ${createHash('sha256').update(bytes).digest('hex')}`];
    }),
  );
}

/** How the contract of logs opens one in SQLite, and what can go wrong with it. A store is the path of a file. */
export const sqliteHarness = {
  order: 'own',
  recall: true,
  create: (): string => join(mkdtempSync(join(tmpdir(), 'sluice-sqlite-')), 'log.db'),
  open: (path: string): SqliteLog => new SqliteLog(path),
  dispose: (path: string): void => rmSync(dirname(path), { recursive: true, force: true }),
  faults: {
    drop: (path: string, topic: string, seq: number): void =>
      edit(
        path,
        `UPDATE topics SET dropped = coalesce((SELECT max(seq) FROM events WHERE topic = topics.id AND seq <= ${seq}),
           dropped) WHERE name = '${topic}'`,
        remove(`topic = (SELECT id FROM topics WHERE name = '${topic}') AND seq <= ${seq}`),
      ),
    forget: (path: string, topic: string): void =>
      edit(
        path,
        `UPDATE state SET floor = max(floor, (SELECT last FROM topics WHERE name = '${topic}'))`,
        remove(`topic = (SELECT id FROM topics WHERE name = '${topic}')`),
        `DELETE FROM topics WHERE name = '${topic}'`,
      ),
    /** What a loss of power leaves: an older state of the file, which was not closed, and another boot. */
    loseTail: (path: string, count: number): void =>
      edit(
        path,
        remove(`seq IN (SELECT seq FROM events ORDER BY seq DESC LIMIT ${count})`),
        'UPDATE topics SET last = coalesce((SELECT max(seq) FROM events WHERE topic = topics.id), dropped)',
        'DELETE FROM topics WHERE last = 0',
        'DELETE FROM requests WHERE first > (SELECT coalesce(max(seq), 0) FROM events)',
        "UPDATE state SET clean = 0, boot = 'another'",
      ),
    failAppends: (path: string, on: boolean): void =>
      edit(
        path,
        ...['events', 'probe'].map((table) =>
          on
            ? `CREATE TRIGGER full_${table} BEFORE INSERT ON ${table} BEGIN SELECT RAISE(ABORT, 'full'); END`
            : `DROP TRIGGER full_${table}`,
        ),
      ),
    /** The files as they are now are found afterwards, whatever closing the log did to them. */
    crash: (path: string, log: SqliteLog): void => {
      const files = ['', '-wal', '-mark'].map((suffix) => path + suffix);
      const left = files.map((file) => readFileSync(file));
      log.close();
      for (const [i, file] of files.entries()) writeFileSync(file, left[i]!);
    },
  },
} as const;

function remove(where: string): string {
  return `DELETE FROM newest WHERE ${where}; DELETE FROM events WHERE ${where}`;
}

/** Changes a file by another connection, and counts the events of its topics again. */
function edit(path: string, ...statements: readonly string[]): void {
  const database = new sqlite!.DatabaseSync(path);
  const counts = `UPDATE topics SET events = (SELECT count(*) FROM events WHERE topic = topics.id),
    bytes = (SELECT coalesce(sum(length(frame)), 0) FROM events WHERE topic = topics.id)`;
  database.exec(`BEGIN IMMEDIATE; ${[...statements, counts].join(';')}; COMMIT`);
  database.close();
}
