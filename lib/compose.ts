// Makes one request handler of many middleware, each of which can act before and after the ones behind it.
// Needs `problem.ts` beside it.

import type { IncomingMessage, ServerResponse } from 'node:http';
import { type Problem, type ProblemResponse, sendProblem } from './problem.ts';

/**
 * Calls the next middleware. The promise settles when that one and all behind it have. `next(error)` makes
 * the chain fail, as in Connect; `next(null)` and `next(undefined)` do not.
 */
export type Next = (error?: unknown) => Promise<void>;

/** The shape of Connect and Express. Code after `await next()` runs on the way back. */
export type Middleware<Req, Res> = (req: Req, res: Res, next: Next) => unknown;

/** A request handler for `createServer`; with a `next` it is a middleware. */
export type Handler<Req, Res> = (req: Req, res: Res, next?: Next) => Promise<void>;

export interface ComposeOptions<Req, Res> {
  /**
   * Handles what a middleware throws, rejects with or passes to `next`. Without it the handler's promise
   * rejects. `answerError` of `problem.ts` fits: it sends a JSON error.
   */
  onError?: ((error: unknown, context: { readonly req: Req; readonly res: Res }) => unknown) | undefined;
}

/**
 * Makes a handler that runs the middleware in order. Where the last one calls `next` and none has answered, the
 * handler answers 404. The handler is itself a middleware: called with a `next`, it calls that after its own
 * last one instead.
 *
 * A Koa-like middleware awaits `next()` and may catch what fails behind it. A Connect-like one ignores the
 * promise; then the chain awaits it instead, so no failure is lost.
 *
 * The trap: Node ignores the promise that a request handler returns, so pass `onError` to a server's handler.
 * Otherwise one failure ends the process. Where a middleware calls `next` after it has returned, `onError`
 * also gets the failures of that call.
 *
 * The types of request and response are those of `node:http` where the middleware fit them, else those of the
 * middleware.
 *
 * @throws {TypeError} when a middleware is not a function. When a middleware calls `next` twice, the chain
 *   fails with the code `ERR_SSE_NEXT_CALLED_TWICE`.
 */
export function compose<Req = IncomingMessage, Res = ServerResponse>(
  middleware: readonly Middleware<NoInfer<Req>, NoInfer<Res>>[],
  options?: ComposeOptions<NoInfer<Req>, NoInfer<Res>>,
): Handler<Req, Res>;
export function compose<Req, Res>(
  middleware: readonly Middleware<Req, Res>[],
  options?: ComposeOptions<Req, Res>,
): Handler<Req, Res>;
export function compose<Req, Res>(
  middleware: readonly Middleware<Req, Res>[],
  { onError }: ComposeOptions<Req, Res> = {},
): Handler<Req, Res> {
  for (const one of middleware) {
    if (typeof one !== 'function') throw new TypeError(`\`middleware\` must hold functions, got ${one}`);
  }
  return async (req, res, last) => {
    const fail = (error: unknown) => {
      if (onError === undefined) throw error;
      return onError(error, { req, res });
    };
    let isUnanswered = false;
    // Not at the end of the list: a middleware may answer on the way back.
    const answer = (): void => {
      if (isUnanswered && Object(res).headersSent === false) sendProblem(res as ProblemResponse, NOT_FOUND);
    };
    const run = async (index: number): Promise<void> => {
      const current = middleware[index];
      if (current === undefined) {
        isUnanswered = last === undefined;
        return last?.();
      }
      let hasReturned = false;
      let behind: Downstream | undefined;
      const next: Next = (error) => {
        if (behind !== undefined) error = calledTwice();
        behind = new Downstream(error == null ? run(index + 1) : Promise.reject(error));
        if (hasReturned)
          behind
            .unlessAwaited()
            .then((isOver) => isOver && answer())
            .catch(fail);
        return behind;
      };
      await current(req, res, next);
      hasReturned = true;
      await behind?.unlessAwaited();
    };
    await run(0).then(answer).catch(fail);
  };
}

/** A value that one middleware stores with a request, for the ones behind it to read. */
export interface RequestValue<T> {
  get(req: object): T | undefined;
  set(req: object, value: T): void;
}

/**
 * Makes a store for one value per request, which is dropped together with the request. Code that has the
 * store can read it, and its values cannot collide with others, as properties of the request could.
 */
export function requestValue<T>(): RequestValue<T> {
  const values = new WeakMap<object, T>();
  return { get: (req) => values.get(req), set: (req, value) => void values.set(req, value) };
}

const NOT_FOUND: Problem = { status: 404, error: 'not-found', message: 'There is nothing at this path.' };

function calledTwice(): Error {
  return Object.assign(new Error('next() was called twice'), { code: 'ERR_SSE_NEXT_CALLED_TWICE' });
}

/** The result of `next()`: the promise of everything behind, which records whether anything awaits it. */
class Downstream implements Promise<void> {
  readonly [Symbol.toStringTag] = 'Promise';
  readonly #promise: Promise<void>;
  #awaited = false;

  constructor(promise: Promise<void>) {
    this.#promise = promise;
    // Keeps a rejection from being unhandled until the middleware or `unlessAwaited` awaits it.
    promise.catch(() => {});
  }

  // biome-ignore lint/suspicious/noThenProperty: this class exists to notice that it is awaited
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

  /** Settles as the promise does, or at once, with `false`, when the middleware itself awaits it. */
  async unlessAwaited(): Promise<boolean> {
    // An `await` in the middleware calls `then` one microtask later, and that microtask may be queued after
    // this one.
    await undefined;
    await undefined;
    if (this.#awaited) return false;
    await this.#promise;
    return true;
  }
}
