// Looks up what a log in Redis holds of topics, a few topics and not too many bytes at a time.
// Needs `log.ts`, `redis-client.ts`, `redis-connections.ts`, `redis-store.ts`, `semaphore.ts`, and what these need,
// beside it.

import { type ListOptions, type LogEntry, type LogPage, logUnavailable, type TopicRecord } from './log.ts';
import type { RedisConnection } from './redis-client.ts';
import { pause, readFailure, retryUntil } from './redis-connections.ts';
import type { Place, RedisStore } from './redis-store.ts';
import { type Permit, Semaphore } from './semaphore.ts';

export interface RedisReaderOptions {
  readonly store: RedisStore;
  readonly maxReads: number;
  readonly connection: () => RedisConnection;
  /** The place that the intake was told of. */
  readonly known: () => Place;
  /** Throws where Redis cannot be asked now. */
  readonly checkReached: () => void;
  /** A server has said that an epoch is over. Resolves with true once the intake knows the next one. */
  readonly hasChanged: (epoch: number, timeout: number) => Promise<boolean>;
}

/** One question to the store: the answer is `undefined` where the epoch is over. */
type Look<T> = (connection: RedisConnection, timeout: number) => Promise<T | undefined>;

/** Topics of one script: the server does nothing else meanwhile. */
const TOPICS_AT_ONCE = 64;
const NAMES_AT_ONCE = 200;
const SEQS_AT_ONCE = 512;
const MAX_PAGE_BYTES = 16 * 1024 * 1024;

/** Milliseconds. */
const READ_TIMEOUT = 5000;

/** All seqs are those of the epoch that the intake knows when something is asked. */
export class RedisReader {
  readonly #options: RedisReaderOptions;
  readonly #reads: Semaphore;

  constructor(options: RedisReaderOptions) {
    this.#options = options;
    this.#reads = new Semaphore(options.maxReads, { waitTimeout: READ_TIMEOUT });
  }

  async read(
    topics: readonly string[],
    after: number,
    maxBytes: number,
    newestOnly: boolean,
  ): Promise<LogPage> {
    const known = this.#options.known();
    const options = { maxBytes: Math.min(maxBytes, MAX_PAGE_BYTES), newestOnly };
    const pages: LogPage[] = [];
    for (const part of chunks(topics)) {
      const page = await this.#page(known, part, Math.max(0, after), options);
      // The hub was told of another epoch, and has no use for a page of this one.
      if (page === undefined) return { entries: [], until: after, dropped: [] };
      pages.push(page);
    }
    return pages.length === 1 ? pages[0]! : mergePages(pages, options.maxBytes);
  }

  async find(topics: readonly string[], known: Place = this.#options.known()): Promise<TopicRecord[]> {
    const { store } = this.#options;
    const records: TopicRecord[] = [];
    for (const part of chunks(topics)) {
      const ask: Look<readonly TopicRecord[]> = (connection, timeout) =>
        store.find(connection, known, part, timeout);
      records.push(...(await this.#must(known, ask)));
    }
    return records;
  }

  async list({ after = '', limit = Infinity }: ListOptions): Promise<readonly TopicRecord[]> {
    const { store } = this.#options;
    const known = this.#options.known();
    const records: TopicRecord[] = [];
    for (let [from, count] = [after, limit]; records.length < limit; count = NAMES_AT_ONCE) {
      const page = { after: from, count: Math.min(NAMES_AT_ONCE, count) };
      const names = await this.#must(known, (connection, timeout) =>
        store.names(connection, known, { ...page, timeout }),
      );
      const found = new Map((await this.find(names, known)).map((record) => [record.topic, record]));
      records.push(...names.flatMap((name) => found.get(name) ?? []).filter(({ deleted }) => !deleted));
      if (names.length < page.count) break;
      from = names.at(-1)!;
    }
    return records.slice(0, limit);
  }

  async beforeNewest(topics: readonly string[], count: number): Promise<number> {
    const known = this.#options.known();
    const runs = chunks(topics).map((part) => new NewestSeqs(this.#loadOf(known, part)));
    for (const run of runs) await run.load(count);
    let seq = Math.min(...runs.map(({ head }) => head)) + 1;
    for (let left = count; left >= 1; left--) {
      const run = highestOf(runs);
      if (run === undefined) break;
      seq = run.seq!;
      await run.next(left);
    }
    return seq - 1;
  }

  #loadOf(known: Place, topics: readonly string[]): LoadSeqs {
    const { store } = this.#options;
    return (below, count) =>
      this.#must(known, (connection, timeout) =>
        store.newest(connection, known, topics, { below, count, timeout }),
      );
  }

  async #page(
    known: Place,
    topics: readonly string[],
    after: number,
    options: { readonly maxBytes: number; readonly newestOnly: boolean },
  ): Promise<LogPage | undefined> {
    const { store } = this.#options;
    const dropped = new Map<string, number>();
    for (let from = after; ; ) {
      const page = await this.#look(known, (connection, timeout) =>
        store.read(connection, known, topics, from, { ...options, timeout }),
      );
      if (page === undefined) return undefined;
      const { entries, until, isAll } = page;
      for (const { topic, seq } of page.dropped) dropped.set(topic, seq);
      if (entries.length > 0 || isAll)
        return { entries, until, dropped: [...dropped].map(([topic, seq]) => ({ topic, seq })) };
      // So much is left out that the script has given up for now.
      from = until;
    }
  }

  async #must<T>(known: Place, run: Look<T>): Promise<T> {
    const found = await this.#look(known, run);
    if (found === undefined) throw logUnavailable('the order in Redis has changed');
    return found;
  }

  async #look<T>(known: Place, run: Look<T>): Promise<T | undefined> {
    const limit = performance.now() + READ_TIMEOUT;
    for (;;) {
      const found = await this.#attempt(run);
      if (found !== undefined || (await this.#options.hasChanged(known.epoch, limit - performance.now())))
        return found;
      if (performance.now() >= limit) throw logUnavailable('Redis has answered from another order');
      await pause();
    }
  }

  /** Few ask at once, and never on the connections that append and follow. */
  async #attempt<T>(run: Look<T>): Promise<T | undefined> {
    const { checkReached, connection } = this.#options;
    const permit = await this.#permit();
    try {
      // Those that have waited behind others have as long: with less, a slow answer would cut off all who read.
      return await retryUntil(performance.now() + READ_TIMEOUT, (timeout) => {
        checkReached();
        return run(connection(), timeout);
      });
    } catch (error) {
      throw readFailure(error);
    } finally {
      permit.release();
    }
  }

  #permit(): Promise<Permit> {
    return this.#reads.acquire().catch((error: unknown) => {
      throw logUnavailable('too many reads wait for Redis', error);
    });
  }
}

/** At least one, so that the head is asked for where there are no topics. */
function chunks(topics: readonly string[]): readonly (readonly string[])[] {
  const unique = [...new Set(topics)];
  const all = [unique.slice(0, TOPICS_AT_ONCE)];
  for (let from = TOPICS_AT_ONCE; from < unique.length; from += TOPICS_AT_ONCE)
    all.push(unique.slice(from, from + TOPICS_AT_ONCE));
  return all;
}

/** One page of several: up to where all reach, and about as many bytes as were asked for. */
function mergePages(pages: readonly LogPage[], maxBytes: number): LogPage {
  const reach = Math.min(...pages.map(({ until }) => until));
  const all = pages.flatMap(({ entries }) => entries).filter(({ seq }) => seq <= reach);
  all.sort((a, b) => a.seq - b.seq);
  const entries: LogEntry[] = [];
  let left = maxBytes;
  for (const entry of all) {
    left -= entry.frame.length;
    if (left < 0 && entries.length > 0) break;
    entries.push(entry);
  }
  const until = entries.length === all.length ? reach : entries.at(-1)!.seq;
  return { entries, until, dropped: pages.flatMap(({ dropped }) => dropped) };
}

type LoadSeqs = (
  below: number,
  count: number,
) => Promise<{ readonly head: number; readonly isAll: boolean; readonly seqs: readonly number[] }>;

/** The seqs of some topics, newest first, while they are merged with those of others. */
class NewestSeqs {
  head = 0;
  readonly #load: LoadSeqs;
  #seqs: readonly number[] = [];
  #at = 0;
  #isAll = false;

  constructor(load: LoadSeqs) {
    this.#load = load;
  }

  /** The newest one that is left; `undefined` where there is none. */
  get seq(): number | undefined {
    return this.#seqs[this.#at];
  }

  async load(count: number, below: number = Number.MAX_SAFE_INTEGER): Promise<void> {
    const { head, isAll, seqs } = await this.#load(below, Math.max(1, Math.min(count, SEQS_AT_ONCE)));
    if (this.head === 0) this.head = head;
    [this.#seqs, this.#at, this.#isAll] = [seqs, 0, isAll];
  }

  async next(count: number): Promise<void> {
    const last = this.#seqs[this.#at++];
    if (this.#at === this.#seqs.length && !this.#isAll) await this.load(count, last);
  }
}

function highestOf(runs: readonly NewestSeqs[]): NewestSeqs | undefined {
  let highest: NewestSeqs | undefined;
  for (const run of runs) {
    if (run.seq !== undefined && run.seq > (highest?.seq ?? -1)) highest = run;
  }
  return highest;
}
