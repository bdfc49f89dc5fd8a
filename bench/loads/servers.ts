// The servers there are, how each is started, and what each takes upon itself.

import { createRequire } from 'node:module';
import { compiled, type Served, startNode, startServed } from './lead.ts';

interface ServerKind {
  /** How it is called in tables. */
  readonly title: string;
  /** Why it cannot be run here; `undefined` when it can. */
  missing(): string | undefined;
  start(): Promise<Served>;
}

const peers = createRequire(new URL('../peers/package.json', import.meta.url));

/** One of `peers/`, that needs an npm package. */
function onNode(peer: string, title: string, needs?: string): ServerKind {
  return {
    title,
    missing: () => (needs === undefined || has(needs) ? undefined : `npm package ${needs} is not installed`),
    start: () => startNode(peer),
  };
}

function has(name: string): boolean {
  try {
    peers.resolve(name);
    return true;
  } catch {
    return false;
  }
}

export const servers: Readonly<Record<string, ServerKind>> = {
  sluice: onNode('sluice', 'sluice'),
  server: onNode('server', 'sluice, createSseServer'),
  floor: {
    title: 'C, one write(2) (floor)',
    missing: () => (compiled('floor') === undefined ? 'there is no C compiler' : undefined),
    start: () => startServed('floor', [compiled('floor')!]),
  },
  raw: onNode('raw', 'a loop of res.write'),
};

export function start(name: string): Promise<Served> {
  const kind = servers[name];
  if (kind === undefined) throw new TypeError(`there is no server "${name}"`);
  return kind.start();
}
