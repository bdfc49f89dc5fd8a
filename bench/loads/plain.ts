// The servers under test as plain JavaScript, as their users run them. A loader that compiles TypeScript on the way
// gives every function its name anew whenever it is made: some hundred bytes and a microsecond for each connection.

import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));
const folders = ['lib', 'bench/loads', 'bench/peers', 'bench/scenarios/fixtures'];

let made: string | undefined;

/** Where a file of these folders, named from the root, is as JavaScript. Made once a run, gone with this process. */
export function plain(path: string): string {
  made ??= make();
  return join(made, path.replace(/\.ts$/, '.js'));
}

/** Beside the peers' packages, so that they are found from there. @throws what the compiler says, when it fails. */
function make(): string {
  const to = mkdtempSync(join(root, 'bench/peers/.plain-'));
  process.on('exit', () => rmSync(to, { recursive: true, force: true }));
  const sources = folders.flatMap((folder) =>
    readdirSync(join(root, folder))
      .filter((name) => name.endsWith('.ts') && !/\.(test|d)\.ts$/.test(name))
      .map((name) => join(folder, name)),
  );
  copyFileSync(join(root, 'package.json'), join(to, 'package.json'));
  const config = join(to, 'tsconfig.json');
  const compilerOptions = {
    noCheck: true,
    noEmit: false,
    allowImportingTsExtensions: false,
    declaration: false,
    isolatedDeclarations: false,
    rootDir: root,
    outDir: to,
  };
  const files = sources.map((path) => join(root, path));
  writeFileSync(
    config,
    JSON.stringify({ extends: join(root, 'tsconfig.json'), compilerOptions, files, include: [] }),
  );
  const compiler = join(root, 'node_modules/typescript/bin/tsc');
  const { status, stdout, stderr } = spawnSync(process.execPath, [compiler, '-p', config], {
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`the servers do not compile: ${stdout}${stderr}`);
  return to;
}
