// Sends commands over one connection to Redis, and says of each that failed whether it may have been executed.
// Needs `redis-wire.ts` beside it.

import type { OpenRedisWire, RedisAddress, RedisWire, RedisWireEvents, RedisWord } from './redis-wire.ts';

/** In the shapes of RESP2: strings of UTF-8, integers as numbers, `null`, lists. Maps are flat lists. */
export type RedisReply = string | number | null | readonly RedisReply[];

/** The error of a command, and the reason of a connection that is down. Has no secrets in its message. */
export interface RedisFailure extends Error {
  /**
   * - `reply`: the server refused the command.
   * - `unsent`: the server certainly has not executed it, and never will.
   * - `unanswered`: it may have executed it, or may do so yet.
   */
  readonly kind: 'reply' | 'unsent' | 'unanswered';
  /** The first word of the server's answer: `NOSCRIPT`, `OOM`, `WRONGPASS`, … */
  readonly reply?: string;
}

// A server that accepts and says nothing holds nobody up for longer.
export const OPEN_TIMEOUT = 10_000;

/** A connection that is open once, with what waits for its replies. */
export class RedisLine {
  /** Rejects with a {@link RedisFailure} where it never was ready. */
  readonly opened: Promise<void>;
  readonly #wire: RedisWire;
  /** What each command that waits does where the connection ends. */
  readonly #waiting: Set<(reason: RedisFailure) => void> = new Set();
  #isOpening = true;
  #answeredAt: number | undefined;
  /** Why it was closed from here. */
  #reason: RedisFailure | undefined;
  #isRetired = false;

  /** `onEnd` is called once, also where it never was ready. */
  constructor(open: OpenRedisWire, onEnd: (reason: RedisFailure) => void) {
    let settle: { resolve(): void; reject(reason: RedisFailure): void } | undefined;
    this.opened = new Promise((resolve, reject) => {
      settle = { resolve, reject };
    });
    this.opened.catch(() => {});
    const started = () => {
      clearTimeout(timer);
      this.#isOpening = false;
    };
    this.#wire = open({
      onReady: () => {
        started();
        settle?.resolve();
      },
      onEnd: (cause) => {
        started();
        const reason = this.#reason ?? failureOf(cause, 'unsent');
        settle?.reject(reason);
        this.#rejectAll(reason.message);
        onEnd(reason);
      },
    });
    const timer = setTimeout(() => this.close(silent()), OPEN_TIMEOUT);
  }

  get isOpening(): boolean {
    return this.#isOpening;
  }

  get isUp(): boolean {
    return this.#wire.isReady && !this.#isRetired;
  }

  get hasAnswered(): boolean {
    return this.#answeredAt !== undefined;
  }

  /** Opens a connection to another node with the same settings. */
  reach(address: RedisAddress, events: RedisWireEvents): RedisWire {
    return this.#wire.reach(address, events);
  }

  async subscribe(channel: string, onMessage: (message: string) => void): Promise<void> {
    await this.#wire.subscribe(channel, onMessage);
    this.#answeredAt = performance.now();
  }

  /**
   * Rejects with a {@link RedisFailure}. `isAsked`: this node has been given the key before its slot, and takes
   * only commands that say that they know.
   */
  send(command: readonly RedisWord[], timeout: number, isAsked = false): Promise<RedisReply> {
    if (!this.isUp) return Promise.reject(unreachable());
    if (isAsked) this.#wire.call(['ASKING'], undefined).catch(() => {});
    const withdrawal = this.#wire.canWithdraw ? new AbortController() : undefined;
    return new Promise((resolve, reject) => {
      const fail = (reason: RedisFailure) => {
        settle();
        reject(reason);
      };
      const timer = setTimeout(
        () => this.#giveUp(fail, timeout, withdrawal),
        Math.min(Math.max(1, timeout), MAX_TIMER),
      );
      const settle = () => {
        clearTimeout(timer);
        this.#waiting.delete(fail);
      };
      this.#waiting.add(fail);
      const succeed = (reply: unknown) => {
        this.#answeredAt = performance.now();
        settle();
        resolve(reply as RedisReply);
        this.#closeIfRetired();
      };
      const refused = (error: unknown) => {
        this.#refused(failureOf(error, withdrawal?.signal.aborted ? 'unsent' : 'unanswered'), fail);
      };
      this.#call(command, withdrawal?.signal).then(succeed, refused);
    });
  }

  #call(command: readonly RedisWord[], withdrawal: AbortSignal | undefined): Promise<unknown> {
    try {
      return this.#wire.call(command, withdrawal);
    } catch (error) {
      return Promise.reject(failureOf(error, 'unsent'));
    }
  }

  #refused(failure: RedisFailure, fail: (reason: RedisFailure) => void): void {
    fail(failure);
    if (failure.reply === 'READONLY') this.#isRetired = true;
    this.#closeIfRetired();
  }

  /** The time for a command is over. What can be taken back is rejected within this turn. */
  #giveUp(
    fail: (reason: RedisFailure) => void,
    timeout: number,
    withdrawal: AbortController | undefined,
  ): void {
    const end = () => {
      fail(redisFailure('unanswered', `Redis has not answered within ${Math.round(timeout)} ms`));
      this.#closeIfSilent(timeout);
    };
    if (withdrawal === undefined) return end();
    withdrawal.abort();
    setImmediate(end);
  }

  /** Nothing at all was answered for as long as a command could wait. */
  #closeIfSilent(timeout: number): void {
    if (performance.now() - (this.#answeredAt ?? -Infinity) >= timeout) this.close(silent());
  }

  /** The server is no primary any more. The others that are on their way get their own answers first. */
  #closeIfRetired(): void {
    if (!this.#isRetired || this.#waiting.size > 0) return;
    this.close(redisFailure('unsent', 'the server is no primary any more'));
  }

  /** At once. What waits is rejected as `unanswered`. */
  close(reason: RedisFailure): void {
    this.#reason ??= reason;
    this.#wire.close();
  }

  #rejectAll(message: string): void {
    const failure = redisFailure('unanswered', message);
    for (const fail of [...this.#waiting]) fail(failure);
  }
}

// ── failures ──────────────────────────────────────────────────────────────────────────────────────────────

/** An error as a {@link RedisLine} rejects with. */
export function redisFailure(kind: RedisFailure['kind'], message: string, reply?: string): RedisFailure {
  return Object.assign(new Error(message), reply === undefined ? { kind } : { kind, reply });
}

export function unreachable(): RedisFailure {
  return redisFailure('unsent', 'Redis cannot be reached');
}

export function silent(): RedisFailure {
  return redisFailure('unsent', 'Redis does not answer');
}

/** What was refused with a redirection, or was never sent on, was not executed. */
export function asUnsent(failure: RedisFailure): RedisFailure {
  return failure.kind === 'unanswered' ? redisFailure('unsent', failure.message) : failure;
}

/** The longest time that a timer can wait. */
const MAX_TIMER = 2 ** 31 - 1;

const KINDS: readonly unknown[] = ['reply', 'unsent', 'unanswered'] satisfies RedisFailure['kind'][];

// Error replies begin with a word in capitals. Of the other errors only those with a code could.
const REPLY_WORD = /^([A-Z][A-Z0-9_]+)(?: |$)/;

/**
 * An error of a client in our words; `kind` where it is no reply. The error itself is not kept: clients attach
 * the command to it, which may be the one with the password.
 */
export function failureOf(error: unknown, kind: 'unsent' | 'unanswered'): RedisFailure {
  if (isFailure(error)) return error;
  const message = messageOf(error);
  const reply = Object(error).code === undefined ? REPLY_WORD.exec(message)?.[1] : undefined;
  return redisFailure(reply === undefined ? kind : 'reply', message, reply);
}

function isFailure(error: unknown): error is RedisFailure {
  return error instanceof Error && KINDS.includes(Object(error).kind);
}

function messageOf(error: unknown): string {
  const { message, errors, code } = Object(error) as Record<string, unknown>;
  // Of a host with several addresses, the error has the message in its parts.
  const [first] = Array.isArray(errors) ? errors : [];
  const text = [message, first?.message, code].find((one) => typeof one === 'string' && one !== '');
  return withoutSecrets(text === undefined ? 'the connection was closed' : String(text));
}

/** Servers repeat the arguments of a command that they do not know, and URLs have passwords in them. */
function withoutSecrets(message: string): string {
  return message.replace(/, with args beginning with.*/s, '').replaceAll(/\/\/\S*@/g, '//');
}
