import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Tickets } from '../lib/tickets.ts';

describe('Tickets', () => {
  it('redeems a ticket once, for the value that it was issued for', () => {
    const tickets = new Tickets<string>();
    const { ticket } = tickets.issue('alice');
    assert.match(ticket, /^[\w-]{32}$/);
    assert.equal(tickets.redeem(ticket), 'alice');
    assert.equal(tickets.redeem(ticket), undefined);
    assert.equal(tickets.redeem('made up'), undefined);
  });

  it('does not redeem an expired ticket', () => {
    let now = 1000;
    const tickets = new Tickets<string>({ maxAge: 500, now: () => now });
    const { ticket, expiresAt } = tickets.issue('alice');
    assert.equal(expiresAt, 1500);
    now = 1500;
    assert.equal(tickets.redeem(ticket), undefined);
  });

  it('drops expired tickets, and the oldest one when there are `maxTickets`', () => {
    let now = 0;
    const tickets = new Tickets<number>({ maxAge: 1000, maxTickets: 3, now: () => now });
    const issued = [1, 2, 3, 4].map((value) => tickets.issue(value).ticket);
    assert.equal(tickets.size, 3);
    assert.equal(tickets.redeem(issued[0] as string), undefined);
    assert.equal(tickets.redeem(issued[3] as string), 4);
    now = 2000;
    tickets.issue(5);
    assert.equal(tickets.size, 1);
  });

  it('rejects an option that is out of range, naming it and its value', () => {
    assert.throws(
      () => new Tickets({ maxAge: 60_000 }),
      /`maxAge` must be a number from 1 to 30000, got 60000/,
    );
    assert.throws(() => new Tickets({ maxTickets: 0 }), /`maxTickets` .* got 0/);
  });
});
