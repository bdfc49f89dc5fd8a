// Decides for each request of the reference server who asks, and whether they may.
// Needs `auth.ts`, `origin.ts`, `problem.ts` and `tickets.ts` beside it.

import type { IncomingMessage } from 'node:http';
import { type Access, type Action, expiryOf } from './auth.ts';
import { onlyTrue } from './origin.ts';
import { type HttpError, httpError } from './problem.ts';
import { Tickets } from './tickets.ts';

/** Answers with a principal, or throws what the client is answered: 401 for nobody, 403 for somebody who may not. */
export class Permissions {
  readonly #access: Access<unknown, IncomingMessage>;
  readonly #tickets = new Tickets<unknown>();
  readonly #publishIsClosed: () => boolean;
  /** Whether a principal may do this. */
  readonly may: (principal: unknown, action: Action, topic: string) => boolean;

  /** @param publishIsClosed - Whether no credentials at all would let a client publish. */
  constructor(access: Access<unknown, IncomingMessage>, publishIsClosed: () => boolean) {
    this.#access = access;
    this.#publishIsClosed = publishIsClosed;
    this.may = onlyTrue('access.may', (principal: unknown, action: Action, topic: string) =>
      access.may(principal, action, topic),
    );
  }

  /**
   * Who asks, if they may do this on all the topics.
   * @param ticket - Stands for whoever fetched it.
   * @throws {HttpError} code `ERR_SSE_UNAUTHORIZED` or `ERR_SSE_FORBIDDEN`.
   */
  async admit(
    req: IncomingMessage,
    action: Action,
    topics: readonly string[],
    ticket: string | null = null,
  ): Promise<unknown> {
    const principal = await this.#identify(req, ticket);
    const isKnown = principal !== undefined;
    if (isKnown && topics.every((topic) => this.may(principal, action, topic))) return principal;
    const showedCredentials = isKnown && req.headers.authorization !== undefined;
    if (showedCredentials || (action === 'publish' && this.#publishIsClosed())) {
      throw httpError({ status: 403, error: 'forbidden', message: `You may not ${action} here.` });
    }
    throw unauthorized(action);
  }

  /**
   * Who asks, if they may read anything.
   * @throws {HttpError} code `ERR_SSE_UNAUTHORIZED`.
   */
  async reader(req: IncomingMessage): Promise<unknown> {
    const principal = await this.#identify(req, null);
    if (principal === undefined || !mayReadSomething(principal)) throw unauthorized('read');
    return principal;
  }

  /** A ticket for whoever asks. */
  async issueTicket(req: IncomingMessage): Promise<{ ticket: string; expiresAt: number }> {
    return this.#tickets.issue(await this.reader(req));
  }

  /** `undefined` for nobody, and for somebody whose permission has expired. */
  async #identify(req: IncomingMessage, ticket: string | null): Promise<unknown> {
    const answer: unknown =
      ticket === null ? await this.#access.authorize(req) : this.#tickets.redeem(ticket);
    if (answer === null || answer === false) return undefined;
    return expiryOf(answer) > Date.now() ? answer : undefined;
  }
}

/** What `tokenAccess` gives states it; whoever decides otherwise is asked for each topic. */
function mayReadSomething(principal: unknown): boolean {
  return (principal as { readonly subscribe?: unknown }).subscribe !== false;
}

/** An error for a client that has shown no valid credentials. */
export function unauthorized(wish: string): HttpError {
  return httpError({
    status: 401,
    error: 'unauthorized',
    message: `To ${wish} here, send \`Authorization: Bearer <token>\`.`,
    headers: { 'WWW-Authenticate': 'Bearer' },
  });
}
