// Runs a command of ours in this process, with streams for its ends.
import { PassThrough, Readable } from 'node:stream';
import { text } from 'node:stream/consumers';

export interface CommandIo {
  readonly stdin: AsyncIterable<Uint8Array | string>;
  readonly stdout: PassThrough & { isTTY?: boolean };
  readonly stderr: PassThrough & { isTTY?: boolean };
  readonly signal?: AbortSignal | undefined;
}

export interface CommandResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CommandSetting {
  readonly stdin?: AsyncIterable<Uint8Array | string> | string | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly isTTY?: boolean | undefined;
}

export async function run(
  command: (argv: readonly string[], io: CommandIo) => Promise<number>,
  argv: readonly string[],
  { stdin = '', signal, isTTY }: CommandSetting = {},
): Promise<CommandResult> {
  const stdout = Object.assign(new PassThrough(), isTTY && { isTTY });
  const stderr = Object.assign(new PassThrough(), isTTY && { isTTY });
  const outputs = Promise.all([text(stdout), text(stderr)]);
  const input = typeof stdin === 'string' ? Readable.from([Buffer.from(stdin)]) : stdin;
  const code = await command(argv, { stdin: input, stdout, stderr, signal });
  stdout.end();
  stderr.end();
  const [out, err] = await outputs;
  return { code, stdout: out, stderr: err };
}
