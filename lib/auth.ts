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
export type TokenPrincipal = Readonly<Record<Action, boolean>>;

/**
 * Makes an {@link Access} from a few tokens, each of which is valid for all topics.
 *
 * @throws {TypeError} for a token that no header can carry: one that is empty, or not printable ASCII without
 *   spaces.
 */
export function tokenAccess(options: TokenAccessOptions = {}): Access<TokenPrincipal> {
  const { publishTokens = [], subscribeTokens = [], publishIsOpen = () => false } = options;
  for (const token of [...publishTokens, ...subscribeTokens]) checkToken(token);
  return {
    authorize({ headers: { authorization } }) {
      const publisher = hasBearer(authorization, publishTokens);
      const subscriber = hasBearer(authorization, subscribeTokens);
      // Rejects a wrong token even where none is required: its sender expects to be authenticated.
      const isWrong = !publisher && !subscriber && /^Bearer /i.test(authorization ?? '');
      if (isWrong && publishTokens.length + subscribeTokens.length > 0) return undefined;
      const publish = publisher || (publishTokens.length === 0 && publishIsOpen() === true);
      const subscribe = publisher || subscriber || subscribeTokens.length === 0;
      return publish || subscribe ? { publish, subscribe } : undefined;
    },
    may: (principal, action) => principal[action],
  };
}

/**
 * Whether an `Authorization` header carries one of the tokens. Compares every token in constant time, so the
 * time that it takes says nothing about how close a guess is.
 */
export function hasBearer(header: string | undefined, tokens: readonly string[]): boolean {
  const given = /^Bearer +([\x21-\x7e]+) *$/i.exec(header ?? '')?.[1];
  if (given === undefined) return false;
  const digest = sha256(given);
  return tokens.reduce((found, token) => timingSafeEqual(sha256(token), digest) || found, false);
}

function checkToken(token: string): void {
  // The message leaves out the token, which is a secret.
  if (!/^[\x21-\x7e]+$/.test(token)) throw new TypeError('a token must be printable ASCII without spaces');
}

function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
