// Starts a Redis, three servers on it, HAProxy in front of them, a publisher and readers; Ctrl+C ends them all.
// Needs `haproxy.cfg`, `page.html`, `page.js`, `page.css`, `readers.ts`, `sequence.ts` and `state.ts` beside it,
// and sluice.
//
//   npx tsx examples/cluster/start.ts [--port 8080] [--readers 200] [--rate 20] [--window 10s] [--folder FOLDER]

import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { askHaproxy, DEFAULT_FOLDER, NAMES, type Name, until, writeState } from './state.ts';

const { values } = parseArgs({
  options: {
    /** That of HAProxy; 0 takes five that are free. The servers have the next three, and Redis the one after these. */
    port: { type: 'string', default: '8080' },
    readers: { type: 'string', default: '200' },
    /** Events a second. */
    rate: { type: 'string', default: '20' },
    /** Over how long a server that stops ends its streams. */
    window: { type: 'string', default: '10s' },
    folder: { type: 'string', default: DEFAULT_FOLDER },
  },
});
const { window, folder } = values;
const [readers, rate] = [Number(values.readers), Number(values.rate)];
const port = values.port === '0' ? await freePorts(5) : Number(values.port);
const url = `http://127.0.0.1:${port}`;
const redisPort = port + 4;

const NODE = ['--import', import.meta.resolve('tsx')];
const SLUICE = [...NODE, join(import.meta.dirname, '../../lib/command/bin.ts')];
/** How often a second the publisher writes. */
const WRITES = 10;

const children = new Set<ChildProcess>();
const servers: Record<Name, number | undefined> = { one: undefined, two: undefined, three: undefined };
let isStopping = false;

mkdirSync(folder, { recursive: true });
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => stop(0));
startRedis();
for (const name of NAMES) startServer(name);
startHaproxy();
await until('HAProxy sees three servers', async () => {
  const seen = await askHaproxy(folder).catch(() => new Map());
  return isStopping || NAMES.every((name) => seen.get(name)?.isUp);
});
if (!isStopping) {
  startPublisher();
  if (readers > 0) startReaders();
  process.stdout.write(`open ${url}/cluster\n`);
}

function startRedis(): void {
  const files = ['--dir', folder, '--appendonly', 'yes'];
  needed('redis-server', ['--port', `${redisPort}`, '--bind', '127.0.0.1', ...files], 'redis.log');
}

/** A server that ends is started again, as a service manager does it. */
function startServer(name: Name): void {
  const where = ['--port', `${port + 1 + NAMES.indexOf(name)}`, '--trust-proxy', '1'];
  const log = ['--log', `redis://127.0.0.1:${redisPort}`, '--log-name', 'cluster'];
  const child = run(
    process.execPath,
    [...SLUICE, 'serve', ...where, ...log, '--window', window],
    `${name}.log`,
  );
  servers[name] = child.pid;
  writeState(folder, servers);
  child.once('exit', () => {
    if (!isStopping) setTimeout(startServer, 100, name);
  });
}

function startHaproxy(): void {
  const [ONE, TWO, THREE] = NAMES.map((_, i) => `${port + 1 + i}`);
  const env = { FOLDER: folder, PORT: `${port}`, ONE, TWO, THREE };
  needed('haproxy', ['-db', '-C', import.meta.dirname, '-f', 'haproxy.cfg'], 'haproxy.log', env);
}

/** Numbers from 1 on. `sluice publish` sends each until a server has acknowledged it, and none twice. */
function startPublisher(): void {
  const child = needed(
    process.execPath,
    [...SLUICE, 'publish', '--attempts', '100', url, 'numbers'],
    'publisher.log',
  );
  const began = performance.now();
  let number = 0;
  const write = (): void => {
    const due = ((performance.now() - began) / 1000) * rate;
    while (number < due && !child.stdin?.writableNeedDrain) child.stdin?.write(`${++number}\n`);
  };
  const timer = setInterval(write, 1000 / WRITES);
  child.once('exit', () => clearInterval(timer));
}

function startReaders(): void {
  needed(
    process.execPath,
    [...NODE, join(import.meta.dirname, 'readers.ts'), url, `${readers}`],
    'readers.log',
  );
}

/** The first of so many ports in a row that nothing listens on, below those that the system gives to others. */
async function freePorts(count: number): Promise<number> {
  for (;;) {
    const first = 11_000 + Math.floor(Math.random() * (21_000 - count));
    const all = await Promise.all(Array.from({ length: count }, (_, i) => isFree(first + i)));
    if (all.every((is) => is)) return first;
  }
}

function isFree(one: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer().once('error', () => resolve(false));
    server.listen(one, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}

// ── processes ─────────────────────────────────────────────────────────────────────────────────────────────

/** Runs a program without which the others have no use: where it ends, all end. */
function needed(
  program: string,
  args: readonly string[],
  log: string,
  env: NodeJS.ProcessEnv = {},
): ChildProcess {
  const child = run(program, args, log, env);
  child.once('exit', (code) => fail(`${program} has ended with ${code}; see ${join(folder, log)}`));
  return child;
}

function run(
  program: string,
  args: readonly string[],
  log: string,
  env: NodeJS.ProcessEnv = {},
): ChildProcess {
  const file = openSync(join(folder, log), 'a');
  const stdio: StdioOptions = ['pipe', file, file];
  const child = spawn(program, args, { env: { ...process.env, ...env }, stdio });
  closeSync(file);
  children.add(child);
  child.once('error', (error) => fail(`${program} cannot be started: ${error.message}`));
  child.once('exit', () => children.delete(child));
  child.stdin?.on('error', () => {});
  return child;
}

function fail(message: string): void {
  if (isStopping) return;
  process.stderr.write(`${message}\n`);
  stop(1);
}

function stop(code: number): void {
  process.exitCode = code;
  if (isStopping) return;
  isStopping = true;
  rmSync(join(folder, 'state.json'), { force: true });
  for (const child of children) child.kill();
  const kill = setTimeout(() => {
    for (const child of children) child.kill('SIGKILL');
  }, 5000);
  kill.unref();
}
