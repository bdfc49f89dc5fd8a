// Measures heartbeats of idle streams: the sweep alone, with a clock that does not wait.
//   npx tsx bench/heartbeat.bench.ts
// With --seconds: CPU time of one core in real time, with real sockets if wanted.
//   npx tsx bench/heartbeat.bench.ts --seconds 30 [--streams 15000] [--interval 15000] [--sockets 0]

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { parseArgs } from 'node:util';
import { Heartbeat, type HeartbeatSink } from '../lib/heartbeat.ts';
import { type Effort, type Measurement, measure, runAlone } from './harness.ts';

/** The cheapest stream, so that the sweep is measured. */
class IdleSink {
  closed = false;
  writableNeedDrain = false;
  bytesWritten = 0;

  write(chunk: Uint8Array): boolean {
    this.bytesWritten += chunk.length;
    return true;
  }
}

const STREAMS = 15_000;
const INTERVAL = 15_000;

/** The cost of one stream for one interval with one heartbeat. */
export function bench(effort: Effort): Measurement[] {
  let now = 0;
  let tick = () => {};
  const start = (callback: () => void) => {
    tick = callback;
    return { unref() {} } as NodeJS.Timeout;
  };
  const beats = new Heartbeat({
    interval: INTERVAL,
    clock: { now: () => now, setInterval: start, clearInterval: () => {} },
  });
  for (let i = 0; i < STREAMS; i++) beats.add(new IdleSink());
  const value = measure(() => {
    for (const end = now + INTERVAL; now < end; now += INTERVAL / 64) tick();
    return STREAMS;
  }, effort);
  if (beats.sent < STREAMS) throw new Error('the streams got no heartbeats');
  beats.stop();
  return [{ case: 'an idle stream of 15,000, each interval', peer: 'sluice', figure: 'nanoseconds', value }];
}

interface RealTime {
  readonly interval: number;
  readonly seconds: number;
}

async function measureFor(
  { interval, seconds }: RealTime,
  name: string,
  sinks: readonly HeartbeatSink[],
): Promise<void> {
  const beats = new Heartbeat({ interval });
  const before = process.memoryUsage().heapUsed;
  for (const sink of sinks) beats.add(sink);
  const bytes = process.memoryUsage().heapUsed - before;
  // Excludes compilation and the first garbage collections.
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

/** Opens loopback connections; their client ends belong to another process, whose CPU time is not counted. */
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

async function inRealTime(): Promise<void> {
  const number = { type: 'string' } as const;
  const options = { streams: number, interval: number, sockets: number, seconds: number };
  const { values } = parseArgs({ options });
  const time = { interval: Number(values.interval ?? INTERVAL), seconds: Number(values.seconds) };
  const streams = Number(values.streams ?? STREAMS);
  const open = Number(values.sockets ?? 0);
  await measureFor(time, 'nothing', []);
  await measureFor(
    time,
    'sweep',
    Array.from({ length: streams }, () => new IdleSink()),
  );
  if (open === 0) return;
  const { sockets, close } = await openSockets(open);
  await measureFor(time, 'sockets', sockets);
  close();
}

if (process.argv.some((argument) => argument.startsWith('--seconds'))) await inRealTime();
else await runAlone(import.meta.url, bench);
