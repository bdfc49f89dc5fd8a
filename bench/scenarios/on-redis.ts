// Starts Redis, and the servers that share it, with which the scenarios of the log in Redis begin.

import { installed } from '../harness.ts';
import { pathOf } from '../loads/commit.ts';
import type { Served } from '../loads/lead.ts';
import { missingRedis, type RedisServer, startRedis } from '../loads/redis.ts';
import { kindOf, OURS, type Settings } from './scenario.ts';

/** Why a peer cannot run here; `undefined` when it can. */
export function withoutRedis(peer: string): string | undefined {
  const client = peer.startsWith('node-') ? 'redis' : 'ioredis';
  return missingRedis() ?? (installed(client) ? undefined : `npm package ${client} is not installed`);
}

/** Starts Redis, and stops it when `play` is over or fails. */
export async function onRedis<T>(play: (redis: RedisServer) => Promise<T>): Promise<T> {
  const redis = await startRedis();
  try {
    return await play(redis);
  } finally {
    await redis.stop();
  }
}

/** Starts so many servers, and stops them when `play` is over or fails. */
export async function onNodes<T>(
  count: number,
  start: () => Promise<Served>,
  play: (nodes: readonly Served[]) => Promise<T>,
): Promise<T> {
  const nodes: Served[] = [];
  try {
    while (nodes.length < count) nodes.push(await start());
    return await play(nodes);
  } finally {
    await Promise.all(nodes.map((node) => node.stop()));
  }
}

/** Which file of `peers/` a peer of these scenarios is: ours is `redis`. */
export function adapterOf(peer: string, { against }: Settings): string {
  if (peer === OURS) return 'redis';
  if (kindOf(peer) !== OURS) return peer;
  const path = against && pathOf(against, 'redis');
  if (path === undefined) throw new Error(`commit ${against?.name} has no bench/peers/redis.ts`);
  return path;
}
