// The clients of Redis that a log works with: each major of both packages, side by side.

import { Cluster as IoCluster6, Redis as IoRedis6 } from 'ioredis';
import { Cluster as IoCluster5, Redis as IoRedis5 } from 'ioredis5';
import { createClient, createCluster, createSentinel } from 'redis';
import * as redis5 from 'redis5';

export interface TlsSetting {
  readonly ca: string;
}

export interface ServerSetting {
  readonly port: number;
  readonly username?: string;
  readonly password?: string;
  readonly database?: number;
  readonly tls?: TlsSetting;
}

export interface ClientKind {
  readonly name: string;
  /** Not connected, as far as the package allows that. */
  single(setting: ServerSetting): unknown;
  /** Waits a tenth of a second for answers, where its package can be told so. */
  impatient(setting: ServerSetting): unknown;
  /** Clients of every kind that put something in front of keys. */
  prefixed(port: number): readonly unknown[];
  cluster(setting: { readonly ports: readonly number[]; readonly password?: string }): unknown;
  /** `undefined` where the package cannot duplicate it. */
  sentinel?(setting: {
    readonly ports: readonly number[];
    readonly name: string;
    readonly password?: string;
  }): unknown;
}

const host = '127.0.0.1';

function ioKind(name: string, Redis: typeof IoRedis6, Cluster: typeof IoCluster6): ClientKind {
  return {
    name,
    single: ({ database = 0, tls, ...setting }) =>
      new Redis({ host, ...setting, db: database, lazyConnect: true, ...(tls === undefined ? {} : { tls }) }),
    impatient: ({ port }) =>
      new Redis({
        host,
        port,
        lazyConnect: true,
        commandTimeout: 100,
        socketTimeout: 100,
        blockingTimeout: 100,
      }),
    prefixed: (port) => [
      new Redis({ host, port, lazyConnect: true, keyPrefix: 'app:' }),
      new Cluster([{ host, port }], { lazyConnect: true, keyPrefix: 'app:' }),
      new Cluster([{ host, port }], { lazyConnect: true, redisOptions: { keyPrefix: 'app:' } }),
    ],
    cluster: ({ ports, password = '' }) =>
      new Cluster(
        ports.map((port) => ({ host, port })),
        { lazyConnect: true, redisOptions: { password } },
      ),
    sentinel: ({ ports, name, password = '' }) =>
      new Redis({ sentinels: ports.map((port) => ({ host, port })), name, password, lazyConnect: true }),
  };
}

function nodeKind(name: string, redis: Pick<typeof redis5, 'createClient' | 'createCluster'>): ClientKind {
  return {
    name,
    single({ port, tls, ...setting }) {
      const socket = tls === undefined ? { host, port } : { host, port, tls: true as const, ...tls };
      return redis.createClient({ socket, ...setting });
    },
    impatient: ({ port }) =>
      redis.createClient({
        socket: { host, port, socketTimeout: 100 },
        commandOptions: { timeout: 100 },
        pingInterval: 50,
      }),
    prefixed: () => [],
    cluster: ({ ports, password = '' }) =>
      redis.createCluster({
        rootNodes: ports.map((port) => ({ socket: { host, port } })),
        defaults: { password },
      }),
  };
}

export const clientKinds: readonly ClientKind[] = [
  nodeKind('redis 5', redis5),
  {
    ...nodeKind('redis 6', { createClient, createCluster } as never),
    prefixed: (port) => [
      createClient({ socket: { host, port }, keyPrefix: 'app:' }),
      createCluster({ rootNodes: [{ socket: { host, port } }], keyPrefix: 'app:' }),
      createSentinel({ name: 'main', sentinelRootNodes: [{ host, port }], keyPrefix: 'app:' }),
    ],
    sentinel: ({ ports, name, password = '' }) =>
      createSentinel({
        name,
        sentinelRootNodes: ports.map((port) => ({ host, port })),
        nodeClientOptions: { password },
      }),
  },
  ioKind('ioredis 5', IoRedis5 as never, IoCluster5 as never),
  ioKind('ioredis 6', IoRedis6, IoCluster6),
];
