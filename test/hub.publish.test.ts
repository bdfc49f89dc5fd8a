import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { SLOT_BYTES } from '../lib/frame-ring.ts';
import { Hub, type HubEvent, type HubOptions, type SubscribeOptions } from '../lib/hub.ts';
import { fakeTime } from './helpers/clock.ts';
import { collectGarbage } from './helpers/garbage.ts';
import { at, drain, handRun, MemoryReader, slowReader, TestLog, times } from './helpers/hub.ts';

const numbers = (count: number, from = 1): HubEvent[] => times(count, (i) => ({ data: String(from + i) }));

describe('publishAll', () => {
  it('publishes all events in one turn, and returns their ids', () => {
    const { hub, turns } = handRun();
    const reader = new MemoryReader();
    hub.subscribe('a', reader);
    turns.all();
    hub.publish('b', { data: 'x' });
    assert.deepEqual(hub.publishAll('a', numbers(3)), [at(2), at(3), at(4)]);
    turns.all();
    assert.equal(reader.chunks.length, 2);
    assert.deepEqual(
      reader.of().map(({ id, data }) => [id, data]),
      [
        [at(2), '1'],
        [at(3), '2'],
        [at(4), '3'],
      ],
    );
    assert.deepEqual([hub.position, hub.stats.published], [at(4), 4]);
  });

  it('publishes nothing of a batch of which one event cannot be published', () => {
    const refused: [HubEvent[], string][] = [
      [[...numbers(2), { data: 5 } as unknown as HubEvent], 'ERR_SSE_BAD_EVENT'],
      [[...numbers(2), { event: 'sluice:end', data: 'x' }], 'ERR_SSE_BAD_EVENT'],
      [[...numbers(2), { event: 'a\nb', data: 'x' }], 'ERR_SSE_INVALID_FIELD'],
      [[...numbers(2), { data: 'x'.repeat(500) }], 'ERR_SSE_EVENT_TOO_LARGE'],
    ];
    for (const [events, code] of refused) {
      const { hub, turns } = handRun({ maxEventBytes: 400 });
      const reader = new MemoryReader();
      hub.subscribe('a', reader);
      turns.all();
      const { historyBytes } = hub;
      assert.throws(
        () => hub.publishAll('a', events),
        (error: Error & { code?: string }) => {
          return code === 'ERR_SSE_INVALID_FIELD' || error.code === code;
        },
      );
      turns.all();
      assert.deepEqual([hub.position, hub.historyBytes, reader.texts], [at(0), historyBytes, []]);
      assert.deepEqual(
        hub.topics().map(({ events }) => events),
        [0],
      );
      assert.equal(hub.publish('a', { data: 'next' }), at(1));
    }
  });

  it('refuses more than half of what the topic may hold, by count and by bytes, and says how much that is', () => {
    const { hub } = handRun({ history: { maxEvents: 9, maxBytes: 1000 } });
    const tooLarge = (got: { maxEvents: number; maxBytes: number }) => ({
      name: 'RangeError',
      code: 'ERR_SSE_BATCH_TOO_LARGE',
      status: 413,
      ...got,
    });
    assert.throws(() => hub.publishAll('a', numbers(5)), tooLarge({ maxEvents: 4, maxBytes: 500 }));
    const large = times(4, () => ({ data: 'x'.repeat(100) }));
    assert.throws(() => hub.publishAll('a', large), tooLarge({ maxEvents: 4, maxBytes: 500 }));
    assert.deepEqual([hub.position, hub.topics()], [at(0), []]);
    assert.equal(hub.publishAll('a', numbers(4)).length, 4);
    assert.equal(hub.publishAll('a', large.slice(0, 3)).length, 3);
    assert.equal(hub.publishAll('a', [{ data: 'x'.repeat(900) }]).length, 1);
  });

  it('refuses more than half of what all topics may hold in memory, and says how many events fit', () => {
    const { hub, turns } = handRun({ maxHistoryBytes: 20_000 });
    const reader = new MemoryReader();
    hub.subscribe('a', reader);
    turns.all();
    // So that all ids below have three digits.
    for (const event of numbers(100)) hub.publish('b', event);
    turns.all();
    const events = numbers(300);
    const code = 'ERR_SSE_BATCH_TOO_LARGE';
    let maxEvents = 0;
    assert.throws(
      () => hub.publishAll('a', events),
      (error: { code?: string; maxEvents?: number }) => {
        maxEvents = error.maxEvents!;
        return error.code === code;
      },
    );
    // Their bytes and slots are a quarter of it or more, because a segment may be half empty.
    const wire = maxEvents * 35;
    assert.ok(wire > 20_000 / 10 && 2 * (wire + maxEvents * SLOT_BYTES) <= 20_000 / 2, String(maxEvents));
    hub.publishAll('a', events.slice(0, maxEvents));
    turns.all();
    assert.deepEqual([reader.texts.length, reader.gaps], [maxEvents, []]);
    assert.throws(() => hub.publishAll('a', events.slice(0, maxEvents + 1)), { code, maxEvents });
  });

  it('pushes out no event of its own batch, also where older ones beside it have long keys', () => {
    for (let maxHistoryBytes = 2500; maxHistoryBytes <= 5000; maxHistoryBytes += 50) {
      for (let older = 0; older < 10; older++) {
        const { hub, turns } = handRun({ maxHistoryBytes });
        const reader = new MemoryReader();
        hub.subscribe('a', reader);
        for (let i = 0; i < older; i++) {
          hub.publish('a', { data: '', key: `${i}`.padStart(200) });
          turns.all();
        }
        const texts = reader.texts.length;
        let batch = numbers(20);
        while (batch.length > 1) {
          try {
            hub.publishAll('a', batch);
            break;
          } catch (error) {
            batch = batch.slice(0, (error as { maxEvents: number }).maxEvents);
          }
        }
        turns.all();
        if (batch.length === 1) continue;
        const { events } = hub.topics()[0]!;
        assert.ok(events >= batch.length, `${events} of ${batch.length} in ${maxHistoryBytes}`);
        assert.deepEqual([reader.texts.length - texts, reader.gaps], [batch.length, []]);
      }
    }
  });

  it('keeps within maxHistoryBytes where one large event follows many small ones with keys', () => {
    const { hub } = handRun({ maxHistoryBytes: 30_000 });
    for (let i = 0; i < 200; i++) hub.publish('a', { data: '', key: 'k' });
    hub.publish('a', { data: 'x'.repeat(29_000) });
    assert.equal(hub.topics()[0]!.events, 1);
    assert.ok(hub.historyBytes <= 30_000, String(hub.historyBytes));
  });

  it('takes events that are made while they are read, and believes no length that is too small', () => {
    const { hub } = handRun({ history: { maxEvents: 10 } });
    function* make(count: number) {
      for (const event of numbers(count)) yield event;
    }
    const batch = (length: number, count: number) => ({ length, [Symbol.iterator]: () => make(count) });
    assert.equal(hub.publishAll('a', batch(3, 3)).length, 3);
    assert.throws(() => hub.publishAll('a', batch(1, 50)), { code: 'ERR_SSE_BATCH_TOO_LARGE' });
    assert.equal(hub.position, at(3));
  });

  it('names `events` where it is no array, and `data` where one of them is no event', () => {
    const { hub } = handRun();
    for (const events of [undefined, 'text', { data: 'x' }, new Set([{ data: 'x' }])]) {
      const message = `\`events\` must be an array, or iterable with a \`length\`, got ${typeof events}`;
      assert.throws(() => hub.publishAll('a', events as never), { name: 'TypeError', message });
    }
    for (const event of [undefined, null, 'text', 5]) {
      const bad = { code: 'ERR_SSE_BAD_EVENT', message: /`data` must be a string, got undefined/ };
      assert.throws(() => hub.publishAll('a', [event] as never), bad);
      assert.throws(() => hub.publish('a', event as never), bad);
    }
  });

  it('publishes nothing and creates no topic for an empty batch, and none for an ended topic', () => {
    const { hub } = handRun();
    assert.deepEqual([hub.publishAll('a', []), hub.topics()], [[], []]);
    hub.publish('a', { data: 'x' });
    hub.end('a');
    assert.throws(() => hub.publishAll('a', numbers(2)), { code: 'ERR_SSE_TOPIC_ENDED', status: 409 });
  });

  it('has no limits for a topic that has ended, also where only that is still known of it', () => {
    const { hub } = handRun({ maxTopics: 1 });
    hub.publish('a', { data: 'x' });
    assert.deepEqual(hub.batchLimits('a'), { maxEvents: 5000, maxBytes: 2 * 1024 * 1024 });
    hub.end('a');
    assert.throws(() => hub.batchLimits('a'), { code: 'ERR_SSE_TOPIC_ENDED', status: 409 });
    hub.publish('b', { data: 'x' });
    assert.throws(() => hub.batchLimits('a'), { code: 'ERR_SSE_TOPIC_ENDED', status: 409 });
  });
});

describe('an event that cannot be published', () => {
  const far = { data: 'x'.repeat(500) };
  const failures: [string, HubOptions, HubEvent, object][] = [
    [
      'is larger than `maxEventBytes`',
      { maxEventBytes: 400 },
      far,
      { message: /400 bytes.*`maxEventBytes`/ },
    ],
    ["is larger than the topic's `maxBytes`", { history: { maxBytes: 400 } }, far, { message: /`maxBytes`/ }],
    ['has bad data', {}, { data: 5 } as unknown as HubEvent, { code: 'ERR_SSE_BAD_EVENT' }],
  ];
  for (const [what, options, event, error] of failures) {
    it(`creates no topic and forgets none, where it ${what}`, () => {
      const { hub } = handRun({ ...options, maxTopics: 1 });
      hub.publish('kept', { data: 'x' });
      assert.throws(() => hub.publish('new', event), error);
      assert.deepEqual(
        hub.topics().map(({ topic, events }) => [topic, events]),
        [['kept', 1]],
      );
    });
  }

  it('may have 1 MiB of data by default, and not much more', () => {
    const { hub } = handRun();
    hub.publish('a', { data: 'x'.repeat(1024 * 1024) });
    assert.throws(() => hub.publish('a', { data: 'x'.repeat(1024 * 1024 + 64 * 1024) }), {
      code: 'ERR_SSE_EVENT_TOO_LARGE',
      status: 413,
      message: /at most 1114112 bytes.*`maxEventBytes`/,
    });
  });

  it("is the application's own error where its `history` function has thrown it", () => {
    const own = new RangeError('no limits for this one');
    const history = () => {
      throw own;
    };
    const { hub } = handRun({ history });
    assert.throws(
      () => hub.publish('a', { data: 'x' }),
      (error) => error === own && Object.keys(own).length === 0,
    );
    assert.deepEqual(hub.topics(), []);
    for (const [limits, got] of [
      [Promise.resolve({}), 'a promise'],
      [undefined, 'undefined'],
    ]) {
      const odd = new Hub({ history: () => limits as object });
      assert.throws(() => odd.publish('a', { data: 'x' }), {
        name: 'TypeError',
        message: `\`history\` must be, or return, an object of limits, got ${got}`,
      });
    }
  });
});

describe('publishing inside publish', () => {
  it('is refused where the topic ends while its events are made', () => {
    const { hub } = handRun();
    hub.publish('a', { data: 'x' });
    const ending = {
      toJSON() {
        hub.end('a');
        return 1;
      },
    };
    assert.throws(() => hub.publish('a', { json: ending }), { code: 'ERR_SSE_TOPIC_ENDED' });
    hub.reopen('a');
    assert.throws(() => hub.publishAll('a', [{ data: '1' }, { json: ending }]), {
      code: 'ERR_SSE_TOPIC_ENDED',
    });
    assert.deepEqual([hub.position, hub.stats.published], [at(1), 1]);
  });

  it('is refused, whichever function of the application does it, and the outer event keeps its id', () => {
    const inner: unknown[] = [];
    const log = new TestLog();
    const again = () => {
      try {
        hub.publish('b', { data: 'inner' });
      } catch (error) {
        inner.push((error as { code?: string }).code);
      }
    };
    const append = log.append.bind(log);
    log.append = (entries) => {
      again();
      append(entries);
    };
    const history = () => {
      again();
      return {};
    };
    const { hub, turns } = handRun({ log, history });
    const reader = new MemoryReader();
    hub.subscribe(['a', 'b'], reader);
    const json = {
      toJSON: () => {
        again();
        return 1;
      },
    };
    assert.equal(hub.publish('a', { json }), at(1));
    assert.equal(hub.publish('b', { data: 'outer' }), at(2));
    turns.all();
    assert.deepEqual(reader.texts, ['1', 'outer']);
    assert.deepEqual(
      inner,
      times(inner.length, () => 'ERR_SSE_PUBLISH_INSIDE'),
    );
    assert.equal(inner.length, 4); // two limits, one toJSON, one append
  });

  it('keeps every count right where the log subscribes while it takes events', () => {
    const log = new TestLog();
    const { hub, turns } = handRun({ log, maxTopics: 1 });
    const reader = new MemoryReader();
    const append = log.append.bind(log);
    log.append = (entries) => {
      append(entries);
      if (entries[0]?.seq === 1) hub.subscribe('a', reader);
    };
    for (let i = 1; i <= 4; i++) hub.publish('a', { data: String(i) });
    turns.all();
    assert.deepEqual(
      hub.topics().map(({ events, subscribers }) => [events, subscribers]),
      [[4, 1]],
    );
    hub.delete('a');
    assert.equal(hub.historyBytes, 0);
    hub.publish('a', { data: '5' });
    turns.all();
    assert.equal(reader.texts.at(-1), '5');
  });
});

describe('keys', () => {
  it('that are slices of a long text do not keep the text in memory', () => {
    const { hub } = handRun();
    collectGarbage();
    const before = process.memoryUsage().heapUsed;
    for (let i = 0; i < 40; i++) {
      // Node makes a text of more than 1,031,913 bytes outside of the heap.
      const text = Buffer.alloc(1_000_000, `${i} `).toString();
      hub.publish('a', { data: 'x', key: text.slice(5, 40) });
    }
    collectGarbage();
    const held = process.memoryUsage().heapUsed - before;
    assert.ok(held < 8e6, `${held} bytes`);
    assert.equal(hub.topics()[0]!.events, 40);
  });
});

describe('ready', () => {
  /** Whether a promise has settled by now. */
  async function isSettled(promise: Promise<void>): Promise<boolean> {
    let is = false;
    promise.then(
      () => (is = true),
      () => (is = true),
    );
    await new Promise((resolve) => setImmediate(resolve));
    return is;
  }

  function open(t: TestContext, options: HubOptions = {}) {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    let now = 1000;
    const { hub, turns } = handRun({ now: () => now, history: { maxEvents: 40 }, ...options });
    const pass = (ms: number) => {
      now += ms;
      t.mock.timers.tick(ms);
      turns.all();
    };
    const read = (reader: MemoryReader, more: SubscribeOptions = {}) => {
      const subscription = hub.subscribe('a', reader, more);
      turns.all();
      return subscription;
    };
    return { hub, turns, pass, read };
  }

  it('resolves at once where nobody follows the topic, or everybody has everything', async (t) => {
    const { hub, turns, read } = open(t);
    await hub.ready('unknown');
    hub.publishAll('a', numbers(20));
    await hub.ready('a');
    read(new MemoryReader(), { lastEventId: at(0) });
    await hub.ready('a');
    hub.publish('b', { data: 'of another topic' });
    await hub.ready('a');
    assert.equal(turns.all(), 1);
  });

  it('resolves after the turn in which the readers are given what was published', async (t) => {
    const { hub, turns, read } = open(t);
    const reader = new MemoryReader();
    read(reader);
    hub.publishAll('a', numbers(20));
    const ready = hub.ready('a');
    assert.equal(await isSettled(ready), false);
    turns.next();
    assert.equal(await isSettled(ready), true);
    assert.equal(reader.texts.length, 20);
  });

  it('waits for a reader that drains, until it is less than a quarter of the history behind', async (t) => {
    const { hub, turns, read } = open(t, { maxPageBytes: 35 });
    const reader = slowReader();
    read(reader);
    await drain(reader);
    hub.publishAll('a', numbers(20));
    turns.all();
    const ready = hub.ready('a');
    for (let behind = 19; behind >= 10; behind--) {
      assert.equal(await isSettled(ready), false, `${behind} behind`);
      await drain(reader);
      turns.all();
    }
    assert.equal(await isSettled(ready), true);
    assert.equal(reader.texts.length, 11);
    await hub.ready('a');
  });

  it('does not wait for a reader that has been blocked for 100 ms', async (t) => {
    const { hub, turns, read, pass } = open(t, { maxPageBytes: 35 });
    const reader = slowReader();
    read(reader);
    await drain(reader);
    hub.publishAll('a', numbers(20));
    turns.all();
    const ready = hub.ready('a');
    pass(99);
    assert.equal(await isSettled(ready), false);
    pass(1);
    assert.equal(await isSettled(ready), true);
    hub.publishAll('a', numbers(20));
    const next = hub.ready('a');
    turns.all();
    assert.equal(await isSettled(next), true);
    // It keeps up again once it drains.
    await drain(reader);
    turns.all();
    assert.equal(await isSettled(hub.ready('a')), false);
  });

  it('does not wait for it either where the clock of the system is set back', async (t) => {
    const time = fakeTime(t);
    const { hub, turns } = handRun({ history: { maxEvents: 40 }, maxPageBytes: 35 });
    const reader = slowReader();
    hub.subscribe('a', reader);
    turns.all();
    await drain(reader);
    hub.publishAll('a', numbers(20));
    turns.all();
    const ready = hub.ready('a');
    const wrong = Date.now() - 3_600_000;
    t.mock.method(Date, 'now', () => wrong);
    time.advance(99);
    turns.all();
    assert.equal(await isSettled(ready), false);
    time.advance(1);
    turns.all();
    assert.equal(await isSettled(ready), true);
  });

  it('waits for a reader that was blocked before anybody waited for the first time', async (t) => {
    const { hub, turns, read, pass } = open(t, { maxPageBytes: 35 });
    const readers = [slowReader(), slowReader()];
    for (const reader of readers) read(reader);
    await drain(readers[0]!);
    hub.publishAll('a', numbers(20));
    turns.all();
    pass(50);
    const ready = hub.ready('a');
    pass(49);
    assert.equal(await isSettled(ready), false);
    pass(51);
    assert.equal(await isSettled(ready), true);
  });

  it('waits for a reader that comes back far behind after others were looked at in the same turn', async () => {
    const { hub, turns } = handRun({ history: { maxEvents: 8 } });
    hub.subscribe('a', new MemoryReader());
    hub.subscribe('b', new MemoryReader());
    turns.all();
    for (const event of numbers(6)) hub.publish('a', event);
    turns.all();
    await hub.ready('b'); // looks at all readers
    hub.subscribe('a', new MemoryReader(), { lastEventId: at(0) });
    let isReady = false;
    const ready = hub.ready('a').then(() => {
      isReady = true;
    });
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(isReady, false);
    turns.all();
    await ready;
  });

  it('waits for the readers of a topic that was forgotten and published to again meanwhile', async (t) => {
    const { hub, turns, read } = open(t, { maxPageBytes: 35, maxTopics: 2 });
    const first = read(new MemoryReader());
    hub.publishAll('a', numbers(20));
    const ready = hub.ready('a');
    first.close();
    for (const topic of ['b', 'c']) hub.publish(topic, { data: 'x' });
    hub.publishAll('a', numbers(20));
    const reader = slowReader();
    read(reader, { lastEventId: at(0) });
    turns.all();
    assert.equal(await isSettled(ready), false);
    reader.resume();
    while (!(await isSettled(ready))) turns.all();
  });

  it('counts bytes as well as events', async (t) => {
    const { hub, turns, read } = open(t, { history: { maxBytes: 10_000 }, maxPageBytes: 1 });
    const reader = slowReader();
    read(reader);
    await drain(reader);
    hub.publishAll('a', [{ data: 'x' }, { data: 'x'.repeat(2000) }]);
    turns.all();
    await hub.ready('a');
    hub.publish('a', { data: 'x'.repeat(600) });
    turns.all();
    const ready = hub.ready('a');
    assert.equal(await isSettled(ready), false);
    await drain(reader);
    turns.all();
    assert.equal(await isSettled(ready), true);
  });

  it('counts what the events hold where the whole history is small', async (t) => {
    const { hub, turns, read } = open(t, { history: {}, maxHistoryBytes: 8000, maxPageBytes: 1 });
    const reader = slowReader();
    read(reader);
    await drain(reader);
    // As many bytes each, with an id of two digits or one.
    for (let i = 1; i <= 60; i++) hub.publish('a', { data: i < 10 ? 'xx' : 'x' });
    const each = hub.topics()[0]!.bytes / 60 + SLOT_BYTES;
    turns.all();
    const ready = hub.ready('a');
    for (let behind = 59; behind * each >= 2000; behind--) {
      assert.equal(await isSettled(ready), false, `${behind} behind`);
      await drain(reader);
      turns.all();
    }
    assert.equal(await isSettled(ready), true);
  });

  it('is not held back by readers of other topics, by those that have left, or by nobody', async (t) => {
    const { hub, turns, read, pass } = open(t, { maxPageBytes: 35 });
    const other = slowReader();
    hub.subscribe('b', other);
    hub.publishAll('b', numbers(20));
    turns.all();
    const slow = slowReader();
    const subscription = read(slow);
    hub.publishAll('a', numbers(20));
    turns.all();
    const ready = hub.ready('a');
    subscription.close();
    pass(1);
    hub.publish('a', { data: 'x' });
    turns.all();
    assert.equal(await isSettled(ready), true);
  });

  it('is held back for ten seconds at most by readers that come back again and again', async (t) => {
    const { hub, turns, pass } = open(t, { maxPageBytes: 35 });
    hub.publishAll('a', numbers(20));
    turns.all();
    let count = 0;
    const come = () => {
      count++;
      const reader = slowReader();
      hub.subscribe('a', reader, { lastEventId: at(0) });
      turns.all();
    };
    come();
    const ready = hub.ready('a');
    for (let ms = 0; ms < 9900; ms += 50) {
      pass(50);
      come();
    }
    assert.equal(await isSettled(ready), false);
    for (let i = 0; i < 4; i++) {
      pass(50);
      come();
    }
    assert.equal(await isSettled(ready), true);
    assert.ok(count > 100);
  });

  it('rejects with the reason of its signal, and leaves no listener on it', async (t) => {
    const { hub, turns, read } = open(t, { maxPageBytes: 35 });
    const reader = slowReader();
    read(reader);
    hub.publishAll('a', numbers(20));
    turns.all();
    const abort = new AbortController();
    const removed = t.mock.method(abort.signal, 'removeEventListener');
    const ready = hub.ready('a', { signal: abort.signal });
    const reason = new Error('over');
    abort.abort(reason);
    await assert.rejects(ready, (error) => error === reason);
    await assert.rejects(hub.ready('a', { signal: abort.signal }), (error) => error === reason);
    await assert.rejects(hub.ready('unknown', { signal: abort.signal }), (error) => error === reason);
    const other = new AbortController();
    const removes = t.mock.method(other.signal, 'removeEventListener');
    const later = hub.ready('a', { signal: other.signal });
    reader.destroy();
    await new Promise((resolve) => setImmediate(resolve));
    hub.publish('a', { data: 'x' });
    turns.all();
    await later;
    assert.equal(removes.mock.callCount(), 1);
    assert.equal(removed.mock.callCount(), 0);
  });

  it('plans no turn and sets no timer while nobody waits', async (t) => {
    const { hub, turns, read, pass } = open(t, { maxPageBytes: 35 });
    const timers = t.mock.method(globalThis, 'setTimeout');
    const reader = slowReader();
    read(reader);
    await hub.ready('a');
    hub.publishAll('a', numbers(20));
    turns.all();
    pass(1000);
    assert.deepEqual([turns.planned, timers.mock.callCount()], [0, 0]);
  });

  it('keeps no process alive by its timer', async (t) => {
    const timers = t.mock.method(globalThis, 'setTimeout');
    const { hub, turns } = handRun({ history: { maxEvents: 40 }, maxPageBytes: 35 });
    hub.subscribe('a', slowReader());
    turns.all();
    hub.publishAll('a', numbers(20));
    const abort = new AbortController();
    const ready = hub.ready('a', { signal: abort.signal });
    const started = timers.mock.calls.map(({ result }) => (result as NodeJS.Timeout).hasRef());
    abort.abort(new Error('over'));
    await assert.rejects(ready, /over/);
    assert.deepEqual(started, [false]);
  });

  it('lets a source go as fast as its fast readers, and no event is lost', async () => {
    const hub = new Hub({ history: { maxEvents: 100 } });
    const readers = times(3, () => new MemoryReader({ highWaterMark: 1000 }));
    for (const reader of readers) {
      hub.subscribe('a', reader);
      reader.resume();
    }
    for (let i = 0; i < 200; i++) {
      hub.publishAll('a', numbers(20, i * 20 + 1));
      await hub.ready('a');
    }
    while (readers.some(({ texts }) => texts.length < 4000)) {
      assert.deepEqual(
        readers.map(({ gaps }) => gaps),
        [[], [], []],
      );
      await new Promise((resolve) => setImmediate(resolve));
    }
  });
});
