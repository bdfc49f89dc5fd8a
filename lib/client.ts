// Reads an event stream for as long as it lasts: reconnects, resumes, and reports lost events.
// Needs `backoff.ts`, `decode.ts`, `positions.ts`, `protocol.ts`, `received.ts`, `request.ts` and
// `transport.ts` beside it. Runs in Node, browsers, workers, Deno and Bun.
//
//   for await (const { event, data } of connect('https://example.org/events')) …
//
// How it works: one generator connects, reads a chunk, yields its events one by one, and reads on. It reads
// nothing while an event is processed, so a slow consumer slows the server down and nothing piles up.

import { Backoff, type BackoffOptions } from './backoff.ts';
import {
  createDecoder,
  type DecodedEvent,
  type DecodeError,
  type DecodeLimits,
  type Decoder,
} from './decode.ts';
import { PositionSaver, type PositionStorage } from './positions.ts';
import {
  controlEvents,
  type EventId,
  type Gap,
  gapEvent,
  isControlEvent,
  isSendableId,
  parseId,
  readGap,
  readReady,
} from './protocol.ts';
import { type EventMap, type EventOf, Received, type ReceivedEvent } from './received.ts';
import {
  type ConnectError,
  checkHeaders,
  checkRequest,
  failed,
  failureOf,
  type IncomingStream,
  idRule,
  isMethod,
  isOfPosition,
  isTransient,
  notTaken,
  type Outcome,
  type RequestHeaders,
  refused,
  requestStream,
  startTimer,
  tooLarge,
  unsendable,
} from './request.ts';
import { defaultTransport, type Transport } from './transport.ts';

export type { BackoffOptions } from './backoff.ts';
export type { PositionStorage } from './positions.ts';
export type { Gap } from './protocol.ts';
export { type EventMap, type EventOf, type ReceivedEvent, readJson } from './received.ts';
export type { ConnectError, ConnectErrorCode, RequestHeaders } from './request.ts';

export interface ConnectOptions<Events extends object = EventMap> extends DecodeLimits, BackoffOptions {
  /** Ends the connection; the loop rejects with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
  /** Default `GET`, or `POST` where there is a `body`. Only GET and HEAD are retried by default. */
  readonly method?: string | undefined;
  readonly body?: string | Uint8Array | undefined;
  /** A function is called before each attempt, as to refresh a token. What it throws, the loop throws. */
  readonly headers?: RequestHeaders | HeadersFunction | undefined;
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
   * Called for a fault after which reading goes on: an id that cannot be a position (`ERR_SSE_ID`), an event
   * that is larger than a limit (`ERR_SSE_EVENT_TOO_LARGE`, `ERR_SSE_LINE_TOO_LONG`). Default: `console.warn`
   * once for each code.
   */
  readonly onError?: ((error: ConnectError, context: { readonly attempt: number }) => void) | undefined;
  /** Called after each change of `state`. */
  readonly onState?: ((change: StateChange) => void) | undefined;
  /** Called for each comment. Without it, comments are skipped faster. */
  readonly onComment?: ((event: { readonly comment: string }) => void) | undefined;
  /** Whether to yield all control events, `sluice:gap` also with `onGap`. Default false. */
  readonly controlEvents?: boolean | undefined;
  /** Returns whether this event is the last one, after which the loop ends. */
  readonly isLast?: ((event: EventOf<Events>) => boolean) | undefined;
  /** Milliseconds within which a response must have its head. Default 30 s; `Infinity`: no limit. */
  readonly connectTimeout?: number | undefined;
  /** Milliseconds of silence that end a connection. Default: the server's announcement, else no limit. */
  readonly silenceTimeout?: number | undefined;
}

/** Returns the headers of one attempt; attempts are counted from 1. */
export type HeadersFunction = (context: {
  readonly attempt: number;
}) => RequestHeaders | Promise<RequestHeaders>;

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

/**
 * Reads a stream of events across reconnects. The first request is sent when the loop asks for an event.
 *
 * An event counts as processed when the loop asks for the next one. Its id is then the position to resume
 * from, and is stored. Leaving the loop leaves the last event unprocessed: it arrives again after a restart,
 * unless `commit()` was called. Events arrive in order, once in the life of a connection object, and at least
 * once across restarts.
 *
 * The loop ends at a 204, at `sluice:end`, after `isLast` and after `close()`. It throws a
 * {@link ConnectError} for a failure that is not retried, and the signal's reason when that is aborted. The
 * end of a response ends the loop where the request is not retried; with `isLast` it throws `ERR_SSE_EOF`
 * instead, because a proxy turns the crash of a server into an orderly end.
 *
 * @throws {TypeError | RangeError} at once, naming the option that cannot be used.
 * @see https://html.spec.whatwg.org/multipage/server-sent-events.html
 */
export function connect<Events extends object = EventMap>(
  url: string | URL,
  options: ConnectOptions<Events> = {},
): Connection<Events> {
  return new Connection(url, options);
}

/** Made by {@link connect}. It can be iterated once. */
export class Connection<Events extends object = EventMap> implements AsyncIterable<EventOf<Events>> {
  readonly #options: ConnectOptions<Events>;
  readonly #url: URL;
  readonly #method: string;
  readonly #isRepeatable: boolean;
  readonly #transport: Transport;
  readonly #connectTimeout: number;
  readonly #backoff: Backoff;
  readonly #saver: PositionSaver | undefined;

  #events: AsyncGenerator<EventOf<Events>, void, undefined> | undefined;
  #state: ConnectionState = 'idle';
  #attempt = 0;
  #closing = false;
  // Ends the request, the stream or the wait that is under way.
  #interrupt: (() => void) | undefined;
  #serverRetry = 0;
  #silenceTimeout: number;

  // The id in force when the latest processed event arrived, and when the latest yielded one did.
  #position: string;
  #yieldedPosition: string | undefined;
  // The latest origins that have sent ids: a redirect may take ids there again.
  readonly #idOrigins = new Set<string>();
  // The newest event, to drop repetitions. Stays undefined where the server sends no `sluice:ready`.
  #newest: EventId | undefined;
  // A position that was dropped, until the gap is reported.
  #lost: Pick<Gap, 'reason' | 'from'> | undefined;
  // The id of the latest event that ended its connection because it is far too large.
  #hugeId: string | undefined;
  #refusedId: string | undefined; // the latest id that cannot be a position
  #hasDelivered = false; // whether the latest connection has brought an event of the application
  readonly #reported = new Set<string>();

  constructor(url: string | URL, options: ConnectOptions<Events>) {
    this.#url = new URL(url, (globalThis as { location?: { href: string } }).location?.href);
    this.#method = options.method?.toUpperCase() ?? (options.body === undefined ? 'GET' : 'POST');
    this.#isRepeatable = this.#method === 'GET' || this.#method === 'HEAD';
    this.#options = options;
    checkOptions(this.#url, this.#method, options);
    this.#backoff = new Backoff(options);
    this.#connectTimeout = options.connectTimeout ?? 30_000;
    this.#silenceTimeout = options.silenceTimeout ?? Number.POSITIVE_INFINITY;
    // A browser's fetch follows redirects with headers and body: only for requests that have none.
    const followRedirects = options.headers === undefined && options.body === undefined;
    this.#transport = options.transport ?? defaultTransport({ followRedirects });
    this.#position = options.lastEventId ?? '';
    const key = options.storageKey ?? `sluice.position:${this.#url}`;
    this.#saver = options.storage === undefined ? undefined : new PositionSaver(options.storage, key);
  }

  get state(): ConnectionState {
    return this.#state;
  }

  /** The number of attempts so far. Redirects are part of their attempt. */
  get attempt(): number {
    return this.#attempt;
  }

  /** The position to resume from: the id in force when the latest processed event arrived. */
  get lastEventId(): string {
    return this.#position;
  }

  [Symbol.asyncIterator](): AsyncIterator<EventOf<Events>, void, undefined> {
    if (this.#events !== undefined) throw new TypeError('a connection can be iterated only once');
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

  /** Ends the connection and the loop. The latest event stays unprocessed, see `commit()`. */
  close(): void {
    this.#closing = true;
    if (this.#state === 'idle') this.#enter({ state: 'closed', attempt: 0 });
    this.#interrupt?.();
  }

  /** Counts the latest event as processed now. Resolves once its position is stored. */
  async commit(): Promise<void> {
    this.#markProcessed();
    await this.#saver?.flush();
  }

  async *#run(): AsyncGenerator<EventOf<Events>, void, undefined> {
    const { signal } = this.#options;
    const abort = (): void => this.close();
    let failure: ConnectError | undefined;
    try {
      if (signal?.aborted) throw signal.reason;
      signal?.addEventListener('abort', abort, { once: true });
      await this.#load();
      while (!this.#closing) {
        this.#enter({ state: 'connecting', attempt: ++this.#attempt });
        const outcome = yield* this.#connectOnce();
        if (this.#closing || outcome === 'over') break;
        if (!this.#shouldRetry(outcome)) {
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

  async *#connectOnce(): AsyncGenerator<EventOf<Events>, Outcome, undefined> {
    const begun = performance.now();
    const controller = new AbortController();
    this.#interrupt = () => controller.abort();
    try {
      const headers = await this.#headers();
      if (this.#closing) return 'over';
      const request = {
        url: this.#url,
        method: this.#method,
        headers,
        body: this.#options.body,
        lastEventId: this.#position,
        lastEventIdParameter: this.#options.lastEventIdParameter,
        idOrigins: this.#idOrigins,
        redirectOrigins: this.#options.redirectOrigins ?? [],
        connectTimeout: this.#connectTimeout,
        transport: this.#transport,
        controller,
      };
      let answer = await requestStream(request);
      const mayAskAgain = this.#position !== '' && this.#isRepeatable;
      if (mayAskAgain && 'outcome' in answer && isOfPosition(answer.outcome)) {
        answer = await requestStream({ ...request, lastEventId: '' });
        if ('stream' in answer) this.#drop(this.#position);
      }
      if ('outcome' in answer) return answer.outcome;
      const outcome = yield* this.#read(answer.stream, controller);
      this.#backoff.connectionEnded({
        age: performance.now() - begun,
        hasDelivered: this.#hasDelivered,
        isOrderly: outcome !== 'over' && outcome.code === 'ERR_SSE_EOF',
      });
      return outcome;
    } finally {
      this.#interrupt = undefined;
      controller.abort();
    }
  }

  async #headers(): Promise<RequestHeaders> {
    const { headers = {} } = this.#options;
    if (typeof headers !== 'function') return headers;
    const given = (await this.#orClosed(headers({ attempt: this.#attempt }))) ?? {};
    checkHeaders(given);
    return given;
  }

  // Takes the stored position, where a request can carry it: anybody may have written to the storage.
  async #load(): Promise<void> {
    const stored: unknown = this.#saver && (await this.#orClosed(this.#saver.load()));
    if (stored === undefined) return;
    if (isSendableId(stored)) this.#position = stored;
    else {
      this.#report(unsendable('the stored position', stored));
      if (this.#position === '') this.#lost = { reason: 'unsendable', from: null };
    }
  }

  // Resolves also when the connection is closed before.
  async #orClosed<Value>(pending: Value | Promise<Value>): Promise<Value | undefined> {
    const interrupt = this.#interrupt;
    try {
      const closed = new Promise<undefined>((resolve) => {
        this.#interrupt = () => {
          interrupt?.();
          resolve(undefined);
        };
      });
      return await Promise.race([pending, closed]);
    } finally {
      this.#interrupt = interrupt;
    }
  }

  // The stored one is kept until the gap is processed, so that a restart does not hide it.
  #drop(position: string): void {
    this.#report(notTaken(position));
    this.#lost = { reason: 'unsendable', from: position };
    this.#position = '';
  }

  #report(error: ConnectError): void {
    const { onError } = this.#options;
    if (onError !== undefined) onError(error, { attempt: this.#attempt });
    else if (!this.#reported.has(error.code)) console.warn(`${error.message} (${error.code})`);
    this.#reported.add(error.code);
  }

  async *#read(
    stream: IncomingStream,
    controller: AbortController,
  ): AsyncGenerator<EventOf<Events>, Outcome, undefined> {
    this.#hasDelivered = false;
    this.#enter({ state: 'open', attempt: this.#attempt, url: stream.url.href });
    const { maxLineBytes, maxEventBytes, onComment, isLast } = this.#options;
    // Events, the ids that arrive without one, and the events that are too large.
    let items: (DecodedEvent | string | DecodeError)[] = [];
    const decoder = createDecoder({
      maxLineBytes,
      maxEventBytes,
      lastEventId: this.#position,
      onEvent: (event) => items.push(event),
      onId: (id) => items.push(id),
      onTooLarge: (error) => items.push(error),
      onRetry: (ms) => {
        this.#serverRetry = ms;
      },
      onComment: onComment && ((comment) => onComment({ comment })),
    });
    for (;;) {
      const failure = await this.#feed(decoder, stream, controller);
      const arrived = items;
      items = [];
      for (const item of arrived) {
        if (this.#closing) return 'over';
        if (this.#idOrigins.size > MAX_ID_ORIGINS) this.#idOrigins.clear();
        if (item !== '') this.#idOrigins.add(stream.url.origin);
        if (this.#lost) yield* this.#takeOwnGap({ ...this.#lost, to: placeOf(item), topics: [] });
        if (typeof item === 'string') {
          this.#moveTo(item);
          continue;
        }
        if ('code' in item) {
          if (!canSkip(item)) return tooLarge(item, this.#position);
          yield* this.#skip(item, item.id);
          continue;
        }
        const event = new Received(item) as ReceivedEvent as EventOf<Events>;
        const isControl = isControlEvent(item.event);
        const isWanted = isControl ? await this.#takeControl(item) : !this.#isRepeated(item);
        if (isWanted && !isControl) this.#hasDelivered = true;
        this.#yieldedPosition = item.lastEventId;
        if (isWanted) yield event;
        // The loop has asked for the next event, so this one was processed.
        this.#markProcessed();
        if (item.event === controlEvents.end || isLast?.(event)) return 'over';
        if (item.event === controlEvents.refused) return refused(item.data);
      }
      if (failure === undefined) continue;
      if (!('limit' in failure)) return failure;
      // The connection ended within the event. The next one can begin after it, unless it brings it again.
      if (!canSkip(failure) || failure.id === this.#hugeId) return tooLarge(failure, this.#position);
      this.#hugeId = failure.id;
      yield* this.#skip(failure, failure.id);
      return failed('ERR_SSE_NETWORK', 'left the connection within an event that is too large');
    }
  }

  async *#skip(error: DecodeError, id: string): AsyncGenerator<EventOf<Events>, void, undefined> {
    if (this.#isRepeated({ id })) return;
    this.#report(tooLarge(error, this.#position));
    const from = this.#position === '' ? null : this.#position;
    yield* this.#takeOwnGap({ reason: 'too-large', from, to: id, topics: [] });
  }

  // Hands on a gap that the server does not know of, in the way of the server's.
  async *#takeOwnGap(gap: Gap): AsyncGenerator<EventOf<Events>, void, undefined> {
    this.#lost = undefined;
    const item = { ...gapEvent(gap.to, gap), id: gap.to || undefined, lastEventId: gap.to };
    const isWanted = await this.#takeControl(item);
    this.#yieldedPosition = gap.to;
    if (isWanted) yield new Received(item) as ReceivedEvent as EventOf<Events>;
    this.#markProcessed();
  }

  async #feed(
    decoder: Decoder,
    stream: IncomingStream,
    controller: AbortController,
  ): Promise<ConnectError | DecodeError | undefined> {
    const limit = this.#silenceTimeout;
    const silent = failed('ERR_SSE_SILENT', `the server was silent for ${limit} ms`);
    const timer = startTimer(limit, () => controller.abort(silent));
    try {
      const next = await stream.next();
      if (next.done) return failed('ERR_SSE_EOF', 'the server ended the stream');
      clearTimeout(timer);
      decoder.feed(next.value);
      return undefined;
    } catch (error) {
      return failureOf(error, controller.signal);
    } finally {
      clearTimeout(timer);
    }
  }

  // Returns whether to yield the event.
  async #takeControl(event: DecodedEvent): Promise<boolean> {
    const { onGap, controlEvents: areWanted = false } = this.#options;
    switch (event.event) {
      case controlEvents.ready:
        this.#takeReady(event);
        return areWanted;
      case controlEvents.gap:
        await this.#takeGap(event);
        return areWanted || onGap === undefined;
      case controlEvents.position:
      case controlEvents.end:
      case controlEvents.refused:
        return areWanted;
      default:
        return !this.#isRepeated(event);
    }
  }

  #takeReady({ id, data }: DecodedEvent): void {
    const position = parseId(id);
    if (position !== undefined && position.epoch !== this.#newest?.epoch) this.#newest = position;
    if (this.#options.silenceTimeout === undefined) this.#silenceTimeout = announcedSilence(data);
  }

  // Delivery continues at the id of the gap, which may lie before events that have arrived: they are sent
  // again, and count as new.
  async #takeGap({ id, data, lastEventId }: DecodedEvent): Promise<void> {
    this.#newest = parseId(id) ?? this.#newest;
    await this.#options.onGap?.(readGap(data, lastEventId));
  }

  #isRepeated({ id: text }: Pick<DecodedEvent, 'id'>): boolean {
    const newest = this.#newest;
    const id = newest && parseId(text);
    if (newest === undefined || id === undefined) return false;
    if (id.epoch === newest.epoch && id.seq <= newest.seq) return true;
    this.#newest = id;
    return false;
  }

  #markProcessed(): void {
    if (this.#yieldedPosition !== undefined) this.#moveTo(this.#yieldedPosition);
    this.#yieldedPosition = undefined;
  }

  #moveTo(position: string): void {
    if (position === this.#position || position === this.#refusedId) return;
    if (!isSendableId(position)) {
      this.#refusedId = position;
      this.#report(unsendable('an id of the server', position));
      return;
    }
    this.#position = position;
    this.#saver?.save(position);
  }

  #shouldRetry(failure: ConnectError): boolean {
    const answer = this.#options.shouldRetry?.(failure, { attempt: this.#attempt });
    if (answer !== undefined) return answer;
    return this.#isRepeatable && isTransient(failure);
  }

  async #waitAfter(failure: ConnectError): Promise<void> {
    const delay = this.#backoff.nextDelay(Math.max(this.#serverRetry, failure.retryDelay ?? 0));
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

const MAX_ID_ORIGINS = 100;
const MIN_ANNOUNCED_SILENCE = 1000;

// The connection is dead when one heartbeat more is missing than the server allows: see `HeartbeatTerms`.
function announcedSilence(data: string): number {
  const { heartbeat } = readReady(data);
  const silence = heartbeat === undefined ? 0 : heartbeat.interval * (heartbeat.missed + 1);
  return silence > 0 ? Math.max(silence, MIN_ANNOUNCED_SILENCE) : Number.POSITIVE_INFINITY;
}

/** Where delivery continues when this is the first that arrives; `''` where that is not known. */
function placeOf(item: DecodedEvent | string | DecodeError): string {
  if (typeof item === 'string') return item;
  return 'event' in item && item.event === controlEvents.ready ? item.lastEventId : '';
}

function canSkip(error: DecodeError): error is DecodeError & { readonly id: string } {
  return error.id !== '' && isSendableId(error.id);
}

function checkOptions(url: URL, method: string, options: Omit<ConnectOptions, 'isLast'>): void {
  if (!/^https?:$/.test(url.protocol)) throw badOption('url', 'must be http: or https:', url);
  if (!isMethod(method)) throw badOption('method', 'must be a method such as POST', options.method);
  checkRequest(options);
  const { lastEventId = '', lastEventIdParameter = 'id' } = options;
  if (!isSendableId(lastEventId))
    throw badOption('lastEventId', idRule, JSON.stringify(lastEventId).slice(0, 80));
  if (typeof lastEventIdParameter !== 'string' || lastEventIdParameter === '')
    throw badOption('lastEventIdParameter', 'must be a name', JSON.stringify(lastEventIdParameter));
  checkTimeout('connectTimeout', options.connectTimeout);
  checkTimeout('silenceTimeout', options.silenceTimeout);
  // Creates a decoder for its checks: they throw now rather than at the first response.
  const { maxLineBytes, maxEventBytes } = options;
  createDecoder({ maxLineBytes, maxEventBytes, onEvent: () => {} });
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
