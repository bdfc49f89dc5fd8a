import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type Channel, createChannel, createSession } from 'better-sse';
import type { StartPeer } from './peer.ts';

/** A channel for each topic, which broadcasts to its sessions. Texts are sent as they are, not as JSON. */
const start: StartPeer = async ({ tokens }) => {
  const channels = new Map<string, Channel>();
  const server = createServer({ highWaterMark: 64 * 1024 }, async (req, res) => {
    const session = await createSession(req, res, { serializer: String });
    if (req.method === 'POST') {
      await session.iterate(tokens());
      return res.end();
    }
    const topic = new URLSearchParams(req.url?.split('?')[1]).get('topic') ?? '';
    const channel = channels.get(topic) ?? createChannel();
    channels.set(topic, channel.register(session));
  }).listen({ port: 0, host: '127.0.0.1', backlog: 4096 });
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    publish: (topic, texts) => {
      for (const text of texts) channels.get(topic)?.broadcast(text);
    },
  };
};

export default start;
