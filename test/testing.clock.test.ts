import assert from 'node:assert/strict';
import { describe, it, mock, type TestContext } from 'node:test';
import { setTimeout as realTimeout } from 'node:timers/promises';
import { promisify } from 'node:util';
import { connect } from '../lib/client.ts';
import { serveEvents } from '../lib/events.ts';
import { Heartbeat } from '../lib/heartbeat.ts';
import { Hub } from '../lib/hub.ts';
import { IdempotencyCache } from '../lib/idempotency.ts';
import { openStream } from '../lib/stream.ts';
import { exchange, FakeClock, MemoryServer, RawReader } from '../lib/testing.ts';
import { Tickets } from '../lib/tickets.ts';
import { nodeTransport } from '../lib/transport.ts';

function install(t: TestContext): FakeClock {
  const clock = FakeClock.install();
  t.after(() => clock.uninstall());
  return clock;
}

describe('FakeClock', () => {
  it('calls what falls due in order, with its arguments, and nothing else', (t) => {
    const clock = install(t);
    const called: unknown[] = [];
    setTimeout((...words: unknown[]) => called.push(...words), 20, 'b', 'c');
    setTimeout(() => called.push('a'), 10);
    const stopped = setTimeout(() => called.push('stopped'), 15);
    const interval = setInterval(() => called.push('i'), 12);
    clearTimeout(stopped);
    clock.advance(19);
    assert.deepEqual(called, ['a', 'i']);
    clock.advance(5);
    assert.deepEqual(called, ['a', 'i', 'b', 'c', 'i']);
    clearInterval(interval);
    assert.equal(clock.timers, 0);
  });

  it('has timers with the members of real ones', (t) => {
    const clock = install(t);
    let calls = 0;
    const timer = setTimeout(() => calls++, 10);
    assert.ok(timer.hasRef() && clock.holds);
    assert.ok(!timer.unref().hasRef() && !clock.holds);
    clock.advance(9);
    timer.refresh();
    clock.advance(9);
    assert.equal(calls, 0);
    clock.advance(1);
    assert.equal(calls, 1);
    setTimeout(() => calls++).close();
    setTimeout(() => calls++, -5);
    clock.advance(1);
    assert.equal(calls, 2);
  });

  it('moves `performance.now` and `Date.now` together', (t) => {
    const before = [performance.now(), Date.now()];
    const clock = install(t);
    const [now, date] = [performance.now(), Date.now()];
    assert.ok(now >= before[0]! && date >= before[1]!);
    clock.advance(1500);
    assert.deepEqual([performance.now() - now, Date.now() - date], [1500, 1500]);
  });

  it('leaves real timers to the real clock, and gives everything back', async () => {
    const { setTimeout: real } = globalThis;
    const now = performance.now;
    let isCalled = false;
    const timer = setTimeout(() => {
      isCalled = true;
    }, 5);
    const clock = FakeClock.install();
    assert.notEqual(globalThis.setTimeout, real);
    clearTimeout(timer);
    await realTimeout(20);
    assert.equal(isCalled, false);
    clock.uninstall();
    clock.uninstall();
    assert.equal(globalThis.setTimeout, real);
    assert.equal(performance.now, now);
  });

  it('gives everything back beside other fake timers, in whatever order they go', async () => {
    const { setTimeout: real } = globalThis;
    const { now } = Date;
    const mockTimers = (): void => mock.timers.enable({ apis: ['setTimeout', 'Date'] });
    const clockThenMock = (): void => {
      const clock = FakeClock.install();
      mockTimers();
      clock.uninstall();
      mock.timers.reset();
    };
    const mockThenClock = (): void => {
      mockTimers();
      const clock = FakeClock.install();
      mock.timers.reset();
      clock.uninstall();
    };
    for (const order of [clockThenMock, mockThenClock]) {
      order();
      // What stands there may be what the other one kept: it must have the real effect.
      await new Promise((resolve) => setTimeout(resolve, 1));
      assert.ok(Math.abs(Date.now() - now()) < 1000);
      globalThis.setTimeout = real;
    }
  });

  it('keeps what others have noted on the functions that it replaces', (t) => {
    const { setTimeout: real } = globalThis;
    const marked = Object.assign((() => {}) as unknown as typeof setTimeout, { hadOwnProperty: true });
    t.after(() => {
      globalThis.setTimeout = real;
    });
    globalThis.setTimeout = marked;
    const clock = FakeClock.install();
    assert.equal((globalThis.setTimeout as typeof marked).hadOwnProperty, true);
    globalThis.setTimeout = real;
    clock.uninstall();
    assert.equal(globalThis.setTimeout, real);
    const other = FakeClock.install();
    Reflect.deleteProperty(globalThis, 'setTimeout');
    other.uninstall();
    assert.equal(globalThis.setTimeout, real);
  });

  it('leaves nothing behind that stands still, in what has kept a function of it', async () => {
    const clock = FakeClock.install();
    const { setTimeout, setInterval, clearInterval } = globalThis;
    const { now } = Date;
    const before = now();
    clock.uninstall();
    while (now() < before + 20) await new Promise((resolve) => setTimeout(resolve, 5));
    const timer = await new Promise<NodeJS.Timeout>((resolve) => {
      const timer = setInterval(() => resolve(timer), 1);
    });
    clearInterval(timer);
  });

  it('takes a delay as Node does, and what `promisify` makes of `setTimeout`', async (t) => {
    const clock = install(t);
    let calls = 0;
    setTimeout(() => calls++, '100' as unknown as number);
    setTimeout(() => calls++, 2.9);
    clock.advance(2);
    assert.equal(calls, 1);
    const waiting = promisify(setTimeout)(50, 'value');
    clock.advance(98);
    assert.equal(calls, 2);
    assert.equal(await waiting, 'value');
    assert.throws(() => setTimeout(undefined as never, 1), /`callback` must be a function, got undefined/);
  });

  it('does not start a timer again that was stopped', (t) => {
    const clock = install(t);
    const fail = (): void => assert.fail('it was called');
    const stopped = [setTimeout(fail, 10), setInterval(fail, 10)];
    for (const timer of stopped) clearTimeout(timer);
    for (const timer of stopped) timer.refresh();
    clock.advance(50);
    assert.equal(clock.timers, 0);
  });

  it('never goes back, also where a callback moves it', () => {
    const clock = new FakeClock();
    clock.setTimeout(() => clock.hang(1000), 10);
    clock.advance(20);
    assert.equal(clock.now(), 1010);
    clock.setTimeout(() => clock.advance(1000), 10);
    clock.advance(20);
    assert.equal(clock.now(), 2020);
  });

  it('refuses what is no duration', async () => {
    const clock = new FakeClock();
    const error = /^RangeError: `duration` must be a number of milliseconds ≥ 0, got /;
    for (const duration of [Number.NaN, -1, Infinity, undefined as never]) {
      assert.throws(() => clock.advance(duration), error);
      assert.throws(() => clock.hang(duration), error);
      await assert.rejects(clock.pass(duration), error);
    }
    assert.equal(clock.now(), 0);
    assert.throws(() => new FakeClock(Number.NaN), /`time` must be a number, got NaN/);
  });

  it('is installed once at a time', (t) => {
    install(t);
    assert.throws(() => FakeClock.install(), /installed already: call its `uninstall\(\)` first/);
  });

  it('can be the clock of one object', () => {
    const clock = new FakeClock();
    let beats = 0;
    const heartbeat = new Heartbeat({ interval: 1000, clock });
    const sink = { write: () => ++beats > 0, on: () => {}, once: () => {}, off: () => {}, closed: false };
    heartbeat.add(sink as never);
    clock.advance(3000);
    assert.ok(beats >= 2, `${beats} beats`);
  });
});

describe('a FakeClock drives', () => {
  it('the heartbeats of streams', async (t) => {
    const clock = install(t);
    const server = new MemoryServer(serveEvents(new Hub(), { heartbeat: { interval: 30_000 } }));
    t.after(() => server.close());
    const reader = await RawReader.open('http://any.example/?topic=a', { socket: server.connect() });
    await reader.until('sluice:ready');
    const before = reader.text.length;
    await clock.pass(10 * 60_000, 1000);
    // Each is the comment `:` and a line end, in a chunk of HTTP.
    const beats = reader.text.slice(before).match(/^:$/gm) ?? [];
    assert.ok(
      beats.length >= 19 && beats.length <= 21,
      `${beats.length} in ten minutes, one each half a minute`,
    );
  });

  it('the deadlines of a stream', async (t) => {
    const clock = install(t);
    const { req, res, close } = await exchange();
    t.after(close);
    const stream = openStream(req, res, { idleTimeout: 60_000 });
    stream.send({ data: 'a' });
    await clock.pass(120_000, 1000);
    assert.equal(await stream.done, 'idle');
  });

  it('the ages of what a hub remembers, and of tickets', (t) => {
    const clock = install(t);
    const hub = new Hub({ history: { maxAge: 60_000 } });
    const tickets = new Tickets({ maxAge: 30_000 });
    const { ticket } = tickets.issue('somebody');
    hub.publish('a', { data: '1' });
    clock.advance(61_000);
    hub.publish('a', { data: '2' });
    assert.deepEqual(
      hub.topics().map(({ events }) => events),
      [1],
    );
    assert.equal(tickets.redeem(ticket), undefined);
  });

  it('what was made before it was installed, and not what is left of a test after it', async (t) => {
    const hub = new Hub({ history: { maxAge: 60_000 } });
    const tickets = new Tickets({ maxAge: 30_000 });
    const outcomes = new IdempotencyCache<string>({ maxAge: 30_000 });
    const counts = (): number[] => hub.topics().map(({ events }) => events);
    const left = await exchange();
    t.after(left.close);
    const leftStream = openStream(left.req, left.res, { idleTimeout: 60_000 });
    const clock = install(t);
    hub.publish('a', { data: '1' });
    const { ticket } = tickets.issue('somebody');
    await outcomes.run('key', async () => 'first');
    const { req, res, close } = await exchange();
    t.after(close);
    const stream = openStream(req, res, { idleTimeout: 60_000 });
    await clock.pass(120_000, 10_000);
    assert.equal(await stream.done, 'idle');
    assert.equal(await leftStream.done, 'idle');
    hub.publish('a', { data: '2' });
    assert.deepEqual(counts(), [1]);
    assert.equal(tickets.redeem(ticket), undefined);
    assert.equal(await outcomes.run('key', async () => 'second'), 'second');
  });

  it('no stream that is opened after it, beside one that was left open', async (t) => {
    const clock = FakeClock.install();
    const left = await exchange();
    t.after(left.close);
    openStream(left.req, left.res, { idleTimeout: 20 });
    clock.uninstall();
    const { req, res, close } = await exchange();
    t.after(close);
    const stream = openStream(req, res, { idleTimeout: 20 });
    // Neither its timer nor a connection in memory keeps the process alive.
    while (!stream.closed) await realTimeout(5);
    assert.equal(await stream.done, 'idle');
  });

  it('the waits of a reader', async (t) => {
    const clock = install(t);
    const attempts: number[] = [];
    const server = new MemoryServer((_, res) => {
      attempts.push(clock.now());
      res.writeHead(503, { 'retry-after': '300' }).end();
    });
    const transport = nodeTransport({ agent: server.agent });
    const connection = connect('http://any.example/', { transport });
    const reading = connection[Symbol.asyncIterator]().next();
    while (attempts.length < 2) await clock.pass(1000, 1000);
    assert.ok(attempts[1]! - attempts[0]! >= 300_000);
    connection.close();
    assert.equal((await reading).done, true);
  });
});
