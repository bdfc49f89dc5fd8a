// Notifications for users who log in: the unread ones from a file, and new ones live.
// Needs `store.ts`, `page.html`, `page.js` and `page.css` beside it, the folder `shared`, and sluice.
//
//   npx tsx examples/notifications/server.ts [--port 8080] [--folder FOLDER]

import { createHash, timingSafeEqual } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { join } from 'node:path';
import { Hub, serveEvents } from '../../lib/index.ts';
import { httpError, sendJson } from '../../lib/problem.ts';
import { argumentsOf, numberOf, readBody, serve, textOf } from '../shared/site.ts';
import { type Notification, SESSION_AGE, Store } from './store.ts';

/** For this demonstration. A program that has users keeps salted hashes. */
const PASSWORDS: ReadonlyMap<string, string> = new Map([
  ['ada', 'lovelace'],
  ['grace', 'hopper'],
]);
const COOKIE = 'notifications';
const MAX_TEXT_LENGTH = 200;
const MAX_UNREAD = 1000;

interface Session {
  readonly token: string;
  readonly user: string;
  readonly expiresAt: number;
}

const { values } = argumentsOf({
  options: {
    port: { type: 'string', default: '8080' },
    folder: { type: 'string', default: join(import.meta.dirname, 'running') },
  },
});
mkdirSync(values.folder, { recursive: true });
const store = new Store(join(values.folder, 'notifications.json'));
const hub = new Hub<{ added: Notification; read: { id: number } }>({ retry: 500 });
/** The session of each stream, to end the streams of one that is closed. */
const sessions = new WeakMap<object, Session>();

const events = serveEvents<Session>(hub, {
  path: '/events',
  // What is asked for does not matter: everybody gets their own.
  topics: (req) => topicOf(loggedIn(req).user),
  authorize: loggedIn,
  // Asked again before each write, so nothing is sent to a session that is over.
  may: ({ token }) => store.session(token) !== undefined,
  onOpen: ({ stream, principal }) => sessions.set(stream, principal),
});

await serve({
  folder: import.meta.dirname,
  port: numberOf('--port', values.port, 0, 65_535),
  events,
  routes: {
    'POST /session': async (req, res) => {
      const body = await readBody(req);
      const user = textOf(body, 'user', 100);
      if (!isPassword(user, textOf(body, 'password', 100))) throw refusal(401, 'wrong name or password');
      const cookie = cookieOf(store.openSession(user), SESSION_AGE / 1000);
      sendJson(res, 200, { user }, { 'set-cookie': cookie });
    },
    'DELETE /session': (req, res) => {
      const { token } = loggedIn(req);
      store.closeSession(token);
      hub.kick((sink) => sessions.get(sink)?.token === token);
      sendJson(res, 200, {}, { 'set-cookie': cookieOf('', 0) });
    },
    // What is stored, and the position of the hub, are read in one turn: so no event lies between them, and the page
    // that continues from there gets each notification once.
    'GET /notifications': (req, res) => {
      const { user } = loggedIn(req);
      const others = [...PASSWORDS.keys()].filter((name) => name !== user);
      sendJson(res, 200, { user, others, unread: store.unread(user), position: hub.position });
    },
    'POST /notifications': async (req, res) => {
      const { user } = loggedIn(req);
      const body = await readBody(req);
      const to = textOf(body, 'to', 100);
      const text = textOf(body, 'text', MAX_TEXT_LENGTH);
      if (!PASSWORDS.has(to)) throw refusal(404, `there is no user "${to}"`);
      if (store.unread(to).length >= MAX_UNREAD)
        throw refusal(409, `${to} has ${MAX_UNREAD} unread notifications: wait until some are read`);
      // Stored and published in one turn, as they are read in one.
      const notification = store.add(to, user, text);
      hub.publish(topicOf(to), { event: 'added', json: notification });
      sendJson(res, 201, { id: notification.id });
    },
    'DELETE /notifications/:id': (req, res, params) => {
      const { user } = loggedIn(req);
      const id = Number(params.id);
      if (!store.markRead(user, id)) throw refusal(404, 'there is no such unread notification');
      // For the other pages of this user.
      hub.publish(topicOf(user), { event: 'read', json: { id } });
      sendJson(res, 200, {});
    },
  },
  onStopped: () => hub.close(),
});

/** @throws {HttpError} with status 401 for who is not logged in. */
function loggedIn(req: IncomingMessage): Session {
  const token = new RegExp(`(?:^|; )${COOKIE}=([\\w-]+)`).exec(req.headers.cookie ?? '')?.[1] ?? '';
  const session = store.session(token);
  if (session === undefined) throw refusal(401, 'log in first');
  return { ...session, token };
}

/** Another site's page can neither read the cookie nor send it. Served by HTTPS, it would have `Secure` as well. */
function cookieOf(token: string, seconds: number): string {
  return `${COOKIE}=${token}; Path=/; Max-Age=${seconds}; HttpOnly; SameSite=Strict`;
}

/** Takes the same time for any password of a user, and for a user who does not exist. */
function isPassword(user: string, password: string): boolean {
  const hash = (text: string): Buffer => createHash('sha256').update(text).digest();
  const isRight = timingSafeEqual(hash(password), hash(PASSWORDS.get(user) ?? ''));
  return isRight && PASSWORDS.has(user);
}

function topicOf(user: string): string {
  return `user-${user}`;
}

function refusal(status: number, message: string): Error {
  const error = { 401: 'unauthorized', 404: 'not-found', 409: 'full' }[status] ?? 'refused';
  return httpError({ status, error, message });
}
