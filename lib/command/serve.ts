// Runs the reference server as a command (`sluice serve`), fed by files, standard input and this host.
// Needs `../history-limits.ts`, `../log.ts`, `../memory-log.ts`, `../server.ts`, `../sqlite.ts`,
// `argv.ts`, `colors.ts`, `inputs.ts`, `io.ts`, `log-lines.ts`, `owner.ts`, `part.ts`, `redis.ts`, `tokens.ts`, `worker.ts` and `workers.ts` beside it.

import { once } from 'node:events';
import type { HistoryLimits } from '../history-limits.ts';
import type { Log } from '../log.ts';
import { MemoryLog } from '../memory-log.ts';
import {
  type CloseOptions,
  createSseServer,
  type LogLine,
  type SseServer,
  type SseServerOptions,
} from '../server.ts';
import { SqliteLog } from '../sqlite.ts';
import {
  type CommandLine,
  type OptionSpecs,
  type OptionValues,
  readOptions,
  usageError,
  withOptionNames,
} from './argv.ts';
import { COLOR_ENVIRONMENT } from './colors.ts';
import { type InputStates, type Inputs, readInputs, registerInputs, startInputs } from './inputs.ts';
import type { CommandIo } from './io.ts';
import { FORMATS, LEVELS, logLinesTo } from './log-lines.ts';
import { reached, runOwner } from './owner.ts';
import { type Part, partOf, reportingFailure } from './part.ts';
import {
  checkRedis,
  createRedisClient,
  openRedisLog,
  REDIS_OPTION_NAMES,
  type RedisAddress,
  readRedis,
} from './redis.ts';
import { readTokens, type Tokens } from './tokens.ts';
import { Membership } from './worker.ts';
import { checkPlatform, runWorkers } from './workers.ts';

const HELP = `Usage: sluice serve [options]

Serves topics of events over HTTP: GET /events?topic=NAME opens a stream, POST /topics/NAME publishes, GET /
shows a live page. Prints "listening on http://HOST:PORT" once it accepts connections, and logs to stderr.
SIGTERM or SIGINT stops it: streams end with the time after which to reconnect, and it exits with 0.

Where it listens
  --host HOST             address to bind; default 127.0.0.1
  --port PORT             default 8080, or the variable PORT; 0 takes a free one
  --allow-host HOST       a name that this server answers to, on any port or, as HOST:PORT, on one; may be
                          repeated. Needed behind a proxy on the same machine: without it, requests over
                          loopback must be for localhost, and other requests may be for any name

What it publishes
  --tail FILE[:TOPIC]     every line appended to FILE, through truncation and rotation; may be repeated;
                          TOPIC defaults to the file's name
  --stdin TOPIC           every line of standard input; its end ends the topic
  --system                this host's load, memory and event-loop delay, once a second, to topic "system"

Who may do what
  --publish-token TOKEN   needed to publish and to end topics; may be repeated. Without one, only a server
                          bound to loopback accepts events.
  --subscribe-token TOKEN needed to subscribe; may be repeated. POST /tickets exchanges it for a ticket, valid
                          once within 30 s, as ?ticket= for an EventSource, which cannot send headers.
  --metrics-token TOKEN   needed to read /metrics; may be repeated. Without one, only a server bound to
                          loopback shows them.
  --publish-token-file FILE, --subscribe-token-file FILE, --metrics-token-file FILE
                          the same from a file, a token per line. Also read: SLUICE_PUBLISH_TOKEN,
                          SLUICE_SUBSCRIBE_TOKEN and SLUICE_METRICS_TOKEN from the environment.
  --cors ORIGIN           an origin whose pages may read and publish, as https://app.example; may be repeated
  --max-connections N     most streams; default 10000. A browser over the limit reconnects later.
  --max-connections-per-client N
                          most streams of one address (of one /64 of IPv6); default off
  --connection-rate N     most streams that one address may open per second; default off
  --trust-proxy N         number of proxies in front, whose X-Forwarded-For gives the address; default 0

How many processes it has
  --workers N             serves with N processes, 1 to 64, on one port, and one more that keeps the events and
                          reads the inputs. Clients resume at any. What limits connections (--max-connections …)
                          holds for each of them. One that dies is started again. Not on Windows

How much it keeps and for how long
  --log memory|sqlite:FILE|redis://[USER@]HOST[:PORT][/DATABASE]
                          where events are kept; default memory, which ends with the process. In an SQLite file
                          they outlive it, so that clients go on where they were. Needs Node 22.13. With Redis
                          (rediss:// for TLS), servers on several machines share one order of events. Needs the
                          package redis or ioredis, installed where the command runs. The password is read from
                          SLUICE_REDIS_PASSWORD; other users of this machine can see one that is in the URL
  --log-name NAME         in Redis: servers with the same name share their events; default sluice
  --log-lineage gap|trust|position
                          in Redis: after which of its restarts and failovers clients get a gap; default gap, after
                          each. trust: only where a server has an event that Redis has lost. position: as trust,
                          for services whose INFO is limited
  --log-wait N            in Redis: an event is acknowledged once N replicas have it too; default: none need to
  --log-durability process|power
                          what acknowledged events in a file survive: the end of the process (default), or a loss
                          of power too, for a wait on the disk in each turn
  --history EVENTS        per topic; default 10000, in a file 100000
  --history-bytes SIZE    per topic; default 4MiB, in a file 64MiB
  --history-age TIME      per topic; default off
  --max-topics N          default 10000, in a file or in Redis 100000
  --retry TIME            how long clients wait before they reconnect, ± a quarter; default 2s
  --stall-timeout TIME    closes a stream whose client reads nothing for this long; default 60s
  --max-age TIME          ends a stream at this age, ± a tenth; the client then opens a new one; default off
  --heartbeat TIME        the longest silence of a stream before it is sent a comment; default 15s
  --heartbeat-profile mobile|wifi|lan
                          30s × 3, 60s × 2, 120s × 1: the interval × how many heartbeats may be missed
  --gzip                  compresses for clients that accept it, each batch once for all streams
  --adaptive-heartbeat    learns, for each group of addresses, after which silence its connections are cut
  --window TIME           when stopping, ends the streams evenly over this time; default all at once
  --deadline TIME         the longest time that stopping may take; default 10s, plus the window

What it says on stderr
  --log-format json|text  one JSON object a line, or lines for people; default text on a terminal, otherwise json
  --log-level info|warn|error
                          the least level of a line; default info, which is all of them
  -h, --help

TIME is 500ms, 10s, 5m, 1h, 0 or off. SIZE is a number of bytes, 64KiB, 256MiB or 1GiB.

Exit codes:
  0  it was stopped by a signal
  1  it could not begin: the port is in use, a file cannot be read, …
  2  wrong usage

Environment:
  PORT                    the port, where --port is absent
  SLUICE_PUBLISH_TOKEN, SLUICE_SUBSCRIBE_TOKEN, SLUICE_METRICS_TOKEN
                          more tokens, separated by spaces
  SLUICE_REDIS_PASSWORD   the password of --log redis://HOST
${COLOR_ENVIRONMENT}

Examples:
  sluice serve --system
  sluice serve --tail /var/log/nginx/access.log:access --stdin build --log sqlite:events.db
  sluice serve --host 0.0.0.0 --allow-host events.example --trust-proxy 1 --workers 4 --publish-token-file token
`;

const HOST = '127.0.0.1';
const PORT = 8080;

/** The longest wait of a Node timer, in milliseconds. */
const MAX_TIMER = 2 ** 31 - 1;
/** The hub adds up to a quarter to `retry`, and the sum must fit into a timer. */
const MAX_RETRY = Math.floor(MAX_TIMER / 1.25);

const OPTIONS = {
  help: { kind: 'flag', short: 'h' },
  host: { kind: 'text' },
  port: { kind: 'count', max: 65_535, variable: 'PORT' },
  'allow-host': { kind: 'text', many: true },
  tail: { kind: 'text', isFile: true, many: true },
  stdin: { kind: 'text' },
  system: { kind: 'flag' },
  'publish-token': { kind: 'text', many: true },
  'publish-token-file': { kind: 'text', isFile: true },
  'subscribe-token': { kind: 'text', many: true },
  'subscribe-token-file': { kind: 'text', isFile: true },
  'metrics-token': { kind: 'text', many: true },
  'metrics-token-file': { kind: 'text', isFile: true },
  cors: { kind: 'text', many: true },
  'max-connections': { kind: 'count' },
  'max-connections-per-client': { kind: 'count' },
  'connection-rate': { kind: 'count' },
  'trust-proxy': { kind: 'count' },
  workers: { kind: 'count', min: 1, max: 64 },
  log: { kind: 'text' },
  'log-durability': { kind: 'text', choices: ['process', 'power'] },
  'log-name': { kind: 'text' },
  'log-lineage': { kind: 'text', choices: ['gap', 'trust', 'position'] },
  'log-wait': { kind: 'count', min: 1 },
  history: { kind: 'count' },
  'history-bytes': { kind: 'size' },
  'history-age': { kind: 'duration' },
  'max-topics': { kind: 'count' },
  retry: { kind: 'duration', max: MAX_RETRY, off: false },
  'stall-timeout': { kind: 'duration', max: MAX_TIMER },
  'max-age': { kind: 'duration', max: MAX_TIMER },
  heartbeat: { kind: 'duration', min: 1, max: MAX_TIMER },
  'heartbeat-profile': { kind: 'text', choices: ['mobile', 'wifi', 'lan'] },
  'adaptive-heartbeat': { kind: 'flag' },
  gzip: { kind: 'flag' },
  window: { kind: 'duration', max: MAX_TIMER, off: false },
  deadline: { kind: 'duration', max: MAX_TIMER },
  'log-format': { kind: 'text', choices: FORMATS },
  'log-level': { kind: 'text', choices: LEVELS },
} as const;

/** The same for completion by shells. */
export const serveOptions: OptionSpecs = OPTIONS;

type Line = CommandLine<typeof OPTIONS>;
type Values = OptionValues<typeof OPTIONS>;

/** The options of the modules, as this command calls them. */
const OPTION_NAMES: Readonly<Record<string, readonly (keyof typeof OPTIONS)[]>> = {
  path: ['log'],
  ...REDIS_OPTION_NAMES,
  maxEvents: ['history'],
  maxBytes: ['history-bytes'],
  maxAge: ['history-age', 'max-age'],
  maxTopics: ['max-topics'],
  retry: ['retry'],
  stallTimeout: ['stall-timeout'],
  interval: ['heartbeat'],
  hosts: ['allow-host'],
  origins: ['cors'],
  maxConnections: ['max-connections'],
  maxPerKey: ['max-connections-per-client'],
  rate: ['connection-rate'],
  trustProxy: ['trust-proxy'],
};

/** Runs `sluice serve` until `io.signal` fires; `argv` has the words after that. Resolves with 0. */
export async function serve(argv: readonly string[], io: CommandIo): Promise<number> {
  const line = readOptions(argv, OPTIONS, io.env);
  if (line.values.help) {
    io.stdout.write(HELP);
    return 0;
  }
  const part = partOf(io.env);
  if (part !== undefined) return reportingFailure(() => servePart(part, line, io));
  const plan = await planOf(line, io.env);
  const { host = HOST, port = PORT, workers: count } = line.values;
  if (count === undefined) return serveAlone(line, plan, io);
  const { deadline = 10_000 } = plan.stopping;
  return runWorkers({ argv, count, host, port, deadline, io, logger: loggerTo(io, line) });
}

async function serveAlone(
  line: Line,
  { redis, inputs, tokens, stopping }: Plan,
  io: CommandIo,
): Promise<number> {
  const logger = loggerTo(io, line);
  let states: InputStates | undefined;
  const readiness = () => (states === undefined ? {} : { inputs: states.count() });
  const log = await openLog(line, redis, logger);
  const stopInputs = new AbortController();
  const { signal } = stopInputs;
  let sse: SseServer | undefined;
  let url: string;
  try {
    sse = withOptionNames(line, OPTION_NAMES, () =>
      createServer(line.values, { log, logger, readiness, ...tokens }),
    );
    url = await listen(sse, line.values);
    states = await startInputs(sse, inputs, { source: io.stdin, signal, logger });
  } catch (error) {
    stopInputs.abort();
    await sse?.close({ deadline: 0 });
    // Otherwise the file would say that its server was killed.
    await log?.close?.();
    throw error;
  }
  registerInputs(sse.registry, states);
  io.stdout.write(`listening on ${url}\n`);
  if (!io.signal.aborted) await once(io.signal, 'abort');
  stopInputs.abort();
  await stop(sse, stopping, logger);
  return 0;
}

/** One of the processes of `--workers`. */
async function servePart(part: Part, line: Line, io: CommandIo): Promise<number> {
  if (part.role === 'worker') return serveAsWorker(new Membership(part), line, io);
  const { inputs } = await planOf(line, io.env);
  const log = withOptionNames(line, OPTION_NAMES, () => openFile(line.values) ?? memoryLogOf(line.values));
  return runOwner({ part, log, inputs, io, logger: loggerTo(io, line) });
}

async function serveAsWorker(member: Membership, line: Line, io: CommandIo): Promise<number> {
  const { number: worker, port, log, tickets, metricsPage } = member;
  const logger = loggerTo(io, line, { worker });
  const tokens = await readTokens(line.values, io.env);
  const setting = { log, logger, tickets, metricsPage, ...tokens };
  const sse = withOptionNames(line, OPTION_NAMES, () => createServer(line.values, setting));
  // A client that came before would get a gap: nobody would know what was published since.
  await reached(log, sse.hub);
  member.announce(await listen(sse, { ...line.values, port }), sse);
  const signal = AbortSignal.any([io.signal, member.signal]);
  if (!signal.aborted) await once(signal, 'abort');
  await stop(sse, member.isSoon ? { deadline: 1000 } : stoppingOf(line), logger);
  member.leave();
  return 0;
}

async function stop(sse: SseServer, stopping: CloseOptions, logger: Logger): Promise<void> {
  const outcome = await sse.close(stopping);
  logger({ level: 'info', event: 'stopped', ...outcome, duration: Math.round(outcome.duration) });
}

// ── what is asked for ─────────────────────────────────────────────────────────────────────────────────────

interface Plan {
  readonly redis: RedisAddress | undefined;
  readonly inputs: Inputs;
  readonly tokens: Tokens;
  readonly stopping: CloseOptions;
}

async function planOf(line: Line, env: CommandIo['env']): Promise<Plan> {
  const { values, positionals } = line;
  if (positionals.length > 0) throw usageError(`unexpected "${positionals[0]}"`);
  const redis = readRedis(values, env);
  checkLog(values, redis);
  if (values.workers !== undefined) checkPlatform();
  const stopping = stoppingOf(line);
  return { redis, inputs: await readInputs(values), tokens: await readTokens(values, env), stopping };
}

const SQLITE = /^sqlite:(.+)$/;

function checkLog(
  { log = 'memory', 'log-durability': durability, workers }: Values,
  redis: RedisAddress | undefined,
): void {
  const isFile = SQLITE.test(log);
  if (log !== 'memory' && !isFile && redis === undefined)
    throw usageError(`--log must be memory, sqlite:FILE or redis://HOST, got "${log}"`);
  if (redis !== undefined && workers !== undefined)
    throw usageError('--workers needs --log memory or sqlite:FILE: with Redis, start several servers');
  if (durability !== undefined && !isFile) throw usageError('--log-durability needs --log sqlite:FILE');
}

async function openLog(
  line: Line,
  redis: RedisAddress | undefined,
  logger: Logger,
): Promise<Log | undefined> {
  if (redis === undefined) return withOptionNames(line, OPTION_NAMES, () => openFile(line.values));
  const client = await createRedisClient(redis);
  const log = withOptionNames(line, OPTION_NAMES, () => openRedisLog(client, line.values));
  await checkRedis(log, redis, logger);
  return log;
}

/** What several processes share without a file. */
function memoryLogOf(values: Values): MemoryLog {
  return new MemoryLog({ history: historyOf(values), maxTopics: values['max-topics'] });
}

function historyOf(values: Values): HistoryLimits {
  const { history: maxEvents, 'history-bytes': maxBytes, 'history-age': maxAge } = values;
  return { maxEvents, maxBytes, maxAge };
}

/** Opens the file of `--log`. A refusal names the file, and leaves it as it is. */
function openFile(values: Values): SqliteLog | undefined {
  const [, path] = SQLITE.exec(values.log ?? '') ?? [];
  if (path === undefined) return undefined;
  const durability = values['log-durability'];
  try {
    return new SqliteLog(path, { durability, history: historyOf(values), maxTopics: values['max-topics'] });
  } catch (error) {
    // The option that is out of range is another one, and gets its name from `withOptionNames`.
    if (error instanceof TypeError || error instanceof RangeError) throw error;
    throw new Error(`--log ${values.log}: ${(error as Error).message}`, { cause: error });
  }
}

/** Checks the options at the start: an error that is found while stopping would be too late. */
function stoppingOf({ values, written }: CommandLine<typeof OPTIONS>): CloseOptions {
  const { window = 0, deadline = Math.min(10_000 + window, MAX_TIMER) } = values;
  if (deadline >= window) return { window, deadline };
  const [longest, shortest] = [written.get('deadline')?.at(-1), written.get('window')?.at(-1)];
  throw usageError(`--deadline must be at least --window, which is "${shortest}", got "${longest}"`);
}

// ── the server ────────────────────────────────────────────────────────────────────────────────────────────

type Logger = (line: LogLine) => void;

/** @param details - Members of each line. */
function loggerTo(io: CommandIo, { values }: Line, details?: object): Logger {
  return logLinesTo(io, { format: values['log-format'], level: values['log-level'], details });
}

type Setting = Tokens &
  Pick<SseServerOptions, 'logger' | 'readiness' | 'tickets' | 'metricsPage'> & {
    readonly log: Log | undefined;
  };

function createServer(values: Values, { log, ...setting }: Setting): SseServer {
  const { retry, heartbeat, gzip, cors: origins, 'allow-host': hosts } = values;
  const profile = values['heartbeat-profile'];
  const adaptive = values['adaptive-heartbeat'] ? true : undefined;
  // Beside a log, memory needs no more than usual.
  const [mostEvents, mostBytes] = log === undefined ? [Infinity, Infinity] : [10_000, 4 * 1024 * 1024];
  const { history: maxEvents, 'history-bytes': maxBytes } = values;
  return createSseServer({
    hub: {
      log,
      history: {
        maxEvents: maxEvents === undefined ? undefined : Math.min(maxEvents, mostEvents),
        maxBytes: maxBytes === undefined ? undefined : Math.min(maxBytes, mostBytes),
        maxAge: values['history-age'],
      },
      maxTopics: values['max-topics'],
      retry,
    },
    stream: { stallTimeout: values['stall-timeout'], maxAge: values['max-age'], gzip },
    heartbeat: heartbeat === Infinity ? false : { interval: heartbeat, profile, adaptive },
    hosts: hosts.length > 0 ? hosts : undefined,
    origins,
    limits: {
      maxConnections: values['max-connections'] ?? 10_000,
      maxPerKey: values['max-connections-per-client'],
      rate: values['connection-rate'],
      trustProxy: values['trust-proxy'],
    },
    ...setting,
  });
}

/** Resolves with the URL. An address that cannot be bound is an error that names the option for it. */
async function listen(sse: SseServer, { host = HOST, port = PORT }: Values): Promise<string> {
  try {
    return await sse.listen(port, host);
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    const reason = reasonFor(code, host, port);
    if (reason === undefined) throw error;
    throw Object.assign(new Error(`${reason} (${code})`, { cause: error }), { code });
  }
}

function reasonFor(code: string, host: string, port: number): string | undefined {
  const reasons: Readonly<Record<string, string>> = {
    EADDRINUSE: `--port ${port} is in use on ${host}; give another port, or 0 for a free one`,
    EACCES: `--port ${port} may not be bound by this user; give a port from 1024 up, or 0 for a free one`,
    EADDRNOTAVAIL: `--host ${host} is not an address of this machine`,
    ENOTFOUND: `--host ${host} cannot be resolved to an address`,
  };
  return reasons[code];
}
