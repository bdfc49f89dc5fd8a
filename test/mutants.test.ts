// Checks the list of mutants. `npm run mutants` runs them.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { mutants } from './mutants/list.ts';
import { faultOf, mutate } from './mutants/mutant.ts';
import { pending, properties, races } from './mutants/races.ts';

const root = new URL('../', import.meta.url);
const LEAST = 100;

describe('the list of mutants', () => {
  it('has only entries whose line occurs once, whose fault changes it, and whose tests exist', () => {
    assert.deepEqual(
      mutants.flatMap((mutant) => faultOf(mutant, root) ?? []),
      [],
    );
  });

  it(`has at least ${LEAST} faults, each once`, () => {
    const kinds = new Set(mutants.map(({ file, find, replace }) => JSON.stringify([file, find, replace])));
    assert.equal(kinds.size, mutants.length);
    assert.ok(mutants.length >= LEAST, `${mutants.length} faults`);
  });

  it('covers each race and each property but those that are pending, and these not', () => {
    const covered = new Set(mutants.flatMap(({ race, property }) => [race, property]));
    const all = [...races, ...properties];
    assert.deepEqual(
      all.filter((name) => !covered.has(name)),
      all.filter((name) => pending.includes(name)),
    );
  });

  it('says what somebody would suffer', () => {
    for (const { why } of mutants) assert.match(why, /^[a-z`][^.]{14,140}$/, why);
  });
});

describe('a mutant', () => {
  const mutant = { file: 'hub.ts', why: '', tests: ['hub'] } as const;

  it('is refused by name where its line is missing, occurs twice, or stays as it is', () => {
    const fault = (find: string, replace = ''): string | undefined =>
      faultOf({ ...mutant, find, replace }, root);
    assert.match(fault('no such line in hub') ?? '', /^lib\/hub\.ts: .*no such line in hub.* does not occur/);
    assert.match(fault('import') ?? '', /occurs \d+ times/);
    assert.match(fault('export class Hub<', 'export class Hub<') ?? '', /is the same/);
    assert.equal(fault('export class Hub<'), undefined);
    const tests = ['no-such-test'] as const;
    assert.match(
      faultOf({ ...mutant, find: 'class Hub<', replace: '', tests }, root) ?? '',
      /there is no test/,
    );
  });

  it('puts its text in as it is', () => {
    assert.equal(mutate('a = b;', { ...mutant, find: 'b', replace: "$&$'" }), "a = $&$';");
  });
});
