// Makes a shared order of a log that has one writer: gives places to what several processes append.
// Needs `idempotency.ts`, `log.ts`, `protocol.ts`, `replay.ts` and `staging.ts` beside it.

import { idempotencyConflict } from './idempotency.ts';
import {
  type Appended,
  type AppendOptions,
  type AppendRecord,
  type ListOptions,
  type LogChange,
  type LogEntry,
  type LogPage,
  type NewEntry,
  type OwnLog,
  type TopicChange,
  type TopicRecord,
  topicEnded,
  topicMoved,
} from './log.ts';
import { formatId, parseId } from './protocol.ts';
import { ReplayBuffer } from './replay.ts';
import { type Staged, Staging } from './staging.ts';

export interface LogOwnerOptions {
  /** Most bytes of the newest entries, for those who follow: their frames, and 200 for each. */
  readonly maxRecentBytes: number;
  /** Called when there are newer entries, and when the log has failed. */
  readonly onNews: () => void;
  readonly onError: (error: unknown) => void;
}

/** A part of the order, with places that count from its beginning. */
export interface OwnedEpoch {
  readonly epoch: number;
  /** The newest place that was kept; `undefined` in the present one. */
  readonly end: number | undefined;
}

/** What follows a place in the order. */
export interface News {
  readonly entries: readonly (LogEntry | LogChange)[];
  /** There is nothing else up to here, where it lies above the last entry: what is missing was not kept. */
  readonly upTo: number;
}

interface Recent {
  readonly seq: number;
  readonly bytes: number;
  readonly at: number;
  readonly entry: LogEntry | LogChange;
}

/**
 * A change of a topic takes a place, and the log must not give that to an event after a restart: it is kept
 * as this.
 */
const PLACES = '$places';

const NOTHING = Buffer.alloc(0);

/** What an entry holds beside its frame, about. */
const ENTRY_BYTES = 200;

/** What those who follow get at once. */
const NEWS_BYTES = 64 * 1024;

/**
 * Seqs here count from the beginning of the present epoch, as those of every shared order do. In what a turn
 * has appended they have no holes; where the log has refused a turn, its places are left out.
 *
 * A log that begins another epoch does so when it is opened, so that this one stays the same.
 */
export class LogOwner {
  readonly epochs: readonly OwnedEpoch[];
  readonly #log: OwnLog;
  readonly #base: number;
  readonly #recent: ReplayBuffer<Recent>;
  readonly #staging: Staging<Staged>;
  readonly #onNews: () => void;
  /** The seq of each topic's newest event among what waits for the log. */
  readonly #newest = new Map<string, number>();
  #head: number;
  #isPlanned = false;
  #hasNews = false;

  constructor(log: OwnLog, { maxRecentBytes, onNews, onError }: LogOwnerOptions) {
    this.#log = log;
    this.#onNews = onNews;
    this.epochs = log.epochs.map(({ epoch, base, end }) => ({ epoch, end: end && end - base }));
    this.#base = log.epochs.at(-1)!.base;
    this.#head = log.head - this.#base;
    this.#recent = new ReplayBuffer({ maxEntries: Infinity, maxBytes: maxRecentBytes, dropped: this.#head });
    this.#staging = new Staging(log, {
      head: log.head,
      accept: ({ entry }) => {
        if (entry.topic !== PLACES) this.#add({ ...entry, seq: entry.seq - this.#base });
      },
      plan: () => this.#plan(),
      failed: (error) => {
        this.#hasNews = true;
        onError(error);
      },
    });
    this.#forgetPlaces();
  }

  get epoch(): number {
    return this.epochs.at(-1)!.epoch;
  }

  /** Why the log takes no events at present. */
  get failure(): Error | undefined {
    return this.#staging.failure;
  }

  /** The newest place. */
  get head(): number {
    return this.#head;
  }

  /**
   * Resolves once the log has the events. Rejects where they certainly are not in it.
   * @param events - At least one.
   */
  async append(
    topic: string,
    events: readonly NewEntry[],
    { idempotency, behind }: AppendOptions,
  ): Promise<Appended> {
    const known = idempotency && this.#staging.recall(idempotency.key);
    if (known !== undefined) {
      if (known.record.digest !== idempotency?.digest) throw idempotencyConflict();
      await known.kept;
      return this.#appended(known.record);
    }
    const failure = this.#staging.failure;
    if (failure !== undefined) throw failure;
    const [record] = this.#log.find([topic]);
    if (record?.ended) throw topicEnded(topic);
    const last = this.#newestIn(topic) ?? record?.last ?? 0;
    if (behind !== undefined && !this.#isBehind(behind, last)) throw topicMoved(topic);
    const first = this.#staging.next;
    const count = events.length;
    this.#newest.set(topic, first + count - 1);
    const staged = events.map(
      (event, i): Staged => ({
        entry: { ...event, seq: first + i, topic },
        bytes: event.frame.length,
      }),
    );
    const kept = this.#staging.addAndWait(staged, idempotency && { ...idempotency, first, count });
    // Where the turn has very much, this was handed over at once.
    this.#plan();
    await kept;
    return this.#appended({ first, count });
  }

  #newestIn(topic: string): number | undefined {
    if (this.#staging.isEmpty) this.#newest.clear();
    return this.#newest.get(topic);
  }

  #isBehind(behind: string, last: number): boolean {
    if (last > this.#base) return behind === formatId(this.epoch, last - this.#base);
    return parseId(behind)?.seq === 0;
  }

  /**
   * Changes a topic that the log knows. @returns the place of the change; `undefined` where nothing was to
   * change.
   */
  change(topic: string, change: TopicChange): number | undefined {
    this.#commit();
    const [record] = this.#log.find([topic]);
    if (record === undefined || !isToChange(record, change)) return undefined;
    const seq = this.#takePlace();
    if (!this.#log.change(topic, change)) return undefined;
    this.#add({ seq: seq - this.#base, topic, change });
    this.#plan();
    return seq - this.#base;
  }

  /** What came after a place; `undefined` where nothing did. */
  newsAfter(seq: number): News | undefined {
    if (seq >= this.#head) return undefined;
    const entries: (LogEntry | LogChange)[] = [];
    const recent = this.#recent;
    // Where the next one is no longer recent: from the oldest that is.
    for (let i = Math.max(0, recent.indexAfter(seq)), bytes = 0; i < recent.size; i++) {
      const { entry, bytes: more } = recent.at(i)!;
      bytes += more;
      if (bytes > NEWS_BYTES && entries.length > 0) return { entries, upTo: entries.at(-1)!.seq };
      entries.push(entry);
    }
    return { entries, upTo: this.#head };
  }

  async read(
    topics: readonly string[],
    after: number,
    maxBytes: number,
    options: { readonly newestOnly: boolean },
  ): Promise<LogPage> {
    const base = this.#base;
    const { entries, until, dropped, truncated } = await this.#log.read(
      topics,
      base + after,
      maxBytes,
      options,
    );
    return {
      entries: entries.map((entry) => ({ ...entry, seq: entry.seq - base })),
      until: until - base,
      dropped: dropped.map(({ topic, seq }) => ({ topic, seq: seq - base })),
      truncated: truncated === undefined ? undefined : Math.max(0, truncated - base),
    };
  }

  find(topics: readonly string[]): readonly TopicRecord[] {
    return this.#log.find(topics).map((record) => this.#inEpoch(record));
  }

  list({ after, limit = Infinity }: ListOptions): readonly TopicRecord[] {
    // One more, where a process died before it could remove that topic.
    const records = this.#log.list({ after, limit: limit + 1 }).filter(({ topic }) => topic !== PLACES);
    return records.slice(0, limit).map((record) => this.#inEpoch(record));
  }

  beforeNewest(topics: readonly string[], count: number): number {
    return Math.max(0, this.#log.beforeNewest(topics, count) - this.#base);
  }

  /** Hands over what waits, and takes no more. */
  close(): void {
    this.#turn();
    this.#staging.close();
  }

  /** Of a topic without events in the present epoch, nothing is known but whether it has ended. */
  #inEpoch(record: TopicRecord): TopicRecord {
    const [last, dropped] = [record.last, record.dropped].map((seq) => Math.max(0, seq - this.#base));
    const held = last === 0 ? { events: 0, bytes: 0 } : {};
    return { ...record, ...held, last: last!, dropped: dropped! };
  }

  /** An answer that was kept may be of an earlier epoch. */
  #appended({ first, count }: Pick<AppendRecord, 'first' | 'count'>): Appended {
    const { epochs } = this.#log;
    const { epoch, base } = epochs.filter((one) => one.base < first).at(-1) ?? epochs[0]!;
    return { epoch, first: first - base, count };
  }

  // ── turns ────────────────────────────────────────────────────────────────────────────────────────────────

  #plan(): void {
    if (this.#isPlanned) return;
    this.#isPlanned = true;
    setImmediate(() => this.#turn());
  }

  #turn(): void {
    this.#isPlanned = false;
    this.#staging.commit();
    if (!this.#hasNews) return;
    this.#hasNews = false;
    this.#onNews();
  }

  #add(entry: LogEntry | LogChange): void {
    const bytes = ENTRY_BYTES + ('frame' in entry ? entry.frame.length + 2 * (entry.key?.length ?? 0) : 0);
    this.#recent.push({ seq: entry.seq, bytes, at: 0, entry });
    this.#head = entry.seq;
    this.#hasNews = true;
  }

  /** Hands over what was appended before. @throws {LogError} where the log does not take it. */
  #commit(): void {
    this.#turn();
    if (this.#staging.failure !== undefined) throw this.#staging.failure;
  }

  #takePlace(): number {
    const seq = this.#staging.next;
    const entry = { seq, topic: PLACES, at: Date.now(), frame: NOTHING, key: undefined };
    this.#staging.addAndWait([{ entry, bytes: 0 }]).catch(() => {});
    this.#commit();
    this.#forgetPlaces();
    return seq;
  }

  /** The log keeps the newest seq of a deleted topic, and does not list it. */
  #forgetPlaces(): void {
    try {
      this.#log.change(PLACES, 'delete');
    } catch {
      // It is deleted with the next change.
    }
  }
}

function isToChange({ ended, deleted = false }: TopicRecord, change: TopicChange): boolean {
  return change === 'delete' ? !deleted : ended !== (change === 'end');
}
