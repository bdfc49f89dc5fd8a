// The events that a reader hands to its application, and their data as JSON.
// Needs `decode.ts` and `protocol.ts` beside it. Runs in Node, browsers, workers, Deno and Bun.

import type { DecodedEvent, DecodeError, DecoderOptions } from './decode.ts';
import { controlEvents, isSendableId } from './protocol.ts';

/**
 * The JSON data of each event type: `{ tick: { price: number } }`. Share it with the code that publishes. A
 * control event that the loop is to see has to be in it too: `{ 'sluice:gap': Gap }`.
 */
export type EventMap = Record<string, unknown>;

/** One event of a stream. */
export interface ReceivedEvent<Type extends string = string, Json = unknown> extends DecodedEvent {
  readonly event: Type;
  /**
   * `data` as JSON, parsed at the first access. Its type is not checked at run time. With `events`: what the schema
   * of the event's type has returned.
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

/** Reads and checks events. `defineEvents` of `sluice/schema` makes one. */
export interface EventReader<Events extends object = EventMap> {
  /** Whether events of this type can be read. Others are skipped. */
  has(event: string): boolean;
  /** The value of an event. @throws with `code` `ERR_SSE_BAD_EVENT`, for data that does not fit. */
  parse(event: string, data: string): unknown;
  /** Exists for the compiler alone. */
  readonly types?: { readonly output: Events } | undefined;
}

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

  /** Sets `json` to what the schema returns. Returns the error of data that does not fit. @throws any other. */
  read(events: Pick<EventReader, 'parse'>): unknown {
    try {
      this.#json = { value: events.parse(this.event, this.data) };
      return undefined;
    } catch (error) {
      if ((error as { code?: unknown } | null)?.code === 'ERR_SSE_BAD_EVENT') return error;
      throw error;
    }
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

/** Where delivery continues when this is the first that arrives; `''` where that is not known. */
export function placeOf(item: Arrived): string {
  if (item.event === undefined) return 'code' in item ? '' : (item.id ?? '');
  return item.event === controlEvents.ready ? item.lastEventId : '';
}

/** Whether a decoder has thrown it, for what is larger than a limit. */
export function isDecodeError(error: unknown): error is DecodeError {
  return 'limit' in Object(error);
}

/** Whether reading can go on behind an event that was dropped. */
export function canSkip(error: DecodeError): error is DecodeError & { readonly id: string } {
  return error.id !== '' && isSendableId(error.id);
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
