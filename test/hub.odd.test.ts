// Application code that is called while the hub is at work, and does what it should not.
import assert from 'node:assert/strict';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { describe, it, type TestContext } from 'node:test';
import { Hub, type Sink } from '../lib/hub.ts';
import { at, handRun, MemoryReader, slowReader, TestLog, times } from './helpers/hub.ts';

function onGap(t: TestContext, listener: () => void): void {
  subscribe('sluice.hub.gap', listener);
  t.after(() => unsubscribe('sluice.hub.gap', listener));
}

describe('a sink', () => {
  it("that emits 'drain' inside the write that it refuses is written to again", () => {
    const { hub, turns } = handRun({ maxPageBytes: 35 });
    const reader = new MemoryReader();
    const { write } = reader;
    reader.write = (chunk) => {
      write.call(reader, chunk);
      reader.emit('drain');
      return false;
    };
    for (let i = 1; i <= 5; i++) hub.publish('a', { data: String(i) });
    const subscription = hub.subscribe('a', reader, { lastEventId: at(0) });
    turns.all();
    assert.deepEqual(reader.texts, ['1', '2', '3', '4', '5']);
    assert.equal(subscription.lag, 0);
  });

  it("that emits 'drain' in the same turn, but before the write that it refuses, is not written to again", () => {
    const { hub, turns } = handRun({ maxPageBytes: 35 });
    const reader = slowReader();
    for (let i = 1; i <= 5; i++) hub.publish('a', { data: String(i) });
    const may = () => {
      if (reader.chunks.length === 0) reader.emit('drain');
      return true;
    };
    hub.subscribe('a', reader, { lastEventId: at(0), may });
    turns.all();
    assert.equal(reader.chunks.length, 1);
  });

  for (const member of ['closed', 'destroyed', 'writableEnded', 'write', 'writeShared'] as const) {
    it(`whose \`${member}\` throws when it is read is cut off, and those behind it miss nothing`, () => {
      const { hub, turns } = handRun();
      const [odd, next] = [new MemoryReader(), new MemoryReader()];
      for (const reader of [odd, next]) hub.subscribe('a', reader);
      turns.all();
      Object.defineProperty(odd, member, {
        get() {
          throw new Error('theirs');
        },
      });
      let cutFor: string | undefined;
      odd.abort = (reason) => {
        cutFor = reason;
      };
      hub.publish('a', { data: 'x' });
      turns.all();
      assert.deepEqual([next.texts, cutFor, hub.size], [['x'], 'error', 1]);
      hub.publish('a', { data: 'y' });
      turns.all();
      assert.deepEqual(next.texts, ['x', 'y']);
    });
  }

  for (const event of ['drain', 'close', 'error'] as const) {
    it(`whose \`on\` throws for '${event}' is not subscribed, and nothing of it is left`, () => {
      const { hub, turns } = handRun();
      const reader = new MemoryReader();
      const { on } = reader;
      const listeners = reader.eventNames().map((name) => [name, reader.listenerCount(name)]);
      reader.on = ((name: string, listener: () => void) => {
        if (name === event) throw new Error('theirs');
        return on.call(reader, name, listener);
      }) as MemoryReader['on'];
      assert.throws(() => hub.subscribe('a', reader), /theirs/);
      turns.all();
      assert.deepEqual([hub.size, hub.stats.started, hub.topics(), reader.chunks], [0, 0, [], []]);
      assert.deepEqual(
        reader.eventNames().map((name) => [name, reader.listenerCount(name)]),
        listeners,
      );
      reader.on = on;
      assert.equal(hub.subscribe('a', reader).closed, false);
    });
  }

  for (const how of ['close', 'end', 'kick'] as const) {
    it(`whose \`off\`, \`end\` and \`abort\` throw leaves the hub at its ${how}`, () => {
      const { hub, turns } = handRun();
      const fail = () => {
        throw new Error('theirs');
      };
      const sink: Sink = { write: () => true, on() {}, off: fail, end: fail, abort: fail, destroy: fail };
      const staying = new MemoryReader();
      const subscription = hub.subscribe('a', sink);
      hub.subscribe(['a', 'b'], staying);
      turns.all();
      if (how === 'close') subscription.close();
      else if (how === 'kick')
        assert.equal(
          hub.kick((one) => one === sink),
          1,
        );
      else hub.end('a');
      turns.all();
      assert.deepEqual([subscription.closed, hub.size], [true, 1]);
      hub.publish('b', { data: 'x' });
      turns.all();
      assert.deepEqual(staying.texts, ['x']);
    });
  }

  it("that emits 'close' while the hub adds its listeners gets a closed subscription", () => {
    const { hub, turns } = handRun();
    const reader = new MemoryReader();
    const { on } = reader;
    reader.on = ((name: string, listener: () => void) => {
      on.call(reader, name, listener);
      if (name === 'close') listener();
      return reader;
    }) as MemoryReader['on'];
    assert.equal(hub.subscribe('a', reader).closed, true);
    turns.all();
    assert.deepEqual([hub.size, hub.topics(), reader.chunks], [0, [], []]);
  });
});

describe('schedule', () => {
  it('that throws costs no event: the turn comes anyway, and publish does not fail', async () => {
    let failures = 0;
    const hub = new Hub({
      schedule: () => {
        failures++;
        throw new Error('theirs');
      },
    });
    const reader = new MemoryReader();
    hub.subscribe('a', reader);
    for (let i = 1; i <= 3; i++) hub.publish('a', { data: String(i) });
    while (reader.texts.length < 3) await new Promise((resolve) => setImmediate(resolve));
    hub.publish('a', { data: '4' });
    while (reader.texts.length < 4) await new Promise((resolve) => setImmediate(resolve));
    assert.ok(failures >= 2);
  });

  it('that throws once is used again', async () => {
    const { hub, turns } = handRun({
      schedule: (turn) => {
        if (failures-- > 0) throw new Error('theirs');
        turns.schedule(turn);
      },
    });
    let failures = 1;
    const reader = new MemoryReader();
    hub.subscribe('a', reader);
    hub.publish('a', { data: 'x' });
    assert.equal(turns.all(), 2);
    assert.deepEqual(reader.texts, ['x']);
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(reader.chunks.length, 2);
  });

  it('that calls the turn again inside a write does not write into that write', () => {
    let last = () => {};
    const { hub, turns } = handRun({
      schedule: (turn) => {
        last = turn;
        turns.schedule(turn);
      },
    });
    const reader = new MemoryReader();
    const { write } = reader;
    let depth = 0;
    let deepest = 0;
    reader.write = (chunk) => {
      deepest = Math.max(deepest, ++depth);
      if (hub.stats.published === 1) {
        hub.publish('a', { data: '2' });
        last();
      }
      depth--;
      return write.call(reader, chunk);
    };
    hub.subscribe('a', reader);
    turns.all();
    hub.publish('a', { data: '1' });
    turns.all();
    assert.deepEqual([reader.texts, deepest], [['1', '2'], 1]);
  });

  it('is asked for a turn where a `may` publishes and then denies', () => {
    const { hub, turns } = handRun();
    const reader = new MemoryReader();
    hub.subscribe('b', reader);
    turns.all();
    const may = () => {
      hub.publish('b', { data: 'x' });
      return false;
    };
    hub.subscribe('a', new MemoryReader(), { may });
    turns.all();
    assert.deepEqual([reader.texts, hub.size], [['x'], 1]);
  });

  it('that calls the turn again inside a turn does not write twice', () => {
    let last = () => {};
    const { hub, turns } = handRun({
      schedule: (turn) => {
        last = turn;
        turns.schedule(turn);
      },
    });
    const reader = new MemoryReader();
    const { write } = reader;
    reader.write = (chunk) => {
      last();
      return write.call(reader, chunk);
    };
    hub.subscribe('a', reader);
    turns.all();
    for (const data of ['1', '2']) {
      hub.publish('a', { data });
      turns.all();
    }
    assert.deepEqual(reader.texts, ['1', '2']);
    assert.equal(reader.chunks.length, 3);
  });
});

describe('a function that ends the sink', () => {
  function open(log?: TestLog) {
    const { hub, turns } = handRun({ history: { maxEvents: 2 }, ...(log && { log }) });
    const reader = new MemoryReader();
    const { write } = reader;
    let writesAfterEnd = 0;
    reader.write = (chunk) => {
      if (reader.writableEnded) writesAfterEnd++;
      return write.call(reader, chunk);
    };
    return { hub, turns, reader, late: () => writesAfterEnd };
  }

  it('as `may` is followed by no write', () => {
    const { hub, turns, reader, late } = open();
    let asked = 0;
    const may = () => {
      if (++asked === 2) reader.end();
      return true;
    };
    hub.subscribe('a', reader, { may });
    turns.all();
    hub.publish('a', { data: 'x' });
    turns.all();
    assert.deepEqual([late(), hub.size, reader.texts], [0, 0, []]);
  });

  for (const answers of ['at once', 'later'] as const) {
    it(`as \`log.read\`, which answers ${answers}, is followed by no write`, async () => {
      const log = new TestLog();
      const { hub, turns, reader, late } = open(log);
      for (let i = 0; i < 5; i++) hub.publish('a', { data: 'x' });
      log.answer = (look) => {
        reader.end();
        return answers === 'at once' ? look() : Promise.resolve(look());
      };
      hub.subscribe('a', reader, { lastEventId: at(0) });
      turns.all();
      await new Promise((resolve) => setImmediate(resolve));
      turns.all();
      assert.deepEqual([late(), hub.size, reader.texts], [0, 0, []]);
    });
  }

  it('as `controls` is followed by no write, so that the gap is told again when the client returns', () => {
    const { hub, turns, reader, late } = open();
    const [id] = ['1', '2', '3', '4'].map((data) => hub.publish('a', { data }));
    const endsAt = (type: string) => ({
      controls: ({ event }: { event: string }) => {
        if (event === type) reader.end();
        return null;
      },
    });
    hub.subscribe('a', reader, { lastEventId: id, ...endsAt('sluice:gap') });
    turns.all();
    const ids = Buffer.concat(reader.chunks)
      .toString()
      .match(/^id: .*/gm);
    assert.deepEqual([late(), hub.size, ids], [0, 0, [`id: ${id}`]]);
  });

  it('as `controls` before anything was written is followed by no write', () => {
    const { hub, turns, reader, late } = open();
    const controls = () => {
      reader.end();
      return null;
    };
    hub.subscribe('a', reader, { lastEventId: 'not ours', controls });
    turns.all();
    assert.deepEqual([late(), hub.size, reader.chunks.length], [0, 0, 0]);
  });

  it('as a listener of the gap channel is called after the turn, and followed by no write', (t) => {
    const { hub, turns, reader, late } = open();
    for (let i = 0; i < 5; i++) hub.publish('a', { data: 'x' });
    hub.subscribe('a', reader, { lastEventId: at(0) });
    const chunks: number[] = [];
    onGap(t, () => {
      chunks.push(reader.chunks.length);
      reader.end();
    });
    turns.all();
    assert.deepEqual([late(), hub.size, chunks, reader.texts], [0, 0, [2], []]);
  });
});

describe('a listener of the gap channel', () => {
  it('that ends every other connection leaves the one that is coming its events', (t) => {
    const { hub, turns } = handRun({ history: { maxEvents: 1 } });
    const [staying, coming] = [new MemoryReader(), new MemoryReader()];
    const first = hub.subscribe('a', staying);
    turns.all();
    onGap(t, () => first.close());
    const subscription = hub.subscribe('a', coming, { lastEventId: 'no id' });
    turns.all();
    assert.equal(first.closed, true);
    hub.publish('a', { data: 'x' });
    turns.all();
    assert.deepEqual([coming.texts, subscription.position], [['x'], at(1)]);
  });

  it('sees a hub whose counts and positions include the gap', (t) => {
    const { hub, turns } = handRun({ history: { maxEvents: 1 } });
    for (let i = 0; i < 3; i++) hub.publish('a', { data: 'x' });
    const seen: unknown[] = [];
    const subscription = hub.subscribe('a', new MemoryReader(), { lastEventId: at(0) });
    onGap(t, () => seen.push([hub.stats.gaps.evicted, subscription.position, subscription.closed]));
    turns.next();
    turns.next();
    assert.deepEqual(seen, [[1, at(2), false]]);
  });

  it('gets a gap that a page of a log has shown between two turns', async (t) => {
    const log = new TestLog();
    const { hub, turns } = handRun({ log, history: { maxEvents: 1 } });
    for (let i = 0; i < 3; i++) hub.publish('a', { data: 'x' });
    turns.all();
    log.trim(2);
    let answer = () => {};
    log.answer = (look) => new Promise((resolve) => (answer = () => resolve(look())));
    let count = 0;
    onGap(t, () => count++);
    // The sink takes its first bytes, and refuses the gap: nothing else plans a turn.
    let room = 1;
    const sink: Sink = { write: () => room-- > 0, end() {}, on() {}, off() {} };
    hub.subscribe('a', sink, { lastEventId: at(0) });
    turns.all();
    answer();
    await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual([turns.all(), count], [1, 1]);
  });

  it('gets every gap, also that of a connection that has closed meanwhile', (t) => {
    const { hub, turns } = handRun();
    let count = 0;
    onGap(t, () => count++);
    const reader = new MemoryReader();
    hub.subscribe('a', reader, { lastEventId: 'no id' }).close();
    assert.equal(count, 0);
    turns.all();
    assert.equal(count, 1);
  });
});

describe('the clock and chance of an application', () => {
  it('may begin at 0, and a hub still has an epoch that ids can have', () => {
    const hub = new Hub({ now: () => 0, random: () => 0 });
    assert.equal(hub.position, '1-0');
    assert.equal(hub.publish('a', { data: 'x' }), '1-1');
  });

  it('may answer with no number, or throw: then the real time counts, and events still expire', () => {
    const odd: (() => number)[] = [
      () => NaN,
      () => -Infinity,
      () => 'x' as unknown as number,
      () => {
        throw new Error('theirs');
      },
    ];
    for (const now of odd) {
      const { hub, turns } = handRun({
        now,
        history: { maxAge: 1e6 },
        onDelivered: ({ latency }) => seen.push(latency),
      });
      const seen: number[] = [];
      hub.subscribe('a', new MemoryReader());
      hub.publish('a', { data: 'x' });
      turns.all();
      assert.ok(seen.every((latency) => latency >= 0 && latency < 1e6));
      assert.equal(hub.topics()[0]!.events, 1);
    }
  });

  it('may go back: no latency is negative, and nothing is lost', () => {
    let now = 1000;
    const seen: number[] = [];
    const { hub, turns } = handRun({
      now: () => now,
      history: { maxAge: 100 },
      onDelivered: ({ latency }) => seen.push(latency),
    });
    const reader = new MemoryReader();
    hub.subscribe('a', reader);
    turns.all();
    hub.publish('a', { data: '1' });
    now = 10;
    hub.publish('a', { data: '2' });
    turns.all();
    assert.deepEqual([reader.texts, seen], [['1', '2'], [0]]);
  });

  it('may give numbers out of range: every client gets a `retry` within a quarter of the option', () => {
    for (const number of [-5, 1, 1e9, NaN, Infinity, 'x' as unknown as number]) {
      const { hub, turns } = handRun({ random: () => number, retry: 1000 });
      const reader = new MemoryReader();
      hub.subscribe('a', reader);
      turns.all();
      const [, retry] = /retry: (\d+)/.exec(Buffer.concat(reader.chunks).toString())!;
      assert.equal(Number(retry), 1000);
    }
  });
});

describe('a topic that has ended and was forgotten', () => {
  it('refuses events, answers 204, and can be reopened', () => {
    const { hub, turns } = handRun({ maxTopics: 1 });
    hub.publish('a', { data: 'x' });
    hub.end('a');
    hub.publish('b', { data: 'x' });
    assert.deepEqual(
      hub.topics().map(({ topic }) => topic),
      ['b'],
    );
    assert.throws(() => hub.publish('a', { data: 'y' }), { code: 'ERR_SSE_TOPIC_ENDED' });
    assert.throws(() => hub.publishAll('a', [{ data: 'y' }]), { code: 'ERR_SSE_TOPIC_ENDED' });
    const statuses: number[] = [];
    const come = (lastEventId?: string) => {
      const reader = new MemoryReader();
      const refuse = (status: number) => statuses.push(status);
      hub.subscribe('a', Object.assign(reader, { refuse }), { lastEventId });
      turns.all();
      return reader.story;
    };
    assert.deepEqual([come(), come(at(1))], [[], []]);
    assert.deepEqual(statuses, [204, 204]);
    // What this client lacks is gone; it is told so, and then that the topic has ended.
    assert.deepEqual(come(at(0)), ['sluice:ready', 'sluice:gap', 'sluice:end']);
    assert.deepEqual([come(), hub.end('a'), hub.topics().length], [[], false, 1]);
    assert.equal(hub.reopen('a'), true);
    assert.equal(hub.publish('a', { data: 'z' }), at(3));
  });

  it('is kept as a name for as many topics as `maxTopics`, the newest', () => {
    const { hub } = handRun({ maxTopics: 3 });
    for (const topic of times(9, (i) => `t${i}`)) {
      hub.publish(topic, { data: 'x' });
      hub.end(topic);
    }
    const takes = (topic: string) => {
      try {
        hub.publish(topic, { data: 'x' });
        return true;
      } catch {
        return false;
      }
    };
    assert.deepEqual(
      times(9, (i) => takes(`t${8 - i}`))
        .reverse()
        .slice(3),
      times(6, () => false),
    );
  });
});

describe('readers of invented topics', () => {
  it('take no room from publishers: no history is forgotten, and no publisher refused', () => {
    const { hub, turns } = handRun({ maxTopics: 20, maxFollowedTopics: 100 });
    for (let i = 0; i < 20; i++) hub.publish(`real${i}`, { data: String(i) });
    let refused = 0;
    for (let i = 0; i < 200; i++) {
      try {
        hub.subscribe(`invented${i}`, new MemoryReader());
      } catch (error) {
        assert.equal((error as { code?: string }).code, 'ERR_SSE_TOO_MANY_FOLLOWED');
        refused++;
      }
    }
    turns.all();
    assert.equal(refused, 100);
    assert.ok(times(20, (i) => hub.topics()[i]!.events).every((events) => events === 1));
    for (let i = 0; i < 40; i++) hub.publish(`new${i}`, { data: 'x' });
    // A topic that is published to is found by its followers, however many invent names.
    const reader = new MemoryReader();
    hub.subscribe('new39', reader);
    hub.publish('new39', { data: 'y' });
    turns.all();
    assert.deepEqual(reader.texts, ['y']);
  });

  it('who follow every topic that there is keep no publisher from a new one', () => {
    const { hub, turns } = handRun({ maxTopics: 3 });
    const readers = ['a', 'b', 'c'].map((topic) => {
      hub.publish(topic, { data: '1' });
      const reader = new MemoryReader();
      hub.subscribe(topic, reader, { lastEventId: at(0) });
      return reader;
    });
    hub.publish('d', { data: '1' });
    for (const topic of ['a', 'b', 'c', 'd']) {
      hub.publish(topic, { data: '2' });
      turns.all();
    }
    assert.deepEqual(
      readers.map(({ texts }) => texts.at(-1)),
      ['2', '2', '2'],
    );
    // What was forgotten before it was delivered is said.
    assert.ok(readers.every(({ texts, gaps }) => texts.length === 2 || gaps.length > 0));
  });
});
