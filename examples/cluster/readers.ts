// Many readers of the numbers that start.ts publishes: counts what they receive, and publishes these counts.
// Needs `sequence.ts` beside it, and the client of sluice.
//
//   npx tsx examples/cluster/readers.ts http://127.0.0.1:8080 200

import { connect, type Gap, type StateChange } from '../../lib/client.ts';
import { nodeTransport, type Transport } from '../../lib/transport.ts';
import { Sequence } from './sequence.ts';

/** Counts since the start, of all readers together. */
export interface Counts {
  /** Milliseconds since 1970. */
  at: number;
  /** Readers that have a stream just now. */
  open: number;
  events: number;
  /** Streams that were opened, without the first one of each reader. */
  reconnects: number;
  gaps: number;
  holes: number;
  duplicates: number;
  /** The smallest of the newest numbers that each reader has, and the largest. */
  least: number;
  most: number;
  /** How many streams each server has. */
  servers: Record<string, number>;
}

const [url = 'http://127.0.0.1:8080', count = '200'] = process.argv.slice(2);
const counts: Counts = {
  ...{ at: 0, open: 0, events: 0, reconnects: 0, gaps: 0, holes: 0, duplicates: 0 },
  ...{ least: 0, most: 0, servers: {} },
};
const sequences: Sequence[] = [];

/** Reads for as long as this process runs. */
async function read(): Promise<void> {
  const sequence = new Sequence(counts);
  sequences.push(sequence);
  let answering: string | undefined;
  let server: string | undefined;
  let streams = 0;
  const transport: Transport = async (request) => {
    const response = await send(request);
    answering = response.headers['x-server'];
    return response;
  };
  const onState = ({ state }: StateChange): void => {
    // HAProxy itself answers while all servers are away: that is no stream.
    if (state !== 'waiting' && (state !== 'open' || answering === undefined)) return;
    add(server, -1);
    server = state === 'open' ? answering : undefined;
    add(server, 1);
    if (state === 'open' && streams++ > 0) counts.reconnects++;
  };
  const onGap = (gap: Gap): void => {
    counts.gaps++;
    sequence.gap();
    process.stderr.write(`gap ${JSON.stringify(gap)}\n`);
  };
  const events = connect(`${url}/events?topic=numbers`, { transport, onState, onGap });
  for await (const { data } of events) {
    counts.events++;
    sequence.add(Number(data));
  }
}

const send = nodeTransport();

/** Counts a stream that a server has, or has no more. Without a server there is nothing to count. */
function add(server: string | undefined, streams: 1 | -1): void {
  if (server === undefined) return;
  counts.open += streams;
  counts.servers[server] = (counts.servers[server] ?? 0) + streams;
}

/** Prints the counts, and publishes them for the page. */
function report(): void {
  const newest = sequences.map(({ last = 0 }) => last);
  counts.at = Date.now();
  counts.least = newest.reduce((least, last) => Math.min(least, last));
  counts.most = newest.reduce((most, last) => Math.max(most, last));
  const body = JSON.stringify(counts);
  process.stdout.write(`${body}\n`);
  // Counts that are lost do not matter: the next ones hold them.
  fetch(`${url}/topics/readers`, { method: 'POST', body }).then(
    (response) => response.body?.cancel(),
    () => {},
  );
}

for (let i = 0; i < Number(count); i++) read();
setInterval(report, 1000);
