// Decides who may subscribe and publish, by bearer tokens or by a rule of your own.
// Stands alone: copy this file by itself.

import { createHash, timingSafeEqual } from 'node:crypto';

export type Action = 'subscribe' | 'publish';

/** The results of `authorize` for a request without valid credentials. */
export type Nobody = undefined | null | false;

/** Whether `authorize` found no principal. */
export function isNobody(answer: unknown): answer is Nobody {
  return answer === undefined || answer === null || answer === false;
}

/**
 * Identifies the sender of a request and decides what the sender may do. A principal is any value that
 * `authorize` returns, except `undefined`, `null` and `false`.
 */
export interface Access<Principal, Req = AuthRequest> {
  /**
   * Returns the principal that sent the request, or {@link Nobody} where credentials are wrong, or missing
   * and required.
   */
  authorize(req: Req): Principal | Nobody | Promise<Principal | Nobody>;
  /**
   * Whether the principal may perform the action on the topic. Only `true` allows it. A server calls this
   * before it opens a stream and again before each page that it sends, so it must be quick and must not
   * return a promise.
   */
  may(principal: Principal, action: Action, topic: string): boolean;
}

/**
 * When a principal's permission ends, in milliseconds since 1970: its `expiresAt`, or `Infinity` where it has
 * none. A non-numeric `expiresAt` gives `NaN`, which is greater than no time. Test it with
 * `expiryOf(principal) > Date.now()`.
 */
export function expiryOf(principal: unknown): number {
  const { expiresAt } = Object(principal) as { readonly expiresAt?: unknown };
  if (expiresAt === undefined || expiresAt === null) return Infinity;
  return typeof expiresAt === 'number' ? expiresAt : Number.NaN;
}

/**
 * Returns a text that is equal for two requests of one sender alone, as far as their principals tell: the
 * principal's `id` where it has one, else all of it as JSON but its `expiresAt`. A principal that JSON does not
 * describe, because it is or holds a function or an object of a class, equals no other; give it an `id`.
 */
export function identityOf(principal: unknown): string {
  if (Object(principal) !== principal) return `${typeof principal} ${String(principal)}`;
  const object = principal as { readonly id?: unknown; readonly expiresAt?: unknown };
  const { id, expiresAt: _, ...rest } = object;
  if (typeof id === 'string' || typeof id === 'number') return `id ${JSON.stringify(id)}`;
  try {
    if (isDescribed(object)) return `json ${JSON.stringify({ id, ...rest }, describe)}`;
  } catch {
    // A cycle, a bigint, or what `describe` has found.
  }
  const known = identities.get(object) ?? `object ${++identified}`;
  identities.set(object, known);
  return known;
}

/** JSON leaves out functions, and what a `Map` or an object of a class holds: all would be equal. */
function describe(_key: string, value: unknown): unknown {
  const type = typeof value;
  if (type === 'function' || type === 'symbol' || (Object(value) === value && !isDescribed(value))) {
    throw new TypeError('JSON does not describe it');
  }
  return value;
}

function isDescribed(value: unknown): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null || Array.isArray(value);
}

const identities = new WeakMap<object, string>();
let identified = 0;

/** The member of a request that is used. */
export interface AuthRequest {
  readonly headers: { readonly authorization?: string | undefined };
}

export interface TokenAccessOptions {
  /** Tokens that allow publishing, ending topics and subscribing. Without any, `publishIsOpen` decides. */
  publishTokens?: readonly string[] | undefined;
  /** Tokens that allow subscribing. Without any, everybody may subscribe. */
  subscribeTokens?: readonly string[] | undefined;
  /** Whether everybody may publish while there are no `publishTokens`; default no. */
  publishIsOpen?: (() => boolean) | undefined;
}

/** The actions that the sender of a token may perform, on every topic. */
export interface TokenPrincipal extends Readonly<Record<Action, boolean>> {
  /** Differs from token to token, and reveals none. `undefined` for a sender without one. */
  readonly id?: string | undefined;
}

/**
 * Makes an {@link Access} from a few tokens, each of which is valid for all topics.
 *
 * @throws {TypeError} naming the option that is no list of tokens that a header can carry, see `checkTokens`.
 */
export function tokenAccess(options: TokenAccessOptions = {}): Access<TokenPrincipal> {
  const { publishTokens = [], subscribeTokens = [], publishIsOpen = () => false } = options;
  checkTokens('publishTokens', publishTokens);
  checkTokens('subscribeTokens', subscribeTokens);
  const principals = new Map<string, TokenPrincipal>();
  /** One object for all streams of a token, which keep it. */
  const principalOf = (place: number, publish: boolean, subscribe: boolean): TokenPrincipal => {
    const name = `${place} ${publish} ${subscribe}`;
    const id = place >= 0 ? { id: `token ${place + 1}` } : undefined;
    const principal = principals.get(name) ?? Object.freeze({ publish, subscribe, ...id });
    principals.set(name, principal);
    return principal;
  };
  return {
    authorize({ headers: { authorization } }) {
      const place = findBearer(authorization, [...publishTokens, ...subscribeTokens]);
      const publisher = place >= 0 && place < publishTokens.length;
      const subscriber = hasBearer(authorization, subscribeTokens);
      // Rejects a wrong token even where none is required: its sender expects to be authenticated.
      const isWrong = !publisher && !subscriber && /^Bearer /i.test(authorization ?? '');
      if (isWrong && publishTokens.length + subscribeTokens.length > 0) return undefined;
      const publish = publisher || (publishTokens.length === 0 && publishIsOpen() === true);
      const subscribe = publisher || subscriber || subscribeTokens.length === 0;
      return publish || subscribe ? principalOf(place, publish, subscribe) : undefined;
    },
    may: (principal, action) => principal[action],
  };
}

/**
 * Whether an `Authorization` header carries one of the tokens. Compares every token in constant time, so the
 * time that it takes says nothing about how close a guess is.
 */
export function hasBearer(header: string | undefined, tokens: readonly string[]): boolean {
  return findBearer(header, tokens) >= 0;
}

/**
 * Checks the tokens of an option when a server is made. A string is refused: each of its letters would count
 * as a token.
 *
 * @throws {TypeError} naming the option, for what is no list, and for a token that no header can carry: one
 *   that is empty, or not printable ASCII without spaces.
 */
export function checkTokens(option: string, tokens: readonly string[]): void {
  // The messages leave out the tokens, which are secrets.
  if (!Array.isArray(tokens))
    throw new TypeError(`\`${option}\` must be a list of tokens, got ${typeof tokens}`);
  if (tokens.every((token) => typeof token === 'string' && /^[\x21-\x7e]+$/.test(token))) return;
  throw new TypeError(`\`${option}\`: a token must be printable ASCII without spaces`);
}

/** The place of the header's token among the tokens; the first where it is there twice, -1 for none. */
function findBearer(header: string | undefined, tokens: readonly string[]): number {
  const given = /^Bearer +([\x21-\x7e]+) *$/i.exec(header ?? '')?.[1];
  if (given === undefined) return -1;
  const digest = sha256(given);
  const found = tokens.map((token) => timingSafeEqual(sha256(token), digest));
  return found.indexOf(true);
}

function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
