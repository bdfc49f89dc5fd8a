// Clients of HTTP/1.1 and HTTP/2, each with a connection of its own for each request.

import { once } from 'node:events';
import http, { type IncomingMessage } from 'node:http';
import http2 from 'node:http2';
import https from 'node:https';
import type { Readable } from 'node:stream';
import { Reader } from '../../helpers/reader.ts';

type Headers = Readonly<Record<string, string>>;

/** A response of which only the head was read. */
export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  /** Reads the rest. */
  read(): Reader;
  /** Whether the response has ended as HTTP demands, and was not cut. */
  isWhole(): boolean;
  /** Leaves, as a browser does that closes a tab. */
  leave(): void;
}

export type Client = (url: string, headers?: Headers) => Promise<Answer>;

export const http1: Client = async (url, headers = {}) => {
  const { request } = url.startsWith('https:') ? https : http;
  const asking = request(url, { agent: false, headers, rejectUnauthorized: false } as object).end();
  const [response] = (await once(asking, 'response')) as [IncomingMessage];
  return {
    status: response.statusCode!,
    headers: response.headers,
    read: () => new Reader(response),
    isWhole: () => response.complete,
    leave: () => response.destroy(),
  };
};

export const overHttp2: Client = async (url, headers = {}) => {
  const { origin, pathname, search } = new URL(url);
  const session = http2.connect(origin, { rejectUnauthorized: false }).on('error', () => {});
  const stream = session.request({ ':path': pathname + search, ...headers });
  const [head] = (await once(stream, 'response')) as [http2.IncomingHttpHeaders];
  stream.on('close', () => session.close());
  return {
    status: Number(head[':status']),
    headers: head as Answer['headers'],
    // What a reader needs of a response, a stream of HTTP/2 has as well.
    read: () => new Reader(stream as Readable as IncomingMessage),
    isWhole: () => stream.readableEnded && stream.rstCode === 0,
    leave: () => session.destroy(),
  };
};
