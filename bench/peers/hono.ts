import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { createAdaptorServer } from '@hono/node-server';
import { Hono } from 'hono';
import { type SSEStreamingApi, streamSSE } from 'hono/streaming';
import type { StartPeer } from './peer.ts';

/**
 * `streamSSE` on its adapter for Node. Each handler has one stream; the application keeps the set of streams.
 */
const start: StartPeer = async ({ tokens }) => {
  const topics = new Map<string, Set<SSEStreamingApi>>();
  const app = new Hono();
  app.get('/events', (c) =>
    streamSSE(c, async (stream) => {
      const topic = c.req.query('topic') ?? '';
      const streams = topics.get(topic) ?? new Set();
      topics.set(topic, streams.add(stream));
      await new Promise<void>((resolve) => stream.onAbort(resolve));
      streams.delete(stream);
    }),
  );
  app.post('/answer', (c) =>
    streamSSE(c, async (stream) => {
      for await (const data of tokens()) await stream.writeSSE({ data });
    }),
  );
  const server = createAdaptorServer({ fetch: app.fetch, serverOptions: { highWaterMark: 64 * 1024 } });
  server.listen({ port: 0, host: '127.0.0.1', backlog: 4096 });
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    publish: (topic, texts) => {
      for (const stream of topics.get(topic) ?? []) for (const data of texts) void stream.writeSSE({ data });
    },
  };
};

export default start;
