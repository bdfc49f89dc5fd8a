// Shared bytes: straight to the socket where that equals `res.write`, and only there; compressed once for
// all.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import {
  createServer,
  request as httpRequest,
  type IncomingMessage,
  type RequestListener,
  type RequestOptions,
  type ServerResponse,
} from 'node:http';
import { createServer as createHttp2Server, type Http2ServerResponse } from 'node:http2';
import { createServer as createHttpsServer } from 'node:https';
import { PassThrough } from 'node:stream';
import { describe, it, type TestContext } from 'node:test';
import { connect as connectTls } from 'node:tls';
import { constants, createGunzip, gunzipSync } from 'node:zlib';
import { Hub } from '../lib/hub.ts';
import { type EventStream, openStream, type SharedChunk, type StreamOptions } from '../lib/stream.ts';
import { cert, key } from './fixtures/tls.ts';
import { fakeTime } from './helpers/clock.ts';
import { session } from './helpers/http2.ts';
import { dial, request } from './helpers/raw.ts';
import { listen } from './helpers/server.ts';
import { exchanging, fetchFrom, streaming } from './helpers/streaming.ts';

/** A request after which the server closes the connection, so that the answer can be read to its end. */
const LAST = request('GET / HTTP/1.1', 'Connection: close');

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

const PIECES = [
  'retry: 2000\n\n',
  'data: first\n\n',
  ':\n',
  '',
  `data: ${'long '.repeat(20_000)}\n\n`,
  'data: Ünïcödé 事件\n\n',
  'data: last\n\n',
];
const TEXT = PIECES.join('');

/** Bytes as a hub writes them to many streams. */
const shared = (text: string): SharedChunk => ({ bytes: Buffer.from(text), made: undefined });

/** Writes all pieces, one each turn, and returns the way of each. */
async function writeAll(stream: EventStream): Promise<string[]> {
  const ways: string[] = [];
  for (const piece of PIECES) {
    stream.writeShared(shared(piece));
    ways.push(stream.via ?? 'none');
    await turn(); // `res.write` corks the socket until then
  }
  stream.end();
  return ways;
}

const DIRECT = ['response', 'socket', 'socket', 'response', 'response', 'socket', 'socket'];
const PLAIN = PIECES.map(() => 'response');

/** All bytes of a connection, decrypted, without the Date header. */
async function bytesOf(t: TestContext, handler: RequestListener, wire: Wire): Promise<string> {
  const isTls = wire === 'HTTPS';
  const port = await listen(t, isTls ? createHttpsServer({ key, cert }, handler) : createServer(handler));
  const client = isTls
    ? connectTls({ port, host: '127.0.0.1', rejectUnauthorized: false })
    : await dial(t, port);
  const version = isTls ? 'HTTP/1.1' : wire;
  client.write(request(`GET / ${version}`, 'Connection: close'));
  const bytes = await bufferOf(client);
  return bytes.toString('latin1').replace(/^Date:.*\r\n/m, '');
}

type Wire = 'HTTP/1.1' | 'HTTP/1.0' | 'HTTPS';

/** The bytes of the same events by way of the fast path, and through `res.write` alone. */
async function bothWays(
  t: TestContext,
  wire: Wire,
): Promise<{ ways: string[]; ours: string; theirs: string }> {
  let ways: string[] = [];
  const ours = await bytesOf(
    t,
    async (req, res) => {
      ways = await writeAll(openStream(req, res));
    },
    wire,
  );
  const theirs = await bytesOf(
    t,
    (req, res) => {
      const stream = openStream(req, res);
      res.write = res.write.bind(res);
      writeAll(stream);
    },
    wire,
  );
  return { ways, ours, theirs };
}

describe('the way of shared bytes to a client', () => {
  for (const wire of ['HTTP/1.1', 'HTTPS'] as const)
    it(`is the socket on ${wire}, with the same bytes that res.write sends`, async (t) => {
      const { ways, ours, theirs } = await bothWays(t, wire);
      assert.deepEqual(ways, DIRECT);
      assert.equal(ours, theirs);
      assert.match(ours, /\r\n0\r\n\r\n$/);
    });

  it('is the response on HTTP/1.0, where there are no chunks', async (t) => {
    const { ways, ours, theirs } = await bothWays(t, 'HTTP/1.0');
    assert.deepEqual(ways, PLAIN);
    assert.equal(ours, theirs);
    assert.equal(Buffer.from(ours.slice(ours.indexOf('\r\n\r\n') + 4), 'latin1').toString(), TEXT);
  });

  it('is the response on HTTP/2', async (t) => {
    let ways: string[] = [];
    const server = createHttp2Server(async (req, res: Http2ServerResponse) => {
      ways = await writeAll(openStream(req, res as never));
    });
    await listen(t, server);
    assert.equal(await textOf(session(t, server).request({ ':path': '/' })), TEXT);
    assert.deepEqual(ways, PLAIN);
  });

  it('is the response as soon as its write is replaced, so that the replacement sees every byte', async (t) => {
    const { req, res, client } = await exchanging(t, LAST);
    const seen: Buffer[] = [];
    const stream = openStream(req, res);
    stream.writeShared(shared('data: 1\n\n'));
    await turn();
    stream.writeShared(shared('data: 2\n\n'));
    assert.equal(stream.via, 'socket');
    const write = res.write;
    res.write = ((chunk: Buffer) => {
      seen.push(chunk);
      return write.call(res, chunk, 'utf8');
    }) as ServerResponse['write'];
    stream.writeShared(shared('data: 3\n\n'));
    assert.equal(stream.via, 'response');
    assert.equal(Buffer.concat(seen).toString(), 'data: 3\n\n');
    stream.end();
    const text = await textOf(client);
    assert.deepEqual(text.match(/data: \d/g), ['data: 1', 'data: 2', 'data: 3']);
  });

  it('is the response where its end or the write of its socket was replaced', async (t) => {
    for (const replace of ['end', 'socket'] as const) {
      const { req, res } = await exchanging(t, LAST);
      const stream = openStream(req, res);
      stream.writeShared(shared('data: 1\n\n'));
      await turn();
      if (replace === 'end') res.end = res.end.bind(res) as ServerResponse['end'];
      else req.socket.write = req.socket.write.bind(req.socket) as typeof req.socket.write;
      stream.writeShared(shared('data: 2\n\n'));
      assert.equal(stream.via, 'response', replace);
    }
  });

  it('is the response for events of one client, which Node gathers to one write each turn', async (t) => {
    const { stream, req, client } = await streaming(t, {}, LAST);
    stream.open();
    await turn();
    const writes: unknown[] = [];
    const { _write: write, _writev: writev } = req.socket;
    Object.assign(req.socket, {
      _write: (...args: Parameters<typeof write>) => writes.push(write.apply(req.socket, args)),
      _writev: (...args: Parameters<NonNullable<typeof writev>>) =>
        writes.push(writev?.apply(req.socket, args)),
    });
    for (let i = 0; i < 20; i++) {
      stream.send({ data: `token ${i}` });
      assert.equal(stream.via, 'response');
    }
    await turn();
    assert.equal(writes.length, 1);
    stream.end();
    assert.equal((await textOf(client)).match(/data: token/g)?.length, 20);
  });

  it('is the response for an object that is not a ServerResponse', async () => {
    const res = Object.assign(new PassThrough(), {
      headersSent: false,
      statusCode: 0,
      hasHeader: () => false,
      getHeader: () => undefined,
      setHeader: () => {},
      removeHeader: () => {},
    });
    const stream = openStream({}, res);
    stream.writeShared(shared('data: 1\n\n'));
    stream.writeShared(shared('data: 2\n\n'));
    assert.equal(stream.via, 'response');
    stream.end();
    assert.equal(await textOf(res), 'data: 1\n\ndata: 2\n\n');
  });

  it('is the socket for a response whose prototype a framework has extended', async (t) => {
    const { req, res } = await exchanging(t, LAST);
    Object.setPrototypeOf(res, Object.create(Object.getPrototypeOf(res), { json: { value: () => {} } }));
    const stream = openStream(req, res);
    stream.writeShared(shared('data: 1\n\n'));
    await turn();
    stream.writeShared(shared('data: 2\n\n'));
    assert.equal(stream.via, 'socket');
  });

  it('is the response while the response is corked', async (t) => {
    const { req, res, client } = await exchanging(t, LAST);
    const stream = openStream(req, res);
    stream.writeShared(shared('data: 1\n\n'));
    await turn();
    res.cork();
    stream.writeShared(shared('data: 2\n\n'));
    assert.equal(stream.via, 'response');
    res.uncork();
    await turn();
    stream.writeShared(shared('data: 3\n\n'));
    assert.equal(stream.via, 'socket');
    stream.end();
    assert.deepEqual((await textOf(client)).match(/data: \d/g), ['data: 1', 'data: 2', 'data: 3']);
  });

  it('is the response while an earlier response on the connection is unfinished', async (t) => {
    const responses: ServerResponse[] = [];
    const server = createServer((_, res) => responses.push(res));
    const client = await dial(t, await listen(t, server));
    client.write(request() + LAST);
    while (responses.length < 2) await turn();
    const [first, second] = responses as [ServerResponse, ServerResponse];
    const stream = openStream(second.req, second);
    stream.writeShared(shared('data: 1\n\n'));
    stream.writeShared(shared('data: 2\n\n'));
    assert.equal(stream.via, 'response');
    first.end('first');
    await turn();
    stream.writeShared(shared('data: 3\n\n'));
    stream.end();
    const text = await textOf(client);
    assert.deepEqual(text.match(/first|data: \d/g), ['first', 'data: 1', 'data: 2', 'data: 3']);
  });

  it('keeps the order with what others write to the response', async (t) => {
    const { req, res, client } = await exchanging(t, LAST);
    const stream = openStream(req, res);
    for (let i = 0; i < 12; i++) {
      if (i % 3 === 0) await turn();
      if (i % 2 === 0) stream.writeShared(shared(`data: ${i}\n\n`));
      else res.write(`data: ${i}\n\n`);
    }
    stream.end();
    const places = [...(await textOf(client)).matchAll(/data: (\d+)/g)].map(([, place]) => Number(place));
    assert.deepEqual(places, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
  });

  it('never sends events before a head that other code has written but not flushed', async (t) => {
    const { req, res, client } = await exchanging(t, LAST);
    const stream = openStream(req, res);
    res.writeHead(200, { 'Content-Type': 'text/event-stream' });
    stream.writeShared(shared('data: 1\n\n'));
    stream.writeShared(shared('data: 2\n\n'));
    stream.end();
    const text = await textOf(client);
    const places = ['HTTP/1.1 200 OK', '\r\n\r\n', 'data: 1', 'data: 2'].map((part) => text.indexOf(part));
    assert.deepEqual(
      places,
      places.toSorted((a, b) => a - b),
    );
    assert.equal(places[0], 0);
  });

  for (const way of ['socket', 'response'] as const)
    it(`emits one drain after a refusal by the ${way}, and leaves no listener`, async (t) => {
      const { stream, req, res, client } = await streaming(t);
      stream.writeShared(shared('data: 1\n\n'));
      await turn();
      const before = [req.socket.listenerCount('drain'), res.listenerCount('drain')];
      const size = way === 'socket' ? 16_000 : 16 * 1024 * 1024;
      while (stream.writeShared(shared('.'.repeat(size))));
      assert.equal(stream.via, way);
      let drains = 0;
      stream.on('drain', () => drains++);
      client.resume();
      await stream.ready();
      await turn();
      assert.equal(drains, 1);
      assert.deepEqual([req.socket.listenerCount('drain'), res.listenerCount('drain')], before);
      assert.equal(stream.writeShared(shared('data: 2\n\n')), true);
    });

  it('is `res.write` for the first client of many bytes, and the socket for the next ones', async (t) => {
    const text = `data: ${'x'.repeat(20_000)}\n\n`;
    const many = shared(text);
    const ways: unknown[] = [];
    for (let client = 1; client <= 3; client++) {
      const { stream, client: socket } = await streaming(t);
      stream.writeShared(shared('data: 1\n\n'));
      await turn();
      stream.writeShared(many);
      ways.push(stream.via);
      stream.end();
      let received = '';
      for await (const bytes of socket) received += bytes;
      assert.ok(received.endsWith(`\r\n${(text.length).toString(16)}\r\n${text}\r\n0\r\n\r\n`));
    }
    assert.deepEqual(ways, ['response', 'socket', 'socket']);
  });

  for (const gzip of [false, true])
    it(`takes the same chunk to all clients of a hub${gzip ? ', compressed' : ''}`, async (t) => {
      const server = createServer((req, res) => void hub.subscribe('a', openStream(req, res, { gzip })));
      const hub = new Hub();
      const port = await listen(t, server);
      const written = new Set<unknown>();
      server.on('connection', (socket) => {
        const write = socket._write;
        socket._write = (chunk, ...rest) => {
          written.add(chunk);
          write.call(socket, chunk, ...rest);
        };
      });
      const clients = await Promise.all(Array.from({ length: 10 }, () => dial(t, port)));
      for (const client of clients) client.write(request('GET / HTTP/1.1', 'Accept-Encoding: gzip'));
      while (hub.size < 10) await turn();
      await turn();
      await turn();
      written.clear();
      hub.publish('a', { data: 'for all' });
      await turn();
      await turn();
      assert.equal(written.size, 1);
    });
});

describe('stream.writeShared', () => {
  /** The same act on two streams: one that writes its own bytes, and one that writes shared bytes. */
  async function bothForms(
    t: TestContext,
    options: StreamOptions,
    act: (stream: EventStream, write: (text: string) => boolean) => unknown,
  ): Promise<unknown[]> {
    const results = [];
    for (const isShared of [false, true]) {
      const { stream } = await streaming(t, options);
      const write = (text: string) =>
        isShared ? stream.writeShared(shared(text)) : stream.write(Buffer.from(text));
      write('data: the head goes with this\n\n');
      await turn();
      results.push(await act(stream, write));
    }
    return results;
  }

  it('counts the same bytes as write', async (t) => {
    const counts = await bothForms(t, {}, (stream, write) => {
      for (const piece of PIECES) write(piece);
      return stream.bytesWritten;
    });
    assert.equal(counts[0], Buffer.byteLength(`data: the head goes with this\n\n${TEXT}`));
    assert.equal(counts[1], counts[0]);
  });

  it('is bounded by maxBufferedBytes', async (t) => {
    const bulk = '.'.repeat(16 * 1024 * 1024);
    const outcomes = await bothForms(t, { maxBufferedBytes: 1024 }, (stream, write) => {
      assert.equal(write(bulk), false);
      assert.equal(stream.closed, false, 'one chunk of any size is accepted');
      assert.equal(write('data: x\n\n'), false);
      return stream.reason;
    });
    assert.deepEqual(outcomes, ['slow-consumer', 'slow-consumer']);
  });

  it('counts as activity, unless the bytes are a comment', async (t) => {
    const time = fakeTime(t);
    for (const [piece, isClosed] of [
      ['data: x\n\n', false],
      [':\n', true],
      [':\nid: 1\ndata: a position\n\n', true],
    ] as const) {
      const outcomes = await bothForms(t, { idleTimeout: 8000 }, (stream, write) => {
        for (let i = 0; i < 3; i++) {
          time.advance(6000);
          write(piece);
        }
        return stream.closed;
      });
      assert.deepEqual(outcomes, [isClosed, isClosed]);
    }
  });

  it('does nothing after the end', async (t) => {
    const { stream } = await streaming(t);
    stream.end();
    assert.equal(stream.writeShared(shared('data: x\n\n')), false);
    assert.equal(stream.bytesWritten, 0);
  });

  it('refuses anything but bytes', async (t) => {
    const { stream } = await streaming(t);
    const chunk = { bytes: 'text' as never, made: undefined };
    assert.throws(() => stream.writeShared(chunk), { name: 'TypeError', message: /^`chunk` must be bytes/ });
  });

  it('replaces what another copy of the module has made', async (t) => {
    for (const gzip of [false, true]) {
      const { stream, answer } = await compressing(t, gzip);
      const chunk = {
        bytes: Buffer.from('data: shared\n\n'),
        made: { chunk: 'theirs', compressed: 'theirs' },
      };
      stream.writeShared(chunk);
      await turn();
      stream.writeShared(chunk);
      assert.equal(stream.via, 'socket');
      stream.end();
      const bytes = await bufferOf(await answer);
      assert.equal((gzip ? gunzipSync(bytes) : bytes).toString(), 'data: shared\n\n'.repeat(2));
    }
  });
});

describe('a compressed stream', () => {
  const gzip = { headers: { 'Accept-Encoding': 'gzip, br' } };

  it('ends once, whatever is sent or ended afterwards', async (t) => {
    const errors: unknown[] = [];
    const port = await listen(
      t,
      createServer((req, res) => {
        res.on('error', (error) => errors.push(error));
        const stream = openStream(req, res, { gzip: true });
        stream.send({ data: 'x' });
        for (let n = 0; n < 2; n++) {
          stream.end();
          stream.queueText('data: late\n\n');
          stream.send({ data: 'late' });
        }
      }),
    );
    const response = await fetch(`http://127.0.0.1:${port}`, gzip);
    assert.equal(await response.text(), 'data: x\n\n');
    assert.equal(response.headers.get('content-encoding'), 'gzip');
    assert.deepEqual(errors, []);
  });

  it('needs a client that accepts it and the option `gzip`', async (t) => {
    const handler: RequestListener = (req, res) => openStream(req, res, { gzip: req.url === '/on' }).end();
    const port = await listen(t, createServer(handler));
    const headersOf = async (path: string, headers = {}) => {
      const { headers: got } = await fetchFrom(t, port, { path, headers });
      return [got['content-encoding'], got.vary];
    };
    assert.deepEqual(await headersOf('/on', gzip.headers), ['gzip', 'Accept-Encoding']);
    assert.deepEqual(await headersOf('/on', { 'Accept-Encoding': 'br' }), [undefined, 'Accept-Encoding']);
    assert.deepEqual(await headersOf('/on'), [undefined, 'Accept-Encoding']);
    assert.deepEqual(await headersOf('/off', gzip.headers), [undefined, undefined]);
  });

  it('adds to an existing Vary header, and leaves an existing Content-Encoding alone', async (t) => {
    const port = await listen(
      t,
      createServer((req, res) => {
        res.setHeader('Vary', 'Origin');
        if (req.url === '/encoded') res.setHeader('Content-Encoding', 'identity');
        openStream(req, res, { gzip: true }).end();
      }),
    );
    const { headers } = await fetchFrom(t, port, gzip);
    assert.equal(headers.vary, 'Origin, Accept-Encoding');
    const { headers: encoded } = await fetchFrom(t, port, { ...gzip, path: '/encoded' });
    assert.equal(encoded['content-encoding'], 'identity');
  });

  it('delivers each event as it is sent', async (t) => {
    const { stream, answer } = await compressing(t);
    stream.open();
    const inflated = (await answer).pipe(createGunzip({ flush: constants.Z_SYNC_FLUSH })).setEncoding('utf8');
    let text = '';
    inflated.on('data', (piece: string) => {
      text += piece;
    });
    for (const data of ['one', 'two', 'x'.repeat(5000), 'three']) {
      stream.send({ data });
      while (!text.endsWith(`data: ${data}\n\n`)) await once(inflated, 'data');
    }
  });

  it('ends with a checksum that fits', async (t) => {
    for (const events of [0, 1, 50]) {
      const { stream, answer } = await compressing(t);
      for (let i = 0; i < events; i++) stream.send({ data: `${i} ${'x'.repeat(i * 100)}` });
      stream.end();
      const text = gunzipSync(await bufferOf(await answer)).toString();
      assert.equal(text.match(/^data:/gm)?.length ?? 0, events);
    }
  });

  it('carries the same events of a hub as an uncompressed one', async (t) => {
    const hub = new Hub();
    const streams: EventStream[] = [];
    const server = createServer((req, res) => {
      const stream = openStream(req, res, { gzip: true });
      streams.push(stream);
      hub.subscribe('a', stream);
    });
    const port = await listen(t, server);
    const accepts = ['gzip', 'identity', 'gzip'];
    const answers = accepts.map((accepted) =>
      answerFrom(t, port, { headers: { 'Accept-Encoding': accepted } }),
    );
    while (hub.size < 3) await turn();
    for (let i = 0; i < 100; i++) {
      hub.publish('a', { data: `event ${i} ${'again and '.repeat(50)}` });
      if (i % 7 === 0) await turn();
    }
    hub.end('a');
    const texts: string[] = [];
    for (const answer of await Promise.all(answers)) {
      const bytes = await bufferOf(answer);
      texts.push((answer.headers['content-encoding'] === 'gzip' ? gunzipSync(bytes) : bytes).toString());
    }
    const eventsIn = (text: string) => text.slice(text.indexOf('id:', text.indexOf('sluice:ready')));
    assert.equal(texts[0]!.match(/^data: event/gm)?.length, 100);
    for (const text of texts) assert.equal(eventsIn(text), eventsIn(texts[0]!));
    assert.deepEqual(streams.map(({ isCompressed }) => isCompressed).sort(), [false, true, true]);
  });

  it('answers HEAD with the headers of GET and no body', async (t) => {
    const port = await listen(
      t,
      createServer((req, res) => void openStream(req, res, { gzip: true }).end()),
    );
    const { headers, body } = await fetchFrom(t, port, { ...gzip, method: 'HEAD' });
    assert.equal(headers.vary, 'Accept-Encoding');
    assert.equal(await body.over, '');
  });

  it('can be refused with a status', async (t) => {
    const port = await listen(
      t,
      createServer((req, res) => openStream(req, res, { gzip: true }).refuse(204)),
    );
    const { status, headers } = await fetchFrom(t, port, gzip);
    assert.deepEqual([status, headers['content-encoding']], [204, undefined]);
  });
});

async function bufferOf(readable: AsyncIterable<Buffer>): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of readable) chunks.push(chunk);
  return Buffer.concat(chunks);
}

async function textOf(readable: AsyncIterable<Buffer>): Promise<string> {
  return (await bufferOf(readable)).toString();
}

/** Requests a compressed answer, and returns it as soon as its head has arrived. */
async function answerFrom(
  t: TestContext,
  port: number,
  options: RequestOptions = {},
): Promise<IncomingMessage> {
  const headers = { 'Accept-Encoding': 'gzip' };
  const asking = httpRequest({ port, host: '127.0.0.1', agent: false, headers, ...options }).end();
  t.after(() => asking.destroy());
  const [response] = await once(asking, 'response');
  return response;
}

/** One stream whose client accepts gzip, and what the client receives. */
async function compressing(
  t: TestContext,
  gzip = true,
): Promise<{ stream: EventStream; answer: Promise<IncomingMessage> }> {
  const server = createServer();
  const asked = once(server, 'request') as Promise<[IncomingMessage, ServerResponse]>;
  const answer = answerFrom(t, await listen(t, server));
  const [req, res] = await asked;
  return { stream: openStream(req, res, { gzip }), answer };
}
