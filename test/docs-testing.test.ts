import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { after, before, describe, it } from 'node:test';
import { examplesOf, runnable, typeErrorsOf } from './helpers/docs.ts';

const examples = examplesOf(new URL('../docs/testing.md', import.meta.url));
const tsx = import.meta.resolve('tsx');

/** For each example, what it says of the code under test, and the same where it is not so. */
const faults: Record<string, readonly [string, string]> = {
  handler: ['json: { price: 7.25 }', 'json: { price: 7 }'],
  exchange: ["stream.pipe(['one', 'two'])", "stream.pipe(['one'])"],
  phone: ["'stalled');", "'client-gone');"],
  cuts: ['read.length === 100', 'read.length === 99'],
  time: ['idleTimeout: 60_000', 'idleTimeout: 40_000'],
  checker: ['reader.take(event);', "if (event.data !== '18') reader.take(event);"],
};

describe('the examples of docs/testing.md', () => {
  let folder: string;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'sluice-'));
  });
  after(() => rm(folder, { recursive: true }));

  /** Runs a test file as its user does. */
  async function run(
    name: string,
    code: string,
  ): Promise<{ readonly exitCode: number; readonly output: string }> {
    const file = join(folder, `${name}.test.mts`);
    await writeFile(file, code);
    // The child must not take itself for a part of this test run.
    const { NODE_TEST_CONTEXT: _, ...env } = process.env;
    const child = spawn(process.execPath, ['--import', tsx, file], {
      env,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const closed = new Promise<number>((resolve) => child.once('close', resolve));
    return { output: await text(child.stdout), exitCode: await closed };
  }

  for (const [name, example] of examples) {
    const code = runnable(example, '');

    it(`${name} compiles under \`strict\``, async () => {
      assert.equal(await typeErrorsOf(join(folder, `${name}.types.mts`), code), '');
    });

    it(`${name} passes, and fails where what it says is not so`, async () => {
      const { exitCode, output } = await run(name, code);
      assert.equal(exitCode, 0, output);
      const [right, wrong] = faults[name] ?? assert.fail('`faults` has no entry for it');
      const broken = code.replace(right, wrong);
      assert.notEqual(broken, code);
      assert.notEqual((await run(`${name}-broken`, broken)).exitCode, 0);
    });
  }
});
