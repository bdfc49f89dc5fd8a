import assert from 'node:assert/strict';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import { describe, it, type TestContext } from 'node:test';
import { toChunk } from '../lib/chunked.ts';
import type { HubOptions, SharedChunk, Sink } from '../lib/hub.ts';
import type { LogPage } from '../lib/log.ts';
import { collectGarbage } from './helpers/garbage.ts';
import {
  at,
  drain,
  handRun,
  MemoryReader,
  segmentPrototype,
  seqOf,
  slowReader,
  TestLog,
  times,
} from './helpers/hub.ts';

describe('slow readers', () => {
  it('writes to a slow reader when it drains, and not before', async () => {
    const { hub, turns } = handRun({ maxPageBytes: 80 });
    for (let i = 0; i < 10; i++) hub.publish('a', { data: `event ${i}` });
    const reader = slowReader();
    const subscription = hub.subscribe('a', reader, { lastEventId: at(0) });
    turns.all();
    assert.equal(reader.chunks.length, 1);
    for (let chunks = 2; reader.texts.length < 10; chunks++) {
      hub.publish('b', { data: 'a turn that is no business of the reader' });
      turns.all();
      assert.equal(reader.chunks.length, chunks - 1);
      await drain(reader);
      turns.all();
      assert.equal(reader.chunks.length, chunks);
    }
    assert.deepEqual(
      reader.texts,
      times(10, (i) => `event ${i}`),
    );
    await drain(reader);
    turns.all();
    assert.equal(subscription.lag, 0);
  });

  it('sends a gap to a slow reader that was overtaken', async () => {
    const { hub, turns } = handRun({ history: { maxEvents: 2 } });
    const reader = slowReader();
    hub.subscribe('a', reader);
    for (let i = 1; i <= 9; i++) {
      hub.publish('a', { data: String(i) });
      turns.all();
    }
    for (let i = 0; i < 4; i++) {
      await drain(reader);
      turns.all();
    }
    assert.deepEqual(
      reader.gaps.map(({ from, to }) => [from, to]),
      [[at(0), at(7)]],
    );
    assert.deepEqual(reader.texts, ['8', '9']);
  });

  it('cuts off a slow reader that was overtaken, by option, and sends it the gap when it returns', async () => {
    const { hub, turns } = handRun({ history: { maxEvents: 2 }, overtaken: 'close' });
    const reader = slowReader();
    hub.subscribe('a', reader);
    turns.all();
    await drain(reader);
    for (let i = 1; i <= 9; i++) {
      hub.publish('a', { data: String(i) });
      turns.all();
    }
    await drain(reader);
    turns.all();
    assert.equal(reader.cutFor, 'slow-consumer');
    assert.deepEqual([reader.texts, reader.gaps, hub.size], [['1'], [], 0]);
    const again = new MemoryReader();
    hub.subscribe('a', again, { lastEventId: at(1) });
    turns.all();
    assert.deepEqual(
      again.gaps.map(({ from, to }) => [from, to]),
      [[at(1), at(7)]],
    );
    assert.deepEqual(again.texts, ['8', '9']);
  });

  it('gives subscribers at the same place the same Buffer', () => {
    const { hub, turns } = handRun();
    const readers = times(5, () => new MemoryReader());
    for (const reader of readers.slice(0, 3)) hub.subscribe('a', reader);
    turns.all();
    for (let i = 0; i < 9; i++) hub.publish('b', { data: 'between' });
    for (const reader of readers.slice(3)) hub.subscribe('a', reader, { lastEventId: at(4) });
    turns.all();
    hub.publish('a', { data: 'x' });
    hub.publish('a', { data: 'y' });
    turns.all();
    for (const { chunks } of readers) {
      assert.equal(chunks.length, 2);
      assert.equal(chunks[1], readers[0]!.chunks[1]);
    }
    const backs = times(3, () => new MemoryReader());
    for (const back of backs) hub.subscribe('a', back, { lastEventId: at(9) });
    turns.all();
    for (const back of backs) assert.equal(back.chunks[1], backs[0]!.chunks[1]);
  });

  it('gives the Buffer of a full page also to subscribers that reach its position in later turns', () => {
    const { hub, turns } = handRun({ maxPageBytes: 64 * 1024 });
    for (let i = 0; i < 200; i++) hub.publish('a', { data: 'x'.repeat(1000) });
    const readers = times(50, () => new MemoryReader());
    for (const reader of readers) hub.subscribe('a', reader, { lastEventId: at(0) });
    assert.ok(turns.all() > 10);
    for (const reader of readers) assert.equal(reader.texts.length, 200);
    const full = readers.flatMap(({ chunks }) => chunks.filter(({ length }) => length > 60 * 1024));
    assert.equal(full.length, 150);
    assert.equal(new Set(full).size, 3);
  });

  it('writes pages that a socket of 64 KiB takes without asking to wait, with the frame of a chunk around them', () => {
    const { hub, turns } = handRun();
    for (let i = 0; i < 500; i++) hub.publish('a', { data: 'x'.repeat(1000) });
    const reader = new MemoryReader();
    hub.subscribe('a', reader, { lastEventId: at(0) });
    turns.all();
    assert.equal(reader.texts.length, 500);
    const longest = Math.max(...reader.chunks.map((chunk) => toChunk(chunk).length));
    assert.ok(longest > 50 * 1024 && longest < 64 * 1024, `${longest} bytes`);
  });

  it('delivers nothing that a gap has called lost, not even from a page that others were sent before', () => {
    const history = (topic: string) => ({ maxEvents: topic === 'a' ? 3 : 100 });
    const { hub, turns } = handRun({ maxPageBytes: 105, history });
    for (const data of ['a1', 'b2', 'a3', 'b4', 'b5']) hub.publish(data[0]!, { data });
    const [first, second] = [new MemoryReader(), new MemoryReader()];
    hub.subscribe(['a', 'b'], first, { lastEventId: at(0) });
    turns.next();
    turns.next();
    assert.deepEqual(first.texts, ['a1', 'b2', 'a3']);
    for (let i = 6; i <= 10; i++) hub.publish('a', { data: `a${i}` });
    hub.subscribe(['a', 'b'], second, { lastEventId: at(0) });
    turns.all();
    assert.deepEqual(
      second.gaps.map(({ from, to, topics }) => [from, to, ...topics]),
      [[at(0), at(7), 'a']],
    );
    assert.deepEqual(second.texts, ['b2', 'b4', 'b5', 'a8', 'a9', 'a10']);
  });

  it('keeps no page of a conflating subscriber: the next one gets what is newest by then', () => {
    const { hub, turns } = handRun({ maxPageBytes: 45 });
    for (const data of ['x1', 'y1', 'z1']) hub.publish('a', { data, key: data[0] });
    const [first, second] = [new MemoryReader(), new MemoryReader()];
    hub.subscribe('a', first, { lastEventId: at(0), conflate: true });
    turns.next();
    turns.next();
    assert.deepEqual(first.texts, ['x1']);
    hub.publish('a', { data: 'x2', key: 'x' });
    hub.subscribe('a', second, { lastEventId: at(0), conflate: true });
    turns.all();
    assert.deepEqual(first.texts, ['x1', 'y1', 'z1', 'x2']);
    assert.deepEqual(second.texts, ['y1', 'z1', 'x2']);
  });

  it('does not keep the last page: the next subscriber gets what was published meanwhile in the same piece', () => {
    const { hub, turns } = handRun();
    hub.publish('a', { data: '1' });
    const [first, second] = [new MemoryReader(), new MemoryReader()];
    hub.subscribe('a', first, { lastEventId: at(0) });
    turns.all();
    hub.publish('a', { data: '2' });
    hub.subscribe('a', second, { lastEventId: at(0) });
    turns.all();
    assert.deepEqual(second.texts, ['1', '2']);
    assert.equal(second.chunks.length, 2);
  });

  for (const way of ['at the head', 'that catch up'] as const) {
    it(`keeps the pages of clients ${way} for one turn only`, async () => {
      const { hub, turns } = handRun();
      const sink = () => ({ write: () => true, end() {}, on() {}, off() {} });
      const topics = times(200, (i) => `t${i}`);
      const follow = () => {
        // Two topics each, so that a page is no part of the history.
        for (const topic of topics) hub.subscribe([topic, `${topic}b`], sink(), { lastEventId: at(0) });
        turns.all();
      };
      if (way === 'at the head') follow();
      const before = await buffersInUse();
      for (const topic of topics) {
        for (const name of [topic, `${topic}b`]) hub.publish(name, { data: 'x'.repeat(25_000) });
      }
      turns.all();
      if (way === 'that catch up') follow();
      const held = (await buffersInUse()) - before - hub.historyBytes;
      assert.ok(held < 2e6, `${held} bytes of ${200 * 50_000}`);
      assert.equal(hub.stats.delivered, 400);
    });
  }

  it('keeps no page for clients that have all left', async () => {
    const { hub, turns } = handRun();
    // Two topics, so that a page is no part of the history.
    for (let i = 0; i < 16; i++) hub.publish(i % 2 ? 'a' : 'b', { data: 'x'.repeat(60_000) });
    const reader = new MemoryReader();
    const subscription = hub.subscribe(['a', 'b'], reader, { lastEventId: at(0) });
    turns.all();
    assert.equal(reader.texts.length, 16);
    reader.chunks.length = 0;
    const before = await buffersInUse();
    subscription.close();
    const freed = before - (await buffersInUse());
    assert.ok(freed > 800_000, `${freed} bytes of ${15 * 60_000}`);
    // Read again, so that the hub itself was not what was collected.
    assert.equal(hub.size, 0);
  });

  it('keeps nothing in memory of topics that were forgotten', async () => {
    const { hub, turns } = handRun({ maxTopics: 1 });
    const play = (topic: string) => {
      for (let i = 0; i < 3000; i++) hub.publish(topic, { data: `${i}${'x'.repeat(1000)}` });
      const position = at(seqOf(hub.position) - 100);
      const subscription = hub.subscribe(topic, new MemoryReader(), { lastEventId: position });
      turns.all();
      subscription.close();
    };
    const inUse = async () => (await buffersInUse()) + process.memoryUsage().heapUsed;
    play('first');
    const before = await inUse();
    for (let i = 0; i < 12; i++) play(`topic-${i}`);
    const held = (await inUse()) - before;
    assert.ok(held < 6e6, `${held} bytes, two topics' worth and more`);
    // Read again, so that the hub itself was not what was collected.
    assert.equal(hub.topics().length, 1);
  });
});

/**
 * Bytes of the Buffers that are reachable. Dead ones are freed in the background, until the next collection.
 */
async function buffersInUse(): Promise<number> {
  collectGarbage();
  await new Promise((resolve) => setImmediate(resolve));
  collectGarbage();
  return process.memoryUsage().arrayBuffers;
}

describe('turns', () => {
  it('writes once to each connection in a turn, whatever was published in it', () => {
    const { hub, turns } = handRun();
    const readers = times(4, () => new MemoryReader());
    for (const reader of readers) hub.subscribe(['a', 'b'], reader);
    turns.all();
    for (let i = 0; i < 16; i++) hub.publish(i % 2 ? 'a' : 'b', { data: String(i) });
    assert.equal(turns.planned, 1);
    turns.all();
    for (const { chunks, texts } of readers) {
      assert.equal(chunks.length, 2);
      assert.deepEqual(texts, times(16, String));
    }
  });

  it('does not write twice in a turn to a connection that fell behind, even when others leave meanwhile', () => {
    const { hub, turns } = handRun({ maxPageBytes: 45 });
    const reader = new MemoryReader();
    hub.subscribe('b', reader);
    turns.all();
    // Three others are due in the next turn. The reader at the head falls behind in it, and its write closes
    // two of them.
    for (let i = 0; i < 3; i++) hub.publish('b', { data: `event ${i}` });
    const due = times(3, () => hub.subscribe('c', new MemoryReader()));
    let writes = 0;
    reader.write = (chunk: Buffer) => {
      writes++;
      for (const subscription of due.slice(1)) subscription.close();
      return MemoryReader.prototype.write.call(reader, chunk);
    };
    turns.next();
    assert.equal(writes, 1);
    turns.all();
    assert.deepEqual(reader.texts, ['event 0', 'event 1', 'event 2']);
  });

  it('runs only the subscriptions of the topics that were published to, among 10,000 topics', () => {
    const { hub, turns } = handRun();
    const readers = times(10_000, (i) => {
      const reader = { writes: 0, write: () => reader.writes++ >= 0, end() {}, on() {}, off() {} };
      hub.subscribe(`t${i}`, reader);
      return reader;
    });
    turns.all();
    for (const i of [5, 5000]) hub.publish(`t${i}`, { data: 'x' });
    assert.equal(turns.all(), 1);
    const woken = readers.flatMap(({ writes }, i) => (writes === 2 ? [i] : []));
    assert.deepEqual(woken, [5, 5000]);
    assert.equal(hub.topics().length, 10_000);
  });

  it('goes on when onDelivered throws', () => {
    let calls = 0;
    const onDelivered = () => {
      calls++;
      throw new Error('theirs');
    };
    const { hub, turns } = handRun({ onDelivered, maxPageBytes: 45 });
    const reader = new MemoryReader();
    for (const data of ['1', '2', '3']) hub.publish('a', { data });
    hub.subscribe('a', reader, { lastEventId: at(0) });
    assert.throws(() => turns.next(), /theirs/);
    turns.all();
    assert.deepEqual(reader.texts, ['1', '2', '3']);
    assert.equal(calls, 1);
  });

  it('calls onDelivered once for a turn, with the time since the first of its events was published', () => {
    let now = 1000;
    const latencies: number[] = [];
    const { hub, turns } = handRun({ now: () => now, onDelivered: ({ latency }) => latencies.push(latency) });
    hub.subscribe('a', new MemoryReader());
    hub.subscribe('b', new MemoryReader());
    turns.all();
    assert.deepEqual(latencies, []);
    hub.publish('a', { data: '1' });
    now += 30;
    hub.publish('b', { data: '2' });
    now += 5;
    turns.all();
    now += 100;
    hub.publish('a', { data: '3' });
    now += 7;
    turns.all();
    assert.deepEqual(latencies, [35, 7]);
  });

  it('does not count the time of clients that catch up into the latency', () => {
    let now = 0;
    const latencies: number[] = [];
    const { hub, turns } = handRun({ now: () => now, onDelivered: ({ latency }) => latencies.push(latency) });
    hub.subscribe('a', new MemoryReader());
    turns.all();
    const slow = new MemoryReader();
    slow.write = () => {
      now += 1000;
      return true;
    };
    hub.subscribe('b', slow);
    hub.publish('a', { data: 'x' });
    now += 5;
    turns.all();
    assert.deepEqual(latencies, [5]);
  });

  it('does not call onDelivered for events that nobody follows', () => {
    let calls = 0;
    const { hub, turns } = handRun({ onDelivered: () => calls++ });
    hub.publish('a', { data: 'x' });
    turns.all();
    assert.equal(calls, 0);
  });

  it('plans no turn when there is nothing to do', () => {
    const { hub, turns } = handRun();
    hub.subscribe('a', new MemoryReader());
    hub.subscribe('a', new MemoryReader(), { lastEventId: at(0) });
    hub.publish('a', { data: 'x' });
    assert.ok(turns.all() < 5);
    hub.publish('nobody-reads-it', { data: 'x' });
    assert.equal(turns.all(), 1);
  });

  it('catches up with a crowd of returning clients a few at a time, and delivers to the others in between', () => {
    const { hub, turns } = handRun();
    for (let i = 0; i < 1000; i++) hub.publish('past', { data: 'x'.repeat(1000) });
    const backs = times(200, () => new MemoryReader());
    for (const back of backs) hub.subscribe('past', back, { lastEventId: at(0) });
    const live = new MemoryReader();
    hub.subscribe('now', live);
    while (live.events.length === 0) turns.next();
    for (let i = 1; i <= 20; i++) {
      const before = hub.stats.deliveredBytes;
      hub.publish('now', { data: String(i) });
      turns.next();
      assert.equal(live.texts.length, i);
      assert.ok(hub.stats.deliveredBytes - before < 1.2 * 1024 * 1024);
    }
    turns.all();
    for (const back of backs) assert.equal(back.texts.length, 1000);
  });

  it('counts each event that it looks at, also where many of one topic follow each other', () => {
    for (const [topics, conflate] of [
      [2, false],
      [1, true],
    ] as const) {
      const { hub, turns } = handRun();
      const names = times(topics, (i) => `t${i}`);
      for (let i = 0; i < 6000; i++) hub.publish(names[Math.floor(i / 1000) % topics]!, { data: 'x' });
      turns.all();
      // Each has a position of its own, so each page is made for one reader.
      for (let i = 0; i < 200; i++)
        hub.subscribe(names, new MemoryReader(), { lastEventId: at(i), conflate });
      while (hub.stats.delivered < 1_000_000) {
        const { delivered, deliveredBytes } = hub.stats;
        turns.next();
        const cost = hub.stats.deliveredBytes - deliveredBytes + (hub.stats.delivered - delivered) * 40;
        assert.ok(cost < 1.3 * 1024 * 1024, `${cost} in a turn, ${topics} topics, conflate ${conflate}`);
      }
    }
  });

  it('looks at few more events than it delivers: one topic or many, conflating or not, from any place', (t) => {
    // A mock would keep each of the millions of calls: a gigabyte.
    const segment = segmentPrototype();
    const { seqOf } = segment;
    let count = 0;
    segment.seqOf = function (place) {
      count++;
      return seqOf.call(this, place);
    };
    t.after(() => Object.assign(segment, { seqOf }));
    for (const topics of [1, 2, 64]) {
      for (const conflate of [false, true]) {
        const { hub, turns } = handRun();
        const names = times(topics, (i) => `t${i}`);
        for (let i = 0; i < 6400; i++) {
          // The first keys are never seen again, the others are replaced again and again.
          hub.publish(names[i % topics]!, { data: 'x', key: i < 100 ? `k${i}` : `k${i % 10}` });
        }
        const readers = times(200, () => new MemoryReader());
        readers.forEach((reader, i) => {
          hub.subscribe(names, reader, { lastEventId: at((i % 100) * 60), conflate });
        });
        count = 0;
        turns.all();
        const { delivered } = hub.stats;
        const pages = 200 * 64; // each look-up of a place takes some steps in each topic
        const most = 2 * delivered + 14 * pages;
        assert.ok(
          count > 200 && count <= most,
          `${count} for ${delivered}, ${topics} topics, conflate ${conflate}`,
        );
        assert.ok(readers.every(({ texts }) => texts.length > 0));
      }
    }
  });

  it('tells a crowd of returning clients of their gaps a few at a time', () => {
    const { hub, turns } = handRun({ history: { maxEvents: 1 } });
    const topics = times(64, (i) => `topic-${i}`);
    for (const topic of [...topics, ...topics]) hub.publish(topic, { data: 'x' });
    let written = 0;
    const write = ({ length }: Uint8Array) => {
      written += length;
      return true;
    };
    for (let i = 0; i < 1000; i++)
      hub.subscribe(topics, { write, end() {}, on() {}, off() {} }, { lastEventId: at(0) });
    const perTurn: number[] = [];
    for (; turns.next(); written = 0) perTurn.push(written);
    assert.ok(Math.max(...perTurn) < 1.2 * 1024 * 1024, String(perTurn));
    assert.equal(hub.stats.gaps.evicted, 64_000);
  });

  it('begins with a crowd of new clients a part at a time, also those for which there is nothing to write', () => {
    const { hub, turns } = handRun();
    let steps = 0;
    const may = () => {
      steps++;
      return true;
    };
    hub.publish('b', { data: 'x' });
    for (let i = 0; i < 20_000; i++)
      hub.subscribe('a', { write: () => true, end() {}, on() {}, off() {} }, { may, lastEventId: at(0) });
    const perTurn: number[] = [];
    for (; turns.next(); steps = 0) perTurn.push(steps);
    assert.ok(perTurn[0]! < 8000, String(perTurn)); // these write their first bytes
    assert.ok(Math.max(...perTurn) < 17_000, String(perTurn));
    assert.equal(
      perTurn.reduce((sum, count) => sum + count, 0),
      40_000,
    );
  });

  it('counts the conflated events once for all clients at the same place', () => {
    const { hub, turns } = handRun();
    for (let i = 0; i < 10_000; i++) hub.publish('a', { key: 'k', data: 'x' });
    const readers = times(100, () => new MemoryReader());
    for (const reader of readers) hub.subscribe('a', reader, { lastEventId: at(0), conflate: true });
    turns.next();
    turns.next();
    for (const { texts } of readers) assert.equal(texts.length, 1);
  });

  it('serves clients that are behind in each turn, however much goes to those at the head', () => {
    const { hub, turns } = handRun();
    for (let i = 0; i < 30; i++) hub.subscribe('busy', new MemoryReader());
    turns.all();
    const reader = new MemoryReader();
    hub.publish('busy', { data: 'x'.repeat(50_000) });
    hub.subscribe('quiet', reader);
    turns.next();
    assert.deepEqual(
      reader.events.map(({ event }) => event),
      ['sluice:ready'],
    );
  });
});

describe('shared bytes', () => {
  /** A sink that makes something of shared bytes, once for all. */
  class SharingReader extends MemoryReader {
    readonly shared: SharedChunk[] = [];

    writeShared(chunk: SharedChunk): boolean {
      chunk.made ??= { by: this };
      this.shared.push(chunk);
      return this.write(Buffer.from(chunk.bytes));
    }
  }

  it('gives events to `writeShared`, the same object to all at the same place, with what the first has made', () => {
    const { hub, turns } = handRun();
    const [first, second, plain] = [new SharingReader(), new SharingReader(), new MemoryReader()];
    for (const reader of [first, second, plain]) hub.subscribe('a', reader);
    turns.all();
    hub.publish('a', { data: '1' });
    turns.all();
    hub.publish('a', { data: '2' });
    turns.all();
    assert.deepEqual(
      [first.texts, second.texts, plain.texts],
      [
        ['1', '2'],
        ['1', '2'],
        ['1', '2'],
      ],
    );
    assert.equal(first.shared.length, 2);
    for (const i of [0, 1]) {
      assert.equal(second.shared[i], first.shared[i]);
      assert.deepEqual(second.shared[i]!.made, { by: first });
      assert.equal(plain.chunks[i + 1], first.shared[i]!.bytes);
    }
  });

  it('gives ready, gaps and the end to `write`, because they differ from client to client', () => {
    const { hub, turns } = handRun();
    const reader = new SharingReader();
    hub.subscribe('a', reader, { lastEventId: 'x' });
    hub.end('a');
    turns.all();
    assert.deepEqual([reader.story, reader.shared], [['sluice:ready', 'sluice:gap', 'sluice:end'], []]);
  });

  it('waits for the drain of a sink whose `writeShared` refuses, and cuts off one whose `writeShared` throws', async () => {
    const { hub, turns } = handRun({ maxPageBytes: 45 });
    const [slow, broken] = [new SharingReader({ highWaterMark: 1 }), new SharingReader()];
    broken.writeShared = () => {
      throw new Error('broken');
    };
    for (const reader of [slow, broken]) hub.subscribe('a', reader);
    turns.all();
    await drain(slow);
    turns.all();
    for (const data of ['1', '2']) hub.publish('a', { data });
    turns.all();
    assert.deepEqual([slow.texts, broken.texts, broken.cutFor], [['1'], [], 'error']);
    await drain(slow);
    turns.all();
    assert.deepEqual(slow.texts, ['1', '2']);
  });
});

describe('the channel sluice.hub.gap', () => {
  /** Listens until the test is over. */
  function listen(t: TestContext, listener: (message: unknown) => void): void {
    subscribe('sluice.hub.gap', listener);
    t.after(() => unsubscribe('sluice.hub.gap', listener));
  }

  it('publishes the reason and the topics of every gap', (t) => {
    const messages: unknown[] = [];
    listen(t, (message) => messages.push(message));
    const { hub, turns } = handRun({ history: { maxEvents: 1 } });
    for (const topic of ['a', 'a', 'b']) hub.publish(topic, { data: 'x' });
    for (const lastEventId of [at(0), at(9), at(3)]) {
      hub.subscribe(['a', 'b'], new MemoryReader(), { lastEventId });
      turns.all();
    }
    assert.deepEqual(messages, [
      { reason: 'evicted', topics: ['a'] },
      { reason: 'ahead', topics: ['a', 'b'] },
    ]);
  });

  it('lets a listener end the other connections without a loss to the one that is coming', (t) => {
    const { hub, turns } = handRun();
    const [old, coming] = [new MemoryReader(), new MemoryReader()];
    hub.subscribe('a', old);
    turns.all();
    listen(t, () => hub.kick((sink) => sink === old));
    hub.subscribe('a', coming, { lastEventId: 'x' });
    turns.all();
    hub.publish('a', { data: 'x' });
    turns.all();
    assert.deepEqual([coming.texts, hub.size], [['x'], 1]);
  });

  it('lets a listener end the connection that is sent the gap, without a write after its end', (t) => {
    const { hub, turns } = handRun({ history: { maxEvents: 1 } });
    for (const data of ['1', '2']) hub.publish('a', { data });
    const reader = new MemoryReader();
    let isOver = false;
    let late = 0;
    const write = reader.write.bind(reader);
    reader.write = (chunk: Buffer) => {
      if (isOver) late++;
      return write(chunk);
    };
    hub.subscribe('a', reader, { lastEventId: at(0) });
    listen(t, () => {
      isOver = true;
      hub.kick(() => true);
    });
    turns.all();
    assert.deepEqual([reader.story, late, hub.size], [['sluice:ready', 'sluice:gap'], 0, 0]);
  });
});

describe('sinks', () => {
  it('cuts off a sink that throws, and goes on with the others', () => {
    const { hub, turns } = handRun();
    const readers = times(5, () => new MemoryReader());
    for (const reader of readers) hub.subscribe('a', reader);
    turns.all();
    readers[2]!.write = () => {
      throw new Error('broken');
    };
    hub.publish('a', { data: 'x' });
    hub.publish('a', { data: 'y' });
    turns.all();
    assert.deepEqual(
      readers.map(({ texts }) => texts.join('')),
      ['xy', 'xy', '', 'xy', 'xy'],
    );
    assert.equal(readers[2]!.cutFor, 'error');
    assert.equal(hub.size, 4);
  });

  it('goes on with the others when a sink throws at its end, or while it is cut off', () => {
    const { hub, turns } = handRun();
    const broken = () => {
      throw new Error('broken');
    };
    const [ending, cut, last] = [new MemoryReader(), new MemoryReader(), new MemoryReader()];
    for (const reader of [ending, cut, last]) hub.subscribe('a', reader);
    turns.all();
    ending.end = broken;
    cut.write = broken;
    cut.abort = broken;
    hub.publish('a', { data: 'x' });
    hub.end('a');
    turns.all();
    assert.equal(last.events.at(-1)!.event, 'sluice:end');
    assert.equal(hub.size, 0);
  });

  it("takes a sink's error without an uncaught exception", async () => {
    const { hub, turns } = handRun();
    const [failing, other] = [new MemoryReader(), new MemoryReader()];
    for (const reader of [failing, other]) hub.subscribe('a', reader);
    turns.all();
    const closed = new Promise((resolve) => failing.on('close', resolve));
    failing.destroy(new Error('connection reset'));
    hub.publish('a', { data: 'x' });
    turns.all();
    await closed;
    assert.deepEqual(other.texts, ['x']);
    assert.equal(hub.size, 1);
  });

  it('forgets a sink that closes, and removes its listeners', async () => {
    const { hub, turns } = handRun();
    const reader = new MemoryReader();
    const counts = () => ['drain', 'close'].map((name) => reader.listenerCount(name));
    const before = counts();
    hub.subscribe('a', reader);
    turns.all();
    reader.destroy();
    await once(reader, 'close');
    assert.deepEqual(counts(), before);
    assert.deepEqual([hub.size, hub.topics()], [0, []]);
  });

  for (const property of ['closed', 'destroyed', 'writableEnded']) {
    it(`gives a closed subscription for a sink that is ${property}, and writes nothing to it`, () => {
      const { hub, turns } = handRun();
      const sink = { [property]: true, write: () => assert.fail('written to'), end() {}, on() {}, off() {} };
      assert.equal(hub.subscribe('a', sink).closed, true);
      assert.equal(turns.all(), 0);
      assert.deepEqual([hub.size, hub.topics()], [0, []]);
    });

    it(`ends the subscription of a sink that becomes ${property} without a 'close'`, () => {
      const { hub, turns } = handRun();
      let writes = 0;
      const sink: Record<string, unknown> & Sink = {
        write: () => writes++ >= 0,
        end() {},
        on() {},
        off() {},
      };
      const subscription = hub.subscribe('a', sink);
      turns.all();
      sink[property] = true;
      hub.publish('a', { data: 'x' });
      turns.all();
      assert.deepEqual([subscription.closed, writes, hub.size], [true, 1, 0]);
    });
  }

  it('destroys a sink that throws and has no `abort`', () => {
    const { hub, turns } = handRun();
    let destroyed = 0;
    const write = () => {
      throw new Error('broken');
    };
    hub.subscribe('a', { write, end() {}, on() {}, off() {}, destroy: () => destroyed++ });
    turns.all();
    assert.deepEqual([destroyed, hub.size], [1, 0]);
  });

  it('forgets a subscription that is closed during its own write', () => {
    for (const taken of [true, false]) {
      const { hub, turns } = handRun();
      const [reader, other] = [new MemoryReader(), new MemoryReader()];
      const subscription = hub.subscribe('a', reader);
      hub.subscribe('a', other);
      turns.all();
      let writes = 0;
      reader.write = () => {
        writes++;
        subscription.close();
        return taken;
      };
      for (let i = 0; i < 3; i++) {
        hub.publish('a', { data: 'x' });
        turns.all();
      }
      assert.equal(writes, 1);
      assert.deepEqual(other.texts, ['x', 'x', 'x']);
      assert.deepEqual([hub.size, subscription.closed, turns.planned], [1, true, 0]);
      assert.equal(subscription.position, at(1)); // which would go on if it were waiting at the head
    }
  });

  it('lets a sink publish, subscribe, end and close inside its write', () => {
    const { hub, turns } = handRun();
    const [first, second, third] = [new MemoryReader(), new MemoryReader(), new MemoryReader()];
    hub.subscribe('a', first);
    const closing = hub.subscribe('a', second);
    turns.all();
    let done = false;
    first.write = (chunk: Buffer) => {
      if (!done) {
        done = true;
        hub.publish('a', { data: 'from inside' });
        hub.subscribe('a', third);
        closing.close();
      }
      return MemoryReader.prototype.write.call(first, chunk);
    };
    hub.publish('a', { data: 'x' });
    turns.all();
    assert.deepEqual(first.texts, ['x', 'from inside']);
    assert.deepEqual(second.texts, []);
    hub.publish('a', { data: 'y' });
    turns.all();
    assert.deepEqual([first.texts.at(-1), third.texts], ['y', ['y']]);
    done = false;
    first.write = () => {
      hub.end('a');
      return true;
    };
    hub.publish('a', { data: 'z' });
    turns.all();
    assert.deepEqual(third.events.at(-1)!.event, 'sluice:end');
    assert.equal(hub.size, 0);
  });

  it('lets a sink publish and subscribe while it closes', async () => {
    const { hub, turns } = handRun();
    const [leaving, staying, coming] = [new MemoryReader(), new MemoryReader(), new MemoryReader()];
    hub.subscribe('a', leaving);
    hub.subscribe('a', staying);
    turns.all();
    leaving.on('close', () => {
      hub.publish('a', { data: 'one has left' });
      hub.subscribe('a', coming, { lastEventId: at(0) });
    });
    leaving.destroy();
    await once(leaving, 'close');
    turns.all();
    assert.deepEqual([staying.texts, coming.texts], [['one has left'], ['one has left']]);
  });

  it('allows one subscription to a sink at a time', () => {
    const { hub } = handRun();
    const reader = new MemoryReader();
    const first = hub.subscribe('a', reader);
    assert.throws(() => hub.subscribe('b', reader), { name: 'TypeError', message: /subscribed already/ });
    first.close();
    assert.equal(hub.subscribe('b', reader).closed, false);
    assert.throws(() => hub.subscribe([], new MemoryReader()), {
      name: 'TypeError',
      message: /at least one topic/,
    });
  });
});

describe('a log behind the hub', () => {
  function logged(options: HubOptions = {}) {
    const log = new TestLog();
    return { log, ...handRun({ log, history: { maxEvents: 2 }, ...options }) };
  }

  it('reads from the log what memory no longer holds, page by page, without a gap', () => {
    const { hub, turns } = logged({ maxPageBytes: 70 });
    for (let i = 1; i <= 10; i++) hub.publish(i % 2 ? 'a' : 'b', { data: String(i) });
    for (let seq = 0; seq <= 10; seq++) {
      const reader = new MemoryReader();
      hub.subscribe(['a', 'b'], reader, { lastEventId: at(seq) });
      turns.all();
      assert.deepEqual(
        reader.texts,
        times(10 - seq, (i) => String(seq + i + 1)),
      );
      assert.deepEqual(reader.gaps, []);
    }
  });

  it("takes its epoch and head from the log, and continues another process's order", async () => {
    const { log, hub } = logged();
    for (let i = 1; i <= 5; i++) hub.publish('a', { data: String(i) });
    await hub.close();
    const { hub: next, turns } = handRun({ log });
    assert.equal(next.position, at(5));
    const [back, fresh] = [new MemoryReader(), new MemoryReader()];
    next.subscribe('a', back, { lastEventId: at(2) });
    next.subscribe('a', fresh);
    turns.all();
    assert.equal(next.publish('a', { data: '6' }), at(6));
    turns.all();
    assert.deepEqual(back.texts, ['3', '4', '5', '6']);
    assert.deepEqual(fresh.texts, ['6']);
  });

  it('ends the sink when the log cannot be read, so that the client returns after its retry', async () => {
    const failures = [
      () => {
        throw new Error('no');
      },
      () => Promise.reject(new Error('no')),
    ];
    for (const answer of failures) {
      const { log, hub, turns } = logged();
      for (let i = 1; i <= 5; i++) hub.publish('a', { data: String(i) });
      log.answer = answer;
      const reader = new MemoryReader();
      hub.subscribe('a', reader, { lastEventId: at(1) });
      turns.all();
      await new Promise((resolve) => setImmediate(resolve));
      assert.equal(turns.all(), 0);
      assert.deepEqual([reader.writableEnded, hub.size, reader.texts], [true, 0, []]);
    }
  });

  it('ends the sink when the log answers with no page, and asks it no second time', async () => {
    for (const page of [undefined, null, 7, {}, { entries: [], dropped: [], until: Number.NaN }]) {
      for (const answered of [page, Promise.resolve(page)]) {
        const { log, hub, turns } = logged();
        for (let i = 1; i <= 5; i++) hub.publish('a', { data: String(i) });
        let reads = 0;
        log.answer = () => {
          if (++reads > 10) throw new Error('asked again and again');
          return answered as never;
        };
        const reader = new MemoryReader();
        hub.subscribe('a', reader, { lastEventId: at(1) });
        turns.all();
        await new Promise((resolve) => setImmediate(resolve));
        turns.all();
        assert.deepEqual([reads, reader.writableEnded, hub.size, reader.texts], [1, true, 0, []]);
      }
    }
  });

  it('moves no reader beyond the newest event, whatever the log says that it has', () => {
    const { log, hub, turns } = logged();
    for (let i = 1; i <= 5; i++) hub.publish('a', { data: String(i) });
    log.answer = (look) => ({ ...(look() as LogPage), until: Number.POSITIVE_INFINITY });
    const reader = new MemoryReader();
    const subscription = hub.subscribe('a', reader, { lastEventId: at(1) });
    turns.all();
    assert.equal(subscription.position, at(5));
    hub.publish('a', { data: '6' });
    turns.all();
    assert.deepEqual(reader.texts, ['2', '3', '4', '5', '6']);
  });

  it('delivers to the others while the log has not answered yet', async () => {
    const { log, hub, turns } = logged();
    for (let i = 1; i <= 5; i++) hub.publish('a', { data: String(i) });
    let answer = () => {};
    log.answer = (look) => new Promise((resolve) => (answer = () => resolve(look())));
    const [back, live] = [new MemoryReader(), new MemoryReader()];
    const subscription = hub.subscribe('a', back, { lastEventId: at(1) });
    hub.subscribe('a', live);
    turns.all();
    hub.publish('a', { data: '6' });
    turns.all();
    assert.deepEqual([live.texts, back.texts, subscription.lag], [['6'], [], 5]);
    answer();
    await new Promise((resolve) => setImmediate(resolve));
    turns.all();
    assert.deepEqual(back.texts, ['2', '3', '4', '5', '6']);
  });

  it('conflates what it reads from the log as it does in memory, whatever the size of a page', () => {
    for (const maxPageBytes of [1, 70, 65_536]) {
      for (const history of [{ maxEvents: 2 }, {}]) {
        const { hub, turns } = logged({ maxPageBytes, history });
        for (let i = 1; i <= 9; i++) hub.publish('a', { data: String(i), key: i % 3 ? 'one' : 'other' });
        hub.publish('a', { data: '10' });
        for (let i = 11; i <= 12; i++) hub.publish('b', { data: String(i), key: 'one' });
        const reader = new MemoryReader();
        hub.subscribe(['a', 'b'], reader, { lastEventId: at(0), conflate: true });
        turns.all();
        assert.deepEqual([reader.texts, reader.gaps], [['8', '9', '10', '12'], []]);
      }
    }
  });

  it('names the topic of each event, from the log as from memory, whatever the size of a page', () => {
    for (const maxPageBytes of [1, 100, 65_536]) {
      for (const history of [{ maxEvents: 2 }, {}]) {
        const { hub, turns } = logged({ maxPageBytes, history });
        const readers = [['a', 'b'], ['b']].map((topics) => ({ topics, reader: new MemoryReader() }));
        for (const topic of ['a', 'b', 'b', 'a', 'b', 'a', 'a']) hub.publish(topic, { data: topic });
        for (const { topics, reader } of readers)
          hub.subscribe(topics, reader, { lastEventId: at(0), nameTopics: true });
        const plain = new MemoryReader();
        hub.subscribe(['a', 'b'], plain, { lastEventId: at(0) });
        turns.all();
        hub.publish('b', { data: 'b' });
        turns.all();
        const text = Buffer.concat(plain.chunks).toString();
        assert.ok(!text.includes(': topic') && plain.texts.join('') === 'abbabaab');
        for (const { topics, reader } of readers) {
          const blocks = Buffer.concat(reader.chunks).toString().split('\n\n').slice(1, -1);
          const named = blocks.map((block) => [
            /^: topic (.*)$/m.exec(block)?.[1],
            /^data: (.*)$/m.exec(block)?.[1],
          ]);
          const wanted = [...'abbabaab'].filter((topic) => topics.includes(topic));
          assert.deepEqual(
            named,
            wanted.map((topic) => [topic, topic]),
          );
          assert.deepEqual([reader.texts, reader.gaps], [wanted, []]);
        }
      }
    }
  });

  it('delivers the newest of each page of a log that cannot leave out what is replaced', () => {
    const { log, hub, turns } = logged({ maxPageBytes: 100 });
    for (let i = 1; i <= 9; i++) hub.publish('a', { data: String(i), key: 'one' });
    const read = log.read.bind(log);
    log.read = (topics, after, maxBytes) => read(topics, after, maxBytes, { newestOnly: false });
    const reader = new MemoryReader();
    hub.subscribe('a', reader, { lastEventId: at(0), conflate: true });
    turns.all();
    assert.deepEqual([reader.texts.at(-1), reader.gaps], ['9', []]);
  });

  it('takes from memory what only the log has dropped, in one order with what only the log holds', () => {
    for (const maxPageBytes of [1, 70, 65_536]) {
      const history = (topic: string) => ({ maxEvents: topic === 'a' ? 4 : 1 });
      const { log, hub, turns } = logged({ maxPageBytes, history });
      for (const data of ['a1', 'b2', 'a3', 'b4', 'a5', 'b6', 'a7', 'b8']) hub.publish(data[0]!, { data });
      turns.all();
      log.drop('a', 7);
      const whole = new MemoryReader();
      hub.subscribe(['a', 'b'], whole, { lastEventId: at(0) });
      turns.all();
      assert.deepEqual([whole.texts, whole.gaps], [['a1', 'b2', 'a3', 'b4', 'a5', 'b6', 'a7', 'b8'], []]);
      hub.publish('a', { data: 'a9' });
      const less = new MemoryReader();
      hub.subscribe(['a', 'b'], less, { lastEventId: at(0) });
      turns.all();
      assert.deepEqual(less.texts, ['b2', 'a3', 'b4', 'a5', 'b6', 'a7', 'b8', 'a9']);
      assert.deepEqual(
        less.gaps.map(({ from, to, topics }) => [from, to, ...topics]),
        [[at(0), at(1), 'a']],
      );
    }
  });

  it("calls lost what neither holds: after a log was shortened from outside it goes on with the log's oldest", () => {
    const { log, hub, turns } = logged();
    for (let i = 1; i <= 9; i++) hub.publish('a', { data: String(i) });
    turns.all();
    log.truncate(4);
    const reader = new MemoryReader();
    hub.subscribe('a', reader, { lastEventId: at(2) });
    turns.all();
    assert.deepEqual(reader.gaps, [
      { id: at(4), reason: 'truncated', from: at(2), to: at(4), topics: ['a'] },
    ]);
    assert.deepEqual(reader.texts, ['5', '6', '7', '8', '9']);
    log.truncate(9);
    const next = new MemoryReader();
    hub.subscribe('a', next, { lastEventId: at(2) });
    turns.all();
    assert.deepEqual(
      next.gaps.map(({ reason, to }) => [reason, to]),
      [['truncated', at(7)]],
    );
    assert.deepEqual(next.texts, ['8', '9']);
  });

  it('goes on past a topic of which memory and the log have nothing left', () => {
    let now = 0;
    const { log, hub, turns } = logged({ history: { maxAge: 10 }, now: () => now });
    for (const topic of ['a', 'b', 'b', 'b']) hub.publish(topic, { data: topic });
    turns.all();
    now = 100;
    log.truncate(3);
    const reader = new MemoryReader();
    hub.subscribe(['a', 'b', 'c'], reader, { lastEventId: at(0) });
    for (let i = 0; i < 20; i++) turns.next();
    assert.equal(turns.planned, 0);
    assert.deepEqual(
      reader.gaps.map(({ reason, to, topics }) => [reason, to, ...topics]),
      [
        ['truncated', at(1), 'a'],
        ['truncated', at(3), 'b'],
      ],
    );
    assert.deepEqual(
      reader.of().map(({ id }) => id),
      [at(4)],
    );
  });

  it("goes on with memory's oldest where a log cannot say what it has lost", () => {
    const { log, hub, turns } = logged();
    for (let i = 1; i <= 9; i++) hub.publish('a', { data: String(i) });
    log.answer = () => ({ entries: [], until: 0, dropped: [] });
    const reader = new MemoryReader();
    hub.subscribe('a', reader, { lastEventId: at(0) });
    turns.all();
    assert.deepEqual(
      reader.gaps.map(({ reason, from, to }) => [reason, from, to]),
      [['truncated', at(0), at(7)]],
    );
    assert.deepEqual(reader.texts, ['8', '9']);
  });

  it('delivers nothing of a log that it has called lost before, or that comes twice', () => {
    const { log, hub, turns } = logged({ history: (topic) => ({ maxEvents: topic === 'a' ? 1 : 9 }) });
    for (const topic of ['a', 'b', 'a', 'a', 'b']) hub.publish(topic, { data: topic });
    const { answer } = log;
    let reads = 0;
    log.answer = (look) =>
      reads++ === 0 ? { entries: [], until: 0, dropped: [{ topic: 'a', seq: 3 }] } : answer(look);
    const reader = new MemoryReader();
    hub.subscribe(['a', 'b'], reader, { lastEventId: at(0) });
    turns.all();
    assert.deepEqual(
      [reader.gaps.map(({ to }) => to), reader.of().map(({ id }) => id)],
      [[at(3)], [at(2), at(4), at(5)]],
    );
  });

  it('writes the bytes of its entries, whatever kind of bytes they are', () => {
    const { log, hub, turns } = logged();
    for (let i = 1; i <= 4; i++) hub.publish('a', { data: 'ü' });
    log.answer = (look) => {
      const page = look() as LogPage;
      return {
        ...page,
        entries: page.entries.map((entry) => ({ ...entry, frame: new Uint8Array(entry.frame) })),
      };
    };
    const reader = new MemoryReader();
    hub.subscribe('a', reader, { lastEventId: at(0) });
    turns.all();
    assert.deepEqual(reader.texts, ['ü', 'ü', 'ü', 'ü']);
  });

  it('reads each page once, also when the sink drains while the log has not answered yet', async () => {
    const { log, hub, turns } = logged();
    for (let i = 1; i <= 5; i++) hub.publish('a', { data: String(i) });
    const answers: (() => void)[] = [];
    log.answer = (look) => new Promise((resolve) => answers.push(() => resolve(look())));
    const reader = new MemoryReader();
    hub.subscribe('a', reader, { lastEventId: at(0) });
    turns.all();
    reader.emit('drain');
    turns.all();
    assert.equal(answers.length, 1);
    for (const answer of answers) answer();
    await new Promise((resolve) => setImmediate(resolve));
    turns.all();
    assert.deepEqual(reader.texts, ['1', '2', '3', '4', '5']);
  });

  it('sends its gap to a client that has received no event, also where overtaken readers are cut off', () => {
    const { log, hub, turns } = logged({ overtaken: 'close', history: { maxEvents: 1 } });
    for (let i = 1; i <= 6; i++) hub.publish(i < 4 ? 'a' : 'b', { data: String(i) });
    const pages: LogPage[] = [
      { entries: [], until: 1, dropped: [] },
      { entries: [], until: 1, dropped: [{ topic: 'a', seq: 2 }] },
    ];
    log.answer = (look) => pages.shift() ?? look();
    const reader = new MemoryReader();
    hub.subscribe('a', reader, { lastEventId: at(0) });
    turns.all();
    assert.deepEqual([reader.story, reader.cutFor], [['sluice:ready', 'sluice:gap', '3'], undefined]);
  });
});
