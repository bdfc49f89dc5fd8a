import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { NewestOfKeys } from '../lib/newest.ts';
import {
  beforeNewest,
  conflate,
  cut,
  earliest,
  isNext,
  joinPage,
  merge,
  type Page,
  PageCache,
  type PageEntry,
  type PageSource,
} from '../lib/pages.ts';
import { ReplayBuffer } from '../lib/replay.ts';
import { times } from './helpers/hub.ts';

interface Entry extends PageEntry {
  readonly at: number;
}

/** One topic: what it remembers, and everything that it ever had. */
interface Source {
  readonly ring: ReplayBuffer<Entry>;
  readonly all: readonly Entry[];
}

interface Case {
  readonly sources: readonly Source[];
  readonly head: number;
}

function entry(seq: number, topic = 'a', key?: string, text = ''): Entry {
  const frame = `id: ${seq}\ndata: ${text}\n\n`;
  return { seq, topic, key, frame, bytes: Buffer.byteLength(frame), at: 0 };
}

/** Topics that share one order of events, of which each remembers the newest few. */
const anyCase: fc.Arbitrary<Case> = fc
  .record({
    capacities: fc.array(fc.integer({ min: 1, max: 12 }), { minLength: 1, maxLength: 4 }),
    begun: fc.integer({ min: 0, max: 5 }),
    events: fc.array(
      fc.record({
        // One more than there are topics: some events are of topics that nobody asks for.
        topic: fc.nat({ max: 4 }),
        key: fc.constantFrom(undefined, 'k', 'l', '__proto__'),
        text: fc.constantFrom('', 'x', 'ü', 'x'.repeat(50)),
      }),
      { maxLength: 40 },
    ),
  })
  .map(({ capacities, begun, events }) => {
    const entries = events.map(({ topic, key, text }, i) => entry(begun + i + 1, `t${topic}`, key, text));
    const sources = capacities.map((maxEntries, topic) => {
      const ring = new ReplayBuffer<Entry>({ maxEntries, dropped: begun });
      const all = entries.filter((one) => one.topic === `t${topic}`);
      for (const one of all) ring.push(one);
      return { ring, all };
    });
    return { sources, head: begun + entries.length };
  });

const rings = ({ sources }: Case) => sources.map(({ ring }) => ring);

/** A topic that knows the newest of its keys. */
function withKeys(ring: ReplayBuffer<Entry>): PageSource<Entry> {
  const newest = new NewestOfKeys();
  for (let i = 0; i < ring.size; i++) newest.add(ring.at(i)!.key);
  return Object.assign(ring, { newestFrom: (index: number) => newest.from(index) });
}

/** Everything that the topics remember, in order. */
function remembered({ sources }: Case): Entry[] {
  const entries = sources.flatMap(({ ring }) => times(ring.size, (i) => ring.at(i)!));
  return entries.sort((a, b) => a.seq - b.seq);
}

const seqsOf = (entries: readonly PageEntry[]) => entries.map(({ seq }) => seq);

/** As many of the first entries as fit, by the words of the rule: at least one. */
function firstThatFit(entries: readonly Entry[], maxBytes: number): Entry[] {
  const sizes = entries.map((_, i) => entries.slice(0, i + 1).reduce((sum, { bytes }) => sum + bytes, 0));
  return entries.filter((_, i) => i === 0 || sizes[i]! <= maxBytes);
}

const anySeq = fc.integer({ min: 0, max: 50 });
const anySize = fc.oneof(fc.integer({ min: 1, max: 400 }), fc.constant(Infinity));

describe('merge', () => {
  it('takes what all topics remember after a seq, in order, as far as it fits', () => {
    fc.assert(
      fc.property(anyCase, anySeq, anySize, (one, after, maxBytes) => {
        const wanted = remembered(one).filter(({ seq }) => seq > after);
        assert.deepEqual(seqsOf(merge(rings(one), after, maxBytes)), seqsOf(firstThatFit(wanted, maxBytes)));
      }),
    );
  });

  it('takes as many entries as fill a page to the last byte', () => {
    const ring = new ReplayBuffer<Entry>();
    for (let seq = 1; seq <= 3; seq++) ring.push(entry(seq));
    const { bytes } = entry(1);
    assert.deepEqual(seqsOf(merge([ring], 0, 2 * bytes)), [1, 2]);
    assert.deepEqual(seqsOf(merge([ring], 0, 2 * bytes - 1)), [1]);
  });

  it('takes only the newest of each key, the same ones whatever the size of a page', () => {
    fc.assert(
      fc.property(anyCase, anySeq, anySize, (one, after, maxBytes) => {
        const sources = one.sources.map(({ ring }) => withKeys(ring));
        const wanted = conflate(remembered(one)).filter(({ seq }) => seq > after);
        const taken: number[] = [];
        for (let place = after; ; place = taken.at(-1)!) {
          const page = merge(sources, place, maxBytes, true);
          if (page.length === 0) break;
          assert.deepEqual(page, firstThatFit(page, maxBytes));
          taken.push(...seqsOf(page));
        }
        assert.deepEqual(taken, seqsOf(wanted));
      }),
    );
  });

  it('looks at no entry that it does not take, but for one of each topic and the look-up of its place', () => {
    for (const topics of [1, 2, 64, 300]) {
      let looks = 0;
      const sources = times(topics, (topic) => {
        const ring = new ReplayBuffer<Entry>({ maxEntries: 2 ** 10 });
        for (let i = 0; i < 2 ** 10; i++) ring.push(entry(1 + i * topics + topic, `t${topic}`, `k${i % 4}`));
        const { at } = ring;
        ring.at = (index) => {
          looks++;
          return at.call(ring, index);
        };
        return withKeys(ring);
      });
      looks = 0;
      const all = merge(sources, 500 * topics, 100 * topics);
      assert.ok(all.length > topics);
      assert.ok(looks <= all.length + topics * 13, `${looks} for ${all.length} of ${topics} topics`);
      looks = 0;
      assert.equal(merge(sources, 0, Infinity, true).length, 4 * topics);
      assert.ok(looks <= topics * (4 + 13), `${looks} for 4 of each of ${topics} topics`);
    }
  });

  it('gives the entries of the topics themselves, without a copy', () => {
    const ring = new ReplayBuffer<Entry>();
    const own = entry(1);
    ring.push(own);
    assert.equal(merge([ring], 0, 1)[0], own);
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
    assert.equal(cut(entries, entries[0]!.bytes + entries[1]!.bytes).length, 2);
    assert.equal(cut(entries, entries[0]!.bytes + entries[1]!.bytes - 1).length, 1);
  });
});

describe('earliest', () => {
  it('finds the greatest seq that precedes everything in the history', () => {
    fc.assert(
      fc.property(anyCase, (one) => {
        const from = earliest(rings(one), one.head);
        const entries = remembered(one);
        assert.deepEqual(merge(rings(one), from, Infinity), entries);
        if (entries.length === 0) assert.equal(from, one.head);
      }),
    );
  });

  it('is where at least one topic has lost nothing', () => {
    fc.assert(
      fc.property(anyCase, (one) => {
        const from = earliest(rings(one), one.head);
        const isWhole = ({ all, ring }: Source) =>
          all.filter(({ seq }) => seq > from).length === ring.size && ring.size > 0;
        assert.ok(from === one.head || one.sources.some(isWhole));
      }),
    );
  });

  it('is the head where nothing is remembered and where there is no topic', () => {
    assert.equal(earliest([], 7), 7);
    assert.equal(earliest([new ReplayBuffer<Entry>({ dropped: 3 })], 7), 7);
  });
});

describe('beforeNewest', () => {
  it('finds the seq after which so many entries of all topics come, or all where there are fewer', () => {
    fc.assert(
      fc.property(anyCase, fc.integer({ min: 0, max: 50 }), (one, count) => {
        const after = beforeNewest(rings(one), count, one.head);
        const entries = remembered(one);
        const wanted = count === 0 ? [] : entries.slice(-count);
        assert.deepEqual(seqsOf(merge(rings(one), after, Infinity)), seqsOf(wanted));
      }),
    );
  });

  it('finds the seq just before the oldest of them, so that nothing else is skipped', () => {
    const ring = new ReplayBuffer<Entry>();
    for (const seq of [2, 5, 9]) ring.push(entry(seq));
    assert.deepEqual(
      [0, 1, 2, 3, 4].map((count) => beforeNewest([ring], count, 12)),
      [12, 8, 4, 1, 1],
    );
  });

  it('looks at few entries, however many are remembered', () => {
    const ring = new ReplayBuffer<Entry>({ maxEntries: Infinity });
    for (let seq = 1; seq <= 20_000; seq++) ring.push(entry(seq));
    let looks = 0;
    const counting = new Proxy(ring, {
      get(target, name) {
        if (name === 'indexAfter') looks++;
        const value = Reflect.get(target, name, target);
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
    assert.equal(beforeNewest([counting], 10_000, 20_000), 10_000);
    assert.ok(looks < 20, `${looks} look-ups`);
  });
});

describe('joinPage', () => {
  it('writes the frames one after another as UTF-8, whether they are ASCII or not', () => {
    fc.assert(
      fc.property(anyCase, fc.boolean(), (one, trustBytes) => {
        const entries = remembered(one);
        const page = joinPage(entries, { after: 1, first: 2, until: 3 }, trustBytes);
        assert.equal(page.bytes.toString('utf8'), entries.map(({ frame }) => frame).join(''));
        assert.deepEqual([page.after, page.first, page.until, page.count], [1, 2, 3, entries.length]);
        assert.equal(page.cost, page.bytes.length);
      }),
    );
  });

  it('does not rely on the sizes that the entries state', () => {
    const lying = { ...entry(1, 'a', undefined, 'ü'), bytes: entry(1, 'a', undefined, 'ü').frame.length };
    const page = joinPage([lying], { after: 0, first: 1, until: 1 }, false);
    assert.equal(page.bytes.toString('utf8'), lying.frame);
  });
});

describe('isNext', () => {
  it('holds from where the page was made up to its first entry', () => {
    const page = joinPage([entry(7)], { after: 3, first: 7, until: 7 }, true);
    assert.deepEqual(
      [2, 3, 6, 7].map((after) => isNext(page, after)),
      [false, true, true, false],
    );
  });
});

describe('PageCache', () => {
  const page = (after: number, bytes = 1): Page => {
    const one = entry(after + 1, 'a', undefined, 'x'.repeat(bytes));
    return joinPage([one], { after, first: after + 1, until: after + 1 }, true);
  };

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
