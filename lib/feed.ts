// Publishes the events of a source to a topic of a hub, at the pace of the readers that keep up.
// Stands alone: copy this file by itself.

/** The members of a hub that are used. */
export interface FeedHub<Event> {
  publish(topic: string, event: Event): string;
  /** Where there is a log, a page is published together, and the next one once the log has it. */
  appendAll?(topic: string, events: Iterable<Event> & { readonly length: number }): Promise<unknown>;
  readonly log?: object | undefined;
  /** Resolves when every reader of the topic that keeps up is near the head of the topic. */
  ready(topic: string, options?: { signal?: AbortSignal | undefined }): Promise<void>;
  /** The most of a batch: half of the topic's history. */
  batchLimits(topic: string): { readonly maxEvents: number; readonly maxBytes: number };
  readonly stats: { readonly publishedBytes: number };
}

/** An iterable of events, or of strings, each the data of an event. A `Readable` and a generator are both. */
export type FeedSource<Event> = AsyncIterable<string | Event> | Iterable<string | Event>;

export interface FeedOptions<Event> {
  /** Ends the feed: `publishFrom` rejects with its reason. */
  signal?: AbortSignal | undefined;
  /**
   * Called when the hub refuses an event: `'skip'` goes on with the next one, `'retry'` publishes the same one
   * again, as soon as the answer resolves. By default, and where it throws or answers anything else,
   * `publishFrom` rejects. It also does, without a call, where an event may be in the log or not: code
   * `ERR_SSE_OUTCOME_UNKNOWN`.
   */
  onRefuse?: ((refusal: FeedRefusal<Event>) => FeedVerdict | Promise<FeedVerdict>) | undefined;
}

export interface FeedRefusal<Event> {
  readonly topic: string;
  readonly event: Event;
  /** What `hub.publish` has thrown. */
  readonly error: unknown;
}

export type FeedVerdict = 'skip' | 'retry';

/**
 * Publishes every event of a source, in order: a page, then the turn ends, so that the page is delivered; then
 * it waits until the readers that keep up have nearly caught up. Meanwhile the source is not read: a pipe
 * fills and its writer waits, a file is read no further. So a reader that takes what it is sent gets no gap,
 * however fast the source is. A reader that takes nothing is not waited for.
 *
 *     await publishFrom(hub, 'log', createInterface({ input: process.stdin }));
 *
 * Resolves with the number of published events when the source ends. However it settles, the source is
 * stopped by `iterator.return()`, and a `Readable` by `destroy()`.
 *
 * @throws {TypeError} for a source that is not iterable.
 */
export async function publishFrom<Event extends object>(
  hub: FeedHub<Event>,
  topic: string,
  source: FeedSource<Event>,
  options: FeedOptions<Event> = {},
): Promise<number> {
  const { signal, onRefuse = refuseAll } = options;
  const puller = new Puller(source, signal);
  const { stats } = hub;
  const page = hub.log === undefined ? undefined : new LoggedPage(hub, topic, onRefuse, signal);
  let published = 0;
  try {
    for (;;) {
      await hub.ready(topic, { signal });
      const { maxEvents, maxBytes } = pageFor(hub, topic);
      if (page !== undefined) {
        const { events, done } = await puller.nextPage(maxEvents, maxBytes);
        published += await page.publish(events.map((value) => eventOf<Event>(value)));
        if (done) return published;
        continue;
      }
      const full = stats.publishedBytes + maxBytes;
      for (let events = 0; events < maxEvents && stats.publishedBytes < full; events++) {
        const { done, value } = await puller.next();
        if (done) return published;
        const publish = async (event: Event): Promise<unknown> => hub.publish(topic, event);
        if (await publishOne({ topic, event: eventOf<Event>(value), publish, onRefuse, signal })) published++;
      }
      await nextTurn();
    }
  } finally {
    puller.stop();
  }
}

function eventOf<Event>(value: string | Event): Event {
  return (typeof value === 'string' ? { data: value } : value) as Event;
}

/** Publishes pages with a log: what it has refused is published again, event by event. */
class LoggedPage<Event> {
  readonly #hub: FeedHub<Event>;
  readonly #topic: string;
  readonly #onRefuse: NonNullable<FeedOptions<Event>['onRefuse']>;
  readonly #signal: AbortSignal | undefined;

  constructor(
    hub: FeedHub<Event>,
    topic: string,
    onRefuse: NonNullable<FeedOptions<Event>['onRefuse']>,
    signal: AbortSignal | undefined,
  ) {
    this.#hub = hub;
    this.#topic = topic;
    this.#onRefuse = onRefuse;
    this.#signal = signal;
  }

  async publish(events: readonly Event[]): Promise<number> {
    if (events.length > 1) {
      try {
        await this.#hub.appendAll!(this.#topic, events);
        return events.length;
      } catch (error) {
        if (isUnknown(error)) throw error;
      }
    }
    let published = 0;
    for (const event of events) {
      const publish = (one: Event): Promise<unknown> => this.#hub.appendAll!(this.#topic, [one]);
      const [topic, onRefuse, signal] = [this.#topic, this.#onRefuse, this.#signal];
      if (await publishOne({ topic, event, publish, onRefuse, signal })) published++;
    }
    return published;
  }
}

async function publishOne<Event>({
  topic,
  event,
  publish,
  onRefuse,
  signal,
}: {
  readonly topic: string;
  readonly event: Event;
  readonly publish: (event: Event) => Promise<unknown>;
  readonly onRefuse: NonNullable<FeedOptions<Event>['onRefuse']>;
  readonly signal: AbortSignal | undefined;
}): Promise<boolean> {
  for (;;) {
    signal?.throwIfAborted();
    try {
      await publish(event);
      return true;
    } catch (error) {
      if (isUnknown(error)) throw error;
      const verdict = await onRefuse({ topic, event, error });
      if (verdict === 'skip') return false;
      if (verdict !== 'retry') throw error;
    }
    // An answer that resolves at once must not hold the event loop.
    await nextTurn();
  }
}

/** The events may be in the log: to publish them again could be once too often. */
function isUnknown(error: unknown): boolean {
  return (error as { code?: unknown } | undefined)?.code === 'ERR_SSE_OUTCOME_UNKNOWN';
}

/**
 * A page is at most 250 events and 56 KiB, less than what a reader gets in a turn, so that other work gets its turn, and at most a sixteenth of the
 * topic's history, so that several sources of one topic have room beside each other.
 */
function pageFor(
  hub: Pick<FeedHub<never>, 'batchLimits'>,
  topic: string,
): ReturnType<FeedHub<never>['batchLimits']> {
  try {
    const { maxEvents, maxBytes } = hub.batchLimits(topic);
    return { maxEvents: pagePart(maxEvents, 250), maxBytes: pagePart(maxBytes, 56 * 1024) };
  } catch {
    return { maxEvents: 1, maxBytes: 1 }; // `publish` throws the same error, and `onRefuse` decides
  }
}

function pagePart(limit: number, most: number): number {
  return Math.max(1, Math.min(most, Math.floor(limit / 8)));
}

function refuseAll({ error }: FeedRefusal<unknown>): never {
  throw error;
}

function nextTurn(): Promise<undefined> {
  return new Promise((resolve) => setImmediate(resolve, undefined));
}

/** Pulls from a source until the signal aborts, also while the source keeps a pull waiting. */
class Puller<Value> {
  readonly #source: unknown;
  readonly #iterator: AsyncIterator<Value> | Iterator<Value>;
  readonly #signal: AbortSignal | undefined;
  #fail: (reason: unknown) => void = () => {};
  /** A pull that nobody has waited for to its end. */
  #pull: Promise<IteratorResult<Value, unknown>> | undefined;

  constructor(source: AsyncIterable<Value> | Iterable<Value>, signal: AbortSignal | undefined) {
    this.#source = source;
    this.#iterator = iteratorOf(source);
    this.#signal = signal;
    signal?.addEventListener('abort', this.#abort);
  }

  // One promise for each pull: a race with one promise for all would hold every reaction until the end.
  next(): Promise<IteratorResult<Value, unknown>> {
    return new Promise((resolve, reject) => {
      if (this.#signal?.aborted) throw this.#signal.reason;
      this.#fail = reject;
      const next = this.#iterator.next();
      if ('then' in next) next.then(resolve, reject);
      else resolve(next);
    });
  }

  /**
   * As many events as come until the end of a turn, but at least one, unless the source is over. A string counts as
   * many bytes as it has characters, and an event as 100. Where the source fails after some, the next call rejects.
   */
  async nextPage(
    maxEvents: number,
    maxBytes: number,
  ): Promise<{ readonly events: readonly Value[]; readonly done: boolean }> {
    const events: Value[] = [];
    let bytes = 0;
    let isOver = false;
    while (!isOver) {
      this.#pull ??= this.next();
      const pulled = events.length === 0 ? await this.#pull : await this.#pullWithinTurn(this.#pull);
      if (pulled === undefined) break;
      this.#pull = undefined;
      if (pulled.done) return { events, done: true };
      events.push(pulled.value);
      bytes += typeof pulled.value === 'string' ? pulled.value.length : 100;
      isOver = events.length >= maxEvents || bytes >= maxBytes;
    }
    return { events, done: false };
  }

  /** `undefined` where the source pauses or fails. An abort rejects. */
  async #pullWithinTurn(
    pull: Promise<IteratorResult<Value, unknown>>,
  ): Promise<IteratorResult<Value, unknown> | undefined> {
    try {
      return await Promise.race([pull, nextTurn()]);
    } catch {
      this.#signal?.throwIfAborted();
      return undefined;
    }
  }

  /** Does not wait: a generator that is blocked in an `await` returns only after that. */
  stop(): void {
    this.#pull?.catch(() => {});
    this.#signal?.removeEventListener('abort', this.#abort);
    ignoreFailure(() => this.#iterator.return?.());
    ignoreFailure(() => (this.#source as { destroy?(): unknown }).destroy?.());
  }

  readonly #abort = (): void => this.#fail(this.#signal?.reason);
}

function iteratorOf<Value>(
  source: AsyncIterable<Value> | Iterable<Value>,
): AsyncIterator<Value> | Iterator<Value> {
  // A string is iterable too, one character after the other, which nobody means.
  if (Object(source) === source) {
    if (Symbol.asyncIterator in source) return source[Symbol.asyncIterator]();
    if (Symbol.iterator in source) return source[Symbol.iterator]();
  }
  throw new TypeError(`\`source\` must be an iterable of events or strings, got ${typeof source}`);
}

function ignoreFailure(action: () => unknown): void {
  new Promise((resolve) => resolve(action())).catch(() => {});
}
