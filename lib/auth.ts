// Decides who may read and write: bearer tokens, and single-use tickets for clients that cannot send a header.
// Stands alone: copy this file by itself.

import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';

export type Action = 'subscribe' | 'publish';

/** Who is asking, and what they may do. A principal is whatever `authorize` makes of a request. */
export interface Access<Principal, Req = AuthRequest> {
  /** Who this is, or `undefined` for credentials that are missing and needed, or wrong. */
  authorize(req: Req): Principal | undefined | Promise<Principal | undefined>;
  /** Asked before a stream opens, and again before each page that it is sent, old events or new. */
  may(principal: Principal, action: Action, topic: string): boolean;
}

/** The member of a request that is used. */
export interface AuthRequest {
  readonly headers: { readonly authorization?: string | undefined };
}

export interface TokenAccessOptions {
  /** Whoever publishes or ends topics must show one of these; without any, `publishIsOpen` decides. */
  publishTokens?: readonly string[] | undefined;
  /** Whoever subscribes must show one of these, or one of those; without any, everybody may. */
  subscribeTokens?: readonly string[] | undefined;
  /** Whether anybody may publish where there are no tokens for it; default no. */
  publishIsOpen?: (() => boolean) | undefined;
}

/** What the bearer of a token may do; on every topic. */
export type TokenPrincipal = Readonly<Record<Action, boolean>>;

/**
 * Access by a few tokens that are good for all topics.
 * @throws {TypeError} for a token that could not be sent: empty, or not printable ASCII without spaces.
 */
export function tokenAccess(options: TokenAccessOptions = {}): Access<TokenPrincipal> {
  const { publishTokens = [], subscribeTokens = [], publishIsOpen = () => false } = options;
  for (const token of [...publishTokens, ...subscribeTokens]) checkToken(token);
  return {
    authorize({ headers: { authorization } }) {
      const publisher = hasBearer(authorization, publishTokens);
      const subscriber = hasBearer(authorization, subscribeTokens);
      // A wrong token is told so, even where none was needed: its bearer believes to be somebody.
      const isWrong = !publisher && !subscriber && /^Bearer /i.test(authorization ?? '');
      if (isWrong && publishTokens.length + subscribeTokens.length > 0) return undefined;
      const publish = publisher || (publishTokens.length === 0 && publishIsOpen());
      const subscribe = publisher || subscriber || subscribeTokens.length === 0;
      return publish || subscribe ? { publish, subscribe } : undefined;
    },
    may: (principal, action) => principal[action],
  };
}

export interface TicketsOptions {
  /** Milliseconds for which a ticket is good; default and most 30,000. */
  maxAge?: number | undefined;
  /** Most tickets that are out at a time; default 100,000. The oldest make room. */
  capacity?: number | undefined;
  /** Milliseconds; default `Date.now`. */
  now?: (() => number) | undefined;
}

/**
 * Whether a request's `Authorization` header carries one of the tokens. Every token is compared, each in
 * constant time, so that the answer takes the same time however near a guess is.
 */
export function hasBearer(header: string | undefined, tokens: readonly string[]): boolean {
  const given = /^Bearer +([\x21-\x7e]+) *$/i.exec(header ?? '')?.[1];
  if (given === undefined) return false;
  const digest = sha256(given);
  return tokens.reduce((found, token) => timingSafeEqual(sha256(token), digest) || found, false);
}

/**
 * Something to put into a URL in a token's place: a browser's `EventSource` sends no headers, and a URL ends up
 * in logs. A ticket is good once and briefly, and stands for whatever value it was issued for.
 *
 * The trap: EventSource reconnects to the URL it was given, and that ticket is spent. Fetch a new one and make
 * a new EventSource when it closes.
 */
export class Tickets<T> {
  readonly #maxAge: number;
  readonly #capacity: number;
  readonly #now: () => number;
  // In the order of issue, which is the order of expiry.
  readonly #issued: Map<string, { readonly value: T; readonly expiresAt: number }> = new Map();

  /** @throws {RangeError} naming the option that is out of its range. */
  constructor(options: TicketsOptions = {}) {
    const { maxAge = MAX_AGE, capacity = 100_000, now = Date.now } = options;
    this.#maxAge = inRange('maxAge', maxAge, 1, MAX_AGE);
    this.#capacity = inRange('capacity', capacity, 1, Infinity);
    this.#now = now;
  }

  /** How many are out, the expired ones among them until the next one is issued. */
  get size(): number {
    return this.#issued.size;
  }

  issue(value: T): { ticket: string; expiresAt: number } {
    this.#prune();
    const ticket = randomBytes(24).toString('base64url');
    const expiresAt = this.#now() + this.#maxAge;
    // Kept by its digest: what lies in memory opens nothing.
    this.#issued.set(keyOf(ticket), { value, expiresAt });
    return { ticket, expiresAt };
  }

  /** What a ticket stands for, once; `undefined` when it is unknown, spent or too old. */
  redeem(ticket: string): T | undefined {
    const key = keyOf(ticket);
    const found = this.#issued.get(key);
    this.#issued.delete(key);
    return found !== undefined && this.#now() < found.expiresAt ? found.value : undefined;
  }

  #prune(): void {
    for (const [key, { expiresAt }] of this.#issued) {
      if (this.#now() < expiresAt && this.#issued.size < this.#capacity) return;
      this.#issued.delete(key);
    }
  }
}

const MAX_AGE = 30_000;

function checkToken(token: string): void {
  // The value is a secret: it is not in the message.
  if (!/^[\x21-\x7e]+$/.test(token)) throw new TypeError('a token must be printable ASCII without spaces');
}

function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

function keyOf(ticket: string): string {
  return sha256(ticket).toString('base64url');
}

function inRange(name: string, value: number, least: number, most: number): number {
  if (typeof value === 'number' && value >= least && value <= most) return value;
  throw new RangeError(`\`${name}\` must be a number from ${least} to ${most}, got ${value}`);
}
