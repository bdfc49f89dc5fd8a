import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Misuse, orderOf, type RunOptions } from '../options.ts';
import { expected, nextOf } from '../plan.ts';
import { scenarios as all } from '../scenarios/index.ts';
import type { Scenario } from '../scenarios/scenario.ts';

const scenario = (name: string, peers: readonly string[], takesSeveral = false): Scenario => ({
  name,
  peers,
  takesSeveral,
  constant: '',
  shows: '',
  run: async () => {},
});
const scenarios = [
  scenario('fanout', ['sluice', 'floor', 'raw'], true),
  scenario('latency', ['sluice', 'hono']),
];
const run = (...argv: string[]) => orderOf(argv, scenarios) as RunOptions;

describe('the arguments of the bench command', () => {
  it('select every scenario and peer when there are none', () => {
    const { isAll, isTargets, peers, runs, isQuick, isInstalling, scenarios: chosen } = run();
    assert.deepEqual(
      [isAll, isTargets, peers, runs, isQuick, isInstalling],
      [true, false, undefined, 5, false, true],
    );
    assert.deepEqual(chosen, scenarios);
  });

  it('may name a commit to measure against', () => {
    assert.equal(run('fanout').against, undefined);
    assert.equal(run('fanout', '--against', '35312b5').against, '35312b5');
  });

  it('may name Nodes, together or one by one', () => {
    assert.deepEqual(run('fanout').nodes, []);
    assert.deepEqual(run('targets', '--node', '20,24', '--node', '/opt/node').nodes, [
      '20',
      '24',
      '/opt/node',
    ]);
  });

  it('may name scenarios and their parameters', () => {
    const order = run(
      'fanout',
      '--connections',
      '100,1000',
      '--batch',
      '1,16',
      '--bytes',
      '100,10000',
      '--peers',
      'raw,floor',
      '--runs',
      '3',
    );
    assert.deepEqual(
      order.scenarios.map(({ name }) => name),
      ['fanout'],
    );
    assert.deepEqual(
      [order.connections, order.batches, order.payloads, order.peers, order.runs],
      [[100, 1000], [1, 16], [100, 10_000], ['raw', 'floor'], 3],
    );
    assert.equal(run('fanout', '--peers', 'all').peers, undefined);
  });

  for (const [argv, complaint] of [
    [['nothing'], /there is no scenario "nothing": fanout, latency/],
    [['fanout', '--peers', 'hono'], /there is no peer "hono": sluice, floor, raw/],
    [['fanout', '--bench', 'hub'], /there is no bench "hub"/],
    [['--runs', 'many'], /`--runs` must be whole numbers ≥ 1, got many/],
    [['--batch', '0'], /`--batch` must be whole numbers ≥ 1, got 0/],
    [['--connections', '1,2'], /`--connections` must be one number for "latency", got 1,2/],
    [['--frob'], /Unknown option '--frob'/],
    [['--against'], /Option '--against <value>' argument missing/],
    [['compare', 'a.json'], /`compare` takes two reports, got 1/],
    [['targets', 'fanout'], /`targets` takes no scenario, got "fanout"/],
  ] as const) {
    it(`are refused in one line: ${argv.join(' ')}`, () => {
      assert.throws(
        () => orderOf(argv, scenarios),
        (error: unknown) =>
          error instanceof Misuse && complaint.test(error.message) && !error.message.includes('\n'),
      );
    });
  }
});

describe('the commands that the documentation names', () => {
  const root = fileURLToPath(new URL('../..', import.meta.url));
  const pages = ['README.md', 'CONTRIBUTING.md', 'bench/README.md', ...filesIn('docs')];

  function filesIn(folder: string): string[] {
    const names = readdirSync(join(root, folder));
    return names.filter((name) => name.endsWith('.md')).map((name) => join(folder, name));
  }

  /** In code of a line or of a block, without its comment. */
  const commandsIn = (text: string) =>
    [...text.matchAll(/npm run bench(?:\s+--\s([^`#]*?))?\s*(?:`|#|\n(?=npm |```))/g)].map(([, argv = '']) =>
      argv.split(/\s+/).filter(Boolean),
    );

  it('are understood', () => {
    const named = pages.flatMap((page) => commandsIn(readFileSync(join(root, page), 'utf8')));
    assert.ok(named.length > 25, `${named.length}`);
    for (const argv of named) assert.doesNotThrow(() => orderOf(argv, all), argv.join(' '));
  });

  it('stand before every table of figures', () => {
    const text = readFileSync(join(root, 'docs/performance.md'), 'utf8');
    const results = text.slice(text.indexOf('## Results'), text.indexOf('## How many machines'));
    // From the end of one table to that of the next; all tables of a heading of level 3 share its command.
    const sections = results
      .split(/^### /m)
      .flatMap((part, i) => (i === 0 ? part.split(/(?<=\|\n)(?=\n[^|])/) : [part]));
    const tables = sections.filter((part) => part.includes('\n|'));
    assert.ok(tables.length > 8, `${tables.length}`);
    for (const part of tables)
      assert.match(
        part.slice(0, part.indexOf('\n|')),
        /`npm run bench\b|`npx tsx bench\//,
        part.slice(0, 300),
      );
  });
});

describe('the command', () => {
  const bench = (...argv: string[]) => {
    const program = fileURLToPath(new URL('../run.ts', import.meta.url));
    const node = ['--import', import.meta.resolve('tsx'), program, ...argv];
    return spawnSync(process.execPath, node, { encoding: 'utf8' });
  };

  it('exits with 2 and prints one line when it is misused', () => {
    for (const argv of [
      ['--frob'],
      ['nothing'],
      ['fanout', '--peers', 'nobody'],
      ['compare', 'no.json', 'no.json'],
    ]) {
      const { status, stderr } = bench(...argv);
      assert.equal(status, 2, argv.join(' '));
      assert.equal(stderr.trim().split('\n').length, 1, stderr);
    }
  });

  it('prints its usage, and lists the scenarios', () => {
    const help = bench('--help');
    assert.equal(help.status, 0);
    assert.match(help.stdout, /npm run bench/);
    const list = bench('list');
    assert.equal(list.status, 0);
    assert.match(list.stdout, /^fanout\n {2}shows: /m);
  });
});

describe('the plan', () => {
  const work = (name: string, seconds: number, done = 0) => ({ name, seconds, done, runs: 5 });

  it('runs everything once before anything twice', () => {
    const works = [work('a', 1, 1), work('b', 50), work('c', 1, 1)];
    assert.equal(nextOf(works, 100)!.name, 'b');
    works[1]!.done = 1;
    assert.equal(nextOf(works, 100)!.name, 'a');
  });

  it('starts nothing that would not end in time', () => {
    const works = [work('a', 60, 1), work('b', 10, 2)];
    assert.equal(nextOf(works, 30)!.name, 'b');
    assert.equal(nextOf(works, 5), undefined);
    assert.equal(nextOf([work('c', 1)], 0), undefined);
    assert.equal(nextOf([work('d', 60)], 59), undefined, 'not even for the first time');
  });

  it('knows how long the remaining works take', () => {
    assert.equal(expected([work('a', 2), work('b', 3)], Infinity), 25);
    assert.ok(expected([work('a', 20), work('b', 30)], 100) <= 100);
  });
});
