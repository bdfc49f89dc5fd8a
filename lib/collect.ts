// Collects the first events of a stream, for a test, or says what came instead.
// Needs `decode.ts`, `protocol.ts` and `transport.ts` beside it.

import { clearTimeout, setTimeout } from 'node:timers';
import { createDecoder, type DecodedEvent } from './decode.ts';
import { controlEvents, isControlEvent } from './protocol.ts';
import { nodeTransport } from './transport.ts';

export type { DecodedEvent } from './decode.ts';

export interface CollectOptions {
  /** Milliseconds within which the events must come, by the real clock; default 5,000. `Infinity`: no limit. */
  readonly timeout?: number | undefined;
  /** Whether control events count as well. Default: `sluice:gap` alone, as a loop over `connect` has it. */
  readonly controlEvents?: boolean | undefined;
  /** Headers of the request, where the source is a URL. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
}

/** The members of a `Response` that are used. */
export interface CollectResponse {
  readonly status: number;
  readonly headers: { get(name: string): string | null };
  readonly body: ReadableStream<Uint8Array> | null;
}

/** A response of `node:http`, a socket, a file: whatever yields the bytes of an event stream. */
export type CollectBytes = AsyncIterable<Uint8Array | string>;

/** Why there are no events, or fewer than were asked for. */
export interface CollectError extends Error {
  /**
   * - `ERR_SSE_TIMEOUT`: they did not come in time.
   * - `ERR_SSE_EOF`: the stream ended or broke before; in the second case `cause` is the failure.
   * - `ERR_SSE_STATUS`, `ERR_SSE_CONTENT_TYPE`: the response is not an event stream.
   * - `ERR_SSE_CONTENT_ENCODING`: it is a response of `node:http` that is compressed.
   */
  readonly code:
    | 'ERR_SSE_TIMEOUT'
    | 'ERR_SSE_EOF'
    | 'ERR_SSE_STATUS'
    | 'ERR_SSE_CONTENT_TYPE'
    | 'ERR_SSE_CONTENT_ENCODING';
  /** All that came, control events included. */
  readonly events: readonly CollectedEvent[];
}

/** The members of any event that the message names. */
export interface CollectedEvent {
  readonly event?: string | undefined;
  readonly id?: string | undefined;
  readonly data?: unknown;
}

// In a message: the newest are the ones to look at.
const MOST_NAMED = 10;
const MOST_CHARACTERS = 80;

/**
 * Resolves with the first `count` events of a stream, and closes it. A source of events, such as `connect`,
 * gives them as it has them; the bytes of a stream are decoded.
 *
 * @throws {CollectError} saying what came, where that is not enough.
 * @throws {RangeError | TypeError} naming the option that is out of range, or where the source is none.
 */
export function collect(
  source: string | URL | CollectResponse | CollectBytes,
  count: number,
  options?: CollectOptions,
): Promise<DecodedEvent[]>;
export function collect<Event extends CollectedEvent>(
  source: AsyncIterable<Event>,
  count: number,
  options?: CollectOptions,
): Promise<Event[]>;
export async function collect(
  source: string | URL | CollectResponse | AsyncIterable<unknown>,
  count: number,
  options: CollectOptions = {},
): Promise<CollectedEvent[]> {
  const { timeout = 5000 } = options;
  if (!Number.isInteger(count) || count < 1)
    throw new RangeError(`\`count\` must be a whole number ≥ 1, got ${count}`);
  if (!(timeout > 0)) throw new RangeError(`\`timeout\` must be a number above 0, got ${timeout}`);
  const collection = new Collection(count, options);
  const late = new Promise<never>((_, reject) => {
    if (timeout > MAX_TIMEOUT) return;
    collection.timer = setTimeout(() => {
      reject(collection.failed('ERR_SSE_TIMEOUT', `within ${timeout} ms`));
    }, timeout);
  });
  try {
    return await Promise.race([collection.from(source), late]);
  } finally {
    clearTimeout(collection.timer);
    collection.close();
  }
}

const MAX_TIMEOUT = 2 ** 31 - 1;

/** One call of `collect`. */
class Collection {
  timer: NodeJS.Timeout | undefined;
  readonly #count: number;
  readonly #options: CollectOptions;
  readonly #all: CollectedEvent[] = [];
  readonly #collected: CollectedEvent[] = [];
  readonly #closers: (() => unknown)[] = [];
  readonly #decoder = createDecoder({ onEvent: (event) => this.#take(event) });

  constructor(count: number, options: CollectOptions) {
    this.#count = count;
    this.#options = options;
  }

  async from(source: string | URL | CollectResponse | AsyncIterable<unknown>): Promise<CollectedEvent[]> {
    const chunks =
      typeof source === 'string' || source instanceof URL
        ? await this.#request(new URL(source))
        : 'status' in Object(source)
          ? this.#bodyOf(source as CollectResponse)
          : this.#checked(source as AsyncIterable<unknown>);
    try {
      for await (const chunk of chunks) {
        if (typeof chunk === 'string' || chunk instanceof Uint8Array) this.#decoder.feed(chunk);
        else this.#take(chunk as CollectedEvent);
        if (this.#collected.length >= this.#count) return this.#collected.slice(0, this.#count);
      }
    } catch (cause) {
      // The decoder may have thrown after the last event that was asked for, in the same chunk.
      if (this.#collected.length >= this.#count) return this.#collected.slice(0, this.#count);
      throw this.failed('ERR_SSE_EOF', 'before the stream broke', cause);
    }
    throw this.failed('ERR_SSE_EOF', 'before the stream ended');
  }

  close(): void {
    for (const close of this.#closers.splice(0)) close();
  }

  failed(code: CollectError['code'], when: string, cause?: unknown): CollectError {
    const { length } = this.#collected;
    const reason = cause === undefined ? '' : ` (${messageOf(cause)})`;
    const text = `${length} of ${this.#count} events came ${when}${reason}: ${listed(this.#all)}`;
    return this.#error(code, text, cause);
  }

  #error(code: CollectError['code'], text: string, cause?: unknown): CollectError {
    const error = new Error(text, cause === undefined ? {} : { cause });
    return Object.assign(error, { code, events: [...this.#all] });
  }

  #take(event: CollectedEvent): void {
    this.#all.push(event);
    const isControl = event.event !== undefined && isControlEvent(event.event);
    const counts = !isControl || event.event === controlEvents.gap || this.#options.controlEvents === true;
    if (counts) this.#collected.push(event);
  }

  async #request(url: URL): Promise<AsyncIterable<unknown>> {
    const controller = new AbortController();
    this.#closers.push(() => controller.abort());
    const headers = { accept: 'text/event-stream', ...this.#options.headers };
    const request = { url, method: 'GET', headers, body: undefined, signal: controller.signal };
    const {
      status,
      headers: received,
      body,
    } = await nodeTransport()(request).catch((cause: unknown) => {
      throw this.failed('ERR_SSE_EOF', 'without a response', cause);
    });
    this.#checkHead(status, received['content-type']);
    return body;
  }

  #bodyOf({ status, headers, body }: CollectResponse): AsyncIterable<unknown> {
    this.#closers.push(() => void body?.cancel().catch(() => {}));
    this.#checkHead(status, headers.get('content-type') ?? undefined);
    return body === null ? nothing() : this.#read(body);
  }

  #read(body: ReadableStream<Uint8Array>): AsyncIterable<unknown> {
    const reader = body.getReader();
    // Unlike that of a loop, this one ends a read that is under way.
    this.#closers.push(() => void reader.cancel().catch(() => {}));
    return readAll(reader);
  }

  #checked(source: AsyncIterable<unknown>): AsyncIterable<unknown> {
    const { then, getReader, [Symbol.asyncIterator]: items, [Symbol.iterator]: list } = Object(source);
    if (typeof items !== 'function' && typeof list !== 'function') {
      const got = typeof then === 'function' ? 'a promise: is an `await` missing?' : String(source);
      throw new TypeError(`\`source\` must be a URL, a response or an iterable, got ${got}`);
    }
    if (typeof getReader === 'function') return this.#read(source as unknown as ReadableStream<Uint8Array>);
    const { destroy, close, statusCode, headers } = source as Partial<IncomingLike>;
    if (typeof destroy === 'function') this.#closers.push(() => destroy.call(source));
    else if (typeof close === 'function') this.#closers.push(() => close.call(source));
    if (typeof statusCode !== 'number') return source;
    this.#checkHead(statusCode, headers?.['content-type']);
    const coding = headers?.['content-encoding'] ?? 'identity';
    if (!/^identity$/i.test(coding)) {
      const text = `the response is compressed (${coding}): ask for none, or collect from what decompresses it`;
      throw this.#error('ERR_SSE_CONTENT_ENCODING', text);
    }
    return source;
  }

  #checkHead(status: number, type: string | undefined): void {
    if (status < 200 || status > 299)
      throw this.#error('ERR_SSE_STATUS', `the response has status ${status}`);
    if (status === 204 || /^text\/event-stream *(?:;|$)/i.test(type ?? '')) return;
    const text = `the response is not an event stream: its Content-Type is ${type ?? 'missing'}`;
    throw this.#error('ERR_SSE_CONTENT_TYPE', text);
  }
}

/** The members of a response of `node:http`, or of a connection of `connect`, that are used. */
interface IncomingLike {
  readonly statusCode: number;
  readonly headers: Readonly<Record<string, string | undefined>>;
  destroy(): unknown;
  close(): unknown;
}

async function* nothing(): AsyncGenerator<never, void, undefined> {}

async function* readAll(
  reader: ReadableStreamDefaultReader<Uint8Array>,
): AsyncGenerator<Uint8Array, void, undefined> {
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    yield value;
  }
}

function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}

/** The newest events, for people. */
function listed(events: readonly CollectedEvent[]): string {
  if (events.length === 0) return 'nothing at all';
  const named = events.slice(-MOST_NAMED).map(({ event = 'message', id, data }) => {
    const text = typeof data === 'string' ? data : (JSON.stringify(data) ?? '');
    const shown = JSON.stringify(text.length > MOST_CHARACTERS ? `${text.slice(0, MOST_CHARACTERS)}…` : text);
    return `${event}${id === undefined ? '' : ` ${id}`} ${shown}`;
  });
  const earlier = events.length - named.length;
  return `${earlier > 0 ? `${earlier} more, then ` : ''}${named.join(', ')}`;
}
