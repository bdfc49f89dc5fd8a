// Keeps the newest events of one topic as bytes outside V8's heap, limited by count, bytes and age.
// Stands alone: copy this file by itself.

export interface FrameRingOptions {
  /** Most frames kept; default 1,000. `Infinity`: no limit. */
  maxFrames?: number | undefined;
  /** Most bytes kept, of frames alone; default no limit. No frame can be larger. */
  maxBytes?: number | undefined;
  /** Milliseconds after which `push` and `expire` drop a frame; default no limit. */
  maxAge?: number | undefined;
  /** The seq up to which frames count as dropped, for a ring that begins in the middle of an order; default 0. */
  dropped?: number | undefined;
  /** Most bytes of a segment that has more than one frame, up to 2 GiB; default 64 KiB. */
  segmentBytes?: number | undefined;
  /** In place of the limits above: for many rings, which then share the memory of these. */
  limits?: FrameLimits | undefined;
}

/** Frames one behind the other in one memory. */
export interface FrameSegment {
  /** The place of its first frame, and how many it has. */
  readonly place: number;
  readonly count: number;
  readonly bytes: Buffer;
  seqOf(place: number): number;
  /** When the event was published, in milliseconds. */
  timeOf(place: number): number;
  /** Where the frame at a place begins in `bytes`, and where it ends. */
  startOf(place: number): number;
  endOf(place: number): number;
}

/** The memory of a slot, which each frame has. */
export const SLOT_BYTES = 12;

/** The memory of the objects around a segment: measured 293 to 331 on Node 20 and 24 (x64). */
export const SEGMENT_OBJECT_BYTES = 310;

/**
 * A smaller part of a segment is copied for a reader, so that one who keeps it for long keeps at most four times
 * as much memory.
 */
const MIN_SLICE_BYTES = 16 * 1024;

/**
 * A segment that is full becomes a quarter larger, and twice as large below 2 KiB: to allocate takes as long as to
 * publish (bench/hub), and a topic takes 0.7 KiB anyway. So a fifth of a segment is free at most, or 2 KiB.
 */
const GROWTH = 1.25;
const SMALL_GROWTH = 2;
const SMALL_BYTES = 2048;
const MAX_INT32 = 2 ** 31 - 1;

/** The limits of a ring, checked and with the defaults filled in. */
export class FrameLimits {
  readonly maxFrames: number;
  readonly maxBytes: number;
  readonly maxAge: number;
  readonly segmentBytes: number;

  /** @throws {RangeError} naming the option that is not a number ≥ 1 (`maxFrames`: whole). */
  constructor(options: FrameRingOptions = {}) {
    const { maxFrames = 1000, maxBytes = Infinity, maxAge = Infinity, segmentBytes = 64 * 1024 } = options;
    // Must be whole, because `push` compares for equality: no size would ever equal a fraction.
    this.maxFrames = maxFrames === Infinity ? maxFrames : whole(1, 'maxFrames', maxFrames);
    this.maxBytes = atLeast(1, 'maxBytes', maxBytes);
    this.maxAge = atLeast(1, 'maxAge', maxAge);
    this.segmentBytes = whole(1, 'segmentBytes', segmentBytes, MAX_INT32);
  }
}

/**
 * A ring of frames: events as they go over the wire. Each has a seq, which only grows, and a place: how many
 * frames were pushed before it. Places have no gaps, and seqs may.
 *
 *       dropped │ oldest ············································ newest │
 *     ──────────┼──────────────────┬──────────────────┬─────────────────────┼───▶ seq
 *               │ segment, 64 KiB  │ segment, 64 KiB  │ segment, growing    │
 *             first                                                        end    places
 *
 *     a segment:  │ frame │ frame │ frame ▶     free     ◀ slot │ slot │ slot │
 *
 * The frames of a segment lie one behind the other, so a page for a reader is a slice that all readers share.
 * Each slot has the end, the seq and the time of a frame. So a frame of 100 bytes takes 112, and V8's garbage
 * collector, for which a segment is one object, has nothing to walk.
 *
 * To push a frame, or to drop one, takes constant time on average; to find one, O(log n). What was written is
 * never written over while a slice of it may be in use.
 */
export class FrameRing {
  readonly #limits: FrameLimits;
  /** The newest segment. Only this one may be empty, or have room for more. */
  #tail: Segment | undefined;
  /** The segments before it, oldest first, from `#oldest` on; `undefined` where there is none. */
  #older: (Segment | undefined)[] | undefined;
  #oldest = 0;
  /** The older segment that was last asked for: readers ask for neighbours. */
  #recent: Segment | undefined;
  #first = 0;
  #end = 0;
  #bytes = 0;
  #heldBytes = 0;
  #dropped: number;
  #last: number;
  /** The seq before the newest one: a reader there, as nearly all are, lacks the newest frame alone. */
  #beforeLast: number;

  /** @throws what `FrameLimits` throws, and {RangeError} for a `dropped` that is not a whole number ≥ 0. */
  constructor(options: FrameRingOptions = {}) {
    const { dropped = 0, limits = new FrameLimits(options) } = options;
    this.#limits = limits;
    this.#dropped = this.#last = this.#beforeLast = whole(0, 'dropped', dropped);
  }

  /** The place of the oldest frame that is kept. */
  get first(): number {
    return this.#first;
  }

  /** The place after the newest frame: that of the next one. */
  get end(): number {
    return this.#end;
  }

  /** How many frames are kept. */
  get size(): number {
    return this.#end - this.#first;
  }

  /** The sum of their bytes. */
  get bytes(): number {
    return this.#bytes;
  }

  /** The memory that the ring holds for them, in bytes, with what it has not filled yet or not released. */
  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** The newest seq that was dropped: a reader at a lower seq has missed frames. */
  get dropped(): number {
    return this.#dropped;
  }

  /** The newest seq ever pushed, kept or not. */
  get last(): number {
    return this.#last;
  }

  /**
   * Adds a frame, and drops the oldest ones to stay within the limits.
   * @param at - When the event was published, in milliseconds; a fraction is rounded up.
   * @param frame - Text is kept as UTF-8. Bytes are copied.
   * @param bytes - The length of the frame in UTF-8, for a caller that knows it.
   * @throws {RangeError} when `seq` is not a whole number above `last`, `at` is no number, or the frame is larger
   *   than `maxBytes`.
   */
  push(seq: number, at: number, frame: string | Uint8Array, bytes: number = lengthOf(frame)): void {
    // A slot has room for whole numbers only.
    if (!(seq > this.#last && Number.isSafeInteger(seq))) {
      throw new RangeError(`\`seq\` must be a whole number above ${this.#last}, got ${seq}`);
    }
    if (!Number.isFinite(at)) throw new RangeError(`\`at\` must be a number of milliseconds, got ${at}`);
    const { maxFrames, maxBytes, maxAge } = this.#limits;
    if (bytes > maxBytes) {
      throw new RangeError(`\`frame\` must have at most \`maxBytes\` ${maxBytes} bytes, got ${bytes}`);
    }
    if (this.size === maxFrames) this.#dropOldest();
    while (this.#bytes + bytes > maxBytes) this.#dropOldest();
    if (maxAge !== Infinity) this.#dropOlderThan(at - maxAge);
    const time = Math.ceil(at);
    const tail = this.#tail;
    const segment = tail?.hasRoom(bytes, seq, time) ? tail : this.#makeRoom(tail, bytes, seq, time);
    segment.add(seq, time, frame, bytes);
    this.#end++;
    this.#bytes += bytes;
    this.#beforeLast = this.#last;
    this.#last = seq;
  }

  /** Drops frames that are older than `maxAge` at the time `now`. */
  expire(now: number): void {
    const { maxAge } = this.#limits;
    if (maxAge === Infinity) return;
    this.#dropOlderThan(now - maxAge);
    if (this.size === 0) this.clear();
  }

  /**
   * Drops the frames of the oldest segment, in constant time. The newest segment stays, and one that has a frame
   * at the seq `before` or above it.
   * @returns whether there was another one.
   */
  dropSegment(before: number = Infinity): boolean {
    if (this.#older === undefined) return false;
    const segment = this.#older[this.#oldest]!;
    if (segment.seqOf(segment.place + segment.count - 1) >= before) return false;
    this.#bytes -= segment.end - segment.startOf(this.#first);
    this.#first = segment.place + segment.count;
    this.#dropped = segment.seqOf(this.#first - 1);
    this.#removeOldest();
    return true;
  }

  /** Drops the oldest frame. The newest one stays. @returns whether there was an older one. */
  dropOldest(): boolean {
    if (this.size < 2) return false;
    this.#dropOldest();
    return true;
  }

  /** Drops all frames but the newest, which then holds as little memory as it can. */
  dropAllButNewest(): void {
    if (this.size === 0) return;
    while (this.size > 1) this.#dropOldest();
    this.#replace(this.#tail!, Buffer.allocUnsafeSlow(this.#bytes + SLOT_BYTES));
  }

  /**
   * Drops all frames and releases their memory.
   * @param seq - Counts as the newest that was ever pushed, where it is above that.
   */
  clear(seq: number = this.#last): void {
    this.#dropped = this.#last = Math.max(this.#last, seq);
    this.#first = this.#end;
    this.#bytes = this.#heldBytes = this.#oldest = 0;
    this.#tail = this.#older = this.#recent = undefined;
  }

  /** The place of the first frame above a seq; `end` where there is none; −1 where one above it was dropped. */
  placeAfter(seq: number): number {
    if (seq < this.#dropped) return -1;
    if (seq >= this.#last) return this.#end;
    if (seq >= this.#beforeLast) return this.#end - 1;
    return this.#segmentWith((one) => one.seq <= seq).placeAfter(seq, this.#first);
  }

  /**
   * The segment that holds the frame at a place from `first` to `end` − 1. Use its bytes at once: the next `push`
   * may write over those of a small segment.
   */
  segmentAt(place: number): FrameSegment {
    return this.#segmentAt(place);
  }

  #segmentAt(place: number): Segment {
    const [tail, recent] = [this.#tail!, this.#recent];
    if (place >= tail.place) return tail;
    if (recent !== undefined && place >= recent.place && place < recent.place + recent.count) return recent;
    this.#recent = this.#segmentWith((one) => one.place <= place);
    return this.#recent;
  }

  /** The bytes of the frames from a place to the end. */
  bytesFrom(place: number): number {
    if (place >= this.#end) return 0;
    const [segment, tail] = [this.#segmentAt(place), this.#tail!];
    return tail.bytesBefore + tail.end - segment.bytesBefore - segment.startOf(place);
  }

  /**
   * A page: the frames from a place on, at most `maxBytes` but at least one frame, and the place after them. One
   * that does not reach the end of the ring ends with its segment, so that readers who began at different places
   * share the pages that follow. The bytes may be those of the ring, and must not be changed.
   * @throws {RangeError} for a place that is not from `first` to `end`, such as the −1 of `placeAfter`.
   */
  read(place: number, maxBytes: number): { readonly bytes: Buffer; readonly end: number } {
    if (!(place >= this.#first && place <= this.#end)) {
      throw new RangeError(`\`place\` must be from ${this.#first} to ${this.#end}, got ${place}`);
    }
    if (place === this.#end) return { bytes: Buffer.alloc(0), end: place };
    const [segment, size] = [this.#segmentAt(place), this.bytesFrom(place)];
    const end = size <= maxBytes ? this.#end : segment.placeWithin(place, maxBytes);
    if (end <= segment.place + segment.count) {
      return { bytes: segment.read(segment.startOf(place), segment.endOf(end - 1)), end };
    }
    const bytes = Buffer.allocUnsafe(size);
    let filled = 0;
    for (let from = place; from < end; ) {
      const next = this.#segmentAt(from);
      filled += next.bytes.copy(bytes, filled, next.startOf(from), next.end);
      from = next.place + next.count;
    }
    return { bytes, end };
  }

  // ── segments ─────────────────────────────────────────────────────────────────────────────────────────────

  /** The last segment for which this holds, as it does for all before it; the oldest one otherwise. */
  #segmentWith(holds: (segment: Segment) => boolean): Segment {
    const [tail, older] = [this.#tail!, this.#older];
    if (older === undefined || holds(tail)) return tail;
    let low = this.#oldest;
    let high = older.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if (holds(older[middle]!)) low = middle;
      else high = middle - 1;
    }
    return older[low]!;
  }

  get #oldestSegment(): Segment {
    return this.#older === undefined ? this.#tail! : this.#older[this.#oldest]!;
  }

  #dropOlderThan(time: number): void {
    while (this.size > 0 && this.#oldestSegment.timeOf(this.#first) < time) this.#dropOldest();
  }

  #dropOldest(): void {
    const oldest = this.#oldestSegment;
    this.#bytes -= oldest.endOf(this.#first) - oldest.startOf(this.#first);
    this.#dropped = oldest.seqOf(this.#first);
    this.#first++;
    // The newest segment stays, because a frame that is pushed next may find room in it.
    if (this.#older !== undefined && this.#first === oldest.place + oldest.count) this.#removeOldest();
  }

  #removeOldest(): void {
    const older = this.#older!;
    const removed = older[this.#oldest]!;
    this.#heldBytes -= removed.heldBytes;
    if (removed === this.#recent) this.#recent = undefined;
    older[this.#oldest++] = undefined;
    // A list of which half is over is cut, so that to remove a segment takes constant time on average.
    if (this.#oldest * 2 < older.length) return;
    this.#older = this.#oldest < older.length ? older.slice(this.#oldest) : undefined;
    this.#oldest = 0;
  }

  /**
   * The segment for a frame for which the last one has no room. That one grows until it is as large as a segment
   * may be, or loses the frames that were dropped; otherwise a new one begins.
   */
  #makeRoom(tail: Segment | undefined, bytes: number, seq: number, time: number): Segment {
    const needed = bytes + SLOT_BYTES;
    if (tail?.isNear(seq, time)) {
      const memory = this.#memoryFor(tail, tail.bytesKept(this.#first) + needed);
      if (memory !== undefined) return this.#replace(tail, memory);
    }
    // Small beside what is kept so far, so that a small ring stays small; and after a jump of seqs or times, which
    // may jump again, small beside the last segment.
    const kept = (this.#bytes + this.size * SLOT_BYTES) * (GROWTH - 1);
    const most = tail === undefined || tail.isNear(seq, time) ? Infinity : 2 * tail.bytesKept(tail.place);
    return this.#begin(seq, time, Math.max(needed, Math.min(kept, most, this.#limits.segmentBytes)));
  }

  /** Where the last segment goes on; `undefined` where it is as large as it may be, and full. */
  #memoryFor({ bytes, capacity }: Segment, wanted: number): Buffer | undefined {
    if (wanted > this.#limits.segmentBytes) return undefined;
    // The dropped frames may have been much larger than those that are kept.
    if (wanted * 4 < capacity || capacity > this.#limits.segmentBytes) return this.#allocate(wanted * 2);
    const isSparse = wanted * 4 <= capacity * 3;
    // No slice of a small segment was given out, so it can be written over.
    if (isSparse) return capacity < MIN_SLICE_BYTES ? bytes : this.#allocate(capacity);
    if (capacity >= this.#limits.segmentBytes) return undefined;
    const growth = capacity < SMALL_BYTES ? SMALL_GROWTH : GROWTH;
    return this.#allocate(Math.max(wanted, capacity * growth));
  }

  #allocate(bytes: number): Buffer {
    return Buffer.allocUnsafeSlow(Math.min(Math.ceil(bytes), this.#limits.segmentBytes));
  }

  #begin(seq: number, time: number, capacity: number): Segment {
    // An empty segment would stay the oldest one.
    if (this.size === 0) this.clear();
    const before = this.#tail;
    const bytesBefore = before === undefined ? 0 : before.bytesBefore + before.end;
    const segment = new Segment(
      Buffer.allocUnsafeSlow(Math.ceil(capacity)),
      this.#end,
      seq,
      time,
      bytesBefore,
    );
    // An array to which an element is pushed has room for 16 more.
    if (this.#older !== undefined) this.#older.push(before);
    else if (before !== undefined) this.#older = [before];
    this.#tail = segment;
    this.#heldBytes += segment.heldBytes;
    return segment;
  }

  /** Puts the frames that are kept of the last segment to the front of another memory, or of its own. */
  #replace(tail: Segment, bytes: Buffer): Segment {
    const segment = tail.movedTo(bytes, Math.max(this.#first, tail.place));
    this.#tail = segment;
    this.#heldBytes += segment.heldBytes - tail.heldBytes;
    return segment;
  }
}

/** Frames one behind the other, with a slot for each at the end of the same memory. */
class Segment implements FrameSegment {
  readonly bytes: Buffer;
  /** The place of its first frame. */
  readonly place: number;
  /** The seq and the time of a frame that is not newer: slots state distances to these. */
  readonly seq: number;
  readonly time: number;
  /** How many bytes of frames the ring has taken before it. */
  readonly bytesBefore: number;
  count = 0;
  /** Where its last frame ends. */
  end = 0;
  /** Ends in slots count all bytes that the ring has taken, modulo 2³², so that slots can be moved as they are. */
  readonly #base: number;

  constructor(bytes: Buffer, place: number, seq: number, time: number, bytesBefore: number) {
    this.bytes = bytes;
    this.place = place;
    this.seq = seq;
    this.time = time;
    this.bytesBefore = bytesBefore;
    this.#base = bytesBefore | 0;
  }

  get capacity(): number {
    return this.bytes.length;
  }

  get heldBytes(): number {
    return this.bytes.length + SEGMENT_OBJECT_BYTES;
  }

  hasRoom(bytes: number, seq: number, time: number): boolean {
    return this.end + bytes + (this.count + 1) * SLOT_BYTES <= this.capacity && this.isNear(seq, time);
  }

  /** What its frames from a place on take, with their slots. */
  bytesKept(first: number): number {
    const after = this.place + this.count;
    if (first >= after) return 0;
    const place = Math.max(first, this.place);
    return this.end - this.startOf(place) + (after - place) * SLOT_BYTES;
  }

  /** Whether a slot can state the seq and the time. */
  isNear(seq: number, time: number): boolean {
    return seq - this.seq <= MAX_INT32 && Math.abs(time - this.time) <= MAX_INT32;
  }

  add(seq: number, time: number, frame: string | Uint8Array, bytes: number): void {
    const { bytes: to, end } = this;
    if (typeof frame !== 'string') to.set(frame, end);
    // Where each character is one byte, the text is ASCII: copying it takes half the time of encoding it.
    else if (frame.length === bytes) to.write(frame, end, bytes, 'latin1');
    else to.write(frame, end, bytes);
    this.end += bytes;
    const slot = this.#slot(this.place + this.count++);
    to.writeInt32LE((this.#base + this.end) | 0, slot);
    to.writeInt32LE(seq - this.seq, slot + 4);
    to.writeInt32LE(time - this.time, slot + 8);
  }

  /** Where the slot of a frame begins. */
  #slot(place: number): number {
    return this.bytes.length - (place - this.place + 1) * SLOT_BYTES;
  }

  endOf(place: number): number {
    return (this.bytes.readInt32LE(this.#slot(place)) - this.#base) | 0;
  }

  startOf(place: number): number {
    return place === this.place ? 0 : this.endOf(place - 1);
  }

  seqOf(place: number): number {
    return this.seq + this.bytes.readInt32LE(this.#slot(place) + 4);
  }

  timeOf(place: number): number {
    return this.time + this.bytes.readInt32LE(this.#slot(place) + 8);
  }

  /** The place of the first frame above a seq, from `first` on; that after the last one where there is none. */
  placeAfter(seq: number, first: number): number {
    let low = Math.max(first, this.place);
    let high = this.place + this.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.seqOf(middle) > seq) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  /** Where the frames end that begin at a place and fit into `maxBytes`, but at least one. */
  placeWithin(place: number, maxBytes: number): number {
    const most = this.startOf(place) + maxBytes;
    let low = place + 1;
    let high = this.place + this.count;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if (this.endOf(middle - 1) <= most) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /**
   * The bytes from one offset up to another one. What is small is copied, so that who keeps it does not keep the
   * whole segment.
   */
  read(start: number, end: number): Buffer {
    if (end - start >= MIN_SLICE_BYTES) return this.bytes.subarray(start, end);
    const copy = Buffer.allocUnsafe(end - start);
    this.bytes.copy(copy, 0, start, end);
    return copy;
  }

  /** The same frames from a place on, at the front of a memory, which may be that of this segment. */
  movedTo(bytes: Buffer, first: number): Segment {
    const after = this.place + this.count;
    const start = first < after ? this.startOf(first) : this.end;
    const moved = new Segment(bytes, first, this.seq, this.time, this.bytesBefore + start);
    moved.count = after - first;
    moved.end = this.end - start;
    this.bytes.copy(bytes, 0, start, this.end);
    const [from, to] = [this.#slot(after - 1), moved.#slot(after - 1)];
    this.bytes.copy(bytes, to, from, from + moved.count * SLOT_BYTES);
    return moved;
  }
}

function lengthOf(frame: string | Uint8Array): number {
  return typeof frame === 'string' ? Buffer.byteLength(frame) : frame.length;
}

function whole(least: number, name: string, value: number, most: number = Infinity): number {
  if (Number.isInteger(value) && value >= least && value <= most) return value;
  const range = most === Infinity ? `≥ ${least}` : `from ${least} to ${most}`;
  throw new RangeError(`\`${name}\` must be a whole number ${range}, got ${value}`);
}

function atLeast(least: number, name: string, value: number): number {
  if (typeof value === 'number' && value >= least) return value;
  throw new RangeError(`\`${name}\` must be a number ≥ ${least}, got ${value}`);
}
