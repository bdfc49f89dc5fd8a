// Follows a topic of a hub inside its own process, without a connection.
// Needs `decode.ts`, `hub.ts` and `protocol.ts`, and what these need, beside it.

import { createDecoder, type DecodedEvent } from './decode.ts';
import type { Hub, Sink, Subscription } from './hub.ts';
import { controlEvents, isControlEvent } from './protocol.ts';

export interface LocalReaderOptions {
  /** Where to begin; default with what is published next. */
  readonly from?: 'earliest' | undefined;
  /** Called with each event of the topic. Without it, nothing is decoded. */
  readonly onEvent?: ((event: DecodedEvent) => void) | undefined;
  /** Called where events of the topic are lost to this reader, before any newer one. Only beside `onEvent`. */
  readonly onGap?: (() => void) | undefined;
  /** Called once the topic has ended. */
  readonly onEnd?: (() => void) | undefined;
}

/**
 * Calls functions for what happens in a topic. Where its subscription is ended by others, by `kick` for example,
 * it subscribes again and goes on where it was.
 *
 * @returns a function that stops it.
 * @throws what `subscribe` throws.
 */
export function readLocally(
  hub: Pick<Hub, 'subscribe'>,
  topic: string,
  options: LocalReaderOptions,
): () => void {
  const { from, onEvent, onGap, onEnd } = options;
  let subscription: Subscription | undefined;
  let lastEventId: string | undefined;
  let isOver = false;
  const stop = (): void => {
    isOver = true;
    subscription?.close();
  };
  const take = (event: DecodedEvent): void => {
    if (!isOver && !isControlEvent(event.event)) onEvent?.(event);
    if (!isOver && event.event === controlEvents.gap) onGap?.();
    lastEventId = event.lastEventId;
  };
  const begin = (): void => {
    if (isOver) return;
    const decoder = onEvent && createDecoder({ lastEventId, onEvent: take, onTooLarge: () => {} });
    // The end of a subscription is not yet that of the topic: the next one is refused where the topic has ended.
    const again = (): void => void setImmediate(() => attempt(begin));
    const sink: Sink = {
      write(bytes) {
        decoder?.feed(bytes);
        return true;
      },
      refuse() {
        stop();
        onEnd?.();
      },
      end: again,
      destroy: again,
      on() {},
      off() {},
    };
    subscription = hub.subscribe(topic, sink, { lastEventId, from });
  };
  begin();
  return stop;
}

/** Where a hub is closed, or follows too many topics, there is nothing more to read. */
function attempt(action: () => void): void {
  try {
    action();
  } catch {}
}
