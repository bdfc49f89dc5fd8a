import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { getEventListeners } from 'node:events';
import {
  appendFileSync,
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import fsPromises from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { tailFile as begin, type TailFileOptions } from '../lib/tail-file.ts';
import { openDescriptors } from './helpers/handles.ts';

const NEVER = 2 ** 31 - 1;
let folder: string;
let file: string;
let count = 0;

before(() => {
  folder = mkdtempSync(join(tmpdir(), 'sluice-tail-file-'));
});
beforeEach(() => {
  count += 1;
  file = join(folder, `${count}.log`);
});
after(() => rmSync(folder, { recursive: true }));

type Lines = AsyncGenerator<string, void, undefined>;

// An open iteration holds the process, so those that a failed test has left are ended.
const begun: Lines[] = [];
function tailFile(path: string, options?: TailFileOptions): Lines {
  const lines = begin(path, options);
  begun.push(lines);
  return lines;
}
afterEach(() => Promise.all(begun.splice(0).map((lines) => lines.return())));

// Nothing is checked between two pulls: what a test does there falls between two checks.
async function pull(lines: Lines, count = 1): Promise<string[]> {
  const found: string[] = [];
  while (found.length < count) {
    const { done, value } = await lines.next();
    if (done) break;
    found.push(value);
  }
  return found;
}

/** The next line, after text was appended. */
function pullAfter(lines: Lines, text: string): Promise<string[]> {
  appendFileSync(file, text);
  return pull(lines);
}

function started(content: string, options: TailFileOptions = {}): Lines {
  writeFileSync(file, content);
  return tailFile(file, { from: 'start', watch: false, pollInterval: 2, ...options });
}

/** The next line of a file that grows meanwhile: a test cannot see when the end of the file was found. */
async function whileAppending(text: string, lines: Lines): Promise<string | void> {
  const timer = setInterval((to: string) => appendFileSync(to, text), 5, file);
  try {
    return (await lines.next()).value;
  } finally {
    clearInterval(timer);
  }
}

describe('tailFile', { timeout: 120_000 }, () => {
  it('yields the lines of the file, then those that are appended', async () => {
    const lines = started('a\nb\n');
    assert.deepEqual(await pull(lines, 2), ['a', 'b']);
    appendFileSync(file, 'c\r\n\nd\n');
    assert.deepEqual(await pull(lines, 3), ['c', '', 'd']);
  });

  it('begins after the last line by default', async () => {
    writeFileSync(file, 'old\nolder\n');
    const lines = tailFile(file, { pollInterval: 2 });
    assert.equal(await whileAppending('new\n', lines), 'new');
  });

  it('misses no line that is appended after `onReady`', async () => {
    writeFileSync(file, 'old\n');
    const begun: string[] = [];
    const onReady = () => {
      begun.push('once');
      appendFileSync(file, 'new\n');
    };
    const lines = tailFile(file, { pollInterval: 2, onReady });
    assert.deepEqual(await pull(lines), ['new']);
    appendFileSync(file, 'newer\n');
    assert.deepEqual(await pull(lines), ['newer']);
    assert.deepEqual(begun, ['once']);
  });

  it('misses no line of a file that appears after `onReady`', async () => {
    const onReady = () => writeFileSync(`${file}.late`, 'first\n');
    const lines = tailFile(`${file}.late`, { wait: true, pollInterval: 2, onReady });
    assert.deepEqual(await pull(lines), ['first']);
    await lines.return();
  });

  it('yields the whole line that was being written when it began', async () => {
    writeFileSync(file, `${'old\n'.repeat(50_000)}{"half":`);
    const lines = tailFile(file, { pollInterval: 2 });
    // Whenever it begins, a line is half there.
    assert.equal(await whileAppending('1}\n{"half":', lines), '{"half":1}');
  });

  it('yields a whole line that was being written when it began, whatever its length, and no end of one', async () => {
    const half = 'x'.repeat(70_000);
    for (const [before, options, expected] of [
      ['', {}, `${half}y`],
      ['old\n', {}, `${half}y`],
      [`${'o'.repeat(70_000)}\n`, {}, `${half}y`],
      ['old\n', { maxLineBytes: 3 }, 'xxx… [+69998 bytes]'],
    ] as const) {
      writeFileSync(file, before + half);
      const onReady = () => appendFileSync(file, 'y\nz\n');
      const lines = tailFile(file, { pollInterval: 2, onReady, ...options });
      assert.deepEqual(await pull(lines, 2), [expected, 'z']);
      await lines.return();
    }
  });

  it('begins at the start of a file that was emptied while its end was looked for', async () => {
    writeFileSync(file, `old\n${'x'.repeat(200_000)}`);
    const onReady = () => writeFileSync(file, 'new\n');
    const lines = tailFile(file, { pollInterval: 2, onReady });
    assert.deepEqual(await pull(lines), ['new']);
  });

  it('keeps half a line and half a character until the rest is appended', async () => {
    const lines = started('a\nhal');
    const euro = Buffer.from('€');
    assert.deepEqual(await pull(lines), ['a']);
    const next = lines.next();
    appendFileSync(file, 'f ');
    appendFileSync(file, euro.subarray(0, 1));
    await new Promise((resolve) => setTimeout(resolve, 20)); // some checks, each of which finds half a line
    appendFileSync(file, Buffer.concat([euro.subarray(1), Buffer.from('\n')]));
    assert.equal((await next).value, 'half €');
  });

  it('reads a large file in pieces, at the pace of the consumer', async () => {
    const lines = started(`${'x'.repeat(99)}\n`.repeat(300_000));
    const before = process.memoryUsage().arrayBuffers;
    await pull(lines);
    assert.ok(process.memoryUsage().arrayBuffers - before < 2 ** 20);
    assert.equal((await pull(lines, 299_999)).length, 299_999);
    assert.ok(process.memoryUsage().arrayBuffers - before < 4 * 2 ** 20);
  });

  it('shortens a line that is too long, and states how much is missing', async () => {
    const lines = started(`${'x'.repeat(200_000)}\nshort\n`, { maxLineBytes: 10 });
    assert.deepEqual(await pull(lines, 2), ['xxxxxxxxxx… [+199990 bytes]', 'short']);
  });

  it('needs no interval where the system reports changes', async () => {
    const lines = started('a\n', { watch: true, pollInterval: NEVER });
    assert.deepEqual(await pull(lines), ['a']);
    for (const text of ['b', 'c', 'd']) {
      const next = lines.next();
      appendFileSync(file, `${text}\n`);
      assert.equal((await next).value, text);
    }
  });

  describe('when the file is truncated', () => {
    it('reads a truncated file from its start', async () => {
      const lines = started('a\nb\n');
      await pull(lines, 2);
      truncateSync(file);
      appendFileSync(file, 'c\n');
      assert.deepEqual(await pull(lines), ['c']);
    });

    it('reads what is left of a file that was cut to a smaller size', async () => {
      const lines = started('a\nb\nc\n');
      await pull(lines, 3);
      truncateSync(file, 2);
      appendFileSync(file, 'd\n');
      assert.deepEqual(await pull(lines, 2), ['a', 'd']);
    });

    it('notices a truncation although the file is as long again, or longer, at the next check', async () => {
      const lines = started('first\n');
      await pull(lines);
      writeFileSync(file, 'other\n');
      assert.deepEqual(await pull(lines), ['other']);
      writeFileSync(file, 'third\nand more than there was\n');
      assert.deepEqual(await pull(lines, 2), ['third', 'and more than there was']);
    });

    it('notices a truncation in a file larger than a piece', async () => {
      const lines = started('0123456789\n'.repeat(20_000));
      await pull(lines, 20_000);
      writeFileSync(file, '9876543210\n'.repeat(30_000));
      assert.deepEqual(new Set(await pull(lines, 30_000)), new Set(['9876543210']));
    });

    it('yields half a line of a truncated file by itself, not joined to what follows', async () => {
      const lines = started('a\nhalf');
      await pull(lines);
      writeFileSync(file, 'new\n');
      assert.deepEqual(await pull(lines, 2), ['half', 'new']);
    });

    it('skips the hole in a truncated file whose writer does not append', async () => {
      const fd = openSync(file, 'w');
      writeSync(fd, 'before\n'.repeat(40_000));
      const lines = tailFile(file, { from: 'start', watch: false, pollInterval: 2 });
      await pull(lines, 40_000);
      truncateSync(file);
      writeSync(fd, 'after\n');
      assert.deepEqual(await pull(lines), ['after']);
      closeSync(fd);
    });
  });

  describe('when the file is rotated', () => {
    it('reads a rotated file to its end, then the new file', async () => {
      const lines = started('a\n');
      await pull(lines);
      renameSync(file, `${file}.1`);
      appendFileSync(`${file}.1`, 'b\nc\n');
      writeFileSync(file, 'd\n');
      assert.deepEqual(await pull(lines, 3), ['b', 'c', 'd']);
      appendFileSync(file, 'e\n');
      assert.deepEqual(await pull(lines), ['e']);
    });

    it('stays with a rotated file while the new file is empty', async () => {
      const lines = started('a\n');
      await pull(lines);
      renameSync(file, `${file}.1`);
      writeFileSync(file, '');
      for (const text of ['b', 'c', 'd']) {
        appendFileSync(`${file}.1`, `${text}\n`);
        assert.deepEqual(await pull(lines), [text]);
      }
      appendFileSync(file, 'e\n');
      assert.deepEqual(await pull(lines), ['e']);
    });

    it('yields the last line of a rotated file even without its line feed', async () => {
      const lines = started('a\n');
      await pull(lines);
      appendFileSync(file, 'last');
      renameSync(file, `${file}.1`);
      writeFileSync(file, 'first\n');
      assert.deepEqual(await pull(lines, 2), ['last', 'first']);
    });

    it('waits while no file has the name', async () => {
      const lines = started('a\n');
      await pull(lines);
      rmSync(file);
      const next = lines.next();
      await new Promise((resolve) => setTimeout(resolve, 20)); // some checks, each of which finds nothing
      writeFileSync(file, 'b\n');
      assert.equal((await next).value, 'b');
    });

    it('recognises a new file of the same size and content', async () => {
      const lines = started('a\n');
      await pull(lines);
      writeFileSync(`${file}.new`, 'a\n');
      renameSync(`${file}.new`, file);
      assert.deepEqual(await pull(lines), ['a']);
    });

    it('follows a symbolic link to its new target', async () => {
      writeFileSync(`${file}.a`, 'a\n');
      writeFileSync(`${file}.b`, 'b\n');
      symlinkSync(`${file}.a`, file);
      const lines = tailFile(file, { from: 'start', pollInterval: 2 });
      assert.deepEqual(await pull(lines), ['a']);
      symlinkSync(`${file}.b`, `${file}.link`);
      renameSync(`${file}.link`, file);
      assert.deepEqual(await pull(lines), ['b']);
    });

    it('reads the newest file after two rotations between two checks', async () => {
      const lines = started('a\n');
      await pull(lines);
      renameSync(file, `${file}.2`);
      writeFileSync(file, 'never seen\n');
      renameSync(file, `${file}.1`);
      writeFileSync(file, 'c\n');
      assert.deepEqual(await pull(lines), ['c']);
    });
  });

  it('says where the next line is the first of its file, after an unfinished line of the one before', async () => {
    const said: string[] = [];
    const lines = started('a\nhalf', { onStartAgain: () => said.push('again') });
    const pulled = async (count: number) => {
      for (let i = 0; i < count; i++) said.push(...(await pull(lines)));
    };
    await pulled(1);
    renameSync(file, `${file}.1`);
    writeFileSync(file, 'b\n');
    await pulled(2);
    truncateSync(file);
    appendFileSync(file, 'c\nd\n');
    await pulled(2);
    assert.deepEqual(said, ['a', 'half', 'again', 'b', 'again', 'c', 'd']);
  });

  describe('when the file cannot be read for a while', () => {
    /** Lines of a file, and what was reported meanwhile. */
    function watched(content = 'a\n') {
      const reports: string[] = [];
      const lines = started(content, {
        onError: (error, { delay }) => {
          assert.ok(delay >= 100 && delay <= 10_200, `${delay}`);
          reports.push((error as NodeJS.ErrnoException).code ?? error.message);
        },
        onRecover: () => reports.push('recovered'),
      });
      return { lines, reports };
    }

    const until = async (holds: () => boolean) => {
      while (!holds()) await new Promise((resolve) => setTimeout(resolve, 2));
    };

    it('reads on after a directory had the name', async () => {
      const { lines, reports } = watched();
      await pull(lines);
      rmSync(file);
      mkdirSync(file);
      writeFileSync(join(file, 'not empty'), '');
      const next = lines.next();
      await until(() => reports.length > 1);
      rmSync(file, { recursive: true });
      writeFileSync(file, 'b\n');
      assert.equal((await next).value, 'b');
      assert.deepEqual(await pullAfter(lines, 'c\n'), ['c']);
      assert.deepEqual(new Set(reports), new Set(['ERR_SSE_NOT_A_FILE', 'recovered']));
      assert.equal(reports.indexOf('recovered'), reports.length - 1);
    });

    it('reads on after the name could not be looked up, and meanwhile what is added to the old file', async () => {
      const { lines, reports } = watched();
      await pull(lines);
      renameSync(file, `${file}.1`);
      symlinkSync(file, file); // a link to itself: ELOOP
      let next = lines.next();
      await until(() => reports.includes('ELOOP'));
      // Two pieces: reading the rest does not wait for one pause after each piece.
      appendFileSync(`${file}.1`, `${'late'.repeat(40_000)}\n`);
      assert.equal((await next).value, 'late'.repeat(40_000));
      next = lines.next();
      rmSync(file);
      writeFileSync(file, 'b\n');
      assert.equal((await next).value, 'b');
    });

    for (const code of ['EACCES', 'EMFILE', 'ENFILE', 'EIO']) {
      it(`opens the new file again after ${code}`, async (t) => {
        const { lines, reports } = watched();
        await pull(lines);
        const { open } = fsPromises;
        let failures = 3;
        t.mock.method(fsPromises, 'open', (...args: Parameters<typeof open>) => {
          if (failures-- > 0) throw Object.assign(new Error(`${code}: no`), { code });
          return open(...args);
        });
        syncBuiltinESMExports();
        t.after(syncBuiltinESMExports);
        renameSync(file, `${file}.1`);
        writeFileSync(file, 'b\n');
        assert.deepEqual(await pull(lines), ['b']);
        assert.deepEqual(await pullAfter(lines, 'c\n'), ['c']);
        assert.deepEqual(reports, [code, code, code, 'recovered']);
      });
    }

    it('leaves a file that can no longer be read for the one that has its name', async (t) => {
      const { lines, reports } = watched();
      await pull(lines);
      const handle = await fsPromises.open(file);
      t.mock.method(
        Object.getPrototypeOf(handle),
        'read',
        () => {
          throw Object.assign(new Error('ESTALE: stale'), { code: 'ESTALE' });
        },
        { times: 3 },
      );
      await handle.close();
      renameSync(file, `${file}.1`);
      const next = lines.next();
      await until(() => reports.length > 0);
      writeFileSync(file, 'b\n');
      assert.equal((await next).value, 'b');
      assert.equal(reports[0], 'ESTALE');
    });

    it('waits longer after each failure, and briefly again after it was read', async (t) => {
      t.mock.method(Math, 'random', () => 0.5);
      const delays: number[] = [];
      const lines = started('a\n', { onError: (_, { delay }) => delays.push(delay) });
      await pull(lines);
      for (const failures of [3, 1]) {
        rmSync(file, { recursive: true });
        mkdirSync(file);
        writeFileSync(join(file, 'not empty'), '');
        const next = lines.next();
        const before = delays.length;
        await until(() => delays.length === before + failures);
        rmSync(file, { recursive: true });
        writeFileSync(file, 'b\n');
        assert.equal((await next).value, 'b');
        assert.deepEqual(await pullAfter(lines, 'c\n'), ['c']);
      }
      assert.deepEqual(delays, [200, 300, 500, 200]);
    });

    it('does not try again before the pause is over, whatever is written meanwhile', async (t) => {
      const { setTimeout } = globalThis;
      // A pause of this test never ends by itself.
      t.mock.method(globalThis, 'setTimeout', (callback: () => void, delay: number) =>
        setTimeout(callback, delay < 100 ? delay : NEVER),
      );
      // By the clock of this test it is never over, however slowly the test runs.
      t.mock.method(performance, 'now', () => 0);
      let failures = 0;
      const lines = started('a\n', { watch: true, onError: () => failures++ });
      await pull(lines);
      renameSync(file, `${file}.1`);
      mkdirSync(file);
      writeFileSync(join(file, 'not empty'), '');
      const next = lines.next();
      await until(() => failures > 0);
      for (let i = 0; i < 20; i++) {
        appendFileSync(`${file}.1`, 'x');
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      assert.equal(failures, 1);
      await lines.return();
      assert.equal((await next).done, true);
    });

    it('ends the pause when its signal aborts', async (t) => {
      const { setTimeout } = globalThis;
      // A pause of this test never ends by itself.
      t.mock.method(globalThis, 'setTimeout', (callback: () => void, delay: number) =>
        setTimeout(callback, delay < 100 ? delay : NEVER),
      );
      const control = new AbortController();
      const onError = () => setImmediate(() => control.abort());
      const lines = started('a\n', { signal: control.signal, onError });
      await pull(lines);
      rmSync(file);
      mkdirSync(file);
      writeFileSync(join(file, 'not empty'), '');
      assert.equal((await lines.next()).done, true);
    });
  });

  it('loses no line through appends and rotations, in pieces of any size', async () => {
    const text = fc.string({ unit: fc.constantFrom('a', '€', '😀', '\n', '\r\n'), maxLength: 12 });
    const step = fc.oneof(
      fc.record({ append: text }),
      fc.record({ late: text, rotate: text.map((rest) => `n${rest}`) }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 12 }), fc.boolean(), async (steps, watched) => {
        const path = join(folder, `p${count++}.log`);
        writeFileSync(path, 'begun\n');
        const lines = tailFile(path, { from: 'start', watch: watched, pollInterval: 1 });
        assert.deepEqual(await pull(lines), ['begun']);
        let current = '';
        for (const [i, action] of steps.entries()) {
          const fresh = 'append' in action ? action.append : action.late;
          appendFileSync(path, fresh);
          let expected = whole(current + fresh);
          current = (current + fresh).slice((current + fresh).lastIndexOf('\n') + 1);
          if ('rotate' in action) {
            renameSync(path, `${path}.${i}`);
            writeFileSync(path, action.rotate);
            expected = [...expected, ...(current === '' ? [] : [current]), ...whole(action.rotate)];
            current = action.rotate.slice(action.rotate.lastIndexOf('\n') + 1);
            // A check must fall between two rotations: the last line of the new file proves it.
            appendFileSync(path, '\n');
            expected.push(current);
            current = '';
          }
          assert.deepEqual(await pull(lines, expected.length), expected);
        }
        await lines.return();
      }),
      { numRuns: 60 },
    );
  });

  describe('at the start of a tail', () => {
    it('throws the error of the system for a missing file, at the first pull', async () => {
      const lines = tailFile(file);
      await assert.rejects(lines.next(), { code: 'ENOENT', path: file });
      assert.equal((await lines.next()).done, true);
    });

    it('waits for a missing file with `wait`, and reads it from its start', async () => {
      const lines = tailFile(file, { wait: true, pollInterval: 2 });
      const next = lines.next();
      await new Promise((resolve) => setTimeout(resolve, 10));
      writeFileSync(file, 'a\nb\n');
      assert.equal((await next).value, 'a');
      assert.deepEqual(await pull(lines), ['b']);
    });

    it('does not take another error for a missing file', async () => {
      writeFileSync(file, '');
      await assert.rejects(tailFile(`${file}/x`, { wait: true }).next(), { code: 'ENOTDIR' });
    });

    it('refuses anything but a regular file, at once', async () => {
      await assert.rejects(tailFile(folder).next(), {
        code: 'ERR_SSE_NOT_A_FILE',
        message: `\`${folder}\` is not a regular file, so it cannot be followed`,
      });
      if (process.platform === 'win32') return;
      execFileSync('mkfifo', [file]);
      await assert.rejects(tailFile(file).next(), { code: 'ERR_SSE_NOT_A_FILE' });
    });

    it('rejects a bad option at once, with its name and value', () => {
      const max = NEVER;
      for (const pollInterval of [0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 31]) {
        assert.throws(() => tailFile(file, { pollInterval }), {
          name: 'RangeError',
          message: `\`pollInterval\` must be a whole number of milliseconds from 1 to ${max}, got ${pollInterval}`,
        });
      }
      assert.throws(() => tailFile(file, { from: 'middle' as never }), {
        name: 'TypeError',
        message: "`from` must be 'end' or 'start', got middle",
      });
      assert.throws(() => tailFile(file, { maxLineBytes: 0 }), RangeError);
    });
  });

  describe('at the end of a tail', () => {
    const OURS = ['CloseReq', 'FSEventWrap', 'FSReqCallback', 'FSReqPromise', 'Timeout'];
    const handles = (): string[] => process.getActiveResourcesInfo().filter((name) => OURS.includes(name));
    const descriptors = (): number => openDescriptors((target) => target.startsWith(folder));
    let baseline: number;

    // A closed handle disappears one or two turns later.
    async function leavesNothing(): Promise<void> {
      for (let turn = 0; turn < 2000 && handles().length > 0; turn += 1) {
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
      assert.deepEqual(handles(), []);
    }

    beforeEach(async () => {
      await leavesNothing();
      baseline = descriptors();
    });
    afterEach(async () => {
      await leavesNothing();
      assert.equal(descriptors(), baseline);
    });

    it('ends a wait when its signal aborts, and leaves no handle and no listener', async () => {
      const control = new AbortController();
      const lines = started('a\n', { watch: true, pollInterval: NEVER, signal: control.signal });
      await pull(lines);
      const next = lines.next();
      control.abort();
      assert.deepEqual(await next, { done: true, value: undefined });
      assert.deepEqual(getEventListeners(control.signal, 'abort'), []);
      await leavesNothing();
    });

    it('closes the file on abort without another pull', async () => {
      const control = new AbortController();
      const lines = started('a\nb\n', { watch: true, signal: control.signal });
      await pull(lines);
      control.abort();
      await leavesNothing();
      assert.equal((await lines.next()).done, true);
    });

    it('opens no file when the signal is already aborted', async () => {
      assert.deepEqual(await pull(tailFile(file, { signal: AbortSignal.abort() })), []);
    });

    it('ends a pending pull when `return()` is called', async () => {
      const lines = started('', { watch: true, pollInterval: NEVER });
      const next = lines.next();
      assert.deepEqual(await lines.return(), { done: true, value: undefined });
      assert.deepEqual(await next, { done: true, value: undefined });
      await leavesNothing();
    });

    it('ends the wait for a missing file when its signal aborts', async () => {
      const control = new AbortController();
      const next = tailFile(file, { wait: true, pollInterval: NEVER, signal: control.signal }).next();
      control.abort();
      assert.equal((await next).done, true);
    });

    it('closes the file when the loop is left or throws', async () => {
      for await (const line of started('a\nb\n', { watch: true })) {
        assert.equal(line, 'a');
        break;
      }
      await assert.rejects(async () => {
        for await (const line of started('a\nb\n', { watch: true })) throw new Error(line);
      }, /^Error: a$/);
      await leavesNothing();
    });

    it('leaves no handle after 250 files', async () => {
      for (let i = 0; i < 250; i += 1) {
        const lines = started('a\n', { watch: i % 2 === 0 });
        await pull(lines);
        if (i % 3 === 0) truncateSync(file);
        else renameSync(file, `${file}.1`);
        writeFileSync(file, 'b\n');
        assert.deepEqual(await pull(lines), ['b']);
        await lines.return();
      }
      await leavesNothing();
    });

    const run = (options: string, abortAfter: number): Promise<{ code: number | null; output: string }> => {
      writeFileSync(file, 'a\n');
      const script = `
        import { tailFile } from ${JSON.stringify(new URL('../lib/tail-file.ts', import.meta.url).href)};
        const control = new AbortController();
        const options = { from: 'start', signal: control.signal, ${options} };
        const abortLater = () => setTimeout(() => control.abort(), ${abortAfter}).unref();
        process.on('exit', () => console.log(control.signal.aborted));
        (async () => {
          for await (const line of tailFile(${JSON.stringify(file)}, options)) {
            console.log(line);
            abortLater();
          }
          console.log('ended');
        })();`;
      const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', script], {
        cwd: fileURLToPath(new URL('..', import.meta.url)),
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      let output = '';
      child.stdout.setEncoding('utf8').on('data', (text: string) => {
        output += text;
      });
      return new Promise((resolve) => child.on('close', (code) => resolve({ code, output })));
    };

    it('holds the process until it is aborted', async () => {
      assert.deepEqual(await run('', 200), { code: 0, output: 'a\nended\ntrue\n' });
      assert.deepEqual(await run('watch: false', 200), { code: 0, output: 'a\nended\ntrue\n' });
    });

    it('lets the process end with `persistent: false`', async () => {
      assert.deepEqual(await run('persistent: false', 60_000), { code: 0, output: 'a\nfalse\n' });
    });
  });
});

function whole(text: string): string[] {
  return text
    .split('\n')
    .slice(0, -1)
    .map((line) => line.replace(/\r$/, ''));
}
