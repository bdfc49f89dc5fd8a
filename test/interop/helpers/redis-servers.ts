// Real Redis servers: one, a cluster, and a primary with its replicas and Sentinels.

import { type ChildProcessByStdio, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { freePort } from '../../helpers/free-port.ts';
import { Reading } from '../../helpers/reader.ts';
import type { Cleanup } from '../../helpers/server.ts';
import { kept } from './children.ts';

const run = promisify(execFile);

/** A process that speaks the protocol of Redis: a server or a Sentinel. */
export interface RedisProcess {
  readonly port: number;
  readonly folder: string;
  /** What `redis-cli` prints for one command, without its last line end. Rejects with an error reply. */
  command(...words: readonly string[]): Promise<string>;
  /** It stands still, with its connections open, as a machine that is out of memory or a network that drops all. */
  stop(): void;
  resume(): void;
  /** As `kill -9` does; resolves when it is gone. */
  kill(): Promise<void>;
  /** Again at the same port, with what is left in its folder. */
  start(): Promise<void>;
}

export interface RedisSetting {
  readonly port?: number | undefined;
  /** Words of its configuration, such as `--requirepass secret`. */
  readonly args?: readonly string[] | undefined;
  /** Words for `redis-cli`, such as `--tls`. */
  readonly cli?: readonly string[] | undefined;
}

/** An empty server that keeps nothing on disk unless `args` say so. Runs until the test is over. */
export async function startRedis(
  t: Cleanup,
  { port, args = [], cli = [] }: RedisSetting = {},
): Promise<RedisProcess> {
  const at = port ?? (await freePort());
  const words = ['--port', String(at), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', ...args];
  return startProcess(t, 'redis-server', { port: at, words: () => words, cli });
}

interface Program {
  readonly port: number;
  /** Its command line; `folder` is its own, and gone when the test is over. */
  words(folder: string): readonly string[];
  readonly cli?: readonly string[] | undefined;
}

async function startProcess(t: Cleanup, name: string, program: Program): Promise<RedisProcess> {
  const folder = mkdtempSync(join(tmpdir(), 'sluice-redis-'));
  const { port, cli = [] } = program;
  const words = program.words(folder);
  let child: ChildProcessByStdio<null, Readable, null> | undefined;
  const kill = async () => {
    const over = child;
    child = undefined;
    if (over === undefined || over.exitCode !== null || over.signalCode !== null) return;
    const gone = once(over, 'exit');
    over.kill('SIGKILL');
    await gone;
  };
  t.after(async () => {
    await kill();
    rmSync(folder, { recursive: true, force: true });
  });
  const start = async () => {
    child = kept(spawn(name, words, { cwd: folder, stdio: ['ignore', 'pipe', 'inherit'] }));
    await new Reading(child.stdout).until(({ text }) =>
      /Ready to accept connections|Sentinel ID is/.test(text),
    );
  };
  const command = async (...words: readonly string[]) => {
    const { stdout } = await run('redis-cli', ['-e', '-p', String(port), ...cli, ...words]);
    return stdout.replace(/\n$/, '');
  };
  await start();
  return {
    port,
    folder,
    command,
    stop: () => child?.kill('SIGSTOP'),
    resume: () => child?.kill('SIGCONT'),
    kill,
    start,
  };
}

/** Resolves once something holds. The test's own time limit ends the wait. */
export async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await holds())) await sleep(20);
}

// ── a cluster ─────────────────────────────────────────────────────────────────────────────────────────────

export interface RedisCluster {
  /** The primaries at first, each with an equal part of the slots. */
  readonly primaries: readonly RedisProcess[];
  /** `replicas` of each primary, in the order of `primaries`. */
  readonly replicas: readonly RedisProcess[];
  slotOf(key: string): Promise<number>;
  /** The node that has the slot, as any node that is up knows it. */
  ownerOf(slot: number): Promise<RedisProcess>;
  /** Begins to move a slot: its keys that are absent, or moved already, are asked for at the other node. */
  beginMove(slot: number, to: RedisProcess): Promise<Move>;
}

export interface Move {
  readonly from: RedisProcess;
  /** Moves keys; all of the slot unless they are named. */
  migrate(...keys: readonly string[]): Promise<void>;
  /** All keys, and then the slot itself. */
  finish(): Promise<void>;
}

export interface ClusterSetting {
  readonly primaries?: number | undefined;
  /** Of each primary. */
  readonly replicas?: number | undefined;
  readonly args?: readonly string[] | undefined;
  readonly cli?: readonly string[] | undefined;
}

const SLOTS = 16_384;

/** Runs until the test is over. A node counts as failed after a second. */
export async function startCluster(
  t: Cleanup,
  { primaries = 3, replicas = 0, args = [], cli = [] }: ClusterSetting = {},
): Promise<RedisCluster> {
  const starting = Array.from({ length: primaries * (1 + replicas) }, () => startNode(t, args, cli));
  const nodes = await Promise.all(starting);
  const [first] = nodes as [ClusterNode];
  await Promise.all(nodes.map((node, i) => node.command('cluster', 'set-config-epoch', String(i + 1))));
  for (const { port, bus } of nodes.slice(1))
    await first.command('cluster', 'meet', '127.0.0.1', String(port), String(bus));
  const heads = nodes.slice(0, primaries);
  await Promise.all(
    heads.map((node, i) => {
      const [begin, end] = [i, i + 1].map((part) => Math.floor((part * SLOTS) / primaries)) as [
        number,
        number,
      ];
      return node.command('cluster', 'addslotsrange', String(begin), String(end - 1));
    }),
  );
  await Promise.all(nodes.map((node) => until(async () => (await knows(node)) === nodes.length)));
  const followers = nodes.slice(primaries);
  for (const [i, node] of followers.entries()) {
    const head = heads[Math.floor(i / replicas)] as ClusterNode;
    await node.command('cluster', 'replicate', await head.command('cluster', 'myid'));
  }
  await Promise.all(followers.map((node) => until(() => isLinked(node))));
  await Promise.all(nodes.map((node) => until(() => isWhole(node))));
  return clusterOf(nodes, heads, followers);
}

interface ClusterNode extends RedisProcess {
  readonly bus: number;
}

async function startNode(t: Cleanup, args: readonly string[], cli: readonly string[]): Promise<ClusterNode> {
  const bus = await freePort();
  const words = ['--cluster-enabled', 'yes', '--cluster-port', String(bus), '--cluster-node-timeout', '1000'];
  return Object.assign(await startRedis(t, { args: [...words, ...args], cli }), { bus });
}

function clusterOf(
  nodes: readonly ClusterNode[],
  primaries: readonly RedisProcess[],
  replicas: readonly RedisProcess[],
): RedisCluster {
  const slotOf = async (key: string) => Number(await anyOf(nodes, 'cluster', 'keyslot', key));
  const ownerOf = async (slot: number) => {
    const table = await anyOf(nodes, 'cluster', 'nodes');
    const port = ownerIn(table, slot);
    const node = nodes.find((one) => one.port === port);
    if (node === undefined) throw new Error(`no node has slot ${slot}:\n${table}`);
    return node;
  };
  const beginMove = async (slot: number, to: RedisProcess) => moveOf(nodes, slot, await ownerOf(slot), to);
  return { primaries, replicas, slotOf, ownerOf, beginMove };
}

/** The reply of the first node that answers. */
function anyOf(nodes: readonly RedisProcess[], ...words: readonly string[]): Promise<string> {
  return Promise.any(nodes.map((node) => node.command(...words)));
}

/** The port of the primary that has a slot in the table that `CLUSTER NODES` prints. */
function ownerIn(table: string, slot: number): number | undefined {
  for (const line of table.split('\n')) {
    const [, address = '', flags = '', , , , , , ...ranges] = line.split(' ');
    if (!flags.includes('master') || flags.includes('fail')) continue;
    const has = ranges
      .filter((range) => !range.startsWith('['))
      .map((range) => range.split('-').map(Number))
      .some(([begin = -1, end = begin]) => begin <= slot && slot <= end);
    if (has) return Number(/:(\d+)@/.exec(address)?.[1]);
  }
  return undefined;
}

async function moveOf(
  nodes: readonly RedisProcess[],
  slot: number,
  from: RedisProcess,
  to: RedisProcess,
): Promise<Move> {
  const set = (node: RedisProcess, ...words: readonly string[]) =>
    node.command('cluster', 'setslot', String(slot), ...words);
  const target = await to.command('cluster', 'myid');
  await set(to, 'importing', await from.command('cluster', 'myid'));
  await set(from, 'migrating', target);
  const migrate = async (...keys: readonly string[]) => {
    const named = keys.length > 0 ? keys : await keysOf(from, slot);
    if (named.length === 0) return;
    await from.command('migrate', '127.0.0.1', String(to.port), '', '0', '5000', 'keys', ...named);
  };
  const finish = async () => {
    await migrate();
    // The new owner first, so that the slot always has one; then the others hear of it without gossip.
    await set(to, 'node', target);
    await set(from, 'node', target);
    await Promise.allSettled(nodes.filter((node) => node !== to).map((node) => set(node, 'node', target)));
  };
  return { from, migrate, finish };
}

async function keysOf(node: RedisProcess, slot: number): Promise<string[]> {
  const lines = await node.command('cluster', 'getkeysinslot', String(slot), '100000');
  return lines.split('\n').filter((line) => line !== '');
}

async function knows(node: RedisProcess): Promise<number> {
  return (await node.command('cluster', 'nodes')).trim().split('\n').length;
}

async function isWhole(node: RedisProcess): Promise<boolean> {
  const info = await node.command('cluster', 'info');
  return info.includes('cluster_state:ok') && info.includes('cluster_slots_ok:16384');
}

async function isLinked(node: RedisProcess): Promise<boolean> {
  return (await node.command('info', 'replication')).includes('master_link_status:up');
}

// ── Sentinels ─────────────────────────────────────────────────────────────────────────────────────────────

export interface RedisSentinels {
  /** What the Sentinels call the primary and its replicas. */
  readonly name: string;
  /** The primary at first, and then its replicas. */
  readonly servers: readonly RedisProcess[];
  readonly sentinels: readonly RedisProcess[];
  /** The primary, as the first Sentinel that is up knows it. */
  primary(): Promise<RedisProcess>;
  /** Has a replica promoted while all are up; resolves once all Sentinels know the new primary. */
  failover(): Promise<RedisProcess>;
}

export interface SentinelSetting {
  readonly replicas?: number | undefined;
  readonly sentinels?: number | undefined;
  readonly args?: readonly string[] | undefined;
  /** Lines of each Sentinel's file, such as `sentinel auth-pass main secret`. */
  readonly lines?: readonly string[] | undefined;
  readonly cli?: readonly string[] | undefined;
}

/** Runs until the test is over. A server counts as down after half a second. */
export async function startSentinels(
  t: Cleanup,
  { replicas = 1, sentinels = 3, args = [], lines = [], cli = [] }: SentinelSetting = {},
): Promise<RedisSentinels> {
  const name = 'main';
  const first = await startRedis(t, { args, cli });
  const followers = await Promise.all(
    Array.from({ length: replicas }, () =>
      startRedis(t, { args: [...args, '--replicaof', `127.0.0.1 ${first.port}`], cli }),
    ),
  );
  await Promise.all(followers.map((server) => until(() => isLinked(server))));
  const quorum = Math.floor(sentinels / 2) + 1;
  const watchers = await Promise.all(
    Array.from({ length: sentinels }, () =>
      startSentinel(t, [
        `sentinel monitor ${name} 127.0.0.1 ${first.port} ${quorum}`,
        `sentinel down-after-milliseconds ${name} 500`,
        `sentinel failover-timeout ${name} 2000`,
        ...lines,
      ]),
    ),
  );
  const servers = [first, ...followers];
  await Promise.all(watchers.map((one) => until(() => knowsAll(one, name, replicas, sentinels - 1))));
  const primaryOf = async (sentinel: RedisProcess) => {
    const reply = await sentinel.command('sentinel', 'get-master-addr-by-name', name);
    const port = Number(reply.split('\n')[1]);
    return servers.find((server) => server.port === port) as RedisProcess;
  };
  const primary = () => Promise.any(watchers.map(primaryOf));
  const failover = async () => {
    const [sentinel] = watchers as [RedisProcess];
    const before = await primary();
    await sentinel.command('sentinel', 'failover', name);
    await Promise.all(watchers.map((one) => until(async () => (await primaryOf(one)) !== before)));
    return primary();
  };
  return { name, servers, sentinels: watchers, primary, failover };
}

async function startSentinel(t: Cleanup, lines: readonly string[]): Promise<RedisProcess> {
  const port = await freePort();
  const words = (folder: string) => {
    const file = join(folder, 'sentinel.conf');
    writeFileSync(file, [`port ${port}`, 'bind 127.0.0.1', `dir ${folder}`, ...lines, ''].join('\n'));
    return [file];
  };
  return startProcess(t, 'redis-sentinel', { port, words });
}

async function knowsAll(
  sentinel: RedisProcess,
  name: string,
  replicas: number,
  others: number,
): Promise<boolean> {
  const said = (await sentinel.command('sentinel', 'master', name)).split('\n');
  const of = (field: string) => Number(said[said.indexOf(field) + 1]);
  return of('num-slaves') === replicas && of('num-other-sentinels') === others;
}
