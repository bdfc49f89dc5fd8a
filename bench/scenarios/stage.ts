// Starts a server and the reader of its connections, with which a scenario begins.

import { setTimeout as sleep } from 'node:timers/promises';
import { type Reader, type Served, startReader, usageOf } from '../loads/lead.ts';
import type { Answer } from '../loads/reader.ts';
import { start } from '../loads/servers.ts';

/** A server with its reader. */
export interface Stage {
  readonly server: Served;
  readonly reader: Reader;
  stop(): Promise<void>;
}

export interface StageOptions {
  readonly connections: number;
  readonly topics?: number | undefined;
  readonly bytes?: number | undefined;
  /** One connection in this many measures latency. */
  readonly sample?: number | undefined;
  readonly reader?: 'fastest' | 'node' | undefined;
  /**
   * The reader reads once a millisecond, so that it costs the server nothing; for CPU time, not for latency.
   */
  readonly isCalm?: boolean | undefined;
  /** As in `Opening`. */
  readonly path?: string | undefined;
  readonly isFirst?: boolean | undefined;
  /** Flags for Node; other runtimes ignore them. */
  readonly flags?: readonly string[] | undefined;
}

/**
 * Starts a server, opens connections, and publishes until each has received an event.
 * @throws when that fails.
 */
export async function stage(peer: string, options: StageOptions): Promise<Stage> {
  const empty = await emptyStage(peer, options.reader, options.flags);
  try {
    await fill(empty, options);
    return empty;
  } catch (error) {
    await empty.stop();
    throw error;
  }
}

/**
 * A server without connections.
 * @throws when it or its reader does not start; then neither is left running.
 */
export async function emptyStage(
  peer: string,
  kind?: 'fastest' | 'node',
  flags?: readonly string[],
): Promise<Stage> {
  const server = await start(peer, flags);
  try {
    const reader = await startReader(kind);
    return { server, reader, stop: async () => void (await Promise.all([reader.stop(), server.stop()])) };
  } catch (error) {
    await server.stop();
    throw error;
  }
}

/**
 * Opens more connections and publishes until every connection has received an event.
 * @throws when one does not.
 */
export async function fill({ server, reader }: Stage, options: StageOptions): Promise<void> {
  const { connections: count, topics = 1, bytes = 100, sample = 16, isCalm = false, path, isFirst } = options;
  const { port } = server;
  await reader.ask({ do: 'calm', on: isCalm });
  const { open: before } = await reader.ask({ do: 'reset' });
  await reader.ask({ do: 'open', port, count, topics, bytes, sample, path, isFirst });
  await untilAnswered(reader, before + count, 200);
  for (let tries = 1; ; tries++) {
    await server.run({ topics, bytes });
    const { silent, open } = await reader.ask({ do: 'await', events: tries * (before + count) });
    if (open < before + count) throw new Error(`${open} of ${before + count} connections are open`);
    if (silent === 0) return;
    if (tries === 20) throw new Error(`${silent} of ${open} connections receive nothing`);
  }
}

/**
 * Waits until this many connections are answered, or until none was answered for `patience` milliseconds,
 * because some servers answer only with their first event.
 */
export async function untilAnswered(reader: Reader, connections: number, patience: number): Promise<Answer> {
  let seen = -1;
  for (let since = performance.now(); ; ) {
    const answer = await reader.ask({ do: 'lap' });
    if (answer.answered >= connections || performance.now() - since > patience) return answer;
    if (answer.answered > seen) since = performance.now();
    seen = answer.answered;
    await sleep(5);
  }
}

/** Stages a server, and stops it when `play` is over or fails. */
export async function onStage(
  peer: string,
  options: StageOptions,
  play: (stage: Stage) => Promise<void>,
): Promise<void> {
  const set = await stage(peer, options);
  try {
    await play(set);
  } finally {
    await set.stop();
  }
}

/** Why a server could not be staged or measured. */
export class Failure {
  readonly reason: string;
  constructor({ message }: Error) {
    this.reason = message.split('\n')[0] || 'it failed';
  }
}

/**
 * Stages several servers at the same time, with a failure in place of each that does not start; stops all at
 * the end.
 */
export async function sideBySide<T>(
  all: readonly T[],
  open: (one: T) => Promise<Stage>,
  play: (stages: readonly (Stage | Failure)[]) => Promise<void>,
): Promise<void> {
  const stages: (Stage | Failure)[] = [];
  try {
    for (const one of all) stages.push(await open(one).catch((error: Error) => new Failure(error)));
    await play(stages);
  } finally {
    await Promise.all(stages.map((one) => (one instanceof Failure ? undefined : one.stop())));
  }
}

/** Collects garbage, waits, collects again, and returns the resident memory in bytes. */
export async function settled(server: Served, milliseconds: number): Promise<number> {
  return (await memoryOf(server, milliseconds)).rss;
}

/** `held`: heap and external memory, where the server is on Node. */
export async function memoryOf(
  server: Served,
  milliseconds: number,
): Promise<{ readonly rss: number; readonly held: number | undefined }> {
  await server.gc();
  await sleep(milliseconds);
  const held = await server.gc();
  return { rss: usageOf(server.pids()).rss, held };
}
