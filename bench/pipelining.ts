// Shows what one connection costs that sends many requests at once: the longest delay of the event loop, and how
// much the process grows. Run by hand: `npx tsx bench/pipelining.ts [path] [requests] [topics]`.

import { once } from 'node:events';
import { connect } from 'node:net';
import { createSseServer } from '../lib/server.ts';

const [path = '/topics', requests = '1500', topics = '10000'] = process.argv.slice(2);
const sse = createSseServer();
for (let i = 0; i < Number(topics); i++) sse.hub.publish(`topic-${i}`, { data: 'x' });
const { port } = new URL(await sse.listen(0));
// The first requests of a process compile its functions and let V8 choose the size of its heap.
for (let i = 0; i < 5; i++) await flood(100);

let last = performance.now();
let longest = 0;
let most = process.memoryUsage().rss;
const before = most;
const ticker = setInterval(() => {
  longest = Math.max(longest, performance.now() - last - 1);
  most = Math.max(most, process.memoryUsage().rss);
  last = performance.now();
}, 1);
const startedAt = performance.now();
const { statuses, bytes } = await flood(Number(requests));
const duration = performance.now() - startedAt;
await new Promise((resolve) => setTimeout(resolve, 50));
clearInterval(ticker);
console.table({
  ...statuses,
  'MB received': bytes / 1e6,
  'ms in all': duration,
  'longest delay of the event loop, ms': longest,
  'growth of the process, MB': (most - before) / 1e6,
});
await sse.close({ deadline: 0 });

interface Flooded {
  /** How many answers had which status. */
  readonly statuses: Record<string, number>;
  readonly bytes: number;
}

/** Sends the requests in one write, and counts what comes until the connection closes, without keeping it. */
async function flood(count: number): Promise<Flooded> {
  const socket = connect(Number(port), '127.0.0.1').on('error', () => {});
  const statuses: Record<string, number> = {};
  let bytes = 0;
  let rest = '';
  socket.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
    const text = rest + chunk.toString('latin1');
    for (const [, status = ''] of text.matchAll(/HTTP\/1\.1 (\d{3})/g)) {
      statuses[status] = (statuses[status] ?? 0) + 1;
    }
    // A status line may be cut between two chunks.
    rest = text.slice(-11);
  });
  const head = `GET ${path} HTTP/1.1\r\nHost: localhost\r\n`;
  socket.write(`${`${head}\r\n`.repeat(count - 1)}${head}Connection: close\r\n\r\n`);
  await once(socket, 'close');
  return { statuses, bytes };
}
