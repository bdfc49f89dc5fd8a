// Servers on a free port of the loopback, until the test is over.

import { once } from 'node:events';
import {
  createServer,
  type Server as HttpServer,
  type IncomingMessage,
  type ServerResponse,
} from 'node:http';
import type { AddressInfo, Server, Socket } from 'node:net';

/** Where a helper leaves what must be done when the test is over: a `TestContext`. */
export interface Cleanup {
  after(done: () => unknown): void;
}

export interface TestServer extends AsyncDisposable {
  readonly port: number;
  /** Ends in a slash. */
  readonly url: string;
  readonly server: HttpServer;
  /** Every request so far, in order. */
  readonly requests: IncomingMessage[];
  /** Also cuts off whatever is connected. */
  close(): Promise<void>;
}

/** Handles a request. `attempt` is its number, from 1. */
export type Handler = (req: IncomingMessage, res: ServerResponse, attempt: number) => unknown;

/** Serves HTTP until the test is over. */
export async function serve(t: Cleanup, handler: Handler): Promise<TestServer> {
  const opened = await openServer(handler);
  t.after(opened.close);
  return opened;
}

/** Serves HTTP until the caller closes the server, or leaves the scope of its `await using`. */
export async function openServer(handler: Handler): Promise<TestServer> {
  const requests: IncomingMessage[] = [];
  const server = createServer((req, res) => {
    requests.push(req);
    handler(req, res, requests.length);
  });
  const { port, close } = await bind(server);
  return { port, url: `http://127.0.0.1:${port}/`, server, requests, close, [Symbol.asyncDispose]: close };
}

/** Lets any server listen until the test is over, and answers its port. */
export async function listen(t: Cleanup, server: Server): Promise<number> {
  const { port, close } = await bind(server);
  t.after(close);
  return port;
}

async function bind(server: Server): Promise<{ port: number; close(): Promise<void> }> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const close = async () => {
    const closed = new Promise((resolve) => server.close(resolve));
    for (const socket of sockets) socket.destroy();
    await closed;
  };
  return { port: (server.address() as AddressInfo).port, close };
}
