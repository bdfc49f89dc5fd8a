import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { describe, it } from 'node:test';
import { onAbort, startTimer } from '../lib/waits.ts';
import { fakeTime } from './helpers/clock.ts';

/** Keeps the process from doing anything, as a long computation does. */
function block(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

describe('startTimer', () => {
  it('acts at its timeout, and not once it was stopped', (t) => {
    const clock = fakeTime(t);
    const acted: string[] = [];
    startTimer(100, () => acted.push('first'));
    const stop = startTimer(100, () => acted.push('stopped'));
    startTimer(2 ** 31, () => acted.push('too long for a timer'));
    stop();
    clock.advance(99);
    assert.deepEqual(acted, []);
    clock.advance(1);
    assert.deepEqual(acted, ['first']);
    clock.advance(2 ** 31);
    assert.deepEqual(acted, ['first']);
  });

  it('leaves a turn to what a blocked process has not read yet, which may stop it', async () => {
    const acted: string[] = [];
    await new Promise<void>((resolve) => {
      // In a turn of its own, so that what it adds runs after the timers that are due, as what reads a socket does.
      setImmediate(() => {
        const stop = startTimer(5, () => acted.push('stopped'));
        startTimer(5, () => {
          acted.push('not stopped');
          resolve();
        });
        block(50);
        setImmediate(stop);
      });
    });
    assert.deepEqual(acted, ['not stopped']);
  });
});

describe('onAbort', () => {
  it('adds one listener for all that wait for a signal, and removes it with the last of them', () => {
    const { signal } = new AbortController();
    const stops = Array.from({ length: 12 }, () => onAbort(signal, () => {}));
    assert.equal(getEventListeners(signal, 'abort').length, 1);
    const last = stops.pop()!;
    for (const stop of [...stops, ...stops]) stop();
    assert.equal(getEventListeners(signal, 'abort').length, 1);
    last();
    assert.equal(getEventListeners(signal, 'abort').length, 0);
    onAbort(signal, () => {});
    assert.equal(getEventListeners(signal, 'abort').length, 1);
  });

  it('calls each that was not removed, also after one that throws', (t) => {
    const later = t.mock.method(globalThis, 'queueMicrotask', () => {});
    const controller = new AbortController();
    const called: number[] = [];
    const stops = [1, 2, 3, 4].map((n) =>
      onAbort(controller.signal, () => {
        called.push(n);
        if (n === 1) throw new Error('of the first');
        if (n === 2) stops[2]!();
      }),
    );
    controller.abort();
    assert.deepEqual(called, [1, 2, 4]);
    assert.throws(later.mock.calls[0]!.arguments[0] as () => void, /of the first/);
  });
});
