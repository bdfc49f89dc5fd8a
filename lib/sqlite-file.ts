// Opens a log's SQLite file for one writer, refuses what is not one, and notices that events may be lost.
// Needs `order.ts` beside it.

import {
  closeSync,
  existsSync,
  fstatSync,
  fsyncSync,
  openSync,
  readlinkSync,
  readSync,
  realpathSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { uptime } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { newEpoch } from './order.ts';

/** The members of a `DatabaseSync` of `node:sqlite` that are used. */
export interface Database {
  exec(sql: string): void;
  prepare(sql: string): Statement;
  close(): void;
}

type Value = null | number | string | Uint8Array;

/** The members of its `StatementSync` that are used. */
export interface Statement {
  run(...values: Value[]): unknown;
  get(...values: Value[]): unknown;
  all(...values: Value[]): unknown[];
  iterate(...values: Value[]): Iterable<unknown>;
}

interface Sqlite {
  readonly DatabaseSync: new (path: string, options?: { readOnly: boolean }) => Database;
}

/** Why a file cannot be used. */
export type SqliteCode =
  | 'ERR_SSE_SQLITE_MISSING'
  | 'ERR_SSE_SQLITE_FOREIGN'
  | 'ERR_SSE_SQLITE_NEWER'
  | 'ERR_SSE_SQLITE_DAMAGED'
  | 'ERR_SSE_SQLITE_IN_USE'
  | 'ERR_SSE_SQLITE_READ_ONLY'
  | 'ERR_SSE_SQLITE_FAILED';

/** A part of the file's order: see `LogEpoch` of `log.ts`. */
interface Epoch {
  readonly epoch: number;
  readonly base: number;
  readonly end?: number | undefined;
}

export interface FileOptions {
  /** What is committed survives the process only, or a loss of power too. */
  readonly durability: 'process' | 'power';
  /** Most pages of the file; for tests, which cannot fill a disk. */
  readonly maxPages?: number | undefined;
  /** Names the current start of the machine; for tests, which cannot restart it. */
  readonly bootId?: (() => string) | undefined;
}

/** 'SLCE' */
const APPLICATION = 0x53_4c_43_45;
const FORMAT = 1;

/**
 * `topics.keyed`: from this seq on, `newest` lists the events of the topic that no later one replaces. `garbage` has
 * the events that are dropped, and are still to be removed. `requests` are those with an idempotency key. Keys are
 * JSON, because text ends at its first NUL on Node 22, and has no half surrogates.
 */
const SCHEMA = `
CREATE TABLE topics (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  name TEXT NOT NULL UNIQUE,
  last INTEGER NOT NULL,
  dropped INTEGER NOT NULL,
  ended INTEGER NOT NULL,
  deleted INTEGER NOT NULL,
  events INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  keyed INTEGER
) STRICT;
CREATE INDEX topics_by_silence ON topics ((events > 0), last);
CREATE TABLE events (
  seq INTEGER PRIMARY KEY,
  topic INTEGER NOT NULL,
  at REAL NOT NULL,
  key TEXT,
  frame BLOB NOT NULL
) STRICT;
CREATE INDEX events_by_topic ON events (topic, seq);
CREATE TABLE newest (
  topic INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  key TEXT,
  PRIMARY KEY (topic, seq)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX newest_by_key ON newest (topic, key) WHERE key IS NOT NULL;
CREATE TABLE garbage (topic INTEGER PRIMARY KEY, upto INTEGER NOT NULL) STRICT;
CREATE TABLE requests (
  key TEXT PRIMARY KEY,
  digest TEXT NOT NULL,
  first INTEGER NOT NULL,
  count INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX requests_by_age ON requests (first);
CREATE TABLE probe (id INTEGER PRIMARY KEY, bytes BLOB NOT NULL) STRICT;
CREATE TABLE epochs (epoch INTEGER PRIMARY KEY, base INTEGER NOT NULL, "end" INTEGER) STRICT;
CREATE TABLE state (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  clean INTEGER NOT NULL,
  durable INTEGER NOT NULL,
  boot TEXT NOT NULL,
  inode TEXT NOT NULL,
  birth TEXT NOT NULL,
  floor INTEGER NOT NULL
) STRICT;
INSERT INTO state VALUES (1, 1, 1, '', '', '', 0);
`;

/** In the order in which the schema makes them. */
const SCHEMA_ROWS = "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name <> 'sqlite_sequence'";

/** Epochs that are kept: ids of those before them get a gap. */
const MAX_EPOCHS = 1000;

/** Another program, such as a shell, may hold the file for a moment. The event loop stands still meanwhile. */
const BUSY_TIMEOUT = 500;

/**
 * A log's file, open for writing. Beside it are: `-wal` and `-shm`, which are SQLite's; `-lock`, an empty
 * database that is held locked, so that a second writer is refused and a backup of the file itself still works,
 * and that is free again when the process dies; and `-mark`, the newest place, by which an older file under the
 * same name is noticed.
 *
 * In this process, do not open any of them with `node:fs`: on POSIX systems to close it there releases the locks.
 */
export class SqliteFile {
  readonly path: string;
  readonly database: Database;
  readonly epochs: readonly Epoch[];
  /** The newest seq held when it was opened. */
  readonly head: number;
  readonly #lock: Database;
  readonly #mark: Mark;
  readonly #epoch: number;
  readonly #inodes: string;

  /** @throws {Error} with a {@link SqliteCode}. The file is then as it was. */
  constructor(path: string, options: FileOptions) {
    const sqlite = sqliteOf(process);
    try {
      this.path = realPath(resolve(path));
    } catch (error) {
      throw refusal(path, error);
    }
    const { path: file } = this;
    const before = beside(file);
    this.#lock = holdLock(sqlite, file);
    let database: Database | undefined;
    let mark: Mark | undefined;
    try {
      const isThere = !isNew(file);
      // Who was killed while it made the file has left a journal, by which SQLite empties it.
      const isWhole = isThere && !existsSync(`${file}-journal`);
      if (isWhole) inspect(sqlite, file);
      database = new sqlite.DatabaseSync(file);
      if (!isWhole && isEmpty(database)) create(database);
      mark = new Mark(`${file}-mark`);
      const opened = open(database, file, mark.read(), options);
      ({ epochs: this.epochs, head: this.head, epoch: this.#epoch } = opened);
      this.database = database;
      this.#mark = mark;
      this.#inodes = inodesOf(file);
      this.mark(this.head);
      mark.sync();
    } catch (error) {
      attempt(() => mark?.close());
      attempt(() => database?.close());
      this.#lock.close();
      // What a look at a file left beside it.
      for (const name of beside(file)) if (!before.includes(name)) rmSync(name, { force: true });
      throw refusal(file, error);
    }
  }

  /** Whether it and its lock are found. Otherwise nobody finds what is written, or there may be a second writer. */
  get isInPlace(): boolean {
    return inodesOf(this.path) === this.#inodes;
  }

  /** Events up to this seq are committed. */
  mark(head: number): void {
    this.#mark.write({ epoch: this.#epoch, head });
  }

  /** Lets the next writer continue the epoch, and releases the file. */
  close(): void {
    // A file that takes no more writes is closed as by a crash: the next writer looks at the rest.
    if (this.isInPlace) {
      attempt(() => this.database.exec('UPDATE state SET clean = 1; PRAGMA wal_checkpoint(TRUNCATE)'));
      attempt(() => this.#mark.seal());
    }
    this.#mark.close();
    this.database.close();
    this.#lock.close();
  }

  /** The error of a read, with the name of the file. What SQLite finds in order may have no sense for a log. */
  failure(error: unknown): Error {
    const isNonsense = sqliteCode(error) === NO_CODE;
    return isNonsense
      ? codeOf('ERR_SSE_SQLITE_DAMAGED', `${this.path} is damaged`, error)
      : refusal(this.path, error);
  }
}

// ── what was lost ─────────────────────────────────────────────────────────────────────────────────────────

/** What a file says of the process that wrote it last. */
export interface FileState {
  /** Whether that process closed it, and whether it synchronised each commit with the disk. */
  readonly clean: number;
  readonly durable: number;
  readonly boot: string;
  readonly inode: string;
  /** When the file was made; `''` where the file system does not tell. */
  readonly birth: string;
  readonly epoch: number;
  readonly head: number;
}

/** What is found when it is opened again. */
export interface Found {
  readonly boot: string;
  readonly inode: string;
  readonly birth: string;
  /** The newest place that was written beside the file. */
  readonly mark: Place | undefined;
  /** When its file was written, in milliseconds. */
  readonly marked: number;
}
type Marks = Pick<Found, 'mark' | 'marked'>;

interface Place {
  readonly epoch: number;
  readonly head: number;
  /** When the log was closed, by the clock of the file system; `undefined` where it was not. */
  readonly closed?: number | undefined;
}

const CLOSE_TOLERANCE = 3000; // milliseconds: some file systems have coarse times

/**
 * Why events that were appended may be missing from a file; `undefined` where none can be. Then their ids would be
 * given out again, and a client that has seen them would miss the new ones.
 */
export function whyLost(file: FileState, found: Found): string | undefined {
  const { mark } = found;
  if (file.inode !== found.inode) return 'it is a copy: another inode';
  if (file.birth !== found.birth && file.birth !== '' && found.birth !== '')
    return 'it is a copy: made at another time';
  if (mark !== undefined && mark.epoch !== file.epoch) return 'it was replaced by the file of another epoch';
  if (mark !== undefined && mark.head > file.head) return `it ends at ${file.head}, and had ${mark.head}`;
  if (mark?.closed !== undefined && Math.abs(found.marked - mark.closed) > CLOSE_TOLERANCE)
    return 'it is a copy: its mark was written over after it was closed';
  if (file.clean === 1) return undefined;
  if (mark === undefined) return 'it was not closed, and its mark is missing';
  const isCrashOfMachine = !isSameBoot(file.boot, found.boot);
  if (isCrashOfMachine && file.durable === 0) return 'it was not closed before the machine stopped';
  return undefined;
}

/**
 * The kernel's name for the current start of the machine. Elsewhere than on Linux the time of that start, which
 * moves a little as clocks are set.
 */
function bootOf(): string {
  return (
    attempt(() => readText('/proc/sys/kernel/random/boot_id').trim()) ??
    `time:${Math.round(Date.now() - uptime() * 1000)}`
  );
}

/** Two starts within this time count as one. A machine takes longer to start, crash and start again. */
const BOOT_TOLERANCE = 5000;

function isSameBoot(one: string, other: string): boolean {
  if (one === other) return true;
  const [from, to] = [one, other].map((boot) => Number(/^time:(\d+)$/.exec(boot)?.[1] ?? NaN));
  return Math.abs(from! - to!) <= BOOT_TOLERANCE;
}

/** Reads files of unknown length, such as those of `/proc`. */
function readText(path: string): string {
  const file = openSync(path, 'r');
  try {
    const bytes = Buffer.alloc(256);
    return bytes.toString('latin1', 0, readSync(file, bytes, 0, bytes.length, 0));
  } finally {
    closeSync(file);
  }
}

/** The newest place of a log, in a small file that is written over at each commit. */
class Mark {
  readonly #file: number;

  constructor(path: string) {
    const stat = statSync(path, { throwIfNoEntry: false });
    // Of another length it is not ours, except where a disk was full when it was made.
    if (stat !== undefined && stat.size > MARK_BYTES)
      throw codeOf('ERR_SSE_SQLITE_FOREIGN', `${path} is not the mark of a log, and was left as it is`);
    this.#file = openSync(path, stat === undefined ? 'w+' : 'r+', 0o644);
  }

  read(): Marks {
    const bytes = Buffer.alloc(MARK_BYTES);
    readSync(this.#file, bytes, 0, MARK_BYTES, 0);
    const [, epoch, head, closed] = /^ *(\d+) +(\d+) +(\d*)\n$/.exec(bytes.toString('latin1')) ?? [];
    const place = { epoch: Number(epoch), head: Number(head), closed: Number(closed) || undefined };
    return { mark: epoch === undefined ? undefined : place, marked: this.#time };
  }

  /**
   * The kernel keeps it when the process is killed. At a loss of power the boot id tells more. The events are
   * committed, so a failure must not be theirs: then a later loss may not be noticed by the mark.
   */
  write({ epoch, head, closed }: Place): void {
    const text = `${[epoch, head, closed ?? ''].map((field) => String(field).padStart(16)).join(' ')}\n`;
    attempt(() => writeSync(this.#file, text, 0, 'latin1'));
  }

  /** States when it was closed: where all files are overwritten by older ones, their mark has another time. */
  seal(): void {
    const { mark } = this.read();
    this.write({ ...mark!, closed: undefined });
    this.write({ ...mark!, closed: this.#time });
    this.sync();
  }

  get #time(): number {
    return Math.round(fstatSync(this.#file).mtimeMs); // not Date.now(): the file system may have another clock
  }

  sync(): void {
    fsyncSync(this.#file);
  }

  close(): void {
    closeSync(this.#file);
  }
}

const MARK_BYTES = 51;

// ── opening ───────────────────────────────────────────────────────────────────────────────────────────────

interface Opened {
  readonly epochs: readonly Epoch[];
  readonly epoch: number;
  readonly head: number;
}

function open(database: Database, path: string, marks: Marks, options: FileOptions): Opened {
  const { durability, maxPages, bootId = bootOf } = options;
  // FULL, because the file must say that it is not closed before its first event: an older state would say that
  // nothing is missing.
  database.exec(`PRAGMA busy_timeout = ${BUSY_TIMEOUT}; PRAGMA synchronous = FULL; PRAGMA trusted_schema = OFF;
    PRAGMA cell_size_check = ON;
    PRAGMA cache_size = -16384; PRAGMA journal_size_limit = 67108864`);
  const { journal_mode: mode } = one(database, 'PRAGMA journal_mode = WAL') as { journal_mode: string };
  if (mode !== 'wal')
    throw codeOf(
      'ERR_SSE_SQLITE_FAILED',
      `${path} is on a file system that cannot have SQLite's WAL, got mode "${mode}"`,
    );
  if (maxPages !== undefined) database.exec(`PRAGMA max_page_count = ${maxPages}`);
  const was = stateOf(database, path);
  const found = { boot: bootId(), ...identityOf(path), ...marks };
  const why = was.epoch === 0 ? 'it is new' : whyLost(was, found);
  const head = why !== undefined && was.epoch > 0 ? was.head + 1 : was.head;
  database.exec('BEGIN IMMEDIATE');
  if (why !== undefined) {
    const epoch = Math.max(newEpoch(Date.now, Math.random), was.epoch + 1, (marks.mark?.epoch ?? 0) + 1);
    database.prepare('UPDATE epochs SET "end" = ? WHERE "end" IS NULL').run(was.head);
    database.prepare('INSERT INTO epochs VALUES (?, ?, NULL)').run(epoch, head);
    database
      .prepare(
        'DELETE FROM epochs WHERE epoch <= (SELECT epoch FROM epochs ORDER BY 1 DESC LIMIT 1 OFFSET ?)',
      )
      .run(MAX_EPOCHS);
  }
  database
    .prepare('UPDATE state SET clean = 0, durable = ?, boot = ?, inode = ?, birth = ?')
    .run(durability === 'power' ? 1 : 0, found.boot, found.inode, found.birth);
  database.exec('COMMIT');
  // So that the file says it also where its WAL is taken away.
  database.exec('PRAGMA wal_checkpoint(PASSIVE)');
  const { birth } = identityOf(path);
  // Where the file system does not tell the time of birth, Node gives that of the last change.
  if (birth !== found.birth) database.exec("UPDATE state SET birth = ''");
  if (durability === 'process') database.exec('PRAGMA synchronous = NORMAL');
  const epochs = database.prepare('SELECT epoch, base, "end" FROM epochs ORDER BY epoch').all() as Row[];
  return {
    epochs: epochs.map(({ epoch, base, end }) => (end === null ? { epoch, base } : { epoch, base, end })),
    epoch: epochs.at(-1)!.epoch,
    head,
  };
}

interface Row {
  readonly epoch: number;
  readonly base: number;
  readonly end: number | null;
}

function stateOf(database: Database, path: string): FileState {
  const head = `SELECT max(
      (SELECT coalesce(max(last), 0) FROM topics WHERE (events > 0) = 0),
      (SELECT coalesce(max(last), 0) FROM topics WHERE (events > 0) = 1),
      (SELECT coalesce(max(base), 0) FROM epochs), floor) FROM state`;
  const epoch = 'SELECT coalesce(max(epoch), 0) FROM epochs';
  const state = one(database, `SELECT *, (${epoch}) AS epoch, (${head}) AS head FROM state`);
  if (state === undefined) throw codeOf('ERR_SSE_SQLITE_DAMAGED', `${path} is damaged: it has no state`);
  return state as FileState;
}

function identityOf(path: string): { readonly inode: string; readonly birth: string } {
  const { ino, birthtimeNs } = statSync(path, { bigint: true });
  return { inode: String(ino), birth: birthtimeNs === 0n ? '' : String(birthtimeNs) };
}

const inodesOf = (path: string): string =>
  ['', '-lock'].map((end) => attempt(() => statSync(path + end).ino)).join();

function one(database: Database, sql: string): unknown {
  return database.prepare(sql).get();
}

function isEmpty(database: Database): boolean {
  return (one(database, 'SELECT count(*) AS tables FROM sqlite_schema') as { tables: number }).tables === 0;
}

/** Makes the file in one transaction, without a WAL, so that its first page names its application from the start. */
function create(database: Database): void {
  const ids = `PRAGMA application_id = ${APPLICATION}; PRAGMA user_version = ${FORMAT}`;
  database.exec(`PRAGMA synchronous = FULL; BEGIN IMMEDIATE; ${ids}; ${SCHEMA} COMMIT`);
}

// ── refusals ──────────────────────────────────────────────────────────────────────────────────────────────

/** @throws {Error} code `ERR_SSE_SQLITE_MISSING`. */
export function sqliteOf(node: { readonly version: string; getBuiltinModule?(id: string): unknown }): Sqlite {
  const sqlite = node.getBuiltinModule?.('node:sqlite') as Sqlite | undefined;
  if (sqlite !== undefined) return sqlite;
  throw codeOf(
    'ERR_SSE_SQLITE_MISSING',
    `a log in SQLite needs Node 22.13 or later, which has node:sqlite; this is Node ${node.version}`,
  );
}

/** The lock dies with the process. @throws {Error} code `ERR_SSE_SQLITE_IN_USE`. */
function holdLock({ DatabaseSync }: Sqlite, file: string): Database {
  const path = `${file}-lock`;
  const isOurs = !existsSync(path);
  let lock: Database | undefined;
  try {
    lock = new DatabaseSync(path);
    // Writes nothing: the file stays empty.
    lock.exec('PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE');
    return lock;
  } catch (error) {
    lock?.close();
    if (sqliteCode(error) === BUSY)
      throw codeOf(
        'ERR_SSE_SQLITE_IN_USE',
        `${file} is in use: another server, or another SqliteLog of this one, writes to it`,
      );
    if (isOurs) rmSync(path, { force: true });
    throw refusal(path, error, 'ERR_SSE_SQLITE_FOREIGN');
  }
}

/**
 * Whether there is nothing yet. Reads the first page without SQLite, which might change a file that it opens: it
 * moves what is in a WAL or a journal to where it belongs.
 *
 * @throws {Error} code `ERR_SSE_SQLITE_FOREIGN`, `ERR_SSE_SQLITE_NEWER` or `ERR_SSE_SQLITE_DAMAGED`.
 */
function isNew(path: string): boolean {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat === undefined || (stat.isFile() && stat.size === 0)) return true;
  if (!stat.isFile()) throw codeOf('ERR_SSE_SQLITE_FOREIGN', `${path} is not a file`);
  const header = Buffer.alloc(100);
  const file = openSync(path, 'r');
  try {
    readSync(file, header, 0, header.length, 0);
  } finally {
    closeSync(file);
  }
  if (header.toString('latin1', 0, 16) !== 'SQLite format 3\0')
    throw codeOf('ERR_SSE_SQLITE_FOREIGN', `${path} is not an SQLite database, and was left as it is`);
  if (header.readUInt32BE(68) !== APPLICATION)
    throw codeOf('ERR_SSE_SQLITE_FOREIGN', `${path} belongs to another application, and was left as it is`);
  const version = header.readUInt32BE(60);
  if (version > FORMAT)
    throw codeOf(
      'ERR_SSE_SQLITE_NEWER',
      `${path} has format ${version}, and this version knows ${FORMAT}: update sluice`,
    );
  const wanted = (header.readUInt16BE(16) === 1 ? 65536 : header.readUInt16BE(16)) * header.readUInt32BE(28);
  // A WAL may have the rest, and by a journal SQLite undoes what a process that was killed had begun to write.
  const rest = [`${path}-wal`, `${path}-journal`].map(
    (one) => statSync(one, { throwIfNoEntry: false })?.size ?? 0,
  );
  if (stat.size < wanted && Math.max(...rest) === 0)
    throw codeOf('ERR_SSE_SQLITE_DAMAGED', `${path} is damaged: it has ${stat.size} bytes of ${wanted}`);
  return false;
}

/** Reads what `open` will read, on a connection that cannot change the file. */
function inspect({ DatabaseSync }: Sqlite, path: string): void {
  const database = new DatabaseSync(path, { readOnly: true });
  try {
    database.exec(`PRAGMA busy_timeout = ${BUSY_TIMEOUT}`);
    const found = database.prepare(SCHEMA_ROWS).all() as { sql: string }[];
    const expected = SCHEMA.split(';').map((sql) => sql.trim());
    const isOurs = found.every(({ sql }) => expected.includes(sql));
    if (!isOurs || found.length !== expected.filter((sql) => sql.startsWith('CREATE')).length)
      throw codeOf('ERR_SSE_SQLITE_DAMAGED', `${path} is damaged: it has other tables than a log`);
    stateOf(database, path);
  } finally {
    database.close();
  }
}

/** The file that a path leads to, which need not exist: two paths to one file have one lock. */
function realPath(path: string): string {
  try {
    return realpathSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    const target = attempt(() => readlinkSync(path));
    if (target !== undefined) return realPath(resolve(dirname(path), target));
    return join(realpathSync(dirname(path)), basename(path));
  }
}

function beside(file: string): string[] {
  return ['-wal', '-shm', '-lock', '-mark'].map((suffix) => file + suffix).filter((path) => existsSync(path));
}

const [BUSY, NO_CODE] = [5, 255];

/** The codes of SQLite that say more than that something failed. */
const REASONS: Readonly<Record<number, readonly [SqliteCode, string]>> = {
  [BUSY]: ['ERR_SSE_SQLITE_IN_USE', 'another program holds it locked'],
  3: ['ERR_SSE_SQLITE_READ_ONLY', 'there is no permission to write'],
  8: ['ERR_SSE_SQLITE_READ_ONLY', 'it cannot be written'],
  11: ['ERR_SSE_SQLITE_DAMAGED', 'it is damaged'],
  13: ['ERR_SSE_SQLITE_FAILED', 'the disk is full'],
  14: ['ERR_SSE_SQLITE_READ_ONLY', 'it cannot be opened for writing'],
  26: ['ERR_SSE_SQLITE_DAMAGED', 'it is damaged: not an SQLite database'],
};

/** @param as - The reason where the file is no database. */
function refusal(path: string, error: unknown, as: SqliteCode = 'ERR_SSE_SQLITE_DAMAGED'): Error {
  if (String((error as { code?: unknown }).code).startsWith('ERR_SSE_')) return error as Error;
  const isDenied = ['EACCES', 'EPERM', 'EROFS'].includes((error as { code?: string }).code ?? '');
  const code = sqliteCode(error);
  const [reason, words] = (isDenied ? REASONS[8] : REASONS[code]) ?? [
    'ERR_SSE_SQLITE_FAILED',
    (error as Error).message,
  ];
  return codeOf(code === 26 ? as : reason, `${path} cannot be used: ${words}`, error);
}

/** The primary code: the lowest byte of an extended one. */
function sqliteCode(error: unknown): number {
  return Number((error as { errcode?: unknown }).errcode ?? NO_CODE) & 0xff;
}

function codeOf(code: SqliteCode, message: string, cause?: unknown): Error {
  return Object.assign(new Error(message, cause === undefined ? undefined : { cause }), { code });
}

function attempt<T>(act: () => T): T | undefined {
  try {
    return act();
  } catch {
    return undefined;
  }
}
