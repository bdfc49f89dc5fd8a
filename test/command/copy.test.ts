import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, beforeEach, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { withHeader } from '../../lib/command/copy-header.ts';
import { run } from '../helpers/command.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const base = mkdtempSync(join(tmpdir(), 'sluice-copy-'));
after(() => rmSync(base, { recursive: true, force: true }));

let folder = '';
beforeEach(() => {
  folder = join(mkdtempSync(join(base, 'project-')), 'src/sse');
});

const pathOf = (file: string): string => join(folder, file);
const textOf = (file: string): string => readFileSync(pathOf(file), 'utf8');
const change = (file: string, by: (text: string) => string): void =>
  writeFileSync(pathOf(file), by(textOf(file)));

/** Copies that must succeed. */
async function copy(...argv: string[]): Promise<string> {
  const { code, stdout, stderr } = await run('copy', argv);
  assert.deepEqual([code, stderr], [0, '']);
  return stdout;
}

describe('sluice copy', () => {
  it('copies a module and all that it needs, and prints what it wrote', async () => {
    const stdout = await copy('limiter', folder);
    const files = ['address.ts', 'encode.ts', 'limiter.ts', 'problem.ts', 'protocol.ts'];
    assert.deepEqual(readdirSync(folder).sort(), files);
    assert.equal(stdout, files.map((file) => `${pathOf(file)}\n`).join(''));
  });

  it('copies also what the needed modules need', async () => {
    await copy('stream', folder);
    const source = readFileSync(join(root, 'lib/stream.ts'), 'utf8');
    assert.doesNotMatch(source, /'\.\/source\.ts'/);
    assert.match(textOf('pipe.ts'), /'\.\/source\.ts'/);
    assert.ok(existsSync(pathOf('source.ts')));
  });

  it('copies what several modules need once', async () => {
    const lines = (await copy('limiter.ts', 'encode', 'address', folder)).trimEnd().split('\n');
    assert.equal(new Set(lines).size, lines.length);
  });

  it('puts origin, version, licence and copyright at the head of a copy, and the text as it is after that', async () => {
    await copy('encode', folder);
    const [origin, license, copyright, hash, blank, ...rest] = textOf('encode.ts').split('\n');
    assert.equal(origin, `// encode.ts from sluice ${version}, https://github.com/sluicejs/sluice`);
    assert.equal(license, '// SPDX-License-Identifier: MIT');
    const notice = copyright!.replace('// ', '');
    assert.match(notice, /^Copyright \(c\) \d{4} /);
    assert.ok(readFileSync(join(root, 'LICENSE'), 'utf8').includes(`\n${notice}\n`));
    assert.match(hash!, /^\/\/ Copied by `sluice copy`\. sha256 of what follows: [0-9a-f]{64}$/);
    assert.equal(blank, '');
    assert.equal(rest.join('\n'), readFileSync(join(root, 'lib/encode.ts'), 'utf8'));
  });

  it('leaves a copy that is already there, and replaces one of an older version', async () => {
    await copy('encode', 'replay', folder);
    const header = {
      file: 'replay.ts',
      version: '0.0.1',
      origin: 'x',
      license: 'MIT',
      copyright: 'Copyright',
    };
    writeFileSync(pathOf('replay.ts'), withHeader(header, 'export const old = 1;\n'));
    const stdout = await copy('encode', 'replay', folder);
    assert.equal(stdout, `${pathOf('encode.ts')} (already there)\n${pathOf('replay.ts')}\n`);
    assert.match(textOf('replay.ts'), /class ReplayBuffer/);
  });

  it('keeps lines before the header of a copy that it replaces, and its line ends', async () => {
    await copy('encode', folder);
    const current = textOf('encode.ts');
    const header = {
      file: 'encode.ts',
      version: '0.0.1',
      origin: 'x',
      license: 'MIT',
      copyright: 'Copyright',
    };
    const old = withHeader(header, 'export const old = 1;\n');
    for (const end of ['\n', '\r\n']) {
      const inProject = (text: string) => `/* eslint-disable */\n\n${text}`.replaceAll('\n', end);
      for (const flags of [[], ['--force']]) {
        writeFileSync(pathOf('encode.ts'), inProject(flags.length > 0 ? `${old}// mine\n` : old));
        assert.equal(await copy(...flags, 'encode', folder), `${pathOf('encode.ts')}\n`);
        assert.equal(textOf('encode.ts'), inProject(current));
      }
      assert.equal(await copy('encode', folder), `${pathOf('encode.ts')} (already there)\n`);
      assert.equal(textOf('encode.ts'), inProject(current));
    }
  });

  it('writes nothing where a copy was changed or another file is in the way, and all with --force', async () => {
    await copy('encode', folder);
    change('encode.ts', (text) => `${text}// mine\n`);
    writeFileSync(pathOf('problem.ts'), 'export {};\n');
    const refused = await run('copy', ['limiter', folder]);
    assert.equal(refused.code, 1);
    assert.deepEqual(refused.stderr.split('\n'), [
      `sluice copy: ${pathOf('encode.ts')} is a changed copy`,
      `sluice copy: ${pathOf('problem.ts')} is another file`,
      'sluice copy: nothing was copied; move these away, or give --force to write over them',
      '',
    ]);
    assert.deepEqual(readdirSync(folder).sort(), ['encode.ts', 'problem.ts']);
    assert.match(textOf('encode.ts'), /\/\/ mine\n$/);
    await copy('--force', 'limiter', folder);
    assert.doesNotMatch(textOf('encode.ts'), /\/\/ mine\n$/);
    assert.match(textOf('problem.ts'), /SPDX/);
  });

  it('leaves a single file of the project that is in the way as it is', async () => {
    mkdirSync(folder, { recursive: true });
    writeFileSync(pathOf('encode.ts'), 'export {};\n');
    assert.equal((await run('copy', ['encode', folder])).code, 1);
    assert.equal(textOf('encode.ts'), 'export {};\n');
  });

  it('names a folder that is in the way, and writes nothing', async () => {
    mkdirSync(pathOf('problem.ts'), { recursive: true });
    const { code, stderr } = await run('copy', ['--force', 'limiter', folder]);
    assert.deepEqual([code, stderr], [1, `sluice copy: ${pathOf('problem.ts')} is a folder; move it away\n`]);
    assert.deepEqual(readdirSync(folder), ['problem.ts']);
  });

  it('follows no symbolic link, and waits for no named pipe', {
    skip: process.platform === 'win32',
  }, async () => {
    mkdirSync(folder, { recursive: true });
    symlinkSync(join(base, 'outside.ts'), pathOf('encode.ts'));
    execFileSync('mkfifo', [pathOf('replay.ts')]);
    for (const name of ['encode', 'replay']) {
      const { code, stderr } = await run('copy', ['--force', name, folder]);
      assert.equal(code, 1);
      assert.equal(stderr, `sluice copy: ${pathOf(`${name}.ts`)} is no regular file; move it away\n`);
    }
    assert.ok(!existsSync(join(base, 'outside.ts')));
  });

  it('ends with 1 where the folder cannot be made, or is a file', async () => {
    const file = join(base, 'a file');
    writeFileSync(file, '');
    for (const [place, code] of [
      ...(process.platform === 'linux' ? ([['/proc/x/y', 'ENOENT']] as const) : []),
      [file, 'ENOTDIR'],
      [join(file, 'x'), 'ENOTDIR'],
    ] as const) {
      const { code: exit, stderr } = await run('copy', ['encode', place]);
      assert.equal(exit, 1);
      assert.match(stderr, new RegExp(`^sluice copy: ${code}: .*\n$`));
    }
  });

  it('writes nothing after it was interrupted', async () => {
    const { code, stdout } = await run('copy', ['encode', folder], { signal: AbortSignal.abort('SIGINT') });
    assert.deepEqual([code, stdout, readdirSync(folder)], [130, '', []]);
  });

  for (const [argv, message] of [
    [[], 'expected modules and then a folder, got nothing'],
    [['encode'], 'expected modules and then a folder, got only "encode"'],
    [['limter', 'src'], 'unknown module "limter" (did you mean limiter?)'],
    [['constructor', 'src'], 'unknown module "constructor"; sluice copy --list prints all'],
    [['encode', 'writer'], '"writer" is a module; name the folder last, as ./writer if that is it'],
    [
      ['encode', 'limiter.ts'],
      '"limiter.ts" is a module; name the folder last, as ./limiter.ts if that is it',
    ],
    [['encode', 'server'], '"server" is a module; name the folder last, as ./server if that is it'],
    [['server', 'src'], '"server" cannot be copied: it needs dashboard/dashboard.ts; use the package'],
    [['--check'], '--check expects one folder, got none'],
    [['--check', 'a', 'b'], '--check expects one folder, got 2'],
    [['--check', '--js', 'a'], '--check cannot be given with --js'],
    [['--list', '--force'], '--list cannot be given with --force'],
  ] as const) {
    it(`reports the mistake in one line and exits with 2: sluice copy ${argv.join(' ')}`, async () => {
      const { code, stdout, stderr } = await run('copy', argv);
      assert.deepEqual([code, stdout, stderr], [2, '', `sluice copy: ${message}; see sluice copy --help\n`]);
      assert.ok(!existsSync(argv.at(-1) ?? 'src') || argv.length === 0);
    });
  }
});

describe('sluice copy --check', () => {
  it('finds nothing in copies that are what this version has, whatever else is in the folder', async () => {
    await copy('limiter', folder);
    writeFileSync(pathOf('mine.ts'), 'export {};\n');
    mkdirSync(pathOf('more.ts'));
    if (process.platform !== 'win32') {
      symlinkSync('user@host.1234', pathOf('.#encode.ts'));
      symlinkSync(folder, pathOf('link.ts'));
      execFileSync('mkfifo', [pathOf('pipe.ts')]);
    }
    const expected = `5 of 5 copies are what sluice ${version} has\n`;
    assert.equal(await copy('--check', folder), expected);
  });

  it('does not take other line ends or lines before the header for a change', async () => {
    await copy('encode', folder);
    change('encode.ts', (text) => `/* eslint-disable */\n${text}`.replaceAll('\n', '\r\n'));
    assert.match(await copy('--check', folder), /^1 of 1 /);
  });

  it('tells a copy that was changed from one that this version has otherwise, and exits with 1', async () => {
    await copy('limiter', 'semaphore', folder);
    change('address.ts', (text) => text.replace('export', 'export  '));
    const header = { version: '0.0.1', origin: 'x', license: 'MIT', copyright: 'Copyright' };
    const write = (file: string, text: string): void =>
      writeFileSync(pathOf(file), withHeader({ ...header, file }, text));
    write('encode.ts', 'export const old = 1;\n');
    write('gone.ts', 'export {};\n');
    write('problem.ts', readFileSync(join(root, 'lib/problem.ts'), 'utf8'));
    write('semaphore.ts', 'export const old = 1;\n');
    change('semaphore.ts', (text) => text.replace('old', 'mine'));
    const { code, stdout } = await run('copy', ['--check', folder]);
    assert.equal(code, 1);
    assert.deepEqual(stdout.split('\n'), [
      `${pathOf('address.ts')}: copied from sluice ${version} and changed`,
      `${pathOf('encode.ts')}: copied from sluice 0.0.1; sluice ${version} has another encode.ts`,
      `${pathOf('gone.ts')}: copied from sluice 0.0.1; sluice ${version} has no gone.ts`,
      `${pathOf('semaphore.ts')}: copied from sluice 0.0.1 and changed; sluice ${version} has another semaphore.ts`,
      `3 of 7 copies are what sluice ${version} has`,
      '',
    ]);
  });

  it('exits with 2 for a folder without copies, so that a wrong path is no success', async () => {
    mkdirSync(folder, { recursive: true });
    const { code, stderr } = await run('copy', ['--check', folder]);
    assert.equal(code, 2);
    assert.match(stderr, /: \S+ holds no copies of sluice; see /);
  });

  it('exits with 1 for a folder that does not exist', async () => {
    const { code, stderr } = await run('copy', ['--check', folder]);
    assert.equal(code, 1);
    assert.match(stderr, /^sluice copy: ENOENT: .*src\/sse.*\n$/);
  });
});
