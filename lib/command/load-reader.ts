// Holds one stream of a load open: counts what arrives, and resumes after a cut.
// Needs `../backoff.ts`, `../decode.ts`, `../failure.ts`, `../protocol.ts`, `../request.ts`, `../transport.ts`,
// `load-ids.ts` and `load-tally.ts` beside it.

import { Backoff } from '../backoff.ts';
import { createDecoder, type DecodedEvent, type Decoder } from '../decode.ts';
import { type ConnectError, failed, failureOf, isTransient, refused } from '../failure.ts';
import { controlEvents, isControlEvent, isSendableId, parseId, readGap } from '../protocol.ts';
import { type IncomingStream, requestStream } from '../request.ts';
import type { Transport } from '../transport.ts';
import type { StreamRecord } from './load-ids.ts';
import { countIn, type Tally } from './load-tally.ts';

export interface LoadReaderOptions {
  readonly url: URL;
  /** Must not be empty: with any header, `requestStream` follows no redirect to another origin. */
  readonly headers: Readonly<Record<string, string>>;
  readonly transport: Transport;
  readonly tally: Tally;
  readonly record: StreamRecord;
  /** Calls back once a request may be sent; each request but the first one waits for it. */
  readonly admit: (send: () => void) => void;
  /** Called when a request has its answer or has failed. */
  readonly onAnswered: (isFirst: boolean) => void;
}

const CONNECT_TIMEOUT = 10_000;
// Random parts that are shorter than those of `connect`, for loads of a few seconds.
const DELAYS = { backoffDelay: 200, maxBackoffDelay: 2000 };
/** That of browsers, where the server asks for none. */
const RETRY = 3000;
const PATIENCE = 1000;

/** One stream over all its connections. */
export class LoadReader {
  readonly record: StreamRecord;
  isOpen = false;
  /** Whether the server has ended the stream for good, in a regular way. */
  isOver = false;
  /** Whether it was refused in a way that is not tried again. */
  isRefused = false;
  readonly #options: LoadReaderOptions;
  readonly #tally: Tally;
  readonly #backoff = new Backoff(DELAYS);
  #controller = new AbortController();
  #isStopped = false;
  #wake = (): void => {};
  #openings = 0;
  #isAnswered = false;
  /** Whether a request waits for its answer. */
  #isAsking = false;
  /** Whether the newest request brought no stream. */
  #isTurnedAway = false;
  #events = 0;
  #lastEventId = '';
  #retry = RETRY;
  /** By `performance.now()`. */
  #began = 0;
  #lastArrival: number | undefined;

  constructor(options: LoadReaderOptions) {
    this.#options = options;
    this.#tally = options.tally;
    this.record = options.record;
  }

  /**
   * Whether it has no stream, and not only because it is about to come back: it was refused, or its newest
   * request failed or has waited for more than a second.
   */
  get hasFailed(): boolean {
    if (this.isOpen || this.isOver) return false;
    const isLate = this.#isAsking && performance.now() - this.#began > PATIENCE;
    return this.isRefused || this.#isTurnedAway || isLate;
  }

  /** Whether its first request waits for an answer, and has not waited for so long that it has failed. */
  get isUnanswered(): boolean {
    return !this.#isAnswered && !this.hasFailed;
  }

  stop(): void {
    this.#isStopped = true;
    this.#controller.abort(new Error('stopped'));
    this.#wake();
  }

  /** Resolves when the reader is stopped, or its stream is over or refused; never rejects. */
  async run(): Promise<void> {
    while (!this.#isStopped && !this.isOver && !this.isRefused) {
      const before = this.#events;
      const failure = await this.#connectOnce();
      if (this.#isStopped || failure === undefined) return;
      this.#countFailure(failure);
      this.#backoff.connectionEnded({ age: 0, hasDelivered: this.#events > before, isOrderly: false });
      if (!isTransient(failure)) this.isRefused = true;
      else await this.#pause(this.#backoff.nextDelay(failure.retryDelay ?? this.#retry));
    }
  }

  #countFailure({ code, status, message, reason }: ConnectError): void {
    const tally = this.#tally;
    tally.lastFailure = message;
    if (code === 'ERR_SSE_STATUS') countIn(tally.refused, String(status));
    else if (code === 'ERR_SSE_REFUSED') countIn(tally.refused, reason ?? 'unknown');
    else countIn(tally.failures, code);
  }

  /** Resolves with a failure; with `undefined` where the stream is over. */
  async #connectOnce(): Promise<ConnectError | undefined> {
    const { url, headers, transport } = this.#options;
    const controller = new AbortController();
    this.#controller = controller;
    this.#began = performance.now();
    this.#isAsking = true;
    try {
      const answer = await requestStream({
        ...{ url, headers, transport, controller, method: 'GET', body: undefined },
        ...{ lastEventId: this.#lastEventId, lastEventIdParameter: undefined },
        ...{ idOrigins: new Set([url.origin]), redirectOrigins: [], connectTimeout: CONNECT_TIMEOUT },
      });
      this.#isAsking = false;
      this.#isTurnedAway = !('stream' in answer);
      const isFirst = !this.#isAnswered;
      this.#isAnswered = true;
      this.#options.onAnswered(isFirst);
      if ('stream' in answer) return await this.#read(answer.stream, controller);
      if (answer.outcome !== 'over') return answer.outcome;
      this.isOver = true;
      return undefined;
    } finally {
      controller.abort();
    }
  }

  async #read(stream: IncomingStream, { signal }: AbortController): Promise<ConnectError | undefined> {
    let refusal: ConnectError | undefined;
    const decoder = createDecoder({
      lastEventId: this.#lastEventId,
      onEvent: (event) => {
        if (event.event === controlEvents.refused) refusal = refused(event.data);
        else this.#takeEvent(event);
      },
      onRetry: (delay) => {
        this.#retry = delay;
      },
      onTooLarge: () => this.#tally.tooLarge++,
    });
    try {
      this.#opened();
      for (let next = await stream.next(); !next.done && refusal === undefined; next = await stream.next())
        this.#takeChunk(next.value, decoder);
    } catch (error) {
      return failureOf(error, signal);
    } finally {
      this.#closed(decoder, refusal !== undefined);
    }
    if (refusal !== undefined) return refusal;
    return this.isOver ? undefined : failed('ERR_SSE_EOF', 'the server ended the stream');
  }

  #takeChunk(chunk: Uint8Array, decoder: Decoder): void {
    this.#tally.bytes += chunk.length;
    decoder.feed(chunk);
  }

  #opened(): void {
    const tally = this.#tally;
    this.isOpen = true;
    tally.open++;
    this.#lastArrival = undefined;
    if (this.#openings++ > 0) {
      tally.reconnects++;
      return;
    }
    tally.opened++;
    tally.lastOpened = performance.now();
    tally.head.record(tally.lastOpened - this.#began);
  }

  #closed({ lastEventId }: Decoder, isRefused: boolean): void {
    const tally = this.#tally;
    this.isOpen = false;
    tally.open--;
    if (isSendableId(lastEventId)) this.#lastEventId = lastEventId;
    if (!isRefused) {
      if (!this.#isStopped && !this.isOver) tally.disconnects++;
      return;
    }
    // A refusal within a stream is no stream.
    this.#isTurnedAway = true;
    if (--this.#openings > 0) tally.reconnects--;
    else tally.opened--;
  }

  #takeEvent({ event, data, id }: DecodedEvent): void {
    const place = parseId(id);
    if (!isControlEvent(event)) this.#takeOwn(data, place);
    else if (event === controlEvents.end) this.isOver = true;
    else if (event === controlEvents.ready && place !== undefined) this.record.ready(place);
    else if (event === controlEvents.gap) {
      this.#tally.gaps++;
      this.record.gap(parseId(readGap(data, id ?? '').to) ?? place);
    }
  }

  /** An event of the application. */
  #takeOwn(data: string, place: ReturnType<typeof parseId>): void {
    const tally = this.#tally;
    const now = performance.now();
    tally.events++;
    if (this.#events++ === 0) tally.firstEvent.record(now - this.#began);
    if (this.#lastArrival !== undefined) tally.interArrival.record(now - this.#lastArrival);
    this.#lastArrival = now;
    tally.takeTime(data);
    if (place === undefined) tally.withoutId++;
    else this.record.take(place);
  }

  /** Until the delay is over, and the next request may be sent. */
  async #pause(delay: number): Promise<void> {
    if (this.#isStopped) return;
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      timer = setTimeout(() => this.#options.admit(resolve), delay);
    });
    clearTimeout(timer);
  }
}
