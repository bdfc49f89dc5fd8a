// Checks that `profile.ts` divides the time of a delivery among the places where it is spent.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { it } from 'node:test';
import { promisify } from 'node:util';
import { root } from '../loads/plain.ts';

const run = promisify(execFile);

/** What it prints for 50 connections. */
async function profileOf(...more: readonly string[]): Promise<string> {
  const argv = ['--connections', '50', '--seconds', '0.5', ...more];
  const program = ['--import', import.meta.resolve('tsx'), join(root, 'bench/profile.ts'), ...argv];
  return (await run(process.execPath, program, { cwd: root, timeout: 60_000 })).stdout;
}

it('says what a delivery costs in the kernel, in Node and in our modules, beside the floor', async () => {
  const stdout = await profileOf('--batch', '4');
  const rows = stdout
    .split('\n')
    .filter((line) => line.startsWith('|'))
    .map((line) => line.split('|').map((cell) => cell.trim()));
  assert.deepEqual(rows[0]?.slice(1, 4), ['where', 'sluice, 4 a turn', 'socket, 4 a turn']);
  const of = (where: RegExp) =>
    rows
      .find(([, place = '']) => where.test(place))
      ?.slice(2, 4)
      .map(Number);
  for (const place of [/kernel/, /Node’s JavaScript/, /together/])
    assert.ok(
      of(place)?.every((time) => time > 0),
      `${place}\n${stdout}`,
    );
  const [ours = 0, floors] = of(/^ours: `delivery`$/) ?? [];
  assert.ok(ours > 0 && floors === 0, stdout);
  const parts = rows.slice(2, -2).reduce((sum, row) => sum + Number(row[2]), 0);
  assert.ok(Math.abs(parts + Number(rows.at(-2)![2]) - of(/together/)![0]!) < 0.02, stdout);
});

it('divides that of connections with a topic each', async () => {
  const stdout = await profileOf('--batch', '1', '--peers', 'sluice', '--topics', '50');
  assert.match(stdout, /, 50 connections, 50 topics$/m);
  assert.match(stdout, /^\| ours: `delivery` \| 0*\.?\d/m);
});

it('refuses more topics than connections, of which some would have no reader', async () => {
  await assert.rejects(profileOf('--topics', '51'), /`--topics` must be a whole number from 1 to 50/);
});
