// Sends batches of lines to a topic: each until it is accepted, in requests as large as the server allows.
// Needs `../backoff.ts`, `../failure.ts`, `../refusal.ts`, `../transport.ts` and `batches.ts` beside it.

import { randomUUID } from 'node:crypto';
import { Agent } from 'node:http';
import { Agent as SecureAgent } from 'node:https';
import { Backoff } from '../backoff.ts';
import { type ConnectError, failed, failureOf, isTransient } from '../failure.ts';
import { parsedObject, readRefusal, reasonIn, retryDelayOf } from '../refusal.ts';
import { readAnswer, type Transport } from '../transport.ts';
import { type BatchLimits, unlessAborted } from './batches.ts';

export interface PostOptions {
  /** Of the topic. */
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  /** Most attempts for one request. */
  readonly attempts: number;
  /** The limits of a batch; lowered when the server refuses one as too large. */
  readonly limits: BatchLimits;
  readonly send: Transport;
  readonly signal: AbortSignal;
  /** Called when a request is to be sent again after `delay` ms; `attempt` is the number of those that have failed. */
  readonly onRetry: (failure: {
    readonly message: string;
    readonly attempt: number;
    readonly delay: number;
  }) => void;
}

/** For one request after another, through the proxy of the environment where Node can use that. */
export function agentFor({ protocol }: URL, env: NodeJS.ProcessEnv): Agent {
  const options = { keepAlive: true, maxSockets: 1, proxyEnv: env };
  return new (protocol === 'https:' ? SecureAgent : Agent)(options);
}

// Waits before an attempt: up to 0.4 s, then 0.8 s and so on to 10 s, unless the server asks for a longer one.
const DELAYS = { minRetryDelay: 0, backoffDelay: 400, maxBackoffDelay: 10_000 };
const ANSWER_TIMEOUT = 30_000;
// An id has at most 33 characters, and takes a comma and quotation marks.
const MAX_ID_BYTES = 64;
const MAX_ANSWER_BYTES = 64 * 1024;

/**
 * Publishes the lines of a batch in order, and yields the ids of the events of each request. A request that
 * the server refuses as too large (413) is sent in parts: as large as its answer allows, else in halves. The
 * batches that follow are cut to the same limit.
 *
 * All attempts of a request have one `Idempotency-Key`, so that the server publishes it once. A part is another
 * request and has another key; the one that was refused has published nothing.
 *
 * @throws an `Error` that says why a request was not accepted, or the reason of `signal`.
 */
export async function* post(
  batch: readonly string[],
  options: PostOptions,
): AsyncGenerator<string[], void, undefined> {
  const parts = [batch];
  for (let part = parts.shift(); part !== undefined; part = parts.shift()) {
    const answer = await postPart(part, options);
    if ('ids' in answer) yield answer.ids;
    else parts.unshift(...split(part, answer.allowed, options.limits));
  }
}

type Accepted = { readonly ids: string[] };
/** The limits that the answer states, where it states any. */
type TooLarge = { readonly allowed: { readonly [Limit in keyof BatchLimits]: number | undefined } };

async function postPart(part: readonly string[], options: PostOptions): Promise<Accepted | TooLarge> {
  const body = `${part.join('\n')}\n`;
  const headers = {
    ...options.headers,
    'content-type': 'application/vnd.sluice+ndjson',
    'content-length': String(Buffer.byteLength(body)),
    'idempotency-key': randomUUID(),
  };
  const backoff = new Backoff(DELAYS);
  for (let attempt = 1; ; attempt++) {
    const answer = await attemptOnce({ headers, body }, part.length, options);
    if (!('code' in answer)) return answer;
    if (!isTransient(answer)) throw answer;
    if (attempt >= options.attempts) {
      if (attempt > 1)
        answer.message = `${answer.message.replace(/\.$/, '')}, in the last of ${attempt} attempts`;
      throw answer;
    }
    const delay = backoff.nextDelay(answer.retryDelay);
    options.onRetry({ message: answer.message, attempt, delay });
    await sleep(delay, options.signal);
  }
}

async function attemptOnce(
  request: { readonly headers: Readonly<Record<string, string>>; readonly body: string },
  lines: number,
  { url, send, signal }: PostOptions,
): Promise<Accepted | TooLarge | ConnectError> {
  signal.throwIfAborted();
  const controller = new AbortController();
  const stop = (): void => controller.abort(signal.reason);
  signal.addEventListener('abort', stop, { once: true });
  const timer = setTimeout(() => controller.abort(new Error('no answer in time')), ANSWER_TIMEOUT);
  let what = 'no answer from';
  try {
    const sent = send({ ...request, url, method: 'POST', signal: controller.signal });
    // A response that nobody waits for any more must not be an unhandled rejection.
    sent.catch(() => {});
    const response = await unlessAborted(sent, controller.signal);
    const { status } = response;
    what = 'cannot read the answer of';
    const text =
      status === 200
        ? await unlessAborted(
            readAnswer(response, MAX_ANSWER_BYTES + MAX_ID_BYTES * lines),
            controller.signal,
          )
        : await readRefusal({ response, signal: controller.signal, discard: () => controller.abort() });
    return judge(status, text, response.headers['retry-after'], lines);
  } catch (error) {
    if (signal.aborted) throw signal.reason;
    const failure = failureOf(error, controller.signal);
    controller.abort(); // closes a connection of which something is left to read
    return failed(failure.code, `${what} ${url.host}: ${failure.message}`, { cause: error });
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', stop);
  }
}

function judge(
  status: number,
  text: string,
  retryAfter: string | undefined,
  lines: number,
): Accepted | TooLarge | ConnectError {
  const answer = parsedObject(text);
  if (status === 200) return accepted(answer.ids, lines);
  if (status === 413 && lines > 1) {
    return { allowed: { maxLines: limitOf(answer.maxEvents), maxBytes: limitOf(answer.maxBytes) } };
  }
  const retryDelay = retryDelayOf(retryAfter);
  return failed('ERR_SSE_STATUS', `the server answered ${status}${reasonIn(answer)}`, { status, retryDelay });
}

function accepted(ids: unknown, lines: number): Accepted | ConnectError {
  const areIds = Array.isArray(ids) && ids.every((id) => typeof id === 'string');
  if (areIds && ids.length === lines) return { ids };
  const what = areIds ? `gave ${ids.length} ids to ${lines} events` : 'answered 200 without ids';
  return failed('ERR_SSE_STATUS', `the server ${what}`, { status: 200 });
}

function limitOf(value: unknown): number | undefined {
  return Number.isSafeInteger(value) && (value as number) >= 1 ? (value as number) : undefined;
}

// ── parts ─────────────────────────────────────────────────────────────────────────────────────────────────

function split(
  part: readonly string[],
  { maxLines = Infinity, maxBytes = Infinity }: TooLarge['allowed'],
  limits: BatchLimits,
): string[][] {
  limits.maxLines = Math.min(limits.maxLines, maxLines);
  limits.maxBytes = Math.min(limits.maxBytes, maxBytes);
  const parts = cutInto(part, limits);
  if (parts.length > 1) return parts;
  // The answer states no limit, or one in other bytes than those of the request.
  limits.maxBytes = Math.max(1, Math.floor(sizeOf(part) / 2));
  return cutInto(part, limits);
}

function cutInto(lines: readonly string[], { maxLines, maxBytes }: BatchLimits): string[][] {
  const parts: string[][] = [];
  let bytes = Infinity;
  for (const line of lines) {
    const size = Buffer.byteLength(line);
    if (bytes + size > maxBytes || parts.at(-1)!.length >= maxLines) {
      parts.push([]);
      bytes = 0;
    }
    parts.at(-1)!.push(line);
    bytes += size;
  }
  return parts;
}

function sizeOf(lines: readonly string[]): number {
  return lines.reduce((bytes, line) => bytes + Buffer.byteLength(line), 0);
}

async function sleep(delay: number, signal: AbortSignal): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const passed = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, delay);
  });
  await unlessAborted(passed, signal).finally(() => clearTimeout(timer));
}
