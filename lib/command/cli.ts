// The `sluice` command: runs the subcommand, and turns its error into one line and an exit code.
// Needs `argv.ts`, `check.ts`, `completion.ts`, `copy.ts`, `did-you-mean.ts`, `doctor.ts`, `io.ts`, `load.ts`,
// `publish.ts`, `serve.ts` and `tail.ts` beside it.

import { type UsageError, usageError } from './argv.ts';
import { check, checkOptions } from './check.ts';
import { type Completed, complete, completionOptions, SHELLS } from './completion.ts';
import { copy, copyOptions } from './copy.ts';
import { didYouMean } from './did-you-mean.ts';
import { doctor, doctorOptions } from './doctor.ts';
import { type Command, type CommandIo, report } from './io.ts';
import { load, loadOptions } from './load.ts';
import { publish, publishOptions } from './publish.ts';
import { serve, serveOptions } from './serve.ts';
import { tail, tailOptions } from './tail.ts';

/** The subcommands that work, by name, in the order of the help. */
export const COMMANDS: Readonly<Record<string, Completed & { readonly run: Command }>> = {
  serve: {
    run: serve,
    options: serveOptions,
    operands: 'none',
    about: 'serve topics of events over HTTP; the events come from POST, files, standard input or this host',
  },
  tail: {
    run: tail,
    options: tailOptions,
    about: 'print the events of a stream; reconnect and resume after a failure',
  },
  publish: {
    run: publish,
    options: publishOptions,
    about: 'publish the lines of standard input to a topic',
  },
  check: {
    run: check,
    options: checkOptions,
    about: 'try whether streams are contiguous across cuts, or say what is lost',
  },
  doctor: {
    run: doctor,
    options: doctorOptions,
    about: 'say why a stream does not stream: what is wrong, by whom, and what cures it',
  },
  load: {
    run: load,
    options: loadOptions,
    about: 'open many streams at once and measure them: times, rates, and by ids what is lost',
  },
  copy: {
    run: copy,
    options: copyOptions,
    operands: 'file',
    about: 'copy modules into a project that is to have them without the package',
  },
};

/** Those that are about the command itself. */
const OTHERS: Readonly<Record<string, Completed & { readonly run: Command }>> = {
  completion: {
    run: async (argv, io) => complete(argv, io, { ...COMMANDS, ...OTHERS }),
    options: completionOptions,
    about: 'print the script by which bash, zsh or fish completes this command',
    words: SHELLS,
  },
  help: {
    run: help,
    options: {},
    about: 'print the help of a command',
    words: [...Object.keys(COMMANDS), 'completion'],
  },
};

const HELP = `Usage: sluice <command> [options]

${Object.entries({ ...COMMANDS, ...OTHERS })
  .map(([name, { about }]) => `  ${name.padEnd(12)}${about}`)
  .join('\n')}

"sluice help <command>" and "sluice <command> --help" list the options of a command. Exit codes: 0 done, 1 failed,
2 wrong usage.
`;

/** Runs a command line, without the program's own name. Resolves with the exit code; never rejects. */
export async function main(argv: readonly string[], io: CommandIo, version: string): Promise<number> {
  const [name = '--help', ...rest] = argv;
  if (name === '--help' || name === '-h') return print(io, HELP);
  if (name === '--version' || name === '-V') return print(io, `${version}\n`);
  const program = commandOf(name) === undefined ? 'sluice' : `sluice ${name}`;
  try {
    return await knownCommand(name).run(rest, io);
  } catch (error) {
    const { code, message } = error as UsageError;
    if (code === 'ERR_SSE_USAGE') return misused(io, program, message);
    report(io, program, message || code);
    return io.signal.aborted ? 130 : 1;
  }
}

function commandOf(name: string): (Completed & { readonly run: Command }) | undefined {
  const all = { ...COMMANDS, ...OTHERS };
  return Object.hasOwn(all, name) ? all[name] : undefined;
}

function knownCommand(name: string): Completed & { readonly run: Command } {
  const command = commandOf(name);
  if (command !== undefined) return command;
  const meant = didYouMean(name, Object.keys({ ...COMMANDS, ...OTHERS }));
  throw usageError(`unknown command "${name}"${meant === undefined ? '' : ` (did you mean ${meant}?)`}`);
}

async function help([name, ...more]: readonly string[], io: CommandIo): Promise<number> {
  if (more.length > 0) throw usageError(`expected one command, got ${more.length + 1}`);
  if (name === undefined || name === 'help' || name.startsWith('-')) return print(io, HELP);
  return knownCommand(name).run(['--help'], io);
}

function print({ stdout }: CommandIo, text: string): number {
  stdout.write(text);
  return 0;
}

function misused(io: CommandIo, program: string, message: string): number {
  report(io, program, `${message}; see ${program} --help`);
  return 2;
}
