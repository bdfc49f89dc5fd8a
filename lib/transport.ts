// Sends one request and hands back its answer as it streams: over node:http(s), node:http2 or fetch.
// Stands alone: copy this file by itself. Runs in Node, browsers, workers, Deno and Bun.
//
// On Node, not through fetch: its fetch gives up on a response after five minutes of silence.

import type { Readable, Transform } from 'node:stream';

export interface TransportRequest {
  readonly url: URL;
  readonly method: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | Uint8Array | undefined;
  /** Ends the request, and the body if that is being read already. */
  readonly signal: AbortSignal;
}

export interface TransportResponse {
  readonly status: number;
  /** Where the answer came from, if redirects were followed on the way. */
  readonly url?: string | undefined;
  /** The value of a header by its lower-case name. */
  readonly header: (name: string) => string | undefined;
  /** Its bytes with any content encoding undone. Leaving its loop lets go of the connection. */
  readonly body: AsyncIterable<Uint8Array>;
}

/**
 * One request, one answer. Redirects are handed back, not followed; failing to get an answer rejects.
 * An answer whose body nobody will read must be ended through the request's signal.
 */
export type Transport = (request: TransportRequest) => Promise<TransportResponse>;

export interface FetchTransportOptions {
  /** Default the global one. */
  readonly fetch?: typeof fetch | undefined;
  /** Send cookies across origins. Default false. */
  readonly withCredentials?: boolean | undefined;
  /**
   * Let fetch follow redirects by itself, with all headers, across origins too. Default false.
   * A browser hides where a redirect leads to, so there it is this or none; `defaultTransport` heeds it there only.
   */
  readonly followRedirects?: boolean | undefined;
}

/** What fits the place: `node:http(s)` on Node, `fetch` everywhere else. */
export function defaultTransport(options: FetchTransportOptions = {}): Transport {
  const isNode = typeof process === 'object' && process.versions?.node !== undefined;
  const isOther = 'Deno' in globalThis || 'Bun' in globalThis;
  if (isNode && !isOther && options.fetch === undefined) return nodeTransport();
  // Whoever can see where a redirect leads to judges it, before an id goes there.
  return fetchTransport(isNode || isOther ? { ...options, followRedirects: false } : options);
}

/** @param agent - As for `http.request`; by default each stream has a connection of its own. */
export function nodeTransport(agent?: import('node:http').Agent): Transport {
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

/** A session of its own for each stream; `http:` URLs speak HTTP/2 in clear text. */
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
    // A browser tells that there was a redirect, and nothing else of it.
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

// Not an import: a browser or a bundler that reads this file must not look for these.
function builtin<Name extends keyof Builtins>(name: Name): Builtins[Name] {
  return process.getBuiltinModule(name) as Builtins[Name];
}

// Headers that HTTP/2 has no place for are refused by an exception: no session may be left behind by it.
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
  // Listened to always: a connection that breaks before the loop begins must not be an uncaught error.
  incoming.on('error', () => {});
  if (encoding === 'identity') return incoming;
  const unzip = unzipperFor(encoding);
  incoming.on('error', (error) => unzip.destroy(error));
  return incoming.pipe(unzip);
}

function unzipperFor(encoding: string): Transform {
  const { createUnzip, createBrotliDecompress, constants } = builtin('node:zlib');
  // What has arrived is handed on at once, and a cut is told by the connection, not by the last block.
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
