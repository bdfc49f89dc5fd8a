// The logs on which the contract is run, each with the faults that it can have.

import type { Log, SharedLog } from '../../lib/log.ts';
import type { LogHarness } from '../../lib/log-contract.ts';
import { MemoryLog, MemoryStore } from '../helpers/memory-log.ts';
import { SharedStore } from '../helpers/shared-store.ts';

/** A hub in memory. */
export const noLog: LogHarness<undefined> = { order: 'none', create: () => undefined, open: () => undefined };

/** A log of an own order, in memory. */
export const ownLog: LogHarness<MemoryStore> = {
  order: 'own',
  create: () => new MemoryStore(),
  open: (store) => new MemoryLog(store),
  recall: true,
  faults: {
    drop: (store, topic, seq) => store.drop(topic, seq),
    forget: (store, topic) => store.forget(topic),
    truncate: (store, seq) => store.truncate(seq),
    loseTail: (store, count) => store.loseTail(count),
    failAppends: (store, on) => {
      store.fails = on;
    },
    crash: () => {},
  },
};

/** A store in memory that nodes share, and which of its nodes each log is. */
export class Shared extends SharedStore {
  readonly #nodes = new Map<Log, string>();

  #opened = 0;

  openNext(): SharedLog {
    const node = `node ${++this.#opened}`;
    const log = this.open(node);
    this.#nodes.set(log, node);
    return log;
  }

  /** Another object stands for the log of a node. */
  standIn(log: Log, other: Log): void {
    this.#nodes.set(other, this.nodeOf(log));
  }

  nodeOf(log: Log): string {
    return this.#nodes.get(log)!;
  }

  /** Loses the newest events, and the writes between them. */
  loseEvents(count: number): void {
    for (const left = this.head!.seq - count; this.head!.seq > left; ) this.restart({ lost: 1 });
  }

  /** The answer to the next append of a node is lost. */
  loseAnswer(node: string): void {
    this.network = {
      delay: () => 0,
      timeout: 10,
      fate: (asking, command) => {
        if (asking !== node || command !== 'write') return 'done';
        this.network = undefined;
        return 'unanswered';
      },
    };
  }
}

/** The model of a store that nodes share. */
export const sharedLog: LogHarness<Shared> = {
  order: 'shared',
  create: () => new Shared(),
  open: (store) => store.openNext(),
  faults: {
    drop: (store, topic, seq) => store.trim(topic, store.held(topic).filter((held) => held > seq).length),
    loseTail: (store, count) => store.loseEvents(count),
    disconnect: (store, log) => store.disconnect(store.nodeOf(log)),
    reconnect: (store, log) => store.reconnect(store.nodeOf(log)),
    loseAnswer: (store, log) => store.loseAnswer(store.nodeOf(log)),
    trimFeed: (store) => store.trimFeed(),
  },
};
