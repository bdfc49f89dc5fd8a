// Limits what a log keeps in its SQLite file, a few events at a time: by topic, by topics and by size.
// Needs `history-limits.ts` and `sqlite-file.ts` beside it.

import { atLeastOne, checkLimits, type HistoryLimits, type Limits } from './history-limits.ts';
import type { Database, Statement } from './sqlite-file.ts';

export interface RetentionOptions {
  /**
   * The limits of each topic, or a function that may be called again for a topic and must not throw. Here the
   * defaults are 100,000 events and 64 MiB of frames. The newest event stays, whatever its size. What is older than
   * `maxAge` is not read, even where it is not removed yet.
   */
  history?: HistoryLimits | ((topic: string) => HistoryLimits) | undefined;
  /**
   * Most topics that are remembered, with or without events; default 100,000. Those that were silent for longest
   * are forgotten. Afterwards, a client with an older id gets a gap in any topic that is not remembered.
   */
  maxTopics?: number | undefined;
  /**
   * Most bytes of the file that are in use; default 4 GiB. Where it has more, the topics that were silent for
   * longest lose their oldest events. The file does not become smaller by that: what is free in it is used again.
   */
  maxFileBytes?: number | undefined;
  /** Most idempotency keys that are kept; default 10,000. A new one then replaces the oldest. */
  maxKeys?: number | undefined;
}

const DEFAULTS: Limits = { maxEvents: 100_000, maxBytes: 64 * 1024 * 1024, maxAge: Infinity };

/** A row of the table `topics`. */
export interface TopicRow {
  readonly id: number;
  readonly name: string;
  last: number;
  dropped: number;
  ended: number;
  deleted: number;
  events: number;
  bytes: number;
  /** From this seq on, `newest` has the events that no later one replaces; `null` where none has a key. */
  keyed: number | null;
}

interface Count {
  readonly events: number;
  readonly bytes: number;
}

/** What was appended to a topic in one call. */
export interface Added {
  readonly row: TopicRow;
  events: number;
  bytes: number;
}

/** What must be as before where a transaction is rolled back. */
export interface RetentionState {
  /** How many topics have a record. */
  readonly records: number;
  /** How many idempotency keys are kept. */
  readonly keys: number;
  /** The topic that the round of all topics has reached. */
  readonly round: number;
}

/** What an append removes at most: twice what it adds, a part for its bytes, and this many events. */
const SPARE = 256;
const SPARE_OF_TOPIC = 32;

/** A large event replaces many small ones: one more for each so many bytes, up to this many. */
const BYTES_OF_ONE = 64;
const MOST_FOR_BYTES = 4096;

const KEPT_LIMITS = 10_000;

const COUNTED_FIRST = 256;

/** Keys that one more key replaces, where their limit was lowered. */
const MOST_KEYS = 8;

/** Called inside the transactions of a log. It leaves nothing for later but what is in the file. */
export class Retention {
  state: RetentionState;
  readonly #limits: (topic: string) => HistoryLimits;
  readonly #known = new Map<string, Limits>();
  readonly #maxTopics: number;
  readonly #maxFileBytes: number;
  readonly #maxKeys: number;
  readonly #statements: ReturnType<typeof prepare>;

  /** @throws {RangeError | TypeError} naming the option that cannot be used. */
  constructor(database: Database, options: RetentionOptions) {
    const { history = {}, maxTopics = 100_000, maxFileBytes = 4 * 1024 ** 3 } = options;
    const { maxKeys = 10_000 } = options;
    checkOptions(options);
    this.#limits = typeof history === 'function' ? history : () => history;
    this.#maxTopics = maxTopics;
    this.#maxFileBytes = maxFileBytes;
    this.#maxKeys = maxKeys;
    this.#statements = prepare(database);
    const first = this.#statements.counts.get() as Pick<RetentionState, 'records' | 'keys'>;
    this.state = { round: 0, ...first };
  }

  limitsOf(topic: string): Limits {
    const known = this.#known.get(topic);
    if (known !== undefined) return known;
    const limits = checkLimits(this.#limits(topic), DEFAULTS);
    if (this.#known.size >= KEPT_LIMITS) this.#known.clear();
    this.#known.set(topic, limits);
    return limits;
  }

  /** No topic without a record has had an event after this seq. */
  get floor(): number {
    return (this.#statements.floor.get() as { floor: number }).floor;
  }

  /** The newest seq of a topic that is dropped or too old. */
  droppedOf(row: TopicRow, now: number): number {
    const { maxAge } = this.limitsOf(row.name);
    if (maxAge === Infinity || row.events === 0) return row.dropped;
    return this.#expiredOf(row, now - maxAge);
  }

  /**
   * Halves the part of the order in which the first young event must be, because there may be many old ones. Where
   * the clock was set back between two events, it is about that place.
   */
  #expiredOf({ id, dropped, last }: TopicRow, oldest: number): number {
    const after = (seq: number) =>
      this.#statements.next.get(id, seq) as { seq: number; at: number } | undefined;
    const first = after(dropped);
    if (first === undefined || first.at >= oldest) return dropped;
    // The event at `low` is too old, and none from `high` on.
    let [low, high] = [first.seq, last + 1];
    while (high - low > 1) {
      const middle = Math.floor((low + high - 1) / 2);
      const next = after(middle);
      if (next !== undefined && next.seq < high && next.at < oldest) low = next.seq;
      else high = middle + 1;
    }
    return low;
  }

  /**
   * How many events lie after a seq, and their bytes. Those up to it may still be in the file: counts these or the
   * others, whichever are fewer, because a silent topic has a whole history of old ones, and a busy one few.
   */
  heldAfter({ id, dropped, last, events, bytes }: TopicRow, seq: number): Count {
    if (seq <= dropped) return { events, bytes };
    const count = (after: number, upto: number, most: number) =>
      this.#statements.count.get(id, after, upto, most) as Count;
    for (let most = COUNTED_FIRST; ; most *= 4) {
      const young = count(seq, last, most);
      if (young.events < most) return young;
      const old = count(dropped, seq, most);
      if (old.events < most) return { events: events - old.events, bytes: bytes - old.bytes };
    }
  }

  /** A topic was made. */
  addRecord(): void {
    this.state = { ...this.state, records: this.state.records + 1 };
  }

  /** Keeps what was appended with an idempotency key. The oldest make room. */
  keep(key: string, digest: string, first: number, count: number): void {
    const { isKept, keep, forgetKeys } = this.#statements;
    const isNew = isKept.get(key) === undefined;
    keep.run(key, digest, first, count);
    if (!isNew) return;
    const keys = this.state.keys + 1;
    const over = Math.max(0, keys - this.#maxKeys);
    if (over > 0) forgetKeys.run(Math.min(over, MOST_KEYS));
    this.state = { ...this.state, keys: keys - Math.min(over, MOST_KEYS) };
  }

  save({ last, dropped, ended, deleted, events, bytes, keyed, id }: TopicRow): void {
    this.#statements.save.run(last, dropped, ended, deleted, events, bytes, keyed, id);
  }

  /** Drops all events of a topic. Those that are left in the file are removed step by step. */
  clear(row: TopicRow): void {
    if (row.events > 0) this.#statements.discard.run(row.id, row.last);
    row.dropped = row.last;
    row.events = row.bytes = 0;
    row.keyed = null;
  }

  /**
   * Saves the topics that were appended to, and removes what is over a limit, as much as one append may.
   * @param first - The seq of the first event that was appended.
   */
  tidy(added: Iterable<Added>, first: number, now: number): void {
    let spare = SPARE;
    let topics = 1;
    for (const { row, events, bytes } of added) {
      const forBytes = Math.min(MOST_FOR_BYTES, Math.ceil(bytes / BYTES_OF_ONE));
      this.#trim(row, 2 * events + forBytes + SPARE_OF_TOPIC, now);
      this.save(row);
      spare += 2 * events + forBytes;
      topics++;
    }
    spare -= this.#forget(spare);
    spare -= this.sweep(spare);
    spare -= this.#shed(spare, first);
    while (topics-- > 0 && spare > 0) spare -= this.#trimNext(spare, now);
  }

  /** Removes what `most` events were discarded, at most. @returns how many it has removed. */
  sweep(most: number): number {
    const { garbage, nth, removeUpTo, removeNewestUpTo, swept } = this.#statements;
    let count = 0;
    while (count < most) {
      const row = garbage.get() as { topic: number; upto: number } | undefined;
      if (row === undefined) break;
      const { topic, upto } = row;
      const last = nth.get(topic, upto, most - count - 1) as { seq: number } | undefined;
      const seq = last?.seq ?? upto;
      // One for the row, so that many empty ones are as limited.
      count += 1 + Number((removeUpTo.run(topic, seq) as { changes: number }).changes);
      removeNewestUpTo.run(topic, seq);
      if (last === undefined) swept.run(topic);
    }
    return count;
  }

  /** Drops what is over the limits of a topic, or too old. */
  #trim(row: TopicRow, most: number, now: number): number {
    const { maxEvents, maxBytes, maxAge } = this.limitsOf(row.name);
    if (maxAge === Infinity && row.events <= maxEvents && row.bytes <= maxBytes) return 0;
    const oldest = now - maxAge;
    return this.#drop(row, most, ({ at }) => {
      return at < oldest || (row.events > 1 && (row.events > maxEvents || row.bytes > maxBytes));
    });
  }

  /** Drops the oldest events of a topic, as long as they are to go. @returns how many. */
  #drop(row: TopicRow, most: number, isToGo: (event: OldEvent) => boolean): number {
    const { oldest, remove, removeNewest } = this.#statements;
    let count = 0;
    let upto = row.dropped;
    for (const event of oldest.iterate(row.id, row.dropped, Math.max(0, most)) as Iterable<OldEvent>) {
      if (!isToGo(event)) break;
      row.events--;
      row.bytes -= event.bytes;
      upto = event.seq;
      count++;
    }
    if (count === 0) return 0;
    remove.run(row.id, row.dropped, upto);
    if (row.keyed !== null) removeNewest.run(row.id, row.dropped, upto);
    row.dropped = upto;
    if (row.events === 0) row.keyed = null;
    return count;
  }

  /** Trims the next topic of a round: a topic without new events drops nothing by itself. */
  #trimNext(most: number, now: number): number {
    const row = this.#statements.following.get(this.state.round) as TopicRow | undefined;
    this.state = { ...this.state, round: row?.id ?? 0 };
    if (row === undefined) return 0;
    const count = this.#trim(row, most, now);
    if (count > 0) this.save(row);
    return count;
  }

  /** Forgets the topics that were silent for longest, where there are too many. */
  #forget(most: number): number {
    let count = 0;
    for (; count < most && this.state.records > this.#maxTopics; count++) {
      const row = this.#silent();
      if (row === undefined) break;
      if (row.events > 0) this.#statements.discard.run(row.id, row.last);
      this.#statements.forget.run(row.id);
      this.#statements.raiseFloor.run(row.last);
      this.state = { ...this.state, records: this.state.records - 1 };
    }
    return count;
  }

  /** The topic that was silent for longest. */
  #silent(): TopicRow | undefined {
    const { silentEmpty, silentHeld } = this.#statements;
    const [empty, held] = [silentEmpty.get(), silentHeld.get()] as (TopicRow | undefined)[];
    return held === undefined || (empty !== undefined && empty.last < held.last) ? empty : held;
  }

  /**
   * Where the file is too large, drops the oldest events of the topics that were silent for longest; and where all
   * were appended to now, the oldest of all. What was appended now stays.
   */
  #shed(most: number, first: number): number {
    if (this.#maxFileBytes === Infinity) return 0;
    const { size, garbage, silentHeld, topicOfOldest } = this.#statements;
    let count = 0;
    while (count < most) {
      let over = (size.get() as { bytes: number }).bytes - this.#maxFileBytes;
      if (over <= 0) break;
      // What is discarded frees pages first.
      if (garbage.get() !== undefined) break;
      const silent = silentHeld.get() as TopicRow | undefined;
      const row = silent === undefined || silent.last < first ? silent : (topicOfOldest.get() as TopicRow);
      if (row === undefined) break;
      const dropped = this.#drop(row, most - count, ({ seq, bytes }) => {
        const isToGo = seq < first && over > 0;
        over -= bytes;
        return isToGo;
      });
      if (dropped === 0) break;
      this.save(row);
      count += dropped;
    }
    return count;
  }
}

interface OldEvent {
  readonly seq: number;
  readonly at: number;
  readonly bytes: number;
}

/** Finds options that are out of range, before a file is opened. */
export function checkOptions({ history, maxTopics, maxFileBytes, maxKeys }: RetentionOptions): void {
  if (history !== undefined && typeof history !== 'function') checkLimits(history, DEFAULTS);
  atLeastOne('maxKeys', maxKeys ?? Infinity);
  atLeastOne('maxTopics', maxTopics ?? Infinity);
  atLeastOne('maxFileBytes', maxFileBytes ?? Infinity);
}

function prepare(database: Database) {
  const sql = (text: string): Statement => database.prepare(text);
  return {
    save: sql(`UPDATE topics SET last = ?, dropped = ?, ended = ?, deleted = ?, events = ?, bytes = ?, keyed = ?
      WHERE id = ?`),
    next: sql('SELECT seq, at FROM events WHERE topic = ? AND seq > ? ORDER BY seq LIMIT 1'),
    count: sql(`SELECT count(*) AS events, coalesce(sum(length(frame)), 0) AS bytes FROM
      (SELECT frame FROM events WHERE topic = ? AND seq > ? AND seq <= ? ORDER BY seq LIMIT ?)`),
    oldest: sql(`SELECT seq, at, length(frame) AS bytes FROM events
      WHERE topic = ? AND seq > ? ORDER BY seq LIMIT ?`),
    remove: sql('DELETE FROM events WHERE topic = ? AND seq > ? AND seq <= ?'),
    removeNewest: sql('DELETE FROM newest WHERE topic = ? AND seq > ? AND seq <= ?'),
    discard: sql(`INSERT INTO garbage VALUES (?, ?) ON CONFLICT DO UPDATE SET upto = excluded.upto`),
    garbage: sql('SELECT topic, upto FROM garbage LIMIT 1'),
    nth: sql('SELECT seq FROM events WHERE topic = ? AND seq <= ? ORDER BY seq LIMIT 1 OFFSET ?'),
    removeUpTo: sql('DELETE FROM events WHERE topic = ? AND seq <= ?'),
    removeNewestUpTo: sql('DELETE FROM newest WHERE topic = ? AND seq <= ?'),
    swept: sql('DELETE FROM garbage WHERE topic = ?'),
    following: sql('SELECT * FROM topics WHERE id > ? ORDER BY id LIMIT 1'),
    silentEmpty: sql('SELECT * FROM topics WHERE (events > 0) = 0 ORDER BY last LIMIT 1'),
    silentHeld: sql('SELECT * FROM topics WHERE (events > 0) = 1 ORDER BY last LIMIT 1'),
    topicOfOldest: sql('SELECT * FROM topics WHERE id = (SELECT topic FROM events ORDER BY seq LIMIT 1)'),
    forget: sql('DELETE FROM topics WHERE id = ?'),
    counts: sql('SELECT (SELECT count(*) FROM topics) AS records, (SELECT count(*) FROM requests) AS keys'),
    floor: sql('SELECT floor FROM state'),
    raiseFloor: sql('UPDATE state SET floor = max(floor, ?)'),
    isKept: sql('SELECT 1 FROM requests WHERE key = ?'),
    keep: sql('INSERT OR REPLACE INTO requests VALUES (?, ?, ?, ?)'),
    forgetKeys: sql('DELETE FROM requests WHERE key IN (SELECT key FROM requests ORDER BY first LIMIT ?)'),
    size: sql(`SELECT (page_count - freelist_count) * page_size AS bytes
      FROM pragma_page_count, pragma_freelist_count, pragma_page_size`),
  };
}
