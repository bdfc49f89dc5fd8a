import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { NewestOfKeys } from '../lib/newest.ts';
import { collectGarbage } from './helpers/garbage.ts';

type Act = { readonly act: 'add'; readonly key: string | undefined } | { readonly act: 'drop' | 'from' };

const anyAct: fc.Arbitrary<Act> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      act: fc.constant('add' as const),
      key: fc.constantFrom(undefined, 'k', 'l', '__proto__'),
    }),
  },
  { weight: 2, arbitrary: fc.record({ act: fc.constantFrom('drop' as const, 'from' as const) }) },
);

/** By the words of the rule: the first index, from `index` on, whose key comes no more. */
function firstNewest(keys: readonly (string | undefined)[], index: number): number {
  for (let i = index; i < keys.length; i++)
    if (keys[i] === undefined || !keys.includes(keys[i], i + 1)) return i;
  return keys.length;
}

describe('the newest of keys', () => {
  it('are found from any place, whatever was added and dropped before', () => {
    fc.assert(
      fc.property(fc.array(anyAct, { maxLength: 200 }), fc.nat(), (acts, seed) => {
        const newest = new NewestOfKeys();
        const ring: (string | undefined)[] = [];
        acts.forEach((one, i) => {
          if (one.act === 'add') {
            ring.push(one.key);
            newest.add(one.key);
          } else if (one.act === 'drop') {
            if (ring.length > 0) newest.drop(ring.shift());
          } else {
            const index = (seed + i) % (ring.length + 1);
            assert.equal(newest.from(index), firstNewest(ring, index));
          }
          assert.equal(newest.keys, new Set(ring.filter((key) => key !== undefined)).size);
        });
        ring.forEach((_, index) => void assert.equal(newest.from(index), firstNewest(ring, index)));
      }),
    );
  });

  it('of a ring that is emptied and filled again are those of what it holds now', () => {
    const newest = new NewestOfKeys();
    for (let round = 0; round < 3; round++) {
      for (let i = 0; i < 20; i++) newest.add('k');
      assert.deepEqual([newest.from(0), newest.from(19), newest.from(20)], [19, 19, 20]);
      for (let i = 0; i < 20; i++) newest.drop('k');
      assert.deepEqual([newest.from(0), newest.keys], [0, 0]);
    }
  });

  it('hold no memory for a ring that is empty again', () => {
    const newest = new NewestOfKeys();
    collectGarbage();
    const before = process.memoryUsage().heapUsed;
    for (let i = 0; i < 1e6; i++) newest.add(undefined);
    for (let i = 0; i < 1e6; i++) newest.drop(undefined);
    collectGarbage();
    const held = process.memoryUsage().heapUsed - before;
    assert.ok(held < 1e6, `${held} bytes`);
    assert.equal(newest.from(0), 0);
  });
});
