// The log in Redis, for the contract of logs: its faults are those of a real server, and of the way to it.

import { readdirSync, statSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import type { Log, SharedLog } from '../../../lib/log.ts';
import type { LogHarness } from '../../../lib/log-contract.ts';
import { RedisLog, type RedisLogOptions } from '../../../lib/redis.ts';
import { appendScript, redisKeys } from '../../../lib/redis-script.ts';
import { ChaosProxy } from '../../../lib/testing.ts';
import { type RedisProcess, until } from './redis-servers.ts';

/** The keys of one hub on a server, and what is needed to make things go wrong with them. */
export class RedisHub {
  readonly name: string;
  readonly server: RedisProcess;
  /** The length of the server's file after each append. */
  readonly states: number[] = [];
  readonly #nodes = new Map<Log, { readonly proxy: ChaosProxy; readonly client: Redis }>();

  constructor(server: RedisProcess, name: string) {
    this.server = server;
    this.name = name;
  }

  get keys(): ReturnType<typeof redisKeys> {
    return redisKeys(this.name);
  }

  async open(options: RedisLogOptions = {}): Promise<SharedLog> {
    const proxy = await ChaosProxy.listen(this.server.port);
    const client = new Redis(proxy.port, '127.0.0.1', { lazyConnect: true });
    const log = this.#recording(
      new RedisLog(client, { name: this.name, checkInterval: 300, appendTimeout: 4000, ...options }),
    );
    this.#nodes.set(log, { proxy, client });
    return log;
  }

  proxyOf(log: Log): ChaosProxy {
    return this.#nodes.get(log)!.proxy;
  }

  /** A log that keeps the length of the server's file after each append. */
  #recording(log: RedisLog): SharedLog {
    return {
      order: 'shared',
      follow: (intake) => log.follow(intake),
      append: async (topic, events, options) => {
        const appended = await log.append(topic, events, options);
        this.states.push(statSync(this.#file).size);
        return appended;
      },
      change: (topic, change) => log.change(topic, change),
      read: (topics, after, maxBytes, options) => log.read(topics, after, maxBytes, options),
      find: (topics) => log.find(topics),
      list: (options) => log.list(options),
      beforeNewest: (topics, count) => log.beforeNewest(topics, count),
      close: () => log.close(),
    };
  }

  /** Where the server keeps its newest commands. */
  get #file(): string {
    const folder = join(this.server.folder, 'appendonlydir');
    return join(folder, readdirSync(folder).find((file) => file.endsWith('.incr.aof'))!);
  }

  /** The server crashes, and its disk lacks the newest appends. */
  async loseTail(count: number): Promise<void> {
    const length = this.states.at(-1 - count)!;
    await this.server.kill();
    truncateSync(this.#file, length);
    await this.server.start();
  }

  async drop(topic: string, seq: number): Promise<void> {
    const list = this.keys.history(topic);
    const places = (await this.server.command('lrange', list, '0', '-1')).match(/^\d+ \d+ \S+ \d+ /gm) ?? [];
    const dropped = places.filter((place) => Number.parseInt(place, 10) <= seq).length;
    await this.server.command('ltrim', list, String(dropped), '-1');
  }

  /** A node appends to one topic more than there may be. */
  async forget(topic: string): Promise<void> {
    const { index } = this.keys;
    const maxTopics = Number(await this.server.command('zcard', index));
    const client = new Redis(this.server.port, '127.0.0.1', { lazyConnect: true });
    const log = new RedisLog(client, { name: this.name, maxTopics });
    await new Promise<void>((resolve) => {
      log.follow({ accept() {}, skip: () => resolve(), renew() {}, away() {}, back() {} });
    });
    await log.append('other', [{ at: Date.now(), frame: Buffer.from('data: other\n\n'), key: undefined }]);
    await until(async () => (await this.server.command('zscore', index, topic)) === '');
    await log.close();
    client.disconnect();
  }

  async dispose(): Promise<void> {
    for (const { proxy, client } of this.#nodes.values()) {
      client.disconnect();
      await proxy.close();
    }
  }
}

/** Makes a harness for a server that writes its commands to a file at once: `--appendonly yes --appendfsync always`. */
export function redisHarness(server: RedisProcess): LogHarness<RedisHub> {
  let hubs = 0;
  return {
    order: 'shared',
    create: () => new RedisHub(server, `hub-${++hubs}`),
    open: (hub) => hub.open(),
    dispose: (hub) => hub.dispose(),
    faults: {
      drop: (hub, topic, seq) => hub.drop(topic, seq),
      forget: (hub, topic) => hub.forget(topic),
      loseTail: (hub, count) => hub.loseTail(count),
      disconnect: (hub, log) => hub.proxyOf(log).refuse(),
      reconnect: (hub, log) => hub.proxyOf(log).pass(),
      loseAnswer: (hub, log) => hub.proxyOf(log).loseAnswerTo(appendScript.sha),
      trimFeed: async ({ keys }) => void (await server.command('xtrim', keys.feed, 'maxlen', '0')),
    },
  };
}
