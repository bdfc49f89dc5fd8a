// Encodes the control events of a hub, in the form that a subscriber wants.
// Needs `encode.ts` and `protocol.ts` beside it.

import { encode } from './encode.ts';
import { type ControlEvent, type Controls, sentControl } from './protocol.ts';

/**
 * The text of control events, as a subscriber wants them.
 * @throws {TypeError} where the application's `controls` throws, or makes what cannot be sent; `cause` is the
 *   error.
 */
export function encodeControls(events: readonly ControlEvent[], controls: Controls | undefined): string {
  try {
    return events.map((event) => encode(sentControl(event, controls))).join('');
  } catch (cause) {
    if (typeof controls !== 'function') throw cause;
    // That of `encode` has the status of a mistake of the client, whose doing this is not.
    throw new TypeError(`\`controls\` must return an event that can be sent: ${String(cause)}`, { cause });
  }
}
