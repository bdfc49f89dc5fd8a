import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type Origins, onlyTrue, originRule } from '../lib/origin.ts';

describe('originRule', () => {
  it('allows the listed origins, and no other origin, port or scheme', () => {
    const isAllowed = originRule(['https://app.example', 'http://[::1]:3000', 'capacitor://localhost']);
    for (const origin of ['https://app.example', 'http://[::1]:3000', 'capacitor://localhost']) {
      assert.equal(isAllowed(origin, {}), true, origin);
    }
    for (const origin of ['http://app.example', 'https://app.example:8443', 'https://app.example.evil', '']) {
      assert.equal(isAllowed(origin, {}), false, origin);
    }
  });

  it('asks a function about each origin, with the request', () => {
    const isAllowed = originRule((origin, { tenant }: { tenant: string }) => origin === `https://${tenant}`);
    assert.equal(isAllowed('https://a.example', { tenant: 'a.example' }), true);
    assert.equal(isAllowed('https://a.example', { tenant: 'b.example' }), false);
  });

  it('never allows a missing origin or null, and asks no function about them', () => {
    const isAllowed = originRule(assert.fail);
    assert.deepEqual([isAllowed(undefined, {}), isAllowed('null', {})], [false, false]);
  });

  it('throws a TypeError for an origin in a form that no browser sends, naming the form to write', () => {
    for (const [wrong, advice] of [
      ['https://app.example/', 'https://app.example'],
      ['https://app.example/path?x', 'https://app.example'],
      ['HTTPS://App.example:443', 'https://app.example'],
      ['https://bücher.example', 'https://xn--bcher-kva.example'],
      ['app.example', 'https://app.example'],
      ['localhost:3000', 'https://localhost:3000'],
      ['https://*.example', 'https://example.com'],
      ['*', 'https://example.com'],
      ['', 'https://example.com'],
      [7 as never, 'https://0.0.0.7'],
    ] as const) {
      assert.throws(() => originRule([wrong]), {
        name: 'TypeError',
        message: `\`origins\` must hold origins, got ${JSON.stringify(wrong)}: write "${advice}"`,
      });
    }
    assert.throws(() => originRule(['null']), /must not hold "null": any sandboxed page sends it$/);
  });

  it('throws a TypeError for what is neither a list nor a function', () => {
    assert.throws(() => originRule('https://app.example' as never as Origins<unknown>), {
      name: 'TypeError',
      message: '`origins` must be a list or a function, got "https://app.example"',
    });
  });
});

describe('onlyTrue', () => {
  it('takes no answer but true for a yes', () => {
    for (const answer of [false, undefined, null, 0, 1, 'yes', {}]) {
      assert.equal(onlyTrue('origins', () => answer)(), false, String(answer));
    }
    assert.equal(onlyTrue('origins', (a: number, b: number) => a === b)(1, 1), true);
  });

  it('throws a TypeError for a promise, which would be taken for a yes', () => {
    assert.throws(() => onlyTrue('origins', async () => false)(), {
      name: 'TypeError',
      message: '`origins` must answer true or false, got a promise',
    });
  });

  it('handles the rejection of a promise that it does not wait for', async (t) => {
    const unhandled: unknown[] = [];
    const listener = (reason: unknown): void => void unhandled.push(reason);
    process.on('unhandledRejection', listener);
    t.after(() => process.off('unhandledRejection', listener));
    assert.throws(() => onlyTrue('may', () => Promise.reject(new Error('late')))(), TypeError);
    await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual(unhandled, []);
  });
});
