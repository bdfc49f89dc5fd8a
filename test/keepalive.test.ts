import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { Keepalive, type KeepaliveOptions } from '../lib/keepalive.ts';
import type { EventStream } from '../lib/stream.ts';
import { FakeClock } from './helpers/clock.ts';
import { at } from './helpers/hub.ts';
import { Reading } from './helpers/reader.ts';
import { streaming } from './helpers/streaming.ts';

const INTERVAL = 15_000;

function keeping(options: KeepaliveOptions<EventStream> = {}) {
  const clock = new FakeClock();
  return { clock, keepalive: new Keepalive<EventStream>({ clock, ...options }) };
}

/** An open stream, its client, and what that reads. */
async function opened(t: TestContext) {
  const { stream, client } = await streaming(t);
  return { stream, client, reading: new Reading(client) };
}

describe('Keepalive', () => {
  it('sends each stream its own position, as it is when the heartbeat is sent', async (t) => {
    const { clock, keepalive } = keeping();
    const subscriptions = [{ position: at(1) }, { position: at(2) }, { position: at(3) }];
    const readings: Reading[] = [];
    for (const subscription of subscriptions) {
      const { stream, reading } = await opened(t);
      keepalive.add(stream, subscription, undefined);
      readings.push(reading);
    }
    clock.advance(INTERVAL);
    const heartbeats = ({ text }: Reading) => [...text.matchAll(/(?<=:\nid: )\S+(?=\n\n)/g)].map(String);
    for (const reading of readings) await reading.until(() => heartbeats(reading).length > 0);
    subscriptions[0]!.position = at(4);
    const before = heartbeats(readings[0]!).length;
    clock.advance(INTERVAL);
    await readings[0]!.until(() => heartbeats(readings[0]!).length > before);
    assert.deepEqual(
      readings.map((reading) => [...new Set(heartbeats(reading))].slice(0, 2)),
      [[at(1), at(4)], [at(2)], [at(3)]],
    );
  });

  it('sends streams at one position the same bytes', async (t) => {
    const { clock, keepalive } = keeping();
    const chunks = new Set<unknown>();
    const served = new Set<EventStream>();
    for (let i = 0; i < 3; i++) {
      const { stream } = await opened(t);
      const write = stream.writeShared.bind(stream);
      t.mock.method(stream, 'writeShared', (chunk: Parameters<typeof write>[0]) => {
        chunks.add(chunk);
        served.add(stream);
        return write(chunk);
      });
      keepalive.add(stream, { position: at(1) }, undefined);
    }
    clock.advance(INTERVAL);
    assert.deepEqual([served.size, chunks.size], [3, 1]);
  });

  it('sends no position where `beat` or `event` says what a heartbeat is', async (t) => {
    for (const [options, expected] of [
      [{ event: 'alive' }, 'event: alive\ndata:\n\n'],
      [{ beat: (stream: EventStream) => stream.write(Buffer.from(': mine\n\n')) }, ': mine\n\n'],
    ] as const) {
      const { clock, keepalive } = keeping(options);
      const { stream, reading } = await opened(t);
      keepalive.add(stream, { position: at(1) }, undefined);
      clock.advance(INTERVAL);
      assert.doesNotMatch(await reading.until(expected), /id:/);
    }
  });

  it('keeps no stream that was deleted, and then no timer', async (t) => {
    const { clock, keepalive } = keeping();
    const { stream } = await opened(t);
    keepalive.add(stream, { position: at(1) }, undefined);
    assert.deepEqual([keepalive.heartbeat.size, clock.timers], [1, 1]);
    keepalive.delete(stream);
    assert.deepEqual([keepalive.heartbeat.size, clock.timers], [0, 0]);
  });

  it('learns one interval for each group of addresses', async (t) => {
    const { keepalive } = keeping({ adaptive: true });
    for (const address of ['2001:db8::1', '2001:db8::2', '2001:db8:0:1::1'])
      keepalive.add((await opened(t)).stream, { position: at(1) }, address);
    assert.equal(keepalive.intervals().length, 2);
  });

  it('learns from connections that the network ended, and not from those that the server ended', async (t) => {
    const { clock, keepalive } = keeping({ adaptive: { lossesToShorten: 1, minInterval: 1 } });
    const [ended, lost] = [await opened(t), await opened(t)];
    for (const { stream } of [ended, lost]) keepalive.add(stream, { position: at(1) }, undefined);
    clock.advance(INTERVAL);
    ended.stream.end('shutdown');
    await ended.stream.done;
    keepalive.delete(ended.stream);
    assert.deepEqual(keepalive.intervals(), [INTERVAL]);
    lost.client.destroy();
    await lost.stream.done;
    keepalive.delete(lost.stream);
    assert.ok(keepalive.intervals()[0]! < INTERVAL);
  });

  it('announces the longest interval in use, and how many heartbeats may be missed', () => {
    const termsOf = (options: KeepaliveOptions<EventStream>) => keeping(options).keepalive.terms;
    assert.deepEqual(termsOf({}), { interval: 15_000, missed: 2 });
    assert.deepEqual(termsOf({ interval: 4000, missed: 5 }), { interval: 4000, missed: 5 });
    assert.deepEqual(termsOf({ adaptive: true }), { interval: 60_000, missed: 2 });
    assert.deepEqual(termsOf({ interval: 90_000, adaptive: true }), { interval: 90_000, missed: 2 });
  });
});
