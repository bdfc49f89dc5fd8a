import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { Hub, type HubOptions } from '../lib/hub.ts';
import { openStream } from '../lib/stream.ts';
import { at, drain, EPOCH, handRun, MemoryReader, slowReader, times } from './helpers/hub.ts';
import { Reader } from './helpers/reader.ts';
import { serve, type TestServer } from './helpers/server.ts';

describe('publish', () => {
  it('numbers the events of all topics in one order', () => {
    const { hub } = handRun();
    assert.equal(hub.position, at(0));
    assert.equal(hub.publish('a', { data: 'x' }), at(1));
    assert.equal(hub.publish('b', { data: 'x' }), at(2));
    assert.equal(hub.publish('a', { data: 'x' }), at(3));
    assert.equal(hub.position, at(3));
  });

  it('sends the whole event, with its id, its type, its lines, its retry and its comment', () => {
    const { hub, turns } = handRun();
    const reader = new MemoryReader();
    hub.subscribe('a', reader);
    turns.all();
    hub.publish('a', { event: 'tick', data: 'one\ntwo', retry: 5, comment: 'hm' });
    turns.all();
    assert.equal(
      String(reader.chunks.at(-1)),
      'id: 1795408776829004-1\n: hm\nretry: 5\nevent: tick\ndata: one\ndata: two\n\n',
    );
  });

  it('gives an event its own id, whatever id it brings', () => {
    const { hub, turns } = handRun();
    const reader = new MemoryReader();
    hub.subscribe('a', reader);
    hub.publish('a', { data: 'x', id: 'mine' } as never);
    turns.all();
    assert.deepEqual(
      reader.of().map(({ id }) => id),
      [at(1)],
    );
  });

  it('publishes any value that JSON can express as the data of the event', () => {
    const { hub, turns } = handRun();
    const reader = new MemoryReader();
    hub.subscribe('a', reader);
    const values = [{ price: 7 }, [1, 'zwei'], 'text\nof two lines', 0, false, null, { at: new Date(0) }];
    for (const json of values) hub.publish('a', { event: 'tick', json });
    turns.all();
    assert.deepEqual(
      reader.of('tick').map(({ data }) => data),
      values.map((json) => JSON.stringify(json)),
    );
  });

  const circle: Record<string, unknown> = {};
  circle.itself = circle;
  const refused: [what: string, event: unknown, message: RegExp][] = [
    ['a type of two lines', { data: 'x', event: 'a\rb' }, /^`event`/],
    ['a type that is no string', { data: 'x', event: 5 }, /^`event`/],
    [
      'a reserved type',
      { data: 'x', event: 'sluice:gap' },
      /^`event` must not begin with "sluice:".*got "sluice:gap"/,
    ],
    ['such a type in capitals, after a space', { data: 'x', event: ' SLUICE:a' }, /^`event` must not begin/],
    ['neither data nor json', {}, /^`data` must be a string, got undefined/],
    ['data that is no string', { data: { price: 7 } }, /^`data` must be a string, got object: .*`json`/],
    ['data with half a surrogate pair', { data: '\ud800' }, /^`data`/],
    ['a circle as json', { json: circle }, /`json`/],
    ['a BigInt as json', { json: 7n }, /`json`/],
    ['a function as json', { json: () => {} }, /`json`/],
    ['undefined as json', { json: undefined }, /`json`/],
    ['a comment that is no string', { data: 'x', comment: 5 }, /^`comment`/],
    ['a retry below 0', { data: 'x', retry: -1 }, /^`retry`/],
    [
      'a key that is no string',
      { data: 'x', key: 5 },
      /^`key` must be a string of at most 1000 characters, got 5/,
    ],
    ['a key of 1,001 characters', { data: 'x', key: 'k'.repeat(1001) }, /^`key`/],
  ];
  for (const [what, event, message] of refused) {
    it(`refuses ${what} with a code and a status, and changes nothing`, () => {
      const { hub, turns } = handRun();
      const wanted = { name: 'TypeError', code: 'ERR_SSE_BAD_EVENT', status: 400, message };
      assert.throws(() => hub.publish('a', event as never), wanted);
      assertUntouched(hub);
      assert.equal(turns.planned, 0);
    });
  }

  it('refuses an event larger than the topic may hold with a code and a status, and changes nothing', () => {
    const { hub } = handRun({ history: { maxBytes: 100 } });
    const wanted = {
      name: 'RangeError',
      code: 'ERR_SSE_EVENT_TOO_LARGE',
      status: 413,
      message: /`maxBytes`/,
    };
    assert.throws(() => hub.publish('a', { data: 'x'.repeat(100) }), wanted);
    assertUntouched(hub);
  });

  it('refuses a malformed topic in every method, with a code and a status', () => {
    const { hub } = handRun();
    for (const name of ['', 'a b', 'x'.repeat(201), 'a\n', '%61', undefined, 5, ['a']] as string[]) {
      const wanted = {
        name: 'TypeError',
        code: 'ERR_SSE_MALFORMED_TOPIC',
        status: 400,
        message: /^`topic` must be 1 to 200 characters/,
      };
      assert.throws(() => hub.publish(name, { data: 'x' }), wanted);
      assert.throws(() => hub.subscribe(['fine', name], new MemoryReader()), wanted);
      assert.throws(() => hub.end(name), wanted);
      assert.throws(() => hub.reopen(name), wanted);
      assert.throws(() => hub.delete(name), wanted);
    }
    assertUntouched(hub);
  });

  it('takes names and keys that objects have, such as __proto__, like any other', () => {
    const { hub, turns } = handRun();
    const reader = new MemoryReader();
    hub.subscribe(['constructor', '__proto__'], reader, { conflate: true });
    hub.publish('__proto__', { data: 'x', key: '__proto__' });
    turns.all();
    assert.deepEqual(reader.texts, ['x']);
  });
});

function assertUntouched(hub: Hub): void {
  assert.deepEqual([hub.position, hub.stats.published, hub.historyBytes, hub.size], [at(0), 0, 0, 0]);
  assert.deepEqual(hub.topics(), []);
}

describe('end', () => {
  it('sends subscribers all that they lack, then sluice:end, then the end of the response', async () => {
    const { hub, turns } = handRun({ maxPageBytes: 30 });
    const early = new MemoryReader();
    hub.subscribe('a', early);
    turns.all();
    for (const data of ['1', '2', '3']) hub.publish('a', { data });
    const late = new MemoryReader();
    hub.subscribe('a', late, { lastEventId: at(1) });
    assert.equal(hub.end('a'), true);
    assert.equal(hub.end('a'), false);
    assert.equal(hub.end('unknown'), false);
    turns.all();
    assert.deepEqual(early.texts, ['1', '2', '3']);
    assert.deepEqual(late.texts, ['2', '3']);
    for (const reader of [early, late]) {
      assert.deepEqual(reader.events.at(-1), {
        id: at(3),
        event: 'sluice:end',
        data: '{"topics":["a"]}',
      });
      assert.ok(reader.writableEnded);
    }
    assert.equal(hub.size, 0);
  });

  it('ends a connection only once all its topics have ended', () => {
    const { hub, turns } = handRun();
    const reader = new MemoryReader();
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

  it('lets a slow reader receive everything before the end', async () => {
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
    const stream = Object.assign(new MemoryReader(), { refuse: (status: number) => refused.push(status) });
    const subscription = hub.subscribe('a', stream, { lastEventId: at(2) });
    assert.deepEqual([subscription.closed, subscription.position], [true, at(2)]);
    assert.deepEqual(refused, [204]);
    assert.equal(stream.writableEnded, false);
    const plain = new MemoryReader();
    assert.equal(hub.subscribe('a', plain).closed, true);
    assert.equal(plain.writableEnded, true);
    assert.equal(hub.size, 0);
    assert.equal(stream.listenerCount('close'), new MemoryReader().listenerCount('close'));
    const open = new MemoryReader();
    assert.equal(hub.subscribe(['a', 'b'], open, { lastEventId: at(2) }).closed, false);
    const behind = new MemoryReader();
    hub.subscribe('a', behind, { lastEventId: at(1) });
    turns.all();
    assert.deepEqual(
      behind.events.map(({ event, data }) => event ?? data),
      ['sluice:ready', '2', 'sluice:end'],
    );
    const { id: lastEventId } = behind.events.at(-1)!;
    assert.equal(hub.subscribe('a', new MemoryReader(), { lastEventId }).closed, true);
  });

  it('sends a gap before the end', () => {
    const { hub, turns } = handRun({ history: { maxEvents: 1 } });
    for (const data of ['1', '2']) hub.publish('a', { data });
    hub.end('a');
    for (const [lastEventId, rest] of [
      [at(0), ['2']],
      ['6-9', []],
      [at(9), []],
      ['x', []],
    ] as const) {
      const reader = new MemoryReader();
      hub.subscribe('a', reader, { lastEventId });
      turns.all();
      assert.equal(reader.gaps.length, 1);
      assert.deepEqual(reader.texts, rest);
      assert.equal(reader.events.at(-1)!.event, 'sluice:end');
    }
  });

  it('makes publishing fail with a code and a status', () => {
    const { hub } = handRun();
    hub.publish('a', { data: '1' });
    hub.end('a');
    assert.throws(() => hub.publish('a', { data: '2' }), {
      code: 'ERR_SSE_TOPIC_ENDED',
      status: 409,
      message: 'the topic "a" has ended',
    });
    assert.equal(hub.position, at(1));
  });

  it('ends a topic that was only followed', () => {
    const { hub, turns } = handRun();
    const reader = new MemoryReader();
    hub.subscribe('a', reader);
    assert.equal(hub.end('a'), true);
    turns.all();
    assert.deepEqual(reader.story, ['sluice:ready', 'sluice:end']);
    assert.deepEqual(
      hub.topics().map(({ topic, ended }) => [topic, ended]),
      [['a', true]],
    );
  });
});

describe('reopen', () => {
  it('lets an ended topic take events again, with the history that it had', () => {
    const { hub, turns } = handRun();
    hub.publish('a', { data: '1' });
    hub.end('a');
    turns.all();
    assert.equal(hub.reopen('a'), true);
    assert.equal(hub.publish('a', { data: '2' }), at(2));
    const reader = new MemoryReader();
    hub.subscribe('a', reader, { lastEventId: at(0) });
    turns.all();
    assert.deepEqual(reader.story, ['sluice:ready', '1', '2']);
    assert.equal(reader.writableEnded, false);
    assert.equal(hub.topics()[0]!.ended, false);
  });

  it('keeps the subscribers that have not been sent away yet', () => {
    const { hub, turns } = handRun();
    const reader = new MemoryReader();
    hub.subscribe('a', reader);
    turns.all();
    hub.end('a');
    hub.reopen('a');
    turns.all();
    hub.publish('a', { data: '1' });
    turns.all();
    assert.deepEqual(reader.story, ['sluice:ready', '1']);
  });

  it('delivers after the id of sluice:end what was published since', () => {
    const { hub, turns } = handRun();
    const first = new MemoryReader();
    hub.subscribe('a', first);
    hub.publish('a', { data: '1' });
    hub.end('a');
    turns.all();
    hub.reopen('a');
    hub.publish('a', { data: '2' });
    const second = new MemoryReader();
    hub.subscribe('a', second, { lastEventId: first.events.at(-1)!.id });
    turns.all();
    assert.deepEqual([second.texts, second.gaps], [['2'], []]);
  });

  it('answers whether there was an ended topic', () => {
    const { hub } = handRun();
    hub.publish('a', { data: '1' });
    assert.deepEqual([hub.reopen('a'), hub.reopen('unknown')], [false, false]);
    hub.end('a');
    assert.deepEqual([hub.reopen('a'), hub.reopen('a')], [true, false]);
  });

  it('leaves no record of a topic to which nothing was ever published', () => {
    const { hub, turns } = handRun();
    hub.subscribe('a', new MemoryReader());
    hub.end('a');
    turns.all();
    assert.equal(hub.topics().length, 1);
    hub.reopen('a');
    assert.deepEqual(hub.topics(), []);
  });
});

describe('delete', () => {
  it('forgets what the topic remembers, and lists it no more', () => {
    const { hub } = handRun();
    hub.publish('b', { data: 'x' });
    const before = hub.historyBytes;
    for (let i = 0; i < 2; i++) hub.publish('a', { data: 'x', key: 'k' });
    assert.ok(hub.historyBytes > before);
    assert.equal(hub.delete('a'), true);
    assert.deepEqual(
      hub.topics().map(({ topic }) => topic),
      ['b'],
    );
    assert.equal(hub.historyBytes, before);
  });

  it('answers whether there was such a topic', () => {
    const { hub } = handRun();
    hub.subscribe('followed', new MemoryReader());
    hub.publish('a', { data: 'x' });
    assert.deepEqual([hub.delete('a'), hub.delete('a')], [true, false]);
    assert.deepEqual([hub.delete('unknown'), hub.delete('followed')], [false, false]);
    hub.end('followed');
    assert.equal(hub.delete('followed'), true);
  });

  it('sends a gap to clients that are behind, and none to those at the head', async () => {
    const { hub, turns } = handRun();
    const [live, slow] = [new MemoryReader(), slowReader()];
    for (const reader of [live, slow]) hub.subscribe('a', reader);
    turns.all();
    for (const data of ['1', '2', '3']) hub.publish('a', { data });
    turns.all();
    hub.delete('a');
    turns.all();
    hub.publish('a', { data: '4' });
    for (let i = 0; i < 4; i++) {
      turns.all();
      await drain(slow);
    }
    assert.deepEqual(live.story, ['sluice:ready', '1', '2', '3', '4']);
    assert.deepEqual(slow.story, ['sluice:ready', 'sluice:gap', '4']);
    assert.deepEqual(slow.gaps, [{ id: at(3), reason: 'evicted', from: at(0), to: at(3), topics: ['a'] }]);
  });

  it('sends a gap at once, without waiting for the next event', async () => {
    const { hub, turns } = handRun();
    const reader = new MemoryReader();
    hub.subscribe('a', reader);
    turns.all();
    hub.publish('a', { data: 'never written' });
    hub.delete('a');
    turns.all();
    assert.deepEqual(reader.story, ['sluice:ready', 'sluice:gap']);
  });

  it('sends a gap to a client that returns with an older id, and none to one that had everything', () => {
    const { hub, turns } = handRun();
    for (const data of ['1', '2']) hub.publish('a', { data });
    hub.delete('a');
    const [behind, whole, fresh] = [new MemoryReader(), new MemoryReader(), new MemoryReader()];
    hub.subscribe('a', behind, { lastEventId: at(1) });
    hub.subscribe('a', whole, { lastEventId: at(2) });
    hub.subscribe('a', fresh, { from: 'earliest' });
    hub.publish('a', { data: '3' });
    turns.all();
    assert.deepEqual(behind.story, ['sluice:ready', 'sluice:gap', '3']);
    assert.deepEqual(whole.story, ['sluice:ready', '3']);
    assert.deepEqual(fresh.story, ['sluice:ready', '3']);
  });

  it('sends a gap in the middle of a replay, from where the client is to the end of what was deleted', () => {
    const { hub, turns } = handRun({ maxPageBytes: 70 });
    for (let i = 1; i <= 9; i++) hub.publish('a', { data: String(i) });
    const reader = new MemoryReader();
    hub.subscribe('a', reader, { lastEventId: at(0) });
    turns.next();
    turns.next();
    hub.delete('a');
    hub.publish('a', { data: '10' });
    turns.all();
    assert.deepEqual(reader.story, ['sluice:ready', '1', '2', 'sluice:gap', '10']);
    assert.deepEqual(
      reader.gaps.map(({ from, to }) => [from, to]),
      [[at(2), at(9)]],
    );
  });

  it('leaves the other topics of a connection whole', () => {
    const { hub, turns } = handRun();
    for (const [topic, data] of ['a1', 'b2', 'a3', 'b4'].map((data) => [data[0]!, data] as const)) {
      hub.publish(topic, { data });
    }
    const reader = new MemoryReader();
    hub.subscribe(['a', 'b'], reader, { lastEventId: at(0) });
    hub.delete('a');
    turns.all();
    assert.deepEqual(reader.texts, ['b2', 'b4']);
    assert.deepEqual(
      reader.gaps.map(({ topics }) => topics),
      [['a']],
    );
  });

  it('lifts the end: an ended topic that was deleted takes events again', () => {
    const { hub, turns } = handRun();
    hub.publish('a', { data: '1' });
    hub.end('a');
    hub.delete('a');
    assert.equal(hub.publish('a', { data: '2' }), at(2));
    const reader = new MemoryReader();
    hub.subscribe('a', reader, { lastEventId: at(1) });
    turns.all();
    assert.deepEqual(reader.story, ['sluice:ready', '2']);
    assert.deepEqual(
      hub.topics().map(({ events, ended }) => [events, ended]),
      [[1, false]],
    );
  });

  it('keeps the subscribers, lists the topic for as long as they stay, and lets it be ended', () => {
    const { hub, turns } = handRun();
    const reader = new MemoryReader();
    const subscription = hub.subscribe('a', reader);
    hub.publish('a', { data: '1' });
    turns.all();
    hub.delete('a');
    turns.all();
    assert.deepEqual(
      hub.topics().map(({ topic, events, subscribers, last }) => [topic, events, subscribers, last]),
      [['a', 0, 1, at(1)]],
    );
    assert.equal(hub.end('a'), true);
    turns.all();
    assert.deepEqual(reader.story, ['sluice:ready', '1', 'sluice:end']);
    assert.equal(subscription.closed, true);
    assert.throws(() => hub.publish('a', { data: '2' }), { code: 'ERR_SSE_TOPIC_ENDED' });
    assert.equal(hub.delete('a'), true);
    assert.deepEqual([hub.end('a'), hub.reopen('a'), hub.topics()], [false, false, []]);
  });
});

describe('the counts of a hub', () => {
  it('lists the events, bytes, subscribers and newest id of each topic', () => {
    const { hub, turns } = handRun({ history: { maxEvents: 1 } });
    hub.publish('a', { data: 'x' });
    hub.publish('a', { data: 'x' });
    for (let i = 0; i < 2; i++) hub.subscribe('a', new MemoryReader());
    hub.subscribe(['a', 'b'], new MemoryReader());
    hub.subscribe('a', new MemoryReader(), { conflate: true });
    turns.all();
    hub.end('a');
    const bytes = Buffer.byteLength('id: 1795408776829004-2\ndata: x\n\n');
    assert.deepEqual(hub.topics(), [
      { topic: 'a', events: 1, bytes, subscribers: 4, last: at(2), ended: true },
      { topic: 'b', events: 0, bytes: 0, subscribers: 1, last: at(0), ended: false },
    ]);
    assert.equal(hub.size, 4);
    // A topic's bytes are those on the wire; all together count what they hold in memory.
    assert.ok(hub.historyBytes > bytes);
  });

  it('counts what was published and delivered, without control events', () => {
    const { hub, turns } = handRun();
    for (let i = 0; i < 2; i++) hub.subscribe('a', new MemoryReader());
    hub.subscribe('a', new MemoryReader(), { lastEventId: 'x' });
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

  it('are a live view, which costs nothing to read', () => {
    const { hub } = handRun();
    const { stats } = hub;
    hub.publish('a', { data: 'x' });
    hub.subscribe('a', new MemoryReader(), { lastEventId: 'x' });
    assert.deepEqual([stats.published, stats.resumed, stats.gaps.malformed], [1, 1, 1]);
    assert.equal(hub.stats, stats);
  });
});

// What must not compile is in hub.types.ts.
describe('the types of events', () => {
  interface Prices {
    tick: { price: number };
    halt: null;
  }

  it('takes an interface or a type as the map of event types to their JSON', () => {
    const byInterface = new Hub<Prices>();
    const byType = new Hub<{ tick: { price: number } }>();
    assert.equal(typeof byInterface.publish('a', { event: 'tick', json: { price: 7 } }), 'string');
    assert.equal(
      typeof byInterface.publish('a', { event: 'halt', json: null, key: 'k', retry: 5 }),
      'string',
    );
    assert.equal(typeof byType.publish('a', { event: 'tick', json: { price: 7 }, comment: 'hm' }), 'string');
  });

  it('takes any type, and text or JSON, without a map', () => {
    const hub = new Hub();
    hub.publish('a', { data: 'text' });
    hub.publish('a', { event: 'anything', data: 'text' });
    hub.publish('a', { event: 'anything', json: { any: 'value' } });
    const publishings = [
      // @ts-expect-error: neither text nor JSON
      () => hub.publish('a', { event: 'anything' }),
      // @ts-expect-error: text that is no string
      () => hub.publish('a', { data: { price: 7 } }),
    ];
    for (const publish of publishings) assert.throws(publish, { code: 'ERR_SSE_BAD_EVENT' });
    assert.equal(hub.stats.published, 3);
  });
});

describe('options out of range', () => {
  const refused: [HubOptions, string, string][] = [
    [{ maxPageBytes: -1 }, 'RangeError', '`maxPageBytes` must be a number ≥ 1, got -1'],
    [{ maxPageBytes: Number.NaN }, 'RangeError', '`maxPageBytes` must be a number ≥ 1, got NaN'],
    [{ retry: -1 }, 'RangeError', '`retry` must be a number from 0 to 1717986917, got -1'],
    [{ retry: Infinity }, 'RangeError', '`retry` must be a number from 0 to 1717986917, got Infinity'],
    [{ retry: 2 ** 31 }, 'RangeError', '`retry` must be a number from 0 to 1717986917, got 2147483648'],
    [{ overtaken: 'drop' as never }, 'TypeError', '`overtaken` must be "gap" or "close", got drop'],
    [{ epoch: 0 }, 'RangeError', '`epoch` must be a whole number ≥ 1, got 0'],
    [{ maxTopics: 0 }, 'RangeError', '`maxTopics` must be a number ≥ 1, got 0'],
    [{ history: { maxEvents: 0 } }, 'RangeError', '`maxEvents` must be a whole number ≥ 1, got 0'],
  ];
  for (const [options, name, message] of refused) {
    it(`makes no hub: ${message}`, () => {
      assert.throws(() => new Hub(options), { name, message });
    });
  }

  it('are named in publish where a function gives them for a topic', () => {
    const { hub } = handRun({ history: () => ({ maxEvents: 0 }) });
    assert.throws(() => hub.publish('a', { data: 'x' }), {
      name: 'RangeError',
      message: /`maxEvents`.*got 0/,
    });
    assert.deepEqual(hub.topics(), []);
  });

  it('change nothing where subscribe refuses them', () => {
    const { hub } = handRun({ maxTopics: 1 });
    const circle: Record<string, unknown> = {};
    circle.itself = circle;
    assert.throws(() => hub.subscribe('a', new MemoryReader(), { announce: circle }), TypeError);
    assert.deepEqual([hub.topics(), hub.size, hub.stats.started], [[], 0, 0]);
    hub.publish('b', { data: 'there is room for it' });
  });
});

describe('over a socket', () => {
  /** Serves a hub until the test is over: `/a,b` follows the topics a and b. */
  function serveHub(t: TestContext, hub: Hub): Promise<TestServer> {
    return serve(t, (req, res) => {
      const topics = req.url!.slice(1).split(',');
      hub.subscribe(topics, openStream(req, res), { lastEventId: req.headers['last-event-id'] as string });
    });
  }

  function open(url: string, lastEventId?: string | string[]): Promise<Reader> {
    return Reader.open(url, {
      headers: lastEventId === undefined ? {} : { 'Last-Event-ID': lastEventId },
    });
  }

  it('sends a client that was cut off all of the rest, then the end, then 204', async (t) => {
    const hub = new Hub({ epoch: EPOCH });
    const { url } = await serveHub(t, hub);
    const first = await open(`${url}a,b`);
    hub.publish('a', { data: '1' });
    await first.until(({ data }) => data.length === 1);
    first.close();
    assert.deepEqual(
      first.frames.map(({ id, event, data }) => [id, event ?? data]),
      [
        [at(0), 'sluice:ready'],
        [at(1), '1'],
      ],
    );
    hub.publish('b', { data: '2' });
    hub.publish('a', { data: '3' });
    hub.end('a');
    hub.end('b');
    const second = await open(`${url}a,b`, first.lastEventId);
    await second.over;
    assert.deepEqual(
      second.frames.map(({ event, data }) => (event?.startsWith('sluice:') ? event : data)),
      ['sluice:ready', '2', '3', 'sluice:end'],
    );
    const third = await open(`${url}a,b`, second.lastEventId);
    assert.deepEqual([third.status, await third.over], [204, '']);
  });

  it('sends a gap to a client whose Last-Event-ID came twice', async (t) => {
    const hub = new Hub({ epoch: EPOCH });
    const { url } = await serveHub(t, hub);
    const reader = await open(`${url}a`, [at(0), at(0)]);
    await reader.until(({ frames }) => frames.length === 2);
    assert.equal(JSON.parse(reader.frame('sluice:gap').data).reason, 'malformed');
  });

  it('forgets clients that disconnect, in every way', async (t) => {
    const hub = new Hub({ epoch: EPOCH });
    const { url } = await serveHub(t, hub);
    const readers = await Promise.all(times(20, () => open(`${url}a`)));
    assert.equal(hub.size, 20);
    readers.forEach((reader, i) => {
      if (i % 2) reader.response.socket.resetAndDestroy();
      else reader.close();
    });
    while (hub.size > 0) await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual(hub.topics(), []);
  });

  it('writes to a bare response, and forgets it when the client leaves', async (t) => {
    const hub = new Hub({ epoch: EPOCH });
    const { url } = await serve(t, (_req, res) => hub.subscribe('a', res));
    const reader = await open(url);
    hub.publish('a', { data: 'x' });
    await reader.until(({ data }) => data.length === 1);
    assert.deepEqual(
      reader.frames.map(({ id }) => id),
      [at(0), at(1)],
    );
    reader.close();
    while (hub.size > 0) await new Promise((resolve) => setImmediate(resolve));
  });
});
