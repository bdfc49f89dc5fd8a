import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { EventStream, H3, toNodeHandler } from 'h3';
import type { StartPeer } from './peer.ts';

/** `EventStream`, with all texts of a call in one push. The application keeps the set of streams. */
const start: StartPeer = async ({ tokens }) => {
  const topics = new Map<string, Set<EventStream>>();
  const app = new H3();
  app.get('/events', (event) => {
    const stream = new EventStream(event);
    const topic = event.url.searchParams.get('topic') ?? '';
    const streams = topics.get(topic) ?? new Set();
    topics.set(topic, streams.add(stream));
    stream.onClosed(() => streams.delete(stream));
    return stream;
  });
  app.post('/answer', (event) => {
    const stream = new EventStream(event);
    const answer = async () => {
      for await (const token of tokens()) await stream.push(token);
      await stream.close();
    };
    void answer();
    return stream;
  });
  const server = createServer({ highWaterMark: 64 * 1024 }, toNodeHandler(app));
  server.listen({ port: 0, host: '127.0.0.1', backlog: 4096 });
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    publish: (topic, texts) => {
      for (const stream of topics.get(topic) ?? []) void stream.push([...texts]);
    },
  };
};

export default start;
