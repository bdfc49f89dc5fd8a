import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { constants, createGzip, type Gzip } from 'node:zlib';
import type { StartPeer } from './peer.ts';

/** The usual compression: each connection has a gzip of its own, flushed after each event. */
const start: StartPeer = async () => {
  const clients = new Set<Gzip>();
  const server = createServer({ highWaterMark: 64 * 1024 }, (_, res) => {
    res.writeHead(200, { 'Content-Type': 'text/event-stream', 'Content-Encoding': 'gzip' });
    const gzip = createGzip({ level: 1, flush: constants.Z_SYNC_FLUSH });
    gzip.pipe(res);
    clients.add(gzip);
    res.on('close', () => clients.delete(gzip));
  }).listen({ port: 0, host: '127.0.0.1', backlog: 4096 });
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    publish: (_topic, texts) => {
      const frames = texts.map((text) => `data: ${text}\n\n`);
      for (const gzip of clients) for (const frame of frames) gzip.write(frame);
    },
  };
};

export default start;
