// Runs the programs of the docs as they stand, each in a process of its own.

import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { kept } from '../interop/helpers/children.ts';
import { here } from './docs.ts';
import { freePort } from './free-port.ts';
import type { Cleanup } from './server.ts';

export interface Program {
  readonly child: ChildProcess;
  /** All that it has written to standard output and standard error. */
  readonly output: () => string;
}

/** A folder that is removed when the test is over. */
export function temporaryFolder(t: Cleanup): string {
  const folder = mkdtempSync(join(tmpdir(), 'sluice-docs-'));
  t.after(() => rmSync(folder, { recursive: true, force: true, maxRetries: 10 }));
  return folder;
}

/** Starts a program from this file, in its folder. Its modules of `sluice` are those of lib/. */
export function startProgram(folder: string, file: string, code: string): Program {
  writeFileSync(join(folder, file), here(code));
  const args = ['--import', import.meta.resolve('tsx'), join(folder, file)];
  const child = kept(spawn(process.execPath, args, { cwd: folder }));
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk) => {
      output += chunk;
    });
  }
  return { child, output: () => output };
}

/** Starts a program that is a server, on a free port or this one in the place of 8080, and waits until it answers. */
export async function serveProgram(
  folder: string,
  code: string,
  port?: number,
): Promise<Program & { readonly url: string; readonly port: number }> {
  const at = port ?? (await freePort());
  const url = `http://127.0.0.1:${at}`;
  const program = startProgram(folder, `example-${at}.mts`, code.replaceAll('8080', String(at)));
  await accepted(url, program);
  return { ...program, url, port: at };
}

async function accepted(url: string, { child, output }: Program): Promise<void> {
  while (child.exitCode === null) {
    try {
      await fetch(url, { method: 'HEAD' });
      return;
    } catch {
      await sleep(20);
    }
  }
  throw new Error(`the example ended: ${output()}`);
}
