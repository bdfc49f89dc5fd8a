// Identifies the sender of each request to the reference server, and checks what the sender may do.
// Needs `auth.ts`, `origin.ts`, `problem.ts` and `tickets.ts` beside it.

import type { IncomingMessage } from 'node:http';
import { type Access, type Action, expiryOf, isNobody } from './auth.ts';
import { onlyTrue } from './origin.ts';
import { type HttpError, httpError } from './problem.ts';
import { Tickets } from './tickets.ts';

/** Where tickets are kept: `Tickets`, or one place for several processes. */
export interface TicketStore {
  issue(principal: unknown): IssuedTicket | Promise<IssuedTicket>;
  /** The principal, once; `undefined` for a ticket that is not valid. */
  redeem(ticket: string): unknown;
}

export interface IssuedTicket {
  readonly ticket: string;
  /** Milliseconds since 1970. */
  readonly expiresAt: number;
}

/**
 * Returns the principal of a request, or throws the error to answer with: 401 without valid credentials, 403
 * without permission.
 */
export class Permissions {
  readonly #access: Access<unknown, IncomingMessage>;
  readonly #tickets: TicketStore;
  readonly #publishIsClosed: () => boolean;
  /** Whether a principal may perform the action on the topic. */
  readonly may: (principal: unknown, action: Action, topic: string) => boolean;

  /** @param publishIsClosed - Whether there are no credentials with which a client could publish. */
  constructor(
    access: Access<unknown, IncomingMessage>,
    publishIsClosed: () => boolean,
    tickets: TicketStore = new Tickets<unknown>(),
  ) {
    this.#access = access;
    this.#tickets = tickets;
    this.#publishIsClosed = publishIsClosed;
    this.may = onlyTrue('access.may', (principal: unknown, action: Action, topic: string) =>
      access.may(principal, action, topic),
    );
  }

  /**
   * Returns the sender of a request, who may perform the action on all the topics.
   * @param ticket - Identifies the sender in place of the headers.
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
   * Returns the sender of a request, who may read at least something.
   * @throws {HttpError} code `ERR_SSE_UNAUTHORIZED`.
   */
  async reader(req: IncomingMessage): Promise<unknown> {
    const principal = await this.#identify(req, null);
    if (principal === undefined || !mayReadSomething(principal)) throw unauthorized('read');
    return principal;
  }

  /** Issues a ticket that stands for the sender. */
  async issueTicket(req: IncomingMessage): Promise<IssuedTicket> {
    return this.#tickets.issue(await this.reader(req));
  }

  /** The sender; `undefined` without valid credentials, and for a permission that has ended. */
  async #identify(req: IncomingMessage, ticket: string | null): Promise<unknown> {
    const answer: unknown = await (ticket === null
      ? this.#access.authorize(req)
      : this.#tickets.redeem(ticket));
    return !isNobody(answer) && expiryOf(answer) > Date.now() ? answer : undefined;
  }
}

/**
 * A principal of `tokenAccess` states whether it may subscribe. For any other, `may` decides topic by topic.
 */
function mayReadSomething(principal: unknown): boolean {
  return (principal as { readonly subscribe?: unknown }).subscribe !== false;
}

/** An error for a client that has shown no valid credentials. */
export function unauthorized(action: string): HttpError {
  return httpError({
    status: 401,
    error: 'unauthorized',
    message: `To ${action} here, send \`Authorization: Bearer <token>\`.`,
    headers: { 'WWW-Authenticate': 'Bearer' },
  });
}
