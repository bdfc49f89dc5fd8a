// The events that a reader hands to its application, and their data as JSON.
// Needs `decode.ts` beside it. Runs in Node, browsers, workers, Deno and Bun.

import type { DecodedEvent } from './decode.ts';

/**
 * The JSON data of each event type: `{ tick: { price: number } }`. Share it with the code that publishes. A
 * control event that the loop is to see has to be in it too: `{ 'sluice:gap': Gap }`.
 */
export type EventMap = Record<string, unknown>;

/** One event of a stream. */
export interface ReceivedEvent<Type extends string = string, Json = unknown> extends DecodedEvent {
  readonly event: Type;
  /**
   * `data` as JSON, parsed at the first access. Its type is not checked at run time.
   *
   * @throws {SyntaxError} `ERR_SSE_BAD_JSON`, naming the event, where the data is not JSON. A loop over
   *   `const { event, json }` reads it for each event, so it throws at the first event whose data is not
   *   JSON.
   */
  readonly json: Json;
}

/** Any event of the map, discriminated by `event`. */
export type EventOf<Events extends object> = {
  [Type in keyof Events & string]: ReceivedEvent<Type, Events[Type]>;
}[keyof Events & string];

/**
 * Parses the data of an event as JSON. The getter `json` of a {@link ReceivedEvent} uses it.
 *
 * @throws {SyntaxError} `ERR_SSE_BAD_JSON`, naming the event's type and the last event ID, for other data.
 */
export function readJson({ event, data, lastEventId }: Omit<DecodedEvent, 'id'>): unknown {
  try {
    return JSON.parse(data);
  } catch (cause) {
    const name = `${shortened(event)} (last event ID ${shortened(lastEventId)})`;
    const error = new SyntaxError(`the data of event ${name} is not JSON: ${(cause as Error).message}`);
    throw Object.assign(error, { code: 'ERR_SSE_BAD_JSON' as const });
  }
}

/** A text of any length for a message, in quotes. */
export function shortened(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text);
}

/** An event as the decoder made it, with `json`. */
export class Received implements ReceivedEvent {
  readonly event: string;
  readonly data: string;
  readonly id: string | undefined;
  readonly lastEventId: string;
  #json: { readonly value: unknown } | undefined;

  constructor({ event, data, id, lastEventId }: DecodedEvent) {
    this.event = event;
    this.data = data;
    this.id = id;
    this.lastEventId = lastEventId;
  }

  get json(): unknown {
    this.#json ??= { value: readJson(this) };
    return this.#json.value;
  }
}
