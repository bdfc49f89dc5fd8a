import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { gunzipSync } from 'node:zlib';
import fc from 'fast-check';
import { acceptsGzip, compress, GzipStream } from '../lib/gzip.ts';

describe('GzipStream', () => {
  it('can be read by gunzip, however stored and compressed pieces are mixed', () => {
    const pieces = fc.array(fc.tuple(fc.boolean(), fc.uint8Array({ maxLength: 3000 })), { maxLength: 30 });
    fc.assert(
      fc.property(pieces, (made) => {
        const stream = new GzipStream();
        const sent = made.map(([isShared, bytes]) =>
          isShared ? stream.append(compress(bytes)) : stream.store(bytes),
        );
        // gunzip throws if the checksum or the length at the end is wrong.
        const read = gunzipSync(Buffer.concat([GzipStream.head, ...sent, stream.end()]));
        assert.deepEqual(read, Buffer.concat(made.map(([, bytes]) => bytes)));
      }),
    );
  });

  it('can append the same piece to any stream', () => {
    const piece = compress(Buffer.from('data: shared\n\n'.repeat(100)));
    for (const before of ['', ': one\n\n', 'data: something else\n\n'.repeat(5000)]) {
      const stream = new GzipStream();
      const sent = [
        GzipStream.head,
        stream.store(Buffer.from(before)),
        stream.append(piece),
        stream.append(piece),
      ];
      const read = gunzipSync(Buffer.concat([...sent, stream.end()])).toString();
      assert.equal(read, before + 'data: shared\n\n'.repeat(200));
    }
  });

  it('ends streams of more than 4 GiB with their length modulo 2³², as gzip has it', () => {
    const stream = new GzipStream();
    const piece = { ...compress(Buffer.from('x')), length: 2 ** 31 };
    for (let n = 0; n < 3; n++) stream.append(piece);
    assert.equal(stream.end().readUInt32LE(6), 2 ** 31);
    stream.append({ ...piece, length: 2 ** 31 - 1 });
    assert.equal(stream.end().readUInt32LE(6), 2 ** 32 - 1);
    stream.store(Buffer.from('abc'));
    assert.equal(stream.end().readUInt32LE(6), 2);
  });

  it('stores bytes that exceed one block in several', () => {
    const bytes = Buffer.alloc(3 * 65_535 + 7, 'abc');
    const stream = new GzipStream();
    const sent = [GzipStream.head, stream.store(bytes), stream.end()];
    assert.deepEqual(gunzipSync(Buffer.concat(sent)), bytes);
  });

  it('appends a fraction of the bytes where they repeat', () => {
    const bytes = Buffer.from('{"symbol":"EURUSD","bid":1.0871}\n'.repeat(100));
    assert.ok(compress(bytes).blocks.length < bytes.length / 10);
    assert.ok(compress(bytes, 9).blocks.length <= compress(bytes, 1).blocks.length);
  });
});

describe('acceptsGzip', () => {
  const accepted = [
    'gzip',
    'GZIP',
    'x-gzip',
    'br, gzip',
    'gzip;q=0.5',
    'gzip ; q=0.001',
    '*',
    'identity, *;q=0.1',
  ];
  const refused = [
    undefined,
    '',
    'br',
    'identity',
    'gzip;q=0',
    'gzip; q=0.000',
    '*;q=0',
    '*, gzip;q=0',
    'gzipped',
  ];

  for (const header of accepted) it(`is true for ${header}`, () => assert.equal(acceptsGzip(header), true));
  for (const header of refused) it(`is false for ${header}`, () => assert.equal(acceptsGzip(header), false));
});
