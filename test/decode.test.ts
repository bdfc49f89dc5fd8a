import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { describe, it } from 'node:test';
import { createParser } from 'eventsource-parser';
import fc from 'fast-check';
import { createDecoder, type DecodedEvent, type DecodeLimits, decode } from '../lib/decode.ts';
import { decoderStream } from '../lib/decoder-stream.ts';
import { encode, type ServerSentEvent } from '../lib/encode.ts';
import { formatCases, type Read } from './fixtures/format.ts';
import { chunksOf, situations } from './fixtures/streams.ts';
import { collectGarbage } from './helpers/garbage.ts';
import { often } from './helpers/long.ts';
import { readByTheStandard } from './helpers/model.ts';
import { serve } from './helpers/server.ts';

const utf8 = new TextEncoder();

function readAll(chunks: Iterable<Uint8Array | string>, limits: DecodeLimits = {}) {
  const reads: Read[] = [];
  const retries: number[] = [];
  const comments: string[] = [];
  const ids: string[] = [];
  const decoder = createDecoder({
    ...limits,
    onEvent: ({ event, data, lastEventId }) => reads.push([event, data, lastEventId]),
    onRetry: (ms) => retries.push(ms),
    onComment: (text) => comments.push(text),
    onId: (id) => ids.push(id),
  });
  for (const chunk of chunks) decoder.feed(chunk);
  return { reads, retries, comments, ids, lastEventId: decoder.lastEventId };
}

const toBytes = (stream: string | Uint8Array): Uint8Array =>
  typeof stream === 'string' ? utf8.encode(stream) : stream;

/** The bytes cut after each byte whose bit is set. */
function cut(bytes: Uint8Array, cuts: bigint): Uint8Array[] {
  const chunks: Uint8Array[] = [];
  let from = 0;
  for (let at = 1; at < bytes.length; at++) {
    if ((cuts >> BigInt(at - 1)) & 1n) {
      chunks.push(bytes.subarray(from, at));
      from = at;
    }
  }
  chunks.push(bytes.subarray(from));
  return chunks;
}

function* cutEverywhere(bytes: Uint8Array): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; at++) yield bytes.subarray(at, at + 1);
}

describe('the decoder, as the standard says,', () => {
  for (const { name, stream, reads } of formatCases) {
    it(name, () => {
      const bytes = toBytes(stream);
      assert.deepEqual(readAll([bytes]).reads, reads);
      assert.deepEqual(readAll(cutEverywhere(bytes)).reads, reads);
      for (let at = 0; at <= bytes.length; at++) {
        assert.deepEqual(readAll([bytes.subarray(0, at), bytes.subarray(at)]).reads, reads, `cut at ${at}`);
      }
    });
    if (typeof stream === 'string') {
      it(`${name}, as text too`, () => {
        assert.deepEqual(readAll([stream]).reads, reads);
        assert.deepEqual(readAll(stream.split('')).reads, reads);
      });
    }
  }

  it('has a model to be compared with that agrees with this table', () => {
    for (const { name, stream, reads } of formatCases) {
      assert.deepEqual(readByTheStandard(stream).reads, reads, name);
    }
  });

  it('reads a short stream the same way in all of its chunkings', () => {
    for (const stream of ['id:1\r\ndata\r\n\r\n', '\uFEFFdata:é\r\r', 'data:a\n\rdata:🚪\n\n']) {
      const bytes = utf8.encode(stream);
      const { reads } = readByTheStandard(bytes);
      assert.ok(reads.length > 0);
      for (let cuts = 0; cuts < 2 ** (bytes.length - 1); cuts++) {
        assert.deepEqual(readAll(cut(bytes, BigInt(cuts))).reads, reads, `cuts ${cuts.toString(2)}`);
      }
    }
  });

  it('reads any bytes, however they are cut, as the model does', () => {
    const piece = fc.oneof(
      {
        weight: 6,
        arbitrary: fc.constantFrom('data:', 'data: ', 'data', 'id:', 'event: ', 'retry:', ':', 'x'),
      },
      { weight: 6, arbitrary: fc.constantFrom('\n', '\r', '\r\n', '\n\n', '\r\r', '\r\n\r\n') },
      { weight: 3, arbitrary: fc.constantFrom(' ', '\0', '0', '17', 'é', '水', '🚪', '\uFEFF', '\u2028') },
      { weight: 2, arbitrary: fc.string({ unit: 'binary', maxLength: 12 }) },
    );
    const bytes = fc.oneof(
      { weight: 2, arbitrary: fc.constantFrom(0xff, 0xc0, 0xe2, 0x82, 0xf0, 0x9f, 0x80, 0xed, 0xa0) },
      { weight: 8, arbitrary: piece },
    );
    const stream = fc
      .array(bytes, { maxLength: 40 })
      .map((parts) =>
        Buffer.concat(parts.map((part) => (typeof part === 'number' ? Buffer.of(part) : Buffer.from(part)))),
      );
    fc.assert(
      fc.property(stream, fc.bigInt({ min: 0n, max: (1n << 300n) - 1n }), (whole, cuts) => {
        const { reads, retries, comments, lastEventId } = readByTheStandard(whole);
        for (const chunks of [[whole], cut(whole, cuts), cutEverywhere(whole)]) {
          const ours = readAll(chunks);
          assert.deepEqual(ours.reads, reads);
          assert.deepEqual(ours.retries, retries);
          assert.deepEqual(ours.comments, comments);
          assert.equal(ours.lastEventId, lastEventId);
        }
      }),
      { numRuns: 20_000 },
    );
  });

  it('reads what encode writes, as eventsource-parser does', () => {
    const line = fc.string({ unit: 'grapheme' }).filter((s) => s.isWellFormed() && !/[\r\n]/.test(s));
    const id = fc.string({
      unit: fc.integer({ min: 0x21, max: 0x7e }).map((c) => String.fromCharCode(c)),
      maxLength: 128,
    });
    const text = fc
      .array(fc.oneof(line, fc.constantFrom('\n', '\r', '\r\n', ' ', ':')), { maxLength: 8 })
      .map((a) => a.join(''));
    // Only an event with data may have a type.
    const event = fc
      .record(
        { event: line, data: text, id, retry: fc.nat(2 ** 31 - 1), comment: text },
        { requiredKeys: [] },
      )
      .map(({ event, ...rest }) => (rest.data === undefined ? rest : { event, ...rest }))
      .map((fields): ServerSentEvent => fields);
    fc.assert(
      fc.property(fc.array(event, { maxLength: 6 }), fc.integer({ min: 1, max: 40 }), (events, size) => {
        const stream = events.map(encode).join('');
        const wanted: Read[] = [];
        let lastEventId = '';
        for (const { event, data, id } of events) {
          lastEventId = id ?? lastEventId;
          if (data !== undefined)
            wanted.push([event || 'message', data.replace(/\r\n?/g, '\n'), lastEventId]);
        }
        const ours = readAll(chunksOf(stream, size));
        assert.deepEqual(ours.reads, wanted);
        assert.deepEqual(
          ours.retries,
          events.flatMap((e) => e.retry ?? []),
        );

        const theirs: Read[] = [];
        const decoder = new TextDecoder();
        const parser = createParser({
          onEvent: ({ event, data }) => theirs.push([event || 'message', data, '']),
        });
        for (const chunk of chunksOf(stream, size)) parser.feed(decoder.decode(chunk, { stream: true }));
        assert.deepEqual(
          theirs,
          wanted.map(([type, data]) => [type, data, '']),
        );
      }),
      { numRuns: often(5000, 100_000) },
    );
  });

  it('reads the frames that servers write, and frames like them, as the model does', () => {
    const line = fc.constantFrom(
      'id: 1795408776829004-7',
      'id:1795408776829004-8',
      'id',
      'id: 9\0',
      'event: tick',
      'event:',
      'data: a',
      'data:b',
    );
    const odd = fc.constantFrom(
      'data',
      'data: \t',
      'id: a\tb',
      ': c',
      'retry: 5',
      'data: é',
      'data: c\r',
      'x',
    );
    const lines = fc.array(fc.oneof({ weight: 5, arbitrary: line }, { weight: 1, arbitrary: odd }), {
      maxLength: 4,
    });
    const stream = fc.array(lines, { maxLength: 6 });
    fc.assert(
      fc.property(stream, fc.integer({ min: 1, max: 60 }), (frames, size) => {
        const text = frames.map((frame) => `${[...frame, ''].join('\n')}\n`).join('');
        const { reads, lastEventId } = readByTheStandard(text);
        for (const chunks of [[utf8.encode(text)], chunksOf(text, size), [text]]) {
          const ours = readAll(chunks);
          assert.deepEqual(ours.reads, reads);
          assert.equal(ours.lastEventId, lastEventId);
        }
      }),
      { numRuns: 5000 },
    );
  });

  it('reads each event as soon as it is there, however the stream is cut and whatever ends its lines', () => {
    const line = fc.constantFrom(
      ...[
        'data: a',
        'data:b',
        `data: ${'c'.repeat(70)}`,
        `data: ${'d'.repeat(600)}`,
        'data: é水🚪',
        'data',
        'data:',
      ],
      ...[
        'id: 1795408776829004-7',
        'id',
        'id: 9\0',
        'id: é',
        'event: tick',
        'event:',
        ': c',
        ':',
        'retry: 5',
        'x',
      ],
      ...['', '', '', ''],
    );
    const ends = fc.constantFrom(['\n'], ['\n'], ['\r\n'], ['\r'], ['\n', '\r\n', '\r']);
    const stream = fc.record({
      lines: fc.array(line, { minLength: 1, maxLength: 60 }),
      ends,
      sizes: fc.array(fc.constantFrom(1, 2, 7, 30, 150, 700, 5000), { minLength: 1, maxLength: 8 }),
      isText: fc.boolean(),
    });
    fc.assert(
      fc.property(stream, ({ lines, ends, sizes, isText }) => {
        const text = lines.map((line, i) => `${line}${ends[i % ends.length]}`).join('');
        const whole = isText ? text : utf8.encode(text);
        const reads: Read[] = [];
        // Without `onComment`, comments are passed over in the fast paths too.
        const decoder = createDecoder({
          onEvent: ({ event, data, lastEventId }) => reads.push([event, data, lastEventId]),
        });
        for (let at = 0, i = 0; at < whole.length; i++) {
          const to = at + sizes[i % sizes.length]!;
          decoder.feed(whole.slice(at, to));
          at = to;
          const model = readByTheStandard(whole.slice(0, at));
          assert.deepEqual(reads, model.reads);
          assert.equal(decoder.lastEventId, model.lastEventId);
        }
      }),
      { numRuns: often(1000, 20_000) },
    );
  });

  it('reads every situation of the bench to the end', () => {
    for (const { name, text, events } of situations) {
      const whole = readByTheStandard(text).reads;
      assert.equal(whole.length, events, name);
      for (const size of [1400, 65_536]) assert.deepEqual(readAll(chunksOf(text, size)).reads, whole, name);
    }
  });
});

describe('the decoder', () => {
  it('distinguishes an event with an id of its own from one without', () => {
    const events: DecodedEvent[] = [];
    createDecoder({ onEvent: (event) => events.push(event) }).feed(
      'id: 1\ndata: a\n\ndata: b\n\nid:\ndata: c\n\n',
    );
    assert.deepEqual(
      events.map(({ id, lastEventId }) => [id, lastEventId]),
      [
        ['1', '1'],
        [undefined, '1'],
        ['', ''],
      ],
    );
  });

  it('ignores an empty chunk, also within a CRLF', () => {
    const chunks = ['', '\uFEFFdata: a\r', '', new Uint8Array(0), '\ndata: b\n\n'];
    assert.deepEqual(readAll(chunks).reads, [['message', 'a\nb', '']]);
  });

  it('begins with the given last event ID', () => {
    assert.deepEqual(readAll(['data: a\n\n'], { lastEventId: '7' }).reads, [['message', 'a', '7']]);
  });

  it('calls onId for an id without data, at the blank line', () => {
    const { ids, lastEventId, reads } = readAll(['id: 5\nevent: x\n\nid: 6\n']);
    assert.deepEqual([ids, lastEventId, reads], [['5'], '5', []]);
  });

  it('does not take the id of an event that was cut off', () => {
    assert.equal(readAll(['id: 5\ndata: a\n\nid: 6\ndata: b\n']).lastEventId, '5');
  });

  it('calls onRetry at the line, before the blank line', () => {
    assert.deepEqual(
      readAll(['retry: 0\nretry: 007\nretry: 12a\nretry: +1\nretry: ١\nretry:\n']).retries,
      [0, 7],
    );
  });

  it('dispatches at a CR without waiting for a LF', () => {
    assert.deepEqual(readAll(['data: a\r\r']).reads, [['message', 'a', '']]);
    assert.deepEqual(readAll(['data: a\r\n\r', '\ndata: b\n\n']).reads.length, 2);
  });

  it('takes the id of a block without data that ends a chunk', () => {
    for (const stream of ['data: a\n\nid: 7\n\n', 'data: a\n\nid:7\r\n\r\n', 'data: a\n\nid:7\n: c\n\n']) {
      for (const chunk of [stream, utf8.encode(stream)]) {
        const { ids, lastEventId } = readAll([chunk]);
        assert.deepEqual([ids, lastEventId], [['7'], '7'], JSON.stringify(stream));
      }
    }
  });

  it('reads text that is not of ASCII', () => {
    for (const data of ['é', 'a é', '水 b']) {
      const { reads } = readAll([`data: ${data}\n\n`.repeat(100)]);
      assert.deepEqual(
        reads,
        Array.from({ length: 100 }, () => ['message', data, '']),
      );
    }
  });

  it('reads text that its own handler feeds to another decoder', () => {
    const text = 'data: a\n\n'.repeat(100);
    const outer: string[] = [];
    const inner: string[] = [];
    const decoder = createDecoder({
      onEvent: ({ data }) => {
        outer.push(data);
        createDecoder({ onEvent: ({ data }) => inner.push(data) }).feed(
          `data: a\n\n${'data: other\n\n'.repeat(99)}`,
        );
      },
    });
    createDecoder({ onEvent: () => {} }).feed(text); // what one leaves behind, the next one uses
    decoder.feed(text);
    assert.deepEqual(
      outer,
      Array.from({ length: 100 }, () => 'a'),
    );
    assert.equal(inner.length, 10_000);
  });

  it('passes on the exception of a handler', () => {
    const decoder = createDecoder({
      onEvent: () => {
        throw new Error('no');
      },
    });
    assert.throws(() => decoder.feed('data: a\n\n'), { message: 'no' });
  });
});

describe('the limits of the decoder', () => {
  const lineLimit = { code: 'ERR_SSE_LINE_TOO_LONG', limit: 100 };
  const eventLimit = { code: 'ERR_SSE_EVENT_TOO_LARGE', limit: 100 };

  // One, two, three and four bytes a character: each line is exactly so many bytes.
  const lineOf = (bytes: number, character: string): string => {
    const size = utf8.encode(character).length;
    const rest = bytes - 5;
    return `data:${'a'.repeat(rest % size)}${character.repeat(Math.floor(rest / size))}`;
  };

  for (const character of ['a', 'é', '水', '🚪']) {
    for (const size of [1, 3, 7, 64, 10_000]) {
      it(`accept a line of 100 bytes of ${character} and refuse 101, in chunks of ${size}`, () => {
        const fits = `${lineOf(100, character)}\n\n`;
        assert.equal(readAll(chunksOf(fits, size), { maxLineBytes: 100 }).reads.length, 1);
        const over = lineOf(101, character);
        assert.throws(() => readAll(chunksOf(`${over}\n`, size), { maxLineBytes: 100 }), lineLimit);
        assert.throws(() => readAll(chunksOf(`:${over.slice(1)}\n`, size), { maxLineBytes: 100 }), lineLimit);
      });

      it(`accept 100 bytes of data with ${character} and refuse 101, in chunks of ${size}`, () => {
        const ten = lineOf(15, character);
        const fits = `${`${ten}\n`.repeat(9)}data:a\n\n`;
        assert.equal(utf8.encode(readAll(chunksOf(fits, size)).reads[0]![1]).length, 100);
        assert.equal(readAll(chunksOf(fits.repeat(3), size), { maxEventBytes: 100 }).reads.length, 3);
        const over = `${`${ten}\n`.repeat(9)}data:ab\n`;
        assert.throws(() => readAll(chunksOf(over, size), { maxEventBytes: 100 }), eventLimit);
      });
    }
  }

  it('refuse an endless line while it arrives', () => {
    const decoder = createDecoder({ maxLineBytes: 1000, onEvent: () => {} });
    let fed = 0;
    assert.throws(
      () => {
        for (; fed < 100_000; fed += 10) decoder.feed('x'.repeat(10));
      },
      { code: 'ERR_SSE_LINE_TOO_LONG' },
    );
    assert.ok(fed <= 1000, `${fed} bytes were taken`);
  });

  it('refuse a line that is too long at its first chunk, also behind an event', () => {
    for (const line of [`data: ${'x'.repeat(100)}`, `id: 1\ndata: ${'x'.repeat(100)}`]) {
      const decoder = createDecoder({ maxLineBytes: 100, onEvent: () => {} });
      assert.throws(() => decoder.feed(`data: a\n\n${line}`), lineLimit);
    }
  });

  it('are 1 MiB and 64 KiB by default, and the error names the option', () => {
    const line = `data: ${'x'.repeat(1_114_112 - 6)}`;
    assert.equal(readAll([`${line}\n\n`]).reads.length, 1);
    assert.throws(() => readAll([`${line}x\n\n`]), {
      code: 'ERR_SSE_LINE_TOO_LONG',
      message: 'a line of the event stream is longer than 1114112 bytes (`maxLineBytes`)',
    });
    assert.throws(() => readAll([`${line}\ndata: 123456\n\n`]), {
      code: 'ERR_SSE_EVENT_TOO_LARGE',
      message: 'the data of an event is larger than 1114112 bytes (`maxEventBytes`)',
    });
  });

  it('make every later call fail too', () => {
    const decoder = createDecoder({ maxLineBytes: 10, onEvent: () => assert.fail('an event') });
    assert.throws(() => decoder.feed('data: far too long\n'), { code: 'ERR_SSE_LINE_TOO_LONG' });
    assert.throws(() => decoder.feed('data: a\n\n'), { code: 'ERR_SSE_LINE_TOO_LONG' });
  });

  it('do not count comments and unknown fields', () => {
    const stream = `${': still here\n'.repeat(100)}${'other: field\n'.repeat(100)}data: a\n\n`;
    assert.equal(readAll([stream], { maxEventBytes: 10 }).reads.length, 1);
  });

  it('accept any size with Infinity', () => {
    const stream = `data: ${'x'.repeat(3 << 20)}\n\n`;
    assert.throws(() => readAll([stream]), { code: 'ERR_SSE_LINE_TOO_LONG' });
    const { reads } = readAll([stream], { maxLineBytes: Infinity, maxEventBytes: Infinity });
    assert.equal(reads[0]![1].length, 3 << 20);
  });

  for (const value of [0, -1, 1.5, Number.NaN, '10' as unknown as number]) {
    it(`cannot be ${String(value)}: the error names the limit`, () => {
      assert.throws(
        () => createDecoder({ maxLineBytes: value, onEvent: () => {} }),
        /^RangeError: `maxLineBytes` must/,
      );
      assert.throws(
        () => createDecoder({ maxEventBytes: value, onEvent: () => {} }),
        /^RangeError: `maxEventBytes`.*got/,
      );
    });
  }
});

describe('onTooLarge of the decoder', () => {
  const text = (length: number): string => 'x'.repeat(length);

  /** What arrives, in order: the data of events, and the code and the id of those that were dropped. */
  function readDropping(chunks: Iterable<Uint8Array | string>, limits: DecodeLimits = {}) {
    const seen: (string | readonly [string, string | undefined])[] = [];
    const decoder = createDecoder({
      ...limits,
      onEvent: ({ data, lastEventId }) => seen.push(`${lastEventId} ${data}`),
      onTooLarge: ({ code, id }) => seen.push([code.replace('ERR_SSE_', ''), id] as const),
    });
    for (const chunk of chunks) decoder.feed(chunk);
    return seen;
  }

  it('drops an event that is too large, whatever of it is, and reads those around it, however cut', () => {
    const block = fc.record({
      id: fc.option(fc.constantFrom('first', 'last'), { nil: undefined }),
      event: fc.boolean(),
      lines: fc.array(fc.integer({ min: 0, max: 60 }), { minLength: 1, maxLength: 4 }),
      end: fc.constantFrom('\n', '\r\n', '\r'),
    });
    const property = fc.property(
      fc.array(block, { maxLength: 6 }),
      fc.integer({ min: 1, max: 200 }),
      (blocks, size) => {
        let stream = '';
        let last = '';
        const expected: unknown[] = [];
        blocks.forEach(({ id: place, event, lines, end }, index) => {
          const id = place && `1795408776829004-${index + 1}`;
          const fields = lines.map((length) => `data: ${text(length)}`);
          if (event) fields.unshift('event: tick');
          if (id !== undefined) fields[place === 'first' ? 'unshift' : 'push'](`id: ${id}`);
          stream += [...fields, '', ''].join(end);
          last = id ?? last;
          const data = lines.map(text).join('\n');
          if (fields.every((line) => line.length <= 50) && data.length <= 80)
            expected.push(`${last} ${data}`);
          else expected.push(['TOO_LARGE', id]);
        });
        const seen = readDropping(chunksOf(stream, size), { maxLineBytes: 50, maxEventBytes: 80 });
        const alike = seen.map((one) => (typeof one === 'string' ? one : ['TOO_LARGE', one[1]]));
        assert.deepEqual(alike, expected);
      },
    );
    fc.assert(property, { numRuns: often(1500, 20_000) });
  });

  it('names the limit that was passed first', () => {
    const limits = { maxLineBytes: 50, maxEventBytes: 80 };
    const long = `id: 1\ndata: ${text(60)}\n${'data: y\n'.repeat(100)}\n`;
    const large = `id: 2\n${`data: ${text(40)}\n`.repeat(3)}data: ${text(60)}\n\n`;
    assert.deepEqual(readDropping([long + large], limits), [
      ['LINE_TOO_LONG', '1'],
      ['EVENT_TOO_LARGE', '2'],
    ]);
  });

  it('holds nothing of the event that it drops', () => {
    const chunk = utf8.encode(text(65_536));
    const heldAfter = (chunks: number): number => {
      const decoder = createDecoder({ maxLineBytes: 1000, onEvent: () => {}, onTooLarge: () => {} });
      decoder.feed('data: ');
      for (let i = 0; i < chunks; i++) decoder.feed(chunk);
      collectGarbage();
      const { heapUsed, external } = process.memoryUsage();
      decoder.feed('\n');
      return heapUsed + external;
    };
    const before = heldAfter(1);
    assert.ok(heldAfter(200) - before < 4 << 20, 'of 13 MB');
  });

  it('ends an event that has no end after 17 MiB, with the id where it has arrived', () => {
    const chunk = utf8.encode(text(65_536));
    for (const id of [undefined, '7']) {
      const decoder = createDecoder({ onEvent: () => assert.fail(), onTooLarge: () => assert.fail() });
      decoder.feed(`${id === undefined ? '' : `id: ${id}\n`}data: `);
      let fed = 0;
      const flood = (): void => {
        for (; fed < 1000; fed++) decoder.feed(chunk);
      };
      assert.throws(flood, { code: 'ERR_SSE_LINE_TOO_LONG', id });
      assert.equal(Math.ceil(fed / 16), 17);
    }
  });

  it('ends an event of empty lines without end, each of which adds a line feed to its data', () => {
    const decoder = createDecoder({ maxEventBytes: 1000, onEvent: () => {}, onTooLarge: () => {} });
    const chunk = 'data\n'.repeat(1 << 20);
    let fed = 0;
    const flood = (): void => {
      for (; fed < 20; fed++) decoder.feed(chunk);
    };
    assert.throws(flood, { code: 'ERR_SSE_EVENT_TOO_LARGE' });
    assert.equal(fed, 17);
  });
});

describe('the decoder, under load,', () => {
  it('does not hold whole chunks for the few bytes of data in each', () => {
    const events: DecodedEvent[] = [];
    const decoder = createDecoder({ onEvent: (event) => events.push(event) });
    const padding = `:${'x'.repeat(65_000)}\n`;
    collectGarbage();
    const before = process.memoryUsage().heapUsed;
    // 130 MB go by, 80 KB of them data.
    for (let i = 0; i < 2000; i++) decoder.feed(utf8.encode(`data: ${'y'.repeat(40)}\n${padding}`));
    collectGarbage();
    const grown = process.memoryUsage().heapUsed - before;
    assert.ok(grown < 8 << 20, `${grown >> 20} MiB more`);
    decoder.feed('\n');
    assert.equal(events[0]?.data.length, 2000 * 41 - 1);
  });

  const long = '1795408776829123-0000001';
  for (const [what, start, rest] of [
    ['last event ID', `id: ${long}\ndata: a\n\n`, ''],
    ['id of an unfinished event', '', `id: ${long}\ndata: a\n`],
    ['type of an unfinished event', '', `event: ${long}\ndata: a\n`],
    ['beginning of an event', '', `id: ${long}\ndata: ${long}`],
    ['beginning of a comment', '', `id: ${long}\n\n:${'x'.repeat(5000)}`],
    ['beginning of a line', '', `data: a\ndata: ${long}`],
  ] as const) {
    it(`does not hold a whole chunk for the ${what}`, () => {
      const padding = `data: ${'x'.repeat(100_000)}\n\n`;
      for (const isText of [false, true]) {
        const decoders: unknown[] = [];
        collectGarbage();
        const before = process.memoryUsage().heapUsed;
        for (let i = 0; i < 200; i++) {
          const decoder = createDecoder({ onEvent: () => {} });
          const bytes = utf8.encode(`${padding}${start}${padding}${rest}`);
          decoder.feed(isText ? new TextDecoder().decode(bytes) : bytes);
          decoders.push(decoder);
        }
        collectGarbage();
        const grown = process.memoryUsage().heapUsed - before;
        assert.ok(grown < 8 << 20, `${grown >> 20} MiB more, for ${decoders.length} decoders`);
      }
    });
  }

  for (const [what, start, piece] of [
    ['line', 'data: ', 'yz'],
    ['line that is not of ASCII', 'data: ', '水'],
    ['event', '', 'data: y\n'],
  ] as const) {
    it(`holds little more of an unfinished ${what} than its bytes, in however many chunks it arrives`, () => {
      const pieces = 300_000;
      const limits = { maxLineBytes: 1_000_000, maxEventBytes: 1_000_000 };
      const events: DecodedEvent[] = [];
      const decoder = createDecoder({ ...limits, onEvent: (event) => events.push(event) });
      decoder.feed(start);
      collectGarbage();
      const before = process.memoryUsage().heapUsed;
      // Strings of their own, as a socket gives them.
      for (let i = 0; i < pieces; i++) decoder.feed(utf8.encode(piece));
      collectGarbage();
      const grown = process.memoryUsage().heapUsed - before;
      assert.ok(grown < 3 << 20, `${(grown / 1e6).toFixed(1)} MB for ${(pieces * piece.length) / 1e6} MB`);
      decoder.feed('\n\n');
      assert.equal(events[0]?.data, start === '' ? `${'y\n'.repeat(pieces - 1)}y` : piece.repeat(pieces));
    });
  }

  it('reads a line of a megabyte that arrives byte by byte', () => {
    // Work that grew with the square of the length would not end before the test's timeout.
    const { reads } = readAll(cutEverywhere(utf8.encode(`data: ${'x'.repeat(1_000_000)}\n\n`)));
    assert.equal(reads[0]![1].length, 1_000_000);
  });

  it('reads 200,000 empty data lines that arrive byte by byte', () => {
    const { reads } = readAll(cutEverywhere(utf8.encode(`${'data\n'.repeat(200_000)}\n`)));
    assert.equal(reads[0]![1].length, 199_999);
  });
});

/** How many characters are searched while `work` runs: a count of work that no other process disturbs. */
function searchedDuring(work: () => void): number {
  const { indexOf } = String.prototype;
  let searched = 0;
  String.prototype.indexOf = function (this: string, part: string, from = 0): number {
    const at = indexOf.call(this, part, from);
    searched += (at === -1 ? this.length : at) - from;
    return at;
  };
  try {
    work();
  } finally {
    String.prototype.indexOf = indexOf;
  }
  return searched;
}

describe('the decoder, with a chunk of a megabyte of lines that are no event,', () => {
  for (const line of [
    '',
    ':',
    ': x',
    'event:',
    'id',
    'event: a',
    'data: a',
    'retry: 5',
    'x',
    '\t',
    'id: \0',
  ]) {
    for (const end of ['\n', '\r\n', '\r', '\r\r', '\n\r', '\r\n\r']) {
      it(`reads each once: ${JSON.stringify(line + end)}`, () => {
        const text = (line + end).repeat(1_000_000 / (line.length + end.length));
        for (const limits of [{}, { maxLineBytes: 100_000, maxEventBytes: 2_000_000 }]) {
          for (const whole of [text, utf8.encode(text)]) {
            let events = 0;
            const decoder = createDecoder({ ...limits, onEvent: () => events++ });
            const searched = searchedDuring(() => decoder.feed(whole));
            assert.ok(searched < 10 * text.length, `${searched / text.length} times`);
            decoder.feed(`${end}data: the end\n\n`);
            const isEvent = line === 'data: a' && /\r\r|\n\r|\r\n\r/.test(end);
            const times = isEvent ? text.length / (line.length + end.length) : line === 'data: a' ? 1 : 0;
            assert.equal(events, Math.floor(times) + 1);
          }
        }
      });
    }
  }
});

describe('decode and decoderStream', () => {
  const stream = 'id: 1\ndata: a\n\ndata: b\n\n';

  it('yields the events of any source of chunks', async () => {
    const sources = [
      [stream],
      [utf8.encode(stream)],
      Readable.from([stream.slice(0, 9), stream.slice(9)]),
      new Blob([stream]).stream(),
      { getReader: () => new Blob([stream]).stream().getReader() } as ReadableStream<Uint8Array>,
    ];
    for (const source of sources) {
      const data: string[] = [];
      for await (const event of decode(source)) data.push(event.data);
      assert.deepEqual(data, ['a', 'b']);
    }
  });

  it('closes the source when the loop is left', async () => {
    let cancelled = 0;
    const endless = (): ReadableStream<Uint8Array> =>
      new ReadableStream({
        pull: (controller) => controller.enqueue(utf8.encode(stream)),
        cancel: () => {
          cancelled++;
        },
      });
    for await (const _ of decode(endless())) break;
    for await (const _ of decode({ getReader: () => endless().getReader() } as ReadableStream<Uint8Array>))
      break;
    assert.equal(cancelled, 2);
  });

  it('throws the error of its source, and that of a limit', async () => {
    const broken = Readable.from(
      (function* () {
        yield stream;
        throw new Error('cut');
      })(),
    );
    const data: string[] = [];
    await assert.rejects(async () => {
      for await (const event of decode(broken)) data.push(event.data);
    }, /cut/);
    assert.deepEqual(data, ['a', 'b']);
    await assert.rejects(decode(['data: aaaaaaaaaa\n'], { maxLineBytes: 5 }).next(), {
      code: 'ERR_SSE_LINE_TOO_LONG',
    });
  });

  it('gives the events before one that is too large, however the stream is cut', async () => {
    const oversized = `${stream}data: ${'x'.repeat(50)}\n\n`;
    for (const size of [1, 7, 24, 40, 1000]) {
      const chunks = chunksOf(oversized, size);
      const bodies = [
        decode(chunks, { maxLineBytes: 40 }),
        ReadableStream.from(chunks).pipeThrough(decoderStream({ maxLineBytes: 40 })),
      ];
      for (const events of bodies) {
        const data: string[] = [];
        const reading = (async () => {
          for await (const event of events) data.push(event.data);
        })();
        await assert.rejects(reading, { code: 'ERR_SSE_LINE_TOO_LONG' });
        assert.deepEqual(data, ['a', 'b']);
      }
    }
  });

  it('gives the last event of a chunk when the loop is left, also before one that is too large', async () => {
    for await (const event of decode([`${stream}data: ${'x'.repeat(50)}\n`], { maxLineBytes: 40 })) {
      assert.equal(event.data, 'a');
      break;
    }
  });

  it('takes an event without its blank line at the end, where it is asked to', async () => {
    const unfinished = utf8.encode(`${stream}data: c`);
    for (const dispatchAtEnd of [false, true]) {
      const bodies = [
        decode([unfinished], { dispatchAtEnd }),
        new Blob([unfinished]).stream().pipeThrough(decoderStream({ dispatchAtEnd })),
      ];
      for (const events of bodies) {
        const data: string[] = [];
        for await (const event of events) data.push(event.data);
        assert.deepEqual(data, dispatchAtEnd ? ['a', 'b', 'c'] : ['a', 'b']);
      }
    }
  });

  it('transforms the body of a fetch response', async (t) => {
    const { url } = await serve(t, (_, res) => res.end(stream));
    const response = await fetch(url);
    const data: string[] = [];
    for await (const event of response.body!.pipeThrough(decoderStream())) data.push(event.data);
    assert.deepEqual(data, ['a', 'b']);
  });

  it('errors both sides of the TransformStream at a line that is too long', async () => {
    const { readable, writable } = decoderStream({ maxLineBytes: 5 });
    const writer = writable.getWriter();
    const closed = assert.rejects(writer.closed, { code: 'ERR_SSE_LINE_TOO_LONG' });
    writer.write('data: aaaaaaaaaa\n').catch(() => {});
    await assert.rejects(readable.getReader().read(), { code: 'ERR_SSE_LINE_TOO_LONG' });
    await closed;
  });

  it('hands an error of the source and a cancellation through the TransformStream', async () => {
    const broken = decoderStream();
    const reader = broken.readable.getReader();
    const reading = reader.read();
    await broken.writable.abort(new Error('cut')).catch(() => {});
    await assert.rejects(reading, /cut/);
    const left = decoderStream();
    const waiting = left.readable.getReader();
    const none = waiting.read();
    await waiting.cancel(new Error('left'));
    assert.equal((await none).done, true);
    await assert.rejects(left.writable.getWriter().closed, /left/);
  });
});
