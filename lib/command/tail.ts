// Prints the events of a stream (`sluice tail URL`): reconnects after a failure and resumes.
// Needs `../client.ts`, `../decode.ts`, `../failure.ts`, `../positions.ts`, `../protocol.ts`, `../refusal.ts`,
// `argv.ts`, `colors.ts`, `io.ts`, `output.ts`, `pretty-json.ts` and `tokens.ts` beside it.

import { createHash } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { type Connection, type ConnectOptions, connect } from '../client.ts';
import type { DecodedEvent } from '../decode.ts';
import { isTransient, shown } from '../failure.ts';
import { fileStorage } from '../positions.ts';
import { controlEvents, isReservedEvent, readGap } from '../protocol.ts';
import { parsedObject, reasonIn } from '../refusal.ts';
import {
  type CommandLine,
  type OptionSpecs,
  type OptionValues,
  readOneUrl,
  readOptions,
  usageError,
  withOptionNames,
} from './argv.ts';
import { COLOR_ENVIRONMENT, paintFor } from './colors.ts';
import { type CommandIo, escapeControls, escapeJson, jsonLine, report } from './io.ts';
import { Output } from './output.ts';
import { prettyJson } from './pretty-json.ts';
import { REQUEST_ENVIRONMENT, REQUEST_HELP, REQUEST_OPTIONS, requestHeaders } from './tokens.ts';

const HELP = `Usage: sluice tail [options] URL

Prints the data of each event on a line of its own. Reconnects after a failure, and resumes after the last
event. Events that are lost for good (${controlEvents.gap}), and a failure of the source (${controlEvents.error}), are
reported on stderr; with --json they are also printed. They are not counted, and not recorded.

${REQUEST_HELP}
  -X, --request METHOD        default GET, or POST with -d
  -d, --data BODY             send this body; @FILE reads it from a file, @- from stdin
      --retry                 send a POST again after a failure; by default it is sent once
      --topic TOPIC           add topic=TOPIC to the URL; may be repeated
      --event TYPE            print only events of this type; may be repeated
  -n, --last N                begin with the last N events that the server has, at most 999999999
      --from earliest         begin with the earliest event that the server has; default: with the next one
      --last-event-id ID      resume after this event, unless --state has a position already
      --state FILE            keep the position in FILE, and resume from it. One file may serve many URLs, of
                              one process at a time; it does not hold their secrets
      --json                  print each event as JSON: event, data, id, time. On a terminal, JSON is indented
      --timestamps            print the time of arrival before each event
      --gaps                  print the milliseconds since the event before it, too
      --max N                 stop after N events
      --until TYPE            stop after an event of this type
      --record FILE           append each event to FILE as JSON lines, for \`sluice publish --ndjson\`
  -q, --quiet                 do not report reconnects, nor that --state has positions of other streams only
  -h, --help

Exit codes:
  0  the stream ended, or --max or --until was reached, or the reader of the output is gone
  1  the stream failed in a way that is not retried, or a file could not be read or written
  2  wrong usage
  3  the stream ended, or the reader of the output is gone, before --max or --until was reached; or the
     reader is gone while --record is given
  130  interrupted

Environment:
${REQUEST_ENVIRONMENT}
${COLOR_ENVIRONMENT}

Examples:
  sluice tail http://127.0.0.1:8080/events?topic=news
  sluice tail --last 10 --json --topic prices --topic news https://events.example/events
  sluice tail --state position --record events.ndjson --topic news https://events.example/events
`;

const OPTIONS = {
  ...REQUEST_OPTIONS,
  request: { kind: 'text', short: 'X' },
  data: { kind: 'text', short: 'd' },
  retry: { kind: 'flag' },
  topic: { kind: 'text', many: true },
  event: { kind: 'text', many: true },
  last: { kind: 'count', short: 'n', max: 999_999_999 },
  from: { kind: 'text', choices: ['earliest'] },
  'last-event-id': { kind: 'text' },
  state: { kind: 'text', isFile: true },
  json: { kind: 'flag' },
  timestamps: { kind: 'flag' },
  gaps: { kind: 'flag' },
  max: { kind: 'count', min: 1 },
  until: { kind: 'text' },
  record: { kind: 'text', isFile: true },
  quiet: { kind: 'flag', short: 'q' },
  help: { kind: 'flag', short: 'h' },
} as const;

/** The same for completion by shells. */
export const tailOptions: OptionSpecs = OPTIONS;

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
  if (connection === undefined) return 130;
  const stdout = new Output(io.stdout, { onFailure: () => connection.close() });
  const interrupt = (): void => stdout.fail(io.signal.reason);
  io.signal.addEventListener('abort', interrupt, { once: true });
  try {
    return await print(connection, line.values, io, stdout);
  } catch (error) {
    const { max, until, record } = line.values;
    const isOpenEnded = max === undefined && until === undefined && record === undefined;
    if (stdout.isAbandoned && error === stdout.failure) return isOpenEnded ? 0 : 3;
    if (io.signal.aborted) return 130;
    throw error;
  } finally {
    io.signal.removeEventListener('abort', interrupt);
  }
}

async function print(connection: Connection, values: Values, io: CommandIo, stdout: Output): Promise<number> {
  const { max = Infinity, until, json = false } = values;
  const types = new Set(values.event);
  const format = formatOf(values, io);
  const record = recordFor(values.record, connection);
  let printed = 0;
  let reached = false;
  try {
    for await (const event of connection) {
      const time = Date.now();
      const isControl = isReservedEvent(event.event);
      if (isControl) reportControl(event, io);
      // An event whose position is stored does not come again, so it has to be in the record before.
      else if (values.state === undefined) await record?.write(recorded(event, time));
      else await record?.writeThrough(recorded(event, time));
      const isWanted = !isControl && (types.size === 0 || types.has(event.event));
      if (isWanted || (isControl && json)) await stdout.write(format(event, time));
      if (isWanted) printed++;
      reached = printed >= max || event.event === until;
      if (!reached) continue;
      // The event is printed, so it must not come again after a restart.
      await connection.commit();
      break;
    }
    await stdout.flush();
  } finally {
    // Also where the reader of the output is gone: what was recorded until then is kept.
    await record?.end();
  }
  return reached || (until === undefined && max === Infinity) ? 0 : 3;
}

// ── what is asked for ─────────────────────────────────────────────────────────────────────────────────────

/** Resolves with `undefined` where the command is interrupted before all of the body has been read. */
async function connectionFor(
  line: CommandLine<typeof OPTIONS>,
  io: CommandIo,
): Promise<Connection | undefined> {
  const { values, positionals } = line;
  const target = readOneUrl(positionals);
  for (const topic of values.topic) target.searchParams.append('topic', topic);
  const options = await connectOptions(target, values, io);
  beginAt(target, values);
  if (io.signal.aborted) return undefined;
  return withOptionNames(line, OPTION_NAMES, () => connect(target, options));
}

/** Sets where the first connection begins; those after it resume. It is no part of the key of a position. */
function beginAt({ searchParams }: URL, { last, from, 'last-event-id': id }: Values): void {
  const given = Object.entries({ '--last': last, '--from': from, '--last-event-id': id });
  const [one, other] = given.flatMap(([name, value]) => (value === undefined ? [] : [name]));
  if (other !== undefined) throw usageError(`${one} and ${other} exclude each other`);
  if (last !== undefined) searchParams.set('last', String(last));
  if (from !== undefined) searchParams.set('from', from);
}

async function connectOptions(target: URL, values: Values, io: CommandIo): Promise<ConnectOptions> {
  const { request, until, state, 'last-event-id': lastEventId, data } = values;
  const headers = await requestHeaders(values, io.env);
  const body = data === undefined ? undefined : await readBody(data, io);
  if (body !== undefined) headers['content-type'] ??= 'application/json';
  const storageKey = positionKey(target);
  if (state !== undefined && !values.quiet) await reportUnknownKey(state, storageKey, io);
  let isWaiting = false;
  return {
    headers,
    body,
    method: request,
    lastEventId,
    storage: state === undefined ? undefined : fileStorage(state),
    storageKey,
    isLast: until === undefined ? undefined : (event) => event.event === until,
    shouldRetry: values.retry ? isTransient : undefined,
    signal: io.signal,
    onError: ({ message }) => report(io, 'sluice tail', message),
    onState: ({ state, failure, delay = 0 }) => {
      if (values.quiet) return;
      if (state === 'open' && isWaiting && io.stderr.isTTY) report(io, 'sluice tail', 'connected again');
      if (state === 'waiting')
        report(io, 'sluice tail', `${failure?.message}; trying again in ${(delay / 1000).toFixed(1)} s`);
      if (state !== 'connecting') isWaiting = state === 'waiting';
    },
  };
}

/**
 * The key of the position of a stream: its URL without what may be a secret in it. Parameters other than the
 * topics, and a password, are replaced by a digest, so that they still tell two streams apart; those that are
 * new for each connection are left out. The order of the topics makes no difference to the server, nor here.
 */
function positionKey({ origin, pathname, searchParams, username, password }: URL): string {
  const topics = new URLSearchParams();
  for (const topic of searchParams.getAll('topic').sort()) topics.append('topic', topic);
  const others = [...searchParams].filter(([name]) => name !== 'topic' && !PER_CONNECTION.has(name));
  const shown = `${origin}${pathname}${topics.size > 0 ? `?${topics}` : ''}`;
  if (others.length === 0 && username === '' && password === '') return shown;
  const digest = createHash('sha256')
    .update(JSON.stringify([others, username, password]))
    .digest('hex');
  return `${shown}#${digest.slice(0, 32)}`;
}

/** A stream whose URL has changed begins anew. That may be a mistake, so it is not done silently. */
async function reportUnknownKey(state: string, key: string, io: CommandIo): Promise<void> {
  // What is wrong with the file, its storage reports.
  const positions = parsedObject(await readFile(state, 'utf8').catch(() => ''));
  if (Object.keys(positions).length > 0 && !Object.hasOwn(positions, key))
    report(io, 'sluice tail', `${state} has positions of other streams, but none of ${key}`);
}

const PER_CONNECTION = new Set(['ticket', 'token', 'lastEventId']);

/** The signal ends the reading of stdin; what was read until then is returned. */
async function readBody(data: string, { stdin, signal }: CommandIo): Promise<string | Uint8Array> {
  if (!data.startsWith('@')) return data;
  if (data !== '@-') return readFileOf(data);
  const chunks: Uint8Array[] = [];
  const stop = (): void => void stdin.destroy?.();
  if (signal.aborted) stop();
  signal.addEventListener('abort', stop, { once: true });
  try {
    for await (const chunk of stdin) chunks.push(Buffer.from(chunk));
  } catch (error) {
    // A Readable that was destroyed reports it as an error.
    if (!signal.aborted) throw error;
  } finally {
    signal.removeEventListener('abort', stop);
  }
  return Buffer.concat(chunks);
}

function readFileOf(data: string): Promise<Uint8Array> {
  return readFile(data.slice(1)).catch((cause) => {
    throw new Error(`--data ${data} cannot be read: ${cause.message}`, { cause });
  });
}

// ── what is printed ───────────────────────────────────────────────────────────────────────────────────────

type Format = (event: DecodedEvent, time: number) => string;

function formatOf({ json, timestamps, gaps }: Values, { stdout, env }: CommandIo): Format {
  const isTerminal = stdout.isTTY === true;
  // Data has no colours in a pipe, whatever the environment says: a program reads it.
  const paint = isTerminal ? paintFor(stdout, env) : paintFor({}, {});
  let before: number | undefined;
  return ({ event, data, id }, time) => {
    const gap = time - (before ?? time);
    before = time;
    const at = new Date(time).toISOString();
    if (json) {
      const line = jsonLine({ event, data, id, time: at, ...(gaps && { gap }) });
      const pretty = isTerminal ? prettyJson(line, paint) : undefined;
      return pretty === undefined ? line : `${pretty}\n`;
    }
    const times = `${timestamps ? `${at} ` : ''}${gaps ? `+${gap}ms ` : ''}`;
    const prefix = times && paint('dim', times);
    if (!isTerminal) return `${prefix}${data}\n`;
    return `${prefix}${prettyJson(escapeJson(data), paint) ?? escapeControls(data)}\n`;
  };
}

/** What the server says about the stream itself. It could not be published again: such types are reserved. */
function reportControl(event: DecodedEvent, io: CommandIo): void {
  if (event.event === controlEvents.gap) reportGap(event, io);
  if (event.event === controlEvents.error)
    report(io, 'sluice tail', `the server has failed to go on${reasonIn(parsedObject(event.data))}`);
}

function reportGap({ data, id = '' }: DecodedEvent, io: CommandIo): void {
  const { reason, from, to, topics } = readGap(data, id);
  const names = topics.slice(0, MAX_TOPICS).map(shown);
  if (topics.length > MAX_TOPICS) names.push(`${topics.length - MAX_TOPICS} more topics`);
  const where = names.length > 0 ? ` of ${names.join(', ')}` : '';
  const range = `from ${shown(from ?? 'an unreadable id')} to ${shown(to || 'an unknown place')}`;
  report(io, 'sluice tail', `events${where} were missed: ${shown(reason)}, ${range}`);
}

/** So many topics of a gap are named. */
const MAX_TOPICS = 5;

function recordFor(path: string | undefined, connection: Connection): Output | undefined {
  if (path === undefined) return undefined;
  const onFailure = (): void => connection.close();
  return new Output(createWriteStream(path, { flags: 'a' }), { name: `--record ${path}`, onFailure });
}

function recorded({ event, data, id }: DecodedEvent, time: number): string {
  return jsonLine({ time: new Date(time).toISOString(), id, event, data });
}
