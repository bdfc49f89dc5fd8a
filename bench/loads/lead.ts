// Starts servers and readers in processes of their own, each pinned to a core, and measures them from
// outside.

import { type ChildProcess, fork, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { chosenNode } from './nodes.ts';
import { plain } from './plain.ts';
import type { Answer, Question } from './reader.ts';
import type { Filling } from './texts.ts';

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

/** Whether processes can be pinned: servers to the first core, readers and this process to the second. */
export const canPin: boolean = spawnSync('taskset', ['-c', '1', 'true']).status === 0;
/** @param cores a number, or several as `taskset` takes them. */
export const pinned = (cores: number | string, argv: readonly string[]): string[] =>
  canPin ? ['taskset', '-c', String(cores), ...argv] : [...argv];
if (canPin) spawnSync('taskset', ['-a', '-c', '-p', '1', String(process.pid)]);

/** Child processes, which are killed when this process exits. */
const children = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of children) child.kill('SIGKILL');
});

function keep<T extends ChildProcess>(child: T): T {
  children.add(child);
  child.once('exit', () => children.delete(child));
  return child;
}

export interface RunOrder {
  readonly topics?: number | undefined;
  /** Events to each topic in a turn; default 1. */
  readonly batch?: number | undefined;
  /** Milliseconds between two turns; default 0, as soon as the last is over. */
  readonly interval?: number | undefined;
  /** Milliseconds; default 0, one turn. */
  readonly duration?: number | undefined;
  /** Of each event's data; default 100. */
  readonly bytes?: number | undefined;
  readonly filling?: Filling | undefined;
}

export interface RunOutcome {
  readonly turns: number;
  /** Microseconds from the first turn's beginning to the last one's end. */
  readonly elapsed: number;
}

/** A server under test. */
export interface Served {
  readonly name: string;
  readonly port: number;
  readonly pids: () => number[];
  run(order: RunOrder): Promise<RunOutcome>;
  /** Makes a floor send each connection a comment once per interval, in milliseconds. */
  beat(interval: number): Promise<void>;
  /** Begins to sample where the time of a server on Node goes; with a file, ends that and writes it there. */
  profile(file?: string): Promise<void>;
  /** Collects garbage. @returns the bytes that its heap holds then, with external memory; `undefined` unless on Node. */
  gc(): Promise<number | undefined>;
  stop(): Promise<void>;
}

/**
 * Starts a command that speaks the protocol of `host.ts`.
 * @throws with what it printed instead of its port.
 */
export async function startServed(
  name: string,
  command: readonly string[],
  options: { cwd?: string; env?: NodeJS.ProcessEnv } = {},
): Promise<Served> {
  const [program, ...argv] = pinned(0, command) as [string, ...string[]];
  const child = keep(spawn(program, argv, { ...options, stdio: ['pipe', 'pipe', 'pipe'] }));
  // Writing to a process that has stopped: its exit says more.
  child.stdin.on('error', () => {});
  let complaint = '';
  child.stderr.on('data', (text) => {
    complaint = `${complaint}${text}`.slice(-2000);
  });
  const lines = createInterface({ input: child.stdout });
  const port = Number(await saying(lines, 'port', child, () => `${name}: ${reasonIn(complaint)}`));
  const ask = (order: string, reply: string) => {
    child.stdin.write(`${order}\n`);
    return saying(lines, reply, child, () => `${name}: ${reasonIn(complaint)}`);
  };
  return {
    name,
    port,
    // `taskset` becomes the program.
    pids: () => [child.pid!],
    run: async ({ topics = 1, batch = 1, interval = 0, duration = 0, bytes = 100, filling = 'x' }) => {
      const order = [topics, batch, Math.round(interval * 1000), duration, bytes, filling].join(' ');
      const [turns, elapsed] = (await ask(`run ${order}`, 'done')).split(' ').map(Number);
      return { turns: turns!, elapsed: elapsed! };
    },
    beat: async (interval) => void (await ask(`beat ${interval}`, 'beating')),
    gc: async () => Number(await ask('gc', 'gone')) || undefined,
    profile: async (file = '') => void (await ask(`profile ${file}`.trim(), 'profiled')),
    stop: () => stop(child),
  };
}

/** Why a program on Node stopped: the line of its output that names the error, else all of it. */
export function reasonIn(stderr: string): string {
  return /^\w*Error.*$/m.exec(stderr)?.[0] ?? stderr;
}

/** A server of `peers/`, under the chosen Node. */
export function startNode(
  peer: string,
  flags: readonly string[] = [],
  env: NodeJS.ProcessEnv = {},
): Promise<Served> {
  const command = [chosenNode().path, '--expose-gc', ...flags, plain('bench/loads/host.ts'), peer];
  return startServed(peer, command, { env: { ...process.env, ...env } });
}

/** A command that is no server of `peers/`. */
export interface Started {
  readonly child: ChildProcess;
  readonly pid: number;
  /** The first line that it printed. */
  readonly said: string;
  stop(): Promise<void>;
}

/** Starts any other command, by default on the first core; resolves when it has printed a line. */
export async function startCommand(command: readonly string[], cores: number | string = 0): Promise<Started> {
  const [program, ...argv] = pinned(cores, command) as [string, ...string[]];
  const child = keep(spawn(program, argv, { stdio: ['ignore', 'pipe', 'ignore'] }));
  const lines = createInterface({ input: child.stdout });
  const said = await saying(lines, '', child, () => command.join(' '));
  return { child, pid: child.pid!, said, stop: () => stop(child) };
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

export function childrenOf(pid: number): number[] {
  const text = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim();
  return text === '' ? [] : text.split(' ').map(Number);
}

async function saying(
  lines: Interface,
  word: string,
  child: ChildProcess,
  complaint: () => string,
): Promise<string> {
  const answered = new AbortController();
  const { signal } = answered;
  const exit = exitOf(child, signal, () => `it stopped: ${complaint()}`);
  try {
    for (;;) {
      const [line] = (await Promise.race([once(lines, 'line', { signal }), exit])) as [string];
      if (word === '') return line;
      if (line.startsWith(`${word} `) || line === word) return line.slice(word.length + 1);
    }
  } finally {
    answered.abort();
  }
}

/** Rejects when a process stops, at once where it has stopped before. */
function exitOf(child: ChildProcess, signal: AbortSignal, complaint: () => string): Promise<never> {
  const exit = (hasStopped(child) ? Promise.resolve() : once(child, 'exit', { signal })).then(() => {
    throw new Error(complaint());
  });
  exit.catch(() => {});
  return exit;
}

function hasStopped({ exitCode, signalCode }: ChildProcess): boolean {
  return exitCode !== null || signalCode !== null;
}

async function stop(child: ChildProcess): Promise<void> {
  if (hasStopped(child)) return;
  child.kill('SIGKILL');
  await once(child, 'exit');
}

/** A process that opens connections and reads them. */
export interface Reader {
  readonly pid: number;
  ask(question: Question): Promise<Answer>;
  stop(): Promise<void>;
}

/**
 * Starts the reader in C where there is a compiler: it is faster than any server. It cannot post, inflate or
 * look for ids; scenarios that need this ask for `'node'`.
 */
export function startReader(kind: 'fastest' | 'node' = 'fastest'): Promise<Reader> {
  const program = kind === 'fastest' ? compiled('reader') : undefined;
  return program === undefined ? startNodeReader() : startFastReader(program);
}

/** A program of `floors/`, compiled once per run; `undefined` where there is no C compiler. */
export function compiled(name: string): string | undefined {
  return built(name, (program) => ['cc', '-O2', '-o', program, here(`../floors/${name}.c`)]);
}

/** A program that is compiled into a temporary folder once per run; `undefined` where this fails. */
export function built(
  name: string,
  command: (program: string) => readonly string[],
  env?: NodeJS.ProcessEnv,
): string | undefined {
  const known = programs.get(name);
  if (known !== undefined) return known;
  const folder = mkdtempSync(join(tmpdir(), 'sluice-bench-'));
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
  const program = join(folder, name);
  const [compiler, ...argv] = command(program);
  if (spawnSync(compiler!, argv, { env: { ...process.env, ...env } }).status !== 0) return undefined;
  programs.set(name, program);
  return program;
}

const programs = new Map<string, string>();

async function startFastReader(program: string): Promise<Reader> {
  const [command, ...argv] = pinned(1, [program]) as [string, ...string[]];
  const child = keep(spawn(command, argv, { stdio: ['pipe', 'pipe', 'inherit'] }));
  child.stdin.on('error', () => {});
  const lines = createInterface({ input: child.stdout });
  return {
    pid: child.pid!,
    ask: async (question) => {
      child.stdin.write(`${orderOf(question).join('\t')}\n`);
      return JSON.parse(await saying(lines, '', child, () => 'the reader')) as Answer;
    },
    stop: () => stop(child),
  };
}

/** Milliseconds without an event after which a reader waits no longer. */
const PATIENCE = 1000;

/** A question as `floors/reader.c` understands it. */
function orderOf(question: Question): (string | number)[] {
  if (question.do === 'await')
    return ['await', question.events, question.group ?? '', question.patience ?? PATIENCE];
  if (question.do === 'close' || question.do === 'lap') return [question.do, question.group ?? ''];
  if (question.do === 'reset') return ['reset'];
  if (question.do === 'calm') return ['calm', question.on ? 1 : 0];
  if (question.do !== 'open' || question.reads === 'gunzip')
    throw new TypeError(`the fast reader cannot ${question.do}: start a reader of the kind "node"`);
  const { port, count, topics = 1, bytes, sample = 1, reads, group = '', atOnce = 100 } = question;
  const { path = '/events?topic={topic}', headers = {}, isFirst = false } = question;
  const { places = [], unanswered = 0 } = question;
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\x01`);
  const [never, first] = [reads === 'never', isFirst].map(Number) as [number, number];
  const begin = ['open', port, count, topics, bytes, sample, never, group, atOnce, path, lines.join('')];
  return [...begin, first, places.join(' '), unanswered];
}

async function startNodeReader(): Promise<Reader> {
  const child = keep(fork(plain('bench/loads/reader.ts'), { execArgv: [] }));
  if (canPin) spawnSync('taskset', ['-a', '-c', '-p', '1', String(child.pid)]);
  return {
    pid: child.pid!,
    ask: async (question) => {
      // A failure to send is the reader's exit, which is told below.
      child.send(question, () => {});
      const answered = new AbortController();
      const { signal } = answered;
      const exit = exitOf(
        child,
        signal,
        () => `the reader stopped with ${child.exitCode ?? child.signalCode}`,
      );
      try {
        const [answer] = await Promise.race([once(child, 'message', { signal }), exit]);
        return answer as Answer;
      } finally {
        answered.abort();
      }
    },
    stop: () => stop(child),
  };
}

export interface Usage {
  /** Microseconds of CPU time of all threads. */
  readonly user: number;
  readonly system: number;
  /** Resident memory in bytes. */
  readonly rss: number;
}

/** What processes have used so far, by the kernel's accounts in `/proc`. */
export function usageOf(pids: readonly number[]): Usage {
  const total = { user: 0, system: 0, rss: 0 };
  for (const pid of pids) {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat
      .slice(stat.lastIndexOf(')') + 2)
      .split(' ')
      .map(Number);
    const [user, system] = [fields[11]!, fields[12]!];
    // The scheduler counts nanoseconds but does not split them into user and system; the ticks of `stat` do.
    const exact = threadsOf(pid).reduce((sum, thread) => sum + runningTime(pid, thread), 0) / 1000;
    const ticks = user + system || 1;
    total.user += (exact * user) / ticks;
    total.system += (exact * system) / ticks;
    total.rss += rssOf(pid);
  }
  return total;
}

function threadsOf(pid: number): string[] {
  return readdirSync(`/proc/${pid}/task`);
}

function runningTime(pid: number, thread: string): number {
  return Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ')[0]);
}

function rssOf(pid: number): number {
  return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) * 1024;
}
