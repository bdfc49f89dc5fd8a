// Faults in how the command reads its words and its environment, and in what it shows.

import { type Mutant, mutantsOf } from '../mutant.ts';

export const command: readonly Mutant[] = [
  ...mutantsOf(
    'command/tokens.ts',
    [{ in: 'command/tail', only: 'sends a token' }],
    [
      {
        find: 'headers.authorization ??=',
        replace: 'headers.authorization =',
        why: 'a token of the environment replaces the one of the header that was asked for',
      },
    ],
  ),
  ...mutantsOf(
    'command/argv.ts',
    [{ in: 'command/argv', only: 'reads an absent option from its variable' }],
    [
      {
        find: 'const text = texts === undefined && isRead(name) ? env[variable] : undefined;',
        replace: 'const text = env[variable];',
        why: 'the variable PORT is stronger than --port',
      },
    ],
  ),
  ...mutantsOf(
    'command/tail.ts',
    [{ in: 'command/tail', only: 'indents and colours JSON on a terminal' }],
    [
      {
        find: 'const paint = isTerminal ? paintFor(stdout, env) : paintFor({}, {});',
        replace: 'const paint = paintFor(stdout, env);',
        why: 'with FORCE_COLOR, which many build servers set, a time before an event in a pipe has colours',
        tests: [{ in: 'command/tail', only: 'colours nothing in a pipe' }],
      },
      {
        find: 'prettyJson(escapeJson(data), paint)',
        replace: 'prettyJson(data, paint)',
        why: 'the data of an event moves the cursor of the terminal',
      },
    ],
  ),
  ...mutantsOf(
    'command/pretty-json.ts',
    [{ in: 'command/pretty-json', only: 'more levels than 32' }],
    [
      {
        find: 'if (opens && ++depth > MAX_DEPTH) return undefined;',
        replace: 'if (opens) depth++;',
        why: 'a hundred kilobytes of brackets become gigabytes of indentation',
      },
    ],
  ),
  ...mutantsOf(
    'command/log-lines.ts',
    [{ in: 'command/log-lines', only: 'leaves out what is below the level' }],
    [
      {
        find: 'LEVELS.indexOf(line.level) < least',
        replace: 'LEVELS.indexOf(line.level) > least',
        why: 'with --log-level warn, errors are not logged',
      },
    ],
  ),
];
