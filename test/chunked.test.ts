import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { toChunk } from '../lib/chunked.ts';

describe('toChunk', () => {
  it('writes the length in hexadecimal, with as many digits as it needs', () => {
    for (const length of [
      1, 9, 0xa, 0xf, 0x10, 0xff, 0x100, 0xabc, 0xfff, 0x1000, 0xffff, 0x10000, 0x10203,
    ]) {
      const bytes = Buffer.alloc(length, 'x');
      const wanted = Buffer.concat([Buffer.from(`${length.toString(16)}\r\n`), bytes, Buffer.from('\r\n')]);
      assert.ok(toChunk(bytes).equals(wanted), `${length} bytes`);
    }
  });
});
