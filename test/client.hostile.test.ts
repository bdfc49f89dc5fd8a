// Servers that answer what they should not: what the reader holds, how long it waits, and how it goes on.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer as createHttp2Server } from 'node:http2';
import { createServer as createHttpsServer } from 'node:https';
import { createServer as createTcpServer } from 'node:net';
import { describe, it, type TestContext } from 'node:test';
import { gzipSync } from 'node:zlib';
import {
  type ConnectError,
  type ConnectOptions,
  connect,
  type Gap,
  type ReceivedEvent,
  type StateChange,
} from '../lib/client.ts';
import { encode } from '../lib/encode.ts';
import { EventSource } from '../lib/eventsource.ts';
import { isTransient } from '../lib/failure.ts';
import { Hub } from '../lib/hub.ts';
import type { PositionStorage } from '../lib/positions.ts';
import { isSendableId, readyEvent, refusedEvent } from '../lib/protocol.ts';
import { openStream } from '../lib/stream.ts';
import { fetchTransport, http2Transport, type Transport } from '../lib/transport.ts';
import { cert, key } from './fixtures/tls.ts';
import { fakeTime } from './helpers/clock.ts';
import { eventStream, frame, idOf, open, whole } from './helpers/misbehaving.ts';
import { listen, serve } from './helpers/server.ts';

const MEBIBYTE = 1 << 20;
const atOnce = { minRetryDelay: 0, backoffDelay: 0 } as const;

interface Read {
  readonly data: string[];
  readonly gaps: Gap[];
  readonly errors: ConnectError[];
}

/** Reads until the stream is over or so many events have arrived. */
async function read(url: string, options: ConnectOptions = {}, enough = Infinity): Promise<Read> {
  const result: Read = { data: [], gaps: [], errors: [] };
  const connection = connect(url, {
    ...atOnce,
    onGap: (gap) => void result.gaps.push(gap),
    onError: (error) => void result.errors.push(error),
    ...options,
  });
  for await (const event of connection) {
    result.data.push(event.data);
    if (result.data.length === enough) break;
  }
  return result;
}

function memory(initial?: unknown): PositionStorage & { readonly saved: string[] } {
  const saved: string[] = [];
  let value = initial;
  return {
    saved,
    getItem: () => (value ?? null) as string | null,
    setItem: (_, position) => {
      value = position;
      saved.push(position);
    },
  };
}

const lastIdOf = (req: IncomingMessage): string | undefined =>
  req.headers['last-event-id'] as string | undefined;

async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve));
}

const over = (res: ServerResponse): void => void res.writeHead(204).end();

describe('every wait of connect', () => {
  const upgrade = 'HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n';

  it('ends at an HTTP/1 upgrade, which is no stream', async (t) => {
    const server = createTcpServer((socket) => socket.once('data', () => socket.write(upgrade)));
    const url = `http://127.0.0.1:${await listen(t, server)}/`;
    await assert.rejects(read(url), { code: 'ERR_SSE_STATUS', status: 101 });
  });

  it('ends at an HTTP/2 stream that is reset before its head, and the next attempt is made', async (t) => {
    const server = createHttp2Server();
    let streams = 0;
    server.on('stream', (stream) => {
      stream.on('error', () => {});
      if (++streams === 1) stream.close(8);
      else if (streams === 2) stream.close(0);
      else stream.respond({ ':status': 204 }, { endStream: true });
    });
    const url = `http://127.0.0.1:${await listen(t, server)}/`;
    await read(url, { transport: http2Transport() });
    assert.equal(streams, 3);
  });

  const never = new Promise<never>(() => {});
  const mute: Transport = () => never;
  const silent: Transport = async () => ({
    status: 200,
    headers: { 'content-type': 'text/event-stream' },
    body: { [Symbol.asyncIterator]: () => ({ next: () => never }) },
  });
  const stalledError: Transport = async () => ({
    status: 503,
    headers: { 'content-type': 'application/json' },
    body: { [Symbol.asyncIterator]: () => ({ next: () => never }) },
  });

  for (const [name, transport, storage] of [
    ['for a response', mute, undefined],
    ['for a chunk', silent, undefined],
    ['for the body of an error', stalledError, undefined],
    ['for a storage', mute, { getItem: () => never, setItem: () => {} }],
  ] as const) {
    it(`${name} ends at close() and with the signal, whatever the other side does`, async () => {
      const closing = connect('http://127.0.0.1:1/', { transport, storage });
      setTimeout(() => closing.close(), 20);
      for await (const _ of closing) assert.fail('an event');
      const controller = new AbortController();
      setTimeout(() => controller.abort(new Error('enough')), 20);
      const { signal } = controller;
      await assert.rejects(read('http://127.0.0.1:1/', { transport, storage, signal }), /enough/);
    });
  }

  it('for a response ends with connectTimeout, also where the transport ignores its signal', async () => {
    const reading = read('http://127.0.0.1:1/', {
      transport: mute,
      connectTimeout: 20,
      shouldRetry: () => false,
    });
    await assert.rejects(reading, { code: 'ERR_SSE_TIMEOUT' });
  });

  it('for a chunk ends with silenceTimeout, also where the transport ignores its signal', async () => {
    const options = { transport: silent, silenceTimeout: 20, shouldRetry: () => false };
    await assert.rejects(read('http://127.0.0.1:1/', options), { code: 'ERR_SSE_SILENT' });
  });

  it('for the body of an error ends after a second', async (t) => {
    const time = fakeTime(t);
    const failures: ConnectError[] = [];
    const connection = connect('http://127.0.0.1:1/', {
      transport: stalledError,
      onState: ({ failure }) => failure && failures.push(failure),
    });
    const next = connection[Symbol.asyncIterator]().next();
    await time.pass(990);
    assert.equal(failures.length, 0);
    await time.pass(20);
    const [{ code, status, reason } = {} as ConnectError] = failures;
    assert.deepEqual([code, status, reason], ['ERR_SSE_STATUS', 503, undefined]);
    connection.close();
    await next;
  });

  it('for the answer to a redirect has a connectTimeout of its own', async (t) => {
    const { url } = await serve(t, (req, res) => {
      if (req.url === '/') res.writeHead(307, { location: '/mute' }).end();
    });
    const options = { connectTimeout: 50, shouldRetry: () => false };
    await assert.rejects(read(url, options), { code: 'ERR_SSE_TIMEOUT' });
  });
});

describe('the refusal of a server', () => {
  it('gives its reason to the error, as one line without control characters', async (t) => {
    const { url } = await serve(t, (_, res) => {
      const body = JSON.stringify({ error: 'unauthorized', message: 'a \u001b[31mtoken\r\nis required' });
      res.writeHead(401, { 'content-type': 'application/problem+json' }).end(body);
    });
    await assert.rejects(read(url), {
      code: 'ERR_SSE_STATUS',
      status: 401,
      reason: 'unauthorized',
      message: 'the server answered 401: a  [31mtoken is required',
    });
  });

  it('is read no further than 8 KiB, and not at all where it is no JSON', async (t) => {
    let sent = 0;
    const { url } = await serve(t, (req, res) => {
      const type = req.url === '/json' ? 'application/json' : 'text/html';
      res.writeHead(403, { 'content-type': type });
      const flood = (): void => {
        do sent += 60_000;
        while (sent < 500 * MEBIBYTE && res.write(' '.repeat(60_000)));
      };
      res.on('drain', flood);
      flood();
    });
    for (const path of ['json', 'html']) {
      await assert.rejects(read(`${url}${path}`), {
        status: 403,
        reason: undefined,
        message: /answered 403$/,
      });
    }
    assert.ok(sent < 50 * MEBIBYTE, `${sent} bytes were taken`);
  });

  it('in a stream is retried after its retry, and its reason is in the error', async (t) => {
    const refusal = encode(refusedEvent(3000, { error: 'server-full', message: 'too many\u001b streams' }));
    const { url } = await serve(t, (_, res, attempt) => {
      if (attempt === 1) whole(res, refusal);
      else if (attempt === 2) open(res, encode(readyEvent(idOf(1), [])) + frame(2));
    });
    const failures: StateChange[] = [];
    const onState = (change: StateChange): void => {
      if (change.state === 'waiting') failures.push(change);
    };
    const { data } = await read(url, { onState, maxRetryDelay: 5, minRetryDelay: 0 }, 1);
    assert.deepEqual(data, ['2']);
    const [{ failure, delay } = {}] = failures;
    assert.deepEqual(
      [failure?.code, failure?.reason, failure?.message, delay],
      ['ERR_SSE_REFUSED', 'server-full', 'the server refused the stream: too many  streams', 5],
    );
  });

  it('in a stream ends a POST with its error, and keeps EventSource reconnecting', async (t) => {
    const refusal = encode(refusedEvent(0, { error: 'too-fast', message: '' }));
    const { url } = await serve(t, (_, res, attempt) => {
      if (attempt < 4) whole(res, refusal);
      else open(res, frame(1));
    });
    await assert.rejects(read(url, { body: 'x' }), { code: 'ERR_SSE_REFUSED', reason: 'too-fast' });
    const source = new EventSource(url, atOnce);
    t.after(() => source.close());
    const reasons: unknown[] = [];
    source.onerror = ({ error }) => reasons.push((error as ConnectError).reason);
    await once(source, 'message');
    assert.deepEqual(reasons, ['too-fast', 'too-fast']);
  });
});

describe('a failure', () => {
  const head = 'HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n';
  const packed = gzipSync(frame(1), { level: 0 });
  // A stored block whose second half is no block of gzip's.
  const broken = Buffer.concat([packed.subarray(0, -8), Buffer.alloc(200, 255)]);

  for (const [name, answer] of [
    ['a head that is not HTTP', 'SSH-2.0-OpenSSH_9.2\r\n'],
    ['half a head', head],
    ['nothing', ''],
    ['a malformed chunk', `${head}Transfer-Encoding: chunked\r\n\r\nzz\r\n`],
    ['less than its Content-Length', `${head}Content-Length: 100\r\n\r\ndata: a\n\n`],
    ['a body that breaks within its coding', [`${head}Content-Encoding: gzip\r\n\r\n`, broken]],
  ] as const) {
    it(`passes where a server sends ${name}: the next attempt is made`, async (t) => {
      let attempts = 0;
      const server = createTcpServer((socket) => {
        socket.on('error', () => {});
        socket.once('data', () => {
          if (++attempts > 1) return socket.end('HTTP/1.1 204 No Content\r\n\r\n');
          for (const piece of typeof answer === 'string' ? [answer] : answer) socket.write(piece);
          return socket.end();
        });
      });
      const failures: unknown[] = [];
      const url = `http://127.0.0.1:${await listen(t, server)}/`;
      await read(url, { onState: ({ failure }) => failure && failures.push(failure.code) });
      assert.deepEqual([attempts, failures], [2, ['ERR_SSE_NETWORK']]);
    });
  }

  it('passes where a certificate is not valid yet: the next attempt is made', async (t) => {
    const server = createHttpsServer({ key, cert }, (_, res) => over(res));
    const url = `https://127.0.0.1:${await listen(t, server)}/`;
    const causes: unknown[] = [];
    const shouldRetry: ConnectOptions['shouldRetry'] = (failure, { attempt }) => {
      causes.push(failure.code, (failure.cause as { code: string }).code, isTransient(failure));
      return attempt < 2 ? undefined : false;
    };
    await assert.rejects(read(url, { shouldRetry }), { code: 'ERR_SSE_NETWORK' });
    assert.deepEqual(causes.slice(0, 3), ['ERR_SSE_NETWORK', 'DEPTH_ZERO_SELF_SIGNED_CERT', true]);
    assert.equal(causes.length, 6);
  });

  for (const [code, answer] of [
    ['ERR_SSE_CONTENT_ENCODING', `${head}Content-Encoding: zstd\r\n\r\nx`],
    ['ERR_SSE_CONTENT_ENCODING', `${head}Content-Encoding: gzip\r\n\r\n${frame(1)}`],
    ['ERR_SSE_HEAD_TOO_LARGE', `${head}x: ${'y'.repeat(20_000)}\r\n\r\n`],
  ] as const) {
    it(`is final, with ${code}, where each attempt would meet it: ${answer.slice(56, 80).trim()}`, async (t) => {
      let attempts = 0;
      const server = createTcpServer((socket) => {
        attempts++;
        socket.on('error', () => {}).once('data', () => socket.end(answer));
      });
      await assert.rejects(read(`http://127.0.0.1:${await listen(t, server)}/`), { code });
      assert.equal(attempts, 1);
    });
  }

  it('is final, with ERR_SSE_UNSENDABLE, where the transport cannot send the request', async () => {
    const options = { transport: http2Transport(), headers: { connection: 'close' } };
    const code = 'ERR_SSE_UNSENDABLE';
    await assert.rejects(read('http://127.0.0.1:1/', options), { code, message: /connection/i });
  });
});

describe('a redirect', () => {
  for (const location of [
    'data:text/event-stream,data:%20evil%0A%0A',
    'file:///etc/hostname',
    'ftp://127.0.0.1/',
    'blob:null/1',
    'http://user:secret@127.0.0.1/',
    'http://[',
    '',
  ]) {
    it(`to "${location}" is not followed, by any transport`, async (t) => {
      const { url, requests } = await serve(t, (_, res) => res.writeHead(302, { location }).end());
      for (const transport of [undefined, fetchTransport(), fetchTransport({ fetch })]) {
        const redirectOrigins = ['http://127.0.0.1'];
        const reading = read(url, { transport, redirectOrigins });
        await assert.rejects(reading, { code: 'ERR_SSE_REDIRECT', status: 302 });
      }
      assert.equal(requests.length, 3);
    });
  }

  for (const status of [300, 304, 305, 306, 399]) {
    it(`is no ${status}, which is an answer`, async (t) => {
      const { url, requests } = await serve(t, (_, res) =>
        res.writeHead(status, { location: '/there' }).end(),
      );
      await assert.rejects(read(url), { code: 'ERR_SSE_STATUS', status });
      assert.equal(requests.length, 1);
    });
  }

  it('leaves no connection behind, whatever its body is', async (t) => {
    const { url, server } = await serve(t, (req, res) => {
      if (req.url === '/there') return open(res, frame(1));
      res.writeHead(307, { location: '/there', 'content-type': 'text/plain' }).write('endless');
    });
    const count = () => new Promise((resolve) => server.getConnections((_, n) => resolve(n)));
    for await (const _ of connect(url)) {
      while ((await count()) !== 1) await new Promise((resolve) => setImmediate(resolve));
      break;
    }
  });

  it('that turns a POST into a GET leaves out what described the body', async (t) => {
    const { url, requests } = await serve(t, (req, res) => {
      req.resume();
      if (req.method === 'POST') res.writeHead(303, { location: '/answer' }).end();
      else whole(res, frame(1));
    });
    const headers = { 'Content-Type': 'application/json', 'content-length': '1', 'x-mine': 'kept' };
    assert.deepEqual((await read(url, { body: '1', headers })).data, ['1']);
    const [, { method, headers: sent }] = requests as [IncomingMessage, IncomingMessage];
    assert.deepEqual(
      [method, sent['content-type'], sent['content-length'], sent['x-mine']],
      ['GET', undefined, undefined, 'kept'],
    );
  });

  it('takes the position along in the query where it goes there', async (t) => {
    const { url, requests } = await serve(t, (req, res) => {
      if (req.url?.startsWith('/?')) res.writeHead(307, { location: '/there?a=b%20c' }).end();
      else whole(res, frame(1));
    });
    await read(url, { lastEventId: idOf(7), lastEventIdParameter: 'lastEventId' }, 1);
    assert.deepEqual(
      requests.map((req) => req.url),
      [`/?lastEventId=${idOf(7)}`, `/there?a=b%20c&lastEventId=${idOf(7)}`],
    );
  });
});

describe('the position in the query', () => {
  it('is sent in place of the header, and replaces one that the address has', async (t) => {
    const { url, requests } = await serve(t, (_, res, attempt) => {
      if (attempt < 3) whole(res, `id: ${attempt === 1 ? 'é &=' : idOf(2)}\ndata: a\n\n`);
      else over(res);
    });
    await read(`${url}?topic=a%20b&place=old`, { lastEventIdParameter: 'place' });
    assert.deepEqual(
      requests.map((req) => [new URL(req.url!, url).searchParams.get('place'), lastIdOf(req)]),
      [
        ['old', undefined],
        ['é &=', undefined],
        [idOf(2), undefined],
      ],
    );
  });

  it('is read by a hub’s server, and no header makes a simple request complex', async (t) => {
    const { url, requests } = await serve(t, (_, res) => whole(res, frame(1)));
    await read(url, { lastEventId: idOf(1), lastEventIdParameter: 'lastEventId' }, 1);
    // Those that a browser's page may send to another origin without asking, and those that Node adds.
    assert.deepEqual(Object.keys(requests[0]!.headers).sort(), [
      'accept',
      'connection',
      'host',
      'user-agent',
    ]);
  });
});

describe('an id that no request can carry', () => {
  for (const [name, id] of [
    ['a control character', 'a\x01b'],
    ['1,025 bytes', '7'.repeat(1025)],
    ['1,026 bytes of UTF-8', '水'.repeat(342)],
    ['20,000 characters', '7'.repeat(20_000)],
    ['300,000 characters', '7'.repeat(300_000)],
  ] as const) {
    it(`because of ${name} does not become the position: the earlier one stays`, async (t) => {
      const { url, requests } = await serve(t, (_, res, attempt) => {
        if (attempt === 1) whole(res, `${frame(1)}id: ${id}\ndata: a\n\ndata: b\n\n`);
        else if (attempt === 2) whole(res, `id: ${id}\n\n${frame(2)}`);
        else over(res);
      });
      const storage = memory();
      const { data, errors, gaps } = await read(url, { storage });
      assert.deepEqual(data, ['1', 'a', 'b', '2']);
      assert.deepEqual(requests.map(lastIdOf), [undefined, idOf(1), idOf(2)]);
      assert.deepEqual(storage.saved, [idOf(1), idOf(2)]);
      assert.deepEqual(
        errors.map(({ code }) => code),
        ['ERR_SSE_ID'],
      );
      assert.match(
        errors[0]!.message,
        /^an id of the server cannot be a position: it must have at most 1024 /,
      );
      assert.ok(errors[0]!.message.length < 300);
      assert.deepEqual(gaps, []);
    });
  }

  it('is the position up to 1,024 bytes, as relays send them', async (t) => {
    for (const id of ['7'.repeat(1024), '水'.repeat(341), '[{"topic":"eqiad.change","offset":1}]', 'a\tb']) {
      assert.equal(isSendableId(id), true);
      const { url, requests } = await serve(t, (_, res, attempt) =>
        attempt === 1 ? whole(res, `id: ${id}\ndata: a\n\n`) : over(res),
      );
      assert.deepEqual((await read(url)).errors, []);
      assert.equal(Buffer.from(lastIdOf(requests[1]!)!, 'latin1').toString(), id);
    }
  });

  it('is reported once by console.warn without onError', async (t) => {
    const { url } = await serve(t, (_, res, attempt) =>
      attempt < 3 ? whole(res, `id: ${attempt}\x01\u009b\ndata: a\n\n`) : over(res),
    );
    const warn = t.mock.method(console, 'warn', () => {});
    await read(url, { onError: undefined });
    assert.equal(warn.mock.callCount(), 1);
    assert.match(String(warn.mock.calls[0]!.arguments[0]), /"1\\u0001\\u009b" \(ERR_SSE_ID\)$/);
  });
});

describe('a stored position', () => {
  for (const stored of ['a\nb', 'half \ud83d', '7'.repeat(300_000), 7, {}, ['x'], true, Symbol('x')]) {
    it(`that is ${String(stored).slice(0, 20)} is dropped, and the gap is reported before anything`, async (t) => {
      const { url, requests } = await serve(t, (_, res, attempt) =>
        attempt === 1 ? whole(res, encode(readyEvent(idOf(4), ['a'])) + frame(5)) : over(res),
      );
      const storage = memory(stored);
      const order: unknown[] = [];
      const { data, errors } = await read(url, {
        storage,
        onGap: (gap) => {
          order.push(gap, [...storage.saved]);
        },
      });
      const gap: Gap = { reason: 'unsendable', from: null, to: idOf(4), topics: [] };
      assert.deepEqual(order, [gap, []], 'the storage is not written to before the gap is processed');
      assert.deepEqual(data, ['5']);
      assert.equal(errors[0]!.code, 'ERR_SSE_ID');
      assert.deepEqual(requests.map(lastIdOf), [undefined, idOf(5)]);
    });
  }

  it('that cannot be sent gives way to lastEventId, without a gap', async (t) => {
    const { url, requests } = await serve(t, (_, res) => whole(res, frame(8)));
    const { gaps } = await read(url, { storage: memory('\n'), lastEventId: idOf(7) }, 1);
    assert.deepEqual([gaps, lastIdOf(requests[0]!)], [[], idOf(7)]);
  });

  for (const status of [400, 414, 431]) {
    it(`that the server answers with a ${status} is dropped, and the gap is reported`, async (t) => {
      const { url, requests } = await serve(t, (req, res, attempt) => {
        if (lastIdOf(req) === idOf(1)) res.writeHead(status).end();
        else if (attempt === 2) whole(res, frame(5));
        else over(res);
      });
      const { data, errors, gaps } = await read(url, { storage: memory(idOf(1)) });
      assert.deepEqual(requests.map(lastIdOf), [idOf(1), undefined, idOf(5)]);
      assert.deepEqual(gaps, [{ reason: 'unsendable', from: idOf(1), to: '', topics: [] }]);
      assert.deepEqual([data, errors.length], [['5'], 1]);
    });
  }

  it('stays where the server refuses the request without it too', async (t) => {
    const { url, requests } = await serve(t, (_, res) => res.writeHead(400).end());
    const storage = memory(idOf(1));
    await assert.rejects(read(url, { storage }), { code: 'ERR_SSE_STATUS', status: 400 });
    assert.deepEqual([requests.map(lastIdOf), storage.saved], [[idOf(1), undefined], []]);
  });

  it('is not dropped for a POST, which is sent once', async (t) => {
    const { url, requests } = await serve(t, (_, res) => res.writeHead(431).end());
    const options = { lastEventId: idOf(1), body: 'x' };
    await assert.rejects(read(url, options), { code: 'ERR_SSE_STATUS', status: 431 });
    assert.equal(requests.length, 1);
  });

  it('is dropped for EventSource too, which dispatches the gap', async (t) => {
    const { url } = await serve(t, (req, res) => {
      if (lastIdOf(req) === undefined) open(res, frame(5));
      else res.writeHead(431).end();
    });
    const source = new EventSource(url, { ...atOnce, lastEventId: idOf(1), onError: () => {} });
    t.after(() => source.close());
    const [gap] = (await once(source, 'sluice:gap')) as [MessageEvent];
    assert.equal(JSON.parse(gap.data).reason, 'unsendable');
    const [event] = (await once(source, 'message')) as [MessageEvent];
    assert.equal(event.data, '5');
  });
});

describe('the status of a stream', () => {
  for (const status of [200, 201, 202, 203, 206, 210, 299]) {
    it(`may be ${status} for connect, and 200 alone for EventSource`, async (t) => {
      const { url } = await serve(t, (_, res) => res.writeHead(status, eventStream).end(frame(1)));
      assert.deepEqual((await read(url, { body: 'x' })).data, ['1']);
      const source = new EventSource(url, atOnce);
      t.after(() => source.close());
      const [event] = await Promise.race([once(source, 'error'), once(source, 'message')]);
      assert.equal(event.type, status === 200 ? 'message' : 'error');
    });
  }

  it('of success needs the right type as well', async (t) => {
    const { url } = await serve(t, (_, res) => res.writeHead(202, { 'content-type': 'text/html' }).end());
    await assert.rejects(read(url), { code: 'ERR_SSE_CONTENT_TYPE', status: 202 });
  });
});

describe('the waits of connect', () => {
  type Handler = Parameters<typeof serve>[1];

  /** The waits after so many connections, each of which the clock sees for `age` milliseconds. */
  async function waitsOf(t: TestContext, count: number, age: number, handler: Handler): Promise<number[]> {
    const { url } = await serve(t, handler);
    let now = 0;
    t.mock.method(performance, 'now', () => now);
    t.mock.method(globalThis, 'setTimeout', (act: () => void) => setImmediate(act));
    t.mock.method(globalThis, 'clearTimeout', (timer: NodeJS.Immediate) => clearImmediate(timer));
    const waits: number[] = [];
    const connection = connect(url, {
      connectTimeout: Infinity,
      onState: ({ state, delay = 0 }) => {
        if (state === 'open') now += age;
        if (state !== 'waiting') return;
        waits.push(delay);
        if (waits.length === count) connection.close();
      },
    });
    for await (const _ of connection);
    return waits;
  }

  const sum = (numbers: readonly number[]): number => numbers.reduce((total, one) => total + one, 0);

  for (const [name, text] of [
    ['events', frame(1)],
    ['nothing but a heartbeat', ':\n'],
    ['sluice:ready', encode(readyEvent(idOf(1), ['a']))],
  ] as const) {
    it(`leave at least 80 % of the time to streams of 5 s with ${name} that end with retry: 1000`, async (t) => {
      const waits = await waitsOf(t, 20, 5000, (_, res) => whole(res, `retry: 1000\n\n${text}`));
      const part = (20 * 5000) / (20 * 5000 + sum(waits));
      assert.ok(part >= 0.8, `${waits.join()} leave ${part}`);
      assert.ok(Math.min(...waits) >= 1000);
    });
  }

  it('stay short where a connection breaks after events', async (t) => {
    const waits = await waitsOf(t, 20, 100, (_, res) => {
      open(res, `retry: 1000\n\n${frame(1)}`);
      // The reader gets the event before its connection breaks.
      turns(20).then(() => res.socket?.destroy());
    });
    assert.ok(Math.max(...waits) <= 1250, waits.join());
  });

  for (const [name, handler] of [
    ['accepts and ends at once without an event', (_, res) => whole(res, 'retry: 1000\n\n')],
    [
      'accepts, is ready and ends at once',
      (_, res) => whole(res, `retry: 1000\n\n${encode(readyEvent(idOf(1), []))}`),
    ],
    ['refuses each stream', (_, res) => whole(res, encode(refusedEvent(1000, { error: 'a', message: '' })))],
    ['answers 503', (_, res) => res.writeHead(503).end()],
    ['destroys each connection', (_, res) => res.destroy()],
  ] as [string, Handler][]) {
    it(`grow to half a minute for a server that ${name}, again and again`, async (t) => {
      t.mock.method(Math, 'random', () => 1);
      const waits = await waitsOf(t, 9, 5, handler);
      assert.deepEqual(
        [...waits].sort((a, b) => a - b),
        waits,
      );
      assert.ok(waits[0]! <= 1250 && waits[8]! >= 30_000, waits.join());
    });
  }

  it('grow for EventSource as for connect, and only for failures in a row', async (t) => {
    t.mock.method(Math, 'random', () => 1);
    const { url } = await serve(t, (_, res, attempt) => whole(res, attempt % 4 === 0 ? frame(attempt) : ''));
    let attempts = 0;
    const waits: number[] = [];
    const source = new EventSource(url, {
      minRetryDelay: 0,
      backoffDelay: 2,
      maxBackoffDelay: 100,
    });
    t.after(() => source.close());
    const before = globalThis.setTimeout;
    t.mock.method(globalThis, 'setTimeout', (act: () => void, delay: number) => {
      if (delay <= 100) waits.push(delay);
      return before(act, delay);
    });
    await new Promise<void>((resolve) => {
      source.onerror = () => ++attempts === 9 && resolve();
    });
    assert.deepEqual(waits.slice(0, 8), [2, 4, 8, 2, 4, 8, 16, 2]);
  });
});

describe('an event that is larger than a limit', () => {
  const large = (seq: number, length = 200): string => `id: ${idOf(seq)}\ndata: ${'x'.repeat(length)}\n\n`;
  const limits = { maxLineBytes: 100, maxEventBytes: 100 };

  it('is skipped where its id is known: a gap and one error are reported, and reading goes on', async (t) => {
    const { url, requests } = await serve(t, (_, res, attempt) => {
      if (attempt === 1) whole(res, frame(1) + large(2) + frame(3));
      else over(res);
    });
    const storage = memory(idOf(0));
    const { data, errors, gaps } = await read(url, { ...limits, storage });
    assert.deepEqual(data, ['1', '3']);
    assert.deepEqual(gaps, [{ reason: 'too-large', from: idOf(1), to: idOf(2), topics: [] }]);
    assert.deepEqual(storage.saved, [idOf(1), idOf(2), idOf(3)]);
    assert.equal(requests.length, 2);
    assert.deepEqual(
      errors.map(({ code, message }) => [code, message]),
      [
        [
          'ERR_SSE_LINE_TOO_LONG',
          'a line of the event stream is longer than 100 bytes (`maxLineBytes`), after the last event ID ' +
            `"${idOf(1)}"`,
        ],
      ],
    );
  });

  it('arrives as sluice:gap where there is no onGap, and does not come again after a restart', async (t) => {
    const { url } = await serve(t, (req, res) => {
      open(res, lastIdOf(req) === idOf(2) ? frame(3) : large(2) + frame(3));
    });
    const storage = memory(idOf(1));
    const options = { ...limits, ...atOnce, storage, onError: () => {} };
    for (const expected of ['sluice:gap', 'message']) {
      const connection = connect(url, options);
      for await (const event of connection as AsyncIterable<ReceivedEvent>) {
        assert.equal(event.event, expected);
        await connection.commit();
        break;
      }
    }
  });

  it('ends the loop where it has no id: the error names the option and the place', async (t) => {
    const { url } = await serve(t, (_, res) =>
      whole(res, `${frame(1)}${'data: 12345678901234567890\n'.repeat(10)}\n${frame(2)}`),
    );
    const reading = read(url, limits);
    await assert.rejects(reading, {
      code: 'ERR_SSE_EVENT_TOO_LARGE',
      message: `the data of an event is larger than 100 bytes (\`maxEventBytes\`), after the last event ID "${idOf(1)}"`,
    });
  });

  it('is left after 17 MiB, and is passed where the server resumes', async (t) => {
    let sent = 0;
    const { url, requests } = await serve(t, (req, res) => {
      if (lastIdOf(req) === idOf(2)) return open(res, frame(3));
      open(res, `id: ${idOf(2)}\ndata: `);
      const flood = (): void => {
        do sent += 60_000;
        while (sent < 500 * MEBIBYTE && res.write('x'.repeat(60_000)));
      };
      res.on('drain', flood);
      flood();
    });
    const { data, gaps } = await read(url, { lastEventId: idOf(1) }, 1);
    assert.deepEqual(data, ['3']);
    assert.deepEqual(gaps, [{ reason: 'too-large', from: idOf(1), to: idOf(2), topics: [] }]);
    assert.equal(requests.length, 2);
    assert.ok(sent < 60 * MEBIBYTE, `${sent} bytes were taken`);
  });

  it('ends the loop where the server brings the endless event again', async (t) => {
    const flood = 'x'.repeat(18 * MEBIBYTE);
    const { url, requests } = await serve(t, (_, res) => open(res, `id: ${idOf(2)}\ndata: ${flood}`));
    await assert.rejects(read(url), { code: 'ERR_SSE_LINE_TOO_LONG' });
    assert.equal(requests.length, 2);
  });

  it('is larger than any event that a hub takes: the largest one is read by default', async (t) => {
    const hub = new Hub();
    const { url } = await serve(t, (req, res) => void hub.subscribe(['a'], openStream(req, res)));
    const publish = (length: number): void =>
      void hub.publish('a', { event: 'large', data: 'x'.repeat(length) });
    // The largest length that the hub takes, on the hub of a topic that nobody reads.
    let [fits, tooLong] = [MEBIBYTE, 8 * MEBIBYTE];
    while (tooLong - fits > 1) {
      const length = (fits + tooLong) >> 1;
      try {
        hub.publish('unread', { event: 'large', data: 'x'.repeat(length) });
        fits = length;
      } catch (error) {
        assert.equal((error as { code: string }).code, 'ERR_SSE_EVENT_TOO_LARGE');
        tooLong = length;
      }
    }
    assert.ok(fits > MEBIBYTE + 60_000, `a hub takes ${fits} bytes of data`);
    const reading = read(url, { isLast: ({ data }) => data === 'last' });
    while (!hub.topics().some(({ topic, subscribers }) => topic === 'a' && subscribers === 1)) {
      await new Promise((resolve) => setImmediate(resolve));
    }
    publish(fits);
    hub.publish('a', { data: Array(2000).fill('水'.repeat(150)).join('\n') });
    hub.publish('a', { data: 'last' });
    const { data, gaps, errors } = await reading;
    assert.deepEqual([data.length, data[0]?.length, data[2], gaps, errors], [3, fits, 'last', [], []]);
  });
});

describe('a well-behaved stream', () => {
  it('goes on while its process reads bombs, endless lines and floods beside it', async (t) => {
    const good = await serve(t, (_, res) => {
      open(res);
      let seq = 0;
      const timer = setInterval(() => res.write(frame(++seq)), 5);
      res.on('close', () => clearInterval(timer));
    });
    const bomb = gzipSync(Buffer.alloc(50 * MEBIBYTE, ':\n'));
    const bad = await serve(t, (req, res) => {
      if (req.url === '/bomb') {
        res.writeHead(200, { ...eventStream, 'content-encoding': 'gzip' }).end(bomb);
        return;
      }
      open(res);
      const piece = req.url === '/line' ? 'x'.repeat(60_000) : ':\n'.repeat(30_000);
      let sent = 0;
      const flood = (): void => {
        do sent += 60_000;
        while (sent < 40 * MEBIBYTE && res.write(piece));
        if (sent >= 40 * MEBIBYTE) res.end();
      };
      res.on('drain', flood);
      flood();
    });
    const hostile = ['bomb', 'line', 'comments'].map((path) =>
      read(`${bad.url}${path}`, { shouldRetry: () => false }).catch((error) => error.code),
    );
    const over = Promise.all(hostile).then((codes) => ({ codes }));
    let seen = 0;
    const connection = connect(good.url);
    void over.then(() => connection.close());
    for await (const { data } of connection) assert.equal(Number(data), ++seen);
    assert.equal(connection.attempt, 1);
    assert.ok(seen > 0);
    const { codes } = await over;
    assert.deepEqual(codes.slice(0, 2), ['ERR_SSE_DECOMPRESSION_LIMIT', 'ERR_SSE_LINE_TOO_LONG']);
  });
});
