// A real `sluice serve`, as a process of its own.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { fileURLToPath } from 'node:url';
import { Reading } from '../../helpers/reader.ts';
import type { Cleanup } from '../../helpers/server.ts';
import { kept } from './children.ts';

const bin = fileURLToPath(new URL('../../../lib/command/bin.ts', import.meta.url));

export interface Origin {
  readonly port: number;
  readonly url: string;
  readonly child: ChildProcess;
  /** Its JSON lines. */
  readonly log: Reading;
  /** As `kill -9` does; resolves when it is gone. */
  kill(): Promise<void>;
}

export interface OriginSetting {
  /** The working directory; default that of the test. */
  readonly cwd?: string | undefined;
  readonly env?: Readonly<Record<string, string>> | undefined;
}

/** Serves until the test is over. Answers to `events.example` and to the names of loopback. */
export async function startOrigin(
  t: Cleanup,
  argv: readonly string[] = [],
  port: number | string = 0,
  { cwd, env = {} }: OriginSetting = {},
): Promise<Origin> {
  const hosts = ['events.example', '127.0.0.1', 'localhost'].flatMap((host) => ['--allow-host', host]);
  const words = [
    '--import',
    import.meta.resolve('tsx'),
    bin,
    'serve',
    '--port',
    String(port),
    ...hosts,
    ...argv,
  ];
  const child = kept(spawn(process.execPath, words, { cwd, env: { ...process.env, ...env } }));
  const log = new Reading(child.stderr);
  const over = once(child, 'close');
  const kill = async () => {
    child.kill('SIGKILL');
    await over;
  };
  t.after(kill);
  const said = await new Reading(child.stdout).until('\n').catch(() => log.text);
  const [, url = ''] = /^listening on (\S+)/.exec(said) ?? [];
  if (url === '') throw new Error(`sluice serve: ${said}`);
  return { port: Number(new URL(url).port), url, child, log, kill };
}

/** A port of the loopback that nothing listens on just now. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}

/** The first of several ports in a row that nothing listens on just now. */
export async function freePorts(count: number): Promise<number> {
  for (;;) {
    const first = await freePort();
    const ports = Array.from({ length: count }, (_, i) => first + i);
    const free = await Promise.all(ports.map((port) => port < 65_536 && isFree(port)));
    if (free.every(Boolean)) return first;
  }
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer().listen(port, '127.0.0.1');
  try {
    await once(server, 'listening');
  } catch {
    return false;
  }
  server.close();
  await once(server, 'close');
  return true;
}
