// A shared log that a test moves by hand, and a hub that follows it.

import type { Hub, HubOptions } from '../../lib/hub.ts';
import type {
  Appended,
  LogChange,
  LogEntry,
  LogIntake,
  LogPage,
  SharedLog,
  TopicRecord,
} from '../../lib/log.ts';
import { EPOCH, handRun, type Turns } from './hub.ts';

/** A shared log moved by hand: the test is the others who write to it, and the network. */
export class HandLog implements SharedLog {
  readonly order = 'shared';
  intake!: LogIntake;
  entries: LogEntry[] = [];
  head = 0;
  readonly dropped: Map<string, number> = new Map();
  readonly ended: Set<string> = new Set();
  asked: string[] = [];
  appended: string[] = [];
  lag: number | undefined;
  /** May hold an answer back, or fail. */
  answer: <T>(look: () => T) => Promise<T> = async (look) => look();

  follow(intake: LogIntake): void {
    this.intake = intake;
  }

  /** Somebody publishes: `a1` is the next event of topic `a`. */
  write(...texts: string[]): LogEntry[] {
    return texts.map((text) => {
      const frame = Buffer.from(`data: ${text}\n\n`);
      const entry = { seq: ++this.head, topic: text[0]!, at: 0, frame, key: undefined };
      this.entries.push(entry);
      return entry;
    });
  }

  /** And this hub hears of it. */
  tell(...texts: string[]): void {
    this.intake.accept(this.write(...texts));
  }

  changeTo(topic: string, change: LogChange['change']): LogChange {
    if (change === 'end') this.ended.add(topic);
    else this.ended.delete(topic);
    return { seq: ++this.head, topic, change };
  }

  /** Goes on in another epoch, without anything of the one before. */
  renew(epoch: number, oldEnd: number): void {
    this.entries = [];
    this.head = 0;
    this.intake.renew(epoch, oldEnd);
  }

  async append(topic: string, events: readonly unknown[]): Promise<Appended> {
    this.appended.push(topic);
    return { epoch: EPOCH, first: this.head + 1, count: events.length };
  }

  async change(): Promise<boolean> {
    return true;
  }

  read(topics: readonly string[], after: number, maxBytes: number): Promise<LogPage> {
    this.asked.push(`read after ${after}`);
    return this.answer(() => {
      const rest = this.entries.filter(({ topic, seq }) => seq > after && topics.includes(topic));
      const entries = rest.slice(0, maxBytes < 100 ? 1 : 1000);
      const until = entries.length === rest.length ? this.head : entries.at(-1)!.seq;
      const dropped = topics
        .map((topic) => ({ topic, seq: this.dropped.get(topic) ?? 0 }))
        .filter(({ seq }) => seq > after);
      return { entries, until, dropped };
    });
  }

  find(topics: readonly string[]): Promise<TopicRecord[]> {
    this.asked.push(`find ${topics.join()}`);
    return this.answer(() =>
      topics.flatMap((topic) => {
        const held = this.entries.filter((entry) => entry.topic === topic);
        if (held.length === 0 && !this.ended.has(topic)) return [];
        const last = held.at(-1)?.seq ?? 0;
        const dropped = this.dropped.get(topic) ?? 0;
        return { topic, last, dropped, ended: this.ended.has(topic), events: held.length, bytes: 0 };
      }),
    );
  }

  list(): Promise<TopicRecord[]> {
    return this.find([...new Set(this.entries.map(({ topic }) => topic))]);
  }

  beforeNewest(topics: readonly string[], count: number): Promise<number> {
    return this.answer(() => {
      const held = this.entries.filter(({ topic }) => topics.includes(topic));
      return count === 0 || held.length === 0 ? this.head : (held.at(-count) ?? held[0]!).seq - 1;
    });
  }
}

export interface Following {
  readonly log: HandLog;
  readonly hub: Hub;
  readonly turns: Turns;
  readonly errors: string[];
  /** Runs turns and lets promises settle until there is nothing to do. */
  readonly rest: () => Promise<void>;
}

/** A hub that follows such a log, which has not said where its order is. */
export function following(options: HubOptions = {}): Following {
  const log = new HandLog();
  const errors: string[] = [];
  const onError: HubOptions['onError'] = (error, { task }) =>
    errors.push(`${task}: ${(error as Error).message}`);
  const { hub, turns } = handRun({ log, onError, ...options });
  const rest = async (): Promise<void> => {
    for (let i = 0; i < 10; i++) {
      turns.all();
      await new Promise((resolve) => setImmediate(resolve));
    }
  };
  return { log, hub, turns, errors, rest };
}

/** The same, where it has: at the beginning. */
export function begun(options: HubOptions = {}): Following {
  const all = following(options);
  all.log.intake.renew(EPOCH, 0);
  return all;
}
