import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { LogEntry } from '../lib/log.ts';
import { MemoryLog } from '../lib/memory-log.ts';

/** An event with a frame of so many bytes. */
const entry = (seq: number, topic = 'a', bytes = 10, key?: string): LogEntry => {
  return { seq, topic, at: seq, frame: Buffer.alloc(bytes, 'x'), key };
};

function filled(log: MemoryLog, count: number, topic?: string, bytes?: number): MemoryLog {
  for (let i = 0; i < count; i++) log.append([entry(log.head + 1, topic, bytes)]);
  return log;
}

const seqsOf = (log: MemoryLog, ...topics: string[]): number[] =>
  log.read(topics, 0, Infinity, { newestOnly: false }).entries.map(({ seq }) => seq);

const droppedOf = (log: MemoryLog, ...topics: string[]) =>
  log.read(topics, 0, Infinity, { newestOnly: false }).dropped;

describe('a log in memory', () => {
  it('keeps the newest events of a topic, by number and by the bytes of their frames', () => {
    const byNumber = filled(new MemoryLog({ history: { maxEvents: 3 } }), 5);
    assert.deepEqual(seqsOf(byNumber, 'a'), [3, 4, 5]);
    assert.deepEqual(droppedOf(byNumber, 'a'), [{ topic: 'a', seq: 2 }]);
    const byBytes = filled(new MemoryLog({ history: { maxBytes: 25 } }), 5);
    assert.deepEqual(seqsOf(byBytes, 'a'), [4, 5]);
    assert.equal(byBytes.find(['a'])[0]?.bytes, 20);
  });

  it('counts the bytes of frames without their keys, whatever was dropped', () => {
    const log = new MemoryLog({ history: { maxEvents: 2 } });
    for (const key of ['a long key', undefined, 'k']) log.append([entry(log.head + 1, 'a', 10, key)]);
    assert.equal(log.find(['a'])[0]?.bytes, 20);
    log.append([entry(4, 'a', 30, 'another key')]);
    assert.equal(log.find(['a'])[0]?.bytes, 40);
  });

  it('keeps the newest event, whatever its size', () => {
    const log = filled(new MemoryLog({ history: { maxBytes: 5 } }), 2);
    assert.deepEqual(seqsOf(log, 'a'), [2]);
  });

  it('returns no event that is too old, and states it as dropped', () => {
    let now = 0;
    const log = filled(new MemoryLog({ history: { maxAge: 10 }, now: () => now }), 4);
    now = 12.5;
    assert.deepEqual(seqsOf(log, 'a'), [3, 4]);
    now = 100;
    assert.deepEqual(seqsOf(log, 'a'), []);
    assert.deepEqual(droppedOf(log, 'a'), [{ topic: 'a', seq: 4 }]);
    assert.deepEqual(
      log.list().map(({ events, last }) => [events, last]),
      [[0, 4]],
    );
  });

  it('forgets the topic that was silent for longest, and then takes what it had for lost', () => {
    const log = new MemoryLog({ maxTopics: 2 });
    for (const topic of ['a', 'b', 'a', 'c']) filled(log, 1, topic);
    assert.deepEqual(
      log.list().map(({ topic }) => topic),
      ['a', 'c'],
    );
    assert.deepEqual(droppedOf(log, 'a', 'b'), [{ topic: 'b', seq: 2 }]);
    filled(log, 1, 'b');
    assert.deepEqual(
      droppedOf(log, 'b'),
      [{ topic: 'b', seq: 3 }],
      'of `a`, which made room, no more is known',
    );
  });

  it('holds no more memory than maxHistoryBytes: topics that were silent for longest lose theirs', () => {
    const log = new MemoryLog({ maxHistoryBytes: 1024 * 1024 });
    filled(log, 20, 'silent', 1000);
    for (let i = 0; i < 40; i++) filled(log, 100, `busy ${i % 4}`, 1000);
    assert.ok(log.bytes <= 1024 * 1024, `${log.bytes}`);
    assert.deepEqual(seqsOf(log, 'silent'), []);
    assert.deepEqual(droppedOf(log, 'silent'), [{ topic: 'silent', seq: 20 }]);
    assert.equal(seqsOf(log, 'busy 3').at(-1), log.head);
  });

  it('keeps the newest maxKeys idempotency keys, and 8 MiB of them', () => {
    const log = new MemoryLog({ maxKeys: 2 });
    for (const key of ['a', 'b', 'c']) log.append([], [{ key, digest: 'd', first: 1, count: 1 }]);
    assert.deepEqual(
      ['a', 'b', 'c'].map((key) => log.recall(key) !== undefined),
      [false, true, true],
    );
    const large = new MemoryLog();
    for (const key of ['a', 'b', 'c']) {
      large.append([], [{ key, digest: 'd'.repeat(2 * 1024 * 1024), first: 1, count: 1 }]);
    }
    assert.deepEqual(
      ['a', 'b', 'c'].map((key) => large.recall(key) !== undefined),
      [false, false, true],
    );
  });

  it('keeps nothing of an append in which one entry cannot be kept', () => {
    const log = new MemoryLog();
    for (const [wrong, message] of [
      [entry(1), /`seq` must be a whole number above 1, got 1/],
      [{ ...entry(2), at: NaN }, /`at` must be a number of milliseconds, got NaN/],
      [entry(2, 'a', 1, 'k'.repeat(65_535)), /`key` must have at most 65534 characters, got 65535/],
    ] as const) {
      assert.throws(() => log.append([entry(1), wrong]), { name: 'RangeError', message });
      assert.deepEqual([log.head, log.list()], [0, []]);
    }
  });

  it('begins an epoch of its own', (t) => {
    // In one millisecond they differ by a random number, which may be the same one.
    const digits = [0.1, 0.2];
    t.mock.method(Math, 'random', () => digits.shift()!);
    const [one, other] = [new MemoryLog({ now: () => 7 }), new MemoryLog({ now: () => 7 })];
    assert.equal(one.epochs.length, 1);
    assert.notEqual(one.epochs[0]!.epoch, other.epochs[0]!.epoch);
  });

  it('names an option that is out of range', () => {
    assert.throws(
      () => new MemoryLog({ history: { maxEvents: 0 } }),
      /`maxEvents` must be a whole number ≥ 1, got 0/,
    );
    assert.throws(() => new MemoryLog({ maxTopics: 0 }), /`maxTopics` must be a number ≥ 1, got 0/);
    assert.throws(() => new MemoryLog({ maxKeys: 0 }), /`maxKeys` must be a number ≥ 1, got 0/);
    assert.throws(
      () => new MemoryLog({ maxHistoryBytes: 0 }),
      /`maxHistoryBytes` must be a number ≥ 1, got 0/,
    );
  });
});
