import assert from 'node:assert/strict';
import { once } from 'node:events';
import http from 'node:http';
import net, { type AddressInfo } from 'node:net';
import { after, before, describe, it } from 'node:test';
import { Hub } from '../lib/hub.ts';
import { openStream } from '../lib/stream.ts';
import { Reader } from './helpers/reader.ts';

/** A hub in somebody's own server, in the few lines that the README promises. */
function embed(hub: Hub): { url: string; server: http.Server } {
  const server = http.createServer((req, res) => {
    const { pathname, searchParams } = new URL(req.url ?? '/', 'http://localhost');
    const topics = pathname.slice(1).split(',');
    const lastEventId = searchParams.get('after') ?? (req.headers['last-event-id'] as string | undefined);
    const stream = openStream(req, res);
    hub.subscribe(topics, stream, { lastEventId });
  });
  const embedded = { url: '', server };
  before(async () => {
    await once(server.listen(0, '127.0.0.1'), 'listening');
    embedded.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  after(() => {
    server.closeAllConnections();
    server.close();
  });
  return embedded;
}

describe('an event and a request meet', () => {
  const hub = new Hub();
  const embedded = embed(hub);

  it('delivers what is published while one listens, and what was missed when one returns', async () => {
    const first = await Reader.open(`${embedded.url}/a,b`);
    await first.until(({ frames }) => frames.length === 1);
    hub.publish('a', { data: '1' });
    await first.until(({ data }) => data.length === 1);
    first.close();
    hub.publish('b', { data: '2' });
    hub.publish('c', { data: 'not followed' });
    hub.publish('a', { data: '3' });
    const second = await Reader.open(`${embedded.url}/a,b`, {
      headers: { 'Last-Event-ID': first.lastEventId },
    });
    await second.until(({ data }) => data.length === 2);
    hub.publish('b', { data: '4' });
    await second.until(({ data }) => data.length === 3);
    assert.deepEqual([...first.data, ...second.data], ['1', '2', '3', '4']);
    second.close();
  });

  it('gives a client that was cut before its first event everything since it came', async () => {
    const first = await Reader.open(`${embedded.url}/cut`);
    await first.until(({ frames }) => frames.length === 1);
    first.close();
    hub.publish('cut', { data: 'while nobody listened' });
    const second = await Reader.open(`${embedded.url}/cut`, {
      headers: { 'Last-Event-ID': first.lastEventId },
    });
    await second.until(({ data }) => data.length === 1);
    assert.deepEqual(second.data, ['while nobody listened']);
    second.close();
  });

  it('writes what was published in one turn in one piece', async () => {
    const reader = await Reader.open(`${embedded.url}/batch`);
    await reader.until(({ frames }) => frames.length === 1);
    const chunks: string[] = [];
    reader.response.on('data', (chunk) => chunks.push(chunk));
    for (let i = 0; i < 100; i++) hub.publish('batch', { data: String(i) });
    await reader.until(({ data }) => data.length === 100);
    assert.equal(chunks.length, 1);
    reader.close();
  });

  it('loses and doubles nothing over a hundred connections that are cut anywhere', async () => {
    const { port } = new URL(embedded.url);
    const start = hub.position;
    const total = 2000;
    for (let i = 0; i < total; i++) hub.publish('torn', { data: `${i} ${'x'.repeat(i % 97)}` });
    const seen: number[] = [];
    let id = start;
    for (let connection = 0; connection < 100 && seen.length < total; connection++) {
      const bytes = await readBytes(Number(port), `/torn?after=${id}`, 500 + ((connection * 7919) % 3000));
      // Only what a blank line has dispatched counts, as the standard says.
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

/** Reads as much of a response as that, unframed by HTTP/1.0, and cuts the connection. */
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
