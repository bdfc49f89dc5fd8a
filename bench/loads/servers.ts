// Lists the servers under test: how each starts, and which version it is. What each guarantees:
// peers/guarantees.ts.

import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { isOurs, peerAt } from '../scenarios/scenario.ts';
import { type Commit, pathOf } from './commit.ts';
import { built, compiled, type Served, startNode, startServed } from './lead.ts';
import { module, startNchan } from './nchan.ts';
import { chosenNode, type NodeProgram } from './nodes.ts';

interface ServerKind {
  /** Its name in tables. */
  readonly title: string;
  /** Whether it serves `POST /answer`. */
  readonly answers: boolean;
  /** The versions of the installed packages or programs; empty where Node is all there is to it. */
  version(): string;
  /** Why it cannot run here; `undefined` when it can. */
  missing(): string | undefined;
  /** @param flags for Node; other runtimes ignore them. */
  start(flags: readonly string[]): Promise<Served>;
}

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
const modules = here('../peers/node_modules');

/** A server of `peers/` that runs on Node and needs these npm packages. */
function onNode(peer: string, title: string, ...packages: string[]): ServerKind {
  return {
    title,
    answers: true,
    version: () => packages.map((name) => `${name} ${versionOf(name)}`).join(', '),
    missing: () => {
      const absent = packages.find((name) => !existsSync(`${modules}/${name}/package.json`));
      return absent && `npm package ${absent} is not installed: npm ci --prefix bench/peers`;
    },
    start: (flags) => startNode(peer, flags),
  };
}

function versionOf(name: string): string {
  return versionIn(`${modules}/${name}/package.json`);
}

function versionIn(manifest: string): string {
  return (JSON.parse(readFileSync(manifest, 'utf8')) as { version: string }).version;
}

/** What a program prints; `undefined` where it is missing or fails. */
function said(command: string, ...argv: string[]): string | undefined {
  const { status, stdout, stderr } = spawnSync(command, argv, { encoding: 'utf8' });
  return status === 0 ? `${stdout}${stderr}`.trim() : undefined;
}

const uwebsockets = onNode('uwebsockets', 'uWebSockets.js, corked', 'uwebsockets');
const uwebsocketsBinary = ({ modules: abi }: NodeProgram): string =>
  `${modules}/uwebsockets/uws_${process.platform}_${process.arch}_${abi}.node`;

const gocode = '/usr/share/gocode';

function gin(): string | undefined {
  const files = ['peer', 'clients', 'host'].map((name) => here(`../peers/gin/${name}.go`));
  const build = (program: string) => ['go', 'build', '-o', program, ...files];
  return built('gin', build, { GO111MODULE: 'off', GOPATH: gocode, GOFLAGS: '' });
}

const kinds: Record<string, ServerKind> = {
  sluice: {
    ...onNode('sluice', 'sluice'),
    version: () => `sluice ${versionIn(here('../../package.json'))}`,
  },
  server: {
    ...onNode('server', 'sluice, createSseServer'),
    answers: false,
    version: () => `sluice ${versionIn(here('../../package.json'))}`,
  },
  floor: {
    title: 'C, one write(2) (floor)',
    answers: false,
    version: () => said('cc', '--version')?.split('\n')[0] ?? '',
    missing: () => (compiled('floor') === undefined ? 'there is no C compiler' : undefined),
    start: () => startServed('floor', [compiled('floor')!]),
  },
  prepared: {
    title: 'C, prepared answers (floor)',
    answers: false,
    version: () => said('cc', '--version')?.split('\n')[0] ?? '',
    missing: () => (compiled('prepared') === undefined ? 'there is no C compiler' : undefined),
    start: () => startServed('prepared', [compiled('prepared')!]),
  },
  socket: {
    ...onNode('socket', 'Node, a chunk straight to the socket (floor)'),
    answers: false,
  },
  raw: onNode('raw', 'a loop of res.write'),
  zlib: { ...onNode('zlib', 'a gzip for each connection'), answers: false },
  'better-sse': onNode('better-sse', 'better-sse, channel', 'better-sse'),
  'sse-channel': onNode('sse-channel', 'sse-channel', 'sse-channel'),
  hono: onNode('hono', 'hono, streamSSE', 'hono', '@hono/node-server'),
  fastify: onNode('fastify', '@fastify/sse', '@fastify/sse', 'fastify'),
  h3: onNode('h3', 'h3, EventStream', 'h3'),
  uwebsockets: {
    ...uwebsockets,
    missing: () =>
      uwebsockets.missing() ??
      (existsSync(uwebsocketsBinary(chosenNode()))
        ? undefined
        : `npm package uwebsockets has no binary for ${chosenNode().name} here`),
  },
  gin: {
    title: 'Go Gin, channel per client',
    answers: true,
    version: () => {
      const [version, go] = said(gin() ?? '', 'version')?.split(' ') ?? [];
      return `Gin ${version?.slice(1)}, Go ${go?.slice(2)}`;
    },
    missing: () => {
      if (said('go', 'version') === undefined) return 'there is no Go (Debian: golang-go)';
      if (existsSync(`${gocode}/src/github.com/gin-gonic/gin`)) return undefined;
      return 'there is no Gin (Debian: golang-github-gin-gonic-gin-dev)';
    },
    start: async () => {
      const program = gin();
      if (program === undefined) throw new Error('gin: it does not compile');
      return startServed('gin', [program]);
    },
  },
  nchan: {
    title: 'nchan (nginx)',
    answers: false,
    version: () => {
      const nchan = /\d+\.\d+\.\d+/.exec(said('dpkg-query', '--show', 'libnginx-mod-nchan') ?? '');
      const nginx = said('nginx', '-v')?.split('/')[1];
      return `nchan ${nchan ?? 'of unknown version'}, nginx ${nginx}`;
    },
    missing: () => {
      if (said('nginx', '-v') === undefined) return 'there is no nginx';
      return module === undefined ? 'there is no nchan (Debian: libnginx-mod-nchan)' : undefined;
    },
    start: startNchan,
  },
};

/** By the name of their peer. */
export const servers: Readonly<Record<string, ServerKind>> = kinds;

/** Adds our servers of another commit: `sluice@35312b5` is `sluice` as it was there. */
export function addServersOf(commit: Commit): void {
  for (const [peer, own] of Object.entries(kinds).filter(([name]) => isOurs(name))) {
    const path = pathOf(commit, peer);
    kinds[peerAt(peer, commit.name)] = {
      ...own,
      title: `${own.title} at ${commit.name}`,
      version: () => `sluice ${versionIn(`${commit.root}/package.json`)} at ${commit.name}`,
      missing: () => (path === undefined ? `commit ${commit.name} has no bench/peers/${peer}.ts` : undefined),
      start: (flags) => startNode(path!, flags),
    };
  }
}

export function start(name: string, flags: readonly string[] = []): Promise<Served> {
  const kind = servers[name];
  if (kind === undefined) throw new TypeError(`there is no server "${name}"`);
  return kind.start(flags);
}
