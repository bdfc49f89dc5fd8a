import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { SEGMENT_OBJECT_BYTES, SLOT_BYTES } from '../lib/frame-ring.ts';
import { checkTopic, type EncodedEvent, History, type HistoryOptions, type Topic } from '../lib/history.ts';
import { INDEX_BYTES, keyBytes, PLACE_BYTES } from '../lib/newest.ts';
import { collectGarbage } from './helpers/garbage.ts';
import { times } from './helpers/hub.ts';

/** A history to which events are published one after another. */
function openHistory(options: HistoryOptions = {}, head = 0) {
  const history = new History<string>(options, head);
  let seq = head;
  const event = (bytes: number, at: number, key?: string): EncodedEvent => {
    return { seq: seq + 1, at, bytes, frame: 'x'.repeat(bytes), key };
  };
  const publish = (name: string, bytes = 1, at = 0, key?: string): EncodedEvent => {
    const topic = history.prepare(name);
    const one = event(bytes, at, key);
    history.check(topic, one);
    history.append(topic, one);
    seq++;
    return one;
  };
  return { history, publish, event };
}

const list = (history: History<string>): Topic<string>[] => [...history];
/** What all topics hold, by their own account. */
const sum = (history: History<string>) =>
  list(history).reduce((bytes, { heldBytes }) => bytes + heldBytes, 0);
/** What a topic of one event of that many bytes holds. */
const held = (bytes: number) => bytes + SLOT_BYTES + SEGMENT_OBJECT_BYTES;
const sizes = (history: History<string>) =>
  Object.fromEntries(list(history).map(({ name, ring }) => [name, ring.size]));

describe('the limits of a topic', () => {
  it('keeps 10,000 events and 4 MiB of each topic by default', () => {
    const { history, publish } = openHistory();
    for (let i = 0; i < 10_001; i++) publish('many');
    for (let i = 0; i < 5; i++) publish('large', 1024 * 1024);
    assert.deepEqual(sizes(history), { many: 10_000, large: 4 });
  });

  it('are one object for all topics, unless a function is asked', () => {
    for (const [given, isShared] of [
      [{ maxEvents: 5 }, true],
      [() => ({ maxEvents: 5 }), false],
    ] as const) {
      const { history } = openHistory({ history: given });
      const [a, b] = ['a', 'b'].map((name) => history.prepare(name).limits);
      assert.equal(a?.maxFrames, 5);
      assert.deepEqual([a === b, a], [isShared, b]);
    }
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
    assert.equal(history.get('a')!.ring.bytes, 990);
    const needed = 990 + 11 * SLOT_BYTES;
    assert.ok(history.bytes >= needed && history.bytes <= 4 * needed + SEGMENT_OBJECT_BYTES);
  });

  it('refuses an event larger than maxBytes with a code and a status, and changes nothing', () => {
    const { history, publish } = openHistory({ history: { maxBytes: 100 } });
    publish('a', 100);
    assert.throws(() => publish('a', 101), {
      name: 'RangeError',
      code: 'ERR_SSE_EVENT_TOO_LARGE',
      status: 413,
      message:
        'an event of topic "a" must have at most 100 bytes, got 101: raise the `maxBytes` of the topic\'s history of the hub, or send less',
    });
    assert.deepEqual([sizes(history), history.bytes], [{ a: 1 }, held(100)]);
  });

  it('drops what has grown too old from a topic that is looked at', () => {
    const { history, publish } = openHistory({ history: { maxAge: 100 } });
    publish('a', 5, 1000);
    publish('a', 7, 1050);
    history.expire(history.get('a')!, 1101);
    assert.deepEqual([sizes(history), history.bytes], [{ a: 1 }, sum(history)]);
    history.expire(history.get('a')!, 1151);
    assert.deepEqual([sizes(history), history.bytes], [{ a: 0 }, 0]);
  });

  it('holds the keys of what has grown too old no longer than that', () => {
    const { history, publish } = openHistory({ history: { maxAge: 100 } });
    for (let i = 0; i < 100; i++) publish('a', 5, 1000, `key ${i}`);
    publish('a', 5, 1050, 'key 100');
    history.expire(history.get('a')!, 1101);
    assert.deepEqual(sizes(history), { a: 1 });
    const most = held(5) + INDEX_BYTES + 8 * PLACE_BYTES + keyBytes('key 100');
    const { ring, heldBytes } = history.get('a')!;
    assert.ok(
      heldBytes - ring.heldBytes <= most - held(5),
      `${heldBytes - ring.heldBytes} bytes for one key`,
    );
  });

  it('drops what has grown too old from silent topics in turn, one at a time', () => {
    const { history, publish } = openHistory({ history: { maxAge: 100 } });
    for (const topic of ['a', 'b', 'c']) publish(topic, 5, 1000);
    history.expireNext(1101);
    assert.deepEqual([sizes(history), history.bytes], [{ a: 0, b: 1, c: 1 }, 2 * held(5)]);
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

  it('holds its events as bytes: no object of one stays in memory', async () => {
    const { history, event } = openHistory({ history: { maxEvents: 4 } });
    const topic = history.prepare('a');
    const publish = (seq: number) => {
      const one = { ...event(1, 0, `k${seq}`), seq };
      history.append(topic, one);
      return new WeakRef<EncodedEvent>(one);
    };
    const given = times(30, (i) => publish(i + 1));
    // A WeakRef that was made or read in this turn holds its target until the turn is over.
    await new Promise((resolve) => setImmediate(resolve));
    collectGarbage();
    const held = given.filter((one) => one.deref() !== undefined);
    assert.equal(held.length, 0);
    // Read again, so that the topic itself was not what was collected.
    assert.equal(topic.ring.size, 4);
  });
});

describe('the limits of all topics together', () => {
  it('drops the events of the topics that were silent for longest, down to nine tenths', () => {
    const { history, publish } = openHistory({ maxHistoryBytes: 10 * held(100) });
    for (let i = 0; i < 10; i++) publish(`t${i}`, 100);
    assert.equal(history.bytes, 10 * held(100));
    publish('new', 1);
    const kept = Object.fromEntries(times(8, (i) => [`t${i + 2}`, 1]));
    assert.deepEqual(sizes(history), { t0: 0, t1: 0, ...kept, new: 1 });
    assert.equal(history.bytes, 8 * held(100) + held(1));
  });

  it('drops the oldest part of a topic, not all of it, and nothing of those that were published to since', () => {
    const { history, publish } = openHistory({ maxHistoryBytes: 64 * 1024 });
    for (let i = 0; i < 300; i++) publish('silent', 100);
    const before = sizes(history).silent!;
    let published = 0;
    for (; sizes(history).silent === before; published++) publish('busy', 100);
    const { silent, busy } = sizes(history);
    assert.ok(silent! > 0 && silent! < before, `${silent} of ${before}`);
    assert.equal(busy, published);
    assert.ok(history.bytes <= 0.9 * 64 * 1024);
  });

  it('drops the oldest part of a topic that fills all of it, again and again', () => {
    const { history, publish } = openHistory({ maxHistoryBytes: 64 * 1024 });
    const kept: number[] = [];
    for (let i = 0; i < 5000; i++) {
      publish('a', 100);
      assert.ok(history.bytes <= 64 * 1024);
      if (i > 1000) kept.push(sizes(history).a!);
    }
    // Nine tenths, less one segment of a sixteenth that is dropped and one that is not filled.
    const least = (0.9 - 2 / 16) * 64 * 1024 * (100 / (held(100) - SEGMENT_OBJECT_BYTES + 12));
    assert.ok(Math.min(...kept) * 100 >= least, `${Math.min(...kept)} events, at least ${least / 100}`);
  });

  it('keeps the newest event whatever its size, because its subscribers have yet to get it', () => {
    const { history, publish } = openHistory({ maxHistoryBytes: 2000 });
    for (let i = 0; i < 5; i++) publish('a', 100);
    publish('b', 5000);
    assert.deepEqual([sizes(history), history.bytes], [{ a: 0, b: 1 }, held(5000)]);
    publish('a', 100);
    assert.deepEqual([sizes(history), history.bytes], [{ a: 1, b: 0 }, held(100)]);
  });

  it('keeps the newest event of a topic that had many with keys, and nothing of what those held', () => {
    const { history, publish } = openHistory({ maxHistoryBytes: 50_000 });
    for (let i = 0; i < 1000; i++) publish('a', 1, 0, `k${i % 10}`);
    publish('a', 45_000, 0, 'k');
    assert.deepEqual(sizes(history), { a: 1 });
    assert.equal(history.bytes, held(45_000) + INDEX_BYTES + 8 * PLACE_BYTES + keyBytes('k'));
  });

  it('counts the bytes that the topics hold, whatever happens to them', () => {
    const acts = fc.array(
      fc.record({
        act: fc.constantFrom(
          ...['publish', 'publish', 'publish', 'publish', 'expire', 'expireNext'],
          ...['delete', 'follow', 'leave', 'end', 'reopen'],
        ),
        topic: fc.nat({ max: 7 }),
        bytes: fc.integer({ min: 0, max: 60 }),
        key: fc.constantFrom(undefined, 'k', 'l'),
      }),
      { maxLength: 120, size: 'max' },
    );
    fc.assert(
      fc.property(acts, (steps) => {
        const limits = { maxEvents: 5, maxBytes: 150, maxAge: 20 };
        const most = { maxHistoryBytes: 3000, maxTopics: 4, maxFollowedTopics: 2 };
        const { history, publish } = openHistory({ history: limits, ...most });
        const isHeld = ({ isHeld }: Topic<string>) => isHeld;
        /** The key of each place. */
        const keys = new WeakMap<Topic<string>, (string | undefined)[]>();
        steps.forEach(({ act, topic, bytes, key }, now) => {
          const name = `t${topic}`;
          const known = history.get(name);
          if (act === 'publish') {
            // The hub refuses an event of an ended topic before it is checked.
            if (history.prepare(name).ended) return;
            publish(name, bytes, now, key);
            const one = history.get(name)!;
            if (!keys.has(one)) keys.set(one, []);
            keys.get(one)![one.ring.end - 1] = key;
          } else if (act === 'expireNext') history.expireNext(now);
          else if (act === 'delete') history.delete(name);
          else if (act === 'reopen') history.reopen(name);
          else if (act === 'follow') {
            try {
              history.follow(name).addFollower('somebody');
            } catch (error) {
              assert.equal((error as { code?: string }).code, 'ERR_SSE_TOO_MANY_FOLLOWED');
            }
          } else if (known === undefined) return;
          else if (act === 'expire') history.expire(known, now);
          else if (act === 'end') {
            history.hold(known);
            known.ended = true;
          } else {
            known.removeFollower('somebody');
            history.release(known);
          }
          const all = list(history);
          assert.equal(history.bytes, sum(history));
          assert.ok(history.bytes <= 3000);
          assert.ok(all.filter(isHeld).length <= 4);
          assert.ok(all.every((one) => isHeld(one) || one.followers.size > 0));
          assert.ok(all.every(({ ring }) => ring.dropped <= history.newestDropped));
          for (const one of all) {
            const { ring } = one;
            assert.ok(one.heldBytes >= ring.bytes + ring.size * SLOT_BYTES);
            if (ring.size === 0) assert.equal(one.heldBytes, 0);
            const places = times(ring.size, (i) => ring.first + i);
            const keyAt = (place: number) => keys.get(one)?.[place];
            const newest = places.filter(
              (place) =>
                keyAt(place) === undefined ||
                !places.some((later) => later > place && keyAt(later) === keyAt(place)),
            );
            const found: number[] = [];
            for (let at = one.newestFrom(ring.first); at < ring.end; at = one.newestFrom(at + 1))
              found.push(at);
            assert.deepEqual(found, newest);
          }
        });
      }),
    );
  });
});

it('counts what its events hold: their bytes, a slot for each, the objects around them, the index and its keys', () => {
  const bytesOf = (...frames: [frame: string, key?: string][]) => {
    const { history } = openHistory();
    const topic = history.prepare('a');
    frames.forEach(([frame, key], i) => {
      history.append(topic, { seq: i + 1, at: 0, frame, bytes: Buffer.byteLength(frame), key });
    });
    return history.bytes;
  };
  assert.equal(bytesOf(['data: x\n\n']), 9 + SLOT_BYTES + SEGMENT_OBJECT_BYTES);
  assert.equal(bytesOf(['data: ü\n\n']), 10 + SLOT_BYTES + SEGMENT_OBJECT_BYTES);
  assert.equal(
    bytesOf(['data: x\n\n', 'price']),
    held(9) + INDEX_BYTES + 8 * PLACE_BYTES + keyBytes('price'),
  );
  // A second one with the same key, for which there is room in the index.
  assert.equal(
    bytesOf(['data: x\n\n', 'price'], ['data: y\n\n', 'price']),
    2 * (9 + SLOT_BYTES) + SEGMENT_OBJECT_BYTES + INDEX_BYTES + 8 * PLACE_BYTES + keyBytes('price'),
  );
});

describe('the number of topics', () => {
  it('forgets the topic that was silent for longest, and no longer counts its bytes', () => {
    const { history, publish } = openHistory({ maxTopics: 3 });
    for (const topic of ['a', 'b', 'c']) publish(topic, 10);
    publish('a', 10);
    publish('d', 10);
    assert.deepEqual(sizes(history), { a: 2, c: 1, d: 1 });
    assert.equal(history.bytes, sum(history));
  });

  it('forgets one topic in a hundred at once, so that making room is rare', () => {
    const { history, publish } = openHistory({ maxTopics: 1000 });
    for (let i = 0; i < 1001; i++) publish(`t${i}`);
    assert.equal(list(history).length, 991);
    assert.equal(history.get('t9'), undefined);
    assert.notEqual(history.get('t10'), undefined);
    // The room is there for others.
    for (let i = 1001; i < 1010; i++) publish(`t${i}`);
    assert.equal(list(history).length, 1000);
  });

  it('have no set of followers of their own while nobody follows them', () => {
    const { history } = openHistory();
    const [a, b] = ['a', 'b'].map((name) => history.follow(name));
    assert.equal(a!.followers, b!.followers);
    a!.addFollower('somebody');
    assert.deepEqual([[...a!.followers], [...b!.followers]], [['somebody'], []]);
    a!.removeFollower('somebody else');
    assert.equal(a!.followers.size, 1);
    a!.removeFollower('somebody');
    assert.equal(a!.followers, b!.followers);
  });

  it('forgets as many also where few are without followers, so that making room stays rare', () => {
    const { history, publish } = openHistory({ maxTopics: 300 });
    for (let i = 0; i < 300; i++) {
      publish(`t${i}`);
      if (i !== 150) history.follow(`t${i}`).addFollower('somebody');
    }
    publish('new');
    const forgotten = list(history).filter(({ isHeld }) => !isHeld);
    assert.deepEqual(
      forgotten.map(({ name }) => name),
      ['t0', 't1'],
    );
    assert.equal(history.get('t150'), undefined);
  });

  it('counts a topic as silent from its last event or its end on, whatever the order of their names or ages', () => {
    const { history, publish } = openHistory({ maxTopics: 3 });
    for (const topic of ['a', 'b', 'c', 'a']) publish(topic);
    publish('d');
    assert.deepEqual(sizes(history), { a: 2, c: 1, d: 1 });
    publish('c');
    publish('e');
    assert.deepEqual(sizes(history), { c: 2, d: 1, e: 1 });
  });

  it('forgets topics without followers first, and then the history of those that have some', () => {
    const { history, publish } = openHistory({ maxTopics: 2 });
    for (const topic of ['a', 'b']) {
      publish(topic);
      history.follow(topic).addFollower('somebody');
    }
    publish('c');
    assert.deepEqual(sizes(history), { a: 0, b: 1, c: 1 });
    assert.deepEqual([history.get('a')!.ring.dropped, history.get('a')!.isHeld], [1, false]);
    publish('d');
    assert.deepEqual(sizes(history), { a: 0, b: 1, d: 1 });
    history.get('a')!.removeFollower('somebody');
    history.release(history.get('a')!);
    assert.deepEqual(sizes(history), { b: 1, d: 1 });
  });

  it('gives topics that are only followed a number of their own, which takes nothing from the others', () => {
    const { history, publish } = openHistory({ maxTopics: 2, maxFollowedTopics: 3 });
    for (const topic of ['a', 'b']) publish(topic);
    for (const topic of ['x', 'y', 'z']) history.follow(topic).addFollower('somebody');
    assert.throws(() => history.follow('w'), {
      code: 'ERR_SSE_TOO_MANY_FOLLOWED',
      status: 503,
      message: /^all 3 topics .*`maxFollowedTopics`/,
    });
    assert.deepEqual(sizes(history), { a: 1, b: 1, x: 0, y: 0, z: 0 });
    publish('x');
    assert.deepEqual(sizes(history), { b: 1, x: 1, y: 0, z: 0 });
    assert.equal(history.follow('w').name, 'w');
    history.get('y')!.removeFollower('somebody');
    history.release(history.get('y')!);
    assert.equal(history.follow('v').name, 'v');
  });

  it('knows that a topic which is not in memory may have lost events', () => {
    const { history, publish } = openHistory({ maxTopics: 1 }, 7);
    assert.equal(history.follow('a').ring.dropped, 7);
    publish('a');
    publish('a');
    publish('b');
    assert.equal(history.get('a'), undefined);
    // Before "a" was forgotten, it was known that "b" had lost nothing after 7.
    assert.deepEqual([history.get('b')!.ring.dropped, history.follow('a').ring.dropped], [7, 9]);
  });

  it('knows it also after a topic was removed that had lost less', () => {
    const { history, publish } = openHistory({ maxTopics: 1 }, 7);
    const quiet = history.follow('quiet');
    publish('a');
    publish('b');
    assert.equal(history.get('a'), undefined);
    history.release(quiet);
    assert.equal(history.follow('a').ring.dropped, 8);
  });

  it('knows that a topic has ended after it was forgotten, as long as not too many others ended since', () => {
    const { history, publish } = openHistory({ maxTopics: 2 });
    const end = (name: string) => {
      publish(name);
      history.get(name)!.ended = true;
    };
    for (const topic of ['a', 'b', 'c']) end(topic);
    assert.deepEqual([history.get('a'), history.endOf('a'), history.endOf('c')], [undefined, 1, 3]);
    const again = history.follow('a');
    assert.deepEqual([again.ended, again.ring.dropped, again.isHeld], [true, 1, false]);
    history.release(again);
    assert.equal(history.endOf('a'), 1);
    for (const topic of ['d', 'e']) end(topic);
    assert.deepEqual(
      ['a', 'b', 'c', 'd', 'e', 'never'].map((name) => history.endOf(name)),
      [undefined, 2, 3, 4, 5, undefined],
    );
    assert.deepEqual(
      [history.reopen('b'), history.endOf('b'), history.reopen('b')],
      [true, undefined, false],
    );
    assert.deepEqual(
      [history.delete('c'), history.endOf('c'), history.delete('c')],
      [true, undefined, false],
    );
  });
});

describe('a topic', () => {
  it('is removed with its last follower if it is unused, and stays otherwise', () => {
    const { history, publish } = openHistory();
    const [unused, used] = [history.follow('unused'), history.follow('used')];
    publish('used');
    for (const topic of [unused, used]) {
      topic.addFollower('somebody');
      history.release(topic);
      assert.equal(history.get(topic.name), topic);
      topic.removeFollower('somebody');
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
    assert.equal(history.delete('a'), true);
    assert.deepEqual([topic.ring.size, topic.ring.dropped, topic.ended, topic.deleted], [0, 4, false, true]);
    assert.equal(history.bytes, held(10));
    publish('a', 10);
    assert.deepEqual([topic.ring.size, topic.ring.dropped, topic.deleted], [1, 4, false]);
    assert.equal(history.delete('never'), false);
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
      assert.throws(() => openHistory().history.follow(name), wanted);
      assert.throws(() => openHistory().history.prepare(name), wanted);
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
    [{ maxFollowedTopics: 0 }, '`maxFollowedTopics` must be a number ≥ 1, got 0'],
    [{ maxEventBytes: 0 }, '`maxEventBytes` must be a number ≥ 1, got 0'],
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
