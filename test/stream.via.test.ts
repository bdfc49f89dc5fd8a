// The short way to a client: straight to the socket where that is the same as `res.write`, and only there.

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
import {
  connect as connectHttp2,
  createServer as createHttp2Server,
  type Http2ServerResponse,
} from 'node:http2';
import { createServer as createHttpsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { PassThrough } from 'node:stream';
import { describe, it, type TestContext } from 'node:test';
import { connect as connectTls } from 'node:tls';
import { constants, createGunzip, gunzipSync } from 'node:zlib';
import { Hub } from '../lib/hub.ts';
import { type EventStream, openStream } from '../lib/stream.ts';
import { cert, key } from './fixtures/tls.ts';
import { dial, request } from './helpers/raw.ts';
import { listen } from './helpers/server.ts';
import { exchanging, fetchFrom, streaming } from './helpers/streaming.ts';

/** A request after which the server closes the connection, so that all of the answer can be waited for. */
const LAST = request('GET / HTTP/1.1', 'Connection: close');

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

const PIECES = [
  'retry: 2000\n\n',
  'data: first\n\n',
  ':\n\n',
  '',
  `data: ${'long '.repeat(20_000)}\n\n`,
  'data: Ünïcödé 事件\n\n',
  'data: last\n\n',
];
const TEXT = PIECES.join('');

/** Bytes as a hub gives them to many. */
const shared = (text: string): Buffer =>
  Object.assign(Buffer.from(text), { [Symbol.for('sluice.shared')]: {} });

/** Writes all pieces, a turn between two, and says which ways they went. */
async function writeAll(stream: EventStream): Promise<string[]> {
  const ways: string[] = [];
  for (const piece of PIECES) {
    stream.write(shared(piece));
    ways.push(stream.via ?? 'none');
    await turn(); // `res.write` corks its socket until then
  }
  stream.end();
  return ways;
}

const DIRECT = ['response', 'socket', 'socket', 'response', 'socket', 'socket', 'socket'];
const PLAIN = PIECES.map(() => 'response');

/** Everything that a connection brings, to its end and without TLS, without the head's date. */
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

/** The same events as they come the way that was found, and as they come through `res.write`. */
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

describe('the way to a client', () => {
  for (const wire of ['HTTP/1.1', 'HTTPS'] as const)
    it(`is the socket on ${wire}, byte for byte what res.write sends`, async (t) => {
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
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const session = connectHttp2(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
    t.after(() => {
      session.destroy();
      server.close();
    });
    assert.equal(await textOf(session.request({ ':path': '/' })), TEXT);
    assert.deepEqual(ways, PLAIN);
  });

  it('is the response where somebody has replaced its write, before or meanwhile, who then sees every byte', async (t) => {
    const { req, res, client } = await exchanging(t, LAST);
    const seen: Buffer[] = [];
    const stream = openStream(req, res);
    stream.write(shared('data: 1\n\n'));
    await turn();
    stream.write(shared('data: 2\n\n'));
    assert.equal(stream.via, 'socket');
    const write = res.write;
    res.write = ((chunk: Buffer) => {
      seen.push(chunk);
      return write.call(res, chunk, 'utf8');
    }) as ServerResponse['write'];
    stream.write(shared('data: 3\n\n'));
    assert.equal(stream.via, 'response');
    assert.equal(Buffer.concat(seen).toString(), 'data: 3\n\n');
    stream.end();
    const text = await textOf(client);
    assert.deepEqual(text.match(/data: \d/g), ['data: 1', 'data: 2', 'data: 3']);
  });

  it('is the response where its end was replaced, or the write of its socket', async (t) => {
    for (const replace of ['end', 'socket'] as const) {
      const { req, res } = await exchanging(t, LAST);
      const stream = openStream(req, res);
      stream.write(shared('data: 1\n\n'));
      await turn();
      if (replace === 'end') res.end = res.end.bind(res) as ServerResponse['end'];
      else req.socket.write = req.socket.write.bind(req.socket) as typeof req.socket.write;
      stream.write(shared('data: 2\n\n'));
      assert.equal(stream.via, 'response', replace);
    }
  });

  it('is the response for what is this client’s own, which is gathered to one write a turn', async (t) => {
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

  it('is the response for a mock', async () => {
    const res = Object.assign(new PassThrough(), {
      headersSent: false,
      statusCode: 0,
      hasHeader: () => false,
      getHeader: () => undefined,
      setHeader: () => {},
      removeHeader: () => {},
    });
    const stream = openStream({}, res);
    stream.write(shared('data: 1\n\n'));
    stream.write(shared('data: 2\n\n'));
    assert.equal(stream.via, 'response');
    stream.end();
    assert.equal(await textOf(res), 'data: 1\n\ndata: 2\n\n');
  });

  it('is the socket for a response that a framework has extended', async (t) => {
    const { req, res } = await exchanging(t, LAST);
    Object.setPrototypeOf(res, Object.create(Object.getPrototypeOf(res), { json: { value: () => {} } }));
    const stream = openStream(req, res);
    stream.write(shared('data: 1\n\n'));
    await turn();
    stream.write(shared('data: 2\n\n'));
    assert.equal(stream.via, 'socket');
  });

  it('is the response while what was written waits in it', async (t) => {
    const { req, res, client } = await exchanging(t, LAST);
    const stream = openStream(req, res);
    stream.write(shared('data: 1\n\n'));
    await turn();
    res.cork();
    stream.write(shared('data: 2\n\n'));
    assert.equal(stream.via, 'response');
    res.uncork();
    await turn();
    stream.write(shared('data: 3\n\n'));
    assert.equal(stream.via, 'socket');
    stream.end();
    assert.deepEqual((await textOf(client)).match(/data: \d/g), ['data: 1', 'data: 2', 'data: 3']);
  });

  it('is the response while an earlier one on the connection has yet to end', async (t) => {
    const responses: ServerResponse[] = [];
    const server = createServer((_, res) => responses.push(res));
    const client = await dial(t, await listen(t, server));
    client.write(request() + LAST);
    while (responses.length < 2) await turn();
    const [first, second] = responses as [ServerResponse, ServerResponse];
    const stream = openStream(second.req, second);
    stream.write(shared('data: 1\n\n'));
    stream.write(shared('data: 2\n\n'));
    assert.equal(stream.via, 'response');
    first.end('first');
    await turn();
    stream.write(shared('data: 3\n\n'));
    stream.end();
    const text = await textOf(client);
    assert.deepEqual(text.match(/first|data: \d/g), ['first', 'data: 1', 'data: 2', 'data: 3']);
  });

  it('takes turns with what others write to the response, in order', async (t) => {
    const { req, res, client } = await exchanging(t, LAST);
    const stream = openStream(req, res);
    for (let i = 0; i < 12; i++) {
      if (i % 3 === 0) await turn();
      if (i % 2 === 0) stream.write(shared(`data: ${i}\n\n`));
      else res.write(`data: ${i}\n\n`);
    }
    stream.end();
    const places = [...(await textOf(client)).matchAll(/data: (\d+)/g)].map(([, place]) => Number(place));
    assert.deepEqual(places, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
  });

  it('never sends a head that somebody else has set, and not sent, behind the events', async (t) => {
    const { req, res, client } = await exchanging(t, LAST);
    const stream = openStream(req, res);
    res.writeHead(200, { 'Content-Type': 'text/event-stream' });
    stream.write(shared('data: 1\n\n'));
    stream.write(shared('data: 2\n\n'));
    stream.end();
    const text = await textOf(client);
    const places = ['HTTP/1.1 200 OK', '\r\n\r\n', 'data: 1', 'data: 2'].map((part) => text.indexOf(part));
    assert.deepEqual(
      places,
      places.toSorted((a, b) => a - b),
    );
    assert.equal(places[0], 0);
  });

  it('tells of a drain once, whichever way was refused, and leaves no listener', async (t) => {
    const { stream, req, res, client } = await streaming(t);
    stream.write(shared('data: 1\n\n'));
    await turn();
    const before = [req.socket.listenerCount('drain'), res.listenerCount('drain')];
    assert.equal(stream.write(shared('.'.repeat(16 * 1024 * 1024))), false);
    assert.equal(stream.via, 'socket');
    let drains = 0;
    stream.on('drain', () => drains++);
    client.resume();
    await stream.ready();
    await turn();
    assert.equal(drains, 1);
    assert.deepEqual([req.socket.listenerCount('drain'), res.listenerCount('drain')], before);
    assert.equal(stream.write(shared('data: 2\n\n')), true);
  });

  for (const gzip of [false, true])
    it(`gives the same chunk of a shared batch to all${gzip ? ', compressed' : ''}`, async (t) => {
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

describe('a compressed stream', () => {
  const gzip = { headers: { 'Accept-Encoding': 'gzip, br' } };

  it('is for those who accept it, where it is switched on', async (t) => {
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

  it('adds to a Vary that is there, and leaves an encoding that is there alone', async (t) => {
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

  it('brings each event as it is sent', async (t) => {
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

  it('ends as gzip does, with what was sent checked', async (t) => {
    for (const events of [0, 1, 50]) {
      const { stream, answer } = await compressing(t);
      for (let i = 0; i < events; i++) stream.send({ data: `${i} ${'x'.repeat(i * 100)}` });
      stream.end();
      const text = gunzipSync(await bufferOf(await answer)).toString();
      assert.equal(text.match(/^data:/gm)?.length ?? 0, events);
    }
  });

  it('is one batch of a hub, compressed once, for all that are at the same place', async (t) => {
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

  it('answers HEAD as GET is answered, and with no body', async (t) => {
    const port = await listen(
      t,
      createServer((req, res) => void openStream(req, res, { gzip: true }).end()),
    );
    const { headers, body } = await fetchFrom(t, port, { ...gzip, method: 'HEAD' });
    assert.equal(headers.vary, 'Accept-Encoding');
    assert.equal(await body.over, '');
  });

  it('can be refused still, with a bare status', async (t) => {
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

/** Asks for a compressed answer, and gives it as it comes. */
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

/** One stream whose client accepts gzip. */
async function compressing(
  t: TestContext,
): Promise<{ stream: EventStream; answer: Promise<IncomingMessage> }> {
  const server = createServer();
  const asked = once(server, 'request') as Promise<[IncomingMessage, ServerResponse]>;
  const answer = answerFrom(t, await listen(t, server));
  const [req, res] = await asked;
  return { stream: openStream(req, res, { gzip: true }), answer };
}
