// Checks how pauses are summed up, and that `pauses.ts` measures and keeps what it promises.
//   npx tsx --test bench/report/pauses.test.ts

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { Collection } from '../loads/pausing.ts';
import { type Pauses, pausesOf, pausesTable } from './pauses.ts';
import { textOf } from './tables.ts';

const gc = (kind: string, milliseconds: number): Collection => ({ what: 'gc', at: 0, kind, milliseconds });

describe('pauses', () => {
  it('are summed up by kind, the most frequent first, and all together', () => {
    const minors = Array.from({ length: 100 }, (_, i) => gc('minor', 100 - i));
    const all = pausesOf([gc('major', 30), ...minors], 20);
    assert.deepEqual(all, [
      { kind: 'gc, minor', count: 100, p50: 50, p99: 99, max: 100, over: 80 },
      { kind: 'gc, major', count: 1, p50: 30, p99: 30, max: 30, over: 1 },
      { kind: 'gc, all', count: 101, p50: 50, p99: 99, max: 100, over: 81 },
    ]);
  });

  it('are too long only above the limit', () => {
    assert.equal(pausesOf([gc('minor', 20)], 20).at(-1)!.over, 0);
    assert.equal(pausesOf([gc('minor', 20.1)], 20).at(-1)!.over, 1);
  });

  it('are none where nothing was collected', () => {
    assert.deepEqual(pausesOf([], 20), [{ kind: 'gc, all', count: 0, p50: 0, p99: 0, max: 0, over: 0 }]);
  });

  it('are shown as a table', () => {
    const unknown = { kind: 'latency', count: 1000, p50: 1, p99: 2, max: 3, over: undefined };
    assert.deepEqual(textOf(pausesTable([...pausesOf([gc('minor', 25)], 20).slice(1), unknown], 20)), [
      'kind     count  p50 (ms)  p99 (ms)  max (ms)  over 20 ms',
      'gc, all      1      25.0      25.0      25.0           1',
      'latency  1,000      1.00      2.00      3.00           –',
    ]);
  });
});

const root = fileURLToPath(new URL('../..', import.meta.url));
const isCheckout = spawnSync('git', ['-C', root, 'rev-parse']).status === 0;

/** A line of a trace. */
interface Line {
  readonly what: string;
  readonly name?: string;
  readonly published?: number;
  readonly invalid?: string;
  readonly far?: number;
  readonly pauses?: readonly Pauses[];
}

describe('the command that measures pauses', () => {
  const folder = mkdtempSync(join(tmpdir(), 'sluice-pauses-'));
  after(() => rmSync(folder, { recursive: true }));

  const pauses = (...argv: string[]) => {
    const program = ['--import', import.meta.resolve('tsx'), join(root, 'bench/pauses.ts'), ...argv];
    return spawnSync(process.execPath, program, { encoding: 'utf8', cwd: root });
  };

  it('runs each commit, keeps a trace of it, and exits with 1 after a long pause of ours', () => {
    const against = isCheckout ? ['--against', 'HEAD'] : [];
    const options = ['--seconds', '2', '--rate', '1000', '--history', '1', '--out', folder];
    const { status, stdout, stderr } = pauses(...options, ...against);
    const traces = readdirSync(folder).map((name) =>
      readFileSync(join(folder, name), 'utf8').trim().split('\n'),
    );
    assert.equal(traces.length, isCheckout ? 2 : 1, stderr);
    assert.equal(stdout.match(/^kind .* over 20 ms$/gm)?.length, traces.length, stderr);
    for (const trace of traces) {
      const lines = trace.map((line) => JSON.parse(line) as Line);
      const of = (what: string) => lines.filter((line) => line.what === what);
      assert.deepEqual([of('run').length, of('filled').length, of('summary').length], [1, 1, 1]);
      assert.ok(of('second').at(-1)!.published! > 0);
      const { invalid, far, pauses: found = [] } = of('summary')[0]!;
      assert.equal(invalid, undefined);
      assert.equal(far, 2);
      const all = found.find(({ kind }) => kind === 'gc, all')!;
      assert.equal(all.count, of('gc').length);
      if (of('run')[0]!.name === 'sluice') assert.equal(status, all.over === 0 ? 0 : 1, stderr);
    }
  });

  it('exits with 2 and prints one line when it is misused', () => {
    for (const argv of [['--frob'], ['--rate', '0'], ['--seconds', 'many'], ['--against', 'nowhere']]) {
      const { status, stderr } = pauses(...argv);
      assert.equal(status, 2, argv.join(' '));
      assert.equal(stderr.trim().split('\n').length, 1, stderr);
    }
  });
});
