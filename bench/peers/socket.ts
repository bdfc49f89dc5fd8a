import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import type { StartPeer } from './peer.ts';

/** The floor of JavaScript: makes one chunk per turn and writes it to each socket, without any check. */
const start: StartPeer = async () => {
  const topics = new Map<string, Set<Socket>>();
  const server = createServer({ highWaterMark: 64 * 1024 }, (req, res) => {
    res.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' });
    res.flushHeaders();
    for (const topic of new URLSearchParams(req.url?.split('?')[1]).getAll('topic')) {
      const sockets = topics.get(topic) ?? new Set();
      topics.set(topic, sockets.add(req.socket));
      res.on('close', () => sockets.delete(req.socket));
    }
  }).listen({ port: 0, host: '127.0.0.1', backlog: 4096 });
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    publish: (topic, texts) => {
      const body = texts.map((text) => `data: ${text}\n\n`).join('');
      const chunk = Buffer.from(`${Buffer.byteLength(body).toString(16)}\r\n${body}\r\n`);
      for (const socket of topics.get(topic) ?? []) socket.write(chunk);
    },
    beat: (interval) => {
      const comment = Buffer.from('3\r\n:\n\n\r\n');
      const all = [...topics.values()].flatMap((sockets) => [...sockets]);
      let next = 0;
      setInterval(() => {
        for (let i = 0; i < all.length / 64; i++) all[next++ % all.length]!.write(comment);
      }, interval / 64);
    },
  };
};

export default start;
