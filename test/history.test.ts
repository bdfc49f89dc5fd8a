import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { checkTopic, History, type HistoryOptions, type LogEntry, type Topic } from '../lib/history.ts';
import { collectGarbage } from './helpers/garbage.ts';

/** A history to which events are published one after another. */
function openHistory(options: HistoryOptions = {}, head = 0) {
  const history = new History<string>(options, head);
  let seq = head;
  const entry = (topic: string, bytes: number, at: number): LogEntry => {
    return { topic, seq: seq + 1, at, bytes, frame: 'x', key: undefined };
  };
  const publish = (name: string, bytes = 1, at = 0): LogEntry => {
    const topic = history.open(name);
    const one = entry(name, bytes, at);
    history.check(topic, one);
    history.append(topic, one);
    seq++;
    return one;
  };
  return { history, publish, entry };
}

const list = (history: History<string>): Topic<string>[] => [...history];
const sum = (history: History<string>) => list(history).reduce((bytes, { ring }) => bytes + ring.bytes, 0);
const sizes = (history: History<string>) =>
  Object.fromEntries(list(history).map(({ name, ring }) => [name, ring.size]));

describe('the limits of a topic', () => {
  it('keeps 10,000 events and 4 MiB of each topic by default', () => {
    const { history, publish } = openHistory();
    for (let i = 0; i < 10_001; i++) publish('many');
    for (let i = 0; i < 5; i++) publish('large', 1024 * 1024);
    assert.deepEqual(sizes(history), { many: 10_000, large: 4 });
  });

  it('asks a function for the limits of each new topic, once', () => {
    const asked: string[] = [];
    const limits = (topic: string) => {
      asked.push(topic);
      return { maxEvents: topic === 'long' ? 100 : 2 };
    };
    const { history, publish } = openHistory({ history: limits });
    for (let i = 0; i < 50; i++) for (const topic of ['long', 'short']) publish(topic);
    assert.deepEqual(sizes(history), { long: 50, short: 2 });
    assert.deepEqual(asked, ['long', 'short']);
  });

  it('drops the oldest events of a topic that has too many bytes', () => {
    const { history, publish } = openHistory({ history: { maxBytes: 1000 } });
    for (let i = 0; i < 100; i++) publish('a', 90);
    assert.deepEqual(sizes(history), { a: 11 });
    assert.equal(history.bytes, 990);
  });

  it('refuses an event larger than maxBytes with a code and a status, and changes nothing', () => {
    const { history, publish } = openHistory({ history: { maxBytes: 100 } });
    publish('a', 100);
    assert.throws(() => publish('a', 101), {
      name: 'RangeError',
      code: 'ERR_SSE_EVENT_TOO_LARGE',
      status: 413,
      message: 'an event of topic "a" must have at most 100 bytes (`maxBytes`), got 101',
    });
    assert.deepEqual([sizes(history), history.bytes], [{ a: 1 }, 100]);
  });

  it('drops what has grown too old from a topic that is looked at', () => {
    const { history, publish } = openHistory({ history: { maxAge: 100 } });
    publish('a', 5, 1000);
    publish('a', 7, 1050);
    history.expire(history.get('a')!, 1101);
    assert.deepEqual([sizes(history), history.bytes], [{ a: 1 }, 7]);
  });

  it('drops what has grown too old from silent topics in turn, one at a time', () => {
    const { history, publish } = openHistory({ history: { maxAge: 100 } });
    for (const topic of ['a', 'b', 'c']) publish(topic, 5, 1000);
    history.expireNext(1101);
    assert.deepEqual([sizes(history), history.bytes], [{ a: 0, b: 1, c: 1 }, 10]);
    for (let i = 0; i < 2; i++) history.expireNext(1101);
    assert.deepEqual([sizes(history), history.bytes], [{ a: 0, b: 0, c: 0 }, 0]);
  });

  it('begins the round of the silent topics again, with those that came meanwhile', () => {
    const { history, publish } = openHistory({ history: { maxAge: 100 } });
    publish('a', 5, 1000);
    for (let i = 0; i < 3; i++) history.expireNext(1000);
    publish('b', 5, 1000);
    for (let i = 0; i < 4; i++) history.expireNext(1101);
    assert.deepEqual(sizes(history), { a: 0, b: 0 });
  });

  it('holds no entry in memory that it has dropped', async () => {
    const { history, entry } = openHistory({ history: { maxEvents: 4 } });
    const topic = history.open('a');
    const dropped: WeakRef<LogEntry>[] = [];
    for (let seq = 1; seq <= 30; seq++) {
      const one = { ...entry('a', 1, 0), seq };
      history.append(topic, one);
      dropped.push(new WeakRef(one));
    }
    // A WeakRef that was made or read in this turn holds its target until the turn is over.
    await new Promise((resolve) => setImmediate(resolve));
    collectGarbage();
    const held = dropped.filter((one) => one.deref() !== undefined);
    assert.equal(held.length, 4);
    // Read again, so that the topic itself was not what was collected.
    assert.equal(topic.ring.size, 4);
  });
});

describe('the limits of all topics together', () => {
  it('drops the events of the topics that were silent for longest, down to nine tenths', () => {
    const { history, publish } = openHistory({ maxHistoryBytes: 1000 });
    publish('silent', 100);
    for (let i = 0; i < 9; i++) publish(i % 2 ? 'a' : 'b', 100);
    assert.equal(history.bytes, 1000);
    publish('a', 1);
    assert.deepEqual(sizes(history), { silent: 0, a: 5, b: 4 });
    assert.equal(history.bytes, 801);
  });

  it('keeps the newest event whatever its size, because its subscribers have yet to get it', () => {
    const { history, publish } = openHistory({ maxHistoryBytes: 1000 });
    for (let i = 0; i < 5; i++) publish('a', 100);
    publish('b', 5000);
    assert.deepEqual([sizes(history), history.bytes], [{ a: 0, b: 1 }, 5000]);
    publish('a', 100);
    assert.deepEqual([sizes(history), history.bytes], [{ a: 1, b: 0 }, 100]);
  });

  it('counts the bytes that the topics hold, whatever happens to them', () => {
    const acts = fc.array(
      fc.record({
        act: fc.constantFrom(
          'publish',
          'publish',
          'publish',
          'expire',
          'expireNext',
          'clear',
          'follow',
          'leave',
        ),
        topic: fc.nat({ max: 7 }),
        bytes: fc.integer({ min: 0, max: 60 }),
      }),
      { maxLength: 120 },
    );
    fc.assert(
      fc.property(acts, (steps) => {
        const limits = { maxEvents: 5, maxBytes: 150, maxAge: 20 };
        const { history, publish } = openHistory({ history: limits, maxHistoryBytes: 300, maxTopics: 6 });
        steps.forEach(({ act, topic, bytes }, now) => {
          const name = `t${topic}`;
          const known = history.get(name);
          if (act === 'publish') publish(name, bytes, now);
          else if (act === 'expireNext') history.expireNext(now);
          else if (known === undefined) return;
          else if (act === 'expire') history.expire(known, now);
          else if (act === 'clear') history.clear(known);
          else if (act === 'follow' && topic < 5) known.followers.add('somebody');
          else if (act === 'leave') {
            known.followers.clear();
            history.release(known);
          }
          assert.equal(history.bytes, sum(history));
          assert.ok(history.bytes <= 300);
          assert.ok(list(history).length <= 6);
        });
      }),
    );
  });
});

describe('the number of topics', () => {
  it('forgets the topic that was silent for longest, and no longer counts its bytes', () => {
    const { history, publish } = openHistory({ maxTopics: 3 });
    for (const topic of ['a', 'b', 'c']) publish(topic, 10);
    publish('a', 10);
    publish('d', 10);
    assert.deepEqual(sizes(history), { a: 2, c: 1, d: 1 });
    assert.equal(history.bytes, 40);
  });

  it('forgets one topic in a hundred at once, so that making room is rare', () => {
    const { history, publish } = openHistory({ maxTopics: 1000 });
    for (let i = 0; i < 1001; i++) publish(`t${i}`);
    assert.equal(list(history).length, 991);
    assert.equal(history.get('t9'), undefined);
    assert.notEqual(history.get('t10'), undefined);
  });

  it('forgets no topic that is followed, and refuses a new one with a code and a status when all are', () => {
    const { history, publish } = openHistory({ maxTopics: 2 });
    for (const topic of ['a', 'b']) history.open(topic).followers.add('somebody');
    assert.throws(() => history.open('c'), {
      code: 'ERR_SSE_TOO_MANY_TOPICS',
      status: 503,
      message: /^all 2 topics \(`maxTopics`\) have subscribers/,
    });
    history.get('a')!.followers.clear();
    publish('c');
    assert.deepEqual(Object.keys(sizes(history)), ['b', 'c']);
  });

  it('knows that a topic which is not in memory may have lost events', () => {
    const { history, publish } = openHistory({ maxTopics: 1 }, 7);
    assert.equal(history.open('a').ring.dropped, 7);
    publish('a');
    publish('a');
    publish('b');
    assert.equal(history.get('b')!.ring.dropped, 9);
    assert.equal(history.get('a'), undefined);
  });
});

describe('a topic', () => {
  it('is unused until something is published to it, or it has ended or was deleted', () => {
    const { history, publish } = openHistory({}, 7);
    const names = ['published', 'emptied', 'ended', 'deleted'];
    for (const name of names) assert.equal(history.open(name).isUnused, true);
    publish('published');
    publish('emptied');
    history.get('emptied')!.ring.shrink(0);
    history.get('ended')!.ended = true;
    history.clear(history.get('deleted')!);
    for (const topic of list(history)) assert.equal(topic.isUnused, false, topic.name);
  });

  it('is removed with its last follower if it is unused, and stays otherwise', () => {
    const { history, publish } = openHistory();
    const [unused, used] = [history.open('unused'), history.open('used')];
    publish('used');
    for (const topic of [unused, used]) {
      topic.followers.add('somebody');
      history.release(topic);
      assert.equal(history.get(topic.name), topic);
      topic.followers.clear();
      history.release(topic);
    }
    assert.deepEqual(Object.keys(sizes(history)), ['used']);
  });

  it('keeps a record after it was cleared: what it had is lost, its end is lifted, its bytes are gone', () => {
    const { history, publish } = openHistory();
    publish('b', 10);
    for (let i = 0; i < 3; i++) publish('a', 10);
    const topic = history.get('a')!;
    topic.ended = true;
    history.clear(topic);
    assert.deepEqual([topic.ring.size, topic.ring.dropped, topic.ended, topic.deleted], [0, 4, false, true]);
    assert.equal(history.bytes, 10);
    publish('a', 10);
    assert.deepEqual([topic.ring.size, topic.ring.dropped, topic.deleted], [1, 4, false]);
  });

  it('may have any name that names a topic, also one that objects have', () => {
    const { history, publish } = openHistory();
    for (const name of ['constructor', '__proto__', 'toString']) publish(name);
    assert.deepEqual(
      list(history).map(({ name }) => name),
      ['constructor', '__proto__', 'toString'],
    );
  });

  it('cannot have any other name: the error shows it, and has a code and a status', () => {
    for (const name of ['', 'a b', 'x'.repeat(300), undefined, 5] as string[]) {
      const wanted = { name: 'TypeError', code: 'ERR_SSE_MALFORMED_TOPIC', status: 400 };
      assert.throws(() => checkTopic(name), wanted);
      assert.throws(() => openHistory().history.open(name), wanted);
    }
    assert.throws(() => checkTopic('a b'), {
      message: '`topic` must be 1 to 200 characters of A–Z a–z 0–9 . _ ~ : -, got "a b"',
    });
  });
});

describe('an option of the history that is out of range', () => {
  const refused: [HistoryOptions, string][] = [
    [{ maxHistoryBytes: 0 }, '`maxHistoryBytes` must be a number ≥ 1, got 0'],
    [{ maxTopics: 0 }, '`maxTopics` must be a number ≥ 1, got 0'],
    [{ maxTopics: Number.NaN }, '`maxTopics` must be a number ≥ 1, got NaN'],
    [{ history: { maxEvents: 0 } }, '`maxEvents` must be a whole number ≥ 1, got 0'],
    [{ history: { maxEvents: 1.5 } }, '`maxEvents` must be a whole number ≥ 1, got 1.5'],
    [{ history: { maxBytes: 0 } }, '`maxBytes` must be a number ≥ 1, got 0'],
    [{ history: { maxAge: 0 } }, '`maxAge` must be a number ≥ 1, got 0'],
  ];
  for (const [options, message] of refused) {
    it(`is named at once with its value and its limit: ${message}`, () => {
      assert.throws(() => openHistory(options), { name: 'RangeError', message });
    });
  }

  it('is named for the first topic for which a function gives it, and the topic is not created', () => {
    const { history, publish } = openHistory({ history: () => ({ maxEvents: 0 }) });
    assert.throws(() => publish('a'), { name: 'RangeError', message: /`maxEvents`.*got 0/ });
    assert.deepEqual(list(history), []);
  });
});
