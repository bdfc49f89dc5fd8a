// Frames bytes as a chunk of HTTP/1.1, and checks whether it may be written directly to a response's socket.
// Stands alone: copy this file by itself.
//
// `res.write` frames the bytes, corks the socket and schedules an uncork, and repeats this work for each
// client that gets the same bytes. Framing them once and writing the chunk to each socket takes a third of
// the user-mode CPU time (bench/scenarios/fanout).

import { ServerResponse } from 'node:http';
import { Socket } from 'node:net';

/** The members of a response that are read. Only an HTTP/1 `ServerResponse` has them all. */
export interface ChunkedResponse {
  readonly socket?: unknown;
  readonly chunkedEncoding?: boolean | undefined;
  readonly writableCorked?: number | undefined;
  readonly writableEnded?: boolean | undefined;
  readonly writableLength: number;
  readonly write: unknown;
  readonly end: unknown;
}

/** The members of a socket that are read. */
export interface ChunkedSocket {
  readonly writable?: boolean | undefined;
  readonly writableLength?: number | undefined;
  write?(chunk: Uint8Array): boolean;
}

/**
 * Whether `res.write(bytes)` would now do no more than write `toChunk(bytes)` to the socket, so that the
 * caller may do that itself. The caller must know that the head was sent, and that `bytes` is not empty: an
 * empty chunk ends the body.
 */
export function canWriteDirectly(
  res: ChunkedResponse,
  socket: ChunkedSocket,
): socket is ChunkedSocket & { write(chunk: Uint8Array): boolean } {
  return (
    // The response owns this connection: it does not once the client has left or the response has ended, nor
    // while an earlier response on the same connection is unfinished.
    res.socket === socket &&
    res.writableEnded === false &&
    // The response is not corked: a direct write would overtake the bytes that it holds back.
    res.writableCorked === 0 &&
    // Nor does the response hold back other bytes, which `writableLength` counts in addition to those of the
    // socket.
    isSocketsOwn(res.writableLength, socket) &&
    socket.writable === true &&
    // The body is chunked, as it is not for HTTP/1.0, for HEAD, or with a Content-Length.
    res.chunkedEncoding === true &&
    // No middleware has replaced a method to see or change the bytes, as compression and loggers do.
    res.write === write &&
    res.end === end &&
    socket.write === writeToSocket
  );
}

/** Nearly always nothing waits, and then there is nothing to compare. */
function isSocketsOwn(waiting: number, socket: ChunkedSocket): boolean {
  return waiting === 0 || waiting === socket.writableLength;
}

// The originals, taken before any middleware can patch the prototypes.
const { write, end } = ServerResponse.prototype;
const { write: writeToSocket } = Socket.prototype;

/** The bytes as one chunk: their length in hexadecimal, CRLF, the bytes, CRLF. */
export function toChunk(bytes: Uint8Array): Buffer {
  const size = `${bytes.length.toString(16)}\r\n`;
  const chunk = Buffer.allocUnsafe(size.length + bytes.length + 2);
  // For so few characters, `chunk.write` takes longer.
  for (let i = 0; i < size.length; i++) chunk[i] = size.charCodeAt(i);
  chunk.set(bytes, size.length);
  chunk[chunk.length - 2] = 0x0d;
  chunk[chunk.length - 1] = 0x0a;
  return chunk;
}
