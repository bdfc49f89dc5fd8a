import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { logUnavailable, outcomeUnknown } from '../lib/log.ts';
import { formatId } from '../lib/protocol.ts';
import { begun, following, type HandLog } from './helpers/hand-log.ts';
import { at, EPOCH, MemoryReader } from './helpers/hub.ts';

const NEXT = EPOCH + 5000;
const later = (seq: number): string => formatId(NEXT, seq);

/** Holds back what the log answers, until the function that is returned is called. */
function hold(log: HandLog): () => void {
  const answers: (() => void)[] = [];
  const { answer } = log;
  log.answer = (look) => new Promise((resolve) => answers.push(() => resolve(look())));
  return () => {
    log.answer = answer;
    for (const one of answers) one();
  };
}

const storyOf = (reader: MemoryReader): string[] => reader.story.filter((one) => one !== 'sluice:ready');

describe('a hub that follows a shared log', () => {
  it('delivers what the log tells, in its order, with ids of its epoch', async () => {
    const { log, hub, rest } = begun();
    const reader = new MemoryReader();
    hub.subscribe(['a', 'b'], reader);
    await rest();
    log.tell('a1', 'b1', 'c1', 'a2');
    await rest();
    assert.deepEqual(
      reader.of().map(({ id, data }) => [id, data]),
      [
        [at(1), 'a1'],
        [at(2), 'b1'],
        [at(4), 'a2'],
      ],
    );
    assert.deepEqual([hub.position, hub.stats.published], [at(4), 4]);
  });

  it('ignores what it is told twice', async () => {
    const { log, hub, rest, errors } = begun();
    const reader = new MemoryReader();
    hub.subscribe('a', reader);
    await rest();
    const entries = log.write('a1', 'a2');
    log.intake.accept(entries);
    log.intake.accept(entries);
    log.intake.skip(1);
    await rest();
    assert.deepEqual([reader.texts, reader.gaps, hub.position], [['a1', 'a2'], [], at(2)]);
    assert.deepEqual([errors, log.asked.filter((one) => one.startsWith('read'))], [[], []]);
  });

  it('reads from the log what was not received, whether it is told of the hole or finds it', async () => {
    for (const isTold of [true, false]) {
      const { log, hub, rest } = begun();
      const reader = new MemoryReader();
      hub.subscribe(['a', 'b'], reader);
      await rest();
      log.tell('a1');
      await rest();
      log.write('a2', 'b1', 'c1');
      if (isTold) log.intake.skip(4);
      log.tell('a3');
      await rest();
      assert.deepEqual([reader.texts, reader.gaps], [['a1', 'a2', 'b1', 'a3'], []]);
    }
  });

  it('tells of a hole that the log does not hold either, before anything newer', async () => {
    const { log, hub, rest } = begun();
    const [a, b] = [new MemoryReader(), new MemoryReader()];
    hub.subscribe('a', a);
    hub.subscribe('b', b);
    await rest();
    log.tell('a1', 'b1');
    await rest();
    log.write('a2', 'a3');
    log.entries = log.entries.filter(({ seq }) => seq !== 3);
    log.dropped.set('a', 3);
    log.intake.skip(4);
    log.tell('b2');
    await rest();
    assert.deepEqual(storyOf(a), ['a1', 'sluice:gap', 'a3']);
    assert.deepEqual(a.gaps, [{ id: at(3), reason: 'evicted', from: at(2), to: at(3), topics: ['a'] }]);
    assert.deepEqual([b.texts, b.gaps], [['b1', 'b2'], []]);
  });

  it('reads an event that is larger than this hub may remember from the log', async () => {
    const { log, hub, rest, errors } = begun({ history: { maxBytes: 100 } });
    const reader = new MemoryReader();
    hub.subscribe('a', reader);
    await rest();
    log.tell('a1', `a${'x'.repeat(200)}`, 'a3');
    await rest();
    assert.deepEqual([reader.texts.map((text) => text.length), reader.gaps], [[2, 201, 2], []]);
    assert.match(errors.join(), /follow: an event of topic "a" must have at most 100 bytes/);
  });

  it('takes the changes of topics in their order, and their places', async () => {
    const { log, hub, rest } = begun();
    const reader = new MemoryReader();
    hub.subscribe('a', reader);
    await rest();
    log.intake.accept([...log.write('a1'), log.changeTo('a', 'end')]);
    assert.equal(hub.position, at(2));
    await rest();
    assert.deepEqual(reader.story, ['sluice:ready', 'a1', 'sluice:end']);
    log.intake.accept([log.changeTo('a', 'reopen'), ...log.write('a2')]);
    const next = new MemoryReader();
    hub.subscribe('a', next, { lastEventId: at(1) });
    await rest();
    assert.deepEqual([next.texts, next.of()[0]?.id], [['a2'], at(4)]);
    log.dropped.set('a', 4);
    log.entries = [];
    log.intake.accept([log.changeTo('a', 'delete')]);
    const last = new MemoryReader();
    hub.subscribe('a', last, { lastEventId: at(1) });
    await rest();
    assert.deepEqual(storyOf(last), ['sluice:gap']);
  });

  it('takes an event of a topic that has ended for its going on, where the log has not said so', async () => {
    const { log, hub, rest } = begun();
    const reader = new MemoryReader();
    hub.subscribe(['a', 'b'], reader);
    await rest();
    log.intake.accept([...log.write('a1'), log.changeTo('a', 'end'), ...log.write('a2')]);
    await rest();
    log.intake.accept([log.changeTo('b', 'end')]);
    await rest();
    assert.deepEqual([reader.texts, reader.writableEnded], [['a1', 'a2'], false]);
  });

  it('ends no topic before its last events, however early it hears of the end', async () => {
    const { log, hub, rest } = begun();
    const reader = new MemoryReader();
    hub.subscribe('a', reader);
    await rest();
    log.tell('a1');
    log.write('b1');
    const [entry, end] = [log.write('a2')[0]!, log.changeTo('a', 'end')];
    log.intake.skip(2);
    await rest();
    assert.deepEqual(reader.story, ['sluice:ready', 'a1']);
    log.intake.accept([entry, end]);
    await rest();
    assert.deepEqual(reader.story, ['sluice:ready', 'a1', 'a2', 'sluice:end']);
  });

  it('believes what it is told rather than an answer from before', async () => {
    const { log, hub, rest } = begun();
    const reader = new MemoryReader();
    hub.subscribe('a', reader);
    await rest();
    let release = (): void => {};
    log.answer = async (look) => {
      const early = look();
      await new Promise<void>((resolve) => (release = resolve));
      return early;
    };
    log.write('a1');
    log.intake.skip(1);
    log.intake.accept([log.changeTo('a', 'end')]);
    release();
    log.answer = async (look) => look();
    await new Promise((resolve) => setImmediate(resolve));
    await rest();
    assert.deepEqual(reader.story, ['sluice:ready', 'a1', 'sluice:end']);
  });

  it('has no position before the log is reached, and that of the log from then on', () => {
    const { log, hub } = following();
    assert.equal(hub.position, '0-0');
    log.intake.renew(EPOCH, 0);
    assert.equal(hub.position, at(0));
  });

  it('refuses what only a promise can answer, and names the method that returns one', async () => {
    const { hub } = begun();
    const calls: [() => unknown, RegExp][] = [
      [() => hub.publish('a', { data: 'x' }), /use `append`/],
      [() => hub.publishAll('a', []), /use `appendAll`/],
      [() => hub.end('a'), /use `change`/],
      [() => hub.reopen('a'), /use `change`/],
      [() => hub.delete('a'), /use `change`/],
    ];
    for (const [call, message] of calls) assert.throws(call, { code: 'ERR_SSE_SHARED_ORDER', message });
  });

  it('checks and encodes an append here, gives it to the log, and answers with the ids that the log gave', async () => {
    const { log, hub } = begun();
    const asked: unknown[] = [];
    log.append = (async (
      topic: string,
      events: readonly { frame: Uint8Array; key?: string }[],
      options: object,
    ) => {
      asked.push([topic, events.map(({ frame, key }) => [Buffer.from(frame).toString(), key]), options]);
      return { epoch: NEXT, first: 7, count: events.length };
    }) as never;
    const idempotency = { key: 'k', digest: 'd' };
    const events = [{ data: 'x', key: 'one' }, { json: 1 }];
    assert.deepEqual(await hub.appendAll('a', events, { idempotency }), [later(7), later(8)]);
    assert.deepEqual(asked, [
      [
        'a',
        [
          ['data: x\n\n', 'one'],
          ['data: 1\n\n', undefined],
        ],
        { idempotency },
      ],
    ]);
    await assert.rejects(hub.append('a', { data: 'x', event: 'sluice:gap' }), { code: 'ERR_SSE_BAD_EVENT' });
    const behind = hub.append('a', { data: 'x' }, { behind: 'newest' });
    await assert.rejects(behind, /`behind` must be the id of an event, got "newest"/);
    assert.equal(asked.length, 1);
  });

  it('gives the failures of an append to the publisher as they are', async () => {
    const { log, hub } = begun();
    for (const error of [logUnavailable('no'), outcomeUnknown('perhaps'), new Error('other')]) {
      log.append = () => Promise.reject(error);
      await assert.rejects(hub.append('a', { data: 'x' }), (thrown) => thrown === error);
    }
    assert.deepEqual(
      [logUnavailable('no'), outcomeUnknown('perhaps')].map(({ code, status }) => [code, status]),
      [
        ['ERR_SSE_LOG_UNAVAILABLE', 503],
        ['ERR_SSE_OUTCOME_UNKNOWN', 503],
      ],
    );
  });
});

describe('a subscriber of a shared log', () => {
  it('begins at the head where it has no id, and resumes after one, however old', async () => {
    const { log, hub, rest } = begun({ history: { maxEvents: 2 } });
    log.tell('a1', 'a2', 'a3', 'a4', 'a5');
    for (const [options, texts] of [
      [{}, []],
      [{ lastEventId: at(3) }, ['a4', 'a5']],
      [{ lastEventId: at(0) }, ['a1', 'a2', 'a3', 'a4', 'a5']],
      [{ from: 'earliest' }, ['a1', 'a2', 'a3', 'a4', 'a5']],
      [{ last: 3 }, ['a3', 'a4', 'a5']],
    ] as const) {
      const reader = new MemoryReader();
      hub.subscribe('a', reader, options);
      await rest();
      assert.deepEqual([reader.texts, reader.gaps], [texts, []]);
    }
  });

  it('without an id begins where it came, whatever is published before the log has answered', async () => {
    for (const isRenewed of [false, true]) {
      const { log, hub, rest } = begun();
      log.tell('a1');
      await rest();
      const answer = hold(log);
      const reader = new MemoryReader();
      hub.subscribe('a', reader);
      await rest();
      if (isRenewed) {
        log.head = 0;
        log.intake.renew(NEXT, 1);
      }
      log.tell('a2');
      await rest();
      assert.deepEqual(reader.story, []);
      answer();
      await rest();
      const id = isRenewed ? later : (seq: number) => at(seq + 1);
      assert.deepEqual(
        reader.events.map(({ id, event, data }) => [id, event ?? data]),
        [
          [id(0), 'sluice:ready'],
          [id(1), 'a2'],
        ],
      );
    }
  });

  it('without an id begins at the head where the log is reached in the turn in which it comes', async () => {
    const { log, hub, rest } = following();
    const reader = new MemoryReader();
    hub.subscribe('a', reader);
    log.write('a1', 'a2');
    log.intake.renew(EPOCH, 0);
    log.intake.skip(2);
    await rest();
    log.tell('a3');
    await rest();
    assert.deepEqual(storyOf(reader), ['a3']);
  });

  it('that asks for the past is sent away where that has become another epoch', async () => {
    const { log, hub, rest } = begun();
    log.tell('a1', 'a2', 'a3');
    await rest();
    const { beforeNewest } = log;
    let answer = (): void => {};
    log.beforeNewest = (...asked) =>
      new Promise((resolve) => {
        answer = () => resolve(beforeNewest.apply(log, asked));
      });
    const reader = new MemoryReader();
    hub.subscribe('a', reader, { last: 1 });
    await rest();
    log.entries = [];
    log.head = 0;
    log.intake.renew(NEXT, 3);
    answer();
    await rest();
    assert.deepEqual([reader.writableEnded, reader.story, hub.size], [true, [], 0]);
  });

  it('has not missed what the log dropped before it came', async () => {
    const { log, hub, rest } = begun({ history: { maxEvents: 1 } });
    log.tell('b1', 'a1', 'a2', 'a3', 'b2');
    log.entries = log.entries.filter(({ seq }) => seq !== 2);
    log.dropped.set('a', 2);
    const reader = new MemoryReader();
    hub.subscribe(['a', 'b'], reader, { from: 'earliest' });
    await rest();
    assert.deepEqual([reader.texts, reader.gaps], [['b1', 'a2', 'a3', 'b2'], []]);
  });

  it('gets nothing before the log has answered, and then the right status for topics that ended elsewhere', async () => {
    const { log, hub, turns, rest } = begun();
    log.write('a1');
    log.intake.skip(1);
    await rest();
    log.changeTo('a', 'end');
    let release = (): void => {};
    log.answer = async (look) => {
      await new Promise<void>((resolve) => (release = resolve));
      return look();
    };
    const reader = Object.assign(new MemoryReader(), {
      status: 0,
      refuse: (s: number) => (reader.status = s),
    });
    const subscription = hub.subscribe('a', reader, { lastEventId: at(1) });
    turns.all();
    assert.deepEqual([reader.chunks.length, subscription.position], [0, at(1)]);
    release();
    await rest();
    assert.deepEqual([reader.status, subscription.closed, hub.size, reader.chunks.length], [204, true, 0, 0]);
  });

  it('is asked for once a turn, whoever comes in it', async () => {
    const { log, hub, rest } = begun();
    for (let i = 0; i < 20; i++) hub.subscribe(i % 2 ? 'a' : ['b', 'c'], new MemoryReader());
    await rest();
    assert.deepEqual(
      log.asked.filter((one) => one.startsWith('find')),
      ['find b,c,a'],
    );
  });

  it('is held while its id is ahead of this process: ready at once, and the rest without a gap', async () => {
    const { log, hub, rest } = begun();
    hub.subscribe('a', new MemoryReader()); // whose pages it may not get
    log.tell('a1');
    await rest();
    const reader = new MemoryReader();
    const subscription = hub.subscribe('a', reader, { lastEventId: at(3) });
    await rest();
    assert.deepEqual(
      reader.events.map(({ id, event }) => [id, event]),
      [[at(3), 'sluice:ready']],
    );
    assert.equal(subscription.position, at(3));
    log.tell('a2');
    await rest();
    assert.deepEqual(reader.texts, []);
    log.tell('a3', 'a4');
    await rest();
    assert.deepEqual([reader.texts, reader.gaps, subscription.position], [['a4'], [], at(4)]);
  });

  it('is held while its id is of an epoch of which this process has not heard', async () => {
    const { log, hub, rest } = begun();
    log.tell('a1');
    const reader = new MemoryReader();
    hub.subscribe('a', reader, { lastEventId: later(1) });
    await rest();
    log.entries = [];
    log.head = 0;
    log.intake.renew(NEXT, 1);
    log.tell('a2', 'a3');
    await rest();
    assert.deepEqual([reader.texts, reader.gaps], [['a3'], []]);
  });

  it('is held for as long as the log is away, because nobody can say whether its id is ahead', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    let now = 0;
    t.mock.method(performance, 'now', () => now);
    const { log, hub, rest } = begun();
    const reader = new MemoryReader();
    hub.subscribe('a', reader, { lastEventId: at(2) });
    await rest();
    log.intake.away(new Error('lost'));
    for (now = 250; now <= 5000; now += 250) {
      t.mock.timers.tick(250);
      await rest();
    }
    log.intake.back();
    log.tell('a1', 'a2', 'a3');
    await rest();
    assert.deepEqual([reader.texts, reader.gaps], [['a3'], []]);
  });

  it('is told of a gap where its id is ahead still after a second', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    let now = 0;
    t.mock.method(performance, 'now', () => now);
    const { log, hub, rest } = begun();
    const reader = new MemoryReader();
    hub.subscribe('a', reader, { lastEventId: at(9) });
    await rest();
    log.tell('a1');
    now = 999;
    t.mock.timers.tick(999);
    await rest();
    assert.deepEqual(reader.gaps, []);
    now = 1250;
    t.mock.timers.tick(251);
    await rest();
    assert.deepEqual(reader.gaps, [{ id: at(1), reason: 'ahead', from: at(9), to: at(1), topics: ['a'] }]);
    log.tell('a2');
    await rest();
    assert.deepEqual(storyOf(reader), ['sluice:gap', 'a2']);
  });

  it('is not told of a gap while this process is behind the log, however long that takes', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    let now = 0;
    t.mock.method(performance, 'now', () => now);
    const { log, hub, rest } = begun();
    log.lag = 5000;
    const reader = new MemoryReader();
    hub.subscribe('a', reader, { lastEventId: at(3) });
    await rest();
    for (let i = 0; i < 12; i++) {
      now += 250;
      t.mock.timers.tick(250);
      await rest();
    }
    assert.deepEqual(reader.gaps, []);
    log.tell('a1', 'a2', 'a3', 'a4');
    await rest();
    assert.deepEqual([reader.texts, reader.gaps], [['a4'], []]);
  });

  for (const [when, wait] of Object.entries({ 'before it comes': 0, 'while it is held': 500 })) {
    it(`is held while the log answers nothing and does not say that it is away, from ${when}`, async (t) => {
      t.mock.timers.enable({ apis: ['setTimeout'] });
      let now = 0;
      t.mock.method(performance, 'now', () => now);
      const { log, hub, rest } = begun();
      const pass = async (ms: number): Promise<void> => {
        for (const end = now + ms; now < end; ) {
          now += 250;
          t.mock.timers.tick(250);
          await rest();
        }
      };
      log.tell('a1');
      const reader = new MemoryReader();
      const { answer } = log;
      if (wait > 0) hub.subscribe('a', reader, { lastEventId: at(3) });
      await pass(wait);
      log.answer = () => new Promise(() => {});
      if (wait === 0) hub.subscribe('a', reader, { lastEventId: at(3) });
      await pass(5000);
      // It answers again, and what it has is on its way.
      log.answer = answer;
      await pass(750);
      log.tell('a2', 'a3', 'a4');
      await rest();
      assert.deepEqual([reader.texts, reader.gaps], [['a4'], []]);
    });
  }

  it('leaves at any moment without a trace', async () => {
    const { log, hub, rest } = begun();
    log.tell('a1');
    for (const options of [{}, { lastEventId: at(9) }, { from: 'earliest' }] as const) {
      const reader = new MemoryReader();
      hub.subscribe('a', reader, options);
      reader.destroy();
      await rest();
      assert.equal(hub.size, 0);
    }
  });

  it('whose `controls` throws is cut off, and the others are served', async () => {
    const { log, hub, rest } = begun();
    const [bad, good] = [new MemoryReader(), new MemoryReader()];
    const controls = (): never => {
      throw new Error('no');
    };
    hub.subscribe('a', bad, { controls });
    hub.subscribe('a', good);
    await rest();
    log.tell('a1');
    await rest();
    assert.deepEqual([bad.destroyed, good.texts, hub.size], [true, ['a1'], 1]);
  });
});

describe('a shared log that goes on in another epoch', () => {
  it('is told once to each reader: what is left of the old epoch, the gap, what follows', async () => {
    const { log, hub, rest, turns } = begun();
    const [live, blocked, plain] = [
      new MemoryReader(),
      new MemoryReader({ highWaterMark: 1 }),
      new MemoryReader(),
    ];
    hub.subscribe(['a', 'b'], live, { conflate: true });
    hub.subscribe('a', blocked);
    await rest();
    blocked.read();
    await rest();
    log.tell('a1', 'b1', 'a2');
    await rest();
    // The store has lost a2, which `live` has.
    log.entries = [];
    log.head = 0;
    log.intake.renew(NEXT, 2);
    hub.subscribe(['a', 'b'], plain, { lastEventId: at(1) });
    log.tell('a3', 'b3');
    turns.all();
    for (let i = 0; i < 9; i++) {
      blocked.read();
      await rest();
    }
    assert.deepEqual(storyOf(live), ['a1', 'b1', 'a2', 'sluice:gap', 'a3', 'b3']);
    assert.deepEqual(live.gaps, [
      { id: later(0), reason: 'store-changed', from: at(3), to: later(0), topics: ['a', 'b'] },
    ]);
    assert.deepEqual(storyOf(plain), ['b1', 'sluice:gap', 'a3', 'b3']);
    // The first write to it was refused, so all of the old epoch that is left came after that.
    const [gap, ...others] = blocked.gaps;
    assert.deepEqual([gap?.reason, gap?.to, others], ['store-changed', later(0), []]);
    assert.deepEqual(blocked.texts.slice(-1), ['a3']);
    assert.equal(hub.position, later(2));
  });

  it('costs a reader one gap, where memory no longer has what is left of the old epoch', async () => {
    const { log, hub, rest } = begun({ history: { maxEvents: 1 } });
    log.tell('a1', 'a2', 'a3');
    log.entries = [];
    log.head = 0;
    log.intake.renew(NEXT, 3);
    log.tell('a4');
    const reader = new MemoryReader();
    hub.subscribe('a', reader, { lastEventId: at(1) });
    await rest();
    assert.deepEqual(storyOf(reader), ['sluice:gap', 'a4']);
    assert.deepEqual([reader.gaps[0]?.from, reader.gaps[0]?.to], [at(1), later(0)]);
  });

  it('gives no reader a page that was asked of the old epoch and answered from the new one', async () => {
    const { log, hub, rest } = begun({ history: { maxEvents: 1 } });
    log.tell('a1', 'b1', 'a2');
    await rest();
    const { read } = log;
    const answers: (() => void)[] = [];
    log.read = (...asked) => new Promise((resolve) => answers.push(() => resolve(read.apply(log, asked))));
    const readers = [false, true].map((conflate) => {
      const reader = new MemoryReader();
      hub.subscribe(['a', 'b'], reader, { lastEventId: at(0), conflate });
      return reader;
    });
    await rest();
    assert.equal(answers.length, 2);
    // The store has lost all of it, and its new events have seqs that the old ones had.
    log.entries = [];
    log.head = 0;
    log.intake.renew(NEXT, 3);
    log.tell('a3', 'b3');
    for (const answer of answers) answer();
    await rest();
    for (const reader of readers) {
      assert.deepEqual(reader.events.map(({ id, event, data }) => [id, event ?? data]).slice(1), [
        [later(0), 'sluice:gap'],
        [later(1), 'a3'],
        [later(2), 'b3'],
      ]);
    }
  });

  it('finds the end of a topic that the store has forgotten, and lets it go on', async () => {
    const { log, hub, rest } = begun();
    log.intake.accept([...log.write('a1'), log.changeTo('a', 'end')]);
    await rest();
    log.entries = [];
    log.head = 0;
    log.ended.clear();
    log.intake.renew(NEXT, 2);
    await rest();
    const reader = new MemoryReader();
    assert.equal(hub.subscribe('a', reader, { lastEventId: at(1) }).closed, false);
    await rest();
    log.tell('a2');
    await rest();
    assert.deepEqual(storyOf(reader), ['sluice:gap', 'a2']);
  });

  it('refuses no reader for the end of a topic in the old epoch, where the log does not answer', async () => {
    const { log, hub, rest } = begun();
    log.intake.accept([...log.write('a1'), log.changeTo('a', 'end')]);
    await rest();
    log.find = () => Promise.reject(new Error('away'));
    log.intake.renew(NEXT, 2);
    await rest();
    const reader = new MemoryReader();
    assert.equal(hub.subscribe('a', reader, { lastEventId: formatId(NEXT, 0) }).closed, false);
    await rest();
    assert.deepEqual([reader.story, reader.writableEnded], [['sluice:ready'], false]);
  });

  it('does not believe what the log has said of a topic in the old epoch', async () => {
    const { log, hub, rest } = begun();
    log.tell('a1');
    await rest();
    // It has ended, and this process has not heard of that.
    log.ended.add('a');
    let answer = (): void => {};
    const { find } = log;
    log.find = async (topics) => {
      const records = await find.call(log, topics);
      await new Promise<void>((resolve) => {
        answer = resolve;
      });
      return records;
    };
    const reader = new MemoryReader();
    hub.subscribe('a', reader);
    await rest();
    log.find = find;
    // The store has lost that it has ended.
    log.ended.clear();
    log.head = 0;
    log.intake.renew(NEXT, 1);
    await rest();
    answer();
    await rest();
    log.tell('a2');
    await rest();
    assert.deepEqual(reader.story, ['sluice:ready', 'a2']);
  });

  it('does not end a stream for a topic whose end the store has lost', async () => {
    const { log, hub, rest } = begun();
    const reader = new MemoryReader();
    hub.subscribe(['a', 'b'], reader);
    await rest();
    log.intake.accept([...log.write('a1'), log.changeTo('a', 'end')]);
    await rest();
    log.entries = [];
    log.head = 0;
    log.ended.clear();
    log.intake.renew(NEXT, 2);
    await rest();
    log.intake.accept([...log.write('b1'), log.changeTo('b', 'end')]);
    await rest();
    assert.deepEqual([storyOf(reader), reader.writableEnded], [['a1', 'sluice:gap', 'b1'], false]);
  });

  it('ends a stream for a topic whose end the store still knows in the next epoch', async () => {
    const { log, hub, rest } = begun();
    const reader = new MemoryReader();
    hub.subscribe(['a', 'b'], reader);
    await rest();
    log.intake.accept([...log.write('a1'), log.changeTo('a', 'end')]);
    await rest();
    log.renew(NEXT, 2);
    await rest();
    log.intake.accept([...log.write('b1'), log.changeTo('b', 'end')]);
    await rest();
    assert.deepEqual(
      [storyOf(reader), reader.writableEnded],
      [['a1', 'sluice:gap', 'b1', 'sluice:end'], true],
    );
  });

  it('ends the stream of a topic that has ended while nothing was received', async () => {
    const { log, hub, rest } = begun();
    const reader = new MemoryReader();
    hub.subscribe('a', reader);
    await rest();
    log.tell('a1');
    log.changeTo('a', 'end');
    log.write('b1');
    log.intake.skip(3);
    await rest();
    assert.deepEqual(reader.story, ['sluice:ready', 'a1', 'sluice:end']);
  });

  it('leads a client of an epoch that this process has seen to the boundary, and of another to the head', async () => {
    const { log, hub, rest } = begun();
    log.tell('a1');
    log.intake.renew(NEXT, 1);
    log.head = 0;
    log.entries = [];
    log.tell('a2');
    for (const [id, reason, texts] of [
      [at(5), 'store-changed', ['a2']],
      [formatId(EPOCH - 1, 5), 'unknown-epoch', []],
    ] as const) {
      const reader = new MemoryReader();
      hub.subscribe('a', reader, { lastEventId: id });
      await rest();
      assert.deepEqual([reader.gaps.map((gap) => gap.reason), reader.texts], [[reason], texts]);
    }
  });
});

describe('a shared log that is away', () => {
  it('costs nobody a gap where it goes on in the same epoch', async () => {
    const { log, hub, rest } = begun();
    const reader = new MemoryReader();
    hub.subscribe('a', reader);
    await rest();
    log.tell('a1');
    log.intake.away(new Error('restarting'));
    log.intake.renew(EPOCH, 1);
    log.intake.back();
    log.tell('a2');
    await rest();
    assert.deepEqual([reader.texts, reader.gaps, hub.position], [['a1', 'a2'], [], at(2)]);
  });

  it('keeps streams open, refuses appends at once, and goes on without a gap', async () => {
    const { log, hub, rest, errors } = begun();
    const reader = new MemoryReader();
    hub.subscribe('a', reader);
    await rest();
    log.intake.away(new Error('connection lost'));
    log.intake.away(new Error('connection refused'));
    await assert.rejects(hub.append('a', { data: 'x' }), { code: 'ERR_SSE_LOG_UNAVAILABLE', status: 503 });
    await assert.rejects(hub.change('a', 'end'), { code: 'ERR_SSE_LOG_UNAVAILABLE' });
    assert.match(String(hub.failure), /cannot be reached at present: connection refused/);
    assert.deepEqual(errors, ['follow: connection lost']);
    log.intake.back();
    log.tell('a1');
    await rest();
    assert.equal(hub.failure, undefined);
    assert.deepEqual([reader.texts, reader.gaps, reader.writableEnded], [['a1'], [], false]);
  });

  it('keeps a reader waiting for what only the log has, and serves those whom memory can serve', async () => {
    const { log, hub, rest } = begun({ history: { maxEvents: 1 } });
    log.tell('a1', 'a2', 'a3');
    await rest();
    log.intake.away(new Error('lost'));
    const [far, near] = [new MemoryReader(), new MemoryReader()];
    hub.subscribe('a', far, { lastEventId: at(1) });
    hub.subscribe('a', near, { lastEventId: at(2) });
    await rest();
    assert.deepEqual([far.texts, near.texts, far.writableEnded], [[], ['a3'], false]);
    log.intake.back();
    await rest();
    assert.deepEqual([far.texts, far.gaps], [['a2', 'a3'], []]);
  });

  it('ends a reader without an id that asks for its past, because nobody knows where that begins', async () => {
    const { log, hub, rest } = begun();
    log.intake.away(new Error('lost'));
    const reader = new MemoryReader();
    hub.subscribe('a', reader, { from: 'earliest' });
    await rest();
    assert.deepEqual([reader.writableEnded, hub.size], [true, 0]);
  });

  it('at the start: streams are open, and learn where they are once it is reached', async () => {
    const { log, hub, rest } = following();
    assert.equal(hub.position, '0-0');
    assert.match(String(hub.failure), /was not reached yet/);
    const [fresh, back] = [new MemoryReader(), new MemoryReader()];
    hub.subscribe('a', fresh);
    hub.subscribe('a', back, { lastEventId: at(1) });
    await rest();
    assert.deepEqual(
      [fresh, back].map(({ events }) => events.map(({ id, event }) => [id, event])),
      [[['0-0', 'sluice:ready']], [[at(1), 'sluice:ready']]],
    );
    await assert.rejects(hub.append('a', { data: 'x' }), { code: 'ERR_SSE_LOG_UNAVAILABLE' });
    log.write('a1', 'a2', 'a3');
    log.intake.renew(EPOCH, 0);
    log.intake.skip(3);
    await rest();
    log.tell('a4');
    await rest();
    const { started, resumed, gaps } = hub.stats;
    assert.deepEqual([started, resumed, gaps['unknown-epoch']], [0, 2, 1]);
    // What was published since it came, nobody can say.
    assert.deepEqual(
      [storyOf(fresh), fresh.gaps.map(({ reason }) => reason)],
      [['sluice:gap', 'a4'], ['unknown-epoch']],
    );
    assert.deepEqual([back.texts, back.gaps], [['a2', 'a3', 'a4'], []]);
  });
});
