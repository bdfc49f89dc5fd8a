import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { Keepalive, type KeepaliveOptions } from '../lib/keepalive.ts';
import type { EventStream } from '../lib/stream.ts';
import { FakeClock } from './helpers/clock.ts';
import { at } from './helpers/hub.ts';
import { request } from './helpers/raw.ts';
import { parse, Reading } from './helpers/reader.ts';
import { streaming } from './helpers/streaming.ts';

const INTERVAL = 15_000;

function keeping(options: KeepaliveOptions<EventStream> = {}) {
  const clock = new FakeClock();
  return { clock, keepalive: new Keepalive<EventStream>({ clock, ...options }) };
}

/** An open stream, its client, and what that reads. */
async function opened(t: TestContext) {
  // HTTP/1.0, so that the body has no chunks.
  const { stream, client } = await streaming(t, {}, request('GET / HTTP/1.0'));
  const reading = new Reading(client);
  return { stream, client, reading };
}

const bodyOf = ({ text }: Reading): string => text.slice(text.indexOf('\r\n\r\n') + 4);

/** The ids of the positions that heartbeats have carried. */
const positionsIn = (text: string): string[] =>
  parse(text).frames.flatMap(({ id, event }) =>
    event === 'sluice:position' && id !== undefined ? [id] : [],
  );

describe('Keepalive', () => {
  it('sends each stream its own position, as it is when the heartbeat is sent', async (t) => {
    const { clock, keepalive } = keeping();
    const subscriptions = [{ position: at(1) }, { position: at(2) }, { position: at(3) }];
    const clients = await Promise.all(subscriptions.map(() => opened(t)));
    for (const [n, subscription] of subscriptions.entries())
      keepalive.add(clients[n]!.stream, subscription, undefined);
    /** The positions that each client has got when the heartbeats have been sent. */
    const beat = async (mark: string): Promise<string[][]> => {
      clock.advance(INTERVAL);
      for (const { stream } of clients) stream.send({ data: mark });
      await Promise.all(clients.map(({ reading }) => reading.until(`data: ${mark}\n\n`)));
      return clients.map(({ reading }) => positionsIn(reading.text));
    };
    for (const [n, subscription] of subscriptions.entries()) subscription.position = at(4 + n);
    assert.deepEqual(await beat('first'), [[at(4)], [at(5)], [at(6)]]);
    subscriptions[0]!.position = at(7);
    assert.deepEqual(await beat('second'), [[at(4), at(7)], [at(5)], [at(6)]]);
  });

  it('sends a stream whose position has not moved the comment : and one line end', async (t) => {
    const { clock, keepalive } = keeping();
    const { stream, reading } = await opened(t);
    const subscription = { position: at(1) };
    keepalive.add(stream, subscription, undefined);
    clock.advance(3 * INTERVAL);
    await reading.until(':\n:\n:\n');
    assert.match(bodyOf(reading), /^(:\n)+$/);
    subscription.position = at(2);
    clock.advance(3 * INTERVAL);
    await reading.until(({ text }) => /\n\n(:\n){2}/.test(text));
    assert.match(bodyOf(reading), /^(:\n)+id: \S+\nevent: sluice:position\ndata: {}\n\n(:\n)+$/);
    assert.deepEqual(positionsIn(reading.text), [at(2)]);
  });

  it('sends streams at one position the same bytes, at rest and after they have moved', async (t) => {
    const { clock, keepalive } = keeping();
    const chunks = new Set<unknown>();
    const served = new Set<EventStream>();
    const subscription = { position: at(1) };
    for (let i = 0; i < 3; i++) {
      const { stream } = await opened(t);
      const write = stream.writeShared.bind(stream);
      t.mock.method(stream, 'writeShared', (chunk: Parameters<typeof write>[0]) => {
        chunks.add(chunk);
        served.add(stream);
        return write(chunk);
      });
      keepalive.add(stream, subscription, undefined);
    }
    clock.advance(INTERVAL);
    assert.deepEqual([served.size, chunks.size], [3, 1]);
    subscription.position = at(2);
    for (const seen of [chunks, served]) seen.clear();
    clock.advance(INTERVAL);
    for (const stream of served) assert.ok(!stream.closed);
    assert.equal(served.size, 3);
    const positions = [...chunks].filter((chunk) => String((chunk as { bytes: Uint8Array }).bytes) !== ':\n');
    assert.equal(positions.length, 1);
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

  it('refuses a number of missed heartbeats that no client could use', () => {
    for (const missed of [-1, 0.5, Number.NaN, Infinity, '2'] as number[])
      assert.throws(() => keeping({ missed }), /^RangeError: `missed` must be a whole number ≥ 0, got /);
  });

  it('announces the longest interval in use, and how many heartbeats may be missed', () => {
    const termsOf = (options: KeepaliveOptions<EventStream>) => keeping(options).keepalive.terms;
    assert.deepEqual(termsOf({}), { interval: 15_000, missed: 2 });
    assert.deepEqual(termsOf({ interval: 4000, missed: 5 }), { interval: 4000, missed: 5 });
    assert.deepEqual(termsOf({ adaptive: true }), { interval: 60_000, missed: 2 });
    assert.deepEqual(termsOf({ interval: 90_000, adaptive: true }), { interval: 90_000, missed: 2 });
  });
});
