import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { getEventListeners, once } from 'node:events';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer as createHttp2Server, type ServerHttp2Session } from 'node:http2';
import { type AddressInfo, createServer as createTcpServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, mock, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { brotliCompressSync, createGzip, deflateSync, gzipSync } from 'node:zlib';
import {
  type ConnectOptions,
  connect,
  fileStorage,
  type Gap,
  type PositionStorage,
  type StateChange,
} from '../lib/client.ts';
import type { DecodedEvent } from '../lib/decode.ts';
import { fetchTransport, http2Transport } from '../lib/transport.ts';
import { cutAfter, eventStream, open, resetAfter, seeded, seqOf, whole } from './helpers/misbehaving.ts';
import { openServer } from './helpers/server.ts';

const LONG = process.env.SLUICE_LONG === '1';

/** No waiting between attempts. */
const atOnce = { minRetryTimeout: 0, backoffBaseTimeout: 0 } as const;

async function readData(url: string, options: ConnectOptions = {}, enough = Infinity): Promise<string[]> {
  const data: string[] = [];
  for await (const event of connect(url, { ...atOnce, ...options })) {
    data.push(event.data);
    if (data.length === enough) break;
  }
  return data;
}

const frame = (seq: number): string => `id: 7-${seq}\ndata: ${seq}\n\n`;

async function started(t: TestContext, handler: Parameters<typeof openServer>[0]) {
  const server = await openServer(handler);
  t.after(() => server.close());
  return server;
}

describe('connect reads', () => {
  it('what a server sends, until it answers 204', async (t) => {
    const { url, requests } = await started(t, (_, res, attempt) => {
      if (attempt === 1) whole(res, 'event: tick\nid: 1\ndata: a\n\ndata: b\n\n');
      else res.writeHead(204).end();
    });
    const events: DecodedEvent[] = [];
    for await (const event of connect(url, atOnce)) events.push(event);
    assert.deepEqual(events, [
      { event: 'tick', data: 'a', id: '1', lastEventId: '1' },
      { event: 'message', data: 'b', id: undefined, lastEventId: '1' },
    ]);
    assert.equal(requests[0]!.headers.accept, 'text/event-stream');
    assert.equal(requests[0]!.headers['last-event-id'], undefined);
    assert.equal(requests[1]!.headers['last-event-id'], '1');
  });

  it('a stream that comes one byte at a time', async (t) => {
    const { url } = await started(t, (_, res) => {
      open(res);
      const bytes = Buffer.from('\uFEFFid: é\r\ndata: 水🚪\r\n\r\n');
      let at = 0;
      const step = (): void => {
        if (at < bytes.length) res.write(bytes.subarray(at, ++at), () => setImmediate(step));
      };
      step();
    });
    assert.deepEqual(await readData(url, {}, 1), ['水🚪']);
  });

  it('through fetch as through node:http', async (t) => {
    const { url } = await started(t, (_, res, attempt) =>
      attempt < 3 ? whole(res, frame(attempt)) : res.writeHead(204).end(),
    );
    assert.deepEqual(await readData(url, { transport: fetchTransport() }), ['1', '2']);
  });

  it('over HTTP/2', async (t) => {
    const server = createHttp2Server();
    const sessions = new Set<ServerHttp2Session>();
    server.on('session', (session) => sessions.add(session));
    const lastIds: unknown[] = [];
    server.on('stream', (stream, headers) => {
      lastIds.push(headers['last-event-id']);
      stream.respond(lastIds.length < 3 ? { ':status': 200, ...eventStream } : { ':status': 204 });
      stream.end(lastIds.length < 3 ? frame(lastIds.length) : undefined);
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    t.after(() => {
      for (const session of sessions) session.destroy();
      server.close();
    });
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
    assert.deepEqual(await readData(url, { transport: http2Transport() }), ['1', '2']);
    assert.deepEqual(lastIds, [undefined, '7-1', '7-2']);
  });

  it('over HTTP/2 without leaving a session behind for headers that have no place there', async (t) => {
    const server = createHttp2Server();
    const sessions = new Set<ServerHttp2Session>();
    server.on('session', (session) => sessions.add(session.on('close', () => sessions.delete(session))));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    t.after(() => server.close());
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
    const options = {
      transport: http2Transport(),
      headers: { connection: 'close' },
      shouldRetry: () => false,
    };
    await assert.rejects(readData(url, options), /connection/i);
    await new Promise((resolve) => setTimeout(resolve, 50));
    assert.equal(sessions.size, 0);
  });

  for (const [encoding, pack] of [
    ['gzip', gzipSync],
    ['deflate', deflateSync],
    ['br', brotliCompressSync],
  ] as const) {
    it(`a stream that comes in ${encoding} without being asked for`, async (t) => {
      const { url } = await started(t, (_, res) => {
        res.writeHead(200, { ...eventStream, 'content-encoding': encoding }).end(pack(frame(1) + frame(2)));
      });
      assert.deepEqual(await readData(url, {}, 2), ['1', '2']);
    });
  }

  it('each event of a gzip stream as it arrives, and resumes where it was cut', async (t) => {
    const { url, requests } = await started(t, (req, res) => {
      res.writeHead(200, { ...eventStream, 'content-encoding': 'gzip' });
      const gzip = createGzip();
      gzip.pipe(res);
      gzip.write(frame(seqOf(req.headers['last-event-id']) + 1));
      gzip.flush(() => setImmediate(() => res.write('', () => res.socket?.destroy())));
    });
    assert.deepEqual(await readData(url, {}, 3), ['1', '2', '3']);
    assert.ok(requests.length >= 3);
  });

  it('cannot read an encoding it does not know, and says which', async (t) => {
    const { url } = await started(t, (_, res) => {
      res.writeHead(200, { ...eventStream, 'content-encoding': 'zstd' }).end('x');
    });
    await assert.rejects(readData(url, { shouldRetry: () => false }), /zstd/);
  });

  it('no faster than its consumer: a flood waits in the server', async (t) => {
    let sent = 0;
    const { url, server } = await started(t, (_, res) => {
      open(res);
      const flood = (): void => {
        while (sent < 200 << 20 && res.write(`data: ${'x'.repeat(10_000)}\n\n`)) sent += 10_000;
      };
      res.on('drain', flood);
      flood();
    });
    for await (const _ of connect(url)) {
      // The consumer is busy until the server could send no more for a whole second.
      let before = -1;
      while (before !== sent) {
        before = sent;
        await new Promise((resolve) => setTimeout(resolve, 300));
      }
      break;
    }
    assert.ok(sent < 50 << 20, `${sent} bytes were taken`);
    server.closeAllConnections();
  });

  it('a flood of comments without growing', async (t) => {
    let comments = 0;
    const { url } = await started(t, (_, res) => {
      open(res);
      const flood = (): void => {
        while (comments < 300_000 && res.write(`${': still here\n'.repeat(100)}`)) comments += 100;
        if (comments >= 300_000) res.write(frame(1));
      };
      res.on('drain', flood);
      flood();
    });
    let heard = 0;
    assert.deepEqual(await readData(url, { onComment: () => heard++ }, 1), ['1']);
    assert.ok(heard >= 300_000);
  });
});

describe('connect reconnects', () => {
  it('after cuts anywhere in a frame, losing and doubling nothing', async (t) => {
    const cuts = LONG ? 10_000 : 1500;
    const random = seeded(20_261_123);
    let connections = 0;
    const { url } = await started(t, (req, res) => {
      connections++;
      const from = seqOf(req.headers['last-event-id']);
      let text = `retry: 0\n\n`;
      for (let seq = from + 1; seq <= from + 4; seq++) text += frame(seq);
      // Some cuts come before the first event: the log must move on all the same.
      const cut = random() < 0.8 ? cutAfter : resetAfter;
      cut(res, text.slice(0, Math.floor(random() * text.length)));
    });
    let expected = 0;
    for await (const event of connect(url, atOnce)) {
      assert.equal(Number(event.data), ++expected);
      if (connections >= cuts) break;
    }
    assert.ok(expected > cuts, `${expected} events over ${connections} connections`);
  });

  it('when the first ten connections are refused', async (t) => {
    let refused = 0;
    const { url, server } = await started(t, (_, res) => whole(res, frame(1)));
    server.on('connection', (socket) => {
      if (refused < 10) {
        refused++;
        socket.resetAndDestroy();
      }
    });
    const changes: StateChange[] = [];
    const connection = connect(url, { ...atOnce, onState: (change) => changes.push(change) });
    for await (const event of connection) {
      assert.equal(event.data, '1');
      break;
    }
    assert.equal(connection.attempt, 11);
    assert.deepEqual(
      changes.map(({ state }) => state),
      [...Array(10).fill(['connecting', 'waiting']).flat(), 'connecting', 'open', 'closed'],
    );
    assert.equal(changes[1]!.failure?.code, 'ERR_SSE_NETWORK');
  });

  it('when nobody listens at first', async () => {
    const server = createTcpServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    server.close();
    await once(server, 'close');
    const codes: unknown[] = [];
    await assert.rejects(
      readData(`http://127.0.0.1:${port}/`, {
        shouldRetry: (failure, attempt) => {
          codes.push((failure.cause as { code: string }).code);
          return attempt < 3;
        },
      }),
      { code: 'ERR_SSE_NETWORK' },
    );
    assert.deepEqual(codes, ['ECONNREFUSED', 'ECONNREFUSED', 'ECONNREFUSED']);
  });

  it('when a half-open server takes the connection and never answers', async (t) => {
    const held: Socket[] = [];
    const server = createTcpServer((socket) => {
      held.push(socket);
      if (held.length >= 3) socket.end('HTTP/1.1 204 No Content\r\n\r\n');
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    t.after(() => {
      for (const socket of held) socket.destroy();
      server.close();
    });
    const failures: unknown[] = [];
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
    await readData(url, {
      connectTimeout: 100,
      onState: ({ failure }) => failure && failures.push(failure.code),
    });
    assert.deepEqual(failures.slice(0, 2), ['ERR_SSE_TIMEOUT', 'ERR_SSE_TIMEOUT']);
  });

  it('when a server falls silent, after the time given', async (t) => {
    const { url } = await started(t, (req, res) => {
      const seq = seqOf(req.headers['last-event-id']) + 1;
      if (seq < 3) open(res, frame(seq));
      else res.writeHead(204).end();
    });
    const failures = new Set<unknown>();
    const onState = ({ failure }: StateChange) => failure && failures.add(failure.code);
    assert.deepEqual(await readData(url, { silenceTimeout: 100, onState }), ['1', '2']);
    assert.deepEqual([...failures], ['ERR_SSE_SILENT']);
  });

  it('when a server misses the heartbeats that it announced, and counts comments as life', async (t) => {
    const ready =
      'event: sluice:ready\nid: 7-0\ndata: {"topics":["a"],"heartbeat":{"interval":200,"missed":9}}\n\n';
    let beats = 0;
    const { url } = await started(t, (_, res, attempt) => {
      if (attempt === 2) return void res.writeHead(204).end();
      open(res, ready);
      const timer = setInterval(() => {
        if (++beats < 6) res.write(':\n');
        else clearInterval(timer);
      }, 200);
      res.on('close', () => clearInterval(timer));
    });
    let failure: unknown;
    const onState = (change: StateChange): void => {
      failure ??= change.failure?.code;
    };
    assert.deepEqual(await readData(url, { onState }), []);
    assert.equal(failure, 'ERR_SSE_SILENT');
    assert.ok(beats >= 6);
  });

  it('does not count its consumer’s slowness as the server’s silence', async (t) => {
    const { url, requests } = await started(t, (_, res) => open(res, frame(1)));
    for await (const _ of connect(url, { ...atOnce, silenceTimeout: 300 })) {
      await new Promise((resolve) => setTimeout(resolve, 700));
      assert.equal(requests.length, 1);
      break;
    }
  });

  for (const status of [408, 425, 429, 500, 502, 503, 504]) {
    it(`after a ${status}`, async (t) => {
      const { url } = await started(t, (_, res, attempt) => {
        if (attempt === 1) res.writeHead(status).end('no');
        else whole(res, frame(1));
      });
      assert.deepEqual(await readData(url, {}, 1), ['1']);
    });
  }

  for (const status of [400, 401, 403, 404, 410, 205, 304]) {
    it(`not after a ${status}`, async (t) => {
      const { url, requests } = await started(t, (_, res) => res.writeHead(status).end());
      await assert.rejects(readData(url), { code: 'ERR_SSE_STATUS', status });
      assert.equal(requests.length, 1);
    });
  }

  it('not when the answer is no event stream', async (t) => {
    for (const type of ['text/html', 'text/event-streams', 'application/json', undefined]) {
      const server = await started(t, (_, res) => {
        res.writeHead(200, type === undefined ? {} : { 'content-type': type }).end('data: a\n\n');
      });
      await assert.rejects(readData(server.url), { code: 'ERR_SSE_CONTENT_TYPE' });
    }
  });

  it('not after a line beyond the limit, having handed over what came before', async (t) => {
    const { url, requests } = await started(t, (_, res) =>
      whole(res, `${frame(1)}data: ${'x'.repeat(100)}\n\n`),
    );
    const data: string[] = [];
    await assert.rejects(
      async () => {
        for await (const event of connect(url, { ...atOnce, maxLineBytes: 50 })) data.push(event.data);
      },
      { code: 'ERR_SSE_LINE_TOO_LONG' },
    );
    assert.deepEqual(data, ['1']);
    assert.equal(requests.length, 1);
  });

  it('as the caller says', async (t) => {
    const { url, requests } = await started(t, (_, res) => res.writeHead(404).end());
    await assert.rejects(readData(url, { shouldRetry: (_, attempt) => attempt < 4 }), { status: 404 });
    assert.equal(requests.length, 4);
  });
});

describe('connect waits', () => {
  /** The delays chosen after each of so many failures. */
  async function delaysOf(
    t: TestContext,
    options: ConnectOptions,
    count: number,
    handler: Parameters<typeof openServer>[0],
  ) {
    const { url } = await started(t, handler);
    const delays: number[] = [];
    const connection = connect(url, {
      ...options,
      onState: ({ delay }) => {
        if (delay !== undefined) delays.push(delay);
        if (delays.length === count) connection.close();
      },
    });
    for await (const _ of connection);
    return delays;
  }
  const unavailable: Parameters<typeof openServer>[0] = (_, res) => res.writeHead(503).end();

  it('longer after each failure, up to a bound, with full jitter', async (t) => {
    const random = mock.method(Math, 'random', () => 0.5);
    t.after(() => random.mock.restore());
    const options = { minRetryTimeout: 0, backoffBaseTimeout: 4, backoffMaxTimeout: 20 };
    assert.deepEqual(await delaysOf(t, options, 5, unavailable), [2, 4, 8, 10, 10]);
  });

  it('from the start again after a connection that was healthy', async (t) => {
    const random = mock.method(Math, 'random', () => 0.5);
    t.after(() => random.mock.restore());
    const options = { minRetryTimeout: 0, backoffBaseTimeout: 4, backoffMaxTimeout: 20, healthyAge: 0 };
    const handler: Parameters<typeof openServer>[0] = (_, res, attempt) =>
      attempt === 4 ? whole(res, frame(1)) : unavailable(_, res, attempt);
    assert.deepEqual(await delaysOf(t, options, 5, handler), [2, 4, 8, 2, 4]);
  });

  it('at least 250 ms by default, whatever the server says', async (t) => {
    const options = { backoffBaseTimeout: 0 };
    assert.deepEqual(await delaysOf(t, options, 1, (_, res) => whole(res, 'retry: 0\n\n')), [250]);
  });

  it('as long as retry asks, but no longer than ten minutes', async (t) => {
    const options = { backoffBaseTimeout: 0 };
    assert.deepEqual(await delaysOf(t, options, 1, (_, res) => whole(res, 'retry: 3000\n\n')), [3000]);
    assert.deepEqual(
      await delaysOf(t, options, 1, (_, res) => whole(res, 'retry: 99999999999\n\n')),
      [600_000],
    );
  });

  it('as long as Retry-After asks, in seconds or as a date', async (t) => {
    const options = { backoffBaseTimeout: 0 };
    const after =
      (value: string, status = 503) =>
      (_: unknown, res: Parameters<typeof whole>[0]) =>
        void res.writeHead(status, { 'retry-after': value }).end();
    for (const status of [429, 500, 503])
      assert.deepEqual(await delaysOf(t, options, 1, after('7', status)), [7000]);
    assert.deepEqual(await delaysOf(t, options, 1, after('86400')), [600_000]);
    assert.deepEqual(await delaysOf(t, options, 1, after('soon')), [250]);
    assert.deepEqual(await delaysOf(t, options, 1, after('Mon, 01 Jan 2001 00:00:00 GMT')), [250]);
    const [delay] = await delaysOf(t, options, 1, after(new Date(Date.now() + 90_000).toUTCString()));
    assert.ok(delay! > 80_000 && delay! <= 90_000, `${delay}`);
  });
});

describe('connect redirected', () => {
  for (const status of [301, 302, 303, 307, 308]) {
    it(`by a ${status} within the origin goes there with headers and last event ID`, async (t) => {
      const { url, requests } = await started(t, (req, res) => {
        if (req.url === '/') res.writeHead(status, { location: '/there' }).end('gone');
        else whole(res, frame(1));
      });
      await readData(url, { headers: { authorization: 'secret' }, lastEventId: '7-0' }, 1);
      assert.equal(requests[1]!.url, '/there');
      assert.equal(requests[1]!.headers.authorization, 'secret');
      assert.equal(requests[1]!.headers['last-event-id'], '7-0');
    });
  }

  it('asks the first address again after a cut', async (t) => {
    const { url, requests } = await started(t, (req, res) => {
      if (req.url === '/') res.writeHead(307, { location: '/there' }).end();
      else whole(res, frame(seqOf(req.headers['last-event-id']) + 1));
    });
    assert.deepEqual(await readData(url, {}, 2), ['1', '2']);
    assert.deepEqual(
      requests.map((req) => req.url),
      ['/', '/there', '/', '/there'],
    );
  });

  it('in a circle gives up', async (t) => {
    const { url, requests } = await started(t, (_, res) => res.writeHead(302, { location: '/' }).end());
    await assert.rejects(readData(url), { code: 'ERR_SSE_REDIRECT' });
    assert.equal(requests.length, 11);
  });

  it('nowhere gives up', async (t) => {
    for (const headers of [{}, { location: 'http://[' }]) {
      const { url } = await started(t, (_, res) => res.writeHead(302, headers).end());
      await assert.rejects(readData(url), { code: 'ERR_SSE_REDIRECT' });
    }
  });

  it('through fetch is judged hop by hop as well, wherever fetch shows where it leads', async (t) => {
    const there = await started(t, (_, res) => whole(res, frame(4)));
    const here = await started(t, (_, res) => res.writeHead(307, { location: there.url }).end());
    for (const runtime of ['Deno', 'Bun']) {
      Object.defineProperty(globalThis, runtime, { value: {}, configurable: true });
      t.after(() => Reflect.deleteProperty(globalThis, runtime));
      await assert.rejects(readData(here.url, { lastEventId: '7-3' }), { code: 'ERR_SSE_REDIRECT' });
      Reflect.deleteProperty(globalThis, runtime);
    }
    assert.equal(there.requests.length, 0);
  });

  it('to another origin goes only without headers, and with ids only where they came from', async (t) => {
    const there = await started(t, (req, res) => whole(res, frame(seqOf(req.headers['last-event-id']) + 1)));
    const here = await started(t, (_, res) => res.writeHead(307, { location: there.url }).end());
    await assert.rejects(readData(here.url, { headers: { 'x-token': 'secret' } }), {
      code: 'ERR_SSE_REDIRECT',
    });
    await assert.rejects(readData(here.url, { lastEventId: '7-3' }), { code: 'ERR_SSE_REDIRECT' });
    assert.equal(there.requests.length, 0);
    assert.deepEqual(await readData(here.url, {}, 3), ['1', '2', '3']);
    const redirectOrigins = [new URL(there.url).origin];
    const options = { headers: { 'x-token': 'secret' }, lastEventId: '7-3', redirectOrigins };
    assert.deepEqual(await readData(here.url, options, 1), ['4']);
    assert.equal(there.requests.at(-1)!.headers['x-token'], 'secret');
  });
});

describe('connect asks', () => {
  it('for headers, and ends with those that no request can carry instead of trying for ever', async (t) => {
    const { url, requests } = await started(t, (_, res) => whole(res, frame(1)));
    const headers = async () => ({ authorization: 'Bearer a\nb' });
    const refusal = (error: Error): boolean =>
      error instanceof TypeError && /`authorization`/.test(error.message) && !/Bearer/.test(error.message);
    await assert.rejects(readData(url, { headers }), refusal);
    assert.equal(requests.length, 0);
  });

  it('for headers, and ends with what that threw', async (t) => {
    const { url, requests } = await started(t, (_, res) => whole(res, frame(1)));
    await assert.rejects(readData(url, { headers: () => Promise.reject(new Error('no token')) }), /no token/);
    assert.equal(requests.length, 0);
  });

  it('for headers again before each attempt', async (t) => {
    const { url, requests } = await started(t, (_, res, attempt) => {
      if (attempt < 3) res.writeHead(503).end();
      else whole(res, frame(1));
    });
    await readData(url, { headers: async (attempt) => ({ Authorization: `token ${attempt}` }) }, 1);
    assert.deepEqual(
      requests.map((req) => req.headers.authorization),
      ['token 1', 'token 2', 'token 3'],
    );
  });

  it('with an id that is not ASCII as UTF-8', async (t) => {
    const { url, requests } = await started(t, (_, res, attempt) =>
      attempt === 1 ? whole(res, 'id: é水\ndata: a\n\n') : void res.writeHead(204).end(),
    );
    await readData(url);
    const sent = requests[1]!.headers['last-event-id'] as string;
    assert.equal(Buffer.from(sent, 'latin1').toString(), 'é水');
  });

  it('never with an id that no header can carry', async (t) => {
    const { url, requests } = await started(t, (_, res) => whole(res, 'id: a\x01b\ndata: a\n\n'));
    await assert.rejects(readData(url), { code: 'ERR_SSE_ID' });
    assert.equal(requests.length, 1);
  });

  it('by POST once, and ends with its answer', async (t) => {
    const bodies: string[] = [];
    const { url } = await started(t, (req, res) => {
      let body = '';
      req.setEncoding('utf8').on('data', (text) => {
        body += text;
      });
      req.on('end', () => {
        bodies.push(body);
        whole(res, frame(1));
      });
    });
    assert.deepEqual(await readData(url, { body: '{"ask":1}' }), ['1']);
    assert.deepEqual(bodies, ['{"ask":1}']);
  });

  it('by POST once, and says when its answer was cut or never came', async (t) => {
    const { url, requests } = await started(t, (_, res, attempt) => {
      if (attempt === 1) cutAfter(res, frame(1));
      else res.writeHead(503).end();
    });
    await assert.rejects(readData(url, { body: 'x' }), { code: 'ERR_SSE_NETWORK' });
    await assert.rejects(readData(url, { body: 'x' }), { code: 'ERR_SSE_STATUS', status: 503 });
    assert.equal(requests.length, 2);
  });

  it('by POST once, and does not take a proper end for the last event', async (t) => {
    const { url } = await started(t, (_, res, attempt) =>
      whole(res, attempt === 1 ? frame(1) : `${frame(1)}data: [DONE]\n\ndata: more\n\n`),
    );
    const isLast = (event: DecodedEvent): boolean => event.data === '[DONE]';
    await assert.rejects(readData(url, { body: 'x', isLast }), { code: 'ERR_SSE_EOF' });
    assert.deepEqual(await readData(url, { body: 'x', isLast }), ['1', '[DONE]']);
  });

  it('by POST again when told so', async (t) => {
    const { url, requests } = await started(t, (req, res, attempt) => {
      req.resume();
      if (attempt < 3) cutAfter(res, frame(attempt));
      else res.writeHead(204).end();
    });
    assert.deepEqual(await readData(url, { body: 'x', shouldRetry: () => true }), ['1', '2']);
    assert.deepEqual(
      requests.map((req) => req.method),
      ['POST', 'POST', 'POST'],
    );
  });
});

describe('connect understands the hub', () => {
  const ready = (id: string): string =>
    `event: sluice:ready\nid: ${id}\ndata: {"topics":["a"],"heartbeat":null}\n\n`;

  it('keeps the place that a new reader is told, before any event', async (t) => {
    const { url, requests } = await started(t, (_, res, attempt) => {
      if (attempt === 1) cutAfter(res, ready('7-41'));
      else res.writeHead(204).end();
    });
    assert.deepEqual(await readData(url), []);
    assert.equal(requests[1]!.headers['last-event-id'], '7-41');
  });

  it('keeps a place that moves without events', async (t) => {
    const { url, requests } = await started(t, (_, res, attempt) => {
      if (attempt === 1) whole(res, `${frame(1)}id: 7-9\n\n`);
      else res.writeHead(204).end();
    });
    await readData(url);
    assert.equal(requests[1]!.headers['last-event-id'], '7-9');
  });

  it('drops what comes twice within an epoch, and nothing else', async (t) => {
    const { url } = await started(t, (_, res, attempt) => {
      if (attempt === 1) whole(res, ready('7-0') + frame(1) + frame(2));
      else if (attempt === 2) whole(res, `${ready('7-1') + frame(2)}data: no id\n\n${frame(2)}${frame(3)}`);
      else if (attempt === 3) whole(res, `${ready('8-0')}id: 8-1\ndata: new life\n\nid: x\ndata: other\n\n`);
      else res.writeHead(204).end();
    });
    assert.deepEqual(await readData(url), ['1', '2', 'no id', '3', 'new life', 'other']);
  });

  it('drops nothing of a server that is no hub', async (t) => {
    const { url } = await started(t, (_, res, attempt) => {
      if (attempt === 1) whole(res, frame(2) + frame(1) + frame(1));
      else res.writeHead(204).end();
    });
    assert.deepEqual(await readData(url), ['2', '1', '1']);
  });

  const gap =
    'event: sluice:gap\nid: 7-5\ndata: {"reason":"evicted","from":"7-1","to":"7-5","topics":["a"]}\n\n';

  it('waits for onGap before anything newer, and resumes after the gap', async (t) => {
    const { url, requests } = await started(t, (_, res, attempt) => {
      if (attempt === 1) whole(res, ready('7-1') + gap + frame(6));
      else res.writeHead(204).end();
    });
    const order: unknown[] = [];
    const onGap = async (gap: Gap): Promise<void> => {
      order.push(gap);
      await new Promise((resolve) => setTimeout(resolve, 20));
      order.push('handled');
    };
    for await (const event of connect(url, { ...atOnce, onGap })) order.push(event.data);
    assert.deepEqual(order, [{ reason: 'evicted', from: '7-1', to: '7-5', topics: ['a'] }, 'handled', '6']);
    assert.equal(requests[1]!.headers['last-event-id'], '7-6');
  });

  it('takes a gap back in the same epoch for a new start: what follows is no repetition', async (t) => {
    const back =
      'event: sluice:gap\nid: 7-2\ndata: {"reason":"ahead","from":"7-9","to":"7-2","topics":[]}\n\n';
    const { url } = await started(t, (_, res, attempt) => {
      if (attempt === 1) whole(res, ready('7-8') + frame(9));
      else if (attempt === 2) whole(res, ready('7-9') + back + frame(3));
      else res.writeHead(204).end();
    });
    assert.deepEqual(await readData(url, { onGap: () => {} }), ['9', '3']);
  });

  it('hands the gap over as an event where nobody asked for it apart', async (t) => {
    const { url } = await started(t, (_, res, attempt) =>
      attempt === 1 ? whole(res, ready('7-1') + gap) : void res.writeHead(204).end(),
    );
    const events: string[] = [];
    for await (const { event } of connect(url, atOnce)) events.push(event);
    assert.deepEqual(events, ['sluice:gap']);
  });

  it('ends with what onGap threw, and comes back to the gap', async (t) => {
    const { url } = await started(t, (_, res) => open(res, ready('7-1') + gap + frame(6)));
    const connection = connect(url, {
      ...atOnce,
      onGap: () => {
        throw new Error('cannot reload');
      },
    });
    await assert.rejects(async () => {
      for await (const _ of connection);
    }, /cannot reload/);
    assert.equal(connection.lastEventId, '7-1');
    assert.equal(connection.state, 'closed');
  });

  it('reads a gap whose data is no JSON as a gap all the same', async (t) => {
    const { url } = await started(t, (_, res, attempt) =>
      attempt === 1
        ? whole(res, 'event: sluice:gap\nid: 7-5\ndata: {"rea\n\n')
        : void res.writeHead(204).end(),
    );
    const gaps: Gap[] = [];
    await readData(url, { onGap: (gap) => void gaps.push(gap) });
    assert.deepEqual(gaps, [{ reason: 'unknown', from: null, to: '7-5', topics: [] }]);
  });

  it('stops at sluice:end without asking again', async (t) => {
    const { url, requests } = await started(t, (_, res) =>
      whole(res, `${frame(1)}event: sluice:end\ndata:\n\n`),
    );
    assert.deepEqual(await readData(url), ['1']);
    assert.equal(requests.length, 1);
  });

  it('shows the control events to who asks for them', async (t) => {
    const { url } = await started(t, (_, res) =>
      whole(res, `${ready('7-1')}${gap}event: sluice:end\ndata:\n\n`),
    );
    const events: string[] = [];
    for await (const { event } of connect(url, { controlEvents: true, onGap: () => {} })) events.push(event);
    assert.deepEqual(events, ['sluice:ready', 'sluice:gap', 'sluice:end']);
  });
});

describe('connect ends', () => {
  it('when the loop is left, and closes its connection', async (t) => {
    const { url, server } = await started(t, (_, res) => open(res, frame(1)));
    const connection = connect(url);
    for await (const _ of connection) break;
    assert.equal(connection.state, 'closed');
    await new Promise<void>((resolve) => {
      const look = (): void =>
        void server.getConnections((_, n) => (n === 0 ? resolve() : setImmediate(look)));
      look();
    });
  });

  it('with the signal’s reason, whatever it was waiting for', async (t) => {
    const silent = await started(t, (_, res) => open(res));
    const mute = await started(t, () => {});
    const failing = await started(t, (_, res) => res.writeHead(503).end());
    for (const [{ url }, state] of [
      [silent, 'open'],
      [mute, 'connecting'],
      [failing, 'waiting'],
    ] as const) {
      const controller = new AbortController();
      const reason = new Error(`while ${state}`);
      const onState = (change: StateChange): void => {
        if (change.state === state) setTimeout(() => controller.abort(reason), 5);
      };
      const reading = readData(url, {
        signal: controller.signal,
        backoffBaseTimeout: 60_000,
        minRetryTimeout: 60_000,
        onState,
      });
      await assert.rejects(reading, reason);
      assert.equal(getEventListeners(controller.signal, 'abort').length, 0);
    }
  });

  it('with the signal’s reason, though the headers never come', async (t) => {
    const { url, requests } = await started(t, (_, res) => open(res));
    const controller = new AbortController();
    const headers = (): Promise<never> => {
      setImmediate(() => controller.abort(new Error('enough')));
      return new Promise(() => {});
    };
    await assert.rejects(readData(url, { signal: controller.signal, headers }), /enough/);
    assert.equal(requests.length, 0);
  });

  it('before it began, when the signal was aborted already', async () => {
    const signal = AbortSignal.abort(new Error('no'));
    await assert.rejects(readData('http://127.0.0.1:1/', { signal }), /no/);
  });

  it('when closed from elsewhere while it waits for an event', async (t) => {
    const { url } = await started(t, (_, res) => open(res));
    const connection = connect(url, {
      onState: ({ state }) => state === 'open' && setImmediate(() => connection.close()),
    });
    for await (const _ of connection) assert.fail('an event');
    assert.equal(connection.state, 'closed');
  });

  it('before the rest of what had arrived, when closed while processing', async (t) => {
    const { url } = await started(t, (_, res) => open(res, frame(1) + frame(2)));
    const data: string[] = [];
    const connection = connect(url);
    for await (const event of connection) {
      data.push(event.data);
      connection.close();
    }
    assert.deepEqual(data, ['1']);
  });

  it('at most one loop', async () => {
    const connection = connect('http://127.0.0.1:1/');
    connection.close();
    for await (const _ of connection) assert.fail('an event');
    assert.throws(() => connection[Symbol.asyncIterator](), TypeError);
  });
});

describe('connect keeps its place', () => {
  const memory = (initial: Record<string, string> = {}): PositionStorage & { saved: string[] } => {
    const items = new Map(Object.entries(initial));
    const saved: string[] = [];
    return {
      saved,
      getItem: (key) => items.get(key) ?? null,
      setItem: (key, value) => {
        items.set(key, value);
        saved.push(value);
      },
    };
  };

  it('as that of the last event processed, not of the last one received', async (t) => {
    const { url } = await started(t, (_, res) => open(res, frame(1) + frame(2) + frame(3)));
    const storage = memory();
    const connection = connect(url, { storage });
    for await (const event of connection) {
      assert.equal(connection.lastEventId, event.data === '1' ? '' : `7-${Number(event.data) - 1}`);
      if (event.data === '3') break;
    }
    assert.equal(storage.saved.at(-1), '7-2');
  });

  it('including the event in hand, once it is committed', async (t) => {
    const { url } = await started(t, (_, res) => open(res, frame(1)));
    const storage = memory();
    const connection = connect(url, { storage, storageKey: 'place' });
    for await (const _ of connection) {
      await connection.commit();
      break;
    }
    assert.equal(storage.getItem('place'), '7-1');
    assert.equal(connection.lastEventId, '7-1');
  });

  it('and resumes from what is stored rather than from what is given', async (t) => {
    const { url, requests } = await started(t, (_, res) => open(res, frame(9)));
    await readData(url, { storage: memory({ [`sluice:${url}`]: '7-8' }), lastEventId: '7-1' }, 1);
    assert.equal(requests[0]!.headers['last-event-id'], '7-8');
  });

  it('and fails when it cannot be kept', async (t) => {
    const { url } = await started(t, (_, res) => open(res, frame(1) + frame(2) + frame(3)));
    const storage: PositionStorage = {
      getItem: () => null,
      setItem: () => Promise.reject(new Error('disk full')),
    };
    await assert.rejects(readData(url, { storage }), /disk full/);
  });

  it('in a file that is replaced as a whole', async (t) => {
    const folder = await mkdtemp(join(tmpdir(), 'sluice-'));
    t.after(() => rm(folder, { recursive: true }));
    const path = join(folder, 'places.json');
    const { url, requests } = await started(t, (req, res) => {
      const from = seqOf(req.headers['last-event-id']);
      open(res, frame(from + 1) + frame(from + 2));
    });
    await readData(url, { storage: fileStorage(path), storageKey: 'a' }, 2);
    await readData(url, { storage: fileStorage(path), storageKey: '__proto__' }, 2);
    assert.deepEqual(JSON.parse(await readFile(path, 'utf8')), JSON.parse('{"a":"7-1","__proto__":"7-1"}'));
    await readData(url, { storage: fileStorage(path), storageKey: 'a' }, 2);
    assert.equal(requests.at(-1)!.headers['last-event-id'], '7-1');
    await writeFile(`${path}.17.tmp`, 'left by one that was killed');
    await writeFile(`${path}.other.tmp`, 'somebody else’s');
    await readData(url, { storage: fileStorage(path), storageKey: 'a' }, 1);
    assert.deepEqual((await readdir(folder)).sort(), ['places.json', 'places.json.other.tmp']);
    await writeFile(path, 'not JSON');
    await assert.rejects(readData(url, { storage: fileStorage(path) }), /cannot read positions/);
  });

  it('through SIGKILL at any moment: every event at least once, in order, none skipped', {
    timeout: 600_000,
  }, async (t) => {
    const kills = LONG ? 200 : 12;
    const random = seeded(4);
    const folder = await mkdtemp(join(tmpdir(), 'sluice-'));
    t.after(() => rm(folder, { recursive: true }));
    const { url } = await started(t, (req, res) => {
      let seq = seqOf(req.headers['last-event-id']);
      open(res);
      const more = (): void => {
        if (!res.destroyed) res.write(frame(++seq) + frame(++seq), () => setImmediate(more));
      };
      more();
    });
    const script = fileURLToPath(new URL('./helpers/processing-reader.ts', import.meta.url));
    let latest = 0;
    for (let kill = 0; kill < kills; kill++) {
      const child = spawn(process.execPath, ['--import', 'tsx', script, url, join(folder, 'place.json')], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      let output = '';
      const until = 20 + random() * 4000;
      for await (const text of child.stdout.setEncoding('utf8')) {
        output += text;
        if (output.length > until && !child.killed) child.kill('SIGKILL');
      }
      assert.equal(child.signalCode ?? (await once(child, 'exit'))[1], 'SIGKILL');
      const processed = output.split('\n').slice(0, -1).map(Number);
      assert.ok(processed.length > 0);
      assert.ok(processed[0]! <= latest + 1, `began at ${processed[0]} after ${latest}`);
      for (let i = 1; i < processed.length; i++) assert.equal(processed[i], processed[i - 1]! + 1);
      latest = Math.max(latest, processed.at(-1)!);
    }
    const stored = Object.values(JSON.parse(await readFile(join(folder, 'place.json'), 'utf8')))[0] as string;
    assert.ok(seqOf(stored) <= latest, `${stored} was stored, ${latest} was processed`);
    assert.ok(seqOf(stored) > 0);
  });
});

describe('connect refuses', () => {
  for (const [options, message] of [
    [{ method: 'G T' }, /^TypeError: `method` must be a word, got G T$/],
    [{ headers: { 'a b': 'c' } }, /^TypeError: `headers` must have names .* got "a b"$/],
    [{ headers: { a: 'b\r\nc: d' } }, /^TypeError: `headers` must have values .* `a`/],
    [{ headers: { a: '水' } }, /^TypeError: `headers` must have values/],
    [{ lastEventId: '7\n8' }, /^TypeError: `lastEventId` must be .* got "7\\n8"$/],
    [{ connectTimeout: -1 }, /^RangeError: `connectTimeout` must be .* got -1$/],
    [{ silenceTimeout: Number.NaN }, /^RangeError: `silenceTimeout`/],
    [{ backoffBaseTimeout: Infinity }, /^RangeError: `backoffBaseTimeout`/],
    [{ backoffMaxTimeout: 2 ** 31 }, /^RangeError: `backoffMaxTimeout`/],
    [{ minRetryTimeout: '1' as unknown as number }, /^RangeError: `minRetryTimeout`/],
    [{ maxRetryTimeout: -0.5 }, /^RangeError: `maxRetryTimeout`/],
    [{ maxLineBytes: 0 }, /^RangeError: `maxLineBytes`/],
  ] as [ConnectOptions, RegExp][]) {
    it(`${JSON.stringify(options)} at once, by name`, () => {
      assert.throws(() => connect('http://127.0.0.1/', options), message);
    });
  }

  it('addresses that are none of its business', () => {
    assert.throws(() => connect('ftp://example.org/'), /^TypeError: `url` must be http/);
    assert.throws(() => connect('/relative'), TypeError);
  });
});
