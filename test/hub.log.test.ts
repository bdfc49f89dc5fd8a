import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Hub, type HubOptions } from '../lib/hub.ts';
import type { AppendRecord, LogEntry } from '../lib/log.ts';
import { formatId } from '../lib/protocol.ts';
import { at, EPOCH, handRun, MemoryReader, TestLog, times } from './helpers/hub.ts';
import { MemoryLog, MemoryStore } from './helpers/memory-log.ts';

const OLDER = EPOCH - 5000;

/** A log that fails on demand, and keeps idempotency keys. */
class FailingLog extends TestLog {
  failure: Error | undefined;
  readonly batches: number[] = [];
  readonly records = new Map<string, AppendRecord>();

  override append(entries: readonly LogEntry[], records: readonly AppendRecord[] = []): void {
    if (this.failure !== undefined) throw this.failure;
    this.batches.push(entries.length);
    for (const record of records) this.records.set(record.key, record);
    super.append(entries);
  }

  recall(key: string): AppendRecord | undefined {
    return this.records.get(key);
  }
}

function logged(options: HubOptions = {}) {
  const log = new FailingLog();
  const errors: string[] = [];
  const onError: HubOptions['onError'] = (error, { task }) =>
    errors.push(`${task}: ${(error as Error).message}`);
  return { log, errors, ...handRun({ log, onError, ...options }) };
}

const codeOf = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => 'kept',
    (error: { code?: string }) => error.code ?? String(error),
  );

describe('a hub with a log of its own', () => {
  it('hands over the events of a turn together, and delivers none before', () => {
    const { log, hub, turns } = logged();
    const reader = new MemoryReader();
    hub.subscribe('a', reader);
    turns.all();
    assert.deepEqual([hub.publish('a', { data: '1' }), hub.publish('b', { data: '2' })], [at(1), at(2)]);
    hub.publishAll('a', [{ data: '3' }, { data: '4' }]);
    assert.deepEqual([log.batches, hub.position, hub.stats.published], [[], at(0), 0]);
    turns.next();
    assert.deepEqual([log.batches, hub.position, reader.texts], [[4], at(4), ['1', '3', '4']]);
  });

  it('gives a log frames without ids, and readers the same frames with their ids, from memory or the log', () => {
    const { log, hub, turns } = logged({ history: { maxEvents: 1 } });
    const frames: string[] = [];
    const append = log.append.bind(log);
    log.append = (entries, records) => {
      frames.push(...entries.map(({ frame }) => Buffer.from(frame).toString()));
      append(entries, records);
    };
    hub.publish('a', { event: 'x', data: 'ü\nz', retry: 5, comment: 'c' });
    hub.publish('a', { json: [1] });
    turns.all();
    assert.deepEqual(frames, [': c\nretry: 5\nevent: x\ndata: ü\ndata: z\n\n', 'data: [1]\n\n']);
    const reader = new MemoryReader();
    hub.subscribe('a', reader, { lastEventId: at(0) });
    turns.all();
    assert.deepEqual(
      reader.of().map(({ id, event, data }) => [id, event, data]),
      [
        [at(1), 'x', 'ü\nz'],
        [at(2), undefined, '[1]'],
      ],
    );
  });

  it('delivers nothing of what the log refuses, tells who waits and `onError`, and never uses these seqs again', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    const { log, hub, turns, errors } = logged();
    const reader = new MemoryReader();
    hub.subscribe('a', reader);
    hub.publish('a', { data: '1' });
    turns.all();
    log.failure = new Error('disk full');
    hub.publish('a', { data: 'x' });
    const outcomes = [hub.append('a', { data: 'y' }), hub.appendAll('b', [{ data: 'z' }])].map(codeOf);
    turns.all();
    assert.deepEqual(await Promise.all(outcomes), ['ERR_SSE_LOG_UNAVAILABLE', 'ERR_SSE_LOG_UNAVAILABLE']);
    assert.deepEqual([hub.position, errors, log.size], [at(1), ['append: disk full'], 1]);
    assert.match(String(hub.failure), /cannot write at present: disk full/);
    log.failure = undefined;
    t.mock.timers.tick(100);
    assert.equal(hub.failure, undefined);
    assert.equal(await settled(hub.append('a', { data: '2' }), turns), at(5));
    assert.deepEqual([reader.texts, reader.gaps], [['1', '2'], []]);
    const back = new MemoryReader();
    hub.subscribe('a', back, { lastEventId: at(3) });
    turns.all();
    assert.deepEqual([back.texts, back.gaps], [['2'], []]);
  });

  it('refuses events at once after a failure, until the log can write again: after 100 ms, 200, up to a second', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    const { log, hub, turns } = logged();
    let probes = 0;
    log.append = () => {
      probes++;
      throw new Error('full');
    };
    hub.publish('a', { data: 'x' });
    turns.all();
    assert.throws(() => hub.publish('a', { data: 'x' }), { code: 'ERR_SSE_LOG_UNAVAILABLE', status: 503 });
    assert.equal(await codeOf(hub.append('a', { data: 'x' })), 'ERR_SSE_LOG_UNAVAILABLE');
    const seen: number[] = [];
    for (const wait of [99, 1, 199, 1, 399, 1, 799, 1, 999, 1, 999, 1]) {
      t.mock.timers.tick(wait);
      seen.push(probes);
    }
    assert.deepEqual(seen, [1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7]);
  });

  it('changes topics also while the log takes no events, because to delete one may make room', (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    const { log, hub, turns } = logged();
    hub.publish('a', { data: '1' });
    turns.all();
    log.failure = new Error('full');
    hub.publish('a', { data: '2' });
    // It must not overtake the event, which the log refuses.
    assert.throws(() => hub.delete('a'), { code: 'ERR_SSE_LOG_UNAVAILABLE' });
    assert.deepEqual([hub.delete('a'), log.find(['a'])[0]?.events], [true, 0]);
  });

  it('takes an `append` that returns a promise for a failure, because an event is delivered once it is kept', (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    const { log, hub, turns, errors } = logged();
    log.append = (() => Promise.reject(new Error('later'))) as never;
    hub.publish('a', { data: 'x' });
    turns.all();
    assert.equal(hub.position, at(0));
    assert.match(errors.join(), /append: `append` of a log must not return a promise/);
  });

  it('hands over in parts what one turn has too much of, so that no loop collects without end', () => {
    const { log, hub, turns } = logged();
    const data = 'x'.repeat(100_000);
    for (let i = 0; i < 25; i++) hub.publish('a', { data });
    assert.deepEqual(log.batches, [11, 11]);
    turns.all();
    assert.deepEqual([log.batches, hub.position], [[11, 11, 3], at(25)]);
  });

  it('refuses an event at once where what it completes is handed over and refused', (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    const { log, hub } = logged();
    const data = 'x'.repeat(100_000);
    for (let i = 0; i < 10; i++) hub.publish('a', { data });
    log.failure = new Error('full');
    assert.throws(() => hub.publish('a', { data }), { code: 'ERR_SSE_LOG_UNAVAILABLE' });
    assert.equal(log.size, 0);
  });

  it('finds the place of an event that it is to hand over in this turn', () => {
    const { hub, turns } = logged();
    const id = hub.publish('a', { data: '1' });
    hub.publish('a', { data: '2' });
    const reader = new MemoryReader();
    hub.subscribe('a', reader, { lastEventId: id });
    turns.all();
    assert.deepEqual([reader.texts, reader.gaps], [['2'], []]);
  });

  it('ends, reopens and deletes topics in the log too, after what was published before', () => {
    const { log, hub, turns } = logged();
    const reader = new MemoryReader();
    hub.subscribe('a', reader);
    hub.publish('a', { data: '1' });
    assert.equal(hub.end('a'), true);
    assert.deepEqual([log.batches, log.find(['a'])[0]?.ended], [[1], true]);
    assert.throws(() => hub.publish('a', { data: 'x' }), { code: 'ERR_SSE_TOPIC_ENDED' });
    turns.all();
    assert.deepEqual(reader.story, ['sluice:ready', '1', 'sluice:end']);
    assert.deepEqual([hub.end('a'), hub.reopen('a'), hub.reopen('a')], [false, true, false]);
    hub.publish('a', { data: '2' });
    assert.deepEqual([hub.delete('a'), hub.delete('other'), hub.end('other')], [true, false, false]);
    assert.deepEqual(log.find(['a']), [
      { topic: 'a', last: 2, dropped: 2, ended: false, events: 0, bytes: 0 },
    ]);
  });

  it('ends a topic in the log that was only followed, so that its readers get their 204 after a restart', () => {
    const { log, hub, turns } = logged();
    hub.subscribe('a', new MemoryReader());
    turns.all();
    assert.equal(hub.end('a'), true);
    const { hub: next } = handRun({ log });
    const reader = new MemoryReader();
    assert.equal(next.subscribe('a', reader).closed, true);
  });

  it('does not let code that the log calls publish or change a topic', () => {
    const { log, hub, turns } = logged();
    const codes: unknown[] = [];
    const append = log.append.bind(log);
    log.append = (entries, records) => {
      for (const act of [() => hub.publish('b', { data: 'x' }), () => hub.end('a'), () => hub.delete('a')]) {
        try {
          act();
        } catch (error) {
          codes.push((error as { code?: string }).code);
        }
      }
      append(entries, records);
    };
    hub.publish('a', { data: '1' });
    turns.all();
    assert.deepEqual(
      codes,
      times(3, () => 'ERR_SSE_PUBLISH_INSIDE'),
    );
    assert.equal(hub.publish('a', { data: '2' }), at(2));
  });

  it('resolves `append` once the log has the event, before or after which a reader can resume', async () => {
    const { log, hub, turns } = logged();
    const kept = hub.appendAll('a', [{ data: '1' }, { data: '2' }]);
    const one = hub.append('b', { data: '3' });
    assert.equal(log.size, 0);
    turns.all();
    assert.deepEqual([await kept, await one, log.size], [[at(1), at(2)], at(3), 3]);
    assert.deepEqual(await hub.appendAll('a', []), []);
    assert.equal(await codeOf(hub.append('a', { data: 5 } as never)), 'ERR_SSE_BAD_EVENT');
  });

  it('publishes an append with an idempotency key once, in one turn, later, and after a restart', async () => {
    const { log, hub, turns } = logged();
    const idempotency = { key: 'k', digest: 'd' };
    const both = [1, 2].map(() => hub.appendAll('a', [{ data: '1' }, { data: '2' }], { idempotency }));
    turns.all();
    const ids = [at(1), at(2)];
    assert.deepEqual(await Promise.all(both), [ids, ids]);
    assert.deepEqual(await hub.appendAll('a', [{ data: '1' }, { data: '2' }], { idempotency }), ids);
    const { hub: next } = handRun({ log });
    assert.deepEqual(await next.appendAll('a', [{ data: '1' }, { data: '2' }], { idempotency }), ids);
    assert.equal(
      await codeOf(next.append('a', { data: 'x' }, { idempotency: { key: 'k', digest: 'other' } })),
      'ERR_SSE_IDEMPOTENCY_CONFLICT',
    );
    assert.equal(log.size, 2);
  });

  it('answers an append that is sent again in one turn with what becomes of the first one', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    const { log, hub, turns } = logged();
    const idempotency = { key: 'k', digest: 'd' };
    log.failure = new Error('full');
    const both = [1, 2].map(() => codeOf(hub.append('a', { data: '1' }, { idempotency })));
    turns.all();
    assert.deepEqual(await Promise.all(both), ['ERR_SSE_LOG_UNAVAILABLE', 'ERR_SSE_LOG_UNAVAILABLE']);
  });

  it('counts no event as lost for which a reader comes while the log takes it', () => {
    const { log, hub, turns } = logged();
    const reader = new MemoryReader();
    const append = log.append.bind(log);
    log.append = (entries, records) => {
      append(entries, records);
      hub.subscribe('b', reader, { lastEventId: at(0) });
    };
    hub.publish('a', { data: '1' });
    hub.publish('b', { data: '2' });
    turns.all();
    assert.deepEqual([reader.texts, reader.gaps], [['2'], []]);
  });

  it('publishes again what the log has refused, with the same key', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    const { log, hub, turns } = logged();
    const idempotency = { key: 'k', digest: 'd' };
    log.failure = new Error('full');
    const refused = codeOf(hub.append('a', { data: '1' }, { idempotency }));
    turns.all();
    assert.equal(await refused, 'ERR_SSE_LOG_UNAVAILABLE');
    log.failure = undefined;
    t.mock.timers.tick(100);
    assert.equal(await settled(hub.append('a', { data: '1' }, { idempotency }), turns), at(2));
  });

  for (const [when, writes] of [
    ['first', 1],
    ['second', 2],
  ] as const) {
    it(`takes what code publishes that the ${when} write to a sink calls, though no other turn is due`, {
      timeout: 10_000,
    }, async () => {
      const hub = new Hub({ log: new MemoryLog(new MemoryStore()) });
      let count = 0;
      await new Promise((resolve) => {
        const write = (): boolean => {
          if (++count === writes) resolve(hub.append('b', { data: 'x' }));
          return true;
        };
        hub.subscribe('a', { write, end() {}, on() {}, off() {} });
        if (writes > 1) hub.publish('a', { data: 'x' });
      });
      await hub.close();
    });
  }

  it('refuses `behind` where no other hub appends, rather than ignore it', async () => {
    for (const log of [undefined, new TestLog()]) {
      const { hub } = handRun({ log });
      const append = hub.append('a', { data: 'x' }, { behind: hub.position });
      await assert.rejects(append, /`behind` needs a log that hubs share/);
    }
  });

  it('takes an idempotency key only where a log keeps them', async () => {
    const idempotency = { key: 'k', digest: 'd' };
    for (const log of [undefined, new TestLog()]) {
      const { hub } = handRun({ log });
      assert.equal(hub.keepsKeys, false);
      await assert.rejects(hub.append('a', { data: 'x' }, { idempotency }), /needs a log that keeps keys/);
    }
    assert.equal(logged().hub.keepsKeys, true);
  });

  it('begins without an id where the log says, from earliest and with the newest, and calls nothing missed', () => {
    const { log, hub, turns } = logged({ history: { maxEvents: 2 } });
    for (let i = 1; i <= 9; i++) hub.publish(i % 2 ? 'a' : 'b', { data: String(i) });
    turns.all();
    log.drop('a', 3);
    const { hub: next, turns: later } = handRun({ log });
    const cases = [
      [{ from: 'earliest' }, ['2', '4', '5', '6', '7', '8', '9']],
      [{ last: 3 }, ['7', '8', '9']],
      [{ last: 0 }, []],
      [{}, []],
    ] as const;
    for (const [options, texts] of cases) {
      const reader = new MemoryReader();
      next.subscribe(['a', 'b'], reader, options);
      later.all();
      assert.deepEqual([reader.texts, reader.gaps], [texts, []]);
    }
  });

  it('knows after a restart which topics have ended, and where each topic has ended for its readers', () => {
    const { log, hub } = logged();
    hub.publish('a', { data: '1' });
    hub.publish('b', { data: '2' });
    hub.end('a');
    const { hub: next, turns } = handRun({ log });
    assert.throws(() => next.publish('a', { data: 'x' }), { code: 'ERR_SSE_TOPIC_ENDED' });
    const [had, lacks] = [new MemoryReader(), new MemoryReader()];
    assert.equal(next.subscribe('a', had, { lastEventId: at(1) }).closed, true);
    next.subscribe('a', lacks, { lastEventId: at(0) });
    turns.all();
    assert.deepEqual(lacks.story, ['sluice:ready', '1', 'sluice:end']);
    assert.equal(next.reopen('a'), true);
    assert.equal(next.publish('a', { data: '3' }), at(3));
  });

  it('lists what the log has, beside the topics that are followed here', async () => {
    const { log, hub } = logged();
    for (const topic of ['c', 'a', 'b', 'a']) hub.publish(topic, { data: topic });
    hub.end('b');
    const { hub: next } = handRun({ log });
    next.subscribe(['a', 'new'], new MemoryReader());
    const listed = await next.list();
    assert.deepEqual(
      listed.map(({ topic, events, subscribers, last, ended }) => [topic, events, subscribers, last, ended]),
      [
        ['a', 2, 1, at(4), false],
        ['b', 1, 0, at(3), true],
        ['c', 1, 0, at(1), false],
        ['new', 0, 1, at(4), false],
      ],
    );
    assert.deepEqual(
      (await next.list({ after: 'a', limit: 2 })).map(({ topic }) => topic),
      ['b', 'c'],
    );
  });

  it('hands over the rest when it closes, and takes no more', async () => {
    const { log, hub } = logged();
    let closed = 0;
    Object.assign(log, { close: () => closed++ });
    const kept = hub.append('a', { data: '1' });
    await hub.close();
    assert.deepEqual([await kept, log.size, closed], [at(1), 1, 1]);
    assert.throws(() => hub.publish('a', { data: 'x' }), /the hub is closed/);
  });

  it('takes no epoch beside that of the log', () => {
    assert.throws(
      () => handRun({ log: new TestLog(), epoch: EPOCH }),
      /`epoch` cannot be given beside `log`/,
    );
  });
});

describe('a log that goes on in another epoch', () => {
  /** Five events of the older epoch, of which the last two were lost; then two of the present one. */
  function renewed(options: HubOptions = {}) {
    const log = new TestLog(OLDER);
    const first = handRun({ log });
    for (const topic of ['a', 'b', 'a']) first.hub.publish(topic, { data: `${topic} of old` });
    first.turns.all();
    log.epochs = [
      { epoch: OLDER, base: 0, end: 3 },
      { epoch: EPOCH, base: 4 },
    ];
    log.head = 4;
    const next = handRun({ log, ...options });
    for (const topic of ['a', 'b']) next.hub.publish(topic, { data: `${topic} of new` });
    next.turns.all();
    return { log, ...next };
  }
  const old = (seq: number): string => formatId(OLDER, seq);
  const storyOf = (reader: MemoryReader): string[] => reader.story.filter((one) => one !== 'sluice:ready');

  it('counts ids anew from its boundary', () => {
    const { hub } = renewed();
    assert.equal(hub.position, at(2));
    assert.equal(hub.publish('a', { data: 'x' }), at(3));
  });

  it('gives a client of the older epoch what is left of it, then one gap, then what follows', () => {
    for (const maxPageBytes of [1, 65_536]) {
      for (const conflate of [false, true]) {
        for (const last of [0, 1, 2, 3]) {
          const { hub, turns } = renewed({ maxPageBytes });
          const reader = new MemoryReader();
          hub.subscribe(['a', 'b'], reader, { lastEventId: old(last), conflate });
          turns.all();
          const left = ['a of old', 'b of old', 'a of old'].slice(last);
          assert.deepEqual(storyOf(reader), [...left, 'sluice:gap', 'a of new', 'b of new']);
          assert.deepEqual(reader.gaps, [
            { id: at(0), reason: 'store-changed', from: old(3), to: at(0), topics: ['a', 'b'] },
          ]);
          assert.deepEqual(
            reader.of().map(({ id }) => id),
            [...[old(1), old(2), old(3)].slice(last), at(1), at(2)],
          );
        }
      }
    }
  });

  it('gives a client that had more of the older epoch than is left its gap at once', () => {
    const { hub, turns } = renewed();
    const reader = new MemoryReader();
    hub.subscribe('a', reader, { lastEventId: old(5) });
    turns.all();
    assert.deepEqual(reader.gaps, [
      { id: at(0), reason: 'store-changed', from: old(5), to: at(0), topics: ['a'] },
    ]);
    assert.deepEqual(reader.texts, ['a of new']);
  });

  it('tells a client of the present epoch, one without an id, and one of an epoch that is not known as ever', () => {
    const cases = [
      [{ lastEventId: at(1) }, [], ['b of new']],
      [{ lastEventId: at(0) }, [], ['a of new', 'b of new']],
      [{}, [], []],
      [{ lastEventId: formatId(OLDER - 1, 1) }, ['unknown-epoch'], []],
      [{ lastEventId: at(9) }, ['ahead'], []],
    ] as const;
    for (const [options, gaps, texts] of cases) {
      const { hub, turns } = renewed();
      const reader = new MemoryReader();
      hub.subscribe(['a', 'b'], reader, options);
      turns.all();
      assert.deepEqual([reader.gaps.map(({ reason }) => reason), reader.texts], [gaps, texts]);
    }
  });

  it('begins the past of a client without an id in the older epoch, and tells it of the boundary', () => {
    const cases = [
      [{ from: 'earliest' }, ['a of old', 'b of old', 'a of old', 'sluice:gap', 'a of new', 'b of new']],
      [{ last: 3 }, ['a of old', 'sluice:gap', 'a of new', 'b of new']],
      [{ last: 2 }, ['a of new', 'b of new']],
      [{ last: 1 }, ['b of new']],
    ] as const;
    for (const [options, story] of cases) {
      const { hub, turns } = renewed();
      const reader = new MemoryReader();
      hub.subscribe(['a', 'b'], reader, options);
      turns.all();
      assert.deepEqual(storyOf(reader), story);
    }
  });

  it('sends the gap again to a client that was cut off before it, and not to one that has it', () => {
    const { hub, turns } = renewed();
    for (const [id, gaps] of [
      [old(3), 1],
      [at(0), 0],
    ] as const) {
      const reader = new MemoryReader();
      hub.subscribe('a', reader, { lastEventId: id });
      turns.all();
      assert.equal(reader.gaps.length, gaps);
    }
  });
});

/** Runs the turns that a promise waits for. */
async function settled<T>(promise: Promise<T>, turns: { all(): number }): Promise<T> {
  await null;
  turns.all();
  return await promise;
}

describe('readers that come back together', () => {
  /** Twenty events of `a` in the log, and none in memory. */
  function reopened(options: HubOptions = {}) {
    const log = new TestLog();
    const first = handRun({ log });
    for (let i = 1; i <= 20; i++) first.hub.publish('a', { data: `${i} ${'x'.repeat(1000)}` });
    first.turns.all();
    let reads = 0;
    const { read } = log;
    log.read = (...asked) => {
      reads++;
      return read.apply(log, asked);
    };
    return { log, reads: () => reads, ...handRun({ log, ...options }) };
  }
  const numbers = (reader: MemoryReader): number[] => reader.texts.map((text) => Number(text.split(' ')[0]));

  it('share what is read from the log, each from its own place', () => {
    const { hub, turns, reads } = reopened({ maxPageBytes: 5000 });
    const readers = times(20, (i) => {
      const reader = new MemoryReader();
      hub.subscribe('a', reader, { lastEventId: at(i) });
      return reader;
    });
    turns.all();
    for (const [i, reader] of readers.entries()) {
      assert.deepEqual([numbers(reader), reader.gaps], [times(20 - i, (j) => i + j + 1), []]);
      assert.deepEqual(
        reader.of().map(({ id }) => id),
        times(20 - i, (j) => at(i + j + 1)),
      );
    }
    assert.ok(reads() <= 10, `${reads()} reads`);
  });

  it('get nothing from a page that was read before the topic was deleted', () => {
    const { hub, turns } = reopened();
    const [before, after] = [new MemoryReader(), new MemoryReader()];
    hub.subscribe('a', before, { lastEventId: at(0) });
    turns.all();
    hub.delete('a');
    hub.subscribe('a', after, { lastEventId: at(10) });
    turns.all();
    assert.equal(before.texts.length, 20);
    assert.deepEqual(
      [after.texts, after.gaps.map(({ reason, to }) => [reason, to])],
      [[], [['evicted', at(20)]]],
    );
  });

  it('get nothing from a page that was read more than 250 ms ago: it may be too old by now', () => {
    let now = 0;
    const { log, hub, turns } = reopened({ now: () => now });
    for (const [at_, texts] of [
      [0, 20],
      [249, 20],
      [250, 10],
    ] as const) {
      now = at_;
      const reader = new MemoryReader();
      hub.subscribe('a', reader, { lastEventId: at(0) });
      turns.all();
      assert.equal(reader.texts.length, texts);
      log.drop('a', 10);
    }
  });

  it('who were told of a loss are not given it from a page that another one was given', () => {
    const { log, hub, turns } = reopened({ maxPageBytes: 5000 });
    const whole = new MemoryReader();
    hub.subscribe(['a', 'b'], whole, { lastEventId: at(0) });
    turns.next();
    turns.next();
    log.drop('a', 3);
    hub.publish('b', { data: '21' });
    turns.all();
    const less = new MemoryReader();
    hub.subscribe(['a', 'b'], less, { lastEventId: at(0) });
    turns.all();
    const told = less.gaps.map(({ to }) => Number(to.split('-')[1]));
    const got = numbers(less);
    assert.ok(
      told.every((seq) => got.every((number) => number > seq)),
      `${told}: ${got}`,
    );
    assert.equal(got.at(-1), 21);
  });

  it('who were told of a loss are not given it from a page further on that another one was given', () => {
    const log = new TestLog();
    const first = handRun({ log });
    for (let i = 1; i <= 10; i++) first.hub.publish(i % 2 ? 'a' : 'b', { data: `${i} ${'x'.repeat(1000)}` });
    first.turns.all();
    const { hub, turns } = handRun({ log, maxPageBytes: 2100 });
    const [whole, less] = [new MemoryReader(), new MemoryReader()];
    hub.subscribe(['a', 'b'], whole, { lastEventId: at(4) });
    turns.next();
    turns.next();
    assert.deepEqual(numbers(whole), [5, 6]);
    log.drop('a', 7);
    hub.subscribe(['a', 'b'], less, { lastEventId: at(0) });
    turns.all();
    assert.deepEqual([less.gaps.map(({ to }) => to), numbers(less)], [[at(7)], [2, 4, 6, 8, 9, 10]]);
  });

  it('and conflate get what is newest by then, not what was when another one read it', () => {
    const log = new TestLog();
    const first = handRun({ log });
    for (const data of ['1', '2']) first.hub.publish('a', { data, key: 'k' });
    first.turns.all();
    const { hub, turns } = handRun({ log });
    const readers = ['3', '4'].map((data) => {
      const reader = new MemoryReader();
      hub.subscribe('a', reader, { lastEventId: at(0), conflate: true });
      turns.all();
      hub.publish('a', { data, key: 'k' });
      turns.all();
      return reader.texts;
    });
    assert.deepEqual(readers, [
      ['2', '3'],
      ['3', '4'],
    ]);
  });

  it('read a log a part at a time: what a turn reads costs more than what it takes from memory', () => {
    const log = new TestLog();
    const first = handRun({ log });
    for (let i = 0; i < 4000; i++) first.hub.publish('a', { data: `${i}` });
    first.turns.all();
    const { hub, turns } = handRun({ log });
    for (let i = 0; i < 20; i++)
      hub.subscribe(['a', `other${i}`], new MemoryReader(), { lastEventId: at(0) });
    let most = 0;
    for (let before = 0; turns.next(); before = hub.stats.delivered)
      most = Math.max(most, hub.stats.delivered - before);
    // Two pages of 64 KiB; from memory it would be sixteen.
    assert.ok(most > 2000 && most < 4500, `${most} events in one turn`);
    assert.equal(hub.stats.delivered, 20 * 4000);
  });
});

describe('a topic that was deleted', () => {
  it('can be ended where it has followers, also for the next process, and is unknown where it has none', async () => {
    const log = new MemoryLog(new MemoryStore());
    const { hub, turns } = handRun({ log });
    hub.publish('a', { data: '1' });
    hub.publish('b', { data: '2' });
    const reader = new MemoryReader();
    hub.subscribe('a', reader);
    turns.all();
    assert.deepEqual([hub.delete('a'), hub.delete('b')], [true, true]);
    assert.deepEqual([hub.end('a'), hub.end('b')], [true, false]);
    turns.all();
    assert.equal(reader.story.at(-1), 'sluice:end');
    assert.deepEqual(
      log.find(['a', 'b']).map(({ ended }) => ended),
      [true, false],
    );
  });
});
