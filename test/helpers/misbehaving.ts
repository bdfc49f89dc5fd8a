// Servers for tests of readers: well-behaved ones that keep a log, and ones that do what servers should not.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';

export interface TestServer extends AsyncDisposable {
  readonly url: string;
  readonly server: Server;
  /** Every request so far, in order. */
  readonly requests: IncomingMessage[];
  close(): Promise<void>;
}

export type Handler = (req: IncomingMessage, res: ServerResponse, attempt: number) => void;

/** Serves on a port of its own. The handler is told the number of the request, from 1. */
export async function serve(handler: Handler): Promise<TestServer> {
  const requests: IncomingMessage[] = [];
  const server = createServer((req, res) => {
    requests.push(req);
    handler(req, res, requests.length);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const close = async (): Promise<void> => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
  const { port } = server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${port}/`, server, requests, close, [Symbol.asyncDispose]: close };
}

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
