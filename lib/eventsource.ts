// The standard's EventSource, with headers, typed listeners, and a client underneath that keeps its place.
// Needs `client.ts`, `decode.ts` and `transport.ts` beside it. Runs in Node, browsers, workers, Deno and Bun.

import {
  type ConnectError,
  type Connection,
  type ConnectOptions,
  connect,
  type StateChange,
} from './client.ts';
import type { DecodedEvent } from './decode.ts';
import { defaultTransport } from './transport.ts';

/** What each event type carries: `{ tick: { price: number } }`. Share it with what publishes. */
export type EventMap = Record<string, unknown>;

export interface EventSourceInit
  extends Omit<ConnectOptions, 'signal' | 'controlEvents' | 'onState' | 'isLast'> {
  /** Send cookies across origins, where there is a browser to keep them. Default false. */
  readonly withCredentials?: boolean | undefined;
  /** How `listen` reads data. Default `JSON.parse`. */
  readonly parse?: ((data: string) => unknown) | undefined;
}

/** What a listener of `listen` gets. */
export interface TypedEvent<Data> {
  readonly type: string;
  readonly data: Data;
  readonly lastEventId: string;
  readonly origin: string;
}

/** The event of `onerror`: the standard's, with what went wrong. */
export interface EventSourceErrorEvent extends Event {
  readonly error: unknown;
}

type Handler<E extends Event> = ((this: EventSource, event: E) => unknown) | null;

/**
 * As in a browser: reconnects by itself until `close()`, and gives up, with `readyState` CLOSED, after any answer
 * but an event stream with status 200. To outlast a 503 or a 429 too, say so in `shouldRetry`.
 *
 * Beyond the standard: `headers`, `storage`, `onGap`, the watchdog and the other options of `connect`; it stops
 * after `sluice:end`; `listen` gives parsed data; `onerror` says why. Control events (`sluice:…`) are events like any
 * other, for `addEventListener`. Every listener has run when an event counts as processed.
 *
 * @see https://html.spec.whatwg.org/multipage/server-sent-events.html#the-eventsource-interface
 */
export class EventSource<Events extends EventMap = EventMap> extends EventTarget {
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
  readonly #connection: Connection;
  readonly #parse: (data: string) => unknown;
  readonly #handlers = new Map<string, EventHandler>();
  #readyState: 0 | 1 | 2 = 0;
  #origin: string;

  /** @throws {DOMException} `SyntaxError` for what is no URL; `TypeError`, `RangeError` for a wrong option. */
  constructor(url: string | URL, init: EventSourceInit = {}) {
    super();
    const { withCredentials = false, parse = JSON.parse, ...options } = init;
    const resolved = resolve(url);
    this.url = resolved.href;
    this.#origin = resolved.origin;
    this.withCredentials = withCredentials;
    this.#parse = parse;
    this.#connection = connect(resolved, {
      ...options,
      transport:
        options.transport ?? defaultTransport({ withCredentials, followRedirects: !options.headers }),
      controlEvents: true,
      shouldRetry: (failure, attempt) => options.shouldRetry?.(failure, attempt) ?? isPassing(failure),
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
   * Listens to one type of event, its data parsed: `source.listen('tick', (event) => event.data.price)`.
   * Not called `on`: Node's own `events.once(source, …)` takes what has that for an EventEmitter.
   * Data that cannot be parsed is told to `onerror`, and the listener is not called.
   *
   * @returns a function that stops listening.
   */
  listen<Type extends keyof Events & string>(
    type: Type,
    listener: (event: TypedEvent<Events[Type]>) => void,
  ): () => void {
    const hear = (event: Event): void => {
      const { data, lastEventId, origin } = event as MessageEvent;
      let parsed: Events[Type];
      try {
        parsed = this.#parse(data) as Events[Type];
      } catch (error) {
        this.#tell(error);
        return;
      }
      listener({ type, data: parsed, lastEventId, origin });
    };
    this.addEventListener(type, hear);
    return () => this.removeEventListener(type, hear);
  }

  /** No event is dispatched after this. */
  close(): void {
    this.#readyState = EventSource.CLOSED;
    this.#connection.close();
  }

  async #read(): Promise<void> {
    // Listeners are added after construction: nothing may happen before.
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

  #dispatch({ event, data, lastEventId }: DecodedEvent): void {
    this.dispatchEvent(new MessageEvent(event, { data, lastEventId, origin: this.#origin }));
  }

  #follow({ state, url, failure }: StateChange): void {
    if (this.#readyState === EventSource.CLOSED) return;
    if (state === 'open') {
      this.#readyState = EventSource.OPEN;
      if (url !== undefined) this.#origin = new URL(url).origin;
      this.dispatchEvent(new Event('open'));
    } else if (state === 'waiting') {
      this.#readyState = EventSource.CONNECTING;
      this.#tell(failure);
    }
  }

  #fail(error: unknown): void {
    if (this.#readyState === EventSource.CLOSED) return;
    this.#readyState = EventSource.CLOSED;
    this.#tell(error);
  }

  #tell(error: unknown): void {
    this.dispatchEvent(Object.assign(new Event('error'), { error }));
  }

  #handler<E extends Event>(type: string): Handler<E> {
    return (this.#handlers.get(type)?.call ?? null) as Handler<E>;
  }

  // "The first time the handler is set" decides its turn among the listeners; later ones take its place.
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

function resolve(url: string | URL): URL {
  const base = (globalThis as { location?: { href: string } }).location?.href;
  if (URL.canParse(String(url), base)) return new URL(url, base);
  throw new DOMException(`cannot open ${JSON.stringify(String(url))}: it is no URL`, 'SyntaxError');
}

// The standard retries what got no answer, or lost it; any other answer than the right one is final.
function isPassing(failure: ConnectError): boolean | undefined {
  return failure.code === 'ERR_SSE_STATUS' ? false : undefined;
}
