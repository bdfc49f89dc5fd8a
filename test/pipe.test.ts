import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';
import { createServer, type RequestListener } from 'node:http';
import { Readable } from 'node:stream';
import { describe, it, type TestContext } from 'node:test';
import { connect } from '../lib/client.ts';
import { decode } from '../lib/decode.ts';
import type { PipeDialect, PipeOptions, PipeSource } from '../lib/pipe.ts';
import { type EventStream, openStream } from '../lib/stream.ts';
import { request } from './helpers/raw.ts';
import { parse, Reading } from './helpers/reader.ts';
import { listen } from './helpers/server.ts';
import { fetchFrom, streaming } from './helpers/streaming.ts';

// More than the kernel keeps for a client on the loopback that does not read.
const BULK_BYTES = 16 * 1024 * 1024;

const ID = '1795408776829004-7';

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

const serving = (t: TestContext, handler: RequestListener): Promise<number> =>
  listen(t, createServer(handler));

const FINISHED = { id: undefined, event: 'sluice:end', data: '{}' };
const FAILED = {
  id: undefined,
  event: 'sluice:error',
  data: '{"message":"the source of this stream failed"}',
};

/** The first half of a character. */
const HALF = '\ud83d';

const message = (data: string) => ({ id: undefined, event: undefined, data });

describe('pipe', () => {
  async function piped<Value>(t: TestContext, source: PipeSource<Value>, options: PipeOptions<Value> = {}) {
    let piping: Promise<unknown[]> | undefined;
    const port = await serving(t, (req, res) => {
      const stream = openStream(req, res);
      piping = stream.pipe(source, options as PipeDialect<Value>).then((reason) => [reason, stream.cause]);
    });
    const { body } = await fetchFrom(t, port);
    const { frames, errors } = parse(await body.over);
    assert.deepEqual(errors, []);
    return { frames, result: await piping };
  }

  async function* events() {
    yield 'text';
    yield { id: ID, event: 'e', data: 'two\nlines' };
  }
  const frames = [message('text'), { id: ID, event: 'e', data: 'two\nlines' }];

  const sources: [string, () => PipeSource][] = [
    ['an async generator', events],
    ['an array', () => ['text', { id: ID, event: 'e', data: 'two\nlines' }]],
    ['a Readable', () => Readable.from(events())],
    ['a ReadableStream', () => ReadableStream.from(events())],
  ];
  for (const [name, source] of sources) {
    it(`sends what ${name} yields, then one last event`, async (t) => {
      assert.deepEqual(await piped(t, source()), {
        frames: [...frames, FINISHED],
        result: ['ended', undefined],
      });
    });
  }

  it('sends the event of option `end` instead, or none where it is null', async (t) => {
    const end = { event: 'done', data: 'bye' };
    const own = await piped(t, events(), { end });
    assert.deepEqual(own.frames, [...frames, { id: undefined, ...end }]);
    assert.deepEqual((await piped(t, events(), { end: null })).frames, frames);
  });

  it('relays the events of another server that `connect` reads, whether their data is JSON or not', async (t) => {
    const origin = await serving(t, (_, res) => {
      res.writeHead(200, { 'content-type': 'text/event-stream' });
      res.end(`id: ${ID}\nevent: tick\ndata: {"price":7}\n\ndata: [DONE]\n\n`);
    });
    const source = connect(`http://127.0.0.1:${origin}`, { shouldRetry: () => false });
    const { frames, result } = await piped(t, source);
    assert.deepEqual(result, ['ended', undefined]);
    assert.deepEqual(
      frames.map(({ event, data }) => [event, data]),
      [
        ['tick', '{"price":7}'],
        [undefined, '[DONE]'],
        ['sluice:end', '{}'],
      ],
    );
  });

  it('relays the events of `decode` as they came: with long ids, and without a type that was not there', async (t) => {
    const place = JSON.stringify([{ topic: 'eqiad.mediawiki.recentchange', offset: '0'.repeat(100) }]);
    assert.ok(place.length > 128);
    const text = `id: ${place}\nevent: tick\ndata: {}\n\ndata: one\ndata: two\n\ndata: \n\n`;
    const { frames, result } = await piped(t, decode([Buffer.from(text)]), { end: null });
    assert.deepEqual(frames, [{ id: place, event: 'tick', data: '{}' }, message('one\ntwo'), message('')]);
    assert.deepEqual(result, ['ended', undefined]);
  });

  it('relays comments where `onComment` of `decode` sends them on', async (t) => {
    const source = ['data: a\n\n', ': kept alive\n:\n\n', 'event: e\n: within\ndata: b\n\n'];
    const { stream, client } = await streaming(t, {}, request('GET / HTTP/1.0'));
    const onComment = (comment: string) => stream.send({ comment });
    await stream.pipe(decode(source, { onComment }), { end: null });
    const text = await new Reading(client).over;
    assert.equal(
      text.slice(text.indexOf('\r\n\r\n') + 4),
      'data: a\n\n: kept alive\n: \n: within\nevent: e\ndata: b\n\n',
    );
  });

  it('keeps the type `message` of an event that the source has made', async (t) => {
    const { frames } = await piped(t, [{ event: 'message', data: 'x' }], { end: null });
    assert.deepEqual(frames, [{ id: undefined, event: 'message', data: 'x' }]);
  });

  const HAND = '\u{1f44b}';
  const [HIGH, LOW] = [HAND[0]!, HAND[1]!];
  const cuts: [string, PipeSource, string[]][] = [
    ['is cut between two strings', [`hi ${HIGH}`, `${LOW}!`], ['hi ', `${HAND}!`]],
    ['is cut into two strings of their own', ['a', HIGH, LOW, 'b'], ['a', HAND, 'b']],
    ['is cut, with an empty string between', [HIGH, '', `${LOW}b`], ['', `${HAND}b`]],
    ['lacks its second half at the end', [`a${HIGH}`], ['a', '\ufffd']],
    ['lacks its second half before a string', [`a${HIGH}`, 'b'], ['a', '\ufffdb']],
    [
      'lacks its second half before an event',
      [`a${HIGH}`, { data: 'b' }, LOW],
      ['a', '\ufffd', 'b', '\ufffd'],
    ],
    ['lacks its first half', [`${LOW}a`, `b${LOW}${HIGH}c`], ['\ufffda', 'b\ufffd\ufffdc']],
    ['is whole', [HAND, `${HAND}${HAND}`], [HAND, `${HAND}${HAND}`]],
  ];
  for (const [what, source, expected] of cuts) {
    it(`sends every character of strings once, and U+FFFD for half a one: a character that ${what}`, async (t) => {
      const { frames, result } = await piped(t, source, { end: null });
      assert.deepEqual(
        frames.map(({ data }) => data),
        expected,
      );
      assert.deepEqual(result, ['ended', undefined]);
    });
  }

  it('sends the text of any strings, however they are cut', async (t) => {
    const text = 'a\u{1f44b}b\u{1f600}\u{1f601}ü\u2028';
    for (let size = 1; size <= 4; size++) {
      const pieces: string[] = [];
      for (let at = 0; at < text.length; at += size) pieces.push(text.slice(at, at + size));
      const { frames } = await piped(t, pieces, { end: null });
      assert.equal(frames.map(({ data }) => data).join(''), text, `${size}`);
    }
  });

  it('sends what option `event` makes of each value: one event, several, or none', async (t) => {
    const event = (value: number | string) =>
      typeof value === 'string'
        ? [{ event: 'text', data: value }, { data: 'more' }]
        : value === 0
          ? []
          : { json: value };
    const { frames } = await piped(t, ['a', 0, 7], { event });
    assert.deepEqual(frames, [
      { id: undefined, event: 'text', data: 'a' },
      message('more'),
      message('7'),
      FINISHED,
    ]);
  });

  it('gives option `event` strings of whole characters, and U+FFFD for a half one at the end', async (t) => {
    const given: unknown[] = [];
    const event = (value: unknown) => {
      given.push(value);
      return { json: value };
    };
    await piped(t, [`hi ${HIGH}`, `${LOW}!`, HIGH, 5, `${LOW}${HIGH}`], { event });
    assert.deepEqual(given, ['hi ', `${HAND}!`, '\ufffd', 5, '\ufffd', '\ufffd']);
  });

  it('sends what option `end` returns where it is a function, called once the source has ended', async (t) => {
    let yielded = 0;
    function* source() {
      while (yielded < 2) yield `${++yielded}`;
    }
    const end = () => [{ event: 'count', json: yielded }, { data: 'bye' }];
    const { frames } = await piped(t, source(), { end });
    assert.deepEqual(frames, [
      message('1'),
      message('2'),
      { id: undefined, event: 'count', data: '2' },
      message('bye'),
    ]);
    assert.deepEqual((await piped(t, ['a'], { end: () => [] })).frames, [message('a')]);
  });

  it('sends only the last event for an empty source', async (t) => {
    assert.deepEqual((await piped(t, [])).frames, [FINISHED]);
  });

  it('calls `return` of an iterator that it stops reading, but not of one that has finished or failed', async (t) => {
    let returned = 0;
    const counting = (count: number) => ({
      [Symbol.asyncIterator]: () => ({
        next: async () => ({ done: count-- === 0, value: '.'.repeat(1000) }),
        return: async () => {
          returned++;
          return { done: true as const, value: undefined };
        },
      }),
    });
    await piped(t, counting(2));
    const failing = counting(2)[Symbol.asyncIterator]();
    failing.next = () => Promise.reject(new Error('no'));
    await piped(t, { [Symbol.asyncIterator]: () => failing });
    assert.equal(returned, 0);
    const { stream, client } = await streaming(t);
    const piping = stream.pipe(counting(Infinity));
    await once(client, 'readable');
    client.destroy();
    assert.equal(await piping, 'client-gone');
    assert.equal(returned, 1);
  });

  it('takes no more from a source than the client reads', async (t) => {
    const { stream, client } = await streaming(t);
    let yielded = 0;
    async function* source() {
      for (; yielded < 4; yielded++) yield '.'.repeat(BULK_BYTES);
    }
    const piping = stream.pipe(source());
    while (!stream.writableNeedDrain) await turn();
    const before = yielded;
    for (let i = 0; i < 50; i++) await turn();
    assert.equal(yielded, before, 'the source must wait');
    assert.ok(stream.writableLength < 2 * BULK_BYTES, `${stream.writableLength} bytes wait`);
    client.resume();
    assert.equal(await piping, 'ended');
    assert.equal(yielded, 4);
  });

  it('lets the event loop turn while a source never waits', async (t) => {
    const { stream, client } = await streaming(t);
    client.resume();
    let turns = 0;
    let counting = true;
    const count = () => {
      turns++;
      if (counting) setImmediate(count);
    };
    async function* source() {
      setImmediate(count);
      for (let i = 0; i < 1000; i++) yield '.'.repeat(1000);
      counting = false;
    }
    await stream.pipe(source(), { end: null });
    assert.ok(turns > 5, `a million bytes in ${turns} turns`);
  });

  it('lets the event loop turn while a source yields nothing but empty events', async (t) => {
    const { stream, client } = await streaming(t);
    client.resume();
    let turns = 0;
    let counting = true;
    const count = () => {
      turns++;
      if (counting) setImmediate(count);
    };
    function* source() {
      setImmediate(count);
      for (let i = 0; i < 300_000; i++) yield {};
      counting = false;
    }
    await stream.pipe(source(), { end: null });
    assert.ok(turns >= 4, `${turns} turns`);
  });

  it('leaves no listeners behind while it pipes', async (t) => {
    const { stream, res, req, client } = await streaming(t);
    client.resume();
    const counts: number[] = [];
    const count = () => {
      const emitters: EventEmitter[] = [stream, res, req.socket];
      return emitters
        .flatMap((one) => one.eventNames().map((name) => one.listenerCount(name)))
        .reduce((a, b) => a + b);
    };
    async function* source() {
      for (let i = 0; i < 5000; i++) {
        if (i === 10 || i === 4999) {
          await stream.ready();
          counts.push(count());
        }
        yield '.'.repeat(1000);
      }
    }
    await stream.pipe(source());
    assert.equal(counts.length, 2);
    assert.equal(counts[0], counts[1]);
  });

  it('writes what a source yields in one tick at once, in order with what is sent beside it', async (t) => {
    const writes: string[] = [];
    const port = await serving(t, (req, res) => {
      const { write } = res;
      res.write = (chunk: Buffer) => {
        writes.push(chunk.toString());
        return write.call(res, chunk, 'utf8');
      };
      const stream = openStream(req, res);
      async function* source() {
        yield* ['a', 'b', 'c'];
        await turn();
        yield 'd';
        stream.send({ data: 'beside' });
        yield 'e';
        yield 'x'.repeat(40_000);
        yield 'f';
      }
      stream.pipe(source(), { end: null });
    });
    const { body } = await fetchFrom(t, port);
    const expected = ['a', 'b', 'c', 'd', 'beside', 'e', 'x'.repeat(40_000), 'f'].map(message);
    assert.deepEqual(parse(await body.over).frames, expected);
    assert.equal(writes[0], 'data: a\n\ndata: b\n\ndata: c\n\n');
    assert.deepEqual(
      writes.map((text) => parse(text).frames.length),
      [3, 1, 1, 2, 1],
    );
  });

  it('stops when the stream is ended by others, and sends no last event', async (t) => {
    let returned = false;
    const port = await serving(t, (req, res) => {
      const stream = openStream(req, res);
      async function* source() {
        try {
          yield 'a';
          stream.end('shutdown');
          yield 'b';
        } finally {
          returned = true;
        }
      }
      piping = stream.pipe(source());
    });
    let piping: Promise<string> | undefined;
    const { body } = await fetchFrom(t, port);
    assert.deepEqual(parse(await body.over).frames, [message('a')]);
    assert.equal(await piping, 'shutdown');
    assert.equal(returned, true);
  });
});

describe('trap 16: a source that waits when its client leaves', () => {
  it('ends through stream.signal if it is a generator', async (t) => {
    const { stream, client } = await streaming(t);
    const ended = new EventEmitter();
    async function* source() {
      try {
        yield 'x';
        await once(new EventEmitter(), 'never', { signal: stream.signal });
        yield 'never';
      } finally {
        ended.emit('ended');
      }
    }
    const finished = once(ended, 'ended');
    const piping = stream.pipe(source());
    await once(client, 'readable');
    client.destroy();
    assert.equal(await piping, 'client-gone');
    await finished;
  });

  it('does not delay the end of the pipe, even if it is a generator that listens to no signal', async (t) => {
    const { stream, client } = await streaming(t);
    async function* deaf() {
      yield 'x';
      await new Promise(() => {});
    }
    const piping = stream.pipe(deaf());
    await once(client, 'readable');
    client.destroy();
    assert.equal(await piping, 'client-gone');
  });

  it('is destroyed if it is a Readable', async (t) => {
    const { stream, client } = await streaming(t);
    const silent = new Readable({ objectMode: true, read: () => {} });
    silent.push('x');
    const piping = stream.pipe(silent);
    await once(client, 'readable');
    client.destroy();
    assert.equal(await piping, 'client-gone');
    assert.equal(silent.destroyed, true);
  });

  it('is cancelled if it is a ReadableStream', async (t) => {
    const { stream, client } = await streaming(t);
    const cancelled = new EventEmitter();
    const silent = new ReadableStream<string>({
      start: (controller) => controller.enqueue('x'),
      cancel: () => void cancelled.emit('cancelled'),
    });
    const finished = once(cancelled, 'cancelled');
    const piping = stream.pipe(silent);
    await once(client, 'readable');
    client.destroy();
    assert.equal(await piping, 'client-gone');
    await finished;
  });

  it('may fail in `return` without an unhandled rejection', async (t) => {
    const { stream, client } = await streaming(t);
    const source = {
      [Symbol.asyncIterator]: () => ({
        next: () =>
          stream.bytesWritten === 0 ? Promise.resolve({ value: 'x' }) : new Promise<never>(() => {}),
        return: () => Promise.reject(new Error('cannot')),
      }),
    };
    const piping = stream.pipe(source);
    await once(client, 'readable');
    client.destroy();
    assert.equal(await piping, 'client-gone');
    // Node reports unhandled rejections after the microtasks, and the runner fails the test for them.
    await turn();
  });
});

describe('trap 25: a source that fails after the head was sent', () => {
  const failure = new Error('a secret about the database');

  async function* failing() {
    yield 'a';
    throw failure;
  }

  async function failed(t: TestContext, source: PipeSource, options?: Parameters<EventStream['pipe']>[1]) {
    let result: unknown[] = [];
    const finished = new EventEmitter();
    const over = once(finished, 'over');
    const port = await serving(t, async (req, res) => {
      const stream = openStream(req, res);
      result = [await stream.pipe(source, options), stream.cause];
      finished.emit('over');
    });
    const { body } = await fetchFrom(t, port);
    const text = await body.over;
    await over;
    return { text, frames: parse(text).frames, result };
  }

  it('ends the stream with one error event that does not reveal the error', async (t) => {
    const { text, frames, result } = await failed(t, failing());
    assert.deepEqual(frames, [message('a'), FAILED]);
    assert.doesNotMatch(text, /secret/);
    assert.deepEqual(result, ['error', failure]);
  });

  it('ends the stream with the event that option `error` makes, or none where it returns null', async (t) => {
    const error = (cause: unknown) => ({ event: 'oops', data: String(cause === failure) });
    const { frames } = await failed(t, failing(), { error });
    assert.deepEqual(frames, [message('a'), { id: undefined, event: 'oops', data: 'true' }]);
    assert.deepEqual((await failed(t, failing(), { error: () => null })).frames, [message('a')]);
  });

  it('ends the stream with the default error event where option `error` throws or makes an event that cannot be sent', async (t) => {
    const throwing = () => {
      throw new Error('another');
    };
    const unsendable = () => ({ data: failure as never });
    for (const error of [throwing, unsendable]) {
      const { frames, result } = await failed(t, failing(), { error });
      assert.deepEqual(frames, [message('a'), FAILED]);
      assert.deepEqual(result, ['error', failure]);
    }
  });

  it('counts as failed when it yields what cannot be sent', async (t) => {
    const unsendable = [
      { event: 'a\nb', data: 'x' },
      null,
      5,
      Buffer.from('bytes'),
      { data: 5 },
      { data: HALF },
      { event: 'e' },
      new Uint8Array(1),
    ];
    for (const value of unsendable as never[]) {
      const { frames, result } = await failed(t, ['a', value, 'b']);
      assert.deepEqual(frames, [message('a'), FAILED], String(value));
      assert.equal(result[0], 'error');
      assert.ok(result[1] instanceof TypeError);
    }
  });

  it('counts as failed when it yields what would be sent as nothing, so that no answer looks whole without it', async (t) => {
    const given: [unknown, RegExp][] = [
      [Promise.resolve({ data: 'x' }), /got \[object Promise\]: use the option `event`/],
      [{ choices: [], created: 1 }, /got one with `choices` and no field of an event: use the option/],
      [new Map([['data', 'x']]), /got \[object Map\]/],
      [new Error('in place of a throw'), /got \[object Error\]/],
    ];
    for (const [value, expected] of given) {
      const { frames, result } = await failed(t, ['a', value as never, 'b']);
      assert.deepEqual(frames, [message('a'), FAILED]);
      assert.match(String(result[1]), expected);
    }
    const event = async (data: string) => ({ data });
    assert.deepEqual((await failed(t, ['a'], { event } as never)).frames, [FAILED]);
    const error = async () => ({ data: 'a failure' });
    assert.deepEqual((await failed(t, failing(), { error } as never)).frames, [message('a'), FAILED]);
    const { frames } = await failed(t, [{}, { data: undefined }, { id: undefined, event: undefined }]);
    assert.deepEqual(frames, [FINISHED]);
  });

  it('counts as failed, and is stopped, where option `event` throws', async (t) => {
    const refusal = new Error('not this');
    let returned = 0;
    function* source() {
      try {
        yield* ['a', 'b', 'c'];
      } finally {
        returned++;
      }
    }
    const event = (data: string) => {
      if (data === 'b') throw refusal;
      return { data };
    };
    const { frames, result } = await failed(t, source(), { event } as PipeOptions);
    assert.deepEqual(frames, [message('a'), FAILED]);
    assert.deepEqual(result, ['error', refusal]);
    assert.equal(returned, 1);
  });

  it('counts as failed where option `end` throws, also after it has ended by itself', async (t) => {
    const refusal = new Error('too early');
    const end = () => {
      throw refusal;
    };
    const { frames, result } = await failed(t, ['a'], { end });
    assert.deepEqual(frames, [message('a'), FAILED]);
    assert.deepEqual(result, ['error', refusal]);
  });

  it('is stopped when it yields what cannot be sent', async (t) => {
    let returned = 0;
    function* source() {
      try {
        yield { event: 'a\nb', data: 'x' };
      } finally {
        returned++;
      }
    }
    assert.deepEqual((await failed(t, source())).frames, [FAILED]);
    assert.equal(returned, 1);
    const readable = Readable.from([{ data: 5 }, 'b']);
    assert.deepEqual((await failed(t, readable)).frames, [FAILED]);
    assert.equal(readable.destroyed, true);
  });

  it('counts as failed when it is not a source, or the last event cannot be sent', async (t) => {
    for (const source of [null, undefined, 5, {}] as never[]) {
      assert.deepEqual((await failed(t, source)).frames, [FAILED]);
    }
    const { result } = await failed(t, 'hello' as never);
    assert.match(String(result?.[1]), /`source` must be an iterable of events or strings, got string/);
    assert.deepEqual((await failed(t, ['a'], { end: { event: 'a\nb' } })).frames, [message('a'), FAILED]);
  });

  it('does not count as failed when its client leaves, even if it throws because of that', async (t) => {
    const { stream, client } = await streaming(t);
    async function* source() {
      yield 'x';
      await once(new EventEmitter(), 'never', { signal: stream.signal });
    }
    let described = false;
    const error = () => {
      described = true;
      return null;
    };
    const piping = stream.pipe(source(), { error });
    await once(client, 'readable');
    client.destroy();
    assert.equal(await piping, 'client-gone');
    assert.equal(stream.cause, undefined);
    // Its source fails after that.
    await turn();
    assert.equal(described, false, 'no client is left to receive an event');
  });
});
