// Makes pages of remembered events: merges topics, conflates keys, cuts by size, and keeps shared pages.
// Stands alone: copy this file by itself. All of it but the cache is a function of its input.

/** The members of an event that are used, whoever remembers it. */
export interface PageEntry {
  readonly seq: number;
  readonly topic: string;
  /** The event as it goes over the wire, in UTF-8. */
  readonly frame: Uint8Array;
  /** The id of a frame that has none. */
  readonly id?: string | undefined;
  /** Names the value that the event updates; `undefined` where no later event replaces it. */
  readonly key?: string | undefined;
}

/** One topic: its events as bytes, and which of them are the newest of their keys. */
export interface PageSource {
  readonly name: string;
  readonly ring: PageRing;
  /** The first place, from `place` on, whose event no newer one with the same key replaces. */
  newestFrom(place: number): number;
}

/** The members of a topic's events that are used; a `FrameRing` has them. Places have no gaps, seqs may. */
export interface PageRing {
  readonly first: number;
  readonly end: number;
  readonly last: number;
  readonly dropped: number;
  placeAfter(seq: number): number;
  segmentAt(place: number): PageSegment;
  read(place: number, maxBytes: number): { readonly bytes: Buffer; readonly end: number };
}

/** The members of a segment that are used: events one behind the other. */
export interface PageSegment {
  readonly place: number;
  readonly count: number;
  readonly bytes: Buffer;
  seqOf(place: number): number;
  startOf(place: number): number;
  endOf(place: number): number;
}

/** A part of a segment: the events from a place up to, but not including, another one. */
export interface Run {
  readonly topic: string;
  readonly segment: PageSegment;
  readonly from: number;
  to: number;
  readonly start: number;
  end: number;
}

/** Events joined to one Buffer. */
export interface Joined {
  /** The seqs of the first and the last event. */
  readonly first: number;
  readonly last: number;
  readonly count: number;
  /** May be a part of a topic's history: must not be changed. */
  readonly bytes: Buffer;
  /** How many runs were copied. */
  readonly runs: number;
  /** How many events were looked at one by one. */
  readonly looks: number;
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

/** Whether a page is the next one for a cursor at `after`. */
export function isNext(page: Page, after: number): boolean {
  return page.after <= after && after < page.first;
}

/**
 * Joins the remembered events after a seq, of all topics, in the order of their seqs: at most `maxBytes`, but at
 * least one; `undefined` where there is none. With `newestOnly`, leaves out those that a newer event with the
 * same key replaces. Looks at no other event, so the time is that of what it returns, and of a look-up in each
 * topic. A large page of one topic is a part of its history, without a copy.
 *
 * @param until - Events above this seq are left out. They must not replace others, so nothing is replaced then.
 * @param isNamed - Whether each event begins with a comment that names its topic, which counts for `maxBytes`.
 */
export function readPage(
  topics: readonly PageSource[],
  after: number,
  maxBytes: number,
  newestOnly: boolean,
  until: number = Infinity,
  isNamed: boolean = false,
): Joined | undefined {
  const isCut = until !== Infinity;
  const isWhole = !(newestOnly || isCut || isNamed);
  if (isWhole && topics.length === 1) return readRing(topics[0]!.ring, after, maxBytes);
  const readers = readersAfter(topics, after, newestOnly && !isCut, until, isNamed);
  if (readers.length === 0) return undefined;
  if (isWhole && readers.length === 1) return readRing(readers[0]!.ring, after, maxBytes);
  return gather(mergeReaders(readers, maxBytes, until), isNamed);
}

/** The events of one topic: they lie one behind the other, and none is left out. */
function readRing(ring: PageRing, after: number, maxBytes: number): Joined | undefined {
  const place = ring.placeAfter(Math.max(after, ring.dropped));
  if (place === ring.end) return undefined;
  const { bytes, end } = ring.read(place, maxBytes);
  const first = ring.segmentAt(place).seqOf(place);
  const last = ring.segmentAt(end - 1).seqOf(end - 1);
  return { first, last, count: end - place, bytes, runs: 1, looks: 0 };
}

/** The same events, one by one. Their frames may be parts of a topic's history: must not be changed. */
export function readEntries(
  topics: readonly PageSource[],
  after: number,
  maxBytes: number,
  newestOnly: boolean,
): PageEntry[] {
  const entries: PageEntry[] = [];
  for (const { topic, segment, from, to } of mergeReaders(
    readersAfter(topics, after, newestOnly),
    maxBytes,
  )) {
    for (let place = from; place < to; place++) {
      const frame = segment.bytes.subarray(segment.startOf(place), segment.endOf(place));
      entries.push({ seq: segment.seqOf(place), topic, frame });
    }
  }
  return entries;
}

/** A reader for each topic that has events after a seq, the one with the oldest event first, as a heap. */
function readersAfter(
  topics: readonly PageSource[],
  after: number,
  newestOnly: boolean,
  until: number = Infinity,
  isNamed: boolean = false,
): SourceReader[] {
  const heap: SourceReader[] = [];
  for (const source of topics) {
    const { ring } = source;
    if (ring.last <= after || ring.first === ring.end) continue;
    const reader = new SourceReader(source, newestOnly, isNamed);
    const isThere = reader.moveTo(ring.placeAfter(Math.max(after, ring.dropped)));
    if (isThere && reader.seq <= until) heap.push(reader);
  }
  for (let i = (heap.length >> 1) - 1; i >= 0; i--) sink(heap, i);
  return heap;
}

/** The events of all readers in the order of their seqs, up to `maxBytes`, but at least one. */
function mergeReaders(heap: SourceReader[], maxBytes: number, until: number = Infinity): Run[] {
  const runs: Run[] = [];
  let left = maxBytes;
  while (heap.length > 0) {
    const reader = heap[0]!;
    left -= reader.size;
    if (left < 0 && runs.length > 0) break;
    reader.addTo(runs);
    if (!reader.moveTo(reader.place + 1) || reader.seq > until) {
      const last = heap.pop()!;
      if (heap.length > 0) heap[0] = last;
    }
    if (heap.length > 1) sink(heap, 0);
  }
  return runs;
}

/** A place in one topic, and where its event lies. */
class SourceReader {
  place = 0;
  seq = 0;
  readonly ring: PageRing;
  readonly #source: PageSource;
  readonly #newestOnly: boolean;
  readonly #nameBytes: number;
  #segment!: PageSegment;
  #segmentEnd = 0;
  #start = 0;
  #end = 0;

  constructor(source: PageSource, newestOnly: boolean, isNamed: boolean) {
    this.#source = source;
    this.ring = source.ring;
    this.#newestOnly = newestOnly;
    this.#nameBytes = isNamed ? topicComment(source.name).length : 0;
  }

  /** The bytes of the event, and of the comment that names its topic. */
  get size(): number {
    return this.#end - this.#start + this.#nameBytes;
  }

  /** Moves to a place, or the next one that is wanted. @returns whether there is an event. */
  moveTo(place: number): boolean {
    const { ring } = this;
    const wanted = this.#newestOnly ? this.#source.newestFrom(place) : place;
    if (wanted >= ring.end) return false;
    const isNext = wanted === this.place + 1 && wanted < this.#segmentEnd;
    if (wanted >= this.#segmentEnd) {
      this.#segment = ring.segmentAt(wanted);
      this.#segmentEnd = this.#segment.place + this.#segment.count;
    }
    this.place = wanted;
    this.seq = this.#segment.seqOf(wanted);
    this.#start = isNext ? this.#end : this.#segment.startOf(wanted);
    this.#end = this.#segment.endOf(wanted);
    return true;
  }

  /** Adds the event to runs: to the last one where it comes just after that. */
  addTo(runs: Run[]): void {
    const last = runs.at(-1);
    if (last !== undefined && last.segment === this.#segment && last.to === this.place) {
      last.to++;
      last.end = this.#end;
      return;
    }
    runs.push({
      topic: this.#source.name,
      segment: this.#segment,
      from: this.place,
      to: this.place + 1,
      start: this.#start,
      end: this.#end,
    });
  }
}

/** Moves a reader of a heap down until those below it are newer: the first one has the oldest event. */
function sink(heap: SourceReader[], at: number): void {
  const moved = heap[at]!;
  const { seq } = moved;
  let i = at;
  for (;;) {
    let child = 2 * i + 1;
    if (child >= heap.length) break;
    if (child + 1 < heap.length && heap[child + 1]!.seq < heap[child]!.seq) child++;
    if (heap[child]!.seq >= seq) break;
    heap[i] = heap[child]!;
    i = child;
  }
  heap[i] = moved;
}

function gather(runs: readonly Run[], isNamed: boolean): Joined {
  let [count, length] = [0, 0];
  for (const { topic, from, to, start, end } of runs) {
    count += to - from;
    length += end - start + (isNamed ? (to - from) * topicComment(topic).length : 0);
  }
  const bytes = Buffer.allocUnsafe(length);
  let at = 0;
  for (const run of runs) {
    if (isNamed) at += copyNamed(run, bytes, at);
    else at += run.segment.bytes.copy(bytes, at, run.start, run.end);
  }
  const [first, last] = [runs[0]!, runs.at(-1)!];
  return {
    first: first.segment.seqOf(first.from),
    last: last.segment.seqOf(last.to - 1),
    count,
    bytes,
    runs: runs.length,
    looks: count,
  };
}

/** Copies the events of a run, each behind a comment that names its topic. @returns how many bytes. */
function copyNamed({ topic, segment, from, to }: Run, bytes: Buffer, start: number): number {
  const comment = topicComment(topic);
  let at = start;
  for (let place = from; place < to; place++) {
    at += bytes.write(comment, at, 'latin1');
    at += segment.bytes.copy(bytes, at, segment.startOf(place), segment.endOf(place));
  }
  return at - start;
}

/** The same event behind a comment that names its topic. */
export function nameTopic<Entry extends PageEntry>(entry: Entry): Entry {
  return { ...entry, frame: Buffer.concat([Buffer.from(topicComment(entry.topic)), entry.frame]) };
}

/** Names of topics are ASCII, without line ends. */
function topicComment(topic: string): string {
  return `: topic ${topic}\n`;
}

/** Joins events that are in no ring, in order. */
export function joinEntries(entries: readonly PageEntry[]): Buffer {
  let length = 0;
  for (const { frame, id } of entries) length += frame.length + idLength(id);
  const bytes = Buffer.allocUnsafe(length);
  let at = 0;
  for (const { frame, id } of entries) {
    if (id !== undefined) at += bytes.write(`id: ${id}\n`, at, 'latin1');
    bytes.set(frame, at);
    at += frame.length;
  }
  return bytes;
}

function idLength(id: string | undefined): number {
  return id === undefined ? 0 : id.length + 'id: \n'.length;
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
    left -= entry.frame.length + idLength(entry.id);
    if (left < 0 && end > 0) break;
    end++;
  }
  return end === entries.length ? entries : entries.slice(0, end);
}

/** The seq just before the oldest remembered event; `head` where nothing is remembered. */
export function earliest(topics: readonly PageSource[], head: number): number {
  let seq = head;
  for (const { ring } of topics)
    if (ring.first < ring.end) seq = Math.min(seq, ring.segmentAt(ring.first).seqOf(ring.first) - 1);
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
  for (const { ring } of topics) count += ring.end - ring.placeAfter(Math.max(seq, ring.dropped));
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

interface LogPage<Owner> {
  readonly owner: Owner;
  readonly page: Page;
  /** The seq of each event, and where it ends in the bytes of the page. */
  readonly seqs: readonly number[];
  readonly ends: readonly number[];
  /** Until when it is used, in milliseconds: what is in it may be too old soon. */
  readonly end: number;
}

/**
 * Keeps the last pages that were read from a log, so that readers who come back together share the reads: each gets
 * what comes after its own place. A page keeps events that the log has dropped since; it must not be used for a
 * reader who was told that some are lost.
 */
export class LogPageCache<Owner> {
  #kept: LogPage<Owner>[] = [];
  #bytes = 0;
  /** How often it was cleared: what was read before is not kept afterwards. */
  clears = 0;

  find(owner: Owner, after: number, now: number): Page | undefined {
    const kept = this.#kept.find((one) => {
      return one.owner === owner && one.page.after <= after && after < one.page.until && now < one.end;
    });
    if (kept === undefined) return undefined;
    const { page, seqs, ends } = kept;
    const at = firstAbove(seqs, after);
    if (at === 0) return page;
    const rest = page.bytes.subarray(ends[at - 1]);
    // A small part must not keep all of the page in memory for a reader who is slow.
    const bytes = rest.length < MIN_PART_BYTES ? Buffer.from(rest) : rest;
    const [first, count] = [seqs[at] ?? page.until, seqs.length - at];
    return { after, first, until: page.until, count, bytes, made: undefined, cost: bytes.length };
  }

  keep(owner: Owner, page: Page, entries: readonly PageEntry[], now: number): void {
    const seqs = entries.map(({ seq }) => seq);
    let end = 0;
    const ends = entries.map(({ frame, id }) => (end += frame.length + idLength(id)));
    this.#kept.push({ owner, page, seqs, ends, end: now + MAX_LOG_PAGE_AGE });
    this.#bytes += page.bytes.length;
    while (this.#bytes > MAX_KEPT_BYTES || this.#kept.length > MAX_KEPT_PAGES) {
      this.#bytes -= this.#kept.shift()!.page.bytes.length;
    }
  }

  /**
   * Call it when events were deleted, or the order goes on in another epoch. With an owner, where a reader of its pages
   * was told that some are lost.
   */
  clear(owner?: Owner): void {
    this.#kept = owner === undefined ? [] : this.#kept.filter((one) => one.owner !== owner);
    this.#bytes = this.#kept.reduce((sum, { page }) => sum + page.bytes.length, 0);
    this.clears++;
  }
}

/** Reads of a log that are under way: who comes to the same place meanwhile, or a later one, waits for the page. */
export class ReadsUnderWay<Owner, Reader> {
  readonly #reads = new Map<Owner, { readonly after: number; readonly waiting: Set<Reader> }>();

  /** @returns whether there is a read that the reader now waits for. */
  join(owner: Owner, after: number, reader: Reader): boolean {
    const read = this.#reads.get(owner);
    if (read === undefined || after < read.after) return false;
    read.waiting.add(reader);
    return true;
  }

  /** Nobody joins those that are under way now: all, or that of one owner. */
  clear(owner?: Owner): void {
    if (owner === undefined) this.#reads.clear();
    else this.#reads.delete(owner);
  }

  leave(owner: Owner, reader: Reader): void {
    this.#reads.get(owner)?.waiting.delete(reader);
  }

  /** @returns a function to call when the read has ended, which returns those that have waited for it, once. */
  begin(owner: Owner, after: number): () => Iterable<Reader> {
    const read = { after, waiting: new Set<Reader>() };
    if (!this.#reads.has(owner)) this.#reads.set(owner, read);
    return () => {
      if (this.#reads.get(owner) === read) this.#reads.delete(owner);
      const waiting = [...read.waiting];
      read.waiting.clear();
      return waiting;
    };
  }
}

function firstAbove(seqs: readonly number[], after: number): number {
  let [low, high] = [0, seqs.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (seqs[middle]! > after) high = middle;
    else low = middle + 1;
  }
  return low;
}

/**
 * Milliseconds. Another node may have told a client meanwhile that events of the page are lost: no client that waits for
 * its `retry` comes from there so soon.
 */
const MAX_LOG_PAGE_AGE = 250;
const MIN_PART_BYTES = 16 * 1024;
const MAX_KEPT_BYTES = 1024 * 1024;
const MAX_KEPT_PAGES = 16;
