// Judges a response: an event stream, the end of one, or a refusal, of which it reads what the server says.
// Needs `failure.ts`, `transport.ts` and `waits.ts` beside it. Runs in Node, browsers, workers, Deno and Bun.

import { type ConnectError, failed, type Outcome, shown } from './failure.ts';
import type { TransportResponse } from './transport.ts';
import { beforeAbort, startTimer } from './waits.ts';

/** A response that is no redirect. */
export interface Answer {
  readonly response: TransportResponse;
  /** Where it comes from, after all redirects. */
  readonly url: URL;
  /** Ends the response when it is aborted. */
  readonly signal: AbortSignal;
  /** Closes the connection, whatever is left of the response. */
  readonly discard: () => void;
}

/** Returns `undefined` for an event stream. Discards any other response, after the beginning of its body. */
export async function judge(answer: Answer): Promise<Outcome | undefined> {
  const { status, headers } = answer.response;
  const isStream = status >= 200 && status <= 299 && status !== 204 && status !== 205;
  const type = headers['content-type'] ?? 'none';
  if (isStream && /^text\/event-stream\s*(;|$)/i.test(type)) return undefined;
  const outcome = status === 204 ? 'over' : await refusal(answer, isStream ? type : undefined);
  answer.discard();
  return outcome;
}

/** The error of a response that is no stream; `type` is its content type where the status was that of one. */
async function refusal(answer: Answer, type: string | undefined): Promise<ConnectError> {
  const { status, headers } = answer.response;
  const body = await readRefusal(answer);
  if (type !== undefined) {
    const message = `the content type of the response is ${shown(type)}, not text/event-stream`;
    return failed('ERR_SSE_CONTENT_TYPE', message, { status, headers, body });
  }
  const isJson = /\bjson\b/i.test(headers['content-type'] ?? '');
  const problem = isJson ? parsedObject(body) : {};
  const { error } = problem;
  return failed('ERR_SSE_STATUS', `the server answered ${status}${reasonIn(problem)}`, {
    status,
    retryDelay: retryDelayOf(headers['retry-after']),
    reason: typeof error === 'string' && error !== '' ? shown(error) : undefined,
    headers,
    body,
  });
}

const MAX_REASON_BYTES = 8192;
const REASON_TIMEOUT = 1000;

/**
 * Reads the beginning of the body of a refusal, of which the status is what counts: 8 KiB, and what arrives
 * within a second. `discard` is called after that second, and must close the connection.
 */
export async function readRefusal({
  response,
  signal,
  discard,
}: Pick<Answer, 'response' | 'signal' | 'discard'>): Promise<string> {
  const held = new Uint8Array(MAX_REASON_BYTES);
  let length = 0;
  const stopTimer = startTimer(REASON_TIMEOUT, discard);
  const chunks = response.body[Symbol.asyncIterator]();
  try {
    while (length < held.length) {
      const { done, value } = await beforeAbort(chunks.next(), signal);
      if (done) break;
      const taken = value.subarray(0, held.length - length);
      held.set(taken, length);
      length += taken.length;
    }
  } catch {
    // What has arrived says more than how it broke off.
  } finally {
    stopTimer();
    // Not awaited: it waits for the chunk that is under way.
    chunks.return?.().catch(() => {});
  }
  // As of a stream: a character that the limit has cut is left out.
  return new TextDecoder().decode(held.subarray(0, length), { stream: true });
}

/** The members of a JSON object; none where the text is anything else. */
export function parsedObject(text: string): Readonly<Record<string, unknown>> {
  try {
    return Object(JSON.parse(text)) as Record<string, unknown>;
  } catch {
    return {};
  }
}

/**
 * The reason that the body of a refusal gives, after a colon: in words (`message`, the `detail` or `title` of a
 * problem of RFC 9457, the `message` within an `error`), else by the word of `error`. `''`: it gives none.
 */
export function reasonIn({ message, detail, title, error }: ReturnType<typeof parsedObject>): string {
  const texts = [message, detail, Object(error).message, title, error];
  const text = texts.find((one): one is string => typeof one === 'string' && one !== '');
  return text === undefined ? '' : `: ${shown(text)}`;
}

/** `Retry-After`, which is in seconds or a date, in milliseconds from now. */
export function retryDelayOf(value: string | undefined): number | undefined {
  if (value === undefined) return undefined;
  if (/^\d+$/.test(value)) return Number(value) * 1000;
  const at = Date.parse(value);
  return Number.isNaN(at) ? undefined : Math.max(0, at - Date.now());
}
