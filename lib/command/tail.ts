// Prints the events of a stream (`sluice tail URL`): reconnects, and keeps its place.
// Needs `client.ts`, `decode.ts` and `options.ts` beside it.

import { createWriteStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { type ConnectError, type ConnectOptions, connect, type StateChange } from '../client.ts';
import type { DecodedEvent } from '../decode.ts';
import { fileStorage } from '../positions.ts';
import { type OptionValues, readHeaders, readOptions, readUrl, usageError } from './argv.ts';

/** What a command reads and writes: `process` has it, and so have a few `PassThrough`s. */
export interface TailIo {
  readonly stdin: AsyncIterable<Uint8Array | string>;
  readonly stdout: NodeJS.WritableStream & { readonly isTTY?: boolean | undefined };
  readonly stderr: NodeJS.WritableStream;
  /** Interrupts the command, as Ctrl-C does. */
  readonly signal?: AbortSignal | undefined;
}

const HELP = `Usage: sluice tail [options] URL

Prints the data of each event on a line of its own. Reconnects, and resumes where it was.
What was missed for good (sluice:gap) is told on stderr.

  -H, --header 'NAME: VALUE'  send this header; may be repeated
  -X, --request METHOD        default GET, or POST with -d
  -d, --data BODY             send this body; @FILE reads it from a file, @- from stdin
      --retry                 send a POST again after a failure (by default never)
      --topic TOPIC           add topic=TOPIC to the URL; may be repeated
      --event TYPE            print events of this type only; may be repeated
      --last-event-id ID      resume after this event, where --state has no place yet
      --state FILE            keep the place in FILE, and resume from it
      --json                  print each event as JSON: event, data, id, time
      --timestamps            put the time of arrival before each event
      --gaps                  put the milliseconds since the event before it there
      --max N                 stop after N events
      --until TYPE            stop after an event of this type
      --record FILE           append every event to FILE as JSON lines, for \`sluice publish --ndjson\`
  -q, --quiet                 say nothing about reconnects
  -h, --help

Exit codes:
  0  the stream ended, or --max or --until was reached, or nobody reads the output any more
  1  the stream failed in a way that is not retried, or a file could not be read or written
  2  wrong usage
  3  the stream ended before --max or --until was reached
  130  interrupted
`;

/** Runs the command and resolves with its exit code; `argv` is what follows `sluice tail`. */
export async function tail(argv: readonly string[], io: TailIo): Promise<number> {
  let plan: Plan | undefined;
  try {
    plan = await planOf(argv, io);
    if (plan === undefined) {
      io.stdout.write(HELP);
      return 0;
    }
  } catch (error) {
    say(io, (error as Error).message);
    return isMisuse(error) ? 2 : 1;
  }
  return follow(plan, io);
}

interface Plan {
  readonly url: URL;
  readonly options: ConnectOptions;
  readonly events: ReadonlySet<string>;
  readonly max: number;
  readonly until: string | undefined;
  readonly record: string | undefined;
  readonly quiet: boolean;
  readonly json: boolean;
  readonly format: (event: DecodedEvent, time: number) => string;
}

const OPTIONS = {
  header: { kind: 'text', short: 'H', many: true },
  request: { kind: 'text', short: 'X' },
  data: { kind: 'text', short: 'd' },
  retry: { kind: 'flag' },
  topic: { kind: 'text', many: true },
  event: { kind: 'text', many: true },
  'last-event-id': { kind: 'text' },
  state: { kind: 'text' },
  json: { kind: 'flag' },
  timestamps: { kind: 'flag' },
  gaps: { kind: 'flag' },
  max: { kind: 'count' },
  until: { kind: 'text' },
  record: { kind: 'text' },
  quiet: { kind: 'flag', short: 'q' },
  help: { kind: 'flag', short: 'h' },
} as const;

async function planOf(argv: readonly string[], io: TailIo): Promise<Plan | undefined> {
  const { values, positionals } = readOptions(argv, OPTIONS);
  if (values.help) return undefined;
  if (positionals.length !== 1) throw usageError(`expected one URL, got ${positionals.length || 'none'}`);
  const url = readUrl(positionals[0]!);
  for (const topic of values.topic) url.searchParams.append('topic', topic);
  const headers = readHeaders(values.header);
  const max = atLeastOne('--max', values.max ?? Number.POSITIVE_INFINITY);
  const { until, request, 'last-event-id': lastEventId } = values;
  if (request !== undefined && !/^[a-z]+$/i.test(request))
    throw usageError(`--request must be a method such as POST, got ${JSON.stringify(request)}`);
  if (/[\x00-\x1f\x7f]/.test(lastEventId ?? ''))
    throw usageError(`--last-event-id must be one line, got ${JSON.stringify(lastEventId)}`);
  const body = values.data === undefined ? undefined : await bodyOf(values.data, io.stdin);
  if (body !== undefined) headers['content-type'] ??= 'application/json';
  return {
    url,
    max,
    until,
    events: new Set(values.event),
    record: values.record,
    quiet: values.quiet ?? false,
    json: values.json ?? false,
    format: formatOf(values, io.stdout.isTTY === true),
    options: {
      headers,
      body,
      method: request,
      lastEventId,
      storage: values.state === undefined ? undefined : fileStorage(values.state),
      isLast: until === undefined ? undefined : (event) => event.event === until,
      shouldRetry: values.retry ? isPassing : undefined,
    },
  };
}

async function follow(plan: Plan, io: TailIo): Promise<number> {
  const output = new Output(io.stdout);
  const record =
    plan.record === undefined ? undefined : new Output(createWriteStream(plan.record, { flags: 'a' }));
  const interrupt = (): void => output.fail(io.signal?.reason);
  let printed = 0;
  let reached = false;
  try {
    io.signal?.addEventListener('abort', interrupt, { once: true });
    const connection = connect(plan.url, {
      ...plan.options,
      signal: io.signal,
      onState: (change) => plan.quiet || tell(io, change),
    });
    output.onFailure(() => connection.close());
    record?.onFailure(() => connection.close());
    for await (const event of connection) {
      const isGap = event.event === 'sluice:gap';
      if (isGap) say(io, `events were missed: ${event.data}`);
      const time = Date.now();
      await record?.write(recorded(event, time));
      const isWanted = !isGap && (plan.events.size === 0 || plan.events.has(event.event));
      if (isWanted || (isGap && plan.json)) await output.write(plan.format(event, time));
      if (isWanted) printed++;
      reached = printed >= plan.max || event.event === plan.until;
      if (!reached) continue;
      // Printed is processed: nothing of this is to come again.
      await connection.commit();
      break;
    }
    await record?.end();
    output.throwIfFailed();
    return reached || (plan.until === undefined && plan.max === Number.POSITIVE_INFINITY) ? 0 : 3;
  } catch (error) {
    if (isClosedPipe(error)) return 0;
    if (io.signal?.aborted) return 130;
    say(io, (error as Error).message);
    return isMisuse(error) ? 2 : 1;
  } finally {
    io.signal?.removeEventListener('abort', interrupt);
  }
}

/** Writes at the pace of whoever reads, and remembers why it cannot. */
class Output {
  readonly #target: NodeJS.WritableStream;
  #failure: Error | undefined;
  #wake: (() => void) | undefined;
  #onFailure: (() => void) | undefined;

  constructor(target: NodeJS.WritableStream) {
    this.#target = target;
    target.on('drain', () => this.#wake?.());
    target.on('error', (error) => this.fail(error));
  }

  /** Ends the waiting, and all later writes, with this error. */
  fail(error: Error): void {
    this.#failure ??= error;
    this.#onFailure?.();
    this.#wake?.();
  }

  onFailure(act: () => void): void {
    this.#onFailure = act;
  }

  throwIfFailed(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }

  async write(text: string): Promise<void> {
    this.throwIfFailed();
    if (this.#target.write(text)) return;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
    this.throwIfFailed();
  }

  async end(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      this.#target.end(resolve);
    });
    this.throwIfFailed();
  }
}

type Values = OptionValues<typeof OPTIONS>;

function formatOf({ json, timestamps, gaps }: Values, isTerminal: boolean): Plan['format'] {
  let before: number | undefined;
  return (event, time) => {
    const waited = time - (before ?? time);
    before = time;
    const { event: type, data, id } = event;
    if (json) {
      const when = { time: new Date(time).toISOString(), ...(gaps && { gap: waited }) };
      return `${JSON.stringify({ event: type, data, id, ...when })}\n`;
    }
    const prefix = `${timestamps ? `${new Date(time).toISOString()} ` : ''}${gaps ? `+${waited}ms ` : ''}`;
    return `${prefix}${isTerminal ? harmless(data) : data}\n`;
  };
}

// What a server sends must not move the cursor of a terminal or change its title.
function harmless(text: string): string {
  return text.replace(
    /[\x00-\x08\x0b-\x1f\x7f-\x9f]/g,
    (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`,
  );
}

function recorded({ event, data, id }: DecodedEvent, time: number): string {
  return `${JSON.stringify({ time: new Date(time).toISOString(), id, event, data })}\n`;
}

function tell(io: TailIo, { state, failure, delay = 0 }: StateChange): void {
  if (state === 'waiting') say(io, `${failure?.message}; trying again in ${(delay / 1000).toFixed(1)} s`);
}

function say(io: TailIo, message: string): void {
  io.stderr.write(`sluice tail: ${harmless(message)}\n`);
}

const FINAL = new Set([
  'ERR_SSE_CONTENT_TYPE',
  'ERR_SSE_REDIRECT',
  'ERR_SSE_LINE_TOO_LONG',
  'ERR_SSE_EVENT_TOO_LARGE',
]);

function isPassing({ code, status = 503 }: ConnectError): boolean {
  return !FINAL.has(code) && (status >= 500 || status === 408 || status === 425 || status === 429);
}

function isClosedPipe(error: unknown): boolean {
  return (error as { code?: string }).code === 'EPIPE';
}

function isMisuse(error: unknown): boolean {
  const { code } = error as { code?: string };
  return code === 'ERR_SSE_USAGE' || error instanceof TypeError || error instanceof RangeError;
}

function atLeastOne(name: string, value: number): number {
  if (value >= 1) return value;
  throw usageError(`${name} must be a whole number ≥ 1, got ${value}`);
}

async function bodyOf(data: string, stdin: TailIo['stdin']): Promise<string | Uint8Array> {
  if (!data.startsWith('@')) return data;
  if (data !== '@-') return readFile(data.slice(1));
  const chunks: Uint8Array[] = [];
  for await (const chunk of stdin) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks);
}
