// A mutant: a fault of one line in lib/, and the tests that must fail with it.

import { existsSync, readFileSync } from 'node:fs';
import type { Property, Race } from './races.ts';

/**
 * `'hub.odd'`: the tests of test/hub.odd.test.ts; with `only`, those with this in their names (a pattern of
 * `--test-name-pattern`). `{ seeds: 500 }`: the first 500 scenarios of test/hub.fuzz.test.ts.
 */
export type TestRun =
  | string
  | { readonly in: string; readonly only: string }
  | { readonly seeds: number; readonly in?: undefined };

export interface Mutant {
  /** In lib/: `hub.ts`. */
  readonly file: string;
  /** Occurs once in the file. Short, so that it stays right when the code around it changes. */
  readonly find: string;
  readonly replace: string;
  /** The fault, as somebody would suffer it. */
  readonly why: string;
  readonly race?: Race | undefined;
  readonly property?: Property | undefined;
  /** Run one after another until one fails. Fast ones: the whole list runs before each merge. */
  readonly tests: readonly [TestRun, ...TestRun[]];
  /** Why no test can notice it. Only for what is here to show that it is no fault. */
  readonly equivalent?: string | undefined;
  /** A module that the tests need, and that not every Node has. */
  readonly needs?: 'node:sqlite' | undefined;
}

/** The mutants of one file of lib/. */
export function mutantsOf(
  file: string,
  tests: Mutant['tests'],
  faults: readonly (Omit<Mutant, 'file' | 'tests'> & Partial<Pick<Mutant, 'tests'>>)[],
): Mutant[] {
  return faults.map((fault) => ({ file, tests, ...fault }));
}

/** What is wrong with an entry of the list; `undefined` where nothing is. `root` is a URL with a `/` at its end. */
export function faultOf({ file, find, replace, tests }: Mutant, root: URL): string | undefined {
  const source = readFileSync(new URL(`lib/${file}`, root), 'utf8');
  const count = source.split(find).length - 1;
  const name = `lib/${file}: \`find\` ${JSON.stringify(find)}`;
  if (count === 0) return `${name} does not occur: the code has changed, so write the fault anew`;
  if (count > 1) return `${name} occurs ${count} times: make it longer`;
  if (replace === find) return `${name}: \`replace\` is the same`;
  const missing = tests.map(fileOf).find((test) => !existsSync(new URL(test, root)));
  return missing && `${name}: there is no ${missing}`;
}

/** The source with the fault. */
export function mutate(source: string, { find, replace }: Mutant): string {
  // A function, because `$` means something in a text.
  return source.replace(find, () => replace);
}

export function fileOf(test: TestRun): string {
  const name = typeof test === 'string' ? test : (test.in ?? 'hub.fuzz');
  return `test/${name}.test.ts`;
}
