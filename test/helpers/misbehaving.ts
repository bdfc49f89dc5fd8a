// Answers for tests of readers: good ones, and ones that no server should give.
import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

export const eventStream = { 'content-type': 'text/event-stream' };

/** Answers with a stream and leaves it open. */
export function open(res: ServerResponse, text = ''): void {
  res.writeHead(200, eventStream);
  res.flushHeaders();
  if (text !== '') res.write(text);
}

/** Answers with a whole stream and ends it properly. */
export function whole(res: ServerResponse, text: string): void {
  res.writeHead(200, eventStream).end(text);
}

/** Lets the bytes out, then breaks off without the proper end of a response. */
export function cutAfter(res: ServerResponse, bytes: string | Uint8Array): void {
  if (!res.headersSent) res.writeHead(200, eventStream);
  const socket = res.socket as Socket;
  res.write(bytes, () => socket.destroy());
}

/** Resets the connection, as a crash does: what was under way is lost with it, the bytes too perhaps. */
export function resetAfter(res: ServerResponse, bytes: string | Uint8Array): void {
  if (!res.headersSent) res.writeHead(200, eventStream);
  const socket = res.socket as Socket;
  res.write(bytes, () => socket.resetAndDestroy());
}

/** A number in [0, 1), the same ones for the same seed. */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

/** The sequence number of an id of our form, 0 for none. */
export function seqOf(lastEventId: string | string[] | undefined): number {
  return Number(/^\d+-(\d+)$/.exec(String(lastEventId ?? ''))?.[1] ?? 0);
}
