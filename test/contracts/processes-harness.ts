// The log of several processes, as the contract opens it: an owner behind a real Unix socket, and those who follow.

import { mkdtempSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Log, OwnLog } from '../../lib/log.ts';
import type { LogHarness } from '../../lib/log-contract.ts';
import { ProcessesLog, type ServedLog, serveLog } from '../../lib/processes.ts';
import { SqliteLog } from '../../lib/sqlite.ts';
import { MemoryLog, MemoryStore } from '../helpers/memory-log.ts';

/** A process that follows, and its connection. */
class Follower {
  readonly log: ProcessesLog;
  isCut = false;
  socket: Socket | undefined;

  constructor(path: string) {
    this.log = new ProcessesLog({
      path,
      requestTimeout: 2000,
      minRetryDelay: 1,
      maxRetryDelay: 20,
      connect: () => {
        // Nobody listens at the other path.
        this.socket = connect(this.isCut ? `${path}.cut` : path);
        return this.socket;
      },
    });
  }

  cut(): void {
    this.isCut = true;
    this.socket?.destroy();
  }
}

/** An owner, its log, and who follows it. */
export class Machine {
  readonly folder: string = mkdtempSync(join(tmpdir(), 'sluice-processes-'));
  readonly path: string = join(this.folder, 'log.sock');
  readonly store: MemoryStore = new MemoryStore();
  readonly followers: Map<Log, Follower> = new Map();
  readonly #openLog: (machine: Machine) => OwnLog;
  #log!: OwnLog;
  #owner: ServedLog | undefined;
  readonly #timers = new Set<NodeJS.Timeout>();

  constructor(openLog: (machine: Machine) => OwnLog) {
    this.#openLog = openLog;
  }

  static async start(openLog: (machine: Machine) => OwnLog): Promise<Machine> {
    const machine = new Machine(openLog);
    await machine.serve();
    return machine;
  }

  async serve(): Promise<void> {
    this.#log = this.#openLog(this);
    this.#owner = await serveLog({ path: this.path, log: this.#log });
  }

  open(): ProcessesLog {
    const follower = new Follower(this.path);
    this.followers.set(follower.log, follower);
    return follower.log;
  }

  /** The process of the owner ends, and another one begins, perhaps after something was lost. */
  async restart(between: () => void = () => {}): Promise<void> {
    const connected = [...this.followers.values()].filter(({ log, isCut }) => log.connected && !isCut);
    await this.#owner?.close();
    for (const { log } of connected) await until(() => !log.connected);
    between();
    await this.serve();
    for (const { log } of connected) await until(() => log.connected);
  }

  /** Cuts the connection of a process as soon as its next append was written. */
  loseAnswer(log: Log): void {
    const { socket } = this.followers.get(log)!;
    const isIn = this.#noticeAppend();
    socket?.pause();
    const timer = setInterval(() => {
      if (!isIn()) return;
      clearInterval(timer);
      socket?.destroy();
    }, 1);
    this.#timers.add(timer);
  }

  /** Whether the log has had an event since. */
  #noticeAppend(): () => boolean {
    const last = (): number => Math.max(0, ...this.#log.list({}).map((record) => record.last));
    const before = last();
    return () => last() > before;
  }

  async end(): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer);
    for (const { log } of this.followers.values()) await log.close();
    await this.#owner?.close();
    rmSync(this.folder, { recursive: true });
  }
}

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 1));
}

/** Faults of the way to the owner. */
const wayFaults: LogHarness<Machine>['faults'] = {
  disconnect: ({ followers }, log) => followers.get(log)!.cut(),
  reconnect: ({ followers }, log) => {
    followers.get(log)!.isCut = false;
  },
  loseAnswer: (machine, log) => machine.loseAnswer(log),
  // What was recent is recent no longer for an owner that has just begun.
  trimFeed: (machine) => machine.restart(),
};

const harness = {
  order: 'shared',
  open: (machine: Machine) => machine.open(),
  dispose: (machine: Machine) => machine.end(),
} as const;

/** The owner has a log in memory, with faults. */
export const processesLog: LogHarness<Machine> = {
  ...harness,
  create: () => Machine.start(({ store }) => new MemoryLog(store)),
  faults: {
    ...wayFaults,
    drop: ({ store }, topic, seq) => store.drop(topic, seq),
    forget: ({ store }, topic) => store.forget(topic),
    truncate: ({ store }, seq) => store.truncate(seq),
    loseTail: (machine, count) => machine.restart(() => machine.store.loseTail(count)),
  },
};

/** The owner has an SQLite file. */
export const processesSqliteLog: LogHarness<Machine> = {
  ...harness,
  create: () => Machine.start(({ folder }) => new SqliteLog(join(folder, 'log.db'))),
  faults: wayFaults,
};
