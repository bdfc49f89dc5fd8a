import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  FrameLimits,
  FrameRing,
  type FrameRingOptions,
  SEGMENT_OBJECT_BYTES,
  SLOT_BYTES,
} from '../lib/frame-ring.ts';
import { collectGarbage } from './helpers/garbage.ts';
import { EPOCH, times } from './helpers/hub.ts';

const SEGMENT = 64 * 1024;
const DAY = 24 * 60 * 60 * 1000;

interface Frame {
  readonly seq: number;
  readonly at: number;
  readonly bytes: Buffer;
}

/** The ring by the words of its documentation: an array of frames. */
class Model {
  readonly #limits: { readonly maxFrames: number; readonly maxBytes: number; readonly maxAge: number };
  frames: Frame[] = [];
  first = 0;
  dropped: number;
  last: number;

  constructor({ maxFrames, maxBytes, maxAge, dropped }: FrameRingOptions) {
    this.#limits = { maxFrames: maxFrames!, maxBytes: maxBytes!, maxAge: maxAge! };
    this.dropped = this.last = dropped!;
  }

  get end(): number {
    return this.first + this.frames.length;
  }

  get bytes(): number {
    return sum(this.frames.map(({ bytes }) => bytes.length));
  }

  push(frame: Frame): void {
    const { maxFrames, maxBytes } = this.#limits;
    while (this.frames.length >= maxFrames || this.bytes + frame.bytes.length > maxBytes) this.drop(1);
    this.expire(frame.at);
    this.frames.push({ ...frame, at: Math.ceil(frame.at) });
    this.last = frame.seq;
  }

  expire(now: number): void {
    while (this.frames.length > 0 && this.frames[0]!.at < now - this.#limits.maxAge) this.drop(1);
  }

  drop(count: number): void {
    for (const { seq } of this.frames.splice(0, count)) {
      this.dropped = seq;
      this.first++;
    }
  }

  clear(): void {
    this.drop(this.frames.length);
    this.dropped = this.last;
  }

  placeAfter(seq: number): number {
    if (seq < this.dropped) return -1;
    const index = this.frames.findIndex((frame) => frame.seq > seq);
    return index < 0 ? this.end : this.first + index;
  }

  /** The bytes of the frames from a place up to another one. */
  slice(from: number, to: number = this.end): Buffer {
    return Buffer.concat(this.frames.slice(from - this.first, to - this.first).map(({ bytes }) => bytes));
  }
}

/** A frame that says where it begins and ends, so that none is taken for another. */
function text(index: number, size: number, kind: 'ascii' | 'utf8' | 'bytes'): string | Buffer {
  const letters = `${index.toString(36)}${kind === 'ascii' ? '.' : '—ü🙂'}`;
  const all = letters.repeat(Math.ceil(size / letters.length));
  return kind === 'bytes' ? Buffer.from(all).subarray(0, size) : size === 0 ? '' : all;
}

interface Push {
  readonly act: 'push';
  readonly kind: 'ascii' | 'utf8' | 'bytes';
  /** Bytes, or a part of a segment. */
  readonly size: { readonly bytes: number } | { readonly segments: number };
  readonly step: number;
  readonly wait: number;
  /** Whether the caller states the length. */
  readonly isMeasured: boolean;
}

interface Read {
  readonly act: 'read';
  /** How far from the oldest frame to the newest one. */
  readonly from: number;
  readonly maxBytes: number;
}

type Act =
  | Push
  | Read
  | { readonly act: 'expire'; readonly wait: number }
  | { readonly act: 'dropSegment' | 'dropAllButNewest' | 'clear' };

const anySize = fc.oneof(
  { weight: 6, arbitrary: fc.record({ bytes: fc.nat({ max: 40 }) }) },
  { weight: 2, arbitrary: fc.record({ segments: fc.double({ min: 0, max: 0.5, noNaN: true }) }) },
  { weight: 1, arbitrary: fc.record({ segments: fc.double({ min: 0, max: 3, noNaN: true }) }) },
);
const anyPart = fc.double({ min: 0, max: 1, noNaN: true });

function anyAct(anyStep: fc.Arbitrary<number>, anyWait: fc.Arbitrary<number>): fc.Arbitrary<Act> {
  const push = fc.record({
    act: fc.constant('push' as const),
    kind: fc.constantFrom('ascii' as const, 'utf8' as const, 'bytes' as const),
    size: anySize,
    step: anyStep,
    wait: anyWait,
    isMeasured: fc.boolean(),
  });
  const maxBytes = fc.oneof(
    fc.integer({ min: 1, max: 300 }),
    fc.constantFrom(16 * 1024, SEGMENT, 2 ** 20, Infinity),
  );
  const read = fc.record({ act: fc.constant('read' as const), from: anyPart, maxBytes });
  const expire = fc.record({ act: fc.constant('expire' as const), wait: anyWait });
  const rare = fc.record({ act: fc.constantFrom('dropSegment', 'dropAllButNewest', 'clear') });
  return fc.oneof(
    { weight: 30, arbitrary: push },
    { weight: 8, arbitrary: read },
    { weight: 1, arbitrary: expire },
    { weight: 1, arbitrary: rare as fc.Arbitrary<Act> },
  );
}

const anySegment = fc.oneof(
  fc.integer({ min: 1, max: 60 }),
  fc.integer({ min: 60, max: 1000 }),
  fc.constantFrom(16 * 1024, 20_000, SEGMENT),
);

const anyOptions = fc.record({
  maxFrames: fc.oneof(fc.integer({ min: 1, max: 5 }), fc.integer({ min: 5, max: 60 }), fc.constant(Infinity)),
  maxBytes: fc.oneof(fc.integer({ min: 1, max: 500 }), fc.constantFrom(100_000, Infinity)),
  maxAge: fc.oneof(fc.integer({ min: 1, max: 50 }), fc.constant(Infinity)),
  dropped: fc.constantFrom(0, 7, EPOCH),
  segmentBytes: anySegment,
});

/** Runs the acts on a ring and on its model, and compares them after each. */
class Run {
  readonly ring: FrameRing;
  readonly model: Model;
  readonly #segmentBytes: number;
  readonly #maxBytes: number;
  readonly #isNear: boolean;
  #at: number;
  #pushed = 0;
  #largest = 0;
  /** Every page that was read, as the ring gave it and as it was then. */
  readonly #pages: { readonly given: Buffer; readonly copy: Buffer }[] = [];

  /** @param isNear - Whether seqs and times stay near to each other. */
  constructor(options: FrameRingOptions, at: number, isNear: boolean) {
    this.#isNear = isNear;
    this.ring = new FrameRing(options);
    this.model = new Model(options);
    this.#segmentBytes = options.segmentBytes!;
    this.#maxBytes = options.maxBytes!;
    this.#at = at;
  }

  do(act: Act): void {
    const { ring, model } = this;
    if (act.act === 'push') this.#push(act);
    else if (act.act === 'read') this.#read(act);
    else if (act.act === 'expire') {
      ring.expire(this.#at + act.wait);
      model.expire(this.#at + act.wait);
    } else if (act.act === 'clear') {
      ring.clear();
      model.clear();
    } else if (act.act === 'dropAllButNewest') {
      ring.dropAllButNewest();
      model.drop(model.frames.length - 1);
    } else this.#dropSegment();
    this.compare();
  }

  #push({ kind, size, step, wait, isMeasured }: Push): void {
    const index = this.#pushed++;
    const wanted = 'bytes' in size ? size.bytes : Math.floor(size.segments * this.#segmentBytes);
    const frame = text(index, wanted, kind);
    const bytes = Buffer.from(frame);
    const seq = this.model.last + step;
    const at = this.#at + wait;
    const add = () => this.ring.push(seq, at, frame, ...(isMeasured ? [bytes.length] : []));
    if (bytes.length > this.#maxBytes) return assert.throws(add, /^RangeError: `frame` must have at most/);
    add();
    // What the caller does with its own bytes afterwards is of no matter.
    if (typeof frame !== 'string') frame.fill(0);
    this.model.push({ seq, at, bytes: typeof frame === 'string' ? bytes : Buffer.from(bytes) });
    this.#at = at;
    this.#largest = Math.max(this.#largest, bytes.length + SLOT_BYTES);
  }

  #read({ from, maxBytes }: Read): void {
    const { ring, model } = this;
    if (model.frames.length === 0) return;
    const place = model.first + Math.floor(from * (model.frames.length - 1));
    assert.equal(ring.bytesFrom(place), model.slice(place).length);
    this.page(place, maxBytes);
    assert.equal(ring.placeAfter(model.frames[place - model.first]!.seq), place + 1);
  }

  /** Reads a page and compares it. @returns the place after it. */
  page(place: number, maxBytes: number): number {
    const { ring, model } = this;
    const { bytes, end } = ring.read(place, maxBytes);
    assert.ok(bytes.equals(model.slice(place, end)), `bytes of ${place} to ${end}`);
    this.#pages.push({ given: bytes, copy: Buffer.from(bytes) });
    assert.ok(end > place && end <= model.end, `${place} to ${end} of ${model.end}`);
    assert.ok(bytes.length <= maxBytes || end === place + 1, `${bytes.length} bytes`);
    // It ends with the ring, with its segment, or where the next frame does not fit.
    const { place: begin, count } = ring.segmentAt(place);
    const more = end < model.end && begin + count !== end;
    if (more) assert.ok(model.slice(place, end + 1).length > maxBytes);
    if (end < model.end) assert.ok(model.slice(place).length > maxBytes);
    return end;
  }

  #dropSegment(): void {
    const { ring, model } = this;
    if (model.frames.length === 0) return assert.equal(ring.dropSegment(), false);
    const { place, count } = ring.segmentAt(ring.first);
    const isOnly = place + count === model.end;
    assert.equal(ring.dropSegment(), !isOnly);
    if (!isOnly) model.drop(place + count - model.first);
  }

  compare(): void {
    const { ring, model } = this;
    assert.deepEqual(
      [ring.first, ring.end, ring.size, ring.bytes, ring.dropped, ring.last],
      [model.first, model.end, model.frames.length, model.bytes, model.dropped, model.last],
    );
    if (model.frames.length === 0) return assert.equal(ring.heldBytes, 0);
    const segments = segmentsOf(ring);
    assert.equal(ring.heldBytes, sum(segments.map(({ bytes }) => bytes.length + SEGMENT_OBJECT_BYTES)));
    const needed = model.bytes + model.frames.length * SLOT_BYTES;
    const held = ring.heldBytes - segments.length * SEGMENT_OBJECT_BYTES;
    assert.ok(held >= needed, `${held} bytes for ${needed}`);
    if (!this.#isNear) return;
    // A segment is over when it has no room for the frame that begins the next one. So what is free in it is
    // less than what that frame needs. The oldest one may have dropped frames, and the newest one may be filled
    // later.
    const most = 2 * needed + 2 * Math.max(this.#segmentBytes, this.#largest);
    assert.ok(held <= most, `${held} bytes for ${needed}, at most ${most}`);
  }

  /** Looks up each frame, reads pages from each place to the end, and looks at all pages that were ever read. */
  end(maxBytes: number): void {
    const { ring, model } = this;
    model.frames.forEach(({ seq, at, bytes }, i) => {
      const place = model.first + i;
      const segment = ring.segmentAt(place);
      assert.deepEqual([segment.seqOf(place), segment.timeOf(place)], [seq, at]);
      assert.ok(segment.bytes.subarray(segment.startOf(place), segment.endOf(place)).equals(bytes));
      for (const near of [seq - 1, seq]) assert.equal(ring.placeAfter(near), model.placeAfter(near));
      for (let next = place; next < model.end; ) next = this.page(next, maxBytes);
    });
    for (const seq of [0, model.dropped - 1, model.dropped, model.last, model.last + 1]) {
      assert.equal(ring.placeAfter(seq), model.placeAfter(seq));
    }
    assert.equal(ring.bytesFrom(ring.end), 0);
    for (const { given, copy } of this.#pages) assert.ok(given.equals(copy), 'a page was written over');
  }
}

const sum = (numbers: readonly number[]) => numbers.reduce((total, one) => total + one, 0);

function segmentsOf(ring: FrameRing) {
  const segments: ReturnType<FrameRing['segmentAt']>[] = [];
  for (let place = ring.first; place < ring.end; ) {
    const segment = ring.segmentAt(place);
    segments.push(segment);
    place = segment.place + segment.count;
  }
  return segments;
}

/** A ring of that many frames of so many bytes, with the seqs 1, 2, 3, … */
function filled(options: FrameRingOptions, frames: number, bytes: number): FrameRing {
  const ring = new FrameRing(options);
  for (let seq = 1; seq <= frames; seq++) ring.push(seq, seq, `${seq};`.padStart(bytes, '.'));
  return ring;
}

describe('a ring of frames', () => {
  it('has the frames, the places and the pages of an array, and writes over no page that it gave out', () => {
    const acts = fc.array(
      anyAct(fc.integer({ min: 1, max: 3 }), fc.double({ min: 0, max: 9, noNaN: true })),
      {
        maxLength: 120,
        size: 'max',
      },
    );
    fc.assert(
      fc.property(anyOptions, acts, fc.integer({ min: 1, max: 2000 }), (options, steps, maxBytes) => {
        const run = new Run(options, 1000, true);
        for (const act of steps) run.do(act);
        run.end(maxBytes);
      }),
    );
  });

  it('does so where seqs and times jump by more than a slot can state, forwards and backwards', () => {
    const far = fc.constantFrom(1, 1, 2 ** 31 - 1, 2 ** 31, 2 ** 31 + 1, 2 ** 40);
    const jumps = [0, 1, 0.5, -1, 2 ** 31 - 1, 2 ** 31, 25 * DAY, 1000 * DAY];
    const wait = fc.constantFrom(0, 1, ...jumps, ...jumps.map((jump) => -jump), -20 * DAY, 20 * DAY);
    const acts = fc.array(anyAct(far, wait), { maxLength: 120, size: 'max' });
    const options = fc.record({
      maxFrames: fc.oneof(fc.integer({ min: 1, max: 9 }), fc.constant(Infinity)),
      maxBytes: fc.constant(Infinity),
      maxAge: fc.constantFrom(1, DAY, 40 * DAY, Infinity),
      dropped: fc.constantFrom(0, EPOCH),
      segmentBytes: anySegment,
    });
    fc.assert(
      fc.property(options, acts, fc.integer({ min: 1, max: 2000 }), (one, steps, maxBytes) => {
        const run = new Run(one, 1_795_408_776_829, false);
        for (const act of steps) run.do(act);
        run.end(maxBytes);
      }),
    );
  });

  it('is the same for frames that all lie in one segment, whose memory is used again and again', () => {
    for (const segmentBytes of [1000, 15_000, 16 * 1024, SEGMENT]) {
      const options = { maxFrames: 7, maxBytes: Infinity, maxAge: Infinity, dropped: 0, segmentBytes };
      const run = new Run(options, 0, true);
      for (let i = 0; i < 500; i++) {
        const size = { segments: ((i * 7) % 10) / 150 };
        run.do({ act: 'push', kind: 'utf8', size, step: 1, wait: 1, isMeasured: true });
        run.do({ act: 'read', from: (i % 5) / 5, maxBytes: Infinity });
      }
      assert.equal(segmentsOf(run.ring).length, 1);
      run.end(300);
    }
  });
});

describe('the seqs and the times', () => {
  it('may be those of the product: seqs that begin anywhere, and milliseconds since 1970', () => {
    const now = Date.now();
    const ring = new FrameRing({ dropped: EPOCH, maxAge: 1000 });
    for (let i = 1; i <= 100; i++) ring.push(EPOCH + i, now + i * 100, `id: ${EPOCH + i}\n\n`);
    assert.deepEqual([ring.size, ring.dropped, ring.last], [11, EPOCH + 89, EPOCH + 100]);
    assert.equal(ring.placeAfter(EPOCH + 95), 95);
    const segment = ring.segmentAt(95);
    assert.deepEqual([segment.seqOf(95), segment.timeOf(95)], [EPOCH + 96, now + 9600]);
    assert.equal(ring.read(99, 100).bytes.toString(), `id: ${EPOCH + 100}\n\n`);
    ring.expire(now + 10_950);
    assert.deepEqual([ring.size, ring.dropped], [1, EPOCH + 99]);
  });

  it('may jump by more than 2^31 from each frame to the next', () => {
    const ring = new FrameRing();
    const seqs = times(20, (i) => 1 + i * (2 ** 31 + i));
    for (const seq of seqs) ring.push(seq, 0, `${seq};`);
    assert.deepEqual(
      seqs.map((seq) => ring.placeAfter(seq)),
      times(20, (i) => i + 1),
    );
    assert.equal(ring.read(0, Infinity).bytes.toString(), `${seqs.join(';')};`);
  });

  it('can share its limits with other rings', () => {
    const limits = new FrameLimits({ maxFrames: 2, maxBytes: 10 });
    const rings = [new FrameRing({ limits }), new FrameRing({ limits, dropped: 5 })];
    for (const ring of rings) {
      for (const seq of [6, 7, 8]) ring.push(seq, 0, 'x');
      assert.deepEqual([ring.size, ring.dropped], [2, 6]);
      assert.throws(() => ring.push(9, 0, 'x'.repeat(11)), /at most `maxBytes` 10/);
    }
    assert.throws(() => new FrameRing({ limits, dropped: -1 }), /`dropped`/);
  });

  it('may jump by more than 24 days, forwards and backwards, also where a small ring uses its memory again', () => {
    const ring = new FrameRing({ maxFrames: 2 });
    const days = [0, 20, -20, 20, -20, 0, 400, 20, 0, -4000, 0, 24, -24, 24];
    days.forEach((day, i) => {
      ring.push(i + 1, day * DAY, `${i};`);
      assert.equal(ring.segmentAt(i).timeOf(i), day * DAY);
      if (i > 0) assert.equal(ring.segmentAt(i - 1).timeOf(i - 1), days[i - 1]! * DAY);
      assert.equal(ring.read(ring.first, 100).bytes.toString(), i > 0 ? `${i - 1};${i};` : '0;');
    });
  });

  it('keep a frame behind one that came later than it, although it is older', () => {
    const ring = new FrameRing({ maxAge: 10 });
    ring.push(1, 100, 'later');
    ring.push(2, 50, 'earlier');
    ring.expire(105);
    assert.equal(ring.size, 2);
    ring.expire(111);
    assert.equal(ring.size, 0);
  });

  it('count a frame as published at the end of a millisecond that had begun', () => {
    const ring = new FrameRing({ maxAge: 10 });
    ring.push(1, 100.2, 'x');
    ring.expire(111);
    assert.equal(ring.size, 1);
    ring.expire(111.1);
    assert.equal(ring.size, 0);
  });

  it('must grow: a seq that does not is refused, with the least one, and changes nothing', () => {
    const ring = filled({}, 3, 10);
    for (const seq of [3, 2, Number.NaN, 4.5, Infinity, 2 ** 53]) {
      const message = `\`seq\` must be a whole number above 3, got ${seq}`;
      assert.throws(() => ring.push(seq, 0, 'x'), { name: 'RangeError', message });
    }
    assert.throws(() => new FrameRing({ dropped: 7 }).push(7, 0, 'x'), /above 7, got 7/);
    assert.deepEqual([ring.size, ring.bytes, ring.last], [3, 30, 3]);
  });

  it('are numbers: a time that is none is refused, because no other frame could share its segment', () => {
    const ring = filled({}, 3, 10);
    for (const at of [Number.NaN, Infinity, undefined as unknown as number]) {
      const message = `\`at\` must be a number of milliseconds, got ${at}`;
      assert.throws(() => ring.push(4, at, 'x'), { name: 'RangeError', message });
    }
    assert.deepEqual([ring.size, ring.bytes, ring.last], [3, 30, 3]);
  });
});

describe('the limits of a ring', () => {
  it('are 1,000 frames by default', () => {
    const ring = filled({}, 1001, 10);
    assert.deepEqual([ring.size, ring.first, ring.dropped], [1000, 1, 1]);
  });

  it('keep one frame where it may have no more, and its memory does not grow', () => {
    const ring = new FrameRing({ maxFrames: 1 });
    const held: number[] = [];
    for (let seq = 1; seq <= 1000; seq++) {
      ring.push(seq, 0, `${seq}`.padStart(100));
      held.push(ring.heldBytes);
      assert.equal(ring.read(seq - 1, 1).bytes.toString(), `${seq}`.padStart(100));
    }
    assert.ok(Math.max(...held) <= 4 * (100 + SLOT_BYTES) + SEGMENT_OBJECT_BYTES, `${Math.max(...held)}`);
    assert.deepEqual([ring.size, ring.dropped], [1, 999]);
  });

  it('let a frame be larger than a segment: it has one of its own, which a reader gets without a copy', () => {
    const ring = new FrameRing({ segmentBytes: 1000 });
    for (const [i, size] of [10, 50_000, 20, 30, 70_000, 70_000, 5].entries()) {
      ring.push(i + 1, 0, `${i}`.repeat(size));
    }
    assert.deepEqual(
      segmentsOf(ring).map(({ count }) => count),
      [1, 1, 2, 1, 1, 1],
    );
    const { bytes, end } = ring.read(1, 100);
    assert.deepEqual([bytes.toString(), end], ['1'.repeat(50_000), 2]);
    assert.equal(bytes.buffer, ring.segmentAt(1).bytes.buffer);
  });

  it('refuse a frame of more than maxBytes, with both sizes, and change nothing', () => {
    const ring = new FrameRing({ maxBytes: 10 });
    ring.push(1, 0, 'x'.repeat(10));
    const message = '`frame` must have at most `maxBytes` 10 bytes, got 12';
    assert.throws(() => ring.push(2, 0, 'ü'.repeat(6)), { name: 'RangeError', message });
    assert.deepEqual([ring.size, ring.last, ring.placeAfter(0)], [1, 1, 0]);
  });

  it('are named with their values where they cannot be used', () => {
    const refused: [FrameRingOptions, string][] = [
      [{ maxFrames: 0 }, '`maxFrames` must be a whole number ≥ 1, got 0'],
      [{ maxFrames: 1.5 }, '`maxFrames` must be a whole number ≥ 1, got 1.5'],
      [{ maxFrames: Number.NaN }, '`maxFrames` must be a whole number ≥ 1, got NaN'],
      [{ maxBytes: 0 }, '`maxBytes` must be a number ≥ 1, got 0'],
      [{ maxBytes: '9' as unknown as number }, '`maxBytes` must be a number ≥ 1, got 9'],
      [{ maxAge: 0.5 }, '`maxAge` must be a number ≥ 1, got 0.5'],
      [{ maxAge: Number.NaN }, '`maxAge` must be a number ≥ 1, got NaN'],
      [{ dropped: -1 }, '`dropped` must be a whole number ≥ 0, got -1'],
      [{ dropped: 0.5 }, '`dropped` must be a whole number ≥ 0, got 0.5'],
      [{ segmentBytes: 0 }, '`segmentBytes` must be a whole number from 1 to 2147483647, got 0'],
      [
        { segmentBytes: Infinity },
        '`segmentBytes` must be a whole number from 1 to 2147483647, got Infinity',
      ],
    ];
    for (const [options, message] of refused) {
      assert.throws(() => new FrameRing(options), { name: 'RangeError', message });
    }
  });
});

describe('pages', () => {
  it('of readers that began at different places are the same from the end of their segments on', () => {
    const ring = filled({}, 1000, 300);
    const ends = segmentsOf(ring).map(({ place, count }) => place + count);
    assert.ok(ends.length >= 4);
    const met = times(1000, (place) => {
      const stops: number[] = [];
      for (let next = place; next < ring.end; stops.push(next)) next = ring.read(next, SEGMENT).end;
      return stops;
    });
    met.forEach((stops, place) => {
      const rest = 300 * (1000 - place);
      if (rest <= SEGMENT) assert.deepEqual(stops, [1000]);
      else
        assert.equal(
          stops[0],
          ends.find((end) => end > place),
        );
    });
  });

  it('have as many frames as fit, from any place of a segment', () => {
    const ring = filled({}, 1000, 300);
    for (let place = 0; place < 900; place += 7) {
      const segment = ring.segmentAt(place);
      assert.equal(ring.read(place, 3000).end, Math.min(place + 10, segment.place + segment.count));
    }
  });

  it('have text as UTF-8, and bytes as they are', () => {
    const ring = new FrameRing();
    const text = ['plain', 'é', '水', '🚪', '', 'é🚪 and plain'];
    text.forEach((frame, i) => void ring.push(2 * i + 1, 0, frame));
    ring.push(100, 0, Buffer.of(0, 0xff, 0x80));
    const { bytes } = ring.read(0, 1000);
    assert.deepEqual(bytes, Buffer.concat([Buffer.from(text.join('')), Buffer.of(0, 0xff, 0x80)]));
  });

  it('share the memory of the ring where they are large, and keep none of it where they are small', () => {
    const ring = filled({}, 200, 300);
    const { buffer } = ring.segmentAt(0).bytes;
    const large = ring.read(0, 16 * 1024 + 300);
    const small = ring.read(0, 16 * 1024 - 300);
    assert.equal(large.bytes.buffer, buffer);
    assert.notEqual(small.bytes.buffer, buffer);
  });

  it('begin at a place that the ring still has: any other is refused by name', () => {
    const ring = filled({ maxFrames: 3 }, 5, 10);
    for (const place of [-1, 0, 1, 6, Number.NaN]) {
      const message = `\`place\` must be from 2 to 5, got ${place}`;
      assert.throws(() => ring.read(place, 100), { name: 'RangeError', message });
    }
    assert.deepEqual(ring.read(5, 100), { bytes: Buffer.alloc(0), end: 5 });
    assert.deepEqual(new FrameRing().read(0, 100), { bytes: Buffer.alloc(0), end: 0 });
  });

  it('that reach the end come in one piece, over the ends of segments', () => {
    const ring = filled({ segmentBytes: 1000 }, 100, 100);
    assert.ok(segmentsOf(ring).length > 10);
    const { bytes, end } = ring.read(3, 97 * 100);
    assert.deepEqual([bytes.length, end], [9700, 100]);
    assert.match(bytes.toString(), /^\.+4;.*\.100;$/);
  });
});

describe('the memory of a ring', () => {
  it('is none before the first frame, and none again once all are dropped', () => {
    const ring = new FrameRing({ maxAge: 10 });
    assert.equal(ring.heldBytes, 0);
    const fill = () => {
      for (let i = 0; i < 500; i++) ring.push(ring.last + 1, 0, 'x'.repeat(1000));
    };
    fill();
    assert.ok(ring.heldBytes > 500_000);
    ring.clear();
    assert.deepEqual([ring.heldBytes, ring.size, ring.bytes, ring.dropped], [0, 0, 0, 500]);
    fill();
    ring.expire(11);
    assert.deepEqual([ring.heldBytes, ring.size, ring.bytes, ring.dropped], [0, 0, 0, 1000]);
    assert.deepEqual(
      [ring.first, ring.end, ring.placeAfter(1000), ring.placeAfter(999)],
      [1000, 1000, 1000, -1],
    );
    ring.push(1001, 0, 'again');
    assert.equal(ring.read(1000, 1).bytes.toString(), 'again');
  });

  it('is that of the newest frame alone, once all others are dropped', () => {
    const ring = filled({}, 2000, 100);
    ring.dropAllButNewest();
    assert.equal(ring.heldBytes, 100 + SLOT_BYTES + SEGMENT_OBJECT_BYTES);
    assert.deepEqual([ring.first, ring.size, ring.dropped], [1999, 1, 1999]);
    assert.match(ring.read(1999, 1).bytes.toString(), /^\.+2000;$/);
  });

  it('is given back by segments: all but the newest one', () => {
    const ring = filled({}, 1000, 300);
    const before = segmentsOf(ring);
    for (const { bytes, place, count } of before.slice(0, -1)) {
      const held = ring.heldBytes;
      assert.equal(ring.dropSegment(), true);
      assert.deepEqual(
        [held - ring.heldBytes, ring.first],
        [bytes.length + SEGMENT_OBJECT_BYTES, place + count],
      );
    }
    assert.equal(ring.dropSegment(), false);
    assert.deepEqual(segmentsOf(ring), before.slice(-1));
  });

  it('is given back up to a seq: a segment that also has newer frames stays, and loses them one by one', () => {
    const ring = filled({ segmentBytes: 1000 }, 30, 300);
    const [first, second] = segmentsOf(ring);
    const before = second!.seqOf(second!.place);
    assert.equal(ring.dropSegment(first!.seqOf(first!.place)), false);
    assert.equal(ring.dropSegment(before), true);
    assert.equal(ring.dropSegment(before), false);
    assert.equal(ring.dropSegment(second!.seqOf(second!.place + second!.count - 1)), false);
    assert.deepEqual([ring.first, ring.dropped], [second!.place, before - 1]);
    for (let left = ring.size - 1; left >= 1; left--) {
      assert.equal(ring.dropOldest(), true);
      assert.deepEqual([ring.size, ring.dropped], [left, 30 - left]);
    }
    assert.equal(ring.dropOldest(), false);
    assert.match(ring.read(29, 1).bytes.toString(), /^\.+30;$/);
    assert.equal(new FrameRing().dropOldest(), false);
  });

  it('is, once it is full, at most four times what its frames need, or two and a half from four segments on', () => {
    const anyFrames = fc.oneof(fc.integer({ min: 1, max: 60 }), fc.integer({ min: 1, max: 1000 }));
    const anyBytes = fc.oneof(fc.integer({ min: 0, max: 200 }), fc.integer({ min: 0, max: 5000 }));
    fc.assert(
      fc.property(
        anyFrames,
        anyBytes,
        fc.integer({ min: 64, max: SEGMENT }),
        (maxFrames, bytes, segmentBytes) => {
          const ring = new FrameRing({ maxFrames, segmentBytes });
          const frame = 'x'.repeat(bytes);
          const needed = maxFrames * (bytes + SLOT_BYTES);
          const isLong = needed >= 4 * Math.max(segmentBytes, bytes + SLOT_BYTES);
          for (let seq = 1; seq <= 2 * maxFrames + 200; seq++) {
            ring.push(seq, 0, frame);
            if (seq < maxFrames + 100) continue;
            const held = ring.heldBytes - segmentsOf(ring).length * SEGMENT_OBJECT_BYTES;
            assert.ok(held <= (isLong ? 2.5 : 4) * needed, `${held} bytes for ${needed}`);
          }
        },
      ),
    );
  });

  it('is no longer that of large frames, once small ones have taken their places', () => {
    for (const [maxFrames, large] of [
      [1, 1_000_000],
      [1, 5000],
      [10, 5000],
    ] as const) {
      const ring = new FrameRing({ maxFrames });
      for (let seq = 1; seq <= 20; seq++) ring.push(seq, 0, 'x'.repeat(large));
      assert.ok(ring.heldBytes >= maxFrames * large);
      for (let i = 0; i < SEGMENT / 20; i++) ring.push(ring.last + 1, 0, 'x'.repeat(20));
      const most = 4 * (maxFrames + 1) * (20 + SLOT_BYTES) + SEGMENT_OBJECT_BYTES;
      assert.ok(ring.heldBytes <= most, `${ring.heldBytes} bytes for ${maxFrames} frames`);
    }
  });

  it('has no more than one segment for many frames, also where one that was larger than a segment came before', () => {
    const ring = new FrameRing({ maxFrames: 1, segmentBytes: 1000 });
    ring.push(1, 0, 'x'.repeat(10_000));
    for (let seq = 2; seq <= 20; seq++) {
      ring.push(seq, 0, 'x'.repeat(900));
      assert.ok(ring.heldBytes <= 1000 + SEGMENT_OBJECT_BYTES, `${ring.heldBytes} bytes`);
    }
  });

  it('is little for frames whose times jump by more than a slot can state, again and again', () => {
    const ring = new FrameRing({ maxFrames: 2000 });
    for (let seq = 1; seq <= 4000; seq++) ring.push(seq, seq % 2 === 0 ? 0 : 2 ** 31, 'x'.repeat(100));
    const each = ring.heldBytes / ring.size;
    assert.ok(each <= SEGMENT_OBJECT_BYTES + 2 * (100 + SLOT_BYTES), `${each} bytes each`);
  });

  it('is not held for segments that are over, also that which was read last', async () => {
    const ring = new FrameRing({ maxFrames: 1000 });
    const seen = new Map<ArrayBufferLike, WeakRef<ArrayBufferLike>>();
    const push = () => {
      ring.push(ring.last + 1, 0, 'x'.repeat(1000));
      for (const place of [ring.first, ring.end - 1, ring.first]) {
        const { buffer } = ring.segmentAt(place).bytes;
        if (!seen.has(buffer)) seen.set(buffer, new WeakRef(buffer));
      }
    };
    const refused: string[] = [];
    for (let i = 0; i < 2200; i++) push();
    const refs = [...seen.values()];
    for (const drop of [
      () => {},
      () => ring.dropSegment(),
      () => ring.dropAllButNewest(),
      () => ring.clear(),
    ]) {
      ring.segmentAt(ring.first);
      drop();
      seen.clear();
      // A WeakRef that was made or read in this turn holds its target until the turn is over.
      await new Promise((resolve) => setImmediate(resolve));
      collectGarbage();
      const held = refs.filter((ref) => ref.deref() !== undefined).length;
      const needed = segmentsOf(ring).length;
      if (held > needed) refused.push(`${held} for ${needed}`);
    }
    assert.deepEqual(refused, []);
    assert.equal(ring.last, 2200);
  });
});
