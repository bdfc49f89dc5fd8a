// Runs the reference server as a command (`sluice serve`), fed from files, from standard input and from this host.
// Needs `follow.ts`, `hub.ts`, `lines.ts`, `options.ts`, `server.ts` and `system.ts` beside it.

import { once } from 'node:events';
import { access, constants, readFile, stat } from 'node:fs/promises';
import { basename } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { setInterval as every } from 'node:timers/promises';
import { isTopic } from '../hub.ts';
import {
  type CloseOptions,
  createSseServer,
  type LogLine,
  type ServerHeartbeat,
  type SseServer,
} from '../server.ts';
import { type OptionValues, readOptions, usageError } from './argv.ts';
import { lines } from './lines.ts';
import { SystemSampler } from './system.ts';
import { follow } from './tail-file.ts';

/** Where a command reads and writes, and how it is told to stop. `process` with its standard streams fits. */
export interface ServeIo {
  readonly stdin: Readable;
  readonly stdout: Writable;
  readonly stderr: Writable;
  /** Stops the server gracefully when it fires. */
  readonly signal: AbortSignal;
  readonly env: Readonly<Record<string, string | undefined>>;
}

export const serveHelp = `Usage: sluice serve [options]

Serves topics of events over HTTP: GET /events?topic=NAME streams, POST /topics/NAME publishes, GET / shows.
Prints "listening on http://HOST:PORT" once it accepts connections, and logs JSON lines to standard error.
SIGTERM or SIGINT stops it: streams are told to come back, and it exits with 0.

Where it listens
  --host HOST             address to bind; default 127.0.0.1
  --port PORT             default 8080; 0 takes a free one
  --allow-host HOST       a name this server answers to, on any port or, as HOST:PORT, on one; may be repeated.
                          Needed behind a proxy on the same machine: without any, what comes in over loopback
                          must be for localhost, and what comes in otherwise may be for any name

What it publishes
  --tail FILE[:TOPIC]     every line appended to FILE, through truncation and rotation; may be repeated;
                          TOPIC defaults to the file's name
  --stdin TOPIC           every line of standard input; its end ends the topic
  --system                this host's load, memory and event-loop delay, once a second, to topic "system"

Who may do what
  --publish-token TOKEN   needed to publish and to end topics; may be repeated. Without one, only a server bound
                          to loopback takes events.
  --subscribe-token TOKEN needed to subscribe; may be repeated. POST /tickets gives a ticket for a token, good once
                          and for 30 s, as ?ticket= for an EventSource, which cannot send headers.
  --metrics-token TOKEN   needed to read /metrics; may be repeated. Without one, only a server bound to loopback
                          shows them.
  --publish-token-file FILE, --subscribe-token-file FILE, --metrics-token-file FILE
                          the same from a file, a token per line. Also read: SLUICE_PUBLISH_TOKEN,
                          SLUICE_SUBSCRIBE_TOKEN and SLUICE_METRICS_TOKEN from the environment.
  --cors ORIGIN           an origin whose pages may read and publish, as https://app.example; may be repeated
  --max-connections N     most streams; default 10000. A browser that is one too many is told to come back.
  --max-connections-per-client N
                          most streams of one address (of one /64 of IPv6); default off
  --connection-rate N     most streams that one address may open per second; default off
  --trust-proxy N         proxies in front, whose X-Forwarded-For tells the address; default 0

How much it keeps and for how long
  --log memory            where events are kept: in memory, and nowhere else in this version
  --history EVENTS        per topic; default 10000
  --history-bytes BYTES   per topic; default 4194304
  --history-age TIME      per topic; default off
  --max-topics N          default 10000
  --retry TIME            what clients are told to wait before they reconnect; default 2s, each ± a quarter
  --stall-timeout TIME    closes a stream whose client takes nothing for so long; default 60s
  --max-age TIME          ends a stream after so long, ± a tenth, so that it is opened afresh; default off
  --heartbeat TIME        the longest silence of a stream before it is sent a comment; default 15s
  --heartbeat-profile mobile|wifi|lan
                          30s × 3, 60s × 2, 120s × 1: interval × beats that a client may miss
  --gzip                  compresses for clients that accept it, each batch once for all
  --adaptive-heartbeat    learns for each group of addresses at what silence its connections die
  --window TIME           when stopping, sends the streams away evenly over so long; default all at once
  --deadline TIME         most time to stop in; default 10s, and the window on top

TIME is 500ms, 10s, 5m, 1h, 0 or off.
`;

const OPTIONS = {
  help: { kind: 'flag', short: 'h' },
  host: { kind: 'text' },
  port: { kind: 'count' },
  'allow-host': { kind: 'text', many: true },
  tail: { kind: 'text', many: true },
  stdin: { kind: 'text' },
  system: { kind: 'flag' },
  'publish-token': { kind: 'text', many: true },
  'publish-token-file': { kind: 'text' },
  'subscribe-token': { kind: 'text', many: true },
  'subscribe-token-file': { kind: 'text' },
  'metrics-token': { kind: 'text', many: true },
  'metrics-token-file': { kind: 'text' },
  cors: { kind: 'text', many: true },
  'max-connections': { kind: 'count' },
  'max-connections-per-client': { kind: 'count' },
  'connection-rate': { kind: 'count' },
  'trust-proxy': { kind: 'count' },
  log: { kind: 'text' },
  history: { kind: 'count' },
  'history-bytes': { kind: 'count' },
  'history-age': { kind: 'duration' },
  'max-topics': { kind: 'count' },
  retry: { kind: 'duration' },
  'stall-timeout': { kind: 'duration' },
  'max-age': { kind: 'duration' },
  heartbeat: { kind: 'duration' },
  'heartbeat-profile': { kind: 'text' },
  'adaptive-heartbeat': { kind: 'flag' },
  gzip: { kind: 'flag' },
  window: { kind: 'duration' },
  deadline: { kind: 'duration' },
} as const;

type Values = OptionValues<typeof OPTIONS>;

/**
 * Runs until `io.signal` fires. Resolves with 0.
 *
 * @throws {UsageError} for words that cannot be understood; anything else is the world's failure.
 */
export async function serve(argv: readonly string[], io: ServeIo): Promise<number> {
  const { values, positionals } = readOptions(argv, OPTIONS);
  if (values.help) {
    io.stdout.write(serveHelp);
    return 0;
  }
  if (positionals.length > 0) throw usageError(`unexpected "${positionals[0]}"`);
  const tails = values.tail.map(readTail);
  checkPort(values.port);
  if ((values.log ?? 'memory') !== 'memory')
    throw usageError(`--log must be memory in this version, got "${values.log}"`);
  if (values.stdin !== undefined) checkTopic('--stdin', values.stdin);
  await Promise.all(tails.map(checkFile));
  const stopping = readStopping(values);
  const tokens = await readTokens(values, io.env);
  const log = (line: LogLine) => {
    io.stderr.write(`${JSON.stringify({ time: new Date().toISOString(), ...line })}\n`);
  };
  const sse = createServer(values, tokens, log);
  const url = await sse.listen(values.port, values.host);
  const inputs = new AbortController();
  await startInputs(sse, values, tails, io, inputs.signal, log);
  io.stdout.write(`listening on ${url}\n`);
  if (!io.signal.aborted) await once(io.signal, 'abort');
  inputs.abort();
  const outcome = await sse.close(stopping);
  log({ level: 'info', event: 'stopped', ...outcome, duration: Math.round(outcome.duration) });
  return 0;
}

interface Tail {
  readonly file: string;
  readonly topic: string;
}

/** `FILE` or `FILE:TOPIC`: what stands behind the last colon, if that is no part of a path. */
function readTail(text: string): Tail {
  const [, file = text, named] = /^(.+):([^:/]*)$/.exec(text) ?? [];
  if (named === undefined) return { file, topic: topicFor(file) };
  return { file, topic: checkTopic(`--tail ${text}`, named) };
}

function checkTopic(option: string, name: string): string {
  if (isTopic(name)) return name;
  throw usageError(`${option}: a topic is 1 to 200 characters of A–Z a–z 0–9 . _ ~ : -, got "${name}"`);
}

function checkPort(port: number | undefined): void {
  if (port !== undefined && port > 65_535) {
    throw usageError(`--port must be a whole number from 0 to 65535, got ${port}`);
  }
}

/** Checked at the start: at the end there would be nobody to read the complaint. */
function readStopping({ window = 0, deadline = 10_000 + window }: Values): CloseOptions {
  if (window > MAX_TIMEOUT) throw usageError('--window must be a limit, not off');
  if (deadline < window) throw usageError(`--deadline must not be below --window, got ${deadline}ms`);
  if (deadline > MAX_TIMEOUT && deadline !== Infinity)
    throw usageError(`--deadline must be at most ${MAX_TIMEOUT}ms or off, got ${deadline}ms`);
  return { window, deadline };
}

const MAX_TIMEOUT = 2 ** 31 - 1;

/** Now, while there is someone to tell: what goes wrong with a file later is only logged. */
async function checkFile({ file }: Tail): Promise<void> {
  await access(file, constants.R_OK);
  if (!(await stat(file)).isFile()) throw new Error(`${file} is not a file`);
}

function topicFor(file: string): string {
  return basename(file)
    .replaceAll(/[^A-Za-z0-9._~-]/g, '-')
    .slice(0, 200);
}

interface Tokens {
  readonly publishTokens: readonly string[];
  readonly subscribeTokens: readonly string[];
  readonly metricsTokens: readonly string[];
}

async function readTokens(values: Values, env: ServeIo['env']): Promise<Tokens> {
  return {
    publishTokens: await tokensOf(values, env, 'publish'),
    subscribeTokens: await tokensOf(values, env, 'subscribe'),
    metricsTokens: await tokensOf(values, env, 'metrics'),
  };
}

/** From the command line, a file and the environment. An empty one is a variable that somebody forgot to set. */
async function tokensOf(
  values: Values,
  env: ServeIo['env'],
  who: 'publish' | 'subscribe' | 'metrics',
): Promise<string[]> {
  const [given, file, variable] = [
    values[`${who}-token`],
    values[`${who}-token-file`],
    `SLUICE_${who.toUpperCase()}_TOKEN`,
  ];
  const listed =
    file === undefined ? [] : splitTokens(`--${who}-token-file ${file}`, await readFile(file, 'utf8'));
  const fromEnv = env[variable] === undefined ? [] : splitTokens(variable, env[variable]);
  if (given.includes('')) throw usageError(`--${who}-token is empty`);
  return [...given, ...listed, ...fromEnv];
}

function splitTokens(where: string, text: string): string[] {
  const tokens = text.split(/\s+/).filter((token) => token !== '');
  if (tokens.length === 0) throw usageError(`${where} holds no token`);
  return tokens;
}

function createServer(values: Values, tokens: Tokens, log: (line: LogLine) => void): SseServer {
  const {
    history: maxEvents,
    'history-bytes': maxBytes,
    'history-age': maxAge,
    'max-topics': maxTopics,
  } = values;
  const {
    retry,
    'stall-timeout': stallTimeout,
    'max-age': streamAge,
    heartbeat,
    'allow-host': hosts,
  } = values;
  const { 'max-connections': max = 10_000, 'max-connections-per-client': maxPerKey } = values;
  const profile = values['heartbeat-profile'] as ServerHeartbeat['profile'];
  const adaptive = values['adaptive-heartbeat'] ? true : undefined;
  const { 'connection-rate': rate, 'trust-proxy': trustProxy } = values;
  try {
    return createSseServer({
      hub: { history: { maxEvents, maxBytes, maxAge }, maxTopics, retry },
      stream: { stallTimeout, maxAge: streamAge, gzip: values.gzip },
      heartbeat: heartbeat === Infinity ? false : { interval: heartbeat, profile, adaptive },
      hosts: hosts.length > 0 ? hosts : undefined,
      origins: values.cors,
      limits: { maxConnections: max, maxPerKey, rate, trustProxy },
      ...tokens,
      log,
    });
  } catch (error) {
    if (!(error instanceof RangeError || error instanceof TypeError)) throw error;
    throw usageError(error.message.replace(/^`(\w+)`/, (all, option) => OPTION_NAMES[option] ?? all));
  }
}

/** The modules' options, as this command calls them. */
const OPTION_NAMES: Readonly<Record<string, string>> = {
  maxEvents: '--history',
  maxBytes: '--history-bytes',
  maxAge: '--history-age or --max-age',
  maxTopics: '--max-topics',
  retry: '--retry',
  stallTimeout: '--stall-timeout',
  interval: '--heartbeat',
  profile: '--heartbeat-profile',
  hosts: '--allow-host',
  origins: '--cors',
  maxConnections: '--max-connections',
  maxPerKey: '--max-connections-per-client',
  rate: '--connection-rate',
  trustProxy: '--trust-proxy',
};

/** Resolves when whatever is appended to a followed file from then on is published. */
async function startInputs(
  { hub, streams }: SseServer,
  { stdin, system }: Values,
  tails: readonly Tail[],
  io: ServeIo,
  signal: AbortSignal,
  log: (line: LogLine) => void,
): Promise<void> {
  const run = async (input: string, source: AsyncIterable<string>, topic: string, whenOver = () => {}) => {
    try {
      for await (const data of source) hub.publish(topic, { data });
      // A server that stops is no end of its topics.
      if (!signal.aborted) whenOver();
    } catch (error) {
      log({ level: 'error', event: 'input-failed', input, topic, message: (error as Error).message });
    }
  };
  const followed = tails.map(
    ({ file, topic }) =>
      new Promise<void>((onReady) => {
        run(file, follow(file, { signal, persistent: false, onReady }), topic).then(onReady);
      }),
  );
  if (stdin !== undefined) run('stdin', lines(io.stdin, { signal }), stdin, () => hub.end(stdin));
  const counts = () => ({ connections: streams.size, topics: hub.topics().length });
  if (system) run('system', samples(signal, counts), 'system');
  await Promise.all(followed);
}

/** This host and this process, once a second, as JSON. */
async function* samples(signal: AbortSignal, counts: () => object): AsyncGenerator<string> {
  const sampler = new SystemSampler();
  try {
    for await (const _ of every(1000, undefined, { signal, ref: false })) {
      yield JSON.stringify({ ...sampler.sample(), server: counts() });
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    sampler.close();
  }
}
