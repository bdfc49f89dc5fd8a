// Puts one fault after another into a copy of lib/, and checks that the tests notice each: `npm run mutants`.
//
//     npm run mutants -- --only TEXT    those with this text in their file, their fault, their race or property
//     npm run mutants -- --part 1/2     every second one, from the first on; 2/2: the others
//     npm run mutants -- --json FILE    writes a report as well
//
// Those of a log in SQLite are run by a Node that has `node:sqlite` (22.13 or later). On others they are left out, and
// the last line says so.

import { spawn } from 'node:child_process';
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { mutants as all } from './list.ts';
import { faultOf, fileOf, type Mutant, mutate, type TestRun } from './mutant.ts';

/** How many run at once. */
const WORKERS = 2;
/** Milliseconds for tests that take no time without a fault; others get four times what they take. */
const LEAST_LIMIT = 6000;
const PRELOAD = './test/mutants/at-first-failure.ts';

/** A test that failed, with all that is said of it. */
const FAILED = /^ *not ok \d+ - (.*)\n(?:.*\n)*? *\.\.\.\n/m;
const SEED = /FUZZ_SEED=(\d+)/;

const root = new URL('../../', import.meta.url);
const path = (name: string): string => fileURLToPath(new URL(name, root));

interface Outcome {
  readonly status: 'passed' | 'failed' | 'timed-out';
  /** The name of the first test that failed, or what ended the process. */
  readonly by?: string | undefined;
  readonly seed?: number | undefined;
  readonly ms: number;
}

interface Result extends Outcome {
  readonly mutant: Mutant;
  readonly test: string;
}

const string = { type: 'string' } as const;
const { values: options } = parseArgs({ options: { only: string, part: string, json: string } });
process.exitCode = await main(options.only ?? '', options.part ?? '1/1', options.json);

async function main(only: string, part: string, json: string | undefined): Promise<number> {
  const begun = performance.now();
  const [which = 0, parts = 0] = part.split('/').map(Number);
  if (!(which >= 1 && which <= parts)) return misuse([`--part must be like 1/2, got "${part}"`]);
  const wanted = all.filter((mutant, i) => isWanted(mutant, only) && i % parts === which - 1);
  if (wanted.length === 0) return misuse([`no mutant has "${only}" in it`]);
  const mutants = wanted.filter(({ needs }) => needs === undefined || process.getBuiltinModule?.(needs));
  const left = wanted.length - mutants.length;
  const faults = wanted.flatMap((mutant) => faultOf(mutant, root) ?? []);
  if (faults.length > 0) return misuse(faults);
  if (mutants.length === 0) return misuse([leftOut(left)]);

  const folders = Array.from({ length: WORKERS }, copyTree);
  process.once('exit', () => {
    for (const folder of folders) rmSync(folder, { recursive: true, force: true });
  });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.once(signal, () => process.exit(130));

  const tests = new Map(mutants.flatMap(({ tests }) => tests.map((test) => [nameOf(test), test] as const)));
  console.log(`${mutants.length} mutants. First their ${tests.size} tests without a fault:`);
  const usual = new Map<string, number>();
  await inParallel(folders, [...tests.values()], async (folder, test) => {
    const outcome = await run(folder, test, 120_000);
    usual.set(nameOf(test), outcome.ms);
    if (outcome.status !== 'passed') faults.push(`${nameOf(test)} fails without a fault: ${outcome.by}`);
  });
  if (faults.length > 0) return misuse(faults);
  console.log(`all pass (${seconds(performance.now() - begun)})\n`);

  const results: Result[] = [];
  await inParallel(folders, mutants, async (folder, mutant) => {
    const result = await tryOne(folder, mutant, usual);
    results.push(result);
    console.log(`${`${results.length}/${mutants.length}`.padStart(7)} ${report(result)}`);
  });

  const wrong = results.filter(({ status, mutant }) => (status === 'passed') !== isEquivalent(mutant));
  const took = performance.now() - begun;
  const killed = results.filter(({ status }) => status !== 'passed').length;
  console.log(`\n${killed} of ${mutants.length} were noticed (${seconds(took)})`);
  for (const result of wrong) console.error(complaint(result));
  if (left > 0) console.log(leftOut(left));
  if (json !== undefined) writeReport(json, results, left, took);
  return wrong.length > 0 ? 1 : 0;
}

function isWanted({ file, why, race, property }: Mutant, only: string): boolean {
  return [file, why, race, property].some((text) => text?.toLowerCase().includes(only.toLowerCase()));
}

function leftOut(count: number): string {
  return `${count} were NOT run: they need a Node that has node:sqlite, and this is ${process.version}`;
}

function isEquivalent({ equivalent }: Mutant): boolean {
  return equivalent !== undefined;
}

function misuse(faults: readonly string[]): number {
  for (const fault of faults) console.error(fault);
  return 2;
}

/** What the tests need, in a folder of its own. */
function copyTree(): string {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'sluice-mutants-')));
  for (const name of ['package.json', 'tsconfig.json', 'LICENSE']) cpSync(path(name), join(folder, name));
  cpSync(path('lib'), join(folder, 'lib'), { recursive: true });
  mkdirSync(join(folder, 'test'));
  const filter = (name: string): boolean => !/[/\\](?:node_modules|interop|package|api)$/.test(name);
  cpSync(path('test'), join(folder, 'test'), { recursive: true, filter });
  symlinkSync(realpathSync(path('node_modules')), join(folder, 'node_modules'));
  return folder;
}

/** Each folder takes the next item as soon as it is free. */
async function inParallel<Item>(
  folders: readonly string[],
  items: readonly Item[],
  act: (folder: string, item: Item) => Promise<void>,
): Promise<void> {
  const queue = items.values();
  await Promise.all(
    folders.map(async (folder) => {
      for (const item of queue) await act(folder, item);
    }),
  );
}

async function tryOne(folder: string, mutant: Mutant, usual: ReadonlyMap<string, number>): Promise<Result> {
  const file = join(folder, 'lib', mutant.file);
  const source = readFileSync(file, 'utf8');
  writeFileSync(file, mutate(source, mutant));
  let ms = 0;
  let test = '';
  try {
    for (const one of mutant.tests) {
      test = nameOf(one);
      const outcome = await run(folder, one, Math.max(LEAST_LIMIT, 4 * usual.get(test)!));
      ms += outcome.ms;
      if (outcome.status !== 'passed') return { mutant, test, ...outcome, ms };
    }
    return { mutant, test, status: 'passed', ms };
  } finally {
    writeFileSync(file, source);
  }
}

/** Runs tests until the first one fails. */
function run(folder: string, test: TestRun, limit: number): Promise<Outcome> {
  const only = typeof test === 'object' && test.in !== undefined ? [`--test-name-pattern=${test.only}`] : [];
  const seeds = typeof test === 'object' && test.in === undefined ? { FUZZ_RUNS: String(test.seeds) } : {};
  const flags = ['--max-old-space-size=1024', '--import', 'tsx', '--import', PRELOAD];
  const begun = performance.now();
  const child = spawn(process.execPath, [...flags, '--test-reporter=tap', ...only, fileOf(test)], {
    cwd: folder,
    env: { ...process.env, ...seeds },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true, // a group of its own, so that what it has started ends with it
  });
  const kill = (): void => {
    try {
      process.kill(-child.pid!, 'SIGKILL');
    } catch {}
  };
  process.once('exit', kill);
  return new Promise((resolve) => {
    let [output, errors] = ['', ''];
    let isLate = false;
    const timer = setTimeout(() => {
      isLate = true;
      kill();
    }, limit);
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text;
      if (FAILED.test(output)) kill();
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      errors = (errors + text).slice(-10_000);
    });
    child.on('close', (code) => {
      clearTimeout(timer);
      process.off('exit', kill);
      kill(); // whatever it has left behind
      resolve({ ...outcomeOf(output, errors, code, isLate), ms: performance.now() - begun });
    });
  });
}

function outcomeOf(
  output: string,
  errors: string,
  code: number | null,
  isLate: boolean,
): Omit<Outcome, 'ms'> {
  const [story, name] = FAILED.exec(output) ?? [];
  if (story !== undefined) {
    const seed = SEED.exec(story)?.[1];
    return { status: 'failed', by: name, seed: seed === undefined ? undefined : Number(seed) };
  }
  if (isLate) return { status: 'timed-out', by: lastTest(output) };
  if (code !== 0) return { status: 'failed', by: /^.*Error.*$/m.exec(errors)?.[0] ?? `exit code ${code}` };
  const passed = Number(/^# pass (\d+)$/m.exec(output)?.[1] ?? 0);
  return passed > 0 ? { status: 'passed' } : { status: 'failed', by: 'no test has such a name' };
}

/** Nothing is known of a test that has not let the event loop turn. */
function lastTest(output: string): string {
  const [, name] = [...output.matchAll(/^ *# Subtest: (.*)$/gm)].at(-1) ?? [];
  return name === undefined ? 'no test has ended' : `after "${name}"`;
}

function nameOf(test: TestRun): string {
  if (typeof test === 'string') return fileOf(test);
  return `${fileOf(test)} ${test.in === undefined ? `with ${test.seeds} seeds` : `"${test.only}"`}`;
}

function report({ mutant, test, status, by, seed, ms }: Result): string {
  const what = `${place(mutant)}  ${mutant.why}`;
  if (status === 'passed') return `SURVIVED ${what} (${seconds(ms)})`;
  const how = status === 'timed-out' ? 'by a time-out of' : seed === undefined ? 'by' : `by seed ${seed} of`;
  return `${what}\n        ${how} ${test.split(' ')[0]}: ${by} (${seconds(ms)})`;
}

function complaint({ mutant, status, test }: Result): string {
  if (status === 'passed') return `${place(mutant)} lives: ${mutant.why}`;
  return `${place(mutant)} is listed as equivalent, but ${test} fails`;
}

function place({ file, find }: Mutant): string {
  const source = readFileSync(path(`lib/${file}`), 'utf8');
  return `lib/${file}:${source.slice(0, source.indexOf(find)).split('\n').length}`;
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}

function writeReport(file: string, results: readonly Result[], left: number, took: number): void {
  const mutants = results.map(({ mutant: { tests: _, ...mutant }, ...result }) => ({ ...mutant, ...result }));
  const json = { node: process.version, seconds: Math.round(took / 1000), notRun: left, mutants };
  writeFileSync(file, `${JSON.stringify(json, undefined, 2)}\n`);
}
