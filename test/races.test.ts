// Races between publishing, reading, losing and leaving, one by one: none is left to the chance of the
// simulation.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { HubOptions } from '../lib/hub.ts';
import { at, drain, handRun, MemoryReader, seqOf, slowReader, TestLog, times } from './helpers/hub.ts';
import { parse } from './helpers/reader.ts';

describe('races', () => {
  /**
   * Ten events of `a` in the log, of which memory holds two. The log reads at once and answers at `settle`.
   */
  function withLateLog(options: HubOptions = {}) {
    const log = new TestLog();
    const { hub, turns } = handRun({ log, history: { maxEvents: 2 }, maxPageBytes: 70, ...options });
    for (let i = 1; i <= 10; i++) hub.publish('a', { data: String(i) });
    turns.all();
    let answer = (): void => {};
    log.answer = (look) => {
      const early = look();
      return new Promise((resolve) => (answer = () => resolve(early)));
    };
    const settle = async () => {
      turns.all();
      answer();
      await new Promise((resolve) => setImmediate(resolve));
      turns.all();
    };
    return { log, hub, turns, settle };
  }

  const seqs = (from: number, to: number): string[] => times(to - from + 1, (i) => String(from + i));

  it('delivers what is published between the replay and the live delivery', () => {
    const { hub, turns } = handRun({ maxPageBytes: 70 });
    for (let i = 1; i <= 6; i++) hub.publish('a', { data: String(i) });
    const reader = new MemoryReader();
    hub.subscribe('a', reader, { lastEventId: at(0) });
    const write = reader.write.bind(reader);
    let next = 7;
    reader.write = (chunk: Buffer) => {
      if (next < 20) hub.publish('a', { data: String(next++) }); // inside each of its writes
      return write(chunk);
    };
    turns.all();
    assert.deepEqual(reader.texts, seqs(1, 19));
  });

  it('delivers what a sink publishes to the topic of others while it is written to', () => {
    const { hub, turns } = handRun();
    const [first, other] = [new MemoryReader(), new MemoryReader()];
    hub.subscribe('a', first);
    hub.subscribe('b', other);
    turns.all();
    const write = first.write.bind(first);
    first.write = (chunk: Buffer) => {
      hub.publish('b', { data: 'from inside' });
      return write(chunk);
    };
    hub.publish('a', { data: 'x' });
    turns.all();
    assert.deepEqual([first.texts, other.texts, other.gaps], [['x'], ['from inside'], []]);
  });

  it('delivers what is published during an asynchronous read of the log', async () => {
    const { hub, turns, settle } = withLateLog();
    const reader = new MemoryReader();
    hub.subscribe('a', reader, { lastEventId: at(0) });
    for (let i = 11; i <= 30; i++) {
      turns.all();
      hub.publish('a', { data: String(i) });
      await settle();
    }
    for (let i = 0; i < 20; i++) await settle();
    assert.deepEqual([reader.texts, reader.gaps], [seqs(1, 30), []]);
  });

  it('sends a gap for what is evicted within the turn that would have delivered it', () => {
    const { hub, turns } = handRun({ history: { maxEvents: 2 } });
    hub.publish('a', { data: '1' });
    const [first, second] = [new MemoryReader(), new MemoryReader()];
    const write = first.write.bind(first);
    first.write = (chunk: Buffer) => {
      for (let i = 0; i < 3; i++) hub.publish('a', { data: 'x' });
      first.write = write;
      return write(chunk);
    };
    for (const reader of [first, second]) hub.subscribe('a', reader, { lastEventId: at(0) });
    turns.all();
    for (const { gaps } of [first, second]) {
      assert.deepEqual(
        gaps.map(({ from, to }) => [from, to]),
        [[at(0), at(2)]],
      );
    }
    assert.deepEqual(
      second.of().map(({ id }) => id),
      [at(3), at(4)],
    );
  });

  it('delivers a page that was read before the log was trimmed, then sends a gap', async () => {
    const { log, hub, turns, settle } = withLateLog();
    const reader = new MemoryReader();
    hub.subscribe('a', reader, { lastEventId: at(0) });
    turns.all();
    log.trim(8);
    for (let i = 0; i < 10; i++) await settle();
    // The page was read before the log was trimmed, so it is still delivered. What came after it is gone.
    assert.deepEqual(reader.texts, ['1', '2', '9', '10']);
    assert.deepEqual(
      reader.gaps.map(({ reason, from, to }) => [reason, from, to]),
      [['evicted', at(2), at(8)]],
    );
  });

  it('sends a gap each time a slow client is overtaken, and everything in between', async () => {
    const { hub, turns } = handRun({ history: { maxEvents: 2 } });
    const reader = slowReader();
    hub.subscribe('a', reader);
    for (let i = 1; i <= 40; i++) {
      hub.publish('a', { data: String(i) });
      turns.all();
      if (i % 10 === 0) await drain(reader);
      turns.all();
    }
    const gaps = reader.gaps.map(({ from, to }) => [seqOf(from), seqOf(to)] as const);
    let reached = 0;
    for (const { event, id } of reader.events.slice(1)) {
      const seq = seqOf(id);
      if (event === 'sluice:gap') assert.ok(gaps.some(([from, to]) => from === reached && to === seq));
      else assert.equal(seq, reached + 1);
      reached = seq;
    }
    assert.ok(gaps.length >= 2);
  });

  it('sends the gap again and the rest whole after a cut at any byte', () => {
    const { hub, turns } = handRun({ history: { maxEvents: 3 } });
    for (let i = 1; i <= 9; i++) hub.publish(i % 3 ? 'a' : 'b', { data: String(i) });
    const whole = new MemoryReader();
    hub.subscribe(['a', 'b'], whole, { lastEventId: at(1) });
    turns.all();
    const bytes = Buffer.concat(whole.chunks);
    for (let cut = 0; cut <= bytes.length; cut++) {
      const arrived = parse(bytes.toString('utf8', 0, cut)).frames;
      const again = new MemoryReader();
      hub.subscribe(['a', 'b'], again, { lastEventId: arrived.at(-1)?.id ?? at(1) });
      turns.all();
      const all = [...arrived, ...again.events];
      assert.deepEqual(
        all.filter(({ event }) => event === undefined),
        whole.of(),
      );
      const gap = all.findIndex(({ event }) => event === 'sluice:gap');
      assert.ok(
        gap !== -1 && gap < all.findIndex(({ data }) => data === '5'),
        `no gap after a cut at ${cut}`,
      );
    }
  });

  it('delivers everything after the id of ready to a client that was cut before its first event', () => {
    const { hub, turns } = handRun();
    const cut = new MemoryReader();
    hub.subscribe('a', cut);
    turns.all();
    for (let i = 1; i <= 3; i++) hub.publish('a', { data: String(i) });
    const again = new MemoryReader();
    hub.subscribe('a', again, { lastEventId: cut.events.at(-1)!.id });
    turns.all();
    assert.deepEqual(again.texts, seqs(1, 3));
  });

  it('delivers to two connections with one id, of which the old one still takes bytes', () => {
    const { hub, turns } = handRun();
    const [old, fresh] = [new MemoryReader(), new MemoryReader()];
    hub.subscribe('a', old);
    turns.all();
    hub.publish('a', { data: '1' });
    hub.subscribe('a', fresh, { lastEventId: at(0) });
    turns.all();
    hub.publish('a', { data: '2' });
    turns.all();
    assert.deepEqual([old.texts, fresh.texts], [seqs(1, 2), seqs(1, 2)]);
  });

  it('sends a gap for an id from ahead and for one from before a restart, and never takes them for its own', () => {
    const { hub, turns } = handRun();
    for (let i = 1; i <= 5; i++) hub.publish('a', { data: String(i) });
    for (const [lastEventId, reason] of [
      [at(9), 'ahead'],
      ['1795408776829003-3', 'unknown-epoch'],
    ] as const) {
      const reader = new MemoryReader();
      hub.subscribe('a', reader, { lastEventId });
      turns.all();
      assert.deepEqual(
        reader.gaps.map((gap) => gap.reason),
        [reason],
      );
      assert.deepEqual(reader.texts, []);
    }
  });

  it('sends a gap with the reason truncated when the log was emptied from outside', async () => {
    const { log, hub, settle } = withLateLog();
    log.truncate(10);
    const reader = new MemoryReader();
    hub.subscribe('a', reader, { lastEventId: at(3) });
    for (let i = 0; i < 6; i++) await settle();
    assert.deepEqual(
      reader.gaps.map(({ reason, from, to }) => [reason, from, to]),
      [['truncated', at(3), at(8)]],
    );
    assert.deepEqual(reader.texts, ['9', '10']);
  });

  it('sends one gap when the log is trimmed during a long replay', async () => {
    const { log, hub, settle } = withLateLog();
    const reader = new MemoryReader();
    hub.subscribe(['a', 'b'], reader, { lastEventId: at(0) });
    await settle();
    await settle();
    const reached = reader.texts.length;
    assert.ok(reached > 0 && reached < 6);
    log.trim(8);
    for (let i = 0; i < 12; i++) await settle();
    const [gap, ...others] = reader.gaps;
    assert.deepEqual([gap?.reason, gap?.to, gap?.topics, others], ['evicted', at(8), ['a'], []]);
    const from = seqOf(gap?.from);
    assert.deepEqual(reader.texts, [...seqs(1, from), ...seqs(9, 10)]);
  });

  it('forgets a reader that leaves during an asynchronous read', async () => {
    const { hub, turns, settle } = withLateLog();
    const reader = new MemoryReader();
    hub.subscribe('a', reader, { lastEventId: at(0) });
    turns.all();
    const written = reader.chunks.length;
    reader.destroy();
    await settle();
    assert.deepEqual([reader.chunks.length, hub.size], [written, 0]);
  });

  it('finishes the replay when the topic ends during it, and then ends the connection', async () => {
    const { hub, turns, settle } = withLateLog();
    const reader = new MemoryReader();
    hub.subscribe('a', reader, { lastEventId: at(0) });
    turns.all();
    hub.end('a');
    for (let i = 0; i < 12; i++) await settle();
    assert.deepEqual(reader.texts, seqs(1, 10));
    assert.equal(reader.events.at(-1)!.event, 'sluice:end');
    assert.ok(reader.writableEnded);
  });

  it('delivers the rest from the next process after a shutdown during the replay', async () => {
    const { log, hub, settle } = withLateLog();
    const reader = new MemoryReader();
    hub.subscribe('a', reader, { lastEventId: at(0) });
    await settle();
    reader.end();
    await settle();
    assert.equal(hub.size, 0);
    log.answer = (look) => look();
    const { hub: next, turns } = handRun({ log });
    const again = new MemoryReader();
    next.subscribe('a', again, { lastEventId: reader.events.at(-1)!.id });
    turns.all();
    assert.deepEqual([...reader.texts, ...again.texts], seqs(1, 10));
  });

  it('ends a replay whose permission is withdrawn between two pages, and during an asynchronous read', async () => {
    let isAllowed = true;
    const { hub, turns } = handRun({ maxPageBytes: 70 });
    for (let i = 1; i <= 9; i++) hub.publish('a', { data: String(i) });
    const reader = new MemoryReader();
    hub.subscribe('a', reader, { lastEventId: at(0), may: () => isAllowed });
    turns.next();
    turns.next();
    isAllowed = false;
    turns.all();
    assert.deepEqual([reader.texts, reader.writableEnded, hub.size], [['1', '2'], true, 0]);

    isAllowed = true;
    const late = withLateLog();
    const waiting = new MemoryReader();
    late.hub.subscribe(['a', 'b'], waiting, {
      lastEventId: at(0),
      may: (topic) => topic === 'b' || isAllowed,
    });
    late.turns.all();
    isAllowed = false;
    await late.settle();
    assert.deepEqual([waiting.texts, waiting.writableEnded, late.hub.size], [[], true, 0]);
  });

  it('delivers the second of two events of one millisecond after a cut between them', () => {
    const { hub, turns } = handRun({ now: () => 1 });
    const reader = new MemoryReader();
    hub.subscribe('a', reader);
    for (const data of ['1', '2']) hub.publish('a', { data });
    turns.all();
    const again = new MemoryReader();
    hub.subscribe('a', again, { lastEventId: reader.of()[0]!.id });
    turns.all();
    assert.deepEqual(again.texts, ['2']);
  });

  it('delivers the whole rest after the id of each control event', () => {
    const { hub, turns } = handRun({ history: { maxEvents: 3 } });
    for (let i = 1; i <= 5; i++) hub.publish('a', { data: String(i) });
    const reader = new MemoryReader();
    hub.subscribe('a', reader, { lastEventId: at(1) });
    hub.end('a');
    turns.all();
    const control = reader.events.filter(({ event }) => event?.startsWith('sluice:'));
    assert.deepEqual(
      control.map(({ event, id }) => `${event} ${id}`),
      ['sluice:ready 1795408776829004-1', 'sluice:gap 1795408776829004-2', 'sluice:end 1795408776829004-5'],
    );
    const rests = control.map(({ id }) => {
      const again = new MemoryReader();
      hub.subscribe('a', again, { lastEventId: id });
      turns.all();
      return again.texts;
    });
    assert.deepEqual(rests, [['3', '4', '5'], ['3', '4', '5'], []]);
  });

  it('delivers everything to a client that stores each id as soon as it arrives', async () => {
    const { hub, turns } = handRun({ maxPageBytes: 70 });
    for (let i = 1; i <= 9; i++) hub.publish('a', { data: String(i) });
    const reader = slowReader();
    hub.subscribe('a', reader, { lastEventId: at(2) });
    for (let i = 0; i < 3; i++) {
      turns.all();
      const last = reader.events.at(-1)!.id; // kept as soon as it is there, the connection being cut after it
      const again = new MemoryReader();
      hub.subscribe('a', again, { lastEventId: last });
      turns.all();
      assert.deepEqual([...reader.texts, ...again.texts], seqs(3, 9));
      await drain(reader);
    }
  });
});
