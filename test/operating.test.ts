import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { createSseServer } from '../lib/server.ts';
import { run } from './helpers/command.ts';

const page = new URL('../docs/operating.md', import.meta.url);
const guide = readFileSync(page, 'utf8');

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
    const { stdout: help } = await run('serve', ['--help']);
    const optionsIn = (text: string) =>
      inOrder(Array.from(text.matchAll(/[`[ ](--[a-z][a-z-]+)/g), ([, name = '']) => name));
    // --max-old-space-size is an option of Node.
    const known = new Set([...optionsIn(help), '--max-old-space-size']);
    const named = optionsIn(guide);
    assert.deepEqual(
      named.filter((name) => !known.has(name)),
      [],
    );
    assert.ok(named.length > 15, `${named}`);
  });

  it('links only to files that exist', () => {
    const links = Array.from(guide.matchAll(/\]\(([^)#:]+)(?:#[^)]*)?\)/g), ([, path = '']) => path);
    assert.deepEqual(
      links.filter((path) => !existsSync(new URL(path, page))),
      [],
    );
    assert.ok(links.length >= 3);
  });

  it('links only to headings that exist', () => {
    const headings = new Set(
      Array.from(guide.matchAll(/^#+ (.+)$/gm), ([, text = '']) => text.toLowerCase().replaceAll(' ', '-')),
    );
    const anchors = Array.from(guide.matchAll(/\]\(#([^)]+)\)/g), ([, anchor = '']) => anchor);
    assert.deepEqual(
      anchors.filter((anchor) => !headings.has(anchor)),
      [],
    );
  });
});
