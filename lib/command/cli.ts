// The `sluice` command: finds the subcommand, and turns whatever it throws into one line and an exit code.
// Needs `options.ts`, `publish.ts`, `serve.ts` and `tail.ts` beside it.

import type { UsageError } from './argv.ts';
import { publish } from './publish.ts';
import { type ServeIo, serve } from './serve.ts';
import { tail } from './tail.ts';

const HELP = `Usage: sluice <command> [options]

  serve     serve topics of events over HTTP, fed by POST, files, standard input or this host
  tail      print the events of a stream, reconnecting and resuming
  publish   publish the lines of standard input to a topic

"sluice <command> --help" tells what it takes. Exit codes: 0 done, 1 failed, 2 misused.
`;

const COMMANDS: Readonly<Record<string, (argv: readonly string[], io: ServeIo) => Promise<number>>> = {
  serve,
  tail,
  publish,
};

/** Runs a command line, without the program's own name. Resolves with the exit code; never rejects. */
export async function main(argv: readonly string[], io: ServeIo, version: string): Promise<number> {
  const [name = '--help', ...rest] = argv;
  if (name === '--help' || name === '-h') return print(io, HELP);
  if (name === '--version' || name === '-V') return print(io, `${version}\n`);
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (command === undefined) return complain(io, 'sluice', `unknown command "${name}"; see sluice --help`, 2);
  try {
    return await command(rest, io);
  } catch (error) {
    const { code, message } = error as UsageError;
    if (code === 'ERR_SSE_USAGE')
      return complain(io, `sluice ${name}`, `${message}; see sluice ${name} --help`, 2);
    return complain(io, `sluice ${name}`, message, 1);
  }
}

function print(io: ServeIo, text: string): number {
  io.stdout.write(text);
  return 0;
}

function complain(io: ServeIo, who: string, what: string, code: number): number {
  io.stderr.write(`${who}: ${what.replaceAll(/\s*\n\s*/g, ' ')}\n`);
  return code;
}
