// Waits that always end: timers that may have no limit, and promises that end with a signal.
// Stands alone: copy this file by itself. Runs in Node, browsers, workers, Deno and Bun.

const MAX_TIMEOUT = 2 ** 31 - 1;

/** Starts a timer, and none where the timeout is longer than a timer can wait. Returns what stops it. */
export function startTimer(timeout: number, act: () => void): () => void {
  if (timeout > MAX_TIMEOUT) return () => {};
  const timer = setTimeout(act, timeout);
  return () => clearTimeout(timer);
}

/** Settles as the promise does, or rejects once the signal is aborted, also where the promise never settles. */
export function beforeAbort<Value>(promise: Promise<Value>, signal: AbortSignal): Promise<Value> {
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(signal.reason);
    const stop = (): void => signal.removeEventListener('abort', abort);
    if (signal.aborted) abort();
    signal.addEventListener('abort', abort, { once: true });
    promise.then(resolve, reject).finally(stop);
  });
}
