import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { MemoryLog } from '../lib/memory-log.ts';
import { createSseServer, type SseServer, type SseServerOptions } from '../lib/server.ts';
import { Reader } from './helpers/reader.ts';

/** A server for the tests of one suite. */
function serve(options: SseServerOptions = {}): { url: string; sse: SseServer } {
  const served = { url: '', sse: createSseServer(options) };
  before(async () => {
    served.url = await served.sse.listen(0);
  });
  after(() => {
    served.sse.server.closeAllConnections();
    served.sse.server.close();
  });
  return served;
}

interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: string;
  readonly json: Record<string, unknown>;
}

async function ask(url: string, init: RequestInit = {}): Promise<Answer> {
  const response = await fetch(url, init);
  const body = await response.text();
  const isJson = response.headers.get('content-type') === 'application/json';
  return { status: response.status, headers: response.headers, body, json: isJson ? JSON.parse(body) : {} };
}

/** Sends bytes as they are, and gives back all that comes until the connection closes. */
async function send(url: string, text: string): Promise<string> {
  const { port, hostname } = new URL(url);
  const socket = net.connect(Number(port), hostname);
  let answer = '';
  socket.on('data', (chunk) => {
    answer += chunk;
  });
  socket.on('error', () => {});
  socket.write(text);
  await once(socket, 'close');
  return answer;
}

/** A log that takes its time to close. */
class SlowLog extends MemoryLog {
  isClosed = false;

  async close(): Promise<void> {
    for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
    this.isClosed = true;
  }
}

function canWriteAgain(json: string): boolean {
  try {
    return JSON.stringify(JSON.parse(json)) === json;
  } catch {
    return false;
  }
}

const post = (url: string, body: string | Uint8Array<ArrayBuffer>, headers: Record<string, string> = {}) =>
  ask(url, { method: 'POST', body, headers });

describe('GET /events', () => {
  const served = serve({ hub: { history: { maxEvents: 3 } } });

  it('sends retry and a position first, then each event as soon as it is published', async () => {
    const reader = await Reader.open(`${served.url}/events?topic=first`);
    await reader.until(({ frames }) => frames.length === 1);
    assert.match(
      reader.text,
      /^retry: \d+\nid: \d+-0\nevent: sluice:ready\ndata: {.*"topics":\["first"\]}\n\n$/,
    );
    const { json } = await post(`${served.url}/topics/first`, 'hello\nworld');
    await reader.until(({ events }) => events.length === 1);
    assert.deepEqual(reader.events, [{ id: json.id, event: undefined, data: 'hello\nworld' }]);
    reader.close();
  });

  it('sends the headers that keep caches, compressors and proxies away', async () => {
    const reader = await Reader.open(`${served.url}/events/headers`);
    assert.equal(reader.status, 200);
    assert.equal(reader.response.headers['content-type'], 'text/event-stream');
    assert.equal(reader.response.headers['cache-control'], 'no-store, no-transform');
    assert.equal(reader.response.headers['x-accel-buffering'], 'no');
    reader.close();
  });

  it('merges several topics, from the path and the query, in the order of their publishing', async () => {
    const reader = await Reader.open(`${served.url}/events/m1?topic=m2&topic=m3`);
    await reader.until(({ frames }) => frames.length === 1);
    for (const [topic, data] of [
      ['m2', 'a'],
      ['m1', 'b'],
      ['other', 'x'],
      ['m3', 'c'],
    ] as const) {
      await post(`${served.url}/topics/${topic}`, data);
    }
    await reader.until(({ events }) => events.length === 3);
    assert.deepEqual(reader.data, ['a', 'b', 'c']);
    reader.close();
  });

  it('resumes after the id of the header, else of the query', async () => {
    const ids: string[] = [];
    for (const data of ['1', '2', '3'])
      ids.push(String((await post(`${served.url}/topics/resume`, data)).json.id));
    const resumed = async (query: string, header?: string) => {
      const headers = header === undefined ? {} : { 'Last-Event-ID': header };
      const reader = await Reader.open(`${served.url}/events?topic=resume${query}`, { headers });
      await reader.until(({ data }) => data.at(-1) === '3');
      reader.close();
      return reader.data;
    };
    assert.deepEqual(await resumed('', ids[0]), ['2', '3']);
    assert.deepEqual(await resumed(`&lastEventId=${ids[1]}`), ['3']);
    assert.deepEqual(await resumed(`&lastEventId=${ids[0]}`, ids[1]), ['3']);
  });

  for (const [name, id, reason] of [
    ['evicted', (epoch: string) => `${epoch}-1`, 'evicted'],
    ['from another life', () => '1795408776829-4', 'unknown-epoch'],
    ['from the future', (epoch: string) => `${epoch}-999999`, 'ahead'],
    ['malformed', () => 'yesterday', 'malformed'],
    ['of 10 KB', () => '1'.repeat(10_000), 'malformed'],
    ['not ASCII', () => 'é-1', 'malformed'],
  ] as const) {
    it(`sends a gap for an id that is ${name}`, async () => {
      for (const data of ['1', '2', '3', '4', '5']) await post(`${served.url}/topics/gap`, data);
      const [epoch = ''] = served.sse.hub.position.split('-');
      const headers = { 'Last-Event-ID': Buffer.from(id(epoch)).toString('latin1') };
      const reader = await Reader.open(`${served.url}/events?topic=gap`, { headers });
      await reader.until(({ frames }) => frames.some(({ event }) => event === 'sluice:gap'));
      const gap = reader.frame('sluice:gap');
      assert.equal(JSON.parse(gap.data).reason, reason);
      assert.deepEqual(JSON.parse(gap.data).topics, ['gap']);
      assert.match(gap.id ?? '', /^\d+-\d+$/);
      // Of an id that the history still knows, what is left of it follows.
      const kept = reason === 'evicted' ? ['3', '4', '5'] : [];
      await reader.until(({ data }) => data.length === kept.length);
      await post(`${served.url}/topics/gap`, 'next');
      await reader.until(({ data }) => data.at(-1) === 'next');
      assert.deepEqual(reader.data, [...kept, 'next']);
      reader.close();
    });
  }

  it('treats an id that was sent twice as malformed', async () => {
    const { position } = served.sse.hub;
    const headers = ['Host', new URL(served.url).host, 'Last-Event-ID', position, 'Last-Event-ID', position];
    const reader = await Reader.open(`${served.url}/events?topic=twice`, { headers });
    await reader.until(({ frames }) => frames.length === 2);
    assert.equal(JSON.parse(reader.frame('sluice:gap').data).reason, 'malformed');
    reader.close();
  });

  it('answers HEAD with the headers and opens no stream', async () => {
    const { status, headers, body } = await ask(`${served.url}/events?topic=head`, { method: 'HEAD' });
    assert.equal(status, 200);
    assert.equal(headers.get('content-type'), 'text/event-stream');
    assert.equal(body, '');
    assert.equal(
      served.sse.hub.topics().some(({ topic }) => topic === 'head'),
      false,
    );
  });

  it('sends only the newest event of each key to a client that lags and conflates', async () => {
    const { json } = await post(`${served.url}/topics/prices?key=a`, 'a1');
    for (const [key, data] of [
      ['a', 'a2'],
      ['b', 'b1'],
      ['a', 'a3'],
    ]) {
      await post(`${served.url}/topics/prices?key=${key}`, data as string);
    }
    const reader = await Reader.open(`${served.url}/events?topic=prices&conflate=1&lastEventId=${json.id}`);
    await reader.until(({ data }) => data.includes('a3'));
    assert.deepEqual(reader.data, ['b1', 'a3']);
    reader.close();
  });

  for (const [target, status, error] of [
    ['/events', 400, 'topic-missing'],
    ['/events?topic=', 400, 'malformed-topic'],
    ['/events?topic=a/b', 400, 'malformed-topic'],
    [`/events?topic=${'a'.repeat(201)}`, 400, 'malformed-topic'],
    [`/events?${'topic=a&'.repeat(65)}`, 400, 'too-many-topics'],
    ['/events/a%20b', 400, 'malformed-topic'],
    ['/events/%ff', 400, 'malformed-path'],
  ] as const) {
    it(`refuses ${target.slice(0, 40)} with ${status} ${error}`, async () => {
      const answer = await ask(served.url + target);
      assert.deepEqual([answer.status, answer.json.error], [status, error]);
      assert.equal(typeof answer.json.message, 'string');
    });
  }

  it('refuses a reader that does not accept event streams with 406', async () => {
    const answer = await ask(`${served.url}/events?topic=a`, { headers: { Accept: 'application/json' } });
    assert.deepEqual([answer.status, answer.json.error], [406, 'not-acceptable']);
  });

  for (const [accept, status] of [
    ['', 200],
    ['*/*', 200],
    ['TEXT/Event-Stream', 200],
    ['application/json, */*;q=0.1', 200],
    ['text/*; q=1, */*;q=0', 200],
    ['*', 200],
    ['text/event-stream;q=0, */*', 406],
    ['*/*;q=0.000', 406],
    ['text/*;q=0,*/*;q=1', 406],
    ['text/html, application/json', 406],
    ['text/event-streams', 406],
  ] as const) {
    it(`answers ${status} to a reader that accepts ${JSON.stringify(accept)}`, async () => {
      const { port } = new URL(served.url);
      const head = `HEAD /events?topic=a HTTP/1.1\r\nHost: localhost\r\nAccept: ${accept}\r\n`;
      const answer = await send(`http://127.0.0.1:${port}`, `${head}Connection: close\r\n\r\n`);
      assert.equal(Number(answer.split(' ')[1]), status);
    });
  }
});

describe('POST /topics/{topic}', () => {
  const served = serve({ maxBodyBytes: 1000 });

  it('publishes the body as one event, with the name and the key of the query', async () => {
    const reader = await Reader.open(`${served.url}/events?topic=one`);
    await reader.until(({ frames }) => frames.length === 1);
    const { status, json } = await post(`${served.url}/topics/one?event=tick&key=k`, '{"price":1}');
    assert.equal(status, 200);
    await reader.until(({ events }) => events.length === 1);
    assert.deepEqual(reader.events, [{ id: json.id, event: 'tick', data: '{"price":1}' }]);
    reader.close();
  });

  it('publishes each line of an NDJSON body as an event', async () => {
    const reader = await Reader.open(`${served.url}/events?topic=lines`);
    await reader.until(({ frames }) => frames.length === 1);
    const type = { 'Content-Type': 'application/x-ndjson; charset=utf-8' };
    const { json } = await post(`${served.url}/topics/lines`, '{"n":1}\r\n\n{"n":2}\n"three"', type);
    await reader.until(({ events }) => events.length === 3);
    assert.deepEqual(reader.data, ['{"n":1}', '{"n":2}', '"three"']);
    assert.deepEqual(
      json.ids,
      reader.events.map(({ id }) => id),
    );
    reader.close();
  });

  it('publishes lines that are events themselves, with a name and a key of their own', async () => {
    const reader = await Reader.open(`${served.url}/events?topic=typed`);
    await reader.until(({ frames }) => frames.length === 1);
    const type = { 'Content-Type': 'application/vnd.sluice+ndjson' };
    const body = '"text"\n{"data":"a\\nb","event":"tick"}\n{"data":{"n":1}}\n';
    assert.equal((await post(`${served.url}/topics/typed?event=other`, body, type)).status, 200);
    await reader.until(({ events }) => events.length === 3);
    assert.deepEqual(
      reader.events.map(({ event, data }) => [event, data]),
      [
        ['other', 'text'],
        ['tick', 'a\nb'],
        ['other', '{"n":1}'],
      ],
    );
    reader.close();
  });

  it('publishes no event of a batch with a malformed line', async () => {
    const type = { 'Content-Type': 'application/vnd.sluice+ndjson' };
    for (const line of ['{', '{}', '1', 'null', '[]', '{"data":"x","event":1}', '{"data":"x","key":null}']) {
      const answer = await post(`${served.url}/topics/none`, `"fine"\n${line}\n`, type);
      assert.deepEqual([answer.status, answer.json.error], [400, 'bad-event'], line);
    }
    assert.equal(
      served.sse.hub.topics().some(({ topic }) => topic === 'none'),
      false,
    );
  });

  it('names the cure for data that is nested too deeply, which it could not write', async (t) => {
    const sse = createSseServer();
    const topic = `${await sse.listen(0)}/topics/deep`;
    t.after(() => sse.close());
    const type = { 'Content-Type': 'application/vnd.sluice+ndjson' };
    const json = `${'['.repeat(100_000)}${']'.repeat(100_000)}`;
    const answer = await post(topic, `"fine"\n{"data":${json}}`, type);
    // V8 of Node 26 writes what it has read, however deep it is.
    if (canWriteAgain(json)) assert.equal(answer.status, 200);
    else {
      assert.deepEqual([answer.status, answer.json.error], [400, 'bad-event']);
      const message = /^Line 2: `data` is nested too deeply .*: send it as a string/;
      assert.match(String(answer.json.message), message);
    }
    assert.equal((await post(topic, JSON.stringify({ data: json }), type)).status, 200);
  });

  it('publishes a body once for each idempotency key and topic', async () => {
    const key = { 'Idempotency-Key': 'attempt-1' };
    const first = await post(`${served.url}/topics/retried`, 'x', key);
    assert.deepEqual((await post(`${served.url}/topics/retried`, 'x', key)).json, first.json);
    assert.notDeepEqual((await post(`${served.url}/topics/retried2`, 'x', key)).json, first.json);
    const long = { 'Idempotency-Key': 'x'.repeat(201) };
    assert.equal((await post(`${served.url}/topics/retried`, 'x', long)).json.error, 'malformed-key');
  });

  it('accepts the form content type of curl, and an empty body', async () => {
    const form = { 'Content-Type': 'application/x-www-form-urlencoded' };
    assert.equal((await post(`${served.url}/topics/form`, 'a=b', form)).status, 200);
    assert.equal((await post(`${served.url}/topics/form`, '')).status, 200);
  });

  for (const [name, body, headers, status, error] of [
    ['a body that is not UTF-8', Buffer.from([0x61, 0xff]), {}, 400, 'malformed-body'],
    ['half a character at the end', Buffer.from([0xe2, 0x82]), {}, 400, 'malformed-body'],
    ['a surrogate in UTF-8', Buffer.from([0xed, 0xa0, 0x80]), {}, 400, 'malformed-body'],
    ['a body too large by its length', 'x'.repeat(1001), {}, 413, 'body-too-large'],
    ['another charset', 'x', { 'Content-Type': 'text/plain; charset=latin1' }, 415, 'unsupported-body'],
    ['a multipart form', 'x', { 'Content-Type': 'multipart/form-data; boundary=x' }, 415, 'unsupported-body'],
    ['a compressed body', 'x', { 'Content-Encoding': 'gzip' }, 415, 'unsupported-body'],
  ] as const) {
    it(`refuses ${name} with ${status}`, async () => {
      const answer = await post(`${served.url}/topics/refused`, body, headers);
      assert.deepEqual([answer.status, answer.json.error], [status, error]);
      assert.equal(
        served.sse.hub.topics().some(({ topic }) => topic === 'refused'),
        false,
      );
    });
  }

  it('refuses a body that exceeds the limit while it arrives, and keeps the connection usable', async () => {
    const { hostname, port } = new URL(served.url);
    const chunk = `3e8\r\n${'x'.repeat(1000)}\r\n`;
    const answer = await send(
      served.url,
      `POST /topics/refused HTTP/1.1\r\nHost: ${hostname}:${port}\r\nTransfer-Encoding: chunked\r\n\r\n${chunk}${chunk}0\r\n\r\n` +
        `GET /healthz HTTP/1.1\r\nHost: ${hostname}:${port}\r\nConnection: close\r\n\r\n`,
    );
    assert.match(answer, /^HTTP\/1.1 413 [\s\S]*"body-too-large"[\s\S]*HTTP\/1.1 200 /);
  });

  it('refuses a body of unknown length with 411', async () => {
    const answer = await send(
      served.url,
      'POST /topics/a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n',
    );
    assert.match(answer, /^HTTP\/1.1 411 /);
  });

  for (const [query, why] of [
    ['?event=sluice:gap', 'a name that is the hub’s own'],
    ['?event=%20sluice:end', 'such a name after a space'],
    ['?event=SLUICE:End%09', 'such a name in capitals, before a tab'],
    ['?event=%C2%A0sluice:', 'the prefix after a space that does not break'],
    ['?event=a%0Adata:+x', 'a line feed in the name'],
    ['?event=a%0Ddata:+x', 'a carriage return in the name'],
  ]) {
    it(`refuses ${why} with 400`, async () => {
      const answer = await post(`${served.url}/topics/injected${query}`, 'x');
      assert.deepEqual([answer.status, answer.json.error], [400, 'bad-event']);
      assert.match(String(answer.json.message), /`event`/);
    });
  }

  it('refuses an event that no history could hold with 413', async () => {
    const small = createSseServer({ hub: { history: { maxBytes: 100 } } });
    const url = await small.listen(0);
    const answer = await post(`${url}/topics/large`, 'x'.repeat(200));
    assert.deepEqual([answer.status, answer.json.error], [413, 'event-too-large']);
    small.server.close();
    small.server.closeAllConnections();
  });
});

describe('DELETE /topics/{topic}', () => {
  const served = serve();

  it('ends the topic: its readers get the events that they missed, the end, and then a 204', async () => {
    const reader = await Reader.open(`${served.url}/events?topic=done`);
    const { json } = await post(`${served.url}/topics/done`, 'last');
    assert.equal((await ask(`${served.url}/topics/done`, { method: 'DELETE' })).status, 204);
    await reader.over;
    assert.deepEqual(reader.data, ['last']);
    assert.equal(reader.frames.at(-1)?.event, 'sluice:end');
    assert.equal(
      (await ask(`${served.url}/events?topic=done&lastEventId=${reader.lastEventId}`)).status,
      204,
    );
    assert.equal((await ask(`${served.url}/events?topic=done&lastEventId=${json.id}`)).status, 204);
  });

  it('sends a client that returns later the rest, and then ends its stream', async () => {
    const { json } = await post(`${served.url}/topics/late`, '1');
    await post(`${served.url}/topics/late`, '2');
    await ask(`${served.url}/topics/late`, { method: 'DELETE' });
    const reader = await Reader.open(`${served.url}/events?topic=late&lastEventId=${json.id}`);
    await reader.over;
    assert.deepEqual(reader.data, ['2']);
    assert.equal(reader.frames.at(-1)?.event, 'sluice:end');
  });

  it('answers 404 for an unknown topic, and 409 to a publish after the end', async () => {
    assert.equal((await ask(`${served.url}/topics/nowhere`, { method: 'DELETE' })).status, 404);
    await post(`${served.url}/topics/over`, '1');
    await ask(`${served.url}/topics/over`, { method: 'DELETE' });
    const answer = await post(`${served.url}/topics/over`, '2');
    assert.deepEqual([answer.status, answer.json.error], [409, 'topic-ended']);
  });
});

describe('the other paths', () => {
  const served = serve();

  it('list the topics, and give the position that a snapshot needs', async () => {
    const { json } = await post(`${served.url}/topics/listed`, 'x');
    const topics = await ask(`${served.url}/topics`);
    assert.deepEqual(topics.json.topics, [
      { topic: 'listed', events: 1, bytes: 32, subscribers: 0, last: json.id, ended: false },
    ]);
    assert.deepEqual((await ask(`${served.url}/position`)).json, { position: json.id });
  });

  it('answer that the server is alive and ready', async () => {
    assert.equal((await ask(`${served.url}/healthz`)).status, 200);
    assert.equal((await ask(`${served.url}/readyz`)).status, 200);
  });

  it('serve the dashboard under a policy that allows no other source', async () => {
    const { headers, body } = await ask(served.url);
    assert.equal(headers.get('content-type'), 'text/html; charset=utf-8');
    assert.match(headers.get('content-security-policy') ?? '', /default-src 'none'/);
    assert.match(body, /^<!doctype html>/i);
  });

  it('answer 404, and 405 with the methods that are allowed', async () => {
    assert.equal((await ask(`${served.url}/nothing`)).status, 404);
    const answer = await ask(`${served.url}/topics/a`, { method: 'PUT' });
    assert.deepEqual([answer.status, answer.headers.get('allow')], [405, 'POST, DELETE']);
  });

  for (const target of [
    '//[',
    '/%',
    '/%ff',
    '/events/%',
    '*',
    'http://[',
    '/../../etc/passwd',
    '/\\',
    '/events%2fa',
  ]) {
    it(`answers ${target} with an error and lives on`, async () => {
      const answer = await send(
        served.url,
        `GET ${target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`,
      );
      assert.match(answer, /^HTTP\/1.1 40[04] /);
      assert.equal((await ask(`${served.url}/healthz`)).status, 200);
    });
  }
});

describe('a request in absolute form', () => {
  const served = serve();

  const get = (target: string, host: string) =>
    send(served.url, `GET ${target} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);

  it('gets the same answer as its path, on every route, with its query', async () => {
    const paths = ['/healthz', '/topics?limit=1', '/position', '/metrics', '/metrics/recent', '/'];
    for (const path of [...paths, '/dashboard/app.js'])
      assert.match(await get(`http://localhost${path}`, 'localhost'), /^HTTP\/1.1 200 /, path);
    assert.match(await get('http://localhost', 'localhost'), /^HTTP\/1.1 200 [\s\S]*<!doctype html>/);
    assert.match(await get('http://localhost/nothing', 'localhost'), /^HTTP\/1.1 404 /);
    const socket = net.connect(Number(new URL(served.url).port), '127.0.0.1');
    socket.write('GET http://localhost/events?topic=a HTTP/1.1\r\nHost: localhost\r\n\r\n');
    let text = '';
    for await (const chunk of socket) {
      text += chunk;
      if (text.includes('sluice:ready')) break;
    }
    assert.match(text, /^HTTP\/1.1 200 /);
  });

  it('is for the host of its target, whatever its Host header says', async () => {
    assert.match(await get('http://evil.example/healthz', 'localhost'), /^HTTP\/1.1 421 /);
    assert.match(await get('http://localhost/healthz', 'evil.example'), /^HTTP\/1.1 200 /);
    assert.match(await get('http://user@localhost/healthz', 'localhost'), /^HTTP\/1.1 400 .*/);
  });

  it('for no resource but the server is answered with its methods', async () => {
    const answer = await send(
      served.url,
      'OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n',
    );
    assert.match(answer, /^HTTP\/1.1 204 [\s\S]*Allow: GET, HEAD, POST, DELETE\r\n/);
  });
});

describe('HEAD', () => {
  const served = serve();

  it('gets the head of GET on every route that has one, and else 405', async () => {
    for (const path of ['/events?topic=a', '/topics', '/position', '/healthz', '/readyz', '/metrics', '/']) {
      const response = await fetch(served.url + path, { method: 'HEAD' });
      assert.deepEqual([path, response.status, await response.text()], [path, 200, '']);
    }
    for (const path of ['/tickets', '/topics/a'])
      assert.equal((await fetch(served.url + path, { method: 'HEAD' })).status, 405);
    assert.equal(served.sse.hub.size, 0);
  });
});

describe('a server on a Unix socket', () => {
  it('answers every route, and takes events with a token alone, because a proxy may stand in front', async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'sluice-'));
    const socketPath = join(folder, 'socket');
    const limits = { maxPerKey: 2, rate: 10, trustProxy: 1 };
    const sse = createSseServer({ publishTokens: ['writer'], metricsTokens: ['meter'], limits });
    sse.server.listen(socketPath);
    await once(sse.server, 'listening');
    t.after(async () => {
      await sse.close({ deadline: 0 });
      rmSync(folder, { recursive: true });
    });
    const status = async (method: string, path: string, token?: string) => {
      const headers = token === undefined ? {} : { Authorization: `Bearer ${token}` };
      const request = http.request({ socketPath, method, path, headers }).end(method === 'POST' ? 'x' : '');
      const [response] = (await once(request, 'response')) as [http.IncomingMessage];
      response.destroy();
      return response.statusCode;
    };
    for (const path of ['/', '/topics', '/position', '/healthz', '/readyz', '/events?topic=a'])
      assert.equal(await status('GET', path), 200, path);
    assert.deepEqual([await status('POST', '/topics/a'), await status('GET', '/metrics')], [401, 401]);
    assert.equal(await status('GET', '/metrics/recent'), 401);
    assert.equal(await status('POST', '/topics/a', 'writer'), 200);
    assert.equal(await status('GET', '/metrics', 'meter'), 200);
    assert.equal(await status('GET', '/metrics/recent', 'meter'), 200);
  });
});

describe('a connection that carries a stream', () => {
  const served = serve();

  for (const behind of ['GET /events?topic=b', 'GET /healthz', 'POST /topics/a']) {
    it(`is destroyed by a second request behind it (${behind})`, async () => {
      const head = (line: string) => `${line} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n`;
      const answer = await send(served.url, head('GET /events?topic=a') + head(behind));
      assert.doesNotMatch(answer, /HTTP\/1.1 200[\s\S]*HTTP\/1.1/);
      assert.equal(served.sse.hub.size, 0);
    });
  }
});

describe('options', () => {
  it('that no stream could have are refused when the server is made', () => {
    assert.throws(() => createSseServer({ stream: { stallTimeout: -1 } }), /`stallTimeout` .* got -1/);
    assert.throws(() => createSseServer({ hub: { maxTopics: 0 } }), /`maxTopics` .* got 0/);
    assert.throws(() => createSseServer({ publishTokens: [''] }), /a token must be printable ASCII/);
    assert.throws(() => createSseServer({ limits: { maxConnections: 0 } }), /`maxConnections` .* got 0/);
    for (const maxBodyBytes of ['1mb' as unknown as number, -1, Number.NaN]) {
      const message = `\`maxBodyBytes\` must be a number ≥ 0, got ${maxBodyBytes}`;
      assert.throws(() => createSseServer({ maxBodyBytes }), { name: 'RangeError', message });
    }
  });

  it('that are a text in place of a list are refused: no letter of a token is a token', () => {
    for (const option of ['publishTokens', 'subscribeTokens', 'metricsTokens']) {
      const message = `\`${option}\` must be a list of tokens, got string`;
      assert.throws(() => createSseServer({ [option]: 'secret' }), { name: 'TypeError', message });
      assert.throws(
        () => createSseServer({ [option]: ['a b'] }),
        /^TypeError: `\w+`: a token must be printable ASCII/,
      );
    }
    const hosts = 'example.com' as unknown as string[];
    assert.throws(
      () => createSseServer({ hosts }),
      /`hosts` must be a list or a function, got "example.com"/,
    );
  });
});

describe('publishing', () => {
  const served = serve({ publishTokens: ['one', 'two'] });

  it('needs one of the tokens where there are any', async () => {
    const url = `${served.url}/topics/a`;
    const refused = await post(url, 'x');
    assert.deepEqual([refused.status, refused.headers.get('www-authenticate')], [401, 'Bearer']);
    assert.equal((await post(url, 'x', { Authorization: 'Bearer three' })).status, 401);
    assert.equal((await post(url, 'x', { Authorization: 'Bearer two' })).status, 200);
    assert.equal((await ask(url, { method: 'DELETE' })).status, 401);
    assert.equal(
      (await ask(url, { method: 'DELETE', headers: { Authorization: 'Bearer one' } })).status,
      204,
    );
  });

  it('is off without a token unless the server is bound to loopback', async () => {
    const open = createSseServer();
    const url = await open.listen(0, '0.0.0.0');
    const { port } = new URL(url);
    const request = http.request({
      port,
      host: '127.0.0.1',
      method: 'POST',
      path: '/topics/a',
      agent: false,
    });
    request.end('x');
    const [response] = (await once(request, 'response')) as [http.IncomingMessage];
    assert.equal(response.statusCode, 403);
    open.server.close();
    open.server.closeAllConnections();
  });
});

describe('a logger', () => {
  it('that is no function is refused, since nothing would be logged', () => {
    assert.throws(() => createSseServer({ logger: console as never }), {
      name: 'TypeError',
      message: '`logger` must be a function of a line, got object',
    });
  });

  for (const [how, logger] of [
    [
      'throws',
      () => {
        throw new Error('disk full');
      },
    ],
    ['rejects', () => Promise.reject(new Error('disk full'))],
  ] as const) {
    it(`that ${how} changes no answer, and is told once by a warning of the process`, async () => {
      const warnings: string[] = [];
      const told = (warning: Error & { code?: string; detail?: string }): unknown =>
        warning.code === 'ERR_SSE_LOGGER_FAILED' && warnings.push(String(warning.detail));
      process.on('warning', told);
      const sse = createSseServer({ logger, subscribeTokens: ['one'] });
      const url = await sse.listen(0);
      try {
        // Refused by the checks of the server, by its routes, and by the handler of streams.
        const evil = await send(url, 'GET / HTTP/1.0\r\nHost: evil.example\r\n\r\n');
        assert.match(evil, /^HTTP\/1.1 421 /);
        for (const path of ['/topics', '/events?topic=a'])
          assert.equal((await ask(`${url}${path}`)).status, 401);
        assert.equal(warnings.length, 1);
        assert.match(warnings[0]!, /disk full/);
      } finally {
        process.off('warning', told);
        await sse.close();
      }
    });
  }
});

describe('an error of the application', () => {
  it('whose headers cannot be sent is logged, and its connection is cut: the server goes on', async () => {
    const messages: unknown[] = [];
    const sse = createSseServer({
      logger: ({ event, message }) => event === 'failed' && messages.push(message),
      access: {
        authorize() {
          const headers = { 'www-authenticate': 'Bearer\nrealm=a' };
          throw Object.assign(new Error('no'), { code: 'ERR_SSE_UNAUTHORIZED', status: 401, headers });
        },
        may: () => true,
      },
    });
    const url = await sse.listen(0);
    try {
      await assert.rejects(ask(`${url}/topics`));
      assert.match(String(messages), /Invalid character in header content \["www-authenticate"\]/);
      assert.equal((await ask(`${url}/healthz`)).status, 200);
    } finally {
      await sse.close();
    }
  });
});

describe('close()', () => {
  it('makes a listen() reject that it comes before', async () => {
    for (const host of ['127.0.0.1', 'localhost']) {
      const sse = createSseServer();
      const listening = assert.rejects(sse.listen(0, host), { code: 'ERR_SSE_CLOSED' });
      await sse.close();
      await listening;
      assert.equal(sse.server.listening, false);
    }
  });

  it('called again waits for the log of the hub as well, and gives the same outcome', async () => {
    const log = new SlowLog();
    const sse = createSseServer({ hub: { log } });
    await sse.listen(0);
    const first = sse.close();
    assert.equal(await sse.close(), await first);
    assert.equal(log.isClosed, true);
  });
});

describe('listen()', () => {
  it('is refused after close(), and listens no more', async () => {
    const sse = createSseServer();
    await sse.listen(0);
    await sse.close();
    await assert.rejects(sse.listen(0), { code: 'ERR_SSE_CLOSED' });
    assert.equal(sse.server.listening, false);
  });

  it('leaves no listener on the server, however often it fails', async () => {
    const taken = createSseServer();
    const port = Number(new URL(await taken.listen(0)).port);
    const sse = createSseServer();
    const names = ['listening', 'error', 'close'];
    const before = names.map((name) => sse.server.listenerCount(name));
    for (let i = 0; i < 3; i++) await assert.rejects(sse.listen(port), { code: 'EADDRINUSE' });
    await assert.rejects(sse.listen(-1), { code: 'ERR_SOCKET_BAD_PORT' });
    assert.deepEqual(
      names.map((name) => sse.server.listenerCount(name)),
      before,
    );
    await taken.close();
  });
});
