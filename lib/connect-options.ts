// The options of `connect`, what each attempt sends, and the checks of both.
// Needs `backoff.ts`, `decode.ts`, `failure.ts`, `positions.ts`, `protocol.ts`, `received.ts` and `transport.ts`
// beside it. Runs in Node, browsers, workers, Deno and Bun.

import type { BackoffOptions } from './backoff.ts';
import { createDecoder, type DecodeLimits } from './decode.ts';
import { type ConnectError, idRule } from './failure.ts';
import type { PositionStorage } from './positions.ts';
import { type Gap, isSendableId, readReady } from './protocol.ts';
import type { EventMap, EventOf, EventReader, ReceivedEvent } from './received.ts';
import type { HostSignal, HostURL, RequestHeaders, ResponseHeaders, Transport } from './transport.ts';

export interface ConnectOptions<Events extends object = EventMap> extends DecodeLimits, BackoffOptions {
  /** Ends the connection; the loop rejects with the signal's reason. */
  readonly signal?: HostSignal | undefined;
  /** Default `GET`, or `POST` where there is a `body`. Only GET and HEAD are retried by default. */
  readonly method?: string | undefined;
  readonly body?: string | Uint8Array | undefined;
  /** A function is called before each attempt, as to refresh a token. What it throws, the loop throws. */
  readonly headers?: RequestHeaders | HeadersFunction | undefined;
  /**
   * Returns what an attempt sends, in place of `method` and `body`: as a POST that begins and a GET that
   * resumes. Called before each attempt; what it throws, the loop throws. A later attempt that is no GET or HEAD
   * is sent only where `shouldRetry` has returned `true`; otherwise the loop ends as the attempt before has.
   */
  readonly request?: RequestFunction | undefined;
  /** The position to resume from, sent as `Last-Event-ID`. A position in `storage` takes precedence. */
  readonly lastEventId?: string | undefined;
  /**
   * The name of a parameter of the query that carries the position, instead of the header `Last-Event-ID`.
   * For a page that reads from another origin whose server answers no preflight request: a browser sends one
   * for that header. A sluice server reads `lastEventId`.
   */
  readonly lastEventIdParameter?: string | undefined;
  /** Where the position is stored: `localStorage`, `fileStorage`, or anything with the same two methods. */
  readonly storage?: PositionStorage | undefined;
  /** Default `sluice.position:URL`. */
  readonly storageKey?: string | undefined;
  /** Default `node:http(s)` on Node, `fetch` elsewhere. */
  readonly transport?: Transport | undefined;
  /**
   * Whether to reconnect after this failure. `undefined` applies the default: only GET and HEAD, after a lost
   * or silent connection, after the end of a stream, and after a 408, 425, 429 or 5xx.
   */
  readonly shouldRetry?:
    | ((failure: ConnectError, context: { readonly attempt: number }) => boolean | undefined)
    | undefined;
  /** Further origins (`https://api.example`), to which a redirect may take headers, body and position. */
  readonly redirectOrigins?: readonly string[] | undefined;
  /**
   * Called when events are lost for good; awaited before any newer event. Default: yield `sluice:gap`.
   *
   * Beside the server's reasons there are two of the reader: `too-large`, for one event that is larger than a
   * limit, and `unsendable`, for a position that was dropped because it could not be sent.
   */
  readonly onGap?: ((gap: Gap) => void | Promise<void>) | undefined;
  /**
   * Made by `defineEvents` of `sluice/schema`: `json` of each event is then what its schema returns. An event that
   * does not fit ends the loop with `ERR_SSE_INVALID_EVENT`, unprocessed, unless there is `onInvalid`. An event of
   * a type that is not defined is skipped, and reported to `onError` as `ERR_SSE_UNKNOWN_EVENT`: so a server may
   * add types. Control events are not checked. Not with `relay`.
   */
  readonly events?: EventReader<Events> | undefined;
  /**
   * Called in place of the loop with an event that does not fit `events`, and awaited. It then counts as processed,
   * and reading goes on. What it throws, the loop throws.
   */
  readonly onInvalid?: ((error: ConnectError, event: ReceivedEvent) => void | Promise<void>) | undefined;
  /**
   * Called for a fault after which reading goes on: an id that cannot be a position (`ERR_SSE_ID`), an event
   * that is larger than a limit (`ERR_SSE_EVENT_TOO_LARGE`, `ERR_SSE_LINE_TOO_LONG`), one of a type that `events`
   * does not define (`ERR_SSE_UNKNOWN_EVENT`). Default: `console.warn` once for each code.
   */
  readonly onError?: ((error: ConnectError, context: { readonly attempt: number }) => void) | undefined;
  /** Called for the head of each event stream, and awaited before its events. What it throws, the loop throws. */
  readonly onOpen?: ((head: StreamHead) => void | Promise<void>) | undefined;
  /** Called after each change of `state`. */
  readonly onState?: ((change: StateChange) => void) | undefined;
  /** Called for each comment. Without it, comments are skipped faster. */
  readonly onComment?: ((event: { readonly comment: string }) => void) | undefined;
  /** Whether to yield all control events, `sluice:gap` also with `onGap`. Default false. */
  readonly controlEvents?: boolean | undefined;
  /**
   * Whether to yield also what is no event, as a `Piece` of `sluice/client`: comments, `retry`, and ids without
   * data, also those of control events that are not yielded. So `stream.pipe(connect(url, { relay: true }))` sends
   * on all that readers can notice. Default false. `true` is in {@link RelayOptions}, whose loop has other items.
   */
  readonly relay?: false | undefined;
  /**
   * Whether to take an event at the end of a response that lacks its blank line. The standard discards it,
   * because its end may be missing. Default false.
   */
  readonly dispatchAtEnd?: boolean | undefined;
  /** Returns whether this event is the last one, after which the loop ends. With `events`: of those that fit. */
  readonly isLast?: ((event: EventOf<Events>) => boolean) | undefined;
  /** Milliseconds within which a response must have its head. Default 30 s; `Infinity`: no limit. */
  readonly connectTimeout?: number | undefined;
  /** Milliseconds of silence that end a connection. Default: the server's announcement, else no limit. */
  readonly silenceTimeout?: number | undefined;
}

/** The options of a reader that yields also what is no event. */
export interface RelayOptions<Events extends object = EventMap>
  extends Omit<ConnectOptions<Events>, 'relay'> {
  readonly relay: true;
}

/** What is known before an attempt. */
export interface AttemptContext {
  /** Its number, from 1. */
  readonly attempt: number;
  /** The position to resume from; `''` where there is none. */
  readonly lastEventId: string;
  /** Why the attempt before ended; `undefined` before the first one. */
  readonly failure: ConnectError | undefined;
}

/** Returns the headers of one attempt. */
export type HeadersFunction = (context: AttemptContext) => RequestHeaders | Promise<RequestHeaders>;

/** Returns what one attempt sends. */
export type RequestFunction = (context: AttemptContext) => AttemptRequest | Promise<AttemptRequest>;

/** What one attempt sends. */
export interface AttemptRequest {
  /** Default: the URL of the connection, from which a relative one is resolved. */
  readonly url?: URLText | undefined;
  /** Default `GET`, or `POST` where there is a `body`. */
  readonly method?: string | undefined;
  readonly body?: string | Uint8Array | undefined;
  /** In addition to `headers` of the connection, over which they take precedence. */
  readonly headers?: RequestHeaders | undefined;
}

/** A URL as text, or a `URL`. */
export type URLText = string | { readonly href: string };

/** The head of a response that is an event stream. */
export interface StreamHead {
  /** The number of the attempt. */
  readonly attempt: number;
  readonly status: number;
  readonly headers: ResponseHeaders;
  /** Where the stream comes from, after all redirects. */
  readonly url: string;
}

/** `idle`: before the first attempt. `waiting`: between two attempts. `closed`: after the last one. */
export type ConnectionState = 'idle' | 'connecting' | 'open' | 'waiting' | 'closed';

export interface StateChange {
  readonly state: ConnectionState;
  /** The number of attempts, this one included. */
  readonly attempt: number;
  /** With `waiting` and `closed`: the reason. `undefined` where the end was intended. */
  readonly failure?: ConnectError | undefined;
  /** With `waiting`: milliseconds until the next attempt. */
  readonly delay?: number | undefined;
  /** With `open`: where the stream comes from, after all redirects. */
  readonly url?: string | undefined;
}

// A header's value may have no control character but the tab.
const UNSENDABLE = /[\x00-\x08\x0a-\x1f\x7f]/;
const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;

/** The URL, in a page from its own. @throws {TypeError} for one that is not http: or https:. */
export function readURL(text: URLText, base?: HostURL): HostURL {
  const { location } = globalThis as { location?: { href: string } };
  const given = typeof text === 'string' ? text : String(text?.href);
  const from = base?.href ?? location?.href;
  const url = URL.canParse(given, from) ? new URL(given, from) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol))
    throw badOption('url', 'must be http: or https:', url ?? JSON.stringify(given));
  return url;
}

/**
 * Whether a browser's fetch may follow redirects by itself: it takes all headers and the body to other origins,
 * so only for requests that have none.
 */
export function mayFetchFollow({ headers, body, request }: CheckedOptions): boolean {
  return headers === undefined && body === undefined && request === undefined;
}

type CheckedOptions = Omit<ConnectOptions, 'isLast' | 'relay' | 'events'> & {
  readonly relay?: boolean | undefined;
  readonly events?: Pick<EventReader, 'has' | 'parse'> | undefined;
};

/** @throws {TypeError | RangeError} naming the option that cannot be used. */
export function checkOptions(options: CheckedOptions): void {
  checkRequest(options);
  checkObjects(options);
  const { lastEventId = '', lastEventIdParameter = 'id' } = options;
  if (!isSendableId(lastEventId))
    throw badOption('lastEventId', idRule, JSON.stringify(lastEventId).slice(0, 80));
  if (typeof lastEventIdParameter !== 'string' || lastEventIdParameter === '')
    throw badOption('lastEventIdParameter', 'must be a name', JSON.stringify(lastEventIdParameter));
  checkEvents(options);
  checkTimeout('connectTimeout', options.connectTimeout);
  checkTimeout('silenceTimeout', options.silenceTimeout);
  // Creates a decoder for its checks: they throw now rather than at the first response.
  const { maxLineBytes, maxEventBytes } = options;
  createDecoder({ maxLineBytes, maxEventBytes, onEvent: () => {} });
}

/** One attempt, as it is sent. */
export interface AttemptToSend {
  readonly url: HostURL;
  readonly method: string;
  readonly headers: RequestHeaders;
  readonly body: string | Uint8Array | undefined;
}

/** @throws {TypeError} for a request with which the attempt would fail, or that would not be sent as it is meant. */
export function requestOf(
  base: HostURL,
  common: RequestHeaders | undefined = {},
  given: unknown,
): AttemptToSend {
  if (Object(given) !== given)
    throw badOption('request', 'must return an object such as { url, body }', kindOf(given));
  const request = given as AttemptRequest;
  // Before the two are merged, which would leave nothing of a `Headers`.
  checkHeaders(common);
  const method = methodOf(request);
  return {
    url: request.url === undefined ? base : readURL(request.url, base),
    method,
    headers: { ...common, ...request.headers },
    body: request.body,
  };
}

function checkEvents({ events, onInvalid, relay }: CheckedOptions): void {
  if (events === undefined) {
    if (onInvalid === undefined) return;
    throw new TypeError('`onInvalid` needs `events`, by which events are checked');
  }
  if (typeof events?.parse !== 'function' || typeof events.has !== 'function')
    throw badOption('events', 'must be made by `defineEvents`', kindOf(events));
  if (relay === true)
    throw new TypeError('`events` must not be given beside `relay`, which hands on what it gets');
}

/** The method of a request in upper case. @throws {TypeError} for a request with which an attempt would fail. */
export function methodOf({ method, body, headers }: AttemptRequest): string {
  const name = (method ?? (body === undefined ? 'GET' : 'POST')).toUpperCase();
  // `fetch` refuses these, and a tunnel has no response to read.
  if (!TOKEN.test(name) || /^(CONNECT|TRACE|TRACK)$/.test(name))
    throw badOption('method', 'must be a method such as POST', method);
  if (body !== undefined && typeof body !== 'string' && !isBytes(body))
    throw badOption('body', 'must be a string or a Uint8Array', kindOf(body));
  if (headers !== undefined) checkHeaders(headers);
  return name;
}

/** Whether a request may be sent again without its sender's consent. */
export function isRepeatable(method: string): boolean {
  return method === 'GET' || method === 'HEAD';
}

/** @throws {TypeError} naming the option with which every attempt would fail, or a redirect go astray. */
function checkRequest({ method, body, headers, ...options }: CheckedOptions): void {
  const { request, redirectOrigins = [] } = options;
  methodOf({ method, body, headers: typeof headers === 'function' ? undefined : headers });
  if (request !== undefined && (method !== undefined || body !== undefined))
    throw new TypeError('`method` and `body` must be in what `request` returns, got one beside it');
  // A text has a method `includes` too, which finds parts: an origin that begins like a longer one.
  if (!Array.isArray(redirectOrigins) || !redirectOrigins.every(isOrigin)) {
    const got = JSON.stringify(redirectOrigins);
    throw new TypeError(`\`redirectOrigins\` must list origins such as "https://example.com", got ${got}`);
  }
}

const FUNCTIONS = [
  'request',
  'transport',
  'shouldRetry',
  'onGap',
  'onError',
  'onOpen',
  'onState',
  'onComment',
  'isLast',
] as const;

/** @throws {TypeError} naming the option that could not be called. */
function checkObjects(options: CheckedOptions): void {
  const { storage, signal } = options;
  for (const name of FUNCTIONS) {
    const value = (options as ConnectOptions)[name];
    if (value !== undefined && typeof value !== 'function')
      throw badOption(name, 'must be a function', kindOf(value));
  }
  if (storage !== undefined && !(hasMethod(storage, 'getItem') && hasMethod(storage, 'setItem')))
    throw badOption('storage', 'must have the methods getItem and setItem', kindOf(storage));
  if (signal !== undefined && !hasMethod(signal, 'addEventListener'))
    throw badOption('signal', 'must be an AbortSignal', kindOf(signal));
}

function hasMethod(value: unknown, name: string): boolean {
  return typeof Object(value)[name] === 'function';
}

// By its name, because a page and its frames have a `Uint8Array` each.
function isBytes(value: unknown): boolean {
  return ArrayBuffer.isView(value) && (value as Partial<Uint8Array>)[Symbol.toStringTag] === 'Uint8Array';
}

function isOrigin(text: unknown): boolean {
  return typeof text === 'string' && URL.canParse(text) && new URL(text).origin === text;
}

function kindOf(value: unknown): string {
  return value === null ? 'null' : typeof value;
}

/** @throws {TypeError} for headers that no request can carry: every attempt would fail with them. */
function checkHeaders(headers: RequestHeaders): void {
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

function checkTimeout(name: string, value = 0): void {
  if (typeof value === 'number' && (value === Number.POSITIVE_INFINITY || (value >= 0 && value < 2 ** 31)))
    return;
  const rule = 'must be a number of milliseconds from 0 to 2147483647, or Infinity';
  throw badOption(name, rule, value, RangeError);
}

function badOption(name: string, rule: string, value: unknown, Kind: typeof RangeError = TypeError): Error {
  return new Kind(`\`${name}\` ${rule}, got ${String(value)}`);
}

const MIN_ANNOUNCED_SILENCE = 1000;

/**
 * The default of `silenceTimeout`, by the data of `sluice:ready`: the connection is dead when one heartbeat more is
 * missing than the server allows, see `HeartbeatTerms`.
 */
export function announcedSilence(data: string): number {
  const { heartbeat } = readReady(data);
  const silence = heartbeat === undefined ? 0 : heartbeat.interval * (heartbeat.missed + 1);
  return silence > 0 ? Math.max(silence, MIN_ANNOUNCED_SILENCE) : Number.POSITIVE_INFINITY;
}
