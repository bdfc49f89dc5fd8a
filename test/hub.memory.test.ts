// Measures what stalled and slow readers cost a server in a process of its own, over real sockets.
//
// This takes seconds, with 200 readers, 256 MB and 8 MB/s. With 1,000 readers, 1 GB and 100 KB/s it takes 9
// minutes:
//
//     SIM_FULL=1 npx tsx --test test/hub.memory.test.ts       RSS + 65 MB, in use + 58 MB

import assert from 'node:assert/strict';
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import net from 'node:net';
import { after, it } from 'node:test';
import type { Order, Report } from './fixtures/hub-server.ts';

const isFull = process.env.SIM_FULL !== undefined;
const READERS = isFull ? 1000 : 200;
const PUBLISHED = isFull ? 1e9 : 256e6;
const BYTES_PER_SECOND = isFull ? 100e3 : 8e6;

const MiB = 1024 * 1024;
const PAGE = 64 * 1024;
const RING = 4 * MiB;
/** What a blocked stream holds besides its page: pending writes, chunk heads, its place in the queue. */
const STREAM = 16 * 1024;
/** Memory that a process has freed but not returned: up to 100 MB on Node 26, with 6 MB in use. */
const SLACK = 128 * MiB;
const children: ChildProcess[] = [];

after(() => {
  for (const child of children) child.kill();
});

async function startServer(options: { stallTimeout?: number } = {}) {
  const execArgv = ['--expose-gc', '--import', 'tsx'];
  const child = fork(`${import.meta.dirname}/fixtures/hub-server.ts`, [JSON.stringify(options)], {
    execArgv,
  });
  children.push(child);
  const [port] = (await once(child, 'message')) as [number];
  const ask = async (order: Order): Promise<Report> => {
    child.send(order);
    const [report] = (await once(child, 'message')) as [Report];
    return report;
  };
  return { port, ask };
}

/** Opens a stream and reads nothing from it. */
async function connect(port: number, path: string, lastEventId?: string): Promise<net.Socket> {
  const socket = net.connect(port, '127.0.0.1');
  await once(socket, 'connect');
  const header = lastEventId === undefined ? '' : `Last-Event-ID: ${lastEventId}\r\n`;
  socket.write(`GET ${path} HTTP/1.1\r\nHost: x\r\n${header}\r\n`);
  return socket.on('error', () => {});
}

it('spends the history and one page each on readers that never read, and closes them as stalled', async (t) => {
  const { port, ask } = await startServer({ stallTimeout: isFull ? 60_000 : 4000 });
  // Publishes as much to a reader that reads, so that what any publishing costs is not counted.
  const healthy = await connect(port, '/healthy');
  healthy.resume();
  await ask({ do: 'publish', topic: 'healthy', events: PUBLISHED / 1000, bytes: 1000, perTurn: 64 });
  healthy.destroy();
  const sockets = await Promise.all(Array.from({ length: READERS }, () => connect(port, '/a')));
  let before = await ask({ do: 'measure' });
  while (before.streams !== READERS) before = await ask({ do: 'measure' });
  const afterwards = await ask({
    do: 'publish',
    topic: 'a',
    events: PUBLISHED / 1000,
    bytes: 1000,
    perTurn: 64,
  });
  const grown = afterwards.rss - before.rss;
  const mb = (bytes: number) => `${(bytes / 1e6).toFixed(1)} MB`;
  t.diagnostic(
    `${READERS} readers, ${mb(PUBLISHED)}: RSS + ${mb(grown)}, in use + ${mb(afterwards.used - before.used)}`,
  );
  assert.ok(grown < RING + READERS * PAGE + SLACK, `grew by ${mb(grown)}`);
  assert.ok(
    afterwards.used - before.used < RING * 2 + READERS * (PAGE + STREAM),
    `uses ${mb(afterwards.used - before.used)} more`,
  );
  let { reasons, streams } = afterwards;
  while (streams > 0) ({ reasons, streams } = await ask({ do: 'measure' }));
  assert.deepEqual(reasons, { 'client-gone': 1, stalled: READERS });
  for (const socket of sockets) socket.destroy();
});

it('delays no other client, and uses no more memory, while it sends 50,000 missed events to a slow reader', async (t) => {
  const { port, ask } = await startServer();
  await ask({ do: 'publish', topic: 'past', events: 50_000, bytes: 500, perTurn: 1000 });
  const live = await connect(port, '/tick');
  await once(live, 'data');
  const before = await ask({ do: 'tick', times: 100 }); // compiles everything and opens every stream
  const slow = await connect(port, '/past', '1795408776829004-0');
  let received = 0;
  let isDone = false;
  const every = 10;
  slow.pause();
  const timer = setInterval(() => {
    const room = (BYTES_PER_SECOND * every) / 1000;
    const chunk = slow.read(Math.min(room, slow.readableLength)) as Buffer | null;
    received += chunk?.length ?? 0;
    isDone ||= chunk?.includes('id: 1795408776829004-50000\n') ?? false;
  }, every);
  let peak = 0;
  let turns = 0;
  while (!isDone && !slow.closed) {
    const report = await ask({ do: 'tick', times: 100 });
    peak = Math.max(peak, report.peak);
    turns = Math.max(turns, report.turns);
  }
  clearInterval(timer);
  t.diagnostic(
    `${(received / 1e6).toFixed(1)} MB to the slow one; at most ${turns} turn to the others; ${((peak - before.used) / 1e6).toFixed(1)} MB more in use`,
  );
  assert.ok(isDone && received > 50_000 * 500, `the slow one was closed after ${received} bytes`);
  assert.equal(turns, 1);
  assert.ok(peak - before.used < 4 * MiB, `${peak - before.used} bytes more in use`);
  for (const socket of [live, slow]) socket.destroy();
});
