import { once } from 'node:events';
import {
  createServer,
  request as httpRequest,
  type IncomingMessage,
  type RequestOptions,
  type ServerResponse,
} from 'node:http';
import type { Socket } from 'node:net';
import { type EventStream, openStream, type StreamOptions } from '../../lib/stream.ts';
import { dial, request } from './raw.ts';
import { Reading } from './reader.ts';
import { type Cleanup, listen } from './server.ts';

export interface Exchange {
  readonly req: IncomingMessage;
  readonly res: ServerResponse;
  readonly stream: EventStream;
  /** The client's end: it reads nothing unless it is told to. */
  readonly client: Socket;
}

/** One stream, open between a real server and a raw client. */
export async function streaming(
  t: Cleanup,
  options?: StreamOptions,
  head: string = request(),
): Promise<Exchange> {
  const { req, res, client } = await exchanging(t, head);
  return { req, res, client, stream: openStream(req, res, options) };
}

/** One request that waits for its answer, from a raw client. */
export async function exchanging(t: Cleanup, head: string = request()): Promise<Omit<Exchange, 'stream'>> {
  const server = createServer();
  const asked = once(server, 'request') as Promise<[IncomingMessage, ServerResponse]>;
  const client = await dial(t, await listen(t, server));
  client.write(head);
  const [req, res] = await asked;
  return { req, res, client };
}

export interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  readonly body: Reading;
}

/** Asks as a client library does: by default for `/`, on a connection of its own. */
export async function fetchFrom(t: Cleanup, port: number, options: RequestOptions = {}): Promise<Answer> {
  const asking = httpRequest({ port, host: '127.0.0.1', agent: false, ...options }).end();
  t.after(() => asking.destroy());
  const [res] = (await once(asking, 'response')) as [IncomingMessage];
  return { status: res.statusCode ?? 0, headers: res.headers, body: new Reading(res) };
}
