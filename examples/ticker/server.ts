// Publishes what each process of this machine uses, once a second; who is behind gets only the newest of each.
// Needs `processes.ts`, `page.html`, `page.js` and `page.css` beside it, the folder `shared`, and sluice.
//
//   npx tsx examples/ticker/server.ts [--port 8080] [--interval 1000] [--only node,chromium]

import { existsSync } from 'node:fs';
import { Hub, serveEvents } from '../../lib/index.ts';
import { argumentsOf, leave, numberOf, serve } from '../shared/site.ts';
import { type Process, ProcessSampler } from './processes.ts';

const TOPIC = 'processes';

const { values } = argumentsOf({
  options: {
    port: { type: 'string', default: '8080' },
    /** Milliseconds between two samples. */
    interval: { type: 'string', default: '1000' },
    /** The programs to show; default all. */
    only: { type: 'string' },
  },
});
if (!existsSync('/proc/self/stat')) leave('this example reads /proc, which only Linux has');
/** Some minutes of a machine with some hundred processes: as long as a page may be paused without a loss. */
const HISTORY = { maxEvents: 100_000, maxBytes: 32 * 1024 * 1024 };
const hub = new Hub<{ used: Process; gone: { pid: number } }>({ retry: 500, history: HISTORY });
const sampler = new ProcessSampler();
const only = values.only?.split(',');
let known = new Set<number>();

/** The key names the process, so each of these events replaces the one before. */
function publish(): void {
  const running = sampler.sample().filter(({ name }) => only?.includes(name) ?? true);
  const pids = new Set(running.map(({ pid }) => pid));
  for (const process of running)
    hub.publish(TOPIC, { event: 'used', key: String(process.pid), json: process });
  for (const pid of known)
    if (!pids.has(pid)) hub.publish(TOPIC, { event: 'gone', key: String(pid), json: { pid } });
  known = pids;
}

publish();
const timer = setInterval(publish, numberOf('--interval', values.interval, 10, 60_000));

await serve({
  folder: import.meta.dirname,
  port: numberOf('--port', values.port, 0, 65_535),
  // The page asks for conflation itself, by `conflate=1`.
  events: serveEvents(hub, { path: '/events', topics: TOPIC }),
  routes: {},
  onStopping: () => clearInterval(timer),
  onStopped: () => hub.close(),
});
