// Two intakes of a shared log: one that keeps what it is told, and one that holds it back from its hub.
// Needs `log.ts` beside it.

import type { LogChange, LogEntry, LogIntake, SharedLog } from './log.ts';

/** The intake of a node without a hub: keeps what it is told, and notes what breaks the order. */
export class Heard implements LogIntake {
  epoch = 0;
  /** Entries up to this seq were accepted or skipped. */
  position = 0;
  isAway = false;
  readonly entries: (LogEntry | LogChange)[] = [];
  readonly renewals: { readonly epoch: number; readonly oldEnd: number; readonly after: number }[] = [];
  /** Up to where something was skipped. */
  skipped = 0;
  readonly wrongs: string[] = [];
  isOver = false;

  accept(entries: readonly (LogEntry | LogChange)[]): void {
    this.#called('accept');
    for (const entry of entries) {
      if (entry.seq <= this.position) continue;
      if (entry.seq > this.position + 1) this.wrongs.push(`${entry.seq} came after ${this.position}`);
      this.position = entry.seq;
      this.entries.push(entry);
    }
  }

  skip(seq: number): void {
    this.#called('skip');
    this.position = Math.max(this.position, seq);
    this.skipped = Math.max(this.skipped, seq);
  }

  renew(epoch: number, oldEnd: number): void {
    if (this.isOver) this.wrongs.push('`renew` was called after `close`');
    this.renewals.push({ epoch, oldEnd, after: this.position });
    this.epoch = epoch;
    this.position = 0;
    this.skipped = 0;
  }

  away(): void {
    this.isAway = true;
  }

  back(): void {
    this.isAway = false;
  }

  #called(verb: string): void {
    if (this.epoch === 0) this.wrongs.push(`\`${verb}\` was called before \`renew\``);
    if (this.isOver) this.wrongs.push(`\`${verb}\` was called after \`close\``);
  }
}

/** Holds back what a shared log tells its hub. */
export class Gate {
  isShut = false;
  readonly #held: (() => void)[] = [];

  before(log: SharedLog): SharedLog {
    const pass = (tell: () => void): void => {
      if (this.isShut) this.#held.push(tell);
      else tell();
    };
    return {
      order: 'shared',
      follow: (intake) =>
        log.follow({
          accept: (entries) => pass(() => intake.accept(entries)),
          skip: (seq) => pass(() => intake.skip(seq)),
          renew: (epoch, oldEnd) => pass(() => intake.renew(epoch, oldEnd)),
          away: (error) => pass(() => intake.away(error)),
          back: () => pass(() => intake.back()),
        }),
      append: (topic, events, options) => log.append(topic, events, options),
      change: (topic, change) => log.change(topic, change),
      read: (topics, after, maxBytes, options) => log.read(topics, after, maxBytes, options),
      find: (topics) => log.find(topics),
      list: (options) => log.list(options),
      beforeNewest: (topics, count) => log.beforeNewest(topics, count),
      close: async () => log.close?.(),
    };
  }

  open(): void {
    for (const tell of this.#held.splice(0)) tell();
  }
}
