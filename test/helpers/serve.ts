import { once } from 'node:events';
import type { AddressInfo, Server, Socket } from 'node:net';

/** Where a helper leaves what must be done when the test is over: a `TestContext`. */
export interface Cleanup {
  after(done: () => unknown): void;
}

/** Listens on a free port of the loopback until the test is over; whatever is connected then is cut off. */
export async function listen(t: Cleanup, server: Server): Promise<number> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(async () => {
    const closed = once(server, 'close');
    server.close();
    for (const socket of sockets) socket.destroy();
    await closed;
  });
  return (server.address() as AddressInfo).port;
}
