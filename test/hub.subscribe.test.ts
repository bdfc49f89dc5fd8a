import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Hub, type SubscribeOptions } from '../lib/hub.ts';
import { problemOf } from '../lib/problem.ts';
import { at, drain, EPOCH, handRun, MemoryReader, slowReader, times } from './helpers/hub.ts';
import { parse } from './helpers/reader.ts';

describe('the first bytes of a subscription', () => {
  it('sends ready first, with retry in the same block and the position from which delivery continues', () => {
    const { hub, turns } = handRun();
    hub.publish('a', { data: 'before' });
    const reader = new MemoryReader();
    hub.subscribe('a', reader);
    hub.publish('a', { data: 'after' });
    turns.all();
    assert.match(
      String(reader.chunks[0]),
      /^retry: 2000\nid: 1795408776829004-1\nevent: sluice:ready\ndata: .*\n\n/,
    );
    assert.deepEqual(reader.texts, ['after']);
  });

  it('writes nothing before the next turn, so that a refusal can still be a status', () => {
    const { hub, turns } = handRun();
    const reader = new MemoryReader();
    const subscription = hub.subscribe('a', reader);
    hub.publish('a', { data: 'x' });
    assert.equal(reader.chunks.length, 0);
    subscription.close();
    turns.all();
    assert.equal(reader.chunks.length, 0);
  });

  it('sends a returning client its own last event ID in ready, not the position that it will reach', () => {
    const { hub, turns } = handRun();
    for (const data of ['1', '2', '3']) hub.publish('a', { data });
    const reader = new MemoryReader();
    hub.subscribe('a', reader, { lastEventId: at(1) });
    turns.all();
    assert.deepEqual(
      reader.events.map(({ id, event }) => `${id} ${event}`),
      ['1795408776829004-1 sluice:ready', '1795408776829004-2 undefined', '1795408776829004-3 undefined'],
    );
  });

  it('names the topics in ready, beside what the caller announces', () => {
    const { hub, turns } = handRun();
    const reader = new MemoryReader();
    hub.subscribe(['b', 'a', 'b'], reader, { announce: { server: 'x', topics: 'no' } });
    turns.all();
    assert.deepEqual(JSON.parse(reader.events[0]!.data), { server: 'x', topics: ['a', 'b'] });
  });

  it('varies retry by a quarter either way, so that clients do not all return at once', () => {
    for (const [random, retry] of [
      [0, 750],
      [0.5, 1000],
      [0.999999, 1250],
    ] as const) {
      const { hub, turns } = handRun({ retry: 1000, random: () => random });
      const reader = new MemoryReader();
      hub.subscribe('a', reader);
      turns.all();
      assert.ok(String(reader.chunks[0]).startsWith(`retry: ${retry}\n`));
    }
  });
});

describe('resuming after an id', () => {
  it('delivers after every earlier id exactly what came after it, topics merged in order', () => {
    const { hub, turns } = handRun();
    const published: { seq: number; topic: string; data: string }[] = [];
    for (let seq = 1; seq <= 60; seq++) {
      const topic = 'abc'[(seq * seq) % 3]!;
      hub.publish(topic, { data: `${topic}${seq}` });
      published.push({ seq, topic, data: `${topic}${seq}` });
    }
    for (const topics of [['a'], ['b'], ['c'], ['a', 'b'], ['b', 'a', 'c'], ['a', 'never-published']]) {
      for (let seq = 0; seq <= 60; seq++) {
        const reader = new MemoryReader();
        hub.subscribe(topics, reader, { lastEventId: at(seq) });
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

  it('delivers the same in pages of any size', () => {
    for (const maxPageBytes of [1, 35, 170, 1500]) {
      const { hub, turns } = handRun({ maxPageBytes });
      for (let i = 0; i < 40; i++) hub.publish(i % 3 ? 'a' : 'b', { data: String(i) });
      const reader = new MemoryReader();
      hub.subscribe(['a', 'b'], reader, { lastEventId: at(5) });
      turns.all();
      assert.deepEqual(
        reader.texts,
        times(35, (i) => String(i + 5)),
      );
      for (const chunk of reader.chunks.slice(1)) {
        assert.ok(chunk.length <= maxPageBytes || parse(String(chunk)).frames.length === 1);
      }
    }
  });

  it('goes over from replay to live delivery without a seam, whatever is published in between', () => {
    const { hub, turns } = handRun({ maxPageBytes: 70 });
    let count = 0;
    const publish = () => hub.publish('a', { data: String(count++) });
    for (let i = 0; i < 10; i++) publish();
    const reader = new MemoryReader();
    hub.subscribe('a', reader, { lastEventId: at(0) });
    for (let i = 0; i < 20; i++) {
      turns.next();
      publish();
    }
    turns.all();
    assert.deepEqual(reader.texts, times(30, String));
  });

  it('takes a list of one id for that id, and a longer one for a malformed id', () => {
    const { hub, turns } = handRun();
    for (const data of ['1', '2']) hub.publish('a', { data });
    const stories = [[], [at(1)], [at(1), at(1)], ['', '']].map((lastEventId) => {
      const reader = new MemoryReader();
      hub.subscribe('a', reader, { lastEventId });
      turns.all();
      return reader.story;
    });
    assert.deepEqual(stories, [
      ['sluice:ready'],
      ['sluice:ready', '2'],
      ['sluice:ready', 'sluice:gap'],
      ['sluice:ready', 'sluice:gap'],
    ]);
  });

  it('begins at the head without an id and with an empty one', () => {
    const { hub, turns } = handRun();
    hub.publish('a', { data: 'past' });
    for (const lastEventId of [undefined, '', null]) {
      const reader = new MemoryReader();
      hub.subscribe('a', reader, { lastEventId });
      turns.all();
      assert.deepEqual(
        reader.events.map(({ id }) => id),
        [at(1)],
      );
    }
    assert.deepEqual([hub.stats.started, hub.stats.resumed], [3, 0]);
  });

  it('delivers the same to two connections with one id', () => {
    const { hub, turns } = handRun();
    for (const data of ['1', '2', '3']) hub.publish('a', { data });
    const readers = [new MemoryReader(), new MemoryReader()];
    for (const reader of readers) hub.subscribe('a', reader, { lastEventId: at(1) });
    turns.all();
    for (const reader of readers) assert.deepEqual(reader.texts, ['2', '3']);
  });
});

describe('a gap', () => {
  it('sends one gap, before anything newer, when what comes next was evicted', () => {
    const { hub, turns } = handRun({ history: { maxEvents: 3 } });
    for (let i = 1; i <= 10; i++) hub.publish('a', { data: String(i) });
    const reader = new MemoryReader();
    hub.subscribe('a', reader, { lastEventId: at(4) });
    turns.all();
    hub.publish('a', { data: '11' });
    turns.all();
    assert.deepEqual(
      reader.events.map(({ id, event, data }) => [id, event ?? data]),
      [
        [at(4), 'sluice:ready'],
        [at(7), 'sluice:gap'],
        [at(8), '8'],
        [at(9), '9'],
        [at(10), '10'],
        [at(11), '11'],
      ],
    );
    assert.deepEqual(reader.gaps, [
      {
        id: at(7),
        reason: 'evicted',
        from: at(4),
        to: at(7),
        topics: ['a'],
      },
    ]);
    assert.equal(hub.stats.gaps.evicted, 1);
  });

  it('sends no gap to a client that has seen the newest event that was dropped', () => {
    const { hub, turns } = handRun({ history: { maxEvents: 3 } });
    for (let i = 1; i <= 10; i++) hub.publish('a', { data: String(i) });
    const reader = new MemoryReader();
    hub.subscribe('a', reader, { lastEventId: at(7) });
    turns.all();
    assert.deepEqual(reader.gaps, []);
    assert.deepEqual(reader.texts, ['8', '9', '10']);
  });

  it('leaves the other topics whole when one has lost events, and sends an id from which they stay whole', () => {
    const { hub, turns } = handRun({ history: { maxEvents: 2 } });
    hub.publish('quiet', { data: 'q1' });
    for (let i = 2; i <= 8; i++) hub.publish('busy', { data: `b${i}` });
    hub.publish('quiet', { data: 'q9' });
    const reader = new MemoryReader();
    hub.subscribe(['busy', 'quiet'], reader, { lastEventId: at(0) });
    turns.all();
    assert.deepEqual(reader.gaps, [
      {
        id: at(0),
        reason: 'evicted',
        from: at(0),
        to: at(6),
        topics: ['busy'],
      },
    ]);
    assert.deepEqual(reader.texts, ['q1', 'b7', 'b8', 'q9']);
  });

  it('sends a gap for each place at which a loss ends, and delivers nothing that one has called lost', () => {
    const history = (topic: string) => ({ maxEvents: topic === 'b' ? 3 : 1 });
    const { hub, turns } = handRun({ history });
    for (const topic of ['a', 'b', 'a', 'b', 'b', 'a', 'a', 'b', 'c', 'c'])
      hub.publish(topic, { data: topic });
    const reader = new MemoryReader();
    hub.subscribe(['a', 'b', 'c'], reader, { lastEventId: at(0) });
    turns.all();
    const gap = { reason: 'evicted', from: at(0) };
    assert.deepEqual(reader.gaps, [
      { id: at(0), ...gap, to: at(2), topics: ['b'] },
      { id: at(0), ...gap, to: at(6), topics: ['a'] },
      { id: at(2), ...gap, to: at(9), topics: ['c'] },
    ]);
    assert.deepEqual(
      reader.of().map(({ id, data }) => [id, data]),
      [
        [at(4), 'b'],
        [at(5), 'b'],
        [at(7), 'a'],
        [at(8), 'b'],
        [at(10), 'c'],
      ],
    );
    assert.equal(reader.chunks.length, 3); // all gaps came in one write
    assert.equal(hub.stats.gaps.evicted, 3);
  });

  it('names the topics whose losses end at the same place in one gap', () => {
    const { hub, turns } = handRun({ maxTopics: 1 });
    for (const topic of ['a', 'b', 'c']) hub.publish(topic, { data: topic });
    const reader = new MemoryReader();
    hub.subscribe(['a', 'b'], reader, { lastEventId: at(0) });
    turns.all();
    assert.deepEqual(reader.gaps, [
      { id: at(2), reason: 'evicted', from: at(0), to: at(2), topics: ['a', 'b'] },
    ]);
  });

  it('sends the gap again to a client that was cut off before it arrived, whatever it had received', () => {
    const { hub, turns } = handRun({ history: { maxEvents: 2 } });
    hub.publish('quiet', { data: 'q1' });
    for (let i = 2; i <= 8; i++) hub.publish('busy', { data: `b${i}` });
    for (const topics of [['busy'], ['busy', 'quiet']]) {
      const whole = new MemoryReader();
      hub.subscribe(topics, whole, { lastEventId: at(0) });
      turns.all();
      for (let cut = 1; cut <= whole.events.length; cut++) {
        const seen = whole.events.slice(0, cut);
        const again = new MemoryReader();
        hub.subscribe(topics, again, { lastEventId: seen.at(-1)!.id });
        turns.all();
        const all = [...seen, ...again.events].filter(({ event }) => event === undefined);
        assert.deepEqual(all, whole.of());
        const gaps = [...seen, ...again.events].filter(({ event }) => event === 'sluice:gap');
        assert.ok(gaps.length > 0);
      }
    }
  });

  it('sends no gap for a quiet topic, however far the hub has moved on', () => {
    const { hub, turns } = handRun({ history: { maxEvents: 2 } });
    hub.publish('quiet', { data: 'q1' });
    for (let i = 0; i < 1000; i++) hub.publish('busy', { data: 'b' });
    for (const lastEventId of [at(0), at(1), at(500), at(1001)]) {
      for (const topics of [['quiet'], ['never-published'], ['never-published', 'quiet']]) {
        const reader = new MemoryReader();
        hub.subscribe(topics, reader, { lastEventId });
        turns.all();
        assert.deepEqual(reader.gaps, []);
        assert.deepEqual(reader.texts, lastEventId === at(0) && topics.includes('quiet') ? ['q1'] : []);
      }
    }
  });

  it('leads to the head, with a gap, after an id of an unknown epoch and one ahead of the head', () => {
    const { hub, turns } = handRun();
    hub.publish('a', { data: '1' });
    hub.publish('a', { data: '2' });
    const reasons = {
      '1795408776829003-1': 'unknown-epoch',
      '1795408776829005-2': 'unknown-epoch',
      '0-0': 'unknown-epoch',
      [at(3)]: 'ahead',
      '1795408776829004-9007199254740991': 'ahead',
    };
    for (const [lastEventId, reason] of Object.entries(reasons)) {
      const reader = new MemoryReader();
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

  it('answers a malformed id with a gap, never with the beginning and never with silence', () => {
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
      `${EPOCH}-${'1'.repeat(10_000)}`,
      '٧-١',
      'undefined',
      'null',
      '*',
      '$',
      '0',
    ];
    for (const lastEventId of malformed) {
      const reader = new MemoryReader();
      hub.subscribe('a', reader, { lastEventId });
      turns.all();
      assert.deepEqual(
        reader.events.map(({ event }) => event),
        ['sluice:ready', 'sluice:gap'],
        lastEventId,
      );
      assert.deepEqual(reader.gaps, [
        {
          id: at(1),
          reason: 'malformed',
          from: null,
          to: at(1),
          topics: ['a'],
        },
      ]);
      // A client that is cut off before the gap has arrived returns with this id, and must get the gap again.
      const again = new MemoryReader();
      hub.subscribe('a', again, { lastEventId: reader.events[0]!.id });
      turns.all();
      assert.deepEqual(
        again.gaps.map(({ reason }) => reason),
        ['unknown-epoch'],
      );
    }
  });

  it('delivers after a gap what is published from then on', () => {
    const { hub, turns } = handRun();
    for (const lastEventId of ['1795408776829003-1', at(9), 'x']) {
      const reader = new MemoryReader();
      hub.subscribe('a', reader, { lastEventId });
      hub.publish('a', { data: 'new' });
      turns.all();
      assert.deepEqual(
        reader.events.map(({ event, data }) => event ?? data),
        ['sluice:ready', 'sluice:gap', 'new'],
      );
    }
  });

  it('sends a gap to a client of an earlier life of the hub, whose ids are never taken for its own', () => {
    const first = new Hub({ random: () => 0.1 });
    const second = new Hub({ random: () => 0.2 });
    first.publish('a', { data: '1' });
    second.publish('a', { data: 'other' });
    assert.notEqual(first.position, second.position);
    const { hub, turns } = handRun({ epoch: undefined, now: () => 1795408776829.7, random: () => 0.1239 });
    assert.equal(hub.position, '1795408776829123-0');
    const reader = new MemoryReader();
    hub.subscribe('a', reader, { lastEventId: first.position });
    turns.all();
    assert.deepEqual(
      reader.gaps.map(({ reason }) => reason),
      ['unknown-epoch'],
    );
  });
});

describe('beginning without an id', () => {
  /** A client that has received everything that these options give it. */
  function begin(hub: Hub, turns: { all(): number }, topics: string | string[], options: SubscribeOptions) {
    const reader = new MemoryReader();
    hub.subscribe(topics, reader, options);
    turns.all();
    return reader;
  }

  it('delivers from the earliest event that is remembered, and goes on live', () => {
    const { hub, turns } = handRun();
    for (const data of ['1', '2', '3']) hub.publish('a', { data });
    const reader = begin(hub, turns, 'a', { from: 'earliest' });
    hub.publish('a', { data: '4' });
    turns.all();
    assert.deepEqual(reader.story, ['sluice:ready', '1', '2', '3', '4']);
    assert.equal(reader.events[0]!.id, at(0));
  });

  it('begins at the head with from: now, as without any option', () => {
    const { hub, turns } = handRun();
    hub.publish('a', { data: '1' });
    for (const options of [{}, { from: 'now' }, { last: 0 }] as const) {
      const reader = begin(hub, turns, 'a', options);
      assert.deepEqual([reader.story, reader.events[0]!.id], [['sluice:ready'], at(1)]);
    }
  });

  it('delivers the earliest events of several topics in order, without a gap for what was evicted before', () => {
    const { hub, turns } = handRun({ history: (topic) => ({ maxEvents: topic === 'a' ? 1 : 3 }) });
    for (let i = 1; i <= 9; i++) hub.publish(i % 3 ? 'b' : 'a', { data: String(i) });
    for (const topics of [
      ['a', 'b'],
      ['b', 'a'],
      ['a', 'b', 'unknown'],
    ]) {
      const reader = begin(hub, turns, topics, { from: 'earliest' });
      assert.deepEqual(reader.story, ['sluice:ready', '5', '7', '8', '9']);
      assert.deepEqual(reader.events[0]!.id, at(4));
    }
    const reader = begin(hub, turns, 'a', { from: 'earliest' });
    assert.deepEqual([reader.story, reader.events[0]!.id], [['sluice:ready', '9'], at(8)]);
  });

  it('delivers the last events of several topics together, and all where there are fewer', () => {
    const { hub, turns } = handRun({ history: (topic) => ({ maxEvents: topic === 'a' ? 1 : 3 }) });
    for (let i = 1; i <= 9; i++) hub.publish(i % 3 ? 'b' : 'a', { data: String(i) });
    hub.publish('other', { data: 'of a topic that is not followed' });
    const remembered = ['5', '7', '8', '9'];
    for (const last of [1, 2, 3, 4, 5, 100]) {
      const reader = begin(hub, turns, ['a', 'b', 'unknown'], { last });
      assert.deepEqual(reader.story, ['sluice:ready', ...remembered.slice(-last)]);
    }
    assert.deepEqual(begin(hub, turns, 'a', { last: 2 }).texts, ['9']);
    assert.deepEqual(begin(hub, turns, 'b', { last: 2 }).texts, ['7', '8']);
  });

  it('begins at the head of topics that are unknown, deleted or emptied', () => {
    let now = 0;
    const { hub, turns } = handRun({ history: { maxAge: 100 }, now: () => now, maxTopics: 3 });
    for (const topic of ['forgotten', 'deleted', 'emptied']) hub.publish(topic, { data: 'past' });
    hub.publish('more', { data: 'past' }); // makes room by forgetting the first
    hub.delete('deleted');
    now = 200;
    for (const topics of ['unknown', 'forgotten', 'deleted', 'emptied', ['deleted', 'emptied']]) {
      for (const options of [{ from: 'earliest' }, { last: 5 }] as const) {
        const reader = new MemoryReader();
        const subscription = hub.subscribe(topics, reader, options);
        turns.all();
        assert.deepEqual([reader.story, reader.events[0]!.id], [['sluice:ready'], at(4)]);
        subscription.close();
      }
    }
  });

  it('sends no gap later on the connection for what was evicted before it began', () => {
    const { hub, turns } = handRun({ history: (topic) => ({ maxEvents: topic === 'a' ? 1 : 100 }) });
    for (let i = 1; i <= 6; i++) hub.publish(i % 2 ? 'a' : 'b', { data: String(i) });
    const readers = [{ from: 'earliest' }, { last: 100 }, { last: 2 }].map((options) =>
      begin(hub, turns, ['a', 'b'], options as SubscribeOptions),
    );
    for (let i = 7; i <= 9; i++) {
      hub.publish(i % 2 ? 'a' : 'b', { data: String(i) });
      turns.all();
    }
    assert.deepEqual(
      readers.map(({ gaps }) => gaps),
      [[], [], []],
    );
    assert.deepEqual(
      readers.map(({ texts }) => texts.join('')),
      ['2456789', '2456789', '56789'],
    );
  });

  it('sends a gap for what is evicted while the client catches up', () => {
    const { hub, turns } = handRun({ maxPageBytes: 35, history: { maxEvents: 3 } });
    for (let i = 1; i <= 3; i++) hub.publish('a', { data: String(i) });
    const reader = new MemoryReader();
    hub.subscribe('a', reader, { from: 'earliest' });
    turns.next();
    for (let i = 4; i <= 5; i++) hub.publish('a', { data: String(i) });
    turns.all();
    assert.deepEqual(reader.story, ['sluice:ready', 'sluice:gap', '3', '4', '5']);
  });

  it('delivers the same events again to a client that was cut off after ready', () => {
    const { hub, turns } = handRun({ history: { maxEvents: 3 } });
    for (let i = 1; i <= 9; i++) hub.publish(i % 2 ? 'a' : 'b', { data: String(i) });
    for (const options of [{ from: 'earliest' }, { last: 3 }] as const) {
      const cut = begin(hub, turns, ['a', 'b'], options);
      const again = begin(hub, turns, ['a', 'b'], { ...options, lastEventId: cut.events[0]!.id });
      assert.deepEqual(again.texts, cut.texts);
    }
    const one = begin(hub, turns, 'a', { from: 'earliest' });
    const again = begin(hub, turns, 'a', { lastEventId: one.events[0]!.id });
    assert.deepEqual([again.texts, again.gaps], [one.texts, []]);
  });

  it('continues after the last event ID where there is one, whatever the other options are', () => {
    const { hub, turns } = handRun();
    for (const data of ['1', '2', '3']) hub.publish('a', { data });
    for (const options of [{ from: 'earliest' }, { last: 3 }, { last: 0 }] as const) {
      assert.deepEqual(begin(hub, turns, 'a', { ...options, lastEventId: at(2) }).texts, ['3']);
      const lost = begin(hub, turns, 'a', { ...options, lastEventId: 'x' });
      assert.deepEqual(lost.story, ['sluice:ready', 'sluice:gap']);
      for (const lastEventId of ['', null, undefined]) {
        const { length } = begin(hub, turns, 'a', { ...options, lastEventId }).texts;
        assert.equal(length, 'last' in options ? options.last : 3);
      }
    }
  });

  it('prefers last to from', () => {
    const { hub, turns } = handRun();
    for (const data of ['1', '2', '3']) hub.publish('a', { data });
    assert.deepEqual(begin(hub, turns, 'a', { from: 'earliest', last: 1 }).texts, ['3']);
    assert.deepEqual(begin(hub, turns, 'a', { from: 'now', last: 1 }).texts, ['3']);
  });

  it('conflates past events', () => {
    const { hub, turns } = handRun();
    for (let i = 1; i <= 6; i++) hub.publish('a', { data: String(i), key: i % 2 ? 'odd' : 'even' });
    assert.deepEqual(begin(hub, turns, 'a', { from: 'earliest', conflate: true }).texts, ['5', '6']);
    assert.deepEqual(begin(hub, turns, 'a', { last: 3, conflate: true }).texts, ['5', '6']);
  });

  it('delivers the past events of a topic that has ended, and refuses a sink for which none is left', () => {
    const { hub, turns } = handRun();
    for (const data of ['1', '2']) hub.publish('a', { data });
    hub.end('a');
    assert.deepEqual(begin(hub, turns, 'a', { from: 'earliest' }).story, [
      'sluice:ready',
      '1',
      '2',
      'sluice:end',
    ]);
    assert.deepEqual(begin(hub, turns, 'a', { last: 1 }).story, ['sluice:ready', '2', 'sluice:end']);
    assert.equal(hub.subscribe('a', new MemoryReader(), { last: 0 }).closed, true);
  });

  it('counts a client without an id as started, wherever it begins', () => {
    const { hub, turns } = handRun();
    hub.publish('a', { data: '1' });
    for (const options of [{ from: 'earliest' }, { last: 1 }, {}] as const) begin(hub, turns, 'a', options);
    assert.deepEqual([hub.stats.started, hub.stats.resumed], [3, 0]);
  });

  const refused: [SubscribeOptions, string, RegExp][] = [
    [{ from: 'latest' as never }, 'TypeError', /^`from` must be "earliest" or "now", got latest$/],
    [{ from: null as never }, 'TypeError', /^`from` .* got null$/],
    [{ last: -1 }, 'RangeError', /^`last` must be a whole number ≥ 0, got -1$/],
    [{ last: 1.5 }, 'RangeError', /^`last` .* got 1.5$/],
    [{ last: Infinity }, 'RangeError', /^`last` .* got Infinity$/],
    [{ last: '5' as never }, 'RangeError', /^`last` .* got 5$/],
  ];
  for (const [options, name, message] of refused) {
    const [[option, value] = []] = Object.entries(options);
    it(`refuses ${option}: ${typeof value === 'string' ? `'${value}'` : value}, and makes no subscription`, () => {
      const { hub } = handRun();
      assert.throws(() => hub.subscribe('a', new MemoryReader(), options), { name, message });
      assertUntouched(hub);
    });
  }
});

describe('conflation', () => {
  it('delivers to a client that lags the newest event of each key and all without a key, in order', () => {
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
    const [conflating, plain] = [new MemoryReader(), new MemoryReader()];
    hub.subscribe('a', conflating, { lastEventId: at(0), conflate: true });
    hub.subscribe('a', plain, { lastEventId: at(0) });
    turns.all();
    assert.deepEqual(conflating.texts, ['y1', '-', '=', 'x3']);
    assert.deepEqual(plain.texts, ['x1', 'y1', '-', 'x2', '=', 'x3']);
  });

  it('conflates what was published in one turn for clients at the head as well', () => {
    const { hub, turns } = handRun();
    const reader = new MemoryReader();
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
    const reader = new MemoryReader();
    hub.subscribe(['a', 'b'], reader, { lastEventId: at(0), conflate: true });
    turns.all();
    assert.deepEqual(reader.texts, ['a2', 'b2']);
  });

  it('takes the newest from all that was missed, not from one page of it, and loses nothing between pages', () => {
    const { hub, turns } = handRun({ maxPageBytes: 80 });
    for (let round = 0; round < 50; round++) {
      for (let key = 0; key < 10; key++) hub.publish('a', { key: `k${key}`, data: `${key}:${round}` });
    }
    const reader = new MemoryReader();
    hub.subscribe('a', reader, { lastEventId: at(3), conflate: true });
    turns.all();
    assert.deepEqual(
      reader.texts,
      times(10, (key) => `${key}:49`),
    );
    assert.ok(reader.chunks.length > 4);
  });

  it('gives a slow reader of a fast ticker as many events as it can take, and the newest last', async () => {
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

describe('the history of a hub', () => {
  it('sends a gap for events that have expired, also in a topic that is silent', () => {
    let now = 1000;
    const { hub, turns } = handRun({ history: { maxAge: 100 }, now: () => now });
    hub.publish('silent', { data: 'x' });
    hub.publish('a', { data: 'x' });
    now += 101;
    const back = new MemoryReader();
    hub.subscribe('a', back, { lastEventId: at(0) });
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

  it('delivers new events to live subscribers, however small the history is', () => {
    const { hub, turns } = handRun({ maxHistoryBytes: 2000 });
    const reader = new MemoryReader();
    hub.subscribe(['a', 'b'], reader);
    turns.all();
    for (let i = 0; i < 100; i++) {
      hub.publish(i % 3 ? 'a' : 'b', { data: `${i} ${'x'.repeat(i === 50 ? 4000 : 200)}` });
      turns.all();
    }
    assert.equal(reader.texts.length, 100);
    assert.deepEqual(reader.gaps, []);
    assert.ok(hub.historyBytes <= 2000 && hub.historyBytes > 1000);
  });

  it('sends a gap for a topic that was forgotten because there were too many', () => {
    const { hub, turns } = handRun({ maxTopics: 5 });
    const staying = new MemoryReader();
    hub.subscribe('followed', staying);
    for (let i = 0; i < 20; i++) {
      hub.publish(`t${i}`, { data: String(i) });
      assert.ok(hub.topics().length <= 6); // and "followed", which has no history
    }
    hub.publish('followed', { data: 'x' });
    turns.all();
    assert.deepEqual(staying.texts, ['x']);
    const gone = new MemoryReader();
    hub.subscribe('t3', gone, { lastEventId: at(3) });
    const kept = new MemoryReader();
    hub.subscribe('t19', kept, { lastEventId: at(19) });
    const both = new MemoryReader();
    hub.subscribe(['t3', 't19'], both, { lastEventId: at(3) });
    const fresh = new MemoryReader();
    hub.subscribe('t3', fresh, { lastEventId: hub.position });
    turns.all();
    assert.deepEqual(
      gone.gaps.map(({ reason, topics }) => [reason, topics]),
      [['evicted', ['t3']]],
    );
    assert.deepEqual([kept.texts, kept.gaps], [['19'], []]);
    // The hub has forgotten which topics had older events, so a topic that is new to it may have lost some.
    assert.deepEqual(
      both.gaps.map(({ to, topics }) => [to, ...topics]),
      [
        [at(14), 't19'],
        [at(16), 't3'],
      ],
    );
    assert.deepEqual(both.texts, ['19']);
    assert.deepEqual(fresh.gaps, []);
  });

  it('refuses to follow more topics that nobody publishes to, and changes nothing', () => {
    const { hub, turns } = handRun({ maxFollowedTopics: 3 });
    const readers = ['a', 'b', 'c'].map((topic) => {
      const reader = new MemoryReader();
      hub.subscribe(topic, reader);
      return reader;
    });
    const full = { code: 'ERR_SSE_TOO_MANY_FOLLOWED', status: 503, message: /`maxFollowedTopics`/ };
    const refused = new MemoryReader();
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

  it('forgets nothing for a subscription that it refuses because of a malformed topic', () => {
    const { hub } = handRun({ maxTopics: 1 });
    hub.publish('kept', { data: 'x' });
    assert.throws(() => hub.subscribe(['fine', 'not fine'], new MemoryReader()), {
      code: 'ERR_SSE_MALFORMED_TOPIC',
    });
    assert.deepEqual(
      hub.topics().map(({ topic, events }) => [topic, events]),
      [['kept', 1]],
    );
  });

  it('gives a subscription all its topics once there is room, though it was refused before', () => {
    const { hub, turns } = handRun({ maxFollowedTopics: 2 });
    hub.subscribe('a', new MemoryReader());
    const leaving = hub.subscribe('b', new MemoryReader());
    const full = { code: 'ERR_SSE_TOO_MANY_FOLLOWED' };
    assert.throws(() => hub.subscribe(['a', 'c'], new MemoryReader()), full);
    leaving.close();
    const reader = new MemoryReader();
    hub.subscribe(['a', 'c'], reader);
    for (const topic of ['a', 'c']) hub.publish(topic, { data: topic });
    turns.all();
    assert.deepEqual(reader.texts, ['a', 'c']);
  });

  it('removes a topic that was only followed together with its last subscriber', () => {
    const { hub, turns } = handRun();
    const subscription = hub.subscribe(['a', 'b'], new MemoryReader());
    turns.all();
    assert.equal(hub.topics().length, 2);
    subscription.close();
    assert.equal(hub.topics().length, 0);
  });
});

describe('a subscription', () => {
  it('has the position up to which everything was written', async () => {
    const { hub, turns } = handRun({ maxPageBytes: 40 });
    for (let i = 0; i < 3; i++) hub.publish('a', { data: `event ${i}` });
    const reader = slowReader();
    const subscription = hub.subscribe('a', reader, { lastEventId: at(1) });
    assert.deepEqual([subscription.position, subscription.lag], [at(1), 2]);
    turns.all();
    assert.deepEqual([subscription.position, subscription.lag], [at(1), 2]);
    await drain(reader);
    turns.all();
    assert.deepEqual([subscription.position, subscription.lag], [at(2), 1]);
    for (let i = 0; i < 3; i++) {
      await drain(reader);
      turns.all();
    }
    assert.deepEqual([subscription.position, subscription.lag], [at(3), 0]);
    hub.publish('not-followed', { data: 'x' });
    turns.all();
    assert.deepEqual([subscription.position, subscription.lag], [at(4), 0]);
  });

  it('names no position that has not been written yet, not even for the rest of a turn', () => {
    const { hub, turns } = handRun();
    const [other, reader] = [new MemoryReader(), new MemoryReader()];
    hub.subscribe('b', other);
    const subscription = hub.subscribe('a', reader);
    turns.all();
    hub.publish('a', { data: 'x' });
    hub.publish('b', { data: 'x' });
    assert.deepEqual([subscription.position, subscription.lag], [at(0), 2]);
    let inside: string | undefined;
    other.write = () => {
      inside = hub.publish('a', { data: 'from inside' });
      return true;
    };
    turns.next();
    assert.equal(inside, at(3));
    assert.deepEqual([subscription.position, subscription.lag], [at(2), 1]);
    turns.next();
    assert.deepEqual([subscription.position, subscription.lag], [at(3), 0]);
  });

  it('stays at the id of the client until the gap is written', () => {
    const { hub, turns } = handRun();
    hub.publish('a', { data: 'x' });
    for (const [lastEventId, position] of [
      ['1795408776829003-1', '1795408776829003-1'],
      [at(9), at(9)],
      [at(0), at(0)],
      ['x', '0-0'],
      [undefined, at(1)],
    ] as const) {
      const subscription = hub.subscribe('a', new MemoryReader(), { lastEventId });
      assert.equal(subscription.position, position);
      turns.all();
      assert.equal(subscription.position, at(1));
    }
  });

  it('moves on with events of other topics, and never goes back', () => {
    const { hub, turns } = handRun({ history: { maxEvents: 1 } });
    const reader = new MemoryReader();
    const subscription = hub.subscribe('a', reader);
    turns.all();
    for (let i = 0; i < 5; i++) hub.publish('b', { data: 'x' });
    turns.all();
    assert.equal(subscription.position, at(5));
    for (let i = 0; i < 3; i++) hub.publish('a', { data: 'x' });
    const write = reader.write.bind(reader);
    const positions: string[] = [];
    reader.write = (chunk: Buffer) => {
      positions.push(subscription.position);
      return write(chunk);
    };
    turns.all();
    assert.deepEqual(positions, [at(7), at(8)]);
    assert.deepEqual(
      reader.gaps.map(({ from, to }) => [from, to]),
      [[at(5), at(7)]],
    );
  });

  it('ends without writing anything, and leaves the sink as it is', () => {
    const { hub, turns } = handRun();
    const reader = new MemoryReader();
    const counts = () => ['drain', 'close', 'error'].map((name) => reader.listenerCount(name));
    const before = counts();
    const subscription = hub.subscribe('a', reader);
    turns.all();
    subscription.close();
    subscription.close();
    hub.publish('a', { data: 'x' });
    turns.all();
    assert.equal(subscription.closed, true);
    assert.deepEqual([reader.closed, reader.chunks.length], [false, 1]);
    assert.deepEqual(counts(), before);
  });

  it('may be closed twice, and the others that follow the topic stay', () => {
    const { hub, turns } = handRun();
    const other = new MemoryReader();
    const subscription = hub.subscribe('a', new MemoryReader());
    hub.subscribe('a', other);
    for (let i = 0; i < 2; i++) subscription.close();
    hub.publish('a', { data: 'x' });
    turns.all();
    assert.deepEqual([other.texts, hub.size], [['x'], 1]);
  });

  it('leaves no error uncaught of a sink that has ended, also after it was closed', () => {
    const { hub, turns } = handRun();
    const reader = new MemoryReader();
    const subscription = hub.subscribe('a', reader);
    turns.all();
    reader.end();
    subscription.close();
    assert.equal(reader.emit('error', new Error('connection reset')), true);
  });

  it('names its topics, sorted, each once', () => {
    const { hub } = handRun();
    assert.deepEqual(hub.subscribe(['b', 'a', 'b'], new MemoryReader()).topics, ['a', 'b']);
    assert.deepEqual(hub.subscribe('c', new MemoryReader()).topics, ['c']);
  });
});

describe('permission', () => {
  it('writes nothing and ends the sink when `may` throws', () => {
    const { hub, turns } = handRun();
    const reader = new MemoryReader();
    const may = () => {
      throw new Error('the directory does not answer');
    };
    hub.subscribe('a', reader, { may });
    hub.publish('a', { data: 'x' });
    turns.all();
    assert.deepEqual([reader.chunks.length, reader.writableEnded, hub.size], [0, true, 0]);
  });

  it('writes nothing and ends the sink unless `may` answers true', () => {
    for (const answer of [false, undefined, null, 1, 'yes', {}, Promise.resolve(true)]) {
      const { hub, turns } = handRun();
      const [reader, other] = [new MemoryReader(), new MemoryReader()];
      hub.subscribe(['a', 'b'], reader, { may: (topic) => topic === 'a' || (answer as boolean) });
      hub.subscribe('b', other, { may: () => true });
      hub.publish('b', { data: 'x' });
      turns.all();
      assert.deepEqual([reader.chunks.length, reader.writableEnded], [0, true]);
      assert.deepEqual(other.texts, ['x']);
    }
  });

  it('ends the sink where `may` answers a promise, and handles its rejection', async (t) => {
    const unhandled: unknown[] = [];
    const listener = (reason: unknown): void => void unhandled.push(reason);
    process.on('unhandledRejection', listener);
    t.after(() => process.off('unhandledRejection', listener));
    const { hub, turns } = handRun();
    const reader = new MemoryReader();
    hub.subscribe('a', reader, { may: (async () => Promise.reject(new Error('away'))) as never });
    turns.all();
    await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual([hub.size, unhandled], [0, []]);
  });

  it('asks `may` of each reader, also where another one has just got the same page', () => {
    const { hub, turns } = handRun();
    const readers = [new MemoryReader(), new MemoryReader(), new MemoryReader()];
    let isAllowed = true;
    readers.forEach((reader, i) => void hub.subscribe('a', reader, i === 1 ? { may: () => isAllowed } : {}));
    hub.publish('a', { data: '1' });
    turns.all();
    isAllowed = false;
    hub.publish('a', { data: '2' });
    turns.all();
    assert.deepEqual(
      readers.map(({ texts }) => texts),
      [['1', '2'], ['1'], ['1', '2']],
    );
    assert.deepEqual([readers[1]!.writableEnded, hub.size], [true, 2]);
  });

  it('skips a reader that has ended without a sign, also where another one has just got the same page', () => {
    const { hub, turns } = handRun();
    const readers = [new MemoryReader(), new MemoryReader(), new MemoryReader()];
    for (const reader of readers) hub.subscribe('a', reader);
    turns.all();
    Object.defineProperty(readers[1], 'writableEnded', { value: true });
    hub.publish('a', { data: '1' });
    turns.all();
    assert.deepEqual(
      readers.map(({ texts }) => texts),
      [['1'], [], ['1']],
    );
    assert.deepEqual([hub.size, hub.stats.delivered], [2, 2]);
  });

  it('asks `may` again before each write', () => {
    const { hub, turns } = handRun();
    const reader = new MemoryReader();
    let isAllowed = true;
    hub.subscribe('a', reader, { may: () => isAllowed });
    hub.publish('a', { data: '1' });
    turns.all();
    isAllowed = false;
    hub.publish('a', { data: '2' });
    turns.all();
    assert.deepEqual([reader.texts, reader.writableEnded, hub.size], [['1'], true, 0]);
  });

  it('writes nothing to a sink that `may` has ended, or whose subscription it has closed', () => {
    const { hub, turns } = handRun();
    const [ended, closed] = [new MemoryReader(), new MemoryReader()];
    hub.subscribe('a', ended, { may: () => Boolean(ended.end()) || true });
    const subscription = hub.subscribe('a', closed, {
      may: () => {
        subscription.close();
        return true;
      },
    });
    hub.publish('a', { data: 'x' });
    turns.all();
    assert.deepEqual([ended.chunks.length, closed.chunks.length, hub.size], [0, 0, 0]);
  });

  it('kicks the subscriptions for which the predicate answers true, and no others', () => {
    const { hub, turns } = handRun();
    const readers = times(3, () => new MemoryReader());
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

function assertUntouched(hub: Hub): void {
  assert.deepEqual([hub.position, hub.stats.published, hub.historyBytes, hub.size], [at(0), 0, 0, 0]);
  assert.deepEqual(hub.topics(), []);
}

describe('control events for readers that know only the events of their own protocol', () => {
  /** Gets ready, a gap, an event and the end. */
  function served(controls: SubscribeOptions['controls']): MemoryReader {
    const { hub, turns } = handRun({ history: { maxEvents: 2 } });
    for (const data of ['1', '2', '3', '4']) hub.publish('a', { data });
    const reader = new MemoryReader();
    hub.subscribe('a', reader, { lastEventId: at(1), controls });
    hub.end('a');
    turns.all();
    return reader;
  }

  it('are comments, which keep every position', () => {
    const reader = served('comments');
    const text = Buffer.concat(reader.chunks).toString();
    const { frames, comments, retries } = parse(text);
    assert.deepEqual(
      frames.map(({ id, event, data }) => [id, event, data]),
      [
        [at(3), undefined, '3'],
        [at(4), undefined, '4'],
      ],
    );
    assert.deepEqual(retries, [2000]);
    assert.deepEqual(
      comments.map((comment) => comment.split(' ')[0]),
      ['sluice:ready', 'sluice:gap', 'sluice:end'],
    );
    assert.match(comments[1]!, /"reason":"evicted"/);
    const ids = [...text.matchAll(/^id: (.*)$/gm)].map(([, id]) => id);
    assert.deepEqual(ids, [at(1), at(2), at(3), at(4), at(4)]);
    assert.ok(reader.writableEnded);
  });

  it('are what a function makes of them', () => {
    const reader = served(({ event, data }) => {
      if (event === 'sluice:gap') return { event: 'error', json: { lost: JSON.parse(data).to } };
      return event === 'sluice:end' ? { data: '[DONE]' } : null;
    });
    assert.deepEqual(
      reader.events.map(({ id, event, data }) => [id, event, data]),
      [
        [at(2), 'error', `{"lost":"${at(2)}"}`],
        [at(3), undefined, '3'],
        [at(4), undefined, '4'],
        [at(4), undefined, '[DONE]'],
      ],
    );
  });

  it('of an id that cannot be read never leave the gap out', () => {
    for (const controls of ['comments', () => null] as const) {
      const { hub, turns } = handRun();
      const reader = new MemoryReader();
      hub.subscribe('a', reader, { lastEventId: 'not ours', controls });
      turns.all();
      assert.match(Buffer.concat(reader.chunks).toString(), /^: sluice:gap {"reason":"malformed"/m);
    }
  });

  it('cut their own subscriber and no other where the function throws or makes what cannot be sent', () => {
    for (const fails of [
      () => {
        throw new Error('no');
      },
      () => ({ event: 'a\nb', data: 'x' }),
    ]) {
      const { hub, turns } = handRun();
      const [bad, good] = [new MemoryReader(), new MemoryReader()];
      hub.subscribe('a', bad, { controls: ({ event }) => (event === 'sluice:end' ? fails() : null) });
      hub.subscribe('a', good);
      turns.all();
      hub.end('a');
      turns.all();
      assert.equal(bad.cutFor, 'error');
      assert.deepEqual(good.story, ['sluice:ready', 'sluice:end']);
      // No status of a mistake of the client, for which it would be blamed.
      assert.throws(
        () => hub.subscribe('b', new MemoryReader(), { controls: fails }),
        (error) => problemOf(error).status === 500,
      );
      assert.equal(hub.size, 0);
    }
  });

  it('can be sent in no other way', () => {
    const { hub } = handRun();
    assert.throws(
      () => hub.subscribe('a', new MemoryReader(), { controls: 'none' as never }),
      /`controls` must be/,
    );
  });
});
