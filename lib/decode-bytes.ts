// What the decoder does with bytes and strings: makes text, finds the shapes of lines, copies what it keeps.
// Stands alone: copy this file by itself. Runs in Node, browsers, workers, Deno and Bun.

const LF = 10;
const CR = 13;
const SPACE = 32;
const COLON = 58;
const LETTER_D = 100;
const LETTER_E = 101;
const DATA = 0x61746164; // the four letters as a little-endian number
const FOUR_LFS = 0x0a0a0a0a;

/** Events of fewer units are worth a try of `readShort`. */
export const SHORT = 56;

/** An event of data alone. */
export interface BareEvent {
  readonly event: string;
  readonly data: string;
  readonly id: undefined;
  readonly lastEventId: string;
}

// A chunk that ends in an ASCII byte does not end within a character, so it can be decoded by itself, which is
// faster: several times in ASCII on Node 20, and by a fifth on Node 24 (bench/decode.bench.ts).
export interface TextReader {
  /** Whether the last chunk was all ASCII, so that each byte is one unit of the text. */
  ascii: boolean;
  read(bytes: Uint8Array): string;
  /** Calls `use` with the bytes of a text that is ASCII. */
  withBytes(text: string, use: (bytes: Uint8Array | undefined) => void): void;
  /** What an unfinished character at the end becomes. */
  end(): string;
}

const encoder = new TextEncoder();
const MOST_ENCODED = 65_536;
// It serves all decoders, one after another.
let spare: Uint8Array | undefined;

export function createTextReader(): TextReader {
  const whole = new TextDecoder('utf-8', { ignoreBOM: true });
  let streaming: InstanceType<typeof TextDecoder> | undefined;
  let withinCharacter = false;
  let skips = 0; // so many texts more are taken for other than ASCII
  const reader: TextReader = {
    ascii: false,
    read(bytes) {
      if (bytes.length === 0) return '';
      const endsInAscii = bytes[bytes.length - 1]! < 0x80;
      const asWhole = !withinCharacter && endsInAscii;
      streaming ??= asWhole ? undefined : new TextDecoder('utf-8', { ignoreBOM: true });
      const text = asWhole ? whole.decode(bytes) : streaming!.decode(bytes, { stream: true });
      withinCharacter = !endsInAscii;
      reader.ascii = asWhole && text.length === bytes.length;
      return text;
    },
    withBytes(text, use) {
      if (text.length < 256 || text.length > MOST_ENCODED) return use(undefined);
      if (skips > 0) {
        skips--;
        return use(undefined);
      }
      const bytes = spare ?? new Uint8Array(MOST_ENCODED);
      spare = undefined; // a handler may feed another decoder
      const { read, written } = encoder.encodeInto(text, bytes);
      const isAscii = read === text.length && written === read;
      if (!isAscii) skips = 64;
      use(isAscii ? bytes.subarray(0, read) : undefined);
      spare = bytes;
    },
    end: () => streaming?.decode() ?? '',
  };
  return reader;
}

// Reads events of one short `data` line and nothing else, as language models send them by the thousand. A call
// of `indexOf` would take longer than to look for the end of the line four bytes at a time.
export function readShort(
  text: string,
  start: number,
  bytes: Uint8Array,
  freeUnits: number,
  lastEventId: string,
  onEvent: (event: BareEvent) => void,
): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const last = bytes.length - 1;
  let at = start;
  while (at + 6 <= last && view.getInt32(at, true) === DATA && bytes[at + 4] === COLON) {
    const from = bytes[at + 5] === SPACE ? at + 6 : at + 5;
    const limit = Math.min(from + SHORT, last - 3);
    let end = from;
    for (; end <= limit; end += 4) {
      // A byte of zero, which a LF now is, borrows from above it and becomes ≥ 0x80.
      const word = view.getInt32(end, true) ^ FOUR_LFS;
      if (((word - 0x01010101) & ~word & 0x80808080) !== 0) break;
    }
    if (end > from + SHORT) break;
    while (end < last && bytes[end] !== LF) end++;
    if (end === last || bytes[end + 1] !== LF || end - at > freeUnits) break;
    onEvent({ event: 'message', data: text.slice(from, end), id: undefined, lastEventId });
    at = end + 2;
  }
  return at;
}

// Whether a field name and a colon begin at `at`, where the caller has seen the first letter already.

export function isDataAt(ascii: Uint8Array, at: number): boolean {
  return ascii[at + 1] === 97 && ascii[at + 2] === 116 && ascii[at + 3] === 97 && ascii[at + 4] === COLON;
}

export function isIdAt(ascii: Uint8Array, at: number): boolean {
  return ascii[at + 1] === LETTER_D && ascii[at + 2] === COLON;
}

export function isEventAt(ascii: Uint8Array, at: number): boolean {
  return (
    ascii[at + 1] === 118 &&
    ascii[at + 2] === LETTER_E &&
    ascii[at + 3] === 110 &&
    ascii[at + 4] === 116 &&
    ascii[at + 5] === COLON
  );
}

// Finds the first control character: the end of the line, or one for the slow path, such as NUL in an id.
export function endOfWord(ascii: Uint8Array, from: number): number {
  let at = from;
  while (at < ascii.length && ascii[at]! >= SPACE) at++;
  return at;
}

// `charCodeAt` past the end gives NaN, but V8 then drops its fast path for good.
export function is(text: string, at: number, code: number): boolean {
  return at < text.length && text.charCodeAt(at) === code;
}

export function isData(text: string, at: number): boolean {
  return (
    at + 4 < text.length &&
    text.charCodeAt(at + 1) === 97 &&
    text.charCodeAt(at + 2) === 116 &&
    text.charCodeAt(at + 3) === 97 &&
    text.charCodeAt(at + 4) === COLON
  );
}

export function isId(text: string, at: number): boolean {
  return is(text, at + 1, LETTER_D) && is(text, at + 2, COLON);
}

export function isEvent(text: string, at: number): boolean {
  return (
    at + 5 < text.length &&
    text.charCodeAt(at + 1) === 118 &&
    text.charCodeAt(at + 2) === LETTER_E &&
    text.charCodeAt(at + 3) === 110 &&
    text.charCodeAt(at + 4) === 116 &&
    text.charCodeAt(at + 5) === COLON
  );
}

export function isBlank(text: string, at: number): boolean {
  return is(text, at, LF) || (is(text, at, CR) && is(text, at + 1, LF));
}

export function skipSpace(text: string, at: number): number {
  return is(text, at, SPACE) ? at + 1 : at;
}

// A slice of a string keeps the whole of it in memory; `join` makes a copy.
export function copyOf(text: string): string {
  return [text, ''].join('\n').slice(0, -1);
}

// A string takes twenty bytes and more, so short ones are joined, a thousand at a time: so time stays linear.
export function joinPieces(pieces: string[], joined: number): number {
  if (pieces.length - joined < 1024) return joined;
  pieces.push(pieces.splice(joined).join(''));
  return joined + 1;
}

export function utf8Length(text: string): number {
  let bytes = text.length;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if (unit < 0x80) continue;
    // Each half of a surrogate pair is two of its four bytes.
    bytes += unit < 0x800 || (unit >= 0xd800 && unit <= 0xdfff) ? 1 : 2;
  }
  return bytes;
}
