// Runs a source into a topic of a hub: its values, one last event, and the end of the topic.
// Needs `backoff.ts`, `hub.ts`, `local-reader.ts`, `log.ts`, `protocol.ts` and `source.ts`, and what these need, beside
// it.

import { Backoff } from './backoff.ts';
import type { AppendOptions, EventMap, Hub, HubEvent } from './hub.ts';
import { readLocally } from './local-reader.ts';
import { topicEnded } from './log.ts';
import { formatId, parseId } from './protocol.ts';
import { checkYielded, isUntyped, iteratorOf, type Source, stopSource, WholeText } from './source.ts';

/** How a generation ends. */
export type Outcome = 'done' | 'failed' | 'stopped';

/** What a source yields: an event, or a string, which becomes an event's data. */
export type Generated<Events extends object = EventMap> = string | HubEvent<Events>;

/** A source, or what makes one once the topic is claimed. The signal aborts when the generation is stopped. */
export type GenerationSource<Events extends object = EventMap> =
  | Source<Generated<Events>>
  | ((context: {
      readonly signal: AbortSignal;
    }) => Source<Generated<Events>> | Promise<Source<Generated<Events>>>);

export interface RunSetting {
  readonly hub: Hub;
  readonly topic: string;
  readonly source: GenerationSource;
  /** Names this run among all that ever append to the topic. */
  readonly name: string;
  /** The place of the topic's newest event. */
  readonly place: string;
  /** Makes the last event. */
  readonly last: (outcome: Outcome, cause: unknown) => HubEvent;
  /** Whether a type is that of a last event, which a source may not use. */
  readonly isLast: (type: string | undefined) => boolean;
  /** How the topic ended, where that was not by this run. */
  readonly outcomeOf: (topic: string) => Promise<Outcome | undefined>;
}

/** Most UTF-16 units that a source is ahead of the log. Each event counts 100 at least, so that there are few. */
const MAX_PENDING = 64 * 1024;
const MIN_EVENT = 100;
/** Most events of a batch. */
const MAX_BATCH = 250;

/** One run. It pulls from its source while the log takes what came before, a batch in each turn. */
export class Run {
  readonly topic: string;
  /** Resolves once the topic has ended; never rejects. */
  readonly done: Promise<Outcome>;
  /** What the source, or the hub because of an event of the source, has thrown. */
  cause: unknown;
  readonly #options: RunSetting;
  readonly #chain: Chain;
  readonly #abort = new AbortController();
  readonly #pending: { readonly event: HubEvent; readonly size: number }[] = [];
  #size = 0;
  #isExhausted = false;
  #failure: { readonly error: unknown } | undefined;
  /** Set where the outcome no longer depends on the source. */
  #outcome: Outcome | undefined;
  #isEndedElsewhere = false;
  #wake: (() => void) | undefined;

  constructor(options: RunSetting) {
    this.topic = options.topic;
    this.#options = options;
    this.#chain = new Chain(options.hub, options.topic, options.name, options.place);
    this.done = this.#run();
  }

  /** Stops the source. @returns whether the generation ended as `outcome` says, once it has ended. */
  async stop(outcome: 'stopped' | 'failed' = 'stopped'): Promise<boolean> {
    this.#halt(outcome);
    return (await this.done) === outcome;
  }

  /** From now on, an append that the log does not take is not tried again. */
  giveUp(): void {
    this.#chain.giveUp();
  }

  async #run(): Promise<Outcome> {
    const unwatch = this.#watch();
    try {
      void this.#pull();
      const outcome = await this.#write();
      unwatch();
      await this.#conclude(outcome);
      return outcome;
    } catch (error) {
      this.#halt('failed');
      if (!isEndedElsewhere(error)) {
        this.cause ??= error;
        return 'failed';
      }
      return (await this.#options.outcomeOf(this.topic).catch(() => undefined)) ?? 'stopped';
    } finally {
      unwatch();
    }
  }

  /** Notices that somebody has ended the topic, also while the source says nothing. */
  #watch(): () => void {
    const onEnd = (): void => {
      this.#isEndedElsewhere = true;
      this.#halt('stopped');
    };
    try {
      return readLocally(this.#options.hub, this.topic, { onEnd });
    } catch {
      // The hub follows as many topics as it may. Then the next append is what tells.
      return () => {};
    }
  }

  async #conclude(outcome: Outcome): Promise<void> {
    const last = this.#options.last(outcome, this.cause);
    try {
      await this.#chain.append([last]);
    } catch (error) {
      if (isEndedElsewhere(error) || isPassing(error)) throw error;
      // The hub cannot send what the application says of the end.
      await this.#chain.append([{ event: last.event, data: '{}' }]);
    }
    await this.#chain.end();
  }

  #halt(outcome: Outcome): void {
    this.#outcome ??= outcome;
    this.#abort.abort(new Error(`the generation of topic "${this.topic}" was stopped`));
    this.#notify();
  }

  #fail(cause: unknown): void {
    if (this.#outcome !== undefined) return;
    this.cause = cause;
    this.#halt('failed');
  }

  // ── from the source ──────────────────────────────────────────────────────────────────────────────────────

  /** Settles when the source does, which may be never. */
  async #pull(): Promise<void> {
    const { source: given } = this.#options;
    const { signal } = this.#abort;
    let stop = (): void => {};
    let isPulling = true;
    try {
      const source = await (typeof given === 'function' ? given({ signal }) : given);
      const iterator = iteratorOf(source);
      const text = new WholeText();
      stop = () => stopSource(source, iterator);
      signal.addEventListener('abort', () => stop(), { once: true });
      if (signal.aborted) return stop();
      while (!signal.aborted) {
        if (this.#size >= MAX_PENDING) await this.#turn();
        else {
          isPulling = true;
          const { done, value } = await iterator.next();
          isPulling = false;
          if (signal.aborted) return;
          const isText = done !== true && typeof value === 'string';
          this.#push(isText ? text.next(value) : text.end());
          if (done === true) break;
          if (!isText) this.#pushEvent(value as HubEvent);
        }
      }
      stop = () => {};
      this.#isExhausted = true;
      this.#notify();
    } catch (error) {
      // What has failed by itself is over.
      if (!isPulling) stop();
      stop = () => {};
      // What came before is still appended.
      this.#failure = { error };
      this.#notify();
    }
  }

  #push(data: string | undefined): void {
    if (data !== undefined) this.#add({ data }, data.length);
  }

  #pushEvent(value: HubEvent): void {
    checkYielded(value);
    const { key, comment, retry, json } = value;
    const event = isUntyped(value) ? undefined : value.event;
    if (this.#options.isLast(event))
      throw new TypeError(
        `\`event\` must not be "${event}", the type of the last event: name that otherwise`,
      );
    const data = value.data ?? (json === undefined ? undefined : JSON.stringify(json));
    this.#add({ event, data: data as string, key, comment, retry }, data?.length ?? 0);
  }

  #add(event: HubEvent, length: number): void {
    const size = Math.max(MIN_EVENT, length);
    this.#pending.push({ event, size });
    this.#size += size;
    this.#notify();
  }

  // ── to the log ───────────────────────────────────────────────────────────────────────────────────────────

  async #write(): Promise<Outcome> {
    for (;;) {
      if (this.#isEndedElsewhere) throw topicEnded(this.topic);
      if (this.#outcome !== undefined) return this.#outcome;
      if (this.#pending.length > 0) {
        // What the source yields within a turn goes into one batch.
        await new Promise((resolve) => setImmediate(resolve));
        if (this.#outcome !== undefined) continue;
        await this.#append(this.#take());
      } else if (this.#failure !== undefined) this.#fail(this.#failure.error);
      else if (this.#isExhausted) return 'done';
      else await this.#turn();
    }
  }

  #take(): HubEvent[] {
    const { maxEvents } = this.#options.hub.batchLimits(this.topic);
    const batch = this.#pending.splice(0, Math.min(maxEvents, MAX_BATCH));
    for (const { size } of batch) this.#size -= size;
    this.#notify();
    return batch.map(({ event }) => event);
  }

  async #append(batch: readonly HubEvent[]): Promise<void> {
    const { hub, topic } = this.#options;
    const { signal } = this.#abort;
    try {
      await this.#chain.append(batch);
      await hub.ready(topic, { signal }).catch(() => {});
    } catch (error) {
      if (isEndedElsewhere(error) || isPassing(error)) throw error;
      // The hub takes none of a batch where one event cannot be sent, or all are too large together.
      if (batch.length === 1) return this.#fail(error);
      for (const event of batch) if (this.#outcome === undefined) await this.#append([event]);
    }
  }

  /** Waits until the other side has moved. */
  #turn(): Promise<void> {
    const { signal } = this.#abort;
    if (signal.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const wake = this.#wake;
      this.#wake = () => {
        wake?.();
        resolve();
      };
    });
  }

  #notify(): void {
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
  }
}

/**
 * Appends to a topic, each time behind the event that came last.
 *
 * On a log that several hubs share, each append takes the idempotency key "behind that event", which only one can
 * have. So an append that is sent again is there once, and after another writer has appended the last event, this
 * one is refused whatever it still had under way.
 */
export class Chain {
  readonly #hub: Hub;
  readonly #topic: string;
  readonly #name: string;
  readonly #isShared: boolean;
  #place: string;
  #count = 0;
  #hasGivenUp = false;

  constructor(hub: Hub, topic: string, name: string, place: string) {
    this.#hub = hub;
    this.#topic = topic;
    this.#name = name;
    this.#place = place;
    this.#isShared = hub.log?.order === 'shared';
  }

  giveUp(): void {
    this.#hasGivenUp = true;
  }

  /** Again and again, until the log has the events, or refuses them. */
  async append(events: readonly HubEvent[]): Promise<void> {
    const options = this.#isShared ? { idempotency: this.#key() } : ({} as AppendOptions);
    const ids = await this.#insist(() => this.#hub.appendAll(this.#topic, events, options));
    this.#place = ids.at(-1) ?? this.#place;
  }

  async end(): Promise<void> {
    await this.#insist(() => this.#hub.change(this.#topic, 'end'));
  }

  /** In a new epoch, the log may have lost the event that came last: then the key names the beginning. */
  #key(): NonNullable<AppendOptions['idempotency']> {
    const epoch = parseId(this.#hub.position)?.epoch ?? 0;
    const place = parseId(this.#place)?.epoch === epoch ? this.#place : formatId(epoch, 0);
    return { key: `generation ${this.#topic} ${place}`, digest: `${this.#name} ${++this.#count}` };
  }

  async #insist<T>(act: () => Promise<T>): Promise<T> {
    const backoff = new Backoff({ backoffDelay: 100, maxBackoffDelay: 1000, minRetryDelay: 20 });
    for (;;) {
      try {
        return await act();
      } catch (error) {
        if (!isPassing(error) || this.#hasGivenUp) throw error;
        await new Promise((resolve) => setTimeout(resolve, backoff.nextDelay(0)));
      }
    }
  }
}

/** Whether an append, sent again, may succeed. */
function isPassing(error: unknown): boolean {
  const code = codeOf(error);
  return code === 'ERR_SSE_LOG_UNAVAILABLE' || code === 'ERR_SSE_OUTCOME_UNKNOWN';
}

/** Whether the topic has ended, or another writer has appended its last event. */
export function isEndedElsewhere(error: unknown): boolean {
  const code = codeOf(error);
  return code === 'ERR_SSE_TOPIC_ENDED' || code === 'ERR_SSE_IDEMPOTENCY_CONFLICT';
}

function codeOf(error: unknown): unknown {
  return (error as { code?: unknown } | null | undefined)?.code;
}
