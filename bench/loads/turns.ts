// Publishes events in turns, each at the time at which it is due.

import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import { type Filling, now, textOf } from './texts.ts';

export interface Turns {
  readonly topics: number;
  /** Events to each topic in a turn. */
  readonly batch: number;
  /** Microseconds from the start of a turn to the next; 0: the next starts when the last is over. */
  readonly interval: number;
  /** Milliseconds; 0: one turn. */
  readonly duration: number;
  readonly bytes: number;
  readonly filling: Filling;
}

export interface Publisher {
  publish(topic: string, texts: readonly string[]): void;
  /** Resolves when it takes more; default: always. */
  ready?(): Promise<void>;
  /** Resolves when a turn is over; default: at the next turn of the event loop. */
  turnOver?(): Promise<void>;
  /** Resolves when all turns are over; default: at once. */
  settled?(): Promise<void>;
}

/** Microseconds. Turns at least this far apart begin exactly on time; closer ones use cheaper timers. */
const RARE = 20_000;

/**
 * Timers are exact to a millisecond and may fire early, so an exact wait spends its last 2 ms in event-loop
 * turns.
 */
async function until(due: number, isExact: boolean): Promise<void> {
  for (let early = due - now(); early > 0; early = due - now()) {
    if (!isExact) await sleep(Math.ceil(early / 1000));
    else if (early > 2000) await sleep(Math.floor(early / 1000) - 2);
    else await nextTurn();
  }
}

const published = new WeakMap<Publisher, Map<string, number>>();

/** @returns the number of turns, and the microseconds from the first one's begin until all are over. */
export async function takeTurns(
  publisher: Publisher,
  { topics, batch, interval, duration, bytes, filling }: Turns,
): Promise<{ turns: number; elapsed: number }> {
  const sent = published.get(publisher) ?? new Map<string, number>();
  published.set(publisher, sent);
  const begin = now();
  const end = begin + duration * 1000;
  let turns = 0;
  for (let due = begin; due < end || turns === 0; due = interval > 0 ? begin + turns * interval : now()) {
    await until(due, interval >= RARE);
    for (let i = 0; i < topics; i++) {
      if (publisher.ready) await publisher.ready();
      const first = (sent.get(`t${i}`) ?? 0) + 1;
      sent.set(`t${i}`, first + batch - 1);
      publisher.publish(
        `t${i}`,
        Array.from({ length: batch }, (_, k) => textOf(first + k, due, bytes, filling)),
      );
    }
    turns++;
    await (publisher.turnOver?.() ?? nextTurn());
  }
  await publisher.settled?.();
  return { turns, elapsed: now() - begin };
}
