// The log in memory, as the contract opens it.

import type { HistoryLimits } from '../../lib/history-limits.ts';
import type { LogEntry } from '../../lib/log.ts';
import type { LogHarness } from '../../lib/log-contract.ts';
import { MemoryLog } from '../../lib/memory-log.ts';

/** What outlives the hubs of a clause: the log itself. Nothing of it outlives its process. */
class Memory {
  /** Of a topic that loses something just now. */
  readonly #limits = new Map<string, HistoryLimits>();
  readonly log: MemoryLog = new MemoryLog({
    maxTopics: 20,
    history: (topic) => this.#limits.get(topic) ?? {},
  });

  /** Lowers the limit of a topic for a moment. */
  drop(topic: string, seq: number): void {
    const { entries } = this.log.read([topic], seq, Infinity, { newestOnly: false });
    this.#limits.set(topic, entries.length > 0 ? { maxEvents: entries.length } : OVER);
    this.log.find([topic]);
    this.#limits.clear();
  }

  /** Publishes to so many topics that the one which was silent for longest is forgotten. */
  forget(topic: string): void {
    for (let i = 0; this.log.find([topic]).length > 0; i++) this.log.append([this.#entry(`other ${i}`)], []);
  }

  #entry(topic: string): LogEntry {
    const frame = Buffer.from('data: other\n\n');
    return { seq: this.log.head + 1, topic, at: Date.now(), frame, key: undefined };
  }
}

/** Every event is too old. */
const OVER: HistoryLimits = { maxAge: 1 };

export const memoryLog: LogHarness<Memory> = {
  order: 'own',
  create: () => new Memory(),
  open: ({ log }) => log,
  recall: true,
  faults: {
    drop: (store, topic, seq) => store.drop(topic, seq),
    forget: (store, topic) => store.forget(topic),
  },
};
