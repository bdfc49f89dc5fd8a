// How a server under test publishes what it is told to: turn after turn, each when its time has come.

import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import { type Filling, now, textOf } from './texts.ts';

export interface Turns {
  readonly topics: number;
  /** Events to each topic in a turn. */
  readonly batch: number;
  /** Microseconds between two turns; 0: when the last is over. */
  readonly interval: number;
  /** Milliseconds; 0: one turn. */
  readonly duration: number;
  readonly bytes: number;
  readonly filling: Filling;
}

export interface Publisher {
  publish(topic: string, texts: readonly string[]): void;
  /** Resolves when a turn is over; default: when this turn of the event loop is. */
  turnOver?(): Promise<void>;
}

const published = new WeakMap<Publisher, Map<string, number>>();

/** @returns how many turns there were, and the microseconds since the first began. */
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
    // A timer may fire up to a millisecond before its time.
    for (let early = due - now(); early > 0; early = due - now()) await sleep(Math.ceil(early / 1000));
    for (let i = 0; i < topics; i++) {
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
  return { turns, elapsed: now() - begin };
}
