// Runs a source into a topic of a hub: its values, one last event, and the end of the topic.
// Needs `backoff.ts`, `decode.ts`, `encode.ts`, `hub.ts`, `local-reader.ts`, `log.ts`, `protocol.ts` and `source.ts`, and
// what these need, beside it.

import { Backoff } from './backoff.ts';
import { createDecoder } from './decode.ts';
import { encode, type ServerSentEvent } from './encode.ts';
import type { EventMap, Hub, HubEvent } from './hub.ts';
import { readLocally } from './local-reader.ts';
import { type Log, type LogEntry, logUnavailable, topicEnded } from './log.ts';
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
  /** The place of the topic's newest event. */
  readonly place: string;
  /** A position before all that it appends. */
  readonly start: string;
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
/** Most attempts to append a last event behind a source that goes on. */
const MAX_ATTEMPTS = 100;

/** One run. It pulls from its source while the log takes what came before, a batch in each turn. */
export class Run {
  readonly topic: string;
  readonly start: string;
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
    this.start = options.start;
    this.#options = options;
    this.#chain = new Chain(options);
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
      await this.#chain.conclude(this.#options.last(outcome, this.cause));
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
 * On a log that several hubs share, each append names that event, and the log takes only one behind it. So after
 * another writer has appended the last event, this one is refused whatever it still had under way, however long it
 * was paused. An append whose outcome is unknown is refused as well when it is sent again, where it is there: then
 * its events are what comes behind the event that it named.
 */
export class Chain {
  readonly #hub: Hub;
  readonly #topic: string;
  readonly #isLast: RunSetting['isLast'];
  readonly #isShared: boolean;
  #place: string;
  #hasGivenUp = false;

  constructor({ hub, topic, place, isLast }: Pick<RunSetting, 'hub' | 'topic' | 'place' | 'isLast'>) {
    this.#hub = hub;
    this.#topic = topic;
    this.#place = place;
    this.#isLast = isLast;
    this.#isShared = hub.log?.order === 'shared';
  }

  giveUp(): void {
    this.#hasGivenUp = true;
  }

  /**
   * Again and again, until the log has the events, or refuses them.
   * @throws {Error} code `ERR_SSE_TOPIC_ENDED` also where another writer has appended the last event.
   */
  append(events: readonly HubEvent[]): Promise<void> {
    return this.#insist(async () => {
      for (let attempt = 1; ; attempt++) {
        const behind = this.#isShared ? this.#place : undefined;
        try {
          this.#place = (await this.#hub.appendAll(this.#topic, events, { behind })).at(-1) ?? this.#place;
          return;
        } catch (error) {
          if (codeOf(error) !== 'ERR_SSE_TOPIC_MOVED') throw error;
          if (this.#hasGivenUp && attempt >= MAX_ATTEMPTS) throw error;
          if (await this.#catchUp(events)) return;
        }
      }
    });
  }

  /** Appends the last event, and ends the topic. A log that goes on in another epoch may have lost the event. */
  async conclude(last: HubEvent): Promise<void> {
    do await this.#appendLast(last);
    while (!(await this.#insist(() => this.#end())));
  }

  async #appendLast(last: HubEvent): Promise<void> {
    try {
      await this.append([last]);
    } catch (error) {
      if (isEndedElsewhere(error) || isPassing(error)) throw error;
      // The hub cannot send what the application says of the end.
      await this.append([{ event: last.event, data: '{}' }]);
    }
  }

  async #end(): Promise<boolean> {
    if (await this.#hub.change(this.#topic, 'end')) return true;
    return !this.#isShared || (await lookAt(this.#hub, this.#topic)).isEnded;
  }

  /** Finds out what came behind its place, and goes on behind that. @returns whether it was these events. */
  async #catchUp(events: readonly HubEvent[]): Promise<boolean> {
    const { place, type } = await lookAt(this.#hub, this.#topic);
    const [newest, known] = [parseId(place)!, parseId(this.#place)!];
    const after = newest.epoch === known.epoch ? known.seq : 0;
    const entries = await readAfter(this.#hub.log!, this.#topic, after, events.length);
    if (events.every((event, i) => isFrameOf(entries[i], event))) {
      this.#place = formatId(newest.epoch, entries[events.length - 1]!.seq);
      return true;
    }
    const isDeleted = entries.length === 0 && newest.seq > after;
    if (isDeleted || this.#isLast(type)) throw topicEnded(this.#topic);
    // The log is about to tell that it goes on in another epoch.
    if (place === this.#place) throw logUnavailable('the order of the log has changed');
    this.#place = place;
    return false;
  }

  async #insist<T>(act: () => Promise<T>): Promise<T> {
    const backoff = new Backoff({ backoffDelay: 100, maxBackoffDelay: 1000, minRetryDelay: 20 });
    for (;;) {
      try {
        return await act();
      } catch (error) {
        if (!isPassing(error) || this.#hasGivenUp) throw error;
        await new Promise((resolve) => setTimeout(resolve, backoff.nextDelay()));
      }
    }
  }
}

/** What a log knows of a topic. */
export interface TopicState {
  readonly isEnded: boolean;
  /** The id of its newest event. */
  readonly place: string;
  /** The type of that, where the log still has it. */
  readonly type: string | undefined;
}

/** Asks the log. */
export async function lookAt(hub: Hub, topic: string): Promise<TopicState> {
  const log = hub.log!;
  if (log.order === 'shared' && hub.failure !== undefined) throw hub.failure;
  const { epoch } = parseId(hub.position)!;
  const [record] = await log.find([topic]);
  const { last = 0, ended = false, events = 0 } = record ?? {};
  const entries = events > 0 ? (await log.read([topic], last - 1, 1, { newestOnly: false })).entries : [];
  // What it has answered are places of another epoch.
  if (parseId(hub.position)?.epoch !== epoch) return lookAt(hub, topic);
  return { isEnded: ended, place: formatId(epoch, last), type: entries[0] && typeOf(entries[0].frame) };
}

/** At least `count` events of a topic after a seq, or all where there are fewer. */
async function readAfter(log: Log, topic: string, after: number, count: number): Promise<LogEntry[]> {
  const all: LogEntry[] = [];
  while (all.length < count) {
    const from = all.at(-1)?.seq ?? after;
    const { entries } = await log.read([topic], from, MAX_PENDING, { newestOnly: false });
    if (entries.length === 0) break;
    all.push(...entries);
  }
  return all;
}

function isFrameOf(entry: LogEntry | undefined, { event, data, json, comment, retry }: HubEvent): boolean {
  const frame = encode({ comment, retry, event, data, json } as ServerSentEvent);
  return entry !== undefined && Buffer.from(frame).equals(entry.frame);
}

function typeOf(frame: Uint8Array): string | undefined {
  let type: string | undefined;
  const decoder = createDecoder({
    onEvent: ({ event }) => {
      type = event;
    },
    onTooLarge: () => {},
  });
  decoder.feed(frame);
  return type;
}

/** Whether an append, sent again, may succeed. */
function isPassing(error: unknown): boolean {
  const code = codeOf(error);
  return code === 'ERR_SSE_LOG_UNAVAILABLE' || code === 'ERR_SSE_OUTCOME_UNKNOWN';
}

/** Whether the topic has ended, or another writer has appended its last event. */
export function isEndedElsewhere(error: unknown): boolean {
  return codeOf(error) === 'ERR_SSE_TOPIC_ENDED';
}

function codeOf(error: unknown): unknown {
  return (error as { code?: unknown } | null | undefined)?.code;
}
