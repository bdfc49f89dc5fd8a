// Says why a stream does not stream (`sluice doctor URL`): what is wrong with any endpoint, by whom, and the cure.
// Needs `../origin.ts`, `argv.ts`, `colors.ts`, `doctor-finding.ts`, `doctor-findings.ts`, `doctor-probe.ts`,
// `doctor-reach.ts`, `io.ts`, `partial.ts` and `tokens.ts` beside it.

import { originRule } from '../origin.ts';
import {
  type CommandLine,
  type OptionSpecs,
  readOneUrl,
  readOptions,
  shownUrl,
  usageError,
  withOptionNames,
} from './argv.ts';
import { COLOR_ENVIRONMENT, type Paint, paintFor } from './colors.ts';
import {
  type Cors,
  type CorsHop,
  type Evidence,
  type Finding,
  isRedirect,
  type Resume,
} from './doctor-finding.ts';
import { diagnose, summaryOf } from './doctor-findings.ts';
import { headOf, Probe, type ProbeOptions } from './doctor-probe.ts';
import { reachOf } from './doctor-reach.ts';
import { type CommandIo, escapeControls, jsonLine, report } from './io.ts';
import { partialBy } from './partial.ts';
import { REQUEST_ENVIRONMENT, REQUEST_HELP, REQUEST_OPTIONS, requestHeaders } from './tokens.ts';

const HELP = `Usage: sluice doctor [options] URL

Reads any event stream as a browser does, through whatever stands before it, and says what is wrong, by whom,
and what cures it. URL is that of the stream. It publishes nothing; a stream on which nothing happens shows
little, so let some events be published while it runs.

${REQUEST_HELP}
      --topic TOPIC           add topic=TOPIC to the URL; may be repeated
      --origin ORIGIN         ask whether pages of this origin may read the stream (CORS)
      --credentials           those of --origin with cookies
      --wait TIME             follow the stream for so long; default 15s, at most 1h. 65s and more show whether
                              something cuts silent connections
      --json                  print one JSON object
  -h, --help

TIME is 500ms, 10s, 5m or 1h. SIGINT ends it early, with what it has found until then.

Exit codes:
  0  nothing wrong; there may be warnings
  1  a problem was found
  2  wrong usage

Environment:
${REQUEST_ENVIRONMENT}
${COLOR_ENVIRONMENT}

Examples:
  sluice doctor https://events.example/events?topic=news
  sluice doctor --token-file token --origin https://app.example --wait 65s https://events.example/events/news
`;

const MAX_WAIT = 3_600_000;
/** What answers without a stream has so long for it. */
const ANSWER_TIMEOUT = 3000;
/** A stream without a byte for so long is asked for without compression, too. */
const PATIENCE = 3000;
/** How long a second connection has to get what was missed. */
const RESUME_TIME = 3000;
/** As many redirects as are followed for the stream, and the first request. */
const MAX_HOPS = 11;

const OPTIONS = {
  ...REQUEST_OPTIONS,
  topic: { kind: 'text', many: true },
  origin: { kind: 'text' },
  credentials: { kind: 'flag' },
  wait: { kind: 'duration', min: 100, max: MAX_WAIT, off: false },
  json: { kind: 'flag' },
  help: { kind: 'flag', short: 'h' },
} as const;

/** The same for completion by shells. */
export const doctorOptions: OptionSpecs = OPTIONS;

/** What `sluice doctor --json` prints. */
export interface Report {
  readonly url: string;
  readonly ended: 'complete' | 'interrupted';
  /** The gravest state of a finding. */
  readonly state: Finding['state'];
  readonly summary: string;
  readonly findings: readonly Finding[];
  /** Of the connection that was followed; times in milliseconds. */
  readonly measured: {
    readonly headAfter: number | null;
    readonly firstByteAfter: number | null;
    readonly duration: number;
    readonly longestSilence: number;
    readonly bytes: number;
    readonly bursts: number;
    readonly events: number;
    readonly comments: number;
  };
}

/** Runs `sluice doctor`; `argv` has the words after that. Resolves with the exit code. */
export async function doctor(argv: readonly string[], io: CommandIo): Promise<number> {
  const plan = await planOf(argv, io.env);
  if (plan === undefined) {
    io.stdout.write(HELP);
    return 0;
  }
  if (io.stderr.isTTY === true && !plan.json)
    report(io, 'sluice doctor', `following ${shownUrl(plan.url)} for ${plan.wait / 1000} s`);
  const evidence = await examine(plan, io.signal);
  const result = reportOf(plan.url, evidence, io.signal.aborted);
  io.stdout.write(plan.json ? jsonLine(result) : printed(result, paintFor(io.stdout, io.env)));
  return result.state === 'problem' ? 1 : 0;
}

// ── what is asked for ─────────────────────────────────────────────────────────────────────────────────────

interface Plan {
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly origin: string | undefined;
  readonly credentials: boolean;
  readonly wait: number;
  readonly json: boolean;
}

async function planOf(argv: readonly string[], env: CommandIo['env']): Promise<Plan | undefined> {
  const line = readOptions(argv, OPTIONS);
  const { values, positionals } = line;
  if (values.help) return undefined;
  const url = readOneUrl(positionals);
  for (const topic of values.topic) url.searchParams.append('topic', topic);
  const headers = await requestHeaders(values, env);
  return {
    ...{ url, headers, origin: originOf(line) },
    credentials: values.credentials ?? false,
    wait: values.wait ?? 15_000,
    json: values.json ?? false,
  };
}

function originOf(line: CommandLine<typeof OPTIONS>): string | undefined {
  const { origin, credentials } = line.values;
  if (credentials && origin === undefined) throw usageError('--credentials needs --origin');
  if (origin !== undefined) withOptionNames(line, { origins: ['origin'] }, () => originRule([origin]));
  return origin;
}

// ── the examination ───────────────────────────────────────────────────────────────────────────────────────

/** Collects the evidence; what an interruption leaves out is `undefined`. */
async function examine(plan: Plan, signal: AbortSignal): Promise<Evidence> {
  const { url, headers, wait } = plan;
  const side = sideProbes(plan, signal);
  const main = new Probe({ url, headers, signal, time: wait, onChange: () => side.look(main) });
  const timers = [
    setTimeout(() => side.lookUncompressed(main), Math.min(PATIENCE, wait / 3)),
    setTimeout(() => side.lookResumed(main), wait / 2),
  ];
  await main.run();
  for (const timer of timers) clearTimeout(timer);
  const isStream = main.head !== undefined && (main.failure === undefined || main.bursts.length > 0);
  if (isStream) side.lookResumed(main);
  const hasHead = main.head !== undefined;
  const [head, cors, reach] = await Promise.all([
    hasHead ? undefined : headOf(main.url, 'HEAD', headers, signal, ANSWER_TIMEOUT),
    hasHead ? corsOf(plan, signal) : undefined,
    hasHead && main.url.protocol !== 'https:' ? undefined : reachOf(main.url, signal),
    side.finish(main),
  ]);
  return { main, plain: side.plain, resume: side.resume, head, cors, reach, wait, partial: partialBy(url) };
}

/** The connections beside the main one. They are opened while that goes on, so that nothing takes longer. */
function sideProbes({ url, headers, wait }: Plan, signal: AbortSignal) {
  const running: Promise<void>[] = [];
  const open = (options: Partial<ProbeOptions>): Probe => {
    const probe = new Probe({ url, headers, signal, time: wait, ...options });
    running.push(probe.run());
    return probe;
  };
  const side = {
    plain: undefined as Probe | undefined,
    resume: undefined as Resume | undefined,

    /** The first bytes without compression, where those with it do not come or are compressed. */
    lookUncompressed(main: Probe): void {
      if (side.plain !== undefined || signal.aborted || main.bursts.length > 0) return;
      const probe = open({
        acceptEncoding: 'identity',
        onChange: () => probe.bursts.length > 0 && probe.stop(),
        time: Math.max(ANSWER_TIMEOUT, wait / 2),
      });
      side.plain = probe;
    },

    /** What a reader gets that returns with the first id. */
    lookResumed(main: Probe): void {
      const { firstId: from, ids } = main;
      if (side.resume !== undefined || signal.aborted || from === undefined) return;
      const missed = ids.length - (ids.indexOf(from) + 1);
      const probe = open({
        lastEventId: from,
        idOrigin: main.url.origin,
        time: RESUME_TIME,
        onChange: () => probe.ids.length >= missed && probe.ready !== undefined && probe.stop(),
      });
      side.resume = { probe, from, missed };
    },

    look(main: Probe): void {
      if (main.head?.headers['content-encoding'] !== undefined) side.lookUncompressed(main);
    },

    async finish(main: Probe): Promise<void> {
      // What flows without compression shows nothing more once the other one flows as well.
      if (main.bursts.length > 0) side.plain?.stop();
      await Promise.all(running);
    },
  };
  return side;
}

/** As a browser does it: each redirect has to allow the page. */
async function corsOf(plan: Plan, signal: AbortSignal): Promise<Cors | undefined> {
  const { headers, origin, credentials } = plan;
  if (origin === undefined) return undefined;
  const asked = Object.keys(headers).filter((name) => !PLAIN_HEADERS.has(name) && !name.startsWith('sec-'));
  const hops: CorsHop[] = [];
  let [next, sentOrigin]: [URL | undefined, string] = [plan.url, origin];
  while (next !== undefined && hops.length < MAX_HOPS) {
    const url: URL = next;
    const hop = await corsHopOf(url, sentOrigin, asked, headers, signal);
    hops.push(hop);
    next = redirectOf(hop, Object.keys(headers).length === 0);
    if (next !== undefined && next.origin !== url.origin && url.origin !== origin) sentOrigin = 'null';
  }
  return { origin, credentials, asked, hops };
}

async function corsHopOf(
  url: URL,
  origin: string,
  asked: readonly string[],
  headers: Plan['headers'],
  signal: AbortSignal,
): Promise<CorsHop> {
  const stream = { accept: 'text/event-stream', ...headers, origin };
  const preflight = {
    origin,
    'access-control-request-method': 'GET',
    'access-control-request-headers': [...asked].sort().join(','),
  };
  return {
    ...{ url, origin },
    answer: await headOf(url, 'GET', stream, signal, ANSWER_TIMEOUT),
    preflight:
      asked.length === 0 ? undefined : await headOf(url, 'OPTIONS', preflight, signal, ANSWER_TIMEOUT),
  };
}

/** Where the request goes on: with headers of the user only within the origin. */
function redirectOf({ url, answer }: CorsHop, isBare: boolean): URL | undefined {
  const { location } = answer?.headers ?? {};
  if (answer === undefined || !isRedirect(answer) || !location || !URL.canParse(location, url.href)) {
    return undefined;
  }
  const target = new URL(location, url);
  const isSafe = target.protocol === 'https:' || (target.protocol === 'http:' && url.protocol === 'http:');
  return target.origin === url.origin || (isBare && isSafe) ? target : undefined;
}

/** Those that a page's request may have without a preflight, or that only the browser sets. */
const PLAIN_HEADERS = new Set([
  'accept',
  'accept-language',
  'content-language',
  'cookie',
  'origin',
  'user-agent',
]);

// ── the report ────────────────────────────────────────────────────────────────────────────────────────────

const STATES = ['ok', 'unknown', 'warning', 'problem'] as const;

function reportOf(url: URL, evidence: Evidence, isInterrupted: boolean): Report {
  const findings = diagnose(evidence);
  const { main } = evidence;
  return {
    url: shownUrl(url),
    ended: isInterrupted ? 'interrupted' : 'complete',
    state: STATES[Math.max(...findings.map(({ state }) => STATES.indexOf(state)))]!,
    summary: summaryOf(findings),
    findings,
    measured: {
      headAfter: main.head === undefined ? null : Math.round(main.head.at),
      firstByteAfter: main.bursts[0] === undefined ? null : Math.round(main.bursts[0].from),
      duration: Math.round(main.age),
      longestSilence: Math.round(main.longestSilence),
      bytes: main.bytes,
      bursts: main.bursts.length,
      events: main.events,
      comments: main.beats,
    },
  };
}

const COLORS = { ok: 'green', unknown: 'cyan', warning: 'yellow', problem: 'red' } as const;

function printed({ findings, summary, ended }: Report, paint: Paint): string {
  const lines = findings.map(({ state, code, seen, cause, cure }) => {
    const rest = [`${code}: ${seen}`, cause && `cause: ${cause}`, cure && `cure: ${cure}`].filter(Boolean);
    return `${paint(COLORS[state], state.padEnd(7))}  ${escapeControls(rest.join(' — '))}`;
  });
  return `${lines.join('\n')}\n${escapeControls(summary)}${ended === 'interrupted' ? ' (interrupted)' : ''}\n`;
}
