// Requests an event stream: follows the redirects that are safe, and accepts no other kind of response.
// Needs `failure.ts`, `refusal.ts`, `transport.ts` and `waits.ts` beside it. Runs in Node, browsers, workers, Deno
// and Bun.

import { type ConnectError, failed, failureOf, type Outcome } from './failure.ts';
import { type Answer, judge } from './refusal.ts';
import type { RequestHeaders, ResponseHeaders, Transport, TransportRequest } from './transport.ts';
import { beforeAbort, startTimer } from './waits.ts';

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
  readonly status: number;
  readonly headers: ResponseHeaders;
}

/** The next chunk, or why none came: also where the server was silent for so many milliseconds. */
export async function nextChunk(
  stream: IncomingStream,
  silenceTimeout: number,
  controller: AbortController,
): Promise<IteratorResult<Uint8Array, unknown> | ConnectError> {
  const silent = (): ConnectError =>
    failed('ERR_SSE_SILENT', `the server was silent for ${silenceTimeout} ms`);
  const stopTimer = startTimer(silenceTimeout, () => controller.abort(silent()));
  try {
    return await stream.next();
  } catch (error) {
    return failureOf(error, controller.signal);
  } finally {
    stopTimer();
  }
}

const MAX_REDIRECTS = 10;
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
    if (!REDIRECT_STATUS.has(status)) {
      const outcome = await judge(answer);
      return outcome === undefined ? { stream: opened(answer) } : { outcome };
    }
    answer.discard();
    if (redirects === MAX_REDIRECTS) {
      return { outcome: failed('ERR_SSE_REDIRECT', `more than ${MAX_REDIRECTS} redirects`, { status }) };
    }
    const target = locationOf(answer, request.url);
    if (target === undefined || !mayFollow(target, hop, request)) {
      return { outcome: refusedRedirect(status, target) };
    }
    hop = redirected(hop, status, target);
  }
}

type Hop = Pick<TransportRequest, 'url' | 'method' | 'headers' | 'body'>;

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
  const stopTimer = startTimer(connectTimeout, () => own.abort(late));
  try {
    const hop = { url, method, headers: namedHeaders(headers), body, signal };
    const response = await beforeAbort(transport(withPosition(hop, request)), signal);
    return { response, url: new URL(response.url ?? url), signal, discard };
  } catch (error) {
    const outcome = failureOf(error, signal);
    discard();
    return { outcome };
  } finally {
    stopTimer();
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

function opened({ response, url, signal }: Answer): IncomingStream {
  const { status, headers, body } = response;
  return { next: chunksBeforeAbort(body, signal), url, status, headers };
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

// ── redirects ─────────────────────────────────────────────────────────────────────────────────────────────

// The password in the address of the request is taken along within its origin, as a header of the caller is. A
// relative location inherits it, an absolute one does not.
function locationOf({ response, url }: Answer, first: URL): URL | undefined {
  const { location } = response.headers;
  if (!location || !URL.canParse(location, url.href)) return undefined;
  const target = new URL(location, url);
  if (target.origin === first.origin && !hasPassword(target)) {
    target.username = first.username;
    target.password = first.password;
  }
  return target;
}

function hasPassword({ username, password }: URL): boolean {
  return username !== '' || password !== '';
}

// Follows a redirect only to http: and https:, where `fetch` would read `data:` and files too. Follows one to
// an origin that is not listed only if the request has neither headers nor a body of the caller, and no id but
// one that this origin has sent before.
function mayFollow(target: URL, hop: Hop, request: ConnectRequest): boolean {
  const { url, headers, lastEventId, idOrigins, redirectOrigins } = request;
  if (!/^https?:$/.test(target.protocol)) return false;
  const isSameUser = target.username === url.username && target.password === url.password;
  if (target.origin === url.origin) return isSameUser;
  if (hasPassword(target)) return false;
  if (redirectOrigins.includes(target.origin)) return true;
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

// "`Last-Event-ID` … encoded as UTF-8": a transport takes one character for each byte.
function asHeader(id: string): string {
  let text = '';
  for (const byte of new TextEncoder().encode(id)) text += String.fromCharCode(byte);
  return text;
}
