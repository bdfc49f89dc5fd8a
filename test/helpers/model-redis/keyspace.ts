// The keys of the model of Redis, each with a value of one type, and perhaps an end.

import { wrongType } from './reply.ts';
import { SortedSet } from './sorted-set.ts';
import { Stream } from './stream.ts';

export type Hash = Map<string, string>;
export type Value = string | string[] | Hash | SortedSet | Stream;

interface Slot {
  value: Value;
  /** In milliseconds since 1970. */
  expiresAt: number | undefined;
}

export class Keyspace {
  readonly #slots: Map<string, Slot> = new Map();
  /** Called when a key is found to be over. */
  onExpired: (key: string) => void = () => {};
  /** A replica leaves that to its primary. */
  expires = true;
  /** How often something has changed. */
  changes = 0;
  /** The streams that have grown. */
  readonly grown: Set<string> = new Set();

  find(key: string): Value | undefined {
    return this.#live(key)?.value;
  }

  set(key: string, value: Value, expiresAt?: number): void {
    this.#slots.set(key, { value, expiresAt });
    this.changes++;
  }

  delete(key: string): boolean {
    const isThere = this.#live(key) !== undefined && this.#slots.delete(key);
    if (isThere) this.changes++;
    return isThere;
  }

  clear(): void {
    this.#slots.clear();
    this.changes++;
  }

  expiryOf(key: string): number | undefined {
    return this.#live(key)?.expiresAt;
  }

  setExpiry(key: string, expiresAt: number | undefined): void {
    const slot = this.#live(key);
    if (slot === undefined) return;
    slot.expiresAt = expiresAt;
    this.changes++;
  }

  /** All keys that are not over. */
  keys(): string[] {
    return [...this.#slots.keys()].filter((key) => this.#live(key) !== undefined);
  }

  string(key: string): string | undefined {
    const value = this.find(key);
    if (value !== undefined && typeof value !== 'string') throw wrongType();
    return value;
  }

  list(key: string): string[] | undefined {
    const value = this.find(key);
    if (value !== undefined && !Array.isArray(value)) throw wrongType();
    return value;
  }

  hash(key: string): Hash | undefined {
    return this.#ofClass(key, Map) as Hash | undefined;
  }

  sortedSet(key: string): SortedSet | undefined {
    return this.#ofClass(key, SortedSet);
  }

  stream(key: string): Stream | undefined {
    return this.#ofClass(key, Stream);
  }

  /** The value of a key that a command adds to: a new one where there is none. */
  grow<T extends Value>(key: string, found: T | undefined, make: () => T): T {
    const value = found ?? make();
    if (found === undefined) this.set(key, value);
    return value;
  }

  /** Removes a key of which nothing is left. */
  dropEmpty(key: string, size: number): void {
    if (size === 0) this.#slots.delete(key);
  }

  #ofClass<T extends Value>(key: string, type: new (...args: never[]) => T): T | undefined {
    const value = this.find(key);
    if (value === undefined) return undefined;
    if (!(value instanceof type)) throw wrongType();
    return value;
  }

  #live(key: string): Slot | undefined {
    const slot = this.#slots.get(key);
    if (slot?.expiresAt === undefined || !this.expires || slot.expiresAt > Date.now()) return slot;
    this.#slots.delete(key);
    this.onExpired(key);
    return undefined;
  }
}

export function typeOf(value: Value | undefined): string {
  if (value === undefined) return 'none';
  if (typeof value === 'string') return 'string';
  if (Array.isArray(value)) return 'list';
  if (value instanceof SortedSet) return 'zset';
  return value instanceof Stream ? 'stream' : 'hash';
}
