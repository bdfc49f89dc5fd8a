import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { FrameRing } from '../lib/frame-ring.ts';
import { NewestOfKeys } from '../lib/newest.ts';
import {
  beforeNewest,
  conflate,
  cut,
  earliest,
  isNext,
  joinEntries,
  LogPageCache,
  nameTopic,
  type Page,
  PageCache,
  type PageEntry,
  readEntries,
  readPage,
} from '../lib/pages.ts';
import { segmentPrototype, times } from './helpers/hub.ts';

/** One topic: what it remembers, and everything that it ever had. */
class Source {
  readonly name: string;
  readonly ring: FrameRing;
  readonly all: PageEntry[] = [];
  readonly #newest: NewestOfKeys;

  constructor(name: string, maxFrames = Infinity, segmentBytes = 64 * 1024, dropped = 0) {
    this.name = name;
    this.ring = new FrameRing({ maxFrames, segmentBytes, dropped });
    this.#newest = new NewestOfKeys();
  }

  push(entry: PageEntry): void {
    this.all.push(entry);
    this.ring.push(entry.seq, 0, entry.frame);
    this.#newest.add(entry.key);
    this.#newest.dropBefore(this.ring.first);
  }

  newestFrom(place: number): number {
    return this.#newest.from(place);
  }
}

interface Case {
  readonly sources: readonly Source[];
  readonly head: number;
}

function entry(seq: number, topic = 'a', key?: string, text = ''): PageEntry {
  return { seq, topic, key, frame: Buffer.from(`id: ${seq}\ndata: ${text}\n\n`) };
}

/** A topic with these seqs. */
function sourceOf(...seqs: number[]): Source {
  const source = new Source('a');
  for (const seq of seqs) source.push(entry(seq));
  return source;
}

/** Topics that share one order of events, of which each remembers the newest few, in segments of any size. */
const anyCase: fc.Arbitrary<Case> = fc
  .record({
    capacities: fc.array(fc.integer({ min: 1, max: 12 }), { minLength: 1, maxLength: 4 }),
    segmentBytes: fc.oneof(fc.integer({ min: 1, max: 300 }), fc.constant(64 * 1024)),
    begun: fc.integer({ min: 0, max: 5 }),
    events: fc.array(
      fc.record({
        // One more than there are topics: some events are of topics that nobody asks for.
        topic: fc.nat({ max: 4 }),
        key: fc.constantFrom(undefined, 'k', 'l', '__proto__'),
        text: fc.constantFrom('', 'x', 'ü', 'x'.repeat(50)),
      }),
      { maxLength: 60, size: 'max' },
    ),
  })
  .map(({ capacities, segmentBytes, begun, events }) => {
    const entries = events.map(({ topic, key, text }, i) => entry(begun + i + 1, `t${topic}`, key, text));
    const sources = capacities.map((maxFrames, topic) => {
      const source = new Source(`t${topic}`, maxFrames, segmentBytes, begun);
      for (const one of entries) if (one.topic === source.name) source.push(one);
      return source;
    });
    return { sources, head: begun + entries.length };
  });

/** Everything that the topics remember, in order. */
function remembered({ sources }: Case): PageEntry[] {
  const entries = sources.flatMap(({ all, ring }) => (ring.size > 0 ? all.slice(-ring.size) : []));
  return entries.sort((a, b) => a.seq - b.seq);
}

const seqsOf = (entries: readonly PageEntry[]) => entries.map(({ seq }) => seq);

/** The seqs after one. */
function seqsAfter(sources: readonly Source[], after: number): number[] {
  return seqsOf(readEntries(sources, after, Infinity, false));
}

/** As many of the first entries as fit, by the words of the rule: at least one. */
function firstThatFit(entries: readonly PageEntry[], maxBytes: number): PageEntry[] {
  let size = 0;
  return entries.filter(({ frame }, i) => {
    size += frame.length;
    return i === 0 || size <= maxBytes;
  });
}

/** Without keys, which only a history has. */
const withoutKeys = (entries: readonly PageEntry[]) =>
  entries.map(({ seq, topic, frame }) => ({ seq, topic, frame }));

const anySeq = fc.integer({ min: 0, max: 50 });
const anySize = fc.oneof(fc.integer({ min: 1, max: 400 }), fc.constant(Infinity));

describe('readPage', () => {
  it('takes what all topics remember after a seq, in order, as far as it fits', () => {
    fc.assert(
      fc.property(anyCase, anySeq, anySize, (one, after, maxBytes) => {
        const wanted = remembered(one).filter(({ seq }) => seq > after);
        const page = readPage(one.sources, after, maxBytes, false);
        if (wanted.length === 0) return assert.equal(page, undefined);
        const { first, last, count, bytes } = page!;
        const taken = wanted.slice(0, count);
        assert.deepEqual([first, last], [taken[0]!.seq, taken.at(-1)!.seq]);
        assert.equal(bytes.toString(), joinEntries(taken).toString());
        const fitting = firstThatFit(wanted, maxBytes);
        // A page of one topic ends with its segment where it does not reach the end.
        const topics = new Set(wanted.map(({ topic }) => topic));
        if (topics.size > 1 || fitting.length === wanted.length) assert.equal(count, fitting.length);
        else assert.ok(count >= 1 && count <= fitting.length, `${count} of ${fitting.length}`);
      }),
    );
  });

  it('takes everything once, page by page, whatever the size of a page', () => {
    fc.assert(
      fc.property(anyCase, anySeq, anySize, (one, after, maxBytes) => {
        const wanted = remembered(one).filter(({ seq }) => seq > after);
        const pages: Buffer[] = [];
        for (let place = after; ; ) {
          const page = readPage(one.sources, place, maxBytes, false);
          if (page === undefined) break;
          pages.push(page.bytes);
          place = page.last;
        }
        assert.equal(Buffer.concat(pages).toString(), joinEntries(wanted).toString());
      }),
    );
  });

  it('counts the comments that name topics for the size of a page', () => {
    const { length } = entry(1).frame;
    const named = length + ': topic a\n'.length;
    const read = (maxBytes: number) => readPage([sourceOf(1, 2, 3)], 0, maxBytes, false, Infinity, true)!;
    assert.equal(read(2 * named - 1).count, 1);
    const { count, bytes } = read(2 * named);
    assert.equal(count, 2);
    assert.equal(bytes.toString(), `: topic a\n${entry(1).frame}: topic a\n${entry(2).frame}`);
    assert.deepEqual(nameTopic(entry(1)).frame, bytes.subarray(0, named));
  });

  it('takes as many events as fill a page to the last byte', () => {
    const [a, b] = [sourceOf(1, 2, 3), sourceOf(4)];
    const { length } = entry(1).frame;
    for (const sources of [[a], [a, b]]) {
      assert.equal(readPage(sources, 0, 2 * length, false)!.count, 2);
      assert.equal(readPage(sources, 0, 2 * length - 1, false)!.count, 1);
      assert.equal(readPage(sources, 0, 1, false)!.count, 1);
    }
  });

  it('takes only the newest of each key, the same ones whatever the size of a page', () => {
    fc.assert(
      fc.property(anyCase, anySeq, anySize, (one, after, maxBytes) => {
        const wanted = conflate(remembered(one)).filter(({ seq }) => seq > after);
        const pages: Buffer[] = [];
        let count = 0;
        for (let place = after; ; ) {
          const page = readPage(one.sources, place, maxBytes, true);
          if (page === undefined) break;
          assert.equal(page.count, firstThatFit(wanted.slice(count), maxBytes).length);
          assert.deepEqual(
            [page.first, page.last],
            [wanted[count]!.seq, wanted[count + page.count - 1]!.seq],
          );
          count += page.count;
          pages.push(page.bytes);
          place = page.last;
        }
        assert.equal(count, wanted.length);
        assert.equal(Buffer.concat(pages).toString(), joinEntries(wanted).toString());
      }),
    );
  });

  it('looks at no event that it does not take, but for one of each topic and the look-up of its place', (t) => {
    const looks = t.mock.method(segmentPrototype(), 'seqOf').mock;
    for (const topics of [1, 2, 64, 300]) {
      const sources = times(topics, (topic) => {
        const source = new Source(`t${topic}`, 2 ** 10);
        for (let i = 0; i < 2 ** 10; i++)
          source.push(entry(1 + i * topics + topic, `t${topic}`, `k${i % 4}`));
        return source;
      });
      looks.resetCalls();
      const { count } = readPage(sources, 500 * topics, 100 * topics, false)!;
      const seen = looks.callCount();
      assert.ok(count > topics);
      assert.ok(seen <= count + topics * 13 + 2, `${seen} for ${count} of ${topics} topics`);
      looks.resetCalls();
      assert.equal(readPage(sources, 0, Infinity, true)!.count, 4 * topics);
      const newest = looks.callCount();
      assert.ok(
        newest >= 1 && newest <= topics * (4 + 13) + 2,
        `${newest} for 4 of each of ${topics} topics`,
      );
    }
  });

  it('gives a part of the history of one topic, without a copy, where the page is large', () => {
    const source = new Source('a');
    for (let seq = 1; seq <= 200; seq++) source.push(entry(seq, 'a', undefined, 'x'.repeat(300)));
    const page = readPage([source, new Source('b')], 0, 32 * 1024, false)!;
    assert.equal(page.bytes.buffer, source.ring.segmentAt(0).bytes.buffer);
    assert.equal(page.runs, 1);
  });

  it('counts the runs that it copies: events that lie one behind the other are one', () => {
    const [a, b] = [new Source('a'), new Source('b')];
    for (const seq of [1, 2, 3, 7, 8]) a.push(entry(seq, 'a', 'k'));
    for (const seq of [4, 5, 6]) b.push(entry(seq, 'b', `k${seq}`));
    assert.equal(readPage([a, b], 0, Infinity, false)!.runs, 3);
    assert.equal(readPage([a, b], 3, Infinity, false)!.runs, 2);
    const { count, runs } = readPage([a, b], 0, Infinity, true)!;
    assert.deepEqual([count, runs], [4, 2]);
  });
});

describe('readEntries', () => {
  it('gives the same events one by one, as far as they fit', () => {
    fc.assert(
      fc.property(anyCase, anySeq, anySize, fc.boolean(), (one, after, maxBytes, newestOnly) => {
        const entries = newestOnly ? conflate(remembered(one)) : remembered(one);
        const wanted = firstThatFit(
          entries.filter(({ seq }) => seq > after),
          maxBytes,
        );
        const taken = readEntries(one.sources, after, maxBytes, newestOnly);
        assert.deepEqual(withoutKeys(taken), withoutKeys(wanted));
      }),
    );
  });

  it('gives parts of the history, without a copy', () => {
    const source = sourceOf(1);
    const [own] = readEntries([source], 0, 1, false);
    assert.equal(own!.frame.buffer, source.ring.segmentAt(0).bytes.buffer);
  });
});

describe('conflate', () => {
  it('keeps the newest entry of each key of each topic and all entries without a key, in order', () => {
    fc.assert(
      fc.property(anyCase, (one) => {
        const entries = remembered(one);
        const wanted = entries.filter(
          ({ topic, key }, i) =>
            key === undefined ||
            !entries.slice(i + 1).some((later) => later.topic === topic && later.key === key),
        );
        assert.deepEqual(conflate(entries), wanted);
      }),
    );
  });

  it('leaves the list that it is given as it is', () => {
    const entries = [entry(1, 'a', 'k'), entry(2, 'a', 'k')];
    conflate(entries);
    assert.deepEqual(seqsOf(entries), [1, 2]);
  });
});

describe('cut', () => {
  it('takes the first entries that fit together, and one where none does', () => {
    fc.assert(
      fc.property(anyCase, anySize, (one, maxBytes) => {
        const entries = remembered(one);
        assert.deepEqual(cut(entries, maxBytes), firstThatFit(entries, maxBytes));
      }),
    );
  });

  it('takes an entry that fills the size exactly', () => {
    const entries = [entry(1), entry(2)];
    const { length } = joinEntries(entries);
    assert.equal(cut(entries, length).length, 2);
    assert.equal(cut(entries, length - 1).length, 1);
  });
});

describe('earliest', () => {
  it('finds the greatest seq that precedes everything in the history', () => {
    fc.assert(
      fc.property(anyCase, (one) => {
        const from = earliest(one.sources, one.head);
        const entries = remembered(one);
        assert.deepEqual(seqsAfter(one.sources, from), seqsOf(entries));
        if (entries.length === 0) assert.equal(from, one.head);
      }),
    );
  });

  it('is where at least one topic has lost nothing', () => {
    fc.assert(
      fc.property(anyCase, (one) => {
        const from = earliest(one.sources, one.head);
        const isWhole = ({ all, ring }: Source) =>
          all.filter(({ seq }) => seq > from).length === ring.size && ring.size > 0;
        assert.ok(from === one.head || one.sources.some(isWhole));
      }),
    );
  });

  it('is the head where nothing is remembered and where there is no topic', () => {
    assert.equal(earliest([], 7), 7);
    assert.equal(earliest([new Source('a', 1, 1, 3)], 7), 7);
  });
});

describe('beforeNewest', () => {
  it('finds the seq after which so many entries of all topics come, or all where there are fewer', () => {
    fc.assert(
      fc.property(anyCase, fc.integer({ min: 0, max: 50 }), (one, count) => {
        const after = beforeNewest(one.sources, count, one.head);
        const entries = remembered(one);
        const wanted = count === 0 ? [] : entries.slice(-count);
        assert.deepEqual(seqsAfter(one.sources, after), seqsOf(wanted));
      }),
    );
  });

  it('finds the seq just before the oldest of them, so that nothing else is skipped', () => {
    const source = sourceOf(2, 5, 9);
    assert.deepEqual(
      [0, 1, 2, 3, 4].map((count) => beforeNewest([source], count, 12)),
      [12, 8, 4, 1, 1],
    );
  });

  it('looks at few entries, however many are remembered', (t) => {
    const source = new Source('a');
    for (let seq = 1; seq <= 20_000; seq++) source.push(entry(seq));
    const looks = t.mock.method(source.ring, 'placeAfter').mock;
    assert.equal(beforeNewest([source], 10_000, 20_000), 10_000);
    assert.ok(looks.callCount() < 20, `${looks.callCount()} look-ups`);
  });
});

describe('joinEntries', () => {
  it('joins the frames, one after another', () => {
    const entries = [entry(1, 'a', undefined, 'ü'), entry(2, 'b', 'k'), entry(3)];
    assert.equal(joinEntries(entries).toString(), 'id: 1\ndata: ü\n\nid: 2\ndata: \n\nid: 3\ndata: \n\n');
    assert.equal(joinEntries([]).length, 0);
  });
});

/** A page of one event. */
function pageOf(after: number, first: number, length = 1): Page {
  const bytes = Buffer.alloc(length);
  return { after, first, until: first, count: 1, bytes, made: undefined, cost: length };
}

describe('isNext', () => {
  it('holds from where the page was made up to its first entry', () => {
    const page = pageOf(3, 7);
    assert.deepEqual(
      [2, 3, 6, 7].map((after) => isNext(page, after)),
      [false, true, true, false],
    );
  });
});

describe('PageCache', () => {
  const page = (after: number, bytes = 1) => pageOf(after, after + 1, bytes);

  it('finds a page only for its owner and only at the positions that it serves', () => {
    const cache = new PageCache<string>();
    const kept = page(3);
    cache.keep('me', kept);
    assert.equal(cache.find('me', 3), kept);
    assert.equal(cache.find('me', 4), undefined);
    assert.equal(cache.find('you', 3), undefined);
  });

  it('keeps the last sixteen pages of all owners together', () => {
    const cache = new PageCache<string>();
    for (let after = 0; after < 20; after++) cache.keep(after % 2 ? 'me' : 'you', page(after));
    const found = times(20, (after) => cache.find(after % 2 ? 'me' : 'you', after));
    assert.deepEqual(
      found.map((one) => one !== undefined),
      times(20, (after) => after >= 4),
    );
  });

  it('keeps a mebibyte at most, the newest pages', () => {
    const cache = new PageCache<string>();
    for (let after = 0; after < 5; after++) cache.keep('me', page(after, 300 * 1024));
    const found = times(5, (after) => cache.find('me', after) !== undefined);
    assert.deepEqual(found, [false, false, true, true, true]);
  });

  it('keeps no page that is larger than all it may keep', () => {
    const cache = new PageCache<string>();
    cache.keep('me', page(0));
    cache.keep('me', page(1, 2 * 1024 * 1024));
    assert.equal(cache.find('me', 1), undefined);
    cache.keep('me', page(2));
    assert.notEqual(cache.find('me', 2), undefined);
  });

  it('forgets the pages of one owner and makes room for as many bytes', () => {
    const cache = new PageCache<string>();
    cache.keep('me', page(0, 500 * 1024));
    cache.keep('you', page(0, 500 * 1024));
    cache.delete('me');
    assert.equal(cache.find('me', 0), undefined);
    cache.keep('me', page(1, 500 * 1024));
    assert.notEqual(cache.find('you', 0), undefined);
  });
});

describe('LogPageCache', () => {
  /** What comes after a place up to `until`, where the events have these seqs and frames of `size` bytes. */
  function logPage(after: number, seqs: readonly number[], until: number, size = 10) {
    const entries = seqs.map((seq) => ({
      seq,
      topic: 'a',
      frame: Buffer.alloc(size, `${seq};`),
      id: `7-${seq}`,
    }));
    const bytes = joinEntries(entries);
    const first = seqs[0] ?? until;
    const page = { after, first, until, count: seqs.length, bytes, made: undefined, cost: bytes.length };
    return { page, entries };
  }

  it('finds for each place in a page the events that come after it, and nothing outside of it', () => {
    const cache = new LogPageCache<string>();
    const { page, entries } = logPage(3, [5, 6, 9], 12);
    cache.keep('me', page, entries, 0);
    for (const after of [0, 2, 12, 13]) assert.equal(cache.find('me', after, 0), undefined);
    for (const [after, left] of [
      [3, 3],
      [4, 3],
      [5, 2],
      [6, 1],
      [8, 1],
      [9, 0],
      [11, 0],
    ] as const) {
      const found = cache.find('me', after, 0)!;
      const rest = left === 0 ? [] : entries.slice(-left);
      assert.deepEqual([found.count, found.until, found.first], [left, 12, rest[0]?.seq ?? 12]);
      assert.equal(found.bytes.toString(), joinEntries(rest).toString());
    }
    assert.equal(cache.find('you', 3, 0), undefined);
  });

  it('holds no large page in memory for a reader who needs a small part of it', () => {
    const cache = new LogPageCache<string>();
    for (const [size, isPart] of [
      [30_000, true],
      [15_000, false],
    ] as const) {
      const { page, entries } = logPage(0, [1, 2], 2, size);
      cache.keep('me', page, entries, 0);
      const { bytes } = cache.find('me', 1, 0)!;
      page.bytes.fill(0);
      assert.equal(bytes[0] === 0, isPart);
      cache.clear();
    }
  });

  it('keeps the last sixteen pages, and a mebibyte at most', () => {
    for (const [size, kept] of [
      [1, 16],
      [300 * 1024, 3],
    ] as const) {
      const cache = new LogPageCache<string>();
      for (let after = 0; after < 20; after++) {
        const { page, entries } = logPage(after, [after + 1], after + 1, size);
        cache.keep('me', page, entries, 0);
      }
      assert.deepEqual(
        times(20, (after) => cache.find('me', after, 0) !== undefined),
        times(20, (after) => after >= 20 - kept),
      );
    }
  });

  it('has nothing after it was cleared, and room for as much as before', () => {
    const cache = new LogPageCache<string>();
    const keep = (after: number) => {
      const { page, entries } = logPage(after, [after + 1], after + 1, 500 * 1024);
      cache.keep('me', page, entries, 0);
    };
    keep(0);
    cache.clear();
    assert.equal(cache.find('me', 0, 0), undefined);
    keep(1);
    keep(2);
    assert.deepEqual(
      [1, 2].map((after) => cache.find('me', after, 0) !== undefined),
      [true, true],
    );
  });
});
