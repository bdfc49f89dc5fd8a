// Describes the machine and the versions with which figures were measured.

import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { cpus, platform, release, totalmem } from 'node:os';
import { fileURLToPath } from 'node:url';
import { canPin } from '../loads/lead.ts';
import { type NodeProgram, own } from '../loads/nodes.ts';
import { servers } from '../loads/servers.ts';
import type { Environment, Report } from './report.ts';

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

/** @param nodes those under which servers and benches run. */
export function environment(nodes: readonly NodeProgram[] = [own], now: Date = new Date()): Environment {
  const commit = said('git', ['-C', here('.'), 'rev-parse', '--short=12', 'HEAD']);
  return {
    date: now.toISOString(),
    commit: commit ?? 'unknown',
    isChanged: said('git', ['-C', here('.'), 'status', '--porcelain', '-uno']) !== undefined,
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: cpus().length,
    memoryBytes: totalmem(),
    kernel: `${platform()} ${release()}`,
    node: process.version,
    nodes: nodes.map(({ name }) => name),
    isPinned: canPin,
    versions: versions(),
  };
}

/** What is wrong with the figures; nothing where they are complete. */
export function warningsOf({ isQuick, incomplete }: Pick<Report, 'isQuick' | 'incomplete'>): string[] {
  return [
    ...(isQuick ? ['A quick run: it checks that everything works; the figures mean nothing'] : []),
    ...(incomplete === undefined ? [] : [`Incomplete: ${incomplete}`]),
  ];
}

/** Begins with when and where; what follows is detail. */
export function headLines(of: Environment): string[] {
  const { date, commit, isChanged, cpu, cores, memoryBytes, kernel, isPinned, versions } = of;
  return [
    `${date.slice(0, 16).replace('T', ' ')} UTC, commit ${commit}${isChanged ? ', with changes' : ''}`,
    `${cpu}, ${cores} cores, ${(memoryBytes / 2 ** 30).toFixed(0)} GiB, ${kernel}`,
    nodesLine(of),
    isPinned ? 'servers on the first core, readers on the second' : 'processes are not pinned to cores',
    Object.entries(versions)
      .map((pair) => pair.join(': '))
      .join('; ') || 'no peers',
  ];
}

function nodesLine({ node, nodes = [`Node ${node.slice(1)}`] }: Environment): string {
  const loads = `Node ${node.slice(1)}`;
  const tested = new Intl.ListFormat('en').format(nodes);
  return nodes.every((name) => name === loads)
    ? loads
    : `servers and benches on ${tested}, readers on ${loads}`;
}

/** The versions of the libraries in `micro` and of the servers. */
function versions(): Record<string, string> {
  const parts = ['eventsource-encoder', 'eventsource-parser'];
  const manifest = (name: string) => here(`../node_modules/${name}/package.json`);
  const versionIn = (path: string) => (JSON.parse(readFileSync(path, 'utf8')) as { version: string }).version;
  const libraries = parts
    .filter((name) => existsSync(manifest(name)))
    .map((name) => [name, versionIn(manifest(name))]);
  const known = Object.entries(servers)
    .filter(([, kind]) => kind.missing() === undefined)
    .flatMap(([name, kind]) => versionOf(kind).map((version) => [name, version]));
  return Object.fromEntries([...libraries, ...known]);
}

function versionOf({ version }: { title: string; version?: () => string }): string[] {
  return [version?.() ?? ''].filter((text) => text !== '');
}

/** The first line that a command printed; `undefined` when it is missing, failed or printed nothing. */
function said(command: string, argv: readonly string[]): string | undefined {
  const { status, stdout } = spawnSync(command, argv, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  return status === 0 ? stdout.trim().split('\n')[0] || undefined : undefined;
}
