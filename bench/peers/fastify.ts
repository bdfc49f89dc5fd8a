import type { AddressInfo } from 'node:net';
import { fastifySSE } from '@fastify/sse';
import Fastify, { type FastifyReply } from 'fastify';
import type { StartPeer } from './peer.ts';

/**
 * `@fastify/sse`, kept alive after its handler. Each reply has a stream; the application keeps the set of
 * streams.
 */
const start: StartPeer = async ({ tokens }) => {
  const topics = new Map<string, Set<FastifyReply>>();
  const fastify = Fastify({ http: { highWaterMark: 64 * 1024 } });
  await fastify.register(fastifySSE, { serializer: String });
  fastify.get<{ Querystring: { topic: string } }>('/events', { sse: 'only' }, async (request, reply) => {
    const { topic } = request.query;
    const replies = topics.get(topic) ?? new Set();
    topics.set(topic, replies.add(reply));
    reply.sse.keepAlive();
    reply.sse.onClose(() => replies.delete(reply));
    reply.sse.sendHeaders();
    reply.raw.flushHeaders();
  });
  fastify.post('/answer', { sse: 'only' }, async (_request, reply) => {
    await reply.sse.send(messages(tokens()));
  });
  await fastify.listen({ port: 0, host: '127.0.0.1', backlog: 4096 });
  return {
    port: (fastify.server.address() as AddressInfo).port,
    publish: (topic, texts) => {
      for (const { sse } of topics.get(topic) ?? []) for (const data of texts) void sse.send({ data });
    },
  };
};

async function* messages(tokens: AsyncIterable<string>): AsyncGenerator<{ data: string }> {
  for await (const data of tokens) yield { data };
}

export default start;
