// The real nginx, HAProxy and Caddy, each with the file that the operating guide shows.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort } from '../../helpers/free-port.ts';
import type { Cleanup } from '../../helpers/server.ts';
import { kept } from './children.ts';

interface Program {
  readonly file: string;
  /** Where the file says on which port to listen, and what stands there for a test: the loopback alone. */
  readonly listen: readonly [text: string, test: (port: number) => string];
  /** What else stands in the way of a second one on the same machine. */
  readonly changes?: readonly (readonly [string, string])[] | undefined;
  run(file: string, folder: string): ChildProcess;
  /** What ends it at once, with all that it started. */
  readonly signal: 'SIGTERM' | 'SIGKILL';
}

export const programs: Readonly<Record<'nginx' | 'HAProxy' | 'Caddy', Program>> = {
  nginx: {
    file: 'nginx.conf',
    listen: ['listen 8081;', (port) => `listen 127.0.0.1:${port};`],
    run: (file, folder) =>
      spawn('nginx', ['-c', file, '-p', folder, '-e', 'stderr', '-g', `daemon off; pid ${folder}/pid;`]),
    // Its workers would be left behind by a SIGKILL.
    signal: 'SIGTERM',
  },
  HAProxy: {
    file: 'haproxy.cfg',
    listen: ['bind :8081', (port) => `bind 127.0.0.1:${port}`],
    run: (file) => spawn('haproxy', ['-db', '-f', file]),
    signal: 'SIGKILL',
  },
  Caddy: {
    file: 'Caddyfile',
    listen: [':8081 {', (port) => `:${port} {\n\tbind 127.0.0.1`],
    // Its administration has a port of its own.
    changes: [['grace_period 5m', 'admin off']],
    run: (file, folder) =>
      spawn('caddy', ['run', '--config', file, '--adapter', 'caddyfile'], {
        env: { ...process.env, HOME: folder, XDG_DATA_HOME: folder, XDG_CONFIG_HOME: folder },
      }),
    signal: 'SIGKILL',
  },
};

export interface RunningProxy {
  readonly port: number;
  readonly url: string;
  kill(): Promise<void>;
}

export interface ProxySetting {
  /** The port of the server behind it. */
  readonly upstream: number;
  readonly port?: number | undefined;
  /** In the place of the minute that the file gives every silence. */
  readonly timeout?: string | undefined;
}

/** Runs until the test is over. */
export async function startProxy(
  t: Cleanup,
  name: keyof typeof programs,
  { upstream, port, timeout = '60s' }: ProxySetting,
): Promise<RunningProxy> {
  const { file, listen, changes = [] } = programs[name];
  const at = port ?? (await freePort());
  const text = readFileSync(new URL(`../../../docs/proxies/${file}`, import.meta.url), 'utf8');
  const [publicPort, testPort] = listen;
  const changed = substitute(text, [
    [publicPort, testPort(at)],
    ['127.0.0.1:8080', `127.0.0.1:${upstream}`],
    ['60s', timeout],
    ['retry: 5000', 'retry: 300'],
    ...changes,
  ]);
  return runProxy(t, name, changed, at);
}

/** Runs the program with a whole configuration, which makes it listen on this port of the loopback. */
export async function runProxy(
  t: Cleanup,
  name: keyof typeof programs,
  text: string,
  at: number,
): Promise<RunningProxy> {
  const { file, run, signal } = programs[name];
  const folder = mkdtempSync(join(tmpdir(), 'sluice-proxy-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  writeFileSync(join(folder, file), text);
  const child = kept(run(join(folder, file), folder), signal);
  let said = '';
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk) => (said += chunk));
  const over = new Promise<string>((resolve) => {
    child.once('error', (error) => resolve(absent(error) ?? error.message));
    child.once('close', (code) => resolve(`${name} ended with ${code}: ${said}`));
  });
  const kill = async () => {
    child.kill(signal);
    await over;
  };
  t.after(kill);
  await accepts(at, over);
  return { port: at, url: `http://127.0.0.1:${at}`, kill };
}

/**
 * Every line of the configuration that a test changes must be there: one that is not would be tested in vain.
 */
export function substitute(text: string, changes: readonly (readonly [string, string])[]): string {
  // Only what the program reads: the comments speak of the same ports.
  let result = text.replaceAll(/^\s*#.*\n/gm, '');
  for (const [before, after] of changes) {
    if (!result.includes(before)) throw new Error(`the configuration has no "${before}"`);
    result = result.replaceAll(before, after);
  }
  return result;
}

function absent(error: Error & { code?: string; path?: string }): string | undefined {
  if (error.code !== 'ENOENT') return undefined;
  return `${error.path} is not installed; on Debian: apt-get install --no-install-recommends nginx haproxy caddy`;
}

async function accepts(port: number, over: Promise<string>): Promise<void> {
  const ended = over.then((why) => {
    throw new Error(why);
  });
  for (;;) {
    const socket = connect(port, '127.0.0.1');
    const isOpen = await Promise.race([
      once(socket, 'connect').then(
        () => true,
        () => false,
      ),
      ended,
    ]);
    socket.destroy();
    if (isOpen) break;
    await Promise.race([sleep(20), ended]);
  }
  ended.catch(() => {});
}
