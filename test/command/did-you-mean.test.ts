import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { didYouMean } from '../../lib/command/did-you-mean.ts';

const commands = ['serve', 'tail', 'publish', 'check', 'doctor', 'load'];

describe('didYouMean', () => {
  for (const [word, meant] of [
    ['sevre', 'serve'],
    ['tial', 'tail'],
    ['publsh', 'publish'],
    ['publishh', 'publish'],
    ['dokter', 'doctor'],
    ['loads', 'load'],
  ] as const) {
    it(`finds ${meant} for ${word}`, () => assert.equal(didYouMean(word, commands), meant));
  }

  for (const word of ['', 'x', 'toString', 'subscribe', '__proto__', 'serve'.repeat(20_000)]) {
    it(`finds nothing for ${word.slice(0, 20) || 'nothing'}`, () =>
      assert.equal(didYouMean(word, commands), undefined));
  }

  it('prefers the word with fewer errors, and of equals the first', () => {
    assert.equal(didYouMean('toke', ['tokens', 'token']), 'token');
    assert.equal(didYouMean('bat', ['cat', 'rat']), 'cat');
  });
});
