// The path of a new user: an empty folder, the packed package, a page of the docs as it stands, `curl`.

import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { examplesOf } from '../../helpers/docs.ts';
import { freePort } from '../../helpers/free-port.ts';
import { Reading } from '../../helpers/reader.ts';
import { accepts, recipe } from './host.ts';

const root = fileURLToPath(new URL('../../..', import.meta.url));

describe('a new user', { timeout: 240_000 }, () => {
  it('gets the first event from an empty folder, and no complaint from the compiler', async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'sluice-new-user-'));
    t.after(() => rmSync(folder, { recursive: true, force: true }));
    const tarball = pack(folder);
    const project = join(folder, 'project');
    mkdirSync(project);
    const port = String(await freePort());
    const run = (command: string): ChildProcess => startIn(t, project, command.replace('8080', port));

    const start = performance.now();
    await succeeds(run(installed(recipe('express', 'install'), tarball)));
    writeFileSync(join(project, 'server.mjs'), recipe('express', 'express').replace('8080', port));
    const server = run(recipe('express', 'run'));
    await Promise.race([accepts(Number(port)), fails(server)]);
    const curl = run(recipe('express', 'watch'));
    await new Reading(curl.stdout!).until('\ndata: {"now":');
    t.diagnostic(`the first event came after ${seconds(start)} s`);
    server.kill('SIGTERM');
    // The stream ends properly for `curl`, and then the server.
    await Promise.all([succeeds(curl), succeeds(server)]);

    const types = performance.now();
    writeFileSync(join(project, 'server.mts'), recipe('express', 'express'));
    await succeeds(run(installed(recipe('express', 'types'), tarball)));
    t.diagnostic(`the types took ${seconds(types)} s`);
  });

  it('follows docs/start.md from an empty folder to a reader that resumes', async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'sluice-new-user-'));
    t.after(() => rmSync(folder, { recursive: true, force: true }));
    const tarball = pack(folder);
    const project = join(folder, 'project');
    mkdirSync(project);
    const port = String(await freePort());
    const run = (command: string): ChildProcess => startIn(t, project, command.replace('8080', port));
    const examples = examplesOf(new URL('../../../docs/start.md', import.meta.url));
    const example = (name: string): string => examples.get(name)!.code;

    await succeeds(run(installed(example('install'), tarball)));
    for (const [file, name] of [
      ['server.mjs', 'server'],
      ['page.html', 'page'],
      ['reader.mjs', 'reader'],
    ] as const)
      writeFileSync(join(project, file), example(name).replace('8080', port));
    const server = run(example('run'));
    await Promise.race([accepts(Number(port)), fails(server)]);
    const curl = run(example('watch'));
    const live = new Reading(curl.stdout!);
    await live.until('\ndata: {"count":');

    const read = async (): Promise<{ first: number; last: number }> => {
      const reader = run('node reader.mjs');
      const printed = new Reading(reader.stdout!);
      await Promise.race([printed.until('\n'), fails(reader)]);
      while (!existsSync(join(project, 'position.json'))) await sleep(20);
      const closed = once(reader, 'close');
      reader.kill();
      await closed;
      const counts = printed.text.match(/\d+/g)!.map(Number);
      return { first: counts[0]!, last: counts.at(-1)! };
    };
    const { last } = await read();
    await live.until(`{"count":${last + 2}}`);
    // At least once: the event whose position was not stored yet may come again.
    const { first } = await read();
    assert.ok(first <= last + 1, `${first} after ${last}`);
    server.kill('SIGTERM');
    await Promise.all([succeeds(curl), succeeds(server)]);
  });
});

function pack(folder: string): string {
  execFileSync('npm', ['run', '--silent', 'build'], { cwd: root });
  const args = ['pack', '--json', '--ignore-scripts', '--pack-destination', folder];
  const packed = JSON.parse(execFileSync('npm', args, { cwd: root, encoding: 'utf8' }));
  // npm lists what it packed; from version 12 by the package's name.
  const [{ filename }] = Object.values<{ filename: string }>(packed) as [{ filename: string }];
  return join(folder, filename);
}

const manifests = [
  new URL('package.json', import.meta.url),
  new URL('../../../package.json', import.meta.url),
].map((path) => JSON.parse(readFileSync(path, 'utf8')));
const versions: Readonly<Record<string, string>> = {
  ...manifests[1].devDependencies,
  ...manifests[0].dependencies,
};

/** A command that installs the versions which the other tests run with, and the packed package. */
function installed(command: string, tarball: string): string {
  return command.replace(/^npm install .+$/gm, (line) =>
    line
      .split(' ')
      .map((word) => (word === 'sluice' ? tarball : versions[word] ? `${word}@${versions[word]}` : word))
      .concat('--prefer-offline', '--no-audit', '--no-fund')
      .join(' '),
  );
}

function startIn(t: TestContext, cwd: string, command: string): ChildProcess {
  // `exec` puts the last command in place of the shell, so that a signal reaches it.
  const script = `set -e\n${command.trim().replace(/.+$/, 'exec $&')}`;
  const child = spawn('sh', ['-c', script], { cwd, stdio: ['ignore', 'pipe', 'pipe'] });
  t.after(() => child.kill('SIGKILL'));
  return child;
}

async function succeeds(child: ChildProcess): Promise<void> {
  const output = [new Reading(child.stdout!), new Reading(child.stderr!)];
  const [code, signal] = await once(child, 'close');
  assert.deepEqual({ code, signal }, { code: 0, signal: null }, output.map(({ text }) => text).join('\n'));
}

async function fails(child: ChildProcess): Promise<never> {
  const error = new Reading(child.stderr!);
  await once(child, 'close');
  throw new Error(`the server has ended: ${error.text}`);
}

const seconds = (start: number): string => ((performance.now() - start) / 1000).toFixed(1);
