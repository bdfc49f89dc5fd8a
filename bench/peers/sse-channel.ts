import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import SseChannel from 'sse-channel';
import type { StartPeer } from './peer.ts';

/** A channel for each topic, and one whose messages are each for a single client. */
const start: StartPeer = async ({ tokens }) => {
  const channels = new Map<string, SseChannel>();
  const answers = new SseChannel();
  const server = createServer({ highWaterMark: 64 * 1024 }, async (req, res) => {
    if (req.method === 'POST') {
      answers.addClient(req, res);
      for await (const token of tokens()) answers.send(token, [res]);
      return res.end();
    }
    const topic = new URLSearchParams(req.url?.split('?')[1]).get('topic') ?? '';
    const channel = channels.get(topic) ?? new SseChannel();
    channels.set(topic, channel);
    channel.addClient(req, res);
  }).listen({ port: 0, host: '127.0.0.1', backlog: 4096 });
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    publish: (topic, texts) => {
      for (const text of texts) channels.get(topic)?.send(text);
    },
  };
};

export default start;
