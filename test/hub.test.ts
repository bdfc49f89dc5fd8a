import assert from 'node:assert/strict';
import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, it } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Hub, type HubOptions } from '../lib/hub.ts';
import { isTopic } from '../lib/protocol.ts';
import { openStream } from '../lib/stream.ts';
import { drain, handRun, parse, Reader, slowReader, TestLog, times } from './helpers/hub.ts';

describe('publishing', () => {
  it('numbers the events of all topics in one order', () => {
    const { hub } = handRun();
    assert.equal(hub.position, '1795408776829004-0');
    assert.equal(hub.publish('a', { data: 'x' }), '1795408776829004-1');
    assert.equal(hub.publish('b', { data: 'x' }), '1795408776829004-2');
    assert.equal(hub.publish('a', { data: 'x' }), '1795408776829004-3');
    assert.equal(hub.position, '1795408776829004-3');
  });

  it('sends the whole event, with its id, its type, its lines, its retry and its comment', () => {
    const { hub, turns } = handRun();
    const reader = new Reader();
    hub.subscribe('a', reader);
    turns.all();
    hub.publish('a', { event: 'tick', data: 'one\ntwo', retry: 5, comment: 'hm' });
    turns.all();
    assert.equal(
      String(reader.chunks.at(-1)),
      ': hm\nretry: 5\nid: 1795408776829004-1\nevent: tick\ndata: one\ndata: two\n\n',
    );
  });

  it('does not let an event carry an id of its own', () => {
    const { hub, turns } = handRun();
    const reader = new Reader();
    hub.subscribe('a', reader);
    hub.publish('a', { data: 'x', id: 'mine' } as never);
    turns.all();
    assert.deepEqual(
      reader.of().map(({ id }) => id),
      ['1795408776829004-1'],
    );
  });

  it('takes no event that cannot be sent, and changes nothing then', () => {
    const { hub, turns } = handRun({ history: { maxBytes: 100 } });
    assert.throws(() => hub.publish('a', { data: 'x', event: 'a\rb' }), {
      name: 'TypeError',
      message: /`event`/,
    });
    assert.throws(() => hub.publish('a', { data: 'x', event: 5 } as never), {
      name: 'TypeError',
      message: /`event`/,
    });
    assert.throws(
      () => hub.publish('a', { data: 'x', event: 'sluice:gap' }),
      /`event` must not begin with "sluice:"/,
    );
    assert.throws(() => hub.publish('a', {} as never), {
      name: 'TypeError',
      message: /`data` must be a string/,
    });
    assert.throws(() => hub.publish('a', { data: 'x', key: 5 } as never), {
      name: 'TypeError',
      message: /`key`/,
    });
    assert.throws(() => hub.publish('a', { data: 'x'.repeat(100) }), {
      name: 'RangeError',
      message: /maxBytes/,
    });
    assert.equal(hub.position, '1795408776829004-0');
    assert.equal(hub.stats.published, 0);
    assert.equal(hub.historyBytes, 0);
    assert.equal(turns.planned, 0);
  });

  it('takes for a topic 1 to 200 of A–Z a–z 0–9 . _ ~ : - and nothing else', () => {
    const { hub } = handRun();
    for (const name of ['a', 'A.b_c~d:e-9', 'x'.repeat(200)]) assert.ok(isTopic(name));
    for (const name of [
      '',
      'x'.repeat(201),
      'a b',
      'a/b',
      'ä',
      'a\n',
      '%61',
      undefined,
      5,
      ['a'],
    ] as string[]) {
      assert.throws(() => hub.publish(name, { data: 'x' }), {
        name: 'TypeError',
        message: /`topic` must be/,
      });
      assert.throws(() => hub.subscribe([name], new Reader()), {
        name: 'TypeError',
        message: /`topic` must be/,
      });
      assert.throws(() => hub.end(name), { name: 'TypeError', message: /`topic` must be/ });
    }
    assert.deepEqual(hub.topics(), []);
  });

  it('keeps names that objects have apart from the topics', () => {
    const { hub, turns } = handRun();
    const reader = new Reader();
    hub.subscribe(['constructor', '__proto__'], reader, { conflate: true });
    hub.publish('__proto__', { data: 'x', key: '__proto__' });
    turns.all();
    assert.deepEqual(reader.texts, ['x']);
  });
});

describe('the first bytes', () => {
  it('are retry and ready, with the position from which delivery continues', () => {
    const { hub, turns } = handRun();
    hub.publish('a', { data: 'before' });
    const reader = new Reader();
    hub.subscribe('a', reader);
    hub.publish('a', { data: 'after' });
    turns.all();
    assert.match(
      String(reader.chunks[0]),
      /^retry: 2000\n\nid: 1795408776829004-1\nevent: sluice:ready\ndata: /,
    );
    assert.deepEqual(reader.texts, ['after']);
  });

  it('wait for the next turn, so that a refusal can still be a status', () => {
    const { hub, turns } = handRun();
    const reader = new Reader();
    const subscription = hub.subscribe('a', reader);
    hub.publish('a', { data: 'x' });
    assert.equal(reader.chunks.length, 0);
    subscription?.close();
    turns.all();
    assert.equal(reader.chunks.length, 0);
  });

  it('tell a client that comes back its own id, not the one it will have', () => {
    const { hub, turns } = handRun();
    for (const data of ['1', '2', '3']) hub.publish('a', { data });
    const reader = new Reader();
    hub.subscribe('a', reader, { lastEventId: '1795408776829004-1' });
    turns.all();
    assert.deepEqual(
      reader.events.map(({ id, event }) => `${id} ${event}`),
      ['1795408776829004-1 sluice:ready', '1795408776829004-2 undefined', '1795408776829004-3 undefined'],
    );
  });

  it('name the topics, and what the caller wants announced', () => {
    const { hub, turns } = handRun();
    const reader = new Reader();
    hub.subscribe(['b', 'a', 'b'], reader, { announce: { server: 'x', topics: 'no' } });
    turns.all();
    assert.deepEqual(JSON.parse(reader.events[0]!.data), { server: 'x', topics: ['a', 'b'] });
  });

  it('spread the clients’ return over a quarter of retry, either way', () => {
    for (const [random, retry] of [
      [0, 750],
      [0.5, 1000],
      [0.999999, 1250],
    ] as const) {
      const { hub, turns } = handRun({ retry: 1000, random: () => random });
      const reader = new Reader();
      hub.subscribe('a', reader);
      turns.all();
      assert.ok(String(reader.chunks[0]).startsWith(`retry: ${retry}\n`));
    }
  });
});

describe('resuming', () => {
  it('from every earlier id gives exactly what came after, topics merged in order', () => {
    const { hub, turns } = handRun();
    const published: { seq: number; topic: string; data: string }[] = [];
    for (let seq = 1; seq <= 60; seq++) {
      const topic = 'abc'[(seq * seq) % 3]!;
      hub.publish(topic, { data: `${topic}${seq}` });
      published.push({ seq, topic, data: `${topic}${seq}` });
    }
    for (const topics of [['a'], ['b'], ['c'], ['a', 'b'], ['b', 'a', 'c'], ['a', 'never-published']]) {
      for (let seq = 0; seq <= 60; seq++) {
        const reader = new Reader();
        hub.subscribe(topics, reader, { lastEventId: `1795408776829004-${seq}` });
        turns.all();
        const after = published.filter((event) => event.seq > seq && topics.includes(event.topic));
        assert.deepEqual(
          reader.texts,
          after.map(({ data }) => data),
        );
        assert.deepEqual(reader.gaps, []);
      }
    }
  });

  it('in pages of any size gives the same', () => {
    for (const maxPageBytes of [1, 20, 100, 1000]) {
      const { hub, turns } = handRun({ maxPageBytes });
      for (let i = 0; i < 40; i++) hub.publish(i % 3 ? 'a' : 'b', { data: String(i) });
      const reader = new Reader();
      hub.subscribe(['a', 'b'], reader, { lastEventId: '1795408776829004-5' });
      turns.all();
      assert.deepEqual(
        reader.texts,
        times(35, (i) => String(i + 5)),
      );
      for (const chunk of reader.chunks.slice(1)) {
        assert.ok(chunk.length <= maxPageBytes || parse(chunk).length === 1);
      }
    }
  });

  it('goes over into live delivery without a seam, whatever is published in between', () => {
    const { hub, turns } = handRun({ maxPageBytes: 50 });
    let count = 0;
    const publish = () => hub.publish('a', { data: String(count++) });
    for (let i = 0; i < 10; i++) publish();
    const reader = new Reader();
    hub.subscribe('a', reader, { lastEventId: '1795408776829004-0' });
    for (let i = 0; i < 20; i++) {
      turns.next();
      publish();
    }
    turns.all();
    assert.deepEqual(reader.texts, times(30, String));
  });

  it('without an id, or with an empty one, is a beginning at the head', () => {
    const { hub, turns } = handRun();
    hub.publish('a', { data: 'past' });
    for (const lastEventId of [undefined, '', null]) {
      const reader = new Reader();
      hub.subscribe('a', reader, { lastEventId });
      turns.all();
      assert.deepEqual(
        reader.events.map(({ id }) => id),
        ['1795408776829004-1'],
      );
    }
    assert.deepEqual([hub.stats.started, hub.stats.resumed], [3, 0]);
  });

  it('gives two connections with one id the same', () => {
    const { hub, turns } = handRun();
    for (const data of ['1', '2', '3']) hub.publish('a', { data });
    const readers = [new Reader(), new Reader()];
    for (const reader of readers) hub.subscribe('a', reader, { lastEventId: '1795408776829004-1' });
    turns.all();
    for (const reader of readers) assert.deepEqual(reader.texts, ['2', '3']);
  });
});

describe('a gap', () => {
  it('is told once, before anything newer, when what comes next was evicted', () => {
    const { hub, turns } = handRun({ history: { maxEvents: 3 } });
    for (let i = 1; i <= 10; i++) hub.publish('a', { data: String(i) });
    const reader = new Reader();
    hub.subscribe('a', reader, { lastEventId: '1795408776829004-4' });
    turns.all();
    hub.publish('a', { data: '11' });
    turns.all();
    assert.deepEqual(
      reader.events.map(({ id, event, data }) => [id, event ?? data]),
      [
        ['1795408776829004-4', 'sluice:ready'],
        ['1795408776829004-7', 'sluice:gap'],
        ['1795408776829004-8', '8'],
        ['1795408776829004-9', '9'],
        ['1795408776829004-10', '10'],
        ['1795408776829004-11', '11'],
      ],
    );
    assert.deepEqual(reader.gaps, [
      {
        id: '1795408776829004-7',
        reason: 'evicted',
        from: '1795408776829004-4',
        to: '1795408776829004-7',
        topics: ['a'],
      },
    ]);
    assert.equal(hub.stats.gaps.evicted, 1);
  });

  it('is none for one who has seen the newest that was dropped', () => {
    const { hub, turns } = handRun({ history: { maxEvents: 3 } });
    for (let i = 1; i <= 10; i++) hub.publish('a', { data: String(i) });
    const reader = new Reader();
    hub.subscribe('a', reader, { lastEventId: '1795408776829004-7' });
    turns.all();
    assert.deepEqual(reader.gaps, []);
    assert.deepEqual(reader.texts, ['8', '9', '10']);
  });

  it('of one topic leaves the others whole, and an id from which they stay whole', () => {
    const { hub, turns } = handRun({ history: { maxEvents: 2 } });
    hub.publish('quiet', { data: 'q1' });
    for (let i = 2; i <= 8; i++) hub.publish('busy', { data: `b${i}` });
    hub.publish('quiet', { data: 'q9' });
    const reader = new Reader();
    hub.subscribe(['busy', 'quiet'], reader, { lastEventId: '1795408776829004-0' });
    turns.all();
    assert.deepEqual(reader.gaps, [
      {
        id: '1795408776829004-0',
        reason: 'evicted',
        from: '1795408776829004-0',
        to: '1795408776829004-6',
        topics: ['busy'],
      },
    ]);
    assert.deepEqual(reader.texts, ['q1', 'b7', 'b8', 'q9']);
  });

  it('of several topics names them all, once', () => {
    const { hub, turns } = handRun({ history: { maxEvents: 1 } });
    for (let i = 1; i <= 9; i++) hub.publish('abc'[i % 3]!, { data: String(i) });
    const reader = new Reader();
    hub.subscribe(['a', 'b', 'c'], reader, { lastEventId: '1795408776829004-3' });
    turns.all();
    assert.deepEqual(reader.gaps, [
      {
        id: '1795408776829004-4',
        reason: 'evicted',
        from: '1795408776829004-3',
        to: '1795408776829004-6',
        topics: ['a', 'b', 'c'],
      },
    ]);
    assert.deepEqual(reader.texts, ['7', '8', '9']);
  });

  it('is told again when the gap itself was cut off on its way, from every frame on', () => {
    const { hub, turns } = handRun({ history: { maxEvents: 2 } });
    hub.publish('quiet', { data: 'q1' });
    for (let i = 2; i <= 8; i++) hub.publish('busy', { data: `b${i}` });
    for (const topics of [['busy'], ['busy', 'quiet']]) {
      const whole = new Reader();
      hub.subscribe(topics, whole, { lastEventId: '1795408776829004-0' });
      turns.all();
      for (let cut = 1; cut <= whole.events.length; cut++) {
        const seen = whole.events.slice(0, cut);
        const again = new Reader();
        hub.subscribe(topics, again, { lastEventId: seen.at(-1)!.id });
        turns.all();
        const all = [...seen, ...again.events].filter(({ event }) => event === undefined);
        assert.deepEqual(all, whole.of());
        const gaps = [...seen, ...again.events].filter(({ event }) => event === 'sluice:gap');
        assert.ok(gaps.length > 0);
      }
    }
  });

  it('is none for a quiet topic, however far the hub has moved on', () => {
    const { hub, turns } = handRun({ history: { maxEvents: 2 } });
    hub.publish('quiet', { data: 'q1' });
    for (let i = 0; i < 1000; i++) hub.publish('busy', { data: 'b' });
    for (const lastEventId of [
      '1795408776829004-0',
      '1795408776829004-1',
      '1795408776829004-500',
      '1795408776829004-1001',
    ]) {
      for (const topics of [['quiet'], ['never-published'], ['never-published', 'quiet']]) {
        const reader = new Reader();
        hub.subscribe(topics, reader, { lastEventId });
        turns.all();
        assert.deepEqual(reader.gaps, []);
        assert.deepEqual(
          reader.texts,
          lastEventId === '1795408776829004-0' && topics.includes('quiet') ? ['q1'] : [],
        );
      }
    }
  });

  it('of an unknown epoch and a position ahead of the head leads to the head', () => {
    const { hub, turns } = handRun();
    hub.publish('a', { data: '1' });
    hub.publish('a', { data: '2' });
    const reasons = {
      '1795408776829003-1': 'unknown-epoch',
      '1795408776829005-2': 'unknown-epoch',
      '0-0': 'unknown-epoch',
      '1795408776829004-3': 'ahead',
      '1795408776829004-9007199254740991': 'ahead',
    };
    for (const [lastEventId, reason] of Object.entries(reasons)) {
      const reader = new Reader();
      hub.subscribe('a', reader, { lastEventId });
      turns.all();
      assert.deepEqual(
        reader.events.map(({ event }) => event),
        ['sluice:ready', 'sluice:gap'],
      );
      assert.equal(reader.events[0]!.id, lastEventId);
      const { id, ...gap } = reader.gaps[0]!;
      assert.deepEqual(gap, { reason, from: lastEventId, to: id, topics: ['a'] });
    }
    assert.equal(hub.stats.gaps['unknown-epoch'], 3);
    assert.equal(hub.stats.gaps.ahead, 2);
  });

  it('is what a malformed id gives: never the beginning, never silence', () => {
    const { hub, turns } = handRun();
    hub.publish('a', { data: '1' });
    const malformed = [
      '1795408776829004-1, 1795408776829004-1',
      '1795408776829004-1,1795408776829004-1',
      'Ã¼',
      '\u0000',
      ' 1795408776829004-1',
      '1795408776829004-1 ',
      '1795408776829004-1\n',
      '-1795408776829004-1',
      '1795408776829004--1',
      '1795408776829004-01',
      '01795408776829004-1',
      '7',
      '1795408776829004-',
      '-1',
      '-',
      '1795408776829004-1-1',
      '7_1',
      '+1795408776829004-1',
      '1795408776829004-1.0',
      '1795408776829004-1e0',
      '0x1795408776829004-1',
      '1795408776829004-99999999999999999',
      '9007199254740993-1',
      '1'.repeat(10_000),
      `1795408776829004-${'1'.repeat(10_000)}`,
      '٧-١',
      'undefined',
      'null',
      '*',
      '$',
      '0',
    ];
    for (const lastEventId of malformed) {
      const reader = new Reader();
      hub.subscribe('a', reader, { lastEventId });
      turns.all();
      assert.deepEqual(
        reader.events.map(({ event }) => event),
        ['sluice:ready', 'sluice:gap'],
        lastEventId,
      );
      assert.deepEqual(reader.gaps, [
        {
          id: '1795408776829004-1',
          reason: 'malformed',
          from: null,
          to: '1795408776829004-1',
          topics: ['a'],
        },
      ]);
      // Cut before the gap has arrived, the client comes back with this id, and must be told again.
      const again = new Reader();
      hub.subscribe('a', again, { lastEventId: reader.events[0]!.id });
      turns.all();
      assert.deepEqual(
        again.gaps.map(({ reason }) => reason),
        ['unknown-epoch'],
      );
    }
  });

  it('is followed by what is published from then on', () => {
    const { hub, turns } = handRun();
    for (const lastEventId of ['1795408776829003-1', '1795408776829004-9', 'x']) {
      const reader = new Reader();
      hub.subscribe('a', reader, { lastEventId });
      hub.publish('a', { data: 'new' });
      turns.all();
      assert.deepEqual(
        reader.events.map(({ event, data }) => event ?? data),
        ['sluice:ready', 'sluice:gap', 'new'],
      );
    }
  });

  it('is told to a client of an earlier life of the hub, whose ids are never taken for this one’s', () => {
    const first = new Hub();
    const second = new Hub();
    first.publish('a', { data: '1' });
    second.publish('a', { data: 'other' });
    assert.notEqual(first.position, second.position);
    const { hub, turns } = handRun({ epoch: undefined, now: () => 1795408776829.7, random: () => 0.1239 });
    assert.equal(hub.position, '1795408776829123-0');
    const reader = new Reader();
    hub.subscribe('a', reader, { lastEventId: first.position });
    turns.all();
    assert.deepEqual(
      reader.gaps.map(({ reason }) => reason),
      ['unknown-epoch'],
    );
  });
});

describe('the end of a topic', () => {
  it('is told to its subscribers after all that they lack, and ends the response', async () => {
    const { hub, turns } = handRun({ maxPageBytes: 30 });
    const early = new Reader();
    hub.subscribe('a', early);
    turns.all();
    for (const data of ['1', '2', '3']) hub.publish('a', { data });
    const late = new Reader();
    hub.subscribe('a', late, { lastEventId: '1795408776829004-1' });
    assert.equal(hub.end('a'), true);
    assert.equal(hub.end('a'), false);
    assert.equal(hub.end('unknown'), false);
    turns.all();
    assert.deepEqual(early.texts, ['1', '2', '3']);
    assert.deepEqual(late.texts, ['2', '3']);
    for (const reader of [early, late]) {
      assert.deepEqual(reader.events.at(-1), {
        id: '1795408776829004-3',
        event: 'sluice:end',
        data: '{"topics":["a"]}',
      });
      assert.ok(reader.writableEnded);
    }
    assert.equal(hub.size, 0);
  });

  it('comes only after the end of all the topics of the connection', () => {
    const { hub, turns } = handRun();
    const reader = new Reader();
    hub.subscribe(['a', 'b'], reader);
    hub.end('a');
    turns.all();
    hub.publish('b', { data: 'still' });
    turns.all();
    assert.ok(!reader.writableEnded);
    hub.end('b');
    turns.all();
    assert.deepEqual(
      reader.events.map(({ event, data }) => event ?? data),
      ['sluice:ready', 'still', 'sluice:end'],
    );
  });

  it('waits for a slow reader', async () => {
    const { hub, turns } = handRun({ maxPageBytes: 30 });
    const reader = slowReader();
    hub.subscribe('a', reader);
    for (const data of ['1', '2', '3']) hub.publish('a', { data });
    hub.end('a');
    for (let i = 0; i < 6; i++) {
      turns.all();
      await drain(reader);
    }
    assert.deepEqual(
      reader.events.map(({ event, data }) => event ?? data),
      ['sluice:ready', '1', '2', '3', 'sluice:end'],
    );
  });

  it('refuses with 204, or ends, a sink for which nothing is left, and gives a closed subscription', () => {
    const { hub, turns } = handRun();
    for (const data of ['1', '2']) hub.publish('a', { data });
    hub.end('a');
    const refused: number[] = [];
    const stream = Object.assign(new Reader(), { refuse: (status: number) => refused.push(status) });
    const subscription = hub.subscribe('a', stream, { lastEventId: '1795408776829004-2' });
    assert.deepEqual([subscription.closed, subscription.position], [true, '1795408776829004-2']);
    assert.deepEqual(refused, [204]);
    assert.equal(stream.writableEnded, false);
    const plain = new Reader();
    assert.equal(hub.subscribe('a', plain).closed, true);
    assert.equal(plain.writableEnded, true);
    assert.equal(hub.size, 0);
    assert.equal(stream.listenerCount('close'), new Reader().listenerCount('close'));
    const open = new Reader();
    assert.equal(hub.subscribe(['a', 'b'], open, { lastEventId: '1795408776829004-2' }).closed, false);
    const behind = new Reader();
    hub.subscribe('a', behind, { lastEventId: '1795408776829004-1' });
    turns.all();
    assert.deepEqual(
      behind.events.map(({ event, data }) => event ?? data),
      ['sluice:ready', '2', 'sluice:end'],
    );
    const { id: lastEventId } = behind.events.at(-1)!;
    assert.equal(hub.subscribe('a', new Reader(), { lastEventId }).closed, true);
  });

  it('does not hide a gap', () => {
    const { hub, turns } = handRun({ history: { maxEvents: 1 } });
    for (const data of ['1', '2']) hub.publish('a', { data });
    hub.end('a');
    for (const [lastEventId, rest] of [
      ['1795408776829004-0', ['2']],
      ['6-9', []],
      ['1795408776829004-9', []],
      ['x', []],
    ] as const) {
      const reader = new Reader();
      hub.subscribe('a', reader, { lastEventId });
      turns.all();
      assert.equal(reader.gaps.length, 1);
      assert.deepEqual(reader.texts, rest);
      assert.equal(reader.events.at(-1)!.event, 'sluice:end');
    }
  });

  it('makes publishing fail', () => {
    const { hub } = handRun();
    hub.publish('a', { data: '1' });
    hub.end('a');
    assert.throws(() => hub.publish('a', { data: '2' }), { code: 'ERR_SSE_TOPIC_ENDED', message: /"a"/ });
    assert.equal(hub.position, '1795408776829004-1');
  });
});

describe('conflation', () => {
  it('gives one who lags the newest of each key, and all without a key, in order', () => {
    const { hub, turns } = handRun();
    for (const [key, data] of [
      ['x', 'x1'],
      ['y', 'y1'],
      [undefined, '-'],
      ['x', 'x2'],
      [undefined, '='],
      ['x', 'x3'],
    ] as const) {
      hub.publish('a', { key, data });
    }
    const [conflating, plain] = [new Reader(), new Reader()];
    hub.subscribe('a', conflating, { lastEventId: '1795408776829004-0', conflate: true });
    hub.subscribe('a', plain, { lastEventId: '1795408776829004-0' });
    turns.all();
    assert.deepEqual(conflating.texts, ['y1', '-', '=', 'x3']);
    assert.deepEqual(plain.texts, ['x1', 'y1', '-', 'x2', '=', 'x3']);
  });

  it('holds for one at the head as well, within a turn', () => {
    const { hub, turns } = handRun();
    const reader = new Reader();
    hub.subscribe('a', reader, { conflate: true });
    turns.all();
    for (const data of ['1', '2', '3']) hub.publish('a', { key: 'k', data });
    turns.all();
    hub.publish('a', { key: 'k', data: '4' });
    turns.all();
    assert.deepEqual(reader.texts, ['3', '4']);
  });

  it('keeps equal keys of two topics apart', () => {
    const { hub, turns } = handRun();
    for (const data of ['1', '2'])
      for (const topic of ['a', 'b']) hub.publish(topic, { key: 'k', data: topic + data });
    const reader = new Reader();
    hub.subscribe(['a', 'b'], reader, { lastEventId: '1795408776829004-0', conflate: true });
    turns.all();
    assert.deepEqual(reader.texts, ['a2', 'b2']);
  });

  it('takes the newest from all that was missed, not from one page of it, and loses nothing between pages', () => {
    const { hub, turns } = handRun({ maxPageBytes: 60 });
    for (let round = 0; round < 50; round++) {
      for (let key = 0; key < 10; key++) hub.publish('a', { key: `k${key}`, data: `${key}:${round}` });
    }
    const reader = new Reader();
    hub.subscribe('a', reader, { lastEventId: '1795408776829004-3', conflate: true });
    turns.all();
    assert.deepEqual(
      reader.texts,
      times(10, (key) => `${key}:49`),
    );
    assert.ok(reader.chunks.length > 4);
  });

  it('is what a slow reader of a fast ticker needs: as many events as it can take, the newest at last', async () => {
    const { hub, turns } = handRun();
    const reader = slowReader();
    hub.subscribe('a', reader, { conflate: true });
    for (let i = 0; i < 1000; i++) {
      hub.publish('a', { key: 'k', data: String(i) });
      turns.all();
      if (i % 250 === 0) await drain(reader);
    }
    for (let i = 0; i < 3; i++) {
      await drain(reader);
      turns.all();
    }
    assert.equal(reader.texts.at(-1), '999');
    assert.ok(reader.texts.length < 10);
    assert.deepEqual(reader.gaps, []);
  });
});

describe('what is remembered', () => {
  it('is bounded for each topic by what a function says of it', () => {
    const asked: string[] = [];
    const { hub } = handRun({
      history: (topic) => {
        asked.push(topic);
        return { maxEvents: topic === 'long' ? 100 : 2 };
      },
    });
    for (let i = 0; i < 50; i++) for (const topic of ['long', 'short']) hub.publish(topic, { data: 'x' });
    const sizes = Object.fromEntries(hub.topics().map(({ topic, events }) => [topic, events]));
    assert.deepEqual(sizes, { long: 50, short: 2 });
    assert.deepEqual(asked, ['long', 'short']);
  });

  it('is bounded by bytes, in each topic', () => {
    const { hub } = handRun({ history: { maxBytes: 1000 } });
    for (let i = 0; i < 100; i++) hub.publish('a', { data: 'x'.repeat(80) });
    const [topic] = hub.topics();
    assert.ok(topic!.bytes <= 1000 && topic!.bytes > 800);
    assert.equal(hub.historyBytes, topic!.bytes);
  });

  it('is bounded by age, also in a topic that has fallen silent', () => {
    let now = 1000;
    const { hub, turns } = handRun({ history: { maxAge: 100 }, now: () => now });
    hub.publish('silent', { data: 'x' });
    hub.publish('a', { data: 'x' });
    now += 101;
    const back = new Reader();
    hub.subscribe('a', back, { lastEventId: '1795408776829004-0' });
    turns.all();
    assert.deepEqual(
      back.gaps.map(({ reason }) => reason),
      ['evicted'],
    );
    for (let i = 0; i < 3; i++) {
      hub.publish('busy', { data: 'x' });
      turns.all();
    }
    const { silent } = Object.fromEntries(hub.topics().map((info) => [info.topic, info.events]));
    assert.equal(silent, 0);
  });

  it('is, of all topics together, no more than maxHistoryBytes, the silent ones losing theirs first', () => {
    const { hub, turns } = handRun({ maxHistoryBytes: 10_000 });
    for (let i = 0; i < 500; i++) {
      hub.publish(`t${i % 20 < 15 ? i % 3 : i % 20}`, { data: 'x'.repeat(100) });
      assert.ok(hub.historyBytes <= 10_000);
      assert.equal(
        hub.historyBytes,
        hub.topics().reduce((sum, { bytes }) => sum + bytes, 0),
      );
    }
    hub.publish('silent', { data: 'x' });
    for (let i = 0; i < 200; i++) hub.publish('busy', { data: 'x'.repeat(100) });
    const reader = new Reader();
    hub.subscribe('silent', reader, { lastEventId: '1795408776829004-500' });
    turns.all();
    assert.deepEqual(
      reader.gaps.map(({ from, to }) => [from, to]),
      [['1795408776829004-500', '1795408776829004-501']],
    );
  });

  it('is never so little that a live subscriber misses what was just published', () => {
    const { hub, turns } = handRun({ maxHistoryBytes: 1000 });
    const reader = new Reader();
    hub.subscribe(['a', 'b'], reader);
    turns.all();
    for (let i = 0; i < 100; i++) {
      hub.publish(i % 3 ? 'a' : 'b', { data: `${i} ${'x'.repeat(i === 50 ? 2000 : 200)}` });
      turns.all();
    }
    assert.equal(reader.texts.length, 100);
    assert.deepEqual(reader.gaps, []);
    assert.ok(hub.historyBytes <= 1000 && hub.historyBytes > 700);
  });

  it('does not lose one of the topics asked for to make room for another of them', () => {
    const { hub, turns } = handRun({ maxTopics: 2 });
    hub.publish('old', { data: '1' });
    hub.publish('newer', { data: '2' });
    const reader = new Reader();
    hub.subscribe(['fresh', 'old'], reader, { lastEventId: '1795408776829004-0' });
    turns.all();
    assert.deepEqual(reader.texts, ['1']);
    assert.deepEqual(
      hub.topics().map(({ topic }) => topic),
      ['old', 'fresh'],
    );
  });

  it('is forgotten with idle topics when there are too many, and a cursor of them gets its gap', () => {
    const { hub, turns } = handRun({ maxTopics: 5 });
    const staying = new Reader();
    hub.subscribe('followed', staying);
    for (let i = 0; i < 20; i++) {
      hub.publish(`t${i}`, { data: String(i) });
      assert.ok(hub.topics().length <= 5);
    }
    hub.publish('followed', { data: 'x' });
    turns.all();
    assert.deepEqual(staying.texts, ['x']);
    const gone = new Reader();
    hub.subscribe('t3', gone, { lastEventId: '1795408776829004-3' });
    const kept = new Reader();
    hub.subscribe('t19', kept, { lastEventId: '1795408776829004-19' });
    const both = new Reader();
    hub.subscribe(['t3', 't19'], both, { lastEventId: '1795408776829004-3' });
    const fresh = new Reader();
    hub.subscribe('t3', fresh, { lastEventId: hub.position });
    turns.all();
    assert.deepEqual(
      gone.gaps.map(({ reason, topics }) => [reason, topics]),
      [['evicted', ['t3']]],
    );
    assert.deepEqual([kept.texts, kept.gaps], [['19'], []]);
    // Which of its events are gone is not known of a topic that is younger than what was forgotten.
    assert.deepEqual(
      both.gaps.map(({ topics }) => topics),
      [['t19', 't3']],
    );
    assert.deepEqual(both.texts, ['19']);
    assert.deepEqual(fresh.gaps, []);
  });

  it('cannot make room when every topic is followed', () => {
    const { hub, turns } = handRun({ maxTopics: 3 });
    const readers = ['a', 'b', 'c'].map((topic) => {
      const reader = new Reader();
      hub.subscribe(topic, reader);
      return reader;
    });
    const full = { code: 'ERR_SSE_TOO_MANY_TOPICS', message: /`maxTopics`/ };
    assert.throws(() => hub.publish('d', { data: 'x' }), full);
    const refused = new Reader();
    const listeners = refused.listenerCount('close');
    assert.throws(() => hub.subscribe(['a', 'd'], refused), full);
    assert.equal(refused.listenerCount('close'), listeners);
    assert.deepEqual(
      hub.topics().map(({ topic, subscribers }) => [topic, subscribers]),
      [
        ['a', 1],
        ['b', 1],
        ['c', 1],
      ],
    );
    assert.deepEqual([hub.size, hub.stats.started], [3, 3]);
    hub.publish('a', { data: 'x' });
    turns.all();
    assert.deepEqual(
      readers.map(({ texts }) => texts),
      [['x'], [], []],
    );
  });

  it('does not include topics that were only waited for', () => {
    const { hub, turns } = handRun();
    const subscription = hub.subscribe(['a', 'b'], new Reader());
    turns.all();
    assert.equal(hub.topics().length, 2);
    subscription?.close();
    assert.equal(hub.topics().length, 0);
  });
});

describe('a slow reader', () => {
  it('is written to when it drains, and not before', async () => {
    const { hub, turns } = handRun({ maxPageBytes: 60 });
    for (let i = 0; i < 10; i++) hub.publish('a', { data: `event ${i}` });
    const reader = slowReader();
    const subscription = hub.subscribe('a', reader, { lastEventId: '1795408776829004-0' });
    turns.all();
    assert.equal(reader.chunks.length, 1);
    for (let chunks = 2; reader.texts.length < 10; chunks++) {
      hub.publish('b', { data: 'a turn that is no business of the reader' });
      turns.all();
      assert.equal(reader.chunks.length, chunks - 1);
      await drain(reader);
      turns.all();
      assert.equal(reader.chunks.length, chunks);
    }
    assert.deepEqual(
      reader.texts,
      times(10, (i) => `event ${i}`),
    );
    await drain(reader);
    turns.all();
    assert.equal(subscription?.lag, 0);
  });

  it('that is overtaken is told what it has missed', async () => {
    const { hub, turns } = handRun({ history: { maxEvents: 2 } });
    const reader = slowReader();
    hub.subscribe('a', reader);
    for (let i = 1; i <= 9; i++) {
      hub.publish('a', { data: String(i) });
      turns.all();
    }
    for (let i = 0; i < 4; i++) {
      await drain(reader);
      turns.all();
    }
    assert.deepEqual(
      reader.gaps.map(({ from, to }) => [from, to]),
      [['1795408776829004-0', '1795408776829004-7']],
    );
    assert.deepEqual(reader.texts, ['8', '9']);
  });

  it('that is overtaken is cut off as slow-consumer where the hub is to, and then told as one who comes back', async () => {
    const { hub, turns } = handRun({ history: { maxEvents: 2 }, overtaken: 'close' });
    const reader = slowReader();
    hub.subscribe('a', reader);
    turns.all();
    await drain(reader);
    for (let i = 1; i <= 9; i++) {
      hub.publish('a', { data: String(i) });
      turns.all();
    }
    await drain(reader);
    turns.all();
    assert.equal(reader.cutFor, 'slow-consumer');
    assert.deepEqual([reader.texts, reader.gaps, hub.size], [['1'], [], 0]);
    const again = new Reader();
    hub.subscribe('a', again, { lastEventId: '1795408776829004-1' });
    turns.all();
    assert.deepEqual(
      again.gaps.map(({ from, to }) => [from, to]),
      [['1795408776829004-1', '1795408776829004-7']],
    );
    assert.deepEqual(again.texts, ['8', '9']);
  });

  it('holds no Buffer of its own: those at the same place get the same one', () => {
    const { hub, turns } = handRun();
    const readers = times(5, () => new Reader());
    for (const reader of readers.slice(0, 3)) hub.subscribe('a', reader);
    turns.all();
    for (let i = 0; i < 9; i++) hub.publish('b', { data: 'between' });
    for (const reader of readers.slice(3)) hub.subscribe('a', reader, { lastEventId: '1795408776829004-4' });
    turns.all();
    hub.publish('a', { data: 'x' });
    hub.publish('a', { data: 'y' });
    turns.all();
    for (const { chunks } of readers) {
      assert.equal(chunks.length, 2);
      assert.equal(chunks[1], readers[0]!.chunks[1]);
    }
    const backs = times(3, () => new Reader());
    for (const back of backs) hub.subscribe('a', back, { lastEventId: '1795408776829004-9' });
    turns.all();
    for (const back of backs) assert.equal(back.chunks[1], backs[0]!.chunks[1]);
  });

  it('shares a full page with those at the same place who have their turns later, too', () => {
    const { hub, turns } = handRun({ maxPageBytes: 64 * 1024 });
    for (let i = 0; i < 200; i++) hub.publish('a', { data: 'x'.repeat(1000) });
    const readers = times(50, () => new Reader());
    for (const reader of readers) hub.subscribe('a', reader, { lastEventId: '1795408776829004-0' });
    assert.ok(turns.all() > 10);
    for (const reader of readers) assert.equal(reader.texts.length, 200);
    const full = readers.flatMap(({ chunks }) => chunks.filter(({ length }) => length > 60 * 1024));
    assert.equal(full.length, 150);
    assert.equal(new Set(full).size, 3);
  });

  it('is not given what it was told to be lost from a page that others had before', () => {
    const history = (topic: string) => ({ maxEvents: topic === 'a' ? 3 : 100 });
    const { hub, turns } = handRun({ maxPageBytes: 105, history });
    for (const data of ['a1', 'b2', 'a3', 'b4', 'b5']) hub.publish(data[0]!, { data });
    const [first, second] = [new Reader(), new Reader()];
    hub.subscribe(['a', 'b'], first, { lastEventId: '1795408776829004-0' });
    turns.next();
    turns.next();
    assert.deepEqual(first.texts, ['a1', 'b2', 'a3']);
    for (let i = 6; i <= 10; i++) hub.publish('a', { data: `a${i}` });
    hub.subscribe(['a', 'b'], second, { lastEventId: '1795408776829004-0' });
    turns.all();
    assert.deepEqual(
      second.gaps.map(({ from, to, topics }) => [from, to, ...topics]),
      [['1795408776829004-0', '1795408776829004-7', 'a']],
    );
    assert.deepEqual(second.texts, ['b2', 'b4', 'b5', 'a8', 'a9', 'a10']);
  });

  it('holds nothing of a topic that is forgotten', () => {
    setFlagsFromString('--expose-gc');
    const gc = runInNewContext('gc') as () => void;
    const { hub, turns } = handRun({ maxTopics: 1 });
    const play = (topic: string) => {
      for (let i = 0; i < 3000; i++) hub.publish(topic, { data: `${i}${'x'.repeat(1000)}` });
      const position = `1795408776829004-${Number(hub.position.split('-')[1]) - 100}`;
      const subscription = hub.subscribe(topic, new Reader(), { lastEventId: position });
      turns.all();
      subscription?.close();
    };
    play('first');
    gc();
    const before = process.memoryUsage().heapUsed;
    for (let i = 0; i < 12; i++) play(`topic-${i}`);
    gc();
    const held = process.memoryUsage().heapUsed - before;
    assert.ok(held < 6e6, `${held} bytes, two topics' worth and more`);
  });
});

describe('a turn', () => {
  it('has one write for each connection, whatever was published in it', () => {
    const { hub, turns } = handRun();
    const readers = times(4, () => new Reader());
    for (const reader of readers) hub.subscribe(['a', 'b'], reader);
    turns.all();
    for (let i = 0; i < 16; i++) hub.publish(i % 2 ? 'a' : 'b', { data: String(i) });
    assert.equal(turns.planned, 1);
    turns.all();
    for (const { chunks, texts } of readers) {
      assert.equal(chunks.length, 2);
      assert.deepEqual(texts, times(16, String));
    }
  });

  it('does not write twice to a connection that fell behind in it, even when others leave meanwhile', () => {
    const { hub, turns } = handRun({ maxPageBytes: 30 });
    const leaving = times(3, () => new Reader());
    const staying = new Reader();
    const left = leaving.map((reader) => hub.subscribe('a', reader, { lastEventId: '1795408776829004-0' }));
    turns.all();
    hub.subscribe('b', staying);
    turns.all();
    // Three are due; the one at the head falls behind, and its write makes two of the due leave.
    for (let i = 0; i < 3; i++) hub.publish('b', { data: `event ${i}` });
    const due = times(3, () => new Reader());
    const subscriptions = due.map((reader) => hub.subscribe('c', reader));
    let writes = 0;
    staying.write = (chunk: Buffer) => {
      writes++;
      for (const subscription of subscriptions.slice(1)) subscription?.close();
      return Reader.prototype.write.call(staying, chunk);
    };
    turns.next();
    assert.equal(writes, 1);
    turns.all();
    assert.deepEqual(staying.texts, ['event 0', 'event 1', 'event 2']);
    assert.equal(left.length, 3);
  });

  it('wakes nobody but the subscribers of what was published, with 10,000 topics', () => {
    const { hub, turns } = handRun();
    const readers = times(10_000, (i) => {
      const reader = { writes: 0, write: () => reader.writes++ >= 0, end() {}, on() {}, off() {} };
      hub.subscribe(`t${i}`, reader);
      return reader;
    });
    turns.all();
    for (const i of [5, 5000]) hub.publish(`t${i}`, { data: 'x' });
    assert.equal(turns.all(), 1);
    const woken = readers.flatMap(({ writes }, i) => (writes === 2 ? [i] : []));
    assert.deepEqual(woken, [5, 5000]);
    assert.equal(hub.topics().length, 10_000);
  });

  it('goes on though whoever listens to its latency fails', () => {
    let told = 0;
    const onDelivered = () => {
      told++;
      throw new Error('theirs');
    };
    const { hub, turns } = handRun({ onDelivered, maxPageBytes: 30 });
    const reader = new Reader();
    for (const data of ['1', '2', '3']) hub.publish('a', { data });
    assert.equal(told, 0);
    hub.subscribe('a', reader, { lastEventId: '1795408776829004-0' });
    for (let i = 0; i < 9; i++) {
      try {
        turns.next();
      } catch {}
    }
    assert.deepEqual(reader.texts, ['1', '2', '3']);
    assert.equal(told, 1);
  });

  it('leaves nothing to do when there is nothing to do', () => {
    const { hub, turns } = handRun();
    hub.subscribe('a', new Reader());
    hub.subscribe('a', new Reader(), { lastEventId: '1795408776829004-0' });
    hub.publish('a', { data: 'x' });
    assert.ok(turns.all() < 5);
    hub.publish('nobody-reads-it', { data: 'x' });
    assert.equal(turns.all(), 1);
  });

  it('catches up with the many who come back at once a few at a time, and delivers to the others in between', () => {
    const { hub, turns } = handRun();
    for (let i = 0; i < 1000; i++) hub.publish('past', { data: 'x'.repeat(1000) });
    const backs = times(200, () => new Reader());
    for (const back of backs) hub.subscribe('past', back, { lastEventId: '1795408776829004-0' });
    const live = new Reader();
    hub.subscribe('now', live);
    for (let i = 0; i < 20; i++) turns.next();
    for (let i = 1; i <= 20; i++) {
      const before = hub.stats.deliveredBytes;
      hub.publish('now', { data: String(i) });
      turns.next();
      assert.equal(live.texts.length, i);
      assert.ok(hub.stats.deliveredBytes - before < 1.2 * 1024 * 1024);
    }
    turns.all();
    for (const back of backs) assert.equal(back.texts.length, 1000);
  });

  it('passes over conflated events for a few at a time as well', () => {
    const { hub, turns } = handRun();
    for (let i = 0; i < 10_000; i++) hub.publish('a', { key: 'k', data: 'x' });
    const readers = times(100, () => new Reader());
    readers.forEach((reader, i) => {
      hub.subscribe('a', reader, { lastEventId: `1795408776829004-${i}`, conflate: true });
    });
    turns.next();
    for (let turn = 1; turns.next(); turn++) {
      const served = readers.filter(({ texts }) => texts.length === 1).length;
      assert.ok(served <= turn * 4);
    }
    for (const { texts } of readers) assert.equal(texts.length, 1);
  });

  it('lets those who are behind get on, however much goes to those at the head', () => {
    const { hub, turns } = handRun();
    for (let i = 0; i < 30; i++) hub.subscribe('busy', new Reader());
    turns.all();
    const reader = new Reader();
    hub.publish('busy', { data: 'x'.repeat(50_000) });
    hub.subscribe('quiet', reader);
    turns.next();
    assert.deepEqual(
      reader.events.map(({ event }) => event),
      ['sluice:ready'],
    );
  });
});

describe('a sink', () => {
  it('that throws is cut off and harms nobody', () => {
    const { hub, turns } = handRun();
    const readers = times(5, () => new Reader());
    for (const reader of readers) hub.subscribe('a', reader);
    turns.all();
    readers[2]!.write = () => {
      throw new Error('broken');
    };
    hub.publish('a', { data: 'x' });
    hub.publish('a', { data: 'y' });
    turns.all();
    assert.deepEqual(
      readers.map(({ texts }) => texts.join('')),
      ['xy', 'xy', '', 'xy', 'xy'],
    );
    assert.equal(readers[2]!.cutFor, 'error');
    assert.equal(hub.size, 4);
  });

  it('that throws at its end, or when it is cut off, harms nobody either', () => {
    const { hub, turns } = handRun();
    const broken = () => {
      throw new Error('broken');
    };
    const [ending, cut, last] = [new Reader(), new Reader(), new Reader()];
    for (const reader of [ending, cut, last]) hub.subscribe('a', reader);
    turns.all();
    ending.end = broken;
    cut.write = broken;
    cut.abort = broken;
    hub.publish('a', { data: 'x' });
    hub.end('a');
    turns.all();
    assert.equal(last.events.at(-1)!.event, 'sluice:end');
    assert.equal(hub.size, 0);
  });

  it('that fails is no uncaught exception', async () => {
    const { hub, turns } = handRun();
    const [failing, other] = [new Reader(), new Reader()];
    for (const reader of [failing, other]) hub.subscribe('a', reader);
    turns.all();
    const closed = new Promise((resolve) => failing.on('close', resolve));
    failing.destroy(new Error('connection reset'));
    hub.publish('a', { data: 'x' });
    turns.all();
    await closed;
    assert.deepEqual(other.texts, ['x']);
    assert.equal(hub.size, 1);
  });

  it('that closes is forgotten, with the listeners', async () => {
    const { hub, turns } = handRun();
    const reader = new Reader();
    const counts = () => ['drain', 'close'].map((name) => reader.listenerCount(name));
    const before = counts();
    hub.subscribe('a', reader);
    turns.all();
    reader.destroy();
    await once(reader, 'close');
    assert.deepEqual(counts(), before);
    assert.deepEqual([hub.size, hub.topics()], [0, []]);
  });

  it('that was closed before gets a subscription that is closed', () => {
    const { hub, turns } = handRun();
    const reader = new Reader();
    reader.destroy();
    assert.equal(hub.subscribe('a', reader)?.closed, true);
    assert.equal(turns.all(), 0);
    assert.deepEqual([hub.size, hub.topics()], [0, []]);
  });

  it('may be closed during its own write, and is not kept', () => {
    for (const taken of [true, false]) {
      const { hub, turns } = handRun();
      const [reader, other] = [new Reader(), new Reader()];
      const subscription = hub.subscribe('a', reader);
      hub.subscribe('a', other);
      turns.all();
      let writes = 0;
      reader.write = () => {
        writes++;
        subscription?.close();
        return taken;
      };
      for (let i = 0; i < 3; i++) {
        hub.publish('a', { data: 'x' });
        turns.all();
      }
      assert.equal(writes, 1);
      assert.deepEqual(other.texts, ['x', 'x', 'x']);
      assert.deepEqual([hub.size, subscription?.closed, turns.planned], [1, true, 0]);
      assert.equal(subscription?.position, '1795408776829004-1'); // which would go on if it were waiting at the head
    }
  });

  it('may publish, subscribe, end and close from inside its write', () => {
    const { hub, turns } = handRun();
    const [first, second, third] = [new Reader(), new Reader(), new Reader()];
    hub.subscribe('a', first);
    const closing = hub.subscribe('a', second);
    turns.all();
    let done = false;
    first.write = (chunk: Buffer) => {
      if (!done) {
        done = true;
        hub.publish('a', { data: 'from inside' });
        hub.subscribe('a', third);
        closing?.close();
      }
      return Reader.prototype.write.call(first, chunk);
    };
    hub.publish('a', { data: 'x' });
    turns.all();
    assert.deepEqual(first.texts, ['x', 'from inside']);
    assert.deepEqual(second.texts, []);
    hub.publish('a', { data: 'y' });
    turns.all();
    assert.deepEqual([first.texts.at(-1), third.texts], ['y', ['y']]);
    done = false;
    first.write = () => {
      hub.end('a');
      return true;
    };
    hub.publish('a', { data: 'z' });
    turns.all();
    assert.deepEqual(third.events.at(-1)!.event, 'sluice:end');
    assert.equal(hub.size, 0);
  });

  it('may publish and subscribe when it closes', async () => {
    const { hub, turns } = handRun();
    const [leaving, staying, coming] = [new Reader(), new Reader(), new Reader()];
    hub.subscribe('a', leaving);
    hub.subscribe('a', staying);
    turns.all();
    leaving.on('close', () => {
      hub.publish('a', { data: 'one has left' });
      hub.subscribe('a', coming, { lastEventId: '1795408776829004-0' });
    });
    leaving.destroy();
    await once(leaving, 'close');
    turns.all();
    assert.deepEqual([staying.texts, coming.texts], [['one has left'], ['one has left']]);
  });

  it('carries one subscription at a time', () => {
    const { hub } = handRun();
    const reader = new Reader();
    const first = hub.subscribe('a', reader);
    assert.throws(() => hub.subscribe('b', reader), { name: 'TypeError', message: /subscribed already/ });
    first?.close();
    assert.ok(hub.subscribe('b', reader));
    assert.throws(() => hub.subscribe([], new Reader()), {
      name: 'TypeError',
      message: /at least one topic/,
    });
  });
});

describe('a subscription', () => {
  it('knows the position up to which everything was written', async () => {
    const { hub, turns } = handRun({ maxPageBytes: 40 });
    for (let i = 0; i < 3; i++) hub.publish('a', { data: `event ${i}` });
    const reader = slowReader();
    const subscription = hub.subscribe('a', reader, { lastEventId: '1795408776829004-1' })!;
    assert.deepEqual([subscription.position, subscription.lag], ['1795408776829004-1', 2]);
    turns.all();
    assert.deepEqual([subscription.position, subscription.lag], ['1795408776829004-1', 2]);
    await drain(reader);
    turns.all();
    assert.deepEqual([subscription.position, subscription.lag], ['1795408776829004-2', 1]);
    for (let i = 0; i < 3; i++) {
      await drain(reader);
      turns.all();
    }
    assert.deepEqual([subscription.position, subscription.lag], ['1795408776829004-3', 0]);
    hub.publish('not-followed', { data: 'x' });
    turns.all();
    assert.deepEqual([subscription.position, subscription.lag], ['1795408776829004-4', 0]);
  });

  it('never names a position that has not been written yet, not even for the rest of a turn', () => {
    const { hub, turns } = handRun();
    const [other, reader] = [new Reader(), new Reader()];
    hub.subscribe('b', other);
    const subscription = hub.subscribe('a', reader)!;
    turns.all();
    hub.publish('a', { data: 'x' });
    hub.publish('b', { data: 'x' });
    assert.deepEqual([subscription.position, subscription.lag], ['1795408776829004-0', 2]);
    let inside: string | undefined;
    other.write = () => {
      inside = hub.publish('a', { data: 'from inside' });
      return true;
    };
    turns.next();
    assert.equal(inside, '1795408776829004-3');
    assert.deepEqual([subscription.position, subscription.lag], ['1795408776829004-2', 1]);
    turns.next();
    assert.deepEqual([subscription.position, subscription.lag], ['1795408776829004-3', 0]);
  });

  it('is where the client is, as long as it has not been told of its gap', () => {
    const { hub, turns } = handRun();
    hub.publish('a', { data: 'x' });
    for (const [lastEventId, position] of [
      ['1795408776829003-1', '1795408776829003-1'],
      ['1795408776829004-9', '1795408776829004-9'],
      ['1795408776829004-0', '1795408776829004-0'],
      ['x', '0-0'],
      [undefined, '1795408776829004-1'],
    ] as const) {
      const subscription = hub.subscribe('a', new Reader(), { lastEventId })!;
      assert.equal(subscription.position, position);
      turns.all();
      assert.equal(subscription.position, '1795408776829004-1');
    }
  });

  it('moves on with what is not for it, and never goes back', () => {
    const { hub, turns } = handRun({ history: { maxEvents: 1 } });
    const reader = new Reader();
    const subscription = hub.subscribe('a', reader)!;
    turns.all();
    for (let i = 0; i < 5; i++) hub.publish('b', { data: 'x' });
    turns.all();
    assert.equal(subscription.position, '1795408776829004-5');
    for (let i = 0; i < 3; i++) hub.publish('a', { data: 'x' });
    const write = reader.write.bind(reader);
    const positions: string[] = [];
    reader.write = (chunk: Buffer) => {
      positions.push(subscription.position);
      return write(chunk);
    };
    turns.all();
    assert.deepEqual(positions, ['1795408776829004-7', '1795408776829004-8']);
    assert.deepEqual(
      reader.gaps.map(({ from, to }) => [from, to]),
      [['1795408776829004-5', '1795408776829004-7']],
    );
  });

  it('ends without a word, and leaves the sink as it is', () => {
    const { hub, turns } = handRun();
    const reader = new Reader();
    const counts = () => ['drain', 'close', 'error'].map((name) => reader.listenerCount(name));
    const before = counts();
    const subscription = hub.subscribe('a', reader)!;
    turns.all();
    subscription.close();
    subscription.close();
    hub.publish('a', { data: 'x' });
    turns.all();
    assert.equal(subscription.closed, true);
    assert.deepEqual([reader.closed, reader.chunks.length], [false, 1]);
    assert.deepEqual(counts(), before);
  });

  it('names its topics, sorted, each once', () => {
    const { hub } = handRun();
    assert.deepEqual(hub.subscribe(['b', 'a', 'b'], new Reader())?.topics, ['a', 'b']);
    assert.deepEqual(hub.subscribe('c', new Reader())?.topics, ['c']);
  });
});

describe('a permission', () => {
  it('that cannot be decided is denied', () => {
    const { hub, turns } = handRun();
    const reader = new Reader();
    const may = () => {
      throw new Error('the directory does not answer');
    };
    hub.subscribe('a', reader, { may });
    hub.publish('a', { data: 'x' });
    turns.all();
    assert.deepEqual([reader.chunks.length, reader.writableEnded, hub.size], [0, true, 0]);
  });

  it('that is withdrawn ends the streams that it was for, and no others', () => {
    const { hub, turns } = handRun();
    const readers = times(3, () => new Reader());
    for (const [i, reader] of readers.entries()) hub.subscribe(`t${i}`, reader);
    turns.all();
    assert.deepEqual(
      [...hub.subscriptions()].map(({ topics }) => topics[0]),
      ['t0', 't1', 't2'],
    );
    assert.equal(
      hub.kick((sink, { topics }) => sink === readers[0] || topics.includes('t2')),
      2,
    );
    assert.deepEqual(
      readers.map(({ writableEnded }) => writableEnded),
      [true, false, true],
    );
    hub.publish('t1', { data: 'x' });
    turns.all();
    assert.deepEqual([readers[1]!.texts, hub.size], [['x'], 1]);
  });
});

describe('the counts', () => {
  it('tell each topic’s events, bytes, subscribers and newest id', () => {
    const { hub, turns } = handRun({ history: { maxEvents: 1 } });
    hub.publish('a', { data: 'x' });
    hub.publish('a', { data: 'x' });
    hub.subscribe('a', new Reader());
    hub.subscribe(['a', 'b'], new Reader());
    hub.subscribe('a', new Reader(), { conflate: true });
    turns.all();
    hub.end('a');
    const bytes = Buffer.byteLength('id: 1795408776829004-2\ndata: x\n\n');
    assert.deepEqual(hub.topics(), [
      { topic: 'a', events: 1, bytes, subscribers: 3, last: '1795408776829004-2', ended: true },
      { topic: 'b', events: 0, bytes: 0, subscribers: 1, last: '1795408776829004-0', ended: false },
    ]);
    assert.equal(hub.size, 3);
    assert.equal(hub.historyBytes, bytes);
  });

  it('tell what was published and delivered, control events not counted', () => {
    const { hub, turns } = handRun();
    for (let i = 0; i < 2; i++) hub.subscribe('a', new Reader());
    hub.subscribe('a', new Reader(), { lastEventId: 'x' });
    turns.all();
    hub.publish('a', { data: 'ü' });
    turns.all();
    const bytes = Buffer.byteLength('id: 1795408776829004-1\ndata: ü\n\n');
    assert.deepEqual(hub.stats, {
      published: 1,
      publishedBytes: bytes,
      delivered: 3,
      deliveredBytes: 3 * bytes,
      resumed: 1,
      started: 2,
      gaps: { evicted: 0, 'unknown-epoch': 0, ahead: 0, truncated: 0, 'store-changed': 0, malformed: 1 },
    });
  });
});

describe('a log', () => {
  function logged(options: HubOptions = {}) {
    const log = new TestLog();
    return { log, ...handRun({ log, history: { maxEvents: 2 }, ...options }) };
  }

  it('is where those go on who are behind what memory holds, page by page, without a gap', () => {
    const { hub, turns } = logged({ maxPageBytes: 40 });
    for (let i = 1; i <= 10; i++) hub.publish(i % 2 ? 'a' : 'b', { data: String(i) });
    for (let seq = 0; seq <= 10; seq++) {
      const reader = new Reader();
      hub.subscribe(['a', 'b'], reader, { lastEventId: `1795408776829004-${seq}` });
      turns.all();
      assert.deepEqual(
        reader.texts,
        times(10 - seq, (i) => String(seq + i + 1)),
      );
      assert.deepEqual(reader.gaps, []);
    }
  });

  it('names the epoch, and goes on where it ended when the process is another', () => {
    const { log, hub } = logged();
    for (let i = 1; i <= 5; i++) hub.publish('a', { data: String(i) });
    const { hub: next, turns } = handRun({ log, epoch: undefined });
    assert.equal(next.position, '1795408776829004-5');
    const [back, fresh] = [new Reader(), new Reader()];
    next.subscribe('a', back, { lastEventId: '1795408776829004-2' });
    next.subscribe('a', fresh);
    turns.all();
    assert.equal(next.publish('a', { data: '6' }), '1795408776829004-6');
    turns.all();
    assert.deepEqual(back.texts, ['3', '4', '5', '6']);
    assert.deepEqual(fresh.texts, ['6']);
  });

  it('that refuses an event refuses it to the publisher, and nothing has happened', () => {
    const { log, hub, turns } = logged();
    const reader = new Reader();
    hub.subscribe('a', reader);
    turns.all();
    log.append = () => {
      throw new Error('disk full');
    };
    assert.throws(() => hub.publish('a', { data: 'x' }), /disk full/);
    turns.all();
    assert.deepEqual([hub.position, hub.historyBytes, reader.texts], ['1795408776829004-0', 0, []]);
  });

  it('that cannot be read ends the stream, so that the client asks again, once it has waited', async () => {
    const failures = [
      () => {
        throw new Error('no');
      },
      () => Promise.reject(new Error('no')),
    ];
    for (const answer of failures) {
      const { log, hub, turns } = logged();
      for (let i = 1; i <= 5; i++) hub.publish('a', { data: String(i) });
      log.answer = answer;
      const reader = new Reader();
      hub.subscribe('a', reader, { lastEventId: '1795408776829004-1' });
      turns.all();
      await new Promise((resolve) => setImmediate(resolve));
      assert.equal(turns.all(), 0);
      assert.deepEqual([reader.writableEnded, hub.size, reader.texts], [true, 0, []]);
    }
  });

  it('may answer late, and nobody else waits', async () => {
    const { log, hub, turns } = logged();
    for (let i = 1; i <= 5; i++) hub.publish('a', { data: String(i) });
    let answer = () => {};
    log.answer = (look) => new Promise((resolve) => (answer = () => resolve(look())));
    const [back, live] = [new Reader(), new Reader()];
    const subscription = hub.subscribe('a', back, { lastEventId: '1795408776829004-1' });
    hub.subscribe('a', live);
    turns.all();
    hub.publish('a', { data: '6' });
    turns.all();
    assert.deepEqual([live.texts, back.texts, subscription?.lag], [['6'], [], 5]);
    answer();
    await new Promise((resolve) => setImmediate(resolve));
    turns.all();
    assert.deepEqual(back.texts, ['2', '3', '4', '5', '6']);
  });
});

describe('an option out of range', () => {
  const refused: [HubOptions, RegExp][] = [
    [{ maxHistoryBytes: 0 }, /`maxHistoryBytes`.*got 0/],
    [{ maxTopics: 0 }, /`maxTopics`.*got 0/],
    [{ maxTopics: Number.NaN }, /`maxTopics`.*got NaN/],
    [{ maxPageBytes: -1 }, /`maxPageBytes`.*got -1/],
    [{ retry: -1 }, /`retry`.*got -1/],
    [{ retry: Infinity }, /`retry`.*got Infinity/],
    [{ retry: 2 ** 31 }, /`retry`.*got 2147483648/],
    [{ overtaken: 'drop' as never }, /`overtaken`.*got drop/],
    [{ history: { maxEvents: 0 } }, /`maxEvents`.*got 0/],
    [{ history: { maxEvents: 1.5 } }, /`maxEvents`.*got 1.5/],
    [{ history: { maxBytes: 0 } }, /`maxBytes`.*got 0/],
    [{ history: { maxAge: 0 } }, /`maxAge`.*got 0/],
    [{ epoch: 0 }, /`epoch`.*got 0/],
    [{ epoch: 1.5 }, /`epoch`.*got 1.5/],
    [{ epoch: 2 ** 53 }, /`epoch`.*got 9007199254740992/],
  ];
  for (const [options, message] of refused) {
    it(`is named with its value: ${JSON.stringify(options)}`, () => {
      assert.throws(() => new Hub(options), { message });
    });
  }

  it('of a function’s answer reaches whoever needs the topic', () => {
    const { hub } = handRun({ history: () => ({ maxEvents: 0 }) });
    assert.throws(() => hub.publish('a', { data: 'x' }), {
      name: 'RangeError',
      message: /`maxEvents`.*got 0/,
    });
    assert.throws(() => hub.subscribe('a', new Reader()), {
      name: 'RangeError',
      message: /`maxEvents`.*got 0/,
    });
    assert.deepEqual([hub.topics(), hub.size], [[], 0]);
  });

  it('of subscribe leaves nothing behind', () => {
    const { hub } = handRun({ maxTopics: 1 });
    const circle: Record<string, unknown> = {};
    circle.itself = circle;
    assert.throws(() => hub.subscribe('a', new Reader(), { announce: circle }), TypeError);
    assert.deepEqual([hub.topics(), hub.size, hub.stats.started], [[], 0, 0]);
    hub.publish('b', { data: 'there is room for it' });
  });
});

describe('over a socket', () => {
  /** A server of one hub: `/a?b` follows the topics a and b. */
  async function serve(hub: Hub): Promise<http.Server> {
    const server = http.createServer((req, res) => {
      const stream = openStream(req, res);
      const topics = req.url!.slice(1).split('?');
      hub.subscribe(topics, stream, { lastEventId: req.headers['last-event-id'] as string });
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return server;
  }

  async function get(server: http.Server, path: string, lastEventId?: string | string[]) {
    const { port } = server.address() as AddressInfo;
    const headers = lastEventId === undefined ? {} : { 'Last-Event-ID': lastEventId };
    const [res] = (await once(http.get({ port, path, headers }), 'response')) as [http.IncomingMessage];
    return res;
  }

  /** What arrives until so many events have, or the end. */
  async function read(res: http.IncomingMessage, count = Infinity) {
    let text = '';
    for await (const chunk of res) {
      text += chunk;
      if (parse(text).length >= count) break;
    }
    return parse(text);
  }

  it('a client is told its position, gets what is published, is cut, and comes back to all of the rest', async () => {
    const hub = new Hub({ epoch: 1_795_408_776_829_004 });
    const server = await serve(hub);
    const first = read(await get(server, '/a?b'), 2);
    hub.publish('a', { data: '1' });
    const [ready, event] = await first;
    assert.deepEqual(
      [ready?.event, ready?.id, event?.id, event?.data],
      ['sluice:ready', '1795408776829004-0', '1795408776829004-1', '1'],
    );
    for (const data of ['2', '3']) hub.publish(data === '2' ? 'b' : 'a', { data });
    hub.end('a');
    hub.end('b');
    const second = await read(await get(server, '/a?b', event?.id));
    assert.deepEqual(
      second.map(({ event: type, data }) => type ?? data),
      ['sluice:ready', '2', '3', 'sluice:end'],
    );
    assert.equal((await get(server, '/a?b', second.at(-1)?.id)).statusCode, 204);
    server.closeAllConnections();
    server.close();
  });

  it('a Last-Event-ID that was sent twice is a gap', async () => {
    const hub = new Hub({ epoch: 1_795_408_776_829_004 });
    const server = await serve(hub);
    const [, gap] = await read(await get(server, '/a', ['1795408776829004-0', '1795408776829004-0']), 2);
    assert.equal(JSON.parse(gap!.data).reason, 'malformed');
    server.closeAllConnections();
    server.close();
  });

  it('clients that go, in every way, are forgotten', async () => {
    const hub = new Hub({ epoch: 1_795_408_776_829_004 });
    const server = await serve(hub);
    const responses = await Promise.all(times(20, () => get(server, '/a')));
    assert.equal(hub.size, 20);
    responses.forEach((res, i) => {
      if (i % 2) res.socket.resetAndDestroy();
      else res.destroy();
    });
    while (hub.size > 0) await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual(hub.topics(), []);
    server.close();
  });

  it('a bare response takes the events as well, and a socket of its own', async () => {
    const hub = new Hub({ epoch: 1_795_408_776_829_004 });
    const server = http.createServer((_req, res) => hub.subscribe('a', res));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const response = await get(server, '/');
    hub.publish('a', { data: 'x' });
    assert.deepEqual(
      (await read(response, 2)).map(({ id }) => id),
      ['1795408776829004-0', '1795408776829004-1'],
    );
    server.closeAllConnections();
    server.close();
    while (hub.size > 0) await new Promise((resolve) => setImmediate(resolve));
  });
});
