// Says whether the streams of a deployment are contiguous across cuts (`sluice check URL`), or say what is lost.
// Needs `../checker.ts`, `../failure.ts`, `../ledger.ts`, `../protocol.ts`, `../transport.ts`, `argv.ts`,
// `batches.ts`, `check-report.ts`, `cutting-reader.ts`, `io.ts`, `post.ts` and `tokens.ts` beside it.

import { randomBytes, randomInt } from 'node:crypto';
import { Checker } from '../checker.ts';
import { isTransient } from '../failure.ts';
import { comparePlaces, type Place } from '../ledger.ts';
import { formatId } from '../protocol.ts';
import { nodeTransport, type Transport } from '../transport.ts';
import {
  type OptionSpecs,
  type OptionValues,
  readOneUrl,
  readOptions,
  readTopic,
  urlBelow,
  usageError,
} from './argv.ts';
import { unlessAborted } from './batches.ts';
import { printed, type Result } from './check-report.ts';
import { CuttingReader, seeded } from './cutting-reader.ts';
import { type CommandIo, escapeControls, jsonLine, report } from './io.ts';
import { agentFor, post } from './post.ts';
import { REQUEST_ENVIRONMENT, REQUEST_HELP, REQUEST_OPTIONS, requestHeaders } from './tokens.ts';

const HELP = `Usage: sluice check [options] URL

Tries whether streams are contiguous when connections are cut, or say with a gap what is lost. Publishes
numbered events to a topic of its own while readers follow it, cut their own connections and resume. One more
reader then reads everything from the start. URL is that of the server, as for \`sluice publish\`.

${REQUEST_HELP}
      --topic TOPIC           publish to this topic, to which nobody else publishes; default check-<random>
      --rate N                publish N events a second; default 100, at most 10000
      --duration TIME         default 10s, at most 1h
      --readers N             readers that are cut; default 10, at most 500
      --read-only             publish nothing: compare readers of --topic that are cut with one that is not.
                              --topic may be repeated then
      --foreign               the same for any server that sends ids; URL is the stream itself
      --grace TIME            how long readers may take to get a stream at first, and the newest events at the
                              end; default 10s
      --seed N                the moments of the cuts follow from it; default random, and printed
      --json                  print one JSON object
  -h, --help

TIME is 500ms, 10s, 5m or 1h. SIGINT ends the check early, with what it has found until then.

Exit codes:
  0  nothing was found
  1  something was found, or the check could not be done: the server is away, there were no events, …
  2  wrong usage

Environment:
${REQUEST_ENVIRONMENT}

Examples:
  sluice check http://127.0.0.1:8080
  sluice check --read-only --topic news --duration 60s https://events.example
  sluice check --foreign https://other.example/stream
`;

const MAX_RATE = 10_000;
const MAX_READERS = 500;
const MAX_DURATION = 3_600_000;
/** What a check publishes or compares: it holds 16 bytes for each event, in a comparison also its id. */
const MAX_PUBLISHED = 2_000_000;
const MAX_COMPARED = 500_000;

const OPTIONS = {
  ...REQUEST_OPTIONS,
  topic: { kind: 'text', many: true },
  rate: { kind: 'count', min: 1, max: MAX_RATE },
  duration: { kind: 'duration', min: 1, max: MAX_DURATION, off: false },
  readers: { kind: 'count', min: 1, max: MAX_READERS },
  'read-only': { kind: 'flag' },
  foreign: { kind: 'flag' },
  grace: { kind: 'duration', min: 100, max: MAX_DURATION, off: false },
  seed: { kind: 'count', max: 2 ** 32 - 1 },
  json: { kind: 'flag' },
  help: { kind: 'flag', short: 'h' },
} as const;

/** The same for completion by shells. */
export const checkOptions: OptionSpecs = OPTIONS;

const POLL_INTERVAL = 20;
const MAX_BATCH = 100;
const MAX_BATCH_BYTES = 64 * 1024;
const ATTEMPTS = 8;

/** Runs `sluice check`; `argv` has the words after that. Resolves with the exit code. */
export async function check(argv: readonly string[], io: CommandIo): Promise<number> {
  const plan = await planOf(argv, io.env);
  if (plan === undefined) {
    io.stdout.write(HELP);
    return 0;
  }
  const run = new Run(plan, io);
  const isShown = io.stderr.isTTY === true && !plan.json;
  const timer = isShown ? setInterval(() => io.stderr.write(`\r\x1b[K${run.progress}`), 1000) : undefined;
  const result = await run.run().finally(() => {
    clearInterval(timer);
    if (isShown) io.stderr.write('\r\x1b[K');
  });
  io.stdout.write(plan.json ? jsonLine(result) : escapeControls(printed(result)));
  if (result.problem !== undefined && !plan.json) report(io, 'sluice check', result.problem);
  return result.problem === undefined && result.findings.length === 0 ? 0 : 1;
}

// ── what is asked for ─────────────────────────────────────────────────────────────────────────────────────

interface Plan {
  readonly kind: 'published' | 'compared' | 'opaque';
  readonly stream: URL;
  /** Where to publish; `undefined`: nothing is published. */
  readonly target: URL | undefined;
  readonly topics: readonly string[];
  readonly headers: Readonly<Record<string, string>>;
  readonly rate: number;
  readonly duration: number;
  readonly readers: number;
  readonly grace: number;
  readonly seed: number;
  readonly json: boolean;
}

async function planOf(argv: readonly string[], env: CommandIo['env']): Promise<Plan | undefined> {
  const { values, positionals } = readOptions(argv, OPTIONS);
  if (values.help) return undefined;
  const url = readOneUrl(positionals);
  checkTogether(values);
  const { foreign = false, 'read-only': readOnly = false, rate = 100, duration = 10_000 } = values;
  const headers = await requestHeaders(values, env);
  const named = values.topic.map((topic) => readTopic('--topic', topic));
  const topics = foreign || named.length > 0 ? named : [`check-${randomBytes(6).toString('hex')}`];
  return {
    kind: foreign ? 'opaque' : readOnly ? 'compared' : 'published',
    stream: foreign ? url : streamOf(url, topics),
    target: foreign || readOnly ? undefined : urlBelow(url, `topics/${topics[0]}`),
    ...{ topics, headers, rate, duration },
    readers: values.readers ?? 10,
    grace: values.grace ?? 10_000,
    seed: values.seed ?? randomInt(2 ** 32),
    json: values.json ?? false,
  };
}

function checkTogether(values: OptionValues<typeof OPTIONS>): void {
  const { foreign, 'read-only': readOnly, topic, rate, duration = 10_000 } = values;
  if (foreign && topic.length > 0) throw usageError('--topic and --foreign exclude each other');
  if (readOnly && !foreign && topic.length === 0) throw usageError('--read-only needs --topic');
  if (!readOnly && topic.length > 1) throw usageError('--topic may be repeated with --read-only alone');
  if ((foreign || readOnly) && rate !== undefined)
    throw usageError(`--rate and --${foreign ? 'foreign' : 'read-only'} exclude each other`);
  if (((rate ?? 100) * duration) / 1000 > MAX_PUBLISHED)
    throw usageError(`--rate and --duration may make ${MAX_PUBLISHED} events at most`);
}

function streamOf(url: URL, topics: readonly string[]): URL {
  const stream = urlBelow(url, 'events');
  for (const topic of topics) stream.searchParams.append('topic', topic);
  return stream;
}

// ── the check ─────────────────────────────────────────────────────────────────────────────────────────────

class Run {
  readonly #plan: Plan;
  readonly #env: CommandIo['env'];
  readonly #signal: AbortSignal;
  readonly #checker: Checker;
  /** Those that are cut, and in a comparison before them the one that is not. */
  readonly #readers: CuttingReader[] = [];
  readonly #running: Promise<void>[] = [];
  readonly #token = randomBytes(6).toString('hex');
  readonly #transport: Transport = nodeTransport();
  #published = 0;
  #unknown = 0;
  #lastAnswered = 0;
  /** The newest event that all readers were given the time to receive. */
  #awaited = 0;
  #lastFailure = 'there was no answer in time';
  #problem: string | undefined;
  /** Whether the server takes no more events. */
  #isRefused = false;

  constructor(plan: Plan, { signal, env }: CommandIo) {
    this.#plan = plan;
    this.#env = env;
    this.#signal = signal;
    const pattern = new RegExp(`^check ${this.#token} ([1-9][0-9]{0,8})$`);
    this.#checker = new Checker({
      kind: plan.kind,
      maxEvents: plan.kind === 'published' ? MAX_PUBLISHED : MAX_COMPARED,
      hasManyTopics: plan.topics.length > 1,
      numberOf: (data) => {
        const [, digits] = pattern.exec(data) ?? [];
        return digits === undefined ? undefined : Number(digits);
      },
    });
  }

  get progress(): string {
    const connections = this.#readers.reduce((sum, reader) => sum + reader.connections, 0);
    const { kind } = this.#plan;
    const published = kind === 'published' ? `${this.#published} events published, ` : '';
    return `sluice check: ${published}${connections} connections of ${this.#readers.length} readers`;
  }

  async run(): Promise<Result> {
    const { duration, kind } = this.#plan;
    let ended: Result['ended'] = 'duration';
    try {
      await this.#open();
      if (kind === 'published') await this.#publish();
      else await this.#until(() => this.#isFull, duration);
      for (const reader of this.#readers) reader.spare();
      if (!this.#isFull) await this.#catchUp();
    } catch (error) {
      // What was found until an interruption is reported. Any other failure means that nothing was tried.
      if (!this.#signal.aborted) throw error;
    } finally {
      if (this.#signal.aborted) ended = 'interrupted';
      else if (this.#isFull) ended = 'full';
      for (const reader of this.#readers) reader.stop();
      await Promise.all(this.#running);
    }
    return this.#result(ended);
  }

  /** Starts the readers, and resolves once each has a stream or long enough has passed. */
  async #open(): Promise<void> {
    const { readers, seed, kind, grace } = this.#plan;
    if (kind !== 'published') {
      const uncut = this.#follow('the uncut reader');
      await this.#until(() => uncut.connections > 0 || uncut.isOver, grace);
      if (uncut.connections === 0) throw new Error(`no reader got a stream: ${this.#lastFailure}`);
    }
    for (let i = 1; i <= readers; i++) this.#follow(`reader ${i}`, seeded(seed + i * 0x9e3779b1));
    const cut = this.#readers.slice(-readers);
    const isThere = (reader: CuttingReader): boolean =>
      kind === 'published' ? reader.record.start !== undefined : reader.connections > 0;
    await this.#until(() => cut.every((reader) => isThere(reader) || reader.isOver), grace);
    const absent = cut.filter((reader) => !isThere(reader)).length;
    if (absent === readers && cut.some((reader) => reader.connections > 0))
      throw new Error(
        'the stream does not begin with sluice:ready, so this is no server of sluice: try --foreign',
      );
    if (absent === readers) throw new Error(`no reader got a stream: ${this.#lastFailure}`);
    if (absent > 0) this.#problem = `${absent} of ${readers} readers got no stream: ${this.#lastFailure}`;
  }

  #follow(name: string, random?: () => number, start?: string): CuttingReader {
    const { stream: url, headers, kind } = this.#plan;
    const isReference = kind !== 'published' && this.#readers.length === 0;
    const reader = new CuttingReader({
      ...{ url, headers, random, lastEventId: start, transport: this.#transport },
      record: this.#checker.reader(name, { start, isReference }),
      onFailure: (failure) => {
        this.#lastFailure = failure.message;
        if (!isTransient(failure)) this.#problem ??= `${name} was refused: ${failure.message}`;
      },
    });
    this.#readers.push(reader);
    this.#running.push(reader.run());
    return reader;
  }

  get #isFull(): boolean {
    return this.#checker.isFull || this.#readers.some(({ record }) => record.isFull);
  }

  /** Gives the readers time for the newest events; then one reads everything from the start. */
  async #catchUp(): Promise<void> {
    const { kind, grace } = this.#plan;
    const target = kind === 'published' ? this.#lastAnswered : this.#checker.lastNumber;
    if (target === 0) return;
    this.#awaited = target;
    const isThere = ({ record, isOver }: CuttingReader): boolean => isOver || record.hasReached(target);
    await this.#until(() => this.#readers.every(isThere), grace);
    const start = this.#earliestStart();
    if (kind !== 'published' || start === undefined) return;
    const whole = this.#follow('the reader of the whole', undefined, formatId(start.epoch, start.seq));
    await this.#until(() => isThere(whole), grace);
  }

  #earliestStart(): Place | undefined {
    const starts = this.#readers.flatMap(({ record }) => record.start ?? []);
    return starts.sort(comparePlaces)[0];
  }

  /** Resolves when something has come about or the time has passed; rejects when the check is interrupted. */
  async #until(isDone: () => boolean, time: number): Promise<void> {
    const end = performance.now() + time;
    while (!isDone() && performance.now() < end) await this.#wait(POLL_INTERVAL);
  }

  async #wait(time: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const passed = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, time);
    });
    await unlessAborted(passed, this.#signal).finally(() => clearTimeout(timer));
  }

  // ── publishing ──────────────────────────────────────────────────────────────────────────────────────────

  /** Publishes at the rate, a request at a time; what is not published in time is not caught up with. */
  async #publish(): Promise<void> {
    const { rate, duration, target, grace } = this.#plan;
    const total = Math.max(1, Math.floor((rate * duration) / 1000));
    const began = performance.now();
    const agent = agentFor(target!, this.#env);
    const stopped = new AbortController();
    const stop = (): void => stopped.abort(this.#signal.reason);
    this.#signal.addEventListener('abort', stop, { once: true });
    const timer = setTimeout(() => stopped.abort(new Error('it was not answered in time')), duration + grace);
    const send = nodeTransport({ agent });
    try {
      for (let sent = 0, age = 0; sent < total && age < duration && !this.#isFull && !this.#isRefused; ) {
        age = performance.now() - began;
        const due = Math.floor((total * Math.min(age, duration)) / duration) - sent;
        const size = Math.min(due, MAX_BATCH);
        if (size > 0) await this.#post(sent + 1, size, send, stopped.signal);
        sent += size;
        if (due <= MAX_BATCH) await this.#wait(POLL_INTERVAL);
      }
    } finally {
      clearTimeout(timer);
      this.#signal.removeEventListener('abort', stop);
      agent.destroy();
    }
  }

  async #post(first: number, size: number, send: Transport, signal: AbortSignal): Promise<void> {
    const { target, headers } = this.#plan;
    const lines = Array.from({ length: size }, (_, i) =>
      JSON.stringify({ data: `check ${this.#token} ${first + i}` }),
    );
    let next = first;
    let isDoubtful = false;
    const limits = { maxLines: MAX_BATCH, maxBytes: MAX_BATCH_BYTES };
    const onRetry = (): void => {
      isDoubtful = true;
    };
    try {
      const options = { url: target!, headers, limits, send, signal, onRetry, attempts: ATTEMPTS };
      for await (const ids of post(lines, options)) {
        for (const id of ids) this.#checker.answered(next++, id, isDoubtful);
        this.#published += ids.length;
        this.#lastAnswered = next - 1;
        isDoubtful = false;
      }
    } catch (error) {
      this.#unknown += first + size - next;
      for (let number = next; number < first + size; number++) this.#checker.unknown(number);
      if (this.#signal.aborted) throw error;
      const { message, code, status = 0 } = error as Error & { code?: string; status?: number };
      // The server will not take the next one either.
      this.#isRefused = code === 'ERR_SSE_STATUS' && status < 500;
      if (this.#published === 0) throw new Error(`nothing could be published: ${message}`, { cause: error });
      this.#problem ??= `not everything could be published: ${message}`;
    }
  }

  // ── the result ──────────────────────────────────────────────────────────────────────────────────────────

  #result(ended: Result['ended']): Result {
    const { seed, topics, kind } = this.#plan;
    const { findings, counts } = this.#checker.finish({ awaited: ended === 'duration' ? this.#awaited : 0 });
    const sum = (of: (reader: CuttingReader) => number): number =>
      this.#readers.reduce((total, reader) => total + of(reader), 0);
    const events = sum(({ record }) => record.events);
    const withoutId = sum(({ record }) => record.withoutId);
    let problem = this.#problem;
    if (events === 0) problem ??= 'no events were seen';
    else if (kind !== 'published' && withoutId === events)
      problem = 'the events have no ids, so no reader can resume';
    else if (ended === 'full')
      problem ??= 'ended early: there were more events, or more pieces, than can be held';
    return {
      ...{ seed, topics, ended, problem },
      counts: {
        published: this.#published,
        unknown: this.#unknown,
        readers: this.#readers.length,
        events,
        connections: sum(({ connections }) => connections),
        cuts: sum(({ cuts }) => cuts),
        failures: sum(({ failures }) => failures),
        gaps: sum(({ record }) => record.gaps),
        findings: counts,
      },
      findings,
    };
  }
}
