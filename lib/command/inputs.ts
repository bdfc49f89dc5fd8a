// Publishes the inputs of a server: lines of files, lines of standard input and samples of this host.
// Needs `../feed.ts`, `../metrics.ts`, `argv.ts`, `input.ts`, `io.ts`, `lines.ts`, `system.ts` and `tail-file.ts`
// beside it.

import { existsSync } from 'node:fs';
import { access, constants, stat } from 'node:fs/promises';
import { basename } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { FeedHub } from '../feed.ts';
import { lines } from '../lines.ts';
import type { Registry } from '../metrics.ts';
import { type TailFileOptions, tailFile } from '../tail-file.ts';
import { readTopic, usageError } from './argv.ts';
import { Input, type InputLogger } from './input.ts';
import type { CommandInput } from './io.ts';
import { SystemSampler } from './system.ts';

export interface Inputs {
  /** Files whose appended lines are published. */
  readonly tails: readonly Tail[];
  /** The topic of the lines of standard input. Their end ends the topic. */
  readonly stdin: string | undefined;
  /** Whether topic `system` gets a sample of this host, once a second. */
  readonly system: boolean;
}

interface Tail {
  readonly file: string;
  readonly topic: string;
}

/** The members of a hub and of its server that are used. */
export interface InputTarget {
  readonly hub: FeedHub<{ data: string }> & {
    change(topic: string, change: 'end' | 'reopen'): Promise<unknown>;
    topics(): readonly unknown[];
  };
  readonly streams: { readonly size: number };
}

interface InputContext {
  readonly source: CommandInput;
  /** Ends the inputs. */
  readonly signal: AbortSignal;
  readonly logger: InputLogger;
}

/** The state of each input, while it runs and afterwards. */
export interface InputStates {
  readonly list: readonly Pick<Input, 'name' | 'topic' | 'state' | 'skipped'>[];
  /** How many inputs are in each state. */
  count(): Record<Input['state'], number>;
}

/**
 * Reads the options, and checks that the files can be read: an error that is found later is only logged.
 *
 * @throws {UsageError} for a topic that is not valid, and a file that is given twice for one; an `Error` naming
 *   the file that cannot be read.
 */
export async function readInputs(options: {
  readonly tail: readonly string[];
  readonly stdin: string | undefined;
  readonly system: boolean | undefined;
}): Promise<Inputs> {
  const tails = options.tail.map(readTail);
  for (const [i, { file, topic }] of tails.entries()) {
    const isTwice = tails.findIndex((other) => other.file === file && other.topic === topic) < i;
    if (isTwice) throw usageError(`--tail ${file} is given twice for topic "${topic}"`);
  }
  const stdin = options.stdin === undefined ? undefined : readTopic('--stdin', options.stdin);
  await Promise.all(tails.map(({ file }, i) => checkFile(file, options.tail[i]!)));
  return { tails, stdin, system: options.system ?? false };
}

/**
 * Resolves when every line that is appended to the files from then on will be published. No input ends because
 * of a failure that may pass, of one event that the hub refuses, or because its topic was ended; see `Input`.
 */
export async function startInputs(
  { hub, streams }: InputTarget,
  { tails, stdin, system }: Inputs,
  { source, signal, logger }: InputContext,
): Promise<InputStates> {
  const list: Input[] = [];
  const inputFor = (name: string, topic: string): Input => {
    const input = new Input(name, topic, { hub, signal, logger });
    list.push(input);
    return input;
  };
  const followed = tails.map(({ file, topic }) => {
    const input = inputFor(file, topic);
    let from: TailFileOptions['from'] = 'end';
    const open = (failure: NodeJS.ErrnoException | undefined) => {
      // Of a file that comes to be later, every line is new.
      if (failure?.code === 'ENOENT') from = 'start';
      return tailFile(file, { ...input.tailing(), signal, from });
    };
    void input.run(open, { restarts: true });
    return input.begun;
  });
  if (stdin !== undefined) {
    const input = inputFor('stdin', stdin);
    // A topic does not end when the server stops: clients may return after a restart.
    const run = () =>
      input.run(() => lines(source, { signal }), { onEnd: () => void changeTo('end', hub, stdin, signal) });
    // A log knows that it has ended in the process before. One that is away does not hold up the server.
    void changeTo('reopen', hub, stdin, signal).then(run);
  }
  if (system) {
    const input = inputFor('system', 'system');
    const counts = () => ({ connections: streams.size, topics: hub.topics().length });
    void input.run(() => samples(counts, signal, () => input.recover('source')), { restarts: true });
  }
  await Promise.all(followed);
  return {
    list,
    count: () => {
      const counts = { up: 0, down: 0, ended: 0 };
      for (const { state } of list) counts[state]++;
      return counts;
    },
  };
}

/** The values of the labels are words of the command line, so their number is bounded. */
export function registerInputs(registry: Registry, { list }: InputStates): void {
  if (list.length === 0) return;
  const of = (read: (input: InputStates['list'][number]) => number) => () =>
    list.map((input) => [{ input: input.name, topic: input.topic }, read(input)] as const);
  registry
    .gauge(
      'sluice_input_up',
      '1 while an input is read and published, 0 while it is not.',
      of(({ state }) => Number(state === 'up')),
    )
    .counter(
      'sluice_input_skipped_total',
      'Events of an input that the hub has refused.',
      of(({ skipped }) => skipped),
    );
}

/** Ends or reopens a topic, as soon as the log takes that. */
async function changeTo(
  change: 'end' | 'reopen',
  hub: InputTarget['hub'],
  topic: string,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    try {
      return void (await hub.change(topic, change));
    } catch {
      await sleep(CHANGE_AGAIN_DELAY, undefined, { signal, ref: false }).catch(() => {});
    }
  }
}

/** Milliseconds. */
const CHANGE_AGAIN_DELAY = 1000;

/** `FILE` or `FILE:TOPIC`: the topic follows the last colon, unless a slash or backslash follows that. */
function readTail(text: string): Tail {
  const [, file = text, topic] = /^(.+):([^:/\\]*)$/.exec(text) ?? [];
  return {
    file,
    topic: topic === undefined ? topicFor(file) : readTopic(`the topic of --tail ${text}`, topic),
  };
}

function topicFor(file: string): string {
  return basename(file)
    .replaceAll(/[^A-Za-z0-9._~-]/g, '-')
    .slice(0, 200);
}

/** `text` is the value of the option. */
async function checkFile(file: string, text: string): Promise<void> {
  await access(file, constants.R_OK).catch((error) => {
    if (error.code === 'ENOENT' && existsSync(text))
      throw usageError(`--tail ${text} is FILE:TOPIC, and there is no file ${file}; write ${text}:TOPIC`);
    throw new Error(`--tail ${file} cannot be read: ${error.message}`, { cause: error });
  });
  if (!(await stat(file)).isFile()) throw new Error(`--tail ${file} is not a regular file`);
}

/** Yields a sample of this host, this process and the server once a second, as JSON. */
async function* samples(
  counts: () => object,
  signal: AbortSignal,
  onSample: () => void,
): AsyncGenerator<string> {
  const sampler = new SystemSampler();
  try {
    for (;;) {
      await sleep(1000, undefined, { signal, ref: false });
      const sample = JSON.stringify({ ...sampler.sample(), server: counts() });
      onSample();
      yield sample;
    }
  } finally {
    sampler.close();
  }
}
