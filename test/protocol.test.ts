import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { createDecoder } from '../lib/decode.ts';
import { encode } from '../lib/encode.ts';
import {
  checkControls,
  compareIds,
  controlEvents,
  endEvent,
  formatId,
  type Gap,
  gapEvent,
  gapReasons,
  isControlEvent,
  isReservedEvent,
  isSendableId,
  isTopic,
  parseId,
  positionEvent,
  readGap,
  readReady,
  readRefused,
  readyEvent,
  refusedEvent,
  sentControl,
  topicRule,
  unreadableId,
} from '../lib/protocol.ts';
import { parse } from './helpers/reader.ts';

function decodedPlace(text: string): string {
  const decoder = createDecoder({ onEvent: () => {} });
  decoder.feed(text);
  return decoder.lastEventId;
}

const EPOCH = 1_795_408_776_829_004;
const whole = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER });

/** Strings that look like ids, and some that are ids. */
const idLike = fc
  .array(fc.constantFrom('0', '1', '9', '-', ' ', '+', '.', 'e', '\n', '17', '9007199254740991'), {
    maxLength: 6,
  })
  .map((parts) => parts.join(''));

describe('ids', () => {
  it('writes an id as epoch and seq in plain digits, also where numbers have other spellings', () => {
    assert.equal(formatId(EPOCH, 17), '1795408776829004-17');
    assert.equal(formatId(Number.MAX_SAFE_INTEGER, 0), '9007199254740991-0');
  });

  it('reads back every id that it writes', () => {
    fc.assert(
      fc.property(whole, whole, (epoch, seq) => {
        assert.deepEqual(parseId(formatId(epoch, seq)), { epoch, seq });
      }),
    );
  });

  it('reads one spelling of each place and no other', () => {
    fc.assert(
      fc.property(fc.oneof(idLike, fc.string()), (text) => {
        const id = parseId(text);
        if (id !== undefined) assert.equal(formatId(id.epoch, id.seq), text);
      }),
      { numRuns: 2000 },
    );
  });

  it('reads the id of an epoch with sixteen digits', () => {
    assert.deepEqual(parseId('1795408776829004-1'), { epoch: EPOCH, seq: 1 });
  });

  it('reads numbers up to 2⁵³ − 1 and none above', () => {
    assert.deepEqual(parseId('9007199254740991-9007199254740991'), {
      epoch: 2 ** 53 - 1,
      seq: 2 ** 53 - 1,
    });
    for (const text of ['9007199254740992-1', '1-9007199254740992', '1-10000000000000000']) {
      assert.equal(parseId(text), undefined, text);
    }
  });

  const malformed = [
    ...['', '-', '1', '1-', '-1', '1-2-3', '-1-1', '1--1', '1_1', '1-1, 1-1', '1-1,1-1'],
    ...['01-1', '1-01', '00-0', '+1-1', '1-+1', '1.0-1', '1-1e3', '0x1-1', '1-1n', '1-NaN', '1-Infinity'],
    ...[' 1-1', '1-1 ', '1-1\n', '\n1-1', '1-1\0', '٧-١', '１-１', 'Ã¼', 'null', 'undefined', '*', '$'],
    ...['1'.repeat(10_000), `1-${'1'.repeat(10_000)}`],
  ];
  for (const text of malformed) {
    it(`reads no id in ${JSON.stringify(text.slice(0, 30))}`, () => {
      assert.equal(parseId(text), undefined);
      assert.equal(compareIds(text, text), undefined);
    });
  }

  it('reads no id where there is none', () => {
    assert.equal(parseId(undefined), undefined);
    assert.equal(parseId(null), undefined);
  });

  it('can be sent up to 1,024 bytes of UTF-8, whatever characters it has', () => {
    for (const most of ['x'.repeat(1024), '水'.repeat(341), 'é'.repeat(512), '🚪'.repeat(256)]) {
      assert.deepEqual([isSendableId(most), isSendableId(`${most}水`)], [true, false]);
    }
  });

  it('compares ids of one epoch by seq, as numbers', () => {
    assert.ok(compareIds('1795408776829004-9', '1795408776829004-10')! < 0);
    assert.ok(compareIds('1795408776829004-10', '1795408776829004-9')! > 0);
    assert.equal(compareIds('1795408776829004-9', '1795408776829004-9'), 0);
  });

  it('compares neither ids of two epochs nor what is no id', () => {
    assert.equal(compareIds('1795408776829004-1', '1795408776829005-1'), undefined);
    assert.equal(compareIds('1795408776829004-1', '1795408776829004-01'), undefined);
    assert.equal(compareIds('x', '1795408776829004-1'), undefined);
    assert.equal(compareIds(undefined, null), undefined);
  });

  it('has an id that no hub gives, because it reads as epoch 0', () => {
    assert.deepEqual(parseId(unreadableId), { epoch: 0, seq: 0 });
  });
});

describe('control events', () => {
  it('reserves every type that begins with sluice: and no other', () => {
    for (const type of [...Object.values(controlEvents), 'sluice:', 'sluice:later']) {
      assert.equal(isControlEvent(type), true, type);
    }
    for (const type of [undefined, '', 'tick', 'sluice', ' sluice:end', 'Sluice:end', 'x-sluice:end']) {
      assert.equal(isControlEvent(type), false, type);
    }
  });

  it('cannot be published under a name that a reader could take for one', () => {
    for (const type of ['sluice:', ' sluice:end', '\u00a0Sluice:later\t', 'SLUICE:GAP'])
      assert.equal(isReservedEvent(type), true, type);
    for (const type of [undefined, '', 'tick', 'sluice', 'x-sluice:end', 's luice:'])
      assert.equal(isReservedEvent(type), false, type);
  });

  it('reads back the topics and the heartbeat of a ready event', () => {
    const heartbeat = { interval: 15_000, missed: 2 };
    const event = readyEvent('1795408776829004-7', ['a', 'b'], { heartbeat, version: '1' });
    assert.deepEqual([event.id, event.event], ['1795408776829004-7', 'sluice:ready']);
    assert.deepEqual(readReady(event.data), { topics: ['a', 'b'], heartbeat });
    assert.equal(JSON.parse(event.data).version, '1');
  });

  it('does not let an announcement replace the topics of a ready event', () => {
    assert.deepEqual(readReady(readyEvent('1-1', ['a'], { topics: ['b'] }).data).topics, ['a']);
  });

  it('reads back what a gap event says, for every reason', () => {
    for (const reason of gapReasons) {
      const gap: Gap = { reason, from: '1795408776829004-3', to: '1795408776829004-9', topics: ['a', 'b'] };
      const event = gapEvent('1795408776829004-5', gap);
      assert.deepEqual([event.id, event.event], ['1795408776829004-5', 'sluice:gap']);
      assert.deepEqual(readGap(event.data, event.id), gap);
    }
    const unread: Gap = { reason: 'malformed', from: null, to: '1795408776829004-9', topics: [] };
    assert.deepEqual(readGap(gapEvent('x', unread).data, 'x'), unread);
  });

  it('writes the topics into an end event', () => {
    assert.deepEqual(endEvent('1795408776829004-7', ['a']), {
      id: '1795408776829004-7',
      event: 'sluice:end',
      data: '{"topics":["a"]}',
    });
  });

  it('sends a control event as a comment with its id and its retry, which readers keep and dispatch nothing', () => {
    const gap: Gap = { reason: 'evicted', from: null, to: '1795408776829004-9', topics: ['a'] };
    const ready = { retry: 5, ...readyEvent('1795408776829004-7', ['a']) };
    const parsed = [ready, gapEvent('1795408776829004-9', gap), refusedEvent(7, { error: 'x', message: 'y' })]
      .map((event) => encode(sentControl(event, 'comments')))
      .map((text) => [parse(text), decodedPlace(text)] as const);
    assert.deepEqual(
      parsed.map(([{ frames, comments, retries }, place]) => [frames.length, comments[0], retries, place]),
      [
        [0, `sluice:ready ${ready.data}`, [5], '1795408776829004-7'],
        [0, `sluice:gap ${JSON.stringify(gap)}`, [], '1795408776829004-9'],
        [0, 'sluice:refused {"error":"x","message":"y"}', [7], ''],
      ],
    );
  });

  it('sends the event that a function returns, with the id and the retry of the control event', () => {
    const ready = { retry: 5, ...readyEvent('1795408776829004-7', ['a']) };
    const forged = { event: 'open', data: 'x', id: 'forged', retry: 1, comment: 'c' };
    assert.deepEqual(
      sentControl(ready, () => forged),
      {
        retry: 5,
        id: '1795408776829004-7',
        event: 'open',
        data: 'x',
      },
    );
    assert.deepEqual(parse(encode(sentControl(ready, () => ({ json: { a: 1 } })))).frames, [
      { id: '1795408776829004-7', event: undefined, data: '{"a":1}' },
    ]);
    assert.deepEqual(
      sentControl(ready, () => null),
      sentControl(ready, 'comments'),
    );
    for (const controls of [undefined, 'events'] as const) assert.equal(sentControl(ready, controls), ready);
  });

  it('refuses any other way to send control events', () => {
    for (const controls of ['none', null, false, {}, 'comment']) {
      assert.throws(
        () => checkControls(controls),
        /^TypeError: `controls` must be "events", "comments" or a function/,
      );
    }
    for (const controls of [undefined, 'events', 'comments', () => null]) checkControls(controls);
  });

  it('gives the position of a heartbeat a type and data, so that no reader makes an empty message of it', () => {
    assert.deepEqual(positionEvent('1795408776829004-7'), {
      id: '1795408776829004-7',
      event: 'sluice:position',
      data: '{}',
    });
  });

  it('reads back what a refusal says, which has a retry and no id', () => {
    const event = refusedEvent(5000, { error: 'server-full', message: 'Too many streams.\nCome back.' });
    assert.deepEqual([event.retry, event.event, 'id' in event], [5000, 'sluice:refused', false]);
    assert.deepEqual(readRefused(event.data), {
      error: 'server-full',
      message: 'Too many streams.\nCome back.',
    });
  });

  it('writes nothing into a refusal but the word and the message', () => {
    const problem = { status: 503, error: 'server-full', message: 'Later.', headers: { 'x-secret': '1' } };
    assert.deepEqual(JSON.parse(refusedEvent(1, problem).data), { error: 'server-full', message: 'Later.' });
  });

  const nothing = ['', 'no JSON', 'null', '7', '"text"', '[]', '{}', '{"topics":7,"heartbeat":"15s"}'];
  for (const data of nothing) {
    it(`reads ${data || 'empty data'} as a ready, a gap and a refused event without content`, () => {
      assert.deepEqual(readRefused(data), { error: 'unknown', message: '' });
      assert.deepEqual(readReady(data), { topics: [], heartbeat: undefined });
      assert.deepEqual(readGap(data, '1795408776829004-5'), {
        reason: 'unknown',
        from: null,
        to: '1795408776829004-5',
        topics: [],
      });
    });
  }

  it('leaves out what has another type than it should have', () => {
    assert.deepEqual(readReady('{"topics":["a",7,null,"b"],"heartbeat":{"interval":-1,"missed":2}}'), {
      topics: ['a', 'b'],
      heartbeat: undefined,
    });
    assert.equal(readReady('{"heartbeat":{"interval":15000}}').heartbeat, undefined);
    assert.deepEqual(readGap('{"reason":7,"from":7,"to":7,"topics":[7]}', '1-1'), {
      reason: 'unknown',
      from: null,
      to: '1-1',
      topics: [],
    });
  });

  it('reads any data without throwing', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json()), (data) => {
        assert.ok(Array.isArray(readReady(data).topics));
        assert.equal(typeof readGap(data, '1-1').to, 'string');
        assert.equal(typeof readRefused(data).error, 'string');
      }),
    );
  });
});

describe('topics', () => {
  it('takes 1 to 200 characters of A–Z a–z 0–9 . _ ~ : - for the name of a topic', () => {
    for (const name of ['a', '-', 'A.b_c~d:e-9', 'constructor', '__proto__', 'x'.repeat(200)]) {
      assert.equal(isTopic(name), true, name);
    }
  });

  it('takes nothing else for the name of a topic', () => {
    const none = [
      '',
      'x'.repeat(201),
      'a b',
      'a/b',
      'ä',
      'a\n',
      '\na',
      '%61',
      'a,b',
      undefined,
      null,
      5,
      ['a'],
    ];
    for (const name of none) assert.equal(isTopic(name), false, String(name));
  });

  it('states its rule in words that name the length and every character', () => {
    assert.equal(topicRule, '1 to 200 characters of A–Z a–z 0–9 . _ ~ : -');
    const listed = topicRule.split(' of ')[1]!.replaceAll(/.–.| /g, '');
    for (const character of listed) assert.ok(isTopic(character), character);
  });
});
