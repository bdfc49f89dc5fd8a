// Answers a request that failed: one JSON object, `{ "error", "message" }`, with the status that fits.
// Stands alone: copy this file by itself.

import { STATUS_CODES } from 'node:http';

/** What the client of a failed request is sent. */
export interface Problem {
  /** The HTTP status. */
  readonly status: number;
  /** What happened, in kebab-case. Metrics use the same words; `code` of an error has them as `ERR_SSE_…`. */
  readonly error: string;
  /** What to do about it, in one sentence. */
  readonly message: string;
  /** Further response headers, such as `Allow` or `Retry-After`. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
}

/** The members of a response that are used: those of HTTP/1 and HTTP/2 alike. */
export interface ProblemResponse {
  writeHead(status: number, headers: Record<string, string>): unknown;
  end(body: string): unknown;
}

/** An error that `answerError` tells the client about. */
export interface HttpError extends Error {
  /** `ERR_SSE_` and the words of the problem: `ERR_SSE_NOT_FOUND` for `not-found`. */
  readonly code: string;
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>> | undefined;
}

/** Makes an error to throw where a request cannot be answered otherwise. */
export function httpError({ status, error, message, headers }: Problem): HttpError {
  const code = `ERR_SSE_${error.toUpperCase().replaceAll('-', '_')}`;
  return Object.assign(new Error(message), { code, status, ...(headers && { headers }) });
}

/** Sends the problem. Headers that were set on the response before are kept. */
export function sendProblem(res: ProblemResponse, { status, error, message, headers }: Problem): void {
  const body = `${JSON.stringify({ error, message })}\n`;
  res.writeHead(status, {
    'content-type': 'application/json',
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
    ...headers,
    'content-length': String(Buffer.byteLength(body)),
  });
  res.end(body);
}

/**
 * What to tell the client about an error. An error with a `status` (or `statusCode`, as body parsers and
 * `http-errors` have it) from 400 to 499 is told with its message, and so is any other that has a `status` and a
 * `code` of ours. Everything else is a 500 that reveals nothing: log it.
 */
export function problemOf(error: unknown): Problem {
  const { status, statusCode, code, message, headers } = Object(error) as Record<string, unknown>;
  const number = Number(status ?? statusCode);
  const own =
    typeof code === 'string' && code.startsWith('ERR_SSE_') ? code.slice('ERR_SSE_'.length) : undefined;
  const mayBeTold = number >= 400 && number <= (own === undefined ? 499 : 599);
  const words = own ?? STATUS_CODES[number];
  if (!mayBeTold || words === undefined) return INTERNAL;
  return {
    status: number,
    error: words.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-'),
    message: String(message ?? words),
    headers: headers as Problem['headers'],
  };
}

const INTERNAL: Problem = {
  status: 500,
  error: 'internal',
  message: 'Something went wrong on the server; its log has more.',
};

/**
 * Answers a request with the error that ended it, as `onError` of `compose` does: by {@link sendProblem} while no head
 * was sent. After that only the connection can tell, so an unfinished response is cut.
 */
export function answerError(
  error: unknown,
  { res }: { readonly res: ProblemResponse & AnsweredResponse },
): void {
  if (!res.headersSent) return sendProblem(res, problemOf(error));
  if (!res.writableEnded) res.destroy();
}

/** The members of a response that tell whether it can still be answered. */
export interface AnsweredResponse {
  readonly headersSent: boolean;
  readonly writableEnded: boolean;
  destroy(): unknown;
}
