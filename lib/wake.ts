// Reconnects a reader at once when its page wakes up or gets a network.
// Stands alone: copy this file by itself. For pages and their workers; does nothing in Node.

/** A connection of `connect`, or an `EventSource` of ours. */
export interface WakeableReader {
  readonly state: string;
  reconnect(): void;
}

/**
 * Calls `reader.reconnect()` when the page is resumed after it was frozen, comes back from the back-forward cache
 * or is online again, and when it becomes visible while the reader waits for its next attempt: a browser delays the
 * timers of a hidden page. A stream that is open in a page that becomes visible is left alone.
 *
 * A device that slept without any of these events is noticed by the silence of the server: see `silenceTimeout`.
 *
 * @returns a function that removes the listeners; call it where the reader is closed.
 */
export function reconnectOnWake(reader: WakeableReader): () => void {
  const host = globalThis as unknown as Partial<Listening> & { readonly document?: Page };
  if (host.addEventListener === undefined) return () => {};
  const { document } = host;
  const wake = (): void => reader.reconnect();
  const restore = ({ persisted }: { persisted?: boolean }): void => {
    if (persisted) reader.reconnect();
  };
  const show = (): void => {
    if (document?.visibilityState === 'visible' && reader.state === 'waiting') reader.reconnect();
  };
  const listeners = [
    [host as Listening, 'online', wake],
    [host as Listening, 'pageshow', restore],
    [document, 'resume', wake],
    [document, 'visibilitychange', show],
  ] as const;
  for (const [target, type, listener] of listeners) target?.addEventListener(type, listener);
  return () => {
    for (const [target, type, listener] of listeners) target?.removeEventListener(type, listener);
  };
}

interface Listening {
  addEventListener(type: string, listener: (event: { persisted?: boolean }) => void): void;
  removeEventListener(type: string, listener: (event: { persisted?: boolean }) => void): void;
}

interface Page extends Listening {
  readonly visibilityState: string;
}
