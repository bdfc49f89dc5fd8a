// Requests an event stream: follows the redirects that are safe, and accepts no other kind of response.
// Needs `protocol.ts` and `transport.ts` beside it. Runs in Node, browsers, workers, Deno and Bun.

import { maxIdBytes, type Refused, readRefused } from './protocol.ts';
import {
  readAnswer,
  type Transport,
  type TransportError,
  type TransportRequest,
  type TransportResponse,
} from './transport.ts';

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
  | 'ERR_SSE_EVENT_TOO_LARGE'
  | 'ERR_SSE_REFUSED'
  | TransportError['code'];

/** Why one attempt to read a stream failed. */
export interface ConnectError extends Error {
  readonly code: ConnectErrorCode;
  /**
   * The HTTP status, where a response is the reason: with `ERR_SSE_STATUS`, `_CONTENT_TYPE` and `_REDIRECT`.
   */
  readonly status?: number | undefined;
  /** With `ERR_SSE_STATUS`: what the server asked for by `Retry-After`, in milliseconds. */
  readonly retryDelay?: number | undefined;
  /**
   * With `ERR_SSE_STATUS` and `ERR_SSE_REFUSED`: the server's word for the reason, such as `server-full`, where
   * it gives one.
   */
  readonly reason?: string | undefined;
}

interface ConnectRequest {
  readonly url: URL;
  readonly method: string;
  /** The caller's headers. A request that has any follows no redirect to an origin that is not listed. */
  readonly headers: RequestHeaders;
  readonly body: string | Uint8Array | undefined;
  /** Sent as `Last-Event-ID`, or by `lastEventIdParameter`; `''`: not sent. */
  readonly lastEventId: string;
  readonly lastEventIdParameter: string | undefined;
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
  /** The next chunk. Rejects with the reason of the request's controller once that is aborted. */
  readonly next: () => Promise<IteratorResult<Uint8Array, unknown>>;
  /** Where it comes from, after all redirects. */
  readonly url: URL;
}

/** How an attempt ended: by a failure, or because the server has ended the stream for good. */
export type Outcome = ConnectError | 'over';

const MAX_REDIRECTS = 10;
const MAX_TIMEOUT = 2 ** 31 - 1;
// As fetch has it: a 300 or a 304 is an answer.
const REDIRECT_STATUS = new Set([301, 302, 303, 307, 308]);

/** Sends the request, and again to each address that it is redirected to. A 204 ends the stream for good. */
export async function requestStream(
  request: ConnectRequest,
): Promise<{ readonly stream: IncomingStream } | { readonly outcome: Outcome }> {
  let hop: Hop = request;
  for (let redirects = 0; ; redirects++) {
    const answer = await send(hop, request);
    if ('outcome' in answer) return answer;
    const { status } = answer.response;
    if (!REDIRECT_STATUS.has(status)) return judge(answer);
    answer.discard();
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

type Hop = Pick<TransportRequest, 'url' | 'method' | 'headers' | 'body'>;

interface Answer {
  readonly response: TransportResponse;
  readonly url: URL;
  readonly signal: AbortSignal;
  /** Closes the connection, whatever is left of the response. */
  readonly discard: () => void;
}

async function send(
  { url, method, headers, body }: Hop,
  request: ConnectRequest,
): Promise<Answer | { readonly outcome: Outcome }> {
  const { connectTimeout, transport, controller } = request;
  // Each hop has a signal of its own, so that the connection of a redirect does not stay open.
  const own = new AbortController();
  const { signal } = own;
  const abort = (): void => own.abort(controller.signal.reason);
  if (controller.signal.aborted) abort();
  else controller.signal.addEventListener('abort', abort, { once: true });
  const discard = (): void => {
    controller.signal.removeEventListener('abort', abort);
    own.abort();
  };
  const late = failed('ERR_SSE_TIMEOUT', `no response within ${connectTimeout} ms`);
  const timer = startTimer(connectTimeout, () => own.abort(late));
  try {
    const hop = { url, method, headers: namedHeaders(headers), body, signal };
    const response = await beforeAbort(transport(withPosition(hop, request)), signal);
    return { response, url: new URL(response.url ?? url), signal, discard };
  } catch (error) {
    const outcome = failureOf(error, signal);
    discard();
    return { outcome };
  } finally {
    clearTimeout(timer);
  }
}

function namedHeaders(given: RequestHeaders): Record<string, string> {
  // No header that would make a cross-origin request of a browser need a preflight.
  const headers: Record<string, string> = { accept: 'text/event-stream' };
  for (const [name, value] of Object.entries(given)) headers[name.toLowerCase()] = value;
  return headers;
}

function withPosition(hop: TransportRequest, request: ConnectRequest): TransportRequest {
  const { lastEventId, lastEventIdParameter: name } = request;
  if (lastEventId === '') return hop;
  if (name === undefined) {
    return { ...hop, headers: { ...hop.headers, 'last-event-id': asHeader(lastEventId) } };
  }
  const url = new URL(hop.url);
  // `searchParams` spells the whole query anew, which a signed one does not survive.
  if (url.searchParams.has(name)) url.searchParams.set(name, lastEventId);
  else url.search += `${url.search === '' ? '?' : '&'}${new URLSearchParams([[name, lastEventId]])}`;
  return { ...hop, url };
}

/** Settles as the promise does, or rejects once the signal is aborted, also where the promise never settles. */
function beforeAbort<Value>(promise: Promise<Value>, signal: AbortSignal): Promise<Value> {
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(signal.reason);
    const stop = (): void => signal.removeEventListener('abort', abort);
    if (signal.aborted) abort();
    signal.addEventListener('abort', abort, { once: true });
    promise.then(resolve, reject).finally(stop);
  });
}

// One listener for all chunks: one for each would cost more than the chunk.
function chunksBeforeAbort(body: AsyncIterable<Uint8Array>, signal: AbortSignal): IncomingStream['next'] {
  const chunks = body[Symbol.asyncIterator]();
  let abort = (): void => {};
  signal.addEventListener('abort', () => abort(), { once: true });
  return () =>
    new Promise((resolve, reject) => {
      abort = () => reject(signal.reason);
      if (signal.aborted) abort();
      else chunks.next().then(resolve, reject);
    });
}

async function judge(answer: Answer): Promise<{ stream: IncomingStream } | { outcome: Outcome }> {
  const { url, signal } = answer;
  const { status, header, body } = answer.response;
  const isStream = status >= 200 && status <= 299 && status !== 204 && status !== 205;
  const type = header('content-type') ?? 'none';
  if (isStream && /^text\/event-stream\s*(;|$)/i.test(type)) {
    return { stream: { next: chunksBeforeAbort(body, signal), url } };
  }
  const outcome = status === 204 ? 'over' : isStream ? wrongType(status, type) : await refusal(answer);
  answer.discard();
  return { outcome };
}

function wrongType(status: number, type: string): ConnectError {
  const message = `the content type of the response is ${shown(type)}, not text/event-stream`;
  return failed('ERR_SSE_CONTENT_TYPE', message, { status });
}

async function refusal(answer: Answer): Promise<ConnectError> {
  const { status, header } = answer.response;
  const retryDelay = retryDelayOf(header('retry-after'));
  const { error, message } = await reasonOf(answer);
  const why = message === '' ? '' : `: ${shown(message)}`;
  const details = { status, retryDelay, reason: error === '' ? undefined : shown(error) };
  return failed('ERR_SSE_STATUS', `the server answered ${status}${why}`, details);
}

const MAX_REASON_BYTES = 8192;
const REASON_TIMEOUT = 1000;

/** The reason in the body of an error, where that is JSON. */
async function reasonOf(answer: Answer): Promise<Refused> {
  if (!/\bjson\b/i.test(answer.response.header('content-type') ?? '')) return { error: '', message: '' };
  const { error, message } = parsedObject(await readRefusal(answer));
  return {
    error: typeof error === 'string' ? error : '',
    message: typeof message === 'string' ? message : '',
  };
}

/**
 * Reads the body of a refusal, of which the status is what counts: `''` where it is larger than 8 KiB, does not
 * arrive within a second, or breaks off. `discard` is called after that second, and must close the connection.
 */
export async function readRefusal({
  response,
  signal,
  discard,
}: Pick<Answer, 'response' | 'signal' | 'discard'>): Promise<string> {
  const timer = startTimer(REASON_TIMEOUT, discard);
  try {
    return await beforeAbort(readAnswer(response, MAX_REASON_BYTES), signal);
  } catch {
    return '';
  } finally {
    clearTimeout(timer);
  }
}

/** The members of a JSON object; none where the text is anything else. */
export function parsedObject(text: string): Readonly<Record<string, unknown>> {
  try {
    return Object(JSON.parse(text)) as Record<string, unknown>;
  } catch {
    return {};
  }
}

/** A text of the server for a message: one line, without the control characters that a terminal obeys. */
export function shown(text: string): string {
  return text.slice(0, 300).replace(/[\x00-\x1f\x7f-\x9f]+/g, ' ');
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
  if (!location || !URL.canParse(location, url.href)) return undefined;
  return new URL(location, url);
}

// Follows a redirect only to http: and https:, where `fetch` would read `data:` and files too. Follows one to
// an origin that is not listed only if the request has neither headers nor a body of the caller, and no id but
// one that this origin has sent before.
function mayFollow(target: URL, hop: Hop, request: ConnectRequest): boolean {
  const { url, headers, lastEventId, idOrigins, redirectOrigins } = request;
  if (!/^https?:$/.test(target.protocol) || target.username !== '' || target.password !== '') return false;
  if (target.origin === url.origin || redirectOrigins.includes(target.origin)) return true;
  const isSafe = target.protocol === 'https:' || url.protocol === 'http:';
  const isBare = Object.keys(headers).length === 0 && hop.body === undefined;
  return isSafe && isBare && (lastEventId === '' || idOrigins.has(target.origin));
}

// As fetch does it: a 303 becomes a GET, a 301 or 302 turns a POST into one, without what describes a body.
function redirected(hop: Hop, status: number, url: URL): Hop {
  const becomesGet = status === 303 ? hop.method !== 'HEAD' : status < 303 && hop.method === 'POST';
  if (!becomesGet) return { ...hop, url };
  const kept = Object.entries(hop.headers).filter(([name]) => !/^content-|^transfer-encoding$/i.test(name));
  return { url, method: 'GET', headers: Object.fromEntries(kept), body: undefined };
}

function refusedRedirect(status: number, target: URL | undefined): ConnectError {
  const where = target === undefined ? 'without a readable address' : `to ${addressOf(target)}`;
  return failed('ERR_SSE_REDIRECT', `redirected (${status}) ${where}, which is not followed`, { status });
}

function addressOf({ origin, protocol }: URL): string {
  return origin === 'null' ? `a ${protocol} address` : origin;
}

// ── options ───────────────────────────────────────────────────────────────────────────────────────────────

// A header's value may have no control character but the tab.
const UNSENDABLE = /[\x00-\x08\x0a-\x1f\x7f]/;
const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;

/** Whether a stream can be requested by this method, in upper case. */
export function isMethod(method: string): boolean {
  return TOKEN.test(method) && !FORBIDDEN_METHODS.has(method);
}

// `fetch` refuses these, and a tunnel has no response to read.
const FORBIDDEN_METHODS = new Set(['CONNECT', 'TRACE', 'TRACK']);

interface RequestOptions {
  readonly headers?: unknown;
  readonly body?: unknown;
  readonly transport?: unknown;
  readonly redirectOrigins?: unknown;
}

/** @throws {TypeError} naming the option with which every attempt would fail, or a redirect go astray. */
export function checkRequest({ headers, body, transport, redirectOrigins = [] }: RequestOptions): void {
  if (headers !== undefined && typeof headers !== 'function') checkHeaders(headers as RequestHeaders);
  if (body !== undefined && typeof body !== 'string' && !ArrayBuffer.isView(body)) {
    throw new TypeError(`\`body\` must be a string or bytes, got ${kindOf(body)}`);
  }
  if (transport !== undefined && typeof transport !== 'function') {
    throw new TypeError(`\`transport\` must be a function, got ${kindOf(transport)}`);
  }
  // A text has a method `includes` too, which finds parts: an origin that begins like a longer one.
  if (!Array.isArray(redirectOrigins) || !redirectOrigins.every(isOrigin)) {
    const got = JSON.stringify(redirectOrigins);
    throw new TypeError(`\`redirectOrigins\` must list origins such as "https://example.com", got ${got}`);
  }
}

function isOrigin(text: unknown): boolean {
  return typeof text === 'string' && URL.canParse(text) && new URL(text).origin === text;
}

function kindOf(value: unknown): string {
  return value === null ? 'null' : typeof value;
}

/** @throws {TypeError} for headers that no request can carry: every attempt would fail with them. */
export function checkHeaders(headers: RequestHeaders): void {
  // A `Headers` or a `Map` has no entries of its own, so that nothing of it would be sent.
  if (Object(headers) !== headers || Symbol.iterator in headers) {
    throw new TypeError('`headers` must be an object of names and values: write Object.fromEntries(headers)');
  }
  for (const [name, value] of Object.entries(headers)) {
    if (!TOKEN.test(name)) {
      throw new TypeError(`\`headers\` must have valid names, got ${JSON.stringify(name)}`);
    }
    // The value may be a secret, so the message leaves it out.
    if (typeof value !== 'string' || UNSENDABLE.test(value) || /[^\x00-\xff]/.test(value)) {
      throw new TypeError(
        `\`headers\` must have values of one line of Latin-1, but that of \`${name}\` is not`,
      );
    }
  }
}

// "`Last-Event-ID` … encoded as UTF-8": a transport takes one character for each byte.
function asHeader(id: string): string {
  let text = '';
  for (const byte of new TextEncoder().encode(id)) text += String.fromCharCode(byte);
  return text;
}

// ── failures ──────────────────────────────────────────────────────────────────────────────────────────────

export function failed(
  code: ConnectErrorCode,
  message: string,
  details: {
    status?: number;
    retryDelay?: number | undefined;
    reason?: string | undefined;
    cause?: unknown;
  } = {},
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
  'ERR_SSE_REFUSED',
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

/** Whether the request may have been refused for its position, as a header or a query that is not taken. */
export function isOfPosition(outcome: Outcome): boolean {
  return outcome !== 'over' && POSITION_STATUS.has(outcome.status ?? 0);
}

const POSITION_STATUS = new Set([400, 414, 431]);

/** A line or an event that is larger than its limit, with the place before it. */
export function tooLarge(
  error: Error & { readonly code: 'ERR_SSE_LINE_TOO_LONG' | 'ERR_SSE_EVENT_TOO_LARGE' },
  position: string,
): ConnectError {
  const where = position === '' ? '' : `, after the last event ID ${quoted(position)}`;
  return failed(error.code, `${error.message}${where}`, { cause: error });
}

/** A place that no request can carry. */
export function unsendable(what: string, id: unknown): ConnectError {
  const got = typeof id === 'string' ? quoted(id) : `a value of type ${typeof id}`;
  return failed('ERR_SSE_ID', `${what} cannot be a position: it ${idRule}, got ${got}`);
}

/** A place that was sent and not taken. */
export function notTaken(position: string): ConnectError {
  return failed('ERR_SSE_ID', `the server does not take the position ${quoted(position)}`);
}

/** A stream whose only event is `sluice:refused`, with this data. */
export function refused(data: string): ConnectError {
  const { error, message } = readRefused(data);
  const text = `the server refused the stream: ${shown(message === '' ? error : message)}`;
  return failed('ERR_SSE_REFUSED', text, { reason: shown(error) });
}

/** The rule of `isSendableId` in words. */
export const idRule: string = `must have at most ${maxIdBytes} bytes, no control characters and no half surrogate pair`;

// JSON leaves U+007F to U+009F as they are, which some terminals obey.
function quoted(text: string): string {
  const shortened = JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text);
  return shortened.replace(/[\x7f-\x9f]/g, (control) => `\\u00${control.charCodeAt(0).toString(16)}`);
}
