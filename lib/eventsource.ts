// The standard's EventSource, with headers, typed listeners and the other options of `connect`.
// Needs `client.ts`, `connect-options.ts`, `failure.ts` and `transport.ts` beside it. Runs in Node, browsers, workers, Deno and Bun.

import {
  type ConnectError,
  type Connection,
  type ConnectionState,
  type ConnectOptions,
  connect,
  type EventMap,
  type ReceivedEvent,
  readJson,
  type StateChange,
  type URLText,
} from './client.ts';
import { mayFetchFollow } from './connect-options.ts';
import { failed } from './failure.ts';
import { defaultTransport, type Transport } from './transport.ts';

export type { EventMap } from './client.ts';

export interface EventSourceInit<Events extends object = EventMap>
  extends Omit<ConnectOptions<Events>, 'signal' | 'controlEvents' | 'onState' | 'isLast' | 'relay'> {
  /** Whether a browser sends cookies to other origins. Default false. */
  readonly withCredentials?: boolean | undefined;
}

/** The argument of a listener of `listen`. */
export interface TypedEvent<Type extends string = string, Json = unknown> {
  readonly type: Type;
  readonly data: string;
  /** `data`, parsed as JSON. Its type is not checked at run time, unless there is `events`. */
  readonly json: Json;
  readonly lastEventId: string;
  readonly origin: string;
}

/** The event of `onerror`: the standard's, with the reason. */
export interface EventSourceErrorEvent extends Event {
  /** `undefined` where the server ended the stream for good (204 or `sluice:end`). */
  readonly error: unknown;
}

/** What `onopen`, `onmessage` and `onerror` take. */
export type Handler<E extends Event> = ((this: Omit<EventSource, 'listen'>, event: E) => unknown) | null;

/**
 * Works as in a browser: reconnects until `close()`, and gives up, with `readyState` CLOSED, after any
 * response but an event stream with status 200. `shouldRetry` can make it reconnect after a 503 or a 429.
 *
 * Beyond the standard: `headers`, `storage`, `onGap`, `silenceTimeout` and the other options of `connect`; it
 * closes after `sluice:end`; `listen` is typed and parses JSON; `onerror` gets the reason. Control events
 * (`sluice:…`) are dispatched like any other. An event counts as processed when all its listeners have
 * returned.
 *
 * @see https://html.spec.whatwg.org/multipage/server-sent-events.html#the-eventsource-interface
 */
export class EventSource<Events extends object = EventMap> extends EventTarget {
  static get CONNECTING(): 0 {
    return 0;
  }

  static get OPEN(): 1 {
    return 1;
  }

  static get CLOSED(): 2 {
    return 2;
  }

  get CONNECTING(): 0 {
    return 0;
  }

  get OPEN(): 1 {
    return 1;
  }

  get CLOSED(): 2 {
    return 2;
  }

  readonly url: string;
  readonly withCredentials: boolean;
  readonly #connection: Connection<Events, ReceivedEvent>;
  // What each event was made of, so that its JSON is read once for all listeners.
  readonly #received = new WeakMap<Event, ReceivedEvent>();
  readonly #handlers = new Map<string, EventHandler>();
  #readyState: 0 | 1 | 2 = 0;
  #origin: string;

  /**
   * @throws {DOMException} `SyntaxError` for a text that is no URL.
   * @throws {TypeError | RangeError} naming the option that cannot be used.
   */
  constructor(url: URLText, init: EventSourceInit<Events> = {}) {
    super();
    const { withCredentials = false, ...options } = init;
    const resolved = resolve(url);
    this.url = resolved.href;
    this.#origin = resolved.origin;
    this.withCredentials = withCredentials;
    this.#connection = connect<Events>(resolved, {
      ...options,
      transport: strict(
        options.transport ?? defaultTransport({ withCredentials, followRedirects: mayFetchFollow(options) }),
      ),
      controlEvents: true,
      shouldRetry: (failure, context) => options.shouldRetry?.(failure, context) ?? retryOfStandard(failure),
      onState: (change) => this.#follow(change),
    });
    void this.#read();
  }

  get readyState(): 0 | 1 | 2 {
    return this.#readyState;
  }

  get onopen(): Handler<Event> {
    return this.#handler('open');
  }
  set onopen(handler: Handler<Event>) {
    this.#handle('open', handler);
  }

  get onmessage(): Handler<MessageEvent> {
    return this.#handler('message');
  }
  set onmessage(handler: Handler<MessageEvent>) {
    this.#handle('message', handler);
  }

  get onerror(): Handler<EventSourceErrorEvent> {
    return this.#handler('error');
  }
  set onerror(handler: Handler<EventSourceErrorEvent>) {
    this.#handle('error', handler);
  }

  /**
   * Listens to one type of event and parses its data as JSON:
   * `source.listen('tick', ({ json }) => show(json.price))`.
   *
   * Where the data is not JSON, the listener is not called and `onerror` gets a `SyntaxError`
   * (`ERR_SSE_BAD_JSON`). The method is not named `on` because `events.once()` of Node takes an object with a
   * method `on` for an EventEmitter.
   *
   * @returns a function that removes the listener.
   */
  listen<Type extends keyof Events & string>(
    type: Type,
    listener: (event: TypedEvent<Type, Events[Type]>) => void,
  ): () => void {
    const receive = (event: Event): void => {
      const { data, lastEventId, origin } = event as MessageEvent;
      let json: Events[Type];
      try {
        const { json: value } = this.#received.get(event) ?? {
          json: readJson({ event: type, data, lastEventId }),
        };
        json = value as Events[Type];
      } catch (error) {
        this.#dispatchError(error);
        return;
      }
      listener({ type, data, json, lastEventId, origin });
    };
    this.addEventListener(type, receive);
    return () => this.removeEventListener(type, receive);
  }

  /** Ends the connection. No event is dispatched after this. */
  close(): void {
    this.#readyState = EventSource.CLOSED;
    this.#connection.close();
  }

  /** More exact than `readyState`: that of `connect`. */
  get state(): ConnectionState {
    return this.#connection.state;
  }

  /**
   * Reconnects at once, whatever the connection waits for, and then resumes: as where a device has woken up. Not
   * in the standard. Dispatches no `error`.
   */
  reconnect(): void {
    if (this.#readyState === EventSource.CLOSED) return;
    this.#readyState = EventSource.CONNECTING;
    this.#connection.reconnect();
  }

  async #read(): Promise<void> {
    // Waits, so that the caller can add listeners before anything is dispatched.
    await Promise.resolve();
    try {
      for await (const event of this.#connection) {
        if (this.#readyState === EventSource.CLOSED) return;
        this.#dispatch(event);
      }
      this.#fail(undefined);
    } catch (error) {
      this.#fail(error);
    }
  }

  #dispatch(received: ReceivedEvent): void {
    const { event, data, lastEventId } = received;
    const message = new MessageEvent(event, { data, lastEventId, origin: this.#origin });
    this.#received.set(message, received);
    this.dispatchEvent(message);
  }

  #follow({ state, url, failure }: StateChange): void {
    if (this.#readyState === EventSource.CLOSED) return;
    if (state === 'open') {
      this.#readyState = EventSource.OPEN;
      if (url !== undefined) this.#origin = new URL(url).origin;
      this.dispatchEvent(new Event('open'));
    } else if (state === 'waiting') {
      this.#readyState = EventSource.CONNECTING;
      this.#dispatchError(failure);
    }
  }

  #fail(error: unknown): void {
    if (this.#readyState === EventSource.CLOSED) return;
    this.#readyState = EventSource.CLOSED;
    this.#dispatchError(error);
  }

  #dispatchError(error: unknown): void {
    this.dispatchEvent(Object.assign(new Event('error'), { error }));
  }

  #handler<E extends Event>(type: string): Handler<E> {
    return (this.#handlers.get(type)?.call ?? null) as Handler<E>;
  }

  // "The first time the handler is set" decides its place among the listeners; later ones take that place.
  #handle<E extends Event>(type: string, handler: Handler<E>): void {
    const call = typeof handler === 'function' ? (handler as Handler<Event>) : null;
    const known = this.#handlers.get(type);
    if (known !== undefined && call !== null) known.call = call;
    else if (known !== undefined) {
      this.removeEventListener(type, known.listen);
      this.#handlers.delete(type);
    } else if (call !== null) {
      const fresh: EventHandler = { call, listen: (event) => fresh.call.call(this, event) };
      this.#handlers.set(type, fresh);
      this.addEventListener(type, fresh.listen);
    }
  }
}

interface EventHandler {
  call: NonNullable<Handler<Event>>;
  readonly listen: (event: Event) => unknown;
}

function resolve(url: URLText): URL {
  const base = (globalThis as { location?: { href: string } }).location?.href;
  const text = typeof url === 'string' ? url : url.href;
  if (URL.canParse(text, base)) return new URL(text, base);
  throw new DOMException(`cannot open ${JSON.stringify(text)}: it is not a URL`, 'SyntaxError');
}

// `connect` reads a stream with any status of success, the standard only one with 200.
function strict(transport: Transport): Transport {
  return async (request) => {
    const response = await transport(request);
    const { status, headers } = response;
    if (status <= 200 || status === 204 || status > 299) return response;
    throw failed('ERR_SSE_STATUS', `the server answered ${status}`, { status, headers });
  };
}

// By the standard a missing or broken response is retried, and any response but an event stream is final.
function retryOfStandard(failure: ConnectError): boolean | undefined {
  return failure.code === 'ERR_SSE_STATUS' ? false : undefined;
}
