// Follows a stream as a browser does, and cuts its own connections at moments that follow from a seed.
// Needs `../backoff.ts`, `../checker.ts`, `../decode.ts`, `../failure.ts`, `../protocol.ts`, `../request.ts` and
// `../transport.ts` beside it.

import { Backoff } from '../backoff.ts';
import type { ReaderRecord } from '../checker.ts';
import { createDecoder, type DecodedEvent } from '../decode.ts';
import { type ConnectError, failureOf, isTransient } from '../failure.ts';
import { controlEvents, isSendableId } from '../protocol.ts';
import { type IncomingStream, requestStream } from '../request.ts';
import type { Transport } from '../transport.ts';

export interface CuttingReaderOptions {
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly record: ReaderRecord;
  readonly transport: Transport;
  /** Returns numbers from 0 to 1 that choose the moments. Without it, the reader cuts nothing. */
  readonly random?: (() => number) | undefined;
  /** The id after which it begins; `''`: wherever the server begins. */
  readonly lastEventId?: string | undefined;
  /** Called for each connection that ends otherwise than by a cut. */
  readonly onFailure: (failure: ConnectError) => void;
}

const CONNECT_TIMEOUT = 10_000;
// As long as three heartbeats of most servers. A reader that is silent for longer opens a new connection.
const SILENCE_TIMEOUT = 60_000;
const DELAYS = { minRetryDelay: 0, backoffDelay: 200, maxBackoffDelay: 2000 };
const MAX_SERVER_DELAY = 10_000;
// The moments: how long a connection lives, how many bytes of it are read, how long until the next.
const LONGEST_LIFE = 1500;
const MOST_BYTES = 4096;
const LONGEST_PAUSE = 200;

/** One reader over all its connections. It reports to its record, and judges nothing. */
export class CuttingReader {
  readonly record: ReaderRecord;
  connections = 0;
  cuts = 0;
  failures = 0;
  /** Whether the server ended the stream for good, or refused it in a way that is not retried. */
  isOver = false;
  readonly #options: CuttingReaderOptions;
  readonly #stopped = new AbortController();
  #lastEventId: string;
  #mayCut: boolean;

  constructor(options: CuttingReaderOptions) {
    this.record = options.record;
    this.#options = options;
    this.#lastEventId = options.lastEventId ?? '';
    this.#mayCut = options.random !== undefined;
  }

  /** Lets the connection that is open, or the next one, live. */
  spare(): void {
    this.#mayCut = false;
  }

  stop(): void {
    this.#stopped.abort(new Error('stopped'));
  }

  /** Resolves when the reader is stopped or its stream is over; never rejects. */
  async run(): Promise<void> {
    const backoff = new Backoff(DELAYS);
    const { signal } = this.#stopped;
    while (!signal.aborted && !this.isOver && !this.record.isFull) {
      const before = this.record.events;
      const failure = await this.#connectOnce();
      if (signal.aborted) return;
      const hasDelivered = this.record.events > before;
      backoff.connectionEnded({ age: 0, hasDelivered, isOrderly: false });
      if (failure === undefined) await this.#pause(this.#draw() * LONGEST_PAUSE);
      else {
        this.failures++;
        this.#options.onFailure(failure);
        if (!isTransient(failure)) this.isOver = true;
        else await this.#pause(Math.min(backoff.nextDelay(failure.retryDelay), MAX_SERVER_DELAY));
      }
    }
  }

  /** Resolves with a failure; with `undefined` after a cut, or where the stream is over. */
  async #connectOnce(): Promise<ConnectError | undefined> {
    const { url, headers, transport } = this.#options;
    const controller = new AbortController();
    const abort = (): void => controller.abort(this.#stopped.signal.reason);
    this.#stopped.signal.addEventListener('abort', abort, { once: true });
    if (this.#stopped.signal.aborted) abort();
    try {
      const answer = await requestStream({
        ...{ url, headers, transport, controller, method: 'GET', body: undefined },
        ...{ lastEventId: this.#lastEventId, lastEventIdParameter: undefined },
        ...{ idOrigins: new Set([url.origin]), redirectOrigins: [], connectTimeout: CONNECT_TIMEOUT },
      });
      if ('stream' in answer) return await this.#read(answer.stream, controller);
      if (answer.outcome !== 'over') return answer.outcome;
      this.isOver = true;
      return undefined;
    } finally {
      this.#stopped.signal.removeEventListener('abort', abort);
      controller.abort();
    }
  }

  async #read(stream: IncomingStream, controller: AbortController): Promise<ConnectError | undefined> {
    this.connections++;
    let refusal: DecodedEvent | undefined;
    const decoder = createDecoder({
      lastEventId: this.#lastEventId,
      onEvent: (event) => {
        if (event.event === controlEvents.refused) refusal = event;
        else if (event.event === controlEvents.end) this.isOver = true;
        this.record.take(event);
      },
      onId: (id) => this.record.takeId(id),
    });
    const cut = this.#nextCut();
    const timer = cut.life === undefined ? undefined : setTimeout(() => this.#cutNow(controller), cut.life);
    let silence: NodeJS.Timeout | undefined;
    let left = cut.bytes ?? Infinity;
    try {
      for (;;) {
        silence = setTimeout(() => controller.abort(new Error('the server was silent')), SILENCE_TIMEOUT);
        const next = await stream.next();
        clearTimeout(silence);
        if (next.done || this.isOver) return this.#ended(refusal);
        // The rest of the chunk is lost with the connection, as that of a real one would be.
        const isCut = this.#mayCut && next.value.length >= left;
        decoder.feed(isCut ? next.value.subarray(0, left) : next.value);
        left -= next.value.length;
        this.#keepId(decoder.lastEventId);
        if (isCut) {
          this.cuts++;
          return undefined;
        }
        if (this.record.isFull) return undefined;
      }
    } catch (error) {
      return error === CUT || controller.signal.reason === CUT
        ? undefined
        : failureOf(error, controller.signal);
    } finally {
      clearTimeout(silence);
      clearTimeout(timer);
    }
  }

  /** A server may end a stream at any time: the reader comes back. */
  #ended(refusal: DecodedEvent | undefined): ConnectError | undefined {
    if (this.isOver) return undefined;
    const why = refusal === undefined ? 'the server ended the stream' : 'the server refused the stream';
    return Object.assign(new Error(why), {
      code: refusal ? ('ERR_SSE_REFUSED' as const) : ('ERR_SSE_EOF' as const),
    });
  }

  #keepId(id: string): void {
    if (isSendableId(id)) this.#lastEventId = id;
  }

  #cutNow(controller: AbortController): void {
    if (!this.#mayCut) return;
    this.cuts++;
    controller.abort(CUT);
  }

  /** One in eight before the first event, half within what arrives, the rest after a time. */
  #nextCut(): { readonly life?: number; readonly bytes?: number } {
    if (!this.#mayCut) return {};
    const [kind, size] = [this.#draw(), this.#draw()];
    if (kind < 1 / 16) return { life: 0 };
    if (kind < 1 / 8) return { bytes: 1 + Math.floor(size * 100) };
    if (kind < 5 / 8) return { bytes: 1 + Math.floor(size * MOST_BYTES) };
    return { life: size * LONGEST_LIFE };
  }

  #draw(): number {
    return this.#options.random?.() ?? 0;
  }

  #pause(delay: number): Promise<void> {
    const { signal } = this.#stopped;
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        signal.removeEventListener('abort', done);
        resolve();
      };
      const timer = setTimeout(done, delay);
      signal.addEventListener('abort', done, { once: true });
      if (signal.aborted) done();
    });
  }
}

const CUT = new Error('cut');

/** Random numbers from 0 to 1 that follow from a seed (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
