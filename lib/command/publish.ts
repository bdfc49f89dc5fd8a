// Publishes the lines of stdin (`sluice publish URL TOPIC`) in batches; each is sent until it is accepted.
// Needs `../transport.ts`, `argv.ts`, `batches.ts` and `io.ts` beside it.

import { randomUUID } from 'node:crypto';
import { Agent } from 'node:http';
import { Agent as SecureAgent } from 'node:https';
import { nodeTransport, type Transport } from '../transport.ts';
import { readHeaders, readOptions, readTopic, readUrl, usageError } from './argv.ts';
import { batches } from './batches.ts';
import { type CommandIo, escapeControls } from './io.ts';

const HELP = `Usage: sluice publish [options] URL TOPIC

Publishes each line of stdin as one event, in order. Lines are sent as soon as they arrive, many in one
request where many have arrived. While a request is pending, little more is read.

  -H, --header 'NAME: VALUE'  send this header; may be repeated
      --token TOKEN           send Authorization: Bearer TOKEN
      --event TYPE            the type of the events
      --key KEY               their key, for readers that ask for the newest event per key
      --ndjson                lines are JSON: {"event"?, "data", "key"?} or a string
      --batch N               at most N lines in a request; default 500
      --attempts N            give up on a request after N attempts; default 8
      --ids                   print the ids of the events
  -h, --help

A request is sent again when no answer comes, or one with 408, 429, 502, 503 or 504, after the time that
Retry-After gives or a random wait that grows. Each attempt has the same Idempotency-Key, so a batch whose
answer was lost is not published twice, unless the server has restarted in between.

Exit codes:
  0  every line was published
  1  a line or a request was refused, or every attempt failed; stderr says how many lines were published
  2  wrong usage
  130  interrupted
`;

const OPTIONS = {
  header: { kind: 'text', short: 'H', many: true },
  token: { kind: 'text' },
  event: { kind: 'text' },
  key: { kind: 'text' },
  ndjson: { kind: 'flag' },
  batch: { kind: 'count', min: 1 },
  attempts: { kind: 'count', min: 1 },
  ids: { kind: 'flag' },
  help: { kind: 'flag', short: 'h' },
} as const;

// Half of the server's default limit for a body.
const MAX_BATCH_BYTES = 512 * 1024;
const MAX_LINE_BYTES = 1024 * 1024;
const ANSWER_TIMEOUT = 30_000;
const BASE_DELAY = 200;
const MAX_DELAY = 10_000;
const RETRIED_STATUS = new Set([408, 429, 502, 503, 504]);

/**
 * Runs `sluice publish`; `argv` has the words after that. A failure states how many events were published
 * before it.
 */
export async function publish(argv: readonly string[], io: CommandIo): Promise<number> {
  const plan = planOf(argv);
  if (plan === undefined) {
    io.stdout.write(HELP);
    return 0;
  }
  const { isTTY } = io.stderr;
  const agent = new (plan.url.protocol === 'https:' ? SecureAgent : Agent)({
    keepAlive: true,
    maxSockets: 1,
  });
  const send = nodeTransport({ agent });
  let published = 0;
  try {
    for await (const batch of batches(io.stdin, { ...plan, signal: io.signal })) {
      const ids = await post(batch, plan, send, io.signal);
      published += ids.length;
      if (plan.ids) print(ids, io.stdout);
      if (isTTY) io.stderr.write(`\r${published} published`);
    }
    if (isTTY) io.stderr.write(`\r${published} published\n`);
    return 0;
  } catch (error) {
    if (isTTY) io.stderr.write('\n');
    const why = io.signal.aborted ? 'interrupted' : (error as Error).message;
    throw new Error(`${why}; ${published} published before`, { cause: error });
  } finally {
    agent.destroy();
  }
}

interface Plan {
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly maxLines: number;
  readonly maxBytes: number;
  readonly maxLineBytes: number;
  /** Turns a line of stdin into a line of the request. */
  readonly convert: (line: string) => string;
  readonly attempts: number;
  readonly ids: boolean;
}

function planOf(argv: readonly string[]): Plan | undefined {
  const { values, positionals } = readOptions(argv, OPTIONS);
  if (values.help) return undefined;
  const [url, topic] = positionals;
  if (url === undefined || topic === undefined || positionals.length > 2)
    throw usageError(`expected a URL and a topic, got ${positionals.length || 'nothing'}`);
  const { event, key, token, ndjson = false, batch = 500, attempts = 8, ids = false } = values;
  if (event !== undefined && /[\r\n]/.test(event)) throw usageError('--event must be one line');
  const headers = readHeaders(values.header);
  if (token !== undefined) headers.authorization = `Bearer ${checkToken(token)}`;
  return {
    url: urlFor(readUrl(url), readTopic('TOPIC', topic)),
    headers,
    maxLines: batch,
    maxBytes: MAX_BATCH_BYTES,
    maxLineBytes: MAX_LINE_BYTES,
    convert: ndjson ? jsonConverter({ event, key }) : (data) => JSON.stringify({ event, data, key }),
    attempts,
    ids,
  };
}

function checkToken(token: string): string {
  if (/^[\x21-\x7e]+$/.test(token)) return token;
  // The message does not show the token: it is a secret.
  throw usageError('--token must be one word of printable ASCII');
}

function urlFor(url: URL, topic: string): URL {
  const full = new URL(url);
  full.pathname = `${url.pathname.replace(/\/$/, '')}/topics/${topic}`;
  return full;
}

/** Checks JSON lines, and adds the type and the key to those that have none. */
function jsonConverter(defaults: { event: string | undefined; key: string | undefined }): Plan['convert'] {
  let number = 0;
  return (line) => {
    number++;
    const value = parsed(line);
    if (typeof value === 'string')
      return JSON.stringify({ event: defaults.event, data: value, key: defaults.key });
    if (typeof value !== 'object' || value === null || !('data' in value))
      throw new Error(`line ${number} is neither a JSON object with data nor a JSON string`);
    const { event, data, key } = value as Record<string, unknown>;
    return JSON.stringify({ event: event ?? defaults.event, data, key: key ?? defaults.key });
  };
}

function parsed(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}

function print(ids: readonly string[], stdout: CommandIo['stdout']): void {
  const text = ids.map((id) => `${id}\n`).join('');
  stdout.write(stdout.isTTY ? escapeControls(text) : text);
}

// ── one batch ─────────────────────────────────────────────────────────────────────────────────────────────

async function post(
  batch: readonly string[],
  plan: Plan,
  send: Transport,
  signal: AbortSignal,
): Promise<string[]> {
  const body = `${batch.join('\n')}\n`;
  const headers = {
    ...plan.headers,
    'content-type': 'application/vnd.sluice+ndjson',
    'content-length': String(Buffer.byteLength(body)),
    'idempotency-key': randomUUID(),
  };
  for (let attempt = 1; ; attempt++) {
    const answer = await postOnce(send, { url: plan.url, headers, body }, signal);
    if (Array.isArray(answer)) return checkIds(answer, batch.length);
    if (!answer.mayPass || attempt >= plan.attempts) throw new Error(answer.message);
    // Full jitter: anywhere between nothing and the bound, so that clients do not all return at once.
    const bound = Math.min(BASE_DELAY * 2 ** attempt, MAX_DELAY);
    await sleep(answer.retryAfter ?? Math.random() * bound, signal);
  }
}

interface Failure {
  readonly message: string;
  /** Whether another attempt may succeed. */
  readonly mayPass: boolean;
  /** Milliseconds. */
  readonly retryAfter?: number | undefined;
}

async function postOnce(
  send: Transport,
  request: { readonly url: URL; readonly headers: Readonly<Record<string, string>>; readonly body: string },
  signal: AbortSignal,
): Promise<unknown[] | Failure> {
  signal.throwIfAborted();
  const controller = new AbortController();
  const stop = (): void => controller.abort(signal.reason);
  signal.addEventListener('abort', stop, { once: true });
  const timer = setTimeout(() => controller.abort(new Error('no answer in time')), ANSWER_TIMEOUT);
  try {
    const response = await send({ ...request, method: 'POST', signal: controller.signal });
    const chunks: Uint8Array[] = [];
    for await (const chunk of response.body) chunks.push(chunk);
    return judge(response.status, Buffer.concat(chunks).toString(), response.header('retry-after'));
  } catch (error) {
    if (signal.aborted) throw error;
    const { message, code } = error as Error & { code?: string };
    return { message: `no answer from ${request.url.host}: ${message || code}`, mayPass: true };
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', stop);
  }
}

function judge(status: number, text: string, retryAfter: string | undefined): unknown[] | Failure {
  const answer = Object(parsed(text)) as { ids?: unknown; message?: unknown };
  if (status === 200 && Array.isArray(answer.ids)) return answer.ids;
  if (status === 200) return { message: 'the server answered 200 without ids', mayPass: false };
  const reason = typeof answer.message === 'string' ? `: ${answer.message}` : '';
  return {
    message: `the server answered ${status}${reason}`,
    mayPass: RETRIED_STATUS.has(status),
    retryAfter: /^\d{1,4}$/.test(retryAfter ?? '') ? Number(retryAfter) * 1000 : undefined,
  };
}

function checkIds(ids: unknown[], expected: number): string[] {
  if (ids.length === expected) return ids.map(String);
  throw new Error(`the server gave ${ids.length} ids to ${expected} events`);
}

function sleep(delay: number, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  return new Promise((resolve, reject) => {
    const stop = (): void => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', stop);
      resolve();
    }, delay);
    signal.addEventListener('abort', stop, { once: true });
  });
}
