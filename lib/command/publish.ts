// Publishes lines from stdin (`sluice publish URL TOPIC`), in batches, each retried until it is taken.
// Needs `hub.ts`, `options.ts` and `transport.ts` beside it.

import { randomUUID } from 'node:crypto';
import { Agent } from 'node:http';
import { Agent as SecureAgent } from 'node:https';
import { isTopic } from '../hub.ts';
import { nodeTransport, type Transport } from '../transport.ts';
import { readHeaders, readOptions, readUrl, usageError } from './argv.ts';

/** What a command reads and writes: `process` has it, and so have a few `PassThrough`s. */
export interface PublishIo {
  readonly stdin: AsyncIterable<Uint8Array | string>;
  readonly stdout: NodeJS.WritableStream;
  readonly stderr: NodeJS.WritableStream & { readonly isTTY?: boolean | undefined };
  /** Interrupts the command, as Ctrl-C does. */
  readonly signal?: AbortSignal | undefined;
}

const HELP = `Usage: sluice publish [options] URL TOPIC

Publishes each line of stdin as one event, in order. What has arrived is sent at once, many lines to a
request where there are many; little more is read while a request is under way.

  -H, --header 'NAME: VALUE'  send this header; may be repeated
      --token TOKEN           send Authorization: Bearer TOKEN
      --event TYPE            the type of the events
      --key KEY               their key, for readers that ask for the latest per key
      --ndjson                lines are JSON: {"event"?, "data", "key"?} or a string
      --batch N               at most N lines in a request; default 500
      --attempts N            give up on a request after N attempts; default 8
      --ids                   print the ids that the events got
  -h, --help

No answer, 408, 429, 502, 503 and 504 are tried again, after what Retry-After says or a growing, random wait.
Each request carries an Idempotency-Key, the same one each time it is tried, so that what was published before
its answer got lost is not published twice, unless the server was restarted in between.

Exit codes:
  0  every line was published
  1  a line or a request was refused, or every attempt failed; how many lines were published is told
  2  wrong usage
  130  interrupted
`;

const BATCH_BYTES = 512 * 1024;
const MAX_LINE_BYTES = 1024 * 1024;
const ANSWER_TIMEOUT = 30_000;
const BASE_TIMEOUT = 200;
const MAX_TIMEOUT = 10_000;
const TO_BE_RETRIED = new Set([408, 429, 502, 503, 504]);

/** Runs the command and resolves with its exit code; `argv` is what follows `sluice publish`. */
export async function publish(argv: readonly string[], io: PublishIo): Promise<number> {
  let published = 0;
  let agents: { destroy(): void }[] = [];
  try {
    const plan = planOf(argv);
    if (plan === undefined) {
      io.stdout.write(HELP);
      return 0;
    }
    agents = plan.agents;
    for await (const batch of batchesOf(io.stdin, plan, io.signal)) {
      const ids = await post(batch, plan, io);
      published += ids.length;
      if (plan.ids) io.stdout.write(ids.map((id) => `${id}\n`).join(''));
      if (io.stderr.isTTY) io.stderr.write(`\r${published} published`);
    }
    if (io.stderr.isTTY) io.stderr.write(`\r${published} published\n`);
    return 0;
  } catch (error) {
    return report(error, published, io);
  } finally {
    for (const agent of agents) agent.destroy();
  }
}

function report(error: unknown, published: number, io: PublishIo): number {
  const { code, message } = error as Error & { code?: string };
  if (code === 'ERR_SSE_USAGE') {
    io.stderr.write(`sluice publish: ${message}\n`);
    return 2;
  }
  const interrupted = io.signal?.aborted === true;
  const why = interrupted ? 'interrupted' : message;
  io.stderr.write(`${io.stderr.isTTY ? '\n' : ''}sluice publish: ${why}; ${published} published before\n`);
  return interrupted ? 130 : 1;
}

interface Plan {
  readonly url: URL;
  readonly headers: Record<string, string>;
  readonly event: string | undefined;
  readonly key: string | undefined;
  readonly ndjson: boolean;
  readonly batch: number;
  readonly attempts: number;
  readonly ids: boolean;
  readonly send: Transport;
  readonly agents: { destroy(): void }[];
}

const OPTIONS = {
  header: { kind: 'text', short: 'H', many: true },
  token: { kind: 'text' },
  event: { kind: 'text' },
  key: { kind: 'text' },
  ndjson: { kind: 'flag' },
  batch: { kind: 'count' },
  attempts: { kind: 'count' },
  ids: { kind: 'flag' },
  help: { kind: 'flag', short: 'h' },
} as const;

function planOf(argv: readonly string[]): Plan | undefined {
  const { values, positionals } = readOptions(argv, OPTIONS);
  if (values.help) return undefined;
  if (positionals.length !== 2)
    throw usageError(`expected a URL and a topic, got ${positionals.length || 'nothing'}`);
  const url = urlFor(positionals[0]!, checkTopic(positionals[1]!));
  if (values.event !== undefined && /[\r\n]/.test(values.event)) throw usageError('--event must be one line');
  const headers = readHeaders(values.header);
  if (values.token !== undefined) headers.authorization = `Bearer ${checkToken(values.token)}`;
  const agent = new (url.protocol === 'https:' ? SecureAgent : Agent)({ keepAlive: true, maxSockets: 1 });
  return {
    url,
    headers,
    event: values.event,
    key: values.key,
    ndjson: values.ndjson ?? false,
    batch: atLeastOne('--batch', values.batch ?? 500),
    attempts: atLeastOne('--attempts', values.attempts ?? 8),
    ids: values.ids ?? false,
    send: nodeTransport({ agent }),
    agents: [agent],
  };
}

/** Lines as they come, as many together as have arrived, within the limits of a request. */
async function* batchesOf(
  stdin: PublishIo['stdin'],
  plan: Plan,
  signal: AbortSignal | undefined,
): AsyncGenerator<string[], void, undefined> {
  let number = 0;
  let batch: string[] = [];
  let units = 0;
  for await (const lines of linesOf(stdin, signal)) {
    for (const line of lines) {
      const event = eventOf(line, ++number, plan);
      if (event instanceof Error) {
        // What stands before it is published all the same.
        if (batch.length > 0) yield batch;
        throw event;
      }
      if (batch.length === plan.batch || (units + event.length > BATCH_BYTES && batch.length > 0)) {
        yield batch;
        batch = [];
        units = 0;
      }
      batch.push(event);
      units += event.length;
    }
    if (batch.length > 0) yield batch;
    batch = [];
    units = 0;
  }
}

async function* linesOf(
  stdin: PublishIo['stdin'],
  signal: AbortSignal | undefined,
): AsyncGenerator<string[], void, undefined> {
  const decoder = new TextDecoder();
  let rest: string[] = [];
  let restUnits = 0;
  for await (const chunks of gathered(stdin, signal)) {
    const texts = chunks.map((chunk) =>
      typeof chunk === 'string' ? chunk : decoder.decode(chunk, { stream: true }),
    );
    const lines = texts.join('').split('\n');
    if (lines.length > 1) {
      lines[0] = rest.join('') + lines[0]!;
      rest = [];
      restUnits = 0;
    }
    const last = lines.pop()!;
    rest.push(last);
    restUnits += last.length;
    if (restUnits > MAX_LINE_BYTES) throw new Error(`a line is longer than ${MAX_LINE_BYTES} bytes`);
    if (lines.length > 0) yield lines.map(withoutCr);
  }
  const last = rest.join('') + decoder.decode();
  if (last !== '') yield [withoutCr(last)];
}

/** Chunks that are there already come together, however small they are. */
async function* gathered<Chunk extends Uint8Array | string>(
  stdin: AsyncIterable<Chunk>,
  signal: AbortSignal | undefined,
): AsyncGenerator<Chunk[], void, undefined> {
  const chunks = stdin[Symbol.asyncIterator]();
  let next = chunks.next();
  for (;;) {
    let result: IteratorResult<Chunk> | undefined = await unlessAborted(next, signal);
    const together: Chunk[] = [];
    for (let units = 0; result !== undefined && !result.done && units < BATCH_BYTES; ) {
      together.push(result.value);
      units += result.value.length;
      next = chunks.next();
      // It may fail while a request is under way: that is told when it is waited for.
      next.catch(() => {});
      result = await Promise.race([next, nothingYet()]);
    }
    yield together;
    if (result?.done) return;
  }
}

function nothingYet(): Promise<undefined> {
  return new Promise((resolve) => setImmediate(resolve, undefined));
}

function withoutCr(line: string): string {
  return line.endsWith('\r') ? line.slice(0, -1) : line;
}

/** A line of stdin as a line of the request. */
function eventOf(line: string, number: number, { ndjson, event, key }: Plan): string | Error {
  if (!ndjson) return JSON.stringify({ event, data: line, key });
  const value = parsed(line);
  if (typeof value === 'string') return JSON.stringify({ event, data: value, key });
  if (typeof value !== 'object' || value === null || !('data' in value)) {
    return new Error(`line ${number} is neither a JSON object with data nor a JSON string`);
  }
  const given = value as { event?: unknown; data: unknown; key?: unknown };
  return JSON.stringify({ event: given.event ?? event, data: given.data, key: given.key ?? key });
}

function parsed(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}

async function post(batch: readonly string[], plan: Plan, io: PublishIo): Promise<string[]> {
  const body = `${batch.join('\n')}\n`;
  const headers = {
    ...plan.headers,
    'content-type': 'application/vnd.sluice+ndjson',
    'content-length': String(Buffer.byteLength(body)),
    'idempotency-key': randomUUID(),
  };
  for (let attempt = 1; ; attempt++) {
    const answer = await postOnce(plan, headers, body, io.signal);
    if (Array.isArray(answer)) return checkIds(answer, batch.length);
    if (!answer.passing || attempt >= plan.attempts) throw new Error(answer.message);
    // Full jitter: anywhere between nothing and the bound, so that a crowd does not return at once.
    const bound = Math.min(BASE_TIMEOUT * 2 ** attempt, MAX_TIMEOUT);
    await sleep(answer.retryAfter ?? Math.random() * bound, io.signal);
  }
}

interface Failure {
  readonly message: string;
  readonly passing: boolean;
  readonly retryAfter?: number | undefined;
}

async function postOnce(
  { send, url }: Plan,
  headers: Record<string, string>,
  body: string,
  signal: AbortSignal | undefined,
): Promise<unknown[] | Failure> {
  signal?.throwIfAborted();
  const controller = new AbortController();
  const stop = (): void => controller.abort(signal?.reason);
  signal?.addEventListener('abort', stop, { once: true });
  const timer = setTimeout(() => controller.abort(new Error('no answer in time')), ANSWER_TIMEOUT);
  try {
    const response = await send({ url, method: 'POST', headers, body, signal: controller.signal });
    const chunks: Uint8Array[] = [];
    for await (const chunk of response.body) chunks.push(chunk);
    return judge(response.status, Buffer.concat(chunks).toString(), response.header('retry-after'));
  } catch (error) {
    if (signal?.aborted) throw error;
    const { message, code } = error as Error & { code?: string };
    return { message: `no answer from ${url.host}: ${message || code}`, passing: true };
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', stop);
  }
}

function judge(status: number, text: string, retryAfter: string | undefined): unknown[] | Failure {
  const answer = Object(parsed(text)) as { ids?: unknown; id?: unknown; message?: unknown };
  if (status === 200 && Array.isArray(answer.ids)) return answer.ids;
  if (status === 200) return { message: 'the server answered 200 without ids', passing: false };
  const reason = typeof answer.message === 'string' ? `: ${answer.message}` : '';
  return {
    message: `the server answered ${status}${reason}`,
    passing: TO_BE_RETRIED.has(status),
    retryAfter: /^\d{1,4}$/.test(retryAfter ?? '') ? Number(retryAfter) * 1000 : undefined,
  };
}

function checkIds(ids: unknown[], expected: number): string[] {
  if (ids.length === expected) return ids.map(String);
  throw new Error(`the server gave ${ids.length} ids to ${expected} events`);
}

async function sleep(timeout: number, signal: AbortSignal | undefined): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const slept = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, timeout);
  });
  await unlessAborted(slept, signal).finally(() => clearTimeout(timer));
}

async function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  signal.throwIfAborted();
  let stop = (): void => {};
  const aborted = new Promise<never>((_, reject) => {
    stop = () => reject(signal.reason);
    signal.addEventListener('abort', stop, { once: true });
  });
  return Promise.race([promise, aborted]).finally(() => signal.removeEventListener('abort', stop));
}

function checkTopic(name: string): string {
  if (isTopic(name)) return name;
  throw usageError(`a topic is 1 to 200 of A–Z a–z 0–9 . _ ~ : -, got ${JSON.stringify(name)}`);
}

function checkToken(token: string): string {
  // Not shown: a secret does not belong on a terminal.
  if (/^[\x21-\x7e]+$/.test(token)) return token;
  throw usageError('--token must be one word of printable ASCII');
}

function urlFor(text: string, topic: string): URL {
  const url = readUrl(text);
  url.pathname = `${url.pathname.replace(/\/$/, '')}/topics/${topic}`;
  return url;
}

function atLeastOne(name: string, value: number): number {
  if (value >= 1) return value;
  throw usageError(`${name} must be a whole number ≥ 1, got ${value}`);
}
