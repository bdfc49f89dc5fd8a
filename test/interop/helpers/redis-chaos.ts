// A real Redis behind one chaos proxy for each node, the rig on it, and what is done to it again and again.

import { RedisLog, type RedisLogOptions } from '../../../lib/redis.ts';
import { type RedisKeys, redisKeys } from '../../../lib/redis-script.ts';
import type { ChaosProxy } from '../../../lib/testing.ts';
import { startChaosProxy } from '../../helpers/chaos-proxy.ts';
import type { Cleanup } from '../../helpers/server.ts';
import { type ChaosRig, type ChaosRigOptions, type Expected, startChaosRig } from './chaos-rig.ts';
import { type ClientKind, clientKinds } from './redis-clients.ts';
import { type RedisProcess, startRedis, until } from './redis-servers.ts';

export const LONG: boolean = process.env.SLUICE_LONG === '1';

/** How often each fault happens, and to how many readers. */
export const ROUNDS: number = LONG ? 5 : 1;
export const READERS: number = LONG ? 200 : 50;

/** Each stream gets one gap, because the order has changed. */
export const ONCE: Expected = { gaps: 'store-changed', each: 1 };

/** No stream gets a gap. */
export const NONE: Expected = { gaps: 'none' };

/** What a publisher is answered whose event is certainly not in the log. */
export const REFUSED = 'log-unavailable';

/** What one is answered whose event may be in it. */
export const UNKNOWN = 'outcome-unknown';

/** How much survives a restart. */
export const keeping = {
  always: ['--appendonly', 'yes', '--appendfsync', 'always'],
  everysec: ['--appendonly', 'yes', '--appendfsync', 'everysec'],
  nothing: [],
} as const;

export const NAME = 'chaos';
export const keys: RedisKeys = redisKeys(NAME);

export interface ChaosSetting extends Omit<ChaosRigOptions, 'log'> {
  /** The options of all nodes, or of each. */
  readonly log?: RedisLogOptions | ((node: number) => RedisLogOptions);
}

/** Nodes whose logs use these clients. Runs until the test is over. */
export function startNodes(
  t: Cleanup,
  client: (node: number) => unknown,
  { log = {}, ...options }: ChaosSetting = {},
): Promise<ChaosRig> {
  return startChaosRig(t, {
    readers: READERS,
    ...options,
    log: (node) => {
      const own = typeof log === 'function' ? log(node) : log;
      return new RedisLog(client(node), { name: NAME, checkInterval: 1000, ...own });
    },
  });
}

/** Each node uses another client. */
export function clientOf(node: number): ClientKind {
  return clientKinds[(node + 1) % clientKinds.length]!;
}

export interface Chaos {
  readonly rig: ChaosRig;
  /** The one that the nodes reach at first. */
  readonly redis: RedisProcess;
  /** One for each node. */
  readonly proxies: readonly ChaosProxy[];
  /** Leads all nodes to another server. */
  retarget(redis: RedisProcess): void;
}

/** Nodes that reach one server, each through a proxy of its own. Runs until the test is over. */
export async function startChaos(
  t: Cleanup,
  { args = [], ...setting }: ChaosSetting & { readonly args?: readonly string[] } = {},
): Promise<Chaos> {
  const last = lastFirst(t);
  const redis = await startServer(last, args);
  const proxies: ChaosProxy[] = [];
  for (let i = 0; i < (setting.nodes ?? 3); i++) proxies.push(await startChaosProxy(last, redis.port));
  const client = (node: number): unknown => clientOf(node).single({ port: proxies[node]!.port });
  const rig = await startNodes(last, client, setting);
  const retarget = (other: RedisProcess): void => {
    for (const proxy of proxies) proxy.retarget(other.port);
  };
  return { rig, redis, proxies, retarget };
}

/** A replica gets what it lacks at once, and not after five seconds. */
export const PROMPT = ['--repl-diskless-sync-delay', '0'] as const;

export function startServer(t: Cleanup, args: readonly string[] = []): Promise<RedisProcess> {
  return startRedis(t, { args: [...PROMPT, ...args] });
}

/** Does the same some times; each time everybody must have everything, or the gaps that are expected. */
export async function inRounds(
  rig: ChaosRig,
  expected: Expected,
  fault: (round: number) => Promise<void>,
): Promise<void> {
  for (let round = 1; round <= ROUNDS; round++) {
    await fault(round);
    await rig.settled();
    rig.check(expected);
  }
  await rig.settled();
  if (expected.gaps !== 'any') rig.check({ gaps: 'none' });
  await rig.finish();
}

/** What was started last ends first. */
export function lastFirst(t: Cleanup): Cleanup {
  const all: (() => unknown)[] = [];
  t.after(async () => {
    for (const done of all.reverse()) await done();
  });
  return { after: (done) => void all.push(done) };
}

// ── Redis ─────────────────────────────────────────────────────────────────────────────────────────────────

/** A field of INFO; empty where there is none. */
export async function info(redis: RedisProcess, field: string): Promise<string> {
  const all = await redis.command('info', 'everything');
  return new RegExp(`^${field}:(.*?)\r?$`, 'm').exec(all)?.[1] ?? '';
}

export async function untilInfo(redis: RedisProcess, field: string, value: string): Promise<void> {
  await until(async () => (await info(redis, field).catch(() => '')) === value);
}

/** Has one follow another, perhaps through a proxy, and waits until it has what that has. */
export async function follow(replica: RedisProcess, primary: { readonly port: number }): Promise<void> {
  await replica.command('replicaof', '127.0.0.1', String(primary.port));
  await untilInfo(replica, 'master_link_status', 'up');
}

/** Has it follow nobody, so that it accepts writes. */
export async function promote(replica: RedisProcess): Promise<void> {
  await replica.command('replicaof', 'no', 'one');
}

/** Waits until a replica has what its primary had when this was called. */
export async function untilCaughtUp(replica: RedisProcess, primary: RedisProcess): Promise<void> {
  const offset = Number(await info(primary, 'master_repl_offset'));
  await until(async () => Number(await info(replica, 'slave_repl_offset')) >= offset);
}

export async function restart(redis: RedisProcess): Promise<void> {
  await redis.kill();
  await redis.start();
}
