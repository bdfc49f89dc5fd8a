// Compiles the servers under test, and the reader on Node, to plain JavaScript, as users run them. A loader
// that compiles TypeScript at run time wraps every function to keep its name: that costs each connection some
// hundred bytes and a microsecond.

import { spawnSync } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root: string = fileURLToPath(new URL('../..', import.meta.url));

/** Folders without folders of their own that are compiled; `lib` is, with all that is in it. */
const flat = ['bench/loads', 'bench/peers', 'bench/scenarios/fixtures'];
/** What `lib` reads at run time: the dashboard's files. */
const ASSETS = new Set(['.html', '.css', '.js', '.svg']);

let folder: string | undefined;
let isCompiled = false;

/** A file of this commit, named from the root, as JavaScript. Everything is compiled on the first call. */
export function plain(path: string): string {
  if (!isCompiled) {
    copyAssets(runFolder());
    compile(root, runFolder());
    // The reader looks for its packages beside `harness.ts`.
    symlinkSync(join(root, 'bench/node_modules'), join(runFolder(), 'bench/node_modules'));
    isCompiled = true;
  }
  return join(runFolder(), compiledName(path));
}

export function compiledName(path: string): string {
  return path.replace(/\.ts$/, '.js');
}

/**
 * This run's own folder: beside the peers' packages, so that they resolve, and removed when this process
 * exits.
 */
export function runFolder(): string {
  if (folder !== undefined) return folder;
  const made = mkdtempSync(join(root, 'bench/peers/.plain-'));
  process.on('exit', () => rmSync(made, { recursive: true, force: true }));
  folder = made;
  return made;
}

/**
 * Compiles the servers in a copy of the repository, into another folder or beside their sources.
 * @throws what the compiler reports.
 */
export function compile(from: string, to: string): void {
  const compilerOptions = {
    noCheck: true,
    noEmit: false,
    allowImportingTsExtensions: false,
    declaration: false,
    isolatedDeclarations: false,
    rootDir: from,
    outDir: to,
  };
  const files = [...filesOf(from, 'lib', true), ...flat.flatMap((name) => filesOf(from, name, false))]
    .filter((path) => path.endsWith('.ts') && !/\.(test|d)\.ts$/.test(path))
    .map((path) => join(from, path));
  const config = join(to, 'tsconfig.plain.json');
  const content = { extends: join(from, 'tsconfig.json'), compilerOptions, files, include: [] };
  writeFileSync(config, JSON.stringify(content));
  const compiler = join(root, 'node_modules/typescript/bin/tsc');
  const { status, stdout, stderr } = spawnSync(process.execPath, [compiler, '-p', config], {
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`the servers do not compile: ${stdout}${stderr}`);
}

/** Named from the root; none where there is no such folder. */
function filesOf(from: string, name: string, isDeep: boolean): string[] {
  const path = join(from, name);
  if (!existsSync(path)) return [];
  return (readdirSync(path, { recursive: isDeep }) as string[]).map((file) => join(name, file));
}

function copyAssets(to: string): void {
  const assets = filesOf(root, 'lib', true).filter((path) => ASSETS.has(extname(path)));
  for (const path of ['package.json', ...assets]) {
    mkdirSync(dirname(join(to, path)), { recursive: true });
    copyFileSync(join(root, path), join(to, path));
  }
}
