// The `sluice` command: runs the subcommand, and turns its error into one line and an exit code.
// Needs `argv.ts`, `check.ts`, `copy.ts`, `doctor.ts`, `io.ts`, `load.ts`, `publish.ts`, `serve.ts` and `tail.ts` beside it.

import type { UsageError } from './argv.ts';
import { check } from './check.ts';
import { copy } from './copy.ts';
import { doctor } from './doctor.ts';
import { type Command, type CommandIo, report } from './io.ts';
import { load } from './load.ts';
import { publish } from './publish.ts';
import { serve } from './serve.ts';
import { tail } from './tail.ts';

const HELP = `Usage: sluice <command> [options]

  serve     serve topics of events over HTTP; the events come from POST, files, standard input or this host
  tail      print the events of a stream; reconnect and resume after a failure
  publish   publish the lines of standard input to a topic
  check     try whether streams are contiguous across cuts, or say what is lost
  doctor    say why a stream does not stream: what is wrong, by whom, and what cures it
  load      open many streams at once and measure them: times, rates, and by ids what is lost
  copy      copy modules into a project that is to have them without the package

"sluice <command> --help" lists the options of a command. Exit codes: 0 done, 1 failed, 2 wrong usage.
`;

const COMMANDS: Readonly<Record<string, Command>> = { serve, tail, publish, check, doctor, load, copy };

/** Runs a command line, without the program's own name. Resolves with the exit code; never rejects. */
export async function main(argv: readonly string[], io: CommandIo, version: string): Promise<number> {
  const [name = '--help', ...rest] = argv;
  if (name === '--help' || name === '-h') return print(io, HELP);
  if (name === '--version' || name === '-V') return print(io, `${version}\n`);
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (command === undefined) return misused(io, 'sluice', `unknown command "${name}"`);
  try {
    return await command(rest, io);
  } catch (error) {
    const { code, message } = error as UsageError;
    if (code === 'ERR_SSE_USAGE') return misused(io, `sluice ${name}`, message);
    report(io, `sluice ${name}`, message || code);
    return io.signal.aborted ? 130 : 1;
  }
}

function print({ stdout }: CommandIo, text: string): number {
  stdout.write(text);
  return 0;
}

function misused(io: CommandIo, program: string, message: string): number {
  report(io, program, `${message}; see ${program} --help`);
  return 2;
}
