// What looking after idle streams costs: CPU time of one core, the sweep by itself and with real sockets.
//   tsx bench/heartbeat.bench.ts [--streams 15000] [--interval 15000] [--sockets 0] [--seconds 30]

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { parseArgs } from 'node:util';
import { type BeatSink, Heartbeat } from '../lib/heartbeat.ts';

const { values } = parseArgs({
  options: {
    streams: { type: 'string', default: '15000' },
    interval: { type: 'string', default: '15000' },
    sockets: { type: 'string', default: '0' },
    seconds: { type: 'string', default: '30' },
  },
});
const interval = Number(values.interval);
const seconds = Number(values.seconds);

/** As cheap as a stream can be, so that what is measured is the sweep. */
class IdleSink {
  closed = false;
  writableNeedDrain = false;
  bytesWritten = 0;

  write(chunk: Uint8Array): boolean {
    this.bytesWritten += chunk.length;
    return true;
  }
}

async function measure(name: string, sinks: readonly BeatSink[]): Promise<void> {
  const beats = new Heartbeat({ interval });
  const before = process.memoryUsage().heapUsed;
  for (const sink of sinks) beats.add(sink);
  const bytes = process.memoryUsage().heapUsed - before;
  // Compiling and the first collections are not what is measured.
  await new Promise((resolve) => setTimeout(resolve, 5000));
  const sent = beats.sent;
  const cpu = process.cpuUsage();
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  const { user, system } = process.cpuUsage(cpu);
  const percent = (microseconds: number) => Number((microseconds / seconds / 10_000).toFixed(3));
  console.log(
    JSON.stringify({
      name,
      streams: sinks.length,
      interval,
      beats: beats.sent - sent,
      userPercent: percent(user),
      systemPercent: percent(system),
      bytesPerStream: Math.round(bytes / Math.max(1, sinks.length)),
    }),
  );
  beats.stop();
}

/** Server ends of loopback connections. The client ends live in another process, whose time is not counted. */
async function openSockets(count: number): Promise<{ sockets: Socket[]; close(): void }> {
  const sockets: Socket[] = [];
  const server = createServer((socket) => sockets.push(socket)).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  const clients = spawn(process.execPath, ['-e', CLIENTS, String(port), String(count)], { stdio: 'inherit' });
  while (sockets.length < count) await once(server, 'connection');
  const close = () => {
    clients.kill();
    for (const socket of sockets) socket.destroy();
    server.close();
  };
  return { sockets, close };
}

const CLIENTS = `
  const { connect } = require('node:net');
  const [port, count] = process.argv.slice(1).map(Number);
  let open = 0;
  (function next() {
    if (open++ < count) connect(port, '127.0.0.1', next).on('error', () => {}).resume();
  })();
`;

await measure('nothing', []);
await measure(
  'sweep',
  Array.from({ length: Number(values.streams) }, () => new IdleSink()),
);
if (Number(values.sockets) > 0) {
  const { sockets, close } = await openSockets(Number(values.sockets));
  await measure('sockets', sockets);
  close();
}
