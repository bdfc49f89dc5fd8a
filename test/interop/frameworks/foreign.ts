// Servers of event streams that have nothing of sluice in them, for what is to be tried with any server.

import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { serve as serveHono } from '@hono/node-server';
import compression from 'compression';
import express from 'express';
import { Hono } from 'hono';
import { streamSSE } from 'hono/streaming';
import type { Cleanup } from '../../helpers/server.ts';
import { listen } from '../../helpers/server.ts';

/** Express with its usual compression, which holds back what nobody flushes. */
export async function startCompressing(t: Cleanup): Promise<string> {
  const app = express();
  app.use(compression());
  app.get('/events', (_, res) => {
    res.set({ 'content-type': 'text/event-stream', 'cache-control': 'no-cache' }).flushHeaders();
    let count = 0;
    const timer = setInterval(() => res.write(`id: ${++count}\ndata: ${count}\n\n`), 100);
    res.on('close', () => clearInterval(timer));
  });
  return `http://127.0.0.1:${await listen(t, createServer(app))}/events`;
}

/** Hono's own event stream, which has ids and does not resume. */
export async function startHono(t: Cleanup): Promise<string> {
  const app = new Hono();
  app.get('/events', (context) =>
    streamSSE(context, async (stream) => {
      for (; !stream.aborted; await stream.sleep(100)) {
        await stream.writeSSE({ id: String(Date.now()), event: 'time', data: 'tick' });
      }
    }),
  );
  const server = serveHono({ fetch: app.fetch, port: 0, hostname: '127.0.0.1' });
  await once(server, 'listening');
  t.after(() => {
    server.close();
    if ('closeAllConnections' in server) server.closeAllConnections();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/events`;
}
