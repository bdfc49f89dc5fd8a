import assert from 'node:assert/strict';
import { type EventEmitter, once } from 'node:events';
import { describe, it, type TestContext } from 'node:test';
import type { Sink } from '../../lib/hub.ts';

/** A sink, and its client, which reads nothing before `readAll`. */
export interface SinkUnderTest {
  readonly sink: Sink & EventEmitter;
  /** Reads everything from now on; resolves with the number of bytes once no more can come. */
  readAll(): Promise<number>;
  /** Closes the connection without notice. */
  leave(): void;
}

const CHUNK = Buffer.alloc(64 * 1024, '.');

/** What a hub expects of every sink. */
export function describeSink(name: string, open: (t: TestContext) => Promise<SinkUnderTest>): void {
  describe(`${name} as a sink`, () => {
    it('is open at first', async (t) => {
      const { sink } = await open(t);
      assert.ok(!sink.closed && !sink.destroyed && !sink.writableEnded);
    });

    it('returns true while the client takes more', async (t) => {
      const { sink } = await open(t);
      assert.equal(sink.write(Buffer.from('x')), true);
    });

    it('delivers bytes that it shares with other sinks, and leaves them unchanged', async (t) => {
      const { sink, readAll } = await open(t);
      const chunk = { bytes: Buffer.from(CHUNK), made: undefined };
      // As a hub does.
      const write = () => (sink.writeShared ? sink.writeShared(chunk) : sink.write(chunk.bytes));
      let written = CHUNK.length;
      for (; write(); written += CHUNK.length) assert.ok(written < 1024 ** 3, 'the sink never returns false');
      const drained = once(sink, 'drain');
      const read = readAll();
      await drained;
      sink.end();
      assert.equal(await read, written);
      assert.deepEqual(chunk.bytes, CHUNK);
    });

    it('returns false when the client takes no more, and emits drain when it does again', async (t) => {
      const { sink, readAll } = await open(t);
      for (let round = 0; round < 2; round++) fill(sink);
      const drained = once(sink, 'drain');
      void readAll();
      await drained;
      assert.equal(sink.write(Buffer.from('x')), true);
    });

    it('delivers all that was written before its end, refused or not', async (t) => {
      const { sink, readAll } = await open(t);
      let written = 0;
      for (let extra = 0; extra < 4; extra++) written += fill(sink);
      const closed = closing(sink);
      sink.end();
      assert.equal(await readAll(), written);
      await closed;
      over(sink);
    });

    it('emits close once when the client leaves, and no drain after it', async (t) => {
      const { sink, leave } = await open(t);
      const said: string[] = [];
      for (const name of ['drain', 'close'] as const) sink.on(name, () => said.push(name));
      fill(sink);
      const closed = closing(sink);
      leave();
      await closed;
      over(sink);
      for (let i = 0; i < 10; i++) await new Promise((resolve) => setImmediate(resolve));
      // A drain before the close is allowed: the kernel may have taken a little more.
      assert.equal(said.indexOf('close'), said.length - 1);
    });

    it('emits close once when it is cut off', async (t) => {
      const { sink } = await open(t);
      let closes = 0;
      sink.on('close', () => closes++);
      fill(sink);
      const closed = closing(sink);
      cutOff(sink);
      cutOff(sink);
      await closed;
      assert.equal(closes, 1);
      over(sink);
    });

    it('removes listeners', async (t) => {
      const { sink } = await open(t);
      const before = sink.listenerCount('drain') + sink.listenerCount('close');
      const listener = () => {};
      for (const name of ['drain', 'close'] as const) {
        sink.on(name, listener);
        sink.off(name, listener);
      }
      assert.equal(sink.listenerCount('drain') + sink.listenerCount('close'), before);
    });
  });
}

// Not `once`, which rejects when an error, such as a reset, comes before the close.
function closing(sink: EventEmitter): Promise<void> {
  return new Promise((resolve) => sink.once('close', resolve));
}

/** Writes until the client takes no more; returns how many bytes were written. */
function fill(sink: Sink): number {
  let written = CHUNK.length;
  for (; sink.write(CHUNK); written += CHUNK.length)
    assert.ok(written < 1024 ** 3, 'the sink never returns false');
  return written;
}

/** Cuts a sink off as a hub does. */
function cutOff(sink: Sink): void {
  if (sink.abort !== undefined) sink.abort('slow-consumer');
  else sink.destroy?.();
}

/** A closed sink says so, and every call on it is harmless. */
function over(sink: Sink): void {
  assert.equal(sink.closed || sink.destroyed, true);
  assert.equal(sink.write(CHUNK), false);
  sink.end();
  cutOff(sink);
}
