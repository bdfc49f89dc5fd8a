// What the servers of the examples have in common: the files of a page, routes, JSON bodies, start and stop.
// Needs `page.js` and `style.css` beside it, and sluice.

import { readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { extname, join } from 'node:path';
import { type ParseArgsConfig, parseArgs } from 'node:util';
import { readText } from '../../lib/body.ts';
import {
  answerError,
  compose,
  type EventsHandler,
  guard,
  Router,
  shutdown,
  trackConnections,
} from '../../lib/index.ts';
import { httpError, problemOf } from '../../lib/problem.ts';

/** Answers one request. `params` has the named segments of its path. */
export type Route = (
  req: IncomingMessage,
  res: ServerResponse,
  params: Readonly<Record<string, string>>,
) => unknown;

export interface Site {
  /** The folder with `page.html`, `page.js` and `page.css`. */
  readonly folder: string;
  /** 0 takes any port that is free. */
  readonly port: number;
  /** By method and path, such as `POST /jobs` or `DELETE /jobs/:id`. */
  readonly routes: Readonly<Record<string, Route>>;
  /** Answers the other paths. */
  readonly events: EventsHandler;
  /** Called when a signal stops the process: before the streams end, and after the last response. */
  readonly onStopping?: (() => unknown) | undefined;
  readonly onStopped?: (() => unknown) | undefined;
}

/**
 * Serves a page and its events on the loopback, prints the address, and stops on SIGINT and SIGTERM; at once on a
 * second one.
 */
export async function serve(site: Site): Promise<void> {
  const { events, onStopping, onStopped } = site;
  const handler = compose([guard({ navigation: true }), filesOf(site.folder), routed(site.routes), events], {
    onError: (error, context) => {
      if (problemOf(error).status === 500) console.error(error);
      answerError(error, context);
    },
  });
  const server = createServer(handler);
  trackConnections(server);
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject).listen(site.port, '127.0.0.1', resolve);
  }).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EADDRINUSE') throw error;
    leave(`port ${site.port} is taken: give another one with --port`);
  });
  let isStopping = false;
  const stop = async (): Promise<void> => {
    if (isStopping) process.exit(1);
    isStopping = true;
    await onStopping?.();
    await shutdown(server, { streams: events.streams, retry: 500, retrySpread: 500, deadline: 2000 });
    await onStopped?.();
  };
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, stop);
  console.log(`open http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
}

/** Parses the arguments of the command. Ends the process where they are wrong. */
export function argumentsOf<Config extends ParseArgsConfig>(config: Config): Arguments<Config> {
  try {
    return parseArgs(config);
  } catch (error) {
    return leave((error as Error).message);
  }
}

type Arguments<Config extends ParseArgsConfig> = ReturnType<typeof parseArgs<Config>>;

/** The number of an option such as `--port`. Ends the process where it is none of those allowed. */
export function numberOf(option: string, value: string, least: number, most: number): number {
  const number = Number(value);
  if (Number.isInteger(number) && number >= least && number <= most) return number;
  return leave(`${option} must be a whole number from ${least} to ${most}, got "${value}"`);
}

/** Ends the process as one that was not used correctly. */
export function leave(message: string): never {
  console.error(message);
  process.exit(2);
}

/** Reads the body of a request as a JSON object, whose fields may be anything. */
export async function readBody(req: IncomingMessage): Promise<Readonly<Record<string, unknown>>> {
  const body = await readText(req, MAX_BODY_BYTES);
  try {
    const value: unknown = JSON.parse(body);
    if (typeof value === 'object' && value !== null) return value as Record<string, unknown>;
  } catch {
    // Answered as any other body that is no object.
  }
  throw httpError({ status: 400, error: 'malformed-body', message: 'the body must be a JSON object' });
}

/** A field of a body, as text of limited length. */
export function textOf(body: Readonly<Record<string, unknown>>, field: string, maxLength: number): string {
  const value = body[field];
  const text = typeof value === 'string' ? value.trim() : '';
  if (text !== '' && text.length <= maxLength) return text;
  const message = `\`${field}\` must be text of 1 to ${maxLength} characters`;
  throw httpError({ status: 400, error: 'malformed-field', message });
}

const MAX_BODY_BYTES = 64 * 1024;

// ── files and routes ──────────────────────────────────────────────────────────────────────────────────────────

type Middleware = (req: IncomingMessage, res: ServerResponse, next: () => unknown) => unknown;

/** The page loads its own files only, and inserts what it receives as text. */
const HEADERS: Readonly<Record<string, string>> = {
  'content-security-policy': [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self'",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
  ].join('; '),
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cache-control': 'no-cache',
};

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.svg': 'image/svg+xml',
};

function filesOf(folder: string): Middleware {
  const files = new Map([
    ['/', join(folder, 'page.html')],
    ['/page.js', join(folder, 'page.js')],
    ['/page.css', join(folder, 'page.css')],
    ['/shared/page.js', join(import.meta.dirname, 'page.js')],
    ['/shared/style.css', join(import.meta.dirname, 'style.css')],
    ['/icon.svg', join(import.meta.dirname, '../../lib/dashboard/icon.svg')],
  ]);
  return (req, res, next) => {
    const file = files.get(req.url ?? '');
    if (req.method !== 'GET' || file === undefined) return next();
    res.writeHead(200, { ...HEADERS, 'content-type': TYPES[extname(file)] }).end(readFileSync(file));
  };
}

/** Paths that no route has go on to the events; a method that a path does not have is refused. */
function routed(routes: Site['routes']): Middleware {
  const router = new Router<Route>();
  for (const [route, handler] of Object.entries(routes)) {
    const [method = '', path = ''] = route.split(' ');
    router.add(method, path, handler);
  }
  return (req, res, next) => {
    const found = router.find(req.method ?? '', req.url ?? '');
    if (found.status === 200) return found.value(req, res, found.params);
    if (found.status === 404) return next();
    const allow = found.allow.join(', ');
    const message = found.status === 400 ? 'the path cannot be read' : `use one of: ${allow}`;
    throw httpError({ status: found.status, error: 'no-route', message, headers: allow ? { allow } : {} });
  };
}
