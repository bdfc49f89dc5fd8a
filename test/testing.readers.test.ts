import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createTcpServer, type Socket } from 'node:net';
import { PassThrough } from 'node:stream';
import { describe, it, type TestContext } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { type EventStream, openStream } from '../lib/stream.ts';
import {
  FakeClock,
  MemoryServer,
  RawReader,
  type RawReaderOptions,
  Reading,
  socketPair,
} from '../lib/testing.ts';
import { listen } from './helpers/server.ts';

interface Opened {
  readonly reader: RawReader;
  readonly stream: EventStream;
  readonly res: ServerResponse;
  /** The server's end of the connection. */
  readonly socket: Socket;
}

/** A stream of a real server, and a reader of it over a real socket. */
async function open(t: TestContext, options?: RawReaderOptions): Promise<Opened> {
  const server = createServer();
  const asked = once(server, 'request') as Promise<[IncomingMessage, ServerResponse]>;
  const reader = await RawReader.open(`http://127.0.0.1:${await listen(t, server)}/`, options);
  const [req, res] = await asked;
  const stream = openStream(req, res);
  stream.open();
  return { reader, stream, res, socket: req.socket };
}

/** Sends until the stream takes no more. */
async function fill(stream: EventStream): Promise<void> {
  while (stream.send({ data: 'x'.repeat(10_000) })) await turn();
}

describe('RawReader', () => {
  it('sends a request and keeps all that it reads, the head included', async (t) => {
    const { reader, stream, socket } = await open(t, { headers: { 'Last-Event-ID': '1-2' } });
    assert.equal(socket.remoteAddress, '127.0.0.1');
    stream.send({ data: 'täglich' });
    const text = await reader.until('data: täglich\n\n');
    assert.match(text, /^HTTP\/1\.1 200 OK\r\n/);
    assert.equal(reader.bytes, Buffer.byteLength(text));
  });

  it('makes the server wait while it stalls, and reads on when it reads again', async (t) => {
    const { reader, stream } = await open(t, { stalled: true });
    await fill(stream);
    assert.equal(reader.text, '');
    const ready = stream.ready();
    reader.read();
    await ready;
    reader.stall();
    await fill(stream);
  });

  it('drips: so many bytes an interval, and the server waits', async (t) => {
    const { reader, stream } = await open(t, { stalled: true });
    await fill(stream);
    const clock = FakeClock.install();
    t.after(() => clock.uninstall());
    reader.drip({ bytes: 7, interval: 100 });
    clock.advance(99);
    assert.equal(reader.bytes, 0);
    clock.advance(1);
    assert.equal(reader.text, 'HTTP/1.');
    clock.advance(300);
    assert.equal(reader.bytes, 28);
    reader.stall();
    clock.advance(1000);
    assert.equal(reader.bytes, 28);
    assert.ok(stream.closed === false);
  });

  it('is over when all has dripped and the server has ended', async (t) => {
    const { reader, stream } = await open(t, { stalled: true });
    reader.drip({ bytes: 50, interval: 1 });
    stream.send({ data: 'last' });
    stream.end();
    assert.match(await reader.over, /data: last\n\n/);
    if (!reader.socket.closed) await once(reader.socket, 'close');
  });

  it('half-closes its connection, also without reading: the stream ends', async (t) => {
    const { reader, stream } = await open(t, { stalled: true });
    await fill(stream);
    reader.halfClose();
    assert.equal(await stream.done, 'client-gone');
  });

  it('reads on after its half-close, where a server goes on', async (t) => {
    const server = createTcpServer({ allowHalfOpen: true }, (socket) => {
      socket.resume().on('end', () => socket.end('and yet'));
    });
    const reader = await RawReader.open(`http://127.0.0.1:${await listen(t, server)}/`);
    reader.halfClose();
    assert.match(await reader.over, /and yet/);
  });

  it('cuts its connection after exactly so many bytes', async (t) => {
    const { reader, stream } = await open(t);
    await reader.until('\r\n\r\n');
    const before = reader.bytes;
    reader.cutAfter(10);
    stream.send({ data: 'x'.repeat(100) });
    assert.equal(await stream.done, 'client-gone');
    await reader.over;
    assert.equal(reader.bytes - before, 10);
    assert.equal(Buffer.byteLength(reader.text), reader.bytes);
  });

  it('leaves by a reset, or by closing', async (t) => {
    const reset = await open(t);
    const error = once(reset.socket, 'error');
    await reset.reader.until('\r\n\r\n');
    reset.reader.reset();
    assert.equal((await error)[0].code, 'ECONNRESET');
    const cut = await open(t);
    await cut.reader.until('\r\n\r\n');
    cut.reader.cut();
    assert.equal(await cut.stream.done, 'client-gone');
    assert.equal(cut.socket.errored, null);
  });

  it('does the same on a connection in memory', async () => {
    let stream: EventStream | undefined;
    const server = new MemoryServer((req, res) => {
      stream = openStream(req, res);
      stream.send({ data: 'hello' });
    });
    const reader = await RawReader.open('http://any.example/', { socket: server.connect() });
    await reader.until('data: hello');
    reader.stall();
    await fill(stream!);
    reader.reset();
    assert.equal(await stream!.done, 'client-gone');
  });

  it('closes its connection when the server has ended, also one in memory', async () => {
    const [near, far] = socketPair();
    const reader = new RawReader(near);
    far.resume().end('all');
    const closed = [once(near, 'close'), once(far, 'close')];
    assert.equal(await reader.over, 'all');
    await Promise.all(closed);
  });

  it('refuses sizes and intervals that are none', async () => {
    const reader = new RawReader(new PassThrough());
    assert.throws(() => reader.drip({ bytes: 0, interval: 1 }), /`bytes` must be a whole number ≥ 1, got 0/);
    assert.throws(
      () => reader.drip({ bytes: 1, interval: 0 }),
      /`interval` must be a number above 0, .* got 0/,
    );
    assert.throws(() => reader.drip({ bytes: 1, interval: 2 ** 31 }), /`interval` must be .* got 2147483648/);
    assert.throws(() => reader.cutAfter(-1), /`bytes` must be a whole number ≥ 0, got -1/);
  });
});

describe('Reading', () => {
  it('waits for a part or for a condition', async () => {
    const source = new PassThrough();
    const reading = new Reading(source);
    source.write('on');
    source.write('e');
    assert.equal(await reading.until('one'), 'one');
    assert.equal(await reading.until(({ text }) => text.length === 3), reading);
  });

  it('says what came, where the rest did not come in time or before the end', async () => {
    const source = new PassThrough();
    const reading = new Reading(source, { timeout: 20 });
    source.write('some');
    await assert.rejects(reading.until('more'), /^Error: "more" did not come within 20 ms, after "some"$/);
    const waiting = assert.rejects(reading.until('more'), /"more" did not come before the end, after "some"/);
    source.end();
    await waiting;
    assert.equal(await reading.over, 'some');
  });

  it('is over where its source was over before', async () => {
    const ended = new PassThrough();
    ended.resume().end();
    await once(ended, 'end');
    const closed = new PassThrough().destroy();
    await once(closed, 'close');
    for (const source of [ended, closed]) {
      const reading = new Reading(source);
      assert.equal(await reading.over, '');
      await assert.rejects(reading.until('more'), /^Error: "more" did not come before the end, after ""$/);
    }
  });

  it('refuses a timeout that is none', () => {
    for (const timeout of [0, -1, Number.NaN])
      assert.throws(() => new Reading(new PassThrough(), { timeout }), /`timeout` must be .* got/);
  });

  it('joins characters that arrive in two pieces', async () => {
    const source = new PassThrough();
    const reading = new Reading(source);
    const bytes = Buffer.from('ä');
    source.write(bytes.subarray(0, 1));
    source.end(bytes.subarray(1));
    assert.equal(await reading.over, 'ä');
  });
});
