import assert from 'node:assert/strict';
import net from 'node:net';
import { after, before, describe, it } from 'node:test';
import { Hub } from '../lib/hub.ts';
import { openStream } from '../lib/stream.ts';
import { Reader } from './helpers/reader.ts';
import { openServer, type TestServer } from './helpers/server.ts';

describe('a hub in an http server', () => {
  const hub = new Hub();
  let server: TestServer;

  before(async () => {
    server = await openServer((req, res) => {
      const { pathname, searchParams } = new URL(req.url ?? '/', 'http://localhost');
      const lastEventId = searchParams.get('after') ?? (req.headers['last-event-id'] as string | undefined);
      hub.subscribe(pathname.slice(1).split(','), openStream(req, res), { lastEventId });
    });
  });

  after(() => server.close());

  it('delivers what is published while a client listens, and what it missed when it returns', async () => {
    const first = await Reader.open(`${server.url}a,b`);
    await first.until(({ frames }) => frames.length === 1);
    hub.publish('a', { data: '1' });
    await first.until(({ data }) => data.length === 1);
    first.close();
    hub.publish('b', { data: '2' });
    hub.publish('c', { data: 'not followed' });
    hub.publish('a', { data: '3' });
    const second = await Reader.open(`${server.url}a,b`, {
      headers: { 'Last-Event-ID': first.lastEventId },
    });
    await second.until(({ data }) => data.length === 2);
    hub.publish('b', { data: '4' });
    await second.until(({ data }) => data.length === 3);
    assert.deepEqual([...first.data, ...second.data], ['1', '2', '3', '4']);
    second.close();
  });

  it('delivers everything since its arrival to a client that was cut before its first event', async () => {
    const first = await Reader.open(`${server.url}cut`);
    await first.until(({ frames }) => frames.length === 1);
    first.close();
    hub.publish('cut', { data: 'while nobody listened' });
    const second = await Reader.open(`${server.url}cut`, {
      headers: { 'Last-Event-ID': first.lastEventId },
    });
    await second.until(({ data }) => data.length === 1);
    assert.deepEqual(second.data, ['while nobody listened']);
    second.close();
  });

  it('writes what was published in one turn in one piece', async () => {
    const reader = await Reader.open(`${server.url}batch`);
    await reader.until(({ frames }) => frames.length === 1);
    const chunks: string[] = [];
    reader.response.on('data', (chunk) => chunks.push(chunk));
    for (let i = 0; i < 100; i++) hub.publish('batch', { data: String(i) });
    await reader.until(({ data }) => data.length === 100);
    assert.equal(chunks.length, 1);
    reader.close();
  });

  it('loses and doubles nothing over a hundred connections that are cut off anywhere', async () => {
    const start = hub.position;
    const total = 2000;
    for (let i = 0; i < total; i++) hub.publish('torn', { data: `${i} ${'x'.repeat(i % 97)}` });
    const seen: number[] = [];
    let id = start;
    for (let connection = 0; connection < 100 && seen.length < total; connection++) {
      const bytes = await readBytes(server.port, `/torn?after=${id}`, 500 + ((connection * 7919) % 3000));
      // By the standard an event counts once a blank line has dispatched it.
      for (const frame of bytes
        .slice(bytes.indexOf('\r\n\r\n') + 4)
        .split('\n\n')
        .slice(0, -1)) {
        id = /^id: (.*)$/m.exec(frame)?.[1] ?? id;
        const number = /^data: (\d+) x*$/m.exec(frame)?.[1];
        if (number !== undefined && !/event:/.test(frame)) seen.push(Number(number));
      }
    }
    assert.deepEqual(
      seen,
      Array.from({ length: seen.length }, (_, i) => i),
    );
    assert.ok(seen.length > 1000, `only ${seen.length} arrived`);
  });
});

/**
 * Reads so many bytes of a response, without chunks since it asks as HTTP/1.0, and cuts the connection off.
 */
async function readBytes(port: number, path: string, most: number): Promise<string> {
  const socket = net.connect(port, '127.0.0.1');
  socket.write(`GET ${path} HTTP/1.0\r\n\r\n`);
  let text = '';
  for await (const chunk of socket) {
    text += chunk;
    if (text.length >= most) break;
  }
  return text.slice(0, most);
}
