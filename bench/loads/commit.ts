// Gets another commit of this repository ready, so that its servers run beside ours.

import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { Misuse } from '../options.ts';
import { compile, root, runFolder } from './plain.ts';

export interface Commit {
  /** Its abbreviated hash. */
  readonly name: string;
  /** The folder with all its files, and with its servers compiled beside their sources. */
  readonly root: string;
}

/**
 * Puts the files of a commit into this run's folder and compiles its servers there.
 * @throws {Misuse} where there is no checkout, no such commit, or the commit does not compile.
 */
export function checkOut(revision: string): Commit {
  const name = nameOf(revision);
  const to = join(runFolder(), name);
  mkdirSync(to, { recursive: true });
  const archive = git('archive', name);
  const { status } = spawnSync('tar', ['-x', '-C', to], { input: archive.stdout });
  if (archive.status !== 0 || status !== 0) throw new Misuse(`commit ${name} cannot be unpacked`);
  try {
    compile(to, to);
  } catch (error) {
    throw new Misuse(`commit ${name}: ${(error as Error).message.trim().split('\n')[0]}`);
  }
  return { name, root: to };
}

/**
 * The name by which `host.ts` imports a peer of that commit; `undefined` where the commit has no such peer.
 */
export function pathOf({ root: from }: Commit, peer: string): string | undefined {
  if (!existsSync(join(from, `bench/peers/${peer}.js`))) return undefined;
  return relative(join(runFolder(), 'bench/peers'), join(from, 'bench/peers', peer));
}

/** The command `sluice` of that commit as JavaScript; `undefined` where it has none. */
export function commandOf({ root: from }: Commit): string | undefined {
  const { bin } = JSON.parse(readFileSync(join(from, 'package.json'), 'utf8')) as Manifest;
  const path = bin?.sluice && join(from, bin.sluice.replace('dist', 'lib'));
  return path !== undefined && existsSync(path) ? path : undefined;
}

interface Manifest {
  /** Each file of `lib/` is in `dist/` once the package is built. */
  readonly bin?: { readonly sluice?: string };
}

function nameOf(revision: string): string {
  const inside = git('rev-parse', '--git-dir');
  if (inside.error !== undefined) throw new Misuse('`--against` needs git, which is not installed');
  if (inside.status !== 0) throw new Misuse(`\`--against\` needs a git checkout, and ${root} is not one`);
  const { status, stdout } = git('rev-parse', '--verify', '--quiet', '--short', `${revision}^{commit}`);
  if (status !== 0)
    throw new Misuse(`\`--against\` must name a commit of this repository, got "${revision}"`);
  return stdout.toString().trim();
}

function git(...argv: string[]): ReturnType<typeof spawnSync> {
  return spawnSync('git', ['-C', root, ...argv], {
    maxBuffer: Infinity,
    stdio: ['ignore', 'pipe', 'ignore'],
  });
}
