// The stream of the model of Redis: entries under ids that grow. An id is one number: 64 bits of time, 64 of
// sequence.

import { Failure } from './reply.ts';

export interface StreamEntry {
  readonly id: bigint;
  /** Names and values in turn. */
  readonly fields: readonly string[];
}

export const MAX_ID: bigint = 2n ** 128n - 1n;
const MAX_PART = 2n ** 64n - 1n;

export class Stream {
  readonly #entries: StreamEntry[] = [];
  /** The greatest id that it ever had. */
  lastId = 0n;

  get size(): number {
    return this.#entries.length;
  }

  add(entry: StreamEntry): void {
    this.#entries.push(entry);
    this.lastId = entry.id;
  }

  /** Entries from one id to another, both included. */
  range(first: bigint, last: bigint): StreamEntry[] {
    return this.#entries.slice(this.#placeOf(first), this.#placeOf(last + 1n));
  }

  /** @returns how many it has removed: all but the newest. */
  keepNewest(count: number): number {
    return this.#entries.splice(0, Math.max(0, this.#entries.length - count)).length;
  }

  /** @returns how many it has removed: all below an id. */
  keepFrom(id: bigint): number {
    return this.#entries.splice(0, this.#placeOf(id)).length;
  }

  delete(id: bigint): boolean {
    const place = this.#placeOf(id);
    return this.#entries[place]?.id === id && this.#entries.splice(place, 1).length === 1;
  }

  /** How many are below an id. */
  #placeOf(id: bigint): number {
    let [low, high] = [0, this.#entries.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#entries[middle]!.id < id) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

export function idOf(time: bigint, sequence: bigint): bigint {
  return (time << 64n) | sequence;
}

export function formatId(id: bigint): string {
  return `${id >> 64n}-${id & MAX_PART}`;
}

/** Reads an id; one without a sequence gets that which is missing. */
export function parseId(text: string, missing: bigint): bigint {
  const match = /^(\d{1,60})(?:-(\d{1,60}))?$/.exec(text);
  const time = match === null ? -1n : partOf(match[1]!);
  const sequence = match?.[2] === undefined ? missing : partOf(match[2]);
  if (time < 0n || sequence < 0n) throw invalidId();
  return idOf(time, sequence);
}

export function invalidId(): Failure {
  return new Failure('ERR Invalid stream ID specified as stream command argument');
}

function partOf(text: string): bigint {
  const part = BigInt(text);
  return part > MAX_PART ? -1n : part;
}
