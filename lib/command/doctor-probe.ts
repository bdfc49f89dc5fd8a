// Follows one event stream for a while, as a browser does, and notes what arrives when.
// Needs `../decode.ts`, `../failure.ts`, `../protocol.ts`, `../request.ts` and `../transport.ts` beside it.

import { type AgentOptions, Agent as HttpsAgent } from 'node:https';
import { createDecoder, type DecodedEvent, type Decoder } from '../decode.ts';
import { type ConnectError, failureOf } from '../failure.ts';
import {
  controlEvents,
  type Gap,
  isControlEvent,
  isSendableId,
  type Ready,
  type Refused,
  readGap,
  readReady,
  readRefused,
} from '../protocol.ts';
import { type IncomingStream, requestStream } from '../request.ts';
import { http2Transport, nodeTransport, type ResponseHeaders, type Transport } from '../transport.ts';

/** The head of a response. */
export interface Head {
  readonly status: number;
  readonly headers: ResponseHeaders;
  readonly httpVersion: string;
  /** Milliseconds from the request. */
  readonly at: number;
}

/** What arrived without a pause. Times are in milliseconds from the request. */
export interface Burst {
  readonly from: number;
  readonly to: number;
  readonly bytes: number;
  readonly events: number;
  /** Comments. */
  readonly beats: number;
  /** Whether it ends within a line. */
  readonly isTorn: boolean;
}

export interface ProbeOptions {
  readonly url: URL;
  /** Those of the user. A request that has any follows no redirect to another origin. */
  readonly headers: Readonly<Record<string, string>>;
  /** Milliseconds after which the probe leaves. */
  readonly time: number;
  /** Ends the probe early; what has arrived until then is kept. */
  readonly signal: AbortSignal;
  readonly acceptEncoding?: string | undefined;
  readonly lastEventId?: string | undefined;
  /** The origin that has sent `lastEventId`, where a redirect leads to it. */
  readonly idOrigin?: string | undefined;
  /** Called when the head of the stream and each chunk of it has arrived. */
  readonly onChange?: (() => void) | undefined;
}

/** What no stream can make a probe exceed: it leaves then. */
const MAX_BYTES = 64 * 1024 * 1024;
const MAX_BURSTS = 20_000;
const MAX_IDS = 5000;
const MAX_STALLS = 1000;
/** Chunks that are closer together than this belong to one burst. */
const PAUSE = 30;
/** Chunks that are closer together than this were sent together. */
const PIECE = 5;
const MAX_PIECES = 5000;
const TICK = 50;
/** How many of the first characters are kept. */
const BEGINNING = 80;
const BLANK_LINE = /(?:\n\n|\r\r|\r\n\r\n)$/;
const COMMENTS = /^:.*(?:(?:\r\n|\n|\r):.*)*/gm;

/** One connection, what arrived on it, and how it ended. */
export class Probe {
  /** Of the last response, after all redirects. */
  head: Head | undefined;
  /** Of the last request, after all redirects. */
  url: URL;
  readonly bursts: Burst[] = [];
  /** How many events and comments each of the first pieces had: chunks that arrived together are one. */
  readonly pieces: number[] = [];
  events = 0;
  /** Comments; lines of them that follow each other directly are one. */
  beats = 0;
  bytes = 0;
  /** Whether a block had a meaning for a reader: an event, a comment, an id or `retry`. */
  hasDispatched = false;
  /** The first characters that arrived. */
  beginning = '';
  /** Of the application's events, those from which a reader can resume; the first 5,000. */
  readonly ids: string[] = [];
  /** The first position, of whichever event. */
  firstId: string | undefined;
  ready: (Ready & { readonly id: string | undefined }) | undefined;
  gap: Gap | undefined;
  refused: Refused | undefined;
  /** What the stream said of its source, where that has failed. */
  sourceError: string | undefined;
  /** Whether the stream has said that it is over. */
  isOver = false;
  /** Events that were larger than a reader takes. */
  tooLarge = 0;
  /** Why there was no stream, or why it broke off; `'over'` for a 204. */
  failure: ConnectError | 'over' | undefined;
  /** When the server, or something on the way, ended the stream. */
  endedAt: number | undefined;
  /** The longest time in which this process could not read, in milliseconds: it is no pause of the stream. */
  lag = 0;
  /** Whether more arrived than the probe keeps. */
  isFull = false;
  /** By `performance.now()`. */
  readonly began: number = performance.now();
  readonly #options: ProbeOptions;
  readonly #controller = new AbortController();

  /** When this process could not read, for longer than a tick. */
  readonly #stalls: { readonly from: number; to: number }[] = [];
  #stoppedAt: number | undefined;
  /** Of the newest chunk. */
  #commentLines = 0;
  /** The last characters of the newest burst. */
  #tail = '';

  constructor(options: ProbeOptions) {
    this.#options = options;
    this.url = options.url;
  }

  /** Milliseconds from the request to its end, or to now. */
  get age(): number {
    return this.endedAt ?? this.#stoppedAt ?? this.#now();
  }

  get isStopped(): boolean {
    return this.#stoppedAt !== undefined;
  }

  /** The longest time in which nothing arrived, from the head to the end. */
  get longestSilence(): number {
    const { head, age } = this;
    if (head === undefined) return age;
    const ends = [...this.bursts.map(({ from }) => from), age];
    const begins = [head.at, ...this.bursts.map(({ to }) => to)];
    return ends.reduce((longest, end, i) => Math.max(longest, end - begins[i]!), 0);
  }

  /** The longest time between two moments in which this process could not read. */
  lagWithin(begin: number, end: number): number {
    const within = this.#stalls.filter(({ from, to }) => from < end && to > begin);
    return within.reduce((longest, { from, to }) => Math.max(longest, to - from), 0);
  }

  /** Leaves. */
  stop(): void {
    if (this.endedAt !== undefined || this.isStopped) return;
    this.#stoppedAt = this.#now();
    this.#controller.abort(new Error('stopped'));
  }

  /** Resolves when the stream has ended or the probe has left; never rejects. */
  async run(): Promise<void> {
    const { time, signal } = this.#options;
    const stop = (): void => this.stop();
    const timer = setTimeout(stop, time);
    const clock = this.#watchClock();
    signal.addEventListener('abort', stop, { once: true });
    if (signal.aborted) stop();
    try {
      await this.#follow();
    } catch (error) {
      if (!this.isStopped) this.failure = failureOf(error, this.#controller.signal);
    } finally {
      if (!this.isStopped) this.endedAt = this.#now();
      clearTimeout(timer);
      clearInterval(clock);
      signal.removeEventListener('abort', stop);
      this.#controller.abort();
    }
  }

  #watchClock(): NodeJS.Timeout {
    let due = this.#now() + TICK;
    return setInterval(() => {
      const now = this.#now();
      this.lag = Math.max(this.lag, now - due);
      if (now - due > TICK) this.#noteStall(due, now);
      due = now + TICK;
    }, TICK);
  }

  /** The last of too many goes on: what falls into it is then held for no pause of the stream. */
  #noteStall(from: number, to: number): void {
    const last = this.#stalls[MAX_STALLS - 1];
    if (last === undefined) this.#stalls.push({ from, to });
    else last.to = to;
  }

  async #follow(): Promise<void> {
    const { url, headers, time, lastEventId = '', idOrigin = url.origin } = this.#options;
    const answer = await requestStream({
      ...{ url, headers, method: 'GET', body: undefined },
      ...{ lastEventId, lastEventIdParameter: undefined, idOrigins: new Set([url.origin, idOrigin]) },
      ...{
        redirectOrigins: [],
        connectTimeout: time,
        transport: this.#transport,
        controller: this.#controller,
      },
    });
    if ('stream' in answer) await this.#read(answer.stream);
    else if (!this.isStopped) this.failure = answer.outcome;
  }

  readonly #transport: Transport = async (request) => {
    const { acceptEncoding = 'gzip, deflate, br' } = this.#options;
    const headers = { ...browserHeaders, 'accept-encoding': acceptEncoding, ...request.headers };
    this.head = undefined;
    this.url = new URL(request.url);
    const response = await sent({ ...request, headers });
    const { status, headers: answered, httpVersion = '' } = response;
    this.head = { status, headers: answered, httpVersion, at: this.#now() };
    return response;
  };

  async #read(stream: IncomingStream): Promise<void> {
    const { lastEventId, onChange } = this.#options;
    const decoder = createDecoder({
      lastEventId,
      onEvent: (event) => this.#takeEvent(event),
      onComment: () => this.#commentLines++,
      onId: (id) => this.#takeId(id),
      onRetry: () => {
        this.hasDispatched = true;
      },
      onTooLarge: () => this.tooLarge++,
    });
    onChange?.();
    while (!this.isFull) {
      const { done, value } = await stream.next();
      if (done) return;
      this.#takeChunk(value, decoder);
      onChange?.();
    }
    this.stop();
  }

  #takeChunk(chunk: Uint8Array, decoder: Decoder): void {
    const at = this.#now();
    const { events, beats } = this;
    const before = this.bursts.at(-1);
    const isNew = before === undefined || at - before.to > PAUSE;
    this.#commentLines = 0;
    decoder.feed(chunk);
    this.#countBeats(chunk, isNew);
    this.bytes += chunk.length;
    if (this.beginning.length < BEGINNING)
      this.beginning += Buffer.from(chunk.subarray(0, BEGINNING)).toString();
    const sum = isNew ? { from: at, bytes: 0, events: 0, beats: 0 } : before;
    this.#countPiece(
      before === undefined ? Infinity : at - before.to,
      this.events - events + this.beats - beats,
    );
    const last = chunk.at(-1);
    const burst = {
      from: sum.from,
      to: at,
      bytes: sum.bytes + chunk.length,
      events: sum.events + this.events - events,
      beats: sum.beats + this.beats - beats,
      isTorn: last !== 10 && last !== 13,
    };
    if (isNew) this.bursts.push(burst);
    else this.bursts[this.bursts.length - 1] = burst;
    this.isFull = this.bytes > MAX_BYTES || this.bursts.length >= MAX_BURSTS;
  }

  #countPiece(pause: number, count: number): void {
    const { pieces } = this;
    if (pause < PIECE) pieces[pieces.length - 1]! += count;
    else if (pieces.length < MAX_PIECES) pieces.push(count);
  }

  /** A heartbeat may have several lines, and may be written line by line: it is one all the same. */
  #countBeats(chunk: Uint8Array, isNew: boolean): void {
    const isWithinBlock = !isNew && !BLANK_LINE.test(this.#tail);
    this.#tail = (isNew ? '' : this.#tail) + latin1(chunk.subarray(-4));
    this.#tail = this.#tail.slice(-4);
    if (this.#commentLines === 0) return;
    this.hasDispatched = true;
    const text = latin1(chunk);
    const count = Math.max(1, text.match(COMMENTS)?.length ?? 0);
    this.beats += isWithinBlock && text.startsWith(':') ? count - 1 : count;
  }

  #takeEvent({ event, data, id }: DecodedEvent): void {
    this.hasDispatched = true;
    if (id !== undefined) this.#takeId(id);
    if (!isControlEvent(event)) {
      this.events++;
      if (id !== undefined && isSendableId(id) && this.ids.length < MAX_IDS) this.ids.push(id);
    } else if (event === controlEvents.error) this.sourceError = readRefused(data).message || 'no reason';
    else if (event === controlEvents.ready) this.ready = { ...readReady(data), id };
    else if (event === controlEvents.gap) this.gap ??= readGap(data, id ?? '');
    else if (event === controlEvents.refused) this.refused = readRefused(data);
    else if (event === controlEvents.end) this.isOver = true;
  }

  #takeId(id: string): void {
    this.hasDispatched = true;
    if (id !== '' && isSendableId(id)) this.firstId ??= id;
  }

  #now(): number {
    return performance.now() - this.began;
  }
}

function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1');
}

/** Over HTTP/1.1, and over HTTP/2 where the server has nothing else. */
const sent: Transport = async (request) => {
  if (request.url.protocol !== 'https:') return nodeTransport()(request);
  // Without this list, a server that has nothing but HTTP/2 answers in ways that hide it.
  const agent = new HttpsAgent({ ALPNProtocols: ['http/1.1'], proxyEnv: process.env } as AgentOptions);
  try {
    return await nodeTransport({ agent })(request);
  } catch (error) {
    if (!codeOf(error).includes('NO_APPLICATION_PROTOCOL')) throw error;
    return http2Transport()(request);
  }
};

/** The code of an error of the system, Node or OpenSSL; of the last one, Node often has only the text. */
export function codeOf(error: unknown): string {
  const { code, message } = Object(error) as { readonly code?: unknown; readonly message?: unknown };
  if (code !== 'EPROTO') return String(code ?? '');
  return String(message).toUpperCase().replaceAll(' ', '_');
}

/** A browser's EventSource sends these; servers answer it otherwise than a program, where they refuse. */
export const browserHeaders: Readonly<Record<string, string>> = {
  'cache-control': 'no-cache',
  'user-agent': 'Mozilla/5.0 (compatible; sluice doctor)',
};

/** The head of the answer to a request without a stream, such as HEAD; `undefined` where none comes in time. */
export async function headOf(
  url: URL,
  method: string,
  headers: Readonly<Record<string, string>>,
  signal: AbortSignal,
  time: number,
): Promise<Head | undefined> {
  const controller = new AbortController();
  const stop = (): void => controller.abort(new Error('stopped'));
  const timer = setTimeout(stop, time);
  signal.addEventListener('abort', stop, { once: true });
  const began = performance.now();
  try {
    signal.throwIfAborted();
    const request = { url, method, headers: { ...browserHeaders, ...headers }, body: undefined };
    const response = await sent({ ...request, signal: controller.signal });
    const { status, headers: answered, httpVersion = '' } = response;
    return { status, headers: answered, httpVersion, at: performance.now() - began };
  } catch {
    return undefined;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', stop);
    controller.abort();
  }
}
