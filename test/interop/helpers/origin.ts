// A real `sluice serve`, as a process of its own.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { Reading } from '../../helpers/reader.ts';
import type { Cleanup } from '../../helpers/server.ts';
import { kept } from './children.ts';

const bin = fileURLToPath(new URL('../../../lib/command/bin.ts', import.meta.url));

export interface Origin {
  readonly port: number;
  readonly url: string;
  readonly child: ChildProcess;
  /** Its JSON lines. */
  readonly log: Reading;
  /** As `kill -9` does; resolves when it is gone. */
  kill(): Promise<void>;
}

export interface OriginSetting {
  /** The working directory; default that of the test. */
  readonly cwd?: string | undefined;
  readonly env?: Readonly<Record<string, string>> | undefined;
}

/** Serves until the test is over. Answers to `events.example` and to the names of loopback. */
export async function startOrigin(
  t: Cleanup,
  argv: readonly string[] = [],
  port: number | string = 0,
  { cwd, env = {} }: OriginSetting = {},
): Promise<Origin> {
  const hosts = ['events.example', '127.0.0.1', 'localhost'].flatMap((host) => ['--allow-host', host]);
  const words = [
    '--import',
    import.meta.resolve('tsx'),
    bin,
    'serve',
    '--port',
    String(port),
    ...hosts,
    ...argv,
  ];
  const child = kept(spawn(process.execPath, words, { cwd, env: { ...process.env, ...env } }));
  const log = new Reading(child.stderr);
  const over = once(child, 'close');
  const kill = async () => {
    child.kill('SIGKILL');
    await over;
  };
  t.after(kill);
  const said = await new Reading(child.stdout).until('\n').catch(() => log.text);
  const [, url = ''] = /^listening on (\S+)/.exec(said) ?? [];
  if (url === '') throw new Error(`sluice serve: ${said}`);
  return { port: Number(new URL(url).port), url, child, log, kill };
}
