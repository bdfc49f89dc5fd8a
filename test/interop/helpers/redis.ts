// Starts real Redis servers in folders of their own, and a proxy before them that cuts connections.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';

export interface RedisServer {
  readonly port: number;
  readonly folder: string;
  /** A client of the test's own. */
  readonly client: Redis;
  /** Ends the process at once, as a crash does. */
  kill(): Promise<void>;
  /** Starts it again in the same folder. */
  start(...args: readonly string[]): Promise<void>;
  stop(): Promise<void>;
}

/** A port that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}

export async function startRedis({ args = [] }: { args?: readonly string[] } = {}): Promise<RedisServer> {
  const port = await freePort();
  const folder = mkdtempSync(join(tmpdir(), 'sluice-redis-'));
  const fixed = ['--port', `${port}`, '--bind', '127.0.0.1', '--dir', folder, '--save', ''];
  let child: ChildProcess | undefined;
  const client = new Redis(port, '127.0.0.1', { lazyConnect: true, retryStrategy: () => 20 });
  client.on('error', () => {});
  const kill = async (): Promise<void> => {
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const exit = once(child, 'exit');
    child.kill('SIGKILL');
    await exit;
  };
  const start = async (...more: readonly string[]): Promise<void> => {
    child = spawn('redis-server', [...fixed, ...args, ...more], { stdio: ['ignore', 'pipe', 'pipe'] });
    await ready(child);
  };
  const stop = async (): Promise<void> => {
    client.disconnect();
    await kill();
    rmSync(folder, { recursive: true, force: true });
  };
  await start();
  return { port, folder, client, kill, start, stop };
}

/** Resolves once a server accepts connections. */
function ready(child: ChildProcess): Promise<void> {
  let printed = '';
  return new Promise((resolve, reject) => {
    child.stdout!.on('data', (chunk) => {
      printed = (printed + chunk).slice(-4000);
      if (printed.includes('Ready to accept connections')) resolve();
    });
    child.stderr!.resume();
    child.once('exit', () => reject(new Error(`redis-server did not start:\n${printed}`)));
  });
}

/** Stands between one log and its server. */
export class Proxy {
  readonly #server: Server;
  readonly #target: number;
  readonly #pairs = new Set<readonly [Socket, Socket]>();
  #isOpen = true;
  #swallowed: string | undefined;

  private constructor(target: number) {
    this.#target = target;
    this.#server = createServer((socket) => this.#accept(socket));
  }

  static async before(target: number): Promise<Proxy> {
    const proxy = new Proxy(target);
    proxy.#server.listen(0, '127.0.0.1');
    await once(proxy.#server, 'listening');
    return proxy;
  }

  get port(): number {
    return (this.#server.address() as { port: number }).port;
  }

  /** Cuts all connections, and refuses others. */
  cut(): void {
    this.#isOpen = false;
    for (const pair of this.#pairs) for (const socket of pair) socket.destroy();
  }

  mend(): void {
    this.#isOpen = true;
  }

  /** Passes the next command on that has a text, and ends the connection instead of its answer. */
  swallowAnswer(text: string): void {
    this.#swallowed = text;
  }

  async close(): Promise<void> {
    this.cut();
    this.#server.close();
    await once(this.#server, 'close');
  }

  #accept(near: Socket): void {
    if (!this.#isOpen) return void near.destroy();
    const far = connect(this.#target, '127.0.0.1');
    const pair = [near, far] as const;
    this.#pairs.add(pair);
    let isSwallowing = false;
    near.on('data', (chunk) => {
      if (this.#swallowed !== undefined && chunk.includes(this.#swallowed)) {
        this.#swallowed = undefined;
        isSwallowing = true;
      }
      far.write(chunk);
    });
    far.on('data', (chunk) => {
      if (isSwallowing) near.destroy();
      else near.write(chunk);
    });
    for (const socket of pair) {
      socket.setNoDelay(true);
      socket.on('error', () => {});
      socket.on('close', () => {
        this.#pairs.delete(pair);
        near.destroy();
        far.destroy();
      });
    }
  }
}
