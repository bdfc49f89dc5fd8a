// Tells the nodes of a hub what runs on each of them, through a topic of the hub.
// Needs `hub.ts`, `local-reader.ts`, `log.ts` and `protocol.ts`, and what these need, beside it.

import { randomUUID } from 'node:crypto';
import type { Hub } from './hub.ts';
import { readLocally } from './local-reader.ts';
import { logUnavailable } from './log.ts';
import { isTopic } from './protocol.ts';

/** What one node says to all. Each member names topics. */
export interface Notice {
  /** They run on the node that says so. */
  readonly running?: readonly string[] | undefined;
  /** They have ended, and are deleted at `until`, in milliseconds since 1970; not without one. */
  readonly over?: readonly string[] | undefined;
  readonly until?: number | undefined;
  /** The same in milliseconds from now, for nodes that hear it now: their clocks may be others. */
  readonly left?: number | undefined;
  /** Their node is asked to stop them. */
  readonly stop?: readonly string[] | undefined;
  /** Their node has been silent: if it still runs them, it should say so at once. */
  readonly missed?: readonly string[] | undefined;
}

/** Most topics of one notice, so that it stays below the smallest limit of an event that is of use. */
export const MAX_NAMED = 50;

/** Reads and writes the notices. A node hears the others in the order in which the log has them. */
export class Notices {
  /** Names this node. */
  readonly node: string = randomUUID();
  readonly #hub: Hub;
  readonly #topic: string;
  readonly #hear: (notice: Notice, isOwn: boolean) => void;
  readonly #onLoss: () => void;
  #stop = (): void => {};
  #caughtUp: Promise<void> | undefined;
  #said = 0;
  /** What is heard is said now: this node has heard itself. */
  #isLive = false;
  /** Who waits until this node has heard itself say so much. */
  readonly #waiting = new Map<
    number,
    { readonly resolve: (isHeard: boolean) => void; readonly reject: (error: Error) => void }
  >();
  #isClosed = false;

  /**
   * @param hear - Called with what this node says as well, once it hears that.
   * @param onLoss - Called where the log has lost some of what was said, perhaps for all nodes.
   */
  constructor(hub: Hub, topic: string, hear: (notice: Notice, isOwn: boolean) => void, onLoss: () => void) {
    this.#hub = hub;
    this.#topic = topic;
    this.#hear = hear;
    this.#onLoss = onLoss;
  }

  /**
   * Resolves once everything that was said before has been heard. Rejects where the log takes nothing; call it again
   * then.
   */
  open(): Promise<void> {
    this.#caughtUp ??= this.#open().catch((error) => {
      this.#stop();
      this.#caughtUp = undefined;
      throw error;
    });
    return this.#caughtUp;
  }

  async #open(): Promise<void> {
    const onEvent = ({ data }: { readonly data: string }): void => this.#read(data);
    const onGap = (): void => this.#lost();
    this.#isLive = false;
    this.#stop = readLocally(this.#hub, this.#topic, { from: 'earliest', onEvent, onGap });
    await this.sayAndHear({});
  }

  /** Resolves once this node has heard all that was said before. Says it again where the log may have lost it. */
  async sayAndHear(notice: Notice): Promise<void> {
    while (!(await this.#sayOnce(notice)));
  }

  async #sayOnce(notice: Notice): Promise<boolean> {
    const number = this.#said + 1;
    const heard = new Promise<boolean>((resolve, reject) => {
      this.#waiting.set(number, { resolve, reject });
    });
    try {
      if (this.#isClosed) throw isOver();
      const [, isHeard] = await Promise.all([this.say(notice), heard]);
      return isHeard;
    } finally {
      this.#waiting.delete(number);
    }
  }

  /** Resolves once all nodes will hear it. */
  async say(notice: Notice): Promise<void> {
    await this.#hub.append(this.#topic, { json: { ...notice, by: this.node, number: ++this.#said } });
  }

  /** Says for each of many topics that it runs here. */
  async sayRunning(topics: () => Iterable<string>): Promise<void> {
    const all = [...topics()];
    for (let i = 0; i < all.length; i += MAX_NAMED) {
      const running = new Set(topics());
      await this.say({ running: all.slice(i, i + MAX_NAMED).filter((topic) => running.has(topic)) });
    }
  }

  /** Who waits to hear something waits no longer. */
  close(): void {
    this.#isClosed = true;
    this.#stop();
    for (const { reject } of this.#waiting.values()) reject(isOver());
  }

  #heardSelf(said: number): void {
    for (const [number, { resolve }] of this.#waiting) if (number <= said) resolve(true);
  }

  #lost(): void {
    for (const { resolve } of this.#waiting.values()) resolve(false);
    this.#onLoss();
  }

  /** Others may have published to the topic: what is no notice is ignored. */
  #read(data: string): void {
    const { by, number, running, over, until, left, stop, missed } = parseObject(data);
    const isOwn = by === this.node;
    const notice = {
      running: topicsIn(running),
      over: topicsIn(over),
      until: typeof until === 'number' ? this.#here(until, left) : undefined,
      stop: topicsIn(stop),
      missed: topicsIn(missed),
    };
    this.#hear(notice, isOwn);
    if (!isOwn) return;
    this.#isLive = true;
    this.#heardSelf(Number(number));
  }

  /** A time of another node by the clock of this one, where that can be known. */
  #here(until: number, left: unknown): number {
    return this.#isLive && typeof left === 'number' ? Date.now() + left : until;
  }
}

function isOver(): Error {
  return logUnavailable('the notices of this process are closed');
}

function parseObject(json: string): Record<string, unknown> {
  try {
    return Object(JSON.parse(json)) as Record<string, unknown>;
  } catch {
    return {};
  }
}

function topicsIn(value: unknown): readonly string[] {
  return Array.isArray(value) ? value.filter(isTopic) : [];
}
