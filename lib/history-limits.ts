// The limits of a topic's history, with the defaults filled in. A hub's memory and its logs have the same.
// Stands alone: copy this file by itself.

/** How much of a topic is remembered for clients that return. */
export interface HistoryLimits {
  /** Most events; default 10,000. */
  maxEvents?: number | undefined;
  /** Most bytes on the wire; default 4 MiB. No event can be larger, nor larger than `maxEventBytes`. */
  maxBytes?: number | undefined;
  /** Milliseconds; default no limit. */
  maxAge?: number | undefined;
}

export interface HistoryOptions {
  /** The limits of each topic, or a function that is called once for each topic that is published to. */
  history?: HistoryLimits | ((topic: string) => HistoryLimits) | undefined;
  /**
   * Most bytes of memory that the events of all topics hold in this process, with their keys, their index and
   * what is allocated ahead; default 256 MiB.
   */
  maxHistoryBytes?: number | undefined;
  /** Most bytes of one event on the wire; default 1 MiB + 64 KiB. A topic's `maxBytes` may be smaller. */
  maxEventBytes?: number | undefined;
  /** Most topics that were published to or have ended; default 10,000. */
  maxTopics?: number | undefined;
  /** Most topics that have followers only: nothing was published to them; default 10,000. */
  maxFollowedTopics?: number | undefined;
}

/**
 * Most bytes of a page, and of a segment of history, by default. With its frame it is less than the 64 KiB that a
 * socket takes before it asks to wait, so that a reader who keeps up is not waited for.
 */
export const PAGE_BYTES: number = 60 * 1024;

/** The limits that a topic has, with the defaults filled in. */
export type Limits = { readonly [Limit in keyof HistoryLimits]-?: number };

/**
 * Fills in the defaults of limits.
 * @throws {RangeError | TypeError} naming the limit that cannot be used.
 */
export function checkLimits(limits: HistoryLimits, defaults: Limits = DEFAULTS): Limits {
  if (typeof limits !== 'object' || limits === null || 'then' in limits) {
    throw new TypeError(`\`history\` must be, or return, an object of limits, got ${show(limits)}`);
  }
  const { maxEvents = defaults.maxEvents, maxBytes = defaults.maxBytes, maxAge = defaults.maxAge } = limits;
  if (maxEvents !== Infinity && !(Number.isSafeInteger(maxEvents) && maxEvents >= 1)) {
    throw new RangeError(`\`maxEvents\` must be a whole number ≥ 1, got ${maxEvents}`);
  }
  return { maxEvents, maxBytes: atLeastOne('maxBytes', maxBytes), maxAge: atLeastOne('maxAge', maxAge) };
}

const MAX_EVENTS = 10_000;
const DEFAULTS: Limits = { maxEvents: MAX_EVENTS, maxBytes: 4 * 1024 * 1024, maxAge: Infinity };

function show(limits: unknown): string {
  return limits instanceof Promise ? 'a promise' : String(limits);
}

/** @throws {RangeError} naming the option, where the value is no number ≥ 1. */
export function atLeastOne(name: string, value: number): number {
  if (typeof value === 'number' && value >= 1) return value;
  throw new RangeError(`\`${name}\` must be a number ≥ 1, got ${value}`);
}
