// The connections of one log to Redis, and what their failures mean for what was asked.
// Needs `log.ts` and `redis-client.ts`, and what that needs, beside it.

import { logUnavailable, outcomeUnknown } from './log.ts';
import {
  hasSentinels,
  type OpenedRedis,
  openRedis,
  type RedisConnection,
  type RedisFailure,
} from './redis-client.ts';

/** One connection for each: one that waits for news, or has a large answer on its way, does not hold up others. */
export type Use = 'append' | 'read' | 'follow' | 'wait';

/** Opens the connections when they are needed first. Each comes back by itself. */
export class RedisConnections {
  readonly #client: unknown;
  readonly #uses: readonly Use[];
  /** Called where the one that follows is down. The others are missed by who uses them. */
  readonly #onDown: (reason: Error) => void;
  readonly #open = new Map<Use, OpenedRedis>();
  readonly #waiting = new Set<(reason: Error | undefined) => void>();
  /** The one that finds out which server the Sentinels name. */
  #scout: RedisConnection | undefined;
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

  /**
   * Leaves a server that the Sentinels do not name any more. One that was replaced as planned takes events for some
   * seconds more, and all of them are lost.
   *
   * Each connection is asked at once, before anything waits on it.
   */
  leaveReplaced(): void {
    if (this.#isClosed || this.#scout !== undefined || !hasSentinels(this.#client)) return;
    const named = this.#namedServer();
    for (const connection of this.#open.values()) {
      const own = serverOf(connection);
      Promise.all([own, named]).then(
        (servers) => {
          if (isReplaced(...servers)) connection.reset('the Sentinels name another primary');
        },
        // The next check asks again.
        () => {},
      );
    }
  }

  /** Where a new connection leads. */
  #namedServer(): Promise<RedisServer> {
    return new Promise((resolve, reject) => {
      const done = (): void => {
        scout.close();
        this.#scout = undefined;
      };
      const scout = openRedis(this.#client, {
        onUp: () => serverOf(scout).finally(done).then(resolve, reject),
        onDown: (reason) => {
          done();
          reject(reason);
        },
      });
      this.#scout = scout;
    });
  }

  close(): void {
    this.#isClosed = true;
    this.#scout?.close();
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

// ── which server it is ──────────────────────────────────────────────────────────────────────────────────────

/** Whose data a server has, by its `INFO`. */
interface RedisServer {
  readonly isPrimary: boolean;
  readonly id: string;
  /** That of the primary from which it took over. */
  readonly before: string;
}

async function serverOf(connection: RedisConnection): Promise<RedisServer> {
  // On the connection that waits for replicas, the answer comes after theirs.
  const options = { key: '', timeout: MAX_DELAY };
  const info = String(await connection.send(['INFO', 'replication'], options));
  const field = (name: string): string => new RegExp(`^${name}:(\\w+)`, 'm').exec(info)?.[1] ?? '';
  return {
    isPrimary: field('role') === 'master',
    id: field('master_replid'),
    before: field('master_replid2'),
  };
}

/** Not where it is itself the newer one, and the Sentinel that was asked has not heard of it yet. */
function isReplaced(own: RedisServer, named: RedisServer): boolean {
  if (!named.isPrimary || named.id === '' || own.id === '') return false;
  return own.id !== named.id && own.before !== named.id;
}

/** The longest time that a timer can wait. */
const MAX_DELAY = 2 ** 31 - 1;

// ── failures ────────────────────────────────────────────────────────────────────────────────────────────────

/** What a server answers while it is not ready, or not the one that has the keys. `SPOILED` is a script's answer. */
const PASSING = [
  ...['TRYAGAIN', 'MOVED', 'ASK', 'CLUSTERDOWN', 'LOADING', 'MASTERDOWN', 'READONLY', 'BUSY', 'NOSCRIPT'],
  'SPOILED',
];

/** Whether the command certainly was not run, and may be soon. */
export function isPassing(error: unknown): boolean {
  const { kind, reply = '' } = Object(error) as Partial<RedisFailure>;
  return kind === 'unsent' || (kind === 'reply' && PASSING.includes(reply));
}

/** What it answers where it is full, cannot write to its disk, or lacks the replicas that it must have. */
const TAKES_NONE = ['OOM', 'MISCONF', 'NOREPLICAS'];

/** What it answers where it has run nothing. */
const REFUSED = [...TAKES_NONE, 'NOPERM', 'NOAUTH', 'WRONGPASS', 'WRONGTYPE', 'CROSSSLOT'];

/** Whether the server can be read, and has said that it takes no events at present. */
export function takesNone(error: unknown): boolean {
  const { reply = '' } = Object(error) as Partial<RedisFailure>;
  return TAKES_NONE.includes(reply);
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
