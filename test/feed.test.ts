import assert from 'node:assert/strict';
import { getEventListeners, once } from 'node:events';
import { Readable } from 'node:stream';
import { describe, it, type TestContext } from 'node:test';
import { type FeedOptions, type FeedVerdict, publishFrom } from '../lib/feed.ts';
import { Hub, type HubEvent, type HubOptions } from '../lib/hub.ts';
import { type LogEntry, outcomeUnknown } from '../lib/log.ts';
import { drain, MemoryReader, slowReader, times } from './helpers/hub.ts';
import { MemoryLog, MemoryStore } from './helpers/memory-log.ts';

const turn = () => new Promise((resolve) => setImmediate(resolve));

/** A hub with a reader that takes everything, once its first bytes have arrived. */
async function followed(topic = 'a', options?: HubOptions): Promise<{ hub: Hub; reader: MemoryReader }> {
  const hub = new Hub(options);
  const reader = new MemoryReader();
  hub.subscribe(topic, reader);
  await turn();
  return { hub, reader };
}

/** Counts what is pulled from it, and whether it was stopped. */
function counted(count: number, make: (n: number) => string | HubEvent = (n) => `${n}`) {
  const source = {
    pulled: 0,
    returned: 0,
    destroyed: 0,
    destroy() {
      source.destroyed++;
    },
    [Symbol.asyncIterator]() {
      return {
        next: async (): Promise<IteratorResult<string | HubEvent>> =>
          source.pulled < count
            ? { done: false, value: make(source.pulled++) }
            : { done: true, value: undefined },
        return: async () => {
          source.returned++;
          return { done: true as const, value: undefined };
        },
      };
    },
  };
  return source;
}

/** A source that never yields. */
const silent = () => ({
  ...counted(0),
  [Symbol.asyncIterator]: () => ({ next: () => new Promise<never>(() => {}) }),
});

describe('publishFrom', () => {
  it('publishes strings and events in order, and resolves with their number', async () => {
    const { hub, reader } = await followed();
    const source = ['one', { event: 'x', data: 'two' }, { json: [3] }];
    assert.equal(await publishFrom(hub, 'a', source), 3);
    await turn();
    assert.deepEqual(
      reader.of().map(({ event, data }) => [event, data]),
      [
        [undefined, 'one'],
        ['x', 'two'],
        [undefined, '[3]'],
      ],
    );
  });

  it('publishes what comes from generators and from a Readable', async () => {
    const { hub, reader } = await followed();
    async function* generated() {
      yield 'a';
      yield 'b';
    }
    assert.equal(await publishFrom(hub, 'a', generated()), 2);
    assert.equal(await publishFrom(hub, 'a', Readable.from(['c', 'd'])), 2);
    await turn();
    assert.deepEqual(reader.texts, ['a', 'b', 'c', 'd']);
  });

  it('gives all events of a source that never waits to a reader that takes them, without a gap', async () => {
    const { hub, reader } = await followed();
    const texts = times(30_000, (i) => `event ${i}`);
    assert.equal(await publishFrom(hub, 'a', texts), 30_000);
    while (hub.stats.delivered < 30_000) await turn();
    assert.deepEqual(reader.texts, texts);
    assert.deepEqual(reader.gaps, []);
  });

  it('gives all events of several sources of one topic to a reader that takes them', async () => {
    const { hub, reader } = await followed();
    await Promise.all(
      times(8, (n) =>
        publishFrom(
          hub,
          'a',
          times(5000, (i) => `${n} ${i}`),
        ),
      ),
    );
    while (hub.stats.delivered < 40_000) await turn();
    assert.deepEqual(reader.gaps, []);
  });

  it('gives all events to a reader that takes them where the history is short', async () => {
    for (const history of [{ maxEvents: 4 }, { maxEvents: 20 }, { maxBytes: 1000 }]) {
      const hub = new Hub({ history });
      const reader = new MemoryReader();
      hub.subscribe('a', reader);
      await turn();
      await publishFrom(hub, 'a', times(2000, String));
      while (hub.stats.delivered < 2000) await turn();
      assert.deepEqual(reader.gaps, []);
    }
  });

  it('leaves room for batches that wait for the readers in the same way', async () => {
    const { hub, reader } = await followed();
    const batch = times(400, (n) => ({ data: `${n} ${'x'.repeat(2400)}` }));
    // All begin to wait in one turn, and each could publish before the first of them has been delivered.
    await Promise.all(
      times(16, async () => {
        await hub.ready('a');
        hub.publishAll('a', batch);
      }),
    );
    while (hub.stats.delivered < 16 * 400) await turn();
    assert.deepEqual(reader.gaps, []);
  });

  it('publishes at most a page in a turn, by events and by bytes', async () => {
    for (const [history, text, most] of [
      [{}, 'x', 250],
      [{}, 'x'.repeat(16_000), 4],
      [{ maxEvents: 160 }, 'x', 10],
      [{ maxBytes: 16_000 }, 'x'.repeat(200), 5],
      [{ maxEvents: 1 }, 'x', 1],
    ] as const) {
      const hub = new Hub({ history });
      let inTurn = 0;
      let largest = 0;
      let planned = false;
      const { publish } = Hub.prototype;
      hub.publish = (...args) => {
        if (!planned) {
          planned = true;
          setImmediate(() => {
            planned = false;
            inTurn = 0;
          });
        }
        largest = Math.max(largest, ++inTurn);
        return publish.apply(hub, args);
      };
      await publishFrom(
        hub,
        'a',
        times(600, () => text),
      );
      assert.equal(largest, most);
    }
  });

  it('does not read ahead of a reader that keeps up slowly', async () => {
    const now = () => 1_795_408_776_829; // the reader is never blocked for long
    const hub = new Hub({ history: { maxEvents: 500 }, now });
    const reader = slowReader();
    hub.subscribe('a', reader);
    await turn();
    const source = counted(5000, (n) => `${n} ${'x'.repeat(500)}`);
    const done = publishFrom(hub, 'a', source);
    let isOver = false;
    done.then(() => {
      isOver = true;
    });
    while (!isOver) {
      await turn();
      const seen = hub.stats.delivered;
      assert.ok(source.pulled - seen <= 500, `${source.pulled} pulled, ${seen} delivered`);
      await drain(reader);
    }
    assert.equal(await done, 5000);
    assert.deepEqual(reader.gaps, []);
  });

  it('does not wait for a reader that takes nothing', async () => {
    let time = 1_795_408_776_829;
    const { hub, reader } = await followed('a', { now: () => (time += 1) });
    const stalled = slowReader();
    hub.subscribe('a', stalled);
    await turn();
    const texts = times(12_000, (i) => `event ${i} ${'x'.repeat(100)}`);
    assert.equal(await publishFrom(hub, 'a', texts), 12_000);
    while (hub.stats.delivered < 12_000 || reader.texts.length < 12_000) await turn();
    assert.deepEqual(reader.gaps, []);
  });

  describe('stops its source', () => {
    const isStopped = async (source: { returned: number; destroyed: number }) => {
      await turn();
      assert.deepEqual([source.returned, source.destroyed], [1, 1]);
    };

    it('when it has ended', async () => {
      const source = counted(3);
      await publishFrom(new Hub(), 'a', source);
      await isStopped(source);
    });

    it('when an event is refused, and rejects with the error', async () => {
      const source = counted(3, () => ({ event: 'a\nb', data: '' }));
      await assert.rejects(publishFrom(new Hub(), 'a', source), { code: 'ERR_SSE_BAD_EVENT' });
      await isStopped(source);
      assert.equal(source.pulled, 1);
    });

    it('when it fails, and rejects with its error', async () => {
      async function* failing() {
        yield 'a';
        throw new Error('no more');
      }
      const hub = new Hub();
      await assert.rejects(publishFrom(hub, 'a', failing()), /^Error: no more$/);
      assert.equal(hub.stats.published, 1);
    });

    it('when the signal aborts, while the source waits, and leaves no listener', async () => {
      const source = Object.assign(silent(), { destroyed: 0 });
      source.destroy = () => {
        source.destroyed++;
      };
      const control = new AbortController();
      const done = publishFrom(new Hub(), 'a', source, { signal: control.signal });
      await turn();
      control.abort(new Error('stop'));
      await assert.rejects(done, /^Error: stop$/);
      await turn();
      assert.equal(source.destroyed, 1);
      assert.deepEqual(getEventListeners(control.signal, 'abort'), []);
    });

    it('when the signal aborts, while it waits for readers', async () => {
      const hub = new Hub({ history: { maxEvents: 1000 }, now: () => 1_795_408_776_829 });
      hub.subscribe('a', slowReader());
      await turn();
      const source = counted(5000, (n) => `${n} ${'x'.repeat(500)}`);
      const control = new AbortController();
      const done = publishFrom(hub, 'a', source, { signal: control.signal });
      for (let before = -1; before < source.pulled; ) {
        before = source.pulled;
        for (let i = 0; i < 10; i++) await turn();
      }
      assert.ok(source.pulled > 0 && source.pulled < 5000, `${source.pulled}`);
      control.abort(new Error('stop'));
      await assert.rejects(done, /^Error: stop$/);
      await isStopped(source);
      assert.deepEqual(getEventListeners(control.signal, 'abort'), []);
    });

    it('when the signal aborts while an event is published', async () => {
      const hub = new Hub();
      const control = new AbortController();
      const { publish } = hub;
      hub.publish = (...args) => {
        control.abort(new Error('stop'));
        return publish.apply(hub, args);
      };
      async function* one() {
        yield 'a';
        await new Promise(() => {});
      }
      await assert.rejects(publishFrom(hub, 'a', one(), { signal: control.signal }), /^Error: stop$/);
      assert.equal(hub.stats.published, 1);
    });

    it('at once when the signal has aborted before', async () => {
      const source = counted(3);
      const signal = AbortSignal.abort(new Error('stop'));
      await assert.rejects(publishFrom(new Hub(), 'a', source, { signal }), /^Error: stop$/);
      await isStopped(source);
      assert.equal(source.pulled, 0);
    });
  });

  describe('asks `onRefuse` about an event that the hub refuses', () => {
    /** A hub that refuses the first attempts to publish each text that begins with `!`. */
    function refusing(t: TestContext, attempts: number): { hub: Hub; published: string[] } {
      const hub = new Hub();
      const published: string[] = [];
      const { publish } = hub;
      let left = attempts;
      t.mock.method(hub, 'publish', (topic: string, event: { data: string }) => {
        if (event.data.startsWith('!') && left-- > 0) throw Object.assign(new Error('no'), { code: 'X' });
        published.push(event.data);
        left = attempts;
        return publish.call(hub, topic, event);
      });
      return { hub, published };
    }
    const texts = ['a', '!b', 'c'];
    type OnRefuse = NonNullable<FeedOptions<HubEvent>['onRefuse']>;

    it('and skips it', async (t) => {
      const { hub, published } = refusing(t, Infinity);
      const refused: unknown[] = [];
      const onRefuse: OnRefuse = ({ topic, event, error }) => {
        refused.push(topic, event, (error as { code: string }).code);
        return 'skip';
      };
      assert.equal(await publishFrom(hub, 'a', texts, { onRefuse }), 2);
      assert.deepEqual(published, ['a', 'c']);
      assert.deepEqual(refused, ['a', { data: '!b' }, 'X']);
    });

    it('and publishes it again once the answer has resolved, reading nothing meanwhile', async (t) => {
      const { hub, published } = refusing(t, 3);
      const source = counted(3, (n) => texts[n]!);
      let asked = 0;
      const onRefuse = async (): Promise<FeedVerdict> => {
        asked++;
        for (let i = 0; i < 5; i++) await turn();
        assert.equal(source.pulled, 2);
        return 'retry';
      };
      assert.equal(await publishFrom(hub, 'a', source, { onRefuse }), 3);
      assert.deepEqual(published, texts);
      assert.equal(asked, 3);
    });

    it('and rejects where that throws', async (t) => {
      const { hub } = refusing(t, Infinity);
      const onRefuse: OnRefuse = ({ error }) => {
        throw error;
      };
      await assert.rejects(publishFrom(hub, 'a', texts, { onRefuse }), { code: 'X' });
    });

    it('and rejects with the error of the hub where the answer is neither', async (t) => {
      const { hub } = refusing(t, Infinity);
      for (const answer of [undefined, null, true, 'again', Promise.resolve()]) {
        let asked = 0;
        const onRefuse = () => {
          if (++asked > 5) throw new Error('asked again and again');
          return answer as never;
        };
        await assert.rejects(publishFrom(hub, 'a', texts, { onRefuse }), { code: 'X' });
      }
    });

    it('and lets the event loop turn, whatever it answers', async (t) => {
      const { hub } = refusing(t, Infinity);
      for (const answer of ['skip', 'retry'] as const) {
        const control = new AbortController();
        // Aborted by a turn that comes; without one, this would never end.
        setImmediate(() => setImmediate(() => control.abort(new Error('stop'))));
        async function* endless() {
          for (;;) yield '!';
        }
        const options = { signal: control.signal, onRefuse: () => answer };
        await assert.rejects(publishFrom(hub, 'a', endless(), options), /^Error: stop$/);
      }
    });

    it('and ends the wait with the signal', async (t) => {
      const { hub } = refusing(t, Infinity);
      const control = new AbortController();
      const onRefuse = async (): Promise<FeedVerdict> => {
        control.abort(new Error('stop'));
        return 'retry';
      };
      await assert.rejects(
        publishFrom(hub, 'a', texts, { signal: control.signal, onRefuse }),
        /^Error: stop$/,
      );
    });
  });

  it('rejects what is no source, and says what it got', async () => {
    const hub = new Hub();
    for (const [source, type] of [
      ['text', 'string'],
      [7, 'number'],
      [null, 'object'],
      [{}, 'object'],
    ]) {
      await assert.rejects(publishFrom(hub, 'a', source as never), {
        name: 'TypeError',
        message: `\`source\` must be an iterable of events or strings, got ${type}`,
      });
    }
  });

  it('destroys a Readable that is not read to its end', async () => {
    const readable = new Readable({ read() {} });
    const control = new AbortController();
    const done = publishFrom(new Hub(), 'a', readable, { signal: control.signal });
    await turn();
    control.abort(new Error('stop'));
    const closed = once(readable, 'close');
    await assert.rejects(done, /^Error: stop$/);
    await closed;
    assert.equal(readable.destroyed, true);
  });
});

describe('publishFrom to a hub with a log', () => {
  /** A hub with a log of its own, which notes how many events it is given together. */
  function logged() {
    const store = new MemoryStore();
    const batches: number[] = [];
    class CountingLog extends MemoryLog {
      override append(entries: readonly LogEntry[]): void {
        super.append(entries, []);
        if (entries.length > 0) batches.push(entries.length);
      }
    }
    const hub = new Hub({ log: new CountingLog(store), onError: () => {} });
    const texts = (): string[] =>
      store.entries.map(({ frame }) => Buffer.from(frame).toString().slice('data: '.length).trimEnd());
    return { store, batches, hub, texts };
  }

  /** Resolves when the log can be written to again. */
  async function recovered({ hub, store }: ReturnType<typeof logged>): Promise<void> {
    store.fails = false;
    while (hub.failure !== undefined) await turn();
  }

  it('hands over whole pages, by events and by bytes, and the rest where the source ends', async () => {
    for (const [text, pages] of [
      ['x', [250, 250, 100]],
      ['x'.repeat(16_000), [...times(150, () => 4)]],
    ] as const) {
      const { hub, batches, texts } = logged();
      const source = times(600, (i) => `${i} ${text}`);
      assert.equal(await publishFrom(hub, 'a', source), 600);
      assert.deepEqual(batches, pages);
      assert.deepEqual(texts(), source);
    }
  });

  it('reads on once the log has the page, and gives readers all of it without a gap', async (t) => {
    const { hub } = logged();
    const reader = new MemoryReader();
    hub.subscribe('a', reader);
    await turn();
    let release = (): void => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    const { appendAll } = hub;
    t.mock.method(hub, 'appendAll', async (...args: Parameters<typeof appendAll>) => {
      await held;
      return appendAll.apply(hub, args);
    });
    const source = counted(1000);
    const done = publishFrom(hub, 'a', source);
    for (let i = 0; i < 10; i++) await turn();
    assert.equal(source.pulled, 250);
    release();
    assert.equal(await done, 1000);
    while (hub.stats.delivered < 1000) await turn();
    assert.deepEqual([reader.texts, reader.gaps], [times(1000, String), []]);
  });

  it('does not hold back what a source has given that then pauses, and misses nothing that comes later', async () => {
    const { hub, texts } = logged();
    let goOn = (): void => {};
    async function* pausing() {
      yield 'a';
      yield 'b';
      await new Promise<void>((resolve) => {
        goOn = resolve;
      });
      yield 'c';
    }
    const done = publishFrom(hub, 'a', pausing());
    while (hub.stats.published < 2) await turn();
    for (let i = 0; i < 5; i++) await turn();
    assert.deepEqual(texts(), ['a', 'b']);
    goOn();
    assert.equal(await done, 3);
    assert.deepEqual(texts(), ['a', 'b', 'c']);
  });

  it('publishes what a source has given before it fails, and rejects with its error', async () => {
    const { hub, texts } = logged();
    async function* failing() {
      yield 'a';
      yield 'b';
      throw new Error('no more');
    }
    await assert.rejects(publishFrom(hub, 'a', failing()), /^Error: no more$/);
    assert.deepEqual(texts(), ['a', 'b']);
  });

  it('rejects at once when the signal aborts while the source pauses', async () => {
    const { hub } = logged();
    const control = new AbortController();
    async function* pausing() {
      yield 'a';
      control.abort(new Error('stop'));
      await new Promise(() => {});
    }
    await assert.rejects(publishFrom(hub, 'a', pausing(), { signal: control.signal }), /^Error: stop$/);
    assert.deepEqual(getEventListeners(control.signal, 'abort'), []);
  });

  it('asks about the one event of a page that is refused, and publishes the others once, in order', async () => {
    const { hub, texts, batches } = logged();
    const source = ['a', 'b', { event: 'x\ny', data: 'wrong' }, 'c', 'd'];
    const refused: unknown[] = [];
    const onRefuse: FeedOptions<HubEvent>['onRefuse'] = ({ event, error }) => {
      refused.push(event.data, (error as { code: string }).code);
      return 'skip';
    };
    assert.equal(await publishFrom(hub, 'a', source, { onRefuse }), 4);
    assert.deepEqual(texts(), ['a', 'b', 'c', 'd']);
    assert.deepEqual(refused, ['wrong', 'ERR_SSE_BAD_EVENT']);
    assert.deepEqual(batches, [1, 1, 1, 1]);
  });

  it('rejects where the log refuses a page, having published nothing of it', async () => {
    const all = logged();
    all.store.fails = true;
    const source = counted(3);
    await assert.rejects(publishFrom(all.hub, 'a', source), { code: 'ERR_SSE_LOG_UNAVAILABLE', status: 503 });
    assert.deepEqual(all.texts(), []);
    await turn();
    assert.deepEqual([source.returned, source.destroyed], [1, 1]);
    await all.hub.close();
  });

  it('publishes a page that the log has refused once it takes it again, each event once, in order', async () => {
    const all = logged();
    const { hub, store, texts } = all;
    const source = counted(600);
    let asked = 0;
    const onRefuse = async ({ error }: { error: unknown }): Promise<FeedVerdict> => {
      assert.equal((error as { code: string }).code, 'ERR_SSE_LOG_UNAVAILABLE');
      const { pulled } = source;
      if (++asked === 2) await recovered(all);
      assert.equal(source.pulled, pulled);
      return 'retry';
    };
    const { append } = MemoryLog.prototype;
    let calls = 0;
    Object.assign(hub.log!, {
      append(this: MemoryLog, entries: readonly LogEntry[]) {
        if (entries.length > 0 && ++calls === 2) store.fails = true;
        append.call(this, entries, []);
      },
    });
    assert.equal(await publishFrom(hub, 'a', source, { onRefuse }), 600);
    assert.deepEqual(texts(), times(600, String));
    assert.equal(asked, 2);
  });

  it('rejects where nobody knows whether the log has an event, and does not publish that again', async (t) => {
    for (const count of [5, 1]) {
      const { hub } = logged();
      const appended: number[] = [];
      t.mock.method(hub, 'appendAll', async (_: string, events: readonly HubEvent[]) => {
        appended.push(events.length);
        throw outcomeUnknown('the connection was lost');
      });
      const onRefuse = (): FeedVerdict => assert.fail('it was not refused');
      await assert.rejects(publishFrom(hub, 'a', times(count, String), { onRefuse }), {
        code: 'ERR_SSE_OUTCOME_UNKNOWN',
      });
      assert.deepEqual(appended, [count]);
    }
  });
});
