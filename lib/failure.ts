// The failures of a reader: their codes, what they say, and which of them may pass.
// Needs `protocol.ts` and `transport.ts` beside it. Runs in Node, browsers, workers, Deno and Bun.

import { maxIdBytes, readRefused } from './protocol.ts';
import type { HostSignal, ResponseHeaders, TransportError } from './transport.ts';

export type ConnectErrorCode =
  | 'ERR_SSE_NETWORK'
  | 'ERR_SSE_TIMEOUT'
  | 'ERR_SSE_SILENT'
  | 'ERR_SSE_EOF'
  | 'ERR_SSE_STATUS'
  | 'ERR_SSE_CONTENT_TYPE'
  | 'ERR_SSE_REDIRECT'
  | 'ERR_SSE_ID'
  | 'ERR_SSE_LINE_TOO_LONG'
  | 'ERR_SSE_EVENT_TOO_LARGE'
  | 'ERR_SSE_REFUSED'
  | 'ERR_SSE_INVALID_EVENT'
  | 'ERR_SSE_UNKNOWN_EVENT'
  | TransportError['code'];

/** Why one attempt to read a stream failed. */
export interface ConnectError extends Error {
  readonly code: ConnectErrorCode;
  /**
   * The HTTP status, where a response is the reason: with `ERR_SSE_STATUS`, `_CONTENT_TYPE` and `_REDIRECT`.
   */
  readonly status?: number | undefined;
  /** With `ERR_SSE_STATUS`: what the server asked for by `Retry-After`, in milliseconds. */
  readonly retryDelay?: number | undefined;
  /**
   * With `ERR_SSE_STATUS` and `ERR_SSE_REFUSED`: the server's word for the reason, such as `server-full`, where
   * it gives one.
   */
  readonly reason?: string | undefined;
  /** With `ERR_SSE_STATUS` and `_CONTENT_TYPE`. Not enumerable, so that logs of the error do not hold them. */
  readonly headers?: ResponseHeaders | undefined;
  /** As `headers`: the beginning of the body as text, at most 8 KiB and what arrived within a second. */
  readonly body?: string | undefined;
}

/** How an attempt ended: by a failure, or because the server has ended the stream for good. */
export type Outcome = ConnectError | 'over';

export function failed(
  code: ConnectErrorCode,
  message: string,
  details: Partial<Omit<ConnectError, 'code'>> = {},
): ConnectError {
  const { cause, headers, body, ...rest } = details;
  const error = new Error(message, cause === undefined ? undefined : { cause });
  if (headers !== undefined)
    Object.defineProperties(error, { headers: { value: headers }, body: { value: body } });
  return Object.assign(error, { code, ...rest });
}

const TRANSIENT_STATUS = new Set([408, 425, 429]);
const TRANSIENT = new Set<ConnectErrorCode>([
  'ERR_SSE_NETWORK',
  'ERR_SSE_TIMEOUT',
  'ERR_SSE_SILENT',
  'ERR_SSE_EOF',
  'ERR_SSE_REFUSED',
]);

/** Whether the next attempt may succeed after this failure. */
export function isTransient({ code, status = 0 }: ConnectError): boolean {
  return code === 'ERR_SSE_STATUS' ? status >= 500 || TRANSIENT_STATUS.has(status) : TRANSIENT.has(code);
}

/** Turns an exception into a failure. Once the signal is aborted, its reason is the failure. */
export function failureOf(error: unknown, signal: HostSignal): ConnectError {
  const cause = signal.aborted ? signal.reason : error;
  const code = (cause as { code?: unknown } | undefined)?.code;
  if (typeof code === 'string' && code.startsWith('ERR_SSE_')) return cause as ConnectError;
  const message = cause instanceof Error ? cause.message || String(code ?? cause.name) : String(cause);
  return failed('ERR_SSE_NETWORK', message, { cause });
}

/** Whether the request may have been refused for its position, as a header or a query that is not taken. */
export function isOfPosition(outcome: Outcome): boolean {
  return outcome !== 'over' && POSITION_STATUS.has(outcome.status ?? 0);
}

const POSITION_STATUS = new Set([400, 414, 431]);

/** A line or an event that is larger than its limit, with the place before it. */
export function tooLarge(
  error: Error & { readonly code: 'ERR_SSE_LINE_TOO_LONG' | 'ERR_SSE_EVENT_TOO_LARGE' },
  position: string,
): ConnectError {
  const where = position === '' ? '' : `, after the last event ID ${quoted(position)}`;
  return failed(error.code, `${error.message}${where}`, { cause: error });
}

/** A place that no request can carry. */
export function unsendable(what: string, id: unknown): ConnectError {
  const got = typeof id === 'string' ? quoted(id) : `a value of type ${typeof id}`;
  return failed('ERR_SSE_ID', `${what} cannot be a position: it ${idRule}, got ${got}`);
}

/** A place that was sent and not taken. */
export function notTaken(position: string): ConnectError {
  return failed('ERR_SSE_ID', `the server does not take the position ${quoted(position)}`);
}

interface EventPlace {
  readonly event: string;
  readonly lastEventId: string;
}

/** An event that a schema refuses, as `cause` says. */
export function invalid(cause: unknown, { lastEventId }: EventPlace): ConnectError {
  const message = `${(cause as Error).message} (last event ID ${quoted(lastEventId)})`;
  return failed('ERR_SSE_INVALID_EVENT', message, { cause });
}

/** An event whose type the reader does not know. */
export function unknownType({ event, lastEventId }: EventPlace): ConnectError {
  const message = `event ${quoted(event)} (last event ID ${quoted(lastEventId)}) was skipped: its type is not defined`;
  return failed('ERR_SSE_UNKNOWN_EVENT', message);
}

/** A stream whose only event is `sluice:refused`, with this data. */
export function refused(data: string): ConnectError {
  const { error, message } = readRefused(data);
  const text = `the server refused the stream: ${shown(message === '' ? error : message)}`;
  return failed('ERR_SSE_REFUSED', text, { reason: shown(error) });
}

/** The rule of `isSendableId` in words. */
export const idRule: string = `must have at most ${maxIdBytes} bytes, no control characters and no half surrogate pair`;

// JSON leaves U+007F to U+009F as they are, which some terminals obey.
function quoted(text: string): string {
  const shortened = JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text);
  return shortened.replace(/[\x7f-\x9f]/g, (control) => `\\u00${control.charCodeAt(0).toString(16)}`);
}

/** A text of the server for a message: one line, without the control characters that a terminal obeys. */
export function shown(text: string): string {
  return text.slice(0, 300).replace(/[\x00-\x1f\x7f-\x9f]+/g, ' ');
}
