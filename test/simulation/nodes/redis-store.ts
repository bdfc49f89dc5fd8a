// The store of the nodes of a simulation: a model of Redis, to which the real log in Redis speaks.

import type { SharedLog } from '../../../lib/log.ts';
import { RedisLog } from '../../../lib/redis.ts';
import {
  appendScript,
  changeScript,
  findScript,
  namesScript,
  newestScript,
  readScript,
  redisKeys,
  type Script,
} from '../../../lib/redis-script.ts';
import { ModelRedis } from '../../helpers/model-redis/model-redis.ts';
import type { Server } from '../../helpers/model-redis/server.ts';
import type { SharedStore, SharedStoreOptions, StoreNetwork } from '../../helpers/shared-store.ts';

/** What a simulation does with a store. */
export type NodeStore = Pick<
  SharedStore,
  | 'open'
  | 'endOf'
  | 'isEnded'
  | 'sizes'
  | 'strayEpochs'
  | 'disconnect'
  | 'reconnect'
  | 'crash'
  | 'failOver'
  | 'restart'
  | 'renameOrder'
  | 'split'
  | 'heal'
  | 'trimFeed'
  | 'trim'
  | 'evict'
  | 'evictIndex'
  | 'evictMeta'
  | 'flush'
>;

const keys = redisKeys('sluice');

export interface RedisStoreOptions extends SharedStoreOptions {
  /** Whether the old primary of a split lives on as a replica, with the nodes that are connected to it. */
  readonly fateOfOld?: () => { readonly isKept: boolean; readonly lags: boolean };
}

/** Milliseconds after which a connection breaks on which something was lost. */
const STUCK = 300;

export class RedisStore extends ModelRedis implements NodeStore {
  readonly #options: RedisStoreOptions;

  constructor(options: RedisStoreOptions) {
    super({ outside: options.outside as <T>(act: () => T) => T });
    this.#options = options;
    const { network } = options;
    if (network !== undefined) this.network = networkOf(network);
  }

  open(node: string): SharedLog {
    const { maxEvents = Infinity, maxFeed = Infinity, checkInterval, lineage, network } = this.#options;
    const log = new RedisLog(this.client(node), {
      history: { maxEvents },
      feed: { maxEvents: maxFeed },
      checkInterval,
      lineage,
    });
    return network === undefined ? log : noticed(log, (isBegin) => network.onRead?.(node, isBegin));
  }

  override heal(): void {
    super.heal(this.#options.fateOfOld?.());
  }

  endOf(epoch: number): number | undefined {
    return epochsOf(this.primary).find((past) => past.epoch === epoch)?.end;
  }

  isEnded(topic: string): boolean {
    return Number(this.do('ZSCORE', keys.index, topic) ?? 0) % 4 === 1;
  }

  get sizes(): { readonly minority: number; readonly majority: number } {
    return { minority: this.minority?.writes.length ?? 0, majority: this.primary.writes.length };
  }

  get strayEpochs(): readonly number[] {
    const known = epochsOf(this.primary).map(({ epoch }) => epoch);
    const others = this.minority === undefined ? [] : epochsOf(this.minority).map(({ epoch }) => epoch);
    return others.filter((epoch) => !known.includes(epoch));
  }

  trimFeed(keep = 0): void {
    this.do('XTRIM', keys.feed, 'MAXLEN', String(keep));
  }

  trim(topic: string, keep: number): void {
    if (keep === 0) this.evict(topic);
    else this.do('LTRIM', keys.history(topic), String(-keep), '-1');
  }

  evict(topic: string): void {
    this.do('DEL', keys.history(topic));
  }

  evictIndex(): void {
    this.do('DEL', keys.index);
  }

  evictMeta(): void {
    this.do('DEL', keys.meta);
  }

  /** Loses what can be made again, or done without. */
  evictHelper(topic: string): void {
    this.do('DEL', keys.names, keys.stale, keys.newest(topic));
  }

  flush(): void {
    this.do('FLUSHALL');
  }
}

/** The epochs of a server, oldest first, and what it has of those that are over. */
function epochsOf(server: Server): readonly { readonly epoch: number; readonly end: number | undefined }[] {
  const answer = server.execute(['HMGET', keys.meta, 'epoch', 'ends']);
  const [epoch, ends] = answer as readonly (string | null)[];
  if (epoch == null) return [];
  const past = (ends ?? '').split(' ').filter((pair) => pair !== '');
  const all = past.map((pair) => {
    const [of, end] = pair.split(':').map(Number);
    return { epoch: of!, end };
  });
  return [...all, { epoch: Number(epoch), end: undefined }];
}

const kinds: ReadonlyMap<string, string> = new Map([
  ...named('write', appendScript, changeScript),
  ...named('read', readScript, findScript, newestScript, namesScript),
]);

function named(kind: string, ...scripts: readonly Script[]): [string, string][] {
  return scripts.flatMap(({ text, sha }): [string, string][] => [
    [text, kind],
    [sha, kind],
  ]);
}

function networkOf(network: StoreNetwork): ModelRedis['network'] {
  return {
    delay: (node, direction) => network.delay(node, direction === 'connect' ? 'request' : direction),
    fate: (node, [, script = '']) => network.fate?.(node, kinds.get(script) ?? 'follow') ?? 'done',
    wakes: (node) => network.wakes?.(node) ?? true,
    stuckTime: STUCK,
  };
}

/** Tells when a read begins, and when it has ended. */
function noticed(log: SharedLog, onRead: (isBegin: boolean) => void): SharedLog {
  return {
    order: 'shared',
    follow: (intake) => log.follow(intake),
    append: (topic, events, options) => log.append(topic, events, options),
    change: (topic, change) => log.change(topic, change),
    read: async (topics, after, maxBytes, options) => {
      onRead(true);
      try {
        return await log.read(topics, after, maxBytes, options);
      } finally {
        onRead(false);
      }
    },
    find: (topics) => log.find(topics),
    list: (options) => log.list(options),
    beforeNewest: (topics, count) => log.beforeNewest(topics, count),
    close: async () => log.close?.(),
  };
}
