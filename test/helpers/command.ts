// Runs the `sluice` command in this process, with streams in the place of the process's own.
import { PassThrough, Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { main } from '../../lib/command/cli.ts';
import type { CommandIo } from '../../lib/command/io.ts';

export interface CommandResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CommandSetting {
  readonly stdin?: CommandIo['stdin'] | string | undefined;
  readonly env?: CommandIo['env'] | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Whether both outputs are terminals. */
  readonly isTTY?: boolean | undefined;
}

/** Resolves when the command has ended, with everything it wrote. */
export async function run(
  command: string,
  argv: readonly string[],
  { stdin = '', env = {}, signal = new AbortController().signal, isTTY }: CommandSetting = {},
): Promise<CommandResult> {
  const stdout = Object.assign(new PassThrough(), isTTY && { isTTY });
  const stderr = Object.assign(new PassThrough(), isTTY && { isTTY });
  const outputs = Promise.all([text(stdout), text(stderr)]);
  const input = typeof stdin === 'string' ? Readable.from([Buffer.from(stdin)]) : stdin;
  const code = await main([command, ...argv], { stdin: input, stdout, stderr, env, signal }, '0.0.0');
  stdout.end();
  stderr.end();
  const [out, err] = await outputs;
  return { code, stdout: out, stderr: err };
}
