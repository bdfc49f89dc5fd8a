import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { ReplayBuffer, type ReplayEntry, type ReplayOptions } from '../lib/replay.ts';
import { collectGarbage } from './helpers/garbage.ts';

const entry = (seq: number, bytes = 1, at = 0): ReplayEntry => ({ seq, bytes, at });

function filled(options: ReplayOptions, ...seqs: number[]): ReplayBuffer<ReplayEntry> {
  const buffer = new ReplayBuffer(options);
  for (const seq of seqs) buffer.push(entry(seq));
  return buffer;
}

const seqsAfter = (buffer: ReplayBuffer<ReplayEntry>, seq: number) =>
  buffer.after(seq)?.map((one) => one.seq);

describe('ReplayBuffer', () => {
  it('returns the entries after a seq, oldest first', () => {
    const buffer = filled({}, 1, 2, 3);
    assert.deepEqual(seqsAfter(buffer, 0), [1, 2, 3]);
    assert.deepEqual(seqsAfter(buffer, 2), [3]);
  });

  it('returns an empty list where nothing came after, and undefined where entries are missing or the seq lies ahead', () => {
    const buffer = filled({ maxEntries: 2 }, 1, 2, 3);
    assert.deepEqual(buffer.after(3), []);
    assert.equal(buffer.after(0), undefined);
    assert.equal(buffer.after(4), undefined);
    assert.deepEqual(new ReplayBuffer().after(0), []);
    assert.equal(new ReplayBuffer().after(1), undefined);
  });

  it('treats NaN as a seq that lies ahead', () => {
    assert.equal(filled({}, 1).after(NaN), undefined);
  });

  it('returns the entries after the newest dropped seq, since a reader there has missed nothing', () => {
    const buffer = filled({ maxEntries: 2 }, 1, 2, 3, 4);
    assert.equal(buffer.dropped, 2);
    assert.deepEqual(seqsAfter(buffer, 2), [3, 4]);
    assert.equal(buffer.after(1), undefined);
  });

  it('returns the same objects that were pushed', () => {
    const buffer = new ReplayBuffer<ReplayEntry & { text: string }>();
    const one = { ...entry(1), text: 'one' };
    buffer.push(one);
    assert.equal(buffer.after(0)?.[0], one);
    assert.equal(buffer.at(0), one);
  });

  it('accepts a seq that lies in a gap between entries', () => {
    const buffer = filled({ maxEntries: 3 }, 2, 5, 9, 14);
    assert.deepEqual(seqsAfter(buffer, 3), [5, 9, 14]);
    assert.deepEqual(seqsAfter(buffer, 7), [9, 14]);
    assert.deepEqual(seqsAfter(buffer, 13), [14]);
    assert.equal(buffer.after(1), undefined);
  });

  it('keeps the order when the ring has wrapped many times', () => {
    const buffer = new ReplayBuffer({ maxEntries: 5 });
    for (let seq = 1; seq <= 1003; seq++) buffer.push(entry(seq));
    assert.deepEqual(seqsAfter(buffer, 998), [999, 1000, 1001, 1002, 1003]);
    assert.equal(buffer.size, 5);
  });

  it('keeps the order when it grows while it is wrapped', () => {
    const buffer = new ReplayBuffer({ maxBytes: 100 });
    // Seven large entries at a time wrap around the first eight slots; small ones then make the ring grow.
    for (let seq = 1; seq <= 20; seq++) buffer.push(entry(seq, 14));
    for (let seq = 21; seq <= 90; seq++) buffer.push(entry(seq, 1));
    assert.deepEqual(
      seqsAfter(buffer, buffer.dropped),
      Array.from({ length: buffer.size }, (_, i) => buffer.dropped + 1 + i),
    );
    assert.equal(buffer.bytes, 98);
  });

  it('keeps at most maxEntries, by default 1,000', () => {
    assert.deepEqual(seqsAfter(filled({ maxEntries: 1 }, 1, 2, 3), 2), [3]);
    assert.equal(filled({}, ...Array.from({ length: 1500 }, (_, i) => i + 1)).size, 1000);
  });

  it('keeps any number of entries where maxEntries is Infinity', () => {
    assert.equal(
      filled({ maxEntries: Infinity }, ...Array.from({ length: 5000 }, (_, i) => i + 1)).size,
      5000,
    );
  });

  it('drops no more old entries than a large new one needs', () => {
    const buffer = new ReplayBuffer({ maxBytes: 10 });
    for (let seq = 1; seq <= 5; seq++) buffer.push(entry(seq, 2));
    assert.equal(buffer.bytes, 10);
    buffer.push(entry(6, 3));
    assert.deepEqual(seqsAfter(buffer, 2), [3, 4, 5, 6]);
    assert.equal(buffer.bytes, 9);
    buffer.push(entry(7, 10));
    assert.deepEqual(seqsAfter(buffer, 6), [7]);
  });

  it('refuses an entry larger than maxBytes, and drops nothing for it', () => {
    const buffer = new ReplayBuffer({ maxBytes: 10 });
    buffer.push(entry(1, 10));
    const refusal = { name: 'RangeError', message: /`maxBytes` 10, got 11/ };
    assert.throws(() => buffer.check(entry(2, 11)), refusal);
    assert.throws(() => buffer.push(entry(2, 11)), refusal);
    assert.deepEqual([buffer.last, buffer.size, buffer.bytes], [1, 1, 10]);
  });

  it('refuses bytes that are NaN or negative', () => {
    const buffer = new ReplayBuffer({ maxBytes: 10 });
    assert.throws(() => buffer.push(entry(1, NaN)), RangeError);
    assert.throws(() => buffer.push(entry(1, -1)), RangeError);
    assert.equal(buffer.bytes, 0);
  });

  it('refuses a seq that is not above the last one', () => {
    const buffer = filled({}, 1, 7);
    for (const seq of [7, 6, 0, -1, NaN]) {
      assert.throws(() => buffer.push(entry(seq)), {
        name: 'RangeError',
        message: /`seq` must be above 7, got/,
      });
    }
    assert.deepEqual(seqsAfter(buffer, 0), [1, 7]);
  });

  it('drops entries older than maxAge at each push', () => {
    const buffer = new ReplayBuffer({ maxAge: 100 });
    for (const at of [0, 50, 100, 101]) buffer.push(entry(buffer.last + 1, 1, at));
    assert.deepEqual(seqsAfter(buffer, 1), [2, 3, 4]);
  });

  it('drops entries older than maxAge at expire, even the newest', () => {
    const buffer = new ReplayBuffer({ maxAge: 100 });
    for (const at of [0, 50]) buffer.push(entry(buffer.last + 1, 1, at));
    buffer.expire(100);
    assert.deepEqual(seqsAfter(buffer, 0), [1, 2]);
    buffer.expire(101);
    assert.deepEqual(seqsAfter(buffer, 1), [2]);
    assert.equal(buffer.after(0), undefined);
    buffer.expire(1000);
    assert.deepEqual([buffer.size, buffer.bytes, buffer.dropped, buffer.last], [0, 0, 2, 2]);
    assert.deepEqual(buffer.after(2), []);
  });

  it('expires nothing without maxAge', () => {
    const buffer = filled({}, 1);
    buffer.expire(Number.MAX_SAFE_INTEGER);
    assert.equal(buffer.size, 1);
  });

  it('keeps nothing after clear, and continues the order', () => {
    const buffer = filled({}, 1, 2, 3);
    buffer.clear();
    assert.deepEqual([buffer.size, buffer.bytes, buffer.dropped, buffer.last], [0, 0, 3, 3]);
    assert.deepEqual(buffer.after(3), []);
    assert.equal(buffer.after(2), undefined);
    assert.equal(buffer.at(0), undefined);
    assert.throws(() => buffer.push(entry(3)), RangeError);
    buffer.push(entry(4));
    assert.deepEqual(seqsAfter(buffer, 3), [4]);
  });

  it('may begin amid an order', () => {
    const buffer = new ReplayBuffer({ dropped: 41 });
    assert.equal(buffer.after(40), undefined);
    assert.deepEqual(buffer.after(41), []);
    assert.throws(() => buffer.push(entry(41)), RangeError);
    buffer.push(entry(42));
    assert.deepEqual(seqsAfter(buffer, 41), [42]);
  });

  it('returns undefined for an index out of range', () => {
    const buffer = filled({ maxEntries: 2 }, 1, 2, 3);
    assert.deepEqual(
      [-1, 0, 1, 2].map((index) => buffer.at(index)?.seq),
      [undefined, 2, 3, undefined],
    );
  });

  it('refuses options out of range, naming option and value', () => {
    const options: [keyof ReplayOptions, unknown[]][] = [
      ['maxEntries', [0, -1, NaN, 1.5, '5', null]],
      ['maxBytes', [0, -1, NaN, '5', null]],
      ['maxAge', [0, -1, NaN, '5', null]],
      ['dropped', [-1, NaN, 0.5, '5', null]],
    ];
    for (const [name, values] of options) {
      for (const value of values) {
        assert.throws(() => new ReplayBuffer({ [name]: value }), {
          name: 'RangeError',
          message: new RegExp(`^\`${name}\` must be .* got ${value}$`),
        });
      }
    }
  });

  it('releases dropped entries to the garbage collector', async () => {
    const { registered, collected } = watchGarbage();
    const buffer = new ReplayBuffer({ maxEntries: 4 });
    for (let seq = 1; seq <= 100; seq++) buffer.push(registered(entry(seq)));
    await collected(96);
    // Read again, so that the buffer itself was not what was collected.
    assert.equal(buffer.size, 4);
  });

  it('gives its slots back once everything has expired', () => {
    const buffer = new ReplayBuffer({ maxEntries: Infinity, maxAge: 1 });
    collectGarbage();
    const before = process.memoryUsage().heapUsed;
    for (let seq = 1; seq <= 2 ** 20; seq++) buffer.push(entry(seq));
    buffer.expire(2);
    collectGarbage();
    const held = process.memoryUsage().heapUsed - before;
    assert.ok(held < 2e6, `${held} bytes of 8 MiB are still held`);
    // Read again, so that the buffer itself was not what was collected.
    assert.equal(buffer.size, 0);
  });
});

/** `collected` resolves once so many registered objects were collected; otherwise the test times out. */
function watchGarbage() {
  let seen = 0;
  let wake = () => {};
  const registry = new FinalizationRegistry<undefined>(() => {
    seen++;
    wake();
  });
  const registered = <T extends object>(object: T): T => {
    registry.register(object, undefined);
    return object;
  };
  const collected = async (count: number) => {
    while (seen < count) {
      const woken = new Promise<void>((resolve) => {
        wake = resolve;
      });
      collectGarbage();
      await woken;
    }
  };
  return { registered, collected };
}

/** The same behaviour, by searching an array from end to end. */
class Model {
  entries: ReplayEntry[] = [];
  dropped = 0;
  last = 0;
  readonly options: { maxEntries: number; maxBytes: number; maxAge: number };

  constructor(options: { maxEntries: number; maxBytes: number; maxAge: number }) {
    this.options = options;
  }

  get bytes(): number {
    return this.entries.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  push(added: ReplayEntry): boolean {
    const { maxEntries, maxBytes } = this.options;
    if (added.seq <= this.last || added.bytes > maxBytes) return false;
    while (this.entries.length >= maxEntries || this.bytes + added.bytes > maxBytes) this.drop(1);
    this.expire(added.at);
    this.entries.push(added);
    this.last = added.seq;
    return true;
  }

  expire(now: number): void {
    const young = this.entries.findIndex(({ at }) => at >= now - this.options.maxAge);
    this.drop(young === -1 ? this.entries.length : young);
  }

  drop(count: number): void {
    for (const { seq } of this.entries.splice(0, count)) this.dropped = seq;
  }

  clear(): void {
    this.entries = [];
    this.dropped = this.last;
  }

  after(seq: number): ReplayEntry[] | undefined {
    if (seq < this.dropped || seq > this.last) return undefined;
    return this.entries.filter((one) => one.seq > seq);
  }
}

const limits = fc.record({
  maxEntries: fc.oneof(fc.integer({ min: 1, max: 20 }), fc.constant(Infinity)),
  maxBytes: fc.oneof(fc.integer({ min: 1, max: 60 }), fc.constant(Infinity)),
  maxAge: fc.oneof(fc.integer({ min: 1, max: 60 }), fc.constant(Infinity)),
});

const pushes = fc.record({
  do: fc.constant('push' as const),
  // 0 repeats a seq, above 1 leaves a gap; the clock may step back.
  gap: fc.integer({ min: 0, max: 4 }),
  bytes: fc.integer({ min: 0, max: 70 }),
  passed: fc.integer({ min: -5, max: 20 }),
});
const operation = fc.oneof(
  { weight: 20, arbitrary: pushes },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('expire' as const), passed: fc.nat(70) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('clear' as const) }) },
);

describe('ReplayBuffer against a model', () => {
  it('returns the same as the model, whatever is pushed, expired and cleared', () => {
    fc.assert(
      fc.property(limits, fc.array(operation, { maxLength: 120 }), (options, operations) => {
        const model = new Model(options);
        const buffer = new ReplayBuffer(options);
        let now = 0;
        for (const step of operations) {
          if (step.do === 'clear') {
            model.clear();
            buffer.clear();
          } else if (step.do === 'expire') {
            now += step.passed;
            model.expire(now);
            buffer.expire(now);
          } else {
            now += step.passed;
            const added = entry(model.last + step.gap, step.bytes, now);
            assert.equal(accepted(buffer, added), model.push(added));
          }
          agree(buffer, model);
        }
      }),
      { numRuns: 300 },
    );
  });
});

function accepted(buffer: ReplayBuffer<ReplayEntry>, added: ReplayEntry): boolean {
  try {
    buffer.push(added);
    return true;
  } catch (error) {
    assert.ok(error instanceof RangeError);
    return false;
  }
}

function agree(buffer: ReplayBuffer<ReplayEntry>, model: Model): void {
  assert.deepEqual(
    { size: buffer.size, bytes: buffer.bytes, dropped: buffer.dropped, last: buffer.last },
    { size: model.entries.length, bytes: model.bytes, dropped: model.dropped, last: model.last },
  );
  for (let seq = -1; seq <= model.last + 1; seq++) {
    const expected = model.after(seq);
    assert.deepEqual(buffer.after(seq), expected);
    const index = buffer.indexAfter(seq);
    if (expected === undefined) assert.equal(index, seq > model.last ? buffer.size : -1);
    else assert.deepEqual([buffer.at(index), buffer.size - index], [expected[0], expected.length]);
  }
}
