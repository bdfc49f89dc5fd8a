// The order of a hub's events: its epoch, its newest seq, and the seq at which a returning client continues.
// Needs `protocol.ts` beside it.

import { formatId, type GapReason, parseId, unreadableId } from './protocol.ts';

/** Where delivery to one client begins. */
export interface Start {
  /** Delivery begins after this seq. */
  readonly seq: number;
  /**
   * The id for `sluice:ready`. A returning client gets its own id again: the new position would hide a gap,
   * or a part of the replay, if the connection were cut before they arrived.
   */
  readonly readyId: string;
  /** Why this order cannot continue from the client's id. */
  readonly gap?: GapReason;
  /** The client's last event ID; `null` where it cannot be read. Absent where the client has none. */
  readonly from?: string | null;
}

/** One sequence of places, `<epoch>-1`, `<epoch>-2`, and so on. */
export class Order {
  readonly epoch: number;
  /** The newest seq that an event has. */
  head: number;
  /** The head at the end of the last turn: cursors that are not behind have everything up to here. */
  settled: number;
  #seq = -1;
  #id = '';

  /** @throws {RangeError} when `epoch` is not a whole number ≥ 1, or `head` not one ≥ 0. */
  constructor(epoch: number, head: number) {
    this.epoch = wholeNumber('epoch', epoch, 1);
    this.head = this.settled = wholeNumber('head', head, 0);
  }

  /** The id of the newest event. */
  get position(): string {
    return this.id(this.head);
  }

  /** Memoizes the last id: most calls ask for the head. */
  id(seq: number): string {
    if (seq !== this.#seq) {
      this.#seq = seq;
      this.#id = formatId(this.epoch, seq);
    }
    return this.#id;
  }

  /**
   * Finds where a client with this last event ID continues. Takes constant time and never throws, for any
   * text.
   */
  locate(lastEventId: string): Start {
    const { epoch, head } = this;
    const id = parseId(lastEventId);
    if (id === undefined) return { seq: head, readyId: unreadableId, gap: 'malformed', from: null };
    const own = { readyId: lastEventId, from: lastEventId };
    if (id.epoch !== epoch) return { seq: head, gap: 'unknown-epoch', ...own };
    if (id.seq > head) return { seq: head, gap: 'ahead', ...own };
    return { seq: id.seq, ...own };
  }
}

/**
 * An epoch for an order that begins now: milliseconds and three random digits, so that two hubs that start in
 * the same millisecond do not accept each other's ids.
 */
export function newEpoch(now: () => number, random: () => number): number {
  return Math.max(1, Math.floor(now()) * 1000 + Math.floor(random() * 1000));
}

/** A clock that answers with the real time where the given one throws or answers with no number. */
export function clockOf(now: () => number): () => number {
  return now === Date.now ? now : () => numberOf(now, -Infinity, Infinity) ?? Date.now();
}

/** Numbers from 0 up to 1, also where the given function throws or returns others. */
export function chanceOf(random: () => number): () => number {
  return () => numberOf(random, 0, 1) ?? 0.5;
}

/** Asks a function of the application for a number from `least` up to, but not including, `end`. */
function numberOf(ask: () => number, least: number, end: number): number | undefined {
  try {
    const number = ask();
    return number >= least && number < end && number > -Infinity ? number : undefined;
  } catch {
    return undefined;
  }
}

function wholeNumber(name: string, value: number, least: number): number {
  if (Number.isSafeInteger(value) && value >= least) return value;
  throw new RangeError(`\`${name}\` must be a whole number ≥ ${least}, got ${value}`);
}
