import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { hasBearer, tokenAccess } from '../lib/auth.ts';

describe('hasBearer', () => {
  it('accepts any of the tokens, whatever the case of the scheme', () => {
    assert.equal(hasBearer('Bearer two', ['one', 'two']), true);
    assert.equal(hasBearer('bearer  one ', ['one', 'two']), true);
  });

  it('rejects everything else', () => {
    for (const header of [
      undefined,
      '',
      'Bearer',
      'Bearer ',
      'Basic one',
      'Bearer on',
      'Bearer onee',
      'Bearer one two',
    ]) {
      assert.equal(hasBearer(header, ['one']), false, String(header));
    }
    assert.equal(hasBearer('Bearer ', ['']), false);
    assert.equal(hasBearer('Bearer one', []), false);
  });
});

describe('tokenAccess', () => {
  const both = tokenAccess({ publishTokens: ['writer'], subscribeTokens: ['reader'] });
  const ask = (authorization?: string) => ({ headers: { authorization } });

  it('distinguishes a publisher, a reader and a request without a token', () => {
    assert.deepEqual(both.authorize(ask('Bearer writer')), { publish: true, subscribe: true });
    assert.deepEqual(both.authorize(ask('Bearer reader')), { publish: false, subscribe: true });
    for (const header of [undefined, 'Bearer wrong', 'Basic writer'])
      assert.equal(both.authorize(ask(header)), undefined);
  });

  it('allows everybody what needs no token, except the sender of a wrong token', () => {
    const readable = tokenAccess({ publishTokens: ['writer'] });
    assert.deepEqual(readable.authorize(ask()), { publish: false, subscribe: true });
    assert.deepEqual(readable.authorize(ask('Basic somebody')), { publish: false, subscribe: true });
    assert.equal(readable.authorize(ask('Bearer wrong')), undefined);
    const open = tokenAccess({ publishIsOpen: () => true });
    assert.deepEqual(open.authorize(ask('Bearer whatever')), { publish: true, subscribe: true });
  });

  it('takes no answer of publishIsOpen but true for a yes', () => {
    const unsure = tokenAccess({ publishIsOpen: async () => true } as never);
    assert.deepEqual(unsure.authorize(ask()), { publish: false, subscribe: true });
  });

  it('rejects tokens that no header can carry', () => {
    assert.throws(
      () => tokenAccess({ subscribeTokens: [''] }),
      /a token must be printable ASCII without spaces/,
    );
  });

  it('allows each principal the actions that it carries, on every topic', () => {
    const reader = { publish: false, subscribe: true };
    assert.equal(both.may(reader, 'subscribe', 'a'), true);
    assert.equal(both.may(reader, 'publish', 'a'), false);
  });
});
