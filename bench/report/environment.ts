// Says where figures were measured, and with what.

import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { cpus, platform, release, totalmem } from 'node:os';
import { fileURLToPath } from 'node:url';
import { canPin } from '../loads/lead.ts';
import type { Environment } from './report.ts';

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

export function environment(now: Date = new Date()): Environment {
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
    isPinned: canPin,
    versions: { ...npmVersions('../'), ...npmVersions('../peers/'), ...toolVersions() },
  };
}

export function environmentLines(of: Environment): string[] {
  const { date, commit, isChanged, cpu, cores, memoryBytes, kernel, node, isPinned, versions } = of;
  return [
    `${date.slice(0, 16).replace('T', ' ')} UTC, commit ${commit}${isChanged ? ', with changes' : ''}`,
    `${cpu}, ${cores} cores, ${(memoryBytes / 2 ** 30).toFixed(0)} GiB, ${kernel}, Node ${node}`,
    isPinned ? 'servers on the first core, readers on the second' : 'processes are not pinned to cores',
    Object.entries(versions)
      .map((pair) => pair.join(' '))
      .join(', ') || 'no peers',
  ];
}

/** Of what a manifest asks for, as it is installed. */
function npmVersions(folder: string): Record<string, string> {
  const read = (path: string) => JSON.parse(readFileSync(here(`${folder}${path}`), 'utf8'));
  const { dependencies = {} } = read('package.json') as { dependencies?: Record<string, string> };
  const names = Object.keys(dependencies).filter((name) =>
    existsSync(here(`${folder}node_modules/${name}/package.json`)),
  );
  return Object.fromEntries(names.map((name) => [name, read(`node_modules/${name}/package.json`).version]));
}

function toolVersions(): Record<string, string> {
  const debian = (name: string) => said('dpkg-query', ['-W', name])?.split('\t')[1];
  const versions = {
    cc: said('cc', ['-dumpfullversion']),
    go: said('go', ['version'])?.replace(/^go version go(\S+).*/, '$1'),
    gin: debian('golang-github-gin-gonic-gin-dev'),
    nginx: debian('nginx-core') ?? debian('nginx'),
    nchan: debian('libnginx-mod-nchan'),
  };
  return Object.fromEntries(
    Object.entries(versions).filter((pair): pair is [string, string] => pair[1] !== undefined),
  );
}

/** What a command printed; `undefined` when it is not there, failed, or had nothing to say. */
function said(command: string, argv: readonly string[]): string | undefined {
  const { status, stdout } = spawnSync(command, argv, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  return status === 0 ? stdout.trim().split('\n')[0] || undefined : undefined;
}
