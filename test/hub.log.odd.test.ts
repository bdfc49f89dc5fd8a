import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { formatId } from '../lib/protocol.ts';
import { begun, following, type HandLog } from './helpers/hand-log.ts';
import { at, EPOCH, handRun, MemoryReader, TestLog, times } from './helpers/hub.ts';

const NEXT = EPOCH + 5000;
const later = (seq: number): string => formatId(NEXT, seq);

/** Waits until the log is asked so, answers all else, and gives that answer, as it is now, when it is released. */
async function heldBack(log: HandLog, rest: () => Promise<void>, task: string) {
  let release = (): void => {};
  log.answer = async (look) => {
    const early = look();
    if (log.asked.at(-1)!.startsWith(task)) await new Promise<void>((resolve) => (release = resolve));
    return early;
  };
  await rest();
  log.answer = async (look) => look();
  return { release };
}

const storyOf = (reader: MemoryReader): string[] => reader.story.filter((one) => one !== 'sluice:ready');

describe('a reader of a shared log', () => {
  it('is told of a new epoch also where the newest event of its topics is of the old one', async () => {
    const { log, hub, rest } = begun();
    log.tell('a1', 'a2', 'b3');
    log.renew(NEXT, 3);
    const reader = new MemoryReader();
    hub.subscribe('a', reader, { lastEventId: at(1) });
    await rest();
    log.tell('a4');
    await rest();
    assert.deepEqual(storyOf(reader), ['a2', 'sluice:gap', 'a4']);
    assert.deepEqual(
      reader.gaps.map(({ reason, to }) => [reason, to]),
      [['store-changed', later(0)]],
    );
  });

  it('gets no more of an old epoch than the log has kept, also where a page was made before', async () => {
    const { log, hub, rest } = begun({ maxPageBytes: 100 });
    const first = new MemoryReader();
    log.tell('a1', 'a2', 'a3', 'a4', 'a5', 'a6');
    hub.subscribe('a', first, { lastEventId: at(1) });
    await rest();
    log.renew(NEXT, 2);
    const second = new MemoryReader();
    hub.subscribe('a', second, { lastEventId: at(1) });
    await rest();
    log.tell('a7');
    await rest();
    assert.deepEqual(storyOf(second), ['a2', 'sluice:gap', 'a7']);
  });

  it('does not wait for a page that was asked for before its topic was deleted', async () => {
    const { log, hub, rest } = begun({ history: { maxEvents: 1 } });
    log.tell('a1', 'a2', 'a3');
    hub.subscribe('a', new MemoryReader(), { lastEventId: at(1) });
    const { release } = await heldBack(log, rest, 'read');
    log.entries = [];
    log.dropped.set('a', 3);
    log.intake.accept([log.changeTo('a', 'delete')]);
    const second = new MemoryReader();
    hub.subscribe('a', second, { lastEventId: at(1) });
    await rest();
    release();
    await rest();
    assert.deepEqual(storyOf(second), ['sluice:gap']);
  });

  it('gets what was not received while an answer about its topic was under way', async () => {
    const { log, hub, rest } = begun();
    log.write('a1', 'b2');
    log.intake.skip(2);
    await rest();
    const reader = new MemoryReader();
    hub.subscribe('a', reader, { lastEventId: at(2) });
    const { release } = await heldBack(log, rest, 'find');
    log.write('a3');
    log.intake.skip(3);
    await rest();
    release();
    await rest();
    log.tell('a4');
    await rest();
    assert.deepEqual([reader.texts, reader.gaps], [['a3', 'a4'], []]);
  });

  it('is not ended by an answer from before a topic that nobody told of went on', async () => {
    const { log, hub, turns, rest } = begun();
    const reader = new MemoryReader();
    hub.subscribe('a', reader);
    await rest();
    log.tell('a1');
    log.changeTo('a', 'end');
    const answers: (() => void)[] = [];
    log.answer = async (look) => {
      const early = look();
      if (log.asked.at(-1) === 'find a') await new Promise<void>((resolve) => answers.push(resolve));
      return early;
    };
    log.intake.skip(2);
    await rest();
    log.changeTo('a', 'reopen');
    log.intake.skip(3);
    for (let i = 0; i < answers.length; i++) {
      answers[i]!();
      // The next question is on its way for longer than a turn.
      await rest();
      turns.all();
    }
    log.answer = async (look) => look();
    log.tell('a2');
    await rest();
    assert.deepEqual([storyOf(reader), reader.writableEnded], [['a1', 'a2'], false]);
  });

  it('gets an event that this hub could not keep, also where it asks while the log is away', async () => {
    const { log, hub, rest } = begun({ history: { maxBytes: 100 } });
    log.tell(`a${'x'.repeat(200)}`);
    log.intake.away(new Error('lost'));
    const reader = new MemoryReader();
    hub.subscribe('a', reader, { lastEventId: at(0) });
    await rest();
    log.intake.back();
    log.tell('a2');
    await rest();
    assert.deepEqual(
      reader.texts.map((text) => text.length),
      [201, 2],
    );
  });

  it('shares what is read with those that come in the same turn', async () => {
    const { log, hub, rest } = begun({ history: { maxEvents: 1 } });
    log.tell('a1', 'a2', 'a3');
    const readers = times(20, () => new MemoryReader());
    for (const reader of readers) hub.subscribe('a', reader, { lastEventId: at(1) });
    await rest();
    for (const reader of readers) assert.deepEqual(reader.texts, ['a2', 'a3']);
    const reads = log.asked.filter((one) => one.startsWith('read'));
    assert.ok(reads.length <= 2, `${reads.length} reads`);
  });

  it('shares what is read also where those before it were told of a loss', async () => {
    for (const [topics, most] of [
      ['a', 1],
      [['a', 'b'], 21],
    ] as const) {
      const { log, hub, rest } = begun({ history: { maxEvents: 1 } });
      log.tell('a1', 'a2', 'a3', 'a4', 'b5', 'a6', 'a7');
      log.entries = log.entries.filter(({ seq }) => seq > 3);
      log.dropped.set('a', 3);
      hub.subscribe(topics, new MemoryReader(), { lastEventId: at(1) });
      await rest();
      log.asked = [];
      const readers = times(20, () => new MemoryReader());
      for (const reader of readers) hub.subscribe(topics, reader, { lastEventId: at(1) });
      await rest();
      for (const reader of readers) assert.deepEqual(storyOf(reader).slice(0, 2), ['sluice:gap', 'a4']);
      const reads = log.asked.filter((one) => one.startsWith('read'));
      assert.ok(reads.length <= most, `${reads.length} reads of ${topics}`);
    }
  });

  it('does not get what it was told is lost from a page that another one had read before', async () => {
    const { log, hub, rest } = begun({ history: { maxEvents: 1 } });
    log.tell('a1', 'a2', 'b3', 'a4', 'a5', 'b6');
    const other = new MemoryReader();
    hub.subscribe(['a', 'b'], other, { lastEventId: at(1) });
    await rest();
    assert.deepEqual(storyOf(other), ['a2', 'b3', 'a4', 'a5', 'b6']);
    log.entries = log.entries.filter((entry) => entry.seq !== 3);
    log.dropped.set('b', 3);
    const told = new MemoryReader();
    hub.subscribe(['a', 'b'], told, { lastEventId: at(0) });
    await rest();
    assert.deepEqual(storyOf(told), ['sluice:gap', 'a1', 'a2', 'a4', 'a5', 'b6']);
    const back = new MemoryReader();
    hub.subscribe(['a', 'b'], back, { lastEventId: at(2) });
    await rest();
    assert.deepEqual(storyOf(back), ['sluice:gap', 'a4', 'a5', 'b6']);
  });

  it('does not wait for a read that began before it was told of a loss', async () => {
    const { log, hub, rest } = begun({ history: { maxEvents: 1 } });
    log.tell('a1', 'a2', 'b3', 'a4', 'b5');
    hub.subscribe(['a', 'b'], new MemoryReader(), { lastEventId: at(1) });
    const { release } = await heldBack(log, rest, 'read');
    log.entries = log.entries.filter((entry) => entry.seq !== 3);
    log.dropped.set('b', 3);
    const told = new MemoryReader();
    hub.subscribe(['a', 'b'], told, { lastEventId: at(0) });
    await rest();
    assert.deepEqual(storyOf(told).slice(0, 3), ['sluice:gap', 'a1', 'a2']);
    const [back, later] = [new MemoryReader(), new MemoryReader()];
    hub.subscribe(['a', 'b'], back, { lastEventId: at(2) });
    await rest();
    release();
    await rest();
    hub.subscribe(['a', 'b'], later, { lastEventId: at(2) });
    await rest();
    for (const one of [back, later]) assert.deepEqual(storyOf(one), ['sluice:gap', 'a4', 'b5']);
  });

  it('does not get what was deleted while another one was reading it', async () => {
    const { log, hub, rest } = begun({ history: { maxEvents: 1 } });
    log.tell('a1', 'a2', 'a3');
    const first = new MemoryReader();
    hub.subscribe('a', first, { lastEventId: at(1) });
    const { release } = await heldBack(log, rest, 'read');
    log.entries = [];
    log.dropped.set('a', 3);
    log.intake.accept([log.changeTo('a', 'delete')]);
    release();
    await rest();
    const second = new MemoryReader();
    hub.subscribe('a', second, { lastEventId: at(1) });
    await rest();
    assert.deepEqual(storyOf(second), ['sluice:gap']);
  });

  it('that is held and leaves is forgotten, also while the log cannot be reached', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    setFlagsFromString('--expose-gc');
    const gc: () => void = runInNewContext('gc');
    const { hub, rest } = following();
    const left: WeakRef<object>[] = [];
    const come = (): void => {
      const reader = new MemoryReader();
      hub.subscribe('a', reader);
      reader.destroy();
      left.push(new WeakRef(reader));
    };
    for (let i = 0; i < 20; i++) {
      come();
      await rest();
    }
    const stay = new MemoryReader();
    hub.subscribe('a', stay);
    for (let i = 0; i < 20; i++) {
      const reader = new MemoryReader();
      hub.subscribe('a', reader);
      await rest();
      reader.destroy();
      left.push(new WeakRef(reader));
    }
    await rest();
    t.mock.timers.tick(250);
    await rest();
    gc();
    await rest();
    gc();
    const kept = left.filter((ref) => ref.deref() !== undefined).length;
    assert.ok(kept <= 1, `${kept} of ${left.length} readers that left are kept`);
    assert.equal(hub.size, 1);
  });

  it('whose topics have ended gets the end where its head was sent before the log has answered', async () => {
    const { log, hub, rest } = begun();
    log.write('a1');
    log.changeTo('a', 'end');
    log.intake.skip(2);
    const reader = Object.assign(new MemoryReader(), {
      refuse: () => {
        throw new Error('the head of the response was sent already');
      },
    });
    hub.subscribe('a', reader, { lastEventId: at(2) });
    await rest();
    assert.deepEqual([reader.story, reader.writableEnded], [['sluice:ready', 'sluice:end'], true]);
    assert.equal(hub.size, 0);
  });
});

describe('a hub that follows a shared log', () => {
  it('asks the log about a topic that has ended before anything was published to it here', async () => {
    const { log, hub, rest } = begun();
    hub.subscribe(['a', 'b'], new MemoryReader());
    await rest();
    log.intake.accept([log.changeTo('a', 'end')]);
    await hub.append('a', { data: 'x' });
    await hub.appendAll('a', [{ data: 'x' }, { data: 'y' }]);
    assert.deepEqual(log.appended, ['a', 'a']);
    assert.ok(hub.batchLimits('a').maxEvents >= 1);
  });

  it('takes an event of a topic that has ended without one, where the log has not said that it goes on', async () => {
    const { log, hub, rest, errors } = begun();
    const reader = new MemoryReader();
    hub.subscribe(['a', 'b'], reader);
    await rest();
    log.intake.accept([log.changeTo('a', 'end')]);
    log.tell('a1');
    await rest();
    assert.deepEqual([reader.texts, errors], [['a1'], []]);
  });

  it('survives a log whose question for the newest throws', async (t) => {
    const { log, hub, rest, errors } = begun();
    const rejections: unknown[] = [];
    const note = (error: unknown): number => rejections.push(error);
    process.on('unhandledRejection', note);
    t.after(() => process.off('unhandledRejection', note));
    log.beforeNewest = () => {
      throw new Error('no');
    };
    const reader = new MemoryReader();
    hub.subscribe('a', reader, { from: 'earliest' });
    await rest();
    assert.deepEqual([rejections, reader.writableEnded, errors], [[], true, ['read: no']]);
  });
});

describe('a hub with a log of its own', () => {
  it('counts the wait for the log in the latency of a delivery', () => {
    let now = 1000;
    const log = new TestLog();
    const append = log.append.bind(log);
    log.append = (entries) => {
      now += 50;
      append(entries);
    };
    const latencies: number[] = [];
    const onDelivered = ({ latency }: { latency: number }): number => latencies.push(latency);
    const { hub, turns } = handRun({ log, now: () => now, onDelivered });
    hub.subscribe('a', new MemoryReader());
    turns.all();
    hub.publish('a', { data: 'x' });
    now += 10;
    turns.all();
    assert.deepEqual(latencies, [60]);
  });

  it('asks the log nothing after it was closed', async () => {
    const log = Object.assign(new TestLog(), { recall: (): undefined => undefined });
    const { hub, turns } = handRun({ log, onError: () => {} });
    hub.publish('a', { data: 'x' });
    turns.all();
    await hub.close();
    const asked: string[] = [];
    for (const name of ['append', 'recall', 'change', 'find', 'list', 'read', 'beforeNewest'] as const)
      Object.assign(log, {
        [name]: () => {
          asked.push(name);
          throw new Error('the file is closed');
        },
      });
    const unavailable = { code: 'ERR_SSE_LOG_UNAVAILABLE' };
    const idempotency = { key: 'k', digest: 'd' };
    await assert.rejects(hub.append('a', { data: 'x' }, { idempotency }), unavailable);
    assert.throws(() => hub.publish('b', { data: 'x' }), unavailable);
    assert.throws(() => hub.end('a'), unavailable);
    assert.throws(() => hub.delete('a'), unavailable);
    await assert.rejects(hub.change('b', 'end'), unavailable);
    await assert.rejects(hub.list(), unavailable);
    assert.deepEqual(asked, []);
  });

  it('closes its log once', async () => {
    let closed = 0;
    const log = Object.assign(new TestLog(), { close: () => void closed++ });
    const { hub } = handRun({ log });
    await Promise.all([hub.close(), hub.close()]);
    await hub.close();
    assert.equal(closed, 1);
  });

  it('reads only so often from the log in one turn, also where it finds nothing', () => {
    const log = new TestLog();
    let reads = 0;
    log.answer = (look) => {
      reads++;
      return look();
    };
    const { hub, turns } = handRun({ log, maxFollowedTopics: 20_000 });
    for (let i = 0; i < 10; i++) hub.publish('noise', { data: 'x' });
    turns.all();
    log.head = 10;
    const { hub: restarted, turns: next } = handRun({ log, maxFollowedTopics: 20_000 });
    for (let i = 0; i < 8000; i++) restarted.subscribe(`t${i}`, new MemoryReader(), { lastEventId: at(1) });
    next.next(); // `sluice:ready`
    let most = 0;
    for (let before = 0; next.next(); before = reads) most = Math.max(most, reads - before);
    assert.ok(reads >= 8000 && most <= 3000, `${most} of ${reads} reads in one turn`);
  });
});
