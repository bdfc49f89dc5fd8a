// Turns an event into its text on the wire, or throws an error that names the field that cannot be sent.
// Stands alone: copy this file by itself.

/** One event, in the words of the specification. Every field is optional; an empty event encodes to `''`. */
export interface ServerSentEvent {
  /**
   * The event type, one line. Readers dispatch an event without a type as `message`, and drop one without
   * data: so a type needs `data` or `json`.
   */
  readonly event?: string | undefined;
  /** Text of any number of lines. To send an object, use `json`. */
  readonly data?: string | undefined;
  /**
   * A value to send as JSON: any that `JSON.stringify` can express. Not read where there is `data`, so that the
   * events of `connect`, which have both, can be sent on.
   */
  readonly json?: unknown;
  /**
   * The last event ID that a reader keeps: ≤ 1,024 printable ASCII characters. `''` makes the reader forget
   * it.
   */
  readonly id?: string | undefined;
  /** Milliseconds that a reader waits before it reconnects: a whole number, 0 to 2³¹ − 1. */
  readonly retry?: number | undefined;
  /** Lines that readers skip, written before the fields. */
  readonly comment?: string | undefined;
}

/** The error that `encode` throws. Its message begins with the name of the field. */
export interface BadEventError extends TypeError {
  readonly code: 'ERR_SSE_BAD_EVENT';
  /** The status to answer with where the event came from a client. */
  readonly status: 400;
}

const MAX_RETRY = 2 ** 31 - 1;

/**
 * A reader sends its last event ID back in a header. Servers take 16 KB of headers (Node) or 8 KB (nginx,
 * Apache) and answer more with 431, to every attempt. So the limit leaves the rest to cookies and tokens, and
 * is above what servers use: ids of Kafka offsets, as Wikimedia's, have 149 characters and more.
 */
const MAX_ID_LENGTH = 1024;

/**
 * Returns the event's text, which ends in the blank line that dispatches it. Comments alone end in one line
 * end: some readers make an empty message of a blank line that follows no data.
 *
 * Repairs nothing: throws for a value that readers would receive as a different one. The event type and the
 * id must be one line. Data and comments are split at CRLF, CR and LF, as readers split them, so a CR in data
 * arrives as LF.
 *
 * An event without `data` and `json` gives readers its `id` and `retry`, and is not delivered: so it must not
 * have a type. `data: ''` is delivered.
 *
 * @throws {BadEventError} naming the field and its value: a non-string; half a surrogate pair; a line break
 *   in `event` or `id`; an `event` without `data` and `json`; an `id` that is not printable ASCII, is longer
 *   than 1,024 characters, or begins or ends with a space; a `retry` that is not a whole number in range; a
 *   `json` that JSON cannot express (`undefined`, a function, a BigInt, a cycle).
 * @see https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
 */
export function encode(event: ServerSentEvent): string {
  const { event: type, data, id, retry, comment } = event;
  // Most events with an id have this shape. One expression costs a third less than the lines below
  // (bench/encode).
  if (
    id !== undefined &&
    typeof data === 'string' &&
    comment === undefined &&
    retry === undefined &&
    isOneLine(data) &&
    isWellFormed(data)
  ) {
    // biome-ignore-start lint/style/useTemplate: V8 concatenates faster than it fills a template
    return type === undefined
      ? 'id: ' + checkId(id) + '\ndata: ' + data + '\n\n'
      : 'id: ' + checkId(id) + '\nevent: ' + checkType(type) + '\ndata: ' + data + '\n\n';
    // biome-ignore-end lint/style/useTemplate: see above
  }
  const comments = comment === undefined ? '' : prefixLines(': ', checkText('comment', comment));
  let text = '';
  if (retry !== undefined) text += `retry: ${checkRetry(retry)}\n`;
  if (id !== undefined) text += `id: ${checkId(id)}\n`;
  if (type !== undefined) text += `event: ${checkType(type)}\n`;
  if (data !== undefined) text += prefixLines('data: ', checkText('data', data));
  else if ('json' in event) text += jsonLine(event.json);
  else if (type !== undefined) throw badEvent('data', 'must be given where `event` is', data);
  return text === '' ? comments : `${comments}${text}\n`;
}

function jsonLine(json: unknown): string {
  let options: { cause: unknown } | undefined;
  try {
    const text: string | undefined = JSON.stringify(json);
    // Needs no checks: JSON escapes line breaks and half surrogate pairs.
    if (text !== undefined) return `data: ${text}\n`;
  } catch (cause) {
    options = { cause };
  }
  throw badEvent('json', 'must be a value that JSON can express', json, options);
}

const LINE_BREAK = /\r\n|\r|\n/;

/** The type of `String.prototype.isWellFormed` is in no `lib` before es2024; Node has it since 20. */
function isWellFormed(text: string): boolean {
  return (text as unknown as { isWellFormed(): boolean }).isWellFormed();
}

// Nearly all data is one line, and two searches for a character cost less than one split.
function isOneLine(text: string): boolean {
  return text.indexOf('\n') === -1 && text.indexOf('\r') === -1;
}

function prefixLines(prefix: string, text: string): string {
  if (isOneLine(text)) return `${prefix}${text}\n`;
  let lines = '';
  for (const line of text.split(LINE_BREAK)) lines += `${prefix}${line}\n`;
  return lines;
}

function checkText(field: 'event' | 'data' | 'comment', text: string): string {
  if (typeof text !== 'string') throw badEvent(field, 'must be a string', text);
  // UTF-8 has no form for half a surrogate pair: it would arrive as U+FFFD.
  if (!isWellFormed(text)) throw badEvent(field, 'must not hold half a surrogate pair', text);
  return text;
}

// The last type that passed the checks. Types repeat, and a comparison costs less than the checks
// (bench/encode).
let checkedType = '';

function checkType(type: string): string {
  if (type === checkedType) return type;
  checkText('event', type);
  if (LINE_BREAK.test(type)) throw badEvent('event', 'must be one line', type);
  checkedType = type;
  return type;
}

// Readers return the id in the Last-Event-ID header, which loses or garbles every other character.
const UNPRINTABLE = /[^\x20-\x7e]/;
const SPACE = 0x20;

function checkId(id: string): string {
  if (typeof id !== 'string') throw badEvent('id', 'must be a string', id);
  const isPadded = id !== '' && (id.charCodeAt(0) === SPACE || id.charCodeAt(id.length - 1) === SPACE);
  if (id.length <= MAX_ID_LENGTH && !UNPRINTABLE.test(id) && !isPadded) return id;
  throw badEvent(
    'id',
    `must be at most ${MAX_ID_LENGTH} printable ASCII characters without a space at either end`,
    id,
  );
}

function checkRetry(retry: number): number {
  if (Number.isInteger(retry) && retry >= 0 && retry <= MAX_RETRY) return retry;
  throw badEvent('retry', `must be a whole number of milliseconds from 0 to ${MAX_RETRY}`, retry);
}

function badEvent(field: string, rule: string, value: unknown, options?: { cause: unknown }): BadEventError {
  const message = `\`${field}\` ${rule}, got ${shown(value)}`;
  return Object.assign(new TypeError(message, options), {
    code: 'ERR_SSE_BAD_EVENT' as const,
    status: 400 as const,
  });
}

function shown(value: unknown): string {
  // Names only the type of an object: `String(value)` could throw or run the caller's code.
  if (Object(value) === value) return typeof value;
  const text = typeof value === 'string' ? JSON.stringify(value) : String(value);
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}
