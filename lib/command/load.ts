// Opens many streams at once and measures what they get (`sluice load URL`): bounded in number and time.
// Needs `../address.ts`, `../transport.ts`, `argv.ts`, `io.ts`, `load-clock.ts`, `load-histogram.ts`, `load-ids.ts`,
// `load-reader.ts`, `load-report.ts`, `load-tally.ts`, `partial.ts` and `tokens.ts` beside it.

import { lookup } from 'node:dns/promises';
import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import { isIP, type LookupFunction } from 'node:net';
import { isLoopback } from '../address.ts';
import { type NodeAgent, nodeTransport } from '../transport.ts';
import { type OptionSpecs, readOneUrl, readOptions, readTopic, shownUrl, usageError } from './argv.ts';
import { type CommandIo, escapeControls, jsonLine, report } from './io.ts';
import { Clock, type Pace } from './load-clock.ts';
import type { Histogram } from './load-histogram.ts';
import { type Comparison, SeenEvents, StreamRecord } from './load-ids.ts';
import { LoadReader } from './load-reader.ts';
import { type LoadReport, printed } from './load-report.ts';
import { Tally } from './load-tally.ts';
import { partialBy } from './partial.ts';
import { REQUEST_ENVIRONMENT, REQUEST_HELP, REQUEST_OPTIONS, requestHeaders } from './tokens.ts';

const HELP = `Usage: sluice load [options] URL

Opens many streams to any event stream at once, holds them open and measures: connects a second, times to the
head and to the first event, events a second, time between events, and by ids what is lost or comes twice. URL
is that of the stream. It publishes nothing, so let events be published while it runs.

${REQUEST_HELP}
      --topic TOPIC           add topic=TOPIC to the URL; may be repeated
      --connections N         streams; default 100, at most 15000
      --rate N                send N requests a second, also of streams that come back; default as fast as they
                              are answered, at most 250 at a time
      --duration TIME         from the first request to the end; default 30s, at most 1h
      --time FIELD            the data of events are JSON objects, and this member is when they were made, in
                              milliseconds since 1970: measure how old they are
      --i-own-this-server     allow a server that is not on this machine
      --json                  print one JSON object
  -h, --help

TIME is 500ms, 10s, 5m or 1h. SIGINT ends it early, with what it has measured until then.

Exit codes:
  0  every stream was opened and did not fail, or was ended by the server for good, and nothing was lost
  1  streams failed or were not opened, events were lost or came twice, or this process was too slow to measure
  2  wrong usage

Environment:
${REQUEST_ENVIRONMENT}

Examples:
  sluice load --topic news --connections 1000 --duration 1m http://127.0.0.1:8080/events
  sluice load --json --rate 50 --i-own-this-server https://events.example/events?topic=news
`;

const MAX_CONNECTIONS = 15_000;
const MAX_DURATION = 3_600_000;

const OPTIONS = {
  ...REQUEST_OPTIONS,
  topic: { kind: 'text', many: true },
  connections: { kind: 'count', min: 1, max: MAX_CONNECTIONS },
  rate: { kind: 'count', min: 1, max: MAX_CONNECTIONS },
  duration: { kind: 'duration', min: 100, max: MAX_DURATION, off: false },
  time: { kind: 'text' },
  'i-own-this-server': { kind: 'flag' },
  json: { kind: 'flag' },
  help: { kind: 'flag', short: 'h' },
} as const;

/** The same for completion by shells. */
export const loadOptions: OptionSpecs = OPTIONS;

/** Without `--rate`: requests that wait for an answer. A listening socket of Node queues 511. */
const MAX_PENDING = 250;
/** What this process has open besides its streams. */
const OTHER_FILES = 50;
const TERMINAL_INTERVAL = 1000;
const LINE_INTERVAL = 5000;
/** From here on, the figures would be those of this process. */
const MAX_DELAY = 50;
const MAX_UTILIZATION = 0.9;

/** Runs `sluice load`; `argv` has the words after that. Resolves with the exit code. */
export async function load(argv: readonly string[], io: CommandIo): Promise<number> {
  const plan = await planOf(argv, io.env);
  if (plan === undefined) {
    io.stdout.write(HELP);
    return 0;
  }
  const run = new Run(plan, io);
  const result = await run.run();
  io.stdout.write(plan.json ? jsonLine(result) : escapeControls(printed(result, run.chart)));
  return result.problems.length === 0 ? 0 : 1;
}

// ── what is asked for ─────────────────────────────────────────────────────────────────────────────────────

interface Plan {
  readonly url: URL;
  readonly addresses: readonly Address[];
  readonly headers: Readonly<Record<string, string>>;
  readonly connections: number;
  /** Streams a second. */
  readonly rate: number | undefined;
  readonly duration: number;
  readonly time: string | undefined;
  readonly json: boolean;
}

async function planOf(argv: readonly string[], env: CommandIo['env']): Promise<Plan | undefined> {
  const { values, positionals } = readOptions(argv, OPTIONS);
  if (values.help) return undefined;
  const url = readOneUrl(positionals);
  for (const topic of values.topic) url.searchParams.append('topic', readTopic('--topic', topic));
  const { connections = 100, rate, duration = 30_000 } = values;
  if (rate !== undefined && (connections / rate) * 1000 > duration)
    throw usageError(`--rate ${rate} opens fewer than ${connections} streams within --duration`);
  checkFiles(connections);
  const headers = { 'user-agent': 'sluice load', ...(await requestHeaders(values, env)) };
  const addresses = await addressesOf(url, values['i-own-this-server'] ?? false);
  return {
    ...{ url, addresses, headers, connections, rate, duration },
    time: values.time,
    json: values.json ?? false,
  };
}

/** Each stream takes one of the files that the process may have open. */
function checkFiles(connections: number): void {
  // The names of the peers of open sockets are not looked up.
  Object.assign(process.report, { excludeNetwork: true });
  const { userLimits } = process.report.getReport() as {
    readonly userLimits?: { readonly open_files?: { readonly soft: number | 'unlimited' } };
  };
  const limit = userLimits?.open_files?.soft;
  const needed = connections + OTHER_FILES;
  if (typeof limit !== 'number' || limit >= needed) return;
  throw usageError(
    `--connections ${connections} needs ${needed} open files, and this process may have ${limit}: ` +
      `allow more with "ulimit -n ${needed}"`,
  );
}

interface Address {
  readonly address: string;
  readonly family: number;
}

/**
 * The addresses of a server on which a load may be put. They are looked up once: connections go to these alone,
 * whatever the name leads to later.
 *
 * @throws {UsageError} for an address that is not of this machine, also one of several, unless it is allowed.
 */
export async function addressesOf(
  { hostname }: URL,
  isAllowed: boolean,
  resolve: (host: string) => Promise<readonly Address[]> = (host) => lookup(host, { all: true }),
): Promise<readonly Address[]> {
  const host = hostname.replace(/^\[|\]$/g, '');
  const family = isIP(host);
  const addresses = family === 0 ? await resolve(host) : [{ address: host, family }];
  const foreign = addresses.find(({ address }) => !isLoopback(address));
  if (foreign === undefined || isAllowed) return addresses;
  const name = family === 0 ? `${host} is ${foreign.address}, which` : host;
  throw usageError(`${name} is not an address of loopback; --i-own-this-server allows a load on it`);
}

/** Connects to the given addresses, and through no proxy. */
function agentFor({ protocol }: URL, addresses: readonly Address[]): NodeAgent {
  const pinned: LookupFunction = (_, { all }, callback) => {
    const [{ address, family }] = addresses as [Address];
    if (all) callback(null, [...addresses]);
    else callback(null, address, family);
  };
  const options = { keepAlive: false, maxSockets: Infinity, lookup: pinned };
  return protocol === 'https:' ? new HttpsAgent(options) : new HttpAgent(options);
}

// ── the load ──────────────────────────────────────────────────────────────────────────────────────────────

class Run {
  readonly #plan: Plan;
  readonly #io: CommandIo;
  readonly #tally: Tally;
  readonly #seen = new SeenEvents();
  readonly #readers: LoadReader[] = [];
  readonly #running: Promise<void>[] = [];
  readonly #agent: NodeAgent;
  readonly #began = performance.now();
  #clock = new Clock(() => this.#open());
  /** How this process did until the last stream was answered. */
  #opening: Pace | undefined;
  /** Requests that wait for an answer. */
  #pending = 0;
  /** With `--rate`: when the next request is due, by `performance.now()`. */
  #due = performance.now();
  /** Streams that want to come back. */
  readonly #returning: (() => void)[] = [];
  /** Streams whose first request has had no answer, with those that were not started. */
  #unanswered: number;
  #hasEnded = false;
  /** Streams that will not come back. */
  #finished = 0;
  #end: (ended: LoadReport['ended']) => void = () => {};

  constructor(plan: Plan, io: CommandIo) {
    this.#plan = plan;
    this.#unanswered = plan.connections;
    this.#io = io;
    this.#tally = new Tally(plan.time);
    this.#agent = agentFor(plan.url, plan.addresses);
  }

  async run(): Promise<LoadReport> {
    const { duration } = this.#plan;
    const { signal } = this.#io;
    const over = new Promise<LoadReport['ended']>((resolve) => {
      this.#end = resolve;
    });
    const interrupt = (): void => this.#end('interrupted');
    const timers = [
      setTimeout(() => this.#end('duration'), duration),
      setInterval(() => this.#seen.tick(), 1000),
      ...this.#showProgress(),
    ];
    signal.addEventListener('abort', interrupt, { once: true });
    if (signal.aborted) interrupt();
    else this.#open();
    const ended = await over;
    for (const timer of timers) clearInterval(timer);
    signal.removeEventListener('abort', interrupt);
    const result = this.#report(ended);
    await this.#stop();
    return result;
  }

  async #stop(): Promise<void> {
    this.#hasEnded = true;
    for (const reader of this.#readers) reader.stop();
    await Promise.all(this.#running);
    this.#agent.destroy();
    if (this.#isOnTerminal) this.#io.stderr.write('\r\x1b[K');
  }

  /** Sends those requests whose time has come: of streams that come back, then of new ones. */
  #open(): void {
    const { connections, rate } = this.#plan;
    const now = performance.now();
    while (!this.#hasEnded) {
      const isFree = rate === undefined ? this.#pending < MAX_PENDING : this.#due <= now;
      if (!isFree) return;
      const send = this.#returning.shift();
      if (send === undefined && this.#readers.length === connections) {
        // What was not asked for in time is not made up for by a crowd.
        this.#due = Math.max(this.#due, now);
        return;
      }
      if (rate !== undefined) this.#due += 1000 / rate;
      this.#pending++;
      if (send === undefined) this.#start();
      else send();
    }
  }

  #start(): void {
    const { url, headers } = this.#plan;
    const reader = new LoadReader({
      ...{ url, headers, tally: this.#tally },
      transport: nodeTransport({ agent: this.#agent }),
      record: new StreamRecord(this.#seen),
      admit: (send) => {
        this.#returning.push(send);
        this.#open();
      },
      onAnswered: (isFirst) => {
        this.#pending--;
        this.#open();
        if (isFirst && --this.#unanswered === 0 && !this.#hasEnded) this.#allAnswered();
      },
    });
    this.#readers.push(reader);
    this.#running.push(
      reader.run().then(() => {
        if (++this.#finished === this.#plan.connections) this.#end('over');
      }),
    );
  }

  #allAnswered(): void {
    this.#opening = this.#clock.stop();
    this.#clock = new Clock(() => this.#open());
  }

  get #isOnTerminal(): boolean {
    return this.#io.stderr.isTTY === true && !this.#plan.json;
  }

  #showProgress(): NodeJS.Timeout[] {
    if (this.#plan.json) return [];
    const show = (): void => {
      const { open, events } = this.#tally;
      const seconds = Math.round((performance.now() - this.#began) / 1000);
      const line = `${seconds} s: ${open} of ${this.#plan.connections} streams open, ${events} events`;
      if (this.#isOnTerminal) this.#io.stderr.write(`\r\x1b[Ksluice load: ${line}`);
      else report(this.#io, 'sluice load', line);
    };
    return [setInterval(show, this.#isOnTerminal ? TERMINAL_INTERVAL : LINE_INTERVAL)];
  }

  // ── the report ──────────────────────────────────────────────────────────────────────────────────────────

  /** What the chart shows: how old events were, or how long streams took to begin. */
  get chart(): { readonly name: string; readonly of: Histogram } {
    const { latency, firstEvent, head } = this.#tally;
    if (latency.count > 0) return { name: 'latency', of: latency };
    return firstEvent.count > 0 ? { name: 'first event', of: firstEvent } : { name: 'head', of: head };
  }

  #report(ended: LoadReport['ended']): LoadReport {
    const { url, connections: asked, time } = this.#plan;
    const tally = this.#tally;
    const duration = performance.now() - this.#began;
    const perSecond = (count: number): number => (count / duration) * 1000;
    const { withoutTime, early, events: count, bytes, gaps, tooLarge, withoutId } = tally;
    const measured = {
      streams: {
        ...{ asked, started: this.#readers.length, opened: tally.opened },
        openedPerSecond: tally.opened === 0 ? 0 : (tally.opened / (tally.lastOpened - this.#began)) * 1000,
        open: tally.open,
        over: this.#readers.filter(({ isOver }) => isOver).length,
        failed: this.#readers.filter(({ hasFailed }) => hasFailed).length,
        ...{ disconnects: tally.disconnects, reconnects: tally.reconnects },
        refused: Object.fromEntries(tally.refused),
        failures: Object.fromEntries(tally.failures),
      },
      head: tally.head.percentiles,
      firstEvent: tally.firstEvent.percentiles,
      interArrival: tally.interArrival.percentiles,
      latency: time === undefined ? null : { ...tally.latency.percentiles, withoutTime, early },
      events: {
        ...{ count, bytes, gaps, tooLarge },
        ...{ perSecond: perSecond(count), bytesPerSecond: perSecond(bytes) },
      },
      ids: { ...this.#compare(), cannotTell: this.#cannotTell(), withoutId },
      generator: this.#ownState(),
    };
    const unanswered = this.#readers.filter((reader) => reader.isUnanswered).length;
    const unopened = ended === 'duration' ? asked - this.#readers.length + unanswered : 0;
    const problems = problemsOf(measured, tally.lastFailure, unopened);
    return { url: shownUrl(url), ended, duration, problems, ...measured };
  }

  #compare(): Comparison {
    const compared = this.#seen.compare(this.#readers.map(({ record }) => record));
    return this.#cannotTell() === null ? compared : { ...compared, lost: 0, behind: 0, examples: [] };
  }

  #cannotTell(): string | null {
    const partial = partialBy(this.#plan.url);
    if (partial !== undefined) return `with ${partial}, streams do not get all events`;
    if (this.#seen.size > 0) return null;
    return this.#tally.events === 0 ? 'there were no events' : 'they are not of the form EPOCH-SEQ';
  }

  /** A process that opens as fast as it can is busy meanwhile: only its delays count then. */
  #ownState(): LoadReport['generator'] {
    const isLate = ({ delay }: Pace): boolean => (delay.p99 ?? 0) > MAX_DELAY;
    const last = this.#clock.stop();
    const [opening, holding] = this.#opening === undefined ? [last, null] : [this.#opening, last];
    return {
      opening: { ...opening, isBottleneck: isLate(opening) },
      holding: holding && {
        ...holding,
        isBottleneck: isLate(holding) || (holding.duration > 1000 && holding.utilization > MAX_UTILIZATION),
      },
    };
  }
}

type Measured = Pick<LoadReport, 'streams' | 'events' | 'ids' | 'generator'>;

function problemsOf(
  { streams, events, ids, generator }: Measured,
  lastFailure: string,
  unopened: number,
): string[] {
  const { asked, started, failed } = streams;
  const problems: string[] = [];
  if (unopened > 0)
    problems.push(
      `${unopened} of ${asked} streams had no answer before the end: a longer --duration may help`,
    );
  if (failed > 0) problems.push(`${failed} of ${started} streams failed: ${lastFailure || 'no answer'}`);
  if (events.gaps > 0) problems.push(`${events.gaps} gaps say that events are lost`);
  if (ids.lost > 0) problems.push(`${ids.lost} events are lost, and no gap says so`);
  if (ids.duplicates > 0) problems.push(`${ids.duplicates} events came twice or out of order`);
  if (events.tooLarge > 0) problems.push(`${events.tooLarge} events were too large to read`);
  if (generator.opening.isBottleneck)
    problems.push(
      'this process was too slow while it opened streams: times to the head and the first event, and streams ' +
        'a second, do not count; a lower --rate may help',
    );
  if (generator.holding?.isBottleneck)
    problems.push('this process was too slow: rates, times between events and latencies do not count');
  return problems;
}
