import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { createSseServer } from '../lib/server.ts';
import { run } from './helpers/command.ts';

const guide = readFileSync(new URL('../docs/operating.md', import.meta.url), 'utf8');

const inOrder = (names: Iterable<string>) => [...new Set(names)].sort();

describe('docs/operating.md', () => {
  it('explains every metric of the server and no other', async (t) => {
    const sse = createSseServer();
    const url = await sse.listen(0);
    t.after(() => sse.close());
    const text = await (await fetch(`${url}/metrics`)).text();
    const [, table = ''] = /<!-- metrics:.*?-->(.*)<!-- \/metrics -->/s.exec(guide) ?? [];
    const cells = Array.from(table.matchAll(/^\| (`[^|]*`) \|/gm), ([, cell = '']) => cell).join();
    assert.deepEqual(
      inOrder(Array.from(cells.matchAll(/`([a-z_]+)/g), ([, name = '']) => name)),
      inOrder(Array.from(text.matchAll(/^# TYPE (\w+)/gm), ([, name = '']) => name)),
    );
  });

  it('names only options that the command has', async () => {
    const helps = await Promise.all(
      (['serve', 'tail', 'publish', 'check'] as const).map((command) => run(command, ['--help'])),
    );
    const help = helps.map(({ stdout }) => stdout).join('\n');
    const optionsIn = (text: string) =>
      inOrder(Array.from(text.matchAll(/[`[ ](--[a-z][a-z-]+)/g), ([, name = '']) => name));
    // Options of Node and of redis-cli.
    const known = new Set([...optionsIn(help), '--max-old-space-size', '--max-semi-space-size', '--cluster']);
    const named = optionsIn(guide);
    assert.deepEqual(
      named.filter((name) => !known.has(name)),
      [],
    );
    assert.ok(named.length > 15, `${named}`);
  });
});
