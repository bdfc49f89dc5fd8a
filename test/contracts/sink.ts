import assert from 'node:assert/strict';
import { type EventEmitter, once } from 'node:events';
import { describe, it, type TestContext } from 'node:test';
import type { Sink } from '../../lib/hub.ts';

/** Something that takes bytes, and the client at its other end, which reads nothing unless it is told to. */
export interface SinkUnderTest {
  readonly sink: Sink & EventEmitter;
  /** Reads everything from now on; fulfils with the number of bytes, once no more can come. */
  readAll(): Promise<number>;
  /** Goes away without a word. */
  leave(): void;
}

const CHUNK = Buffer.alloc(64 * 1024, '.');

/** What a hub may rely on in whatever takes its bytes. */
export function describeSink(name: string, open: (t: TestContext) => Promise<SinkUnderTest>): void {
  describe(`${name}, as a sink`, () => {
    it('is open at first', async (t) => {
      const { sink } = await open(t);
      assert.ok(!sink.closed && !sink.destroyed && !sink.writableEnded);
    });

    it('answers true while the client takes more', async (t) => {
      const { sink } = await open(t);
      assert.equal(sink.write(Buffer.from('x')), true);
    });

    it('answers false when it does not, and says drain once it does again', async (t) => {
      const { sink, readAll } = await open(t);
      for (let round = 0; round < 2; round++) fill(sink);
      const drained = once(sink, 'drain');
      void readAll();
      await drained;
      assert.equal(sink.write(Buffer.from('x')), true);
    });

    it('loses nothing that it took, refused or not, before its end', async (t) => {
      const { sink, readAll } = await open(t);
      let written = 0;
      for (let extra = 0; extra < 4; extra++) written += fill(sink);
      const closed = closing(sink);
      sink.end();
      assert.equal(await readAll(), written);
      await closed;
      over(sink);
    });

    it('says close, once, when the client leaves, and never drain after it', async (t) => {
      const { sink, leave } = await open(t);
      const said: string[] = [];
      for (const name of ['drain', 'close'] as const) sink.on(name, () => said.push(name));
      fill(sink);
      const closed = closing(sink);
      leave();
      await closed;
      over(sink);
      for (let i = 0; i < 10; i++) await new Promise((resolve) => setImmediate(resolve));
      // The kernel may have taken a little more before it heard.
      assert.equal(said.indexOf('close'), said.length - 1);
    });

    it('says close, once, when it is cut off, and drops what waits', async (t) => {
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

    it('takes its listeners off again', async (t) => {
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

// Not by `once`, which an error ends, such as a reset before the close.
function closing(sink: EventEmitter): Promise<void> {
  return new Promise((resolve) => sink.once('close', resolve));
}

/** Writes until the client takes no more; tells how many bytes that were. */
function fill(sink: Sink): number {
  let written = CHUNK.length;
  for (; sink.write(CHUNK); written += CHUNK.length) assert.ok(written < 1024 ** 3, 'no end of it');
  return written;
}

/** As a hub does. */
function cutOff(sink: Sink): void {
  if (sink.abort !== undefined) sink.abort('slow-consumer');
  else sink.destroy?.();
}

/** What is over says so, takes nothing, and fails nobody. */
function over(sink: Sink): void {
  assert.equal(sink.closed || sink.destroyed, true);
  assert.equal(sink.write(CHUNK), false);
  sink.end();
  cutOff(sink);
}
