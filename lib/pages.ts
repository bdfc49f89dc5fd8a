// Makes pages of remembered events: merges topics, conflates keys, cuts by size, and keeps shared pages.
// Stands alone: copy this file by itself. All of it but the cache is a function of its input.

/** The members of a remembered event that are used. */
export interface PageEntry {
  readonly seq: number;
  readonly topic: string;
  /** Bytes of `frame` in UTF-8. */
  readonly bytes: number;
  /** The event as it goes over the wire. */
  readonly frame: string;
  /** Names the value that the event updates; `undefined` where no later event replaces it. */
  readonly key: string | undefined;
}

/** The members of one topic's history that are used; a `ReplayBuffer` has them. */
export interface PageSource<Entry extends PageEntry = PageEntry> {
  readonly size: number;
  readonly last: number;
  readonly dropped: number;
  indexAfter(seq: number): number;
  at(index: number): Entry | undefined;
  /** The first index, from `index` on, whose entry no newer one with the same key replaces. */
  newestFrom?(index: number): number;
}

/** Events joined to one Buffer, for every cursor from `after` up to, but not including, `first`. */
export interface Page {
  readonly after: number;
  readonly first: number;
  /** Where the cursor stands afterwards. */
  readonly until: number;
  readonly count: number;
  readonly bytes: Buffer;
  /** Forms of the bytes that streams have made, such as an HTTP chunk, so that each is made only once. */
  made: object | undefined;
  /**
   * Bytes that the next use counts against a turn's limit; the first use also counts the work of making the
   * page.
   */
  cost: number;
}

/** Where a page begins and ends. */
export type Place = Pick<Page, 'after' | 'first' | 'until'>;

/** Whether a page is the next one for a cursor at `after`. */
export function isNext(page: Page, after: number): boolean {
  return page.after <= after && after < page.first;
}

/**
 * The remembered events after a seq, of all topics, in the order of their seqs: at most `maxBytes`, but at
 * least one entry where there is one. With `newestOnly`, leaves out those that a newer event with the same key
 * replaces. Looks at no other entry, so the time is that of what it returns, and of a look-up in each topic.
 */
export function merge<Entry extends PageEntry>(
  topics: readonly PageSource<Entry>[],
  after: number,
  maxBytes: number,
  newestOnly = false,
): Entry[] {
  const heap: SourceReader<Entry>[] = [];
  for (const source of topics) {
    const reader = new SourceReader(source, newestOnly);
    if (reader.moveTo(source.indexAfter(Math.max(after, source.dropped)))) heap.push(reader);
  }
  for (let i = (heap.length >> 1) - 1; i >= 0; i--) sink(heap, i);
  const merged: Entry[] = [];
  let bytes = 0;
  while (heap.length > 0) {
    const reader = heap[0]!;
    bytes += reader.entry.bytes;
    if (bytes > maxBytes && merged.length > 0) break;
    merged.push(reader.entry);
    if (!reader.moveTo(reader.index + 1)) {
      const last = heap.pop()!;
      if (heap.length > 0) heap[0] = last;
    }
    if (heap.length > 1) sink(heap, 0);
  }
  return merged;
}

/** A place in one topic. */
class SourceReader<Entry extends PageEntry> {
  entry!: Entry;
  index = 0;
  readonly #source: PageSource<Entry>;
  readonly #newestOnly: boolean;

  constructor(source: PageSource<Entry>, newestOnly: boolean) {
    this.#source = source;
    this.#newestOnly = newestOnly;
  }

  /** Moves to an index, or the next one that is wanted. @returns whether there is an entry. */
  moveTo(index: number): boolean {
    const source = this.#source;
    this.index = this.#newestOnly && source.newestFrom !== undefined ? source.newestFrom(index) : index;
    const entry = source.at(this.index);
    if (entry === undefined) return false;
    this.entry = entry;
    return true;
  }
}

/** Moves a reader of a heap down until those below it are newer: the first one has the oldest entry. */
function sink<Entry extends PageEntry>(heap: SourceReader<Entry>[], at: number): void {
  const moved = heap[at]!;
  const { seq } = moved.entry;
  let i = at;
  for (;;) {
    let child = 2 * i + 1;
    if (child >= heap.length) break;
    if (child + 1 < heap.length && heap[child + 1]!.entry.seq < heap[child]!.entry.seq) child++;
    if (heap[child]!.entry.seq >= seq) break;
    heap[i] = heap[child]!;
    i = child;
  }
  heap[i] = moved;
}

/** Keeps the newest entry of each key of each topic, and every entry without a key, in order. */
export function conflate<Entry extends PageEntry>(entries: readonly Entry[]): Entry[] {
  const seen = new Map<string, Set<string>>();
  const newest: Entry[] = [];
  for (let i = entries.length - 1; i >= 0; i--) {
    const entry = entries[i]!;
    if (entry.key === undefined || isFirst(seen, entry.topic, entry.key)) newest.push(entry);
  }
  return newest.reverse();
}

function isFirst(seen: Map<string, Set<string>>, topic: string, key: string): boolean {
  const keys = seen.get(topic);
  if (keys === undefined) seen.set(topic, new Set([key]));
  else if (keys.has(key)) return false;
  else keys.add(key);
  return true;
}

/** The first entries that together fit into `maxBytes`, but at least one where there is one. */
export function cut<Entry extends PageEntry>(entries: readonly Entry[], maxBytes: number): readonly Entry[] {
  let left = maxBytes;
  let end = 0;
  for (const entry of entries) {
    left -= entry.bytes;
    if (left < 0 && end > 0) break;
    end++;
  }
  return end === entries.length ? entries : entries.slice(0, end);
}

/**
 * Joins entries to a page. Where each has as many bytes as characters, the text is ASCII and is copied, which
 * takes half the time of encoding it (bench/hub). Pass `trustBytes` false for entries whose `bytes` another
 * program has counted.
 */
export function joinPage(entries: readonly PageEntry[], place: Place, trustBytes: boolean): Page {
  let text = '';
  let isAscii = trustBytes;
  for (const { frame, bytes } of entries) {
    text += frame;
    if (frame.length !== bytes) isAscii = false;
  }
  const bytes = Buffer.from(text, isAscii ? 'latin1' : 'utf8');
  const { after, first, until } = place;
  return { after, first, until, count: entries.length, bytes, made: undefined, cost: bytes.length };
}

/** The seq just before the oldest remembered event; `head` where nothing is remembered. */
export function earliest(topics: readonly PageSource[], head: number): number {
  let seq = head;
  for (const topic of topics) seq = Math.min(seq, (topic.at(0)?.seq ?? Infinity) - 1);
  return seq;
}

/**
 * The seq from which a cursor gets the newest `count` events of all topics together, or all where there are
 * fewer.
 */
export function beforeNewest(topics: readonly PageSource[], count: number, head: number): number {
  let low = earliest(topics, head);
  let high = head;
  // The greatest seq with at least `count` entries after it.
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (countAfter(topics, middle) >= count) low = middle;
    else high = middle - 1;
  }
  return low;
}

function countAfter(topics: readonly PageSource[], seq: number): number {
  let count = 0;
  for (const source of topics) count += source.size - source.indexAfter(Math.max(seq, source.dropped));
  return count;
}

/**
 * Keeps the last full pages so that stalled sockets at the same cursor share one Buffer. Without it ten
 * thousand readers that stop reading hold a hundred megabytes more (bench stalled10k).
 */
export class PageCache<Owner> {
  #kept: { readonly owner: Owner; readonly page: Page }[] = [];
  #bytes = 0;

  find(owner: Owner, after: number): Page | undefined {
    return this.#kept.find((kept) => kept.owner === owner && isNext(kept.page, after))?.page;
  }

  keep(owner: Owner, page: Page): void {
    this.#kept.push({ owner, page });
    this.#bytes += page.bytes.length;
    while (this.#bytes > MAX_KEPT_BYTES || this.#kept.length > MAX_KEPT_PAGES) {
      this.#bytes -= this.#kept.shift()!.page.bytes.length;
    }
  }

  /** Forgets the pages of one owner. */
  delete(owner: Owner): void {
    this.#kept = this.#kept.filter((kept) => kept.owner !== owner);
    this.#bytes = this.#kept.reduce((sum, { page }) => sum + page.bytes.length, 0);
  }
}

const MAX_KEPT_BYTES = 1024 * 1024;
const MAX_KEPT_PAGES = 16;
