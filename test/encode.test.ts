import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { createDecoder, type DecodedEvent } from '../lib/decode.ts';
import { type BadEventError, encode, type ServerSentEvent } from '../lib/encode.ts';
import { maxIdBytes } from '../lib/protocol.ts';
import { formatCases } from './fixtures/format.ts';
import { type Frame, parse } from './helpers/reader.ts';

const FIELDS = ['event', 'data', 'id', 'comment'] as const;

const ID = '1795408776829004-7';

describe('encode', () => {
  it('writes one line per field and a blank line at the end', () => {
    const text = encode({ comment: 'c', retry: 5, id: ID, event: 'e', data: 'd' });
    assert.equal(text, `: c\nretry: 5\nid: ${ID}\nevent: e\ndata: d\n\n`);
  });

  it('returns an empty string for an event without fields', () => {
    assert.equal(encode({}), '');
    assert.equal(encode({ event: undefined, data: undefined, id: undefined }), '');
  });

  it('prefixes every line of data and comments, split at CRLF, CR and LF', () => {
    assert.equal(encode({ data: 'a\nb\rc\r\nd' }), 'data: a\ndata: b\ndata: c\ndata: d\n\n');
    assert.equal(encode({ data: '\n\r' }), 'data: \ndata: \ndata: \n\n');
    assert.equal(encode({ comment: 'a\r\rb', data: 'd' }), ': a\n: \n: b\ndata: d\n\n');
  });

  it('keeps a space at the beginning of a value', () => {
    assert.deepEqual(parse(encode({ event: ' e', data: '  d' })).frames, [
      { id: undefined, event: ' e', data: '  d' },
    ]);
  });

  it('takes empty data, which every reader delivers, with a type and without', () => {
    for (const event of [undefined, 'e']) {
      const text = encode({ event, data: '' });
      assert.deepEqual(parse(text).frames, [{ id: undefined, event, data: '' }]);
      assert.deepEqual(
        decoded(text).map((one) => [one.event, one.data]),
        [[event ?? 'message', '']],
      );
    }
  });

  it('refuses an event with a type and no data, which no reader would dispatch', () => {
    for (const event of [{}, { id: ID }, { comment: 'c' }, { retry: 5 }, { data: undefined }]) {
      assert.throws(() => encode({ event: 'e', ...event }), namesOneOf(['data']));
      assert.throws(() => encode({ event: '', ...event }), namesOneOf(['data']));
    }
    assert.throws(() => encode({ event: 'e', json: undefined }), namesOneOf(['json']));
  });

  it('sends an id or a retry without data, which readers keep, and dispatches nothing', () => {
    assert.equal(encode({ id: ID }), `id: ${ID}\n\n`);
    assert.equal(encode({ retry: 5, id: ID, comment: 'c' }), `: c\nretry: 5\nid: ${ID}\n\n`);
  });

  it('ends comments alone in one line end, so that no reader makes an empty message of them', () => {
    assert.equal(encode({ comment: '' }), ': \n');
    assert.equal(encode({ comment: 'a\nb' }), ': a\n: b\n');
  });

  it("accepts the ids '' and '0'", () => {
    for (const id of ['', '0']) assert.deepEqual(parse(encode({ id, data: 'd' })).frames[0]?.id, id);
  });

  it('accepts every retry from 0 to the longest timeout of JavaScript', () => {
    for (const retry of [0, 1, 2 ** 31 - 1]) assert.deepEqual(parse(encode({ retry })).retries, [retry]);
    assert.equal(encode({ retry: -0 }), 'retry: 0\n\n');
  });

  it('refuses a retry that is not a whole number of milliseconds in range', () => {
    const refused = [
      -1,
      1.5,
      NaN,
      Infinity,
      -Infinity,
      2 ** 31,
      1e21,
      '5',
      '5\ndata: x',
      null,
      true,
      5n,
      [5],
    ];
    for (const retry of refused) refuses('retry', retry);
  });

  it('refuses a line break in an event type or an id, including a bare CR', () => {
    for (const hostile of ['a\nb', 'a\rb', 'a\r\nb', '\n', '\r', 'a\n', 'a\r']) {
      refuses('event', hostile);
      refuses('id', hostile);
    }
  });

  it('refuses an id that would not survive the Last-Event-ID header', () => {
    for (const id of ['a\0b', '\0', 'é', '😀', '\u2028', ' a', 'a ', ' ', 'a\tb', '\x7f']) refuses('id', id);
  });

  it('accepts an id of 1,024 characters, as servers other than a hub send them, and refuses a longer one', () => {
    const kafka = JSON.stringify([
      { topic: 'eqiad.mediawiki.recentchange', partition: 0, timestamp: 1795408776829 },
      { topic: 'codfw.mediawiki.recentchange', partition: 0, offset: -1 },
    ]);
    assert.ok(kafka.length > 128);
    for (const id of [kafka, 'x'.repeat(1024)]) assert.equal(encode({ id }), `id: ${id}\n\n`);
    refuses('id', 'x'.repeat(1025));
    assert.equal(maxIdBytes, 1024, 'readers resume from every id that can be sent');
  });

  it('refuses half a surrogate pair, which UTF-8 cannot carry', () => {
    for (const hostile of ['\ud800', 'a\udc00b', '\udc00\ud800']) {
      for (const field of FIELDS) refuses(field, hostile);
      // The shape of a hub's events, which has a path of its own.
      assert.throws(() => encode({ id: ID, data: hostile }), namesOneOf(['data']));
      assert.throws(() => encode({ id: ID, event: 'e', data: hostile }), namesOneOf(['data']));
    }
  });

  it('refuses values that are not strings, even those that cannot be converted to one', () => {
    const unshowable = Object.create(null);
    const throwing = { toString: () => assert.fail('must not be asked') };
    for (const value of [null, 1, NaN, true, 5n, {}, ['a'], Symbol('s'), () => 'f', unshowable, throwing]) {
      for (const field of FIELDS) refuses(field, value);
    }
  });

  it('shortens a long value in the error message', () => {
    assert.throws(
      () => encode({ event: `\n${'x'.repeat(100_000)}` }),
      ({ message }: TypeError) => message.includes('`event`') && message.length < 200,
    );
  });

  it('reads each field once, so that it writes what it has checked', () => {
    let reads = 0;
    const event = {
      data: 'd',
      get event(): string {
        return reads++ === 0 ? 'safe' : 'un\nsafe';
      },
    };
    assert.equal(encode(event), 'event: safe\ndata: d\n\n');
    assert.equal(reads, 1);
  });

  it('throws errors with a code and the status 400', () => {
    assert.throws(() => encode({ id: '\n' }), { name: 'TypeError', code: 'ERR_SSE_BAD_EVENT', status: 400 });
  });
});

describe('encode with `json`', () => {
  it('writes the value as JSON in the place of data', () => {
    const json = { price: 7.25, text: 'two\nlines \ud800' };
    const expected = `id: ${ID}\nevent: tick\ndata: {"price":7.25,"text":"two\\nlines \\ud800"}\n\n`;
    assert.equal(encode({ id: ID, event: 'tick', json }), expected);
  });

  it('accepts falsy values', () => {
    for (const json of [null, false, 0, '']) {
      assert.equal(encode({ json }), `data: ${JSON.stringify(json)}\n\n`);
    }
  });

  it('ignores an undefined value beside data', () => {
    assert.equal(encode({ id: ID, data: 'd', json: undefined }), `id: ${ID}\ndata: d\n\n`);
  });

  it('refuses values that JSON cannot express, and keeps the cause', () => {
    const cycle: unknown[] = [];
    cycle.push(cycle);
    const thrown = new Error('from toJSON');
    const throwing = {
      toJSON() {
        throw thrown;
      },
    };
    for (const json of [undefined, () => {}, Symbol('s'), 5n, cycle, throwing]) {
      assert.throws(() => encode({ event: 'e', json }), namesOneOf(['json']));
    }
    assert.throws(() => encode({ json: throwing }), { cause: thrown });
  });

  it('is not read beside data, so that an event of `connect` can be sent on', () => {
    const received = {
      event: 'tick',
      data: '[DONE]',
      get json(): unknown {
        throw new SyntaxError('not JSON');
      },
    };
    assert.equal(encode(received), 'event: tick\ndata: [DONE]\n\n');
    assert.equal(
      encode(Object.assign(Object.create(received), { id: ID, event: 'tick', data: '[DONE]' })),
      `id: ${ID}\nevent: tick\ndata: [DONE]\n\n`,
    );
  });
});

// Text that breaks formats: separators, half characters, field names, and the characters beside them.
const hostilePiece = fc.oneof(
  fc.constantFrom('\n', '\r', '\r\n', '\n\n', '\0', ':', ' ', '\t', '\ufeff', '\u2028', '\u0085', '\v', '\f'),
  fc.constantFrom('data: x', 'data', 'id: 1', 'event: x', 'retry: 1', ': c', '\ud800', '\udfff', '😀', 'é'),
  fc.string({ unit: 'binary', maxLength: 3 }),
  fc.string({ maxLength: 3 }),
);
const hostileText = fc.array(hostilePiece, { maxLength: 8 }).map((pieces) => pieces.join(''));
const hostileNumber = fc.oneof(
  fc.nat(),
  fc.double(),
  fc.integer(),
  fc.constantFrom(-0, 2 ** 31 - 1, 2 ** 31),
);
const hostileEvent = fc.record(
  { event: hostileText, data: hostileText, id: hostileText, comment: hostileText, retry: hostileNumber },
  { requiredKeys: [] },
);

describe('trap 18: an event with hostile fields', () => {
  it('arrives as exactly one event between its neighbours, or throws a TypeError that names the field', () => {
    fc.assert(
      fc.property(hostileEvent, fc.integer({ min: 1, max: 7 }), (event, pieceLength) => {
        const wrong = unsendable(event);
        if (wrong.length > 0) return assert.throws(() => encode(event), namesOneOf(wrong));
        const wire = Buffer.from(`data: before\n\n${encode(event)}data: after\n\n`).toString();
        for (const parsed of [parse(wire), parse(wire, pieceLength)]) {
          assert.deepEqual(parsed.frames, [frame('before'), ...arriving(event), frame('after')]);
          assert.deepEqual(parsed.comments, event.comment === undefined ? [] : linesOf(event.comment));
          assert.deepEqual(parsed.retries, event.retry === undefined ? [] : [event.retry + 0]);
          assert.deepEqual(parsed.errors, []);
        }
      }),
      { numRuns: 2000 },
    );
  });
});

describe('what was decoded', () => {
  const piece = fc.oneof(
    fc.constantFrom(
      'data: x\n',
      'data:\n',
      'data\n',
      'event: e\n',
      'event: message\n',
      'id: 7\n',
      'id\n',
      ': c\n',
    ),
    fc.constantFrom(
      '\n',
      '\r',
      '\r\n',
      '\0',
      ':',
      ' ',
      '\ufeff',
      '\u2028',
      '\ud83d',
      '\ude00',
      'ü',
      'retry: 5\n',
      'x',
    ),
    fc.string({ unit: 'binary', maxLength: 4 }),
  );
  const garbage = fc.array(piece, { maxLength: 30 }).map((pieces) => pieces.join(''));
  const shapes = formatCases.map(({ stream }) => Buffer.from(stream as string));

  // Only an id can be one that no header carries back. Everything else that a stream can say can be sent on.
  function sentOn(bytes: Uint8Array): void {
    const events = decoded(bytes).filter(({ id }) => id === undefined || survivesHeader(id));
    assert.deepEqual(decoded(events.map((event) => encode(event)).join('')), withoutPlace(events));
  }

  it('is encoded to the same events, for each case of the format', () => {
    for (const stream of shapes) sentOn(stream);
  });

  it('is encoded to the same events, for garbage of bytes', () => {
    fc.assert(
      fc.property(garbage, (text) => sentOn(Buffer.from(text))),
      { numRuns: 2000 },
    );
  });

  /** The last event ID in force depends on the events before, of which some cannot be sent on. */
  function withoutPlace(events: readonly DecodedEvent[]): DecodedEvent[] {
    let lastEventId = '';
    return events.map((event) => {
      lastEventId = event.id ?? lastEventId;
      return { ...event, lastEventId };
    });
  }
});

function decoded(stream: string | Uint8Array): DecodedEvent[] {
  const events: DecodedEvent[] = [];
  createDecoder({ onEvent: (event) => events.push(event) }).feed(stream);
  return events;
}

function refuses(field: string, value: unknown): void {
  assert.throws(() => encode({ data: 'd', [field]: value } as ServerSentEvent), namesOneOf([field]));
}

function namesOneOf(fields: readonly string[]): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof TypeError);
    assert.equal((error as BadEventError).code, 'ERR_SSE_BAD_EVENT');
    return fields.some((field) => error.message.startsWith(`\`${field}\``));
  };
}

/** The fields that cannot be sent, found by other means than those of the code under test. */
function unsendable({ event, data, id, comment, retry }: ServerSentEvent): string[] {
  const wrong = [];
  const broken = (text: string) => Buffer.from(text).toString() !== text;
  if (event !== undefined && (broken(event) || linesOf(event).length > 1)) wrong.push('event');
  if (data === undefined ? event !== undefined : broken(data)) wrong.push('data');
  if (comment !== undefined && broken(comment)) wrong.push('comment');
  if (id !== undefined && !survivesHeader(id)) wrong.push('id');
  if (retry !== undefined && !(retry % 1 === 0 && retry >= 0 && retry < 2 ** 31)) wrong.push('retry');
  return wrong;
}

function survivesHeader(id: string): boolean {
  const printable = [...id].every((character) => character >= ' ' && character <= '~');
  return printable && id.trim() === id && id.length <= 1024;
}

function arriving({ event, data, id }: ServerSentEvent): Frame[] {
  // The specification: an event without data is not dispatched, and an empty type counts as none.
  return data === undefined ? [] : [{ id, event: event || undefined, data: linesOf(data).join('\n') }];
}

function frame(data: string): Frame {
  return { id: undefined, event: undefined, data };
}

function linesOf(text: string): string[] {
  return text.replaceAll('\r\n', '\n').replaceAll('\r', '\n').split('\n');
}
