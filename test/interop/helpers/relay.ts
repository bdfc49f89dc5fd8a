// A relay for TCP between a client and a server, on which answers can vanish and connections break.

import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import type { Cleanup } from '../../helpers/server.ts';

export interface Relay {
  readonly port: number;
  /** How many connections it has taken so far. */
  readonly taken: number;
  /** Whether what the server says gets lost. */
  swallows: boolean;
  /** Whether new connections break at once. */
  refuses: boolean;
  /** Whether the end of a connection gets lost as well, as where a cable is pulled. */
  hides: boolean;
  /** Breaks all connections. */
  cut(): void;
}

/** Runs until the test is over. */
export async function startRelay(t: Cleanup, target: number): Promise<Relay> {
  const sockets = new Set<Socket>();
  const keep = (socket: Socket) => {
    sockets.add(socket);
    socket.on('error', () => {}).on('close', () => sockets.delete(socket));
    return socket;
  };
  const server = createServer({ allowHalfOpen: true }, (near) => {
    relay.taken++;
    if (relay.refuses) return near.destroy();
    const far = keep(connect({ port: target, host: '127.0.0.1' }));
    keep(near);
    near.on('data', (bytes) => far.write(bytes)).on('end', () => far.end());
    far.on('data', (bytes) => {
      if (!relay.swallows) near.write(bytes);
    });
    far.on('close', () => {
      if (!relay.hides) near.destroy();
    });
    near.on('close', () => far.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const relay = {
    port: (server.address() as { port: number }).port,
    taken: 0,
    swallows: false,
    refuses: false,
    hides: false,
    cut() {
      for (const socket of [...sockets]) socket.destroy();
    },
  };
  t.after(async () => {
    relay.cut();
    server.close();
    await once(server, 'close');
  });
  return relay;
}
