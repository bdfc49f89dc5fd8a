// Waits until replicas have what was appended to a log in Redis.
// Needs `log.ts` and `redis-client.ts`, and what that needs, beside it.

import { outcomeUnknown } from './log.ts';
import type { RedisConnection } from './redis-client.ts';

export interface RedisReplicasOptions {
  readonly replicas: number;
  /** Milliseconds. */
  readonly timeout: number;
  /** Nobody else uses it: the server answers nothing on it meanwhile. */
  readonly connection: () => RedisConnection;
  /** A key that lives as long as an append may wait. */
  readonly key: string;
}

/** What the server is asked beside to wait, and the way to it. */
const SPARE_TIMEOUT = 1000;

/** One wait at a time. All that was appended before it begins shares it. */
export class RedisReplicas {
  readonly #options: RedisReplicasOptions;
  #running: Promise<void> = Promise.resolve();
  #next: Promise<void> | undefined;

  constructor(options: RedisReplicasOptions) {
    this.#options = options;
  }

  /** Rejects with `ERR_SSE_OUTCOME_UNKNOWN` where too few have it in time. */
  reached(): Promise<void> {
    this.#next ??= this.#running
      .catch(() => {})
      .then(() => {
        this.#running = this.#next!;
        this.#next = undefined;
        return this.#wait();
      });
    return this.#next;
  }

  /** `WAIT` is about what its own connection has written: so that writes something first, behind the appends. */
  async #wait(): Promise<void> {
    const { replicas, timeout, connection, key } = this.#options;
    try {
      const options = { key, timeout: timeout + SPARE_TIMEOUT };
      const own = connection();
      const wrote = own.send(['PEXPIRE', key, String(KEY_AGE)], options);
      const waited = own.send(['WAIT', String(replicas), String(timeout)], options);
      const [isThere, reached] = await Promise.all([wrote, waited]);
      if (Number(isThere) !== 1) throw new Error('this server does not have it');
      if (Number(reached) >= replicas) return;
      throw new Error(`${Number(reached)} of ${replicas} replicas have it after ${timeout} ms`);
    } catch (error) {
      const { message } = error as Error;
      throw outcomeUnknown(`what was appended may not be on enough replicas: ${message}`, error);
    }
  }
}

/** Milliseconds for which the key is kept. */
const KEY_AGE = 600_000;
