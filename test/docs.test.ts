import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { Reader } from './helpers/reader.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'sluice-docs-'));
after(() => rmSync(folder, { recursive: true }));

/** Every example of a page: a block of TypeScript under a comment that names it. */
function examplesOf(page: string): Map<string, string> {
  const text = readFileSync(join(root, page), 'utf8');
  const blocks = text.matchAll(/<!-- example: (\w+) -->\n```ts\n([\s\S]*?)```/g);
  return new Map(Array.from(blocks, ([, name = '', code = '']) => [name, code]));
}

/** A port that nothing listens on, for an example that names one. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}

/** Runs an example as it stands, but for the port and for where the package is. */
async function run(code: string): Promise<{ url: string; child: ChildProcess; output: () => string }> {
  const port = await freePort();
  const index = pathToFileURL(join(root, 'lib/index.ts')).href;
  const file = join(folder, `example-${port}.mts`);
  writeFileSync(file, code.replaceAll("'sluice'", `'${index}'`).replaceAll('8080', String(port)));
  const child = spawn(process.execPath, ['--import', import.meta.resolve('tsx'), file], { cwd: folder });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (output += chunk));
  const url = `http://127.0.0.1:${port}`;
  await accepted(url, child, () => output);
  return { url, child, output: () => output };
}

async function accepted(url: string, child: ChildProcess, output: () => string): Promise<void> {
  while (child.exitCode === null) {
    try {
      await fetch(url, { method: 'HEAD' });
      return;
    } catch {
      await sleep(20);
    }
  }
  throw new Error(`the example ended: ${output()}`);
}

describe('the examples of the README', () => {
  const examples = examplesOf('README.md');

  it('embed: a hub in a server of one’s own', async () => {
    const { url, child } = await run(examples.get('embed') as string);
    const first = await Reader.open(url);
    await first.until(({ events }) => events.length === 1);
    first.close();
    const second = await Reader.open(url, { headers: { 'Last-Event-ID': first.lastEventId } });
    await second.until(({ events }) => events.length === 1);
    assert.ok((second.data[0] as string) > (first.data[0] as string));
    assert.equal(
      second.frames.some(({ event }) => event === 'sluice:gap'),
      false,
    );
    second.close();
    child.kill();
  });

  it('pipe: a stream for one client', async () => {
    const { url, child, output } = await run(examples.get('pipe') as string);
    const reader = await Reader.open(url);
    await reader.untilEnded();
    assert.deepEqual(
      reader.frames.map(({ event, data }) => [event, data]),
      [
        ['token', 'Streams'],
        ['token', 'are'],
        ['token', 'cursors.'],
        ['sluice:end', '{}'],
      ],
    );
    while (!/^ended\n.*ended\n/s.test(output())) await once(child.stdout as NodeJS.ReadableStream, 'data');
    child.kill();
  });

  it('are all run here', () => {
    assert.deepEqual([...examples.keys()], ['embed', 'pipe']);
  });
});
