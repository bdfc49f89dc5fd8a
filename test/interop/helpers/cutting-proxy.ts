// Stands between one client and a server: cuts connections, loses answers, and leads to another server.

import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';

export class CuttingProxy {
  readonly #server: Server;
  readonly #pairs = new Set<readonly [Socket, Socket]>();
  /** The port to which connections lead from now on. */
  target: number;
  #isOpen = true;
  #swallowed: string | undefined;

  private constructor(target: number) {
    this.target = target;
    this.#server = createServer((socket) => this.#accept(socket));
  }

  static async before(target: number): Promise<CuttingProxy> {
    const proxy = new CuttingProxy(target);
    proxy.#server.listen(0, '127.0.0.1');
    await once(proxy.#server, 'listening');
    return proxy;
  }

  get port(): number {
    return (this.#server.address() as { port: number }).port;
  }

  /** Cuts all connections, and refuses others. */
  cut(): void {
    this.#isOpen = false;
    for (const pair of this.#pairs) for (const socket of pair) socket.destroy();
  }

  mend(): void {
    this.#isOpen = true;
  }

  /** Passes the next command on that has a text, and ends the connection instead of its answer. */
  swallowAnswer(text: string): void {
    this.#swallowed = text;
  }

  async close(): Promise<void> {
    this.cut();
    this.#server.close();
    await once(this.#server, 'close');
  }

  #accept(near: Socket): void {
    near.on('error', () => {});
    if (!this.#isOpen) return void near.destroy();
    const far = connect(this.target, '127.0.0.1');
    const pair = [near, far] as const;
    this.#pairs.add(pair);
    let isSwallowing = false;
    near.on('data', (chunk) => {
      if (this.#swallowed !== undefined && chunk.includes(this.#swallowed)) {
        this.#swallowed = undefined;
        isSwallowing = true;
      }
      far.write(chunk);
    });
    far.on('data', (chunk) => {
      if (isSwallowing) near.destroy();
      else near.write(chunk);
    });
    far.on('error', () => {});
    for (const socket of pair) {
      socket.setNoDelay(true);
      socket.on('close', () => {
        this.#pairs.delete(pair);
        near.destroy();
        far.destroy();
      });
    }
  }
}
