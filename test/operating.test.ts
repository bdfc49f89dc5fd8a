import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { serveHelp } from '../lib/command/serve.ts';
import { createSseServer } from '../lib/server.ts';

const page = new URL('../docs/operating.md', import.meta.url);
const guide = readFileSync(page, 'utf8');

const inOrder = (names: Iterable<string>) => [...new Set(names)].sort();

describe('docs/operating.md', () => {
  it('explains every metric that the server has, and no other', async (t) => {
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

  it('names options that the command has', () => {
    const named = Array.from(guide.matchAll(/[`[ ](--[a-z][a-z-]+)/g), ([, name = '']) => name);
    // Of Node itself.
    const foreign = new Set(['--max-old-space-size']);
    assert.deepEqual(
      inOrder(named).filter((name) => !foreign.has(name) && !serveHelp.includes(name)),
      [],
    );
    assert.ok(named.length > 20);
  });

  it('links to what is there', () => {
    const links = Array.from(guide.matchAll(/\]\(([^)#:]+)(?:#[^)]*)?\)/g), ([, path = '']) => path);
    assert.deepEqual(
      links.filter((path) => !existsSync(new URL(path, page))),
      [],
    );
    assert.ok(links.length >= 3);
  });

  it('links to headings that are there', () => {
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
