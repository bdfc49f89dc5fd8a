// The process of `sluice serve --workers` that owns the log, keeps the tickets and reads the inputs.
// Needs `../hub.ts`, `../log.ts`, `../metrics.ts`, `../processes.ts`, `../server.ts`, `../tickets.ts`,
// `inputs.ts`, `io.ts` and `part.ts` beside it.

import { rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { Hub } from '../hub.ts';
import type { OwnLog } from '../log.ts';
import { Registry, registerProcess } from '../metrics.ts';
import { ProcessesLog, type ServedLog, serveLog } from '../processes.ts';
import type { LogLine } from '../server.ts';
import { Tickets } from '../tickets.ts';
import { type InputStates, type Inputs, type InputTarget, registerInputs, startInputs } from './inputs.ts';
import type { CommandIo } from './io.ts';
import { onOrder, type Part, report } from './part.ts';

export interface OwnerOptions {
  readonly part: Part;
  readonly log: OwnLog;
  readonly inputs: Inputs;
  readonly io: CommandIo;
  readonly logger: (line: LogLine) => void;
}

/** Names of what workers ask the owner beside what a log is asked. */
export const questions = {
  issueTicket: 'ticket-issue',
  redeemTicket: 'ticket-redeem',
  streams: 'streams',
} as const;

/** How many streams a worker has. */
export interface WorkerStreams {
  readonly worker: number;
  readonly size: number;
}

/**
 * Runs until it is told to stop. It does not stop by a signal: workers that end their streams still need it.
 */
export async function runOwner({ part, log, inputs, io, logger }: OwnerOptions): Promise<number> {
  const onError = (error: unknown): void =>
    logger({ level: 'error', event: 'log-failed', task: 'append', message: String(error) });
  const tickets = new Tickets<unknown>();
  const streams = new Map<number, number>();
  const answers = {
    [questions.issueTicket]: (principal: unknown) => tickets.issue(principal),
    [questions.redeemTicket]: (ticket: unknown) => tickets.redeem(String(ticket)),
    [questions.streams]: (value: unknown) => {
      const { worker, size } = value as WorkerStreams;
      streams.set(worker, size);
    },
  };
  const served = await serveLog({ path: part.socket, log, answers, onError }).catch((error) => {
    log.close?.();
    throw error;
  });
  const feeding = new AbortController();
  const follower = new ProcessesLog({ path: part.socket });
  const hub = new Hub({ log: follower, onError });
  try {
    await reached(follower, hub);
    const sizes = {
      get size() {
        return [...streams.values()].reduce((sum, size) => sum + size, 0);
      },
    };
    const context = { source: io.stdin, signal: feeding.signal, logger };
    const states = await startInputs({ hub: paced(hub, served), streams: sizes }, inputs, context);
    await untilStopped(states, served, hub);
  } finally {
    feeding.abort();
    await hub.close();
    await close(served);
  }
  return 0;
}

/**
 * The hub as inputs use it. No reader is in this process, so they wait for the workers: otherwise a file that
 * is read at once would be over before its readers had a page of it.
 */
function paced(hub: Hub, served: ServedLog): InputTarget['hub'] {
  return {
    get stats() {
      return hub.stats;
    },
    log: hub.log,
    publish: (topic, event) => hub.publish(topic, event),
    appendAll: (topic, events) => hub.appendAll(topic, events),
    batchLimits: (topic) => hub.batchLimits(topic),
    change: (topic, change) => hub.change(topic, change),
    topics: () => hub.topics(),
    ready: async (topic, options) => {
      await hub.ready(topic, options);
      while (served.lag > MAX_LAG && options?.signal?.aborted !== true)
        await new Promise((done) => setTimeout(done, PACE_INTERVAL));
    },
  };
}

/** Events by which workers may be behind. */
const MAX_LAG = 1000;
/** Milliseconds. */
const PACE_INTERVAL = 2;

/** Where the process is gone that started this one, nobody else removes the folder of the socket. */
async function close(served: ServedLog): Promise<void> {
  await served.close();
  if (process.connected) process.disconnect();
  else rmSync(dirname(served.path), { recursive: true, force: true });
}

function untilStopped(states: InputStates, served: ServedLog, { stats }: Hub): Promise<void> {
  const registry = new Registry();
  const stopMeasuring = registerProcess(registry);
  registerInputs(registry, states);
  // Of all processes, the least: 0 where one cannot reach the owner, or the owner cannot write.
  const available = () => Number(served.failure === undefined);
  registry
    .gauge('sluice_log_available', '1 while the log can be written to.', available)
    .counter('sluice_published_events_total', 'Events published.', () => stats.published)
    .counter(
      'sluice_published_bytes_total',
      'Bytes of published events on the wire.',
      () => stats.publishedBytes,
    );
  return new Promise((resolve) => {
    onOrder((order) => {
      if ('ask' in order) report({ page: registry.render() });
      if (!('stop' in order)) return;
      stopMeasuring();
      resolve();
    });
    report({ ready: true });
  });
}

/** Resolves once the log of a hub has reached its owner, also where that cannot write at present. */
export async function reached(log: ProcessesLog, hub: Hub): Promise<void> {
  const limit = performance.now() + REACH_TIMEOUT;
  while (!log.connected) {
    if (performance.now() > limit) throw hub.failure;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Milliseconds. */
const REACH_TIMEOUT = 10_000;
