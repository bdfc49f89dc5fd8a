// Runs generations, such as the answers of a language model, into topics of a hub, whoever reads them.
// Needs `generation.ts`, `hub.ts`, `local-reader.ts`, `log.ts`, `notices.ts` and `protocol.ts`, and what these need,
// beside it.

import {
  Chain,
  type GenerationSource,
  isEndedElsewhere,
  lookAt,
  type Outcome,
  Run,
  type TopicState,
} from './generation.ts';
import type { EventMap, Hub, HubEvent } from './hub.ts';
import { type LocalReaderOptions, readLocally } from './local-reader.ts';
import { topicEnded } from './log.ts';
import { MAX_NAMED, type Notice, Notices } from './notices.ts';
import { isReservedEvent, isTopic, parseId, topicRule } from './protocol.ts';

export type { Generated, GenerationSource, Outcome } from './generation.ts';

export interface GenerationsOptions {
  /** Milliseconds for which a topic is kept after its end; default 600,000. `Infinity`: until the log drops it. */
  ttl?: number | undefined;
  /**
   * Milliseconds after which the generations of a node that says nothing have failed; default 15,000. All nodes must
   * have the same.
   */
  lease?: number | undefined;
  /** Most generations that run here at once; default 1,000. */
  maxRunning?: number | undefined;
  /** Most topics that are kept after their end; default 10,000. Beyond that, the oldest is deleted. */
  maxKept?: number | undefined;
  /** The types of the last events; default `done`, `failed` and `stopped`. All nodes must have the same. */
  events?: { readonly [Name in Outcome]?: string | undefined } | undefined;
  /**
   * Returns the JSON of a last event. Default: `{}`, and for `failed` a message that does not reveal the cause. The
   * cause is known only to the node on which the source ran.
   */
  describe?: ((outcome: Outcome, cause: unknown) => unknown) | undefined;
  /** The topic by which the nodes of a log hear of each other; default `generations`. Let no client use it. */
  notices?: string | undefined;
  /** Called with what the log has thrown where nobody waits for an answer. Default: nothing; it is tried again. */
  onError?: ((error: unknown, context: { readonly topic: string }) => void) | undefined;
}

export interface GenerationOptions {
  /** For this topic, instead of that of all. */
  readonly ttl?: number | undefined;
}

/** A generation that runs in this process. */
export interface Generation {
  readonly topic: string;
  /**
   * The id before its first event. A reader that begins there, as with `lastEventId`, gets all of it, or a gap where its
   * beginning is no longer there. `from: 'earliest'` begins with the oldest event that is, and tells of no gap.
   */
  readonly start: string;
  /** Resolves once the topic has ended, with the type of end; never rejects. */
  readonly done: Promise<Outcome>;
  /** Why it has failed. */
  readonly cause: unknown;
  /** Stops it. @returns whether that was how it ended, once it has. */
  stop(): Promise<boolean>;
}

/** What a log knows of the topic of a generation. */
interface State extends TopicState {
  /** What its newest event says, where that is a last event. */
  readonly outcome: Outcome | undefined;
}

/** A lease has so many parts. A node says in each of them what it runs. */
const PARTS = 3;
const OUTCOMES: readonly Outcome[] = ['done', 'failed', 'stopped'];
const [MIN_LEASE, MAX_LEASE] = [30, 2 ** 31 - 1];
/** Most topics that a log is asked for at once. */
const MAX_ASKED = 1000;

/**
 * Each generation has a topic of its own. Its source runs to its end whether anybody reads or not; readers follow the
 * topic as any other, and may leave and come back. The topic ends with exactly one event that says how: `done`,
 * `failed` or `stopped`. After `ttl` its events are deleted; it stays ended.
 *
 * With a log, the generations of a process that died end as `failed`: those of a log of this hub when the hub is
 * opened again, those of a shared log after `lease`, by any other node. `stop` works on any node.
 */
export class Generations<Events extends object = EventMap> {
  readonly #hub: Hub;
  readonly #options: ReturnType<typeof checkOptions>;
  readonly #runs = new Map<string, Run>();
  /** Topics that are being claimed; and once this node has heard itself, whether no other had them before. */
  readonly #claims = new Map<string, boolean | undefined>();
  /** What runs on other nodes, and for how many parts of a lease nothing was heard of it. */
  readonly #others = new Map<string, number>();
  /** Topics that have ended, and when they are deleted. */
  readonly #kept = new Map<string, number>();
  /** Topics of others that this node is ending. */
  readonly #endings = new Map<string, Promise<Outcome | undefined>>();
  readonly #notices: Notices | undefined;
  readonly #timer: NodeJS.Timeout;
  readonly #isShared: boolean;
  /** That of the log, in which what has ended is known to be there. */
  #epoch: number | undefined;
  #isClosed = false;

  /** @throws {TypeError | RangeError} naming the option that cannot be used. */
  constructor(hub: Hub<Events>, options: GenerationsOptions = {}) {
    this.#hub = hub as unknown as Hub;
    this.#options = checkOptions(options);
    const { log, events } = this.#hub;
    if (events !== undefined)
      throw new TypeError(
        'generations need a hub without `events`: they publish types of their own, and text',
      );
    this.#isShared = log?.order === 'shared';
    if (log !== undefined && 'lossy' in log && log.lossy === true)
      throw new TypeError('generations need a log that keeps events, or none: `hub` has one that keeps none');
    if (log !== undefined)
      this.#notices = new Notices(
        this.#hub,
        this.#options.notices,
        (...heard) => this.#hear(...heard),
        () => this.#sayRunning(),
      );
    this.#timer = setInterval(() => this.#tick(), this.#options.lease / PARTS);
    this.#timer.unref?.();
    this.#openSoon();
  }

  /** How many generations run in this process. */
  get size(): number {
    return this.#runs.size + this.#claims.size;
  }

  /** The generation of a topic that runs in this process. */
  get(topic: string): Generation | undefined {
    return this.#runs.get(topic);
  }

  /**
   * Claims a topic, and runs a source into it. Resolves once the source has begun.
   *
   * The source may be a function that gets a `signal`, which aborts when the generation is stopped. It is read no
   * faster than the log takes what it yields, and than readers that keep up read.
   *
   * @throws {TypeError} code `ERR_SSE_MALFORMED_TOPIC`; without a code for what is no source.
   * @throws {Error} code `ERR_SSE_GENERATION_RUNS` where one runs into the topic, on any node; `ERR_SSE_TOPIC_ENDED`
   *   where one has; `ERR_SSE_TOO_MANY_GENERATIONS` where `maxRunning` run here; `ERR_SSE_GENERATIONS_CLOSED` after
   *   `close`.
   * @throws {LogError} where the log cannot be reached. The source has not begun.
   */
  async run(
    topic: string,
    source: GenerationSource<Events>,
    options: GenerationOptions = {},
  ): Promise<Generation> {
    const { ttl = this.#options.ttl } = options;
    checkTopic(topic);
    checkTtl(ttl);
    checkSource(source);
    if (this.#isClosed) throw isClosed();
    if (this.#runs.has(topic) || this.#claims.has(topic)) throw isRunning(topic);
    if (this.size >= this.#options.maxRunning) throw tooMany(this.#options.maxRunning);
    this.#claims.set(topic, undefined);
    try {
      const place = await this.#claim(topic);
      if (this.#isClosed) throw isClosed();
      return this.#start(topic, source as GenerationSource, place, ttl);
    } catch (error) {
      throw this.#isClosed ? isClosed() : error;
    } finally {
      this.#claims.delete(topic);
    }
  }

  /**
   * Stops the generation of a topic, on whichever node it runs. The node is asked to; where it does not answer, this
   * node ends the topic, and the source finds out when it goes on.
   *
   * @returns whether that was how it ended. Not where none runs.
   * @throws {LogError} where the log cannot be reached.
   */
  async stop(topic: string): Promise<boolean> {
    checkTopic(topic);
    const run = this.#runs.get(topic);
    if (run !== undefined) return run.stop();
    if (!this.#isShared) return false;
    await this.#open();
    if ((await this.#look(topic)).isEnded) return false;
    // Another node may have begun it just now: what that said has been heard once this node hears itself.
    if (!this.#others.has(topic)) await this.#notices!.sayAndHear({});
    if (!this.#others.has(topic)) return false;
    await this.#notices!.say({ stop: [topic] });
    await this.#ended(topic, this.#options.lease / PARTS);
    return (await this.#end(topic, 'stopped')) === 'stopped';
  }

  /**
   * Ends all that runs here as `failed`, and stops its sources. Resolves when readers of this process that keep up
   * have been sent that. Call it before you end streams and close the hub. Topics that were to be deleted later are
   * left to the other nodes, to the next process, or to the limits of the log.
   */
  async close(): Promise<void> {
    this.#isClosed = true;
    clearInterval(this.#timer);
    const runs = [...this.#runs.values()];
    for (const run of runs) run.giveUp();
    await Promise.all(runs.map((run) => run.stop('failed')));
    // The hub delivers the last event in one turn, and the end of the topic in another.
    for (let turns = 0; turns < 2; turns++) await new Promise((resolve) => setImmediate(resolve));
    this.#notices?.close();
  }

  // ── one generation ───────────────────────────────────────────────────────────────────────────────────────

  /**
   * A topic belongs to the node that is the first to say so, in the order of the log.
   * @returns the place behind which the run appends.
   */
  async #claim(topic: string): Promise<string> {
    await this.#open();
    if (this.#others.has(topic)) throw isRunning(topic);
    this.#hub.batchLimits(topic); // throws where the topic has ended, and is none of a shared log
    if (this.#notices === undefined) return '';
    await this.#lookOpen(topic);
    await this.#notices.sayAndHear({ running: [topic] });
    if (this.#claims.get(topic) !== true) throw isRunning(topic);
    try {
      return await this.#lookOpen(topic);
    } catch (error) {
      // The others need not watch what does not run.
      this.#attempt(topic, () => this.#notices!.say({ over: [topic] }));
      throw error;
    }
  }

  /** @returns the place of a topic. @throws {Error} where it has ended, or is about to. */
  async #lookOpen(topic: string): Promise<string> {
    const { isEnded, outcome, place } = await this.#look(topic);
    if (isEnded || outcome !== undefined) throw topicEnded(topic);
    return place;
  }

  #start(topic: string, source: GenerationSource, place: string, ttl: number): Run {
    const run = new Run({
      hub: this.#hub,
      topic,
      source,
      place,
      start: this.#hub.position,
      last: (outcome, cause) => this.#last(outcome, cause),
      isLast: this.#isLast,
      outcomeOf: (ended) => this.#outcomeOf(ended),
    });
    this.#runs.set(topic, run);
    run.done.then(() => {
      this.#runs.delete(topic);
      this.#keep(topic, ttl);
    });
    return run;
  }

  #last(outcome: Outcome, cause: unknown): HubEvent {
    const { typeOf, describe } = this.#options;
    const plain = outcome === 'failed' ? { message: 'the generation failed' } : {};
    let json: unknown;
    try {
      json = describe?.(outcome, cause);
      JSON.stringify(json);
    } catch (error) {
      this.#report(error, this.#options.notices);
      json = undefined;
    }
    return { event: typeOf[outcome], json: json ?? plain };
  }

  readonly #isLast = (type: string | undefined): boolean => this.#outcomeNamed(type) !== undefined;

  #outcomeNamed(type: string | undefined): Outcome | undefined {
    return OUTCOMES.find((outcome) => this.#options.typeOf[outcome] === type);
  }

  /** How a topic ended that another writer has given its last event. */
  async #outcomeOf(topic: string): Promise<Outcome | undefined> {
    if (this.#hub.log === undefined) return undefined;
    const { isEnded, outcome } = await this.#look(topic);
    if (!isEnded && outcome !== undefined) await this.#hub.change(topic, 'end');
    return outcome;
  }

  // ── generations of others ────────────────────────────────────────────────────────────────────────────────

  /** Nobody else writes to a log of this hub: what ran when it was closed is over. */
  async #open(): Promise<void> {
    await this.#notices?.open();
    this.#epoch ??= parseId(this.#hub.position)?.epoch;
    if (this.#isShared) return;
    await Promise.all([...this.#others.keys()].map((topic) => this.#end(topic, 'failed')));
  }

  #openSoon(): void {
    if (this.#hub.failure === undefined) this.#attempt(this.#options.notices, () => this.#open());
  }

  readonly #isMine = (topic: string): boolean => this.#runs.has(topic) || this.#claims.get(topic) === true;

  #hear({ running = [], over = [], until, stop = [], missed = [] }: Notice, isOwn: boolean): void {
    if (isOwn) {
      for (const topic of running)
        if (this.#claims.has(topic)) this.#claims.set(topic, this.#isMine(topic) || !this.#others.has(topic));
      return;
    }
    for (const topic of running)
      if (!this.#isMine(topic) && !this.#kept.has(topic)) this.#others.set(topic, 0);
    for (const topic of over) {
      this.#others.delete(topic);
      // The node that says so deletes it, if it lives until then.
      if (until !== undefined) this.#kept.set(topic, until + this.#options.lease);
    }
    this.#trimKept();
    for (const topic of stop) void this.#runs.get(topic)?.stop();
    if (missed.some((topic) => this.#runs.has(topic))) this.#sayRunning();
  }

  /** One part of a lease has passed. Where the log is away, nobody is heard, and that says nothing. */
  #tick(): void {
    if (this.#hub.failure !== undefined) return;
    this.#openSoon();
    this.#sayRunning();
    this.#deleteOld();
    if (!this.#isShared) return;
    this.#attempt(this.#options.notices, () => this.#endLost());
    const missed: string[] = [];
    for (const [topic, parts] of this.#others) {
      this.#others.set(topic, parts + 1);
      if (parts + 1 >= PARTS) missed.push(topic);
    }
    if (missed.length > 0) this.#attempt(this.#options.notices, () => this.#endMissed(missed));
  }

  /**
   * A node that hears nothing may itself be the one that is cut off. So it says what it misses: once it hears itself,
   * it has heard all that was said before. In the next part of the lease it ends what it still misses.
   */
  async #endMissed(missed: readonly string[]): Promise<void> {
    for (let i = 0; i < missed.length; i += MAX_NAMED)
      await this.#notices!.sayAndHear({ missed: missed.slice(i, i + MAX_NAMED) });
    for (const topic of missed) {
      const isLate = (this.#others.get(topic) ?? 0) > PARTS;
      if (isLate) await this.#attempt(topic, () => this.#end(topic, 'failed'));
    }
  }

  /**
   * A log that goes on in another epoch may have lost the last event of a topic, or the whole topic. Then readers would
   * wait for ever for what this node takes for ended.
   */
  async #endLost(): Promise<void> {
    const before = this.#epoch;
    const epoch = parseId(this.#hub.position)?.epoch;
    if (before === undefined || before === epoch) return;
    this.#epoch = epoch;
    try {
      const kept = [...this.#kept.keys()];
      for (let i = 0; i < kept.length; i += MAX_ASKED) {
        const asked = kept.slice(i, i + MAX_ASKED);
        const records = await this.#hub.log!.find(asked);
        const ended = new Set(records.filter((record) => record.ended).map(({ topic }) => topic));
        for (const topic of asked) if (!ended.has(topic)) await this.#end(topic, 'failed');
      }
    } catch (error) {
      this.#epoch = before;
      throw error;
    }
  }

  /** Gives a topic its last event, unless it has one, and ends it. @returns how it has ended. */
  #end(topic: string, outcome: Outcome): Promise<Outcome | undefined> {
    const under = this.#endings.get(topic);
    if (under !== undefined) return under;
    const ending = this.#endNow(topic, outcome).finally(() => this.#endings.delete(topic));
    this.#endings.set(topic, ending);
    return ending;
  }

  async #endNow(topic: string, outcome: Outcome): Promise<Outcome | undefined> {
    const { isEnded, outcome: known, place } = await this.#look(topic);
    if (!isEnded && known === undefined) {
      const chain = new Chain({ hub: this.#hub, topic, place, isLast: this.#isLast });
      chain.giveUp();
      try {
        await chain.conclude(this.#last(outcome, undefined));
      } catch (error) {
        // Another writer has ended it meanwhile.
        if (isEndedElsewhere(error)) return this.#endNow(topic, outcome);
        throw error;
      }
    } else if (!isEnded) await this.#hub.change(topic, 'end');
    if (this.#others.delete(topic)) this.#keep(topic, this.#options.ttl);
    return isEnded ? known : (known ?? outcome);
  }

  async #look(topic: string): Promise<State> {
    const state = await lookAt(this.#hub, topic);
    return { ...state, outcome: this.#outcomeNamed(state.type) };
  }

  /** Resolves once a topic has ended, and after a while in any case. */
  #ended(topic: string, timeout: number): Promise<void> {
    return new Promise((resolve) => {
      let timer: NodeJS.Timeout | undefined;
      const onEnd = (): void => {
        clearTimeout(timer);
        resolve();
      };
      const stop = this.#follow(topic, { onEnd });
      timer = setTimeout(() => {
        stop();
        resolve();
      }, timeout);
    });
  }

  /** A hub that follows as many topics as it may follows none. */
  #follow(topic: string, options: LocalReaderOptions): () => void {
    try {
      return readLocally(this.#hub, topic, options);
    } catch {
      return () => {};
    }
  }

  #sayRunning(): void {
    if (this.#notices !== undefined && this.size > 0)
      this.#attempt(this.#options.notices, () =>
        this.#notices!.sayRunning(() => [...this.#runs.keys(), ...this.#claims.keys()].filter(this.#isMine)),
      );
  }

  // ── topics that have ended ───────────────────────────────────────────────────────────────────────────────

  #keep(topic: string, ttl: number): void {
    const until = Date.now() + ttl;
    if (until < Infinity) this.#kept.set(topic, until);
    if (this.#notices !== undefined && !this.#isClosed)
      this.#attempt(topic, () => this.#notices!.say({ over: [topic], until, left: ttl }));
    this.#trimKept();
  }

  #trimKept(): void {
    for (const [oldest] of this.#kept) {
      if (this.#kept.size <= this.#options.maxKept) return;
      this.#deleteNow(oldest);
    }
  }

  #deleteOld(): void {
    const now = Date.now();
    for (const [topic, until] of this.#kept) if (until <= now) this.#deleteNow(topic);
  }

  #deleteNow(topic: string): void {
    this.#kept.delete(topic);
    const again = (error: unknown): never => {
      this.#kept.set(topic, Date.now() + this.#options.lease);
      throw error;
    };
    this.#attempt(topic, () => this.#delete(topic).catch(again));
  }

  /** The topic stays ended, so that readers who come late are not left waiting. */
  async #delete(topic: string): Promise<void> {
    const { log } = this.#hub;
    const [record] = (await log?.find([topic])) ?? [];
    const isEnded = log === undefined ? isEndedHere(this.#hub, topic) : record?.ended === true;
    // Somebody has reopened it.
    if (!isEnded && record?.deleted !== true) return;
    if (isEnded && record?.events !== 0) await this.#hub.change(topic, 'delete');
    // A topic without events can end only while somebody follows it.
    const stop = this.#follow(topic, {});
    await this.#hub.change(topic, 'end').finally(stop);
  }

  /** For what nobody waits for. */
  async #attempt(topic: string, act: () => Promise<unknown>): Promise<void> {
    try {
      await act();
    } catch (error) {
      this.#report(error, topic);
    }
  }

  #report(error: unknown, topic: string): void {
    try {
      this.#options.onError?.(error, { topic });
    } catch {
      // It has nobody to tell.
    }
  }
}

function isEndedHere(hub: Hub, topic: string): boolean {
  try {
    hub.batchLimits(topic);
    return false;
  } catch (error) {
    return isEndedElsewhere(error);
  }
}

// ── misuse ──────────────────────────────────────────────────────────────────────────────────────────────────

function checkOptions(options: GenerationsOptions) {
  const { ttl = 600_000, lease = 15_000, maxRunning = 1000, maxKept = 10_000, events = {} } = options;
  const { describe, notices = 'generations', onError } = options;
  checkTtl(ttl);
  checkLease(lease);
  checkCount('maxRunning', maxRunning);
  checkCount('maxKept', maxKept);
  if (!isTopic(notices)) throw new TypeError(`\`notices\` must be ${topicRule}, got ${show(notices)}`);
  const { done = 'done', failed = 'failed', stopped = 'stopped' } = events;
  const typeOf: Record<Outcome, string> = { done, failed, stopped };
  for (const outcome of OUTCOMES) checkType(`events.${outcome}`, typeOf[outcome]);
  if (new Set(OUTCOMES.map((outcome) => typeOf[outcome])).size < OUTCOMES.length)
    throw new TypeError(`\`events\` must name three different types, got ${show(typeOf)}`);
  return { ttl, lease, maxRunning, maxKept, typeOf, describe, notices, onError };
}

function checkTtl(ttl: number): void {
  if (typeof ttl === 'number' && ttl >= 0) return;
  throw new RangeError(`\`ttl\` must be a number of milliseconds ≥ 0, got ${ttl}`);
}

/** A third of it is the interval of a timer. */
function checkLease(lease: number): void {
  if (typeof lease === 'number' && lease >= MIN_LEASE && lease <= MAX_LEASE) return;
  throw new RangeError(`\`lease\` must be from ${MIN_LEASE} to ${MAX_LEASE} milliseconds, got ${lease}`);
}

function checkCount(name: string, value: number): void {
  if ((Number.isSafeInteger(value) || value === Infinity) && value >= 1) return;
  throw new RangeError(`\`${name}\` must be a whole number ≥ 1, got ${value}`);
}

function checkType(name: string, type: unknown): void {
  if (typeof type === 'string' && /^[^\r\n\0]+$/.test(type) && type !== 'message' && !isReservedEvent(type))
    return;
  throw new TypeError(
    `\`${name}\` must be a type of its own, of one line, and not "message" or reserved, got ${show(type)}`,
  );
}

function checkTopic(topic: unknown): void {
  if (isTopic(topic)) return;
  const error = new TypeError(`\`topic\` must be ${topicRule}, got ${show(topic)}`);
  throw fail(error, 'ERR_SSE_MALFORMED_TOPIC', 400);
}

function checkSource(source: unknown): void {
  if (typeof source === 'function' || (typeof source === 'object' && source !== null)) return;
  throw new TypeError(
    `\`source\` must be an iterable of events or strings, or a function, got ${show(source)}`,
  );
}

function isRunning(topic: string): Error {
  return fail(new Error(`a generation runs into the topic "${topic}"`), 'ERR_SSE_GENERATION_RUNS', 409);
}

function isClosed(): Error {
  const message = 'the generations of this process are closed: no other begins';
  return fail(new Error(message), 'ERR_SSE_GENERATIONS_CLOSED', 503);
}

function tooMany(most: number): Error {
  const message = `${most} generations run in this process already, as many as \`maxRunning\` allows`;
  return fail(new Error(message), 'ERR_SSE_TOO_MANY_GENERATIONS', 503);
}

function show(value: unknown): string | undefined {
  return JSON.stringify(value)?.slice(0, 80) ?? String(value);
}

function fail<E extends Error>(error: E, code: string, status: number): E {
  return Object.assign(error, { code, status });
}
