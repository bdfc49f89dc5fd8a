// What idle streams with heartbeats cost the whole server: CPU time of one core, and memory per connection.
//   tsx bench/heartbeat-idle.bench.ts [--connections 15000] [--interval 15000] [--seconds 60]
//
// Three processes: this one asks, one serves and measures itself, one holds the other ends. A server is measured
// before anyone has come and again with everybody there. The floor is `node:http` alone: a response that was
// begun and is left open, without heartbeats.
// Each process needs as many open files as there are connections (ulimit -n), and some more.

import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { createSseServer } from '../lib/server.ts';

const { values } = parseArgs({
  options: {
    connections: { type: 'string', default: '15000' },
    interval: { type: 'string', default: '15000' },
    seconds: { type: 'string', default: '60' },
    role: { type: 'string', default: 'lead' },
    port: { type: 'string', default: '0' },
  },
});
const connections = Number(values.connections);
const interval = Number(values.interval);
const seconds = Number(values.seconds);

interface Sample {
  readonly streams: number;
  /** Percent of one core. */
  readonly user: number;
  readonly system: number;
  readonly rss: number;
  readonly heap: number;
}

const roles: Readonly<Record<string, () => Promise<void>>> = { lead, floor, sluice, read };
await roles[values.role]?.();

async function lead(): Promise<void> {
  await compare('floor');
  await compare('sluice');
}

async function compare(role: 'floor' | 'sluice'): Promise<void> {
  const server = start(role);
  const [port] = (await once(server, 'message')) as [number];
  const empty = await measure(server);
  const readers = start('read', '--port', String(port));
  await once(readers, 'message');
  const idle = await measure(server);
  const [beats] = (await answerOf(readers, 'beats')) as [number];
  console.log(
    JSON.stringify({
      server: role,
      connections: idle.streams,
      interval,
      seconds,
      userPercent: idle.user,
      systemPercent: idle.system,
      emptyPercent: round(empty.user + empty.system),
      rssPerConnection: Math.round((idle.rss - empty.rss) / idle.streams),
      heapPerConnection: Math.round((idle.heap - empty.heap) / idle.streams),
      // Since they were opened. At least one per stream and interval, or they were not kept alive.
      beatsReceived: beats,
    }),
  );
  readers.removeAllListeners('exit').kill();
  server.kill();
}

function start(role: string, ...more: string[]): ChildProcess {
  const argv = ['--role', role, '--connections', values.connections, '--interval', values.interval];
  const child = fork(fileURLToPath(import.meta.url), [...argv, '--seconds', values.seconds, ...more], {
    execArgv: ['--expose-gc', '--import', import.meta.resolve('tsx')],
  });
  child.once('exit', (code) => {
    if (code !== null) process.exit(1);
  });
  return child;
}

function answerOf(child: ChildProcess, question: string): Promise<unknown[]> {
  child.send(question);
  return once(child, 'message');
}

async function measure(server: ChildProcess): Promise<Sample> {
  const [sample] = await answerOf(server, 'measure');
  return sample as Sample;
}

/** The server as it is by default, but for the interval that was asked for. */
async function sluice(): Promise<void> {
  const sse = createSseServer({ heartbeat: { interval } });
  const url = await sse.listen(0);
  answerQuestions(() => sse.streams.size);
  process.send?.(Number(new URL(url).port));
}

async function floor(): Promise<void> {
  let open = 0;
  const server = createServer({ highWaterMark: 64 * 1024 }, (_, res) => {
    open++;
    res.writeHead(200, { 'Content-Type': 'text/event-stream' });
    res.write('event: sluice:ready\ndata: {}\n\n');
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  answerQuestions(() => open);
  process.send?.((server.address() as AddressInfo).port);
}

function answerQuestions(streams: () => number): void {
  process.on('message', async () => {
    process.send?.(await sampleAfterSettling(streams));
  });
}

async function sampleAfterSettling(streams: () => number): Promise<Sample> {
  // Compiling, the garbage of the opening and the first round of heartbeats are not what is measured. Nor are the
  // collections that V8 adds by itself in the seconds after one: of this heap each costs 2 % of a half minute.
  globalThis.gc?.();
  await new Promise((resolve) => setTimeout(resolve, Math.max(15_000, interval)));
  const cpu = process.cpuUsage();
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  const { user, system } = process.cpuUsage(cpu);
  globalThis.gc?.();
  const { rss, heapUsed } = process.memoryUsage();
  const percent = (microseconds: number) => round(microseconds / seconds / 10_000);
  return { streams: streams(), user: percent(user), system: percent(system), rss, heap: heapUsed };
}

/** As plain as a client can be, so that the machine is left to the server. */
async function read(): Promise<void> {
  let beats = 0;
  process.on('message', () => process.send?.(beats));
  // A few at a time: a backlog that runs over would cost a second each.
  for (let open = 0; open < connections; open += 100) {
    const some = Math.min(100, connections - open);
    await Promise.all(Array.from({ length: some }, () => follow((count) => (beats += count))));
  }
  process.send?.('all are open');
}

async function follow(onBeats: (count: number) => void): Promise<void> {
  const socket = connect(Number(values.port), '127.0.0.1');
  socket.on('error', () => {});
  socket.on('close', () => process.exit(1));
  socket.write('GET /events?topic=quiet HTTP/1.1\r\nHost: localhost\r\n\r\n');
  let text = '';
  while (!text.includes('sluice:ready')) text += (await once(socket, 'data'))[0];
  // What comes now is a heartbeat, three characters in a chunk, for nothing is published.
  socket.on('data', () => onBeats(1));
}

function round(value: number): number {
  return Number(value.toFixed(2));
}
