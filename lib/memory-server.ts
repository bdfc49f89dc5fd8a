// Brings requests to a server of node:http without a network: both sides parse and write real HTTP, in memory.
// Needs `socket-pair.ts` beside it.

import {
  Agent,
  createServer,
  type IncomingMessage,
  type RequestListener,
  type Server,
  type ServerResponse,
  request as startRequest,
} from 'node:http';
import { type MemorySocket, type SocketPairOptions, socketPair } from './socket-pair.ts';

export interface MemoryRequest {
  /** Default `GET`, or `POST` where there is a `body`. */
  readonly method?: string | undefined;
  readonly headers?: Readonly<Record<string, string>> | undefined;
  readonly body?: string | Uint8Array | undefined;
}

/**
 * A server that listens nowhere. It is reached through its methods, or from any client that takes an agent:
 * `connect(url, { transport: nodeTransport({ agent: server.agent }) })`.
 */
export class MemoryServer {
  /** Each of its connections is a new one in memory, whatever host and port are asked for. */
  readonly agent: Agent;
  readonly #server: Server;
  readonly #options: SocketPairOptions;
  readonly #sockets: Set<MemorySocket> = new Set();

  /** Takes a handler `(req, res)`, such as an application of Express, or a server of `node:http`. */
  constructor(handler: RequestListener | Server, options: SocketPairOptions = {}) {
    this.#server = typeof handler === 'function' ? createServer(handler) : handler;
    this.#options = options;
    this.agent = new MemoryAgent(() => this.connect());
  }

  /**
   * Opens a connection and returns the client's end, on which anything may be sent. As one of `net.connect`, it ends
   * when the server does, unless its `allowHalfOpen` is set.
   */
  connect(): MemorySocket {
    const [near, far] = socketPair(this.#options);
    near.allowHalfOpen = false;
    for (const socket of [near, far]) {
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
      // A client that is gone is no failure of the test.
      socket.on('error', () => {});
    }
    this.#server.emit('connection', far);
    return near;
  }

  /** Sends a request, and resolves with the response when its head has arrived. Rejects where there is none. */
  request(path: string, { method, headers = {}, body }: MemoryRequest = {}): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const options = { agent: this.agent, host: 'localhost', path, headers: { ...headers } };
      const asking = startRequest({ ...options, method: method ?? (body === undefined ? 'GET' : 'POST') });
      asking.on('error', reject);
      asking.once('response', (response) => {
        // Where a connection breaks, a loop over the response throws; nobody else must.
        resolve(response.on('error', () => {}));
      });
      // As where the server switches to another protocol.
      asking.once('close', () => reject(new Error('the connection was closed without a response')));
      asking.end(body);
    });
  }

  /** Cuts all connections. A server that was given to the constructor is not closed. */
  close(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

class MemoryAgent extends Agent {
  readonly #connect: () => MemorySocket;

  constructor(connect: () => MemorySocket) {
    super({ keepAlive: false });
    this.#connect = connect;
  }

  override createConnection(): MemorySocket {
    return this.#connect();
  }
}

/** One request at a server, and its response at the client. */
export interface Exchange {
  /** The server's side. */
  readonly req: IncomingMessage;
  readonly res: ServerResponse;
  /** The client's side: resolves when the head has arrived, and rejects where the connection was cut before. */
  readonly response: Promise<IncomingMessage>;
  /** Cuts the connection. */
  close(): void;
}

/** Makes a request that waits for its answer: `req` and `res` for the code under test, `response` to read. */
export async function exchange(path = '/', options: MemoryRequest = {}): Promise<Exchange> {
  let server: MemoryServer | undefined;
  const asked = new Promise<{ req: IncomingMessage; res: ServerResponse }>((resolve) => {
    server = new MemoryServer((req, res) => resolve({ req, res }));
  });
  const response = server!.request(path, options);
  response.catch(() => {});
  const refused = response.then(({ statusCode }) => {
    throw new Error(`the request was answered ${statusCode} before it reached a handler`);
  });
  const { req, res } = await Promise.race([asked, refused]);
  refused.catch(() => {});
  return { req, res, response, close: () => server!.close() };
}
