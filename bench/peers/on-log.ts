// Serves and publishes on a log that answers later, for the adapters of logs that nodes share.

import { setTimeout as sleep } from 'node:timers/promises';
import type { SharedLog } from '../../lib/log.ts';
import { createSseServer } from '../../lib/server.ts';
import { Window } from '../loads/window.ts';
import type { Peer } from './peer.ts';

/** The reference server with a shared log. */
export async function startOn(log: SharedLog): Promise<Peer> {
  const { hub, listen } = createSseServer({ hub: { log } });
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
}
