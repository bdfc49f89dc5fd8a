// The log in Redis on a model of Redis, for the contract of logs.

import type { Log, SharedLog } from '../../lib/log.ts';
import type { LogHarness } from '../../lib/log-contract.ts';
import { RedisLog } from '../../lib/redis.ts';
import { appendScript, redisKeys } from '../../lib/redis-script.ts';
import { ModelRedis } from '../helpers/model-redis/model-redis.ts';

const keys = redisKeys('sluice');

/** A Redis, and which of its nodes each log is. */
class Store extends ModelRedis {
  readonly #nodes = new Map<Log, string>();

  openNext(): SharedLog {
    const node = `node ${this.#nodes.size + 1}`;
    const log = new RedisLog(this.client(node), { checkInterval: 300 });
    this.#nodes.set(log, node);
    return log;
  }

  nodeOf(log: Log): string {
    return this.#nodes.get(log)!;
  }

  get head(): number {
    return Number(this.do('HGET', keys.meta, 'head'));
  }

  drop(topic: string, seq: number): void {
    const list = keys.history(topic);
    const held = this.do('LRANGE', list, '0', '-1') as string[];
    const dropped = held.filter((packed) => Number(packed.split(' ')[0]) <= seq);
    this.do('LTRIM', list, String(dropped.length), '-1');
  }

  /** A node with room for fewer topics appends to another one. */
  async forget(topic: string): Promise<void> {
    const maxTopics = Number(this.do('ZCARD', keys.index));
    const log = new RedisLog(this.client('pruner'), { maxTopics });
    await new Promise<void>((resolve) => {
      log.follow({ accept() {}, skip: () => resolve(), renew() {}, away() {}, back() {} });
    });
    await log.append('other', [{ at: Date.now(), frame: Buffer.from('data: other\n\n'), key: undefined }]);
    while (this.do('ZSCORE', keys.index, topic) !== null) await new Promise(setImmediate);
    await log.close();
  }

  /** Loses the newest events, and the writes between them. */
  loseEvents(count: number): void {
    for (const left = this.head - count; this.head > left; ) this.restart({ lost: 1 });
  }

  /** The answer to the next append of a node is lost. */
  loseAnswer(node: string): void {
    this.network = {
      fate: (asking, [, script]) => {
        if (asking !== node || (script !== appendScript.sha && script !== appendScript.text)) return 'done';
        this.network = undefined;
        return 'unanswered';
      },
    };
  }
}

export const redisLog: LogHarness<Store> = {
  order: 'shared',
  create: () => new Store(),
  open: (store) => store.openNext(),
  faults: {
    drop: (store, topic, seq) => store.drop(topic, seq),
    forget: (store, topic) => store.forget(topic),
    loseTail: (store, count) => store.loseEvents(count),
    disconnect: (store, log) => store.disconnect(store.nodeOf(log)),
    reconnect: (store, log) => store.reconnect(store.nodeOf(log)),
    loseAnswer: (store, log) => store.loseAnswer(store.nodeOf(log)),
    trimFeed: (store) => void store.do('XTRIM', keys.feed, 'MAXLEN', '0'),
  },
};
