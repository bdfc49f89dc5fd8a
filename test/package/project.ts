// Packs the package, and makes projects that have it installed, or that are empty, with the compilers of its users.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';
import { fileURLToPath } from 'node:url';

export const root: string = fileURLToPath(new URL('../..', import.meta.url));
export const compilers: readonly string[] = ['typescript59', 'typescript6', 'typescript7'];

const modules = fileURLToPath(new URL('node_modules', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'sluice-package-'));
after(() => rmSync(folder, { recursive: true, force: true }));

/** What npm packed. */
export const packed: Packed = pack();

interface Packed {
  readonly tarball: string;
  /** Bytes of the tarball. */
  readonly size: number;
  readonly files: readonly string[];
}

function pack(): Packed {
  const args = ['pack', '--json', '--ignore-scripts', '--pack-destination', folder];
  const answer = JSON.parse(execFileSync('npm', args, { cwd: root, encoding: 'utf8' }));
  // npm lists what it packed; from version 12 by the package's name.
  type Listed = { filename: string; size: number; files: { path: string }[] };
  const [{ filename, size, files }] = Object.values<Listed>(answer) as [Listed];
  return { tarball: join(folder, filename), size, files: files.map(({ path }) => path) };
}

/** An empty project with the types of Node in it. */
export function makeEmptyProject(name: string, fields: object): string {
  return withTypesOfNode(makeFolder(name, fields));
}

/** A project with the package and the types of Node in it. */
export function makeProject(name: string, fields: object): string {
  const project = makeFolder(name, fields);
  execFileSync('npm', ['install', '--silent', '--no-audit', '--no-fund', packed.tarball], { cwd: project });
  return withTypesOfNode(project);
}

function makeFolder(name: string, fields: object): string {
  const project = join(folder, name.replaceAll(/\W+/g, '-'));
  mkdirSync(project);
  writeFileSync(join(project, 'package.json'), JSON.stringify(fields));
  return project;
}

function withTypesOfNode(project: string): string {
  mkdirSync(join(project, 'node_modules/@types'), { recursive: true });
  symlinkSync(join(modules, '@types/node'), join(project, 'node_modules/@types/node'), 'junction');
  return project;
}

export function compile(compiler: string, project: string, ...args: string[]): void {
  const { status, stdout } = spawnSync(process.execPath, [join(modules, compiler, 'bin/tsc'), ...args], {
    cwd: project,
    encoding: 'utf8',
  });
  assert.equal(status, 0, stdout);
}
