// Answers requests with JSON, and failed ones with `{ "error", "message" }` and the matching status.
// Stands alone: copy this file by itself.

import { STATUS_CODES } from 'node:http';

/** The answer to a failed request. */
export interface Problem {
  /** The HTTP status. */
  readonly status: number;
  /**
   * The kind of failure, in kebab-case. Metrics use the same words, and the `code` of an error has them as
   * `ERR_SSE_…`.
   */
  readonly error: string;
  /** What went wrong or what to do about it, in one sentence. */
  readonly message: string;
  /** Further response headers, such as `Allow` or `Retry-After`. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** Limits to send beside the message, for programs: `{ maxEvents: 5000 }`. */
  readonly limits?: Readonly<Record<string, number>> | undefined;
}

/** The members of a response that are used: those of HTTP/1 and HTTP/2 alike. */
export interface ProblemResponse {
  writeHead(status: number, headers: Record<string, string>): unknown;
  end(body: string): unknown;
}

/** An error whose status, message and headers are sent to the client. */
export interface HttpError extends Error {
  /** `ERR_SSE_` and the words of the problem: `ERR_SSE_NOT_FOUND` for `not-found`. */
  readonly code: string;
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>> | undefined;
}

/** Makes an error to throw in code that cannot answer the request itself. */
export function httpError({ status, error, message, headers }: Problem): HttpError {
  const code = `${CODE_PREFIX}${error.toUpperCase().replaceAll('-', '_')}`;
  return Object.assign(new Error(message), { code, status, ...(headers && { headers }) });
}

/** Sends the problem. Headers that were set on the response before are kept. */
export function sendProblem(
  res: ProblemResponse,
  { status, error, message, headers, limits }: Problem,
): void {
  sendJson(res, status, { error, message, ...limits }, headers);
}

/** Sends a value as JSON that no cache may store. Headers that were set on the response before are kept. */
export function sendJson(
  res: ProblemResponse,
  status: number,
  value: unknown,
  headers?: Readonly<Record<string, string>>,
): void {
  const body = `${JSON.stringify(value)}\n`;
  res.writeHead(status, {
    ...lowerCased(headers),
    'content-type': 'application/json',
    'content-length': String(Buffer.byteLength(body)),
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
  });
  res.end(body);
}

/**
 * The answer for an error:
 *
 * - An error with a `status` from 400 to 599 and a `code` `ERR_SSE_…`: its message, its `headers`, and its
 *   limits: its numbers with a name such as `maxBytes`.
 * - Any other with a `status` or `statusCode` from 400 to 499, as body parsers and `http-errors` make them:
 *   its message, unless `expose` is false. Its headers are not sent, because they may come from the answer of
 *   another server.
 * - Everything else: a 500 that reveals nothing. Log the error.
 */
export function problemOf(error: unknown): Problem {
  const { status, statusCode, code, message, expose, headers } = Object(error) as Record<string, unknown>;
  const number = Number(status ?? statusCode);
  const isOwn = typeof code === 'string' && code.startsWith(CODE_PREFIX);
  const name = isOwn ? code.slice(CODE_PREFIX.length) : STATUS_CODES[number];
  const isShown = Number.isInteger(number) && number >= 400 && number <= (isOwn ? 599 : 499);
  if (!isShown || name === undefined) return INTERNAL;
  return {
    status: number,
    error: name.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-'),
    message: expose === false || !message ? (STATUS_CODES[number] ?? name) : String(message),
    ...(isOwn && headers !== undefined && { headers: headers as Problem['headers'] }),
    ...(isOwn && limitsOf(error as Error)),
  };
}

function limitsOf(error: object): Pick<Problem, 'limits'> | undefined {
  const limits = Object.entries(error).filter(([name, value]) => {
    return /^max[A-Z]/.test(name) && typeof value === 'number';
  });
  return limits.length > 0 ? { limits: Object.fromEntries(limits) } : undefined;
}

/** The members of a response that say whether it can still be answered. */
export interface AnsweredResponse {
  readonly headersSent: boolean;
  readonly writableEnded: boolean;
  /** On HTTP/2. */
  readonly stream?: { close?(code: number): unknown } | undefined;
  destroy(): unknown;
}

/**
 * Answers a request that ended in an error; fits `onError` of `compose`. It sends `problemOf(error)` while no
 * head was sent. After the head it destroys an unfinished response, so that the client notices the failure.
 */
export function answerError(
  error: unknown,
  { res }: { readonly res: ProblemResponse & AnsweredResponse },
): void {
  if (!res.headersSent) return sendProblem(res, problemOf(error));
  if (res.writableEnded) return;
  // Without a code Node sends NO_ERROR, which a client takes for the proper end of the response.
  res.stream?.close?.(HTTP2_CANCEL);
  res.destroy();
}

const HTTP2_CANCEL = 8;

const CODE_PREFIX = 'ERR_SSE_';

const INTERNAL: Problem = {
  status: 500,
  error: 'internal',
  message: 'The server could not handle the request.',
};

/** `writeHead` sends names that differ only in case as two headers. */
function lowerCased(headers: Problem['headers'] = {}): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
}
