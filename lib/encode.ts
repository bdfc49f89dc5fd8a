// Turns an event into its text on the wire, or says which field cannot be sent.
// Stands alone: copy this file by itself.

/** One event, in the words of the specification. Every field is optional; an empty event encodes to `''`. */
export interface ServerSentEvent {
  /** Its type; without one a reader gets it as `message`. One line. */
  readonly event?: string | undefined;
  /** Its text, in as many lines as it has. Objects are the caller's to serialise. */
  readonly data?: string | undefined;
  /** The last event ID a reader keeps: printable ASCII, ≤ 128 characters. `''` makes the reader forget. */
  readonly id?: string | undefined;
  /** Milliseconds that a reader waits before it reconnects: a whole number, 0 to 2³¹ − 1. */
  readonly retry?: number | undefined;
  /** Lines that readers skip, written before the fields. */
  readonly comment?: string | undefined;
}

const MAX_ID_LENGTH = 128;
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
 * @throws {TypeError} naming the field and its value: a line break in `event` or `id`; a NUL, a control
 *   or non-ASCII character in `id`, or more than 128; `retry` not a whole number in range; a non-string.
 * @see https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
 */
export function encode(event: ServerSentEvent): string {
  const { event: type, data, id, retry, comment } = event;
  let text = '';
  if (comment !== undefined) text += prefixLines(': ', checkText('comment', comment));
  if (retry !== undefined) text += `retry: ${checkRetry(retry)}\n`;
  if (id !== undefined) text += `id: ${checkId(id)}\n`;
  if (type !== undefined) text += `event: ${checkType(type)}\n`;
  if (data !== undefined) text += prefixLines('data: ', checkText('data', data));
  return text === '' ? '' : `${text}\n`;
}

const LINE_BREAK = /\r\n|\r|\n/;

function prefixLines(prefix: string, text: string): string {
  // Nearly all data is one line; two searches for a character cost less than one split.
  if (text.indexOf('\n') === -1 && text.indexOf('\r') === -1) return `${prefix}${text}\n`;
  let lines = '';
  for (const line of text.split(LINE_BREAK)) lines += `${prefix}${line}\n`;
  return lines;
}

function checkText(field: 'data' | 'comment', text: string): string {
  if (typeof text !== 'string') throw refused(field, 'must be a string', text);
  return text;
}

function checkType(type: string): string {
  if (typeof type !== 'string') throw refused('event', 'must be a string', type);
  if (type.indexOf('\n') !== -1 || type.indexOf('\r') !== -1) throw refused('event', 'must be one line', type);
  return type;
}

// A non-ASCII id is garbled on its way back in the Last-Event-ID header, and a reader ignores one with NUL.
const PRINTABLE_ASCII = /^[\x20-\x7e]*$/;

function checkId(id: string): string {
  if (typeof id !== 'string') throw refused('id', 'must be a string', id);
  if (id.length > MAX_ID_LENGTH) throw refused('id', `must be at most ${MAX_ID_LENGTH} characters`, id);
  if (!PRINTABLE_ASCII.test(id)) throw refused('id', 'must be printable ASCII on one line', id);
  return id;
}

function checkRetry(retry: number): number {
  if (Number.isInteger(retry) && retry >= 0 && retry <= MAX_RETRY) return retry;
  throw refused('retry', `must be a whole number of milliseconds from 0 to ${MAX_RETRY}`, retry);
}

function refused(field: string, rule: string, value: unknown): TypeError {
  const shown = typeof value === 'string' ? JSON.stringify(value) : String(value);
  return new TypeError(`\`${field}\` ${rule}, got ${shown.length > 80 ? `${shown.slice(0, 80)}…` : shown}`);
}
