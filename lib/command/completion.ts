// Writes the scripts by which shells complete the command (`sluice completion bash`).
// Needs `argv.ts` and `io.ts` beside it.

import { type OptionSpecs, readOptions, usageError } from './argv.ts';
import type { CommandIo } from './io.ts';

/** What the scripts know of a subcommand. */
export interface Completed {
  readonly options: OptionSpecs;
  /** What it does, in one line without quotation marks. */
  readonly about: string;
  /** The words that may follow it. */
  readonly words?: readonly string[] | undefined;
  /** What follows it where that is none of a few words. Default `'url'`. */
  readonly operands?: 'url' | 'file' | 'none' | undefined;
}

export const SHELLS = ['bash', 'zsh', 'fish'] as const;

export const completionOptions = { help: { kind: 'flag', short: 'h' } } as const;

const HELP = `Usage: sluice completion bash|zsh|fish

Prints the script by which the shell completes commands, options and their values. It runs nothing while it
completes.

  -h, --help

Exit codes:
  0  the script was printed
  1  it cannot be written
  2  wrong usage

Examples:
  source <(sluice completion bash)                  in ~/.bashrc
  source <(sluice completion zsh)                   in ~/.zshrc, after compinit
  sluice completion fish | source                   in ~/.config/fish/config.fish
`;

/** Runs `sluice completion`; `argv` has the words after that. */
export function complete(
  argv: readonly string[],
  { stdout }: CommandIo,
  commands: Readonly<Record<string, Completed>>,
): number {
  const { values, positionals } = readOptions(argv, completionOptions);
  const shell = SHELLS.find((one) => one === positionals[0]);
  if (values.help) stdout.write(HELP);
  else if (shell === undefined || positionals.length > 1)
    throw usageError(`expected bash, zsh or fish, got ${positionals.join(' ') || 'nothing'}`);
  else stdout.write(SCRIPTS[shell](Object.entries(commands)));
  return 0;
}

type Entries = readonly (readonly [string, Completed])[];

const SCRIPTS = { bash, zsh, fish };

const namesOf = (entries: Entries): string => entries.map(([name]) => name).join(' ');

// ── bash ──────────────────────────────────────────────────────────────────────────────────────────────────

// Without `mapfile` and with `compopt` only where there is one, for the bash 3.2 of macOS.
function bash(entries: Entries): string {
  return `# Completes sluice in bash.
_sluice() {
  local word="\${COMP_WORDS[COMP_CWORD]}" option="\${COMP_WORDS[COMP_CWORD-1]}" words=
  COMPREPLY=()
  # bash cuts --option=value at the sign.
  if [ "$word" = = ]; then word=; elif [ "$option" = = ]; then option="\${COMP_WORDS[COMP_CWORD-2]}"; fi
  if [ "$COMP_CWORD" = 1 ]; then
    words='${namesOf(entries)} --help --version'
  else
    case "\${COMP_WORDS[1]} $option" in
${entries.flatMap(([name, { options }]) => bashValues(name, options)).join('\n')}
      *)
        case "\${COMP_WORDS[1]}" in
${entries.map(([name, entry]) => `          ${name}) ${bashWords(entry)} ;;`).join('\n')}
        esac ;;
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$word"))
}
_sluice_files() {
  local IFS=$'\\n'
  compopt -o filenames 2>/dev/null
  COMPREPLY=($(compgen -f -- "$word"))
}
complete -F _sluice sluice
`;
}

function bashWords({ options, words, operands }: Completed): string {
  const set = `words='${(words ?? Object.keys(options).map((option) => `--${option}`)).join(' ')}'`;
  if (operands !== 'file') return set;
  return `case "$word" in -*) ${set} ;; *) _sluice_files; return ;; esac`;
}

/** The cases of the options of a command that take a value. */
function bashValues(command: string, options: OptionSpecs): string[] {
  const of = (isWanted: (option: OptionSpecs[string]) => boolean): string =>
    Object.entries(options)
      .filter(([, option]) => option.kind !== 'flag' && isWanted(option))
      .flatMap(([name, { short }]) => [`--${name}`, ...(short ? [`-${short}`] : [])])
      .map((option) => `'${command} ${option}'`)
      .join('|');
  const files = of(({ isFile }) => isFile === true);
  const others = of(({ isFile, choices }) => !isFile && choices === undefined);
  const chosen = Object.entries(options).flatMap(([name, { choices }]) =>
    choices ? [`      '${command} --${name}') words='${choices.join(' ')}' ;;`] : [],
  );
  return [
    ...chosen,
    ...(files ? [`      ${files}) _sluice_files; return ;;`] : []),
    ...(others ? [`      ${others}) return ;;`] : []),
  ];
}

// ── zsh ───────────────────────────────────────────────────────────────────────────────────────────────────

function zsh(entries: Entries): string {
  const cases = entries.map(([name, { options, words, operands = 'url' }]) => {
    const last = words === undefined ? ZSH_OPERANDS[operands] : [`'1: :(${words.join(' ')})'`];
    const specs = Object.entries(options).flatMap(([option, spec]) => zshOption(option, spec));
    return `    ${name}) _arguments ${[...specs, ...last].join(' ')} ;;`;
  });
  return `#compdef sluice
# Completes sluice in zsh.
_sluice() {
  local -a commands
  commands=(
${entries.map(([name, { about }]) => `    '${name}:${about}'`).join('\n')}
  )
  if (( CURRENT == 2 )); then
    _describe command commands
    return
  fi
  shift words
  (( CURRENT-- ))
  case "$words[1]" in
${cases.join('\n')}
  esac
}
if [ "$funcstack[1]" = _sluice ]; then _sluice "$@"; else compdef _sluice sluice; fi
`;
}

const ZSH_OPERANDS = { url: ["'*: :_urls'"], file: ["'*: :_files'"], none: [] } as const;

function zshOption(name: string, { kind, short, many, choices, isFile }: OptionSpecs[string]): string[] {
  const repeated = many ? '*' : '';
  const values = choices ? `(${choices.join(' ')})` : isFile ? '_files' : ' ';
  const value = kind === 'flag' ? '' : `:${name}:${values}`;
  const [long, brief] = kind === 'flag' ? ['', ''] : ['=', '+'];
  return [
    `'${repeated}--${name}${long}${value}'`,
    ...(short ? [`'${repeated}-${short}${brief}${value}'`] : []),
  ];
}

// ── fish ──────────────────────────────────────────────────────────────────────────────────────────────────

// Not by `__fish_seen_subcommand_from`, which also holds where a later word is the name of a command.
function fish(entries: Entries): string {
  const lines = entries.flatMap(([name, { options, about, words, operands }]) => {
    const after = `complete -c sluice -n '__sluice_command ${name}'`;
    return [
      `complete -c sluice -n __fish_use_subcommand -a ${name} -d '${about}'`,
      ...(words ? [`${after} -a '${words.join(' ')}'`] : []),
      ...(operands === 'file' ? [`${after} -F`] : []),
      ...Object.entries(options).map(([option, { kind, short, choices, isFile }]) => {
        const value =
          kind === 'flag' ? '' : isFile ? ' -r -F' : ` -x${choices ? ` -a '${choices.join(' ')}'` : ''}`;
        const brief = short ? ` -s ${short}` : '';
        return `${after} -l ${option}${brief}${value}`;
      }),
    ];
  });
  return `# Completes sluice in fish.
function __sluice_command
  set -l words (commandline -opc)
  test "$words[2]" = $argv[1]
end
complete -c sluice -f
${lines.join('\n')}
`;
}
