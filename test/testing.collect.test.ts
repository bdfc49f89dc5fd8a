import assert from 'node:assert/strict';
import { once } from 'node:events';
import { get, type IncomingMessage } from 'node:http';
import { describe, it, type TestContext } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { createGunzip, gzipSync } from 'node:zlib';
import { connect } from '../lib/client.ts';
import { encode } from '../lib/encode.ts';
import { formatId, gapEvent, readyEvent } from '../lib/protocol.ts';
import { collect, FakeClock } from '../lib/testing.ts';
import { cutAfter, eventStream, open, whole } from './helpers/misbehaving.ts';
import { type Handler, serve, type TestServer } from './helpers/server.ts';

const [first, second] = [formatId(1, 1), formatId(1, 2)];
const READY = encode(readyEvent(formatId(1, 0), ['a'], { heartbeat: null }));
const ONE = encode({ id: first, event: 'tick', data: 'one' });
const TWO = encode({ id: second, data: 'two' });

async function responseOf(
  t: TestContext,
  handler: Handler,
): Promise<{ server: TestServer; res: IncomingMessage }> {
  const server = await serve(t, handler);
  const [res] = (await once(get(server.url), 'response')) as [IncomingMessage];
  return { server, res };
}

describe('collect', () => {
  it('reads a URL, and closes its connection after the last event that was asked for', async (t) => {
    const server = await serve(t, (_, res) => open(res, READY + ONE + TWO));
    const connection = once(server.server, 'connection');
    const events = await collect(server.url, 2);
    assert.deepEqual(events, [
      { event: 'tick', data: 'one', id: first, lastEventId: first },
      { event: 'message', data: 'two', id: second, lastEventId: second },
    ]);
    const [socket] = await connection;
    if (!socket.closed) await once(socket, 'close');
  });

  it('sends headers with its request', async (t) => {
    const server = await serve(t, (req, res) => whole(res, `data: ${req.headers['last-event-id']}\n\n`));
    const [event] = await collect(server.url, 1, { headers: { 'Last-Event-ID': first } });
    assert.equal(event?.data, first);
  });

  it('reads a response of fetch, of node:http, and events of `connect`', async (t) => {
    const { server, res } = await responseOf(t, (_, res) => open(res, ONE + TWO));
    const datas = (events: readonly { readonly data: string }[]): string[] => events.map(({ data }) => data);
    assert.deepEqual(datas(await collect(res, 2)), ['one', 'two']);
    assert.deepEqual(datas(await collect(await fetch(server.url), 2)), ['one', 'two']);
    const connection = connect(server.url);
    assert.deepEqual(datas(await collect(connection, 2)), ['one', 'two']);
    assert.equal(connection.state, 'closed');
  });

  it('leaves control events out but gaps, unless it is asked for all', async (t) => {
    const gap = encode(
      gapEvent(first, { reason: 'evicted', from: formatId(1, 0), to: first, topics: ['a'] }),
    );
    const server = await serve(t, (_, res) => open(res, READY + gap + TWO));
    const namesOf = async (count: number, controlEvents?: boolean): Promise<string[]> =>
      (await collect(server.url, count, { controlEvents })).map(({ event }) => event);
    assert.deepEqual(await namesOf(2), ['sluice:gap', 'message']);
    assert.deepEqual(await namesOf(3, true), ['sluice:ready', 'sluice:gap', 'message']);
  });

  it('says what came, where the rest does not come in time', async (t) => {
    const { server, res } = await responseOf(t, (_, res) => open(res, READY + ONE));
    const expected = {
      code: 'ERR_SSE_TIMEOUT',
      message: `1 of 2 events came within 500 ms: sluice:ready ${formatId(1, 0)} ${JSON.stringify(
        '{"heartbeat":null,"topics":["a"]}',
      )}, tick ${first} "one"`,
    };
    const sources = [server.url, res, await fetch(server.url)];
    for (const source of sources) await assert.rejects(collect(source, 2, { timeout: 500 }), expected);
    const connection = connect(server.url);
    await assert.rejects(
      collect(connection, 2, { timeout: 500 }),
      /^Error: 1 of 2 events came within 500 ms: tick/,
    );
    while (connection.state !== 'closed') await turn();
    assert.ok(res.destroyed);
  });

  it('measures its time by the real clock, whatever time it is in the test', async (t) => {
    const server = await serve(t, (_, res) => open(res));
    const clock = FakeClock.install();
    t.after(() => clock.uninstall());
    await assert.rejects(
      collect(server.url, 1, { timeout: 30 }),
      /0 of 1 events came within 30 ms: nothing at all/,
    );
  });

  it('says that a stream ended or broke before', async (t) => {
    const ending = await serve(t, (_, res) => whole(res, ONE));
    await assert.rejects(collect(ending.url, 2), {
      code: 'ERR_SSE_EOF',
      message: `1 of 2 events came before the stream ended: tick ${first} "one"`,
    });
    const { res } = await responseOf(t, (_, res) => cutAfter(res, ONE));
    await assert.rejects(collect(res, 2), (error: Error & { events?: unknown[] }) => {
      assert.match(error.message, /^1 of 2 events came before the stream broke \(aborted\): tick/);
      assert.ok(error.cause instanceof Error);
      assert.equal(error.events?.length, 1);
      return true;
    });
    await assert.rejects(collect('http://127.0.0.1:1', 1), /came without a response \(.*ECONNREFUSED/);
  });

  it('resolves where the events that were asked for came before one that is too large', async (t) => {
    const server = await serve(t, (_, res) => open(res, `${ONE}data: ${'x'.repeat(2 << 20)}\n\n`));
    for (const source of [server.url, [ONE, `${TWO}data: ${'x'.repeat(2 << 20)}`]]) {
      const count = typeof source === 'string' ? 1 : 2;
      assert.equal((await collect(source as string, count)).length, count);
    }
  });

  it('says that a response is no event stream, and closes it', async (t) => {
    const handler: Handler = (req, res) => {
      if (req.url === '/json') res.writeHead(200, { 'content-type': 'application/json' }).write('{}');
      else res.writeHead(401, eventStream).write('x');
    };
    const { server, res } = await responseOf(t, handler);
    const refused = { code: 'ERR_SSE_STATUS', message: 'the response has status 401' };
    for (const source of [server.url, res, await fetch(server.url)])
      await assert.rejects(collect(source, 1), refused);
    await assert.rejects(collect(`${server.url}json`, 1), {
      code: 'ERR_SSE_CONTENT_TYPE',
      message: 'the response is not an event stream: its Content-Type is application/json',
    });
    assert.ok(res.destroyed);
  });

  it('names the newest ten events, shortened, and counts the others', async (t) => {
    const many = Array.from({ length: 12 }, (_, n) => `data: ${n} ${'x'.repeat(200)}\n\n`).join('');
    const server = await serve(t, (_, res) => whole(res, many));
    await assert.rejects(collect(server.url, 13), ({ message }: Error) => {
      assert.match(message, /^12 of 13 events came before the stream ended: 2 more, then message "2 x+…", /);
      assert.ok(message.length < 1200, message);
      return true;
    });
  });

  it('closes the source, whatever it is, where the events do not come in time', async (t) => {
    let isCancelled = false;
    const stream = new ReadableStream<Uint8Array>({
      start: (controller) => controller.enqueue(Buffer.from(ONE)),
      cancel: () => {
        isCancelled = true;
      },
    });
    await assert.rejects(collect(stream, 2, { timeout: 20 }), { code: 'ERR_SSE_TIMEOUT' });
    assert.equal(isCancelled, true);
    const { res } = await responseOf(t, (_, res) => open(res, ONE));
    await assert.rejects(collect(res, 2, { timeout: 20 }), { code: 'ERR_SSE_TIMEOUT' });
    assert.ok(res.destroyed);
  });

  it('says that a response is compressed, and reads what decompresses it', async (t) => {
    const handler: Handler = (_, res) => {
      res.writeHead(200, { ...eventStream, 'content-encoding': 'gzip' }).end(gzipSync(ONE));
    };
    const { server, res } = await responseOf(t, handler);
    await assert.rejects(collect(res, 1), {
      code: 'ERR_SSE_CONTENT_ENCODING',
      message: 'the response is compressed (gzip): ask for none, or collect from what decompresses it',
    });
    assert.ok(res.destroyed);
    const [again] = (await once(get(server.url), 'response')) as [IncomingMessage];
    for (const source of [again.pipe(createGunzip()), server.url, await fetch(server.url)])
      assert.deepEqual(
        (await collect(source, 1)).map(({ data }) => data),
        ['one'],
      );
  });

  it('refuses what is no source', async () => {
    const late = Promise.resolve('http://127.0.0.1:1');
    await assert.rejects(collect(late as never, 1), {
      name: 'TypeError',
      message: '`source` must be a URL, a response or an iterable, got a promise: is an `await` missing?',
    });
    for (const source of [undefined, null, 5, {}])
      await assert.rejects(collect(source as never, 1), /^TypeError: `source` must be .*, got /);
  });

  it('refuses a count or a timeout that is none', async () => {
    await assert.rejects(collect('http://127.0.0.1:1', 0), /`count` must be a whole number ≥ 1, got 0/);
    await assert.rejects(collect('http://127.0.0.1:1', 1, { timeout: 0 }), /`timeout` must be .* got 0/);
  });
});
