// Sends one request and returns the response as it arrives: over node:http(s), node:http2 or fetch.
// Stands alone: copy this file by itself. Runs in Node, browsers, workers, Deno and Bun.
//
// The default on Node is node:http(s), because fetch there aborts a response after five minutes of silence.

import type { Readable, Transform } from 'node:stream';

/** The headers of a request, by name. */
export type RequestHeaders = Readonly<Record<string, string>>;

/** The headers of a response, by lower-case name. The values of one that came several times are joined by `, `. */
export type ResponseHeaders = Readonly<Record<string, string | undefined>>;

// The types of the host: those of the DOM, of a worker or of @types/node. A program that has none of these can
// still use the declarations of this module.
type Global<Name extends string, Otherwise> =
  typeof globalThis extends Record<Name, { prototype: infer Type }> ? Type : Otherwise;

/** The `URL` of the host. */
export type HostURL = Global<'URL', { readonly href: string }>;

/** The `AbortSignal` of the host. */
export type HostSignal = Global<'AbortSignal', { readonly aborted: boolean; readonly reason: unknown }>;

/** The `fetch` of the host. */
export type HostFetch = typeof globalThis extends { fetch: infer Type } ? Type : never;

export interface TransportRequest {
  readonly url: HostURL;
  readonly method: string;
  readonly headers: RequestHeaders;
  readonly body: string | Uint8Array | undefined;
  /** Aborts the request, and the response where it has begun. */
  readonly signal: HostSignal;
}

export interface TransportResponse {
  readonly status: number;
  /** The URL of the response, from a transport that follows redirects itself. */
  readonly url?: string | undefined;
  readonly headers: ResponseHeaders;
  /** The version of HTTP in the head of the response, such as `1.1`, where the transport knows it. */
  readonly httpVersion?: string | undefined;
  /** The decompressed bytes. Leaving the loop over them closes the connection. */
  readonly body: AsyncIterable<Uint8Array>;
}

/**
 * Sends one request. Returns redirects instead of following them, and rejects where there is no response. A
 * caller that does not read the body must abort the request's signal.
 */
export type Transport = (request: TransportRequest) => Promise<TransportResponse>;

/**
 * A failure that the next attempt would meet again. Others have the code of the system (`ECONNRESET`) or
 * none, and may pass.
 */
export interface TransportError extends Error {
  /**
   * - `ERR_SSE_UNSENDABLE`: the request cannot be sent as it is; `cause` is the reason.
   * - `ERR_SSE_HEAD_TOO_LARGE`: the head of the response is larger than Node accepts (16 KiB), or more than
   *   32 informational responses (1xx) came before it.
   * - `ERR_SSE_CONTENT_ENCODING`: the body is in a coding that cannot be decoded, or not in the one that
   *   `Content-Encoding` names.
   * - `ERR_SSE_DECOMPRESSION_LIMIT`: more than 16 MiB were decompressed, and more than 200 times of what
   *   arrived.
   * - `ERR_SSE_ANSWER_TOO_LARGE`: `readAnswer` met a body that is larger than its limit.
   */
  readonly code:
    | 'ERR_SSE_UNSENDABLE'
    | 'ERR_SSE_HEAD_TOO_LARGE'
    | 'ERR_SSE_CONTENT_ENCODING'
    | 'ERR_SSE_DECOMPRESSION_LIMIT'
    | 'ERR_SSE_ANSWER_TOO_LARGE';
}

/** An `Agent` of `node:http` or `node:https`, or of a package such as `proxy-agent`. */
export interface NodeAgent {
  readonly maxSockets: number;
  destroy(): void;
}

export interface NodeTransportOptions {
  /**
   * As for `http.request`. Default: a new connection for each request, through the proxy that `HTTP_PROXY`,
   * `HTTPS_PROXY` and `NO_PROXY` name where Node can (22.21, 24.5 and later).
   */
  readonly agent?: NodeAgent | undefined;
}

export interface FetchTransportOptions {
  /** Default: the global `fetch`. */
  readonly fetch?: HostFetch | undefined;
  /** Whether to send cookies to other origins. Default false. */
  readonly withCredentials?: boolean | undefined;
  /**
   * Whether fetch follows redirects by itself, with all headers, also to other origins. Default false. A
   * browser hides where a redirect leads, so there is no other way to follow one there; `defaultTransport`
   * ignores the option everywhere else.
   */
  readonly followRedirects?: boolean | undefined;
}

/** `node:http(s)` on Node, `fetch` everywhere else. */
export function defaultTransport(options: FetchTransportOptions = {}): Transport {
  const isNode = typeof process === 'object' && process.versions?.node !== undefined;
  const isOther = 'Deno' in globalThis || 'Bun' in globalThis;
  if (isNode && !isOther && options.fetch === undefined) return nodeTransport();
  // Outside browsers the target of a redirect is visible, so the client decides whether to send an id there.
  return fetchTransport(isNode || isOther ? { ...options, followRedirects: false } : options);
}

/** Sends requests by `node:http` and `node:https`. */
export function nodeTransport({ agent }: NodeTransportOptions = {}): Transport {
  return ({ url, method, headers, body, signal }) =>
    new Promise((resolve, reject) => {
      signal.throwIfAborted();
      const http = url.protocol === 'https:' ? builtin('node:https') : builtin('node:http');
      const outgoing = opened(() =>
        http.request(url, {
          method,
          headers: withUserAgent(headers),
          agent: (agent as Agent | undefined) ?? agentFor(http),
        }),
      );
      const abort = (): void => {
        outgoing.destroy(asError(signal.reason));
      };
      const stop = (): void => void outgoing.destroy();
      const refuse = (error: Error): void => {
        reject(error);
        stop();
      };
      const answer = (incoming: IncomingMessage): void => {
        const { statusCode: status = 0, httpVersion } = incoming;
        const head = { status, headers: headersOf(incoming.headers), httpVersion };
        settle(resolve, reject, head, incoming, stop);
      };
      signal.addEventListener('abort', abort, { once: true });
      outgoing.once('close', () => {
        signal.removeEventListener('abort', abort);
        reject(new Error(NO_HEAD));
      });
      outgoing.once('socket', (socket) => socket.setKeepAlive(true, 30_000));
      outgoing.on('error', (error) => reject(withCode(error)));
      outgoing.on('information', informationCounter(refuse));
      // Without a listener, Node closes the connection and emits no error.
      outgoing.once('upgrade', (incoming, socket) => {
        socket.destroy();
        answer(incoming);
      });
      outgoing.once('response', answer);
      outgoing.end(body);
    });
}

/** Sends requests over HTTP/2, each in a new session; those to `http:` URLs in clear text. */
export function http2Transport(): Transport {
  return ({ url, method, headers, body, signal }) =>
    new Promise((resolve, reject) => {
      signal.throwIfAborted();
      const session = builtin('node:http2').connect(url.origin, { settings: { enablePush: false } });
      const stop = (): void => session.destroy();
      const abort = (): void => {
        stream.destroy(asError(signal.reason));
        stop();
      };
      session.on('error', reject);
      session.once('close', () => {
        signal.removeEventListener('abort', abort);
        reject(new Error(NO_HEAD));
      });
      const stream = opened(
        () =>
          session.request(
            {
              ...withPassword(url, withUserAgent(headers)),
              ':method': method,
              ':path': url.pathname + url.search,
            },
            { endStream: body === undefined },
          ),
        stop,
      );
      signal.addEventListener('abort', abort, { once: true });
      stream.on('error', reject);
      // A stream that is reset with NO_ERROR or CANCEL emits no error.
      stream.once('close', () => reject(new Error(NO_HEAD)));
      stream.on(
        'headers',
        informationCounter((error) => stream.destroy(error)),
      );
      stream.once('response', (answer) => {
        const ended = (): void => {
          if (stream.rstCode !== 0) throw new Error(`the stream was reset with code ${stream.rstCode}`);
        };
        const head = { status: Number(answer[':status']), headers: headersOf(answer), httpVersion: '2.0' };
        settle(resolve, reject, head, stream, stop, ended);
      });
      if (body !== undefined) stream.end(body);
    });
}

/** Sends requests by `fetch`. */
export function fetchTransport(options: FetchTransportOptions = {}): Transport {
  const { withCredentials = false, followRedirects = false } = options;
  return async ({ url, method, headers, body, signal }) => {
    const init = { method, headers, body: (body ?? null) as string | null };
    // Throws for what cannot be sent, which a rejection of fetch does not tell from a lost connection.
    opened(() => new Request(url, init));
    const response = await (options.fetch ?? fetch)(url, {
      ...init,
      signal,
      cache: 'no-store',
      credentials: withCredentials ? 'include' : 'same-origin',
      redirect: followRedirects ? 'follow' : 'manual',
    });
    // A browser reveals that there was a redirect, but not its status or address.
    const status = response.type === 'opaqueredirect' ? 302 : response.status;
    return {
      status,
      url: response.url || undefined,
      headers: headersOf(Object.fromEntries(response.headers)),
      body: response.body === null ? nothing() : chunksOf(response.body),
    };
  };
}

/**
 * Reads the whole body of a response as text, and holds at most `maxBytes` and as much again.
 *
 * @throws {TransportError} `ERR_SSE_ANSWER_TOO_LARGE`; the connection is closed then.
 */
export async function readAnswer(
  { body }: Pick<TransportResponse, 'body'>,
  maxBytes: number,
): Promise<string> {
  // Not a list of chunks: a chunk of one byte takes a hundred.
  let held = new Uint8Array(Math.min(maxBytes, 1024));
  let length = 0;
  for await (const chunk of body) {
    if (length + chunk.length > maxBytes) {
      throw coded('ERR_SSE_ANSWER_TOO_LARGE', `the body of the response is larger than ${maxBytes} bytes`);
    }
    if (length + chunk.length > held.length) {
      const larger = new Uint8Array(Math.min(maxBytes, 2 * (length + chunk.length)));
      larger.set(held.subarray(0, length));
      held = larger;
    }
    held.set(chunk, length);
    length += chunk.length;
  }
  return new TextDecoder().decode(held.subarray(0, length));
}

// ── requests ──────────────────────────────────────────────────────────────────────────────────────────────

type Agent = import('node:http').Agent;
type IncomingMessage = import('node:http').IncomingMessage;

interface Builtins {
  'node:http': typeof import('node:http');
  'node:https': typeof import('node:https');
  'node:http2': typeof import('node:http2');
  'node:stream': typeof import('node:stream');
  'node:zlib': typeof import('node:zlib');
}

// Not an import, which browsers and bundlers would try to resolve.
function builtin<Name extends keyof Builtins>(name: Name): Builtins[Name] {
  return process.getBuiltinModule(name) as Builtins[Name];
}

const USER_AGENT = 'sluice/0.1.0';
const NO_HEAD = 'the connection was closed before the head of a response';
const PROXY_VARIABLES = ['HTTP_PROXY', 'http_proxy', 'HTTPS_PROXY', 'https_proxy'];
const MAX_INFORMATION = 32;

function withUserAgent(headers: RequestHeaders): RequestHeaders {
  const isNamed = Object.keys(headers).some((name) => name.toLowerCase() === 'user-agent');
  return isNamed ? headers : { 'user-agent': USER_AGENT, ...headers };
}

// As `http.request` does it, where `http2` ignores a password in the address.
function withPassword({ username, password }: URL, headers: RequestHeaders): RequestHeaders {
  const isGiven = Object.keys(headers).some((name) => name.toLowerCase() === 'authorization');
  if (isGiven || (username === '' && password === '')) return headers;
  const pair = Buffer.from(`${decodeURIComponent(username)}:${decodeURIComponent(password)}`);
  return { ...headers, authorization: `Basic ${pair.toString('base64')}` };
}

// `false` is an agent of its own for the request. A Node that cannot use proxies ignores `proxyEnv`.
function agentFor({ Agent }: Builtins['node:http' | 'node:https']): Agent | false {
  const { env } = process;
  if (!PROXY_VARIABLES.some((name) => env[name])) return false;
  return new Agent({ proxyEnv: env } as object);
}

// What throws here, such as a header that HTTP/2 does not have, throws in the next attempt as well.
function opened<Made>(open: () => Made, stop = (): void => {}): Made {
  try {
    return open();
  } catch (cause) {
    stop();
    throw coded('ERR_SSE_UNSENDABLE', `the request cannot be sent: ${(cause as Error).message}`, cause);
  }
}

function informationCounter(stop: (error: Error) => void): () => void {
  let count = 0;
  return () => {
    const message = `more than ${MAX_INFORMATION} informational responses came before the response`;
    if (++count > MAX_INFORMATION) stop(coded('ERR_SSE_HEAD_TOO_LARGE', message));
  };
}

function withCode(error: Error & { code?: string }): Error {
  if (error.code !== 'HPE_HEADER_OVERFLOW') return error;
  return coded('ERR_SSE_HEAD_TOO_LARGE', 'the head of the response is larger than Node accepts', error);
}

function coded(code: TransportError['code'], message: string, cause?: unknown): TransportError {
  return Object.assign(new Error(message, cause === undefined ? undefined : { cause }), { code });
}

// Without a prototype, so that no name is found that was not sent.
function headersOf(given: Readonly<Record<string, string | string[] | undefined>>): ResponseHeaders {
  const headers: Record<string, string | undefined> = Object.create(null);
  for (const [name, value] of Object.entries(given)) {
    if (!name.startsWith(':')) headers[name] = Array.isArray(value) ? value.join(', ') : value;
  }
  return headers;
}

function asError(reason: unknown): Error {
  return reason instanceof Error ? reason : new Error('aborted', { cause: reason });
}

// ── responses ─────────────────────────────────────────────────────────────────────────────────────────────

function settle(
  resolve: (response: TransportResponse) => void,
  reject: (error: unknown) => void,
  head: Omit<TransportResponse, 'body'>,
  incoming: Readable,
  stop: () => void,
  ended?: () => void,
): void {
  // Without a listener, a connection that breaks before the body is read would be an uncaught error.
  incoming.on('error', () => {});
  const codings = codingsOf(head.headers['content-encoding'] ?? '');
  const fault = faultOf(codings);
  if (fault === undefined) {
    resolve({ ...head, body: decoded(incoming, codings, stop, ended) });
  } else if (head.status >= 200 && head.status < 300) {
    reject(coded('ERR_SSE_CONTENT_ENCODING', fault));
    stop();
  } else {
    // The status says more than a body that cannot be read.
    resolve({ ...head, body: nothing(stop) });
  }
}

async function* decoded(
  incoming: Readable,
  codings: readonly string[],
  stop: () => void,
  ended?: () => void,
): AsyncGenerator<Uint8Array, void, undefined> {
  try {
    yield* codings.length === 0 ? incoming : decompressed(incoming, codings);
    ended?.();
  } finally {
    stop();
  }
}

async function* nothing(stop = (): void => {}): AsyncGenerator<Uint8Array, void, undefined> {
  stop();
}

async function* chunksOf(body: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array, void, undefined> {
  const reader = body.getReader();
  try {
    for (let next = await reader.read(); !next.done; next = await reader.read()) yield next.value;
  } finally {
    await reader.cancel().catch(() => {});
  }
}

// ── content codings ───────────────────────────────────────────────────────────────────────────────────────

// The codings of IANA's registry. What is none of them is no coding: servers write `none` and `utf-8` here.
const DECODABLE = new Set(['gzip', 'x-gzip', 'deflate', 'br']);
const UNDECODABLE = new Set([
  'aes128gcm',
  'compress',
  'dcb',
  'dcz',
  'exi',
  'pack200-gzip',
  'x-compress',
  'zstd',
]);
const MAX_CODINGS = 3;
// What zlib says of a head that is not one of gzip or deflate. Brotli has no head.
const OTHER_FORMAT = /^(incorrect header check|unknown compression method|invalid window size)$/;
const FREE_BYTES = 16 * 1024 * 1024;
const MAX_EXPANSION = 200;

/** The codings in the order in which they were applied. */
function codingsOf(header: string): string[] {
  const names = header.split(',').map((name) => name.trim().toLowerCase());
  return names.filter((name) => DECODABLE.has(name) || UNDECODABLE.has(name));
}

function faultOf(codings: readonly string[]): string | undefined {
  const unknown = codings.find((name) => UNDECODABLE.has(name));
  if (unknown !== undefined) return `cannot decode a response with content-encoding ${unknown}`;
  const isBounded = codings.length <= MAX_CODINGS;
  return isBounded ? undefined : `cannot decode a response in more than ${MAX_CODINGS} content codings`;
}

async function* decompressed(
  incoming: Readable,
  codings: readonly string[],
): AsyncGenerator<Uint8Array, void, undefined> {
  const { pipeline } = builtin('node:stream');
  let received = 0;
  let delivered = 0;
  let broken: Error | undefined;
  const arriving = meter((total) => {
    received = total;
  });
  const stages: Transform[] = [arriving];
  for (const coding of [...codings].reverse()) {
    const unzip = unzipperFor(coding);
    unzip.once('error', (error: Error & { code?: string; errno?: unknown }) => {
      const isOfBrotli = typeof error.errno === 'number' && /^ERR_/.test(error.code ?? '');
      if (isOfBrotli || OTHER_FORMAT.test(error.message)) broken ??= error;
    });
    // What one coding yields is bounded too where another one takes it, and yields nothing.
    stages.push(unzip, meter(check));
  }
  function check(total: number): void {
    if (total <= FREE_BYTES || total <= MAX_EXPANSION * received) return;
    const message = `${received} bytes were decompressed to more than ${FREE_BYTES}`;
    throw coded('ERR_SSE_DECOMPRESSION_LIMIT', message);
  }
  const last = stages[stages.length - 1]!;
  pipeline([incoming, ...stages], () => {});
  try {
    for await (const chunk of last) {
      delivered += (chunk as Uint8Array).length;
      yield chunk as Uint8Array;
    }
  } catch (error) {
    if (broken === undefined || delivered > 0) throw error;
    const message = `the response is not in its content-encoding ${codings.join(', ')}: ${broken.message}`;
    throw coded('ERR_SSE_CONTENT_ENCODING', message, broken);
  }
}

/** Passes on what it gets, and calls `check` before with the bytes so far. */
function meter(check: (total: number) => void): Transform {
  const { Transform } = builtin('node:stream');
  let total = 0;
  return new Transform({
    transform(chunk: Uint8Array, _, done) {
      total += chunk.length;
      try {
        check(total);
        done(null, chunk);
      } catch (error) {
        done(error as Error);
      }
    },
  });
}

function unzipperFor(coding: string): Transform {
  const { createUnzip, createBrotliDecompress, constants } = builtin('node:zlib');
  // The flags output bytes as they arrive, and let a cut connection fail with its own error, not one of zlib.
  return coding === 'br'
    ? createBrotliDecompress({ finishFlush: constants.BROTLI_OPERATION_FLUSH })
    : createUnzip({ finishFlush: constants.Z_SYNC_FLUSH });
}
