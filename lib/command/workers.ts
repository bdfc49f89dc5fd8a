// Runs `sluice serve --workers N`: one process that owns the log, and N that serve on one port.
// Needs `../backoff.ts`, `../server.ts`, `argv.ts`, `io.ts`, `metrics-sum.ts` and `part.ts` beside it.

import { type ChildProcess, fork } from 'node:child_process';
import cluster from 'node:cluster';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Backoff } from '../backoff.ts';
import type { LogLine } from '../server.ts';
import { usageError } from './argv.ts';
import type { CommandIo } from './io.ts';
import { MetricsSum } from './metrics-sum.ts';
import { envOf, type Order, type Part, type Report } from './part.ts';

export interface WorkersOptions {
  /** The words after `sluice serve`: all processes read them. */
  readonly argv: readonly string[];
  readonly count: number;
  readonly host: string;
  readonly port: number;
  /** Milliseconds that stopping may take. */
  readonly deadline: number;
  readonly io: CommandIo;
  readonly logger: (line: LogLine) => void;
}

/** @throws {UsageError} where there are no Unix sockets. */
export function checkPlatform(platform: NodeJS.Platform = process.platform): void {
  if (platform === 'win32') throw usageError('--workers needs Unix sockets, which Windows does not have');
}

/** Runs until `io.signal` fires. Resolves with 0. */
export async function runWorkers(options: WorkersOptions): Promise<number> {
  const supervisor = new Supervisor(options);
  try {
    return await supervisor.run();
  } finally {
    supervisor.remove();
  }
}

/**
 * Starts processes, and starts them again. It neither serves nor keeps anything itself, so that it does not
 * fail.
 */
class Supervisor {
  readonly #options: WorkersOptions;
  readonly #folder: string;
  readonly #workers = new Map<number, Child>();
  readonly #counted = new MetricsSum();
  #owner: Child | undefined;
  #port = 0;
  #hasBegun = false;
  #page: Promise<string> | undefined;

  constructor(options: WorkersOptions) {
    this.#options = options;
    this.#folder = mkdtempSync(join(tmpdir(), 'sluice-'));
  }

  remove(): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async run(): Promise<number> {
    const { io, logger, argv, count } = this.#options;
    cluster.setupPrimary({
      exec: process.argv[1]!,
      args: ['serve', ...argv],
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    const since = performance.now();
    const { signal } = io;
    const backoff = new Backoff(RESTART);
    let attempts = 0;
    this.#port = await this.#choosePort();
    while (!signal.aborted) {
      const begun = performance.now();
      try {
        await this.#life(signal);
      } catch (error) {
        if (signal.aborted) break;
        await this.#stop('soon', SOON_DEADLINE);
        if (!this.#hasBegun) {
          // What fails at the start fails again, unless it is for a port that another process has taken meanwhile.
          if (this.#options.port !== 0 || !isInUse(error) || ++attempts === MAX_ATTEMPTS) throw error;
          this.#port = await this.#choosePort();
          continue;
        }
        logger({ level: 'error', event: 'workers-failed', message: (error as Error).message });
      }
      if (signal.aborted) break;
      backoff.connectionEnded({ age: performance.now() - begun, hasDelivered: false, isOrderly: false });
      await pause(backoff, signal);
    }
    await this.#stop('gracefully', this.#options.deadline);
    const duration = Math.round(performance.now() - since);
    logger({ level: 'info', event: 'workers-stopped', workers: count, duration });
    return 0;
  }

  /** From the start of an owner to its end, or to the signal. The workers end with their owner. */
  async #life(signal: AbortSignal): Promise<void> {
    const { logger } = this.#options;
    const life = new AbortController();
    try {
      const owner = this.#startOwner();
      await Promise.race([owner.ready, aborted(signal)]);
      if (signal.aborted) return;
      await this.#startWorkers(owner, life.signal);
      await Promise.race([owner.gone, aborted(signal)]);
      if (!signal.aborted) logger({ level: 'error', event: 'owner-exited', ...owner.exit });
    } finally {
      life.abort();
    }
    if (!signal.aborted) await this.#stop('soon', SOON_DEADLINE);
  }

  /** The first time, all of them must begin. */
  async #startWorkers(owner: Child, life: AbortSignal): Promise<void> {
    const { count, io } = this.#options;
    const first = Array.from({ length: count }, (_, i) => this.#keep(i + 1, life));
    if (this.#hasBegun) return;
    const ready = Promise.all(first.map((worker) => worker.ready));
    const urls = await Promise.race([ready, owner.gone, aborted(io.signal)]);
    if (urls === undefined) return;
    this.#hasBegun = true;
    io.stdout.write(`listening on ${urls[0]}\n`);
  }

  /** Keeps a worker running: one that ends is replaced after a while. @returns the first. */
  #keep(number: number, life: AbortSignal): Child {
    const first = this.#startWorker(number);
    void this.#replace(number, first, life);
    return first;
  }

  async #replace(number: number, first: Child, life: AbortSignal): Promise<void> {
    const { logger, io } = this.#options;
    const backoff = new Backoff(RESTART);
    for (let worker = first; ; worker = this.#startWorker(number)) {
      const begun = performance.now();
      worker.ready.catch(() => {});
      await worker.gone;
      this.#bury(number, worker);
      if (life.aborted || io.signal.aborted || !this.#hasBegun) return;
      logger({ level: 'error', event: 'worker-exited', worker: number, ...worker.exit });
      backoff.connectionEnded({ age: performance.now() - begun, hasDelivered: false, isOrderly: false });
      await pause(backoff, life);
      if (life.aborted || io.signal.aborted) return;
    }
  }

  #startOwner(): Child {
    const part: Part = { role: 'owner', socket: this.#socket };
    // It reads standard input, where that is an input.
    const child = fork(process.argv[1]!, ['serve', ...this.#options.argv], {
      env: { ...process.env, ...envOf(part) },
      stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
    });
    this.#options.logger({ level: 'info', event: 'owner-started', pid: child.pid });
    this.#owner = new Child(child, () => {});
    return this.#owner;
  }

  #startWorker(number: number): Child {
    const part: Part = { role: 'worker', socket: this.#socket, number, port: this.#port };
    const { process: child } = cluster.fork(envOf(part));
    this.#options.logger({ level: 'info', event: 'worker-started', worker: number, pid: child.pid });
    const worker = new Child(child, () => void this.#sendMetrics(worker));
    this.#workers.set(number, worker);
    return worker;
  }

  get #socket(): string {
    return join(this.#folder, 'log.sock');
  }

  /** What it has counted stays in the sum: otherwise counters would go back. */
  #bury(number: number, worker: Child): void {
    this.#keepCounts(worker);
    if (this.#workers.get(number) === worker) this.#workers.delete(number);
  }

  #keepCounts({ page }: Child): void {
    this.#counted.add(new MetricsSum().add(page).counts().render());
  }

  /** Stops all workers, and then the owner. */
  async #stop(how: 'gracefully' | 'soon', deadline: number): Promise<void> {
    await Promise.all(Array.from(this.#workers.values(), (worker) => worker.stop(how, deadline + GRACE)));
    if (this.#owner === undefined) return;
    await this.#owner.stop('gracefully', GRACE);
    this.#keepCounts(this.#owner);
    this.#owner = undefined;
  }

  /**
   * A port that all workers share. One of their own choice would be another one after all of them have ended.
   */
  async #choosePort(): Promise<number> {
    const { host, port } = this.#options;
    if (port !== 0) return port;
    const server = createServer().listen({ port, host });
    // Where the host cannot be bound, a worker says so.
    const isOpen = await once(server, 'listening').then(
      () => true,
      () => false,
    );
    if (!isOpen) return 0;
    const chosen = (server.address() as { readonly port: number }).port;
    server.close();
    await once(server, 'close');
    return chosen;
  }

  // ── metrics ──────────────────────────────────────────────────────────────────────────────────────────────

  async #sendMetrics(worker: Child): Promise<void> {
    this.#page ??= this.#collect().finally(() => {
      this.#page = undefined;
    });
    worker.send({ metrics: await this.#page });
  }

  async #collect(): Promise<string> {
    const workers = [...this.#workers.values()].filter(({ isReady }) => isReady);
    const sum = new MetricsSum();
    // Taken first: one that ends while it is asked is in the sum by its page, and must not be twice.
    const counted = this.#counted.render();
    const children = this.#owner === undefined ? workers : [...workers, this.#owner];
    for (const page of await Promise.all(children.map((child) => child.askPage()))) sum.add(page);
    sum.add(counted);
    const help = '# HELP sluice_workers_up Workers that serve.\n# TYPE sluice_workers_up gauge\n';
    return sum.add(`${help}sluice_workers_up ${workers.length}\n`).render();
  }
}

/** Milliseconds. */
const GRACE = 5000;
const SOON_DEADLINE = 1000;
const PAGE_TIMEOUT = 1000;
/** The longest wait of a Node timer. */
const MAX_TIMER = 2 ** 31 - 1;

const RESTART = { minRetryDelay: 50, backoffDelay: 200, maxBackoffDelay: 10_000 };

/** Free ports that are tried. */
const MAX_ATTEMPTS = 5;

function isInUse(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === 'EADDRINUSE';
}

async function pause(backoff: Backoff, signal: AbortSignal): Promise<void> {
  await sleep(backoff.nextDelay(), undefined, { signal }).catch(() => {});
}

async function aborted(signal: AbortSignal): Promise<void> {
  if (!signal.aborted) await once(signal, 'abort');
}

/** A process that was started here. */
class Child {
  /** Resolves once it does its work, with its URL; rejects with what went wrong before. */
  readonly ready: Promise<string | undefined>;
  readonly gone: Promise<void>;
  isReady = false;
  /** The newest page of its metrics. */
  page = '';
  exit: {
    readonly code?: number | null;
    readonly signal?: NodeJS.Signals | null;
    /** What went wrong before it did its work. */
    readonly message?: string;
  } = {};
  readonly #process: ChildProcess;
  #asked: { readonly promise: Promise<void>; readonly resolve: () => void } | undefined;

  constructor(process: ChildProcess, onMetrics: () => void) {
    this.#process = process;
    this.gone = new Promise((resolve) => {
      const end = (code: number | null, signal: NodeJS.Signals | null): void => {
        this.exit = { ...this.exit, code, signal };
        this.isReady = false;
        resolve();
      };
      process.once('exit', end);
      process.once('error', () => end(1, null));
    });
    this.ready = new Promise((resolve, reject) => {
      process.on('message', (report: Report) => {
        if ('ready' in report) {
          this.isReady = true;
          resolve(report.url);
        } else if ('failed' in report) {
          const { message, code } = report.failed;
          this.exit = { message };
          reject(Object.assign(new Error(message), code !== undefined && { code }));
        } else if ('ask' in report) onMetrics();
        else this.#gotPage(report.page);
      });
      this.gone.then(() => reject(new Error(`a process ended with ${this.exit.signal ?? this.exit.code}`)));
    });
  }

  send(order: Order): void {
    if (this.#process.connected) this.#process.send(order, () => {});
  }

  /** Resolves when it has ended. It is killed where that takes longer than `timeout`; `Infinity`: never. */
  async stop(how: 'gracefully' | 'soon', timeout: number): Promise<void> {
    this.send({ stop: how });
    const kill = (): unknown => this.#process.kill('SIGKILL');
    const timer = timeout > MAX_TIMER ? undefined : setTimeout(kill, timeout);
    await this.gone;
    clearTimeout(timer);
  }

  /** Its newest page: an older one where it does not answer. It is not asked again before it has answered. */
  async askPage(): Promise<string> {
    if (this.#asked === undefined) {
      let resolve = (): void => {};
      const promise = new Promise<void>((done) => {
        resolve = done;
      });
      this.#asked = { promise, resolve };
      this.send({ ask: 'page' });
    }
    const stop = new AbortController();
    const late = sleep(PAGE_TIMEOUT, undefined, { signal: stop.signal }).catch(() => {});
    await Promise.race([this.#asked.promise, this.gone, late]);
    stop.abort();
    return this.page;
  }

  #gotPage(page: string): void {
    this.page = page;
    this.#asked?.resolve();
    this.#asked = undefined;
  }
}
