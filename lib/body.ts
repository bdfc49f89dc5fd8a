// Reads a request's body as text, within a bound, or says with which status it is to be refused.
// Stands alone: copy this file by itself.

/** The members of a request that are used: Node's `IncomingMessage` has them. */
export interface BodyRequest {
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  iterator(options: { destroyOnReturn: boolean }): AsyncIterable<Uint8Array>;
}

/** What `readText` throws. Tell it apart by `code`, then by `status`. */
export interface BodyError extends Error {
  readonly code: 'ERR_SSE_BODY';
  /** 400 not UTF-8, or cut short; 411 no length; 413 too large; 415 a type or an encoding that is not read. */
  readonly status: 400 | 411 | 413 | 415;
}

/**
 * The whole body as text. It must be UTF-8 to the last byte: nothing is replaced, and a byte order mark stays.
 *
 * Any type will do, since the text is what counts (`curl -d` calls everything a form), except a multipart
 * form and a charset other than UTF-8.
 *
 * @throws {BodyError}
 */
export async function readText(req: BodyRequest, maxBytes: number): Promise<string> {
  checkHeaders(req.headers, maxBytes);
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  try {
    // Not destroyed when the loop is left: the refusal has to travel on the same connection.
    for await (const chunk of req.iterator({ destroyOnReturn: false })) {
      bytes += chunk.length;
      if (bytes > maxBytes) throw tooLarge(maxBytes);
      chunks.push(chunk);
    }
  } catch (error) {
    throw isBodyError(error) ? error : bodyError(400, 'the body was cut short');
  }
  return decode(Buffer.concat(chunks));
}

function checkHeaders(headers: BodyRequest['headers'], maxBytes: number): void {
  const length = headers['content-length'];
  if (length === undefined && headers['transfer-encoding'] === undefined) {
    throw bodyError(411, 'a body needs a Content-Length, or to be sent in chunks');
  }
  if (Number(length) > maxBytes) throw tooLarge(maxBytes);
  const encoding = headers['content-encoding'] ?? 'identity';
  if (encoding !== 'identity') throw bodyError(415, `a body encoded as ${encoding} is not read`);
  const type = String(headers['content-type'] ?? '');
  if (/^multipart\//i.test(type)) throw bodyError(415, 'a multipart body is not read');
  const charset = /;\s*charset="?([^\s;"]+)/i.exec(type)?.[1] ?? 'utf-8';
  if (!/^(utf-?8|us-ascii)$/i.test(charset)) throw bodyError(415, `the body must be UTF-8, not ${charset}`);
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

function decode(bytes: Uint8Array): string {
  try {
    return utf8.decode(bytes);
  } catch {
    throw bodyError(400, 'the body is not UTF-8');
  }
}

function tooLarge(maxBytes: number): BodyError {
  return bodyError(413, `the body may have ${maxBytes} bytes`);
}

function bodyError(status: BodyError['status'], message: string): BodyError {
  return Object.assign(new Error(message), { code: 'ERR_SSE_BODY' as const, status });
}

function isBodyError(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ERR_SSE_BODY';
}
