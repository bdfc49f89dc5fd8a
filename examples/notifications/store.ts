// Keeps unread notifications and sessions in a file of JSON.
// Stands alone: copy this file by itself. A database takes its place, if it answers in the same turn.

import { createHash, randomBytes } from 'node:crypto';
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';

export interface Notification {
  readonly id: number;
  readonly from: string;
  readonly text: string;
  /** When it was sent, as an ISO date. */
  readonly at: string;
}

interface Content {
  newest: number;
  readonly unread: Record<string, Notification[]>;
  /** Users by the hash of their token: whoever reads the file cannot log in by it. */
  readonly sessions: Record<string, { readonly user: string; readonly expiresAt: number }>;
}

/** How long a session lasts, in milliseconds. */
export const SESSION_AGE: number = 24 * 60 * 60 * 1000;

export class Store {
  readonly #file: string;
  readonly #content: Content;

  /** Reads the file, if there is one. */
  constructor(file: string) {
    this.#file = file;
    const empty: Content = { newest: 0, unread: {}, sessions: {} };
    this.#content = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : empty;
  }

  unread(user: string): readonly Notification[] {
    return this.#content.unread[user] ?? [];
  }

  add(user: string, from: string, text: string): Notification {
    const notification = { id: ++this.#content.newest, from, text, at: new Date().toISOString() };
    this.#content.unread[user] = [...this.unread(user), notification];
    this.#write();
    return notification;
  }

  /** Removes one that was read. Returns whether this user had it. */
  markRead(user: string, id: number): boolean {
    const left = this.unread(user).filter((one) => one.id !== id);
    if (left.length === this.unread(user).length) return false;
    this.#content.unread[user] = left;
    this.#write();
    return true;
  }

  /** Returns the token of a new session. */
  openSession(user: string): string {
    const token = randomBytes(32).toString('base64url');
    const { sessions } = this.#content;
    for (const [hash, { expiresAt }] of Object.entries(sessions))
      if (expiresAt <= Date.now()) delete sessions[hash];
    sessions[hashOf(token)] = { user, expiresAt: Date.now() + SESSION_AGE };
    this.#write();
    return token;
  }

  /** The session of a token, if there is one that has not expired. */
  session(token: string): { readonly user: string; readonly expiresAt: number } | undefined {
    const session = this.#content.sessions[hashOf(token)];
    return session !== undefined && session.expiresAt > Date.now() ? session : undefined;
  }

  closeSession(token: string): void {
    delete this.#content.sessions[hashOf(token)];
    this.#write();
  }

  /** A process that is killed leaves the old file or the new one, and never half of it. */
  #write(): void {
    writeFileSync(`${this.#file}.new`, JSON.stringify(this.#content), { mode: 0o600 });
    renameSync(`${this.#file}.new`, this.#file);
  }
}

function hashOf(token: string): string {
  return createHash('sha256').update(token).digest('hex');
}
