// How fast the decoder reads, beside eventsource-parser: the same bytes, in one run, turn by turn.
// `npm ci --prefix bench/peers` once, then `npx tsx bench/decode.bench.ts [--rounds 7]`.
//
// Bytes are what a socket gives. A parser that takes text gets a streaming TextDecoder in front, as its users
// must give it one; "text" is the same comparison with that decoding left out on both sides.
import { createRequire } from 'node:module';
import { parseArgs } from 'node:util';
import { createDecoder } from '../lib/decode.ts';
import { chunksOf, type Situation, situations } from '../test/fixtures/streams.ts';

interface Parser {
  feed(chunk: string): void;
}
type CreateParser = (callbacks: { onEvent: (event: { data: string }) => void }) => Parser;
type Chunks = readonly (Uint8Array | string)[];
/** Reads all the chunks and says how many events and units of data there were. */
type Reader = (chunks: Chunks) => [events: number, units: number];

const CHUNK_SIZES = [1400, 65_536];
const MEASURE_MS = 40;

const sluice: Reader = (chunks) => {
  let events = 0;
  let units = 0;
  const decoder = createDecoder({
    onEvent: (event) => {
      events++;
      units += event.data.length;
    },
  });
  for (const chunk of chunks) decoder.feed(chunk);
  return [events, units];
};

function peer(createParser: CreateParser): Reader {
  return (chunks) => {
    let events = 0;
    let units = 0;
    const parser = createParser({
      onEvent: (event) => {
        events++;
        units += event.data.length;
      },
    });
    const text = new TextDecoder();
    for (const chunk of chunks) {
      parser.feed(typeof chunk === 'string' ? chunk : text.decode(chunk, { stream: true }));
    }
    return [events, units];
  };
}

/** MB per second of CPU time, which other work on the machine disturbs least: whole passes only. */
function speedOf(reader: Reader, chunks: Chunks, bytes: number): number {
  let passes = 0;
  const start = process.cpuUsage();
  let microseconds = 0;
  while (microseconds < MEASURE_MS * 1000) {
    reader(chunks);
    passes++;
    const { user, system } = process.cpuUsage(start);
    microseconds = user + system;
  }
  return (passes * bytes) / microseconds;
}

const median = (values: number[]): number => values.sort((a, b) => a - b)[values.length >> 1]!;

function compare(situation: Situation, chunks: Chunks, theirs: Reader, rounds: number): number[] {
  const [events, units] = theirs(chunks);
  const [ourEvents, ourUnits] = sluice(chunks);
  if (events !== situation.events || ourEvents !== events || ourUnits !== units) {
    throw new Error(`${situation.name}: the readers do not agree on what they read`);
  }
  const bytes = Buffer.byteLength(situation.text);
  const ours: number[] = [];
  const peers: number[] = [];
  const ratios: number[] = [];
  for (let round = -1; round < rounds; round++) {
    const a = speedOf(sluice, chunks, bytes);
    const b = speedOf(theirs, chunks, bytes);
    if (round < 0) continue; // Warm-up.
    ours.push(a);
    peers.push(b);
    ratios.push(a / b);
  }
  return [median(ours), median(peers), median(ratios)];
}

function main(): void {
  const { values } = parseArgs({ options: { rounds: { type: 'string', default: '7' } } });
  const require = createRequire(new URL('./peers/package.json', import.meta.url));
  const { createParser } = require('eventsource-parser') as { createParser: CreateParser };
  const theirs = peer(createParser);
  const line = (...cells: string[]): string =>
    cells.map((cell, i) => (i < 3 ? cell.padEnd([28, 8, 7][i]!) : cell.padStart(10))).join('');
  console.log(`Node ${process.version}, MB per CPU second, median of ${values.rounds} rounds`);
  console.log(line('situation', 'chunk', 'input', 'sluice', 'parser 4', 'ratio'));
  for (const situation of situations) {
    for (const size of CHUNK_SIZES) {
      const bytes = chunksOf(situation.text, size);
      const decoder = new TextDecoder();
      const text = bytes.map((chunk) => decoder.decode(chunk, { stream: true }));
      for (const [input, chunks] of [['bytes', bytes] as const, ['text', text] as const]) {
        const [a, b, ratio] = compare(situation, chunks, theirs, Number(values.rounds));
        console.log(
          line(situation.name, String(size), input, a!.toFixed(0), b!.toFixed(0), `${ratio!.toFixed(2)} ×`),
        );
      }
    }
  }
}

main();
