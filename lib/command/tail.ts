// Prints the events of a stream (`sluice tail URL`): reconnects after a failure and resumes.
// Needs `../client.ts`, `../decode.ts`, `../positions.ts`, `../protocol.ts`, `../request.ts`, `argv.ts`,
// `io.ts` and `output.ts` beside it.

import { createWriteStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { type Connection, type ConnectOptions, connect } from '../client.ts';
import type { DecodedEvent } from '../decode.ts';
import { fileStorage } from '../positions.ts';
import { controlEvents, readGap } from '../protocol.ts';
import { isTransient } from '../request.ts';
import {
  type CommandLine,
  type OptionValues,
  readHeaders,
  readOptions,
  readUrl,
  usageError,
  withOptionNames,
} from './argv.ts';
import { type CommandInput, type CommandIo, escapeControls, jsonLine, report } from './io.ts';
import { Output } from './output.ts';

const HELP = `Usage: sluice tail [options] URL

Prints the data of each event on a line of its own. Reconnects after a failure, and resumes after the last
event. Events that are lost for good (${controlEvents.gap}) are reported on stderr.

  -H, --header 'NAME: VALUE'  send this header; may be repeated
  -X, --request METHOD        default GET, or POST with -d
  -d, --data BODY             send this body; @FILE reads it from a file, @- from stdin
      --retry                 send a POST again after a failure; by default it is sent once
      --topic TOPIC           add topic=TOPIC to the URL; may be repeated
      --event TYPE            print only events of this type; may be repeated
      --last-event-id ID      resume after this event, unless --state has a position already
      --state FILE            keep the position in FILE, under the URL, and resume from it
      --json                  print each event as JSON: event, data, id, time
      --timestamps            print the time of arrival before each event
      --gaps                  print the milliseconds since the event before it, too
      --max N                 stop after N events
      --until TYPE            stop after an event of this type
      --record FILE           append every event to FILE as JSON lines, for \`sluice publish --ndjson\`
  -q, --quiet                 do not report reconnects
  -h, --help

Exit codes:
  0  the stream ended, or --max or --until was reached, or the reader of the output is gone
  1  the stream failed in a way that is not retried, or a file could not be read or written
  2  wrong usage
  3  the stream ended before --max or --until was reached
  130  interrupted
`;

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
  max: { kind: 'count', min: 1 },
  until: { kind: 'text' },
  record: { kind: 'text' },
  quiet: { kind: 'flag', short: 'q' },
  help: { kind: 'flag', short: 'h' },
} as const;

type Values = OptionValues<typeof OPTIONS>;

/** The options of `connect`, as this command calls them. */
const OPTION_NAMES = {
  method: ['request'],
  body: ['data'],
  headers: ['header'],
  lastEventId: ['last-event-id'],
} as const;

/** Runs `sluice tail`; `argv` has the words after that. Resolves with the exit code. */
export async function tail(argv: readonly string[], io: CommandIo): Promise<number> {
  const line = readOptions(argv, OPTIONS);
  if (line.values.help) {
    io.stdout.write(HELP);
    return 0;
  }
  const connection = await connectionFor(line, io);
  const stdout = new Output(io.stdout, { onFailure: () => connection.close() });
  const interrupt = (): void => stdout.fail(io.signal.reason);
  io.signal.addEventListener('abort', interrupt, { once: true });
  try {
    return await print(connection, line.values, io, stdout);
  } catch (error) {
    if (stdout.isAbandoned) return 0;
    if (io.signal.aborted) return 130;
    throw error;
  } finally {
    io.signal.removeEventListener('abort', interrupt);
  }
}

async function print(connection: Connection, values: Values, io: CommandIo, stdout: Output): Promise<number> {
  const { max = Infinity, until, json = false } = values;
  const types = new Set(values.event);
  const format = formatOf(values, io.stdout.isTTY === true);
  const record = recordFor(values.record, connection);
  let printed = 0;
  let reached = false;
  for await (const event of connection) {
    const time = Date.now();
    const isGap = event.event === controlEvents.gap;
    if (isGap) reportGap(event, io);
    await record?.write(recorded(event, time));
    const isWanted = !isGap && (types.size === 0 || types.has(event.event));
    if (isWanted || (isGap && json)) await stdout.write(format(event, time));
    if (isWanted) printed++;
    reached = printed >= max || event.event === until;
    if (!reached) continue;
    // The event is printed, so it must not come again after a restart.
    await connection.commit();
    break;
  }
  await record?.end();
  stdout.throwIfFailed();
  return reached || (until === undefined && max === Infinity) ? 0 : 3;
}

// ── what is asked for ─────────────────────────────────────────────────────────────────────────────────────

async function connectionFor(line: CommandLine<typeof OPTIONS>, io: CommandIo): Promise<Connection> {
  const { values, positionals } = line;
  const [url] = positionals;
  if (url === undefined || positionals.length > 1)
    throw usageError(`expected one URL, got ${positionals.length || 'none'}`);
  const target = readUrl(url);
  for (const topic of values.topic) target.searchParams.append('topic', topic);
  const options = await connectOptions(values, io);
  return withOptionNames(line, OPTION_NAMES, () => connect(target, options));
}

async function connectOptions(values: Values, io: CommandIo): Promise<ConnectOptions> {
  const { request, until, state, 'last-event-id': lastEventId, data } = values;
  const headers = readHeaders(values.header);
  const body = data === undefined ? undefined : await readBody(data, io.stdin);
  if (body !== undefined) headers['content-type'] ??= 'application/json';
  return {
    headers,
    body,
    method: request,
    lastEventId,
    storage: state === undefined ? undefined : fileStorage(state),
    isLast: until === undefined ? undefined : (event) => event.event === until,
    shouldRetry: values.retry ? isTransient : undefined,
    signal: io.signal,
    onState: ({ state, failure, delay = 0 }) => {
      if (state !== 'waiting' || values.quiet) return;
      report(io, 'sluice tail', `${failure?.message}; trying again in ${(delay / 1000).toFixed(1)} s`);
    },
  };
}

async function readBody(data: string, stdin: CommandInput): Promise<string | Uint8Array> {
  if (!data.startsWith('@')) return data;
  if (data !== '@-') return readFile(data.slice(1));
  const chunks: Uint8Array[] = [];
  for await (const chunk of stdin) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks);
}

// ── what is printed ───────────────────────────────────────────────────────────────────────────────────────

type Format = (event: DecodedEvent, time: number) => string;

function formatOf({ json, timestamps, gaps }: Values, isTerminal: boolean): Format {
  let before: number | undefined;
  return ({ event, data, id }, time) => {
    const gap = time - (before ?? time);
    before = time;
    const at = new Date(time).toISOString();
    if (json) return jsonLine({ event, data, id, time: at, ...(gaps && { gap }) });
    const prefix = `${timestamps ? `${at} ` : ''}${gaps ? `+${gap}ms ` : ''}`;
    return `${prefix}${isTerminal ? escapeControls(data) : data}\n`;
  };
}

function reportGap({ data, id = '' }: DecodedEvent, io: CommandIo): void {
  const { reason, from, to, topics } = readGap(data, id);
  const where = topics.length > 0 ? ` of ${topics.join(', ')}` : '';
  const range = `from ${from ?? 'an unreadable id'} to ${to}`;
  report(io, 'sluice tail', `events${where} were missed: ${reason}, ${range}`);
}

function recordFor(path: string | undefined, connection: Connection): Output | undefined {
  if (path === undefined) return undefined;
  return new Output(createWriteStream(path, { flags: 'a' }), { onFailure: () => connection.close() });
}

function recorded({ event, data, id }: DecodedEvent, time: number): string {
  return jsonLine({ time: new Date(time).toISOString(), id, event, data });
}
