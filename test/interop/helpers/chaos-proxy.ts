// A TCP proxy whose connections go wrong at a test's command.

import { createServer, connect as dial, type Server, type Socket } from 'node:net';
import type { Cleanup } from '../../helpers/server.ts';
import { listen } from '../../helpers/server.ts';

/** A connection through the proxy, and what is on its way. */
interface Link {
  readonly client: Socket;
  readonly server: Socket;
}

/**
 * What happens to bytes:
 * - `pass`: they are handed on.
 * - `stall`: they wait, in both directions, until the mode changes.
 * - `swallow`: requests are handed on, answers are lost. What comes after `pass()` is cut off first: half of an
 *   answer would be read as something else.
 */
type Mode = 'pass' | 'stall' | 'swallow';

/** Stands between one client and a server; made by {@link startChaosProxy}. */
export class ChaosProxy {
  readonly server: Server;
  port = 0;
  /** Answers that were lost. */
  swallowed = 0;
  #target: number;
  #mode: Mode = 'pass';
  #delay = 0;
  #refuses = false;
  readonly #links = new Set<Link>();

  constructor(target: number) {
    this.#target = target;
    this.server = createServer((client) => this.#accept(client));
  }

  get connections(): number {
    return this.#links.size;
  }

  /** Cuts all connections. New ones are accepted. */
  cut(): void {
    for (const { client, server } of this.#links) {
      client.resetAndDestroy();
      server.resetAndDestroy();
    }
  }

  /** Cuts all connections, and each new one until `pass`. */
  refuse(): void {
    this.#refuses = true;
    this.cut();
  }

  stall(): void {
    this.#mode = 'stall';
    for (const { client, server } of this.#links) {
      client.pause();
      server.pause();
    }
  }

  swallow(): void {
    this.#mode = 'swallow';
  }

  /** Milliseconds that each piece takes in each direction. */
  delay(ms: number): void {
    this.#delay = ms;
  }

  /** Ends all faults but the delay. */
  pass(): void {
    if (this.#mode === 'swallow') this.cut();
    this.#mode = 'pass';
    this.#refuses = false;
    for (const { client, server } of this.#links) {
      client.resume();
      server.resume();
    }
  }

  /** Leads all connections to another port: those that are open are cut. */
  retarget(port: number): void {
    this.#target = port;
    this.cut();
  }

  #accept(client: Socket): void {
    client.on('error', () => {});
    if (this.#refuses) return void client.resetAndDestroy();
    const server = dial({ port: this.#target, host: '127.0.0.1', noDelay: true });
    const link = { client: client.setNoDelay(true), server };
    this.#links.add(link);
    this.#pump(client, server, () => true);
    this.#pump(server, client, () => this.#mode !== 'swallow');
    server.on('error', () => {});
    const close = (): void => {
      this.#links.delete(link);
      client.destroy();
      server.destroy();
    };
    client.once('close', close);
    server.once('close', close);
    if (this.#mode === 'stall') this.stall();
  }

  #pump(from: Socket, to: Socket, isHandedOn: () => boolean): void {
    const late: Buffer[] = [];
    /** The oldest piece, whichever timer is due: none overtakes another where the delay changes. */
    const next = (): void => void to.write(late.shift()!);
    from.on('data', (piece) => {
      if (!isHandedOn()) this.swallowed++;
      else if (this.#delay === 0 && late.length === 0) to.write(piece);
      else {
        late.push(piece);
        setTimeout(next, this.#delay);
      }
    });
  }
}

/** Listens until the test is over. */
export async function startChaosProxy(t: Cleanup, target: number): Promise<ChaosProxy> {
  const proxy = new ChaosProxy(target);
  proxy.port = await listen(t, proxy.server);
  t.after(() => proxy.refuse());
  return proxy;
}
