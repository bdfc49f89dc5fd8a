import { MemoryLog } from '../../lib/memory-log.ts';
import { ProcessesLog, serveLog } from '../../lib/processes.ts';
import { startOn } from './on-log.ts';
import type { StartPeer } from './peer.ts';

/** The reference server as one of the processes that share a log in memory; the first of them owns it. */
const start: StartPeer = async () => {
  const path = process.env.LOG_SOCKET!;
  await serveLog({ path, log: new MemoryLog() }).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ERR_SSE_SOCKET_IN_USE') throw error;
  });
  return startOn(new ProcessesLog({ path }));
};

export default start;
