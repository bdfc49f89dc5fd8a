// Publishes the lines of stdin (`sluice publish URL TOPIC`) in batches; each is sent until it is accepted.
// Needs `../transport.ts`, `argv.ts`, `batches.ts`, `io.ts`, `output.ts`, `post.ts` and `tokens.ts` beside it.

import { nodeTransport } from '../transport.ts';
import { type OptionSpecs, readOptions, readTopic, readUrl, urlBelow, usageError } from './argv.ts';
import { type BatchLimits, batches } from './batches.ts';
import { type CommandIo, escapeControls, report } from './io.ts';
import { Output } from './output.ts';
import { agentFor, type PostOptions, post } from './post.ts';
import { REQUEST_ENVIRONMENT, REQUEST_HELP, REQUEST_OPTIONS, requestHeaders } from './tokens.ts';

const HELP = `Usage: sluice publish [options] URL TOPIC

Publishes each line of stdin as one event, in order. Lines are sent as soon as they arrive, many in one
request where many have arrived. While a request is pending, little more is read.

${REQUEST_HELP}
      --event TYPE            the type of the events
      --key KEY               their key, for readers that ask for the newest event per key
      --ndjson                lines are JSON: {"event"?, "data", "key"?} or a string; empty lines are skipped
      --batch N               at most N lines in a request; default 500
      --attempts N            give up on a request after N attempts; default 8, some 15 seconds
      --ids                   print the ids of the events
  -h, --help

A request is sent again when no answer comes, or one with 408, 425, 429 or 5xx, after the time that Retry-After
gives and a random wait that grows. Each attempt has the same Idempotency-Key, so a batch whose answer was lost
is not published twice, unless the server has restarted in between. A batch that the server refuses as too
large (413) is sent in smaller ones, in the same order.

Exit codes:
  0  every line was published
  1  a line or a request was refused, or every attempt failed; stderr says how many lines were published
  2  wrong usage
  130  interrupted

Environment:
${REQUEST_ENVIRONMENT}

Examples:
  journalctl --follow --output cat | sluice publish http://127.0.0.1:8080 journal
  sluice publish --ndjson --token-file token https://events.example prices < prices.ndjson
`;

const OPTIONS = {
  ...REQUEST_OPTIONS,
  event: { kind: 'text' },
  key: { kind: 'text' },
  ndjson: { kind: 'flag' },
  batch: { kind: 'count', min: 1 },
  attempts: { kind: 'count', min: 1 },
  ids: { kind: 'flag' },
  help: { kind: 'flag', short: 'h' },
} as const;

/** The same for completion by shells. */
export const publishOptions: OptionSpecs = OPTIONS;

// Half of the server's default limit for a body.
const MAX_BATCH_BYTES = 512 * 1024;
const MAX_LINE_BYTES = 1024 * 1024;

/**
 * Runs `sluice publish`; `argv` has the words after that. A failure states how many events were published
 * before it.
 */
export async function publish(argv: readonly string[], io: CommandIo): Promise<number> {
  const plan = await planOf(argv, io.env);
  if (plan === undefined) {
    io.stdout.write(HELP);
    return 0;
  }
  const agent = agentFor(plan.url, io.env);
  const progress = new Progress(io, plan.ids);
  const stopped = new AbortController();
  const ids = plan.ids ? new Output(io.stdout, { onFailure: () => stopped.abort(OUTPUT_GONE) }) : undefined;
  const stop = (): void => {
    stopped.abort(io.signal.reason);
    ids?.fail(io.signal.reason);
  };
  if (io.signal.aborted) stop();
  io.signal.addEventListener('abort', stop, { once: true });
  const { signal } = stopped;
  const onRetry: PostOptions['onRetry'] = (failure) => progress.waits(failure, plan.attempts);
  const options = { ...plan, signal, onRetry, send: nodeTransport({ agent }) };
  try {
    for await (const batch of batches(io.stdin, options)) {
      for await (const accepted of post(batch, options)) {
        progress.add(accepted.length);
        await ids?.write(textOf(accepted, io.stdout));
      }
    }
    await ids?.flush();
    progress.end();
    return 0;
  } catch (error) {
    progress.end();
    const cause = ids?.failure ?? error;
    const why = io.signal.aborted ? 'interrupted' : reasonOf(cause as Error, progress.published);
    throw new Error(`${why}; ${progress.published} published before`, { cause });
  } finally {
    io.signal.removeEventListener('abort', stop);
    agent.destroy();
  }
}

/** The server counts the lines of the request; here all events count, from the first of the input. */
function reasonOf({ message }: Error, published: number): string {
  return message
    .replace(/\.$/, '')
    .replace(/^(the server answered \d+: )Line (\d{1,9}): /, (_, answer, line) => {
      return `${answer}event ${published + Number(line)}: `;
    });
}

const OUTPUT_GONE = new Error('the ids cannot be written');

/**
 * Counts what is published: on a terminal, stderr shows it, unless ids are printed on the terminal. Reports that a
 * request must be sent again.
 */
class Progress {
  published = 0;
  readonly #io: CommandIo;
  readonly #isTTY: boolean;
  readonly #isShown: boolean;
  #isWaiting = false;
  #isLineOpen = false;

  constructor(io: CommandIo, ids: boolean) {
    this.#io = io;
    this.#isTTY = io.stderr.isTTY === true;
    this.#isShown = this.#isTTY && !(ids && io.stdout.isTTY);
  }

  add(events: number): void {
    this.published += events;
    this.#isWaiting = false;
    if (!this.#isShown) return;
    this.#io.stderr.write(`\r${this.published} published`);
    this.#isLineOpen = true;
  }

  /** On a terminal a line for each attempt that fails; elsewhere for the first, not for those after it. */
  waits({ message, attempt, delay }: Parameters<PostOptions['onRetry']>[0], attempts: number): void {
    if (this.#isWaiting && !this.#isTTY) return;
    this.#isWaiting = true;
    this.end();
    const when = ` in ${(delay / 1000).toFixed(1)} s, attempt ${attempt + 1} of ${attempts}`;
    report(this.#io, 'sluice publish', `${message}; trying again${this.#isTTY ? when : ''}`);
  }

  end(): void {
    if (this.#isLineOpen) this.#io.stderr.write('\n');
    this.#isLineOpen = false;
  }
}

interface Plan {
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly limits: BatchLimits;
  readonly maxLineBytes: number;
  /** Turns a line of stdin into a line of the request, or leaves it out. */
  readonly convert: (line: string) => string | undefined;
  readonly attempts: number;
  readonly ids: boolean;
}

async function planOf(argv: readonly string[], env: CommandIo['env']): Promise<Plan | undefined> {
  const { values, positionals } = readOptions(argv, OPTIONS);
  if (values.help) return undefined;
  const [url, topic] = positionals;
  if (url === undefined || topic === undefined || positionals.length > 2)
    throw usageError(`expected a URL and a topic, got ${positionals.length || 'nothing'}`);
  const { event, key, ndjson = false, batch = 500, attempts = 8, ids = false } = values;
  if (event !== undefined && /[\r\n]/.test(event)) throw usageError('--event must be one line');
  const headers = await requestHeaders(values, env);
  return {
    url: urlBelow(readUrl(url), `topics/${readTopic('TOPIC', topic)}`),
    headers,
    limits: { maxLines: batch, maxBytes: MAX_BATCH_BYTES },
    maxLineBytes: MAX_LINE_BYTES,
    convert: ndjson ? jsonConverter({ event, key }) : (data) => JSON.stringify({ event, data, key }),
    attempts,
    ids,
  };
}

/**
 * Checks JSON lines, and adds the type and the key to those that have none. Leaves out empty lines, as the server
 * does.
 */
function jsonConverter(defaults: { event: string | undefined; key: string | undefined }): Plan['convert'] {
  let number = 0;
  return (line) => {
    number++;
    if (/^\r*$/.test(line)) return undefined;
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

function textOf(ids: readonly string[], { isTTY }: CommandIo['stdout']): string {
  const text = ids.map((id) => `${id}\n`).join('');
  return isTTY ? escapeControls(text) : text;
}
