// Keeps a hub's events in an SQLite file, by Node's own node:sqlite (Node 22.13 or later).
// Needs `log.ts`, `sqlite-file.ts` and `sqlite-retention.ts` beside it.

import {
  type AppendRecord,
  type ListOptions,
  type LogEntry,
  type LogEpoch,
  type LogPage,
  logUnavailable,
  type OwnLog,
  type TopicChange,
  type TopicRecord,
} from './log.ts';
import { type Database, SqliteFile, type Statement } from './sqlite-file.ts';
import {
  type Added,
  checkOptions,
  Retention,
  type RetentionOptions,
  type TopicRow,
} from './sqlite-retention.ts';

export interface SqliteLogOptions extends RetentionOptions {
  /**
   * What appended events survive. `'process'` (default): the end of the process, also by `kill -9`. After a loss of
   * power the newest may be missing; each client is then told of a gap. `'power'`: that too, for one
   * synchronisation with the disk at each append.
   */
  durability?: 'process' | 'power' | undefined;
  /** Most pages of the file. @internal for tests, which cannot fill a disk. */
  maxPages?: number | undefined;
  /** Names the current start of the machine. @internal for tests, which cannot restart it. */
  bootId?: (() => string) | undefined;
}

/** A row of the table `events`, without its topic. */
interface EventRow {
  readonly seq: number;
  readonly at: number;
  readonly key: string | null;
  readonly frame: Uint8Array;
}

/** Where reading a topic begins. */
interface Source {
  readonly row: TopicRow;
  readonly after: number;
}

/** The place of an event, and the bytes of its frame. */
interface Place {
  readonly seq: number;
  readonly bytes: number;
}

/** A probe that has room for less would succeed where the next append fails. */
const LEAST_PROBE = 64 * 1024;

/** What an event takes beside its frame, at most, where a probe must have room for as much. */
const EVENT_OVERHEAD = 300;

/** How many places of all topics together are looked up at once. */
const PLACES = 512;

/** What a change of a topic removes at most: the rest is removed by the appends that follow. */
const SWEPT_AT_ONCE = 1000;

/**
 * The log of one hub, on one machine: `new Hub({ log: new SqliteLog('events.db') })`.
 *
 * Each `append` is one transaction, and every answer is given at once. For a backup while it runs, use `backup()`
 * of `node:sqlite` or `.backup` of SQLite's shell in another process: a copy of the file alone lacks what is in
 * its WAL. A restored backup begins a new epoch, so that a client with a newer id gets a gap.
 *
 * Node prints an `ExperimentalWarning` for `node:sqlite` in some versions.
 */
export class SqliteLog implements OwnLog {
  readonly epochs: readonly LogEpoch[];
  readonly #file: SqliteFile;
  readonly #retention: Retention;
  readonly #statements: ReturnType<typeof prepare>;
  #head: number;
  #isClosed = false;
  #probeBytes = LEAST_PROBE;

  /**
   * Opens the file, or makes it. Its folder must exist.
   * @throws {RangeError | TypeError} naming the option that cannot be used.
   * @throws {Error} naming the file, which is left as it was. Code `ERR_SSE_SQLITE_MISSING`: this Node has no
   *   `node:sqlite`. `ERR_SSE_SQLITE_FOREIGN`: it is something else. `ERR_SSE_SQLITE_NEWER`: it is of a later
   *   version. `ERR_SSE_SQLITE_DAMAGED`, `ERR_SSE_SQLITE_IN_USE`, `ERR_SSE_SQLITE_READ_ONLY`. And
   *   `ERR_SSE_SQLITE_FAILED` for all else, such as a disk that is full.
   */
  constructor(path: string, options: SqliteLogOptions = {}) {
    const { durability = 'process', maxPages, bootId, ...retention } = options;
    if (typeof path !== 'string' || path === '' || path === ':memory:')
      throw new TypeError(`\`path\` must be the path of a file, got ${JSON.stringify(path)}`);
    if (durability !== 'process' && durability !== 'power')
      throw new TypeError(`\`durability\` must be 'process' or 'power', got ${JSON.stringify(durability)}`);
    checkOptions(retention);
    this.#file = new SqliteFile(path, { durability, maxPages, bootId });
    try {
      this.#statements = prepare(this.#file.database);
      this.#retention = new Retention(this.#file.database, retention);
    } catch (error) {
      this.#file.close();
      throw this.#file.failure(error);
    }
    this.epochs = this.#file.epochs;
    this.#head = this.#file.head;
  }

  /** The newest seq that is committed. */
  get head(): number {
    return this.#head;
  }

  /**
   * @throws {RangeError} where a seq is not above the one before it.
   * @throws {Error} code `ERR_SSE_LOG_UNAVAILABLE`. Nothing of the entries is then in the log.
   */
  append(entries: readonly LogEntry[], records: readonly AppendRecord[] = []): void {
    if (entries.length === 0) return this.#probe();
    this.#checkOrder(entries);
    try {
      this.#write(() => {
        this.#insert(entries);
        for (const { key, digest, first, count } of records)
          this.#retention.keep(JSON.stringify(key), JSON.stringify(digest), first, count);
      });
    } catch (error) {
      const bytes = entries.reduce((sum, { frame }) => sum + frame.length + EVENT_OVERHEAD, 0);
      this.#probeBytes = Math.max(LEAST_PROBE, bytes);
      throw error;
    }
    this.#head = entries.at(-1)!.seq;
    this.#file.mark(this.#head);
  }

  recall(key: string): AppendRecord | undefined {
    return this.#read(() => {
      const found = this.#statements.recall.get(JSON.stringify(key)) as Omit<AppendRecord, 'key'> | undefined;
      return found && { key, ...found, digest: JSON.parse(found.digest) };
    });
  }

  change(topic: string, change: TopicChange): boolean {
    const known = this.#read(() => this.#rowOf(topic));
    if (known === undefined ? change !== 'end' : !isChange(known, change)) return false;
    this.#write(() => {
      const row = known ?? this.#newRow(topic);
      row.ended = change === 'end' ? 1 : 0;
      if (change === 'end') row.deleted = 0;
      if (change === 'delete') {
        row.deleted = 1;
        this.#retention.clear(row);
      }
      this.#retention.save(row);
      this.#retention.sweep(SWEPT_AT_ONCE);
    });
    return true;
  }

  read(
    topics: readonly string[],
    after: number,
    maxBytes: number,
    { newestOnly }: { readonly newestOnly: boolean },
  ): LogPage {
    return this.#read(() => {
      const { dropped, sources } = this.#sourcesOf(topics, after);
      const { entries, isAll } = this.#page(sources, maxBytes, newestOnly);
      return { entries, until: isAll ? Math.max(after, this.#head) : entries.at(-1)!.seq, dropped };
    });
  }

  find(topics: readonly string[]): readonly TopicRecord[] {
    const now = Date.now();
    return this.#read(() =>
      [...new Set(topics)].flatMap((topic) => {
        const row = this.#rowOf(topic);
        return row === undefined ? [] : [this.#recordOf(row, now)];
      }),
    );
  }

  /** A topic that was deleted is not listed before something is published to it. */
  list({ after = '', limit = Infinity }: ListOptions = {}): readonly TopicRecord[] {
    const now = Date.now();
    return this.#read(() => {
      const rows = this.#statements.list.all(after, limit === Infinity ? -1 : limit) as TopicRow[];
      return rows.map((row) => this.#recordOf(row, now));
    });
  }

  beforeNewest(topics: readonly string[], count: number): number {
    return this.#read(() => {
      const { sources } = this.#sourcesOf(topics, 0);
      if (count < 1) return this.#head;
      const held = sources.reduce((sum, { row }) => sum + row.events, 0);
      return held <= count ? this.#earliest(sources) : this.#nthNewest(sources, count);
    });
  }

  /** Closes the file, and lets another server open it. Further calls have no effect. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#file.close();
  }

  // ── writing ──────────────────────────────────────────────────────────────────────────────────────────────

  #checkOrder(entries: readonly LogEntry[]): void {
    let last = this.#head;
    for (const { seq } of entries) {
      if (!(seq > last && Number.isSafeInteger(seq)))
        throw new RangeError(`\`seq\` must be a whole number above ${last}, got ${seq}`);
      last = seq;
    }
  }

  #insert(entries: readonly LogEntry[]): void {
    const { insert, insertNewest } = this.#statements;
    const added = new Map<string, Added>();
    for (const { seq, topic, at, key, frame } of entries) {
      let of = added.get(topic);
      if (of === undefined) {
        of = { row: this.#rowOf(topic) ?? this.#newRow(topic), events: 0, bytes: 0 };
        added.set(topic, of);
      }
      const { row } = of;
      const text = key === undefined ? null : JSON.stringify(key);
      insert.run(seq, row.id, at, text, frame);
      if (text !== null) row.keyed ??= seq;
      // Replaces the older event of the key.
      if (row.keyed !== null) insertNewest.run(row.id, seq, text);
      row.last = seq;
      row.deleted = 0;
      of.events++;
      of.bytes += frame.length;
      row.events++;
      row.bytes += frame.length;
    }
    this.#retention.tidy(added.values(), entries[0]!.seq, Date.now());
  }

  #newRow(topic: string): TopicRow {
    const { floor } = this.#retention;
    this.#retention.addRecord();
    return this.#statements.create.get(topic, floor, floor) as TopicRow;
  }

  /** Writes as much as what failed, and removes it: two commits. */
  #probe(): void {
    this.#write(() => this.#statements.fill.run(this.#probeBytes));
    this.#write(() => this.#statements.empty.run());
    this.#probeBytes = LEAST_PROBE;
  }

  /** One transaction. */
  #write(act: () => void): void {
    const { begin, commit, rollback } = this.#statements;
    const { state } = this.#retention;
    if (this.#isClosed) throw logUnavailable(`the log ${this.#file.path} is closed`);
    if (!this.#file.isInPlace)
      throw logUnavailable(
        `the log ${this.#file.path} or its lock was removed or replaced while it was open`,
      );
    try {
      begin.run();
      act();
      commit.run();
    } catch (error) {
      this.#retention.state = state;
      // SQLite may have rolled back already.
      ignoreErrors(() => rollback.run());
      throw isOfSqlite(error) ? this.#unavailable(error) : error;
    }
  }

  #unavailable(error: Error): Error {
    return logUnavailable(`the log ${this.#file.path} cannot be written: ${error.message}`, error);
  }

  // ── reading ──────────────────────────────────────────────────────────────────────────────────────────────

  #read<T>(act: () => T): T {
    if (this.#isClosed) throw logUnavailable(`the log ${this.#file.path} is closed`);
    try {
      return act();
    } catch (error) {
      throw this.#file.failure(error);
    }
  }

  #rowOf(topic: string): TopicRow | undefined {
    return this.#statements.row.get(topic) as TopicRow | undefined;
  }

  #recordOf(row: TopicRow, now: number): TopicRecord {
    const { name: topic, last, ended, deleted } = row;
    const dropped = this.#retention.droppedOf(row, now);
    return {
      topic,
      last,
      dropped,
      ended: ended === 1,
      ...(deleted === 1 && { deleted: true }),
      ...this.#retention.heldAfter(row, dropped),
    };
  }

  /** Where to begin in each topic that has events after a seq, and which have lost some. */
  #sourcesOf(topics: readonly string[], after: number): { dropped: LogPage['dropped']; sources: Source[] } {
    const now = Date.now();
    const dropped: { topic: string; seq: number }[] = [];
    const sources: Source[] = [];
    for (const topic of new Set(topics)) {
      const row = this.#rowOf(topic);
      const lost = row === undefined ? this.#retention.floor : this.#retention.droppedOf(row, now);
      if (lost > after) dropped.push({ topic, seq: lost });
      const from = Math.max(after, lost);
      if (row !== undefined && row.last > from) sources.push({ row, after: from });
    }
    return { dropped, sources };
  }

  #page(sources: readonly Source[], maxBytes: number, newestOnly: boolean): Page {
    const [source, ...others] = sources;
    if (source === undefined) return { entries: [], isAll: true };
    if (others.length > 0 || (newestOnly && source.row.keyed !== null))
      return this.#merge(sources, maxBytes, newestOnly);
    return this.#pageOf(source, maxBytes);
  }

  #pageOf({ row, after }: Source, maxBytes: number): Page {
    const entries: LogEntry[] = [];
    let left = maxBytes;
    // A loop that is left resets the statement, so that it does not keep the WAL from being moved to the file.
    for (const event of this.#statements.after.iterate(row.id, after) as Iterable<EventRow>) {
      left -= event.frame.length;
      if (left < 0 && entries.length > 0) return { entries, isAll: false };
      entries.push(entryOf(row.name, event));
    }
    return { entries, isAll: true };
  }

  /** Finds the places first: the frames of many topics could be large. */
  #merge(sources: readonly Source[], maxBytes: number, newestOnly: boolean): Page {
    const most = Math.ceil(PLACES / sources.length);
    const runs = sources.map((source) => new Run(source.row, this.#places(source, newestOnly, most)));
    const entries: LogEntry[] = [];
    let left = maxBytes;
    for (let run = firstOf(runs); run !== undefined; run = firstOf(runs)) {
      const { seq, bytes } = run.head!;
      left -= bytes;
      if (left < 0 && entries.length > 0) return { entries, isAll: false };
      entries.push(entryOf(run.row.name, this.#statements.event.get(seq) as EventRow));
      run.next();
    }
    return { entries, isAll: true };
  }

  /** The places of a topic, ascending; with `newestOnly` without those of events that are replaced. */
  *#places({ row, after }: Source, newestOnly: boolean, most: number): Generator<Place> {
    const { places, newestPlaces } = this.#statements;
    const keyed = newestOnly && row.keyed !== null ? row.keyed : Number.MAX_SAFE_INTEGER;
    let from = after;
    // No event before `keyed` has a key, so none is replaced.
    for (const statement of [places, newestPlaces]) {
      const end = statement === places ? keyed : Number.MAX_SAFE_INTEGER;
      while (from < end - 1) {
        const page = statement.all(row.id, from, end, most) as Place[];
        yield* page;
        from = page.length < most ? end - 1 : page.at(-1)!.seq;
      }
    }
  }

  /** The seq just before the oldest event; the head where there is none. */
  #earliest(sources: readonly Source[]): number {
    const firsts = sources.flatMap(({ row, after }) => this.#statements.places.all(row.id, after, END, 1));
    return Math.min(this.#head, ...(firsts as Place[]).map(({ seq }) => seq - 1));
  }

  #nthNewest(sources: readonly Source[], count: number): number {
    const most = Math.min(count, Math.ceil(PLACES / sources.length));
    const runs = sources.map((source) => new Run(source.row, this.#placesBack(source, most)));
    let seq = this.#head + 1;
    for (let left = count; left >= 1; left--) {
      const run = firstOf(runs);
      if (run === undefined) break;
      seq = -run.head!.seq;
      run.next();
    }
    return seq - 1;
  }

  /** The places of a topic, newest first. Their seqs are negative, so that they too ascend. */
  *#placesBack({ row, after }: Source, most: number): Generator<Place> {
    for (let before = END; ; ) {
      const page = this.#statements.placesBack.all(row.id, after, before, most) as Place[];
      for (const { seq, bytes } of page) yield { seq: -seq, bytes };
      if (page.length < most) return;
      before = page.at(-1)!.seq;
    }
  }
}

interface Page {
  readonly entries: LogEntry[];
  /** There are no more. */
  readonly isAll: boolean;
}

/** Above every seq. */
const END = Number.MAX_SAFE_INTEGER;

/** The places of a topic, while they are merged with those of others. */
class Run {
  readonly row: TopicRow;
  head: Place | undefined;
  readonly #places: Iterator<Place>;

  constructor(row: TopicRow, places: Iterator<Place>) {
    this.row = row;
    this.#places = places;
    this.next();
  }

  next(): void {
    const { done, value } = this.#places.next();
    this.head = done ? undefined : value;
  }
}

/** The run whose head is the lowest; `undefined` where all have ended. */
function firstOf(runs: readonly Run[]): Run | undefined {
  let first: Run | undefined;
  for (const run of runs) {
    if (run.head === undefined) continue;
    if (first === undefined || run.head.seq < first.head!.seq) first = run;
  }
  return first;
}

/** Whether a topic has something to change. */
function isChange({ ended, deleted }: TopicRow, change: TopicChange): boolean {
  if (change === 'reopen') return ended === 1;
  return change === 'end' ? ended === 0 : deleted === 0;
}

function entryOf(topic: string, { seq, at, key, frame }: EventRow): LogEntry {
  return { seq, topic, at, frame, key: key === null ? undefined : JSON.parse(key) };
}

function isOfSqlite(error: unknown): error is Error {
  return (error as { code?: unknown }).code === 'ERR_SQLITE_ERROR';
}

function ignoreErrors(act: () => void): void {
  try {
    act();
  } catch {}
}

function prepare(database: Database) {
  const sql = (text: string): Statement => database.prepare(text);
  return {
    begin: sql('BEGIN IMMEDIATE'),
    commit: sql('COMMIT'),
    rollback: sql('ROLLBACK'),
    row: sql('SELECT * FROM topics WHERE name = ?'),
    create: sql(`INSERT INTO topics (name, last, dropped, ended, deleted, events, bytes)
      VALUES (?, ?, ?, 0, 0, 0, 0) RETURNING *`),
    insert: sql('INSERT INTO events (seq, topic, at, key, frame) VALUES (?, ?, ?, ?, ?)'),
    insertNewest: sql('INSERT OR REPLACE INTO newest (topic, seq, key) VALUES (?, ?, ?)'),
    fill: sql('INSERT OR REPLACE INTO probe VALUES (1, zeroblob(?))'),
    empty: sql('DELETE FROM probe'),
    recall: sql('SELECT digest, first, count FROM requests WHERE key = ?'),
    list: sql('SELECT * FROM topics WHERE name > ? AND deleted = 0 ORDER BY name LIMIT ?'),
    after: sql('SELECT seq, at, key, frame FROM events WHERE topic = ? AND seq > ? ORDER BY seq'),
    event: sql('SELECT seq, at, key, frame FROM events WHERE seq = ?'),
    places: sql(`SELECT seq, length(frame) AS bytes FROM events
      WHERE topic = ? AND seq > ? AND seq < ? ORDER BY seq LIMIT ?`),
    placesBack: sql(`SELECT seq, 0 AS bytes FROM events
      WHERE topic = ? AND seq > ? AND seq < ? ORDER BY seq DESC LIMIT ?`),
    newestPlaces: sql(`SELECT newest.seq, length(frame) AS bytes FROM newest JOIN events USING (seq)
      WHERE newest.topic = ? AND newest.seq > ? AND newest.seq < ? ORDER BY newest.seq LIMIT ?`),
  };
}
