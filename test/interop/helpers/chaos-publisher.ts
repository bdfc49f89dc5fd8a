// Publishes numbered events over HTTP to any node, each until it is acknowledged, under one idempotency key.

import { setTimeout as sleep } from 'node:timers/promises';
import type { Publication } from '../../simulation/nodes/checker.ts';

export interface ChaosPublisherOptions {
  readonly topic: string;
  /** The node for the next request. */
  readonly node: () => string;
  /** Gives the next number, under which the publication is known from then on. */
  readonly number: () => number;
  readonly publications: Map<number, Publication>;
  /** Milliseconds between two publications. */
  readonly pause: number;
  readonly onError: (message: string) => void;
}

/** What a request was answered, or that it was not. */
export interface Answer {
  readonly status: number;
  /** The kind of failure, as the server names it; `undefined` for a success. */
  readonly error: string | undefined;
  /** When it came, and how many milliseconds after the request. */
  readonly at: number;
  readonly took: number;
}

const TIMEOUT = 5000;
/** Each fifth publication is a batch. */
const BATCH = 3;

export class ChaosPublisher {
  /** The id that it was answered last. */
  lastId = '';
  /** How many publications were acknowledged. */
  acknowledged = 0;
  readonly answers: Answer[] = [];
  readonly #options: ChaosPublisherOptions;
  #isOver = false;
  #gate: Promise<void> | undefined;
  #open: () => void = () => {};
  #isIdle = false;
  #done: Promise<void> | undefined;

  constructor(options: ChaosPublisherOptions) {
    this.#options = options;
  }

  get topic(): string {
    return this.#options.topic;
  }

  start(): void {
    this.#done = this.#run();
  }

  /** Publishes nothing more after what is under way, until `resume`. */
  pause(): void {
    this.#gate ??= new Promise((resolve) => {
      this.#open = resolve;
    });
  }

  resume(): void {
    this.#gate = undefined;
    this.#open();
  }

  /** Whether it is paused, and nothing is under way. */
  get isIdle(): boolean {
    return this.#isIdle;
  }

  async stop(): Promise<void> {
    this.#isOver = true;
    this.resume();
    await this.#done;
  }

  async #run(): Promise<void> {
    for (let i = 1; !this.#isOver; i++) {
      if (this.#gate !== undefined) {
        this.#isIdle = true;
        await this.#gate;
        this.#isIdle = false;
        continue;
      }
      await this.#publish(i % 5 === 0 ? BATCH : 1);
      await sleep(this.#options.pause);
    }
    this.#isIdle = true;
  }

  async #publish(count: number): Promise<void> {
    const batch = Array.from({ length: count }, () => this.#options.number());
    const all = batch.map((n) => this.#begin(n, batch));
    while (!this.#isOver) {
      for (const one of all) one.attempts++;
      const ids = await this.#send(batch);
      if (ids !== undefined) return this.#acknowledge(all, ids);
      await sleep(20);
    }
  }

  #begin(n: number, batch: readonly number[]): Publication {
    const { topic, publications } = this.#options;
    const one: Publication = {
      ...{ n, topic, key: undefined, batch, sentAt: performance.now(), attempts: 0, isIdempotent: true },
      ...{ id: undefined, answeredAt: Infinity, isRefused: false },
    };
    publications.set(n, one);
    return one;
  }

  #acknowledge(all: readonly Publication[], ids: readonly string[]): void {
    all.forEach((one, i) => {
      one.id = ids[i];
      one.answeredAt = performance.now();
    });
    this.acknowledged++;
    this.lastId = ids.at(-1) ?? '';
  }

  /** The ids, where it was acknowledged. */
  async #send(batch: readonly number[]): Promise<readonly string[] | undefined> {
    const { node, topic } = this.#options;
    const begun = performance.now();
    const note = (status: number, error: string | undefined): void => {
      const at = performance.now();
      this.answers.push({ status, error, at, took: at - begun });
    };
    try {
      const answer = await fetch(`${node()}/topics/${topic}`, {
        method: 'POST',
        headers: {
          'Idempotency-Key': `k${batch[0]}`,
          'Content-Type': batch.length > 1 ? 'application/x-ndjson' : 'text/plain',
        },
        body: batch.map((n) => `${topic} ${n}`).join('\n'),
        signal: AbortSignal.timeout(TIMEOUT),
      });
      const body = (await answer.json()) as { id?: string; ids?: string[]; error?: string };
      note(answer.status, body.error);
      if (answer.status === 200) return body.ids ?? [body.id!];
      if (answer.status !== 503)
        this.#options.onError(`publishing to ${topic} was answered ${answer.status} ${body.error}`);
    } catch (error) {
      // A node that is gone, or an answer that did not come.
      note(0, (error as Error).name);
    }
    return undefined;
  }
}
