// The order of a hub's events: its epochs, its newest seq, and the seq at which a returning client continues.
// Needs `protocol.ts` beside it.
//
// A hub counts its events from 1, over all epochs. An id says how far an event is from the beginning of its epoch:
//
//     epoch 17…004, base 0           epoch 17…311, base 6
//     1     2     3     4     5   ║  6     7     8          seqs
//     …4-1  …4-2  …4-3  …4-4  …4-5║ …11-0 …11-1 …11-2       ids
//                       end ▲     ║ ▲ the boundary, which each reader below it is told of once

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
  /** The id is of this order's future: one that follows another process may know it soon. */
  readonly isAhead?: boolean;
  /** The client's last event ID; `null` where it cannot be read. Absent where the client has none. */
  readonly from?: string | null;
}

/** A part of an order. Its ids count from `base`. */
export interface Epoch {
  readonly epoch: number;
  /** The seq of `<epoch>-0`. */
  readonly base: number;
  /** The newest seq that was kept when the next epoch began; `undefined` in the present one. */
  readonly end?: number | undefined;
}

interface Parent extends Epoch {
  readonly end: number;
}

/** One sequence of places, `<epoch>-1`, `<epoch>-2`, and so on, which may go on in another epoch. */
export class Order {
  /** The newest seq that an event has. */
  head: number;
  /** The head at the end of the last turn: cursors that are not behind have everything up to here. */
  settled: number;
  #epoch = 0;
  #base = 0;
  /** The epochs before, newest first. */
  #parents: Parent[] = [];
  #seq = -1;
  #id = '';

  /**
   * @param epochs - Oldest first; the last is the present one. None: not known yet, which `epoch` 0 stands for.
   * @throws {RangeError} when an epoch is not a whole number ≥ 1, `head` or a base not one ≥ 0, an epoch that is not
   *   the last has no `end`, or these are not in order.
   */
  constructor(epochs: readonly Epoch[], head: number) {
    let least = 0;
    for (const { epoch, base, end } of epochs) {
      this.#epoch = wholeNumber('epoch', epoch, 1);
      this.#base = wholeNumber('base', base, least);
      if (epoch === epochs.at(-1)?.epoch) break;
      this.#parents.unshift({ epoch, base, end: wholeNumber('end', end as number, base) });
      least = (end as number) + 1;
    }
    this.head = this.settled = wholeNumber('head', head, this.#base);
    this.#parents = this.#parents.slice(0, MAX_PARENTS);
  }

  get epoch(): number {
    return this.#epoch;
  }

  /** The seq of `<epoch>-0`: a reader below it is in an epoch before. */
  get base(): number {
    return this.#base;
  }

  /** The id of the newest event. */
  get position(): string {
    return this.id(this.head);
  }

  /** Memoizes the last id: most calls ask for the head. */
  id(seq: number): string {
    if (seq !== this.#seq) {
      this.#seq = seq;
      this.#id = seq >= this.#base ? formatId(this.#epoch, seq - this.#base) : this.#olderId(seq);
    }
    return this.#id;
  }

  #olderId(seq: number): string {
    const parent = this.#parents.find(({ base }) => base <= seq);
    return parent === undefined ? unreadableId : formatId(parent.epoch, seq - parent.base);
  }

  /**
   * The newest seq that was kept of the epoch in which a seq is: a reader there gets what came up to it, and is
   * then told of the boundary. `Infinity` in the present epoch.
   */
  endOf(seq: number): number {
    if (seq >= this.#base) return Infinity;
    return this.#parents.find(({ base }) => base <= seq)?.end ?? seq;
  }

  /** The boundary behind a seq of an epoch before: the seq of the next epoch's `<epoch>-0`. */
  baseAfter(seq: number): number {
    let next = this.#base;
    for (const { base } of this.#parents) if (base > seq) next = base;
    return next;
  }

  /**
   * Goes on in another epoch, whose `<epoch>-0` is the next seq. Of the present one, what came after `oldEnd` (a
   * seq) may be lost.
   */
  renew(epoch: number, oldEnd: number): void {
    if (this.#epoch !== 0) {
      const end = Math.max(this.#base, Math.min(oldEnd, this.head));
      const parent = { epoch: this.#epoch, base: this.#base, end };
      this.#parents = [parent, ...this.#parents].slice(0, MAX_PARENTS);
      this.head++;
    }
    this.#epoch = epoch;
    this.#base = this.head;
    this.#seq = -1;
  }

  /**
   * Finds where a client with this last event ID continues. Takes constant time and never throws, for any
   * text.
   */
  locate(lastEventId: string): Start {
    const id = parseId(lastEventId);
    const { head } = this;
    if (id === undefined) return { seq: head, readyId: unreadableId, gap: 'malformed', from: null };
    const own = { readyId: lastEventId, from: lastEventId };
    if (id.epoch === this.#epoch) {
      const seq = this.#base + id.seq;
      return seq <= head ? { seq, ...own } : { seq: head, gap: 'ahead', isAhead: true, ...own };
    }
    const parent = this.#parents.find(({ epoch }) => epoch === id.epoch);
    if (parent === undefined) {
      const isAhead = id.epoch > this.#epoch;
      return { seq: head, gap: 'unknown-epoch', ...(isAhead && { isAhead }), ...own };
    }
    const seq = parent.base + id.seq;
    if (seq <= parent.end) return { seq, ...own };
    // It has events that were lost.
    return { seq: this.baseAfter(parent.base), gap: 'store-changed', ...own };
  }
}

/** Clients with an id of an older one get the gap of an epoch that is not known. */
const MAX_PARENTS = 64;

/**
 * An epoch for an order that begins now: milliseconds and three random digits, so that two hubs that start in
 * the same millisecond do not accept each other's ids.
 */
export function newEpoch(now: () => number, random: () => number): number {
  return Math.max(1, Math.floor(now()) * 1000 + Math.floor(random() * 1000));
}

/** A clock that answers with the real time where the given one throws or answers with no number. */
export function clockOf(now: () => number = systemTime): () => number {
  return now === systemTime ? now : () => numberOf(now, -Infinity, Infinity) ?? Date.now();
}

/** Looks `Date.now` up anew: a test may replace it while the hub lives. */
const systemTime = (): number => Date.now();

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
