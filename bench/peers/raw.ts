import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { chunkOf, LAST } from './answers.ts';
import type { StartPeer } from './peer.ts';

/** What people write without a library: a loop of `res.write`, without ids, limits or backpressure. */
const start: StartPeer = async ({ tokens, answer }) => {
  const topics = new Map<string, Set<ServerResponse>>();
  const server = createServer({ highWaterMark: 64 * 1024 }, async (req, res) => {
    res.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-cache' });
    res.flushHeaders();
    if (req.method === 'POST' && req.url === '/answer/events') {
      for await (const chunk of answer(chunkOf, LAST)) res.write(`data: ${JSON.stringify(chunk)}\n\n`);
      return res.end('data: [DONE]\n\n');
    }
    if (req.method === 'POST') {
      for await (const token of tokens()) res.write(`data: ${token}\n\n`);
      return res.end();
    }
    for (const topic of new URLSearchParams(req.url?.split('?')[1]).getAll('topic')) {
      const clients = topics.get(topic) ?? new Set();
      topics.set(topic, clients.add(res));
      res.on('close', () => clients.delete(res));
    }
  }).listen({ port: 0, host: '127.0.0.1', backlog: 4096 });
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    publish: (topic, texts) => {
      const frames = texts.map((text) => `data: ${text}\n\n`);
      for (const res of topics.get(topic) ?? []) for (const frame of frames) res.write(frame);
    },
  };
};

export default start;
