import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { describe, it, type TestContext } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { readText } from '../lib/body.ts';
import { answerError } from '../lib/problem.ts';
import { collectGarbage } from './helpers/garbage.ts';
import { readAll } from './helpers/raw.ts';
import { serve } from './helpers/server.ts';

/**
 * A server that echoes bodies of up to 8 bytes, and a way to send it a request with these head lines and
 * body.
 */
async function echo(t: TestContext) {
  const { port } = await serve(t, async (req, res) => {
    try {
      res.end(`got ${JSON.stringify(await readText(req, 8))}`);
    } catch (error) {
      answerError(error, { res });
    }
  });
  return async (lines: readonly string[], body: string | Buffer = '') => {
    const socket = connect(port, '127.0.0.1');
    socket.write(['POST / HTTP/1.1', 'Host: localhost', 'Connection: close', ...lines, '', ''].join('\r\n'));
    socket.write(body);
    const text = await readAll(socket);
    return { status: Number(text.split(' ')[1]), body: text.split('\r\n\r\n')[1] ?? '' };
  };
}

const CHUNKED = 'Transfer-Encoding: chunked';

describe('readText', () => {
  it('reads a body with a length, and one in chunks', async (t) => {
    const send = await echo(t);
    assert.equal((await send(['Content-Length: 5'], 'hello')).body, 'got "hello"');
    assert.equal((await send(['Content-Length: 0'])).body, 'got ""');
    assert.equal((await send([CHUNKED], '3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n')).body, 'got "hello"');
  });

  it('reads any type of text, and characters that are cut between chunks', async (t) => {
    const send = await echo(t);
    for (const type of [
      'application/x-www-form-urlencoded',
      'text/plain; charset="UTF-8"',
      'a/b;charset=utf8',
    ]) {
      assert.equal((await send(['Content-Length: 1', `Content-Type: ${type}`], 'x')).status, 200, type);
    }
    const chunks = Buffer.from('1\r\n\xc3\r\n1\r\n\xa9\r\n0\r\n\r\n', 'latin1');
    assert.equal((await send([CHUNKED], chunks)).body, 'got "\xc3\xa9"');
  });

  it('keeps a byte order mark', async (t) => {
    const send = await echo(t);
    const mark = Buffer.from('\ufeffx');
    assert.equal((await send(['Content-Length: 4'], mark)).body, 'got "\xef\xbb\xbfx"');
  });

  it('reads a body with the encoding `identity`, in any case, or an empty one', async (t) => {
    const send = await echo(t);
    for (const encoding of ['identity', 'Identity', ''])
      assert.equal((await send(['Content-Length: 1', `Content-Encoding: ${encoding}`], 'x')).status, 200);
  });

  it('keeps no chunk, each of which holds the 64 KiB in which it was read', async () => {
    const refs: WeakRef<ArrayBuffer>[] = [];
    let most = 0;
    const chunks = async function* () {
      for (let i = 0; i < 1000; i++) {
        const { buffer } = new Uint8Array(64 * 1024);
        refs.push(new WeakRef(buffer));
        yield new Uint8Array(buffer, i, 1).fill(0x61);
        if (i % 100 !== 99) continue;
        await nextTurn();
        collectGarbage();
        most = Math.max(most, refs.filter((ref) => ref.deref() !== undefined).length);
      }
    };
    const req = { headers: { 'transfer-encoding': 'chunked' }, iterator: chunks };
    assert.equal(await readText(req, 1000), 'a'.repeat(1000));
    assert.ok(most <= 2, `kept ${most} chunks`);
  });

  it('reads a body that is larger than any of its chunks, and one of exactly `maxBytes`', async (t) => {
    const { port } = await serve(t, async (req, res) => {
      const { length } = await readText(req, 1_000_000);
      res.end(String(length));
    });
    const url = `http://127.0.0.1:${port}`;
    for (const size of [16_384, 16_385, 100_000, 1_000_000]) {
      const body = new Blob(['x'.repeat(size)]).stream();
      for (const init of [{ body: 'x'.repeat(size) }, { body, duplex: 'half' as const }])
        assert.equal(await (await fetch(url, { method: 'POST', ...init })).text(), String(size));
    }
  });

  for (const [what, status, error, lines, body] of [
    ['that is not UTF-8', 400, 'malformed-body', ['Content-Length: 1'], Buffer.from([0xff])],
    ['without a length or chunks', 411, 'length-required', [], ''],
    ['whose length is too large, before it arrives', 413, 'body-too-large', ['Content-Length: 9'], ''],
    ['whose chunks are too large, before its end', 413, 'body-too-large', [CHUNKED], '9\r\n123456789\r\n'],
    ['that is compressed', 415, 'unsupported-body', ['Content-Length: 1', 'Content-Encoding: gzip'], 'x'],
    [
      'in another charset',
      415,
      'unsupported-body',
      ['Content-Length: 1', 'Content-Type: a/b;charset=x'],
      'x',
    ],
    ['with parts', 415, 'unsupported-body', ['Content-Length: 1', 'Content-Type: multipart/x'], 'x'],
  ] as const) {
    it(`rejects a body ${what} with ${status} ${error}, on a connection that can be answered`, async (t) => {
      const answer = await (await echo(t))(lines, body);
      assert.deepEqual([answer.status, JSON.parse(answer.body).error], [status, error]);
    });
  }

  it('rejects what is no limit, which would let every body in', async () => {
    for (const maxBytes of [Number.NaN, -1, '1mb' as unknown as number]) {
      const message = `\`maxBytes\` must be a number ≥ 0, got ${maxBytes}`;
      const body = { headers: { 'content-length': '0' }, iterator: () => assert.fail('read') };
      await assert.rejects(readText(body, maxBytes), { name: 'RangeError', message });
    }
  });

  it('leaves the request and its socket open when it rejects', async (t) => {
    const outcomes: unknown[] = [];
    const { port } = await serve(t, async (req, res) => {
      await readText(req, 2).catch(() => outcomes.push(req.destroyed, req.socket?.destroyed));
      res.end();
    });
    const socket = connect(port, '127.0.0.1');
    socket.write(`POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n${CHUNKED}\r\n\r\n3\r\nabc\r\n`);
    assert.match(await readAll(socket), /^HTTP\/1.1 200/);
    assert.deepEqual(outcomes, [false, false]);
  });

  it('rejects a body that ends early', async (t) => {
    const outcomes: unknown[] = [];
    const { server, port } = await serve(t, async (req) => {
      outcomes.push(await readText(req, 8).catch(({ code, status }) => [code, status]));
      server.emit('outcome');
    });
    const socket = connect(port, '127.0.0.1');
    socket.write('POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhel');
    await once(server, 'request');
    socket.destroy();
    await once(server, 'outcome');
    assert.deepEqual(outcomes, [['ERR_SSE_MALFORMED_BODY', 400]]);
  });
});
