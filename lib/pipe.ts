// Sends what a generator, a Readable or a ReadableStream yields to one stream, as fast as its client reads.
// Needs `encode.ts`, `protocol.ts` and `source.ts` beside it.

import { encode, type ServerSentEvent } from './encode.ts';
import { controlEvents } from './protocol.ts';
import { checkYielded, isUntyped, iteratorOf, stopSource, WholeText } from './source.ts';

/**
 * Generators, arrays, a `Readable` of strings or events, a `ReadableStream` of them. The events of `decode`
 * and `connect` are sent on as they came, also those without a type.
 */
export type PipeSource<Value = ServerSentEvent | string> = AsyncIterable<Value> | Iterable<Value>;

/** One event, or several in order, or none. */
export type PipedEvents = ServerSentEvent | readonly ServerSentEvent[];

export interface PipeOptions<Value = ServerSentEvent | string> {
  /**
   * Makes events of what the source yields; by default a string is an event's data, and anything else must be
   * an event. Gets strings with whole characters only. Where it throws, the source counts as failed.
   */
  event?: ((value: Value) => PipedEvents) | undefined;
  /**
   * The last event after the end of the source; default `sluice:end` with data `{}`. It tells a finished
   * stream from a broken one. `null`: none, for a source that has its own. A function is called once the
   * source has ended; where it throws, the source counts as failed.
   */
  end?: ServerSentEvent | null | (() => PipedEvents) | undefined;
  /**
   * Makes the last event when the source fails; by default `sluice:error`, whose data does not reveal the
   * error. A result of `null`: none.
   */
  error?: ((error: unknown) => ServerSentEvent | null) | undefined;
}

/** Options for a source that yields values of its own, such as the chunks of a language model. */
export interface PipeDialect<Value> extends PipeOptions<Value> {
  event: (value: Value) => PipedEvents;
}

/** The members of a stream that are used. `EventStream` has them. */
export interface PipeTarget<Reason> {
  /** True once nothing more can be written. */
  readonly closed: boolean;
  /** True while the client takes no more. */
  readonly writableNeedDrain: boolean;
  /** Resolves with the reason when the stream is closed. */
  readonly done: Promise<Reason>;
  /** Waits until the client takes more, or the stream is closed. */
  ready(): Promise<unknown>;
  /** Writes the text at the end of this tick, together with all other text that was queued in it. */
  queueText(text: string): void;
  /** Writes what is queued, then ends the stream. */
  end(reason: 'ended' | 'error', cause?: unknown): void;
}

/**
 * Sends what a source yields, then one last event, then ends the stream. A string is sent as an event's data,
 * unless the option `event` makes something else of it. Where a string ends in the first half of a character (a surrogate), that half is sent with the next string;
 * a half without its other half arrives as U+FFFD. In an event that the source has made it is an error.
 * Waits for the client where it is slow; what the source yields without waiting goes out in one write.
 *
 * When the stream closes first, the source is stopped: through `iterator.return()`, a `Readable` through
 * `destroy()`, a `ReadableStream` through `cancel()`. A generator that is blocked in an `await` notices none
 * of these, so let it listen to `stream.signal`. When the source fails, the last event says so, the reason is
 * `error`, and the failure is the stream's `cause`.
 *
 * Never rejects; resolves with the reason for which the stream closed.
 */
export function pipe<Reason, Value>(
  target: PipeTarget<Reason>,
  source: PipeSource<Value>,
  dialect: PipeDialect<Value>,
): Promise<Reason>;
export function pipe<Reason>(
  target: PipeTarget<Reason>,
  source: PipeSource,
  options?: PipeOptions,
): Promise<Reason>;
export function pipe<Reason>(
  target: PipeTarget<Reason>,
  source: PipeSource,
  options: PipeOptions = {},
): Promise<Reason> {
  const { event: make = eventOf, end = FINISHED, error: describe = () => FAILED } = options;
  // The result does not wait for this: once the stream is closed, the source may never settle.
  pump(target, source, make)
    .then((isFinished) => {
      if (isFinished) conclude(target, typeof end === 'function' ? end() : end, 'ended');
    })
    .catch((error) => target.closed || fail(target, error, describe));
  return target.done;
}

const FINISHED: ServerSentEvent = { event: controlEvents.end, data: '{}' };
const FAILED: ServerSentEvent = {
  event: controlEvents.error,
  data: '{"message":"the source of this stream failed"}',
};

/**
 * UTF-16 units after which a source that never waits yields to the event loop. Each event counts at least
 * one, so that empty events cannot block it either.
 */
const TURN_LENGTH = 64 * 1024;

const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Sends until the source has finished (`true`) or the stream is closed (`false`). */
async function pump<Reason>(
  target: PipeTarget<Reason>,
  source: PipeSource,
  make: (value: ServerSentEvent | string) => PipedEvents,
): Promise<boolean> {
  const iterator = iteratorOf(source);
  const encoder = createEncoder(make);
  let isPulling = false;
  /** The source has finished, failed or been stopped. */
  let isOver = false;
  const stop = () => {
    if (!isOver) stopSource(source, iterator);
    isOver = true;
  };
  target.done.then(stop);
  try {
    for (let length = 0; !target.closed; ) {
      if (target.writableNeedDrain) {
        await target.ready();
      } else if (length >= TURN_LENGTH) {
        length = 0;
        await nextTurn();
      } else {
        isPulling = true;
        const { done, value } = await iterator.next();
        isPulling = false;
        if (done === true) {
          isOver = true;
          target.queueText(encoder.end());
          return true;
        }
        const text = encoder.next(value);
        target.queueText(text);
        length += 1 + text.length;
      }
    }
    return false;
  } catch (error) {
    // Where `next` failed, the source is over. Where its value cannot be sent, the source has to be stopped.
    isOver ||= isPulling;
    throw error;
  } finally {
    stop();
  }
}

function fail<Reason>(
  target: PipeTarget<Reason>,
  error: unknown,
  describe: (error: unknown) => ServerSentEvent | null,
): void {
  try {
    conclude(target, describe(error), 'error', error);
  } catch {
    // The description threw, or cannot be sent.
    conclude(target, FAILED, 'error', error);
  }
}

function conclude<Reason>(
  target: PipeTarget<Reason>,
  events: PipedEvents | null,
  reason: 'ended' | 'error',
  cause?: unknown,
): void {
  if (events !== null) target.queueText(encodeAll(events));
  target.end(reason, cause);
}

/**
 * Encodes what one source yields: `next` the next value, `end` what is left when no other string follows. A
 * string that is only the first half of a character gives `''`.
 */
function createEncoder(make: (value: ServerSentEvent | string) => PipedEvents): {
  next(value: ServerSentEvent | string): string;
  end(): string;
} {
  const whole = new WholeText();
  const encodeText = (text: string | undefined) => (text === undefined ? '' : encodeAll(make(text)));
  const end = () => encodeText(whole.end());
  return {
    next: (value) =>
      typeof value === 'string' ? encodeText(whole.next(value)) : end() + encodeAll(make(value)),
    end,
  };
}

function encodeAll(events: PipedEvents): string {
  if (!isList(events)) return encodeOne(events);
  let text = '';
  for (const event of events) text += encodeOne(event);
  return text;
}

function encodeOne(event: ServerSentEvent): string {
  const text = encode(event);
  if (text === '') checkEmpty(event);
  return text;
}

/**
 * An event without fields is sent as nothing. So it must not be a promise, or what an API has sent: the answer
 * would arrive without it, and look whole.
 */
function checkEmpty(event: ServerSentEvent): void {
  const kind = Object.prototype.toString.call(event);
  const other = Object.keys(event).find((name) => !FIELDS.has(name));
  if (kind === '[object Object]' && other === undefined) return;
  const given = other === undefined ? kind : `one with \`${other}\` and no field of an event`;
  throw new TypeError(
    `an event must be an object that \`encode\` takes, got ${given}: use the option \`event\``,
  );
}

const FIELDS: ReadonlySet<string> = new Set(['event', 'data', 'json', 'id', 'retry', 'comment']);

// `Array.isArray` does not recognise a readonly array for the compiler.
function isList(events: PipedEvents): events is readonly ServerSentEvent[] {
  return Array.isArray(events);
}

function eventOf(value: ServerSentEvent | string): ServerSentEvent {
  if (typeof value === 'string') return { data: value };
  checkYielded(value);
  return isUntyped(value) ? { id: value.id, data: value.data, retry: value.retry } : value;
}
