// How fast the decoder reads, beside eventsource-parser: the same bytes, in one run, turn by turn.
//   npx tsx bench/decode.bench.ts
//
// Bytes are what a socket gives. A parser that takes text gets a streaming TextDecoder in front, as its users
// must give it one; "text" is the same comparison with that decoding left out on both sides.
//
// And by itself: whether a line that drips in costs more a byte the longer it is, and what a decoder holds of one.

import { createDecoder } from '../lib/decode.ts';
import { chunksOf, type Situation, situations } from '../test/fixtures/streams.ts';
import {
  type Effort,
  heldBytes,
  load,
  type Measurement,
  measure,
  measureInTurns,
  runAlone,
} from './harness.ts';

interface Parser {
  feed(chunk: string): void;
}
type CreateParser = (callbacks: { onEvent: (event: { data: string }) => void }) => Parser;
type Chunks = readonly (Uint8Array | string)[];
/** Reads all the chunks and says how many events and units of data there were. */
type Reader = (chunks: Chunks) => [events: number, units: number];

const CHUNK_SIZES = [1400, 65_536];

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

export async function bench(effort: Effort): Promise<Measurement[]> {
  const { createParser } = await load<{ createParser: CreateParser }>('eventsource-parser');
  const theirs = peer(createParser);
  const found: Measurement[] = [];
  for (const situation of situations) {
    for (const chunk of CHUNK_SIZES) {
      const bytes = chunksOf(situation.text, chunk);
      const decoder = new TextDecoder();
      const text = bytes.map((part) => decoder.decode(part, { stream: true }));
      found.push(...compare(situation, bytes, theirs, { chunk, input: 'bytes' }, effort));
      found.push(...compare(situation, text, theirs, { chunk, input: 'text' }, effort));
    }
  }
  return [...found, ...dripped(effort)];
}

/** Megabytes per second of CPU time, whole passes only. */
function compare(
  situation: Situation,
  chunks: Chunks,
  theirs: Reader,
  parameters: { chunk: number; input: string },
  effort: Effort,
): Measurement[] {
  const [events, units] = theirs(chunks);
  const [ourEvents, ourUnits] = sluice(chunks);
  if (events !== situation.events || ourEvents !== events || ourUnits !== units) {
    throw new Error(`${situation.name}: the readers do not agree on what they read`);
  }
  const bytes = Buffer.byteLength(situation.text);
  const pass = (reader: Reader) => () => {
    reader(chunks);
    return bytes;
  };
  const [ours, peers] = measureInTurns([pass(sluice), pass(theirs)], effort);
  const of = (name: string, nanoseconds: number): Measurement => ({
    case: situation.name,
    peer: name,
    figure: 'megabytesPerSecond',
    value: 1000 / nanoseconds,
    with: parameters,
  });
  return [of('sluice', ours!), of('eventsource-parser', peers!)];
}

const KIB = 1024;

/** One line of data in chunks of 100 bytes, without its end. */
function drip(kibibytes: number): Uint8Array[] {
  return chunksOf(`data: ${'x'.repeat(kibibytes * KIB)}`, 100);
}

function dripped(effort: Effort): Measurement[] {
  const limits = { maxLineBytes: Infinity, maxEventBytes: Infinity };
  const costOf = (kibibytes: number): Measurement => {
    const chunks = drip(kibibytes);
    const value = measure(() => {
      const decoder = createDecoder({ ...limits, onEvent: () => {} });
      for (const chunk of chunks) decoder.feed(chunk);
      decoder.feed('\n\n');
      return kibibytes;
    }, effort);
    return {
      case: 'a line that drips in, a KiB of it',
      peer: 'sluice',
      figure: 'nanoseconds',
      value,
      with: { kibibytes },
    };
  };
  const held = heldBytes(20, () =>
    Array.from({ length: 20 }, () => {
      const decoder = createDecoder({ onEvent: () => {} });
      try {
        for (const chunk of drip(2 * KIB)) decoder.feed(chunk);
      } catch (error) {
        if ((error as { code?: string }).code !== 'ERR_SSE_LINE_TOO_LONG') throw error;
      }
      return decoder;
    }),
  );
  const name = 'a decoder after a line of 2 MiB, where 1 MiB is allowed';
  return [...[64, 512, 4096].map(costOf), { case: name, peer: 'sluice', figure: 'heapBytes', value: held }];
}

await runAlone(import.meta.url, bench);
