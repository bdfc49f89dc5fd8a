import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { type Heard, SilenceOrder } from '../lib/silence.ts';
import { times } from './helpers/hub.ts';

class Item implements Heard<Item> {
  older: Item | undefined;
  newer: Item | undefined;
}

describe('the order of silence', () => {
  it('is that of a set from which each object is deleted before it is added again', () => {
    const acts = fc.array(fc.record({ isHeard: fc.boolean(), i: fc.nat({ max: 5 }) }), { maxLength: 40 });
    fc.assert(
      fc.property(acts, (steps) => {
        const items = times(6, () => new Item());
        const order = new SilenceOrder<Item>();
        const set = new Set<Item>();
        for (const { isHeard, i } of steps) {
          const item = items[i]!;
          set.delete(item);
          if (isHeard) set.add(item);
          if (isHeard) order.heard(item);
          else order.delete(item);
          const newestLast = [...set].map((one) => items.indexOf(one));
          assert.deepEqual(
            [...order].map((one) => items.indexOf(one)),
            newestLast,
          );
        }
      }),
    );
  });

  it('keeps nothing of an object that has left, wherever it was: neither has the others in memory', () => {
    for (const place of [0, 1, 2]) {
      const items = times(3, () => new Item());
      const order = new SilenceOrder<Item>();
      for (const item of items) order.heard(item);
      const left = items[place]!;
      order.delete(left);
      assert.deepEqual([left.older, left.newer], [undefined, undefined]);
      for (const { older, newer } of items) assert.ok(older !== left && newer !== left);
      // It comes back as the newest, behind those that stayed.
      order.heard(left);
      assert.deepEqual([...order], [...items.filter((item) => item !== left), left]);
    }
  });
});
