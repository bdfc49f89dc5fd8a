import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { getEventListeners, once } from 'node:events';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer as createHttp2Server, type ServerHttp2Session } from 'node:http2';
import { type AddressInfo, createServer as createTcpServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, mock, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { brotliCompressSync, createGzip, deflateSync, gzipSync } from 'node:zlib';
import {
  type ConnectOptions,
  connect,
  type Gap,
  type ReceivedEvent,
  type StateChange,
} from '../lib/client.ts';
import { encode } from '../lib/encode.ts';
import { fileStorage, type PositionStorage } from '../lib/positions.ts';
import { gapEvent, positionEvent, readyEvent } from '../lib/protocol.ts';
import { fetchTransport, http2Transport } from '../lib/transport.ts';
import { fakeTime } from './helpers/clock.ts';
import { atOnce, readData } from './helpers/connected.ts';
import { often } from './helpers/long.ts';
import {
  cutAfter,
  eventStream,
  frame,
  idOf,
  NEXT_EPOCH,
  open,
  resetAfter,
  seeded,
  seqOf,
  whole,
} from './helpers/misbehaving.ts';
import { listen, openServer } from './helpers/server.ts';

async function started(t: TestContext, handler: Parameters<typeof openServer>[0]) {
  const server = await openServer(handler);
  t.after(() => server.close());
  return server;
}

describe('connect', () => {
  it('reads what a server sends, until it answers 204', async (t) => {
    const { url, requests } = await started(t, (_, res, attempt) => {
      if (attempt === 1) whole(res, 'event: tick\nid: 1\ndata: a\n\ndata: b\n\n');
      else res.writeHead(204).end();
    });
    const events: unknown[] = [];
    for await (const event of connect(url, atOnce)) events.push({ ...event });
    assert.deepEqual(events, [
      { event: 'tick', data: 'a', id: '1', lastEventId: '1' },
      { event: 'message', data: 'b', id: undefined, lastEventId: '1' },
    ]);
    assert.equal(requests[0]!.headers.accept, 'text/event-stream');
    assert.equal(requests[0]!.headers['last-event-id'], undefined);
    assert.equal(requests[1]!.headers['last-event-id'], '1');
  });

  it('reads a stream that arrives one byte at a time', async (t) => {
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

  it('reads by fetch as by node:http', async (t) => {
    const { url } = await started(t, (_, res, attempt) =>
      attempt < 3 ? whole(res, frame(attempt)) : res.writeHead(204).end(),
    );
    assert.deepEqual(await readData(url, { transport: fetchTransport() }), ['1', '2']);
  });

  it('reads over HTTP/2', async (t) => {
    const server = createHttp2Server();
    const lastIds: unknown[] = [];
    server.on('stream', (stream, headers) => {
      lastIds.push(headers['last-event-id']);
      stream.respond(lastIds.length < 3 ? { ':status': 200, ...eventStream } : { ':status': 204 });
      stream.end(lastIds.length < 3 ? frame(lastIds.length) : undefined);
    });
    const url = `http://127.0.0.1:${await listen(t, server)}/`;
    assert.deepEqual(await readData(url, { transport: http2Transport() }), ['1', '2']);
    assert.deepEqual(lastIds, [undefined, idOf(1), idOf(2)]);
  });

  it('closes the HTTP/2 session where a header cannot be sent', async (t) => {
    const server = createHttp2Server();
    const sessions = new Set<ServerHttp2Session>();
    server.on('session', (session) => sessions.add(session.on('close', () => sessions.delete(session))));
    const url = `http://127.0.0.1:${await listen(t, server)}/`;
    const options = {
      transport: http2Transport(),
      headers: { connection: 'close' },
      shouldRetry: () => false,
    };
    await assert.rejects(readData(url, options), /connection/i);
    for (const session of sessions) await once(session, 'close');
    assert.equal(sessions.size, 0);
  });

  for (const [encoding, pack] of [
    ['gzip', gzipSync],
    ['deflate', deflateSync],
    ['br', brotliCompressSync],
  ] as const) {
    it(`reads a stream that arrives in ${encoding} unasked`, async (t) => {
      const { url } = await started(t, (_, res) => {
        res.writeHead(200, { ...eventStream, 'content-encoding': encoding }).end(pack(frame(1) + frame(2)));
      });
      assert.deepEqual(await readData(url, {}, 2), ['1', '2']);
    });
  }

  it('reads each event of a gzip stream as it arrives, and resumes where it was cut', async (t) => {
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

  it('names a content encoding that it cannot decode', async (t) => {
    const { url } = await started(t, (_, res) => {
      res.writeHead(200, { ...eventStream, 'content-encoding': 'zstd' }).end('x');
    });
    await assert.rejects(readData(url, { shouldRetry: () => false }), /zstd/);
  });

  it('reads no faster than its consumer, so that a flood waits in the server', async (t) => {
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
      // The consumer is busy until the server can send no more.
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

  it('reads three hundred thousand comments, and calls onComment for each', async (t) => {
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
    assert.deepEqual(
      await readData(
        url,
        {
          onComment: ({ comment }) => {
            assert.equal(comment, 'still here');
            heard++;
          },
        },
        1,
      ),
      ['1'],
    );
    assert.ok(heard >= 300_000);
  });
});

describe('connect, when a connection fails,', () => {
  it('loses and repeats nothing, wherever in a frame the stream was cut', async (t) => {
    const cuts = often(1500, 10_000);
    const random = seeded(20_261_123);
    let connections = 0;
    const { url } = await started(t, (req, res) => {
      connections++;
      const from = seqOf(req.headers['last-event-id']);
      let text = `retry: 0\n\n`;
      for (let seq = from + 1; seq <= from + 4; seq++) text += frame(seq);
      // Some cuts come before the first event, and the client has to get past those too.
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

  it('reconnects when the first ten connections are reset', async (t) => {
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

  it('reconnects when no server listens, and keeps the system error as the cause', async () => {
    const server = createTcpServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    server.close();
    await once(server, 'close');
    const codes: unknown[] = [];
    await assert.rejects(
      readData(`http://127.0.0.1:${port}/`, {
        shouldRetry: (failure, { attempt }) => {
          codes.push((failure.cause as { code: string }).code);
          return attempt < 3;
        },
      }),
      { code: 'ERR_SSE_NETWORK' },
    );
    assert.deepEqual(codes, ['ECONNREFUSED', 'ECONNREFUSED', 'ECONNREFUSED']);
  });

  it('reconnects when a server accepts the connection and never answers', async (t) => {
    let accepted = 0;
    const server = createTcpServer((socket) => {
      if (++accepted >= 3) socket.end('HTTP/1.1 204 No Content\r\n\r\n');
    });
    const failures: unknown[] = [];
    const url = `http://127.0.0.1:${await listen(t, server)}/`;
    await readData(url, {
      connectTimeout: 100,
      onState: ({ failure }) => failure && failures.push(failure.code),
    });
    assert.deepEqual(failures.slice(0, 2), ['ERR_SSE_TIMEOUT', 'ERR_SSE_TIMEOUT']);
  });

  it('reconnects when a server is silent for longer than silenceTimeout', async (t) => {
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

  it('reconnects when the announced heartbeats stop, and counts comments as heartbeats', async (t) => {
    const ready = encode(readyEvent(idOf(0), ['a'], { heartbeat: { interval: 200, missed: 9 } }));
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

  it('gives the connection up when one heartbeat more than may be missed is due, and not before', async (t) => {
    const announced = JSON.stringify({ id: idOf(1), heartbeat: { interval: 5000, missed: 2 } });
    const { url } = await started(t, (_, res) => open(res, `event: sluice:ready\ndata: ${announced}\n\n`));
    const time = fakeTime(t);
    const connection = connect(url, { controlEvents: true, shouldRetry: () => false });
    const events = connection[Symbol.asyncIterator]();
    assert.equal((await events.next()).value?.event, 'sluice:ready');
    const next = assert.rejects(events.next(), { code: 'ERR_SSE_SILENT' });
    // A turn for each promise on the way to the next read, so that the watchdog runs.
    await time.pass(100);
    await time.pass(14_800, 1000);
    assert.equal(connection.state, 'open');
    await time.pass(100);
    await next;
    assert.equal(connection.state, 'closed');
  });

  it('waits for a second at least, whatever heartbeats the server announces', async (t) => {
    const announced = JSON.stringify({ id: idOf(1), heartbeat: { interval: 1, missed: 0 } });
    const { url } = await started(t, (_, res) => open(res, `event: sluice:ready\ndata: ${announced}\n\n`));
    const time = fakeTime(t);
    const connection = connect(url, { controlEvents: true, shouldRetry: () => false });
    const events = connection[Symbol.asyncIterator]();
    assert.equal((await events.next()).value?.event, 'sluice:ready');
    const next = assert.rejects(events.next(), { code: 'ERR_SSE_SILENT' });
    await time.pass(100);
    await time.pass(800, 100);
    assert.equal(connection.state, 'open');
    await time.pass(100);
    await next;
  });

  it('does not take a slow consumer for a silent server', async (t) => {
    const { url, requests } = await started(t, (_, res) => open(res, frame(1)));
    for await (const _ of connect(url, { ...atOnce, silenceTimeout: 300 })) {
      await new Promise((resolve) => setTimeout(resolve, 700));
      assert.equal(requests.length, 1);
      break;
    }
  });

  for (const status of [408, 425, 429, 500, 502, 503, 504]) {
    it(`reconnects after a ${status}`, async (t) => {
      const { url } = await started(t, (_, res, attempt) => {
        if (attempt === 1) res.writeHead(status).end('no');
        else whole(res, frame(1));
      });
      assert.deepEqual(await readData(url, {}, 1), ['1']);
    });
  }

  for (const status of [400, 401, 403, 404, 410, 205, 304]) {
    it(`throws after a ${status}`, async (t) => {
      const { url, requests } = await started(t, (_, res) => res.writeHead(status).end());
      await assert.rejects(readData(url), { code: 'ERR_SSE_STATUS', status });
      assert.equal(requests.length, 1);
    });
  }

  it('throws when the response is not an event stream', async (t) => {
    for (const type of ['text/html', 'text/event-streams', 'application/json', undefined]) {
      const server = await started(t, (_, res) => {
        res.writeHead(200, type === undefined ? {} : { 'content-type': type }).end('data: a\n\n');
      });
      await assert.rejects(readData(server.url), { code: 'ERR_SSE_CONTENT_TYPE', status: 200 });
    }
  });

  it('throws at a line that is too long, after the events before it', async (t) => {
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

  it('reconnects for as long as shouldRetry returns true', async (t) => {
    const { url, requests } = await started(t, (_, res) => res.writeHead(404).end());
    await assert.rejects(readData(url, { shouldRetry: (_, { attempt }) => attempt < 4 }), { status: 404 });
    assert.equal(requests.length, 4);
  });
});

describe('connect, before it reconnects,', () => {
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

  it('waits longer after each failure, up to a bound, with full jitter', async (t) => {
    const random = mock.method(Math, 'random', () => 0.5);
    t.after(() => random.mock.restore());
    const options = { minRetryDelay: 0, backoffDelay: 4, maxBackoffDelay: 20 };
    assert.deepEqual(await delaysOf(t, options, 5, unavailable), [2, 4, 8, 10, 10]);
  });

  it('waits briefly again after a healthy connection', async (t) => {
    const random = mock.method(Math, 'random', () => 0.5);
    t.after(() => random.mock.restore());
    const options = { minRetryDelay: 0, backoffDelay: 4, maxBackoffDelay: 20, healthyAge: 0 };
    const handler: Parameters<typeof openServer>[0] = (_, res, attempt) =>
      attempt === 4 ? whole(res, frame(1)) : unavailable(_, res, attempt);
    assert.deepEqual(await delaysOf(t, options, 5, handler), [2, 4, 8, 2, 4]);
  });

  it('waits briefly again after a connection that has brought an event, however short it was', async (t) => {
    const random = mock.method(Math, 'random', () => 0.5);
    t.after(() => random.mock.restore());
    const options = { minRetryDelay: 0, backoffDelay: 4, maxBackoffDelay: 20, healthyAge: Infinity };
    const handler: Parameters<typeof openServer>[0] = (_, res, attempt) =>
      attempt === 4 ? cutAfter(res, frame(1)) : unavailable(_, res, attempt);
    assert.deepEqual(await delaysOf(t, options, 5, handler), [2, 4, 8, 2, 4]);
  });

  it('waits briefly again after a stream that the server has ended in good order after a second', async (t) => {
    const { now } = performance;
    let passed = 0;
    const clock = mock.method(performance, 'now', () => now.call(performance) + passed);
    const random = mock.method(Math, 'random', () => 0.5);
    t.after(() => [clock, random].forEach(({ mock }) => void mock.restore()));
    const options = { minRetryDelay: 0, backoffDelay: 4, maxBackoffDelay: 20, healthyAge: Infinity };
    const handler =
      (end: typeof whole): Parameters<typeof openServer>[0] =>
      (_, res, attempt) => {
        if (attempt !== 4) return unavailable(_, res, attempt);
        passed += 1000;
        end(res, ':\n');
      };
    assert.deepEqual(await delaysOf(t, options, 5, handler(whole)), [2, 4, 8, 2, 4]);
    assert.deepEqual(await delaysOf(t, options, 5, handler(cutAfter)), [2, 4, 8, 10, 10]);
  });

  it('waits at least 250 ms by default, whatever the server asks for', async (t) => {
    const options = { backoffDelay: 0 };
    assert.deepEqual(await delaysOf(t, options, 1, (_, res) => whole(res, 'retry: 0\n\n')), [250]);
  });

  it('waits as long as retry asks, but at most ten minutes', async (t) => {
    const options = { backoffDelay: 0 };
    assert.deepEqual(await delaysOf(t, options, 1, (_, res) => whole(res, 'retry: 3000\n\n')), [3000]);
    assert.deepEqual(
      await delaysOf(t, options, 1, (_, res) => whole(res, 'retry: 99999999999\n\n')),
      [600_000],
    );
  });

  it('waits as long as Retry-After asks, in seconds or as a date', async (t) => {
    const options = { backoffDelay: 0 };
    const after =
      (value: string, status = 503) =>
      (_: unknown, res: Parameters<typeof whole>[0]) =>
        void res.writeHead(status, { 'retry-after': value }).end();
    for (const status of [429, 500, 503])
      assert.deepEqual(await delaysOf(t, options, 1, after('7', status)), [7000]);
    assert.deepEqual(await delaysOf(t, options, 1, after('86400')), [600_000]);
    assert.deepEqual(await delaysOf(t, options, 1, after('soon')), [250]);
    assert.deepEqual(await delaysOf(t, options, 1, after('Mon, 01 Jan 2001 00:00:00 GMT')), [250]);
    t.mock.timers.enable({ apis: ['Date'], now: Date.parse('Mon, 05 Jan 2026 00:00:00 GMT') });
    assert.deepEqual(await delaysOf(t, options, 1, after('Mon, 05 Jan 2026 00:01:30 GMT')), [90_000]);
  });
});

describe('connect, when it is redirected,', () => {
  for (const status of [301, 302, 303, 307, 308]) {
    it(`follows a ${status} within the origin, with headers and last event ID`, async (t) => {
      const { url, requests } = await started(t, (req, res) => {
        if (req.url === '/') res.writeHead(status, { location: '/there' }).end('gone');
        else whole(res, frame(1));
      });
      await readData(url, { headers: { authorization: 'secret' }, lastEventId: idOf(0) }, 1);
      assert.equal(requests[1]!.url, '/there');
      assert.equal(requests[1]!.headers.authorization, 'secret');
      assert.equal(requests[1]!.headers['last-event-id'], idOf(0));
    });
  }

  it('begins at the first address again after a cut', async (t) => {
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

  it('gives up after ten redirects', async (t) => {
    const { url, requests } = await started(t, (_, res) => res.writeHead(302, { location: '/' }).end());
    await assert.rejects(readData(url), { code: 'ERR_SSE_REDIRECT', status: 302 });
    assert.equal(requests.length, 11);
  });

  it('gives up where the location is missing or is no address', async (t) => {
    for (const headers of [{}, { location: 'http://[' }]) {
      const { url } = await started(t, (_, res) => res.writeHead(302, headers).end());
      await assert.rejects(readData(url), { code: 'ERR_SSE_REDIRECT' });
    }
  });

  it('decides about each redirect itself in Deno and Bun, whose fetch shows the address', async (t) => {
    const there = await started(t, (_, res) => whole(res, frame(4)));
    const here = await started(t, (_, res) => res.writeHead(307, { location: there.url }).end());
    for (const runtime of ['Deno', 'Bun']) {
      Object.defineProperty(globalThis, runtime, { value: {}, configurable: true });
      t.after(() => Reflect.deleteProperty(globalThis, runtime));
      await assert.rejects(readData(here.url, { lastEventId: idOf(3) }), { code: 'ERR_SSE_REDIRECT' });
      Reflect.deleteProperty(globalThis, runtime);
    }
    assert.equal(there.requests.length, 0);
  });

  it('goes to another origin only without headers, and takes ids only where they came from', async (t) => {
    const there = await started(t, (req, res) => whole(res, frame(seqOf(req.headers['last-event-id']) + 1)));
    const here = await started(t, (_, res) => res.writeHead(307, { location: there.url }).end());
    await assert.rejects(readData(here.url, { headers: { 'x-token': 'secret' } }), {
      code: 'ERR_SSE_REDIRECT',
    });
    await assert.rejects(readData(here.url, { lastEventId: idOf(3) }), { code: 'ERR_SSE_REDIRECT' });
    assert.equal(there.requests.length, 0);
    assert.deepEqual(await readData(here.url, {}, 3), ['1', '2', '3']);
    const redirectOrigins = [new URL(there.url).origin];
    const options = { headers: { 'x-token': 'secret' }, lastEventId: idOf(3), redirectOrigins };
    assert.deepEqual(await readData(here.url, options, 1), ['4']);
    assert.equal(there.requests.at(-1)!.headers['x-token'], 'secret');
  });

  it('takes no id to an origin that has sent events, but never an id', async (t) => {
    const there = await started(t, (_, res) => whole(res, 'data: x\n\n'));
    const here = await started(t, (_, res, attempt) =>
      attempt === 2 ? whole(res, frame(1)) : res.writeHead(307, { location: there.url }).end(),
    );
    await assert.rejects(readData(here.url), { code: 'ERR_SSE_REDIRECT' });
    assert.equal(there.requests.length, 1);
  });

  for (const how of ['a relative', 'an absolute'] as const) {
    it(`takes a password in the address along within its origin, by ${how} location`, async (t) => {
      const server = await started(t, (req, res) =>
        req.url === '/there'
          ? whole(res, `data: ${req.headers.authorization}\n\n`)
          : res.writeHead(307, { location: how === 'a relative' ? '/there' : `${server.url}there` }).end(),
      );
      const url = server.url.replace('//', '//user:word@');
      assert.deepEqual(await readData(url, {}, 1), ['Basic dXNlcjp3b3Jk']);
    });
  }

  it('takes no other password along, and its own to no other origin', async (t) => {
    const there = await started(t, (req, res) => whole(res, `data: ${req.headers.authorization}\n\n`));
    const here = await started(t, (req, res) => {
      const location = req.url === '/other' ? here.url.replace('//', '//user:other@') : there.url;
      res.writeHead(307, { location }).end();
    });
    const url = here.url.replace('//', '//user:word@');
    assert.deepEqual(await readData(url, {}, 1), ['undefined']);
    await assert.rejects(readData(`${url}other`), { code: 'ERR_SSE_REDIRECT' });
  });
});

describe('the request of connect', () => {
  it('is not sent with headers that cannot be sent, and not retried', async (t) => {
    const { url, requests } = await started(t, (_, res) => whole(res, frame(1)));
    const headers = async () => ({ authorization: 'Bearer a\nb' });
    const refusal = (error: Error): boolean =>
      error instanceof TypeError && /`authorization`/.test(error.message) && !/Bearer/.test(error.message);
    await assert.rejects(readData(url, { headers }), refusal);
    assert.equal(requests.length, 0);
  });

  it('is not sent when the headers function fails: the loop throws its error', async (t) => {
    const { url, requests } = await started(t, (_, res) => whole(res, frame(1)));
    await assert.rejects(readData(url, { headers: () => Promise.reject(new Error('no token')) }), /no token/);
    assert.equal(requests.length, 0);
  });

  it('gets its headers anew for each attempt', async (t) => {
    const { url, requests } = await started(t, (_, res, attempt) => {
      if (attempt < 3) res.writeHead(503).end();
      else whole(res, frame(1));
    });
    await readData(url, { headers: async ({ attempt }) => ({ Authorization: `token ${attempt}` }) }, 1);
    assert.deepEqual(
      requests.map((req) => req.headers.authorization),
      ['token 1', 'token 2', 'token 3'],
    );
  });

  it('carries an id that is not ASCII as UTF-8', async (t) => {
    const { url, requests } = await started(t, (_, res, attempt) =>
      attempt === 1 ? whole(res, 'id: é水\ndata: a\n\n') : void res.writeHead(204).end(),
    );
    await readData(url);
    const sent = requests[1]!.headers['last-event-id'] as string;
    assert.equal(Buffer.from(sent, 'latin1').toString(), 'é水');
  });

  it('is sent once by POST, and the loop ends with its response', async (t) => {
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

  it('is sent once by POST, and the loop throws when the response is cut or refused', async (t) => {
    const { url, requests } = await started(t, (_, res, attempt) => {
      if (attempt === 1) cutAfter(res, frame(1));
      else res.writeHead(503).end();
    });
    await assert.rejects(readData(url, { body: 'x' }), { code: 'ERR_SSE_NETWORK' });
    await assert.rejects(readData(url, { body: 'x' }), { code: 'ERR_SSE_STATUS', status: 503 });
    assert.equal(requests.length, 2);
  });

  it('is sent once by POST, and the loop throws when the response ends before isLast', async (t) => {
    const { url } = await started(t, (_, res, attempt) =>
      whole(res, attempt === 1 ? frame(1) : `${frame(1)}data: [DONE]\n\ndata: more\n\n`),
    );
    const isLast = (event: ReceivedEvent): boolean => event.data === '[DONE]';
    await assert.rejects(readData(url, { body: 'x', isLast }), { code: 'ERR_SSE_EOF' });
    assert.deepEqual(await readData(url, { body: 'x', isLast }), ['1', '[DONE]']);
  });

  it('is sent again by POST when shouldRetry says so', async (t) => {
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

describe('connect, reading a hub,', () => {
  const ready = (id: string): string => encode(readyEvent(id, ['a'], { heartbeat: null }));

  it('resumes from the position of sluice:ready when it is cut before the first event', async (t) => {
    const { url, requests } = await started(t, (_, res, attempt) => {
      if (attempt === 1) cutAfter(res, ready(idOf(41)));
      else res.writeHead(204).end();
    });
    assert.deepEqual(await readData(url), []);
    assert.equal(requests[1]!.headers['last-event-id'], idOf(41));
  });

  it('resumes from an id that arrived without an event', async (t) => {
    const { url, requests } = await started(t, (_, res, attempt) => {
      if (attempt === 1) whole(res, `${frame(1)}id: ${idOf(9)}\n\n`);
      else res.writeHead(204).end();
    });
    await readData(url);
    assert.equal(requests[1]!.headers['last-event-id'], idOf(9));
  });

  it('resumes from the position of a heartbeat, and yields nothing for it', async (t) => {
    const { url, requests } = await started(t, (_, res, attempt) => {
      if (attempt === 1) whole(res, ready(idOf(0)) + frame(1) + encode(positionEvent(idOf(9))));
      else res.writeHead(204).end();
    });
    assert.deepEqual(await readData(url), ['1']);
    assert.equal(requests[1]!.headers['last-event-id'], idOf(9));
  });

  it('drops repetitions within an epoch, and nothing else', async (t) => {
    const { url } = await started(t, (_, res, attempt) => {
      if (attempt === 1) whole(res, ready(idOf(0)) + frame(1) + frame(2));
      else if (attempt === 2) whole(res, `${ready(idOf(1)) + frame(2)}data: no id\n\n${frame(2)}${frame(3)}`);
      else if (attempt === 3)
        whole(
          res,
          `${ready(idOf(0, NEXT_EPOCH))}id: ${idOf(1, NEXT_EPOCH)}\ndata: new life\n\nid: x\ndata: other\n\n`,
        );
      else res.writeHead(204).end();
    });
    assert.deepEqual(await readData(url), ['1', '2', 'no id', '3', 'new life', 'other']);
  });

  it('drops nothing where the server sends no sluice:ready', async (t) => {
    const { url } = await started(t, (_, res, attempt) => {
      if (attempt === 1) whole(res, frame(2) + frame(1) + frame(1));
      else res.writeHead(204).end();
    });
    assert.deepEqual(await readData(url), ['2', '1', '1']);
  });

  const lost: Gap = { reason: 'evicted', from: idOf(1), to: idOf(5), topics: ['a'] };
  const gap = encode(gapEvent(idOf(5), lost));

  it('reports the last lost event as the end of a gap, where delivery continues before it', async (t) => {
    const several = { ...lost, to: idOf(8), topics: ['a', 'b'] };
    const { url } = await started(t, (_, res, attempt) =>
      attempt === 1
        ? whole(res, ready(idOf(1)) + encode(gapEvent(idOf(5), several)) + frame(6))
        : void res.writeHead(204).end(),
    );
    const gaps: Gap[] = [];
    assert.deepEqual(await readData(url, { onGap: (gap) => void gaps.push(gap) }), ['6']);
    assert.deepEqual(gaps, [several]);
  });

  it('awaits onGap before any newer event, and resumes after the gap', async (t) => {
    const { url, requests } = await started(t, (_, res, attempt) => {
      if (attempt === 1) whole(res, ready(idOf(1)) + gap + frame(6));
      else res.writeHead(204).end();
    });
    const order: unknown[] = [];
    const onGap = async (gap: Gap): Promise<void> => {
      order.push(gap);
      await new Promise((resolve) => setTimeout(resolve, 20));
      order.push('handled');
    };
    for await (const event of connect(url, { ...atOnce, onGap })) order.push(event.data);
    assert.deepEqual(order, [lost, 'handled', '6']);
    assert.equal(requests[1]!.headers['last-event-id'], idOf(6));
  });

  it('takes nothing after a gap for a repetition, also where the gap leads back', async (t) => {
    const back = encode(gapEvent(idOf(2), { reason: 'ahead', from: idOf(9), to: idOf(2), topics: [] }));
    const { url } = await started(t, (_, res, attempt) => {
      if (attempt === 1) whole(res, ready(idOf(8)) + frame(9));
      else if (attempt === 2) whole(res, ready(idOf(9)) + back + frame(3));
      else res.writeHead(204).end();
    });
    assert.deepEqual(await readData(url, { onGap: () => {} }), ['9', '3']);
  });

  it('yields the gap as an event without onGap', async (t) => {
    const { url } = await started(t, (_, res, attempt) =>
      attempt === 1 ? whole(res, ready(idOf(1)) + gap) : void res.writeHead(204).end(),
    );
    const events: string[] = [];
    for await (const { event } of connect(url, atOnce)) events.push(event);
    assert.deepEqual(events, ['sluice:gap']);
  });

  it('throws the error of onGap, and keeps the position before the gap', async (t) => {
    const { url } = await started(t, (_, res) => open(res, ready(idOf(1)) + gap + frame(6)));
    const connection = connect(url, {
      ...atOnce,
      onGap: () => {
        throw new Error('cannot reload');
      },
    });
    await assert.rejects(async () => {
      for await (const _ of connection);
    }, /cannot reload/);
    assert.equal(connection.lastEventId, idOf(1));
    assert.equal(connection.state, 'closed');
  });

  it('calls onGap for a gap whose data is not JSON', async (t) => {
    const { url } = await started(t, (_, res, attempt) =>
      attempt === 1
        ? whole(res, `event: sluice:gap\nid: ${idOf(5)}\ndata: {"rea\n\n`)
        : void res.writeHead(204).end(),
    );
    const gaps: Gap[] = [];
    await readData(url, { onGap: (gap) => void gaps.push(gap) });
    assert.deepEqual(gaps, [{ reason: 'unknown', from: null, to: idOf(5), topics: [] }]);
  });

  it('ends at sluice:end without another request', async (t) => {
    const { url, requests } = await started(t, (_, res) =>
      whole(res, `${frame(1)}event: sluice:end\ndata:\n\n`),
    );
    assert.deepEqual(await readData(url), ['1']);
    assert.equal(requests.length, 1);
  });

  it('yields control events with controlEvents: true', async (t) => {
    const { url } = await started(t, (_, res) =>
      whole(res, `${ready(idOf(1))}${gap}event: sluice:end\ndata:\n\n`),
    );
    const events: string[] = [];
    for await (const { event } of connect(url, { controlEvents: true, onGap: () => {} })) events.push(event);
    assert.deepEqual(events, ['sluice:ready', 'sluice:gap', 'sluice:end']);
  });
});

describe('the end of connect', () => {
  it('closes the socket when the loop is left', async (t) => {
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

  it('throws the reason of the signal in every state', async (t) => {
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
        backoffDelay: 60_000,
        minRetryDelay: 60_000,
        onState,
      });
      await assert.rejects(reading, reason);
      assert.equal(getEventListeners(controller.signal, 'abort').length, 0);
    }
  });

  it('throws the reason of the signal while the headers function is pending', async (t) => {
    const { url, requests } = await started(t, (_, res) => open(res));
    const controller = new AbortController();
    const headers = (): Promise<never> => {
      setImmediate(() => controller.abort(new Error('enough')));
      return new Promise(() => {});
    };
    await assert.rejects(readData(url, { signal: controller.signal, headers }), /enough/);
    assert.equal(requests.length, 0);
  });

  it('comes before the first request where the signal is already aborted', async () => {
    const signal = AbortSignal.abort(new Error('no'));
    await assert.rejects(readData('http://127.0.0.1:1/', { signal }), /no/);
  });

  it('is over, and says so once, when it is left before its first event is asked for', async () => {
    for (const leave of ['close', 'return'] as const) {
      const states: string[] = [];
      const connection = connect('http://127.0.0.1:1/', { onState: ({ state }) => states.push(state) });
      const events = connection[Symbol.asyncIterator]();
      if (leave === 'close') connection.close();
      else await events.return?.();
      assert.equal(connection.state, 'closed');
      assert.equal((await events.next()).done, true);
      assert.deepEqual(states, ['closed']);
    }
  });

  it('ends the loop when close() is called while it waits for an event', async (t) => {
    const { url } = await started(t, (_, res) => open(res));
    const connection = connect(url, {
      onState: ({ state }) => state === 'open' && setImmediate(() => connection.close()),
    });
    for await (const _ of connection) assert.fail('an event');
    assert.equal(connection.state, 'closed');
  });

  it('drops the events that had arrived when close() is called while one is processed', async (t) => {
    const { url } = await started(t, (_, res) => open(res, frame(1) + frame(2)));
    const data: string[] = [];
    const connection = connect(url);
    for await (const event of connection) {
      data.push(event.data);
      connection.close();
    }
    assert.deepEqual(data, ['1']);
  });

  it('cannot be iterated twice', async () => {
    const connection = connect('http://127.0.0.1:1/');
    connection.close();
    for await (const _ of connection) assert.fail('an event');
    assert.throws(() => connection[Symbol.asyncIterator](), TypeError);
  });
});

describe('the position of connect', () => {
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

  it('is that of the last event processed, not of the last one received', async (t) => {
    const { url } = await started(t, (_, res) => open(res, frame(1) + frame(2) + frame(3)));
    const storage = memory();
    const connection = connect(url, { storage });
    for await (const event of connection) {
      assert.equal(connection.lastEventId, event.data === '1' ? '' : idOf(Number(event.data) - 1));
      if (event.data === '3') break;
    }
    assert.equal(storage.saved.at(-1), idOf(2));
  });

  it('includes the current event once that is committed', async (t) => {
    const { url } = await started(t, (_, res) => open(res, frame(1)));
    const storage = memory();
    const connection = connect(url, { storage, storageKey: 'position' });
    for await (const _ of connection) {
      await connection.commit();
      break;
    }
    assert.equal(storage.getItem('position'), idOf(1));
    assert.equal(connection.lastEventId, idOf(1));
  });

  it('stays in force after a reconnect, until another id arrives', async (t) => {
    const { url, requests } = await started(t, (_, res, attempt) => {
      if (attempt === 1) whole(res, `id: ${idOf(1)}\ndata: 1\n\n`);
      else if (attempt === 2) whole(res, 'data: without an id\n\n');
      else res.writeHead(204).end();
    });
    const ids: string[] = [];
    for await (const { lastEventId } of connect(url, atOnce)) ids.push(lastEventId);
    assert.deepEqual(ids, [idOf(1), idOf(1)]);
    assert.equal(requests[2]!.headers['last-event-id'], idOf(1));
  });

  it('is taken from storage rather than from lastEventId', async (t) => {
    const { url, requests } = await started(t, (_, res) => open(res, frame(9)));
    await readData(
      url,
      { storage: memory({ [`sluice.position:${url}`]: idOf(8) }), lastEventId: idOf(1) },
      1,
    );
    assert.equal(requests[0]!.headers['last-event-id'], idOf(8));
  });

  it('ends the loop with the error of a storage that cannot write', async (t) => {
    const { url } = await started(t, (_, res) => open(res, frame(1) + frame(2) + frame(3)));
    const storage: PositionStorage = {
      getItem: () => null,
      setItem: () => Promise.reject(new Error('disk full')),
    };
    await assert.rejects(readData(url, { storage }), /disk full/);
  });

  it('is stored in a file that is replaced as a whole', async (t) => {
    const folder = await mkdtemp(join(tmpdir(), 'sluice-'));
    t.after(() => rm(folder, { recursive: true }));
    const path = join(folder, 'positions.json');
    const { url, requests } = await started(t, (req, res) => {
      const from = seqOf(req.headers['last-event-id']);
      open(res, frame(from + 1) + frame(from + 2));
    });
    await readData(url, { storage: fileStorage(path), storageKey: 'a' }, 2);
    await readData(url, { storage: fileStorage(path), storageKey: '__proto__' }, 2);
    assert.deepEqual(
      JSON.parse(await readFile(path, 'utf8')),
      JSON.parse(`{"a":"${idOf(1)}","__proto__":"${idOf(1)}"}`),
    );
    await readData(url, { storage: fileStorage(path), storageKey: 'a' }, 2);
    assert.equal(requests.at(-1)!.headers['last-event-id'], idOf(1));
    await writeFile(`${path}.17.tmp`, 'left by a killed process');
    await writeFile(`${path}.other.tmp`, 'somebody else’s');
    await readData(url, { storage: fileStorage(path), storageKey: 'a' }, 1);
    assert.deepEqual((await readdir(folder)).sort(), ['positions.json', 'positions.json.other.tmp']);
    await writeFile(path, 'not JSON');
    await assert.rejects(readData(url, { storage: fileStorage(path) }), { code: 'ERR_SSE_POSITION_FILE' });
  });

  it('skips no event when the process is killed at any moment', {
    timeout: 600_000,
  }, async (t) => {
    const kills = often(12, 200);
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
      const child = spawn(process.execPath, ['--import', 'tsx', script, url, join(folder, 'position.json')], {
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
    const stored = Object.values(
      JSON.parse(await readFile(join(folder, 'position.json'), 'utf8')),
    )[0] as string;
    assert.ok(seqOf(stored) <= latest, `${stored} was stored, ${latest} was processed`);
    assert.ok(seqOf(stored) > 0);
  });
});

describe('an event of connect', () => {
  type Events = { tick: { price: number }; note: string; 'sluice:gap': Gap };
  const body = 'id: 3\nevent: tick\ndata: {"price":7.25}\n\nevent: note\ndata: "short"\n\n';

  it('has its data as JSON, typed by its event', async (t) => {
    const { url } = await started(t, (_, res) => whole(res, `${body}event: sluice:end\ndata: {}\n\n`));
    const seen: unknown[] = [];
    for await (const event of connect<Events>(url, atOnce)) {
      const data: string = event.data;
      if (event.event === 'tick') seen.push(data, event.json.price.toFixed(3));
      else if (event.event === 'note') seen.push(data, event.json.toUpperCase());
      else seen.push(event.json.reason);
      // @ts-expect-error: there is no event of this name.
      if (event.event === 'tock') assert.fail();
      // @ts-expect-error: a note has no price.
      if (event.event === 'note') assert.equal(event.json.price, undefined);
    }
    assert.deepEqual(seen, ['{"price":7.25}', '7.250', '"short"', 'SHORT']);
  });

  it('keeps its types when the loop takes it apart', async (t) => {
    const { url } = await started(t, (_, res) => whole(res, `${body}event: sluice:end\ndata: {}\n\n`));
    const prices: number[] = [];
    for await (const { event, json } of connect<Events>(url, atOnce)) {
      if (event === 'tick') prices.push(json.price);
    }
    assert.deepEqual(prices, [7.25]);
  });

  it('is of unknown JSON without a map, and of the events of the map in isLast', async (t) => {
    const { url } = await started(t, (_, res) => open(res, body));
    for await (const { event, json } of connect(url)) {
      const type: string = event;
      // @ts-expect-error: nothing is known of it.
      assert.equal(json.price, 7.25);
      assert.equal(type, 'tick');
      break;
    }
    const isLast: ConnectOptions<Events>['isLast'] = (event) =>
      event.event === 'tick' && event.json.price > 7;
    const seen: string[] = [];
    for await (const event of connect<Events>(url, { isLast })) seen.push(event.event);
    assert.deepEqual(seen, ['tick']);
  });

  it('parses its data once, and only when json is read', async (t) => {
    const { url } = await started(t, (_, res) => open(res, 'event: tick\ndata: {"price":7}\n\ndata: {\n\n'));
    const events: ReceivedEvent[] = [];
    for await (const event of connect(url)) if (events.push(event) === 2) break;
    assert.equal(events[0]!.json, events[0]!.json);
    assert.equal(events[1]!.data, '{');
  });

  it('throws a SyntaxError with its type and id where its data is not JSON', async (t) => {
    const { url } = await started(t, (_, res) => open(res, `id: ${idOf(3)}\nevent: tick\ndata: {\n\n`));
    await assert.rejects(
      async () => {
        for await (const { json } of connect(url)) assert.fail(String(json));
      },
      { name: 'SyntaxError', code: 'ERR_SSE_BAD_JSON', message: /"tick".*"1795408776829004-3"/ },
    );
  });
});

describe('the options of connect', () => {
  for (const [options, message] of [
    [{ method: 'G T' }, /^TypeError: `method` must be a method such as POST, got G T$/],
    [{ headers: { 'a b': 'c' } }, /^TypeError: `headers` must have valid names, got "a b"$/],
    [{ headers: { a: 'b\r\nc: d' } }, /^TypeError: `headers` must have values .* `a`/],
    [{ headers: { a: '水' } }, /^TypeError: `headers` must have values/],
    [{ headers: { a: undefined } }, /^TypeError: `headers` must have values .* `a`/],
    [{ headers: new Headers({ a: 'b' }) }, /^TypeError: `headers` must be an object .* Object.fromEntries/],
    [{ headers: null }, /^TypeError: `headers` must be an object of names and values/],
    [{ body: { a: 1 } }, /^TypeError: `body` must be a string or a Uint8Array, got object$/],
    [{ body: new Uint16Array(1) }, /^TypeError: `body` must be a string or a Uint8Array, got object$/],
    [{ transport: 'http' }, /^TypeError: `transport` must be a function, got string$/],
    [{ shouldRetry: true }, /^TypeError: `shouldRetry` must be a function, got boolean$/],
    [{ onGap: 5 }, /^TypeError: `onGap` must be a function, got number$/],
    [{ onError: null }, /^TypeError: `onError` must be a function, got null$/],
    [{ onOpen: {} }, /^TypeError: `onOpen` must be a function, got object$/],
    [{ onState: 'x' }, /^TypeError: `onState` must be a function, got string$/],
    [{ onComment: 1 }, /^TypeError: `onComment` must be a function, got number$/],
    [{ isLast: '[DONE]' }, /^TypeError: `isLast` must be a function, got string$/],
    [
      { storage: { getItem() {} } },
      /^TypeError: `storage` must have the methods getItem and setItem, got object$/,
    ],
    [{ signal: new AbortController() }, /^TypeError: `signal` must be an AbortSignal, got object$/],
    [
      { redirectOrigins: 'https://a.example' },
      /^TypeError: `redirectOrigins` must list origins .*, got "https/,
    ],
    [{ redirectOrigins: ['https://a.example/'] }, /^TypeError: `redirectOrigins` must list origins/],
    [{ redirectOrigins: ['null'] }, /^TypeError: `redirectOrigins` must list origins/],
    [{ redirectOrigins: [true] }, /^TypeError: `redirectOrigins` must list origins .*, got \[true\]$/],
    [{ lastEventId: '7\n8' }, /^TypeError: `lastEventId` must .* no control characters .*, got "7\\n8"$/],
    [{ lastEventId: '7'.repeat(1025) }, /^TypeError: `lastEventId` must have at most 1024 bytes/],
    [{ lastEventId: '水'.repeat(342) }, /^TypeError: `lastEventId` must have at most 1024 bytes/],
    [{ lastEventIdParameter: '' }, /^TypeError: `lastEventIdParameter` must be a name, got ""$/],
    [{ method: 'connect' }, /^TypeError: `method` must be a method such as POST, got connect$/],
    [{ connectTimeout: -1 }, /^RangeError: `connectTimeout` must be .* got -1$/],
    [{ silenceTimeout: Number.NaN }, /^RangeError: `silenceTimeout`/],
    [{ backoffDelay: Infinity }, /^RangeError: `backoffDelay`/],
    [{ maxBackoffDelay: 2 ** 31 }, /^RangeError: `maxBackoffDelay`/],
    [{ minRetryDelay: '1' as unknown as number }, /^RangeError: `minRetryDelay`/],
    [{ maxRetryDelay: -0.5 }, /^RangeError: `maxRetryDelay`/],
    [{ maxLineBytes: 0 }, /^RangeError: `maxLineBytes`/],
  ] as [object, RegExp][]) {
    it(`names the option of ${JSON.stringify(options)} at once`, () => {
      assert.throws(() => connect('http://127.0.0.1/', options), message);
    });
  }

  it('refuses an address that is not http: or https:', () => {
    assert.throws(() => connect('ftp://example.org/'), /^TypeError: `url` must be http/);
    assert.throws(() => connect('/relative'), /^TypeError: `url` must be http: or https:, got "\/relative"$/);
    assert.throws(() => connect(undefined as unknown as string), /^TypeError: `url` must be http/);
  });
});
