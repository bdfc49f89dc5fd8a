// Follows the feed of a log in Redis, and tells a hub what happens there, in order.
// Needs `backoff.ts`, `log.ts`, `redis-client.ts`, `redis-connections.ts`, `redis-store.ts`, and what these need, beside
// it.

import { Backoff } from './backoff.ts';
import type { LogChange, LogEntry, LogIntake } from './log.ts';
import type { RedisConnection } from './redis-client.ts';
import { pause, retryUntil } from './redis-connections.ts';
import { type FeedItem, isAfter, type OrderStatus, type Place, type RedisStore } from './redis-store.ts';

export interface RedisFollowerOptions {
  readonly store: RedisStore;
  /** The connection on which the follower waits for news. Nobody else uses it. */
  readonly connection: () => RedisConnection;
  /** Resolves once Redis can be reached. */
  readonly reached: () => Promise<void>;
  /** Milliseconds between two checks of the position. */
  readonly checkInterval: number;
  /** The newest place that this node knows, by whatever way. */
  readonly known: () => Place;
  /** Called with each status of the order. */
  readonly checked: (status: OrderStatus) => void;
}

interface Waiter {
  readonly place: Place;
  readonly done: (isReached: boolean) => void;
}

/** Tells one intake of what is in the feed. */
export class RedisFollower {
  readonly #options: RedisFollowerOptions;
  /** The place up to which the intake was told. */
  #told: Place = { epoch: 0, seq: 0 };
  #away: unknown = new Error('Redis was not reached yet');
  #isAway = false;
  #isClosed = false;
  #ends: OrderStatus['ends'] = [];
  #present = 0;
  #checkedAt = -Infinity;
  /** Entries that are asked for at once. */
  #most = MOST_NEWS;
  #completeAt: number = performance.now();
  readonly #backoff = new Backoff(PAUSES);
  readonly #waiters = new Set<Waiter>();
  #wake: (() => void) | undefined;

  constructor(options: RedisFollowerOptions) {
    this.#options = options;
  }

  get told(): Place {
    return this.#told;
  }

  /** Milliseconds since the intake was last told of all that Redis had. */
  get lag(): number {
    return performance.now() - this.#completeAt;
  }

  /** Why nothing can be asked now. */
  get failure(): unknown {
    return this.#isAway || this.#told.epoch === 0 ? this.#away : undefined;
  }

  /** Resolves once the intake was told of a place: with false where that takes longer than `timeout`. */
  reaches(place: Place, timeout: number): Promise<boolean> {
    if (!isAfter(place, this.#told)) return Promise.resolve(true);
    return new Promise((resolve) => {
      const done = (isReached: boolean): void => {
        clearTimeout(timer);
        this.#waiters.delete(waiter);
        resolve(isReached);
      };
      const waiter: Waiter = { place, done };
      const timer = setTimeout(done, Math.max(0, timeout), false);
      this.#waiters.add(waiter);
    });
  }

  /** The connection was lost. */
  lost(intake: LogIntake, error: unknown): void {
    if (this.#isClosed) return;
    this.#away = error;
    if (this.#isAway) return;
    this.#isAway = true;
    intake.away(error);
  }

  close(): void {
    this.#isClosed = true;
    this.#wake?.();
    for (const { done } of this.#waiters) done(false);
  }

  /** Follows until it is closed. Never rejects. */
  async run(intake: LogIntake): Promise<void> {
    while (!this.#isClosed) {
      let hasDelivered = false;
      try {
        await this.#options.reached();
        await this.#catchUp(intake);
        while (!this.#isClosed) {
          await this.#step(intake);
          hasDelivered = true;
        }
      } catch (error) {
        if (this.#isClosed) return;
        this.lost(intake, error);
        this.#backoff.connectionEnded({ age: 0, hasDelivered, isOrderly: false });
        await this.#pause();
      }
    }
  }

  #pause(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, this.#backoff.nextDelay());
      timer.unref?.();
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /** Takes what comes next. A check is due at times, because the newest entries may be lost without a sign. */
  async #step(intake: LogIntake): Promise<void> {
    const { checkInterval } = this.#options;
    const left = checkInterval - (performance.now() - this.#checkedAt);
    if (left <= 0) return this.#catchUp(intake);
    const most = this.#most;
    const news = await this.#news({ block: Math.max(1, left) });
    await this.#take(intake, news);
    if (news.length < most) this.#completeAt = performance.now();
  }

  /** Asks for fewer entries where so many have not come in time: over a slow network, they never would. */
  async #news({ block }: { block?: number }): Promise<readonly FeedItem[]> {
    const { store, connection } = this.#options;
    const timeout = (block ?? 0) + ANSWER_TIMEOUT;
    const [count, since] = [this.#most, performance.now()];
    try {
      const news = await store.feedAfter(connection(), this.#told, {
        count,
        timeout,
        ...(block !== undefined && { block }),
      });
      // Twice as many take twice as long at most.
      if (performance.now() - since < ANSWER_TIMEOUT / 2) this.#most = Math.min(MOST_NEWS, 2 * count);
      return news;
    } catch (error) {
      // A connection that is lost says nothing of the size. A timer may be a millisecond early.
      if (performance.now() - since >= timeout - 1) this.#most = Math.max(1, Math.floor(count / 4));
      throw error;
    }
  }

  async #check(): Promise<OrderStatus> {
    const { store, connection, known, checked } = this.#options;
    // While keys of a cluster's slot are on two nodes, only commands of one key have answers.
    const status = await retryUntil(
      performance.now() + ANSWER_TIMEOUT,
      (timeout) => store.check(connection(), known(), timeout),
      (error) => (connection().isUp ? pause() : Promise.reject(error)),
    );
    this.#checkedAt = performance.now();
    this.#ends = status.ends;
    this.#present = status.head.epoch;
    checked(status);
    return status;
  }

  /** Checks where the order is, and takes all that the feed has up to there. What it has not is skipped. */
  async #catchUp(intake: LogIntake): Promise<void> {
    const { head, ends } = await this.#check();
    if (this.#isClosed) return;
    if (this.#isAway) {
      this.#isAway = false;
      intake.back();
    }
    if (this.#told.epoch === 0) this.#begin(intake, head, ends);
    else await this.#takeUpTo(intake, head);
    this.#completeAt = this.#checkedAt;
  }

  async #takeUpTo(intake: LogIntake, head: Place): Promise<void> {
    while (isAfter(head, this.#told)) {
      const news = await this.#news({});
      if (this.#isClosed) return;
      if (news.length === 0) break;
      await this.#take(intake, news);
    }
    if (this.#isClosed || !isAfter(head, this.#told)) return;
    if (head.epoch > this.#told.epoch) this.#renew(intake, head.epoch);
    this.#skip(intake, head.seq);
  }

  // An intake that is told of an epoch asks for its topics within the same call: the place is moved before.

  /** A node that starts learns the ends of the epochs before, and nothing of what was in them. */
  #begin(intake: LogIntake, head: Place, ends: OrderStatus['ends']): void {
    this.#move({ epoch: head.epoch, seq: 0 });
    let oldEnd = 0;
    for (const { epoch, seq } of ends) {
      intake.renew(epoch, oldEnd);
      if (seq > 0) intake.skip(seq);
      oldEnd = seq;
    }
    intake.renew(head.epoch, oldEnd);
    this.#skip(intake, head.seq);
  }

  async #take(intake: LogIntake, items: readonly FeedItem[]): Promise<void> {
    for (let from = 0; from < items.length; ) {
      const { epoch } = items[from]!.place;
      const end = items.findIndex(({ place }, i) => i > from && place.epoch !== epoch);
      const part = items.slice(from, end === -1 ? undefined : end);
      // The ends of epochs are known after a check that has seen the newest of them.
      if (epoch > this.#present) await this.#check();
      if (this.#isClosed) return;
      if (epoch > this.#told.epoch) this.#renew(intake, epoch);
      this.#accept(intake, epoch, part);
      from += part.length;
    }
  }

  #accept(intake: LogIntake, epoch: number, items: readonly FeedItem[]): void {
    let entries: (LogEntry | LogChange)[] = [];
    let { seq } = this.#told;
    const flush = (): void => {
      if (entries.length > 0) intake.accept(entries);
      entries = [];
    };
    for (const { place, entry } of items) {
      if (place.seq <= seq) continue;
      const missing = entry === undefined ? place.seq : place.seq - 1;
      if (missing > seq) {
        flush();
        intake.skip(missing);
      }
      if (entry !== undefined) entries.push(entry);
      seq = place.seq;
    }
    flush();
    this.#move({ epoch, seq });
  }

  #skip(intake: LogIntake, seq: number): void {
    if (seq <= this.#told.seq) return;
    intake.skip(seq);
    this.#move({ epoch: this.#told.epoch, seq });
  }

  /** Goes through the epochs up to another one. What the feed does not have of them is skipped. */
  #renew(intake: LogIntake, to: number): void {
    const between = this.#ends.filter(({ epoch }) => epoch > this.#told.epoch && epoch < to);
    for (const { epoch } of [...between, { epoch: to }]) {
      const oldEnd = this.#ends.find((end) => end.epoch === this.#told.epoch)?.seq ?? 0;
      this.#skip(intake, oldEnd);
      this.#move({ epoch, seq: 0 });
      intake.renew(epoch, oldEnd);
    }
  }

  #move(place: Place): void {
    this.#told = place;
    for (const { place: wanted, done } of this.#waiters) if (!isAfter(wanted, place)) done(true);
  }
}

/** Milliseconds. */
const ANSWER_TIMEOUT = 2000;
/** Of the wait after a failure, in milliseconds. */
const PAUSES = { backoffDelay: 50, maxBackoffDelay: 5000, minRetryDelay: 0 };

/** Most entries that are asked for at once. The feed's limit of bytes holds for them too. */
const MOST_NEWS = 500;
