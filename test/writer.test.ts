import assert from 'node:assert/strict';
import { type EventEmitter, getEventListeners, once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import { createServer as createTcpServer, type Socket } from 'node:net';
import { PassThrough, Writable } from 'node:stream';
import { afterEach, describe, it, type TestContext } from 'node:test';
import { type ClosedError, Writer, type WriterOptions, type WriterTarget } from '../lib/writer.ts';
import { fakeTime } from './helpers/clock.ts';
import { collectGarbage } from './helpers/garbage.ts';
import { activeResources } from './helpers/handles.ts';
import { dial, request } from './helpers/raw.ts';
import { Reading } from './helpers/reader.ts';
import { listen } from './helpers/server.ts';

const KIB = 1024;

/** What a write that waits counts beside its bytes. */
const OVERHEAD = 320;

const bytes = (text: string): Uint8Array => Buffer.from(text);

/** A client that takes no more after one byte, until it reads. */
const slowClient = (): PassThrough => new PassThrough({ highWaterMark: 1 });

/** Reads a target to its end. */
const textOf = async (target: PassThrough): Promise<string> => {
  let text = '';
  for await (const piece of target) text += piece;
  return text;
};

const listenersOf = (emitter: EventEmitter): string[] =>
  emitter.eventNames().flatMap((name) => Array(emitter.listenerCount(name)).fill(String(name)));

const made: Writer[] = [];

function writerOn(target: WriterTarget, options?: WriterOptions): Writer {
  const writer = new Writer(target, options);
  made.push(writer);
  return writer;
}

// All writers share one timer: the writers of one test must not keep it running for the next.
afterEach(() => {
  for (const writer of made.splice(0)) writer.abort();
});

describe('Writer.write', () => {
  it('returns what the target returns, and emits drain after it', async () => {
    const client = slowClient();
    const writer = writerOn(client);
    assert.equal(writer.writableNeedDrain, false);
    assert.equal(writer.write(bytes('a')), false);
    assert.equal(writer.writableNeedDrain, true);
    const drained = once(writer, 'drain');
    client.read();
    await drained;
    assert.equal(writer.writableNeedDrain, false);
    assert.equal(writerOn(new PassThrough()).write(bytes('a')), true);
  });

  it('loses nothing and keeps the order when writes follow a refusal', async () => {
    const client = slowClient();
    const writer = writerOn(client);
    let written = '';
    for (let i = 0; i < 100; i++) {
      written += `${i},`;
      writer.write(bytes(`${i},`));
    }
    writer.end();
    assert.equal(await textOf(client), written);
    assert.equal(await writer.done, 'ended');
  });

  it('emits one drain, however many writes were refused', async () => {
    const client = slowClient();
    const writer = writerOn(client);
    let drains = 0;
    writer.on('drain', () => drains++);
    for (let i = 0; i < 5; i++) writer.write(bytes('a'));
    client.resume();
    await once(writer, 'drain');
    assert.equal(await writer.ready(), true);
    assert.equal(drains, 1);
  });

  it('emits no drain after the end', async () => {
    const client = slowClient();
    const writer = writerOn(client);
    let drains = 0;
    writer.on('drain', () => drains++);
    for (let i = 0; i < 5; i++) writer.write(bytes('a'));
    writer.end();
    // A Writable emits no drain then, but other targets may.
    client.emit('drain');
    client.resume();
    await writer.done;
    assert.equal(drains, 0);
  });

  it('counts the bytes that it accepted and those that wait', () => {
    const client = slowClient();
    const writer = writerOn(client);
    for (const text of ['é', '😀', 'abc']) writer.write(bytes(text));
    assert.equal(writer.bytesWritten, 9);
    assert.equal(writer.writableLength, client.writableLength);
  });

  it('throws a TypeError for anything but bytes', () => {
    const writer = writerOn(new PassThrough());
    for (const chunk of ['text', null, undefined, 5, [1], new ArrayBuffer(1)]) {
      assert.throws(() => writer.write(chunk as never), {
        name: 'TypeError',
        message: /^`chunk` must be bytes/,
      });
    }
    assert.equal(writer.bytesWritten, 0);
  });

  it('writes nothing after the end, and does not throw', async () => {
    const client = new PassThrough();
    const writer = writerOn(client);
    writer.write(bytes('a'));
    writer.end();
    assert.equal(writer.write(bytes('b')), false);
    assert.equal(await textOf(client), 'a');
    assert.equal(writer.write(bytes('c')), false);
    assert.equal(writer.bytesWritten, 1);
  });

  it('waits for no drain when the client closes during the write', (t) => {
    const time = fakeTime(t);
    const client = slowClient();
    const writer = writerOn(client);
    client.write = () => {
      writer.abort('client-gone');
      return false;
    };
    assert.equal(writer.write(bytes('a')), false);
    assert.equal(client.listenerCount('drain'), 0);
    assert.deepEqual(time.intervals, []);
  });
});

describe('maxBufferedBytes of Writer', () => {
  it('ends in slow-consumer at the first byte too many, and drops what waits', async () => {
    const client = slowClient();
    // Two writes wait.
    const maxBufferedBytes = 10 + 2 * OVERHEAD;
    const writer = writerOn(client, { maxBufferedBytes });
    writer.write(bytes('.'));
    const room = 10 - writer.writableLength;
    assert.equal(writer.write(Buffer.alloc(room)), false);
    assert.equal(writer.closed, false);
    assert.equal(writer.write(Buffer.alloc(1)), false);
    assert.equal(writer.reason, 'slow-consumer');
    assert.equal(client.destroyed, true);
    assert.equal(writer.bytesWritten, 1 + room);
  });

  it('allows one chunk of any size while nothing waits', async () => {
    const client = slowClient();
    const writer = writerOn(client, { maxBufferedBytes: 10 });
    writer.write(Buffer.alloc(1000));
    assert.equal(writer.closed, false);
    client.resume();
    await once(writer, 'drain');
    writer.write(Buffer.alloc(1000));
    assert.equal(writer.closed, false);
  });

  it('counts bytes, not characters', () => {
    const writer = writerOn(slowClient(), { maxBufferedBytes: 10 + 3 * OVERHEAD });
    writer.write(bytes('.'));
    writer.write(bytes('€€'));
    assert.equal(writer.closed, false);
    writer.write(bytes('€€'));
    assert.equal(writer.reason, 'slow-consumer');
  });

  it('counts what Node holds beside the bytes of each write, so that tiny writes are bounded too', () => {
    for (const size of [0, 1, 12, 100]) {
      const maxBufferedBytes = 64 * KIB;
      const writer = writerOn(slowClient(), { maxBufferedBytes });
      let writes = 0;
      for (; !writer.closed; writes++) writer.write(Buffer.alloc(writes === 0 ? 1 : size));
      const accepted = writes - 1;
      const held = 1 + size * (accepted - 1) + OVERHEAD * accepted;
      assert.ok(
        held <= maxBufferedBytes && held > maxBufferedBytes - 2 * (size + OVERHEAD),
        `${size}: ${held}`,
      );
    }
  });

  it('counts what still waits, however many writes were taken since the refusal', () => {
    const target = slowClient();
    const writer = writerOn(target, { maxBufferedBytes: 8 * KIB });
    writer.write(Buffer.alloc(100));
    // A client that takes bytes, but never all of them, so that no drain comes.
    Object.defineProperty(target, 'writableLength', { get: () => 1000 });
    for (let n = 0; n < 1000; n++) writer.write(Buffer.alloc(100));
    assert.equal(writer.closed, false);
  });
});

describe('Writer.ready', () => {
  it('resolves with true at once while the client takes more', async () => {
    assert.equal(await writerOn(new PassThrough()).ready(), true);
  });

  it('resolves with true at the drain', async () => {
    const client = slowClient();
    const writer = writerOn(client);
    writer.write(bytes('a'));
    const ready = writer.ready();
    client.read();
    assert.equal(await ready, true);
  });

  it('resolves with false when the client leaves', async () => {
    const client = slowClient();
    const writer = writerOn(client);
    writer.write(bytes('a'));
    const ready = writer.ready();
    client.destroy();
    assert.equal(await ready, false);
    assert.equal(await writer.ready(), false);
  });

  it('resolves with false after the end, although bytes still wait', async () => {
    const writer = writerOn(slowClient());
    writer.write(bytes('a'));
    const waiting = writer.ready();
    writer.end();
    assert.equal(await writer.ready(), false);
    writer.abort();
    assert.equal(await waiting, false);
  });

  it('rejects with the reason of its signal', async () => {
    const writer = writerOn(slowClient());
    writer.write(bytes('a'));
    const reason = new Error('enough');
    const controller = new AbortController();
    const ready = writer.ready({ signal: controller.signal });
    controller.abort(reason);
    await assert.rejects(ready, (error) => error === reason);
    await assert.rejects(writer.ready({ signal: AbortSignal.abort(reason) }), (error) => error === reason);
    assert.equal(writer.closed, false);
  });

  it('leaves no listener behind, however the wait ends', async () => {
    const endings: [string, (client: PassThrough, writer: Writer, controller: AbortController) => void][] = [
      ['drain', (client) => client.read()],
      ['close', (client) => client.destroy()],
      [
        'end',
        (client, writer) => {
          writer.end();
          client.resume();
        },
      ],
      ['abort', (_client, writer) => writer.abort()],
      ['signal', (_client, _writer, controller) => controller.abort()],
    ];
    for (const [name, finish] of endings) {
      const client = slowClient();
      const before = listenersOf(client);
      const writer = writerOn(client);
      const controller = new AbortController();
      writer.write(bytes('a'));
      const ready = writer.ready({ signal: controller.signal }).catch(() => 'aborted');
      finish(client, writer, controller);
      await ready;
      assert.deepEqual(listenersOf(writer), [], name);
      assert.equal(getEventListeners(controller.signal, 'abort').length, 0, name);
      writer.abort();
      // The error listener stays, for writes by others after the end.
      assert.deepEqual(listenersOf(client).sort(), [...before, 'error'].sort(), name);
    }
  });

  it('allows many waits at once without a warning from Node', async (t) => {
    const warnings = warningsDuring(t);
    const client = slowClient();
    const writer = writerOn(client);
    writer.write(bytes('a'));
    const crowd = Array.from({ length: 50 }, () => writer.ready());
    client.read();
    assert.deepEqual([...new Set(await Promise.all(crowd))], [true]);
    assert.deepEqual(await warnings(), []);
  });

  it('adds no listeners when it is called again and again', async () => {
    const client = slowClient();
    const writer = writerOn(client);
    client.resume();
    const before = listenersOf(client);
    for (let i = 0; i < 1000; i++) {
      writer.write(bytes('a'));
      assert.equal(await writer.ready(), true);
    }
    assert.deepEqual(listenersOf(client), before);
    assert.deepEqual(listenersOf(writer), []);
  });
});

describe('the end of a Writer', () => {
  it('comes after everything written was handed over', async () => {
    const client = slowClient();
    const writer = writerOn(client);
    for (const text of ['a', 'b', 'c']) writer.write(bytes(text));
    writer.end();
    assert.equal(writer.closed, true);
    assert.equal(writer.reason, undefined, 'bytes are still to be handed over');
    assert.equal(await textOf(client), 'abc');
    assert.equal(await writer.done, 'ended');
    assert.equal(writer.reason, 'ended');
  });

  it('drops what waits when it is an abort', () => {
    const client = slowClient();
    const writer = writerOn(client);
    writer.write(bytes('a'));
    writer.abort('error', 'why');
    assert.deepEqual([writer.closed, writer.reason, writer.cause], [true, 'error', 'why']);
    assert.equal(client.destroyed, true);
  });

  it('is client-gone when the client leaves between `end` and the last byte', async () => {
    const client = slowClient();
    const writer = writerOn(client);
    for (let i = 0; i < 10; i++) writer.write(bytes('a'));
    writer.end();
    client.destroy();
    assert.equal(await writer.done, 'client-gone');
  });

  it('comes at the start when the client has already gone', async () => {
    const client = new Writable({ destroy: (_error, done) => setImmediate(done) });
    client.destroy();
    const leaving = writerOn(client);
    assert.deepEqual([leaving.closed, leaving.reason], [true, 'client-gone']);
    await once(client, 'close');
    for (const writer of [leaving, writerOn(client)]) {
      assert.deepEqual([writer.closed, writer.reason], [true, 'client-gone']);
      assert.equal(writer.write(bytes('a')), false);
      assert.equal(await writer.ready(), false);
      assert.equal(await writer.done, 'client-gone');
      assert.equal(writer.signal.aborted, true);
    }
  });

  it('emits close once, with the first reason', async () => {
    const client = new PassThrough();
    const writer = writerOn(client);
    const reasons: string[] = [];
    writer.on('close', (reason) => reasons.push(reason));
    writer.abort('shutdown');
    writer.abort('error');
    writer.end('idle');
    await once(client, 'close');
    assert.deepEqual(reasons, ['shutdown']);
    assert.equal(await writer.done, 'shutdown');
  });

  it('keeps the first cause, whatever is ended or aborted later', async () => {
    const [first, later] = [new Error('first'), new Error('later')];
    const ended = writerOn(new PassThrough());
    ended.end('error', first);
    ended.end('error', later);
    ended.abort('error', later);
    assert.equal(ended.cause, first);
    const aborted = writerOn(new PassThrough());
    aborted.abort('error', first);
    aborted.abort('error', later);
    aborted.end('error', later);
    assert.equal(aborted.cause, first);
    const finished = writerOn(new PassThrough().resume());
    finished.end();
    await finished.done;
    finished.abort('error', later);
    assert.equal(finished.cause, undefined);
  });

  it('aborts the signal with reason and cause, whether the signal was made before or after', async () => {
    const writer = writerOn(new PassThrough());
    const { signal } = writer;
    assert.equal(signal.aborted, false);
    assert.equal(writer.signal, signal);
    const aborted = once(signal, 'abort');
    writer.abort('error', 'why');
    await aborted;
    const late = writerOn(new PassThrough());
    late.abort('error', 'why');
    assert.equal(late.signal.aborted, true);
    assert.equal(late.signal, late.signal);
    for (const { reason } of [signal, late.signal] as { reason: ClosedError }[]) {
      assert.ok(reason instanceof Error);
      const { code, cause, name } = reason;
      assert.deepEqual(
        { code, cause, name, reason: reason.reason },
        {
          code: 'ERR_SSE_CLOSED',
          cause: 'why',
          name: 'AbortError',
          reason: 'error',
        },
      );
    }
  });

  it('makes no AbortController unless `signal` is read', async (t) => {
    const made = t.mock.method(globalThis, 'AbortController');
    const writer = writerOn(slowClient(), { idleTimeout: 1000 });
    writer.write(bytes('a'));
    writer.abort();
    await writer.done;
    assert.equal(made.mock.callCount(), 0);
    assert.equal(writer.signal.aborted, true);
    assert.equal(made.mock.callCount(), 1);
  });

  it('resolves the promise `done`, whether it was made before or after', async () => {
    const writer = writerOn(new PassThrough());
    const { done } = writer;
    writer.abort('lifetime');
    assert.equal(writer.done, done);
    assert.equal(await done, 'lifetime');
    const late = writerOn(new PassThrough());
    late.abort('lifetime');
    assert.equal(await late.done, 'lifetime');
  });

  it('is client-gone after an error of the target, and later errors are harmless', async () => {
    const failing = new Writable({ write: (_chunk, _encoding, done) => done(new Error('EPIPE')) });
    const writer = writerOn(failing);
    writer.write(bytes('a'));
    assert.equal(await writer.done, 'client-gone');
    failing.write('a');
    failing.emit('error', new Error('another'));
  });
});

describe('the deadlines of a Writer', () => {
  const sweeps = (timeout: number) => 2 * Math.min(1000, timeout / 8);

  it('end it as stalled when no drain follows a refusal within stallTimeout', (t) => {
    const time = fakeTime(t);
    const client = slowClient();
    const writer = writerOn(client, { stallTimeout: 8000 });
    time.advance(100_000);
    writer.write(bytes('a'));
    time.advance(7999);
    assert.equal(writer.closed, false);
    time.advance(1 + sweeps(8000));
    assert.equal(writer.reason, 'stalled');
    assert.equal(client.destroyed, true);
    assert.deepEqual(time.intervals, []);
  });

  it('do not end it as stalled while a slow client takes some bytes', (t) => {
    const time = fakeTime(t);
    const client = slowClient();
    const writer = writerOn(client, { stallTimeout: 8000 });
    for (let i = 0; i < 10; i++) writer.write(bytes('a'));
    for (let i = 0; i < 5; i++) {
      time.advance(7000 - sweeps(8000));
      client.read();
    }
    assert.equal(writer.closed, false);
    assert.equal(writer.writableNeedDrain, true);
    time.advance(8000 + sweeps(8000));
    assert.equal(writer.reason, 'stalled');
  });

  it('start anew after a drain', async (t) => {
    const time = fakeTime(t);
    const client = slowClient();
    const writer = writerOn(client, { stallTimeout: 8000 });
    for (let i = 0; i < 3; i++) {
      writer.write(bytes('a'));
      time.advance(7000);
      const drained = once(writer, 'drain');
      client.read();
      await drained;
      assert.deepEqual(time.intervals, [], 'no timer while nothing waits');
    }
    assert.equal(writer.closed, false);
  });

  it('cut off a client that does not take the rest after the end', (t) => {
    const time = fakeTime(t);
    const client = slowClient();
    const writer = writerOn(client, { stallTimeout: 8000 });
    for (let i = 0; i < 10; i++) writer.write(bytes('a'));
    writer.end();
    client.emit('drain');
    time.advance(7000);
    assert.equal(writer.reason, undefined);
    time.advance(1000 + sweeps(8000));
    assert.equal(writer.reason, 'stalled');
    assert.equal(client.destroyed, true);
    assert.deepEqual(time.intervals, []);
  });

  it('cut off a client that took everything but the end', (t) => {
    const time = fakeTime(t);
    const client = new Writable({ final: () => {} });
    const writer = writerOn(client, { stallTimeout: 8000 });
    writer.end();
    time.advance(8000 + sweeps(8000));
    assert.equal(writer.reason, 'stalled');
    assert.equal(client.destroyed, true);
  });

  it('are kept however many writers come later', (t) => {
    const time = fakeTime(t);
    const writer = writerOn(slowClient(), { stallTimeout: 8000 });
    writer.write(bytes('a'));
    for (let passed = 0; passed < 8000 + sweeps(8000); passed += 500) {
      writerOn(slowClient(), { stallTimeout: 8000 }).write(bytes('a'));
      time.advance(500);
    }
    assert.equal(writer.reason, 'stalled');
  });

  it('do not end a stalled writer where stallTimeout is Infinity', (t) => {
    const time = fakeTime(t);
    const writer = writerOn(slowClient(), { stallTimeout: Infinity });
    writer.write(bytes('a'));
    time.advance(1e9);
    assert.equal(writer.closed, false);
    writer.end();
    assert.deepEqual(time.intervals, []);
  });

  it('end it as idle when nothing was written for idleTimeout', async (t) => {
    const time = fakeTime(t);
    const client = new PassThrough();
    const writer = writerOn(client, { idleTimeout: 8000 });
    for (let i = 0; i < 5; i++) {
      time.advance(7900);
      assert.equal(writer.closed, false);
      writer.write(bytes('data: x\n\n'));
    }
    time.advance(8000 + sweeps(8000));
    assert.equal(writer.closed, true);
    assert.equal(await writer.done, 'idle');
    assert.equal(client.writableEnded, true, 'ended, not cut off');
  });

  it('do not count comments as activity', async (t) => {
    const time = fakeTime(t);
    const writer = writerOn(new PassThrough(), { idleTimeout: 8000 });
    for (let i = 0; i < 16; i++) {
      time.advance(500 + sweeps(8000) / 16);
      writer.write(bytes(':\n\n'));
    }
    time.advance(sweeps(8000));
    assert.equal(await writer.done, 'idle');
  });

  it('count an event that begins with a comment as activity', async (t) => {
    const time = fakeTime(t);
    const writer = writerOn(new PassThrough(), { idleTimeout: 8000 });
    for (const text of [': topic a\nid: 1-1\ndata: x\n\n', ': a\n: b\n\ndata: x\n\n', ': a\ndata: x']) {
      time.advance(7900);
      writer.write(bytes(text));
      assert.equal(writer.closed, false);
    }
    for (const text of [
      ': ping\n\n',
      ': a\n: b\n\n: c',
      ':\nid: 1-1\nevent: sluice:position\ndata: {}\n\n',
    ]) {
      time.advance((8000 + sweeps(8000)) / 3);
      writer.write(bytes(text));
    }
    time.advance(sweeps(8000));
    assert.equal(await writer.done, 'idle');
  });

  it('need no timer where there is no maxAge, whatever its spread', (t) => {
    fakeTime(t);
    t.mock.method(Math, 'random', () => 0);
    const timers = t.mock.method(globalThis, 'setInterval');
    const writer = writerOn(new PassThrough(), { maxAgeJitter: 1 });
    writer.write(bytes('data: x\n\n'));
    assert.equal(timers.mock.callCount(), 0);
  });

  it('end it at maxAge, however busy it is', async (t) => {
    const time = fakeTime(t);
    const client = new PassThrough();
    const writer = writerOn(client, { maxAge: 80_000, maxAgeJitter: 0 });
    for (let i = 0; i < 79; i++) {
      time.advance(1000);
      writer.write(bytes('data: x\n\n'));
    }
    assert.equal(writer.closed, false);
    time.advance(1000 + sweeps(80_000));
    assert.equal(await writer.done, 'lifetime');
    assert.equal(client.writableEnded, true, 'ended, not cut off');
  });

  it('vary maxAge by its jitter, up and down', (t) => {
    const time = fakeTime(t);
    const random = t.mock.method(Math, 'random', () => 0);
    const early = writerOn(new PassThrough(), { maxAge: 80_000, maxAgeJitter: 0.5 });
    random.mock.mockImplementation(() => 1 - Number.EPSILON);
    const late = writerOn(new PassThrough(), { maxAge: 80_000, maxAgeJitter: 0.5 });
    time.advance(39_999);
    assert.deepEqual([early.closed, late.closed], [false, false]);
    time.advance(1 + sweeps(40_000));
    assert.deepEqual([early.closed, late.closed], [true, false]);
    time.advance(80_000 - 2 * sweeps(40_000));
    assert.equal(late.closed, false);
    time.advance(2 * sweeps(40_000) + sweeps(80_000));
    assert.equal(late.closed, true);
  });

  it('may be zero', async (t) => {
    const time = fakeTime(t);
    const zeros = { idleTimeout: 0 } satisfies WriterOptions;
    const idle = writerOn(new PassThrough(), zeros);
    const old = writerOn(new PassThrough(), { maxAge: 0 });
    const stalled = writerOn(slowClient(), { stallTimeout: 0 });
    stalled.write(bytes('a'));
    time.advance(20);
    assert.deepEqual([await idle.done, await old.done, await stalled.done], ['idle', 'lifetime', 'stalled']);
  });

  it('need one timer for all writers, and none after the last has closed', async (t) => {
    const time = fakeTime(t);
    const writers = Array.from({ length: 100 }, () => writerOn(new PassThrough(), { idleTimeout: 60_000 }));
    writers.push(writerOn(new PassThrough(), { maxAge: 800 }), writerOn(new PassThrough(), { maxAge: 1e6 }));
    assert.deepEqual(time.intervals.length, 1);
    for (const writer of writers) writer.abort();
    assert.deepEqual(time.intervals, []);
  });

  it('slow the timer down after the writer with the shortest deadline has closed', async (t) => {
    const time = fakeTime(t);
    writerOn(new PassThrough(), { maxAge: 60_000 });
    const brief = writerOn(new PassThrough(), { maxAge: 80, maxAgeJitter: 0 });
    assert.deepEqual(time.intervals, [10]);
    time.advance(200);
    assert.equal(await brief.done, 'lifetime');
    time.advance(10);
    assert.deepEqual(time.intervals, [1000]);
  });

  it('need no timer where there are none', (t) => {
    const time = fakeTime(t);
    const writer = writerOn(new PassThrough());
    writer.write(bytes('a'));
    assert.deepEqual(time.intervals, []);
  });

  it('do not speed the timer up when maxAge comes near', (t) => {
    const time = fakeTime(t);
    const writer = writerOn(slowClient(), { maxAge: 3_600_000, maxAgeJitter: 0 });
    time.advance(3_599_900);
    writer.write(bytes('a'));
    assert.deepEqual(time.intervals, [1000]);
    writer.abort();
  });

  it('keep no process alive', (t) => {
    const started = t.mock.method(globalThis, 'setInterval');
    const before = activeResources();
    const writer = writerOn(new PassThrough(), { maxAge: 1e6 });
    const timers = started.mock.calls.map(({ result }) => result);
    assert.deepEqual(
      timers.map((timer) => timer?.hasRef()),
      [false],
    );
    assert.deepEqual(activeResources(), before);
    writer.abort();
  });
});

describe('the option `signal` of Writer', () => {
  it('ends the writer when it fires, with its reason as the cause', async () => {
    const controller = new AbortController();
    const client = new PassThrough();
    const writer = writerOn(client, { signal: controller.signal });
    writer.write(bytes('a'));
    controller.abort('because');
    assert.equal(writer.closed, true);
    assert.equal(await textOf(client), 'a', 'ended, not cut off');
    assert.deepEqual([await writer.done, writer.cause], ['aborted', 'because']);
  });

  it('ends the writer at once when it has already fired', async () => {
    const writer = writerOn(new PassThrough(), { signal: AbortSignal.abort('because') });
    assert.deepEqual([await writer.done, writer.cause], ['aborted', 'because']);
  });

  it('gets one listener from a thousand writers that share it', async (t) => {
    const warnings = warningsDuring(t);
    const { signal } = new AbortController();
    const writers = Array.from({ length: 1000 }, () => writerOn(new PassThrough(), { signal }));
    assert.equal(getEventListeners(signal, 'abort').length, 1);
    for (const writer of writers) writer.abort();
    assert.equal(getEventListeners(signal, 'abort').length, 0);
    assert.deepEqual(await warnings(), []);
  });

  it('ends all writers that share it, including those made after another has closed', async () => {
    const controller = new AbortController();
    const { signal } = controller;
    writerOn(new PassThrough(), { signal }).abort();
    const writers = Array.from({ length: 3 }, () => writerOn(new PassThrough(), { signal }));
    writers[1]?.abort('error');
    controller.abort();
    assert.deepEqual(await Promise.all(writers.map(({ done }) => done)), ['aborted', 'error', 'aborted']);
    assert.equal(getEventListeners(signal, 'abort').length, 0);
  });

  it('may be an AbortSignal.timeout that no other object refers to', async (t) => {
    // The timer of such a signal does not keep the test's process alive.
    const alive = setInterval(() => {}, 1000);
    t.after(() => clearInterval(alive));
    const writer = writerOn(new PassThrough(), { signal: AbortSignal.timeout(30) });
    collectGarbage();
    assert.equal(await writer.done, 'aborted');
    assert.equal((writer.cause as Error).name, 'TimeoutError');
  });
});

describe('the options of Writer', () => {
  it('are refused out of range, naming option and value, before the target is touched', () => {
    const refused: [keyof WriterOptions, unknown[]][] = [
      ['maxBufferedBytes', [0, -1, NaN, '5']],
      ['stallTimeout', [-1, NaN, 2 ** 31, '5']],
      ['idleTimeout', [-1, NaN, 2 ** 31, '5']],
      ['maxAge', [-1, NaN, 2 ** 31, '5']],
      ['maxAgeJitter', [-0.1, 1.1, NaN, '0.1']],
    ];
    for (const [name, values] of refused) {
      for (const value of values) {
        const target = new PassThrough();
        const before = listenersOf(target);
        assert.throws(() => new Writer(target, { [name]: value }), {
          name: 'RangeError',
          message: new RegExp(`^\`${name}\` must be .*, got ${value}$`),
        });
        assert.deepEqual(listenersOf(target), before);
      }
    }
  });

  it('are refused with a signal that is not an AbortSignal, before the target is touched', () => {
    for (const signal of [{}, 'x', 5, null, new AbortController()] as never[]) {
      const target = new PassThrough();
      const before = listenersOf(target);
      assert.throws(() => new Writer(target, { signal }), {
        name: 'TypeError',
        message: /^`signal` must be/,
      });
      assert.deepEqual(listenersOf(target), before);
    }
  });

  it('may be the longest duration of a timer, and Infinity', () => {
    for (const most of [2 ** 31 - 1, Infinity]) {
      writerOn(new PassThrough(), { stallTimeout: most, idleTimeout: most, maxAge: most }).abort();
    }
  });
});

// 16 MiB is more than the kernel keeps for a client on the loopback that does not read.
const BULK = Buffer.alloc(64 * KIB, '.');
const MANY = 256;

describe('Writer on a socket', () => {
  it('is refused while the client does not read, and continues when it does', async (t) => {
    const { socket, client } = await pair(t);
    const writer = writerOn(socket);
    let sent = 0;
    const fill = () => {
      for (let takes = true; takes; sent++) takes = writer.write(BULK);
    };
    fill();
    const drained = once(writer, 'drain');
    let received = 0;
    client.on('data', ({ length }) => {
      received += length;
    });
    await drained;
    fill();
    writer.end();
    await once(client, 'end');
    assert.equal(received, sent * BULK.length);
    assert.equal(await writer.done, 'ended');
  });

  it('keeps to maxBufferedBytes while the client does not read', async (t) => {
    const { socket } = await pair(t);
    const writer = writerOn(socket, { maxBufferedBytes: 256 * KIB });
    let most = 0;
    for (let i = 0; i < MANY * 4 && !writer.closed; i++) {
      writer.write(BULK);
      most = Math.max(most, writer.writableLength);
    }
    assert.equal(await writer.done, 'slow-consumer');
    assert.ok(most <= 256 * KIB, `${most} bytes waited`);
    assert.equal(socket.destroyed, true);
  });

  it('is client-gone after a reset', async (t) => {
    const { socket, client } = await pair(t);
    const writer = writerOn(socket);
    assert.equal(writer.write(Buffer.alloc(16 * 1024 * KIB)), false);
    const waiting = writer.ready();
    client.resetAndDestroy();
    assert.equal(await writer.done, 'client-gone');
    // Some versions of Node emit a drain before the close, for bytes that the reset discarded.
    await waiting;
    assert.equal(await writer.ready(), false);
  });
});

describe('Writer on a ServerResponse', () => {
  it('writes, is refused, drains and ends', async (t) => {
    const { response, client } = await responding(t);
    const writer = writerOn(response);
    for (let takes = true; takes; ) takes = writer.write(BULK);
    const reading = new Reading(client);
    await once(writer, 'drain');
    assert.ok(writer.bytesWritten >= BULK.length);
    writer.write(bytes('the last'));
    writer.end();
    assert.equal(await writer.done, 'ended');
    await reading.until('the last');
  });

  it('is client-gone when the client leaves, in any way', async (t) => {
    const ways: ((client: Socket) => unknown)[] = [
      (client) => client.destroy(),
      (client) => client.resetAndDestroy(),
      (client) => client.end(),
    ];
    for (const leave of ways) {
      const { response, client } = await responding(t);
      const writer = writerOn(response);
      writer.write(bytes('a'));
      client.resume();
      leave(client);
      assert.equal(await writer.done, 'client-gone');
    }
  });

  it('leaves a write by others after the end harmless', async (t) => {
    const { response, client } = await responding(t);
    client.resume();
    const writer = writerOn(response);
    writer.end();
    const failed = once(response, 'error');
    response.write('too late');
    const [error] = await failed;
    assert.equal(error.code, 'ERR_STREAM_WRITE_AFTER_END');
    assert.equal(await writer.done, 'ended');
  });
});

async function pair(t: TestContext): Promise<{ socket: Socket; client: Socket }> {
  const server = createTcpServer();
  const connection = once(server, 'connection') as Promise<[Socket]>;
  const client = await dial(t, await listen(t, server));
  const [socket] = await connection;
  return { socket, client };
}

async function responding(t: TestContext): Promise<{ response: ServerResponse; client: Socket }> {
  const server = createServer();
  const asked = once(server, 'request') as Promise<[unknown, ServerResponse]>;
  const client = await dial(t, await listen(t, server));
  client.write(request());
  const [, response] = await asked;
  return { response, client };
}

/** Collects the process's warnings from now on; the function returned waits for the last of them. */
function warningsDuring(t: TestContext): () => Promise<string[]> {
  const messages: string[] = [];
  const listener = ({ name, message }: Error) => messages.push(`${name}: ${message}`);
  process.on('warning', listener);
  t.after(() => process.off('warning', listener));
  return async () => {
    // Node emits warnings on the next tick.
    await new Promise((resolve) => setImmediate(resolve));
    return messages;
  };
}
