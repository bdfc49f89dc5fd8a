// Turns an event into its text on the wire, or says which field cannot be sent.
// Stands alone: copy this file by itself.

/** One event, in the words of the specification. Every field is optional; an empty event encodes to `''`. */
export interface ServerSentEvent {
  /** Its type; without one a reader gets it as `message`. One line. */
  readonly event?: string | undefined;
  /** Its text, in as many lines as it has. Objects are the caller's to serialise. */
  readonly data?: string | undefined;
  /** Any value that JSON can express, to be sent as `data`. */
  readonly json?: unknown;
  /** The last event ID a reader keeps: ≤ 128 printable ASCII characters. `''` makes the reader forget. */
  readonly id?: string | undefined;
  /** Milliseconds that a reader waits before it reconnects: a whole number, 0 to 2³¹ − 1. */
  readonly retry?: number | undefined;
  /** Lines that readers skip, written before the fields. */
  readonly comment?: string | undefined;
}

const MAX_RETRY = 2 ** 31 - 1;

/**
 * The event's text, ending in the blank line that dispatches it.
 *
 * Nothing is repaired: a value that would arrive as something else throws. The event type and the id
 * must be one line; data and comment may be many, split at CRLF, CR and LF, as a reader splits them
 * (so a CR in data arrives as LF: that is the format's own limit).
 *
 * A reader drops an event that has no `data`, though it keeps its `id` and `retry`. `data: ''` arrives.
 *
 * @throws {TypeError} naming the field and its value: a non-string; half a surrogate pair; a line break
 *   in `event` or `id`; an `id` that is not printable ASCII, is longer than 128 characters, or begins or
 *   ends with a space; a `retry` that is not a whole number in range.
 * @see https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
 */
export function encode(event: ServerSentEvent): string {
  const { event: type, id, retry, comment, json } = event;
  const data = json === undefined ? event.data : stringify(json, event.data);
  // A hub's events, nearly all of them: put together at once, they cost a third less (bench/encode).
  if (
    id !== undefined &&
    data !== undefined &&
    comment === undefined &&
    retry === undefined &&
    isLine(data)
  ) {
    // biome-ignore-start lint/style/useTemplate: V8 makes a sum of strings faster than a template of as many
    return type === undefined
      ? 'id: ' + checkId(id) + '\ndata: ' + data + '\n\n'
      : 'id: ' + checkId(id) + '\nevent: ' + checkType(type) + '\ndata: ' + data + '\n\n';
    // biome-ignore-end lint/style/useTemplate: see above
  }
  let text = '';
  if (comment !== undefined) text += prefixLines(': ', checkText('comment', comment));
  if (retry !== undefined) text += `retry: ${checkRetry(retry)}\n`;
  if (id !== undefined) text += `id: ${checkId(id)}\n`;
  if (type !== undefined) text += `event: ${checkType(type)}\n`;
  if (data !== undefined) text += prefixLines('data: ', checkText('data', data));
  return text === '' ? '' : `${text}\n`;
}

/**
 * Makes events of JSON data, held to the map of types that `EventSource` takes on the other side:
 * `const event = jsonEvents<Events>()`, then `hub.publish('prices', event('tick', { price: 7.25 }))`.
 */
export function jsonEvents<Events extends Record<string, unknown>>(): <Type extends keyof Events & string>(
  event: Type,
  data: Events[Type],
) => { readonly event: Type; readonly data: string } {
  return (event, data) => ({ event, data: JSON.stringify(data) });
}

function stringify(json: unknown, data: unknown): string {
  if (data !== undefined) throw refused('json', 'must not be given beside `data`', json);
  try {
    const text: unknown = JSON.stringify(json);
    if (typeof text === 'string') return text;
  } catch {}
  throw refused('json', 'must be a value that JSON can express', json);
}

const LINE_BREAK = /\r\n|\r|\n/;

/** Whether it is text of one line, and may be sent. */
function isLine(text: string): boolean {
  return typeof text === 'string' && isOneLine(text) && text.isWellFormed();
}

// Nearly all data is one line; two searches for a character cost less than one split.
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
  if (typeof text !== 'string') throw refused(field, 'must be a string', text);
  // Half a surrogate pair has no UTF-8 form: it would arrive as U+FFFD.
  if (!text.isWellFormed()) throw refused(field, 'must not hold half a surrogate pair', text);
  return text;
}

// Types repeat: one that was good the last time is good (bench/encode).
let goodType = '';

function checkType(type: string): string {
  if (type === goodType) return type;
  checkText('event', type);
  if (LINE_BREAK.test(type)) throw refused('event', 'must be one line', type);
  goodType = type;
  return type;
}

// Anything else is lost or garbled on its way back in the Last-Event-ID header, for good.
const UNPRINTABLE = /[^\x20-\x7e]/;
const SPACE = 0x20;

function checkId(id: string): string {
  if (typeof id !== 'string') throw refused('id', 'must be a string', id);
  if (id.length <= 128 && !UNPRINTABLE.test(id) && !isPadded(id)) return id;
  throw refused('id', 'must be at most 128 printable ASCII characters without a space at either end', id);
}

function isPadded(text: string): boolean {
  return text !== '' && (text.charCodeAt(0) === SPACE || text.charCodeAt(text.length - 1) === SPACE);
}

function checkRetry(retry: number): number {
  if (Number.isInteger(retry) && retry >= 0 && retry <= MAX_RETRY) return retry;
  throw refused('retry', `must be a whole number of milliseconds from 0 to ${MAX_RETRY}`, retry);
}

function refused(field: string, rule: string, value: unknown): TypeError {
  const shown =
    typeof value === 'string' ? JSON.stringify(value) : isObject(value) ? typeof value : String(value);
  const message = `\`${field}\` ${rule}, got ${shown.length > 80 ? `${shown.slice(0, 80)}…` : shown}`;
  return Object.assign(new TypeError(message), { code: 'ERR_SSE_BAD_EVENT', status: 400 });
}

// An object may have no text, or code of its own in the place of one.
function isObject(value: unknown): boolean {
  return Object(value) === value;
}
