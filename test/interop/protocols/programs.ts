// Runs the programs of docs/protocols.md as they stand, but for the port and for shorter intervals.

import { once } from 'node:events';
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, type TestContext } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';
import type { Hub } from '../../../lib/hub.ts';
import { examplesOf, here } from '../../helpers/docs.ts';
import { serve, type TestServer } from '../../helpers/server.ts';

export const examples: ReturnType<typeof examplesOf> = examplesOf(
  new URL('../../../docs/protocols.md', import.meta.url),
);
export const folder: string = mkdtempSync(join(tmpdir(), 'sluice-protocols-'));
symlinkSync(fileURLToPath(new URL('node_modules', import.meta.url)), join(folder, 'node_modules'));
after(() => rmSync(folder, { recursive: true }));

interface Program {
  readonly server: Server;
  readonly hub?: Hub;
  readonly publish?: (text: string) => string;
}

export interface Served {
  readonly server: TestServer;
  readonly url: string;
  /** Answers what no route does. */
  readonly program: Server;
  readonly hub: Hub;
  publish(text: string): string;
  /** Every answer so far that began: its request, and the response. */
  readonly answers: readonly Answer[];
  /** Cuts off every connection, and resolves once the program has noticed. */
  cut(): Promise<void>;
}

export interface Answer {
  readonly method: string | undefined;
  readonly path: string;
  readonly lastEventId: string | undefined;
  readonly response: ServerResponse;
}

export type Route = (req: IncomingMessage, res: ServerResponse) => void;

let programs = 0;

async function load(name: string): Promise<Program> {
  const heartbeats = (code: string): string =>
    code.includes('heartbeat: {')
      ? code.replace('heartbeat: {', 'heartbeat: { interval: 20,')
      : code.replace('serveEvents(hub, {', 'serveEvents(hub, { heartbeat: { interval: 20 },');
  const code = heartbeats(here(examples.get(name)!.code))
    .replace('new Heartbeat()', 'new Heartbeat({ interval: 20 })')
    .replace('new Hub()', 'new Hub({ retry: 100 })')
    .replace(/^createServer\(/m, 'export const server = createServer(')
    .replace(".listen(8080, '127.0.0.1')", '')
    .replace(/^const (hub|publish) =/gm, 'export const $1 =');
  const file = join(folder, `${name}-${++programs}.mts`);
  writeFileSync(file, code);
  return (await import(pathToFileURL(file).href)) as Program;
}

/** Serves a program until the test is over, behind some routes of a page. */
export async function serving(
  t: TestContext,
  name: string,
  routes: Readonly<Record<string, Route>> = {},
): Promise<Served> {
  const { server: program, hub, publish } = await load(name);
  const answers: Answer[] = [];
  const server = await serve(t, (req, res) => {
    const path = req.url!.split('?')[0]!;
    const lastEventId = req.headers['last-event-id'] as string | undefined;
    answers.push({ method: req.method, path, lastEventId, response: res });
    const route = routes[path];
    if (route === undefined) program.emit('request', req, res);
    else route(req, res);
  });
  const cut = async (): Promise<void> => {
    const open = answers.map(({ response }) => response).filter(({ closed }) => !closed);
    const closed = open.map((response) => once(response, 'close'));
    server.server.closeAllConnections();
    await Promise.all(closed);
  };
  return { server, url: server.url.slice(0, -1), program, hub: hub!, publish: publish!, answers, cut };
}

/** Waits until a condition holds; the limit of the test ends a wait that is in vain. */
export async function until(holds: () => unknown): Promise<void> {
  while (!(await holds())) await new Promise((resolve) => setTimeout(resolve, 10));
}
