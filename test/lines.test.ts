import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { getEventListeners, once } from 'node:events';
import { PassThrough, Readable } from 'node:stream';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { createLineSplitter, lines } from '../lib/lines.ts';

function split(chunks: Iterable<string | Uint8Array>, maxLineBytes?: number): string[] {
  const splitter = createLineSplitter({ maxLineBytes });
  const found: string[] = [];
  for (const chunk of chunks) found.push(...splitter.push(Buffer.from(chunk as string)));
  return [...found, ...splitter.flush()];
}

async function collect<T>(source: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const item of source) found.push(item);
  return found;
}

describe('createLineSplitter', () => {
  it('ends a line at LF and at CRLF only', () => {
    assert.deepEqual(split(['a\nb\r\nc\rd\n\n\r\ne\r\r\n']), ['a', 'b', 'c\rd', '', '', 'e\r']);
  });

  it('keeps a line until its line feed arrives', () => {
    const splitter = createLineSplitter();
    assert.deepEqual([...splitter.push(Buffer.from('one\ntw'))], ['one']);
    assert.deepEqual([...splitter.push(Buffer.from('o\r'))], []);
    assert.deepEqual([...splitter.push(Buffer.from('\nthree'))], ['two']);
    assert.deepEqual(splitter.flush(), ['three']);
    assert.deepEqual(splitter.flush(), []);
  });

  it('distinguishes an empty last line from no line', () => {
    assert.deepEqual(split(['a\n']), ['a']);
    assert.deepEqual(split(['a\n\n']), ['a', '']);
    assert.deepEqual(split([]), []);
    assert.deepEqual(split(['\r']), ['']);
  });

  it('joins a character that arrives in pieces, and shows bytes that are not UTF-8 as U+FFFD', () => {
    const euro = Buffer.from('€\n');
    assert.deepEqual(split([euro.subarray(0, 1), euro.subarray(1, 2), euro.subarray(2)]), ['€']);
    assert.deepEqual(split([Buffer.from([0x61, 0xff, 0x62, 0x0a, 0xe2, 0x82, 0x0a])]), ['a�b', '�']);
  });

  it('shortens a line over the limit, and states how much is missing', () => {
    assert.deepEqual(split(['abcdefgh\nshort\n'], 5), ['abcde… [+3 bytes]', 'short']);
    assert.deepEqual(split(['ab', 'cd', 'ef', 'gh\r\n'], 5), ['abcde… [+3 bytes]']);
    assert.deepEqual(split(['abcdefgh'], 5), ['abcde… [+3 bytes]']);
  });

  it('has no limit where that is Infinity', () => {
    const long = 'abcdefgh'.repeat(200_000);
    assert.deepEqual(split(['a', 'b\n', long, long, '\r\n', 'c'], Infinity), ['ab', long + long, 'c']);
  });

  it('does not count the line ending', () => {
    for (const text of ['abcde\n', 'abcde\r\n', 'abcde', 'abcde\r']) {
      assert.deepEqual(split([text], 5), ['abcde']);
      assert.deepEqual(split([...text], 5), ['abcde']);
    }
  });

  it('shortens a line between two characters', () => {
    assert.deepEqual(split(['aaaa€€\n'], 5), ['aaaa… [+6 bytes]']);
    assert.deepEqual(split(['aaaa😀\n'], 7), ['aaaa… [+4 bytes]']);
    assert.deepEqual(split(['aaaa😀b\n'], 8), ['aaaa😀… [+1 bytes]']);
  });

  it('holds no more than the limit of an endless line', () => {
    const splitter = createLineSplitter({ maxLineBytes: 1000 });
    const chunk = Buffer.alloc(64 * 1024, 0x61);
    const before = process.memoryUsage().arrayBuffers;
    for (let i = 0; i < 2000; i += 1) for (const line of splitter.push(chunk)) assert.fail(line);
    assert.ok(process.memoryUsage().arrayBuffers - before < 8 * 2 ** 20);
    assert.deepEqual(splitter.flush(), [`${'a'.repeat(1000)}… [+${2000 * 64 * 1024 - 1000} bytes]`]);
  });

  it('copies a line that arrives in small pieces at most a few times', (t) => {
    const copy = t.mock.method(Buffer.prototype, 'copy');
    const splitter = createLineSplitter();
    for (let i = 0; i < 1000; i++) for (const _ of splitter.push(Buffer.alloc(1000, 'x')));
    assert.equal(splitter.flush()[0]?.length, 1_000_000);
    let copied = 0;
    for (const { result } of copy.mock.calls) copied += Number(result);
    assert.ok(copied >= 1_000_000 && copied <= 4_000_000, `${copied} bytes`);
  });

  it('accepts a buffer that is used again for the next chunk', () => {
    const splitter = createLineSplitter();
    const buffer = Buffer.from('half');
    assert.deepEqual([...splitter.push(buffer)], []);
    buffer.write('way\n');
    assert.deepEqual([...splitter.push(buffer)], ['halfway']);
  });

  it('throws with `overlong: throw` as soon as a line exceeds the limit', () => {
    const tooLong = { code: 'ERR_SSE_LINE_TOO_LONG', message: 'a line is longer than 5 bytes' };
    const splitter = () => createLineSplitter({ maxLineBytes: 5, overlong: 'throw' });
    const found: string[] = [];
    assert.throws(() => {
      for (const line of splitter().push(Buffer.from('abcde\r\nabcdef\nx\n'))) found.push(line);
    }, tooLong);
    assert.deepEqual(found, ['abcde']);
    const dripped = splitter();
    assert.deepEqual([...dripped.push(Buffer.from('abcde')), ...dripped.push(Buffer.from('\r'))], []);
    assert.deepEqual([...dripped.push(Buffer.from('\nabcde'))], ['abcde']);
    assert.throws(() => [...dripped.push(Buffer.from('f'))], tooLong);
  });

  it('finds the same lines wherever the input is cut', () => {
    const text = fc.string({ unit: fc.constantFrom('a', 'b', '\r', '\n', '\r\n', 'é', '€', '😀', '\0') });
    fc.assert(
      fc.property(text, fc.array(fc.nat(7)), fc.integer({ min: 1, max: 12 }), (input, sizes, limit) => {
        const bytes = Buffer.from(input);
        const chunks: Buffer[] = [];
        let at = 0;
        for (const size of sizes) {
          chunks.push(bytes.subarray(at, at + size));
          at += size;
        }
        chunks.push(bytes.subarray(at));
        assert.deepEqual(split(chunks, limit), split([bytes], limit));
        const whole = input.split('\n');
        if (whole.at(-1) === '') whole.pop();
        assert.deepEqual(
          split(chunks),
          whole.map((line) => line.replace(/\r$/, '')),
        );
      }),
    );
  });

  it('never makes two lines of one, and never shortens one within the limit', () => {
    fc.assert(
      fc.property(
        fc.array(fc.string({ unit: 'grapheme' }).map((s) => s.replace(/[\r\n]/g, '_'))),
        (input) => {
          const got = split([input.map((line) => `${line}\n`).join('')], 10);
          assert.equal(got.length, input.length);
          for (const [i, line] of input.entries()) {
            if (Buffer.byteLength(line) <= 10) assert.equal(got[i], Buffer.from(line).toString());
            else assert.match(got[i]!, /^.{0,10}… \[\+\d+ bytes\]$/s);
          }
        },
      ),
    );
  });

  it('rejects a bad limit with its name and value', () => {
    for (const maxLineBytes of [0, -1, 1.5, Number.NaN, '5' as never]) {
      assert.throws(() => createLineSplitter({ maxLineBytes }), {
        name: 'RangeError',
        message: `\`maxLineBytes\` must be a whole number ≥ 1 or Infinity, got ${maxLineBytes}`,
      });
    }
    assert.deepEqual(split(['a\n'], Number.POSITIVE_INFINITY), ['a']);
  });
});

describe('lines', () => {
  it('reads a readable to its end, and yields a last line without line feed', async () => {
    const found = await collect(lines(Readable.from([Buffer.from('a\r\nb'), Buffer.from('c\nlast')])));
    assert.deepEqual(found, ['a', 'bc', 'last']);
  });

  it('reads a readable of strings', async () => {
    const source = new PassThrough({ encoding: 'utf8' });
    source.end(Buffer.from('ä\nö'));
    assert.deepEqual(await collect(lines(source)), ['ä', 'ö']);
  });

  it('pulls no chunk from the source while the consumer waits', async () => {
    let pulled = 0;
    async function* endless(): AsyncGenerator<Buffer> {
      for (;;) {
        pulled += 1;
        yield Buffer.from('x\ny\n');
      }
    }
    const iterator = lines(endless());
    assert.equal((await iterator.next()).value, 'x');
    assert.equal((await iterator.next()).value, 'y');
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(pulled, 1);
    await iterator.return();
  });

  it('throws the error of the source after the lines before it', async () => {
    const source = new PassThrough();
    const failure = new Error('disk on fire');
    const iterator = lines(source);
    source.write('a\n');
    assert.equal((await iterator.next()).value, 'a');
    const next = iterator.next();
    source.destroy(failure);
    await assert.rejects(next, failure);
    assert.equal((await iterator.next()).done, true);
  });

  it('ends a wait when its signal aborts, and leaves no listener', async () => {
    const source = new PassThrough();
    const control = new AbortController();
    const iterator = lines(source, { signal: control.signal });
    source.write('a\nhalf');
    assert.equal((await iterator.next()).value, 'a');
    const next = iterator.next();
    control.abort();
    assert.deepEqual(await next, { done: true, value: undefined });
    assert.equal(source.destroyed, true);
    assert.deepEqual(getEventListeners(control.signal, 'abort'), []);
  });

  it('stops between two lines of one chunk', async () => {
    const control = new AbortController();
    const found: string[] = [];
    for await (const line of lines(Readable.from([Buffer.from('a\nb\nc\n')]), { signal: control.signal })) {
      found.push(line);
      control.abort();
    }
    assert.deepEqual(found, ['a']);
  });

  it('reads nothing when its signal is already aborted', async () => {
    const source = new PassThrough();
    source.write('a\n');
    assert.deepEqual(await collect(lines(source, { signal: AbortSignal.abort() })), []);
    assert.equal(source.destroyed, true);
  });

  it('ends a pending pull when `return()` is called', async () => {
    const source = new PassThrough();
    const iterator = lines(source);
    const next = iterator.next();
    assert.deepEqual(await iterator.return(), { done: true, value: undefined });
    assert.deepEqual(await next, { done: true, value: undefined });
    assert.equal(source.destroyed, true);
  });

  it('lets the process end although stdin stays open', async () => {
    const script = `
      import { lines } from ${JSON.stringify(new URL('../lib/lines.ts', import.meta.url).href)};
      const control = new AbortController();
      for await (const line of lines(process.stdin, { signal: control.signal })) {
        console.log(line);
        if (line === 'enough') setImmediate(() => control.abort());
      }
      console.log('ended');`;
    const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', script], {
      cwd: fileURLToPath(new URL('..', import.meta.url)),
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    child.stdin.write('first\nenough\n');
    const output = (await collect(child.stdout.setEncoding('utf8'))).join('');
    if (child.exitCode === null) await once(child, 'exit');
    assert.equal(output, 'first\nenough\nended\n');
    assert.equal(child.exitCode, 0);
    child.stdin.destroy();
  });

  it('rejects a bad limit at once, not at the first pull', () => {
    assert.throws(() => lines(new PassThrough(), { maxLineBytes: 0 }), RangeError);
  });
});
