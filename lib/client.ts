// Reads an event stream for as long as it lasts: reconnects, resumes, and reports lost events.
// Needs `backoff.ts`, `connect-options.ts`, `decode.ts`, `failure.ts`, `positions.ts`, `protocol.ts`, `received.ts`,
// `request.ts`, `transport.ts` and `waits.ts` beside it. Runs in Node, browsers, workers, Deno and Bun.
//
//   for await (const { event, data } of connect('https://example.org/events')) …
//
// How it works: one generator connects, reads a chunk, yields its events one by one, and reads on. It reads
// nothing while an event is processed, so a slow consumer slows the server down and nothing piles up.

import { Backoff } from './backoff.ts';
import {
  type AttemptToSend,
  announcedSilence,
  type ConnectionState,
  type ConnectOptions,
  checkOptions,
  isRepeatable,
  mayFetchFollow,
  methodOf,
  type RelayOptions,
  readURL,
  requestOf,
  type StateChange,
  type URLText,
} from './connect-options.ts';
import { createDecoder, type DecodedEvent, type DecodeError, type Decoder } from './decode.ts';
import {
  type ConnectError,
  failed,
  invalid,
  isOfPosition,
  isTransient,
  notTaken,
  type Outcome,
  refused,
  tooLarge,
  unknownType,
  unsendable,
} from './failure.ts';
import { PositionSaver } from './positions.ts';
import {
  controlEvents,
  type EventId,
  type Gap,
  gapEvent,
  isControlEvent,
  isSendableId,
  parseId,
  readGap,
} from './protocol.ts';
import {
  type Arrived,
  canSkip,
  createIntake,
  type EventMap,
  type EventOf,
  type EventReader,
  isAside,
  isDecodeError,
  type Piece,
  placeOf,
  Received,
  type ReceivedEvent,
} from './received.ts';
import { type IncomingStream, nextChunk, requestStream } from './request.ts';
import { defaultTransport, type Transport } from './transport.ts';
import { onAbort } from './waits.ts';

export type { BackoffOptions } from './backoff.ts';
export type {
  AttemptContext,
  AttemptRequest,
  ConnectionState,
  ConnectOptions,
  HeadersFunction,
  RelayOptions,
  RequestFunction,
  StateChange,
  StreamHead,
  URLText,
} from './connect-options.ts';
export type { ConnectError, ConnectErrorCode } from './failure.ts';
export type { PositionStorage } from './positions.ts';
export type { Gap } from './protocol.ts';
export {
  type EventMap,
  type EventOf,
  type EventReader,
  type Piece,
  type ReceivedEvent,
  readJson,
} from './received.ts';
export type { RequestHeaders, ResponseHeaders } from './transport.ts';

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
export function connect<Events extends object>(
  url: URLText,
  options: ConnectOptions<Events> & { readonly events: EventReader<Events>; readonly onGap?: undefined },
): Connection<Events, EventOf<Events> | ReceivedEvent<(typeof controlEvents)['gap'], Gap>>;
export function connect<Events extends object = EventMap>(
  url: URLText,
  options?: ConnectOptions<Events>,
): Connection<Events>;
export function connect<Events extends object = EventMap>(
  url: URLText,
  options: RelayOptions<Events>,
): Connection<Events, EventOf<Events> | Piece>;
export function connect<Events extends object = EventMap>(
  url: URLText,
  options: ConnectOptions<Events> | RelayOptions<Events> = {},
): Connection<Events, EventOf<Events> | ReceivedEvent<(typeof controlEvents)['gap'], Gap> | Piece> {
  return new Connection(url, options);
}

/** Made by {@link connect}. It can be iterated once. `Item` is what it yields. */
export class Connection<Events extends object = EventMap, Item = EventOf<Events>>
  implements AsyncIterable<Item>
{
  readonly #options: ConnectOptions<Events> | RelayOptions<Events>;
  readonly #url: URL;
  readonly #transport: Transport;
  readonly #connectTimeout: number;
  readonly #backoff: Backoff;
  readonly #saver: PositionSaver | undefined;

  #items: AsyncGenerator<Item, void, undefined> | undefined;
  #state: ConnectionState = 'idle';
  #attempt = 0;
  #closing = false;
  #reconnecting = false;
  // Why the latest attempt ended, and whether the next one may be sent whatever its method is.
  #failure: ConnectError | undefined;
  #mayRepeat = true;
  // Ends the request, the stream or the wait that is under way.
  #interrupt: (() => void) | undefined;
  #serverRetry: number | undefined;
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

  constructor(url: URLText, options: ConnectOptions<Events> | RelayOptions<Events>) {
    this.#url = readURL(url);
    this.#options = options;
    checkOptions(options);
    this.#backoff = new Backoff(options);
    this.#connectTimeout = options.connectTimeout ?? 30_000;
    this.#silenceTimeout = options.silenceTimeout ?? Number.POSITIVE_INFINITY;
    const followRedirects = mayFetchFollow(options);
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

  [Symbol.asyncIterator](): AsyncIterator<Item, void, undefined> {
    if (this.#items !== undefined) throw new TypeError('a connection can be iterated only once');
    const items = this.#run();
    this.#items = items;
    return {
      next: () => items.next(),
      return: () => {
        this.close();
        return items.return();
      },
    };
  }

  /** Ends the connection and the loop. The latest event stays unprocessed, see `commit()`. */
  close(): void {
    this.#closing = true;
    if (this.#state === 'idle') this.#enter({ state: 'closed', attempt: 0 });
    this.#interrupt?.();
  }

  /**
   * Reconnects at once, from the last event ID, whatever the connection waits for: as where a device has woken
   * up, or has another network. Events that have arrived are yielded first. A POST is sent again. Before the
   * first attempt and after the last one it does nothing.
   */
  reconnect(): void {
    if (this.#state === 'idle' || this.#state === 'closed') return;
    this.#reconnecting = true;
    this.#mayRepeat = true;
    this.#backoff.reset();
    this.#interrupt?.();
  }

  /** Counts the latest event as processed now. Resolves once its position is stored. */
  async commit(): Promise<void> {
    this.#markProcessed();
    await this.#saver?.flush();
  }

  async *#run(): AsyncGenerator<Item, void, undefined> {
    const { signal } = this.#options;
    let stopListening: (() => void) | undefined;
    let failure: ConnectError | undefined;
    try {
      if (signal?.aborted) throw signal.reason;
      stopListening = signal && onAbort(signal, () => this.close());
      await this.#load();
      while (!this.#closing) {
        const request = await this.#begin();
        if (request === undefined) continue;
        const held = this.#heldBack(request.method);
        const outcome = held ?? (yield* this.#send(request));
        if (this.#closing || outcome === 'over') break;
        // What `reconnect` has ended has not failed.
        this.#failure = this.#reconnecting ? undefined : outcome;
        if (this.#reconnecting) continue;
        const isRetried = held === undefined && this.#shouldRetry(outcome);
        // `shouldRetry` may have closed the connection, or called `reconnect()`.
        if (this.#closing) break;
        if (this.#reconnecting) continue;
        if (!isRetried) {
          if (outcome.code === 'ERR_SSE_EOF' && this.#options.isLast === undefined) break;
          failure = outcome;
          throw outcome;
        }
        await this.#waitAfter(outcome);
      }
      if (signal?.aborted) throw signal.reason;
    } finally {
      stopListening?.();
      this.#closing = true;
      this.#enter({ state: 'closed', attempt: this.#attempt, failure });
      await this.#saver?.flush();
    }
  }

  // Returns `undefined` when the connection is closed, or told to reconnect, before the request is known.
  async #begin(): Promise<AttemptToSend | undefined> {
    this.#reconnecting = false;
    this.#enter({ state: 'connecting', attempt: ++this.#attempt });
    const { request, headers, method, body } = this.#options;
    const context = { attempt: this.#attempt, lastEventId: this.#position, failure: this.#failure };
    const common =
      typeof headers === 'function' ? await this.#beforeInterrupt(() => headers(context)) : headers;
    const given = request ? await this.#beforeInterrupt(() => request(context)) : { method, body };
    if (this.#closing || this.#reconnecting) return undefined;
    return requestOf(this.#url, common, given);
  }

  // A POST is sent again only where the caller says so: otherwise the failure before is the end.
  #heldBack(method: string): ConnectError | undefined {
    return this.#mayRepeat || isRepeatable(method) ? undefined : this.#failure;
  }

  async *#send({ url, method, headers, body }: AttemptToSend): AsyncGenerator<Item, Outcome, undefined> {
    const begun = performance.now();
    const controller = new AbortController();
    this.#interrupt = () => controller.abort();
    try {
      const request = {
        url,
        method,
        headers,
        body,
        lastEventId: this.#position,
        lastEventIdParameter: this.#options.lastEventIdParameter,
        idOrigins: this.#idOrigins,
        redirectOrigins: this.#options.redirectOrigins ?? [],
        connectTimeout: this.#connectTimeout,
        transport: this.#transport,
        controller,
      };
      let answer = await requestStream(request);
      const mayAskAgain = this.#position !== '' && isRepeatable(method);
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

  // Takes the stored position, where a request can carry it: anybody may have written to the storage.
  async #load(): Promise<void> {
    const saver = this.#saver;
    const stored = saver && (await this.#beforeInterrupt<unknown>(() => saver.load()));
    if (stored === undefined) return;
    if (isSendableId(stored)) this.#position = stored;
    else {
      this.#report(unsendable('the stored position', stored));
      if (this.#position === '') this.#lost = { reason: 'unsendable', from: null };
    }
  }

  #beforeClose(pending: () => void | Promise<void>): Promise<void> {
    return this.#beforeInterrupt(pending, () => this.#closing);
  }

  // Resolves also when the connection is closed before, or told to reconnect.
  async #beforeInterrupt<Value>(
    pending: () => Value | Promise<Value>,
    isOver = (): boolean => this.#closing || this.#reconnecting,
  ): Promise<Value | undefined> {
    const interrupt = this.#interrupt;
    if (isOver()) return undefined;
    try {
      const interrupted = new Promise<undefined>((resolve) => {
        this.#interrupt = () => {
          interrupt?.();
          if (isOver()) resolve(undefined);
        };
      });
      return await Promise.race([pending(), interrupted]);
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
  ): AsyncGenerator<Item, Outcome, undefined> {
    this.#hasDelivered = false;
    await this.#open(stream);
    const { maxLineBytes, maxEventBytes, onComment, events, isLast, relay = false } = this.#options;
    const intake = createIntake({
      relay,
      onComment,
      onRetry: (ms) => {
        this.#serverRetry = ms;
      },
    });
    const limits = { maxLineBytes, maxEventBytes, lastEventId: this.#position };
    const decoder = createDecoder({ ...limits, ...intake.handlers });
    for (;;) {
      const failure = await this.#feed(decoder, stream, controller);
      for (const item of intake.take()) {
        if (this.#closing) return 'over';
        if (this.#idOrigins.size > MAX_ID_ORIGINS) this.#idOrigins.clear();
        if (item.id) this.#idOrigins.add(stream.url.origin);
        if (this.#lost && !isAside(item))
          yield* this.#takeOwnGap({ ...this.#lost, to: placeOf(item), topics: [] });
        if (this.#closing) return 'over';
        if (item.event === undefined) {
          const failure = yield* this.#takeOther(item);
          if (failure === undefined) continue;
          return failure;
        }
        const event = new Received(item) as Received & EventOf<Events>;
        const isControl = isControlEvent(item.event);
        const newest = this.#newest;
        const isNew = isControl ? await this.#takeControl(item) : !this.#isRepeated(item);
        const isOfLoop = isControl || events === undefined || (isNew && (await this.#check(event, events)));
        if (typeof isOfLoop === 'object') {
          this.#newest = newest; // or it would count as a repetition when it comes again
          return isOfLoop;
        }
        const isWanted = isNew && isOfLoop;
        // What `onGap` or `onInvalid` has not finished is not processed.
        if (this.#closing) return 'over';
        if (isWanted && !isControl) this.#hasDelivered = true;
        this.#yieldedPosition = item.lastEventId;
        if (isWanted) yield event as Item;
        // The event is of this connection alone; its position is not.
        else if (relay && isControl && item.id !== undefined)
          yield { id: item.id, retry: item.retry } as Item;
        // The loop has asked for the next event, so this one was processed.
        this.#markProcessed();
        const mayBeLast = isWanted && (events === undefined || !isControl);
        if (item.event === controlEvents.end || (mayBeLast && isLast?.(event))) return 'over';
        if (item.event === controlEvents.refused) return refused(item.data);
      }
      if (failure === undefined) continue;
      if (!isDecodeError(failure)) return failure;
      // The connection ended within the event. The next one can begin after it, unless it brings it again.
      if (!canSkip(failure) || failure.id === this.#hugeId) return tooLarge(failure, this.#position);
      this.#hugeId = failure.id;
      yield* this.#skip(failure, failure.id);
      return failed('ERR_SSE_NETWORK', 'left the connection within an event that is too large');
    }
  }

  // Returns whether the loop gets the event, or the failure of one that does not fit.
  async #check(event: Received, events: EventReader<Events>): Promise<boolean | ConnectError> {
    if (!events.has(event.event)) {
      this.#report(unknownType(event));
      return false;
    }
    const error = event.read(events);
    if (error === undefined) return true;
    const failure = invalid(error, event);
    const { onInvalid } = this.#options;
    if (onInvalid === undefined) return failure;
    await this.#beforeClose(() => onInvalid(failure, event));
    return false;
  }

  async #open({ url, status, headers }: IncomingStream): Promise<void> {
    const place = { attempt: this.#attempt, url: url.href };
    this.#enter({ state: 'open', ...place });
    const { onOpen } = this.#options;
    if (onOpen) await this.#beforeInterrupt(() => onOpen({ ...place, status, headers }));
  }

  // Takes what is no event: an id, which is processed at once unless a relay gets it, and what a limit dropped.
  async *#takeOther(item: Arrived): AsyncGenerator<Item, ConnectError | undefined, undefined> {
    if (isAside(item)) {
      yield item as Item;
      return undefined;
    }
    if ('code' in item) {
      if (!canSkip(item)) return tooLarge(item, this.#position);
      yield* this.#skip(item, item.id);
      return undefined;
    }
    this.#yieldedPosition = item.id;
    if (this.#options.relay) yield item as Item;
    this.#markProcessed();
    return undefined;
  }

  async *#skip(error: DecodeError, id: string): AsyncGenerator<Item, void, undefined> {
    if (this.#isRepeated({ id })) return;
    this.#report(tooLarge(error, this.#position));
    const from = this.#position === '' ? null : this.#position;
    yield* this.#takeOwnGap({ reason: 'too-large', from, to: id, topics: [] });
  }

  // Hands on a gap that the server does not know of, in the way of the server's.
  async *#takeOwnGap(gap: Gap): AsyncGenerator<Item, void, undefined> {
    this.#lost = undefined;
    const item = { ...gapEvent(gap.to, gap), id: gap.to || undefined, lastEventId: gap.to };
    const isWanted = await this.#takeControl(item);
    if (this.#closing) return;
    this.#yieldedPosition = gap.to;
    if (isWanted) yield new Received(item) as Item;
    this.#markProcessed();
  }

  async #feed(
    decoder: Decoder,
    stream: IncomingStream,
    controller: AbortController,
  ): Promise<ConnectError | DecodeError | undefined> {
    const next = await nextChunk(stream, this.#silenceTimeout, controller);
    if ('code' in next) return next;
    try {
      if (!next.done) decoder.feed(next.value);
      else if (this.#options.dispatchAtEnd) decoder.end();
    } catch (error) {
      // What `onComment` throws, the loop throws.
      if (!isDecodeError(error)) throw error;
      return error;
    }
    return next.done ? failed('ERR_SSE_EOF', 'the server ended the stream') : undefined;
  }

  // Returns whether to yield the event.
  async #takeControl(event: DecodedEvent): Promise<boolean> {
    const { onGap, controlEvents: areWanted = false } = this.#options;
    switch (event.event) {
      case controlEvents.ready: {
        const position = parseId(event.id);
        if (position !== undefined && position.epoch !== this.#newest?.epoch) this.#newest = position;
        if (this.#options.silenceTimeout === undefined) this.#silenceTimeout = announcedSilence(event.data);
        return areWanted;
      }
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

  // Delivery continues at the id of the gap, which may lie before events that have arrived: they are sent
  // again, and count as new.
  async #takeGap({ id, data, lastEventId }: DecodedEvent): Promise<void> {
    this.#newest = parseId(id) ?? this.#newest;
    const { onGap } = this.#options;
    if (onGap) await this.#beforeClose(() => onGap(readGap(data, lastEventId)));
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
    const { shouldRetry, request, method, body } = this.#options;
    const answer = shouldRetry?.(failure, { attempt: this.#attempt });
    this.#mayRepeat = answer === true || this.#reconnecting;
    if (answer !== undefined) return answer;
    // Where a function makes the request, the next one decides: see `#heldBack`.
    return isTransient(failure) && (request !== undefined || isRepeatable(methodOf({ method, body })));
  }

  async #waitAfter(failure: ConnectError): Promise<void> {
    const delay = this.#backoff.nextDelay(this.#serverRetry, failure.retryDelay);
    this.#enter({ state: 'waiting', attempt: this.#attempt, failure, delay });
    if (this.#closing || this.#reconnecting) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, delay);
      this.#interrupt = () => resolve(clearTimeout(timer));
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
