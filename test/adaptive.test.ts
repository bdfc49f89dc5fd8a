import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type AdaptiveGroup, AdaptiveInterval } from '../lib/adaptive.ts';
import { Heartbeat } from '../lib/heartbeat.ts';
import { FakeClock } from './helpers/clock.ts';

const SECOND = 1000;
const HOUR = 3600 * SECOND;

/** A connection that a middlebox cuts after some silence, and whose reader leaves at `leaves`. */
class Connection {
  readonly #clock: FakeClock;
  readonly writableNeedDrain = false;
  bytesWritten = 0;
  closed = false;
  last: number;
  leaves: number;

  constructor(clock: FakeClock, leaves: number) {
    this.#clock = clock;
    this.last = clock.now();
    this.leaves = leaves;
  }

  write(chunk: Uint8Array): boolean {
    this.last = this.#clock.now();
    this.bytesWritten += chunk.length;
    return true;
  }
}

/**
 * Runs readers that reconnect at once when their connection is cut; `stay` is the mean visit of a reader.
 * Returns the number of cuts in each hour.
 */
function simulate(options: {
  group: AdaptiveGroup;
  cut: number;
  readers: number;
  hours: number;
  stay?: number;
}) {
  const { group, cut, readers, hours, stay = Infinity } = options;
  const clock = new FakeClock();
  const beats = new Heartbeat<Connection>({ clock });
  const open = new Set<Connection>();
  const cuts: number[] = [];
  const connect = () => {
    const leaves = clock.now() + (stay === Infinity ? Infinity : 2 * stay * Math.random());
    const connection = new Connection(clock, leaves);
    open.add(connection);
    beats.add(connection, { group });
  };
  for (let n = 0; n < readers; n++) connect();
  for (let hour = 0; hour < hours; hour++) {
    let count = 0;
    for (let step = 0; step < HOUR / 250; step++) {
      clock.advance(250);
      for (const connection of open) {
        const isCut = clock.now() - connection.last > cut;
        if (!isCut && clock.now() < connection.leaves) continue;
        if (isCut) count++;
        connection.closed = true;
        open.delete(connection);
        beats.delete(connection);
        connect();
      }
    }
    cuts.push(count);
  }
  beats.stop();
  return cuts;
}

describe('AdaptiveInterval', () => {
  it('shortens the interval below the silence after which connections are cut, and then loses few', () => {
    for (const cut of [7, 12, 14]) {
      const group = new AdaptiveInterval().group('carrier');
      const cuts = simulate({ group, cut: cut * SECOND, readers: 20, hours: 4 });
      // A heartbeat comes up to 4/64 of the interval early, and lengthening tries 2 % more at a time.
      assert.ok(group.interval <= 1.09 * cut * SECOND, `${group.interval} for a cut at ${cut} s`);
      assert.ok(group.interval >= 0.6 * cut * SECOND, `${group.interval} for a cut at ${cut} s`);
      // Without learning each reader would lose about 300 connections an hour.
      assert.ok(cuts.at(-1)! < 60, `cuts by hour: ${cuts}`);
    }
  });

  it('lengthens the interval to maxInterval where no connection is cut', () => {
    const group = new AdaptiveInterval({ maxInterval: 40_000 }).group('lan');
    simulate({ group, cut: Infinity, readers: 20, hours: 2 });
    assert.equal(group.interval, 40_000);
  });

  it('lengthens a shortened interval when the network stops cutting', () => {
    const group = new AdaptiveInterval().group('moved');
    simulate({ group, cut: 7 * SECOND, readers: 20, hours: 1 });
    const before = group.interval;
    simulate({ group, cut: Infinity, readers: 20, hours: 30 });
    assert.ok(group.interval > 2 * before, `${before} → ${group.interval}`);
  });

  it('ignores readers that disconnect by themselves', () => {
    const group = new AdaptiveInterval({ maxInterval: 15_000 }).group('visitors');
    simulate({ group, cut: Infinity, readers: 50, hours: 2, stay: 60 * SECOND });
    assert.ok(group.interval > 0.95 * 15_000, `${group.interval}`);
  });

  it('reacts to several losses after the same silence, not to scattered or contradicted ones', () => {
    const groups = new AdaptiveInterval({ lossesToShorten: 3 });
    const [alike, scattered, contradicted] = [groups.group('a'), groups.group('b'), groups.group('c')];
    for (const silence of [10_000, 10_500, 11_000]) alike.lost(silence);
    for (const silence of [6000, 10_000, 14_000, 6000]) scattered.lost(silence);
    for (const silence of [10_000, 10_500, 11_000]) {
      contradicted.lost(silence);
      contradicted.survived(12_000);
    }
    assert.equal(alike.interval, 8000);
    assert.equal(scattered.interval, 15_000);
    assert.equal(contradicted.interval, 15_000);
  });

  it('stays from minInterval to maxInterval', () => {
    const groups = new AdaptiveInterval({
      minInterval: 8000,
      maxInterval: 20_000,
      lossesToShorten: 1,
      survivalsToLengthen: 1,
    });
    const group = groups.group('a');
    group.lost(7000);
    assert.equal(group.interval, 15_000);
    group.lost(8500);
    assert.equal(group.interval, 8000);
    for (let n = 0; n < 200; n++) group.survived(group.interval);
    assert.equal(group.interval, 20_000);
  });

  it('doubles the survivals that lengthening needs after each shortening; with Infinity never lengthens', () => {
    const group = new AdaptiveInterval({ lossesToShorten: 1, survivalsToLengthen: 10 }).group('a');
    const rounds = [];
    for (let fall = 0; fall < 3; fall++) {
      group.lost(10_000);
      const low = group.interval;
      let beats = 0;
      while (group.interval === low) {
        group.survived(low);
        beats++;
      }
      rounds.push(beats);
    }
    assert.deepEqual(rounds, [20, 40, 80]);
    const settled = new AdaptiveInterval({ survivalsToLengthen: Infinity }).group('a');
    for (let n = 0; n < 10_000; n++) settled.survived(15_000);
    assert.equal(settled.interval, 15_000);
  });

  it('keeps groups apart by any kind of key, and at most maxGroups of them', () => {
    const groups = new AdaptiveInterval<object | string>({ maxGroups: 2, lossesToShorten: 1 });
    const key = { carrier: 1 };
    const kept = groups.group(key);
    groups.group('b');
    kept.lost(10_000);
    assert.equal(groups.group(key), kept);
    groups.group('c');
    assert.equal(groups.size, 2);
    assert.deepEqual(
      [...groups.intervals()],
      [
        [key, 8000],
        ['c', 15_000],
      ],
    );
    for (let n = 0; n < 10_000; n++) groups.group(`${n}`);
    assert.equal(groups.size, 2);
    assert.equal(kept.interval, 8000);
  });

  it('refuses options out of range, naming them', () => {
    assert.throws(
      () => new AdaptiveInterval({ interval: 4000 }),
      /^RangeError: `interval` must be from 5000 .*4000$/,
    );
    assert.throws(() => new AdaptiveInterval({ minInterval: 0 }), /`minInterval`.* got 0$/);
    assert.throws(() => new AdaptiveInterval({ maxInterval: Infinity }), /`maxInterval`.* got Infinity$/);
    assert.throws(
      () => new AdaptiveInterval({ lossesToShorten: 0 }),
      /^RangeError: `lossesToShorten` must be a whole number ≥ 1, got 0$/,
    );
    assert.throws(
      () => new AdaptiveInterval({ survivalsToLengthen: 1.5 }),
      /`survivalsToLengthen`.* got 1.5$/,
    );
    assert.throws(() => new AdaptiveInterval({ maxGroups: Infinity }), /`maxGroups`.* got Infinity$/);
  });
});
