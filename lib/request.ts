// Requests an event stream: follows the redirects that are safe, and accepts no other kind of response.
// Needs `transport.ts` beside it. Runs in Node, browsers, workers, Deno and Bun.

import type { Transport, TransportRequest, TransportResponse } from './transport.ts';

export type RequestHeaders = Readonly<Record<string, string>>;

export type ConnectErrorCode =
  | 'ERR_SSE_NETWORK'
  | 'ERR_SSE_TIMEOUT'
  | 'ERR_SSE_SILENT'
  | 'ERR_SSE_EOF'
  | 'ERR_SSE_STATUS'
  | 'ERR_SSE_CONTENT_TYPE'
  | 'ERR_SSE_REDIRECT'
  | 'ERR_SSE_ID'
  | 'ERR_SSE_LINE_TOO_LONG'
  | 'ERR_SSE_EVENT_TOO_LARGE';

/** Why one attempt to read a stream failed. */
export interface ConnectError extends Error {
  readonly code: ConnectErrorCode;
  /**
   * The HTTP status, where a response is the reason: with `ERR_SSE_STATUS`, `_CONTENT_TYPE` and `_REDIRECT`.
   */
  readonly status?: number | undefined;
  /** With `ERR_SSE_STATUS`: what the server asked for by `Retry-After`, in milliseconds. */
  readonly retryDelay?: number | undefined;
}

interface ConnectRequest {
  readonly url: URL;
  readonly method: string;
  /** The caller's headers. A request that has any follows no redirect to an origin that is not listed. */
  readonly headers: RequestHeaders;
  readonly body: string | Uint8Array | undefined;
  /** Sent as `Last-Event-ID`; `''`: not sent. */
  readonly lastEventId: string;
  /** The origins that sent this id or earlier ones. */
  readonly idOrigins: ReadonlySet<string>;
  /** Further origins that may get the caller's headers, body and last event ID by a redirect. */
  readonly redirectOrigins: readonly string[];
  /** Milliseconds within which each response must have its head. */
  readonly connectTimeout: number;
  readonly transport: Transport;
  /** Ends the request and the stream when it is aborted. `requestStream` aborts it after `connectTimeout`. */
  readonly controller: AbortController;
}

/** An open event stream. */
export interface IncomingStream {
  readonly body: AsyncIterable<Uint8Array>;
  /** Where it comes from, after all redirects. */
  readonly url: URL;
}

/** How an attempt ended: by a failure, or because the server has ended the stream for good. */
export type Outcome = ConnectError | 'over';

const MAX_REDIRECTS = 10;
const MAX_TIMEOUT = 2 ** 31 - 1;

/** Sends the request, and again to each address that it is redirected to. A 204 ends the stream for good. */
export async function requestStream(
  request: ConnectRequest,
): Promise<{ readonly stream: IncomingStream } | { readonly outcome: Outcome }> {
  if (!isSendable(request.lastEventId)) {
    return { outcome: failed('ERR_SSE_ID', 'the last event ID cannot be sent in a header') };
  }
  let hop: Hop = request;
  for (let redirects = 0; ; redirects++) {
    const answer = await send(hop, request);
    if ('outcome' in answer) return answer;
    const { status } = answer.response;
    if (status < 300 || status > 399 || status === 304) return judge(answer);
    if (redirects === MAX_REDIRECTS) {
      return { outcome: failed('ERR_SSE_REDIRECT', `more than ${MAX_REDIRECTS} redirects`, { status }) };
    }
    const target = locationOf(answer);
    if (target === undefined || !mayFollow(target, hop, request)) {
      return { outcome: refusedRedirect(status, target) };
    }
    hop = redirected(hop, status, target);
  }
}

type Hop = Pick<TransportRequest, 'url' | 'method' | 'body'>;
type Answer = { readonly response: TransportResponse; readonly url: URL };

async function send(
  { url, method, body }: Hop,
  request: ConnectRequest,
): Promise<Answer | { readonly outcome: Outcome }> {
  const { connectTimeout, transport, controller, lastEventId } = request;
  const headers: Record<string, string> = { accept: 'text/event-stream', 'cache-control': 'no-store' };
  for (const [name, value] of Object.entries(request.headers)) headers[name.toLowerCase()] = value;
  if (lastEventId !== '') headers['last-event-id'] = asHeader(lastEventId);
  const late = failed('ERR_SSE_TIMEOUT', `no response within ${connectTimeout} ms`);
  const timer = startTimer(connectTimeout, () => controller.abort(late));
  try {
    const response = await transport({ url, method, headers, body, signal: controller.signal });
    return { response, url: response.url === undefined ? url : new URL(response.url) };
  } catch (error) {
    return { outcome: failureOf(error, controller.signal) };
  } finally {
    clearTimeout(timer);
  }
}

function judge({ response, url }: Answer): { stream: IncomingStream } | { outcome: Outcome } {
  const { status, header, body } = response;
  if (status === 204) return { outcome: 'over' };
  if (status !== 200) {
    const retryDelay = retryDelayOf(header('retry-after'));
    return { outcome: failed('ERR_SSE_STATUS', `the server answered ${status}`, { status, retryDelay }) };
  }
  const type = header('content-type') ?? 'none';
  if (/^text\/event-stream\s*(;|$)/i.test(type)) return { stream: { body, url } };
  const message = `the content type of the response is ${type}, not text/event-stream`;
  return { outcome: failed('ERR_SSE_CONTENT_TYPE', message, { status }) };
}

/** `Retry-After`, which is in seconds or a date, in milliseconds from now. */
export function retryDelayOf(value: string | undefined): number | undefined {
  if (value === undefined) return undefined;
  if (/^\d+$/.test(value)) return Number(value) * 1000;
  const at = Date.parse(value);
  return Number.isNaN(at) ? undefined : Math.max(0, at - Date.now());
}

// ── redirects ─────────────────────────────────────────────────────────────────────────────────────────────

function locationOf({ response, url }: Answer): URL | undefined {
  const location = response.header('location');
  return location !== undefined && URL.canParse(location, url.href) ? new URL(location, url) : undefined;
}

// Follows a redirect to an origin that is not listed only if the request has neither headers nor a body of
// the caller, and no id but one that this origin has sent before.
function mayFollow(target: URL, hop: Hop, request: ConnectRequest): boolean {
  const { url, headers, lastEventId, idOrigins, redirectOrigins } = request;
  if (target.origin === url.origin || redirectOrigins.includes(target.origin)) return true;
  const isSafe = target.protocol === 'https:' || url.protocol === 'http:';
  const isBare = Object.keys(headers).length === 0 && hop.body === undefined;
  return isSafe && isBare && (lastEventId === '' || idOrigins.has(target.origin));
}

// As fetch does it: a 303 always becomes a GET, a 301 or 302 turns a POST into one.
function redirected(hop: Hop, status: number, url: URL): Hop {
  const becomesGet = status === 303 || (status < 303 && hop.method === 'POST');
  return becomesGet ? { url, method: 'GET', body: undefined } : { ...hop, url };
}

function refusedRedirect(status: number, target: URL | undefined): ConnectError {
  const where = target === undefined ? 'without a readable address' : `to ${target.origin}`;
  return failed('ERR_SSE_REDIRECT', `redirected (${status}) ${where}, which is not followed`, { status });
}

// ── headers ───────────────────────────────────────────────────────────────────────────────────────────────

// A header's value may have no control character but the tab.
const UNSENDABLE = /[\x00-\x08\x0a-\x1f\x7f]/;
const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;

/** Whether a header can carry the id. */
export function isSendable(id: string): boolean {
  return !UNSENDABLE.test(id);
}

/** Whether a text is a token of HTTP, as methods and names of headers are. */
export function isToken(text: string): boolean {
  return TOKEN.test(text);
}

/** @throws {TypeError} for headers that no request can carry: every attempt would fail with them. */
export function checkHeaders(headers: RequestHeaders): void {
  for (const [name, value] of Object.entries(headers)) {
    if (!isToken(name)) {
      throw new TypeError(`\`headers\` must have valid names, got ${JSON.stringify(name)}`);
    }
    // The value may be a secret, so the message leaves it out.
    if (UNSENDABLE.test(value) || /[^\x00-\xff]/.test(value)) {
      throw new TypeError(
        `\`headers\` must have values of one line of Latin-1, but that of \`${name}\` is not`,
      );
    }
  }
}

// "`Last-Event-ID` … encoded as UTF-8": a transport takes one character for each byte.
function asHeader(id: string): string {
  return String.fromCharCode(...new TextEncoder().encode(id));
}

// ── failures ──────────────────────────────────────────────────────────────────────────────────────────────

export function failed(
  code: ConnectErrorCode,
  message: string,
  details: { status?: number; retryDelay?: number | undefined; cause?: unknown } = {},
): ConnectError {
  const { cause, ...rest } = details;
  return Object.assign(new Error(message, cause === undefined ? undefined : { cause }), { code, ...rest });
}

const TRANSIENT_STATUS = new Set([408, 425, 429]);
const TRANSIENT = new Set<ConnectErrorCode>([
  'ERR_SSE_NETWORK',
  'ERR_SSE_TIMEOUT',
  'ERR_SSE_SILENT',
  'ERR_SSE_EOF',
]);

/** Whether the next attempt may succeed after this failure. */
export function isTransient({ code, status = 0 }: ConnectError): boolean {
  return code === 'ERR_SSE_STATUS' ? status >= 500 || TRANSIENT_STATUS.has(status) : TRANSIENT.has(code);
}

/** Turns an exception into a failure. Once the signal is aborted, its reason is the failure. */
export function failureOf(error: unknown, signal: AbortSignal): ConnectError {
  const cause = signal.aborted ? signal.reason : error;
  const code = (cause as { code?: unknown } | undefined)?.code;
  if (typeof code === 'string' && code.startsWith('ERR_SSE_')) return cause as ConnectError;
  const message = cause instanceof Error ? cause.message || String(code ?? cause.name) : String(cause);
  return failed('ERR_SSE_NETWORK', message, { cause });
}

/**
 * Starts a timer. Returns `undefined`, and starts none, where the timeout is longer than a timer can wait.
 */
export function startTimer(timeout: number, act: () => void): ReturnType<typeof setTimeout> | undefined {
  return timeout > MAX_TIMEOUT ? undefined : setTimeout(act, timeout);
}
