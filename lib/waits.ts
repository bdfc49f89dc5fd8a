// Waits that always end: timers that may have no limit, and promises that end with a signal.
// Stands alone: copy this file by itself. Runs in Node, browsers, workers, Deno and Bun.

const MAX_TIMEOUT = 2 ** 31 - 1;
const LATE = 10;

/**
 * Starts a timer, and none where the timeout is longer than a timer can wait. Returns what stops it.
 *
 * A timer that is late has been blocked with its process, or has slept with its device. What arrived meanwhile is
 * read before `act` is called, and may stop the timer.
 */
export function startTimer(timeout: number, act: () => void): () => void {
  if (timeout > MAX_TIMEOUT) return () => {};
  const due = performance.now() + timeout;
  let timer = setTimeout(() => {
    if (performance.now() - due < LATE) act();
    else timer = setTimeout(act, 0);
  }, timeout);
  return () => clearTimeout(timer);
}

// What waits for each signal. They share one listener: from the eleventh on, Node warns of a leak.
const waiting = new WeakMap<AbortSignal, Set<() => void>>();

/** Calls `act` once the signal is aborted, as often as it was passed. Returns what prevents it. */
export function onAbort(signal: AbortSignal, act: () => void): () => void {
  const acts = waiting.get(signal) ?? new Set();
  const call = (): void => act();
  waiting.set(signal, acts);
  acts.add(call);
  // A signal has the same listener only once.
  signal.addEventListener('abort', abortAll, { once: true });
  return () => {
    if (acts.delete(call) && acts.size === 0) signal.removeEventListener('abort', abortAll);
  };
}

function abortAll(this: AbortSignal): void {
  for (const act of waiting.get(this) ?? []) {
    try {
      act();
    } catch (error) {
      // As of a listener: uncaught, and the others are called.
      queueMicrotask(() => {
        throw error;
      });
    }
  }
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
