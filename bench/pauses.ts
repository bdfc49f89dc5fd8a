// Measures the pauses of garbage collection in a server under load, with a full history, live readers, and a
// reader that returns each second from far behind. Exits with 1 if a pause was longer than 20 ms.
//   npx tsx bench/pauses.ts [--seconds 600] [--rate 5000] [--history 256] [--out DIR] [--against REV]
//     [--node 24]

import { type ChildProcess, spawn } from 'node:child_process';
import { createWriteStream, mkdirSync, type WriteStream } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { type Commit, checkOut } from './loads/commit.ts';
import { pinned, type Reader, startReader } from './loads/lead.ts';
import { choose, chosenNode, nodesOf } from './loads/nodes.ts';
import type {
  Collection,
  Memory,
  Over,
  PausingOrder,
  Place,
  Ready,
  Said,
  TraceLine,
} from './loads/pausing.ts';
import { plain } from './loads/plain.ts';
import { Misuse } from './options.ts';
import { environment } from './report/environment.ts';
import { number } from './report/format.ts';
import { delayOf, latencyOf, type Pauses, pausesOf, pausesTable } from './report/pauses.ts';
import { textOf } from './report/tables.ts';
import { complaint } from './scenarios/measure.ts';
import { untilAnswered } from './scenarios/stage.ts';

const USAGE = `npx tsx bench/pauses.ts [OPTIONS]

  --seconds 600    how long events are published
  --rate 5000      events a second, of 100 bytes of data, on 100 topics
  --history 256    MiB of events on the wire that are remembered, all before anything is measured
  --out DIR        the folder for the traces, one for each commit; default bench/results
  --against REV    runs the lib/ of another commit after that of this checkout, in a process of its own
  --node 24        the Node under which the servers run, by major version or by path
  --help           shows this text

Exits with 1 if a collection of garbage paused this checkout's server for more than 20 ms, or if an event was
lost.`;

/** Milliseconds: a longer pause is one too many. */
const LIMIT = 20;
const TOPICS = 100;
const BYTES = 100;
const READERS = 100;

interface Options {
  readonly seconds: number;
  readonly rate: number;
  /** MiB. */
  readonly history: number;
  readonly out: string;
  readonly against: string | undefined;
  readonly node: string | undefined;
}

// `exit` listeners stop the child processes; a signal alone would not run them.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => process.exit(130));

process.exitCode = await main().catch((error: unknown) => {
  if (!(error instanceof Misuse)) throw error;
  console.error(error.message);
  return 2;
});

async function main(): Promise<0 | 1 | 2> {
  const options = optionsOf(process.argv.slice(2));
  if (options === undefined) {
    console.log(USAGE);
    return 0;
  }
  choose(nodesOf(options.node === undefined ? [] : [options.node], true)[0]!);
  const against = options.against === undefined ? undefined : checkOut(options.against);
  const ours = await run('sluice', libOf(), options);
  if (against !== undefined) await run(`sluice-${against.name}`, libOf(against), options);
  return ours.isFine ? 0 : 1;
}

function optionsOf(args: string[]): Options | undefined {
  const text = { type: 'string' } as const;
  const known = { seconds: text, rate: text, history: text, out: text, against: text, node: text };
  const help = { type: 'boolean', short: 'h' } as const;
  try {
    const { values } = parseArgs({ args, options: { ...known, help } });
    if (values.help) return undefined;
    const { out = 'bench/results', against, node } = values;
    const atLeastOne = (name: 'seconds' | 'rate' | 'history', otherwise: number) => {
      const value = Number(values[name] ?? otherwise);
      if (Number.isSafeInteger(value) && value >= 1) return value;
      throw new Misuse(`\`--${name}\` must be a whole number ≥ 1, got ${values[name]}`);
    };
    const [seconds, rate] = [atLeastOne('seconds', 600), atLeastOne('rate', 5000)];
    return { seconds, rate, history: atLeastOne('history', 256), out, against, node };
  } catch (error) {
    throw new Misuse((error as Error).message.split('. ')[0]);
  }
}

/** The compiled `lib/` of this checkout, or of another commit. */
function libOf(commit?: Commit): string {
  const path = commit === undefined ? dirname(plain('lib/hub.ts')) : join(commit.root, 'lib');
  return pathToFileURL(path).href;
}

// ── one commit ──────────────────────────────────────────────────────────────────────────────────────────

async function run(name: string, lib: string, options: Options): Promise<{ readonly isFine: boolean }> {
  const { rate, history, out } = options;
  const order = { lib, history: history * 2 ** 20, topics: TOPICS, rate, bytes: BYTES, limit: LIMIT };
  const server = startServer(order);
  const reader = await startReader();
  mkdirSync(out, { recursive: true });
  const path = join(out, `pauses-${name}-${new Date().toISOString().slice(0, 19).replaceAll(':', '')}.jsonl`);
  const trace = createWriteStream(path);
  const { versions: _, ...machine } = environment([chosenNode()]);
  write(trace, { what: 'run', name, ...options, ...machine });
  try {
    const found = await load(server, reader, trace, options);
    write(trace, { what: 'summary', ...found });
    const { events, memory, far, caught, invalid, pauses } = found;
    const [heap, external] = [memory.heapUsed, memory.external].map((bytes) => `${number(bytes / 1e6)} MB`);
    console.log(`\n${name}: ${rate.toLocaleString('en')} events/s for ${options.seconds} s`);
    console.log(`${number(events)} events (${history} MiB) remembered: heap ${heap}, outside it ${external}`);
    for (const line of textOf(pausesTable(pauses, LIMIT))) console.log(line);
    console.log(`${caught} of ${far} that returned from far behind had everything within a second`);
    if (invalid !== undefined) console.log(`this does not count: ${invalid}`);
    console.log(path);
    const all = pauses.find(({ kind }) => kind === 'gc, all');
    return { isFine: invalid === undefined && all?.over === 0 };
  } finally {
    trace.end();
    server.kill('SIGKILL');
    await reader.stop();
  }
}

function startServer(order: PausingOrder): ChildProcess {
  const program = plain('bench/loads/pausing.ts');
  const command = [chosenNode().path, '--expose-gc', program, JSON.stringify(order)];
  const [file, ...argv] = pinned(0, command) as [string, ...string[]];
  const child = spawn(file, argv, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  process.once('exit', () => child.kill('SIGKILL'));
  return child;
}

interface Found {
  /** Events that are remembered, and the memory of the process before the load. */
  readonly events: number;
  readonly memory: Memory;
  /** Readers that returned from far behind, and how many of them had everything within a second. */
  readonly far: number;
  readonly caught: number;
  readonly pauses: readonly Pauses[];
  readonly invalid: string | undefined;
}

/** Puts the load on a server, and keeps what it reports. @throws when it stops. */
async function load(
  server: ChildProcess,
  reader: Reader,
  trace: WriteStream,
  { seconds }: Options,
): Promise<Found> {
  const collections: Collection[] = [];
  const heard = listen(server, (line) => {
    write(trace, line);
    if (line.what === 'gc') collections.push(line);
  });
  const { port, events, memory } = await heard.ready;
  write(trace, { what: 'filled', events, memory });
  const opening = { do: 'open', port, bytes: BYTES } as const;
  await reader.ask({ do: 'calm', on: true });
  await reader.ask({ ...opening, count: READERS, topics: TOPICS, group: 'live' });
  await untilAnswered(reader, READERS, 1000);
  await reader.ask({ do: 'reset' });
  server.send('begin');
  const returned = await returnEachSecond(reader, opening, heard.far, seconds);
  server.send('end');
  const { published, delay } = await heard.over;
  const expected = (published * READERS) / TOPICS;
  const answer = await reader.ask({ do: 'await', events: expected, group: 'live' });
  const invalid = returned.invalid ?? complaint(answer, expected);
  const pauses = [...pausesOf(collections, LIMIT), delayOf(delay), latencyOf(answer.latency)];
  return { events, memory, far: returned.count, caught: returned.caught, pauses, invalid };
}

/** Opens a stream at the far end of a topic's history, another topic each second, and closes the last one. */
async function returnEachSecond(
  reader: Reader,
  opening: { readonly do: 'open'; readonly port: number; readonly bytes: number },
  far: () => Place,
  seconds: number,
): Promise<{ readonly count: number; readonly caught: number; readonly invalid: string | undefined }> {
  const begin = performance.now();
  let [caught, disorder] = [0, 0];
  for (let i = 0; i < seconds; i++) {
    const { id, events: missed } = far();
    const path = `/events?topic=t${i % TOPICS}`;
    const headers = { 'Last-Event-ID': id };
    await reader.ask({ ...opening, count: 1, path, headers, group: 'far', sample: 0 });
    await sleep(Math.max(0, begin + (i + 1) * 1000 - performance.now()));
    const answer = await reader.ask({ do: 'lap', group: 'far' });
    await reader.ask({ do: 'close', group: 'far' });
    if (answer.events >= missed) caught++;
    disorder += answer.disorder;
  }
  const invalid = disorder === 0 ? undefined : `${disorder} events from far behind were lost or out of order`;
  return { count: seconds, caught, invalid };
}

interface Heard {
  readonly ready: Promise<Ready>;
  readonly over: Promise<Over>;
  /** The newest place far behind. */
  far(): Place;
}

/** Both promises reject when the server stops. */
function listen(server: ChildProcess, onLine: (line: TraceLine) => void): Heard {
  let far: Place = { id: '', events: 0 };
  const said = <T extends Said>(say: T['say']) =>
    new Promise<T>((resolve, reject) => {
      server.on('message', (message: Said) => message.say === say && resolve(message as T));
      server.once('exit', (code, signal) => reject(new Error(`the server stopped: ${signal ?? code}`)));
    });
  server.on('message', (message: Said) => {
    if (message.say !== 'over') far = message.far;
    if (message.say === 'trace') message.lines.forEach(onLine);
  });
  const [ready, over] = [said<Ready>('ready'), said<Over>('over')];
  over.catch(() => {}); // what waits for `ready` reports it
  return { ready, over, far: () => far };
}

function write(trace: WriteStream, line: object): void {
  trace.write(`${JSON.stringify(line)}\n`);
}
