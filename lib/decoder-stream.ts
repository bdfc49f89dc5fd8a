// Decodes an event stream in a `TransformStream`.
// Needs `decode.ts` beside it. Runs in Node, browsers, workers, Deno and Bun.

import { createDecoder, type DecodedEvent, type DecodeLimits, type Decoder } from './decode.ts';

export interface DecoderStreamOptions extends DecodeLimits {
  /** Whether to take an event at the end that lacks its blank line; see `decode`. Default false. */
  readonly dispatchAtEnd?: boolean | undefined;
}

/**
 * Decodes in a `TransformStream`: `response.body.pipeThrough(decoderStream())`.
 *
 * A line or an event that is larger than its limit errors both sides with a `DecodeError`.
 */
export function decoderStream(
  options: DecoderStreamOptions = {},
): TransformStream<Uint8Array | string, DecodedEvent> {
  let decoder: Decoder;
  return new TransformStream({
    start(controller) {
      decoder = createDecoder({ ...options, onEvent: (event) => controller.enqueue(event) });
    },
    transform(chunk) {
      decoder.feed(chunk);
    },
    flush() {
      if (options.dispatchAtEnd) decoder.end();
    },
  });
}
