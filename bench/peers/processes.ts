import { setTimeout as sleep } from 'node:timers/promises';
import { MemoryLog } from '../../lib/memory-log.ts';
import { ProcessesLog, serveLog } from '../../lib/processes.ts';
import { createSseServer } from '../../lib/server.ts';
import { Window } from '../loads/window.ts';
import type { StartPeer } from './peer.ts';

/** The reference server as one of the processes that share a log in memory; the first of them owns it. */
const start: StartPeer = async () => {
  const path = process.env.LOG_SOCKET!;
  await serveLog({ path, log: new MemoryLog() }).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ERR_SSE_SOCKET_IN_USE') throw error;
  });
  const { hub, listen } = createSseServer({ hub: { log: new ProcessesLog({ path }) } });
  const url = await listen(0);
  // Before the log is reached, events are refused.
  while (hub.failure !== undefined) await sleep(1);
  const { add, ready, settled } = new Window();
  return {
    port: Number(new URL(url).port),
    publish: (topic, texts) => {
      const events = texts.map((data) => ({ data }));
      add(texts.length, hub.appendAll(topic, events));
    },
    ready,
    turnOver: ready,
    settled,
  };
};

export default start;
