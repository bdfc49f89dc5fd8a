import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, type ServerResponse } from 'node:http';
import {
  createServer as createHttp2Server,
  type IncomingHttpHeaders,
  type ServerHttp2Stream,
} from 'node:http2';
import { createServer as createTcpServer } from 'node:net';
import { describe, it, type TestContext } from 'node:test';
import { brotliCompressSync, deflateSync, gzipSync } from 'node:zlib';
import {
  fetchTransport,
  http2Transport,
  nodeTransport,
  readAnswer,
  type Transport,
  type TransportRequest,
  type TransportResponse,
} from '../lib/transport.ts';
import { collectGarbage } from './helpers/garbage.ts';
import { listen, serve } from './helpers/server.ts';

const CRLF = '\r\n';
const MEBIBYTE = 1 << 20;

/** Sends a GET; the connection is closed when the test is over. */
function get(
  t: TestContext,
  port: number,
  transport: Transport = nodeTransport(),
  options: Partial<TransportRequest> = {},
): Promise<TransportResponse> {
  const controller = new AbortController();
  t.after(() => controller.abort());
  const url = new URL(`http://127.0.0.1:${port}/`);
  return transport({
    url,
    method: 'GET',
    headers: {},
    body: undefined,
    signal: controller.signal,
    ...options,
  });
}

/** A server that answers any request with these bytes and leaves the connection open. */
function answering(t: TestContext, ...lines: string[]): Promise<number> {
  const server = createTcpServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', () => socket.write(lines.join(CRLF)));
  });
  return listen(t, server);
}

function http2(
  t: TestContext,
  answer: (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => unknown,
): Promise<number> {
  const server = createHttp2Server();
  server.on('stream', (stream, headers) => {
    stream.on('error', () => {});
    answer(stream, headers);
  });
  return listen(t, server);
}

async function bytesOf({ body }: TransportResponse): Promise<number> {
  let bytes = 0;
  for await (const chunk of body) bytes += chunk.length;
  return bytes;
}

describe('the transports of Node', () => {
  for (const [name, lines] of [
    ['a 101', ['HTTP/1.1 101 Switching Protocols', '', '']],
    [
      'a 101 that upgrades',
      ['HTTP/1.1 101 Switching Protocols', 'Connection: upgrade', 'Upgrade: x', '', ''],
    ],
  ] as const) {
    it(`answer ${name}, and close its connection`, async (t) => {
      const server = createTcpServer((socket) => {
        socket.on('error', () => {}).once('data', () => socket.write(lines.join(CRLF)));
      });
      const closed = once(server, 'connection').then(([socket]) => once(socket, 'close'));
      const response = await get(t, await listen(t, server));
      assert.equal(response.status, 101);
      assert.equal(await bytesOf(response), 0);
      await closed;
    });
  }

  it('reject when an HTTP/2 stream is reset before its head, with any code', async (t) => {
    for (const code of [0, 2, 8]) {
      const port = await http2(t, (stream) => stream.close(code));
      await assert.rejects(get(t, port, http2Transport()), Error, `code ${code}`);
    }
  });

  it('do not take the reset of an HTTP/2 stream for the end of its body', async (t) => {
    const port = await http2(t, (stream) => {
      stream.respond({ ':status': 200 });
      stream.write('abc', () => stream.session?.destroy());
    });
    await assert.rejects(bytesOf(await get(t, port, http2Transport())), /the stream was reset with code 8/);
    const whole = await http2(t, (stream) => {
      stream.respond({ ':status': 200 });
      stream.end('abc');
    });
    assert.equal(await bytesOf(await get(t, whole, http2Transport())), 3);
  });

  it('take 32 informational responses before the response, and no more', async (t) => {
    const flood = (count: number) => Array<string>(count).fill(`HTTP/1.1 103 Early Hints${CRLF}`);
    const end = ['HTTP/1.1 204 No Content', '', ''];
    assert.equal((await get(t, await answering(t, ...flood(32), ...end))).status, 204);
    const tooLarge = { code: 'ERR_SSE_HEAD_TOO_LARGE', message: /more than 32 informational responses/ };
    await assert.rejects(get(t, await answering(t, ...flood(33), ...end)), tooLarge);
    const port = await http2(t, (stream) => {
      for (let i = 0; i < 33; i++) stream.additionalHeaders({ ':status': 103 });
    });
    await assert.rejects(get(t, port, http2Transport()), tooLarge);
  });

  it('refuse a head that is larger than Node accepts', async (t) => {
    const lines = Array<string>(50).fill(`x: ${'y'.repeat(1000)}`);
    const port = await answering(t, 'HTTP/1.1 200 OK', ...lines, '', '');
    await assert.rejects(get(t, port), { code: 'ERR_SSE_HEAD_TOO_LARGE' });
  });

  it('name the reason where a request cannot be sent', async (t) => {
    for (const [transport, options] of [
      [nodeTransport(), { headers: { a: 'b\nc' } }],
      [http2Transport(), { headers: { connection: 'close' } }],
      [fetchTransport(), { method: 'TRACE' }],
      [fetchTransport(), { body: 'a GET has none' }],
      [fetchTransport(), { url: new URL('http://user:secret@127.0.0.1:1/') }],
    ] as const) {
      const code = 'ERR_SSE_UNSENDABLE';
      await assert.rejects(get(t, 1, transport, options), { code, message: /^the request cannot be sent: / });
    }
  });

  it('send a password in the address as Basic, unless the caller has an authorization', async (t) => {
    const server = await serve(t, (req, res) => res.end(req.headers.authorization));
    const port = await http2(t, (stream, { authorization }) => {
      stream.respond();
      stream.end(authorization);
    });
    for (const [transport, at] of [
      [nodeTransport(), server.port],
      [http2Transport(), port],
    ] as const) {
      const url = new URL(`http://us%40er:w%C3%B6rd@127.0.0.1:${at}/`);
      const expected = `Basic ${Buffer.from('us@er:wörd').toString('base64')}`;
      assert.equal(await readAnswer(await get(t, at, transport, { url }), 100), expected);
      const headers = { Authorization: 'Bearer x' };
      assert.equal(await readAnswer(await get(t, at, transport, { url, headers }), 100), 'Bearer x');
    }
  });

  it('send a User-Agent with the version of the package, unless the caller has one', async (t) => {
    const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));
    const server = await serve(t, (_, res) => res.end());
    await get(t, server.port);
    await get(t, server.port, nodeTransport(), { headers: { 'User-Agent': 'mine' } });
    const agents = server.requests.map(({ headers }) => headers['user-agent']);
    assert.deepEqual(agents, [`sluice/${version}`, 'mine']);
    const overHttp2: unknown[] = [];
    const port = await http2(t, (stream, headers) => {
      overHttp2.push(headers['user-agent']);
      stream.respond({ ':status': 200 });
      stream.end();
    });
    await bytesOf(await get(t, port, http2Transport()));
    assert.deepEqual(overHttp2, [`sluice/${version}`]);
  });
});

describe('the environment’s proxy', () => {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  const canProxy = major > 24 || (major === 24 && minor >= 5) || (major === 22 && minor >= 21);

  it('is used by nodeTransport, except for hosts of NO_PROXY', {
    skip: canProxy ? false : 'this Node cannot',
  }, async (t) => {
    const asked: string[] = [];
    const proxy = await serve(t, (req, res) => {
      asked.push(String(req.url));
      res.writeHead(204).end();
    });
    const direct = await serve(t, (_, res) => res.writeHead(205).end());
    const variables = { HTTP_PROXY: proxy.url, NO_PROXY: '127.0.0.1' };
    const before = { ...process.env };
    Object.assign(process.env, variables);
    t.after(() => {
      for (const name of Object.keys(variables)) delete process.env[name];
      Object.assign(process.env, before);
    });
    assert.equal((await get(t, direct.port)).status, 205);
    const url = new URL('http://events.example/a?b=c');
    assert.equal((await get(t, 0, nodeTransport(), { url })).status, 204);
    assert.deepEqual(asked, [url.href]);
  });
});

describe('the content coding of a response', () => {
  const encoded = (t: TestContext, encoding: string, body: Uint8Array | string, status = 200) =>
    serve(t, (_, res) => res.writeHead(status, { 'content-encoding': encoding }).end(body));
  const text = 'data: a\n\n';

  for (const [encoding, body] of [
    ['none', text],
    ['Identity', text],
    ['identity, IDENTITY', text],
    ['', text],
    ['utf-8', text],
    ['GZip', gzipSync(text)],
    ['x-gzip, identity', gzipSync(text)],
    ['none,\tgzip', gzipSync(text)],
    ['gzip, gzip', gzipSync(gzipSync(text))],
    ['deflate, br', brotliCompressSync(deflateSync(text))],
    ['gzip, br, gzip', gzipSync(brotliCompressSync(gzipSync(text)))],
  ] as const) {
    it(`may be "${encoding}"`, async (t) => {
      const { port } = await encoded(t, encoding, body);
      assert.equal(await readAnswer(await get(t, port), 1000), text);
    });
  }

  for (const [encoding, message] of [
    ['zstd', /zstd/],
    ['gzip, Compress', /compress/],
    ['gzip, gzip, gzip, gzip', /more than 3 content codings/],
  ] as const) {
    it(`cannot be "${encoding}": the error says so before anything is read`, async (t) => {
      const { port } = await encoded(t, encoding, text);
      await assert.rejects(get(t, port), { code: 'ERR_SSE_CONTENT_ENCODING', message });
      const failing = await encoded(t, encoding, text, 503);
      const answer = await get(t, failing.port);
      assert.equal(answer.status, 503, 'the status says more');
      assert.equal(await readAnswer(answer, 0), '');
    });
  }

  it('is final where the body is not in it, and passing where it breaks later', async (t) => {
    const wrong = await encoded(t, 'gzip', text);
    const reading = bytesOf(await get(t, wrong.port));
    await assert.rejects(reading, { code: 'ERR_SSE_CONTENT_ENCODING', message: /gzip: incorrect header/ });
    const packed = gzipSync(Buffer.from(Array.from({ length: 100_000 }, (_, i) => (i * i) & 255)), {
      level: 0,
    });
    packed.fill(255, 80_000);
    const broken = await encoded(t, 'gzip', packed);
    await assert.rejects(bytesOf(await get(t, broken.port)), { code: 'Z_DATA_ERROR' });
  });

  /** A body of zeros that is so many mebibytes when it is decompressed. */
  const zeros = (mebibytes: number): Buffer => gzipSync(Buffer.alloc(mebibytes * MEBIBYTE));

  it('may expand to 16 MiB in any case, and to 200 times of what has arrived', async (t) => {
    const small = await encoded(t, 'gzip', zeros(16));
    assert.equal(await bytesOf(await get(t, small.port)), 16 * MEBIBYTE);
    const line = Buffer.from(`data: ${'0123456789'.repeat(20)}${Math.random()}\n\n`);
    const stream = Buffer.concat(Array.from({ length: 100_000 }, () => line));
    const packed = gzipSync(stream, { level: 1 });
    assert.ok(stream.length > 16 * MEBIBYTE && stream.length < 200 * packed.length, 'a test of the test');
    const large = await encoded(t, 'gzip', packed);
    assert.equal(await bytesOf(await get(t, large.port)), stream.length);
  });

  for (const [encoding, pack] of [
    ['gzip', (bomb: Buffer) => bomb],
    ['gzip, gzip', (bomb: Buffer) => gzipSync(bomb)],
    ['gzip, br', (bomb: Buffer) => brotliCompressSync(bomb)],
  ] as const) {
    it(`ends the response where a bomb in ${encoding} expands further`, async (t) => {
      const { port } = await encoded(t, encoding, pack(zeros(100)));
      let bytes = 0;
      const response = await get(t, port);
      await assert.rejects(
        async () => {
          for await (const chunk of response.body) bytes += chunk.length;
        },
        { code: 'ERR_SSE_DECOMPRESSION_LIMIT' },
      );
      assert.ok(bytes < 48 * MEBIBYTE, `${bytes} of ${100 * MEBIBYTE} bytes were handed on`);
    });
  }

  it('ends the response where the bomb is a name in the inner gzip’s head, which yields nothing', async (t) => {
    // The flag 8 announces a file name up to the next zero byte, which never comes.
    const head = Buffer.from([0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 3]);
    const name = Buffer.alloc(64 * MEBIBYTE, 'a');
    const { port } = await encoded(t, 'gzip, gzip', gzipSync(Buffer.concat([head, name])));
    await assert.rejects(bytesOf(await get(t, port)), { code: 'ERR_SSE_DECOMPRESSION_LIMIT' });
  });
});

describe('readAnswer', () => {
  it('reads text up to its limit, and closes the connection beyond it', async (t) => {
    let sent = 0;
    let response: ServerResponse | undefined;
    const { port } = await serve(t, (_, res) => {
      response = res;
      const flood = (): void => {
        while (sent < 500 * MEBIBYTE && res.write('水'.repeat(20_000))) sent += 60_000;
      };
      res.on('drain', flood);
      flood();
    });
    const answer = await get(t, port);
    const closed = once(response as ServerResponse, 'close');
    await assert.rejects(readAnswer(answer, 100_000), {
      code: 'ERR_SSE_ANSWER_TOO_LARGE',
      message: 'the body of the response is larger than 100000 bytes',
    });
    await closed;
    assert.ok(sent < 50 * MEBIBYTE, `${sent} bytes were taken`);
    const small = await serve(t, (_, res) => res.end('水'));
    assert.equal(await readAnswer(await get(t, small.port), 3), '水');
  });

  it('holds bytes, whatever the chunks are in which they arrive', async () => {
    const CHUNKS = 200_000;
    let held = 0;
    async function* bytes() {
      for (let i = 1; i <= CHUNKS; i++) {
        if (i === CHUNKS) {
          collectGarbage();
          const { heapUsed, arrayBuffers } = process.memoryUsage();
          held = heapUsed + arrayBuffers - before;
        }
        yield new Uint8Array([97]);
      }
    }
    collectGarbage();
    const { heapUsed, arrayBuffers } = process.memoryUsage();
    const before = heapUsed + arrayBuffers;
    assert.equal((await readAnswer({ body: bytes() }, CHUNKS)).length, CHUNKS);
    assert.ok(held < 4 * MEBIBYTE, `${held} bytes for ${CHUNKS}`);
  });
});

describe('an agent of the caller', () => {
  it('is reused by nodeTransport({ agent }) after a body that was read', async (t) => {
    const { Agent } = await import('node:http');
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    t.after(() => agent.destroy());
    const server = createServer((_, res) => res.end('ok'));
    let connections = 0;
    server.on('connection', () => connections++);
    const port = await listen(t, server);
    for (let i = 0; i < 3; i++)
      assert.equal(await readAnswer(await get(t, port, nodeTransport({ agent })), 9), 'ok');
    assert.equal(connections, 1);
  });
});
