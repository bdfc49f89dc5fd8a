// Finds the programs of Node under which servers and benches run. Readers, publishers outside a server and
// this command itself stay on the Node that runs this command, so that the load is the same for all.

import { execFileSync, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Misuse } from '../options.ts';

export interface NodeProgram {
  /** `Node` and its version; where two have the same version, its path after that. */
  readonly name: string;
  readonly path: string;
  /** The version of its interface for compiled modules. */
  readonly modules: string;
}

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

/** The Node that runs this command. */
export const own: NodeProgram = {
  name: `Node ${process.versions.node}`,
  path: process.execPath,
  modules: process.versions.modules,
};

let chosen = own;

/** The Node under which servers and benches start now. */
export function chosenNode(): NodeProgram {
  return chosen;
}

/** Starts servers and benches under this Node from now on. */
export function choose(node: NodeProgram): void {
  chosen = node;
}

/**
 * The programs that are named by a major version or a path; our own where none is named.
 * @param isInstalling Whether a version that is missing may be fetched.
 * @throws {Misuse}
 */
export function nodesOf(words: readonly string[], isInstalling: boolean): NodeProgram[] {
  if (words.length === 0) return [own];
  const found = words.map((word) => programOf(word, isInstalling));
  const different = found.filter((one, i) => found.findIndex(({ path }) => path === one.path) === i);
  const isTwice = ({ name }: NodeProgram) => different.filter((one) => one.name === name).length > 1;
  return different.map((one) => (isTwice(one) ? { ...one, name: `${one.name} (${one.path})` } : one));
}

function programOf(word: string, isInstalling: boolean): NodeProgram {
  const path = /^\d+$/.test(word) ? join(folderOf(word, isInstalling), 'node') : word;
  const script = 'JSON.stringify([process.versions.node, process.versions.modules, process.execPath])';
  try {
    const [version, modules, program] = JSON.parse(
      execFileSync(path, ['-p', script], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }),
    ) as [string, string, string];
    return { name: `Node ${version}`, path: program, modules };
  } catch {
    throw new Misuse(`\`--node\` must be a major version, such as 24, or a program of Node, got "${word}"`);
  }
}

/** `.ci/node` has the rule. */
function folderOf(major: string, isInstalling: boolean): string {
  const argv = isInstalling ? [major] : ['--no-install', major];
  const { status, stdout } = spawnSync(here('../../.ci/node'), argv, { encoding: 'utf8' });
  const why = isInstalling ? 'it cannot be fetched' : '`--no-install` keeps it from being fetched';
  if (status !== 0) throw new Misuse(`Node ${major} is not here, and ${why}`);
  return stdout.trim();
}
