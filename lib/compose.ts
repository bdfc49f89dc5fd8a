// Makes one request handler of many middleware, each of which may act before and after the ones behind it.
// Stands alone: copy this file by itself.

import { STATUS_CODES } from 'node:http';

/**
 * Goes on with the next middleware and settles when everything behind it has. `next(error)` fails the chain,
 * as in Connect, and `next(null)` does not.
 */
export type Next = (error?: unknown) => Promise<void>;

/** Connect's and Express's shape; awaiting `next()` gives an "after", not calling it ends the chain here. */
export type Middleware<Req, Res> = (req: Req, res: Res, next: Next) => unknown;

export interface ComposeOptions<Req, Res> {
  /**
   * Gets whatever a middleware throws, rejects with or hands to `next`. By default the composed handler
   * rejects with it, which suits a caller who awaits the handler; a server does not, and would crash. See
   * `answerError`.
   */
  onError?: ((error: unknown, req: Req, res: Res) => unknown) | undefined;
}

/**
 * Runs the middleware in order. The returned handler is itself a middleware: given a `next`, it goes on
 * there after its own last one.
 *
 * Koa-like middleware await what `next()` gives them, and may catch what fails behind them. Connect-like
 * ones drop it; then the chain waits in their place, so that nothing fails unseen.
 *
 * The trap: a middleware may call `next` long after it returned. What fails behind it then cannot reject the
 * handler's promise any more; it goes to `onError`, so give one wherever such middleware are used.
 *
 * @throws {TypeError} when a middleware is not a function. A second `next()` of one middleware rejects.
 */
export function compose<Req, Res>(
  middleware: readonly Middleware<Req, Res>[],
  options: ComposeOptions<Req, Res> = {},
): (req: Req, res: Res, next?: Next) => Promise<void> {
  const { onError } = options;
  for (const one of middleware) {
    if (typeof one !== 'function') throw new TypeError(`a middleware must be a function, got ${one}`);
  }
  return async (req, res, last) => {
    const fail = (error: unknown) => {
      if (onError === undefined) throw error;
      return onError(error, req, res);
    };
    const run = async (index: number): Promise<void> => {
      const current = middleware[index];
      if (current === undefined) return last?.();
      let returned = false;
      let behind: Downstream | undefined;
      const next: Next = (error) => {
        if (behind !== undefined) error = new Error('next() was called twice');
        behind = new Downstream(error == null ? run(index + 1) : Promise.reject(error));
        if (returned) behind.unlessAwaited().catch(fail);
        return behind;
      };
      await current(req, res, next);
      returned = true;
      await behind?.unlessAwaited();
    };
    await run(0).catch(fail);
  };
}

/** The members of a response that are used: those of HTTP/1 and HTTP/2 alike. */
export interface ErrorResponse {
  readonly headersSent: boolean;
  readonly writableEnded: boolean;
  writeHead(status: number, headers: Record<string, string>): unknown;
  end(body: string): unknown;
  destroy(): unknown;
}

/**
 * An `onError` that tells the client: by one JSON object, `{ "error", "message" }`, while no head was sent, and
 * after that by cutting an unfinished response, since nothing else would be understood.
 *
 * An error with a `status` (or `statusCode`) from 400 to 499, as body parsers and `http-errors` make them, is told
 * with its message. Any other is a 500 and says nothing of itself: log it.
 */
export function answerError(error: unknown, _req: unknown, res: ErrorResponse): void {
  if (res.headersSent) {
    if (!res.writableEnded) res.destroy();
    return;
  }
  const { status, ...body } = describe(error);
  const text = JSON.stringify(body);
  res.writeHead(status, {
    'content-type': 'application/json',
    'content-length': String(Buffer.byteLength(text)),
    'cache-control': 'no-store',
  });
  res.end(text);
}

function describe(error: unknown): { status: number; error: string; message: string } {
  const { status, statusCode, message } = Object(error) as Record<string, unknown>;
  const code = Number(status ?? statusCode);
  const name = code >= 400 && code <= 499 ? STATUS_CODES[code] : undefined;
  if (name === undefined)
    return { status: 500, error: 'internal', message: 'Something went wrong on the server.' };
  return {
    status: code,
    error: name.toLowerCase().replaceAll(/\W+/g, '_'),
    message: String(message ?? name),
  };
}

/** A value of one type that middleware leave with a request for those behind them. */
export interface RequestValue<T> {
  get(req: object): T | undefined;
  set(req: object, value: T): void;
}

/**
 * A place in which one kind of value is kept with each request, for as long as the request is. Whoever has the
 * place can read it; nobody collides with it, as they would with a property name on the request.
 */
export function requestValue<T>(): RequestValue<T> {
  const values = new WeakMap<object, T>();
  return { get: (req) => values.get(req), set: (req, value) => void values.set(req, value) };
}

/** The rest of the chain, as the middleware before it sees it: a promise that knows whether someone waits. */
class Downstream implements Promise<void> {
  readonly [Symbol.toStringTag] = 'Promise';
  readonly #promise: Promise<void>;
  #awaited = false;

  constructor(promise: Promise<void>) {
    this.#promise = promise;
    promise.catch(() => {});
  }

  // biome-ignore lint/suspicious/noThenProperty: being awaited is what this class is there to notice
  then<A = void, B = never>(
    fulfilled?: ((value: void) => A | PromiseLike<A>) | null,
    rejected?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    this.#awaited = true;
    return this.#promise.then(fulfilled, rejected);
  }

  catch<B = never>(rejected?: ((reason: unknown) => B | PromiseLike<B>) | null): Promise<void | B> {
    return this.then(undefined, rejected);
  }

  finally(settled?: (() => void) | null): Promise<void> {
    return this.then().finally(settled);
  }

  /** What the chain waits for: nothing, once the middleware itself waits. */
  async unlessAwaited(): Promise<void> {
    // An `await` in the middleware reaches `then` one microtask later, and its microtask may be behind this one.
    await undefined;
    await undefined;
    if (!this.#awaited) await this.#promise;
  }
}
