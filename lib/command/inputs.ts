// Publishes the inputs of a server: lines of files, lines of standard input and samples of this host.
// Needs `argv.ts`, `io.ts`, `lines.ts`, `system.ts` and `tail-file.ts` beside it.

import { access, constants, stat } from 'node:fs/promises';
import { basename } from 'node:path';
import { setInterval as every } from 'node:timers/promises';
import { readTopic } from './argv.ts';
import type { CommandInput } from './io.ts';
import { lines } from './lines.ts';
import { SystemSampler } from './system.ts';
import { tailFile } from './tail-file.ts';

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
interface InputTarget {
  readonly hub: {
    publish(topic: string, event: { data: string }): unknown;
    end(topic: string): unknown;
    topics(): readonly unknown[];
  };
  readonly streams: { readonly size: number };
}

interface InputContext {
  readonly source: CommandInput;
  /** Ends the inputs. */
  readonly signal: AbortSignal;
  /** Called when an input has failed. The others continue. */
  readonly onError: (error: Error, context: { readonly input: string; readonly topic: string }) => void;
}

/**
 * Reads the options, and checks that the files can be read: an error that is found later is only logged.
 *
 * @throws {UsageError} for a topic that is not valid; an `Error` naming the file that cannot be read.
 */
export async function readInputs(options: {
  readonly tail: readonly string[];
  readonly stdin: string | undefined;
  readonly system: boolean | undefined;
}): Promise<Inputs> {
  const tails = options.tail.map(readTail);
  const stdin = options.stdin === undefined ? undefined : readTopic('--stdin', options.stdin);
  await Promise.all(tails.map(checkFile));
  return { tails, stdin, system: options.system ?? false };
}

/** Resolves when every line that is appended to the files from then on will be published. */
export async function startInputs(
  { hub, streams }: InputTarget,
  { tails, stdin, system }: Inputs,
  { source, signal, onError }: InputContext,
): Promise<void> {
  const publishAll = async (
    input: string,
    topic: string,
    texts: AsyncIterable<string>,
    onEnd: () => void = () => {},
  ): Promise<void> => {
    try {
      for await (const data of texts) hub.publish(topic, { data });
      // A topic does not end when the server stops: clients may return after a restart.
      if (!signal.aborted) onEnd();
    } catch (error) {
      onError(error as Error, { input, topic });
    }
  };
  const followed = tails.map(
    ({ file, topic }) =>
      new Promise<void>((onReady) => {
        const appended = tailFile(file, { signal, persistent: false, onReady });
        publishAll(file, topic, appended).then(onReady);
      }),
  );
  if (stdin !== undefined) publishAll('stdin', stdin, lines(source, { signal }), () => hub.end(stdin));
  const counts = () => ({ connections: streams.size, topics: hub.topics().length });
  if (system) publishAll('system', 'system', samples(counts, signal));
  await Promise.all(followed);
}

/** `FILE` or `FILE:TOPIC`: the topic follows the last colon, unless a slash follows that. */
function readTail(text: string): Tail {
  const [, file = text, topic] = /^(.+):([^:/]*)$/.exec(text) ?? [];
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

async function checkFile({ file }: Tail): Promise<void> {
  await access(file, constants.R_OK).catch((error) => {
    throw new Error(`--tail ${file} cannot be read: ${error.message}`, { cause: error });
  });
  if (!(await stat(file)).isFile()) throw new Error(`--tail ${file} is not a regular file`);
}

/** Yields a sample of this host, this process and the server once a second, as JSON. */
async function* samples(counts: () => object, signal: AbortSignal): AsyncGenerator<string> {
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
