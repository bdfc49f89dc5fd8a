import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { NameOrder } from '../lib/names.ts';

/** A map of names with its order, which is told of each new name. */
class Names {
  readonly map = new Map<string, true>();
  /** How often a name was looked up, which is the work of a page. */
  looks = 0;
  readonly order = new NameOrder({
    has: (name) => {
      this.looks++;
      return this.map.has(name);
    },
    keys: () => this.map.keys(),
  });

  constructor(...names: string[]) {
    for (const name of names) this.add(name);
  }

  add(name: string): void {
    this.map.set(name, true);
    this.order.add(name);
  }

  page(after: string, limit: number): string[] {
    const page: string[] = [];
    for (const name of this.order.after(after)) {
      if (page.length >= limit) break;
      page.push(name);
    }
    return page;
  }
}

const named = (count: number) => Array.from({ length: count }, (_, i) => `n${String(i).padStart(6, '0')}`);

describe('NameOrder', () => {
  it('lists names in order, page by page, after any name', () => {
    const names = new Names('c', 'a', 'e', 'b');
    assert.deepEqual(
      [names.page('', 2), names.page('b', 9), names.page('bb', 1)],
      [['a', 'b'], ['c', 'e'], ['c']],
    );
    assert.deepEqual([names.page('e', 9), new Names().page('', 9)], [[], []]);
  });

  it('lists a name that stays exactly once, whatever comes and goes between two pages', () => {
    let seed = 1;
    const random = (below: number) => {
      seed = (seed * 48_271) % 2_147_483_647;
      return seed % below;
    };
    for (let round = 0; round < 50; round++) {
      const stay = named(300).filter(() => random(2) === 0);
      const others = named(300).filter((name) => !stay.includes(name));
      const names = new Names(...stay);
      const seen: string[] = [];
      for (let after = ''; ; ) {
        for (let i = 0; i < 20; i++) {
          const name = others[random(others.length)]!;
          if (random(2) === 0) names.add(name);
          else names.map.delete(name);
        }
        const page = names.page(after, 7);
        if (page.length === 0) break;
        seen.push(...page);
        after = page.at(-1)!;
      }
      assert.deepEqual(seen, [...new Set(seen)].sort());
      assert.deepEqual(
        seen.filter((name) => stay.includes(name)),
        stay,
      );
    }
  });

  it('does work in proportion to a page, also after many names have left', () => {
    const names = new Names(...named(20_000));
    names.page('', 1);
    for (let after = '', pages = 0; pages < 20; pages++) {
      names.looks = 0;
      const page = names.page(after, 100);
      assert.ok(names.looks <= 101);
      after = page.at(-1)!;
    }
    for (const name of named(15_000)) names.map.delete(name);
    assert.equal(names.page('', 1)[0], 'n015000');
    names.looks = 0;
    assert.equal(names.page('', 100).length, 100);
    assert.ok(names.looks <= 101, `${names.looks} looks`);
  });

  it('keeps nothing of names that come and go while nobody lists them', () => {
    const names = new Names('a');
    names.page('', 1);
    for (const name of named(2500)) {
      names.add(name);
      names.map.delete(name);
    }
    names.looks = 0;
    assert.deepEqual(names.page('', 9), ['a']);
    assert.ok(names.looks <= 501, `${names.looks} looks`);
  });
});
