import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath, pathToFileURL } from 'node:url';
import * as index from '../lib/index.ts';
import { createSseServer } from '../lib/server.ts';
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

/** The code with the package where it is in this repository. */
function here(code: string): string {
  return code.replace(/'sluice(?:\/(\w+))?'/g, (_, name = 'index') => {
    return `'${pathToFileURL(join(root, `lib/${name}.ts`)).href}'`;
  });
}

/** Runs an example as it stands, but for the port and for where the package is. */
async function run(code: string): Promise<{ url: string; child: ChildProcess; output: () => string }> {
  const port = await freePort();
  const file = join(folder, `example-${port}.mts`);
  writeFileSync(file, here(code).replaceAll('8080', String(port)));
  const child = spawn(process.execPath, ['--import', import.meta.resolve('tsx'), file], { cwd: folder });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (output += chunk));
  const url = `http://127.0.0.1:${port}`;
  await accepted(url, child, () => output);
  return { url, child, output: () => output };
}

/** Runs an example that reads, until its place is that of the event which is expected first. */
async function runReader(code: string, url: string, idOf: () => string, expected: string): Promise<void> {
  const file = join(folder, 'reader.mts');
  writeFileSync(file, here(code).replaceAll('http://127.0.0.1:8080', url));
  const child = spawn(process.execPath, ['--import', import.meta.resolve('tsx'), file], { cwd: folder });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (output += chunk));
  const place = join(folder, 'news.place.json');
  while (!existsSync(place) || !readFileSync(place, 'utf8').includes(idOf())) {
    assert.equal(child.exitCode, null, output);
    await sleep(20);
  }
  while (output === '') await once(child.stdout, 'data');
  child.kill('SIGKILL');
  assert.equal(output, `${expected}\n`);
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

describe('the examples of docs/api.md', () => {
  const examples = examplesOf('docs/api.md');

  it('drain: streams are sent away before the process ends', async () => {
    const { url, child, output } = await run(examples.get('drain') as string);
    const reader = await Reader.open(url);
    await reader.until(({ data }) => data.length === 1);
    const closed = once(child, 'close');
    child.kill('SIGTERM');
    await reader.over;
    assert.equal(reader.retries.length, 1);
    await closed;
    assert.equal(JSON.parse(output()).ended, 1);
  });

  it('metrics: a page of one’s own', async () => {
    const { url, child } = await run(examples.get('metrics') as string);
    const page = await (await fetch(url)).text();
    assert.match(page, /^app_listeners 3$/m);
    assert.match(page, /^app_request_seconds_count 1$/m);
    child.kill();
  });

  it('are all run here', () => {
    assert.deepEqual([...examples.keys()], ['drain', 'metrics']);
  });
});

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
    await reader.over;
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

  it('read: a reader that keeps its place', async () => {
    const sse = createSseServer();
    const url = await sse.listen(0);
    const { hub } = sse;
    const code = examples.get('read') as string;
    let id = 'none yet';
    const first = runReader(code, url, () => id, 'before');
    while (hub.size === 0) await sleep(10);
    id = hub.publish('news', { data: 'before' });
    await first;
    id = hub.publish('news', { data: 'meanwhile' });
    await runReader(code, url, () => id, 'meanwhile');
    await sse.close({ deadline: 100 });
  });

  it('are all run here', () => {
    assert.deepEqual([...examples.keys()], ['embed', 'pipe', 'read']);
  });
});

describe('the names that the package exports', () => {
  it('are all in the docs', () => {
    const text = ['api', 'client'].map((page) => readFileSync(join(root, `docs/${page}.md`), 'utf8')).join();
    const missing = Object.keys(index).filter((name) => !new RegExp(`\\b${name}\\b`).test(text));
    assert.deepEqual(missing, []);
  });
});
