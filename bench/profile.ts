// Says where the time of a delivery goes: the kernel and libuv, Node's JavaScript, our modules.
//   npx tsx bench/profile.ts [--node 24] [--connections 1000] [--topics 1] [--batch 1,16] [--peers …]

import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { choose, chosenNode, nodesOf } from './loads/nodes.ts';
import { onStage } from './scenarios/stage.ts';

const USAGE = `npx tsx bench/profile.ts [OPTIONS]

  --node 24                  the Node of the servers; default the one that runs this
  --connections 1000
  --topics 1                 to which the connections are spread: as many as connections give each one of its own
  --batch 1,16               events in a turn, to each topic
  --peers sluice,socket      of bench/peers; the second is the floor on Node
  --seconds 5                for each of them
  --help                     shows this text`;

const string = { type: 'string' } as const;
const { values } = parseArgs({
  options: {
    node: string,
    connections: string,
    topics: string,
    batch: string,
    peers: string,
    seconds: string,
    help: { type: 'boolean' },
  },
});
if (values.help) {
  console.log(USAGE);
  process.exit(0);
}
choose(nodesOf(values.node === undefined ? [] : [values.node], true)[0]!);
const connections = Number(values.connections ?? 1000);
const topics = Number(values.topics ?? 1);
if (!Number.isInteger(topics) || topics < 1 || topics > connections) {
  console.error(`\`--topics\` must be a whole number from 1 to ${connections}, that of the connections`);
  process.exit(2);
}
const duration = 1000 * Number(values.seconds ?? 5);
const peers = (values.peers ?? 'sluice,socket').split(',');
const batches = (values.batch ?? '1,16').split(',').map(Number);

const KERNEL = 'the kernel’s write, libuv and Node’s C++';
const OTHER = 'the loop that publishes, and turns of the event loop';

/** Microseconds of a delivery, by where they were spent. */
type Spent = Map<string, number>;

const columns: { title: string; spent: Spent }[] = [];
for (const batch of batches)
  for (const peer of peers)
    columns.push({ title: `${peer}, ${batch} a turn`, spent: await spentBy(peer, batch) });
print();

async function spentBy(peer: string, batch: number): Promise<Spent> {
  const folder = mkdtempSync(join(tmpdir(), 'sluice-profile-'));
  const file = join(folder, 'cpu.json');
  let spent: Spent = new Map();
  try {
    await onStage(peer, { connections, topics, sample: 0, isCalm: true }, async ({ server, reader }) => {
      await server.run({ topics, batch, duration: duration / 5 });
      await reader.ask({ do: 'reset' });
      await server.profile();
      const { turns } = await server.run({ topics, batch, duration });
      await server.profile(file);
      const deliveries = turns * batch * connections;
      const { events } = await reader.ask({ do: 'await', events: deliveries });
      if (events !== deliveries) throw new Error(`${events} of ${deliveries} events arrived`);
      spent = placesIn(JSON.parse(readFileSync(file, 'utf8')) as Profile, deliveries);
    });
    return spent;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** The members that are read of a profile of V8's inspector; times in microseconds. */
interface Profile {
  readonly nodes: readonly {
    readonly id: number;
    readonly callFrame: { readonly functionName: string; readonly url: string };
  }[];
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
}

function placesIn({ nodes, samples, timeDeltas }: Profile, deliveries: number): Spent {
  const places = new Map(nodes.map(({ id, callFrame }) => [id, placeOf(callFrame)]));
  const spent: Spent = new Map();
  for (const [i, id] of samples.entries()) {
    const place = places.get(id);
    if (place !== undefined) spent.set(place, (spent.get(place) ?? 0) + timeDeltas[i]! / deliveries);
  }
  return spent;
}

/** @returns `undefined` for time in which nothing ran. */
function placeOf({ functionName, url }: Profile['nodes'][number]['callFrame']): string | undefined {
  if (functionName === '(idle)') return undefined;
  if (functionName === '(garbage collector)') return 'collecting garbage';
  // A function in C++ has no script: `writeBuffer` of a socket's handle, above all.
  if (url === '') return functionName === '(program)' || functionName === '(root)' ? OTHER : KERNEL;
  if (url.startsWith('node:')) return 'Node’s JavaScript: streams, sockets, timers';
  const [, module] = /[/\\]lib[/\\]([\w-]+)\.[jt]s$/.exec(url) ?? [];
  return module === undefined ? OTHER : `ours: \`${module}\``;
}

function print(): void {
  const names = [...new Set(columns.flatMap(({ spent }) => [...spent.keys()]))];
  const largest = (name: string): number => Math.max(...columns.map(({ spent }) => spent.get(name) ?? 0));
  const least = 0.005 * Math.max(...names.map(largest));
  const rows = names.filter((name) => largest(name) >= least).sort((a, b) => largest(b) - largest(a));
  const line = (name: string, each: readonly number[]): void =>
    console.log(`| ${name} | ${each.map((one) => one.toFixed(3)).join(' | ')} |`);
  const spread = topics === 1 ? '' : `, ${topics} topics`;
  console.log(`${chosenNode().name}, µs of a delivery, ${connections} connections${spread}\n`);
  console.log(`| where | ${columns.map(({ title }) => title).join(' | ')} |`);
  console.log(`|---|${columns.map(() => '--:|').join('')}`);
  for (const name of rows) {
    line(
      name,
      columns.map(({ spent }) => spent.get(name) ?? 0),
    );
  }
  const sum = (some: readonly string[]): number[] =>
    columns.map(({ spent }) => some.reduce((all, name) => all + (spent.get(name) ?? 0), 0));
  line('less than that each', sum(names.filter((name) => !rows.includes(name))));
  line('**together**', sum(names));
}
