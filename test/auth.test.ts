import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { hasBearer, Tickets, tokenAccess } from '../lib/auth.ts';

describe('hasBearer', () => {
  it('accepts any of the tokens, whatever the case of the scheme', () => {
    assert.equal(hasBearer('Bearer two', ['one', 'two']), true);
    assert.equal(hasBearer('bearer  one ', ['one', 'two']), true);
  });

  it('refuses everything else', () => {
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

describe('Tickets', () => {
  it('gives back what a ticket was issued for, once', () => {
    const tickets = new Tickets<string>();
    const { ticket } = tickets.issue('alice');
    assert.match(ticket, /^[\w-]{32}$/);
    assert.equal(tickets.redeem(ticket), 'alice');
    assert.equal(tickets.redeem(ticket), undefined);
    assert.equal(tickets.redeem('made up'), undefined);
  });

  it('does not take a ticket that is too old', () => {
    let now = 1000;
    const tickets = new Tickets<string>({ maxAge: 500, now: () => now });
    const { ticket, expiresAt } = tickets.issue('alice');
    assert.equal(expiresAt, 1500);
    now = 1500;
    assert.equal(tickets.redeem(ticket), undefined);
  });

  it('forgets the expired and, when there are too many, the oldest', () => {
    let now = 0;
    const tickets = new Tickets<number>({ maxAge: 1000, capacity: 3, now: () => now });
    const issued = [1, 2, 3, 4].map((value) => tickets.issue(value).ticket);
    assert.equal(tickets.size, 3);
    assert.equal(tickets.redeem(issued[0] as string), undefined);
    assert.equal(tickets.redeem(issued[3] as string), 4);
    now = 2000;
    tickets.issue(5);
    assert.equal(tickets.size, 1);
  });

  it('names the option that is out of range', () => {
    assert.throws(
      () => new Tickets({ maxAge: 60_000 }),
      /`maxAge` must be a number from 1 to 30000, got 60000/,
    );
    assert.throws(() => new Tickets({ capacity: 0 }), /`capacity` .* got 0/);
  });
});

describe('tokenAccess', () => {
  const both = tokenAccess({ publishTokens: ['writer'], subscribeTokens: ['reader'] });
  const ask = (authorization?: string) => ({ headers: { authorization } });

  it('knows a publisher, a reader, and nobody else', () => {
    assert.deepEqual(both.authorize(ask('Bearer writer')), { publish: true, subscribe: true });
    assert.deepEqual(both.authorize(ask('Bearer reader')), { publish: false, subscribe: true });
    for (const header of [undefined, 'Bearer wrong', 'Basic writer'])
      assert.equal(both.authorize(ask(header)), undefined);
  });

  it('lets everybody do what no token is needed for, but for one who shows a wrong one', () => {
    const readable = tokenAccess({ publishTokens: ['writer'] });
    assert.deepEqual(readable.authorize(ask()), { publish: false, subscribe: true });
    assert.deepEqual(readable.authorize(ask('Basic somebody')), { publish: false, subscribe: true });
    assert.equal(readable.authorize(ask('Bearer wrong')), undefined);
    const open = tokenAccess({ publishIsOpen: () => true });
    assert.deepEqual(open.authorize(ask('Bearer whatever')), { publish: true, subscribe: true });
  });

  it('refuses tokens that nobody could send', () => {
    assert.throws(
      () => tokenAccess({ subscribeTokens: [''] }),
      /a token must be printable ASCII without spaces/,
    );
  });
});
