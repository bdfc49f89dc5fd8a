// Every event to clients that all accept gzip: compressed once, for each of them, or not at all.

import { startReader, usageOf } from '../loads/lead.ts';
import { start } from '../loads/servers.ts';
import { complaint, type Measured, repeat, type Scenario, settled } from './scenario.ts';

/** One connection in a hundred is inflated and checked; of the others, compressed alike, the bytes are counted. */
const CHECKED = 100;
const BYTES = 1024;

export const gzip: Scenario = {
  name: 'gzip',
  constant:
    '1,000 connections, one event of 1 KB of JSON a turn, the reader; a turn every 10 ms, or every 100 where each connection has a gzip of its own, for it cannot go faster',
  shows: 'CPU time of the server and bytes on the wire per delivery, and memory per connection',
  peers: ['sluice', 'zlib'],
  async run(settings, note) {
    const { connections: [connections = 1000] = [], isQuick } = settings;
    const duration = isQuick ? 300 : 3000;
    await repeat(settings, async (peer, repetition) => {
      for (const encoding of peer === 'sluice' ? (['identity', 'gzip'] as const) : (['gzip'] as const)) {
        const parameters = { connections, encoding };
        const measured = await measureEncoded(peer, encoding, connections, duration);
        note({ scenario: 'gzip', peer, parameters, repetition, ...measured });
      }
    });
  },
};

async function measureEncoded(
  peer: string,
  encoding: 'identity' | 'gzip',
  connections: number,
  duration: number,
): Promise<Measured> {
  // One on Node for all: the other cannot inflate.
  const [server, reader] = await Promise.all([start(peer), startReader('node')]);
  const isCompressed = encoding === 'gzip';
  const counted = isCompressed ? 1 + Math.ceil((connections - 1) / CHECKED) : connections;
  try {
    const interval = peer === 'zlib' ? 100 : 10;
    const order = { interval, bytes: BYTES, filling: 'json' } as const;
    const headers = { 'Accept-Encoding': encoding };
    const reads = isCompressed ? 'gunzip' : 'at-once';
    const open = (count: number) =>
      reader.ask({ do: 'open', port: server.port, count, bytes: BYTES, headers, reads, sample: 0 });
    // What the first one takes, zlib's code and tables, is there once; and the heap grows with the traffic to come.
    await open(1);
    await server.run(order);
    await reader.ask({ do: 'await', events: 1 });
    const one = await settled(server, 500);
    await open(connections - 1);
    await server.run(order);
    await reader.ask({ do: 'await', events: 1 + counted });
    const all = await settled(server, 500);
    const warm = await server.run({ ...order, duration: duration / 2 });
    await reader.ask({ do: 'await', events: 1 + (1 + warm.turns) * counted });
    await reader.ask({ do: 'reset' });
    const before = usageOf(server.pids());
    const { turns } = await server.run({ ...order, duration });
    const answer = await reader.ask({ do: 'await', events: turns * counted });
    const after = usageOf(server.pids());
    const invalid = complaint(answer, turns * counted);
    if (invalid !== undefined) return { figures: {}, invalid };
    const deliveries = turns * connections;
    const user = (after.user - before.user) / deliveries;
    const system = (after.system - before.system) / deliveries;
    return {
      figures: {
        cpuPerDelivery: user + system,
        userPerDelivery: user,
        systemPerDelivery: system,
        bytesPerDelivery: answer.bytes / deliveries,
        rssPerConnection: (all - one) / (connections - 1),
      },
      invalid: undefined,
    };
  } finally {
    await Promise.all([reader.stop(), server.stop()]);
  }
}
