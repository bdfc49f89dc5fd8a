// Issues single-use tickets: short-lived secrets that take a token's place in a URL.
// Stands alone: copy this file by itself.

import { createHash, randomBytes } from 'node:crypto';

export interface TicketsOptions {
  /** Milliseconds for which a ticket can be redeemed; default and maximum 30,000. */
  maxAge?: number | undefined;
  /** Most tickets kept at a time; default 100,000. A new one then replaces the oldest. */
  maxTickets?: number | undefined;
  /** Returns the time in milliseconds; default `Date.now`. */
  now?: (() => number) | undefined;
}

/**
 * Issues tickets and redeems each one once. A browser's `EventSource` cannot send a header, and a token in a
 * URL ends up in logs, so a page exchanges its token for a ticket and puts that into the URL. A ticket stands
 * for the value that it was issued for, such as a principal.
 *
 * The trap: EventSource reconnects with the same URL, whose ticket is spent. When it closes, fetch a new
 * ticket and make a new EventSource.
 */
export class Tickets<T> {
  readonly #maxAge: number;
  readonly #maxTickets: number;
  readonly #now: () => number;
  // In the order of issue, which is the order of expiry.
  readonly #issued: Map<string, { readonly value: T; readonly expiresAt: number }> = new Map();

  /** @throws {RangeError} naming the option that is out of its range. */
  constructor(options: TicketsOptions = {}) {
    const { maxAge = MAX_AGE, maxTickets = 100_000, now = () => Date.now() } = options;
    this.#maxAge = inRange('maxAge', maxAge, 1, MAX_AGE);
    this.#maxTickets = inRange('maxTickets', maxTickets, 1, Infinity);
    this.#now = now;
  }

  /** How many tickets are kept. Expired ones count until the next ticket is issued. */
  get size(): number {
    return this.#issued.size;
  }

  /** Makes a ticket for a value. `expiresAt` is in milliseconds since 1970. */
  issue(value: T): { ticket: string; expiresAt: number } {
    this.#prune();
    const ticket = randomBytes(24).toString('base64url');
    const expiresAt = this.#now() + this.#maxAge;
    // Only the digest is kept, so that a copy of the memory holds no usable ticket.
    this.#issued.set(keyOf(ticket), { value, expiresAt });
    return { ticket, expiresAt };
  }

  /** The value of a ticket, once. `undefined` for a ticket that is unknown, already redeemed or expired. */
  redeem(ticket: string): T | undefined {
    const key = keyOf(ticket);
    const found = this.#issued.get(key);
    this.#issued.delete(key);
    return found !== undefined && this.#now() < found.expiresAt ? found.value : undefined;
  }

  #prune(): void {
    for (const [key, { expiresAt }] of this.#issued) {
      if (this.#now() < expiresAt && this.#issued.size < this.#maxTickets) return;
      this.#issued.delete(key);
    }
  }
}

const MAX_AGE = 30_000;

function keyOf(ticket: string): string {
  return createHash('sha256').update(ticket).digest('base64url');
}

function inRange(name: string, value: number, least: number, most: number): number {
  if (typeof value === 'number' && value >= least && value <= most) return value;
  throw new RangeError(`\`${name}\` must be a number from ${least} to ${most}, got ${value}`);
}
