// Frames bytes as a chunk of HTTP/1.1, and tells when a chunk may go straight to the socket of a response.
// Stands alone: copy this file by itself.
//
// `res.write` frames each write, corks the socket, and schedules an uncork: for bytes that many clients get,
// the same work again for each. Framed once and written to each socket they cost a third of the user-mode CPU
// time (bench/scenarios/fanout).

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
    // The response has this connection: it loses it when the client leaves or the response ends, and does not
    // have it yet while an earlier response on the same connection is unfinished.
    res.socket === socket &&
    // The body is chunked, as it is not for HTTP/1.0, for HEAD, or with a Content-Length.
    res.chunkedEncoding === true &&
    // Nobody has corked the response: the bytes held back would be overtaken.
    res.writableCorked === 0 &&
    res.writableEnded === false &&
    // Nor does the response hold back bytes of its own, which `writableLength` counts beside those of the
    // socket.
    res.writableLength === socket.writableLength &&
    socket.writable === true &&
    // Nobody has replaced a method in order to see or change the bytes, as compression middleware and loggers
    // do.
    res.write === write &&
    res.end === end &&
    socket.write === writeToSocket
  );
}

// The originals, taken before any middleware can patch the prototypes.
const { write, end } = ServerResponse.prototype;
const { write: writeToSocket } = Socket.prototype;

/** The bytes as one chunk: their length in hexadecimal, CRLF, the bytes, CRLF. */
export function toChunk(bytes: Uint8Array): Buffer {
  const size = `${bytes.length.toString(16)}\r\n`;
  const chunk = Buffer.allocUnsafe(size.length + bytes.length + 2);
  chunk.write(size, 'latin1');
  chunk.set(bytes, size.length);
  chunk[chunk.length - 2] = 0x0d;
  chunk[chunk.length - 1] = 0x0a;
  return chunk;
}
