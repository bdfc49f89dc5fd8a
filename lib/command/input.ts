// Publishes one input of a server, and keeps on through failures that may pass and events that are refused.
// Needs `../backoff.ts`, `../feed.ts`, `../log.ts` and `tail-file.ts` beside it.

import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { Backoff } from '../backoff.ts';
import { type FeedHub, type FeedRefusal, type FeedVerdict, publishFrom } from '../feed.ts';
import type { AppendOptions } from '../log.ts';
import type { TailFileOptions } from '../tail-file.ts';

interface Line {
  readonly data: string;
}

export interface InputLogLine {
  readonly level: 'info' | 'warn' | 'error';
  readonly event: 'input-failed' | 'input-recovered' | 'input-skipped' | 'input-ended';
  readonly input: string;
  readonly topic: string;
  readonly [detail: string]: unknown;
}

export type InputLogger = (line: InputLogLine) => void;

type Lines = Iterable<Line> & { readonly length: number };

interface InputHub extends FeedHub<Line> {
  appendAll?(topic: string, events: Lines, options?: AppendOptions): Promise<unknown>;
}

export interface InputContext {
  readonly hub: InputHub;
  /** Ends the input. */
  readonly signal: AbortSignal;
  readonly logger: InputLogger;
}

interface RunOptions {
  /** Whether the source is opened again when it fails. */
  readonly restarts?: boolean | undefined;
  /** Called when the source has ended by itself. */
  readonly onEnd?: (() => void) | undefined;
}

/** The parts of an input that fail apart from each other. */
type Part = 'source' | 'topic';

/**
 * One input.
 *
 * - An event that the hub refuses for what it is (too large, for example) is skipped and counted. One line is
 *   logged for the first of them, and at most one in ten seconds after that.
 * - While the topic is ended (`DELETE /topics/…`), its events are skipped and counted. They are published again
 *   once the topic is reopened.
 * - Any other refusal is taken to pass: the event is published again after a while, and the source waits.
 * - A source that fails is opened again after a while, where it can be.
 *
 * A failure is logged once, not at each attempt, and its end is logged.
 */
export class Input {
  readonly name: string;
  readonly topic: string;
  /** Resolves when the source can be read, or has failed to be read for the first time. */
  readonly begun: Promise<void>;
  /** How many events were not published, because the hub has refused them. */
  skipped = 0;
  readonly #context: InputContext;
  readonly #failures = new Map<Part, { readonly message: string; readonly backoff: Backoff }>();
  #begin!: () => void;
  #hasEnded = false;
  #skippedBefore = 0; // when the last line about it was logged
  #skipLoggedAt = -Infinity;

  constructor(name: string, topic: string, context: InputContext) {
    this.name = name;
    this.topic = topic;
    this.#context = context;
    this.begun = new Promise((resolve) => {
      this.#begin = resolve;
    });
  }

  /** `down` where nothing is published at present; `ended` where the source has ended by itself. */
  get state(): 'up' | 'down' | 'ended' {
    if (this.#failures.size > 0) return 'down';
    return this.#hasEnded ? 'ended' : 'up';
  }

  /**
   * Publishes the source until it ends or the signal aborts. Never rejects. `open` gets the failure after which
   * the source is opened again.
   */
  async run(
    open: (failure: Error | undefined) => AsyncIterable<string>,
    { restarts = false, onEnd = () => {} }: RunOptions,
  ): Promise<void> {
    const { signal } = this.#context;
    const onRefuse = (refusal: FeedRefusal<Line>): Promise<FeedVerdict> => this.#judge(refusal);
    for (let failure: Error | undefined; !signal.aborted; ) {
      try {
        await publishFrom(this.#publishing(), this.topic, open(failure), { signal, onRefuse });
        if (!signal.aborted) this.#end(onEnd);
        return;
      } catch (error) {
        if (signal.aborted) return;
        failure = error as Error;
        const backoff = this.#fail('source', failure);
        if (!restarts) return;
        await this.#pause(backoff);
      }
    }
  }

  /** What `tailFile` calls. */
  tailing(): Pick<TailFileOptions, 'onReady' | 'onError' | 'onRecover' | 'persistent'> {
    return {
      persistent: false,
      onReady: () => {
        this.recover('source');
        this.#begin();
      },
      onError: (error) => void this.#fail('source', error),
      onRecover: () => this.recover('source'),
    };
  }

  recover(part: Part): void {
    if (!this.#failures.delete(part) || this.#failures.size > 0) return;
    this.#log('info', 'input-recovered', { skipped: this.skipped });
  }

  /** The hub, with what follows from an event that it has taken. */
  #publishing(): FeedHub<Line> {
    const { hub } = this.#context;
    return {
      stats: hub.stats,
      ready: (topic, options) => hub.ready(topic, options),
      batchLimits: (topic) => hub.batchLimits(topic),
      publish: (topic, event) => {
        const id = hub.publish(topic, event);
        this.recover('topic');
        return id;
      },
      log: hub.log,
      appendAll: (topic, events) => this.#append(topic, events),
    };
  }

  /** A request whose outcome is unknown is sent again with its key, until the log says what it has. */
  async #append(topic: string, events: Lines): Promise<void> {
    const { hub, signal } = this.#context;
    const { order } = hub.log as { readonly order?: string };
    const idempotency = order === 'shared' ? { key: randomUUID(), digest: topic } : undefined;
    for (let isUnknown = false; ; ) {
      try {
        await hub.appendAll!(topic, events, { idempotency });
        return this.recover('topic');
      } catch (error) {
        const { code, status = 500 } = error as { code?: string; status?: number };
        isUnknown ||= code === 'ERR_SSE_OUTCOME_UNKNOWN' && idempotency !== undefined;
        if (!isUnknown || status < 500) throw error;
        await this.#pause(this.#fail('topic', error as Error));
        signal.throwIfAborted();
      }
    }
  }

  async #judge({ event: { data }, error }: FeedRefusal<Line>): Promise<FeedVerdict> {
    const { code, status = 500, message } = error as { code?: string; status?: number; message: string };
    if (code === 'ERR_SSE_TOPIC_ENDED') {
      this.skipped++;
      this.#fail('topic', { message: `${message}: what comes is dropped until it is reopened` });
      return 'skip';
    }
    if (status < 500 && status !== 429) {
      this.skipped++;
      this.#logSkipped(message, Buffer.byteLength(data));
      return 'skip';
    }
    await this.#pause(this.#fail('topic', error as Error));
    return 'retry';
  }

  #fail(part: Part, { message }: { readonly message: string }): Backoff {
    const known = this.#failures.get(part);
    const backoff = known?.backoff ?? new Backoff(RETRY);
    this.#failures.set(part, { message, backoff });
    if (known?.message !== message) this.#log('error', 'input-failed', { message });
    this.#begin();
    return backoff;
  }

  async #pause(backoff: Backoff): Promise<void> {
    const options = { signal: this.#context.signal, ref: false };
    await sleep(backoff.nextDelay(), undefined, options).catch(() => {});
  }

  #logSkipped(message: string, bytes: number): void {
    const now = performance.now();
    if (now - this.#skipLoggedAt < SKIP_LOG_INTERVAL) return;
    const events = this.skipped - this.#skippedBefore;
    this.#skipLoggedAt = now;
    this.#skippedBefore = this.skipped;
    this.#log('warn', 'input-skipped', { events, bytes, message });
  }

  #end(onEnd: () => void): void {
    this.#hasEnded = true;
    this.#failures.clear();
    this.#log('info', 'input-ended', { skipped: this.skipped });
    onEnd();
  }

  #log(level: InputLogLine['level'], event: InputLogLine['event'], details: object): void {
    this.#context.logger({ level, event, input: this.name, topic: this.topic, ...details });
  }
}

const RETRY = { minRetryDelay: 100, backoffDelay: 200, maxBackoffDelay: 10_000 };
const SKIP_LOG_INTERVAL = 10_000;
