// Collects the events of a turn for a log of an own order, and hands them over before they are delivered.
// Needs `history.ts` and `log.ts` beside it.

import type { EncodedEvent, KnownTopic, Topic } from './history.ts';
import { type AppendRecord, type LogEntry, type LogError, logUnavailable, type OwnLog } from './log.ts';

/** What waits for the log. */
export interface Staged {
  readonly entry: LogEntry;
  /** What it adds to the bytes of a turn. */
  readonly bytes: number;
}

/** An event of a hub that waits for the log; `entry` is the same without its id. */
export interface StagedEvent<Follower> extends Staged {
  readonly topic: Topic<Follower>;
  readonly event: EncodedEvent;
  /** The seq of the first event of its batch. */
  readonly first: number;
}

export interface StagingOptions<Item extends Staged> {
  /** The newest seq of the log. */
  readonly head: number;
  /** Called for each event that the log has, in order. */
  readonly accept: (staged: Item) => void;
  /** Calls for a turn, in which `commit` is called. */
  readonly plan: () => void;
  /** Called with what the log has thrown. */
  readonly failed: (error: unknown) => void;
}

/**
 * Keeps the events of a turn until one `append` of the log has taken all of them. Where it fails, none of them is
 * delivered, their seqs are not used again, and further events are refused at once, until the log can write again:
 * it is asked after 100 ms, and then at intervals that double up to a second.
 */
export class Staging<Item extends Staged> {
  readonly #log: OwnLog;
  readonly #options: StagingOptions<Item>;
  #staged: Item[] = [];
  #waiting: { readonly resolve: () => void; readonly reject: (error: LogError) => void }[] = [];
  /** The records of what waits, and when each is kept. */
  #records = new Map<string, { readonly record: AppendRecord; readonly kept: Promise<void> }>();
  #bytes = 0;
  #newest: number;
  #failure: unknown;
  #isFailing = false;
  #isClosed = false;
  #probe: ReturnType<typeof setTimeout> | undefined;

  constructor(log: OwnLog, options: StagingOptions<Item>) {
    this.#log = log;
    this.#options = options;
    this.#newest = options.head;
  }

  /** The seq for the next event. */
  get next(): number {
    return this.#newest + 1;
  }

  /** Whether nothing waits for the log. */
  get isEmpty(): boolean {
    return this.#staged.length === 0;
  }

  /** Why nothing may be asked of the log, after `close`. */
  get closed(): LogError | undefined {
    return this.#isClosed ? logUnavailable('the hub is closed: it takes no more events') : undefined;
  }

  /** Why no event is taken; `undefined` where one is. */
  get failure(): LogError | undefined {
    if (this.#isClosed) return this.closed;
    if (!this.#isFailing) return undefined;
    const message = `the log cannot write at present: ${messageOf(this.#failure)}. Nothing is published until it can`;
    return logUnavailable(message, this.#failure);
  }

  /** Takes the events of one batch, which have the next seqs. A turn with very many is handed over in parts. */
  add(staged: readonly Item[]): void {
    for (const one of staged) {
      this.#newest = one.entry.seq;
      this.#bytes += one.bytes;
      this.#staged.push(one);
    }
    if (this.#bytes > MAX_STAGED_BYTES) this.commit();
    else this.#options.plan();
  }

  /** Takes a batch, and resolves once the log has it. Rejects where the log has refused it. */
  addAndWait(staged: readonly Item[], record?: AppendRecord): Promise<void> {
    const kept = new Promise<void>((resolve, reject) => this.#waiting.push({ resolve, reject }));
    if (record !== undefined) this.#records.set(record.key, { record, kept });
    this.add(staged);
    return kept;
  }

  /** Whether the log keeps idempotency keys. */
  get keepsKeys(): boolean {
    return this.#log.recall !== undefined;
  }

  /** An append with this idempotency key, and when the log has it. */
  recall(key: string): { readonly record: AppendRecord; readonly kept?: Promise<void> } | undefined {
    const record = this.#records.get(key) ?? this.#log.recall?.(key);
    return record === undefined || 'record' in record ? record : { record };
  }

  /** Hands over what has been collected. Never throws. */
  commit(): void {
    const [staged, waiting, records] = [this.#staged, this.#waiting, this.#records];
    if (staged.length === 0) return;
    [this.#staged, this.#waiting, this.#bytes] = [[], [], 0];
    if (records.size > 0) this.#records = new Map();
    try {
      this.#append(
        staged.map(({ entry }) => entry),
        [...records.values()].map(({ record }) => record),
      );
    } catch (error) {
      this.#fail(error);
      for (const { reject } of waiting) reject(this.failure!);
      return;
    }
    for (const one of staged) this.#options.accept(one);
    for (const { resolve } of waiting) resolve();
  }

  /** Hands over the rest, and takes no more. */
  close(): void {
    this.commit();
    this.#isClosed = true;
    clearTimeout(this.#probe);
  }

  #append(entries: readonly LogEntry[], records: readonly AppendRecord[] = []): void {
    const answer = this.#log.append(entries, records) as Partial<PromiseLike<unknown>> | undefined;
    if (typeof answer?.then !== 'function') return;
    answer.then(undefined, () => {}); // or its rejection would end the process
    throw new TypeError('`append` of a log must not return a promise: an event is delivered once it is kept');
  }

  #fail(error: unknown): void {
    this.#failure = error;
    if (!this.#isFailing) this.#probeIn(MIN_PROBE_DELAY);
    this.#isFailing = true;
    this.#options.failed(error);
  }

  #probeIn(delay: number): void {
    this.#probe = setTimeout(() => {
      try {
        this.#append([]);
        this.#isFailing = false;
        this.#failure = undefined;
      } catch (error) {
        this.#failure = error;
        this.#probeIn(Math.min(delay * 2, MAX_PROBE_DELAY));
      }
    }, delay);
    this.#probe.unref?.();
  }
}

/** What a log knows of a topic, without the events that it is being given: `head` is that of the hub. */
export function findIn(log: OwnLog, name: string, head: number): KnownTopic | undefined {
  const [record] = log.find([name]);
  return record && { last: Math.min(record.last, head), ended: record.ended };
}

/** What a delivery asks of the log. That it cannot write does not keep anybody from reading. */
export function readerOf(log: OwnLog, failed: (error: unknown) => void): OwnReader {
  return { readsParents: true, failure: undefined, read: (...asked) => log.read(...asked), failed };
}

interface OwnReader {
  readonly readsParents: true;
  readonly failure: undefined;
  readonly read: OwnLog['read'];
  readonly failed: (error: unknown) => void;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** A loop that publishes without end would otherwise collect without end. */
const MAX_STAGED_BYTES = 1024 * 1024;

/** Milliseconds. */
const MIN_PROBE_DELAY = 100;
const MAX_PROBE_DELAY = 1000;
