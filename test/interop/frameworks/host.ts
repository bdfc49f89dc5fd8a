// Runs the program of a recipe, as the Markdown has it, in a process of its own.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { cert, key } from '../../fixtures/tls.ts';
import { examplesOf, here } from '../../helpers/docs.ts';
import { freePort } from '../../helpers/free-port.ts';
import type { Commands } from './control.ts';

/** A program that serves a hub's events inside a framework. */
export interface Host {
  /** Of the stream, without a query. */
  readonly url: string;
  readonly hub: RemoteHub;
  /** What the program and its framework have written to standard output and standard error. */
  readonly lines: readonly string[];
  /** Stops the program as its platform does, by SIGTERM, and waits for its end. */
  stop(): Promise<{ code: number | null; signal: string | null }>;
  /** Kills the program if it still runs, and removes its folder. */
  close(): Promise<void>;
}

/** The hub of a host, and its streams. */
export interface RemoteHub {
  publish(topic: string, ...texts: string[]): Promise<string[]>;
  fill(topic: string, count: number, bytes: number): Promise<null>;
  end(topic: string): Promise<boolean>;
  streams(): Promise<Commands['streams']['answer']>;
}

/** Where the recipes are. */
export const recipes: URL = new URL('../../../docs/recipes/', import.meta.url);

/** The code of an example of a recipe, as the Markdown has it. */
export function recipe(page: string, example: string): string {
  const found = examplesOf(new URL(`${page}.md`, recipes)).get(example);
  if (found === undefined) throw new Error(`docs/recipes/${page}.md has no example "${example}"`);
  return found.code;
}

export interface RecipeOptions {
  readonly page: string;
  readonly example: string;
  /** The path of the stream; default `/events`. */
  readonly path?: string;
  readonly scheme?: 'http' | 'https';
  /** Packages that the program gets instead of those that it names: `{ express: 'express4' }`. */
  readonly packages?: Readonly<Record<string, string>>;
  /** The program that runs the file, and its arguments before that; default Node with tsx. */
  readonly command?: readonly [program: string, ...args: string[]];
}

const NODE = [process.execPath, '--import', import.meta.resolve('tsx')] as const;

/** Starts an example of a recipe on a free port. */
export async function startRecipe(options: RecipeOptions): Promise<Host> {
  const { page, example, path = '/events', scheme = 'http', packages = {}, command = NODE } = options;
  const [program, ...args] = command;
  const port = await freePort();
  const folder = makeProject();
  const file = join(folder, 'server.ts');
  let code = here(recipe(page, example)).replaceAll('8080', String(port));
  for (const [name, instead] of Object.entries(packages)) code = code.replaceAll(`'${name}'`, `'${instead}'`);
  writeFileSync(file, `${code}\n${EXPOSING}`);
  const control = await openControl();
  const child = spawn(program, [...args, file], {
    cwd: folder,
    env: { ...process.env, SUITE_PORT: String(control.port), NO_COLOR: '1' },
  });
  const host = hostOf(child, `${scheme}://127.0.0.1:${port}${path}`, control.hub, () => {
    control.close();
    rmSync(folder, { recursive: true, force: true });
  });
  try {
    await Promise.race([accepts(port), once(child, 'exit').then(() => fail(host.lines))]);
    await control.connected;
  } catch (error) {
    await host.close();
    throw error;
  }
  return host;
}

function fail(lines: readonly string[]): never {
  throw new Error(`the program has ended: ${lines.join('\n')}`);
}

const EXPOSING = `import { expose } from '${fileURLToPath(new URL('control.ts', import.meta.url))}';
expose({ hub, streams: events.streams });
`;

/** A host of a process that was started. */
export function hostOf(child: ChildProcess, url: string, hub: RemoteHub, cleanUp: () => void): Host {
  const lines: string[] = [];
  for (const output of [child.stdout!, child.stderr!])
    createInterface(output).on('line', (line) => lines.push(line));
  const ended = once(child, 'close') as Promise<[number | null, string | null]>;
  return {
    url,
    hub,
    lines,
    async stop() {
      child.kill('SIGTERM');
      const [code, signal] = await ended;
      return { code, signal };
    },
    async close() {
      child.kill('SIGKILL');
      await ended;
      cleanUp();
    },
  };
}

/** A folder like that of a project that has installed the frameworks. */
export function makeProject(): string {
  const folder = mkdtempSync(join(tmpdir(), 'sluice-recipe-'));
  mkdirSync(folder, { recursive: true });
  symlinkSync(fileURLToPath(new URL('node_modules', import.meta.url)), join(folder, 'node_modules'));
  writeFileSync(join(folder, 'package.json'), '{ "type": "module" }');
  writeFileSync(join(folder, 'tsconfig.json'), '{ "compilerOptions": { "experimentalDecorators": true } }');
  writeFileSync(join(folder, 'key.pem'), key);
  writeFileSync(join(folder, 'cert.pem'), cert);
  return folder;
}

export interface Control {
  readonly port: number;
  readonly hub: RemoteHub;
  /** Resolves once the program has called `expose`. */
  readonly connected: Promise<unknown>;
  close(): void;
}

/** Waits for a program that calls `expose` of control.ts, with `port` in the variable `SUITE_PORT`. */
export async function openControl(): Promise<Control> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const waiting = new Map<number, (answer: unknown) => void>();
  const socket = once(server, 'connection').then(([opened]: Socket[]) => {
    createInterface(opened!.on('error', () => {})).on('line', (line) => {
      const { id, answer } = JSON.parse(line);
      waiting.get(id)?.(answer);
      waiting.delete(id);
    });
    return opened!;
  });
  let asked = 0;
  async function ask<Name extends keyof Commands>(
    name: Name,
    command: Commands[Name]['ask'],
  ): Promise<Commands[Name]['answer']> {
    const id = asked++;
    (await socket).write(`${JSON.stringify({ id, do: name, ...command })}\n`);
    return new Promise((resolve) => waiting.set(id, resolve as (answer: unknown) => void));
  }
  return {
    port: (server.address() as { port: number }).port,
    connected: socket,
    hub: {
      publish: (topic, ...texts) => ask('publish', { topic, texts }),
      fill: (topic, count, bytes) => ask('fill', { topic, count, bytes }),
      end: (topic) => ask('end', { topic }),
      streams: () => ask('streams', {}),
    },
    close() {
      server.close();
      socket.then((opened) => opened.destroy());
    },
  };
}

/** Waits until something listens on a port. */
export async function accepts(port: number): Promise<void> {
  for (;;) {
    const socket = connect(port, '127.0.0.1');
    const isOpen = await new Promise((resolve) =>
      socket.on('connect', () => resolve(true)).on('error', () => resolve(false)),
    );
    socket.destroy();
    if (isOpen) return;
    await sleep(20);
  }
}
