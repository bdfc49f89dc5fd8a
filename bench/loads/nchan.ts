// Starts nchan, a module of nginx, with `peers/nchan.conf`, and publishes to it from this process, on the
// readers' core: each text of a turn is a POST, all are sent together on one connection, and the turn is over
// when all are answered. Only nginx is measured.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { childrenOf, freePort, pinned, type Served } from './lead.ts';
import { type Publisher, takeTurns } from './turns.ts';

/** Where Debian and nginx.org install it. */
export const module: string | undefined = [
  '/usr/lib/nginx/modules/ngx_nchan_module.so',
  '/usr/lib64/nginx/modules/ngx_nchan_module.so',
].find(existsSync);

export async function startNchan(): Promise<Served> {
  const folder = mkdtempSync(join(tmpdir(), 'sluice-bench-'));
  const port = await freePort();
  const template = readFileSync(new URL('../peers/nchan.conf', import.meta.url), 'utf8');
  const values: Record<string, string> = { folder, port: String(port), module: module ?? '' };
  writeFileSync(
    join(folder, 'nginx.conf'),
    template.replace(/\{(\w+)\}/g, (_, name) => values[name]!),
  );
  const [taskset, ...argv] = pinned(0, ['nginx', '-p', folder, '-c', 'nginx.conf', '-e', 'stderr']);
  const nginx = spawn(taskset!, argv, { stdio: ['ignore', 'ignore', 'pipe'] });
  let complaint = '';
  nginx.stderr.on('data', (text) => {
    complaint = `${complaint}${text}`.slice(-2000);
  });
  // SIGTERM, because nginx's master leaves its worker behind when it is killed.
  const end = () => nginx.kill('SIGTERM');
  process.once('exit', end);
  const socket = await connected(port, () => {
    if (nginx.exitCode !== null) throw new Error(`nchan: it stopped: ${complaint}`);
  });
  const publisher = publishOver(socket, () => complaint);
  return {
    name: 'nchan',
    port,
    pids: () => [nginx.pid!, ...childrenOf(nginx.pid!)],
    run: ({ topics = 1, batch = 1, interval = 0, duration = 0, bytes = 100, filling = 'x' }) =>
      takeTurns(publisher, {
        topics,
        batch,
        interval: Math.round(interval * 1000),
        duration,
        bytes,
        filling,
      }),
    beat: async () => {},
    gc: async () => undefined,
    profile: async () => {},
    stop: async () => {
      process.removeListener('exit', end);
      socket.destroy();
      if (nginx.exitCode === null && end()) await once(nginx, 'exit');
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

function publishOver(socket: Socket, complaint: () => string): Publisher {
  let requests: string[] = [];
  let unanswered = 0;
  let rest = '';
  let over = () => {};
  let fail = (_error: Error) => {};
  socket.setEncoding('latin1').on('data', (text: string) => {
    rest += text;
    for (const [line, status] of rest.matchAll(/HTTP\/1\.1 (\d+) [^\r]*\r\n/g)) {
      // 201: delivered; 202: accepted without subscribers.
      if (!status!.startsWith('20')) fail(new Error(`nchan answered ${line}: ${complaint()}`));
      unanswered--;
    }
    // A status line may be split over two chunks.
    rest = rest.slice(Math.max(0, rest.lastIndexOf('\r\n'), rest.length - 64));
    if (unanswered === 0) over();
  });
  socket.on('error', () => {});
  socket.on('close', () => fail(new Error(`nchan closed the publisher's connection: ${complaint()}`)));
  return {
    publish: (topic, texts) => {
      for (const text of texts) {
        const head = `POST /publish/?topic=${topic} HTTP/1.1\r\nHost: 127.0.0.1\r\n`;
        requests.push(`${head}Content-Length: ${Buffer.byteLength(text)}\r\n\r\n${text}`);
      }
    },
    turnOver: () =>
      new Promise((resolve, reject) => {
        over = resolve;
        fail = reject;
        unanswered += requests.length;
        socket.write(requests.join(''));
        requests = [];
      }),
  };
}

/** @param check is called after each failed try. */
async function connected(port: number, check: () => void): Promise<Socket> {
  for (;;) {
    const socket = connect({ port, host: '127.0.0.1', noDelay: true });
    try {
      await once(socket, 'connect');
      return socket;
    } catch {
      check();
      await sleep(20);
    }
  }
}
