// How fast the decoder reads, beside eventsource-parser: the same bytes, in one run, turn by turn.
//   npx tsx bench/decode.bench.ts
//
// Bytes are what a socket gives. A parser that takes text gets a streaming TextDecoder in front, as its users
// must give it one; "text" is the same comparison with that decoding left out on both sides.
//
// And by itself: whether a line that drips in costs more a byte the longer it is, and what a decoder holds of
// one.
//
// Floors: `cut` takes bytes for Latin-1 and cuts them at blank lines, whatever they say; `join` decodes the
// pieces of a line and joins them; `unused` is a decoder that has read nothing.

import { createDecoder } from '../lib/decode.ts';
import { chunksOf, type Situation, situations } from '../test/fixtures/streams.ts';
import { type Effort, heldBytes, load, type Measurement, measureInTurns, runAlone } from './harness.ts';

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

/** Not even what an event that two chunks share would cost. */
const cut: Reader = (chunks) => {
  let events = 0;
  let units = 0;
  for (const chunk of chunks) {
    const text = typeof chunk === 'string' ? chunk : latin1(chunk);
    let at = 0;
    for (let end = text.indexOf('\n\n'); end !== -1; end = text.indexOf('\n\n', at)) {
      units += text.slice(at, end).length;
      events++;
      at = end + 2;
    }
  }
  return [events, units];
};

function latin1({ buffer, byteOffset, byteLength }: Uint8Array): string {
  return Buffer.from(buffer, byteOffset, byteLength).toString('latin1');
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
  return [...found, ...dripped(effort), ...held()];
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
  const [ours, peers, floor] = measureInTurns([pass(sluice), pass(theirs), pass(cut)], effort);
  const of = (name: string, nanoseconds: number): Measurement => ({
    case: situation.name,
    peer: name,
    figure: 'megabytesPerSecond',
    value: 1000 / nanoseconds,
    with: parameters,
  });
  return [of('sluice', ours!), of('eventsource-parser', peers!), of('cut', floor!)];
}

const KIB = 1024;

/** One line of data in chunks of 100 bytes, without its end. */
function drip(kibibytes: number): Uint8Array[] {
  return chunksOf(`data: ${'x'.repeat(kibibytes * KIB)}`, 100);
}

const decodeLine = (chunks: readonly Uint8Array[]): void => {
  const decoder = createDecoder({ maxLineBytes: Infinity, maxEventBytes: Infinity, onEvent: () => {} });
  for (const chunk of chunks) decoder.feed(chunk);
  decoder.feed('\n\n');
};

const text = new TextDecoder();

const joinLine = (chunks: readonly Uint8Array[]): boolean => {
  const pieces: string[] = [];
  for (const chunk of chunks) pieces.push(text.decode(chunk));
  // Looking through it makes a flat string of it.
  return pieces.join('').includes('\n');
};

const LINES = [64, 512, 4096];

/** One pass over the longest takes a good part of a round. */
const LONGER = 3;

function dripped({ rounds, round }: Effort): Measurement[] {
  const lines = LINES.map((kibibytes) => ({ kibibytes, chunks: drip(kibibytes) }));
  const works = Object.entries({ sluice: decodeLine, join: joinLine }).flatMap(([peer, work]) =>
    lines.map(({ kibibytes, chunks }) => {
      const pass = () => {
        work(chunks);
        return kibibytes;
      };
      return { peer, kibibytes, pass };
    }),
  );
  const values = measureInTurns(
    works.map(({ pass }) => pass),
    { rounds, round: round * LONGER },
  );
  return works.map(({ peer, kibibytes }, i) => ({
    case: 'a line that drips in, a KiB of it',
    peer,
    figure: 'nanoseconds',
    value: values[i]!,
    with: { kibibytes },
  }));
}

function held(): Measurement[] {
  // What Node makes for the first one is there once.
  decoderAfter(drip(2 * KIB));
  const of = (peer: string, chunks: readonly Uint8Array[]): Measurement => {
    const value = heldBytes(20, () => Array.from({ length: 20 }, () => decoderAfter(chunks)));
    const name = 'a decoder after a line of 2 MiB, where 1 MiB is allowed';
    return { case: name, peer, figure: 'heapBytes', value };
  };
  return [of('sluice', drip(2 * KIB)), of('unused', [])];
}

function decoderAfter(chunks: readonly Uint8Array[]): unknown {
  const decoder = createDecoder({ onEvent: () => {} });
  try {
    for (const chunk of chunks) decoder.feed(chunk);
  } catch (error) {
    if ((error as { code?: string }).code !== 'ERR_SSE_LINE_TOO_LONG') throw error;
  }
  return decoder;
}

await runAlone(import.meta.url, bench);
