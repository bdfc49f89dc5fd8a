// Starts a Redis server for a run, on the second core, and asks it what it holds.

import { execFile, spawnSync } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { freePort, type Served, startCommand, startNode } from './lead.ts';

const run = promisify(execFile);

export interface RedisServer {
  readonly port: number;
  readonly pid: number;
  /** What `redis-cli` prints. */
  command(...words: readonly string[]): Promise<string>;
  /** Bytes that it has allocated. */
  usedMemory(): Promise<number>;
  stop(): Promise<void>;
}

/** Why none can run here; `undefined` when one can. */
export function missingRedis(): string | undefined {
  if (
    spawnSync('redis-cli', ['--version']).status === 0 &&
    spawnSync('redis-server', ['--version']).status === 0
  )
    return undefined;
  return 'there is no redis-server (Debian: redis-server)';
}

/** An empty server that keeps nothing on disk. */
export async function startRedis(): Promise<RedisServer> {
  const port = await freePort();
  const options = ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no'];
  const { pid, stop } = await startCommand(['redis-server', ...options], 1);
  const command = async (...words: readonly string[]) => {
    const { stdout } = await run('redis-cli', ['-e', '-p', String(port), ...words]);
    return stdout.trim();
  };
  while ((await command('PING').catch(() => '')) !== 'PONG') await sleep(20);
  return {
    port,
    pid,
    command,
    usedMemory: async () => Number(/^used_memory:(\d+)/m.exec(await command('INFO', 'memory'))![1]),
    stop,
  };
}

/** Starts a server of `peers/` that finds this Redis in `REDIS_PORT`. */
export function startOn({ port }: RedisServer, peer: string): Promise<Served> {
  return startNode(peer, [], { REDIS_PORT: String(port) });
}
