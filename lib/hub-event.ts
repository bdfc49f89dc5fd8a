// The events that a hub publishes: their types, also those of a hub with a map of types, and their rules.
// Needs `encode.ts` and `protocol.ts` beside it.

import type { ServerSentEvent } from './encode.ts';
import { controlPrefix, isReservedEvent } from './protocol.ts';

/** The JSON that each event type carries: `{ tick: { price: number } }`. Readers take the same type. */
export type EventMap = Record<string, unknown>;

/**
 * An event to publish: text as `data`, or any value that JSON can express as `json`. The hub gives it its id.
 * Types that begin with `sluice:` are reserved. In a hub with a map of types, `json` has the type that the
 * map states.
 */
export type HubEvent<Events extends object = EventMap> = HubEventFields &
  (string extends keyof Events ? UntypedEvent : TypedEvent<Events>);

export interface HubEventFields extends Pick<ServerSentEvent, 'comment' | 'retry'> {
  /**
   * Names the value that the event updates, in at most 1,000 characters. A conflating subscriber that lags
   * gets only the newest event of each key.
   */
  readonly key?: string | undefined;
}

/** What is published in a hub without a map of types. */
export type UntypedEvent =
  | { readonly event?: string | undefined; readonly data: string; readonly json?: unknown }
  | { readonly event?: string | undefined; readonly data?: undefined; readonly json: unknown };

/** What is published in a hub with a map of types. */
export type TypedEvent<Events> = {
  [Type in keyof Events & string]: {
    readonly event: Type;
    readonly data?: undefined;
    readonly json: Events[Type];
  };
}[keyof Events & string];

/** Checks what is published. `defineEvents` of `sluice/schema` makes one. */
export interface EventChecks<Events extends object = EventMap> {
  /** Reads the data of an event, whose result is not used. @throws for an event that is not to be published. */
  parse(event: string, data: string): unknown;
  /** Exists for the compiler alone. */
  readonly types?: { readonly input: Events } | undefined;
}

/** Events to publish together. An array is one; a batch may also make its events while they are read. */
export interface EventBatch<Event> extends Iterable<Event> {
  readonly length: number;
}

const MAX_KEY_LENGTH = 1000;

/**
 * Checks the rules that `encode` does not check.
 * @throws {TypeError} code `ERR_SSE_BAD_EVENT`, naming the field.
 */
export function checkEvent(type: unknown, data: unknown, json: unknown, key: unknown): void {
  if (typeof type === 'string' && isReservedEvent(type))
    throw badEvent(`\`event\` must not begin with "${controlPrefix}", which is reserved, got ${show(type)}`);
  if (typeof data !== 'string' && (data !== undefined || json === undefined))
    throw badEvent(`\`data\` must be a string, got ${typeof data}: pass other values as \`json\``);
  if (key !== undefined && !(typeof key === 'string' && key.length <= MAX_KEY_LENGTH))
    throw badEvent(`\`key\` must be a string of at most ${MAX_KEY_LENGTH} characters, got ${show(key)}`);
}

/** @throws {TypeError} for an option `events` that checks nothing, such as schemas by themselves. */
export function checkChecks(events: unknown): void {
  if (events === undefined || typeof (events as Partial<EventChecks> | null)?.parse === 'function') return;
  throw new TypeError(
    `\`events\` must be made by \`defineEvents\`, got ${events === null ? 'null' : typeof events}`,
  );
}

/**
 * The data of an event as it goes over the wire, once checked; `undefined` for what JSON cannot express, which
 * `encode` refuses.
 */
export function checkedData(
  checks: Pick<EventChecks, 'parse'>,
  type: string | undefined,
  data: string | undefined,
  json: unknown,
): string | undefined {
  const text = data ?? jsonText(json);
  // By the standard, an event without a type is a `message`.
  if (text !== undefined) checks.parse(type || 'message', text);
  return text;
}

function jsonText(json: unknown): string | undefined {
  try {
    return JSON.stringify(json);
  } catch {
    return undefined;
  }
}

/** @throws {TypeError} for what is neither an array nor an `EventBatch`. */
export function checkEvents(events: unknown): void {
  const { length, [Symbol.iterator]: iterator } = Object(events) as Partial<EventBatch<unknown>>;
  if (typeof events === 'object' && typeof iterator === 'function' && typeof length === 'number') return;
  throw new TypeError(`\`events\` must be an array, or iterable with a \`length\`, got ${typeof events}`);
}

function show(value: unknown): string | undefined {
  return JSON.stringify(value)?.slice(0, 80);
}

function badEvent(message: string): TypeError {
  return Object.assign(new TypeError(message), { code: 'ERR_SSE_BAD_EVENT', status: 400 });
}
