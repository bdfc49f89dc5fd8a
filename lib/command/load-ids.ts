// Compares the events of many streams by their ids: which ones a stream lacks, and which came twice.
// Needs `../ledger.ts` and `../protocol.ts` beside it.

import type { Place } from '../ledger.ts';
import { formatId } from '../protocol.ts';

/** What a stream has received in one piece of the order: events above `start`, up to `last`. */
interface Piece {
  readonly epoch: number;
  readonly start: number;
  last: number;
  count: number;
}

/** What no server can make a comparison exceed: it covers what came before that. */
const MAX_COMPARED = 500_000;
const MAX_PIECES = 100_000;
const MAX_EXAMPLES = 10;

/** The events that any of the streams has received. */
export class SeenEvents {
  size = 0;
  #pieces = 0;
  readonly #epochs = new Map<number, Set<number>>();
  #newest: Place | undefined;
  #marked: Place | undefined;
  #due: Place | undefined;
  readonly #maxCompared: number;

  constructor(maxCompared: number = MAX_COMPARED) {
    this.#maxCompared = maxCompared;
  }

  /** Whether nothing more is compared. */
  get isFull(): boolean {
    return this.size >= this.#maxCompared || this.#pieces >= MAX_PIECES;
  }

  add(place: Place): void {
    const seqs = this.#epochs.get(place.epoch) ?? new Set();
    if (seqs.has(place.seq)) return;
    if (seqs.size === 0) this.#epochs.set(place.epoch, seqs);
    seqs.add(place.seq);
    this.size++;
    const isOlder = this.#newest?.epoch === place.epoch && place.seq < this.#newest.seq;
    if (!isOlder) this.#newest = place;
  }

  /** Counts one more piece against the limit. */
  addPiece(): void {
    this.#pieces++;
  }

  /** Called once a second: what was new two calls ago should have reached every stream. */
  tick(): void {
    this.#due = this.#marked;
    this.#marked = this.#newest;
  }

  /** Compares the records, whose streams are numbered from 1. */
  compare(records: readonly StreamRecord[]): Comparison {
    const known = new Map(
      Array.from(this.#epochs, ([epoch, seqs]) => [epoch, Float64Array.from(seqs).sort()]),
    );
    const within = (epoch: number, after: number, until: number): number => {
      const seqs = known.get(epoch) ?? new Float64Array();
      return Math.max(0, notAbove(seqs, until) - notAbove(seqs, after));
    };
    const examples: string[] = [];
    let [lost, behind, duplicates] = [0, 0, 0];
    for (const [i, record] of records.entries()) {
      duplicates += record.duplicates;
      if (this.#due !== undefined && record.isBehind(this.#due)) behind++;
      for (const { epoch, start, last, count } of record.pieces) {
        const expected = within(epoch, start, last);
        if (expected <= count) continue;
        lost += expected - count;
        const range = `after ${formatId(epoch, start)} up to ${formatId(epoch, last)}`;
        if (examples.length < MAX_EXAMPLES)
          examples.push(`stream ${i + 1} lacks ${expected - count} of the ${expected} events ${range}`);
      }
    }
    return { compared: this.size, isComplete: !this.isFull, lost, duplicates, behind, examples };
  }
}

export interface Comparison {
  /** How many different events there were. */
  readonly compared: number;
  /** `false`: there were more events than can be held, and only the first ones were compared. */
  readonly isComplete: boolean;
  /** Events that a stream lacks although others have them and it has later ones. */
  readonly lost: number;
  /** Events whose ids do not come after the one before. */
  readonly duplicates: number;
  /** Streams that lack something that others had more than a second before the end. */
  readonly behind: number;
  readonly examples: readonly string[];
}

/**
 * What one stream has received, over all its connections. It holds a piece for each stretch between two gaps,
 * not the events: how many it lacks follows from how many it should have.
 */
export class StreamRecord {
  duplicates = 0;
  readonly #seen: SeenEvents;
  readonly #closed: Piece[] = [];
  #piece: Piece | undefined;
  #last: Place | undefined;

  constructor(seen: SeenEvents) {
    this.#seen = seen;
  }

  get pieces(): readonly Piece[] {
    return this.#piece === undefined ? this.#closed : [...this.#closed, this.#piece];
  }

  /** The stream says that it continues from here. A later connection does not change what is expected. */
  ready(place: Place): void {
    if (this.#piece === undefined && this.#last === undefined) this.#begin(place);
  }

  /** The stream says that events up to here may be lost. */
  gap(to: Place | undefined): void {
    if (to !== undefined) this.#begin(to);
    else this.#close();
  }

  take(place: Place): void {
    if (this.#seen.isFull) return;
    const { epoch, seq } = place;
    if (this.#last?.epoch === epoch && seq <= this.#last.seq) {
      this.duplicates++;
      return;
    }
    this.#last = place;
    this.#seen.add(place);
    // Without a position before it, what others had before this event is not expected.
    if (this.#piece?.epoch !== epoch) this.#begin({ epoch, seq: seq - 1 });
    // Of several topics, those that lost nothing have events within the gap of the others.
    if (seq <= this.#piece!.start) return;
    this.#piece!.last = seq;
    this.#piece!.count++;
  }

  isBehind({ epoch, seq }: Place): boolean {
    return this.#piece?.epoch === epoch && this.#piece.last < seq;
  }

  #begin({ epoch, seq }: Place): void {
    this.#close();
    this.#seen.addPiece();
    this.#piece = { epoch, start: seq, last: seq, count: 0 };
  }

  #close(): void {
    if (this.#piece !== undefined && this.#piece.count > 0) this.#closed.push(this.#piece);
    this.#piece = undefined;
  }
}

/** How many numbers of a sorted list are at or below a limit. */
function notAbove(sorted: Float64Array, limit: number): number {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (sorted[middle]! <= limit) low = middle + 1;
    else high = middle;
  }
  return low;
}
