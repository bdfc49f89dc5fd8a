// Builds an application from a recipe with the tool of its framework, and starts what that has made.

import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { freePort } from '../../helpers/free-port.ts';
import { accepts, type Host, hostOf, openControl, recipe } from './host.ts';

const root = fileURLToPath(new URL('../../..', import.meta.url));

/** Where the packages are. */
export const frameworks: string = fileURLToPath(new URL('.', import.meta.url));

/** A file of an application: an example of a recipe, with what the suite adds at its end, or a text. */
export type AppFile =
  | { readonly page: string; readonly example: string; readonly added?: string }
  | { readonly text: string };

/** Lets a program of an example that has `hub` and `events` be asked for them, but not while it is built. */
export function exposing(control: string): string {
  return `import { expose } from '${control}';
    if (process.env.SUITE_PORT !== undefined) expose({ hub, streams: events.streams });`;
}

/** The configuration of types for a bundler, of these files. */
export function tsconfigFor(include: readonly string[], options: object = {}): AppFile {
  const compilerOptions = {
    strict: true,
    noEmit: true,
    skipLibCheck: true,
    target: 'es2023',
    module: 'esnext',
    moduleResolution: 'bundler',
    types: ['node'],
    ...options,
  };
  return { text: JSON.stringify({ compilerOptions, include }) };
}

/** An application in a folder of its own, beside the packages: bundlers follow no link out of their root. */
export class BuiltApp {
  readonly #folder = mkdtempSync(join(frameworks, '.built-'));
  readonly #env: NodeJS.ProcessEnv;

  constructor(files: Readonly<Record<string, AppFile>>, env: Readonly<Record<string, string>> = {}) {
    this.#env = { ...process.env, NO_COLOR: '1', ...env };
    for (const [name, file] of Object.entries(files)) {
      const text = 'text' in file ? file.text : `${recipe(file.page, file.example)}\n${file.added ?? ''}\n`;
      mkdirSync(dirname(join(this.#folder, name)), { recursive: true });
      writeFileSync(join(this.#folder, name), text);
    }
  }

  /** Installs sluice as npm does, and runs the build: a file of a package, and its arguments. */
  async build(tool: string, ...args: string[]): Promise<void> {
    const installed = join(this.#folder, 'node_modules/sluice');
    const compiler = join(root, 'node_modules/typescript/bin/tsc');
    const dist = join(installed, 'dist');
    await this.#run([compiler, '-p', join(root, 'tsconfig.build.json'), '--outDir', dist]);
    cpSync(join(root, 'package.json'), join(installed, 'package.json'));
    await this.#run([join(frameworks, 'node_modules', tool), ...args]);
  }

  /** Checks the types, as its tsconfig.json says. */
  async check(): Promise<void> {
    await this.#run([join(root, 'node_modules/typescript/bin/tsc'), '-p', '.']);
  }

  async #run(args: readonly string[]): Promise<void> {
    const running = promisify(execFile)(process.execPath, args, { cwd: this.#folder, env: this.#env });
    await running.catch(({ stdout, stderr }) => assert.fail(`${stdout}${stderr}`));
  }

  /**
   * Starts it with a file of a package, or without one where `tool` is undefined. `{port}` in the arguments
   * stands for the port, which `PORT` has as well.
   */
  async start(path: string, tool: string | undefined, ...args: string[]): Promise<Host> {
    const port = await freePort();
    const control = await openControl();
    const withPort = args.map((arg) => arg.replace('{port}', String(port)));
    const program = tool === undefined ? [] : [join(frameworks, 'node_modules', tool)];
    const child = spawn(process.execPath, [...program, ...withPort], {
      cwd: this.#folder,
      env: { ...this.#env, HOST: '127.0.0.1', PORT: String(port), SUITE_PORT: String(control.port) },
    });
    const url = `http://127.0.0.1:${port}${path}`;
    const host = hostOf(child, url, control.hub, control.close);
    const ended = once(child, 'exit').then(() => assert.fail(host.lines.join('\n')));
    ended.catch(() => {});
    try {
      await Promise.race([accepts(port), ended]);
      // Some load a route with its first request.
      const { status } = await fetch(`${url}?topic=first`, { method: 'HEAD' });
      assert.equal(status, 200, host.lines.join('\n'));
      await control.connected;
    } catch (error) {
      await host.close();
      throw error;
    }
    return host;
  }

  remove(): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
