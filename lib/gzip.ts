// Compresses bytes once for any number of gzip streams, whatever each of them has sent before.
// Stands alone: copy this file by itself.

import zlib from 'node:zlib';

/**
 * Compressed bytes that can continue any gzip stream: their blocks refer to nothing before them and end at a
 * whole byte.
 */
export interface GzipPiece {
  readonly blocks: Buffer;
  /** How many bytes were compressed. */
  readonly length: number;
  /** Their CRC-32. */
  readonly crc: number;
  /** A table that advances the CRC-32 of the bytes before by `length` bytes. */
  readonly advance: Uint32Array;
}

/**
 * Compresses bytes for any number of streams. Takes about 25 µs for 1 KB of JSON, 200 µs for 64 KiB.
 *
 * @param level of zlib, 1 (fast, default) to 9 (small). Short pieces differ little.
 */
export function compress(bytes: Uint8Array, level = 1): GzipPiece {
  const blocks = zlib.deflateRawSync(bytes, { level, finishFlush: zlib.constants.Z_FULL_FLUSH });
  return { blocks, length: bytes.length, crc: zlib.crc32(bytes), advance: advanceBy(bytes.length) };
}

/** The most bytes that one stored block can hold. */
const MAX_STORED = 0xffff;

/**
 * One client's gzip stream: send `head`, then what `append` and `store` return, then what `end` returns. It
 * holds a checksum and a length, two numbers, where a stream of zlib would hold about 260 KB.
 */
export class GzipStream {
  /** The ten bytes at the beginning of every stream: no name, no time, unknown system. */
  static readonly head: Uint8Array = Uint8Array.of(0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff);

  #crc = 0;
  #length = 0;

  /**
   * Adds a compressed piece; returns its blocks, which all streams share. Takes about 10 ns for a piece of
   * any length.
   */
  append({ blocks, length, crc, advance }: GzipPiece): Buffer {
    this.#crc = times(advance, this.#crc) ^ crc;
    this.#length = (this.#length + length) >>> 0;
    return blocks;
  }

  /** Adds bytes uncompressed: for a few bytes that only this client gets. */
  store(bytes: Uint8Array): Buffer {
    const count = Math.ceil(bytes.length / MAX_STORED);
    const blocks = Buffer.allocUnsafe(bytes.length + 5 * count);
    for (let from = 0, at = 0; from < bytes.length; from += MAX_STORED) {
      const length = Math.min(MAX_STORED, bytes.length - from);
      blocks[at] = 0; // a stored block, not the last
      blocks.writeUInt16LE(length, at + 1);
      blocks.writeUInt16LE(length ^ 0xffff, at + 3);
      blocks.set(bytes.subarray(from, from + length), at + 5);
      at += 5 + length;
    }
    this.#crc = zlib.crc32(bytes, this.#crc >>> 0);
    this.#length = (this.#length + bytes.length) >>> 0;
    return blocks;
  }

  /** Returns the end of the stream: an empty last block, the checksum and the length. */
  end(): Buffer {
    const bytes = Buffer.allocUnsafe(10);
    bytes.writeUInt16LE(0x0003, 0);
    bytes.writeUInt32LE(this.#crc >>> 0, 2);
    bytes.writeUInt32LE(this.#length, 6);
    return bytes;
  }
}

/**
 * Whether an `Accept-Encoding` header allows gzip: by name or by `*`, with a weight above 0.
 * @see https://www.rfc-editor.org/rfc/rfc9110#section-12.5.3
 */
export function acceptsGzip(header: string | undefined): boolean {
  let any = false;
  for (const coding of (header ?? '').toLowerCase().split(',')) {
    const name = coding.replace(/;.*/s, '').trim();
    const isRefused = /;\s*q\s*=\s*0(?:\.0{0,3})?\s*(?:;|$)/.test(coding);
    if (name === 'gzip' || name === 'x-gzip') return !isRefused;
    if (name === '*') any = !isRefused;
  }
  return any;
}

// ── checksums of joined bytes ───────────────────────────────────────────────────────────────────────────
//
// A CRC is the remainder of a polynomial. Appending n bytes multiplies the remainder by x^8n and adds that of
// the bytes. Multiplication by one known factor is linear, so it takes eight table look-ups, one for each
// four bits; each piece has the table of its factor. As in gzip, the highest bit stands for x^0.

const POLYNOMIAL = 0xedb88320;
const ONE = 1 << 31;

function timesX(a: number): number {
  return a & 1 ? (a >>> 1) ^ POLYNOMIAL : a >>> 1;
}

function product(a: number, b: number): number {
  let sum = 0;
  for (let left = a, term = b; left !== 0; left <<= 1, term = timesX(term)) if (left & ONE) sum ^= term;
  return sum;
}

/** x to the powers 1, 2, 4, 8, …; the 33rd would equal the first. */
const powers = [1 << 30];
while (powers.length < 32) powers.push(product(powers.at(-1)!, powers.at(-1)!));

/** The products with x^8n: for each four bits, from the lowest, those of their sixteen values. */
function advanceBy(bytes: number): Uint32Array {
  let factor = ONE;
  for (let power = 3, left = bytes; left >= 1; power++, left = Math.floor(left / 2)) {
    if (left % 2 === 1) factor = product(powers[power % 32]!, factor);
  }
  const table = new Uint32Array(128);
  for (let bit = 31; bit >= 0; bit--, factor = timesX(factor))
    table[(bit >> 2) * 16 + (1 << (bit & 3))] = factor;
  // Every other entry is the sum of two: that of its value without the lowest bit, and that of the lowest
  // bit.
  for (let i = 0; i < 128; i++) {
    const [base, value] = [i & 112, i & 15];
    if ((value & (value - 1)) !== 0)
      table[i] = table[base + (value & (value - 1))]! ^ table[base + (value & -value)]!;
  }
  return table;
}

function times(t: Uint32Array, a: number): number {
  return (
    t[a & 15]! ^
    t[16 + ((a >>> 4) & 15)]! ^
    t[32 + ((a >>> 8) & 15)]! ^
    t[48 + ((a >>> 12) & 15)]! ^
    t[64 + ((a >>> 16) & 15)]! ^
    t[80 + ((a >>> 20) & 15)]! ^
    t[96 + ((a >>> 24) & 15)]! ^
    t[112 + (a >>> 28)]!
  );
}
