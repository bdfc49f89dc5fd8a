// The events that a reader hands to its application, and their data as JSON.
// Needs `decode.ts` beside it. Runs in Node, browsers, workers, Deno and Bun.

import type { DecodedEvent, DecodeError, DecoderOptions } from './decode.ts';

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
  /** With `relay`: the `retry` that came with the event. */
  readonly retry?: number | undefined;
}

/** What a stream has beside events: a comment, an id without data, a `retry`. `pipe` sends it on. */
export interface Piece {
  readonly comment?: string | undefined;
  readonly id?: string | undefined;
  readonly retry?: number | undefined;
  readonly event?: undefined;
  readonly data?: undefined;
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
  declare readonly retry?: number;
  #json: { readonly value: unknown } | undefined;

  constructor({
    event,
    data,
    id,
    lastEventId,
    retry,
  }: DecodedEvent & { readonly retry?: number | undefined }) {
    this.event = event;
    this.data = data;
    this.id = id;
    this.lastEventId = lastEventId;
    if (retry !== undefined) this.retry = retry;
  }

  get json(): unknown {
    this.#json ??= { value: readJson(this) };
    return this.#json.value;
  }
}

/** What a decoder has read: an event, something else, or an event that was dropped for its size. */
export type Arrived =
  | (DecodedEvent & { readonly retry?: number | undefined })
  | Piece
  | (DecodeError & { readonly event?: undefined; readonly comment?: undefined });

/** Whether it is neither an event nor a place to resume from: a comment, a `retry`. */
export function isAside(item: Arrived): boolean {
  return item.event === undefined && !('code' in item) && item.id === undefined;
}

interface IntakeOptions {
  /** Whether comments and `retry` are wanted too. */
  readonly relay: boolean;
  readonly onComment: ((event: { readonly comment: string }) => void) | undefined;
  readonly onRetry: (ms: number) => void;
}

interface Intake {
  readonly handlers: DecoderOptions;
  /** What has arrived since the last call, in order. */
  take(): Arrived[];
}

/** Keeps what a decoder reads until it is processed. */
export function createIntake({ relay, onComment, onRetry }: IntakeOptions): Intake {
  let items: Arrived[] = [];
  // A `retry` is handed on with its event: a block of its own becomes an empty message in some readers.
  let retry: number | undefined;
  const keep = (item: Arrived): void => {
    items.push(retry === undefined ? item : { ...item, retry });
    retry = undefined;
  };
  const onAnyComment = (comment: string): void => {
    onComment?.({ comment });
    if (relay) items.push({ comment });
  };
  return {
    handlers: {
      onEvent: relay ? keep : (event) => items.push(event),
      onId: (id) => keep({ id }),
      onTooLarge: (error) => items.push(error as Arrived),
      onRetry: (ms) => {
        onRetry(ms);
        if (relay) retry = Math.min(ms, MAX_RETRY);
      },
      onComment: relay || onComment ? onAnyComment : undefined,
    },
    take() {
      if (retry !== undefined) keep({});
      const taken = items;
      items = [];
      return taken;
    },
  };
}

// The longest `retry` that `encode` takes.
const MAX_RETRY = 2 ** 31 - 1;
