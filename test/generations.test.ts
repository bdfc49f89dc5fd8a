import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { describe, it, type TestContext } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { decode } from '../lib/decode.ts';
import { type Generation, Generations, type GenerationsOptions } from '../lib/generations.ts';
import { Hub, type HubOptions } from '../lib/hub.ts';
import type { LogEntry } from '../lib/log.ts';
import { fakeDate, fakeTime } from './helpers/clock.ts';
import { MemoryReader, slowReader } from './helpers/hub.ts';
import { usedBytes } from './helpers/memory.ts';
import { MemoryLog, MemoryStore } from './helpers/memory-log.ts';

/** Resolves once something holds. The test's own time limit ends the wait. */
async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await turn();
}

function open(t: TestContext, options: GenerationsOptions = {}, hubOptions: HubOptions = {}) {
  const hub = new Hub(hubOptions);
  const generations = new Generations(hub, options);
  t.after(() => generations.close());
  return { hub, generations };
}

function read(hub: Hub, topic: string, from: 'earliest' | 'now' = 'earliest'): MemoryReader {
  const reader = new MemoryReader();
  hub.subscribe(topic, reader, { from });
  return reader;
}

/** What a reader gets of a topic that has ended, or will. */
async function storyOf(hub: Hub, topic: string): Promise<[string | undefined, string][]> {
  const reader = read(hub, topic);
  await until(() => reader.writableEnded);
  return reader.events
    .filter(({ event }) => event !== 'sluice:ready')
    .map(({ event, data }): [string | undefined, string] => (event === END[0] ? END : [event, data]));
}

const END: [string, string] = ['sluice:end', '{}'];
const DONE: [string, string] = ['done', '{}'];
const STOPPED: [string, string] = ['stopped', '{}'];
const FAILED: [string, string] = ['failed', '{"message":"the generation failed"}'];

const texts = (...data: string[]): [undefined, string][] => data.map((text) => [undefined, text]);

async function* words(...all: string[]) {
  for (const word of all) {
    yield word;
    await turn();
  }
}

/** A source that yields some words, and then nothing, until it is stopped. */
function silent(...all: string[]) {
  let isStopped = false;
  async function* source({ signal }: { signal: AbortSignal }) {
    try {
      yield* all;
      await new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
    } finally {
      isStopped = true;
    }
  }
  return {
    source,
    get isStopped() {
      return isStopped;
    },
  };
}

// First, because what other tests leave behind may set timers as well.
it('Generations hold no timer that keeps a process alive, and none after `close`', async (t) => {
  const clock = fakeTime(t);
  const generations = new Generations(new Hub());
  assert.deepEqual([clock.timers, clock.holds], [1, false]);
  await generations.close();
  assert.equal(clock.timers, 0);
});

describe('a generation', () => {
  it('runs to its end although nobody reads it, and is there for who comes later', async (t) => {
    const { hub, generations } = open(t);
    const { done } = await generations.run('a', words('one', 'two'));
    assert.equal(await done, 'done');
    assert.equal(generations.size, 0);
    assert.deepEqual(await storyOf(hub, 'a'), [...texts('one', 'two'), DONE, END]);
  });

  it('is read from any place on, while it runs and afterwards', async (t) => {
    const { hub, generations } = open(t);
    let go = (): void => {};
    const gate = new Promise<void>((resolve) => {
      go = resolve;
    });
    const { done } = await generations.run('a', async function* () {
      yield* ['1', '2', '3'];
      await gate;
      yield '4';
    });
    const first = read(hub, 'a');
    await until(() => first.texts.length === 3);
    const second = new MemoryReader();
    hub.subscribe('a', second, { lastEventId: first.of()[1]!.id });
    await until(() => second.texts.length === 1);
    go();
    await done;
    await until(() => first.writableEnded && second.writableEnded);
    assert.deepEqual(first.texts, ['1', '2', '3', '4', '{}']);
    assert.deepEqual(second.texts, ['3', '4', '{}']);
    const third = new MemoryReader();
    hub.subscribe('a', third, { lastEventId: first.of()[2]!.id });
    await until(() => third.writableEnded);
    assert.deepEqual(third.texts, ['4', '{}']);
  });

  it('tells a reader that begins at its `start` of a gap where its beginning is no longer there', async (t) => {
    const { hub, generations } = open(t, {}, { history: { maxEvents: 10 } });
    hub.publish('other', { data: 'before' });
    const whole = await generations.run('a', words('one', 'two'));
    const long = await generations.run('b', Array.from({ length: 50 }, String));
    assert.deepEqual(await Promise.all([whole.done, long.done]), ['done', 'done']);
    const from = async ({ topic, start }: Generation): Promise<MemoryReader> => {
      const reader = new MemoryReader();
      hub.subscribe(topic, reader, { lastEventId: start });
      await until(() => reader.writableEnded);
      return reader;
    };
    const [all, rest] = [await from(whole), await from(long)];
    assert.deepEqual([all.texts, all.gaps], [['one', 'two', '{}'], []]);
    assert.deepEqual(
      rest.gaps.map(({ reason }) => reason),
      ['evicted'],
    );
  });

  const event = { event: 'token', json: { text: 'one' } };
  const sources: [string, () => Parameters<Generations['run']>[1]][] = [
    ['an array', () => ['text', event]],
    ['an async generator', () => words('text', event as never)],
    ['a function that makes a generator', () => () => words('text', event as never)],
    ['a function that promises a ReadableStream', () => async () => ReadableStream.from(['text', event])],
    ['a Readable', () => Readable.from(['text', event])],
  ];
  for (const [name, source] of sources)
    it(`has what ${name} yields`, async (t) => {
      const { hub, generations } = open(t);
      await generations.run('a', source());
      assert.deepEqual(await storyOf(hub, 'a'), [...texts('text'), ['token', '{"text":"one"}'], DONE, END]);
    });

  it('has the events of `decode` as they came, with ids of its own', async (t) => {
    const { hub, generations } = open(t);
    const source = decode([Buffer.from('id: 7\nevent: delta\ndata: {}\n\ndata: [DONE]\n\n')]);
    await generations.run('a', source);
    assert.deepEqual(await storyOf(hub, 'a'), [['delta', '{}'], ...texts('[DONE]'), DONE, END]);
  });

  it('joins characters that a source cuts between two strings', async (t) => {
    const { hub, generations } = open(t);
    const [high, low] = ['👋'[0]!, '👋'[1]!];
    await generations.run('a', words(`hi ${high}`, `${low}!`, '', high));
    assert.deepEqual(await storyOf(hub, 'a'), [...texts('hi ', '👋!', '', '\ufffd'), DONE, END]);
  });

  it('hands over in one batch what a source yields within a turn', async (t) => {
    const appends: number[] = [];
    class Counting extends MemoryLog {
      override append(entries: readonly LogEntry[], ...rest: unknown[]): void {
        appends.push(entries.filter(({ topic }) => topic === 'a').length);
        (super.append as (...all: unknown[]) => void)(entries, ...rest);
      }
    }
    const { generations } = open(t, {}, { log: new Counting(new MemoryStore()) });
    const { done } = await generations.run('a', Array.from({ length: 200 }, String));
    await done;
    assert.deepEqual(
      appends.filter((count) => count > 0),
      [200, 1],
    );
  });

  it('lets other work of the process go on while its source never waits', async (t) => {
    const { generations } = open(t);
    let isOver = false;
    let turns = 0;
    const { done } = await generations.run('a', function* () {
      for (let i = 0; i < 5000; i++) yield 'x'.repeat(100);
    });
    done.then(() => {
      isOver = true;
    });
    while (!isOver) {
      await turn();
      turns++;
    }
    assert.ok(turns >= 10, `${turns}`);
  });

  it('fails where its source fails, after what that has yielded, and does not tell readers why', async (t) => {
    const { hub, generations } = open(t);
    const failure = new Error('secret');
    const generation = await generations.run('a', async function* () {
      yield 'one';
      throw failure;
    });
    assert.equal(await generation.done, 'failed');
    assert.equal(generation.cause, failure);
    assert.deepEqual(await storyOf(hub, 'a'), [...texts('one'), FAILED, END]);
  });

  it('fails where the function that makes its source does', async (t) => {
    const { hub, generations } = open(t);
    const generation = await generations.run('a', () => {
      throw new Error('no model');
    });
    assert.equal(await generation.done, 'failed');
    assert.deepEqual(await storyOf(hub, 'a'), [FAILED, END]);
  });

  const unfit: [string, unknown, RegExp][] = [
    ['bytes', new Uint8Array(2), /must yield events or strings, got bytes/],
    ['a number', 7, /must yield events or strings, got 7/],
    ['an event without data', { event: 'x' }, /`data` must be a string/],
    ['a reserved type', { event: 'sluice:end', data: '' }, /is reserved/],
    ['the type of a last event', { event: 'done', data: '' }, /must not be "done"/],
    ['what JSON cannot express', { json: { n: 1n } }, /BigInt/],
    ['an event that is too large', 'x'.repeat(2 ** 21), /at most/],
  ];
  for (const [name, value, message] of unfit)
    it(`fails where its source yields ${name}, and stops the source`, async (t) => {
      const { hub, generations } = open(t);
      let isStopped = false;
      const generation = await generations.run('a', async function* () {
        try {
          yield 'one';
          yield value as string;
          await turn();
          for (;;) {
            yield 'more';
            await turn();
          }
        } finally {
          isStopped = true;
        }
      });
      assert.equal(await generation.done, 'failed');
      assert.match(String(generation.cause), message);
      assert.deepEqual((await storyOf(hub, 'a')).slice(-2), [FAILED, END]);
      assert.deepEqual((await storyOf(hub, 'a'))[0], texts('one')[0]);
      await until(() => isStopped);
    });

  it('names its last events, and says in them, what the options say', async (t) => {
    const { hub, generations } = open(t, {
      events: { done: 'finish', failed: 'oops' },
      describe: (outcome, cause) => ({ outcome, why: (cause as Error | undefined)?.message }),
    });
    await generations.run('a', words('x'));
    await generations.run('b', async function* () {
      yield 'x';
      throw new Error('quota');
    });
    assert.deepEqual(await storyOf(hub, 'a'), [...texts('x'), ['finish', '{"outcome":"done"}'], END]);
    const failed: [string, string] = ['oops', '{"outcome":"failed","why":"quota"}'];
    assert.deepEqual(await storyOf(hub, 'b'), [...texts('x'), failed, END]);
  });

  it('ends with a plain event where `describe` throws', async (t) => {
    const errors: unknown[] = [];
    const { hub, generations } = open(t, {
      describe: () => {
        throw new Error('no words');
      },
      onError: (error) => errors.push(String(error)),
    });
    await generations.run('a', words('x'));
    assert.deepEqual(await storyOf(hub, 'a'), [...texts('x'), DONE, END]);
    assert.deepEqual(errors, ['Error: no words']);
  });

  it('ends with a plain event where what `describe` returns is too large to be sent', async (t) => {
    const { hub, generations } = open(t, { describe: () => 'x'.repeat(2 ** 21) });
    const { done } = await generations.run('a', words('x'));
    assert.equal(await done, 'done');
    assert.deepEqual(await storyOf(hub, 'a'), [...texts('x'), DONE, END]);
  });

  it('takes from its source what its hub takes, where that has a map of types', async () => {
    const generations = new Generations(new Hub<{ token: { text: string } }>());
    const { done } = await generations.run('a', [{ event: 'token', json: { text: 'one' } }, 'two']);
    assert.equal(await done, 'done');
    // @ts-expect-error: `text` is a string.
    await generations.run('b', [{ event: 'token', json: { text: 1 } }]);
    await generations.close();
  });

  it('runs where the hub follows as many topics as it may', async (t) => {
    const { hub, generations } = open(t, {}, { maxFollowedTopics: 1 });
    read(hub, 'other');
    const { done } = await generations.run('a', words('one'));
    assert.equal(await done, 'done');
    assert.deepEqual(await storyOf(hub, 'a'), [...texts('one'), DONE, END]);
  });
});

describe('stopping a generation', () => {
  it('stops its source, and ends the topic as stopped', async (t) => {
    const { hub, generations } = open(t);
    const one = silent('one');
    const { done } = await generations.run('a', one.source);
    const reader = read(hub, 'a');
    await until(() => reader.texts.length === 1);
    assert.equal(await generations.stop('a'), true);
    assert.equal(await done, 'stopped');
    assert.equal(one.isStopped, true);
    assert.deepEqual(await storyOf(hub, 'a'), [...texts('one'), STOPPED, END]);
    assert.equal(await generations.stop('a'), false);
  });

  it('calls `return` of an iterator, `destroy` of a Readable and `cancel` of a ReadableStream', async (t) => {
    const { generations } = open(t);
    const stopped: string[] = [];
    const never = new Promise<IteratorResult<string>>(() => {});
    const iterable = {
      [Symbol.asyncIterator]: () => ({
        next: () => never,
        return: async () => {
          stopped.push('iterator');
          return { done: true as const, value: undefined };
        },
      }),
    };
    const readable = new Readable({ objectMode: true, read() {} });
    readable.once('close', () => stopped.push('Readable'));
    const web = new ReadableStream<string>({ cancel: () => void stopped.push('ReadableStream') });
    await generations.run('a', iterable);
    await generations.run('b', readable);
    await generations.run('c', web);
    await turn();
    assert.deepEqual(await Promise.all(['a', 'b', 'c'].map((topic) => generations.stop(topic))), [
      true,
      true,
      true,
    ]);
    await until(() => stopped.length === 3);
    assert.deepEqual(stopped.sort(), ['Readable', 'ReadableStream', 'iterator']);
  });

  it('does not wait for a source that does not listen', async (t) => {
    const { hub, generations } = open(t);
    const { done } = await generations.run('a', async function* () {
      yield 'one';
      await new Promise(() => {});
    });
    const reader = read(hub, 'a');
    await until(() => reader.texts.length === 1);
    assert.equal(await generations.get('a')!.stop(), true);
    assert.equal(await done, 'stopped');
  });

  it('changes nothing where the source has ended just before', async (t) => {
    const { hub, generations } = open(t);
    const generation = await generations.run('a', words('x'));
    await generation.done;
    assert.equal(await generation.stop(), false);
    assert.deepEqual(await storyOf(hub, 'a'), [...texts('x'), DONE, END]);
  });

  it('happens at whichever moment: there is one last event, and it says how the generation ended', async (t) => {
    const { hub, generations } = open(t);
    for (let moment = 0; moment < 30; moment++) {
      const topic = `a${moment}`;
      const generation = await generations.run(topic, words('1', '2', '3', '4', '5'));
      for (let i = 0; i < moment; i++) await turn();
      const isStopped = await generation.stop();
      const outcome = await generation.done;
      assert.equal(isStopped, outcome === 'stopped');
      const story = await storyOf(hub, topic);
      assert.deepEqual(story.slice(-2), [isStopped ? STOPPED : DONE, END]);
      assert.deepEqual(story.slice(0, -2), texts('1', '2', '3', '4', '5').slice(0, story.length - 2));
    }
  });

  it('also happens where the application ends the topic, even while the source is silent', async (t) => {
    const { hub, generations } = open(t);
    const one = silent('one');
    const { done } = await generations.run('a', one.source);
    const reader = read(hub, 'a');
    await until(() => reader.texts.length === 1);
    hub.end('a');
    assert.equal(await done, 'stopped');
    await until(() => one.isStopped);
    assert.deepEqual(await storyOf(hub, 'a'), [...texts('one'), END]);
  });

  it('does not happen where subscriptions are kicked', async (t) => {
    const { hub, generations } = open(t);
    const one = silent('one');
    const { done } = await generations.run('a', one.source);
    await turn();
    hub.kick(() => true);
    await turn();
    await turn();
    assert.equal(one.isStopped, false);
    hub.end('a');
    assert.equal(await done, 'stopped');
  });

  it('of all is what `close` does, as failed', async (t) => {
    const { hub, generations } = open(t);
    const [one, two] = [silent('one'), silent()];
    await generations.run('a', one.source);
    await generations.run('b', two.source);
    await turn();
    await generations.close();
    assert.deepEqual([one.isStopped, two.isStopped], [true, true]);
    assert.deepEqual((await storyOf(hub, 'a')).slice(-2), [FAILED, END]);
    assert.deepEqual(await storyOf(hub, 'b'), [FAILED, END]);
    await assert.rejects(generations.run('c', []), { code: 'ERR_SSE_GENERATIONS_CLOSED', status: 503 });
  });
});

describe('the topic of a generation', () => {
  it('is that of one generation alone', async (t) => {
    const { generations } = open(t);
    const one = silent();
    await generations.run('a', one.source);
    const running = { code: 'ERR_SSE_GENERATION_RUNS', status: 409 };
    await assert.rejects(generations.run('a', words('x')), running);
    await Promise.all([
      generations.run('b', words('x')),
      assert.rejects(generations.run('b', words('y')), running),
    ]);
    await generations.stop('a');
    await assert.rejects(generations.run('a', words('x')), { code: 'ERR_SSE_TOPIC_ENDED', status: 409 });
  });

  it('may have events before it', async (t) => {
    const { hub, generations } = open(t);
    hub.publish('a', { event: 'question', data: 'why?' });
    await generations.run('a', words('because'));
    assert.deepEqual(await storyOf(hub, 'a'), [['question', 'why?'], ...texts('because'), DONE, END]);
  });

  it('is deleted after `ttl`, and stays ended, so that nobody who comes late waits', async (t) => {
    const clock = fakeTime(t);
    let now = 0;
    fakeDate(t, () => now);
    const { hub, generations } = open(t, { ttl: 1000, lease: 300 });
    const { done } = await generations.run('a', words('one', 'two'));
    await generations.run('b', words('one'), { ttl: 5000 });
    await done;
    const ids = read(hub, 'a');
    await until(() => ids.writableEnded);
    now = 999;
    await clock.pass(200);
    assert.equal(hub.topics()[0]!.events, 3);
    now = 1000;
    await clock.pass(200);
    assert.deepEqual(
      hub.topics().map(({ topic, events, ended }) => [topic, events, ended]),
      [
        ['a', 0, true],
        ['b', 2, true],
      ],
    );
    assert.deepEqual(await storyOf(hub, 'a'), []);
    const returning = new MemoryReader();
    hub.subscribe('a', returning, { lastEventId: ids.of()[0]!.id });
    await until(() => returning.writableEnded);
    assert.deepEqual(returning.story, ['sluice:ready', 'sluice:gap', 'sluice:end']);
    await assert.rejects(generations.run('a', []), { code: 'ERR_SSE_TOPIC_ENDED' });
    now = 5000;
    await clock.pass(200);
    assert.equal(hub.historyBytes, 0);
  });

  it('is kept where its `ttl` is Infinity', async (t) => {
    const clock = fakeTime(t);
    let now = 0;
    fakeDate(t, () => now);
    const { hub, generations } = open(t, { ttl: 0, lease: 300 });
    await (await generations.run('a', words('one'), { ttl: Infinity })).done;
    await (await generations.run('b', words('one'))).done;
    now = Number.MAX_SAFE_INTEGER;
    await clock.pass(300);
    assert.deepEqual(
      hub.topics().map(({ events }) => events),
      [2, 0],
    );
  });

  it('is deleted later where the log fails when its time has come', async (t) => {
    const clock = fakeTime(t);
    let now = 0;
    fakeDate(t, () => now);
    const errors: string[] = [];
    const options = { ttl: 0, lease: 300, onError: (error: unknown) => errors.push(String(error)) };
    const { hub, generations } = open(t, options);
    await (await generations.run('a', words('one'))).done;
    const change = t.mock.method(hub, 'change', async () => {
      throw new Error('full');
    });
    await clock.pass(100);
    change.mock.restore();
    assert.deepEqual(errors, ['Error: full']);
    await clock.pass(200);
    assert.equal(hub.topics()[0]!.events, 2);
    now = 300;
    await clock.pass(100);
    assert.equal(hub.topics()[0]!.events, 0);
  });

  it('is not deleted where somebody has reopened it', async (t) => {
    const clock = fakeTime(t);
    const { hub, generations } = open(t, { ttl: 0, lease: 300 });
    await (await generations.run('a', words('one'))).done;
    hub.reopen('a');
    await clock.pass(200);
    assert.deepEqual(
      hub.topics().map(({ events, ended }) => [events, ended]),
      [[2, false]],
    );
  });

  it('is deleted before its time where more than `maxKept` have ended, the oldest first', async (t) => {
    const { hub, generations } = open(t, { maxKept: 2 });
    for (const topic of ['a', 'b', 'c']) await (await generations.run(topic, words('one'))).done;
    await until(() => hub.topics().filter(({ events }) => events > 0).length === 2);
    const kept = hub.topics().filter(({ events }) => events > 0);
    assert.deepEqual(
      kept.map(({ topic }) => topic),
      ['b', 'c'],
    );
  });
});

describe('the memory of a process', () => {
  it('is what it was before, once topics were deleted', async (t) => {
    setFlagsFromString('--expose-gc');
    globalThis.gc = runInNewContext('gc');
    const clock = fakeTime(t);
    const { hub, generations } = open(t, { ttl: 0, lease: 300 }, { maxTopics: 100 });
    let waves = 0;
    const wave = async (): Promise<number> => {
      waves++;
      const tokens = Array.from({ length: 50 }, (_, i) => `${i} ${'x'.repeat(200)}`);
      for (let i = 0; i < 500; i++) {
        const topic = `${waves}-${i}`;
        const reader = read(hub, topic);
        await (await generations.run(topic, tokens)).done;
        await until(() => reader.writableEnded);
        // One in five is stopped.
        if (i % 5 > 0) continue;
        await generations.run(`${topic}-silent`, silent('x').source);
        await generations.stop(`${topic}-silent`);
      }
      await clock.pass(200);
      await until(() => hub.historyBytes === 0);
      return usedBytes();
    };
    await wave();
    const before = await wave();
    const after = await wave();
    // The tokens of a wave are 5 MB, and what is kept of each topic would be more than a kilobyte.
    assert.ok(after - before < 300_000, `${after - before} bytes more than before`);
    assert.deepEqual([generations.size, hub.size], [0, 0]);
  });
});

describe('a source', () => {
  it('is read no further than the log takes', async (t) => {
    const store = new MemoryStore();
    const { hub, generations } = open(t, {}, { log: new MemoryLog(store), onError: () => {} });
    let read = 0;
    const generation = await generations.run('a', async function* () {
      for (let i = 0; i < 200; i++) {
        if (i === 10) store.fails = true;
        read++;
        yield `${i} ${'x'.repeat(1000)}`;
        await turn();
      }
    });
    await until(() => hub.failure !== undefined);
    for (let i = 0; i < 300; i++) await turn();
    assert.ok(read < 100, `${read}`);
    store.fails = false;
    assert.equal(await generation.done, 'done');
    const got = (await storyOf(hub, 'a')).filter(([event]) => event === undefined);
    assert.deepEqual(
      got.map(([, data]) => Number(data.split(' ')[0])),
      Array.from({ length: 200 }, (_, i) => i),
    );
  });

  it('waits for readers that keep up, and for no other', async (t) => {
    const { hub, generations } = open(t, {}, { history: { maxEvents: 100 }, maxPageBytes: 1000 });
    // As a server's sockets do: the timer of `ready` alone would let the process end.
    const alive = setInterval(() => {}, 1000);
    t.after(() => clearInterval(alive));
    const steady = read(hub, 'a');
    hub.subscribe('a', slowReader(), { from: 'earliest' });
    const { done } = await generations.run(
      'a',
      Array.from({ length: 3000 }, (_, i) => `${i}`),
    );
    assert.equal(await done, 'done');
    await until(() => steady.writableEnded);
    assert.deepEqual(steady.gaps, []);
    assert.equal(steady.texts.length, 3001);
  });

  it('may yield more at once than half of the history, which is the most of a batch', async (t) => {
    const { hub, generations } = open(t, {}, { history: { maxBytes: 20_000 } });
    const reader = read(hub, 'a');
    const { done } = await generations.run(
      'a',
      [1, 2, 3].map((n) => `${n}`.repeat(8000)),
    );
    assert.equal(await done, 'done');
    await until(() => reader.writableEnded);
    assert.deepEqual(
      reader.texts.map((text) => text[0]),
      ['1', '2', '3', '{'],
    );
  });
});

describe('generations on a log of this hub, after its process has died', () => {
  /** A process that has died: nothing of it reaches the log any more. */
  function start(t: TestContext, store: MemoryStore, options: GenerationsOptions = {}) {
    let isDead = false;
    class Log extends MemoryLog {
      override append(...all: Parameters<MemoryLog['append']>): void {
        if (isDead) throw new Error('dead');
        super.append(...all);
      }
      override change(...all: Parameters<MemoryLog['change']>): boolean {
        if (isDead) throw new Error('dead');
        return super.change(...all);
      }
    }
    const node = open(t, options, { log: new Log(store), onError: () => {} });
    return {
      ...node,
      die: () => {
        isDead = true;
      },
    };
  }

  it('have failed as soon as the next one begins, whether they had yielded anything or not', async (t) => {
    const store = new MemoryStore();
    const before = start(t, store);
    await before.generations.run('a', silent('one').source);
    await before.generations.run('b', silent().source);
    await (await before.generations.run('c', words('one'))).done;
    const reader = read(before.hub, 'a');
    await until(() => reader.texts.length === 1);
    before.die();
    const after = start(t, store);
    assert.deepEqual(await storyOf(after.hub, 'a'), [...texts('one'), FAILED, END]);
    assert.deepEqual(await storyOf(after.hub, 'b'), [FAILED, END]);
    assert.deepEqual(await storyOf(after.hub, 'c'), [...texts('one'), DONE, END]);
    const again = start(t, store);
    await assert.rejects(again.generations.run('a', []), { code: 'ERR_SSE_TOPIC_ENDED' });
    assert.deepEqual(await storyOf(again.hub, 'a'), [...texts('one'), FAILED, END]);
  });

  it('have one last event, also where one begins at once in the process that follows', async (t) => {
    const store = new MemoryStore();
    const before = start(t, store);
    await before.generations.run('a', silent('one').source);
    const reader = read(before.hub, 'a');
    await until(() => reader.texts.length === 1);
    before.die();
    const after = start(t, store);
    await assert.rejects(after.generations.run('a', []), { code: 'ERR_SSE_TOPIC_ENDED' });
    await (await after.generations.run('b', words('two'))).done;
    assert.deepEqual(await storyOf(after.hub, 'a'), [...texts('one'), FAILED, END]);
  });

  it('keep the last event that they had, where only the end of the topic was missing', async (t) => {
    const store = new MemoryStore();
    const before = start(t, store);
    const { done } = await before.generations.run('a', words('one'));
    before.hub.change = async () => {
      before.die();
      throw new Error('killed');
    };
    await done;
    const after = start(t, store);
    assert.deepEqual(await storyOf(after.hub, 'a'), [...texts('one'), DONE, END]);
  });

  it('are deleted when their time has come', async (t) => {
    const clock = fakeTime(t);
    let now = 0;
    fakeDate(t, () => now);
    const store = new MemoryStore();
    const before = start(t, store, { ttl: 1000, lease: 300 });
    await (await before.generations.run('a', words('one'))).done;
    await until(() =>
      before.hub.topics().some(({ topic, events }) => topic === 'generations' && events === 3),
    );
    before.die();
    const after = start(t, store, { ttl: 1000, lease: 300 });
    await clock.pass(400);
    assert.equal((await storyOf(after.hub, 'a')).length, 3);
    now = 1300;
    await clock.pass(400);
    assert.deepEqual(await storyOf(after.hub, 'a'), []);
  });
});

describe('the limits and the misuse of generations', () => {
  it('refuse what is more than `maxRunning`', async (t) => {
    const { generations } = open(t, { maxRunning: 2 });
    await Promise.all(['a', 'b'].map((topic) => generations.run(topic, silent().source)));
    await assert.rejects(generations.run('c', []), {
      code: 'ERR_SSE_TOO_MANY_GENERATIONS',
      status: 503,
      message: '2 generations run in this process already, as many as `maxRunning` allows',
    });
    await generations.stop('a');
    await generations.run('c', []);
  });

  it('refuse what is no topic, no source and no time', async (t) => {
    const { generations } = open(t);
    await assert.rejects(generations.run('a b', []), { code: 'ERR_SSE_MALFORMED_TOPIC', status: 400 });
    await assert.rejects(generations.stop('a b'), { code: 'ERR_SSE_MALFORMED_TOPIC' });
    await assert.rejects(
      generations.run('a', 'text' as never),
      /`source` must be an iterable of events or strings, or a function, got "text"/,
    );
    await assert.rejects(
      generations.run('a', [], { ttl: -1 }),
      /`ttl` must be a number of milliseconds ≥ 0, got -1/,
    );
    assert.equal(generations.size, 0);
  });

  const wrong: [GenerationsOptions, RegExp][] = [
    [{ ttl: NaN }, /`ttl` must be a number of milliseconds ≥ 0, got NaN/],
    [{ lease: 1 }, /`lease` must be from 30 to/],
    [{ maxRunning: 0 }, /`maxRunning` must be a whole number ≥ 1, got 0/],
    [{ maxKept: 1.5 }, /`maxKept` must be a whole number ≥ 1, got 1.5/],
    [{ notices: 'a b' }, /`notices` must be 1 to 200 characters/],
    [{ events: { done: 'sluice:end' } }, /`events.done` must be a type of its own/],
    [{ events: { failed: 'message' } }, /`events.failed` must be a type of its own/],
    [{ events: { stopped: 'a\nb' } }, /`events.stopped` must be a type of its own, of one line/],
    [{ events: { done: 'x', stopped: 'x' } }, /`events` must name three different types/],
  ];
  for (const [options, message] of wrong)
    it(`are told of ${JSON.stringify(options)}`, () => {
      assert.throws(() => new Generations(new Hub(), options), message);
    });

  it('need a log that keeps events', () => {
    const log = { order: 'shared', lossy: true, follow() {} } as never;
    assert.throws(() => new Generations(new Hub({ log })), /need a log that keeps events, or none/);
  });
});
