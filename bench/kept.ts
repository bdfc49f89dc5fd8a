// Lists what an idle connection keeps in memory, object by object: the difference of two heap snapshots,
// divided by the connections that were opened between them.
//   npx tsx bench/kept.ts [--connections 4000] [--least 8] [--peers raw,sluice,server]

import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { emptyStage, fill, type Stage } from './scenarios/stage.ts';

const USAGE = `npx tsx bench/kept.ts [OPTIONS]

  --connections 4000         between the two snapshots; as many are open before the first
  --least 8                  lists what is at least this many bytes per connection; the rest is summed up
  --peers raw,sluice,server  bare http, embedded, and the reference server
  --help                     shows this text`;

/** Objects of which there are fewer for each connection are not of the connections. */
const LEAST_OFTEN = 0.02;

/** Bytes and objects of each kind. */
type Kinds = Map<string, { bytes: number; count: number }>;

const string = { type: 'string' } as const;
const { values } = parseArgs({
  options: { connections: string, least: string, peers: string, help: { type: 'boolean' } },
});
if (values.help) {
  console.log(USAGE);
  process.exit(0);
}
const connections = Number(values.connections ?? 4000);
const least = Number(values.least ?? 8);
const peers = (values.peers ?? 'raw,sluice,server').split(',');

const found: { peer: string; kinds: Kinds }[] = [];
for (const peer of peers) found.push({ peer, kinds: await keptBy(peer) });
print();

/** What a server of `peers/` keeps for one connection. */
async function keptBy(peer: string): Promise<Kinds> {
  const folder = mkdtempSync(join(tmpdir(), 'sluice-kept-'));
  const flags = ['--heapsnapshot-signal=SIGUSR2', `--diagnostic-dir=${folder}`];
  const stage = await emptyStage(peer, undefined, flags);
  try {
    await fill(stage, { connections, sample: 0 });
    const before = kindsIn(await snapshot(stage, folder));
    await fill(stage, { connections, sample: 0 });
    const after = kindsIn(await snapshot(stage, folder));
    for (const [kind, { bytes, count }] of before) {
      const now = after.get(kind) ?? { bytes: 0, count: 0 };
      after.set(kind, { bytes: now.bytes - bytes, count: now.count - count });
    }
    for (const [kind, one] of after) {
      one.bytes /= connections;
      // What there is once, such as the source of a module that was compiled late, is kept by no connection; tables
      // are there once, and grow with the connections.
      if (one.count / connections < LEAST_OFTEN && !kind.endsWith(': table')) after.delete(kind);
    }
    return after;
  } finally {
    await stage.stop();
    rmSync(folder, { recursive: true });
  }
}

async function snapshot({ server }: Stage, folder: string): Promise<Snapshot> {
  // What is weak or was just released goes in the second collection.
  await server.gc();
  await sleep(500);
  await server.gc();
  const had = readdirSync(folder);
  process.kill(server.pids()[0]!, 'SIGUSR2');
  for (;;) {
    const [made] = readdirSync(folder).filter((name) => !had.includes(name));
    if (made !== undefined) {
      // Answered once the snapshot is written: both are done by the main thread.
      await server.gc();
      return JSON.parse(readFileSync(join(folder, made), 'utf8')) as Snapshot;
    }
    await sleep(50);
  }
}

/** The members that are read of a snapshot of V8: flat arrays, whose fields `meta` names. */
interface Snapshot {
  readonly snapshot: {
    readonly meta: {
      readonly node_fields: readonly string[];
      readonly node_types: readonly (readonly string[])[];
      readonly edge_fields: readonly string[];
      readonly edge_types: readonly (readonly string[])[];
    };
  };
  readonly nodes: readonly number[];
  readonly edges: readonly number[];
  readonly strings: readonly string[];
}

/**
 * Objects are of the kind of their constructor. What has none, such as the array of an object's properties,
 * is of the kind of the first object that refers to it: `Socket: properties`.
 */
function kindsIn({ snapshot: { meta }, nodes, edges, strings }: Snapshot): Kinds {
  const at = (name: string): number => meta.node_fields.indexOf(name);
  const [typeAt, nameAt, sizeAt] = ['type', 'name', 'self_size'].map(at) as [number, number, number];
  const width = meta.node_fields.length;
  const types = meta.node_types[typeAt]!;
  const owners = ownersIn({ meta, nodes, edges, strings });
  const named = (node: number): string | undefined => {
    const type = types[nodes[node + typeAt]!]!;
    const name = strings[nodes[node + nameAt]!]!;
    if (type === 'closure') return `function ${name || '(anonymous)'}`;
    if (type === 'native') return name;
    if (type === 'object' && !/^(Object|Array|system )/.test(name)) return name;
    return undefined;
  };
  const kindOf = (node: number): string => {
    const own = named(node);
    if (own !== undefined) return own;
    const path: string[] = [];
    let owner = node;
    for (let depth = 0; depth < 3; depth++) {
      const edge = owners.get(owner);
      if (edge === undefined) break;
      path.unshift(edge.name);
      owner = edge.from;
      const name = named(owner);
      if (name !== undefined) return `${name}: ${path.join('.')}`;
    }
    return types[nodes[node + typeAt]!]!;
  };
  const kinds: Kinds = new Map();
  for (let node = 0; node < nodes.length; node += width) {
    const bytes = nodes[node + sizeAt]!;
    if (bytes === 0) continue;
    const kind = kindOf(node);
    const sum = kinds.get(kind);
    if (sum === undefined) kinds.set(kind, { bytes, count: 1 });
    else {
      sum.bytes += bytes;
      sum.count++;
    }
  }
  return kinds;
}

/** The first object that refers to each, and by what name. */
function ownersIn({
  meta,
  nodes,
  edges,
  strings,
}: Omit<Snapshot, 'snapshot'> & { meta: Snapshot['snapshot']['meta'] }): Map<
  number,
  { readonly from: number; readonly name: string }
> {
  const width = meta.node_fields.length;
  const edgesAt = meta.node_fields.indexOf('edge_count');
  const [typeAt, nameAt, toAt] = ['type', 'name_or_index', 'to_node'].map((name) =>
    meta.edge_fields.indexOf(name),
  ) as [number, number, number];
  const types = meta.edge_types[typeAt]!;
  const owners = new Map<number, { from: number; name: string }>();
  let edge = 0;
  for (let node = 0; node < nodes.length; node += width) {
    for (let left = nodes[node + edgesAt]!; left > 0; left--, edge += meta.edge_fields.length) {
      const type = types[edges[edge + typeAt]!]!;
      const to = edges[edge + toAt]!;
      if (type === 'weak' || type === 'shortcut' || owners.has(to)) continue;
      const nameOrIndex = edges[edge + nameAt]!;
      const name = type === 'element' || type === 'hidden' ? '[]' : strings[nameOrIndex]!;
      owners.set(to, { from: node, name });
    }
  }
  return owners;
}

function print(): void {
  const names = new Set(found.flatMap(({ kinds }) => [...kinds.keys()]));
  const bytesOf = (kinds: Kinds, name: string): number => kinds.get(name)?.bytes ?? 0;
  const rows = [...names]
    .map((name) => ({ name, each: found.map(({ kinds }) => bytesOf(kinds, name)) }))
    .sort((a, b) => Math.max(...b.each) - Math.max(...a.each));
  const shown = rows.filter(({ each }) => each.some((bytes) => Math.abs(bytes) >= least));
  const sum = (some: typeof rows): number[] =>
    peers.map((_, i) => some.reduce((all, { each }) => all + each[i]!, 0));
  const line = (name: string, each: readonly number[]): void =>
    console.log(`| ${name} | ${each.map((bytes) => Math.round(bytes).toLocaleString('en')).join(' | ')} |`);
  console.log(`Node ${process.versions.node}, bytes per connection\n`);
  console.log(`| kept | ${peers.join(' | ')} |\n|---|${peers.map(() => '--:|').join('')}`);
  for (const { name, each } of shown) line(name, each);
  line('less than that each', sum(rows.filter((row) => !shown.includes(row))));
  line('**together**', sum(rows));
}
