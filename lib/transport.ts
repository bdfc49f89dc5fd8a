// Sends one request and returns the response as it arrives: over node:http(s), node:http2 or fetch.
// Stands alone: copy this file by itself. Runs in Node, browsers, workers, Deno and Bun.
//
// The default on Node is node:http(s), because fetch there aborts a response after five minutes of silence.

import type { Readable, Transform } from 'node:stream';

export interface TransportRequest {
  readonly url: URL;
  readonly method: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | Uint8Array | undefined;
  /** Aborts the request, and the response where it has begun. */
  readonly signal: AbortSignal;
}

export interface TransportResponse {
  readonly status: number;
  /** The URL of the response, from a transport that follows redirects itself. */
  readonly url?: string | undefined;
  /** The value of a header by its lower-case name. */
  readonly header: (name: string) => string | undefined;
  /** The decompressed bytes. Leaving the loop over them closes the connection. */
  readonly body: AsyncIterable<Uint8Array>;
}

/**
 * Sends one request. Returns redirects instead of following them, and rejects where there is no response. A
 * caller that does not read the body must abort the request's signal.
 */
export type Transport = (request: TransportRequest) => Promise<TransportResponse>;

export interface NodeTransportOptions {
  /** As for `http.request`. Default: a new connection for each request. */
  readonly agent?: import('node:http').Agent | undefined;
}

export interface FetchTransportOptions {
  /** Default: the global `fetch`. */
  readonly fetch?: typeof fetch | undefined;
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
      const { request } = url.protocol === 'https:' ? builtin('node:https') : builtin('node:http');
      const outgoing = request(url, { method, headers, agent: agent ?? false });
      const abort = (): void => {
        outgoing.destroy(asError(signal.reason));
      };
      signal.addEventListener('abort', abort, { once: true });
      outgoing.once('close', () => signal.removeEventListener('abort', abort));
      outgoing.once('socket', (socket) => socket.setKeepAlive(true, 30_000));
      outgoing.on('error', reject);
      outgoing.once('response', (incoming) => {
        const header = (name: string): string | undefined => headerOf(incoming.headers[name]);
        const stop = (): void => void outgoing.destroy();
        resolve({ status: incoming.statusCode ?? 0, header, body: decoded(incoming, header, stop) });
      });
      outgoing.end(body);
    });
}

/** Sends requests over HTTP/2, each in a new session; those to `http:` URLs in clear text. */
export function http2Transport(): Transport {
  return ({ url, method, headers, body, signal }) =>
    new Promise((resolve, reject) => {
      signal.throwIfAborted();
      const session = builtin('node:http2').connect(url.origin);
      const stop = (): void => session.destroy();
      const abort = (): void => {
        stream.destroy(asError(signal.reason));
        stop();
      };
      session.on('error', reject);
      session.once('close', () => signal.removeEventListener('abort', abort));
      const stream = opened(session, () =>
        session.request(
          { ...headers, ':method': method, ':path': url.pathname + url.search },
          { endStream: body === undefined },
        ),
      );
      signal.addEventListener('abort', abort, { once: true });
      stream.on('error', reject);
      stream.once('response', (answer) => {
        const header = (name: string): string | undefined => headerOf(answer[name]);
        resolve({ status: Number(answer[':status']), header, body: decoded(stream, header, stop) });
      });
      if (body !== undefined) stream.end(body);
    });
}

/** Sends requests by `fetch`. */
export function fetchTransport(options: FetchTransportOptions = {}): Transport {
  const { withCredentials = false, followRedirects = false } = options;
  return async ({ url, method, headers, body, signal }) => {
    const response = await (options.fetch ?? fetch)(url, {
      method,
      headers,
      signal,
      body: (body ?? null) as string | null,
      cache: 'no-store',
      credentials: withCredentials ? 'include' : 'same-origin',
      redirect: followRedirects ? 'follow' : 'manual',
    });
    // A browser reveals that there was a redirect, but not its status or address.
    const status = response.type === 'opaqueredirect' ? 302 : response.status;
    return {
      status,
      url: response.url || undefined,
      header: (name) => response.headers.get(name) ?? undefined,
      body: response.body === null ? nothing() : chunksOf(response.body),
    };
  };
}

interface Builtins {
  'node:http': typeof import('node:http');
  'node:https': typeof import('node:https');
  'node:http2': typeof import('node:http2');
  'node:zlib': typeof import('node:zlib');
}

// Not an import, which browsers and bundlers would try to resolve.
function builtin<Name extends keyof Builtins>(name: Name): Builtins[Name] {
  return process.getBuiltinModule(name) as Builtins[Name];
}

// Node throws for headers that HTTP/2 does not have, such as `connection`: then the session must be closed.
function opened<Stream>(session: { destroy(): void }, open: () => Stream): Stream {
  try {
    return open();
  } catch (error) {
    session.destroy();
    throw error;
  }
}

type Incoming = Pick<Readable, 'pipe' | 'on'> & AsyncIterable<Uint8Array>;

async function* decoded(
  incoming: Incoming,
  header: (name: string) => string | undefined,
  stop: () => void,
): AsyncGenerator<Uint8Array, void, undefined> {
  try {
    yield* unpacked(incoming, header('content-encoding') ?? 'identity');
  } finally {
    stop();
  }
}

function unpacked(incoming: Incoming, encoding: string): AsyncIterable<Uint8Array> {
  // Without a listener, a connection that breaks before the loop begins would be an uncaught error.
  incoming.on('error', () => {});
  if (encoding === 'identity') return incoming;
  const unzip = unzipperFor(encoding);
  incoming.on('error', (error) => unzip.destroy(error));
  return incoming.pipe(unzip);
}

function unzipperFor(encoding: string): Transform {
  const { createUnzip, createBrotliDecompress, constants } = builtin('node:zlib');
  // The flags output bytes as they arrive, and let a cut connection fail with its own error, not one of zlib.
  if (/^(x-)?gzip$|^deflate$/.test(encoding)) return createUnzip({ finishFlush: constants.Z_SYNC_FLUSH });
  if (encoding === 'br') return createBrotliDecompress({ finishFlush: constants.BROTLI_OPERATION_FLUSH });
  throw new Error(`cannot read a response with content-encoding ${encoding}`);
}

async function* chunksOf(body: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array, void, undefined> {
  const reader = body.getReader();
  try {
    for (let next = await reader.read(); !next.done; next = await reader.read()) yield next.value;
  } finally {
    await reader.cancel().catch(() => {});
  }
}

async function* nothing(): AsyncGenerator<Uint8Array, void, undefined> {}

function headerOf(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value[0] : value;
}

function asError(reason: unknown): Error {
  return reason instanceof Error ? reason : new Error('aborted', { cause: reason });
}
