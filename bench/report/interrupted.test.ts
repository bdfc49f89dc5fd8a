// Whether a run that ends early leaves the report of what it has, and nothing else.
//   npx tsx --test bench/report/interrupted.test.ts

import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type Ended, type StartedBench, startBench } from './started.ts';

const out = mkdtempSync(join(tmpdir(), 'sluice-interrupted-'));
after(() => rmSync(out, { recursive: true }));

const ROUNDS = 10_000;
const endless = [
  'fanout',
  '--peers',
  'sluice',
  '--connections',
  '20',
  '--batch',
  '1',
  '--quick',
  '--no-install',
];

/** A run of far more rounds than it will have, after two of them. */
async function underWay(flags: readonly string[] = []): Promise<StartedBench> {
  const bench = startBench([...endless, '--runs', String(ROUNDS)], out, flags);
  await bench.said(/fanout sluice 3\/10000/);
  return bench;
}

function isIncomplete({ report, paths, stdout }: Ended, why: RegExp): void {
  assert.match(report!.incomplete!, why);
  assert.ok(report!.runs.length >= 2);
  assert.deepEqual(
    paths.map((path) => path.split('.').at(-1)),
    ['json', 'md', 'html'],
  );
  for (const path of paths.slice(1))
    assert.ok(readFileSync(path, 'utf8').includes(report!.incomplete!), path);
  assert.ok(stdout.includes(`Incomplete: ${report!.incomplete}`));
}

const exists = (pid: number) => {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
};

describe('a run that is interrupted', () => {
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    it(`by ${signal} leaves its report, no process and no folder, and exits with 130`, async () => {
      const folders = () => readdirSync(fileURLToPath(new URL('../peers', import.meta.url)));
      const before = folders();
      const bench = await underWay();
      const parts = bench.parts();
      bench.child.kill(signal);
      const ended = await bench.ended;
      assert.equal(ended.code, 130, ended.stderr);
      isIncomplete(
        ended,
        new RegExp(`^the run was interrupted by ${signal}, after \\d+ of ${ROUNDS} rounds$`),
      );
      while (parts.some(({ pid }) => exists(pid))) await sleep(10);
      assert.deepEqual(folders(), before);
    });
  }

  it('by the terminal, which stops its servers too, does not take that for their failure', async () => {
    const bench = await underWay();
    process.kill(-bench.child.pid!, 'SIGINT');
    const ended = await bench.ended;
    assert.equal(ended.code, 130, ended.stderr);
    isIncomplete(ended, /^the run was interrupted by SIGINT/);
    assert.deepEqual(ended.report!.skipped, []);
    assert.ok(
      ended.report!.runs.every(
        ({ invalid }) => invalid === undefined || invalid === 'the reader was the limit',
      ),
    );
  });

  it('before anything was measured writes no report', async () => {
    const bench = startBench([...endless, '--runs', '1'], out);
    await bench.said(/ cores, /);
    bench.child.kill('SIGINT');
    const { code, paths, stderr } = await bench.ended;
    assert.deepEqual([code, paths], [130, []], stderr);
  });

  it('by an error that no scenario catches leaves its report, and exits with 1', async () => {
    const failing = 'process.on("SIGUSR2", () => { throw new Error("nobody catches this") })';
    const bench = await underWay(['--import', `data:text/javascript,${encodeURIComponent(failing)}`]);
    bench.child.kill('SIGUSR2');
    const ended = await bench.ended;
    assert.equal(ended.code, 1, ended.stderr);
    isIncomplete(
      ended,
      /^the run was interrupted by an error: nobody catches this, after \d+ of 10000 rounds$/,
    );
    assert.match(ended.stderr, /Error: nobody catches this\n\s+at /);
  });
});

describe('a run of which a server crashes', () => {
  it('measures the rest, says what is missing, and exits with 1', async () => {
    const argv = [
      'idle',
      '--peers',
      'sluice,raw',
      '--connections',
      '20',
      '--runs',
      '1',
      '--quick',
      '--no-install',
    ];
    const bench = startBench(argv, out);
    const isOurs = (words: readonly string[]) =>
      words.includes('sluice') && words.some((word) => word.endsWith('host.js'));
    let server = bench.parts().find((part) => isOurs(part.argv));
    while (server === undefined && bench.child.exitCode === null) {
      await sleep(5);
      server = bench.parts().find((part) => isOurs(part.argv));
    }
    process.kill(server!.pid, 'SIGKILL');
    const { code, report, stderr } = await bench.ended;
    assert.equal(code, 1, stderr);
    assert.equal(report!.incomplete, 'not everything was measured: idle (sluice)');
    assert.match(report!.skipped[0]!.reason, /^it stopped: /);
    assert.deepEqual(
      report!.runs.map(({ peer, figures }) => [peer, Object.keys(figures)]),
      [['raw', ['rssPerConnection', 'heldPerConnection']]],
    );
  });
});
