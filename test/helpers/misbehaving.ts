// Answers for tests of readers: correct ones, and ones that break off, reset and send what they should not.
import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { formatId, parseId } from '../../lib/protocol.ts';

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

/** Sends the bytes, then destroys the connection without ending the response. */
export function cutAfter(res: ServerResponse, bytes: string | Uint8Array): void {
  if (!res.headersSent) res.writeHead(200, eventStream);
  const socket = res.socket as Socket;
  res.write(bytes, () => socket.destroy());
}

/** Sends the bytes, then resets the connection as a crash does: the bytes may be lost too. */
export function resetAfter(res: ServerResponse, bytes: string | Uint8Array): void {
  if (!res.headersSent) res.writeHead(200, eventStream);
  const socket = res.socket as Socket;
  res.write(bytes, () => socket.resetAndDestroy());
}

/** Returns numbers in [0, 1), the same ones for the same seed. */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

/** An epoch as a hub makes it, and the one after a restart. */
export const EPOCH = 1795408776829004;
export const NEXT_EPOCH = 1795408801334112;

/** The id of an event as a hub sends it. */
export function idOf(seq: number, epoch: number = EPOCH): string {
  return formatId(epoch, seq);
}

/** An event with a hub's id, and its sequence number as data. */
export function frame(seq: number): string {
  return `id: ${idOf(seq)}\ndata: ${seq}\n\n`;
}

/** The sequence number of a hub's id; 0 for anything else. */
export function seqOf(lastEventId: string | string[] | undefined): number {
  return parseId(String(lastEventId ?? ''))?.seq ?? 0;
}
