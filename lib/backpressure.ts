// Lets the sources of a hub wait for readers that are behind but keep up.
// Stands alone: copy this file by itself.

/** The members of a reader that are used. */
export interface PacedReader {
  /** It has all events of its topics up to here. */
  readonly seq: number;
  readonly closed: boolean;
  /** When its sink refused the last write, in milliseconds. */
  readonly blockedAt: number;
  readonly group: unknown;
}

/** The members of a topic that are used. */
export interface PacedTopic {
  /** The groups of its readers. */
  readonly followers: Iterable<unknown> & { readonly size: number; has(group: never): boolean };
}

interface Waiting {
  readonly since: number;
  readonly resolve: () => void;
}

/**
 * A reader keeps up while its sink accepts bytes, or has refused them for less than 100 ms. The others hold
 * nobody back. As long as nobody waits, this costs nothing for each reader.
 */
export class Backpressure<Topic extends PacedTopic, Reader extends PacedReader> {
  readonly #find: (name: string) => Topic | undefined;
  readonly #isFarBehind: (topic: Topic, seq: number) => boolean;
  readonly #now: () => number;
  readonly #wake: () => void;
  /** By the names of topics: a topic may be forgotten and made anew while a source waits. */
  readonly #waiting = new Map<string, Set<Waiting>>();
  /** Topics for which a source has been let through that may not have published yet. */
  readonly #granted = new Set<string>();
  /** Readers whose sinks have refused a write lately, the first one first. */
  readonly #blocked = new Set<Reader>();
  /**
   * The place of the reader of each group that is furthest behind, of those that keep up. Made once a turn, for
   * all topics together. `behind` adds those that have fallen behind since then.
   */
  #furthest: Map<unknown, number> | undefined;
  #isWatched = false;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /**
   * `isFarBehind` says whether a reader at a seq, or one that has all that was delivered in the last turn, is
   * far behind. `wake` makes `settle` be called soon.
   */
  constructor(
    find: (name: string) => Topic | undefined,
    isFarBehind: (topic: Topic, seq: number) => boolean,
    now: () => number,
    wake: () => void,
  ) {
    this.#find = find;
    this.#isFarBehind = isFarBehind;
    this.#now = now;
    this.#wake = wake;
  }

  /** Whether `behind` and `block` must be called: somebody has waited once. */
  get isWatched(): boolean {
    return this.#isWatched;
  }

  /** A reader is behind, and its sink accepts bytes: it may have come after the last look at all readers. */
  behind(reader: Reader): void {
    if (this.#furthest !== undefined) note(this.#furthest, reader);
  }

  /** A reader's sink has refused a write. */
  block(reader: Reader): void {
    this.#blocked.delete(reader);
    this.#blocked.add(reader);
  }

  /** A reader's sink accepts writes again, or the reader has left. */
  unblock(reader: Reader): void {
    this.#blocked.delete(reader);
  }

  /**
   * Resolves when no reader of the topic that keeps up is far behind, at the latest after ten seconds. Sources
   * are let through one after another, each once the one before has published, if it does so at once.
   * @param due - The readers that are behind and whose sinks accept bytes.
   */
  ready(topic: string, due: Iterable<Reader>, signal: AbortSignal | undefined): Promise<void> {
    if (signal?.aborted) return Promise.reject(signal.reason);
    this.#isWatched = true;
    if (!this.#find(topic)?.followers.size) return Promise.resolve();
    const since = this.#now();
    const isFirst = !this.#waiting.has(topic) && !this.#granted.has(topic);
    if (isFirst && !this.#isHeldBack(topic, due, since)) {
      this.#grant(topic, due);
      return Promise.resolve();
    }
    return new Promise((resolve, reject) => {
      const one: Waiting = {
        since,
        resolve: () => {
          signal?.removeEventListener('abort', abort);
          resolve();
        },
      };
      const abort = (): void => {
        this.#remove(topic, one);
        reject(signal?.reason);
      };
      signal?.addEventListener('abort', abort, { once: true });
      const others = this.#waiting.get(topic);
      if (others === undefined) this.#waiting.set(topic, new Set([one]));
      else others.add(one);
      this.#timer ??= startTimer(this.#onTimer);
      this.#wake();
    });
  }

  /** Call it at the end of each turn. */
  settle(due: Iterable<Reader>): void {
    if (!this.#isWatched) return;
    const now = this.#now();
    this.#furthest = undefined;
    for (const reader of this.#blocked) {
      if (isRecent(reader, now)) break;
      this.#blocked.delete(reader);
    }
    for (const [topic, waiting] of this.#waiting) {
      for (const one of waiting) if (now - one.since >= MAX_WAIT) this.#letThrough(topic, one);
      this.#next(topic, due);
    }
  }

  #letThrough(topic: string, one: Waiting): void {
    this.#remove(topic, one);
    one.resolve();
  }

  /** Lets the first source through that waits, if the readers are near the head. */
  #next(topic: string, due: Iterable<Reader>): void {
    const [first] = this.#waiting.get(topic) ?? [];
    if (first === undefined || this.#granted.has(topic) || this.#isHeldBack(topic, due, this.#now())) return;
    this.#letThrough(topic, first);
    this.#grant(topic, due);
  }

  /** The next source waits until this one has published: until no promise is left that could go on. */
  #grant(topic: string, due: Iterable<Reader>): void {
    this.#granted.add(topic);
    queueMicrotask(() =>
      process.nextTick(() => {
        this.#granted.delete(topic);
        this.#next(topic, due);
      }),
    );
  }

  /** A blocked reader plans no turn in which it is found to have been blocked for too long. */
  readonly #onTimer = (): void => {
    this.#timer = this.#waiting.size > 0 ? startTimer(this.#onTimer) : undefined;
    if (this.#timer !== undefined) this.#wake();
  };

  #isHeldBack(name: string, due: Iterable<Reader>, now: number): boolean {
    const topic = this.#find(name);
    if (topic === undefined) return false;
    const { followers } = topic;
    this.#furthest ??= this.#furthestOf(due, now);
    let least = Infinity;
    if (this.#furthest.size < followers.size) {
      for (const [group, seq] of this.#furthest)
        if (followers.has(group as never)) least = Math.min(least, seq);
    } else {
      for (const group of followers) least = Math.min(least, this.#furthest.get(group) ?? Infinity);
    }
    return this.#isFarBehind(topic, least);
  }

  #furthestOf(due: Iterable<Reader>, now: number): Map<unknown, number> {
    const furthest = new Map<unknown, number>();
    for (const reader of due) note(furthest, reader);
    for (const reader of this.#blocked) if (isRecent(reader, now)) note(furthest, reader);
    return furthest;
  }

  #remove(topic: string, one: Waiting): void {
    const waiting = this.#waiting.get(topic);
    waiting?.delete(one);
    if (waiting?.size === 0) this.#waiting.delete(topic);
    if (this.#waiting.size > 0 || this.#timer === undefined) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}

/** With pages of 60 KiB, the slowest reader that can hold back a source takes 600 KiB/s. */
const MAX_BLOCKED = 100;

/** Readers that come back one after another, each far behind, must not stop a source for good. */
const MAX_WAIT = 10_000;

/** Keeps no process alive: the sockets of blocked readers do. */
function startTimer(act: () => void): ReturnType<typeof setTimeout> {
  const timer = setTimeout(act, MAX_BLOCKED);
  timer.unref?.();
  return timer;
}

function note(furthest: Map<unknown, number>, { closed, group, seq }: PacedReader): void {
  if (!closed && seq < (furthest.get(group) ?? Infinity)) furthest.set(group, seq);
}

function isRecent({ blockedAt }: PacedReader, now: number): boolean {
  return now - blockedAt < MAX_BLOCKED;
}
