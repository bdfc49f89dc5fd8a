// The connections of one log to Redis, and what their failures mean for what was asked.
// Needs `log.ts` and `redis-client.ts`, and what that needs, beside it.

import { logUnavailable, outcomeUnknown } from './log.ts';
import { openRedis, type RedisConnection, type RedisFailure } from './redis-client.ts';

/** One connection for each: one that waits for news, or has a large answer on its way, does not hold up others. */
export type Use = 'append' | 'read' | 'follow' | 'wait';

/** Opens the connections when they are needed first. Each comes back by itself. */
export class RedisConnections {
  readonly #client: unknown;
  readonly #uses: readonly Use[];
  /** Called where the one that follows is down. The others are missed by who uses them. */
  readonly #onDown: (reason: Error) => void;
  readonly #open = new Map<Use, RedisConnection>();
  readonly #waiting = new Set<(reason: Error | undefined) => void>();
  #isClosed = false;

  constructor(client: unknown, uses: readonly Use[], onDown: (reason: Error) => void) {
    this.#client = client;
    this.#uses = uses;
    this.#onDown = onDown;
  }

  /** @throws {TypeError} for a client that is none. */
  open(): void {
    if (this.#isClosed || this.#open.size > 0) return;
    for (const use of this.#uses) {
      const events = {
        onUp: () => this.#tell(undefined),
        onDown: (reason: Error) => this.#down(use, reason),
      };
      this.#open.set(use, openRedis(this.#client, events));
    }
  }

  get(use: Use): RedisConnection {
    const connection = this.#open.get(use);
    if (connection === undefined) throw logUnavailable('Redis was not reached yet');
    return connection;
  }

  /** Resolves once all are up, or closed. */
  async reached(): Promise<void> {
    while (!this.#isClosed && !this.#isUp) await this.#change();
  }

  /** Resolves once all are up: with `undefined`. Or with the reason why one is not. */
  async settled(timeout: number): Promise<Error | undefined> {
    const limit = performance.now() + timeout;
    while (!this.#isUp) {
      const left = limit - performance.now();
      if (left <= 0 || this.#isClosed) return logUnavailable('Redis was not reached in time');
      const reason = await this.#change(left);
      if (reason !== undefined) return reason;
    }
    return undefined;
  }

  close(): void {
    this.#isClosed = true;
    for (const connection of this.#open.values()) connection.close();
    this.#tell(undefined);
  }

  get #isUp(): boolean {
    return this.#open.size > 0 && [...this.#open.values()].every(({ isUp }) => isUp);
  }

  #change(timeout?: number): Promise<Error | undefined> {
    return new Promise((resolve) => {
      const done = (reason?: Error): void => {
        clearTimeout(timer);
        this.#waiting.delete(done);
        resolve(reason);
      };
      const timer = timeout === undefined ? undefined : setTimeout(done, timeout);
      this.#waiting.add(done);
    });
  }

  #down(use: Use, reason: Error): void {
    if (use === 'follow') this.#onDown(reason);
    this.#tell(reason);
  }

  #tell(reason: Error | undefined): void {
    for (const done of [...this.#waiting]) done(reason);
  }
}

// ── failures ────────────────────────────────────────────────────────────────────────────────────────────────

/** What a server answers while it is not ready, or not the one that has the keys. `SPOILED` is a script's answer. */
const PASSING = [
  ...['TRYAGAIN', 'MOVED', 'ASK', 'CLUSTERDOWN', 'LOADING', 'MASTERDOWN', 'READONLY', 'BUSY', 'NOSCRIPT'],
  'SPOILED',
];

/** What it answers where it has run nothing. */
const REFUSED = ['OOM', 'NOPERM', 'NOAUTH', 'WRONGPASS', 'WRONGTYPE', 'MISCONF', 'NOREPLICAS', 'CROSSSLOT'];

/** Whether the command certainly was not run, and may be soon. */
export function isPassing(error: unknown): boolean {
  const { kind, reply = '' } = Object(error) as Partial<RedisFailure>;
  return kind === 'unsent' || (kind === 'reply' && PASSING.includes(reply));
}

/** What a failure of a command that writes means for what it was to write. */
export function outcomeOf(error: unknown): unknown {
  const { kind, reply = '', message } = Object(error) as RedisFailure;
  if (kind === undefined) return error;
  if (isPassing(error) || REFUSED.includes(reply))
    return logUnavailable(`Redis does not take events at present: ${message}`, error);
  return outcomeUnknown(`Redis may have taken the events or not: ${message}`, error);
}

/** What a failure of a command that reads means. */
export function readFailure(error: unknown): unknown {
  const { kind, message } = Object(error) as RedisFailure;
  return kind === undefined ? error : logUnavailable(`Redis cannot be read at present: ${message}`, error);
}

/** Milliseconds between two attempts. */
const RETRY_DELAY = 30;

/** Runs a command, again where it certainly was not run and soon may. */
export async function retryUntil<T>(
  limit: number,
  run: (timeout: number) => Promise<T>,
  beforeNext: (error: unknown) => Promise<void> = pause,
): Promise<T> {
  const isLate = () => performance.now() + RETRY_DELAY >= limit;
  for (;;) {
    try {
      return await run(Math.max(1, limit - performance.now()));
    } catch (error) {
      if (!isPassing(error) || isLate()) throw error;
      await beforeNext(error);
      // Without time for an answer, what certainly was not run would become what nobody knows.
      if (isLate()) throw error;
    }
  }
}

export function pause(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, RETRY_DELAY));
}
