// Whether servers and benches run under the Nodes that are asked for, and their readers do not.
//   npx tsx --test bench/report/nodes.test.ts

import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { nodesOf, own } from '../loads/nodes.ts';
import { Misuse } from '../options.ts';
import { startBench } from './started.ts';

const folder = mkdtempSync(join(tmpdir(), 'sluice-nodes-'));
after(() => rmSync(folder, { recursive: true }));

/** A program that says of itself what a Node says. */
function program(name: string, says: string): string {
  const path = join(folder, name);
  writeFileSync(path, `#!/bin/sh\necho '${says}'\n`);
  chmodSync(path, 0o755);
  return path;
}

const misuse = (message: RegExp) => (error: unknown) =>
  error instanceof Misuse && message.test(error.message);

describe('the Nodes of a run', () => {
  const [major] = process.versions.node.split('.') as [string];

  it('are the one that runs the command, unless others are named', () => {
    assert.deepEqual(nodesOf([], false), [own]);
    assert.deepEqual(nodesOf([major, process.execPath], false), [own]);
  });

  it('are told apart by their paths where they have the same version', () => {
    const patched = program('patched', `["${process.versions.node}", "1", "/opt/patched/node"]`);
    assert.deepEqual(
      nodesOf([process.execPath, patched], false).map(({ name }) => name),
      [`${own.name} (${process.execPath})`, `${own.name} (/opt/patched/node)`],
    );
  });

  it('are refused where there is no such program, or it is no Node', () => {
    const refused = /^`--node` must be a major version, such as 24, or a program of Node, got "/;
    for (const word of ['/nowhere/node', program('other', 'hello'), '24.1', ''])
      assert.throws(() => nodesOf([word], false), misuse(refused), word);
  });

  it('are not fetched where that is not wanted', () => {
    assert.throws(
      () => nodesOf(['19'], false),
      misuse(/^Node 19 is not here, and `--no-install` keeps it from being fetched$/),
    );
  });

  it('run the servers, and not their readers', async () => {
    const wanted = nodesOf(['20', '24'], true);
    const argv = [
      'llm',
      '--peers',
      'raw',
      '--connections',
      '2',
      '--runs',
      '1',
      '--quick',
      '--node',
      '20',
      '--node',
      '24',
    ];
    const bench = startBench(argv, folder);
    const [servers, readers] = [new Set<string>(), new Set<string>()];
    while (bench.child.exitCode === null) {
      for (const { path, argv: words } of bench.parts()) {
        if (words.some((word) => word.endsWith('host.js'))) servers.add(path);
        if (words.some((word) => word.endsWith('reader.js'))) readers.add(path);
      }
      await sleep(5);
    }
    const { report, stderr } = await bench.ended;
    assert.deepEqual(
      [...servers].filter((path) => !path.endsWith('taskset')).sort(),
      wanted.map(({ path }) => path).sort(),
      stderr,
    );
    assert.deepEqual([...readers], [process.execPath]);
    const names = wanted.map(({ name }) => name);
    assert.deepEqual(report!.environment.nodes, names);
    assert.deepEqual([...new Set(report!.runs.map(({ parameters }) => parameters.node))], names);
  });
});
