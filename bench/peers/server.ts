import { createSseServer } from '../../lib/server.ts';
import type { StartPeer } from './peer.ts';

/** The reference server as it is by default, heartbeats every 15 s and all. It refuses nobody. */
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
