// Reads the body of a request as text of limited size.
// Stands alone: copy this file by itself.

/** The members of a request that are used: Node's `IncomingMessage` has them. */
export interface BodyRequest {
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  iterator(options: { destroyOnReturn: boolean }): AsyncIterable<Uint8Array>;
}

/**
 * The error of `readText`: `code` is the reason, `status` the status to answer with.
 *
 * - `ERR_SSE_MALFORMED_BODY` (400): the body is not UTF-8, or it ended early.
 * - `ERR_SSE_LENGTH_REQUIRED` (411): the request has neither a length nor chunks.
 * - `ERR_SSE_BODY_TOO_LARGE` (413): the body has more than `maxBytes`.
 * - `ERR_SSE_UNSUPPORTED_BODY` (415): its type, charset or encoding cannot be read as text.
 */
export interface BodyError extends Error {
  readonly code:
    | 'ERR_SSE_MALFORMED_BODY'
    | 'ERR_SSE_LENGTH_REQUIRED'
    | 'ERR_SSE_BODY_TOO_LARGE'
    | 'ERR_SSE_UNSUPPORTED_BODY';
  readonly status: 400 | 411 | 413 | 415;
}

/**
 * Reads the whole body, which must be valid UTF-8. Malformed bytes are an error and are not replaced; a byte
 * order mark is kept.
 *
 * Any content type is read (`curl -d` sends all data as a form), except multipart forms and charsets other
 * than UTF-8. Rejects with a {@link BodyError}; the request stays open, so that it can be answered. It holds
 * at most twice the bytes that have arrived, in however many chunks.
 *
 * The trap: a slow body is ended by `server.requestTimeout` alone, which is 300 s unless you set it.
 *
 * @throws {RangeError} for a `maxBytes` that is no limit, as a rejection.
 */
export async function readText(req: BodyRequest, maxBytes: number): Promise<string> {
  if (!(typeof maxBytes === 'number' && maxBytes >= 0))
    throw new RangeError(`\`maxBytes\` must be a number ≥ 0, got ${String(maxBytes)}`);
  const limit = checkHeaders(req.headers, maxBytes);
  // Chunks are not kept: each is a view of the 64 KiB in which it was read, even if it has one byte.
  let bytes: Buffer = Buffer.allocUnsafe(Math.min(limit, FIRST_BYTES));
  let length = 0;
  try {
    // By default, leaving the loop destroys the request and its socket, so that it could not be answered.
    for await (const chunk of req.iterator({ destroyOnReturn: false })) {
      const needed = length + chunk.length;
      if (needed > maxBytes) throw tooLarge(maxBytes);
      if (needed > bytes.length) bytes = grown(bytes, length, Math.max(needed, Math.min(2 * length, limit)));
      bytes.set(chunk, length);
      length = needed;
    }
  } catch (error) {
    if ((error as Partial<BodyError>).code === 'ERR_SSE_BODY_TOO_LARGE') throw error;
    throw bodyError('ERR_SSE_MALFORMED_BODY', 'the body ended early');
  }
  return decode(bytes.subarray(0, length));
}

const FIRST_BYTES = 16 * 1024;

function grown(bytes: Buffer, length: number, size: number): Buffer {
  const larger = Buffer.allocUnsafe(size);
  larger.set(bytes.subarray(0, length));
  return larger;
}

/** Returns the most bytes that can arrive. */
function checkHeaders(headers: BodyRequest['headers'], maxBytes: number): number {
  const length = headers['content-length'];
  if (length === undefined && headers['transfer-encoding'] === undefined) {
    throw bodyError(
      'ERR_SSE_LENGTH_REQUIRED',
      'a body needs a Content-Length or a chunked Transfer-Encoding',
    );
  }
  if (Number(length) > maxBytes) throw tooLarge(maxBytes);
  const encoding = String(headers['content-encoding'] ?? '').trim();
  if (!/^(identity)?$/i.test(encoding)) throw unsupported(`the body must not be encoded, got ${encoding}`);
  const type = String(headers['content-type'] ?? '');
  if (/^multipart\//i.test(type)) throw unsupported('the body must not be a multipart form');
  const charset = /;\s*charset="?([^\s;"]+)/i.exec(type)?.[1] ?? 'utf-8';
  if (!/^(utf-?8|us-ascii)$/i.test(charset)) throw unsupported(`the body must be UTF-8, got ${charset}`);
  return length === undefined ? maxBytes : Number(length);
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

function decode(bytes: Uint8Array): string {
  try {
    return utf8.decode(bytes);
  } catch {
    throw bodyError('ERR_SSE_MALFORMED_BODY', 'the body is not UTF-8');
  }
}

const STATUSES: Readonly<Record<BodyError['code'], BodyError['status']>> = {
  ERR_SSE_MALFORMED_BODY: 400,
  ERR_SSE_LENGTH_REQUIRED: 411,
  ERR_SSE_BODY_TOO_LARGE: 413,
  ERR_SSE_UNSUPPORTED_BODY: 415,
};

function tooLarge(maxBytes: number): BodyError {
  return bodyError('ERR_SSE_BODY_TOO_LARGE', `the body may have at most ${maxBytes} bytes`);
}

function unsupported(message: string): BodyError {
  return bodyError('ERR_SSE_UNSUPPORTED_BODY', message);
}

function bodyError(code: BodyError['code'], message: string): BodyError {
  return Object.assign(new Error(message), { code, status: STATUSES[code] });
}
