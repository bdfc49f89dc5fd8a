import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { reconnectOnWake } from '../lib/wake.ts';

/** Makes the globals those of a page, until the test ends. test/interop/wake.test.ts has a real one. */
function asPage(t: TestContext) {
  const window = new EventTarget();
  const document = Object.assign(new EventTarget(), { visibilityState: 'visible' });
  const globals = {
    document,
    addEventListener: window.addEventListener.bind(window),
    removeEventListener: window.removeEventListener.bind(window),
  };
  Object.assign(globalThis, globals);
  t.after(() => {
    for (const name of Object.keys(globals)) delete (globalThis as Record<string, unknown>)[name];
  });
  return { window, document };
}

function counting(state: string) {
  const reader = { state, reconnects: 0, reconnect: () => void reader.reconnects++ };
  return reader;
}

describe('reconnectOnWake', () => {
  it('reconnects when the page is resumed, is online again or comes back from the cache', (t) => {
    const { window, document } = asPage(t);
    const reader = counting('open');
    reconnectOnWake(reader);
    document.dispatchEvent(new Event('resume'));
    window.dispatchEvent(new Event('online'));
    window.dispatchEvent(Object.assign(new Event('pageshow'), { persisted: true }));
    assert.equal(reader.reconnects, 3);
    window.dispatchEvent(Object.assign(new Event('pageshow'), { persisted: false }));
    assert.equal(reader.reconnects, 3);
  });

  it('hurries a wait when the page becomes visible, and nothing else', (t) => {
    const { document } = asPage(t);
    for (const [state, visibilityState, reconnects] of [
      ['waiting', 'visible', 1],
      ['waiting', 'hidden', 0],
      ['open', 'visible', 0],
      ['connecting', 'visible', 0],
    ] as const) {
      const reader = counting(state);
      const stop = reconnectOnWake(reader);
      document.visibilityState = visibilityState;
      document.dispatchEvent(new Event('visibilitychange'));
      stop();
      assert.equal(reader.reconnects, reconnects, `${state}, ${visibilityState}`);
    }
  });

  it('listens no longer once its function was called', (t) => {
    const { window, document } = asPage(t);
    const reader = counting('waiting');
    reconnectOnWake(reader)();
    document.dispatchEvent(new Event('resume'));
    document.dispatchEvent(new Event('visibilitychange'));
    window.dispatchEvent(new Event('online'));
    assert.equal(reader.reconnects, 0);
  });

  it('does nothing where there is no page', () => {
    reconnectOnWake(counting('open'))();
  });
});
