// A node that runs generations on a Redis, in a process of its own, until it is killed. Arguments: the port of Redis, and
// the lease.
//
//     POST /TOPIC?tokens=N&delay=MS    runs a generation, of N tokens
//     DELETE /TOPIC                    stops it
//     GET /events/TOPIC                its stream

import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { serveEvents } from '../../../lib/events.ts';
import { Generations } from '../../../lib/generations.ts';
import { Hub } from '../../../lib/hub.ts';
import { answerError } from '../../../lib/problem.ts';
import { RedisLog } from '../../../lib/redis.ts';

const [port, lease] = process.argv.slice(2).map(Number);
const client = new Redis(port!, '127.0.0.1', { lazyConnect: true });
const hub = new Hub({ log: new RedisLog(client), retry: 1 });
const generations = new Generations(hub, { lease });
const events = serveEvents(hub, { path: '/events' });

const server = createServer(async (req, res) => {
  const { pathname, searchParams } = new URL(req.url!, 'http://localhost');
  const topic = pathname.slice(1);
  try {
    if (req.method === 'POST') {
      const [tokens, delay] = ['tokens', 'delay'].map((name) => Number(searchParams.get(name)));
      await generations.run(topic, async function* ({ signal }) {
        for (let i = 0; i < tokens!; i++) {
          yield `${i}`;
          await sleep(delay, undefined, { signal });
        }
      });
      res.writeHead(201).end();
    } else if (req.method === 'DELETE') res.end(JSON.stringify(await generations.stop(topic)));
    else await events(req, res);
  } catch (error) {
    answerError(error, { res });
  }
});
while (hub.failure !== undefined) await sleep(10);
server.listen(0, '127.0.0.1');
await once(server, 'listening');
process.stdout.write(`http://127.0.0.1:${(server.address() as AddressInfo).port}/\n`);
