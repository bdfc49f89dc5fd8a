// Decodes an event stream as a `TransformStream` does.
// Needs `decode.ts` beside it. Runs in Node, browsers, workers, Deno and Bun.

import { createDecoder, type DecodedEvent, type DecodeLimits, type Decoder } from './decode.ts';

export interface DecoderStreamOptions extends DecodeLimits {
  /** Whether to take an event at the end that lacks its blank line; see `decode`. Default false. */
  readonly dispatchAtEnd?: boolean | undefined;
}

/**
 * Decodes between the two sides of a `TransformStream`: `response.body.pipeThrough(decoderStream())`.
 *
 * A line or an event that is larger than its limit errors both sides with a `DecodeError`, once the events
 * before it have been read.
 */
export function decoderStream(
  options: DecoderStreamOptions = {},
): TransformStream<Uint8Array | string, DecodedEvent> {
  const { readable: chunks, writable } = new TransformStream<Uint8Array | string, Uint8Array | string>();
  const reader = chunks.getReader();
  let decoder: Decoder;
  let hasEvents = false;
  let failure: unknown;
  const readable = new ReadableStream<DecodedEvent>(
    {
      start(controller) {
        const onEvent = (event: DecodedEvent): void => {
          hasEvents = true;
          controller.enqueue(event);
        };
        decoder = createDecoder({ ...options, onEvent });
      },
      // Called once all events have been read.
      async pull(controller) {
        hasEvents = false;
        try {
          if (failure !== undefined) throw failure;
          while (!hasEvents) {
            const { done, value } = await reader.read();
            if (!done) decoder.feed(value);
            else {
              if (options.dispatchAtEnd) decoder.end();
              return controller.close();
            }
          }
        } catch (error) {
          failure = error;
          // An error empties the queue, so it waits until the next call.
          if (hasEvents) return;
          await reader.cancel(error);
          throw error;
        }
      },
      cancel: (reason) => reader.cancel(reason),
    },
    { highWaterMark: 0 },
  );
  return { readable, writable };
}
