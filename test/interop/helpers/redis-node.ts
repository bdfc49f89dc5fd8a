// One node on a log in a real Redis: what it appends, and what its intake hears.

import { Redis } from 'ioredis';
import type { Appended, AppendOptions, LogEntry } from '../../../lib/log.ts';
import { Heard } from '../../../lib/log-intake.ts';
import { RedisLog, type RedisLogOptions } from '../../../lib/redis.ts';
import { type RedisKeys, redisKeys } from '../../../lib/redis-script.ts';
import { ChaosProxy } from '../../../lib/testing.ts';
import type { Cleanup } from '../../helpers/server.ts';
import { until } from './redis-servers.ts';

/** What to append: its text, its key, and when it was published. */
export type Text = string | { readonly text: string; readonly key?: string; readonly at?: number };

export class RedisNode {
  readonly log: RedisLog;
  readonly heard: Heard = new Heard();
  readonly proxy: ChaosProxy;
  readonly name: string;
  readonly keys: RedisKeys;

  private constructor(log: RedisLog, proxy: ChaosProxy, name: string) {
    this.name = name;
    this.log = log;
    this.proxy = proxy;
    this.keys = redisKeys(name);
  }

  /** Opens a log, and waits until its intake knows the order. Closed when the test is over. */
  static async open(t: Cleanup, port: number, options: RedisLogOptions = {}): Promise<RedisNode> {
    const { name = 'sluice' } = options;
    const proxy = await ChaosProxy.listen(port);
    const client = new Redis(proxy.port, '127.0.0.1', { lazyConnect: true });
    const log = new RedisLog(client, { checkInterval: 200, appendTimeout: 10_000, ...options });
    const node = new RedisNode(log, proxy, name);
    t.after(async () => {
      await log.close();
      client.disconnect();
      await proxy.close();
    });
    log.follow(node.heard);
    await until(() => node.heard.epoch > 0);
    return node;
  }

  /** Appends the texts in one batch. */
  append(topic: string, texts: readonly Text[], options?: AppendOptions): Promise<Appended> {
    return this.log.append(topic, texts.map(eventOf), options);
  }

  /** Appends the texts one by one. @returns their seqs. */
  async put(topic: string, ...texts: readonly Text[]): Promise<readonly number[]> {
    const seqs: number[] = [];
    for (const text of texts) seqs.push((await this.append(topic, [text])).first);
    return seqs;
  }

  /** All texts that are held of topics, read page by page. */
  async texts(
    topics: string | readonly string[],
    after = 0,
    options: ReadOptions = {},
  ): Promise<readonly string[]> {
    return (await this.entries(topics, after, options)).map(textOf);
  }

  async entries(
    topics: string | readonly string[],
    after = 0,
    { maxBytes = 1000, newestOnly = false }: ReadOptions = {},
  ): Promise<readonly LogEntry[]> {
    const names = typeof topics === 'string' ? [topics] : topics;
    const all: LogEntry[] = [];
    for (let from = after; ; ) {
      const { entries, until } = await this.log.read(names, from, maxBytes, { newestOnly });
      if (entries.length === 0) return all;
      all.push(...entries);
      from = until;
    }
  }

  /** The newest seq that a topic has dropped. */
  async dropped(topic: string): Promise<number> {
    const { dropped } = await this.log.read([topic], 0, 1000, { newestOnly: false });
    return dropped[0]?.seq ?? 0;
  }

  /** What the intake was told so far, as texts and changes. */
  get told(): readonly string[] {
    return this.heard.entries.map((entry) => ('frame' in entry ? textOf(entry) : entry.change));
  }
}

export interface ReadOptions {
  readonly maxBytes?: number;
  readonly newestOnly?: boolean;
}

export function eventOf(text: Text): { at: number; frame: Uint8Array; key: string | undefined } {
  const { text: data, key, at = Date.now() } = typeof text === 'string' ? { text } : text;
  return { at, frame: Buffer.from(`data: ${data}\n\n`), key };
}

export function textOf({ frame }: { readonly frame: Uint8Array }): string {
  return Buffer.from(frame).toString().slice('data: '.length, -2);
}
