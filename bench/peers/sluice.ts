import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Hub } from '../../lib/hub.ts';
import { openStream } from '../../lib/stream.ts';
import { answers } from './answers.ts';
import type { StartPeer } from './peer.ts';

const start: StartPeer = async (options) => {
  const hub = new Hub();
  const server = createServer({ highWaterMark: 64 * 1024 }, (req, res) => {
    const stream = openStream(req, res, { gzip: true });
    if (req.method === 'POST') return void answers[req.url ?? '']?.(stream, options);
    const topics = new URLSearchParams(req.url?.split('?')[1]).getAll('topic');
    hub.subscribe(topics, stream, { lastEventId: req.headers['last-event-id'] });
  }).listen({ port: 0, host: '127.0.0.1', backlog: 4096 });
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    publish: (topic, texts) => {
      for (const data of texts) hub.publish(topic, { data });
    },
  };
};

export default start;
