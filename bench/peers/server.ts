import { createSseServer } from '../../lib/server.ts';
import type { StartPeer } from './peer.ts';

/** The reference server with its defaults: heartbeats every 15 s, no limits. */
const start: StartPeer = async () => {
  const { hub, listen } = createSseServer();
  const url = await listen(0);
  return {
    port: Number(new URL(url).port),
    publish: (topic, texts) => {
      for (const data of texts) hub.publish(topic, { data });
    },
  };
};

export default start;
