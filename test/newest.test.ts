import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { INDEX_BYTES, keyBytes, NewestOfKeys, PLACE_BYTES, ROOM_BYTES } from '../lib/newest.ts';
import { collectGarbage } from './helpers/garbage.ts';

type Act =
  | { readonly act: 'add'; readonly key: string | undefined }
  | { readonly act: 'drop' | 'from'; readonly by: number };

const anyAct: fc.Arbitrary<Act> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      act: fc.constant('add' as const),
      key: fc.constantFrom(undefined, 'k', 'l', '__proto__'),
    }),
  },
  { weight: 1, arbitrary: fc.record({ act: fc.constant('drop' as const), by: fc.nat({ max: 9 }) }) },
  { weight: 1, arbitrary: fc.record({ act: fc.constant('from' as const), by: fc.nat({ max: 200 }) }) },
);

/** By the words of the rule: the first index, from `index` on, whose key comes no more. */
function firstNewest(keys: readonly (string | undefined)[], index: number): number {
  for (let i = index; i < keys.length; i++)
    if (keys[i] === undefined || !keys.includes(keys[i], i + 1)) return i;
  return keys.length;
}

describe('the newest of keys', () => {
  it('are found from any place, whatever was added and dropped before', () => {
    const anyBegin = fc.constantFrom(0, 1, 7, 2 ** 33);
    fc.assert(
      fc.property(fc.array(anyAct, { maxLength: 200, size: 'max' }), anyBegin, (acts, begin) => {
        const newest = new NewestOfKeys(begin);
        const ring: (string | undefined)[] = [];
        let first = begin;
        for (const one of acts) {
          if (one.act === 'add') {
            ring.push(one.key);
            newest.add(one.key);
          } else if (one.act === 'drop') {
            first += ring.splice(0, one.by).length;
            newest.dropBefore(first);
          } else {
            const index = one.by % (ring.length + 1);
            assert.equal(newest.from(first + index), first + firstNewest(ring, index));
          }
          const keys = new Set(ring.filter((key) => key !== undefined));
          assert.equal(newest.keys, keys.size);
          if (ring.length === 0) {
            assert.equal(newest.heldBytes, 0);
            continue;
          }
          const ofKeys = [...keys].reduce((sum, key) => sum + keyBytes(key), 0);
          const held = newest.heldBytes - INDEX_BYTES - ofKeys;
          const [least, most] = [ring.length, Math.max(8, 4 * ring.length)];
          const room = 4 * keys.size * ROOM_BYTES;
          assert.ok(held >= least * PLACE_BYTES, `${held} for ${ring.length}`);
          assert.ok(held <= most * PLACE_BYTES + room, `${held} for ${ring.length}`);
        }
        ring.forEach((_, index) => {
          assert.equal(newest.from(first + index), first + firstNewest(ring, index));
        });
      }),
    );
  });

  it('are all frames that the ring had before the first one with a key', () => {
    const newest = new NewestOfKeys(5);
    for (let i = 0; i < 3; i++) newest.add('k');
    assert.deepEqual(
      [0, 4, 5, 7, 8].map((place) => newest.from(place)),
      [0, 4, 7, 7, 8],
    );
    newest.dropBefore(3);
    assert.deepEqual([newest.from(4), newest.from(5), newest.keys], [4, 7, 1]);
  });

  it('of a ring that is emptied and filled again are those of what it holds now', () => {
    const newest = new NewestOfKeys();
    for (let begin = 0; begin < 60; begin += 20) {
      for (let i = 0; i < 20; i++) newest.add('k');
      const found = [0, 19, 20].map((index) => newest.from(begin + index));
      assert.deepEqual(found, [begin + 19, begin + 19, begin + 20]);
      newest.dropBefore(begin + 20);
      assert.deepEqual([newest.from(begin + 20), newest.keys, newest.heldBytes], [begin + 20, 0, 0]);
    }
  });

  it('hold what they say, also where each frame has a key of its own and the oldest ones leave', () => {
    for (const count of [33_000, 80_000]) {
      for (const added of [count, 5 * count]) {
        const newest = new NewestOfKeys();
        collectGarbage();
        const before = process.memoryUsage().heapUsed;
        for (let i = 0; i < added; i++) {
          newest.add(String(1e8 + i));
          newest.dropBefore(i + 1 - count);
        }
        collectGarbage();
        const [held, said] = [process.memoryUsage().heapUsed - before, newest.heldBytes];
        assert.equal(newest.keys, count);
        assert.ok(
          Math.abs(said / held - 1) < 0.2,
          `${held} bytes, said to be ${said}, for ${count} of ${added}`,
        );
      }
    }
  });

  it('hold no memory for frames that were dropped', () => {
    const newest = new NewestOfKeys();
    for (let i = 0; i < 10_000; i++) newest.add(`${i}`);
    for (let first = 1; first < 10_000; first++) {
      newest.dropBefore(first);
      const most = 4 * (10_000 - first) * (PLACE_BYTES + keyBytes('9999')) + 8 * PLACE_BYTES + INDEX_BYTES;
      assert.ok(newest.heldBytes <= most, `${newest.heldBytes} for ${10_000 - first}`);
      assert.equal(newest.from(first), first);
    }
  });

  it('hold no memory for a ring that is empty again', () => {
    const newest = new NewestOfKeys();
    collectGarbage();
    const before = process.memoryUsage().heapUsed;
    for (let i = 0; i < 1e6; i++) newest.add(`${i % 1000}`);
    newest.dropBefore(1e6);
    collectGarbage();
    const held = process.memoryUsage().heapUsed - before;
    assert.ok(held < 1e6, `${held} bytes`);
    assert.equal(newest.from(1e6), 1e6);
  });
});
