import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer as createTcpServer, type Socket } from 'node:net';
import { PassThrough, Writable } from 'node:stream';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { Heartbeat, heartbeatProfiles } from '../lib/heartbeat.ts';
import { FakeClock } from './helpers/clock.ts';
import { dial } from './helpers/raw.ts';
import { Reader } from './helpers/reader.ts';
import { listen, serve } from './helpers/server.ts';

/** A Writable that records the times of its writes, and counts its bytes as a socket does. */
class Recorder extends Writable {
  readonly clock: FakeClock;
  readonly times: number[] = [];
  text = '';
  bytesWritten = 0;

  constructor(clock: FakeClock) {
    super();
    this.clock = clock;
  }

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.times.push(this.clock.now());
    this.text += chunk.toString();
    this.bytesWritten += chunk.length;
    done();
  }
}

const SECOND = 1000;

/** How many streams had their first heartbeat in each of fifteen seconds. Asserts that all had one. */
function firstBeats(streams: readonly Recorder[]): number[] {
  const perSecond = new Array<number>(15).fill(0);
  for (const { times } of streams) perSecond[Math.ceil(times[0]! / SECOND) - 1]!++;
  assert.equal(
    perSecond.reduce((sum, count) => sum + count),
    streams.length,
  );
  return perSecond;
}

describe('Heartbeat', () => {
  it('sends a comment of one line to a silent stream, never later than the interval', () => {
    const clock = new FakeClock();
    const beats = new Heartbeat({ clock });
    const stream = new Recorder(clock);
    beats.add(stream);
    clock.advance(600 * SECOND);
    assert.match(stream.text, /^(:\n)+$/);
    assert.equal(stream.times.length, beats.sent);
    let before = 0;
    for (const [nth, time] of stream.times.entries()) {
      assert.ok(time - before <= 15 * SECOND, `${time - before} ms of silence`);
      // Its own heartbeats are no activity, after which the next one might come early.
      if (nth > 0) assert.ok(time - before >= 14 * SECOND, `beat after ${time - before} ms`);
      before = time;
    }
  });

  it('sends nothing to a busy stream', () => {
    const clock = new FakeClock();
    const beats = new Heartbeat({ clock });
    const busy = new Recorder(clock);
    busy.write('data: 0\n\n');
    beats.add(busy);
    for (let n = 0; n < 100; n++) {
      busy.write('data: 1\n\n');
      clock.advance(n === 0 ? SECOND : 5 * SECOND);
    }
    assert.equal(beats.sent, 0);
  });

  for (const [when, jitter, random] of [
    ['after a long silence', 0.2, Math.random],
    ['where its spread is drawn as none', 0.2, () => 0],
    ['where there is no spread', 0, Math.random],
  ] as const) {
    it(`sends at most one heartbeat to a stream that is busy again, ${when}`, (t) => {
      t.mock.method(Math, 'random', random);
      const clock = new FakeClock();
      const beats = new Heartbeat({ clock, jitter });
      const stream = new Recorder(clock);
      beats.add(stream);
      clock.advance(100 * SECOND);
      const sent = beats.sent;
      for (let n = 0; n < 100; n++) {
        stream.write('data: 1\n\n');
        clock.advance(5 * SECOND);
      }
      assert.ok(beats.sent <= sent + 1, `${beats.sent - sent}`);
    });
  }

  it('ends every silence in time, whatever the application writes, adds and removes', () => {
    const step = fc.record({
      wait: fc.integer({ min: 0, max: 20 * SECOND }),
      write: fc.array(fc.nat(19), { maxLength: 8 }),
      toggle: fc.array(fc.nat(19), { maxLength: 4 }),
    });
    fc.assert(
      fc.property(fc.array(step, { minLength: 5, maxLength: 40 }), (steps) => {
        const clock = new FakeClock();
        const beats = new Heartbeat<Recorder>({ clock });
        const streams = Array.from({ length: 20 }, () => new Recorder(clock));
        const since = new Map<Recorder, number>();
        const check = (from: number, to: number) => {
          assert.ok(to - from <= 15 * SECOND, `${to - from} ms of silence`);
        };
        for (const { wait, write, toggle } of steps) {
          for (const nth of toggle) {
            const stream = streams[nth]!;
            if (since.delete(stream)) beats.delete(stream);
            else {
              beats.add(stream);
              since.set(stream, clock.now());
              stream.times.length = 0;
            }
          }
          for (const nth of write) streams[nth]!.write('data\n\n');
          clock.advance(wait);
          for (const [stream, from] of since) {
            let last = from;
            for (const time of stream.times) {
              check(last, time);
              last = time;
            }
            check(last, clock.now());
          }
        }
        assert.equal(beats.size, since.size);
        assert.equal(beats.failed, 0);
      }),
      { numRuns: 60 },
    );
  });

  it('sends a heartbeat each interval to a sink without bytesWritten', () => {
    const clock = new FakeClock();
    const beats = new Heartbeat({ clock });
    const plain = new PassThrough();
    beats.add(plain);
    for (let n = 0; n < 60; n++) {
      plain.write('data: 1\n\n');
      clock.advance(SECOND);
      plain.read();
    }
    assert.ok(beats.sent >= 4, `${beats.sent} beats`);
  });

  it('skips a stream that takes no bytes, and resumes after its drain', () => {
    const clock = new FakeClock();
    const beats = new Heartbeat({ clock });
    const slow = new PassThrough({ highWaterMark: 1 });
    slow.write('data: 1\n\n');
    assert.equal(slow.writableNeedDrain, true);
    beats.add(slow);
    clock.advance(60 * SECOND);
    assert.equal(beats.sent, 0);
    assert.ok(beats.skipped >= 4 && beats.skipped <= 6, `${beats.skipped} skipped`);
    const other = new Recorder(clock);
    beats.add(other);
    slow.resume();
    return once(slow, 'drain').then(() => {
      clock.advance(30 * SECOND);
      assert.ok(beats.sent > other.times.length);
    });
  });

  it('spreads the first heartbeats of streams that were added together', () => {
    const clock = new FakeClock();
    const beats = new Heartbeat({ clock });
    const crowd = Array.from({ length: 3000 }, () => new Recorder(clock));
    for (const stream of crowd) beats.add(stream);
    clock.advance(15 * SECOND);
    const perSecond = firstBeats(crowd);
    // 200 is the share of a second. The first second has more: it takes what falls due before the second
    // examination.
    assert.ok(Math.max(...perSecond) <= 600, perSecond.join());
  });

  it('spreads the first heartbeats of streams that begin with a greeting', () => {
    const clock = new FakeClock();
    const beats = new Heartbeat({ clock });
    const crowd = Array.from({ length: 3000 }, () => new Recorder(clock));
    for (const stream of crowd) {
      beats.add(stream);
      stream.write('id: 1\n\n');
      stream.times.length = 0;
    }
    clock.advance(15 * SECOND);
    const perSecond = firstBeats(crowd);
    // Spread over nine seconds: at most five ticks of 78 each, give or take. Over three seconds, as after a
    // burst of events, it would be a thousand.
    assert.ok(Math.max(...perSecond) <= 600, perSecond.join());
  });

  it('keeps heartbeats spread later on', () => {
    const clock = new FakeClock();
    const beats = new Heartbeat({ clock });
    const crowd = Array.from({ length: 1000 }, () => new Recorder(clock));
    for (const stream of crowd) beats.add(stream);
    clock.advance(300 * SECOND);
    const perTick = new Map<number, number>();
    for (const time of crowd.flatMap((stream) => stream.times))
      perTick.set(time, (perTick.get(time) ?? 0) + 1);
    assert.ok(Math.max(...perTick.values()) < 200, `${Math.max(...perTick.values())} in one turn`);
  });

  it('drops a closed stream', async () => {
    const clock = new FakeClock();
    const beats = new Heartbeat({ clock });
    const [one, other] = [new Recorder(clock), new Recorder(clock)];
    beats.add(one);
    beats.add(other);
    one.destroy();
    await once(one, 'close');
    clock.advance(2 * SECOND);
    assert.equal(beats.size, 1);
    assert.equal(beats.delete(one), false);
    assert.equal(beats.delete(other), true);
  });

  it('looks no more at a closed stream, whether it finds it or is told of it', () => {
    for (const isTold of [false, true]) {
      const clock = new FakeClock();
      const beats = new Heartbeat({ clock });
      const sinks = Array.from({ length: 3 }, () => {
        const sink = { isClosed: false, looks: 0, writableNeedDrain: false, write: () => true };
        const look = {
          get: () => {
            sink.looks++;
            return sink.isClosed;
          },
        };
        return Object.defineProperty(sink as typeof sink & { readonly closed: boolean }, 'closed', look);
      });
      for (const sink of sinks) beats.add(sink);
      sinks[1]!.isClosed = true;
      if (isTold) beats.delete(sinks[1]!);
      clock.advance(15 * SECOND);
      for (const sink of sinks) sink.looks = 0;
      clock.advance(60 * SECOND);
      assert.deepEqual(
        sinks.map(({ looks }) => looks > 0),
        [true, false, true],
      );
    }
  });

  it('ignores a stream that is closed when it is added', async () => {
    const beats = new Heartbeat({ clock: new FakeClock() });
    const gone = new PassThrough();
    gone.destroy();
    await once(gone, 'close');
    beats.add(gone);
    assert.equal(beats.size, 0);
  });

  it('reports a sink that throws, and serves the others', () => {
    const clock = new FakeClock();
    const errors: unknown[] = [];
    const beats = new Heartbeat({ clock, onError: (...reported) => errors.push(reported) });
    const streams = Array.from({ length: 5 }, () => new Recorder(clock));
    const broken = {
      closed: false,
      writableNeedDrain: false,
      write(): boolean {
        throw new Error('broken');
      },
    };
    for (const stream of streams) beats.add(stream);
    beats.add(broken);
    clock.advance(16 * SECOND);
    assert.ok(streams.every((stream) => stream.times.length > 0));
    assert.ok(errors.length > 0);
    assert.equal(errors.length, beats.failed);
    assert.deepEqual(errors[0], [new Error('broken'), { sink: broken }]);
  });

  it('allows adding and deleting sinks while it writes a heartbeat', () => {
    const clock = new FakeClock();
    const beats = new Heartbeat({ clock });
    const late = new Recorder(clock);
    const sinks = Array.from({ length: 50 }, (_, nth) => ({
      closed: false,
      writableNeedDrain: false,
      beats: 0,
      write(): boolean {
        this.beats++;
        if (nth % 2 === 0) beats.delete(this);
        if (nth === 1) beats.add(late);
        return true;
      },
    }));
    for (const sink of sinks) beats.add(sink);
    clock.advance(60 * SECOND);
    assert.ok(sinks.every(({ beats }, nth) => (nth % 2 === 0 ? beats === 1 : beats >= 4)));
    assert.equal(beats.size, 26);
    assert.ok(late.times.length > 0);
  });

  it('sends a named event, or what `beat` writes to the stream', () => {
    const clock = new FakeClock();
    const named = new Heartbeat({ clock, event: 'ping' });
    const seen = new Recorder(clock);
    named.add(seen);
    const own = new Heartbeat<Recorder>({ clock, beat: (sink) => sink.write('event: a\ndata:\n\n') });
    const [common, special, counted] = [new Recorder(clock), new Recorder(clock), new Recorder(clock)];
    own.add(common);
    own.add(special, { beat: (sink) => sink.write(`data: ${sink.times.length}\n\n`) });
    const counter = {
      count: 0,
      beat(sink: Recorder) {
        return sink.write(`data: ${this.count++} beats\n\n`);
      },
    };
    own.add(counted, { beat: counter });
    clock.advance(31 * SECOND);
    assert.match(seen.text, /^(event: ping\ndata:\n\n)+$/);
    assert.match(common.text, /^(event: a\ndata:\n\n)+$/);
    assert.match(special.text, /^data: 0\n\ndata: 1\n\n/);
    assert.match(counted.text, /^data: 0 beats\n\ndata: 1 beats\n\n/);
  });

  it('accepts an interval for one stream, shorter or longer', () => {
    const clock = new FakeClock();
    const beats = new Heartbeat({ clock });
    const [usual, quick, rare] = [new Recorder(clock), new Recorder(clock), new Recorder(clock)];
    beats.add(usual);
    beats.add(quick, { interval: SECOND });
    beats.add(rare, { interval: heartbeatProfiles.lan.interval });
    clock.advance(240 * SECOND);
    const longest = (times: number[]) => Math.max(...times.slice(1).map((time, nth) => time - times[nth]!));
    assert.ok(longest(quick.times) <= SECOND && quick.times.length >= 239);
    assert.ok(longest(usual.times) <= 15 * SECOND && usual.times.length >= 15 && usual.times.length < 25);
    assert.ok(rare.times.length >= 2 && rare.times.length <= 4);
  });

  it('catches up at once after the event loop was blocked', () => {
    const clock = new FakeClock();
    const beats = new Heartbeat({ clock });
    const crowd = Array.from({ length: 100 }, () => new Recorder(clock));
    for (const stream of crowd) beats.add(stream);
    clock.hang(20 * SECOND);
    clock.advance(300);
    assert.equal(beats.sent, 100);
  });

  it('runs one unref’d timer, only while it has streams', () => {
    const clock = new FakeClock();
    const beats = new Heartbeat({ clock });
    assert.equal(clock.timers, 0);
    const streams = Array.from({ length: 100 }, () => new Recorder(clock));
    for (const stream of streams) beats.add(stream);
    assert.equal(clock.timers, 1);
    assert.equal(clock.holds, false);
    for (const stream of streams) beats.delete(stream);
    assert.equal(clock.timers, 0);
    beats.add(streams[0]!);
    beats.add(streams[0]!);
    assert.equal(beats.size, 1);
    beats.stop();
    assert.equal(clock.timers, 0);
    assert.equal(beats.size, 0);
  });

  it('refuses options out of range, naming them', () => {
    const add = (interval: number) => new Heartbeat().add(new PassThrough(), { interval });
    assert.throws(() => new Heartbeat({ interval: 0 }), /^RangeError: `interval` must be .*, got 0$/);
    assert.throws(() => new Heartbeat({ interval: Infinity }), /`interval` must be .*, got Infinity$/);
    assert.throws(() => new Heartbeat({ interval: 2 ** 31 }), RangeError);
    assert.throws(() => add(Number.NaN), /`interval` .* got NaN$/);
    assert.throws(() => add('15000' as never), /`interval` .* got 15000$/);
    for (const interval of [0, -1, Number.NaN, Infinity, '15000'] as number[]) {
      const group = { interval, survived() {}, lost() {} };
      assert.throws(
        () => new Heartbeat().add(new PassThrough(), { group }),
        /^RangeError: `interval` must be/,
      );
    }
    assert.throws(
      () => new Heartbeat({ jitter: 1.5 }),
      /^RangeError: `jitter` must be from 0 to 1, got 1.5$/,
    );
    assert.throws(
      () => new Heartbeat({ event: 'a\rb' }),
      /^TypeError: `event` must be one line of text, got "a\\rb"$/,
    );
    assert.throws(() => new Heartbeat({ event: 'a', beat: () => {} }), /exclude each other/);
  });

  it('takes a stream that is added again with its new options only', () => {
    const clock = new FakeClock();
    const beats = new Heartbeat({ clock });
    const stream = new Recorder(clock);
    beats.add(stream, { interval: 5 * SECOND });
    beats.add(stream, { interval: 60 * SECOND });
    clock.advance(600 * SECOND);
    assert.ok(beats.sent >= 10 && beats.sent <= 13, `${beats.sent} heartbeats`);
    assert.equal(beats.size, 1);
    beats.delete(stream);
    clock.advance(600 * SECOND);
    assert.ok(beats.sent <= 13, `${beats.sent} heartbeats`);
  });

  it('keeps to the interval of the stream while its group states none that a timer can have', () => {
    for (const wrong of [0, -5, Number.NaN, Infinity]) {
      const clock = new FakeClock();
      const beats = new Heartbeat({ clock });
      const stream = new Recorder(clock);
      const group = { interval: 15 * SECOND, survived() {}, lost() {} };
      beats.add(stream, { group });
      group.interval = wrong;
      clock.advance(150 * SECOND);
      assert.ok(beats.sent >= 10 && beats.sent <= 20, `${beats.sent} heartbeats for an interval of ${wrong}`);
      assert.ok(
        clock.intervals.every((interval) => interval >= 100),
        clock.intervals.join(),
      );
      beats.stop();
    }
  });

  it('has frozen profiles for kinds of networks', () => {
    assert.deepEqual(heartbeatProfiles, {
      mobile: { interval: 30_000, missed: 3 },
      wifi: { interval: 60_000, missed: 2 },
      lan: { interval: 120_000, missed: 1 },
    });
    assert.ok(Object.isFrozen(heartbeatProfiles) && Object.isFrozen(heartbeatProfiles.lan));
  });
});

describe('Heartbeat with groups', () => {
  function recordingGroup(interval: number) {
    const survived: number[] = [];
    const lost: number[] = [];
    return {
      interval,
      survived: (silence: number) => void survived.push(silence),
      lost: (silence: number) => void lost.push(silence),
      silences: { survived, lost },
    };
  }

  it('takes the interval from the group, and follows its changes', () => {
    const clock = new FakeClock();
    const beats = new Heartbeat({ clock });
    const stream = new Recorder(clock);
    const group = recordingGroup(60 * SECOND);
    beats.add(stream, { group });
    clock.advance(600 * SECOND);
    const slow = stream.times.length;
    group.interval = SECOND / 10;
    clock.advance(60 * SECOND);
    assert.ok(slow >= 10 && slow <= 16, `${slow} at 60 s`);
    // The change takes effect within an eighth of the old interval.
    assert.ok(stream.times.length - slow >= 510, `${stream.times.length - slow} at 100 ms`);
  });

  it('reports survived silences to the group', () => {
    const clock = new FakeClock();
    const beats = new Heartbeat({ clock });
    const group = recordingGroup(10 * SECOND);
    beats.add(new Recorder(clock), { group });
    clock.advance(100 * SECOND);
    const { survived, lost } = group.silences;
    assert.ok(survived.length >= beats.sent - 1 && survived.length > 8);
    assert.ok(
      survived.slice(1).every((silence) => silence > 7 * SECOND && silence <= 10 * SECOND),
      survived.join(),
    );
    assert.deepEqual(lost, []);
  });

  it('reports the silence of a lost connection to the group, whether the sweep or `delete` finds it', async () => {
    const clock = new FakeClock();
    const beats = new Heartbeat({ clock });
    const group = recordingGroup(60 * SECOND);
    const streams = [new Recorder(clock), new Recorder(clock)];
    for (const stream of streams) {
      beats.add(stream, { group });
      stream.write('data: 1\n\n');
    }
    clock.advance(30 * SECOND);
    for (const stream of streams) stream.write('data: 2\n\n');
    clock.advance(20 * SECOND);
    const closed = streams.map((stream) => once(stream, 'close'));
    for (const stream of streams) stream.destroy();
    await Promise.all(closed);
    assert.equal(beats.delete(streams[0]!), true);
    // A stream is looked at each eighth of the interval, and a scan later where a removal moved it.
    clock.advance(10 * SECOND);
    assert.equal(beats.size, 0);
    assert.equal(group.silences.lost.length, 2);
    for (const silence of group.silences.lost)
      assert.ok(silence >= 20 * SECOND && silence < 36 * SECOND, `${silence}`);
  });

  it('reports the silence before the heartbeat that exposed the loss', () => {
    const clock = new FakeClock();
    const beats = new Heartbeat({ clock });
    const group = recordingGroup(10 * SECOND);
    const reset = {
      closed: false,
      writableNeedDrain: false,
      bytesWritten: 0,
      beats: 0,
      write(chunk: Uint8Array): boolean {
        this.bytesWritten += chunk.length;
        this.closed = ++this.beats === 2;
        return true;
      },
    };
    beats.add(reset, { group });
    clock.advance(21 * SECOND);
    assert.equal(group.silences.lost.length, 1);
    assert.ok(group.silences.lost[0]! > 7 * SECOND, `${group.silences.lost}`);
  });

  it('reports nothing of streams that were ended on this side', async () => {
    const clock = new FakeClock();
    const beats = new Heartbeat({ clock });
    const group = recordingGroup(10 * SECOND);
    const stream = new Recorder(clock);
    beats.add(stream, { group });
    clock.advance(5 * SECOND);
    stream.end();
    await once(stream, 'close');
    clock.advance(5 * SECOND);
    assert.equal(beats.size, 0);
    assert.deepEqual(group.silences.lost, []);
  });

  it('lets `isLost` decide which closed streams were lost', () => {
    const clock = new FakeClock();
    const sink = { closed: false, writableNeedDrain: false, reason: '', write: () => true };
    const beats = new Heartbeat<typeof sink>({ clock, isLost: ({ reason }) => reason === 'client-gone' });
    const group = recordingGroup(10 * SECOND);
    for (const reason of ['stalled', 'client-gone']) {
      const one = { ...sink };
      beats.add(one, { group });
      Object.assign(one, { reason, closed: true });
      clock.advance(SECOND);
    }
    assert.equal(group.silences.lost.length, 1);
  });
});

describe('Heartbeat with groups that delete streams', () => {
  it('keeps the others in time when a stream is deleted while it is examined', () => {
    const clock = new FakeClock();
    const beats = new Heartbeat({ clock });
    const doomed = new Recorder(clock);
    // Takes the place of the one that is examined.
    const stream = new Recorder(clock);
    let since = 0;
    const survived = () => {
      beats.delete(doomed);
      beats.add(stream);
      since = clock.now();
    };
    beats.add(doomed, { group: { interval: 600 * SECOND, survived, lost() {} } });
    while (since === 0) clock.advance(SECOND);
    clock.advance(150 * SECOND);
    assert.equal(beats.size, 1);
    let before = since;
    for (const time of stream.times) {
      assert.ok(time - before <= 15 * SECOND, `${time - before} ms of silence`);
      before = time;
    }
  });

  it('reports no loss of a stream that is deleted while it is open', () => {
    const clock = new FakeClock();
    const beats = new Heartbeat({ clock });
    const losses: number[] = [];
    const group = { interval: 15 * SECOND, survived() {}, lost: (silence: number) => losses.push(silence) };
    const stream = new Recorder(clock);
    beats.add(stream, { group });
    clock.advance(20 * SECOND);
    assert.equal(beats.delete(stream), true);
    stream.destroy();
    assert.equal(beats.delete(stream), false);
    assert.deepEqual(losses, []);
  });
});

describe('Heartbeat on real connections', () => {
  it('reaches a client through a ServerResponse', { timeout: 10_000 }, async (t) => {
    const beats = new Heartbeat({ interval: 20 });
    const { url } = await serve(t, (_req, res) => {
      res.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders();
      beats.add(res);
    });
    const reader = await Reader.open(url);
    assert.match(await reader.until(':\n:\n:'), /^(:\n)+/);
    reader.close();
    while (beats.size > 0) await new Promise((resolve) => setTimeout(resolve, 5));
  });

  it('notices the writes of a socket by its byte count', async (t) => {
    const server = createTcpServer();
    const accepted = once(server, 'connection') as Promise<[Socket]>;
    (await dial(t, await listen(t, server))).resume();
    const [socket] = await accepted;
    const clock = new FakeClock();
    const beats = new Heartbeat({ clock });
    socket.write('hello');
    beats.add(socket);
    for (let n = 0; n < 20; n++) {
      socket.write('data: 1\n\n');
      clock.advance(n === 0 ? 10 : 5 * SECOND);
    }
    assert.equal(beats.sent, 0);
    clock.advance(60 * SECOND);
    assert.ok(beats.sent >= 4);
  });
});
