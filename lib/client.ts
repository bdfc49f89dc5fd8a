// Reads an event stream for as long as it lasts: reconnects, resumes, keeps its place, admits gaps.
// Needs `decode.ts` and `transport.ts` beside it. Runs in Node, browsers, workers, Deno and Bun.
//
//   for await (const { event, data } of connect('https://example.org/events')) …
//
// One generator does it all: connect, read a chunk, hand over its events one by one, read on. Nothing is read
// while an event is being processed, so a slow consumer slows the server and nothing piles up in between.

import { createDecoder, type DecodedEvent, type DecodeLimits, type Decoder } from './decode.ts';
import {
  defaultTransport,
  type Transport,
  type TransportRequest,
  type TransportResponse,
} from './transport.ts';

export type RequestHeaders = Readonly<Record<string, string>>;

export interface ConnectOptions extends DecodeLimits {
  /** Ends the connection; the loop rejects with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
  /** Default `GET`, or `POST` where there is a `body`. Only GET and HEAD are retried by default. */
  readonly method?: string | undefined;
  readonly body?: string | Uint8Array | undefined;
  /** A function is asked again before each attempt: the place to refresh a token. */
  readonly headers?:
    | RequestHeaders
    | ((attempt: number) => RequestHeaders | Promise<RequestHeaders>)
    | undefined;
  /** Where to begin: sent as `Last-Event-ID`. What `storage` holds takes precedence. */
  readonly lastEventId?: string | undefined;
  /** Where the place is kept between lives: `localStorage`, {@link fileStorage}, or a look-alike. */
  readonly storage?: PositionStorage | undefined;
  /** Default `sluice:` and the URL. */
  readonly storageKey?: string | undefined;
  /** Default `node:http(s)` on Node, `fetch` elsewhere. */
  readonly transport?: Transport | undefined;
  /**
   * Whether to try again after this failure; `undefined` leaves it to the rule: GET and HEAD only, after a
   * lost or silent connection, an end, a 408, 425, 429 or 5xx.
   */
  readonly shouldRetry?: ((failure: ConnectError, attempt: number) => boolean | undefined) | undefined;
  /** Further origins that may be sent the caller's headers, body and last event ID by a redirect. */
  readonly redirectOrigins?: readonly string[] | undefined;
  /** Events were missed for good. Awaited before anything newer. Without it the gap is an event like any other. */
  readonly onGap?: ((gap: Gap) => void | Promise<void>) | undefined;
  /** Told of each change of `state`. */
  readonly onState?: ((change: StateChange) => void) | undefined;
  readonly onComment?: ((text: string) => void) | undefined;
  /** Hand over `sluice:ready` and `sluice:end` as events too, and `sluice:gap` even with `onGap`. Default false. */
  readonly controlEvents?: boolean | undefined;
  /** The last event there will be: after it the loop is done, and a request that is not retried may end. */
  readonly isLast?: ((event: DecodedEvent) => boolean) | undefined;

  /** Until the answer's head has come, in ms. Default 30 s. */
  readonly connectTimeout?: number | undefined;
  /** Silence after which the connection counts as dead, in ms. Default: what the server announced, else none. */
  readonly silenceTimeout?: number | undefined;
  /** First bound of the random wait before a reconnect, in ms; doubled by each failure. Default 1 s. */
  readonly backoffBaseTimeout?: number | undefined;
  /** Last bound of that wait. Default 30 s. */
  readonly backoffMaxTimeout?: number | undefined;
  /** A connection that lived this long, in ms, begins the back-off anew. Default 60 s. */
  readonly healthyAge?: number | undefined;
  /** What the server asks for (`retry:`, `Retry-After`) is obeyed from here, in ms. Default 250. */
  readonly minRetryTimeout?: number | undefined;
  /** … to here. Default 10 minutes. */
  readonly maxRetryTimeout?: number | undefined;
}

/** The part of `localStorage` that is used. A promise is waited for. */
export interface PositionStorage {
  getItem(key: string): string | null | Promise<string | null>;
  setItem(key: string, value: string): unknown;
}

/** Events between `from` and `to` that will never come. */
export interface Gap {
  /** `evicted`, `unknown-epoch`, `ahead`, `truncated`, `store-changed`, `malformed`. */
  readonly reason: string;
  /** The reader's last event ID, as the server understood it. */
  readonly from: string | null;
  /** Where delivery goes on. */
  readonly to: string;
  /** The topics it is about; empty where the server did not say. */
  readonly topics: readonly string[];
}

/** `waiting` lies between two attempts, `idle` before the first, `closed` after the last. */
export type ConnectionState = 'idle' | 'connecting' | 'open' | 'waiting' | 'closed';

export interface StateChange {
  readonly state: ConnectionState;
  /** Attempts so far, this one included. */
  readonly attempt: number;
  /** With `waiting` and `closed`: why. `undefined` for an end that was asked for. */
  readonly failure?: ConnectError | undefined;
  /** With `waiting`: ms until the next attempt. */
  readonly delay?: number | undefined;
  /** With `open`: where the stream comes from, redirects followed. */
  readonly url?: string | undefined;
}

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

export interface ConnectError extends Error {
  readonly code: ConnectErrorCode;
  /** With `ERR_SSE_STATUS`. */
  readonly status?: number | undefined;
  /** With `ERR_SSE_STATUS`: what `Retry-After` asked for, in ms. */
  readonly retryAfter?: number | undefined;
}

/**
 * A stream of events that outlives its connections. The request is sent when the loop first asks.
 *
 * An event counts as processed when the loop asks for the next one; then its id is the place to resume from,
 * and is stored. Leaving the loop leaves its last event unprocessed: it comes again after a restart, unless
 * `commit()` was called. So: at least once across restarts, once and in order within a life.
 *
 * The loop ends at a 204, at `sluice:end`, after `isLast` and after `close()`. It throws a
 * {@link ConnectError} for a failure that is not to be retried, and the signal's reason when aborted.
 * A request that is not retried and whose answer simply ends ends the loop too, except where `isLast`
 * waits for more: a proxy makes a server's crash look like a proper end.
 *
 * @throws {TypeError | RangeError} at once, naming the option that is wrong.
 * @see https://html.spec.whatwg.org/multipage/server-sent-events.html
 */
export function connect(url: string | URL, options: ConnectOptions = {}): Connection {
  return new Connection(url, options);
}

const MAX_TIMEOUT = 2 ** 31 - 1;
const MAX_REDIRECTS = 10;
const MIN_ANNOUNCED_SILENCE = 1000;
const TO_BE_RETRIED = new Set([408, 425, 429]);
// Within a header's value: no control character but the tab.
const UNSENDABLE = /[\x00-\x08\x0a-\x1f\x7f]/;
const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;

/** Made by {@link connect}. To be looped over once. */
export class Connection implements AsyncIterable<DecodedEvent> {
  readonly #options: ConnectOptions;
  readonly #url: URL;
  readonly #method: string;
  readonly #transport: Transport;
  readonly #timing: Timing;
  readonly #saver: Saver | undefined;

  #events: AsyncGenerator<DecodedEvent, void, undefined> | undefined;
  #state: ConnectionState = 'idle';
  #attempt = 0;
  #failures = 0;
  #closing = false;
  // Ends whatever is being waited for.
  #interrupt: (() => void) | undefined;
  #serverRetry = 0;
  #silenceTimeout: number;

  #position: string;
  #handedOut: string | undefined;
  // Where ids came from: a redirect may take them there again.
  readonly #idOrigins = new Set<string>();
  // The hub's latest, to drop what comes twice; only where the server is one that said `sluice:ready`.
  #latest: HubId | undefined;

  constructor(url: string | URL, options: ConnectOptions) {
    this.#url = new URL(url, (globalThis as { location?: { href: string } }).location?.href);
    if (!/^https?:$/.test(this.#url.protocol)) throw refused('url', 'must be http: or https:', url);
    // The decoder's limits are checked now rather than at the first answer.
    createDecoder({ ...options, onEvent: () => {} });
    this.#options = options;
    this.#method = options.method?.toUpperCase() ?? (options.body === undefined ? 'GET' : 'POST');
    if (!TOKEN.test(this.#method)) throw refused('method', 'must be a word', options.method);
    if (typeof options.headers === 'object') checkHeaders(options.headers);
    if (UNSENDABLE.test(options.lastEventId ?? ''))
      throw refused(
        'lastEventId',
        'must be one that a header can carry',
        JSON.stringify(options.lastEventId),
      );
    // What carries nothing of the caller's may go where a browser is sent; elsewhere redirects are followed here.
    const followRedirects = options.headers === undefined && options.body === undefined;
    this.#transport = options.transport ?? defaultTransport({ followRedirects });
    this.#timing = checkTiming(options);
    this.#silenceTimeout = options.silenceTimeout ?? Number.POSITIVE_INFINITY;
    this.#position = options.lastEventId ?? '';
    const key = options.storageKey ?? `sluice:${this.#url}`;
    this.#saver = options.storage === undefined ? undefined : new Saver(options.storage, key);
  }

  get state(): ConnectionState {
    return this.#state;
  }

  /** Requests made so far; redirects are part of theirs. */
  get attempt(): number {
    return this.#attempt;
  }

  /** The place to resume from: the id in force when the latest processed event came. */
  get lastEventId(): string {
    return this.#position;
  }

  [Symbol.asyncIterator](): AsyncIterator<DecodedEvent, void, undefined> {
    if (this.#events !== undefined) throw new TypeError('a connection can be looped over only once');
    const events = this.#run();
    this.#events = events;
    return {
      next: () => events.next(),
      return: () => {
        this.close();
        return events.return();
      },
    };
  }

  /** Ends the connection and the loop. What was handed over last stays unprocessed, see `commit()`. */
  close(): void {
    this.#closing = true;
    if (this.#events === undefined) this.#enter({ state: 'closed', attempt: 0 });
    this.#interrupt?.();
  }

  /** Counts the event handed over last as processed now. Resolves once its place is stored. */
  async commit(): Promise<void> {
    this.#markProcessed();
    await this.#saver?.flush();
  }

  async *#run(): AsyncGenerator<DecodedEvent, void, undefined> {
    const { signal } = this.#options;
    const abort = (): void => this.close();
    let failure: ConnectError | undefined;
    try {
      if (signal?.aborted) throw signal.reason;
      signal?.addEventListener('abort', abort, { once: true });
      this.#position = (await this.#saver?.load()) ?? this.#position;
      while (!this.#closing) {
        this.#enter({ state: 'connecting', attempt: ++this.#attempt });
        const outcome = yield* this.#connectOnce();
        if (this.#closing || outcome === DONE) break;
        if (!this.#isToBeRetried(outcome)) {
          if (outcome.code === 'ERR_SSE_EOF' && this.#options.isLast === undefined) break;
          failure = outcome;
          throw outcome;
        }
        await this.#waitAfter(outcome);
      }
      if (signal?.aborted) throw signal.reason;
    } finally {
      signal?.removeEventListener('abort', abort);
      this.#closing = true;
      this.#enter({ state: 'closed', attempt: this.#attempt, failure });
      await this.#saver?.flush();
    }
  }

  async *#connectOnce(): AsyncGenerator<DecodedEvent, Outcome, undefined> {
    const begun = performance.now();
    const controller = new AbortController();
    this.#interrupt = () => controller.abort();
    try {
      const answer = await this.#request(controller);
      if (!('response' in answer)) return answer.outcome;
      const outcome = yield* this.#read(answer, controller);
      if (performance.now() - begun >= this.#timing.healthyAge) this.#failures = 0;
      return outcome;
    } finally {
      this.#interrupt = undefined;
      controller.abort();
    }
  }

  async #request(controller: AbortController): Promise<Answer> {
    const { headers = {}, body } = this.#options;
    const own = typeof headers === 'function' ? await this.#ask(headers, controller.signal) : headers;
    if (own === undefined) return { outcome: DONE };
    let next: Hop = { url: this.#url, method: this.#method, body };
    for (let hops = 0; hops <= MAX_REDIRECTS; hops++) {
      if (UNSENDABLE.test(this.#position))
        return { outcome: failed('ERR_SSE_ID', 'the last event ID cannot be sent in a header') };
      const answer = await this.#send(next, own, controller);
      if (!('response' in answer)) return answer;
      const { response } = answer;
      if (response.status < 300 || response.status > 399 || response.status === 304) return judge(answer);
      const target = locationOf(answer);
      if (target === undefined || !this.#mayGoTo(target, own, next.body))
        return refusedRedirect(answer, target);
      next = followed(next, response.status, target);
    }
    return { outcome: failed('ERR_SSE_REDIRECT', `more than ${MAX_REDIRECTS} redirects`) };
  }

  // `undefined` when the connection was closed in the meantime: a token that never comes holds nobody.
  async #ask(
    headers: Extract<ConnectOptions['headers'], (attempt: number) => unknown>,
    closed: AbortSignal,
  ): Promise<RequestHeaders | undefined> {
    let stop = (): void => {};
    const ended = new Promise<undefined>((resolve) => {
      stop = () => resolve(undefined);
      closed.addEventListener('abort', stop, { once: true });
    });
    try {
      const given = (await Promise.race([headers(this.#attempt), ended])) ?? {};
      checkHeaders(given);
      return closed.aborted ? undefined : given;
    } finally {
      closed.removeEventListener('abort', stop);
    }
  }

  async #send(hop: Hop, own: RequestHeaders, controller: AbortController): Promise<Answer> {
    const headers: Record<string, string> = { accept: 'text/event-stream', 'cache-control': 'no-store' };
    for (const [name, value] of Object.entries(own)) headers[name.toLowerCase()] = value;
    if (this.#position !== '') headers['last-event-id'] = asHeader(this.#position);
    const { connectTimeout } = this.#timing;
    const late = failed('ERR_SSE_TIMEOUT', `no answer within ${connectTimeout} ms`);
    const timer = startTimer(connectTimeout, () => controller.abort(late));
    try {
      const response = await this.#transport({ ...hop, headers, signal: controller.signal });
      return { response, url: response.url === undefined ? hop.url : new URL(response.url) };
    } catch (error) {
      return { outcome: this.#failureOf(error, controller.signal) };
    } finally {
      clearTimeout(timer);
    }
  }

  #mayGoTo(target: URL, own: RequestHeaders, body: unknown): boolean {
    const { redirectOrigins = [] } = this.#options;
    if (target.origin === this.#url.origin || redirectOrigins.includes(target.origin)) return true;
    // Elsewhere only when nothing of the caller's goes along, and no id that came from another place.
    const safe = target.protocol === 'https:' || this.#url.protocol === 'http:';
    const empty = Object.keys(own).length === 0 && body === undefined;
    return safe && empty && (this.#position === '' || this.#idOrigins.has(target.origin));
  }

  async *#read(
    answer: Answered,
    controller: AbortController,
  ): AsyncGenerator<DecodedEvent, Outcome, undefined> {
    this.#enter({ state: 'open', attempt: this.#attempt, url: answer.url.href });
    let items: (DecodedEvent | string)[] = [];
    const decoder = createDecoder({
      ...this.#options,
      lastEventId: this.#position,
      onEvent: (event) => items.push(event),
      onId: (id) => items.push(id),
      onRetry: (ms) => {
        this.#serverRetry = ms;
      },
    });
    const chunks = answer.response.body[Symbol.asyncIterator]();
    for (;;) {
      const failure = await this.#feed(decoder, chunks, controller);
      const ready = items;
      items = [];
      for (const item of ready) {
        if (this.#closing) return DONE;
        if (item !== '') this.#idOrigins.add(answer.url.origin);
        if (typeof item === 'string') {
          this.#moveTo(item);
          continue;
        }
        const shown = CONTROL.has(item.event) ? await this.#takeControl(item) : !this.#isRepeated(item);
        this.#handedOut = item.lastEventId;
        if (shown) yield item;
        // Asked for the next one: so this one was processed.
        this.#markProcessed();
        if (item.event === 'sluice:end' || this.#options.isLast?.(item)) return DONE;
      }
      if (failure !== undefined) return failure;
    }
  }

  async #feed(
    decoder: Decoder,
    chunks: AsyncIterator<Uint8Array>,
    controller: AbortController,
  ): Promise<ConnectError | undefined> {
    const limit = this.#silenceTimeout;
    const silent = failed('ERR_SSE_SILENT', `nothing was heard for ${limit} ms`);
    const timer = startTimer(limit, () => controller.abort(silent));
    try {
      const next = await chunks.next();
      if (next.done) return failed('ERR_SSE_EOF', 'the server ended the stream');
      clearTimeout(timer);
      decoder.feed(next.value);
      return undefined;
    } catch (error) {
      return this.#failureOf(error, controller.signal);
    } finally {
      clearTimeout(timer);
    }
  }

  // Answers whether the consumer is to see it.
  async #takeControl(event: DecodedEvent): Promise<boolean> {
    const { onGap, controlEvents = false } = this.#options;
    if (event.event === 'sluice:ready') this.#takeReady(event);
    if (event.event !== 'sluice:gap') return controlEvents;
    this.#latest = hubId(event.id) ?? this.#latest;
    await onGap?.(gapOf(event));
    return controlEvents || onGap === undefined;
  }

  #takeReady(event: DecodedEvent): void {
    const id = hubId(event.id);
    if (id !== undefined && id.epoch !== this.#latest?.epoch) this.#latest = id;
    if (this.#options.silenceTimeout === undefined) this.#silenceTimeout = announcedSilence(event.data);
  }

  #isRepeated(event: DecodedEvent): boolean {
    const id = this.#latest && hubId(event.id);
    if (this.#latest === undefined || id === undefined) return false;
    if (id.epoch === this.#latest.epoch && id.seq <= this.#latest.seq) return true;
    this.#latest = id;
    return false;
  }

  #markProcessed(): void {
    if (this.#handedOut !== undefined) this.#moveTo(this.#handedOut);
    this.#handedOut = undefined;
  }

  #moveTo(position: string): void {
    if (position === this.#position) return;
    this.#position = position;
    this.#saver?.save(position);
  }

  #failureOf(error: unknown, signal: AbortSignal): ConnectError {
    const cause = signal.aborted ? signal.reason : error;
    const code = (cause as { code?: unknown } | undefined)?.code;
    if (typeof code === 'string' && code.startsWith('ERR_SSE_')) return cause as ConnectError;
    const message = cause instanceof Error ? cause.message || String(code ?? cause.name) : String(cause);
    return failed('ERR_SSE_NETWORK', message, { cause });
  }

  #isToBeRetried(failure: ConnectError): boolean {
    const asked = this.#options.shouldRetry?.(failure, this.#attempt);
    if (asked !== undefined) return asked;
    if (this.#method !== 'GET' && this.#method !== 'HEAD') return false;
    const { code, status = 0 } = failure;
    return code === 'ERR_SSE_STATUS' ? status >= 500 || TO_BE_RETRIED.has(status) : PASSING.has(code);
  }

  async #waitAfter(failure: ConnectError): Promise<void> {
    const { backoffBaseTimeout, backoffMaxTimeout, minRetryTimeout, maxRetryTimeout } = this.#timing;
    const asked = Math.max(this.#serverRetry, failure.retryAfter ?? 0);
    const floor = Math.min(Math.max(asked, minRetryTimeout), maxRetryTimeout);
    // Full jitter: anywhere between nothing and the bound, so that a crowd does not return at once.
    const bound = Math.min(backoffBaseTimeout * 2 ** this.#failures++, backoffMaxTimeout);
    const delay = Math.round(floor + Math.random() * bound);
    this.#enter({ state: 'waiting', attempt: this.#attempt, failure, delay });
    if (this.#closing) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, delay);
      this.#interrupt = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#interrupt = undefined;
  }

  #enter(change: StateChange): void {
    if (this.#state === 'closed') return;
    this.#state = change.state;
    this.#options.onState?.(change);
  }
}

/**
 * Keeps positions in a JSON file on Node: written beside it, then renamed over it, so a crash leaves the old
 * one or the new one, never half of one. One process per file.
 */
export function fileStorage(path: string): PositionStorage {
  const { readdir, readFile, rename, rm, writeFile } = process.getBuiltinModule('node:fs/promises');
  const { basename, dirname, join } = process.getBuiltinModule('node:path');
  const isUnfinished = (name: string): boolean =>
    name.startsWith(`${basename(path)}.`) && /^\d+\.tmp$/.test(name.slice(basename(path).length + 1));
  // A process that was killed between writing and renaming has left its half behind.
  const tidy = async (): Promise<void> => {
    const folder = dirname(path);
    const names = await readdir(folder).catch(() => []);
    for (const name of names) if (isUnfinished(name)) await rm(join(folder, name), { force: true });
  };
  const load = async (): Promise<Map<string, string>> => {
    await tidy();
    try {
      return new Map(Object.entries(JSON.parse(await readFile(path, 'utf8'))));
    } catch (error) {
      if ((error as { code?: string }).code === 'ENOENT') return new Map();
      throw new Error(`cannot read positions from ${path}`, { cause: error });
    }
  };
  let positions: Promise<Map<string, string>> | undefined;
  const known = (): Promise<Map<string, string>> => {
    positions ??= load();
    return positions;
  };
  let last: Promise<unknown> = Promise.resolve();
  const set = async (key: string, value: string): Promise<void> => {
    const all = await known();
    all.set(key, value);
    const fresh = `${path}.${process.pid}.tmp`;
    await writeFile(fresh, JSON.stringify(Object.fromEntries(all)));
    await rename(fresh, path);
  };
  return {
    getItem: async (key) => (await known()).get(key) ?? null,
    setItem: (key, value) => {
      last = last.then(
        () => set(key, value),
        () => set(key, value),
      );
      return last;
    },
  };
}

const DONE = 'done';
type Outcome = ConnectError | typeof DONE;
type Answered = { readonly response: TransportResponse; readonly url: URL };
type Answer = Answered | { readonly outcome: Outcome };
type Hop = Pick<TransportRequest, 'url' | 'method' | 'body'>;
type HubId = { readonly epoch: number; readonly seq: number };

const CONTROL = new Set(['sluice:ready', 'sluice:gap', 'sluice:end']);
const PASSING = new Set<ConnectErrorCode>([
  'ERR_SSE_NETWORK',
  'ERR_SSE_TIMEOUT',
  'ERR_SSE_SILENT',
  'ERR_SSE_EOF',
]);

function judge(answer: Answered): Answer {
  const { status, header } = answer.response;
  if (status === 204) return { outcome: DONE };
  if (status !== 200) {
    const retryAfter = retryAfterOf(header('retry-after'));
    return { outcome: failed('ERR_SSE_STATUS', `the server answered ${status}`, { status, retryAfter }) };
  }
  const type = header('content-type') ?? 'none';
  if (/^text\/event-stream\s*(;|$)/i.test(type)) return answer;
  return {
    outcome: failed('ERR_SSE_CONTENT_TYPE', `the answer's content type is ${type}, not text/event-stream`),
  };
}

function locationOf(answer: Answered): URL | undefined {
  const location = answer.response.header('location');
  return location !== undefined && URL.canParse(location, answer.url.href)
    ? new URL(location, answer.url)
    : undefined;
}

function refusedRedirect(answer: Answered, target: URL | undefined): Answer {
  const where = target === undefined ? 'to no address that can be seen' : `to ${target.origin}`;
  const { status } = answer.response;
  return { outcome: failed('ERR_SSE_REDIRECT', `redirected (${status}) ${where}, which is not followed`) };
}

// As fetch does it: 303 always becomes a GET, 301 and 302 turn a POST into one.
function followed(hop: Hop, status: number, url: URL): Hop {
  const becomesGet = status === 303 || (status < 303 && hop.method === 'POST');
  return becomesGet ? { url, method: 'GET', body: undefined } : { ...hop, url };
}

// Otherwise each attempt would fail alike, and be tried again for ever.
function checkHeaders(headers: RequestHeaders): void {
  for (const [name, value] of Object.entries(headers)) {
    if (!TOKEN.test(name)) throw refused('headers', 'must have names that are words', JSON.stringify(name));
    // Its value may be a secret: the message goes without it.
    if (UNSENDABLE.test(value) || /[^\x00-\xff]/.test(value))
      throw new TypeError(`\`headers\` must have values of one line of Latin-1, \`${name}\` has another`);
  }
}

/** Seconds or a date, in ms from now. */
function retryAfterOf(value: string | undefined): number | undefined {
  if (value === undefined) return undefined;
  if (/^\d+$/.test(value)) return Number(value) * 1000;
  const at = Date.parse(value);
  return Number.isNaN(at) ? undefined : Math.max(0, at - Date.now());
}

// "`Last-Event-ID` … encoded as UTF-8": headers take it as one character per byte.
function asHeader(id: string): string {
  return String.fromCharCode(...new TextEncoder().encode(id));
}

function hubId(id: string | undefined): HubId | undefined {
  const parts = /^(\d{1,15})-(\d{1,15})$/.exec(id ?? '');
  return parts === null ? undefined : { epoch: Number(parts[1]), seq: Number(parts[2]) };
}

function parsed(json: string): Record<string, unknown> {
  try {
    return Object(JSON.parse(json));
  } catch {
    return {};
  }
}

function gapOf({ data, lastEventId }: DecodedEvent): Gap {
  const { reason, from, topics } = parsed(data);
  return {
    reason: typeof reason === 'string' ? reason : 'unknown',
    from: typeof from === 'string' ? from : null,
    to: lastEventId,
    topics: Array.isArray(topics) ? topics.map(String) : [],
  };
}

// So many heartbeats may be missed; the one after them decides.
function announcedSilence(data: string): number {
  const { interval, missed } = Object(parsed(data).heartbeat) as { interval?: unknown; missed?: unknown };
  if (typeof interval !== 'number' || typeof missed !== 'number') return Number.POSITIVE_INFINITY;
  const silence = interval * (missed + 1);
  return silence > 0 ? Math.max(silence, MIN_ANNOUNCED_SILENCE) : Number.POSITIVE_INFINITY;
}

/** `undefined` for no limit: what no timer can wait for needs none. */
function startTimer(timeout: number, act: () => void): ReturnType<typeof setTimeout> | undefined {
  return timeout > MAX_TIMEOUT ? undefined : setTimeout(act, timeout);
}

function failed(
  code: ConnectErrorCode,
  message: string,
  details: { status?: number; retryAfter?: number | undefined; cause?: unknown } = {},
): ConnectError {
  const { cause, ...rest } = details;
  return Object.assign(new Error(message, cause === undefined ? undefined : { cause }), { code, ...rest });
}

const DEFAULT_TIMING = {
  connectTimeout: 30_000,
  backoffBaseTimeout: 1000,
  backoffMaxTimeout: 30_000,
  healthyAge: 60_000,
  minRetryTimeout: 250,
  maxRetryTimeout: 600_000,
};
type Timing = typeof DEFAULT_TIMING;
const MAY_BE_INFINITE = new Set(['connectTimeout', 'silenceTimeout', 'healthyAge']);

function checkTiming(options: ConnectOptions): Timing {
  const timing = { ...DEFAULT_TIMING };
  for (const name of Object.keys(timing) as (keyof Timing)[]) {
    timing[name] = checkTimeout(name, options[name] ?? timing[name]);
  }
  if (options.silenceTimeout !== undefined) checkTimeout('silenceTimeout', options.silenceTimeout);
  return timing;
}

function checkTimeout(name: string, value: number): number {
  if (value === Number.POSITIVE_INFINITY && MAY_BE_INFINITE.has(name)) return value;
  if (typeof value === 'number' && value >= 0 && value <= MAX_TIMEOUT) return value;
  throw refused(name, `must be a number of milliseconds from 0 to ${MAX_TIMEOUT}`, value, RangeError);
}

function refused(name: string, rule: string, value: unknown, Kind: typeof RangeError = TypeError): Error {
  return new Kind(`\`${name}\` ${rule}, got ${String(value)}`);
}

// Writes the newest position, one write at a time: what was overtaken while one was under way is skipped.
class Saver {
  readonly #storage: PositionStorage;
  readonly #key: string;
  #unsaved: string | undefined;
  #writing: Promise<void> | undefined;
  #error: { readonly reason: unknown } | undefined;

  constructor(storage: PositionStorage, key: string) {
    this.#storage = storage;
    this.#key = key;
  }

  async load(): Promise<string | undefined> {
    return (await this.#storage.getItem(this.#key)) ?? undefined;
  }

  save(position: string): void {
    if (this.#error !== undefined) throw this.#error.reason;
    this.#unsaved = position;
    this.#writing ??= this.#write();
  }

  async flush(): Promise<void> {
    await this.#writing;
    if (this.#error !== undefined) throw this.#error.reason;
  }

  async #write(): Promise<void> {
    try {
      while (this.#unsaved !== undefined) {
        const position = this.#unsaved;
        this.#unsaved = undefined;
        await this.#storage.setItem(this.#key, position);
      }
    } catch (reason) {
      this.#error = { reason };
    } finally {
      this.#writing = undefined;
    }
  }
}
