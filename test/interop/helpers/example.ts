// The server of an example, as its README starts it, in a process of its own.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { Reading } from '../../helpers/reader.ts';
import { kept } from './children.ts';

export interface Example {
  readonly url: string;
  readonly child: ChildProcess;
  /** What it prints. */
  readonly said: Reading;
  /** As a service manager does it; resolves with the exit code. */
  stop(): Promise<number | null>;
}

export interface ExampleSetting {
  readonly port?: number | undefined;
  /** The Node that runs it; default that of the test. */
  readonly node?: string | undefined;
}

/** Runs until it is stopped. */
export async function startExample(
  name: string,
  argv: readonly string[],
  { port = 0, node = process.execPath }: ExampleSetting = {},
): Promise<Example> {
  const file = fileURLToPath(new URL(`../../../examples/${name}/server.ts`, import.meta.url));
  const words = ['--import', import.meta.resolve('tsx'), file, ...argv, '--port', `${port}`];
  const child = kept(spawn(node, words, { stdio: ['ignore', 'pipe', 'pipe'] }));
  const over = once(child, 'exit');
  const [said, complaints] = [new Reading(child.stdout!), new Reading(child.stderr!)];
  const stop = async (): Promise<number | null> => {
    child.kill('SIGTERM');
    const [code] = await over;
    return code;
  };
  await said.until('\n').catch(() => {
    throw new Error(`${name}: ${complaints.text}`);
  });
  const url = /^open (\S+)\/\n/.exec(said.text)?.[1];
  if (url === undefined) throw new Error(`${name}: ${said.text}`);
  return { url, child, said, stop };
}
