import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { connect, createServer as createTcpServer, type Socket } from 'node:net';
import { PassThrough, Writable } from 'node:stream';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { Heartbeat, heartbeatProfiles } from '../lib/heartbeat.ts';
import { FakeClock } from './helpers/clock.ts';

/** A Writable that remembers when it was written to, and counts its bytes as a socket does. */
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

/** How many streams had their first beat in each of fifteen seconds; all of them had. */
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
  it('sends a comment to a silent stream, never later than the interval', () => {
    const clock = new FakeClock();
    const beats = new Heartbeat({ clock });
    const stream = new Recorder(clock);
    beats.add(stream);
    clock.advance(600 * SECOND);
    assert.match(stream.text, /^(:\n\n)+$/);
    assert.equal(stream.times.length, beats.sent);
    let before = 0;
    for (const [nth, time] of stream.times.entries()) {
      assert.ok(time - before <= 15 * SECOND, `${time - before} ms of silence`);
      if (nth > 0) assert.ok(time - before >= 11 * SECOND, `beat after ${time - before} ms`);
      before = time;
    }
  });

  it('leaves a busy stream alone', () => {
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

  it('leaves a stream alone that is busy again after a long silence, but for one beat', () => {
    const clock = new FakeClock();
    const beats = new Heartbeat({ clock });
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

  it('breaks every silence in time and no other, whatever the application writes, adds and takes away', () => {
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

  it('beats on the interval where a sink does not count its bytes', () => {
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

  it('skips a stream that is full, and goes on once it has drained', () => {
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

  it('spreads the first beats of a crowd over the interval', () => {
    const clock = new FakeClock();
    const beats = new Heartbeat({ clock });
    const crowd = Array.from({ length: 3000 }, () => new Recorder(clock));
    for (const stream of crowd) beats.add(stream);
    clock.advance(15 * SECOND);
    const perSecond = firstBeats(crowd);
    // 200 is the share of a second. The first takes more, as what falls due before the second look goes there.
    assert.ok(Math.max(...perSecond) <= 600, perSecond.join());
  });

  it('spreads them though each of the crowd is greeted', () => {
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
    // Over nine seconds: five ticks of 78 each at most, and chance. Over three, as those after a burst of events are,
    // it would be a thousand.
    assert.ok(Math.max(...perSecond) <= 600, perSecond.join());
  });

  it('never lets a crowd beat at once, later on either', () => {
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

  it('does not take a stream that is closed already', async () => {
    const beats = new Heartbeat({ clock: new FakeClock() });
    const gone = new PassThrough();
    gone.destroy();
    await once(gone, 'close');
    beats.add(gone);
    assert.equal(beats.size, 0);
  });

  it('reports a sink that throws and serves the others', () => {
    const clock = new FakeClock();
    const errors: unknown[] = [];
    const beats = new Heartbeat({ clock, onError: (error, sink) => errors.push([error, sink]) });
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
    assert.deepEqual(errors[0], [new Error('broken'), broken]);
  });

  it('lets a sink leave, and others join, in the middle of a beat', () => {
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

  it('sends a named event, or what a function makes for the stream', () => {
    const clock = new FakeClock();
    const named = new Heartbeat({ clock, event: 'ping' });
    const seen = new Recorder(clock);
    named.add(seen);
    const own = new Heartbeat<Recorder>({ clock, beat: () => Buffer.from('event: a\ndata:\n\n') });
    const [common, special] = [new Recorder(clock), new Recorder(clock)];
    own.add(common);
    own.add(special, { beat: (sink) => Buffer.from(`data: ${sink.times.length}\n\n`) });
    clock.advance(31 * SECOND);
    assert.match(seen.text, /^(event: ping\ndata:\n\n)+$/);
    assert.match(common.text, /^(event: a\ndata:\n\n)+$/);
    assert.match(special.text, /^data: 0\n\ndata: 1\n\n/);
  });

  it('gives a stream an interval of its own, shorter or longer', () => {
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

  it('keeps silences short when the event loop was held up', () => {
    const clock = new FakeClock();
    const beats = new Heartbeat({ clock });
    const crowd = Array.from({ length: 100 }, () => new Recorder(clock));
    for (const stream of crowd) beats.add(stream);
    clock.hang(20 * SECOND);
    clock.advance(300);
    assert.equal(beats.sent, 100);
  });

  it('runs one timer, unref’d, and only while it has members', () => {
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

  it('refuses options out of range, by name', () => {
    const add = (interval: number) => new Heartbeat().add(new PassThrough(), { interval });
    assert.throws(() => new Heartbeat({ interval: 0 }), /^RangeError: `interval` must be .*, got 0$/);
    assert.throws(() => new Heartbeat({ interval: Infinity }), /`interval` must be .*, got Infinity$/);
    assert.throws(() => new Heartbeat({ interval: 2 ** 31 }), RangeError);
    assert.throws(() => add(Number.NaN), /`interval` .* got NaN$/);
    assert.throws(
      () => new Heartbeat({ jitter: 1.5 }),
      /^RangeError: `jitter` must be from 0 to 1, got 1.5$/,
    );
    assert.throws(
      () => new Heartbeat({ event: 'a\rb' }),
      /^TypeError: `event` must be one line of text, got "a\\rb"$/,
    );
    assert.throws(() => new Heartbeat({ event: 'a', beat: () => Buffer.from('') }), /exclude each other/);
  });

  it('names how often to beat on which network', () => {
    assert.deepEqual(heartbeatProfiles, {
      mobile: { interval: 30_000, missed: 3 },
      wifi: { interval: 60_000, missed: 2 },
      lan: { interval: 120_000, missed: 1 },
    });
    assert.ok(Object.isFrozen(heartbeatProfiles) && Object.isFrozen(heartbeatProfiles.lan));
  });
});

describe('Heartbeat and its groups', () => {
  function recordingGroup(interval: number) {
    const lived: number[] = [];
    const died: number[] = [];
    return {
      interval,
      lived: (silence: number) => void lived.push(silence),
      died: (silence: number) => void died.push(silence),
      silences: { lived, died },
    };
  }

  it('takes the interval from the group, and follows when it moves', () => {
    const clock = new FakeClock();
    const beats = new Heartbeat({ clock });
    const stream = new Recorder(clock);
    const group = recordingGroup(60 * SECOND);
    beats.add(stream, { group });
    clock.advance(600 * SECOND);
    const slow = stream.times.length;
    group.interval = SECOND;
    clock.advance(60 * SECOND);
    assert.ok(slow >= 10 && slow <= 16, `${slow} at 60 s`);
    // It is noticed within an eighth of a minute.
    assert.ok(stream.times.length - slow >= 51);
  });

  it('tells the group which silences were survived', () => {
    const clock = new FakeClock();
    const beats = new Heartbeat({ clock });
    const group = recordingGroup(10 * SECOND);
    beats.add(new Recorder(clock), { group });
    clock.advance(100 * SECOND);
    const { lived, died } = group.silences;
    assert.ok(lived.length >= beats.sent - 1 && lived.length > 8);
    assert.ok(
      lived.slice(1).every((silence) => silence > 7 * SECOND && silence <= 10 * SECOND),
      lived.join(),
    );
    assert.deepEqual(died, []);
  });

  it('tells the group at what silence a connection was lost, whether the sweep or the owner finds it', async () => {
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
    clock.advance(8 * SECOND);
    assert.equal(beats.size, 0);
    assert.equal(group.silences.died.length, 2);
    for (const silence of group.silences.died)
      assert.ok(silence >= 20 * SECOND && silence < 36 * SECOND, `${silence}`);
  });

  it('counts the silence before the beat when the beat is what showed the loss', () => {
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
    assert.equal(group.silences.died.length, 1);
    assert.ok(group.silences.died[0]! > 7 * SECOND, `${group.silences.died}`);
  });

  it('learns nothing from streams that were ended here', async () => {
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
    assert.deepEqual(group.silences.died, []);
  });

  it('asks the owner what a loss is, where one says', () => {
    const clock = new FakeClock();
    const sink = { closed: false, writableNeedDrain: false, reason: '', write: () => true };
    const beats = new Heartbeat<typeof sink>({ clock, lost: ({ reason }) => reason === 'client-gone' });
    const group = recordingGroup(10 * SECOND);
    for (const reason of ['stalled', 'client-gone']) {
      const one = { ...sink };
      beats.add(one, { group });
      Object.assign(one, { reason, closed: true });
      clock.advance(SECOND);
    }
    assert.equal(group.silences.died.length, 1);
  });
});

describe('Heartbeat on real connections', () => {
  it('reaches a client through a ServerResponse, as a comment', async () => {
    const beats = new Heartbeat({ interval: 20 });
    const server = createServer((_req, res) => {
      res.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders();
      beats.add(res);
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as { port: number };
    const response = await fetch(`http://127.0.0.1:${port}/`);
    const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
    let text = '';
    while (text.length < 9) text += (await reader.read()).value;
    assert.match(text, /^(:\n\n)+$/);
    await reader.cancel();
    server.closeAllConnections();
    server.close();
    await once(server, 'close');
    while (beats.size > 0) await new Promise((resolve) => setTimeout(resolve, 5));
  });

  it('sees what a socket writes by its byte count', async () => {
    const server = createTcpServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const client = connect((server.address() as { port: number }).port, '127.0.0.1').resume();
    const [socket] = (await once(server, 'connection')) as [Socket];
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
    client.destroy();
    socket.destroy();
    server.close();
    await once(server, 'close');
  });
});
