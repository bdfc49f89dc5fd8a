import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { hasBearer, identityOf, tokenAccess } from '../lib/auth.ts';

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
    assert.deepEqual(both.authorize(ask('Bearer writer')), { publish: true, subscribe: true, id: 'token 1' });
    assert.deepEqual(both.authorize(ask('bearer  reader ')), {
      publish: false,
      subscribe: true,
      id: 'token 2',
    });
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

describe('identityOf', () => {
  it('is equal for principals of one sender, whenever their permission ends', () => {
    assert.equal(identityOf('ann'), identityOf('ann'));
    assert.equal(identityOf({ id: 7, expiresAt: 1 }), identityOf({ id: 7, roles: ['a'] }));
    assert.equal(identityOf({ user: 'ann', expiresAt: 1 }), identityOf({ user: 'ann', expiresAt: 2 }));
    const nested = (expiresAt: number) => ({ user: { roles: ['a'], since: new Date(0) }, expiresAt });
    assert.equal(identityOf(nested(1)), identityOf(nested(2)));
  });

  it('differs for principals that are told apart by anything else', () => {
    class User {
      readonly #name: string;
      constructor(name: string) {
        this.#name = name;
      }
      get name(): string {
        return this.#name;
      }
    }
    const principals = ['ann', 'bob', '1', 1, true, { id: '1' }, { id: 1 }, { user: 'ann' }, { user: 'bob' }];
    const objects = [new User('ann'), new User('ann'), new Map(), new Map(), { n: 1n }, { n: 1n }];
    const holders = [1, 2].flatMap((n) => [
      { user: new User('ann') },
      { claims: new Map([['sub', n]]) },
      { may: () => n },
      { key: Symbol('key') },
      { list: [{ user: new User('ann') }] },
      () => n,
    ]);
    const all = [...principals, ...objects, ...holders, Object.assign(Object.create(null), { user: 'eve' })];
    assert.equal(new Set(all.map(identityOf)).size, all.length);
    const [one] = objects;
    assert.equal(identityOf(one), identityOf(one));
  });

  it('differs for the senders of two tokens', () => {
    const access = tokenAccess({ publishTokens: ['one', 'two'] });
    const [one, two] = ['one', 'two'].map((token) =>
      access.authorize({ headers: { authorization: `Bearer ${token}` } }),
    );
    assert.notEqual(identityOf(one), identityOf(two));
  });
});
